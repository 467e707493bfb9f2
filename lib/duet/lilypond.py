"""LilyPond sources to pages whose every notehead is known: where it is, when it sounds, and at which pitch.

An engraver in Scheme (``corpora/notehead_tagger.ily``) writes score time and pitch onto the noteheads of the SVG that
LilyPond draws; nothing is aligned or guessed afterwards.  Repeats are read as written, once.  Needs LilyPond 2.24 or
later, and its ``convert-ly`` for old sources.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from fractions import Fraction
from functools import cache
from pathlib import Path

import mido
import numpy as np
import resvg_py
from PIL import Image

from . import files, paths
from .engraving import PAGE_WIDTH, Notehead, Sheet, System, load_sheet, save_sheet
from .errors import DuetError

TAGGER = Path(__file__).parent / "corpora" / "notehead_tagger.ily"
OTHER_EDITION = TAGGER.with_name("other_edition.ily")
TIMEOUT = 600  # seconds of calculation for one piece: long sonatas take one or two minutes
_VERSION = 1  # raise it when the same source gives another sheet
_PATIENCE = 20  # times as long by the clock: other work may share the machine
_MEMORY = 4 << 20  # KiB that LilyPond may map
_LARGEST = 256 << 11  # blocks of 512 bytes: the largest file that it may write
_GRACE = Fraction(9, 40)  # of its written length is what a grace note takes from the note before, LilyPond's own share
_SVG = "{http://www.w3.org/2000/svg}"
_INSTALL = "install LilyPond 2.24 or later (`make setup` does as root)"
#: The text font that LilyPond's Debian package brings with Ghostscript; without it pages have no words.
_TEXT_FONTS = Path("/usr/share/fonts/opentype/urw-base35")


def available() -> bool:
    """Whether LilyPond is installed."""
    return shutil.which("lilypond") is not None


@cache
def version() -> str:
    """Of the LilyPond that is installed.  Raises DuetError without one."""
    if not available():
        raise DuetError("LilyPond is not installed", remedy=_INSTALL)
    done = subprocess.run(["lilypond", "--version"], capture_output=True, text=True, timeout=60)
    return re.search(r"\d+\.\d+\.\d+", done.stdout)[0]


def main_file(source: str | Path) -> Path:
    """The file to engrave: ``source`` itself, or of a folder the one that no other includes, by preference its
    namesake.  Raises DuetError where there is none or no telling.
    """
    source = Path(source)
    if source.is_file():
        return source
    found = sorted(source.rglob("*.ly"))
    if not found:
        raise DuetError("no such LilyPond source", path=source, remedy="give a .ly file, or a folder with one")
    included = {path for one in found for path in _includes(one)}
    tops = [path for path in found if path.resolve() not in included] or found
    named = [path for path in tops if path.stem == source.name]
    tops = named or [path for path in tops if not path.stem.endswith("-midi")]
    if len(tops) != 1:
        some = ", ".join(path.name for path in tops[:3])
        raise DuetError(f"several files could be the score ({some})", path=source, remedy="give the file itself")
    return tops[0]


def _includes(path: Path) -> list[Path]:
    """Files that a source includes from beside itself, resolved; LilyPond's own are not among them."""
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return []
    named = re.findall(r'^[^%\n]*\\include\s+"([^"\n]+)"', text, re.MULTILINE)
    beside = [(path.parent / name) for name in named if not os.path.isabs(name)]
    return [p.resolve() for p in beside if p.is_file()]


def _parts(main: Path) -> list[Path]:
    """The source and all that it includes, resolved, the source first."""
    found = [main.resolve()]
    for path in found:  # grows as it goes
        found += [p for p in dict.fromkeys(_includes(path)) if p not in found]
    return found


def engrave(source: str | Path, timeout: float = TIMEOUT, other_edition: bool = False) -> Sheet:
    """The sheet of a LilyPond file, or of a folder with one main file; cached by content.

    ``other_edition``: as another house would print it, with other line breaks (``corpora/other_edition.ily``).

    LilyPond runs in a folder of its own with limits on memory, on the size of its files and, ``timeout`` seconds, on
    the time it calculates: a source is a program.  Raises DuetError where it is not installed, takes too long, or draws
    no note.
    """
    main = main_file(source)
    parts = _parts(main)
    try:
        contents = [path.read_bytes() for path in parts]
    except OSError as error:
        raise DuetError(f"is not readable: {error.strerror}", path=main, remedy="restore it") from None
    settings = [TAGGER, OTHER_EDITION] if other_edition else [TAGGER]
    key = files.digest(*contents, *(path.read_bytes() for path in settings), version(), str(_VERSION))
    folder = paths.cache() / "engravings" / key[:24]
    if (folder / "sheet.json").exists():
        return load_sheet(folder)
    with tempfile.TemporaryDirectory(prefix="duet-lilypond-") as place:
        base = Path(os.path.commonpath([p.parent for p in parts]))
        for path, content in zip(parts, contents, strict=True):
            copy = Path(place) / "source" / path.relative_to(base)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
        copies = [Path(place) / "source" / path.relative_to(base) for path in parts]
        included = Path(place) / "settings.ily"  # LilyPond takes one such file
        included.write_bytes(b"\n".join(path.read_bytes() for path in settings))
        complaint = _run(copies, included, Path(place), timeout, main)
        sheet = _read(Path(place), main, complaint)
    save_sheet(folder, sheet)
    return sheet


