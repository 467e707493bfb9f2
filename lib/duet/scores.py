"""Music notation in: the sounding notes, bars and tempi of a score, and its monophonic lines.

MusicXML (.mxl, .musicxml, .xml), Humdrum kern (.krn) and MEI (.mei) are read through Verovio.  Time is in quarter
notes from the start of the score.  Ties are merged and repeats are played once: with Verovio's own expansion of
repeats, notes get new ids which are not those of its MEI.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

import verovio

from . import files
from .apart import apart
from .errors import DuetError

#: Verovio's name of each format that is read here.  Its ABC reader can crash the process, so ABC is not among them.
FORMATS = {".mxl": "xml", ".musicxml": "xml", ".xml": "xml", ".krn": "humdrum", ".mei": "mei"}
_MEI = "{http://www.music-encoding.org/ns/mei}"
_ID = "{http://www.w3.org/XML/1998/namespace}id"
_PITCH_CLASS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_ALTERATION = {"s": 1, "f": -1, "ss": 2, "x": 2, "ff": -2, "n": 0, "ns": 1, "nf": -1, "xs": 3, "ts": 3, "tf": -3}
_EPSILON = 1e-3  # quarters: onsets that notation calls equal differ by rounding
_AGAIN = "export the score again from its notation program"


class Note(NamedTuple):
    """A sounding note: onset and duration in quarters, MIDI pitch as it sounds, index of its staff, its layer."""

    onset: float
    duration: float
    pitch: int
    staff: int
    layer: int
    grace: bool = False

    @property
    def end(self) -> float:
        return self.onset + self.duration


class Staff(NamedTuple):
    """The name of its part ("" where the score has none), and the part's index: both staves of a piano share it."""

    name: str
    part: int


@dataclass(frozen=True)
class Score:
    """``notes`` by onset; ``staves`` from top to bottom; ``bars``: where each bar begins; ``end`` of the last bar.

    ``sections``: where the music after a double or final bar line begins, 0 first.  ``tempi``: (quarters, quarters per
    minute) of the metronome marks, none where the score has none.
    """

    title: str
    composer: str
    notes: tuple[Note, ...]
    staves: tuple[Staff, ...]
    bars: tuple[float, ...]
    end: float
    sections: tuple[float, ...]
    tempi: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Line:
    """A monophonic line of a score: no note begins before the one before it has ended.

    ``kind``: "melody" is the top of the first staff, "bass" the bottom of the last, all others are "inner".
    """

    kind: str
    staff: int
    notes: tuple[Note, ...]


@cache
def _toolkit() -> verovio.toolkit:
    """One per process, apart from the one that engraves: options stay set."""
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    toolkit.setOptions({"breaks": "none", "xmlIdSeed": 1, "expandNever": True})
    return toolkit


def read(path: str | Path) -> Score:
    """The score in a file.  Raises DuetError for a missing, damaged or empty file, or one of another format."""
    path = Path(path)
    text, format_ = source_text(path)
    _toolkit()  # here: the forked process would make its own
    try:
        return apart(_read, path, text, format_, seconds=patience(text), remedy=_AGAIN)
    except DuetError as error:
        if error.path is None:
            raise DuetError(error.problem, path=path, remedy=error.remedy) from None
        raise


def patience(text: str) -> float:
    """Seconds of calculation after which Verovio will not come to an end with a score."""
    return 10 + len(text) / 20_000


def _read(path: Path, text: str, format_: str) -> Score:
    if format_ == "humdrum" and not re.search(r"^\*-", text, re.MULTILINE):
        raise DuetError("breaks off: its spines have no end (*-)", path=path, remedy="restore it")
    if format_ != "humdrum":
        try:  # Verovio reads what there is of a file that breaks off, and says nothing
            expat.ParserCreate("UTF-8").Parse(text.encode(), True)
        except expat.ExpatError as error:
            raise DuetError(f"is not well-formed XML: {error}", path=path, remedy=_AGAIN) from None
    toolkit = _toolkit()
    toolkit.setOptions({"inputFrom": format_})
    if not toolkit.loadData(text):
        raise DuetError(f"is not readable as {path.suffix[1:]}", path=path, remedy=_AGAIN)
    try:
        mei = ElementTree.fromstring(toolkit.getMEI())
    except ElementTree.ParseError as error:  # a character that XML has not
        raise DuetError(f"is not readable as {path.suffix[1:]}: {error}", path=path, remedy=_AGAIN) from None
    score = _score(mei, toolkit.renderToTimemap({"includeMeasures": True}))
    if not score.notes:
        raise DuetError("holds no notes", path=path, remedy=_AGAIN)
    return score


