"""People's own folders: which score a recording is of, which recording a score is heard in, and where.

Systems of scores and passages of recordings lie in one space.  A folder is encoded once, file by file, and what became
of each file is kept in the cache; later only new and changed files are read.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ... import files, lilypond, own_files, paths, player
from ...corpora.msmd import Msmd, unroll
from ...errors import DuetError
from ...filterbank import BANDS, FRAMES_PER_SECOND, SAMPLE_RATE
from ...index import Index, OtherModel
from ...models.passage import HALF, PAPER, SNIPPETS, PassageModel
from ...player import Hit
from ...progress import Progress, clock
from ...runs import Grid
from ...training import device, load_into, load_weights, read_about, save_weights
from .grid import KEY
from .passages import audio_snippets, sheet_snippets

VERSION = 1  # raise it when the same file gives other passages: every index is then made again
WINDOW, HOP = 10.0, 5.0  # seconds of a recording's passages, and from one to the next
SHOWN = 50  # hits on a page: each brings its sound, up to 300 kB
SCORES, RECORDINGS = "scores", "recordings"

_AT_ONCE = 16  # passages that are encoded together
_SUFFIXES = {SCORES: own_files.SCORES, RECORDINGS: own_files.RECORDINGS}
_PASSAGE = {SCORES: "system", RECORDINGS: "passage"}
_WIDTHS = {"paper": PAPER, "half": HALF}

# -- the network -------------------------------------------------------------------------------------------------------


@dataclass
class Model:
    """A trained passage model; ``name`` identifies it down to its weights, as indices have it."""

    network: PassageModel
    name: str

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """Raises DuetError for a missing or damaged file, and for weights of something else.

        The file's shapes tell the summariser and the dimensions; its header names the study and the widths.
        """
        path = Path(path)
        if not path.exists():
            made = f"`duet notebook {KEY} --preset overnight` makes those published"
            raise DuetError("no such weights", path=path, remedy=f"{made}, or name a file of your own")
        about, weights = read_about(path), load_weights(path)
        output = weights.get("sheet_summary.output.weight")
        if about.get("study") != KEY or about.get("widths") not in _WIDTHS or output is None or output.ndim != 2:
            raise DuetError("holds no weights of a passage model", path=path, remedy="leave it out for those published")
        kinds = {"gru": "gru.weight_ih_l0", "transformer": "widen.weight"}
        summariser = next((k for k, name in kinds.items() if f"sheet_summary.sequence.{name}" in weights), "mean")
        network = PassageModel(summariser, len(output), _WIDTHS[about["widths"]])
        load_into(network, path)
        # not of the file: its header may say more, in any order
        digest = files.digest(*(part for k in sorted(weights) for part in (k, weights[k].float().numpy().tobytes())))
        return cls(network.to(device()).eval(), f"passages {digest[:16]}, version {VERSION}")

    @property
    def dimensions(self) -> int:
        return self.network.sheet_summary.output.out_features

    def sheets(self, systems: Sequence[np.ndarray]) -> np.ndarray:
        """(n, dimensions) of systems (200, columns) uint8, halved and cut as in training."""
        snippets = (sheet_snippets(image, (0, image.shape[1])).astype(np.float32) / 255 for image in systems)
        return self._embedded(snippets, self.network.embed_sheet)

    def sounds(self, snippets: Iterable[np.ndarray]) -> np.ndarray:
        """(n, dimensions) of passages, each (snippets, 92, 20)."""
        return self._embedded(snippets, self.network.embed_audio)

    @torch.inference_mode()
    def _embedded(self, passages: Iterable[np.ndarray], embed) -> np.ndarray:
        where, parts, held = device(), [np.empty((0, self.dimensions), np.float32)], []

        def encode() -> None:
            snippets = torch.from_numpy(np.concatenate(held))[:, None]
            parts.append(embed(snippets.to(where), [len(own) for own in held]).cpu().numpy())
            held.clear()

        for passage in passages:
            held.append(passage)
            if len(held) == _AT_ONCE:
                encode()
        if held:
            encode()
        return np.concatenate(parts)


def published_weights() -> Path:
    """Those that come with the project: the model that started from refined snippets, first seed."""
    return paths.ROOT / "results" / "overnight" / KEY / "weights" / "passages.safetensors"


def ship(grid: Grid) -> Path | None:
    """Publish the first seed's RNN-FT-CCA beside the tables; None where it is not made, or not on this machine."""
    name = f"rnn-ft-cca-s{grid.study.PRESETS[grid.preset].seeds[0]}"
    if name not in grid.runs or grid.find(name) is None or not grid.weights(name).exists():
        return None
    target, identity = grid.folder / "weights" / "passages.safetensors", grid.id(name)
    if not target.exists() or read_about(target).get("id") != identity:
        model = Model.load(grid.weights(name))
        save_weights(model.network, target, {**read_about(grid.weights(name)), "id": identity})
    return target


