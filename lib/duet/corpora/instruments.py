"""Open corpora of piano and guitar with exact notes: training sounds, and stand-ins for MAPS and GuitarSet.

Piano music comes from scores (OpenScore's songs, CC0; Polish piano music, CC BY 4.0; or what music21 carries) and from
a seeded generator of textures that scores seldom have; guitar music from a seeded guitarist, string by string.  What is
trained on and what stands in for real recordings share neither an instrument nor a score.

Source of the task: Les & Wozniak, 2023, Section 4.1; of :func:`paper_way` also its code.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pretty_midi
import soxr

from .. import files, paths, performance, scores, synthesis
from ..errors import DuetError
from ..performance import Acoustics, Manner
from ..progress import in_parallel
from ..scores import Note, Score
from ..synthesis import SAMPLE_RATE, Played
from . import guitarset, maps, samples, synthesized
from .guitarset import GuitarSet
from .maps import Maps
from .recordings import PARTS, RATE, Corpus, Notes, tidy
from .samples import Voice
from .synthesized import Synthesized

BUILDER_VERSION = 1  # raise it when the same sources and settings give other files

#: SoundFonts and programs of the training sounds, with the share of each program.
_FONTS = ("fluidr3", "musescore")
_PIANOS = {0: 0.45, 1: 0.2, 2: 0.06, 3: 0.07, 4: 0.05, 5: 0.05, 6: 0.07, 46: 0.05}
_GUITARS = {24: 0.35, 25: 0.35, 26: 0.15, 27: 0.15}
#: Of the stand-ins.  Where a machine has no other SoundFont, training takes what they leave.
_STAND_IN_FONT = "timgm6mb"
_LEFT_PIANOS = {2: 0.5, 4: 0.15, 5: 0.15, 6: 0.2}
_LEFT_GUITARS = {26: 0.5, 27: 0.5}

_SALT = "5"  # a draw that leaves every side some of everything
_TAIL = 1.5  # seconds after the last note


def _seed(*parts: str) -> np.random.Generator:
    return np.random.default_rng(int(files.digest(*parts)[:16], 16))


def _table(notes: Sequence[Played]) -> Notes:
    rows = [(n.onset, n.onset + n.duration, n.pitch, n.velocity) for n in notes]
    return tidy(np.array(rows, float))[0]


# -- piano music -------------------------------------------------------------------------------------------------------

#: Folders of music21's corpus.  A file larger than this takes seconds to read.
_REGISTRY = ("joplin", "chopin", "mozart", "schumann_robert", "schumann_clara", "bach", "haydn", "beethoven")
_LARGEST = {".mxl": 25_000, ".krn": 25_000, ".xml": 100_000}
_LARGEST_OPEN = 40_000
_LOWEST, _HIGHEST = 21, 108
_FASTEST = 18.0  # notes a second, on average, that hands can play


class Source(NamedTuple):
    """Where piano music comes from; without a path it is a texture.

    ``work`` names everything that may hold the same music: of the open scores all of a composer, which have many a
    piece in several editions; of music21 a work of several movements, or a number of Bach's catalogue.
    """

    key: str
    folder: str
    work: str
    path: Path | None = None


def _sources(collection: str) -> list[Source]:
    if collection == "registry":
        root = Path(importlib.util.find_spec("music21").origin).parent / "corpus"  # importing it takes seconds
        folders, largest = {name: root / name for name in _REGISTRY}, _LARGEST
    else:
        from . import openscores  # here: it brings libraries for downloads, which reading a corpus does not need

        folders = {name: openscores.require(name) for name in ("polish_kern", "lieder")}
        largest = dict.fromkeys((".mxl", ".krn"), _LARGEST_OPEN)
    return [
        Source(f"{name}/{(key := path.relative_to(folder).as_posix())}", name, _work(name, key), path)
        for name, folder in folders.items()
        for path in sorted(folder.rglob("*"))
        if path.stat().st_size <= largest.get(path.suffix, 0)
    ]


def _work(folder: str, key: str) -> str:
    if folder == "lieder":
        return f"{folder}/{key.removeprefix('scores/').split('/')[0]}"
    if folder == "polish_kern":
        return f"{folder}/{key.split('_', 1)[-1].split('--')[0]}"
    return f"{folder}/{re.split(r'[/.]', key)[0]}"


#: Which share of the scores each side has: training sounds (train, val, test), stand-in (training, test).
_SIDES = {"train": 0.55, "val": 0.07, "test": 0.06, "stand-in": 0.2, "stand-in test": 0.12}


def side(work: str) -> str:
    """The one side of :data:`_SIDES` on which a work may be used, by its name alone."""
    place = int(files.digest(_SALT, work)[:8], 16) / 16**8
    edges = itertools.accumulate(_SIDES.values())
    return next((name for name, edge in zip(_SIDES, edges, strict=True) if place < edge), "train")


def _in_turn(sources: Sequence[Source], wanted: str) -> list[Source]:
    """The sources of a side in an order drawn from a seed, one of each folder, then a second one, and so on, and a
    texture after every nine.
    """
    piles: dict[str, list[Source]] = {}
    for source in sources:
        if side(source.work) == wanted:
            piles.setdefault(source.folder, []).append(source)
    shuffled = [[pile[i] for i in _seed("order", wanted, name).permutation(len(pile))] for name, pile in piles.items()]
    mixed = [s for layer in itertools.zip_longest(*shuffled) for s in layer if s is not None]
    texture = (Source(f"texture/{wanted}-{n}", "texture", "") for n in itertools.count())
    return [s for n, source in enumerate(mixed) for s in ((source, next(texture)) if n % 9 == 4 else (source,))]


@dataclass(frozen=True)
class _Clip:
    """Notes to be recorded as ``name``; those of a piano are of part 0, those of a guitar of a part for each string."""

    name: str
    notes: tuple[Played, ...]


def _piano_clips(longest: float, most: int, lively: float, source: Source) -> list[_Clip]:
    """Performances of at most ``longest`` seconds, none of a score that cannot be read.

    ``lively``: the mean tempo is up to e^lively times the notated one, and half of the clips are transposed.
    """
    rng = _seed(source.key, "piano")
    if source.path is None:
        name = source.key.replace("/", "-")
        score = _textures(longest * 4, rng)
    else:
        name = re.sub(r"[^A-Za-z0-9]+", "-", source.path.with_suffix("").name).strip("-")[:60]
        if source.path.parent.name not in (source.folder, "") and source.path.suffix != ".krn":
            parent = re.sub(r"[^A-Za-z0-9]+", "-", source.path.parent.name).strip("-")[:30]
            name = f"{parent}-{name}"
        try:
            score = _piano_part(scores.read(source.path))
        except DuetError:
            return []
    if len(score.notes) < 20:
        return []
    tempi = score.tempi or ((0.0, performance.usual_tempo(score.notes)),)
    bars = [b for b in score.bars if b < score.end]
    clips, start = [], bars[0] if bars else 0.0
    starts = set()
    for _ in range(4 * most):
        if len(clips) == most or start is None:
            break
        starts.add(start)
        clip, end = _performed(f"{name}-{len(clips)}", score, bars, tempi, start, longest, lively, rng)
        if clip is not None:
            clips.append(clip)
        start = next((b for b in bars if b >= end - 1e-6 and b not in starts), None)
    return clips


def _piano_part(score: Score) -> Score:
    """The last part on two or more staves, or everything where no part has as many: quartets played on a piano."""
    owners = [staff.part for staff in score.staves]
    pianos = [part for part in owners if owners.count(part) > 1]
    if not pianos:
        return score
    return replace(score, notes=tuple(n for n in score.notes if owners[n.staff] == pianos[-1]))


def _performed(
    name: str,
    score: Score,
    bars: Sequence[float],
    tempi: Sequence[tuple[float, float]],
    start: float,
    longest: float,
    lively: float,
    rng: np.random.Generator,
) -> tuple[_Clip | None, float]:
    """The clip that begins with a bar, None where too little happens; and the quarter at which it ends."""
    drawn = Manner.draw(rng)
    whole = performance.nominal_map(start, max(score.end, start + 1), tempi)
    later = [n for n in score.notes if n.onset >= start]
    busy = len(later) / float(whole.to_seconds(whole.quarters[-1]))  # notes a second
    speed = min(drawn.speed * float(np.exp(rng.uniform(-0.1, lively))), max(0.5, _FASTEST / max(busy, 1e-6)))
    manner = replace(drawn, rubato=0.7 * drawn.rubato, speed=speed)
    lead = float(rng.uniform(0.15, 0.8))
    room = longest - lead - _TAIL
    last = float(whole.to_quarters(0.85 * room * manner.speed))  # rubato takes time, at the end above all
    end = max((b for b in (*bars, score.end) if start < b <= last), default=last)
    if float(whole.to_seconds(end)) / manner.speed < 0.3 * room:
        return None, end
    shift = int(rng.integers(-6, 7)) if lively > 0.2 and rng.uniform() < 0.5 else 0
    notes = [
        n._replace(duration=min(n.duration, end - n.onset), pitch=n.pitch + shift)
        for n in later
        if n.onset < end - 1e-6 and _LOWEST <= n.pitch + shift <= _HIGHEST
    ]
    if len(notes) < 12 or float(whole.to_seconds(notes[-1].onset)) / manner.speed < 0.25 * room:
        return None, end  # bars of rest
    inside = [b for b in bars if start <= b < end]
    tempo = performance.expressive_map(performance.nominal_map(start, end, tempi), inside, manner, rng)
    played = performance.perform(notes, tempo, inside, manner, rng)
    legato = float(rng.uniform(0.5, 1.0))
    played = [replace(n, duration=n.duration * float(rng.uniform(0.85, 1.0)) * legato) for n in played]
    spans = _pedalling(tempo, [*inside, end], rng) if rng.uniform() < 0.55 else []
    played = performance.pedal(played, spans)
    played = performance.rescaled(played, float(np.clip(rng.normal(60, 16), 30, 100)), float(rng.uniform(1.0, 2.4)))
    stop = longest - lead - 0.3  # what the pedal would hold for longer ends with the recording
    late = [replace(n, onset=n.onset + lead, duration=min(n.duration, stop - n.onset)) for n in played]
    return _Clip(name, tuple(n for n in late if n.duration >= 0.03)), end


def _pedalling(
    tempo: performance.TempoMap, bars: Sequence[float], rng: np.random.Generator
) -> list[tuple[float, float]]:
    """Changed with every bar or half of one, a little late, and left out here and there."""
    half = rng.uniform() < 0.5
    changes = sorted({b for a, z in itertools.pairwise(bars) for b in (a, (a + z) / 2 if half and z - a >= 2 else a)})
    seconds = [float(tempo.to_seconds(q)) for q in (*changes, bars[-1])]
    spans = []
    for down, up in itertools.pairwise(seconds):
        down, up = down + rng.uniform(0.03, 0.15), up + rng.uniform(-0.04, 0.06)
        if up - down > 0.15 and rng.uniform() < 0.88:
            spans.append((float(down), float(up)))
    return spans


_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 11), (0, 2, 3, 5, 7, 9, 10), tuple(range(12)))


def _textures(seconds: float, rng: np.random.Generator) -> Score:
    """Bars of four quarters in ever other piano textures, over the whole keyboard."""
    tempo = float(rng.uniform(60, 150))
    count = int(np.ceil(seconds * tempo / 240))
    notes: list[Note] = []
    bar = 0
    while bar < count:
        figure = _FIGURES[int(rng.integers(len(_FIGURES)))]
        steps = _SCALES[int(rng.choice(len(_SCALES), p=[0.4, 0.25, 0.2, 0.15]))]
        root = int(rng.integers(12))
        keys = np.array([p for p in range(_LOWEST, _HIGHEST + 1) if (p - root) % 12 in steps])
        length = int(rng.integers(1, 4))
        for number in range(bar, bar + length):
            made = figure(keys, rng)
            notes += [Note(4 * number + at, long, int(key), staff, 1) for at, long, key, staff in made if at < 4]
        bar += length
    notes.sort()
    return Score("", "", tuple(notes), (), tuple(4.0 * b for b in range(bar)), 4.0 * bar, (0.0,), ((0.0, tempo),))


def _near(keys: np.ndarray, pitch: float) -> int:
    return int(np.abs(keys - pitch).argmin())


def _broken(keys: np.ndarray, rng: np.random.Generator):
    step = float(rng.choice([0.25, 1 / 3, 1 / 6, 0.125]))
    first, spacing = _near(keys, rng.uniform(21, 70)), int(rng.choice([1, 2, 2, 3]))
    rungs = [first + spacing * i for i in range(int(rng.integers(3, 13)))]
    path = rungs + rungs[-2:0:-1]
    path = path[::-1] if rng.uniform() < 0.3 else path
    return [(i * step, step, keys[min(path[i % len(path)], len(keys) - 1)], i % 2) for i in range(round(4 / step))]


def _chords(keys: np.ndarray, rng: np.random.Generator):
    step, made = float(rng.choice([0.5, 1, 1, 2])), []
    for at in np.arange(0, 4, step):
        for staff, centre in ((1, rng.uniform(24, 60)), (0, rng.uniform(55, 104))):
            inside = keys[np.abs(keys - centre) <= 6]
            for key in rng.choice(inside, min(len(inside), int(rng.integers(2, 6))), replace=False):
                made.append((float(at), step * float(rng.uniform(0.4, 1)), key, staff))
    return made


def _runs(keys: np.ndarray, rng: np.random.Generator):
    step, place = float(rng.choice([0.25, 0.125, 1 / 6])), _near(keys, rng.uniform(24, 105))
    apart, up, made = int(rng.choice([0, 0, 12, 16])), int(rng.choice([-1, 1])), []
    for i in range(round(4 / step)):
        if not 0 <= place + up < len(keys) or rng.uniform() < 0.03:
            up = -up
        place = int(np.clip(place + up, 0, len(keys) - 1))
        made.append((i * step, step, keys[place], 0))
        if apart and keys[place] - apart >= _LOWEST:
            made.append((i * step, step, keys[place] - apart, 1))
    return made


def _repeated(keys: np.ndarray, rng: np.random.Generator):
    step, made = float(rng.choice([0.5, 0.25, 1 / 3, 1 / 6])), []
    for beat in range(4):
        centre = rng.uniform(30, 100)
        inside = rng.choice(keys[np.abs(keys - centre) <= 7], int(rng.integers(1, 4)), replace=False)
        made += [(beat + i * step, 0.8 * step, key, 0) for i in range(round(1 / step)) for key in inside]
    return made + [(0.0, 4.0, keys[_near(keys, rng.uniform(21, 50))], 1)]


def _trill(keys: np.ndarray, rng: np.random.Generator):
    place, step = _near(keys, rng.uniform(45, 104)), float(rng.choice([0.125, 1 / 6]))
    made = [(i * step, step, keys[min(place + i % 2, len(keys) - 1)], 0) for i in range(round(3 / step))]
    made += [(3.0, 1.0, keys[place], 0)]
    low = _near(keys, rng.uniform(24, 55))
    return made + [(float(at), 0.9, keys[min(low + 2 * (at % 3), len(keys) - 1)], 1) for at in range(4)]


def _accompanied(keys: np.ndarray, rng: np.random.Generator):
    low, place, made, at = _near(keys, rng.uniform(36, 58)), _near(keys, rng.uniform(60, 98)), [], 0.0
    figure = [0, 4, 2, 4] if rng.uniform() < 0.5 else [0, 2, 4, 2]
    made += [(i * 0.5, 0.5, keys[min(low + figure[i % 4], len(keys) - 1)], 1) for i in range(8)]
    octaves = rng.uniform() < 0.3
    while at < 4:
        long = float(rng.choice([0.25, 0.5, 0.5, 1, 1.5]))
        place = int(np.clip(place + rng.integers(-3, 4), 0, len(keys) - 1))
        made.append((at, long, keys[place], 0))
        if octaves and keys[place] + 12 <= _HIGHEST:
            made.append((at, long, keys[place] + 12, 0))
        at += long
    return made


_FIGURES = (_broken, _chords, _runs, _repeated, _trill, _accompanied)


def _take(sources: Sequence[Source], count: int, most: int, longest: float, lively: float, workers, progress):
    """``count`` clips of the sources, in their order, or as many as there are."""
    left, clips, names = iter(sources), [], set()
    while len(clips) < count:
        several = list(itertools.islice(left, max(1, -(-(count - len(clips)) // most))))
        if not several:
            break
        made = in_parallel(partial(_piano_clips, longest, most, lively), several, "scores", workers, progress)
        for clip in itertools.chain.from_iterable(made):
            if clip.name not in names:
                names.add(clip.name)
                clips.append(clip)
    return clips[:count]


# -- guitar music ------------------------------------------------------------------------------------------------------

OPEN_STRINGS = (40, 45, 50, 55, 59, 64)
FRETS = 19
_KEYS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
STYLES = {"BN": (105, 170), "Funk": (90, 120), "Jazz": (110, 200), "Rock": (85, 150), "SS": (68, 112)}

#: Intervals above the root.
QUALITIES = {
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "5": (0, 7),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "m7": (0, 3, 7, 10),
    "m7b5": (0, 3, 6, 10),
    "9": (0, 4, 7, 10, 2),
}
_X = None
#: Chord shapes that can be moved along the neck: (string of the root, frets from low E relative to the root's fret).
SHAPES = {
    "": ((0, (0, 2, 2, 1, 0, 0)), (1, (_X, 0, 2, 2, 2, 0)), (2, (_X, _X, 0, 2, 3, 2)), (1, (_X, 0, -1, -3, -2, -3))),
    "m": ((0, (0, 2, 2, 0, 0, 0)), (1, (_X, 0, 2, 2, 1, 0)), (2, (_X, _X, 0, 2, 3, 1))),
    "5": ((0, (0, 2, 2, _X, _X, _X)), (1, (_X, 0, 2, 2, _X, _X)), (2, (_X, _X, 0, 2, 3, _X))),
    "7": ((0, (0, 2, 0, 1, 0, 0)), (1, (_X, 0, 2, 0, 2, 0)), (2, (_X, _X, 0, 2, 1, 2)), (1, (_X, 0, -1, 0, -2, _X))),
    "maj7": ((0, (0, _X, 1, 1, 0, _X)), (1, (_X, 0, 2, 1, 2, 0)), (2, (_X, _X, 0, 2, 2, 2))),
    "m7": ((0, (0, 2, 0, 0, 0, 0)), (0, (0, _X, 0, 0, 0, _X)), (1, (_X, 0, 2, 0, 1, 0)), (2, (_X, _X, 0, 2, 1, 1))),
    "m7b5": ((0, (0, _X, 0, 0, -1, _X)), (1, (_X, 0, 1, 0, 1, _X)), (2, (_X, _X, 0, 1, 1, 1))),
    "9": ((1, (_X, 0, -1, 0, 0, 0)), (0, (0, _X, 0, 1, 0, 2))),
}
#: Chords with open strings: (pitch class of the root, quality) -> frets.
OPEN_SHAPES = {
    (0, ""): (_X, 3, 2, 0, 1, 0),
    (2, ""): (_X, _X, 0, 2, 3, 2),
    (7, ""): (3, 2, 0, 0, 0, 3),
    (2, "m"): (_X, _X, 0, 2, 3, 1),
    (0, "7"): (_X, 3, 2, 3, 1, 0),
    (7, "7"): (3, 2, 0, 0, 0, 1),
    (11, "7"): (_X, 2, 1, 2, 0, 2),
    (0, "maj7"): (_X, 3, 2, 0, 0, 0),
    (5, "maj7"): (_X, _X, 3, 2, 1, 0),
    (7, "maj7"): (3, 2, 0, 0, 0, 2),
}
#: Degrees in semitones and quality as jazz has it, a bar each: a blues, a chain of fifths, a descending canon.
PROGRESSIONS = (
    tuple(zip((0, 0, 0, 0, 5, 5, 0, 0, 7, 5, 0, 7), ("7",) * 12, strict=True)),
    ((2, "m7"), (7, "7"), (0, "maj7"), (5, "maj7"), (11, "m7b5"), (4, "7"), (9, "m7"), (9, "m7")),
    ((0, "maj7"), (7, "7"), (9, "m7"), (4, "m7"), (5, "maj7"), (0, "maj7"), (5, "maj7"), (7, "7")),
)
_PLAIN = {"maj7": "", "7": "", "m7": "m", "m7b5": "m"}
#: Bars of accompaniment: (beat, what is played, beats it lasts; 0 until it is played again).  d and u are strums down
#: and up, b the lowest string, p the upper strings plucked at once, 1 to 4 single strings from the second lowest on.
_BARS = {
    "BN": (
        ((0, "b", 0), (0, "p", 0.9), (1.5, "p", 0.4), (2, "b", 0), (2.5, "p", 0.9), (3.5, "p", 0.5)),
        ((0, "b", 0), (0.5, "p", 0.5), (1, "p", 0.9), (2, "b", 0), (2.5, "p", 0.5), (3.5, "p", 0)),
    ),
    "Funk": (
        ((0, "d", 0.3), (0.75, "u", 0.2), (1.5, "d", 0.2), (1.75, "u", 0.2), (2.5, "d", 0.3), (3.25, "u", 0.2)),
        ((0, "b", 0.4), (0.5, "d", 0.2), (1.25, "u", 0.2), (2, "d", 0.6), (2.75, "u", 0.2), (3.5, "d", 0.2)),
    ),
    "Jazz": (
        ((0, "d", 0.7), (1, "d", 0.5), (2, "d", 0.7), (3, "d", 0.5)),
        ((0, "p", 1.2), (1.5, "p", 0.4), (3.5, "p", 0.4)),
        ((0, "b", 0), (0.5, "p", 0.5), (2, "b", 0), (2.5, "p", 1.0)),
    ),
    "Rock": (
        (
            (0, "d", 0),
            (0.5, "d", 0),
            (1, "d", 0),
            (1.5, "d", 0),
            (2, "d", 0),
            (2.5, "d", 0),
            (3, "d", 0),
            (3.5, "d", 0),
        ),
        ((0, "d", 0), (1, "d", 0), (1.5, "u", 0), (2.5, "u", 0), (3, "d", 0), (3.5, "u", 0)),
        ((0, "d", 1.4), (1.5, "d", 0.4), (2, "d", 1.4), (3.5, "u", 0.4)),
    ),
    "SS": (
        ((0, "d", 0), (1, "d", 0), (1.5, "u", 0), (2.5, "u", 0), (3, "d", 0), (3.5, "u", 0)),
        (
            (0, "b", 0),
            (0.5, "2", 0),
            (1, "3", 0),
            (1.5, "4", 0),
            (2, "b", 0),
            (2.5, "3", 0),
            (3, "4", 0),
            (3.5, "2", 0),
        ),
        ((0, "b", 0), (0, "4", 0), (0.5, "2", 0), (1, "1", 0), (1.5, "3", 0), (2, "b", 0), (2.5, "2", 0), (3, "4", 0)),
    ),
}
_SOLO_SCALES = {
    "BN": ((0, 2, 4, 5, 7, 9, 11), (0, 2, 4, 7, 9)),
    "Funk": ((0, 3, 5, 7, 10), (0, 2, 3, 5, 7, 9, 10)),
    "Jazz": ((0, 2, 4, 5, 7, 9, 11), (0, 2, 4, 5, 7, 9, 10, 11)),
    "Rock": ((0, 3, 5, 7, 10), (0, 3, 5, 6, 7, 10)),
    "SS": ((0, 2, 4, 7, 9), (0, 2, 4, 5, 7, 9, 11)),
}
_SOLO_RHYTHMS = {
    "BN": ((0.5, 0.5), (1,), (1.5, 0.5), (0.25, 0.25, 0.5)),
    "Funk": ((0.25,) * 4, (0.5, 0.25, 0.25), (0.75, 0.25), (0.5, 0.5)),
    "Jazz": ((0.5, 0.5), (0.5, 0.5), (1 / 3,) * 3, (1,), (1.5, 0.5)),
    "Rock": ((0.5, 0.5), (0.25,) * 4, (1,), (1 / 3,) * 3),
    "SS": ((0.5, 0.5), (1,), (2,), (0.25, 0.25, 0.5)),
}


@dataclass(frozen=True)
class Guitarist:
    """How somebody plays.  ``jitter``: standard deviation of a beat, in s; ``swing``: how late off-beats are, in beats;
    ``strum``: seconds from string to string; ``down``: how willingly the hand strums down; ``position``: the favourite
    fret; ``ring``: how willingly open strings ring over a change; ``sparse``: share of strokes left out; ``doubles``,
    ``hammers`` and ``ornaments``: shares of double stops, hammer-ons and ornamented chords.
    """

    jitter: float
    swing: float
    strum: float
    down: float
    loudness: float
    dynamics: float
    accent: float
    position: float
    ring: float
    sparse: float
    doubles: float
    hammers: float
    ornaments: float
    detuning: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Guitarist:
        limits = {
            "jitter": (0.003, 0.02),
            "swing": (0.0, 0.16),
            "strum": (0.005, 0.04),
            "down": (0.3, 0.95),
            "loudness": (50, 95),
            "dynamics": (4, 14),
            "accent": (2, 18),
            "position": (0, 10),
            "ring": (0.1, 0.9),
            "sparse": (0.0, 0.25),
            "doubles": (0.0, 0.12),
            "hammers": (0.05, 0.5),
            "ornaments": (0.0, 0.15),
            "detuning": (1, 8),
        }
        return cls(**{name: float(rng.uniform(low, high)) for name, (low, high) in limits.items()})


class Plucked(NamedTuple):
    """A note of a string (0 is low E) at a fret: onset and offset in seconds."""

    onset: float
    offset: float
    string: int
    fret: int
    velocity: int

    @property
    def pitch(self) -> int:
        return OPEN_STRINGS[self.string] + self.fret


class Lead(NamedTuple):
    """What is to be played: style, number of the progression, beats per minute, key's pitch class."""

    style: str
    progression: int
    tempo: int
    key: int

    def chord(self, bar: int) -> tuple[int, str]:
        """(pitch class of the root, quality)."""
        degree, quality = PROGRESSIONS[self.progression - 1][bar % len(PROGRESSIONS[self.progression - 1])]
        if self.style in ("Rock", "SS"):
            quality = _PLAIN.get(quality, quality) if (self.style, self.progression) != ("SS", 1) else quality
        if self.style == "Funk" and quality == "7":
            quality = "9"
        return (self.key + degree) % 12, quality

    @classmethod
    def of(cls, style: str, progression: int, slow: bool) -> Lead:
        """One of the thirty that all players of the stand-in share."""
        rng = _seed("lead", style, str(progression), str(slow))
        low, high = STYLES[style]
        middle = (low + high) // 2
        tempo = int(rng.integers(low, middle) if slow else rng.integers(middle, high))
        return cls(style, progression, tempo, int(rng.integers(12)))


