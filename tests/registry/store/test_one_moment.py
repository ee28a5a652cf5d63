"""Documents of one moment are read anew while others remove some, and not for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from otcache_registry.store.errors import RemovedError, StoreError
from otcache_registry.store.one_moment import MOST_READS, at_one_moment


class Reading:
    """Finds a document removed, so many times."""

    def __init__(self, removals: int) -> None:
        self.removals = removals
        self.reads = 0

    def __call__(self) -> str:
        self.reads += 1
        if self.reads <= self.removals:
            raise RemovedError("own", "a", "another process has removed it", "Save it again")
        return "all"


@pytest.mark.parametrize("removals", [0, 1, MOST_READS - 1])
def test_what_was_removed_is_listed_anew(tmp_path: Path, removals: int) -> None:
    read = Reading(removals)
    assert at_one_moment(read, tmp_path) == "all"
    assert read.reads == removals + 1


def test_it_is_given_up_and_said_why(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"keep being removed\. Stop whatever") as caught:
        at_one_moment(Reading(MOST_READS), tmp_path)
    assert caught.value.value == str(tmp_path)
