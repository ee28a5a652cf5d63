"""The command that makes a page or a report again, which stands on it to be copied."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def command_of(words: Sequence[str], options: Mapping[str, tuple[object, object]]) -> str:
    """Return a command line of `otcache`, as a shell takes it.

    Args:
        words: that it begins with.
        options: by name, the value and the default; where both are the same it is left out.
    """
    line = ["otcache", *words]
    for name, (value, default) in options.items():
        if value != default:
            line += [name, str(value)]
    return shlex.join(line)
