"""The plugin host: entry points one by one, a broken one reported, names taken once."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cache_dit
import pytest
import torch
from built_in import BUILT_IN_POLICIES
from installed_example import EXAMPLE, path_with
from otcache_policies import UniformPolicy
from otcache_registry import Part, PolicyIdentity, Sampling, ServedBudgets, Tables
from plugin_fakes import FakeEntryPoint, plugin
from tiny_documents import write_document
from tiny_pipelines import FLUX, make_flux

import otcache_plugin
from otcache_plugin import RunReport
from otcache_plugin.builtin import (
    otcache_register_executors,
    otcache_register_metrics,
    otcache_register_policies,
)
from otcache_plugin.enabling import enable as enabling
from otcache_plugin.errors import PluginError, UnknownNameError
from otcache_plugin.evaluation.metrics import Metric, TensorMetric
from otcache_plugin.evaluation.outputs import Outputs
from otcache_plugin.pipelines.attaching import attachment
from otcache_plugin.plugins import Call, hookspecs
from otcache_plugin.plugins import host as host_module
from otcache_plugin.plugins.host import LoadedPlugin, PluginHost, load_plugins
from otcache_plugin.plugins.registries import (
    CalibratedPolicy,
    ExecutorRegistry,
    MetricRegistry,
    PolicyRegistry,
)
from otcache_plugin.runs.plan import Plan
from otcache_plugin.runs.report import planned_report

METRICS = (
    *("clip-score", "image-reward", "latent-l1", "latent-mse"),
    *("lpips", "lpips-vgg", "mse", "psnr", "ssim"),
)


def hooks_of(module: Any) -> set[str]:
    """Names of the hook specifications in a module."""
    return {name for name in vars(module) if name.startswith("otcache_")}


def test_every_hook_has_a_test() -> None:
    tested = {
        name.removeprefix("test_hook_") for name in globals() if name.startswith("test_hook_")
    }
    assert tested == hooks_of(hookspecs)


def test_every_hook_has_one_line_of_documentation() -> None:
    for name in hooks_of(hookspecs):
        assert len(getattr(hookspecs, name).__doc__.splitlines()) == 1
        assert list(inspect.signature(getattr(hookspecs, name)).parameters) == ["registry"]


def registering(**policies: Any) -> Any:
    """A plugin that registers uncalibrated policies."""

    def otcache_register_policies(registry: PolicyRegistry) -> None:
        for name, make in policies.items():
            registry.register_uncalibrated(name, make, f"the policy {name}")

    return plugin(otcache_register_policies=otcache_register_policies)


def worst_pixel(name: str = "worst-pixel") -> Metric:
    """The largest error of any pixel."""

    def compare(candidate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        return (candidate - reference).abs().flatten(1).amax(1)

    return TensorMetric(name, "", "pictures", higher_is_better=False, compare=compare)


def measuring(*names: str) -> Any:
    """A plugin that registers one metric under several names."""

    def otcache_register_metrics(registry: MetricRegistry) -> None:
        for name in names:
            registry.register(name, worst_pixel, "largest error of any pixel")

    return plugin(otcache_register_metrics=otcache_register_metrics)


class DryActivation:
    """A plan that nothing follows."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.begun: list[Any] = []

    def begin(self, pipe: Any, setup: Any) -> Call:
        self.begun.append(pipe)
        return Call()

    def report(self) -> RunReport:
        return replace(planned_report(self.plan, "dry"), num_inference_steps=3)


class DryExecutor:
    """Does nothing to the pipeline, and takes note of what it was asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, Plan, Mapping[str, Any]]] = []

    def prepare(
        self, pipe: Any, plan: Plan, cache_dit_arguments: Mapping[str, Any]
    ) -> DryActivation:
        self.seen.append((pipe, plan, cache_dit_arguments))
        return DryActivation(plan)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make `enable_cache` see the plugins of these entry points; return them."""

    def use_plugins(*entry_points: FakeEntryPoint) -> PluginHost:
        host = load_plugins(entry_points, None)
        monkeypatch.setattr(enabling, "plugin_host", lambda: host)
        return host

    return use_plugins


