"""What names a model that does not ship with the package: a folder, or an id on the Hub."""

from __future__ import annotations

from pathlib import Path

from otcache_plugin.errors import ArgumentError


def require_model_name(model: str) -> None:
    """Check that a text is a folder that is there, or may be an id on the Hub.

    Raises:
        ArgumentError: it is neither.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    if Path(model).is_dir():
        return
    try:
        validate_repo_id(model)
    except HFValidationError:
        is_id = False
    else:
        is_id = "/" in model
    if not is_id:
        raise no_model(model, "no such folder, and a Hub id is of the form org/name")


def no_model(model: str, problem: str) -> ArgumentError:
    """Return the error for what is no model, with what is one."""
    remedy = "Pass embedded, exact-flow, a Hub id with its revision, or a pipeline's folder"
    return ArgumentError("model", model, problem, remedy)
