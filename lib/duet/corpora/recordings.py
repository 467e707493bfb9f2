"""Recordings with their notes: what the readers of MAPS, GuitarSet and the synthesised sets do in the same way.

Notes are (n, 4) float64: onset and offset in seconds, MIDI pitch (a whole number from 0 to 127) and velocity (1 to
127), ordered by onset, then pitch.  Offsets include the sustain pedal: a note lasts while it sounds.
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pretty_midi
import soundfile

from .. import files
from ..errors import DuetError
from ..features import read_audio
from ..progress import in_parallel

Notes = np.ndarray

RATE = 16_000  # Hz
VELOCITY = 90.0  # of notes whose labels have none
AUDIO = (".flac", ".wav")  # by preference
PARTS = ("train", "val", "test")  # folders of the paper's code
_UNISON = 0.010  # seconds between two onsets of one pitch that are one note
_SLACK = 0.1  # seconds by which a note may end after its audio
_PEDAL_DOWN = 64  # value of control change 64 from which the pedal holds the notes
_TICKS = 1920  # a second of the MIDI files that are written
_FULL_SCALE = 32767 / 32768  # the greatest sample of 16 bits
_CLIPPED = 0.01  # share of samples at full scale from which a recording is said to clip
_RESTORE = "restore it from the corpus's archive"


@dataclass(frozen=True)
class Recording:
    """A pair of files.

    ``stem`` is unique in its corpus.  ``piece`` is what is played: splits keep a piece on one side.  ``group`` is on
    what or by whom: the instrument's code of MAPS, the player of GuitarSet, the program of a synthesised set.
    """

    stem: str
    audio: Path
    labels: Path
    piece: str
    group: str


class Split(NamedTuple):
    """Stems, each list ordered."""

    training: list[str]
    validation: list[str]
    test: list[str]


class Corpus:
    """What all readers offer; each of them says how notes are read and what a split is.

    ``recordings`` are the pairs by stem, ordered; ``unmatched`` says what is missing of files that have no partner.
    """

    NAME: ClassVar[str]

    def __init__(self, root: Path, recordings: Mapping[str, Recording], unmatched: Mapping[str, str]):
        self.root = root
        self.recordings = dict(sorted(recordings.items()))
        self.unmatched = dict(sorted(unmatched.items()))

    @cached_property
    def description(self) -> dict:
        """``corpus.json`` of a corpus that this library built; of a published one just its name."""
        path = self.root / "corpus.json"
        return files.read_object(path) if path.exists() else {"name": self.NAME, "stand_in": False}

    @property
    def name(self) -> str:
        """For tables."""
        return self.description.get("name", self.NAME)

    @cached_property
    def fingerprint(self) -> str:
        """What a run's id depends on: sources and settings of a corpus that this library built; of another one the
        names and sizes of its files.
        """
        if "fingerprint" in self.description:
            return self.description["fingerprint"]
        paths = sorted({path for r in self.recordings.values() for path in self._files(r)})
        return files.digest(*(f"{path.relative_to(self.root).as_posix()} {path.stat().st_size}" for path in paths))

    def recording(self, stem: str) -> Recording:
        """Raises DuetError for an unknown stem, and for one of which only the audio or only the labels are here."""
        if stem in self.unmatched:
            raise DuetError(f"{stem} {self.unmatched[stem]}", path=self.root, remedy=_RESTORE)
        if stem not in self.recordings:
            some = ", ".join(list(self.recordings)[:2])
            raise DuetError(f"has no recording {stem!r}", path=self.root, remedy=f"stems are file names, like {some}")
        return self.recordings[stem]

    def notes(self, stem: str) -> Notes:
        """(n, 4), tidied: see :func:`tidy`.

        Raises DuetError where labels are damaged or hold no note, or the audio's header is not readable.
        """
        return self._usable(stem)[0]

    def audio(self, stem: str, rate: int = RATE) -> np.ndarray:
        """(samples,) float32, the mean of its channels.

        Raises DuetError for missing, damaged, truncated, empty, silent or NaN audio.
        """
        path = self.recording(stem).audio
        promised = duration(path)
        samples = read_audio(path, rate)
        if len(samples) < rate * (promised - 0.01):
            raise DuetError(
                f"is cut short: {len(samples) / rate:.2f} s of {promised:.2f} s", path=path, remedy=_RESTORE
            )
        return samples

    def problems(self, workers: int | None = None, progress: bool = False) -> dict[str, str]:
        """A line for each recording with anything amiss, after opening every file.

        A line that begins with "usable:" tells of what is mended in reading, or of clipping; any other of a recording
        whose audio or notes raise DuetError.
        """
        found = {stem: f"{stem} {what}" for stem, what in self.unmatched.items()}
        stems = list(self.recordings)
        lines = in_parallel(partial(_problem, self), stems, f"check of {self.name}", workers, progress)
        found |= {stem: line for stem, line in zip(stems, lines, strict=True) if line}
        return dict(sorted(found.items()))

    def _files(self, recording: Recording) -> list[Path]:
        return [recording.audio, recording.labels]

    def _labels(self, recording: Recording) -> Notes:
        """(n, 4) as they stand in the file."""
        raise NotImplementedError

    def _tidied(self, stem: str) -> tuple[Notes, list[str]]:
        """The notes, and what :func:`tidy` says of them."""
        recording = self.recording(stem)
        return tidy(self._labels(recording), duration(recording.audio))

    def _usable(self, stem: str) -> tuple[Notes, list[str]]:
        notes, messages = self._tidied(stem)
        if not len(notes):
            what = f"has no note that can be used: {'; '.join(messages)}"
            raise DuetError(what, path=self.recordings[stem].labels, remedy=_RESTORE)
        return notes, messages


def _problem(corpus: Corpus, stem: str) -> str:
    try:
        corpus.audio(stem)
        share = clipped(corpus.recordings[stem].audio)
        messages = corpus._usable(stem)[1]
    except DuetError as error:
        return str(error)
    messages += [f"{share:.1%} of its samples are at full scale"] if share > _CLIPPED else []
    return f"usable: {stem}: {'; '.join(messages)}" if messages else ""


# -- notes -------------------------------------------------------------------------------------------------------------


def tidy(notes: Notes, duration: float | None = None) -> tuple[Notes, list[str]]:
    """Notes as they can sound and be transcribed, and a line for each kind of fault: how many, and the first.

    Notes that end where they begin or before are dropped, and so are those that begin when the audio, ``duration``
    seconds long, is over; those that end more than 0.1 s after it end with it.  Of two notes of one pitch that sound at
    the same time the second cuts the first, as a key that is struck again does; where they begin within 10 ms they
    are one note, which has the later end and the greater velocity.
    """
    messages = []

    def tell(faulty: np.ndarray, what: str) -> None:
        if faulty.size:
            number = f"{faulty.size} note{'s' if faulty.size > 1 else ''}"
            messages.append(f"{number} {what}, the first at {faulty.min():.3f} s")

    notes = np.asarray(notes, float).reshape(-1, 4)
    notes = notes[np.lexsort((notes[:, 2], notes[:, 0]))]
    real = notes[:, 1] > notes[:, 0]
    tell(notes[~real, 0], "without length dropped")
    notes = notes[real]
    if duration is not None:
        inside = notes[:, 0] < duration
        tell(notes[~inside, 0], "after the end of the audio dropped")
        notes = notes[inside]
        late = notes[:, 1] > duration + _SLACK
        tell(notes[late, 0], "cut at the end of the audio")
        notes[late, 1] = duration
    kept, sounding, unisons, struck = [], {}, [], []
    for row in notes.tolist():
        before = sounding.get(row[2])
        if before is not None and before[1] > row[0]:
            if row[0] - before[0] <= _UNISON + 1e-9:
                unisons.append(row[0])
                before[1], before[3] = max(before[1], row[1]), max(before[3], row[3])
                continue
            struck.append(before[0])
            before[1] = row[0]
        sounding[row[2]] = row
        kept.append(row)
    tell(np.array(unisons), "merged with one of the same pitch and onset")
    tell(np.array(struck), "cut by the next of the same pitch")
    return np.array(kept, float).reshape(-1, 4), messages


def check_notes(notes: Notes, path: Path) -> Notes:
    """The notes themselves.  Raises DuetError for none, values that are no numbers, times before 0 s, and for pitches
    or velocities that MIDI does not have.
    """
    if not len(notes):
        raise DuetError("holds no notes", path=path, remedy=_RESTORE)
    if not np.isfinite(notes).all():
        raise DuetError("holds values that are no numbers", path=path, remedy=_RESTORE)
    onset, _, pitch, velocity = notes.T
    wrong = (onset < 0) | (pitch < 0) | (pitch > 127) | (pitch % 1 != 0) | (velocity < 1) | (velocity > 127)
    if wrong.any():
        row = ", ".join(f"{value:g}" for value in notes[wrong][0])
        raise DuetError(f"has a note that cannot be (onset, offset, pitch, velocity: {row})", path=path,
                        remedy=_RESTORE)  # fmt: skip
    return notes


def read_table(path: str | Path) -> Notes:
    """(n, 4) notes of a table: onset, offset and pitch, and velocity in the fourth column where there is one.

    One reader for the text files of MAPS (a row of column names) and the tsv files of the paper's code (a comment).
    """
    rows = []
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DuetError(f"is not a readable table: {error}", path=path, remedy=_RESTORE) from None
    for number, line in enumerate(lines, 1):
        cells = line.split()
        if not cells or line.startswith("#") or (number == 1 and cells[0].lower() in ("onsettime", "onset")):
            continue
        try:
            values = [float(cell) for cell in cells]
        except ValueError:
            values = []
        if len(values) not in (3, 4):
            raise DuetError(
                f"line {number} is not onset, offset, pitch and perhaps velocity: {line[:40]!r}",
                path=path,
                remedy=_RESTORE,
            )
        rows.append([*values, VELOCITY][:4])
    return check_notes(np.array(rows, float).reshape(-1, 4), Path(path))


def write_table(path: str | Path, notes: Notes) -> None:
    """The tsv table of the paper's code: microseconds, a comment above."""
    rows = "".join("\t".join(f"{value:.6f}" for value in row) + "\n" for row in notes)
    files.write_text(path, "# onset\toffset\tnote\tvelocity\n" + rows)


