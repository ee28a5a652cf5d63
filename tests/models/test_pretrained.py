"""Set-ups of models that do not ship with the package, on a folder that save_pretrained wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from diffusers import FluxPipeline, LTXPipeline
from hub_server import HubServer
from huggingface_hub import constants, hf_api
from otcache_registry import DocumentNotFoundError
from tiny_pipelines import make_wan
from tiny_text import make_ltx_with_text

from otcache_plugin.errors import ArgumentError
from otcache_plugin.evaluation.outputs import generate
from otcache_plugin.models.embedded import FOLDER
from otcache_plugin.models.pretrained import load_pretrained_setup
from otcache_plugin.prompts.files import calibration_prompts, evaluation_prompts

CALL = json.dumps({"height": 32, "width": 32, "max_sequence_length": 8, "guidance_scale": 1.5})
PROMPTS = ["red circle left on navy", "blue cross top on gray", "white square right on pink"]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(PROMPTS) + "\n\n")
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline's folder as a user has one: elsewhere, and of unknown origin."""
    copy = tmp_path / "model"
    copy.symlink_to(FOLDER)
    return copy


def test_a_folder_is_loaded_with_prompts_arguments_and_the_stated_revision(
    folder: Path, prompts: Path
) -> None:
    setup = load_pretrained_setup(str(folder), "r1", prompts, CALL)
    assert type(setup.pipe) is FluxPipeline
    assert (setup.origin.model, setup.origin.revision) == (str(folder), "r1")
    assert setup.calibration_prompts == tuple(PROMPTS)
    assert setup.held_out_prompts == evaluation_prompts().texts
    assert setup.guidance == {"guidance_scale": 1.5}
    pairs = setup.calibration_pairs(2)
    pictures = generate(setup.pipe, pairs, {**setup.call_arguments, "num_inference_steps": 2})
    assert pictures.shape == (2, 3, 32, 32)


def test_a_folder_without_revision_has_no_origin(folder: Path, prompts: Path) -> None:
    with pytest.raises(DocumentNotFoundError, match="not loaded from a Hub snapshot"):
        load_pretrained_setup(str(folder), None, prompts, CALL)


def test_what_is_no_model_is_refused(tmp_path: Path, prompts: Path) -> None:
    with pytest.raises(ArgumentError, match=r"model=.*cannot be loaded.*pipeline's folder"):
        load_pretrained_setup(str(tmp_path), "r1", prompts, CALL)


@pytest.mark.parametrize(
    ("model", "offline", "problem", "remedy"),
    [
        ("alice/none", False, "no such model on the Hub", "Check its name"),
        ("alice/none", True, "not downloaded yet, and the Hub cannot be reached", "HF_HUB_OFFLINE"),
        (
            "alice/gated",
            False,
            "who accept its licence",
            "Accept it at https://huggingface.co/alice",
        ),
    ],
)
def test_what_the_hub_does_not_give_is_told_without_its_traceback(
    hub: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    offline: bool,
    problem: str,
    remedy: str,
) -> None:
    hub.create_repo("alice/gated", gated=True)
    # The client reads HF_ENDPOINT once, into these.
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(hf_api.api, "endpoint", hub.endpoint)
    files = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(ArgumentError) as refused:
        load_pretrained_setup(model, None, None, "{}")
    assert (refused.value.field, refused.value.value) == ("model", model)
    assert problem in refused.value.problem
    assert "stacktrace" not in refused.value.problem
    assert remedy in refused.value.remedy


def test_held_out_prompts_of_a_file(folder: Path, prompts: Path) -> None:
    setup = load_pretrained_setup(str(folder), "r1", None, CALL, prompts)
    assert setup.calibration_prompts == calibration_prompts().texts
    assert setup.held_out_prompts == tuple(PROMPTS)


def test_a_video_pipeline_is_loaded(tmp_path: Path) -> None:
    make_ltx_with_text().save_pretrained(tmp_path)
    call = json.dumps({"height": 64, "width": 64, "num_frames": 9, "guidance_scale": 4.0})
    setup = load_pretrained_setup(str(tmp_path), "r1", None, call)
    assert type(setup.pipe) is LTXPipeline
    assert setup.guidance == {"guidance_scale": 4.0}
    prompts = list(setup.calibration_prompts[:2])
    videos = setup.pipe(
        prompts, **setup.call_arguments, num_inference_steps=2, output_type="pt"
    ).frames
    assert videos.shape == (2, 9, 3, 64, 64)


def test_a_model_that_needs_accelerate_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wan().save_pretrained(tmp_path)
    monkeypatch.setattr("otcache_plugin.models.pretrained.is_accelerate_available", lambda: False)
    with pytest.raises(ArgumentError, match=r"model=.*without accelerate.*pip install accelerate"):
        load_pretrained_setup(str(tmp_path), "r1", None, CALL)


def test_a_mistyped_name_is_said_to_be_no_model() -> None:
    with pytest.raises(ArgumentError, match=r"model='embeded': no such folder.*Pass embedded"):
        load_pretrained_setup("embeded", None, None, "{}")


def test_call_arguments_of_the_calibration_itself_are_refused(folder: Path, prompts: Path) -> None:
    with pytest.raises(ArgumentError, match=r"call\.output_type='pil': the calibration sets it"):
        load_pretrained_setup(str(folder), "r1", prompts, '{"output_type": "pil"}')


@pytest.mark.parametrize("call", ["{", "[1]", "3"])
def test_call_arguments_are_a_json_object(folder: Path, prompts: Path, call: str) -> None:
    with pytest.raises(ArgumentError, match=r"call=.*not a JSON object"):
        load_pretrained_setup(str(folder), "r1", prompts, call)
