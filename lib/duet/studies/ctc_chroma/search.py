"""People's own themes and recordings: a theme typed or read from a file, sought in a collection or a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import pretty_midi

from ... import dtw, features, harmonic, scores
from ...errors import DuetError
from ...models import chroma
from ...runs import Grid
from ...training import load_into, read_about, save_weights
from .experiment import NETWORKS, RATE, Chroma, notated_end, query_chroma

AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".aif", ".aiff")
BEAT = 0.5  # seconds of a quarter where no tempo is given: 120 a minute
TEMPI = (0.7, 1.0, 1.4)  # a theme's own tempo is a guess: each of these allows half to double of it


def theme_from_names(text: str) -> np.ndarray:
    """(n, 3) starts and durations in seconds, MIDI pitches, of names such as ``"R:0.5 G4:0.5 G4:0.5 G4:0.5 Eb4:2"``.

    A number after a colon is a duration in quarters, 1 where there is none; ``R`` is a rest; the octave is 4 where
    there is none.  Raises DuetError for anything else, and for a theme without notes.
    """
    notes, time = [], 0.0
    for word in text.split():
        name, _, length = word.partition(":")
        try:
            duration = BEAT * (float(length) if length else 1.0)
            pitch = (
                None if name.upper() == "R" else int(librosa.note_to_midi(name if name[-1].isdigit() else f"{name}4"))
            )
        except (ValueError, IndexError, librosa.ParameterError):
            duration = -1.0
        if not 0 < duration < np.inf:
            raise DuetError(
                f"{word!r} is no note", remedy="write notes such as C4, F#5:0.5 or R:2, spaces between them"
            )
        if pitch is not None:
            notes.append((time, duration, pitch))
        time += duration
    return _checked(np.array(notes).reshape(-1, 3))


def theme_from_file(path: str | Path) -> np.ndarray:
    """(n, 3) start and duration in seconds, MIDI pitch, of a MIDI file, or of a score's top line.

    Where notes of a MIDI file sound together the highest counts.  Raises DuetError for a damaged file or one without
    notes.
    """
    path = Path(path)
    if path.suffix.lower() in (".mid", ".midi"):
        try:
            midi = pretty_midi.PrettyMIDI(str(path))
        except FileNotFoundError:
            raise DuetError("no such MIDI file", path=path, remedy="check the name") from None
        except Exception as error:  # its parser raises whatever a damaged byte leads to
            raise DuetError(f"is not readable MIDI: {error}", path=path, remedy="export it again") from None
        found = [(n.start, n.end - n.start, n.pitch) for i in midi.instruments if not i.is_drum for n in i.notes]
        return _checked(_top(np.array(found).reshape(-1, 3)), path)
    score = scores.read(path)
    tempo = score.tempi[0][1] if score.tempi else 60 / BEAT
    melody = next((line for line in scores.voices(score) if line.kind == "melody"), None)
    found = [(60 / tempo * n.onset, 60 / tempo * n.duration, n.pitch) for n in melody.notes] if melody else []
    return _checked(np.array(found).reshape(-1, 3), path)


def read_theme(text: str) -> np.ndarray:
    """(n, 3) of note names or, where a file has that name or ending, of a MIDI or MusicXML file."""
    is_file = Path(text).suffix.lower() in (".mid", ".midi", *scores.FORMATS)
    return theme_from_file(text) if is_file else theme_from_names(text)


def _top(notes: np.ndarray) -> np.ndarray:
    """The highest of what sounds together, in order: what begins under a higher note is left out, what a higher one
    begins over ends there.
    """
    kept: list[list[float]] = []
    for start, duration, pitch in notes[np.lexsort((-notes[:, 2], notes[:, 0]))]:
        if kept and start < sum(kept[-1][:2]) - 1e-3:
            if pitch <= kept[-1][2]:
                continue
            kept[-1][1] = start - kept[-1][0]
        kept.append([start, duration, pitch])
    return np.array(kept).reshape(-1, 3)


def _checked(notes: np.ndarray, path: Path | None = None) -> np.ndarray:
    if not len(notes):
        raise DuetError("the theme has no notes", path=path, remedy="give at least one note")
    return notes


@dataclass(frozen=True)
class Hit:
    """Where a theme was found: seconds from ``start`` to ``end`` of a document, the mean cost of its frames.

    ``shift`` semitones up is how the theme sounds there, where keys were searched.
    """

    document: str
    start: float
    end: float
    cost: float
    shift: int = 0


@dataclass
class Finder:
    """A trained network that makes chroma of recordings and finds themes in it."""

    model: chroma.ChromaNet

    @classmethod
    def load(cls, path: Path) -> Finder:
        """From a safetensors file: one of this study's, or a released checkpoint that was converted.

        Raises DuetError for a file of another network.
        """
        model = NETWORKS.get(read_about(path).get("network", ""), NETWORKS["paper"])()
        load_into(model, path)
        return cls(model.float().eval())

    def chroma(self, hcqt: np.ndarray) -> np.ndarray:
        """(12, frames) chroma of an HCQT (frames, 6, 216), at 25 Hz."""
        return chroma.features_of(self.model, hcqt)

    def folder(self, folder: str | Path) -> tuple[Chroma, list[str]]:
        """Chroma of every recording in a folder, by its path, and why others were left out.

        Raises DuetError where there is no recording at all.
        """
        found: Chroma = {}
        skipped: list[str] = []
        for path in sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in AUDIO):
            try:
                found[str(path)] = self.chroma(harmonic.hcqt(features.read_audio(path)))
            except DuetError as error:
                skipped.append(str(error))
        if not found:
            why = f": {skipped[0]}" if skipped else ""
            raise DuetError(f"holds no recording that can be read{why}", path=folder, remedy=f"give {', '.join(AUDIO)}")
        return found, skipped


def find(
    notes: np.ndarray, documents: Mapping[str, np.ndarray], count: int = 5, any_key: bool = False
) -> tuple[list[Hit], list[str]]:
    """The best hits of a theme (n, 3) in the chroma of ``documents`` (12, frames), one or more a document, best first.

    The theme's own tempo, and 0.7 and 1.4 times it, are tried, ``any_key`` all transpositions too.  The second list
    says why documents were left out: features that are no numbers, or silence.  Hits in one document share no frame.
    """
    names, shifts = list(documents), range(-5, 7) if any_key else (0,)
    queries = {
        (tempo, shift): query_chroma(notes, notated_end(notes) * tempo, RATE, shift)
        for tempo in TEMPI
        for shift in shifts
    }
    found = dtw.search(list(queries.values()), [documents[name] for name in names])
    skipped = [f"{names[number]}: {reason}" for number, reason in found.skipped]
    handicap = np.array([1e-6 * (tempo != 1) for tempo, _ in queries])  # of tempi that fit equally well, the theme's
    best = np.argsort(found.distances.min(0), kind="stable")
    hits: list[Hit] = []
    for column in best[:count]:
        row = int((found.distances[:, column] + handicap).argmin())
        if not np.isfinite(found.distances[row, column]):
            break
        query, shift = list(queries.values())[row], list(queries)[row][1]
        for match in dtw.matches(query, documents[names[column]], count=count):
            hits.append(Hit(names[column], match.start / RATE, (match.end + 1) / RATE, match.cost, shift))
    return sorted(hits, key=lambda hit: hit.cost)[:count], skipped


def hit_table(hits: Sequence[Hit]) -> pd.DataFrame:
    """Hits as people read them."""
    columns = ["document", "start", "end", "cost", "shift"]
    return pd.DataFrame([asdict(hit) for hit in hits], columns=columns).round({"start": 1, "end": 1, "cost": 3})


def ship(grid: Grid) -> list[Path]:
    """Publish the first seed's CTC networks in half precision beside the tables, one a fold.

    Nothing is published of a run whose weights are not on this machine.
    """
    shipped = []
    for name, run in grid.runs.items():
        if run.core and run.config.method == "ctc" and not run.config.seed and grid.weights(name).exists():
            target = grid.folder / "weights" / f"{re.sub(r'-s0$', '', name)}.safetensors"
            save_weights(Finder.load(grid.weights(name)).model.half(), target, read_about(grid.weights(name)))
            shipped.append(target)
    return shipped


def weights_for(grid: Grid, fold: int) -> Path:
    """The published weights for a test fold where there are any, else this preset's own."""
    shipped = grid.folder / "weights" / f"ctc-f{fold}.safetensors"
    return shipped if shipped.exists() else grid.weights(f"ctc-f{fold}-s{grid.study.PRESETS[grid.preset].seeds[0]}")


def audio_of(path: str | Path, hit: Hit) -> np.ndarray:
    """(samples,) float32 at 22,050 Hz of a hit in a recording."""
    audio = features.read_audio(path)
    return audio[int(hit.start * features.SAMPLE_RATE) : int(hit.end * features.SAMPLE_RATE)]
