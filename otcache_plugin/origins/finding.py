"""Which model, and which revision of it, a loaded pipeline is.

Nothing on a loaded pipeline says it outright. The commit sha survives only in the path that each
denoiser was loaded from, so that is what is looked at, and trusted when the weights are those of
the files there. Whatever else a denoiser may be (quantised, adapted, replaced, loaded by a bare
repository id, from a single file or a folder) is *unknown*; then the user says `model=` and
`revision=`, which always wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from otcache_registry import DocumentNotFoundError

from otcache_plugin.errors import ArgumentError
from otcache_plugin.origins.origin import DenoiserOrigin, ModelOrigin, OriginFinding
from otcache_plugin.origins.paths import (
    SnapshotPath,
    downloaded_commits,
    is_repository_id,
    parse_snapshot,
    repository_of,
)
from otcache_plugin.origins.weights import compare_with_files
from otcache_plugin.pipelines.parts import DENOISERS

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

REMEDY = "Pass model='org/name' and revision='<commit sha>', or policy='<folder of a document>'"
"""What to do when the origin of a pipeline is unknown."""

_QUANTISED = ("hf_quantizer", "is_quantized", "_is_quantized")
"""Set by diffusers, the last one by cache-dit."""


def find_origin(
    pipe: DiffusionPipeline, model: str | None = None, revision: str | None = None
) -> ModelOrigin:
    """Find the origin of a pipeline; what the user says always wins.

    Raises:
        ArgumentError: only one of `model` and `revision` was given.
        DocumentNotFoundError: the origin is unknown; the message says why and what to pass.
    """
    if (model is None) != (revision is None):
        missing = "revision" if revision is None else "model"
        raise ArgumentError(
            missing, None, "model= and revision= go together", f"Pass {missing}= as well"
        )
    if model is not None and revision is not None:
        return ModelOrigin(model, revision, "given as model= and revision=")
    found = describe_origin(pipe)
    if found.model is None or found.revision is None:
        paths = [each.path for each in found.denoisers if each.model is None]
        raise DocumentNotFoundError(
            "model",
            next(iter(paths), None),
            f"the pipeline's model revision is unknown: {found.reason}",
            REMEDY,
        )
    return ModelOrigin(found.model, found.revision, found.reason)


def claimed_model(pipe: DiffusionPipeline) -> str | None:
    """Return the model that a pipeline of unknown origin says it is, by the paths of its parts.

    Its weights may have been changed since, and at which revision they were is not said.
    """
    parts = (pipe, *(getattr(pipe, name, None) for name in DENOISERS))
    claims = {repository_of(path) for part in parts if part is not None and (path := _path(part))}
    return claims.pop() if len(claims) == 1 else None


def describe_origin(pipe: DiffusionPipeline) -> OriginFinding:
    """Say what can be concluded of a pipeline's origin, and why; raise nothing.

    A few rows of each denoiser's weights are read from the files that it was loaded from, nothing
    else and nothing of the Hub.
    """
    held = {name: getattr(pipe, name, None) for name in DENOISERS}
    denoisers = {
        name: getattr(module, "_orig_mod", module)  # as it was before torch.compile
        for name, module in held.items()
        if module is not None
    }
    if not denoisers:
        return OriginFinding(None, None, f"{type(pipe).__name__} has no transformer", ())
    changes = {name: _change(pipe, name, denoiser) for name, denoiser in denoisers.items()}
    stated = None if any(changes.values()) else getattr(pipe, "otcache_model", None)
    if stated is not None:
        model, revision = stated
        return _stated(model, revision, denoisers)
    own = repository_of(_path(pipe))
    return _together(
        [
            _unknown(name, _path(denoiser), change)
            if (change := changes[name])
            else _examine(name, denoiser, own)
            for name, denoiser in denoisers.items()
        ]
    )


def _stated(model: str, revision: str, denoisers: Mapping[str, torch.nn.Module]) -> OriginFinding:
    reason = "stated by the pipeline"
    each = (
        DenoiserOrigin(name, _path(denoiser), model, revision, reason)
        for name, denoiser in denoisers.items()
    )
    return OriginFinding(model, revision, reason, tuple(each))


def _change(pipe: DiffusionPipeline, name: str, denoiser: torch.nn.Module) -> str | None:
    """Return what was done to a denoiser's weights, so that they are not those of its origin."""
    if getattr(denoiser, "peft_config", None):
        return f"a LoRA or other adapter is loaded into its {name}"
    if getattr(pipe, "num_fused_loras", 0):
        return "a LoRA is fused into it"
    if any(getattr(denoiser, attribute, None) for attribute in _QUANTISED):
        return f"its {name} is quantised"
    for parameter in denoiser.parameters():
        if type(parameter) is not torch.nn.Parameter:
            kind = type(parameter).__name__
            return f"its {name} is quantised or distributed (it has weights of type {kind})"
        if parameter.dtype.itemsize == 1:
            return f"its {name} is quantised (it has weights of {parameter.dtype})"
    return None