def source_text(path: str | Path) -> tuple[str, str]:
    """What a score's file says, unpacked and decoded, and Verovio's name of its format.

    Raises DuetError for a missing or damaged file, or one of another format.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise DuetError("is no score that can be read here", path=path, remedy=f"convert it to {', '.join(FORMATS)}")
    try:
        content = path.read_bytes()
    except OSError:
        raise DuetError("no such score, or not readable", path=path, remedy="restore it") from None
    if content[:2] == b"PK":
        content = _musicxml_in(path)
    return _decoded(content, path), FORMATS[path.suffix.lower()]


def _musicxml_in(path: Path) -> bytes:
    """The score of a compressed MusicXML file: its container names it."""
    members = dict(files.read_archive(path))
    named = re.search(rb'full-path\s*=\s*"([^"]+)"', members.get("META-INF/container.xml", b""))
    name = named[1].decode(errors="replace") if named else ""
    if name not in members:
        scores = [n for n in members if n.lower().endswith((".xml", ".musicxml")) and not n.startswith("META-INF")]
        if not scores:
            raise DuetError("holds no MusicXML", path=path, remedy=_AGAIN)
        name = scores[0]
    return members[name]


def _decoded(content: bytes, path: Path) -> str:
    declared = re.match(rb"<\?xml[^>]*encoding=[\"']([\w-]+)", content)
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else declared[1].decode() if declared else "utf-8"
    try:
        text = content.decode("utf-8-sig" if encoding.lower() == "utf-8" else encoding)
    except (UnicodeDecodeError, LookupError):
        raise DuetError("is not readable as text", path=path, remedy=_AGAIN) from None
    return re.sub(r'(<\?xml[^>]*encoding=["\'])[\w-]+', r"\1UTF-8", text, count=1)


class Notated(NamedTuple):
    """A note of the MEI when it sounds: onset and end in quarters (the end None where the timemap has none), number of
    its staff, its layer, MIDI pitch as it sounds.
    """

    onset: float
    end: float | None
    staff: str
    layer: int
    pitch: int
    grace: bool


class Joined(NamedTuple):
    """Notes by id in the order of the MEI, ties as pairs of ids, bars as (quarters, measure element)."""

    notes: dict[str, Notated]
    ties: list[tuple[str, str]]
    bars: list[tuple[float, ElementTree.Element]]


def joined(mei: ElementTree.Element, timemap: list[dict]) -> Joined:
    """Pitch, staff, layer and ties are in the MEI, onsets and ends in Verovio's timemap; ids join them."""
    onsets, ends, measures = {}, {}, {}
    for entry in timemap:
        for identity in entry.get("on", ()):
            onsets.setdefault(identity, entry["qstamp"])
        for identity in entry.get("off", ()):
            ends[identity] = entry["qstamp"]
        if "measureOn" in entry:
            measures[entry["measureOn"]] = entry["qstamp"]
    transpositions: dict[str, int] = {}
    found = Joined({}, [], [])
    for element in _in_order(mei):
        tag = element.tag
        if tag == f"{_MEI}staffDef" and "trans.semi" in element.attrib:
            transpositions[element.get("n", "")] = int(float(element.get("trans.semi")))
        elif tag == f"{_MEI}tie":
            found.ties.append((element.get("startid", "")[1:], element.get("endid", "")[1:]))
        elif tag == f"{_MEI}measure" and element.get(_ID) in measures:
            found.bars.append((measures[element.get(_ID)], element))
            for number, layer, note in _notes_of(element):
                identity = note.get(_ID)
                if identity in onsets:
                    pitch = _pitch(note) + transpositions.get(number, 0)
                    grace = note.get("grace") is not None
                    found.notes[identity] = Notated(onsets[identity], ends.get(identity), number, layer, pitch, grace)
    return found


