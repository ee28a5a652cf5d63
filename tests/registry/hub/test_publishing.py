"""A document is published whole, in its place, once, and never over somebody else's work."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from hub_server import Fault, HubServer
from hub_world import (
    FIGURES,
    MODEL,
    REPOSITORY,
    REVISION,
    client_of,
    created,
    document_of,
    files_of,
    publish,
    searched,
    write,
)
from huggingface_hub import ModelCard
from otcache_policies import Schedule
from otcache_registry import (
    DocumentError,
    DocumentNotFoundError,
    PolicyDetails,
    PolicyDocument,
    PolicyIdentity,
    render_card,
)
from otcache_registry.documents.names import document_folder
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.committing import Commit
from otcache_registry.hub.errors import (
    CommitUnknownError,
    ForbiddenError,
    HubConflictError,
    HubNotFoundError,
    HubServerError,
    LoginError,
)
from otcache_registry.hub.fetching import pull, read_documents
from otcache_registry.hub.publishing import LostRaceError, PublishingError, TagError, push
from otcache_registry.store.store import PolicyStore

OTHER_REVISION = "f" * 40
PLACE = document_folder(document_of())
by_lfs = pytest.mark.filterwarnings(
    # huggingface_hub 2.4 hands files to its HTTP library as data=, which that deprecates.
    "ignore:Use 'content=<...>' to upload raw bytes/text content:DeprecationWarning"
)


@pytest.fixture
def alice(hub: HubServer) -> HubClient:
    return client_of(hub)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A document's folder."""
    return write(tmp_path / "document", document_of())


@pytest.fixture
def other_folder(tmp_path: Path) -> Path:
    """The folder of another document for the same place."""
    return write(tmp_path / "another", document_of(rho=2.5))


def published_files(hub: HubServer, place: str = PLACE, revision: str = "main") -> dict[str, bytes]:
    """What a repository has in a folder."""
    files = hub.files(REPOSITORY, revision)
    inside = {path for path in files if path.startswith(f"{place}/")}
    return {path.removeprefix(f"{place}/"): files[path] for path in inside}


def commits(hub: HubServer) -> list[str]:
    """Titles of the commits after the one that made the repository, the last first."""
    return [commit.title for commit in hub.commits(REPOSITORY)][:-1]


# What is published.


@by_lfs
@pytest.mark.parametrize("mode", ["regular", "lfs"])
def test_everything_in_one_commit(
    hub: HubServer, alice: HubClient, folder: Path, tmp_path: Path, mode: str
) -> None:
    hub.upload_mode = mode  # type: ignore[assignment]
    done = push(alice, folder)
    assert published_files(hub) == files_of(folder)
    assert commits(hub) == [f"Policy for {MODEL} in {PLACE}"]
    assert (done.outcome, done.repository, done.folder) == ("published", REPOSITORY, PLACE)
    assert (done.commit, done.pull_request) == (hub.head(REPOSITORY), None)
    assert done.url == f"{hub.endpoint}/{REPOSITORY}/tree/{done.commit}/{PLACE}"
    store = PolicyStore(tmp_path / "store")
    (record,) = pull(client_of(hub, "hf_bob"), store, REPOSITORY).records
    assert store.open(record).document == document_of()
    assert [each.repository for each in searched(alice, "alice")[0]] == [REPOSITORY]


def test_the_file_of_a_document_names_its_folder(
    hub: HubServer, alice: HubClient, folder: Path
) -> None:
    push(alice, folder / "policy.json", "otcache/chosen")
    assert hub.files("otcache/chosen").keys() >= {f"{PLACE}/{name}" for name in files_of(folder)}


def test_a_missing_card_is_made(hub: HubServer, alice: HubClient, folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "notes.txt").write_text("not for others")
    push(alice, folder)
    card = render_card(document_of(), FIGURES).encode()
    assert published_files(hub)["README.md"] == card
    assert "notes.txt" not in published_files(hub)


