"""One run of study 3: its pairs, its training, and how well it finds pairs, pieces and places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ... import dtw, files, filterbank, metrics
from ...corpora.msmd import EXPRESSIVE, PARTS, Msmd, soundfont, tempo_ratio
from ...errors import DuetError
from ...filterbank import FRAMES_PER_SECOND
from ...losses import matching_loss
from ...models.encoders import TwoTowers, in_batches
from ...progress import Progress
from ...runs import Run
from ...snippets import (
    Pieces,
    Take,
    evenly,
    excerpt,
    frame_of,
    opened,
    published_column,
    require,
    shortest,
    window,
)
from ...training import device, epoch_rng, save_weights, train_run
from .aligner import (
    FRAMES,
    NETWORKS,
    Alignment,
    Embedded,
    align,
    confidence,
    embed_recording,
    embed_strip,
    reduce_pictures,
)
from .grid import KEY, PRESETS, Augmentation, Config, Preset

# -- data --------------------------------------------------------------------------------------------------------------


@dataclass
class Data:
    """A corpus, and which of its pieces are trained on and tested.

    ``splits``: "composer" and "all", each with train, valid and test pieces.  Both are tested on the same ones, by
    other composers than the one that "composer" knows.
    """

    corpus: Msmd
    pieces: Pieces
    splits: dict[str, dict[str, list[str]]]
    preset: Preset
    skipped: dict[str, str]

    @property
    def name(self) -> str:
        return self.corpus.name

    @cached_property
    def fingerprint(self) -> str:
        parts = [p for split in self.splits.values() for part in PARTS for p in ("|", *split[part])]
        return files.digest(self.corpus.fingerprint, *parts)

    @property
    def test(self) -> list[str]:
        return self.splits["composer"]["test"]

    @cached_property
    def pool(self) -> list[Pair]:
        """The test pairs, candidates and queries alike: every onset, or evenly spaced ones of them."""
        every = [pair for piece in self.test for pair in self.pairs([self.pieces.fixed(piece)])]
        return evenly(every, self.preset.candidates)

    def takes(self, pieces: Sequence[str], augmentation: Augmentation) -> list[Take]:
        """The performances of training pieces that an augmentation lets in; ones with rubato are kept for tests."""
        takes = []
        for piece in pieces:
            fixed = self.pieces.fixed(piece)
            own = [p for p in self.pieces.get(piece).performances if not p.endswith(EXPRESSIVE)]
            allowed = self.instruments[: augmentation.synths or None]
            takes += [
                Take(piece, p)
                for p in own
                if p == fixed.performance or (soundfont(p) in allowed and (augmentation.tempi or tempo_ratio(p) == 1))
            ]
        return takes

    @cached_property
    def instruments(self) -> list[str]:
        """Of the training pieces: the one of the fixed performances first, then as the corpus names them."""
        own = self.splits["all"]["train"]
        first = soundfont(self.pieces.fixed(own[0]).performance)
        others = {soundfont(p) for piece in own for p in self.pieces.get(piece).performances} - {first}
        order = [first, *self.corpus.description.get("settings", {}).get("instruments", ()), *sorted(others)]
        return [name for name in dict.fromkeys(order) if name in others or name == first]

    def pairs(self, takes: Sequence[Take]) -> list[Pair]:
        """Every onset.  Near the ends there is silence in the excerpt and white paper in the window."""
        found = []
        for take in takes:
            frames, columns = self.pieces.get(take.piece).pairs(take.performance)
            found += [Pair(take, int(f), float(c)) for f, c in zip(frames, columns, strict=True)]
        return found


class Pair(NamedTuple):
    """A place in a performance, in frames, and in the strip, in columns."""

    take: Take
    frame: int
    column: float


def prepare(preset: str, corpus: str = "", progress: bool = False) -> Data:
    """The corpus with its strips.  ``corpus`` is a folder in MSMD layout; without one the preset's open corpus."""
    p = PRESETS[preset]
    pieces, every, skipped = opened(preset, p.corpus, corpus, p.split, progress)
    one = one_composer(every, p.composer, p.held_out)
    require(pieces.corpus, one, f" for {p.composer}")
    one["test"] = shortest(pieces, one["test"], p.tested)
    return Data(pieces.corpus, pieces, {"composer": one, "all": {**every, "test": one["test"]}}, p, skipped)


