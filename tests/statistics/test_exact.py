"""Sums by columns are those of Python, to the last bit: figures do not depend on whether numpy is loaded."""

import math
import random
import sys

import pytest

from odograph.statistics import exact, intervals
from odograph.statistics.parts import Distribution

np = pytest.importorskip("numpy")


@pytest.mark.parametrize(
    "draw",
    [
        random.Random.random,
        lambda r: r.choice((0.0, 1.0)),
        lambda r: r.gauss(0, 1) * 10.0 ** r.randint(-30, 30),
        lambda r: r.choice((1e16, 1.0, -1e16, 1e-16, -0.0)),
        lambda r: 0.1,
        lambda r: r.uniform(-1, 1) * 2.0 ** r.randint(-1070, 10),
        lambda r: r.choice((1.7e308, -1.7e308, 1.0)),
    ],
    ids=["uniform", "two", "wide", "cancelling", "constant", "tiny", "huge"],
)
def test_many_numbers_give_the_figures_that_python_gives(draw, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean, deviation, interval and quantiles of many values are the same with numpy and without, with tasks and without."""
    chance = random.Random(5)
    for groups in (None, [-1] * 3000, [*range(1500)] * 2, [chance.choice((-1, *range(40))) for _ in range(3000)], [7] * 3000):
        values = [draw(chance) for _ in range(3000)]
        found = [intervals.mean_interval(values, 0.95, groups=groups), Distribution.of(values, 0.9, groups=groups)]
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "numpy")
            assert exact.numpy_for(values) is None
            alone = [intervals.mean_interval(values, 0.95, groups=groups), Distribution.of(values, 0.9, groups=groups)]
        assert repr(found) == repr(alone)


def test_sums_by_columns_are_taken_where_they_can_be() -> None:
    """Rewards between 0 and 1 are summed by columns; the sum is the one that is exactly rounded."""
    chance = random.Random(6)
    values = [chance.random() for _ in range(5000)]
    found = exact.moments(values, [n // 8 for n in range(5000)])
    assert found is not None
    assert found.mean == math.fsum(v / 5000 for v in values)
    assert found.units == 625
    assert found.by_group is not None
