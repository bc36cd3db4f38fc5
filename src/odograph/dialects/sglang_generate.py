"""SGLang's own API, `/generate`: a prompt of text or token ids goes on; ids and logprobs stand in the answer.

Source: https://docs.sglang.ai/basic_usage/native_api.html and `python/sglang/srt/managers/io_struct.py`. A request may hold
several prompts, or ask for several answers (`sampling_params.n`): the response is then a list of bodies. Each event of a stream
says the whole text so far; its logprobs are all so far, too, or, with `--stream-output`, what is new of both.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .content import alternatives_in
from .shapes import Alternative, Choice, Path, ToolCall, Usage

NAME = "sglang.generate"
PATHS = ("/generate",)
VALUES = ("text",)
PROMPT_IDS: tuple[Path, ...] = (("request", "input_ids"),)
ANSWER_IDS: tuple[Path, ...] = (("response", "output_ids"),)
_NOT_PARAMS = ("text", "input_ids", "model")


def speaks(path: str) -> bool:
    """Not that of vLLM, nor Ollama's."""
    return path.endswith(PATHS) and not path.endswith(("/inference/v1/generate", "/api/generate"))


def _prompts(request: Any) -> list[Any]:
    if not isinstance(request, dict):
        return []
    text, ids = request.get("text"), request.get("input_ids")
    if text is not None:
        return text if isinstance(text, list) else [text]
    if isinstance(ids, list):
        return ids if ids and isinstance(ids[0], list) else [ids]
    return []


def prompts(request: Any) -> int:
    """Those of a batch."""
    return len(_prompts(request))


def messages(request: Any) -> list[dict[str, Any]]:
    """A message of the user for each prompt of text; a prompt of token ids is no text."""
    return [{"role": "user", "content": p if isinstance(p, str) else None} for p in _prompts(request)]


def params(request: Any) -> dict[str, Any]:
    """Everything but the prompt."""
    return {k: v for k, v in request.items() if k not in _NOT_PARAMS} if isinstance(request, dict) else {}


def asking_tokens(streams: bool) -> dict[str, Any]:
    """The ids come in any case."""
    return {"return_logprob": True}


def unasked(value: Any, asked: dict[str, Any]) -> Any:
    """The logprobs are taken out."""
    if "return_logprob" not in asked:
        return value
    if isinstance(value, list):
        return [unasked(body, asked) for body in value]
    about = value.get("meta_info") if isinstance(value, dict) else None
    if not isinstance(about, dict):
        return value
    return {**value, "meta_info": {name: field for name, field in about.items() if not name.endswith("_logprobs")}}


def _bodies(response: Any) -> list[dict[str, Any]]:
    found = response if isinstance(response, list) else [response]
    return [b for b in found if isinstance(b, dict) and isinstance(b.get("meta_info"), dict)]


def is_response(response: Any) -> bool:
    """A body with `meta_info` and no choices, or a list of them."""
    return bool(_bodies(response)) and not (isinstance(response, dict) and "choices" in response)


def choices(response: Any) -> list[Choice]:
    """The answer of each body."""
    return [_choice(body, index) for index, body in enumerate(_bodies(response))]


