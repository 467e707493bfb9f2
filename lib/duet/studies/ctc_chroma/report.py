"""The records of study 5 as the paper's tables, the controls' tables and the claims with their verdicts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ... import files, metrics, published, results, source_filter, tables
from ...errors import DuetError
from ...models import chroma
from ...runs import Grid
from ...training import Training
from ...verdicts import Claim, Estimate, Resampling
from .experiment import RATE, SOURCE_FILTER, Data
from .grid import FOLDS, LOSSES, PRESETS, STRETCHES

MEASURES = published.CTC_MEASURES
#: what a row's method is, in words: which network, which settings
METHODS = {
    "chroma": "chroma of the constant-Q transform",
    "untrained": "network with random weights",
    "salience": "C_Bit, deep salience",
    "source-filter": "C_BG1, source-filter salience on contours",
    "source-filter-raw": "source-filter salience, every bin",
    "cce": "C_CCE, frames aligned linearly",
    "ctc": "C_CTC",
    "strong": "frames aligned note by note",
    "exact": "C_CTC, of six separate librosa transforms",
    "cce full": "C_CCE, the paper's network",
    "ctc full": "C_CTC, the paper's network",
    "ctc long": "C_CTC, four times the updates",
    "ctc centred": "C_CTC, centred pooling",
}

QUARTERS = ("least", "less", "more", "most")  # of rubato
PARTS = ("melody", "inner", "bass")  # whose line an open theme is; other collections do not say

# -- results -----------------------------------------------------------------------------------------------------------


class Results(results.Results):
    """The records as the paper's methods: an arm is a method, made of one run or of one a fold, and a seed.

    Scores are means over queries; whole recordings are drawn with all their queries, since these share a sound.
    """

    def __init__(self, grid: Grid):
        super().__init__(grid)
        self.data: Data = grid.data()
        self.place = {theme: k for k, theme in enumerate(self.data.themes)}
        self.resampling = Resampling([self.data.relevant[t] for t in self.data.themes])
        self.rubato = rubato(self.data)
        known = ~np.isnan(self.rubato)
        edges = np.quantile(self.rubato[known], (0.25, 0.5, 0.75)) if known.any() else np.zeros(3)
        #: queries by quarters of rubato, and by whose line they are
        self.subsets = {q: known & (np.digitize(self.rubato, edges) == k) for k, q in enumerate(QUARTERS)}
        labels = np.array([self.data.corpus.theme(t).label for t in self.data.themes])
        self.subsets |= {part: labels == part for part in PARTS}
        #: queries that every method is judged by: those of the folds that this preset trains for
        self.tested = np.isin([self.data.fold_of[t] for t in self.data.themes], self.preset.folds)

    def planned(self, arm: str) -> list[str]:
        """The runs of a method such as ``ctc``, ``ctc full``, ``source-filter``, over folds and seeds."""
        pattern = re.compile(re.escape(arm.replace(" ", "-")) + r"(-f\d+)?(-s\d+)?")
        return [name for name in self.grid.runs if pattern.fullmatch(name)]

    def folds(self, arm: str) -> set[int]:
        """Folds whose queries an arm is tested on: those it was trained for, all where nothing was."""
        planned = {self.grid.runs[name].config.fold for name in self.planned("ctc" if arm == "oracle" else arm)}
        return set(self.preset.folds) if 0 in planned else planned

    def whole(self, arm: str) -> bool:
        """Whether an arm has every query; the others are compared on the first fold alone."""
        return self.folds(arm) == set(self.preset.folds)

    def _by_seed(self, arm: str, fold: int = 0) -> dict[int, list[str]]:
        """Seed -> its runs, of one fold or of all; only seeds whose runs have all been made."""
        planned: dict[int, list[str]] = {}
        for name in self.planned(arm):
            config = self.grid.runs[name].config
            if not fold or config.fold in (0, fold):
                planned.setdefault(config.seed, []).append(name)
        return {seed: names for seed, names in planned.items() if all(n in self.records for n in names)}

    def seeds(self, arm: str, fold: int = 0) -> int:
        """Complete trainings behind an arm; the oracle has those of its part that is trained."""
        return len(self._by_seed("ctc" if arm == "oracle" else arm, fold))

    def estimate(self, arm: str, measure: str, of: str = "25", fold: int = 0, subset: str = "") -> Estimate | None:
        """An arm's score with its interval; ``n`` counts the recordings that the queries belong to."""
        draws = self.draws(arm, measure, of, fold, subset)
        if draws is None:
            return None
        asked = [t for t, tested in zip(self.data.themes, self.tested, strict=True) if tested]
        asked = [t for t in asked if self.data.fold_of[t] in ({fold} if fold else self.folds(arm))]
        asked = [t for t in asked if not subset or self.subsets[subset][self.place[t]]]
        recordings = len({self.data.relevant[t] for t in asked})
        return replace(self.resampling.estimate(draws, self.seeds(arm, fold)), n=recordings)

    def ranks(self, arm: str, of: str = "25", fold: int = 0) -> np.ndarray | None:
        """(seeds, themes) ranks, NaN where a query was not tested; None where no seed is complete.

        ``of`` is a feature rate in Hz, ``fused``, ``transposed``, or a stretch such as ``x0.8``.
        """
        rows = [
            self._spread(names, lambda record: self._ranks(record, of), fold)
            for names in self._by_seed(arm, fold).values()
        ]
        rows = [row for row in rows if not np.isnan(row).all()]
        return np.stack(rows) if rows else None

    @staticmethod
    def _ranks(record: dict, of: str) -> Sequence[int] | None:
        if of in ("fused", "transposed"):
            return record.get(of, {}).get("ranks")
        return record.get("stretched", {}).get(of[1:]) if of.startswith("x") else record["test"][of]["ranks"]

    def _spread(self, names: Sequence[str], values_of, fold: int) -> np.ndarray:
        """(themes,) values of the runs' test queries, each in its theme's place."""
        row = np.full(len(self.data.themes), np.nan)
        for name in names:
            values, tested = values_of(self.records[name]["result"]), self.grid.runs[name].config.fold
            if values is not None:
                for theme, value in zip(
                    self.data.of_folds(tested) if tested else self.data.themes, values, strict=True
                ):
                    if value is not None and self.tested[self.place[theme]] and fold in (0, self.data.fold_of[theme]):
                        row[self.place[theme]] = value
        return row

    def _draws(self, arm: str, measure: str, of: str = "25", fold: int = 0, subset: str = "") -> np.ndarray | None:
        """A retrieval measure of an arm, its ``off-theme`` energy, or the ``label error`` of its decoding in percent.

        Of all queries, or of a ``fold`` or ``subset``.  ``oracle`` is an arm too: the better of the ranks by CTC and by
        the source-filter model.
        """
        if measure == "label error":
            return self._label_errors(arm, fold, subset)
        if measure == "off-theme":
            by_seed = self._by_seed(arm, fold).values()
            values = [self._spread(names, lambda record: record["off_theme"], fold) for names in by_seed]
            return self._mean(np.stack(values)) if values else None
        ranks = self._oracle(fold) if arm == "oracle" else self.ranks(arm, of, fold)
        if ranks is None:
            return None
        ranks = np.where(self.subsets[subset], ranks, np.nan) if subset else ranks
        return self._mean(score(ranks, measure))

    def _oracle(self, fold: int = 0) -> np.ndarray | None:
        ours, theirs = self.ranks("ctc", fold=fold), self.ranks("source-filter", fold=fold)
        return None if ours is None or theirs is None else np.fmin(ours, np.where(np.isnan(ours), np.nan, theirs))

    def _mean(self, values: np.ndarray, weights: np.ndarray | None = None, scale: float = 1.0) -> np.ndarray | None:
        """Draws of the mean over the queries that have a value, in every seed the same ones."""
        tested = ~np.isnan(values[0])
        if not tested.any():
            return None
        weights = tested.astype(float) if weights is None else np.where(tested, weights, 0)
        return self.resampling.rate(np.where(tested, values, 0), weights, scale)

    def _label_errors(self, arm: str, fold: int, subset: str) -> np.ndarray | None:
        by_seed = [n for n in self._by_seed(arm, fold).values() if "decoded" in self.records[n[0]]["result"]]
        if not by_seed:
            return None
        edits = [self._spread(names, lambda record: record["decoded"]["test"]["edits"], fold) for names in by_seed]
        lengths = self._spread(by_seed[0], lambda record: record["decoded"]["test"]["lengths"], fold)
        chosen = np.where(self.subsets[subset], edits, np.nan) if subset else np.stack(edits)
        return self._mean(chosen, lengths, 100.0)

    def settled(self, arm: str, *of) -> np.ndarray | None:
        if arm == "oracle":
            ours, theirs = super().settled("ctc", "MRR"), super().settled("source-filter", "MRR")
            return None if ours is None or theirs is None else self.draws(arm, *of)
        return super().settled(arm, *of)

    def learned(self) -> bool:
        """Whether CTC beats chroma without learning and random weights, interval against interval."""
        fold = self.preset.folds[0]
        ours = self.estimate("ctc", "MRR", "25", fold)
        floors = [self.estimate(arm, "MRR", "25", fold) for arm in ("chroma", "untrained")]
        return ours is not None and all(f is not None and ours.low > f.high for f in floors)

    def random(self) -> float:
        """Mean reciprocal rank of a random order of the documents: the harmonic number over their count."""
        count = len(self.data.documents)
        return float((1 / np.arange(1, count + 1)).sum() / count)


