"""Inspect logs: `.eval` (a zip of `header.json` and `samples/*.json`) and `.json`; one trajectory per sample.

Newer zips are compressed with zstd (method 93), newer samples refer to pools of messages and to attachments. Where a log
has model events, each is a call, with the request that crossed the wire where it was logged; else the sample's messages
are what is known. Letter grades count as Inspect's own `value_to_float` counts them; the grade itself is kept.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...codec import content_hash, loads
from ...errors import InvalidInput, MissingExtra
from ...shape import arguments, content_text, dicts, integer, items, number, obj, text, without
from ...types import End, Note, Reward, Start
from ..bounds import limit, too_large
from ..session import Session, parse_time
from ..transcript import Transcript
from .inspect_calls import Agents, call_of, inside, prompt_tokens_of, thought
from .inspect_sample import Sample, chat_message

NAME = "inspect"
_ZSTD = 93
_LIMITS = {"time": "timeout", "working": "timeout", "operator": "cancelled"}  # others cut the sample
_GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
#: Fields of a sample that the records hold.
_HELD = (
    "id", "uuid", "epoch", "input", "target", "metadata", "messages", "output", "scores", "score", "events", "events_data",
    "transcript", "attachments", "message_pool", "call_pool", "model_usage", "started_at", "completed_at", "total_time", "error",
    "error_retries", "limit",
)  # fmt: skip
_SKIPPED = ("model", "span_begin", "span_end", "step", "state", "store", "tool", "sample_init")


def recognise(path: Path, head: bytes) -> bool:
    """A zip with `header.json` or a journal; or JSON with `version`, `status`, `eval`."""
    if head.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as log:
                names = set(log.namelist())
        except (zipfile.BadZipFile, OSError):
            return path.suffix == ".eval"
        return "header.json" in names or "_journal/start.json" in names
    start = head.lstrip()
    return start.startswith(b"{") and b'"eval"' in start[:4096] and b'"status"' in start[:4096] and b'"run_id"' in start[:8192]


def read(path: Path) -> Iterator[Session]:
    """A session per sample. Raises InvalidInput, or MissingExtra for a zstd log without `zstandard`."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    if not zipped:
        log = obj(loads(path.read_bytes()))
        samples = dicts(log.get("samples"))
        if not samples:
            raise InvalidInput(f"an Inspect log without samples; its status is {log.get('status')!r}")
        for sample in samples:
            yield _session(path, log, sample)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            yield from _from_zip(path, archive)
    except zipfile.BadZipFile as error:
        raise InvalidInput(f"a damaged zip: {error}") from None


