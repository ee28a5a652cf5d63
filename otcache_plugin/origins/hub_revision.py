"""The commit of a model on the Hub, asked for before it is loaded."""

from __future__ import annotations

from otcache_registry.hub.client import HubClient
from otcache_registry.hub.environment import offline_variable

from otcache_plugin.errors import ArgumentError
from otcache_plugin.origins.origin import ModelOrigin
from otcache_plugin.origins.paths import SHA, is_repository_id

__all__ = ["resolve_origin"]


def resolve_origin(model: str, revision: str | None = None) -> ModelOrigin:
    """Ask the Hub which commit a model's branch or tag is, for those who load it themselves.

        origin = otcache_plugin.resolve_origin("org/name")
        pipe = FluxPipeline.from_pretrained(origin.model, revision=origin.revision)
        enable_cache(pipe, policy="otcache", model=origin.model, revision=origin.revision)

    Endpoint and token are those of huggingface_hub (`HF_ENDPOINT`, `HF_TOKEN`). Nothing is
    asked offline (`OTCACHE_OFFLINE`, `HF_HUB_OFFLINE`), where a full sha is taken as it is.

    Args:
        model: Hub id, org/name.
        revision: branch, tag or commit; None for the default branch.

    Raises:
        ArgumentError: not a Hub id, or offline without a full sha.
        HubError: no such repository or revision, no access to it, or no answer; each says which.
    """
    if not is_repository_id(model):
        raise ArgumentError("model", model, "not a Hub id", "Pass one of the form org/name")
    variable = offline_variable()
    if variable is None:
        named = "the default branch" if revision is None else f"revision {revision!r}"
        commit = HubClient().snapshot(model, revision).commit
        return ModelOrigin(model, commit, f"what {named} is on the Hub")
    if revision is not None and SHA.fullmatch(revision):
        return ModelOrigin(model, revision, f"a full commit sha; {variable} is set")
    raise ArgumentError(
        "revision",
        revision,
        f"not a full commit sha, and the Hub is not asked while {variable} is set",
        f"Pass the 40 digits of the commit, or unset {variable}",
    )
