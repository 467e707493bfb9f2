"""Corpora in MTD layout: the published tree imitated by hand, damaged trees, folds, and building open ones."""

import csv
import importlib.util
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
import soundfile

from duet import DuetError, files, synthesis
from duet.corpora import themes
from duet.corpora.mtd import COLUMNS, Mtd, composer_folds
from duet.corpora.themes import Source, composer_id
from duet.scores import Note

RATE = 22_050

# -- the published layout ----------------------------------------------------------------------------------------------

THEMES = [  # id, composer, work, WCMID, start, end, transposition
    ("0116", "Bach", "BWV1046-01", "1758", "00:01", "00:07", "-1"),
    ("0117", "Bach", "BWV1046-01", "1758", "00:08.5", "00:12.0", "0"),
    ("1066-2", "Beethoven", "Op067-01", "0031", "01:02", "01:11.5", "0"),
]
NOTES = [(0.5, 0.4979, 65), (1.0, 0.4979, 69), (1.5, 0.2479, 72)]
ALIGNMENT = [(0.5, 0.75476), (1.0, 1.11848), (1.5, 1.45615), (1.7479, 6.05)]


def row(theme):
    known = dict(zip(("MTDID", "ComposerID", "WorkID", "WCMID", "StartTime", "EndTime", "MidiTransposition"), theme,
                     strict=True))  # fmt: skip
    return dict.fromkeys(COLUMNS, "") | {"WorkTitle": "A work; in parts", "Ensemble": "Concerto"} | known


def write_index(path, rows, columns=COLUMNS):
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, delimiter=";", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def write_theme(base, theme):
    stem = f"MTD{theme[0]}_{theme[1]}_{theme[2]}"
    texts = {
        "data_EDM-corr_CSV": '"Start";"Duration";"Pitch"\n' + "".join(f"{a};{b};{c}\n" for a, b, c in NOTES),
        "data_ALIGNMENT": '"MID";"WAV"\n' + "".join(f"{a:.5f};{b:.5f}\n" for a, b in ALIGNMENT),
    }
    for kind, text in texts.items():
        (base / kind).mkdir(parents=True, exist_ok=True)
        (base / kind / f"{stem}.csv").write_text(text)
    meta = {k: v for k, v in row(theme).items() if not k.startswith("Comment")} | {"Comment": ""}
    (base / "data_META").mkdir(exist_ok=True)
    (base / "data_META" / f"{stem}.json").write_text(json.dumps(meta))
    (base / "data_EDM-corr_MID").mkdir(exist_ok=True)
    midi = pretty_midi.PrettyMIDI(resolution=960)
    midi.instruments.append(pretty_midi.Instrument(0))
    midi.instruments[0].notes = [pretty_midi.Note(80, p, s, s + d) for s, d, p in NOTES]
    midi.write(str(base / "data_EDM-corr_MID" / f"{stem}.mid"))
    write_audio(base / "data_AUDIO" / f"{stem}.wav", 9.5 if theme[0] == "1066-2" else 6.05)


