"""People's own scores and recordings, as networks of audio and sheets read them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from . import engraving, features, lilypond, scores
from .apart import apart
from .corpora import sheets
from .engraving import Sheet
from .errors import DuetError
from .filterbank import HOP, SAMPLE_RATE, WINDOW, log_filterbank

# -- the score ---------------------------------------------------------------------------------------------------------


class Score(NamedTuple):
    """``title`` with the composer where the file names them, else the file's name; ``remarks``: sentences."""

    title: str
    sheet: Sheet
    remarks: tuple[str, ...]


_BY_MUSIC21 = {".mid": "midi", ".midi": "midi", ".abc": "abc"}
SCORES = (".ly", *scores.FORMATS, *_BY_MUSIC21)  # how names of scores end
_MEI = "{http://www.music-encoding.org/ns/mei}"
_WORDS = r"\bD\. ?[CS]\.|\bda capo\b|\bdal segno\b"
#: Of MEI: bar lines, signs, words, and an order of sections in which one comes again.
_REPEATS = re.compile(
    rf'="rpt(start|end|both)"|<repeatMark |type="(dacapo|dalsegno)"|{_WORDS}|plist="[^"]*(#[^ "]+) ([^"]* )?\3[ "]',
    re.I,
)
_REPEATS_IN_LILYPOND = re.compile(rf'^[^%\n]*(\\repeat\s+"?(volta|segno)|\\bar\s+"[^"]*:[^"]*"|{_WORDS})', re.I | re.M)


