"""`odograph.compare` and `odograph compare`: pairs where there are any, the right test, what changed, and a picture."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

import odograph
from odograph.errors import InvalidInput
from odograph.statistics import comparing

pytest.importorskip("scipy")


def earned(store: odograph.Store, reward: float | None, **about: object) -> str:
    with store.record(**about) as run:  # type: ignore[arg-type]
        if reward is not None:
            run.reward(reward)
    return run.id


# --- two judgements of the same trajectories --------------------------------------------------------------------------


def test_scores_of_the_same_trajectories_are_pairs() -> None:
    """What is in both is paired, what is in one or not known is not; the difference is b less a."""
    chance = random.Random(1)
    a = {f"t{n}": chance.random() * 0.8 for n in range(40)}
    b: dict[str, float | None] = {key: value + 0.1 * chance.random() for key, value in a.items()}
    b |= {"t0": None, "new": 0.5}
    found = odograph.compare(a, b, names=("old", "new"))
    (m,) = found.measures
    assert (m.pairs, m.unit, m.a.n, m.b.n, found.only) == (39, "trajectory", 39, 39, (1, 1))
    moved = [y - a[key] for key, y in b.items() if y is not None and key in a]
    assert m.difference == pytest.approx(sum(moved) / 39)
    assert m.interval is not None and 0 < m.interval[0] < m.difference < m.interval[1] < 0.1
    assert m.test == "Wilcoxon signed rank" and m.p_value < 1e-6
    assert m.p_value == comparing.wilcoxon([a[k] for k in a if k != "t0"], [b[k] or 0.0 for k in a if k != "t0"])
    assert [c.trajectory for c in found.changed[:1]] == [max(a.keys() - {"t0"}, key=lambda k: abs((b[k] or 0) - a[k]))]
    assert found.agreement is not None and found.agreement.kappa is None
    assert "old" in str(found) and "Wilcoxon signed rank, 39 trajectories" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_labels_are_compared_one_by_one_and_what_changed_is_told() -> None:
    """The share of each label by McNemar's test, corrected for all labels; kappa, the matrix, and the trajectories that moved."""
    a = {f"t{n}": ("pass", "fail", "loops")[n % 3] for n in range(60)}
    b = a | {f"t{n}": "fail" for n in range(0, 45, 3)}  # a stricter rubric: fifteen that passed fail
    found = odograph.compare(a, b)
    by_label = {m.name: m for m in found.measures}
    assert list(by_label) == ["fail", "loops", "pass"]
    assert by_label["fail"].difference == pytest.approx(0.25) and by_label["loops"].difference == 0.0
    assert by_label["pass"].p_value == pytest.approx(2 * 0.5**15)
    assert by_label["pass"].corrected == pytest.approx(3 * 2 * 0.5**15)
    assert [(c.trajectory, c.a, c.b) for c in found.changed] == [(f"t{n}", "pass", "fail") for n in range(0, 45, 3)]
    assert found.agreement is not None and found.agreement.confusion is not None
    assert found.agreement.same == 0.75 and found.agreement.confusion.counts == [[20, 0, 0], [0, 20, 0], [15, 0, 5]]
    assert found.agreement.kappa == pytest.approx((0.75 - 1 / 3) / (1 - 1 / 3))


def test_attempts_of_one_task_count_as_one() -> None:
    """With tasks, pairs are the tasks' means: ten attempts at each of twelve tasks are twelve pairs, not 120."""
    chance = random.Random(2)
    a = {f"{task}-{n}": float(chance.random() < 0.5) for task in range(12) for n in range(10)}
    b = {key: float(chance.random() < 0.7) for key in a}
    found = odograph.compare(a, b, tasks={key: key.split("-")[0] for key in a})
    assert (found.measures[0].pairs, found.measures[0].unit, found.measures[0].test) == (12, "task", "Wilcoxon signed rank")
    alone = odograph.compare(a, b)
    assert (alone.measures[0].pairs, alone.measures[0].test) == (120, "McNemar exact")


def test_strangers_are_compared_without_pairs() -> None:
    """Judgements of different trajectories: a permutation test, and no agreement."""
    found = odograph.compare({f"a{n}": n / 20 for n in range(20)}, {f"b{n}": n / 40 for n in range(20)})
    (m,) = found.measures
    assert (m.pairs, m.test, found.agreement, found.changed) == (0, "permutation test", None, [])
    assert m.interval is not None and m.interval[1] < 0 and m.detectable is not None


