"""cache-dit's own functions while ours stand in for them, and the parameters that ours add."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

POLICY_PARAMETERS: dict[str, Any] = {
    "policy": None,
    "budget": None,
    "speedup": None,
    "executor": None,
    "model": None,
    "revision": None,
    "allow_other_revision": False,
    "allow_other_model": False,
    "hub_answers": None,
}
"""Keyword-only parameters that `enable_cache` gains, with their defaults."""

_originals: dict[str, Callable[..., Any]] = {}
"""By public name, while others stand in for them; empty otherwise."""


def original(name: str) -> Callable[..., Any]:
    """Return cache-dit's own function of that name, whether another stands in for it or not."""
    import cache_dit

    function: Callable[..., Any] = _originals.get(name) or getattr(cache_dit, name)
    return function


def are_kept() -> bool:
    """Return whether others stand in for cache-dit's functions now."""
    return bool(_originals)


def keep(originals: Mapping[str, Callable[..., Any]]) -> None:
    """Remember cache-dit's functions, by public name, before others stand in for them."""
    _originals.update(originals)


def forget() -> None:
    """Forget them, once cache-dit has them back."""
    _originals.clear()
