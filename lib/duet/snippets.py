"""Windows of a score and excerpts of a recording that belong together: what the encoders of audio and sheets see.

A piece is a strip, all its systems side by side, and its performances are spectrograms of 92 bands at 20 frames a
second.  Wherever a note sounds there is a pair: the window around its head and the excerpt around its onset.

Sources: Dorfer, Arzt & Widmer, ISMIR 2017, Sections 2.1 and 2.3; fact sheet of alignment, Section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import features, files, paths
from .corpora.msmd import EXPRESSIVE, PARTS, Msmd, soundfont, tempo_ratio
from .errors import DuetError
from .filterbank import FRAMES_PER_SECOND

if TYPE_CHECKING:
    from .corpora.sheets import OpenSheets

WHITE = 255
_VERSION = 1  # raise it when the same corpus gives other strips


class Pairs(NamedTuple):
    """Where a piece's notes begin in one performance: frame and column, (n,) each, one a frame, in time's order."""

    frames: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True)
class Piece:
    """A piece's strip and its noteheads: ``image`` (200, width) uint8; ``edges`` (s + 1,) columns where systems begin
    and the last one ends; ``columns``, ``pitches`` and ``owners`` (n,) of the noteheads: where they are in the strip,
    MIDI pitch and system; ``onsets`` (p, n) seconds in each of the ``performances``, NaN for those that have none.
    """

    name: str
    image: np.ndarray
    edges: np.ndarray
    columns: np.ndarray
    pitches: np.ndarray
    owners: np.ndarray
    onsets: np.ndarray
    performances: tuple[str, ...]

    def seconds(self, performance: str) -> np.ndarray:
        """(n,) of every notehead.  Raises DuetError for a performance that there is not."""
        if performance not in self.performances:
            raise DuetError(f"{self.name} has no performance {performance!r}", remedy="use another corpus or split")
        return self.onsets[self.performances.index(performance)]

    def sounding(self, performance: str) -> np.ndarray:
        """Indices of the noteheads that sound, by onset and then from left to right."""
        seconds = self.seconds(performance)
        usable = np.flatnonzero(np.isfinite(seconds) & (self.owners >= 0))
        return usable[np.lexsort((self.columns[usable], seconds[usable]))]

    def pairs(self, performance: str) -> Pairs:
        """One for every frame in which a note begins, at the column of the first of them (as published)."""
        order = self.sounding(performance)
        frames, first = np.unique(frame_of(self.seconds(performance)[order]), return_index=True)
        return Pairs(frames, self.columns[order[first]])


def frame_of(seconds: np.ndarray) -> np.ndarray:
    """Frames in which onsets fall: rounded up, as MSMD has them."""
    return np.ceil(np.asarray(seconds) * FRAMES_PER_SECOND - 1e-6).astype(int)


class Take(NamedTuple):
    """One performance of a piece."""

    piece: str
    performance: str


#: of MSMD 1.1: what the test, and what training without augmentation is played on (fact sheet of passages, Section 2)
PUBLISHED_FIXED = ("grand-piano-YDP-20160804", "ElectricPiano")


class Pieces:
    """Strips and noteheads of a corpus's pieces, made once and memory-mapped from then on."""

    def __init__(self, corpus: Msmd):
        self.corpus = corpus
        self.get = lru_cache(maxsize=None)(self._get)
        self.spectrogram = lru_cache(maxsize=None)(corpus.spectrogram)  # mapped files, not their contents

    @cached_property
    def folder(self) -> Path:
        return paths.cache() / "strips" / files.digest(self.corpus.fingerprint, str(_VERSION))[:16]

    def prepare(self, names: Sequence[str], progress: bool = False) -> dict[str, str]:
        """Make what is missing; why some pieces cannot be used, by name."""
        damaged = features.store(self.folder / "image", names, partial(_image, self.corpus), "strips", progress)
        names = [name for name in names if name not in damaged]
        return damaged | features.store(
            self.folder / "heads", names, partial(_heads, self.corpus), "noteheads", progress
        )

    def _get(self, name: str) -> Piece:
        table = np.load(self.folder / "heads" / f"{name}.npy")
        columns, pitches, owners, edges = table[:4]
        heads = np.isfinite(columns)
        return Piece(
            name,
            np.load(self.folder / "image" / f"{name}.npy", mmap_mode="r"),
            edges[np.isfinite(edges)].astype(int),
            columns[heads],
            pitches[heads].astype(int),
            owners[heads].astype(int),
            table[4:, heads],
            tuple(self.corpus.performances(name)),
        )

    def fixed(self, name: str) -> Take:
        """The performance that training without augmentation, validation and test have: at the notated tempo.

        Of several instruments the one that has a tempo curve too, which is the test's in a test piece; MSMD itself has
        no such performance, and its own fixed instruments.  Raises DuetError where there is none.
        """
        performances = self.get(name).performances
        takes = [p for p in performances if tempo_ratio(p) == 1 and not p.endswith(EXPRESSIVE)]
        wanted = [p for p in takes if p + EXPRESSIVE in performances]
        wanted += [p for font in PUBLISHED_FIXED for p in takes if soundfont(p) == font]
        if not wanted:
            raise DuetError(f"{name} has no performance at its own tempo", path=self.corpus.root, remedy="render one")
        return Take(name, wanted[0])

    def expressive(self, name: str) -> Take | None:
        """The fixed performance's counterpart with a tempo curve, where there is one."""
        fixed = self.fixed(name).performance + EXPRESSIVE
        return Take(name, fixed) if fixed in self.get(name).performances else None

    def by_length(self, names: Sequence[str]) -> list[str]:
        """The pieces by the widths of their strips, the shortest first."""
        return sorted(names, key=lambda name: self.get(name).image.shape[1])


