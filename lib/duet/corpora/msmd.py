"""MSMD, the Multimodal Sheet Music Dataset: piano scores on pages, their performances, and which note is which head.

``<root>/<piece>/scores/<piece>_ly/`` has ``img`` (pages 835 pixels wide), ``coords`` (centres of noteheads, corners
of systems) and ``mung`` (noteheads, systems, and when each notehead sounds in each performance);
``<root>/<piece>/performances/<performance>/`` a MIDI file and ``features`` (spectrogram, notes, onsets).  Version 1.1
is read as published; stand-ins are written in the same layout.  The published features come without audio, and so do
ours: a rendering of the whole corpus is 350 MB of spectrograms, against more than 1 GB of compressed audio.

Sources: Dorfer et al., TISMIR 2018, and its data's README; fact sheets of the two studies, Sections 2 and C.
"""

from __future__ import annotations

import io
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pretty_midi
import yaml
from PIL import Image

from .. import files, paths
from ..engraving import PAGE_WIDTH, Sheet
from ..errors import DuetError
from ..features import read_image
from ..filterbank import BANDS, log_filterbank
from ..filterbank import FRAMES_PER_SECOND as FRAME_RATE
from ..progress import in_parallel

VELOCITY = 64  # of every note that is rendered
PARTS = ("train", "valid", "test")
STRIP_ROWS = 200
EXPRESSIVE = "-rubato"  # ends the names of performances with a tempo curve
OTHER_EDITION = 1  # in a piece's meta.yml, where it has another print; raise it when that comes out otherwise

_RESTORE = "restore the piece from msmd_aug_v1-1_no-audio.zip, or build it again"

#: A notehead: its page and its system on that page, from 0 (-1: it belongs to none); the centre of its box as pixel
#: indices; its MIDI pitch; whether a tie leads to it.
NOTEHEADS = np.dtype(
    [("page", "i4"), ("system", "i4"), ("row", "f4"), ("column", "f4"), ("pitch", "i2"), ("tied", "?")]
)


@dataclass(frozen=True)
class Unrolled:
    """All systems of a piece side by side, and what one performance makes of them.

    ``image`` (rows, width) uint8, 255 = paper.  ``columns`` and ``seconds`` (n,) of each notehead that sounds, and
    ``pitches``, by onset and then from left to right.  ``systems`` (s, 2): column at which each one begins and the
    seconds of its first onset, NaN where nothing of it sounds; ``widths`` (s,) in columns.
    """

    image: np.ndarray
    columns: np.ndarray
    seconds: np.ndarray
    pitches: np.ndarray
    systems: np.ndarray
    widths: np.ndarray


class Strip(NamedTuple):
    """All systems of a piece side by side.

    ``image`` (rows, width) uint8, 255 = paper; ``columns`` (s + 1,) at which systems begin and the last one ends; of
    each notehead its system ``owner`` (-1: none) and its column in the strip ``positions``, (n,) as in ``noteheads``.
    """

    image: np.ndarray
    columns: np.ndarray
    owner: np.ndarray
    positions: np.ndarray


