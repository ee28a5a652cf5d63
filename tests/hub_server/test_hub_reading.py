"""The real client finds in the test server what is there: models, revisions, files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    BadRequestError,
    GatedRepoError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hub_server import HubServer

CARD = b"""---
library_name: otcache
license: apache-2.0
tags: [otcache-policy, flux]
base_model: [black-forest-labs/FLUX.1-dev]
pipeline_tag: text-to-image
---
# A card
"""
HELLO_SHA = "ce013625030ba8dba906f756967f9e9ca394464a"
"""What `git hash-object` says of "hello" and a newline."""
MEGABYTES = bytes(range(256)) * 4096 * 3


def paths_of(entries: Sequence[object]) -> list[str]:
    return [entry.path for entry in entries]  # type: ignore[attr-defined]


# What there is.


def test_files_over_several_pages(hub: HubServer, anonymous: HfApi) -> None:
    hub.create_repo("otcache/x")
    hub.commit("otcache/x", {"a/1": b"1", "a/b/2": b"22", "3": b"333", "4": b""})
    hub.page_size = 2
    everything = list(anonymous.list_repo_tree("otcache/x", recursive=True))
    assert paths_of(everything) == ["a", "a/b", ".gitattributes", "3", "4", "a/1", "a/b/2"]
    assert len(hub.requests_to("GET", "/tree/")) == 4
    assert {"a/b/2": 2, "3": 3}.items() <= {
        entry.path: entry.size for entry in everything[2:]
    }.items()
    assert paths_of(list(anonymous.list_repo_tree("otcache/x", "a"))) == ["a/b", "a/1"]
    assert sorted(anonymous.list_repo_files("otcache/x")) == [
        ".gitattributes",
        "3",
        "4",
        "a/1",
        "a/b/2",
    ]
    with pytest.raises(RemoteEntryNotFoundError):
        list(anonymous.list_repo_tree("otcache/x", "nowhere"))


def test_model_info_at_revisions(hub: HubServer, anonymous: HfApi) -> None:
    hub.create_repo("otcache/x", downloads=7, likes=3)
    first = hub.commit("otcache/x", {"README.md": CARD, "hello": b"hello\n"})
    hub.tag("otcache/x", "v1")
    second = hub.commit("otcache/x", {"later": b""}, delete=["README.md"])
    for revision in (first, "v1", "refs/tags/v1"):
        info = anonymous.model_info("otcache/x", revision=revision, files_metadata=True)
        assert info.sha == first
        assert info.card_data is not None
        assert info.card_data.base_model == ["black-forest-labs/FLUX.1-dev"]
        assert info.siblings is not None
        (hello,) = [file for file in info.siblings if file.rfilename == "hello"]
        assert (hello.blob_id, hello.size) == (HELLO_SHA, 6)
    info = anonymous.model_info("otcache/x")
    assert (info.sha, info.card_data, info.private, info.gated) == (second, None, False, False)
    assert (info.downloads, info.likes, info.author) == (7, 3, "otcache")
    assert info.last_modified == hub.commits("otcache/x")[0].date
    some = anonymous.model_info("otcache/x", expand=["sha", "likes"])
    assert (some.sha, some.likes, some.downloads) == (second, 3, None)
    with pytest.raises(BadRequestError, match="expand"):
        anonymous.model_info("otcache/x", expand=["nonsense"])  # type: ignore[list-item]


def test_list_models(hub: HubServer, alice: HfApi, anonymous: HfApi) -> None:
    for name, likes in [("otcache/one", 1), ("otcache/two", 2), ("other/one", 3)]:
        hub.create_repo(name, likes=likes)
        hub.commit(name, {"README.md": CARD})
    hub.create_repo("other/bare")
    hub.create_repo("otcache/secret", private=True)

    def found(**query: object) -> list[str]:
        return [model.id for model in anonymous.list_models(**query)]  # type: ignore[arg-type]

    base = "base_model:black-forest-labs/FLUX.1-dev"
    tagged = ["otcache/one", "otcache/two", "other/one"]
    assert found() == [*tagged, "other/bare"]
    assert found(filter="otcache-policy") == tagged
    assert found(filter=["otcache-policy", base]) == tagged
    assert found(filter=["otcache", "license:apache-2.0", "text-to-image"]) == tagged
    assert found(filter=["base_model:finetune:black-forest-labs/FLUX.1-dev"]) == tagged
    assert found(filter=["otcache-policy", "nonsense"]) == []
    assert found(author="otcache") == ["otcache/one", "otcache/two"]
    assert found(author="otcache", search="TWO") == ["otcache/two"]
    assert found(filter="flux", sort="likes") == tagged[::-1]
    assert found(pipeline_tag="text-to-image") == tagged
    assert [model.id for model in alice.list_models(author="otcache")] == [
        "otcache/one",
        "otcache/two",
        "otcache/secret",
    ]
    hub.page_size = 2
    hub.clear_requests()
    assert found(filter=["flux", base]) == tagged
    assert len(hub.requests) == 2
    assert found(limit=3) == tagged
    assert found(limit=1) == tagged[:1]
    raw = httpx2.get(f"{hub.endpoint}/api/models?limit=1")
    assert [model["id"] for model in raw.json()] == tagged[:1]
    assert "limit=1&cursor=1" in raw.links["next"]["url"]


def test_what_list_models_tells(hub: HubServer, anonymous: HfApi) -> None:
    hub.create_repo("otcache/one")
    sha = hub.commit("otcache/one", {"README.md": CARD})
    (plain,) = anonymous.list_models()
    assert (plain.sha, plain.card_data, plain.siblings) == (None, None, None)
    assert plain.library_name == "otcache"
    (full,) = anonymous.list_models(full=True, cardData=True)
    assert full.sha == sha
    assert full.card_data is not None
    assert full.card_data.license == "apache-2.0"
    (some,) = anonymous.list_models(expand=["cardData", "lastModified"])
    assert (some.sha, some.tags) == (None, None)
    assert some.card_data is not None
    assert some.last_modified == hub.commits("otcache/one")[0].date


# What one may see.


def test_what_is_missing(hub: HubServer, alice: HfApi, anonymous: HfApi) -> None:
    hub.create_repo("otcache/x")
    for client, status in ((alice, 404), (anonymous, 401)):
        with pytest.raises(RepositoryNotFoundError) as refused:
            client.model_info("otcache/y")
        assert refused.value.response.status_code == status
    with pytest.raises(RevisionNotFoundError):
        alice.model_info("otcache/x", revision="nowhere")
    with pytest.raises(RevisionNotFoundError):
        alice.hf_hub_download("otcache/x", "a", revision="nowhere")
    with pytest.raises(RemoteEntryNotFoundError) as refused:
        alice.hf_hub_download("otcache/x", "a")
    assert refused.value.response.headers["X-Repo-Commit"] == hub.head("otcache/x")
    assert not alice.file_exists("otcache/x", "a")


def test_private(hub: HubServer, alice: HfApi, bob: HfApi, anonymous: HfApi) -> None:
    hub.create_repo("otcache/x", private=True)
    hub.commit("otcache/x", {"a": b"1"})
    for client, status in ((bob, 404), (anonymous, 401)):
        with pytest.raises(RepositoryNotFoundError) as refused:
            client.model_info("otcache/x")
        assert refused.value.response.status_code == status
        with pytest.raises(RepositoryNotFoundError):
            client.hf_hub_download("otcache/x", "a")
    assert Path(alice.hf_hub_download("otcache/x", "a")).read_bytes() == b"1"
    hub.grant("otcache/x", "bob")
    assert bob.file_exists("otcache/x", "a")


def test_gated(hub: HubServer, alice: HfApi, bob: HfApi, anonymous: HfApi) -> None:
    hub.create_repo("otcache/x", gated="manual")
    hub.commit("otcache/x", {"a": b"1"})
    assert anonymous.model_info("otcache/x").gated == "manual"
    for client, status in ((bob, 403), (anonymous, 401)):
        with pytest.raises(GatedRepoError) as refused:
            client.hf_hub_download("otcache/x", "a")
        assert refused.value.response.status_code == status
    assert alice.file_exists("otcache/x", "a")
    hub.grant("otcache/x", "bob")
    assert bob.file_exists("otcache/x", "a")


# Files.


def test_hf_hub_download(hub: HubServer, anonymous: HfApi) -> None:
    hub.create_repo("otcache/x")
    first = hub.commit("otcache/x", {"a/hello": b"hello\n"})
    hub.commit("otcache/x", {"a/hello": b"bye\n"})
    path = Path(anonymous.hf_hub_download("otcache/x", "a/hello", revision=first))
    assert path.read_bytes() == b"hello\n"
    assert path.resolve().name == HELLO_SHA
    assert path.parts[-3] == first
    hub.clear_requests()
    anonymous.hf_hub_download("otcache/x", "a/hello", revision=first)
    assert hub.requests == []
    assert Path(anonymous.hf_hub_download("otcache/x", "a/hello")).read_bytes() == b"bye\n"
    assert [request.method for request in hub.requests] == ["HEAD", "GET"]


def test_local_dir_says_where_it_comes_from(
    hub: HubServer, anonymous: HfApi, tmp_path: Path
) -> None:
    hub.create_repo("otcache/x")
    sha = hub.commit("otcache/x", {"a/hello": b"hello\n"})
    anonymous.snapshot_download("otcache/x", local_dir=tmp_path / "local")
    assert (tmp_path / "local/a/hello").read_bytes() == b"hello\n"
    metadata = tmp_path / "local/.cache/huggingface/download/a/hello.metadata"
    assert metadata.read_text().splitlines()[:2] == [sha, HELLO_SHA]


def test_snapshot_download(hub: HubServer, anonymous: HfApi) -> None:
    hub.create_repo("otcache/x")
    files = {f"folder/{number}": bytes([number]) * number for number in range(6)}
    files["weights.safetensors"] = MEGABYTES
    sha = hub.commit("otcache/x", files)
    hub.page_size = 3
    folder = Path(anonymous.snapshot_download("otcache/x"))
    assert folder.name == sha
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert found == hub.files("otcache/x")


def test_ranges_and_entity_tags(hub: HubServer) -> None:
    hub.create_repo("otcache/x")
    hub.commit("otcache/x", {"a": b"0123456789"})
    url = f"{hub.endpoint}/otcache/x/resolve/main/a"

    def get(**headers: str) -> httpx2.Response:
        return httpx2.get(url, headers={name.replace("_", "-"): headers[name] for name in headers})

    for asked, content, said in [
        ("bytes=3-5", b"345", "bytes 3-5/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ]:
        answer = get(range=asked)
        assert (answer.status_code, answer.content) == (206, content)
        assert answer.headers["content-range"] == said
    assert get(range="bytes=10-").status_code == 416
    unchanged = get(if_none_match=get().headers["etag"])
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert get(if_none_match='"other"').content == b"0123456789"
