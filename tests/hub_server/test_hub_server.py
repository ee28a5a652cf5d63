"""The real client sees in the test server what it would see in the Hub."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
)
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hub_server import HubServer

CARD = b"---\nlicense: apache-2.0\n---\n# A card\n"
by_lfs = pytest.mark.filterwarnings(
    # huggingface_hub 2.4 hands files to its HTTP library as data=, which that deprecates.
    "ignore:Use 'content=<...>' to upload raw bytes/text content:DeprecationWarning"
)
MEGABYTES = bytes(range(256)) * 4096 * 3


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


# Who one is, and repositories.


def test_whoami(alice: HfApi) -> None:
    user = alice.whoami()
    assert user["name"] == "alice"
    assert [organisation["name"] for organisation in user["orgs"]] == ["otcache"]
    assert user["auth"]["accessToken"]["role"] == "write"


def test_a_token_that_is_nobodys(hub: HubServer) -> None:
    stranger = HfApi(endpoint=hub.endpoint, token="hf_stranger")
    with pytest.raises(HfHubHTTPError, match="Invalid user token") as refused:
        stranger.whoami()
    assert refused.value.response.status_code == 401
    hub.create_repo("otcache/x")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as refused:
        stranger.model_info("otcache/x")
    assert not isinstance(refused.value, RepositoryNotFoundError)


def test_create_repo(hub: HubServer, alice: HfApi) -> None:
    url = alice.create_repo("otcache/x", private=True)
    assert (url, url.repo_id) == (f"{hub.endpoint}/otcache/x", "otcache/x")
    assert alice.model_info("otcache/x").private is True
    assert hub.files("otcache/x").keys() == {".gitattributes"}
    with pytest.raises(HfHubHTTPError) as refused:
        alice.create_repo("otcache/x")
    assert refused.value.response.status_code == 409
    assert alice.create_repo("otcache/x", exist_ok=True).repo_id == "otcache/x"
    assert alice.create_repo("own").repo_id == "alice/own"


def test_create_repo_where_one_may_not(hub: HubServer, bob: HfApi) -> None:
    with pytest.raises(HfHubHTTPError, match="otcache") as refused:
        bob.create_repo("otcache/x")
    assert refused.value.response.status_code == 403
    hub.add_user("reader", token="hf_reader", role="read")
    with pytest.raises(HfHubHTTPError, match="write role"):
        HfApi(endpoint=hub.endpoint, token="hf_reader").create_repo("reader/x")


def test_delete_repo(alice: HfApi) -> None:
    alice.create_repo("otcache/x")
    alice.delete_repo("otcache/x")
    assert not alice.repo_exists("otcache/x")


def test_repositories_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "org" / "model" / "transformer"
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    with HubServer(tmp_path) as hub:
        files = HfApi(endpoint=hub.endpoint, token=False).list_repo_files("org/model")
    assert sorted(files) == [".gitattributes", "transformer/config.json"]


# Commits.


def test_create_commit(hub: HubServer, alice: HfApi) -> None:
    alice.create_repo("otcache/x")
    hub.commit("otcache/x", {"old": b"1", "folder/a": b"2", "folder/b": b"3", "kept": b"4"})
    parent = hub.head("otcache/x")
    operations = [
        add("README.md", CARD),
        add("new/deep/table.npz", b"\x00\xff"),
        CommitOperationDelete("old"),
        CommitOperationDelete("folder/"),
        CommitOperationCopy("kept", "copy"),
    ]
    info = alice.create_commit(
        "otcache/x", operations, commit_message="Title", commit_description="Why"
    )
    assert info.oid == hub.head("otcache/x") != parent
    assert hub.files("otcache/x").keys() == {
        ".gitattributes",
        "README.md",
        "copy",
        "kept",
        "new/deep/table.npz",
    }
    assert hub.files("otcache/x")["new/deep/table.npz"] == b"\x00\xff"
    assert hub.files("otcache/x")["copy"] == b"4"
    assert hub.files("otcache/x", parent)["old"] == b"1"
    last = hub.commits("otcache/x")[0]
    assert (last.parent, last.title, last.description, last.author) == (
        parent,
        "Title",
        "Why",
        "alice",
    )
    assert [commit.title for commit in alice.list_repo_commits("otcache/x")] == [
        "Title",
        "A commit",
        "initial commit",
    ]


def test_unchanged_files_are_not_committed_again(hub: HubServer, alice: HfApi) -> None:
    alice.create_repo("otcache/x")
    first = alice.create_commit("otcache/x", [add("a", b"1")], commit_message="first")
    again = alice.create_commit("otcache/x", [add("a", b"1")], commit_message="again")
    assert again.oid == first.oid == hub.head("otcache/x")
    assert len(hub.requests_to("POST", "/commit/")) == 1


def test_stale_parent(hub: HubServer, alice: HfApi) -> None:
    alice.create_repo("otcache/x")
    parent = hub.head("otcache/x")
    for name in ("first", "second"):
        hub.commit("otcache/x", {name: b""})
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as refused:
        alice.create_commit(
            "otcache/x", [add("a", b"1")], commit_message="late", parent_commit=parent
        )
    assert refused.value.response.status_code == 412
    assert "a" not in hub.files("otcache/x")


def test_deleting_what_is_not_there(hub: HubServer, alice: HfApi) -> None:
    alice.create_repo("otcache/x")
    for path in ("no", "no/"):
        with pytest.raises(RemoteEntryNotFoundError, match="differentiate file and folder"):
            alice.create_commit("otcache/x", [CommitOperationDelete(path)], commit_message="no")


def test_front_matter_that_is_wrong(hub: HubServer, alice: HfApi) -> None:
    alice.create_repo("otcache/x")
    before = hub.head("otcache/x")
    for wrong, said in [
        (b"---\ntags: one\n---\n", "tags"),
        (b"---\nbase_model: not a model\n---\n", "hf.co/models"),
        (b"---\nlicense: mine\n---\n", "license"),
        (b"---\na: [\n---\n", "Bad YAML"),
    ]:
        with pytest.raises(ValueError, match=said):
            alice.create_commit("otcache/x", [add("README.md", wrong)], commit_message="card")
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        alice.create_commit("otcache/x", [add("README.md", b"# No\n")], commit_message="card")
    assert hub.commits("otcache/x")[0].parent == before


def test_the_commit_itself_refuses_wrong_front_matter(hub: HubServer, alice: HfApi) -> None:
    alice.create_repo("otcache/x")
    with pytest.raises(ValueError, match="license"):
        alice.upload_file(
            path_or_fileobj=b"---\nlicense: mine\n---\n",
            path_in_repo="README.md",
            repo_id="otcache/x",
        )
    lines = (
        b'{"key": "header", "value": {"summary": "s"}}\n'
        b'{"key": "file", "value": {"path": "README.md", "encoding": "base64",'
        b' "content": "LS0tCmxpY2Vuc2U6IG1pbmUKLS0tCg=="}}\n'
    )
    answer = httpx2.post(
        f"{hub.endpoint}/api/models/otcache/x/commit/main",
        content=lines,
        headers={"authorization": "Bearer hf_alice"},
    )
    assert answer.status_code == 400
    assert "license" in answer.json()["error"]


def test_writing_where_one_may_not(hub: HubServer, bob: HfApi, anonymous: HfApi) -> None:
    hub.create_repo("otcache/x")
    with pytest.raises(HfHubHTTPError, match="create_pr=1") as refused:
        bob.create_commit("otcache/x", [add("a", b"1")], commit_message="no")
    assert refused.value.response.status_code == 403
    with pytest.raises(RepositoryNotFoundError) as refused:
        anonymous.create_commit("otcache/x", [add("a", b"1")], commit_message="no")
    assert refused.value.response.status_code == 401


def test_pull_request(hub: HubServer, alice: HfApi, bob: HfApi) -> None:
    hub.create_repo("otcache/x")
    hub.commit("otcache/x", {"old": b"0"})
    base = hub.head("otcache/x")
    info = bob.create_commit(
        "otcache/x", [add("a", b"1")], commit_message="Proposal", create_pr=True
    )
    assert (info.pr_num, info.pr_revision) == (1, "refs/pr/1")
    assert hub.head("otcache/x") == base
    assert hub.head("otcache/x", "refs/pr/1") == info.oid
    (request,) = hub.pull_requests("otcache/x")
    assert (request.author, request.base, request.status) == ("bob", base, "open")
    alice.create_commit(
        "otcache/x",
        [add("b", b"2"), CommitOperationDelete("old")],
        commit_message="More",
        revision="refs/pr/1",
    )
    assert {"a", "b"} < set(alice.list_repo_files("otcache/x", revision="refs/pr/1"))
    refs = alice.list_repo_refs("otcache/x", include_pull_requests=True)
    assert refs.pull_requests is not None
    assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/1"]
    hub.commit("otcache/x", {"c": b"3"})
    merged = hub.merge_pull_request("otcache/x", 1)
    assert hub.files("otcache/x").keys() == {".gitattributes", "a", "b", "c"}
    assert (hub.head("otcache/x"), hub.pull_requests("otcache/x")[0].status) == (merged, "merged")


def test_tags_and_branches(hub: HubServer, alice: HfApi) -> None:
    alice.create_repo("otcache/x")
    first = hub.commit("otcache/x", {"a": b"1"})
    alice.create_tag("otcache/x", tag="v1/a", revision=first)
    alice.create_branch("otcache/x", branch="next")
    second = alice.create_commit(
        "otcache/x", [add("a", b"2")], commit_message="m", revision="next"
    ).oid
    with pytest.raises(HfHubHTTPError) as refused:
        alice.create_tag("otcache/x", tag="v1/a", revision="next")
    assert refused.value.response.status_code == 409
    alice.create_tag("otcache/x", tag="v1/a", exist_ok=True)
    with pytest.raises(RevisionNotFoundError):
        alice.create_tag("otcache/x", tag="v2", revision="nowhere")
    with pytest.raises(BadRequestError):
        alice.create_commit("otcache/x", [add("a", b"3")], commit_message="m", revision="v1/a")
    refs = alice.list_repo_refs("otcache/x")
    assert {ref.ref: ref.target_commit for ref in [*refs.branches, *refs.tags]} == {
        "refs/heads/main": first,
        "refs/heads/next": second,
        "refs/tags/v1/a": first,
    }
    assert alice.model_info("otcache/x", revision="v1/a").sha == first
    alice.delete_tag("otcache/x", tag="v1/a")
    alice.delete_branch("otcache/x", branch="next")
    assert (hub.tags("otcache/x"), hub.branches("otcache/x")) == ({}, {"main": first})


# Large files.


@by_lfs
def test_large_files_go_through_lfs(hub: HubServer, alice: HfApi) -> None:
    hub.upload_mode = "lfs"
    alice.create_repo("otcache/x", private=True)
    operations = [add("weights.safetensors", MEGABYTES), add("small.json", b"{}")]
    alice.create_commit("otcache/x", operations, commit_message="weights")
    digest = hashlib.sha256(MEGABYTES).hexdigest()
    assert hub.files("otcache/x")["weights.safetensors"] == MEGABYTES
    (upload,) = hub.requests_to("PUT", "/storage/")
    assert (upload.path, upload.token, upload.status) == (f"/storage/{digest}", None, 200)
    assert len(hub.requests_to("POST", "/objects/verify")) == 1
    (sent,) = hub.requests_to("POST", "/commit/")
    assert [line["key"] for line in sent.json_lines()] == ["header", "lfsFile", "file"]
    (entry,) = alice.get_paths_info("otcache/x", "weights.safetensors")
    assert entry.lfs.sha256 == digest  # type: ignore[union-attr]
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(MEGABYTES)}\n"
    ).encode()
    git_sha = hashlib.sha1(f"blob {len(pointer)}\0".encode() + pointer).hexdigest()
    assert entry.blob_id == git_sha  # type: ignore[union-attr]
    path = Path(alice.hf_hub_download("otcache/x", "weights.safetensors"))
    assert path.read_bytes() == MEGABYTES
    assert path.resolve().name == digest
    (download,) = hub.requests_to("GET", "/storage/")
    assert (download.token, download.headers["host"][:10]) == (None, "localhost:")
    again = [add("copy.safetensors", MEGABYTES), CommitOperationDelete("weights.safetensors")]
    alice.create_commit("otcache/x", again, commit_message="the same again")
    assert len(hub.requests_to("PUT", "/storage/")) == 1
    assert hub.files("otcache/x")["copy.safetensors"] == MEGABYTES


@by_lfs
def test_upload_of_a_file_object_by_lfs(hub: HubServer, alice: HfApi) -> None:
    hub.upload_mode = "lfs"
    alice.create_repo("otcache/x")
    alice.upload_file(
        path_or_fileobj=io.BytesIO(MEGABYTES), path_in_repo="a.bin", repo_id="otcache/x"
    )
    assert hub.files("otcache/x")["a.bin"] == MEGABYTES


def test_a_body_in_chunks(hub: HubServer) -> None:
    oid = hashlib.sha256(b"abcde").hexdigest()
    url = f"{hub.storage}/storage/{oid}"
    with httpx2.Client() as client:
        assert client.put(url, content=iter([b"abc", b"de"])).status_code == 200
        assert client.get(url).content == b"abcde"
    assert hub.requests[0].headers["transfer-encoding"] == "chunked"


def test_the_storage_takes_only_what_was_announced(hub: HubServer) -> None:
    url = f"{hub.storage}/storage/{'0' * 64}"
    assert httpx2.put(url, content=b"other").status_code == 400
    hub.add_user("carol", token="hf_carol")
    leaked = httpx2.get(url, headers={"authorization": "Bearer hf_carol"})
    assert (leaked.status_code, "no token" in leaked.json()["error"]) == (400, True)


# The server itself.


def test_the_same_steps_give_the_same_shas() -> None:
    shas = []
    for _ in range(2):
        with HubServer() as hub:
            hub.create_repo("otcache/x")
            hub.commit("otcache/x", {"a": b"1"})
            shas.append([commit.sha for commit in hub.commits("otcache/x")])
    assert shas[0] == shas[1]
    assert len(set(shas[0])) == 2


def test_what_it_does_not_serve_is_said(hub: HubServer) -> None:
    answer = httpx2.get(f"{hub.endpoint}/api/datasets")
    assert answer.status_code == 501
    assert "does not serve GET /api/datasets" in answer.json()["error"]


def test_its_own_failures_do_not_pass_for_faults() -> None:
    def misuse() -> None:
        with HubServer() as hub:
            assert httpx2.post(f"{hub.endpoint}/api/validate-yaml", json={}).status_code == 500

    with pytest.raises(RuntimeError, match="KeyError: 'content'"):
        misuse()
