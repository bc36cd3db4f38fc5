"""Runs of smolagents: `RunResult.dict()`, an object or a line each; the steps of a memory (`memory.get_full_steps()`), a list;
and rows of its benchmark: `question`, `answer`, `intermediate_steps` (the memory as messages) a line.

A step of a run holds the messages that the model was sent, what it answered, and one text of what all of its tools gave. In a row
of the benchmark, a `tool-call` message holds the calls of the answer before it as text, a `tool-response` what came of them; a
row states its tokens as totals alone.

Source: huggingface/smolagents 1.26, `smolagents.memory` and `RunResult`; examples/smolagents_benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...codec import loads
from ...shape import arguments, content_text, dicts, integer, literal, number, obj, text, without
from ...types import End, Note, Start, Status
from .. import peek
from ..session import Session, parse_time
from ..transcript import Transcript
from .benchmarks import first_row, sessions

NAME = "smolagents"
SURE = 30  # words that a file of another format may quote


def recognise(path: Path, head: bytes) -> bool:
    """A row with `intermediate_steps` and a question, a run with its steps, or a list that begins with a task and has steps."""
    row = first_row(head)
    if {"intermediate_steps", "question"} <= row.keys() or (
        not row and b'"intermediate_steps"' in head and b'"question"' in head
    ):
        return True
    root, keys = peek.keys(head)
    if root == "[":
        return bool(keys & {"task_images", "system_prompt"}) and b'"model_input_messages"' in head
    return {"output", "state"} <= keys and bool(keys & {"steps.task", "steps.step_number", "steps.system_prompt"})


def read(path: Path) -> Iterator[Session]:
    """A session per row or run. Raises InvalidInput where there is none."""
    with path.open("rb") as file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    steps = dicts(loads(path.read_bytes())) if start.startswith(b"[") else []
    if steps and not any(map(_is_row, steps)):
        yield _run(path, {"steps": steps})
        return
    yield from sessions(path, _is_row, partial(_session, path), "row with intermediate_steps, and no run with steps")


def _is_row(row: dict[str, Any]) -> bool:
    return "intermediate_steps" in row or isinstance(row.get("steps"), list)


def _run(path: Path, run: dict[str, Any], count: int = 1) -> Session:
    """A run with its steps. Until it has a result, it may be written again with more of them."""
    steps = dicts(run.get("steps"))
    began = [parse_time(number(obj(s.get("timing")).get("start_time"))) for s in (*steps, run)]
    started = next((t for t in began if t is not None), None)
    task = next((s["task"] for s in steps if "task" in s), None)
    session = Session(NAME, task, started, count, started=started)
    about = without(run, "steps", "output", "state", "timing", "token_usage")
    metadata = {"source": {"format": NAME, "path": path.name, **{k: v for k, v in about.items() if v is not None}}}
    session.add(Start(task=task, agent="smolagents", metadata=metadata, source_time=started), "start")
    transcript = Transcript(session)
    answer: Any = None
    over = False
    for step in steps:
        if "model_input_messages" in step:
            _step(transcript, step)
        over = bool(step.get("is_final_answer")) or over
        answer = step.get("action_output", answer) if step.get("is_final_answer") else answer
    transcript.close()
    if run.get("state") is not None or over:
        status: Status = "truncated" if run.get("state") == "max_steps_error" else "completed"
        stopped = parse_time(number(obj(run.get("timing")).get("end_time")))
        session.add(End(status=status, answer=run.get("output", answer), source_time=stopped), "end")
    return session


def _step(transcript: Transcript, step: dict[str, Any]) -> None:
    said, usage, error = obj(step.get("model_output_message")), obj(step.get("token_usage")), obj(step.get("error"))
    when = parse_time(number(obj(step.get("timing")).get("start_time")))
    transcript.sent([_message(message) for message in dicts(step.get("model_input_messages"))], when)
    asked = dicts(said.get("tool_calls"))
    if not said:
        transcript.session.add(Note(name="error", data=error or step, source_time=when))
        return
    calls = [{"id": c.get("id"), "type": "function", "function": without(obj(c.get("function")), "description")} for c in asked]
    answer = {"role": "assistant", "content": said.get("content"), **({"tool_calls": calls} if calls else {})}
    call = transcript.replied(
        answer,
        when=when,
        usage=usage or None,
        prompt_tokens=integer(usage.get("input_tokens")),
        completion_tokens=integer(usage.get("output_tokens")),
        extra={k: step[k] for k in ("step_number", "plan") if step.get(k) is not None} or None,
    )
    for ran in [] if asked else dicts(step.get("tool_calls")):  # code that the answer holds
        function = obj(ran.get("function"))
        name, more = str(function.get("name") or ""), {"id": ran["id"]} if text(ran.get("id")) else None
        transcript.acted(name, function.get("arguments"), call=call, when=when, extra=more)
    made = len(asked) or len(dicts(step.get("tool_calls")))
    seen: dict[str, Any] = {"result": step.get("observations"), **({"ok": False, "error": error} if error else {})}
    if made:
        transcript.next_result(**seen)
    if made > 1:
        transcript.session.warn("several tools with one common text as result: the first tool has the text")
    if error and not made:
        transcript.session.add(Note(name="error", data=error, step=transcript.step, source_time=when))


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """A message of a memory as it is sent: what tools were asked is the assistant's there, and what they gave is the user's."""
    role = {"tool-call": "assistant", "tool-response": "user"}.get(str(message.get("role")), message.get("role"))
    content = message.get("content")
    plain = dicts(content) and all(part.keys() == {"type", "text"} for part in dicts(content))
    return {"role": role, "content": content_text(content) if plain else content}


def _session(path: Path, row: dict[str, Any], key: str, count: int) -> Session:
    if "intermediate_steps" not in row:
        return _run(path, row, count)
    started = parse_time(float(t) if isinstance(t := row.get("start_time"), str) and t.replace(".", "", 1).isdigit() else t)
    session = Session(NAME, key, count, started=started)
    model = text(row.get("model_id"))
    used = obj(literal(row.get("token_counts")))
    totals = {"prompt_tokens": integer(used.get("input_tokens")), "completion_tokens": integer(used.get("output_tokens"))}
    source = {"format": NAME, "path": path.name, **without(row, "intermediate_steps", "question", "answer", "model_id")}
    source["totals"] = {k: v for k, v in totals.items() if v is not None}
    start = Start(
        task=row.get("question"),
        agent="smolagents",
        model=model,
        group=text(row.get("original_question")),
        metadata={"source": source},
        source_time=started,
    )
    session.add(start, "start")
    transcript = Transcript(session, model=model)
    call = None
    for step in dicts(literal(row.get("intermediate_steps"))):
        role, said = step.get("role"), content_text(step.get("content"))
        if role == "assistant":
            call = transcript.replied({"role": "assistant", "content": said})
        elif role == "tool-call":
            transcript.history.append({"role": "assistant", "content": said})
            for asked in dicts(literal((said or "").partition("\n")[2])):
                function = obj(asked.get("function"))
                given = arguments(function.get("arguments"))
                transcript.acted(str(function.get("name") or ""), given, id=text(asked.get("id")), call=call)
        else:
            transcript.saw(
                {"role": "user" if role == "tool-response" else role, "content": said},
                observed=role != "system",
                noted=role == "tool-response",
            )
            if role == "tool-response":
                result = (said or "").removeprefix("Observation:\n")
                transcript.next_result(result=result, extra={"content": said} if result != said else None)
    transcript.close()
    failed, stopped = row.get("agent_error") or row.get("error"), parse_time(row.get("end_time"))
    end = End(status="failed" if failed else "completed", answer=row.get("answer"), error=failed or None, source_time=stopped)
    session.add(end, "end")
    return session