def write_audio(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(1).uniform(-0.3, 0.3, round(seconds * RATE))
    soundfile.write(path, noise, RATE)


def published(root, flat=False, index=True):
    """MTD as it comes: a folder per size, or flat; without recordings."""
    base = root if flat else root / "03_MTD-medium"
    for theme in THEMES:
        write_theme(base, theme)
    if index:
        write_index(root / "03_MTD-medium.csv", map(row, THEMES))
        write_index(root / "01_MTD-mini.csv", map(row, THEMES[:1]))
    if not flat:
        write_theme(root / "01_MTD-mini", THEMES[0])
    return root


@pytest.fixture
def tree(tmp_path):
    return published(tmp_path / "MTD")


@pytest.mark.parametrize("flat, index", [(False, True), (True, True), (True, False), (False, False)])
def test_the_published_trees(tmp_path, flat, index):
    """A folder per size or flat; with the index, or with the metadata of each theme alone."""
    corpus = Mtd(published(tmp_path / "MTD", flat, index))
    assert corpus.ids == ["0116", "0117", "1066-2"]
    theme = corpus.theme("0116")
    assert (theme.composer, theme.work, theme.document) == ("Bach", "BWV1046-01", "1758")
    assert theme.title == "A work; in parts"
    assert (theme.start, theme.end, theme.transposition) == (1, 7, -1)
    assert [corpus.theme(i).start for i in corpus.ids] == [1, 8.5, 62]
    assert corpus.theme("1066-2").end == 71.5
    assert corpus.notes("0116") == pytest.approx(np.array(NOTES))
    assert corpus.alignment("0116") == pytest.approx(np.array(ALIGNMENT))
    assert corpus.description == {"name": "MTD", "stand_in": False}
    assert corpus.documents("recordings") == ["0031", "1758"]
    assert corpus.documents("excerpts") == corpus.ids
    assert [corpus.relevant(i) for i in corpus.ids] == ["1758", "1758", "0031"]
    assert [corpus.relevant(i, "excerpts") for i in corpus.ids] == corpus.ids
    assert corpus.excerpt_path("0117").name == "MTD0117_Bach_BWV1046-01.wav"
    assert corpus.span("0116", "excerpts") == (0, pytest.approx(6.05, abs=1e-3))
    assert corpus.meta("0117")["Ensemble"] == "Concerto"
    assert corpus.check("excerpts") == ({}, {})


def test_midi_where_there_is_no_table(tree):
    """One theme of the published tree has no table."""
    (tree / "03_MTD-medium" / "data_EDM-corr_CSV" / "MTD0117_Bach_BWV1046-01.csv").unlink()
    assert Mtd(tree).notes("0117") == pytest.approx(np.array(NOTES), abs=1e-3)


def test_recordings_of_those_who_have_them(tree):
    corpus = Mtd(tree)
    with pytest.raises(DuetError, match="data_RECORDING/1758.flac.*search the excerpts"):
        corpus.audio_path("1758")
    assert set(corpus.check().documents) == {"0031", "1758"} and not corpus.check().themes
    first = corpus.fingerprint
    write_audio(tree / "data_RECORDING" / "1758.flac", 20)
    write_audio(tree / "data_RECORDING" / "0031.wav", 71.4)  # times are to the tenth or the second
    corpus = Mtd(tree)
    assert corpus.check() == ({}, {})
    assert corpus.audio_path("1758").name == "1758.flac" and corpus.audio_path("0031").name == "0031.wav"
    assert corpus.span("0116") == (1, 7) and corpus.span("1066-2") == (62, 71.4)
    assert corpus.fingerprint != first


def test_the_fingerprint_follows_index_and_notes(tree):
    first = Mtd(tree).fingerprint
    assert Mtd(tree).fingerprint == first
    path = tree / "03_MTD-medium" / "data_EDM-corr_CSV" / "MTD0117_Bach_BWV1046-01.csv"
    path.write_text(path.read_text().replace("72", "73"))
    second = Mtd(tree).fingerprint
    write_index(tree / "03_MTD-medium.csv", map(row, [*THEMES[:2], (*THEMES[2][:6], "2")]))
    assert len({first, second, Mtd(tree).fingerprint}) == 3


# -- bad input ---------------------------------------------------------------------------------------------------------


def refused(what, *arguments, match):
    with pytest.raises(DuetError, match=match) as caught:
        what(*arguments)
    assert "\n" not in str(caught.value) and caught.value.remedy
    return caught.value


def test_trees_of_another_layout(tmp_path):
    refused(Mtd, tmp_path / "nowhere", match="no such corpus folder")
    (tmp_path / "data_AUDIO").mkdir()
    refused(Mtd, tmp_path, match="not laid out like MTD")
    (tmp_path / "data_META").mkdir()
    refused(lambda: Mtd(tmp_path).ids, match="lists no theme")


def test_unknown_themes_and_documents(tree):
    corpus = Mtd(tree)
    for ask in (corpus.theme, corpus.notes, corpus.alignment, corpus.relevant, corpus.meta):
        refused(ask, "9999", match="has no theme '9999'")
    refused(corpus.audio_path, "9999", match="no document '9999' among its recordings")
    refused(corpus.excerpt_path, "1758", match="no document '1758' among its excerpts")
    refused(corpus.documents, "discs", match="unknown kind of documents 'discs'")


@pytest.mark.parametrize(
    "change, match",
    [
        ({"StartTime": "00:07", "EndTime": "00:01"}, "theme 0116 ends at 00:01, not after its start"),
        ({"StartTime": "00:07", "EndTime": "00:07"}, "not after its start"),
        ({"StartTime": "seven"}, "theme 0116 has StartTime 'seven', not mm:ss"),
        ({"EndTime": ""}, "has EndTime '', not mm:ss"),
        ({"EndTime": "00:-7"}, "not mm:ss"),
        ({"EndTime": "00:nan"}, "not mm:ss"),
        ({"MidiTransposition": "up"}, "MidiTransposition 'up'"),
    ],
)
def test_rows_that_cannot_be(tree, change, match):
    rows = [row(theme) for theme in THEMES]
    write_index(tree / "03_MTD-medium.csv", [rows[0] | change, *rows[1:]])
    corpus = Mtd(tree)
    assert refused(corpus.theme, "0116", match=match).path == tree / "03_MTD-medium.csv"
    assert corpus.theme("0117").start == 8.5  # the others are as they were
    assert list(corpus.check("excerpts").themes) == ["0116"]


def test_damaged_indices(tree):
    path = tree / "03_MTD-medium.csv"
    write_index(path, map(row, THEMES), [c for c in COLUMNS if c not in ("WCMID", "EndTime")])
    refused(lambda: Mtd(tree).ids, match="03_MTD-medium.csv: lacks the columns WCMID, EndTime")
    write_index(path, map(row, THEMES))
    whole = path.read_text()
    path.write_text(whole[: whole.index("0117") + 12])
    refused(lambda: Mtd(tree).ids, match="breaks off in row 3")
    write_index(path, map(row, [*THEMES, THEMES[0]]))
    refused(lambda: Mtd(tree).ids, match="has theme 0116 twice")
    path.write_bytes(b"\xff\xfe\x00\x81" * 9)
    refused(lambda: Mtd(tree).ids, match="not a readable index")
    path.write_text("")
    refused(lambda: Mtd(tree).ids, match="lacks the columns")


@pytest.mark.parametrize(
    "kind, text, match",
    [
        ("data_EDM-corr_CSV", "", "lacks the columns Start, Duration, Pitch"),
        ("data_EDM-corr_CSV", '"Start";"Duration";"Pitch"\n', "holds no notes"),
        ("data_EDM-corr_CSV", '"Start";"Pitch"\n0;60\n', "lacks the columns Duration"),
        ("data_EDM-corr_CSV", '"Start";"Duration";"Pitch"\n0;1;C4\n', "not a readable table"),
        ("data_EDM-corr_CSV", '"Start";"Duration";"Pitch"\n0;1\n', "not a readable table"),
        ("data_EDM-corr_CSV", '"Start";"Duration";"Pitch"\n0;nan;60\n', "no numbers"),
        ("data_EDM-corr_CSV", '"Start";"Duration";"Pitch"\n0;-1;60\n', "time or pitch that cannot be"),
        ("data_EDM-corr_CSV", '"Start";"Duration";"Pitch"\n0;1;200\n', "time or pitch that cannot be"),
        ("data_ALIGNMENT", '"MID";"WAV"\n', "is no alignment"),
        ("data_ALIGNMENT", '"MID";"WAV"\n0;0\n1;2\n2;1\n', "its times must rise"),
        ("data_ALIGNMENT", '"MID"\n0\n1\n', "lacks the columns WAV"),
    ],
)  # fmt: skip
def test_damaged_tables(tree, kind, text, match):
    path = tree / "03_MTD-medium" / kind / "MTD0117_Bach_BWV1046-01.csv"
    path.write_text(text)
    corpus = Mtd(tree)
    assert refused(corpus.notes if "EDM" in kind else corpus.alignment, "0117", match=match).path == path
    if "EDM" in kind:
        assert list(corpus.check("excerpts").themes) == ["0117"]


def test_damaged_midi(tree):
    base = tree / "03_MTD-medium"
    shutil.rmtree(base / "data_EDM-corr_CSV")
    (base / "data_EDM-corr_MID" / "MTD0117_Bach_BWV1046-01.mid").write_bytes(b"MThd\x00\x00")
    corpus = Mtd(tree)
    refused(corpus.notes, "0117", match="not readable MIDI")
    assert len(corpus.notes("0116")) == 3
    shutil.rmtree(base / "data_EDM-corr_MID"), shutil.rmtree(tree / "01_MTD-mini")
    refused(Mtd(tree).notes, "0116", match="no notes of theme 0116")


def test_damaged_audio_is_listed_and_skipped(tree):
    for name, seconds in (("1758", 20), ("0031", 80)):
        write_audio(tree / "data_RECORDING" / f"{name}.flac", seconds)
    path = tree / "data_RECORDING" / "0031.flac"
    whole = path.read_bytes()
    for content, match in ((whole[: len(whole) // 2], "0031.flac: is .*(cut short|not readable audio)"),
                           (b"", "0031.flac: is not readable audio"), (whole[:30], "not readable audio")):  # fmt: skip
        path.write_bytes(content)
        refused(Mtd(tree).span, "1066-2", match=match)
    write_audio(path, 65)
    refused(Mtd(tree).span, "1066-2", match="lasts 65.0 s, theme 1066-2 ends at 71.5 s")
    assert list(Mtd(tree).check().documents) == ["0031"]
    path.unlink()
    assert "no data_RECORDING/0031.flac" in Mtd(tree).check().documents["0031"]
    excerpt = Mtd(tree).excerpt_path("1066-2")
    excerpt.write_bytes(excerpt.read_bytes()[:90_000])
    refused(Mtd(tree).span, "1066-2", "excerpts", match="lasts 2.0 s, theme 1066-2 ends at 9.5 s")
    excerpt.unlink()
    refused(Mtd(tree).excerpt_path, "1066-2", match="no excerpt of theme 1066-2")
    assert list(Mtd(tree).check("excerpts").documents) == ["1066-2"]


# -- folds -------------------------------------------------------------------------------------------------------------


def sizes(folds, themes):
    total = Counter()
    for composer, fold in folds.items():
        total[fold] += themes[composer]
    return [total[f] for f in range(1, 6)]


def test_beethoven_is_a_fold_alone():
    """Of the paper's sizes: 559 themes by one, 1489 by 51 others in folds of 373, 372, 372 and 372."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(50, 0.4)) * 1300
    themes = {f"C{i:02}": int(s) + 1 for i, s in enumerate(shares)}
    themes["Last"] = 1489 - sum(themes.values())
    themes["Beethoven"] = 559
    folds = composer_folds(themes)
    assert sizes(folds, themes)[0] == 559 and [c for c, f in folds.items() if f == 1] == ["Beethoven"]
    assert max(sizes(folds, themes)[1:]) - min(sizes(folds, themes)[1:]) <= 2
    shuffled = {c: themes[c] for c in rng.permutation(list(themes)).tolist()}
    assert composer_folds(shuffled) == folds


def test_folds_without_a_giant():
    themes = {c: n for c, n in zip("ABCDEFGH", (9, 8, 7, 6, 5, 4, 3, 2), strict=True)}
    folds = composer_folds(themes)
    assert sorted(sizes(folds, themes)) == [8, 9, 9, 9, 9]
    assert folds == {"A": 1, "B": 2, "C": 3, "D": 4, "E": 5, "F": 5, "G": 4, "H": 3}
    with pytest.raises(DuetError, match="4 composers cannot be divided into 5"):
        composer_folds({"A": 1, "B": 1, "C": 1, "D": 1})


def test_folds_of_a_tree(tree):
    with pytest.raises(DuetError, match="2 composers"):
        Mtd(tree).folds()
    (tree / "folds.csv").write_text("composer,fold,themes\nBach,2,2\nBeethoven,1,1\n")
    assert Mtd(tree).folds() == {"Bach": 2, "Beethoven": 1}
    for text in ("composer,fold\nBach,2\n", "composer,fold\nBach,2\nBeethoven,6\n", "composer,fold\nBach,x\n", "\x00"):
        (tree / "folds.csv").write_text(text)
        refused(Mtd(tree).folds, match="folds.csv: does not give every composer a fold")


@pytest.mark.parametrize(
    "name, surname",
    [("Hugo Wolf", "Wolf"), ("Wolf, Hugo", "Wolf"), ("Żeleński, Władysław", "Zelenski"), ("Fanny M. Hensel", "Hensel"),
     ("Le Beau, Luise", "LeBeau"), ("Joseph Bologne Saint-Georges", "Saint-Georges"), ("Vincent d’Indy", "dIndy")],
)  # fmt: skip
def test_one_id_for_a_composer(name, surname):
    assert composer_id(name) == surname


# -- building ----------------------------------------------------------------------------------------------------------

BACH = Path(importlib.util.find_spec("music21").origin).parent / "corpus" / "bach"
SOURCES = [Source(BACH / "bwv248.17.mxl", "Bach"), Source(BACH / "bwv263.mxl", "Other")]


def build(root, sources=SOURCES, recordings=2):
    themes.build(root, [(recordings, sources)], themes=8, longest=28.0, soundfonts=("timgm6mb",), workers=1)
    return Mtd(root)


def contents(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def unheard(plan, soundfonts):
    return np.ones(40 * RATE, np.int16), {"programs": [0] * 9, "ensemble": "none"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("built") / "corpus")


def test_a_built_corpus_reads_like_mtd(built):
    assert built.documents() == ["0001", "0002"] and 4 <= len(built.ids) <= 8
    assert built.check() == ({}, {}) and built.check("excerpts") == ({}, {})
    assert {built.composer(i) for i in built.ids} == {"Bach", "Other"}
    assert {built.theme(i).label for i in built.ids} <= {"melody", "inner", "bass"}
    for identity in built.ids:
        theme, notes, alignment = built.theme(identity), built.notes(identity), built.alignment(identity)
        assert 4 <= theme.end - theme.start <= 20.3 and len(notes) >= 8 and len(set(notes[:, 2])) >= 5
        assert (notes[1:, 0] - notes[:-1, :2].sum(1) > -1e-5).all()  # monophonic
        assert alignment[:-1, 0] == pytest.approx(notes[:, 0], abs=1e-4)  # a row for each onset, and the end
        assert alignment[-1] == pytest.approx([notes[-1, :2].sum(), theme.end - theme.start], abs=1e-4)
        midi = pretty_midi.PrettyMIDI(
            str(built.root / "data_EDM-corr_MID" / f"{built.excerpt_path(identity).stem}.mid")
        )
        read = [(n.start, n.end - n.start, n.pitch) for n in midi.instruments[0].notes]
        assert np.array(sorted(read)) == pytest.approx(notes, abs=2e-3)
        made = built.meta(identity)["Recording"]
        assert made["soundfont"] == "timgm6mb" and 0 <= made["rubato"] <= 0.3 and 0.2 <= made["rt60_seconds"] <= 2.2


def test_excerpts_are_cut_from_recordings(built):
    for identity in built.ids:
        theme = built.theme(identity)
        excerpt, rate = soundfile.read(built.excerpt_path(identity), dtype="int16")
        recording, _ = soundfile.read(built.audio_path(theme.document), dtype="int16")
        start = round(theme.start * RATE)
        assert rate == RATE and np.array_equal(recording[start : start + len(excerpt)], excerpt)
        assert len(excerpt) == pytest.approx((theme.end - theme.start) * RATE, abs=1)
        assert recording.ndim == 1 and np.abs(recording).max() == round(0.9 * 32767)


def test_the_theme_sounds_where_and_how_it_should(built):
    """At each aligned note, the transposed pitch's partials are stronger than those a semitone beside it."""
    for identity in built.ids:
        audio, _ = soundfile.read(built.excerpt_path(identity))
        theme, alignment = built.theme(identity), built.alignment(identity)
        contrast = []
        for (_, _, pitch), (start, stop) in zip(
            built.notes(identity), zip(alignment[:-1, 1], alignment[1:, 1], strict=True), strict=True
        ):
            part = audio[round(start * RATE) : round(stop * RATE)]
            spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 1 << 17))
            strengths = []
            for beside in (-1, 0, 1):
                hertz = 440 * 2 ** ((pitch + theme.transposition + beside - 69) / 12)
                bins = [round(h * hertz * (1 << 17) / RATE) for h in (1, 2)]
                strengths.append(sum(spectrum[b - b // 100 : b + b // 100 + 1].max() for b in bins))
            contrast.append(strengths[1] > max(strengths[0], strengths[2]))
        assert np.mean(contrast) > 0.7, identity
    assert any(built.theme(i).transposition for i in built.ids)


def test_a_killed_build_goes_on(built, tmp_path, monkeypatch):
    """What is there is not made again, and what is missing comes out the same, byte for byte."""
    root = shutil.copytree(built.root, tmp_path / "corpus")
    (root / "data_RECORDING" / "0002.flac").unlink()  # it is written last
    (root / "03_MTD-medium.csv").unlink()
    lost = next((root / "data_META").glob("*"))
    rendered, render = [], themes._render
    monkeypatch.setattr(themes, "_render", lambda plan, fonts: rendered.append(plan.key) or render(plan, fonts))
    build(root)
    assert rendered == ["bach/bwv263.mxl/0"] or rendered == ["bach/bwv248.17.mxl/0"]
    assert contents(root) == contents(built.root) and lost.exists()


def test_one_piece_is_one_recording(tmp_path, monkeypatch):
    """The same music in two files would be two relevant documents for one query."""
    monkeypatch.setattr(themes, "_render", unheard)
    copy = shutil.copy(SOURCES[0].path, tmp_path / "again.mxl")
    corpus = build(tmp_path / "corpus", [SOURCES[0], Source(copy, "Copyist"), SOURCES[1]], recordings=3)
    assert len(corpus.documents()) == 2
    tunes = [tuple(np.diff(corpus.notes(i)[:, 2]) % 12) for i in corpus.ids]
    assert len(set(tunes)) == len(tunes)


def plan(key, *tunes, lines=()):
    """A plan with a melody per tune; ``lines``: what else sounds in it."""
    candidates = [
        themes._Candidate("melody", 0, tuple(Note(q, 1, p, 0, 1) for q, p in enumerate(tune)), n, n + 9)
        for n, tune in enumerate(tunes)
    ]
    text = b"\xff".join([*(c.intervals for c in candidates), *lines])
    return themes._Plan(key, key, key, key, "song", 1, *[None] * 7, tuple(candidates), text)


def test_a_theme_is_in_one_recording_alone():
    """Neither in any key, nor with repeated notes, nor inside a longer line of another recording."""
    first, second, third = (60, 62, 64, 67, 65), (60, 67, 60, 68, 61), (60, 61, 69, 66, 61)
    elsewhere = themes._intervals(Note(q, 1, p, 0, 1) for q, p in enumerate((50, 51, 53, 53, 55, 58, 56, 50)))
    assert themes._intervals(Note(q, 1, p, 0, 1) for q, p in enumerate(first)) in elsewhere
    plans = [plan("a", first, second), plan("b", third, lines=[elsewhere]), plan("c", first)]
    chosen = themes._choose([(3, plans)], themes=9)
    assert {p.key: [tuple(n.pitch for n in c.notes) for c in p.candidates] for p in chosen} == {
        "a": [second],
        "b": [third],
    }


def test_editions_of_one_piece_are_one():
    music = np.random.default_rng(0).integers(1, 12, 300, dtype=np.uint8).tobytes()
    plans = [plan("a", lines=[music[:200]]), plan("half of a", lines=[music[100:200] + music[200:]]),
             plan("a tenth of a", lines=[music[180:200] + music[:0:-1][:150]])]  # fmt: skip
    kept = themes._without_duplicates([plans[:2], plans[2:]])
    assert [[p.key for p in group] for group in kept] == [["a"], ["a tenth of a"]]


def test_no_theme_at_all(tmp_path):
    path = tmp_path / "cut.mxl"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(DuetError, match="no score has a theme"):
        build(tmp_path / "corpus", [Source(path, "Nobody")])


def test_the_open_corpus(workspace, monkeypatch):
    few = themes._registry_sources()
    assert len({s.composer for s in few}) >= 10 and len(few) > 1000
    monkeypatch.setattr(themes, "_registry_sources", lambda: SOURCES)
    monkeypatch.setattr(synthesis, "available_soundfont", lambda: "timgm6mb")
    monkeypatch.setattr(themes, "_render", unheard)
    corpus = themes.OpenCorpus("registry", 2, 6, 28.0).build(workers=1)
    described = files.read_json(corpus.root / "corpus.json")
    assert corpus.description["stand_in"] and corpus.fingerprint == described["fingerprint"]
    monkeypatch.setattr(themes, "build", lambda *_, **__: pytest.fail("it is there"))
    assert themes.OpenCorpus("registry", 2, 6, 28.0).build(workers=1).root == corpus.root
    with pytest.raises(DuetError, match="unknown collection 'discs'"):
        themes.OpenCorpus("discs", 2, 6).build()


def test_open_scores_that_are_not_there(workspace, monkeypatch):
    monkeypatch.setenv("DUET_SCORES", str(workspace / "none"))
    with pytest.raises(DuetError, match="make corpora"):
        themes.OpenCorpus("open", 2, 6).build()
