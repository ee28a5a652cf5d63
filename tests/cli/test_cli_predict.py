"""`otcache predict`: the printed schedule is the one that a run has, in cache-dit's words too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cache_dit
import numpy as np
import pytest
import torch
from cache_dit import load_configs
from numpy.typing import NDArray
from otcache_policies import GramTable
from otcache_registry import read_policy
from otcache_registry.documents.bundled import BUNDLED_FOLDER
from published_schedules import published_schedules
from stored_policies import otcache_of
from tiny_documents import sampling, tiny_flux_sigmas, write_document, write_gram_document
from tiny_pipelines import FLUX, euler_scheduler, make_flux

import otcache_plugin
from otcache_plugin.cli.predict import resolve_budget

PUBLISHED = next(
    each.schedule
    for each in published_schedules()
    if each.model == "Tongyi-MAI/Z-Image" and each.schedule.budget == 15
)


def predict(main: Any, policy: str, *arguments: str) -> str:
    printed = main("predict", policy, *arguments)
    assert (printed.code, printed.err) == (0, "")
    assert printed.out.endswith("\n")
    return str(printed.out).removesuffix("\n")


def test_steps(main: Any) -> None:
    printed = predict(main, "bundled:z-image", "--budget", "15")
    assert printed == " ".join(map(str, PUBLISHED.computed_steps))
    assert printed == predict(main, "bundled:z-image", "--budget", "15", "--format", "steps")


def test_mask(main: Any) -> None:
    mask = json.loads(predict(main, "bundled:z-image", "--budget", "15", "--format", "mask"))
    assert len(mask) == 50
    assert [step for step, computed in enumerate(mask) if computed == 1] == list(
        PUBLISHED.computed_steps
    )
    assert set(mask) == {0, 1}


def test_json(main: Any) -> None:
    printed = predict(main, "bundled:z-image", "--budget", "15", "--format", "json")
    assert json.loads(printed) == {
        "source": "bundled:z-image",
        "policy": "otcache",
        "model": "Tongyi-MAI/Z-Image",
        "revision": None,
        "budget": 15,
        "adaptation": None,
        "computed_steps": list(PUBLISHED.computed_steps),
        "look_backs": list(PUBLISHED.look_backs),
        "num_inference_steps": 50,
    }


def test_predicted_between_calibrated_ones(main: Any, tmp_path: Path) -> None:
    write_document(tmp_path / "policy")
    printed = predict(main, str(tmp_path / "policy"), "--budget", "13", "--format", "json")
    schedule = otcache_of(read_policy(tmp_path / "policy")).schedule(13)
    data = json.loads(printed)
    assert data["computed_steps"] == list(schedule.computed_steps)
    assert data["look_backs"] == list(schedule.look_backs)


@pytest.mark.parametrize(("total", "budget"), [(20, 5), (28, 8), (100, 30)])
def test_other_steps_are_those_of_a_real_run(
    main: Any, tmp_path: Path, total: int, budget: int
) -> None:
    """The sigmas between the document's are those that the pipeline sets for so many steps."""
    write_document(tmp_path / "policy")
    pipe = make_flux()
    otcache_plugin.enable_cache(pipe, policy=tmp_path / "policy", speedup=total / budget)
    FLUX.run(pipe, num_inference_steps=total)
    report = otcache_plugin.summary(pipe)
    assert report.adaptation == "carried over"
    arguments = ("--budget", str(budget), "--steps", str(total), "--format", "json")
    data = json.loads(predict(main, str(tmp_path / "policy"), *arguments))
    assert tuple(data["computed_steps"]) == report.computed_steps
    assert tuple(data["look_backs"]) == report.look_backs
    assert (data["num_inference_steps"], data["adaptation"]) == (total, "carried over")


def gram_table(response: NDArray[np.float64] | None) -> GramTable:
    """Velocities that bend with sigma, in runs of 16 steps."""
    sigmas = np.linspace(1.0, 0.0, 17) ** 1.2
    angles = np.arange(1, 4)[:, None] * sigmas[None, :-1] * 3
    velocities = np.stack([np.cos(angles), np.sin(angles)], axis=2)
    return GramTable(velocities @ velocities.transpose(0, 2, 1), sigmas, response)


def test_other_steps_are_optimised_where_the_document_can(main: Any, tmp_path: Path) -> None:
    policy = write_gram_document(tmp_path / "policy", gram_table(None), [5])
    arguments = ("predict", str(tmp_path / "policy"), "--budget", "4", "--steps", "10")
    printed = main(*arguments)
    sigmas = np.interp(np.linspace(0, 16, 11), np.arange(17), policy.table.sigmas)
    schedule = policy.schedule_at(4, sigmas, np.diff(sigmas))
    assert schedule is not None
    assert printed.out == " ".join(map(str, schedule.computed_steps)) + "\n"
    assert printed.err == (
        "optimised on the run's own sigmas: the document is of runs of 16 steps\n"
    )
    data = json.loads(main(*arguments, "--format", "json").out)
    assert data["adaptation"] == "optimised on the run's own sigmas"


