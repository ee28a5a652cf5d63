"""The endpoint that files are downloaded from: entity tags, ranges, and the way to LFS."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hub_server.messages import HubError, Request, Response, entry_not_found

if TYPE_CHECKING:
    from hub_server.hub import Hub
    from hub_server.routes import Call

RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def resolve(hub: Hub, call: Call) -> Response:
    """A file of a revision; one in LFS is elsewhere, and only its size and name are told here."""
    repository = hub.downloadable(call.user, call.repo)
    commit = repository.resolve(call.named["revision"])
    blob = commit.blobs.get(call.named["path"])
    if blob is None:
        raise entry_not_found(commit=commit.sha)
    own = {"X-Repo-Commit": commit.sha}
    if blob.lfs:
        linked = {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.content))}
        return Response(302, {**own, **linked, "Location": f"{call.storage}/storage/{blob.sha256}"})
    return content(call.request, blob.content, blob.etag, own)


def content(request: Request, body: bytes, etag: str, headers: dict[str, str]) -> Response:
    """Bytes, or the range of them that a request asks for; nothing where it has them already.

    Raises:
        HubError: The range begins after the last byte.
    """
    headers = {**headers, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(304, headers)
    headers["Content-Type"] = "application/octet-stream"
    wanted = RANGE.fullmatch(request.headers.get("range", ""))
    if wanted is None or wanted[0] == "bytes=-":
        return Response(200, headers, body)
    size = len(body)
    first, last = wanted.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        raise HubError(416, "Range Not Satisfiable", headers={"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Response(206, headers, body[start : end + 1])