def test_the_true_difference_is_in_the_interval_as_often_as_said() -> None:
    """Of 100 comparisons of yes-or-no scores of the same 25 trajectories, 90 at least hold the true difference of 0.2."""
    chance, hits = random.Random(3), 0
    for _ in range(100):
        a = {str(n): float(chance.random() < 0.5) for n in range(25)}
        b = {str(n): float(chance.random() < 0.7) for n in range(25)}
        interval = odograph.compare(a, b).measures[0].interval
        assert interval is not None and -1 <= interval[0] < interval[1] <= 1
        hits += interval[0] <= 0.2 <= interval[1]
    assert hits >= 90


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_few_trajectories_are_compared(n: int) -> None:
    """From one trajectory on there is a result, whatever moved; numbers of numpy are numbers."""
    import numpy as np

    for moved in ([0.5] * n, [float(k % 2) for k in range(n)], [k / 7 for k in range(n)]):
        a = {str(k): np.float32(0.0) for k in range(n)}
        found = odograph.compare(a, {str(k): v for k, v in enumerate(moved)})
        (m,) = found.measures
        assert m.pairs == n and m.difference == pytest.approx(sum(moved) / n) and 0 <= m.p_value <= 1
        text = odograph.compare(dict.fromkeys(a, "no"), {str(k): "yes" if v else "no" for k, v in enumerate(moved)}).to_dict()
        assert text["agreement"]["n"] == n


def test_what_cannot_be_compared_is_said() -> None:
    """Numbers with texts, nothing with something, NaN, a thing with itself."""
    for a, b, what in (
        ({"x": 1.0}, {"x": "yes"}, "both numbers and texts"),
        ({}, {"x": 1.0}, "0 values of 'a' and 1 of 'b'"),
        ({"x": float("nan")}, {"x": 1.0}, "finite number"),
        ({"x": 1e300}, {"x": -1e300}, "finite number below 1e.100"),
        ([1.0], [2.0], "dicts of trajectory ids"),
    ):
        with pytest.raises(InvalidInput, match=what):
            odograph.compare(a, b)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="with itself"):
        odograph.compare({"x": 1.0}, {"x": 1.0}, names=("a", "a"))


# --- parts of a store -------------------------------------------------------------------------------------------------


@pytest.fixture
def two_models(store: odograph.Store) -> odograph.Store:
    """Two models, four attempts each at twelve tasks; `new` is better in each, and got more of the hard ones."""
    chance = random.Random(4)
    for task in range(12):
        hard = task % 2
        for model in ("old", "new"):
            for _ in range(6 if hard == (model == "new") else 2):
                solved = float(chance.random() < (0.15 if hard else 0.6) + 0.3 * (model == "new"))
                earned(
                    store, solved, group=f"task {task}", model=model, agent="coder", tags=["trial"], policy_version=f"{model} 1"
                )
    return store


def test_models_are_compared_by_the_tasks_that_both_attempted(two_models: odograph.Store) -> None:
    """Means over all attempts say that the new model is hardly better, as it got the harder tasks; by task it is."""
    found = two_models.compare("old", "new")
    reward = found.measures[0]
    assert (reward.name, reward.pairs, reward.unit) == ("reward", 12, "task")
    assert reward.a.mean is not None and reward.b.mean is not None
    assert reward.difference > reward.b.mean - reward.a.mean + 0.1
    assert reward.interval is not None and reward.interval[0] > 0
    assert reward.p_value < 0.05 <= reward.corrected * len(found.measures)
    assert [m.name for m in found.measures] == ["reward", "completed", "steps", "seconds"]
    holm = comparing.holm([m.p_value for m in found.measures])
    assert [m.corrected for m in found.measures] == pytest.approx(holm)
    assert two_models.compare("old 1", "new 1", by="policy_version").measures[0].difference == reward.difference