def test_hook_otcache_register_policies(use: Any, enable: Any, tmp_path: Path) -> None:
    made: list[Any] = []

    def sparse(num_inference_steps: int) -> UniformPolicy:
        made.append(num_inference_steps)
        return UniformPolicy(num_inference_steps)

    class Named(Part):
        budget: int

    def of_document(parameters: Named, tables: Tables, sampling: Sampling) -> UniformPolicy:
        made.append((parameters.budget, sorted(tables), sampling.num_inference_steps))
        return UniformPolicy(sampling.num_inference_steps)

    def otcache_register_policies(registry: PolicyRegistry) -> None:
        registry.register_uncalibrated("sparse", sparse, "for any number of steps")
        registry.register_calibrated(
            "foresight", parameters=Named, make=of_document, description="from a document"
        )

    module = plugin(otcache_register_policies=otcache_register_policies)
    host = use(FakeEntryPoint("theirs", lambda: module, "otcache-theirs"))
    assert list(host.policies) == sorted([*BUILT_IN_POLICIES, "foresight", "sparse"])
    assert host.policies.distribution_of("sparse") == "otcache-theirs 1.0"
    assert isinstance(host.policies.get("foresight"), CalibratedPolicy)
    assert host.policies.get("foresight").description == "from a document"

    pipe = make_flux()
    enable(pipe, policy="sparse", budget=3)
    for steps in (6, 9):
        FLUX.run(pipe, num_inference_steps=steps)
        assert otcache_plugin.summary(pipe).as_planned
    assert made == [6, 9]
    assert otcache_plugin.summary(pipe).policy == "sparse"

    write_document(
        tmp_path / "policy",
        policy=PolicyIdentity(name="foresight", distribution="otcache-theirs"),
        budgets=ServedBudgets(smallest=2, largest=50),
        parameters={"budget": 7},
    )
    enable(pipe, policy=tmp_path / "policy", budget=10)
    FLUX.run(pipe)
    assert made == [6, 9, (7, ["sigmas", "velocity_errors"], 50)]
    expected = UniformPolicy(50).schedule(10)
    assert otcache_plugin.summary(pipe).computed_steps == expected.computed_steps


def test_hook_otcache_register_executors(use: Any, enable: Any) -> None:
    executors: list[DryExecutor] = []

    def make() -> DryExecutor:
        executors.append(DryExecutor())
        return executors[-1]

    def otcache_register_executors(registry: ExecutorRegistry) -> None:
        registry.register("dry", make, "leaves the pipeline alone")

    module = plugin(otcache_register_executors=otcache_register_executors)
    host = use(FakeEntryPoint("theirs", lambda: module, "otcache-theirs"))
    assert list(host.executors) == ["blocks", "dry", "probe", "velocity"]
    assert executors == []  # made when it is first asked for
    pipe = make_flux()
    enable(pipe, policy="uniform", executor="dry", attention_backend="native")
    ((seen, plan, arguments),) = executors[0].seen
    assert seen is pipe
    assert plan.policy_name == "uniform"
    assert dict(arguments) == {"attention_backend": "native"}
    assert otcache_plugin.summary(pipe).num_inference_steps == 3
    expected = FLUX.run(make_flux(), num_inference_steps=3)
    activation = attachment(pipe)
    assert torch.equal(FLUX.run(pipe, num_inference_steps=3), expected)
    assert activation.begun == [pipe]
    cache_dit.disable_cache(pipe)
    assert torch.equal(FLUX.run(pipe, num_inference_steps=3), expected)
    assert activation.begun == [pipe]


