"""Metrics that judge a picture by its prompt: the CLIP score, and ImageReward.

Neither compares with the full run, but a cached run's value beside the full run's says whether what
was asked for is still there. Their networks are large, so they are taken from where they lie
already and never downloaded: what is missing is said, with the way to get it.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from huggingface_hub import try_to_load_from_cache
from otcache_policies import FieldError, OTCacheError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from otcache_plugin.evaluation.outputs import Outputs, Space
    from otcache_plugin.evaluation.pairs import Pair

__all__ = ["CLIP", "IMAGE_REWARD", "ClipScore", "ImageReward"]

CLIP = "OTCACHE_CLIP"
"""Names the CLIP model: a Hub id, or a folder that holds one."""
USUAL_CLIP = "openai/clip-vit-large-patch14"

IMAGE_REWARD = "OTCACHE_IMAGE_REWARD"
"""Names the folder of ImageReward's files."""
IMAGE_REWARD_PACKAGE = "ImageReward"
USUAL_IMAGE_REWARD = "~/.cache/ImageReward"
IMAGE_REWARD_FILES = ("ImageReward.pt", "med_config.json")

WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class PromptMetric:
    """What both have in common: a value for every frame and its prompt."""

    name: str
    unit = ""
    space: Space = "pictures"
    higher_is_better = True

    def values(
        self, candidate: Outputs, reference: Outputs, pairs: Sequence[Pair]
    ) -> NDArray[np.float64]:
        """Return `(N,)` values, one per pair: a video's is the mean over its frames.

        Raises:
            FieldError: the pictures were not decoded.
            OTCacheError: what it needs is not there.
        """
        if candidate.pictures is None:
            raise FieldError(
                "metric",
                self.name,
                "judges pictures, and those of the candidate were not decoded",
                "Generate them with spaces={'pictures'}, or use a metric of latents",
            )
        return np.array(
            [
                np.mean(self.of_frames(frames, pair.prompt))
                for frames, pair in zip(candidate.pictures, pairs, strict=True)
            ]
        )

    def of_frames(self, frames: torch.Tensor, prompt: str) -> Sequence[float]:
        """Return the values of `(F, 3, H, W)` frames in [0, 1] of one prompt."""
        raise NotImplementedError


class ClipScore(PromptMetric):
    """100 times the cosine of CLIP's embeddings of a picture and its prompt, at least 0."""

    name = "clip-score"

    def is_at_hand(self) -> bool:
        """Return whether the model is there; downloads nothing."""
        source = _clip_source()
        if Path(source).is_dir():
            return True
        return any(isinstance(try_to_load_from_cache(source, file), str) for file in WEIGHTS)

    def prepare(self) -> None:
        """Load the model.

        Raises:
            OTCacheError: it is not there; the message says how to get it.
        """
        _clip(_clip_source())

    def of_frames(self, frames: torch.Tensor, prompt: str) -> Sequence[float]:
        """See `PromptMetric`."""
        import torch

        model, processor = _clip(_clip_source())
        given = processor(
            text=[prompt],
            images=list(frames),
            do_rescale=False,  # they are in [0, 1] already
            truncation=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            embeddings = model(**given)
        cosines = embeddings.image_embeds @ embeddings.text_embeds[0]
        scores: list[float] = (100 * cosines).clamp(min=0).tolist()
        return scores


class ImageReward(PromptMetric):
    """What people would prefer, learned from their choices (arXiv 2304.05977)."""

    name = "image-reward"

    def is_at_hand(self) -> bool:
        """Return whether the package and its files are there; downloads nothing."""
        return find_spec(IMAGE_REWARD_PACKAGE) is not None and not _missing_image_reward_files()

    def prepare(self) -> None:
        """Load the network.

        Raises:
            OTCacheError: the package or its files are not there; the message says how to get them.
        """
        _image_reward(_image_reward_folder())

    def of_frames(self, frames: torch.Tensor, prompt: str) -> Sequence[float]:
        """See `PromptMetric`."""
        from torchvision.transforms.functional import to_pil_image

        network = _image_reward(_image_reward_folder())
        return [network.score(prompt, to_pil_image(frame)) for frame in frames]


def _clip_source() -> str:
    return os.environ.get(CLIP, USUAL_CLIP)


@cache
def _clip(source: str) -> tuple[Any, Any]:
    from transformers import CLIPModel, CLIPProcessor

    try:
        return (
            CLIPModel.from_pretrained(source, local_files_only=True).eval(),
            CLIPProcessor.from_pretrained(source, local_files_only=True),
        )
    except OSError as error:
        raise OTCacheError(
            f"clip-score needs the CLIP model {source}, which is not on this machine ({error}). "
            f"Run: hf download {source}; or set {CLIP} to the folder of one"
        ) from error


def _image_reward_folder() -> Path:
    return Path(os.environ.get(IMAGE_REWARD, USUAL_IMAGE_REWARD)).expanduser()


def _missing_image_reward_files() -> list[str]:
    folder = _image_reward_folder()
    return [name for name in IMAGE_REWARD_FILES if not (folder / name).is_file()]


@cache
def _image_reward(folder: Path) -> Any:
    if find_spec(IMAGE_REWARD_PACKAGE) is None:
        raise OTCacheError(
            "image-reward needs a package that is not installed. Run: pip install image-reward"
        )
    missing = _missing_image_reward_files()
    if missing:
        raise OTCacheError(
            f"image-reward needs {' and '.join(missing)} in {folder}. Run: hf download "
            f"THUDM/ImageReward {' '.join(IMAGE_REWARD_FILES)} --local-dir {folder}; or set "
            f"{IMAGE_REWARD} to the folder that has them"
        )
    weights, med_config = (str(folder / name) for name in IMAGE_REWARD_FILES)
    return import_module(IMAGE_REWARD_PACKAGE).load(weights, device="cpu", med_config=med_config)
