"""The Hub on a port of 127.0.0.1: it reads requests, lets faults befall them, and answers."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from hub_server import routes
from hub_server.faults import Fault, Faults, corrupted
from hub_server.hub import Hub
from hub_server.messages import HubError, Request, Response

PIECES = 10
"""How many pieces a dripping body comes in."""


class HubServer(Hub):
    """A Hub that is served while its `with` block lasts.

    Args:
        root: A folder of repositories to begin with: the files below ORG/NAME/ are committed to
            ORG/NAME.

    Attributes:
        endpoint: Its address, for `endpoint=` or HF_ENDPOINT.
        faults: How it misbehaves.

    Raises:
        RuntimeError: On leaving the block: the server itself failed at a request, which no client
            should have to tell from a fault.
    """

    def __init__(self, root: Path | None = None) -> None:
        super().__init__()
        self.faults = Faults()
        self.closing = threading.Event()
        self._requests: list[Request] = []
        self._arrived = threading.Lock()
        self._failures: list[str] = []
        self._served: _Served | None = None
        self._socket = _bound(0)
        port = self._socket.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        self.storage = f"http://localhost:{port}"
        for folder in [] if root is None else sorted(root.glob("*/*")):
            repo_id = f"{folder.parent.name}/{folder.name}"
            self.create_repo(repo_id)
            self.commit_folder(repo_id, folder)

    def __enter__(self) -> Self:
        self.resume()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self.faults.clear()
        self.stop_listening()
        self._socket.close()
        if self._failures and error is None:
            raise RuntimeError("The test server failed:\n" + "\n".join(self._failures))

    def stop_listening(self) -> None:
        """Close all connections and refuse new ones; the port stays the server's."""
        if self._served is not None:
            self._served.stop()
            self._served = None
            self._socket = _bound(int(self.endpoint.rpartition(":")[2]))

    def resume(self) -> None:
        """Listen again."""
        if self._served is None:
            self._served = _Served(self, self._socket)

    @property
    def requests(self) -> list[Request]:
        """The requests that arrived so far, in that order."""
        with self._arrived:
            return list(self._requests)

    def clear_requests(self) -> None:
        """Forget the requests that arrived so far; best when none is being answered."""
        with self._arrived:
            self._requests.clear()

    def requests_to(self, method: str, path: str) -> list[Request]:
        """The requests that match regular expressions, as they would for a `Fault`."""
        return [request for request in self.requests if request.matches(method, path)]

    # What the handler calls.

    def record(self, request: Request) -> int:
        """Remember a request that has arrived; returns its number."""
        with self._arrived:
            self._requests.append(request)
            return len(self._requests) - 1

    def record_status(self, number: int, status: int) -> None:
        """Remember what is answered to a request."""
        with self._arrived:
            if number < len(self._requests):
                self._requests[number] = replace(self._requests[number], status=status)

    def record_failure(self) -> None:
        """Remember the exception that is being handled: one that the server should not raise."""
        self._failures.append(traceback.format_exc())

    def pause(self, seconds: float) -> None:
        """Wait, unless the server is closed meanwhile.

        Raises:
            ConnectionAbortedError: It is.
        """
        if self.closing.wait(seconds):
            raise ConnectionAbortedError

    def answered(self, request: Request) -> Response:
        """What the Hub answers; refusals are answers too."""
        try:
            with self.lock:
                return routes.answer(self, request, self.endpoint, self.storage)
        except HubError as refusal:
            return refusal.response()
        except Exception:
            self.record_failure()
            return HubError(500, "The test server failed").response()


def _bound(port: int) -> socket.socket:
    """A socket that has a port without listening there: whoever connects is refused."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


class _Served(ThreadingHTTPServer):
    """A listening socket, the thread that accepts from it, and the connections that it accepted."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: HubServer, bound: socket.socket) -> None:
        super().__init__(bound.getsockname(), _Handler, bind_and_activate=False)
        self.hub = hub
        self.socket.close()
        self.socket = bound
        self.server_activate()
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse new connections and close those there are."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._open_lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        with self._open_lock:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client may be killed, or close its connection, at any moment.
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            self.hub.record_failure()


class _Handler(BaseHTTPRequestHandler):
    """One connection, and the requests that come over it."""

    protocol_version = "HTTP/1.1"
    # Headers and body are written one after the other: without this the second waits for an
    # acknowledgement of the first.
    disable_nagle_algorithm = True
    server: _Served

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        hub = self.server.hub
        request = self._read()
        fault = hub.faults.take(request)
        number = hub.record(replace(request, fault=None if fault is None else fault.kind))
        response = self._work(request, fault)
        if response is None:
            self.close_connection = True
            return
        hub.record_status(number, response.status)
        self._send(response, fault)

    def _read(self) -> Request:
        target = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        return Request(
            method=self.command,
            target=self.path,
            path=target.path,
            query=parse_qs(target.query, keep_blank_values=True),
            headers=headers,
            body=self._chunks()
            if chunked
            else self._exactly(int(headers.get("content-length", 0))),
        )

    def _exactly(self, size: int) -> bytes:
        body = self.rfile.read(size)
        if len(body) < size:
            raise ConnectionAbortedError("The client went away")
        return body

    def _chunks(self) -> bytes:
        body = bytearray()
        while size := int(self.rfile.readline() or b"0", 16):
            body += self._exactly(size)
            self._exactly(2)
        self.rfile.readline()
        return bytes(body)

    def _work(self, request: Request, fault: Fault | None) -> Response | None:
        """Do what is asked for and say the answer; None where there is to be none."""
        hub = self.server.hub
        if fault is None:
            return hub.answered(request)
        if fault.kind == "drop":
            return None
        if fault.kind == "status":
            return fault.response()
        if fault.kind == "slow":
            hub.pause(fault.seconds)
        if fault.kind == "meet":
            hub.faults.meet(fault)
        response = hub.answered(request)
        if fault.kind == "lose_answer":
            return None
        if fault.kind == "corrupt":
            return replace(response, body=corrupted(response.body))
        return response

    def _send(self, response: Response, fault: Fault | None) -> None:
        if fault is not None and fault.kind in ("endless", "endless_headers"):
            self._send_without_end(fault)
            return
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("X-Request-Id", self.headers.get("X-Amzn-Trace-Id", "none"))
        if response.status != 304:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(response.body, fault)

    def _send_without_end(self, fault: Fault) -> None:
        """Send a byte now and then, until the client goes away or the server is closed."""
        self.close_connection = True
        end = "\r\n\r\n" if fault.kind == "endless" else "\r\nX-Endless: "
        self.wfile.write(f"HTTP/1.1 200 OK\r\nConnection: close{end}".encode())
        while True:
            self.server.hub.pause(fault.seconds)
            self.wfile.write(b" ")

    def _send_body(self, body: bytes, fault: Fault | None) -> None:
        half = body[: len(body) // 2]
        if fault is not None and fault.kind == "truncate":
            self.wfile.write(half)
            self.close_connection = True
        elif fault is not None and fault.kind == "drop_body":
            self.wfile.write(half)
            self._reset()
        elif fault is not None and fault.kind == "drip":
            size = max(1, -(-len(body) // PIECES))
            for start in range(0, len(body), size):
                self.server.hub.pause(fault.seconds)
                self.wfile.write(body[start : start + size])
        else:
            self.wfile.write(body)

    def _reset(self) -> None:
        """Close the connection so that the other side sees a reset, not an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what arrived is in `HubServer.requests`."""
