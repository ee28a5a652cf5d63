"""Everything a command needs of a model, and the models that ship with the package by name.

A set-up brings the pipeline, the arguments of its calls, and prompts in two disjoint sets: one to
calibrate on, one held out for evidence.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otcache_plugin.errors import ArgumentError, UnknownNameError
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.prompts.files import Prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from diffusers import DiffusionPipeline

    from otcache_plugin.origins.origin import ModelOrigin

HELD_OUT_SEEDS = 1_000_000
"""Seeds of held-out pairs start here; calibration pairs stay below."""

SEEDS_PER_CALIBRATION = 10_000
"""How far apart the pairs of one calibration seed and of the next begin."""


@dataclass(frozen=True)
class SetupDefaults:
    """How a model is calibrated unless it is said otherwise.

    Attributes:
        metric: what pictures are compared by.
        pairs: prompt-seed pairs to calibrate on.
        held_out_pairs: pairs of the evidence.
        batch_size: pairs per pipeline call.
    """

    metric: str
    pairs: int
    held_out_pairs: int
    batch_size: int


SMALL_MODEL = SetupDefaults("psnr", pairs=96, held_out_pairs=64, batch_size=16)
"""For pictures of 32 × 32 pixels, which LPIPS sees only enlarged, and which cost little."""

LARGE_MODEL = SetupDefaults("lpips", pairs=50, held_out_pairs=50, batch_size=1)


@dataclass(frozen=True)
class ModelSetup:
    """A pipeline and how it is calibrated and evaluated.

    Attributes:
        name: what commands call it.
        pipe: the pipeline, without any cache.
        call_arguments: arguments of every call besides prompt and steps.
        guidance: the call's guidance arguments, for the document.
        calibration_prompts: to calibrate on.
        held_out_prompts: disjoint from them, for evidence.
        origin: the model revision that documents are keyed by.
        defaults: of the calibration.
        free_text_encoders: whether they are to go once all prompts are encoded.
    """

    name: str
    pipe: DiffusionPipeline
    call_arguments: Mapping[str, Any]
    guidance: Mapping[str, float]
    calibration_prompts: tuple[str, ...]
    held_out_prompts: tuple[str, ...]
    origin: ModelOrigin
    defaults: SetupDefaults = SMALL_MODEL
    free_text_encoders: bool = False

    def calibration_pairs(self, count: int, seed: int = 0) -> list[Pair]:
        """Return `count` pairs to calibrate on, spread over the prompts.

        Raises:
            ArgumentError: their seeds would be negative, or among those of held-out pairs.
        """
        largest = (HELD_OUT_SEEDS - count) // SEEDS_PER_CALIBRATION
        if not 0 <= seed <= largest:
            raise ArgumentError(
                "seed",
                seed,
                f"the seeds of its {count} pairs are not from 0 to below {HELD_OUT_SEEDS}, where "
                "those of held-out pairs begin",
                f"Use 0 … {largest}",
            )
        return _pairs(self.calibration_prompts, count, seed * SEEDS_PER_CALIBRATION)

    def held_out_pairs(self, count: int, seed: int = 0) -> list[Pair]:
        """Return `count` pairs that no calibration sees, spread over the held-out prompts.

        Raises:
            ArgumentError: the seed is negative.
        """
        if seed < 0:
            raise ArgumentError("seed", seed, "below 0", "Use 0 or more")
        first = HELD_OUT_SEEDS + seed * SEEDS_PER_CALIBRATION
        return _pairs(self.held_out_prompts, count, first)

    @property
    def prompts_digest(self) -> str:
        """SHA-256 of the calibration prompts."""
        return Prompts(self.calibration_prompts).digest

    @property
    def held_out_digest(self) -> str:
        """SHA-256 of the held-out prompts."""
        return Prompts(self.held_out_prompts).digest


def _pairs(prompts: Sequence[str], count: int, first_seed: int) -> list[Pair]:
    return [Pair(prompts[i % len(prompts)], first_seed + i) for i in range(count)]


def _shuffled(prompts: Sequence[Any]) -> tuple[str, ...]:
    """Return a fixed order in which any first few prompts are a mixed sample."""
    texts = [str(prompt) for prompt in prompts]
    return tuple(sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest()))


def _embedded() -> ModelSetup:
    from otcache_plugin.models.embedded import TRUE_CFG_SCALE, load_embedded_pipeline

    guidance = {"true_cfg_scale": TRUE_CFG_SCALE}
    return _of_scenes("embedded", load_embedded_pipeline(), guidance)


def _exact_flow() -> ModelSetup:
    from otcache_plugin.models.exact_flow import load_exact_flow_pipeline

    return _of_scenes("exact-flow", load_exact_flow_pipeline(), {})


def _of_scenes(name: str, pipe: DiffusionPipeline, guidance: Mapping[str, float]) -> ModelSetup:
    from otcache_plugin.models import scenes
    from otcache_plugin.origins.finding import find_origin

    calibration = _shuffled(scenes.training_captions())
    held_out = _shuffled(scenes.held_out_captions())
    return ModelSetup(name, pipe, {}, guidance, calibration, held_out, find_origin(pipe))


SETUPS: dict[str, Callable[[], ModelSetup]] = {"embedded": _embedded, "exact-flow": _exact_flow}


def load_setup(name: str) -> ModelSetup:
    """Load a model that ships with the package.

    Raises:
        UnknownNameError: there is none of that name; the message lists those there are.
    """
    if name not in SETUPS:
        raise UnknownNameError(
            "model",
            name,
            "no such model ships with the package",
            f"Use {' or '.join(SETUPS)}",
        )
    return SETUPS[name]()
