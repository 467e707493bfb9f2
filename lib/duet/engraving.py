"""Notation to images: Verovio engraves, resvg rasterises, and a simulated camera takes a picture.

Images are (rows, columns) uint8, 255 paper and 0 ink.
"""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import resvg_py
import verovio
from PIL import Image, ImageFilter

from . import files, scores
from .apart import apart
from .errors import DuetError
from .scores import Note

#: Verovio's engraving fonts; a corpus mixes them so that a model cannot learn one drawing of a clef.
FONTS = ("Leipzig", "Bravura", "Gootville", "Leland", "Petaluma")
STAFF_SPACES = 14  # a staff image shows the staff (4 spaces) and 5 above and below it
IMAGE_HEIGHT = 128  # rows of a staff image whose notes stay within those spaces
_UNITS_PER_SPACE = 180  # in Verovio's drawing units, at its default size
_PIXELS_PER_SPACE = IMAGE_HEIGHT / STAFF_SPACES
_EPSILON = 1e-3  # quarters


@cache
def _toolkit() -> verovio.toolkit:
    """One toolkit per process: making one takes as long as engraving a hundred incipits."""
    verovio.enableLog(verovio.LOG_OFF)
    return verovio.toolkit()


def mei_from_pae(clef: str, keysig: str, timesig: str, data: str) -> str:
    """Plaine & Easie, the code of RISM's incipits, as MEI.

    Raises DuetError where Verovio finds the code faulty.
    """
    toolkit = _toolkit()
    code = f"@clef:{clef}\n@keysig:{keysig}\n@timesig:{timesig}\n@data:{data}\n"
    toolkit.setOptions({"inputFrom": "pae", "xmlIdSeed": 1})
    if complaints := toolkit.validatePAE(code):
        raise DuetError(f"the Plaine & Easie code {data[:40]!r} is not valid: {str(complaints)[:120]}")
    if not toolkit.loadData(code):
        raise DuetError(f"Verovio cannot read the Plaine & Easie code {data[:40]!r}")
    return toolkit.getMEI()


def engrave_staff(mei: str, font: str = "Leipzig") -> str:
    """SVG of one unbroken staff.

    The horizontal spacing is tighter than Verovio's default, about two thirds of it: it keeps an incipit's
    image as long as its sound and halves the cost of every recurrent step.
    """
    toolkit = _toolkit()
    toolkit.setOptions(
        {
            "inputFrom": "mei",
            "font": font,
            "breaks": "none",
            "adjustPageWidth": True,
            "adjustPageHeight": True,
            "header": "none",
            "footer": "none",
            "svgViewBox": True,
            "scale": 100,
            "spacingLinear": 0.15,
            "spacingNonLinear": 0.55,
            "pageMarginTop": 50,
            "pageMarginBottom": 50,
            "pageMarginLeft": 30,
            "pageMarginRight": 30,
        }
    )
    if not toolkit.loadData(mei):
        raise DuetError("Verovio cannot read this MEI", remedy="check the file in an MEI validator")
    return toolkit.renderToSVG(1)


def rasterise(svg: str, zoom: float) -> np.ndarray:
    """(rows, columns) uint8 of an SVG, on white paper."""
    try:
        png = resvg_py.svg_to_bytes(svg_string=svg, zoom=zoom, background="#ffffff", skip_system_fonts=True)
    except ValueError as error:
        raise DuetError(f"the engraving cannot be drawn: {error}") from error
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("L"))


