"""A model server of token ids for tests, as vLLM and SGLang are: /v1/completions and /generate; and a tokenizer with a chat template."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import tokenizers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

END = "<end>"


class Words:
    """One token a word; the words are learnt as they come. The template is `<role> words <end>`, a tool call is `<tool_call> JSON`."""

    eos_token = END
    eos_token_id = 0

    def __init__(self, text: str = "") -> None:
        marks = [END, "<system>", "<user>", "<assistant>", "<tool>", "<tool_call>", "</tool_call>", "<unk>"]
        known = list(dict.fromkeys([*marks, *text.split()]))
        self.backend_tokenizer = tokenizers.Tokenizer(WordLevel({w: n for n, w in enumerate(known)}, unk_token="<unk>"))
        self.backend_tokenizer.pre_tokenizer = WhitespaceSplit()
        self.backend_tokenizer.add_special_tokens([END])

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return list(self.backend_tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return str(self.backend_tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))

    def apply_chat_template(
        self, messages: list[dict[str, Any]], tools: Any = None, add_generation_prompt: bool = False, tokenize: bool = False
    ) -> str:
        text = ""
        for message in messages:
            words = [f"<{message['role']}>", *(message.get("content") or "").split()]
            for call in message.get("tool_calls") or ():
                words += ["<tool_call>", json.dumps(call["function"], separators=(",", ":")), "</tool_call>"]
            text += " ".join([*words, END]) + " "
        return text + ("<assistant> " if add_generation_prompt else "")


class TokenServer:
    """Answers each prompt of ids with the ids of the text that `model` gives for the number of answers so far."""

    def __init__(self, words: Words, model: Callable[[list[int]], str]) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                owner.requests.append((self.path, request))
                prompt = request.get("prompt", request.get("input_ids"))
                ids = words.encode(f"{model(prompt)} {END}")
                logprobs = [-0.5 - n / 64 for n in range(len(ids))]
                text = words.decode(ids)
                about: dict[str, Any] = {"prompt_tokens": len(prompt), "completion_tokens": len(ids)}
                if self.path.endswith("/generate"):
                    pairs = [[p, i, None] for i, p in zip(ids, logprobs, strict=True)]
                    about |= {"finish_reason": {"type": "stop"}, "output_token_logprobs": pairs}
                    body: dict[str, Any] = {"text": text, "output_ids": ids, "meta_info": about}
                else:
                    choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": "stop"}
                    if request.get("return_token_ids"):
                        choice |= {"token_ids": ids, "prompt_token_ids": prompt, "logprobs": {"token_logprobs": logprobs}}
                    body = {"object": "text_completion", "model": "m", "choices": [choice], "usage": about}
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> TokenServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
