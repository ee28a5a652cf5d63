"""Trains the embedded model from nothing: scenes, autoencoder, text encoders and a small Flux.

    python tools/train_embedded.py --output otcache_plugin/models/embedded

Seeded; about an hour on 2 CPU cores. Two stages: an AutoencoderKL on the pictures, then the flow
(transformer and both text encoders jointly) on its latents. The first leaves its result and the
state of the random generators in the work folder, so that an interrupted run goes on with the
second, to the same weights.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from untrained_embedded import (
    build_autoencoder,
    build_text_encoders,
    build_tokenizers,
    build_transformer,
)

from otcache_plugin.models import scenes
from otcache_plugin.models.embedded import SEQUENCE_LENGTH, FluxScenesPipeline

FAST_PHASE = 0.7  # rad that a time input may turn within one fiftieth of the schedule
DROPPED_CAPTIONS = 0.1
EMA_DECAY = 0.9985
AUTOENCODER_BATCH = 32


@dataclass(frozen=True)
class Settings:
    """What a training run is determined by."""

    scenes: int
    autoencoder_steps: int
    flow_steps: int
    batch: int
    seed: int


def slow_time_inputs(transformer: FluxTransformer2DModel) -> torch.Tensor:
    """1 for the sinusoidal time inputs that turn slowly enough to leave v smooth in sigma, else 0.

    A fast input lets the network make v depend on sigma at a scale below one step, which no
    estimator can follow and no schedule can be ranked on.
    """
    width = transformer.time_text_embed.timestep_embedder.linear_1.in_features
    half = width // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half) / half)
    slow = (frequencies * 1000.0 / 50.0 <= FAST_PHASE).float()
    return torch.cat([slow, slow])


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Return `(N, C, H, W)` to the `(N, H/2 * W/2, 4C)` tokens of Flux."""
    n, c, h, w = latents.shape
    latents = latents.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return latents.reshape(n, (h // 2) * (w // 2), c * 4)


def progress_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        refresh_per_second=0.5,
    )


def learning_rate(step: int, steps: int, peak: float, warm_up: int) -> float:
    warm_up = min(warm_up, steps // 2)
    return peak * min((step + 1) / warm_up, (steps - step) / (steps - warm_up))


def train_autoencoder(
    pictures: torch.Tensor, settings: Settings, generator: torch.Generator
) -> AutoencoderKL:
    """L1 plus squared reconstruction error and a light pull of the latents towards N(0, 1)."""
    model = build_autoencoder().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4, betas=(0.9, 0.98))
    steps = settings.autoencoder_steps
    with progress_bar() as progress:
        task = progress.add_task("autoencoder", total=steps, note="")
        for step in range(steps):
            batch = pictures[
                torch.randint(len(pictures), (AUTOENCODER_BATCH,), generator=generator)
            ]
            posterior = model.encode(batch).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator)
            decoded = model.decode(posterior.mean + posterior.std * noise).sample
            loss = F.mse_loss(decoded, batch) + 0.3 * F.l1_loss(decoded, batch)
            loss = loss + 1e-5 * posterior.kl().mean()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps, peak=3e-3, warm_up=100)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step % 50 == 0 or step == steps - 1:
                psnr = 10 * math.log10(4.0 / F.mse_loss(decoded, batch).item())
                progress.update(task, completed=step + 1, note=f"{psnr:.1f} dB")
    return model.eval()


