"""Estimates with intervals, and the rule by which a claim is called reproduced, contradicted or undecided."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

RESAMPLES = 10_000  # another seed of them moves an interval of two trainings by some 2 % of its width, 2,000 by 4 %
NOT_RUN = "not run"
COLUMNS = ("study", "claim", "source", "paper", "ours", "low", "high", "verdict", "rule", "why")


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; ``n`` items or groups of items, ``seeds`` trainings behind it."""

    value: float
    low: float
    high: float
    n: int
    seeds: int = 1


class Resampling:
    """One set of bootstrap draws over groups of test items, shared by every statistic that is compared.

    ``groups`` (items,) says which source each item belongs to: incipits of one record, excerpts of one piece.
    Whole groups are drawn.  The mean of an arm trained with several seeds also carries Student's t of their spread, so
    that an interval covers both another sample of music and another training.
    """

    def __init__(self, groups: Sequence, resamples: int = RESAMPLES, seed: int = 0):
        names, self.group_of = np.unique(np.asarray(groups), return_inverse=True)
        rng = np.random.default_rng(seed)
        self.n = len(names)
        self.counts = rng.multinomial(self.n, np.full(self.n, 1 / self.n), size=resamples)  # (draws, groups)
        self.seed = seed

    def _by_group(self, values: np.ndarray) -> np.ndarray:
        """(..., items) -> (..., groups) sums."""
        flat = np.atleast_2d(values)
        return np.stack([np.bincount(self.group_of, row, self.n) for row in flat])

    def rate(
        self, numerators: Sequence[Sequence[float]], denominators: Sequence[float], scale: float = 100.0
    ) -> np.ndarray:
        """(1 + draws,) of ``scale * sum(numerator) / sum(denominator)``: first the estimate, then the draws.

        ``numerators`` is (seeds, items), ``denominators`` (items,).
        """
        top, bottom = self._by_group(np.asarray(numerators, float)), self._by_group(np.asarray(denominators, float))[0]
        rates = scale * top.sum(1) / bottom.sum()  # one a seed
        with np.errstate(invalid="ignore"):  # a draw that misses the few items that count is no number
            draws = scale * (self.counts @ top.mean(0)) / (self.counts @ bottom)
        return self._of_trainings(rates, draws, top)

    def median(self, values: Sequence[Sequence[float]], counted: np.ndarray | None = None) -> np.ndarray:
        """(1 + draws,) of the median over items, of an even number the mean of the two in the middle.

        ``values`` is (seeds, items): a mean of the seeds' medians.  ``counted`` (items,) bool leaves items out; a draw
        that has none of those that are left is NaN.
        """
        values = np.atleast_2d(np.asarray(values, float))
        counted = np.ones(values.shape[1], bool) if counted is None else counted
        medians = np.stack([self._medians(row[counted], self.group_of[counted]) for row in values])
        return self._of_trainings(medians[:, 0], medians[:, 1:].mean(0), values)

    def _medians(self, values: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """(1 + draws,): exact, by bisection over the values, of which each group has so many at or below."""
        levels, place = np.unique(values, return_inverse=True)
        at_most = np.bincount(place * self.n + groups, minlength=len(levels) * self.n).reshape(-1, self.n).cumsum(0)
        drawn = np.vstack([np.ones((1, self.n), int), self.counts])
        half = drawn @ at_most[-1] / 2

        def first(reached: Callable) -> np.ndarray:
            low, high = np.zeros(len(drawn), int), np.full(len(drawn), len(levels) - 1)
            while (low < high).any():
                middle = (low + high) // 2
                enough = reached((drawn * at_most[middle]).sum(1), half)
                low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
            return levels[low.clip(max=len(levels) - 1)]

        return np.where(half > 0, (first(np.greater_equal) + first(np.greater)) / 2, np.nan)

    def _of_trainings(self, scores: np.ndarray, draws: np.ndarray, behind: np.ndarray) -> np.ndarray:
        """(1 + draws,): the mean of the (seeds,) scores, then the draws with what another training may change."""
        if len(scores) > 1:
            # Another training: a bootstrap of three seeds has two thirds of their variance and no tails, Student's t
            # has both.  Its quantiles in random order, one a draw: random numbers of so heavy tails make intervals that
            # differ by a tenth from one set of draws to the next.  Arms are trained independently, so their orders
            # are too: their own scores seed them.
            rng = np.random.default_rng([self.seed, zlib.crc32(np.ascontiguousarray(behind).tobytes())])
            error = scores.std(ddof=1) / np.sqrt(len(scores))
            quantiles = stats.t.ppf((np.arange(len(draws)) + 0.5) / len(draws), len(scores) - 1)
            draws = draws + error * rng.permutation(quantiles)
        return np.concatenate([[scores.mean()], draws])

    def estimate(self, draws: np.ndarray, seeds: int = 1) -> Estimate:
        """The first entry, with the 2.5 and 97.5 percentiles of the others."""
        low, high = np.nanpercentile(draws[1:], [2.5, 97.5])
        return Estimate(float(draws[0]), float(low), float(high), self.n, seeds)


@dataclass(frozen=True)
class Claim:
    """A claim of a paper as a number that the claim says lies below (or above) a bound.

    ``quantity`` gives the estimate from a study's results, or None where a run it needs has not been made.
    """

    text: str
    source: str
    paper: str
    rule: str
    quantity: Callable[[object], Estimate | None]
    bound: float = 0.0
    below: bool = True


def verdict(estimate: Estimate | None, bound: float = 0.0, below: bool = True) -> str:
    """``reproduced``: the interval lies on the claimed side; ``contradicted``: on the other; else ``undecided``."""
    if estimate is None:
        return NOT_RUN
    claimed, other = (
        (estimate.high < bound, estimate.low > bound) if below else (estimate.low > bound, estimate.high < bound)
    )
    return "reproduced" if claimed else "contradicted" if other else "undecided"


def why(estimate: Estimate | None, bound: float = 0.0, below: bool = True, learned: bool = True) -> str:
    """A sentence that says what the verdict rests on: where the interval lies, and how many items and seeds it has."""
    if estimate is None:
        return "A run that it needs has not been made."
    e, (claimed, other) = estimate, ("below", "above") if below else ("above", "below")
    behind = f"(n = {e.n}, seeds = {e.seeds})"
    if not np.isfinite([e.low, e.high]).all():
        return f"It has no finite interval {behind}."
    if not learned:
        return f"The models have not beaten what needs no learning, so that nothing is decided {behind}."
    judged = verdict(e, bound, below)
    if judged == "reproduced":
        return f"The whole interval lies {claimed} {bound:g}, as claimed {behind}."
    if judged == "contradicted":
        return f"The whole interval lies {other} {bound:g}, and the claim says {claimed} {behind}."
    side = "the claimed side" if (e.value < bound if below else e.value > bound) else "the other side"
    return f"The interval holds {bound:g}; the estimate is on {side} {behind}."


def table(study: str, claims: Sequence[Claim], results: object, learned: bool = True) -> pd.DataFrame:
    """One row a claim, the columns of ``verdicts.csv``.

    Where the models have not ``learned``, that is not beaten what needs no learning, nothing can be decided.
    """
    rows = []
    for claim in claims:
        e = claim.quantity(results)
        numbers = [None] * 3 if e is None else [round(x, 3) for x in (e.value, e.low, e.high)]
        judged = verdict(e, claim.bound, claim.below) if learned or e is None else "undecided"
        because = why(e, claim.bound, claim.below, learned)
        rows.append([study, claim.text, claim.source, claim.paper, *numbers, judged, claim.rule, because])
    return pd.DataFrame(rows, columns=COLUMNS)


def readable(judged: pd.DataFrame) -> pd.DataFrame:
    """Verdicts as text: the interval beside the estimate, "not run" where there is none."""
    ours = [
        NOT_RUN if pd.isna(row.ours) else f"{row.ours:g} [{row.low:g}, {row.high:g}]" for row in judged.itertuples()
    ]
    shown = judged.assign(**{"ours [95 %]": ours}).astype(object)
    shown["paper"] = shown["paper"].fillna("").replace("", "–")
    return shown[["claim", "source", "paper", "ours [95 %]", "verdict", "rule", "why"]].fillna("")


def in_half_widths(judged: pd.DataFrame, claims: Sequence[Claim]) -> pd.DataFrame:
    """The numbers of verdicts on one scale, whatever their units, for one figure of all claims.

    0 is the bound of a claim's rule, the claimed side is positive, and 1 is half the width of the interval.  Claims
    that are not among ``claims``, and intervals without a finite width, have no number.
    """
    known = {claim.text: claim for claim in claims}
    bound = judged["claim"].map({text: claim.bound for text, claim in known.items()}).astype(float)
    sign = judged["claim"].map({text: -1.0 if claim.below else 1.0 for text, claim in known.items()}).astype(float)
    ours, low, high = (judged[name].astype(float) - bound for name in ("ours", "low", "high"))
    unit = ((high - low) / 2).where((high > low) & np.isfinite(high - low))
    first, last = sign * low / unit, sign * high / unit
    return judged.assign(ours=sign * ours / unit, low=first.where(sign > 0, last), high=last.where(sign > 0, first))
