"""What the corpora look and sound like: one of each layout, and its parts as pictures and sound."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from . import features, studies, synthesis, transcription
from .corpora import primus
from .corpora.guitarset import GuitarSet
from .corpora.maps import Maps
from .corpora.msmd import Msmd
from .corpora.mtd import Mtd
from .corpora.primus import BuildSettings, Primus
from .errors import DuetError
from .synthesis import Played

#: The public layouts: what reads them, which study, and what its items are called
LAYOUTS = {
    "PrIMuS": (Primus, "transfer_learning", "incipits"),
    "MSMD": (Msmd, "alignment", "pieces"),
    "MAPS": (Maps, "synthetic_pretraining", "recordings"),
    "GuitarSet": (GuitarSet, "synthetic_pretraining", "recordings"),
    "MTD": (Mtd, "ctc_chroma", "themes"),
}

#: What each corpus is, by how its name begins in the tables
CORPORA = {
    "RISM incipits": "Openings of works that RISM catalogues, engraved by Verovio, distorted as a camera would, played "
    "on a piano of a SoundFont. A stand-in for Camera-PrIMuS.",
    "music21 ryansMammoth": "Two bars at a time of fiddle tunes that come with music21, engraved, distorted and played "
    "in the same way. A stand-in for Camera-PrIMuS.",
    "Camera-PrIMuS": "The paper's own data: incipits as a camera sees them, with their tokens.",
    "MSMD rebuilt from Mutopia": "MSMD's own pieces, engraved anew by LilyPond from Mutopia's sources, so that every "
    "notehead knows its onset, and played by SoundFonts and a sampled piano.",
    "music21 scores": "Quartets and chorales as keyboard reductions and tunes set for two hands by rule, all from "
    "music21, engraved by Verovio and played by several instruments. A stand-in for MSMD.",
    "own scores": "Scores of your own, engraved and played as the stand-ins are.",
    "MSMD": "MSMD itself: pages of piano music engraved by LilyPond, with rendered performances.",
    "Synthesized Instruments": "Notes that synthesisers play, for training: many programs of several SoundFonts, or "
    "the two programs of the paper.",
    "MAPS stand-in": "Piano music with pedal and dynamics, played by instruments that no training sound uses, in "
    "rooms. A stand-in for MAPS.",
    "MAPS": "MAPS itself: software pianos for training, recordings of a real piano for the test. Your own copy.",
    "GuitarSet stand-in": "A seeded guitarist, string by string, with strums and overlapping strings, on instruments "
    "that no training sound uses. A stand-in for GuitarSet.",
    "GuitarSet": "GuitarSet itself: recordings of six guitarists with notes by string. Your own copy.",
    "OpenScore and Polish piano music": "Quartets, songs and piano music played by SoundFonts with tempo curves, in "
    "rooms, slightly out of tune; themes are lines that are really in the texture. A stand-in for MTD and its discs.",
    "music21": "Quartet movements and chorales from music21, played in the same way. A stand-in for MTD and its discs.",
    "MTD": "MTD itself: themes, and the recordings or excerpts in which they sound.",
}

BLUE, RED = (20, 110, 230), (210, 40, 30)
STRIPE = 8  # rows of a string in its picture, the last one white


def describe(name: str) -> str:
    """What a corpus is, or the corpora that a name lists; a data set that is not known is the user's own."""
    known = [text for key, text in CORPORA.items() if re.search(rf"(?:^|; ){re.escape(key)}(?=$|[;,]| \()", name)]
    return " ".join(known) or "A data set of your own."


def corpus(layout: str, preset: str, root: str = "", progress: bool = False):
    """The reader of ``root``, or of the open corpus that a preset of the layout's study takes, built on first use.

    Raises DuetError for an unknown layout or preset, for a preset that has only the paper's own data, and where the
    reader or the builder does.
    """
    if layout not in LAYOUTS:
        raise DuetError(f"unknown layout {layout!r}", remedy=f"one of {', '.join(LAYOUTS)}")
    reader, key, _ = LAYOUTS[layout]
    if root:
        return reader(root)
    module = studies.get(key)
    if preset not in module.PRESETS:
        raise DuetError(f"unknown preset {preset!r}", remedy=f"one of {', '.join(module.PRESETS)}")
    p = module.PRESETS[preset]
    if layout in ("MAPS", "GuitarSet"):
        kind = {"MAPS": "piano", "GuitarSet": "guitar"}[layout]
        wanted = module.experiment.open_set(preset, kind) if p.sizes else None
    else:
        wanted = p.corpus
    if wanted is None:
        raise DuetError(
            f"the preset {preset} has no open corpus in {layout} layout", remedy="name a folder of your own"
        )
    return wanted.build(progress=progress)


