"""Several documents of one model revision: every run follows the nearest, and says what differs."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from otcache_policies import GramTable, euler_response
from otcache_registry.finding.nearest import RunSetup
from otcache_registry.hub.errors import HubUnreachableError
from otcache_registry.store.store import PolicyStore
from tiny_documents import MODEL, REVISION, write_gram_document
from tiny_pipelines import FLUX, WAN, euler_scheduler, make_flux, make_wan, unipc_scheduler

import otcache_plugin
from otcache_plugin.enabling.planning import make_plan
from otcache_plugin.enabling.wanted import Wanted
from otcache_plugin.plugins.host import plugin_host
from otcache_plugin.runs.documents import DocumentsPlan
from otcache_plugin.runs.notices import RunWarning
from otcache_plugin.runs.request import Request

UNIPC = "UniPCMultistepScheduler"
ENABLE = {"policy": "gram", "model": MODEL, "revision": REVISION}


def levels(steps: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The noise levels of a run of the tiny Flux pipeline."""
    scheduler = make_flux().scheduler
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps))
    found: np.ndarray[Any, np.dtype[np.float64]] = scheduler.sigmas.double().numpy()
    return found


def table(steps: int, multistep: bool = False) -> GramTable:
    """Gram matrices of velocities that turn from one direction into another."""
    sigmas = levels(steps)
    velocities = np.stack([sigmas[:-1], 1 - sigmas[:-1] ** 2], axis=1)
    response = euler_response(sigmas) if multistep else None
    return GramTable((velocities @ velocities.T)[None], sigmas, response)


class Shelf:
    """A store, whose documents get into it one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = PolicyStore()

    def put(self, steps: int, **set_up: Any) -> str:
        """Put a document of runs of so many steps in; its source."""
        number = len(self.store.records())
        folder = self.folder / str(number)
        write_gram_document(folder, table(steps, set_up.get("scheduler") == UNIPC), [5], **set_up)
        names = ("policy.json", "tables.safetensors", "README.md")
        contents = {name: (folder / name).read_bytes() for name in names}
        commit = f"{number:040x}"
        self.store.add(f"otcache/policy-{number}", commit, "", contents, datetime.now(UTC))
        (source,) = {each.source for each in self.store.records() if each.commit == commit}
        return source


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.setenv("OTCACHE_CACHE", str(tmp_path / "store"))
    return Shelf(tmp_path)


@pytest.mark.parametrize("put_in", [(16, 28), (28, 16)], ids=str)
def test_every_run_follows_the_document_of_its_steps(
    put_in: tuple[int, int], shelf: Shelf, enable: Any
) -> None:
    """Whichever was pulled last, and under one and the same enabling."""
    sources = {steps: shelf.put(steps) for steps in put_in}
    pipe = make_flux()
    enable(pipe, **ENABLE, budget=5)
    for steps, nearest in ((28, 28), (16, 16), (40, 28), (20, 16), (28, 28)):
        FLUX.run(pipe, num_inference_steps=steps)
        report = otcache_plugin.summary(pipe)
        assert report.as_planned
        assert report.document == sources[nearest]
        assert (report.adaptation is None) == (steps == nearest)


def plan_of(request: Request | None = None) -> DocumentsPlan:
    """The plan of what is in the store, on a tiny Flux pipeline."""
    wanted = Wanted(MODEL, REVISION)
    plan = make_plan(plugin_host(), make_flux(), "gram", request or Request(5), wanted)
    assert isinstance(plan, DocumentsPlan)
    return plan


def call_of(**changes: Any) -> RunSetup:
    """A call at 64 × 64 and guidance 4."""
    fields: dict[str, Any] = {"height": 64, "width": 64, "guidance": {"guidance_scale": 4.0}}
    return RunSetup(**{"pipeline": "FluxPipeline", **fields, **changes})


def test_of_the_same_steps_guidance_decides_then_size(shelf: Shelf) -> None:
    four, eight = {"guidance": {"guidance_scale": 4.0}}, {"guidance": {"guidance_scale": 8.0}}
    mild = shelf.put(16, **four)
    strong = shelf.put(16, **eight)
    large = shelf.put(16, height=128, width=128, **four)
    plan = plan_of()
    for changes, source in (
        ({}, mild),
        ({"guidance": {"guidance_scale": 8.0}}, strong),
        ({"height": 128, "width": 128}, large),
        ({"guidance": {"guidance_scale": 8.0}, "height": 128, "width": 128}, strong),
    ):
        with warning_if(source == strong and "height" in changes, "size 128 × 128 instead of 64"):
            run = plan.resolve(levels(16), None, call_of(**changes))
        assert run.origin is not None
        assert run.origin.source == source


def test_the_scheduler_decides_before_the_steps(shelf: Shelf, enable: Any) -> None:
    """Also one that is put in after enabling; UniPC would refuse the other's look-back of 3."""
    wan = {"pipeline": "WanPipeline", "guidance": {"guidance_scale": 4.0}}
    euler = shelf.put(16, **wan)
    unipc = shelf.put(28, **wan, scheduler=UNIPC)
    pipe = make_wan(scheduler=unipc_scheduler())
    enable(pipe, **ENABLE, budget=5)
    for scheduler, source in (
        (unipc_scheduler(), unipc),
        (euler_scheduler(), euler),
        (unipc_scheduler(), unipc),
    ):
        pipe.scheduler = scheduler
        WAN.run(pipe, num_inference_steps=16)
        report = otcache_plugin.summary(pipe)
        assert (report.document, report.notes, report.as_planned) == (source, (), True)


