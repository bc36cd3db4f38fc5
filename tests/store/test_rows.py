"""What a sealed trajectory costs in the catalog, and that nothing is lost in so few bytes."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import odograph
from odograph.codec import derived_id, encode, new_id
from odograph.store import sealing
from odograph.store.rows import alone, packed, packed_rewards, unpacked, unpacked_rewards
from odograph.types import Start

from .test_sealing import cold, fill, seen

pytest.importorskip("pyarrow")
TEXTS = st.text(max_size=8) | st.none()
IDS = st.uuids().map(str) | st.text(max_size=40) | st.uuids().map(lambda u: u.hex) | st.just(0).map(lambda _: new_id())
NUMBERS = st.integers(-(2**62), 2**62)
REWARDS = st.lists(
    st.tuples(
        *(IDS, NUMBERS, st.text(max_size=8), st.integers(0, 2**62), TEXTS, st.none() | st.integers(0, 9), st.text(max_size=8)),
        *(st.sampled_from(["environment", "model"]), TEXTS, st.none() | st.sampled_from([0.0, -0.0, 1.0, 0.1])),
        *(st.sampled_from([1.0, 0.0, 0.5]), st.sampled_from([0, 1]), TEXTS, st.integers(1, 3)),
    ).map(list),
    min_size=1,
    max_size=3,
)


@given(IDS)
def test_an_id_comes_back_as_it_was(id: str) -> None:
    """Whatever an importer takes for an id."""
    assert unpacked(packed(id)) == id


@given(REWARDS, IDS, st.text(max_size=8), st.none() | st.sampled_from([0.0, -0.0, 1.0]), st.none() | NUMBERS)
def test_rewards_come_back_as_they_were(
    rows: list[list[Any]], root: str, writer: str, reward: float | None, ended: int | None
) -> None:
    """Rewards that repeat what the summary says, and rewards that don't: all fields, the sign of zero too."""
    near = [[derived_id(1_700_000_000_000_000_000, n), *row[1:]] for n, row in enumerate(rows)]
    whole = int.from_bytes(packed(root)) if isinstance(packed(root), bytes) else 0
    beside = [[unpacked((whole + n).to_bytes(16)), (whole >> 80) * 1_000_000 + n, *row[2:]] for n, row in enumerate(rows)]
    for all in (rows, near, beside if whole >> 80 < 1 << 42 and (whole + 9) >> 128 == 0 else rows):
        about = root, writer, reward, ended
        assert repr(unpacked_rewards(packed_rewards(all, *about), *about)) == repr(all)


def test_rewards_of_the_form_before() -> None:
    """Its times count from the root's milliseconds, and its numbers are whole."""
    root = "01a227b1-c8d7-7dfd-867d-0c9c4a9bacf2"
    for ended in (None, 1795962292446483711):
        (row,) = unpacked_rewards("[2,[13,7448204,14]]", root, "w", 0.5, ended)
        assert row[:4] == ["01a227b1-c8de-7dfd-867d-0c9c4a9bacff", 1795962292446448204, "w", 14]
        (away,) = unpacked_rewards("[2,[[7,13],9448204,14]]", root, "w", 0.5, ended)
        assert away[:4] == ["01a227b1-c8de-7dfd-867d-0c9c4a9bacff", 1795962292448448204, "w", 14]


