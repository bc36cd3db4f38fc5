"""The tables of the sealed tier: their columns, lines <-> rows of `records`, and what a record is in `facts`. Knows no files.

A row of `records` says what its line said: what a column can't hold exactly stays in `body`. So sealing changes no trajectory.
"""

from __future__ import annotations

import base64
import hashlib
from array import array
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from ..codec import encode
from ..columns import BASE, message_line, message_row, record_line, record_row
from ..tables.schema import Column, Encoding, Table
from ..types import AnyRecord

#: A line that could not be read, kept as it was.
DAMAGED = "damaged"
_ALSO = {"name": str}
_APART = (b'{"kind":"message"', b'{"kind":"ids"')

_BASE_DOCS: dict[str, tuple[str, Encoding]] = {
    "trajectory": ("The trajectory's id. Rows of one trajectory stand together.", "names"),
    "seq": ("Counts up in each writer of a trajectory, with gaps.", "delta"),
    "time": ("When the record was written: nanoseconds since 1970, UTC. The order is (time, writer, seq).", "delta"),
    "writer": ("The process that wrote the record.", "names"),
    "id": ("The record's id, a UUIDv7.", "delta"),
    "parent": ("The record inside of which this one happened.", "delta"),
    "agent": ("Who acted.", "names"),
    "step": ("The index of the step, counted per agent.", "delta"),
    "source_time": ("When it happened, where that was not when it was written: nanoseconds since 1970, UTC.", "delta"),
    "supersedes": ("The id of the record that this record corrects.", "plain"),
}

RECORDS = Table(
    "records",
    "A row per record, and per message or run of token ids that the calls of a model refer to, in the order of writing.",
    (
        (
            Column(
                "kind",
                "text",
                "start, step, context, llm_call, action, reward, edit, label, note, end; message, ids; damaged.",
                "names",
            ),
            *(Column(name, "text" if of is str else "int", *_BASE_DOCS[name]) for name, of in BASE.items()),
            Column("name", "text", "The name of an action, reward or note.", "names"),
            Column("stream", "int", "Of message and ids: the number of the stream, which calls name in `packed`.", "delta"),
            Column("n", "int", "Of message: its number in the stream. Of ids: the length of the stream before them.", "delta"),
            Column("same", "int", "Of message: the number of an earlier, equal message of the stream.", "plain"),
            Column(
                "hash", "text", "Of message: its hash where that is not the first 32 hex digits of SHA-256 of `body`.", "plain"
            ),
            Column("ids", "ids", "Of ids: token ids."),
            Column(
                "logprobs", "floats", "Of llm_call: logprobs given beside the answer, where 32 bits hold each exactly.", "split"
            ),
            Column("logprobs_exact", "doubles", "Of llm_call: logprobs given beside the answer, where 32 bits don't hold them."),
            Column("stream_writer", "text", "Whose streams a call refers to, where that is not `writer`.", "names"),
            Column("schema_version", "int32", "The version of the record's fields.", "names"),
            Column("body", "text", "All the rest, as JSON: the other fields of a record; a message itself."),
        ),
    ),
)

