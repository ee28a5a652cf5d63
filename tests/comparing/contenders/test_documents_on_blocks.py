"""A policy whose document was calibrated on blocks is compared on blocks, and so is what is made of
its document.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from contender_runs import latents
from otcache_policies import FieldError, UniformPolicy
from otcache_registry import write_policy
from otcache_registry.documents.bundled import read_bundled
from stored_policies import meancache_of, otcache_of

import otcache_plugin
from otcache_plugin.comparing.contenders.documents import require_documents
from otcache_plugin.comparing.contenders.policies import EvenSpacing, PolicyMethod
from otcache_plugin.comparing.methods import Bench, Method
from otcache_plugin.models.setups import ModelSetup

STEPS, BUDGET = 50, 9


@pytest.fixture(scope="module")
def on_blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's document, as if blocks with TaylorSeer had run its schedules."""
    stored = read_bundled("embedded")
    said = {"executor": "blocks", "calibrator": "taylorseer", "calls_per_step": 2}
    sampling = stored.document.sampling.model_copy(update=said)
    document = stored.document.model_copy(update={"sampling": sampling})
    folder = tmp_path_factory.mktemp("documents") / "on-blocks"
    write_policy(folder, document, stored.tables, "# On blocks\n")
    return folder


@pytest.fixture
def at_nine(
    embedded: ModelSetup, bench_of: Callable[..., Bench], on_blocks: Path
) -> Callable[..., Bench]:
    """Makes a bench with documents, at nine of fifty steps."""

    def make(*documents: str) -> Bench:
        bench = bench_of(embedded, steps=STEPS)
        return replace(bench, budgets=(BUDGET,), documents=documents)

    return make


def test_every_policy_of_the_document_runs_as_it_was_calibrated(
    at_nine: Callable[..., Bench], on_blocks: Path
) -> None:
    bench, stored = at_nine(str(on_blocks)), read_bundled("embedded")
    methods: list[Method] = [PolicyMethod("otcache"), PolicyMethod("meancache"), EvenSpacing()]
    computed = {}
    for method in methods:
        assert method.refusal(bench) is None
        (variant,) = method.variants(bench)
        assert variant.setting == "9 steps, on blocks with taylorseer"
        with method.enabled(bench, variant) as differing:
            latents(bench, **differing)
            report = otcache_plugin.summary(bench.pipe)
        assert (report.executor, report.calibrator) == ("blocks", "taylorseer")
        assert report.as_planned
        computed[method.name] = report.computed_steps
    assert computed == {
        "otcache": otcache_of(stored).schedule(BUDGET).computed_steps,
        "meancache": meancache_of(stored).schedule(BUDGET).computed_steps,
        "uniform": UniformPolicy(STEPS).schedule(BUDGET).computed_steps,
    }


def test_two_documents_of_one_policy_are_refused(
    at_nine: Callable[..., Bench], on_blocks: Path
) -> None:
    require_documents(at_nine(str(on_blocks)))
    with pytest.raises(FieldError, match=r"document=.*: 2 are for the policy otcache, and one"):
        require_documents(at_nine(str(on_blocks), "bundled:embedded"))


def test_a_policy_that_observes_blocks_is_calibrated_nowhere_else(
    exact_flow: ModelSetup, bench_of: Callable[..., Bench]
) -> None:
    """So its reason sends nobody to a calibration that would be refused."""
    said = {name: PolicyMethod(name).refusal(bench_of(exact_flow)) for name in ("dicache", "gram")}
    assert str(said["dicache"]).endswith(
        "None can be calibrated: cache-dit knows no blocks of this pipeline, whose features would "
        "be observed"
    )
    assert "Calibrate it: otcache calibrate exact-flow --policy gram" in str(said["gram"])
