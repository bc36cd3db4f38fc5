"""How lines are folded into the catalog: in whatever pieces they come, with whatever numbers and words."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

import odograph
from odograph.types import Edit, Label, Reward, Span, Start


def test_uses_count_what_happened_however_it_comes(store: odograph.Store) -> None:
    """Actions, contexts and models of calls by name; a sealed summary says how often, of each part that was sealed."""
    pytest.importorskip("pyarrow")
    with store.record(task="t", model="declared") as run:
        for n in range(3):
            with run.step() as step:
                step.llm_call(model="m", response="a")
                step.llm_call(model="m" if n else "other", response="a")
                step.action("look", {})
                step.context("kb", n)
                step.note("kb", name="look")
            assert store.used([run.id])[run.id].uses == [
                ("action", "look"),
                ("context", "kb"),
                ("model", "m"),
                ("model", "other"),
            ]
        for times in (1, 2):
            if times == 2:
                store.seal()
                step.action("look", {})
                step.action("late", {})
    for _ in range(2):
        store.seal()
        (row,) = store.backend.reader.lake.newest({run.id}).to_pylist()
        counts = [["action", "late", 1], ["action", "look", 4], ["context", "kb", 3], ["model", "m", 5], ["model", "other", 1]]
        assert msgspec.json.decode(row["uses"]) == counts
        assert store.used([run.id])[run.id].uses == [(kind, name) for kind, name, _ in counts]


@pytest.mark.parametrize("order", ["aabb", "abab", "abba", "aaab", "baab"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_lines_are_found_in_whatever_pieces_they_were_listed(store: odograph.Store, order: str, size: int) -> None:
    """Records of two runs, listed after each, or some together: each is read."""
    runs = {name: store.record(task=name) for name in "ab"}
    for n, name in enumerate(order * 2):
        runs[name].note(n)
        if n % size == 0:
            store.count()
    for name, run in runs.items():
        notes = [note.data for note in store.trajectory(run.id).notes]
        assert notes == [n for n, one in enumerate(order * 2) if one == name]


def test_a_stretch_of_lines_that_goes_on_stays_one(store: odograph.Store) -> None:
    """However often the catalog catches up with a run, it holds one place for it."""
    run = store.record(task="t")
    for n in range(5):
        run.note(n)
        assert len(store.backend.reader.catalog.places(run.id)) == 1


@pytest.mark.parametrize("sealed", [False, True])
def test_a_correction_counts_everything_once(store: odograph.Store, sealed: bool) -> None:
    """Where a record is corrected, a list shows what the trajectory says: also of what comes after, in whichever tier it is."""
    if sealed:
        pytest.importorskip("pyarrow")
    with store.record(task="t", agent="a") as run:
        with run.step() as step:
            step.llm_call(model="m", response="a", usage={"prompt_tokens": 5, "completion_tokens": 3})
            step.action("look", {})
            step.reward(0.25, name="r")
        run.reward(0.0, name="r")
        run.finish("x", status="failed", error="e")
    given = store.trajectory(run.id).to_dict()
    assert given["end"]["answer"] == "x"
    for n in range(3):
        if sealed:
            store.seal()
        store.add({**given, "end": {**given["end"], "answer": f"y{n}", "status": "completed", "error": None}})
        store.append(run.id).reward(n + 0.5, name="r")
        t = store.trajectory(run.id)
        (summary,) = store.summaries()
        assert summary.reward == t.reward
        assert (summary.steps, summary.llm_calls, summary.actions) == (1, 1, 1)
        assert (summary.prompt_tokens, summary.completion_tokens, summary.status, summary.error) == (5, 3, "completed", None)
        used = store.used([run.id])[run.id]
        assert (used.uses, used.components) == ([("action", "look"), ("model", "m")], {"r": summary.reward})
        with store.backend.reader.catalog._lock:
            kept = store.backend.reader.catalog._rows("select value from rewards order by value")
        assert sealed or kept == [(0.0,), (0.25,), *((late + 0.5,) for late in range(n + 1))]


def test_rewards_of_one_time_count_in_the_order_of_their_writers(store: odograph.Store) -> None:
    """Of two values of one name the one of the later writer counts, and of one writer the one with the higher number, in a list as
    in the trajectory; of two times the later one, whoever wrote it."""
    for id, writers, numbers, later in (("t", "ba", (8, 9), 0), ("u", "aa", (9, 8), 0), ("v", "ab", (9, 8), -1)):
        records: list[Any] = [Start(trajectory=id, task="q", id=f"{id}s", time=1, seq=1, writer="a")]
        for n in range(2):
            about = {"id": f"{id}{n}", "seq": numbers[n], "writer": writers[n]}
            records.append(Reward(trajectory=id, time=2 + n * later, value=float(n), **about))
        store.add(records)
        (summary,) = store.summaries(ids=[id])
        assert summary.reward == store.trajectory(id).reward == 0.0


def test_numbers_that_no_database_holds_are_not_known(store: odograph.Store) -> None:
    """Of a line with a number beyond 64 bits all else counts, and the line keeps its place among the others."""
    with store.record(task="t", agent="a") as run, run.step() as step:
        step.llm_call(model="m", response="r", usage={"prompt_tokens": 55555, "completion_tokens": 7})
        step.reward(1.0, name="first")
        run.reward(2.0, name="second")
    store.close()
    (path,) = (store.root / "journal").iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    big = str(2**70).encode()
    for place, line in enumerate(lines):
        if b'"kind":"reward"' in line:
            line = re.sub(rb'"(seq|time)":\d+', rb'"\1":' + big, line)
        lines[place] = line.replace(b"55555", big).replace(b'"step":0', b'"step":' + big)
    path.write_bytes(b"".join(lines))
    (summary,) = store.summaries()
    assert (summary.prompt_tokens, summary.completion_tokens, summary.llm_calls, summary.agent) == (None, 7, 1, "a")
    assert store.used([run.id])[run.id].components == {"first": 1.0, "second": 2.0}
    assert store.search("m")[0].step is None


def test_a_long_word_is_no_text(store: odograph.Store) -> None:
    """What has neither a space nor a line's end in its first 4096 characters is data; it is found neither whole nor in part."""
    with store.record(task="t") as run:
        run.note({"data": "abcd-" * 1000, "text": "needle " + "x" * 5000})
        run.note("line\n" * 1000)
        run.note("q" * 4095)
        run.note("w" * 4096)
        run.note("a" * 4095 + " haystack")
        run.note("a" * 4096 + " bale")
    found = {word: len(store.search(word)) for word in ("abcd", "needle", "line", "q" * 4095, "w" * 4096, "haystack", "bale")}
    assert found == {"abcd": 0, "needle": 1, "line": 1, "q" * 4095: 1, "w" * 4096: 0, "haystack": 1, "bale": 0}


