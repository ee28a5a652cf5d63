"""`otcache push`, `pull`, `search` and `list --hub` as processes, over HTTP."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hub_server import Fault, HubServer, environment
from huggingface_hub import constants
from otcache_registry import read_policy, write_policy
from otcache_registry.documents.bundled import BUNDLED_FOLDER
from otcache_registry.documents.names import document_folder
from otcache_registry.hub.index import IndexedDocument
from otcache_registry.hub.index_card import IndexEntry, render_index

EXACT = BUNDLED_FOLDER / "exact-flow"
PUBLISHED = BUNDLED_FOLDER / "z-image"
MODEL = "Tongyi-MAI/Z-Image"
TOKEN = "hf_" + "a" * 34
COMMAND = str(Path(sys.executable).with_name("otcache"))
COMMIT = "[0-9a-f]{40}"


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def hub(hub: HubServer) -> HubServer:
    """With alice's token, which looks like one and must never be shown."""
    hub.add_user("alice", token=TOKEN, organisations=("otcache",))
    return hub


@pytest.fixture
def otcache(hub: HubServer, tmp_path: Path) -> Any:
    """Run the command as somebody whose Hub that is; alice's token has to be given."""

    own = {"OTCACHE_CACHE": str(tmp_path / "cache"), "COLUMNS": "80", "NO_COLOR": "1"}

    def run(*arguments: object, token: str | None = None, **variables: str | None) -> Ended:
        client = environment(hub, tmp_path / "home", token)
        kept = {name: each for name, each in client.items() if "OTCACHE" not in name}
        wanted = {**kept, **own, "OMP_NUM_THREADS": "1", **variables}
        done = subprocess.run(
            [COMMAND, *map(str, arguments)],
            env={name: each for name, each in wanted.items() if each is not None},
            capture_output=True,
            text=True,
            check=False,
        )
        assert TOKEN not in done.stdout + done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def here(hub: HubServer, main: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run the same command in this process, which is quicker."""
    files = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setenv("OTCACHE_CACHE", str(tmp_path / "cache"))

    def run(*arguments: object, token: str | None = None, **variables: str) -> Any:
        known = {} if token is None else {"HF_TOKEN": token}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**known, **variables}.items():
                patch.setenv(name, value)
            return main(*map(str, arguments))

    return run


def place_of(folder: Path) -> str:
    return document_folder(read_policy(folder).document)


def publish(hub: HubServer, folder: Path, repository: str) -> str:
    """Publish a document from the inside; return what names it for good."""
    place = place_of(folder)
    if repository not in hub.repositories:
        hub.create_repo(repository)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    files = {f"{place}/{name}": (folder / name).read_bytes() for name in names}
    entry = IndexEntry(*IndexedDocument.of_content(files[f"{place}/policy.json"]))
    card = render_index(repository, entry).encode()
    commit = hub.commit(repository, {"README.md": card, **files})
    return f"hub:{repository}@{commit}#{place}"


def test_push_pull_and_use_offline(hub: HubServer, otcache: Any, main: Any) -> None:
    pushed = otcache("push", EXACT, token=TOKEN)
    assert pushed.code == 0, pushed.err
    repository, place = "alice/otcache-exact-flow", place_of(EXACT)
    commit = hub.repositories[repository].head.sha
    assert pushed.out == f"{hub.endpoint}/{repository}/tree/{commit}/{place}\n"
    policy = f"hub:{repository}@{commit}#{place}"
    assert pushed.err == f"Published: {policy}\n"

    pulled = otcache("pull", repository)
    assert (pulled.code, pulled.out) == (0, f"{policy}\n")
    assert "pulling" in pulled.err
    assert f"from now on usable offline: enable_cache(pipe, policy='{policy}')" in pulled.err

    hub.clear_requests()
    for named in (policy, f"hub:{repository}"):
        shown = otcache("predict", named, "--budget", "8", OTCACHE_OFFLINE="1")
        assert shown.code == 0, shown.err
        assert shown.out == main("predict", str(EXACT), "--budget", "8").out
    assert hub.requests == []


def test_pull_as_json_and_quietly(hub: HubServer, here: Any) -> None:
    policy = publish(hub, EXACT, "alice/flow")
    pulled = here("pull", "hub:alice/flow@main", "--json", "--quiet")
    assert (pulled.code, pulled.err) == (0, "")
    (document,) = json.loads(pulled.out)
    assert document["policy"] == policy
    assert (document["repository"], document["model"]) == ("alice/flow", "exact-flow")
    size = sum(path.stat().st_size for path in EXACT.rglob("*") if path.is_file())
    assert document["bytes"] == size


def test_pull_of_several(hub: HubServer, here: Any) -> None:
    publish(hub, EXACT, "alice/both")
    publish(hub, PUBLISHED, "alice/both")
    commit = hub.repositories["alice/both"].head.sha
    policies = [f"hub:alice/both@{commit}#{place_of(each)}" for each in (PUBLISHED, EXACT)]
    pulled = here("pull", "alice/both")
    assert pulled.out.splitlines() == policies
    refused = here("show", "hub:alice/both")
    assert (refused.code, refused.out) == (2, "")
    assert "this repository holds 2 documents" in refused.err
    assert f"hub:alice/both#{place_of(EXACT)}" in refused.err
    one = here("show", f"hub:alice/both#{place_of(EXACT)}", "--budget", "8")
    assert one.code == 0
    assert one.out.splitlines()[0] == policies[1]


def test_push_of_the_same_and_of_another(hub: HubServer, here: Any, tmp_path: Path) -> None:
    there = ("--repo", "otcache/flow")
    first = json.loads(here("push", EXACT, *there, "--tag", "v1", "--json", token=TOKEN).out)
    assert (first["outcome"], first["pull_request"]) == ("published", None)
    assert re.fullmatch(rf"hub:otcache/flow@{COMMIT}#{re.escape(place_of(EXACT))}", first["policy"])
    assert here("pull", "otcache/flow@v1", "-q").out == f"{first['policy']}\n"
    again = here("push", EXACT, *there, token=TOKEN)
    assert (again.code, again.err) == (0, f"There already: {first['policy']}\n")

    stored = read_policy(EXACT)
    other = tmp_path / "other"
    document = stored.document.model_copy(update={"default_budget": 9})
    write_policy(other, document, stored.tables, "# Another card\n")
    refused = here("push", other, *there, token=TOKEN)
    assert (refused.code, refused.out) == (2, "")
    assert "another document for this policy, revision" in refused.err
    assert refused.err.endswith("--replace.\n")
    proposed = here("push", other, *there, "--replace", "--create-pr", token=TOKEN)
    assert proposed.code == 0, proposed.err
    assert proposed.out == f"{hub.endpoint}/otcache/flow/discussions/1\n"
    assert proposed.err.startswith("Proposed: hub:otcache/flow@")
    replaced = here("push", other, *there, "--replace", token=TOKEN)
    assert replaced.err.startswith("Published: ")
    shown = json.loads(here("show", "hub:otcache/flow", "--json").out)
    assert shown["default_budget"] == 9


def test_push_without_evidence_has_to_be_said(hub: HubServer, here: Any) -> None:
    refused = here("push", PUBLISHED, "--private", token=TOKEN)
    assert (refused.code, refused.out) == (2, "")
    assert "no held-out figures" in refused.err
    assert refused.err.endswith("--without-evidence.\n")
    assert hub.repositories == {}
    pushed = here("push", PUBLISHED, "--private", "--without-evidence", token=TOKEN)
    assert pushed.code == 0, pushed.err
    assert hub.repositories["alice/otcache-Z-Image"].private
    assert here("pull", "alice/otcache-Z-Image").code == 1
    assert here("pull", "alice/otcache-Z-Image", token=TOKEN).code == 0


def test_push_says_how_to_log_in(hub: HubServer, here: Any, tmp_path: Path) -> None:
    nobody = here("push", EXACT)
    assert (nobody.code, nobody.out) == (1, "")
    assert (
        "nobody is logged in to the Hub. Log in with: hf auth login, or set HF_TOKEN" in nobody.err
    )
    wrong = here("push", EXACT, token="hf_" + "b" * 34)
    assert wrong.code == 1
    assert "the Hub does not know this login" in wrong.err
    assert "hf auth login" in wrong.err
    assert "b" * 34 not in wrong.err
    foreign = here("push", EXACT, "--repo", "bob/flow", token=TOKEN)
    assert foreign.code == 1
    assert "not allowed with this login" in foreign.err
    assert hub.repositories == {}
    missing = here("push", tmp_path, token=TOKEN)
    assert missing.code == 2
    assert "no policy.json there" in missing.err


@pytest.mark.parametrize(
    ("repository", "code", "words"),
    [
        ("alice/none", 1, ["no such repository", "If it is private: Log in"]),
        ("alice/flow@none", 1, ["no such branch, tag or commit"]),
        ("alice/empty", 2, ["no policy document in alice/empty"]),
    ],
)
def test_what_is_not_on_the_hub(
    hub: HubServer, here: Any, repository: str, code: int, words: list[str]
) -> None:
    hub.create_repo("alice/flow")
    hub.create_repo("alice/empty")
    refused = here("pull", repository)
    assert (refused.code, refused.out) == (code, "")
    assert refused.err.startswith("error: ")
    for each in words:
        assert each in refused.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["pull", "flow"], 2, ["REPOSITORY='flow'", "Use hub:user/name"]),
        (["pull", "bundled:exact-flow"], 2, ["is not a repository on the Hub"]),
        (["pull", "alice/flow"], 1, ["the Hub is not asked while HF_HUB_OFFLINE is set"]),
        (["push", str(EXACT)], 1, ["the Hub is not asked while HF_HUB_OFFLINE is set"]),
        (["show", "hub:alice/flow"], 1, ["HF_HUB_OFFLINE", "Nothing of it is in the store"]),
        (["push", str(EXACT), "--create-pr", "--tag", "v1"], 2, ["what is only proposed"]),
    ],
)
def test_refused_without_asking(
    main: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    words: list[str],
) -> None:
    monkeypatch.delenv("OTCACHE_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OTCACHE_CACHE", str(tmp_path))
    refused = main(*arguments)
    assert (refused.code, refused.out) == (code, "")
    assert refused.err.startswith("error: ")
    for each in words:
        assert each in refused.err


def test_search_looks_through_the_configured_namespaces_only(hub: HubServer, here: Any) -> None:
    official = publish(hub, PUBLISHED, "otcache/z-image")
    alices = publish(hub, PUBLISHED, "alice/z-image")
    publish(hub, EXACT, "alice/flow")
    found = here("search", MODEL)
    assert found.code == 0
    assert found.out.splitlines()[::2] == ["bundled:z-image", official]
    assert found.err.startswith("Looked through on the Hub: otcache (OTCACHE_NAMESPACES")
    more = json.loads(here("search", MODEL, "--json", OTCACHE_NAMESPACES="alice").out)
    assert [(each["policy"], each["place"]) for each in more["documents"]] == [
        ("bundled:z-image", "bundled"),
        (official, "hub"),
        (alices, "hub"),
    ]
    assert more["hub"]["namespaces"] == ["otcache", "alice"]
    listed = json.loads(here("list", "--hub", "--json", OTCACHE_NAMESPACES="alice").out)
    places = {each["policy"]: each["place"] for each in listed["documents"]}
    assert (places[official], places[alices]) == ("hub", "hub")
    assert sum(place == "hub" for place in places.values()) == 3
    here("pull", "otcache/z-image", "-q")
    # Listed once, also after somebody has pushed something besides.
    hub.commit("otcache/z-image", {"notes.txt": b"theirs"})
    listed = json.loads(here("list", "--hub", "--json").out)
    places = {each["policy"]: each["place"] for each in listed["documents"]}
    assert (places[official], "hub" in places.values()) == ("store", False)


def test_one_namespace_that_fails_spoils_only_itself(hub: HubServer, here: Any) -> None:
    found = publish(hub, PUBLISHED, "alice/z-image")
    hub.faults.add(Fault("GET", "author=otcache", "status", None, status=400))
    listed = here("search", MODEL, OTCACHE_NAMESPACES="alice")
    assert listed.code == 1
    assert found in listed.out.splitlines()
    assert "so there may be more: namespace='otcache'" in listed.err


def test_removing_what_was_pulled(hub: HubServer, here: Any, tmp_path: Path) -> None:
    """Also where its repository is gone and nobody can repair it."""
    publish(hub, EXACT, "alice/both")
    publish(hub, PUBLISHED, "alice/both")
    first, second = here("pull", "alice/both", "-q").out.splitlines()
    hub.delete_repo("alice/both")
    several = here("store", "remove", "hub:alice/both")
    assert (several.code, several.out) == (2, "")
    assert first in several.err
    assert "--force" in several.err
    assert here("store", "remove", first).out.splitlines()[0] == first
    (lock,) = (tmp_path / "cache" / "policies" / "locks").iterdir()
    lock.write_text("{}")
    assert lock.name in here("list").err
    assert here("store", "remove", lock.name).code == 0
    assert here("list").err == ""
    missing = here("store", "remove", second)
    assert (missing.code, "not in the store" in missing.err) == (2, True)
    assert not [*(tmp_path / "cache" / "policies" / "blobs").iterdir()]


def test_pulling_again_by_force(hub: HubServer, here: Any) -> None:
    """What the store has is fetched again only then."""
    policy = publish(hub, EXACT, "alice/flow")
    table = "tables.safetensors"

    def pulled(*options: str) -> bool:
        hub.clear_requests()
        done = here("pull", "alice/flow", "-q", *options)
        assert (done.code, done.out) == (0, f"{policy}\n"), done.err
        return any(table in request.path for request in hub.requests)

    assert [pulled(), pulled(), pulled("--force"), pulled()] == [True, False, True, False]


def test_damaged_document_whose_repository_is_gone(
    hub: HubServer, here: Any, tmp_path: Path
) -> None:
    """It cannot be pulled again, by force neither; removing it is rid of it."""
    policy = publish(hub, EXACT, "alice/flow")
    assert here("pull", "alice/flow", "-q").code == 0
    blobs = [*(tmp_path / "cache" / "policies" / "blobs").iterdir()]
    for blob in blobs:
        blob.write_bytes(b"damaged")
    hub.delete_repo("alice/flow")
    refused = here("pull", "alice/flow", "--force")
    assert (refused.code, refused.out) == (1, "")
    assert "no such repository" in refused.err
    listed = here("list")
    assert policy not in listed.out
    assert f"missing or damaged in the store's copy of {policy}" in listed.err
    assert "otcache store remove is rid of what nobody can repair" in listed.err
    assert here("store", "remove", "hub:alice/flow").out.splitlines()[0] == policy
    assert here("list").err == ""
    assert not any(blob.exists() for blob in blobs)


def test_what_another_process_reads_is_not_broken(
    hub: HubServer, here: Any, otcache: Any, tmp_path: Path
) -> None:
    """Without COLUMNS and without a terminal, in a listing and in a table."""
    policy = publish(hub, EXACT, "alice/flow")
    here("pull", "alice/flow", "-q")
    listed = otcache("list", COLUMNS=None).out.splitlines()
    facts = listed[listed.index(policy) + 1]
    assert facts.startswith("  otcache for exact-flow (")
    assert "default" in facts
    assert len(facts) > 80
    shown = otcache("show", "bundled:exact-flow", COLUMNS=None).out.splitlines()
    assert max(map(len, shown)) > 80
    revision = read_policy(EXACT).document.model.revision
    assert revision is not None
    assert any(revision in line for line in shown)


def test_unreachable_hub_is_said(hub: HubServer, here: Any) -> None:
    hub.stop_listening()
    found = here("search", MODEL)
    assert found.code == 1
    assert found.out.splitlines()[0] == "bundled:z-image"
    assert "The Hub gave no answer, so there may be more: namespace='otcache'" in found.err
    assert "Check the connection and HF_ENDPOINT" in found.err


def test_document_that_cannot_be_used_is_named(hub: HubServer, here: Any) -> None:
    publish(hub, PUBLISHED, "otcache/z-image")
    card = f"---\ntags: [otcache-policy]\nbase_model: {MODEL}\n---\n".encode()
    hub.commit("otcache/z-image", {"README.md": card})
    found = here("search", MODEL)
    assert found.code == 0
    assert found.out.splitlines()[0] == "bundled:z-image"
    assert len(found.out.splitlines()) == 2
    assert "not usable: hub:otcache/z-image" in found.err