def test_private_and_public(hub: HubServer, alice: HubClient, folder: Path) -> None:
    push(alice, folder, private=True)
    assert hub.repositories[REPOSITORY].private
    assert push(alice, folder, private=True).outcome == "unchanged"
    push(alice, folder, "alice/open")
    assert not hub.repositories["alice/open"].private
    with pytest.raises(PublishingError, match="alice/open exists and is public"):
        push(alice, folder, "alice/open", private=True)


def test_the_same_again(hub: HubServer, alice: HubClient, folder: Path) -> None:
    first = push(alice, folder)
    hub.clear_requests()
    again = push(alice, folder, tag="v1")
    assert (again.outcome, again.commit, again.url) == ("unchanged", first.commit, first.url)
    assert len(commits(hub)) == 1
    assert hub.tags(REPOSITORY) == {"v1": first.commit}
    assert not hub.requests_to("POST", "commit|preupload|validate|create")


def test_several_documents_in_one_repository(
    hub: HubServer, alice: HubClient, folder: Path, tmp_path: Path
) -> None:
    others = [
        document_of(revision=OTHER_REVISION),
        document_of("example/other", revision="v1/é"),
        document_of(revision=None),
    ]
    push(alice, folder)
    for number, other in enumerate(others):
        write(tmp_path / str(number), other)
        push(alice, tmp_path / str(number), REPOSITORY, without_evidence=True)
    found = read_documents(alice, alice.snapshot(REPOSITORY))
    assert found.refused == ()
    assert sorted(each.folder for each in found.documents) == sorted(
        map(document_folder, [document_of(), *others])
    )
    assert published_files(hub) == files_of(folder)
    assert len(commits(hub)) == 4


def test_a_tag(hub: HubServer, alice: HubClient, folder: Path) -> None:
    done = push(alice, folder, tag="v1.0")
    assert hub.tags(REPOSITORY) == {"v1.0": done.commit}


# The repository's card.


def test_card_of_the_repository(hub: HubServer, alice: HubClient, tmp_path: Path) -> None:
    newest = created(document_of("example/other", OTHER_REVISION), 31)
    oldest = created(document_of("embedded", "v|1"), 1)
    for number, document in enumerate((created(document_of(), 9), oldest, newest)):
        write(tmp_path / str(number), document)
        push(alice, tmp_path / str(number), REPOSITORY)
    text = hub.files(REPOSITORY)["README.md"].decode()
    card = ModelCard(text)
    assert card.data.library_name == "cache-dit"
    assert card.data.tags == ["otcache-policy"]
    assert card.data.base_model == [MODEL, "example/other"]
    own = [row for row in newest.evidence if row.policy == "otcache"]
    assert [result.metric_value for result in card.data.eval_results] == [r.mean for r in own]
    lines = text.splitlines()
    row = next(row for row in own if row.budget == newest.default_budget)
    figure = f"{row.metric} {row.mean:.4g} ± {row.standard_error:.2g} at {row.budget} steps"
    budgets = ", ".join(map(str, newest.calibrated_budgets))
    link = f"[document]({document_folder(newest)}/README.md)"
    facts = f"example/other | {OTHER_REVISION} | otcache | 50 | {budgets}"
    assert f"| {facts} | {figure}, {row.pairs} pairs | {link} |" in lines
    assert sum(line.endswith("/README.md) |") for line in lines) == 3
    assert any(line.startswith(r"| embedded | v\|1 | otcache | 50 |") for line in lines)
    assert f'policy="hub:{REPOSITORY}@COMMIT#{document_folder(newest)}"' in text
    assert text.count("enable_cache(") == 1
    # Whatever it links to is there, and the figures are those of the document published last.
    linked = re.findall(r"\]\(([^)]+)\)", text)
    assert set(linked) <= hub.files(REPOSITORY).keys()
    pictures = [path for path in linked if path.endswith(".png")]
    assert pictures == [
        f"{document_folder(newest)}/figures/{name}" for name in ("schedules.png", "gaps.png")
    ]
    headings = [line for line in lines if line.startswith("#")]
    assert [line for line in headings if line.startswith("# ")] == [headings[0]]
    assert "### Evidence" in headings
    assert sum("Cache schedules" in line for line in headings) == 1


