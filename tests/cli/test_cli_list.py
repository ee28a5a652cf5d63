"""`otcache list` and `search` without a Hub: bundled and pulled documents, damaged ones too."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from otcache_registry.documents.bundled import BUNDLED_FOLDER
from otcache_registry.store.store import PolicyStore
from tiny_documents import MODEL, REVISION, write_document

BUNDLED = ["embedded", "exact-flow", "qwen-image", "qwen-image-2512", "z-image"]
HEAVY = ["torch", "diffusers", "transformers", "cache_dit", "optuna", "matplotlib"]
COMMIT = "3" * 40
FOLDER = f"{REVISION}/otcache/50-steps-64x64-00000000"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PolicyStore:
    """The user's store, empty, with the Hub out of reach."""
    monkeypatch.setenv("OTCACHE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OTCACHE_OFFLINE", "1")
    return PolicyStore()


def add(store: PolicyStore, tmp_path: Path) -> str:
    """Put a document into the store as if it was pulled; return what names it."""
    write_document(tmp_path / "policy")
    contents = {
        name: (tmp_path / "policy" / name).read_bytes()
        for name in ("policy.json", "tables.safetensors", "README.md")
    }
    store.add("alice/flux", COMMIT, FOLDER, contents, NOON)
    return f"hub:alice/flux@{COMMIT}#{FOLDER}"


def test_bundled(main: Any) -> None:
    shown = main("list")
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    assert lines[::2] == [f"bundled:{name}" for name in BUNDLED]
    facts = dict(zip(lines[::2], (line.strip() for line in lines[1::2]), strict=True))
    assert facts["bundled:z-image"] == (
        "otcache for Tongyi-MAI/Z-Image (any revision), 50 steps, budgets 13 … 25, default 15, "
        "published by others"
    )
    revision = json.loads((BUNDLED_FOLDER / "embedded" / "policy.json").read_text())["model"]
    assert facts["bundled:embedded"].startswith(
        f"otcache for embedded ({revision['revision'][:12]}), 50 steps"
    )


def test_pulled_ones_can_be_copied_from_a_narrow_terminal(
    main: Any, store: PolicyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = add(store, tmp_path)
    monkeypatch.setenv("COLUMNS", "40")
    lines = main("list").out.splitlines()
    assert policy in lines
    assert f"  otcache for {MODEL}" in [line.rstrip() for line in lines]


def test_json(main: Any, store: PolicyStore, tmp_path: Path) -> None:
    policy = add(store, tmp_path)
    shown = json.loads(main("list", "--json").out)
    assert [each["policy"] for each in shown["documents"]] == [
        *(f"bundled:{name}" for name in BUNDLED),
        policy,
    ]
    assert shown["documents"][-1] == {
        "policy": policy,
        "place": "store",
        "policy_name": "otcache",
        "distribution": "otcache-plugin",
        "model": MODEL,
        "revision": REVISION,
        "num_inference_steps": 50,
        "calibrated_budgets": [8, 20],
        "default_budget": 12,
        "published": False,
    }
    assert shown["documents"][-2]["published"] is True
    assert (shown["problems"], shown["hub"]) == ([], None)


def test_hub_is_not_asked_offline(main: Any) -> None:
    shown = main("list", "--hub")
    assert shown.code == 0
    assert shown.err == "The Hub was not asked: OTCACHE_OFFLINE is set.\n"
    hub = json.loads(main("list", "--hub", "--json").out)["hub"]
    assert hub == {
        "namespaces": ["otcache"],
        "not_asked": "OTCACHE_OFFLINE is set",
        "failed": None,
        "refused": [],
    }


def test_damaged_documents_are_named(main: Any, store: PolicyStore, tmp_path: Path) -> None:
    policy = add(store, tmp_path)
    for blob in (store.folder / "blobs").iterdir():
        blob.write_bytes(b"")
    shown = main("list")
    assert shown.code == 0
    assert policy not in shown.out
    assert shown.err.startswith("not usable: files=(")
    assert "Pull the document again" in shown.err
    (lock,) = (store.folder / "locks").iterdir()
    lock.write_text("{}")
    problems = json.loads(main("list", "--json").out)["problems"]
    assert len(problems) == 1
    assert "not a lock record" in problems[0]


def test_search(main: Any, store: PolicyStore, tmp_path: Path) -> None:
    policy = add(store, tmp_path)
    shown = main("search", MODEL)
    assert shown.code == 0
    assert shown.out.splitlines()[0] == policy
    assert "bundled:" not in shown.out
    assert shown.err == "The Hub was not asked: OTCACHE_OFFLINE is set.\n"
    found = json.loads(main("search", "Qwen/Qwen-Image", "--json").out)
    assert [each["policy"] for each in found["documents"]] == ["bundled:qwen-image"]
    assert found["hub"]["not_asked"] == "OTCACHE_OFFLINE is set"


def test_nothing_found_says_what_to_do(main: Any) -> None:
    shown = main("search", "org/model")
    assert (shown.code, shown.out) == (0, "")
    assert "No document for org/model" in shown.err
    assert "otcache calibrate org/model --output FOLDER" in shown.err


def test_names_that_are_none_on_the_hub_are_not_sent_there(
    main: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTCACHE_OFFLINE")
    shown = main("search", "exact-flow")
    assert shown.code == 0
    assert shown.err == "The Hub was not asked: 'exact-flow' is no id of a model there.\n"


def test_namespace_that_cannot_be_one(main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTCACHE_NAMESPACES", "alice,a/b")
    refused = main("search", "org/model")
    assert (refused.code, refused.out) == (2, "")
    assert "OTCACHE_NAMESPACES='alice,a/b'" in refused.err
    assert "separated by commas" in refused.err


def test_reading_loads_neither_torch_nor_the_hub_client(tmp_path: Path) -> None:
    """In one process, where everything that a command loads stays for the next to be seen."""
    write_document(tmp_path / "policy")
    commands = [
        ["--help"],
        ["list"],
        ["store", "list"],
        ["store", "prune"],
        ["show", "bundled:exact-flow"],
        ["show", str(tmp_path / "policy"), "--json"],
        ["predict", "bundled:z-image", "--budget", "14", "--format", "cache-dit-yaml"],
        ["verify", "bundled:embedded"],
    ]
    code = (
        "import contextlib, io, json, sys\n"
        "from otcache_plugin.cli.main import main\n"
        "found = []\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['otcache', *arguments]\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        try:\n"
        "            main()\n"
        "        except SystemExit as ended:\n"
        "            assert not ended.code, (arguments, ended.code)\n"
        "    found.append(sorted(sys.modules))\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    for command, modules in zip(commands, loaded, strict=True):
        assert "otcache_plugin.cli.show" in modules
        unwanted = {*HEAVY, "huggingface_hub"}.intersection(modules)
        assert not unwanted, (command, unwanted)
    # The help needs no arithmetic either.
    assert not {"numpy", "pydantic", "otcache_registry"}.intersection(loaded[0])


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("qwen-image", "There are some for Qwen/Qwen-Image, Qwen/Qwen-Image-2512."),
        ("flux", "Models are searched by their whole id, such as org/name."),
        ("org/name", "Make one: otcache calibrate org/name --output FOLDER"),
    ],
)
def test_search_says_what_to_do_where_there_is_none(main: Any, model: str, said: str) -> None:
    found = main("search", model)
    assert (found.code, found.out) == (0, "")
    assert found.err.splitlines()[-1] == f"No document for {model}. {said}"
