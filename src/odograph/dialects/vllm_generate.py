"""vLLM's `/inference/v1/generate`: token ids in, token ids out, no text.

Source: `vllm/entrypoints/serve/disagg/protocol.py`. Logprobs are those of chat completions; they come where
`sampling_params.logprobs` asks for them.
"""

from __future__ import annotations

from typing import Any

from .deltas import assemble_choices
from .openai_chat import alternatives, logprobs_of
from .shapes import Choice, Path

__all__ = ["alternatives"]

NAME = "vllm.generate"
PATHS = ("/inference/v1/generate",)
PROMPT_IDS: tuple[Path, ...] = (("request", "token_ids"),)
ANSWER_IDS: tuple[Path, ...] = (("response", "choices", 0, "token_ids"),)
_NOT_PARAMS = ("token_ids", "model")


def params(request: Any) -> dict[str, Any]:
    """Everything but the prompt."""
    return {k: v for k, v in request.items() if k not in _NOT_PARAMS} if isinstance(request, dict) else {}


def is_response(response: Any) -> bool:
    """A body whose choices are token ids and nothing else that was said."""
    found = response.get("choices") if isinstance(response, dict) else None
    return isinstance(found, list) and bool(found) and all(map(_is_choice, found))


def _is_choice(choice: Any) -> bool:
    return (
        isinstance(choice, dict)
        and isinstance(choice.get("token_ids"), list)
        and not ({"message", "text", "delta"} & set(choice))
    )


def choices(response: Any) -> list[Choice]:
    """All answers; they have no text."""
    found = response.get("choices") if isinstance(response, dict) else None
    out: list[Choice] = []
    for position, choice in enumerate(found if isinstance(found, list) else []):
        if isinstance(choice, dict):
            index, finish, ids = (choice.get(n) for n in ("index", "finish_reason", "token_ids"))
            out.append(
                Choice(
                    index=index if type(index) is int else position,
                    message={"role": "assistant", "content": None},
                    finish_reason=finish if isinstance(finish, str) else None,
                    token_ids=ids if isinstance(ids, list) else None,
                    logprobs=logprobs_of(choice.get("logprobs")),
                )
            )
    return out


def assemble(events: list[Any]) -> Any:
    """The ids and logprobs of each choice put together."""
    return assemble_choices(events, "token_ids", "logprobs")


def of_ids(model: str, ids: list[int], params: dict[str, Any]) -> dict[str, Any]:
    """`token_ids`; logprobs of what is sampled are asked for. What is no field of a request is a sampling parameter."""
    own = {k: v for k, v in params.items() if k in _FIELDS}
    sampling = {k: v for k, v in params.items() if k not in _FIELDS}
    return {
        "model": model,
        "token_ids": ids,
        "sampling_params": {"logprobs": 1, **sampling, **own.pop("sampling_params", {})},
        **own,
    }


_FIELDS = ("stream", "stream_options", "sampling_params", "cache_salt", "priority", "request_id")
