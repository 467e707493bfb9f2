"""A collection in MTD layout from open scores: which movements, which of their lines are themes, how they are played.

Recordings are played from OpenScore's quartets and songs (CC0) and Polish piano music (CC BY 4.0), or from what music21
carries, by varied ensembles and SoundFonts, with rubato, in rooms, out of tune and with noise.  Each theme is a line
that is really in the texture, and in that of one recording only.
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import io
import itertools
import json
import math
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pretty_midi
import soundfile

from .. import files, paths, performance, scores, synthesis
from ..errors import DuetError
from ..performance import Manner, TempoMap
from ..progress import in_parallel
from ..scores import Note, Score
from .mtd import COLUMNS, FOLDS, Mtd, composer_folds

BUILDER_VERSION = 2  # raise it when the same sources and settings give other files

# -- what the builder starts from --------------------------------------------------------------------------------------

#: Folders of music21's corpus: polyphony in formats that Verovio reads.  A file larger than this takes seconds to read.
_REGISTRY = {
    "bach": "Bach",
    "beethoven": "Beethoven",
    "chopin": "Chopin",
    "corelli": "Corelli",
    "cpebach": "Bach",
    "handel": "Handel",
    "haydn": "Haydn",
    "joplin": "Joplin",
    "lusitano": "Lusitano",
    "monteverdi": "Monteverdi",
    "mozart": "Mozart",
    "palestrina": "Palestrina",
    "schubert": "Schubert",
    "schumann_clara": "Schumann",
    "schumann_robert": "Schumann",
    "verdi": "Verdi",
}
_LARGEST = {".mxl": 25_000, ".krn": 25_000, ".xml": 500_000}
#: Of the open corpus: key of the open scores, share of the recordings, most recordings of one file.
_OPEN = (("quartets", 0.40, 3), ("lieder", 0.35, 1), ("polish_kern", 0.25, 1))
_OPEN_SOUNDFONTS = ("fluidr3", "timgm6mb", "musescore")
_SURPLUS = 1.2  # more recordings are planned than wanted: some have no theme that is theirs alone


class Source(NamedTuple):
    """A score to play: its file, ComposerID, and how many recordings it may give."""

    path: Path
    composer: str
    most: int = 1


def _registry_sources() -> list[Source]:
    root = Path(importlib.util.find_spec("music21").origin).parent / "corpus"  # importing it takes seconds
    return [
        Source(path, composer)
        for folder, composer in _REGISTRY.items()
        for path in sorted((root / folder).rglob("*"))
        if path.stat().st_size <= _LARGEST.get(path.suffix, 0)
    ]


def _open_sources(key: str, most: int) -> list[Source]:
    from . import openscores  # here: it brings libraries for downloads, which reading a corpus does not need

    folder = openscores.require(key)
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".mxl", ".krn")):
        name = _composer_of(path, folder)
        if name and not re.match(r"Anon|A\. S\.", name):
            found.append(Source(path, composer_id(name), most))
    return found


def _composer_of(path: Path, folder: Path) -> str:
    """From the song's folder, or from the head of the file, without reading the whole score."""
    if path.is_relative_to(folder / "scores"):
        return path.relative_to(folder / "scores").parts[0].replace("_", " ")
    if path.suffix == ".krn":
        named = re.search(r"^!!!COM:[ \t]*(.*)$", path.read_text(errors="replace"), re.MULTILINE)
        return named[1] if named else ""
    with zipfile.ZipFile(path) as archive:
        name = next((n for n in archive.namelist() if n.endswith(".xml") and not n.startswith("META-INF")), None)
        head = archive.open(name).read(20_000).decode(errors="replace") if name else ""
    named = re.search(r'<creator type="composer">([^<]*)', head)
    return named[1] if named else ""


def composer_id(name: str) -> str:
    """The surname in plain letters, of "Hugo Wolf" and of "Wolf, Hugo"; namesakes share it, and so a fold."""
    surname = name.split(",")[0] if "," in name else name.split()[-1]
    plain = unicodedata.normalize("NFKD", surname.replace("ł", "l").replace("Ł", "L"))
    return "".join(c for c in plain if c.isascii() and (c.isalnum() or c == "-")) or "Unknown"