def test_a_damaged_line_is_told_by_who_meets_it(store: odograph.Store, caplog: pytest.LogCaptureFixture) -> None:
    """One line is enough, of whatever kind: who lists or searches warns of it, and a seal, which keeps it."""
    pytest.importorskip("pyarrow")
    lines = [
        b'{"kind":"note","trajectory":"t","data":"\xff"}',
        b'{"kind":"message","trajectory":5}',
        b'{"kind":"note","data":"needle"}',
    ]
    lines += [b'["needle"]', b'{"kind":"zebra","trajectory":"t","data":"needle"}', b'{"kind":5,"trajectory":"t","data":"needle"}']
    for listed in (True, False):
        for n, line in enumerate(lines, start=1):
            store.record(task="t").finish()
            store.close()
            with next((store.root / "journal").glob("*.jsonl")).open("ab") as file:
                file.write(line + b"\n")
            caplog.clear()
            if listed:
                assert store.search("needle") == []
                assert "1 in all" in caplog.text
            store.seal()
            assert caplog.text.count("1 in all") == 1 + listed
            assert len(store.damages()) == n + (0 if listed else len(lines))


def test_a_correction_by_another_writer_counts_each_use_once(store: odograph.Store) -> None:
    """What one journal file says again of a run in another is counted once, also in what is sealed."""
    pytest.importorskip("pyarrow")
    with store.record(task="t", agent="a") as run, run.step() as step:
        step.action("look", {})
        step.reward(0.5)
    given = store.trajectory(run.id).to_dict()
    with odograph.open(store.root) as other:
        other.add({**given, "end": {**given["end"], "status": "failed"}})
    assert store.count(status="failed") == 1
    store.seal()
    (row,) = store.backend.reader.lake.newest({run.id}).to_pylist()
    assert (msgspec.json.decode(row["uses"]), row["actions"], row["reward"]) == ([["action", "look", 1]], 1, 0.5)


def test_what_names_other_records_is_no_text(store: odograph.Store) -> None:
    """Ids and hashes are found by no search: each record would be found by what it refers to."""
    about = {"trajectory": "t", "id": "needleid"}
    store.add(
        [
            Start(trajectory="t", task="q", id="s"),
            Label(**about, technique="hay", description="hay", rubric_hash="needlerubric"),
            Edit(trajectory="t", id="e", base="needlebase", base_hash="needlehash", supersedes="needlebefore"),
        ]
    )
    assert len(store.search("hay")) == 1
    assert [word for word in ("id", "rubric", "base", "hash", "before") if store.search(f"needle{word}")] == []


