"""Comparing labels of a store: rubric versions, judges, people, techniques and worlds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("daft")

import odograph
from odograph.errors import InvalidInput, NotFound
from odograph.labels import version_of
from odograph.statistics.comparing import prediction_powered
from odograph.statistics.said import said_in
from odograph.statistics.tally import tally
from odograph.worlds import Label, Trajectory
from tests.cli.test_label import run
from tests.judge.made import group, judge, judging, shown
from tests.llm_server import Answer, LLMServer

OLD, NEW = version_of("care", "look first"), version_of("care", "look first, always")


def label(store: odograph.Store, id: str, value: str, author: str, version: str = OLD, **more: Any) -> None:
    person = {"extra": {"source": "human"}} if author in ("ann", "bob") else {}
    text = "look first" if version == OLD else "look first, always"
    about = {"description": text, "rubric_hash": version, "author": author, "score": float(value == "good")}
    store.append(id).label(**{"technique": "care", "value": value, **about, **person, **more})


@pytest.fixture
def made(tmp_path: Path) -> tuple[odograph.Store, list[str]]:
    """Forty sessions. The old version calls all good, the new one not the first ten; people, of twenty, not the first eight."""
    store = odograph.open(tmp_path / "s")
    ids = []
    for n in range(40):
        with store.record(task=f"t{n}", agent="a", model="gpt-5" if n % 2 else "claude-4") as one, one.step() as step:
            step.llm_call(messages=[{"role": "user", "content": "hi"}], response="x", usage={"prompt_tokens": n + 1})
        ids.append(one.id)
    for n, id in enumerate(ids):
        label(store, id, "good", "gpt-5-mini", rationale="it looked")
        label(store, id, "bad" if n < 10 else "good", "gpt-5-mini", NEW, rationale="it did not list" if n < 10 else "fine")
    for n, id in enumerate(ids[:20]):
        label(store, id, "bad" if n < 8 else "good", "ann", NEW)
    return store, ids


def test_labels_are_counted_by_annotator_and_rubric(made: tuple[odograph.Store, list[str]]) -> None:
    """What each annotator said by each version, the last word on a trajectory alone; text beyond twelve values is counted as one."""
    store, ids = made
    label(store, ids[0], "good", "ann", NEW)  # once more: the first was "bad"
    for n in range(15):
        label(store, ids[n], f"free text {n // 2}", "bob", technique="words", score=None)
    found = {(one.technique, one.author, one.version): one for one in tally(said_in(store))}
    assert list(found) == [
        ("care", "gpt-5-mini", OLD),
        ("care", "gpt-5-mini", NEW),
        ("care", "ann", NEW),
        ("words", "bob", OLD),
    ]
    ann = found["care", "ann", NEW]
    assert (ann.n, ann.values, ann.person, ann.scores.mean) == (20, {"good": 13, "bad": 7}, True, 13 / 20)
    assert found["care", "gpt-5-mini", NEW].values == {"good": 30, "bad": 10} and not found["care", "gpt-5-mini", NEW].person
    assert found["words", "bob", OLD].scores.n == 0 and len(found["words", "bob", OLD].values) == 8
    many = [
        msgspec.structs.replace(one, value=f"v{n}")
        for n, one in enumerate(said_in(store, ids))
        if one.version == OLD and one.technique == "care"
    ]
    assert [(len(one.values), one.others, one.n) for one in tally(many)] == [(12, 28, 40)]


def test_versions_of_a_rubric_show_what_moved_and_why(made: tuple[odograph.Store, list[str]]) -> None:
    """The labels that moved, with what the judge said at each version, and the words of the rubric that changed."""
    store, ids = made
    found = store.compare(OLD[:8], NEW[:8], by="rubric")
    assert [m.name for m in found.measures] == ["score", "good"] and found.measures[1].difference == -0.25
    assert [(c.trajectory, c.a, c.b, c.a_why, c.b_why) for c in found.changed] == [
        (id, "good", "bad", "it looked", "it did not list") for id in ids[:10]
    ]
    assert found.rubric[2:] == ["-look first", "+look first, always"]
    assert store.compare("previous", NEW[:8], by="rubric").to_dict() == found.to_dict()
    with pytest.raises(InvalidInput, match=rf"is no version .*{OLD[:8]} \(care\)"):
        store.compare("ffff", NEW, by="rubric")


def test_people_correct_a_judge(made: tuple[odograph.Store, list[str]]) -> None:
    """Confusion, kappa and calibration where both labelled, then the judge's estimate of all beside the corrected one."""
    store, ids = made
    found = store.compare("people", "gpt-5-mini", by="judge")
    assert found.agreement is not None and found.agreement.confusion is not None
    assert (found.agreement.n, found.agreement.confusion.counts) == (20, [[8, 0], [2, 10]])
    assert found.agreement.kappa == pytest.approx(0.8)
    score = found.corrected[0]
    own = prediction_powered([0.0] * 8 + [1.0] * 12, [0.0] * 10 + [1.0] * 10, [1.0] * 20, bounds=(0.0, 1.0))
    assert (score.name, score.raw, score.corrected) == ("score", 0.75, own.estimate)
    assert score.people == pytest.approx(0.6)
    assert score.interval == own.interval and (score.n_people, score.n_judge) == (20, 20)
    assert found.calibration is not None and found.calibration.brier == pytest.approx(0.1)
    assert found.people_alpha is None
    for n, id in enumerate(ids[:20]):
        label(store, id, "bad" if n < 6 else "good", "bob", NEW)
    found = store.compare("people", "gpt-5-mini", by="judge", technique="care", rubric=NEW[:6])
    assert found.people_alpha is not None and 0.7 < found.people_alpha < 0.9
    with pytest.raises(InvalidInput, match="no labels of judge 'people'"):
        store.compare("people", "gpt-5-mini", by="judge", rubric=OLD[:8])
    with pytest.raises(InvalidInput, match=r"no label of judge 'gpt-5'; there are: .*did you mean 'gpt-5-mini'"):
        store.compare("people", "gpt-5", by="judge")