def score(ranks: np.ndarray, measure: str) -> np.ndarray:
    """Of (...) ranks: ``top K`` or ``MRR`` per query, NaN where there is no rank."""
    values = metrics.reciprocal(ranks) if measure == "MRR" else metrics.top(ranks, int(measure.removeprefix("top ")))
    return np.where(np.isnan(ranks), np.nan, values)


# -- the paper's tables ------------------------------------------------------------------------------------------------


def table_1(data: Data) -> pd.DataFrame:
    """Table 1: number, mean and total duration of themes and recordings."""
    ours = {
        "themes": [data.length(t) / RATE for t in data.themes],
        "recordings": [len(data.hcqt(d)) / RATE for d in data.documents],
    }
    rows = []
    for what, durations in ours.items():
        printed = dict(
            zip(("number", "mean duration (s)", "total duration (s)"), published.CTC_TABLE_1[what], strict=True)
        )
        found = (len(durations), np.mean(durations), np.sum(durations))
        for (quantity, paper), value in zip(printed.items(), found, strict=True):
            rows.append(
                {
                    "what": what,
                    "quantity": quantity,
                    "paper": paper,
                    "ours": round(float(value), 1),
                    "corpus": data.name,
                }
            )
    return pd.DataFrame(rows)


def table_2(preset: str) -> pd.DataFrame:
    """Table 2: the layers of the paper's network beside those of this preset's, parameters counted on both."""
    both = [
        pd.DataFrame(chroma.layer_table(stride)) for stride in (1, 3 if PRESETS[preset].network == "strided" else 1)
    ]
    for layers in both:
        total = {"layer": "all", "output": "", "kernel": "", "activation": "", "parameters": layers["parameters"].sum()}
        layers.loc[len(layers)] = total
    ours = both[1][["output", "kernel", "parameters"]].add_suffix(", ours")
    return pd.concat([both[0], ours], axis=1)


