"""What the pipelines of diffusers call in their denoising loops, read from their sources."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import diffusers
import pytest

from otcache_plugin.pipelines.parts import DENOISERS, FEEDERS

pytestmark = pytest.mark.slow  # parses a hundred files

SOURCES = Path(diffusers.__file__).parent / "pipelines"
NO_MODEL = "guider"
"""Combines what the transformer gives, in HunyuanVideo 1.5 and MotifVideo."""


@functools.cache
def pipelines_with_transformer() -> list[ast.ClassDef]:
    sources = [path.read_text(encoding="utf-8") for path in SOURCES.rglob("pipeline_*.py")]
    modules = [ast.parse(source) for source in sources if "self.transformer(" in source]
    classes = [each for module in modules for each in module.body]
    return [each for each in classes if isinstance(each, ast.ClassDef)]


def parts_of(pipeline: ast.ClassDef) -> set[str]:
    """The names that its constructor takes."""
    for each in pipeline.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            return {argument.arg for argument in each.args.args}
    return set()


def called_while_denoising(pipeline: ast.ClassDef) -> set[str]:
    """The parts that are called in a loop which takes the scheduler's steps."""
    loops = [each for each in ast.walk(pipeline) if isinstance(each, ast.For)]
    called = set()
    for loop in loops:
        calls = [each.func for each in ast.walk(loop) if isinstance(each, ast.Call)]
        names = {each.attr for each in calls if isinstance(each, ast.Attribute)}
        if "step" in names:
            called |= {
                each.attr
                for each in calls
                if isinstance(each, ast.Attribute)
                and isinstance(each.value, ast.Name)
                and each.value.id == "self"
            }
    return called & parts_of(pipeline)


def test_every_part_that_denoises_is_known() -> None:
    calls = {each.name: called_while_denoising(each) for each in pipelines_with_transformer()}
    assert calls["FluxControlNetPipeline"] == {"transformer", "controlnet"}
    assert calls["Ideogram4Pipeline"] == {"transformer", "unconditional_transformer"}
    assert sum(map(bool, calls.values())) > 100
    known = {*DENOISERS, *FEEDERS, NO_MODEL}
    assert {name: called - known for name, called in calls.items() if called - known} == {}


def test_no_pipeline_has_two_denoisers_of_which_one_is_unknown() -> None:
    # Some call theirs by another name, as Wan does: `current_model = self.transformer_2`.
    for pipeline in pipelines_with_transformer():
        transformers = {name for name in parts_of(pipeline) if "transformer" in name}
        assert transformers <= set(DENOISERS), pipeline.name
