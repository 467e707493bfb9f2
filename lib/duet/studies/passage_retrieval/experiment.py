"""One run of study 2: passages in three conditions, training on them, and how they find each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ... import features, files, metrics, paths
from ...corpora import reallike
from ...corpora.msmd import EXPRESSIVE, PARTS, Msmd, soundfont, tempo_ratio
from ...errors import DuetError
from ...filterbank import log_filterbank
from ...losses import matching_loss
from ...models.encoders import Towers, in_batches
from ...models.passage import HALF, PAPER, PassageModel, snippet_model
from ...progress import Progress
from ...runs import Run
from ...scans import Scans
from ...snippets import Pieces, Take, evenly, excerpt, opened, require, shortest, window
from ...training import device, epoch_rng, load_into, save_weights, train_run
from .grid import CONDITIONS, KEY, PRESETS, TEMPI, VOTERS, Config, Preset
from .passages import Passage, audio_snippets, passages, sheet_snippets, vote

WIDTHS = {"paper": PAPER, "half": HALF}
STAND_INS_VERSION = 2  # raise it when scans or real-like sound come out otherwise

# -- data --------------------------------------------------------------------------------------------------------------


@dataclass
class Data:
    """A corpus, its split, and the test pieces' stand-ins of scans and of real recordings."""

    corpus: Msmd
    pieces: Pieces
    split: dict[str, list[str]]
    preset: Preset
    skipped: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.passages = lru_cache(maxsize=None)(self._passages)

    @property
    def name(self) -> str:
        return self.corpus.name

    @cached_property
    def fingerprint(self) -> str:
        parts = [p for part in PARTS for p in ("|", *self.split[part])]
        return files.digest(self.corpus.fingerprint, str(STAND_INS_VERSION), *parts)

    @cached_property
    def scans(self) -> Pieces:
        return Pieces(Scans(self.corpus.root))

    @property
    def folder(self) -> Path:
        return paths.cache() / "passages" / files.digest(self.corpus.fingerprint, str(STAND_INS_VERSION))[:16]

    def prepare(self, progress: bool) -> None:
        """Scans and real-like sound of the test pieces; both are stand-ins."""
        self.scans.prepare(self.split["test"], progress)
        takes = {take.piece: take.performance for take in map(self.lively, self.split["test"])}
        make = partial(_real_like, self.corpus, takes)
        features.store(self.folder / "real-like", self.split["test"], make, "real-like sound", progress)

    def lively(self, piece: str) -> Take:
        """What real-like sound is made of: the performance with a tempo curve, in MSMD itself the plain one."""
        return self.pieces.expressive(piece) or self.pieces.fixed(piece)

    def renderings(self, piece: str) -> list[str]:
        """What training draws from: everything but performances with a tempo curve."""
        return [p for p in self.pieces.get(piece).performances if not p.endswith(EXPRESSIVE)]

    def _passages(self, piece: str, performance: str, scanned: bool = False) -> list[Passage]:
        pieces = self.scans if scanned else self.pieces
        return passages(pieces.get(piece), performance, self.pieces.spectrogram(piece, performance).shape[1])

    def fixed(self, part: str) -> list[Passage]:
        """Every passage of a part, at the notated tempo: of the test the candidates and queries."""
        return [p for piece in self.split[part] for p in self.passages(*self.pieces.fixed(piece))]

    def at_tempo(self, tempo: float) -> list[Passage]:
        """The test's passages ``tempo`` times as fast, as near as a rendering comes."""
        found = []
        for piece in self.split["test"]:
            fixed = self.pieces.fixed(piece).performance
            own = [p for p in self.renderings(piece) if soundfont(p) == soundfont(fixed)]
            nearest = min(own, key=lambda p: abs(np.log(tempo * tempo_ratio(p))))
            found += self.passages(piece, nearest)
        return found

    def test(self, condition: str) -> list[Passage]:
        """Candidates and queries alike.  Scans have the lines of another edition, the third condition other times."""
        if condition == "I":
            return self.fixed("test")
        takes = map(self.pieces.fixed if condition == "II" else self.lively, self.split["test"])
        return [passage for take in takes for passage in self.passages(*take, True)]

    def image(self, piece: str, condition: str = "I") -> np.ndarray:
        """(200, width) uint8 strip, clean or as if scanned."""
        if condition == "I":
            return self.pieces.get(piece).image
        return self.scans.get(piece).image

    def sound(self, passage: Passage, condition: str = "I") -> np.ndarray:
        """(92, T) spectrogram of the whole performance."""
        if condition != "III":
            return self.pieces.spectrogram(passage.piece, passage.performance)
        return np.load(self.folder / "real-like" / f"{passage.piece}.npy", mmap_mode="r")


