"""Answers of batch APIs: JSON lines with an id and the body that a model's API answered, a trajectory for each.

OpenAI and its imitators write `custom_id` and `response.body`, Anthropic `custom_id` and `result.message`, Gemini `key` or
`request` beside `response`, Bedrock `modelInput` and `modelOutput`. The requests stand in a file of their own, with the same ids:
where it lies beside the answers, a call has its request. Rows of a log that hold a `request` and its `response`, as the API has
both, are read likewise. The tools that an answer asks for are actions without a result.

Source: the documentation of the batch APIs of OpenAI, Anthropic, Gemini, Vertex AI and Bedrock.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ... import dialects
from ...codec import loads
from ...shape import arguments, content_text, integer, obj, text, without
from ...types import Action, End, LLMCall, Start, Status, StepStart
from .. import peek
from ..session import Lines, NotBegun, Session, parse_time, sessions_of_rows
from .benchmarks import first_row

NAME = "batches"


class _Answer(NamedTuple):
    """What a line says: the id of the request, the request where it stands there, and what came of it."""

    id: str | None
    request: Any
    response: Any
    dialect: str | None
    error: Any
    status: int | None
    #: The fields of the line that hold this.
    fields: tuple[str, ...]


def recognise(path: Path, head: bytes) -> bool:
    """The first line is an answer, or a request, of a batch."""
    row = first_row(head)
    return _is_answer(row) or _asked(row) is not None


def _is_answer(value: Any) -> bool:
    return _answer(obj(value)) is not None


def _answer(row: dict[str, Any]) -> _Answer | None:
    id, response, result = text(row.get("custom_id")), row.get("response"), obj(row.get("result"))
    if id is not None and isinstance(response, dict) and "body" in response:
        status = integer(response.get("status_code"))
        failed = status is not None and status >= 400
        error = row.get("error") or (response["body"] if failed else None)
        return _Answer(id, None, response["body"], None, error, status, ("custom_id", "response", "error"))
    if id is not None and response is None and isinstance(row.get("error"), dict):
        return _Answer(id, None, None, None, row["error"], None, ("custom_id", "response", "error"))
    if id is not None and result.get("type") in ("succeeded", "errored", "canceled", "expired"):
        error = None if result["type"] == "succeeded" else result.get("error") or {"type": result["type"]}
        return _Answer(id, None, result.get("message"), "anthropic.messages", error, None, ("custom_id", "result"))
    asked, output = obj(row.get("request")), row.get("modelOutput")
    if isinstance(response, dict) and ("candidates" in response or "promptFeedback" in response):
        error = row.get("error") or row.get("status") or None
        return _Answer(
            text(row.get("key")),
            asked or None,
            response,
            "gemini",
            error,
            None,
            ("key", "request", "response", "error", "status"),
        )
    if text(row.get("key")) is not None and isinstance(row.get("error"), dict) and not row.keys() - {"key", "error", "request"}:
        return _Answer(row["key"], asked or None, None, "gemini", row["error"], None, ("key", "request", "error"))
    if asked and row.get("error") is None and dialects.of_response(response, None).is_response(response):  # a log of requests
        return _Answer(text(row.get("id")), asked, response, None, None, None, ("id", "request", "response"))
    if isinstance(row.get("modelInput"), dict) and (isinstance(output, dict) or isinstance(row.get("error"), dict)):
        return _Answer(
            text(row.get("recordId")),
            row["modelInput"],
            output,
            None,
            row.get("error"),
            None,
            ("recordId", "modelInput", "modelOutput", "error"),
        )
    return None


def _asked(row: dict[str, Any]) -> tuple[str, Any, str | None] | None:
    """A request of a batch: its id, its body, and the path of the API that it is for."""
    if text(row.get("custom_id")) is not None:
        for name in ("body", "params"):
            if isinstance(row.get(name), dict) and "response" not in row and "result" not in row:
                return row["custom_id"], row[name], text(row.get("url"))
    if text(row.get("key")) is not None and "contents" in obj(row.get("request")) and "response" not in row:
        return row["key"], row["request"], None
    return None


def read(path: Path) -> Iterator[Session]:
    """A session per answer. Raises NotBegun where a file holds requests alone."""
    lines = Lines(path)
    requests = _Requests(path)
    made = partial(_session, path, requests)
    with path.open("rb") as file:
        if not _is_answer(first := first_row(file.read(65536))) and _asked(first) is not None:
            raise NotBegun(
                "requests of a batch, without answers; import the file of the answers, and put this file beside that file"
            )
    return sessions_of_rows((v for _, v in lines), lines, _is_answer, made, "answer of a batch")


class _Requests:
    """The requests that stand in files beside the answers: where each is, so that few of them are in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, tuple[Path, int]] | None = None

    def of(self, id: str | None) -> tuple[Any, str | None]:
        """The body of a request, and the path that it is for; None where it is nowhere."""
        if id is None:
            return None, None
        if self._places is None:
            self._places = dict(self._found())
        if id not in self._places:
            return None, None
        file, place = self._places[id]
        with file.open("rb") as opened:
            opened.seek(place)
            asked = _asked(obj(loads(opened.readline())))
        return (asked[1], asked[2]) if asked is not None else (None, None)

    def _found(self) -> Iterator[tuple[str, tuple[Path, int]]]:
        for file in peek.files_in(self._path.parent, "*.jsonl"):
            try:
                with file.open("rb") as opened:
                    if file == self._path or _asked(first_row(opened.read(65536))) is None:
                        continue
            except OSError:  # not ours to read
                continue
            for place, value in Lines(file):
                if (asked := _asked(obj(value))) is not None:
                    yield asked[0], (file, place)