def test_corrected_estimates_cover_what_is_true(tmp_path: Path) -> None:
    """Of a judge that is too kind, the corrected interval contains the truth where the raw one does not."""
    chance = random.Random(3)
    with odograph.open(tmp_path / "s") as store:
        truth = []
        for n in range(200):
            with store.record(task=f"t{n}") as one:
                pass
            good = chance.random() < 0.5
            truth.append(good)
            label(store, one.id, "good" if good or chance.random() < 0.5 else "bad", "kind", NEW)
            if n < 60:
                label(store, one.id, "good" if good else "bad", "ann", NEW)
        found = store.compare("people", "kind", by="judge").corrected[0]
    true = sum(truth) / len(truth)
    assert found.raw_interval is not None and found.raw_interval[0] > true
    assert found.interval[0] < true < found.interval[1]


def test_a_take_back_and_a_correction_count_once(made: tuple[odograph.Store, list[str]]) -> None:
    """A label that was corrected or taken back is in no comparison; labels of parts are not labels of the session."""
    store, ids = made
    t = store.trajectory(ids[0])
    mine = next(r for r in t.labels if r.author == "ann")
    store.append(t.id).label("care", author="ann", rubric_hash=NEW, supersedes=mine.id, extra=mine.extra)
    label(store, ids[1], "good", "ann", NEW, extra={"source": "human", "turn": 3})
    agreed = store.compare("people", "gpt-5-mini", by="judge").agreement
    assert agreed is not None and agreed.confusion is not None
    assert agreed.confusion.counts == [[7, 0], [2, 10]]


def test_techniques_and_worlds_are_compared(made: tuple[odograph.Store, list[str]]) -> None:
    """Two techniques of the same trajectories; a world and its fork; filters choose trajectories."""
    store, ids = made
    for id in ids:
        store.append(id).label("depth", score=0.25, author="j")
    found = store.compare("care", "depth", by="technique")
    assert [m.name for m in found.measures] == ["score"] and found.measures[0].b.mean == 0.25
    world = store.world("base")
    world.spawn_many(
        (Trajectory(trajectory_id=id), Label(technique=k, value="good", score=1.0, status="ok", rationale="r"))
        for id in ids[:12]
        for k in ("care", "depth")
    )
    world.step()
    fork = world.fork("strict")
    fork.update(1, Label(technique="care", value="bad", score=0.0, status="ok", rationale="strictly"))
    fork.step()
    found = store.compare("base", "strict", by="world")
    assert [(c.trajectory, c.a, c.b, c.b_why) for c in found.changed] == [(f"{ids[0]} care", "good", "bad", "strictly")]
    assert store.compare("base", "strict", by="world", technique="care").changed[0].trajectory == ids[0]
    few = store.compare("base", "strict", by="world", technique="care", ids=ids[1:5])
    assert few.agreement is not None and (few.agreement.n, few.changed) == (4, [])
    with pytest.raises(NotFound, match=r"no world 'strikt'.*there are: base, strict.*did you mean 'strict'"):
        store.compare("base", "strikt", by="world")
    with pytest.raises(InvalidInput, match=r"nothing is compared by 'judges'.*did you mean 'judge'"):
        store.compare("a", "b", by="judges")
    for by, more, takes in (
        ("model", {"technique": "care"}, "technique= goes with by=rubric, judge, world, not with by='model'"),
        ("model", {"namespace": "n"}, "namespace= goes with by=world, not with by='model'"),
        ("rubric", {"rubric": "ab"}, "rubric= goes with by=judge, not with by='rubric'"),
        ("judge", {"judge": "j"}, "judge= goes with by=rubric, technique, not with by='judge'"),
        ("world", {"judge": "j"}, "judge= goes with by=rubric, technique, not with by='world'"),
    ):
        with pytest.raises(InvalidInput, match=takes):
            store.compare("a", "b", by=by, **more)


