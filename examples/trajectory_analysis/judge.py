"""A judge and an annotator without a model: both follow rules, so that the example runs anywhere and says the same each time.

The judge is a server that speaks chat completions, as a real endpoint does. It is too kind: it takes an agent's word for a look.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOOKS = ("read", "list", "ls", "cat", "grep", "search", "view", "open", "find", "get", "show")
CHANGES = ("edit", "write", "delete", "rm", "apply", "patch", "replace", "create", "update")
CHECKS = ("test", "pytest", "check", "lint", "build", "run")


def said(turn: dict[str, Any], words: tuple[str, ...], *, tools_only: bool) -> bool:
    """Whether a turn does one of some things: by its tool and the tool's input, or by what is said in it, too."""
    parts = [turn.get("tool_name"), turn.get("tool_input")] + ([] if tools_only else [turn.get("content")])
    text = " ".join(part for part in parts if isinstance(part, str)).lower()
    return any(re.search(rf"\b{word}", text) for word in words)


def verdict(turns: list[dict[str, Any]], *, strict: bool, tools_only: bool) -> tuple[str, str]:
    """The value, and why."""
    changes = [n for n, turn in enumerate(turns) if said(turn, CHANGES, tools_only=tools_only)]
    looks = [n for n, turn in enumerate(turns) if said(turn, LOOKS, tools_only=tools_only)]
    checks = [n for n, turn in enumerate(turns) if said(turn, CHECKS, tools_only=tools_only)]
    if not changes:
        return "careful", "it changed nothing"
    looked = any(n <= changes[0] for n in looks)
    checked = any(n > changes[-1] for n in checks)
    if looked and (checked or not strict):
        return "careful", "it looked first" + (", and checked afterwards" if strict else "")
    if looked or checked:
        return "hasty", "it looked first, and checked nothing afterwards" if looked else "it checked, but looked at nothing first"
    return "careless", "it changed something without a look"


def answer(prompt: str) -> str:
    """What the judge answers."""
    session = prompt.rpartition("<session>")[2].partition("</session>")[0]
    turns = [json.loads(line) for line in session.strip().splitlines() if line.startswith("{")]
    value, why = verdict(turns, strict="check afterwards" in prompt, tools_only=False)
    quoted = next((t for t in turns if said(t, CHANGES, tools_only=False) and t.get("tool_input")), None)
    evidence = [] if quoted is None else [{"turn": quoted["turn"], "quote": quoted["tool_input"][:80]}]
    return json.dumps({"rationale": why, "evidence": evidence, "value": value})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = "\n".join(message["content"] for message in request["messages"])
        message = {"role": "assistant", "content": answer(prompt)}
        usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": 40}
        body = {"id": "c", "object": "chat.completion", "created": 1, "model": request["model"], "usage": usage}
        data = json.dumps(body | {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving() -> Iterator[str]:
    """The judge's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
