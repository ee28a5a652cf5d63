"""Which function answers which request."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from hub_server import lfs, reading, resolving, writing
from hub_server.messages import HubError, Request, Response, wrong_token

if TYPE_CHECKING:
    from hub_server.hub import Hub, User


@dataclass(frozen=True)
class Call:
    """A request that a function is to answer.

    Attributes:
        user: Whose token came with it.
        named: The parts of the path that the route names, unquoted.
        endpoint: What the Hub's own addresses begin with.
        storage: What those of LFS begin with: another host than the Hub's, as in life.
    """

    request: Request
    user: User | None
    named: Mapping[str, str]
    endpoint: str
    storage: str

    @property
    def repo(self) -> str:
        """The repository that the path names."""
        return self.named["repo"]

    def parameter(self, name: str, default: str) -> str:
        """The value of a query parameter that is given once."""
        return self.request.query.get(name, [default])[0]

    def is_set(self, name: str) -> bool:
        """Whether a query parameter says yes."""
        return self.parameter(name, "").lower() in ("1", "true")


Endpoint = Callable[["Hub", Call], Response]

ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", "/api/whoami-v2", reading.whoami),
    ("GET", "/api/models", reading.list_models),
    ("GET", "/api/models/{repo}", reading.model_info),
    ("GET", "/api/models/{repo}/revision/{revision}", reading.model_info),
    ("GET", "/api/models/{repo}/tree/{revision}", reading.tree),
    ("GET", "/api/models/{repo}/tree/{revision}/{path}", reading.tree),
    ("POST", "/api/models/{repo}/paths-info/{revision}", reading.paths_info),
    ("GET", "/api/models/{repo}/commits/{revision}", reading.commits),
    ("GET", "/api/models/{repo}/refs", reading.refs),
    ("POST", "/api/validate-yaml", writing.validate_yaml),
    ("POST", "/api/repos/create", writing.create_repo),
    ("DELETE", "/api/repos/delete", writing.delete_repo),
    ("POST", "/api/models/{repo}/preupload/{revision}", writing.preupload),
    ("POST", "/api/models/{repo}/commit/{revision}", writing.commit),
    ("POST", "/api/models/{repo}/tag/{revision}", writing.create_tag),
    ("DELETE", "/api/models/{repo}/tag/{tag}", writing.delete_tag),
    ("POST", "/api/models/{repo}/branch/{branch}", writing.create_branch),
    ("DELETE", "/api/models/{repo}/branch/{branch}", writing.delete_branch),
    ("GET", "/{repo}/resolve/{revision}/{path}", resolving.resolve),
    ("POST", "/{repo}.git/info/lfs/objects/batch", lfs.batch),
    ("POST", "/{repo}.git/info/lfs/objects/verify", lfs.verify),
    ("GET", "/storage/{oid}", lfs.download),
    ("PUT", "/storage/{oid}", lfs.upload),
)

PATTERNS = {"repo": r"[^/]+/[^/]+?", "path": r".+"}


def _compiled(template: str) -> re.Pattern[str]:
    """A template as a regular expression: a name in braces is one segment of a path, or more."""
    pattern = re.sub(
        r"\\\{(\w+)\\\}",
        lambda match: f"(?P<{match[1]}>{PATTERNS.get(match[1], r'[^/]+')})",
        re.escape(template),
    )
    return re.compile(pattern)


COMPILED = [(method, _compiled(template), endpoint) for method, template, endpoint in ROUTES]


def answer(hub: Hub, request: Request, endpoint: str, storage: str) -> Response:
    """What the Hub answers to a request; HEAD is answered like GET.

    Raises:
        HubError: It refuses.
    """
    user = None if request.token is None else hub.users.get(request.token)
    if request.token is not None and user is None:
        raise wrong_token()
    asked = "GET" if request.method == "HEAD" else request.method
    for method, pattern, function in COMPILED:
        match = pattern.fullmatch(request.path)
        if method == asked and match is not None:
            named = {name: unquote(value) for name, value in match.groupdict().items()}
            return function(hub, Call(request, user, named, endpoint, storage))
    raise HubError(501, f"The test server does not serve {request.method} {request.path}")
