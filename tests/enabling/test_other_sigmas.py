"""Runs of other steps and sigmas than a document's: schedules from its Gram matrices, or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from otcache_policies import GramPolicy, GramSettings, GramTable, Schedule, euler_response, transfer
from otcache_policies.gram_search import optimise
from otcache_registry import read_policy
from PIL import Image
from tiny_documents import edge_table, write_document, write_gram_document
from tiny_pipelines import FLUX, WAN, make_flux, make_flux_img2img, make_wan, unipc_scheduler

import otcache_plugin
from otcache_plugin.calibration.measuring.grams import gram_matrices, scheduler_response
from otcache_plugin.calibration.measuring.trajectories import record
from otcache_plugin.parameters.gram_tables import tables_of
from otcache_plugin.runs.notices import RunWarning

OPTIMISED = "optimised on the run's own sigmas"


def recorded(pipe: Any, case: Any, folder: Path, euler: bool = True, **call: Any) -> GramTable:
    """Return the Gram table of one run."""
    with record(pipe, folder) as trajectory:
        case.run(pipe, **call)
    response = None if euler else scheduler_response(trajectory)
    return GramTable(gram_matrices(trajectory), trajectory.sigmas.double().numpy(), response)


def schedule_of(pipe: Any) -> Schedule:
    """What the last run computed, checked against what it was planned to."""
    report = otcache_plugin.summary(pipe)
    assert report.as_planned
    return Schedule(report.computed_steps, report.num_inference_steps, report.look_backs)


def minimum(policy: GramPolicy, sigmas: NDArray[np.float64], budget: int) -> Schedule:
    """Return what minimises the form on these noise levels, by Euler steps."""
    form = policy.table.at(sigmas).form(policy.settings.damping)
    return optimise(form, budget, policy.settings.max_look_back)


def test_a_run_of_28_steps_with_a_document_of_50(enable: Any, tmp_path: Path) -> None:
    pipe = make_flux()
    table = recorded(pipe, FLUX, tmp_path / "run", num_inference_steps=50)
    policy = write_gram_document(tmp_path / "policy", table, [10])
    enable(pipe, policy=tmp_path / "policy", speedup=5.0)
    FLUX.run(pipe, num_inference_steps=28)
    sigmas = pipe.scheduler.sigmas.double().numpy()
    report = otcache_plugin.summary(pipe)
    assert report.adaptation == OPTIMISED
    assert f"schedule {OPTIMISED}" in str(report)
    assert report.to_dict()["adaptation"] == OPTIMISED
    # 28 / 5 is 5.6.
    assert schedule_of(pipe) == minimum(policy, sigmas, 6)
    carried = transfer(policy.schedule(11), table.sigmas, sigmas, 6)
    errors = [table.at(sigmas).errors(each).mean() for each in (schedule_of(pipe), carried)]
    assert errors[0] < errors[1]
    FLUX.run(pipe)
    assert otcache_plugin.summary(pipe).adaptation is None
    assert schedule_of(pipe) == policy.schedule(10)


def test_otcache_too_where_its_document_has_gram_matrices(enable: Any, tmp_path: Path) -> None:
    pipe = make_flux()
    table = recorded(pipe, FLUX, tmp_path / "run", num_inference_steps=50)
    folder = tmp_path / "policy"
    write_document(folder)
    stored = read_policy(folder)
    parameters = {**stored.document.parameters, "damping": 0.2}
    write_document(folder, {**stored.tables, **tables_of(table)}, parameters=parameters)
    enable(pipe, policy=folder, budget=8)
    FLUX.run(pipe, num_inference_steps=28)
    assert otcache_plugin.summary(pipe).adaptation == OPTIMISED
    policy = GramPolicy(table, GramSettings(0.2, edge_table().max_look_back))
    assert schedule_of(pipe) == minimum(policy, pipe.scheduler.sigmas.double().numpy(), 8)
    # Calibrated on blocks, it is carried over: velocities say little of what these do.
    sampling = stored.document.sampling.model_copy(update={"executor": "blocks"})
    changes = {"parameters": parameters, "sampling": sampling}
    write_document(folder, {**stored.tables, **tables_of(table)}, **changes)
    pipe = make_flux(num_layers=2)
    enable(pipe, policy=folder, budget=8)
    FLUX.run(pipe, num_inference_steps=28)
    report = otcache_plugin.summary(pipe)
    assert (report.executor, report.adaptation) == ("blocks", "carried over")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> GramTable:
    """The Gram table of one run of 16 steps of the tiny Flux."""
    torch.set_num_threads(1)
    return recorded(make_flux(), FLUX, tmp_path_factory.mktemp("run"), num_inference_steps=16)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param({"num_inference_steps": 11}, id="fewer"),
        pytest.param({"num_inference_steps": 30}, id="more"),
        pytest.param({"sigmas": np.linspace(1, 0, 16, endpoint=False) ** 1.5}, id="other-sigmas"),
    ],
)
def test_other_steps_and_sigmas(
    call: dict[str, Any], table: GramTable, enable: Any, tmp_path: Path
) -> None:
    policy = write_gram_document(tmp_path, table, [5])
    pipe = make_flux()
    enable(pipe, policy=tmp_path, budget=6)
    FLUX.run(pipe, **call)
    assert otcache_plugin.summary(pipe).adaptation == OPTIMISED
    assert schedule_of(pipe) == minimum(policy, pipe.scheduler.sigmas.double().numpy(), 6)


def test_another_shift(table: GramTable, enable: Any, tmp_path: Path) -> None:
    policy = write_gram_document(tmp_path, table, [5])
    pipe = make_flux()
    pipe.scheduler.set_shift(4.5)
    enable(pipe, policy=tmp_path, budget=5)
    FLUX.run(pipe, num_inference_steps=16)
    assert otcache_plugin.summary(pipe).adaptation == OPTIMISED
    assert schedule_of(pipe) == minimum(policy, pipe.scheduler.sigmas.double().numpy(), 5)


def test_image_to_image_with_a_strength(table: GramTable, enable: Any, tmp_path: Path) -> None:
    policy = write_gram_document(tmp_path, table, [5])
    pipe = make_flux_img2img()
    enable(pipe, policy=tmp_path, budget=5)
    picture = Image.fromarray(np.full((64, 64, 3), 90, np.uint8))
    with pytest.warns(RunWarning, match="FluxImg2ImgPipeline instead of FluxPipeline"):
        FLUX.run(pipe, image=picture, strength=0.5, num_inference_steps=20)
    report = otcache_plugin.summary(pipe)
    assert (report.num_inference_steps, report.adaptation) == (10, OPTIMISED)
    assert schedule_of(pipe) == minimum(policy, pipe.scheduler.sigmas[10:].double().numpy(), 5)


def test_noise_levels_above_the_recorded_are_carried_over(enable: Any, tmp_path: Path) -> None:
    pipe = make_flux()
    levels = np.linspace(0.6, 0.0, 16, endpoint=False)
    table = recorded(pipe, FLUX, tmp_path / "run", sigmas=levels)
    policy = write_gram_document(tmp_path / "policy", table, [5])
    enable(pipe, policy=tmp_path / "policy", budget=5)
    FLUX.run(pipe, num_inference_steps=16)
    assert otcache_plugin.summary(pipe).adaptation == "carried over"
    sigmas = pipe.scheduler.sigmas.double().numpy()
    assert schedule_of(pipe) == transfer(policy.schedule(5), table.sigmas, sigmas, 5)


def test_another_solver_answers_with_its_own_steps(enable: Any, tmp_path: Path) -> None:
    """The response is that of the run's scheduler, for the run's steps; look-backs are 1."""
    pipe = make_wan(scheduler=unipc_scheduler())
    table = recorded(pipe, WAN, tmp_path / "run", euler=False, num_inference_steps=16)
    set_up = {"pipeline": "WanPipeline", "scheduler": "UniPCMultistepScheduler"}
    guidance = {"guidance_scale": 4.0}
    policy = write_gram_document(tmp_path / "policy", table, [5], guidance=guidance, **set_up)
    shorter = recorded(pipe, WAN, tmp_path / "shorter", euler=False, num_inference_steps=11)
    assert shorter.response is not None
    assert np.abs(shorter.response - euler_response(shorter.sigmas)).max() > 0.01
    enable(pipe, policy=tmp_path / "policy", budget=5)
    WAN.run(pipe, num_inference_steps=11)
    report = otcache_plugin.summary(pipe)
    assert (report.adaptation, set(report.look_backs)) == (OPTIMISED, {1})
    form = table.at(shorter.sigmas, shorter.response).form(policy.settings.damping)
    assert schedule_of(pipe) == optimise(form, 5, 1)


def test_a_solver_that_is_not_understood_is_carried_over(
    table: GramTable, enable: Any, tmp_path: Path
) -> None:
    """Inside cache-dit's block cache any scheduler runs; what it makes of velocities is unknown."""
    policy = write_gram_document(tmp_path, table, [5])
    pipe = make_flux(num_layers=2)
    pipe.scheduler = type(pipe.scheduler).from_config(
        pipe.scheduler.config, stochastic_sampling=True
    )
    enable(pipe, policy=tmp_path, budget=5, executor="blocks")
    FLUX.run(pipe, num_inference_steps=11)
    assert otcache_plugin.summary(pipe).adaptation == "carried over"
    sigmas = pipe.scheduler.sigmas.double().numpy()
    served = policy.schedule(round(5 * 16 / 11))
    assert schedule_of(pipe) == transfer(served, table.sigmas, sigmas, 5)