def test_hook_otcache_register_metrics(use: Any) -> None:
    made: list[Metric] = []

    def make() -> Metric:
        made.append(worst_pixel())
        return made[-1]

    def otcache_register_metrics(registry: MetricRegistry) -> None:
        registry.register("worst-pixel", make, "largest error of any pixel")

    module = plugin(otcache_register_metrics=otcache_register_metrics)
    host = use(FakeEntryPoint("theirs", lambda: module, "otcache-theirs"))
    assert list(host.metrics) == [*METRICS, "worst-pixel"]
    assert host.metrics.distribution_of("worst-pixel") == "otcache-theirs 1.0"
    assert host.metrics.get("worst-pixel").description == "largest error of any pixel"
    assert host.plugins[1].metrics == ("worst-pixel",)
    assert made == []  # made when it is asked for
    metric = host.metric("worst-pixel")
    assert made == [metric]
    black = Outputs(torch.zeros(2, 4), torch.zeros(2, 1, 3, 8, 8))
    spotted = Outputs(torch.zeros(2, 4), torch.zeros(2, 1, 3, 8, 8))
    assert spotted.pictures is not None
    spotted.pictures[1, 0, 2, 5, 6] = 0.5
    assert metric.values(spotted, black, []).tolist() == [0.0, 0.5]


@pytest.mark.parametrize("name", ["dists", "lpips2", "clip-iqa", "x", "a-", "v-1-0"])
def test_a_name_that_a_metric_may_have(name: str) -> None:
    host = load_plugins([FakeEntryPoint("theirs", lambda: measuring(name))], None)
    assert name in host.metrics
    assert host.broken() == ()


@pytest.mark.parametrize(
    "name", ["", "LPIPS", "2nd", "-l1", "latent_l1", "a b", "a/b", "psnr\n", "été"]
)
def test_a_name_that_a_metric_may_not_have(name: str) -> None:
    entry_point = FakeEntryPoint("theirs", lambda: measuring("fine", name), "otcache-theirs")
    host = load_plugins([entry_point], None)
    (broken,) = host.broken()
    assert broken.error == (
        f"PluginError: otcache-theirs 1.0 registers the metric {name!r}: a metric's name is a "
        "small letter, then small letters, digits and hyphens. Rename it."
    )
    assert tuple(host.metrics) == METRICS  # nor the one that came before


def test_a_metric_bears_the_name_it_is_registered_under() -> None:
    theirs = measuring("worst-pixel", "worst")
    host = load_plugins([FakeEntryPoint("theirs", lambda: theirs, "otcache-theirs")], None)
    assert host.metric("worst-pixel").name == "worst-pixel"
    with pytest.raises(PluginError, match=r"otcache-theirs 1\.0 .*'worst', .*'worst-pixel'"):
        host.metric("worst")


def test_the_built_in_names_come_by_the_same_hooks() -> None:
    host = load_plugins([], None)
    policies, executors = PolicyRegistry("test"), ExecutorRegistry("test")
    measures = MetricRegistry("test")
    otcache_register_policies(policies)
    otcache_register_executors(executors)
    otcache_register_metrics(measures)
    assert tuple(host.policies) == tuple(policies) == BUILT_IN_POLICIES
    assert list(host.executors) == list(executors) == ["blocks", "probe", "velocity"]
    assert tuple(host.metrics) == tuple(measures) == METRICS
    assert host.plugins == (
        LoadedPlugin(
            "builtin",
            "otcache-plugin",
            BUILT_IN_POLICIES,
            ("blocks", "probe", "velocity"),
            METRICS,
        ),
    )
    for registry in (host.policies, host.executors, host.metrics):
        assert {registry.distribution_of(name) for name in registry} == {"otcache-plugin"}
    for name in host.metrics:
        assert host.metrics.get(name).make().name == name


def test_names_are_sorted_whatever_the_order() -> None:
    entry_points = [
        FakeEntryPoint(name, lambda name=name: registering(**{name: UniformPolicy}), f"dist-{name}")
        for name in ("zeta", "alpha", "midway")
    ]
    hosts = [load_plugins(order, None) for order in (entry_points, entry_points[::-1])]
    for host in hosts:
        assert [each.name for each in host.plugins] == ["builtin", "alpha", "midway", "zeta"]
        assert list(host.policies) == sorted(host.policies)
        assert host.plugins[1].policies == ("alpha",)
    assert hosts[0].plugins == hosts[1].plugins