def _rows(found: Results, coordinates: dict, printed: Sequence[float] | None, arm: str, *of) -> list[dict]:
    """One row a measure of a method."""
    printed = printed or (None,) * len(MEASURES)
    return [
        tables.row({**coordinates, "measure": m}, value, found.estimate(arm, m, *of), found.corpus)
        for m, value in zip(MEASURES, printed, strict=True)
    ]


def table_3(found: Results) -> pd.DataFrame:
    """Table 3: the salience baselines at 10 Hz and at 25 Hz."""
    rows = []
    for (rate, method), printed in published.CTC_TABLE_3.items():
        rows += _rows(found, {"rate (Hz)": rate, "method": method}, printed, method, str(rate))
    return tables.tidy(rows)


def table_4(found: Results) -> pd.DataFrame:
    """Table 4: C_CTC by test fold, and over all queries."""
    rows = []
    for fold, printed in published.CTC_TABLE_4.items():
        rows += _rows(found, {"fold": fold or "all"}, printed, "ctc", "25", fold)
    return tables.tidy(rows)


def table_5(found: Results) -> pd.DataFrame:
    """Table 5: CTC beside frame-wise cross-entropy of a linear alignment."""
    return _methods(found, published.CTC_TABLE_5)


def table_6(found: Results) -> pd.DataFrame:
    """Table 6: source-filter, CTC, and for each query the better of both ranks."""
    return _methods(found, published.CTC_TABLE_6)