def test_another_scheduler_is_noted_and_warned_of(shelf: Shelf) -> None:
    shelf.put(16, scheduler=UNIPC)
    euler = f"FlowMatchEulerDiscreteScheduler instead of {UNIPC}"
    with pytest.warns(RunWarning, match=f"scheduler {euler}"):
        run = plan_of().resolve(levels(16))
    assert run.notes == (f"This run is unlike those of the calibration: scheduler {euler}.",)


def test_equally_near_ones_are_named_with_the_reason(shelf: Shelf) -> None:
    """The one pulled last is taken; that of other steps is not as near, and not named."""
    older, latest = shelf.put(16), shelf.put(16)
    shelf.put(28)
    run = plan_of().resolve(levels(16))
    assert run.origin is not None
    assert run.origin.source == latest
    (note,) = run.notes
    assert note.startswith(f"{older}: as near to this run. Of equally near documents your own go")
    assert plan_of().resolve(levels(28)).notes == ()


def warning_if(given: bool, match: str) -> Any:
    """Expect a warning, or none."""
    return pytest.warns(RunWarning, match=match) if given else nullcontext()


def test_another_guidance_is_noted_of_every_run_and_warned_of_once(shelf: Shelf) -> None:
    source = shelf.put(16, guidance={"guidance_scale": 4.0})
    plan = plan_of()
    assert plan.resolve(levels(16), None, call_of()).notes == ()
    far = call_of(guidance={"guidance_scale": 12.0})
    unlike = "guidance_scale 12 instead of 4"
    with pytest.warns(RunWarning, match="its figures need not hold") as given:
        first = plan.resolve(levels(16), None, far)
    assert f"The policy from {source} was calibrated on runs unlike this one ({unlike})" in str(
        given[0].message
    )
    note = f"This run is unlike those of the calibration: {unlike}."
    assert first.notes == plan.resolve(levels(16), None, far).notes == (note,)
    # Another kind is warned of on its own.
    with pytest.warns(RunWarning, match="pipeline FluxImg2ImgPipeline instead of FluxPipeline"):
        plan.resolve(levels(16), None, call_of(pipeline="FluxImg2ImgPipeline"))
    with pytest.warns(RunWarning, match="size 128 × 128 instead of 64 × 64"):
        plan.resolve(levels(16), None, call_of(height=128, width=128))
    wide = plan.resolve(levels(16), None, call_of(width=128))
    assert wide.notes == (f"{note[:44]} size 128 × 64 instead of 64 × 64.",)


def test_a_document_that_can_no_longer_be_had_is_left_out(shelf: Shelf) -> None:
    """As one on the Hub, which is fetched when a run is nearest to it; the run says so."""
    shelf.put(16)
    kept = shelf.put(28)
    plan = plan_of()
    asked = []

    def fail() -> Any:
        asked.append(1)
        raise HubUnreachableError("endpoint", "there", "no answer", "Try again")

    assert plan.origin is not None
    assert plan.origin.source == kept
    plan.others = [replace(each, make=fail) for each in plan.others]
    for _ in range(2):
        run = plan.resolve(levels(16))
        assert run.origin is not None
        assert run.origin.source == kept
        assert "was left out: endpoint='there': no answer. Try again." in run.notes[0]
    assert asked == [1]


def test_the_budgets_of_the_nearest_count(shelf: Shelf) -> None:
    shelf.put(16)
    shelf.put(28)
    plan = plan_of(Request(20))
    assert plan.budget_for(28) == 20
    with pytest.raises(ValueError, match="budget=20: the run has 16 steps"):
        plan.budget_for(16)


@pytest.mark.parametrize("executor", ["velocity", "blocks"])
def test_what_a_call_says_of_its_run(executor: str, shelf: Shelf, enable: Any) -> None:
    """Its guidance and size, by the arguments or by default, whichever executor runs it."""
    source = shelf.put(16, guidance={"true_cfg_scale": 4.0})
    nearer = shelf.put(16, guidance={"true_cfg_scale": 8.0})
    pipe = make_flux(num_layers=2)
    enable(pipe, **ENABLE, budget=5, executor=executor)
    FLUX.run(pipe, num_inference_steps=16, true_cfg_scale=4.0)
    report = otcache_plugin.summary(pipe)
    assert (report.document, report.notes, report.as_planned) == (source, (), True)
    with pytest.warns(RunWarning, match="true_cfg_scale 7 instead of 8"):
        FLUX.run(pipe, num_inference_steps=16, true_cfg_scale=7.0)
    report = otcache_plugin.summary(pipe)
    note = "This run is unlike those of the calibration: true_cfg_scale 7 instead of 8."
    assert (report.document, report.notes) == (nearer, (note,))
    assert note in str(report)
    # Once is enough to warn of guidance; what is left out has the pipeline's default, here 1.
    FLUX.run(pipe, num_inference_steps=16)
    note = "This run is unlike those of the calibration: true_cfg_scale 1 instead of 4."
    assert otcache_plugin.summary(pipe).notes == (note,)
