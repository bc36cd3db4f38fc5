"""Arguments, or what crossed a wire -> the fields of a record. They know no scope and write nothing.

Content never raises; wrong use (a name that is no string, a reward that is no number) raises TypeError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec

from .. import dialects
from ..codec import encode, loads, plain
from ..errors import InvalidInput
from ..guard import of_a_signal
from ..handmade import request_in_parts
from ..trajectory import stated_success
from ..types import LogprobsOf, RewardSource, Span
from .faults import fault
from .values import error_of, id_of, listed, named, number, tokens_of, truth, whole

_SOURCES: tuple[RewardSource, ...] = get_args(RewardSource)
_MEANINGS: tuple[LogprobsOf, ...] = get_args(LogprobsOf)


def known(**given: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in given.items() if value is not None}


# --- calls of models ----------------------------------------------------------------------------------------------------------


def request_of(
    request: dict[str, Any] | None,
    model: str | None,
    messages: list[Any] | None,
    tools: list[Any] | None,
    params: dict[str, Any] | None,
    system_prompt: str | None,
    user_prompt: str | None,
) -> dict[str, Any]:
    """A request that was given whole, or in parts."""
    if request is not None:
        if any(part is not None for part in (messages, tools, params, system_prompt, user_prompt)):
            raise TypeError("give the request whole (request=) or in parts (messages=, tools=, params=), not both")
        return request if type(request) is dict else plain(request)
    if params is not None and type(params) is not dict:
        found = plain(params)
        params = found if type(found) is dict else {"params": found}
    return request_in_parts(model, None if messages is None else listed(messages), tools, params, system_prompt, user_prompt)


def call(
    request: dict[str, Any], response: Any, model: str | None, purpose: str, dialect: str | None, usage: Any
) -> dict[str, Any]:
    """What was asked and answered, with the counts of tokens that the answer, or the caller, states."""
    response, usage = plain(response), plain(usage)
    fields: dict[str, Any] = {"request": request}
    if response is not None:
        fields["response"] = response
    if purpose != "act":
        fields["purpose"] = named(purpose, "purpose")
    if model is None:
        found = request.get("model") if type(request) is dict else None
        model = found if type(found) is str else None
    if model is not None:
        fields["model"] = named(model, "model")
    if usage is not None:
        fields["usage"] = usage
    try:
        _count(fields, response, dialect, usage)
    except Exception as error:  # an object inside raises whatever is asked of it; as JSON it does not
        if of_a_signal(error):
            raise
        _count(fields, loads(encode(response)), dialect, loads(encode(usage)))
    if dialect is not None:
        fields["dialect"] = dialect
    return fields


def _count(fields: dict[str, Any], response: Any, dialect: str | None, usage: Any) -> None:
    if usage is not None:
        spoken = dialects.get(dialect)
    elif type(response) is dict or type(response) is list:
        spoken = dialects.of_response(response, dialect)
        usage = _told(spoken.stated, response)
    counts = _told(spoken.usage, usage) if type(usage) is dict else None
    if counts is not None:
        if counts.prompt is not None:
            fields["prompt_tokens"] = counts.prompt
        if counts.completion is not None:
            fields["completion_tokens"] = counts.completion


def _told(ask: Callable[..., Any], *about: Any) -> Any:
    """What a dialect says. None where the dialect of a stranger fails: the call is kept without it."""
    try:
        return ask(*about)
    except InvalidInput as error:
        fault(error)
        return None


def tokens(
    fields: dict[str, Any],
    prompt_ids: Any,
    ids: Any,
    logprobs: Any,
    versions: list[tuple[int, str | int]] | None,
    meaning: LogprobsOf | None,
) -> None:
    """Adds to a call's fields what is known of its tokens."""
    if prompt_ids is not None:
        fields["prompt_token_ids"] = listed(prompt_ids)
    if ids is not None or logprobs is not None:
        fields["tokens"] = tokens_of(listed(ids), listed(logprobs))
        if versions is not None:
            fields["tokens"][0]["versions"] = [list(v) for v in versions]
    if meaning is not None:
        if meaning not in _MEANINGS:
            raise TypeError(f"logprobs_of is sampled, raw or unknown, not {meaning!r}")
        fields["logprobs_of"] = meaning


