"""The endpoints that change something: repositories, commits, pull requests, tags, branches."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from hub_server import cards
from hub_server.hub import require_write_token
from hub_server.messages import HubError, Response
from hub_server.repositories import Blob, Changes, is_large

if TYPE_CHECKING:
    from hub_server.hub import Hub
    from hub_server.routes import Call


def create_repo(hub: Hub, call: Call) -> Response:
    """Create a repository; where there is one, the refusal says its address too."""
    user = require_write_token(call.user)
    wanted = call.request.json()
    if wanted.get("type", "model") != "model":
        raise HubError(501, f"The test server has models only, not a {wanted['type']}")
    namespace = wanted.get("organization") or user.name
    repo_id = f"{namespace}/{wanted['name']}"
    if not user.owns(namespace):
        raise HubError(
            403, f'You don\'t have the rights to create a model under the namespace "{namespace}"'
        )
    address = {"url": f"{call.endpoint}/{repo_id}", "name": repo_id}
    if repo_id in hub.repositories:
        error = {"error": f"You already created this model repo: {repo_id}"}
        return Response.of_json(error | address, status=409)
    private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
    hub.create_repo(repo_id, private=private)
    return Response.of_json(address)


def delete_repo(hub: Hub, call: Call) -> Response:
    """Delete a repository."""
    user = require_write_token(call.user)
    wanted = call.request.json()
    repo_id = f"{wanted.get('organization') or user.name}/{wanted['name']}"
    hub.writable(user, repo_id)
    hub.delete_repo(repo_id)
    return Response.of_json({})


def validate_yaml(hub: Hub, call: Call) -> Response:
    """What is wrong with the front matter of a README."""
    errors, warnings = cards.validate(call.request.json()["content"])
    body = {
        "errors": [{"message": message} for message in errors],
        "warnings": [{"message": message} for message in warnings],
    }
    return Response.of_json(body, status=400 if errors else 200)


def preupload(hub: Hub, call: Call) -> Response:
    """How each file is to be uploaded, and what is there now: the same is not uploaded again."""
    access = hub.proposable if call.is_set("create_pr") else hub.writable
    repository, _ = access(call.user, call.repo)
    blobs = repository.resolve(call.named["revision"]).blobs
    files = []
    for wanted in call.request.json()["files"]:
        path = wanted["path"]
        mode = "lfs" if hub.upload_mode == "lfs" and is_large(path) else "regular"
        known = {"oid": blobs[path].etag} if path in blobs else {}
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **known})
    return Response.of_json({"files": files})


def commit(hub: Hub, call: Call) -> Response:
    """Commit to a branch or a pull request, or open a pull request with a commit."""
    proposed = call.is_set("create_pr")
    access = hub.proposable if proposed else hub.writable
    repository, user = access(call.user, call.repo)
    revision = call.named["revision"]
    header, changes = _parsed(hub, call)
    title, description = header.get("summary", ""), header.get("description", "")
    parent = repository.resolve(revision)
    if proposed:
        if revision != "main":
            raise HubError(400, "A pull request is opened on main")
        base = repository.resolve(header["parentCommit"]) if "parentCommit" in header else parent
        request, made = repository.propose(base, changes, title, description, user.name, hub.now())
        extra = {"pullRequestUrl": f"{call.endpoint}/{call.repo}/discussions/{request.number}"}
    else:
        ref = repository.ref_of(revision)
        if ref is None or ref.startswith("refs/tags/"):
            raise HubError(400, f"{revision} is no branch and no pull request")
        if header.get("parentCommit", parent.sha) != parent.sha:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        made = repository.commit(ref, parent, changes, title, description, user.name, hub.now())
        extra = {}
    address = f"{call.endpoint}/{call.repo}/commit/{made.sha}"
    return Response.of_json(
        {"success": True, "commitUrl": address, "commitOid": made.sha, "hookOutput": "", **extra}
    )


def _parsed(hub: Hub, call: Call) -> tuple[dict[str, Any], Changes]:
    """The header of a commit and what it is to do.

    Raises:
        HubError: It is not what a commit is.
    """
    header: dict[str, Any] | None = None
    changes = Changes()
    try:
        for line in call.request.json_lines():
            value = line["value"]
            match line["key"]:
                case "header":
                    header = value
                case "file":
                    content = base64.b64decode(value["content"], validate=True)
                    changes.added[_checked(value["path"])] = Blob(content)
                case "lfsFile":
                    changes.added[_checked(value["path"])] = _uploaded(hub, value["oid"])
                case "deletedFile":
                    changes.deleted_files.append(value["path"])
                case "deletedFolder":
                    changes.deleted_folders.append(value["path"])
                case key:
                    raise HubError(400, f"Unknown operation: {key}")
    except (json.JSONDecodeError, KeyError, TypeError, binascii.Error) as error:
        raise HubError(400, f"Invalid commit: {error!r}") from error
    if header is None:
        raise HubError(400, "Invalid commit: no header")
    readme = changes.added.get("README.md")
    errors, _ = cards.validate(readme.content.decode("utf-8", "replace")) if readme else ([], [])
    if errors:
        raise HubError(400, "Invalid metadata in README.md: " + "; ".join(errors))
    return header, changes


def _checked(path: str) -> str:
    if path.startswith("/") or {"", ".", "..", ".git"} & set(path.split("/")):
        raise HubError(400, f"Invalid path: {path!r}")
    return path


def _uploaded(hub: Hub, oid: str) -> Blob:
    if oid not in hub.objects:
        raise HubError(400, f"LFS pointer pointed to a file that does not exist: {oid}")
    return Blob(hub.objects[oid], lfs=True)


def create_tag(hub: Hub, call: Call) -> Response:
    """Tag a revision."""
    repository, _ = hub.writable(call.user, call.repo)
    target = repository.resolve(call.named["revision"])
    repository.name_commit(f"refs/tags/{call.request.json()['tag']}", target.sha)
    return Response.of_json({})


def delete_tag(hub: Hub, call: Call) -> Response:
    """Delete a tag."""
    repository, _ = hub.writable(call.user, call.repo)
    repository.forget_name(f"refs/tags/{call.named['tag']}")
    return Response.of_json({})


def create_branch(hub: Hub, call: Call) -> Response:
    """Begin a branch at main, or where the request says."""
    repository, _ = hub.writable(call.user, call.repo)
    start = repository.resolve(call.request.json().get("startingPoint", "main"))
    repository.name_commit(f"refs/heads/{call.named['branch']}", start.sha)
    return Response.of_json({})


def delete_branch(hub: Hub, call: Call) -> Response:
    """Delete a branch."""
    repository, _ = hub.writable(call.user, call.repo)
    if call.named["branch"] == "main":
        raise HubError(403, "main cannot be deleted")
    repository.forget_name(f"refs/heads/{call.named['branch']}")
    return Response.of_json({})
