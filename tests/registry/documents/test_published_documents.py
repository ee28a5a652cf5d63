"""The schedules that the MeanCache authors published are bundled as they published them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from otcache_registry import find_bundled
from otcache_registry.documents.bundled import BUNDLED_FOLDER

from otcache_plugin.plugins.host import load_plugins

ROOT = Path(__file__).parents[3]
PUBLISHED = json.loads((ROOT / "tests" / "data" / "meancache-published.json").read_text())
FOLDERS = {
    "Qwen/Qwen-Image": "qwen-image",
    "Qwen/Qwen-Image-2512": "qwen-image-2512",
    "Tongyi-MAI/Z-Image": "z-image",
}


def test_the_tool_writes_what_is_bundled(tmp_path: Path) -> None:
    tool = ROOT / "tools" / "bundle_published.py"
    subprocess.run([sys.executable, str(tool), "--output", str(tmp_path)], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FOLDERS.values())
    for folder in FOLDERS.values():
        for path in (tmp_path / folder).iterdir():
            assert path.read_bytes() == (BUNDLED_FOLDER / folder / path.name).read_bytes(), path
        bundled = {path.name for path in (BUNDLED_FOLDER / folder).iterdir()}
        assert bundled == {"policy.json", "README.md"}


@pytest.mark.parametrize("published", PUBLISHED["models"], ids=lambda model: model["model"])
def test_every_published_schedule_is_served_as_it_is(published: dict[str, Any]) -> None:
    for revision in (None, "a" * 40):
        stored = find_bundled(
            "otcache", published["model"], revision, PUBLISHED["num_inference_steps"]
        )
        assert stored.source == f"bundled:{FOLDERS[published['model']]}"
        policy = load_plugins((), None).policy_of(stored)
        budgets = [entry["budget"] for entry in published["schedules"]]
        assert (policy.budgets.smallest, policy.budgets.largest) == (min(budgets), max(budgets))
        for entry in published["schedules"]:
            schedule = policy.schedule(entry["budget"])
            assert list(schedule.computed_steps) == entry["computed_steps"]
            assert list(schedule.look_backs) == entry["look_backs"]
            assert schedule.num_inference_steps == 50


@pytest.mark.parametrize(
    ("model", "pipeline", "size", "guidance", "setting"),
    [
        (
            "Qwen/Qwen-Image",
            "QwenImagePipeline",
            (1664, 928),
            {"true_cfg_scale": 4.0},
            "1664x928, true_cfg_scale 4.0",
        ),
        (
            "Qwen/Qwen-Image-2512",
            "QwenImagePipeline",
            (1664, 928),
            {"true_cfg_scale": 4.0},
            "1664x928, true_cfg_scale 4.0",
        ),
        (
            "Tongyi-MAI/Z-Image",
            "ZImagePipeline",
            (1280, 720),
            {"guidance_scale": 4.0},
            "1280x720, guidance_scale 4, cfg_normalization False",
        ),
    ],
)
def test_set_up_and_origin(
    model: str,
    pipeline: str,
    size: tuple[int, int],
    guidance: dict[str, float],
    setting: str,
) -> None:
    document = find_bundled("otcache", model, None).document
    sampling, published = document.sampling, document.published
    assert sampling.pipeline == pipeline
    assert sampling.scheduler == "FlowMatchEulerDiscreteScheduler"
    assert (sampling.width, sampling.height) == size
    assert sampling.guidance == guidance
    assert sampling.sigmas is None
    assert (document.policy.name, document.policy.distribution) == ("otcache", "otcache-plugin")
    assert (document.parameters["rho"], document.default_budget) == (1.0, 15)
    assert document.calibration is None
    assert published is not None
    assert published.setting == setting
    assert published.source == "https://github.com/UnicomAI/MeanCache"
    assert published.paper == "arXiv 2601.19961"


@pytest.mark.parametrize("folder", FOLDERS.values())
def test_the_cards_say_whose_schedules_these_are(folder: str) -> None:
    card = (BUNDLED_FOLDER / folder / "README.md").read_text(encoding="utf-8")
    for words in (
        "Published by the MeanCache authors, not calibrated here.",
        "Source: https://github.com/UnicomAI/MeanCache",
        "Method: arXiv 2601.19961",
        ", any revision\n",
        "Evidence: none.",
    ):
        assert words in card
