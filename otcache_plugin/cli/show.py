"""`otcache show`: a policy document for people, with its schedules drawn."""

from __future__ import annotations

import math
from datetime import timedelta
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from otcache_plugin.cli.common.output import Json, Quiet, print_json
from otcache_plugin.cli.common.policy_argument import PolicyArgument, load_policy, policy_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otcache_policies import Policy, Schedule
    from otcache_registry import EvidenceRow, PolicyDocument, StoredPolicy

SIGNS = {"all": "█", "some": "▒", "none": "·"}


def show(
    policy: PolicyArgument,
    budget: Annotated[
        int | None, typer.Option(help="Show the schedule of this budget alone.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show a policy document: its model, schedules, evidence and cost."""
    stored = load_policy(policy, quiet)
    made = policy_of(stored)
    chosen = None if budget is None else made.schedule(budget)
    if json:
        print_json(_data(stored, chosen))
        return
    console = Console(highlight=False)
    console.print(stored.source, style="bold", markup=False, soft_wrap=True)
    console.print(_facts(stored.document, made))
    if chosen is not None:
        _print_schedule(console, chosen)
        return
    _print_schedules(console, stored.document, made)
    _print_evidence(console, stored.document)
    console.print(_origin(stored.document))


def _data(stored: StoredPolicy, chosen: Schedule | None) -> dict[str, Any]:
    document = stored.document.model_dump(mode="json", by_alias=True)
    schedule = {} if chosen is None else {"schedule": chosen.to_dict()}
    return {"source": stored.source, **schedule, **document}


def _facts(document: PolicyDocument, policy: Policy) -> Table:
    model, sampling = document.model, document.sampling
    table = _grid()
    table.add_row("model", escape(model.id))
    table.add_row("revision", escape(model.revision or "any"))
    table.add_row("pipeline", escape(f"{sampling.pipeline}, {sampling.scheduler}"))
    size = ""
    if sampling.width is not None and sampling.height is not None:
        size = f", {sampling.width} × {sampling.height} pixels"
    guidance = "".join(f", {name} {value:g}" for name, value in sampling.guidance.items())
    table.add_row("sampling", escape(f"{sampling.num_inference_steps} steps{size}{guidance}"))
    default = f"{document.default_budget} unless asked for another"
    table.add_row("budgets", f"{policy.budgets}; {default}")
    return table


def _print_schedules(console: Console, document: PolicyDocument, policy: Policy) -> None:
    rows = list(_schedules(document, policy))
    width = max(console.width - 17, 10)
    console.print(f"\n[bold]schedules[/]  {_legend(document.num_inference_steps, width)}")
    for kind, schedule in rows:
        console.print(f"{schedule.budget:>4}  {kind:<9}  {draw(schedule, width)}", soft_wrap=True)


def _print_schedule(console: Console, schedule: Schedule) -> None:
    width = max(console.width - 12, 10)
    console.print(f"\n[bold]schedule[/]  {_legend(schedule.num_inference_steps, width)}")
    table = _grid()
    table.add_row(f"{schedule.budget} steps", draw(schedule, width))
    table.add_row("computed", " ".join(map(str, schedule.computed_steps)))
    table.add_row("look-backs", " ".join(map(str, schedule.look_backs)))
    table.add_row("speed-up", f"{schedule.speedup:.2f} at most")
    console.print(table)


def _schedules(document: PolicyDocument, policy: Policy) -> Iterator[tuple[str, Schedule]]:
    """The document's schedules, and between each two of them one that is predicted."""
    records = (document.anchor, *document.waypoints, document.reference)
    kinds = ["anchor", *("waypoint" for _ in document.waypoints), "reference"]
    kept = {
        record.schedule(document.num_inference_steps): kind
        for kind, record in zip(kinds, records, strict=True)
    }
    calibrated = document.calibrated_budgets
    between = {(low + high) // 2 for low, high in pairwise(calibrated)}
    for budget in sorted(between.union(calibrated)):
        if budget in policy.budgets:
            schedule = policy.schedule(budget)
            yield kept.get(schedule, "predicted"), schedule


def draw(schedule: Schedule, width: int) -> str:
    """Draw a schedule with no more signs than fit; each then stands for several steps."""
    mask, group = schedule.mask, _steps_per_sign(schedule.num_inference_steps, width)
    return "".join(_sign(mask[start : start + group]) for start in range(0, len(mask), group))


def _sign(computed: tuple[bool, ...]) -> str:
    return SIGNS["all" if all(computed) else "some" if any(computed) else "none"]


def _steps_per_sign(num_inference_steps: int, width: int) -> int:
    return math.ceil(num_inference_steps / width)


def _legend(num_inference_steps: int, width: int) -> str:
    group = _steps_per_sign(num_inference_steps, width)
    if group == 1:
        return "█ computed step, · cached step"
    return f"each sign is {group} steps: █ all of them computed, ▒ some, · none"


def _print_evidence(console: Console, document: PolicyDocument) -> None:
    rows = document.evidence
    console.print()
    if not rows:
        return
    pairs = sorted({row.pairs for row in rows})
    count = str(pairs[0]) if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    console.print(
        f"[bold]evidence[/]  means over {count} held-out pairs; in brackets the 95 % confidence "
        "interval of the difference on the same pairs"
    )
    for metric in dict.fromkeys(row.metric for row in rows):
        of_metric = [row for row in rows if row.metric == metric]
        console.print(_evidence_table(metric, of_metric, document.name))
        console.print()


def _evidence_table(metric: str, rows: list[EvidenceRow], own: str) -> Table:
    """Return a line per budget, a column per policy, and how the document's own compares."""
    decimals = _decimals(median(row.standard_error for row in rows))
    policies = list(dict.fromkeys(row.policy for row in rows))
    by_place = {(row.budget, row.policy): row for row in rows}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(escape(metric), justify="right", style="bold")
    for policy in policies:
        table.add_column(escape(policy), justify="right")
    compared = next((row.compared_to for row in rows if row.policy == own), None)
    if compared is not None:
        table.add_column(escape(f"{own} − {compared}"), justify="right")
    for budget in sorted({row.budget for row in rows}):
        cells = [_mean(by_place.get((budget, policy)), decimals) for policy in policies]
        if compared is not None:
            cells.append(_difference(by_place.get((budget, own)), decimals))
        table.add_row(str(budget), *cells)
    return table


def _mean(row: EvidenceRow | None, decimals: int) -> str:
    return "" if row is None else f"{row.mean:.{decimals}f}"


def _difference(row: EvidenceRow | None, decimals: int) -> str:
    if row is None or row.difference_mean is None:
        return ""
    low, high = (f"{value:+.{decimals}f}" for value in (row.difference_low, row.difference_high))
    return escape(f"{row.difference_mean:+.{decimals}f} [{low}, {high}]")


def _decimals(error: float) -> int:
    """Decimal places that show two significant digits of a standard error, 2 to 12."""
    return min(max(1 - math.floor(math.log10(error)), 2), 12) if error > 0 else 2


def _origin(document: PolicyDocument) -> Table:
    """Return how the document came about: calibrated, or published by others."""
    table = _grid()
    published, calibration = document.published, document.calibration
    if published is not None:
        table.add_row("published", escape(f"by {published.authors}, for {published.setting}"))
        table.add_row("", escape(published.source))
        table.add_row("", escape(published.paper))
        table.add_row("evidence", "none: the schedules are passed on as they were published")
    if calibration is not None:
        table.add_row("calibrated", escape(f"{calibration.created} on {calibration.device}"))
        search = f"{calibration.search}, by {calibration.metric}, {calibration.trials} trials"
        table.add_row("search", escape(search))
        table.add_row(
            "pairs",
            f"{calibration.pairs}, seed {calibration.seed}, batches of {calibration.batch_size}",
        )
        table.add_row(
            "cost",
            f"{calibration.evaluations:,} schedules run, {calibration.transformer_calls:,} "
            f"transformer calls, {timedelta(seconds=round(calibration.seconds))} hours",
        )
        versions = ", ".join(f"{name} {number}" for name, number in calibration.libraries.items())
        table.add_row("versions", escape(versions))
    return table


def _grid() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table
