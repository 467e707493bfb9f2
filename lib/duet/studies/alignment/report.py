"""The records of study 3 as the paper's tables and figures, the controls' tables and the claims with their verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from ... import files, filterbank, metrics, published, results, synthesis, tables
from ...corpora import sheets
from ...corpora.msmd import PARTS, soundfont
from ...engraving import PAGE_WIDTH
from ...filterbank import FRAMES_PER_SECOND
from ...models.cca import RIDGE
from ...models.encoders import Encoder
from ...runs import Grid
from ...snippets import Take, excerpt, published_column, window
from ...synthesis import Played
from ...training import Training, load_into
from ...verdicts import Claim, Estimate, Resampling
from .aligner import FRAMES, NETWORKS, STEP_COLUMNS, STEP_FRAMES, Alignment, align, embed_recording, embed_strip
from .experiment import DIRECTIONS, Data, Pair, errors
from .grid import PRESETS, SETTINGS, Augmentation

MEASURES = published.ALIGNMENT_MEASURES
DIGITS = {r"R@\d+": 2, "MR": 0}  # of the paper's arrangement
#: rows of Table 2 by the paper's groups
GROUPS = {
    "audio": ("tempi", "synths", "synths-tempi"),
    "sheet": ("scale", "vertical", "horizontal", "sheet"),
    "none or all": ("none", "all"),
}
#: what needs no learning, and what the paper lacks
CONTROLS = {
    "chance": "a random guess",
    "linear": "a straight line from end to end",
    "ends": "a straight line from the first to the last onset, which it is told",
    "chroma": "the score's notes against the sound: an upper bound",
    "untrained": "random weights",
    "strong": "all, a dense layer, InfoNCE",
    "full-none": "no augmentation, pictures of the paper's size",
    "full-all": "all, pictures of the paper's size",
    "jitter": "all, and excerpts a frame or a band off",
    "all-pieces-none": "every composer, no augmentation",
    "all-pieces": "every composer, all augmentations",
    "all-pieces-strong": "every composer, a dense layer, InfoNCE",
    "dense": "all, a dense layer, no CCA layer",
    "infonce": "all, InfoNCE",
    "margin": "all, margin .5",
    "symmetric": "all, both sides are anchors",
    "by-maximum": "all, spectrograms divided by their maximum",
    "published-cut": "all, the released cutter's windows",
}
ARMS = {key: title for key, (title, _) in SETTINGS.items()} | {"all": "all augmentations"} | CONTROLS
#: arms that no run makes: they follow from the corpus
GIVEN = ("chance", "ends")
#: how pieces are ranked: votes, votes per window that could have one, cost of the alignment with the recording
RANKINGS = ("raw", "normalised", "alignment")
#: arms that identify and align whole pieces, and those that only align them
WHOLE = (
    "none",
    "all",
    "full-none",
    "full-all",
    "strong",
    "all-pieces-none",
    "all-pieces",
    "all-pieces-strong",
    "untrained",
)
ALIGNED = (
    "linear",
    "ends",
    "all",
    "none",
    "full-all",
    "full-none",
    "strong",
    "all-pieces-none",
    "all-pieces",
    "all-pieces-strong",
    "untrained",
    "chroma",
    "chance",
)
MANNERS = ("strict", "tempo curve")
LENGTHS = ("short", "middle", "long")
AUDIO_TO_SHEET = DIRECTIONS[0]
MILLIMETRES = 210  # of an A4 page's width, which PAGE_WIDTH pixels show
NEAR = 0.5  # seconds

# -- results -----------------------------------------------------------------------------------------------------------


class Results(results.Results):
    """The records as the paper's models: an arm is a setting, made of one run a seed.

    Pairs, pieces and onsets are scored; whole pieces are drawn with everything that belongs to them.
    """

    def __init__(self, grid: Grid):
        super().__init__(grid)
        self.data: Data = grid.data()
        test = self.data.test
        place = {name: k for k, name in enumerate(test)}
        #: performances of the test pieces by manner, in the records' order
        self.takes = {
            "strict": [self.data.pieces.fixed(name) for name in test],
            "tempo curve": [take for name in test if (take := self.data.pieces.expressive(name))],
        }
        #: of every pair, piece and onset the number of its test piece
        self.owners = {"pairs": np.array([place[pair.take.piece] for pair in self.data.pool])}
        for manner, takes in self.takes.items():
            numbers = np.array([place[take.piece] for take in takes], int)
            self.owners["pieces", manner] = numbers
            self.owners["onsets", manner] = np.repeat(numbers, [len(self._places(take)[0]) for take in takes])
        self.samples = {key: Resampling(owners) for key, owners in self.owners.items() if len(owners)}
        self.resampling = self.samples["pieces", "strict"]
        #: test pieces that a table looks at apart, (pieces,) bool
        self.subsets = {key: chosen for key, chosen in subsets(self.data).items() if chosen.any()}

    def _places(self, take: Take) -> tuple[np.ndarray, np.ndarray]:
        return self.data.pieces.get(take.piece).pairs(take.performance)

    def draws(self, arm: str, *of, subset: str = "all") -> np.ndarray | None:
        """(1 + draws,) of an arm's score over the test pieces of ``subset``, one of ``subsets``."""
        return super().draws(arm, subset, *of)

    def estimate(self, arm: str, *of, subset: str = "all") -> Estimate | None:
        """An arm's score with its interval; ``n`` counts test pieces."""
        draws = self.draws(arm, *of, subset=subset)
        if draws is None:
            return None
        found = self.resampling.estimate(draws, self.seeds(arm))
        return replace(found, n=int(self.subsets[subset].sum()))

    def _draws(self, arm: str, subset: str, score: str, *of) -> np.ndarray | None:
        """``pairs``, ``identified`` or ``aligned``: see the methods below for what ``of`` says."""
        scores = {"pairs": self._pairs, "identified": self._identified, "aligned": self._aligned}
        return scores[score](arm, self.subsets[subset], *of)

    def _pairs(
        self,
        arm: str,
        pieces: np.ndarray,
        measure: str,
        direction: str = AUDIO_TO_SHEET,
        projections: str = "refined",
    ) -> np.ndarray | None:
        """R@K in percent, ``MR``, the median rank, or ``MRR``, the mean reciprocal one, over the test pairs."""
        tests = [self.records[name]["result"]["test"] for name in self.names(arm)]
        ranks = np.array([test[projections][direction] for test in tests if projections in test])
        if not len(ranks):
            return None
        sample, counted = self.samples["pairs"], pieces[self.owners["pairs"]]
        if not counted.any():  # few candidates, and none of these pieces
            return None
        if measure == "MR":
            return sample.median(ranks, counted)
        if measure == "MRR":
            return sample.rate(metrics.reciprocal(ranks) * counted, counted, 1.0)
        return sample.rate(metrics.top(ranks, int(measure.removeprefix("R@"))) * counted, counted)

    def _identified(
        self, arm: str, pieces: np.ndarray, rank: str, by: str = "raw", manner: str = "strict"
    ) -> np.ndarray | None:
        """Share of the pieces that one of :data:`RANKINGS` puts at a rank: ``1``, ``2``, ``3`` or ``>3``."""
        ranks = np.array([rows[by] for rows in self._whole(arm, manner) if by in rows])
        if not len(ranks):
            return None
        counted = pieces[self.owners["pieces", manner]]
        hits = ranks > 3 if rank == ">3" else ranks == int(rank)
        return self.samples["pieces", manner].rate(hits * counted, counted, 1.0)

    def _aligned(
        self, arm: str, pieces: np.ndarray, unit: str, average: str = "micro", manner: str = "strict"
    ) -> np.ndarray | None:
        """Median error in ``page widths``, ``mm``, ``pixels`` or ``seconds``, or the share of onsets ``within`` half a
        second.  ``micro``: over all onsets; ``macro``: over the pieces, of each its own median or share.
        """
        found = [in_unit(rows, unit) for rows in self.errors(arm, manner)]
        if not found:
            return None
        key = ("onsets" if average == "micro" else "pieces", manner)
        if average == "macro":
            of_piece = np.mean if unit == "within" else np.median
            found = [[[of_piece(row)] for row in rows] for rows in found]
        values, counted = np.array([np.concatenate(rows) for rows in found]), pieces[self.owners[key]]
        sample = self.samples[key]
        return sample.rate(values * counted, counted, 1.0) if unit == "within" else sample.median(values, counted)

    def _whole(self, arm: str, manner: str) -> list[dict]:
        """One a run: what its record says of whole pieces."""
        made = [self.records[name]["result"].get("whole", {}) for name in self.names(arm)]
        return [whole[manner] for whole in made if manner in whole]

    def errors(self, arm: str, manner: str) -> list[dict[str, list]]:
        """One a run: errors of every onset by piece, ``pixels`` and ``milliseconds``; those of GIVEN are arms too."""
        if arm not in GIVEN:
            return self._whole(arm, manner)
        guess = self._guessed() if arm == "chance" else self._between_ends
        rows = [guess(take) for take in self.takes[manner]]
        return [{key: [row[key] for row in rows] for key in ("pixels", "milliseconds")}] if rows else []

    def _between_ends(self, take: Take) -> dict[str, list]:
        frames, columns = self._places(take)
        return errors(self.data, take, Alignment(frames[[0, -1]], np.sort(columns[[0, -1]])))

    def _guessed(self) -> Callable[[Take], dict[str, list]]:
        """Errors of places that are drawn evenly, from a seed: somewhere in the strip, some time in the recording."""
        rng = np.random.default_rng(0)

        def guess(take: Take) -> dict[str, list]:
            frames, columns = self._places(take)
            width = self.data.pieces.get(take.piece).image.shape[1]
            late = rng.uniform(0, self.data.pieces.spectrogram(*take).shape[1], len(frames)) - frames
            aside = rng.uniform(0, width, len(columns)) - columns
            return {"pixels": np.abs(aside), "milliseconds": np.abs(late) * 1000 / FRAMES_PER_SECOND}

        return guess

    def chance(self, measure: str) -> float:
        """Expected recall in percent, or median rank, of a random order of the candidates."""
        count = len(self.data.pool)
        return (count + 1) / 2 if measure == "MR" else 100 * min(1.0, int(measure.removeprefix("R@")) / count)

    def present(self, arms: Sequence[str]) -> list[str]:
        """Those of the arms that this preset has, made or not."""
        return [arm for arm in arms if arm in GIVEN or self.planned(arm)]

    def learned(self) -> bool:
        """Whether full augmentation beats random weights and chance in median rank, interval against interval."""
        ours, floor = (self.estimate(arm, "pairs", "MR") for arm in ("all", "untrained"))
        return ours is not None and floor is not None and ours.high < min(floor.low, self.chance("MR"))