def test_what_another_solver_does_is_known_in_a_run_only(main: Any, tmp_path: Path) -> None:
    folder, table = tmp_path / "policy", gram_table(np.linspace(0.1, 0.0, 16))
    write_gram_document(folder, table, [5], scheduler="UniPCMultistepScheduler")
    printed = main("predict", str(folder), "--budget", "4", "--steps", "10")
    assert printed.err == "carried over: the document is of runs of 16 steps\n"


def test_without_sigmas_only_shares_count() -> None:
    """Whatever the sigmas of the run are, a published schedule is carried over the same."""
    from otcache_plugin.cli.common.policy_argument import policy_of
    from otcache_plugin.runs.plan import CalibratedPlan
    from otcache_plugin.runs.request import Request
    from otcache_plugin.runs.resolution import DocumentOrigin

    stored = read_policy(BUNDLED_FOLDER / "z-image")
    plan = CalibratedPlan(
        policy_of(stored), None, 15, Request(8), DocumentOrigin("here", "model", None)
    )
    scheduler = euler_scheduler(shift=6.0)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / 25, 25))
    run = plan.resolve(scheduler.sigmas.double().numpy())
    assert resolve_budget(stored, 8, 25).schedule == run.schedule


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--budget", "12"], ["budget=12", "Use --budget=13 … 25, or 50"]),
        (["--budget", "1", "--steps", "20"], ["budget=1", "the run has 20 steps", "5 … 10, or 20"]),
        (["--budget", "21", "--steps", "20"], ["budget=21", "Use --budget=5 … 10, or 20"]),
        (["--budget", "15", "--steps", "20"], ["of 20 steps, outside the range"]),
        (["--budget", "2", "--steps", "1"], ["--steps=1", "Use 2 … 10000"]),
        (["--budget", "2", "--steps", "10001"], ["--steps=10001"]),
        (
            ["--budget", "15", "--format", "toml"],
            ["--format='toml': no such choice", "cache-dit-yaml"],
        ),
        (
            ["--budget", "15", "--calibrator", "foca"],
            ["--calibrator='foca'", "--format cache-dit-yaml"],
        ),
        (["--budget", "15", "--json", "--format", "mask"], ["--format='mask'", "one of the two"]),
        ([], ["Missing option '--budget'"]),
    ],
)
def test_refused(main: Any, arguments: list[str], words: list[str]) -> None:
    refused = main("predict", "bundled:z-image", *arguments)
    assert (refused.code, refused.out) == (2, "")
    for each in words:
        assert each in refused.err


def sglang(main: Any, *arguments: str) -> dict[str, str]:
    """The variables that SGLang reads."""
    lines = predict(main, *arguments, "--format", "sglang-env").splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_sglangs_bins_of_a_published_schedule(main: Any) -> None:
    assert sglang(main, "bundled:qwen-image", "--budget", "15") == {
        "SGLANG_CACHE_DIT_ENABLED": "true",
        "SGLANG_CACHE_DIT_SCM_COMPUTE_BINS": "5,1,1,1,1,1,1,1,1,1,1",
        "SGLANG_CACHE_DIT_SCM_CACHE_BINS": "1,1,1,2,7,6,6,7,3,1",
        "SGLANG_CACHE_DIT_SCM_POLICY": "static",
    }


@pytest.mark.parametrize("budget", [8, 9, 10, 12, 15, 17, 20])
def test_sglangs_bins_give_the_mask_back(main: Any, budget: int) -> None:
    arguments = ("bundled:exact-flow", "--budget", str(budget))
    variables = sglang(main, *arguments)
    compute, cache = (
        [int(each) for each in variables[f"SGLANG_CACHE_DIT_SCM_{name}_BINS"].split(",")]
        for name in ("COMPUTE", "CACHE")
    )
    mask = json.loads(predict(main, *arguments, "--format", "mask"))
    assert cache_dit.steps_mask(compute, cache, total_steps=50) == mask


@pytest.fixture
def yaml(main: Any, tmp_path: Path) -> Any:
    """Write the YAML of budget 12 and return its path and the steps it is to compute."""

    def write(*more: str) -> tuple[Path, list[int]]:
        write_document(tmp_path / "policy")
        path = tmp_path / "cache.yaml"
        arguments = (str(tmp_path / "policy"), "--budget", "12")
        path.write_text(predict(main, *arguments, "--format", "cache-dit-yaml", *more))
        return path, [int(step) for step in predict(main, *arguments).split()]

    return write


