"""Who takes part in a comparison, in which variants, and who cannot and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otcache_policies import FieldError, OTCacheError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_plugin.calibration.stages import CalibrationProgress
    from otcache_plugin.comparing.methods import Bench, Method, Variant


@dataclass(frozen=True)
class Entrant:
    """A variant that takes part.

    Attributes:
        method: whose variant it is.
        variant: what is run.
    """

    method: Method
    variant: Variant

    @property
    def key(self) -> str:
        """Its name in files."""
        return self.variant.key


@dataclass(frozen=True)
class NotRun:
    """What was not measured.

    Attributes:
        method: its name.
        label: what people call it.
        setting: of the variant, empty where it is the whole method.
        reason: why, and what helps.
    """

    method: str
    label: str
    setting: str
    reason: str


def line_up(
    bench: Bench, methods: Sequence[Method], progress: CalibrationProgress
) -> tuple[list[Entrant], list[NotRun]]:
    """Return the variants that take part, and the methods that cannot."""
    entrants: list[Entrant] = []
    left_out: list[NotRun] = []
    for method in methods:
        progress.announce(f"settings of {method.label}")
        try:
            reason = method.refusal(bench)
            variants = [] if reason is not None else _distinct(method.variants(bench))
        except Exception as error:  # A stranger's method must not end the comparison of others.
            reason, variants = reason_of(error), []
        if reason is not None:
            left_out.append(NotRun(method.name, method.label, "", reason))
        entrants += [Entrant(method, variant) for variant in variants]
    return entrants, left_out


def _distinct(variants: Sequence[Variant]) -> Sequence[Variant]:
    """Return variants, whose files must not be each other's."""
    if len({variant.key for variant in variants}) < len(variants):
        raise FieldError(
            "variants", [each.key for each in variants], "two go by one name", "Name them apart"
        )
    return variants


def reason_of(error: Exception) -> str:
    """Return an error in a line: what this package says itself, others with what they are."""
    text = " ".join(str(error).split())
    return text if isinstance(error, OTCacheError) else f"{type(error).__name__}: {text}"
