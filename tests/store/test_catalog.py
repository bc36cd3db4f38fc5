"""Finding and filtering: the catalog catches up, can be deleted, and never shows less than the journal holds."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
import warnings
from contextlib import closing
from pathlib import Path

import pytest

import odograph
from odograph.store import keeping, lines, rows, text
from odograph.store.indexing import Batch
from odograph.store.lines import File
from odograph.types import Fork, Start
from tests.cost import costs


def fill(store: odograph.Store, count: int = 3) -> list[str]:
    ids = []
    for i in range(count):
        with store.record(task=f"task {i}", agent=f"agent-{i % 2}", model="m", group=f"g{i % 2}", tags=["all", f"t{i}"]) as run:
            with run.step(observation="o") as step:
                step.llm_call(
                    model="m",
                    messages=[{"role": "user", "content": f"where is the needle{i}?"}],
                    response="in the haystack",
                    usage={"prompt_tokens": 10, "completion_tokens": 5},
                )
                step.action("search", {"q": i}, "found", ok=True)
            run.reward(float(i), name="final")
        ids.append(run.id)
    return ids


def test_summaries_hold_what_lists_show(store: odograph.Store) -> None:
    """A list shows task, agent, model, counts, tokens, reward, times, group and tags without reading trajectories."""
    ids = fill(store)
    found = list(store.summaries())
    assert [s.id for s in found] == ids
    s = found[2]
    assert (s.task, s.agent, s.model, s.status, s.group, s.tags) == ("task 2", "agent-0", "m", "completed", "g0", ["all", "t2"])
    assert (s.steps, s.llm_calls, s.actions, s.prompt_tokens, s.completion_tokens, s.reward) == (1, 1, 1, 10, 5, 2.0)
    assert s.started is not None
    assert s.duration is not None
    assert 0 < s.duration < 60


def test_a_summary_says_each_of_its_figures(store: odograph.Store) -> None:
    """What a list shows of a run is not mixed up: counts, tokens, what the runtime and the metadata say, source and error."""
    about = {"scenario": "s", "runtime": {"task_id": "t", "attempt": 2}, "replay_of": "r"}
    with store.record(task={"q": 1}, policy_version=3, metadata=about) as run:
        for _ in range(4):
            with run.step(observation="o"):
                pass
        with run.step() as step:
            for _ in range(2):
                usage = {"prompt_tokens": 10, "completion_tokens": 7}
                step.llm_call(model="m", messages=[{"role": "user", "content": "q"}], response="a", usage=usage)
            for _ in range(3):
                step.action("look", {}, "seen")
        run.reward(0.5)
        run.finish("answer", status="failed", error="broken")
    times = {
        "start": {"source_time": 10**18, "metadata": {"source": {"format": "x"}}},
        "end": {"source_time": 10**18 + 3 * 10**9},
    }
    imported = store.add({"task": "i", **times})
    (found,) = store.summaries(ids=[run.id])
    assert (found.steps, found.llm_calls, found.actions, found.prompt_tokens, found.completion_tokens) == (5, 2, 3, 20, 14)
    assert (found.task, found.policy_version, found.scenario, found.task_id, found.attempt) == ({"q": 1}, 3, "s", "t", 2)
    assert (found.reward, found.replay, found.status, found.error, found.source) == (0.5, True, "failed", "broken", None)
    assert found.last == store.trajectory(run.id).records[-1].time
    (found,) = store.summaries(ids=[imported])
    assert (found.source, found.scenario, found.replay, found.attempt, found.error) == ({"format": "x"}, None, False, None, None)
    assert (found.started, found.duration) == (10**18, 3.0)


def test_forks_are_told_in_the_order_in_which_they_began(store: odograph.Store) -> None:
    """... with the step where each left, sealed or not."""
    for id, time, fork in (
        ("a", 2, Fork("whole")),
        ("c", 1, Fork("whole", 2)),
        ("b", 3, Fork("whole", 0)),
        ("d", 1, Fork("other", 1)),
    ):
        store.add([Start(trajectory=id, id=f"start of {id}", time=time, seq=1, fork=fork)])
    for _ in range(2):
        assert store.backend.reader.forks("whole") == [("c", 2), ("a", None), ("b", 0)]
        store.seal()


def test_filters(store: odograph.Store) -> None:
    """Every filter of the design narrows as it says, alone and together."""
    ids = fill(store, 6)

    def found(**filters: object) -> list[int]:
        return [ids.index(s.id) for s in store.summaries(**filters)]

    assert found(group="g1") == [1, 3, 5]
    assert found(agent="agent-0", min_reward=2) == [2, 4]
    assert found(max_reward=1) == [0, 1]
    assert found(tag="t3") == [3]
    assert found(tag=["all", "t2"]) == [2]
    assert found(tag=["t1", "t2"]) == []
    assert found(model="m", limit=2) == [0, 1]
    assert found(status="completed", text="needle4") == [4]
    assert found(status=["failed", "running"]) == []
    assert found(time_range="1h") == [0, 1, 2, 3, 4, 5]
    assert found(time_range=(None, "2020-01-01")) == []
    assert found(time_range=("2020-01-01T00:00:00Z", None)) == [0, 1, 2, 3, 4, 5]
    assert found(ids=[ids[4], ids[1][-8:]]) == [1, 4]
    assert [t.id for t in store.trajectories(group="g1")] == [ids[1], ids[3], ids[5]]
    with pytest.raises(TypeError, match="no filter 'grup'; there are: ids, group"):
        store.summaries(grup="x")
    with pytest.raises(odograph.InvalidInput, match="no status 'done'"):
        list(store.summaries(status="done"))
    with pytest.raises(odograph.InvalidInput, match="'7 fortnights' is no length of time"):
        list(store.summaries(time_range="7 fortnights"))


def test_ids_by_unique_prefix_or_suffix(store: odograph.Store) -> None:
    """A unique prefix or suffix finds a trajectory; an ambiguous or unknown one is answered with what there is."""
    ids = fill(store)
    assert store.trajectory(ids[0]).id == ids[0]
    assert store.trajectory(ids[1][-8:]).id == ids[1]
    assert store.trajectory(ids[1][-8:].upper()).id == ids[1]
    with pytest.raises(odograph.NotFound, match="is not one trajectory but several"):
        store.trajectory(ids[0][:6])
    with pytest.raises(odograph.NotFound, match="no trajectory 'xyz' among the 3 of this store"):
        store.trajectory("xyz")
    with pytest.raises(odograph.NotFound):
        store.trajectory("")


def test_a_part_of_several_ids_names_five_of_them(store: odograph.Store) -> None:
    """The sentence shows the first five ids, and says where there are more."""
    for id in [*(f"run-{n}" for n in range(6)), *(f"{n}-end" for n in range(5))]:
        store.add([Start(trajectory=id, id=f"start of {id}", time=1, seq=1)])
    with pytest.raises(
        odograph.NotFound, match=r"'run-' is not one trajectory but several: run-0, run-1, run-2, run-3, run-4, ...$"
    ):
        store.trajectory("run-")
    with pytest.raises(odograph.NotFound, match=r"'-end' is not one trajectory but several: 0-end, 1-end, 2-end, 3-end, 4-end$"):
        store.trajectory("-end")


def test_search_finds_messages_answers_and_results(store: odograph.Store) -> None:
    """Full text covers tasks, prompts, answers, tool results; words are and-ed, quotes make phrases, syntax is harmless."""
    ids = fill(store)
    assert [h.trajectory for h in store.search("needle1")] == [ids[1]]
    assert {h.trajectory for h in store.search("haystack")} == set(ids)
    assert {h.trajectory for h in store.search('"in the haystack"')} == set(ids)
    assert store.search('"haystack the in"') == []
    assert {h.trajectory for h in store.search('"in the" haystack in')} == set(ids)
    assert store.search('"where is" "needle1 the"') == []
    for query in ('"', "AND", "needle* OR (", "a:b", "-x", "NEAR(", "\x00", "'; drop table trajectories; --"):
        try:
            store.search(query)
        except odograph.InvalidInput as error:
            assert "at least one word" in str(error)
    with store.record(task="later") as run:
        run.note("the needle again")
    assert [h.trajectory for h in store.search("needle again")] == [run.id]


def test_a_long_journal_is_indexed_in_parts(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first search indexes what was listed before, some megabytes at a time. It finds what stands in each part, and each line
    once."""
    monkeypatch.setattr(text, "_BATCH", 300)
    ids = fill(store, 4)
    assert store.count() == 4
    for _ in range(2):
        assert [h.trajectory for h in store.search("needle3")] == [ids[3]]
        assert [h.trajectory for h in store.search("haystack")] == ids[::-1]


