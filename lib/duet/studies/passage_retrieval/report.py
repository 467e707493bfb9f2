"""The records of study 2 as the paper's tables and figures, the controls' tables and the claims with their verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from ... import files, filterbank, metrics, published, results, synthesis, tables
from ...corpora import reallike, sheets
from ...corpora.msmd import PARTS, soundfont, tempo_ratio
from ...filterbank import FRAMES_PER_SECOND
from ...models.cca import RIDGE
from ...models.passage import CODE, HIDDEN, PAPER, SNIPPETS, PassageModel, SnippetEncoder
from ...runs import Grid
from ...synthesis import Played
from ...training import Training
from ...verdicts import Claim, Estimate, Resampling
from .experiment import DIRECTIONS, WIDTHS, Data, real_like_sound
from .grid import CONDITIONS, PRESETS, TEMPI, VOTERS
from .passages import AUDIO_HOP, SHEET_HOP, Passage, audio_snippets, sheet_snippets

MEASURES = ("R@1", "R@5", *published.PASSAGE_MEASURES[1:])  # the paper has no R@5
DIGITS = {r"R@\d+": 1, "MRR": 3, "MR": 0}  # of the paper's arrangement
#: rows of Table 2, as the paper calls them
MODELS = {
    "snippet": "BL",
    "rnn": "RNN",
    "rnn-ft": "RNN-FT",
    "rnn-ft-cca": "RNN-FT-CCA",
    "rnn-fz": "RNN-FZ",
    "rnn-fz-cca": "RNN-FZ-CCA",
}
#: what needs no learning, and what the paper lacks
CONTROLS = {
    "chance": "a random order of the candidates",
    "untrained": "RNN, random weights",
    "fixed-gru": "RNN, its GRU never trained",
    "fixed-gru-fz-cca": "RNN-FZ-CCA as released: its GRU never trained",
    "rnn-full": "RNN, the paper's widths",
    "mean": "RNN, a mean in place of the GRU",
    "transformer": "RNN, a transformer in place of the GRU",
    "ungrouped": "RNN, renderings of one system may be negatives",
    "snippet-ranking": "BL, margins through a CCA layer, as published",
    "ranking": "RNN, margins, as published",
    "symmetric": "RNN, margins, both sides are anchors",
    "infonce": "RNN, a softmax in place of margins",
}
ARMS = MODELS | CONTROLS
SETS = {
    "I": "pages as engraved, synthetic sound",
    "II": "another edition's pages as if scanned (a stand-in), the sound of I",
    "III": "the pages of II, sound as if recorded (a stand-in): another instrument, touch, room, noise, bent tempo",
}
CELLS = tuple((direction, condition) for condition in CONDITIONS for direction in DIRECTIONS)
LONG = 10.0  # seconds
TENFOLD = 10  # times chance: what a model should reach
DURATIONS = (0, 5, 10, 15, 20, 25, np.inf)  # seconds between which Figure 4 is read
BINS = np.linspace(0, 30, 101)  # of Figure 1, seconds

# -- results -----------------------------------------------------------------------------------------------------------


def one(direction: str, where: str) -> tuple:
    """A single cell of a table, as :meth:`Results.draws` takes it."""
    return ((1.0, direction, where),)


def mean_of(cells: Sequence[tuple[str, str]]) -> tuple:
    """The mean over cells (direction, where)."""
    return tuple((1 / len(cells), *cell) for cell in cells)


class Results(results.Results):
    """The records as the paper's models: an arm is a model, made of one run a seed.

    Passages are scored, whole pieces drawn.  A cell is a direction and ``where`` in a record's ``test`` block it is:
    "I", "II", "III", "plain/I" and "refined/I" (BL's other projections), "voters/5", "tempi/0.5".
    """

    def __init__(self, grid: Grid):
        super().__init__(grid)
        self.data: Data = grid.data()
        self.place = {name: k for k, name in enumerate(self.data.split["test"])}
        #: passages of each condition: candidates and queries alike
        self.candidates = {condition: len(self.data.test(condition)) for condition in CONDITIONS}
        self.owners = lru_cache(maxsize=None)(self._owners)
        self.resampling = Resampling(self.owners("I"))

    def _owners(self, where: str) -> np.ndarray:
        """(passages,) numbers of their pieces."""
        part, _, value = where.partition("/")
        own = (
            self.data.at_tempo(float(value)) if part == "tempi" else self.data.test(part if part in CONDITIONS else "I")
        )
        return np.array([self.place[passage.piece] for passage in own])

    def _draws(self, arm: str, measure: str, cells: tuple[tuple[float, str, str], ...]) -> np.ndarray | None:
        """R@K in percent, MRR, or MR, the median rank: the sum over ``cells`` of weight times score.

        Several cells are one score of a training, so that seeds vary in it as a whole.  MR takes one cell.
        """
        made = [self.records[name]["result"]["test"] for name in self.names(arm)]
        rows = [[_ranks(test, where, direction) for _, direction, where in cells] for test in made]
        if not rows or any(ranks is None for row in rows for ranks in row):
            return None
        owners = [self.owners(where) for _, _, where in cells]
        sample = Resampling(np.concatenate(owners))  # the same pieces: the same draws
        if measure == "MR":
            return sample.median([row[0] for row in rows])
        score = metrics.reciprocal if measure == "MRR" else lambda r: 100 * metrics.top(r, int(measure[2:]))
        first = len(owners[0])
        values = [[w * score(r) * first / len(r) for (w, *_), r in zip(cells, row, strict=True)] for row in rows]
        counted = np.concatenate([np.full(len(own), float(k == 0)) for k, own in enumerate(owners)])
        return sample.rate([np.concatenate(row) for row in values], counted, 1.0)

    def trend(self, arm: str) -> np.ndarray | None:
        """(1 + draws,) of the slope of the cosine distance of right pairs, condition I, over seconds of the passage.

        Of the line through both means; None where no run of the arm has been made.
        """
        if self.names(arm) != self.planned(arm) or not self.names(arm):
            return None
        seconds = np.array([passage.seconds for passage in self.data.test("I")])
        distances = np.array([self.records[name]["result"]["distances"] for name in self.names(arm)])
        off = seconds - seconds.mean()
        return self.resampling.rate(off * (distances - distances.mean(1, keepdims=True)), off**2, 1.0)

    def chance(self, measure: str, where: str = "I") -> float:
        """Expected recall in percent, mean reciprocal or median rank of a random order of the candidates."""
        count = len(self.owners(where))
        if measure == "MRR":
            return float(metrics.reciprocal(np.arange(1, count + 1)).mean())
        return (count + 1) / 2 if measure == "MR" else 100 * min(1.0, int(measure[2:]) / count)

    def present(self, arms: Sequence[str]) -> list[str]:
        """Those of the arms that this preset has, made or not."""
        return [arm for arm in arms if arm == "chance" or self.planned(arm)]

    def learned(self) -> bool:
        """Whether RNN beats random weights and chance in MRR, condition I, both ways, interval against interval."""
        for direction in DIRECTIONS:
            ours, floor = (self.estimate(arm, "MRR", one(direction, "I")) for arm in ("rnn", "untrained"))
            if ours is None or floor is None or ours.low <= max(floor.high, self.chance("MRR")):
                return False
        return True


def _ranks(test: dict, where: str, direction: str) -> np.ndarray | None:
    for key in where.split("/"):
        test = test.get(key, {})
    return np.array(test[direction]) if direction in test else None


# -- the paper's tables ------------------------------------------------------------------------------------------------


def table_1(preset: str) -> pd.DataFrame:
    """Table 1: the paper's layers, what comes out of ours, and their parameters, counted; then the whole model.

    A page's snippet is halved before the network sees it.
    """
    widths = WIDTHS[PRESETS[preset].widths]
    encoders = {side: SnippetEncoder(side, PAPER).eval() for side in SNIPPETS}
    own = {side: SnippetEncoder(side, widths) for side in SNIPPETS}
    shapes = {side: torch.zeros(1, 1, *SNIPPETS[side]) for side in SNIPPETS}
    rows = [{"layer": "input"} | {side: _shape(values) for side, values in shapes.items()}]
    for k, printed in enumerate(published.PASSAGE_TABLE_1):
        row: dict = {"layer": printed}
        for side in SNIPPETS:
            block = _blocks(encoders[side])[k]
            with torch.no_grad():
                shapes[side] = block(shapes[side])
            row |= {side: _shape(shapes[side]), f"{side}, parameters": _count(block)}
            row[f"{side}, ours"] = _count(_blocks(own[side])[k])
        rows.append(row)

    def counted(layer: str, of: Callable[[str, PassageModel], nn.Module]) -> dict:
        both = {"parameters": PassageModel(), "ours": PassageModel(widths=widths)}
        return {"layer": layer} | {
            f"{side}, {name}": _count(of(side, model)) for name, model in both.items() for side in SNIPPETS
        }

    rows += [
        counted("the encoder", lambda side, model: getattr(model, side)),
        counted(f"GRU({HIDDEN})", lambda side, model: getattr(model, f"{side}_summary").sequence),
        counted("FC(64)", lambda side, model: getattr(model, f"{side}_summary").output),
    ]
    counts = [f"{side}, {name}" for name in ("parameters", "ours") for side in SNIPPETS]
    rows.append({"layer": "the model, both sides"} | {f"sheet, {n}": _whole(rows, n) for n in ("parameters", "ours")})
    table = pd.DataFrame(rows, columns=["layer", *SNIPPETS, *counts])
    return table.astype(dict.fromkeys(counts, "Int64")).fillna(dict.fromkeys(SNIPPETS, ""))


def _whole(rows: Sequence[dict], name: str) -> int:
    return sum(row[f"{side}, {name}"] for row in rows[-3:] for side in SNIPPETS)


def _blocks(encoder: SnippetEncoder) -> list[nn.Module]:
    """As the paper lists them: up to each pooling with its ELU, then the rest; audio's first norm is in the first."""
    layers = list(encoder)
    ends = [0, *(k + 2 for k, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)), len(layers)]
    return [nn.Sequential(*layers[a:b]) for a, b in zip(ends, ends[1:], strict=False)]


