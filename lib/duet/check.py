"""Which data set a folder holds, what is missing or damaged, and what a study would train on: ``duet check-data``.

The data sets' own readers do the reading, the studies' own splits the dividing.  Labels are read as a whole; of audio
the header and the last sample, of PrIMuS's pictures the header and the last bytes, of arrays the header: a fault in
the middle of such a file is found only by the study itself.
"""

from __future__ import annotations

import functools
import itertools
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from . import files, semantic
from .corpora import guitarset, maps, mtd
from .corpora.guitarset import GuitarSet
from .corpora.maps import Maps
from .corpora.msmd import FRAME_RATE, PARTS, Msmd, read_split
from .corpora.mtd import Mtd, readable_seconds
from .corpora.primus import Primus
from .corpora.recordings import AUDIO, Corpus
from .errors import DuetError
from .features import read_image
from .progress import in_parallel

#: data set -> what tells it
LAYOUTS = {
    "Camera-PrIMuS": "<id>/<id>.semantic and <id>_distorted.jpg or <id>.png, also below Corpus or package_aa",
    "MSMD": "<piece>/scores/<piece>_ly/img",
    "MAPS": "<CODE>/MUS/MAPS_MUS-<piece>_<CODE>.wav or .flac with .txt or .mid",
    "GuitarSet": "annotation/<stem>.jams and audio_mono-mic/<stem>_mic.wav, stems like 00_BN1-129-Eb_comp",
    "MTD": "03_MTD-medium.csv or data_META, with data_AUDIO and the other data_* folders",
}
#: what the published sets have (fact sheets of the studies, Section 2)
PUBLISHED = {"Camera-PrIMuS": 87_678, "MAPS": 270, "GuitarSet": 360, "MTD": 2067}
_EACH = 30  # of MAPS's recordings have the same code
_INNER = {  # folders that are part of a data set and look like one themselves
    "Camera-PrIMuS": ("package_aa", "package_ab"),
    "MAPS": (*maps.DISKLAVIER, *maps.SOFTWARE, "MUS"),
    "GuitarSet": ("annotation", *guitarset.MICROPHONES.values()),
    "MTD": ("01_MTD-mini", "02_MTD-small", "03_MTD-medium"),
}
_DEEP, _NEAR, _UP = 4, 2, 4  # levels below the given folder for files and for whole sets, levels above it
_MANY = 500  # entries of a folder that are looked at, and a quarter of the folders
_END = 64  # bytes within which a picture's last mark stands


Parts = dict[str, dict[str, float]]  # part of a split -> what it has, how many


@dataclass(frozen=True)
class Use:
    """What one study makes of a data set in one preset: its parts, or why it cannot."""

    study: str
    preset: str
    command: str
    parts: Parts
    note: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Report:
    """What is here.

    ``missing``: a line for each kind of thing that the whole set has and this one has not.  ``faults``: a line for each
    damaged item, by its name; one that begins with "usable:" is of an item that is counted all the same.
    """

    data_set: str  # a key of LAYOUTS
    root: Path
    name: str  # as tables call it
    holds: dict[str, float]
    missing: list[str]
    faults: dict[str, str]
    uses: list[Use]

    @property
    def status(self) -> int:
        """0 whole, 1 usable in part, 2 of no use as it is."""
        if not any(use.parts for use in self.uses):
            return 2
        return 1 if self.missing or self.faults else 0


def check(root: str | Path, workers: int | None = None, progress: bool = False) -> list[Report]:
    """A report for each data set that ``root`` is, holds, or lies in.

    Raises DuetError, which lists what is recognised, where there is none.
    """
    readers = {"Camera-PrIMuS": _primus, "MSMD": _msmd, "MAPS": _maps, "GuitarSet": _guitarset, "MTD": _mtd}
    return [_reported(readers[name], name, folder, workers, progress) for name, folder in find(Path(root))]


