"""The records of study 4 as the paper's tables, the controls' tables and the claims with their verdicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats

from ... import files, metrics, published, results, tables, transcription
from ...runs import Grid
from ...training import Training
from ...verdicts import Claim, Estimate, Resampling
from .experiment import METRICS, Data
from .grid import PRESETS, TARGETS

MEASURES = ("P", "R", "F1")
#: what an arm is, in words
ARMS = {
    "threshold": "thresholded constant-Q transform",
    "untrained": "random weights",
    "maps": "MAPS",
    "guitar": "GuitarSet",
    "si": "Synthesized Instruments (SI)",
    "si-to-maps": "SI -> MAPS",
    "si-to-guitar": "SI -> GuitarSet",
    "guitar-to-maps": "GuitarSet -> MAPS",
    "maps-to-guitar": "MAPS -> GuitarSet",
    "maps-twice": "MAPS, as many updates as SI -> MAPS",
    "guitar-twice": "GuitarSet, as many updates as SI -> GuitarSet",
    "si-paper": "SI as published: two programs, velocity 127",
    "published-si": "SI, the published network and input",
    "published-si-to-maps": "SI -> MAPS, the published network and input",
    "si-adapted": "SI, batch-norm statistics of MAPS",
    "si-to-maps-replay": "SI -> MAPS with a quarter of SI",
    "si-to-guitar-replay": "SI -> GuitarSet with a quarter of SI",
    "maps-5min": "MAPS, 5 minutes",
    "si-to-maps-5min": "SI -> MAPS, 5 minutes",
    "guitar-5min": "GuitarSet, 5 minutes",
    "si-to-guitar-5min": "SI -> GuitarSet, 5 minutes",
    "maps-25min": "MAPS, 25 minutes",
    "si-to-maps-25min": "SI -> MAPS, 25 minutes",
    "guitar-25min": "GuitarSet, 25 minutes",
    "si-to-guitar-25min": "SI -> GuitarSet, 25 minutes",
}
MODELS = tuple(published.TRANSCRIPTION_TABLES["note"])  # the paper's seven
TESTS = {"maps": "MAPS", "guitar": "GuitarSet"}
EVALUATORS = {
    "parity": "as published: reference from the label roll, threshold 0.5, notes where frames rise",
    "standard": "reference from the annotation, thresholds chosen on validation, the model's own notes",
    "corrected": "the same, the annotation moved by its measured lag",
}

# -- results -----------------------------------------------------------------------------------------------------------


class Results(results.Results):
    """The records as the paper's models: an arm is a model, made of one run a seed.

    Scores are means over the recordings of one test set, and recordings are what is drawn.
    """

    def __init__(self, grid: Grid):
        super().__init__(grid)
        self.data: Data = grid.data()
        self.items = [(key, stem) for key in TARGETS for stem in self.data.domains[key].split.test]
        self.resampling = Resampling([f"{key}/{stem}" for key, stem in self.items])

    def _draws(self, arm: str, test: str, metric: str = "note", measure: str = "F1", evaluator: str = "corrected"):
        """Of the recordings of ``test``: precision, recall or F1, or ``ap``, the average precision of frames."""
        scores = [
            self._scores(self.records[name]["result"]["test"][test], metric, measure, evaluator)
            for name in self.names(arm)
        ]
        if not scores:
            return None
        inside = np.array([key == test for key, _ in self.items])
        spread = np.zeros((len(scores), len(self.items)))
        spread[:, inside] = scores
        return self.resampling.rate(spread, inside.astype(float), 1.0)

    @staticmethod
    def _scores(record: dict, metric: str, measure: str, evaluator: str) -> list[float]:
        if metric == "ap":
            return record["ap"]
        counts = record[evaluator][metric]
        place = MEASURES.index(measure)
        rows = zip(counts["matched"], counts["reference"], counts["estimate"], strict=True)
        return [metrics.precision_recall_f1(*row)[place] for row in rows]

    def estimate(self, arm: str, test: str, *of) -> Estimate | None:
        found = super().estimate(arm, test, *of)
        return None if found is None else replace(found, n=self._recordings(test))

    def mean_difference(self, pairs, test: str, *of) -> Estimate | None:
        found = super().mean_difference(pairs, test, *of)
        return None if found is None else replace(found, n=self._recordings(test))

    def _recordings(self, test: str) -> int:
        return sum(key == test for key, _ in self.items)

    def share(self, arm: str, other: str, part: float, test: str) -> Estimate | None:
        """Score of ``arm`` minus a part of that of ``other``."""
        one, two = self.settled(arm, test), self.settled(other, test)
        if one is None or two is None:
            return None
        return replace(self.resampling.estimate(one - part * two, self.seeds(arm)), n=self._recordings(test))

    def learned(self) -> bool:
        """Whether pre-training on synthetic sound beats, on both test sets, what needs no learning: by an interval."""
        gains = [self.difference("si", arm, test) for test in TARGETS for arm in ("threshold", "untrained")]
        return all(gain is not None and gain.low > 0 for gain in gains)

    def reach(self, arm: str, other: str, part: float = 0.9) -> Estimate | None:
        """Natural logarithm of ``arm``'s updates over ``other``'s, until each validates as ``other`` does in the end.

        The level is ``part`` of the best validation F1 of ``other`` with the same seed, the time is read between
        epochs on a straight line.  Seeds are the unit: the interval is Student's t of them.
        """
        if any(self.names(a) != self.planned(a) or not self.names(a) for a in (arm, other)):
            return None
        ratios = []
        for one, two in zip(self.names(arm), self.names(other), strict=True):
            curves = [self._curve(name) for name in (one, two)]
            level = part * curves[1][1].max()
            times = [_first(*curve, level) for curve in curves]
            ratios.append(np.log(times[0] / times[1]))
        error = scipy.stats.sem(ratios) * scipy.stats.t.ppf(0.975, len(ratios) - 1) if len(ratios) > 1 else np.inf
        mean = float(np.mean(ratios))
        return Estimate(mean, mean - error, mean + error, len(ratios), len(ratios))

    def _curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Updates and validation F1, from before the first update on."""
        record = self.records[name]
        t = record["config"]["training"]
        values = 1 - np.array([record["result"]["start"], *record["result"]["validation"]])
        return np.arange(len(values)) * (t["updates"] // t["epochs"]), values


def _first(updates: np.ndarray, values: np.ndarray, level: float) -> float:
    """When the curve first is at the level, at least half an update; its end where it never is."""
    above = np.flatnonzero(values >= level)
    if not len(above):
        return float(updates[-1])
    k = above[0]
    if k == 0:
        return 0.5
    rise = (level - values[k - 1]) / (values[k] - values[k - 1])
    return max(float(updates[k - 1] + rise * (updates[k] - updates[k - 1])), 0.5)


# -- the paper's tables ------------------------------------------------------------------------------------------------


def table(found: Results, metric: str) -> pd.DataFrame:
    """Tables 1 (``frame``), 2 (``note``) and 3 (``offset``) by the published evaluator."""
    rows = []
    for arm, tests in published.TRANSCRIPTION_TABLES[metric].items():
        for test, printed in tests.items():
            corpus = found.data.domains[test].corpus.name
            for measure, paper in zip(MEASURES, printed, strict=True):
                coordinates = {"trained on": ARMS[arm], "tested on": TESTS[test], "measure": measure}
                rows.append(
                    tables.row(coordinates, paper, found.estimate(arm, test, metric, measure, "parity"), corpus)
                )
    return tables.tidy(rows)


def table_standard(found: Results) -> pd.DataFrame:
    """Every model by the field's evaluator: F1 of notes, with offsets, of frames; average precision of frames."""
    rows = []
    for arm, what in ARMS.items():
        if not found.planned(arm):
            continue
        for test in TARGETS:
            corpus = found.data.domains[test].corpus.name
            for evaluator in ("standard", "corrected"):
                for metric in METRICS:
                    coordinates = {
                        "trained on": what,
                        "tested on": TESTS[test],
                        "evaluator": evaluator,
                        "metric": metric,
                    }
                    rows.append(
                        tables.row(coordinates, None, found.estimate(arm, test, metric, "F1", evaluator), corpus)
                    )
            coordinates = {
                "trained on": what,
                "tested on": TESTS[test],
                "evaluator": "no threshold",
                "metric": "frame AP",
            }
            rows.append(tables.row(coordinates, None, found.estimate(arm, test, "ap"), corpus))
    return tables.tidy(rows)


def ceilings(data: Data) -> pd.DataFrame:
    """F1 of perfect answers in each format: what the labels' frames and the decoding leave of the annotation."""
    rows = []
    for test in TARGETS:
        domain, scores = data.domains[test], []
        for stem in domain.split.test:
            notes, frames = domain.notes(stem), len(domain.values(stem))
            labels = transcription.roll(notes, frames)
            targets = transcription.targets(notes, frames)
            answers = {
                "frames alone, reference from the roll": (
                    transcription.frames_to_notes(labels > 1, labels == 3),
                    transcription.frames_to_notes(labels > 1),
                ),
                "frames alone": (notes, transcription.frames_to_notes(labels > 1)),
                "frames and onsets": (
                    notes,
                    transcription.onsets_to_notes(*targets, transcription.Thresholds()),
                ),
            }
            for answer, (reference, estimate) in answers.items():
                for metric in ("note", "offset"):
                    matched = metrics.matched_notes(reference, estimate, offsets=metric == "offset")
                    f1 = metrics.precision_recall_f1(matched, len(reference), len(estimate))[2]
                    scores.append({"answer": answer, "metric": metric, "F1": f1})
        means = pd.DataFrame(scores).groupby(["answer", "metric"], sort=False)["F1"].mean().round(4).reset_index()
        rows.append(means.assign(**{"tested on": TESTS[test], "corpus": domain.corpus.name}))
    return pd.concat(rows)


def lag_table(data: Data) -> pd.DataFrame:
    """Milliseconds by which the sound of each test recording is later than its labels."""
    rows = [
        {"tested on": TESTS[test], "recording": stem, "lag (ms)": round(1000 * lag, 1)}
        for test in TARGETS
        for stem, lag in data.domains[test].lags.items()
    ]
    return pd.DataFrame(rows)


def figure_3(found: Results) -> pd.DataFrame:
    """Figure 3: validation F1 of notes over training, of the first seed, for each target and start."""
    panels = {"maps": ("maps", "si-to-maps", "guitar-to-maps"), "guitar": ("guitar", "si-to-guitar", "maps-to-guitar")}
    rows = []
    for test, arms in panels.items():
        for arm in arms:
            for name in found.names(arm)[:1]:
                batch = found.records[name]["config"]["training"]["batch"]
                rows += [
                    {
                        "run": ARMS[arm],
                        "panel": f"validation on {TESTS[test]}",
                        "samples": int(u) * batch,
                        "validation": v,
                    }
                    for u, v in zip(*found._curve(name), strict=True)
                ]
    return pd.DataFrame(rows, columns=["run", "panel", "samples", "validation"])


# -- claims ------------------------------------------------------------------------------------------------------------

#: of note F1: what no transfer may gain, and what "at least as well" may miss
NEAR = 0.01


def _above(arm: str, other: str, test: str, *of, bound: float = 0.0) -> dict:
    """A claim's quantity and side: the difference of two arms' F1 above a bound."""
    return {"quantity": lambda r: r.difference(arm, other, test, *of), "bound": bound, "below": False}


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "trained on synthetic sound alone, a model transcribes real piano",
        "Section 4.4, Table 2 (RQ1)",
        "0.423",
        "note F1 on MAPS of SI - that of a thresholded transform above 0.1",
        **_above("si", "threshold", "maps", bound=0.1),
    ),
    Claim(
        "and guitar",
        "Section 4.4, Table 2 (RQ1)",
        "0.537",
        "note F1 on GuitarSet of SI - that of a thresholded transform above 0.1",
        **_above("si", "threshold", "guitar", bound=0.1),
    ),
    Claim(
        "it reaches half of what training on MAPS reaches there",
        "Table 2",
        "0.423 and 0.642",
        "note F1 on MAPS of SI - half that of MAPS above 0",
        lambda r: r.share("si", "maps", 0.5, "maps"),
        below=False,
    ),
    Claim(
        "pre-training on SI improves notes on MAPS",
        "Section 4.2, Table 2 (RQ2)",
        "0.669 and 0.642",
        "note F1 on MAPS of SI -> MAPS - that of MAPS above 0",
        **_above("si-to-maps", "maps", "maps"),
    ),
    Claim(
        "and frames",
        "Section 4.2, Table 1 (RQ2)",
        "0.722 and 0.718",
        "frame F1 on MAPS of SI -> MAPS - that of MAPS above 0",
        **_above("si-to-maps", "maps", "maps", "frame"),
    ),
    Claim(
        "and more than pre-training on guitar does",
        "Section 4.2, Table 2 (RQ2)",
        "0.669 and 0.648",
        "note F1 on MAPS of SI -> MAPS - that of GuitarSet -> MAPS above 0",
        **_above("si-to-maps", "guitar-to-maps", "maps"),
    ),
    Claim(
        "after SI, training on MAPS converges faster than from random weights",
        "Section 4.3, Figure 3",
        "about 600 epochs from scratch",
        "log ratio of updates until 90 % of the scratch run's best validation below 0",
        lambda r: r.reach("si-to-maps", "maps"),
    ),
    Claim(
        "and faster than after guitar",
        "Section 4.3, Figure 3",
        "",
        "log ratio of updates until 90 % of the best validation of GuitarSet -> MAPS below 0",
        lambda r: r.reach("si-to-maps", "guitar-to-maps"),
    ),
    Claim(
        "SI does not improve notes on guitar",
        "Section 4.2, Table 2",
        "0.740 and 0.754",
        f"note F1 on GuitarSet of SI -> GuitarSet - that of GuitarSet below {NEAR}",
        lambda r: r.difference("si-to-guitar", "guitar", "guitar"),
        bound=NEAR,
    ),
    Claim(
        "nor does MAPS",
        "Section 4.2, Table 2",
        "0.740 and 0.754",
        f"note F1 on GuitarSet of MAPS -> GuitarSet - that of GuitarSet below {NEAR}",
        lambda r: r.difference("maps-to-guitar", "guitar", "guitar"),
        bound=NEAR,
    ),
    Claim(
        "real piano is as good a start for guitar as synthetic sound",
        "Section 4.4, Tables 2 and 3 (RQ3)",
        "0.740 and 0.740",
        f"note F1 on GuitarSet of MAPS -> GuitarSet - that of SI -> GuitarSet above -{NEAR}",
        **_above("maps-to-guitar", "si-to-guitar", "guitar", bound=-NEAR),
    ),
    Claim(
        "without fine-tuning, MAPS transcribes guitar better than SI does",
        "Table 2, not discussed there",
        "0.646 and 0.537",
        "note F1 on GuitarSet of MAPS - that of SI above 0",
        **_above("maps", "si", "guitar"),
    ),
    Claim(
        "fine-tuning on guitar erases piano",
        "Table 2, not discussed there",
        "0.227 and 0.423",
        "note F1 on MAPS of SI -> GuitarSet - that of SI below 0",
        lambda r: r.difference("si-to-guitar", "si", "maps"),
    ),
    Claim(
        "pre-training is worth more than the same updates on MAPS",
        "control",
        "",
        "note F1 on MAPS of SI -> MAPS - that of MAPS with as many updates above 0",
        **_above("si-to-maps", "maps-twice", "maps"),
    ),
    Claim(
        "varied synthetic sound is better than the published kind, on real piano",
        "control",
        "",
        "note F1 on MAPS of SI - that of SI as published above 0",
        **_above("si", "si-paper", "maps"),
    ),
    Claim(
        "with five minutes of MAPS, pre-training pays",
        "control, extended runs",
        "",
        "note F1 on MAPS of SI -> MAPS - that of MAPS above 0, 5 minutes of training audio",
        **_above("si-to-maps-5min", "maps-5min", "maps"),
    ),
)