def _from_zip(path: Path, archive: zipfile.ZipFile) -> Iterator[Session]:
    names = {i.filename: i for i in archive.infolist()}
    header: dict[str, Any] = {}
    for name in ("header.json", "_journal/start.json"):
        if name in names and not header:
            header = obj(loads(_member(path, archive, names[name])))
    samples = sorted(n for n in names if n.startswith("samples/") and n.endswith(".json"))
    if not samples:
        raise InvalidInput("an Inspect log without samples")
    broken: list[str] = []
    for name in samples:
        try:
            sample = obj(loads(_member(path, archive, names[name])))
        except (InvalidInput, zipfile.BadZipFile, OSError, ValueError) as error:
            broken.append(f"{name}: {error}")
            continue
        session = _session(path, header, sample)
        for problem in broken:
            session.warn(f"damaged sample {problem}")
        broken.clear()
        yield session
    if broken:
        raise InvalidInput(f"damaged samples: {'; '.join(broken)}")


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The bytes of a file in the zip. Raises InvalidInput where it is, or says that it is, larger than any log."""
    most = limit(info.compress_size)
    if info.file_size > most:
        raise InvalidInput(too_large(info.filename, f"{info.file_size:,}", info.compress_size))
    if info.compress_type != _ZSTD:
        with archive.open(info) as member:
            data = member.read(most + 1)
        if len(data) > most:
            raise InvalidInput(too_large(info.filename, f"more than {most:,}", info.compress_size))
        return data
    try:
        import zstandard
    except ImportError:
        raise MissingExtra("an Inspect log compressed with zstd", "zstd") from None
    with path.open("rb") as file:  # Python's zipfile knows zstd from 3.14 on
        file.seek(info.header_offset)
        header = file.read(30)
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise InvalidInput(f"{info.filename} is not where the zip says")
        name, extra = struct.unpack("<HH", header[26:30])
        file.seek(name + extra, 1)
        data = file.read(info.compress_size)
    try:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            whole: bytes = reader.read(most + 1)
        if len(whole) > most:
            raise InvalidInput(too_large(info.filename, f"more than {most:,}", info.compress_size))
        return whole
    except zstandard.ZstdError as error:
        raise InvalidInput(str(error)) from None


def _session(path: Path, log: dict[str, Any], sample: dict[str, Any]) -> Session:
    about = obj(log.get("eval"))
    whole = Sample(sample)
    messages = dicts(whole.whole(items(sample.get("messages"))))
    events = list(_flat(dicts(sample.get("events")) or dicts(obj(sample.get("transcript")).get("events"))))
    first = next((t for e in events if (t := parse_time(e.get("timestamp"))) is not None), None)
    given = whole.whole(sample.get("input"))
    task = (
        given
        if isinstance(given, str)
        else next((content_text(m.get("content")) for m in dicts(given) if m.get("role") == "user"), None)
    )
    model = text(about.get("model"))
    identity = (about.get("run_id"), about.get("task_id"), sample.get("id"), sample.get("epoch"), sample.get("uuid"))
    session = Session(NAME, *identity, content_hash(given), started=first)
    for name in ("messages", "events"):
        session.objects(sample, name)
    source: dict[str, Any] = {
        "format": NAME,
        "path": path.name,
        "session": sample.get("uuid") or sample.get("id"),
        "sample": sample.get("id"),
        "epoch": sample.get("epoch"),
        "target": sample.get("target"),
        "eval": without(about, "model"),
        "sample_metadata": sample.get("metadata") or None,
        **{name: value for name, value in without(sample, *_HELD).items() if value not in (None, "", [], {})},
    }
    session.add(
        Start(
            task=task,
            agent=_agent(events) or text(obj(log.get("plan")).get("name")) or "inspect",
            model=model,
            group=f"{about.get('task')}:{sample.get('id')}",
            tags=[t for t in items(about.get("tags")) if isinstance(t, str)],
            metadata={"source": {k: v for k, v in source.items() if v is not None}},
            source_time=parse_time(sample.get("started_at")) or first,
        )
    )
    transcript = Transcript(session, model=model)
    _retried(session, transcript, whole, sample)
    if any(e.get("event") == "model" for e in events):
        asked = [e for e in events if e.get("event") == "model"]
        _events(
            session, transcript, whole, messages, events, list(_scores(sample).values()), asked[-1] if sample.get("limit") else {}
        )
    else:
        _messages(session, transcript, messages)
    _outcome(session, sample, whole, log, events)
    return session


def _agent(events: list[dict[str, Any]]) -> str | None:
    """The name of the agent that all others are inside of. None where there is no such, or several."""
    agents = [e for e in events if e.get("event") == "span_begin" and e.get("type") == "agent"]
    spans = {str(e.get("id")): e for e in events if e.get("event") == "span_begin"}
    names = {text(e.get("name")) for e in agents if not inside(e.get("parent_id"), spans)}
    return names.pop() if len(names) == 1 else None


def _flat(events: list[dict[str, Any]], depth: int = 0) -> Iterator[dict[str, Any]]:
    """The events in order, with those that older logs keep inside of the tool call or subtask that they are of."""
    for event in events:
        yield event
        if depth < 50:
            yield from _flat(dicts(event.get("events")), depth + 1)


def _tool(transcript: Transcript, message: dict[str, Any]) -> None:
    if message.get("role") == "tool":
        error = message.get("error")
        transcript.result(text(message.get("tool_call_id")), result=message.get("content"), ok=error is None, error=error)


def _messages(session: Session, transcript: Transcript, messages: list[dict[str, Any]]) -> None:
    for message in messages:
        if message.get("role") == "assistant":
            extra = without(message, "role", "content", "tool_calls") or None
            transcript.replied(chat_message(message), extra=extra, reasoning=thought(message))
        else:
            transcript.saw(chat_message(message))
            _tool(transcript, message)


def _events(
    session: Session,
    transcript: Transcript,
    whole: Sample,
    messages: list[dict[str, Any]],
    events: list[dict[str, Any]],
    scores: list[Any],
    cut: dict[str, Any],
) -> None:
    """`cut`: the model's event at which a limit ended the sample: its answer is in no message."""
    waiting = [m for m in messages if m.get("role") == "assistant"]
    scoring = 0
    spans: list[bool] = []
    agents = Agents(session, transcript, events)
    observed = [m.get("content") for m in messages if m.get("role") == "user"][:1]
    for event in events:
        kind = event.get("event")
        when = parse_time(event.get("timestamp"))
        if kind in ("span_begin", "step"):
            begins = kind == "span_begin" or event.get("action") == "begin"
            if begins:
                spans.append(event.get("type") in ("scorer", "scorers"))
                scoring += spans[-1]
            elif spans:
                scoring -= spans.pop()
        elif kind == "span_end" and spans:
            scoring -= spans.pop()
        elif kind == "model":
            answer = next((obj(c.get("message")) for c in dicts(obj(event.get("output")).get("choices"))), {})
            mine = None
            if waiting and not scoring and not event.get("error"):
                same = waiting[0].get("id") is not None and waiting[0].get("id") == answer.get("id")
                if same or whole.whole(answer.get("content")) == waiting[0].get("content"):
                    mine = waiting.pop(0)
            if (
                event is cut
                and mine is None
                and not waiting
                and not scoring
                and not event.get("error")
                and not agents.in_tool(event)
            ):
                mine = answer
            inner = agents.of(event) if not scoring else None
            if inner is not None and (mine is None or agents.started(inner, event)):
                agents.replied(inner, event, whole, answer, when)
                continue
            if mine is not None:
                for content in observed:
                    transcript.saw({"role": "user", "content": content})
                observed = []
                transcript.begin(when)
            purpose = "judge" if scoring else "act" if mine is not None or event.get("error") else "other"
            call = call_of(session, transcript, whole, event, when, purpose, transcript.step if mine is not None else None)
            made = dicts(whole.whole(answer.get("tool_calls"))) or (dicts(mine.get("tool_calls")) if mine is not None else [])
            for asked in made if mine is not None else []:  # an agent may take its last call out of the messages
                name = str(asked.get("function") or "")
                transcript.acted(name, arguments(asked.get("arguments")), id=text(asked.get("id")), call=call, when=when)
        elif kind == "tool":
            agents.acted(event, whole)
        elif kind == "score" and event.get("score") in scores and not event.get("intermediate"):
            continue  # it is among the sample's scores
        elif kind not in _SKIPPED:
            data = whole.whole(without(event, "event", "timestamp", "uuid", "span_id", "events"))
            session.add(Note(name=str(kind), data=data, source_time=when))
    agents.end()
    for message in waiting:  # answers that no event tells of
        transcript.begin()
        told: dict[str, Any] = {"request": {}, "extra": {"from": "messages"}, "reasoning": thought(message)}
        call = transcript.replied(chat_message(message), begin=False, **told)
        assert call.step == transcript.step
    for message in messages:
        _tool(transcript, message)