def test_card_of_one_document(hub: HubServer, alice: HubClient, folder: Path) -> None:
    push(alice, folder)
    text = hub.files(REPOSITORY)["README.md"].decode()
    assert f'cache_dit.enable_cache(pipe, policy="hub:{REPOSITORY}@COMMIT")' in text.splitlines()
    assert ModelCard(text).data.base_model == [MODEL]


def test_card_of_published_schedules(hub: HubServer, alice: HubClient, tmp_path: Path) -> None:
    write(tmp_path / "any", document_of(revision=None))
    push(alice, tmp_path / "any", without_evidence=True)
    text = hub.files(REPOSITORY)["README.md"].decode()
    budgets = ", ".join(map(str, document_of(revision=None).calibrated_budgets))
    assert f"| {MODEL} | any | otcache | 50 | {budgets} | none |" in text
    assert ModelCard(text).data.eval_results is None


# What is not published.


def test_without_evidence_only_on_purpose(hub: HubServer, alice: HubClient, tmp_path: Path) -> None:
    folder = write(tmp_path / "document", document_of(evidence=()))
    with pytest.raises(PublishingError, match="nobody could tell how good it is"):
        push(alice, folder)
    assert hub.requests == []
    assert push(alice, folder, without_evidence=True).outcome == "published"


@pytest.mark.parametrize("damage", ["policy.json", "tables.safetensors"])
def test_damaged_documents(hub: HubServer, alice: HubClient, folder: Path, damage: str) -> None:
    data = (folder / damage).read_bytes()
    (folder / damage).write_bytes(data[:-9])
    with pytest.raises(DocumentError):
        push(alice, folder)
    (folder / damage).unlink()
    with pytest.raises((DocumentError, DocumentNotFoundError)):
        push(alice, folder)
    assert hub.requests == []


def test_figures_that_are_none(hub: HubServer, alice: HubClient, folder: Path) -> None:
    (folder / "figures" / "a b.png").write_bytes(b"1")
    with pytest.raises(DocumentError, match="not a file of a policy document"):
        push(alice, folder)
    assert hub.requests == []


def test_documents_of_two_policies_side_by_side(
    hub: HubServer, alice: HubClient, folder: Path, tmp_path: Path
) -> None:
    strata = PolicyIdentity(name="strata", distribution="otcache-strata")
    document = created(document_of(policy=strata, parameters={"threshold": 0.25}), 31)
    write(tmp_path / "strata", document)
    write(folder, created(document_of(), 1))
    first, second = push(alice, folder), push(alice, tmp_path / "strata")
    assert first.folder.replace("otcache", "strata") == second.folder
    listing = read_documents(alice, alice.snapshot(REPOSITORY))
    assert listing.refused == ()
    found = {each.document.policy.name: each.document for each in listing.documents}
    assert found == {"otcache": created(document_of(), 1), "strata": document}
    text = hub.files(REPOSITORY)["README.md"].decode()
    for name in found:
        assert f"| {MODEL} | {REVISION} | {name} | 50 |" in text
    # The newest one is shown in full, as far as anybody here can say what is in it.
    assert "- Policy: strata, of otcache-strata" in text
    assert "█" not in text
    store = PolicyStore(tmp_path / "store")
    records = pull(alice, store, REPOSITORY).records
    assert [store.open(record).document for record in records] == list(found.values())


def test_cards_say_what_belongs_to_the_policies(
    hub: HubServer, alice: HubClient, folder: Path
) -> None:
    details = PolicyDetails(schedules=(("the only one", Schedule([0, 2, 3], 4)),))
    (folder / "README.md").unlink()
    published = push(alice, folder, describe=lambda document: details)
    for path in ("README.md", f"{published.folder}/README.md"):
        assert "the only one     3  █·██" in hub.files(REPOSITORY)[path].decode()


def test_what_cannot_be_described_is_not_published(
    hub: HubServer, alice: HubClient, folder: Path
) -> None:
    hub.create_repo(REPOSITORY)
    head = hub.head(REPOSITORY)

    def describe(document: PolicyDocument) -> PolicyDetails:
        raise DocumentError("parameters.rho", -1, "not allowed", "Use more than 0")

    with pytest.raises(PublishingError, match=r"cannot show it in .* card \(parameters\.rho=-1"):
        push(alice, folder, describe=describe)
    assert hub.head(REPOSITORY) == head


