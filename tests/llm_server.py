"""A small real model server for tests: OpenAI chat and responses, Anthropic messages; scripted, streaming or not.

    with LLMServer([Answer(text="hi")]) as server:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="x")

Every request's body is kept in `server.requests`, every response's in `server.responses`, byte for byte as they crossed
the socket. Answers are taken from the script in order; the last one stays.
"""

from __future__ import annotations

import importlib
import json
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What the server says to one request."""

    text: str = "ok"
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    reasoning: str | None = None
    status: int = 200
    raw: bytes | None = None  # the whole body, or the whole event stream
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    logprobs: list[float] | None = None
    choices: int = 1
    encoding: str | None = None  # the content-encoding: gzip, deflate or br
    gate: threading.Event | None = None  # after the first event of a stream, the server waits for it
    drop_after: int | None = None  # bytes of the body, then the connection is cut
    delay: float = 0.0  # seconds before the answer, and between events of a stream
    extra: dict[str, Any] = field(default_factory=dict)


class LLMServer:
    """The server; `url` has no /v1."""

    def __init__(self, script: list[Answer] | Callable[[dict[str, Any]], Answer]) -> None:
        self._script = script
        self._lock = threading.Lock()
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.bodies: list[bytes] = []
        self.responses: list[bytes] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                owner._answer(self, body)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LLMServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        request = json.loads(body)
        with self._lock:
            number = len(self.requests)
            self.requests.append((handler.path, request))
            self.bodies.append(body)
        answer = self._script(request) if callable(self._script) else self._script[min(number, len(self._script) - 1)]
        time.sleep(answer.delay)
        if answer.status >= 400:
            data = (
                answer.raw
                if answer.raw is not None
                else json.dumps({"error": {"message": answer.text, "type": "scripted"}}).encode()
            )
            self._send(handler, answer, data, "application/json")
            return
        path = handler.path.split("?")[0]
        kind = "messages" if path.endswith("/messages") else "responses" if path.endswith("/responses") else "chat"
        kind = "gemini" if "enerateContent" in path else kind
        whole = {"chat": chat, "responses": responses, "messages": messages, "gemini": gemini}[kind](answer, request)
        if request.get("stream") or ":stream" in path:
            streams = {"chat": chat_events, "responses": response_events, "messages": message_events}
            events = streams[kind](answer, whole, request) if kind in streams else [(None, whole)]
            self._stream(handler, answer, events)
        else:
            self._send(handler, answer, answer.raw if answer.raw is not None else json.dumps(whole).encode(), "application/json")

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer, data: bytes, kind: str) -> None:
        with self._lock:
            self.responses.append(data)
        body = encoder(answer.encoding)(data, True)
        try:
            handler.send_response(answer.status)
            handler.send_header("content-type", kind)
            if answer.encoding:
                handler.send_header("content-encoding", answer.encoding)
            handler.send_header("content-length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body if answer.drop_after is None else body[: answer.drop_after])
            if answer.drop_after is not None:
                handler.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True

    def _stream(self, handler: BaseHTTPRequestHandler, answer: Answer, events: list[tuple[str | None, Any]]) -> None:
        lines = [
            (f"event: {name}\n" if name else "") + f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n"
            for name, event in events
        ]
        if answer.raw is not None:
            lines = [answer.raw.decode()]
        with self._lock:
            self.responses.append("".join(lines).encode())
        try:
            handler.send_response(200)
            handler.send_header("content-type", "text/event-stream; charset=utf-8")
            handler.send_header("transfer-encoding", "chunked")
            if answer.encoding:
                handler.send_header("content-encoding", answer.encoding)
            handler.end_headers()
            sent = 0
            encode = encoder(answer.encoding)
            for number, line in enumerate(lines):
                if number == 1 and answer.gate is not None:
                    answer.gate.wait()
                data = encode(line.encode(), number == len(lines) - 1)
                if answer.drop_after is not None and sent + len(data) > answer.drop_after:
                    handler.close_connection = True
                    return
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                handler.wfile.flush()
                sent += len(data)
                if answer.delay:
                    time.sleep(answer.delay)
            handler.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True


def encoder(encoding: str | None) -> Callable[[bytes, bool], bytes]:
    """What compresses a body piece by piece, each of which can be read at once; True: the last."""
    if encoding is None:
        return lambda data, last: data
    if encoding == "br":
        brotli = importlib.import_module("brotli").Compressor()
        return lambda data, last: brotli.process(data) + (brotli.finish() if last else brotli.flush())
    engine = zlib.compressobj(wbits=zlib.MAX_WBITS | (16 if encoding == "gzip" else 0))
    return lambda data, last: engine.compress(data) + engine.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


def chat(answer: Answer, request: dict[str, Any]) -> dict[str, Any]:
    """A chat completion body."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = answer.tool_calls
    choice: dict[str, Any] = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": "tool_calls" if answer.tool_calls else "stop",
    }
    if answer.logprobs is not None:
        choice["logprobs"] = {
            "content": [
                {"token": f"t{i}", "logprob": p, "bytes": None, "top_logprobs": []} for i, p in enumerate(answer.logprobs)
            ]
        }
    if answer.token_ids is not None:
        choice["token_ids"] = answer.token_ids
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": request.get("model"),
        "choices": [{**choice, "index": i} for i in range(answer.choices)],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "prompt_tokens_details": {"cached_tokens": 2}},
        "system_fingerprint": None,
        **answer.extra,
    }
    if answer.prompt_token_ids is not None:
        body["prompt_token_ids"] = answer.prompt_token_ids
    return body


