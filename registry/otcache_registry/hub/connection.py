"""The way to the Hub: its address, the login, and asking until there is an answer or no time left.

What only reads, or may be done any number of times, is asked again after a failure that may pass.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from platform import python_version
from typing import Any, Final, TypeVar
from urllib.parse import urljoin, urlsplit

from otcache_registry.hub import errors
from otcache_registry.hub.answers import Subject, parsed, reading
from otcache_registry.hub.environment import Endpoint
from otcache_registry.hub.errors import (
    HubContentError,
    HubOfflineError,
    HubServerError,
    HubUnreachableError,
    RateLimitError,
    refuse_offline,
)
from otcache_registry.hub.patience import Patience
from otcache_registry.hub.transport import (
    Answer,
    LateError,
    OversizeError,
    Request,
    UnansweredError,
    send,
)

__all__ = ["TRANSIENT", "Connection", "refuse_asking"]

TRANSIENT: Final = (HubContentError, HubUnreachableError, RateLimitError, HubServerError)

REDIRECTS: Final = 5

Value = TypeVar("Value")


@dataclass(frozen=True)
class Connection:
    """The Hub at one address, for one user.

    Attributes:
        endpoint: Where it is.
        token: The user's token, None for nobody.
        patience: How long it is waited for.
    """

    endpoint: Endpoint
    token: str | None
    patience: Patience

    def again(self, subject: Subject, ask: Callable[[], Value]) -> Value:
        """Ask what may be asked any number of times, until there is an answer."""
        refuse_asking(subject)
        return self.patience.retrying(*TRANSIENT)(ask)

    def once(self, subject: Subject, request: Request) -> Answer:
        """Send a request as it is, once.

        Raises:
            HubError: There is no answer, or it says no.
        """
        refuse_asking(subject)
        answer = self._sent(subject, request)
        if answer.status >= 300:
            raise errors.refused(answer, subject.field, subject.value, self.secrets)
        return answer

    def followed(self, subject: Subject, request: Request) -> tuple[Answer, Answer]:
        """Send a request that only reads; return the first answer and that of the last redirect."""
        answer = first = self._sent(subject, request)
        url = request.address
        for _ in range(REDIRECTS):
            if answer.status not in (301, 302, 303, 307, 308):
                break
            url = urljoin(url, answer.headers.get("location", ""))
            if urlsplit(self.endpoint.address).scheme == "https" != urlsplit(url).scheme:
                raise errors.unreadable(subject.field, subject.value, "it leads out of https")
            answer = self._sent(subject, Request("GET", url, largest=request.largest))
        if answer.status >= 300:
            raise errors.refused(answer, subject.field, subject.value, self.secrets)
        return first, answer

    def json(self, subject: Subject, request: Request) -> tuple[Any, Answer]:
        """Send a request once; return the values of its answer in JSON, and the answer."""
        if request.method == "GET":
            _, answer = self.followed(subject, request)
        else:
            answer = self.once(subject, request)
        with reading(subject):
            return parsed(answer.body), answer

    def api(self, path: str) -> str:
        """Return the address of something of the Hub's."""
        return f"{self.endpoint.address}/{path}"

    @property
    def secrets(self) -> tuple[str | None, ...]:
        """What must not appear in any message."""
        return self.token, *self.endpoint.secrets

    def _sent(self, subject: Subject, request: Request) -> Answer:
        headers = {"User-Agent": _user_agent(), **self._login(request.url), **request.headers}
        patience = self.patience

        def waiting() -> None:
            patience.say(f"Waiting for {self.endpoint.address}: {subject.field} {subject.value}")

        try:
            return send(replace(request, headers=headers), patience.left, waiting)
        except LateError as error:
            raise errors.late(subject.field, subject.value, str(error)) from None
        except UnansweredError as error:
            said = errors.scrub(str(error), self.secrets)
            raise errors.unanswered(subject.field, subject.value, said) from None
        except OversizeError as error:
            raise errors.oversize(subject.field, subject.value, str(error)) from None

    def _login(self, url: str) -> Mapping[str, str]:
        """Return the headers that say who asks; only the Hub itself is told."""
        if not url.startswith(f"{self.endpoint.address}/"):
            return {}
        if self.token is not None:
            return {"Authorization": f"Bearer {self.token}"}
        if self.endpoint.login is not None:
            coded = base64.b64encode(self.endpoint.login.encode()).decode()
            return {"Authorization": f"Basic {coded}"}
        return {}


def refuse_asking(subject: Subject) -> None:
    """Check that the Hub may be asked at all.

    Raises:
        HubOfflineError: It may not.
    """
    refuse_offline(subject.field, subject.value)
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        problem = "the Hub is not asked while huggingface_hub is offline"
        remedy = "Unset OTCACHE_OFFLINE and HF_HUB_OFFLINE, and start again"
        raise HubOfflineError(subject.field, subject.value, problem, remedy)


def _user_agent() -> str:
    return f"otcache/{version('otcache-plugin')}; python/{python_version()}"
