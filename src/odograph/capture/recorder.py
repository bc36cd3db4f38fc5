"""Turns what happened in one trajectory into journal lines, in the caller's thread. Never raises for content or the disk."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..codec import encode_record, new_id
from ..packing import Packer
from ..redact import History, Redactor, withheld
from ..store.journal import Journal
from ..trajectory import Call
from .edits import call_of_lines
from .faults import fault


class Recorder:
    """Writes the records of one trajectory from this process."""

    __slots__ = ("_generation", "_history", "_packer", "agent", "id", "journal", "opened", "silent", "steps", "tap")

    def __init__(self, journal: Journal, trajectory: str, agent: str | None = None) -> None:
        self.journal: Journal = journal
        self.id: str = trajectory
        #: Whose records carry no name of their own.
        self.agent: str | None = agent
        #: Code is at work that was recorded before, up to where it stopped.
        self.silent: bool = False
        #: The next step's index, per agent.
        self.steps: dict[str | None, int] = {}
        #: How many steps there are, of all agents.
        self.opened: int = 0
        #: Where the lines go, too, while somebody follows this trajectory.
        self.tap: list[bytes] | None = None
        self._packer: Packer | None = None
        self._generation = -1
        self._history: History | None = None

    def write(
        self, kind: str, fields: dict[str, Any], parent: str | None, agent: str | None, step: int | None, id: str | None = None
    ) -> tuple[str, bytes]:
        """One record, with the operating system when this returns: its id and the lines that were written."""
        journal = self.journal
        if self.silent:
            return id or new_id(), b""
        try:
            if journal.redactor is not None:
                fields, agent = self._redacted(journal.redactor, kind, fields, agent)
            with journal.lock:
                now = journal.now()
                id = id or journal.new_id(now)
                seq = journal.next_seq()
                record: dict[str, Any] = {"kind": kind, "id": id, "trajectory": self.id, "seq": seq, "time": now}
                if parent is not None:
                    record["parent"] = parent
                if agent is not None:
                    record["agent"] = agent
                if step is not None:
                    record["step"] = step
                if kind == "llm_call":
                    data = self._call(record, fields)
                else:
                    record |= fields
                    data = encode_record(record)
                    journal.append(data)
            if self.tap is not None:
                self.tap.append(data)
            if journal.failure is not None:
                fault(journal.failure)
            return id, data
        except Exception as error:
            fault(error if journal.redactor is None or isinstance(error, OSError) else withheld(error))
            return id or new_id(), b""

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
        record |= packer.pack((record.get("agent"), fields.get("purpose")), fields, lines)
        lines.append(encode_record(record))
        data = b"".join(lines) if len(lines) > 1 else lines[0]
        journal.append(data)
        self._packer = packer
        return data


class CallRef:
    """A call that was just recorded: what actions, edits and rewards refer to."""

    __slots__ = ("_data", "id")

    def __init__(self, id: str, data: bytes) -> None:
        self.id: str = id
        self._data = data

    def __repr__(self) -> str:
        return f"<call {self.id}>"

    @property
    def call(self) -> Call | None:
        """The call as it was recorded, whatever became of the agent's own objects; None where recording failed."""
        return call_of_lines(self._data) if self._data else None


AnyCall = CallRef | Call | str