def find(root: str | Path) -> list[tuple[str, Path]]:
    """(data set, its folder): ``root`` itself, or else folders a few levels below it, or else one above.

    Looks at names only, and at no more than some thousands.  Raises DuetError where ``root`` is no folder, or nothing
    is recognised.
    """
    root = Path(os.path.abspath(root))
    if not root.is_dir():
        raise DuetError("no such folder", path=root, remedy="give the folder that a data set unpacks to")
    found, scattered, queue = [], {"MAPS": [], "GuitarSet": []}, [(root, 0)]
    for folder, depth in queue:  # it grows
        if depth <= _NEAR and (name := _whole(folder)):
            found += [(name, _home(name, folder))] if name in LAYOUTS else []
            continue
        entries = [e for e in _entries(folder) if not e.name.startswith(".")]
        names = [Path(e.name) for e in entries]
        for name, belongs in (("MAPS", _of_maps), ("GuitarSet", _of_guitarset)):
            if any(map(belongs, names)):
                scattered[name].append(folder)
        inner = [Path(e.path) for e in entries if e.is_dir() and e.name not in ("ISOL", "RAND", "UCHO")]
        if depth < _DEEP:
            queue += [(path, depth + 1) for path in inner[: max(0, 4 * _MANY - len(queue))]]
    for name, folders in scattered.items():
        if folders:
            found.append((name, _home(name, Path(os.path.commonpath(folders)))))
    for parent in () if found else root.parents[:_UP]:
        if (name := _whole(parent)) in LAYOUTS:
            found = [(name, _home(name, parent))]
            break
    if not found:
        known = "; ".join(f"{name}: {layout}" for name, layout in LAYOUTS.items())
        raise DuetError("holds no data set that is recognised", path=root, remedy=f"recognised are {known}")
    return sorted(set(found))


def text(report: Report, given: str | Path = "", most: int = 5) -> str:
    """The report in lines; of faults ``most`` are told and the others counted.  ``given``: the folder asked about."""
    lines = [f"{report.data_set}: {report.root}"]
    if report.name != report.data_set:
        lines[0] += f" ({report.name})"
    given = Path(os.path.abspath(given or report.root))
    if given != report.root:
        what = "lies within it" if given.is_relative_to(report.root) else "is the folder around it"
        lines.append(f"  {given} {what}: the folder of the data set is {report.root}")
    lines += [f"  here: {_spoken(report.holds)}"] if report.holds else []
    lines += [f"  missing: {line}" for line in report.missing]
    if report.faults:
        lines.append(f"  damaged: {len(report.faults):,}")
        lines += [f"    {line}" for line in itertools.islice(report.faults.values(), most)]
        lines += [f"    and {len(report.faults) - most:,} more"] if len(report.faults) > most else []
    for use in report.uses:
        lines.append(f"  study {use.study}, preset {use.preset}:")
        if use.problem:
            lines.append(f"    cannot use it: {use.problem}")
        else:
            lines += [f"    {part}: {_spoken(counts)}" for part, counts in use.parts.items()]
            lines += [f"    {use.note}"] if use.note else []
            lines.append(f"    {use.command}")
    lines.append(
        "  not checked: the middle of audio, of pictures of PrIMuS and of arrays, and files that no study reads"
    )
    lines.append(f"  {('whole', 'usable in part', 'of no use as it is')[report.status]}")
    return "\n".join(lines)


def _spoken(counts: dict[str, float]) -> str:
    def one(what: str, number: float) -> str:
        digits = int(isinstance(number, float) and number < 10)
        return f"{number:,.{digits}f} {what.removesuffix('s') if number == 1 else what}"

    return ", ".join(one(*each) for each in counts.items())


# -- recognising -------------------------------------------------------------------------------------------------------


def _whole(folder: Path) -> str:
    """The data set whose root a folder is, perhaps one that Duet makes for itself; "" for none, and for MAPS and
    GuitarSet as published, which are told by single files.
    """
    try:
        return str(files.read_json(folder / "corpus.json")["layout"])
    except (DuetError, OSError, LookupError, TypeError):
        pass  # nothing that Duet has built, or its description is damaged
    try:
        corpus = Primus(folder)
        if any((corpus.folder(i) / f"{i}.semantic").exists() for i in corpus.ids):
            return "Camera-PrIMuS"
    except (DuetError, OSError):
        pass
    try:
        Msmd(folder)
        return "MSMD"
    except (DuetError, OSError):
        pass
    try:
        Mtd(folder)
        return "MTD"
    except (DuetError, OSError):
        return "MTD" if all((folder / f"data_{kind}").is_dir() for kind in ("AUDIO", "EDM-corr_MID")) else ""