def test_probes_find_a_judge_that_likes_length_and_its_own(tmp_path: Path) -> None:
    """A judge whose scores follow length, and that prefers its own family, is shown to."""
    with odograph.open(tmp_path / "s") as store:
        for n in range(30):
            with store.record(task=f"t{n}", model="gpt-5" if n % 2 else "claude-4") as one, one.step() as step:
                step.llm_call(messages=[{"role": "user", "content": "hi"}], response="x", usage={"prompt_tokens": n + 1})
            more = {"technique": "t", "rubric_hash": OLD}
            store.append(one.id).label(value="x", score=n / 60 + (0.5 if n % 2 else 0.0), author="gpt-5-mini", **more)
            store.append(one.id).label(value="x", score=0.5 + (n % 3) / 10, author="other", **more)
        found = {(p.side, p.kind): p for p in store.compare("gpt-5-mini", "other", by="judge").probes}
    length, family = found["gpt-5-mini", "length"], found["gpt-5-mini", "family"]
    assert length.interval is not None and length.interval[0] > 0
    assert family.interval is not None and family.value > 0.4 and family.p_value < 0.01
    assert found["other", "length"].p_value > 0.05 and ("other", "family") not in found


def test_a_judge_that_likes_what_comes_first_is_shown(tmp_path: Path) -> None:
    """Judges that gave rewards are compared by these. Where a judge compared two trajectories in both orders, as RULER does with
    `repeats`, the verdicts that changed with the order are counted."""
    with odograph.open(tmp_path / "s") as store:
        ids = [id for n in range(5) for id in group(store, ["42", "41", "40"], f"g{n}")]

        def first(request: dict[str, Any]) -> Answer:
            scores = [{"trajectory_id": id, "explanation": "", "score": 1 / int(id)} for id in shown(request)]
            return Answer(text=json.dumps({"scores": scores}))

        with LLMServer(first) as biased, judging() as fair:
            judges = [judge(biased, "first"), judge(fair, "fair")]
            result = odograph.sync_ruler(store, judge=judges, repeats=4)
        assert not result.failed and len(result.judgements) == 30
        places = store.trajectory(ids[0]).rewards[-1].extra["places"]
        assert len(places) == 4 and set(places) <= {1, 2, 3}
        found = store.compare("first", "fair", by="judge")
        assert [m.name for m in found.measures] == ["score"] and found.agreement is not None and found.agreement.n == 15
        order = {p.side: p for p in found.probes if p.kind == "order"}
        assert order["first"].value == 1.0 and order["first"].p_value < 0.01
        assert order["fair"].value == 0.0 and order["fair"].n == order["first"].n >= 10
        assert "verdicts on two trajectories that change with their order" in str(found)
        with pytest.raises(InvalidInput, match="no label of judge 'fare'; there are: fair, first"):
            store.compare("fare", "first", by="judge")


def test_the_command_shows_what_moved(made: tuple[odograph.Store, list[str]], tmp_path: Path) -> None:
    """Tables, the changed lines of the rubric, who said what of whom; `--json` has all; a file names its version."""
    (tmp_path / "care.md").write_text("---\ntechnique: care\nvalues: good, bad\n---\nlook\n")
    text = run(tmp_path / "s", "previous", NEW[:8], "--by", "rubric", command="compare").stdout
    assert "+look first, always" in text and "good -> bad" in text and "it did not list" in text
    text = run(tmp_path / "s", "people", "gpt-5-mini", "--by", "judge", command="compare").stdout
    assert "prediction-powered" in text and "people \\ gpt-5-mini" in text and "calibration" in text
    out = run(tmp_path / "s", "people", "gpt-5-mini", "--by", "judge", "--json", command="compare").stdout
    assert '"corrected":[{"name":"score"' in out and '"people_alpha":null' in out
    done = run(tmp_path / "s", str(tmp_path / "care.md"), NEW[:8], "--by", "rubric", command="compare", check=2)
    assert "is no version of a rubric" in done.stderr
