"""`otcache verify`: is a document whole, and does its evidence come out again."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from otcache_plugin.cli.common.checks import Check, mark, print_checks
from otcache_plugin.cli.common.output import (
    Json,
    Quiet,
    StageProgress,
    data_console,
    import_libraries,
    print_hint,
    print_json,
)
from otcache_plugin.cli.common.policy_argument import PolicyArgument, load_policy
from otcache_plugin.errors import ArgumentError

if TYPE_CHECKING:
    from otcache_registry import PolicyDocument, StoredPolicy
    from otcache_registry.store.lock_record import LockRecord

    from otcache_plugin.calibration.evidence.replay import Replay
    from otcache_plugin.calibration.measuring.facts import ModelFacts
    from otcache_plugin.models.setups import ModelSetup
    from otcache_plugin.models.source import ModelSource


def verify(
    policy: PolicyArgument,
    replay: Annotated[
        int | None,
        typer.Option(metavar="N", help="Run N held-out pairs again, made up to whole batches."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="With --replay: the model's weights.")
    ] = None,
    evaluation_prompts: Annotated[
        Path | None, typer.Option(help="With --replay: the held-out prompts that were used.")
    ] = None,
    call: Annotated[
        str, typer.Option(help="With --replay: JSON of further pipeline call arguments.")
    ] = "{}",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check that a document is whole, and with --replay that its evidence holds."""
    if replay is not None and replay < 2:
        raise ArgumentError("replay", replay, "too few pairs for a mean", "Use 2 or more")
    checks, stored = check_files(policy, quiet)
    replayed = None
    if stored is not None and replay is not None:
        source = _model_source(stored.document, model, evaluation_prompts, call)
        replayed = _replay(stored, source, replay, quiet)
    ok = all(check.ok for check in checks) and (replayed is None or replayed.agrees)
    if json:
        print_json(
            {
                "ok": ok,
                "source": policy if stored is None else stored.source,
                "checks": [asdict(check) for check in checks],
                "replay": None if replayed is None else _replay_data(replayed),
            }
        )
    else:
        print_checks(checks)
        if replayed is not None:
            _print_replay(replayed)
    if not ok:
        raise typer.Exit(1)


def check_files(policy: str, quiet: bool) -> tuple[list[Check], StoredPolicy | None]:
    """Hash what there is of a document, and read it unless something is damaged.

    Raises:
        FieldError: there is no such document, or it has to be pulled and cannot be.
    """
    from otcache_registry import DocumentError

    checks = _pulled_files(policy)
    if not all(check.ok for check in checks):
        return checks, None
    try:
        stored = load_policy(policy, quiet)
    except DocumentError as error:
        return [*checks, Check("document", False, str(error))], None
    document = stored.document
    checks = _pulled_files(stored.source)
    checks.append(Check("document", True, f"valid by {document.schema_}"))
    if document.tables_sha256 is not None:
        finding = f"SHA-256 {document.tables_sha256[:12]}…, as in the document"
        checks.append(Check("tables", True, finding))
    checks.append(_policy_check(stored))
    return checks, stored


def _policy_check(stored: StoredPolicy) -> Check:
    """Make the policy of a document, unless it is not installed."""
    from otcache_registry import DocumentError

    from otcache_plugin.errors import UnknownNameError
    from otcache_plugin.plugins.host import plugin_host

    host, name = plugin_host(), stored.document.policy.name
    try:
        host.policy_of(stored)
        host.describe(stored.document)
    except UnknownNameError as error:
        return Check("policy", True, f"{name} was not checked: {error.problem}. {error.remedy}")
    except DocumentError as error:
        return Check("policy", False, str(error))
    return Check("policy", True, f"{name} takes its parameters")


def _pulled_files(policy: str) -> list[Check]:
    """Compare the store's files of a document with their digests in its lock record."""
    from otcache_registry.documents.references import HubReference, parse_reference
    from otcache_registry.store.store import PolicyStore

    reference = parse_reference(policy)
    if not isinstance(reference, HubReference):
        return []
    store = PolicyStore()
    return [
        _pulled_check(record, store.verify(record))
        for record in store.records()
        if record.repository == reference.repository
        and reference.commit in (None, record.commit)
        and reference.folder in (None, record.folder)
    ]


def _pulled_check(record: LockRecord, damaged: tuple[str, ...]) -> Check:
    finding = f"all {len(record.files)} have the SHA-256 of when they were pulled"
    if damaged:
        finding = f"{', '.join(damaged)} damaged. Run: otcache pull '{record.source}'"
    return Check("files", not damaged, f"{record.source}: {finding}")