def reads(hub: HubServer) -> list[str]:
    """Paths of the files that were read, without the commit."""
    paths = (request.path for request in hub.requests if "/resolve/" in request.path)
    return [re.sub(r".*/resolve/[0-9a-f]{40}/", "", path) for path in paths]


def test_no_other_document_is_read_but_what_the_card_does_not_list(
    hub: HubServer, alice: HubClient, folder: Path, tmp_path: Path
) -> None:
    others = [document_of(revision=f"{number:040x}") for number in range(30)]
    for number, other in enumerate(others):
        publish(hub, tmp_path / str(number), other, REPOSITORY)
    hub.clear_requests()
    push(alice, folder)
    assert reads(hub) == ["README.md"]
    # One comes by hand, another is changed by hand; the card tells neither.
    unlisted, changed = document_of(revision="e" * 40), document_of(revision=f"{7:040x}", rho=2.5)
    places = [document_folder(each) for each in (changed, unlisted)]
    for place, each in zip(places, (changed, unlisted), strict=True):
        hub.commit(REPOSITORY, {f"{place}/policy.json": each.to_json().encode()})
    hub.clear_requests()
    last = write(tmp_path / "last", document_of(revision="d" * 40))
    push(alice, last)
    assert reads(hub) == ["README.md", *(f"{place}/policy.json" for place in places)]
    documents, refused = searched(alice, "alice")
    listed = {each.folder: each.listed.sha256 for each in documents}
    assert (len(listed), refused) == (33, [])
    for place in map(document_folder, [*others, unlisted, document_of()]):
        content = hub.files(REPOSITORY)[f"{place}/policy.json"]
        assert listed[place] == hashlib.sha256(content).hexdigest()


def test_too_many_documents_that_no_card_lists(
    hub: HubServer, alice: HubClient, folder: Path
) -> None:
    hub.create_repo(REPOSITORY)
    places = [document_folder(document_of(revision=f"{number:040x}")) for number in range(101)]
    hub.commit(REPOSITORY, {f"{place}/policy.json": b"{}" for place in places})
    with pytest.raises(PublishingError, match="has 101 documents that its card does not list"):
        push(alice, folder)
    assert reads(hub) == []
    assert len(commits(hub)) == 1


def test_another_document_in_its_place(
    hub: HubServer, alice: HubClient, folder: Path, other_folder: Path
) -> None:
    push(alice, folder)
    head = hub.head(REPOSITORY)
    problem = "another document for this policy, revision and set-up"
    with pytest.raises(PublishingError, match=problem):
        push(alice, other_folder)
    assert hub.head(REPOSITORY) == head
    (other_folder / "figures" / "gaps.png").unlink()
    assert push(alice, other_folder, replace=True).outcome == "published"
    assert published_files(hub) == files_of(other_folder)


def test_a_document_that_nobody_can_read_is_replaced(
    hub: HubServer, alice: HubClient, folder: Path
) -> None:
    push(alice, folder)
    hub.commit(REPOSITORY, {f"{PLACE}/policy.json": b"{}"})
    with pytest.raises(PublishingError, match="another document"):
        push(alice, folder)
    push(alice, folder, replace=True)
    assert published_files(hub) == files_of(folder)


def test_a_document_of_a_newer_version_stays_listed(
    hub: HubServer, alice: HubClient, folder: Path, tmp_path: Path
) -> None:
    other = document_of("example/other", OTHER_REVISION)
    write(tmp_path / "other", other)
    push(alice, tmp_path / "other", REPOSITORY)
    place = document_folder(other)
    hub.commit(REPOSITORY, {f"{place}/policy.json": b'{"schema": "otcache.policy/v9"}'})
    push(alice, folder)
    assert published_files(hub) == files_of(folder)
    ((document,), refused) = searched(alice, "alice", "example/other")
    assert (document.folder, refused) == (place, [])
    text = hub.files(REPOSITORY)["README.md"].decode()
    assert f"| written by a newer version | [document]({place}/README.md) |" in text


