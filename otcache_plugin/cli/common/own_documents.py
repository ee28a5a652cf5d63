"""A user's own documents in the store: as JSON, and for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otcache_plugin.cli.common.output import data_console
from otcache_plugin.cli.common.policy_argument import short_revision

if TYPE_CHECKING:
    from otcache_registry.store.own import OwnDocument


def own_data(own: OwnDocument) -> dict[str, Any]:
    """Return a user's own document as JSON."""
    document = own.policy.document
    return {
        "policy": str(own.path),
        "policy_name": document.policy.name,
        "model": document.model.id,
        "revision": document.model.revision,
        "num_inference_steps": document.num_inference_steps,
    }


def print_own(own: OwnDocument) -> None:
    """Print what to pass as POLICY, and under it the facts."""
    document, console = own.policy.document, data_console()
    console.print(str(own.path), style="bold", markup=False, soft_wrap=True)
    console.print_indented(
        f"{document.policy.name} for {document.model.id} "
        f"({short_revision(document.model.revision)}), "
        f"{document.num_inference_steps} steps, your own"
    )
