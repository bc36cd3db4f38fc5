"""Whatever happens to the bytes of a store: every command ends with a status and a sentence, and what is whole is read."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import odograph
from odograph.cli import main
from odograph.codec import DAMAGE
from odograph.store.lines import decode
from odograph.store.reader import _incomplete
from odograph.streams import MessageLine, Streams

_CHANGES = ("flip", "set", "insert", "delete", "twice", "cut")
_BYTES = b'0\x00"{}[],:-9eE.\xff\n tfnul'


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small runs with records of every kind."""
    where = tmp_path_factory.mktemp("damage") / "store"
    with odograph.open(where) as store:
        for k in range(2):
            with store.record(task={"q": k}, agent="a", model="m", group="g", tags=["x"], metadata={"k": k}) as run:
                history: list[Any] = [{"role": "user", "content": "hello"}]
                with run.step({"o": 1}) as step:
                    step.context("kb", {"x": 1}, query="q", purpose="p")
                    call = step.llm_call(
                        model="m",
                        messages=history,
                        response="4 hi",
                        usage={"prompt_tokens": 3},
                        prompt_token_ids=[1, 2],
                        token_ids=[4, 5],
                        logprobs=[-0.5, -0.25],
                    )
                    step.edit(call).replace(0, 1, "zz")
                    step.action("search", {"q": 1}, {"hits": 2}, llm_call=call, tool_call_id="t")
                    step.reward(0.5, "env")
                    step.label("t", 1, score=0.5, author="j")
                    step.note({"n": 1}, name="nn")
                history += [{"role": "assistant", "content": "4 hi"}, {"role": "user", "content": "more"}]
                with run.step() as step:
                    step.llm_call(model="m", messages=history, response="ok", prompt_token_ids=[1, 2, 4, 5, 6], token_ids=[7])
                run.reward(1.0, "final")
    return where


def journal(store: Path) -> Path:
    (path,) = (store / "journal").glob("*.jsonl")
    return path


def changed(data: bytes, at: int, how: str, chance: random.Random) -> bytes:
    if how == "flip":
        return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
    if how == "set":
        return data[:at] + bytes([chance.choice(_BYTES)]) + data[at + 1 :]
    if how == "insert":
        return data[:at] + bytes([chance.choice(_BYTES)]) + data[at:]
    if how == "delete":
        return data[:at] + data[at + 1 :]
    more = chance.randrange(1, 60)
    return data[: at + more] + data[at:] if how == "twice" else data[:at] + data[at + more :]


def commands(ids: list[str], out: Path) -> Iterator[list[str]]:
    yield from (["ls"], ["show", ids[0]], ["show", ids[0], "--json"], ["search", "hello"], ["stats"], ["validate"], ["doctor"])
    yield from (["lineage", ids[0]], ["diff", *ids], ["diff", *ids, "--json"], ["tail", ids[0]], ["train", "--dry-run"])
    yield from (["export", "--to", to, "-o", str(out / to)] for to in ("jsonl", "openai", "trl-grpo"))
    yield ["sql", "select kind, count(*) from records group by 1"]
    yield from (["view", "--html", str(out) + ".html"], ["seal"], ["ls"], ["doctor"])


def status(command: list[str], where: Path) -> tuple[int, str]:
    """The exit status of a command, and what it says on stderr."""
    out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    shown = logging.StreamHandler(err)  # pytest's own handlers keep the program's away
    odograph.logger.addHandler(shown)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            found = main([*command, "--store", str(where)])
    finally:
        odograph.logger.removeHandler(shown)
    return found, err.buffer.getvalue().decode(errors="replace")  # type: ignore[attr-defined]


