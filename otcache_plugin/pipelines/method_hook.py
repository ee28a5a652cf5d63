"""Standing in for one method of one instance, and taking it off again in any order."""

from __future__ import annotations

import copy
import functools
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


_placing = threading.RLock()
"""Threads that share an instance put hooks on it one after the other."""


class MethodHook:
    """Stands in for one method of one instance until removed.

    Hooks on the same method lie on top of each other and may be removed in any order: one that is
    removed while others lie on it only passes calls on, and comes off together with the last.

    Args:
        instance: its class is not touched.
        method: name of the method.
        replacement: called in its place, with what it stands in for before the arguments.
        of_copies: gives what deep copies of the instance have in the place of the method, from
            the copy's own one; without it they have that.

    Attributes:
        original: what the replacement stands in for.
    """

    def __init__(
        self,
        instance: Any,
        method: str,
        replacement: Callable[..., Any],
        of_copies: Callable[[Callable[..., Any]], Any] | None = None,
    ) -> None:
        self._instance, self._method = instance, method
        # Given the original at every call, because another thread may call the method as soon as
        # it is placed, when whoever places it has no name for the hook yet.
        self._replacement: Callable[..., Any] | None = replacement
        self._of_copies = of_copies
        with _placing:
            self.original: Callable[..., Any] = getattr(instance, method)
            self._beneath = vars(instance).get(method)
            # Pipelines inspect the signature, so it stays the original's.
            functools.update_wrapper(self, self.original, updated=())
            setattr(instance, method, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the replacement, or what it stood in for once removed."""
        replacement = self._replacement
        if replacement is None:
            return self.original(*args, **kwargs)
        return replacement(self.original, *args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return what a copy of the instance gets: its own method, unhooked.

        Pipelines that denoise two things at once (LTX-2's audio) copy their scheduler. The hook's
        replacement holds the pipeline, which must not be copied with it.
        """
        method = copy.deepcopy(self.original, memo)
        return method if self._of_copies is None else self._of_copies(method)

    def remove(self) -> None:
        """Give the instance back what it had, as soon as nothing lies on top any more."""
        with _placing:
            self._replacement = None
            top = vars(self._instance).get(self._method)
            while isinstance(top, MethodHook) and top._replacement is None:
                top = top._beneath
            if top is None:
                vars(self._instance).pop(self._method, None)
            else:
                setattr(self._instance, self._method, top)
