"""`odograph.stats`: figures that can be trusted: what is unknown is not 0, intervals cover, differences are real, pictures show it."""

from __future__ import annotations

import json
import math
import random
import statistics
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import odograph
from odograph.errors import InvalidInput, MissingExtra
from odograph.statistics.intervals import mean_interval, quantile, rate_interval, t_quantile, welch_interval


def recorded(store: odograph.Store, reward: float | None = None, **about: Any) -> str:
    """A trajectory of one step with these actions, contexts and rewards."""
    actions, contexts = about.pop("actions", ()), about.pop("contexts", ())
    with store.record(**about) as run:
        with run.step() as step:
            for name in contexts:
                step.context(name, "data", purpose="p")
            for name in actions:
                step.action(name, {}, "result", ok=True)
        if reward is not None:
            run.reward(reward)
    return run.id


# --- intervals ------------------------------------------------------------------------------------------------------


def test_students_t_is_that_of_the_tables() -> None:
    """Two-sided quantiles as printed in tables, for few and for many degrees of freedom."""
    printed = {(1, 0.95): 12.706, (2, 0.99): 9.925, (3, 0.95): 3.182, (9, 0.999): 4.781, (10, 0.95): 2.228, (29, 0.9): 1.699}
    printed |= {
        (30, 0.95): 2.042,
        (100, 0.95): 1.984,
        (120, 0.99): 2.617,
        (200, 0.95): 1.972,
        (201, 0.95): 1.972,
        (1000, 0.95): 1.962,
    }
    for (freedom, confidence), expected in printed.items():
        assert t_quantile(freedom, confidence) == pytest.approx(expected, abs=6e-4)
    assert t_quantile(200, 0.9999) == pytest.approx(t_quantile(201, 0.9999), rel=1e-3)


def test_intervals_of_worked_examples() -> None:
    """The mean's of a textbook's ten values, Wilson's of 8 of 10 and of the extremes, Welch's of two small samples."""
    values = [9.261956, 9.260, 9.262, 9.270, 9.255, 9.258, 9.265, 9.261, 9.259, 9.268]
    mean, std, interval = mean_interval(values, 0.95) or (0.0, None, None)
    half = 2.262157 * statistics.stdev(values) / math.sqrt(10)
    assert (mean, std) == (pytest.approx(statistics.fmean(values)), pytest.approx(statistics.stdev(values)))
    assert interval == pytest.approx((mean - half, mean + half), rel=1e-6)
    assert rate_interval(8, 10, 0.95) == (0.8, pytest.approx((0.4902, 0.9433), abs=1e-4))
    assert rate_interval(0, 10, 0.95) == (0.0, (0.0, pytest.approx(0.2775, abs=1e-4)))
    assert rate_interval(10, 10, 0.95) == (1.0, (pytest.approx(0.7225, abs=1e-4), 1.0))
    assert rate_interval(0, 0, 0.95) is None
    # n 5, mean 10, variance 4 against n 8, mean 7, variance 1: error 0.96177, 5.26 degrees of freedom
    low, high = welch_interval(5, 10.0, 16.0, 8, 7.0, 7.0, 0.95) or (0.0, 0.0)
    assert (low, high) == pytest.approx((3 - 2.570582 * 0.961769, 3 + 2.570582 * 0.961769), abs=1e-5)
    assert welch_interval(5, 1.0, 0.0, 5, 0.0, 0.0, 0.95) is None


def test_intervals_cover_as_often_as_they_say() -> None:
    """Of 2,000 samples of six rewards each, 95 % of the intervals hold the true mean."""
    chance = random.Random(1)
    hits = 0
    for _ in range(2000):
        _, _, interval = mean_interval([chance.gauss(0.3, 1.0) for _ in range(6)], 0.95) or (0, 0, None)
        assert interval is not None
        hits += interval[0] <= 0.3 <= interval[1]
    assert 0.94 <= hits / 2000 <= 0.96


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_quantiles_are_pythons(values: list[float]) -> None:
    """Quartiles are those of `statistics.quantiles(method="inclusive")`."""
    ordered = sorted(values)
    expected = statistics.quantiles(values, n=4, method="inclusive")
    assert [quantile(ordered, q) for q in (0.25, 0.5, 0.75)] == pytest.approx(expected, rel=1e-9, abs=1e-9)


