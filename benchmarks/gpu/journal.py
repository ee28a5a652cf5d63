"""The rows of a run: guarded, kept to a deadline, and written to disk after each."""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REPEATED = ("loop_seconds", "end_to_end_seconds")
"""Values of which a row that is measured again keeps all."""

TRACEBACK_LINES = 25


class Journal:
    """Collects rows, each of which may fail or be left out without ending the run.

    Args:
        path: of the JSON, which is replaced as a whole whenever something is known.
        facts: what holds for all rows.
        seconds: after the beginning, when everything has to be done.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any], seconds: float) -> None:
        self._path = path
        self._facts = dict(facts)
        self._rows: dict[str, dict[str, Any]] = {}
        self._kept: dict[str, dict[str, Any]] = {}
        self._began = time.perf_counter()
        self._seconds = seconds
        self.write()

    def keep_rows_of(self, path: Path) -> None:
        """Keep the rows of an earlier run on such a machine, but for those that are measured now.

        Each says which run it is of, by its date.

        Raises:
            ValueError: that machine was another, or had other versions.
        """
        earlier = json.loads(path.read_text())
        for fact in ("toy", "steps", "hardware", "versions"):
            if earlier[fact] != self._facts[fact]:
                raise ValueError(
                    f"{path}: {fact} was {earlier[fact]}, and is {self._facts[fact]} now; "
                    "write to a file of its own, without --onto"
                )
        self._kept = {
            row["name"]: {"of": earlier["date"], **row}
            for row in earlier["rows"]
            if "error" not in row and "skipped" not in row
        }
        self.write()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._began

    @property
    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self._seconds - self.elapsed

    @property
    def share(self) -> float:
        """Of the time that is over."""
        return self.elapsed / self._seconds

    def row(self, name: str) -> Mapping[str, Any]:
        """A row as far as it is known, empty when there is none."""
        return self._rows.get(name, {})

    def attempt(
        self,
        name: str,
        about: Mapping[str, Any],
        measure: Callable[[], Mapping[str, Any]],
        *,
        estimate: float = 1.0,
    ) -> bool:
        """Measure a row, or measure it once more.

        Args:
            name: of the row.
            about: what is measured, and how.
            measure: gives the row's values.
            estimate: seconds that it is expected to take.

        Returns:
            Whether it was measured.
        """
        if estimate > self.remaining:
            self.skip(name, about, f"needs {estimate:.0f} s, {self.remaining:.0f} s are left")
            return False
        row = self._rows.setdefault(name, {"name": name, **about})
        started = self.elapsed
        failed = False
        try:
            self._merge(row, measure())
        except Exception as error:  # one row's fault must not cost the others
            failed = True
            row["error"] = _explained(error)
        row.update(started_at=round(started, 1), took_seconds=round(self.elapsed - started, 1))
        if failed:
            _free_memory()
        self.write()
        print(_line(row), flush=True)
        return not failed

    def guard(self, name: str, stage: Callable[[], None]) -> None:
        """Go through a stage of several rows; what it raises becomes a row of that name."""
        try:
            stage()
        except Exception as error:  # likewise
            self._rows[name] = {"name": name, "error": _explained(error)}
            print(_line(self._rows[name]), flush=True)
        self.write()

    def skip(self, name: str, about: Mapping[str, Any], reason: str) -> None:
        """Say why a row is not measured; one that has been measured before stays as it is."""
        if name not in self._rows:
            self._rows[name] = {"name": name, **about, "skipped": reason}
            print(_line(self._rows[name]), flush=True)
        self.write()

    def write(self) -> None:
        """Replace the JSON by what is known now."""
        document = {
            **self._facts,
            "elapsed_seconds": round(self.elapsed, 1),
            "speedups": self.speedups(),
            "rows": list(self._all_rows().values()),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._path.with_name(self._path.name + ".part")
        scratch.write_text(json.dumps(document, indent=1) + "\n")
        os.replace(scratch, self._path)

    def speedups(self) -> dict[str, dict[str, float]]:
        """Ratios to the full runs, as far as they are known."""
        return speedups(self._all_rows())

    def _all_rows(self) -> dict[str, dict[str, Any]]:
        """Return the rows with those of an earlier run that are not measured now."""
        skipped = {name for name, row in self._rows.items() if "skipped" in row}
        now = {name: row for name, row in self._rows.items() if name not in skipped & {*self._kept}}
        return {**self._kept, **now}

    def failures(self) -> list[str]:
        """Names of the rows that failed."""
        return [name for name, row in self._rows.items() if "error" in row]

    @staticmethod
    def _merge(row: dict[str, Any], values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if key in REPEATED:
                row.setdefault(key, []).append(value)
            else:
                row[key] = value


def speedups(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Every row's ratio to the full run of its model, by medians; of loops and of whole calls.

    A full run of fewer steps counts by its loop's seconds per step, and its row says so.
    """
    found: dict[str, dict[str, float]] = {}
    for name, row in rows.items():
        full = rows.get(f"{row.get('model')}/full", {})
        if row is full or not 0 < full.get("steps", 0) <= row.get("steps", 0):
            continue
        ratios = {}
        for key in REPEATED:
            # Decoding takes as long after few steps as after many.
            whole = key == "loop_seconds" or full["steps"] == row["steps"]
            if whole and full.get(key) and row.get(key):
                per_step = statistics.median(full[key]) / full["steps"]
                ratio = per_step * row["steps"] / statistics.median(row[key])
                ratios[key.removesuffix("_seconds")] = round(ratio, 4)
        if ratios:
            found[name] = ratios
    return found


def _explained(error: Exception) -> dict[str, Any]:
    lines = "".join(traceback.format_exception(error)).splitlines()
    return {
        "type": type(error).__name__,
        "message": str(error)[:2000],
        "traceback": lines[-TRACEBACK_LINES:],
    }


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _line(row: Mapping[str, Any]) -> str:
    if "error" in row:
        return f"{row['name']}: FAILED, {row['error']['type']}: {row['error']['message'][:300]}"
    if "skipped" in row:
        return f"{row['name']}: skipped, {row['skipped']}"
    lasts = [f"{key} {row[key][-1]:.3f}" for key in REPEATED if row.get(key)]
    took = f"took {row['took_seconds']} s"
    return f"{row['name']}: {', '.join([*lasts, took])}"