def check(store: Path, data: bytes, place: tuple[Any, ...], tmp_path: Path) -> None:
    """The store with this journal, in every command; what `place` says names the damage."""
    where, out = tmp_path / "damaged", tmp_path / "out"
    for folder in (where, out):
        shutil.rmtree(folder, ignore_errors=True)
    # without the catalog, which has listed the whole lines: what is damaged later is told when it is read
    shutil.copytree(store, where, ignore=shutil.ignore_patterns("catalog.sqlite*"))
    journal(where).write_bytes(data)
    with odograph.open(store) as whole:
        before = {t.id: t.to_dict() for t in whole.trajectories()}
    damaged = broken = False
    touched = set()
    for line in data.split(b"\n")[:-1]:
        try:
            decode(line, "w")
        except DAMAGE:
            damaged = True
            with contextlib.suppress(*DAMAGE):
                msgspec.json.decode(line)
                continue
            broken = True
    lines = journal(store).read_bytes().split(b"\n")
    if not data.startswith(lines[0] + b"\n"):  # it says who wrote every line
        touched = set(before)
    for line in set(lines).symmetric_difference(data.split(b"\n")):
        touched |= {id for id in before if id.encode() in line}
    sealed = False
    for command in commands(list(before), out):
        found, said = status(command, where)
        assert found in (0, 1, 2), (place, command)
        assert "Traceback" not in said, (place, command, said)
        if command == ["doctor"] and damaged:
            assert found == 1, (place, "doctor says nothing of a damaged line")
        assert sealed or not broken or "damaged line" in said, (place, command, "a line is lost without a word")
        sealed = sealed or command == ["seal"]
    with odograph.open(where) as after:
        for id in before.keys() - touched:
            assert after.trajectory(id).to_dict() == before[id], (place, "a run without a damaged line has changed")


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_byte_of_a_journal_in_every_command(store: Path, tmp_path: Path, seed: int) -> None:
    """A byte that is changed, lost, or came in: no command fails without a sentence, the doctor says it, other runs are whole."""
    chance, data = random.Random(seed), journal(store).read_bytes()
    at, how = chance.randrange(len(data) - 1), _CHANGES[seed % len(_CHANGES)]
    check(store, changed(data, at, how, chance), (seed, at, how), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_part_of_a_journal_damaged_in_every_command(store: Path, tmp_path: Path) -> None:
    """The same for every 20th byte, each time in another way."""
    chance, data = random.Random(0), journal(store).read_bytes()
    for n, at in enumerate(range(0, len(data) - 1, 20)):
        how = _CHANGES[n % len(_CHANGES)]
        check(store, changed(data, at, how, chance), (at, how), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"at":["tokens",0,"token_ids"]', b'"at":["token",0,"token_ids"]'),
        (b'"at":["tokens",0,"token_ids"]', b'"at":["tokens",9,"token_ids"]'),
        (b'"at":["tokens",0,"token_ids"]', b'"at":["id"]'),
        (b'"at":["request","messages"]', b'"at":[]'),
        (b'"at":["request","messages"]', b'"at":["request",0]'),
        (b'"at":["request","messages"]', b'"at":["request","messages","x"]'),
        (b'"at":["request","messages"]', b'"at":["prompt_token_ids"]'),
        (b'"ranges":[[0,1]]', b'"ranges":[[0,99999999999]]'),
        (b'"ranges":[[0,1]]', b'"ranges":[[-5,1]]'),
        (b'"stream":1,"start":0', b'"stream":1,"start":99999999999'),
        (b'"stream":1,"n":0', b'"stream":1,"n":-1'),
    ],
)
def test_damaged_numbers_and_names_of_what_is_stored_apart(store: Path, tmp_path: Path, old: bytes, new: bytes) -> None:
    """A call that says that its messages stand where none can stand, or are a hundred billion: it costs itself alone."""
    data = journal(store).read_bytes()
    assert old in data
    check(store, data.replace(old, new, 1), (old, new), tmp_path)


def test_items_that_are_equal_to_one_another_in_a_long_row(store: Path) -> None:
    """A message that is equal to the one before, ten thousand times, is read."""
    streams, n = Streams(), 10_000
    for k in range(n):
        streams.add("w", msgspec.json.decode(b'{"kind":"message","trajectory":"t","stream":1,"n":%d,"hash":"","%b}' % (k, b'body":"x"' if not k else b'same":%d' % (k - 1)), type=MessageLine))  # fmt: skip
    assert streams.item("w", 1, n - 1) == "x"


