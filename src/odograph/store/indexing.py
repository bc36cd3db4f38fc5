"""Journal lines -> the catalog's tables: how a batch of lines is folded into them."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ..codec import DAMAGE, encode
from ..totals import trajectory_reward
from ..types import KINDS, LATE, Reward, Span
from .lines import File, read_ranges
from .rows import REWARD, SHARED, Key, Texts, alone, packed, packed_rewards, unpacked, unpacked_rewards

_NO_RECORD = (b'{"kind":"message"', b'{"kind":"ids"', b'{"kind":"journal"')
#: Of a trajectory by its id: its lines in the sealed tier.
Sealed = Callable[[str], Iterable[bytes]]
_LATE = {str(r.__struct_config__.tag) for r in LATE}


class _Extra(msgspec.Struct):
    components: Any = None


class _Scan(msgspec.Struct):
    """The fields of a line that summaries need; everything else is skipped by the decoder."""

    kind: str
    trajectory: str = ""
    id: str = ""
    seq: int = 0
    time: int = 0
    writer: str = ""
    agent: str | None = None
    step: int | None = None
    source_time: int | None = None
    supersedes: str | None = None
    task: Any = None
    model: str | None = None
    group: str | None = None
    policy_version: Any = None
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    fork: Any = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    name: str = "reward"
    provider: str = ""
    value: Any = None
    weight: float = 1.0
    target: str | None = None
    span: Any = None
    source: str = "environment"
    author: str | None = None
    version: str | None = None
    extra: _Extra | None = None
    status: str | None = None
    metrics: dict[str, Any] = {}
    error: Any = None


_scan = msgspec.json.Decoder(_Scan).decode
_Head = msgspec.defstruct("_Head", [("kind", str), ("trajectory", str, "")])
_head = msgspec.json.Decoder(_Head).decode


def tell_damage(db: sqlite3.Connection, told: int = 0) -> int:
    """Warns of the damaged lines of the journal if there are more than were told. Returns their number."""
    count, *first = db.execute("select count(*), file, min(offset), reason from damages").fetchone()
    if count > told:
        from ..log import logger  # late: most commands never say a word, and `logging` is a tenth of their start

        logger.warning(
            "the journal has damaged lines, %d in all, which are left out (%s at byte %s: %s); all others are read:"
            " `odograph doctor` lists damaged lines",
            count,
            *first,
        )
    return int(count)


class Batch:
    """What one run over new lines found, folded per trajectory."""

    def __init__(self, db: sqlite3.Connection, file: File, sealed: Sealed | None = None) -> None:
        """`sealed`: the lines of a trajectory that are in the sealed tier."""
        self._db = db
        self._file = file
        self._sealed = sealed
        self._texts = Texts(db)
        self._scans: dict[str, list[_Scan]] = {}
        self._places: list[list[Any]] = []
        self._damages: list[tuple[str, int, str]] = []

    @property
    def trajectories(self) -> int:
        """Of how many trajectories records were added."""
        return len(self._scans)

    def add(self, start: int, stop: int, line: bytes) -> None:
        if not line.isascii():  # the decoder looks into no field that it skips
            try:
                line.decode()
            except UnicodeDecodeError as error:
                self._damages.append((self._file.name, start, str(error)))
                return
        if line.startswith((b'{"kind":"message"', b'{"kind":"ids"')):
            try:
                head = _head(line)
            except DAMAGE as error:
                self._damages.append((self._file.name, start, str(error)))
                return
            self._place(head.trajectory, start, stop)  # type: ignore[attr-defined]
            return
        if line.startswith(b'{"kind":"journal"'):
            return
        try:
            scan = _scan_line(line)
        except DAMAGE as error:
            self._damages.append((self._file.name, start, str(error)))
            return
        self._place(scan.trajectory, start, stop)
        self._scans.setdefault(scan.trajectory, []).append(scan)

    def _place(self, trajectory: str, start: int, stop: int) -> None:
        last = self._places[-1] if self._places else None
        if last and last[0] == trajectory and last[3] == start:
            last[3] = stop
        else:
            self._places.append([trajectory, self._file.name, start, stop])

    def write(self) -> None:
        db = self._db
        if self._places:
            places = [[packed(id), *rest] for id, *rest in self._places]
            first = places[0]
            merged = db.execute(
                "update places set stop=? where trajectory=? and file=? and stop=?", (first[3], first[0], first[1], first[2])
            )
            db.executemany("insert into places values(?,?,?,?)", places[1:] if merged.rowcount else places)
        db.executemany("insert into damages values(?,?,?)", self._damages)
        for trajectory, scans in self._scans.items():
            self._fold(trajectory, scans)

    def refold(self, id: str, lines: Iterable[bytes]) -> None:
        """Folds lines of a trajectory into its row again; their places are known."""
        scans: list[_Scan] = []
        for line in lines:
            if line and not line.startswith(_NO_RECORD):
                with contextlib.suppress(*DAMAGE):
                    line.decode()
                    scans.append(_scan_line(line))
        if scans:
            self._fold(id, scans)

    def _fold(self, id: str, scans: list[_Scan]) -> None:
        db, key = self._db, packed(id)
        sealed: list[list[Any]] = []
        if any(s.supersedes for s in scans if s.kind not in ("reward", "label")):
            scans = self._all_scans(id)
            kept = db.execute("select revision, sealed from summaries where id=?", (key,)).fetchone()
            db.execute("delete from summaries where id=?", (key,))
            db.execute("delete from rewards where trajectory=?", (key,))
            db.execute("delete from uses where trajectory=?", (key,))
        else:
            kept = None
            sealed = sealed_rewards(db, key)
        counts = {"step": 0, "llm_call": 0, "action": 0}
        prompt: int | None = None
        completion: int | None = None
        new: dict[str, Any] = {}
        rewards: list[tuple[Any, ...]] = []
        uses: dict[tuple[str, str], int] = {}
        for s in scans:
            named = (
                s.name if s.kind == "action" else s.provider if s.kind == "context" else s.model if s.kind == "llm_call" else None
            )
            if named:
                use = ("model" if s.kind == "llm_call" else s.kind, named)
                uses[use] = uses.get(use, 0) + 1
            if s.kind in counts:
                counts[s.kind] += 1
            if s.kind == "llm_call":
                if s.model is not None:
                    new.setdefault("first_model", s.model)
                if s.prompt_tokens is not None:
                    prompt = (prompt or 0) + s.prompt_tokens
                if s.completion_tokens is not None:
                    completion = (completion or 0) + s.completion_tokens
            elif s.kind == "start":
                new |= {
                    "task": _json(s.task),
                    "agent": s.agent,
                    "model": s.model,
                    "started": s.source_time,
                    "start_time": s.time,
                    "grp": s.group,
                    "tags": _json(s.tags or None),
                    "policy_version": _json(s.policy_version),
                    "fork": _json(s.fork),
                    "source": _json(s.metadata.get("source")),
                    "replay": "replay_of" in s.metadata,
                    "scenario": found if isinstance(found := s.metadata.get("scenario"), str) else _json(found),
                    **_run(s.metadata),
                    **_stated(s.metadata),
                }
            elif s.kind == "end":
                new |= {
                    "status": s.status or "completed",
                    "end_time": s.time,
                    "end_source": s.source_time,
                    "error": _json(s.error),
                    **_stated({"source": {"totals": s.metrics}}),
                }
            elif s.kind == "reward":
                value = float(s.value) if type(s.value) in (int, float) else None
                targeted = s.target is not None or s.span is not None
                rewards.append(
                    (
                        *(s.id, key, s.time, s.writer or self._file.writer, s.seq, s.supersedes, s.agent, s.step),
                        *(s.name, s.source, s.author, value, s.weight, targeted, s.version, _components(s.extra)),
                    )
                )
        start = next((s for s in scans if s.kind == "start"), None)
        # of the start record, where there is one: what a host recorded whose clock is behind moves no trajectory in lists
        first = start.time if start is not None else min(s.time for s in scans)
        at_work = next((s.writer or self._file.writer for s in reversed(scans) if s.kind not in _LATE), "")
        about = (0 if start is not None else first, max(s.time for s in scans), packed((start or scans[0]).id))
        known = "iif(last=0, coalesce(end_time, 0), last)"
        work = f"iif(excluded.last<={known} and writer!=?, writer, excluded.writer)" if at_work else "iif(?, writer, writer)"
        db.execute(
            "insert into summaries(id, first, last, root, writer) values(?,?,?,?,?) on conflict(id) do update set"
            f" first={'0' if start else 'iif(start_time is null, min(first, excluded.first), first)'},"
            f" last=max({known}, excluded.last), root={'excluded.root' if start else 'root'}, writer={work}",
            (key, *about, self._texts.number(at_work), self._texts.number("")),
        )
        db.execute("update newest set first=max(first, ?)", (first,))
        if kept is not None:
            db.execute("update summaries set revision=?, sealed=? where id=?", (*kept, key))
        if "first_model" in new:
            model = self._texts.number(new.pop("first_model"))
            db.execute("update summaries set first_model=coalesce(first_model, ?) where id=?", (model, key))
        if new:
            columns = ", ".join(f"{c}=?" for c in new)
            values = [self._texts.number(value) if name in SHARED else value for name, value in new.items()]
            db.execute(f"update summaries set {columns} where id=?", (*values, key))
        if any(counts.values()):
            db.execute(
                "update summaries set steps=steps+?, llm_calls=llm_calls+?, actions=actions+? where id=?",
                (counts["step"], counts["llm_call"], counts["action"], key),
            )
        if uses:
            db.executemany(
                "insert into uses values(?,?,?,?) on conflict do update set count=count+excluded.count",
                [(key, *use, count) for use, count in uses.items()],
            )
        for column, value in (("prompt_tokens", prompt), ("completion_tokens", completion)):
            if value is not None:
                db.execute(f"update summaries set {column}=coalesce({column}, 0)+? where id=?", (value, key))
        if rewards:
            db.executemany("insert into rewards values(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", rewards)
            agent = db.execute("select agent from trajectories where id=?", (key,)).fetchone()[0]
            reward = trajectory_reward(as_rewards(standing(db, key, sealed), agent))
            db.execute("update summaries set reward=? where id=?", (reward, key))
        if sealed:  # they refer to what may have changed
            now = db.execute("select root, writer, reward, end_time from trajectories where id=?", (key,)).fetchone()
            text = packed_rewards(sealed, unpacked(now[0]), *now[1:])
            name = self._texts.number(alone(text, now[2]))
            db.execute("update summaries set rewards=?, alone=? where id=?", (text, name, key))

    def _all_scans(self, id: str) -> list[_Scan]:
        """Every line of a trajectory again, without those that others supersede: a correction is rare."""
        rows = self._db.execute("select file, start, stop from places where trajectory=?", (packed(id),)).fetchall()
        ranges: dict[str, list[tuple[int, int]]] = {}
        for name, start, stop in rows:
            ranges.setdefault(name, []).append((start, stop))
        scans: list[_Scan] = []
        for line in self._sealed(id) if self._sealed is not None else ():
            if not line.startswith(_NO_RECORD):
                with contextlib.suppress(*DAMAGE):
                    scans.append(_scan_line(line))
        for name, places in ranges.items():
            for line in b"".join(read_ranges(self._file.path.with_name(name), places)).split(b"\n"):
                if line and not line.startswith(_NO_RECORD):
                    with contextlib.suppress(*DAMAGE):
                        scans.append(_scan_line(line))
        replaced = {s.supersedes for s in scans}
        there = {s.id or str(n): s for n, s in enumerate(scans) if s.id not in replaced}  # a line may be in two tiers
        return sorted(there.values(), key=lambda s: (s.time, s.seq))


def sealed_rewards(db: sqlite3.Connection, key: Key) -> list[list[Any]]:
    """The rewards of a trajectory that its summary of the sealed tier holds, as rows of `REWARD`."""
    found = db.execute(
        "select rewards, root, writer, reward, end_time from trajectories where id=? and rewards is not null", (key,)
    ).fetchone()
    return unpacked_rewards(found[0], unpacked(found[1]), *found[2:]) if found else []


def as_rewards(rows: list[list[Any]], agent: str | None) -> list[Reward]:
    """Rewards as rows of `REWARD`, as far as figures need them. `agent`: that of the trajectory."""
    return [
        Reward(agent=r[4] or agent, step=r[5], name=r[6], source=r[7], author=r[8], value=r[9], weight=r[10], span=_SPAN[r[11]])
        for r in rows
    ]


_SPAN = (None, Span(0, 0))


def standing(db: sqlite3.Connection, key: Key, sealed: list[list[Any]]) -> list[list[Any]]:
    """The rewards that stand, each as a row of `REWARD`, in their order: those of the journal, and sealed ones."""
    return standing_of([[*r] for r in db.execute(f"select {REWARD}, supersedes from rewards where trajectory=?", (key,))], sealed)


def standing_of(rows: list[list[Any]], sealed: list[list[Any]]) -> list[list[Any]]:
    """See `standing`; `rows` are those of the journal, each with what it supersedes at its end."""
    replaced = {supersedes for r in rows if (supersedes := r.pop())}
    return sorted((r for r in (*rows, *sealed) if r[0] not in replaced), key=lambda r: (r[1], r[2], r[3]))


def uses_of(db: sqlite3.Connection, key: Key, sealed: str | None) -> list[list[Any]]:
    """What happened in a trajectory: [kind, name, how often]."""
    return uses_with(db.execute("select kind, name, count from uses where trajectory=?", (key,)), sealed)


def uses_with(rows: Iterable[Any], sealed: str | None) -> list[list[Any]]:
    """See `uses_of`; `rows` are those of the journal."""
    found = {(kind, name): count for kind, name, count in msgspec.json.decode(sealed)} if sealed is not None else {}
    for kind, name, count in rows:
        found[kind, name] = found.get((kind, name), 0) + count
    return [[kind, name, count] for (kind, name), count in sorted(found.items())]


_WHOLE = ("seq", "time", "step", "source_time", "prompt_tokens", "completion_tokens")


def _components(extra: _Extra | None) -> int:
    """Of how many components a reward is one."""
    stated = extra.components if extra is not None else None
    return stated if type(stated) is int and 0 < stated < 1 << 31 else 1


def _fits(value: int) -> bool:
    return -(1 << 53) < value < 1 << 62


def _scan_line(line: bytes) -> _Scan:
    """A record's line, as far as summaries need it. Raises one of DAMAGE where it is no record."""
    try:
        scan = _scan(line)
    except msgspec.ValidationError:
        raw = msgspec.json.decode(line)
        if not isinstance(raw, dict) or type(raw.get("kind")) is not str:
            raise
        scan = _Scan(raw["kind"])
        for field in msgspec.structs.fields(_Scan):
            with contextlib.suppress(KeyError, msgspec.ValidationError):
                setattr(scan, field.name, msgspec.convert(raw[field.name], field.type))
    for name in _WHOLE:  # SQLite has 64 bits; content has any number
        value = getattr(scan, name)
        if value is not None and not _fits(value):
            setattr(scan, name, 0 if name in ("seq", "time") else None)
    if scan.kind not in KINDS:
        raise msgspec.ValidationError(f"no record kind {scan.kind!r}")
    if not scan.trajectory:
        raise msgspec.ValidationError("a record without a trajectory")
    return scan


