"""Origins by the real client of the Hub: resolved before loading, and left behind by a download."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers import FluxPipeline
from hub_server import Fault, HubServer
from huggingface_hub import constants, snapshot_download
from otcache_registry.hub.errors import GatedError, HubNotFoundError
from tiny_pipelines import make_flux

import otcache_plugin
from otcache_plugin.errors import ArgumentError
from otcache_plugin.origins.finding import describe_origin
from otcache_plugin.origins.origin import ModelOrigin

ABSENT = dict.fromkeys(("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
METADATA = Path(".cache", "huggingface", "download", "transformer")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pipeline on disk."""
    folder = tmp_path_factory.mktemp("saved")
    make_flux().save_pretrained(folder)
    return folder


@pytest.fixture
def hub(hub: HubServer, saved: Path) -> HubServer:
    """With a tiny pipeline in org/model, tagged v1, and a commit on."""
    hub.create_repo("org/model")
    hub.commit_folder("org/model", saved)
    hub.tag("org/model", "v1")
    hub.commit("org/model", {"later": b""})
    return hub


@pytest.fixture
def resolve(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModelOrigin]:
    """`resolve_origin`, with HF_ENDPOINT as if it had been set before the client was imported."""

    def resolve_there(*arguments: Any) -> ModelOrigin:
        with monkeypatch.context() as patch:
            patch.setattr(constants, "ENDPOINT", hub.endpoint)
            return otcache_plugin.resolve_origin(*arguments)

    return resolve_there


def load(path: str | Path) -> Any:
    return FluxPipeline.from_pretrained(path, **ABSENT)


# Resolved before it is loaded.


def test_revisions_are_resolved(hub: HubServer, resolve: Callable[..., ModelOrigin]) -> None:
    main, v1 = hub.head("org/model"), hub.head("org/model", "v1")
    assert main != v1
    for revision, sha in ((None, main), ("main", main), ("v1", v1), (v1, v1)):
        origin = resolve("org/model", revision)
        named = "the default branch" if revision is None else f"revision {revision!r}"
        assert origin == ModelOrigin("org/model", sha, f"what {named} is on the Hub")


def test_what_is_resolved_is_what_is_loaded(
    hub: HubServer, resolve: Callable[..., ModelOrigin]
) -> None:
    origin = resolve("org/model", "v1")
    path = snapshot_download(origin.model, revision=origin.revision, endpoint=hub.endpoint)
    found = describe_origin(load(path))
    assert (found.model, found.revision) == (origin.model, origin.revision)


def test_what_is_not_on_the_hub(hub: HubServer, resolve: Callable[..., ModelOrigin]) -> None:
    with pytest.raises(HubNotFoundError, match=r"repository='org/missing': no such repository"):
        resolve("org/missing")
    with pytest.raises(HubNotFoundError, match=r"='org/model@v9': no such branch, tag or commit"):
        resolve("org/model", "v9")


def test_a_repository_that_is_gated(hub: HubServer, resolve: Callable[..., ModelOrigin]) -> None:
    gated = Fault("GET", "org/model", "status", times=None, status=403, error_code="GatedRepo")
    hub.faults.add(gated)
    with pytest.raises(GatedError, match="Accept them on its page on the Hub"):
        resolve("org/model")


@pytest.mark.parametrize("model", ["./model", "/home/me/model", "folder", "a/b/c", ""])
def test_what_is_no_id(
    hub: HubServer,
    resolve: Callable[..., ModelOrigin],
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match=r"model='.*': not a Hub id. Pass one of the form"):
        resolve(model)
    assert hub.requests == []


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "OTCACHE_OFFLINE"])
def test_offline_only_a_full_sha_is_an_answer(
    hub: HubServer,
    resolve: Callable[..., ModelOrigin],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    """The cache may know what main was once; which commit it is now, it does not."""
    sha = hub.head("org/model")
    snapshot_download("org/model", endpoint=hub.endpoint)
    before = len(hub.requests)
    monkeypatch.setenv(variable, "1")
    origin = resolve("org/model", sha)
    assert origin == ModelOrigin("org/model", sha, f"a full commit sha; {variable} is set")
    for revision in (None, "main", "v1", sha[:12], sha.upper()):
        words = rf"revision={revision!r}: not a full commit sha.*unset {variable}"
        with pytest.raises(ArgumentError, match=words):
            resolve("org/model", revision)
    assert len(hub.requests) == before


def test_resolving_loads_no_torch() -> None:
    code = (
        "import sys, otcache_plugin\n"
        f"otcache_plugin.resolve_origin('org/model', '{'0' * 40}')\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OTCACHE_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    assert "otcache_plugin.origins.hub_revision" in loaded
    assert [name for name in ("torch", "diffusers", "cache_dit") if name in loaded] == []


# Left behind by a download into a folder.


@pytest.fixture
def download(hub: HubServer, tmp_path: Path) -> Path:
    """The model at v1, by `snapshot_download(local_dir=)`."""
    folder = tmp_path / "local"
    snapshot_download("org/model", revision="v1", local_dir=folder, endpoint=hub.endpoint)
    return folder


def why_unknown(folder: Path) -> str:
    found = describe_origin(load(folder))
    assert (found.model, found.revision) == (None, None)
    return found.reason


def test_a_download_knows_its_commit_and_not_its_repository(hub: HubServer, download: Path) -> None:
    sha = hub.head("org/model", "v1")
    reason = why_unknown(download)
    assert "was not loaded from a Hub snapshot but from a folder" in reason
    assert f"downloaded at commit {sha} of a repository that is not recorded there" in reason
    assert f"(pass its id, with revision='{sha}')" in reason
    assert not any("org/model" in file.read_text() for file in download.rglob("*.metadata"))


def test_a_download_at_several_commits(hub: HubServer, download: Path) -> None:
    later = hub.commit("org/model", {"transformer/README.md": b"new"})
    snapshot_download(
        "org/model", local_dir=download, endpoint=hub.endpoint, allow_patterns="*/README.md"
    )
    both = ", ".join(sorted([later, hub.head("org/model", "v1")]))
    assert why_unknown(download).endswith(
        f"but from a folder with files of several commits, {both}"
    )


def test_a_download_that_was_changed(download: Path) -> None:
    file = download / "transformer" / "diffusion_pytorch_model.safetensors"
    later = file.stat().st_mtime + 60
    os.utime(file, (later, later))
    assert why_unknown(download).endswith(" but from a folder")


def test_a_download_with_a_file_from_elsewhere(download: Path) -> None:
    (download / "transformer" / "note").write_text("")
    assert why_unknown(download).endswith(" but from a folder")


@pytest.mark.parametrize(
    "record", ["", "1 2 3", f"{'x' * 40}\n1\n9999999999", f"{'0' * 40}\n1\nnever"]
)
def test_a_download_whose_record_is_damaged(download: Path, record: str) -> None:
    (download / METADATA / "config.json.metadata").write_text(record)
    assert why_unknown(download).endswith(" but from a folder")