def _scores(sample: dict[str, Any]) -> dict[str, Any]:
    """The scores of a sample by scorer; in 2024 there was one."""
    return obj(sample.get("scores")) or ({"score": sample["score"]} if isinstance(sample.get("score"), dict) else {})


def _retried(session: Session, transcript: Transcript, whole: Sample, sample: dict[str, Any]) -> None:
    """The tries before, which ended with an error: what their models were asked, outside of any step, and the error."""
    for failure in dicts(sample.get("error_retries")):
        for event in _flat(dicts(failure.get("events"))):
            when = parse_time(event.get("timestamp"))
            if event.get("event") == "model":
                call_of(session, transcript, whole, event, when, "other", None)
            elif event.get("event") not in _SKIPPED:
                session.add(Note(name=str(event.get("event")), data=whole.whole(event), source_time=when))
        session.add(Note(name="retry", data=without(failure, "events", "traceback_ansi")))


def _outcome(session: Session, sample: dict[str, Any], whole: Sample, log: dict[str, Any], events: list[dict[str, Any]]) -> None:
    scores = _scores(sample)
    found: list[Reward] = []
    for name, score in scores.items():
        s = obj(whole.whole(score))
        values = s.get("value")
        several = (
            values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else [(None, values)]
        )
        for key, value in several:
            found.append(
                Reward(
                    name=str(name) if key is None else f"{name}.{key}",
                    value=_graded(value),
                    source="function",
                    rationale=text(s.get("explanation")),
                    extra={"value": value, **{k: v for k, v in without(s, "value", "explanation").items() if v}},
                )
            )
    session.score(*((reward, ()) for reward in found))
    used = [obj(u) for u in obj(sample.get("model_usage")).values()]
    metrics: dict[str, Any] = {"model_usage": sample.get("model_usage"), "total_time": sample.get("total_time")}
    if used:
        models = obj(sample.get("model_usage"))
        metrics["prompt_tokens"] = sum(prompt_tokens_of(obj(u), str(model)) or 0 for model, u in models.items())
        metrics["completion_tokens"] = sum(integer(u.get("output_tokens")) or 0 for u in used)
    limit, error = sample.get("limit"), sample.get("error")
    status: Any = "failed" if error else "completed"
    if not error and limit:
        status = _LIMITS.get(str(obj(limit).get("type")), "truncated")
    ended = (parse_time(t) for t in (sample.get("completed_at"), *(e.get("timestamp") for e in reversed(events))))
    stopped = next((t for t in ended if t is not None), None)
    if log.get("status") == "started" and not scores and not sample.get("output"):
        return
    session.add(
        End(
            status=status,
            answer=_completion(obj(whole.whole(sample.get("output")))),
            error=error or limit,
            metrics={k: v for k, v in metrics.items() if v is not None},
            source_time=stopped,
        )
    )


def _completion(output: dict[str, Any]) -> Any:
    """What the sample came to: in older logs the first choice alone says it."""
    said = (content_text(obj(c.get("message")).get("content")) for c in dicts(output.get("choices"))[:1])
    return output["completion"] if "completion" in output else next(said, None)


def _graded(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        if value in _GRADES or value.lower() in _GRADES:
            return _GRADES.get(value, _GRADES.get(value.lower()))
        try:
            return number(float(value))
        except ValueError:
            return None
    return number(value)
