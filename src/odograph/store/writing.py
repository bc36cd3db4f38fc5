"""The one way in: what becomes of everything that is recorded, added, imported, scored or judged before it is a line on disk.

A record is redacted, placed (id, order, time), packed, and handed to the operating system, in this order and under one lock.
Whoever writes, by whatever door, writes by a `Writer`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..codec import encode, encode_fields, record_to_dict
from ..errors import StoreError
from ..handmade import placed_records
from ..packing import Packer
from ..redact import History, Redactor
from ..types import AnyRecord, LLMCall
from .comparing import changes
from .journal import Journal
from .reader import Reader

_WRITE = 1 << 20  # bytes of records that are added in one write


class Writer:
    """Writes the records of one trajectory from this process.

    `after`: the time of the last record that is known of the trajectory. What is written now is later, whatever this host's clock
    says.
    """

    __slots__ = ("_after", "_generation", "_history", "_name", "_packer", "_place", "_where", "id", "journal")

    def __init__(self, journal: Journal, trajectory: str, after: int = 0) -> None:
        self.journal: Journal = journal
        self.id: str = trajectory
        self._name = _json(trajectory)
        #: Where the last record belonged, and how its line says so: what follows usually belongs there too.
        self._place: tuple[str | None, str | None, int | None] = (None, None, None)
        self._where = ""
        self._after = after
        self._packer: Packer | None = None
        self._generation = -1
        self._history: History | None = None

    # --- as it happens -----------------------------------------------------------------------------------------------

    def put(
        self, kind: str, fields: dict[str, Any], parent: str | None, agent: str | None, step: int | None, id: str | None = None
    ) -> tuple[str, bytes]:
        """One record of what just happened, with the operating system when this returns: its id and the lines that were written.

        A write that fails shows in `journal.failure`, and is tried again with the next.
        """
        journal = self.journal
        if journal.redactor is not None:
            fields, agent = self._redacted(journal.redactor, kind, fields, agent)
        with journal.lock:
            now, seq = journal.stamp()
            if now <= self._after:
                now = self._after = self._after + 1
            if id:
                name = _json(id)
            else:
                id = journal.new_id(now)
                name = f'"{id}"'
            if (parent, agent, step) != self._place:
                self._belongs(parent, agent, step)
            # content never stands in the head of a line, so the head is filled in and not encoded
            head = f'{{"kind":"{kind}","id":{name},"trajectory":{self._name},"seq":{seq},"time":{now}{self._where}'.encode()
            if kind == "llm_call":
                return id, self._call(head, agent, fields)
            data = head + encode_fields(fields)
            if kind == "step" and not fields:
                journal.hold(data)
            else:
                journal.append(data)
            return id, data

    def _belongs(self, parent: str | None, agent: str | None, step: int | None) -> None:
        where = "" if parent is None else f',"parent":{_json(parent)}'
        if agent is not None:
            where += f',"agent":{_json(agent)}'
        if step is not None:
            where += f',"step":{step}'
        self._place, self._where = (parent, agent, step), where

    def _redacted(
        self, redactor: Redactor, kind: str, fields: dict[str, Any], agent: str | None
    ) -> tuple[dict[str, Any], str | None]:
        with self.journal.lock:
            if self._history is None:
                self._history = History()
            fields, _ = redactor.fields(kind, fields, self._history)
            return fields, agent if agent is None else redactor.text(agent, Counter())

    def _call(self, head: bytes, agent: str | None, fields: dict[str, Any]) -> bytes:
        journal = self.journal
        packer = self._packer
        if packer is None or self._generation != journal.generation:
            packer = Packer(self.id, journal.new_stream)
            self._generation = journal.generation
        self._packer = None  # until the lines are with the operating system, what they hold is not known to be there
        lines: list[bytes] = []
        fields = packer.pack((agent, fields.get("purpose")), fields, lines)
        lines += (head, encode_fields(fields))
        data = b"".join(lines)
        journal.append(data)
        self._packer = packer
        return data

    # --- what is complete already ------------------------------------------------------------------------------------

    def add(self, records: list[AnyRecord], *, redacted: bool = False) -> None:
        """Complete records. Those without a time were made now, in this order. Records that fit into 1 MB are one write: a
        process that is killed has written all of them, or none. `redacted`: they went through `redact` already. Raises
        StoreError."""
        journal = self.journal
        if not redacted:
            records = redact(journal, records)
        packer = Packer(self.id, journal.new_stream, immutable=True)
        with journal.lock:
            lines: list[bytes] = []
            size = 0
            for record in records:
                fields = record_to_dict(record)
                before = len(lines)
                if isinstance(record, LLMCall):
                    fields = packer.pack((record.agent, record.purpose), fields, lines)
                if not record.time:
                    now, seq = journal.stamp()
                    if now <= self._after:
                        now = self._after = self._after + 1
                    fields |= {
                        "id": record.id or journal.new_id(now),
                        "trajectory": self.id,
                        "seq": seq,
                        "time": now,
                    }
                    fields.pop("writer", None)
                lines.append(encode(fields) + b"\n")
                size += sum(map(len, lines[before:]))
                if size > _WRITE:
                    self._append(lines)
                    lines, size = [], 0
            if lines:
                self._append(lines)

    def _append(self, lines: list[bytes]) -> None:
        journal = self.journal
        journal.append(b"".join(lines))
        if journal.failure is not None:
            raise StoreError(f"the store can't be written: {journal.failure.strerror or journal.failure}")


def _json(value: str) -> str:
    return encode(value).decode()


def redact(journal: Journal, records: list[AnyRecord]) -> list[AnyRecord]:
    """Complete records of one trajectory without secrets, where the store redacts."""
    if journal.redactor is None:
        return records
    history = History(raw=False)
    return [journal.redactor.record(record, history) for record in records]


def add(journal: Journal, reader: Reader, records: list[AnyRecord]) -> tuple[str, int]:
    """A trajectory that was made elsewhere: what of it the store has not is written. Its id, and how many records were new.

    Raises InvalidInput, StoreError.
    """
    placed = redact(journal, placed_records(records))  # before it is compared with what is there
    id = placed[0].trajectory
    existing = reader.known(id)
    new, after = placed, 0
    if existing is not None:
        new, after = changes(existing, placed), max(record.time for record in existing.records)
    if new:
        Writer(journal, id, after).add(new, redacted=True)
    return id, len(new)