def _in_turn(sources: Sequence[Source], rng: np.random.Generator) -> list[Source]:
    """One source of every composer, then a second one, and so on: no composer has more than he must."""
    by_composer: dict[str, list[Source]] = {}
    for source in sources:
        by_composer.setdefault(source.composer, []).append(source)
    piles = [[by_composer[c][i] for i in rng.permutation(len(by_composer[c]))] for c in sorted(by_composer)]
    piles = [piles[i] for i in rng.permutation(len(piles))]
    return [s for layer in itertools.zip_longest(*piles) for s in layer if s is not None]


# -- planning: which music, how it is played, which themes -------------------------------------------------------------


@dataclass(frozen=True)
class _Candidate:
    """A line's notes that could be a theme: from ``start`` to ``end`` in quarters."""

    kind: str
    staff: int
    notes: tuple[Note, ...]
    start: float
    end: float

    @property
    def intervals(self) -> bytes:
        return _intervals(self.notes)


@dataclass(frozen=True)
class _Plan:
    """A recording to be made: the bars of a score from ``start`` to ``end``, in quarters."""

    key: str
    composer: str
    work: str
    title: str
    family: str  # "piano", "song" or "ensemble"
    staves: int
    score: Score
    start: float
    end: float
    manner: Manner
    nominal: TempoMap
    tempo: TempoMap
    lead: float  # seconds of silence before the first beat
    candidates: tuple[_Candidate, ...]
    lines: bytes  # the interval sequences of all its lines


def _seed(key: str, purpose: str) -> np.random.Generator:
    return np.random.default_rng(int(files.digest(key, purpose)[:16], 16))


def _intervals(notes: Iterable[Note]) -> bytes:
    """Melodic intervals modulo the octave without repeated notes: what chroma can tell apart, in any key."""
    pitches = [n.pitch for n in notes]
    return bytes((b - a) % 12 for a, b in itertools.pairwise(pitches) if (b - a) % 12)


def _family(score: Score) -> str:
    parts = [s.part for s in score.staves]
    if len(set(parts)) == 1:
        return "piano"
    return "song" if len(parts) > 2 and parts[-1] == parts[-2] else "ensemble"


def _plans(longest: float, source: Source) -> list[_Plan]:
    """Recordings of one score, none where it has no theme; a score that cannot be read gives none either."""
    try:
        score = scores.read(source.path)
    except DuetError:
        return []
    if not score.tempi:
        score = replace(score, tempi=((0.0, performance.usual_tempo(score.notes)),))
    plans, free = [], -1.0
    marks = {q for q, _ in score.tempi}
    starts = sorted({q for q in score.bars if q in marks or q in score.sections})
    for start in starts:
        if len(plans) < source.most and start >= free:
            plan = _plan(source, score, start, longest)
            if plan is not None:
                plans.append(plan)
                free = plan.end
    return plans


def _plan(source: Source, score: Score, start: float, longest: float) -> _Plan | None:
    key = f"{source.path.parent.name}/{source.path.name}/{start:g}"
    rng = _seed(key, "performance")
    manner = Manner.draw(rng)
    length = rng.uniform(0.55, 0.95) * longest
    whole = performance.nominal_map(start, score.end, score.tempi)
    last = whole.to_quarters(length * manner.speed)
    bars = [b for b in (*score.bars, score.end) if start < b <= last + 1e-6]
    if not bars or whole.to_seconds(bars[-1]) / manner.speed < 0.4 * longest:
        return None  # too short, or one endless bar
    end = bars[-1]
    nominal = performance.nominal_map(start, end, score.tempi)
    excerpt = _excerpt(score, start, end)
    tempo = performance.expressive_map(nominal, excerpt.bars, manner, rng)
    lines = scores.voices(excerpt)
    plan = _Plan(
        key,
        source.composer,
        re.sub(r"[^A-Za-z0-9.-]+", "-", source.path.stem)[:40],
        score.title or source.path.stem,
        _family(score),
        len(score.staves),
        excerpt,
        start,
        end,
        manner,
        nominal,
        tempo,
        float(rng.uniform(0.3, 1.2)),
        tuple(_candidates(excerpt, lines, tempo, _seed(key, "themes"))),
        b"\xff".join(_intervals(line.notes) for line in lines),
    )
    return plan if len(plan.candidates) > 1 else None