def voicings(root: int, quality: str) -> list[tuple[int | None, ...]]:
    """Frets from low E on for every way to play a chord on this neck; None is a string that is not played."""
    found = [OPEN_SHAPES[root, quality]] if (root, quality) in OPEN_SHAPES else []
    for string, shape in SHAPES[quality]:
        for fret in range((root - OPEN_STRINGS[string]) % 12, FRETS, 12):
            frets = tuple(None if step is None else fret + step for step in shape)
            if all(f is None or 0 <= f <= 15 for f in frets):
                found.append(frets)
    return found


def _hand(frets: Sequence[int | None]) -> float:
    pressed = [f for f in frets if f]
    return float(np.mean(pressed)) if pressed else 0.0


def play_guitar(lead: Lead, solo: bool, player: Guitarist, seconds: float, rng: np.random.Generator) -> list[Plucked]:
    """As many bars as end before ``seconds``, from 0.2 s on; a string never sounds twice at once."""
    beat = 60 / lead.tempo
    bars = max(1, int((seconds - 0.2 - _TAIL) / (4 * beat)))
    notes = (_solo if solo else _comp)(lead, bars, player, rng)

    def clock(at: float) -> float:
        off = player.swing if lead.style == "Jazz" and abs(at % 1 - 0.5) < 0.01 else 0.0
        return 0.2 + (at + off) * beat

    timed = []
    for at, after, until, string, fret, loud in notes:
        onset = max(0.05, clock(at) + after)
        offset = min(clock(until), seconds - 0.3)
        timed.append(Plucked(onset, max(offset, onset + 0.04), string, fret, int(np.clip(round(loud), 15, 120))))
    return _one_at_a_time(timed)


