"""Which set-up is nearest to a run, by what counts most first; and what differs."""

from __future__ import annotations

from typing import Any

from otcache_registry import Sampling
from otcache_registry.documents.fields import UNKNOWN
from otcache_registry.finding.nearest import Difference, Kind, RunSetup, differences, distance


def sampling(**changes: Any) -> Sampling:
    """Return a set-up of 50 steps at 512 × 512 with guidance 4."""
    fields: dict[str, Any] = {
        "pipeline": "P",
        "scheduler": "S",
        "num_inference_steps": 50,
        "sigmas": None,
        "height": 512,
        "width": 512,
        "guidance": {"guidance_scale": 4.0},
    }
    return Sampling(**{**fields, **changes})


RUN = RunSetup("P", 50, 512, 512, {"guidance_scale": 4.0}, {"guidance_scale": 3.5})


def run(**changes: Any) -> RunSetup:
    """Return a run of just that set-up, changed."""
    return RunSetup(**{**vars(RUN), **changes})


def nearest(wanted: RunSetup, *choices: Sampling) -> Sampling:
    """Return the nearest."""
    return min(choices, key=lambda each: distance(each, wanted))


def test_the_scheduler_counts_most_then_the_pipeline() -> None:
    other_scheduler, other_pipeline = sampling(scheduler="T"), sampling(pipeline="Q")
    other_steps = sampling(num_inference_steps=20)
    known = run(scheduler="S")
    assert nearest(known, other_scheduler, other_pipeline) == other_pipeline
    assert nearest(known, other_scheduler, other_pipeline, other_steps) == other_steps
    assert nearest(run(scheduler="T"), other_steps, other_scheduler) == other_scheduler
    both = sampling(scheduler="T", pipeline="Q")
    assert nearest(run(scheduler="T", pipeline="P"), sampling(), other_pipeline, both) == both


def test_steps_go_by_their_ratio() -> None:
    other_guidance = sampling(guidance={"guidance_scale": 12.0}, height=1024, width=1024)
    shorter = sampling(num_inference_steps=28)
    assert nearest(RUN, shorter, other_guidance) == other_guidance
    assert nearest(run(num_inference_steps=28), other_guidance, shorter) == shorter
    # 20 to 10 is a factor of 2, 36 to 20 of 1.8, though it is further away in steps.
    ten, many = sampling(num_inference_steps=10), sampling(num_inference_steps=36)
    assert nearest(run(num_inference_steps=20), ten, many) == many
    assert nearest(run(num_inference_steps=None), ten, other_guidance) == ten


def test_then_guidance_then_size() -> None:
    strong = sampling(guidance={"guidance_scale": 12.0})
    large = sampling(height=1024, width=1024)
    small = sampling(height=256, width=256)
    assert nearest(run(guidance={"guidance_scale": 9.0}), large, strong) == strong
    assert nearest(run(guidance={"guidance_scale": 7.0}), strong, large) == large
    assert nearest(run(height=768, width=768), small, large) == large
    assert not any(distance(sampling(), RUN))


def test_the_executor_counts_before_the_steps_then_its_calibrator() -> None:
    velocity = sampling(executor="velocity")
    blocks = sampling(executor="blocks", num_inference_steps=28)
    taylorseer = sampling(executor="blocks", calibrator="taylorseer", num_inference_steps=20)
    by_blocks = run(executor="blocks", calibrator="taylorseer")
    assert nearest(run(executor="velocity"), blocks, velocity) == velocity
    assert nearest(run(executor="blocks"), velocity, taylorseer, blocks) == blocks
    assert nearest(by_blocks, velocity, blocks, taylorseer) == taylorseer
    assert nearest(by_blocks, velocity, blocks) == blocks
    # What is unknown is no difference.
    assert nearest(RUN, blocks, velocity) == velocity
    assert differences(sampling(), by_blocks) == differences(velocity, RUN) == ()


def test_another_executor_and_another_calibrator_matter() -> None:
    velocity = sampling(executor="velocity")
    by_blocks = run(executor="blocks", calibrator="taylorseer")
    text = "executor blocks with taylorseer instead of velocity"
    assert differences(velocity, by_blocks) == (Difference(Kind.EXECUTOR, text, True),)
    reused = sampling(executor="blocks")
    text = "executor blocks with taylorseer instead of blocks"
    assert differences(reused, by_blocks) == (Difference(Kind.EXECUTOR, text, True),)


def test_nothing_differs() -> None:
    assert differences(sampling(), RUN) == ()
    # Steps and noise levels are what the adaptation of the schedule tells of.
    assert differences(sampling(), run(num_inference_steps=28)) == ()


def test_what_differs_and_whether_it_matters() -> None:
    guidance = Difference(Kind.GUIDANCE, "guidance_scale 12 instead of 4", True)
    assert differences(sampling(), run(guidance={"guidance_scale": 12.0})) == (guidance,)
    pipeline = Difference(Kind.PIPELINE, "pipeline Q instead of P", True)
    assert differences(sampling(), run(pipeline="Q")) == (pipeline,)
    scheduler = Difference(Kind.SCHEDULER, "scheduler T instead of S", True)
    assert differences(sampling(), run(scheduler="T")) == (scheduler,)
    assert differences(sampling(), run(scheduler="S")) == ()
    for width, matters in ((256, False), (1024, False), (1032, True)):
        size = Difference(Kind.SIZE, f"size {width} × 512 instead of 512 × 512", matters)
        assert differences(sampling(), run(width=width)) == (size,)


def test_a_set_up_that_names_no_guidance_had_the_pipelines_own() -> None:
    unnamed = sampling(guidance={})
    assert differences(unnamed, run(guidance={"guidance_scale": 3.5})) == ()
    (found,) = differences(unnamed, RUN)
    assert found.text == "guidance_scale 4 instead of 3.5"
    # Another pipeline's own says nothing of it.
    assert [each.kind for each in differences(unnamed, run(pipeline="Q"))] == [Kind.PIPELINE]


def test_what_is_unknown_is_not_held_against_it() -> None:
    assert differences(sampling(height=None, width=None), RUN) == ()
    assert differences(sampling(), run(height=None, guidance={})) == ()
    assert not any(distance(sampling(), run(width=None, guidance={})))
    # As of schedules that others published without saying by which scheduler.
    published = sampling(pipeline=UNKNOWN, scheduler=UNKNOWN)
    assert differences(published, run(scheduler="S")) == ()
    assert not any(distance(published, run(scheduler="S")))