FACTS = Table(
    "facts",
    "A narrow row per record: what people filter and aggregate.",
    (
        (
            Column("trajectory", "text", "The trajectory's id.", "names"),
            Column("group_name", "text", "The group of the trajectory: attempts that are compared with each other.", "names"),
            Column("agent", "text", "Who acted.", "names"),
            Column("kind", "text", "start, step, context, llm_call, action, reward, edit, label, note or end.", "names"),
            Column("step", "int32", "The index of the step, counted per agent.", "delta"),
            Column(
                "name",
                "text",
                "Of action, reward: its name; context: provider; label: technique; llm_call: purpose; end: status.",
                "names",
            ),
            Column("model", "text", "Of llm_call: the model that was asked.", "names"),
            Column("ok", "bool", "Whether an action, call or context worked, or a trajectory was completed; null: not known."),
            Column("value", "double", "Of reward: its value; of label: its score. Null: not known."),
            Column("author", "text", "Who gave a reward, label or edit.", "names"),
            Column("prompt_tokens", "int", "Of llm_call: tokens of the prompt, as the backend states them.", "names"),
            Column("completion_tokens", "int", "Of llm_call: tokens of the answer.", "names"),
            Column("cost", "double", "Of llm_call: what it cost, as the caller or the backend states it.", "names"),
            Column("time", "time", "When it happened; where only that is known, when it was written.", "delta"),
            Column("duration", "double", "Of llm_call, action, context: how long it took, in seconds."),
            Column("replaced", "bool", "Whether a later record that was sealed with it corrects it (a retried call, for one)."),
        ),
    ),
)

#: Columns of the catalog's table of trajectories that the table `trajectories` has too, by the catalog's name.
SUMMARY: dict[str, Column] = {
    "id": Column("id", "text", "The trajectory's id, a UUIDv7.", "alike"),
    "task": Column("task", "text", "The task, as JSON.", "names"),
    "agent": Column("agent", "text", "Who tried it.", "names"),
    "model": Column("model", "text", "The model that was named when it began.", "names"),
    "first_model": Column("first_model", "text", "The model of its first call.", "names"),
    "status": Column("status", "text", "completed, failed, timeout, cancelled or truncated; null: it has no end.", "names"),
    "steps": Column("steps", "int", "Steps in it.", "names"),
    "llm_calls": Column("llm_calls", "int", "Calls of models in it.", "names"),
    "actions": Column("actions", "int", "Actions in it.", "names"),
    "prompt_tokens": Column("prompt_tokens", "int", "Tokens of all prompts, where calls state them.", "delta"),
    "completion_tokens": Column("completion_tokens", "int", "Tokens of all answers, where calls state them.", "delta"),
    "stated_prompt": Column("stated_prompt", "int", "Tokens of all prompts, as an imported session states them."),
    "stated_completion": Column("stated_completion", "int", "Tokens of all answers, as an imported session states them."),
    "stated_calls": Column("stated_calls", "int", "Calls of models, as an imported session states them."),
    "reward": Column("reward", "double", "The trajectory's reward.", "split"),
    "started": Column("started", "int", "When an imported session began: nanoseconds since 1970, UTC."),
    "ended": Column("ended", "int", "Not used."),
    "start_time": Column("start_time", "int", "When its start was recorded: nanoseconds since 1970, UTC.", "delta"),
    "end_time": Column("end_time", "int", "When its end was recorded: nanoseconds since 1970, UTC.", "delta"),
    "end_source": Column("end_source", "int", "When an imported session ended: nanoseconds since 1970, UTC."),
    "grp": Column("group_name", "text", "The group: attempts that are compared with each other.", "names"),
    "tags": Column("tags", "text", "Tags, as a JSON list.", "names"),
    "policy_version": Column("policy_version", "text", "The version of the policy, as JSON.", "names"),
    "fork": Column("fork", "text", "Where it left its parent trajectory, as JSON."),
    "source": Column("source", "text", "Where an imported session came from, as JSON."),
    "error": Column("error", "text", "What went wrong, as JSON."),
    "task_id": Column("task_id", "text", "Of a run of the runtime: the task's id.", "names"),
    "attempt": Column("attempt", "int", "Of a run of the runtime: which of several attempts it is.", "names"),
    "scenario": Column("scenario", "text", "`scenario` of the metadata.", "names"),
    "replay": Column("replay", "int", "1: it repeats another trajectory (`replay_of` of the metadata).", "names"),
    "first": Column(
        "first", "int", "When its first record was written, where that is not `start_time`: nanoseconds since 1970, UTC.", "delta"
    ),
    "last": Column(
        "last", "int", "When its last record was written, where that is not `end_time`: nanoseconds since 1970, UTC.", "delta"
    ),
    "writer": Column("writer", "text", "The process that was last at work on it.", "names"),
    "root": Column("root", "text", "The id of the record inside of which all others are.", "alike"),
    "rewards": Column(
        "rewards", "text", "Its rewards that stand, as JSON for Odograph's own catalog; `facts` has them as columns.", "alike"
    ),
    "uses": Column("uses", "text", "Its actions, contexts and models with their counts, as a JSON list.", "names"),
    "revision": Column(
        "revision", "int", "How often it was sealed; of several rows the one with the highest number counts.", "names"
    ),
}

