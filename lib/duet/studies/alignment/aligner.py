"""From a strip and a spectrogram to an alignment, and how far to trust it: Section 6 of the paper."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ... import dtw
from ...filterbank import BANDS
from ...models.cca import RIDGE
from ...models.encoders import PAPER, TwoTowers, in_batches
from ...snippets import excerpt, window

FRAMES = 42  # of an excerpt: 2.1 s
STEP_COLUMNS, STEP_FRAMES = 10, 2  # between windows along the strip and excerpts along the recording


class Network(NamedTuple):
    """Widths of the encoders, and the window: rows and columns cut, and by how much they are reduced.

    ``dense``: dense layers in place of the means, and no CCA layer.
    """

    maps: tuple[int, ...]
    window: tuple[int, int]
    reduced: int
    dense: bool = False

    @property
    def picture(self) -> tuple[int, int]:
        """Rows and columns that the network sees."""
        return self.window[0] // self.reduced, self.window[1] // self.reduced

    def build(self, ridge: float = RIDGE) -> TwoTowers:
        """With random weights."""
        pictures = (self.picture, (BANDS, FRAMES)) if self.dense else None
        return TwoTowers(self.maps, ridge=ridge, pictures=pictures)


NETWORKS = {
    "paper": Network(PAPER, (180, 200), 1),
    "small": Network(PAPER, (180, 200), 2),
    "dense": Network(PAPER, (180, 200), 2, dense=True),
}


def reduce_pictures(pictures: np.ndarray, by: int) -> Tensor:
    """(B, rows, columns) uint8 to (B, 1, rows / by, columns / by) in [0, 1]: the mean of ``by`` x ``by`` pixels."""
    values = torch.from_numpy(pictures)[:, None].float() / 255
    return nn.functional.avg_pool2d(values, by) if by > 1 else values


class Embedded(NamedTuple):
    """Embeddings (n, 32) of unit length, and the (n,) columns or frames that they are of."""

    vectors: np.ndarray
    places: np.ndarray


def embed_strip(model: TwoTowers, network: Network, image: np.ndarray) -> Embedded:
    """Windows about every 10 columns, from the first column to the last: beyond the ends there is white paper.

    The released code has none at the ends; what is played there then has no place.
    """
    width = image.shape[1]
    columns = np.linspace(0, width - 1, max(2, width // STEP_COLUMNS)).round()
    cut = lambda own: reduce_pictures(np.stack([window(image, c, *network.window) for c in own]), network.reduced)  # noqa: E731
    return Embedded(in_batches(model, model.embed_sheet, columns, cut), columns)


def embed_recording(model: TwoTowers, spectrogram: np.ndarray) -> Embedded:
    """Excerpts about every 2 frames, from the first frame to the last: before and after it there is silence."""
    length = spectrogram.shape[1]
    frames = np.linspace(0, length - 1, max(2, length // STEP_FRAMES)).round().astype(int)
    cut = lambda own: torch.from_numpy(np.stack([excerpt(spectrogram, f, FRAMES) for f in own]))[:, None]  # noqa: E731
    return Embedded(in_batches(model, model.embed_audio, frames, cut), frames.astype(float))


class Alignment(NamedTuple):
    """Corresponding (n,) frames and columns, neither ever falling, and the mean cost along them."""

    frames: np.ndarray
    columns: np.ndarray
    cost: float = 0.0

    def columns_at(self, frames: np.ndarray) -> np.ndarray:
        """Of each frame the first column that corresponds to it; in between a straight line."""
        known, first = np.unique(self.frames, return_index=True)
        return np.interp(frames, known, self.columns[first])

    def frames_at(self, columns: np.ndarray) -> np.ndarray:
        """The other way round."""
        known, first = np.unique(self.columns, return_index=True)
        return np.interp(columns, known, self.frames[first])


def align(sheet: Embedded, recording: Embedded) -> Alignment:
    """Both from end to end, by the cheapest path through their cosine distances."""
    path = dtw.global_path(sheet.vectors.T, recording.vectors.T)
    cosines = (sheet.vectors[path[:, 0]] * recording.vectors[path[:, 1]]).sum(1)
    return Alignment(recording.places[path[:, 1]], sheet.places[path[:, 0]], float(1 - cosines.mean()))


def confidence(sheet: Embedded, recording: Embedded) -> float:
    """By how much the alignment is cheaper than that of the recording played backwards.

    The same excerpts in a wrong order: near 0 where the recording is of another piece.
    """
    backwards = Embedded(recording.vectors[::-1], recording.places)
    return align(sheet, backwards).cost - align(sheet, recording).cost