def test_who_never_searches_pays_for_no_index(store: odograph.Store) -> None:
    """Lists and trajectories index no text: the catalog stays small until the first search."""
    with store.record(task="t") as run:
        for n in range(100):
            run.note(" ".join(f"{n * 300 + k:x}word" for k in range(300)))

    def size() -> int:
        return sum(path.stat().st_size for path in store.root.glob("catalog.sqlite*"))

    assert (store.count(), len(store.trajectory(run.id).notes)) == (1, 100)
    before = size()
    assert len(store.search("2aword")) == 1
    assert size() > 2 * before


def test_a_file_that_went_meanwhile_has_no_text(tmp_path: Path) -> None:
    """Another process sealed and deleted a journal file, or took it out of the list, before its text was indexed."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        rows.create(db)
        assert not text.index_some(db, File(tmp_path / "gone.jsonl", "gone", 1), None)
        db.execute("insert into files values('gone.jsonl', 'gone', 1, 10, 0)")
        assert not text.index_some(db, File(tmp_path / "gone.jsonl", "gone", 1), None)


def test_the_catalog_can_be_deleted_damaged_or_locked(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is only a cache: without it, with rubbish in its place, or while another process holds it, reads are the same. What another
    process holds stays."""
    fill(store)
    before = [(s.id, s.reward) for s in store.summaries()]
    store.close()
    catalog = store.root / "catalog.sqlite"
    catalog.unlink()
    with odograph.open(store.root) as again:
        assert [(s.id, s.reward) for s in again.summaries()] == before
    catalog.write_bytes(b"this is no database" * 100)
    with odograph.open(store.root) as again:
        assert [(s.id, s.reward) for s in again.summaries()] == before
    monkeypatch.setattr(keeping, "_BUSY_SECONDS", 0.0)
    made = catalog.stat().st_ino
    with closing(sqlite3.connect(catalog, isolation_level=None)) as other, odograph.open(store.root) as again:
        other.execute("begin immediate")
        assert [(s.id, s.reward) for s in again.summaries()] == before
    with closing(sqlite3.connect(catalog, isolation_level=None)) as other, odograph.open(store.root) as again:
        assert again.count() == 3
        other.execute("begin exclusive")  # keeps no reader waiting
        assert again.count() == 3 and not again.backend.reader.catalog.in_memory
        again.record(task="new").finish()
        assert again.count() == 4
    assert catalog.stat().st_ino == made