TRAJECTORIES = Table(
    "trajectories",
    "A row per trajectory: its summary, and where its rows of `records` are. Of several rows of an id the last revision counts.",
    (
        (
            *SUMMARY.values(),
            Column("files", "texts", "Files of `records` that hold its rows, one for each run of rows.", "names"),
            Column("groups", "ids", "Of each run: which row group of the file."),
            Column("offsets", "ids", "Of each run: its first row in the row group."),
            Column("rows", "ids", "Of each run: how many rows."),
        ),
        (
            Column("reward_names", "text", "The names of its rewards, as a JSON list.", "names"),
            Column(
                "reward_values", "doubles", "The value that counts under each of these names, before its weight; null: `reward`."
            ),
        ),
    ),
    version=4,  # from 2 on `first` and `last` are null where they repeat another time; from 4 on `rewards` refers to `end_time`
)
TABLES: dict[str, Table] = {t.name: t for t in (RECORDS, FACTS, TRAJECTORIES)}


# --- lines <-> rows -------------------------------------------------------------------------------------------------


def row_of(line: bytes, writer: str, version: int) -> dict[str, Any]:
    """The row of a line of a journal file of this writer."""
    row: dict[str, Any] = dict.fromkeys(RECORDS.names)
    row["schema_version"] = version
    if line.startswith(_APART):
        with suppress(KeyError, TypeError):  # a field that is not there is None, which is of the wrong type
            row.update(message_row(line))
        row["writer"] = writer
        body = row["body"]
        whole = all(row[name] is None or _whole(row[name], 63) for name in ("stream", "n", "same"))
        if not whole or not isinstance(row["hash"], str | None) or not isinstance(row["trajectory"], str):
            raise msgspec.ValidationError("a message or a list of ids lacks a field, or has a field of the wrong type")
        if row["kind"] == "message" and row["hash"] is None:
            row["hash"] = ""
        elif row["kind"] == "message" and body is not None and row["hash"] == _hash(body):
            row["hash"] = None
        return row
    row.update(record_row(line, _ALSO))
    given = row["logprobs"]
    if given is not None and not _single(given):
        row["logprobs"], row["logprobs_exact"] = None, given
    if row["writer"] is None:
        row["writer"] = writer
    elif row["writer"] != writer:
        row["stream_writer"] = writer
    return row


def line_of(row: Mapping[str, Any]) -> tuple[str, int, bytes]:
    """(writer of the journal file, version, line) that a row was made of. Raises msgspec.DecodeError where it is damaged."""
    writer, version = row["stream_writer"] or row["writer"] or "", row["schema_version"]
    if row["kind"] in ("message", "ids"):
        if row["kind"] == "message" and row["hash"] is None and row["body"] is not None:
            row = {**row, "hash": _hash(row["body"])}
        return writer, version, message_line(row)
    if row["logprobs_exact"] is not None:
        row = {**row, "logprobs": row["logprobs_exact"]}
    return writer, version, record_line(row, _ALSO)


def damaged_row(file: str, offset: int, reason: str, line: bytes, *, torn: bool = False) -> dict[str, Any]:
    """The row that keeps a line which can't be read."""
    kept = {"file": file, "offset": offset, "reason": reason, "torn": torn, "bytes": base64.b64encode(line).decode()}
    return {**dict.fromkeys(RECORDS.names), "trajectory": "", "kind": DAMAGED, "body": encode(kept).decode(), "schema_version": 1}