def _methods(found: Results, printed: dict) -> pd.DataFrame:
    return tables.tidy([r for method, p in printed.items() for r in _rows(found, {"method": method}, p, method)])


# -- what the paper lacks ----------------------------------------------------------------------------------------------


def table_controls(found: Results, fold: int = 0) -> pd.DataFrame:
    """Every method over all queries, or where ``fold`` over those of one, which every method has."""
    rows = []
    for method, what in METHODS.items():
        rows += _rows(found, {"method": method, "what": what}, None, method, "25", fold)
    return tables.tidy(rows)


def table_past(found: Results) -> pd.DataFrame:
    """Past the paper: fusion with the source-filter model, and search without a key."""
    arms = {
        ("ctc", "25"): "C_CTC, the key is given",
        ("ctc", "fused"): "C_CTC and C_BG1 mixed, proportion chosen on validation queries",
        ("oracle", "25"): "the better of both for each query",
        ("ctc", "transposed"): "C_CTC, no key is given: the best of twelve transpositions",
    }
    rows = [r for (arm, of), what in arms.items() for r in _rows(found, {"search": what}, None, arm, of)]
    return tables.tidy(rows)


def table_label_errors(found: Results) -> pd.DataFrame:
    """Edits per 100 notes of the label sequences that CTC decodes from unseen excerpts, by test fold, over all and
    by whose line the theme is.  Some networks are trained for the first fold alone.
    """
    arms = ("ctc", "ctc full", "ctc long")
    every = {arm: 0 if found.whole(arm) else found.preset.folds[0] for arm in arms}
    cells = [
        (arm, fold, "") for arm in arms for fold in ((0,) if found.whole(arm) else ()) + tuple(sorted(found.folds(arm)))
    ]
    cells += [(arm, every[arm], part) for arm in arms for part in PARTS if found.subsets[part].any()]
    return tables.tidy(
        [
            tables.row(
                {"method": arm, "fold": fold or "all", "part": part or "all"},
                None,
                found.estimate(arm, "label error", "25", fold, part),
                found.corpus,
            )
            for arm, fold, part in cells
        ]
    )


def table_damping(found: Results) -> pd.DataFrame:
    """Share of the chroma's energy that is not the theme's while the theme sounds, a mean over themes."""
    return tables.tidy(
        [
            tables.row(
                {"method": m, "what": what, "fold": "all" if found.whole(m) else found.preset.folds[0]},
                None,
                found.estimate(m, "off-theme"),
                found.corpus,
            )
            for m, what in METHODS.items()
        ]
    )


def tempo_curve(found: Results) -> pd.DataFrame:
    """Mean reciprocal rank of CTC by how far the query's duration is from the annotated one."""
    return tables.tidy(
        [tables.row({"stretch": s}, None, found.estimate("ctc", "MRR", f"x{s:g}"), found.corpus) for s in STRETCHES]
    )