# -- passages of a file ------------------------------------------------------------------------------------------------


@dataclass
class Passages:
    """What a score or a recording is made of.

    ``vectors`` (n, dimensions) and a label for each: ``page`` and ``system`` from 1, with ``pictures`` (200, columns)
    uint8 of them all; or ``start`` and ``end`` in seconds of a recording.
    """

    path: Path
    kind: str  # SCORES or RECORDINGS
    title: str
    labels: list[dict]
    vectors: np.ndarray
    pictures: list[np.ndarray]


def read(path: str | Path, model: Model) -> Passages:
    """A score's systems, or a recording's windows of ten seconds, each half over the one before.

    The windows lie between the first sound and the last, which ends the last window; silent ones are left out, and a
    recording that is shorter is one passage.  Memory does not grow with its length, but for the vectors.  Raises
    DuetError for what cannot be read, is silent or has less than a second of music, and for pages without a system.
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() in own_files.SCORES:
        title, labels, pictures = _systems(path)
        return Passages(path, SCORES, title, labels, model.sheets(pictures), pictures)
    music = own_files.music_in(path, SNIPPETS["audio"][1] / FRAMES_PER_SECOND)
    windows = _windows(music)
    labels = [{"start": a / FRAMES_PER_SECOND, "end": min(b / FRAMES_PER_SECOND, music.seconds)} for a, b in windows]
    return Passages(path, RECORDINGS, path.stem, labels, model.sounds(_snippets(path, windows)), [])


def _systems(path: Path) -> tuple[str, list[dict], list[np.ndarray]]:
    """Title, labels and pictures of a score, or of a piece's folder in MSMD layout."""
    if path.is_dir():
        path = Path(os.path.abspath(path))
        title, corpus = path.name, Msmd(path.parent)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # too much is an error
            pages = corpus.pages(title)
        lines = [(n, *box) for n, own in enumerate(corpus.systems(title)) for box in own.tolist()]
    else:
        score = own_files.read_score(path)
        title, pages = score.title, score.sheet.images
        lines = [(s.page, s.top, s.left, s.bottom, s.right) for s in score.sheet.systems]
    labels, kept, count = [], [], dict.fromkeys(range(len(pages)), 0)
    for line in lines:
        page, top, left, bottom, right = line
        count[page] += 1
        rows, columns = pages[page].shape
        # written so that NaN fails; half a staff space is the least that leaves a column of the halved picture
        if np.isfinite(line).all() and top < rows and bottom > 0 and min(right, columns) - max(left, 0) >= 4:
            labels.append({"page": page + 1, "system": count[page]})
            kept.append(line)
    if not kept:
        raise DuetError("has no system on its pages", path=path, remedy="leave it out, or annotate its systems")
    image, edges = unroll(pages, kept)
    return title, labels, np.split(image, edges[1:-1], axis=1)


def _windows(music: own_files.Music) -> list[tuple[int, int]]:
    """Frames [from, to) of a recording's passages, in time's order."""
    # as in training a passage begins with the frame that its first onset is seen in: times are rounded up
    first, last = (int(np.ceil(t * FRAMES_PER_SECOND - 1e-6)) for t in (music.start, music.end))
    length, hop = round(WINDOW * FRAMES_PER_SECOND), round(HOP * FRAMES_PER_SECOND)
    starts = [*range(first, max(first, last - length), hop), max(first, last - length)]
    rate = own_files.LEVELS_PER_SECOND / FRAMES_PER_SECOND
    windows = [(start, min(start + length, last)) for start in starts]
    return [(a, b) for a, b in windows if music.sounding[int(a * rate) : int(np.ceil(b * rate))].any()]


