"""Comparing and agreeing: our figures are those of scipy, statsmodels, scikit-learn and krippendorff on the same data."""

from __future__ import annotations

import itertools
import math
import random
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import odograph
from odograph.errors import InvalidInput, MissingExtra
from odograph.statistics import agreement, bias, comparing
from odograph.statistics.intervals import mean_interval

scipy_stats = pytest.importorskip("scipy.stats")


# --- agreement --------------------------------------------------------------------------------------------------------

ratings = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=40)


@given(ratings)
@settings(deadline=None)
def test_kappa_and_confusion_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    """Cohen's kappa, plain and weighted, and the confusion matrix."""
    metrics = pytest.importorskip("sklearn.metrics")
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    labels = sorted({*a, *b})
    assert agreement.confusion(a, b) == (labels, metrics.confusion_matrix(a, b).tolist())
    for weights in (None, "linear", "quadratic"):
        found = agreement.cohen_kappa(a, b, weights=weights)  # type: ignore[arg-type]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = metrics.cohen_kappa_score(a, b, weights=weights)
        assert found is None if math.isnan(expected) else found == pytest.approx(expected, abs=1e-9)
    assert agreement.cohen_kappa([1, 1], [1, 1]) is None  # one label says nothing of agreement


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=4, max_size=4), min_size=1, max_size=20))
@settings(deadline=None)
def test_fleiss_kappa_is_statsmodels(units: list[list[str]]) -> None:
    """Of four judges and three labels."""
    raters = pytest.importorskip("statsmodels.stats.inter_rater")
    found = agreement.fleiss_kappa(units)
    if len({label for unit in units for label in unit}) == 1:
        assert found is None
        return
    expected = raters.fleiss_kappa([[unit.count(label) for label in "abc"] for unit in units])
    assert found == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.lists(st.none() | st.integers(1, 5), min_size=3, max_size=3), min_size=2, max_size=20))
@settings(deadline=None)
def test_alpha_is_krippendorffs(units: list[list[int | None]]) -> None:
    """Nominal, ordinal and interval, with judges who left things out."""
    krippendorff, numpy = pytest.importorskip("krippendorff"), pytest.importorskip("numpy")
    data = numpy.array([[math.nan if v is None else float(v) for v in unit] for unit in units]).T
    pairable = {v for unit in units if sum(w is not None for w in unit) > 1 for v in unit if v is not None}
    for level in ("nominal", "ordinal", "interval"):
        found = agreement.krippendorff_alpha(units, level)  # type: ignore[arg-type]
        if len(pairable) < 2:
            assert found is None
        else:
            expected = krippendorff.alpha(reliability_data=data, level_of_measurement=level)
            assert found == pytest.approx(expected, abs=1e-9)


def test_calibration_is_what_its_definition_says() -> None:
    """Brier's score is scikit-learn's; the calibration error is 0 for scores that come true as often as they say."""
    metrics = pytest.importorskip("sklearn.metrics")
    chance = random.Random(1)
    scores = [chance.random() for _ in range(300)]
    outcomes = [chance.random() < s**2 for s in scores]
    assert agreement.brier_score(scores, outcomes) == pytest.approx(metrics.brier_score_loss(outcomes, scores))
    bins = agreement.calibration(scores, outcomes)
    assert sum(b.n for b in bins) == 300 and len(bins) == 10
    assert agreement.expected_calibration_error(scores, outcomes) == pytest.approx(
        sum(b.n / 300 * abs(b.score - b.share) for b in bins)
    )
    assert agreement.expected_calibration_error([0.25] * 4 + [1.0], [True, False, False, False, True]) == 0.0
    assert agreement.expected_calibration_error([], []) is agreement.brier_score([], []) is None
    with pytest.raises(InvalidInput, match="from 0 to 1"):
        agreement.calibration([1.5], [True])


# --- differences and tests --------------------------------------------------------------------------------------------


def test_corrections_are_statsmodels() -> None:
    """Holm and Benjamini-Hochberg, with ties and ones."""
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    for p_values in ([0.01, 0.04, 0.03, 0.2, 1.0], [0.02, 0.02], [0.5], []):
        for ours, name in ((comparing.holm, "holm"), (comparing.benjamini_hochberg, "fdr_bh")):
            expected = list(multitest.multipletests(p_values, method=name)[1]) if p_values else []
            assert ours(p_values) == pytest.approx(expected)


