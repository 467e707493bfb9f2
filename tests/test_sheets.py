"""The open corpora in MSMD layout: pages and performances that belong together, sides that share nothing."""

import csv
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest

from duet import DuetError, engraving, lilypond, scores, semantic, synthesis
from duet.corpora import samples, sheets
from duet.corpora.msmd import Msmd, read_split, tempo_ratio
from duet.engraving import Notehead, Sheet, System
from duet.performance import nominal_map

_scores = Path(os.environ.get("DUET_SCORES", "")) / "mutopia_msmd"
needs_mutopia = pytest.mark.skipif(not (_scores / "ftp").is_dir(), reason="needs DUET_SCORES")

TUNE = "clef-G2 keySignature-DM timeSignature-4/4 note-A4_quarter barline"
TUNE += " note-D5_quarter note-F#5_quarter note-A5_half tie note-A5_half note-G5_quarter note-B4_quarter barline"
TUNE += " note-E5_quarter note-C#5_quarter note-A4_half barline note-D5_whole barline"
TUNE = TUNE.replace("note-A5_half tie note-A5_half", "note-A5_half barline tie note-A5_half")


def tune():
    return semantic.mei_from_tokens(TUNE.split())


# -- two hands ---------------------------------------------------------------------------------------------------------


def test_a_left_hand_that_fits_the_tune():
    sheet = engraving.engrave_pages(sheets.two_hands(tune()))
    assert {s.staves for s in sheet.systems} == {2}
    upper, lower = ([h for h in sheet.noteheads if h.staff == n] for n in (0, 1))
    assert [h.pitch for h in upper] == [69, 74, 78, 81, 81, 79, 71, 76, 73, 69, 74]
    assert [h.onset for h in upper] == [0, 1, 2, 3, 5, 7, 8, 9, 10, 11, 13]
    bars = [[h for h in lower if a <= h.onset < b] for a, b in itertools.pairwise((1, 5, 9, 13, 17))]
    assert [[h.pitch for h in bar if h.onset == bar[0].onset] for bar in bars] == [[50], [50], [45], [50]]
    names = [{h.pitch % 12 for h in bar} for bar in bars]
    assert names[0] == names[1] == names[3] == {2, 6, 9} and names[2] == {9, 1, 4}  # D D A D
    assert not [h for h in lower if h.onset < 1]  # the pick-up is the right hand's alone


def test_a_tie_of_the_tune_is_one_note():
    sheet = engraving.engrave_pages(sheets.two_hands(tune()))
    assert [(h.onset, h.pitch) for h in sheet.noteheads if h.tied] == [(5.0, 81)]
    notes, _ = engraving.sounding(sheet.noteheads)
    assert [n.duration for n in notes if n.pitch == 81] == [4.0]


def test_minor_tunes_end_on_their_tonic():
    tokens = "clef-G2 keySignature-CM timeSignature-3/4 note-E5_half. barline note-A4_half. barline".split()
    lower = [
        h for h in engraving.engrave_pages(sheets.two_hands(semantic.mei_from_tokens(tokens))).noteheads if h.staff
    ]
    assert {h.pitch % 12 for h in lower if h.onset >= 3} == {9, 0, 4}


# -- sides -------------------------------------------------------------------------------------------------------------


def test_no_work_and_no_tune_is_on_two_sides():
    rng = np.random.default_rng(3)
    pieces = [(f"C__{rng.integers(200)}__{n}", f"tune {rng.integers(400)}") for n in range(120)]
    split = sheets.split_by_tune(pieces)
    assert sorted(p for own in split.values() for p in own) == sorted(p for p, _ in pieces)
    tunes = dict(pieces)
    works = [{p.split("__")[1] for p in own} for own in split.values()]
    sung = [{tunes[p] for p in own} for own in split.values()]
    for group in (works, sung):
        assert all(not a & b for a, b in itertools.combinations(group, 2))
    assert all(split.values()) and split == sheets.split_by_tune(pieces[::-1])


def test_shares_of_pieces_that_have_nothing_in_common():
    split = sheets.split_by_tune([(f"C__{n}__x", f"{n}") for n in range(100)])
    assert [len(split[p]) for p in ("train", "valid", "test")] == pytest.approx([70, 10, 20], abs=2)
    few = sheets.split_by_tune([(f"C__{n}__x", f"{n}") for n in range(3)])
    assert [len(own) for own in few.values()] == [1, 1, 1]
    with pytest.raises(DuetError, match="too few"):
        sheets.split_by_tune([("C__1__x", "1"), ("C__1__y", "2")])