def read_score(path: str | Path) -> Score:
    """A score's pages, its title, and what of it cannot be followed.

    Raises DuetError for a file that is missing or damaged, has no notes, or is no score.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SCORES:
        raise DuetError("is no score that can be read here", path=path, remedy=f"convert it to {', '.join(SCORES)}")
    if not path.is_file():
        raise DuetError("no such score", path=path, remedy="check its name")
    try:
        score = _from_lilypond(path) if suffix == ".ly" else _from_mei(path)
    except DuetError as error:
        if error.path is None:  # an engraver does not know the file
            raise DuetError(error.problem, path=path, remedy=error.remedy or "check the file") from None
        raise
    fault = sheets.faults(score.sheet)
    doubt = (f"The engraving may be unfit to be followed: {fault}.",) if fault else ()
    return score._replace(remarks=(*score.remarks, *doubt))


def _from_lilypond(path: Path) -> Score:
    sheet = lilypond.engrave(path)
    remarks = []
    sources = (path, *lilypond.included(path))
    if any(_REPEATS_IN_LILYPOND.search(p.read_bytes().decode("utf-8", "replace")) for p in sources):
        remarks.append(_ONCE)
    if (most := max(s.staves for s in sheet.systems)) > 2:
        remarks.append(f"The score has systems of {most} staves, of which only the middle is read.")
    return Score(path.stem, sheet, tuple(remarks))


_ONCE = "The score has repeats: they are expected to be played once."


def _from_mei(path: Path) -> Score:
    title = path.stem
    if path.suffix.lower() in _BY_MUSIC21:
        mei = engraving.mei_of(_musicxml(path), "xml")
    else:
        score = scores.read(path)  # it tells what is damaged, which the engraver does not
        title = ": ".join(filter(None, (score.composer, score.title))) if score.title else title
        mei = engraving.mei_of(*scores.source_text(path))
    sheet = engraving.engrave_pages(engraving.keyboard_reduction(mei))
    remarks = [_ONCE] if _REPEATS.search(mei) else []
    definition = ElementTree.fromstring(mei).find(f".//{_MEI}scoreDef")
    if (staves := len(list(definition.iter(f"{_MEI}staffDef")))) > 2:
        remarks.append(f"The score's {staves} staves are reduced to two, as the network knows them.")
    return Score(title, sheet, tuple(remarks))


def _musicxml(path: Path) -> str:
    """Of MIDI or ABC, neither of which Verovio reads."""
    import music21  # noqa: F401  # it takes seconds, here or in the forked process

    return apart(_by_music21, path, seconds=20 + path.stat().st_size / 500, remedy="export it again")


def _by_music21(path: Path) -> str:
    import music21

    kind = _BY_MUSIC21[path.suffix.lower()]
    try:
        stream = music21.converter.parse(str(path), format=kind, forceSource=True)
        several, notes = isinstance(stream, music21.stream.Opus), len(stream.recurse().notes)
        exporter = music21.musicxml.m21ToXml.GeneralObjectExporter(stream)
        exported = exporter.parse() if notes and not several else b""
    except Exception as error:  # it hands on whatever its parsers raise
        what = f"is not readable as {kind}: {type(error).__name__} {error}"
        raise DuetError(what, path=path, remedy="export it again") from None
    if several:
        raise DuetError("holds several tunes", path=path, remedy="give a file with the one that is played")
    if not notes:
        raise DuetError("holds no notes", path=path, remedy="export it again")
    return exported.decode()


# -- recordings --------------------------------------------------------------------------------------------------------

RECORDINGS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64",
              ".m4a", ".aac", ".wma")  # fmt: skip
LEVELS_PER_SECOND = 50
_SILENCE = 1e-5  # of the loudest level's power: 50 dB below it
_FRAMES = 2000  # of the spectrogram at a time: 100 s
_BLOCK = round(_FRAMES * HOP)  # samples
_READ = 1 << 18  # samples of the file


class Music(NamedTuple):
    """Where a recording sounds: its length and music from ``start`` to ``end``, in seconds.

    ``sounding``: of each 50th of a second whether it is within 50 dB of the loudest one.
    """

    seconds: float
    start: float
    end: float
    sounding: np.ndarray


def music_in(path: str | Path, shortest: float) -> Music:
    """Listen to audio of any format, rate and number of channels.

    Raises DuetError for a file that is missing, damaged, cut short or silent, has less than ``shortest`` seconds of
    music, or holds NaN.
    """
    path, step = Path(path), SAMPLE_RATE // LEVELS_PER_SECOND
    count, loudest, powers = 0, 0.0, [np.zeros(0)]
    for block in _blocks(path):
        count, loudest = count + len(block), max(loudest, float(np.abs(block).max(initial=0)))
        padded = np.pad(block, (0, -len(block) % step)).reshape(-1, step)
        powers.append(np.square(padded, dtype=np.float64).mean(1))
    if count < SAMPLE_RATE // 10:
        raise DuetError(
            f"lasts {count / SAMPLE_RATE:.3f} s, too short", path=path, remedy=f"give {shortest:g} s or more"
        )
    if loudest < 1e-4:
        raise DuetError("is silent", path=path, remedy="check the recording's level")
    power = np.concatenate(powers)
    sounding = power > _SILENCE * power.max()
    first, last = np.flatnonzero(sounding)[[0, -1]]
    start, end = first / LEVELS_PER_SECOND, min((last + 1) / LEVELS_PER_SECOND, count / SAMPLE_RATE)
    if end - start < shortest:
        raise DuetError(
            f"has {end - start:.2f} s of music, too short", path=path, remedy=f"give {shortest:g} s or more"
        )
    return Music(count / SAMPLE_RATE, float(start), float(end), sounding)


def stretches(path: str | Path, wanted: Sequence[tuple[float, float]]) -> list[np.ndarray]:
    """(samples,) float32 at 22,050 Hz of each stretch (start, end) in seconds.  Raises DuetError for damaged audio."""
    edges = [(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)) for start, end in wanted]
    parts: list[list[np.ndarray]] = [[] for _ in wanted]
    first = 0
    for block in _blocks(Path(path)):
        for own, (start, end) in zip(parts, edges, strict=True):
            own.append(block[max(0, start - first) : max(0, end - first)].copy())  # a view would keep the whole block
        first += len(block)
    return [np.concatenate(own) if own else np.zeros(0, np.float32) for own in parts]


def spectrograms(path: str | Path) -> Iterator[np.ndarray]:
    """The parts, (92, 2000) and the last one shorter, of what ``log_filterbank`` makes of a recording as a whole."""
    held = None
    for block in _blocks(Path(path)):
        if held is not None:
            yield log_filterbank(np.concatenate([held, block[:WINDOW]]))[:, :_FRAMES]
        held = block
    if held is not None:
        yield log_filterbank(held)


def _blocks(path: Path) -> Iterator[np.ndarray]:
    """(samples,) float32, mono at 22,050 Hz, 100 s at a time and the last one shorter."""
    held = np.zeros(0, np.float32)
    for chunk in _decoded(path):
        if not np.isfinite(chunk).all():
            raise DuetError("holds samples that are no numbers", path=path, remedy="export the audio again")
        held = np.concatenate([held, chunk])
        while len(held) >= _BLOCK:
            yield held[:_BLOCK]
            held = held[_BLOCK:]
    if len(held):
        yield held


def _decoded(path: Path) -> Iterator[np.ndarray]:
    if not path.is_file():
        raise DuetError("no such audio file", path=path, remedy="check its name")
    try:
        source = soundfile.SoundFile(path)
    except soundfile.LibsndfileError:  # other decoders may know it
        yield features.read_audio(path, SAMPLE_RATE)
        return
    with source:
        resampled = source.samplerate != SAMPLE_RATE
        resampler = soxr.ResampleStream(source.samplerate, SAMPLE_RATE, 1, "float32", "HQ") if resampled else None
        read, last = 0, False
        while not last:
            try:
                chunk = source.read(_READ, "float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                why = f"is not readable audio: {error.error_string}"
                raise DuetError(why, path=path, remedy="copy or export it again") from None
            read, last = read + len(chunk), len(chunk) < _READ
            mono = chunk.mean(1)
            yield resampler.resample_chunk(mono, last=last) if resampler else mono
        missing = source.frames - read if source.frames < 1 << 60 else 0
    if missing > source.samplerate or features.is_cut_short(path):
        raise DuetError("is cut short: its header promises more audio", path=path, remedy="copy or export it again")