# -- what the notebook shows -------------------------------------------------------------------------------------------


def settings_table(data: Data, preset: str) -> pd.DataFrame:
    """The resolved configuration beside the paper's."""
    p = PRESETS[preset]

    def schedule(t: Training) -> str:
        return f"{t.schedule}, {t.learning_rate:g}, clip {t.clip:g}"

    def parts(key: str) -> str:
        split = data.domains[key].split
        return " / ".join(str(len(part)) for part in split)

    rows = [
        ("piano", "MAPS", data.domains["maps"].corpus.name),
        ("its recordings (training / validation / test)", "210 / 60 / 60, test = validation", parts("maps")),
        ("guitar", "GuitarSet", data.domains["guitar"].corpus.name),
        ("its recordings", "288 / 36 / 36", parts("guitar")),
        ("synthetic", "two programs of FluidR3, velocity 127", data.domains["si"].corpus.name),
        ("its recordings", "996 / 132 / 132", parts("si")),
        ("network", "16 to 128 channels, 1,350,145 parameters", p.network),
        ("chunk (frames of 32 ms)", "640", str(p.chunk)),
        ("batch", "32", str(p.source.batch)),
        ("updates, from random weights", "12,000 to 62,000", f"{p.source.updates:,}"),
        ("updates, fine-tuning", "12,000 or 18,000", f"{p.target.updates:,}"),
        ("learning rate", "0.01, times .98 each 10,000 updates, clip .1 by element", schedule(p.source)),
        ("model that is tested", "the last", "the best on validation"),
        ("arithmetic", "fp32", p.source.precision),
        ("seeds of a model", "1", str(len(p.seeds))),
    ]
    return pd.DataFrame(rows, columns=["setting", "paper", "ours"])