def _run(metadata: dict[str, Any]) -> dict[str, Any]:
    """What the runtime says of a run."""
    about = metadata.get("runtime")
    id, attempt = (about.get("task_id"), about.get("attempt")) if isinstance(about, dict) else (None, None)
    return {"task_id": id if isinstance(id, str) else None, "attempt": attempt if type(attempt) is int else None}


def _stated(metadata: dict[str, Any]) -> dict[str, int]:
    """Totals that a source states, in an end record or, where a session has none, with its start."""
    source = metadata.get("source")
    totals = source.get("totals") if isinstance(source, dict) else None
    names = {"stated_prompt": "prompt_tokens", "stated_completion": "completion_tokens", "stated_calls": "llm_calls"}
    if not isinstance(totals, dict):
        return {}
    return {column: value for column, name in names.items() if type(value := totals.get(name)) is int and _fits(value)}


def _json(value: Any) -> str | None:
    return None if value is None else encode(value).decode()


_NOT_TEXT = {"kind", "id", "trajectory", "parent", "hash", "writer", "packed", "llm_call", "target", "supersedes", "events"}
_NOT_TEXT |= {"base", "base_hash", "run", "unit", "rubric_hash"}
_LONG_WORD = 4096  # base64 and the like


def searchable(line: bytes) -> tuple[str, str, int | None, str] | None:
    """(kind, trajectory, step, text) of a line that has text, else None."""
    try:
        raw = msgspec.json.decode(line)
    except DAMAGE:
        return None
    if not isinstance(raw, dict) or type(raw.get("trajectory")) is not str:
        return None
    kind = raw.get("kind")
    if type(kind) is not str or (kind not in KINDS and kind != "message"):  # damaged, or of no text
        return None
    words: list[str] = []
    stack: list[Any] = [v for k, v in reversed(raw.items()) if k not in _NOT_TEXT]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            if len(value) < _LONG_WORD or " " in value[:_LONG_WORD] or "\n" in value[:_LONG_WORD]:
                words.append(value)
        elif isinstance(value, dict):
            stack.extend(reversed(value.values()))
        elif isinstance(value, list):
            stack.extend(reversed(value))
    if not words:
        return None
    step = raw.get("step")
    return kind, raw["trajectory"], step if type(step) is int and _fits(step) else None, "\n".join(words)