def _shape(values: torch.Tensor) -> str:
    return " x ".join(str(side) for side in values.shape[1:])


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _rows(found: Results, coordinates: dict, arm: str, direction: str, where: str, printed: dict) -> list[dict]:
    """One row a measure; ``candidates`` come with them, since a rank means nothing without."""
    coordinates = coordinates | {"direction": direction, "candidates": len(found.owners(where))}
    rows = []
    for measure in MEASURES:
        if arm == "chance":
            value = found.chance(measure, where)
            ours = Estimate(value, value, value, found.resampling.n, 0)
        else:
            ours = found.estimate(arm, measure, one(direction, where))
        rows.append(tables.row(coordinates | {"measure": measure}, printed.get(measure), ours, found.corpus))
    return rows


def table_2(found: Results) -> pd.DataFrame:
    """Table 2: both directions, in three conditions, of the paper's models, random weights and chance.

    The paper's numbers are of its own sets, of which II and III are not distributed: another experiment.
    """
    rows = []
    for condition in CONDITIONS:
        for arm in (*MODELS, "untrained", "chance"):
            for k, direction in enumerate(DIRECTIONS):
                printed = published.PASSAGE_TABLE_2[condition].get(arm)
                printed = dict(zip(published.PASSAGE_MEASURES, printed[k], strict=True)) if printed else {}
                rows += _rows(found, {"condition": condition, "model": ARMS[arm]}, arm, direction, condition, printed)
    return tables.tidy(rows)