def _excerpt(score: Score, start: float, end: float) -> Score:
    notes = tuple(
        n._replace(duration=min(n.duration, end - n.onset)) for n in score.notes if start - 1e-6 <= n.onset < end - 1e-6
    )
    bars = tuple(b for b in score.bars if start <= b < end)
    return Score(score.title, score.composer, notes, score.staves, bars, end, (start,), score.tempi)


def _candidates(
    score: Score, lines: Sequence[scores.Line], tempo: TempoMap, rng: np.random.Generator
) -> Iterable[_Candidate]:
    """Stretches of 4 to 20 s, about 9 s on average, that begin with a bar or after a rest."""
    graces = np.array([(n.onset, n.staff) for n in score.notes if n.grace]).reshape(-1, 2)
    for line in lines:
        notes = line.notes
        if len(notes) < 8:
            continue
        on = tempo.to_seconds([n.onset for n in notes])
        off = tempo.to_seconds([n.end for n in notes])
        onsets = np.array([n.onset for n in notes])
        on_bar = np.isclose(onsets[:, None], np.array(score.bars)[None], atol=1e-3).any(1)
        rested = np.concatenate([[True], on[1:] - off[:-1] > 0.25])
        closes = np.concatenate([(on_bar | rested)[1:], [True]])  # a bar line or a rest follows
        begins = np.flatnonzero(on_bar | rested)
        taken = -1.0
        tried = sorted(rng.choice(begins, min(len(begins), 24), replace=False))
        for first in tried:
            length = float(np.clip(rng.lognormal(np.log(8.4), 0.38), 4.3, 19))
            if on[first] < taken:
                continue
            lengths = off - on[first]
            fits = (np.arange(len(notes)) >= first + 7) & (lengths >= max(4.1, 0.7 * length))
            fits &= lengths <= min(19.8, 1.3 * length)
            ends = np.flatnonzero(fits & closes)
            ends = ends if len(ends) else np.flatnonzero(fits)
            if not len(ends):
                continue
            last = ends[np.abs(lengths[ends] - length).argmin()]
            chosen = notes[first : last + 1]
            inside = (graces[:, 1] == line.staff) & (graces[:, 0] >= onsets[first]) & (graces[:, 0] < chosen[-1].end)
            if inside.sum() > 0.1 * len(chosen) or not _is_tune(chosen, on[first : last + 1], off[first : last + 1]):
                continue
            if kind := _place(score, chosen, tempo):
                bar = max((b for b in score.bars if b <= onsets[first] + 1e-3), default=onsets[first])
                # a rest of up to a quarter that opens the bar belongs to the theme, as in MTD
                silent = bar >= notes[first - 1].end - 1e-3 if first else True
                start = bar if onsets[first] - bar <= 1 and silent else onsets[first]
                taken = off[last]
                yield _Candidate(kind, line.staff, chosen, float(start), float(chosen[-1].end))


def _is_tune(notes: Sequence[Note], on: np.ndarray, off: np.ndarray) -> bool:
    """At least 8 notes on 5 pitches, few rests and repetitions, and slow enough for 25 frames a second."""
    pitches = [n.pitch for n in notes]
    rests = np.maximum(on[1:] - off[:-1], 0)
    repeated = sum(a % 12 == b % 12 for a, b in itertools.pairwise(pitches))
    return (
        len(notes) >= 8
        and len(set(pitches)) >= 5
        and len({p % 12 for p in pitches}) >= 4
        and rests.sum() <= 0.15 * (off[-1] - on[0])
        and rests.max() <= 1.2
        and repeated <= 0.4 * len(notes)
        and (off[-1] - on[0]) / (len(notes) + repeated) >= 0.1
        and np.median(on[1:] - on[:-1]) >= 0.1
    )


