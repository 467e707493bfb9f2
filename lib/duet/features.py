"""What the networks read: staff images and constant-Q transforms as (rows, columns) pictures, cached.

One row order for both: row 0 is the top of the page, or the highest frequency.  Values are uint8, 255 for ink or
for the loudest bin and 0 for paper or for 80 dB below it, so that zero padding is blank paper and silence.

Source: Alfaro-Contreras et al., SMC 2022, Section 3.1, and its code (fact sheet, Section 3).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import librosa
import numpy as np
from PIL import Image, UnidentifiedImageError

from . import files, paths
from .corpora.primus import Primus
from .errors import DuetError
from .progress import in_parallel

SAMPLE_RATE = 22_050
HOP = 512
DYNAMIC_RANGE = 80.0  # dB below the clip's maximum
_VERSION = 1


@dataclass(frozen=True)
class Picture:
    """How an incipit becomes a picture.  Part of every run's config and of the cache's key."""

    modality: str  # "image" or "audio"
    height: int = 64
    distorted: bool = True  # images: the camera's picture, else the clean one
    bins: int = 120  # audio: 24 bins an octave from C1; 168 reach C8


def read_image(path: str | Path) -> np.ndarray:
    """(rows, columns) uint8 grayscale, 255 = paper.  Raises DuetError for a missing, damaged or empty image."""
    try:
        with Image.open(path) as image:
            picture = np.asarray(image.convert("L"))
    except FileNotFoundError:
        raise DuetError("no such image", path=path, remedy="restore it, or leave its id out of the lists") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DuetError(
            f"is not a readable image: {error}", path=path, remedy="restore it from the corpus archive"
        ) from None
    if min(picture.shape) < 2:
        raise DuetError(
            f"is an image of {picture.shape[1]} by {picture.shape[0]} pixels",
            path=path,
            remedy="restore it from the corpus archive",
        )
    return picture


def read_audio(path: str | Path, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """(samples,) float32, mono and resampled.  Raises DuetError for missing, damaged, empty, silent or NaN audio."""
    if not Path(path).is_file():
        raise DuetError("no such audio file", path=path, remedy="restore it, or leave its id out of the lists")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # librosa tells of each decoder that it tries
            audio, _ = librosa.load(path, sr=sample_rate, mono=True)
    except Exception as error:  # librosa hands on whatever its decoders raise
        raise DuetError(
            f"is not readable audio: {type(error).__name__} {error}",
            path=path,
            remedy="restore the file or convert it to WAV",
        ) from None
    if is_cut_short(Path(path)):
        raise DuetError("is cut short: its header promises more audio", path=path, remedy="copy or export it again")
    return check_audio(audio, path, sample_rate)


def is_cut_short(path: Path) -> bool:
    """Whether a WAV file ends before its header says; decoders return what is left of it without a word."""
    with open(path, "rb") as handle:
        head = handle.read(8)
    size = int.from_bytes(head[4:], "little")
    return head[:4] == b"RIFF" and size < 0xFFFFFFF0 and size + 8 > path.stat().st_size + 1  # above: not known


def check_audio(audio: np.ndarray, path: str | Path | None = None, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """The audio itself.  Raises DuetError for less than a tenth of a second, NaN or silence."""
    if audio.size < sample_rate // 10:
        raise DuetError(f"lasts {audio.size / sample_rate:.3f} s, too short", path=path, remedy="give a longer clip")
    if not np.isfinite(audio).all():
        raise DuetError("holds samples that are no numbers", path=path, remedy="export the audio again")
    if np.abs(audio).max() < 1e-4:
        raise DuetError("is silent", path=path, remedy="check the recording's level")
    return audio


def constant_q(audio: np.ndarray, bins: int = 120) -> np.ndarray:
    """(bins, frames) float32 in [0, 1]: 24 bins an octave from C1 (32.70 Hz), hop 512 at 22,050 Hz, row 0 highest.

    dB below the clip's maximum, floored at -80 dB.  120 bins end at 1,017 Hz, the published setting; 168 at C8.
    """
    magnitude = np.abs(librosa.cqt(audio, sr=SAMPLE_RATE, hop_length=HOP, n_bins=bins, bins_per_octave=24))
    decibel = librosa.amplitude_to_db(magnitude, ref=np.max, top_db=DYNAMIC_RANGE)
    return ((decibel + DYNAMIC_RANGE) / DYNAMIC_RANGE)[::-1].astype(np.float32)


def image_picture(image: np.ndarray, height: int) -> np.ndarray:
    """(height, columns) uint8, ink = 255: resized by area averaging, aspect kept."""
    width = max(8, int(height * image.shape[1] / image.shape[0]))
    return 255 - np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def audio_picture(audio: np.ndarray, height: int, bins: int = 120) -> np.ndarray:
    """(height, columns) uint8 of the constant-Q transform.

    At 256 rows or more the published way: the transform resized as a picture, aspect kept.  Below, bins are averaged
    in groups until they fit and frames in groups of the same size, which keeps the aspect too: at 64 rows one row
    is a semitone and 21.5 columns are a second.  Blank rows fill up.
    """
    transform = constant_q(audio, bins)
    if height >= 256:
        width = max(8, int(height * transform.shape[1] / bins))
        resized = Image.fromarray(transform).resize((width, height), Image.Resampling.BOX)
        return np.round(255 * np.asarray(resized).clip(0, 1)).astype(np.uint8)
    group = -(-bins // height)
    rows, columns = bins // group, transform.shape[1] // group
    averaged = transform[: rows * group, : columns * group].reshape(rows, group, columns, group).mean((1, 3))
    blank = height - rows
    averaged = np.pad(averaged, ((blank // 2, blank - blank // 2), (0, max(0, 8 - columns))))
    return np.round(255 * averaged.clip(0, 1)).astype(np.uint8)


def picture(corpus: Primus, kind: Picture, identity: str) -> np.ndarray:
    """(height, columns) uint8 of one incipit, from its file."""
    if kind.modality == "image":
        return image_picture(read_image(corpus.image_path(identity, kind.distorted)), kind.height)
    return audio_picture(read_audio(corpus.audio_path(identity)), kind.height, kind.bins)


def store(
    folder: Path, names: Sequence[str], make: Callable[[str], np.ndarray], label: str, show: bool
) -> dict[str, str]:
    """Write ``<name>.npy`` for every name that has none; why some could not be made, by name.

    ``make`` raises DuetError where a file is damaged; what was made is there whole.
    """
    missing = [name for name in names if not (folder / f"{name}.npy").exists()]
    reasons = in_parallel(partial(_store_one, folder, make), missing, label, show=show) if missing else ()
    return {name: reason for name, reason in zip(missing, reasons, strict=True) if reason}


def _store_one(folder: Path, make: Callable[[str], np.ndarray], name: str) -> str:
    """Why it could not be made; nothing where it was."""
    try:
        values = make(name)
    except DuetError as error:
        return str(error)
    with files.atomic(folder / f"{name}.npy") as path:
        np.save(path, values)
    return ""


class PictureSet:
    """Pictures of many incipits, memory-mapped from one file: ``pictures[id]`` is (height, columns) uint8."""

    def __init__(self, folder: Path):
        index, path = files.read_json(folder / "index.json"), folder / "columns.npy"
        try:
            self.columns = np.load(path, mmap_mode="r")  # (all columns, height)
            ends = index["offsets"]
            self._spans = {i: (a, b) for i, a, b in zip(index["ids"], ends, ends[1:], strict=False)}
            whole = len(self.columns) == ends[-1] and len(ends) == len(index["ids"]) + 1
        except Exception:  # numpy hands on whatever Python raises on a header
            whole = False
        if not whole:
            raise DuetError("does not hold the pictures of its index", path=path, remedy="delete its folder")

    def __getitem__(self, identity: str) -> np.ndarray:
        start, end = self._spans[identity]
        return self.columns[start:end].T

    def width(self, identity: str) -> int:
        start, end = self._spans[identity]
        return end - start

    def __contains__(self, identity: str) -> bool:
        return identity in self._spans


def pictures(
    corpus: Primus, kind: Picture, ids: Sequence[str], workers: int | None = None, progress: bool = False
) -> PictureSet:
    """The cached pictures of ``ids``, made where they are not there yet.

    The cache's key is a hash of the corpus's fingerprint, the ids and every setting: nothing is ever read for
    settings it was not made with.
    """
    key = files.digest(corpus.fingerprint, *ids, str(sorted(asdict(kind).items())), str(_VERSION))[:16]
    folder = paths.cache() / "pictures" / f"{kind.modality}-{kind.height}-{key}"
    if (folder / "index.json").exists():
        return PictureSet(folder)
    if not ids:
        raise DuetError("there are no ids to make pictures of", path=corpus.root, remedy="check the id list")
    made = list(in_parallel(partial(picture, corpus, kind), ids, f"{kind.modality} pictures", workers, progress))
    with files.atomic(folder / "columns.npy") as path:
        np.save(path, np.concatenate([m.T for m in made]))
    offsets = np.concatenate([[0], np.cumsum([m.shape[1] for m in made])]).tolist()
    files.write_json(folder / "index.json", {"ids": list(ids), "offsets": offsets})  # last: it says all is there
    return PictureSet(folder)
