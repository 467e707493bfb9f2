"""The rule on estimates made by hand, and the bootstrap against what is known about it."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from duet import metrics, verdicts
from duet.verdicts import Claim, Estimate, Resampling, verdict

RNG = np.random.default_rng


def estimate(low, high):
    return Estimate((low + high) / 2, low, high, 10)


# -- the rule ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "bound", "below", "judged"),
    [
        (-3, -1, 0, True, "reproduced"),
        (1, 3, 0, True, "contradicted"),
        (-1, 1, 0, True, "undecided"),
        (-3, -1, 0, False, "contradicted"),
        (1, 3, 0, False, "reproduced"),
        (-1, 1, 0, False, "undecided"),
        (-3, 0.9, 1, True, "reproduced"),  # the bound counts, not zero
        (0.5, 2, 1, True, "undecided"),
        (21, 90, 20, False, "reproduced"),
        (5, 19, 20, False, "contradicted"),
        (-0.5, 2, -1, False, "reproduced"),
        (-3, 0, 0, True, "undecided"),  # to touch the bound decides nothing
        (0, 3, 0, True, "undecided"),
        (0, 0, 0, False, "undecided"),
    ],
)
def test_a_verdict_needs_the_whole_interval(low, high, bound, below, judged):
    assert verdict(estimate(low, high), bound, below) == judged


def test_what_was_not_run_is_not_judged():
    assert verdict(None) == verdict(None, 3.0, False) == "not run"


def test_the_table_has_the_columns_of_verdicts_csv():
    claims = [
        Claim("falls", "Table 2", "9 -> 5", "difference below 0", lambda r: r["falls"]),
        Claim("rises", "Table 2", "5 -> 9", "difference above 1", lambda r: r["falls"], bound=1.0, below=False),
        Claim("missing", "Table 3", "", "difference below 0", lambda r: r.get("missing")),
    ]
    results = {"falls": Estimate(-2.00049, -3.0, -1.0, 10)}
    table = verdicts.table("toy", claims, results)
    columns = ("study", "claim", "source", "paper", "ours", "low", "high", "verdict", "rule", "why")
    assert tuple(table.columns) == columns
    assert list(table["verdict"]) == ["reproduced", "contradicted", "not run"]
    assert table.loc[0, ["ours", "low", "high"]].tolist() == [-2.0, -3.0, -1.0]
    assert table.loc[2, ["ours", "low", "high"]].isna().all()
    assert table.loc[0, "why"] == "The whole interval lies below 0, as claimed (n = 10, seeds = 1)."
    nothing = verdicts.table("toy", claims, results, learned=False)
    assert list(nothing["verdict"]) == ["undecided", "undecided", "not run"]
    assert nothing["why"].str.startswith("The models have not beaten").tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("low", "high", "bound", "below", "because"),
    [
        (-3, -1, 0, True, "The whole interval lies below 0, as claimed"),
        (21, 90, 20, False, "The whole interval lies above 20, as claimed"),
        (1, 3, 0.5, True, "The whole interval lies above 0.5, and the claim says below"),
        (-3, -1, 0, False, "The whole interval lies below 0, and the claim says above"),
        (-3, 1, 0, True, "The interval holds 0; the estimate is on the claimed side"),
        (-3, 1, 0, False, "The interval holds 0; the estimate is on the other side"),
        (-1, 3, -1, False, "The interval holds -1; the estimate is on the claimed side"),  # it only touches the bound
        (-np.inf, np.inf, 0, True, "It has no finite interval"),
        (np.nan, np.nan, 0, True, "It has no finite interval"),
    ],
)
def test_the_reason_says_where_the_interval_lies(low, high, bound, below, because):
    assert verdicts.why(Estimate((low + high) / 2, low, high, 10, 3), bound, below) == f"{because} (n = 10, seeds = 3)."


def test_verdicts_as_text():
    claims = [Claim("falls", "Table 1", "3 -> 2", "a - b below 0", lambda r: Estimate(-1.25, -2.0, -0.5, 9, 3)),
              Claim("rises", "control", "", "b - a above 0", lambda r: None, below=False)]  # fmt: skip
    text = verdicts.readable(verdicts.table("study", claims, None))
    assert text.iloc[0].tolist() == ["falls", "Table 1", "3 -> 2", "-1.25 [-2, -0.5]", "reproduced", "a - b below 0",
                                     "The whole interval lies below 0, as claimed (n = 9, seeds = 3)."]  # fmt: skip
    assert text.iloc[1, 2:5].tolist() == ["–", "not run", "not run"]


def test_one_scale_for_claims_of_all_units():
    claims = [
        Claim("falls", "", "", "", lambda r: r, bound=2.0),
        Claim("rises", "", "", "", lambda r: r, bound=0.5, below=False),
        *(Claim(text, "", "", "", lambda r: r) for text in ("without width", "without end", "not run")),
    ]
    rows = [
        ("falls", -1.0, -4.0, 0.0),
        ("rises", 0.4, 0.3, 0.7),
        ("without width", 1.0, 1.0, 1.0),
        ("without end", 1.0, -np.inf, np.inf),
        ("not run", None, None, None),
        ("of another study", 1.0, 0.0, 2.0),
    ]
    judged = pd.DataFrame(rows, columns=["claim", "ours", "low", "high"])
    scaled = verdicts.in_half_widths(judged, claims)
    # half widths 2 and 0.2; what falls is mirrored, so that its higher end is the lower one
    assert scaled.loc[0, ["ours", "low", "high"]].tolist() == pytest.approx([1.5, 1.0, 3.0])
    assert scaled.loc[1, ["ours", "low", "high"]].tolist() == pytest.approx([-0.5, -1.0, 1.0])
    assert scaled.loc[2:, ["ours", "low", "high"]].isna().all(axis=None)


# -- the bootstrap -----------------------------------------------------------------------------------------------------


def test_the_estimate_is_the_symbol_error_rate_itself():
    rng = RNG(0)
    lengths, edits = rng.integers(1, 40, 50), rng.integers(0, 60, (3, 50))
    sample = Resampling(rng.integers(0, 12, 50))
    assert sample.rate(edits[:1], lengths)[0] == pytest.approx(metrics.symbol_error_rate(edits[0], lengths))
    over_seeds = metrics.symbol_error_rate(edits.ravel(), np.tile(lengths, 3))
    assert sample.rate(edits, lengths)[0] == pytest.approx(over_seeds)


def test_one_draw_takes_whole_groups():
    sample = Resampling(["b", "a", "b", "c"], resamples=50)
    top, bottom = np.array([1.0, 10.0, 2.0, 100.0]), np.array([1, 1, 2, 3])
    draws = sample.rate([top], bottom, scale=1)
    assert len(draws) == 51 and sample.n == 3 and sample.counts.sum(1).tolist() == [3] * 50
    for counts, drawn in zip(sample.counts, draws[1:], strict=True):  # groups in order a, b, c
        assert drawn == pytest.approx((counts @ [10, 3, 100]) / (counts @ [1, 3, 3]))


def test_the_spread_of_a_mean_is_its_standard_error():
    values = RNG(1).gamma(2.0, 3.0, 80)
    draws = Resampling(range(80), resamples=20_000).rate([values], np.ones(80), scale=1)
    assert draws[1:].std() == pytest.approx(values.std() / np.sqrt(80), rel=0.03)
    assert draws[1:].mean() == pytest.approx(values.mean(), rel=0.01)


def test_the_interval_of_a_ratio_is_scipys():
    rng = RNG(2)
    lengths = rng.integers(5, 40, 120)
    edits = rng.binomial(lengths, rng.beta(1, 4, 120))
    sample = Resampling(range(120), resamples=20_000)
    ours = sample.estimate(sample.rate([edits], lengths))
    theirs = stats.bootstrap(
        (edits, lengths),
        lambda e, n: 100 * e.sum() / n.sum(),
        paired=True,
        vectorized=False,
        n_resamples=5_000,
        method="percentile",
        rng=rng,
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)
    assert (ours.n, ours.seeds) == (120, 1)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng, covered, trials = RNG(3), 0, 300
    for trial in range(trials):
        values = rng.normal(10, 4, 60)
        sample = Resampling(range(60), resamples=600, seed=trial)
        found = sample.estimate(sample.rate([values], np.ones(60), scale=1))
        covered += found.low < 10 < found.high
    assert 0.90 < covered / trials < 0.985


def test_grouping_widens_the_interval_of_clustered_items():
    rng = RNG(4)
    groups = np.repeat(np.arange(40), 9)
    values = rng.normal(0, 1, 40)[groups]  # the items of a group are copies
    grouped, single = (
        Resampling(g, resamples=5_000).rate([values], np.ones(360), scale=1) for g in (groups, range(360))
    )
    assert grouped[0] == pytest.approx(single[0])
    assert grouped[1:].std() / single[1:].std() == pytest.approx(3, rel=0.05)  # the root of 9


def test_pairing_narrows_a_difference():
    rng = RNG(5)
    hard = rng.normal(20, 8, 100)  # what makes an incipit hard is the same for both arms
    ours, theirs = hard + rng.normal(0, 1, 100), hard + 1 + rng.normal(0, 1, 100)
    one, another = Resampling(range(100), seed=0), Resampling(range(100), seed=1)
    paired = one.rate([ours], np.ones(100), 1) - one.rate([theirs], np.ones(100), 1)
    unpaired = one.rate([ours], np.ones(100), 1) - another.rate([theirs], np.ones(100), 1)
    assert paired[0] == pytest.approx(unpaired[0])
    assert paired[1:].std() == pytest.approx((ours - theirs).std() / 10, rel=0.06)
    assert unpaired[1:].std() > 4 * paired[1:].std()
    assert verdict(one.estimate(paired)) == "reproduced" and verdict(one.estimate(unpaired)) == "undecided"


def test_seeds_that_disagree_widen_the_interval():
    rng = RNG(6)
    values = rng.normal(20, 1, 100)
    sample = Resampling(range(100), resamples=20_000)
    alone = sample.rate([values], np.ones(100), 1)
    agree = sample.rate([values] * 3, np.ones(100), 1)
    differ = sample.rate([values - 3, values, values + 3], np.ones(100), 1)
    assert agree[1:] == pytest.approx(alone[1:])
    assert differ[0] == pytest.approx(alone[0])
    # Student's t with two degrees of freedom on the standard error of three trainings: 4.303 at 95 %
    spread = np.percentile(differ[1:] - differ[1:].mean(), [2.5, 97.5])
    assert spread == pytest.approx(4.303 * 3 / np.sqrt(3) * np.array([-1, 1]), rel=0.08)
    assert sample.estimate(differ, 3).seeds == 3


def test_arms_draw_their_seeds_independently():
    rng = RNG(7)
    first, second = ([v - 3, v, v + 3] for v in (rng.integers(10, 30, 50), rng.integers(10, 30, 50)))
    sample = Resampling(range(50), resamples=5_000)
    a, b = (sample.rate(arm, np.ones(50), 1)[1:] for arm in (first, second))
    items = sample.counts @ (np.mean(first, 0) - np.mean(second, 0)) / 50
    seeds = (a - b) - (items - items.mean()) - (a - b).mean()
    shared = np.abs(np.corrcoef(a, b)[0, 1])
    assert shared < 0.2  # shared draws would correlate almost wholly: the seeds outweigh the items
    assert np.percentile(np.abs(seeds), 50) == pytest.approx(0.816 * 3 / np.sqrt(3) * np.sqrt(2), rel=0.25)


def test_equal_input_gives_equal_intervals_and_another_seed_others():
    values = RNG(8).normal(0, 1, (2, 30))

    def draw(seed=0):
        return Resampling(range(30), 100, seed).rate(abs(values), np.ones(30))

    assert np.array_equal(draw(), draw()) and not np.array_equal(draw(), draw(1))