def _run(copies: list[Path], settings: Path, place: Path, timeout: float, main: Path) -> str:
    """Bring the sources up to date and engrave the first; what LilyPond complains of, if it does."""
    for copy in copies:
        text = copy.read_bytes()
        if b"\\version" in text:
            _limited(["convert-ly", "--edit", copy.name], copy.parent, place, timeout, main)
            if not copy.is_file() or not copy.stat().st_size:
                copy.write_bytes(text)
    command = ["lilypond", "--loglevel=ERROR", "-dbackend=svg", "-dno-point-and-click",
               f"-dinclude-settings={settings}", "-o", str(place / "page"), copies[0].name]  # fmt: skip
    return _limited(command, copies[0].parent, place, timeout, main)


def _limited(command: list[str], folder: Path, place: Path, timeout: float, main: Path) -> str:
    """Run a command, with its children ended when it takes too long; the first error it tells, "" without one."""
    shell = f'ulimit -v {_MEMORY}; ulimit -f {_LARGEST}; ulimit -t {round(timeout) + 1}; exec "$@"'
    environment = {k: os.environ[k] for k in ("PATH", "LANG", "LC_ALL", "LC_CTYPE") if k in os.environ}
    environment |= {"HOME": str(place), "TMPDIR": str(place), "XDG_CACHE_HOME": str(place)}
    try:
        process = subprocess.Popen(
            ["sh", "-c", shell, "sh", *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise DuetError(f"{command[0]} could not be started: {error}", remedy=_INSTALL) from None
    try:
        _, errors = process.communicate(timeout=_PATIENCE * timeout)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise _too_slow(command, timeout, main) from None
        raise
    if -process.returncode in (signal.SIGXCPU, signal.SIGKILL):
        raise _too_slow(command, timeout, main)
    if process.returncode == 127:
        raise DuetError(f"{command[0]} is not installed", remedy=_INSTALL)
    told = [line for line in errors.decode("utf-8", "replace").splitlines() if "error" in line.lower()]
    return told[0].replace(f"{place}/source/", "").strip() if told else ""


def _too_slow(command: list[str], timeout: float, main: Path) -> DuetError:
    return DuetError(f"{command[0]} took more than {timeout:g} s", path=main, remedy="leave it out")


# -- reading what LilyPond drew ----------------------------------------------------------------------------------------


def _read(place: Path, main: Path, complaint: str) -> Sheet:
    pages = sorted(place.glob("page*.svg"), key=_page_order)
    images, systems, found = [], [], []
    for path in pages:
        image, lines, heads = _page(path.read_text(encoding="utf-8"), len(images), main)
        if heads:  # a title page or a list of contents has none
            images.append(image)
            systems += lines
            found += heads
    if not found:
        why = f": {complaint}" if complaint else ""
        raise DuetError(f"LilyPond draws no note of it{why}", path=main, remedy="leave it out, or repair the source")
    return _joined(images, systems, found, _midi_tempo(place))


def _page_order(path: Path) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", path.stem))


def _page(text: str, number: int, main: Path) -> tuple[np.ndarray, list[System], list[dict]]:
    opening = re.search(r'<svg [^>]*viewBox="([^"]+)"', text)
    try:
        _, _, width, height = (float(v) for v in opening[1].split())
        tree = ElementTree.fromstring(text)
    except (TypeError, ValueError, ElementTree.ParseError) as error:
        raise DuetError(f"LilyPond's page is not readable: {error}", path=main, remedy="leave it out") from None
    scale = PAGE_WIDTH / width
    size = f'width="{PAGE_WIDTH}" height="{round(height * scale)}" viewBox="0 0 {width} {height}"'
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    image = _raster(f"<svg {names} {size}{text[opening.end() :]}", main)
    staves: dict[tuple[str, str], dict[str, tuple[float, ...]]] = {}
    heads: list[dict] = []
    for group in tree.iter(f"{_SVG}g"):
        kind = group.get("class")
        if kind not in ("duet-note", "duet-staff"):
            continue
        places = [_shift(g) for g in group.iter(f"{_SVG}g") if g.get("transform", "").startswith("translate")]
        if not places:
            continue  # transparent: nothing is drawn
        left, down, right, up = (float(v) for v in group.get("data-box").split())
        line = (group.get("data-score"), group.get("data-line"))
        if kind == "duet-staff":
            rows = [y for _, y in places]
            x = places[0][0]
            box = (min(rows) * scale, (x + left) * scale, max(rows) * scale, (x + right) * scale)
            staves.setdefault(line, {})[group.get("data-staff")] = box
        else:
            x, y = places[0]
            box = tuple(v * scale for v in (y - up, x + left, y - down, x + right))
            heads.append(dict(group.attrib, line=line, box=box, page=number))
    boxes = {}
    for line, named in staves.items():
        tops, lefts, bottoms, rights = zip(*named.values(), strict=True)
        boxes[line] = (min(tops), min(lefts), max(bottoms), max(rights))
    order = sorted(boxes, key=lambda line: boxes[line][:2])
    # a staff that stops and goes on has several symbols in one place
    tops = {line: sorted({round(box[0]) for box in named.values()}) for line, named in staves.items()}
    kept = []
    for head in heads:
        named = staves.get(head["line"])
        if named:
            own = named.get(head["data-staff"])
            head["staff"] = tops[head["line"]].index(round(own[0])) if own else 0
            head["system"] = order.index(head["line"])
            kept.append(head)
    return image, [System(number, *boxes[line], len(tops[line])) for line in order], kept


def _shift(group: ElementTree.Element) -> tuple[float, float]:
    x, y = re.findall(r"-?\d+(?:\.\d+)?", group.get("transform"))[:2]
    return float(x), float(y)


def _raster(svg: str, main: Path) -> np.ndarray:
    fonts = {"font_dirs": [str(_TEXT_FONTS)], "serif_family": "C059"} if _TEXT_FONTS.is_dir() else {}
    try:
        png = resvg_py.svg_to_bytes(svg_string=svg, background="#ffffff", skip_system_fonts=True, **fonts)
    except ValueError as error:
        raise DuetError(f"LilyPond's page cannot be drawn: {error}", path=main, remedy="leave it out") from None
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("L"))


def _joined(images: list, systems: list[System], found: list[dict], usual: float | None) -> Sheet:
    """One time for all scores of the file, which follow each other."""
    ends: dict[int, Fraction] = {}
    for head in found:
        number = int(head["data-score"])
        end = Fraction(head["data-onset"]) + Fraction(head["data-length"])
        ends[number] = max(ends.get(number, Fraction(0)), end)
    starts, total = {}, Fraction(0)
    for number in sorted(ends):
        begin = min(Fraction(h["data-onset"]) for h in found if int(h["data-score"]) == number)
        starts[number] = total - min(begin, 0)
        total = starts[number] + ends[number]
    heads, bars, tempi = [], set(), {}
    for head in found:
        start = starts[int(head["data-score"])]
        main = start + Fraction(head["data-onset"])
        grace = Fraction(head["data-grace"])
        length = Fraction(head["data-length"]) or Fraction(head["data-grace-length"]) * _GRACE
        onset = max(Fraction(0), main + grace * _GRACE)
        top, left, bottom, right = head["box"]
        heads.append(
            Notehead(head["page"], head["system"], head["staff"], top, left, bottom, right, float(4 * onset),
                     float(4 * length), int(float(head["data-pitch"])), head["data-tied"] == "1", grace != 0)
        )  # fmt: skip
        bars.add(max(0.0, float(4 * (main - Fraction(head["data-place"])))))
        if head["data-tempo"] != "#f":
            tempi[float(4 * main)] = float(4 * Fraction(head["data-tempo"]))
    marks = [(q, t) for q, t in sorted(tempi.items()) if t > 0]
    changes = [mark for i, mark in enumerate(marks) if i == 0 or mark[1] != marks[i - 1][1]]
    if not changes and usual:
        changes = [(0.0, usual)]
    heads.sort(key=lambda h: (h.page, h.system, h.column, h.row))
    return Sheet(tuple(images), tuple(systems), tuple(heads), tuple(sorted(bars)), tuple(changes))


def _midi_tempo(place: Path) -> float | None:
    """Quarters per minute at which LilyPond's MIDI begins; sources often say it there and nowhere else."""
    for path in sorted(place.glob("page*.mid*"), key=_page_order):
        try:
            tracks = mido.MidiFile(path).tracks
        except (OSError, ValueError, EOFError, IndexError, KeyError):
            continue
        for message in (m for track in tracks for m in track):
            if message.type == "set_tempo":
                return mido.tempo2bpm(message.tempo)
    return None


def included(path: str | Path) -> list[Path]:
    """Files, resolved, that a source takes in from beside itself, and that they take in."""
    return _parts(Path(path))[1:]


def content_digest(source: str | Path) -> str:
    """Of a source and all it includes.  Raises DuetError as :func:`main_file` does, and for what is not readable."""
    try:
        return files.digest(*(path.read_bytes() for path in _parts(main_file(source))))
    except OSError as error:
        raise DuetError(f"is not readable: {error.strerror}", path=source, remedy="restore it") from None
