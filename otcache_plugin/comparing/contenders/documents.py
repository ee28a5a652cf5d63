"""The documents that policies are made from in a comparison: those that were named, or found."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otcache_policies import FieldError

from otcache_plugin.enabling.documents import find_document, open_document
from otcache_plugin.enabling.wanted import Wanted
from otcache_plugin.executors.block_arguments import block_arguments
from otcache_plugin.plugins.host import plugin_host
from otcache_plugin.plugins.registries import CalibratedPolicy
from otcache_plugin.runs.mechanism import USUAL, VELOCITY, Mechanism

if TYPE_CHECKING:
    from otcache_registry import StoredPolicy

    from otcache_plugin.comparing.methods import Bench

__all__ = ["Found", "document_for", "require_documents", "wanted"]


@dataclass(frozen=True)
class Found:
    """A document that a policy is made from.

    Attributes:
        stored: the document.
        named: what `policy=` takes for it, None where the policy's name finds it.
    """

    stored: StoredPolicy
    named: str | None

    def is_others(self, policy: str) -> bool:
        """Return whether it was named, and is another policy's, which a name would make this of."""
        return self.named is not None and self.stored.document.policy.name != policy

    @property
    def mechanism(self) -> Mechanism:
        """What its schedules were calibrated on, and are run on.

        Raises:
            ArgumentError: it names no calibrator that there is.
        """
        sampling = self.stored.document.sampling
        return Mechanism(sampling.executor or VELOCITY, sampling.calibrator)

    @property
    def running(self) -> dict[str, Any]:
        """The arguments of `cache_dit.enable_cache` by which a schedule runs on it."""
        if self.mechanism == USUAL:
            return {}
        calls = self.stored.document.sampling.calls_per_step
        executor = self.mechanism.executor
        return {"executor": executor, **block_arguments(self.mechanism, calls)}

    @property
    def digest(self) -> str:
        """Of the document, which holds those of its tables."""
        return hashlib.sha256(self.stored.document.model_dump_json().encode()).hexdigest()


def document_for(policy: str, bench: Bench) -> Found | None:
    """Return the document that a policy is made from on this bench, None where it needs none.

    Raises:
        DocumentNotFoundError: there is none for this model.
        OTCacheError: whatever else keeps it from being read.
    """
    host = plugin_host()
    if not isinstance(host.policy(policy), CalibratedPolicy):
        return None
    serving = host.serving(policy)
    opened = _named(bench)
    for name in serving:
        for found in opened:
            if found.stored.document.policy.name == name:
                return found
    return Found(find_document(bench.pipe, serving, None, wanted(bench)).stored, None)


def wanted(bench: Bench) -> Wanted:
    """Return what a document is to be for."""
    origin = bench.setup.origin
    return Wanted(origin.model, origin.revision, call_arguments=bench.setup.call_arguments)


def require_documents(bench: Bench) -> None:
    """Raise where one that was named cannot be opened, or two of them are for one policy.

    Raises:
        FieldError: there are two.
        OTCacheError: one is not there, or for another model.
    """
    named = Counter(found.stored.document.policy.name for found in _named(bench))
    for policy, count in named.items():
        if count > 1:
            problem = f"{count} are for the policy {policy}, and one alone would be compared"
            remedy = "Name one, and compare the other in a run with another output"
            raise FieldError("document", bench.documents, problem, remedy)


def _named(bench: Bench) -> list[Found]:
    return [
        Found(open_document(bench.pipe, named, wanted(bench)).stored, named)
        for named in bench.documents
    ]