def test_tests_of_pairs_are_statsmodels_and_scipys() -> None:
    """McNemar's exact test, Wilcoxon's signed ranks and the sign-flip test; pairs that never differ give 1."""
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    chance = random.Random(2)
    a = [chance.random() < 0.4 for _ in range(60)]
    b = [x or chance.random() < 0.3 for x in a]
    b[a.index(True)] = False
    counts = [[sum(x == i and y == j for x, y in zip(a, b, strict=True)) for j in (1, 0)] for i in (1, 0)]
    assert comparing.mcnemar(a, b) == pytest.approx(tables.mcnemar(counts, exact=True).pvalue)
    x = [chance.gauss(0, 1) for _ in range(8)]
    y = [v + chance.gauss(0.5, 1) for v in x]
    assert comparing.wilcoxon(x, y) == pytest.approx(scipy_stats.wilcoxon(y, x).pvalue)
    flips = [
        abs(sum((q - p) * (1 if bits >> i & 1 else -1) for i, (p, q) in enumerate(zip(x, y, strict=True)))) for bits in range(256)
    ]
    exact = sum(f >= abs(sum(y) - sum(x)) - 1e-9 for f in flips) / 256
    assert comparing.permutation_test(x, y, paired=True) == pytest.approx(exact)
    for test in (comparing.mcnemar, comparing.wilcoxon):
        assert test([1, 0, 1], [1, 0, 1]) == 1.0
    assert comparing.permutation_test([1.0] * 3, [1.0] * 3, paired=True) == 1.0
    assert comparing.permutation_test([1.0], [2.0], paired=True) == 1.0


def test_the_effect_that_can_be_seen_is_statsmodels() -> None:
    """Of pairs and of two samples of different size, at 80 % and 90 % power."""
    power = pytest.importorskip("statsmodels.stats.power")
    assert power.TTestPower().power(comparing.detectable_effect(1.0, 2), 2, 0.05) == pytest.approx(0.8)
    for n, want in ((10, 0.8), (50, 0.9)):
        expected = power.TTestPower().solve_power(nobs=n, alpha=0.05, power=want)
        assert comparing.detectable_effect(2.0, n, power=want) == pytest.approx(2.0 * expected, rel=1e-5)
        expected = power.TTestIndPower().solve_power(nobs1=n, alpha=0.05, power=want, ratio=3.0)
        assert comparing.detectable_effect(2.0, n, 3 * n, power=want) == pytest.approx(2.0 * expected, rel=1e-5)
    assert comparing.detectable_effect(1.0, 1) is None


@pytest.mark.parametrize("n", [6, 30])
def test_intervals_of_paired_differences_cover(n: int) -> None:
    """Of 200 comparisons of skewed scores, the true difference is in the interval in 90 % at least (95 % are stated)."""
    chance = random.Random(3)
    hits = 0
    for _ in range(200):
        a = [chance.betavariate(2, 1) for _ in range(n)]
        b = [chance.betavariate(1, 2) for _ in range(n)]
        found = comparing.paired_difference(a, b, bounds=(0.0, 1.0), seed=1)
        assert found.interval is not None and -1.0 <= found.interval[0] < found.interval[1] <= 1.0
        hits += found.interval[0] <= -1 / 3 <= found.interval[1]
    assert hits / 200 >= 0.9


def test_a_difference_of_pairs_is_scipys_bootstrap_and_never_a_point() -> None:
    """BCa from ten pairs on, the method is named; pairs that all differ by the same, and few pairs, have an interval with a width."""
    chance = random.Random(4)
    a = [chance.random() for _ in range(20)]
    b = [min(1.0, v + chance.random() / 5) for v in a]
    found = comparing.paired_difference(a, b, seed=5)
    moved = [y - x for x, y in zip(a, b, strict=True)]
    expected = scipy_stats.bootstrap((moved,), lambda v, axis: v.mean(axis=axis), rng=5).confidence_interval
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert found.method == "bootstrap of pairs (BCa)"
    for n in (4, 40):
        same = comparing.paired_difference([0.0] * n, [1.0] * n, bounds=(0.0, 1.0))
        assert same.interval is not None and same.interval[0] < same.interval[1] == 1.0
    apart = comparing.unpaired_difference([3.0, 4.0, 5.0], [8.0, 9.5])
    assert apart.method == "Welch t"
    assert apart.interval == pytest.approx(
        tuple(scipy_stats.ttest_ind([8.0, 9.5], [3.0, 4.0, 5.0], equal_var=False).confidence_interval())
    )
    assert comparing.unpaired_difference([1.0], [2.0]).interval is None