def _one_at_a_time(notes: Sequence[Plucked]) -> list[Plucked]:
    """A new note of a string ends the one before; of two that begin within 20 ms the first stays."""
    kept: dict[int, list[Plucked]] = {}
    for note in sorted(notes):
        same = kept.setdefault(note.string, [])
        if same and note.onset < same[-1].onset + 0.02:
            continue
        if same and note.onset < same[-1].offset:
            same[-1] = same[-1]._replace(offset=note.onset)
        same.append(note)
    return sorted(n for string in kept.values() for n in string)


def _comp(lead: Lead, bars: int, player: Guitarist, rng: np.random.Generator) -> list[tuple]:
    """(beat, seconds after it, beat of its end, string, fret, loudness) of an accompaniment."""
    beat = 60 / lead.tempo
    patterns = _BARS[lead.style]
    usual = patterns[int(rng.integers(len(patterns)))]
    power = lead.style == "Rock" and rng.uniform() < 0.4
    made: list[list] = []
    sounding: dict[int, list] = {}
    frets: Sequence[int | None] = ()
    hand = player.position
    for bar in range(bars):
        root, quality = lead.chord(bar)
        ways = voicings(root, "5" if power else quality)
        distances = [abs(_hand(f) - 0.5 * (hand + player.position)) + rng.uniform(0, 2) for f in ways]
        chosen = ways[int(np.argmin(distances))]
        if not bar or lead.chord(bar) != lead.chord(bar - 1) or rng.uniform() < 0.2:
            for string, note in list(sounding.items()):  # the left hand moves, what it lets go is silent
                stays = chosen[string] == note[4] and (note[4] or rng.uniform() < player.ring)
                if not stays:
                    note[2] = min(note[2], 4 * bar - rng.uniform(0, 0.03) / beat)
                    del sounding[string]
            frets, hand = chosen, _hand(chosen)
        pattern = usual if rng.uniform() < 0.8 else patterns[int(rng.integers(len(patterns)))]
        for number, (place, stroke, long) in enumerate(pattern):
            if number and rng.uniform() < player.sparse:
                continue
            at = 4 * bar + place
            base = player.loudness + rng.normal(0, player.dynamics) + player.accent * (place in (0, 2))
            late = rng.normal(0, player.jitter)
            strings = [s for s, fret in enumerate(frets) if fret is not None]
            order, apart = _stroke(stroke, strings, player, rng)
            apart = min(apart, 0.35 * beat / max(1, len(order)))
            for n, string in enumerate(order):
                note = [at, late + n * apart * rng.uniform(0.7, 1.3), at + (long or 8), string, frets[string],
                        base + rng.normal(0, 3) - 1.5 * n * (stroke == "u")]  # fmt: skip
                if string in sounding:
                    sounding[string][2] = min(sounding[string][2], at + late / beat)
                sounding[string] = note
                made.append(note)
            if order and rng.uniform() < player.ornaments and max(order) > 1:
                string = int(rng.choice([s for s in order if s > 1]))
                made.append([at + 0.25, 0.0, at + 0.5, string, min(frets[string] + 2, FRETS), 0.7 * base])
                made.append([at + 0.5, 0.0, at + (long or 4), string, frets[string], 0.65 * base])
    return [tuple(note) for note in made]


