"""A source is small, goes to other processes, and refuses before it loads anything heavy."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from diffusers import DiffusionPipeline

from otcache_plugin.errors import ArgumentError
from otcache_plugin.models.embedded import FOLDER
from otcache_plugin.models.exact_flow import ExactFlowPipeline
from otcache_plugin.models.setups import SetupDefaults
from otcache_plugin.models.source import ModelSource
from otcache_plugin.prompts.files import calibration_prompts, evaluation_prompts


@pytest.fixture
def no_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        pytest.fail("the model was loaded")

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", load)
    monkeypatch.setattr("otcache_plugin.models.setups.load_setup", load)


def test_it_is_small_and_picklable() -> None:
    source = ModelSource("org/model", "r1", Path("a.txt"), Path("b.csv"), '{"height": 8}', True)
    data = pickle.dumps(source)
    assert pickle.loads(data) == source
    assert len(data) < 1000


def test_a_shipped_model_is_loaded() -> None:
    setup = ModelSource("exact-flow").load()
    assert isinstance(setup.pipe, ExactFlowPipeline)
    assert setup.defaults == SetupDefaults("psnr", 96, 64, 16)
    assert not setup.free_text_encoders
    assert ModelSource("exact-flow", free_text_encoders=True).load().free_text_encoders


def test_a_folder_is_loaded_with_the_packages_prompts() -> None:
    setup = ModelSource(str(FOLDER), "r1", call='{"height": 32, "width": 32}').load()
    assert setup.origin.revision == "r1"
    assert setup.call_arguments == {"height": 32, "width": 32}
    assert setup.calibration_prompts == calibration_prompts().texts
    assert setup.held_out_prompts == evaluation_prompts().texts
    assert setup.prompts_digest == calibration_prompts().digest
    assert setup.held_out_digest == evaluation_prompts().digest
    assert setup.defaults == SetupDefaults("lpips", 50, 50, 1)


@pytest.mark.usefixtures("no_loading")
@pytest.mark.parametrize("model", ["embedded", "exact-flow"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("revision", "r1"),
        ("prompts", Path("a.txt")),
        ("evaluation_prompts", Path("a.txt")),
        ("call", '{"height": 32}'),
    ],
)
def test_what_a_shipped_model_has_of_its_own_is_refused(
    model: str, field: str, value: object
) -> None:
    source = replace(ModelSource(model), **{field: value})
    with pytest.raises(ArgumentError, match=f"{field}=.*{model} ships with") as caught:
        source.load()
    assert caught.value.field == field


@pytest.mark.usefixtures("no_loading")
def test_prompts_are_checked_before_the_model_is_loaded(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text("one\ntwo\n")
    bad.write_text("one\none\n")
    source = ModelSource(str(FOLDER), "r1")
    with pytest.raises(ArgumentError, match=r"prompts=.*line 2"):
        replace(source, prompts=bad).load()
    with pytest.raises(ArgumentError, match=r"evaluation_prompts=.*line 2"):
        replace(source, evaluation_prompts=bad).load()
    with pytest.raises(ArgumentError, match="prompt='one'"):
        replace(source, prompts=good, evaluation_prompts=good).load()
    taken = evaluation_prompts().texts[7]
    good.write_text(f"one\n{taken.upper()}\n")
    with pytest.raises(ArgumentError, match=f"prompt='{taken}'"):
        replace(source, prompts=good).load()