# --- figures --------------------------------------------------------------------------------------------------------


def test_an_unknown_reward_is_counted_and_in_no_figure(store: odograph.Store) -> None:
    """Null is not 0: it changes neither mean nor quantiles; a part without any reward has None, not 0."""
    for reward in (1.0, None, 0.0, 0.5, None):
        recorded(store, reward, group="a" if reward is not None else "b")
    found = store.stats("group")
    whole = found.whole.reward
    assert (whole.n, whole.null, whole.mean, whole.median, whole.min, whole.max, whole.std) == (3, 2, 0.5, 0.5, 0.0, 1.0, 0.5)
    by_key = {p.key: p for p in found.parts}
    nothing = by_key["b"].reward
    assert (nothing.n, nothing.null, nothing.mean, nothing.interval, nothing.std) == (0, 2, None, None, None)
    assert by_key["a"].reward == msgspec.structs.replace(whole, null=0)


def test_figures_by_what_there_is(store: odograph.Store) -> None:
    """By agent, model, tag (one with two tags is in both), status, day, hour and policy version; without one, under None."""
    recorded(store, 1.0, agent="x", model="m1", tags=["t", "u", "t"], policy_version=3)
    recorded(store, 0.0, agent="y", model="m1", policy_version=2)
    with pytest.raises(RuntimeError), store.record(agent="x", tags=["u"]):
        raise RuntimeError

    def counts(by: str) -> dict[str | None, int]:
        return {p.key: p.trajectories for p in odograph.stats(store, by).parts}

    assert counts("agent") == {"x": 2, "y": 1}
    assert counts("model") == {"m1": 2, None: 1}
    assert counts("tag") == {"t": 1, "u": 2, None: 1}
    assert counts("status") == {"completed": 2, "failed": 1}
    assert counts("policy_version") == {"2": 1, "3": 1, None: 1}
    (day,), (hour,) = counts("day").items(), counts("hour").items()
    assert day[0] is not None and hour[0] is not None
    assert hour[0].startswith(day[0]) and hour[0].endswith(":00Z") and day[1] == hour[1] == 3
    whole = store.stats(agent="x").whole
    assert (whole.trajectories, whole.completed_rate) == (2, 0.5)
    assert whole.completed_interval == pytest.approx((0.0945, 0.9055), abs=1e-4)


def test_components_are_the_values_that_count_before_their_weight(store: odograph.Store) -> None:
    """The latest value of each name, weighted or only watched, of the trajectory or summed over its steps; null apart."""
    for n in range(3):
        with store.record() as run:
            for k in range(2):
                with run.step() as step:
                    step.reward(k + n, name="progress")
            run.reward(9.0, name="outcome")
            run.reward(n / 2, name="outcome", weight=3.0)
            run.reward(None if n == 0 else 1.0, name="watched", weight=0.0)
    found = store.stats().components
    assert {name: (d.n, d.null, d.mean) for name, d in found.items()} == {
        "outcome": (3, 0, 0.5),
        "progress": (3, 0, 3.0),
        "watched": (2, 1, 1.0),
    }
    one = next(iter(store.trajectories()))
    assert one.rewards["outcome"] == store.used([one.id])[one.id].components["outcome"] == 0.0