def test_a_damaged_line_is_told_by_each_process_that_reads(store: Path, tmp_path: Path) -> None:
    """Reading leaves the line out and says so once, with its file and byte; sealing says so, too."""
    where = Path(shutil.copytree(store, tmp_path / "s", ignore=shutil.ignore_patterns("catalog*")))
    data = journal(where).read_bytes()
    at = data.index(b'{"kind":"reward"')
    journal(where).write_bytes(data[:at] + b"#" + data[at + 1 :])
    for command in (["ls"], ["stats"], ["export", "--to", "jsonl", "-o", str(tmp_path / "out")], ["tail"], ["seal"]):
        found, said = status(command, where)
        assert (found, said.count(f"at byte {at}")) == (0, 1), (command, said)
    assert status(["ls"], where) == (0, "")  # what was sealed stands in the report of the doctor
    assert status(["doctor"], where)[0] == 1


def test_a_line_that_was_damaged_after_it_was_listed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lists don't look at such a line again: who reads its trajectory says so, once."""
    with odograph.open(tmp_path) as store, store.record(task="t") as run:
        run.reward(1.0)
    with odograph.open(tmp_path) as store:
        assert store.count() == 1
        data = journal(tmp_path).read_bytes()
        journal(tmp_path).write_bytes(data.replace(b'{"kind":"reward"', b'##kind":"reward"', 1))
        assert [store.trajectory(run.id).rewards for _ in range(2)] == [[], []]
    assert caplog.text.count(f"trajectory '{run.id}' has a damaged line") == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"ranges":[[0,1]]', b'"ranges":[[0,9]]'),  # a call that sent more messages than there are
        (b'"stream":1,"n":0', b'"stream":7,"n":0'),  # a message of another stream
        (b'"stream":1,"start":0', b'"stream":7,"start":0'),  # token ids of another stream
    ],
)
def test_what_a_call_refers_to_and_no_line_holds_is_told(store: Path, tmp_path: Path, old: bytes, new: bytes) -> None:
    """A line that is JSON and says what can't be is no damaged line: each process that reads its trajectory says so, once."""
    where = Path(shutil.copytree(store, tmp_path / "s", ignore=shutil.ignore_patterns("catalog*")))
    data = journal(where).read_bytes()
    journal(where).write_bytes(data.replace(old, new, 1))
    first, second = odograph.open(where).trajectories()
    commands = [["lineage", first.id], ["export", "--to", "otel", "-o", str(tmp_path / "out")]]
    for command in [*commands, *([["show", first.id]] if b"start" not in old else [])]:
        _incomplete.cache_clear()  # which another process does not have
        found, said = status(command, where)
        assert (found, said.count(f"trajectory '{first.id}' has a call that refers to")) == (0, 1), (command, said)
    assert status(["show", second.id], where) == (0, "")


@pytest.mark.parametrize("text", ["{", "", "[]", '{"redact": 5}', '{"durability": "never"}', "\xff"])
def test_damaged_settings_are_told_by_the_doctor(store: Path, tmp_path: Path, text: str) -> None:
    """Nothing can be recorded where nobody knows what to redact: the doctor says why."""
    where = Path(shutil.copytree(store, tmp_path / "s"))
    (where / "store.json").write_text(text, encoding="latin-1")
    with odograph.open(where) as damaged:
        (found,) = damaged.examine()["damages"]
    assert (found["file"], found["offset"], found["torn"]) == ("store.json", 0, False)
    assert "nothing can be recorded until the file is put back" in found["reason"]
    assert status(["doctor"], where)[0] == 1
    assert status(["ls"], where) == (0, "")


def test_trajectories_whose_starts_are_lost_are_listed_as_they_began(tmp_path: Path) -> None:
    with odograph.open(tmp_path / "s") as store:
        for task in range(3):
            with store.record(task=task) as run:
                run.note(task)
        ids = [s.id for s in store.summaries()]
    (journal,) = (tmp_path / "s" / "journal").glob("*.jsonl")
    text = "".join(line for line in journal.read_text().splitlines(keepends=True) if '"kind":"start"' not in line)
    for id, other in zip(ids, reversed(ids), strict=True):  # the ids are in another order than the times
        text = text.replace(id, other.replace("-", "~"))
    journal.write_text(text.replace("~", "-"))
    for path in (tmp_path / "s").glob("catalog*"):
        path.unlink()
    with odograph.open(tmp_path / "s") as store:
        assert [s.id for s in store.summaries()] == [*reversed(ids)]
        store.seal()
        assert [s.id for s in store.summaries()] == [*reversed(ids)]
