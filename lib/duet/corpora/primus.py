"""PrIMuS and Camera-PrIMuS: monophonic incipits as images, tokens and, when rendered, audio.

On disk one folder per incipit, ``<root>/<id>/<id>.png`` (clean), ``<id>_distorted.jpg`` (camera),
``<id>.semantic``, ``<id>.mei``; audio as ``<id>.wav`` or ``<id>.flac`` beside them.  The reader takes the trees
as they are published: Camera-PrIMuS (``Corpus/<id>``, 87,678 incipits), PrIMuS (``package_aa/<id>`` and
``package_ab/<id>``) and a flat folder of ids.  The published corpora have no audio and no licence of
redistribution: :func:`render_audio` plays the tokens, and the builder below writes open stand-ins in the same
layout, from RISM incipits (CC BY 3.0) or from the tunes inside music21.

Sources: Calvo-Zaragoza & Rizo, "Camera-PrIMuS", ISMIR 2018; Alfaro-Contreras et al., SMC 2022, Section 3.1.
"""

from __future__ import annotations

import io
import json
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import music21
import numpy as np
import soundfile
from PIL import Image

from .. import engraving, files, paths, semantic, synthesis
from ..errors import DuetError
from ..progress import in_parallel

BUILDER_VERSION = 2  # raise it when the same sources and settings give other files
TEMPO = 120  # quarter notes per minute, the MIDI default that the corpus's own converter leaves in place
_PUBLISHED_FOLDERS = ("Corpus", "package_aa", "package_ab")


@dataclass(frozen=True)
class BuildSettings:
    """How incipits become files.  Part of the fingerprint."""

    soundfont: str = "fluidr3"
    program: int = 0  # General MIDI, 0 = grand piano
    velocity: int = 90
    tempo: int = TEMPO
    reverb: bool = False
    engine: str = "fluidsynth"

    @classmethod
    def installed(cls) -> BuildSettings:
        """With the synthesiser and the SoundFont that this machine has."""
        return cls(soundfont=synthesis.available_soundfont(), engine=synthesis.engine())


# -- reading -----------------------------------------------------------------------------------------------------------


class Primus:
    """A corpus in PrIMuS or Camera-PrIMuS layout, read lazily; ``playing`` is how it sounds where it has no audio.

    Raises DuetError where ``root`` is missing or is no such tree.
    """

    def __init__(self, root: str | Path, playing: BuildSettings | None = None):
        self.root, self.playing = Path(root), playing or BuildSettings()
        if not self.root.is_dir():
            raise DuetError(
                "no such corpus folder", path=self.root, remedy="give the folder that Camera-PrIMuS unpacks to"
            )
        parents = [self.root / f for f in _PUBLISHED_FOLDERS if (self.root / f).is_dir()] or [self.root]
        self._folders = {
            entry.name: Path(entry.path)
            for parent in parents
            for entry in os.scandir(parent)
            if entry.is_dir() and not entry.name.startswith(".")
        }
        kinds = (".semantic", ".png")
        if not any((folder / f"{name}{kind}").exists() for name, folder in self._folders.items() for kind in kinds):
            raise DuetError(
                "is not laid out like PrIMuS",
                path=self.root,
                remedy="expected <root>/<id>/<id>.semantic, or Corpus/<id>/..., or package_aa/<id>/...",
            )

    @cached_property
    def description(self) -> dict:
        """``corpus.json`` of a corpus that this library built; of a published one just its name."""
        path = self.root / "corpus.json"
        return files.read_object(path) if path.exists() else {"name": "Camera-PrIMuS", "stand_in": False}

    @cached_property
    def ids(self) -> list[str]:
        """Every incipit's id, ordered."""
        return sorted(self._folders)

    @cached_property
    def fingerprint(self) -> str:
        """What a run's id depends on.

        Sources and settings of a corpus that this library built; of a published one the ids and tokens, whether the
        camera's pictures are there, and how it is played.
        """
        if "fingerprint" in self.description:
            return self.description["fingerprint"]
        parts = (part for i in self.ids for part in (i, "\t".join(self.tokens(i))))
        return files.digest(str(self.playing), str(self.image_path(self.ids[0]).exists()), *parts)

    def folder(self, identity: str) -> Path:
        if identity not in self._folders:
            raise DuetError(
                f"has no incipit {identity!r}",
                path=self.root,
                remedy="use the id lists that belong to this corpus, or unpack all of its archives",
            )
        return self._folders[identity]

    def tokens(self, identity: str) -> list[str]:
        """Tokens of the semantic encoding."""
        return semantic.read_tokens(self.folder(identity) / f"{identity}.semantic")

    def image_path(self, identity: str, distorted: bool = True) -> Path:
        return self.folder(identity) / f"{identity}{'_distorted.jpg' if distorted else '.png'}"

    def audio_path(self, identity: str) -> Path:
        """The clip beside the image, else where :func:`render_audio` puts it."""
        beside = [self.folder(identity) / f"{identity}{suffix}" for suffix in (".flac", ".wav")]
        return next((p for p in beside if p.exists()), _rendered(self, identity))

    def source(self, identity: str) -> str:
        """The record an incipit was taken from: the text before the first ``-``.  Splits never divide a record."""
        return identity.split("-", 1)[0]


