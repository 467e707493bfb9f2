"""MTD: musical themes as MIDI, and the recordings or excerpts in which they sound.

The reader takes the published tree as it is: an index ``03_MTD-medium.csv`` (``;`` between columns; without one the
files of ``data_META`` are the index), and ``data_*`` folders in a folder named like the index or flat in the root, with
files ``MTD<id>_<Composer>_<Work>``.  MTD has the excerpt of each theme but not the recordings, which are commercial
discs; who owns them puts them into ``data_RECORDING/<WCMID>.flac`` (or ``.wav``), and StartTime and EndTime are places
in them.  So there are two kinds of documents to search: "recordings", whose key is WCMID, and "excerpts", each of which
is a document of its own, whose key is the id of its theme.

``MidiTransposition`` is what has to be added to the MIDI pitches to get those of the audio.

``themes`` writes open stand-ins in the same layout, recordings included.

Sources: Zalkow & Mueller, ISMIR 2020, Sections 3.1 and 4.1; Zalkow et al., "MTD", TISMIR 3(1), 2020.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pretty_midi
import soundfile

from .. import files
from ..errors import DuetError

KINDS = ("recordings", "excerpts")
FOLDS = 5
COLUMNS = (
    "MTDID BMID EDMID ComposerID ComposerBirth ComposerDeath WorkID PerformanceID CollectionID MusicBrainzID LabelID "
    "WCMID WorkTitle ThemeLabelBM ThemeInstruments WorkInstruments Ensemble Polyphony NameCD NameTrack StartTime "
    "EndTime MidiTransposition Comment1 Comment2 Comment3"
).split()
_NEEDED = ("MTDID", "ComposerID", "WorkID", "WCMID", "StartTime", "EndTime", "MidiTransposition")
_SLACK = 0.6  # seconds by which audio may be shorter than times that are given to the second or its tenth
_RESTORE = "restore it from the MTD archive"


# -- reading -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Theme:
    """A row of the index: ``start`` and ``end`` in seconds of the recording ``document``, ``transposition`` in
    semitones from the MIDI to the audio.  ``label`` of a stand-in says where its line lies in the texture.
    """

    id: str
    composer: str
    work: str
    title: str
    label: str
    document: str
    start: float
    end: float
    transposition: int
    instruments: str
    ensemble: str


class Problems(NamedTuple):
    """What is wrong with a tree: reasons by theme id, and by document."""

    themes: dict[str, str]
    documents: dict[str, str]


class Mtd:
    """A tree in MTD layout, read lazily.  Raises DuetError where ``root`` is missing or is no such tree."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if not self.root.is_dir():
            raise DuetError("no such corpus folder", path=self.root, remedy="give the folder that MTD unpacks to")
        # the largest first: 03_MTD-medium holds what 01_MTD-mini holds
        self._listings: dict[str, dict[str, Path]] = {}
        self._bases = sorted((p for p in self.root.glob("0?_MTD-*") if p.is_dir()), reverse=True) + [self.root]
        indices = sorted((p for p in self.root.glob("0?_MTD-*.csv") if p.is_file()), reverse=True)
        self.index_path = indices[0] if indices else self._bases[0] / "data_META"
        if not indices and not self.index_path.is_dir():
            raise DuetError(
                "is not laid out like MTD",
                path=self.root,
                remedy="expected <root>/03_MTD-medium.csv, or data_META with a file per theme",
            )

    @cached_property
    def description(self) -> dict:
        """``corpus.json`` of a corpus that this library built; of a published one just its name."""
        path = self.root / "corpus.json"
        return files.read_object(path) if path.exists() else {"name": "MTD", "stand_in": False}

    @cached_property
    def _rows(self) -> dict[str, dict[str, str]]:
        rows = _read_index(self.index_path) if self.index_path.is_file() else _read_meta(self.index_path)
        found: dict[str, dict[str, str]] = {}
        for row in rows:
            identity = row["MTDID"].removeprefix("MTD")
            if identity in found:
                raise DuetError(f"has theme {identity} twice", path=self.index_path, remedy=_RESTORE)
            found[identity] = row
        if not found:
            raise DuetError("lists no theme", path=self.index_path, remedy=_RESTORE)
        return found

    @cached_property
    def ids(self) -> list[str]:
        """Every theme's id, ordered."""
        return sorted(self._rows)

    @cached_property
    def fingerprint(self) -> str:
        """What a run's id depends on: sources and settings of a corpus that this library built; of another one its
        index and notes, and which recordings are there.
        """
        if "fingerprint" in self.description:
            return self.description["fingerprint"]
        state = [json.dumps([self._rows[i] for i in self.ids], sort_keys=True)]
        for kind in ("data_EDM-corr_CSV", "data_EDM-corr_MID"):
            state += [f"{i} {files.file_digest(path)}" for i, path in sorted(self._files(kind).items())]
        state += [f"{name} {path.stat().st_size}" for name, path in sorted(self._recordings.items())]
        return files.digest(*state)

    def theme(self, identity: str) -> Theme:
        """Raises DuetError for an unknown id, times that are none or reversed, or a transposition that is no number."""
        row = self._row(identity)
        start, end = (self._seconds(identity, row, column) for column in ("StartTime", "EndTime"))
        if not end > start:
            raise self._faulty(identity, f"ends at {row['EndTime']}, not after its start at {row['StartTime']}")
        try:
            transposition = int(row["MidiTransposition"] or 0)
        except ValueError:
            raise self._faulty(identity, f"has MidiTransposition {row['MidiTransposition']!r}") from None
        return Theme(
            identity,
            row["ComposerID"],
            row["WorkID"],
            row.get("WorkTitle") or "",
            row.get("ThemeLabelBM") or "",
            row["WCMID"],
            start,
            end,
            transposition,
            row.get("ThemeInstruments") or "",
            row.get("Ensemble") or "",
        )

    def composer(self, identity: str) -> str:
        return self._row(identity)["ComposerID"]

    def notes(self, identity: str) -> np.ndarray:
        """(n, 3) start and duration in seconds and MIDI pitch, in the key of the MIDI: not transposed.

        From the note table, or from the MIDI file where there is no table.
        """
        table, midi = (self._files(kind).get(identity) for kind in ("data_EDM-corr_CSV", "data_EDM-corr_MID"))
        self._row(identity)
        if table is None and midi is None:
            raise DuetError(f"has no notes of theme {identity}", path=self.root, remedy=_RESTORE)
        path = table or midi
        notes = _read_table(table, ("Start", "Duration", "Pitch")) if table else _read_midi(midi)
        if not len(notes):
            raise DuetError("holds no notes", path=path, remedy=_RESTORE)
        if (notes[:, 0] < 0).any() or (notes[:, 1] <= 0).any() or (abs(notes[:, 2] - 63.5) > 63.5).any():
            raise DuetError("has a note with a time or pitch that cannot be", path=path, remedy=_RESTORE)
        return notes[np.argsort(notes[:, 0], kind="stable")]

    def alignment(self, identity: str) -> np.ndarray:
        """(k, 2) seconds of the MIDI and of the excerpt: a row for every onset, and one for the end."""
        self._row(identity)
        path = self._files("data_ALIGNMENT").get(identity)
        if path is None:
            raise DuetError(f"has no alignment of theme {identity}", path=self.root, remedy=_RESTORE)
        rows = _read_table(path, ("MID", "WAV"))
        if len(rows) < 2 or (np.diff(rows, axis=0) < 0).any() or not (np.diff(rows[[0, -1]], axis=0) > 0).all():
            raise DuetError("is no alignment: its times must rise", path=path, remedy=_RESTORE)
        return rows

    def meta(self, identity: str) -> dict:
        """``data_META`` of a theme; of a stand-in with ``Recording``: how its recording was made."""
        self._row(identity)
        path = self._files("data_META").get(identity)
        if path is None:
            raise DuetError(f"has no data_META of theme {identity}", path=self.root, remedy=_RESTORE)
        return files.read_object(path)

    def documents(self, kind: str = "recordings") -> list[str]:
        """Keys of the documents to search, ordered: those that the index names, whether or not their audio is here."""
        _check_kind(kind)
        return self.ids if kind == "excerpts" else sorted({row["WCMID"] for row in self._rows.values()})

    def relevant(self, identity: str, kind: str = "recordings") -> str:
        """The one document in which a theme sounds."""
        _check_kind(kind)
        row = self._row(identity)
        return identity if kind == "excerpts" else row["WCMID"]

    def audio_path(self, document: str, kind: str = "recordings") -> Path:
        """Raises DuetError for an unknown document and for one whose audio is not here."""
        _check_kind(kind)
        if document not in self._document_sets[kind]:
            raise DuetError(f"has no document {document!r} among its {kind}", path=self.root, remedy=_RESTORE)
        found = (self._files("data_AUDIO") if kind == "excerpts" else self._recordings).get(document)
        if found is None and kind == "excerpts":
            raise DuetError(f"has no excerpt of theme {document} in data_AUDIO", path=self.root, remedy=_RESTORE)
        if found is None:
            raise DuetError(
                f"has no data_RECORDING/{document}.flac or .wav",
                path=self.root,
                remedy="MTD comes without its recordings: put yours there, or search the excerpts",
            )
        return found

    def excerpt_path(self, identity: str) -> Path:
        return self.audio_path(identity, "excerpts")

    def span(self, identity: str, kind: str = "recordings") -> tuple[float, float]:
        """Where the theme sounds in its document, in seconds: the whole of an excerpt.

        Raises DuetError where the audio is missing, is not readable or ends before the theme does.
        """
        theme = self.theme(identity)
        length = readable_seconds(self.audio_path(self.relevant(identity, kind), kind))
        start, end = (theme.start, theme.end) if kind == "recordings" else (0.0, theme.end - theme.start)
        if length < end - _SLACK:
            raise DuetError(
                f"lasts {length:.1f} s, theme {identity} ends at {end:.1f} s",
                path=self.audio_path(self.relevant(identity, kind), kind),
                remedy="copy it again, it is cut short or another recording",
            )
        return (start, min(end, length)) if kind == "recordings" else (0.0, length)

    def check(self, kind: str = "recordings") -> Problems:
        """All that is wrong, without an end at the first fault: a search skips what is told here, and lists it.

        Reads every small file and the end of every audio file.  A theme whose document is at fault is not listed.
        """
        problems = Problems({}, {})
        for identity in self.ids:
            document = self.relevant(identity, kind)
            try:
                self.theme(identity)
                self.notes(identity)
            except DuetError as error:
                problems.themes[identity] = str(error)
                continue
            try:
                if document not in problems.documents:
                    self.span(identity, kind)
            except DuetError as error:
                problems.documents[document] = str(error)
        return problems

    def folds(self) -> dict[str, int]:
        """Fold, 1 to 5, of every composer: ``folds.csv`` where the tree has one, else :func:`composer_folds`."""
        path = self.root / "folds.csv"
        counts = Counter(self.composer(i) for i in self.ids)
        if not path.exists():
            return composer_folds(counts)
        try:
            with open(path, newline="", encoding="utf-8") as handle:
                folds = {row["composer"]: int(row["fold"]) for row in csv.DictReader(handle)}
        except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError, csv.Error):
            folds = {}
        if set(counts) - set(folds) or not set(folds.values()) <= set(range(1, FOLDS + 1)):
            raise DuetError("does not give every composer a fold from 1 to 5", path=path, remedy="delete it")
        return folds

    def _row(self, identity: str) -> dict[str, str]:
        if identity not in self._rows:
            raise DuetError(
                f"has no theme {identity!r}", path=self.root, remedy="ids are those of the index, like 0116 or 1066"
            )
        return self._rows[identity]

    def _seconds(self, identity: str, row: dict[str, str], column: str) -> float:
        parts = (row[column] or "").strip().split(":")
        try:
            numbers = [float(p) for p in parts]
            if not 2 <= len(numbers) <= 3 or not all(0 <= n < math.inf for n in numbers):
                raise ValueError
        except ValueError:
            raise self._faulty(identity, f"has {column} {row[column]!r}, not mm:ss") from None
        return sum(n * 60**k for k, n in enumerate(reversed(numbers)))

    def _faulty(self, identity: str, what: str) -> DuetError:
        return DuetError(f"theme {identity} {what}", path=self.index_path, remedy="correct the row")

    def _files(self, kind: str) -> dict[str, Path]:
        """Files of a ``data_*`` folder by theme id; their names begin MTD<id>_."""
        if kind not in self._listings:
            found: dict[str, Path] = {}
            for base in reversed(self._bases):
                for path in sorted((base / kind).glob("MTD*")) if (base / kind).is_dir() else ():
                    if path.is_file():
                        found[path.name[3:].partition("_")[0].partition(".")[0]] = path
            self._listings[kind] = found
        return self._listings[kind]

    @cached_property
    def _recordings(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for base in reversed(self._bases):
            for suffix in (".wav", ".flac"):
                found |= {p.stem: p for p in sorted((base / "data_RECORDING").glob(f"*{suffix}")) if p.name[0] != "."}
        return found

    @cached_property
    def _document_sets(self) -> dict[str, set[str]]:
        return {kind: set(self.documents(kind)) for kind in KINDS}


def composer_folds(themes: Mapping[str, int]) -> dict[str, int]:
    """Fold, 1 to 5, of every composer, given how many themes each has.

    Composers go, those with most themes first and then by name, each to the fold that has fewest.  So the first one is
    fold 1, and alone where he has more than a fifth of all themes, as Beethoven has in MTD.
    Section 4.2 of the paper has such folds, of 559, 373, 372, 372 and 372 themes; which composer is where is
    not published.
    """
    if len(themes) < FOLDS:
        raise DuetError(f"{len(themes)} composers cannot be divided into {FOLDS} folds", remedy="take a larger corpus")
    order = sorted(themes, key=lambda composer: (-themes[composer], composer))
    folds, sizes = {}, dict.fromkeys(range(1, FOLDS + 1), 0)
    for composer in order:
        fold = min(sizes, key=lambda f: (sizes[f], f))
        folds[composer] = fold
        sizes[fold] += themes[composer]
    return folds


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise DuetError(f"unknown kind of documents {kind!r}", remedy=f"one of {', '.join(KINDS)}")


def _read_index(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, delimiter=";")
            missing = [c for c in _NEEDED if c not in (reader.fieldnames or ())]
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DuetError(f"is not a readable index: {error}", path=path, remedy=_RESTORE) from None
    if missing:
        raise DuetError(f"lacks the columns {', '.join(missing)}", path=path, remedy=_RESTORE)
    for number, row in enumerate(rows):
        if None in row:
            raise DuetError(f"has more cells than columns in row {number + 2}", path=path, remedy=_RESTORE)
        if any(row[c] is None for c in _NEEDED) or not row["MTDID"]:
            raise DuetError(f"breaks off in row {number + 2}", path=path, remedy=_RESTORE)
    return rows


def _read_meta(folder: Path) -> list[dict[str, str]]:
    rows = []
    for path in sorted(folder.glob("MTD*.json")):
        row = files.read_json(path)
        if not isinstance(row, dict) or any(not isinstance(row.get(c), str) for c in _NEEDED):
            raise DuetError(f"lacks one of {', '.join(_NEEDED)}", path=path, remedy=_RESTORE)
        rows.append(row)
    return rows


def _read_table(path: Path, columns: Sequence[str]) -> np.ndarray:
    """(rows, columns) of a table of numbers, ``;`` between them."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, delimiter=";")
            if missing := [c for c in columns if c not in (reader.fieldnames or ())]:
                raise DuetError(f"lacks the columns {', '.join(missing)}", path=path, remedy=_RESTORE)
            rows = [[float(row[c]) for c in columns] for row in reader]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise DuetError(f"is not a readable table: {error}", path=path, remedy=_RESTORE) from None
    values = np.array(rows, float).reshape(-1, len(columns))
    if not np.isfinite(values).all():
        raise DuetError("holds values that are no numbers", path=path, remedy=_RESTORE)
    return values


def _read_midi(path: Path) -> np.ndarray:
    try:
        midi = pretty_midi.PrettyMIDI(str(path))
    except Exception as error:  # it hands on whatever mido and Python raise on damaged files
        raise DuetError(f"is not readable MIDI: {error}", path=path, remedy=_RESTORE) from None
    return np.array([[n.start, n.end - n.start, n.pitch] for i in midi.instruments for n in i.notes], float)


def readable_seconds(path: Path) -> float:
    """Seconds of an audio file, of which the last sample is read and nothing else.

    Raises DuetError where it is missing, not readable audio, empty or cut short.
    """
    try:
        with soundfile.SoundFile(path) as audio:
            audio.seek(max(0, audio.frames - 1))
            if not len(audio.read(1)):
                raise DuetError("is empty or cut short", path=path, remedy="copy it again")
            return audio.frames / audio.samplerate
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError) as error:
        raise DuetError(f"is not readable audio: {error}", path=path, remedy="copy it again") from None
