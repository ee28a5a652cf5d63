"""Which model, and which revision of it, a pipeline is.

Nothing on a loaded pipeline says it outright. The commit sha survives only in the path that the
denoiser was loaded from, so that is what is trusted; a bare repository id, a plain local folder,
a quantised or adapted denoiser are *unknown*, and then the user says ``model=`` and ``revision=``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otcache_registry import DocumentNotFoundError

from otcache_plugin.errors import ArgumentError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

SNAPSHOT = re.compile(
    r"models--(?P<model>[^/\\]+)[/\\]snapshots[/\\](?P<sha>[0-9a-f]{40})(?:[/\\]|$)"
)


@dataclass(frozen=True)
class ModelOrigin:
    """A model revision, and how it was concluded.

    Attributes:
        model: Hub id, or the name of a model that ships with this package.
        revision: commit sha, or what stands for it.
        reason: what it was concluded from, for people.
    """

    model: str
    revision: str
    reason: str


def find_origin(
    pipe: DiffusionPipeline, model: str | None = None, revision: str | None = None
) -> ModelOrigin:
    """Finds the origin of a pipeline; what the user says always wins.

    Raises:
        ArgumentError: only one of ``model`` and ``revision`` was given.
        DocumentNotFoundError: the origin is unknown; the message says why and what to pass.
    """
    if (model is None) != (revision is None):
        missing = "revision" if revision is None else "model"
        raise ArgumentError(
            missing, None, "model= and revision= go together", f"Pass {missing}= as well"
        )
    if model is not None and revision is not None:
        return ModelOrigin(model, revision, "given as model= and revision=")
    transformer = pipe.transformer
    path = str(transformer.config.get("_name_or_path") or "")
    if getattr(transformer, "peft_config", None):
        raise _unknown("a LoRA or other adapter is loaded into its transformer", path)
    if getattr(transformer, "hf_quantizer", None) or getattr(transformer, "is_quantized", False):
        raise _unknown("its transformer is quantised", path)
    stated = getattr(pipe, "otcache_model", None)
    if stated is not None:
        stated_model, stated_revision = stated
        return ModelOrigin(stated_model, stated_revision, "stated by the pipeline")
    match = SNAPSHOT.search(path)
    if match is None:
        raise _unknown("its transformer was not loaded from a Hub snapshot", path)
    model_id = match["model"].replace("--", "/", 1)
    return ModelOrigin(model_id, match["sha"], "the path of the transformer's snapshot")


def _unknown(reason: str, path: str) -> DocumentNotFoundError:
    return DocumentNotFoundError(
        "model",
        path,
        f"the pipeline's model revision is unknown: {reason}",
        "Pass model='org/name' and revision='<commit sha>', or policy='<folder of a document>'; "
        "to calibrate one: "
        "otcache calibrate MODEL --revision REVISION --output ./my-policy",
    )