def chat_events(answer: Answer, whole: dict[str, Any], request: dict[str, Any]) -> list[tuple[str | None, Any]]:
    """The same as chunks: a character or two at a time."""
    base = {k: whole[k] for k in ("id", "created", "model")} | {"object": "chat.completion.chunk"} | answer.extra
    events: list[tuple[str | None, Any]] = []
    for choice in whole["choices"]:
        i = choice["index"]

        def chunk(delta: dict[str, Any], finish: str | None = None, index: int = i, **more: Any) -> dict[str, Any]:
            return {**base, "choices": [{"index": index, "delta": delta, "finish_reason": finish, **more}]}

        first = chunk({"role": "assistant", "content": ""})
        if answer.prompt_token_ids is not None:
            first["prompt_token_ids"] = answer.prompt_token_ids
        events.append((None, first))
        for start in range(0, len(answer.reasoning or ""), 3):
            events.append((None, chunk({"reasoning_content": (answer.reasoning or "")[start : start + 3]})))
        ids, logprobs = answer.token_ids, choice["logprobs"]
        if ids is not None:
            size = max(1, -(-len(answer.text) // max(1, len(ids))))
            for n, id in enumerate(ids):
                piece = answer.text[n * size : (n + 1) * size]
                part = {"content": [logprobs["content"][n]]} if logprobs else None
                events.append((None, chunk({"content": piece}, logprobs=part, token_ids=[id])))
        else:
            for start in range(0, len(answer.text), 2):
                events.append((None, chunk({"content": answer.text[start : start + 2]})))
        for n, call in enumerate(answer.tool_calls):
            function = call["function"]
            events.append(
                (
                    None,
                    chunk(
                        {
                            "tool_calls": [
                                {
                                    "index": n,
                                    "id": call["id"],
                                    "type": "function",
                                    "function": {"name": function["name"], "arguments": ""},
                                }
                            ]
                        }
                    ),
                )
            )
            for start in range(0, len(function["arguments"]), 4):
                events.append(
                    (
                        None,
                        chunk(
                            {"tool_calls": [{"index": n, "function": {"arguments": function["arguments"][start : start + 4]}}]}
                        ),
                    )
                )
        events.append((None, chunk({}, choice["finish_reason"])))
    if (request.get("stream_options") or {}).get("include_usage"):
        events.append((None, {**base, "choices": [], "usage": whole["usage"]}))
    events.append((None, "[DONE]"))
    return events


def responses(answer: Answer, request: dict[str, Any]) -> dict[str, Any]:
    """A response of the Responses API."""
    output: list[dict[str, Any]] = []
    if answer.reasoning:
        output.append({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": answer.reasoning}]})
    if answer.text:
        part = {"type": "output_text", "text": answer.text, "annotations": []}
        output.append({"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]})
    for call in answer.tool_calls:
        output.append({"type": "function_call", "id": "fc_1", "call_id": call["id"], "status": "completed", **call["function"]})
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "model": request.get("model"),
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "usage": {
            "input_tokens": 7,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 10,
        },
        **answer.extra,
    }


def response_events(answer: Answer, whole: dict[str, Any], request: dict[str, Any]) -> list[tuple[str | None, Any]]:
    """The same as events."""
    events: list[dict[str, Any]] = [{"type": "response.created", "response": {**whole, "status": "in_progress", "output": []}}]
    for index, item in enumerate(whole["output"]):
        events.append(
            {
                "type": "response.output_item.added",
                "output_index": index,
                "item": {**item, "content": []} if item["type"] == "message" else item,
            }
        )
        if item["type"] == "message":
            part = {"type": "output_text", "text": "", "annotations": []}
            events.append(
                {
                    "type": "response.content_part.added",
                    "item_id": "msg_1",
                    "output_index": index,
                    "content_index": 0,
                    "part": part,
                }
            )
            for start in range(0, len(answer.text), 2):
                piece = answer.text[start : start + 2]
                events.append(
                    {
                        "type": "response.output_text.delta",
                        "item_id": "msg_1",
                        "output_index": index,
                        "content_index": 0,
                        "delta": piece,
                        "logprobs": [],
                    }
                )
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": whole})
    return [(e["type"], {**e, "sequence_number": n}) for n, e in enumerate(events)]


def messages(answer: Answer, request: dict[str, Any]) -> dict[str, Any]:
    """A message of Anthropic's API."""
    content: list[dict[str, Any]] = []
    if answer.reasoning:
        content.append({"type": "thinking", "thinking": answer.reasoning, "signature": "sig"})
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    for call in answer.tool_calls:
        content.append(
            {
                "type": "tool_use",
                "id": call["id"],
                "name": call["function"]["name"],
                "input": json.loads(call["function"]["arguments"]),
            }
        )
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": request.get("model"),
        "content": content,
        "stop_reason": "tool_use" if answer.tool_calls else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 0, "output_tokens": 3},
        **answer.extra,
    }


def gemini(answer: Answer, request: dict[str, Any]) -> dict[str, Any]:
    """A body of Gemini's API; its tool calls have no ids."""
    parts: list[dict[str, Any]] = [{"text": answer.text}] if answer.text else []
    for call in answer.tool_calls:
        function = call["function"]
        parts.append({"functionCall": {"name": function["name"], "args": json.loads(function["arguments"])}})
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
    return {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3}, **answer.extra}


def message_events(answer: Answer, whole: dict[str, Any], request: dict[str, Any]) -> list[tuple[str | None, Any]]:
    """The same as events."""
    start = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(whole["content"]):
        kind = block["type"]
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}[kind]
        events.append({"type": "content_block_start", "index": index, "content_block": {**block, **empty}})
        text = json.dumps(block["input"]) if kind == "tool_use" else block[kind]
        name, field_ = {
            "text": ("text_delta", "text"),
            "thinking": ("thinking_delta", "thinking"),
            "tool_use": ("input_json_delta", "partial_json"),
        }[kind]
        for n in range(0, len(text), 3):
            events.append({"type": "content_block_delta", "index": index, "delta": {"type": name, field_: text[n : n + 3]}})
        if kind == "thinking":
            events.append(
                {
                    "type": "content_block_delta",
                    "index": index,
                    "delta": {"type": "signature_delta", "signature": block["signature"]},
                }
            )
        events.append({"type": "content_block_stop", "index": index})
    events.append(
        {
            "type": "message_delta",
            "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None},
            "usage": {"output_tokens": 3},
        }
    )
    events.append({"type": "message_stop"})
    return [(e["type"], e) for e in events]
