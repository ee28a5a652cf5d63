"""What names a model that does not ship with the package: a folder, or an id on the Hub."""

from __future__ import annotations

from pathlib import Path

from otcache_registry.documents.names import is_hub_id

from otcache_plugin.errors import ArgumentError


def require_model_name(model: str) -> None:
    """Check that a text is a folder that is there, or may be an id on the Hub.

    Raises:
        ArgumentError: it is neither.
    """
    if not Path(model).is_dir() and not is_hub_id(model):
        raise no_model(model, "no such folder, and a Hub id is of the form org/name")


def no_model(model: str, problem: str) -> ArgumentError:
    """Return the error for what is no model, with what is one."""
    remedy = "Pass embedded, exact-flow, a Hub id such as org/name, or a pipeline's folder"
    return ArgumentError("model", model, problem, remedy)
