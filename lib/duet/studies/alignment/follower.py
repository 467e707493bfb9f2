"""People's own scores and recordings: every notehead gets its time, and a page plays both together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ... import own_files, paths, player
from ...corpora.msmd import unroll
from ...engraving import Sheet
from ...errors import DuetError
from ...filterbank import FRAMES_PER_SECOND, SAMPLE_RATE, log_filterbank
from ...models.encoders import TwoTowers
from ...player import MOMENTS
from ...progress import Progress
from ...runs import Grid
from ...training import device, load_into, read_about, save_weights
from .aligner import FRAMES, NETWORKS, Alignment, Embedded, Network, align, confidence, embed_recording, embed_strip
from .experiment import Data
from .grid import KEY

# -- the network -------------------------------------------------------------------------------------------------------


@dataclass
class Model:
    """A trained network with what is needed to use it.

    ``threshold``: a recording that is aligned with less confidence is likely to be of another score.
    """

    towers: TwoTowers
    network: Network
    threshold: float

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """Raises DuetError for a missing or damaged file, and for weights of something else."""
        path = Path(path)
        about = read_about(path)
        if about.get("study") != KEY or about.get("network") not in NETWORKS:
            raise DuetError("holds no weights of an aligner", path=path, remedy="leave it out for those published")
        try:
            threshold = float(about.get("threshold", ""))
        except ValueError:
            threshold = math.nan
        if not math.isfinite(threshold):
            raise DuetError("holds no threshold of confidence", path=path, remedy="take those that `ship` has written")
        network = NETWORKS[about["network"]]
        towers = network.build()
        load_into(towers, path)
        return cls(towers.to(device()).eval(), network, threshold)

    def strip(self, image: np.ndarray) -> Embedded:
        """Windows of a strip (200, columns) uint8."""
        return embed_strip(self.towers, self.network, image)

    def recording(self, spectrogram: np.ndarray) -> Embedded:
        """Excerpts of a spectrogram (92, frames)."""
        return embed_recording(self.towers, spectrogram)


def published_weights() -> Path:
    """Those that come with the project: the best network that has seen every composer."""
    return paths.ROOT / "results" / "overnight" / KEY / "weights" / "follower.safetensors"


def ship(grid: Grid) -> Path | None:
    """Publish the best network there is beside the tables, with its threshold in the header.

    None where no such run is made, or the first one's weights are not on this machine.
    """
    first = grid.study.PRESETS[grid.preset].seeds[0]
    wanted = [f"{name}-s{first}" for name in ("all-pieces-strong", "strong", "all-pieces", "all")]
    name = next((n for n in wanted if n in grid.runs and grid.find(n) is not None), None)
    if name is None or not grid.weights(name).exists():
        return None
    target, identity = grid.folder / "weights" / "follower.safetensors", grid.id(name)
    if target.exists() and read_about(target).get("id") == identity:
        return target  # validation takes minutes
    about = read_about(grid.weights(name))
    network = NETWORKS[about["network"]]
    towers = network.build()
    load_into(towers, grid.weights(name))
    model = Model(towers.to(device()).eval(), network, math.nan)
    threshold = calibrate(model, grid.data())
    save_weights(towers, target, {**about, "id": identity, "threshold": f"{threshold:.6g}"})
    return target


def calibrate(model: Model, data: Data) -> float:
    """The threshold that validation pieces choose: each with its own recordings, and with those of another piece.

    Both performances count, the one at the notated tempo and, where there is one, the one with a tempo curve.
    """
    names = data.splits["all"]["valid"]
    strips = [model.strip(data.pieces.get(name).image) for name in names]
    own, wrong = [], []
    for number, name in enumerate(names):
        for take in filter(None, (data.pieces.fixed(name), data.pieces.expressive(name))):
            recording = model.recording(data.pieces.spectrogram(*take))
            own.append(confidence(strips[number], recording))
            if len(names) > 1:
                wrong.append(confidence(strips[(number + 1) % len(names)], recording))
    return threshold_between(own, wrong)


def threshold_between(own: list[float], wrong: list[float]) -> float:
    """Midway between the 5th percentile of ``own`` and the 95th of ``wrong`` where that one is lower.

    Else the value with the fewest wrong decisions, the lowest of several.  Raises DuetError where one of them is empty.
    """
    if not own or not wrong:
        raise DuetError("a threshold of confidence needs two validation pieces", remedy="take more pieces")
    low, high = np.percentile(wrong, 95), np.percentile(own, 5)
    if low < high:
        return float(low + high) / 2
    every = np.unique([*own, *wrong])
    between = [every[0], *(every[1:] + every[:-1]) / 2]
    mistakes = [np.less(own, t).sum() + np.greater_equal(wrong, t).sum() for t in between]
    return float(between[int(np.argmin(mistakes))])


# -- the strip ---------------------------------------------------------------------------------------------------------


class _Strip(NamedTuple):
    """``image`` (200, width) uint8; ``columns`` (n,) of it and ``places`` (n,) of MOMENTS without their seconds."""

    image: np.ndarray
    columns: np.ndarray
    places: np.ndarray


def unrolled(sheet: Sheet) -> _Strip:
    """All systems side by side, and the places that get a time, from left to right.

    They are the columns of noteheads that sound and do not go on with a tie, and the end of every system; in one where
    nothing sounds its beginning too.
    """
    image, edges = unroll(sheet.images, [(s.page, s.top, s.left, s.bottom, s.right) for s in sheet.systems])
    heads: dict[tuple[int, int], set[float]] = {}
    for head in sheet.noteheads:
        if not head.tied:
            heads.setdefault((head.page, head.system), set()).add(round(head.column, 1))
    columns, places, number = [], [], -1
    for k, system in enumerate(sheet.systems):
        number = number + 1 if k and sheet.systems[k - 1].page == system.page else 0
        left = max(0, round(system.left))
        last = left + int(edges[k + 1] - edges[k]) - 1
        inside = {min(max(c, left), last) for c in heads.get((system.page, number), {left})}
        for column in sorted({*inside, last}):
            columns.append(edges[k] + column - left)
            places.append((0.0, system.page, number, column))
    return _Strip(image, np.array(columns, float), np.array(places, MOMENTS))


# -- the recording in its score ----------------------------------------------------------------------------------------

_SHORTEST = FRAMES / FRAMES_PER_SECOND  # seconds: one excerpt
_TOLD = 2.0  # seconds of silence that are worth a remark


@dataclass
class Followed:
    """``sheet`` with ``moments`` (n,) of :data:`player.MOMENTS`, in seconds of ``audio`` (samples,) at 22,050 Hz.

    ``remarks``, a sentence or two each, begin with the ``confidence``.
    """

    title: str
    sheet: Sheet
    moments: np.ndarray
    audio: np.ndarray
    confidence: float
    remarks: tuple[str, ...]


def follow(
    audio: str | Path, score: str | Path, model: Model, anyway: bool = False, progress: bool = False
) -> Followed:
    """A recording aligned with its score from end to end: Section 6 of the paper.

    Silence before and after the music is left out of the alignment.  Raises DuetError as ``own_files`` does for damaged
    ones and, unless ``anyway``, for a recording that does not seem to be of this score.
    """
    audio, score = Path(audio), Path(score)
    with Progress(f"following {audio.name}", 5, progress) as report:
        heard = own_files.music_in(audio, _SHORTEST)
        (sound,) = own_files.stretches(audio, [(0, heard.seconds)])
        report(1)
        read = own_files.read_score(score)
        report(1)
        strip = unrolled(read.sheet)
        pictures = model.strip(strip.image)
        report(1)
        music = sound[round(heard.start * SAMPLE_RATE) : round(heard.end * SAMPLE_RATE)]
        sounds = model.recording(log_filterbank(music))
        report(1)
        sure = confidence(pictures, sounds)
        told = f"confidence {sure:.3f}, below {model.threshold:.3f}"
        if sure < model.threshold and not anyway:
            raise DuetError(
                f"does not seem to be a recording of {score.name}: {told}",
                path=audio,
                remedy="check both files, or align them nevertheless with --anyway",
            )
        moments = strip.places.copy()
        moments["seconds"] = heard.start + seconds_at(align(pictures, sounds), strip.columns)
        report(1)
    if sure < model.threshold:
        remarks = [f"The recording does not seem to be of this score: {told}. The cursor is not to be trusted."]
    else:
        remarks = [
            f"Confidence {sure:.3f}; below {model.threshold:.3f} the recording would not seem to be of this score."
        ]
    after = heard.seconds - heard.end
    if heard.start + after > _TOLD:
        remarks.append(
            f"Silence is left out of the alignment: {heard.start:.1f} s at the beginning, {after:.1f} s at the end."
        )
    return Followed(f"{read.title} ({audio.name})", read.sheet, moments, sound, sure, (*remarks, *read.remarks))


def seconds_at(found: Alignment, columns: np.ndarray) -> np.ndarray:
    """(n,) of the recording's frames.  A note that begins within a frame belongs to the next one, see snippets."""
    return np.maximum(0, found.frames_at(columns) - 0.5) / FRAMES_PER_SECOND


def write_page(followed: Followed, path: str | Path) -> None:
    """One HTML file that plays the recording with a cursor in the score."""
    player.follow_page(
        path,
        followed.title,
        followed.sheet.images,
        followed.sheet.systems,
        followed.moments,
        followed.audio,
        SAMPLE_RATE,
        followed.remarks,
    )
