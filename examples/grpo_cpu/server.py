"""A model server as vLLM is one, in a thread: OpenAI chat completions with the ids of the prompt and of what was sampled.

Nothing is cut off (no top-p, no top-k), and the logprobs are those of the distribution that was sampled, after the temperature:
vLLM gives these with `--logprobs-mode processed_logprobs`.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from .policy import END, LOOK, WORDS, answer_of, prompt_words


class ModelServer:
    """Serves a model while it is entered; `url` is the base URL. Between requests the model may be trained."""

    def __init__(self, model: Any, tokenizer: Any, *, max_tokens: int = 3, seed: int = 0) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._chance = torch.Generator().manual_seed(seed)
        self._one_at_a_time = threading.Lock()  # the generator and the model are shared by the threads of the server
        self._count = 0
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

            def do_POST(self) -> None:
                """A chat completion."""
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                data = json.dumps(owner.complete(request)).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> ModelServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request, with the fields that vLLM adds for `return_token_ids` and `logprobs`."""
        prompt = self._tokenizer.convert_tokens_to_ids(prompt_words(request["messages"]))
        with self._one_at_a_time:
            count, temperature = request.get("max_tokens", self._max_tokens), request.get("temperature", 1.0)
            ids, logprobs = sample(self._model, prompt, count, temperature, self._chance)
            self._count += 1
            number = self._count
        text, asks = answer_of([WORDS[i] for i in ids])
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if asks:
            message["tool_calls"] = [{"id": f"call{number}", "type": "function", "function": {"name": LOOK, "arguments": "{}"}}]
        ended = WORDS[ids[-1]] == END
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": "tool_calls" if asks else "stop" if ended else "length",
            "token_ids": ids,
            "logprobs": {
                "content": [
                    {"token": WORDS[i], "logprob": p, "bytes": None, "top_logprobs": []}
                    for i, p in zip(ids, logprobs, strict=True)
                ]
            },
        }
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(ids), "total_tokens": len(prompt) + len(ids)}
        about = {"id": f"chatcmpl-{number}", "object": "chat.completion", "created": 0, "model": request["model"]}
        return about | {"prompt_token_ids": prompt, "choices": [choice], "usage": usage}


@torch.no_grad()
def sample(
    model: Any, prompt: list[int], count: int, temperature: float, chance: torch.Generator
) -> tuple[list[int], list[float]]:
    """Up to `count` tokens after a prompt, until the end token, and their logprobs in nats. The temperature is above 0."""
    ids: list[int] = []
    logprobs: list[float] = []
    while len(ids) < count and (not ids or ids[-1] != model.config.eos_token_id):
        logits = model(torch.tensor([prompt + ids])).logits[0, -1].float()
        distribution = torch.log_softmax(logits / temperature, -1)
        token = int(torch.multinomial(distribution.exp(), 1, generator=chance))
        ids.append(token)
        logprobs.append(float(distribution[token]))
    return ids, logprobs
