"""Errors of this package: each names the field, its value, what is wrong and what to do next."""

from __future__ import annotations

__all__ = [
    "BudgetError",
    "EdgeTableError",
    "FieldError",
    "GramTableError",
    "OTCacheError",
    "OutcomeTableError",
    "ScheduleError",
    "ScoresError",
]

_LONGEST_VALUE = 200


class OTCacheError(Exception):
    """Base of every error that the otcache packages raise on purpose."""


class FieldError(OTCacheError, ValueError):
    """A value that cannot be used.

    Args:
        field: Name of the argument or document key, as the caller wrote it.
        value: The refused value.
        problem: What is wrong with it, without a full stop.
        remedy: What to do instead, as a sentence.
    """

    def __init__(self, field: str, value: object, problem: str, remedy: str) -> None:
        # All four go into args: that is what pickling rebuilds the error from.
        super().__init__(field, value, problem, remedy)
        self.field = field
        self.value = value
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        value = repr(self.value)
        if len(value) > _LONGEST_VALUE:
            value = value[:_LONGEST_VALUE] + "…"
        return f"{self.field}={value}: {self.problem}. {self.remedy.rstrip('.')}."


class ScheduleError(FieldError):
    """Steps, look-backs or curves that do not make a schedule."""


class BudgetError(FieldError):
    """A budget, or a speed-up, that a policy cannot serve."""


class EdgeTableError(FieldError):
    """An edge table, or settings for reading one, that cannot be used."""


class GramTableError(FieldError):
    """Gram matrices, or settings for reading them, that cannot be used."""


class OutcomeTableError(FieldError):
    """An outcome table, or a rule for reading one, that cannot be used."""


class ScoresError(FieldError):
    """A network that scores steps, or look-backs beside it, that cannot be used."""