def test_yaml_is_what_load_configs_reads(yaml: Any) -> None:
    path, steps = yaml()
    loaded = load_configs(str(path))
    config = loaded.pop("cache_config")
    assert set(loaded.values()) == {None}
    assert config == cache_dit.DBCacheConfig(
        Fn_compute_blocks=1,
        Bn_compute_blocks=0,
        num_inference_steps=50,
        steps_computation_mask=[int(step in steps) for step in range(50)],
        steps_computation_policy="static",
    )


def run_with_yaml(pipe: Any, path: Path) -> tuple[list[int], torch.Tensor]:
    """Run twice under cache-dit alone; the steps in which the last block ran, and the output."""
    steps: list[int] = []
    taken = 0

    def step(*args: Any, **kwargs: Any) -> Any:
        nonlocal taken
        taken += 1
        return original(*args, **kwargs)

    cache_dit.enable_cache(pipe, **load_configs(str(path)))
    block = pipe.transformer.single_transformer_blocks[-1]
    handle = block.register_forward_pre_hook(lambda *_: steps.append(taken))
    original, pipe.scheduler.step = pipe.scheduler.step, step
    try:
        FLUX.run(pipe)
        first, taken = list(steps), 0
        steps.clear()
        output = FLUX.run(pipe)
    finally:
        handle.remove()
        pipe.scheduler.step = original
        cache_dit.disable_cache(pipe)
    assert steps == first
    return first, output


def test_cache_dit_alone_computes_the_same_steps_as_the_blocks_executor(
    yaml: Any, tmp_path: Path
) -> None:
    path, planned = yaml()
    steps, output = run_with_yaml(make_flux(num_layers=3, num_single_layers=2), path)
    assert steps == planned
    pipe = make_flux(num_layers=3, num_single_layers=2)
    otcache_plugin.enable_cache(pipe, policy=tmp_path / "policy", budget=12, executor="blocks")
    expected = FLUX.run(pipe)
    assert otcache_plugin.summary(pipe).computed_steps == tuple(planned)
    otcache_plugin.disable_cache(pipe)
    assert torch.equal(output, expected)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("taylorseer", cache_dit.TaylorSeerCalibratorConfig()),
        ("foca", cache_dit.FoCaCalibratorConfig()),
        ("dmd", cache_dit.DMDCalibratorConfig()),
    ],
)
def test_a_calibrator_in_the_file_is_that_of_the_executor(
    name: str, config: Any, yaml: Any, tmp_path: Path
) -> None:
    path, planned = yaml("--calibrator", name)
    assert load_configs(str(path))["calibrator_config"] == config
    steps, output = run_with_yaml(make_flux(num_layers=3, num_single_layers=2), path)
    assert steps == planned
    outputs = []
    for calibrator in (config, None):
        pipe = make_flux(num_layers=3, num_single_layers=2)
        otcache_plugin.enable_cache(
            pipe,
            policy=tmp_path / "policy",
            budget=12,
            executor="blocks",
            calibrator_config=calibrator,
        )
        outputs.append(FLUX.run(pipe))
        otcache_plugin.disable_cache(pipe)
    assert torch.equal(output, outputs[0])
    assert not torch.equal(*outputs)


def test_a_calibrator_of_the_calibration_is_in_the_file(main: Any, tmp_path: Path) -> None:
    """And whether guidance is a second call, which cache-dit does not know of every pipeline."""
    calibrated_on = {"executor": "blocks", "calibrator": "foca", "calls_per_step": 2}
    write_document(tmp_path / "policy", sampling=sampling(tiny_flux_sigmas(), **calibrated_on))
    arguments = (str(tmp_path / "policy"), "--budget", "12", "--format", "cache-dit-yaml")
    for more, config in (
        ((), cache_dit.FoCaCalibratorConfig()),
        (("--calibrator", "dmd"), cache_dit.DMDCalibratorConfig()),
    ):
        path = tmp_path / "cache.yaml"
        path.write_text(predict(main, *arguments, *more))
        loaded = load_configs(str(path))
        assert loaded["calibrator_config"] == config
        assert loaded["cache_config"].enable_separate_cfg is True


def test_source_cannot_break_out_of_the_comment(main: Any, tmp_path: Path) -> None:
    folder = tmp_path / "policy\nattention_backend: native\n"
    write_document(folder)
    path = tmp_path / "cache.yaml"
    path.write_text(predict(main, str(folder), "--budget", "12", "--format", "cache-dit-yaml"))
    loaded = load_configs(str(path))
    assert loaded["cache_config"].num_inference_steps == 50
    assert loaded["attention_backend"] is None
