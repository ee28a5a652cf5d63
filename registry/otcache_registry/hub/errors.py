"""Errors of the Hugging Face Hub: what it answers, turned into what to do next.

Whatever the connection or the Hub said is quoted without tokens.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from otcache_policies import FieldError
from otcache_registry.hub.environment import SECONDS_VARIABLE, offline_variable

if TYPE_CHECKING:
    from otcache_registry.hub.transport import Answer

__all__ = [
    "CommitUnknownError",
    "ForbiddenError",
    "GatedError",
    "HubAccessError",
    "HubConflictError",
    "HubContentError",
    "HubError",
    "HubNotFoundError",
    "HubOfflineError",
    "HubOversizeError",
    "HubRefusedError",
    "HubServerError",
    "HubUnavailableError",
    "HubUnreachableError",
    "LoginError",
    "RateLimitError",
    "late",
    "moved",
    "no_login",
    "oversize",
    "refuse_offline",
    "refused",
    "retry_after",
    "scrub",
    "unanswered",
    "unreadable",
]

_TOKEN = re.compile(r"\b(hf|api_org)_[A-Za-z0-9]{20,}")
_FOREVER = 1e9
_RESET = re.compile(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})")  # As in: "api";r=0;t=55
_LONGEST_QUOTE = 300
_LOG_IN = "Log in with: hf auth login, or set HF_TOKEN"
_LATER = "Try again later"


class HubError(FieldError):
    """The Hub could not do what it was asked for.

    Attributes:
        retry_after: Seconds that the Hub wants to be left alone, None where it did not say.
    """

    retry_after: float | None = None


class HubNotFoundError(HubError, LookupError):
    """No such repository, revision or file; or a private one."""


class HubAccessError(HubError):
    """The Hub knows what was asked for, and refuses it to this user."""


class LoginError(HubAccessError):
    """Nobody is logged in, or the token is not valid."""


class GatedError(HubAccessError):
    """The repository has terms that were not accepted."""


class ForbiddenError(HubAccessError):
    """The user is known, and is not allowed to do this."""


class HubConflictError(HubError):
    """What was to be changed was changed by somebody else, or exists already."""


class HubRefusedError(HubError):
    """The Hub understood the request and will not do it for anyone."""


class HubContentError(HubError):
    """What arrived is not what the Hub says that it sent."""


class HubOversizeError(HubError):
    """The Hub sends more than an answer of its kind may have."""


class HubUnavailableError(HubError):
    """Whether there is what was asked for is not known: the Hub gave no answer."""


class HubOfflineError(HubUnavailableError):
    """The Hub is not to be asked."""


class HubUnreachableError(HubUnavailableError):
    """No connection, or one that broke."""


class RateLimitError(HubUnavailableError):
    """Too many requests."""


class HubServerError(HubUnavailableError):
    """The Hub failed, or its answer cannot be read."""


class CommitUnknownError(HubUnavailableError):
    """A commit was asked for, and nobody knows whether it was made."""


def scrub(text: str, tokens: Iterable[str | None] = ()) -> str:
    """Return text without these tokens and whatever looks like one of the Hub's."""
    for token in tokens:
        if token:
            text = text.replace(token, "***")
    return _TOKEN.sub("***", text)


def refuse_offline(field: str, value: object) -> None:
    """Check that the environment lets the Hub be asked.

    Raises:
        HubOfflineError: It does not.
    """
    variable = offline_variable()
    if variable is not None:
        problem = f"the Hub is not asked while {variable} is set"
        raise HubOfflineError(field, value, problem, f"Unset {variable}")


def no_login(field: str, value: object) -> LoginError:
    """Return the error for what takes a login where nobody is logged in."""
    return LoginError(field, value, "nobody is logged in to the Hub", _LOG_IN)


def unanswered(field: str, value: object, said: str) -> HubUnreachableError:
    """Return the error for a request that got no answer."""
    problem = f"the Hub cannot be reached ({_line(said)})"
    remedy = "Check the connection and HF_ENDPOINT, or try again later"
    return HubUnreachableError(field, value, problem, remedy)


def late(field: str, value: object, said: str) -> HubUnreachableError:
    """Return the error for an answer that had not come by the deadline."""
    problem = f"the Hub took too long ({_line(said)})"
    remedy = f"Try again later, or give it more time with {SECONDS_VARIABLE}"
    return HubUnreachableError(field, value, problem, remedy)