def rubato_curve(found: Results) -> pd.DataFrame:
    """MRR of CTC, CCE and the strong alignment by quarters of :func:`rubato`."""
    rows = []
    for quarter in QUARTERS:
        values = found.rubato[found.subsets[quarter]]
        ends = [round(float(end(values)), 3) for end in (np.min, np.max)] if len(values) else [None, None]
        bounds = dict(zip(("from (s)", "to (s)"), ends, strict=True))
        for arm in ("ctc", "cce", "strong"):
            estimate = found.estimate(arm, "MRR", "25", 0, quarter)
            rows.append(tables.row({"rubato": quarter, **bounds, "method": arm}, None, estimate, found.corpus))
    return tables.tidy(rows)


def rubato(data: Data) -> np.ndarray:
    """(themes,) how far, at the most, each theme's performance is from a straight line through its ends, in seconds.

    NaN for a theme without an alignment.
    """
    values = []
    for theme in data.themes:
        try:
            points = data.corpus.alignment(theme)
        except DuetError:
            values.append(np.nan)
            continue
        line = np.interp(points[:, 0], points[[0, -1], 0], points[[0, -1], 1])
        values.append(np.abs(points[:, 1] - line).max())
    return np.array(values)


# -- claims ------------------------------------------------------------------------------------------------------------

HEAD_ROOM = 0.01  # of mean reciprocal rank: an oracle of two methods is never below either, so 0 would be no test
NEAR = 0.02  # of mean reciprocal rank: what "comes close" may miss


def _above(arm: str, other: str, *of) -> dict:
    """A claim's quantity and side: the difference of two methods' MRR above 0."""
    return {"quantity": lambda r: r.difference(arm, other, "MRR", *of), "below": False}


def _rates(found: Results, arm: str) -> Estimate | None:
    """MRR at 25 Hz minus that at 10 Hz."""
    fast, slow = found.settled(arm, "MRR", "25"), found.settled(arm, "MRR", "10")
    return None if fast is None or slow is None else found.resampling.estimate(fast - slow, found.seeds(arm))


def _fusion(found: Results) -> Estimate | None:
    mixed, alone = found.settled("ctc", "MRR", "fused"), found.settled("ctc", "MRR")
    return None if mixed is None or alone is None else found.resampling.estimate(mixed - alone, found.seeds("ctc"))


def _spreads(found: Results) -> Estimate | None:
    """Range of MRR over the three methods minus its range over the five folds of CTC."""
    methods = [found.settled(arm, "MRR") for arm in ("ctc", "source-filter", "salience")]
    folds = [found.settled("ctc", "MRR", "25", fold) for fold in found.preset.folds]
    if len(folds) < FOLDS or any(draws is None for draws in methods + folds):
        return None
    return found.resampling.estimate(np.ptp(methods, axis=0) - np.ptp(folds, axis=0), found.seeds("ctc"))


