"""How the server misbehaves when it is told to: always the same way, on the requests that match."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Literal, get_args

from hub_server.messages import HubError, Request, Response

FaultKind = Literal[
    "status",
    "drop",
    "lose_answer",
    "drop_body",
    "truncate",
    "corrupt",
    "slow",
    "drip",
    "meet",
    "endless",
    "endless_headers",
]


@dataclass(frozen=True)
class Fault:
    """One way to misbehave, and the requests that it befalls.

    Kinds:
        status: `status` is answered and nothing done; `error_code` is its X-Error-Code, `message`
            its X-Error-Message, `retry_after` its Retry-After.
        drop: nothing is done, and the connection is closed without an answer.
        lose_answer: the work is done, then the connection is closed without an answer.
        truncate: the headers and half of the body are sent, then the connection is closed.
        drop_body: the same, but the connection is reset: half of the body is the most that arrives.
        corrupt: the lowest bit of the byte in the middle of the body is turned: the length is
            right, and text stays text.
        slow: `seconds` pass before anything is done.
        drip: the body comes in ten pieces, `seconds` before each.
        endless: the body has no end: `seconds` pass before each of its bytes.
        endless_headers: the same of the headers.
        meet: nothing is done before all of its `times` requests have arrived.

    A whole server that refuses connections is `HubServer.stop_listening`.

    Attributes:
        method: A regular expression that the whole method matches: `GET`, `GET|HEAD`, `.*`.
        path: A regular expression searched for in the path and query, as they were sent.
        times: How many requests it befalls; None for every one.
        after: How many matching requests are spared first.
    """

    method: str
    path: str
    kind: FaultKind
    times: int | None = 1
    after: int = 0
    status: int = 503
    error_code: str | None = None
    message: str = "The test server was told to fail"
    retry_after: int | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"kind is {self.kind!r}; it is one of {get_args(FaultKind)}")
        if self.kind == "meet" and self.times is None:
            raise ValueError("times=None: requests that never end cannot wait for the last one")
        re.compile(self.method)
        re.compile(self.path)

    def response(self) -> Response:
        """The answer of kind `status`."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return HubError(self.status, self.message, self.error_code, headers).response()


class Faults:
    """The faults of a server; of those that match a request, the one added first befalls it."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._faults: list[Fault] = []
        self._seen: list[int] = []

    def add(self, fault: Fault) -> None:
        """Let it befall requests from now on."""
        with self._lock:
            self._faults.append(fault)
            self._seen.append(0)

    def clear(self) -> None:
        """Behave again; who waits for others to arrive waits no longer."""
        with self._lock:
            self._faults.clear()
            self._seen.clear()
            self._lock.notify_all()

    def take(self, request: Request) -> Fault | None:
        """The fault that befalls a request, which is counted as one of its times."""
        with self._lock:
            for number, fault in enumerate(self._faults):
                if not request.matches(fault.method, fault.path):
                    continue
                last = None if fault.times is None else fault.after + fault.times
                if last is not None and self._seen[number] >= last:
                    continue
                self._seen[number] += 1
                self._lock.notify_all()
                if self._seen[number] > fault.after:
                    return fault
        return None

    def meet(self, fault: Fault) -> None:
        """Wait until all the requests that a fault of this kind befalls have arrived."""
        assert fault.times is not None
        last = fault.after + fault.times
        with self._lock:
            self._lock.wait_for(
                lambda: fault not in self._faults or self._seen[self._faults.index(fault)] >= last
            )


def corrupted(body: bytes) -> bytes:
    """A body with the lowest bit of its middle byte turned."""
    if not body:
        return body
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