def _place(score: Score, line: Sequence[Note], tempo: TempoMap) -> str:
    """Where a line lies in what sounds: "melody" on top, "bass" at the bottom, "inner"; "" if here and there, or if
    it sounds alone more than a third of the time.
    """
    begin, end = line[0].onset, line[-1].end
    own = {(n.onset, n.pitch, n.staff) for n in line}
    grid = np.arange(begin, end, 0.125)
    pitch, high, low = np.zeros(len(grid)), np.zeros(len(grid)), np.full(len(grid), 999.0)
    for note in score.notes:
        if note.onset < end and note.end > begin and not note.grace:
            frames = slice(*np.searchsorted(grid, (note.onset - 1e-3, note.end - 1e-3)))
            if (note.onset, note.pitch, note.staff) in own:
                pitch[frames] = note.pitch
            else:
                high[frames] = np.maximum(high[frames], note.pitch)
                low[frames] = np.minimum(low[frames], note.pitch)
    sounding = pitch > 0
    accompanied = sounding & (high > 0)
    if accompanied.sum() < 0.67 * sounding.sum():
        return ""
    top, bottom = (pitch >= high)[accompanied].mean(), (pitch <= low)[accompanied].mean()
    if top >= 0.75 and top >= bottom:
        return "melody"
    if bottom >= 0.75:
        return "bass"
    return "inner" if max(top, bottom) <= 0.5 else ""


#: Barlow and Morgenstern's themes are tunes, mostly; those in other places of the texture are told apart in results
_SHARES = {"melody": 0.8, "inner": 0.1, "bass": 0.1}


def _choose(groups: Sequence[tuple[int, Sequence[_Plan]]], themes: int) -> list[_Plan]:
    """Recordings with the themes that are queries, of each group (how many, plans) as many as it should give.

    A theme's intervals occur in its own recording alone, and no two themes are equal.
    """
    groups = list(zip([count for count, _ in groups], _without_duplicates([plans for _, plans in groups]), strict=True))
    texts = Counter(plan.lines for _, plans in groups for plan in plans)
    rng = _seed("themes of the corpus", str(themes))
    mean = themes / sum(count for count, _ in groups)
    counts: Counter[str] = Counter()
    chosen: list[_Plan] = []
    spare: list[tuple[int, _Candidate]] = []
    seen: set[bytes] = set()

    def behind(kind: str) -> float:
        return _SHARES[kind] * (counts.total() + 1) - counts[kind]

    for count, plans in groups:
        found = 0
        for plan in plans:
            own = []
            for index in rng.permutation(len(plan.candidates)):
                tune = plan.candidates[index].intervals
                if tune not in seen and not any(tune in text for text in texts if text != plan.lines):
                    seen.add(tune)
                    own.append(plan.candidates[index])
            if not own or found == count:
                continue
            found += 1
            picked: list[_Candidate] = []
            while own and len(picked) < max(1, math.floor(mean + rng.uniform())):
                kind = max(sorted({c.kind for c in own}), key=behind)
                if picked and counts[kind] >= 1.1 * _SHARES[kind] * themes:
                    break
                picked.append(own.pop(next(n for n, c in enumerate(own) if c.kind == kind)))
                counts[kind] += 1
            spare += [(len(chosen), candidate) for candidate in own]
            chosen.append(replace(plan, candidates=tuple(picked)))
    for index in rng.permutation(len(spare)):
        number, candidate = spare[index]
        if counts.total() < themes and counts[candidate.kind] < 1.1 * _SHARES[candidate.kind] * themes:
            chosen[number] = replace(chosen[number], candidates=(*chosen[number].candidates, candidate))
            counts[candidate.kind] += 1
    return chosen


def _without_duplicates(groups: Sequence[Sequence[_Plan]], length: int = 12, most: float = 0.25) -> list[list[_Plan]]:
    """Without plans a quarter of whose lines, in stretches of 12 intervals, is in a plan before them: the same piece
    in another edition, or a repeated section.
    """
    first: dict[bytes, int] = {}
    kept, number = [], 0
    for plans in groups:
        kept.append([])
        for plan in plans:
            grams = {plan.lines[i : i + length] for i in range(len(plan.lines) - length + 1)}
            known = Counter(first[gram] for gram in grams if gram in first)
            if not known or max(known.values()) <= most * len(grams):
                kept[-1].append(plan)
                for gram in grams:
                    first.setdefault(gram, number)
            number += 1
    return kept


