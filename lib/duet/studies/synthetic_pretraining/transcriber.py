"""People's own recordings to MIDI, with a model that has heard synthetic sound only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pretty_midi
import soundfile
import soxr
import torch

from ... import files, paths, transcription
from ...errors import DuetError
from ...models.unet import Transcriber
from ...progress import Progress
from ...runs import Grid
from ...training import device, load_into, read_about, save_weights
from ...transcription import FRAME, HOP, KEYS, SAMPLE_RATE, Thresholds
from .experiment import NETWORKS, decode
from .grid import KEY


@dataclass
class Model:
    """A trained network with what is needed to use it."""

    network: Transcriber
    thresholds: Thresholds
    normalisation: str
    about: dict[str, str]

    @classmethod
    def load(cls, path: Path) -> Model:
        """Raises DuetError for a missing or damaged file, and for weights of something else."""
        about = read_about(path)
        if about.get("study") != KEY or about.get("network") not in NETWORKS:
            raise DuetError("holds no weights of a transcriber", path=path, remedy="leave it out for those published")
        network = NETWORKS[about["network"]]()
        load_into(network, path)
        sounding, onset = (float(v) for v in about["thresholds"].split())
        return cls(network.to(device()).eval(), Thresholds(sounding, onset), about["normalisation"], about)


def published_weights() -> Path:
    """Those that come with the project, in half precision: trained on Synthesized Instruments, first seed."""
    return paths.ROOT / "results" / "overnight" / KEY / "weights" / "si.safetensors"


def ship(grid: Grid) -> Path | None:
    """Publish the first seed's network of synthetic sound beside the tables; None where it is not on this machine.

    A network that has learned from MAPS stays with the user: its recordings may not be passed on.
    """
    name = f"si-s{grid.study.PRESETS[grid.preset].seeds[0]}"
    record, weights = grid.find(name), grid.weights(name)
    if record is None or not weights.exists():
        return None
    network = NETWORKS[record["config"]["network"]]()
    load_into(network, weights)
    target = grid.folder / "weights" / "si.safetensors"
    thresholds = " ".join(f"{t:g}" for t in record["result"]["thresholds"]["maps"])
    about = {"thresholds": thresholds, "normalisation": record["config"]["normalisation"]}
    save_weights(network.half(), target, {**read_about(weights), **about})
    return target


# -- audio in bounded memory -------------------------------------------------------------------------------------------

_READ = 1 << 18  # samples of the file at a time
_CONTEXT = 64 * HOP  # samples on each side of a block, besides the network's: half the longest filter is 10,000


def _stream(path: Path) -> Iterator[np.ndarray]:
    """(samples,) float32 at 16 kHz of a file of any format, rate and number of channels, piece by piece.

    Raises DuetError for a file that is missing, damaged or empty, or holds samples that are no numbers.
    """
    try:
        with soundfile.SoundFile(path) as source:
            resample = soxr.ResampleStream(source.samplerate, SAMPLE_RATE, 1, "float32", "HQ")
            read = 0
            while True:
                block = source.read(_READ, "float32", always_2d=True)
                read += len(block)
                if not np.isfinite(block).all():
                    raise DuetError("holds samples that are no numbers", path=path, remedy="export the audio again")
                yield resample.resample_chunk(block.mean(1), last=len(block) < _READ)
                if len(block) < _READ:
                    break
            if source.frames < 1 << 60 and read < source.frames - source.samplerate:
                raise DuetError(
                    f"is cut short: {read / source.samplerate:.1f} s of {source.frames / source.samplerate:.1f} s",
                    path=path,
                    remedy="copy or export it again",
                )
    except soundfile.LibsndfileError as error:
        if not path.is_file():
            raise DuetError("no such audio file", path=path, remedy="check its name") from None
        raise DuetError(
            f"is not readable audio: {error.error_string}", path=path, remedy="convert it to WAV or FLAC"
        ) from None


def _gain(path: Path) -> tuple[float, int]:
    """What brings the recording to the level that networks know, and its samples at 16 kHz."""
    energy, samples, loudest = 0.0, 0, 0.0
    for block in _stream(path):
        energy += float(np.square(block, dtype=np.float64).sum())
        samples += len(block)
        loudest = max(loudest, float(np.abs(block).max(initial=0)))
    if samples < SAMPLE_RATE // 10:
        raise DuetError(f"lasts {samples / SAMPLE_RATE:.3f} s, too short to transcribe", path=path)
    if loudest < 1e-4:
        raise DuetError("is silent", path=path, remedy="check the recording's level")
    return transcription.LEVEL / np.sqrt(energy / samples), samples


def _blocks(path: Path, samples: int) -> Iterator[tuple[np.ndarray, slice]]:
    """Audio of a minute with what its frames need on both sides, and the frames of it that count."""
    block, margin = transcription.BLOCK * HOP, transcription.MARGIN * HOP + _CONTEXT
    held, start, first = np.zeros(0, np.float32), 0, 0  # `held` begins with sample `start`
    stream = _stream(path)
    while first < samples:
        until = min(first + block + margin, samples)
        while start + len(held) < until:
            held = np.concatenate([held, next(stream)])
        stop = min(first + block, samples)
        keep = slice((first - start) // HOP, -(-(stop - start) // HOP))
        yield held[: until - start], keep
        first = stop
        drop = max(0, first - margin - start)
        held, start = held[drop:], start + drop


@dataclass
class Heard:
    """What was found: (n, 4) notes, the recording's seconds."""

    notes: np.ndarray
    seconds: float


@torch.inference_mode()
def transcribe(path: str | Path, model: Model, progress: bool = False) -> Heard:
    """The notes of a recording, a minute of audio in memory at a time.

    Raises DuetError for audio that is missing, damaged, cut short, silent or holds NaN, in one line.
    """
    path = Path(path)
    gain, samples = _gain(path)
    sounding, onsets = [], []
    with Progress(f"transcribing {path.name}", -(-samples // (transcription.BLOCK * HOP)), progress) as report:
        for audio, keep in _blocks(path, samples):
            values = transcription.spectrogram(audio * np.float32(gain))
            both = transcription.probabilities(model.network, values, model.normalisation)
            # a byte for what is nearly always 0: an hour is 20 MB
            sounding.append(np.round(255 * both[0][keep]).astype(np.uint8))
            onsets.append(np.round(255 * both[1][keep]).astype(np.uint8))
            report(1)
    both = tuple(np.concatenate(part).astype(np.float32) / 255 for part in (sounding, onsets))
    notes = decode(both, model.thresholds, len(model.network.heads))
    return Heard(notes, samples / SAMPLE_RATE)


def write_midi(notes: np.ndarray, path: str | Path, program: int = 0) -> None:
    """A file of one piano (or another General MIDI program) that players and notation programs open."""
    midi = pretty_midi.PrettyMIDI(resolution=960, initial_tempo=120)
    instrument = pretty_midi.Instrument(program)
    instrument.notes = [
        pretty_midi.Note(int(velocity), int(pitch), float(onset), float(max(offset, onset + FRAME)))
        for onset, offset, pitch, velocity in notes
    ]
    midi.instruments.append(instrument)
    with files.atomic(path) as temporary:
        midi.write(str(temporary))


def roll_picture(notes: np.ndarray, seconds: float) -> np.ndarray:
    """(88, frames) of 0 and 1: the keys over time, for a figure."""
    frames = -(-int(seconds * SAMPLE_RATE) // HOP)
    return (transcription.roll(notes, frames) > 1).T.reshape(KEYS, frames)
