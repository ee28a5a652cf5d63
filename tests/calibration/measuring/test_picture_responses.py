"""What velocities do to pictures: against a decoder that is known, and what recording it costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from otcache_policies import Schedule
from tiny_pipelines import FLUX, make_flux

from otcache_plugin.calibration.measuring.grams import gram_matrices
from otcache_plugin.calibration.measuring.picture_responses import OtherLatents, picture_responses
from otcache_plugin.calibration.measuring.trajectories import Trajectory, record
from otcache_plugin.calibration.measuring.units import Evaluate, Record, Reference
from otcache_plugin.calibration.measuring.worker import Worker
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.evaluation.batches import Batch
from otcache_plugin.models.setups import load_setup

STEPS = 12


@pytest.fixture
def trajectory(tmp_path: Path) -> Trajectory:
    pipe = make_flux()
    with record(pipe, tmp_path) as recorded:
        FLUX.run(pipe, num_inference_steps=STEPS)
    return recorded


def velocities(trajectory: Trajectory) -> torch.Tensor:
    """All of them, `(N, T, elements)`."""
    steps = range(trajectory.num_inference_steps)
    return torch.stack([trajectory.v(step).double().flatten(1) for step in steps], dim=1)


def test_a_linear_decoder_s_responses_are_the_decoded_velocities(trajectory: Trajectory) -> None:
    recorded = velocities(trajectory)
    decoder = torch.randn(
        recorded.shape[2], 30, generator=torch.Generator().manual_seed(0)
    ).double()

    def decode(latents: torch.Tensor) -> torch.Tensor:
        return (latents.double().flatten(1) @ decoder).reshape(-1, 1, 3, 2, 5)

    pictures = decode(trajectory.x(STEPS))
    found = picture_responses(trajectory, gram_matrices(trajectory), pictures, decode)
    shown = recorded @ decoder
    expected = (shown @ shown.mT / 30).numpy()
    np.testing.assert_allclose(found.grams, expected, atol=1e-4 * np.abs(expected).max())
    of_sketches = found.sketches @ found.sketches.swapaxes(1, 2)
    np.testing.assert_allclose(of_sketches, expected, atol=1e-4 * np.abs(expected).max())


def test_a_direction_that_the_decoder_does_not_see_counts_nothing(trajectory: Trajectory) -> None:
    def blind(latents: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(latents), 1, 3, 2, 2)

    pictures = blind(trajectory.x(STEPS))
    found = picture_responses(trajectory, gram_matrices(trajectory), pictures, blind)
    assert not found.grams.any()
    assert not found.sketches.any()


def test_the_last_step_of_a_run_gives_other_latents_and_the_others_do_not() -> None:
    pipe = make_flux()
    seen: list[torch.Tensor] = []

    def keep(
        pipe: object, step: int, timestep: object, kwargs: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        seen.append(kwargs["latents"])
        return {}

    FLUX.run(pipe, num_inference_steps=4, callback_on_step_end=keep)
    own, other = list(seen), torch.full_like(seen[-1], 0.25)
    seen.clear()
    last = OtherLatents(pipe.scheduler, 4, other)
    FLUX.run(pipe, num_inference_steps=4, callback_on_step_end=keep)
    last.remove()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(seen[:3], own[:3], strict=True))
    assert torch.equal(seen[3], other)


@pytest.mark.parametrize(("metric", "twice"), [("psnr", True), ("latent-l1", False)])
def test_a_recording_denoises_every_step_of_every_pair_once(metric: str, twice: bool) -> None:
    settings = MeasuringSettings(STEPS, metric, pairs=3, held_out_pairs=2, batch_size=3)
    worker, batch = Worker(load_setup("exact-flow"), settings), Batch("calibration", 0, 3)
    try:
        (_, reference), (_, recorded) = worker.measure(Record(batch), {})
        ((_, alone),) = worker.measure(Reference(batch), {})
        unit = Evaluate(batch, Schedule([0, 3, 7, 11], STEPS), (metric,), displaced=True)
        ((_, measured),) = worker.measure(unit, reference.arrays)
        ((_, full),) = worker.measure(
            Evaluate(batch, Schedule.full(STEPS), (metric,), displaced=True), reference.arrays
        )
    finally:
        worker.close()
    assert len(recorded.calls) == STEPS
    compared = "pictures" if twice else "latents"
    # Whatever else recording does, the run is the one that nobody recorded.
    np.testing.assert_array_equal(reference.arrays[compared], alone.arrays[compared])
    assert ("latent_grams" in recorded.arrays) is twice
    assert not full.arrays["displacement"].any()
    if twice:
        squares = np.square(measured.arrays["displacement"]).sum(axis=1)
        np.testing.assert_allclose(-10 * np.log10(squares), measured.arrays["psnr"], rtol=1e-4)