def _of_maps(name: Path) -> bool:
    return name.suffix.lower() in (*AUDIO, ".txt", ".tsv", ".mid") and maps.parse(name.stem) is not None


def _of_guitarset(name: Path) -> bool:
    stem, _, kind = name.stem.removesuffix("_cln").rpartition("_")
    if name.suffix.lower() == ".jams":
        return guitarset.parse(name.stem) is not None
    return name.suffix.lower() in AUDIO and kind in guitarset.MICROPHONES and guitarset.parse(stem) is not None


def _home(name: str, folder: Path) -> Path:
    while folder.name in _INNER.get(name, ()):
        folder = folder.parent
    return folder


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return sorted(itertools.islice(entries, _MANY), key=lambda entry: entry.name)
    except OSError:
        return []  # somebody else's


# -- the data sets -----------------------------------------------------------------------------------------------------


def _reported(reader: Callable, name: str, root: Path, workers: int | None, progress: bool) -> Report:
    own = root / "corpus.json"
    try:
        if own.exists() and not isinstance(files.read_json(own), dict):
            raise DuetError("does not describe a corpus", path=own, remedy="delete it, or build the corpus again")
        return reader(root, workers, progress)
    except DuetError as error:
        return Report(name, root, name, {}, [str(error)], {}, [])
    except OSError as error:
        return Report(name, root, name, {}, [f"{error.filename}: cannot be read: {error.strerror}"], {}, [])


def _primus(root: Path, workers: int | None, progress: bool) -> Report:
    from .studies.transfer_learning import PRESETS, experiment

    corpus = Primus(root)
    here = corpus.ids
    camera = any(corpus.image_path(i).exists() for i in here[:_MANY])
    jobs = [[(corpus.folder(i), camera) for i in here[k : k + 256]] for k in range(0, len(here), 256)]
    faults: dict[str, str] = {}
    for told in in_parallel(_incipits, jobs, "incipits, by 256", workers, progress):
        faults |= told
    # The study's split of what is whole.  Its id is not asked for, and would cost another reading of all tokens.
    corpus.ids, corpus.fingerprint = [i for i in here if i not in faults], ""
    corpus.tokens = functools.cache(corpus.tokens)

    def parts(preset: str) -> tuple[Parts, str]:
        split, how, _ = experiment.divided(corpus, PRESETS[preset])
        note = f"split: {how}" + (", once the damaged ones are restored or moved away: it stops at them" * bool(faults))
        return {part: {"incipits": len(split[part])} for part in ("train", "validation", "test")}, note

    holds = {"incipits": len(here), "pictures of a camera" if camera else "engraved pictures": len(corpus.ids)}
    chosen = [p for p in PRESETS if PRESETS[p].corpus and PRESETS[p].corpus.name == _own(corpus, "name", "")]
    use = _use("transfer_learning", corpus, PRESETS, chosen, parts)
    missing = _fewer(corpus, len(here), "Camera-PrIMuS", "incipits", _own(corpus, "items", 0))
    return Report("Camera-PrIMuS", root, _own(corpus, "name", "Camera-PrIMuS"), holds, missing, faults, [use])


def _incipits(job: Sequence[tuple[Path, bool]]) -> dict[str, str]:
    """What is wrong with each of some incipits (folder, whether the camera's picture is wanted), by id."""
    faults = {}
    for folder, camera in job:
        try:
            semantic.read_tokens(folder / f"{folder.name}.semantic")
            _check_picture(folder / f"{folder.name}{'_distorted.jpg' if camera else '.png'}")
        except DuetError as error:
            faults[folder.name] = str(error)
    return faults


