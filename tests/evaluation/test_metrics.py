"""Metrics against values that can be worked out by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from otcache_policies import FieldError

from otcache_plugin.errors import UnknownNameError
from otcache_plugin.evaluation.metrics import METRICS, TensorMetric
from otcache_plugin.evaluation.outputs import Outputs
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.plugins.host import plugin_host

PAIRS = [Pair(f"kind {number}", number) for number in range(3)]
"""What was generated; these metrics do not look."""


@pytest.fixture(params=list(METRICS))
def metric(request: pytest.FixtureRequest, random_lpips: None) -> TensorMetric:
    """Each of them."""
    return plugin_host().metric(request.param)


def noisy(pictures: torch.Tensor, strength: float) -> torch.Tensor:
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1))
    return (pictures + strength * noise).clamp(0, 1)


@pytest.mark.parametrize(("offset", "decibels"), [(0.1, 20.0), (0.01, 40.0), (-0.2, 13.9794)])
def test_psnr_of_a_constant_offset(pictures: torch.Tensor, offset: float, decibels: float) -> None:
    values = plugin_host().metric("psnr").compare(pictures + offset, pictures)
    torch.testing.assert_close(values, torch.full((3,), decibels).double(), rtol=0, atol=1e-3)


def test_psnr_of_half_the_pixels(pictures: torch.Tensor) -> None:
    shifted = pictures.clone()
    shifted[..., :16] += 0.1  # half of the squared error: 3.01 dB more
    values = plugin_host().metric("psnr").compare(shifted, pictures)
    torch.testing.assert_close(values, torch.full((3,), 23.0103).double(), rtol=0, atol=1e-3)


def test_psnr_of_identical_pictures_is_capped(pictures: torch.Tensor) -> None:
    psnr = plugin_host().metric("psnr")
    assert psnr.compare(pictures, pictures).tolist() == [100.0] * 3
    assert psnr.compare(pictures + 1e-6, pictures).tolist() == [100.0] * 3


def test_mse_of_a_constant_offset(pictures: torch.Tensor) -> None:
    values = plugin_host().metric("mse").compare(pictures - 0.1, pictures)
    torch.testing.assert_close(values, torch.full((3,), 0.01).double(), rtol=1e-5, atol=0)


def test_ssim_of_a_constant_picture() -> None:
    """Without structure only the luminance counts: (2ab + c) / (a² + b² + c), c = 0.01²."""
    first, second = torch.full((2, 3, 32, 32), 0.01), torch.full((2, 3, 32, 32), 0.03)
    values = plugin_host().metric("ssim").compare(first, second)
    expected = (2 * 0.01 * 0.03 + 1e-4) / (0.01**2 + 0.03**2 + 1e-4)
    torch.testing.assert_close(values, torch.full((2,), expected).double(), rtol=0, atol=1e-3)


def test_ssim_falls_with_noise(pictures: torch.Tensor) -> None:
    ssim = plugin_host().metric("ssim")
    values = [ssim.compare(noisy(pictures, s), pictures) for s in (0.0, 0.02, 0.1, 0.3)]
    torch.testing.assert_close(values[0], torch.ones(3).double())
    for better, worse in pairwise(values):
        assert (worse < better).all()
    assert (values[-1] > -1).all()


def test_every_metric_gives_one_value_per_pair(metric: TensorMetric, patches: torch.Tensor) -> None:
    candidate = noisy(patches, 0.2)
    values = metric.compare(candidate, patches)
    assert values.shape == (3,)
    assert values.dtype == torch.float64
    assert not values.requires_grad
    for i in range(3):
        alone = metric.compare(candidate[i : i + 1], patches[i : i + 1])
        assert alone.shape == (1,)
        torch.testing.assert_close(alone[0], values[i], rtol=1e-4, atol=1e-6)


def test_every_metric_knows_its_direction(metric: TensorMetric, patches: torch.Tensor) -> None:
    means = (metric.compare(noisy(patches, s), patches).mean() for s in (0.0, 0.02, 0.3))
    sign = -1 if metric.higher_is_better else 1
    same, near, far = (sign * mean.item() for mean in means)
    assert same < near < far
    assert metric.higher_is_better == (metric.name in ("psnr", "ssim"))


def test_every_metric_is_symmetric(metric: TensorMetric, patches: torch.Tensor) -> None:
    candidate = noisy(patches, 0.2)
    forth, back = metric.compare(candidate, patches), metric.compare(patches, candidate)
    torch.testing.assert_close(forth, back, rtol=1e-5, atol=1e-7)


def test_an_unknown_metric_lists_those_there_are() -> None:
    with pytest.raises(UnknownNameError) as caught:
        plugin_host().metric("beauty")
    assert caught.value.field == "metric"
    assert str(caught.value).startswith("metric='beauty'")
    assert "latent-l1, latent-mse, lpips, lpips-vgg, mse, psnr, ssim" in str(caught.value)
    assert "clip-score, image-reward" in str(caught.value)


def test_latent_errors_by_hand() -> None:
    """Whatever the latents' form: a mean over everything but the pairs."""
    reference = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    candidate = torch.tensor([[[1.0, 2.0], [3.0, 8.0]], [[1.0, -1.0], [2.0, 0.0]]])
    outputs = Outputs(candidate, None), Outputs(reference, None)
    assert plugin_host().metric("latent-l1").values(*outputs, PAIRS).tolist() == [1.0, 1.0]
    assert plugin_host().metric("latent-mse").values(*outputs, PAIRS).tolist() == [4.0, 1.5]


