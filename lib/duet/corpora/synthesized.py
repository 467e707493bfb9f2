"""Synthesised sets: the notes of other corpora played by one General MIDI program each.

The layout is that of the paper's code, several programs under a root:
``synthesized_<program>/{train,val,test}/audio/<name>.flac`` or ``.wav`` and
``synthesized_<program>/{train,val,test}/labels/<name>.tsv``.  The stem of a recording is ``<program>.<name>``, since
each program plays the same names.

Source: Les & Wozniak, 2023, Section 4.1, "Synthesized Instruments", and its code.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DuetError
from . import guitarset, maps
from .recordings import (
    AUDIO,
    PARTS,
    Corpus,
    Notes,
    Recording,
    Split,
    find_files,
    ordered,
    pair,
    parts,
    read_table,
    write_audio,
    write_table,
)

_PREFIX = "synthesized_"


class Synthesized(Corpus):
    """A tree of synthesised sets, read lazily; the group of a recording is its program.

    Raises DuetError where ``root`` is missing or holds no such set.
    """

    NAME = "Synthesized Instruments"

    def __init__(self, root: str | Path):
        root = Path(root)
        audio: dict[str, Path] = {}
        labels: dict[str, Path] = {}
        folders: dict[str, str] = {}
        for path in find_files(root, (*AUDIO, ".tsv")):
            place = path.relative_to(root).parts
            kind = "labels" if path.suffix.lower() == ".tsv" else "audio"
            if len(place) == 4 and place[0].startswith(_PREFIX) and place[1] in PARTS and place[2] == kind:
                stem = f"{place[0].removeprefix(_PREFIX)}.{path.stem}"
                there = folders.setdefault(stem, place[1])
                if there != place[1]:
                    raise DuetError(f"is also in {there}", path=path, remedy="delete it in one of the two")
                (labels if kind == "labels" else audio).setdefault(stem, path)
        stems, unmatched = pair(audio, labels)
        if not stems:
            raise DuetError(
                "holds no synthesised set",
                path=root,
                remedy=f"expected {_PREFIX}<program>/train/audio/<name>.flac or .wav with "
                f"{_PREFIX}<program>/train/labels/<name>.tsv, and so for val and test",
            )
        super().__init__(root, {s: self._recording(s, audio[s], labels[s]) for s in stems}, unmatched)

    def split(self) -> Split:
        """The folders train, val and test.  Raises DuetError where nothing is in the first.

        The last may be empty: models that have learned from synthesised sound are tested on other corpora.
        """
        return ordered(*parts(self.recordings.values(), self.root), self.root, tested=False)

    def _labels(self, recording: Recording) -> Notes:
        return read_table(recording.labels)

    @staticmethod
    def _recording(stem: str, audio: Path, labels: Path) -> Recording:
        program, name = stem.split(".", 1)
        piece, _ = maps.parse(name) or guitarset.parse(name) or (name, "")
        return Recording(stem, audio, labels, piece, program)


def write(root: str | Path, program: str, part: str, name: str, audio: np.ndarray, rate: int, notes: Notes) -> Path:
    """Write a recording's table of notes and, last, its FLAC, which is returned.

    ``part`` is train, val or test; ``audio`` is (samples,) at ``rate`` Hz.
    """
    if part not in PARTS or "." in program or "/" in program + name:
        raise ValueError(f"{program!r}, {part!r}, {name!r} are no place in a synthesised set")
    folder = Path(root) / f"{_PREFIX}{program}" / part
    write_table(folder / "labels" / f"{name}.tsv", notes)
    path = folder / "audio" / f"{name}.flac"
    write_audio(path, audio, rate)
    return path