def read_midi(path: str | Path) -> Notes:
    """(n, 4) notes of all tracks but drums, ordered.

    A note that is released while its channel's sustain pedal is down (control change 64, from value 64 on) lasts until
    the pedal is up, the pitch is struck again, or the file ends.
    """
    try:
        midi = pretty_midi.PrettyMIDI(str(path))
    except Exception as error:  # it hands on whatever mido and Python raise on damaged files
        raise DuetError(f"is not readable MIDI: {type(error).__name__} {error}", path=path, remedy=_RESTORE) from None
    end = midi.get_end_time()
    tracks = [_pedalled(track, end) for track in midi.instruments if not track.is_drum]
    notes = np.concatenate([*tracks, np.empty((0, 4))])
    return check_notes(notes[np.lexsort((notes[:, 2], notes[:, 0]))], Path(path))


def _pedalled(track: pretty_midi.Instrument, end: float) -> Notes:
    notes = np.array([[n.start, n.end, n.pitch, n.velocity] for n in track.notes], float).reshape(-1, 4)
    changes = sorted((c for c in track.control_changes if c.number == 64), key=lambda c: c.time)
    pedal = [(c.time, c.value < _PEDAL_DOWN) for c in changes]
    times = np.array([time for time, _ in pedal])
    for note in notes if pedal else ():
        last = np.searchsorted(times, note[1], "right") - 1  # as it stands once everything at this time has happened
        if last < 0 or pedal[last][1]:
            continue
        release = next((time for time, up in pedal[last + 1 :] if up), end)
        same = notes[notes[:, 2] == note[2], 0]
        again = same[same > note[0]].min(initial=np.inf)
        note[1] = max(note[1], min(release, again))
    return notes