# -- performances ------------------------------------------------------------------------------------------------------

HEADS = [
    Notehead(0, 0, 0, 60, 100, 67, 109, 0.0, 1.0, 72, False, False),
    Notehead(0, 0, 1, 120, 100, 127, 109, 0.0, 2.0, 48, False, False),
    Notehead(0, 0, 0, 60, 300, 67, 309, 1.0, 1.0, 72, True, False),
    Notehead(0, 0, 0, 62, 500, 69, 509, 2.0, 1.0, 74, False, False),
    Notehead(0, 0, 1, 120, 500, 127, 509, 2.0, 1.0, 48, False, False),
]


def small(heads=HEADS, tempi=((0.0, 120.0),)):
    image = np.full((1181, 835), 255, np.uint8)
    return Sheet((image,), (System(0, 50, 40, 130, 800, 2),), tuple(heads), (0.0, 4.0), tempi)


def test_strict_performances_keep_the_notated_time():
    slow = next(r for r in sheets.renderings("A__b__c", "test", 0) if r.ratio == 2.0)
    notes, seconds = sheets.performed(small(), slow)
    assert seconds == pytest.approx([0, 0, np.nan, 2, 2], nan_ok=True)
    assert [(n.onset, n.duration, n.pitch, n.velocity) for n in notes] == [
        (0.0, 2.0, 48, 64), (0.0, 2.0, 72, 64), (2.0, 1.0, 48, 64), (2.0, 1.0, 74, 64)
    ]  # fmt: skip


def test_a_mark_in_the_middle_changes_the_tempo():
    plain = sheets.renderings("A__b__c", "valid", 0)[0]
    _, seconds = sheets.performed(small(tempi=((0.0, 120.0), (1.0, 60.0))), plain)
    assert seconds == pytest.approx([0, 0, np.nan, 1.5, 1.5], nan_ok=True)


def test_expressive_performances_bend_time_and_say_so():
    heads = [HEADS[0]._replace(onset=float(n), pitch=60 + n % 12, left=10.0 * n, right=10.0 * n + 9) for n in range(64)]
    sheet = small(heads)
    free = sheets.renderings("A__b__c", "valid", 0)[-1]
    assert free.expressive and free.name.endswith("-rubato")
    notes, seconds = sheets.performed(sheet, free)
    assert [n.onset for n in notes] == pytest.approx(seconds.tolist())
    local = np.diff(seconds)[:-6] / 0.5  # before the ritardando
    assert 0.5 < local.min() < 0.95 and 1.05 < local.max() < 1.8
    assert 0.7 < np.percentile(local, 5) and np.percentile(local, 95) < 1.4
    assert len({n.velocity for n in notes}) > 5
    assert np.array_equal(seconds, sheets.performed(sheet, free)[1])


def test_the_test_instrument_is_never_trained_on():
    training, test = sheets.voices()
    assert test not in training and len(set(training)) == len(training)
    played = {r.voice for n in range(40) for part in ("train", "valid") for r in sheets.renderings(f"p{n}", part, 6)}
    assert test not in played and (len(played) == len(training) or len(training) > 4)
    assert {r.voice for r in sheets.renderings("p", "test", 6)} == {test}


def test_voices_of_every_machine(monkeypatch):
    for fonts, sampled in itertools.product(
        [("fluidr3", "timgm6mb", "musescore"), ("timgm6mb",), ("fluidr3", "timgm6mb")], (True, False)
    ):
        monkeypatch.setattr(synthesis, "installed", lambda font, fonts=fonts: font in fonts)
        monkeypatch.setattr(sheets.samples, "available", lambda name, sampled=sampled: sampled)
        training, test = sheets.voices()
        assert training and test not in training
        if not sampled and fonts != ("timgm6mb",):  # not even another program of the test's SoundFont
            assert all(v.font != test.font for v in training[:1])
        if len(fonts) == 3 and sampled:
            assert len(training) + 1 >= 4


