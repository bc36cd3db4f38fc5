"""Calls of Weave (`op_name`, `inputs`, `output`, `summary`), as its API answers them and its pages export them.

A call of an operation of kind `llm`, or with a request of a model's API among its inputs, is a model call; `tool`, `agent` and
`search` say what they are. A thread is a session.

Source: wandb/weave, `CallSchema` of the trace server, and its pages on calls, feedback and kinds of operations.
"""

from __future__ import annotations

from typing import Any

from ..clock import parse_time
from ..codec import content_hash
from ..shape import arguments, dicts, number, obj, parsed, text, without
from . import chat
from .common import about_of, dialect_of, ended, is_body, time_of, usage_counts
from .span import Meaning, TraceSpan

_HELD = (
    "id", "trace_id", "parent_id", "op_name", "started_at", "ended_at", "inputs", "output", "summary", "attributes", "exception",
    "thread_id",
)  # fmt: skip
_IO = ("weave.inputs", "weave.output", "weave.summary", "weave.kind")


def is_call(v: dict[str, Any]) -> bool:
    """Whether a value is a call of Weave."""
    return isinstance(v.get("op_name"), str) and "trace_id" in v and "started_at" in v


def of_call(v: dict[str, Any]) -> TraceSpan:
    """A call of Weave."""
    given, summary = obj(parsed(v.get("attributes"))), obj(parsed(v.get("summary")))
    kind = text(obj(given.get("weave")).get("kind")) or text(given.get("kind"))
    attributes = {
        "weave.kind": kind,
        "weave.inputs": without(obj(parsed(v.get("inputs"))), "self"),
        "weave.output": v.get("output"),
        "weave.summary": summary or None,
        "session.id": text(v.get("thread_id")),
        **{name: value for name, value in given.items() if name not in ("weave", "kind")},
    }
    error = text(v.get("exception"))
    return TraceSpan(
        trace=str(v.get("trace_id") or ""),
        id=str(v.get("id") or content_hash(v)[:16]),
        parent=text(v.get("parent_id")),
        name=_name(v["op_name"]),
        start=time_of(v.get("started_at")),
        end=time_of(v.get("ended_at")),
        attributes={k: a for k, a in attributes.items() if a is not None},
        failed=error is not None or obj(summary.get("weave")).get("status") == "error",
        error=error,
        scope="weave",
        more={k: a for k, a in without(v, *_HELD).items() if a not in (None, "", {}, [])},
    )


def _name(op: str) -> str:
    """The operation of a reference `weave:///TEAM/PROJECT/op/NAME:DIGEST`."""
    return op.rpartition("/op/")[2].partition(":")[0] if op.startswith("weave:") else op


def meaning(span: TraceSpan) -> Meaning | None:
    """None where the span is no call of Weave."""
    if span.scope != "weave":
        return None
    kind, asked, said = span.get("weave.kind"), span.get("weave.inputs"), span.get("weave.output")
    found = Meaning(kind="holder", used=_IO, about=about_of(span), task=asked or None, answer=said)
    if kind == "llm" or (is_body(asked) and (dialect_of(said) is not None or _is_answer(said) or said is None)):
        found.kind, found.fields, found.task, found.answer = "call", _call(span, asked, said), None, None
    elif kind == "tool":
        result = {"name": span.name, "arguments": arguments(asked), "result": said, "ok": False if span.failed else None}
        found.kind, found.fields, found.task, found.answer = "tool", {**result, **ended(span)}, None, None
    elif kind == "search":
        read = {"provider": span.name, "query": asked, "data": said, **ended(span)}
        found.kind, found.fields, found.task, found.answer = "read", read, None, None
    elif kind == "agent":
        found.kind, found.agent = "agent", span.name
    feedback = dicts(obj(obj(span.get("weave.summary")).get("weave")).get("feedback"))
    found.rewards = [reward for one in feedback for reward in _rewards(span, found, one)]
    return found


def _is_answer(said: Any) -> bool:
    """Whether an output is what a model answered: a text, a message, or choices."""
    return isinstance(said, str) or isinstance(obj(said).get("choices"), list) or obj(said).get("role") == "assistant"


def _rewards(span: TraceSpan, found: Meaning, one: dict[str, Any]) -> list[dict[str, Any]]:
    """What a feedback says: an annotation of a person, the verdict of a scorer, a reaction or a note, which only monitor."""
    kind, payload = str(one.get("feedback_type") or "feedback"), obj(one.get("payload"))
    name = kind.removeprefix("wandb.").partition(".")[2] if kind.startswith(("wandb.annotation.", "wandb.runnable.")) else kind
    value = payload.get("output", payload.get("value"))
    values = {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    own = found.kind in ("call", "tool", "read")
    where: dict[str, Any] = {} if own else {"target": None} if span.parent is None else {"weight": 0.0}
    numbers = {n: float(v) if isinstance(v, bool) else number(v) for n, v in values.items()}
    return [
        {
            "name": n,
            "source": "function" if kind.startswith("wandb.runnable.") else "human",
            "author": text(one.get("creator")),
            "source_time": parse_time(one.get("created_at")),
            "value": known,
            "rationale": text(payload.get("note")) or (values[n] if isinstance(values[n], str) else None),
            "extra": {"score": {"id": f"{one.get('id')}.{n}", "payload": payload}},
            **where,
            **({"weight": 0.0} if known is None else {}),
        }
        for n, known in numbers.items()
    ]


def _call(span: TraceSpan, asked: dict[str, Any], said: Any) -> dict[str, Any]:
    usages = obj(obj(span.get("weave.summary")).get("usage"))
    model = text(obj(said).get("model")) or text(asked.get("model")) or next(iter(usages), None)
    if is_body(asked):
        request: Any = asked
    else:
        listed = next((asked[n] for n in ("messages", "prompt", "input", "contents") if asked.get(n)), None)
        told = chat.messages(asked if listed is None and asked else listed or [])
        request = (
            {**without(asked, "messages", "prompt", "input", "contents"), "messages": told} if listed else {"messages": told}
        )
        request |= {"model": model} if model else {}
    raw = dialect_of(said)
    if raw is None and said is not None:
        listed = obj(said).get("choices", said)
        said = {"role": "assistant", "content": listed} if isinstance(listed, str) else chat.answer(chat.messages(listed))
    usage = obj(obj(said).get("usage")) or obj(next(iter(usages.values()), None))
    prompt, completion = usage_counts(usage)
    costs = dicts(list(obj(obj(obj(span.get("weave.summary")).get("weave")).get("costs")).values()))
    paid = [number(c.get(f"{n}_tokens_total_cost")) for c in costs for n in ("prompt", "completion")]
    return {
        "dialect": raw or "openai.chat",
        "request": request,
        "response": said,
        "model": model,
        "usage": usage or None,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cost": sum(p for p in paid if p is not None) if any(p is not None for p in paid) else None,
        **ended(span),
    }
