"""The one way in: what becomes of everything that is recorded, added, imported, scored or judged before it is a line on disk.

A record is redacted, placed (id, order, time), packed, and handed to the operating system, in this order and under one lock.
Whoever writes, by whatever door, writes by a `Writer`.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..codec import encode, encode_record, record_to_dict
from ..errors import NotFound, StoreError
from ..handmade import placed_records
from ..packing import Packer
from ..redact import History, Redactor
from ..types import AnyRecord, LLMCall
from .journal import Journal

if TYPE_CHECKING:  # who only records reads nothing
    from .reader import Reader

_WRITE = 1 << 20  # bytes of records that are added in one write


class Writer:
    """Writes the records of one trajectory from this process.

    `after`: the time of the last record that is known of the trajectory. What is written now is later, whatever this host's clock
    says.
    """

    __slots__ = ("_after", "_generation", "_history", "_packer", "id", "journal")

    def __init__(self, journal: Journal, trajectory: str, after: int = 0) -> None:
        self.journal: Journal = journal
        self.id: str = trajectory
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
            id = id or journal.new_id(now)
            record: dict[str, Any] = {"kind": kind, "id": id, "trajectory": self.id, "seq": seq, "time": now}
            if parent is not None:
                record["parent"] = parent
            if agent is not None:
                record["agent"] = agent
            if step is not None:
                record["step"] = step
            if kind == "llm_call":
                return id, self._call(record, fields)
            data = encode_record(record, fields)
            if kind == "step" and not fields:
                journal.hold(data)
            else:
                journal.append(data)
            return id, data

    def _redacted(
        self, redactor: Redactor, kind: str, fields: dict[str, Any], agent: str | None
    ) -> tuple[dict[str, Any], str | None]:
        with self.journal.lock:
            if self._history is None:
                self._history = History()
            fields, _ = redactor.fields(kind, fields, self._history)
            return fields, agent if agent is None else redactor.text(agent, Counter())

    def _call(self, record: dict[str, Any], fields: dict[str, Any]) -> bytes:
        journal = self.journal
        packer = self._packer
        if packer is None or self._generation != journal.generation:
            packer = Packer(self.id, journal.new_stream)
            self._generation = journal.generation
        self._packer = None  # until the lines are with the operating system, what they hold is not known to be there
        lines: list[bytes] = []
        lines.append(encode_record(record, packer.pack((record.get("agent"), fields.get("purpose")), fields, lines)))
        data = b"".join(lines) if len(lines) > 1 else lines[0]
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
            data = bytearray()  # and no list of lines: each keeps the buffer that its encoder made, however short it is
            for record in records:
                fields = record_to_dict(record)
                if isinstance(record, LLMCall):
                    lines: list[bytes] = []
                    fields = packer.pack((record.agent, record.purpose), fields, lines)
                    data += b"".join(lines)
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
                data += encode(fields)
                data += b"\n"
                if len(data) > _WRITE:
                    self._append(bytes(data))
                    data = bytearray()
            if data:
                self._append(bytes(data))

    def _append(self, data: bytes) -> None:
        journal = self.journal
        journal.append(data)
        if journal.failure is not None:
            raise StoreError(f"the store can't be written: {journal.failure.strerror or journal.failure}")


def redact(journal: Journal, records: list[AnyRecord]) -> list[AnyRecord]:
    """Complete records of one trajectory, without secrets if the store redacts."""
    if journal.redactor is None:
        return records
    history = History(raw=False)
    return [journal.redactor.record(record, history) for record in records]


def add(journal: Journal, reader: Reader, records: list[AnyRecord], withdrawn: frozenset[str] = frozenset()) -> tuple[str, int]:
    """A trajectory that was made elsewhere: what of it the store has not is written. Its id, and how many records were new.
    `withdrawn`: ids of records that are not of it any more.

    Raises InvalidInput, StoreError.
    """
    placed = redact(journal, placed_records(records))  # before it is compared with what is there
    id = placed[0].trajectory
    new, after = placed, 0
    with suppress(NotFound):
        from .comparing import changes

        new, after = reader.look_at(id, lambda lines: changes(lines, placed, withdrawn))
    if new:
        Writer(journal, id, after).add(new, redacted=True)
    return id, len(new)
