"""OpenAI's completions (the older API), as vLLM and SGLang speak it: a prompt of text or of token ids goes on.

Source: https://platform.openai.com/docs/api-reference/completions; of vLLM, `vllm/entrypoints/openai/completion/protocol.py`:
`return_token_ids` adds `prompt_token_ids` and `token_ids` to each choice. A request may hold several prompts: a batch. Then the
answers of the first come first, `n` of each.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .content import text_of
from .deltas import assemble_choices
from .openai_chat import alternatives, logprobs_of, unasked
from .shapes import Choice, Path, Tool, ToolCall

__all__ = ["alternatives", "unasked"]

NAME = "openai.completions"
SHORT = "completions"
PATHS = ("/v1/completions", "/completions")
VALUES = ("prompt",)
PROMPT_IDS: tuple[Path, ...] = (("response", "choices", 0, "prompt_token_ids"), ("request", "prompt"))
ANSWER_IDS: tuple[Path, ...] = (("response", "choices", 0, "token_ids"),)
HISTORY = "messages"
STREAMING = {"stream": True, "stream_options": {"include_usage": True}}
_NOT_PARAMS = ("model", "prompt")


def speaks(path: str) -> bool:
    """Not that of chat completions."""
    return path.endswith(PATHS) and not path.endswith("/chat/completions")


def _prompts(request: Any) -> list[Any]:
    prompt = request.get("prompt") if isinstance(request, dict) else None
    if isinstance(prompt, list):
        return prompt if prompt and isinstance(prompt[0], (str, list)) else [prompt] if prompt else []
    return [] if prompt is None else [prompt]


def prompts(request: Any) -> int:
    """Those of a batch."""
    return len(_prompts(request))


def messages(request: Any) -> list[dict[str, Any]]:
    """A message of the user for each prompt of text; a prompt of token ids is no text, and stands in `prompt_token_ids`."""
    return [{"role": "user", "content": p if isinstance(p, str) else None} for p in _prompts(request)]


def params(request: Any) -> dict[str, Any]:
    """Everything but model and prompt."""
    return {k: v for k, v in request.items() if k not in _NOT_PARAMS} if isinstance(request, dict) else {}


def asking_tokens(streams: bool) -> dict[str, Any]:
    """The ids, and the logprob of each token that was sampled, with none of others."""
    return {"return_token_ids": True, "logprobs": 0}


def _is_choice(choice: Any) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("text"), str) and "message" not in choice


def is_response(response: Any) -> bool:
    """A body whose choices are texts."""
    found = response.get("choices") if isinstance(response, dict) else None
    return isinstance(found, list) and bool(found) and all(map(_is_choice, found))


def choices(response: Any) -> list[Choice]:
    """All answers; which prompts they are of, the request knows."""
    found = response.get("choices") if isinstance(response, dict) else None
    out: list[Choice] = []
    for position, choice in enumerate(found if isinstance(found, list) else []):
        if not isinstance(choice, dict):
            continue
        text, index, finish, ids = (choice.get(n) for n in ("text", "index", "finish_reason", "token_ids"))
        out.append(
            Choice(
                index=index if type(index) is int else position,
                message={"role": "assistant", "content": text},
                text=text if isinstance(text, str) else "",
                finish_reason=finish if isinstance(finish, str) else None,
                token_ids=ids if isinstance(ids, list) else None,
                logprobs=logprobs_of(choice.get("logprobs")),
            )
        )
    return out


def answers(request: Any, response: Any) -> list[Choice]:
    """All answers, each with the number of its prompt: there are equally many of each."""
    found, asked = choices(response), prompts(request)
    n = request.get("n") if isinstance(request, dict) else None
    each = n if type(n) is int and n > 0 else max(1, len(found) // asked) if asked else 1
    if asked < 2:
        return found
    return [msgspec.structs.replace(c, prompt=min(max(c.index, 0) // each, asked - 1)) for c in found]


def assemble(events: list[Any]) -> Any:
    """The body of the same call without streaming: text, ids and logprobs of each choice put together, unknown fields kept."""
    return assemble_choices(events, "text", "token_ids", "logprobs")


def delta(event: Any) -> str:
    """The text of the first choice."""
    found = event.get("choices") if isinstance(event, dict) else None
    for choice in found if isinstance(found, list) else []:
        if isinstance(choice, dict) and not choice.get("index") and isinstance(choice.get("text"), str):
            return str(choice["text"])
    return ""


def request(
    model: str,
    system: str | None,
    history: list[Any],
    tools: list[Tool],
    params: dict[str, Any],
    schema: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The body: the texts of all messages, one behind the other. The API knows no tools and no roles."""
    texts = [text_of(m.get("content")) for m in history if isinstance(m, dict)]
    prompt = "\n\n".join(t for t in ([system] if system else []) + texts if t)
    body: dict[str, Any] = {"model": model, "prompt": prompt}
    if schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return body | params


def said(response: Any) -> list[Any]:
    """The first answer as a message."""
    return [c.message for c in choices(response)[:1]]


def reworded(response: Any, text: str | None, reasoning: str | None, calls: dict[int, ToolCall]) -> Any:
    """The text of the first choice."""
    found = response.get("choices") if isinstance(response, dict) else None
    if text is None or not isinstance(found, list) or not found or not isinstance(found[0], dict):
        return response
    return {**response, "choices": [{**found[0], "text": text}, *found[1:]]}


def of_ids(model: str, ids: list[int], params: dict[str, Any]) -> dict[str, Any]:
    """The prompt is a list of ids, as vLLM and SGLang take it."""
    return {"model": model, "prompt": ids, **params}
