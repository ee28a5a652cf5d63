"""Errors of the Hugging Face Hub: what its client raises, turned into what to do next.

Whatever the client or the Hub said is quoted without tokens. Importing this loads no client.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from otcache_policies import FieldError
from otcache_registry.hub.environment import OFFLINE_VARIABLES, offline_variable

if TYPE_CHECKING:
    from huggingface_hub.errors import Response  # type: ignore[attr-defined]  # of httpx

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
    "HubRefusedError",
    "HubServerError",
    "HubUnavailableError",
    "HubUnreachableError",
    "LoginError",
    "RateLimitError",
    "explained",
    "refuse_offline",
    "scrub",
]

_TOKEN = re.compile(r"\b(hf|api_org)_[A-Za-z0-9]{20,}")
_RESET = re.compile(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d+)")  # As in: "api";r=0;t=55
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
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
    """The user is known, and may not do this."""


class HubConflictError(HubError):
    """What was to be changed was changed by somebody else, or exists already."""


class HubRefusedError(HubError):
    """The Hub understood the request and will not do it for anyone."""


class HubContentError(HubError):
    """What arrived is not what the Hub says that it sent."""


class HubUnavailableError(HubError):
    """Whether there is what was asked for is not known: the Hub gave no answer."""


class HubOfflineError(HubUnavailableError):
    """The Hub is not to be asked."""


class HubUnreachableError(HubUnavailableError):
    """No connection, or one that broke."""


class RateLimitError(HubUnavailableError):
    """Too many requests."""


class HubServerError(HubUnavailableError):
    """The Hub failed, or answered what nobody can read."""


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


@contextmanager
def explained(field: str, value: object, tokens: Iterable[str | None] = ()) -> Iterator[None]:
    """Turn an error of the Hub's client into a `HubError`.

    Args:
        field: What the request was about, such as "repository".
        value: Its value.
        tokens: What must not be quoted.
    """
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of httpx

    try:
        yield
    except HubError:
        raise
    except (HTTPError, OSError) as error:
        raise _failure(error, field, value, tokens) from None
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        # What goes wrong while large files are uploaded, or a card is checked, comes wrapped.
        if isinstance(error.__cause__, (HTTPError, OSError)):
            raise _failure(error.__cause__, field, value, tokens) from None
        if isinstance(error, RuntimeError):
            raise
        raise _misreading(error, field, value, _said(error, tokens)) from None


def _failure(error: Exception, field: str, value: object, tokens: Iterable[str | None]) -> HubError:
    """Return the error for a request that was refused, or got no answer at all."""
    said, response = _said(error, tokens), getattr(error, "response", None)
    if response is None:
        return _silence(error, field, value, said)
    return _answered_no(error, response, field, value, said)


def _misreading(error: Exception, field: str, value: object, said: str) -> HubError:
    from huggingface_hub.errors import HFValidationError

    if isinstance(error, HFValidationError):
        remedy = "Use one such as user/name"
        return HubRefusedError(field, value, f"no name on the Hub ({said})", remedy)
    # The client takes every answer for a whole one, and stumbles anywhere over others.
    return HubServerError(field, value, f"the Hub's answer cannot be read ({said})", _LATER)


def _answered_no(
    error: Exception, response: Response, field: str, value: object, said: str
) -> HubError:
    """Return the error for an answer that says no."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = response.status_code
    # The order counts: a gated repository is for the client a kind of missing one.
    if isinstance(error, GatedRepoError):
        problem = "this repository is open only to those who accepted its terms"
        remedy = f"Accept them on its page on the Hub. {_LOG_IN}, with that account"
        return GatedError(field, value, problem, remedy)
    if isinstance(error, RepositoryNotFoundError):
        problem = "no such repository, or a private one that this login does not see"
        return HubNotFoundError(
            field, value, problem, f"Check its name. If it is private: {_LOG_IN}"
        )
    if isinstance(error, RevisionNotFoundError):
        problem, remedy = "no such branch, tag or commit", "Use one that its page lists, or none"
        return HubNotFoundError(field, value, problem, remedy)
    if isinstance(error, EntryNotFoundError) or status == 404:
        problem, remedy = f"not on the Hub ({said})", "List what the repository has"
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
        return _rate_limit(response, field, value)
    if status == 408 or status >= 500:
        unavailable = HubServerError(field, value, f"the Hub failed: {said}", _LATER)
        unavailable.retry_after = _retry_after(response.headers)
        return unavailable
    return HubRefusedError(field, value, f"the Hub refused it ({said})", "Change what it names")


def _silence(error: Exception, field: str, value: object, said: str) -> HubError:
    """Return the error for a request that got no answer, or was not even sent."""
    from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        problem = "the Hub is not asked while huggingface_hub is offline"
        remedy = f"Unset {' and '.join(OFFLINE_VARIABLES)}, and start again"
        return HubOfflineError(field, value, problem, remedy)
    if isinstance(error, LocalTokenNotFoundError):
        return LoginError(field, value, "nobody is logged in to the Hub", _LOG_IN)
    problem = f"the Hub cannot be reached ({type(error).__name__}: {said})"
    remedy = "Check the connection and HF_ENDPOINT, or try again later"
    return HubUnreachableError(field, value, problem, remedy)


def _rate_limit(response: Response, field: str, value: object) -> RateLimitError:
    seconds = _retry_after(response.headers)
    when = "in some minutes" if seconds is None else f"in {seconds:.0f} seconds"
    remedy = f"Try again {when}; who is logged in may ask more often: hf auth login"
    limited = RateLimitError(field, value, "the Hub was asked too often", remedy)
    limited.retry_after = seconds
    return limited


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how long the Hub wants to be left alone, by either of the headers that may say so."""
    seconds = headers.get("Retry-After", "").strip()
    if seconds.isdecimal():
        return float(seconds)
    reset = _RESET.search(headers.get("RateLimit", ""))
    return None if reset is None else float(reset[1])


def _said(error: Exception, tokens: Iterable[str | None]) -> str:
    """Return what an error says, as one line without tokens."""
    said = getattr(error, "server_message", None) or str(error) or type(error).__name__
    line = scrub(_BLANKS.sub(" ", said).strip(), tokens).rstrip(".")
    return line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]}…"
