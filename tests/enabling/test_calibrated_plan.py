"""A calibrated policy in a pipeline: from the document on disk to the steps of every run."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from otcache_policies import BudgetError, Schedule, transfer
from otcache_registry import (
    DocumentError,
    DocumentNotFoundError,
    StoredPolicy,
    find_bundled,
    read_policy,
)
from otcache_registry.finding.resolving import OtherRevisionWarning
from otcache_registry.store.store import PolicyStore
from stored_policies import meancache_of, otcache_of
from tiny_documents import MODEL, REVISION, tiny_flux_sigmas, write_document
from tiny_pipelines import FLUX, STEPS, count_forwards, make_flux

import otcache_plugin
from otcache_plugin.enabling.documents import OtherModelWarning
from otcache_plugin.runs.notices import RunWarning
from otcache_plugin.runs.plan import CalibratedPlan
from otcache_plugin.runs.request import Request
from otcache_plugin.runs.resolution import DocumentOrigin


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A document's folder."""
    write_document(tmp_path / "policy")
    return tmp_path / "policy"


@pytest.fixture
def stored(folder: Path) -> StoredPolicy:
    """What lies in it."""
    return read_policy(folder)


@pytest.fixture
def store(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PolicyStore:
    """The user's store, with that document pulled from a repository."""
    monkeypatch.setenv("OTCACHE_CACHE", str(tmp_path / "store"))
    store = PolicyStore()
    names = ("policy.json", "tables.safetensors", "README.md")
    contents = {name: (folder / name).read_bytes() for name in names}
    store.add("otcache/policies", "f" * 40, "", contents, datetime.now(UTC))
    return store


def schedule_of(pipe: Any) -> Schedule:
    """What the last run computed, checked against what it was planned to."""
    report = otcache_plugin.summary(pipe)
    assert report.as_planned
    return Schedule(report.computed_steps, report.num_inference_steps, report.look_backs)


@pytest.mark.parametrize("budget", [8, 9, 15, 20, 30, 50])
def test_the_documents_own_steps(
    budget: int, folder: Path, stored: StoredPolicy, enable: Any
) -> None:
    pipe = make_flux()
    enable(pipe, policy=str(folder), budget=budget)
    with count_forwards(pipe.transformer.x_embedder) as forwards:
        FLUX.run(pipe)
    assert len(forwards) == budget
    assert schedule_of(pipe) == otcache_of(stored).schedule(budget)
    report = otcache_plugin.summary(pipe)
    assert report.policy == "otcache"
    assert report.document == str(folder)
    assert (report.model, report.revision) == (MODEL, REVISION)
    assert report.adaptation is None
    assert f"policy otcache from {folder}" in str(report)


@pytest.mark.parametrize("as_given", [str, Path, lambda folder: folder / "policy.json"])
def test_the_default_budget(as_given: Any, folder: Path, enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy=as_given(folder))
    FLUX.run(pipe)
    assert schedule_of(pipe).budget == 12


def test_a_folder_in_the_working_directory(
    folder: Path, enable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    pipe = make_flux()
    enable(pipe, policy="policy")
    assert otcache_plugin.summary(pipe).document == "policy"


def test_a_speed_up(folder: Path, enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy=folder, speedup=5.0)
    FLUX.run(pipe)
    assert schedule_of(pipe).budget == 10


def refusal(pipe: Any, **call: Any) -> str:
    """What a call of a pipeline raises, before the transformer is called."""
    with (
        count_forwards(pipe.transformer.x_embedder) as forwards,
        pytest.raises(BudgetError) as caught,
    ):
        FLUX.run(pipe, **call)
    assert not forwards
    return str(caught.value)


@pytest.mark.parametrize(("speedup", "budget"), [(7.0, 7), (50.0, 2)])
def test_speed_ups_outside_the_range(
    speedup: float, budget: int, folder: Path, enable: Any
) -> None:
    pipe = make_flux()
    enable(pipe, policy=folder, speedup=speedup)
    message = refusal(pipe)
    assert message.startswith(f"speedup={speedup}: {budget} of 50 steps are outside the range")
    assert "up to 6.25" in message


def test_the_largest_speed_up_holds_for_every_number_of_steps(folder: Path, enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy=folder, speedup=6.25)
    # 4 of 28 are 7.1 of 50, below the smallest budget by less than a step of the run.
    for steps, budget in ((50, 8), (28, 4), (20, 3)):
        FLUX.run(pipe, num_inference_steps=steps)
        assert schedule_of(pipe).budget == budget


def test_a_budget_far_below_the_range_of_a_shorter_run(folder: Path, enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy=folder, budget=8)
    with pytest.raises(BudgetError, match=r"budget=8: of 100 steps, outside the range"):
        FLUX.run(pipe, num_inference_steps=100)


def test_a_numpy_budget(folder: Path, enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy=folder, budget=np.int64(10))
    FLUX.run(pipe)
    assert schedule_of(pipe).budget == 10


def test_another_number_of_steps_is_carried_over(
    folder: Path, stored: StoredPolicy, enable: Any
) -> None:
    pipe = make_flux()
    enable(pipe, policy=folder)
    for steps, budget in ((30, 7), (20, 5), (100, 24)):
        FLUX.run(pipe, num_inference_steps=steps)
        sigmas = pipe.scheduler.sigmas.double().numpy()
        # The calibrated budget of the same share: 7 of 30 is 11.7 of 50.
        calibrated = otcache_of(stored).schedule(round(budget * STEPS / steps))
        assert schedule_of(pipe) == transfer(calibrated, tiny_flux_sigmas(), sigmas, budget)
        assert otcache_plugin.summary(pipe).adaptation == "carried over"
        assert "carried over" in str(otcache_plugin.summary(pipe))
    FLUX.run(pipe)
    assert otcache_plugin.summary(pipe).adaptation is None


def test_other_sigmas_are_carried_over_too(folder: Path, stored: StoredPolicy, enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy=folder, budget=10)
    FLUX.run(pipe, sigmas=np.linspace(1.0, 0.0, STEPS, endpoint=False) ** 2)
    assert otcache_plugin.summary(pipe).adaptation == "carried over"
    assert schedule_of(pipe).budget == 10
    assert schedule_of(pipe) != otcache_of(stored).schedule(10)


def test_a_run_of_few_steps_computes_them_all(folder: Path, enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy=folder)
    for steps in (1, 2):
        FLUX.run(pipe, num_inference_steps=steps)
        assert schedule_of(pipe) == Schedule.full(steps)


def test_more_than_the_steps_of_the_run(folder: Path, enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy=folder, budget=15)
    with (
        count_forwards(pipe.transformer.x_embedder) as forwards,
        pytest.raises(BudgetError, match=r"budget=15: the run has 10 steps. Use budget=2 … 10"),
    ):
        FLUX.run(pipe, num_inference_steps=10)
    assert not forwards


@pytest.mark.parametrize(
    ("budget", "problem"),
    [(7, "of 50 steps, outside the range of policy 'otcache'"), (51, "the run has 50 steps")],
)
def test_budgets_outside_the_range(budget: int, problem: str, folder: Path, enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy=folder, budget=budget)
    assert refusal(pipe) == f"budget={budget}: {problem}. Use budget=8 … 50."


SERVED = {
    50: (*range(13, 26), 50),
    28: (*range(7, 15), 28),
    20: (*range(5, 11), 20),
    8: (*range(2, 5), 8),
}
"""By the steps of a run, what 13 … 25 of 50, or all of them, come to: 13 of 50 is 7.28 of 28."""


@pytest.mark.filterwarnings("ignore:.*of 8 steps are computed")
@pytest.mark.parametrize("steps", SERVED)
def test_both_doors_serve_the_same_budgets_of_a_run(steps: int) -> None:
    """A budget, and the speed-up that it comes to, go by the run's own steps."""
    stored = find_bundled("otcache", "Tongyi-MAI/Z-Image", "any")
    policy, origin = otcache_of(stored), DocumentOrigin("here", "model", None)
    for budget in range(2, steps + 1):
        for door, asked in (("budget", budget), ("speedup", steps / budget)):
            plan = CalibratedPlan(policy, None, 15, Request(**{door: asked}), origin)
            if budget in SERVED[steps]:
                assert plan.budget_for(steps) == budget
                run = plan.resolve(np.linspace(1.0, 0.0, steps + 1))
                assert (run.schedule.budget, run.num_inference_steps) == (budget, steps)
            else:
                refused = rf"^{door}={re.escape(repr(asked))}: .*of {steps} steps"
                with pytest.raises(BudgetError, match=refused):
                    plan.budget_for(steps)


def test_a_refusal_speaks_of_the_runs_steps(enable: Any) -> None:
    pipe = make_flux()
    outside = "outside the range of policy 'otcache', which was calibrated at 50 steps"
    enable(pipe, policy="bundled:z-image", budget=15)
    message = refusal(pipe, num_inference_steps=28)
    assert message == f"budget=15: of 28 steps, {outside}. Use budget=7 … 14, or 28."
    enable(pipe, policy="bundled:z-image", speedup=7.0)
    message = refusal(pipe, num_inference_steps=28)
    remedy = "Use a speed-up for 7 … 14, or 28 of 28 steps, up to 4.00"
    assert message == f"speedup=7.0: 4 of 28 steps are {outside}. {remedy}."


FEW = "of 8 steps are computed, a share that is meant for runs of many steps"


@pytest.mark.parametrize("policy", ["uniform", "document"])
def test_a_run_of_few_steps_is_warned_of_once(policy: str, folder: Path, enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy="uniform" if policy == "uniform" else folder)
    with pytest.warns(RunWarning, match=f"^2 {FEW}.*policy='uniform', budget=6, or"):
        FLUX.run(pipe, num_inference_steps=8)
    FLUX.run(pipe, num_inference_steps=8)
    assert schedule_of(pipe).budget == 2
    assert f"2 {FEW}" in "".join(otcache_plugin.summary(pipe).notes)
    FLUX.run(pipe, num_inference_steps=9)
    assert FEW not in str(otcache_plugin.summary(pipe))


@pytest.mark.parametrize("asked", [{"budget": 3}, {"speedup": 1.0}, {"speedup": 1.3}], ids=str)
def test_of_few_steps_a_budget_is_meant_as_it_is(asked: dict[str, Any], enable: Any) -> None:
    """And 6 of 8 steps, which a speed-up of 1.3 comes to, are no reason to warn."""
    pipe = make_flux()
    enable(pipe, policy="uniform", **asked)
    FLUX.run(pipe, num_inference_steps=8)
    assert otcache_plugin.summary(pipe).notes == ()


@pytest.mark.parametrize("budget", [10.0, True, "10", 1])
def test_budgets_that_are_none(budget: Any, folder: Path) -> None:
    with pytest.raises(BudgetError, match=f"budget={budget!r}: not a number of steps"):
        otcache_plugin.enable_cache(make_flux(), policy=folder, budget=budget)


@pytest.mark.parametrize("policy", ["otcache", "meancache"])
def test_the_document_of_the_model_revision_is_found(
    policy: str, stored: StoredPolicy, store: PolicyStore, enable: Any
) -> None:
    pipe = make_flux()
    enable(pipe, policy=policy, budget=12, model=MODEL, revision=REVISION)
    FLUX.run(pipe)
    policies = {"otcache": otcache_of(stored), "meancache": meancache_of(stored)}
    assert schedule_of(pipe) == policies[policy].schedule(12)
    report = otcache_plugin.summary(pipe)
    assert (report.policy, report.model, report.revision) == (policy, MODEL, REVISION)
    (record,) = store.records()
    assert report.document == record.source


def test_a_document_of_another_revision_is_not_used_silently(
    store: PolicyStore, enable: Any
) -> None:
    pipe = make_flux()
    with pytest.raises(DocumentNotFoundError) as caught:
        enable(pipe, policy="otcache", model=MODEL, revision="v2")
    (record,) = store.records()
    message = str(caught.value)
    assert f"{record.source} (revision {REVISION}, 50 steps)" in message
    assert "allow_other_revision=True" in message
    accept = {"policy": "otcache", "model": MODEL, "revision": "v2", "allow_other_revision": True}
    with pytest.warns(OtherRevisionWarning, match=f"on revision {REVISION}, not on v2"):
        enable(pipe, **accept)
    assert otcache_plugin.summary(pipe).revision == REVISION


def test_a_named_document_of_another_revision_is_not_used_silently(
    folder: Path, enable: Any
) -> None:
    pipe = make_flux()
    with pytest.raises(DocumentNotFoundError, match="was calibrated on revision") as caught:
        enable(pipe, policy=folder, model=MODEL, revision="v2")
    assert "allow_other_revision=True" in str(caught.value)
    with pytest.warns(OtherRevisionWarning, match=f"on revision {REVISION} of {MODEL}"):
        enable(pipe, policy=folder, model=MODEL, revision="v2", allow_other_revision=True)
    # Of an unknown one it is the user's own choice.
    enable(pipe, policy=folder)
    unknown = f"It is unknown whether this pipeline is of {MODEL}, which the policy is for."
    assert otcache_plugin.summary(pipe).notes == (unknown,)


ANOTHER = {"model": "example/another", "revision": REVISION}


def snapshot_of(model: str) -> str:
    """Return where the Hub's cache has a model's transformer."""
    owner, name = model.split("/")
    return f"/cache/models--{owner}--{name}/snapshots/{REVISION}/transformer"


def test_a_document_of_another_model_is_refused_though_it_is_named(
    folder: Path, enable: Any
) -> None:
    """Also where the paths alone say which model it is, as of a quantised transformer."""
    said, found, same = make_flux(), make_flux(), make_flux()
    found.transformer.register_to_config(_name_or_path=snapshot_of(ANOTHER["model"]))
    same.transformer.register_to_config(_name_or_path=snapshot_of(MODEL))
    for pipe, arguments in ((said, ANOTHER), (found, {})):
        with pytest.raises(DocumentNotFoundError) as caught:
            enable(pipe, policy=folder, **arguments)
        message = str(caught.value)
        problem = f"{folder} was calibrated on {MODEL}, another model"
        assert message.startswith(f"model='example/another': {problem}")
        assert "policy='uniform'" in message
        assert "allow_other_model=True" in message
        with pytest.warns(OtherModelWarning, match=f"another model than {ANOTHER['model']}"):
            enable(pipe, policy=folder, allow_other_model=True, **arguments)
        assert otcache_plugin.summary(pipe).model == MODEL
    enable(same, policy=folder)


def test_a_bundled_document_of_another_bundled_model(enable: Any) -> None:
    pipe = otcache_plugin.load_embedded_pipeline()
    with pytest.raises(DocumentNotFoundError, match=r"^model='embedded': bundled:exact-flow was"):
        enable(pipe, policy="bundled:exact-flow")
    enable(pipe, policy="bundled:embedded")
    assert otcache_plugin.summary(pipe).notes == ()


@pytest.mark.filterwarnings("ignore:.*pipeline FluxPipeline instead of QwenImagePipeline")
@pytest.mark.parametrize("steps", [50, 30])
def test_published_schedules_hold_for_any_revision_and_sigmas(steps: int, enable: Any) -> None:
    pipe = make_flux()
    budget = 10 * steps // 50
    enable(pipe, policy="otcache", budget=10, model="Qwen/Qwen-Image", revision="any at all")
    if steps != 50:
        enable(pipe, policy="otcache", speedup=5.0, model="Qwen/Qwen-Image", revision="0" * 40)
    FLUX.run(pipe, num_inference_steps=steps)
    report = otcache_plugin.summary(pipe)
    assert report.as_planned
    assert len(report.computed_steps) == budget
    assert (report.document, report.revision) == ("bundled:qwen-image", None)
    assert report.adaptation == (None if steps == 50 else "carried over")
    if steps == 50:
        published = [0, 1, 3, 7, 14, 21, 28, 35, 42, 49]
        assert list(report.computed_steps) == published
        assert report.look_backs == (1, 2, 1, 1, 1, 1, 1, 1, 4)


def test_a_bundled_document_by_its_name(enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy="bundled:z-image", budget=13)
    with pytest.warns(RunWarning, match="pipeline FluxPipeline instead of ZImagePipeline"):
        FLUX.run(pipe)
    assert otcache_plugin.summary(pipe).document == "bundled:z-image"
    with pytest.raises(DocumentError, match="published schedules without an edge table"):
        enable(pipe, policy="meancache", model="Tongyi-MAI/Z-Image", revision="any")


@pytest.mark.parametrize("policy", ["otcache", "meancache"])
def test_the_bundled_policy_of_the_exact_flow(policy: str, enable: Any) -> None:
    pipe = otcache_plugin.load_exact_flow_pipeline()
    stored = find_bundled("otcache", *pipe.otcache_model)
    enable(pipe, policy=policy)
    pipe(pipe.transformer.captions[0], generator=torch.Generator().manual_seed(0))
    report = otcache_plugin.summary(pipe)
    assert report.document == stored.source == "bundled:exact-flow"
    assert (report.model, report.revision) == pipe.otcache_model
    assert report.adaptation is None
    assert schedule_of(pipe).budget == stored.document.default_budget