def in_unit(rows: dict[str, list], unit: str) -> list[np.ndarray]:
    """Errors by piece in one of the units, or whether they are ``within`` half a second."""
    source, scale = {
        "pixels": ("pixels", 1),
        "page widths": ("pixels", 1 / PAGE_WIDTH),
        "mm": ("pixels", MILLIMETRES / PAGE_WIDTH),
        "seconds": ("milliseconds", 1 / 1000),
        "within": ("milliseconds", 1 / 1000),
    }[unit]
    values = [np.asarray(row) * scale for row in rows[source]]
    return [(row <= NEAR).astype(float) for row in values] if unit == "within" else values


def subsets(data: Data) -> dict[str, np.ndarray]:
    """(pieces,) bool of the test pieces: all; tunes whose composer is Traditional, and the others; those of works that
    no training or validation piece is from; three lengths of the strip.
    """
    work = lambda piece: piece.split("__")[:2]  # noqa: E731
    known = [work(piece) for part in ("train", "valid") for piece in data.splits["all"][part]]
    tune = np.array([piece.split("__")[0] == "Traditional" for piece in data.test])
    widths = [data.pieces.get(piece).image.shape[1] for piece in data.test]
    third = np.argsort(np.argsort(widths, kind="stable")) * len(LENGTHS) // len(widths)
    return {
        "all": np.ones(len(tune), bool),
        "Traditional": tune,
        "without Traditional": ~tune,
        "unseen works": np.array([work(piece) not in known for piece in data.test]),
    } | {length: third == k for k, length in enumerate(LENGTHS)}


