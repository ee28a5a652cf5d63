"""Large files: what git-lfs calls its batch protocol, and the storage that it points to.

The storage is another host than the Hub, as in life, where its addresses are signed: it takes no
token, and refuses a request that brings one.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from hub_server.messages import HubError, Response
from hub_server.resolving import content

if TYPE_CHECKING:
    from hub_server.hub import Hub
    from hub_server.routes import Call

LFS_JSON = {"Content-Type": "application/vnd.git-lfs+json"}


def batch(hub: Hub, call: Call) -> Response:
    """Where each object is to be uploaded; an object that is there already needs no upload."""
    hub.proposable(call.user, call.repo)
    wanted = call.request.json()
    if wanted["operation"] != "upload" or wanted["hash_algo"] != "sha256":
        raise HubError(501, "The test server answers batches of uploads by sha256")
    objects = []
    for item in wanted["objects"]:
        oid, size = item["oid"], item["size"]
        verify = f"{call.endpoint}/{call.repo}.git/info/lfs/objects/verify"
        actions = {
            "upload": {"href": f"{call.storage}/storage/{oid}", "header": {}},
            "verify": {"href": verify, "header": {}},
        }
        known = oid in hub.objects
        objects.append({"oid": oid, "size": size} | ({} if known else {"actions": actions}))
    return Response.of_json({"transfer": "basic", "objects": objects}, headers=LFS_JSON)


def verify(hub: Hub, call: Call) -> Response:
    """Whether an object was uploaded whole."""
    hub.proposable(call.user, call.repo)
    wanted = call.request.json()
    if len(hub.objects.get(wanted["oid"], b"")) != wanted["size"]:
        raise HubError(404, f"Object {wanted['oid']} was not uploaded")
    return Response.of_json({}, headers=LFS_JSON)


def upload(hub: Hub, call: Call) -> Response:
    """Store an object."""
    _require_no_token(call)
    oid, body = call.named["oid"], call.request.body
    if hashlib.sha256(body).hexdigest() != oid:
        raise HubError(400, "The content does not have the sha256 that was announced")
    hub.objects[oid] = body
    return Response(200, {"ETag": f'"{oid}"'})


def download(hub: Hub, call: Call) -> Response:
    """Send an object."""
    _require_no_token(call)
    oid = call.named["oid"]
    if oid not in hub.objects:
        raise HubError(404, "No such object")
    return content(call.request, hub.objects[oid], oid, {})


def _require_no_token(call: Call) -> None:
    if "authorization" in call.request.headers:
        raise HubError(400, "The storage's addresses are signed: it wants no token")