def _with_rubato(found: Results) -> Estimate | None:
    """What CTC gains over CCE in the quarter of most rubato minus what it gains in that of least."""
    draws = [found.settled(arm, "MRR", "25", 0, QUARTERS[k]) for k in (-1, 0) for arm in ("ctc", "cce")]
    if any(d is None for d in draws):
        return None
    return found.resampling.estimate(draws[0] - draws[1] - draws[2] + draws[3], found.seeds("ctc"))


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "CTC chroma retrieves better than the source-filter salience",
        "Section 4.4, Tables 3b and 4",
        "0.893 and 0.854",
        "MRR(ctc) - MRR(source-filter), 25 Hz, above 0",
        **_above("ctc", "source-filter"),
    ),
    Claim(
        "CTC chroma retrieves better than deep salience",
        "Section 4.4, Tables 3b and 4",
        "0.893 and 0.802",
        "MRR(ctc) - MRR(salience), 25 Hz, above 0",
        **_above("ctc", "salience"),
    ),
    Claim(
        "the source-filter salience retrieves better than deep salience",
        "Section 4.3, Table 3b",
        "0.854 and 0.802",
        "MRR(source-filter) - MRR(salience), 25 Hz, above 0",
        **_above("source-filter", "salience"),
    ),
    Claim(
        "25 Hz is better than 10 Hz for the source-filter salience",
        "Section 4.3, Table 3",
        "0.854 and 0.792",
        "MRR at 25 Hz - MRR at 10 Hz above 0",
        lambda r: _rates(r, "source-filter"),
        below=False,
    ),
    Claim(
        "25 Hz is better than 10 Hz for deep salience",
        "Section 4.3, Table 3",
        "0.802 and 0.739",
        "MRR at 25 Hz - MRR at 10 Hz above 0",
        lambda r: _rates(r, "salience"),
        below=False,
    ),
    Claim(
        "CTC is better than cross-entropy on a linear alignment",
        "Section 4.5, Table 5",
        "0.893 and 0.849",
        "MRR(ctc) - MRR(cce), 25 Hz, above 0",
        **_above("ctc", "cce"),
    ),
    Claim(
        "CTC chroma damps the accompaniment",
        "Section 5, Figure 4",
        "shown on one passage",
        "off-theme energy of ctc - that of plain chroma below 0",
        lambda r: r.difference("ctc", "chroma", "off-theme"),
    ),
    Claim(
        "and damps it more than the source-filter salience",
        "Section 5, Figure 4",
        "shown on one passage",
        "off-theme energy of ctc - that of source-filter below 0",
        lambda r: r.difference("ctc", "source-filter", "off-theme"),
    ),
    Claim(
        "test folds differ less than methods",
        "Section 4.4, Table 4",
        "range 0.067 over folds, 0.091 over methods",
        "MRR range of ctc, source-filter, salience - MRR range of ctc's folds above 0 (few queries widen a range)",
        _spreads,
        below=False,
    ),
    Claim(
        "an oracle of source-filter and CTC leaves head-room",
        "Section 4.6, Table 6",
        "0.924 and 0.893",
        f"MRR(oracle) - MRR(ctc) above {HEAD_ROOM}",
        lambda r: r.difference("oracle", "ctc", "MRR"),
        bound=HEAD_ROOM,
        below=False,
    ),
    Claim(
        "mixing both distances takes some of that head-room",
        "Section 5, named as future work",
        "",
        "MRR(ctc mixed with source-filter) - MRR(ctc) above 0",
        _fusion,
        below=False,
    ),
    Claim(
        "CTC chroma retrieves better than chroma without learning",
        "control",
        "",
        "MRR(ctc) - MRR(chroma), 25 Hz, above 0",
        **_above("ctc", "chroma"),
    ),
    Claim(
        "what CTC gains over the linear alignment grows with rubato",
        "control, from Section 4.5's explanation",
        "",
        "MRR(ctc) - MRR(cce) in the quarter of most rubato, minus that in the quarter of least, above 0",
        _with_rubato,
        below=False,
    ),
    Claim(
        "the weak alignment comes close to a strong one",
        "control",
        "",
        f"MRR(ctc) - MRR(strong), 25 Hz, above -{NEAR}",
        lambda r: r.difference("ctc", "strong", "MRR"),
        bound=-NEAR,
        below=False,
    ),
    Claim(
        "CTC is better than cross-entropy with the paper's network too",
        "control, first fold",
        "",
        "MRR(ctc full) - MRR(cce full), 25 Hz, above 0",
        lambda r: r.difference("ctc full", "cce full", "MRR", "25", r.preset.folds[0]),
        below=False,
    ),
)


# -- what the notebook shows -------------------------------------------------------------------------------------------