def test_a_difference_of_shares_is_statsmodels() -> None:
    """Newcombe's interval of two small samples of 0 and 1, also where neither varies."""
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for hits, n, hits_2, n_2 in ((3, 8, 5, 9), (0, 4, 6, 6), (2, 30, 1, 4)):
        a, b = [1.0] * hits + [0.0] * (n - hits), [1.0] * hits_2 + [0.0] * (n_2 - hits_2)
        found = comparing.unpaired_difference(a, b, bounds=(0.0, 1.0))
        expected = proportion.confint_proportions_2indep(hits_2, n_2, hits, n, method="newcomb")
        assert found.interval == pytest.approx(expected, abs=1e-9)
        assert found.method == "Newcombe, of Wilson scores"


def test_people_and_a_judge_together_are_right_and_surer() -> None:
    """A judge that is 0.15 too kind: what is estimated is right, its interval covers, and it is narrower than that of people alone."""
    chance = random.Random(6)
    hits, narrower = 0, 0
    for _ in range(400):
        truth = [chance.gauss(0.5, 1.0) for _ in range(430)]
        judge = [t + 0.15 + chance.gauss(0, 0.3) for t in truth]
        found = comparing.prediction_powered(truth[:30], judge[:30], judge[30:])
        assert found.interval is not None
        hits += found.interval[0] <= 0.5 <= found.interval[1]
        narrower += found.standard_error < found.people_standard_error
        assert found.estimate == pytest.approx(
            sum(judge[30:]) / 400 + sum(t - j for t, j in zip(truth[:30], judge[:30], strict=True)) / 30
        )
    assert 0.92 <= hits / 400 <= 0.98
    assert narrower / 400 > 0.95


def test_people_and_a_judge_who_all_say_the_same_are_not_certain() -> None:
    """Where nothing varies, the interval is that of people's scores alone, never a point; without bounds there is none."""
    same = [1.0] * 3
    found = comparing.prediction_powered(same, same, same, bounds=(0.0, 1.0))
    alone = mean_interval(same, 0.95, bounds=(0.0, 1.0))
    assert alone is not None and found.interval == alone.interval and found.interval is not None and found.interval[0] < 0.5
    assert comparing.prediction_powered([0.3] * 3, [0.1] * 3, [0.1] * 7).interval is None


# --- bias -------------------------------------------------------------------------------------------------------------


def test_a_judge_that_likes_length_its_family_and_the_first_is_found_out() -> None:
    """Each probe finds its bias in scores that have it, with an interval that leaves none out, and finds none in scores without."""
    chance = random.Random(7)
    lengths = [chance.randrange(100, 5000) for _ in range(80)]
    for worth in (1.0, 0.0):
        found = bias.length_bias([worth * n / 5000 + chance.random() for n in lengths], lengths)
        assert found is not None and found.interval is not None
        assert (found.p_value < 0.01) is (found.interval[0] > 0) is (worth == 1.0)
    own = [n % 2 == 0 for n in range(60)]
    scores = [chance.random() + 0.5 * mine for mine in own]
    family = bias.family_bias(scores, own)
    assert family is not None and family.interval is not None
    assert family.interval[0] > 0 and family.p_value < 0.01 and family.share == 0.5
    verdicts = ["a"] * 30 + ["b"] * 20
    order = bias.order_bias(verdicts, ["b"] * 12 + ["a"] * 18 + ["b"] * 20)
    assert order is not None and (order.flips, order.n, order.rate, order.first) == (12, 50, 0.24, 1.0)
    assert order.p_value < 0.001 and 0.13 < order.interval[0] < 0.24 < order.interval[1]
    assert bias.order_bias([], []) is bias.length_bias([1.0, 1.0, 1.0], [1, 2, 3]) is bias.family_bias([1.0], [True]) is None


@pytest.mark.parametrize("n", [3, 4, 6])
def test_few_in_order_are_no_certainty(n: int) -> None:
    """Scores of few that follow length: the p-value is the share of all orders that look as much like it, never 0."""
    scores = [float(i) for i in range(n)]
    found = bias.length_bias(scores, list(range(n)))
    assert found is not None and found.p_value == pytest.approx(2 / math.factorial(n))
    mixed = [1.0, 0.0, *scores[2:]]
    found = bias.length_bias(mixed, list(range(n)))
    orders = [abs(scipy_stats.spearmanr(mixed, order).statistic) for order in itertools.permutations(range(n))]
    assert found is not None
    assert found.p_value == pytest.approx(sum(r >= found.correlation - 1e-9 for r in orders) / len(orders), abs=1e-9)