def summary(corpora: Mapping[str, object]) -> pd.DataFrame:
    """A row for each corpus (by layout): its name, how much there is of it, and what it is."""
    rows = []
    for layout, own in corpora.items():
        name = own.description["name"]
        items = next(getattr(own, part) for part in ("ids", "pieces", "recordings") if hasattr(own, part))
        rows.append((layout, name, f"{len(items):,} {LAYOUTS[layout][2]}", describe(name)))
    return pd.DataFrame(rows, columns=["layout", "corpus", "how much", "what it is"])


def staff(own: Primus, identity: str) -> dict[str, np.ndarray]:
    """Caption -> (rows, columns) uint8, 255 = paper: an incipit as engraved and, where it was, as photographed."""
    kinds = {"engraved": own.image_path(identity, False), "photographed": own.image_path(identity, True)}
    return {kind: features.read_image(path) for kind, path in kinds.items() if path.exists()}


def incipit_sound(own: Primus, identity: str) -> np.ndarray:
    """(samples,) at 22,050 Hz: an incipit's tokens, played as its corpus plays them."""
    settings = own.description.get("settings")
    return primus.play(own.tokens(identity), BuildSettings(**settings) if settings else BuildSettings.installed())


def marked_page(own: Msmd, piece: str, page: int = 0) -> np.ndarray:
    """(rows, 835, 3) uint8: a page with a blue box around each system and a red cross on each notehead."""
    image = np.repeat(own.pages(piece)[page][:, :, None], 3, axis=2)
    rows, columns = image.shape[:2]
    for top, left, bottom, right in own.systems(piece)[page]:
        up, down = np.clip([int(top), int(bottom)], 0, rows - 1)
        first, last = np.clip([int(left), int(right)], 0, columns - 1)
        image[[up, down], first : last + 1] = image[up : down + 1, [first, last]] = BLUE
    heads = own.noteheads(piece)
    for head in heads[heads["page"] == page]:
        row, column = round(float(head["row"])), round(float(head["column"]))
        image[row, max(0, column - 4) : column + 5] = RED
        image[max(0, row - 4) : row + 5, column] = RED
    return image


def performed(own: Msmd, piece: str, performance: str, seconds: float) -> np.ndarray:
    """(samples,) at 22,050 Hz: the first seconds of a performance, played from its notes: the layout has no audio.

    Raises DuetError where no note begins in them.
    """
    notes = own.notes(piece, performance)
    played = [
        Played(float(onset), float(min(length, seconds - onset)), int(pitch), int(velocity))
        for onset, pitch, length, velocity, _ in notes
        if onset < seconds
    ]
    return synthesis.synthesise(played, synthesis.available_soundfont())


def theme_sound(own: Mtd, identity: str) -> np.ndarray:
    """(samples,) at 22,050 Hz: a theme's notes as notated, on a piano."""
    played = [Played(float(start), float(length), int(pitch)) for start, length, pitch in own.notes(identity)]
    return synthesis.synthesise(played, synthesis.available_soundfont())


def note_panels(audio: np.ndarray, notes: np.ndarray) -> dict[str, np.ndarray]:
    """Caption -> (rows, frames of 32 ms): what a transcriber reads of audio at 16 kHz, and the keys that sound.

    ``notes`` (n, 4) as the readers of MAPS and GuitarSet give them.
    """
    values = transcription.spectrogram(transcription.level(audio))
    sounding, _ = transcription.targets(notes, len(values))
    return {"constant-Q transform, two bins a semitone": transcription.fixed_range(values).T, "its notes": sounding.T}


def strings_panel(own: GuitarSet, stem: str, frames: int) -> np.ndarray:
    """(6 strings x 8 rows, frames of 32 ms): a stripe for each string, the low E below, dark where a note sounds."""
    picture = np.zeros((6 * STRIPE, frames))
    for number, notes in enumerate(own.strings(stem)):
        for onset, offset, _ in notes:
            on, off = round(onset / transcription.FRAME), round(offset / transcription.FRAME)
            picture[number * STRIPE : (number + 1) * STRIPE - 1, on : max(on + 1, off)] = 1
    return picture