#: pairs of arms whose difference says something: with - without
DIFFERENCES = (
    ("rnn", "snippet"),
    ("rnn-ft-cca", "snippet"),
    ("rnn-ft", "rnn"),
    ("rnn-ft-cca", "rnn-ft"),
    ("rnn-fz", "rnn"),
    ("rnn-fz-cca", "rnn"),
    ("rnn", "fixed-gru"),
    ("rnn-fz-cca", "fixed-gru-fz-cca"),
)


def table_differences(found: Results) -> pd.DataFrame:
    """Differences of MRR, paired over pieces, in every condition and direction."""
    rows = []
    for arm, other in DIFFERENCES:
        if not (found.planned(arm) and found.planned(other)):
            continue
        for direction, condition in CELLS:
            own = [published.PASSAGE_TABLE_2[condition].get(a) for a in (arm, other)]
            k, mrr = DIRECTIONS.index(direction), published.PASSAGE_MEASURES.index("MRR")
            paper = round(own[0][k][mrr] - own[1][k][mrr], 3) if all(own) else None
            ours = found.difference(arm, other, "MRR", one(direction, condition))
            coordinates = {"MRR of": ARMS[arm], "minus": ARMS[other], "condition": condition, "direction": direction}
            rows.append(tables.row(coordinates, paper, ours, found.corpus))
    return tables.tidy(rows)


def table_voters(found: Results) -> pd.DataFrame:
    """BL, condition I, by how many of the nearest snippets vote for each query snippet: the paper does not say."""
    rows = []
    for voters in VOTERS:
        for direction in DIRECTIONS:
            rows += _rows(found, {"voters": voters}, "snippet", direction, f"voters/{voters}", {})
    return tables.tidy(rows)


def table_3(found: Results) -> pd.DataFrame:
    """Table 3: MRR of BL and RNN at five tempi; ``rendered`` is how fast the passages are played that came nearest."""
    rows = []
    played = {tempo: rendered(found.data, tempo) for tempo in TEMPI}
    for arm in ("snippet", "rnn"):
        for k, direction in enumerate(DIRECTIONS):
            for tempo, paper in zip(TEMPI, published.PASSAGE_TABLE_3[arm][k], strict=True):
                where = f"tempi/{tempo:g}"
                coordinates = {"model": ARMS[arm], "direction": direction, "times as fast": tempo,
                               "rendered": played[tempo], "candidates": len(found.owners(where))}  # fmt: skip
                ours = found.estimate(arm, "MRR", one(direction, where))
                rows.append(tables.row(coordinates, paper, ours, found.corpus))
    return tables.tidy(rows)


def rendered(data: Data, tempo: float) -> str:
    """How many times as fast as notated the renderings are that stand for a tempo: one number, or a range."""
    speeds = [round(1 / tempo_ratio(p.performance), 2) for p in data.at_tempo(tempo)]
    return f"{min(speeds):g}" if min(speeds) == max(speeds) else f"{min(speeds):g} to {max(speeds):g}"


# -- the paper's figures -----------------------------------------------------------------------------------------------


def figure_1(data: Data) -> pd.DataFrame:
    """Figure 1: how many training passages, every rendering, last how long; the last bin has all longer ones too."""
    seconds = [p.seconds for p in _training(data)]
    counts, edges = np.histogram(np.minimum(seconds, BINS[-1]), BINS)
    return pd.DataFrame({"from (s)": edges[:-1].round(1), "to (s)": edges[1:].round(1), "passages": counts})


def _training(data: Data) -> list[Passage]:
    return [p for piece in data.split["train"] for take in data.renderings(piece) for p in data.passages(piece, take)]


def figure_3(found: Results) -> pd.DataFrame:
    """Figure 3: MRR of RNN by the size of the embedding, condition I.  The paper prints no numbers but those of 64."""
    rows = []
    for size in sorted({64, *found.preset.dimensions}):
        for k, direction in enumerate(DIRECTIONS):
            printed = published.PASSAGE_TABLE_2["I"]["rnn"][k][published.PASSAGE_MEASURES.index("MRR")]
            ours = found.estimate(_sized(size), "MRR", one(direction, "I"))
            coordinates = {"dimensions": size, "direction": direction, "candidates": found.candidates["I"]}
            rows.append(tables.row(coordinates, printed if size == 64 else None, ours, found.corpus))
    return tables.tidy(rows)


def _sized(size: int) -> str:
    return "rnn" if size == 64 else f"rnn-d{size}"


