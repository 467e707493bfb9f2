"""MAPS: piano pieces on seven software pianos and on a Disklavier, with aligned notes.

The reader takes the published tree as it is: below ``<CODE>/MUS`` a pair of files ``MAPS_MUS-<piece>_<CODE>.wav`` and
``.txt`` for each piece, at any depth, with the notes of ``.mid`` where there is no text; isolated notes and chords
(ISOL, RAND, UCHO) are left aside.  It also takes the flat tree of the paper's code, ``flac/<stem>.flac`` and
``tsv/matched/<stem>.tsv``.  Files belong together by their stem.

Offsets of the text files include the sustain pedal; velocities are those of the MIDI file.

``write_recording`` writes open stand-ins in the published layout, with the codes of MAPS.

Sources: Emiya et al., "MAPS", INRIA report, 2010; Les & Wozniak, 2023, Section 4.1; the split without the test's
pieces: Hawthorne et al., "Onsets and Frames", ISMIR 2018, Section 5.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np

from .. import files
from ..errors import DuetError
from .recordings import (
    AUDIO,
    Corpus,
    Notes,
    Recording,
    Split,
    find_files,
    ordered,
    pair,
    read_midi,
    read_table,
    write_audio,
    write_midi,
)

DISKLAVIER = ("ENSTDkAm", "ENSTDkCl")  # the real piano, near and far: the test
SOFTWARE = ("AkPnBcht", "AkPnBsdf", "AkPnCGdD", "AkPnStgb", "SptkBGAm", "SptkBGCl", "StbgTGd2")
_LABELS = (".txt", ".tsv", ".mid")  # by preference
_STEM = re.compile(r".*MUS-(?P<piece>.+)_(?P<code>[^_]+)")
_NEAR = 0.010  # seconds between the onsets of a note in the text and in the MIDI file


def parse(stem: str) -> tuple[str, str] | None:
    """(piece, code) of ``MAPS_MUS-<piece>_<CODE>``; None for a name of another form."""
    match = _STEM.fullmatch(stem)
    return (match["piece"], match["code"]) if match else None


class Maps(Corpus):
    """A tree in MAPS layout, read lazily.  Raises DuetError where ``root`` is missing or holds no recording."""

    NAME = "MAPS"

    def __init__(self, root: str | Path):
        root = Path(root)
        audio: dict[str, Path] = {}
        labels: dict[str, Path] = {}
        self._midi: dict[str, Path] = {}
        found = find_files(root, (*AUDIO, *_LABELS), skip=("ISOL", "RAND", "UCHO"))
        # the first of a stem counts: flac before wav, text before MIDI, and of two tables the one called matched
        for path in sorted(found, key=lambda p: ((*AUDIO, *_LABELS).index(p.suffix.lower()), "matched" not in p.parts)):
            if parse(path.stem):
                (audio if path.suffix.lower() in AUDIO else labels).setdefault(path.stem, path)
                if path.suffix.lower() == ".mid":
                    self._midi.setdefault(path.stem, path)
        stems, unmatched = pair(audio, labels)
        if not stems:
            raise DuetError(
                "holds no piece of MAPS with its notes",
                path=root,
                remedy="expected <CODE>/MUS/MAPS_MUS-<piece>_<CODE>.wav or .flac with .txt or .mid, "
                "or flac/<stem>.flac with tsv/matched/<stem>.tsv",
            )
        super().__init__(root, {s: Recording(s, audio[s], labels[s], *parse(s)) for s in stems}, unmatched)

    def split(self, overlap: bool = False, validation: int | None = None) -> Split:
        """The Disklavier is the test; software pianos are for training, without the pieces that the test has.

        ``overlap`` keeps these pieces, as the paper's code does.  ``validation`` recordings (by default six, in a small
        corpus an eighth of it), or more where the last piece is played more than once, are taken from training with
        all that plays their pieces: from each code in turn, and first the pieces that are played once.
        Raises DuetError where a side has no recording.
        """
        if not any(r.group in DISKLAVIER for r in self.recordings.values()):
            raise DuetError(
                "has no recording of the Disklavier, which is the test",
                path=self.root,
                remedy=f"unpack {' or '.join(DISKLAVIER)} of MAPS beside the other folders",
            )
        left_out = set() if overlap else set(self.removed)
        training = {s: r for s, r in self.recordings.items() if r.group not in DISKLAVIER and s not in left_out}
        test = [s for s, r in self.recordings.items() if r.group in DISKLAVIER]
        if validation is None:
            validation = min(6, max(1, len(self.recordings) // 8))
        chosen = _validation(training, validation)
        return ordered([s for s in training if s not in chosen], sorted(chosen), test, self.root)

    @property
    def removed(self) -> list[str]:
        """Stems that the split leaves out, unless told otherwise, because the test plays their piece."""
        tested = {r.piece for r in self.recordings.values() if r.group in DISKLAVIER}
        return [s for s, r in self.recordings.items() if r.group not in DISKLAVIER and r.piece in tested]

    def _files(self, recording: Recording) -> list[Path]:
        return [recording.audio, recording.labels, self._midi.get(recording.stem, recording.labels)]

    def _labels(self, recording: Recording) -> Notes:
        if recording.labels.suffix.lower() == ".mid":
            return read_midi(recording.labels)
        notes = read_table(recording.labels)
        if recording.labels.suffix.lower() == ".txt" and recording.stem in self._midi:
            played = read_midi(self._midi[recording.stem])
            for note in notes:
                same = played[played[:, 2] == note[2]]
                distance = np.abs(same[:, 0] - note[0])
                if distance.min(initial=np.inf) <= _NEAR:
                    note[3] = same[distance.argmin(), 3]
        return notes


def _validation(training: dict[str, Recording], count: int) -> set[str]:
    times = Counter(r.piece for r in training.values())
    turns = []
    for code in {r.group for r in training.values()}:
        own = [(times[r.piece], files.digest(s), s) for s, r in training.items() if r.group == code]
        turns += [(turn, code, stem) for turn, (_, _, stem) in enumerate(sorted(own))]
    chosen: set[str] = set()
    for _, _, stem in sorted(turns):
        if len(chosen) >= count:
            break
        chosen |= {s for s, r in training.items() if r.piece == training[stem].piece}
    return chosen


def write_recording(
    root: str | Path, code: str, piece: str, audio: np.ndarray, rate: int, notes: Notes, program: int = 0
) -> Path:
    """Write ``<code>/MUS/MAPS_MUS-<piece>_<code>`` as ``.txt``, ``.mid`` and, last, ``.flac``, which is returned.

    ``audio`` is (samples,) at ``rate`` Hz.  The text has the times to the microsecond, the MIDI file the velocities.
    """
    stem = f"MAPS_MUS-{piece}_{code}"
    if parse(stem) != (piece, code) or "/" in stem:
        raise ValueError(f"{stem!r} is no name of MAPS")
    base = Path(root) / code / "MUS" / stem
    rows = "".join(f"{onset:.6f}\t{offset:.6f}\t{int(pitch)}\n" for onset, offset, pitch, _ in notes)
    files.write_text(base.with_name(f"{stem}.txt"), "OnsetTime\tOffsetTime\tMidiPitch\n" + rows)
    write_midi(base.with_name(f"{stem}.mid"), notes, program)
    path = base.with_name(f"{stem}.flac")
    write_audio(path, audio, rate)
    return path