def broken_import() -> Any:
    raise ModuleNotFoundError("No module named 'secret_sauce'")


def broken_hook() -> Any:
    def otcache_register_policies(registry: PolicyRegistry) -> None:
        registry.register_uncalibrated("half_way", UniformPolicy, "registered before it broke")
        raise RuntimeError("out of luck")

    return plugin(otcache_register_policies=otcache_register_policies)


def unknown_hook() -> Any:
    return plugin(otcache_register_schedulers=lambda registry: None)


def wrong_name() -> Any:
    return registering(**{"their-policy": UniformPolicy})


def twice_the_same() -> Any:
    def otcache_register_policies(registry: PolicyRegistry) -> None:
        registry.register_uncalibrated("twice", UniformPolicy, "once")
        registry.register_uncalibrated("twice", UniformPolicy, "again")

    return plugin(otcache_register_policies=otcache_register_policies)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (broken_import, "ModuleNotFoundError: No module named 'secret_sauce'"),
        (broken_hook, "RuntimeError: out of luck"),
        (unknown_hook, "otcache_register_schedulers"),
        (wrong_name, "registers the policy 'their-policy': a name is an identifier"),
        (twice_the_same, "policy 'twice' is registered by both"),
        (lambda: measuring("worst", "worst"), "metric 'worst' is registered by both"),
    ],
)
def test_a_broken_plugin_is_reported_and_disturbs_nobody(
    make: Any, reason: str, use: Any, enable: Any
) -> None:
    good = FakeEntryPoint("good", lambda: registering(good=UniformPolicy), "otcache-good")
    host = use(FakeEntryPoint("broken", make, "otcache-broken", "0.2"), good)
    (broken,) = host.broken()
    assert (broken.name, broken.distribution) == ("broken", "otcache-broken 0.2")
    assert reason in broken.error
    assert (broken.policies, broken.executors, broken.metrics) == ((), (), ())
    assert list(host.policies) == sorted([*BUILT_IN_POLICIES, "good"])

    pipe = make_flux()
    for policy in ("good", "uniform"):
        enable(pipe, policy=policy, budget=2)
        FLUX.run(pipe, num_inference_steps=4)
        assert otcache_plugin.summary(pipe).as_planned
    with pytest.raises(UnknownNameError, match=r"otcache-broken 0\.2: ") as caught:
        cache_dit.enable_cache(pipe, policy="theirs")
    assert reason in str(caught.value)
    with pytest.raises(UnknownNameError, match=r"otcache-broken 0\.2: ") as caught:
        host.metric("theirs")
    assert reason in str(caught.value)


def test_two_distributions_of_one_policy() -> None:
    entry_points = [
        FakeEntryPoint("one", lambda: registering(fast=UniformPolicy), "otcache-one", "1.1"),
        FakeEntryPoint("two", lambda: registering(fast=UniformPolicy), "otcache-two", "2.2"),
    ]
    with pytest.raises(PluginError) as caught:
        load_plugins(entry_points, None)
    assert str(caught.value) == (
        "policy 'fast' is registered by both otcache-one 1.1 and otcache-two 2.2. "
        "Uninstall one, or leave one out of OTCACHE_PLUGINS."
    )
    host = load_plugins(entry_points, "two")  # the second remedy
    assert host.policies.distribution_of("fast") == "otcache-two 2.2"


def test_a_built_in_name_is_taken() -> None:
    policy = FakeEntryPoint("theirs", lambda: registering(otcache=UniformPolicy), "otcache-theirs")
    with pytest.raises(PluginError, match=r"both otcache-plugin and otcache-theirs 1\.0"):
        load_plugins([policy], None)

    def otcache_register_executors(registry: ExecutorRegistry) -> None:
        registry.register("blocks", DryExecutor, "another one")

    module = plugin(otcache_register_executors=otcache_register_executors)
    with pytest.raises(PluginError, match=r"executor 'blocks' is registered by both"):
        load_plugins([FakeEntryPoint("theirs", lambda: module, "otcache-theirs")], None)

    metric = FakeEntryPoint("theirs", lambda: measuring("latent-l1"), "otcache-theirs")
    with pytest.raises(PluginError, match=r"metric 'latent-l1' is .* both otcache-plugin and otc"):
        load_plugins([metric], None)