def figure_4(found: Results) -> pd.DataFrame:
    """Figure 4: of every test passage its seconds, the distance of its two sides, and its rank from sheet to audio.

    The first seed of RNN; empty where that run has not been made.
    """
    record = found.records.get(f"rnn-s{found.preset.seeds[0]}")
    rows = []
    if record:
        ranks = record["result"]["test"]["I"]["sheet to audio"]
        for passage, distance, rank in zip(found.data.test("I"), record["result"]["distances"], ranks, strict=True):
            rows.append((passage.piece, passage.system, round(passage.seconds, 2), distance, rank))
    numbers = {"system": int, "seconds": float, "distance": float, "rank": int}
    return pd.DataFrame(rows, columns=["piece", *numbers]).astype(numbers)


def figure_4_read(points: pd.DataFrame) -> pd.DataFrame:
    """What Figure 4 is read for: by duration the number of passages, their mean distance, MRR from sheet to audio."""
    rows = []
    for low, high in zip(DURATIONS, DURATIONS[1:], strict=False):
        own = points[(points["seconds"] >= low) & (points["seconds"] < high)]
        label = f"{low} to {high}" if np.isfinite(high) else f"{low} and more"
        about = (own["distance"].mean(), (1 / own["rank"]).mean()) if len(own) else (np.nan, np.nan)
        rows.append((label, len(own), *np.round(about, 3)))
    return pd.DataFrame(rows, columns=["seconds", "passages", "mean distance", "MRR"])


# -- what the paper lacks ----------------------------------------------------------------------------------------------


def table_controls(found: Results) -> pd.DataFrame:
    """Condition I, both directions: RNN, the models that the paper lacks, BL through its other projections, chance."""
    rows = []
    for arm in found.present(("rnn", *CONTROLS)):
        for direction in DIRECTIONS:
            rows += _rows(found, {"model": ARMS[arm]}, arm, direction, "I", {})
    other, label = ("refined/I", "BL, projections of many pairs")
    if found.preset.cca_in_training:
        other, label = ("plain/I", "BL, projections of the last batch")
    for direction in DIRECTIONS:
        rows += _rows(found, {"model": label}, "snippet", direction, other, {})
    return tables.tidy(rows)


def table_chance(found: Results) -> pd.DataFrame:
    """How many times chance the MRR of every model is, in condition I; by chance it is the mean of all 1 / rank."""
    rows, chance = [], found.chance("MRR")
    for arm in found.present([arm for arm in ARMS if arm not in ("chance", "untrained")]):
        for direction in DIRECTIONS:
            e = found.estimate(arm, "MRR", one(direction, "I"))
            times = None if e is None else round(e.value / chance, 1)
            enough = tables.NOT_RUN if e is None else "yes" if e.value >= TENFOLD * chance else "no"
            rows.append((ARMS[arm], direction, found.candidates["I"], round(chance, 4),
                         None if e is None else round(e.value, 4), times, enough, found.corpus))  # fmt: skip
    columns = ["model", "direction", "candidates", "chance", "MRR", "times chance", f"{TENFOLD} times", "corpus"]
    return pd.DataFrame(rows, columns=columns)


def called_out(chances: pd.DataFrame) -> str:
    """Which models of :func:`table_chance` do not beat chance by an order of magnitude, in a sentence."""
    made = chances[chances["MRR"].notna()]
    below = made[made[f"{TENFOLD} times"] == "no"]
    if made.empty:
        return "No model has been made."
    if below.empty:
        return "Every model that was made is an order of magnitude above chance."
    named = [
        f"{m} ({' and '.join(map('{:g}'.format, own))})"
        for m, own in below.groupby("model", sort=False)["times chance"]
    ]
    first = chances.iloc[0]
    limit = (
        f"{TENFOLD} times chance is an MRR of {TENFOLD * first['chance']:.3f} among {first['candidates']} candidates."
    )
    return f"NOT an order of magnitude above chance (times chance): {', '.join(named)}. {limit}"


# -- claims ------------------------------------------------------------------------------------------------------------

NOTICEABLE = 0.02  # of the MRR: less is no noticeable improvement, and no growth


def _combined(found: Results, combine: Callable, *scores: tuple) -> Estimate | None:
    """A number made of several scores (arm, cells) in MRR, draw by draw; None until every run has been made."""
    draws = [found.settled(arm, "MRR", cells) for arm, cells in scores]
    if any(d is None for d in draws):
        return None
    return found.resampling.estimate(combine(*draws), min(found.seeds(arm) for arm, _ in scores))


def _over(arm: str, other: str, cells: Sequence[tuple[str, str]] = CELLS) -> Callable[[Results], Estimate | None]:
    """MRR of an arm minus that of another, the mean over cells."""
    return lambda found: _combined(found, np.subtract, *((a, mean_of(cells)) for a in (arm, other)))


