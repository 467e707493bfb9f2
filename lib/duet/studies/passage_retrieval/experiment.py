"""One run of study 2: passages in three conditions, training on them, and how they find each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from ...losses import info_nce, pairwise_ranking_loss
from ...models.encoders import TwoTowers
from ...models.passage import HALF, PAPER, PassageModel, snippet_model
from ...progress import Progress
from ...runs import Run
from ...scans import Scans
from ...snippets import Pieces, Take, excerpt, window
from ...training import device, epoch_rng, load_into, save_weights, train
from .grid import CONDITIONS, KEY, PRESETS, TEMPI, VOTERS, Config, Preset
from .passages import Passage, audio_snippets, passages, sheet_snippets, vote

WIDTHS = {"paper": PAPER, "half": HALF}
STAND_INS_VERSION = 1  # raise it when scans or real-like sound come out otherwise

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

    @property
    def folder(self) -> Path:
        return paths.cache() / "passages" / files.digest(self.corpus.fingerprint, str(STAND_INS_VERSION))[:16]

    def prepare(self, progress: bool) -> None:
        """Scans and real-like sound of the test pieces; both are stand-ins."""
        self.scans = Pieces(Scans(self.corpus.root))
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

    def _passages(self, piece: str, performance: str) -> list[Passage]:
        return passages(self.pieces.get(piece), performance, self.pieces.spectrogram(piece, performance).shape[1])

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
        """The same systems in every condition; the third has other times."""
        if condition != "III":
            return self.fixed("test")
        wanted = {(p.piece, p.system) for p in self.fixed("test")}
        lively = [p for piece in self.split["test"] for p in self.passages(*self.lively(piece))]
        return [p for p in lively if (p.piece, p.system) in wanted]

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
    rng = np.random.default_rng(int(files.digest("real-like", piece)[:16], 16))
    return log_filterbank(reallike.real_like(corpus.notes(piece, takes[piece]), rng, reallike.instrument()))


def prepare(preset: str, corpus: str = "", progress: bool = False) -> Data:
    """The corpus with its strips and stand-ins.  ``corpus`` is a folder in MSMD layout; else the preset's open one."""
    p = PRESETS[preset]
    if corpus:
        msmd = Msmd(corpus)
    elif p.corpus is None:
        raise DuetError(f"the preset {preset} reads MSMD itself", remedy="give corpus=<folder of msmd_aug_v1-1>")
    else:
        msmd = p.corpus.build(progress=progress)
    split = msmd.split(p.split)
    pieces = Pieces(msmd)
    skipped = pieces.prepare([name for part in PARTS for name in split[part]], progress)
    split = {part: [name for name in split[part] if name not in skipped] for part in PARTS}
    if not all(split.values()):
        empty = next(part for part, own in split.items() if not own)
        raise DuetError(f"has no {empty} piece that can be used", path=msmd.root, remedy="take more pieces")
    data = Data(msmd, pieces, split, p, skipped)
    data.prepare(progress)
    return data


# -- batches -----------------------------------------------------------------------------------------------------------

Passages = tuple[Tensor, list[int], Tensor, list[int]]  # snippets and how many each passage has: sheets, audio


def sheets(data: Data, own: Sequence[Passage], condition: str = "I") -> tuple[Tensor, list[int]]:
    """Snippets (n, 1, 80, 90) in [0, 1] of all passages one behind the other, and how many each has."""
    parts = [sheet_snippets(data.image(p.piece, condition), p.columns) for p in own]
    return torch.from_numpy(np.concatenate(parts))[:, None].float() / 255, [len(part) for part in parts]


def sounds(data: Data, own: Sequence[Passage], condition: str = "I") -> tuple[Tensor, list[int]]:
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
    """Sheets are the anchors, as published; "symmetric" adds the other direction, "infonce" is a softmax over both."""
    with torch.autocast(anchors.device.type, enabled=False):
        if config.loss == "infonce":
            return info_nce(anchors, others)
        loss = pairwise_ranking_loss(anchors, others, config.margin)
        if config.loss == "symmetric":
            loss = (loss + pairwise_ranking_loss(others, anchors, config.margin)) / 2
        return loss