UNKNOWN = [None, math.nan, math.inf]
OF_PAIRS: list[Callable[[Any, Any], Any]] = [
    comparing.paired_difference,
    comparing.unpaired_difference,
    comparing.mcnemar,
    comparing.wilcoxon,
    lambda a, b: comparing.permutation_test(a, b, paired=True),
    lambda a, b: comparing.permutation_test(a, b, paired=False),
    lambda a, b: comparing.prediction_powered(a, b, b),
    bias.length_bias,
    lambda a, b: bias.family_bias(a, [True, False, True, False]),
    lambda a, b: agreement.brier_score(a, b),
    lambda a, b: agreement.calibration(a, b),
    lambda a, b: comparing.holm(a),
    lambda a, b: comparing.benjamini_hochberg(a),
    lambda a, b: agreement.krippendorff_alpha(
        [[math.inf if x is None else x, y, 1] for x, y in zip(a, b, strict=True) if x == x]
    ),
]


@pytest.mark.parametrize("unknown", UNKNOWN)
@pytest.mark.parametrize("figure", OF_PAIRS)
def test_an_unknown_value_is_refused_and_never_a_finding(figure: Callable[[Any, Any], Any], unknown: Any) -> None:
    """NaN made a permutation test say p = 0, and an interval say everything: what is not known is left out, or said."""
    if unknown is not None and unknown != unknown and figure is OF_PAIRS[-1]:
        return  # alpha takes NaN as None: the judge said nothing
    with pytest.raises(InvalidInput, match="not "):
        figure([1, unknown, 0, 1], [0, 1, 0, 1])


def test_a_judge_who_left_a_thing_out_gave_no_label() -> None:
    """Kappa has no place for a missing label; alpha leaves it out, be it None or the NaN of a column."""
    for left_out in (lambda: agreement.cohen_kappa(["a", None], ["a", "b"]), lambda: agreement.fleiss_kappa([["a", math.nan]])):
        with pytest.raises(InvalidInput, match="krippendorff_alpha"):
            left_out()
    with_none = agreement.krippendorff_alpha([[1, 1], [2, 3], [None, 2]])
    assert with_none is not None and with_none == agreement.krippendorff_alpha([[1, 1], [2, 3], [math.nan, 2]])
    assert agreement.cohen_kappa([None, "a"], [None, "b"], labels=[None, "a", "b"]) is not None


def test_little_confidence_finds_any_effect() -> None:
    """A test that is wrong in 90 % of cases has 80 % power without an effect."""
    assert comparing.detectable_effect(1.0, 20, confidence=0.1) == 0.0
    found = odograph.compare({str(n): n % 2 for n in range(12)}, {str(n): n % 3 / 2 for n in range(12)}, confidence=0.1)
    assert found.measures[0].detectable == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: comparing.paired_difference([1.0], [1.0, 2.0]),
        lambda: comparing.paired_difference([], []),
        lambda: comparing.prediction_powered([1.0], [1.0], [1.0, 2.0]),
        lambda: agreement.confusion(["a"], ["b"], labels=["a"]),
        lambda: agreement.fleiss_kappa([["a", "b"], ["a"]]),
        lambda: agreement.krippendorff_alpha([[1, 2]], "ratio"),  # type: ignore[arg-type]
        lambda: bias.order_bias(["c"], ["a"]),
        lambda: agreement.calibration([0.5], [1], bins=0),
        lambda: agreement.brier_score([-3.0], [1]),
        lambda: comparing.mcnemar([2], [1]),
        lambda: comparing.holm([1.5]),
        lambda: comparing.detectable_effect(1.0, 20, power=1.0),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(wrong: Callable[[], Any]) -> None:
    """Lists of different lengths, too few values, unknown labels and levels."""
    with pytest.raises(InvalidInput):
        wrong()


def test_without_scipy_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing needs the extra `worlds`; agreement does not."""
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(MissingExtra, match=r"odograph\[worlds\]"):
        comparing.mcnemar([True, False], [False, True])
    assert agreement.cohen_kappa(["a", "b"], ["a", "b"]) == 1.0
