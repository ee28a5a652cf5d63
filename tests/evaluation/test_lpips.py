"""LPIPS: what it is shown, what it says without its weights, and its known distances with them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import lpips
import numpy as np
import pytest
import torch
from otcache_policies import OTCacheError
from PIL import Image

from otcache_plugin.evaluation import lpips_networks
from otcache_plugin.evaluation.lpips_networks import BACKBONES, enlarged, lpips_network
from otcache_plugin.plugins.host import plugin_host

RandomLpips = Callable[[str], torch.nn.Module]
NETS = pytest.mark.parametrize(("name", "net"), [("lpips", "alex"), ("lpips-vgg", "vgg")])

EXAMPLES = Path(__file__).resolve().parents[1] / "data" / "lpips"
HOME_VARIABLE = "OTCACHE_LPIPS_HOME"
HOME = os.environ.get(HOME_VARIABLE)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """No network is kept from before, and none for later."""
    lpips_network.cache_clear()
    yield
    lpips_network.cache_clear()


@pytest.fixture
def nowhere(forgotten: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """There are no weights in TORCH_HOME; where AlexNet's would be."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"


def noisy(pictures: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1))
    return (pictures + 0.2 * noise).clamp(0, 1)


def pillow_enlarged(pictures: torch.Tensor) -> torch.Tensor:
    """Four times as high and wide, channel by channel, by Pillow's bilinear filter."""
    size = (4 * pictures.shape[-1], 4 * pictures.shape[-2])
    channels = [
        np.asarray(Image.fromarray(channel.numpy()).resize(size, Image.BILINEAR))
        for channel in pictures.flatten(0, 1)
    ]
    return torch.from_numpy(np.stack(channels)).unflatten(0, pictures.shape[:2])


@NETS
def test_it_is_a_distance(
    name: str, net: str, patches: torch.Tensor, random_lpips: RandomLpips
) -> None:
    metric = plugin_host().metric(name)
    assert metric.compare(patches, patches).tolist() == [0.0] * 3
    assert (metric.compare(noisy(patches), patches) > 0).all()


@NETS
def test_small_pictures_are_enlarged_four_times(
    name: str, net: str, patches: torch.Tensor, random_lpips: RandomLpips
) -> None:
    ours, theirs = pillow_enlarged(noisy(patches)), pillow_enlarged(patches)
    assert ours.shape == (3, 3, 64, 64)
    with torch.no_grad():  # without normalize=True it wants [-1, 1]
        expected = random_lpips(net)(2 * ours - 1, 2 * theirs - 1).flatten()
    values = plugin_host().metric(name).compare(noisy(patches), patches)
    torch.testing.assert_close(values, expected.double(), rtol=1e-4, atol=1e-6)


@NETS
def test_larger_pictures_are_taken_as_they_are(
    name: str, net: str, random_lpips: RandomLpips
) -> None:
    pictures = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    candidate = noisy(pictures)
    with torch.no_grad():
        expected = random_lpips(net)(2 * candidate - 1, 2 * pictures - 1).flatten()
    torch.testing.assert_close(
        plugin_host().metric(name).compare(candidate, pictures), expected.double()
    )


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((32, 32), (128, 128)),
        ((63, 200), (252, 800)),
        ((200, 63), (800, 252)),
        ((64, 64), (64, 64)),
        ((128, 64), (128, 64)),
        ((256, 256), (256, 256)),
    ],
)
def test_what_is_small(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert enlarged(torch.zeros(1, 3, *size)).shape == (1, 3, *shown)


def test_alexnets_last_maps_are_larger_than_one_pixel(random_lpips: RandomLpips) -> None:
    features = random_lpips("alex").net
    small = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        assert features(small)[-1].shape[-2:] == (1, 1)
        assert features(enlarged(small))[-1].shape[-2:] == (7, 7)


@pytest.mark.parametrize("net", BACKBONES)
def test_torchvision_and_we_mean_the_same_files(net: str) -> None:
    from torchvision.models import AlexNet_Weights, VGG16_Weights

    theirs = {"alex": AlexNet_Weights.IMAGENET1K_V1, "vgg": VGG16_Weights.IMAGENET1K_V1}
    assert BACKBONES[net].url == theirs[net].url


def test_without_weights_and_server_it_says_what_to_do(
    nowhere: Path, pictures: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    def not_to_be_called(**_: Any) -> None:
        pytest.fail("torchvision would have begun to download")

    monkeypatch.setattr(lpips_networks, "urlopen", refused)
    monkeypatch.setattr(lpips, "LPIPS", not_to_be_called)
    with pytest.raises(OTCacheError) as caught:
        plugin_host().metric("lpips").compare(pictures, pictures)
    message = str(caught.value)
    assert f"weights of alexnet, which are not at {nowhere}" in message
    assert "no route to host" in message
    assert "set TORCH_HOME" in message
    assert "tools/lpips_weights.py" in message
    assert "psnr, ssim" in message


def test_a_server_that_never_answers_is_not_waited_for(
    nowhere: Path, pictures: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/alexnet-owt-7be5be79.pth"
        monkeypatch.setitem(BACKBONES, "alex", replace(BACKBONES["alex"], url=url))
        monkeypatch.setattr(lpips_networks, "SECONDS_TO_ANSWER", 0.1)
        with pytest.raises(OTCacheError, match=r"not be downloaded \(.*timed out.*TORCH_HOME"):
            plugin_host().metric("lpips").compare(pictures, pictures)


def test_a_download_that_fails_ends_in_the_same_words(
    nowhere: Path, pictures: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer:
        def close(self) -> None:
            pass

    def broken(**_: Any) -> None:
        raise URLError("connection reset")

    monkeypatch.setattr(lpips_networks, "urlopen", lambda *_, **__: Answer())
    monkeypatch.setattr(lpips, "LPIPS", broken)
    with pytest.raises(OTCacheError, match=r"pretrained weights.*connection reset.*psnr, ssim"):
        plugin_host().metric("lpips").compare(pictures, pictures)


@pytest.mark.skipif(
    HOME is None,
    reason=f"{HOME_VARIABLE} names no folder with the weights; tools/lpips_weights.py makes it",
)
@pytest.mark.parametrize(
    ("name", "expected"), [("lpips", [0.722, 0.138]), ("lpips-vgg", [0.569, 0.422])]
)
def test_the_distances_of_the_example_pictures(
    name: str, expected: list[float], forgotten: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that LPIPS's own repository gives, with three digits."""
    monkeypatch.setenv("TORCH_HOME", str(HOME))
    monkeypatch.setattr(lpips_networks, "urlopen", lambda *_, **__: pytest.fail("not made"))

    def read(which: str) -> torch.Tensor:
        picture = np.asarray(Image.open(EXAMPLES / f"ex_{which}.png").convert("RGB"))
        return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255

    reference = read("ref")
    assert reference.shape == (1, 3, 64, 64)
    compare = plugin_host().metric(name).compare
    found = [compare(read(which), reference).item() for which in ("p0", "p1")]
    assert found == pytest.approx(expected, abs=5e-4)
