"""`otcache doctor`: what works here, and which model and revision a pipeline is."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from diffusers import FluxPipeline
from hub_cache import put_snapshot
from huggingface_hub import constants

from otcache_plugin.cli import doctor
from otcache_plugin.models.embedded import FOLDER

SHA = "5" * 40


@pytest.mark.slow
def test_doctor_finds_everything_well(otcache: Any) -> None:
    shown = otcache("doctor", "--json")
    checks = json.loads(shown.out)
    assert [check for check in checks if not check["ok"]] == []
    assert shown.code == 0
    assert {tuple(sorted(check)) for check in checks} == {("finding", "ok", "subject")}
    findings = {check["subject"]: check["finding"] for check in checks}
    assert set(findings) == {
        "python",
        *doctor.LIBRARIES,
        "device",
        "policy= in cache-dit",
        "plugins",
        "bundled policies",
        "embedded pipeline",
        "origin",
    }
    assert all(findings.values())
    assert findings["policy= in cache-dit"] == "installed"
    assert "bundled:" in findings["bundled policies"]
    assert findings["embedded pipeline"] == "ran 8 of 50 steps as planned"


def test_doctor_reports_what_does_not_work(main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> str:
        raise RuntimeError("weights of [/some/where] are damaged")

    monkeypatch.setattr(doctor, "_embedded", failing)
    monkeypatch.setattr(doctor, "LIBRARIES", ("torch", "no-such-library"))
    monkeypatch.setenv("OTCACHE_PLUGINS", "a,b")
    shown = main("doctor")
    assert shown.code == 1
    rows = {line[4:].split("  ")[0]: line for line in shown.out.splitlines()}
    assert rows["python"].startswith("ok")
    assert rows["no-such-library"].startswith("no")
    assert "pip install no-such-library" in rows["no-such-library"]
    assert rows["embedded pipeline"].startswith("no")
    assert "RuntimeError: weights of [/some/where] are damaged" in rows["embedded pipeline"]
    assert "set to 'a,b'" in rows["OTCACHE_PLUGINS"]
    data = json.loads(main("doctor", "--json").out)
    assert [check["subject"] for check in data if not check["ok"]] == [
        "no-such-library",
        "embedded pipeline",
    ]


def origin_of(shown: Any) -> dict[str, Any]:
    [check] = [each for each in json.loads(shown.out) if each["subject"] == "origin"]
    return dict(check)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hub cache with one pipeline: the embedded one's parts, as someone else's model."""
    folder = tmp_path_factory.mktemp("cache")
    put_snapshot(folder, "org/scenes", SHA, FluxPipeline.from_pretrained(FOLDER))
    return folder


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the run of the embedded pipeline."""
    monkeypatch.setattr(doctor, "_embedded", lambda: "left out")


@pytest.mark.usefixtures("brief")
def test_doctor_shows_the_origin_of_the_embedded_pipeline(main: Any) -> None:
    weights = (FOLDER / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()
    revision = hashlib.sha256(weights).hexdigest()
    finding = f"model embedded at revision {revision}: stated by the pipeline"
    for arguments in ((), ("embedded",)):
        found = origin_of(main("doctor", *arguments, "--json"))
        assert found == {"subject": "origin", "ok": True, "finding": finding}


@pytest.mark.usefixtures("brief")
def test_doctor_shows_the_origin_of_a_cached_model(
    main: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "75")
    shown = main("doctor", "org/scenes")
    assert shown.code == 0
    # A narrow terminal breaks lines, but no sha, and drops nothing of it.
    words = " ".join(shown.out[shown.out.index("ok  origin ") :].split())
    assert words.startswith(f"ok origin model org/scenes at revision {SHA}: its transformer was")


@pytest.mark.usefixtures("brief")
def test_doctor_says_what_it_does_meanwhile(main: Any) -> None:
    told = [line.partition(" [")[0] for line in main("doctor").err.splitlines()]
    stages = ["importing torch and diffusers", "running the embedded pipeline", "loading embedded"]
    assert list(dict.fromkeys(told)) == stages
    assert main("doctor", "--quiet").err == ""


@pytest.mark.usefixtures("brief")
def test_doctor_goes_on_without_a_library(main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    shown = main("doctor", "--json")
    (found,) = [each for each in json.loads(shown.out) if each["subject"] == "device"]
    assert (shown.code, found["ok"]) == (1, False)
    assert found["finding"].startswith("ModuleNotFoundError: import of torch halted")


@pytest.mark.usefixtures("brief")
def test_doctor_says_why_an_origin_is_unknown(main: Any, cache: Path, tmp_path: Path) -> None:
    snapshot = cache / "models--org--scenes" / "snapshots" / SHA
    assert origin_of(main("doctor", str(snapshot), "--json"))["ok"]
    shutil.copytree(snapshot, tmp_path / "copy")
    shown = main("doctor", str(tmp_path / "copy"), "--json")
    found = origin_of(shown)
    assert (shown.code, found["ok"]) == (1, False)
    assert found["finding"].startswith("unknown: its transformer was not loaded from a Hub")
    assert "Pass model='org/name' and revision='<commit sha>'" in found["finding"]


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("part", ["vae", "text_encoder_2"])
def test_doctor_loads_no_text_encoder(main: Any, cache: Path, tmp_path: Path, part: str) -> None:
    """Those of large models are larger than the rest."""
    snapshot = cache / "models--org--scenes" / "snapshots" / SHA
    shutil.copytree(snapshot, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / part)
    finding = origin_of(main("doctor", str(tmp_path / "copy"), "--json"))["finding"]
    assert ("cannot be loaded" in finding) == (part == "vae")


@pytest.mark.usefixtures("brief")
def test_doctor_says_what_it_cannot_load(main: Any, tmp_path: Path) -> None:
    shown = main("doctor", str(tmp_path), "--json")
    found = origin_of(shown)
    assert (shown.code, found["ok"]) == (1, False)
    assert found["finding"].startswith(f"{tmp_path} cannot be loaded (FileNotFoundError: ")
    assert found["finding"].endswith(f"or first run: hf download {tmp_path}")
