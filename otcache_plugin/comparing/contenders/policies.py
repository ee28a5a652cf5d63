"""Every registered policy as a method, whoever registered it, switched on by `policy=`.

Each runs on what its document was calibrated on, and says so where that is not the executor
`velocity`. Uniform spacing runs on what MeanCache's does, and is given the look-backs that its edge
table finds best, where there is one, so that it has the same choices.
"""

from __future__ import annotations

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
from otcache_plugin.comparing.contenders.documents import Found, document_for, wanted
from otcache_plugin.comparing.methods import Variant
from otcache_plugin.enabling.executing import prepared
from otcache_plugin.enabling.planning import make_plan
from otcache_plugin.enabling.without_document import calibrate_command
from otcache_plugin.errors import PipelineError
from otcache_plugin.executors.block_lists import find_block_lists
from otcache_plugin.executors.schedulers import Substitute, supported_substitute
from otcache_plugin.executors.serving import require_velocity
from otcache_plugin.patch import DISABLE
from otcache_plugin.pipelines.parts import find_scheduler
from otcache_plugin.plugins.host import plugin_host
from otcache_plugin.plugins.registries import UncalibratedDecidingPolicy
from otcache_plugin.runs.mechanism import USUAL
from otcache_plugin.runs.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from diffusers import DiffusionPipeline
    from otcache_policies import MeanCachePolicy

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
        if plugin_host().calibrator(serving).decides:
            try:
                find_block_lists(bench.pipe)
            except PipelineError as error:
                return f"None can be calibrated: {error.problem}"
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
        predicted = frozenset[int]() if found is None else self._predicted(bench, found)
        return [
            Variant(self.name, setting(budget, found, budget in predicted), budget, rests_on)
            for budget in bench.budgets
        ]

    def _predicted(self, bench: Bench, found: Found) -> frozenset[int]:
        """Return the budgets at which a policy that is searched for was not searched."""
        policy = plugin_host().policy_of(found.stored, self.name)
        if not isinstance(policy, SearchedPolicy):
            return frozenset()
        same_steps = policy.num_inference_steps == bench.num_inference_steps
        searched = {each.budget for each in policy.schedules} if same_steps else set[int]()
        return frozenset(bench.budgets) - searched

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
            return {"policy": policy.schedule(budget), **found.running}
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
        found, _ = _graph(bench)
        return [
            Variant(
                UNIFORM,
                setting(budget, found),
                budget,
                str(self.schedule(bench, budget).look_backs),
            )
            for budget in bench.budgets
        ]

    @contextmanager
    def enabled(self, bench: Bench, variant: Variant) -> Iterator[Mapping[str, Any]]:
        """See `Method`."""
        assert variant.budget is not None, "its variants have budgets"
        found, _ = _graph(bench)
        running = {} if found is None else found.running
        schedule = self.schedule(bench, variant.budget)
        with policy_enabled(bench.pipe, {"policy": schedule, **running}):
            yield {}

    def schedule(self, bench: Bench, budget: int) -> Schedule:
        """Return what it computes at a budget."""
        _, graph = _graph(bench)
        if graph is None:
            return evenly_spaced(bench.pipe, bench.num_inference_steps, budget)
        return evenly(graph.edges, graph.settings)(budget)

    def calibration_steps(self, bench: Bench, variant: Variant) -> int | None:
        """See `Method`; of a document's cost it is unknown which part its edge table took."""
        found, _ = _graph(bench)
        return 0 if found is None else None


def setting(budget: int, found: Found | None, predicted: bool = False) -> str:
    """Return a budget for people, with what a schedule of a document runs on that is not usual."""
    words = [f"{budget} steps"]
    if predicted:
        words.append(PREDICTED)
    if found is not None and found.mechanism != USUAL:
        words.append(f"on {found.mechanism}")
    return ", ".join(words)


def _graph(bench: Bench) -> tuple[Found, MeanCachePolicy] | tuple[None, None]:
    """Return MeanCache's policy for runs of these steps and its document, where there is one."""
    try:
        found = document_for(MEANCACHE, bench)
        assert found is not None, "MeanCache is made from documents"
        policy = cast("MeanCachePolicy", plugin_host().policy_of(found.stored, MEANCACHE))
    except OTCacheError:
        return None, None
    if policy.num_inference_steps != bench.num_inference_steps:
        return None, None
    return found, policy


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