def _model_source(
    document: PolicyDocument, model: Path | None, evaluation_prompts: Path | None, call: str
) -> ModelSource:
    """Return where the model of a replay comes from, and how it is called.

    Raises:
        ArgumentError: the prompts are not those of the evidence.
        DocumentError: the evidence cannot be replayed.
    """
    from otcache_plugin.calibration.evidence.replay import stated_pairs
    from otcache_plugin.models.setups import SETUPS
    from otcache_plugin.models.source import ModelSource
    from otcache_plugin.prompts import files

    stated_pairs(document)
    model_id, revision = document.model.id, document.model.revision
    if model is None and model_id in SETUPS:
        return ModelSource(model_id, evaluation_prompts=evaluation_prompts, call=call)
    prompts = (
        files.evaluation_prompts()
        if evaluation_prompts is None
        else files.read_prompts(evaluation_prompts, "evaluation_prompts")
    )
    _require_prompts(document, prompts.digest, evaluation_prompts)
    return ModelSource(
        model_id if model is None else str(model),
        revision,
        evaluation_prompts=evaluation_prompts,
        call=_call_arguments(document, call),
    )


def _require_prompts(document: PolicyDocument, digest: str, file: Path | None) -> None:
    expected = document.calibration.held_out_digest if document.calibration else None
    if digest != expected:
        raise ArgumentError(
            "evaluation_prompts",
            None if file is None else str(file),
            f"the evidence is of prompts with the SHA-256 {expected}, these have {digest}",
            "Pass the file of held-out prompts that the calibration was given",
        )


def _call_arguments(document: PolicyDocument, call: str) -> str:
    """Return the document's size and guidance, and what else the user says, as JSON."""
    sampling = document.sampling
    size = {"height": sampling.height, "width": sampling.width}
    known = {name: value for name, value in size.items() if value is not None}
    try:
        given = json_format.loads(call)
    except ValueError:
        return call  # refused, and explained, where the model is loaded
    if not isinstance(given, dict):
        return call
    return json_format.dumps({**known, **sampling.guidance, **given})


def _replay(stored: StoredPolicy, source: ModelSource, pairs: int, quiet: bool) -> Replay:
    from otcache_plugin.calibration import stages
    from otcache_plugin.calibration.evidence.replay import replay
    from otcache_plugin.calibration.measuring.facts import facts_of

    document = stored.document
    with StageProgress(quiet) as progress:
        import_libraries(progress)
        progress.announce(stages.LOADING)
        setup = source.load()
        _require_prompts(document, setup.held_out_digest, source.evaluation_prompts)
        _require_model(document, setup, source)
        _hint_at_differences(document, facts_of(setup))
        return replay(stored, setup, pairs, progress)


def _hint_at_differences(document: PolicyDocument, facts: ModelFacts) -> None:
    """Say which library or device is another one than in the calibration."""
    assert document.calibration is not None
    before = {**document.calibration.libraries, "device": document.calibration.device}
    now = {**facts.libraries, "device": facts.device}
    differences = [
        f"{name} {then} then, {now.get(name)} now"
        for name, then in before.items()
        if then != now.get(name)
    ]
    if differences:
        listed = "; ".join(differences)
        print_hint(f"Not as in the calibration, so results may differ: {listed}")


def _require_model(document: PolicyDocument, setup: ModelSetup, source: ModelSource) -> None:
    """A folder is what the user says it is; any other model says itself what it is."""
    expected = document.model.id, document.model.revision
    found = setup.origin.model, setup.origin.revision
    if source.model == expected[0] and found != expected:
        raise ArgumentError(
            "policy",
            f"{expected[0]} at {expected[1]}",
            f"the model that is here is {found[0]} at {found[1]}",
            "Pass the folder of the document's model with --model",
        )


def _replay_data(replayed: Replay) -> dict[str, Any]:
    rows = [{**asdict(row), "agrees": row.agrees} for row in replayed.rows]
    return {**asdict(replayed), "rows": rows}


def _print_replay(replayed: Replay) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("budget", justify="right")
    for name in ("policy", "metric"):
        table.add_column(name)
    for name in ("stated", "replayed", "may differ by"):
        table.add_column(name, justify="right")
    for row in replayed.rows:
        figures = (f"{value:.5g}" for value in (row.stated, row.replayed, row.tolerance))
        table.add_row(mark(row.agrees), str(row.budget), row.policy, escape(row.metric), *figures)
    console = data_console()
    console.print(table)
    console.print(f"\n{_meaning(replayed)}")


def _meaning(replayed: Replay) -> str:
    wrong = sum(not row.agrees for row in replayed.rows)
    verdict = f"{len(replayed.rows) - wrong} of {len(replayed.rows)} means agree"
    if replayed.pairs == replayed.stated_pairs:
        return f"{verdict}, of all {replayed.pairs} pairs, to a thousandth."
    return (
        f"{verdict}, of the first {replayed.pairs} out of {replayed.stated_pairs} pairs. Each may "
        "differ by four standard deviations of what leaving out the others does to a mean, and a "
        "thousandth: a replay of a part finds gross errors only."
    )