def test_who_may_not(hub: HubServer, folder: Path) -> None:
    with pytest.raises(LoginError, match="nobody is logged in"):
        push(client_of(hub, None), folder)
    with pytest.raises(LoginError):
        push(client_of(hub, "hf_stranger"), folder)
    hub.add_user("reader", token="hf_reader", role="read")
    with pytest.raises(ForbiddenError, match="write role"):
        push(client_of(hub, "hf_reader"), folder)
    with pytest.raises(ForbiddenError, match="namespace"):
        push(client_of(hub, "hf_bob"), folder, "otcache/new")
    assert hub.repositories == {}
    hub.create_repo(REPOSITORY)
    with pytest.raises(ForbiddenError, match="or propose the change"):
        push(client_of(hub, "hf_bob"), folder, REPOSITORY)
    assert hub.files(REPOSITORY).keys() == {".gitattributes"}


# Tags that fail.


def test_a_tag_that_stands_for_another_commit(
    hub: HubServer, alice: HubClient, folder: Path
) -> None:
    hub.create_repo(REPOSITORY)
    hub.tag(REPOSITORY, "v1")
    with pytest.raises(PublishingError, match=r"does not have this document.*another name"):
        push(alice, folder, tag="v1")
    assert not hub.requests_to("POST", "")
    assert push(alice, folder, tag="v2").outcome == "published"
    assert hub.tags(REPOSITORY)["v2"] == hub.head(REPOSITORY)