def test_names_say_ratio_and_instrument():
    made = sheets.renderings("A__b__c", "train", 5)
    assert len(made) == len({r.name for r in made}) == 7
    assert all(tempo_ratio(r.name) == pytest.approx(r.ratio) for r in made)
    assert made == sheets.renderings("A__b__c", "train", 5) and made != sheets.renderings("A__b__d", "train", 5)
    assert sorted({r.ratio for r in sheets.renderings("A__b__c", "test", 0)}) == [0.5, 0.75, 1.0, 1.5, 2.0]
    every = {(r.ratio, r.voice) for r in sheets.renderings("A__b__c", "train", None)}
    assert every == set(itertools.product((0.9, 0.95, 1.0, 1.05, 1.1), sheets.voices()[0]))


def test_one_composer_learns_and_the_others_are_tested():
    pieces = [f"A__w{n // 2}__m{n % 2}" for n in range(24)] + ["B__x__y", "C__x__y"]
    split = sheets.split_by_composer(pieces, "A")
    assert split["test"] == ["B__x__y", "C__x__y"] and len(split["valid"]) == 4 and len(split["train"]) == 20
    assert not {p.rsplit("__", 1)[0] for p in split["train"]} & {p.rsplit("__", 1)[0] for p in split["valid"]}
    with pytest.raises(DuetError, match="too few"):
        sheets.split_by_composer(pieces, "D")


# -- sheets that cannot be used ----------------------------------------------------------------------------------------


def row(onsets, columns, tops=None):
    tops = tops or [60] * len(onsets)
    return small([
        Notehead(0, 0, 0, top, column, top + 7, column + 9, onset, 1.0, 60, False, False)
        for onset, column, top in zip(onsets, columns, tops, strict=True)
    ])  # fmt: skip


def test_faults_are_found():
    steps, columns = list(range(20)), [100 + 20 * n for n in range(20)]
    assert sheets.faults(row(steps, columns)) == ""
    assert "backwards" in sheets.faults(row([*steps[:10], *steps[:10]], columns))
    assert "far from" in sheets.faults(row(steps, columns, [60] * 19 + [700]))
    assert "noteheads" in sheets.faults(row(steps[:3], columns[:3]))


# -- whole corpora -----------------------------------------------------------------------------------------------------


@pytest.fixture
def chorales(monkeypatch):
    """Three short chorales and a tune of music21's corpus."""
    wanted = {f"{stem}.mxl" for stem in ("bwv349", "bwv256", "bwv44.7")} | {"UnionHornpipe.abc"}
    found = [s for s in sheets.registry_sources(1500) if s.path.name in wanted]
    assert len(found) == 4
    monkeypatch.setattr(sheets, "registry_sources", lambda count: found)
    monkeypatch.setattr(sheets, "_TEST_RATIOS", (1.0,))
    return found


def test_a_corpus_from_beginning_to_end(workspace, chorales, monkeypatch):
    wanted = sheets.OpenSheets("registry", 4, 0)
    made = sheets._make
    calls = []

    def dies(root, job):
        calls.append(job)
        if len(calls) == 3:
            raise KeyboardInterrupt
        made(root, job)

    monkeypatch.setattr(sheets, "_make", dies)
    with pytest.raises(KeyboardInterrupt):
        wanted.build(workers=1)
    root = next((workspace / "cache" / "corpora").iterdir())
    done = {p: p.stat().st_mtime_ns for job in calls[:2] for p in (root / job.source.piece).rglob("*")}
    assert len(done) > 20
    monkeypatch.setattr(sheets, "_make", made)
    monkeypatch.setattr(engraving, "engrave_pages", lambda *_: pytest.fail("engraved again"))
    corpus = wanted.build(workers=1)
    assert done == {p: p.stat().st_mtime_ns for p in done}
    assert corpus.problems(workers=1) == {}
    split = corpus.split()
    assert sorted(p for own in split.values() for p in own) == corpus.pieces == sorted(s.piece for s in chorales)
    assert corpus.description["stand_in"] and corpus.description["counts"]["pieces"] == 4
    assert json.loads((corpus.root / "dropped.json").read_text()) == {}
    before = {p: p.stat().st_mtime_ns for p in corpus.root.rglob("*")}
    assert wanted.build(workers=1).fingerprint == corpus.fingerprint
    assert before == {p: p.stat().st_mtime_ns for p in corpus.root.rglob("*")}
    for piece in corpus.pieces:
        _check_piece(corpus, piece)