def read_ids(path: str | Path) -> list[str]:
    """Ids of a published list, one a line, in order.  Raises DuetError for an empty or missing list."""
    try:
        ids = Path(path).read_text().split()
    except (OSError, UnicodeDecodeError):
        raise DuetError(
            "no such id list, or not text", path=path, remedy="`make corpora` fetches the published lists"
        ) from None
    if not ids:
        raise DuetError("the id list is empty", path=path, remedy="`make corpora` fetches the published lists")
    return ids


def published_fold(folder: str | Path, fold: int = 0) -> dict[str, list[str]]:
    """``train``, ``validation``, ``test`` ids of one of the SMC 2022 paper's five folds (13,371 / 4,457 / 4,457)."""
    names = {"train": "train", "validation": "val", "test": "test"}
    return {part: read_ids(Path(folder) / f"{name}_gt_fold{fold}.dat") for part, name in names.items()}


def split_by_source(
    corpus: Primus, ids: Sequence[str], validation: int, test: int, seed: int = 0
) -> dict[str, list[str]]:
    """Disjoint ``train``, ``validation`` and ``test`` ids such that no record stands in two of them.

    Records are shuffled and dealt to test, then to validation, until each has at least its number of incipits; the
    rest is training, in shuffled order, so that its first N are a random nested subset.
    Raises DuetError when nothing is left for training.
    """
    rng = np.random.default_rng(seed)
    by_source: dict[str, list[str]] = {}
    for identity in sorted(ids):
        by_source.setdefault(corpus.source(identity), []).append(identity)
    sources = sorted(by_source)
    rng.shuffle(sources)
    parts: dict[str, list[str]] = {"test": [], "validation": [], "train": []}
    for source in sources:
        part = (
            "test" if len(parts["test"]) < test else "validation" if len(parts["validation"]) < validation else "train"
        )
        parts[part] += by_source[source]
    if not all(parts.values()):
        raise DuetError(
            f"{len(ids)} incipits of {len(sources)} records leave nothing for training",
            path=corpus.root,
            remedy="take a larger corpus or smaller validation and test parts",
        )
    parts["train"] = [parts["train"][i] for i in rng.permutation(len(parts["train"]))]
    return parts


# -- building ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Incipit:
    """What the builder starts from: an id that begins with its record, and MEI as engraved."""

    id: str
    mei: str
    tokens: tuple[str, ...]


