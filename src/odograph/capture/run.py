"""One trajectory being recorded, from its first record to its end."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import msgspec

from .. import dialects
from ..codec import new_id
from ..store.journal import Journal
from ..types import SCHEMA_VERSION, STATUSES, Fork, Status
from . import entering, exchange
from .entering import closed, opened
from .recorder import CallRef, Recorder
from .scope import Scope
from .values import error_of, status_of


class Run(Scope):
    """One trajectory that is being recorded. Leaving the `with` block ends the trajectory: completed, or failed with the
    exception, which is raised again.
    """

    def __init__(self, recorder: Recorder, id: str, *, ends: bool = True) -> None:
        super().__init__(recorder, id, None, None)
        self._ends = ends
        self._process = entering.process

    @property
    def id(self) -> str:
        """The trajectory's id."""
        return self._recorder.id

    @property
    def root(self) -> str:
        """The id of the trajectory's first record, the parent of all others."""
        assert self._id is not None
        return self._id

    def at(self, step: Any) -> Scope:
        """Returns the scope of an earlier step (`t.steps[i]`), to record more in that step."""
        agent = None if step.agent == self._recorder.agent else step.agent
        return Scope(self._recorder, step.id or self._id, agent, step.index)

    def finish(
        self, answer: Any = None, *, status: Status = "completed", error: Any = None, metrics: dict[str, Any] | None = None
    ) -> None:
        """Ends the trajectory. `status`: completed, failed, timeout, cancelled or truncated."""
        if status not in STATUSES:
            raise TypeError(f"status is one of {', '.join(STATUSES)}, not {status!r}")
        fields: dict[str, Any] = {"status": status, "answer": answer}
        if error is not None:
            fields["error"] = error_of(error)
        if metrics is not None and (type(metrics) is not dict or metrics):
            fields["metrics"] = metrics
        self._ends = False
        exchange.leave(self._recorder)
        self._write("end", fields)
        self._recorder.let_go()

    def __enter__(self) -> Self:
        self._process = entering.process
        opened(self)
        return super().__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        if self._tokens:
            return
        if self._ends and not self._is_anothers():
            if error is None:
                self.finish()
            else:
                self.finish(status=status_of(error), error=error)
        closed(self)
        self._recorder.ends += 1

    def _is_anothers(self) -> bool:
        """Whether another process ends the run, or has ended it: a forked worker that leaves the block in which it was forked. A
        daemon, whose first process is gone, ends its run itself."""
        return self._process != entering.process and (entering.is_anothers(self._process) or not self._recorder.is_shared)


_ABOUT: dict[str, tuple[type, ...]] = {
    "agent": (str,),
    "agent_version": (str,),
    "model": (str,),
    "group": (str,),
    "policy_version": (str, int),
    "seed": (int,),
}


def start(
    journal: Journal,
    task: Any,
    *,
    tags: list[str] | tuple[str, ...] = (),
    metadata: dict[str, Any] | None = None,
    fork: Fork | None = None,
    id: str | None = None,
    **about: Any,
) -> Run:
    """Begins a trajectory in a journal. `about`: the other fields of its start (`_ABOUT`), None where one is not known. `id`: the
    trajectory's, where its source names it."""
    with suppress(OSError):  # it is loaded now: a process that has no file left to open later can still record calls
        dialects.resent(None)
    recorder = Recorder(journal, id or new_id(), about.get("agent"))
    if isinstance(tags, str) or not all(issubclass(type(t), str) for t in tags):
        inside = "" if isinstance(tags, str) else " of " + ", ".join(sorted({type(t).__name__ for t in tags}))
        raise TypeError(f"tags are a list of strings, not {type(tags).__name__}{inside}")
    if metadata is not None and not isinstance(metadata, dict):
        raise TypeError(f"metadata is a dict, not {type(metadata).__name__}")
    fields: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "task": task}
    for name, value in about.items():
        if value is not None:
            kinds = _ABOUT[name]
            if not issubclass(type(value), kinds):
                expected = " or ".join(kind.__name__ for kind in kinds)
                raise TypeError(f"{name} is a {expected}, not {type(value).__name__}")
            fields[name] = value
    if tags:
        fields["tags"] = list(tags)
    if metadata:
        fields["metadata"] = metadata
    if fork is not None:
        fields["fork"] = msgspec.to_builtins(fork)
    return Run(recorder, recorder.write("start", fields, None, None, None)[0])


class LoneCall(Scope):
    """The step of a trajectory that one call outside of any run is; a retry of the call ends it again."""

    def __init__(self, run: Run) -> None:
        step = run.step()
        super().__init__(step._recorder, step._id, None, step._step)
        self._run = run

    def record_call(self, fields: dict[str, Any]) -> CallRef:
        made = super().record_call(fields)
        self._run.finish(status="failed" if "error" in fields else "completed", error=fields.get("error"))
        return made
