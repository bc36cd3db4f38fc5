"""A judge over HTTP for tests: chat completions, responses and Anthropic messages; answers by a function of the request.

    with JudgeServer(lambda text: verdict("good", 0.9)) as server:
        LabelingConfig(base_url=server.url, api_key="x")

`server.requests` keeps every request's path and body, `server.most` the largest number under way at once.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

from tests.waiting import until


def verdict(value: str = "good", score: Any = 0.5, rationale: str = "because", **more: Any) -> str:
    """An answer as JSON."""
    return json.dumps({"rationale": rationale, "value": value, "score": score, **more})


class Say:
    """An answer that is not a plain text with status 200."""

    def __init__(self, text: str = "", status: int = 200, raw: bytes | None = None, **more: Any) -> None:
        self.text, self.status, self.raw, self.more = text, status, raw, more


class JudgeServer:
    def __init__(self, answer: Callable[[str], Any] = lambda text: verdict(), delay: float = 0.0) -> None:
        self.answer = answer
        self.delay = delay
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.most = 0
        self._now = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> JudgeServer:
        self._thread.start()
        until(self._ready.is_set, self._thread)
        return self

    def __exit__(self, *error: Any) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def prompts(self) -> list[str]:
        """Each request's system and user text, in one."""
        return [text_of(body) for _, body in self.requests]

    def _serve(self) -> None:
        async def begin() -> None:
            server = await asyncio.start_server(self._handle, "127.0.0.1", 0, backlog=1000, limit=1 << 26)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            self._ready.set()

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._loop.run_until_complete(begin())
        self._loop.run_forever()
        self._loop.run_until_complete(end())
        self._loop.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                size = next(int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:"))
                request = json.loads(await reader.readexactly(size))
                path = head.split(" ")[1]
                self.requests.append((path, request))
                self._now += 1
                self.most = max(self.most, self._now)
                await asyncio.sleep(self.delay)
                said = self.answer(text_of(request))
                said = said if isinstance(said, Say) else Say(said)
                data = said.raw if said.raw is not None else json.dumps(body_of(path, request, said)).encode()
                self._now -= 1
                lines = f"HTTP/1.1 {said.status} x\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
                writer.write(lines.encode() + data)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def text_of(request: dict[str, Any]) -> str:
    """All that the model is told."""
    parts = [request.get("system") or request.get("instructions") or ""]
    for message in request.get("messages") or request.get("input") or []:
        content = message["content"]
        parts.append(content if isinstance(content, str) else "".join(p.get("text", "") for p in content))
    return "\n".join(p if isinstance(p, str) else "".join(x.get("text", "") for x in p) for p in parts)


def body_of(path: str, request: dict[str, Any], said: Say) -> dict[str, Any]:
    model = request.get("model")
    if said.status >= 400:
        return {"error": {"message": said.text or "scripted"}}
    if path.endswith("/messages"):
        usage = {"input_tokens": 60, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 0, "output_tokens": 10}
        content = [{"type": "text", "text": said.text}]
        whole = {"id": "m", "type": "message", "role": "assistant", "model": model, "content": content}
        return {**whole, "stop_reason": "end_turn", "usage": usage}
    if path.endswith("/responses"):
        part = {"type": "output_text", "text": said.text, "annotations": []}
        output = [{"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": [part]}]
        usage = {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 40}, "output_tokens": 10, "total_tokens": 110}
        return {"id": "r", "object": "response", "status": "completed", "model": model, "output": output, "usage": usage}
    message = {"role": "assistant", "content": said.text, "refusal": said.more.get("refusal")}
    choice = {"index": 0, "message": message, "finish_reason": said.more.get("finish", "stop")}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "prompt_tokens_details": {"cached_tokens": 40}}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}
