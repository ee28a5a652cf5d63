"""The journal of a comparison: a line for everything that was measured, so that it can go on.

Pictures and the full run's outputs lie beside it as files.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from otcache_plugin.calibration.errors import OtherSettingsError, WorkspaceError
from otcache_plugin.calibration.measuring.json_lines import read_whole_lines
from otcache_plugin.calibration.measuring.locked_folder import LockedFolder, explained

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

JOURNAL_FILE = "journal.jsonl"
FORGOTTEN = "forgotten"


class Journal(LockedFolder):
    """A comparison's journal, opened by one process at a time.

    Args:
        folder: made when it is not there.
        settings: what all that is measured is determined by, as JSON.

    Raises:
        WorkspaceError: the folder cannot be written, its journal is damaged, or another process
            uses it.
        OtherSettingsError: its comparison was begun with other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, "compares")
        self._path = folder / JOURNAL_FILE
        with self._opening():
            self._records = self._read()
            wanted = as_read(settings)
            if not self._records:
                self.write({"kind": "settings", **wanted})
            self._require(wanted)

    def records(self, kind: str) -> list[dict[str, Any]]:
        """Return the records of a kind, in their order, without those that were forgotten."""
        found: list[dict[str, Any]] = []
        for record in self._records:
            if record["kind"] == kind:
                found.append(record)
            elif record["kind"] == FORGOTTEN and record["what"] == kind:
                found.clear()
        return found

    def forget(self, kind: str) -> None:
        """Have the records of a kind no longer count."""
        self.write({"kind": FORGOTTEN, "what": kind})

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record, which has a `kind`; it is on the disk when this returns."""
        line = json.dumps(record, ensure_ascii=False)
        with explained(self.folder), self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())
        self._records.append(json.loads(line))

    def _read(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        try:
            with explained(self.folder):
                return read_whole_lines(self._path)
        except ValueError as error:
            raise WorkspaceError(
                f"{self._path} is damaged ({error}). Delete {self.folder} to start anew."
            ) from None

    def _require(self, wanted: Mapping[str, Any]) -> None:
        begun = self._records[0]
        for name, value in wanted.items():
            if begun.get(name) != value:
                raise OtherSettingsError(
                    name,
                    value,
                    f"the comparison in {self.folder} was begun with {begun.get(name)!r}",
                    "Use that again to go on with it, another output to begin one beside it, or "
                    f"delete {self.folder} to start anew",
                )


def as_read(value: Any) -> Any:
    """Return a value as a journal gives it back: JSON has lists where there were tuples."""
    return json.loads(json.dumps(value))