def one_composer(split: dict[str, list[str]], composer: str, held_out: Sequence[str]) -> dict[str, list[str]]:
    """Training and validation on one composer, tests on the others.

    Validation has the composer's own validation pieces and those training pieces whose names begin with one of
    ``held_out``: a whole work, as the paper validates on one sonata.
    """
    own = {part: [p for p in split[part] if p.split("__")[0] == composer] for part in PARTS}
    moved = [p for p in own["train"] if p.startswith(tuple(held_out))] if held_out else []
    return {
        "train": [p for p in own["train"] if p not in moved],
        "valid": own["valid"] + moved,
        "test": [p for p in split["test"] if p not in own["test"]],
    }


# -- what the network sees ---------------------------------------------------------------------------------------------


class Cutter:
    """Pairs as the network reads them, altered at random where a generator is given."""

    def __init__(self, data: Data, config: Config):
        self.data, self.config = data, config
        self.network = NETWORKS[config.network]

    def sheets(self, pairs: Sequence[Pair], rng: np.random.Generator | None = None) -> Tensor:
        """(B, 1, rows, columns) in [0, 1], paper is 1."""
        a = self.config.augmentation if rng else Augmentation()
        pictures = []
        for pair in pairs:
            image = self.data.pieces.get(pair.take.piece).image
            column = pair.column
            if self.config.published_cut:
                column = published_column(column, image.shape[1])
            scale = rng.uniform(1 - a.scale, 1 + a.scale) if a.scale else 1.0
            down = int(rng.integers(-a.vertical, a.vertical + 1)) if a.vertical else 0
            across = int(rng.integers(-a.horizontal, a.horizontal + 1)) if a.horizontal else 0
            pictures.append(window(image, column + across, *self.network.window, scale, down))
        return reduce_pictures(np.stack(pictures), self.network.reduced)

    def excerpts(self, pairs: Sequence[Pair], rng: np.random.Generator | None = None) -> Tensor:
        """(B, 1, 92, 42) of logarithmic magnitudes."""
        parts = []
        for pair in pairs:
            spectrogram = self.data.pieces.spectrogram(*pair.take)
            late, up = rng.integers(-1, 2, 2) if rng and self.config.augmentation.jitter else (0, 0)
            cut = excerpt(spectrogram, pair.frame + int(late), FRAMES, int(up))
            parts.append(cut / max(float(spectrogram.max()), 1e-6) if self.config.by_maximum else cut)
        return torch.from_numpy(np.stack(parts))[:, None]


# -- training ----------------------------------------------------------------------------------------------------------


