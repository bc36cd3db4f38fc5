"""Tables of our own records: Arrow schemas, derived from types, and lines <-> rows. Arrow is imported when one is asked for.

A record's row has what all records have as columns, the logprobs that were given beside an answer, and in `body` the JSON of
all the rest: also of a field whose column can't hold it exactly (a number beyond 64 bits, a tagged text). So a row says
what its line says, whatever was in it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from .errors import MissingExtra
from .types import SCHEMA_VERSION, Record, Start

_FIRST = ("trajectory", "seq", "time", "writer")  # the order of a trajectory
_TEXT, _NUMBER = (str, str | None), (int, int | None)


def _plain(of: type[Record], but: type[Record] | None = None) -> dict[str, type[str] | type[int]]:
    """The fields of a record that are text or whole numbers; without those of `but`."""
    known = but.__struct_fields__ if but else ()
    found = {f.name: f.type for f in msgspec.structs.fields(of) if f.name not in known}
    return {n: str if t in _TEXT else int for n, t in found.items() if t in _TEXT or t in _NUMBER}


_BASE = _plain(Record)
_BASE = {n: _BASE[n] for n in (*_FIRST, *_BASE)}
_START = _plain(Start, Record)
_BIG = 1 << 63
_POOL = "ARROW_DEFAULT_MEMORY_POOL"
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def arrow(wanted: str = "Parquet") -> Any:
    """The module pyarrow, for what is wanted. Raises MissingExtra.

    With its mimalloc (pyarrow 25.0) the process dies at a later read where the thread that loaded pyarrow has ended, such as that
    of a server's request. So pyarrow that is loaded here allocates by malloc, unless the environment names a pool."""
    chosen = "pyarrow" in sys.modules or _POOL in os.environ
    if not chosen:
        os.environ[_POOL] = "system"  # pyarrow reads it once, while it is loaded
    try:
        import pyarrow
    except ImportError:
        raise MissingExtra(wanted, "lake") from None
    finally:
        if not chosen:
            os.environ.pop(_POOL, None)  # programs that are started have their own
    return pyarrow


def schema_of(columns: Mapping[str, Any]) -> Any:
    """The Arrow schema of named columns: `str`, `int`, `float`, `bool`, "ids" (a list of int32), "floats" (of float64,
    exactly what was recorded), or an Arrow type where it is another."""
    pa = arrow()
    kinds: dict[Any, Any] = {str: pa.large_string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    kinds |= {"ids": pa.list_(pa.int32()), "floats": pa.list_(pa.float64())}
    version = {b"odograph_schema_version": str(SCHEMA_VERSION).encode()}
    return pa.schema([(n, kinds.get(t, t)) for n, t in columns.items()], metadata=version)


def record_schema() -> Any:
    """A row per record, in order."""
    return schema_of({"kind": str, **_BASE, "logprobs": arrow().list_(arrow().float64()), "body": str})


def message_schema() -> Any:
    """A row per message that calls refer to (`n`: its number in the stream) or run of token ids (`n`: where it starts)."""
    return schema_of(
        {
            "kind": str,
            "trajectory": str,
            "stream": int,
            "n": int,
            "hash": str,
            "same": int,
            "ids": arrow().list_(arrow().int32()),
            "body": str,
        }
    )


def trajectory_schema() -> Any:
    """A row per trajectory, for lists and filters; the records hold all of it and more. Times: see `types`."""
    about = {"id": str, "task": str, "agent": str, **_START, "tags": arrow().list_(arrow().large_string()), "metadata": str}
    outcome = {"status": str, "reward": float, "answer": str, "started": int, "duration": float}
    return schema_of({**about, **outcome, "steps": int, "llm_calls": int, "actions": int})


def fits(value: Any, kind: Any) -> bool:
    """Whether a column of text or of whole numbers holds a value exactly."""
    if type(value) is not kind:
        return False
    if isinstance(value, int):
        return -_BIG <= value < _BIG
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


#: What all records have, by name: text or a whole number.
BASE: Mapping[str, type[str] | type[int]] = _BASE


def record_row(line: bytes, also: Mapping[str, type[str] | type[int]] = MappingProxyType({})) -> dict[str, Any]:
    """The row of a record's line. `also`: fields of some kinds that have a column too."""
    rest = _raw(line)
    row: dict[str, Any] = {"kind": msgspec.json.decode(rest.pop("kind")), "logprobs": None}
    for name, kind in {**_BASE, **also}.items() if also else _BASE.items():
        raw = rest.get(name)
        value = None if raw is None else msgspec.json.decode(raw)
        if raw is not None and fits(value, kind):
            del rest[name]
            row[name] = value
        else:
            row[name] = None
    if row["kind"] == "llm_call" and "tokens" in rest:
        tokens = msgspec.json.decode(rest["tokens"])
        given = tokens[0].get("logprobs") if tokens else None
        if given and all(p is None or type(p) is float for p in given):
            row["logprobs"] = tokens[0].pop("logprobs")
            rest["tokens"] = msgspec.Raw(msgspec.json.encode(tokens))
    row["body"] = _joined(rest).decode()
    return row


def _joined(fields: Mapping[str, Any]) -> bytes:
    return b"{" + b",".join([msgspec.json.encode(k) + b":" + bytes(raw) for k, raw in fields.items()]) + b"}"


def record_line(row: Mapping[str, Any], also: Iterable[str] = ()) -> bytes:
    """The line that a record's row was made of. Raises msgspec.DecodeError where its body is no JSON object."""
    body = row["body"].encode()
    if row["logprobs"] is not None:
        rest = _raw(body)
        tokens = msgspec.json.decode(rest["tokens"])
        tokens[0]["logprobs"] = row["logprobs"]
        rest["tokens"] = msgspec.Raw(msgspec.json.encode(tokens))
        body = _joined(rest)
    held = msgspec.json.encode({n: row[n] for n in ("kind", *_BASE, *also) if row[n] is not None})
    before, _, inner = body.partition(b"{")
    if before.strip() or not inner:
        raise msgspec.DecodeError("the body is no JSON object")
    return held[:-1] + (b"," + inner if inner.strip() != b"}" else b"}")


_ID_MOST = (1 << 31) - 1


def message_row(line: bytes) -> dict[str, Any]:
    """The row of a message's or token ids' line."""
    raw = _raw(line)
    row: dict[str, Any] = {"kind": None, "hash": None, "same": None, "ids": None, "body": None}
    for name, value in raw.items():
        if name == "body":
            row["body"] = bytes(value).decode()
        else:
            row["n" if name == "start" else name] = msgspec.json.decode(value)
    if row["ids"] is not None and max(row["ids"]) > _ID_MOST:
        row["ids"], row["body"] = None, bytes(raw["ids"]).decode()
    return row


def message_line(row: Mapping[str, Any]) -> bytes:
    """The line that a message's or token ids' row was made of."""
    names = ("kind", "trajectory", "stream", "n", "hash", "same", "ids")
    fields = {n: row[n] for n in names if row[n] is not None}
    of_ids, body = row["kind"] == "ids", row["body"]
    if of_ids:
        fields["start"] = fields.pop("n")
    line = msgspec.json.encode(fields)
    return line if body is None else line[:-1] + (b',"ids":' if of_ids else b',"body":') + body.encode() + b"}"
