"""`otcache show`: a policy document for people, with its schedules drawn."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from otcache_plugin.cli.common.output import Json, Quiet, data_console, print_json
from otcache_plugin.cli.common.policy_argument import PolicyArgument, load_policy, policy_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otcache_policies import Policy, Schedule
    from otcache_registry import EvidenceRow, PolicyDetails, PolicyDocument, StoredPolicy


def show(
    policy: PolicyArgument,
    budget: Annotated[
        int | None, typer.Option(help="Show the schedule of this budget alone.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show a policy document: its model, schedules, evidence and cost."""
    from otcache_policies import Policy

    from otcache_plugin.plugins.host import plugin_host

    host = plugin_host()
    stored = load_policy(policy, quiet)
    document = stored.document
    chosen = None if budget is None else policy_of(stored).schedule(budget)
    if json:
        print_json(_data(stored, chosen))
        return
    console = data_console()
    console.print(stored.source, style="bold", markup=False, soft_wrap=True)
    console.print(_facts(document))
    if chosen is not None:
        _print_schedule(console, chosen)
        return
    details = host.describe(document)
    made = host.policy_of(stored) if document.policy.name in host.policies else None
    if isinstance(made, Policy):
        _print_schedules(console, document, made, details)
    _print_evidence(console, document)
    console.print(_origin(document, details))


def _data(stored: StoredPolicy, chosen: Schedule | None) -> dict[str, Any]:
    document = stored.document.model_dump(mode="json", by_alias=True)
    schedule = {} if chosen is None else {"schedule": chosen.to_dict()}
    return {"source": stored.source, **schedule, **document}


def _facts(document: PolicyDocument) -> Table:
    model, sampling = document.model, document.sampling
    table = _grid()
    table.add_row("policy", escape(_policy(document)))
    table.add_row("model", escape(model.id))
    table.add_row("revision", escape(model.revision or "any"))
    table.add_row("pipeline", escape(f"{sampling.pipeline}, {sampling.scheduler}"))
    size = ""
    if sampling.width is not None and sampling.height is not None:
        size = f", {sampling.width} × {sampling.height} pixels"
    guidance = "".join(f", {name} {value:g}" for name, value in sampling.guidance.items())
    table.add_row("sampling", escape(f"{sampling.num_inference_steps} steps{size}{guidance}"))
    if sampling.executor is not None:
        by = "" if sampling.calibrator is None else f" with {sampling.calibrator}"
        table.add_row("executor", escape(f"{sampling.executor}{by}"))
    table.add_row("budgets", _budgets(document))
    return table


def _policy(document: PolicyDocument) -> str:
    """Return the document's policy, and what to do where it is not installed."""
    from otcache_plugin.errors import UnknownNameError
    from otcache_plugin.plugins.host import plugin_host

    try:
        plugin_host().calibrated_policy(document)
    except UnknownNameError as error:
        return f"{document.policy.name}, not installed. {error.remedy}"
    return document.policy.name


def _budgets(document: PolicyDocument) -> str:
    served = document.budgets
    if served is None:
        return "decided during the run"
    from otcache_policies import Budgets

    budgets = Budgets(served.smallest, served.largest, document.num_inference_steps)
    return f"{budgets}; {document.default_budget} unless asked for another"