# -- the paper's tables ------------------------------------------------------------------------------------------------


def table_1(preset: str) -> pd.DataFrame:
    """Table 1: the paper's layers, what comes out of ours, and their parameters, counted."""
    shapes = {"sheet": NETWORKS["paper"].window, "audio": (filterbank.BANDS, FRAMES)}
    own = NETWORKS[PRESETS[preset].network]
    shapes["sheet, ours"] = own.picture
    encoders = {"sheet": Encoder().eval(), "audio": Encoder().eval(), "sheet, ours": own.build().sheet.eval()}
    blocks = {side: _blocks(encoder) for side, encoder in encoders.items()}
    pictures = {side: torch.zeros(1, 1, *shape) for side, shape in shapes.items()}
    rows = [{"layer": "input"} | {side: _shape(picture) for side, picture in pictures.items()}]
    for k, printed in enumerate(published.ALIGNMENT_TABLE_1):
        row: dict = {"layer": printed}
        for side in shapes:
            with torch.no_grad():
                pictures[side] = blocks[side][k](pictures[side])
            row[side] = _shape(pictures[side])
        counts = _count(blocks["sheet"][k]), _count(blocks["sheet, ours"][k])
        rows.append(row | dict(zip(("parameters", "parameters, ours"), counts, strict=True)))
    counts = _count(encoders["sheet"]), _count(encoders["sheet, ours"])
    rows.append({"layer": "each pathway", **dict(zip(("parameters", "parameters, ours"), counts, strict=True))})
    columns = ["layer", *shapes, "parameters", "parameters, ours"]
    return pd.DataFrame(
        [[row.get(c, 0 if c.startswith("parameters") else "") for c in columns] for row in rows], columns=columns
    )


def _blocks(encoder: Encoder) -> list[nn.Module]:
    """As the paper lists them: up to each pooling and its ELU, the last convolution, the mean."""
    layers, ends = list(encoder), [k + 2 for k, layer in enumerate(encoder) if isinstance(layer, nn.MaxPool2d)]
    ends = [0, *ends, len(layers) - 2, len(layers)]
    return [nn.Sequential(*layers[a:b]) for a, b in zip(ends, ends[1:], strict=False)]


def _shape(pictures: torch.Tensor) -> str:
    return " x ".join(str(side) for side in pictures.shape[1:])


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def table_2(found: Results) -> pd.DataFrame:
    """Table 2: recall and median rank by augmentation, in both directions, by onset and by content.

    ``projections``: "refined" by many training pairs, or "plain", of the last batch.  The paper prints one direction by
    onset, and does not say which projections; it stands beside both.
    """
    rows = []
    for group, arms in {**GROUPS, "no learning": ("untrained", "chance")}.items():
        for arm in arms:
            for direction in DIRECTIONS:
                for match, projections in (("onset", "refined"), ("content", "refined"), ("onset", "plain")):
                    printed = published.ALIGNMENT_TABLE_2.get(arm) if direction == AUDIO_TO_SHEET else None
                    printed = printed if match == "onset" else None
                    if arm == "chance" and (match, projections) != ("onset", "refined"):
                        continue
                    key = direction if match == "onset" else f"{direction}, content"
                    coordinates = {"group": group, "augmentation": ARMS[arm], "direction": direction, "match": match,
                                   "projections": projections}  # fmt: skip
                    rows += _pair_rows(found, coordinates, printed, arm, key, projections)
    return tables.tidy(rows)


def _pair_rows(
    found: Results, coordinates: dict, printed: Sequence[float] | None, arm: str, *of, subset: str = "all"
) -> list[dict]:
    """One row a measure."""
    rows = []
    for measure, paper in zip(MEASURES, printed or (None,) * len(MEASURES), strict=True):
        if arm == "chance":
            value = found.chance(measure)
            ours = Estimate(value, value, value, len(found.data.test), 0)
        else:
            ours = found.estimate(arm, "pairs", measure, *of, subset=subset)
        rows.append(tables.row({**coordinates, "measure": measure}, paper, ours, found.corpus))
    return rows


