"""Fixtures of the calibration tests: a small exact flow, prompts that it knows, random tables."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from otcache_policies import EdgeTable, Schedule
from processes import SETTINGS, STANDARD, Command
from small_calibration import Calibrated, calibrate_flow

from otcache_plugin.models.exact_flow import (
    ExactFlowPipeline,
    ExactFlowSettings,
    load_exact_flow_pipeline,
)
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.origins.finding import find_origin

PROMPTS = tuple(f"kind {number}" for number in range(12))


def make_pipe() -> ExactFlowPipeline:
    """An exact flow of 150 scenes; a dozen share a caption, so there is something to decide."""
    pipe = load_exact_flow_pipeline(ExactFlowSettings(scenes=150))
    pipe.transformer.captions = tuple(PROMPTS[i % len(PROMPTS)] for i in range(150))
    return pipe


@pytest.fixture
def pipe() -> ExactFlowPipeline:
    """A fresh exact flow; its prompts are "kind 0" … "kind 11"."""
    return make_pipe()


@pytest.fixture(scope="session")
def make_setup() -> Callable[[], ModelSetup]:
    """Return a factory of set-ups of fresh flows, half of the prompts held out."""

    def make() -> ModelSetup:
        pipe = make_pipe()
        return ModelSetup("flow", pipe, {}, {}, PROMPTS[:6], PROMPTS[6:], find_origin(pipe))

    return make


@pytest.fixture
def setup(make_setup: Callable[[], ModelSetup]) -> ModelSetup:
    """A fresh one."""
    return make_setup()


@pytest.fixture(scope="session")
def random_table() -> Callable[[int, int], EdgeTable]:
    """Return a factory of edge tables, random but growing with the gap, by steps and seed."""

    def make(total: int, seed: int) -> EdgeTable:
        rng = np.random.default_rng(seed)
        start, end = np.indices((total, total))
        errors = (
            rng.uniform(0.5, 2.0, (total, total, 6)) * np.maximum(end - start - 1, 0)[..., None]
        )
        errors[end <= start] = np.inf
        return EdgeTable(errors.astype(np.float32), np.linspace(1.0, 0.0, total + 1) ** 1.5)

    return make


@pytest.fixture(scope="session")
def rugged_loss() -> Callable[[Schedule], float]:
    """A loss without any structure: a number per schedule, the same in every process."""

    def loss(schedule: Schedule) -> float:
        entropy = [*schedule.computed_steps, 0, *schedule.look_backs]
        return float(np.random.default_rng(entropy).uniform())

    return loss


@pytest.fixture(scope="session")
def uninterrupted(fork_server: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes when nothing happens to it; other runs must be the same."""
    return calibrated_alone(tmp_path_factory.mktemp("uninterrupted"), SETTINGS)


@pytest.fixture(scope="session")
def uninterrupted_standard(fork_server: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a race."""
    return calibrated_alone(tmp_path_factory.mktemp("standard"), STANDARD)


def calibrated_alone(folder: Path, settings: tuple[str, ...]) -> Path:
    arguments = ("calibrate", "exact-flow", *settings, "--output", str(folder / "policy"))
    command = Command(folder, *arguments)
    assert command.wait() == 0, command.err
    return folder / "policy"


@pytest.fixture(scope="session")
def calibrated(
    make_setup: Callable[[], ModelSetup], tmp_path_factory: pytest.TempPathFactory
) -> Calibrated:
    """One calibration of the small flow for all tests of it."""
    return calibrate_flow(make_setup(), tmp_path_factory.mktemp("calibrated") / "work")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing may be mounted here")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)