def oversize(field: str, value: object, said: str) -> HubOversizeError:
    """Return the error for an answer that is larger than it may be."""
    remedy = "Ask whoever published it; an honest one is far smaller"
    return HubOversizeError(field, value, f"the Hub sends {said}, which is not allowed", remedy)


def unreadable(field: str, value: object, said: str) -> HubServerError:
    """Return the error for an answer that cannot be read."""
    problem = f"the Hub's answer cannot be read ({_line(said)})"
    return HubServerError(field, value, problem, _LATER)


def moved(field: str, value: object, other: str) -> HubRefusedError:
    """Return the error for an answer about something else than what was asked for."""
    problem = f"the Hub answers with another one, {_line(other)!r}"
    return HubRefusedError(field, value, problem, "Name that one if it is the one you mean")


def refused(
    answer: Answer, field: str, value: object, tokens: Iterable[str | None] = ()
) -> HubError:
    """Return the error for an answer that says no.

    Args:
        answer: What the Hub answered.
        field: What the request was about, such as "repository".
        value: Its value.
        tokens: What must not be quoted.
    """
    status, code, said = answer.status, answer.headers.get("x-error-code"), _said(answer, tokens)
    if code == "GatedRepo":
        problem = "this repository is open only to those who accepted its terms"
        remedy = f"Accept them on its page on the Hub. {_LOG_IN}, with that account"
        return GatedError(field, value, problem, remedy)
    if code == "RepoNotFound":
        problem = "no such repository, or a private one that this login does not see"
        return HubNotFoundError(
            field, value, problem, f"Check its name. If it is private: {_LOG_IN}"
        )
    if code == "RevisionNotFound":
        problem, remedy = "no such branch, tag or commit", "Use one that its page lists, or none"
        return HubNotFoundError(field, value, problem, remedy)
    if status == 404:
        problem, remedy = f"not on the Hub ({said})", "Look at what the repository has"
        return HubNotFoundError(field, value, problem, remedy)
    if status == 401:
        return LoginError(field, value, f"the Hub does not know this login ({said})", _LOG_IN)
    if status == 403:
        remedy = f"Use a namespace and a token that may, or propose the change. {_LOG_IN}"
        return ForbiddenError(field, value, f"not allowed with this login ({said})", remedy)
    if status in (409, 412):
        problem = f"somebody else changed it meanwhile, or it exists already ({said})"
        return HubConflictError(field, value, problem, "Look at its page, then try again")
    if status == 429:
        return _rate_limit(answer.headers, field, value)
    if status == 408 or status >= 500:
        unavailable = HubServerError(field, value, f"the Hub failed: {said}", _LATER)
        unavailable.retry_after = retry_after(answer.headers)
        return unavailable
    problem, remedy = f"the Hub refused it ({said})", "Change what it complains about"
    return HubRefusedError(field, value, problem, remedy)


def _rate_limit(headers: Mapping[str, str], field: str, value: object) -> RateLimitError:
    seconds = retry_after(headers)
    remedy = f"Try again {_when(seconds)}; after hf auth login you may ask more often"
    limited = RateLimitError(field, value, "the Hub was asked too often", remedy)
    limited.retry_after = seconds
    return limited


def _when(seconds: float | None) -> str:
    if seconds is None:
        return "in some minutes"
    if seconds < 1:
        return "now"
    return f"in {math.ceil(seconds)} seconds" if seconds < 86_400 else "another day"


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return how long the Hub wants to be left alone, by any of the headers that may say so.

    Args:
        headers: By their names in lower case.
        now: The present time, for a header that names a moment.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:20]), _FOREVER)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        reset = _RESET.search(headers.get("ratelimit", ""))
        return None if reset is None else float(reset[1])
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def _said(answer: Answer, tokens: Iterable[str | None]) -> str:
    """Return what a refusal says, as one line without tokens."""
    said = answer.headers.get("x-error-message") or _error_in(answer.body)
    return _line(scrub(said or f"HTTP status {answer.status}", tokens))


def _error_in(body: bytes) -> str:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(content, dict):
        return ""
    # A card that is refused comes with all that is wrong with it.
    listed = content.get("errors")
    several = listed if isinstance(listed, list) else []
    said = [
        content.get("error"),
        *(each.get("message") for each in several if isinstance(each, dict)),
    ]
    return "; ".join(each for each in said if isinstance(each, str))


def _line(said: str) -> str:
    """Return text as one line of printable signs."""
    line = "".join(sign if sign.isprintable() else " " for sign in said)
    line = " ".join(line.split()).rstrip(".")
    return line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]}…"