def test_a_video_is_the_mean_of_its_frames() -> None:
    """Frames that are 0.1, 0.01 and 1 off: 20, 40 and 0 dB, and squares 0.01, 0.0001 and 1."""
    still = torch.zeros(2, 3, 3, 16, 16)
    moving = still.clone()
    for frame, offset in enumerate((0.1, 0.01, 1.0)):
        moving[1, frame] += offset
    latents = torch.zeros(2, 4)
    outputs = Outputs(latents, moving), Outputs(latents, still)
    np.testing.assert_allclose(
        plugin_host().metric("psnr").values(*outputs, PAIRS), [100.0, 20.0], rtol=1e-6
    )
    np.testing.assert_allclose(
        plugin_host().metric("mse").values(*outputs, PAIRS), [0.0, 1.0101 / 3], rtol=1e-6
    )


def test_frames_are_compared_a_few_at_a_time() -> None:
    seen: list[tuple[int, ...]] = []

    def compare(candidate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(candidate.shape))
        return (candidate - reference)[:, 0, 0, 0]

    metric = TensorMetric("corner", "", "pictures", higher_is_better=False, compare=compare)
    numbers = torch.arange(33.0).reshape(3, 11)  # every frame has its own
    pictures = numbers[:, :, None, None, None].expand(3, 11, 3, 8, 8)
    latents = torch.zeros(3, 4)
    ones = torch.ones(3, 11, 3, 8, 8)
    values = metric.values(Outputs(latents, pictures), Outputs(latents, ones), PAIRS)
    assert seen == [(16, 3, 8, 8), (16, 3, 8, 8), (1, 3, 8, 8)]
    assert values.tolist() == [4.0, 15.0, 26.0]  # means of 0 … 10, 11 … 21, 22 … 32, less 1
    assert values.dtype == np.float64


def test_values_look_only_at_the_metrics_space(metric: TensorMetric, patches: torch.Tensor) -> None:
    candidate = noisy(patches, 0.2)
    expected = metric.compare(candidate, patches)
    if metric.space == "latents":
        outputs = [Outputs(each, torch.zeros(3, 1, 3, 16, 16)) for each in (candidate, patches)]
    else:
        outputs = [Outputs(torch.zeros(3, 4), each[:, None]) for each in (candidate, patches)]
    np.testing.assert_array_equal(metric.values(*outputs, PAIRS), expected.numpy())
    assert (metric.space == "latents") == metric.name.startswith("latent-")


@pytest.mark.parametrize("side", ["candidate", "reference"])
def test_pictures_that_were_not_decoded_are_missed(pictures: torch.Tensor, side: str) -> None:
    outputs: dict[str, Any] = {
        "candidate": Outputs(torch.zeros(3, 4), pictures[:, None]),
        "reference": Outputs(torch.zeros(3, 4), pictures[:, None]),
    }
    outputs[side] = Outputs(torch.zeros(3, 4), None)
    with pytest.raises(FieldError, match=f"metric='psnr'.*the {side} were not decoded"):
        plugin_host().metric("psnr").values(**outputs, pairs=PAIRS)
    assert plugin_host().metric("latent-l1").values(**outputs, pairs=PAIRS).tolist() == [0.0] * 3


def test_outputs_of_other_pairs_are_refused(pictures: torch.Tensor) -> None:
    """One picture would be broadcast to three."""
    three, one = (Outputs(torch.zeros(n, 4), pictures[:n, None]) for n in (3, 1))
    for name in ("mse", "latent-mse"):
        with pytest.raises(FieldError, match=r"of the reference are of shape \(1, .*same pairs"):
            plugin_host().metric(name).values(three, one, PAIRS)
