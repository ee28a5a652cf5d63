"""The page is one well-formed file that needs nothing else and shows what was tried."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from comparison_helpers import STEPS
from html_page import Page
from otcache_policies import UniformPolicy
from PIL import Image

from otcache_plugin.comparing.method_row import MethodRow
from otcache_plugin.comparing.settings import SideBySideSettings
from otcache_plugin.comparing.side_by_side import SideBySide
from otcache_plugin.comparing.side_by_side_page import render_side_by_side
from otcache_plugin.runs.report import RunReport
from otcache_plugin.runs.resolution import Adaptation

COMMAND = "otcache try org/model --prompt 'a red fox'"
PROMPTS = ("a red fox", 'two <b>cups</b> & "saucers"')


def row(method: str, seed: int, psnr: list[float]) -> MethodRow:
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.rand(2, 3, 24, 40, generator=generator)
    schedule = UniformPolicy(STEPS).schedule(5)
    ssim = np.array([0.91, 0.93])
    return MethodRow(method, schedule, 10, 0.5, 3.75, pictures, np.array(psnr), ssim)


@pytest.fixture(scope="module")
def tried() -> SideBySide:
    """Values that were made up, of pictures wider than high."""
    return SideBySide(
        "org/model",
        "f" * 40,
        SideBySideSettings(PROMPTS, "./my-policy", 5, STEPS, 7),
        torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(0)),
        2.0,
        (row("uniform", 1, [20.0, 30.0]), row("gram", 2, [31.25, 41.25])),
        RunReport("gram", "velocity", "./my-policy", notes=("The Hub did not answer.",)),
        1,
        "a machine",
    )


@pytest.fixture(scope="module")
def html(tried: SideBySide) -> str:
    return render_side_by_side(tried, COMMAND)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def picture(uri: str) -> np.ndarray:
    assert uri.startswith("data:image/png;base64,")
    data = b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(BytesIO(data)))


def test_needs_nothing_else(html: str, page: Page) -> None:
    without_data = re.sub(r"data:[^\")]*", "", html)
    assert not re.search(r"https?:|//|@import|<script|<iframe", without_data)
    assert set(re.findall(r"url\(([^)]*)\)", without_data)) == {""}  # data alone
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset"):
            assert attributes.get(name, "data:").startswith("data:")


def test_pictures_of_every_method_and_prompt(page: Page, tried: SideBySide) -> None:
    images = page.all("img")
    assert len(images) == 2 * 3
    sources = (tried.full_pictures, *(each.pictures for each in tried.rows))
    for index, image in enumerate(images):
        prompt, column = divmod(index, 3)
        expected = sources[column][prompt].permute(1, 2, 0).numpy() * 255
        np.testing.assert_allclose(picture(image["src"]), expected, atol=0.51)
        assert PROMPTS[prompt] in image["alt"]
        assert f"{(20, 5, 5)[column]} " in image["alt"]
        assert (image["width"], image["height"]) == ("40", "24")


def test_differences_are_to_the_full_picture_of_the_same_prompt(page: Page) -> None:
    sections = [each for each in page.all("section") if "style" in each]
    images = page.all("img")
    for index, section in enumerate(sections):
        assert section["style"] == f"--full: url({images[3 * index]['src']})"
    assert len(sections) == 2


def test_figures(page: Page) -> None:
    assert "full run 20 of 20 2.00 1.00×" in page.text
    assert "uniform 5 of 20 10 0.50 3.75× 4.00× 25.00 0.9200" in page.text
    assert "gram 5 of 20 10 0.50 3.75× 4.00× 36.25 0.9200" in page.text
    for captioned in (
        "full run 20 of 20 steps 2.00 s",
        "uniform 5 of 20 steps 0.50 s , 3.75× 20.0 dB , SSIM 0.910",
        "gram 5 of 20 steps 0.50 s , 3.75× 41.2 dB , SSIM 0.930",
    ):
        assert captioned in page.text


def test_where_it_comes_from_and_how_to_go_on(page: Page) -> None:
    for words in (
        *PROMPTS,
        "f" * 40,
        "gram, of ./my-policy",
        "The Hub did not answer.",
        "0 5 10 14 19",  # every 19/4 steps
        "a machine",
        COMMAND,
        "cache_dit.enable_cache(pipe, policy='./my-policy', budget=5)",
    ):
        assert words in page.text


def test_a_speed_up_holds_for_other_steps_than_the_documents(tried: SideBySide) -> None:
    adapted = replace(tried.report, adaptation=Adaptation.CARRIED_OVER)
    page = Page(render_side_by_side(replace(tried, report=adapted), COMMAND))
    assert "cache_dit.enable_cache(pipe, policy='./my-policy', speedup=4)" in page.text
    assert "Its schedule carried over: 20 steps, or these sigmas, are not those of" in page.text


def test_frames_are_spoken_of_where_there_are_some(tried: SideBySide, page: Page) -> None:
    assert "frame" not in page.text
    video = Page(render_side_by_side(replace(tried, frames=81), COMMAND))
    assert "over all 81 frames of each video, of which the middle one is shown" in video.text


def test_uniform_alone(tried: SideBySide) -> None:
    alone = replace(tried, rows=tried.rows[:1], report=RunReport("schedule", "velocity"))
    page = Page(render_side_by_side(alone, COMMAND))
    assert "uniform on org/model" in page.text
    assert len(page.all("img")) == 2 * 2


def test_small_pictures_have_square_pixels(tried: SideBySide, html: str) -> None:
    def enlarged(pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(pictures, scale_factor=4)

    rows = tuple(replace(each, pictures=enlarged(each.pictures)) for each in tried.rows)
    large = replace(tried, full_pictures=enlarged(tried.full_pictures), rows=rows)
    assert "image-rendering: pixelated" in html
    assert "image-rendering: pixelated" not in render_side_by_side(large, COMMAND)
