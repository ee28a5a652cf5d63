"""Metrics against values that can be worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from urllib.error import URLError

import pytest
import torch
from otcache_policies import OTCacheError

from otcache_plugin.errors import UnknownNameError
from otcache_plugin.evaluation import metrics
from otcache_plugin.evaluation.metrics import METRICS, metric_named


@pytest.fixture
def random_lpips(monkeypatch: pytest.MonkeyPatch) -> None:
    """LPIPS with a backbone drawn at random: the pretrained one would have to be downloaded."""
    import lpips

    torch.manual_seed(0)
    network = lpips.LPIPS(pretrained=False, pnet_rand=True, verbose=False).eval()
    monkeypatch.setattr(metrics, "_lpips_network", lambda backbone: network)


@pytest.fixture(params=list(METRICS))
def metric(request: pytest.FixtureRequest) -> Iterator[metrics.Metric]:
    """Each of them."""
    if request.param == "lpips":
        request.getfixturevalue("random_lpips")
    return metric_named(request.param)


def noisy(pictures: torch.Tensor, strength: float) -> torch.Tensor:
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1))
    return (pictures + strength * noise).clamp(0, 1)


@pytest.mark.parametrize(("offset", "decibels"), [(0.1, 20.0), (0.01, 40.0), (-0.2, 13.9794)])
def test_psnr_of_a_constant_offset(pictures: torch.Tensor, offset: float, decibels: float) -> None:
    values = metric_named("psnr").compare(pictures + offset, pictures)
    torch.testing.assert_close(values, torch.full((3,), decibels).double(), rtol=0, atol=1e-3)


def test_psnr_of_half_the_pixels(pictures: torch.Tensor) -> None:
    shifted = pictures.clone()
    shifted[..., :16] += 0.1  # half of the squared error: 3.01 dB more
    values = metric_named("psnr").compare(shifted, pictures)
    torch.testing.assert_close(values, torch.full((3,), 23.0103).double(), rtol=0, atol=1e-3)


def test_psnr_of_identical_pictures_is_capped(pictures: torch.Tensor) -> None:
    psnr = metric_named("psnr")
    assert psnr.compare(pictures, pictures).tolist() == [100.0] * 3
    assert psnr.compare(pictures + 1e-6, pictures).tolist() == [100.0] * 3


def test_mse_of_a_constant_offset(pictures: torch.Tensor) -> None:
    values = metric_named("mse").compare(pictures - 0.1, pictures)
    torch.testing.assert_close(values, torch.full((3,), 0.01).double(), rtol=1e-5, atol=0)


def test_ssim_of_a_constant_picture() -> None:
    """Without structure only the luminance counts: (2ab + c) / (a² + b² + c), c = 0.01²."""
    first, second = torch.full((2, 3, 32, 32), 0.01), torch.full((2, 3, 32, 32), 0.03)
    values = metric_named("ssim").compare(first, second)
    expected = (2 * 0.01 * 0.03 + 1e-4) / (0.01**2 + 0.03**2 + 1e-4)
    torch.testing.assert_close(values, torch.full((2,), expected).double(), rtol=0, atol=1e-3)


def test_ssim_falls_with_noise(pictures: torch.Tensor) -> None:
    ssim = metric_named("ssim")
    values = [ssim.compare(noisy(pictures, s), pictures) for s in (0.0, 0.02, 0.1, 0.3)]
    torch.testing.assert_close(values[0], torch.ones(3).double())
    for better, worse in pairwise(values):
        assert (worse < better).all()
    assert (values[-1] > -1).all()


def test_every_metric_gives_one_value_per_pair(
    metric: metrics.Metric, pictures: torch.Tensor
) -> None:
    candidate = noisy(pictures, 0.2)
    values = metric.compare(candidate, pictures)
    assert values.shape == (3,)
    assert values.dtype == torch.float64
    assert not values.requires_grad
    for i in range(3):
        alone = metric.compare(candidate[i : i + 1], pictures[i : i + 1])
        assert alone.shape == (1,)
        torch.testing.assert_close(alone[0], values[i], rtol=1e-4, atol=1e-6)


def test_every_metric_knows_its_direction(metric: metrics.Metric, pictures: torch.Tensor) -> None:
    means = (metric.compare(noisy(pictures, s), pictures).mean() for s in (0.0, 0.02, 0.3))
    same, near, far = (metric.loss(mean.item()) for mean in means)
    assert same < near < far
    assert metric.higher_is_better == (metric.name in ("psnr", "ssim"))


def test_every_metric_is_symmetric(metric: metrics.Metric, pictures: torch.Tensor) -> None:
    candidate = noisy(pictures, 0.2)
    forth, back = metric.compare(candidate, pictures), metric.compare(pictures, candidate)
    torch.testing.assert_close(forth, back, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("random_lpips")
def test_lpips_is_a_distance(pictures: torch.Tensor) -> None:
    lpips = metric_named("lpips")
    assert lpips.compare(pictures, pictures).tolist() == [0.0] * 3
    assert (lpips.compare(noisy(pictures, 0.2), pictures) > 0).all()


def test_lpips_without_its_weights_says_what_to_do(
    pictures: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lpips

    def offline(**_: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(lpips, "LPIPS", offline)
    metrics._lpips_network.cache_clear()
    with pytest.raises(OTCacheError, match=r"pretrained weights.*no route to host.*psnr, ssim"):
        metric_named("lpips").compare(pictures, pictures)


def test_an_unknown_metric_lists_those_there_are() -> None:
    with pytest.raises(UnknownNameError) as caught:
        metric_named("beauty")
    assert caught.value.field == "metric"
    assert str(caught.value).startswith("metric='beauty'")
    assert "psnr, ssim, mse, lpips" in str(caught.value)
