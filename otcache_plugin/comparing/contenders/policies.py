"""Every registered policy as a method, whoever registered it, switched on by `policy=`.

They all run on the same executor. Uniform spacing is given the look-backs that a document's edge
table finds best on its segments, where there is one, so that it has the same choices as MeanCache.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import cache_dit
from otcache_policies import (
    BudgetError,
    DecidingPolicy,
    FieldError,
    OTCacheError,
    Schedule,
    SearchedPolicy,
    UniformPolicy,
)
from otcache_registry import DocumentNotFoundError

import otcache_plugin
from otcache_plugin.calibration.evidence.peers import evenly
from otcache_plugin.comparing.methods import Variant
from otcache_plugin.enabling.documents import find_document, open_document
from otcache_plugin.enabling.executing import prepared
from otcache_plugin.enabling.planning import make_plan
from otcache_plugin.enabling.wanted import Wanted
from otcache_plugin.enabling.without_document import calibrate_command
from otcache_plugin.errors import PipelineError
from otcache_plugin.executors.schedulers import Substitute, supported_substitute
from otcache_plugin.executors.serving import require_velocity
from otcache_plugin.patch import DISABLE
from otcache_plugin.pipelines.parts import find_scheduler
from otcache_plugin.plugins.host import plugin_host
from otcache_plugin.plugins.registries import CalibratedPolicy, UncalibratedDecidingPolicy
from otcache_plugin.runs.plan import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from diffusers import DiffusionPipeline
    from otcache_policies import MeanCachePolicy
    from otcache_registry import StoredPolicy

    from otcache_plugin.comparing.methods import Bench, Method

UNIFORM, MEANCACHE, OTCACHE = "uniform", "meancache", "otcache"

LABELS = {
    OTCACHE: "OTCache",
    MEANCACHE: "MeanCache",
    UNIFORM: "uniform",
    "lemica": "LeMiCa",
    "recache": "ReCache",
    "budcache": "BudCache",
    "direct": "direct search",
    "teacache": "TeaCache",
    "dicache": "DiCache",
}
"""What people call policies; one that is not here is called by its name."""

PREDICTED = "predicted"
"""Said of a schedule of a policy that is searched for, at a budget where nothing was searched."""


def policy_methods() -> list[Method]:
    """Return every registered policy as a method: OTCache, MeanCache, uniform, then the others."""
    first = (OTCACHE, MEANCACHE)
    others = [name for name in plugin_host().policies if name not in (*first, UNIFORM)]
    return [*map(PolicyMethod, first), EvenSpacing(), *map(PolicyMethod, others)]


@dataclass(frozen=True)
class PolicyMethod:
    """A registered policy.

    Attributes:
        name: of the policy.
    """

    name: str

    @property
    def label(self) -> str:
        """See `Method`."""
        return LABELS.get(self.name, self.name)

    def refusal(self, bench: Bench) -> str | None:
        """See `Method`: a calibrated policy needs a document for this model."""
        try:
            arguments = self._arguments(bench, bench.budgets[0])
            request = Request(arguments.get("budget"), arguments.get("speedup"))
            host = plugin_host()
            plan = make_plan(host, bench.pipe, arguments["policy"], request, wanted(bench))
            prepared(host, bench.pipe, plan, None, {})
        except DocumentNotFoundError as error:
            return f"{error.problem}. {self._to_calibrate(bench)}"
        except BudgetError:
            return None  # Some budgets may be served, and those that are not are listed.
        except OTCacheError as error:
            return str(error)
        return None

    def _to_calibrate(self, bench: Bench) -> str:
        serving = plugin_host().serving(self.name)[-1]
        if not plugin_host().can_calibrate(serving):
            return "Nothing that is installed calibrates it"
        return f"Calibrate it: {calibrate_command(bench.pipe, serving, wanted(bench))}"

    def variants(self, bench: Bench) -> list[Variant]:
        """See `Method`: one at each budget, which a policy that decides can but aim at."""
        found = document_for(self.name, bench)
        rests_on = "" if found is None else found.digest
        if self._decides(found):
            return [
                Variant(self.name, f"aims at {budget} steps", None, rests_on)
                for budget in bench.budgets
            ]
        searched = None if found is None else _searched(found, self.name, bench)
        return [
            Variant(
                self.name,
                f"{budget} steps"
                if searched is None or budget in searched
                else f"{budget} steps, {PREDICTED}",
                budget,
                rests_on,
            )
            for budget in bench.budgets
        ]

    def _decides(self, found: Found | None) -> bool:
        if found is None:
            return isinstance(plugin_host().policy(self.name), UncalibratedDecidingPolicy)
        return isinstance(plugin_host().policy_of(found.stored, self.name), DecidingPolicy)

    @contextmanager
    def enabled(self, bench: Bench, variant: Variant) -> Iterator[Mapping[str, Any]]:
        """See `Method`."""
        budget = bench.budgets[self.variants(bench).index(variant)]
        with policy_enabled(bench.pipe, self._arguments(bench, budget)):
            yield {}

    def _arguments(self, bench: Bench, budget: int) -> dict[str, Any]:
        """Return the arguments of `cache_dit.enable_cache` for so many computed steps."""
        found = document_for(self.name, bench)
        if found is not None and found.is_others(self.name):
            policy = plugin_host().policy_of(found.stored, self.name)
            assert not isinstance(policy, DecidingPolicy), "it is made of a static one's"
            return {"policy": policy.schedule(budget)}
        asked: dict[str, Any] = {"budget": budget}
        steps = bench.num_inference_steps
        if found is not None and found.stored.document.num_inference_steps != steps:
            # A budget is one of the document's steps, a speed-up of whatever steps a run has.
            asked = {"speedup": steps / budget}
        if found is not None and found.named is not None:
            return {"policy": found.named, **asked}
        origin = bench.setup.origin
        return {"policy": self.name, **asked, "model": origin.model, "revision": origin.revision}

    def calibration_steps(self, bench: Bench, variant: Variant) -> int | None:
        """See `Method`; of what another policy's document cost it is unknown which part it took."""
        found = document_for(self.name, bench)
        if found is None:
            return 0
        document = found.stored.document
        if document.policy.name != self.name or document.calibration is None:
            return None
        return document.calibration.denoising_steps