def _stroke(stroke: str, strings: list[int], player: Guitarist, rng: np.random.Generator) -> tuple[list[int], float]:
    """The strings of a stroke in the order in which they sound, and the seconds from one to the next."""
    if stroke in ("d", "u"):
        down = stroke == "d" if rng.uniform() < 0.8 else rng.uniform() < player.down
        speed = player.strum * float(rng.uniform(0.7, 1.4))
        if down:
            return strings[int(rng.integers(0, 2)) if len(strings) > 4 else 0 :], speed
        return strings[::-1][: max(2, len(strings) - int(rng.integers(0, 3)))], speed
    if stroke == "b":
        return strings[:1], 0.0
    if stroke == "p":
        return strings[1:][-4:], float(rng.uniform(0, 0.006))
    return [strings[min(int(stroke), len(strings) - 1)]], 0.0


def _solo(lead: Lead, bars: int, player: Guitarist, rng: np.random.Generator) -> list[tuple]:
    """As :func:`_comp`: phrases on a scale within reach of a position, with rests between them."""
    scale = _SOLO_SCALES[lead.style][int(rng.integers(2))]
    rhythms = _SOLO_RHYTHMS[lead.style]
    made, at, box = [], float(rng.choice([0, 0.5, 1])), -1
    while at < 4 * bars - 1:
        if box < 0 or rng.uniform() < 0.4:
            box = int(np.clip(round(rng.normal(player.position, 3.5)), 0, FRETS - 4))
        reach = [
            (open_ + fret, string, fret)
            for string, open_ in enumerate(OPEN_STRINGS)
            for fret in range(box, box + 5)
            if (open_ + fret - lead.key) % 12 in scale
        ]
        ladder = list({pitch: (pitch, string, fret) for pitch, string, fret in sorted(reach)}.values())
        place = int(rng.integers(len(ladder) // 4, len(ladder)))
        swell = rng.normal(0, player.dynamics)
        before = None
        phrase = [long for _ in range(int(rng.integers(2, 7))) for long in rhythms[int(rng.integers(len(rhythms)))]]
        for number, long in enumerate(phrase):
            if at >= 4 * bars:
                break
            step = int(rng.choice([-3, -2, -1, -1, 0, 1, 1, 2, 4], p=[0.05, 0.1, 0.2, 0.1, 0.08, 0.2, 0.12, 0.1, 0.05]))
            place = int(np.clip(place + step, 0, len(ladder) - 1))
            pitch, string, fret = ladder[place]
            last = number == len(phrase) - 1
            held = long * (rng.uniform(1.5, 3) if last else rng.uniform(0.85, 1.15) if rng.uniform() < 0.85 else 0.5)
            loud = player.loudness + 8 + swell + player.accent * (at % 1 == 0) + rng.normal(0, 4)
            slurred = before and before[0] == string and 0 < fret - before[1] <= 3 and rng.uniform() < player.hammers
            late = rng.normal(0, player.jitter)
            made.append((at, late, at + held, string, fret, loud * (0.6 if slurred else 1.0)))
            second = [r for r in reach if r[1] == string + 1 and 3 <= r[0] - pitch <= 9]
            if second and not slurred and rng.uniform() < player.doubles:
                _, other, its_fret = second[int(rng.integers(len(second)))]
                made.append((at, late + rng.uniform(0, 0.008), at + held, other, its_fret, loud - 4))
            before = (string, fret)
            at += long
        at = np.ceil((at + float(rng.choice([0, 0.5, 1, 2], p=[0.3, 0.3, 0.25, 0.15]))) * 2) / 2
    return made


def _string_audio(notes: Sequence[Plucked], voice: Voice, cents: Sequence[float], seconds: float) -> np.ndarray:
    """(samples, 6) float32 at 16 kHz, each string tuned on its own.

    The strings are played one after another in one go, so that their levels stay as they are, slower or faster by as
    much as the resampling that tunes them changes it.
    """
    ratios = [2 ** (c / 1200) for c in cents]
    section = round((seconds + 2) * 1.02 * SAMPLE_RATE)
    played = [
        Played(
            n.string * section / SAMPLE_RATE + n.onset * ratios[n.string],
            (n.offset - n.onset) * ratios[n.string],
            n.pitch,
            n.velocity,
        )
        for n in notes
    ]
    sound = samples.sound(played, voice, _TAIL)
    strings = np.zeros((round(seconds * RATE), len(OPEN_STRINGS)), np.float32)
    for string, ratio in enumerate(ratios):
        own = sound[string * section : string * section + round(seconds * ratio * SAMPLE_RATE)]
        if len(own):
            tuned = soxr.resample(own, SAMPLE_RATE * ratio, RATE)[: len(strings)]
            strings[: len(tuned), string] = tuned
    return strings


# -- recordings --------------------------------------------------------------------------------------------------------


class _Job(NamedTuple):
    """A recording of the training sounds: of a clip, or (None) of a guitarist."""

    name: str
    part: str
    clip: _Clip | None


def _program_name(program: int) -> str:
    return re.sub(r"[^a-z0-9]+", "_", pretty_midi.program_to_instrument_name(program).lower()).strip("_")


def _make_synthetic(root: Path, voices: Mapping[str, tuple], seconds: float, job: _Job) -> dict:
    """Write a recording of the training sounds where it is not there yet; how it is made."""
    rng = _seed(job.name, "sound")
    fonts, programs = voices["guitar" if job.clip is None else "piano"]
    font = fonts[0] if len(fonts) == 1 or rng.uniform() < 0.7 else fonts[1]
    voice = Voice(font, int(rng.choice(list(programs), p=list(programs.values()))))
    cents = float(np.clip(rng.normal(2, 10), -45, 45))
    acoustics = Acoustics.draw(rng)
    reverb = bool(rng.uniform() < 0.15)
    made = {"name": job.name, "part": job.part, "voice": str(voice), "cents": cents, **asdict(acoustics)}
    program = _program_name(voice.program)
    if not (root / f"synthesized_{program}" / job.part / "audio" / f"{job.name}.flac").exists():
        notes = job.clip.notes if job.clip else _guitar_clip(job.name, seconds)
        audio = soxr.resample(samples.sound(notes, voice, _TAIL, cents, reverb), SAMPLE_RATE, RATE)
        audio = performance.heard(audio[: round(seconds * RATE)], RATE, acoustics, rng)
        synthesized.write(root, program, job.part, job.name, audio, RATE, _table(notes))
    return made


def _guitar_clip(name: str, seconds: float) -> tuple[Played, ...]:
    """A guitarist and a piece that the stand-in has not, a part for each string."""
    rng = _seed(name, "guitarist")
    player = Guitarist.draw(rng)
    style = str(rng.choice(list(STYLES)))
    low, high = STYLES[style]
    lead = Lead(style, int(rng.integers(1, 4)), int(rng.integers(0.85 * low, 1.15 * high)), int(rng.integers(12)))
    notes = play_guitar(lead, bool(rng.uniform() < 0.5), player, seconds, rng)
    return tuple(Played(n.onset, n.offset - n.onset, n.pitch, n.velocity, n.string) for n in notes)


def _make_piano(root: Path, voices: Mapping[str, Voice], seconds: float, job: tuple[str, _Clip]) -> dict:
    """Write a recording of the stand-in for MAPS: every code has its own instrument, tuning and place."""
    code, clip = job
    rng = _seed(code, "studio")
    drawn = Acoustics.draw(rng, far=0.2)
    cents = float(rng.normal(3, 4))
    if code in maps.DISKLAVIER:  # some metres from a grand in a large room
        drawn = replace(drawn, rt60=1.3, wet=0.7, tilt=-1.2, snr=38.0, colour=1.2, peak=-6.0)
    else:
        drawn = replace(drawn, wet=min(drawn.wet, 0.5), snr=55.0, peak=-3.0)
    made = {"name": clip.name, "code": code, "voice": str(voices[code]), "cents": cents, **asdict(drawn)}
    path = root / code / "MUS" / f"MAPS_MUS-{clip.name}_{code}.flac"
    if not path.exists():
        audio = soxr.resample(samples.sound(clip.notes, voices[code], _TAIL, cents), SAMPLE_RATE, RATE)
        audio = performance.heard(audio[: round(seconds * RATE)], RATE, drawn, rng)
        maps.write_recording(root, code, clip.name, audio, RATE, _table(clip.notes))
    return made


class _Excerpt(NamedTuple):
    player: str
    lead: Lead
    solo: bool

    @property
    def stem(self) -> str:
        style, progression, tempo, key = self.lead
        return f"{self.player}_{style}{progression}-{tempo}-{_KEYS[key]}_{'solo' if self.solo else 'comp'}"


def excerpts(count: int) -> list[_Excerpt]:
    """``count`` of the 360 of six players, players, styles, progressions, tempi and ways of playing in equal shares.

    Five styles, three progressions and four times (tempo and way) have no common factor: counting through all at once
    meets every combination once.
    """
    players = [f"{n:02}" for n in range(6)]
    found = []
    for number, player in enumerate(players):
        for i in range(count // 6 + (number < count % 6)):
            style = list(STYLES)[(i + number) % 5]
            found.append(_Excerpt(player, Lead.of(style, i % 3 + 1, i % 4 < 2), i % 2 == 1))
    return found


def _make_guitar(root: Path, voices: Mapping[str, Voice], seconds: float, excerpt: _Excerpt) -> dict:
    """Write an excerpt of the stand-in for GuitarSet: six strings, their mean, and a microphone before the guitar."""
    studio = _seed("guitarist", excerpt.player)
    player = Guitarist.draw(studio)
    acoustics = Acoustics.draw(studio, far=0.1)
    acoustics = replace(acoustics, wet=min(acoustics.wet, 0.6), snr=float(studio.uniform(35, 55)), peak=-4.0)
    rng = _seed(excerpt.stem, "guitar")
    cents = np.round(rng.normal(0, player.detuning, len(OPEN_STRINGS)).clip(-20, 20), 2)
    voice = voices[excerpt.player]
    made = {"name": excerpt.stem, "voice": str(voice), "cents": cents.tolist(), **asdict(acoustics), **asdict(player)}
    if not (root / guitarset.MICROPHONES["mic"] / f"{excerpt.stem}_mic.wav").exists():
        notes = play_guitar(excerpt.lead, excerpt.solo, player, seconds, rng)
        pickups = _string_audio(notes, voice, cents, seconds)
        mix = pickups.mean(1)
        level = np.float32(0.9 / np.abs(mix).max())
        strings = [
            np.array([(n.onset, n.offset, n.pitch + cents[s] / 100) for n in notes if n.string == s]).reshape(-1, 3)
            for s in range(len(OPEN_STRINGS))
        ]
        audio = {
            "hex": pickups * np.float32(0.9 / np.abs(pickups).max()),
            "mix": mix * level,
            "mic": performance.heard(mix, RATE, acoustics, rng),
        }
        guitarset.write_excerpt(root, excerpt.stem, strings, audio, RATE)
    return made


# -- the open corpora --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenSet:
    """A corpus to be built.

    ``kind``: "synthetic" (training sounds, two thirds of them of piano), "piano" (in MAPS layout) or "guitar" (in
    GuitarSet layout).  ``collection``: "open" (needs `make corpora` or DUET_SCORES, and the SoundFonts of apt.txt) or
    "registry", what is there after installation.  It has ``clips`` recordings of at most ``longest`` seconds.
    """

    kind: str
    collection: str
    clips: int
    longest: float

    @property
    def name(self) -> str:
        """For tables: what it is, and what sounds."""
        fonts = " and ".join(sorted({_spoken(v) for v in self._fonts()}))
        titles = {"synthetic": "Synthesized Instruments", "piano": "MAPS stand-in", "guitar": "GuitarSet stand-in"}
        music = "open" if self.collection == "open" else "music21"
        return f"{titles[self.kind]} ({'generated' if self.kind == 'guitar' else music}; {fonts})"

    def _fonts(self) -> list[str]:
        if self.kind == "synthetic":
            return list(_training_fonts(self.collection))
        voices = (_piano_voices if self.kind == "piano" else _guitar_voices)().values()
        return [f"samples {v.program}" if v.font == "samples" else v.font for v in voices]

    def build(self, progress: bool = False, workers: int | None = None) -> Corpus:
        """The reader of the corpus under the cache, which is built on first use.

        Resumable: a recording that is there is done; ``corpus.json`` comes last.  ``clips.json`` says how each was
        made.  Raises DuetError where scores, SoundFonts or enough music are not there.
        """
        makers = {"synthetic": _build_synthetic, "piano": _build_piano, "guitar": _build_guitar}
        if self.kind not in makers:
            raise DuetError(f"unknown kind of corpus {self.kind!r}", remedy=f"one of {', '.join(makers)}")
        if self.collection not in ("open", "registry"):
            raise DuetError(f"unknown collection {self.collection!r}", remedy='"open" or "registry"')
        least = 6 if self.kind == "guitar" else 4
        if self.clips < least or self.longest < 6:
            raise DuetError(
                f"{self.clips} clips of {self.longest:g} s are too few or too short",
                remedy=f"at least {least} of at least 6 s",
            )
        sources = [] if self.kind == "guitar" else _sources(self.collection)
        if self.kind == "guitar":
            origin = "generated"
        elif self.collection == "open":
            origin = files.digest(*(files.file_digest(s.path) for s in sources))
        else:
            origin = f"music21 {importlib.metadata.version('music21')}"
        fonts = sorted(set(self._fonts()))
        digests = [
            samples.PACKAGES[f.split()[1]].sha512 if f.startswith("samples ") else synthesis.soundfont_digest(f)
            for f in fonts
        ]
        settings = {**asdict(self), "engine": synthesis.engine(), "instruments": fonts}
        identity = files.digest(origin, json.dumps(settings, sort_keys=True), *digests, str(BUILDER_VERSION))
        root = paths.cache() / "corpora" / f"{self.kind}-{self.collection}-{identity[:12]}"
        reader, layout = {"synthetic": (Synthesized, "Synthesized Instruments"), "piano": (Maps, "MAPS"),
                          "guitar": (GuitarSet, "GuitarSet")}[self.kind]  # fmt: skip
        if not (root / "corpus.json").exists():
            made = makers[self.kind](self, root, sources, workers, progress)
            files.write_json(root / "clips.json", made)
            description = {"name": self.name, "fingerprint": identity, "settings": settings, "layout": layout}
            files.write_json(root / "corpus.json", {**description, "stand_in": True})
        return reader(root)


def _spoken(font: str) -> str:
    return {"samples piano": "grand piano samples", "samples guitar": "guitar samples"}.get(font, font)


def _training_fonts(collection: str) -> tuple[str, ...]:
    """SoundFonts of the training sounds; the open corpora have all of them on every machine."""
    found = tuple(font for font in _FONTS if synthesis.installed(font))
    if collection == "open" and len(found) < len(_FONTS):
        synthesis.soundfont(next(f for f in _FONTS if f not in found))  # says what is missing
    return found or (_STAND_IN_FONT,)


def _training_voices(collection: str) -> dict[str, tuple]:
    fonts = _training_fonts(collection)
    left = fonts == (_STAND_IN_FONT,)
    return {"piano": (fonts, _LEFT_PIANOS if left else _PIANOS), "guitar": (fonts, _LEFT_GUITARS if left else _GUITARS)}


def _piano_voices() -> dict[str, Voice]:
    """Of each code of MAPS that the stand-in has."""
    voices = {code: Voice(_STAND_IN_FONT, n % 2) for n, code in enumerate(maps.SOFTWARE)}
    real = Voice("samples", "piano") if samples.available("piano") else Voice(_STAND_IN_FONT, 3)
    return voices | {maps.DISKLAVIER[0]: real}


def _guitar_voices() -> dict[str, Voice]:
    """Of each player."""
    steel, nylon = Voice(_STAND_IN_FONT, 25), Voice(_STAND_IN_FONT, 24)
    if samples.available("guitar"):
        real = Voice("samples", "guitar")
        return {"00": steel, "01": real, "02": nylon, "03": real, "04": real, "05": real}
    return {"00": steel, "01": nylon, "02": nylon, "03": steel, "04": nylon, "05": steel}


def _enough(clips: Sequence, count: int, root: Path) -> Sequence:
    if len(clips) < count:
        raise DuetError(
            f"the scores give {len(clips)} clips of the {count} wanted", path=root, remedy="ask for fewer clips"
        )
    return clips


def _build_synthetic(wanted: OpenSet, root: Path, sources: list[Source], workers, progress) -> list[dict]:
    aside = max(2, round(0.08 * wanted.clips)) if wanted.clips >= 6 else 1
    counts = {"train": wanted.clips - 2 * aside, "val": aside, "test": aside}
    jobs = []
    for part in PARTS:
        guitars = round(counts[part] / 3) or (counts[part] > 1)
        pianos = counts[part] - guitars
        own = _take(_in_turn(sources, part), pianos, 2, wanted.longest, 0.5, workers, progress)
        clips = _enough(own, pianos, root)
        jobs += [_Job(clip.name, part, clip) for clip in clips]
        jobs += [_Job(f"guitarist-{part}-{n}", part, None) for n in range(guitars)]
    make = partial(_make_synthetic, root, _training_voices(wanted.collection), wanted.longest)
    return list(in_parallel(make, jobs, "training sounds", workers, progress))


def _build_piano(wanted: OpenSet, root: Path, sources: list[Source], workers, progress) -> list[dict]:
    tested = max(1, round(wanted.clips / 3))
    codes = itertools.cycle(maps.SOFTWARE)
    jobs = []
    for name, count in (("stand-in", wanted.clips - tested), ("stand-in test", tested)):
        clips = _take(_in_turn(sources, name), count, 1, wanted.longest, 0.2, workers, progress)
        for clip in _enough(clips, count, root):
            jobs.append((next(codes) if name == "stand-in" else maps.DISKLAVIER[0], clip))
    make = partial(_make_piano, root, _piano_voices(), wanted.longest)
    return list(in_parallel(make, jobs, "piano recordings", workers, progress))


def _build_guitar(wanted: OpenSet, root: Path, sources: list[Source], workers, progress) -> list[dict]:
    make = partial(_make_guitar, root, _guitar_voices(), wanted.longest)
    return list(in_parallel(make, excerpts(min(360, wanted.clips)), "guitar excerpts", workers, progress))


# -- the paper's way ---------------------------------------------------------------------------------------------------

PAPER_PROGRAMS = (0, 25)  # Acoustic Grand Piano, Acoustic Guitar (steel)
_PAPER_FRAME = 0.032  # seconds


def paper_way(
    labels: Mapping[str, Mapping[str, Notes]],
    repair_velocity: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> Synthesized:
    """Training sounds as the paper makes them: the labels of other corpora, each played by two programs of FluidR3
    with the synthesiser's own reverberation, without room or noise.

    ``labels``: for train, val and test the notes by stem.  What comes from MAPS, by its stem, is played with all onsets
    and offsets on a grid of 32 ms and, unless ``repair_velocity``, with velocity 127, as a fault in the paper's code
    has it; guitar with velocities 95 to 104.  The labels that are written are the notes as given.  Where FluidR3 is
    not installed another SoundFont takes its place, and the name says so.  Under the cache, resumable.
    """
    font = synthesis.available_soundfont()
    given = [
        files.digest(part, stem, np.ascontiguousarray(notes, float).tobytes())
        for part in PARTS
        for stem, notes in sorted(labels.get(part, {}).items())
    ]
    settings = {"soundfont": font, "engine": synthesis.engine(), "repair_velocity": repair_velocity}
    described = (json.dumps(settings, sort_keys=True), synthesis.soundfont_digest(font), str(BUILDER_VERSION))
    identity = files.digest("paper way", *given, *described)
    root = paths.cache() / "corpora" / f"synthetic-paper-{identity[:12]}"
    if not (root / "corpus.json").exists():
        jobs = [
            (part, stem, program, np.asarray(notes, float))
            for part in PARTS
            for stem, notes in sorted(labels.get(part, {}).items())
            for program in PAPER_PROGRAMS
        ]
        list(in_parallel(partial(_make_paper, root, font, repair_velocity), jobs, "synthesis", workers, progress))
        name = f"Synthesized Instruments, the paper's way ({font}{', velocities repaired' if repair_velocity else ''})"
        description = {"name": name, "fingerprint": identity, "settings": settings}
        files.write_json(root / "corpus.json", {**description, "layout": "Synthesized Instruments", "stand_in": True})
    return Synthesized(root)


def _make_paper(root: Path, font: str, repair_velocity: bool, job: tuple[str, str, int, Notes]) -> None:
    part, stem, program, notes = job
    name = _program_name(program)
    if (root / f"synthesized_{name}" / part / "audio" / f"{stem}.flac").exists():
        return
    played = paper_notes(stem, notes, repair_velocity)
    audio = soxr.resample(synthesis.synthesise(played, font, program, _TAIL, reverb=True), SAMPLE_RATE, RATE)
    synthesized.write(root, name, part, stem, np.clip(audio, -1, 1), RATE, notes)


def paper_notes(stem: str, notes: Notes, repair_velocity: bool) -> list[Played]:
    """What :func:`paper_way` plays for the labels of a recording."""
    if maps.parse(stem):
        left, right = (np.round(notes[:, i] / _PAPER_FRAME) * _PAPER_FRAME for i in (0, 1))
        right = np.maximum(right, left + _PAPER_FRAME)
        loud = notes[:, 3] if repair_velocity else np.full(len(notes), 127)
    else:
        left, right = notes[:, 0], notes[:, 1]
        loud = _seed(stem, "velocity").integers(95, 105, len(notes))
    rows = zip(left, right, notes[:, 2], loud, strict=True)
    return [Played(float(on), float(off - on), int(pitch), int(v)) for on, off, pitch, v in rows]