def answers(request: Any, response: Any) -> list[Choice]:
    """The answer of each body, with the number of its prompt: there are equally many of each."""
    found, asked = choices(response), prompts(request)
    each = max(1, len(found) // asked) if asked else 1
    return found if asked < 2 else [msgspec.structs.replace(c, prompt=min(c.index // each, asked - 1)) for c in found]


def _choice(body: dict[str, Any], index: int) -> Choice:
    about, text, ids = body["meta_info"], body.get("text"), body.get("output_ids")
    pairs = about.get("output_token_logprobs")  # [logprob, id, text] each
    logprobs: list[float | None] | None = None
    if isinstance(pairs, list) and pairs and all(isinstance(p, list) and len(p) > 1 for p in pairs):
        logprobs = [p[0] for p in pairs]
        ids = ids if isinstance(ids, list) and ids else [p[1] for p in pairs]
    finish = about.get("finish_reason")
    finish = finish.get("type") if isinstance(finish, dict) else finish
    return Choice(
        index=index,
        message={"role": "assistant", "content": text if isinstance(text, str) else None},
        text=text if isinstance(text, str) else "",
        finish_reason=finish if isinstance(finish, str) else None,
        token_ids=ids if isinstance(ids, list) else None,
        logprobs=logprobs,
    )


def alternatives(response: Any, index: int) -> list[list[Alternative]]:
    """`output_top_logprobs`: [logprob, id, text] each."""
    bodies = _bodies(response)
    tops = bodies[index]["meta_info"].get("output_top_logprobs") if 0 <= index < len(bodies) else None
    return [
        alternatives_in([(t[2] if t[2] is not None else f"id {t[1]}", t[0]) for t in top if isinstance(t, list) and len(t) > 2])
        if isinstance(top, list)
        else []
        for top in (tops if isinstance(tops, list) else [])
    ]


def stated(response: Any) -> Any:
    """The counts of all bodies."""
    counts: dict[str, int] = {}
    for body in _bodies(response):
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens"):
            found = body["meta_info"].get(name)
            if type(found) is int:
                counts[name] = counts.get(name, 0) + found
    return counts or None


def usage(usage: Any) -> Usage:
    """`prompt_tokens`, which holds the cached ones, and `completion_tokens`."""
    found = usage if isinstance(usage, dict) else {}
    prompt, completion = found.get("prompt_tokens"), found.get("completion_tokens")
    return Usage(
        prompt=prompt if type(prompt) is int else None,
        completion=completion if type(completion) is int else None,
    )


def assemble(events: list[Any]) -> Any:
    """The last event of each answer, which says all that was said before; of a server that says what is new, all events."""
    last: dict[int, dict[str, Any]] = {}
    for event in events:
        if not isinstance(event, dict):
            continue
        index = event.get("index")
        index = index if type(index) is int else 0
        last[index] = _grown(last.get(index), event)
    bodies = [last[index] for index in sorted(last)]
    return None if not bodies else bodies[0] if len(bodies) == 1 else bodies


def _grown(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    if old is None:
        return new
    grown = dict(old)
    for name, value in new.items():
        grown[name] = _longer(old.get(name), value)
    about, before = new.get("meta_info"), old.get("meta_info")
    if isinstance(about, dict) and isinstance(before, dict):
        pairs = _longer(before.get("output_token_logprobs"), about.get("output_token_logprobs"))
        grown["meta_info"] = about if pairs is None else {**about, "output_token_logprobs": pairs}
    return grown


def _longer(old: Any, new: Any) -> Any:
    """What was said so far: the new where it begins with the old, else both."""
    if isinstance(old, str) and isinstance(new, str):
        return new if new.startswith(old) else old + new
    if isinstance(old, list) and isinstance(new, list):
        return new if new[: len(old)] == old else old + new
    return new if new is not None else old


def delta(event: Any) -> str:
    """An event says the whole text so far, of which only the stream knows what is new."""
    return ""


def reworded(response: Any, text: str | None, reasoning: str | None, calls: dict[int, ToolCall]) -> Any:
    """The text of the first body."""
    if isinstance(response, list):
        return [reworded(response[0], text, reasoning, calls), *response[1:]] if response else response
    return {**response, "text": text} if text is not None and isinstance(response, dict) else response


def of_ids(model: str, ids: list[int], params: dict[str, Any]) -> dict[str, Any]:
    """`input_ids`. The server has one model. What is no field of a request is a sampling parameter."""
    own = {k: v for k, v in params.items() if k in _FIELDS}
    sampling = {"max_new_tokens" if k == "max_tokens" else k: v for k, v in params.items() if k not in _FIELDS}
    return {"input_ids": ids, "sampling_params": {**sampling, **own.pop("sampling_params", {})}, "return_logprob": True, **own}


_FIELDS = ("stream", "sampling_params", "return_logprob", "lora_path", "rid", "custom_logit_processor", "return_hidden_states")