@pytest.mark.parametrize("sealed", [False, True])
def test_steps_of_two_agents_are_two_steps(store: odograph.Store, sealed: bool) -> None:
    """A list adds the rewards of a step of each agent; one that names no agent is the trajectory's, whose later value counts."""
    records: list[Any] = [Start(trajectory="t", task="q", id="s", time=1, agent="a")]
    for n, (agent, value) in enumerate([("b", 2.0), ("a", 1.0), (None, 4.0)]):
        records.append(Reward(trajectory="t", id=f"{n}", time=2 + n, step=0, agent=agent, value=value))
    store.add(records)
    if sealed:
        pytest.importorskip("pyarrow")
        store.seal()
    (summary,) = store.summaries()
    assert summary.reward == store.trajectory("t").reward == 6.0
    assert store.used(["t"])["t"].components == {"reward": 6.0}


def test_rewards_of_a_part_are_not_the_whole_ones(store: odograph.Store) -> None:
    """A reward of a record, and one of some tokens of a call, is no reward of the trajectory, in a list as in the trajectory."""
    about: list[dict[str, Any]] = [{"target": "s"}, {"span": Span(0, 1)}, {"target": "s", "span": Span(0, 1)}, {}]
    rewards = [Reward(trajectory="t", id=f"{n}", name=f"r{n}", time=2 + n, value=2.0**n, **more) for n, more in enumerate(about)]
    store.add([Start(trajectory="t", task="q", id="s", time=1), *rewards])
    (summary,) = store.summaries()
    assert summary.reward == store.trajectory("t").reward == 8.0


def test_text_is_found_wherever_it_stands(store: odograph.Store) -> None:
    """In lists and objects, however deep, in the journal and once it is sealed."""
    pytest.importorskip("pyarrow")
    with store.record(task="t") as run:
        run.note({"a": [1, ["needle", {"b": [{"c": "thread"}]}]]})
    for _ in range(2):
        assert [len(store.search(word)) for word in ("needle", "thread", "hay")] == [1, 1, 0]
        store.seal()


def test_what_several_gave_under_one_name_is_averaged(store: odograph.Store) -> None:
    """Of each source and author the later value counts, in a list as in the trajectory."""
    given: list[tuple[Any, str | None, float]] = [("environment", None, 9.0), ("model", "j", 3.0), ("environment", None, 6.0)]
    given += [("model", "k", 12.0), ("human", "k", 3.0)]
    about = [{"id": f"{n}", "time": 2 + n, "source": s, "author": a, "value": v} for n, (s, a, v) in enumerate(given)]
    store.add([Start(trajectory="t", task="q", id="s", time=1), *(Reward(trajectory="t", **one) for one in about)])
    (summary,) = store.summaries()
    assert summary.reward == store.trajectory("t").reward == 6.0


@pytest.mark.parametrize("pieces", [False, True])
def test_what_is_appended_happened_inside_of_the_start(store: odograph.Store, pieces: bool) -> None:
    """... whatever was listed first of a run. Of sessions that began at one time the one that was recorded later is the newer one."""
    with store.record(task="t") as run:
        if pieces:
            assert store.count() == 1
        run.note(1)
    store.append(run.id).note(2)
    t = store.trajectory(run.id)
    assert [note.parent for note in t.notes] == [t.start.id] * 2
    for id in ("b", "a", "c"):
        store.add([Start(trajectory=id, task=id, id=f"{id}0", source_time=10**18)])
        if pieces:
            assert store.count() > 1
    assert [s.id for s in store.summaries()] == ["b", "a", "c", run.id]


def test_a_field_of_the_wrong_type_costs_itself_in_lists_too(store: odograph.Store) -> None:
    """All other fields of its line count, in a list as in the trajectory, and nothing is told as damaged."""
    run = store.record(task="t")
    run.finish()
    store.close()
    line = (
        f'{{"kind":"action","trajectory":"{run.id}","id":"x","seq":99,"time":{10**18},"step":"five","name":"look","ok":true}}\n'
    )
    with next((store.root / "journal").glob("*.jsonl")).open("a") as file:
        file.write(line)
    (summary,) = store.summaries()
    assert (summary.actions, store.used([run.id])[run.id].uses, store.damages()) == (1, [("action", "look")], [])
    assert [action.name for action in store.trajectory(run.id).actions] == ["look"]