def table_3(found: Results) -> pd.DataFrame:
    """Table 3: how many pieces come at rank 1, 2, 3 and beyond, of how many.

    By each of :data:`RANKINGS`, both kinds of renderings, all pieces, tunes and the others.
    """
    rows = []
    for arm in found.present(WHOLE):
        for manner in MANNERS:
            for by in RANKINGS:
                for subset in ("all", "without Traditional", "Traditional"):
                    count = _count_of(found, manner, subset)
                    published_cell = (manner, by, subset) == ("strict", "raw", "all")
                    printed = published.ALIGNMENT_TABLE_3.get(arm) if published_cell else None
                    for rank, paper in zip(("1", "2", "3", ">3"), printed or (None,) * 4, strict=True):
                        if not count:
                            continue
                        coordinates = {"augmentation": ARMS[arm], "rendering": manner, "ranked by": by,
                                       "pieces": subset, "of": count, "rank": rank}  # fmt: skip
                        share = found.estimate(arm, "identified", rank, by, manner, subset=subset)
                        rows.append(tables.row(coordinates, paper, _scaled(share, count), found.corpus))
    return tables.tidy(rows)


def _count_of(found: Results, manner: str, subset: str) -> int:
    """Pieces of a subset that have such a rendering."""
    chosen = found.subsets.get(subset)
    return 0 if chosen is None else int(chosen[found.owners["pieces", manner]].sum())


def _scaled(estimate: Estimate | None, by: float) -> Estimate | None:
    if estimate is None:
        return None
    return replace(estimate, value=estimate.value * by, low=estimate.low * by, high=estimate.high * by)


UNITS = ("page widths", "mm", "seconds", "within")


def figure_7(found: Results) -> pd.DataFrame:
    """What Figure 7 is read for: median errors, and shares of onsets within half a second.

    By method, rendering and length of the piece; over all onsets (micro) and over pieces (macro).
    """
    rows = []
    for manner in MANNERS:
        for arm in found.present(ALIGNED):
            for length in ("all", *LENGTHS):
                if not _count_of(found, manner, length):
                    continue
                for average in ("micro", "macro"):
                    printed = published.ALIGNMENT_FIGURE_7.get(arm) if (manner, length) == ("strict", "all") else None
                    printed = dict(zip(UNITS, printed or (), strict=False)) if average == "micro" else {}
                    for unit in UNITS:
                        coordinates = {"rendering": manner, "method": ARMS[arm], "pieces": length, "average": average,
                                       "unit": f"share within {NEAR} s" if unit == "within" else unit}  # fmt: skip
                        ours = found.estimate(arm, "aligned", unit, average, manner, subset=length)
                        rows.append(tables.row(coordinates, printed.get(unit), ours, found.corpus))
    return tables.tidy(rows)


QUANTILES = (5, 25, 50, 75, 95)
#: what Figure 7 shows, and how it is called there
BOXES = {
    "linear": "straight line",
    "all": "warped, all",
    "none": "warped, none",
    "untrained": "warped, random weights",
    "chroma": "warped, notes known",
    "chance": "chance",
}


def figure_7_boxes(found: Results) -> pd.DataFrame:
    """Figure 7's boxes: percentiles of the error in page widths over the onsets, the seeds of an arm together."""
    rows = []
    for manner in MANNERS:
        for length in LENGTHS:
            if not _count_of(found, manner, length):
                continue
            counted = found.subsets[length][found.owners["onsets", manner]]
            for arm, method in BOXES.items():
                every = [np.concatenate(in_unit(made, "page widths"))[counted] for made in found.errors(arm, manner)]
                if every:
                    cuts = np.percentile(np.concatenate(every), QUANTILES).round(4)
                    rows.append({"rendering": manner, "pieces": length, "method": method, "onsets": int(counted.sum()),
                                 **{f"p{q}": cut for q, cut in zip(QUANTILES, cuts, strict=True)}})  # fmt: skip
    return pd.DataFrame(rows, columns=["rendering", "pieces", "method", "onsets", *(f"p{q}" for q in QUANTILES)])


# -- what the paper lacks ----------------------------------------------------------------------------------------------


def table_controls(found: Results) -> pd.DataFrame:
    """Retrieval of pairs, audio to sheet: the paper's ends and the controls of this preset, made or not.

    Models that were trained on all pieces are also judged by works of which they know nothing.
    """
    rows = []
    arms = ("none", "all", *(key for key in CONTROLS if key not in (*GIVEN, "linear", "chroma")))
    for arm in found.present(arms):
        parts = (
            ("all", "unseen works") if arm.startswith("all-pieces") and "unseen works" in found.subsets else ("all",)
        )
        for subset in parts:
            coordinates = {"model": ARMS[arm], "test pieces": subset, "pieces": int(found.subsets[subset].sum())}
            rows += _pair_rows(found, coordinates, None, arm, subset=subset)
    return tables.tidy(rows)


def table_confidence(found: Results) -> pd.DataFrame:
    """How well a threshold tells a recording of the piece from one of another, by the alignment's confidence.

    The threshold is the middle of the two medians, of these very scores; ``AUC`` needs none.
    """
    rows = []
    for arm in found.present(WHOLE):
        for manner in MANNERS:
            scores = np.array([own for made in found._whole(arm, manner) for own in made["confidence"]], float)
            row = {"model": ARMS[arm], "rendering": manner}
            if len(scores):
                right, wrong = scores[:, 0], scores[~np.isnan(scores[:, 1]), 1]
                row |= separation(right, wrong) | {"right ones": len(right), "wrong ones": len(wrong)}
            rows.append(row | {"seeds": found.seeds(arm), "corpus": found.corpus})
    columns = ["model", "rendering", "median, right piece", "median, wrong piece", "threshold", "right decisions",
               "AUC", "right ones", "wrong ones", "seeds", "corpus"]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    return table.astype({"right ones": "Int64", "wrong ones": "Int64"})