# -- making the recordings ---------------------------------------------------------------------------------------------

#: General MIDI programs by place in the ensemble, from the highest part to the lowest.
_ENSEMBLES = {
    "strings": (40, 40, 41, 42),
    "winds": (73, 68, 71, 70),
    "clarinets": (71, 71, 71, 70),
    "brass": (56, 56, 60, 57),
    "choir": (52, 52, 52, 52),
    "string orchestra": (48, 48, 48, 43),
    "organ": (19, 19, 19, 19),
    "piano": (0, 0, 0, 0),
}
_SINGERS = {"oboe": 68, "flute": 73, "violin": 40, "choir": 52, "clarinet": 71, "cello": 42, "horn": 60}
_KEYBOARDS = {"grand piano": 0, "bright piano": 1, "honky-tonk piano": 3, "harpsichord": 6}


def _instruments(plan: _Plan, rng: np.random.Generator) -> tuple[str, list[int]]:
    """Name of the ensemble and the program of every staff.  Quartets are for strings more often than not."""
    if plan.family == "piano":
        name = str(rng.choice(list(_KEYBOARDS), p=[0.5, 0.25, 0.1, 0.15]))
        return name, [_KEYBOARDS[name]] * plan.staves
    if plan.family == "song":
        singer, keyboard = str(rng.choice(list(_SINGERS))), str(rng.choice(["grand piano", "bright piano"]))
        return f"{singer} and {keyboard}", [_SINGERS[singer]] * (plan.staves - 2) + [_KEYBOARDS[keyboard]] * 2
    name = str(rng.choice(list(_ENSEMBLES), p=[0.51] + [0.07] * 7))
    programs = _ENSEMBLES[name]
    places = np.linspace(0, len(programs) - 1, plan.staves).round().astype(int)
    return name, [programs[place] for place in places]


def _render(plan: _Plan, soundfonts: Sequence[str]) -> tuple[np.ndarray, dict]:
    """(samples,) int16 at 22,050 Hz, and how it was made."""
    rng = _seed(plan.key, "recording")
    ensemble, programs = _instruments(plan, rng)
    made = {
        "ensemble": ensemble,
        "programs": programs,
        "soundfont": soundfonts[int(rng.integers(len(soundfonts)))],
        "tuning_cents": round(float(np.clip(rng.normal(0, 10), -30, 30)), 2),
        "rt60_seconds": round(float(rng.uniform(0.2, 2.2)), 3),
        "wet": round(float(rng.uniform(0.1, 0.7)), 3),
        "snr_db": round(float(rng.uniform(30, 60)), 2),
        "lead_seconds": plan.lead,
        **asdict(plan.manner),
    }
    themes = {(n.onset, n.pitch, n.staff) for candidate in plan.candidates for n in candidate.notes}
    played = performance.perform(plan.score.notes, plan.tempo, plan.score.bars, plan.manner, rng, themes)
    late = [replace(note, onset=note.onset + plan.lead) for note in played]
    audio = synthesis.synthesise(late, made["soundfont"], programs, tail=1.5, cents=made["tuning_cents"])
    audio = performance.room(audio, made["rt60_seconds"], made["wet"], rng)
    audio = performance.pink_noise(audio, made["snr_db"], rng)
    return np.round(audio * (0.9 * 32767 / np.abs(audio).max())).astype(np.int16), made


class _Job(NamedTuple):
    """A recording to make: the number of its document, and the index rows of its themes, complete but for times."""

    document: str
    plan: _Plan
    themes: tuple[str, ...]


def _make(root: Path, soundfonts: Sequence[str], job: _Job) -> list[dict[str, str]]:
    """Write a recording and its themes, the recording last: where it is there, all is; return the index rows."""
    plan, rows = job.plan, []
    recording = root / "data_RECORDING" / f"{job.document}.flac"
    done = recording.exists()
    audio, made = (None, {}) if done else _render(plan, soundfonts)
    for identity, candidate in zip(job.themes, plan.candidates, strict=True):
        stem = f"MTD{identity}_{plan.composer}_{plan.work}"
        meta_path = root / "data_META" / f"{stem}.json"
        if done:
            meta = files.read_json(meta_path)
        else:
            meta = _write_theme(root, stem, identity, job, candidate, audio, made)
            files.write_json(meta_path, meta)
        rows.append({c: meta.get(c, "") for c in COLUMNS} | {"Comment1": meta["Comment"]})
    if not done:
        files.write_bytes(recording, _encoded(audio, "FLAC"))
    return rows