def _session(path: Path, requests: _Requests, row: dict[str, Any], key: str, count: int) -> Session:
    answer = _answer(row) or _Answer(None, None, None, None, None, None, ())
    request, url = (answer.request, None) if answer.request is not None else requests.of(answer.id)
    spoken = dialects.of_path(url) if url else None
    name = answer.dialect or (spoken.NAME if spoken is not None else None)
    dialect = dialects.of_response(answer.response, name) if answer.response is not None else dialects.get(name)
    created = obj(answer.response).get("created", obj(answer.response).get("created_at", obj(answer.response).get("createTime")))
    when = parse_time(created)
    session = Session(NAME, key, count, started=when)
    prompt = dialect.messages(request) if isinstance(request, dict) else []
    said = [content_text(m.get("content")) for m in prompt if m.get("role") == "user"]
    model = (
        text(obj(answer.response).get("model"))
        or text(obj(answer.response).get("modelVersion"))
        or text(obj(request).get("model"))
    )
    source = {"format": NAME, "path": path.name, "request": answer.id, **without(row, *answer.fields)}
    session.add(
        Start(task=next((t for t in said if t), None), model=model, metadata={"source": source}, source_time=when), "start"
    )
    session.add(StepStart(step=0, observation=said[-1] if said else None), "step")
    stated = dialect.stated(answer.response) if isinstance(answer.response, dict) else None
    usage = dialect.usage(stated) if isinstance(stated, dict) else None
    choices = dialect.choices(answer.response) if isinstance(answer.response, dict) and answer.error is None else []
    call = LLMCall(
        step=0,
        origin="wire",
        dialect=dialect.NAME,
        model=model,
        request=request,
        response=answer.response,
        usage=stated if isinstance(stated, dict) else None,
        prompt_tokens=usage.prompt if usage is not None else None,
        completion_tokens=usage.completion if usage is not None else None,
        finish_reason=choices[0].finish_reason if choices else None,
        reasoning=choices[0].reasoning if choices else None,
        status_code=answer.status,
        error=answer.error,
        source_time=when,
    )
    call = session.add(call, "call")
    for number, one in enumerate(one for choice in choices[:1] for one in choice.tool_calls):
        given = one.arguments if one.custom else arguments(one.arguments)
        place: dict[str, Any] = {"step": 0, "source_time": when, "llm_call": call.id, "tool_call_id": text(one.id)}
        session.add(Action(name=one.name, arguments=given, **place), "action", number)
    status: Status = "completed" if answer.error is None else "failed"
    session.add(End(status=status, answer=(choices[0].text or None) if choices else None, error=answer.error), "end")
    if request is None:
        session.warn("answers whose request is in no file beside this one")
    return session
