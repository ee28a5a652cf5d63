"""What the commands that take a POLICY share: the argument, its document, the policy it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from otcache_plugin.cli.common.output import transfer_progress

if TYPE_CHECKING:
    from pathlib import Path

    from otcache_policies import Policy
    from otcache_registry import StoredPolicy

PolicyArgument = Annotated[
    str,
    typer.Argument(
        metavar="POLICY",
        help="A document's folder, bundled:NAME, or hub:user/name[@revision][#folder].",
    ),
]


def load_policy(text: str, quiet: bool) -> StoredPolicy:
    """Read the document that a text names, pulling it from the Hub if it has to be.

    Raises:
        FieldError: there is none, or it cannot be read or pulled.
    """
    from otcache_registry.documents.references import parse_reference
    from otcache_registry.finding.loading import load_reference

    with transfer_progress("pulling", quiet) as progress:
        return load_reference(parse_reference(text), progress=progress)


def policy_of(stored: StoredPolicy) -> Policy:
    """Make the policy that a document is for.

    Raises:
        UnknownNameError: the document's policy is not installed.
        DocumentError: the document is not valid for its policy, or that has no schedules because
            it decides at every step of a run.
    """
    from otcache_policies import DecidingPolicy
    from otcache_registry import DocumentError

    from otcache_plugin.plugins.host import plugin_host

    made = plugin_host().policy_of(stored)
    if isinstance(made, DecidingPolicy):
        problem = "a policy that decides at every step of a run, so it has no schedules to show"
        remedy = "Enable it on a pipeline with policy=…; otcache_plugin.summary tells what it did"
        raise DocumentError("policy.name", made.name, problem, remedy)
    return made


def require_valid(folder: Path) -> None:
    """Check a document by making its policy, unless that is not installed.

    Raises:
        FieldError: there is none, or it is refused.
    """
    from otcache_registry import read_policy

    from otcache_plugin.plugins.host import plugin_host

    host, stored = plugin_host(), read_policy(folder)
    if stored.document.policy.name in host.policies:
        host.policy_of(stored)
        host.describe(stored.document)


def short_revision(revision: str | None) -> str:
    """Return a revision in few characters: 12 of a commit or digest, others as they are."""
    if revision is None:
        return "any revision"
    is_digest = len(revision) >= 40 and not revision.strip("0123456789abcdef")
    return revision[:12] if is_digest else revision