def _real_like(corpus: Msmd, takes: dict[str, str], piece: str) -> np.ndarray:
    return log_filterbank(real_like_sound(corpus, piece, takes[piece]))


def real_like_sound(corpus: Msmd, piece: str, performance: str) -> np.ndarray:
    """(samples,) at 22,050 Hz of a performance as if recorded: its seed is its piece."""
    rng = np.random.default_rng(int(files.digest("real-like", piece)[:16], 16))
    return reallike.real_like(corpus.notes(piece, performance), rng, reallike.instrument())


def prepare(preset: str, corpus: str = "", progress: bool = False) -> Data:
    """The corpus with its strips and stand-ins.  ``corpus`` is a folder in MSMD layout; else the preset's open one."""
    p = PRESETS[preset]
    pieces, split, skipped = opened(preset, p.corpus, corpus, p.split, progress)
    require(pieces.corpus, split)
    split["test"] = shortest(pieces, split["test"], p.tested)
    if not corpus:  # MSMD itself has one print of each piece
        p.corpus.reprint(pieces.corpus, split["test"], progress)
    data = Data(pieces.corpus, pieces, split, p, skipped)
    data.prepare(progress)
    return data


# -- batches -----------------------------------------------------------------------------------------------------------

Snippets = tuple[Tensor, list[int]]  # of passages, one behind the other, and how many each has


def sheets(data: Data, own: Sequence[Passage], condition: str = "I") -> Snippets:
    """Snippets (n, 1, 80, 90) in [0, 1] of all passages one behind the other, and how many each has."""
    parts = [sheet_snippets(data.image(p.piece, condition), p.columns) for p in own]
    return torch.from_numpy(np.concatenate(parts))[:, None].float() / 255, [len(part) for part in parts]


def sounds(data: Data, own: Sequence[Passage], condition: str = "I") -> Snippets:
    """Snippets (n, 1, 92, 20) of all passages one behind the other, and how many each has."""
    parts = [audio_snippets(data.sound(p, condition), p.frames) for p in own]
    return torch.from_numpy(np.concatenate(parts))[:, None], [len(part) for part in parts]


def passage_batches(data: Data, config: Config, epoch: int, count: int) -> Iterator[list[Passage]]:
    """``count`` batches of training passages: systems drawn without putting back, each in any of its renderings.

    Without ``grouped`` every rendering of a system is an item of its own, as published: two of them may meet.
    """
    rng = epoch_rng(config.seed, epoch)
    by_system: dict[tuple[str, int], list[Passage]] = {}
    for piece in data.split["train"]:
        for performance in data.renderings(piece):
            for passage in data.passages(piece, performance):
                by_system.setdefault((piece, passage.system), []).append(passage)
    groups = list(by_system.values()) if config.grouped else [[p] for own in by_system.values() for p in own]
    size = config.training.batch
    if len(groups) < size:
        raise DuetError(f"{len(groups)} training passages do not fill a batch of {size}", remedy="take more pieces")
    order: list[int] = []
    for _ in range(count):
        if len(order) < size:
            order = rng.permutation(len(groups)).tolist()
        chosen, order = order[:size], order[size:]
        yield [groups[k][int(rng.integers(len(groups[k])))] for k in chosen]


@dataclass(frozen=True)
class Place:
    """Where a note begins: what the snippet model is trained on."""

    take: Take
    frame: int
    column: float


def snippet_places(data: Data, part: str, every: bool) -> list[Place]:
    """Of every onset in the fixed performance, or in ``every`` rendering."""
    found = []
    for piece in data.split[part]:
        for performance in data.renderings(piece) if every else [data.pieces.fixed(piece).performance]:
            frames, columns = data.pieces.get(piece).pairs(performance)
            take = Take(piece, performance)
            found += [Place(take, int(f), float(c)) for f, c in zip(frames, columns, strict=True)]
    return found