def _print_schedules(
    console: Console, document: PolicyDocument, policy: Policy, details: PolicyDetails
) -> None:
    from otcache_registry import draw_schedule

    rows = list(_schedules(document, policy, details))
    if not details.heading:
        _print_named(console, document.num_inference_steps, rows)
        return
    headings = ["budget", details.heading, *(column.heading for column in details.columns)]
    # A heading wraps between its words, and no cell does.
    widths = [
        max(map(len, [*heading.split(), *(row[index] for row, _ in rows)]))
        for index, heading in enumerate(headings)
    ]
    width = max(console.width - sum(widths) - 2 * len(widths), 10)
    console.print(f"\n[bold]schedules[/]  {_legend(document.num_inference_steps, width)}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, (heading, wide) in enumerate(zip(headings, widths, strict=True)):
        table.add_column(escape(heading), justify="left" if index == 1 else "right", width=wide)
    table.add_column("schedule", no_wrap=True)
    for row, schedule in rows:
        table.add_row(*map(escape, row), draw_schedule(schedule, width))
    console.print(table, soft_wrap=True)


def _print_named(
    console: Console, num_inference_steps: int, rows: list[tuple[tuple[str, ...], Schedule]]
) -> None:
    """Print schedules of which nothing is said but what they are."""
    from otcache_registry import draw_schedule

    width = max(console.width - 17, 10)
    console.print(f"\n[bold]schedules[/]  {_legend(num_inference_steps, width)}")
    for (budget, kind), schedule in rows:
        drawing = draw_schedule(schedule, width)
        console.print(f"{budget:>4}  {kind:<9}  {drawing}", soft_wrap=True)


def _print_schedule(console: Console, schedule: Schedule) -> None:
    from otcache_registry import draw_schedule

    width = max(console.width - 12, 10)
    console.print(f"\n[bold]schedule[/]  {_legend(schedule.num_inference_steps, width)}")
    table = _grid()
    table.add_row(f"{schedule.budget} steps", draw_schedule(schedule, width))
    table.add_row("computed", " ".join(map(str, schedule.computed_steps)))
    table.add_row("look-backs", " ".join(map(str, schedule.look_backs)))
    table.add_row("speed-up", f"{schedule.speedup:.2f} at most")
    console.print(table)


def _schedules(
    document: PolicyDocument, policy: Policy, details: PolicyDetails
) -> Iterator[tuple[tuple[str, ...], Schedule]]:
    """Go through the document's schedules, and between each two of them another one.

    Each comes after its budget, what it is, and what else is said of it.
    """
    kept = {
        schedule: (label, *(column.cells[index] for column in details.columns))
        for index, (label, schedule) in enumerate(details.schedules)
    }
    other = (details.others, *[""] * len(details.columns))
    # A policy that was calibrated as a whole shows its smallest budget and its usual one.
    usual = policy.budgets.smallest, document.require_default_budget()
    calibrated = document.calibrated_budgets or tuple(sorted(set(usual)))
    between = {(low + high) // 2 for low, high in pairwise(calibrated)}
    for budget in sorted(between.union(calibrated)):
        if budget in policy.budgets:
            schedule = policy.schedule(budget)
            yield (str(budget), *kept.get(schedule, other)), schedule


def _legend(num_inference_steps: int, width: int) -> str:
    from otcache_registry.documents.drawing import steps_per_sign

    group = steps_per_sign(num_inference_steps, width)
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
        console.print(_evidence_table(metric, of_metric, document.policy.name))
        console.print()
    _print_decided(console, rows)


def _print_decided(console: Console, rows: Sequence[EvidenceRow]) -> None:
    """Print what a policy that decides came to at the budgets that it aims at."""
    came_to = {row.budget: row for row in rows if row.computed_steps is not None}
    for budget in sorted(came_to):
        row = came_to[budget]
        share = "" if row.block_share is None else f", {row.block_share:.0%} of all blocks"
        console.print(f"aiming at {budget}: {row.computed_steps:.1f} steps computed{share}")
    if came_to:
        console.print()


def _evidence_table(metric: str, rows: list[EvidenceRow], own: str) -> Table:
    """Return a line per budget, a column per policy, and how the document's own compares."""
    from otcache_registry.documents.evidence import decimals

    places = decimals(rows)
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
        cells = [_mean(by_place.get((budget, policy)), places) for policy in policies]
        if compared is not None:
            cells.append(_difference(by_place.get((budget, own)), places))
        table.add_row(str(budget), *cells)
    return table


def _mean(row: EvidenceRow | None, places: int) -> str:
    return "" if row is None else f"{row.mean:.{places}f}"


def _difference(row: EvidenceRow | None, places: int) -> str:
    if row is None or row.difference_mean is None:
        return ""
    low, high = (f"{value:+.{places}f}" for value in (row.difference_low, row.difference_high))
    return escape(f"{row.difference_mean:+.{places}f} [{low}, {high}]")


def _origin(document: PolicyDocument, details: PolicyDetails) -> Table:
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
        table.add_row("metric", escape(calibration.metric))
        for subject, text in details.calibration:
            table.add_row(escape(subject), escape(text))
        table.add_row(
            "pairs",
            f"{calibration.pairs}, seed {calibration.seed}, batches of {calibration.batch_size}",
        )
        table.add_row(
            "cost",
            f"{calibration.denoising_steps:,} denoising steps, and "
            f"{calibration.evidence_steps:,} for the evidence",
        )
        table.add_row(
            "",
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