def unroll(
    pages: Sequence[np.ndarray], systems: Sequence[tuple[int, float, float, float, float]], rows: int = STRIP_ROWS
) -> tuple[np.ndarray, np.ndarray]:
    """Of each system ``rows`` rows around its middle, over its own columns, side by side; nothing is rescaled.

    ``systems`` are (page, top, left, bottom, right).  Gives the (rows, width) uint8 strip and the (s + 1,) columns at
    which systems begin and the last one ends.  Rows beyond a page repeat its edge, as in the published code.
    """
    parts = []
    for page, top, left, bottom, right in systems:
        image = pages[page]
        middle = int((top + bottom) // 2)
        wanted = np.arange(middle - rows // 2, middle - rows // 2 + rows).clip(0, image.shape[0] - 1)
        parts.append(image[wanted, max(0, round(left)) : min(image.shape[1], round(right))])
    return np.concatenate(parts, 1), np.cumsum([0, *(part.shape[1] for part in parts)])


class Msmd:
    """A corpus in MSMD layout, read lazily.  Raises DuetError where ``root`` is missing or is no such folder.

    ``other_edition``: pages, systems and noteheads are those of another print where a piece has one (``<piece>_other``,
    which only corpora of our own have); what sounds is the same.
    """

    def __init__(self, root: str | Path, other_edition: bool = False):
        self.root, self.other_edition = Path(root), other_edition
        self._scores: dict[str, Path] = {}
        if not self.root.is_dir():
            raise DuetError(
                "no such corpus folder", path=self.root, remedy="give the folder that msmd_aug_v1-1 unpacks to"
            )
        #: Names of the pieces that have a score, ordered.  Some may have no performance: use a split's lists.
        self.pieces = sorted(
            e.name for e in os.scandir(self.root) if (self.root / e.name / "scores" / f"{e.name}_ly" / "img").is_dir()
        )
        if not self.pieces:
            raise DuetError(
                "is not laid out like MSMD", path=self.root, remedy="expected <root>/<piece>/scores/<piece>_ly/img"
            )

    @cached_property
    def description(self) -> dict:
        """``corpus.json`` of a corpus that this library built; of the published one just its name."""
        path = self.root / "corpus.json"
        return files.read_object(path) if path.exists() else {"name": "MSMD", "stand_in": False}

    @property
    def name(self) -> str:
        """For tables."""
        return self.description.get("name", "MSMD")

    @cached_property
    def fingerprint(self) -> str:
        """What a run's id depends on: sources and settings of a corpus that this library built; of another one its
        pieces, their performances, and the sizes of the files that say what sounds when.
        """
        if "fingerprint" in self.description:
            return self.description["fingerprint"]
        parts = []
        for piece in self.pieces:
            sizes = [path.stat().st_size for path in self._files(piece, "mung", ".xml")]
            parts += [piece, str(sizes), *self.performances(piece)]
        return files.digest(*parts)

    def split(self, name: str | Path = "all_split") -> dict[str, list[str]]:
        """``train``, ``valid`` and ``test`` pieces of a list of the corpus's own, of a published one, or of a file.

        Raises DuetError where there is no such list, it is damaged, or names a piece that is not here.
        """
        path = self.split_path(name)
        split = read_split(path)
        known = set(self.pieces)
        missing = [p for part in split.values() for p in part if p not in known]
        if missing:
            raise DuetError(
                f"names {len(missing)} pieces that {self.root} has not, the first is {missing[0]}",
                path=path,
                remedy="unpack the whole archive, or give the split of this corpus",
            )
        return split

    def split_path(self, name: str | Path = "all_split") -> Path:
        """The list that :meth:`split` reads.  Raises DuetError where there is none."""
        places = [Path(name), self.root / f"{name}.yaml", paths.lists() / "msmd" / f"{name}.yaml"]
        path = next((p for p in places if p.is_file()), None)
        if path is None:
            raise DuetError(f"has no split {str(name)!r}", path=self.root, remedy="`make corpora` fetches the lists")
        return path

    def pages(self, piece: str) -> list[np.ndarray]:
        """(rows, 835) uint8 of each page, 255 = paper.  Raises DuetError for damaged pages or of another width."""
        images = []
        for path in self._files(piece, "img", ".png"):
            images.append(read_image(path))
            if images[-1].shape[1] != PAGE_WIDTH:
                width = images[-1].shape[1]
                raise DuetError(f"is {width} pixels wide, not {PAGE_WIDTH}", path=path, remedy=_RESTORE)
        return images

    def noteheads(self, piece: str) -> np.ndarray:
        """(n,) of :data:`NOTEHEADS`, by page, system, column and row.  Raises DuetError for damaged annotations."""
        return self._annotated(piece).noteheads

    def systems(self, piece: str) -> list[np.ndarray]:
        """(s, 4) float of each page: top, left, bottom and right edges of its systems, from the top."""
        return self._annotated(piece).systems

    def performances(self, piece: str) -> list[str]:
        """Names of the performances, ordered; none where the alignment has failed."""
        folder = self._folder(piece) / "performances"
        return sorted(e.name for e in os.scandir(folder) if e.is_dir()) if folder.is_dir() else []

    def onsets(self, piece: str, performance: str) -> np.ndarray:
        """(n,) seconds at which each of the noteheads sounds, NaN for those that are tied or not aligned.

        Raises DuetError where there is no such performance, or no notehead sounds in it.
        """
        found = self._annotated(piece).onsets.get(performance)
        if found is None:
            raise DuetError(
                f"no notehead sounds in a performance {performance!r}",
                path=self._folder(piece),
                remedy="use one of performances(piece), of a piece that is in a split",
            )
        return found

    def spectrogram(self, piece: str, performance: str) -> np.ndarray:
        """(92, T) float32, 20 frames a second: :func:`filterbank.log_filterbank` of the performance."""
        values = self._feature(piece, performance, "spec")
        if values.ndim != 2 or values.shape[0] != BANDS:
            path = self._folder(piece) / "performances" / performance
            raise DuetError(f"its spectrogram has shape {values.shape}, not (92, T)", path=path, remedy=_RESTORE)
        return values.astype(np.float32, copy=False)  # still mapped where it is float32

    def notes(self, piece: str, performance: str) -> np.ndarray:
        """(N, 5) float: onset and duration are columns 0 and 2, in seconds; 1 is pitch, 3 velocity, 4 channel."""
        values = self._feature(piece, performance, "notes")
        if values.ndim != 2 or values.shape[1] != 5:
            path = self._folder(piece) / "performances" / performance
            raise DuetError(f"its notes have shape {values.shape}, not (N, 5)", path=path, remedy=_RESTORE)
        return values

    def strip(self, piece: str, rows: int = STRIP_ROWS) -> Strip:
        """All systems of a piece side by side, see :func:`unroll`.  Raises DuetError where it has none."""
        pages, systems = self.pages(piece), self.systems(piece)
        places = [(page, number, box) for page, own in enumerate(systems) for number, box in enumerate(own)]
        if not places:
            raise DuetError("has no systems", path=self._folder(piece), remedy=_RESTORE)
        image, columns = unroll(pages, [(page, *box) for page, _, box in places], rows)
        number = {(page, n): place for place, (page, n, _) in enumerate(places)}
        heads = self.noteheads(piece)
        keys = zip(heads["page"].tolist(), heads["system"].tolist(), strict=True)
        owner = np.array([number.get(key, -1) for key in keys], int)
        lefts = np.array([max(0, round(box[1])) for _, _, box in places], float)
        return Strip(image, columns, owner, heads["column"] + (columns[:-1] - lefts)[owner])

    def unrolled(self, piece: str, performance: str, rows: int = STRIP_ROWS) -> Unrolled:
        """The strip and its sounding noteheads.  Those that no system owns are left out."""
        strip, seconds = self.strip(piece, rows), self.onsets(piece, performance)
        usable = np.flatnonzero((strip.owner >= 0) & np.isfinite(seconds))
        order = usable[np.lexsort((strip.positions[usable], seconds[usable]))]
        firsts = np.full(len(strip.columns) - 1, np.nan)
        owners, where = np.unique(strip.owner[order], return_index=True)  # the first of each: they are in time's order
        firsts[owners] = seconds[order[where]]
        table = np.column_stack([strip.columns[:-1], firsts])
        pitches = self.noteheads(piece)["pitch"][order]
        return Unrolled(strip.image, strip.positions[order], seconds[order], pitches, table, np.diff(strip.columns))

    def problems(self, workers: int | None = None, progress: bool = False) -> dict[str, str]:
        """A line for each piece with anything amiss, after opening every file."""
        lines = in_parallel(partial(_problem, self), self.pieces, f"check of {self.name}", workers, progress)
        return {piece: line for piece, line in zip(self.pieces, lines, strict=True) if line}

    def _folder(self, piece: str) -> Path:
        if piece not in self.pieces:
            raise DuetError(f"has no piece {piece!r}", path=self.root, remedy="use the split of this corpus")
        return self.root / piece

    def has_other_edition(self, piece: str) -> bool:
        """Whether there is another print of a piece, complete and of this version."""
        path = self._folder(piece) / "meta.yml"
        return path.exists() and f"other_edition: {OTHER_EDITION}" in path.read_text().splitlines()

    def _score(self, piece: str) -> Path:
        if piece not in self._scores:
            other = self.other_edition and self.has_other_edition(piece)
            self._scores[piece] = self._folder(piece) / "scores" / f"{piece}_{'other' if other else 'ly'}"
        return self._scores[piece]

    def _files(self, piece: str, kind: str, suffix: str) -> list[Path]:
        folder = self._score(piece) / kind
        found = sorted(folder.glob(f"*{suffix}"))
        if not found:
            raise DuetError(f"holds no {suffix} file", path=folder, remedy=_RESTORE)
        return found

    def _feature(self, piece: str, performance: str, kind: str) -> np.ndarray:
        folder = self._folder(piece) / "performances" / performance / "features"
        found = sorted(folder.glob(f"*_{kind}.npy"))
        if len(found) != 1:
            raise DuetError(f"holds {len(found)} files *_{kind}.npy instead of one", path=folder, remedy=_RESTORE)
        return _loaded(found[0])

    def _annotated(self, piece: str) -> _Annotations:
        graphs = self._files(piece, "mung", ".xml")[: len(self._files(piece, "img", ".png"))]
        return _annotations(tuple((path, path.stat().st_mtime_ns) for path in graphs))


def read_split(path: str | Path) -> dict[str, list[str]]:
    """``train``, ``valid`` and ``test`` pieces of a YAML file; further lists in it are ignored.

    Raises DuetError for a damaged file and for a piece that stands in two of the three.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except Exception as error:  # it hands on whatever Python raises on dates, nesting and text that are none
        why = str(error).partition("\n")[0]
        raise DuetError(f"is not a readable split: {why}", path=path, remedy="`make corpora` fetches it") from None
    split = {part: content.get(part) if isinstance(content, dict) else None for part in PARTS}
    if not all(isinstance(own, list) and all(isinstance(p, str) for p in own) for own in split.values()):
        raise DuetError("does not list train, valid and test pieces", path=path, remedy="`make corpora` fetches it")
    every = [p for part in split.values() for p in part]
    if len(set(every)) < len(every):
        twice = next(p for p in every if every.count(p) > 1)
        raise DuetError(f"has {twice} more than once", path=path, remedy="a piece belongs to one part")
    return split


def tempo_ratio(performance: str) -> float:
    """Seconds of a performance per second at the notated tempo, by its name: 2 is half as fast (MSMD 1.1)."""
    found = re.search(r"_tempo-(\d+)_", performance)
    return int(found[1]) / 1000 if found else 1.0


def soundfont(performance: str) -> str:
    """What plays, by the performance's name."""
    return re.sub(r"^.*_tempo-\d+_", "", performance).removesuffix(EXPRESSIVE)


def _loaded(path: Path) -> np.ndarray:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)  # a corpus's spectrograms do not fit the memory
        numbers = values.dtype.kind in "fiub"
    except Exception as error:  # it hands on whatever Python raises on a header, which is text of Python
        raise DuetError(f"is not a readable array: {error}", path=path, remedy=_RESTORE) from None
    if not numbers:
        raise DuetError(f"is not an array of numbers: {values.dtype}", path=path, remedy=_RESTORE)
    return values


def _problem(corpus: Msmd, piece: str) -> str:
    try:
        pages, systems, heads = corpus.pages(piece), corpus.systems(piece), corpus.noteheads(piece)
        if len(systems) != len(pages):
            return f"{piece}: has {len(pages)} pages and annotations of {len(systems)}"
        if not len(heads):
            return f"{piece}: has no notehead"
        performances = corpus.performances(piece)
        if not performances:
            return f"{piece}: has no performance"
        for performance in performances:
            frames = corpus.spectrogram(piece, performance).shape[1]
            seconds = corpus.onsets(piece, performance)
            last = np.nanmax(seconds) if np.isfinite(seconds).any() else np.inf
            if last > frames / FRAME_RATE:
                return f"{piece}: {performance} ends before its last onset"
    except DuetError as error:
        return str(error)
    stray = int((heads["system"] < 0).sum())
    return f"usable: {piece}: {stray} of {len(heads)} noteheads are in no system" if stray else ""


# -- annotations -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Annotations:
    noteheads: np.ndarray
    systems: list[np.ndarray]
    onsets: dict[str, np.ndarray]


@lru_cache(maxsize=64)
def _annotations(mung: tuple[tuple[Path, int], ...]) -> _Annotations:
    """Of all pages, of (file, time of its last change).  Pages and annotations belong together by order."""
    rows, times, systems = [], [], []
    for page, (path, _) in enumerate(mung):
        boxes, heads = _objects(path)
        order = sorted(boxes, key=lambda i: boxes[i])
        systems.append(np.array([boxes[i] for i in order], float).reshape(-1, 4))
        number = {identity: n for n, identity in enumerate(order)}
        for (top, left, bottom, right), links, data in heads:
            system = next((number[i] for i in links if i in number), -1)
            pitch = int(float(data.get("midi_pitch_code", -1)))
            tied = data.get("tied", "0") not in ("0", "False", "")
            row, column = (top + bottom) / 2 - 0.5, (left + right) / 2 - 0.5
            row, column = float(data.get("row", row)), float(data.get("column", column))  # ours are exact
            rows.append((page, system, row, column, pitch, tied))
            times.append({k[: -len("_onset_seconds")]: v for k, v in data.items() if k.endswith("_onset_seconds")})
    heads = np.array(rows, NOTEHEADS)
    order = np.lexsort((heads["row"], heads["column"], heads["system"], heads["page"]))
    onsets: dict[str, np.ndarray] = {}
    for new, old in enumerate(order):
        for performance, seconds in times[old].items():
            onsets.setdefault(performance, np.full(len(rows), np.nan))[new] = float(seconds)
    return _Annotations(heads[order], systems, onsets)


def _objects(path: Path) -> tuple[dict[int, tuple], list[tuple[tuple, list[int], dict[str, str]]]]:
    """Boxes (top, left, bottom, right) of systems by id; box, links and data of each notehead."""
    try:
        tree = ElementTree.parse(path)
        systems, heads = {}, []
        for element in tree.iter("CropObject"):
            name = element.findtext("ClassName") or element.findtext("MLClassName") or ""
            top, left, height, width = (float(element.findtext(tag)) for tag in ("Top", "Left", "Height", "Width"))
            box = (top, left, top + height, left + width)
            if name == "staff":  # MSMD's name of a system
                systems[int(float(element.findtext("Id")))] = box
            elif name.startswith("notehead"):
                links = [int(i) for i in (element.findtext("Outlinks") or "").split()]
                data = {i.get("key", ""): i.text or "" for i in element.iter("DataItem")}
                numbers = ("midi_pitch_code", "row", "column", *(k for k in data if k.endswith("_onset_seconds")))
                _ = [float(data.get(key, 0)) for key in numbers]
                heads.append((box, links, data))
    except (OSError, ElementTree.ParseError, TypeError, ValueError) as error:
        raise DuetError(f"is not a readable notation graph: {error}", path=path, remedy=_RESTORE) from None
    return systems, heads


# -- writing -----------------------------------------------------------------------------------------------------------


def write_performance(root: str | Path, piece: str, performance: str, notes: np.ndarray, audio: np.ndarray) -> None:
    """Features and MIDI of one performance: ``notes`` (N, 5) as the reader has them, ``audio`` at 22,050 Hz."""
    folder = Path(root) / piece / "performances" / performance
    notes = notes[np.lexsort((-notes[:, 1], notes[:, 0]))]
    values = log_filterbank(audio)
    ends = notes[:, 0] + notes[:, 2]
    roll = np.zeros((128, int(np.ceil(ends.max() * FRAME_RATE)) + 1), np.uint8)
    for onset, pitch, _, _, _ in notes:
        roll[int(pitch), int(np.ceil(onset * FRAME_RATE - 1e-9))] = 1
    for (onset, pitch, _, _, _), end in zip(notes, ends, strict=True):
        roll[int(pitch), int(np.ceil(onset * FRAME_RATE - 1e-9)) : int(np.ceil(end * FRAME_RATE - 1e-9))] = 1
    arrays = {
        "spec": values,
        "midi": roll,
        "notes": notes,
        "onsets": np.ceil(notes[:, 0] * FRAME_RATE - 1e-9),
        "durations": notes[:, 2].copy(),
    }
    for kind, array in arrays.items():
        with files.atomic(folder / "features" / f"{performance}_{kind}.npy") as path:
            np.save(path, array)
    midi = pretty_midi.PrettyMIDI(resolution=960)
    midi.instruments.append(pretty_midi.Instrument(0))
    midi.instruments[0].notes = [pretty_midi.Note(int(n[3]), int(n[1]), n[0], n[0] + n[2]) for n in notes]
    content = io.BytesIO()
    midi.write(content)
    files.write_bytes(folder / f"{performance}.mid", content.getvalue())
    files.write_text(folder / "meta.yml", yaml.safe_dump({"tempo": round(1000 * tempo_ratio(performance))}))


def write_sheet(
    root: str | Path, piece: str, sheet: Sheet, onsets: Mapping[str, Sequence[float]], source: str = ""
) -> None:
    """Pages and annotations of a piece whose performances are written; ``meta.yml``, the last file, says it is done.

    ``onsets``: of each performance the seconds of every notehead, NaN for those that have no onset of their own.
    """
    stats = _write_score(root, piece, "ly", sheet, onsets)
    whole = {key: sum(s[key] for s in stats) for key in ("aligned", "noteheads", "tied")}
    meta = {
        "aligned_well": True,
        "aln_page_stats": {f"{n:02}": s for n, s in enumerate(stats, 1)},
        "aln_piece_stats": whole,
        "n_pages": len(sheet.images),
        "n_performances": len(onsets),
        "n_scores": 1,
        "processed": True,
        "source": source,
    }
    files.write_text(Path(root) / piece / "meta.yml", yaml.safe_dump(meta, sort_keys=True))


def write_other_edition(root: str | Path, piece: str, sheet: Sheet, onsets: Mapping[str, Sequence[float]]) -> None:
    """Another print of a piece that is written already, beside the first; ``meta.yml`` says that it is there."""
    _write_score(root, piece, "other", sheet, onsets)
    path = Path(root) / piece / "meta.yml"
    meta = yaml.safe_load(path.read_text()) | {"n_scores": 2, "other_edition": OTHER_EDITION}
    files.write_text(path, yaml.safe_dump(meta, sort_keys=True))


def _write_score(root: str | Path, piece: str, print_: str, sheet: Sheet, onsets: Mapping) -> list[dict[str, int]]:
    """Pages and annotations; by page how many noteheads there are, have an onset, and are tied."""
    folder = Path(root) / piece / "scores" / f"{piece}_{print_}"
    events = {p: _events(Path(root) / piece / "performances" / p, p) for p in onsets}
    identity, stats = len(sheet.noteheads), []
    for page, image in enumerate(sheet.images):
        name = f"{page + 1:02}"
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, "PNG", optimize=False)
        files.write_bytes(folder / "img" / f"{name}.png", encoded.getvalue())
        own = [i for i, head in enumerate(sheet.noteheads) if head.page == page]
        boxes = [s for s in sheet.systems if s.page == page]
        centres = np.array([(sheet.noteheads[i].row, sheet.noteheads[i].column) for i in own]).reshape(-1, 2)
        corners = np.array(
            [[(s.top, s.left), (s.top, s.right), (s.bottom, s.right), (s.bottom, s.left)] for s in boxes]
        ).reshape(-1, 4, 2)
        for kind, array in (("notes", centres), ("systems", corners)):
            with files.atomic(folder / "coords" / f"{kind}_{name}.npy") as path:
                np.save(path, array)
        lines = []
        for i in own:
            head = sheet.noteheads[i]
            data = [("tied", "int", int(head.tied)), ("midi_pitch_code", "int", head.pitch)]
            data += [("row", "float", f"{head.row:.3f}"), ("column", "float", f"{head.column:.3f}")]
            for performance, seconds in onsets.items():
                if np.isfinite(seconds[i]):
                    data += _aligned(performance, float(seconds[i]), head.pitch, events[performance])
            box = (head.top, head.left, head.bottom, head.right)
            lines.append(
                _crop_object(f"{piece}_{print_}", page, i, "notehead-full", box, f"{identity + head.system}", "", data)
            )
        for number, system in enumerate(boxes):
            links = " ".join(str(i) for i in own if sheet.noteheads[i].system == number)
            box = (system.top, system.left, system.bottom, system.right)
            lines.append(_crop_object(f"{piece}_{print_}", page, identity + number, "staff", box, "", links, []))
        identity += len(boxes)
        text = '<?xml version="1.0" encoding="utf-8"?>\n<CropObjectList>\n<CropObjects>\n'
        files.write_text(folder / "mung" / f"{name}.xml", text + "".join(lines) + "</CropObjects>\n</CropObjectList>\n")
        first = next(iter(onsets.values()), np.full(len(sheet.noteheads), np.nan))
        stats.append({"aligned": int(sum(np.isfinite(first[i]) for i in own)), "noteheads": len(own),
                      "tied": int(sum(sheet.noteheads[i].tied for i in own))})  # fmt: skip
    return stats