def _examine(name: str, denoiser: torch.nn.Module, own: str | None) -> DenoiserOrigin:
    """Conclude the origin of a denoiser by its path, then by its weights.

    Args:
        name: of the pipeline's attribute.
        denoiser: itself.
        own: Hub id that the pipeline says it is; None when it says none.
    """
    path = _path(denoiser)
    snapshot = parse_snapshot(path)
    if snapshot is None:
        return _unknown(name, path, _why_no_snapshot(name, path))
    contradiction = _contradiction(name, snapshot, own)
    if contradiction is not None:
        return _unknown(name, path, contradiction)
    folder = Path(path)
    claim = f"its {name} claims to be of snapshot {snapshot.revision} of {snapshot.model}, but"
    if not folder.is_dir():
        return _unknown(name, path, f"{claim} the files to compare its weights with are gone")
    compared = compare_with_files(denoiser, folder)
    if not compared.same:
        return _unknown(name, path, f"{claim} {compared.finding}")
    reason = f"its {name} was loaded from this snapshot, and {compared.finding}"
    return DenoiserOrigin(name, path, snapshot.model, snapshot.revision, reason)


def _contradiction(name: str, snapshot: SnapshotPath, own: str | None) -> str | None:
    if snapshot.inner != name:
        folder = snapshot.inner or "the top folder"
        return f"its {name} was loaded on its own, from {folder} of {snapshot.model}"
    if own is not None and own != snapshot.model:
        return f"its {name} is of {snapshot.model}, but the pipeline of {own}"
    return None


def _why_no_snapshot(name: str, path: str) -> str:
    missing = f"its {name} was not loaded from a Hub snapshot"
    if not path:
        return f"{missing} (it has no path: a single file, or made otherwise)"
    if is_repository_id(path):
        return (
            f"{missing} with its pipeline, but on its own by the id {path}, which names no commit"
        )
    commits = downloaded_commits(Path(path))
    if len(commits) == 1:
        return (
            f"{missing} but from a folder, whose files were downloaded at commit {commits[0]} of a "
            f"repository that is not recorded there (pass its id, with revision={commits[0]!r})"
        )
    if commits:
        return f"{missing} but from a folder with files of several commits, {', '.join(commits)}"
    return f"{missing} but from a folder"


def _together(denoisers: list[DenoiserOrigin]) -> OriginFinding:
    """Return the origin of a pipeline: all denoisers have to be of one commit of one repository."""
    unknown = [each for each in denoisers if each.model is None]
    if unknown:
        reason = "; ".join(dict.fromkeys(each.reason for each in unknown))
        return OriginFinding(None, None, reason, tuple(denoisers))
    if len({(each.model, each.revision) for each in denoisers}) > 1:
        reason = ", ".join(
            f"its {each.name} is of {each.model} at {each.revision}" for each in denoisers
        )
        return OriginFinding(None, None, f"{reason}: not the same", tuple(denoisers))
    reason = "; ".join(each.reason for each in denoisers)
    return OriginFinding(denoisers[0].model, denoisers[0].revision, reason, tuple(denoisers))


def _unknown(name: str, path: str, reason: str) -> DenoiserOrigin:
    return DenoiserOrigin(name, path, None, None, reason)


def _path(module: Any) -> str:
    config = getattr(module, "config", None)
    return str(config.get("_name_or_path") or "") if isinstance(config, Mapping) else ""