def settings_table(data: Data, preset: str) -> pd.DataFrame:
    """The resolved configuration beside the paper's."""
    p, paper = PRESETS[preset], PRESETS["paper"]

    def schedule(t: Training) -> str:
        phases = f", {t.halvings + 1} phases" if t.halvings else ""
        return f"{t.schedule}, {t.learning_rate:g}{phases}" + (f", clip {t.clip:g}" if t.clip else "")

    rows = [
        ("collection", "2048 themes, 1114 recordings, not public", data.name),
        ("documents", "whole recordings", data.kind),
        ("themes / documents", "2,048 / 1,114", f"{len(data.themes):,} / {len(data.documents):,}"),
        (
            "themes of the folds",
            "559, 373, 372, 372, 372",
            ", ".join(str(len(data.of_folds(k + 1))) for k in range(FOLDS)),
        ),
        ("folds trained for", "5", str(len(p.folds))),
        ("network", "full, 72,970 parameters", p.network),
        ("batch", "8", str(p.training.batch)),
        ("updates", "until ten phases end, about 13,000 to 26,000", f"{p.training.updates:,}"),
        ("learning rate", schedule(paper.training), schedule(p.training)),
        ("arithmetic", "fp32", p.training.precision),
        ("transpositions in training", "-3 to 3 semitones", "-3 to 3 semitones, one a theme and epoch"),
        ("seeds of a method", "1, not set", str(len(p.seeds))),
        ("source-filter model", _described(SOURCE_FILTER["paper"]), _described(SOURCE_FILTER[p.source_filter])),
    ]
    return pd.DataFrame(rows, columns=["setting", "paper", "ours"])


def _described(settings: source_filter.Settings) -> str:
    rate, hop = settings.sample_rate / 1000, 1000 * settings.hop / settings.sample_rate
    return f"{rate:g} kHz, {settings.step} cents, {hop:g} ms, {settings.iterations} iterations"


def fold_table(data: Data) -> pd.DataFrame:
    """The map from composers to folds, with their themes: the paper's own was not published."""
    composers: dict[str, list[int]] = {}
    for theme in data.themes:
        entry = composers.setdefault(data.corpus.theme(theme).composer, [data.fold_of[theme], 0])
        entry[1] += 1
    rows = [{"composer": c, "fold": fold, "themes": count} for c, (fold, count) in sorted(composers.items())]
    return pd.DataFrame(rows).sort_values(["fold", "themes", "composer"], ascending=[True, False, True])


def curves(found: Results) -> pd.DataFrame:
    """Validation loss by excerpts seen, first seed, first fold and full network included."""
    panels = {
        name: f"{config.method}, validation loss"
        for name in found.grid.runs
        if (config := found.grid.runs[name].config).method in LOSSES and config.seed == found.preset.seeds[0]
    }
    return found.curves(panels)


def write_metrics(found: Results, judged: pd.DataFrame, path: Path) -> dict:
    """The main figures, for other programs to read, as ``metrics.json``."""

    def numbers(measure: str, arms: Sequence[str], *of) -> dict:
        estimates = {arm: found.estimate(arm, measure, *of) for arm in arms}
        return {arm: None if e is None else round(e.value, 4) for arm, e in estimates.items()}

    first, whole = found.preset.folds[0], [arm for arm in METHODS if found.whole(arm)]
    metrics_ = {
        "corpus": found.corpus,
        "preset": found.grid.preset,
        "mrr": numbers("MRR", [*whole, "oracle"]),
        "mrr of the first fold": numbers("MRR", METHODS, "25", first),
        "mrr fused": numbers("MRR", ["ctc"], "fused")["ctc"],
        "mrr without key": numbers("MRR", ["ctc"], "transposed")["ctc"],
        "label error": numbers("label error", ["ctc"])["ctc"],
        "label error of the first fold": numbers("label error", ["ctc", "ctc full", "ctc long"], "25", first),
        "label error by part": {p: numbers("label error", ["ctc"], "25", 0, p)["ctc"] for p in PARTS},
        "off-theme": numbers("off-theme", whole),
        "off-theme of the first fold": numbers("off-theme", METHODS, "25", first),
        "random": round(found.random(), 4),
        "verdicts": dict(judged["verdict"].value_counts().sort_index().items()),
        "runs": found.made(),
    }
    files.write_json(path, metrics_)
    return metrics_