def write_split(root: str | Path, split: Mapping[str, Sequence[str]], name: str = "all_split") -> None:
    """A list of the corpus's own."""
    files.write_text(Path(root) / f"{name}.yaml", yaml.safe_dump({part: list(split[part]) for part in PARTS}))


def _events(folder: Path, performance: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """By pitch: onsets of the notes, and their places in the list of notes."""
    notes = _loaded(folder / "features" / f"{performance}_notes.npy")
    by_pitch = {}
    for pitch in np.unique(notes[:, 1]):
        places = np.flatnonzero(notes[:, 1] == pitch)
        by_pitch[int(pitch)] = (notes[places, 0], places)
    return by_pitch


def _aligned(performance: str, seconds: float, pitch: int, events: Mapping) -> list[tuple[str, str, object]]:
    data = [
        (f"{performance}_onset_seconds", "float", f"{seconds:.6f}"),
        (f"{performance}_onset_frame", "int", int(np.ceil(seconds * FRAME_RATE - 1e-9))),
    ]
    if pitch in events:
        onsets, places = events[pitch]
        data.append((f"{performance}_note_event_idx", "int", int(places[np.abs(onsets - seconds).argmin()])))
    return data


def _crop_object(
    score: str, page: int, identity: int, name: str, box: Sequence[float], out: str, into: str, data: Sequence[tuple]
) -> str:
    top, left, bottom, right = (round(v) for v in box)  # whole pixels, as the graph's own library wants them
    height, width = max(1, bottom - top), max(1, right - left)
    items = "".join(f'\t\t<DataItem key="{key}" type="{kind}">{value}</DataItem>\n' for key, kind, value in data)
    return (
        f'<CropObject xml:id="duet___{score}-P{page:02}___{identity}">\n'
        f"\t<Id>{identity}</Id>\n\t<ClassName>{name}</ClassName>\n"
        f"\t<Top>{top}</Top>\n\t<Left>{left}</Left>\n\t<Width>{width}</Width>\n"
        f"\t<Height>{height}</Height>\n\t<Mask>0:0 1:{height * width}</Mask>\n"
        + (f"\t<Outlinks>{out}</Outlinks>\n" if out else "")
        + (f"\t<Inlinks>{into}</Inlinks>\n" if into else "")
        + f"\t<Data>\n{items}\t</Data>\n</CropObject>\n"
    )