def _hash(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:32]


def _single(values: list[float | None]) -> bool:
    """Whether 32 bits hold each number exactly."""
    known = [v for v in values if v is not None]
    return array("f", known).tolist() == known


# --- facts ----------------------------------------------------------------------------------------------------------

_NAMES = {"action": "name", "reward": "name", "note": "name", "context": "provider", "label": "technique", "llm_call": "purpose"}
_NAMES |= {"end": "status"}


def fact_of(record: AnyRecord, group: str | None, agent: str | None) -> dict[str, Any]:
    """The row of a record in `facts`, in a trajectory of this group whose agent is `agent`."""
    kind = str(record.__struct_config__.tag)

    def get(name: str) -> Any:
        return getattr(record, name, None)

    when = record.time if record.source_time is None else record.source_time
    ok = None
    if kind == "action":
        ok = get("ok") if get("ok") is not None or get("error") is None else False
    elif kind in ("llm_call", "context"):
        ok = get("error") is None
    elif kind == "end":
        ok = get("status") == "completed"
    value = get("score") if kind == "label" else get("value") if kind == "reward" else None
    return {
        "trajectory": record.trajectory,
        "group_name": group,
        "agent": _text(record.agent or agent),
        "kind": kind,
        "step": record.step if _whole(record.step, 31) else None,
        "name": _text(get(_NAMES[kind])) if kind in _NAMES else None,
        "model": _text(get("model")) if kind == "llm_call" else None,
        "ok": ok,
        "value": _number(value),
        "author": _text(get("author")),
        **{n: v if _whole(v := get(n), 63) else None for n in ("prompt_tokens", "completion_tokens")},
        "cost": get("cost"),
        "time": when // 1000 if _whole(when, 63) else None,
        "duration": d / 1e9 if _whole(d := get("duration"), 63) else None,
        "replaced": False,
    }


def _number(value: Any) -> float | None:
    """A finite number, else None."""
    try:
        found = float(value) if type(value) in (int, float) else None
    except OverflowError:
        return None
    return found if found is not None and abs(found) < float("inf") else None


def _whole(value: Any, bits: int) -> bool:
    return type(value) is int and -(1 << bits) <= value < 1 << bits


def _text(value: Any) -> str | None:
    """A text that UTF-8 can hold."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


# --- for strangers --------------------------------------------------------------------------------------------------


def columns_as_text() -> str:
    """What the tables are, with all their columns, as Markdown."""
    parts = []
    for table in TABLES.values():
        rows = "\n".join(f"| `{c.name}` | {_KINDS[c.type]} | {c.doc} |" for c in table.columns)
        parts.append(f"## {table.name}\n\n{table.doc}\n\n| column | type | |\n|---|---|---|\n{rows}\n")
    return "\n".join(parts)


_KINDS = {"text": "text", "int": "int64", "int32": "int32", "double": "double", "float": "float", "bool": "bool"}
_KINDS |= {"time": "timestamp, UTC", "texts": "list of text", "ids": "list of int32", "doubles": "list of double"}
_KINDS |= {"floats": "list of float"}

README = f"""# Sealed trajectories of Odograph

Odograph is the system of record for the trajectories of LLM agents. This folder is the sealed part of a store: three tables of
Parquet files, one folder each, which DuckDB, Polars, pandas, Daft, Spark and `datasets` read. Every column says in the file's
schema what it holds. `commits.sqlite` says which files count: a file in no commit is to be left out, and so is one that a later
commit took out.

    select * from read_parquet('facts/*.parquet')

Two files of a table can both be there for a while after `store.compact()`. Who reads the files by their names reads them then
twice; `odograph sql` does not.

{columns_as_text()}"""
