"""Rows of smolagents' benchmark runs: `question`, `answer`, `intermediate_steps` (the agent's memory as messages) a line.

A `tool-call` message holds the calls of the answer before it as text, a `tool-response` what came of them. A row states its
tokens as totals alone.

Source: huggingface/smolagents, examples/smolagents_benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...shape import arguments, content_text, dicts, integer, literal, obj, text, without
from ...types import End, Start
from ..session import Session, parse_time
from ..transcript import Transcript
from .benchmarks import first_row, sessions

NAME = "smolagents"
SURE = 30  # words that a file of another format may quote


def recognise(path: Path, head: bytes) -> bool:
    """A row with `intermediate_steps` and a question."""
    row = first_row(head)
    return {"intermediate_steps", "question"} <= row.keys() or (
        not row and b'"intermediate_steps"' in head and b'"question"' in head
    )


def read(path: Path) -> Iterator[Session]:
    """A session per row. Raises InvalidInput where there is none."""
    yield from sessions(path, lambda r: "intermediate_steps" in r, partial(_session, path), "row with intermediate_steps")


def _session(path: Path, row: dict[str, Any], key: str, count: int) -> Session:
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