def _snippets(path: Path, windows: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
    """(n, 92, 20) of each window in turn."""
    parts, reach = own_files.spectrograms(path), SNIPPETS["audio"][1]
    held, first = np.empty((BANDS, 0), np.float32), 0  # `held` begins with frame `first`
    for begin, end in windows:
        while first + held.shape[1] < end + reach and (part := next(parts, None)) is not None:
            held = np.concatenate([held, part], 1)
        held, first = held[:, begin - first :], begin
        yield audio_snippets(held[:, : end - begin + reach], (0, end - begin))


# -- an indexed folder -------------------------------------------------------------------------------------------------


@dataclass
class Collection:
    """A folder's scores or recordings.

    Labels of the ``index`` are those of :class:`Passages` with their ``source``, the file's name within the folder,
    its ``title``, and its ``stamp``.  ``remarks`` say, a line each, what there is, what was made again, and what was
    skipped, and why.
    """

    folder: Path
    kind: str
    place: Path
    index: Index
    remarks: tuple[str, ...]

    def picture(self, label: dict) -> np.ndarray:
        """(200, columns) uint8 of a system.  Raises DuetError where the kept one is damaged."""
        path = _kept_pictures(self.place, label["source"])
        try:
            with safe_open(path, framework="np") as handle:
                encoded = handle.get_tensor(f"{label['page']}-{label['system']}").tobytes()
            return np.asarray(Image.open(io.BytesIO(encoded)).convert("L"))
        except (SafetensorError, OSError, SyntaxError, ValueError) as error:
            raise DuetError(f"is damaged: {error}", path=path, remedy="delete it and search again") from None


def index_folder(folder: str | Path, kind: str, model: Model, progress: bool = False) -> Collection:
    """The scores or recordings of a folder and the folders in it, encoded where that is not done yet.

    What is kept lies in the cache, a file for each file, written whole as soon as it is encoded: a process that is
    killed loses the one in work.  It is used as long as the model's weights, and the file's size and time of change,
    stay what they were; what has vanished from the folder is dropped.  Files that cannot be read are skipped and told,
    and tried again the next time.  Hidden files, folders that are links, and what a LilyPond file includes are left
    out; a piece in MSMD layout counts as one score.

    Raises DuetError where there is no such folder or nothing of the kind in it; what is kept then stays.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DuetError("no such folder", path=folder, remedy="check its name")
    sources = {str(path.relative_to(folder)): path for path in _listed(folder, kind)}
    if not sources:
        suffixes = ", ".join(_SUFFIXES[kind])
        raise DuetError(f"holds no {kind}", path=folder, remedy=f"give a folder with files of {suffixes}")
    place = paths.cache() / "search" / files.digest(os.fsencode(folder.resolve()))[:16] / kind
    found, stamps, damaged, others, skipped = {}, {}, [], 0, []
    for source, path in sources.items():
        stamps[source] = _stamp(path)
        try:
            kept = Index.load(_kept_index(place, source), model.name)
            if kept.labels and kept.labels[0]["stamp"] == stamps[source] and _has_pictures(place, source, kind):
                found[source] = kept
        except OtherModel:
            others += 1
        except DuetError as error:
            if error.path is not None and error.path.exists():
                damaged.append(f"{source}: what was kept of it is damaged, it is encoded again")
    dropped = _drop_vanished(place, {_key(source) for source in sources})
    remarks = [f"{others} of {len(sources)} {kind} were indexed with other weights: encoded again"] if others else []
    remarks += damaged
    new = [source for source in sources if source not in found]
    with Progress(f"indexing {folder.name or folder}", len(new), progress) as report:
        for source in new:
            _forget(place, _key(source))
            try:
                made = _indexed(source, read(sources[source], model), stamps[source], model)
            except DuetError as error:
                known = error if error.path else DuetError(error.problem, path=sources[source], remedy=error.remedy)
                skipped.append(f"skipped: {known}")
            else:
                _keep(place, source, *made)
                found[source] = made[0]
            report(1)
    index = Index(model.name, model.dimensions)
    for source in sources:  # in this order whatever was kept: equal folders have equal indices
        if source in found:
            index.add(found[source].vectors, found[source].labels)
    encoded = len(found) - (len(sources) - len(new))
    counts = f"{_count(len(found), kind[:-1])}, {_count(len(index), _PASSAGE[kind])}"
    remarks.append(f"{folder}: {counts}; {encoded} encoded now, {dropped} dropped, {len(skipped)} skipped")
    return Collection(folder, kind, place, index, tuple(map(_printable, (*remarks, *skipped))))


def _listed(folder: Path, kind: str) -> list[Path]:
    """Files, and folders of pieces in MSMD layout, by name."""
    found = []
    for base, folders, names in os.walk(folder):
        own = Path(base)
        if (_score_folder(own) / "img").is_dir():
            folders.clear()
            found += [own] if kind == SCORES else []
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = [name for name in names if not name.startswith(".") and name.lower().endswith(_SUFFIXES[kind])]
        found += [own / name for name in names if os.path.isfile(own / name)]
    included = {part for path in found if path.suffix.lower() == ".ly" for part in lilypond.included(path)}
    return sorted(path for path in found if path.resolve() not in included)


def _score_folder(piece: Path) -> Path:
    """Of a piece in MSMD layout."""
    return piece / "scores" / f"{os.path.basename(os.path.abspath(piece))}_ly"


def _stamp(path: Path) -> str:
    """Of the files that passages are read from: what has the same is not read again."""
    parts = [path]
    if path.is_dir():
        parts = sorted(_score_folder(path).glob("img/*")) + sorted(_score_folder(path).glob("mung/*"))
    elif path.suffix.lower() == ".ly":
        parts += lilypond.included(path)
    states = []
    for part in parts:
        with contextlib.suppress(OSError):
            state = part.stat()
            states.append(f"{part.name!r} {state.st_size} {state.st_mtime_ns}")
    return files.digest(*states)


def _indexed(source: str, passages: Passages, stamp: str, model: Model) -> tuple[Index, list[np.ndarray]]:
    index, about = Index(model.name, model.dimensions), {"source": source, "title": passages.title, "stamp": stamp}
    index.add(passages.vectors, [about | label for label in passages.labels])
    return index, passages.pictures


def _keep(place: Path, source: str, index: Index, pictures: list[np.ndarray]) -> None:
    """Write pictures, then the vectors, which say that all is there."""
    if pictures:
        tensors = {}
        for label, picture in zip(index.labels, pictures, strict=True):
            encoded = io.BytesIO()
            Image.fromarray(picture).save(encoded, "PNG")
            tensors[f"{label['page']}-{label['system']}"] = np.frombuffer(encoded.getvalue(), np.uint8)
        files.write_bytes(_kept_pictures(place, source), save(tensors))
    index.save(_kept_index(place, source))


def _key(source: str) -> str:
    return files.digest(os.fsencode(source))[:24]


def _kept_index(place: Path, source: str) -> Path:
    return place / f"{_key(source)}.safetensors"


def _kept_pictures(place: Path, source: str) -> Path:
    return place / f"{_key(source)}.pictures"


def _has_pictures(place: Path, source: str, kind: str) -> bool:
    return kind != SCORES or _kept_pictures(place, source).exists()


def _drop_vanished(place: Path, keys: set[str]) -> int:
    gone = {path.stem for path in place.glob("[!.]*")} - keys
    for key in gone:
        _forget(place, key)
    return len(gone)


def _forget(place: Path, key: str) -> None:
    (place / f"{key}.safetensors").unlink(missing_ok=True)  # first: without it the pictures are not looked at
    (place / f"{key}.pictures").unlink(missing_ok=True)


# -- search ------------------------------------------------------------------------------------------------------------


class Match(NamedTuple):
    """A passage of the query, by its number, and one of the collection, by its label."""

    passage: int
    similarity: float
    label: dict


class Ranked(NamedTuple):
    """A file of the collection: how many of the query's passages have their nearest in it, and its best similarity."""

    source: str
    nearest: int
    similarity: float


@dataclass
class Found:
    """``hits`` of each passage of the query, best first, and the files that they lie in, the likeliest first."""

    query: Passages
    collection: Collection
    hits: list[list[Match]]
    ranking: list[Ranked]


def find(query: Passages, collection: Collection, top: int = 3) -> Found:
    """The ``top`` passages of the collection that are most similar to each passage of the query.

    Files are ranked by votes: each passage has one, for the file that its nearest one lies in; the best similarity
    decides between equals and orders those that are only among the ``top``.  Raises DuetError where nothing of the
    collection could be read, and for ``top`` below 1.
    """
    if not len(collection.index):
        raise DuetError(f"none of its {collection.kind} can be read", path=collection.folder, remedy="repair them")
    similarities, places = collection.index.search(query.vectors, top)
    labels = collection.index.labels
    hits = [
        [Match(number, float(s), labels[p]) for s, p in zip(*row, strict=True)]
        for number, row in enumerate(zip(similarities, places, strict=True))
    ]
    votes: dict[str, int] = {}
    best: dict[str, float] = {}
    for own in hits:
        for rank, match in enumerate(own):
            source = match.label["source"]
            votes[source] = votes.get(source, 0) + (rank == 0)
            best[source] = max(best.get(source, -1.0), match.similarity)
    order = sorted(votes, key=lambda s: (-votes[s], -best[s], s))
    return Found(query, collection, hits, [Ranked(s, votes[s], best[s]) for s in order])


def table(found: Found, ranked: int = 10) -> str:
    """For a terminal: each passage with its hits, then the ``ranked`` likeliest files."""
    names = [_PASSAGE[kind] for kind in (found.query.kind, found.collection.kind)]
    rows = [(names[0], f"most similar {names[1]}s", "similarity")]
    for own in found.hits:
        for rank, match in enumerate(own):
            asked = "" if rank else _where(found.query.labels[match.passage])
            rows.append((asked, f"{match.label['source']}, {_where(match.label)}", f"{match.similarity:.3f}"))
    lines = [*_aligned(rows), ""]
    rows = [(found.collection.kind[:-1], f"nearest to, of {_count(len(found.hits), names[0])}", "best similarity")]
    rows += [(r.source, str(r.nearest), f"{r.similarity:.3f}") for r in found.ranking[:ranked]]
    return _printable("\n".join([*lines, *_aligned(rows)]))


def _printable(text: str) -> str:
    """A file's name may hold bytes that are no text."""
    return text.encode(errors="replace").decode()


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _where(label: dict) -> str:
    if "page" in label:
        return f"page {label['page']}, system {label['system']}"
    return f"{clock(label['start'])} to {clock(label['end'])}"


def write_page(found: Found, path: str | Path) -> None:
    """One HTML file with the most similar hits, each a system beside the sound that it was found for."""
    query, collection = found.query, found.collection
    every = sorted((m for own in found.hits for m in own), key=lambda m: -m.similarity)
    shown = every[:SHOWN]
    heard, wanted = [], {}  # recording and stretch of each hit; the stretches of each recording
    for match in shown:
        reverse = query.kind == SCORES
        recording = collection.folder / match.label["source"] if reverse else query.path
        stretch = match.label if reverse else query.labels[match.passage]
        heard.append((recording, (stretch["start"], stretch["end"])))
        wanted.setdefault(recording, {})[heard[-1][1]] = None
    sounds = {
        (recording, stretch): sound
        for recording, own in wanted.items()
        for stretch, sound in zip(own, own_files.stretches(recording, list(own)), strict=True)
    }
    hits = []
    for match, (recording, stretch) in zip(shown, heard, strict=True):
        if query.kind == SCORES:
            system, title, name = query.labels[match.passage], query.title, match.label["source"]
            picture = query.pictures[match.passage]
        else:
            system, title, name = match.label, _titled(match.label), query.path.name
            picture = collection.picture(match.label)
        sound = sounds[recording, stretch]
        hits.append(Hit(title, _where(system), match.similarity, picture, *stretch, name, sound))
    remarks = [_told(ranked, found) for ranked in found.ranking[:3] if ranked.nearest]
    if len(shown) < len(every):
        remarks.append(f"The {len(shown)} most similar of {len(every)} hits.")
    player.hits_page(path, f"{query.path.name} in {collection.folder}", hits, None, SAMPLE_RATE, remarks)


def _titled(label: dict) -> str:
    source = Path(label["source"])
    named = label["title"].rpartition(": ")[2] not in (source.stem, source.name)  # else it says the same twice
    return f"{label['title']} ({source})" if named else label["source"]


def _told(ranked: Ranked, found: Found) -> str:
    asked = _count(len(found.hits), _PASSAGE[found.query.kind])
    return f"{ranked.source}: nearest to {ranked.nearest} of {asked}."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
