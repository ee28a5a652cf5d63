"""The exact flow against its definition, computed item by item in double precision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import otcache_plugin
from otcache_plugin.errors import ArgumentError
from otcache_plugin.models import scenes
from otcache_plugin.models.exact_flow import ExactFlowSettings, load_exact_flow_pipeline

SETTINGS = ExactFlowSettings(scenes=2000, kernel_width=0.3, seed=3)


@pytest.fixture(scope="module")
def pipe() -> Any:
    """A flow of two thousand scenes, two or three to a caption."""
    return load_exact_flow_pipeline(SETTINGS)


@pytest.fixture(scope="module")
def prompts(pipe: Any) -> list[str]:
    """Captions that several scenes have."""
    captions = list(pipe.transformer.captions)
    return [text for text in dict.fromkeys(captions) if captions.count(text) > 2][:4]


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray[Any, Any], list[str]]:
    """The scenes, drawn anew from their seed and scaled to unit variance, and their captions."""
    rng = np.random.default_rng(SETTINGS.seed)
    drawn = scenes.sample_captions(scenes.all_captions(), SETTINGS.scenes, rng)
    rendered = scenes.render(drawn, rng)
    pictures = rendered.pictures.astype(np.float64)
    points = (pictures - pictures.mean()) / pictures.std()
    return points.transpose(0, 3, 1, 2), [str(caption) for caption in rendered.captions]


def naive_denoised(
    x: np.ndarray[Any, Any],
    sigma: float,
    points: np.ndarray[Any, Any],
    matches: list[bool],
    width: float,
) -> np.ndarray[Any, Any]:
    """E[x0 | x], one item after the other, all of them."""
    a = 1 - sigma
    s2 = sigma**2 + a**2 * width**2
    exponents = [-(((x - a * point) ** 2).sum()) / (2 * s2) for point in points]
    largest = max(each for each, match in zip(exponents, matches, strict=True) if match)
    weights = [
        math.exp(each - largest) if match else 0.0
        for each, match in zip(exponents, matches, strict=True)
    ]
    m = sum(weight * point for weight, point in zip(weights, points, strict=True) if weight > 0)
    m = m / sum(weights)
    return m + (a * width**2 / s2) * (x - a * m)


@pytest.mark.parametrize("sigma", [1.0, 0.97, 0.9, 0.6, 0.2, 0.04])
def test_the_velocity_is_the_definition(
    sigma: float, pipe: Any, prompts: list[str], data: Any
) -> None:
    points, captions = data
    rng = np.random.default_rng(0)
    for prompt in prompts[:2]:
        matches = [caption == prompt for caption in captions]
        # Half-way between two of the prompt's scenes: both have a say.
        one, other = points[np.flatnonzero(matches)[:2]]
        noise = rng.standard_normal(one.shape)
        x = (1 - sigma) * (one + other) / 2 + sigma * noise
        denoised = naive_denoised(x, sigma, points, matches, SETTINGS.kernel_width)
        expected = torch.from_numpy((x - denoised) / sigma)[None]
        velocity = pipe.transformer(
            torch.from_numpy(x)[None].float(),
            torch.tensor(sigma),
            [pipe.transformer.condition(prompt)],
        )
        assert velocity.dtype == torch.float32
        torch.testing.assert_close(velocity.double(), expected, rtol=1e-3, atol=2e-3)


def test_pure_noise_says_nothing_about_the_scene(pipe: Any, prompts: list[str], data: Any) -> None:
    points, captions = data
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for prompt in prompts:
        mean = points[[caption == prompt for caption in captions]].mean(axis=0)
        velocity = pipe.transformer(x, torch.tensor(1.0), [pipe.transformer.condition(prompt)])
        denoised = x - velocity
        torch.testing.assert_close(
            denoised[0].double(), torch.from_numpy(mean), rtol=1e-5, atol=1e-5
        )


def test_a_prompt_is_answered_by_its_own_scenes(pipe: Any, prompts: list[str], data: Any) -> None:
    points, captions = data
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    latents = pipe(prompts, generator=generators, output_type="latent").images.double().numpy()
    for prompt, sample in zip(prompts, latents, strict=True):
        distances = ((points - sample) ** 2).mean(axis=(1, 2, 3))
        assert captions[int(distances.argmin())] == prompt
        # What is left is the kernel: every pixel h away from its scene.
        assert math.sqrt(distances.min()) == pytest.approx(SETTINGS.kernel_width, rel=0.2)


@pytest.mark.parametrize(
    "prompt",
    ["", "red", "red on navy", "red circle left on mauve", "Red circle left on navy"],
)
def test_unknown_prompts_are_refused(prompt: str, pipe: Any) -> None:
    with pytest.raises(ArgumentError, match=f"prompt='{prompt}': ") as caught:
        pipe(["red circle left on navy", prompt])
    message = str(caught.value)
    for known in (*scenes.COLOURS, *scenes.SHAPES, *scenes.POSITIONS, *scenes.BACKGROUNDS):
        assert known in message


def test_the_same_seed_draws_the_same_picture(pipe: Any, prompts: list[str]) -> None:
    def draw(pipe: Any, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return pipe(prompts[0], generator=generator, output_type="latent").images

    first = draw(pipe, 0)
    assert first.shape == (1, 3, 32, 32)
    assert torch.equal(draw(pipe, 0), first)
    assert not torch.allclose(draw(pipe, 1), first, atol=0.1)
    assert torch.equal(draw(load_exact_flow_pipeline(SETTINGS), 0), first)


def test_a_picture_does_not_depend_on_its_batch(pipe: Any, prompts: list[str]) -> None:
    def draw(numbers: list[int]) -> torch.Tensor:
        return pipe(
            [prompts[number] for number in numbers],
            generator=[torch.Generator().manual_seed(number) for number in numbers],
            num_inference_steps=20,
            output_type="latent",
        ).images

    together = draw([0, 1, 2])
    for number in range(3):
        torch.testing.assert_close(draw([number])[0], together[number], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(draw([2, 0])[1], together[0], rtol=1e-4, atol=1e-4)


def test_latents_to_start_from(pipe: Any, prompts: list[str]) -> None:
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    given = pipe(prompts[0], latents=noise, output_type="latent").images
    drawn = pipe(
        prompts[0], generator=torch.Generator().manual_seed(7), output_type="latent"
    ).images
    assert torch.equal(given, drawn)


def test_output_types(pipe: Any, prompts: list[str]) -> None:
    def draw(output_type: str) -> Any:
        generator = torch.Generator().manual_seed(0)
        return pipe(
            prompts[0], generator=generator, num_inference_steps=8, output_type=output_type
        ).images

    tensor = draw("pt")
    assert tensor.shape == (1, 3, 32, 32)
    assert tensor.min() >= 0
    assert tensor.max() <= 1
    assert np.array_equal(draw("np")[0], tensor[0].permute(1, 2, 0).numpy())
    (picture,) = draw("pil")
    assert picture.size == (32, 32)
    assert np.array_equal(np.asarray(picture), (draw("np")[0] * 255).round().astype("uint8"))
    scaled = draw("latent") * pipe.transformer.std + pipe.transformer.mean
    assert torch.equal(scaled.clamp(0, 1), tensor)


def test_steps_and_sigmas(pipe: Any, prompts: list[str]) -> None:
    pipe(prompts[0], num_inference_steps=7)
    assert len(pipe.scheduler.timesteps) == 7
    sigmas = [1.0, 0.6, 0.3]
    pipe(prompts[0], sigmas=sigmas)
    shift = SETTINGS.shift
    expected = [shift * sigma / (1 + (shift - 1) * sigma) for sigma in sigmas]
    assert pipe.scheduler.sigmas.tolist() == pytest.approx([*expected, 0.0])


def test_it_states_which_model_it_is(pipe: Any) -> None:
    model, revision = pipe.otcache_model
    assert model == "exact-flow"
    assert revision == SETTINGS.revision
    others = {
        ExactFlowSettings(**change).revision
        for change in (
            {},
            {"scenes": 2001},
            {"kernel_width": 0.31},
            {"shift": 2.3},
            {"seed": 1},
        )
    }
    assert len(others | {SETTINGS.revision}) == 6


def test_a_policy_on_it(pipe: Any, prompts: list[str], enable: Any) -> None:
    def draw() -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        return pipe(prompts[:2], generator=generators, output_type="latent").images

    full = draw()
    errors = []
    for budget in (8, 25, 50):
        enable(pipe, policy="uniform", budget=budget)
        errors.append((draw() - full).square().mean().item())
        report = otcache_plugin.summary(pipe)
        assert (report.transformer_calls, report.as_planned) == (budget, True)
    assert errors[0] > errors[1] > errors[2] == 0.0