def _write_theme(
    root: Path, stem: str, identity: str, job: _Job, theme: _Candidate, audio: np.ndarray, made: dict
) -> dict:
    """Notes, alignment and excerpt of one theme; returns its metadata."""
    plan = job.plan
    rng = _seed(plan.key, f"theme {theme.start} {theme.staff}")
    transposition = int(rng.choice([-6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6])) if rng.uniform() < 0.3 else 0
    played = plan.lead + plan.tempo.to_seconds([theme.start, theme.end])
    start = math.floor(played[0] * 10) / 10
    end = min(math.ceil(played[1] * 10) / 10, len(audio) / synthesis.SAMPLE_RATE)
    zero = plan.nominal.to_seconds(theme.start)
    onsets = plan.nominal.to_seconds([n.onset for n in theme.notes]) - zero
    ends = plan.nominal.to_seconds([n.end for n in theme.notes]) - zero
    pitches = [n.pitch - transposition for n in theme.notes]
    table = ['"Start";"Duration";"Pitch"']
    table += [f"{on:.6f};{off - on:.6f};{p}" for on, off, p in zip(onsets, ends, pitches, strict=True)]
    files.write_text(root / "data_EDM-corr_CSV" / f"{stem}.csv", "\n".join(table) + "\n")
    files.write_bytes(root / "data_EDM-corr_MID" / f"{stem}.mid", _midi(onsets, ends, pitches))
    sounding = plan.lead + plan.tempo.to_seconds([n.onset for n in theme.notes]) - start
    rows = [*zip(onsets, sounding, strict=True), (ends[-1], end - start)]
    text = "".join(f"{midi:.5f};{wav:.5f}\n" for midi, wav in rows)
    files.write_text(root / "data_ALIGNMENT" / f"{stem}.csv", '"MID";"WAV"\n' + text)
    excerpt = audio[round(start * synthesis.SAMPLE_RATE) : round(end * synthesis.SAMPLE_RATE)]
    files.write_bytes(root / "data_AUDIO" / f"{stem}.wav", _encoded(excerpt, "WAV"))
    return dict.fromkeys(COLUMNS[:-3], "") | {
        "MTDID": identity,
        "ComposerID": plan.composer,
        "WorkID": plan.work,
        "CollectionID": plan.key,
        "WCMID": job.document,
        "WorkTitle": plan.title,
        "ThemeLabelBM": theme.kind,
        "ThemeInstruments": pretty_midi.program_to_instrument_name(made["programs"][theme.staff]),
        "WorkInstruments": made["ensemble"],
        "Ensemble": plan.family,
        "Polyphony": "Polyphon",
        "StartTime": _clock(start),
        "EndTime": _clock(end),
        "MidiTransposition": str(transposition),
        "Comment": "stand-in: synthesised from notation",
        "Recording": made,
    }


def _clock(seconds: float) -> str:
    tenths = round(seconds * 10)
    return f"{tenths // 600:02}:{tenths % 600 / 10:04.1f}"


def _midi(onsets: np.ndarray, ends: np.ndarray, pitches: Sequence[int]) -> bytes:
    midi = pretty_midi.PrettyMIDI(resolution=960)
    midi.instruments.append(pretty_midi.Instrument(0))
    midi.instruments[0].notes = [
        pretty_midi.Note(90, int(p), float(on), float(off)) for on, off, p in zip(onsets, ends, pitches, strict=True)
    ]
    content = io.BytesIO()
    midi.write(content)
    return content.getvalue()


def _encoded(audio: np.ndarray, format_: str) -> bytes:
    encoded = io.BytesIO()  # libsndfile says nothing when a disk is full as it closes a file
    soundfile.write(encoded, audio, synthesis.SAMPLE_RATE, format=format_, subtype="PCM_16")
    return encoded.getvalue()


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]], delimiter: str) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