def test_what_goes_with_high_reward_is_found_and_noise_is_not(store: odograph.Store) -> None:
    """An action worth 0.5 stands out, what was read at random does not; the corrected interval is the wider one."""
    chance = random.Random(3)
    for n in range(200):
        looked = n % 2 == 0
        noise = [f"source-{k}" for k in range(10) if chance.random() < 0.5]
        actions = ["look", "look"] if looked else ["guess"]
        recorded(store, chance.gauss(0.5 * looked, 0.5), actions=actions, contexts=noise, tags=["rare"] if n < 4 else [])
    found = {(d.kind, d.name): d for d in store.stats().differences}
    look, guess = found["action", "look"], found["action", "guess"]
    assert look.stands_out and guess.stands_out
    assert (look.n_with, look.n_without) == (100, 100)
    assert look.difference == pytest.approx(-guess.difference) == pytest.approx(look.mean_with - look.mean_without)
    assert 0.3 < look.difference < 0.7
    assert look.interval is not None and look.corrected is not None
    assert look.corrected[0] < look.interval[0] < look.difference < look.interval[1] < look.corrected[1]
    assert [key for key, d in found.items() if d.stands_out] == [key for key in found if key[0] == "action"]
    assert ("tag", "rare") not in found  # four are too few to say anything


@given(st.lists(st.tuples(st.booleans(), st.floats(-1e3, 1e3)), min_size=12, max_size=60).filter(lambda rs: 5 <= sum(r[0] for r in rs) <= len(rs) - 5))  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_a_difference_is_that_of_both_sides_computed_apart(rows: list[tuple[bool, float]]) -> None:
    """Means and interval are those of Welch on the two lists themselves."""
    with odograph.open("memory:") as store:
        for has, reward in rows:
            recorded(store, reward, tags=["t"] if has else [])
        (d,) = store.stats().differences
    sides = [[r for has, r in rows if has is want] for want in (True, False)]
    means = [statistics.fmean(s) for s in sides]
    assert (d.n_with, d.n_without) == tuple(map(len, sides))
    assert (d.mean_with, d.mean_without) == pytest.approx(means, abs=1e-9)
    spreads = [math.fsum((v - m) ** 2 for v in s) for s, m in zip(sides, means, strict=True)]
    expected = welch_interval(len(sides[0]), means[0], spreads[0], len(sides[1]), means[1], spreads[1], 0.95)
    if expected is not None and sum(spreads) > 1e-3:
        assert d.interval == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_rewards_over_time_are_in_spans_that_fit(store: odograph.Store) -> None:
    """A week of hourly work is shown by day or hour, not by year; every dated reward is in one span."""
    start = 1_760_000_000_000_000_000
    for n in range(7 * 24):
        at = start + n * 3600 * 1_000_000_000
        source = {"format": "x"}
        store.add({"start": {"metadata": {"source": source}, "source_time": at}, "rewards": [{"value": float(n)}]})
    store.add({"start": {"metadata": {"source": {"format": "x"}}}, "rewards": [{"value": 5.0}]})  # without a date
    found = store.stats()
    assert (found.span, len(found.over_time)) == ("day", 8)
    assert sum(d.n for _, d in found.over_time) == 7 * 24
    assert found.whole.reward.n == 7 * 24 + 1
    means = [d.mean for _, d in found.over_time]
    assert means == sorted(means)


def test_nothing_and_numbers_at_the_end_of_what_floats_hold(store: odograph.Store) -> None:
    """An empty store has figures, all None or 0; rewards of 1e308 cost their deviation, not an exception."""
    assert store.stats("day").to_dict()["reward_mean"] is None
    for n in range(12):
        recorded(store, 1e308 if n % 2 else -1e308, tags=["t"] if n % 3 else [])
    found = store.stats("tag")
    assert found.whole.reward.mean is not None and abs(found.whole.reward.mean) < 1e293
    assert found.whole.reward.interval is None
    json.dumps(found.to_dict())


