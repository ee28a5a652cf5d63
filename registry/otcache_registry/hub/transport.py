"""One request over HTTP, bounded in bytes and in time whatever the other side does.

A request is sent from a thread of its own, and given up at its deadline: no time-out of a socket
bounds an answer of which a byte arrives now and then, or a name that is looked up for ever. What
arrives is counted as it arrives and as it is decompressed. Nothing is tried again here.
"""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

if TYPE_CHECKING:
    import requests

__all__ = ["Answer", "LateError", "OversizeError", "Request", "UnansweredError", "send"]

QUIET_SECONDS = 20.0
"""Seconds without a byte after which a request has failed."""

NOTICE_SECONDS = 3.0
"""Seconds after which it is said what is being waited for."""

LARGEST_REFUSAL: Final = 2**16
"""Bytes that are read of an answer that says no; what it says is quoted in one line."""

PIECE: Final = 2**16


class UnansweredError(Exception):
    """No answer came, or only a part of one."""


class LateError(UnansweredError):
    """The answer was not there at the deadline."""


class OversizeError(Exception):
    """The answer is larger than it may be."""


@dataclass(frozen=True)
class Request:
    """What is asked.

    Attributes:
        method: Such as "GET".
        url: Address without a query.
        query: Parameters; a list gives one several times.
        headers: Headers, the token's among them.
        body: What is sent.
        largest: Most bytes that the answer's body may have, decompressed.
    """

    method: str
    url: str
    query: Mapping[str, str | list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    largest: int = LARGEST_REFUSAL

    @property
    def address(self) -> str:
        """The address with the query."""
        return f"{self.url}?{urlencode(self.query, doseq=True)}" if self.query else self.url


@dataclass(frozen=True)
class Answer:
    """What came.

    Attributes:
        status: HTTP status.
        headers: Headers by their names in lower case.
        body: The body, decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def send(request: Request, seconds: float, waiting: Callable[[], None]) -> Answer:
    """Send a request and return the answer; redirects are answers.

    Args:
        request: What is asked.
        seconds: How long that may take altogether.
        waiting: Called once where it takes longer than `NOTICE_SECONDS`.

    Raises:
        LateError: No whole answer came in time.
        UnansweredError: The connection failed.
        OversizeError: The answer is larger than it may be.
    """
    if seconds <= 0:
        raise LateError("no time is left")
    future: Future[Answer] = Future()
    given_up = Event()
    Thread(target=_exchange, args=(request, seconds, given_up, future), daemon=True).start()
    try:
        with suppress(TimeoutError):
            return future.result(min(NOTICE_SECONDS, seconds))
        if seconds > NOTICE_SECONDS and not future.done():
            waiting()
        return future.result(max(0.0, seconds - NOTICE_SECONDS))
    except TimeoutError:
        raise late(seconds) from None
    finally:
        given_up.set()


def late(seconds: float) -> LateError:
    """Return the error for an answer that was not there in time."""
    return LateError(f"no whole answer within {seconds:.0f} seconds")


def _exchange(request: Request, seconds: float, given_up: Event, future: Future[Answer]) -> None:
    try:
        future.set_result(_answered(request, seconds, given_up))
    except BaseException as error:
        future.set_exception(error)


def _answered(request: Request, seconds: float, given_up: Event) -> Answer:
    import requests
    import urllib3

    quiet = min(QUIET_SECONDS, seconds)
    timeouts = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    try:
        response = _session(os.getpid()).request(
            request.method,
            request.address,
            data=request.body,
            headers={"Accept-Encoding": "identity", **request.headers},
            # Otherwise a netrc file would put another login in the place of the token.
            auth=lambda prepared: prepared,
            allow_redirects=False,
            stream=True,
            timeout=quiet,
        )
        with response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            refused = response.status_code >= 300
            body = _refusal(response, given_up) if refused else _body(response, request, given_up)
        return Answer(response.status_code, headers, body)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        if isinstance(error, timeouts) and quiet == seconds:
            raise late(seconds) from None
        raise UnansweredError(_reason(error)) from None


def _body(response: requests.Response, request: Request, given_up: Event) -> bytes:
    pieces, total = [], 0
    for piece in _decoded(response, given_up):
        total += len(piece)
        if total > request.largest:
            raise OversizeError(f"more than {request.largest} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _refusal(response: requests.Response, given_up: Event) -> bytes:
    """Return the beginning of what a refusal says, which is all that is quoted."""
    said = bytearray()
    for piece in _decoded(response, given_up):
        said += piece
        if len(said) >= LARGEST_REFUSAL:
            break
    return bytes(said[:LARGEST_REFUSAL])


def _decoded(response: requests.Response, given_up: Event) -> Iterator[bytes]:
    """Yield the body in small pieces, however much its encoding expands to."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        yield from _pieces(response, given_up)
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ValueError(f"it came in the encoding {encoding[:20]!r}, which was not asked for")
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
    for piece in _pieces(response, given_up):
        rest = piece
        while rest and not decoder.eof:
            try:
                yield decoder.decompress(rest, PIECE)
            except zlib.error as error:
                raise ValueError(f"it cannot be decompressed ({error})") from None
            rest = decoder.unconsumed_tail
    if not decoder.eof:
        raise ValueError("it ends too early")


def _pieces(response: requests.Response, given_up: Event) -> Iterator[bytes]:
    """Yield what arrives as it arrives, so that giving up is noticed at the next byte."""
    expected, arrived = response.headers.get("Content-Length", ""), 0
    while not given_up.is_set():
        piece = response.raw.read1(PIECE)
        if not piece:
            break
        arrived += len(piece)
        yield piece
    if expected.isdecimal() and response.request.method != "HEAD" and arrived < int(expected):
        raise ValueError(f"only {arrived} of {expected} bytes arrived")


def _reason(error: Exception) -> str:
    """Return the innermost reason: what libraries wrap around it repeats the whole address."""
    inner: BaseException = error
    while True:
        reason = getattr(inner, "reason", None)
        nested = [each for each in (reason, *inner.args) if isinstance(each, BaseException)]
        if not nested:
            break
        inner = nested[0]
    said = str(inner)
    said = said.rpartition(": ")[2] if said.startswith(("<", "HTTP")) else said
    return f"{type(error).__name__}: {said or type(inner).__name__}"


@functools.lru_cache(maxsize=1)
def _session(process: int) -> requests.Session:
    """Return the process's own session: connections are kept open, and not shared by a fork."""
    from http.cookiejar import DefaultCookiePolicy

    import requests

    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session
