"""Serve the page of `page.py` to this machine: bound to 127.0.0.1, read-only, one page and nothing else.

No file is served and no path is looked up, so that there is nothing to escape to. A request must name this
server as its host: a page of another site, whose name was made to lead here, gets no answer. The page asks
for nothing, from here or elsewhere, and its Content-Security-Policy forbids it.
"""

import threading
import time
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ascent.records.errors import InputError

ADDRESS = "127.0.0.1"
SECONDS = 2.0  # for which a page is shown to all who ask, instead of reading the records again
MOST_PORT = 65535


def server(page: Callable[[], str], style: str, port: int) -> ThreadingHTTPServer:
    """Return a server, bound and not yet serving, whose port is `server_port`.

    Args:
        page: makes the page, from the records as they are then.
        style: the only style sheet that the page may have, between its <style> tags.
        port: 0 takes any that is free.

    Raises:
        InputError: the port is taken or out of range.
    """
    if not 0 <= port <= MOST_PORT:
        raise InputError(f"port must be from 0 to {MOST_PORT:,}, not {port}")
    shown = _Recent(page)
    digest = b64encode(sha256(style.encode()).digest()).decode()

    class Handler(_Handler):
        recent = shown
        style = digest

    try:
        return ThreadingHTTPServer((ADDRESS, port), Handler)
    except OSError as error:
        raise InputError(
            f"port {port} cannot be used: {error.strerror}; choose another with --port"
        ) from error


class _Recent:
    """The page as it was made last: several readers do not read all records several times."""

    def __init__(self, make: Callable[[], str]):
        self.make = make
        self.lock = threading.Lock()
        self.made = float("-inf")
        self.page = b""

    def read(self) -> bytes:
        with self.lock:
            if time.monotonic() - self.made >= SECONDS:
                self.page = self.make().encode()
                self.made = time.monotonic()
            return self.page


class _Handler(BaseHTTPRequestHandler):
    server: ThreadingHTTPServer
    recent: _Recent
    style: str  # sha256 of the style sheet, in base64
    server_version = "ascent"
    sys_version = ""
    timeout = 10.0  # seconds for a request: one that never ends holds no thread

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self._hosts():
            self._answer(421, b"this server answers to its own address only\n")
        elif self.path != "/":
            self._answer(404, b"there is one page: /\n")
        else:
            try:
                page = self.recent.read()
            except (InputError, OSError) as error:
                self._answer(500, f"the records cannot be read: {error}\n".encode())
                return
            self._answer(200, page, "text/html; charset=utf-8")

    def _refuse(self) -> None:
        self._answer(405, b"this server is read-only\n")

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def _hosts(self) -> list[str]:
        return [f"{name}:{self.server.server_port}" for name in (ADDRESS, "localhost")]

    def _answer(self, code: int, content: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        rules = f"default-src 'none'; style-src 'sha256-{self.style}'; base-uri 'none'; form-action 'none'; "
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Content-Security-Policy": f"{rules}frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        if code == 405:
            self.send_header("Allow", "GET")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Write no line per request."""
