"""Two passages to look at: stand-ins for the recordings of Figures 3 and 4, or the reader's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import librosa
import music21
import numpy as np
import torch

from ... import features, harmonic, scores, source_filter
from ...models import chroma
from ...performance import nominal_map
from ...synthesis import Played, available_soundfont, synthesise
from .experiment import SOURCE_FILTER, frame_pitches, notated_end, pitch_classes


@dataclass(frozen=True)
class Passage:
    """A theme, (n, 3) of start, duration in seconds and MIDI pitch, and a sound in which it is played.

    The theme's frames are known where the sound was rendered from the notes; in a reader's own recording they are not.
    """

    name: str
    theme: np.ndarray
    audio: np.ndarray
    rendered: bool = True

    def off_theme(self, values: np.ndarray) -> float | None:
        """Share of the energy of chroma (12, frames) outside the sounding theme; None where that is not known."""
        if not self.rendered:
            return None
        frames = round(notated_end(self.theme) * harmonic.RATE)
        classes = pitch_classes(frame_pitches(self.theme, notated_end(self.theme), frames))
        sounding = np.flatnonzero(classes < 12)
        return float(1 - (values[classes[sounding], sounding] ** 2).mean())


def opus_67(recording: str = "") -> Passage:
    """Figure 3: the opening of Beethoven's Symphony No. 5, strings in three octaves."""
    eighth = 60 / 108 / 4
    rhythm = ((1, 1, 67), (2, 1, 67), (3, 1, 67), (4, 8, 63), (13, 1, 65), (14, 1, 65), (15, 1, 65), (16, 16, 62))
    theme = np.array([(start * eighth, length * eighth, pitch) for start, length, pitch in rhythm])
    played = [Played(s, 0.92 * d, int(p) + octave) for s, d, p in theme for octave in (0, -12, -24)]
    return _passage("Beethoven, op. 67, opening", theme, played, 48, recording)


def k_545(recording: str = "") -> Passage:
    """Figure 4's stand-in: the opening of Mozart's K. 545, a melody above broken chords, from music21's score."""
    score = scores.read(Path(music21.__file__).parent / "corpus" / "mozart" / "k545" / "movement1_exposition.mxl")
    tempo, end = nominal_map(0, score.end, ((0.0, 120.0),)), score.bars[4]
    melody = next(line for line in scores.voices(score) if line.kind == "melody")

    def seconds(notes) -> list[tuple[float, float, int]]:
        return [
            (tempo.to_seconds(n.onset), tempo.to_seconds(n.end) - tempo.to_seconds(n.onset), n.pitch) for n in notes
        ]

    theme = np.array(seconds(n for n in melody.notes if n.onset < end), float)
    played = [Played(*one) for one in seconds(n for n in score.notes if n.onset < end and not n.grace)]
    return _passage("Mozart, K. 545, opening", theme, played, 0, recording)


def _passage(name: str, theme: np.ndarray, played: list[Played], program: int, recording: str) -> Passage:
    if recording:
        return Passage(f"{name}: {Path(recording).name}", theme, features.read_audio(recording), rendered=False)
    return Passage(name, theme, synthesise(played, available_soundfont(), program))


def views(passage: Passage, model: chroma.ChromaNet, settings: str) -> dict[str, np.ndarray]:
    """Caption -> (rows, frames) at 25 Hz: HCQT slice, network output, and the chroma of every method."""
    hcqt = harmonic.hcqt(passage.audio)
    with torch.inference_mode():
        logits = model(torch.from_numpy(harmonic.normalise_columns(hcqt))[None])[0]
    chosen = SOURCE_FILTER[settings]
    sound = librosa.resample(passage.audio, orig_sr=features.SAMPLE_RATE, target_sr=chosen.sample_rate)
    return {
        "HCQT, first harmonic": hcqt[:, harmonic.HARMONICS.index(1)].T / 255,
        "chroma of the constant-Q transform": harmonic.plain_chroma(hcqt),
        "C_BG1": source_filter.bg1_chroma(sound, chosen),
        "output of the network: twelve labels and epsilon": chroma.probabilities(logits).T.numpy(),
        "C_CTC": chroma.chroma_features(logits).numpy(),
    }