class EvenSpacing:
    """Evenly spaced steps, with the look-backs of a document's edge table where there is one."""

    name = UNIFORM
    label = LABELS[UNIFORM]

    def refusal(self, bench: Bench) -> str | None:
        """See `Method`."""
        try:
            require_velocity(bench.pipe)
        except PipelineError as error:
            return f"{error.problem}. {error.remedy}"
        return None

    def variants(self, bench: Bench) -> list[Variant]:
        """See `Method`."""
        schedules = [self.schedule(bench, budget) for budget in bench.budgets]
        return [
            Variant(UNIFORM, f"{schedule.budget} steps", schedule.budget, str(schedule.look_backs))
            for schedule in schedules
        ]

    @contextmanager
    def enabled(self, bench: Bench, variant: Variant) -> Iterator[Mapping[str, Any]]:
        """See `Method`."""
        assert variant.budget is not None, "its variants have budgets"
        with policy_enabled(bench.pipe, {"policy": self.schedule(bench, variant.budget)}):
            yield {}

    def schedule(self, bench: Bench, budget: int) -> Schedule:
        """Return what it computes at a budget."""
        graph = _graph(bench)
        if graph is None:
            return evenly_spaced(bench.pipe, bench.num_inference_steps, budget)
        return evenly(graph.edges, graph.settings)(budget)

    def calibration_steps(self, bench: Bench, variant: Variant) -> int | None:
        """See `Method`; of a document's cost it is unknown which part its edge table took."""
        return 0 if _graph(bench) is None else None


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
    opened = [
        Found(open_document(bench.pipe, named, wanted(bench)).stored, named)
        for named in bench.documents
    ]
    for name in serving:
        for found in opened:
            if found.stored.document.policy.name == name:
                return found
    return Found(find_document(bench.pipe, serving, None, wanted(bench)).stored, None)


def _searched(found: Found, name: str, bench: Bench) -> frozenset[int] | None:
    """Return the budgets that were searched, None of a policy that is not searched by budgets."""
    policy = plugin_host().policy_of(found.stored, name)
    if not isinstance(policy, SearchedPolicy):
        return None
    if policy.num_inference_steps != bench.num_inference_steps:
        return frozenset()
    return frozenset(each.budget for each in policy.schedules)


def wanted(bench: Bench) -> Wanted:
    """Return what a document is to be for."""
    origin = bench.setup.origin
    return Wanted(origin.model, origin.revision, call_arguments=bench.setup.call_arguments)


def _graph(bench: Bench) -> MeanCachePolicy | None:
    """Return MeanCache's policy for runs of these steps, None where there is no document of one."""
    try:
        found = document_for(MEANCACHE, bench)
        assert found is not None, "MeanCache is made from documents"
        policy = cast("MeanCachePolicy", plugin_host().policy_of(found.stored, MEANCACHE))
    except OTCacheError:
        return None
    return policy if policy.num_inference_steps == bench.num_inference_steps else None


def evenly_spaced(pipe: DiffusionPipeline, num_inference_steps: int, budget: int) -> Schedule:
    """Return what `policy="uniform"` computes, but without looking back where that is not possible.

    Only Euler's steps leave room for it.
    """
    euler = supported_substitute(find_scheduler(pipe)) is Substitute.AVERAGE_VELOCITY
    return UniformPolicy(num_inference_steps, look_back=2 if euler else 1).schedule(budget)


def require_installed() -> None:
    """Raise FieldError where `cache_dit.enable_cache` has no `policy=`."""
    if not otcache_plugin.is_installed():
        problem = "cache_dit.enable_cache, which is compared, has no policy= now"
        raise FieldError(DISABLE, os.environ.get(DISABLE), problem, f"Unset {DISABLE}")


@contextmanager
def policy_enabled(pipe: DiffusionPipeline, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Switch on inside the block what the arguments say, by the calls that a user would make."""
    cache_dit.enable_cache(pipe, **arguments)
    try:
        yield
    finally:
        cache_dit.disable_cache(pipe)