@pytest.mark.parametrize(
    ("changed", "text", "name"),
    [
        ({}, "[13,-1000,-765169]", "reward"),
        ({1: 1795962292451448204}, "[[7,13],4999000,-765169]", "reward"),
        (
            {0: "01a327b1-c8de-7dfd-867d-0c9c4a9bacff"},
            '["01a327b1-c8de-7dfd-867d-0c9c4a9bacff",1795962292446448204,14]',
            "reward",
        ),
        ({0: "x", 6: "won", 9: 1.5}, '["x",1795962292446448204,14,1.5,"won"]', None),
        ({6: "won"}, '[13,-1000,-765169,true,"won"]', "won"),
        ({9: -0.0}, "[13,-1000,-765169,-0.0]", None),
        ({5: 2}, '[13,-1000,-765169,true,"reward","environment",null,1.0,0,null,2]', "reward"),
        ({2: "v"}, '[13,-1000,-765169,true,"reward","environment",null,1.0,0,null,null,"v"]', "reward"),
        (
            {2: "v", 4: "a", 5: 3, 6: "n", 7: "model", 8: "me", 9: None, 10: 0.5, 11: 1, 12: "1", 13: 2},
            '[13,-1000,-765169,null,"n","model","me",0.5,1,"a",3,"v","1",2]',
            None,
        ),
    ],
)
def test_rewards_are_sealed_in_the_form_that_others_read(changed: dict[int, Any], text: str, name: str | None) -> None:
    """Files go from machine to machine: every version writes these texts, and reads them."""
    root = "01a227b1-c8d7-7dfd-867d-0c9c4a9bacf2"
    row: list[Any] = ["01a227b1-c8de-7dfd-867d-0c9c4a9bacff", 1795962292446448204, "w", 14, None, None, "reward"]
    row += ["environment", None, 0.5, 1.0, 0, None, 1]
    for place, value in changed.items():
        row[place] = value
    about = root, "w", 0.5, 1795962292446449204
    assert packed_rewards([row, row], *about) == f"[3,{text},{text}]"
    assert unpacked_rewards(f"[3,{text},{text}]", *about) == [row, row]
    assert (packed_rewards([], *about), unpacked_rewards(None, *about)) == (None, [])
    assert alone(f"[3,{text}]", 0.5) == name
    assert alone(f"[3,{text},{text}]", 0.5) is alone(f"[3,{text}]", None) is alone(None, 0.5) is None


def test_a_sealed_trajectory_costs_few_bytes_and_one_row(store: odograph.Store) -> None:
    """At most 250 bytes, indexes included, and no row besides its summary."""
    for n in range(1000):
        with store.record(task=f"task {n % 50}", agent=f"agent-{n % 3}", model="m", group=f"g{n // 8}") as run:
            with run.step(observation="o") as step:
                usage = {"prompt_tokens": 1000 + n, "completion_tokens": n}
                step.llm_call(model="m", messages=[{"role": "user", "content": "q"}], response="a", usage=usage)
                step.action("search", {"q": n}, "found", ok=True)
            run.reward(n / 7, name="final")
    store.close()
    shutil.copytree(store.root, empty := store.root.with_name("empty"))
    for path in (empty / "journal").iterdir():
        path.unlink()
    store.seal()
    with cold(store) as sealed:
        assert len(sealed) == 1000
    with odograph.open(empty) as nothing:
        assert len(nothing) == 0
    size, least = ((root / "catalog.sqlite").stat().st_size for root in (store.root, empty))
    assert (size - least) / 1000 <= 250
    with sqlite3.connect(store.root / "catalog.sqlite") as db:
        for table in ("rewards", "uses", "places", "hits", "files"):
            assert db.execute(f"select count(*) from {table}").fetchone() == (0,), table
        assert db.execute("select count(*) from summaries").fetchone() == (1000,)


@pytest.mark.parametrize("sealed", [False, True])
def test_a_part_of_an_id_is_enough(store: odograph.Store, sealed: bool) -> None:
    """The beginning or the end of an id, of any length that is unique, in any case; of ids that are no UUIDs, too."""
    ids = [uuid.uuid4().hex[:4] + "0000-0000-7000-8000-" + uuid.uuid4().hex[:12] for _ in range(30)]
    ids += ["session-1", "session-22", "a%c", "x_é", "UPPER"]
    for id in ids:
        store.add([Start(id=new_id(), trajectory=id, seq=0, time=time.time_ns(), task=id)])
    if sealed:
        store.seal()
    for id in ids:
        assert store.trajectory(id).id == id
        for n in range(1, len(id)):
            for part in (id[:n], id[-n:]):
                same = [one for one in ids if one.startswith(part) or one.endswith(part)]
                if len(same) == 1 and part == part.lower():
                    assert store.trajectory(part.upper()).id == id if part.isascii() else id
                    assert store.trajectory(part).id == id
                elif part == part.lower():
                    with pytest.raises(odograph.NotFound):
                        store.trajectory(part)
    for part in ("%", "_", "zzz", "0" * 33, "-", "session-1x"):
        with pytest.raises(odograph.NotFound):
            store.trajectory(part)


