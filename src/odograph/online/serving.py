"""A loopback chat server over an engine that takes token ids and gives token ids: agents ask it as they ask any endpoint.

A conversation that goes on keeps the ids that were sampled: nothing is tokenised twice. Speaks OpenAI chat completions (also as a
stream of one piece) and completions with prompts of ids, with the fields of vLLM (`prompt_token_ids`, `token_ids`, logprobs), and
vLLM's `/inference/v1/generate`.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import msgspec

from ..codec import content_hash, encode, loads_or_raw
from ..errors import described
from ..runtime.template import Template

_REMEMBERED = 4096  # answers whose ids are kept
_LONGEST = 64_000_000  # bytes of a request


class Generated(msgspec.Struct, frozen=True):
    """What an engine sampled after a prompt."""

    token_ids: list[int]
    #: Of each token, after temperature and truncation; None where the engine gives none.
    logprobs: list[float] | None = None
    finish_reason: str = "stop"


#: `engine(prompt ids, sampling parameters of the request)`.
Engine = Callable[[list[int], dict[str, Any]], Generated] | Callable[[list[int], dict[str, Any]], Awaitable[Generated]]

_NO_PARAMS = ("messages", "prompt", "model", "stream", "stream_options", "tools", "tool_choice", "return_token_ids", "logprobs",
              "return_prompt_token_ids", "return_meta_info", "response_format", "top_logprobs")  # fmt: skip


class ChatServer:
    """Serves an engine while it is entered: `with ChatServer(engine, tokenizer) as server: Agent(base_url=server.url, ...)`.

    `engine(ids, params)` gives `Generated`, sync or async; an async one is awaited in the event loop that the server was entered
    in. `tokenizer`: with a chat template, or a `Template`.
    """

    def __init__(self, engine: Engine, tokenizer: Any, model: str = "policy") -> None:
        self._engine = engine
        self._template = Template.of(tokenizer)
        self._model = model
        self._known: OrderedDict[str, list[int]] = OrderedDict()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

            def do_POST(self) -> None:
                """One request."""
                size = self.headers.get("content-length", "0")
                if not size.isdecimal() or int(size) > _LONGEST:
                    self.close_connection = True
                    owner._send(self, 413, _error("the request is too long"))
                    return
                owner._send(self, *owner._answer(self.path, loads_or_raw(self.rfile.read(int(size)))))

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 1024

        self._server = Server(("127.0.0.1", 0), Handler)
        #: What an agent takes as `base_url`.
        self.url: str = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        serve = {"poll_interval": 0.05}
        threading.Thread(target=self._server.serve_forever, kwargs=serve, name="odograph-serving", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # not in the loop's own thread: requests that are under way may wait for the loop
        threading.Thread(target=self._close, name="odograph-closing", daemon=True).start()

    def _close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # --- requests -------------------------------------------------------------------------------------------------------------

    def _send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "application/json") -> None:
        try:
            handler.send_response(status)
            handler.send_header("content-type", kind)
            handler.send_header("content-length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True

    def _answer(self, path: str, request: Any) -> tuple[int, bytes] | tuple[int, bytes, str]:
        if not isinstance(request, dict):
            return 400, _error("a JSON object was expected")
        try:
            if path.endswith("/chat/completions"):
                messages = request.get("messages")
                if not (isinstance(messages, list) and all(isinstance(m, dict) for m in messages)):
                    return 400, _error("messages is a list of objects here")
                return self._chat(request)
            if path.endswith(("/completions", "/inference/v1/generate")):
                name = "prompt" if path.endswith("/completions") else "token_ids"
                prompt = request.get(name)
                if not (isinstance(prompt, list) and prompt and all(type(i) is int for i in prompt)):
                    return 400, _error(f"{name} is a list of token ids here")
                return 200, encode((self._completion if name == "prompt" else self._continuation)(prompt, request))
        except Exception as error:  # the engine's own
            return 500, _error(described(error))
        return 404, _error(f"no path {path}; there are: /v1/chat/completions, /v1/completions, /inference/v1/generate")

    def _generated(self, ids: list[int], request: dict[str, Any]) -> Generated:
        params = {k: v for k, v in request.items() if k not in _NO_PARAMS}
        made: Any = self._engine(ids, params)
        if inspect.isawaitable(made):
            made = self._awaited(made)
        if not isinstance(made, Generated):
            raise TypeError(f"an engine gives Generated, not {type(made).__name__}")
        if made.logprobs is not None and len(made.logprobs) != len(made.token_ids):
            raise ValueError(f"the engine gave {len(made.token_ids)} token ids and {len(made.logprobs)} logprobs")
        return made

    def _awaited(self, made: Any) -> Any:
        async def awaited() -> Any:
            return await made

        if self._loop is None:
            return asyncio.run(awaited())
        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result()

    def _chat(self, request: dict[str, Any]) -> tuple[int, bytes] | tuple[int, bytes, str]:
        template = self._template
        assert template is not None
        messages, tools = request["messages"], request.get("tools") or []
        prompt = self._prompt(messages, tools)
        made = self._generated(prompt, request)
        message = template.message(template.decode(made.token_ids), uuid.uuid4().hex[:12])
        self._remember([*messages, message], tools, [*prompt, *template.ended(made.token_ids)])
        finish = "tool_calls" if message.get("tool_calls") and made.finish_reason == "stop" else made.finish_reason
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish, "token_ids": made.token_ids}
        choice["logprobs"] = self._logprobs(made)
        about = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": 0, "model": request.get("model") or self._model}
        body = {"object": "chat.completion", **about, "choices": [choice], **_counts(prompt, made)}
        if not request.get("stream"):
            return 200, encode(body)
        calls = [{"index": n, **call} for n, call in enumerate(message.get("tool_calls") or ())]
        delta = {**message, **({"tool_calls": calls} if calls else {})}
        first = {**choice, "delta": delta, "finish_reason": None}
        chunks = [
            {**body, "object": "chat.completion.chunk", "choices": [{k: v for k, v in first.items() if k != "message"}]},
            {"object": "chat.completion.chunk", **about, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
        ]
        lines = b"".join(b"data: " + encode(chunk) + b"\n\n" for chunk in chunks)
        return 200, lines + b"data: [DONE]\n\n", "text/event-stream"

    def _completion(self, prompt: list[int], request: dict[str, Any]) -> dict[str, Any]:
        template = self._template
        assert template is not None
        made = self._generated(prompt, request)
        choice: dict[str, Any] = {"index": 0, "text": template.decode(made.token_ids), "finish_reason": made.finish_reason}
        choice |= {"token_ids": made.token_ids, "prompt_token_ids": prompt, "logprobs": None}
        if made.logprobs is not None:
            choice["logprobs"] = {"token_logprobs": made.logprobs, "tokens": [f"token_id:{i}" for i in made.token_ids]}
        about = {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": 0}
        return {
            **about,
            "model": request.get("model") or self._model,
            "choices": [choice],
            "usage": _counts(prompt, made)["usage"],
        }

    def _continuation(self, prompt: list[int], request: dict[str, Any]) -> dict[str, Any]:
        params = request.get("sampling_params")
        made = self._generated(prompt, params if isinstance(params, dict) else {})
        choice = {"index": 0, "token_ids": made.token_ids, "finish_reason": made.finish_reason, "logprobs": self._logprobs(made)}
        return {"request_id": uuid.uuid4().hex, "choices": [choice]}

    def _logprobs(self, made: Generated) -> Any:
        if made.logprobs is None:
            return None
        pairs = zip(made.token_ids, made.logprobs, strict=True)
        return {"content": [{"token": f"token_id:{i}", "logprob": p, "bytes": None, "top_logprobs": []} for i, p in pairs]}

    # --- conversations --------------------------------------------------------------------------------------------------------

    def _prompt(self, messages: list[Any], tools: list[Any]) -> list[int]:
        """The ids of a conversation: those that are known of its longest beginning, and those of what is new."""
        template = self._template
        assert template is not None
        for n in range(len(messages), 0, -1):
            if not (isinstance(messages[n - 1], dict) and messages[n - 1].get("role") == "assistant"):
                continue
            with self._lock:
                known = self._known.get(_key(messages[:n], tools))
            if known is not None:
                added = template.added(messages[n:], tools)
                if added is not None:
                    return [*known, *added]
        return template.prompt(messages, tools)

    def _remember(self, messages: list[Any], tools: list[Any], ids: list[int]) -> None:
        with self._lock:
            self._known[_key(messages, tools)] = ids
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


def _key(messages: list[Any], tools: list[Any]) -> str:
    return content_hash([[_plain(m) for m in messages], tools])


def _plain(message: Any) -> Any:
    """What of a message counts: clients leave out what is null, and write arguments anew."""
    if not isinstance(message, dict):
        return message
    calls = message.get("tool_calls")
    asked = [
        [c.get("id"), function.get("name"), loads_or_raw(str(function.get("arguments")).encode())]
        for c in (calls if isinstance(calls, list) else [])
        if isinstance(c, dict) and isinstance(function := c.get("function"), dict)
    ]
    return [message.get("role"), message.get("content") or "", asked, message.get("tool_call_id")]


def _counts(prompt: list[int], made: Generated) -> dict[str, Any]:
    counts = {"prompt_tokens": len(prompt), "completion_tokens": len(made.token_ids)}
    return {"prompt_token_ids": prompt, "usage": {**counts, "total_tokens": sum(counts.values())}}


def _error(why: str) -> bytes:
    return encode({"error": {"message": why, "type": "odograph"}})