def _least(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """Of differences that are all said to be above a bound the least, and the least of both ends of their intervals.

    The claim holds where every interval lies above the bound, and not where a single one lies below it.  The draws of a
    minimum would lie below what they are draws of.
    """
    if not estimates or any(e is None for e in estimates):
        return None
    least = {key: min(getattr(e, key) for e in estimates) for key in ("value", "low", "high", "seeds")}
    return replace(estimates[0], **least)


def _everywhere(arm: str, *others: str) -> Callable[[Results], Estimate | None]:
    """MRR of an arm minus that of each other one in each cell."""

    def quantity(found: Results) -> Estimate | None:
        return _least([_over(arm, other, (cell,))(found) for other in others for cell in CELLS])

    return quantity


BACK = tuple(((1.0, DIRECTIONS[1], c), (-1.0, DIRECTIONS[0], c)) for c in CONDITIONS)  # sheet to audio minus the other


def _backwards(found: Results) -> Estimate | None:
    """Sheet to audio minus audio to sheet, the mean of all models and conditions."""
    every = tuple((weight / len(BACK), *cell) for terms in BACK for weight, *cell in terms)
    return _combined(found, lambda *draws: np.mean(draws, 0), *((arm, every) for arm in MODELS))


def _always_backwards(found: Results) -> Estimate | None:
    """The same of each model in each condition."""
    return _least([_combined(found, np.asarray, (arm, terms)) for arm in MODELS for terms in BACK])


def _gap(direction: str) -> Callable[[Results], Estimate | None]:
    """By how much less RNN-FT-CCA loses from I to III than BL does."""
    lost = ((1.0, direction, "I"), (-1.0, direction, "III"))
    return lambda found: _combined(found, np.subtract, ("snippet", lost), ("rnn-ft-cca", lost))


def _slowed(found: Results) -> Estimate | None:
    """By how much less RNN loses at half the tempo than BL does, the mean of both directions."""
    lost = tuple((sign, d, where) for d in DIRECTIONS for sign, where in ((0.5, "tempi/1"), (-0.5, "tempi/0.5")))
    return _combined(found, np.subtract, ("snippet", lost), ("rnn", lost))


BOTH = tuple((direction, "I") for direction in DIRECTIONS)


def _larger(found: Results) -> Estimate | None:
    """MRR of 64 dimensions minus that of each size above."""
    return _least([_over("rnn", _sized(size), BOTH)(found) for size in found.preset.dimensions if size > 64])


def _smaller(found: Results) -> Estimate | None:
    """MRR of 64 dimensions minus that of the fewest."""
    size = min((64, *found.preset.dimensions))
    return None if size == 64 else _over("rnn", _sized(size), BOTH)(found)


def _trend(found: Results) -> Estimate | None:
    draws = found.trend("rnn")
    return None if draws is None else found.resampling.estimate(draws, found.seeds("rnn"))


_ALL = "mean over conditions and directions"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "the recurrent model beats voting in every condition and direction",
        "Section 3.2, Table 2",
        ".031 to .052 MRR",
        "smallest difference of MRR, RNN - BL, over conditions and directions above 0",
        _everywhere("rnn", "snippet"),
        below=False,
    ),
    Claim(
        "the recurrent model is better than voting",
        "Section 3.2, Table 2",
        ".041 MRR",
        f"MRR of RNN - that of BL, {_ALL}, above 0",
        _over("rnn", "snippet"),
        below=False,
    ),
    Claim(
        "pre-trained and fine-tuned, with refined projections, it beats voting from audio to sheet",
        "Section 3.2, Table 2",
        ".692 and .592",
        "MRR of RNN-FT-CCA - that of BL, condition I, audio to sheet, above 0",
        _over("rnn-ft-cca", "snippet", BOTH[:1]),
        below=False,
    ),
    Claim(
        "pre-training that is fine-tuned helps",
        "Section 3.2, Table 2",
        ".046 MRR",
        f"MRR of RNN-FT - that of RNN, {_ALL}, above 0",
        _over("rnn-ft", "rnn"),
        below=False,
    ),
    Claim(
        "refined projections help the fine-tuned model",
        "Section 3.2, Table 2",
        ".046 MRR",
        f"MRR of RNN-FT-CCA - that of RNN-FT, {_ALL}, above 0",
        _over("rnn-ft-cca", "rnn-ft"),
        below=False,
    ),
    Claim(
        "fine-tuned with refined projections is best in every condition and direction",
        "Section 3.2, Table 2",
        ".024 to .071 MRR above the next",
        "smallest difference of MRR, RNN-FT-CCA - another model, over models, conditions and directions above 0",
        _everywhere("rnn-ft-cca", *(arm for arm in MODELS if arm != "rnn-ft-cca")),
        below=False,
    ),
    Claim(
        "frozen encoders are no noticeable improvement",
        "Section 3.2, Table 2",
        "-.011 MRR",
        f"MRR of RNN-FZ - that of RNN, {_ALL}, below {NOTICEABLE}",
        _over("rnn-fz", "rnn"),
        bound=NOTICEABLE,
    ),
    Claim(
        "nor are they with refined projections",
        "Section 3.2, Table 2",
        ".008 MRR",
        f"MRR of RNN-FZ-CCA - that of RNN, {_ALL}, below {NOTICEABLE}",
        _over("rnn-fz-cca", "rnn"),
        bound=NOTICEABLE,
    ),
    Claim(
        "sheet to audio is better than audio to sheet",
        "Section 3.2, Table 2",
        ".043 MRR",
        "MRR of sheet to audio - that of audio to sheet, mean over all models and conditions, above 0",
        _backwards,
        below=False,
    ),
    Claim(
        "and so it is for every model in every condition",
        "Section 3.2, Table 2",
        ".006 to .076 MRR",
        "smallest difference of MRR, sheet to audio - audio to sheet, over all models and conditions above 0",
        _always_backwards,
        below=False,
    ),
    Claim(
        "quality grows until 64 dimensions",
        "Section 3.1, Figure 3",
        "a curve without numbers",
        "MRR of 64 dimensions - that of the fewest, condition I, mean over directions, above 0",
        _smaller,
        below=False,
    ),
    Claim(
        "and no further",
        "Section 3.1, Figure 3",
        "a curve without numbers",
        "smallest difference of MRR, 64 dimensions - a size above, condition I, mean over directions, above "
        f"-{NOTICEABLE}",
        _larger,
        bound=-NOTICEABLE,
        below=False,
    ),
    Claim(
        "the recurrent model loses less at half the tempo",
        "Section 3.3, Table 3",
        ".12 and .10, .09 and .07 MRR",
        "loss of MRR from the notated to half the tempo, BL - RNN, mean over directions, above 0",
        _slowed,
        below=False,
    ),
    *(
        Claim(
            f"from synthetic to real the best model loses less than voting, {direction}",
            "Section 3.2, Table 2",
            paper,
            f"loss of MRR from I to III, BL - RNN-FT-CCA, {direction}, above 0",
            _gap(direction),
            below=False,
        )
        for direction, paper in zip(DIRECTIONS, (".036 MRR", ".06 MRR"), strict=True)
    ),
    Claim(
        "longer passages lie farther from their counterparts",
        "Section 3.4, Figure 4",
        "a scatter without numbers",
        "slope of the distance of right pairs over their seconds, RNN, condition I, above 0",
        _trend,
        below=False,
    ),
    Claim(
        "training the GRU matters",
        "control: the released code never trains it",
        "",
        f"MRR of RNN - that of RNN with a GRU that is not trained, {_ALL}, above 0",
        _over("rnn", "fixed-gru"),
        below=False,
    ),
    Claim(
        "and so it does on frozen encoders",
        "control: the released models",
        "",
        f"MRR of RNN-FZ-CCA - that with a GRU that is not trained, {_ALL}, above 0",
        _over("rnn-fz-cca", "fixed-gru-fz-cca"),
        below=False,
    ),
    Claim(
        "the paper's widths are better than half of them",
        "control",
        "",
        f"MRR of RNN of the paper's widths - that of RNN, {_ALL}, above 0",
        _over("rnn-full", "rnn"),
        below=False,
    ),
    Claim(
        "a softmax over the batch learns more than the published margins",
        "control",
        "",
        f"MRR of RNN - that of RNN with margins, as many updates, {_ALL}, above 0",
        _over("rnn", "ranking"),
        below=False,
    ),
    Claim(
        "and so do snippets that vote",
        "control",
        "",
        f"MRR of BL - that of BL with margins through a CCA layer, as many updates, {_ALL}, above 0",
        _over("snippet", "snippet-ranking"),
        below=False,
    ),
    Claim(
        "a GRU is better than a mean of the snippets",
        "control",
        "",
        f"MRR of RNN - that with a mean in place of the GRU, {_ALL}, above 0",
        _over("rnn", "mean"),
        below=False,
    ),
    Claim(
        "keeping renderings of one system apart helps",
        "control: the released code does not",
        "",
        f"MRR of RNN - that with renderings as negatives, {_ALL}, above 0",
        _over("rnn", "ungrouped"),
        below=False,
    ),
)


