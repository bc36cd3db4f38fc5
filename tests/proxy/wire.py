"""An upstream that keeps what it gets byte for byte, and answers bytes: a script of (head and body, or pieces of it)."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

#: A request's head and body as they crossed the socket -> the pieces of the answer, head first.
Script = Callable[[bytes, bytes], Iterable[bytes]]


class Wire:
    """The upstream; `url` has no /v1. `got` has (head, body) of each request; `heads` counts those that have begun."""

    def __init__(self, script: Script, port: int = 0) -> None:
        self._script = script
        self.got: list[tuple[bytes, bytes]] = []
        self.connections = self.heads = 0
        self.broken = threading.Event()
        self._server = socket.create_server(("127.0.0.1", port), backlog=256)
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Wire:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        file = client.makefile("rb")
        try:
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = file.readline()
                    if not line:
                        return
                    head += line
                self.heads += 1
                body = _body(head, file)
                self.got.append((head, body))
                for piece in self._script(head, body):
                    client.sendall(piece)
        except OSError:
            self.broken.set()
        finally:
            client.close()


def _body(head: bytes, file: Any) -> bytes:
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        out = b""
        while size := int(file.readline().strip() or b"0", 16):
            out += file.read(size)
            file.readline()
        file.readline()
        return out
    found = [line for line in lower.split(b"\r\n") if line.startswith(b"content-length:")]
    return file.read(int(found[0].split(b":")[1])) if found else b""


def head_of(size: int | None, kind: str = "application/json", status: str = "200 OK", **more: str) -> bytes:
    """The head of an answer; without a size it is chunked."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", *(f"{k.replace('_', '-')}: {v}" for k, v in more.items())]
    lines.append("transfer-encoding: chunked" if size is None else f"content-length: {size}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


END = b"0\r\n\r\n"


def json_answer(value: Any, **more: str) -> list[bytes]:
    """A whole JSON answer."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return [head_of(len(data), **more) + data]


def events(values: Iterable[Any], done: bool = True) -> list[bytes]:
    """Server-sent events, one piece each."""
    out = [b"data: " + json.dumps(v).encode() + b"\n\n" for v in values]
    return [*out, b"data: [DONE]\n\n"] if done else out


def chat_body(text: str = "Paris", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage, **more}


def chat_chunk(text: str | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]}
