"""Pulled documents, as the store's records have them: as JSON, and for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from otcache_plugin.cli.common.output import data_console
from otcache_plugin.cli.common.policy_argument import short_revision

if TYPE_CHECKING:
    from otcache_registry.store.lock_record import LockRecord


def record_data(record: LockRecord) -> dict[str, Any]:
    """Return a pulled document as JSON."""
    return {
        "policy": record.source,
        "repository": record.repository,
        "commit": record.commit,
        "folder": record.folder,
        "policy_name": record.policy,
        "model": record.model,
        "revision": record.revision,
        "num_inference_steps": record.num_inference_steps,
        "bytes": record.size,
        "pulled": record.pulled.isoformat(),
    }


def print_record(record: LockRecord) -> None:
    """Print what to pass as POLICY, and under it the facts."""
    console = data_console()
    console.print(record.source, style="bold", markup=False, soft_wrap=True)
    facts = (
        f"{record.policy} for {record.model} ({short_revision(record.revision)}), "
        f"{record.num_inference_steps} steps, "
        f"{decimal(record.size)}, pulled {record.pulled:%Y-%m-%d}"
    )
    console.print_indented(facts)
