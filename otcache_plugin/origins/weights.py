"""Whether the weights of a denoiser are those in the files of a folder, by a few of their rows.

One matrix of each kind is compared (a kind is a name without the numbers of blocks), the largest
kinds first and each in another block, so that every depth of a model is seen and its size hardly
matters. A fine-tune or a fused LoRA changes whole kinds and is found; a change of single blocks, or
of biases and norms alone, may be missed.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MOST_MATRICES = 32
"""About as many kinds of matrices as large transformers have."""

_BLOCK_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_NOT_AN_INDEX = (TypeError, AttributeError)
_HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Comparison:
    """How weights compare with those of files.

    Attributes:
        same: whether all that was compared is the same.
        finding: what was compared, or what differs, for people.
    """

    same: bool
    finding: str


def compare_with_files(denoiser: torch.nn.Module, folder: Path) -> Comparison:
    """Compare a denoiser with the safetensors that `save_pretrained` lays out in a folder.

    Of several variants there, such as fp16, any one may be the same. Weights that are offloaded to
    where they cannot be read are passed over, but not all of them may be.
    """
    weights = denoiser.state_dict()
    matrices = [name for name, weight in weights.items() if weight.ndim >= 2]
    readable = [name for name in matrices if weights[name].device.type != "meta"]
    if not readable:
        return Comparison(
            False, "its weights are offloaded, so they cannot be compared (enable the cache before)"
        )
    ignored = getattr(denoiser, "_keys_to_ignore_on_load_unexpected", None) or ()
    sample = _sample({name: weights[name] for name in readable})
    differences = [
        _difference(weights, checkpoint, sample, ignored) for checkpoint in _checkpoints(folder)
    ]
    if not differences:
        return Comparison(False, "there are no safetensors in its folder to compare with")
    if None not in differences:
        return Comparison(False, str(differences[0]))
    offloaded = len(matrices) - len(readable)
    unread = f"; {offloaded} more are offloaded and were not read" if offloaded else ""
    return Comparison(True, f"rows of {len(sample)} of its {len(readable)} matrices agree{unread}")


def _sample(matrices: Mapping[str, torch.Tensor]) -> list[str]:
    kinds = defaultdict(list)
    for name in matrices:
        kinds[_BLOCK_NUMBER.sub("#", name)].append(name)
    largest = sorted(kinds.values(), key=lambda names: -matrices[names[0]].numel())[:MOST_MATRICES]
    return [names[i * len(names) // len(largest)] for i, names in enumerate(largest)]


def _checkpoints(folder: Path) -> list[Path]:
    """Return the file of each variant: all weights in one, or the index of their shards."""
    whole = folder.glob("diffusion_pytorch_model*.safetensors")
    indices = folder.glob("diffusion_pytorch_model.safetensors.index*.json")
    return sorted([*(file for file in whole if not _SHARD.search(file.name)), *indices])


def _files(checkpoint: Path) -> dict[str, Path]:
    """Return the file that each weight is in."""
    if checkpoint.suffix == ".json":
        index = json.loads(checkpoint.read_text(encoding="utf-8"))
        return {name: checkpoint.parent / shard for name, shard in index["weight_map"].items()}
    with safe_open(checkpoint, framework="pt") as stored:
        return dict.fromkeys(stored.keys(), checkpoint)


def _difference(
    weights: Mapping[str, torch.Tensor],
    checkpoint: Path,
    sample: list[str],
    ignored: Sequence[str],
) -> str | None:
    """Return what differs, or why it cannot be said; None when nothing does."""
    try:
        files = _files(checkpoint)
        for name in weights:
            if name not in files:
                return f"the files have no {name}"
        for name in files:
            if name not in weights and not any(re.search(each, name) for each in ignored):
                return f"it has no {name}, which the files have"
        for name in sample:
            if not _has_stored_rows(weights[name], name, files[name]):
                return f"{name} differs from the files"
    except (OSError, SafetensorError, ValueError, LookupError, *_NOT_AN_INDEX) as error:
        return f"{checkpoint.name} cannot be read ({type(error).__name__}: {error})"
    return None


def _has_stored_rows(weight: torch.Tensor, name: str, file: Path) -> bool:
    with safe_open(file, framework="pt") as opened:
        stored = opened.get_slice(name)
        if stored.get_shape() != list(weight.shape):
            return False
        last = len(weight) - 1
        rows = sorted({0, last // 2, last})
        return all(_is_cast(weight[row].cpu(), stored[row : row + 1][0]) for row in rows)


def _is_cast(running: torch.Tensor, stored: torch.Tensor) -> bool:
    """Return whether a row is the stored one in its dtype, perhaps by way of half precision."""
    casts = (stored, *(stored.to(half) for half in _HALVES))
    return any(torch.equal(running, cast.to(running.dtype)) for cast in casts)
