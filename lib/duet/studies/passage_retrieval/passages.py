"""Passages: what of a page and of a recording belongs to one system, and how both are cut into snippets.

Source: Carvalho & Widmer, ISMIR 2023, Section 2, and the code's way of cutting (fact sheet, Sections 3 and 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...filterbank import FRAMES_PER_SECOND
from ...models.passage import SNIPPETS
from ...snippets import WHITE, Piece, frame_of

SHEET_HOP, AUDIO_HOP = 81, 18  # columns of a halved page, and frames: a tenth of a snippet overlaps with the next
LEFT = 20  # white columns before a system, halved


class Passage(NamedTuple):
    """A system as one performance plays it: ``columns`` of the strip and ``frames`` of the spectrogram, [from, to)."""

    piece: str
    performance: str
    system: int
    columns: tuple[int, int]
    frames: tuple[int, int]

    @property
    def seconds(self) -> float:
        return (self.frames[1] - self.frames[0]) / FRAMES_PER_SECOND


def passages(piece: Piece, performance: str, length: int) -> list[Passage]:
    """Of every system in which a note begins; ``length``: frames of the spectrogram.

    A passage begins with the first onset in its system and ends where the next one begins, the last with the sound, its
    release included.  Systems that would have no frame, as all their notes sound already, are left out.
    """
    seconds = piece.seconds(performance)
    starts = {}
    for system in range(len(piece.edges) - 1):
        own = seconds[(piece.owners == system) & np.isfinite(seconds)]
        if len(own):
            starts[system] = int(frame_of(own.min()))
    numbers = sorted(starts)
    ends = [starts[system] for system in numbers[1:]] + [length]
    return [
        Passage(piece.name, performance, system, (int(piece.edges[system]), int(piece.edges[system + 1])), (begin, end))
        for system, begin, end in ((s, starts[s], e) for s, e in zip(numbers, ends, strict=True))
        if end > begin
    ]


def sheet_snippets(image: np.ndarray, columns: tuple[int, int]) -> np.ndarray:
    """(n, 80, 90) uint8 of a system's columns of a strip: halved, its middle rows, white to the left and the right."""
    rows, width = SNIPPETS["sheet"]
    cut = image[:, slice(*columns)]
    cut = cut[: len(cut) // 2 * 2, : cut.shape[1] // 2 * 2].astype(np.uint16)
    halved = (cut[::2, ::2] + cut[1::2, ::2] + cut[::2, 1::2] + cut[1::2, 1::2] + 2) // 4
    top = (len(halved) - rows) // 2
    halved = halved[top : top + rows].astype(np.uint8)
    starts = np.arange(0, halved.shape[1] + LEFT, SHEET_HOP)
    padded = np.full((rows, starts[-1] + width), WHITE, np.uint8)
    padded[:, LEFT : LEFT + halved.shape[1]] = halved
    return np.stack([padded[:, start : start + width] for start in starts])


def audio_snippets(spectrogram: np.ndarray, frames: tuple[int, int]) -> np.ndarray:
    """(n, 92, 20) float32: the last one reads on into the next passage, and into silence at the end of the piece."""
    length = SNIPPETS["audio"][1]
    starts = np.arange(*frames, AUDIO_HOP)
    cut = spectrogram[:, frames[0] : starts[-1] + length]
    cut = np.pad(cut, ((0, 0), (0, starts[-1] + length - frames[0] - cut.shape[1])))
    return np.stack([cut[:, start - frames[0] : start - frames[0] + length] for start in starts]).astype(np.float32)


def vote(similarity: np.ndarray, owners: Sequence[int], passages: int, voters: int) -> np.ndarray:
    """(passages,) scores of candidates for one query passage, the higher the better: BL of Section 3.1.

    ``similarity`` (snippets of the query, all candidates' snippets), ``owners`` the passages of the latter.  Of each
    query snippet the ``voters`` nearest have a vote each; ties are broken by the mean similarity of the hits, and
    passages without a vote come after all others, by their best single snippet.  The paper does not say how many vote.
    """
    owners = np.asarray(owners)
    voters = min(voters, similarity.shape[1])
    hits = np.argpartition(-similarity, voters - 1, axis=1)[:, :voters]
    flat = owners[hits].ravel()
    votes = np.bincount(flat, minlength=passages).astype(float)
    sums = np.bincount(flat, np.take_along_axis(similarity, hits, 1).ravel(), passages)
    best = np.full(passages, -1.0)
    np.maximum.at(best, owners, similarity.max(0))
    # cosines lie within [-1, 1]: a third of them never outweighs a vote, nor lifts a passage without one above it
    return np.where(votes > 0, votes + sums / np.maximum(votes, 1) / 3, best / 3 - 1)
