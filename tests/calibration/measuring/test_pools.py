"""What a pool says before it measures, and what it leaves behind where it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_text
import torch

from otcache_plugin.calibration.measuring.pools import LocalPool
from otcache_plugin.calibration.measuring.worker import Worker
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.calibration.stages import Unwatched
from otcache_plugin.models.setups import ModelSetup


class Told(Unwatched):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.units = 0

    def announce(self, stage: str) -> None:
        self.stages.append((stage, None))

    def start(self, stage: str, total: int) -> None:
        self.stages.append((stage, total))

    def advance(self, steps: int = 0, before: bool = False) -> None:
        self.units += 1


def test_loading_and_encoding_are_told_as_they_begin(setup: ModelSetup, tmp_path: Path) -> None:
    told = Told()

    def load() -> ModelSetup:
        assert told.stages == [("loading the model", None)]
        return replace(
            setup,
            pipe=tiny_text.make_flux_with_text(),
            call_arguments={"height": 64, "width": 64},
            calibration_prompts=("a", "b", "c"),
            held_out_prompts=("d", "e"),
            free_text_encoders=True,
        )

    settings = MeasuringSettings(num_inference_steps=4, pairs=3, held_out_pairs=2, batch_size=2)
    with LocalPool(load, settings, tmp_path, told):
        # The batches a b, c and d e, and every pair alone.
        assert told.stages[1:] == [("encoding prompts", 8)]
        # Of which c is in two.
        assert told.units == 7


class Interrupting(Told):
    """Somebody presses Ctrl-C while prompts are encoded."""

    def advance(self, steps: int = 0, before: bool = False) -> None:
        raise KeyboardInterrupt


def test_nothing_is_left_of_a_worker_that_was_not_ready(setup: ModelSetup, tmp_path: Path) -> None:
    pipe = tiny_text.make_flux_with_text()
    to_encode = replace(
        setup,
        pipe=pipe,
        call_arguments={"height": 64, "width": 64},
        calibration_prompts=("a",),
        held_out_prompts=("b",),
        free_text_encoders=True,
    )
    threads = torch.get_num_threads()
    settings = MeasuringSettings(
        num_inference_steps=4, pairs=1, held_out_pairs=2, threads=threads + 1
    )
    with pytest.raises(KeyboardInterrupt):
        LocalPool(lambda: to_encode, settings, tmp_path, Interrupting())
    assert torch.get_num_threads() == threads
    assert "encode_prompt" not in vars(pipe)
    assert pipe.text_encoder is not None


def test_a_worker_that_is_closed_gives_the_threads_back(setup: ModelSetup) -> None:
    threads = torch.get_num_threads()
    worker = Worker(setup, MeasuringSettings(threads=threads + 1))
    assert torch.get_num_threads() == threads + 1
    worker.close()
    assert torch.get_num_threads() == threads