# -- the open corpora --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenCorpus:
    """A stand-in for MTD and its discs, built from open notation.

    ``collection`` is "open" (needs `make corpora` or DUET_SCORES, and the SoundFonts of apt.txt) or "registry", the
    corpus inside music21.  It has ``recordings`` of at most ``longest`` seconds, where so many can be had, and about
    ``themes`` themes.
    """

    collection: str
    recordings: int
    themes: int
    longest: float = 120.0

    @property
    def name(self) -> str:
        return "OpenScore and Polish piano music (open)" if self.collection == "open" else "music21 (open)"

    def build(self, workers: int | None = None, progress: bool = False) -> Mtd:
        """The corpus under the cache, built on first use.

        Resumable: a recording that is there is done; ``corpus.json`` comes last.  Raises DuetError where sources or
        SoundFonts are not there.
        """
        if self.collection not in ("open", "registry"):
            raise DuetError(f"unknown collection {self.collection!r}", remedy='"open" or "registry"')
        if self.collection == "open":
            fonts = _OPEN_SOUNDFONTS
            groups = [(round(share * self.recordings), _open_sources(key, most)) for key, share, most in _OPEN]
            origin = files.digest(*(files.file_digest(s.path) for _, sources in groups for s in sources))
        else:
            fonts = (synthesis.available_soundfont(),)
            groups = [(self.recordings, _registry_sources())]
            origin = f"music21 {importlib.metadata.version('music21')}"
        settings = {**asdict(self), "engine": synthesis.engine(), "soundfonts": fonts}
        digests = [synthesis.soundfont_digest(font) for font in fonts]
        identity = files.digest(origin, json.dumps(settings, sort_keys=True), *digests, str(BUILDER_VERSION))
        root = paths.cache() / "corpora" / f"mtd-{self.collection}-{identity[:12]}"
        if (root / "corpus.json").exists():
            return Mtd(root)
        build(root, groups, self.themes, self.longest, fonts, workers, progress)
        description = {"name": self.name, "fingerprint": identity, "settings": settings, "layout": "MTD"}
        files.write_json(root / "corpus.json", {**description, "stand_in": True})
        return Mtd(root)


def build(
    root: str | Path,
    groups: Sequence[tuple[int, Sequence[Source]]],
    themes: int,
    longest: float,
    soundfonts: Sequence[str],
    workers: int | None = None,
    progress: bool = False,
) -> None:
    """Write recordings of at most ``longest`` seconds and their themes in MTD layout, but for ``corpus.json``.

    Each group is (how many recordings, sources); no two recordings share a theme.
    """
    root = Path(root)
    planned = []
    for number, (count, sources) in enumerate(groups):
        order = iter(_in_turn(sources, _seed("sources", str(number))))
        plans: list[_Plan] = []
        while (missing := math.ceil(_SURPLUS * count) - len(plans)) > 0:
            several = list(itertools.islice(order, math.ceil(missing / sources[0].most)))
            if not several:
                break
            for found in in_parallel(partial(_plans, longest), several, "scores", workers, progress):
                plans += found
        planned.append((count, plans))
    chosen = _choose(planned, themes)
    if not chosen:
        raise DuetError("no score has a theme to build the corpus from", path=root, remedy="check the source folder")
    ids = (f"{n:04}" for n in itertools.count(1))
    jobs = [
        _Job(f"{n:04}", plan, tuple(itertools.islice(ids, len(plan.candidates)))) for n, plan in enumerate(chosen, 1)
    ]
    made = in_parallel(partial(_make, root, soundfonts), jobs, "recordings", workers, progress)
    rows = [row for rows in made for row in rows]
    files.write_text(root / "03_MTD-medium.csv", _csv(COLUMNS, rows, ";"))
    counts = Counter(row["ComposerID"] for row in rows)
    if len(counts) >= FOLDS:
        folds = composer_folds(counts)
        table = [{"composer": c, "fold": folds[c], "themes": counts[c]} for c in sorted(counts)]
        files.write_text(root / "folds.csv", _csv(("composer", "fold", "themes"), table, ","))