def _check_picture(path: Path) -> None:
    """Raises DuetError for a missing or damaged picture: where its ends look right it is not decoded."""
    try:
        with Image.open(path) as image, open(path, "rb") as handle:
            handle.seek(-min(_END, os.path.getsize(path)), os.SEEK_END)
            end = handle.read()
            whole = min(image.size) > 1 and (b"IEND" in end or b"\xff\xd9" in end)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        whole = False
    if not whole:
        read_image(path)  # says what is wrong, or that all is well


def _msmd(root: Path, workers: int | None, progress: bool) -> Report:
    from .studies import alignment, passage_retrieval

    corpus = Msmd(root)
    problems = {p: line for p, line in corpus.problems(workers, progress).items() if not line.startswith("usable:")}
    takes = {p: corpus.performances(p) for p in corpus.pieces if p not in problems}
    minutes = {p: _minutes(corpus, p, own) for p, own in takes.items()}
    named: set[str] = set()
    missing: list[str] = []

    def parts(module, preset: str) -> tuple[Parts, str]:
        p = module.PRESETS[preset]
        split = corpus.split(p.split)
        if module is alignment:
            split = alignment.experiment.one_composer(split, p.composer, p.held_out)
        split = {part: [piece for piece in own if piece in takes] for part, own in split.items()}
        if not all(split.values()):
            empty = next(part for part, own in split.items() if not own)
            raise DuetError(f"its split {p.split} has no {empty} piece", path=root, remedy="take more pieces")
        count = lambda own: {"pieces": len(own), "performances": sum(len(takes[p]) for p in own),  # noqa: E731
                             "minutes": sum(minutes[p] for p in own)}  # fmt: skip
        note = f"split: {p.split}"
        if module is alignment:
            note += f", trained on {p.composer} alone" + f"; of the test the {p.tested} shortest" * bool(p.tested)
        return {part: count(own) for part, own in split.items()}, note

    uses = []
    for module in (alignment, passage_retrieval):
        chosen = [key for key, p in module.PRESETS.items() if p.corpus and _built(corpus, asdict(p.corpus))]
        uses.append(_use(module.KEY, corpus, module.PRESETS, chosen, functools.partial(parts, module)))
        try:
            path = corpus.split_path(module.PRESETS[uses[-1].preset].split)
            own = {piece for part in PARTS for piece in read_split(path)[part]}
        except DuetError:
            continue  # which the use has told
        named |= own
        if absent := sorted(own - set(corpus.pieces)):
            missing.append(f"{len(absent):,} of the {len(own):,} pieces of {path.name}, the first is {absent[0]}")
    faults = {p: line for p, line in problems.items() if not named or p in named}
    holds = {"pieces": len(corpus.pieces), "performances": sum(map(len, takes.values())),
             "minutes": sum(minutes.values())}  # fmt: skip
    built = _own(corpus, "counts", {}).get("pieces", 0)
    missing += _fewer(corpus, len(corpus.pieces), "MSMD", "pieces", built)
    return Report("MSMD", root, corpus.name, holds, sorted(set(missing)), faults, uses)


def _minutes(corpus: Msmd, piece: str, performances: Sequence[str]) -> float:
    return sum(corpus.spectrogram(piece, p).shape[1] for p in performances) / FRAME_RATE / 60


def _maps(root: Path, workers: int | None, progress: bool) -> Report:
    from .studies.synthetic_pretraining import PRESETS

    corpus = Maps(root)
    minutes, faults = _heard(corpus, workers, progress)

    def parts(preset: str) -> tuple[Parts, str]:
        overlap = PRESETS[preset].overlap
        note = "pieces of the test are kept in training, as published" if overlap else "no piece on both sides"
        return _divided(corpus.split(overlap=overlap), minutes), note

    codes = Counter(r.group for r in corpus.recordings.values())
    missing = _fewer(corpus, len(corpus.recordings), "MAPS", "recordings", _clips(corpus))
    if missing and not _own(corpus, "stand_in", False):
        missing[0] += ": " + ", ".join(
            f"{code} {_EACH - codes[code]}" for code in (*maps.SOFTWARE, *maps.DISKLAVIER) if codes[code] < _EACH
        )
    holds = {"recordings": len(corpus.recordings), "minutes": sum(minutes.values())}
    return Report("MAPS", root, corpus.name, holds, missing, faults, _real_uses(corpus, "DUET_MAPS", parts))


