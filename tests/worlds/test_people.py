"""Labels by people: the queue, and files of labels."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

import odograph
from odograph.errors import InvalidInput
from odograph.labels import current
from odograph.worlds import Queue, Rubric, chosen, from_csv, to_csv
from odograph.worlds.people import write

from .sessions import GRADED, RUBRIC, recorded

CARE = Rubric.of(RUBRIC)


def given(store: odograph.Store, author: str) -> dict[str, tuple[object, object]]:
    found = {t.id: [r for r in current(t.labels) if r.author == author] for t in store.trajectories()}
    return {id: (rs[0].value, rs[0].score) for id, rs in found.items() if rs}


def test_a_queue_shows_each_session_once_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """An annotator sees each session of the sample once, skipped ones last; a queue that is opened again goes on; another
    annotator begins anew, with the same sessions in the same order; undo brings the last one back."""
    with odograph.open(tmp_path) as store:
        for n in range(6):
            recorded(store, n)
        queue = Queue(store, CARE, "ann", sample=4)
        assert len(queue.ids) == 4
        first = queue.next()
        assert first is not None and first.number == 1 and [t.role for t in first.turns][:2] == ["system", "user"]
        assert queue.next() == first  # until something is done with it
        queue.skip(first)
        second = queue.next()
        assert second is not None and second.trajectory == queue.ids[1]
        queue.label(second, "careful", rationale="it read")
        third = queue.next()
        assert third is not None
        queue.label(third, "hasty")
        assert queue.done == 2 and queue.undo() and queue.next() == third
        queue.label(third, "careless")
        fourth = queue.next()
        assert fourth is not None and fourth.trajectory == queue.ids[3]
        queue.skip(fourth)
        assert queue.next() == first  # what was skipped comes again
    with odograph.open(tmp_path) as store:
        assert given(store, "ann") == {second.trajectory: ("careful", 1.0), third.trajectory: ("careless", 0.0)}
        again = Queue(store, CARE, "ann", sample=4)
        seen = []
        while (item := again.next()) is not None:
            seen.append(item.trajectory)
            again.label(item, "hasty")
        assert seen == [queue.ids[0], queue.ids[3]] and again.done == 4
        other = Queue(store, CARE, "bob", sample=4)
        item = other.next()
        assert other.ids == queue.ids and item is not None and item.trajectory == queue.ids[0]
        changed = Rubric.of(RUBRIC.replace("before", "long before"))
        assert Queue(store, changed, "ann", sample=4).next() is not None  # another version is another question


def test_a_person_sees_nothing_of_judges_and_may_say_what_the_rubric_allows(tmp_path: Path) -> None:
    """An item holds no label and no reward; a value or a score that the rubric does not have is refused, and nothing is written."""
    with odograph.open(tmp_path) as store:
        id = recorded(store, 1)
        run = store.append(id)
        run.label("care", "SECRET-VERDICT", rationale="SECRET-WHY", author="judge")
        run.reward(0.123456, "SECRET-REWARD")
        queue = Queue(store, CARE, "ann")
        item = queue.next()
        assert item is not None
        assert "SECRET" not in repr(item) and "0.123456" not in repr(item)
        for wrong in ("good", ""):
            with pytest.raises(InvalidInput, match="careful, hasty, careless"):
                queue.label(item, wrong)
        graded = Queue(store, Rubric.of(GRADED), "ann")
        item = graded.next()
        assert item is not None
        for score in (None, 0.0, 7.0, float("nan")):
            with pytest.raises(InvalidInput, match="score"):
                graded.label(item, "", score)
        graded.label(item, "", 2)
        assert given(store, "ann") == {id: ("", 0.25)}


def test_a_larger_sample_contains_the_smaller_one(tmp_path: Path) -> None:
    """The sample is drawn by seed; more of it, or more trajectories, keep what was chosen; strata get equal shares."""
    with odograph.open(tmp_path) as store:
        for n in range(30):
            recorded(store, n, agent="a" if n % 3 else "b")
        small = chosen(store, CARE, 5, 1)
        assert chosen(store, CARE, 12, 1)[:5] == small
        assert chosen(store, CARE, 5, 2) != small
        recorded(store, 99)
        assert len(set(chosen(store, CARE, 6, 1)) & set(small)) >= 4
        strata = Rubric.of(RUBRIC.replace("judge:", "strategy: stratified\nstratify-by: agent\njudge:"))
        some = {s.id: s.agent for s in store.summaries()}
        assert sorted(some[id] for id in chosen(store, strata, 9, 1, limit=30)).count("b") == 3


def test_parts_of_a_session_are_labelled_with_their_records(tmp_path: Path) -> None:
    """On turns, a person labels those that the rubric applies to; a quote must occur; the label's target is the turn's record."""
    rubric = Rubric.of("---\ntechnique: slip\nvalues: slip\non: turn\n---\nIs this a slip?\n")
    with odograph.open(tmp_path) as store:
        id = recorded(store, 1)
        queue = Queue(store, rubric, "ann")
        item = queue.next()
        assert item is not None
        turn = next(n for n, t in enumerate(item.turns, 1) if t.role == "tool_result")
        with pytest.raises(InvalidInput, match="does not have the words"):
            queue.find(item, turn, "slip", quote="never said")
        with pytest.raises(InvalidInput, match="there is no turn 99"):
            queue.find(item, 99, "slip")
        queue.find(item, turn, "slip", quote="def login")
        queue.finish(item)
        assert queue.next() is None and Queue(store, rubric, "ann").next() is None
        t = store.trajectory(id)
        assert [(r.value, r.target) for r in t.labels] == [("slip", t.actions[0].id), ("1", None)]
        assert t.labels[0].extra == {"source": "human", "turn": turn, "quote": "def login"}


def test_labels_go_out_as_csv_and_come_in_again(tmp_path: Path) -> None:
    """A file of labels brings people's labels into another store; again it adds nothing; a wrong line stops before anything is
    written."""
    with odograph.open(tmp_path / "a") as store:
        ids = [recorded(store, n) for n in range(3)]
        queue = Queue(store, CARE, "ann")
        while (item := queue.next()) is not None:
            queue.label(item, "hasty", rationale='with "quotes",\nand a line')
        store.append(ids[0]).label("care", "careful", score=1.0, author="judge", rubric_hash=CARE.version)
        text = to_csv(store, CARE)
        whole = [t.to_dict() for t in store.trajectories()]
    with odograph.open(tmp_path / "b") as store:
        for one in whole:
            store.add(one | {"labels": []} | {"records": [r for r in one.get("records", []) if r.get("kind") != "label"]})
        before = {t.id: len(t.labels) for t in store.trajectories()}
        found = from_csv(store, CARE, text)
        assert (found.labels + found.unchanged, found.skipped) == (3, 1)
        assert given(store, "ann") == dict.fromkeys(ids, ("hasty", 0.5))
        assert from_csv(store, CARE, text).labels == 0
        assert from_csv(store, CARE, f"trajectory,value\n{ids[0][-6:]},careless\n", "bob").labels == 1
        for wrong, why in (
            ("trajectory,note\nx,y\n", "has the columns trajectory"),
            (f"trajectory,value\n{ids[1]},careful\n{ids[2]},splendid\n", "line 3: the value is 'splendid'"),
            ("trajectory,value\nzzzz,careful\n", "line 2: .*zzzz"),
            (f"trajectory,score\n{ids[1]},1\n", "line 2: the label has no value"),
            (f"trajectory,value,score\n{ids[1]},careful,x\n", "no number"),
            (f"trajectory,value,turn\n{ids[1]},careful,x\n", "line 2: the turn is 'x', no number"),
        ):
            with pytest.raises(InvalidInput, match=why):
                from_csv(store, CARE, wrong, "eve")
        assert given(store, "eve") == {} and before is not None
        with pytest.raises(InvalidInput, match="nobody is named"):
            from_csv(store, CARE, f"trajectory,value\n{ids[0]},careful\n")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_of_spreadsheets_comes_in(separator: str, tmp_path: Path) -> None:
    """Cells may be apart by semicolons or tabs, headers have capitals and spaces, lines the ends of Windows, a score the comma of a
    spreadsheet that uses semicolons, and a rationale any length."""
    graded = Rubric.of(GRADED)
    with odograph.open(tmp_path) as store:
        id = recorded(store, 0)
        score = "0,25" if separator == ";" else "0.25"
        lines = [["Trajectory", " Score ", "Author", "Rationale"], [], [id, score, " ann ", "x" * 200_000]]
        text = "\ufeff" + "\r\n".join(separator.join(cells) for cells in lines)
        assert from_csv(store, graded, text).labels == 1
        found = store.trajectory(id).labels[-1]
        assert (found.score, found.author, len(found.rationale or "")) == (0.25, "ann", 200_000)
        assert from_csv(store, graded, to_csv(store)).unchanged == 1


def test_a_file_of_labels_runs_nothing_and_hides_nothing(tmp_path: Path) -> None:
    """No cell that is written is a formula to a spreadsheet, and the same text comes in again. Two labels of one by one person, and a
    column that is there twice, are refused with the line, and nothing is written."""
    with odograph.open(tmp_path / "s") as store:
        id = recorded(store, 0)
        texts = ['=HYPERLINK("http://x")', "@SUM(1)\n+cmd", "'=1", "-0.5", "-2+3"]
        for n, text in enumerate(texts):
            write(store, id, CARE, f"{text}{n}", "careful", rationale=text)
        cells = [row["rationale"] for row in csv.DictReader(io.StringIO(to_csv(store, CARE)))]
        assert cells == ["'" + texts[0], "'" + texts[1], "''=1", "-0.5", "'-2+3"]
        assert from_csv(store, CARE, to_csv(store, CARE)).unchanged == len(texts)
        before = len(store.trajectory(id).labels)
        rows = f"trajectory;value;author\n{id};careful;eve\n"
        for wrong, why in (
            (rows + f"{id};careless;eve\n", "line 3: line 2 has"),
            (rows.replace("author", "Value"), "value twice"),
        ):
            with pytest.raises(InvalidInput, match=why):
                from_csv(store, CARE, wrong, "eve")
        assert len(store.trajectory(id).labels) == before
        assert from_csv(store, CARE, "sep=;\n" + rows.replace("author", '"who, and when";author')[:-1] + ";\n", "eve").labels == 1