def test_another_edition_has_the_same_notes_on_other_lines(workspace, chorales):
    wanted = sheets.OpenSheets("registry", 4, 0)
    corpus = wanted.build(workers=1)
    chosen = corpus.split()["test"][0]
    assert wanted.reprint(corpus, [chosen]) == {} and corpus.has_other_edition(chosen)
    first, other = Msmd(corpus.root), Msmd(corpus.root, other_edition=True)
    _check_piece(other, chosen)
    take = first.performances(chosen)[0]
    struck = [
        sorted(
            (round(float(s), 3), int(p))
            for s, p in zip(c.onsets(chosen, take), c.noteheads(chosen)["pitch"], strict=True)
            if s == s
        )
        for c in (first, other)
    ]
    assert struck[0] == struck[1]
    assert other.strip(chosen).image.shape[1] > 1.1 * first.strip(chosen).image.shape[1]
    assert np.array_equal(first.pages(chosen)[0], Msmd(corpus.root).pages(chosen)[0])
    rest = next(piece for piece in corpus.pieces if piece != chosen)  # has none: the first one serves
    assert np.array_equal(other.pages(rest)[0], first.pages(rest)[0])
    before = {p: p.stat().st_mtime_ns for p in corpus.root.rglob("*")}
    assert wanted.reprint(corpus, [chosen]) == {} and before == {
        p: p.stat().st_mtime_ns for p in corpus.root.rglob("*")
    }
    (corpus.root / chosen / "meta.yml").write_text("n_scores: 1\n")  # what is not marked as complete is not read
    assert np.array_equal(Msmd(corpus.root, other_edition=True).pages(chosen)[0], first.pages(chosen)[0])
    wrong = next(s for s in chorales if s.piece == rest)._replace(piece=chosen)
    assert sheets._reprint(corpus, wrong) == "it has other notes than the first"


def _check_piece(corpus: Msmd, piece: str) -> None:
    heads, pages = corpus.noteheads(piece), corpus.pages(piece)
    take = corpus.performances(piece)[0]
    seconds, notes = corpus.onsets(piece, take), corpus.notes(piece, take)
    assert np.array_equal(np.isnan(seconds), heads["tied"])  # every notehead that is not tied has its one onset
    assert (heads["system"] >= 0).all()
    struck = {(round(on, 3), int(pitch)) for on, pitch in notes[:, :2]}
    assert all((round(float(s), 3), int(p)) in struck for s, p in zip(seconds, heads["pitch"], strict=True) if s == s)
    for head in heads:  # there is ink, at the bottom of a page as at its top
        box = pages[head["page"]][round(head["row"] - 2) : round(head["row"] + 3),
                                  round(head["column"] - 3) : round(head["column"] + 4)]  # fmt: skip
        assert box.min() < 100
    strip = corpus.unrolled(piece, take)
    assert strip.image.shape == (200, strip.widths.sum())
    assert np.isfinite(strip.systems).all() and (np.diff(strip.systems[:, 1]) > 0).all()
    moving = np.diff(strip.seconds) > 1e-6
    assert (np.diff(strip.columns)[moving] > -12).all()  # a shared onset may be drawn side by side
    # what is heard begins when the labels say
    spectrogram = corpus.spectrogram(piece, take)
    flux = np.maximum(np.diff(spectrogram, axis=1), 0).sum(0)
    frames = np.unique(np.ceil(strip.seconds[strip.seconds > 0] * 20).astype(int))
    near = [flux[max(0, f - 3) : f + 1].max() for f in frames]
    assert np.median(near) > 3 * np.median(flux)
    assert spectrogram.shape[1] / 20 > strip.seconds.max() + 1


def test_pages_of_a_quartet_have_its_notes(tmp_path, monkeypatch):
    """Slurs and staves, too, keep names of their own on the way from four staves to two."""
    monkeypatch.setenv("DUET_CACHE", str(tmp_path))
    quartet = next(s for s in sheets.registry_sources(100) if s.piece == "HaydnFJ__opus1no1__movement2")
    sheet = sheets.sheet_of(quartet)
    on_page = {(round(note.onset, 2), note.pitch) for note in engraving.sounding(sheet.noteheads)[0]}
    assert len(on_page) == 487
    assert on_page == {(round(note.onset, 2), note.pitch) for note in scores.read(quartet.path).notes}


def test_music21s_corpus_has_many_and_an_order_of_its_own():
    found = sheets.registry_sources(100)
    assert len(found) == len({s.piece for s in found}) == 100
    assert {s.kind for s in found} == {"score", "tune"}
    assert len({s.piece.split("__")[0] for s in found}) >= 5
    assert found == sheets.registry_sources(100)