@torch.no_grad()
def encode_all(model: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
    return torch.cat([model.encode(batch).latent_dist.mean for batch in pictures.split(500)])


class Flow(torch.nn.Module):
    """What is trained jointly in the second stage."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.transformer = build_transformer()
        self.text_encoder, self.text_encoder_2 = build_text_encoders(vocabulary_size)
        grid = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij"), -1)
        self.register_buffer("img_ids", F.pad(grid.reshape(16, 2), (1, 0)).float())
        self.register_buffer("txt_ids", torch.zeros(SEQUENCE_LENGTH, 3))

    def forward(
        self, x: torch.Tensor, sigma: torch.Tensor, ids: torch.Tensor, ids_2: torch.Tensor
    ) -> torch.Tensor:
        velocity: torch.Tensor = self.transformer(
            hidden_states=x,
            timestep=sigma,
            pooled_projections=self.text_encoder(ids).pooler_output,
            encoder_hidden_states=self.text_encoder_2(ids_2).last_hidden_state,
            img_ids=self.img_ids,
            txt_ids=self.txt_ids,
        ).sample
        return velocity


def train_flow(
    latents: torch.Tensor,
    captions: list[str],
    settings: Settings,
    generator: torch.Generator,
) -> Flow:
    """Flow matching on packed latents: v = noise - x0, sigma uniform after a mild shift."""
    tokenizer, tokenizer_2 = build_tokenizers()
    encode = {"padding": "max_length", "max_length": SEQUENCE_LENGTH, "return_tensors": "pt"}
    ids, ids_2 = (t([*captions, ""], **encode).input_ids for t in (tokenizer, tokenizer_2))
    model = Flow(len(tokenizer))
    slow = slow_time_inputs(model.transformer)
    time_weight = model.transformer.time_text_embed.timestep_embedder.linear_1.weight
    with torch.no_grad():
        time_weight.mul_(slow)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, betas=(0.9, 0.98))
    steps, batch = settings.flow_steps, settings.batch
    running = 0.0
    with progress_bar() as progress:
        task = progress.add_task("flow", total=steps, note="")
        for step in range(steps):
            chosen = torch.randint(len(latents), (batch,), generator=generator)
            x0 = latents[chosen]
            dropped = torch.rand(batch, generator=generator) < DROPPED_CAPTIONS
            text = torch.where(dropped, len(captions), chosen)
            uniform = torch.rand(batch, generator=generator)
            sigma = 1.8 * uniform / (1 + 0.8 * uniform)
            noise = torch.randn(x0.shape, generator=generator)
            x = torch.lerp(x0, noise, sigma[:, None, None])
            loss = F.mse_loss(model(x, sigma, ids[text], ids_2[text]), noise - x0)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps, peak=2e-3, warm_up=300)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                time_weight.mul_(slow)
                decay = min(EMA_DECAY, (step + 1) / (step + 10))
                for kept, current in zip(average.parameters(), model.parameters(), strict=True):
                    kept.lerp_(current, 1 - decay)
            running = loss.item() if step == 0 else 0.99 * running + 0.01 * loss.item()
            if step % 50 == 0 or step == steps - 1:
                progress.update(task, completed=step + 1, note=f"loss {running:.4f}")
    return average.eval()


def name_clip_weights(folder: Path) -> None:
    """Name the text encoder's weights as transformers 4 does; transformers 5 takes these too."""
    file = folder / "text_encoder" / "model.safetensors"
    weights = {
        name if name.startswith("text_model.") else f"text_model.{name}": weight
        for name, weight in load_file(file).items()
    }
    save_file(weights, file, metadata={"format": "pt"})


def name_public_classes(folder: Path) -> None:
    """Name the classes that every version of the libraries has, not the ones made here."""
    for file in (folder / "model_index.json", *folder.glob("tokenizer*/tokenizer_config.json")):
        text = file.read_text().replace(FluxScenesPipeline.__name__, "FluxPipeline")
        file.write_text(text.replace("TokenizersBackend", "PreTrainedTokenizerFast"))


def first_stage(
    work: Path, pictures: torch.Tensor, settings: Settings, generator: torch.Generator
) -> AutoencoderKL:
    """Return the trained autoencoder, from the work folder when the same settings left it there."""
    folder, states = work / "vae", work / "random-states.safetensors"
    stored = work / "settings.json"
    wanted = json.dumps(vars(settings))
    if not stored.exists() or stored.read_text() != wanted:
        stored.unlink(missing_ok=True)
        train_autoencoder(pictures, settings, generator).save_pretrained(folder)
        own, common = generator.get_state(), torch.get_rng_state()
        save_file({"generator": own, "common": common}, states)
        stored.write_text(wanted)  # last: it says that the other two are whole
    kept = load_file(states)
    generator.set_state(kept["generator"])
    torch.set_rng_state(kept["common"])
    return AutoencoderKL.from_pretrained(folder).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the pipeline")
    parser.add_argument("--work", type=Path, default=Path("build/train_embedded"))
    parser.add_argument("--scenes", type=int, default=60_000)
    parser.add_argument("--autoencoder-steps", type=int, default=4_000)
    parser.add_argument("--flow-steps", type=int, default=8_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings = Settings(
        arguments.scenes,
        arguments.autoencoder_steps,
        arguments.flow_steps,
        arguments.batch,
        arguments.seed,
    )
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    captions = scenes.sample_captions(scenes.training_captions(), settings.scenes, rng)
    rendered = scenes.render(captions, rng)
    pictures = torch.from_numpy(rendered.pictures).permute(0, 3, 1, 2) * 2 - 1

    autoencoder = first_stage(arguments.work, pictures, settings, generator)
    latents = encode_all(autoencoder, pictures)
    shift, scale = latents.mean().item(), 1.0 / latents.std().item()
    autoencoder.register_to_config(scaling_factor=scale, shift_factor=shift)
    flow = train_flow(
        pack((latents - shift) * scale), [str(caption) for caption in captions], settings, generator
    )
    tokenizer, tokenizer_2 = build_tokenizers()
    pipeline = FluxScenesPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=autoencoder,
        text_encoder=flow.text_encoder,
        tokenizer=tokenizer,
        text_encoder_2=flow.text_encoder_2,
        tokenizer_2=tokenizer_2,
        transformer=flow.transformer,
    )
    pipeline.to(torch.float16).save_pretrained(arguments.output)
    name_public_classes(arguments.output)
    name_clip_weights(arguments.output)
    (arguments.output / "training.json").write_text(json.dumps(vars(settings), indent=2) + "\n")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
