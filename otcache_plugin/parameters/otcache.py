"""OTCache's parameters: its searched schedules, and how the policy goes on between and above."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, Self

from otcache_policies import EdgeSettings, GramPolicy, GramSettings, OTCachePolicy, Schedule
from otcache_policies.prediction import Warp, constant_warp, vanishing_warp
from otcache_registry import DocumentError, GraphSettings, Part, ScheduleRecord
from otcache_registry.documents.values import Positive
from pydantic import Field, model_validator

from otcache_plugin.parameters.checks import schedules_of
from otcache_plugin.parameters.edge_tables import edge_table, graph_settings
from otcache_plugin.parameters.gram_tables import gram_table, split
from otcache_plugin.parameters.served import ServedBudget
from otcache_plugin.runs.mechanism import VELOCITY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_policies import EdgeTable
    from otcache_registry import Sampling, Tables

MAX_WAYPOINTS = 100


WarpName = Literal["vanishing", "constant"]

WARPS: dict[WarpName, Warp] = {"vanishing": vanishing_warp, "constant": constant_warp}


class OTCacheParameters(Part):
    """What a document of the policy "otcache" holds besides its edge table.

    Attributes:
        anchor: The searched schedule at the smallest budget.
        waypoints: Searched schedules at budgets between, by increasing budget.
        reference: The graph policy's schedule at a larger budget; the anchor, where a single
            schedule was published.
        rho: Exponent of the warp between them, above 0.
        warp: Whether the warp vanishes at the schedules, or is the paper's, constant between them.
        graph: How to read the edge table; None without one, as with published schedules.
        damping: Of the quadratic form, for runs of other noise levels; None without Gram matrices.
        served: How the schedule of each budget was found, by increasing budget; empty where nobody
            said.
    """

    anchor: ScheduleRecord
    waypoints: Annotated[
        tuple[ScheduleRecord, ...], Field(max_length=MAX_WAYPOINTS, fail_fast=True)
    ] = ()
    reference: ScheduleRecord
    rho: Positive
    warp: WarpName = "vanishing"
    graph: GraphSettings | None = None
    damping: Annotated[float, Field(ge=0, le=1)] | None = None
    served: Annotated[
        tuple[ServedBudget, ...], Field(max_length=MAX_WAYPOINTS + 2, fail_fast=True)
    ] = ()

    @classmethod
    def of(
        cls,
        policy: OTCachePolicy,
        damping: float | None = None,
        served: Sequence[ServedBudget] = (),
    ) -> Self:
        """Return the parameters of a policy, and how its schedules were found."""
        return cls(
            anchor=ScheduleRecord.of(policy.anchor),
            waypoints=tuple(map(ScheduleRecord.of, policy.waypoints)),
            reference=ScheduleRecord.of(policy.reference),
            rho=policy.rho,
            warp=next(name for name, warp in WARPS.items() if warp is policy.warp),
            graph=None if policy.edges is None else GraphSettings.of(policy.settings),
            damping=damping,
            served=tuple(served),
        )

    @property
    def records(self) -> tuple[tuple[str, ScheduleRecord], ...]:
        """The schedules by increasing budget, each after its field."""
        waypoints = tuple((f"waypoints.{index}", each) for index, each in enumerate(self.waypoints))
        # A calibrated document, which has a graph, always has two.
        if self.reference == self.anchor and self.graph is None and not waypoints:
            return (("anchor", self.anchor),)
        return (("anchor", self.anchor), *waypoints, ("reference", self.reference))

    @property
    def budgets(self) -> tuple[int, ...]:
        """Budgets of the schedules, increasing."""
        return tuple(record.budget for _, record in self.records)

    def schedules(self, num_inference_steps: int) -> tuple[Schedule, ...]:
        """Return the schedules by increasing budget.

        Raises:
            DocumentError: One of them is none of so many steps.
        """
        return schedules_of(self.records, num_inference_steps)

    @model_validator(mode="after")
    def _check_budgets(self) -> Self:
        for (field, record), (following, larger) in pairwise(self.records):
            if record.budget >= larger.budget:
                steps, remedy = record.computed_steps, f"Use fewer than {larger.budget}"
                problem = f"{len(steps)} steps, not fewer than those of {following}"
                raise DocumentError(f"{field}.computed_steps", steps, problem, remedy)
        return self

    @model_validator(mode="after")
    def _check_served(self) -> Self:
        stated = tuple(each.budget for each in self.served)
        if stated and stated != self.budgets:
            problem, remedy = "not the budgets of the schedules", "Give one of each, in their order"
            raise DocumentError("served", stated, problem, remedy)
        return self


def make(parameters: OTCacheParameters, tables: Tables, sampling: Sampling) -> OTCachePolicy:
    """Make the policy of a document.

    Raises:
        DocumentError: A schedule is none of the document's steps, the tables are no edge table of
            its sampling set-up, or only one of edge table and graph is there.
    """
    schedules = parameters.schedules(sampling.num_inference_steps)
    gram, others = split(tables)
    edges = edge_table(others, sampling) if others else None
    graph = parameters.graph
    if (graph is None) != (edges is None):
        problem, remedy = "an edge table and how to read it come together", "Give both, or neither"
        value = None if graph is None else graph.model_dump()
        raise DocumentError("parameters.graph", value, problem, remedy)
    damping = parameters.damping
    if (damping is None) != (gram is None):
        problem, remedy = "Gram matrices and their damping come together", "Give both, or neither"
        raise DocumentError("parameters.damping", damping, problem, remedy)
    return OTCachePolicy(
        schedules[0],
        schedules[-1],
        rho=parameters.rho,
        edges=edges,
        settings=EdgeSettings() if graph is None or edges is None else graph_settings(graph, edges),
        waypoints=schedules[1:-1],
        warp=WARPS[parameters.warp],
        other_runs=_other_runs(gram, damping, edges, sampling),
    )


def _other_runs(
    gram: Tables | None, damping: float | None, edges: EdgeTable | None, sampling: Sampling
) -> GramPolicy | None:
    """Return what makes schedules for runs of other noise levels.

    It goes by velocities, which tell little of what another executor does on cached steps.
    """
    if gram is None or damping is None or sampling.executor not in (None, VELOCITY):
        return None
    table = gram_table(gram, sampling)
    largest = 1 if edges is None else edges.max_look_back
    return GramPolicy(table, GramSettings(damping, largest))
