"""Open corpora in MSMD layout: scores engraved on pages, every notehead with its onset in several performances.

MSMD's own pieces come from their LilyPond sources at Mutopia (by piece public domain, CC BY or CC BY-SA), engraved
anew; what music21 carries, quartets and chorales reduced to two staves and tunes set for two hands, needs no download;
a folder of the user's own scores is treated in the same way.  Each performance is played from the noteheads themselves,
repeats once, so nothing is aligned afterwards.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import engraving, files, lilypond, paths, performance, scores, semantic, synthesis
from ..engraving import Sheet
from ..errors import DuetError
from ..performance import Manner
from ..progress import in_parallel
from ..synthesis import Played
from . import samples
from .msmd import (
    EXPRESSIVE,
    PARTS,
    VELOCITY,
    Msmd,
    read_split,
    write_other_edition,
    write_performance,
    write_sheet,
    write_split,
)
from .samples import Voice

BUILDER_VERSION = 3  # raise it when the same sources and settings give other files

_TAIL = 1.5  # seconds after the last note
_RATIOS = (0.9, 0.95, 1.0, 1.05, 1.1)  # of training, as MSMD draws them
_TEST_RATIOS = (0.5, 0.75, 1.0, 1.5, 2.0)  # seconds per notated second: 2 is the half tempo of the passage study
_MANNER = Manner(rubato=0.15, speed=1.0, dynamics=10.0, asynchrony=0.0)  # tempo within about 30 % of its mean
_SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}


def voices() -> tuple[tuple[Voice, ...], Voice]:
    """Instruments of training, the first also of validation, and the one of the test, which is never trained on.

    The test has the sampled grand where it is there, else the piano of timgm6mb.  By their samples FluidR3's grand, its
    electric piano, its harpsichord, MuseScore's and timgm6mb's piano are different instruments.
    """
    sampled = samples.available("piano")
    test = Voice("samples", "piano") if sampled else Voice("timgm6mb", 0)
    wanted = [Voice("fluidr3", 0), Voice("fluidr3", 4), Voice("musescore", 0), Voice("fluidr3", 6)]
    training = [v for v in wanted if synthesis.installed(v.font)]
    if sampled or not training:
        training += [
            Voice("timgm6mb", p) for p in ((0,) if sampled else (4, 6, 2, 5)) if synthesis.installed("timgm6mb")
        ]
    if not training:
        raise DuetError("no SoundFont is installed", remedy="`make setup` installs them as root")
    return tuple(training), test


def _seed(*parts: str) -> np.random.Generator:
    return np.random.default_rng(int(files.digest(*parts)[:16], 16))


# -- sources -----------------------------------------------------------------------------------------------------------


class Source(NamedTuple):
    """A score: the name of its piece in the corpus, ``<composer>__<work>__<movement>``; how it becomes pages; its file.

    ``kind``: "lilypond"; "score" (all parts on two staves); "tune" (music21's ABC, set for two hands); "midi".
    """

    piece: str
    kind: str
    path: Path


#: Folders of music21's corpus: composer, share of the pieces.  A file larger than this makes more than a few pages.
_REGISTRY = {
    "bach": ("BachJS", 0.4),
    "ryansMammoth": ("Traditional", 0.35),
    "haydn": ("HaydnFJ", 0.06),
    "mozart": ("MozartWA", 0.08),
    "beethoven": ("BeethovenLv", 0.05),
    "schumann_robert": ("SchumannR", 0.02),
    "schumann_clara": ("SchumannC", 0.02),
    "joplin": ("JoplinS", 0.01),
    "chopin": ("ChopinFF", 0.01),
}
_LARGEST = {".mxl": 25_000, ".krn": 25_000, ".xml": 100_000, ".abc": 4_000}
_SUFFIXES = {".ly": "lilypond", ".mid": "midi", ".midi": "midi", **dict.fromkeys(scores.FORMATS, "score")}


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-.")


def registry_sources(count: int) -> list[Source]:
    """``count`` scores of music21's corpus, an order drawn from a seed within each folder."""
    root = Path(importlib.util.find_spec("music21").origin).parent / "corpus"  # importing it takes seconds
    piles = {}
    for folder, (composer, share) in _REGISTRY.items():
        found = [
            path
            for path in sorted((root / folder).rglob("*"))
            if path.is_file() and path.stat().st_size <= _LARGEST.get(path.suffix, 0)
        ]
        pile = []
        for index in _seed("registry", folder).permutation(len(found)):
            path = found[index]
            work = path.parent.name if path.parent.name != folder else path.stem.split(".")[0]
            kind = "tune" if path.suffix == ".abc" else "score"
            pile.append(Source(f"{composer}__{_plain(work)}__{_plain(path.stem)}", kind, path))
        piles[folder] = (pile, max(1, round(share * count)))
    chosen = [source for pile, most in piles.values() for source in pile[:most]]
    spare = [s for layer in itertools.zip_longest(*(pile[most:] for pile, most in piles.values())) for s in layer if s]
    return _unnamed_twice((chosen if len(chosen) >= count else chosen + spare)[:count])


def mutopia_sources(pieces: Sequence[str]) -> list[Source]:
    """The LilyPond sources of pieces of MSMD, by their names.  Raises DuetError where one has none."""
    from . import openscores  # here: it brings libraries for downloads, which reading a corpus does not need

    root = openscores.require("mutopia") / "ftp"
    sources = []
    for piece in pieces:
        composer, work, name = (piece.split("__", 2) + ["", ""])[:3]
        folder = root / composer / work / name
        found = [folder] if name and folder.is_dir() else sorted((root / composer / work).rglob(f"{name}.ly"))
        if not name or not found:
            raise DuetError(f"has no source of {piece!r}", path=root, remedy="use a split of MSMD 1.1")
        sources.append(Source(piece, "lilypond", found[0]))
    return sources


def folder_sources(folder: str | Path) -> list[Source]:
    """Every score below the user's folder that can be read here.  Raises DuetError where there is none."""
    folder = Path(folder)
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    if not found:
        kinds = ", ".join(_SUFFIXES)
        raise DuetError("holds no score", path=folder, remedy=f"give a folder with files of {kinds}")
    included = {q for p in found if p.suffix == ".ly" for q in lilypond.included(p)}
    sources = [
        Source(f"Own__{_plain(p.parent.name) or 'scores'}__{_plain(p.stem)}", _SUFFIXES[p.suffix.lower()], p)
        for p in found
        if p.resolve() not in included
    ]
    return _unnamed_twice(sources)


def freely_shown(corpus: Msmd, pieces: Sequence[str]) -> list[str]:
    """Those of the pieces whose pages and sound anybody may publish.

    The scores inside music21 are of old music.  A LilyPond source of Mutopia's says in its header whether it is in the
    public domain; where it is not on this machine, its piece is not shown.  The user's own scores always are.
    """
    collection = corpus.description.get("settings", {}).get("collection", "")
    mutopia = collection == "mutopia" or corpus.description.get("name") == "MSMD"
    return [piece for piece in pieces if not mutopia or _public_domain(piece)]


def _public_domain(piece: str) -> bool:
    try:
        path = mutopia_sources([piece])[0].path
    except DuetError:
        return False
    headers = [path] if path.is_file() else sorted(path.rglob("*.*ly"))
    text = "\n".join(header.read_text(encoding="utf-8", errors="replace") for header in headers)
    said = re.findall(r'(?:license|copyright)\s*=\s*"([^"]+)"', text, re.IGNORECASE)
    return bool(said) and all(words.startswith("Public Domain") for words in said)


def _unnamed_twice(sources: Sequence[Source]) -> list[Source]:
    counts: dict[str, int] = {}
    named = []
    for source in sources:
        counts[source.piece] = counts.get(source.piece, 0) + 1
        extra = f"-{counts[source.piece]}" if counts[source.piece] > 1 else ""
        named.append(source._replace(piece=source.piece + extra))
    return named


# -- tunes for two hands -----------------------------------------------------------------------------------------------

_MEI = "{http://www.music-encoding.org/ns/mei}"
_LETTERS = "cdefgab"
_NATURAL = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_TRIADS = (0, 4, 3, 5, 1)  # degrees, the likelier first: I V IV vi ii
#: The left hand of a bar by its length in quarters: (duration, dots, what), 0 is the bass, 1 the chord above it.
_FIGURES = {
    4.0: (("4", 0, 0), ("4", 0, 1), ("4", 0, 0), ("4", 0, 1)),
    3.0: (("4", 0, 0), ("4", 0, 1), ("4", 0, 1)),
    2.0: (("4", 0, 0), ("4", 0, 1)),
    1.5: (("4", 1, 0),),
}
_COMPOUND = {3.0: (("4", 1, 0), ("4", 1, 1)), 4.5: (("4", 1, 0), ("4", 1, 1), ("4", 1, 1))}


def two_hands(mei: str) -> str:
    """MEI of a melody on one staff with a left hand below it: a triad of the key for every bar, bass and chord in turn.

    The triad is the one that has most of the bar's notes, by their lengths; the last bar has the tonic, the relative
    minor's where the tune ends on its notes.
    """
    tree = ElementTree.fromstring(mei)
    parents = {child: parent for parent in tree.iter() for child in parent}
    definition = tree.find(f".//{_MEI}scoreDef")
    staff = definition.find(f".//{_MEI}staffDef")
    group = parents[staff]
    group.set("symbol", "brace")
    group.set("bar.thru", "true")
    ElementTree.SubElement(group, f"{_MEI}staffDef", {"n": "2", "lines": "5", "clef.shape": "F", "clef.line": "4"})
    sharps, compound = 0, False
    measures = list(tree.iter(f"{_MEI}measure"))
    for element in tree.iter():
        if element.tag == f"{_MEI}scoreDef":
            if "keysig" in element.attrib:
                sharps = int(element.get("keysig")[0]) * (-1 if element.get("keysig").endswith("f") else 1)
            compound = element.get("meter.unit", "8" if compound else "4") == "8"
        elif element.tag == f"{_MEI}measure":
            lower = ElementTree.SubElement(element, f"{_MEI}staff", {"n": "2"})
            layer = ElementTree.SubElement(lower, f"{_MEI}layer", {"n": "1"})
            _left_hand(element, layer, sharps, compound, element is measures[-1])
            element.remove(lower)  # a bar's staves stand before its slurs and fermatas
            element.insert(list(element).index(element.find(f"{_MEI}staff")) + 1, lower)
    ElementTree.register_namespace("", _MEI[1:-1])
    return ElementTree.tostring(tree, encoding="unicode")


def _left_hand(measure: ElementTree.Element, layer: ElementTree.Element, sharps: int, compound: bool, last: bool):
    upper = measure.find(f"{_MEI}staff/{_MEI}layer")
    tonic = _LETTERS[(4 * sharps) % 7]
    altered = ("fcgdaeb"[:sharps], 1) if sharps > 0 else ("beadgcf"[:-sharps] if sharps else "", -1)
    signs = {letter: altered[1] if letter in altered[0] else 0 for letter in _LETTERS}
    weights: dict[str, float] = {}
    length, letter = 0.0, tonic
    for event in upper.iter():
        if event.tag not in (f"{_MEI}note", f"{_MEI}rest") or event.get("grace"):
            continue
        dots = int(event.get("dots", "0"))
        quarters = 4 / float(event.get("dur")) * (2 - 0.5**dots) if event.get("dur", "").isdigit() else 0.0
        length += quarters
        if event.tag == f"{_MEI}note":
            letter = event.get("pname")
            weights[letter] = weights.get(letter, 0.0) + quarters
    figure = (_COMPOUND if compound else {}).get(length) or _FIGURES.get(length)
    if not figure or not weights:
        for name, quarters in (("1", 4.0), ("2", 2.0), ("4", 1.0), ("8", 0.5), ("16", 0.25), ("32", 0.125)):
            while length >= quarters and weights:
                ElementTree.SubElement(layer, f"{_MEI}rest", {"dur": name})
                length -= quarters
        if not weights:
            ElementTree.SubElement(layer, f"{_MEI}mRest")
        return
    start = _LETTERS.index(tonic)

    def triad(degree: int) -> list[str]:
        return [_LETTERS[(start + degree + step) % 7] for step in (0, 2, 4)]

    degrees = ((0,) if letter in triad(0) else (5,)) if last else _TRIADS
    names = triad(max(degrees, key=lambda d: sum(weights.get(n, 0.0) for n in triad(d))))
    bass = 3 if _NATURAL[names[0]] < 7 else 2
    for duration, dots, above in figure:
        attributes = {"dur": duration, **({"dots": "1"} if dots else {})}
        if above:
            chord = ElementTree.SubElement(layer, f"{_MEI}chord", attributes)
            octave = bass
            for below, name in itertools.pairwise(names):
                octave += _LETTERS.index(name) < _LETTERS.index(below)
                _note(chord, name, octave, signs, {})
        else:
            _note(layer, names[0], bass, signs, attributes)


def _note(parent: ElementTree.Element, name: str, octave: int, signs: dict[str, int], attributes: dict) -> None:
    sign = {1: {"accid.ges": "s"}, -1: {"accid.ges": "f"}}.get(signs[name], {})
    ElementTree.SubElement(parent, f"{_MEI}note", {"pname": name, "oct": str(octave), **attributes, **sign})


# -- from sources to sheets --------------------------------------------------------------------------------------------


def sheet_of(source: Source, other_edition: bool = False) -> Sheet:
    """The pages of a source, cached by content.  Raises DuetError where it cannot be read or engraved."""
    if source.kind == "lilypond":
        return lilypond.engrave(source.path, other_edition=other_edition)
    parts = [source.kind, files.file_digest(source.path), importlib.metadata.version("verovio"), str(BUILDER_VERSION)]
    key = files.digest(*parts, *(["other edition"] if other_edition else []))
    folder = paths.cache() / "engravings" / key[:24]
    if (folder / "sheet.json").exists():
        return engraving.load_sheet(folder)
    if source.kind == "tune":
        mei = two_hands(semantic.mei_from_tokens(semantic.tokens_from_abc(source.path)))
    else:
        mei = engraving.keyboard_reduction(engraving.mei_of(*_text(source)))
    sheet = engraving.engrave_pages(mei, other_edition)
    engraving.save_sheet(folder, sheet)
    return sheet


def _text(source: Source) -> tuple[str, str]:
    if source.kind == "score":
        return scores.source_text(source.path)
    import music21

    try:
        stream = music21.converter.parse(str(source.path), format="midi")
        exported = music21.musicxml.m21ToXml.GeneralObjectExporter(stream).parse()
    except Exception as error:  # it hands on whatever its parsers raise
        what = f"is not readable MIDI: {type(error).__name__} {error}"
        raise DuetError(what, path=source.path, remedy="export it again") from None
    return exported.decode(), "xml"


def faults(sheet: Sheet) -> str:
    """Why a sheet cannot be used, "" where it can.

    Noteheads must stand on or near their own system, and time must not run backwards along it; a hundredth of the
    noteheads may (cues, and voices that are drawn side by side).
    """
    boxes = {}
    for system in sheet.systems:
        boxes.setdefault(system.page, []).append(system)
    stray = backwards = 0
    for _, own in itertools.groupby(sheet.noteheads, key=lambda h: (h.page, h.system)):
        heads = list(own)
        system = boxes[heads[0].page][heads[0].system]
        reach = 1.5 * engraving.PAGE_WIDTH / 10
        stray += sum(
            not (
                system.left - 5 <= h.column <= system.right + 5 and system.top - reach <= h.row <= system.bottom + reach
            )
            for h in heads
        )
        latest, column = -np.inf, -np.inf
        for head in heads:
            if head.column > column + 12 and head.onset < latest - 1e-3 and not head.grace:
                backwards += 1
            if head.onset >= latest:
                latest, column = head.onset, head.column
    if len(sheet.noteheads) < 12:
        return f"it has {len(sheet.noteheads)} noteheads"
    if stray > 0.01 * len(sheet.noteheads):
        return f"{stray} of {len(sheet.noteheads)} noteheads are far from their system"
    if backwards > 0.01 * len(sheet.noteheads):
        return f"time runs backwards at {backwards} of {len(sheet.noteheads)} noteheads"
    return ""


class _Engraved(NamedTuple):
    source: Source
    tune: str  # equal for the same music: the opening of its top line, up to transposition
    noteheads: int
    pages: int
    problem: str


def _engraved(source: Source) -> _Engraved:
    try:
        sheet = sheet_of(source)
    except DuetError as error:
        return _Engraved(source, "", 0, 0, error.problem)
    top: dict[float, int] = {}
    for head in sheet.noteheads:
        if not head.tied and not head.grace:
            top[head.onset] = max(top.get(head.onset, 0), head.pitch)
    line = [top[onset] for onset in sorted(top)[:13]]
    tune = " ".join(str(b - a) for a, b in itertools.pairwise(line))
    return _Engraved(source, tune, len(sheet.noteheads), len(sheet.images), faults(sheet))


def split_by_tune(engraved: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """``train``, ``valid`` and ``test`` of pieces (name, tune): 7 to 1 to 2, no work and no tune on two sides.

    Raises DuetError where there are too few to have one of each.
    """
    parent: dict[str, str] = {}

    def find(key: str) -> str:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    for name, tune in engraved:
        work = "work " + "__".join(name.split("__")[:2])
        for other in (work, "tune " + tune):
            parent[find(other)] = find("piece " + name)
    groups: dict[str, list[str]] = {}
    for name, _ in engraved:
        groups.setdefault(find("piece " + name), []).append(name)
    order = sorted(groups.values(), key=lambda own: files.digest("side", min(own)))
    split: dict[str, list[str]] = {part: [] for part in PARTS}
    if len(order) < len(PARTS):
        raise DuetError(f"{len(engraved)} pieces are too few to learn, to validate and to test", remedy="give more")
    for place, own in enumerate(order):
        empty = [part for part in ("test", "train", "valid") if not split[part]]
        behind = max(PARTS, key=lambda p: _SHARES[p] * len(engraved) - len(split[p]))
        split[empty[0] if empty and len(order) - place <= len(empty) + 3 else behind] += own
    return {part: sorted(own) for part, own in split.items()}


def split_by_composer(pieces: Sequence[str], composer: str) -> dict[str, list[str]]:
    """One composer's pieces for training, a sixth of them to validate, all others for the test; works stay together.

    Raises DuetError where one of the three is empty.
    """
    own = [p for p in pieces if p.split("__")[0] == composer]
    works = sorted({p.rsplit("__", 1)[0] for p in own}, key=lambda work: files.digest("side", work))
    held_out = set(works[: max(1, round(len(works) / 6))])
    split = {
        "train": sorted(p for p in own if p.rsplit("__", 1)[0] not in held_out),
        "valid": sorted(p for p in own if p.rsplit("__", 1)[0] in held_out),
        "test": sorted(set(pieces) - set(own)),
    }
    if not all(split.values()):
        raise DuetError(f"{len(pieces)} pieces, {len(own)} of them by {composer}, are too few", remedy="give more")
    return split


# -- performances ------------------------------------------------------------------------------------------------------


class _Rendering(NamedTuple):
    name: str
    ratio: float
    voice: Voice
    expressive: bool


def renderings(piece: str, part: str, count: int | None) -> list[_Rendering]:
    """What is played of a piece: always one at the notated tempo, and one with rubato on the same instrument.

    Training has ``count`` more (None: every tempo on every instrument), drawn from a seed; the test has further tempi,
    as the passage study needs them.
    """
    training, test = voices()
    voice = test if part == "test" else training[0]
    ratios = [(r, voice) for r in (_TEST_RATIOS if part == "test" else (1.0,))]
    if part == "train":
        others = [(r, v) for r in _RATIOS for v in training if (r, v) != ratios[0]]
        ratios += [others[i] for i in _seed(piece, "renderings").permutation(len(others))[:count]]
    made = [_Rendering(f"{piece}_tempo-{round(1000 * r)}_{v}", r, v, False) for r, v in ratios]
    return [*made, _Rendering(f"{piece}_tempo-1000_{voice}{EXPRESSIVE}", 1.0, voice, True)]


def performed(sheet: Sheet, rendering: _Rendering) -> tuple[list[Played], np.ndarray]:
    """Notes to play, and (n,) seconds of every notehead, NaN for the tied ones.

    Strict ones have one velocity; expressive ones swell, and their tempo is bent by up to about 30 %.
    """
    notes, owners = engraving.sounding(sheet.noteheads)
    end = max(n.end for n in notes)
    tempo = performance.nominal_map(0.0, end, sheet.tempi or ((0.0, performance.usual_tempo(notes)),))
    rng = _seed(rendering.name)
    if rendering.expressive:
        tempo = performance.expressive_map(tempo, sheet.bars, _MANNER, rng)
    onsets = tempo.to_seconds([n.onset for n in notes]) * rendering.ratio
    ends = tempo.to_seconds([n.end for n in notes]) * rendering.ratio
    if rendering.expressive:
        played = performance.perform(notes, tempo, sheet.bars, _MANNER, rng)
    else:
        played = [
            Played(float(on), max(float(off - on), 0.03), n.pitch, VELOCITY)
            for n, on, off in zip(notes, onsets, ends, strict=True)
        ]
    heads = zip(owners, sheet.noteheads, strict=True)
    seconds = np.array([np.nan if head.tied else onsets[note] for note, head in heads])
    return performance.pedal(played, ()), seconds


class _Job(NamedTuple):
    source: Source
    part: str
    renderings: int | None


def _make(root: Path, job: _Job) -> None:
    """Write a piece: its performances, then its pages, which end with ``meta.yml``."""
    piece = job.source.piece
    if (root / piece / "meta.yml").exists():
        return
    sheet = sheet_of(job.source)
    onsets = {}
    for rendering in renderings(piece, job.part, job.renderings):
        notes, onsets[rendering.name] = performed(sheet, rendering)
        table = np.array([(n.onset, n.pitch, n.duration, n.velocity, 0) for n in notes], float)
        write_performance(root, piece, rendering.name, table, samples.sound(notes, rendering.voice, _TAIL))
    write_sheet(root, piece, sheet, onsets, job.source.path.name)


def _reprint(corpus: Msmd, source: Source) -> str:
    """Add another print of a test piece to its corpus; why there is none, "" where there is."""
    piece = source.piece
    if corpus.has_other_edition(piece):
        return ""
    try:
        sheet = sheet_of(source, other_edition=True)
    except DuetError as error:
        return error.problem
    onsets = {}
    for rendering in renderings(piece, "test", 0):
        notes, onsets[rendering.name] = performed(sheet, rendering)
        own = corpus.notes(piece, rendering.name)
        if len(own) != len(notes) or not np.allclose(np.sort(own[:, 0]), sorted(n.onset for n in notes), atol=1e-3):
            return "it has other notes than the first"
    problem = faults(sheet)
    if not problem:
        write_other_edition(corpus.root, piece, sheet, onsets)
    return problem


# -- the open corpora --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenSheets:
    """A stand-in for MSMD.

    ``collection``: "mutopia" (MSMD's own pieces, needs `make corpora` or DUET_SCORES, and LilyPond), "registry" (what
    is inside music21), or a folder of the user's own scores.  ``pieces``: how many, None for all there are.
    ``renderings``: performances of each training piece beyond the two that every piece has.  ``composer``: the one, as
    names of pieces begin, that a study trains on alone: the training pieces are played in every tempo by every
    instrument, and where no split is published everybody else is tested.
    """

    collection: str
    pieces: int | None = None
    renderings: int = 6
    composer: str = ""

    @property
    def name(self) -> str:
        """For tables."""
        names = {"mutopia": "MSMD rebuilt from Mutopia (open)", "registry": "music21 scores (open)"}
        return names.get(self.collection, f"own scores ({Path(self.collection).name})")

    def build(self, workers: int | None = None, progress: bool = False) -> Msmd:
        """The corpus under the cache, built on first use.

        Resumable: engravings are cached, a piece with ``meta.yml`` is done, ``corpus.json`` comes last.
        ``dropped.json`` says which pieces are left out and why; ``all_split.yaml`` is the split, and beside it are the
        other published ones of what is here.  Raises DuetError
        where sources, LilyPond or SoundFonts are not there, and where too few pieces can be engraved.
        """
        sources, wanted = self._sources()
        if self.collection == "mutopia":
            engraver = f"LilyPond {lilypond.version()}"
            origin = files.digest(*(lilypond.content_digest(s.path) for s in sources))
        elif self.collection == "registry":
            engraver = f"Verovio {importlib.metadata.version('verovio')}"
            origin = f"music21 {importlib.metadata.version('music21')}"
        else:
            engraver = f"Verovio {importlib.metadata.version('verovio')}"
            if any(s.kind == "lilypond" for s in sources):
                engraver += f", LilyPond {lilypond.version()}"
            origin = files.digest(*(files.file_digest(s.path) for s in sources))
        training, test = voices()
        settings = {**asdict(self), "engraver": engraver, "engine": synthesis.engine(),
                    "instruments": [str(v) for v in training], "test instrument": str(test)}  # fmt: skip
        digests = [
            samples.PACKAGES[v.program].sha512 if v.font == "samples" else synthesis.soundfont_digest(v.font)
            for v in (*training, test)
        ]
        identity = files.digest(origin, json.dumps(settings, sort_keys=True), *digests, str(BUILDER_VERSION))
        label = self.collection if wanted or self.collection == "registry" else "own"
        root = paths.cache() / "corpora" / f"msmd-{label}-{identity[:12]}"
        if (root / "corpus.json").exists():
            return Msmd(root)
        engraved = list(in_parallel(_engraved, sources, "engraving", workers, progress))
        good = [e for e in engraved if not e.problem]
        kept = {e.source.piece: e.source for e in good}
        if wanted:
            split = {part: [p for p in own if p in kept] for part, own in wanted.items()}
        elif self.composer:
            split = split_by_composer(list(kept), self.composer)
        else:
            split = split_by_tune([(e.source.piece, e.tune) for e in good])
        jobs = [_Job(kept[piece], part, self._count(piece)) for part, own in split.items() for piece in own]
        list(in_parallel(partial(_make, root), jobs, "performances", workers, progress))
        if wanted:
            _write_published(root, set(kept))
        write_split(root, split)
        files.write_json(root / "dropped.json", {e.source.piece: e.problem for e in engraved if e.problem})
        counts = {"pieces": len(good), "pages": sum(e.pages for e in good), "noteheads": sum(e.noteheads for e in good)}
        description = {"name": self.name, "fingerprint": identity, "settings": settings, "layout": "MSMD"}
        files.write_json(root / "corpus.json", {**description, "counts": counts, "stand_in": True})
        return Msmd(root)

    def _sources(self) -> tuple[list[Source], dict[str, list[str]] | None]:
        """The scores, and the parts that they have in a published split."""
        if self.collection == "mutopia":
            published = read_split(paths.lists() / "msmd" / "all_split.yaml")
            wanted = {part: _some(own, part, self.pieces, published) for part, own in published.items()}
            return mutopia_sources([piece for own in wanted.values() for piece in own]), wanted
        if self.collection == "registry":
            return registry_sources(self.pieces or 1500), None
        return folder_sources(self.collection)[: self.pieces], None

    def reprint(self, corpus: Msmd, pieces: Sequence[str], progress: bool = False) -> dict[str, str]:
        """Engrave test pieces of a corpus that :meth:`build` made in another edition too, see :class:`Msmd`.

        Why some pieces have none, by name.  Pieces that have one are left as they are.
        """
        missing = {piece for piece in pieces if not corpus.has_other_edition(piece)}
        sources = [s for s in self._sources()[0] if s.piece in missing] if missing else []
        problems = in_parallel(partial(_reprint, corpus), sources, "other editions", show=progress)
        return {source.piece: why for source, why in zip(sources, problems, strict=True) if why}

    def _count(self, piece: str) -> int | None:
        return None if self.composer and piece.split("__")[0] == self.composer else self.renderings


def _write_published(root: Path, kept: set[str]) -> None:
    """Every published split of MSMD's pieces, without those that are not here."""
    for path in sorted((paths.lists() / "msmd").glob("*_split.yaml")):
        split = read_split(path)
        write_split(root, {part: [p for p in own if p in kept] for part, own in split.items()}, path.stem)


def _some(pieces: Sequence[str], part: str, count: int | None, split: dict[str, list[str]]) -> list[str]:
    """A part's share of ``count`` pieces, at least one, drawn from a seed."""
    if count is None:
        return list(pieces)
    share = max(1, round(count * len(pieces) / sum(len(own) for own in split.values())))
    order = _seed("pieces", part).permutation(len(pieces))[:share]
    return [pieces[i] for i in sorted(order)]
