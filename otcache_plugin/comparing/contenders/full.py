"""The full run, which everything else is compared with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from otcache_plugin.comparing.methods import Variant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otcache_plugin.comparing.methods import Bench

FULL = "full"


class FullRun:
    """Every step computed."""

    name = FULL
    label = "full run"

    def refusal(self, bench: Bench) -> None:
        """See `Method`: it always runs."""
        return

    def variants(self, bench: Bench) -> tuple[Variant]:
        """See `Method`."""
        steps = bench.num_inference_steps
        return (Variant(FULL, f"all {steps} steps", steps),)

    @contextmanager
    def enabled(self, bench: Bench, variant: Variant) -> Iterator[Mapping[str, Any]]:
        """See `Method`: there is nothing to switch on."""
        yield {}

    def calibration_steps(self, bench: Bench, variant: Variant) -> int:
        """See `Method`."""
        return 0
