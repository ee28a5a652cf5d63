"""How the benchmark of all methods names its models: by what a user would type."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import compared
from benchmarks.testbed import load_testbed
from otcache_plugin.comparing.contenders.policies import policy_methods
from otcache_plugin.models.source import ModelSource


def options(words: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


def test_the_testbed_by_its_folder_is_the_one_of_the_other_benchmarks() -> None:
    model = compared.MODELS["testbed"]
    folder, *others = model.words
    given = options((*others, *model.calibrating))
    source = ModelSource(
        folder,
        given["--revision"],
        Path(given["--prompts"]),
        Path(given["--evaluation-prompts"]),
        given["--call"],
    )
    by_words, other = source.load(), load_testbed()
    assert by_words.calibration_pairs(30) == other.calibration_pairs(30)
    assert by_words.held_out_pairs(30) == other.held_out_pairs(30)
    assert (by_words.call_arguments, by_words.guidance) == (other.call_arguments, other.guidance)
    state, expected = (each.pipe.transformer.state_dict() for each in (by_words, other))
    assert all((state[name] == value).all() for name, value in expected.items())
    # What is compared is judged on the same held-out prompts as what is calibrated.
    assert options(model.comparing)["--prompts"] == given["--evaluation-prompts"]


@pytest.mark.parametrize("name", ["embedded", "exact-flow"])
def test_what_is_calibrated_is_what_no_document_ships_of(name: str) -> None:
    policies = compared.MODELS[name].policies
    known = {method.name for method in policy_methods()}
    shipped = {"otcache", "meancache", "uniform"}
    observing = {"teacache", "dicache"}  # A transformer's blocks, which the exact flow has not.
    assert set(policies) == known - shipped - (observing if name == "exact-flow" else set())


def test_a_model_without_documents_has_its_own_calibrated_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(compared, "otcache", lambda *words: said.append(words))
    model = compared.MODELS["testbed"]
    assert model.policies[0] == "otcache"
    folders = compared.calibrated(model, ["otcache", "direct"], tmp_path)
    first, second = said
    assert first[: 1 + len(model.words)] == ("calibrate", *model.words)
    assert first[first.index("--policy") + 1] == "otcache"
    assert options(second[second.index("--pairs") :][:4]) == {"--pairs": "16", "--set": "trials=60"}
    assert folders == [str(tmp_path / "policies" / name) for name in ("otcache", "direct")]