def trainings(found: Results) -> dict[str, int | None]:
    """Of each claim how many trainings of the arm that has fewest stand behind it; None where it waits for runs."""
    estimates = {claim.text: claim.quantity(found) for claim in CLAIMS}
    return {text: None if e is None else e.seeds for text, e in estimates.items()}


def from_bounds(judged: pd.DataFrame) -> pd.DataFrame:
    """The numbers of verdicts as distances from the bounds of their rules: 0 is where a claim begins to hold."""
    bounds = judged["claim"].map({claim.text: claim.bound for claim in CLAIMS})
    return judged.assign(**{column: judged[column].astype(float) - bounds for column in ("ours", "low", "high")})


# -- what the notebook shows -------------------------------------------------------------------------------------------


def settings_table(data: Data, preset: str) -> pd.DataFrame:
    """The resolved configuration beside the paper's, or where the paper is silent that of its code."""
    p, paper = PRESETS[preset], PRESETS["paper"]
    losses = {"ranking": "the same", "infonce": "softmax over the batch, both sides are anchors (InfoNCE)"}

    def schedule(t: Training) -> str:
        return f"{t.schedule}, {t.learning_rate:g}" + (f" after {t.patience} epochs" if t.schedule == "halving" else "")

    def seen(t: Training) -> str:
        return f"{t.updates * t.batch:,} in {t.updates:,} updates of {t.batch}"

    def optimiser(t: Training) -> str:
        return f"{t.optimiser}, weight decay {t.weight_decay:g}"

    fonts = {part: set() for part in ("train", "test")}
    for part, own in fonts.items():
        for piece in data.split[part]:
            takes = data.renderings(piece) if part == "train" else [data.pieces.fixed(piece).performance]
            own |= {soundfont(take) for take in takes}
    counts = published.PASSAGE_COUNTS
    rows = [
        ("collection", "MSMD, and scans and recordings that are not distributed", data.name),
        ("instruments of training", "3 SoundFonts", ", ".join(sorted(fonts["train"]))),
        ("instrument of the test", "a fourth SoundFont", ", ".join(sorted(fonts["test"]))),
        ("tempi of training", "0.9 to 1.1", "0.9 to 1.1 of the notated seconds"),
        ("snippets of a page", "160 x 180 pixels", f"the same, halved; every {SHEET_HOP} halved pixels"),
        ("snippets of sound", "92 bands x 20 frames, 1 s", f"{filterbank.BANDS} x 20; every {AUDIO_HOP} frames"),
        ("highest frequency", "not said; 6 kHz in the code", "6 kHz"),
        ("maps of the encoders", ", ".join(map(str, PAPER)), ", ".join(map(str, WIDTHS[p.widths]))),
        ("vector of a snippet, GRU, embedding", "32, 128, 64", f"{CODE}, {HIDDEN}, 64"),
        ("candidates", f"{counts['test']}", ", ".join(f"{c}: {len(data.test(c))}" for c in CONDITIONS)),
        ("loss", "margins, not said how wide; .3 in the code, .6 for snippets; sheets are anchors", losses[p.loss]),
        ("CCA layer of the snippet model", f"in training; a ridge of {RIDGE:g} in the code",
         f"{'in' if p.cca_in_training else 'after'} training; a ridge of {p.ridge:g}"),
        ("passages seen", seen(paper.passages), seen(p.passages)),
        ("snippet pairs seen", seen(paper.snippets), seen(p.snippets)),
        ("rate, passages", schedule(paper.passages), schedule(p.passages)),
        ("rate, snippets", schedule(paper.snippets), schedule(p.snippets)),
        ("optimiser, passages", optimiser(paper.passages), optimiser(p.passages)),
        ("optimiser, snippets", optimiser(paper.snippets), optimiser(p.snippets)),
        ("validation", "2,048 passages in the code", f"at most {p.validation:,} passages or pairs"),
        ("refinement of the projections", "25,000 pairs in the code", f"at most {p.refinement:,} pairs"),
        ("votes of BL", "not said", "25 nearest of each snippet"),
        ("embedding sizes", "16 to 1024", ", ".join(map(str, sorted({64, *p.dimensions})))),
        ("arithmetic", "fp32", p.passages.precision),
        ("seeds", "1", f"{len(p.seeds)}, of RNN-FT and controls 1" if len(p.seeds) > 1 else "1"),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["setting", "paper", "ours"])


