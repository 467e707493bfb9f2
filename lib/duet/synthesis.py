"""Notes to audio: FluidSynth plays, or tinysoundfont where FluidSynth is not installed.

Audio is mono float32 in [-1, 1].
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pretty_midi

from .errors import DuetError

SAMPLE_RATE = 22_050  # Hz
_FOLDERS = (Path("/usr/share/sounds/sf2"), Path("/usr/share/sounds/sf3"), Path("/usr/local/share/soundfonts"))
#: name -> file, in order of preference for the piano of study 1; timgm6mb also comes inside pretty_midi
SOUNDFONTS = {"fluidr3": "FluidR3_GM.sf2", "timgm6mb": "TimGM6mb.sf2", "musescore": "MuseScore_General_Lite.sf3"}
_CHANNELS = [channel for channel in range(16) if channel != 9]  # the tenth is for drums


@dataclass(frozen=True)
class Played:
    """One note to play: onset and duration in seconds, MIDI pitch, velocity 1 to 127, number of its part."""

    onset: float
    duration: float
    pitch: int
    velocity: int = 90
    part: int = 0


def soundfont(name: str) -> Path:
    """Raises DuetError where the file is not installed."""
    if name not in SOUNDFONTS:
        raise DuetError(f"unknown SoundFont {name!r}", remedy=f"one of {', '.join(SOUNDFONTS)}")
    bundled = Path(pretty_midi.__file__).parent / SOUNDFONTS[name]
    for path in [folder / SOUNDFONTS[name] for folder in _FOLDERS] + [bundled]:
        if path.is_file():
            return path
    raise DuetError(
        f"the SoundFont {SOUNDFONTS[name]} is not installed", remedy="`make setup` installs it as root, or use timgm6mb"
    )


@cache
def soundfont_digest(name: str) -> str:
    with open(soundfont(name), "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def installed(name: str) -> bool:
    """Whether this machine has a SoundFont of :data:`SOUNDFONTS`."""
    try:
        soundfont(name)
    except DuetError:
        return False
    return True


def available_soundfont() -> str:
    """The first SoundFont of :data:`SOUNDFONTS` that this machine has."""
    for name in filter(installed, SOUNDFONTS):
        return name
    raise DuetError("no SoundFont is installed", remedy="`make setup` installs them as root")


def engine() -> str:
    """``fluidsynth`` where its library is installed, else ``tinysoundfont``: recorded with every corpus."""
    if shutil.which("fluidsynth"):
        return "fluidsynth"
    return "tinysoundfont"


def synthesise(
    notes: Sequence[Played],
    soundfont_name: str,
    program: int | Sequence[int] = 0,
    tail: float = 0.5,
    reverb: bool = False,
    cents: float = 0.0,
) -> np.ndarray:
    """(samples,) float32 at 22,050 Hz, dry unless ``reverb``, ``tail`` seconds after the last note.

    ``program`` is one General MIDI program for all notes, or one for each part, at most 15.  ``cents`` above 440 Hz is
    everything tuned, at most 100 up or down.

    Each call uses a fresh synthesiser: a used one carries its state over, and the same notes then differ from
    run to run by as much as the signal itself.  Raises DuetError for no notes, an uninstalled SoundFont or a part
    without a program.
    """
    if not notes:
        raise DuetError("there are no notes to play")
    if not abs(cents) <= 100:
        raise DuetError(f"cannot tune by {cents} cents", remedy="at most 100, and transpose the notes")
    programs = [program] if isinstance(program, int) else list(program)
    part = {n.part: 0 if isinstance(program, int) else n.part for n in notes}
    if not 0 <= min(part.values()) <= max(part.values()) < len(programs) <= len(_CHANNELS):
        raise DuetError(f"{max(part) + 1} parts cannot be played with {len(programs)} programs", remedy="one a part")
    channel = {number: _CHANNELS[index] for number, index in part.items()}
    # ends come before onsets of the same sample: rounding must not let a note's end fall upon its repetition
    events = sorted(
        [(n.onset, 1, n.pitch, n.velocity, channel[n.part]) for n in notes]
        + [(n.onset + n.duration, 0, n.pitch, 0, channel[n.part]) for n in notes],
        key=lambda event: (round(event[0] * SAMPLE_RATE), *event[1:]),
    )
    end = events[-1][0] + tail
    play = _fluidsynth if engine() == "fluidsynth" else _tinysoundfont
    audio = play(events, end, soundfont(soundfont_name), dict(zip(_CHANNELS, programs, strict=False)), reverb, cents)
    peak = np.abs(audio).max()
    if not peak > 1e-4:  # FluidSynth's silence is a dither of one bit in sixteen
        raise DuetError("the synthesiser was silent", path=soundfont(soundfont_name), remedy="reinstall the SoundFont")
    return (audio / peak * 0.9).astype(np.float32)


def _unplayable(path: Path, program: int) -> DuetError:
    return DuetError(
        f"is no readable SoundFont, or has no program {program}", path=path, remedy="reinstall it, or give 0 to 127"
    )


@cache
def _seed_dither() -> None:
    """FluidSynth fills its dither table from C's ``rand`` when first used, after whatever drew from that before.

    Seeded as in a fresh process, it gives the same samples in every process.
    """
    ctypes.CDLL(None).srand(1)


@cache
def _held(path: Path, program: int):
    """An idle synthesiser with a program's samples: FluidSynth shares them with those that play.

    Decoding the compressed samples of an ``.sf3`` file takes longer than playing them for a minute.
    """
    import fluidsynth

    synth = fluidsynth.Synth(samplerate=float(SAMPLE_RATE), **{"synth.dynamic-sample-loading": 1})
    loaded = synth.sfload(str(path))
    if loaded >= 0:
        synth.program_select(0, loaded, 0, program)
    return synth


def _fluidsynth(events, end: float, path: Path, programs: dict, reverb: bool, cents: float) -> np.ndarray:
    import fluidsynth  # here, because importing it fails where FluidSynth is not installed

    _seed_dither()
    if path.suffix == ".sf3":
        for program in set(programs.values()):
            _held(path, program)
    # loading only the samples of the programs in use makes a fresh synthesiser cheap
    synth = fluidsynth.Synth(
        gain=0.5, samplerate=float(SAMPLE_RATE), **{"synth.dynamic-sample-loading": 1, "synth.cpu-cores": 1}
    )
    try:
        synth.setting("synth.reverb.active", int(reverb))
        synth.setting("synth.chorus.active", int(reverb))
        loaded = synth.sfload(str(path))
        for channel, program in programs.items():
            if loaded < 0 or synth.program_select(channel, loaded, 0, program) < 0:
                raise _unplayable(path, program)
            if cents:
                synth.pitch_bend(channel, round(cents * 8192 / 200))  # the wheel's whole way is two semitones
        blocks, position = [], 0
        for time, on, pitch, velocity, channel in events:
            samples = max(0, round(time * SAMPLE_RATE) - position)
            if samples:
                blocks.append(synth.get_samples(samples))
                position += samples
            if on:
                synth.noteon(channel, pitch, velocity)
            else:
                synth.noteoff(channel, pitch)
        blocks.append(synth.get_samples(max(1, round(end * SAMPLE_RATE) - position)))
    finally:
        synth.delete()
    return np.concatenate(blocks).reshape(-1, 2).astype(np.float32).mean(1) / 32768


def _tinysoundfont(events, end: float, path: Path, programs: dict, reverb: bool, cents: float) -> np.ndarray:
    import tinysoundfont

    synth = tinysoundfont.Synth(gain=-6, samplerate=SAMPLE_RATE)
    program = next(iter(programs.values()))
    try:
        loaded = synth.sfload(str(path))
        for channel, program in programs.items():
            synth.program_select(channel, loaded, 0, program)
            if cents:
                synth.set_tuning(channel, cents / 100)
    except RuntimeError:
        raise _unplayable(path, program) from None
    blocks, position = [], 0

    def render(samples: int) -> None:
        blocks.append(np.frombuffer(bytes(synth.generate(samples)), np.float32).copy())

    for time, on, pitch, velocity, channel in events:
        samples = max(0, round(time * SAMPLE_RATE) - position)
        if samples:
            render(samples)
            position += samples
        if on:
            synth.noteon(channel, pitch, velocity)
        else:
            synth.noteoff(channel, pitch)
    render(max(1, round(end * SAMPLE_RATE) - position))
    return np.concatenate(blocks).reshape(-1, 2).mean(1)