def test_the_users_own_scores(workspace, tmp_path):
    import pretty_midi

    folder = tmp_path / "mine" / "set"
    folder.mkdir(parents=True)
    (folder / "tune.mei").write_text(tune())
    midi = pretty_midi.PrettyMIDI(initial_tempo=120)
    midi.instruments.append(pretty_midi.Instrument(0))
    midi.instruments[0].notes = [pretty_midi.Note(64, 60 + n % 5, n / 2, n / 2 + 0.5) for n in range(16)]
    midi.write(str(folder / "played.mid"))
    (folder / "broken.musicxml").write_text("<score-partwise>")
    (folder / "notes.txt").write_text("no score")
    found = sheets.folder_sources(tmp_path / "mine")
    assert [(s.piece, s.kind) for s in found] == [
        ("Own__set__broken", "score"), ("Own__set__played", "midi"), ("Own__set__tune", "score")
    ]  # fmt: skip
    made = [sheets._engraved(s) for s in found]
    assert made[0].problem and not made[1].problem
    sheet = sheets.sheet_of(found[1])
    assert [h.pitch for h in sheet.noteheads] == [60 + n % 5 for n in range(16)]
    assert [h.onset for h in sheet.noteheads] == list(range(16))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DuetError, match="holds no score"):
        sheets.folder_sources(tmp_path / "empty")


@needs_mutopia
@pytest.mark.parametrize("piece", ["Nobody__O1__x", "BachJS", "BachJS__BWV846__none"])
def test_pieces_without_a_source(piece):
    with pytest.raises(DuetError, match="no source"):
        sheets.mutopia_sources([piece])


def test_published_splits_of_what_is_here(tmp_path, monkeypatch):
    folder = tmp_path / "lists" / "msmd"
    folder.mkdir(parents=True)
    (folder / "all_pieces.yaml").write_text("failed: [a]\n")  # no split
    (folder / "lcasr_msmd_split.yaml").write_text("train: [a, b]\nvalid: [c]\ntest: [d]\ntest_v1: [e]\n")
    monkeypatch.setenv("DUET_LISTS", str(tmp_path / "lists"))
    sheets._write_published(tmp_path / "root", {"a", "d", "e"})
    assert [p.name for p in (tmp_path / "root").iterdir()] == ["lcasr_msmd_split.yaml"]
    found = read_split(tmp_path / "root" / "lcasr_msmd_split.yaml")
    assert found == {"train": ["a"], "valid": [], "test": ["d"]}


def test_missing_instruments(monkeypatch):
    monkeypatch.setattr(synthesis, "installed", lambda font: False)
    monkeypatch.setattr(sheets.samples, "available", lambda name: False)
    with pytest.raises(DuetError, match="SoundFont"):
        sheets.voices()


# -- Mutopia -----------------------------------------------------------------------------------------------------------


@needs_mutopia
@pytest.mark.skipif(not (_scores / "pieces.csv").is_file(), reason="needs the table of pieces")
def test_every_piece_of_msmd_has_its_source():
    with open(_scores / "pieces.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 467
    for row, source in zip(rows, sheets.mutopia_sources([r["msmd_name"] for r in rows]), strict=True):
        assert source.path == _scores / row["mutopia_source"]
        assert lilypond.main_file(source.path).suffix == ".ly"


@needs_mutopia
@pytest.mark.skipif(not lilypond.available(), reason="LilyPond is not installed")
def test_a_piece_of_mutopia():
    made = sheets._engraved(sheets.mutopia_sources(["BachJS__BWVAnh131__air"])[0])
    assert (made.problem, made.pages, made.noteheads) == ("", 1, 98)


def test_tempo_of_a_map_and_synthesiser_agree():
    """An onset of the map is where the synthesiser strikes, to the sample."""
    tempo = nominal_map(0.0, 8.0, ((0.0, 97.0),))
    notes, seconds = sheets.performed(small(tempi=((0.0, 97.0),)), sheets.renderings("A__b__c", "valid", 0)[0])
    assert seconds[3] == pytest.approx(float(tempo.to_seconds(2.0)))
    audio = samples.sound([n for n in notes if n.pitch == 74], sheets.voices()[0][0], 1.5)
    first = np.flatnonzero(np.abs(audio) > 0.01)[0] / synthesis.SAMPLE_RATE
    assert 0 <= first - seconds[3] < 0.03
