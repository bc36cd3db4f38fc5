"""Batch endpoints over HTTP for tests: files and batches of OpenAI, message batches of Anthropic.

`server.paid` counts how often each request was answered for money; `server.jobs` are the batches, by id.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .judge_server import Say, body_of, text_of, verdict


class BatchServer:
    """A job ends at its `polls`-th look. `lose`: how many answers to the making of a job are lost on the way back."""

    def __init__(self, answer: Callable[[str], Any] = lambda text: verdict(), polls: int = 2, lose: int = 0) -> None:
        self.answer, self.polls, self.lose, self.refuses = answer, polls, lose, False
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.paid: Counter[str] = Counter()
        self.direct = 0
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                path = self.path.partition("?")[0]
                if owner.refuses:
                    self.say_bytes(b'{"error": {"message": "no such key"}}', 401)
                elif path == "/v1/files":
                    content = data.split(b"application/jsonl\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
                    self.say({"id": owner.kept(content), "purpose": "batch"})
                elif path in ("/v1/batches", "/v1/messages/batches"):
                    job = owner.made(path, json.loads(data))
                    if owner.lose:
                        owner.lose -= 1
                        self.close_connection = True
                        return
                    self.say(owner.shown(job))
                else:
                    owner.direct += 1
                    self.say(body_of(path, json.loads(data), Say(owner.answer(text_of(json.loads(data))))))

            def do_GET(self) -> None:
                try:
                    self.get()
                except KeyError:
                    self.say_bytes(b'{"error": {"message": "no such thing"}}', 404)

            def get(self) -> None:
                path = self.path.partition("?")[0]
                parts = path.strip("/").split("/")
                if path.endswith("/content"):
                    self.say_bytes(owner.files[parts[2]])
                elif path.endswith("/results"):
                    self.say_bytes(owner.files[owner.jobs[parts[-2]]["results"]])
                elif path in ("/v1/batches", "/v1/messages/batches"):
                    self.say({"data": [owner.shown(job) for job in reversed(owner.jobs.values())], "has_more": False})
                else:
                    owner.jobs[parts[-1]]["seen"] += 1
                    self.say(owner.shown(owner.jobs[parts[-1]]))

            def say(self, value: Any) -> None:
                self.say_bytes(json.dumps(value).encode())

            def say_bytes(self, data: bytes, status: int = 200) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> BatchServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    def kept(self, content: bytes) -> str:
        self.files[f"file-{len(self.files)}"] = content
        return f"file-{len(self.files) - 1}"

    def made(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        """A job, whose requests are answered, and paid, now."""
        lines = []
        if path == "/v1/batches":
            for line in self.files[asked["input_file_id"]].splitlines():
                one = json.loads(line)
                assert one["url"] == asked["endpoint"] and one["method"] == "POST"
                said = self._said(one["body"])
                body = body_of(one["url"], one["body"], said)
                response = {"status_code": said.status, "request_id": "r", "body": body}
                lines.append({"id": "x", "custom_id": one["custom_id"], "response": response, "error": None})
        else:
            for one in asked["requests"]:
                said = self._said(one["params"])
                body = body_of("/v1/messages", one["params"], said)
                failed = {"type": "errored", "error": {"type": "error", "error": {"message": said.text}}}
                result = failed if said.status >= 400 else {"type": "succeeded", "message": body}
                lines.append({"custom_id": one["custom_id"], "result": result})
        results = self.kept(b"\n".join(json.dumps(one).encode() for one in lines))
        job = {"id": f"batch_{len(self.jobs)}", "seen": 0, "results": results, "metadata": asked.get("metadata"), "n": len(lines)}
        job["created"] = datetime.now(UTC).isoformat()
        self.jobs[job["id"]] = job
        return job

    def _said(self, body: dict[str, Any]) -> Say:
        said = self.answer(text_of(body))
        said = said if isinstance(said, Say) else Say(said)
        if said.status < 400:
            self.paid[text_of(body)] += 1
        return said

    def shown(self, job: dict[str, Any]) -> dict[str, Any]:
        ended = job["seen"] >= self.polls
        found = {"id": job["id"], "metadata": job["metadata"], "status": "completed" if ended else "in_progress"}
        found |= {"output_file_id": job["results"] if ended else None, "processing_status": "ended" if ended else "in_progress"}
        return found | {"created_at": job["created"], "request_counts": {"processing": job["n"], "succeeded": 0}}