def test_who_is_stopped_while_a_list_is_made_keeps_nobody_waiting(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle leaves no lock on the catalog, and the next list is whole."""
    fill(store, 1)
    assert store.count() == 1

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    fill(store)
    with monkeypatch.context() as patch:
        patch.setattr(Batch, "add", stopped)
        with pytest.raises(KeyboardInterrupt):
            store.count()
    with closing(sqlite3.connect(store.root / "catalog.sqlite", timeout=0, isolation_level=None)) as other:
        other.execute("begin immediate")
    assert store.count() == len(list(store.trajectories())) == 4


@pytest.mark.parametrize(
    "damage",
    [
        "drop table summaries",
        "drop table hits",
        "drop table search_config",
        "drop index by_began",
        "drop view trajectories",
        "alter table files drop column writer",
        "alter table damages rename column reason to other",
        "alter table search_idx rename column term to other",
        "delete from places",
        "update places set file='elsewhere.jsonl'",
        "garbage in the middle",
    ],
)
def test_a_damaged_catalog_is_made_anew_once(tmp_path: Path, damage: str) -> None:
    """Whatever a catalog lacks or has wrong: one warning, the right answers, and a whole file on disk for those who read next."""
    with odograph.open(tmp_path / "store") as store:
        ids = fill(store)
        assert len(store.search("needle1")) == 1
    path = tmp_path / "store" / "catalog.sqlite"
    if damage.startswith("garbage"):
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 8192 * 4096)
            file.write(b"\xa5" * 4096)
    else:
        with closing(sqlite3.connect(path)) as db:
            db.execute("pragma legacy_alter_table=on")
            with db:
                db.execute(damage)

    def answers() -> None:
        with odograph.open(tmp_path / "store") as again:
            assert len(again.search("needle1")) == 1
            assert [t.id for t in again.trajectories()] == [s.id for s in again.summaries()] == ids
            assert again.count(group="g0") == 2

    with pytest.warns(RuntimeWarning, match=r"catalog .* was damaged \([^*]+\) and is made anew; nothing is lost") as told:
        answers()
    assert len([w for w in told if w.category is RuntimeWarning]) == 1  # Python 3.13 warns of what a test before left open, too
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        answers()
        with odograph.open(tmp_path / "store") as again:
            assert not again.examine()["catalog_in_memory"]


def test_doctor_looks_at_each_page_of_a_large_catalog(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged page of a catalog that is too large to be looked at each time it is opened: a question that does not need the page
    does not notice; what `odograph doctor` asks does, and the catalog is whole from then on."""
    fill(store)
    store.search("needle1")
    store.close()
    monkeypatch.setattr(rows, "_FEW_PAGES", 0)
    path = store.root / "catalog.sqlite"
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("select rootpage from sqlite_master where name='search_data'").fetchone()
        (size,) = db.execute("pragma page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)
    with odograph.open(store.root) as again:
        assert again.count() == 3
        with pytest.warns(RuntimeWarning, match="catalog .* was damaged .* made anew; nothing is lost"):
            again.examine()
        assert len(again.search("needle1")) == 1


def test_a_repair_makes_the_catalog_anew(store: odograph.Store) -> None:
    """A figure that a program put into the catalog goes, though nothing shows that the figure is wrong."""
    fill(store)
    before = list(store.summaries())
    store.close()
    with closing(sqlite3.connect(store.root / "catalog.sqlite")) as db, db:
        db.execute("update summaries set steps=77")
    with odograph.open(store.root) as again:
        assert {one.steps for one in again.summaries()} == {77}
        again.repair()
        assert list(again.summaries()) == before


def test_a_journal_file_that_vanished_or_shrank_is_noticed(store: odograph.Store) -> None:
    """What a user deleted is gone from lists, too: the catalog is rebuilt, not believed."""
    ids = fill(store)
    assert len(store) == 3
    store.close()
    for file in (store.root / "journal").iterdir():
        file.unlink()
    with odograph.open(store.root) as again:
        assert len(again) == 0
        with again.record(task="new"):
            pass
        assert len(again) == 1
        with pytest.raises(odograph.NotFound):
            again.trajectory(ids[0])


@pytest.mark.parametrize("lines", [0, 30])
def test_a_journal_that_is_exchanged_while_its_writer_lives_is_noticed(
    store: odograph.Store, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    """The next question counts what is there, be it shorter or longer."""
    monkeypatch.setattr(keeping, "_LOOK_SECONDS", 1e9)
    fill(store)
    os.utime(store.root / "journal", (1e9, 1e9))
    with warnings.catch_warnings(), odograph.open(store.root) as reader:
        warnings.simplefilter("ignore", RuntimeWarning)  # of the writer, whose file it is
        assert reader.count() == 3 and not reader.backend.reader.catalog._must_look()
        (path,) = (store.root / "journal").glob("*.jsonl")
        head = path.read_bytes().partition(b"\n")[0] + b"\n"
        path.write_bytes(head + (b'"' + b"x" * 997 + b'"\n') * lines)
        assert reader.count() == 0
        store.close()


def test_a_journal_file_that_another_program_exchanged_is_noticed(store: odograph.Store) -> None:
    """Lines of a longer file stand elsewhere: the catalog is rebuilt, not gone on with, and has what is sealed, too."""
    store.record(task="sealed").finish()
    store.seal()
    fill(store)
    with odograph.open(store.root.with_name("other")) as other:
        for n in range(20):
            with other.record(task="after") as run:
                run.note("x" * (400 + n))
    store.close()
    (path,), (theirs,) = ((of.root / "journal").glob("*.jsonl") for of in (store, other))
    with odograph.open(store.root) as again:
        assert again.count() == 4
        head = path.read_bytes().partition(b"\n")[0]
        path.write_bytes(head + theirs.read_bytes()[len(head) :])
        os.utime(path.parent)  # as a program does that moves a file there
        assert [s.task for s in again.summaries()] == ["sealed"] + ["after"] * 20


def test_a_file_that_had_no_lines_when_it_was_seen_is_read(
    store: odograph.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer may have waited long between making its file and the first lines, which change nothing of the folder: the next
    question reads them. A file that a killed writer left so long ago is not waited for."""
    monkeypatch.setattr(keeping, "_LOOK_SECONDS", 1e9)
    with odograph.open(tmp_path / "other") as other:
        fill(other, 1)
    (lines,) = (other.root / "journal").glob("*.jsonl")
    fill(store, 1)
    store.close()
    folder = store.root / "journal"
    begun = folder / lines.name
    begun.touch()
    os.utime(folder, (1e9, 1e9))
    assert len(store) == 1
    begun.write_bytes(lines.read_bytes())
    assert len(store) == 2
    (left := folder / "left.jsonl").touch()
    os.utime(left, (1e9, 1e9))
    os.utime(folder, (1e9, 1e9))
    assert len(store) == 2 and not store.backend.reader.catalog._must_look()
    (newer := folder / f"{'f' * 19}.jsonl").touch()
    assert len(store) == 2
    newer.write_bytes(lines.read_bytes().partition(b"\n")[0].replace(b'"schema_version":1', b'"schema_version":999') + b"\n")
    with pytest.raises(odograph.NewerStore):
        len(store)


def test_it_catches_up_incrementally(store: odograph.Store) -> None:
    """A reader that has seen everything reads only what was written since."""
    with store.record(task="x") as run:
        for i in range(5):
            with run.step() as step:
                step.reward(1.0)
            summary = next(store.summaries())
            assert (summary.steps, summary.reward, summary.status) == (i + 1, i + 1.0, "running")
            assert len(store.trajectory(run.id).steps) == i + 1
    assert next(store.summaries()).status == "completed"


def test_readers_and_writers_of_several_processes(tmp_path: Path) -> None:
    """Four writing processes and three that read all the while: each sees a whole picture, and in the end all of it."""
    writer = """
        import sys, odograph
        with odograph.open(sys.argv[1]) as store:
            for i in range(60):
                with store.record(task=i, group=sys.argv[2]) as run:
                    with run.step() as step:
                        step.llm_call(model="m", messages=[{"role": "user", "content": "q"}], response="a", usage={"prompt_tokens": 1})
                    run.reward(1.0)
    """
    reader = """
        import sys, odograph
        seen = 0
        while seen < 240:
            with odograph.open(sys.argv[1]) as store:
                found = list(store.summaries())
                assert len(found) >= seen
                assert len({s.id for s in found}) == len(found)
                assert all(s.steps == 1 and s.prompt_tokens == 1 for s in found if s.status == "completed"), found
                seen = sum(s.status == "completed" for s in found)
    """

    def run(code: str, *args: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(tmp_path), *args])

    readers = [run(reader) for _ in range(3)]
    writers = [run(writer, f"g{i}") for i in range(4)]
    try:
        assert [p.wait() for p in writers] == [0] * 4
        assert [p.wait() for p in readers] == [0] * 3
    finally:
        for process in (*readers, *writers):  # a reader would wait for ever for what a dead writer didn't write
            process.kill()
    with odograph.open(tmp_path) as store:
        assert len(store) == 240
        assert sum(1 for _ in store.trajectories(group="g2")) == 60


def test_rewards_in_lists_agree_with_the_view(store: odograph.Store) -> None:
    """The reward in a list is the one that the trajectory itself states, late corrections included."""
    with store.record(task="x") as run:
        with run.step() as step:
            step.reward(0.5, name="a")
            step.reward(0.25, name="a")
        with run.step() as step:
            step.reward(None, weight=0)
            step.reward(float("nan"), name="watched", weight=0)
    assert next(store.summaries()).reward == store.trajectory(run.id).reward == 0.25
    with store.record(task="y") as other, other.step() as step:
        step.reward(0.5, name="a")
        step.reward(None, name="b")
    assert store.trajectory(other.id).reward is None
    assert next(s.reward for s in store.summaries() if s.id == other.id) is None
    first = store.append(run.id).reward(1.0, name="judge", source="judge", author="j1")
    assert next(store.summaries()).reward == store.trajectory(run.id).reward == 1.0
    with store.append(run.id) as late:
        late.reward(0.0, name="judge", source="judge", author="j2")
        late.reward(5.0, name="watch", weight=0)
    assert next(store.summaries()).reward == store.trajectory(run.id).reward == 0.5
    store.append(run.id).reward(0.4, name="judge", source="judge", author="j1", supersedes=first)
    assert next(store.summaries()).reward == store.trajectory(run.id).reward == 0.2
    assert store.trajectory(run.id).rewards["judge"] == 0.2
    assert len(store.trajectory(run.id).records) == 12


def test_one_store_read_by_many_threads_while_it_is_written(store: odograph.Store) -> None:
    """Threads that share a store list, load and search while others record: each sees whole trajectories, none a locked catalog."""
    from concurrent.futures import ThreadPoolExecutor

    def write(n: int) -> None:
        for i in range(20):
            with store.record(task=f"word{n} {i}") as run, run.step() as step:
                step.reward(1.0)

    def read(_: int) -> None:
        for _ in range(20):
            for summary in store.summaries(status="completed"):
                assert summary.reward == 1.0
            for hit in store.search("word1"):
                assert store.trajectory(hit.trajectory).task.startswith("word1")

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads take turns far more often
    try:
        with ThreadPoolExecutor(6) as pool:
            for done in [*(pool.submit(write, n) for n in range(3)), *(pool.submit(read, n) for n in range(3))]:
                done.result()
    finally:
        sys.setswitchinterval(usual)
    assert len(store) == 60


def test_numbers_of_any_size_do_not_break_lists(store: odograph.Store) -> None:
    """A backend may state 2**80 tokens: it is kept exactly, and lists go on."""
    with store.record(task=2**80, metadata={"source": {"totals": {"llm_calls": 2**90}}}) as run, run.step() as step:
        step.llm_call(messages=[], response="x", usage={"prompt_tokens": 2**80, "completion_tokens": -(2**80)})
        step.action("a", 2**80, -(2**80))
        step.reward(1e308)
        step.reward(1e308, name="other")
    (summary,) = store.summaries()
    assert (summary.task, summary.prompt_tokens) == (2**80, None)
    t = store.trajectory(run.id)
    assert (t.llm_calls[0].prompt_tokens, t.actions[0].arguments) == (2**80, 2**80)


def test_times_beyond_all_clocks_and_bounds_that_are_no_numbers(store: odograph.Store) -> None:
    """A range of any length or year is one; NaN is refused, where comparing with it would quietly find nothing."""
    fill(store, 2)
    for given in ("99999999999d", (None, "9999-12-31"), ("0001-01-01", None), ("1677-01-01", "9999-12-31")):
        assert len(list(store.summaries(time_range=given))) == 2
    assert list(store.summaries(time_range=("9999-12-30", None))) == []
    for name in ("min_reward", "max_reward"):
        with pytest.raises(odograph.InvalidInput, match="is a number, not nan"):
            list(store.summaries(**{name: float("nan")}))
        with pytest.raises(odograph.InvalidInput, match="is a number, not 'a lot'"):
            list(store.summaries(**{name: "a lot"}))


def test_filters_of_the_wrong_type_are_refused(store: odograph.Store) -> None:
    """A filter that can't be meant says so in a sentence: it neither finds nothing nor shows SQLite's own error."""
    fill(store, 2)
    for name in ("group", "agent", "model", "text"):
        for given in (5, ["a"]):
            with pytest.raises(odograph.InvalidInput, match=f"{name} is a text, not "):
                list(store.trajectories(**{name: given}))
    for name in ("tag", "status", "task_id", "ids"):
        for several in (5, [5], {"a": 1}):
            with pytest.raises(odograph.InvalidInput, match=f"{name} is a text or a list of texts, not "):
                list(store.trajectories(**{name: several}))
    for limit in (-1, 2.5, "2"):
        with pytest.raises(odograph.InvalidInput, match="a limit is a whole number from 0, not "):
            list(store.trajectories(limit=limit))
    for what in (5, "x", None):
        with pytest.raises(odograph.InvalidInput, match="a trajectory is a dict, a Trajectory or records, not "):
            store.add(what)  # type: ignore[arg-type]


def test_it_learns_what_was_sealed_once(store: odograph.Store) -> None:
    """After another seal the catalog learns the new trajectories alone, however many were sealed before."""
    db = store.backend.reader.catalog._db
    for size in (100, 1, 1):
        for n in range(size):
            store.record(task=n).finish()
        assert store.count() >= size
        before = db.total_changes
        store.seal()
        assert store.count() >= size
    assert db.total_changes - before < 100
    assert db.execute("select count(*) from files").fetchone() == (0,)  # a row of a file that is gone is looked at for ever


def test_a_large_file_is_read_in_few_pieces(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that is larger than what one transaction takes, each transaction takes so much, also far into the file."""
    run = store.record(task="t")
    for n in range(300):
        run.note(n)
    store.close()
    (path,) = (store.root / "journal").glob("*.jsonl")

    def asked() -> int:
        with odograph.open(store.root) as again:
            again.backend.reader.forget()
            return again.count()

    _, least = costs(asked, 3)
    monkeypatch.setattr(keeping, "_BATCH", path.stat().st_size // 5)
    assert costs(asked, 3, 3 * least)[1] < 3 * least


def test_a_catalog_that_another_process_begins_anew_is_read_on(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another process has emptied the catalog, and not read all files again yet, a question reads them."""
    monkeypatch.setattr(keeping, "_LOOK_SECONDS", 1e9)
    fill(store)
    os.utime(store.root / "journal", (1e9, 1e9))
    assert store.count() == 3 and not store.backend.reader.catalog._must_look()
    with closing(sqlite3.connect(store.root / "catalog.sqlite", isolation_level=None)) as other:
        rows.functions(other)
        rows.create(other)
    assert store.count() == 3


def test_files_that_go_at_each_look_are_told(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is given that leaves out what could not be read, however often files are listed anew."""
    fill(store)
    looks = []
    monkeypatch.setattr(keeping, "size_of", lambda path: looks.append(path) or -1)
    with pytest.raises(odograph.StoreError, match="a journal file was sealed meanwhile"):
        store.count()
    assert len(looks) == 5


def test_a_file_that_goes_while_files_are_listed_stops_no_question(
    store: odograph.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process sealed and deleted it."""
    fill(store)
    monkeypatch.setattr(keeping, "journals", lambda folder: [*lines.journals(folder), folder / "gone.jsonl"])
    assert store.count() == 3