def data_table(data: Data) -> pd.DataFrame:
    """Pieces, systems, passages at the notated tempo and in all renderings, of every part; the paper's beside them."""
    rows, counts = [], published.PASSAGE_COUNTS
    for part in PARTS:
        own = data.fixed(part)
        seconds = np.array([p.seconds for p in own])
        every = _training(data) if part == "train" else []
        rows.append(
            {
                "part": part,
                "pieces": len(data.split[part]),
                "pieces, paper": published.PASSAGE_PIECES[part],
                "systems": sum(len(data.pieces.get(piece).edges) - 1 for piece in data.split[part]),
                "passages": len(own),
                "passages, paper": counts.get(part),
                "passages of all renderings": len(every) if every else None,
                "those, paper": counts["augmented"] if every else None,
                "seconds, median": round(float(np.median(seconds)), 1),
                f"above {LONG:g} s": round(float((seconds > LONG).mean()), 3),
                "corpus": data.name,
            }
        )
    whole = ("passages, paper", "passages of all renderings", "those, paper")
    return pd.DataFrame(rows).astype(dict.fromkeys(whole, "Int64"))


def conditions_table(data: Data) -> pd.DataFrame:
    """What each condition is, how many candidates it has, and on what it is played."""
    played = sorted({soundfont(p.performance) for p in data.test("I")})
    lively = sum(data.pieces.expressive(piece) is not None for piece in data.split["test"])
    reprinted = sum(map(data.corpus.has_other_edition, data.split["test"]))
    rows = []
    for condition, about in SETS.items():
        sound = ", ".join(played)
        if condition == "III":
            sound = f"{reallike.instrument()}, {lively} pieces with a bent tempo"
        counts = len(data.test(condition)), published.PASSAGE_COUNTS["test"], 0 if condition == "I" else reprinted
        rows.append((condition, about, *counts, sound, data.name))
    columns = ["condition", "what it is", "candidates", "candidates, paper", "pieces in another edition", "played on"]
    return pd.DataFrame(rows, columns=[*columns, "corpus"])


def candidates_note(data: Data) -> str:
    """How near the test comes to the paper's 534 passages of 94 pieces, and what makes the difference."""
    ours, pieces = len(data.test("I")), len(data.split["test"])
    systems = sum(len(data.pieces.get(piece).edges) - 1 for piece in data.split["test"])
    paper, theirs = published.PASSAGE_COUNTS["test"], published.PASSAGE_PIECES["test"]
    text = (
        f"{ours} test passages of {pieces} pieces, {ours / pieces:.1f} a piece; in the paper {paper} of {theirs}, "
        f"{paper / theirs:.1f} a piece."
    )
    if data.skipped:
        text += f" {len(data.skipped)} pieces of the split could not be used."
    if systems > ours:
        text += f" In {systems - ours} systems no note begins that is played, or none has a frame of its own."
    if pieces == theirs:
        text += " The pieces are as many; our engraving breaks their lines elsewhere."
    else:
        text += f" The test has {pieces} pieces and not {theirs}: ranks among other candidates cannot be compared."
    return text


def freely_shown(data: Data) -> list[str]:
    """Test pieces whose pages and sound anybody may publish, the shortest first."""
    return data.pieces.by_length(sheets.freely_shown(data.corpus, data.split["test"]))


