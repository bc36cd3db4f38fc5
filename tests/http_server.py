"""A local HTTP server whose answers a test gives byte by byte: (status, headers, body or chunks of it)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}


def event(data: Any, name: str | None = None) -> bytes:
    """A server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


@contextmanager
def serving(answer: Callable[[str, str, bytes], tuple[int, dict[str, str], Any]]) -> Iterator[str]:
    """The URL of a server that answers what `answer(method, path, body)` gives; chunks end with the connection."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def _go(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, headers, data = answer(self.command, self.path, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            chunks = data if isinstance(data, list) else [data if isinstance(data, bytes) else json.dumps(data).encode()]
            if not isinstance(data, list):
                self.send_header("content-length", str(len(chunks[0])))
            self.end_headers()
            try:
                for chunk in chunks:
                    self.wfile.write(chunk)
            except OSError:
                return

        do_POST = do_GET = _go

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
