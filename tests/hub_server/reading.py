"""The endpoints that tell what there is: who one is, models, their files and their revisions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

from hub_server import cards
from hub_server.messages import HubError, Response, unauthenticated
from hub_server.repositories import Blob, Commit, Repository, entries

if TYPE_CHECKING:
    from hub_server.hub import Hub
    from hub_server.routes import Call

LISTED = """
    _id id modelId likes trendingScore private downloads tags pipeline_tag library_name createdAt
    """
"""What a search tells of each model, unless asked for more."""
FULL = LISTED + "author sha lastModified gated disabled siblings"
INFORMATION = FULL + " cardData config spaces usedStorage"
"""What a model's own endpoint tells."""
EXPANDABLE = """
    author baseModels cardData config createdAt disabled downloads downloadsAllTime gated
    lastModified library_name likes pipeline_tag private sha siblings spaces tags trendingScore
    usedStorage
    """
SEARCHED_BY = """
    filter author search pipeline_tag gated sort limit cursor full cardData config expand expand[]
    """
SORTED_BY = ("downloads", "likes", "trendingScore", "lastModified", "createdAt")


def whoami(hub: Hub, call: Call) -> Response:
    """Whose token this is."""
    user = call.user
    if user is None:
        raise unauthenticated()
    organisations = [
        {"type": "org", "id": object_id(name), "name": name, "roleInOrg": user.role}
        for name in user.organisations
    ]
    token = {"displayName": "test", "role": user.role, "createdAt": "2026-01-01T00:00:00.000Z"}
    return Response.of_json(
        {
            "type": "user",
            "id": object_id(user.name),
            "name": user.name,
            "fullname": user.name,
            "isPro": False,
            "orgs": organisations,
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


def list_models(hub: Hub, call: Call) -> Response:
    """The models that a search finds, a page of them."""
    query = call.request.query
    if unknown := set(query) - set(SEARCHED_BY.split()):
        raise HubError(501, f"The test server does not search by {sorted(unknown)}")
    found = [
        facts
        for repository in hub.repositories.values()
        if hub.may_read(call.user, repository)
        and call.parameter("author", repository.namespace).lower() == repository.namespace.lower()
        and _is_found(facts := facts_of(repository, repository.head), call)
    ]
    if "sort" in query:
        if query["sort"][0] not in SORTED_BY:
            raise HubError(400, f"sort must be one of {SORTED_BY}")
        found.sort(key=lambda facts: facts[query["sort"][0]], reverse=True)
    names = (FULL if call.is_set("full") else LISTED).split()
    extra = [name for name in ("cardData", "config") if call.is_set(name)]
    limit = int(call.parameter("limit", "0")) or None
    return page(hub, call, found, lambda facts: told(facts, call, [*names, *extra]), limit)


def _is_found(facts: dict[str, Any], call: Call) -> bool:
    query = call.request.query
    return (
        set(query.get("filter", [])) <= set(facts["tags"])
        and call.parameter("search", "").lower() in facts["id"].lower()
        and call.parameter("pipeline_tag", str(facts["pipeline_tag"])) == str(facts["pipeline_tag"])
        and ("gated" not in query or call.is_set("gated") == bool(facts["gated"]))
    )


def model_info(hub: Hub, call: Call) -> Response:
    """What there is to know of a model at one of its revisions."""
    repository = hub.readable(call.user, call.repo)
    commit = repository.resolve(call.named.get("revision", "main"))
    facts = facts_of(repository, commit)
    if call.is_set("blobs"):
        facts["siblings"] = [
            {"rfilename": path, "size": len(blob.content), "blobId": blob.git_sha}
            | ({"lfs": _lfs(blob) | {"sha256": blob.sha256}} if blob.lfs else {})
            for path, blob in commit.blobs.items()
        ]
    return Response.of_json(told(facts, call, INFORMATION.split()))


def facts_of(repository: Repository, commit: Commit) -> dict[str, Any]:
    """All that may be told of a model."""
    files = commit.files
    card = cards.front_matter(files.get("README.md", b""))
    relation, base_models = cards.base_models(card, files)
    return {
        "_id": object_id(repository.name),
        "id": repository.name,
        "modelId": repository.name,
        "author": repository.namespace,
        "sha": commit.sha,
        "createdAt": timestamp(repository.created),
        "lastModified": timestamp(repository.head.date),
        "private": repository.private,
        "gated": repository.gated or False,
        "disabled": False,
        "downloads": repository.downloads,
        "downloadsAllTime": repository.downloads,
        "likes": repository.likes,
        "trendingScore": 0,
        "library_name": cards.library_name(card, files),
        "pipeline_tag": card.get("pipeline_tag"),
        "tags": cards.tags(card, files),
        "cardData": card or None,
        "config": cards.config(files),
        "siblings": [{"rfilename": path} for path in commit.blobs],
        "spaces": [],
        "usedStorage": sum(map(len, files.values())),
        "baseModels": {
            "relation": relation,
            "models": [{"_id": object_id(model), "id": model} for model in base_models],
        },
    }


def told(facts: dict[str, Any], call: Call, names: Sequence[str]) -> dict[str, Any]:
    """The facts that a request asks for, or those named; what a model lacks is left out."""
    query = call.request.query
    if wanted := [*query.get("expand", []), *query.get("expand[]", [])]:
        if unknown := set(wanted) - set(EXPANDABLE.split()):
            raise HubError(400, f"expand must be among {EXPANDABLE.split()}, not {unknown}")
        names = ["_id", "id", *wanted]
    return {name: facts[name] for name in names if facts[name] is not None}


def tree(hub: Hub, call: Call) -> Response:
    """The files and folders of a revision, or of a folder in it; a page of them."""
    if call.is_set("expand"):
        raise HubError(501, "The test server does not know the last commit of each file")
    commit = hub.readable(call.user, call.repo).resolve(call.named["revision"])
    listed = entries(commit.blobs, call.named.get("path", ""), call.is_set("recursive"))
    return page(hub, call, listed, lambda entry: _entry(*entry))


def paths_info(hub: Hub, call: Call) -> Response:
    """The named files and folders of a revision; those that are missing are left out."""
    commit = hub.readable(call.user, call.repo).resolve(call.named["revision"])
    everything = dict(entries(commit.blobs, "", recursive=True))
    paths = parse_qs(call.request.body.decode()).get("paths", [])
    return Response.of_json(
        [_entry(path, everything[path]) for path in paths if path in everything]
    )


def _entry(path: str, blob: Blob | None) -> dict[str, Any]:
    """A file or a folder, as trees have it."""
    if blob is None:
        tree_id = hashlib.sha1(path.encode()).hexdigest()
        return {"type": "directory", "oid": tree_id, "size": 0, "path": path}
    entry = {"type": "file", "oid": blob.git_sha, "size": len(blob.content), "path": path}
    return entry | ({"lfs": _lfs(blob) | {"oid": blob.sha256}} if blob.lfs else {})


def _lfs(blob: Blob) -> dict[str, Any]:
    return {"size": len(blob.content), "pointerSize": len(blob.pointer)}


def commits(hub: Hub, call: Call) -> Response:
    """The commits up to a revision, the last first; a page of them."""
    history = hub.readable(call.user, call.repo).history(call.named["revision"])
    return page(
        hub,
        call,
        history,
        lambda commit: {
            "id": commit.sha,
            "title": commit.title,
            "message": commit.description,
            "authors": [{"user": commit.author}],
            "date": timestamp(commit.date),
        },
    )


def refs(hub: Hub, call: Call) -> Response:
    """The branches and tags, and the pull requests where they are asked for."""
    repository = hub.readable(call.user, call.repo)

    def named(prefix: str) -> list[dict[str, str]]:
        names = repository.names(prefix)
        return [
            {"name": name, "ref": prefix + name, "targetCommit": sha} for name, sha in names.items()
        ]

    found = {"branches": named("refs/heads/"), "tags": named("refs/tags/"), "converts": []}
    if call.is_set("include_prs"):
        found["pullRequests"] = named("refs/pr/")
    return Response.of_json(found)


def page(
    hub: Hub,
    call: Call,
    items: Sequence[Any],
    shown: Callable[[Any], Any],
    limit: int | None = None,
) -> Response:
    """A page of a list, and the address of the next one in the header that the client follows.

    A limit is one of each page, as on the Hub: its client stops by itself after as many.
    """
    start = int(call.parameter("cursor", "0"))
    end = start + min(hub.page_size, limit or hub.page_size)
    headers = {}
    if end < len(items):
        query = urlencode({**call.request.query, "cursor": [str(end)]}, doseq=True)
        headers["Link"] = f'<{call.endpoint}{call.request.path}?{query}>; rel="next"'
    return Response.of_json([shown(item) for item in items[start:end]], headers=headers)


def object_id(name: str) -> str:
    """The Hub's own id of something: 24 hexadecimal digits."""
    return hashlib.sha1(name.encode()).hexdigest()[:24]


def timestamp(date: datetime) -> str:
    """A date as the Hub writes it."""
    return date.strftime("%Y-%m-%dT%H:%M:%S.000Z")