def staff_image(mei: str, font: str = "Leipzig") -> np.ndarray:
    """(128, columns) uint8: the staff centred vertically, 5 staff spaces above and below it.

    Notes on more ledger lines than that make the image taller, still centred on the staff.
    """
    svg = engrave_staff(mei, font)
    image = rasterise(svg, _PIXELS_PER_SPACE * 10 / _UNITS_PER_SPACE)
    margin = int(re.search(r'class="page-margin" transform="translate\(-?\d+, (-?\d+)\)', svg)[1])
    lines = [int(y) for y in re.findall(r'<path d="M-?\d+ (-?\d+) L-?\d+ \1"', svg)[:5]]
    centre = round((margin + lines[2]) / _UNITS_PER_SPACE * _PIXELS_PER_SPACE)
    dark_rows = np.flatnonzero(image.min(1) < 128)
    reach = max(IMAGE_HEIGHT // 2, centre - dark_rows[0] + 4, dark_rows[-1] - centre + 5)
    padded = np.pad(image, ((reach, reach), (0, 0)), constant_values=255)
    return np.ascontiguousarray(padded[centre : centre + 2 * reach])


def photograph(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image as a hand-held camera might see it: perspective, rotation, shading, blur, noise.

    A stand-in for Camera-PrIMuS's distortion (Calvo-Zaragoza & Rizo, ISMIR 2018, Section 3), whose exact
    parameters are not published.  Shape and dtype are kept.
    """
    rows, columns = image.shape
    # each corner moves on its own: together they rotate, shear, scale and tilt the page
    tilt = rng.uniform(-0.02, 0.02) * rows
    shift = rng.uniform(-0.02, 0.02, (4, 2)) * rows
    corners = np.array([[0, 0], [0, rows], [columns, rows], [columns, 0]], float) + shift
    corners[:, 1] += np.array([-tilt, -tilt, tilt, tilt])
    picture = Image.fromarray(image).transform(
        (columns, rows),
        Image.Transform.PERSPECTIVE,
        _perspective(columns, rows, corners),
        resample=Image.Resampling.BILINEAR,
        fillcolor=255,
    )
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.0)))
    light = np.asarray(picture, np.float32) / 255
    ink, paper = rng.uniform(0.0, 0.3), rng.uniform(0.75, 1.0)
    light = ink + (paper - ink) * light
    # a lamp from one side, and the slow unevenness of the paper
    shade = np.asarray(
        Image.fromarray(rng.uniform(0.85, 1.1, (3, 6)).astype(np.float32)).resize(
            (columns, rows), Image.Resampling.BICUBIC
        )
    )
    light = light * shade + rng.normal(0, rng.uniform(0.01, 0.05), light.shape).astype(np.float32)
    return (255 * light.clip(0, 1)).astype(np.uint8)


def _perspective(columns: int, rows: int, corners: np.ndarray) -> list[float]:
    """Pillow's eight coefficients: they map an output pixel to the input pixel it shows."""
    output = np.array([[0, 0], [0, rows], [columns, rows], [columns, 0]], float)
    equations, values = [], []
    for (x, y), (u, v) in zip(output, corners, strict=True):
        equations += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.linalg.solve(np.array(equations), np.array(values)).tolist()


# -- pages of whole scores ---------------------------------------------------------------------------------------------

PAGE_WIDTH = 835  # columns of every page: MSMD's, as wide as A4 at about 101 dots per inch
PAGE_HEIGHT = 1181  # rows of an A4 page
PIXELS_PER_STAFF_SPACE = 7.0  # of LilyPond's default staff, 20 points high, on such a page


class Notehead(NamedTuple):
    """A notehead on a page and what it means.

    ``system``: its number on the page, from the top; ``staff``: its number in the system.  The box is in pixels from
    the page's top left corner, edges not centres.  ``onset`` and ``duration`` in quarters of the whole sheet; ``pitch``
    as it sounds, MIDI.  ``tied``: it goes on with a note that sounds already and has no onset of its own.
    """

    page: int
    system: int
    staff: int
    top: float
    left: float
    bottom: float
    right: float
    onset: float
    duration: float
    pitch: int
    tied: bool
    grace: bool

    @property
    def row(self) -> float:
        """Of its centre, where 0 is the middle of the first pixel."""
        return (self.top + self.bottom) / 2 - 0.5

    @property
    def column(self) -> float:
        return (self.left + self.right) / 2 - 0.5


class System(NamedTuple):
    """A line of music: its staves from the top line of the first to the bottom line of the last, in pixel edges."""

    page: int
    top: float
    left: float
    bottom: float
    right: float
    staves: int


@dataclass(frozen=True)
class Sheet:
    """A whole score on pages: ``images`` (rows, 835) uint8; ``systems`` and ``noteheads`` in reading order.

    ``bars``: quarters at which bars begin.  ``tempi``: (quarters, quarters per minute) of the marks, none without any.
    """

    images: tuple[np.ndarray, ...]
    systems: tuple[System, ...]
    noteheads: tuple[Notehead, ...]
    bars: tuple[float, ...]
    tempi: tuple[tuple[float, float], ...]


def sounding(noteheads: Sequence[Notehead]) -> tuple[list[Note], list[int]]:
    """The notes that the noteheads stand for, by onset, and for each notehead the index of its note.

    A tied notehead prolongs the note before it and belongs to it.  Two heads of one pitch and onset, a unison of two
    voices, are one note, as long as the longer.
    """
    order = sorted(range(len(noteheads)), key=lambda i: (noteheads[i].onset, noteheads[i].tied))
    notes: list[Note] = []
    owner = [0] * len(noteheads)
    latest: dict[int, int] = {}
    for i in order:
        head = noteheads[i]
        before = latest.get(head.pitch)
        same = before is not None and (head.tied or abs(notes[before].onset - head.onset) < _EPSILON)
        if same:
            old = notes[before]
            end = max(old.end, head.onset + head.duration)
            notes[before] = old._replace(duration=end - old.onset, grace=old.grace and head.grace)
            owner[i] = before
        else:
            latest[head.pitch] = owner[i] = len(notes)
            notes.append(Note(head.onset, max(head.duration, 1 / 64), head.pitch, head.staff, 1, head.grace))
    rank = {old: new for new, old in enumerate(sorted(range(len(notes)), key=lambda n: notes[n]))}
    return sorted(notes), [rank[n] for n in owner]


def save_sheet(folder: Path, sheet: Sheet) -> None:
    """Write pages and ``sheet.json``, which comes last and says that all is there."""
    for number, image in enumerate(sheet.images, 1):
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, "PNG")
        files.write_bytes(folder / f"{number:02}.png", encoded.getvalue())
    parts = {name: getattr(sheet, name) for name in ("systems", "noteheads", "bars", "tempi")}
    files.write_text(folder / "sheet.json", json.dumps({**parts, "images": len(sheet.images)}))


def load_sheet(folder: Path) -> Sheet:
    """Raises DuetError for a folder that :func:`save_sheet` has not written whole."""
    try:
        content = json.loads((folder / "sheet.json").read_text())
        images = [np.asarray(Image.open(folder / f"{n:02}.png")) for n in range(1, content["images"] + 1)]
        return Sheet(
            tuple(images),
            tuple(System(*s) for s in content["systems"]),
            tuple(Notehead(*h) for h in content["noteheads"]),
            tuple(content["bars"]),
            tuple((q, t) for q, t in content["tempi"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DuetError("is not a whole engraving", path=folder, remedy="delete this folder") from None


_MEI = "{http://www.music-encoding.org/ns/mei}"
_ID = "{http://www.w3.org/XML/1998/namespace}id"
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_UNITS = round(PAGE_WIDTH / PIXELS_PER_STAFF_SPACE * _UNITS_PER_SPACE / 10)  # Verovio's page width, a tenth of its own
_SIZE = 0.72  # Verovio's scale of a glyph at its default size
#: Widths of a font's noteheads in staff spaces: breve, whole, half, filled.
_HEAD_WIDTHS = {
    "Leipzig": {"E0A1": 1.39, "E0A2": 1.62, "E0A3": 1.25, "E0A4": 1.25},
    "Leland": {"E0A1": 1.73, "E0A2": 1.49, "E0A3": 1.3, "E0A4": 1.3},
}
#: Of the other edition of a score: its notes are drawn otherwise and stand wider apart, so that lines break elsewhere.
_OTHER_EDITION = {
    "font": "Leland",
    "spacingLinear": 0.32,
    "spacingNonLinear": 0.62,
    "staffLineWidth": 0.11,
    "stemWidth": 0.28,
    "barLineWidth": 0.42,
    "slurMidpointThickness": 0.85,
    "tieMidpointThickness": 0.7,
    "beamMaxSlope": 6,
}
_READABLE = ("mei", "xml", "humdrum")
_EXPORT = "export it again from its notation program"


@cache
def _page_toolkit() -> verovio.toolkit:
    """Apart from the one for staves: options stay set."""
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    toolkit.setOptions(
        {
            "pageWidth": _UNITS,
            "pageHeight": round(_UNITS * PAGE_HEIGHT / PAGE_WIDTH),
            "breaks": "auto",
            "header": "none",
            "footer": "none",
            "svgViewBox": True,
            "scale": 100,
            "xmlIdSeed": 1,
            "expandNever": True,  # repeats are played once: replayed notes would have ids that are on no page
        }
    )
    return toolkit


def mei_of(content: str, kind: str) -> str:
    """MEI of a score in one of Verovio's formats: "mei", "xml" (MusicXML) or "humdrum".

    Raises DuetError where Verovio cannot read it.
    """
    if kind not in _READABLE:
        raise DuetError(f"unknown format {kind!r}", remedy=f"one of {', '.join(_READABLE)}")
    _page_toolkit()  # here: the forked process would make its own
    return apart(_mei_of, content, kind, seconds=scores.patience(content), remedy=_EXPORT)


def _mei_of(content: str, kind: str) -> str:
    toolkit = _page_toolkit()
    toolkit.setOptions({"inputFrom": kind})
    if not toolkit.loadData(content):
        raise DuetError("Verovio cannot read this score", remedy=_EXPORT)
    return toolkit.getMEI()


def engrave_pages(mei: str, other_edition: bool = False) -> Sheet:
    """The sheet of a whole score: A4 pages 835 pixels wide, staves as high as LilyPond's.

    Noteheads of the drawing and onsets of the timemap have the ids of the MEI in common.  A notehead that Verovio does
    not play is in no list.  ``other_edition``: as another house would print it.  Raises DuetError where Verovio cannot
    read the MEI or draws no note.
    """
    _page_toolkit()  # here: the forked process would make its own
    return apart(_engrave_pages, mei, other_edition, seconds=3 * scores.patience(mei), remedy=_EXPORT)


def _engrave_pages(mei: str, other_edition: bool) -> Sheet:
    toolkit = _page_toolkit()
    style = _OTHER_EDITION if other_edition else {}  # the process is a fork: options do not outlive the score
    # elements without an id get one here; from the seed of mei_of's they would get those that others have already
    toolkit.setOptions({"inputFrom": "mei", "xmlIdSeed": 2, **style})
    try:
        loaded = toolkit.loadData(mei)
        tree = ElementTree.fromstring(toolkit.getMEI()) if loaded else None
    except ElementTree.ParseError:
        tree = None
    if tree is None:
        raise DuetError("Verovio cannot read this MEI", remedy="check the file in an MEI validator")
    timemap = toolkit.renderToTimemap({"includeMeasures": True})
    meanings, bars = _meanings(tree, timemap)
    images, systems, heads = [], [], []
    for page in range(toolkit.getPageCount()):
        svg = toolkit.renderToSVG(page + 1)
        try:
            lines, found = _drawn(svg, page, meanings, _HEAD_WIDTHS[style.get("font", "Leipzig")])
        except (ElementTree.ParseError, StopIteration, TypeError, ValueError) as error:  # of a damaged score
            raise DuetError(f"Verovio's page of it is not readable: {error}", remedy=_EXPORT) from None
        if found:
            image = rasterise(svg, PAGE_WIDTH / _UNITS)
            images.append(image)
            systems += [s._replace(page=len(images) - 1) for s in lines]
            heads += [h._replace(page=len(images) - 1) for h in found]
    if not heads:
        raise DuetError("Verovio draws no note of this score", remedy="leave it out")
    heads.sort(key=lambda h: (h.page, h.system, h.column, h.row))
    return Sheet(tuple(images), tuple(systems), tuple(heads), tuple(bars), scores.tempi(tree, timemap))


def _meanings(mei: ElementTree.Element, timemap: list[dict]) -> tuple[dict[str, tuple], list[float]]:
    """By id of each note (onset, duration, pitch, tied, grace); and the bars."""
    notated, ties, bars = scores.joined(mei, timemap)
    meanings = {}
    for identity, note in notated.items():
        duration = 0.0 if note.end is None else max(note.end - note.onset, 0.0)
        meanings[identity] = (note.onset, duration, note.pitch, False, note.grace)
    for start, end in ties:
        if start in meanings and end in meanings and meanings[start][2] == meanings[end][2]:
            gap = meanings[end][0] - meanings[start][0] - meanings[start][1]
            if -_EPSILON < gap < 1:  # a gap: the bar has a beat too many; more: the tie leads from one ending on
                meanings[end] = (*meanings[end][:3], True, meanings[end][4])
    return meanings, sorted({begin for begin, _ in bars})


def _drawn(
    svg: str, page: int, meanings: dict[str, tuple], widths: dict[str, float]
) -> tuple[list[System], list[Notehead]]:
    """Systems and noteheads of a page."""
    tree = ElementTree.fromstring(svg)
    margin = next(g for g in tree.iter(f"{_SVG}g") if _is(g, "page-margin"))
    across, down = _numbers(margin.get("transform"))[:2]
    scale = PAGE_WIDTH / _UNITS / 10
    systems, heads = [], []
    for group in tree.iter(f"{_SVG}g"):
        if not _is(group, "system"):
            continue
        lines, most, found = [], 0, []  # staff lines as (row, left, right)
        for measure in (g for g in group.iter(f"{_SVG}g") if _is(g, "measure")):
            staves = [g for g in measure if _is(g, "staff")]
            most = max(most, len(staves))
            for number, staff in enumerate(staves):
                ends = (_numbers(path.get("d")) for path in staff.findall(f"{_SVG}path"))
                lines += [(y, left, right) for left, y, right, _ in ends]
                for note in (g for g in staff.iter(f"{_SVG}g") if _is(g, "note")):
                    if note.get("id") in meanings:
                        found += [(number, note.get("id"), use) for use in _head_glyphs(note)]
        if not lines:
            continue
        rows, lefts, rights = zip(*lines, strict=True)
        box = (
            (min(rows) + down) * scale,
            (min(lefts) + across) * scale,
            (max(rows) + down) * scale,
            (max(rights) + across) * scale,
        )
        systems.append(System(page, *box, most))
        for number, identity, use in found:
            x, y, size = _numbers(use.get("transform"))[:3]
            glyph = use.get(_LINK, use.get("href", ""))[1:5]
            width = widths.get(glyph, 1.25) * _UNITS_PER_SPACE * size / _SIZE
            half = _UNITS_PER_SPACE / 2 * size / _SIZE
            onset, duration, pitch, tied, grace = meanings[identity]
            top, left = (y - half + down) * scale, (x + across) * scale
            heads.append(
                Notehead(page, len(systems) - 1, number, top, left, top + 2 * half * scale, left + width * scale,
                         onset, duration, pitch, tied, grace)
            )  # fmt: skip
    return systems, heads


def _is(group: ElementTree.Element, name: str) -> bool:
    """Whether Verovio draws such an element here: an element's own type follows its name in the class."""
    return group.get("class", "").split(" ")[0] == name


def _head_glyphs(note: ElementTree.Element) -> list[ElementTree.Element]:
    heads = (g for g in note.findall(f"{_SVG}g") if _is(g, "notehead"))
    return [use for head in heads for use in head.findall(f"{_SVG}use")][:1]


def _numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", text)]


# -- scores of many staves on two --------------------------------------------------------------------------------------

_CLUTTER = (
    "extMeta",
    "verse",
    "dynam",
    "hairpin",
    "dir",
    "tempo",
    "harm",
    "fing",
    "label",
    "labelAbbr",
    "pb",
    "sb",
    "expansion",
)


def keyboard_reduction(mei: str) -> str:
    """MEI of a score on two staves: the parts become their voices, those in bass or C clef the lower one's.

    A score on one or two staves stays as it is.  Where all clefs say the same the lower half of the staves goes down.
    Words and dynamics are left out.  Raises DuetError for MEI that is damaged or has no staves, and for a score with
    more than four parts on one of the two staves.
    """
    try:
        tree = ElementTree.fromstring(mei)
    except ElementTree.ParseError as error:
        raise DuetError(f"the MEI is not well-formed: {error}", remedy="check the file in an MEI validator") from None
    definition = tree.find(f".//{_MEI}scoreDef")
    staves = [] if definition is None else list(definition.iter(f"{_MEI}staffDef"))
    if not staves:
        raise DuetError("the MEI defines no staves", remedy="check the file in an MEI validator")
    if len(staves) <= 2:
        return mei
    low = [_clef(s) in ("F", "C") for s in staves]
    if all(low) or not any(low):
        low = [i >= len(staves) / 2 for i in range(len(staves))]
    target = {s.get("n"): "2" if down else "1" for s, down in zip(staves, low, strict=True)}
    if max(low.count(True), low.count(False)) > 4:
        raise DuetError(f"{len(staves)} staves are too many for two hands", remedy="leave the score out")
    firsts = {number: next(n for n, t in target.items() if t == number) for number in ("1", "2")}
    merged = {t for t in ("1", "2") if list(target.values()).count(t) > 1}
    for parent in tree.iter():
        for child in list(parent):
            tag = child.tag.removeprefix(_MEI)
            staff = child.get("staff", "").split(" ")[0]
            if tag in _CLUTTER or (tag == "staffDef" and child.get("n") in target and child.get("n") not in
                                   firsts.values()):  # fmt: skip
                parent.remove(child)
            elif tag != "staff" and staff in target:
                child.set("staff", target[staff])
            for name in ("stem.dir", "stem.sameas") if tag in ("note", "chord") else ():
                child.attrib.pop(name, None)
    for element in tree.iter(f"{_MEI}staffDef"):
        number = target.get(element.get("n"))
        if number:
            element.set("n", number)
            if number in merged:
                for clef in element.findall(f"{_MEI}clef"):
                    element.remove(clef)
                for name in [a for a in element.attrib if a.startswith("clef")]:
                    del element.attrib[name]
    for number, shape, line in (("1", "G", "2"), ("2", "F", "4")):
        if number in merged:
            first = next(s for s in definition.iter(f"{_MEI}staffDef") if s.get("n") == number)
            first.insert(0, ElementTree.Element(f"{_MEI}clef", {"shape": shape, "line": line}))
    group = ElementTree.Element(f"{_MEI}staffGrp", {"symbol": "brace", "bar.thru": "true"})
    group.extend(sorted(definition.iter(f"{_MEI}staffDef"), key=lambda s: s.get("n")))
    for old in definition.findall(f"{_MEI}staffGrp"):
        definition.remove(old)
    definition.append(group)
    for measure in tree.iter(f"{_MEI}measure"):
        _merge(measure, target, merged)
    ElementTree.register_namespace("", _MEI[1:-1])
    return ElementTree.tostring(tree, encoding="unicode")


def _clef(staff: ElementTree.Element) -> str:
    clef = staff.find(f"{_MEI}clef")
    return clef.get("shape", "") if clef is not None else staff.get("clef.shape", "")


def _merge(measure: ElementTree.Element, target: dict[str, str], merged: set[str]) -> None:
    """Put the layers of a bar's staves together; layers of mere rests go where another one has notes."""
    layers: dict[str, list[ElementTree.Element]] = {"1": [], "2": []}
    position = None
    for staff in measure.findall(f"{_MEI}staff"):
        position = list(measure).index(staff) if position is None else position
        layers[target.get(staff.get("n"), "2")] += staff.findall(f"{_MEI}layer")
        measure.remove(staff)
    for offset, (number, own) in enumerate(layers.items()):
        sounding_layers = [layer for layer in own if layer.find(f".//{_MEI}note") is not None]
        kept = sounding_layers or own[:1]
        staff = ElementTree.Element(f"{_MEI}staff", {"n": number})
        for index, layer in enumerate(kept, 1):
            layer.set("n", str(index))
            if number in merged:
                _without_clefs(layer)
            staff.append(layer)
        measure.insert((position or 0) + offset, staff)


def _without_clefs(layer: ElementTree.Element) -> None:
    for parent in list(layer.iter()):
        for clef in parent.findall(f"{_MEI}clef"):
            parent.remove(clef)