def batches(pairs: Sequence[Pair], cutter: Cutter, epoch: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """``count`` batches, walking through all pairs in random order, and again in another one (fact sheet, Section 4).

    Where an epoch is in that walk follows from its number: a resumed training goes on where it was.
    """
    size, seed = cutter.config.training.batch, cutter.config.seed
    per_pass = len(pairs) // size
    if not per_pass:
        raise DuetError(f"{len(pairs)} training pairs do not fill a batch of {size}", remedy="take a larger corpus")
    rng, order, known = epoch_rng(seed, epoch), None, -1
    for number in range(epoch * count, (epoch + 1) * count):
        walk, place = divmod(number, per_pass)
        if walk != known:
            order, known = np.random.default_rng([seed, 2, walk]).permutation(len(pairs)), walk
        own = [pairs[k] for k in order[place * size : (place + 1) * size]]
        yield cutter.sheets(own, rng), cutter.excerpts(own, rng)


def loss_of(model: TwoTowers, batch: tuple[Tensor, Tensor], config: Config) -> Tensor:
    """Sheets are the anchors, as published; ``symmetric`` adds the other direction."""
    where = next(model.parameters()).device
    sheets, excerpts = model(*(part.to(where) for part in batch))
    with torch.autocast(where.type, enabled=False):
        return matching_loss(sheets, excerpts, "symmetric" if config.symmetric else config.loss, config.margin)


def embed(model: TwoTowers, cutter: Cutter, pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray]:
    """(n, 32) of sheets and of excerpts, unit length."""
    sheets = in_batches(model, model.embed_sheet, pairs, cutter.sheets)
    return sheets, in_batches(model, model.embed_audio, pairs, cutter.excerpts)


def mean_reciprocal_rank(sheets: np.ndarray, excerpts: np.ndarray) -> float:
    """Of both directions: row ``i`` of one belongs to row ``i`` of the other."""
    similarity = sheets @ excerpts.T
    own = np.arange(len(sheets))
    return float(np.mean([metrics.reciprocal(metrics.ranks(-s, own)[0]).mean() for s in (similarity, similarity.T)]))


def fit(run: Run, model: TwoTowers, data: Data, checkpoint: Path, progress: bool) -> dict:
    """Train, choose the epoch on validation pairs; what a record says of it."""
    config = run.config
    cutter = Cutter(data, config)
    split = data.splits[config.pieces]
    training = data.pairs(data.takes(split["train"], config.augmentation))
    validation = evenly(
        [pair for piece in split["valid"] for pair in data.pairs([data.pieces.fixed(piece)])], data.preset.validation
    )
    count = config.training.per_epoch
    curves = train_run(
        run,
        model,
        lambda epoch: batches(training, cutter, epoch, count),
        lambda m, batch: loss_of(m, batch, config),
        lambda m: 1 - mean_reciprocal_rank(*embed(m, cutter, validation)),
        checkpoint,
        progress,
    )
    return {
        "pieces": {part: len(split[part]) for part in PARTS},
        "performances": len({pair.take for pair in training}),
        "pairs": {"train": len(training), "valid": len(validation)},
        **curves,
    }


def refine(model: TwoTowers, data: Data, config: Config) -> None:
    """Projections of many training pairs in place of the last batch's (fact sheet, Section 4)."""
    cutter = Cutter(data, config)
    pairs = data.pairs(data.takes(data.splits[config.pieces]["train"], config.augmentation))
    rng = np.random.default_rng([config.seed, 3])
    chosen = [pairs[k] for k in rng.permutation(len(pairs))[: data.preset.refinement]]
    batches = (chosen[k : k + 64] for k in range(0, len(chosen), 64))
    model.refine((cutter.sheets(own, rng), cutter.excerpts(own, rng)) for own in batches)


# -- pairs -------------------------------------------------------------------------------------------------------------


def contents(data: Data, pairs: Sequence[Pair]) -> np.ndarray:
    """(n,) int: equal for pairs in whose excerpts the same pitches begin at the same times.

    A bar that comes again is another onset but the same music: who finds it instead is not wrong.
    """
    keys: dict[tuple, int] = {}
    numbers, tables = [], {}
    for pair in pairs:
        if pair.take not in tables:
            piece = data.pieces.get(pair.take.piece)
            order = piece.sounding(pair.take.performance)
            tables[pair.take] = piece.seconds(pair.take.performance)[order], piece.pitches[order]
        seconds, pitches = tables[pair.take]
        onset = seconds[np.searchsorted(frame_of(seconds), pair.frame)]
        near = np.flatnonzero(np.abs(seconds - onset) < FRAMES / 2 / FRAMES_PER_SECOND - 0.005)
        sounds = sorted(
            {(round(float(s), 2), int(p)) for s, p in zip(seconds[near] - onset, pitches[near], strict=True)}
        )
        numbers.append(keys.setdefault(tuple(sounds), len(keys)))
    return np.array(numbers)


def retrieval_ranks(queries: np.ndarray, candidates: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """(n,) ranks of each query's own candidate, the row of its number, by cosine; ties count as worse.

    With ``groups`` (n,) of equal content: of the nearest of its group, others of which are left out of the count.
    """
    found = []
    for start in range(0, len(queries), 512):
        distances = -(queries[start : start + 512] @ candidates.T)
        own = np.arange(start, start + len(distances))
        if groups is not None:
            alike = groups[own][:, None] == groups[None]
            nearest = np.where(alike, distances, np.inf).min(1)
            distances[alike] = np.inf
            distances[np.arange(len(own)), own] = nearest
        found.append(metrics.ranks(distances, own)[0])
    return np.concatenate(found)


def test_pairs(model: TwoTowers, data: Data, config: Config) -> tuple[dict, np.ndarray]:
    """Ranks in both directions, by onset and by content; the candidates' sheet embeddings (n, 32)."""
    sheets, excerpts = embed(model, Cutter(data, config), data.pool)
    alike = contents(data, data.pool)
    ranks = {
        "audio to sheet": retrieval_ranks(excerpts, sheets),
        "sheet to audio": retrieval_ranks(sheets, excerpts),
        "audio to sheet, content": retrieval_ranks(excerpts, sheets, alike),
        "sheet to audio, content": retrieval_ranks(sheets, excerpts, alike),
    }
    return {key: values.tolist() for key, values in ranks.items()}, sheets


# -- pieces ------------------------------------------------------------------------------------------------------------

EXCERPTS, NEAREST = 100, 25  # of a recording; of each of them


def votes(queries: np.ndarray, candidates: np.ndarray, owners: np.ndarray, pieces: int, nearest: int = NEAREST):
    """(pieces,) votes: each query's ``nearest`` candidates vote for the piece they are from (paper, Section 5.1)."""
    nearest = min(nearest, len(candidates))
    hits = np.argpartition(-(queries @ candidates.T), nearest - 1, axis=1)[:, :nearest]
    return np.bincount(owners[hits].ravel(), minlength=pieces)


def rank_by_votes(counts: np.ndarray, own: int) -> int:
    """1 is best; ties count as worse, and a piece without a vote is last."""
    return int((counts >= counts[own]).sum()) if counts[own] else len(counts)


def identify(excerpts: np.ndarray, candidates: np.ndarray, owners: np.ndarray, own: int, pieces: int) -> dict[str, int]:
    """Rank of a recording's piece by votes, ``raw``, and ``normalised``, by votes per candidate: a long piece has more
    to be voted for.

    ``excerpts`` (n, 32) of the recording; ``candidates`` (m, 32) sheet windows, ``owners`` (m,) their pieces' numbers.
    """
    sizes = np.bincount(owners, minlength=pieces)
    queries = np.array(evenly(excerpts, EXCERPTS))
    counts = votes(queries, candidates, owners, pieces)
    return {"raw": rank_by_votes(counts, own), "normalised": rank_by_votes(counts / np.maximum(sizes, 1), own)}


# -- places ------------------------------------------------------------------------------------------------------------


def chroma_of_bands(spectrogram: np.ndarray) -> np.ndarray:
    """(12, T) unit columns: the 92 bands folded into pitch classes, those above 100 Hz, where bands tell semitones."""
    folded = _FOLDED @ spectrogram + 1e-6
    return folded / np.linalg.norm(folded, axis=0)


def _folded() -> np.ndarray:
    """(12, 92): shares of each band's centre between the two nearest pitch classes."""
    frequencies = np.arange(filterbank.WINDOW // 2) * filterbank.SAMPLE_RATE / filterbank.WINDOW
    centres = frequencies[filterbank.filters().argmax(0)]
    pitches = 69 + 12 * np.log2(centres / 440)
    matrix = np.maximum(0, 1 - np.abs((np.arange(12)[:, None] - pitches + 6) % 12 - 6))
    return np.where(centres > 100, matrix, 0).astype(np.float32)


_FOLDED = _folded()


def chroma_of_notes(notes: np.ndarray, frames: int) -> np.ndarray:
    """(12, frames) unit columns of notes (N, 5) in MSMD's form: pitch classes that sound, the silent ones uniform."""
    chroma = np.full((12, frames), 1e-3)
    for onset, pitch, duration, _, _ in notes:
        first = int(onset * FRAMES_PER_SECOND)
        chroma[int(pitch) % 12, first : max(first + 1, int((onset + duration) * FRAMES_PER_SECOND))] += 1
    return chroma / np.linalg.norm(chroma, axis=0)


def upper_bound(data: Data, take: Take) -> Alignment:
    """The score's own notes, at its own tempo, against the sound: no picture is read, no note can be misread."""
    fixed = data.pieces.fixed(take.piece)
    piece, spectrogram = data.pieces.get(take.piece), data.pieces.spectrogram(*take)
    score = data.corpus.notes(*fixed)
    length = int((score[:, 0] + score[:, 2]).max() * FRAMES_PER_SECOND) + FRAMES_PER_SECOND
    path = dtw.global_path(chroma_of_notes(score, length), chroma_of_bands(spectrogram))
    known, columns = piece.pairs(fixed.performance)
    path = path[path[:, 0] >= known[0]]  # before the first note there is nothing to be found
    return Alignment(path[:, 1].astype(float), np.interp(path[:, 0], known, np.maximum.accumulate(columns)))


def errors(data: Data, take: Take, found: Alignment) -> dict[str, list[int]]:
    """Of every onset's place: columns from where it is (pixels), and milliseconds from when its column is played."""
    frames, columns = data.pieces.get(take.piece).pairs(take.performance)
    pixels = np.abs(found.columns_at(frames) - columns)
    milliseconds = np.abs(found.frames_at(columns) - frames) * 1000 / FRAMES_PER_SECOND
    return {"pixels": pixels.round().astype(int).tolist(), "milliseconds": milliseconds.round().astype(int).tolist()}


def whole_pieces(run: Run, model: TwoTowers | None, data: Data, candidates: np.ndarray | None, progress: bool) -> dict:
    """Every test piece identified and aligned, played strictly and with a tempo curve, as far as there is one.

    ``candidates``: sheet embeddings of the pool.  Without a model pieces are only aligned.
    """
    owners = np.array([data.test.index(pair.take.piece) for pair in data.pool])
    result: dict = {}
    strips: list[Embedded] = []
    if model is not None:
        network = NETWORKS[run.config.network]
        strips = [embed_strip(model, network, data.pieces.get(name).image) for name in data.test]
    with Progress(f"{run.name}: pieces", len(data.test), progress) as report:
        for number, name in enumerate(data.test):
            piece = data.pieces.get(name)
            for manner, take in (("strict", data.pieces.fixed(name)), ("tempo curve", data.pieces.expressive(name))):
                if take is None:
                    continue
                rows = result.setdefault(manner, {"pieces": [], "pixels": [], "milliseconds": []})
                rows["pieces"].append(name)
                spectrogram = data.pieces.spectrogram(*take)
                if model is None:
                    ends = np.array([0.0, spectrogram.shape[1] - 1]), np.array([0.0, piece.image.shape[1] - 1])
                    found = Alignment(*ends) if run.config.method == "linear" else upper_bound(data, take)
                else:
                    recording = embed_recording(model, spectrogram)
                    found = align(strips[number], recording)
                    ranks = identify(recording.vectors, candidates, owners, number, len(data.test))
                    ranks["alignment"] = sum(align(strip, recording).cost <= found.cost for strip in strips)
                    other = strips[number - 1] if number else None  # the piece before: a wrong one
                    sure = [confidence(strips[number], recording), confidence(other, recording) if other else None]
                    for key, value in {**ranks, "confidence": rounded(sure)}.items():
                        rows.setdefault(key, []).append(value)
                for key, values in errors(data, take, found).items():
                    rows[key].append(values)
            report(1)
    return result


def rounded(values: Sequence[float | None]) -> list[float | None]:
    return [None if v is None else round(v, 4) for v in values]


# -- a run -------------------------------------------------------------------------------------------------------------


def execute(
    run: Run, data: Data, parents: dict[str, Path], weights: Path, checkpoint: Path, progress: bool = False
) -> dict:
    """Train where the run trains, look for all test pairs, identify and align whole pieces: the ``result`` block."""
    config = run.config
    items = {"candidates": len(data.pool), "items": files.digest(*map(repr, data.pool))[:16],
             "onsets": [sum(pair.take.piece == name for pair in data.pool) for name in data.test]}  # fmt: skip
    if config.method in ("linear", "chroma"):
        return {"test": items, "whole": whole_pieces(run, None, data, None, progress)}
    torch.manual_seed(config.seed)
    model = NETWORKS[config.network].build(config.ridge).to(device())
    result: dict = {"trainable": sum(p.numel() for p in model.parameters() if p.requires_grad)}
    if config.method == "train":
        result |= fit(run, model, data, checkpoint, progress)
    model.eval()
    half = data.preset.training.precision == "bf16"  # untrained networks too: arms are computed alike
    with torch.autocast(device().type, torch.bfloat16, enabled=half):
        result["test"] = items
        if model.cca.in_training:
            # projections of the last batch, as the paper seems to have them, and then of many pairs
            plain, _ = test_pairs(model, data, config)
            result["test"]["plain"] = {key: plain[key] for key in DIRECTIONS}
            refine(model, data, config)
        result["test"]["refined"], candidates = test_pairs(model, data, config)
        save_weights(model, weights, {"study": KEY, "run": run.name, "network": config.network})
        if config.whole:
            result["whole"] = whole_pieces(run, model, data, candidates, progress)
    return result


DIRECTIONS = ("audio to sheet", "sheet to audio")