def _score(mei: ElementTree.Element, timemap: list[dict]) -> Score:
    last = timemap[-1]["qstamp"] if timemap else 0.0
    staves, index = _staves(mei)
    notated, ties, measures = joined(mei, timemap)
    found: dict[str, Note] = {}
    for identity, note in notated.items():
        if note.staff not in index:  # a staff that appears later in the score
            index[note.staff] = len(staves)
            staves.append(Staff("", len({s.part for s in staves})))
        # a grace note may take no time at all
        duration = max((last if note.end is None else note.end) - note.onset, 1 / 64)
        found[identity] = Note(note.onset, duration, note.pitch, index[note.staff], note.layer, note.grace)
    bars, sections, pending = [], [0.0], False
    for begin, measure in measures:
        if pending and begin > sections[-1]:
            sections.append(begin)
        pending = measure.get("right") in ("dbl", "end")
        bars.append(begin)
    notes = sorted(_tied(found, ties), key=lambda n: (n.onset, n.pitch, n.staff, n.layer))
    title = next((t.text for t in mei.iter(f"{_MEI}title") if t.text), "")
    end = max([last, *(n.end for n in notes)])
    return Score(
        " ".join(title.split()),
        " ".join(_composer(mei).split()),
        tuple(notes),
        tuple(staves),
        tuple(sorted(set(bars))),
        end,
        tuple(sections),
        tempi(mei, timemap),
    )


def _in_order(mei: ElementTree.Element) -> Iterable[ElementTree.Element]:
    wanted = {f"{_MEI}{name}" for name in ("staffDef", "tie", "measure")}
    return (element for element in mei.iter() if element.tag in wanted)


def _notes_of(measure: ElementTree.Element) -> Iterable[tuple[str, int, ElementTree.Element]]:
    """(staff number, layer, note) of a bar; a note that crosses to another staff stays with its line."""
    for staff in measure.iter(f"{_MEI}staff"):
        for position, layer in enumerate(staff.iter(f"{_MEI}layer")):
            number = layer.get("n", "")
            for note in layer.iter(f"{_MEI}note"):
                yield staff.get("n", ""), int(number) if number.isdigit() else position + 1, note


def _pitch(note: ElementTree.Element) -> int:
    """Written MIDI pitch, with what sounds (``.ges``) before what is drawn; octave lines are in ``oct.ges``."""
    accidental = note.find(f"{_MEI}accid")
    signs = [note.get("accid.ges"), note.get("accid")]
    signs += [accidental.get("accid.ges"), accidental.get("accid")] if accidental is not None else []
    sign = next((s for s in signs if s), "n")
    octave = int(note.get("oct.ges") or note.get("oct") or 4)
    return 12 * (octave + 1) + _PITCH_CLASS.get(note.get("pname", ""), 0) + _ALTERATION.get(sign, 0)


def _tied(found: dict[str, Note], ties: Sequence[tuple[str, str]]) -> list[Note]:
    """The timemap has every notehead: those that ties join sound as one."""
    follows = {a: b for a, b in ties if a in found and b in found and _continues(found[a], found[b])}
    continued = set(follows.values())
    notes = []
    for identity, note in found.items():
        if identity in continued:
            continue
        end, seen = note.end, {identity}
        while identity in follows and follows[identity] not in seen:
            identity = follows[identity]
            seen.add(identity)
            end = found[identity].end
        notes.append(note._replace(duration=end - note.onset))
    return notes


def _continues(one: Note, other: Note) -> bool:
    """A tie may bridge the gap that a bar with a beat too many leaves, but not what lies between two endings."""
    return one.pitch == other.pitch and -_EPSILON < other.onset - one.end < 1


