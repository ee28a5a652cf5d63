"""`policy=` goes into cache-dit, and out again, without a trace."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cache_dit
import pytest
import torch
from cache_dit import DBCacheConfig
from diffusers import FluxPipeline
from otcache_policies import Schedule
from tiny_pipelines import FLUX, STEPS, count_forwards, make_flux

import otcache_plugin
from otcache_plugin import cache_dit_originals, patch
from otcache_plugin.errors import IncompatibleCacheDitError, PipelineError

PUBLIC = ("enable_cache", "disable_cache", "summary")


def make_blocks() -> Any:
    """A tiny Flux of three double blocks, so that cache-dit's own cache has something to skip."""
    return make_flux(num_layers=3, num_single_layers=1)


def dynamic_cache() -> DBCacheConfig:
    """cache-dit's own cache, loose enough to skip blocks of a random model."""
    return DBCacheConfig(Fn_compute_blocks=1, max_warmup_steps=4, residual_diff_threshold=0.5)


def bindings() -> dict[tuple[str, str], int]:
    """Every name in every module of cache-dit, with the identity of what it is bound to."""
    return {
        (module.__name__, name): id(value)
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").partition(".")[0] == "cache_dit"
        for name, value in vars(module).items()
    }


def run_python(program: str, **environment: str) -> str:
    """Run a program in a fresh interpreter where warnings are errors; give what it printed."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_signature_shows_what_was_added() -> None:
    otcache_plugin.uninstall()
    own = inspect.signature(cache_dit.enable_cache)
    assert "policy" not in own.parameters
    otcache_plugin.install()
    signature = inspect.signature(cache_dit.enable_cache)
    added = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name not in own.parameters
    }
    assert {name: parameter.default for name, parameter in added.items()} == {
        "policy": None,
        "budget": None,
        "speedup": None,
        "executor": None,
        "model": None,
        "revision": None,
        "allow_other_revision": False,
        "allow_other_model": False,
        "hub_answers": None,
    }
    assert {parameter.kind for parameter in added.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert [each for each in signature.parameters.values() if each.name not in added] == list(
        own.parameters.values()
    )
    assert cache_dit.enable_cache.__doc__ == cache_dit_originals.original("enable_cache").__doc__
    for name in ("disable_cache", "summary"):
        assert inspect.signature(getattr(cache_dit, name)) == inspect.signature(
            cache_dit_originals.original(name)
        )


def test_the_door_takes_the_same_keywords() -> None:
    parameters = inspect.signature(otcache_plugin.enable_cache).parameters
    for name, default in cache_dit_originals.POLICY_PARAMETERS.items():
        assert parameters[name].default == default


def test_installing_twice_changes_nothing() -> None:
    before = bindings()
    otcache_plugin.install()
    assert bindings() == before
    assert otcache_plugin.is_installed()


def test_every_binding_is_replaced_and_restored() -> None:
    otcache_plugin.uninstall()
    assert not otcache_plugin.is_installed()
    originals = {id(getattr(cache_dit, name)) for name in PUBLIC}
    before = bindings()
    bound = {place for place, value in before.items() if value in originals}
    assert {name for _, name in bound} >= set(PUBLIC)
    assert len({module for module, _ in bound}) > 1  # re-exported from the module they live in

    otcache_plugin.install()
    installed = bindings()
    assert {place for place in before if installed[place] != before[place]} == bound
    otcache_plugin.uninstall()
    assert bindings() == before
    otcache_plugin.uninstall()
    assert bindings() == before


def test_importing_the_plugin_is_light() -> None:
    run_python("""
        import sys

        import otcache_plugin

        heavy = {"torch", "diffusers", "cache_dit", "transformers", "optuna", "pydantic"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        assert not otcache_plugin.is_installed()
        assert set(otcache_plugin.__all__) <= set(dir(otcache_plugin))

        from otcache_plugin import plugins

        light = [name for name in plugins.__all__ if name[0].islower() or "Registry" in name]
        assert all(getattr(plugins, name) for name in [*light, "Executor", "Schedule"])
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        """)


@pytest.mark.slow
def test_it_waits_for_cache_dit() -> None:
    """The real one; what follows is done with one that imports in no time."""
    run_python("""
        import inspect

        import otcache_plugin

        assert not otcache_plugin.is_installed()
        from cache_dit import enable_cache

        assert otcache_plugin.is_installed()
        assert "policy" in inspect.signature(enable_cache).parameters
        """)


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A folder with a cache-dit that imports in no time, of the real one's layout."""
    package = tmp_path / "cache_dit"
    package.mkdir()
    signature = inspect.signature(cache_dit_originals.original("enable_cache"))
    names = ", ".join(
        f"{'**' if parameter.kind is parameter.VAR_KEYWORD else ''}{name}"
        f"{'' if parameter.kind is parameter.VAR_KEYWORD else '=None'}"
        for name, parameter in signature.parameters.items()
    )
    (package / "__init__.py").write_text(
        f"__version__ = {cache_dit.__version__!r}\n"
        "from .interface import disable_cache, enable_cache, summary\n"
    )
    (package / "interface.py").write_text(
        f"def enable_cache({names}): return 'untouched'\n"
        "def disable_cache(pipe_or_adapter): return None\n"
        "def summary(adapter_or_others, details=False, logging=True, **kwargs): return []\n"
    )
    return tmp_path


IMPORTS = {"cache-dit first": ("cache_dit", "otcache_plugin")}
IMPORTS["otcache-plugin first"] = IMPORTS["cache-dit first"][::-1]


@pytest.mark.parametrize("imports", IMPORTS.values(), ids=IMPORTS)
@pytest.mark.parametrize(("disable", "installed"), [("", True), ("0", True), ("1", False)])
def test_the_order_of_imports_and_the_switch(
    imports: tuple[str, str], disable: str, installed: bool, stand_in: Path
) -> None:
    first, second = imports
    printed = run_python(
        f"""
        import {first}
        import {second}
        import inspect
        import cache_dit.interface

        functions = cache_dit.enable_cache, cache_dit.interface.enable_cache
        assert functions[0] is functions[1]
        installed = "policy" in inspect.signature(functions[0]).parameters
        assert otcache_plugin.is_installed() is installed
        print(installed)
        otcache_plugin.install()  # asked for by name, the switch does not matter
        assert "policy" in inspect.signature(cache_dit.interface.enable_cache).parameters
        """,
        OTCACHE_DISABLE=disable,
        PYTHONPATH=os.pathsep.join([str(stand_in), *sys.path]),
    )
    assert printed.strip() == str(installed)


def test_uninstalling_before_cache_dit_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    # The import hook cannot be taken back, so it must know that nothing is wanted any more.
    otcache_plugin.uninstall()
    patch._on_import(cache_dit)
    assert not otcache_plugin.is_installed()
    monkeypatch.setenv("OTCACHE_DISABLE", "yes")
    patch.install_when_imported()
    assert not otcache_plugin.is_installed()
    monkeypatch.setenv("OTCACHE_DISABLE", "")
    patch.install_when_imported()
    assert otcache_plugin.is_installed()


def test_every_public_name_is_there() -> None:
    for name in otcache_plugin.__all__:
        assert getattr(otcache_plugin, name) is not None
    assert otcache_plugin.Schedule is Schedule
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = otcache_plugin.nothing


@pytest.mark.parametrize(
    "defaults",
    [{}, {"policy": None}, dict(cache_dit_originals.POLICY_PARAMETERS)],
    ids=["none", "policy", "all"],
)
def test_without_a_policy_cache_dit_is_untouched(defaults: dict[str, Any], enable: Any) -> None:
    full = FLUX.run(make_blocks())
    otcache_plugin.uninstall()
    pipe = make_blocks()
    enable(pipe, cache_config=dynamic_cache())
    with count_forwards(pipe.transformer.transformer_blocks[2]) as expected_forwards:
        expected = FLUX.run(pipe)
    cache_dit.disable_cache(pipe)
    assert 0 < len(expected_forwards) < STEPS  # it does cache something
    assert not torch.equal(expected, full)

    otcache_plugin.install()
    pipe = make_blocks()
    enable(pipe, cache_config=dynamic_cache(), **defaults)
    with count_forwards(pipe.transformer.transformer_blocks[2]) as forwards:
        assert torch.equal(FLUX.run(pipe), expected)
    assert len(forwards) == len(expected_forwards)
    with pytest.raises(PipelineError, match="no policy is enabled"):
        otcache_plugin.summary(pipe)
    own = cache_dit_originals.original("summary")(pipe, logging=False)
    assert cache_dit.summary(pipe, logging=False) == own
    cache_dit.disable_cache(pipe)
    assert torch.equal(FLUX.run(pipe), full)


# 1.5.0 says of itself that it is 1.3.13.dev9.
@pytest.mark.parametrize("version", ["1.4.9", "1.5.0", "1.3.13.dev9", "0.1"])
def test_an_older_cache_dit(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    otcache_plugin.uninstall()
    before = bindings()
    with monkeypatch.context() as patched:
        patched.setattr(cache_dit, "__version__", version)
        with pytest.raises(IncompatibleCacheDitError, match=r"older than 1.5.*OTCACHE_DISABLE=1"):
            otcache_plugin.install()
    assert bindings() == before
    assert not otcache_plugin.is_installed()


@pytest.mark.parametrize("version", ["1.5.1", "1.5.3", "2.0.dev1", "unknown version"])
def test_newer_versions_and_source_trees(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    otcache_plugin.uninstall()
    monkeypatch.setattr(cache_dit, "__version__", version)
    otcache_plugin.install()
    assert otcache_plugin.is_installed()


def renamed(pipe: Any = None, config: Any = None, **kwargs: Any) -> None:
    """What enable_cache might have become: other names."""


def clashing(
    pipe_or_adapter: Any = None,
    cache_config: Any = None,
    calibrator_config: Any = None,
    params_modifiers: Any = None,
    policy: Any = None,
) -> None:
    """What enable_cache might have become: with a policy of its own."""


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (renamed, r"lacks \['pipe_or_adapter', 'cache_config'"),
        (clashing, r"already has \['policy'\]"),
    ],
)
def test_a_changed_signature(
    changed: Callable[..., None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    otcache_plugin.uninstall()
    with monkeypatch.context() as patched:
        patched.setattr(cache_dit, "enable_cache", changed)
        with pytest.raises(IncompatibleCacheDitError, match=message) as caught:
            otcache_plugin.install()
        assert "otcache_plugin.enable_cache" in str(caught.value)
        assert isinstance(caught.value, ImportError)
        assert cache_dit.enable_cache is changed
    assert not otcache_plugin.is_installed()


def test_the_door_needs_no_patch() -> None:
    expected = FLUX.run(make_flux())
    otcache_plugin.uninstall()
    pipe = make_flux()
    assert otcache_plugin.enable_cache(pipe, policy="uniform", budget=7) is pipe
    with count_forwards(pipe.transformer.x_embedder) as forwards:
        FLUX.run(pipe)
    assert len(forwards) == 7
    assert otcache_plugin.summary(pipe).as_planned
    otcache_plugin.disable_cache(pipe)
    assert torch.equal(FLUX.run(pipe), expected)
    assert not otcache_plugin.is_installed()
    with pytest.raises(PipelineError, match="no policy is enabled on it"):
        otcache_plugin.disable_cache(pipe)


def test_enabled_before_uninstalling_stays_and_comes_off() -> None:
    expected = FLUX.run(make_flux())
    pipe = make_flux()
    cache_dit.enable_cache(pipe, policy="uniform", budget=7)
    otcache_plugin.uninstall()
    FLUX.run(pipe)
    assert otcache_plugin.summary(pipe).as_planned
    otcache_plugin.disable_cache(pipe)
    assert torch.equal(FLUX.run(pipe), expected)


def test_enabling_returns_the_pipeline_and_replaces() -> None:
    expected = FLUX.run(make_flux())
    pipe = make_flux()
    assert cache_dit.enable_cache(pipe, policy="uniform", budget=20) is pipe
    FLUX.run(pipe)
    assert cache_dit.enable_cache(pipe_or_adapter=pipe, policy="uniform", budget=6) is pipe
    assert otcache_plugin.summary(pipe).num_inference_steps == 0  # of the old one nothing is left
    with count_forwards(pipe.transformer.x_embedder) as forwards:
        FLUX.run(pipe)
    assert len(forwards) == 6
    cache_dit.disable_cache(pipe)
    assert torch.equal(FLUX.run(pipe), expected)
    assert cache_dit.disable_cache(pipe) is None  # nothing to do, as in cache-dit itself
    assert torch.equal(FLUX.run(pipe), expected)


def plain_by_position(pipe: Any) -> None:
    cache_dit.enable_cache(pipe, dynamic_cache())


def plain_by_keyword(pipe: Any) -> None:
    cache_dit.enable_cache(pipe_or_adapter=pipe, cache_config=dynamic_cache())


@pytest.mark.parametrize("plain", [plain_by_position, plain_by_keyword])
@pytest.mark.parametrize("executor", ["velocity", "blocks"])
def test_between_a_policy_and_cache_dits_own_cache(
    plain: Callable[[Any], None], executor: str
) -> None:
    full = FLUX.run(make_blocks())
    pipe = make_blocks()
    plain(pipe)
    dynamic = FLUX.run(pipe)
    cache_dit.enable_cache(pipe, policy="uniform", budget=8, executor=executor)
    planned = FLUX.run(pipe)
    assert otcache_plugin.summary(pipe).as_planned
    plain(pipe)
    assert torch.equal(FLUX.run(pipe), dynamic)
    with pytest.raises(PipelineError, match="no policy is enabled"):
        otcache_plugin.summary(pipe)
    cache_dit.enable_cache(pipe, policy="uniform", budget=8, executor=executor)
    assert torch.equal(FLUX.run(pipe), planned)
    assert otcache_plugin.summary(pipe).as_planned
    cache_dit.disable_cache(pipe)
    assert torch.equal(FLUX.run(pipe), full)
    assert not any(torch.equal(*pair) for pair in ((full, dynamic), (full, planned)))


def test_from_one_executor_to_the_other(enable: Any) -> None:
    full = FLUX.run(make_blocks())
    pipe = make_blocks()
    for executor in ("velocity", "blocks", "velocity"):
        enable(pipe, policy="uniform", budget=8, executor=executor)
        FLUX.run(pipe)
        report = otcache_plugin.summary(pipe)
        assert (report.executor, report.as_planned) == (executor, True)
    cache_dit.disable_cache(pipe)
    assert torch.equal(FLUX.run(pipe), full)


def test_only_one_instance_is_patched() -> None:
    content = dict(vars(FluxPipeline))
    accelerated, other = make_flux(), make_flux()
    expected = FLUX.run(other)
    cache_dit.enable_cache(accelerated, policy="uniform", budget=5)
    with count_forwards(other.transformer.x_embedder) as forwards:
        assert torch.equal(FLUX.run(other), expected)
    assert len(forwards) == STEPS
    assert dict(vars(FluxPipeline)) == content
    assert otcache_plugin.summary(accelerated).num_inference_steps == 0
    with pytest.raises(PipelineError, match="no policy is enabled"):
        otcache_plugin.summary(other)
    cache_dit.disable_cache(accelerated)


def test_summary_prints_the_run_and_counts_it(
    enable: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = make_flux()
    enable(pipe, policy="uniform", budget=5)
    assert "no run yet" in str(otcache_plugin.summary(pipe))
    FLUX.run(pipe)
    capsys.readouterr()
    stats = cache_dit.summary(pipe)
    printed = capsys.readouterr().out
    assert "policy uniform, executor velocity" in printed
    assert "computed 5 of 50 steps (5 transformer calls): 0 12 24 37 49" in printed
    assert [each.cache_options["policy"] for each in stats] == ["uniform"]
    assert stats[0].accumulated_executed_steps == STEPS
    assert stats[0].accumulated_transformer_executed_steps == 5
    assert len(stats[0].cached_steps) == STEPS - 5
    for quiet in (
        cache_dit.summary(pipe, logging=False),
        cache_dit.summary(pipe, False, False),  # details and logging, by position
    ):
        assert quiet == stats
        assert capsys.readouterr().out == ""


def test_a_report_as_json(enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy=Schedule([0, 2, 5], 6, [1, 2]))
    FLUX.run(pipe, num_inference_steps=6)
    assert otcache_plugin.summary(pipe).to_dict() == {
        "policy": "schedule",
        "executor": "velocity",
        "calibrator": None,
        "document": None,
        "model": None,
        "revision": None,
        "notes": (),
        "decided": False,
        "num_inference_steps": 6,
        "planned_steps": (0, 2, 5),
        "look_backs": (1, 2),
        "computed_steps": (0, 2, 5),
        "finished_steps": 6,
        "transformer_calls": 3,
        "block_evaluations": None,
        "aims_at": None,
        "adaptation": None,
        "earlier": (),
        "as_planned": True,
    }