def test_a_tier_that_an_earlier_odograph_sealed(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rewards repeat all that they say, as they did before: they are read, counted and sealed again."""
    ids = fill(store)
    before = seen(store)
    with monkeypatch.context() as then:
        then.setattr(sealing, "packed_rewards", lambda rows, *_: encode(rows).decode() if rows else None)
        store.seal()
    (row,) = store.backend.reader.lake.newest({ids[1]}).to_pylist()
    assert len(msgspec.json.decode(row["rewards"])[0]) == 14
    assert seen(store) == before
    assert seen(cold(store)) == before
    store.append(ids[0]).reward(7.0, name="late")
    assert store.trajectory(ids[0]).reward == 7.0
    late = seen(store)
    assert seen(cold(store)) == late
    store.seal()
    store.compact(grace=0)
    assert seen(cold(store)) == late
    (row,) = store.backend.reader.lake.newest({ids[0]}).to_pylist()
    assert msgspec.json.decode(row["rewards"])[0] == 3


def test_what_comes_late_changes_what_rewards_refer_to(store: odograph.Store) -> None:
    """A second reward changes the sum that the first was said by; both keep their values through seals."""
    with store.record(task="t") as run:
        run.reward(0.1, name="a")
    store.seal()
    for n in range(1, 4):
        store.append(run.id).reward(float(n), name=f"late {n}")
        assert store.used([run.id])[run.id].components == {"a": 0.1, **{f"late {k}": float(k) for k in range(1, n + 1)}}
        if n % 2:
            store.seal()
            assert store.used([run.id]) == cold(store).used([run.id])
    assert next(store.summaries()).reward == pytest.approx(6.1)


def test_a_catalog_of_an_earlier_version_is_made_anew(store: odograph.Store, tmp_path: Path) -> None:
    """Its tables are dropped, whatever they were."""
    fill(store)
    before = seen(store)
    store.close()
    with sqlite3.connect(store.root / "catalog.sqlite") as db:
        db.executescript(
            "drop view trajectories; create table trajectories(id text primary key, reversed text);"
            " create view standing as select id from trajectories; pragma user_version=10"
        )
    assert seen(odograph.open(store.root)) == before


def test_figures_are_the_same_in_both_tiers_and_cost_little(store: odograph.Store) -> None:
    """Statistics before sealing, after it, with late rewards, and of what is filtered; of what is sealed without a summary each."""
    ids = [id for _ in range(20) for id in fill(store, 6, steps=1)]
    store.append(ids[3]).reward(0.25, name="late")
    asked: list[dict[str, Any]] = [{}, {"by": "tag"}, {"by": "day", "limit": 7}, {"by": "status", "group": "g1"}]

    def figures() -> list[Any]:
        return [store.stats(**one).to_dict() for one in asked]

    before = figures()
    assert before[0]["rewarded"] == 120
    assert before[2]["rewarded"] == 7
    store.seal()
    assert figures() == before
    store.append(ids[5]).reward(0.5, name="late")
    late = figures()
    assert late != before
    store.seal()
    assert figures() == late
    calls = 0

    def called(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        pages = list(store.backend.reader.figures())
    finally:
        sys.setprofile(None)
    assert sum(len(page.reward) for page in pages) == 120
    assert calls / 120 < 20  # a summary, what happened and the rewards of a trajectory take 90