def about(
    fields: dict[str, Any],
    error: Any,
    reasoning: str | None,
    finish_reason: str | None,
    policy_version: str | int | None,
    tokenizer: str | None,
    adapter: str | None,
    inputs: list[str] | None,
    cost: float | None,
    extra: dict[str, Any] | None,
) -> None:
    """Adds to a call's fields what is known of how it was made."""
    if error is not None:
        fields["error"] = error_of(error)
    if reasoning is not None:
        fields["reasoning"] = reasoning
    if finish_reason is not None:
        fields["finish_reason"] = finish_reason
    if policy_version is not None:
        fields["policy_version"] = policy_version
    if tokenizer is not None:
        fields["tokenizer"] = tokenizer
    if adapter is not None:
        fields["adapter"] = adapter
    if inputs is not None and (type(inputs) is not list or inputs):
        fields["inputs"] = listed(inputs)
    if cost is not None:
        fields["cost"] = cost
    if extra is not None:
        fields["extra"] = extra


def times(fields: dict[str, Any], started: int | None, duration: int | None, first_token: int | None = None) -> None:
    """Adds when it was, in nanoseconds."""
    fields |= known(started=started, duration=duration, first_token=first_token)


def wire_call(
    dialect: dialects.Dialect, path: str, request: Any, response: Any, error: Any, status: int | None, purpose: str
) -> dict[str, Any]:
    """A call as it crossed the wire: to a URL path, answered with an HTTP status, or not at all."""
    fields: dict[str, Any] = {"dialect": dialect.NAME, "origin": "wire", "request": request}
    if purpose != "act":
        fields["purpose"] = purpose
    model = _told(dialect.model, path, request)
    if model is not None:
        fields["model"] = model
    if status is not None:
        fields["status_code"] = status
    if response is not None:
        fields["response"] = response
        _count(fields, response, dialect.NAME, None)
    if error is not None:
        fields["error"] = error_of(error)
    return fields


# --- what else happens ----------------------------------------------------------------------------------------------------------


def context(
    provider: str, data: Any, query: Any, purpose: str | None, error: Any, started: int | None, duration: int | None
) -> dict[str, Any]:
    """What was read."""
    fields: dict[str, Any] = {"provider": named(provider, "provider")}
    if data is not None:
        fields["data"] = data
    if query is not None:
        fields["query"] = query
    if purpose is not None:
        fields["purpose"] = purpose
    if error is not None:
        fields["error"] = error_of(error)
    if started is not None:
        fields["started"] = started
    if duration is not None:
        fields["duration"] = duration
    return fields


def action(
    name: str,
    arguments: Any,
    result: Any,
    ok: bool | None,
    error: Any,
    llm_call: Any,
    tool_call_id: str | None,
    started: int | None,
    duration: int | None,
    metadata: dict[str, Any] | None,
) -> dict[str, Any]:
    """What was done; an error means not ok."""
    fields: dict[str, Any] = {"name": named(name, "name")}
    if arguments is not None:
        fields["arguments"] = arguments
    if result is not None:
        fields["result"] = result
    if error is not None:
        fields["error"] = error_of(error)
        ok = False if ok is None else ok
    if ok is None and stated_success(result) is False:
        ok = False
    if ok is not None:
        fields["ok"] = ok if type(ok) is bool else truth(ok)
    if llm_call is not None:
        fields["llm_call"] = id_of(llm_call, "llm_call")
    if tool_call_id is not None:
        fields["tool_call_id"] = tool_call_id
    if started is not None:
        fields["started"] = started
    if duration is not None:
        fields["duration"] = duration
    if metadata is not None:
        fields["extra"] = metadata
    return fields


def reward(
    value: float | None,
    name: str,
    weight: float,
    source: RewardSource,
    target: Any,
    span: Span | tuple[int, int] | None,
) -> dict[str, Any]:
    """What was earned."""
    if source not in _SOURCES:
        raise TypeError(f"source is one of {', '.join(_SOURCES)}, not {source!r}")
    fields: dict[str, Any] = {"name": named(name, "name")}
    counted = number(value, "a reward")
    if counted is not None:
        fields["value"] = counted
    if source != "environment":
        fields["source"] = source
    if type(weight) is not float or weight != 1.0:
        checked = number(weight, "weight")
        if type(checked) is not float:
            raise TypeError(f"weight is a finite number, not {weight!r:.60}")
        if checked != 1.0:
            fields["weight"] = checked
    if span is not None:
        if target is None:
            raise TypeError("a span needs target=, the call that has the tokens")
        fields["span"] = _span(span)
    if target is not None:
        fields["target"] = id_of(target, "target")
    return fields


def _span(given: Any) -> Any:
    parts = plain(given)
    if isinstance(parts, (list, tuple)) and len(parts) == 2:
        parts = {"start": parts[0], "stop": parts[1]}
    if type(parts) is not dict or not {"start", "stop"} <= parts.keys() <= {"start", "stop", "choice"}:
        raise TypeError(f"span is (start, stop), some tokens of the call, not {given!r:.60}")
    return msgspec.to_builtins(Span(**{name: whole(at, f"{name} of a span") for name, at in parts.items()}))