@pytest.mark.parametrize(
    ("allow_list", "loaded"),
    [
        (None, ["a", "b", "c"]),
        ("", []),
        ("b", ["b"]),
        (" a , c,unknown", ["a", "c"]),
        ("unknown", []),
    ],
)
def test_the_allow_list(allow_list: str | None, loaded: list[str]) -> None:
    entry_points = {
        name: FakeEntryPoint(name, lambda name=name: registering(**{name: UniformPolicy}))
        for name in "abc"
    }
    host = load_plugins(entry_points.values(), allow_list)
    assert [name for name in host.policies if name in entry_points] == loaded
    assert "otcache" in host.policies  # the built-in ones always are there
    for plugin_, name in zip(host.plugins[1:], "abc", strict=True):
        assert (plugin_.name, plugin_.skipped) == (name, name not in loaded)
        assert plugin_.distribution == "unknown distribution"
        assert entry_points[name].loaded == (name in loaded)
    assert host.broken() == ()


@pytest.mark.parametrize(("value", "loaded"), [(None, 1), ("", 0), ("theirs", 1), ("other", 0)])
def test_the_process_reads_its_environment_once(
    value: str | None, loaded: int, fresh_host: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry_point = FakeEntryPoint("theirs", lambda: registering(theirs=UniformPolicy))
    groups: list[str] = []

    def entry_points(group: str) -> list[FakeEntryPoint]:
        groups.append(group)
        return [entry_point]

    monkeypatch.setattr(host_module, "entry_points", entry_points)
    monkeypatch.delenv("OTCACHE_PLUGINS", raising=False)
    if value is not None:
        monkeypatch.setenv("OTCACHE_PLUGINS", value)
    host = host_module.plugin_host()
    assert host_module.plugin_host() is host
    assert groups == ["otcache"]
    assert entry_point.loaded == loaded
    assert ("theirs" in host.policies) == bool(loaded)


def run_with(folder: Path, *command: str, **environment: str) -> str:
    """Run Python with a folder on its path, warnings as errors; give what it printed."""
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path_with(folder)}
    result = subprocess.run(
        [sys.executable, "-W", "error", *command],
        capture_output=True,
        text=True,
        env={**os.environ, **own, **environment},
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_example_package_is_listed(installed_example: Path) -> None:
    program = """
import json, sys
from dataclasses import asdict

from otcache_plugin.plugins.host import plugin_host

host = plugin_host()
listed = [asdict(plugin) for plugin in host.plugins if plugin.name == "front_loaded"]
assert "torch" not in sys.modules
json.dump({"listed": listed, "calibrates": host.can_calibrate("front_loaded")}, sys.stdout)
"""
    printed = json.loads(run_with(installed_example, "-c", program))
    assert printed["calibrates"]
    assert printed["listed"] == [
        {
            "name": "front_loaded",
            "distribution": "otcache-front-loaded 0.1.0",
            "policies": ["front_loaded"],
            "executors": [],
            "metrics": [],
            "error": "",
            "skipped": False,
        }
    ]


def test_the_example_packages_own_tests(installed_example: Path) -> None:
    tests = EXAMPLE / "tests"
    printed = run_with(
        installed_example,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tests), str(tests)),
    )
    # The conformance suite (ten tests), and the example's own eleven.
    assert "21 passed" in printed


def test_without_the_allow_list_the_example_is_not_loaded(installed_example: Path) -> None:
    program = (
        "import sys; from otcache_plugin.plugins.host import plugin_host; host = plugin_host(); "
        "print([(p.name, p.skipped) for p in host.plugins], 'front_loaded' in host.policies, "
        "'otcache_front_loaded' in sys.modules)"
    )
    printed = run_with(installed_example, "-c", program, OTCACHE_PLUGINS="")
    assert printed.strip() == "[('builtin', False), ('front_loaded', True)] False False"