def test_a_tag_that_somebody_sets_meanwhile(
    hub: HubServer, alice: HubClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.create_repo(REPOSITORY)
    first = hub.head(REPOSITORY)
    commit = HubClient.commit

    def and_they_tag(client: HubClient, *arguments: Any) -> Commit:
        hub.tag(REPOSITORY, "v1", first)
        return commit(client, *arguments)

    monkeypatch.setattr(HubClient, "commit", and_they_tag)
    with pytest.raises(TagError, match=r"stands, but without this tag.*another name") as failed:
        push(alice, folder, tag="v1")
    assert f"/tree/{hub.head(REPOSITORY)}/" in failed.value.problem
    assert published_files(hub) == files_of(folder)


def test_a_tag_that_stands_for_the_same_document(
    hub: HubServer, alice: HubClient, folder: Path
) -> None:
    """Somebody else's commit has followed since."""
    push(alice, folder, tag="v1")
    tagged = dict(hub.tags(REPOSITORY))
    hub.commit(REPOSITORY, {"notes.txt": b"theirs"})
    assert push(alice, folder, tag="v1").outcome == "unchanged"
    assert hub.tags(REPOSITORY) == tagged


def test_a_tag_that_is_only_said_to_be_set(hub: HubServer, alice: HubClient, folder: Path) -> None:
    """Such as by a proxy that answers everything with its own page."""
    hub.faults.add(Fault("POST", "/tag/", "status", None, status=200))
    with pytest.raises(TagError, match="without this tag"):
        push(alice, folder, tag="v1")
    assert hub.tags(REPOSITORY) == {}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"repository": "x"}, "repository='x': not the name of a repository"),
        ({"repository": "a/b/c"}, "not the name of a repository"),
        ({"tag": "two words"}, "tag='two words': not a name for a tag"),
        ({"tag": "-v"}, "not a name for a tag"),
        ({"tag": "a..b"}, "not a name for a tag"),
        ({"tag": "x.lock"}, "not a name for a tag"),
        ({"create_pr": True, "private": True}, "as public as the repository"),
        ({"create_pr": True, "tag": "v1"}, "what is only proposed has no tag"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_asked(
    hub: HubServer, alice: HubClient, folder: Path, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(PublishingError, match=says):
        push(alice, folder, **arguments)
    assert hub.requests == []


# A repository that was made for nothing.


def test_an_empty_repository_is_removed_again(
    hub: HubServer, alice: HubClient, folder: Path
) -> None:
    hub.faults.add(Fault("POST", "/commit/", "status", None, status=403))
    with pytest.raises(ForbiddenError, match=f"{REPOSITORY}, which was made for this, was removed"):
        push(alice, folder)
    assert hub.repositories == {}


def test_what_is_left_behind_is_said(hub: HubServer, alice: HubClient, folder: Path) -> None:
    hub.faults.add(Fault("POST", "/commit/", "status", None, status=403))
    hub.faults.add(Fault("DELETE", "", "status", None, status=403))
    with pytest.raises(ForbiddenError, match="which was made for this, is left behind"):
        push(alice, folder)


def test_no_repository_of_others_is_removed(hub: HubServer, alice: HubClient, folder: Path) -> None:
    hub.create_repo(REPOSITORY)
    hub.faults.add(Fault("POST", "/commit/", "status", None, status=403))
    with pytest.raises(ForbiddenError):
        push(alice, folder)
    assert not hub.requests_to("DELETE", "")


def test_a_lost_answer_to_a_tag(hub: HubServer, alice: HubClient, folder: Path) -> None:
    hub.faults.add(Fault("POST", "/tag/", "lose_answer"))
    done = push(alice, folder, tag="v1")
    assert hub.tags(REPOSITORY) == {"v1": done.commit}


# Pull requests.


def test_a_proposal(hub: HubServer, alice: HubClient, folder: Path) -> None:
    hub.create_repo(REPOSITORY)
    bob = client_of(hub, "hf_bob")
    done = push(bob, folder, REPOSITORY, create_pr=True)
    assert (done.outcome, done.commit) == ("proposed", hub.head(REPOSITORY, "refs/pr/1"))
    assert done.pull_request == f"{hub.endpoint}/{REPOSITORY}/discussions/1"
    assert published_files(hub, revision="refs/pr/1") == files_of(folder)
    assert hub.files(REPOSITORY).keys() == {".gitattributes"}
    again = push(bob, folder, REPOSITORY, create_pr=True)
    assert (again.outcome, again.pull_request) == ("unchanged", done.pull_request)
    assert len(hub.pull_requests(REPOSITORY)) == 1
    hub.merge_pull_request(REPOSITORY, 1)
    assert push(alice, folder, REPOSITORY).outcome == "unchanged"
    after = push(bob, folder, REPOSITORY, create_pr=True)
    assert (after.outcome, after.pull_request) == ("unchanged", None)


def test_a_proposal_to_nobody(hub: HubServer, alice: HubClient, folder: Path) -> None:
    with pytest.raises(HubNotFoundError):
        push(alice, folder, create_pr=True)
    assert hub.repositories == {}
    with pytest.raises(PublishingError, match="what is only proposed has no tag"):
        push(alice, folder, create_pr=True, tag="v1")


def test_a_proposal_in_place_of_another_document(
    hub: HubServer, alice: HubClient, folder: Path, other_folder: Path
) -> None:
    push(alice, folder)
    bob = client_of(hub, "hf_bob")
    with pytest.raises(PublishingError, match="another document"):
        push(bob, other_folder, REPOSITORY, create_pr=True)
    push(bob, other_folder, REPOSITORY, create_pr=True, replace=True)
    assert published_files(hub, revision="refs/pr/1") == files_of(other_folder)


@pytest.mark.parametrize("kind", ["lose_answer", "truncate"])
def test_a_lost_answer_opens_no_second_pull_request(
    hub: HubServer, alice: HubClient, folder: Path, kind: str
) -> None:
    hub.create_repo(REPOSITORY)
    hub.faults.add(Fault("POST", "/commit/", kind))  # type: ignore[arg-type]
    done = push(alice, folder, create_pr=True)
    assert (done.outcome, len(hub.pull_requests(REPOSITORY))) == ("proposed", 1)
    assert done.pull_request == f"{hub.endpoint}/{REPOSITORY}/discussions/1"


def test_a_proposal_that_did_not_arrive_is_not_made_again_unasked(
    hub: HubServer, alice: HubClient, folder: Path
) -> None:
    hub.create_repo(REPOSITORY)
    hub.faults.add(Fault("POST", "/commit/", "drop"))
    with pytest.raises(CommitUnknownError, match="Push again"):
        push(alice, folder, create_pr=True)
    assert len(hub.requests_to("POST", "/commit/")) == 1
    assert push(alice, folder, create_pr=True).outcome == "proposed"
    assert len(hub.pull_requests(REPOSITORY)) == 1


# Others publish at the same time.


class Meanwhile:
    """Does something at the moment when a commit is asked for, before it is made."""

    def __init__(self, hub: HubServer, *actions: object) -> None:
        self.left = list(actions)
        answer = hub.answered

        def answered(request):  # type: ignore[no-untyped-def]
            if request.matches("POST", "/commit/") and self.left:
                self.left.pop(0)()  # type: ignore[operator]
            return answer(request)

        hub.answered = answered  # type: ignore[method-assign]


def test_somebody_else_publishes_elsewhere(
    hub: HubServer, alice: HubClient, folder: Path, tmp_path: Path
) -> None:
    theirs = document_of(revision=OTHER_REVISION)
    Meanwhile(hub, lambda: publish(hub, tmp_path / "theirs", theirs, REPOSITORY))
    done = push(alice, folder)
    assert done.outcome == "published"
    assert published_files(hub) == files_of(folder)
    assert published_files(hub, document_folder(theirs)) == files_of(tmp_path / "theirs")
    assert OTHER_REVISION in hub.files(REPOSITORY)["README.md"].decode()
    assert len(commits(hub)) == 2


@pytest.mark.parametrize("replace", [False, True])
def test_somebody_else_publishes_in_the_same_place(
    hub: HubServer, alice: HubClient, folder: Path, tmp_path: Path, replace: bool
) -> None:
    if replace:
        publish(hub, tmp_path / "old", document_of(rho=3.5), REPOSITORY)
    theirs = document_of(rho=2.5)
    Meanwhile(hub, lambda: publish(hub, tmp_path / "theirs", theirs, REPOSITORY))
    with pytest.raises(LostRaceError, match="somebody else published there meanwhile, at commit"):
        push(alice, folder, replace=replace)
    assert published_files(hub) == files_of(tmp_path / "theirs")


def test_somebody_else_publishes_the_same(
    hub: HubServer, alice: HubClient, folder: Path, tmp_path: Path
) -> None:
    Meanwhile(hub, lambda: publish(hub, tmp_path / "theirs", document_of(), REPOSITORY))
    assert push(alice, folder).outcome == "unchanged"
    assert len(commits(hub)) == 1


def test_others_publish_all_the_time(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    pauses: list[float] = []
    hub.create_repo(REPOSITORY)
    numbers = iter(range(99))
    act = [lambda: hub.commit(REPOSITORY, {"x": str(next(numbers)).encode()})] * 9
    Meanwhile(hub, *act)
    with pytest.raises(HubConflictError, match="somebody else changed it meanwhile"):
        push(client_of(hub, pauses=pauses), folder)
    assert len(pauses) == 3
    assert published_files(hub) == {}


def test_an_answer_is_lost_and_somebody_else_publishes_then(
    hub: HubServer, alice: HubClient, folder: Path, tmp_path: Path
) -> None:
    hub.faults.add(Fault("POST", "/commit/", "lose_answer"))
    hub.faults.add(Fault("GET", "blobs", "status", None, after=2))
    with pytest.raises(CommitUnknownError):
        push(alice, folder)
    hub.faults.clear()
    publish(hub, tmp_path / "theirs", document_of(revision=OTHER_REVISION), REPOSITORY)
    assert push(alice, folder).outcome == "unchanged"
    assert len(commits(hub)) == 2


def test_the_hub_fails_for_good_after_the_commit(
    hub: HubServer, alice: HubClient, folder: Path
) -> None:
    hub.faults.add(Fault("POST", "/commit/", "status", None, status=500))
    with pytest.raises(CommitUnknownError, match="the Hub failed") as failed:
        push(alice, folder)
    assert not isinstance(failed.value, HubServerError)
    assert commits(hub) == []
    assert len(hub.requests_to("POST", "/commit/")) == 4
    hub.faults.clear()
    assert push(alice, folder).outcome == "published"
    assert len(commits(hub)) == 1