def _staves(mei: ElementTree.Element) -> tuple[list[Staff], dict[str, int]]:
    """Staves of the first score definition, and the index of each staff number."""
    staves: list[Staff] = []
    index: dict[str, int] = {}

    def visit(group: ElementTree.Element, name: str, part: int | None) -> None:
        symbol = group.find(f"{_MEI}grpSym")
        if part is None and "brace" in (group.get("symbol"), symbol.get("symbol") if symbol is not None else None):
            part, name = len({s.part for s in staves}), _label(group)
        for child in group:
            if child.tag == f"{_MEI}staffGrp":
                visit(child, name, part)
            elif child.tag == f"{_MEI}staffDef" and child.get("n") not in index:
                index[child.get("n", "")] = len(staves)
                own = len({s.part for s in staves}) if part is None else part
                staves.append(Staff(_label(child) or name, own))

    definition = mei.find(f".//{_MEI}scoreDef")
    for group in definition if definition is not None else ():
        if group.tag == f"{_MEI}staffGrp":
            visit(group, "", None)
    return staves, index


def _label(element: ElementTree.Element) -> str:
    label = element.find(f"{_MEI}label")
    return " ".join("".join(label.itertext()).split()) if label is not None else ""


def _composer(mei: ElementTree.Element) -> str:
    head = mei.find(f"{_MEI}meiHead")
    if head is None:
        return ""
    named = [p for p in head.iter(f"{_MEI}persName") if p.get("role") == "composer"]
    named += [p for c in head.iter(f"{_MEI}composer") for p in (c, *c.iter(f"{_MEI}persName"))]
    return next((p.text for p in named if p.text and p.text.strip()), "")


def tempi(mei: ElementTree.Element, timemap: list[dict]) -> tuple[tuple[float, float], ...]:
    """The timemap opens with 120 where the score says nothing: only marks that the MEI has are told."""
    marked = any(e.get("midi.bpm") or e.get("mm") for e in mei.iter() if e.tag in (f"{_MEI}tempo", f"{_MEI}scoreDef"))
    if not marked:
        return ()
    return tuple((entry["qstamp"], float(entry["tempo"])) for entry in timemap if entry.get("tempo"))


# -- lines -------------------------------------------------------------------------------------------------------------


def voices(score: Score) -> list[Line]:
    """The lines of a score, from top to bottom: what each staff has as its outer line, and further layers on it.

    The outer line is the top of a staff, of the last staff its bottom: the skyline and the bass line of chords.  A
    score on one staff has its top alone.  Grace notes are in no line.
    """
    lines = []
    for number in range(len(score.staves)):
        notes = [n for n in score.notes if n.staff == number and not n.grace]
        if not notes:
            continue
        bottom = number == len(score.staves) - 1 and number > 0
        outer = outline(notes, bottom)
        kind = "bass" if bottom else "melody" if not lines else "inner"
        lines.append(Line(kind, number, outer))
        layers = sorted({n.layer for n in notes})
        if len(layers) > 1:
            taken = set(outer)
            for layer in layers:
                line = outline([n for n in notes if n.layer == layer], bottom)
                # the layer that is the outer line most of the time is told already
                if sum(n in taken for n in line) < 0.5 * len(line):
                    lines.append(Line("inner", number, line))
    return lines


def outline(notes: Sequence[Note], bottom: bool = False) -> tuple[Note, ...]:
    """The highest (``bottom``: lowest) note at every onset, cut where the next one begins.

    An onset below a note of the line that still sounds, a held tone over moving chords, is not part of the line.
    """
    sign = -1 if bottom else 1
    line: list[Note] = []
    for note in sorted(notes, key=lambda n: (n.onset, -sign * n.pitch, -n.duration)):
        if line:
            before = line[-1]
            if note.onset < before.onset + _EPSILON:
                continue
            if note.onset < before.end - _EPSILON:
                if sign * note.pitch < sign * before.pitch:
                    continue
                line[-1] = before._replace(duration=note.onset - before.onset)
        line.append(note)
    return tuple(line)