def test_a_mistake_is_one_sentence(store: odograph.Store) -> None:
    """No such part, confidence or kind of picture: what there is, is said."""
    with pytest.raises(InvalidInput, match=r"no figures by 'colour'; there are: group, agent, .*policy_version"):
        store.stats("colour")
    for wrong in (0, 1.0, 95, "0.9"):
        with pytest.raises(InvalidInput, match="confidence is between 0 and 1"):
            store.stats(confidence=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no filter 'agnt'"):
        store.stats(agnt="x")
    with pytest.raises(InvalidInput, match=r"\.png, \.svg or \.pdf"):
        store.stats().plot("x.doc")


# --- the catalog ----------------------------------------------------------------------------------------------------


def test_summaries_come_in_pages_and_end(store: odograph.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trajectory once, in order, whatever the page; recording while listing does not make the list endless."""
    monkeypatch.setattr("odograph.store.catalog._PAGE", 3)
    ids = [recorded(store, float(n)) for n in range(10)]
    assert [s.id for s in store.summaries()] == ids
    assert [s.id for s in store.summaries(min_reward=4.0, limit=4)] == ids[4:8]
    seen = 0
    for _ in store.summaries():
        recorded(store)
        len(store)  # catches up
        seen += 1
    assert seen == 10
    assert len(store) == 20


def test_what_was_corrected_counts_as_corrected(store: odograph.Store) -> None:
    """An action that a later record corrects counts under its new name only."""
    id = recorded(store, 1.0, actions=["byu"], contexts=["kb"])
    assert store.used([id])[id].uses == [("action", "byu"), ("context", "kb")]
    data = store.trajectory(id).to_dict()
    data["steps"][0]["actions"][0]["name"] = "buy"
    store.add(data)
    assert store.used([id])[id].uses == [("action", "buy"), ("context", "kb")]


def test_memory_stays_flat(store: odograph.Store) -> None:
    """3,000 trajectories with tasks of 3 KB, 9 MB in all: their statistics take less than 2 MB."""
    for n in range(3000):
        with store.record(task=f"{n} " + "x" * 3000, tags=["t"]) as run:
            run.reward(n / 3000)
    len(store)
    tracemalloc.start()
    try:
        found = store.stats()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.whole.reward.n == 3000
    assert peak < 2_000_000, peak


# --- pictures and the command ---------------------------------------------------------------------------------------


@pytest.fixture
def shown(store: odograph.Store) -> odograph.Store:
    """Forty trades over four days, half of which looked first and earned more; one name is a trap."""
    chance = random.Random(5)
    for n in range(40):
        looked = n % 2 == 0
        name = "look" if looked else "$x_{1$ \x1b[31m\u202e 猜 guess"
        step = {"actions": [{"name": name, "arguments": {}, "result": 1}], "contexts": [{"provider": "market"}] if n % 4 else []}
        rewards = [{"name": "profit", "value": chance.gauss(0.8 * looked, 0.2)}, {"name": "format", "value": 0.1}]
        at = 1_760_000_000_000_000_000 + n * 8_640 * 1_000_000_000
        about = {"metadata": {"source": {"format": "x"}}, "source_time": at, "group": f"g{n % 3}"}
        store.add({"start": about, "steps": [step], "rewards": rewards})
    return store


def test_the_figure_shows_the_figures(shown: odograph.Store) -> None:
    """Panels over time, by group, by component and by what was done, with the very numbers of `stats`."""
    pytest.importorskip("matplotlib")
    found = shown.stats("group")
    made = found.figure()
    time, groups, components, differences = made.axes
    (line,) = [one for one in time.lines if one.get_gid() == "reward-mean"]
    assert list(line.get_ydata()) == [d.mean for _, d in found.over_time]
    assert len(found.over_time) > 3
    assert [t.get_text() for t in groups.get_xticklabels()] == [f"g{n} ({p.reward.n})" for n, p in enumerate(found.parts)]
    assert [bar.get_width() for bar in components.patches] == [d.mean for d in found.components.values()]
    marks = [one.get_xdata()[0] for one in differences.lines if one.get_marker() == "o"]
    assert marks == sorted((d.difference for d in found.differences), reverse=True)
    look = next(d for d in found.differences if d.name == "look")
    assert any(list(one.get_xdata()) == list(look.corrected or ()) for one in differences.lines)


def test_pictures_are_files_with_something_in_them(shown: odograph.Store, tmp_path: Path) -> None:
    """A PNG with many colours, an SVG whose curve has a point for each span: what the figure holds is in the file."""
    pytest.importorskip("matplotlib")
    from PIL import Image

    found = shown.stats("group")
    found.plot(tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as image:
        assert image.format == "PNG"
        assert image.width > 500
        colours = image.convert("RGB").getcolors(1 << 20)
        assert colours is not None and len(colours) > 20
    found.plot(tmp_path / "s.svg")
    tree = ElementTree.parse(tmp_path / "s.svg")
    (curve,) = [g for g in tree.iter("{http://www.w3.org/2000/svg}g") if g.get("id") == "reward-mean"]
    path = next(curve.iter("{http://www.w3.org/2000/svg}path")).get("d") or ""
    drawn = list(curve.iter("{http://www.w3.org/2000/svg}use"))
    assert path.count("L") + 1 == len(found.over_time) or len(drawn) == len(found.over_time)
    odograph.open("memory:").stats().plot(tmp_path / "empty.svg")
    ElementTree.parse(tmp_path / "empty.svg")


def test_without_matplotlib_it_is_said(shown: odograph.Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A picture needs the extra `plot`; figures don't."""
    found = shown.stats()
    monkeypatch.delitem(sys.modules, "odograph.statistics.plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"odograph\[plot\]"):
        found.plot(tmp_path / "x.png")


def odograph_stats(store: odograph.Store, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "odograph", "--store", str(store.root), "stats", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_prints_what_the_function_finds(shown: odograph.Store, tmp_path: Path) -> None:
    """`--json` is `to_dict()`; the table has a line a group, `--patterns` says what stands out, without control sequences."""
    done = odograph_stats(shown, "--by", "group", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(shown.stats("group").to_dict()))
    table = odograph_stats(shown, "--by", "group", "--patterns", "--confidence", "0.9", "--limit", "40")
    assert table.returncode == 0, table.stderr
    first = [row.split()[0] for row in table.stdout.splitlines()[:5]]
    assert first == ["group", "g0", "g1", "g2", "all"]
    assert "90%" in table.stdout
    look = next(row for row in table.stdout.splitlines() if row.startswith("action") and " look " in row)
    assert look.endswith("yes")
    assert "\x1b" not in table.stdout and "\u202e" not in table.stdout
    wrong = odograph_stats(shown, "--confidence", "95")
    assert (wrong.returncode, wrong.stderr) == (2, "odograph: --confidence is between 0 and 1, such as 0.95, not 95.0\n")
    if pytest.importorskip("matplotlib"):
        drawn = odograph_stats(shown, "--plot", str(tmp_path / "p.svg"), "--json")
        assert drawn.returncode == 0, drawn.stderr
        assert (tmp_path / "p.svg").stat().st_size > 5_000
    assert odograph_stats(shown, "--plot", "p.doc").stderr == "odograph: a picture is a .png, .svg or .pdf file, not 'p.doc'\n"


def test_figures_at_the_end_of_what_floats_hold_are_numbers_or_null(store: odograph.Store, tmp_path: Path) -> None:
    """Quantiles between -1e308 and 1e308 are finite, differences that are not are left out; JSON has no NaN or infinity; a picture
    that can't be drawn is said to be one."""
    for n in range(20):
        recorded(store, 1e308 if n % 2 else -1e308, tags=["odd" if n % 2 else "even"])
    found = store.stats("tag")
    assert (found.whole.reward.min, found.whole.reward.median, found.whole.reward.max) == (-1e308, 0.0, 1e308)
    json.dumps(found.to_dict(), allow_nan=False)
    pytest.importorskip("matplotlib")
    with pytest.raises(InvalidInput, match="of this size"):
        found.plot(tmp_path / "rewards.png")
