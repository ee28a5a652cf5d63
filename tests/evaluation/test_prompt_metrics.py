"""Metrics that see prompts, with a tiny random CLIP and a package that stands for ImageReward."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from otcache_policies import FieldError, OTCacheError
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
)

from otcache_plugin.evaluation.metrics import Preparing, Weighty, is_at_hand
from otcache_plugin.evaluation.outputs import Outputs
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.evaluation.prompt_metrics import CLIP, IMAGE_REWARD, ClipScore, ImageReward
from otcache_plugin.models.embedded import FOLDER
from otcache_plugin.plugins.host import plugin_host

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that CLIP was trained on."""

PAIRS = (Pair("red circle left on navy", 0), Pair("gold square right on grey", 1))


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a CLIP of one layer of each kind, with the embedded model's words."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "tokenizer")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(1)
    config = CLIPConfig(
        text_config={
            **{**sizes, **special, "intermediate_size": 32},
            **{"vocab_size": len(tokenizer), "max_position_embeddings": 8},
        },
        vision_config={**sizes, "intermediate_size": 32, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(CLIPImageProcessor(**size), tokenizer).save_pretrained(folder)
    return folder


def some_outputs(frames: int) -> Outputs:
    pictures = torch.rand(2, frames, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return Outputs(torch.zeros(2, 1), pictures)


@torch.no_grad()
def test_clip_score_is_the_cosine_of_clips_embeddings(
    tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CLIP, str(tiny_clip))
    metric, made = ClipScore(), some_outputs(frames=2)
    assert isinstance(metric, Preparing)
    assert isinstance(metric, Weighty)
    assert is_at_hand(metric)
    assert made.pictures is not None
    model = CLIPModel.from_pretrained(tiny_clip).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_clip)
    mean, std = (torch.tensor(each)[:, None, None] for each in (IMAGE_MEAN, IMAGE_STD))
    expected = []
    for frames, pair in zip(made.pictures, PAIRS, strict=True):
        seen = model.vision_model((frames - mean) / std).pooler_output
        read = model.text_model(**tokenizer(pair.prompt, return_tensors="pt")).pooler_output
        pictures, text = model.visual_projection(seen), model.text_projection(read)
        cosines = torch.cosine_similarity(pictures, text)
        expected.append(100 * float(cosines.clamp(min=0).mean()))
    np.testing.assert_allclose(metric.values(made, made, PAIRS), expected, rtol=1e-4, atol=1e-4)
    assert max(expected) > 0


def test_a_prompt_that_is_too_long_is_cut(tiny_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CLIP, str(tiny_clip))
    made = some_outputs(frames=1)
    long = [Pair(" ".join(["red circle left on navy"] * 5), 0), PAIRS[1]]
    assert ClipScore().values(made, made, long).shape == (2,)


def test_a_clip_that_is_not_there_is_said_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CLIP, "somebody/some-clip")
    assert not ClipScore().is_at_hand()
    with pytest.raises(OTCacheError, match=r"hf download somebody/some-clip.*OTCACHE_CLIP"):
        ClipScore().prepare()


STANDS_FOR_IMAGE_REWARD = """
from pathlib import Path

def load(name, device, med_config):
    assert Path(name).read_text() == "weights" and Path(med_config).read_text() == "config"
    return Network()

class Network:
    def score(self, prompt, image):
        assert image.size == (32, 32)
        return len(prompt) + image.getpixel((0, 0))[0] / 1000
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Installs what stands for ImageReward until the test ends."""

    def install() -> None:
        folder = tmp_path / "packages"
        folder.mkdir()
        (folder / "ImageReward.py").write_text(STANDS_FOR_IMAGE_REWARD)
        monkeypatch.syspath_prepend(folder)

    yield install
    sys.modules.pop("ImageReward", None)


def test_image_reward_is_its_packages_score(
    tmp_path: Path, package: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ImageReward.pt").write_text("weights")
    (tmp_path / "med_config.json").write_text("config")
    monkeypatch.setenv(IMAGE_REWARD, str(tmp_path))
    package()
    metric = ImageReward()
    assert metric.is_at_hand()
    pictures = torch.zeros(2, 2, 3, 32, 32)
    pictures[1, 1, 0] = 1.0  # red 255 in the second frame of the second pair
    made = Outputs(torch.zeros(2, 1), pictures)
    expected = [len(PAIRS[0].prompt), len(PAIRS[1].prompt) + 0.255 / 2]
    np.testing.assert_allclose(metric.values(made, made, PAIRS), expected)


def test_image_reward_says_what_is_missing(
    tmp_path: Path, package: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(IMAGE_REWARD, str(tmp_path / "empty"))
    assert not ImageReward().is_at_hand()
    with pytest.raises(OTCacheError, match="pip install image-reward"):
        ImageReward().prepare()
    package()
    with pytest.raises(OTCacheError, match=r"ImageReward.pt and med_config.json in .*hf download"):
        ImageReward().prepare()


def test_without_pictures_there_is_nothing_to_judge() -> None:
    made = Outputs(torch.zeros(2, 1), None)
    with pytest.raises(FieldError, match="not decoded"):
        ClipScore().values(made, made, PAIRS)


@pytest.mark.parametrize("name", ["clip-score", "image-reward"])
def test_they_are_registered_as_any_metric(name: str) -> None:
    metric = plugin_host().metric(name)
    assert metric.name == name
    assert metric.higher_is_better
    assert metric.space == "pictures"