def rism_records(folder: str | Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(id, {clef, keysig, timesig, data}) of every incipit with clef and notes in a folder of MARCXML records.

    The id is ``<record>-<a>_<b>_<c>`` as in PrIMuS: field 001, and the incipit's number in field 031.
    """
    subfields = {"g": "clef", "n": "keysig", "o": "timesig", "p": "data"}
    paths = sorted(Path(folder).rglob("*.xml"))
    if not paths:
        raise DuetError("holds no MARCXML record", path=folder, remedy="`make corpora` fetches the open scores")
    for path in paths:
        record = ""
        try:
            for _, element in ElementTree.iterparse(path):
                tag = element.tag.rsplit("}", 1)[-1]
                if tag == "controlfield" and element.get("tag") == "001":
                    record = element.text
                elif tag == "datafield" and element.get("tag") == "031":
                    content = {s.get("code"): (s.text or "").strip() for s in element}
                    if content.get("g") and content.get("p"):
                        number = "_".join(content.get(c, "1") for c in "abc")
                        yield f"{record}-{number}", {name: content.get(code, "") for code, name in subfields.items()}
                elif tag == "record":
                    element.clear()
        except ElementTree.ParseError as error:
            raise DuetError(
                f"is not well-formed XML: {error}", path=path, remedy="`make corpora` fetches it again"
            ) from None


def rism_incipits(folder: str | Path) -> list[Incipit]:
    """Incipits the semantic encoding can say: one voice, no chords or tuplets, Verovio reads them without a warning."""
    incipits, seen = [], set()
    for identity, code in rism_records(folder):
        if not code["timesig"] or identity in seen:
            continue
        seen.add(identity)
        try:
            mei = engraving.mei_from_pae(**code)
            incipits.append(Incipit(identity, mei, tuple(semantic.tokens_from_mei(mei))))
        except DuetError:
            continue  # chords, tuplets, mensural notation: counted by the difference to rism_records
    return without_near_duplicates(incipits)


def music21_tunes(
    collection: str = "ryansMammoth", tunes: int | None = None, bars: int = 2, windows: int = 4
) -> list[Incipit]:
    """Windows of ``bars`` bars from the tunes in music21's corpus, ``windows`` at most from each tune.

    The collection is public domain and comes with the package.  Ids are ``<tune>-<first bar>_1_1``.
    """
    folder = Path(music21.__file__).parent / "corpus" / collection
    incipits: list[Incipit] = []
    for path in sorted(folder.glob("*.abc"))[:tunes]:
        try:
            tokens = semantic.tokens_from_abc(path)
        except DuetError:
            continue  # chords and triplets
        for start, window in _windows(tokens, bars)[:windows]:
            incipits.append(Incipit(f"{path.stem}-{start}_1_1", semantic.mei_from_tokens(window), tuple(window)))
    return without_near_duplicates(incipits)


def _windows(tokens: Sequence[str], bars: int) -> list[tuple[int, list[str]]]:
    """(first bar, tokens) of consecutive windows, each opening with the clef, key and metre in force."""
    header = [t for t in tokens[:6] if t.startswith(("clef-", "keySignature-", "timeSignature-"))]
    body, bar = [], []
    for token in tokens[len(header) :]:
        if token.startswith(("clef-", "keySignature-", "timeSignature-")):
            return _pack(header, body, bars)  # a change: what follows would open with the wrong header
        bar.append(token)
        if token == "barline":
            body.append(bar)
            bar = []
    return _pack(header, body, bars)


def _pack(header: list[str], body: list[list[str]], bars: int) -> list[tuple[int, list[str]]]:
    starts = range(0, len(body) - bars + 1, bars)
    windows = [(s + 1, header + [t for b in body[s : s + bars] for t in b]) for s in starts]
    return [(s, w) for s, w in windows if any(t.startswith("note-") for t in w)]


def without_near_duplicates(incipits: Sequence[Incipit], notes: int = 12) -> list[Incipit]:
    """The first of each set of incipits whose opening ``notes`` notes are equal up to transposition.

    Equal are the intervals and the times between onsets, grace notes apart, and the number of these notes.
    """
    kept, seen = [], set()
    for incipit in incipits:
        opening = [n for n in semantic.notes_from_tokens(incipit.tokens) if not n.grace][:notes]
        key = tuple((b.pitch - a.pitch, b.onset - a.onset) for a, b in zip(opening, opening[1:], strict=False))
        if key not in seen:
            seen.add(key)
            kept.append(incipit)
    return kept


def fingerprint(name: str, source_digest: str, settings: BuildSettings) -> str:
    """Hash of the sources and of everything the builder is told; not of rendered bytes."""
    return files.digest(name, source_digest, json.dumps(asdict(settings), sort_keys=True), str(BUILDER_VERSION))


def build(
    root: str | Path,
    incipits: Sequence[Incipit],
    settings: BuildSettings,
    description: dict,
    workers: int | None = None,
    progress: bool = False,
) -> Primus:
    """Write the incipits in Camera-PrIMuS layout and return the corpus.

    Resumable: an incipit whose ``.semantic`` file, the last to be written, is there is done.  ``corpus.json`` with
    ``description`` (name, fingerprint, ...) is written when all are.
    """
    root = Path(root)
    if (root / "corpus.json").exists():
        return Primus(root)
    if not incipits:
        raise DuetError("there are no incipits to build the corpus from", path=root, remedy="check the source folder")
    missing = [i for i in incipits if not (root / i.id / f"{i.id}.semantic").exists()]
    for _ in in_parallel(partial(_build_one, root, settings), missing, "corpus", workers, progress):
        pass
    files.write_json(
        root / "corpus.json",
        {
            **description,
            "items": len(incipits),
            "settings": asdict(settings),
            "layout": "Camera-PrIMuS",
            "stand_in": True,
        },
    )
    return Primus(root)


def _build_one(root: Path, settings: BuildSettings, incipit: Incipit) -> None:
    folder = root / incipit.id
    seed = int.from_bytes(bytes.fromhex(files.digest(incipit.id)[:16]), "big")
    clean, distorted = images(incipit.mei, seed)
    with files.atomic(folder / f"{incipit.id}.png") as path:
        Image.fromarray(clean).save(path, compress_level=1)
    with files.atomic(folder / f"{incipit.id}_distorted.jpg") as path:
        Image.fromarray(distorted).save(path, quality=int(40 + seed % 46))
    audio = play(incipit.tokens, settings)
    _write_audio(folder / f"{incipit.id}.flac", audio)
    files.write_text(folder / f"{incipit.id}.mei", incipit.mei)
    files.write_text(folder / f"{incipit.id}.semantic", semantic.write_tokens(incipit.tokens))


def images(mei: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(clean, distorted), each (rows, columns) uint8: the seed chooses the font and the camera."""
    clean = engraving.staff_image(mei, engraving.FONTS[seed % len(engraving.FONTS)])
    return clean, engraving.photograph(clean, np.random.default_rng(seed))


def play(tokens: Sequence[str], settings: BuildSettings) -> np.ndarray:
    """(samples,) float32 at 22,050 Hz: the notated piece at the fixed tempo, opening rests included."""
    seconds = 60 / settings.tempo
    notes = [
        synthesis.Played(float(n.onset) * seconds, float(n.duration) * seconds, n.pitch, settings.velocity)
        for n in semantic.notes_from_tokens(tokens)
    ]
    return synthesis.synthesise(notes, settings.soundfont, settings.program, reverb=settings.reverb)


def _rendered(corpus: Primus, identity: str) -> Path:
    return paths.cache() / "audio" / corpus.fingerprint[:16] / f"{identity}.flac"


def render_audio(corpus: Primus, ids: Sequence[str], workers: int | None = None, progress: bool = False) -> None:
    """Play the tokens of every id that has no audio into the cache: the published corpora come without."""
    missing = [i for i in ids if not corpus.audio_path(i).exists()]
    jobs = [(_rendered(corpus, i), tuple(corpus.tokens(i))) for i in missing]
    for _ in in_parallel(partial(_render_one, corpus.playing), jobs, "audio", workers, progress):
        pass  # what was written stays, whatever becomes of the rest


def _render_one(settings: BuildSettings, job: tuple[Path, tuple[str, ...]]) -> None:
    _write_audio(job[0], play(job[1], settings))


def _write_audio(path: Path, audio: np.ndarray) -> None:
    encoded = io.BytesIO()  # libsndfile says nothing when a disk is full as it closes a file
    soundfile.write(encoded, audio, synthesis.SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    files.write_bytes(path, encoded.getvalue())


# -- the open corpora --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenCorpus:
    """A stand-in for Camera-PrIMuS, built from open notation.

    ``source`` is "rism" (needs `make corpora` or DUET_SCORES) or a collection of music21's corpus; ``tunes``,
    ``bars`` and ``windows`` concern the latter.
    """

    source: str
    tunes: int | None = None
    bars: int = 2
    windows: int = 4

    @property
    def name(self) -> str:
        return "RISM incipits (open)" if self.source == "rism" else f"music21 {self.source} (open)"

    def build(self, workers: int | None = None, progress: bool = False) -> Primus:
        """The corpus under the cache, built on first use.  Raises DuetError where the sources are not there."""
        settings = BuildSettings.installed()
        if self.source == "rism":
            from . import openscores  # here: it brings libraries for downloads, which reading a corpus does not need

            folder = openscores.require("rism")
            paths_ = sorted(folder.rglob("*.xml"))
            source_digest = files.digest(*(part for p in paths_ for part in (p.name, files.file_digest(p))))
        else:
            source_digest = f"music21 {music21.__version__} {self}"
        identity = fingerprint(self.name, source_digest, settings)
        root = paths.cache() / "corpora" / f"primus-{self.source}-{identity[:12]}"
        if (root / "corpus.json").exists():
            return Primus(root)
        incipits = (
            rism_incipits(folder)
            if self.source == "rism"
            else music21_tunes(self.source, self.tunes, self.bars, self.windows)
        )
        return build(root, incipits, settings, {"name": self.name, "fingerprint": identity}, workers, progress)
