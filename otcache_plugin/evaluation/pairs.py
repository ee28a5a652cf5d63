"""Prompt-seed pairs: what is generated and compared."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Pair"]


@dataclass(frozen=True)
class Pair:
    """What is generated twice, with and without cache, to be compared."""

    prompt: str
    seed: int