def test_few_tasks_are_compared_attempt_by_attempt_within_them(store: odograph.Store) -> None:
    """Two tasks of different difficulty: no pairs of tasks, but each attempt against those at its own task."""
    chance = random.Random(5)
    for group, mean in (("easy", 0.8), ("hard", 0.1)):
        for n in range(24):
            model = "new" if n < (6 if group == "easy" else 18) else "old"
            earned(store, mean + 0.1 * (model == "new") + chance.gauss(0, 0.03), group=group, model=model)
    reward = store.compare("old", "new").measures[0]
    assert reward.a.mean is not None and reward.b.mean is not None and reward.b.mean < reward.a.mean
    assert (reward.pairs, reward.test) == (0, "permutation within 2 tasks")
    assert reward.difference == pytest.approx(0.1, abs=0.03) and reward.p_value < 0.01
    groups = store.compare("easy", "hard", by="group").measures[0]  # no task in common
    assert (groups.test, groups.pairs) == ("permutation test", 0) and groups.difference < -0.5


def test_a_trajectory_in_both_parts_is_in_neither(store: odograph.Store) -> None:
    """With two tags a trajectory would be compared with itself."""
    for n in range(6):
        earned(store, float(n % 2), tags=["a", "b"] if n == 0 else ["a"] if n < 3 else ["b"])
    found = store.compare("a", "b", by="tag").measures[0]
    assert (found.a.n, found.b.n) == (2, 3)


def test_a_mistake_says_what_there_is(two_models: odograph.Store) -> None:
    """An unknown model, a key that nothing is compared by, a filter that contradicts, a part with itself."""
    with pytest.raises(InvalidInput, match=r"no trajectory with model 'nwe'; there are: new, old; did you mean 'new'\?"):
        two_models.compare("nwe", "old")
    with pytest.raises(InvalidInput, match=r"nothing is compared by 'modl'; there are: model, .*did you mean 'model'"):
        two_models.compare("new", "old", by="modl")
    with pytest.raises(InvalidInput, match="not filtered by model too"):
        two_models.compare("new", "old", model="new")
    with pytest.raises(InvalidInput, match="with itself"):
        two_models.compare("new", "new")


def odograph_compare(store: odograph.Store, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "odograph", "--store", str(store.root), "compare", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_prints_what_the_function_finds(two_models: odograph.Store, tmp_path: Path) -> None:
    """`--json` is `to_dict()`; the table has a row for each measure and says its methods; a hostile name is harmless."""
    done = odograph_compare(two_models, "old", "new", "--json", "--agent", "coder")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(two_models.compare("old", "new").to_dict()))
    pytest.importorskip("matplotlib")
    shown = odograph_compare(two_models, "old", "new", "--plot", str(tmp_path / "c.svg"))
    assert shown.returncode == 0, shown.stderr
    assert [row.split()[0] for row in shown.stdout.splitlines()[:3]] == ["old", "reward", "completed"]
    assert "Wilcoxon signed rank, 12 tasks" in shown.stdout and "bootstrap of pairs (BCa)" in shown.stdout
    assert "reward" in (tmp_path / "c.svg").read_text()
    wrong = odograph_compare(two_models, "old", "x", "--by", "tag")
    assert (wrong.returncode, wrong.stderr) == (2, "odograph: no trajectory with tag 'old'; there are: trial\n")
    earned(two_models, 1.0, model="\x1b[31mred\u202e")
    hostile = odograph_compare(two_models, "old", "\x1b[31mred\u202e")
    assert hostile.returncode == 0 and "\x1b" not in hostile.stdout and "\u202e" not in hostile.stdout


def test_the_picture_shows_the_figures(tmp_path: Path) -> None:
    """Both means and the difference of each measure, the matrix of labels, names in any script; one pair alone has no lines."""
    pytest.importorskip("matplotlib")
    chance = random.Random(6)
    a = {str(n): chance.choice(["да", "нет", "$x_{"]) for n in range(30)}
    b = {key: value if chance.random() < 0.7 else "нет" for key, value in a.items()}
    found = odograph.compare(a, b, names=("рубрика 1", "рубрика 2"))
    made = found.figure()
    drawn = [line.get_xdata()[0] for axes in made.axes for line in axes.lines if line.get_gid() == "difference"]
    assert drawn == [m.difference for m in found.measures]
    texts = [t.get_text() for t in made.axes[-1].texts]
    assert found.agreement is not None and found.agreement.confusion is not None
    assert texts == [str(n) for row in found.agreement.confusion.counts for n in row]
    found.plot(tmp_path / "c.png")
    found.plot(tmp_path / "c.pdf")
    one = odograph.compare({"x": 0.5}, {"x": 0.75})
    assert one.measures[0].interval is None
    lines = [line for line in one.figure().axes[1].lines if len(line.get_xdata()) == 2]
    assert len(lines) == 1  # that of zero
