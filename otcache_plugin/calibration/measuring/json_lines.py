"""Files of one JSON value a line, of which a process that was killed may have cut the last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def read_whole_lines(path: Path) -> list[Any]:
    """Return the values of a file's lines, and cut off a last line that has no end.

    Raises:
        ValueError: A whole line is no JSON. The file is as it was.
        OSError: The file cannot be read, or not be cut.
    """
    data = path.read_bytes()
    # Cut as bytes: the line may end within a character.
    whole = data[: data.rfind(b"\n") + 1]
    values = [json.loads(line) for line in whole.splitlines()]
    if whole != data:
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return values