def example(data: Data, piece: str) -> dict[str, Passage]:
    """A passage from the middle of a piece; of the other edition the line that shares most of it, in both sounds."""
    own = {condition: [p for p in data.test(condition) if p.piece == piece] for condition in CONDITIONS}
    first = own["I"][len(own["I"]) // 2]
    scan = max(own["II"], key=lambda p: min(p.frames[1], first.frames[1]) - max(p.frames[0], first.frames[0]))
    return {"I": first, "II": scan, "III": min(own["III"], key=lambda p: abs(p.system - scan.system))}


def strips(data: Data, passages: dict[str, Passage]) -> dict[str, np.ndarray]:
    """The lines of an example as engraved, and of the other edition as if scanned, (200, columns) uint8 each."""
    cuts = {c: np.asarray(data.image(p.piece, c)[:, slice(*p.columns)]) for c, p in passages.items()}
    return {"I: as engraved": cuts["I"], "II and III: another edition as if scanned (a stand-in)": cuts["II"]}


def spectrograms(data: Data, passages: dict[str, Passage]) -> dict[str, np.ndarray]:
    """The same in sound, (92, frames): as rendered, and as if recorded."""
    cuts = {c: np.asarray(data.sound(p, c)[:, slice(*p.frames)]) for c, p in passages.items()}
    return {"I: rendered": cuts["I"], "III: as if recorded (a stand-in)": cuts["III"]}


def snippets(data: Data, passages: dict[str, Passage]) -> list[dict[str, np.ndarray]]:
    """What the encoders see of an example, condition I: the first six snippets of each side."""
    own = passages["I"]
    pages, sound = sheet_snippets(data.image(own.piece), own.columns), audio_snippets(data.sound(own), own.frames)
    return [
        {f"page {k} of {len(pages)}": page for k, page in enumerate(pages[:6], 1)},
        {f"sound {k} of {len(sound)}": part for k, part in enumerate(sound[:6], 1)},
    ]


def sounds(data: Data, passages: dict[str, Passage]) -> np.ndarray:
    """(samples,) at synthesis.SAMPLE_RATE: the example played anew from its notes, then as if recorded.

    Corpora in this layout hold no audio, and the instrument of the first is whichever is installed.
    """
    rate, rendered_ = synthesis.SAMPLE_RATE, passages["I"]
    first, last = (frame / FRAMES_PER_SECOND for frame in rendered_.frames)
    notes = data.corpus.notes(rendered_.piece, rendered_.performance)
    own = [
        Played(max(0.0, float(onset - first)), float(min(duration, last - onset)), int(pitch), int(velocity))
        for onset, pitch, duration, velocity, _ in notes
        if first - 1 / FRAMES_PER_SECOND < onset <= last - 1 / FRAMES_PER_SECOND  # frames are onsets rounded up
    ]
    plain = synthesis.synthesise(own, synthesis.available_soundfont(), tail=0.5)
    live = passages["III"]
    lively = real_like_sound(data.corpus, live.piece, live.performance)
    cut = lively[slice(*(round(frame / FRAMES_PER_SECOND * rate) for frame in live.frames))]
    return np.concatenate([plain, np.zeros(rate // 2, np.float32), cut])


def curves(found: Results) -> pd.DataFrame:
    """1 - MRR of validation passages, for BL of validation snippets, by items seen; first seed."""
    panels = {}
    for name, run in found.grid.runs.items():
        arm = name.rpartition("-s")[0]
        if run.config.training and run.config.seed == found.preset.seeds[0]:
            panels[name] = "snippets (BL)" if arm == "snippet" else "models" if arm in MODELS else "controls"
    return found.curves(panels)


def write_metrics(found: Results, judged: pd.DataFrame, path: Path) -> dict:
    """The main figures, for other programs to read, as ``metrics.json``."""

    def numbers(arms: Sequence[str], measure: str, direction: str, where: str) -> dict:
        made = {arm: found.estimate(arm, measure, one(direction, where)) for arm in found.present(arms)}
        return {arm: None if e is None else round(e.value, 4) for arm, e in made.items()}

    arms = [arm for arm in ARMS if arm != "chance"]
    seeds, sizes = trainings(found), sorted({64, *found.preset.dimensions})
    chances = table_chance(found)
    below = chances[chances[f"{TENFOLD} times"] == "no"]
    metrics_ = {
        "corpus": found.corpus,
        "preset": found.grid.preset,
        "test pieces": len(found.data.split["test"]),
        "candidates": found.candidates,
        "chance": {measure: round(found.chance(measure), 4) for measure in MEASURES},
        "retrieval": {
            condition: {d: {m: numbers(arms, m, d, condition) for m in MEASURES} for d in DIRECTIONS}
            for condition in CONDITIONS
        },
        "mrr by voters": {
            d: {str(k): numbers(["snippet"], "MRR", d, f"voters/{k}").get("snippet") for k in VOTERS}
            for d in DIRECTIONS
        },
        "mrr by tempo": {
            d: {f"{t:g}": numbers(["snippet", "rnn"], "MRR", d, f"tempi/{t:g}") for t in TEMPI} for d in DIRECTIONS
        },
        "mrr by dimensions": {
            d: {str(size): numbers([_sized(size)], "MRR", d, "I").get(_sized(size)) for size in sizes}
            for d in DIRECTIONS
        },
        "below ten times chance": sorted(set(below["model"])),
        "verdicts": dict(judged["verdict"].value_counts().sort_index().items()),
        "claims from one training": [text for text, count in seeds.items() if count == 1],
        "runs": found.made(),
    }  # fmt: skip
    files.write_json(path, metrics_)
    return metrics_
