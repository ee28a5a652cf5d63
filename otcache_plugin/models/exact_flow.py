"""The exact-flow test-bed: a pipeline whose velocity is known in closed form.

The flow of a finite data set smoothed by a Gaussian kernel of width h needs no training: at noise
level sigma, with `a = 1 - sigma` and `s2 = sigma^2 + a^2 h^2`, the data items have posterior
weights `w_k` proportional to `exp(-|x - a x_k|^2 / (2 s2))` among those that have the caption,
and with `m = sum_k w_k x_k`

    E[x0 | x] = m + (a h^2 / s2) (x - a m),      v = (x - E[x0 | x]) / sigma.

It has no roughness in sigma, so schedules can be told apart on it, and real decisions to make
(which of a caption's scenes to draw), so they matter. Claims about schedules are settled here.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import (
    ConfigMixin,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    ImagePipelineOutput,
    ModelMixin,
)
from diffusers.configuration_utils import register_to_config
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor

from otcache_plugin.errors import ArgumentError
from otcache_plugin.models.scenes import (
    BACKGROUNDS,
    COLOURS,
    POSITIONS,
    SHAPES,
    SIZE,
    Scenes,
    all_captions,
    render,
    sample_captions,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ExactFlowPipeline",
    "ExactFlowSettings",
    "ExactFlowTransformer",
    "load_exact_flow_pipeline",
]

MODEL_ID = "exact-flow"


@dataclass(frozen=True)
class ExactFlowSettings:
    """What an exact flow is determined by.

    Attributes:
        scenes: number of data items.
        kernel_width: h, in standard deviations of the data.
        shift: of the scheduler's sigmas.
        seed: of the scenes.
    """

    scenes: int = 4000
    kernel_width: float = 0.3
    shift: float = 3.0
    seed: int = 0

    @property
    def revision(self) -> str:
        """Name this flow in policy documents."""
        return "scenes{}-width{}-shift{}-seed{}".format(*astuple(self))


@dataclass(frozen=True)
class Targets:
    """The data items that have a caption: `(M, 3072)` points and their `(M,)` squared norms."""

    points: torch.Tensor
    square_norms: torch.Tensor


class ExactFlowTransformer(ModelMixin, ConfigMixin):
    """The closed-form velocity in the place of a transformer."""

    @register_to_config
    def __init__(self, scenes: int, kernel_width: float, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        data = _render(scenes, rng)
        pictures = torch.from_numpy(data.pictures).permute(0, 3, 1, 2).flatten(1)
        self.mean = pictures.mean().item()
        self.std = pictures.std().item()
        self.register_buffer("points", (pictures - self.mean) / self.std)
        self.captions = tuple(str(caption) for caption in data.captions)

    def condition(self, prompt: str) -> Targets:
        """Return the items that a sample may become: the scenes of that caption.

        Raises:
            ArgumentError: no scene has it.
        """
        matches = [index for index, caption in enumerate(self.captions) if caption == prompt]
        if not matches:
            raise ArgumentError(
                "prompt",
                prompt,
                "none of the flow's scenes has that caption",
                "Use 'COLOUR SHAPE POSITION on BACKGROUND' with colours "
                f"{', '.join(COLOURS)}; shapes {', '.join(SHAPES)}; positions "
                f"{', '.join(POSITIONS)}; backgrounds {', '.join(BACKGROUNDS)}",
            )
        points = self.points[matches]
        return Targets(points, points.square().sum(1))

    def forward(
        self, hidden_states: torch.Tensor, timestep: torch.Tensor, conditions: Sequence[Targets]
    ) -> torch.Tensor:
        """Return the velocity at `(B, 3, 32, 32)` latents.

        Args:
            hidden_states: x.
            timestep: sigma, a 0-dimensional tensor in (0, 1].
            conditions: B of them, what each sample may become.
        """
        x = hidden_states.flatten(1)
        sigma = timestep.to(x.dtype)
        a, width2 = 1 - sigma, self.config.kernel_width**2
        s2 = sigma**2 + a**2 * width2
        mean = torch.stack(
            [_posterior_mean(*each, a, s2) for each in zip(x, conditions, strict=True)]
        )
        denoised = mean + (a * width2 / s2) * (x - a * mean)
        velocity: torch.Tensor = (x - denoised) / sigma
        return velocity.reshape(hidden_states.shape)


def _posterior_mean(
    x: torch.Tensor, targets: Targets, a: torch.Tensor, s2: torch.Tensor
) -> torch.Tensor:
    logits = (a * (targets.points @ x) - 0.5 * a**2 * targets.square_norms) / s2
    return logits.softmax(dim=0) @ targets.points


class ExactFlowPipeline(DiffusionPipeline):
    """Draws procedural scenes for captions such as `"red circle left on navy"`."""

    def __init__(
        self, transformer: ExactFlowTransformer, scheduler: FlowMatchEulerDiscreteScheduler
    ) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)
        self.image_processor = VaeImageProcessor(vae_scale_factor=1, do_normalize=False)

    @property
    def otcache_model(self) -> tuple[str, str]:
        """Model id and revision that policy documents for this flow are keyed by."""
        config = self.transformer.config
        settings = ExactFlowSettings(
            config.scenes, config.kernel_width, self.scheduler.config.shift, config.seed
        )
        return MODEL_ID, settings.revision

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        num_inference_steps: int = 50,
        sigmas: Sequence[float] | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
    ) -> ImagePipelineOutput:
        """Generate one 32 × 32 picture per prompt.

        Args:
            prompt: "COLOUR SHAPE POSITION on BACKGROUND", one or several.
            num_inference_steps: denoising steps.
            sigmas: custom noise levels before the scheduler's shift.
            generator: for the noise, one for all or one per prompt.
            latents: `(B, 3, 32, 32)` noise to start from instead.
            output_type: "pil", "np", "pt" or "latent".
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        conditions = {text: self.transformer.condition(text) for text in dict.fromkeys(prompts)}
        if latents is None:
            shape = (len(prompts), 3, SIZE, SIZE)
            latents = randn_tensor(shape, generator=generator, device=self.device)
        if sigmas is None and self.scheduler.config.get("use_flow_sigmas"):
            # A multistep solver of the flow has its own, which are the same but for a thousandth.
            self.scheduler.set_timesteps(num_inference_steps, device=self.device)
        else:
            if sigmas is None:
                sigmas = np.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps).tolist()
            self.scheduler.set_timesteps(sigmas=sigmas, device=self.device)
        self.scheduler.set_begin_index(0)
        for timestep in self.progress_bar(self.scheduler.timesteps):
            velocity = self.transformer(
                latents, timestep / 1000, [conditions[text] for text in prompts]
            )
            latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        if output_type == "latent":
            return ImagePipelineOutput(images=latents)
        pictures = (latents * self.transformer.std + self.transformer.mean).clamp(0, 1)
        return ImagePipelineOutput(
            images=self.image_processor.postprocess(pictures, output_type=output_type)
        )


def load_exact_flow_pipeline(settings: ExactFlowSettings | None = None) -> ExactFlowPipeline:
    """Build the exact-flow test-bed, in about a second.

    Args:
        settings: the data set, kernel width and sigma shift; None for the defaults.

    Returns:
        The pipeline on the CPU in float32, its progress bar off.
    """
    settings = settings or ExactFlowSettings()
    pipeline = ExactFlowPipeline(
        ExactFlowTransformer(settings.scenes, settings.kernel_width, settings.seed),
        FlowMatchEulerDiscreteScheduler(shift=settings.shift),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _render(count: int, rng: np.random.Generator) -> Scenes:
    return render(sample_captions(all_captions(), count, rng), rng)