def data_table(data: Data) -> pd.DataFrame:
    """Recordings, minutes and notes of every domain and part."""
    rows = []
    for domain in data.domains.values():
        for part, stems in zip(domain.split._fields, domain.split, strict=True):
            rows.append(
                {
                    "domain": domain.key,
                    "part": part,
                    "recordings": len(stems),
                    "minutes": round(domain.seconds(stems) / 60, 1),
                    "notes": sum(len(domain.notes(s)) for s in stems),
                    "corpus": domain.corpus.name,
                }
            )
    return pd.DataFrame(rows)


def write_metrics(found: Results, judged: pd.DataFrame, path: Path) -> dict:
    """The main figures, for other programs to read, as ``metrics.json``."""

    def numbers(*of) -> dict:
        estimates = {
            arm: {test: found.estimate(arm, test, *of) for test in TARGETS} for arm in ARMS if found.planned(arm)
        }
        return {
            arm: {test: None if e is None else round(e.value, 4) for test, e in tests.items()}
            for arm, tests in estimates.items()
        }

    metrics_ = {
        "corpora": {key: found.data.domains[key].corpus.name for key in ("si", *TARGETS)},
        "preset": found.grid.preset,
        "note F1, corrected": numbers("note", "F1", "corrected"),
        "note F1, standard": numbers("note", "F1", "standard"),
        "note F1, parity": numbers("note", "F1", "parity"),
        "note with offset F1, corrected": numbers("offset", "F1", "corrected"),
        "frame F1, parity": numbers("frame", "F1", "parity"),
        "verdicts": dict(judged["verdict"].value_counts().sort_index().items()),
        "runs": found.made(),
    }
    files.write_json(path, metrics_)
    return metrics_