def snippet_pairs(data: Data, places: Sequence[Place], rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
    """(B, 1, 80, 90) and (B, 1, 92, 20) around onsets; altered where ``rng`` is given (fact sheet, Section 5)."""
    pictures, parts = [], []
    for place in places:
        scale = rng.uniform(0.95, 1.05) if rng else 1.0
        down, late = (int(rng.integers(-5, 6)), int(rng.integers(-1, 2))) if rng else (0, 0)
        image = data.pieces.get(place.take.piece).image
        pictures.append(window(image, place.column, 160, 180, scale, down))
        parts.append(excerpt(data.pieces.spectrogram(*place.take), place.frame + late, 20))
    halved = nn.functional.avg_pool2d(torch.from_numpy(np.stack(pictures))[:, None].float() / 255, 2)
    return halved, torch.from_numpy(np.stack(parts))[:, None]


# -- training ----------------------------------------------------------------------------------------------------------


def loss_of(anchors: Tensor, others: Tensor, config: Config) -> Tensor:
    """Sheets are the anchors, as published."""
    with torch.autocast(anchors.device.type, enabled=False):
        return matching_loss(anchors, others, config.loss, config.margin)


def audio_to_sheet(sheet: np.ndarray, audio: np.ndarray) -> np.ndarray:
    """(n,) ranks: row ``i`` of one belongs to row ``i`` of the other."""
    return metrics.ranks(-(audio @ sheet.T), np.arange(len(audio)))[0]


def fit_snippets(run: Run, model: Towers, data: Data, checkpoint: Path, progress: bool) -> dict:
    """Train the snippet model on single onsets, every rendering, all augmentations (fact sheet, Section 5)."""
    config, where = run.config, device()
    training, valid = snippet_places(data, "train", True), snippet_places(data, "valid", False)
    held_out = snippet_pairs(data, evenly(valid, data.preset.validation), None)
    count, size = config.training.per_epoch, config.training.batch
    if len(training) < size:
        raise DuetError(f"{len(training)} training pairs do not fill a batch of {size}", remedy="take more pieces")

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        rng = epoch_rng(config.seed, epoch)
        for _ in range(count):  # without putting back within a batch: an onset is no negative of itself
            chosen = rng.choice(len(training), size, replace=False)
            yield snippet_pairs(data, [training[k] for k in chosen], rng)

    def loss(m: Towers, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss_of(*m(*(part.to(where) for part in batch)), config)

    def validate(m: Towers) -> float:
        both = in_batches(m, m.embed_sheet, held_out[0]), in_batches(m, m.embed_audio, held_out[1])
        return 1 - float(metrics.reciprocal(audio_to_sheet(*both)).mean())

    curves = train_run(
        run,
        model,
        batches,
        loss,
        validate,
        checkpoint,
        progress,
    )
    return {"pairs": {"train": len(training), "valid": len(held_out[0])}, **curves}


def refine(model: Towers, data: Data, config: Config) -> None:
    """Projections of many training pairs in place of the last batch's (fact sheet, Section 6)."""
    places = snippet_places(data, "train", True)
    rng = np.random.default_rng([config.seed, 3])
    chosen = [places[k] for k in rng.permutation(len(places))[: data.preset.refinement]]
    model.refine(snippet_pairs(data, chosen[k : k + 64], rng) for k in range(0, len(chosen), 64))


class Once:
    """What is made of the pages and of the sounds of passages, one array for each, made once, 16 passages at a time.

    ``page`` and ``sound`` take passages and a condition: II and III have one page, but lines of I are not theirs.
    """

    def __init__(self, page: Callable, sound: Callable):
        self.page, self.sound = page, sound
        self._known: dict[tuple, np.ndarray] = {}

    def pages(self, own: Sequence[Passage], condition: str = "I") -> list[np.ndarray]:
        keys = [("page", condition == "I", p.piece, p.system) for p in own]
        return self._all(self.page, own, condition, keys)

    def sounds(self, own: Sequence[Passage], condition: str = "I") -> list[np.ndarray]:
        keys = [("sound", condition, p.piece, p.performance, p.system) for p in own]
        return self._all(self.sound, own, condition, keys)

    def _all(self, make: Callable, own: Sequence[Passage], condition: str, keys: list[tuple]) -> list[np.ndarray]:
        new = [(key, p) for key, p in dict(zip(keys, own, strict=True)).items() if key not in self._known]
        for start in range(0, len(new), 16):
            part = dict(new[start : start + 16])
            self._known |= dict(zip(part, make([*part.values()], condition), strict=True))
        return [self._known[key] for key in keys]


def snippet_vectors(model: Towers, data: Data, sheet: Callable, audio: Callable) -> Once:
    """(n, 32) of a passage's snippets, by a method of the model for either side."""

    def of(cut: Callable, embed: Callable) -> Callable:
        def make(own: Sequence[Passage], condition: str) -> list[np.ndarray]:
            snippets, lengths = cut(data, own, condition)
            return np.split(in_batches(model, embed, snippets), np.cumsum(lengths)[:-1])

        return make

    return Once(of(sheets, sheet), of(sounds, audio))


class Reader:
    """Passages as a model reads them: their snippets, or the vectors that a frozen encoder makes of these."""

    def __init__(self, data: Data, encoder: Towers | None):
        self.data = data
        self.vectors = snippet_vectors(encoder, data, encoder.sheet, encoder.audio) if encoder else None

    def sheets(self, own: Sequence[Passage], condition: str = "I") -> Snippets:
        return _joined(self.vectors.pages(own, condition)) if self.vectors else sheets(self.data, own, condition)

    def sounds(self, own: Sequence[Passage], condition: str = "I") -> Snippets:
        return _joined(self.vectors.sounds(own, condition)) if self.vectors else sounds(self.data, own, condition)

    def prepare(self, progress: bool) -> None:
        """Encode what training draws from, in an order of its own: the batches of a resumed one change nothing."""
        if self.vectors is None:
            return
        with Progress("snippet vectors", len(self.data.split["train"]), progress) as report:
            for piece in self.data.split["train"]:
                own = [p for take in self.data.renderings(piece) for p in self.data.passages(piece, take)]
                self.sheets(own)
                self.sounds(own)
                report(1)


def _joined(vectors: list[np.ndarray]) -> Snippets:
    return torch.from_numpy(np.concatenate(vectors)), [len(v) for v in vectors]


def passage_vectors(model: PassageModel, read: Reader) -> Once:
    """Unit vectors (d,) of passages."""
    where = next(model.parameters()).device

    def of(side: Callable, embed: Callable) -> Callable:
        def make(own: Sequence[Passage], condition: str) -> list[np.ndarray]:
            snippets, lengths = side(own, condition)
            with torch.no_grad():
                return [*embed(snippets.to(where), lengths).cpu().numpy()]

        return make

    return Once(of(read.sheets, model.embed_sheet), of(read.sounds, model.embed_audio))


def fit_passages(run: Run, model: PassageModel, read: Reader, data: Data, checkpoint: Path, progress: bool) -> dict:
    """Train a passage model on what ``read`` gives it."""
    config, where = run.config, device()
    read.prepare(progress)
    held_out = evenly(data.fixed("valid"), data.preset.validation)
    count = config.training.per_epoch

    def loss(m: PassageModel, own: list[Passage]) -> Tensor:
        (sheet, rows), (audio, lengths) = read.sheets(own), read.sounds(own)
        return loss_of(m.embed_sheet(sheet.to(where), rows), m.embed_audio(audio.to(where), lengths), config)

    def validate(m: PassageModel) -> float:
        vectors = passage_vectors(m, read)
        ranks = audio_to_sheet(np.stack(vectors.pages(held_out)), np.stack(vectors.sounds(held_out)))
        return 1 - float(metrics.reciprocal(ranks).mean())

    curves = train_run(
        run,
        model,
        lambda epoch: passage_batches(data, config, epoch, count),
        loss,
        validate,
        checkpoint,
        progress,
    )
    return {
        "passages": {"train": len({(p.piece, p.system) for piece in data.split["train"]
                                   for take in data.renderings(piece) for p in data.passages(piece, take)}),
                     "valid": len(held_out)},
        **curves,
    }  # fmt: skip


# -- evaluation --------------------------------------------------------------------------------------------------------

DIRECTIONS = ("audio to sheet", "sheet to audio")


def both_ways(scores: np.ndarray) -> dict[str, list[int]]:
    """Ranks in both directions of scores (sounds, sheets), the higher the better; the diagonal is right."""
    own = np.arange(len(scores))
    return {d: metrics.ranks(-s, own)[0].tolist() for d, s in zip(DIRECTIONS, (scores, scores.T), strict=True)}


def by_votes(vectors: Once, own: Sequence[Passage], condition: str, voters: Sequence[int]) -> dict:
    """Ranks of BL in both directions, for every number of ``voters``; ``vectors`` are of snippets."""
    pages, parts = vectors.pages(own, condition), vectors.sounds(own, condition)
    found: dict = {}
    for direction, queries, candidates in ((DIRECTIONS[0], parts, pages), (DIRECTIONS[1], pages, parts)):
        owners = np.repeat(np.arange(len(own)), [len(one) for one in candidates])
        everything = np.concatenate(candidates).T
        for k in voters:
            scores = np.stack([vote(query @ everything, owners, len(own), k) for query in queries])
            found.setdefault(k, {})[direction] = metrics.ranks(-scores, np.arange(len(own)))[0].tolist()
    return found


def voted(model: Towers, data: Data, everywhere: bool) -> dict:
    """BL's ``test`` block with the projections that it has now: in condition I alone, or in all and at all tempi."""
    vectors = snippet_vectors(model, data, model.embed_sheet, model.embed_audio)
    if not everywhere:
        return {"I": by_votes(vectors, data.test("I"), "I", (25,))[25]}
    found = {condition: by_votes(vectors, data.test(condition), condition, VOTERS) for condition in CONDITIONS}
    return {
        **{condition: votes[25] for condition, votes in found.items()},
        "voters": {str(k): ranks for k, ranks in found["I"].items()},
        "tempi": {f"{t:g}": by_votes(vectors, data.at_tempo(t), "I", (25,))[25] for t in TEMPI},
    }


def execute(
    run: Run, data: Data, parents: dict[str, Path], weights: Path, checkpoint: Path, progress: bool = False
) -> dict:
    """Train where the run trains, and look for every test passage in every condition: the ``result`` block."""
    config = run.config
    torch.manual_seed(config.seed)
    half = data.preset.passages.precision == "bf16"
    if config.method == "snippet":
        model = snippet_model(WIDTHS[config.widths], config.ridge, config.cca_in_training).to(device())
        result = _counted(model) | fit_snippets(run, model, data, checkpoint, progress)
        model.eval()
        about = {"study": KEY, "run": run.name, "widths": config.widths}
        with torch.autocast(device().type, torch.bfloat16, enabled=half):
            plain = voted(model, data, not config.cca_in_training)
            save_weights(model, weights, about)
            refine(model, data, config)
            many = voted(model, data, config.cca_in_training)
            save_weights(model, refined(weights), about)
        # with a layer that training did not go through, what votes is what was trained
        result["test"] = many | {"plain": plain} if config.cca_in_training else plain | {"refined": many}
        return result | {"items": _items(data)}

    widths = None if config.frozen else WIDTHS[config.widths]
    model, encoder = PassageModel(config.summariser, config.dimensions, widths), None
    for parent in parents.values():
        path = refined(parent) if config.start == "refined" else parent
        if config.frozen:
            encoder = snippet_model(WIDTHS[config.widths])
            load_into(encoder, path)
            encoder.to(device()).eval()
        load_into(model, path, ("cca.",) if config.frozen else ("sheet.", "audio.", "cca."))
    model.to(device())
    result, read = _counted(model), Reader(data, encoder)
    if config.method == "passage":
        with torch.autocast(device().type, torch.bfloat16, enabled=half):  # the encoder's vectors, too
            result |= fit_passages(run, model, read, data, checkpoint, progress)
    model.eval()
    save_weights(model, weights, {"study": KEY, "run": run.name, "widths": config.widths if widths else ""})

    vectors = passage_vectors(model, read)

    def ranked(own: Sequence[Passage], condition: str = "I") -> dict[str, list[int]]:
        return both_ways(np.stack(vectors.sounds(own, condition)) @ np.stack(vectors.pages(own, condition)).T)

    with torch.autocast(device().type, torch.bfloat16, enabled=half):
        result["test"] = {condition: ranked(data.test(condition), condition) for condition in CONDITIONS}
        own = data.test("I")
        right = [float(1 - a @ s) for a, s in zip(vectors.sounds(own), vectors.pages(own), strict=True)]
        result["distances"] = [round(distance, 4) for distance in right]
        if config.method == "passage" and not config.start and config.summariser == "gru" and config.dimensions == 64:
            result["test"]["tempi"] = {f"{t:g}": ranked(data.at_tempo(t)) for t in TEMPI}
    return result | {"items": _items(data)}


def refined(weights: Path) -> Path:
    """Where the same encoders lie with the projection of many pairs."""
    return weights.with_suffix(".refined.safetensors")


def _counted(model: nn.Module) -> dict:
    return {"trainable": sum(p.numel() for p in model.parameters() if p.requires_grad)}


def _items(data: Data) -> dict[str, list]:
    """Of every test passage its piece and system, and by condition how many there are."""
    own = data.test("I")
    return {
        "pieces": [p.piece for p in own],
        "systems": [p.system for p in own],
        "seconds": [round(p.seconds, 2) for p in own],
        "candidates": [len(data.test(c)) for c in CONDITIONS],
    }
