"""A viewer in a process of its own, asked over real sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit


class Reply(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Viewer:
    """A running `odograph view`."""

    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        self.url = url
        self.process = process
        parts = urlsplit(url)
        self.port = parts.port or 0
        self.token = parse_qs(parts.query)["token"][0]

    def raw(self, request: bytes) -> Reply:
        """What the server answers to these bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as line:
            line.sendall(request)
            data = b""
            while b"\r\n\r\n" not in data and (more := line.recv(1 << 16)):
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            first, *rest = head.decode("latin-1").split("\r\n")
            headers = [(k, v.strip()) for k, _, v in (one.partition(":") for one in rest)]
            size = next((int(v) for k, v in headers if k.lower() == "content-length"), 0)
            while len(body) < size and (more := line.recv(1 << 16)):
                body += more
        return Reply(int(first.split()[1]), headers, body)

    def get(self, path: str, *, host: str | None = None, token: bool = True, **headers: str) -> Reply:
        given = {"Host": host or f"127.0.0.1:{self.port}"}
        if token:
            given["Authorization"] = f"Bearer {self.token}"
        given |= {k.replace("_", "-"): v for k, v in headers.items()}
        lines = "".join(f"{k}: {v}\r\n" for k, v in given.items())
        return self.raw(f"GET {path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())

    def post(self, path: str, value: Any, *, token: bool = True, kind: str = "application/json", **headers: str) -> Reply:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        given = {"Host": f"127.0.0.1:{self.port}", "Content-Type": kind, "Content-Length": str(len(body))}
        if token:
            given["Authorization"] = f"Bearer {self.token}"
        given |= {k.replace("_", "-"): v for k, v in headers.items()}
        lines = "".join(f"{k}: {v}\r\n" for k, v in given.items())
        return self.raw(f"POST {path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode() + body)


@contextmanager
def viewing(store: Path, *arguments: str) -> Iterator[Viewer]:
    """`odograph view` over a store, until the block ends."""
    command = [sys.executable, "-m", "odograph", "view", *arguments, "--store", str(store), "--no-browser"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert process.stdout is not None and process.stderr is not None
    url = process.stdout.readline().strip()
    if not url:
        raise AssertionError(process.stderr.read())
    try:
        yield Viewer(url, process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