def audio_to_sheet(sheet: np.ndarray, audio: np.ndarray) -> np.ndarray:
    """(n,) ranks: row ``i`` of one belongs to row ``i`` of the other."""
    return metrics.ranks(-(audio @ sheet.T), np.arange(len(audio)))[0]


def _evenly(items: Sequence, count: int) -> list:
    return [items[k] for k in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))]


def encoded(model: nn.Module, snippets: Tensor, encode) -> np.ndarray:
    """(n, values) of snippets, 128 at a time."""
    where = next(model.parameters()).device
    with torch.no_grad():
        parts = [encode(snippets[k : k + 128].to(where)).cpu().numpy() for k in range(0, len(snippets), 128)]
    return np.concatenate(parts)


def fit_snippets(run: Run, model: TwoTowers, data: Data, checkpoint: Path, progress: bool) -> dict:
    """Train the snippet model on single onsets, every rendering, all augmentations (fact sheet, Section 5)."""
    config, where = run.config, device()
    training, valid = snippet_places(data, "train", True), snippet_places(data, "valid", False)
    held_out = snippet_pairs(data, _evenly(valid, data.preset.validation), None)
    count, size = config.training.updates // config.training.epochs, config.training.batch
    if len(training) < size:
        raise DuetError(f"{len(training)} training pairs do not fill a batch of {size}", remedy="take more pieces")

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        rng = epoch_rng(config.seed, epoch)
        for _ in range(count):  # without putting back within a batch: an onset is no negative of itself
            chosen = rng.choice(len(training), size, replace=False)
            yield snippet_pairs(data, [training[k] for k in chosen], rng)

    def loss(m: TwoTowers, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss_of(*m(*(part.to(where) for part in batch)), config)

    def validate(m: TwoTowers) -> float:
        both = encoded(m, held_out[0], m.embed_sheet), encoded(m, held_out[1], m.embed_audio)
        return 1 - float(metrics.reciprocal(audio_to_sheet(*both)).mean())

    outcome = train(
        model,
        batches,
        loss,
        validate,
        config.training,
        seed=config.seed,
        checkpoint=checkpoint,
        label=run.name,
        progress=progress,
    )
    return {
        "pairs": {"train": len(training), "valid": len(held_out[0])},
        "loss": outcome.loss,
        "validation": outcome.validation,
        "best_epoch": outcome.best_epoch,
    }


def refine(model: TwoTowers, data: Data, config: Config) -> None:
    """Projections of many training pairs in place of the last batch's (fact sheet, Section 6)."""
    places = snippet_places(data, "train", True)
    rng = np.random.default_rng([config.seed, 3])
    chosen = [places[k] for k in rng.permutation(len(places))[: data.preset.refinement]]
    where, parts = device(), []
    with torch.no_grad():
        for start in range(0, len(chosen), 128):
            sheet, audio = snippet_pairs(data, chosen[start : start + 128], rng)
            parts.append(model.latent(sheet.to(where), audio.to(where)))
    model.cca.refine(*(torch.cat(side) for side in zip(*parts, strict=True)))


class Cached:
    """Snippet vectors (n, 32) of frozen encoders: every training and validation passage is encoded once."""

    def __init__(self, model: TwoTowers, data: Data, progress: bool):
        self.model, self.data = model, data
        self.sheet: dict[tuple[str, int], Tensor] = {}
        self.audio: dict[tuple[str, str, int], Tensor] = {}
        train = [
            p for piece in data.split["train"] for take in data.renderings(piece) for p in data.passages(piece, take)
        ]
        with Progress("snippet vectors", len(train), progress) as report:
            for start in range(0, len(train), 64):
                self(train[start : start + 64])
                report(len(train[start : start + 64]))

    def __call__(self, own: Sequence[Passage]) -> Passages:
        new = list({(p.piece, p.system): p for p in own if (p.piece, p.system) not in self.sheet}.values())
        if new:
            snippets, lengths = sheets(self.data, new)
            vectors = torch.from_numpy(encoded(self.model, snippets, self.model.sheet)).split(lengths)
            self.sheet |= {(p.piece, p.system): v for p, v in zip(new, vectors, strict=True)}
        new = [p for p in own if (p.piece, p.performance, p.system) not in self.audio]
        if new:
            snippets, lengths = sounds(self.data, new)
            vectors = torch.from_numpy(encoded(self.model, snippets, self.model.audio)).split(lengths)
            self.audio |= {(p.piece, p.performance, p.system): v for p, v in zip(new, vectors, strict=True)}
        sheet = [self.sheet[p.piece, p.system] for p in own]
        audio = [self.audio[p.piece, p.performance, p.system] for p in own]
        return torch.cat(sheet), [len(v) for v in sheet], torch.cat(audio), [len(v) for v in audio]


def fit_passages(
    run: Run, model: PassageModel, encoder: TwoTowers | None, data: Data, checkpoint: Path, progress: bool
) -> dict:
    """Train a passage model; on the vectors of a frozen ``encoder`` where there is one."""
    config, where = run.config, device()
    read = Cached(encoder, data, progress) if encoder else lambda own: (*sheets(data, own), *sounds(data, own))
    held_out = _evenly(data.fixed("valid"), data.preset.validation)
    count = config.training.updates // config.training.epochs

    def loss(m: PassageModel, own: list[Passage]) -> Tensor:
        sheet, rows, audio, lengths = read(own)
        return loss_of(m.embed_sheet(sheet.to(where), rows), m.embed_audio(audio.to(where), lengths), config)

    def validate(m: PassageModel) -> float:
        return 1 - float(metrics.reciprocal(audio_to_sheet(*embed(m, read, held_out))).mean())

    outcome = train(
        model,
        lambda epoch: passage_batches(data, config, epoch, count),
        loss,
        validate,
        config.training,
        seed=config.seed,
        checkpoint=checkpoint,
        label=run.name,
        progress=progress,
    )
    return {
        "passages": {"train": len({(p.piece, p.system) for piece in data.split["train"]
                                   for take in data.renderings(piece) for p in data.passages(piece, take)}),
                     "valid": len(held_out)},
        "loss": outcome.loss,
        "validation": outcome.validation,
        "best_epoch": outcome.best_epoch,
    }  # fmt: skip


def embed(model: PassageModel, read, own: Sequence[Passage]) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) of sheets and of sounds, unit length, 16 passages at a time."""
    where, parts = next(model.parameters()).device, []
    with torch.no_grad():
        for start in range(0, len(own), 16):
            sheet, rows, audio, lengths = read(own[start : start + 16])
            both = model.embed_sheet(sheet.to(where), rows), model.embed_audio(audio.to(where), lengths)
            parts.append([side.cpu().numpy() for side in both])
    return tuple(np.concatenate(side) for side in zip(*parts, strict=True))


# -- evaluation --------------------------------------------------------------------------------------------------------

DIRECTIONS = ("audio to sheet", "sheet to audio")


def both_ways(scores: np.ndarray) -> dict[str, list[int]]:
    """Ranks in both directions of scores (sounds, sheets), the higher the better; the diagonal is right."""
    own = np.arange(len(scores))
    return {d: metrics.ranks(-s, own)[0].tolist() for d, s in zip(DIRECTIONS, (scores, scores.T), strict=True)}


def by_votes(model: TwoTowers, data: Data, own: Sequence[Passage], condition: str, voters: Sequence[int]) -> dict:
    """Ranks of BL in both directions, for every number of ``voters``."""
    snippets, rows = sheets(data, own, condition)
    sheet = encoded(model, snippets, model.embed_sheet)
    snippets, lengths = sounds(data, own, condition)
    audio = encoded(model, snippets, model.embed_audio)
    found: dict = {}
    for direction, (queries, q_counts), (candidates, c_counts) in (
        (DIRECTIONS[0], (audio, lengths), (sheet, rows)),
        (DIRECTIONS[1], (sheet, rows), (audio, lengths)),
    ):
        owners = np.repeat(np.arange(len(own)), c_counts)
        starts = np.cumsum([0, *q_counts])
        for k in voters:
            scores = np.stack([
                vote(queries[a:b] @ candidates.T, owners, len(own), k) for a, b in zip(starts, starts[1:], strict=False)
            ])  # fmt: skip
            found.setdefault(k, {})[direction] = metrics.ranks(-scores, np.arange(len(own)))[0].tolist()
    return found


def execute(
    run: Run, data: Data, parents: dict[str, Path], weights: Path, checkpoint: Path, progress: bool = False
) -> dict:
    """Train where the run trains, and look for every test passage in every condition: the ``result`` block."""
    config = run.config
    torch.manual_seed(config.seed)
    half = data.preset.passages.precision == "bf16"
    if config.method == "snippet":
        model = snippet_model(WIDTHS[config.widths]).to(device())
        result = _counted(model) | fit_snippets(run, model, data, checkpoint, progress)
        model.eval()
        with torch.autocast(device().type, torch.bfloat16, enabled=half):
            plain = {"I": by_votes(model, data, data.test("I"), "I", (25,))[25]}
            about = {"study": KEY, "run": run.name, "widths": config.widths}
            save_weights(model, weights, about)
            refine(model, data, config)
            save_weights(model, refined(weights), about)
            result["test"] = {"plain": plain}
            for condition in CONDITIONS:
                votes = by_votes(model, data, data.test(condition), condition, VOTERS)
                result["test"][condition] = votes[25]
                if condition == "I":
                    result["test"]["voters"] = {str(k): ranks for k, ranks in votes.items()}
            result["test"]["tempi"] = {f"{t:g}": by_votes(model, data, data.at_tempo(t), "I", (25,))[25] for t in TEMPI}
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
    result = _counted(model)
    if config.method == "passage":
        with torch.autocast(device().type, torch.bfloat16, enabled=half):  # the encoder's vectors, too
            result |= fit_passages(run, model, encoder, data, checkpoint, progress)
    model.eval()
    save_weights(model, weights, {"study": KEY, "run": run.name, "widths": config.widths if widths else ""})

    def read(condition: str):
        def snippets(own: Sequence[Passage]) -> Passages:
            sheet, rows = sheets(data, own, condition)
            audio, lengths = sounds(data, own, condition)
            if encoder is not None:
                sheet = torch.from_numpy(encoded(encoder, sheet, encoder.sheet))
                audio = torch.from_numpy(encoded(encoder, audio, encoder.audio))
            return sheet, rows, audio, lengths

        return snippets

    with torch.autocast(device().type, torch.bfloat16, enabled=half):
        result["test"] = {}
        for condition in CONDITIONS:
            sheet, audio = embed(model, read(condition), data.test(condition))
            result["test"][condition] = both_ways(audio @ sheet.T)
            if condition == "I":
                result["distances"] = [round(float(1 - (a * s).sum()), 4) for a, s in zip(audio, sheet, strict=True)]
        if config.start == "" and config.summariser == "gru" and config.dimensions == 64:
            result["test"]["tempi"] = {}
            for tempo in TEMPI:
                sheet, audio = embed(model, read("I"), data.at_tempo(tempo))
                result["test"]["tempi"][f"{tempo:g}"] = both_ways(audio @ sheet.T)
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
