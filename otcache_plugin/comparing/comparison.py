"""The comparison: one model, any methods, one set of held-out pairs, one run.

Everything is switched on and off by the calls that a user would make. What is measured goes to a
journal at once, from which the same comparison goes on after whatever ended it. Nothing here
prints.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from otcache_plugin.calibration.errors import WorkspaceError
from otcache_plugin.comparing.contenders.documents import document_for, require_documents
from otcache_plugin.comparing.contenders.full import FULL
from otcache_plugin.comparing.contenders.known import chosen_methods
from otcache_plugin.comparing.contenders.policies import OTCACHE, require_installed
from otcache_plugin.comparing.journal import Journal, as_read
from otcache_plugin.comparing.judging import prepared_metrics
from otcache_plugin.comparing.lineup import NotRun, line_up, reason_of
from otcache_plugin.comparing.measuring import Judge, Measured, steps_of
from otcache_plugin.comparing.methods import Bench
from otcache_plugin.comparing.results import ComparisonResult, Row
from otcache_plugin.comparing.timing import Timed, machine, time_variant
from otcache_plugin.plugins.costs import StageCost

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from otcache_registry import StoredPolicy

    from otcache_plugin.calibration.stages import CalibrationProgress
    from otcache_plugin.comparing.lineup import Entrant
    from otcache_plugin.comparing.settings import ComparisonSettings
    from otcache_plugin.evaluation.pairs import Pair
    from otcache_plugin.models.setups import ModelSetup

GENERATING = "running held-out pairs"
TIMING = "timing, methods taking turns"
METHODS_FOLDER = "methods"
MEASURED, ROUND = "measured", "round"


def compare(
    setup: ModelSetup, settings: ComparisonSettings, folder: Path, progress: CalibrationProgress
) -> ComparisonResult:
    """Measure methods side by side, or go on with a comparison that was begun in a folder.

    Args:
        setup: the model, without any cache enabled.
        settings: what is asked.
        folder: where everything is kept that was measured.
        progress: is told how far it is.

    Raises:
        UnknownNameError: there is no such method or metric.
        FieldError: `policy=` is switched off, a document is for another model, or two are for one
            policy.
        OtherSettingsError: the folder's comparison was begun with other settings.
        WorkspaceError: the folder cannot be used.
    """
    started = perf_counter()
    require_installed()
    methods = chosen_methods(settings.methods)
    metrics = prepared_metrics(settings.metrics)
    pairs = setup.held_out_pairs(settings.pairs, settings.seed)
    on = machine(setup.pipe.device)
    own = folder / METHODS_FOLDER
    bench = Bench(setup, settings.num_inference_steps, settings.budgets, own, settings.documents)
    with Journal(folder, _determining(setup, settings, on)) as journal:
        require_documents(bench)
        entrants, not_run = line_up(bench, methods, progress)
        judge = Judge(bench, pairs, metrics, folder, progress)
        run = _Run(journal, judge, entrants, not_run, progress)
        full, *others = run.rows(settings)
    return ComparisonResult(
        setup,
        settings,
        tuple(pairs),
        {metric.name: metric for metric in metrics},
        full,
        tuple(row.beside(full) for row in others),
        tuple(run.not_run),
        _document(bench) if any(row.method == OTCACHE for row in others) else None,
        on,
        perf_counter() - started,
    )


def _determining(setup: ModelSetup, settings: ComparisonSettings, on: str) -> dict[str, Any]:
    """Return what all that is measured depends on, and times besides: the machine."""
    return {
        "model": setup.origin.model,
        "revision": setup.origin.revision,
        "call": dict(setup.call_arguments),
        "evaluation_prompts": setup.held_out_digest,
        **settings.determining,
        "machine": on,
    }


def _document(bench: Bench) -> StoredPolicy | None:
    found = document_for(OTCACHE, bench)
    return None if found is None else found.stored


@dataclass
class _Run:
    """One comparison under way.

    Attributes:
        journal: what was measured before, and where to write what is measured now.
        judge: runs and judges.
        entrants: the full run, then those that did not fail so far.
        not_run: what was left out, or failed so far.
        progress: is told how far it is.
    """

    journal: Journal
    judge: Judge
    entrants: list[Entrant]
    not_run: list[NotRun]
    progress: CalibrationProgress

    def rows(self, settings: ComparisonSettings) -> list[Row]:
        """Return what each entrant did that did not fail, the full run first."""
        self.progress.plan(self._costs(settings))
        measured = self._measure_all()
        if settings.time_again:
            self.journal.forget(ROUND)
        times = self._time_all(self.judge.pairs[: settings.timed_pairs], settings.rounds)
        return [
            Row.of(each, measured[each.key], times[each.key], self.judge.picture_files(each))
            for each in self.entrants
        ]

    def _costs(self, settings: ComparisonSettings) -> tuple[StageCost, StageCost]:
        """Return the cost of both stages."""
        runs, pairs = len(self.entrants), len(self.judge.pairs)
        steps = sum(steps_of(entrant, self.judge.bench) for entrant in self.entrants)
        turns = settings.rounds * runs
        timed = 2 * steps * settings.rounds * min(settings.timed_pairs, pairs)
        return (
            StageCost(GENERATING, runs, steps, steps * pairs),
            StageCost(TIMING, turns, 2 * settings.rounds * steps, timed),
        )

    def _measure_all(self) -> dict[str, Measured]:
        """Return what was measured of each entrant, by its key; those that fail leave."""
        self.progress.start(GENERATING, len(self.entrants))
        known = {
            record["key"]: Measured.from_dict(record["measured"])
            for record in self.journal.records(MEASURED)
            for entrant in self.entrants
            if record["variant"] == as_read(asdict(entrant.variant))
        }
        found = {}
        for entrant in list(self.entrants):
            steps = steps_of(entrant, self.judge.bench) * len(self.judge.pairs)
            if entrant.key in known:
                found[entrant.key] = known[entrant.key]
                self.progress.ran(steps, before=True)
            else:
                measured = self._measure(entrant)
                if measured is not None:
                    found[entrant.key] = measured
            self.progress.advance()
        return found

    def _measure(self, entrant: Entrant) -> Measured | None:
        if entrant.method.name == FULL:
            measured = self.judge.measure_full(entrant)
        else:
            try:
                measured = self.judge.measure(entrant)
            except WorkspaceError:  # It would end all others alike.
                raise
            except Exception as error:  # One that fails is listed, and the rest goes on.
                self._leaves(entrant, error)
                return None
        record = {"variant": asdict(entrant.variant), "measured": measured.to_dict()}
        self.journal.write({"kind": MEASURED, "key": entrant.key, **record})
        return measured

    def _leaves(self, entrant: Entrant, error: Exception) -> None:
        self.entrants.remove(entrant)
        method, reason = entrant.method, reason_of(error)
        self.not_run.append(NotRun(method.name, method.label, entrant.variant.setting, reason))

    def _time_all(self, pairs: Sequence[Pair], rounds: int) -> dict[str, list[Timed]]:
        """Return each entrant's turns, by its key; those that fail leave.

        Every round takes all of them, so that what slows the machine down for a while slows down
        both sides of a ratio. So a round that an entrant was not in counts for nothing.
        """
        self.progress.start(TIMING, rounds * len(self.entrants))
        before = [
            {key: Timed(**turn) for key, turn in record["turns"].items()}
            for record in self.journal.records(ROUND)
            if {entrant.key for entrant in self.entrants} <= record["turns"].keys()
        ][:rounds]
        for _ in before:
            for entrant in self.entrants:
                self.progress.advance(self._timed_steps(entrant, pairs), before=True)
        done = list(before)
        while len(done) < rounds:
            turns = self._round(pairs)
            record = {key: asdict(turn) for key, turn in turns.items()}
            self.journal.write({"kind": ROUND, "turns": record})
            done.append(turns)
        return {each.key: [turns[each.key] for turns in done] for each in self.entrants}

    def _round(self, pairs: Sequence[Pair]) -> dict[str, Timed]:
        turns = {}
        for entrant in list(self.entrants):
            try:
                turns[entrant.key] = time_variant(self.judge.bench, entrant, pairs)
            except Exception as error:
                if entrant.method.name == FULL:
                    raise
                self._leaves(entrant, error)
            self.progress.advance(self._timed_steps(entrant, pairs))
        return turns

    def _timed_steps(self, entrant: Entrant, pairs: Sequence[Pair]) -> int:
        return 2 * steps_of(entrant, self.judge.bench) * len(pairs)
