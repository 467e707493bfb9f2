"""GuitarSet: 360 excerpts of acoustic guitar by six players, with the notes of each string.

The reader takes the archives as they are, each unpacked somewhere below the root: ``<stem>.jams`` and the audio of four
microphones, which are told apart by the end of the name.  Stems are
``<player>_<Style><progression>-<bpm>-<key>_<comp|solo>``, like ``00_BN1-129-Eb_comp``.  It also takes the tree of the
paper's code, ``{train,val,test}/audio/<stem>_hex.wav`` and ``{train,val,test}/labels/<stem>.jams``.

The paper's code reads the pickup of six channels ("hex") and takes their mean; a recording as others know it is that of
the microphone ("mic").

``write_excerpt`` writes open stand-ins in the published layout.

Sources: Xi et al., "GuitarSet", ISMIR 2018, Section 3; Les & Wozniak, 2023, Section 4.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import jams
import numpy as np

from .. import files
from ..errors import DuetError
from .recordings import (
    AUDIO,
    VELOCITY,
    Corpus,
    Notes,
    Recording,
    Split,
    check_notes,
    duration,
    find_files,
    ordered,
    pair,
    parts,
    tidy,
    write_audio,
)

STRINGS = 6  # from low E
#: microphone -> folder named like its archive; files end in _<microphone>
MICROPHONES = {
    "hex": "audio_hex-pickup_original",
    "hex_cln": "audio_hex-pickup_debleeded",
    "mic": "audio_mono-mic",
    "mix": "audio_mono-pickup_mix",
}
_NAMESPACES = ("note_midi", "pitch_midi")  # the second in old releases
_STEM = re.compile(r"(?P<player>\d\d)_(?P<piece>[A-Za-z]+\d-[\d.]+-[^_]+_(?:comp|solo))")
_AUDIO = re.compile(r"(?P<stem>.+?)_(?P<microphone>hex_cln|hex|mic|mix)")
_RESTORE = "restore it from GuitarSet's annotation.zip"


def parse(stem: str) -> tuple[str, str] | None:
    """(piece, player): ``00_BN1-129-Eb_comp`` is ("BN1-129-Eb_comp", "00"); None for a name of another form."""
    match = _STEM.fullmatch(stem)
    return (match["piece"], match["player"]) if match else None


class GuitarSet(Corpus):
    """A tree in GuitarSet layout and the audio of one microphone, read lazily.

    Raises DuetError where ``root`` is missing, holds no excerpt, or none of this microphone.
    """

    NAME = "GuitarSet"

    def __init__(self, root: str | Path, microphone: str = "mic"):
        if microphone not in MICROPHONES:
            raise DuetError(f"unknown microphone {microphone!r}", remedy=f"one of {', '.join(MICROPHONES)}")
        root, self.microphone = Path(root), microphone
        audio: dict[str, dict[str, Path]] = {kind: {} for kind in MICROPHONES}
        labels: dict[str, Path] = {}
        for path in find_files(root, (*AUDIO, ".jams")):
            match = _AUDIO.fullmatch(path.stem)
            if path.suffix.lower() == ".jams" and parse(path.stem):
                labels.setdefault(path.stem, path)
            elif path.suffix.lower() in AUDIO and match and parse(match["stem"]):
                audio[match["microphone"]].setdefault(match["stem"], path)
        stems, unmatched = pair(audio[microphone], labels)
        if not stems:
            others = [kind for kind in MICROPHONES if labels and audio[kind]]
            raise DuetError(
                f"holds no excerpt of GuitarSet with its notes and audio of {microphone!r}",
                path=root,
                remedy=f"choose microphone {' or '.join(map(repr, others))}, whose audio is here"
                if others
                else f"expected annotation/<stem>.jams and {MICROPHONES[microphone]}/<stem>_{microphone}.wav, "
                "stems like 00_BN1-129-Eb_comp",
            )
        found = {s: Recording(s, audio[microphone][s], labels[s], *parse(s)) for s in stems}
        super().__init__(root, found, unmatched)

    @cached_property
    def fingerprint(self) -> str:
        return files.digest(super().fingerprint, self.microphone)

    def strings(self, stem: str) -> list[np.ndarray]:
        """Six arrays (n, 3), from low E: onset and offset in seconds and fractional MIDI pitch, as annotated.

        Raises DuetError for a file that is no JAMS, or without notes, or with a note or string that cannot be.
        """
        path = self.recording(stem).labels
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            # without the pitch contours, which are nearly all of the file and take a second to read
            content["annotations"] = [a for a in content["annotations"] if a["namespace"] in _NAMESPACES]
            found = jams.JAMS(**content).annotations
            rows = [
                (str(a.annotation_metadata.data_source), o.time, o.time + o.duration, o.value)
                for a in found
                for o in a.data
            ]
            table = np.array([row[1:] for row in rows], float).reshape(-1, 3)
        except Exception as error:  # it hands on whatever JSON, pandas and Python raise on damaged files
            raise DuetError(
                f"is not readable JAMS: {type(error).__name__} {error}", path=path, remedy=_RESTORE
            ) from None
        if not found:
            raise DuetError("has no note annotation", path=path, remedy=_RESTORE)
        if strange := sorted({row[0] for row in rows} - {str(i) for i in range(STRINGS)}):
            raise DuetError(f"has notes of a string {strange[0]!r}, not 0 to 5", path=path, remedy=_RESTORE)
        check_notes(_rounded(table), path)
        string = np.array([int(row[0]) for row in rows])
        table, string = table[order := np.argsort(table[:, 0], kind="stable")], string[order]
        return [table[string == i] for i in range(STRINGS)]

    def split(self, player: str = "05", validation: str = "04") -> Split:
        """The test is what one player plays, validation what another one does.

        All play the same pieces, so that it is the player, guitar in hand, who is new in the test.
        Raises DuetError for a player who is not there, and where nobody is left.
        """
        players = sorted({r.group for r in self.recordings.values()})
        for each in (player, validation):
            if each not in players or player == validation:
                raise DuetError(
                    f"cannot test on player {player!r} and validate on {validation!r}",
                    path=self.root,
                    remedy=f"choose two of {', '.join(players)}",
                )
        by = {p: [s for s, r in self.recordings.items() if r.group == p] for p in players}
        training = [s for p in players if p not in (player, validation) for s in by[p]]
        return ordered(training, by[validation], by[player], self.root)

    def split_random(self, seed: int = 33) -> Split:
        """The paper's protocol: 80 % of the excerpts, and halves of the rest, players and pieces mixed.

        In the tree of the paper's code it is the folders that count.  Elsewhere it is drawn here: the paper drew its
        80 % with seed 33 and its halves without one, so that nobody can have the same excerpts again.
        Raises DuetError where a side has no excerpt.
        """
        if folders := parts(self.recordings.values(), self.root):
            return ordered(*folders, self.root)
        stems = list(self.recordings)
        shuffled = [stems[i] for i in np.random.default_rng(seed).permutation(len(stems))]
        first = round(0.8 * len(stems))
        second = first + (len(stems) - first) // 2
        return ordered(shuffled[:first], shuffled[first:second], shuffled[second:], self.root)

    def _tidied(self, stem: str) -> tuple[Notes, list[str]]:
        """Pitches rounded to the semitone, the strings together; faults are those within a string."""
        length = duration(self.recording(stem).audio)
        tidied, messages = [], []
        for number, string in enumerate(self.strings(stem)):
            notes, faults = tidy(_rounded(string), length)
            tidied.append(notes)
            messages += [f"string {number}: {fault}" for fault in faults]
        return tidy(np.concatenate(tidied))[0], messages


def _rounded(string: np.ndarray) -> Notes:
    return np.column_stack([string[:, :2], np.round(string[:, 2]), np.full(len(string), VELOCITY)])


def write_excerpt(
    root: str | Path, stem: str, strings: Sequence[np.ndarray], audio: Mapping[str, np.ndarray], rate: int
) -> Path:
    """Write ``annotation/<stem>.jams`` and, last, a WAV for each microphone of ``audio``; the JAMS file is returned.

    ``strings`` are six arrays (n, 3) of onset and offset in seconds and fractional MIDI pitch, from low E.  ``audio``
    is (samples,), of "hex" and "hex_cln" (samples, 6), at ``rate`` Hz.
    """
    if parse(stem) is None or len(strings) != STRINGS or not audio or set(audio) - set(MICROPHONES):
        raise ValueError(f"{stem!r}, {len(strings)} strings, {sorted(audio)} are no excerpt of GuitarSet")
    length = len(next(iter(audio.values()))) / rate
    excerpt = jams.JAMS(
        file_metadata=jams.FileMetadata(
            title=stem, artist=parse(stem)[1], duration=length, jams_version=jams.__version__
        )
    )
    for number, string in enumerate(strings):
        annotation = jams.Annotation("note_midi", time=0, duration=length)
        annotation.annotation_metadata = jams.AnnotationMetadata(data_source=str(number))
        for onset, offset, pitch in string.tolist():
            annotation.append(time=onset, duration=offset - onset, value=pitch, confidence=None)
        excerpt.annotations.append(annotation)
    path = Path(root) / "annotation" / f"{stem}.jams"
    files.write_text(path, excerpt.dumps(indent=1) + "\n")
    for kind, samples in audio.items():
        write_audio(Path(root) / MICROPHONES[kind] / f"{stem}_{kind}.wav", samples, rate)
    return path
