"""The model that decides, where there is no real one: a server that chooses among possible trades, better ones more often.

It answers as vLLM does, with token ids and logprobs. Its tokens are bytes, and the logprob of each is exactly that of the
distribution it was sampled from: of all answers that begin like this, how likely are those that go on so.
"""

from __future__ import annotations

import json
import math
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def answers(markets: list[dict[str, Any]]) -> dict[str, float]:
    """The decisions that may be taken on what a trader was shown, and how likely each is."""
    weighed: dict[str, float] = {}
    for market in markets:
        for side, sign in (("yes", 1), ("no", -1)):
            edge = sign * (market["poll"] - market["price"])
            for amount in (20, 80, 150):
                sure = "high confidence" if edge > 0.1 else "low confidence"
                reasoning = f"{sure}: the poll says {market['poll']}, the price {market['price']}"
                decision = {"reasoning": reasoning, "market": market["id"], "side": side, "amount": amount}
                weighed[json.dumps(decision)] = math.exp(4 * edge - amount / 100)
    total = sum(weighed.values())
    return {answer: weight / total for answer, weight in weighed.items()}


def logprobs(chosen: str, possible: dict[str, float]) -> list[float]:
    """Of each byte of `chosen`, in nats: the share of the answers that begin so among those that began as the bytes before."""
    found: list[float] = []
    left = {answer.encode(): chance for answer, chance in possible.items()}
    for at, byte in enumerate(chosen.encode()):
        on = {answer: chance for answer, chance in left.items() if len(answer) > at and answer[at] == byte}
        found.append(min(0.0, math.log(sum(on.values()) / sum(left.values()))))
        left = on
    return found


class TradingModel:
    """Serves while it is entered; `url` is the base URL. `seed` of a request decides what is sampled."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

            def do_POST(self) -> None:
                """A chat completion."""
                data = json.dumps(complete(json.loads(self.rfile.read(int(self.headers["content-length"]))))).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> TradingModel:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def complete(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request whose last message ends with the markets as JSON, on a line of their own."""
    messages = request["messages"]
    prompt = "".join(f"<{m['role']}>\n{m['content']}\n" for m in messages) + "<assistant>\n"
    possible = answers(json.loads(messages[-1]["content"].splitlines()[-1]))
    chance = random.Random(f"{request.get('seed')} {prompt}")
    chosen = chance.choices(list(possible), weights=list(possible.values()))[0]
    ids, prompt_ids = list(chosen.encode()), list(prompt.encode())
    content = [
        {"token": chr(i), "logprob": p, "bytes": [i], "top_logprobs": []}
        for i, p in zip(ids, logprobs(chosen, possible), strict=True)
    ]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": chosen},
        "finish_reason": "stop",
        "token_ids": ids,
        "logprobs": {"content": content},
    }
    usage = {"prompt_tokens": len(prompt_ids), "completion_tokens": len(ids), "total_tokens": len(prompt_ids) + len(ids)}
    about = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": request["model"]}
    return about | {"prompt_token_ids": prompt_ids, "choices": [choice], "usage": usage}