def write_midi(path: str | Path, notes: Notes, program: int = 0) -> None:
    """A track of one program, times to 0.5 ms; a note lasts at least a tick."""
    midi = pretty_midi.PrettyMIDI(resolution=_TICKS // 2, initial_tempo=120)
    track = pretty_midi.Instrument(program)
    for onset, offset, pitch, velocity in notes:
        track.notes.append(pretty_midi.Note(int(velocity), int(pitch), onset, max(offset, onset + 1 / _TICKS)))
    midi.instruments.append(track)
    content = io.BytesIO()
    midi.write(content)
    files.write_bytes(path, content.getvalue())


# -- audio -------------------------------------------------------------------------------------------------------------


def duration(path: str | Path) -> float:
    """Seconds, by the header.  Raises DuetError for audio that is missing, not readable or empty."""
    try:
        header = soundfile.info(str(path))
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise _unreadable(path, error) from None
    if not header.frames:
        raise DuetError("holds no audio", path=path, remedy=_RESTORE)
    return header.frames / header.samplerate


def clipped(path: str | Path) -> float:
    """Share of the samples, of all channels, that are at full scale.  Raises DuetError where they are not readable."""
    full = total = 0
    try:
        for block in soundfile.blocks(str(path), 1 << 20, dtype="float32"):
            full += int(np.count_nonzero(np.abs(block) >= _FULL_SCALE))
            total += block.size
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise _unreadable(path, error) from None
    return full / max(1, total)


def _unreadable(path: str | Path, error: Exception) -> DuetError:
    reason = getattr(error, "error_string", error)  # without the name of the file
    return DuetError(f"is not readable audio: {reason}", path=path, remedy=_RESTORE)


def write_audio(path: str | Path, audio: np.ndarray, rate: int) -> None:
    """16-bit FLAC or WAV, by the name, of (samples,) or (samples, channels).

    Raises ValueError for samples that are no numbers or beyond full scale.
    """
    if not np.isfinite(audio).all() or np.abs(audio).max(initial=0) > 1:
        raise ValueError(f"{Path(path).name}: samples must lie within -1 and 1")
    content = io.BytesIO()  # libsndfile says nothing when a disk is full as it closes a file
    soundfile.write(content, audio, rate, format=Path(path).suffix[1:].upper(), subtype="PCM_16")
    files.write_bytes(path, content.getvalue())


# -- folders -----------------------------------------------------------------------------------------------------------


def find_files(root: Path, suffixes: Collection[str], skip: Collection[str] = ()) -> list[Path]:
    """Every file below ``root`` whose name ends in one of ``suffixes``, ordered; neither hidden ones nor folders named
    in ``skip``.  Raises DuetError where ``root`` is missing.
    """
    if not root.is_dir():
        raise DuetError("no such corpus folder", path=root, remedy="give the folder that the corpus unpacks to")
    found, seen = [], set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        here = os.path.realpath(folder)
        subfolders[:] = [name for name in subfolders if here not in seen and name not in skip and name[0] != "."]
        names = [] if here in seen else names  # a link that leads back
        seen.add(here)
        found += [Path(folder, name) for name in names if name.lower().endswith(tuple(suffixes)) and name[0] != "."]
    return sorted(path for path in found if path.is_file())  # not the links of an archive that was not fetched


def pair(audio: Mapping[str, Path], labels: Mapping[str, Path]) -> tuple[list[str], dict[str, str]]:
    """(stems that have both, ordered; for each other stem what is missing)."""
    unmatched = {stem: f"has audio ({path.name}) without labels" for stem, path in audio.items() if stem not in labels}
    unmatched |= {stem: f"has labels ({path.name}) without audio" for stem, path in labels.items() if stem not in audio}
    return sorted(set(audio) & set(labels)), unmatched


def parts(recordings: Iterable[Recording], root: Path) -> Split | None:
    """The split by the folders of the paper's code, ``{train,val,test}/audio``; None where one lies elsewhere."""
    found = {part: [] for part in PARTS}
    for recording in recordings:
        part = recording.audio.relative_to(root).parts[-3:-2]
        if not part or part[0] not in PARTS:
            return None
        found[part[0]].append(recording.stem)
    return Split(*found.values())


def ordered(
    training: Sequence[str], validation: Sequence[str], test: Sequence[str], root: Path, tested: bool = True
) -> Split:
    """The split with ordered lists.

    Raises DuetError where nothing is left for training or, of a corpus that is ``tested``, for the test.
    """
    for part, stems in (("training", training), ("the test", test)):
        if not stems and (tested or part == "training"):
            raise DuetError(f"{part} has no recording", path=root, remedy="take a larger corpus")
    return Split(sorted(training), sorted(validation), sorted(test))