def _guitarset(root: Path, workers: int | None, progress: bool) -> Report:
    from .studies.synthetic_pretraining import PRESETS

    corpus = GuitarSet(root)
    minutes, faults = _heard(corpus, workers, progress)

    def parts(preset: str) -> tuple[Parts, str]:
        mixed = PRESETS[preset].overlap
        note = "players and pieces mixed, as published" if mixed else "no player on both sides"
        return _divided(corpus.split_random() if mixed else corpus.split(), minutes), note

    holds = {"excerpts": len(corpus.recordings), "minutes": sum(minutes.values())}
    missing = _fewer(corpus, len(corpus.recordings), "GuitarSet", "excerpts", _clips(corpus))
    return Report("GuitarSet", root, corpus.name, holds, missing, faults, _real_uses(corpus, "DUET_GUITARSET", parts))


def _real_uses(corpus: Corpus, variable: str, parts: Callable[[str], tuple[Parts, str]]) -> list[Use]:
    """Study 4 reads real recordings in two presets, its own split and the published one; a variable names them."""
    from .studies.synthetic_pretraining import KEY, PRESETS, experiment

    kind = {"DUET_MAPS": "piano", "DUET_GUITARSET": "guitar"}[variable]
    if _own(corpus, "stand_in", False):
        open_sets = {preset: experiment.open_set(preset, kind) for preset, p in PRESETS.items() if p.sizes}
        chosen = [preset for preset, made in open_sets.items() if _built(corpus, asdict(made))]
        return [_use(KEY, corpus, PRESETS, chosen, parts)]
    uses = [_use(KEY, corpus, PRESETS, [preset], parts, f"{variable}={shlex.quote(str(corpus.root))} ")
            for preset, p in PRESETS.items() if p.real and p.sizes]  # fmt: skip
    both = " ".join(f"DUET_{name.upper()}=<{name}>" for name in experiment.REAL.values() if name != corpus.NAME)
    command = f"{variable}={shlex.quote(str(corpus.root))} {both} "
    return uses + [_use(KEY, corpus, PRESETS, [preset], parts, command) for preset, p in PRESETS.items() if not p.sizes]


def _heard(corpus: Corpus, workers: int | None, progress: bool) -> tuple[dict[str, float], dict[str, str]]:
    """Minutes of each recording that can be used, and what is wrong with the others."""
    stems = list(corpus.recordings)
    jobs = in_parallel(functools.partial(_recording, corpus), stems, f"check of {corpus.name}", workers, progress)
    found = dict(zip(stems, jobs, strict=True))
    faults = {stem: f"{stem} {what}" for stem, what in corpus.unmatched.items()}
    faults |= {stem: line for stem, (_, line) in found.items() if line}
    return {stem: seconds / 60 for stem, (seconds, _) in found.items() if seconds}, faults


def _recording(corpus: Corpus, stem: str) -> tuple[float, str]:
    """Seconds, 0 where it cannot be used, and what is wrong."""
    path = corpus.recordings[stem].audio
    try:
        seconds = readable_seconds(path)
        corpus.notes(stem)
        return seconds, _cut(path)
    except DuetError as error:
        return 0.0, str(error)


def _cut(path: Path) -> str:
    """A line for a WAV that has less than its first bytes announce: decoders take what there is."""
    with open(path, "rb") as handle:
        start = handle.read(8)
    announced = int.from_bytes(start[4:8], "little")
    if start[:4] != b"RIFF" or announced in (0, 0xFFFFFFFF) or announced + 8 <= path.stat().st_size:
        return ""
    return f"usable: {path}: is cut short: {path.stat().st_size:,} of {announced + 8:,} bytes"