class Shelf(NamedTuple):
    """Pieces that are ready, by parts, and why others of the split could not be used."""

    pieces: Pieces
    split: dict[str, list[str]]
    skipped: dict[str, str]


def opened(preset: str, open_corpus: OpenSheets | None, folder: str, split: str, progress: bool = False) -> Shelf:
    """The pieces of a split of the corpus in ``folder``, which has MSMD's layout, or of the preset's open corpus.

    Raises DuetError where there is neither.
    """
    if folder:
        corpus = Msmd(folder)
    elif open_corpus is None:
        raise DuetError(f"the preset {preset} reads MSMD itself", remedy="give corpus=<folder of msmd_aug_v1-1>")
    else:
        corpus = open_corpus.build(progress=progress)
    every, pieces = corpus.split(split), Pieces(corpus)
    skipped = pieces.prepare([name for part in PARTS for name in every[part]], progress)
    return Shelf(pieces, {part: [name for name in every[part] if name not in skipped] for part in PARTS}, skipped)


def require(corpus: Msmd, split: dict[str, list[str]], what: str = "") -> None:
    """Raises DuetError where a part of the split has no piece; ``what`` says of which kind."""
    empty = next((part for part in PARTS if not split[part]), None)
    if empty:
        raise DuetError(f"has no {empty} piece{what} that can be used", path=corpus.root, remedy="take more pieces")


def shortest(pieces: Pieces, names: Sequence[str], count: int) -> list[str]:
    """The ``count`` pieces with the shortest strips, in the order in which they came; 0: all."""
    chosen = pieces.by_length(names)[: count or None]
    return [name for name in names if name in chosen]


def evenly(items: Sequence, count: int) -> list:
    """``count`` of them, evenly spaced; all where there are no more, or ``count`` is 0."""
    if not count or len(items) <= count:
        return list(items)
    return [items[k] for k in np.linspace(0, len(items) - 1, count).round().astype(int)]


def _image(corpus: Msmd, name: str) -> np.ndarray:
    strip = corpus.strip(name)
    if not corpus.performances(name):
        raise DuetError(f"{name} has no performance", path=corpus.root, remedy="use the corpus's split")
    return strip.image


def _heads(corpus: Msmd, name: str) -> np.ndarray:
    """(4 + p, n) float64: columns, pitches, owners, edges (NaN behind the last), then onsets in performances."""
    strip = corpus.strip(name)
    width = max(len(strip.positions), len(strip.columns))
    rows = [strip.positions, corpus.noteheads(name)["pitch"], strip.owner, strip.columns]
    rows += [corpus.onsets(name, p) for p in corpus.performances(name)]
    return np.array([np.pad(np.asarray(row, float), (0, width - len(row)), constant_values=np.nan) for row in rows])


# -- cutting -----------------------------------------------------------------------------------------------------------


def window(
    image: np.ndarray, column: float, rows: int = 180, columns: int = 200, scale: float = 1.0, down: int = 0
) -> np.ndarray:
    """(rows, columns) uint8 around a column of a strip and the middle of its rows, moved ``down`` so many rows.

    ``scale`` above 1 magnifies (nearest neighbour).  Beyond the strip's ends there is white paper, above and below it
    its edge goes on.
    """
    height, width = image.shape
    down_there = np.floor(height / 2 + down + (np.arange(rows) + 0.5 - rows / 2) / scale).astype(int)
    across = np.floor(round(column) + (np.arange(columns) + 0.5 - columns / 2) / scale).astype(int)
    inside = (across >= 0) & (across < width)
    cut = image[np.ix_(down_there.clip(0, height - 1), across.clip(0, width - 1))]
    return cut if inside.all() else np.where(inside, cut, WHITE).astype(np.uint8)


def published_column(column: float, width: int, context: int = 800) -> float:
    """The centre of the window that the released code of 2018 cuts for a target: the middle of ``context`` columns
    around it, which are moved to lie within the strip, so that near an end every target gets one and the same window.
    """
    return float(np.clip(column, min(context, width) / 2, width - min(context, width) / 2))


def excerpt(spectrogram: np.ndarray, frame: int, frames: int = 42, bands: int = 0) -> np.ndarray:
    """(92, frames) float32 around a frame, silent beyond the ends; ``bands`` moves it up so many bands."""
    start = frame - frames // 2
    cut = spectrogram[:, max(0, start) : max(0, start + frames)]
    before = min(frames, max(0, -start))
    cut = np.pad(cut, ((0, 0), (before, frames - before - cut.shape[1])))
    if bands:
        cut = cut[(np.arange(len(cut)) - bands).clip(0, len(cut) - 1)]
    return cut.astype(np.float32, copy=False)
