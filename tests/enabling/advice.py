"""One remedy of one error: what raises it, what it says to do, and doing that.

It is done to something that the tests make: a pipeline, or a world of documents with a Hub.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from otcache_policies import OTCacheError

Deed = Callable[[Any], None]


@dataclass(frozen=True)
class Advice:
    """One remedy of one error.

    Attributes:
        wrong: what the error is raised by.
        said: words of the error that advise.
        right: what they advise.
    """

    wrong: Deed
    said: str
    right: Deed

    def require_true(self, subject: Any) -> None:
        """Do what is wrong, read the error, and do what it says."""
        with pytest.raises(OTCacheError) as caught:
            self.wrong(subject)
        assert self.said in str(caught.value)
        self.right(subject)


def then(change: Deed, deed: Deed) -> Deed:
    """Change something before."""

    def deeds(subject: Any) -> None:
        change(subject)
        deed(subject)

    return deeds
