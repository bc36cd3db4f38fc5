"""MLflow's spans (`mlflow.spanType`, `spanInputs`, `spanOutputs`: values as JSON), as `sources` reads its traces.

Source: mlflow 3, `mlflow.entities.Trace.to_json` and `mlflow.tracing.constant`.
"""

from __future__ import annotations

from typing import Any

from ..clock import parse_time
from ..shape import arguments, dicts, number, obj, text
from . import chat
from .common import about_of, count, dialect_of, ended, is_body, price, prompt_count, usage_counts
from .span import Meaning, TraceSpan

_IO = ("mlflow.spanInputs", "mlflow.spanOutputs")
_USED = (*_IO, "mlflow.spanType", "mlflow.chat.tokenUsage", "mlflow.chat.tools", "mlflow.llm.model", "mlflow.llm.cost")
_VERDICTS = {"yes": 1.0, "no": 0.0}
_SOURCES = {"HUMAN": "human", "LLM_JUDGE": "judge", "AI_JUDGE": "judge", "CODE": "function"}


def meaning(span: TraceSpan) -> Meaning | None:
    """None where the span is none of MLflow's."""
    kind = span.json("mlflow.spanType")
    if kind is None and span.get(*_IO) is None:
        return None
    asked, said = span.json(_IO[0]), span.json(_IO[1])
    found = Meaning(kind="holder", used=_USED, about=about_of(span))
    if kind in ("CHAT_MODEL", "LLM"):
        found.kind, found.fields = "call", _call(span, asked, said)
    elif kind == "TOOL":
        given = asked["args"] if isinstance(asked, dict) and asked.keys() == {"args"} else asked
        result = {"name": span.name, "arguments": arguments(given), "result": said, "ok": False if span.failed else None}
        found.kind, found.fields = "tool", {**result, **ended(span)}
    elif kind in ("RETRIEVER", "EMBEDDING", "RERANKER"):
        found.kind, found.fields = "read", {"provider": span.name, "query": asked, "data": said, **ended(span)}
    else:
        found.task, found.answer = asked, said
        if kind == "AGENT":
            found.kind, found.agent = "agent", span.name
    if tags := obj(span.get("mlflow.tags")):
        found.about["metadata"] = tags
    given = sorted(
        dicts(span.get("mlflow.assessments")), key=lambda one: one.get("valid") is not False
    )  # what was overridden is older
    found.rewards = [r for one in given if (r := _reward(one)) is not None]
    found.used = (*_USED, "mlflow.tags", "mlflow.assessments")
    return found


def _reward(one: dict[str, Any]) -> dict[str, Any] | None:
    """Feedback on a trace, or on a span that it names; what was expected is none. A judge's `yes` and `no` are 1 and 0, as in
    MLflow's own averages. Other words, and overridden feedback, only monitor."""
    feedback = obj(one.get("feedback"))
    if "value" not in feedback:
        return None
    value = feedback["value"]
    verdict = _VERDICTS.get(value.lower()) if isinstance(value, str) else None
    known = float(value) if isinstance(value, bool) else number(value) if verdict is None else verdict
    more = {k: one[k] for k in ("assessment_id", "metadata", "overrides") if one.get(k)} | (
        {"value": value} if known is None or verdict is not None else {}
    )
    return {
        "name": text(one.get("assessment_name")) or "feedback",
        "source": _SOURCES.get(str(obj(one.get("source")).get("source_type")), "function"),
        "author": text(obj(one.get("source")).get("source_id")),
        "source_time": parse_time(one.get("last_update_time") or one.get("create_time")),
        **({"weight": 0.0} if one.get("valid") is False or (known is None and value is not None) else {}),
        "value": known,
        "rationale": text(one.get("rationale")),
        "extra": {"assessment": more},
        **({} if one.get("span_id") else {"target": None}),
    }


def _call(span: TraceSpan, asked: Any, said: Any) -> dict[str, Any]:
    model = text(span.json("mlflow.llm.model")) or text(obj(said).get("model")) or text(obj(asked).get("model"))
    if is_body(asked):
        request: dict[str, Any] = asked if "model" in asked or model is None else {**asked, "model": model}
    else:
        rest = {k: v for k, v in obj(asked).items() if k not in ("messages", "role", "content")}
        request = {"messages": chat.messages([] if asked is None else asked), **({"model": model} if model else {}), **rest}
    tools = span.json("mlflow.chat.tools")
    if tools and "tools" not in request:
        request = {**request, "tools": tools}
    raw = dialect_of(said)
    if raw is None and isinstance(said, str | list | dict):
        listed = obj(said).get("choices", obj(said).get("generations", said))
        said = {"role": "assistant", "content": listed} if isinstance(listed, str) else chat.answer(chat.messages(listed))
    usage = obj(span.json("mlflow.chat.tokenUsage"))
    read, written = (count(usage.get(f"cache_{n}_input_tokens")) for n in ("read", "creation"))
    counts = usage_counts(obj(obj(said).get("usage")))
    return {
        "dialect": raw or "openai.chat",
        "request": request,
        "response": said,
        "model": model,
        "usage": usage or obj(obj(said).get("usage")) or None,
        "prompt_tokens": counts[0] if counts[0] is not None else prompt_count(count(usage.get("input_tokens")), read, written),
        "completion_tokens": counts[1] if counts[1] is not None else count(usage.get("output_tokens")),
        "cost": price(obj(span.json("mlflow.llm.cost")).get("total_cost")),
        **ended(span),
    }
