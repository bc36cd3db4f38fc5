"""Records what happens in one trajectory, in the caller's thread. Never raises for content or the disk."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..calls import Call
from ..codec import new_id
from ..store import counting
from ..store.journal import Journal
from ..store.writing import Writer
from ..wire import Sent
from .edits import call_of_lines
from .faults import fault


class Recorder(Writer):
    """The writer of one trajectory that is being recorded: counts its steps, and turns what fails into faults."""

    __slots__ = (
        "__weakref__",
        "_counted",
        "_counts",
        "_opened",
        "_shared",
        "_steps",
        "agent",
        "ends",
        "listener",
        "sent",
        "silent",
        "spent",
        "tap",
    )

    def __init__(
        self,
        journal: Journal,
        trajectory: str,
        agent: str | None = None,
        *,
        after: int = 0,
        begun: bool = False,
    ) -> None:
        """`begun`: the trajectory has records. Its steps are counted when one is begun; other processes may take steps, too."""
        super().__init__(journal, trajectory, after)
        #: Whose records carry no name of their own.
        self.agent: str | None = agent
        #: Code is at work that was recorded before, up to where it stopped.
        self.silent: bool = False
        #: Where the lines go, too, while somebody follows this trajectory.
        self.tap: list[bytes] | None = None
        #: What each agent sent last, as it crossed the wire.
        self.sent: dict[str | None, Sent] = {}
        #: Tokens of the calls that were recorded here, prompts and answers.
        self.spent: int = 0
        #: Told of each record as it is written: (kind, fields, agent, step, id, lines).
        self.listener: Callable[[str, dict[str, Any], str | None, int | None, str, bytes], None] | None = None
        #: How often its run was left: what was entered before is over, in whatever task or thread.
        self.ends: int = 0
        self._steps: dict[str | None, int] = {}
        #: Whether other processes may take steps, too.
        self._shared = begun
        self._counts = counting.file_of(journal, trajectory)
        self._opened = 0
        self._counted = not begun
        counting.watch(self)

    def write(
        self, kind: str, fields: dict[str, Any], parent: str | None, agent: str | None, step: int | None, id: str | None = None
    ) -> tuple[str, bytes]:
        """One record, with the operating system when this returns: its id and the lines that were written."""
        written = None
        try:
            if not self.silent:
                written = self.put(kind, fields, parent, agent, step, id)
                if kind == "llm_call":
                    self.spent += (fields.get("prompt_tokens") or 0) + (fields.get("completion_tokens") or 0)
                if self.tap is not None:
                    self.tap.append(written[1])
                if self.listener is not None:
                    self.listener(kind, fields, agent, step, *written)
                if self.journal.failure is not None:
                    fault(self.journal.failure, disk=self.journal.folder)
        except Exception as error:
            fault(error)
        return written or (id or new_id(), b"")

    def let_go(self) -> None:
        """The run is over: frees the histories that were sent, as responses may keep the run. A late call's is written again."""
        counting.over(self)
        counting.forget(self._counts)
        self.sent.clear()
        self._packer = None

    @property
    def is_shared(self) -> bool:
        """Whether other processes take steps in the trajectory, which has not ended."""
        return counting.others(self._counts)

    def share(self) -> None:
        """A process that is forked now takes steps, too."""
        with self.journal.lock:
            if not self._shared:
                self._shared = True
                with suppress(OSError):  # the store was deleted: see `_next_index`
                    counting.begin(self._counts, self._steps)

    def begin_step(self, fields: dict[str, Any], parent: str | None, agent: str | None) -> tuple[str, int]:
        """Begins the agent's next step: the id of its record, and its index."""
        journal = self.journal
        with journal.lock:  # steps of several threads stand in the order of their indices
            if not self._shared:
                self._shared = counting.others(self._counts)
            index = self._next_index(agent) if self._shared else self._steps.get(agent, 0)
            self._steps[agent] = index + 1
            self._opened += 1
            id, _ = self.write("step", fields, parent, agent, index)
            if self._shared:  # a forked worker may end at once, and its step's index is taken
                journal.release()
        return id, index

    def _next_index(self, agent: str | None) -> int:
        """The index of a step that no other process has."""
        index = self._steps.get(agent, 0)
        try:
            with suppress(FileNotFoundError):
                return counting.next_index(self._counts, agent, index)
            self._read()
            index = self._steps.get(agent, 0)
            counting.begin(self._counts, self._steps)
            return counting.next_index(self._counts, agent, index)
        except FileNotFoundError:  # the store was deleted
            pass
        except OSError as error:
            fault(error, disk=self.journal.folder)
        return index

    @property
    def steps(self) -> dict[str | None, int]:
        """The next step's index, per agent, of a trajectory that was begun here."""
        return self._steps

    @property
    def opened(self) -> int:
        """How many steps there are, of all agents."""
        self._count()
        return self._opened

    def _count(self) -> None:
        """The steps that were recorded before are read when they are asked for: late rewards and labels need none of them."""
        if not self._counted:
            self._read()

    def _read(self) -> None:
        """Counts the steps that are recorded, by whatever process."""
        self._counted = True
        try:
            trajectory = self.journal.read(self.id)
        except Exception as error:
            fault(error)
            return
        for step in trajectory.steps:
            agent = None if step.agent == trajectory.agent else step.agent
            self._steps[agent] = max(self._steps.get(agent, 0), step.index + 1)
        self._opened = len(trajectory.steps)


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