def _divided(split: Iterable, minutes: dict[str, float]) -> Parts:
    """A split of recordings, without those that cannot be used.  Raises DuetError where a side is left empty."""
    usable = [[stem for stem in part if stem in minutes] for part in split]
    for part, own in zip(("training", "validation", "test"), usable, strict=True):
        if not own:
            raise DuetError(f"{part} has no recording that can be used", remedy="restore the damaged ones")
    return {part: {"recordings": len(own), "minutes": sum(minutes[stem] for stem in own)}
            for part, own in zip(("training", "validation", "test"), usable, strict=True)}  # fmt: skip


def _clips(corpus: Corpus) -> int:
    """How many recordings Duet has put into a stand-in."""
    path = corpus.root / "clips.json"
    return len(files.read_json(path)) if path.exists() else 0


def _mtd(root: Path, workers: int | None, progress: bool) -> Report:
    from .studies.ctc_chroma import PRESETS

    corpus = Mtd(root)
    for kind in mtd.KINDS:  # as the study chooses: whole recordings where there are any
        problems = corpus.check(kind)
        documents = [d for d in corpus.documents(kind) if d not in problems.documents]
        themes = [t for t in corpus.ids if t not in problems.themes and corpus.relevant(t, kind) in set(documents)]
        if themes:
            break
    minutes = sum(readable_seconds(corpus.audio_path(d, kind)) for d in documents) / 60

    def parts(preset: str) -> tuple[Parts, str]:
        if not themes:
            raise DuetError("has no theme that can be used", path=root, remedy="restore what is missing or damaged")
        folds, found = corpus.folds(), {}
        for fold in range(1, mtd.FOLDS + 1):
            own = [corpus.theme(t) for t in themes if folds[corpus.composer(t)] == fold]
            found[f"fold {fold}"] = {"themes": len(own), "minutes": sum(t.end - t.start for t in own) / 60}
        note = f"{kind} are searched; trained on three folds, validated and tested on one each; a composer is in one"
        return found, note

    chosen = [key for key, p in PRESETS.items() if p.corpus and _built(corpus, asdict(p.corpus))]
    holds = {"themes": len(corpus.ids), f"{kind} to search": len(documents), "minutes of them": minutes}
    missing = _fewer(corpus, len(corpus.ids), "MTD", "themes", len(corpus.ids))
    faults = {**problems.documents, **problems.themes}
    use = _use("ctc_chroma", corpus, PRESETS, chosen, parts)
    return Report("MTD", root, _own(corpus, "name", "MTD"), holds, missing, faults, [use])


# -- what they share ---------------------------------------------------------------------------------------------------


def _built(corpus, settings: dict) -> bool:
    """Whether Duet has built a corpus with these settings."""
    own = _own(corpus, "settings", {})
    return _own(corpus, "stand_in", False) and all(own.get(key) == value for key, value in settings.items())


def _own(corpus, key: str, default):
    """What a corpus says of itself; the default where that is of another type."""
    value = corpus.description.get(key)
    return value if isinstance(value, type(default)) else default


def _fewer(corpus, count: int, name: str, unit: str, built: int) -> list[str]:
    """A line where a published set, or one that Duet has built, has less than all; others may have what they like."""
    own = (corpus.root / "corpus.json").exists()
    whole = built if own else PUBLISHED.get(name, 0)
    of = "that it was built with" if own else "of the published set"
    return [f"{whole - count:,} of the {whole:,} {unit} {of}"] if count < whole else []


def _use(study: str, corpus, presets: Iterable[str], chosen: Sequence[str], parts: Callable, before: str = "") -> Use:
    """What the first preset that can makes of a corpus: of those ``chosen``, or else of a corpus that is named to it,
    which is tried from the paper's down.  Where none can, why the first cannot.
    """
    named = "" if chosen else f" CORPUS={shlex.quote(str(corpus.root))}"
    failed: list[Use] = []
    for preset in chosen or sorted(presets, key=("paper", "overnight", "laptop", "smoke").index):
        command = f"{before}make reproduce PRESET={preset} STUDY={study}{named}"
        try:
            found, note = parts(preset)
            return Use(study, preset, command, found, note)
        except DuetError as error:
            failed.append(Use(study, preset, command, {}, problem=str(error)))
    return failed[0]
