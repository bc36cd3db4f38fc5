"""One model call as it passes the proxy: a copy of what crosses, and how the copy becomes a record. Knows no HTTP library."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from .. import encodings
from ..capture.exchange import Asked, Exchange, Later
from ..capture.faults import fault
from ..capture.scope import Scope
from ..dialects import Assembly, Dialect, finishes, is_complete
from ..dialects.framing import Stream
from ..locks import Lock
from ..wire import of_wire
from . import conversations
from .address import Address
from .senders import Sender

#: Records a call: the call, the fields of its record, its answer, and what a failed attempt came to.
Place = Callable[["Passing", dict[str, Any], Any, dict[str, Any] | None], Scope]
#: Takes a request apart.
Look = Callable[[Dialect, Any], conversations.Asked]
_MANY = 1000  # events of one answer that are kept as they are


def _may_finish(piece: bytes) -> bool:
    """Whether a piece of a stream may say why an answer ended: it holds a reason, or the rest of an event that does."""
    return b'eason":"' in piece or b'eason": "' in piece or not piece.startswith((b"data:", b"event:"))


class Passing(Exchange):
    """A call between a client and an upstream. `copied` and `took` are told what passes; `finish` records it.

    At most `limit` bytes of the request, and of the response, are kept. What is larger passes all the same; its record says how
    large it was, and has no request or a cut response.
    """

    def __init__(
        self,
        dialect: Dialect,
        path: str,
        address: Address,
        sender: Sender,
        place: Place,
        look: Look,
        later: Later,
        finished: set[Passing],
        limit: int,
        asked: Asked | None = None,
    ) -> None:
        """`finished`: where it is from the moment in which its answer is whole until it is on record."""
        super().__init__(
            dialect, path, {}, b"" if asked is None else asked.sent, lambda data, _: data, later, asked, ends_itself=True
        )
        self.address: Address = address
        self.sender: Sender = sender
        #: The policy's version when the call began, and what it changed to: (tokens of the answer before, version).
        self.policy: str | int | None = None
        self.changes: list[tuple[int | None, str | int]] = []
        #: The request, taken apart.
        self.parts: conversations.Asked | None = None
        self._parsed: Any = None
        self._parsed_of: bytes | None = None
        self._placing = place
        self._looking = look
        self._finished = finished
        #: When it ended; its record is made later.
        self.ended: int | None = None
        #: When the answer was whole, though its stream may go on.
        self.finished_at: int | None = None
        #: What was recorded while its stream went on: where, how many events, and the record.
        self._stood: tuple[Scope, int, dict[str, Any]] | None = None
        self._limit = limit
        #: The answer so far, where its dialect puts events together as they come, and how many events it has.
        self._assembly: Assembly | None = None
        with suppress(Exception):  # of a stranger's dialect: `assemble` is asked at the end, and what fails there is told of
            self._assembly = dialect.assembly()
        self._assembled = 0
        self._parts: list[bytes] = []
        #: How many bytes the request has.
        self.asked_size: int = 0
        self._answer_size = 0
        self._request_encoding = self._at_least = ""
        self._undo: encodings.Decoder | None = None
        self._cut = False
        self._swallowing = Lock()

    @property
    def size(self) -> int:
        """How many bytes its request and its response have."""
        return self.asked_size + self._answer_size

    def since(self, started: int, clock: int) -> None:
        """It began earlier: nanoseconds since 1970, and of the performance counter."""
        self.started, self._clock = started, clock

    # --- what passes ---------------------------------------------------------------------------------------------------------

    def copied(self, data: bytes, encoding: str = "") -> None:
        """A piece of the request's body that goes upstream."""
        if self._asked is not None:
            return
        self._request_encoding = encoding
        self.asked_size += len(data)
        if self.asked_size <= self._limit:
            self._parts.append(data)
        else:
            self._parts.clear()

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """The response has begun."""
        encoding = headers.get("content-encoding", "").strip().lower()
        self._undo = encodings.decoder(encoding) if encoding else None
        plain = {"content-type": headers.get("content-type", "")}
        super().answered(status, plain if self._undo is not None or not encoding else plain | {"content-encoding": encoding})

    def swollen(self, size: int) -> int:
        """About how many bytes so many of the response may come to, when they are decoded."""
        return size if self._undo is None else 16 * size

    def took(self, data: bytes) -> bool:
        """Takes a piece of the response in. Whether it brings the last event of a stream."""
        with self._swallowing:
            return self._took(data)

    def _took(self, data: bytes) -> bool:
        over = False
        for piece in self._undo(data) if self._undo is not None else (data,):
            self._answer_size += len(piece)
            if self._answer_size > self._limit:
                self._cut = True
                return False
            before = self._events
            over = super().took(piece) or over
            if self._events != before and self.finished_at is None and _may_finish(piece):
                if self._stream is not None and any(map(finishes, self._stream.events[before:])):
                    self.finished_at = time.time_ns()
                    self._finished.add(self)
        if self._stream is not None and self.status is not None and self.status < 300:
            self._chunks.clear()  # the events are all that is needed
        return over

    def fold(self) -> None:
        """Delta-codes the events that came, and puts them together. To call this now and then makes the call's end shorter."""
        with self._swallowing:
            stream = self._stream
            if stream is None or self._recorded:
                return
            self._assemble(stream)
            if len(stream.events) < _MANY:
                self._folding.add(stream.events)
                return
            self._folding.take(stream.events)
            del stream.names[:-1]
            self._events = len(stream.events)

    def swallow(self, data: bytes) -> bool:
        """`took` and `fold`, in any thread."""
        with self._swallowing:
            over = self.took(data)
            self.fold()
        return over

    def changed(self, version: str | int) -> None:
        """The policy has another version from now on."""
        stream = self._stream
        count: int | None = None  # of an answer that comes whole nobody knows
        if self.status is None:
            asked = of_wire(self.sent or b"".join(self._parts), self.dialect.NAME)
            count = 0 if self.dialect.streams(self._path, asked) else None
        elif stream is not None and stream.events:
            with self._swallowing:
                found = self.dialect.choices(self._body(stream))
            if found and found[0].token_ids is not None:
                count = len(found[0].token_ids)
        if count == 0:
            self.policy = version
            return
        if count is not None and self.changes and self.changes[-1][0] == count:  # no token is of the version before
            self.changes.pop()
        self.changes.append((count, version))

    # --- its record ----------------------------------------------------------------------------------------------------------

    def ready(self) -> None:
        """The request's body is whole. Puts the copy together; the record is made of it."""
        if self._parts:
            data, self._parts = b"".join(self._parts), []
            if self._request_encoding:
                undo = encodings.decoder(self._request_encoding)
                data = data if undo is None else self._decoded(undo(data))
            asked = self.body if self.body is not self.sent else None
            self.sent = data
            self.body = data if asked is None else asked

    def _decoded(self, pieces: Iterator[bytes]) -> bytes:
        """The request's body; nothing where more than the limit comes of it."""
        kept: list[bytes] = []
        self.asked_size = 0
        for piece in pieces:
            self.asked_size += len(piece)
            if self.asked_size > self._limit:
                self._at_least = "at least "
                return b""
            kept.append(piece)
        return b"".join(kept)

    def look(self) -> None:
        """Takes the request apart, whose body is whole. Whoever calls this before the call ends makes its end shorter."""
        self.ready()
        with suppress(Exception):  # whatever is wrong with it is found again, and told of, when the call is placed
            self._parsed = super()._request()
            self._parsed_of = self.body
            self.parts = self._looking(self.dialect, self._parsed)

    def _request(self) -> Any:
        return self._parsed if self._parsed_of is self.body else super()._request()

    def finish(self, error: Any = None) -> None:
        self._finished.discard(self)
        super().finish(error)

    def stand(self) -> None:
        """Records the call as it stands, if its answer is whole: an agent acts on it, and its next call is about to be recorded.
        The record that its end makes takes the place of this one."""
        self._finished.discard(self)
        with self._swallowing:
            stream = self._stream
            if stream is None or self._recorded:
                return
            stands = Stream()
            stands.events, stands.names, stands.done = list(stream.events), list(stream.names), stream.done
            assembly, self._assembly = self._assembly, None  # the record of what stands may end an event that goes on
            try:
                if is_complete(self.dialect, self._body(stands)):
                    self._stream = stands
                    self._record(None)
            except Exception as failure:
                fault(failure)
            finally:
                self._stream, self._assembly = stream, assembly

    def _record(self, error: Any) -> None:
        if error is None and self._stood is not None and self._count() == self._stood[1]:
            return
        self.ready()
        if self._parsed_of is not self.body:
            self.parts = None
        super()._record(error)

    def _answer(self) -> tuple[Any, list[Any] | None, Any]:
        if not self._cut:
            return super()._answer()
        why = f"the response has more than {self._limit:,} bytes, which is all that the proxy keeps of one"
        if self._stream is None:
            return None, None, why
        return (*super()._answer()[:2], why)

    def _assemble(self, stream: Stream) -> None:
        """Puts the events together that came since."""
        if self._assembly is None:
            return
        try:
            self._assembly.add(stream.events[self._assembled - self._folding.taken :])
            self._assembled = self._count()
        except Exception:
            self._assembly = None

    def _body(self, stream: Stream) -> Any:
        self._assemble(stream)
        if self._assembly is not None:
            return self._assembly.body()
        if not self._folding.taken:
            return self.dialect.assemble(stream.events)
        self._folding.add(stream.events)
        return self.dialect.assemble(self._folding.events())

    def _count(self) -> int:
        """How many events came."""
        return self._folding.taken + (0 if self._stream is None else len(self._stream.events))

    def _place(self, made: dict[str, Any], answer: Any, may_repeat: bool) -> None:
        if self.asked_size > self._limit:
            del made["request"]
            made["extra"] = {
                "not_kept": f"the request has {self._at_least}{self.asked_size:,} bytes; the proxy keeps up to {self._limit:,}"
            }
        version = self.address.policy_version if self.address.policy_version is not None else self.policy
        if version is not None:
            made["policy_version"] = version
            if self.changes and all(count is not None for count, _ in self.changes):
                made["tokens"] = [{"versions": [[0, version], *map(list, self.changes)]}]
            elif self.changes:
                made["extra"] = {**made.get("extra", {}), "policy_version_after": self.changes[-1][1]}
        asked = self._asked
        if asked is not None:  # it was asked before, and its answer is fetched now
            made["supersedes"] = asked.id
            made["started"], made["duration"] = asked.started, time.time_ns() - asked.started
            asked.within.record_call(made)
            if isinstance(answer, dict) and isinstance(answer.get("id"), str):
                self._later.drop(answer["id"])
            return
        failure = self._attempt(self.status, made.get("error"), made["duration"]) if may_repeat or self._broken(made) else None
        if self._refused:
            made["extra"] = {**made.get("extra", {}), "retries": self._refused}
        if self._stood is not None:
            scope, _, before = self._stood
            made |= before
            scope.record_call(made)
        else:
            scope = self._placing(self, made, answer, failure)
        if not self._recorded and scope.last_call is not None:  # it stands for now
            kept: dict[str, Any] = {name: made[name] for name in ("purpose", "extra") if name in made}
            self._stood = scope, self._count(), kept | {"supersedes": scope.last_call.id}
        id = self.dialect.later(answer)
        if id is not None and scope.last_call is not None:
            self._later.put(id, Asked(self._path, self.sent, self.started, scope, scope.last_call.id))

    def _broken(self, made: dict[str, Any]) -> bool:
        return "error" in made and not (self.status is not None and self.status >= 300)