def separation(right: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """Medians of both scores, the threshold in their middle, the share of right decisions at it, half for each kind,
    and the probability that a right score is above a wrong one (ties count half).
    """
    middles = float(np.median(right)), float(np.median(wrong)) if len(wrong) else np.nan
    threshold = sum(middles) / 2
    decided = ((right > threshold).mean() + (wrong <= threshold).mean()) / 2 if len(wrong) else np.nan
    above = np.sign(right[:, None] - wrong[None]).mean() / 2 + 0.5 if len(wrong) else np.nan
    return {
        "median, right piece": round(middles[0], 4),
        "median, wrong piece": round(middles[1], 4),
        "threshold": round(threshold, 4),
        "right decisions": round(float(decided), 3),
        "AUC": round(float(above), 3),
    }


def table_cutter(data: Data) -> pd.DataFrame:
    """Onsets whose window the released code cuts elsewhere, by more than a pixel; and how many windows it cuts at all.

    Training and test pieces, at their notated tempo.
    """
    rows = []
    for part in ("train", "test"):
        wrong, distances, whole, count = 0, [], 0, 0
        for piece in data.splits["composer"][part]:
            own = data.pieces.get(piece)
            columns, width = own.pairs(data.pieces.fixed(piece).performance).columns, own.image.shape[1]
            moved = np.abs([published_column(column, width) - column for column in columns])
            distances += moved[moved > 1].tolist()
            wrong, count = wrong + int((moved > 1).sum()), count + len(columns)
            whole += width <= 800
        rows.append(
            {
                "part": part,
                "pieces": len(data.splits["composer"][part]),
                "of one window only": whole,
                "onsets": count,
                "wrong windows": wrong,
                "share": round(wrong / count, 3),
                "off by (pixels, median)": round(float(np.median(distances)), 1) if distances else 0.0,
                "corpus": data.name,
            }
        )
    return pd.DataFrame(rows)


def table_zero_errors(found: Results) -> pd.DataFrame:
    """What the released alignment code leaves at error 0, and how much that flatters.

    It maps frames from half an excerpt after the start to half of one before the end, and columns from half a window.
    """
    rows = []
    for manner in MANNERS:
        outside = []
        for take in found.takes[manner]:
            frames, columns = found._places(take)
            length = found.data.pieces.spectrogram(*take).shape[1]
            width = found.data.pieces.get(take.piece).image.shape[1]
            late = (frames < FRAMES // 2) | (frames > length - FRAMES // 2)
            outside.append(np.column_stack([late, (columns < 100) | (columns > width - 100)]))
        if not outside:
            continue
        late, aside = np.concatenate(outside).T
        for arm in ("linear", "all"):
            row = {"rendering": manner, "method": ARMS[arm], "onsets": len(late), "outside, frames": int(late.sum()),
                   "outside, columns": int(aside.sum()), "share": round(float((late | aside).mean()), 3)}  # fmt: skip
            every = [np.concatenate(in_unit(made, "page widths")) for made in found.errors(arm, manner)]
            if every:
                zeroed = [np.where(late | aside, 0, values) for values in every]
                row["median (widths)"] = round(float(np.mean([np.median(v) for v in every])), 4)
                row["with those at 0"] = round(float(np.mean([np.median(v) for v in zeroed])), 4)
            rows.append(row | {"corpus": found.corpus})
    return pd.DataFrame(rows)


# -- claims ------------------------------------------------------------------------------------------------------------

IDENTIFIED, FEW = 0.8, 0.5  # shares of the pieces: "nearly all", "only few"
ALIKE = 0.2  # of the mean reciprocal rank: how far the directions may differ
MISSED = 0.1  # of the onsets: what "comes close to the upper bound" may miss


def _below(arm: str, *others: str) -> Callable[[Results], Estimate | None]:
    """Median rank of an arm minus the smallest of the others'."""

    def quantity(found: Results) -> Estimate | None:
        return _combined(found, lambda one, *rest: one - np.min(rest, 0), *((a, "pairs", "MR") for a in (arm, *others)))

    return quantity


def _combined(found: Results, combine: Callable, *scores: tuple) -> Estimate | None:
    """A number made of several scores (arm, and what of it), draw by draw; None until every run has been made."""
    draws = [found.settled(*score) for score in scores]
    if any(d is None for d in draws):
        return None
    return found.resampling.estimate(combine(*draws), min(found.seeds(score[0]) for score in scores))


def _better(arm: str, text: str, paper: str, source: str = "Section 4, Table 2") -> Claim:
    """A claim that an augmentation finds pairs better than none does."""
    return Claim(text, source, paper, f"median rank of {arm} - that of none below 0", _below(arm, "none"))


def _over(arm: str, other: str, manner: str) -> Callable[[Results], Estimate | None]:
    """Median error in page widths over all onsets of one arm minus that of another."""
    return lambda r: r.difference(arm, other, "aligned", "page widths", "micro", manner)


OTHERS = tuple(key for key in SETTINGS if key != "all")

CLAIMS: tuple[Claim, ...] = (
    _better("tempi", "varied tempi help", "771 and 1042"),
    _better("synths", "several synthesisers help", "559 and 1042"),
    _better("synths-tempi", "varied tempi with several synthesisers help", "332 and 1042"),
    _better("scale", "scaling the picture helps", "524 and 1042"),
    _better("vertical", "shifting systems vertically helps", "449 and 1042"),
    _better("horizontal", "shifting windows horizontally helps", "808 and 1042"),
    _better("sheet", "all sheet augmentations together help", "496 and 1042"),
    _better("all", "full augmentation helps", "168 and 1042"),
    Claim(
        "of the sheet augmentations the vertical shift helps most",
        "Section 4, Table 2",
        "449, 524 and 808",
        "median rank of vertical - the smaller of scale and horizontal below 0",
        _below("vertical", "scale", "horizontal"),
    ),
    Claim(
        "varied tempi and synthesisers together are better than either",
        "Section 4, Table 2",
        "332, 559 and 771",
        "median rank of synths-tempi - the smaller of synths and tempi below 0",
        _below("synths-tempi", "synths", "tempi"),
    ),
    Claim(
        "all augmentations together are best",
        "Section 4, Table 2",
        "168, the next 332",
        "median rank of all - the smallest of all other rows below 0",
        _below("all", *OTHERS),
    ),
    Claim(
        "all sheet augmentations together are worse than the vertical shift alone",
        "Table 2, not discussed there",
        "496 and 449",
        "median rank of sheet - that of vertical above 0",
        _below("sheet", "vertical"),
        below=False,
    ),
    Claim(
        "sheet to audio behaves like audio to sheet",
        "Section 4, last sentence",
        '"similar performance"',
        f"difference of MRR between the directions, of full augmentation, below {ALIKE:.0%} of audio to sheet",
        lambda r: _combined(
            r,
            lambda there, back: np.abs(back - there) - ALIKE * there,
            *(("all", "pairs", "MRR", direction) for direction in DIRECTIONS),
        ),
    ),
    Claim(
        "full augmentation identifies nearly all pieces",
        "Section 5.2, Table 3",
        "24 of 26",
        f"share of pieces at rank 1 by raw votes of all above {IDENTIFIED}",
        lambda r: _combined(r, lambda share: share, ("all", "identified", "1")),
        bound=IDENTIFIED,
        below=False,
    ),
    Claim(
        "no augmentation identifies only few",
        "Section 5.2, Table 3",
        "4 of 26",
        f"share of pieces at rank 1 by raw votes of none below {FEW}",
        lambda r: _combined(r, lambda share: share, ("none", "identified", "1")),
        bound=FEW,
    ),
    Claim(
        "warping on the embedding aligns better than a straight line",
        "Section 6.2, Figure 7",
        "0.041 and 0.213",
        "median error (page widths) of all - that of linear below 0, strict renderings",
        _over("all", "linear", "strict"),
    ),
    Claim(
        "and where the tempo is bent",
        "control",
        "",
        "median error (page widths) of all - that of linear below 0, renderings with tempo curves",
        _over("all", "linear", "tempo curve"),
    ),
    Claim(
        "trained on every composer, full augmentation is still better than none",
        "control",
        "",
        "median rank of all-pieces - that of all-pieces-none below 0",
        _below("all-pieces", "all-pieces-none"),
    ),
    Claim(
        "training on every composer is better than on one",
        "control",
        "",
        "median rank of all-pieces - that of all below 0",
        _below("all-pieces", "all"),
    ),
    Claim(
        "refining the projections helps",
        "control",
        "",
        "median rank of all, refined - that of all, plain, below 0",
        lambda r: _combined(
            r,
            np.subtract,
            *(("all", "pairs", "MR", AUDIO_TO_SHEET, projections) for projections in ("refined", "plain")),
        ),
    ),
    Claim(
        "a dense layer and InfoNCE are better than a mean, CCA and ranking",
        "control",
        "",
        "median rank of strong - that of all below 0",
        _below("strong", "all"),
    ),
    Claim(
        "with the paper's pictures too, full augmentation is better than none",
        "control",
        "",
        "median rank of full-all - that of full-none below 0",
        _below("full-all", "full-none"),
    ),
    Claim(
        "jitter of excerpts, which the code has and the paper does not name, helps",
        "control",
        "",
        "median rank of jitter - that of all below 0",
        _below("jitter", "all"),
    ),
    Claim(
        "on bent tempi the embedding comes close to an alignment that reads the notes",
        "control",
        "",
        f"share of onsets within {NEAR} s of all-pieces - that of chroma above -{MISSED}, renderings with tempo curves",
        lambda r: r.difference("all-pieces", "chroma", "aligned", "within", "micro", "tempo curve"),
        bound=-MISSED,
        below=False,
    ),
)


def from_bounds(judged: pd.DataFrame) -> pd.DataFrame:
    """The numbers of verdicts as distances from the bounds of their rules: 0 is where a claim begins to hold."""
    bounds = judged["claim"].map({claim.text: claim.bound for claim in CLAIMS})
    return judged.assign(**{column: judged[column].astype(float) - bounds for column in ("ours", "low", "high")})


# -- what the notebook shows -------------------------------------------------------------------------------------------


def settings_table(data: Data, preset: str) -> pd.DataFrame:
    """The resolved configuration beside the paper's, or where the paper is silent the released code's of 2018."""
    p, paper = PRESETS[preset], PRESETS["paper"]
    network, own = NETWORKS["paper"], NETWORKS[p.network]

    def schedule(t: Training) -> str:
        waits = f", halved {t.halvings} times after {t.patience}, then {t.later_patience} epochs" if t.halvings else ""
        return f"{t.schedule}, {t.learning_rate:g}{waits}"

    def sides(n) -> str:
        reduced = f", reduced to {n.picture[0]} x {n.picture[1]}" if n.reduced > 1 else ""
        return f"{n.window[0]} x {n.window[1]} pixels{reduced}"

    rows = [
        ("collection", "MuseScore pages and their MIDI files, not public", data.name),
        ("trained on", "Mozart", p.composer),
        ("tested on", "Bach, Haydn, Beethoven, Chopin", _composers(data.test)),
        ("instruments of training", "3 SoundFonts", ", ".join(data.instruments)),
        (
            "instrument of the test",
            "a fourth SoundFont",
            ", ".join(sorted({soundfont(data.pieces.fixed(n).performance) for n in data.test})),
        ),
        ("tempi of training", "100 to 130 bpm, the test 120", "0.9 to 1.1 of the notated seconds, the test 1"),
        ("window", sides(network), sides(own)),
        (
            "excerpt",
            "92 bands x 42 frames of 50 ms",
            f"{filterbank.BANDS} bands x {FRAMES} frames of {1000 // FRAMES_PER_SECOND} ms",
        ),
        ("highest frequency", "16 kHz, above half the sample rate", "6 kHz, as in the code"),
        ("maps of the encoders", ", ".join(map(str, network.maps)), ", ".join(map(str, own.maps))),
        ("candidates", f"{published.ALIGNMENT_PAIRS['test']:,}", f"{len(data.pool):,}"),
        (
            "loss",
            "pairwise ranking, its margin not said; 0.7 in the code of 2018",
            {"ranking": "pairwise ranking, margin 0.7", "infonce": "InfoNCE, temperature 0.1"}[p.loss],
        ),
        ("ridge of the CCA layer", f"{RIDGE:g} in the code", "no such layer" if own.dense else f"{p.ridge:g}"),
        ("batch", "100 in the code", str(p.training.batch)),
        ("updates", "until the rate has been halved ten times", f"{p.training.updates:,}"),
        ("pairs seen", "10,000 an epoch in the code", f"{p.training.updates * p.training.batch:,}"),
        ("learning rate", schedule(paper.training), schedule(p.training)),
        ("validation pairs", f"{published.ALIGNMENT_PAIRS['valid']}", f"at most {p.validation:,}"),
        (
            "refinement of the projections",
            "not said; 25,000 pairs in the code of 2018",
            f"at most {p.refinement:,} pairs",
        ),
        ("arithmetic", "fp32", p.training.precision),
        ("seeds", "1", f"{len(p.seeds)} for none and all, 1 for every other row"),
        ("votes", "25 nearest of each excerpt", "25 nearest of each of at most 100 excerpts"),
        (
            "steps of the alignment",
            "not said; 10 pixels, 2 frames in the code of 2018",
            f"{STEP_COLUMNS} pixels, {STEP_FRAMES} frames",
        ),
    ]
    return pd.DataFrame(rows, columns=["setting", "paper", "ours"])


def _composers(pieces: Sequence[str]) -> str:
    counts = pd.Series([piece.split("__")[0] for piece in pieces]).value_counts()
    named = [f"{name} ({count})" for name, count in counts.head(6).items()]
    return ", ".join(named) + (f" and {len(counts) - 6} more" if len(counts) > 6 else "")


def data_table(data: Data) -> pd.DataFrame:
    """Pieces, systems, page widths of music and pairs of every part; the paper's beside those of its own split."""
    rows = []
    for key, title in (("composer", f"{data.preset.composer} alone"), ("all", "every composer")):
        for part in PARTS:
            if (key, part) == ("all", "test"):
                continue  # the same as the other's
            pieces = data.splits[key][part]
            own = [data.pieces.get(piece) for piece in pieces]
            printed = key == "composer"
            rows.append(
                {
                    "split": title if part != "test" else "test of both",
                    "part": part,
                    "pieces": len(pieces),
                    "pieces, paper": published.ALIGNMENT_PIECES[part] if printed else None,
                    "systems": sum(len(piece.edges) - 1 for piece in own),
                    "page widths": round(sum(piece.image.shape[1] for piece in own) / PAGE_WIDTH),
                    "pairs": _pairs(data, pieces, Augmentation()),
                    "pairs, paper": published.ALIGNMENT_PAIRS[part] if printed else None,
                    "pairs of all renderings": _pairs(data, pieces, SETTINGS["all"][1]) if part == "train" else None,
                    "corpus": data.name,
                }
            )
    whole = ("pieces, paper", "pairs, paper", "pairs of all renderings")
    return pd.DataFrame(rows).astype(dict.fromkeys(whole, "Int64"))


def _pairs(data: Data, pieces: Sequence[str], augmentation: Augmentation) -> int:
    takes = data.takes(pieces, augmentation) if augmentation.tempi else [data.pieces.fixed(piece) for piece in pieces]
    return sum(len(data.pieces.get(take.piece).pairs(take.performance).frames) for take in takes)


def freely_shown(data: Data) -> list[str]:
    """Test pieces whose pages and sound anybody may publish, the shortest first."""
    return data.pieces.by_length(sheets.freely_shown(data.corpus, data.test))


def examples(data: Data, pieces: Sequence[str], count: int = 4) -> list[Pair]:
    """Pairs of these pieces, evenly spaced over them."""
    every = [pair for piece in pieces for pair in data.pairs([data.pieces.fixed(piece)])]
    return [every[k] for k in np.linspace(0, len(every) - 1, count + 2).round().astype(int)[1:-1]] if every else []


def sight(data: Data, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """The window (180, 200) uint8 and the excerpt (92, 42) of a pair, as the paper's network sees them."""
    image, spectrogram = data.pieces.get(pair.take.piece).image, data.pieces.spectrogram(*pair.take)
    return window(image, pair.column, *NETWORKS["paper"].window), excerpt(spectrogram, pair.frame, FRAMES)


def sound(data: Data, pair: Pair) -> np.ndarray:
    """(samples,) at synthesis.SAMPLE_RATE: what the excerpt hears, played anew from its notes, in silence around."""
    seconds = FRAMES / FRAMES_PER_SECOND
    start = pair.frame / FRAMES_PER_SECOND - seconds / 2
    played = []
    for onset, pitch, duration, velocity, _ in data.corpus.notes(*pair.take):
        first, last = max(onset - start, 0.0), min(onset + duration - start, seconds)
        if last - first > 0.02:
            played.append(Played(float(first), float(last - first), int(pitch), int(velocity)))
    audio = synthesis.synthesise(played, synthesis.available_soundfont(), tail=seconds)
    return audio[: round(seconds * synthesis.SAMPLE_RATE)]


def gallery_of(data: Data, pairs: Sequence[Pair]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Figure 2: the windows and the excerpts of pairs, each with its caption."""
    seen = [sight(data, pair) for pair in pairs]
    captions = [pair.take.piece.split("__") for pair in pairs]
    windows = {f"{k}: {c[0]}, {c[-1][:16]}": one for k, (c, (one, _)) in enumerate(zip(captions, seen, strict=True), 1)}
    times = [f"{k}: at {pair.frame / FRAMES_PER_SECOND:.1f} s" for k, pair in enumerate(pairs, 1)]
    return windows, {time: two for time, (_, two) in zip(times, seen, strict=True)}


def sounds(data: Data, pairs: Sequence[Pair]) -> np.ndarray:
    """(samples,) at synthesis.SAMPLE_RATE: the excerpts of pairs one after the other, with half a second between."""
    pause = np.zeros(synthesis.SAMPLE_RATE // 2, np.float32)
    return np.concatenate([part for pair in pairs for part in (sound(data, pair), pause)])


def augmented(data: Data, pair: Pair) -> dict[str, np.ndarray]:
    """Figure 3: one window as it is, and as far as each augmentation of the picture changes it."""
    image, shape = data.pieces.get(pair.take.piece).image, NETWORKS["paper"].window
    a = SETTINGS["sheet"][1]
    return {
        "as it is": window(image, pair.column, *shape),
        f"scaled by {1 - a.scale:g}": window(image, pair.column, *shape, 1 - a.scale),
        f"scaled by {1 + a.scale:g}": window(image, pair.column, *shape, 1 + a.scale),
        f"{a.vertical} rows down": window(image, pair.column, *shape, 1.0, a.vertical),
        f"{a.horizontal} columns on": window(image, pair.column + a.horizontal, *shape),
    }


class Warping(NamedTuple):
    """Figure 6 of a piece: cosines (windows, excerpts), their columns and frames, the path, and the true places."""

    cosines: np.ndarray
    columns: np.ndarray
    frames: np.ndarray
    path: Alignment
    true: Alignment


def warping(grid: Grid, name: str, piece: str) -> Warping | None:
    """The alignment of a test piece by a run's weights; None where they are not on this machine."""
    if not grid.weights(name).exists():
        return None
    data, network = grid.data(), NETWORKS[grid.run(name).config.network]
    model = network.build()
    load_into(model, grid.weights(name))
    model.eval()
    take = data.pieces.fixed(piece)
    sheet = embed_strip(model, network, data.pieces.get(piece).image)
    recording = embed_recording(model, data.pieces.spectrogram(*take))
    frames, columns = data.pieces.get(piece).pairs(take.performance)
    cosines = sheet.vectors @ recording.vectors.T
    return Warping(cosines, sheet.places, recording.places, align(sheet, recording), Alignment(frames, columns))


def curves(found: Results) -> pd.DataFrame:
    """1 - MRR of validation pairs by pairs seen, first seed; models that know every composer validate on others too."""
    panels = {}
    for name, run in found.grid.runs.items():
        arm = name.rpartition("-s")[0]
        if run.config.method == "train" and run.config.seed == found.preset.seeds[0]:
            sound_only = arm in ("none", *GROUPS["audio"])
            panels[name] = "none and audio" if sound_only else "sheet and all" if arm in SETTINGS else "controls"
    return found.curves(panels)


def write_metrics(found: Results, judged: pd.DataFrame, path: Path) -> dict:
    """The main figures, for other programs to read, as ``metrics.json``."""

    def numbers(arms: Sequence[str], *of, subset: str = "all") -> dict:
        made = {arm: found.estimate(arm, *of, subset=subset) for arm in found.present(arms)}
        return {arm: None if e is None else round(e.value, 4) for arm, e in made.items()}

    pairs = [arm for arm in ARMS if arm not in (*GIVEN, "linear", "chroma")]
    apart = [subset for subset in ("all", "without Traditional", "Traditional") if subset in found.subsets]
    metrics_ = {
        "corpus": found.corpus,
        "preset": found.grid.preset,
        "test pieces": len(found.data.test),
        "candidates": len(found.data.pool),
        "chance": {measure: round(found.chance(measure), 4) for measure in MEASURES},
        "retrieval": {
            direction: {measure: numbers(pairs, "pairs", measure, direction) for measure in (*MEASURES, "MRR")}
            for direction in DIRECTIONS
        },
        "median rank, plain": numbers(pairs, "pairs", "MR", AUDIO_TO_SHEET, "plain"),
        "median rank, content": numbers(pairs, "pairs", "MR", f"{AUDIO_TO_SHEET}, content"),
        "identified": {
            by: {subset: numbers(WHOLE, "identified", "1", by, subset=subset) for subset in apart} for by in RANKINGS
        },
        "alignment": {
            manner: {
                unit: numbers(ALIGNED, "aligned", unit, "micro", manner)
                for unit in ("pixels", "page widths", "seconds", "within")
            }
            for manner in MANNERS
            if found.takes[manner]
        },
        "verdicts": dict(judged["verdict"].value_counts().sort_index().items()),
        "runs": found.made(),
    }
    files.write_json(path, metrics_)
    return metrics_
