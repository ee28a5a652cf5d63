"""Where a calibration, or each part of one that is shared out, keeps its work."""

from __future__ import annotations

import re
from pathlib import Path

from otcache_plugin.calibration.errors import NoShardsError
from otcache_plugin.calibration.measuring.workspace import MANIFEST_FILE


def work_folder(output: Path) -> Path:
    """Return the working folder of a calibration that is not shared out."""
    return _beside(output, "calibration")


def shard_folder(output: Path, number: int, count: int) -> Path:
    """Return the working folder of one shard."""
    return _beside(output, f"shard-{number}-of-{count}")


def _beside(output: Path, ending: str) -> Path:
    output = output.resolve()  # "." and ".." have no name of their own.
    return output.with_name(f"{output.name}.{ending}")


def sibling_folders(output: Path, number: int, count: int) -> list[Path]:
    """Return the working folders of the other shards, there or not."""
    return [shard_folder(output, other, count) for other in range(1, count + 1) if other != number]


def shards_of(output: Path) -> dict[tuple[int, int], Path]:
    """Return the working folders of the shards that have begun, by their number and count.

    Args:
        output: the document's folder, as the shards were given it.

    Raises:
        NoShardsError: there are none.
    """
    name, parent = output.resolve().name, output.resolve().parent
    pattern = re.compile(re.escape(name) + r"\.shard-(\d+)-of-(\d+)")
    shards = {
        (int(match[1]), int(match[2])): path
        for path in parent.glob("*")
        if (match := pattern.fullmatch(path.name)) and (path / MANIFEST_FILE).exists()
    }
    if not shards:
        raise NoShardsError(
            f"no {name}.shard-I-of-N folder of a shard in {parent}. Measure the shards first, and "
            "merge what they have measured for the same output."
        )
    return shards
