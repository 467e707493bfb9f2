"""Following a recording in its score, from the command to the page: a real engraving and real sound.

No network is trained: what it would make of pictures and sounds is made by hand, chroma of the noteheads at a column
and chroma of the sound.  What is wrong in the files, in the score's form or in the threshold is told in one line.
"""

import json
import math
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pretty_midi
import pytest
import soundfile
import torch
from bs4 import BeautifulSoup

from duet import DuetError, cli, engraving, lilypond, own_files, performance, scores, synthesis
from duet.engraving import Notehead, Sheet, System
from duet.models.encoders import TwoTowers
from duet.performance import Manner
from duet.player import MOMENTS
from duet.runs import Run
from duet.studies.alignment import aligner, experiment, follower
from duet.studies.alignment.aligner import Alignment, Embedded
from duet.synthesis import Played
from duet.training import read_about, save_weights

torch.set_num_threads(1)
RATE = 22_050
ABOUT = {"study": "alignment", "network": "small", "threshold": "0.08"}


# -- a score and its sound ---------------------------------------------------------------------------------------------


def note(pitch, length, staff, tie=""):
    name = "C C#D D#E F F#G G#A A#B "[2 * (pitch % 12) :][:2].strip()
    kind = {1: "eighth", 2: "quarter", 4: "half", 8: "whole"}[length]
    return (
        f"<note><pitch><step>{name[0]}</step>{'<alter>1</alter>' if name[1:] else ''}<octave>{pitch // 12 - 1}</octave>"
        f"</pitch><duration>{length}</duration>{f'<tie type={tie!r}/>' if tie else ''}<voice>{staff}</voice>"
        f"<type>{kind}</type><staff>{staff}</staff>"
        f"{f'<notations><tied type={tie!r}/></notations>' if tie else ''}</note>"
    )


def musicxml(bars, title="Étude"):
    """Of a piano: each bar is (right hand, left hand, anything else)."""
    head = "<attributes><divisions>2</divisions><time><beats>4</beats><beat-type>4</beat-type></time><staves>2</staves>"
    head += "<clef number='1'><sign>G</sign><line>2</line></clef><clef number='2'><sign>F</sign><line>4</line></clef>"
    written = "".join(
        f"<measure number='{n}'>{head + '</attributes>' if n == 1 else ''}{right}"
        f"<backup><duration>8</duration></backup>{left}{more}</measure>"
        for n, (right, left, more) in enumerate(bars, 1)
    )
    return (
        f"<?xml version='1.0' encoding='UTF-8'?><score-partwise version='3.1'><work><work-title>{title}</work-title>"
        "</work><part-list><score-part id='P1'><part-name>Piano</part-name></score-part></part-list>"
        f"<part id='P1'>{written}</part></score-partwise>"
    )


def tune(seed, count=52):
    """Bars of random notes, a tie in every fourth: two pages."""
    rng, scale = np.random.default_rng(seed), np.array([0, 2, 4, 5, 7, 9, 11])
    bars, held = [], 0
    for n in range(count):
        lengths = [[2, 2, 2, 2], [2, 1, 1, 4], [1, 1, 2, 1, 1, 2], [4, 2, 2]][rng.integers(4)]
        pitches = [60 + 12 * int(rng.integers(2)) + int(rng.choice(scale)) for _ in lengths]
        pitches[0] = held or pitches[0]
        ties = ["stop" if held else "", *[""] * (len(lengths) - 2), "start" if n % 4 == 1 else ""]
        held = pitches[-1] if n % 4 == 1 else 0
        right = "".join(note(p, length, 1, tie) for p, length, tie in zip(pitches, lengths, ties, strict=True))
        bars.append((right, "".join(note(36 + int(rng.choice(scale)), 4, 2) for _ in range(2)), ""))
    return bars


def played(sheet, seed, quick=False):
    """(samples,) of the sheet with a tempo curve, and (n,) seconds of every notehead, NaN where it is tied."""
    notes, owners = engraving.sounding(sheet.noteheads)
    nominal = performance.nominal_map(0.0, max(n.end for n in notes), ((0.0, 170.0),))
    tempo = performance.expressive_map(nominal, sheet.bars, Manner(0.2, 1.0, 0, 0), np.random.default_rng(seed))
    onsets, ends = (tempo.to_seconds([getattr(n, end) for n in notes]) for end in ("onset", "end"))
    if quick:  # sines, where the sound of an instrument does not matter
        audio = np.zeros(int(RATE * (ends.max() + 0.5)), np.float32)
        for n, on, off in zip(notes, onsets, ends, strict=True):
            time = np.arange(int(RATE * (off - on))) / RATE
            audio[int(RATE * on) :][: len(time)] += 0.1 * np.sin(2 * np.pi * 440 * 2 ** ((n.pitch - 69) / 12) * time)
    else:
        made = [Played(float(a), float(b - a), n.pitch) for n, a, b in zip(notes, onsets, ends, strict=True)]
        audio = synthesis.synthesise(made, "timgm6mb")
    heads = zip(owners, sheet.noteheads, strict=True)
    return audio, np.array([math.nan if h.tied else onsets[o] for o, h in heads])


def engraved(path):
    return engraving.engrave_pages(engraving.mei_of(*scores.source_text(path)))


@pytest.fixture(scope="module")
def score(tmp_path_factory):
    path = tmp_path_factory.mktemp("score") / "étude.musicxml"
    path.write_text(musicxml(tune(1)))
    return path


@pytest.fixture(scope="module")
def sheet(score):
    return engraved(score)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(TwoTowers(aligner.NETWORKS["small"].maps), path, ABOUT)
    return path


@pytest.fixture
def seeing(sheet, monkeypatch):
    """Instead of the network: pitch classes that sound at each column of the strip, and in each frame."""
    edges = np.cumsum([0, *(round(s.right) - round(s.left) for s in sheet.systems)])
    number = {(s.page, 0): k for k, s in reversed([*enumerate(sheet.systems)])}  # of each page's first system
    heads = np.array([
        (h.column + edges[k] - round(sheet.systems[k].left), h.onset, h.duration, h.pitch)
        for h in sheet.noteheads
        for k in [number[h.page, 0] + h.system]
    ])  # fmt: skip

    def strip(model, network, image):
        assert image.shape == (200, edges[-1])
        columns = np.linspace(0, edges[-1] - 1, edges[-1] // 10).round()
        vectors = np.full((len(columns), 12), 1e-2)
        for vector, column in zip(vectors, columns, strict=True):
            now = heads[heads[:, 0] <= max(column + 5, heads[0, 0]), 1].max()
            sounding = (heads[:, 1] <= now) & (now < heads[:, 1] + heads[:, 2])
            vector[heads[sounding, 3].astype(int) % 12] += 1
        return Embedded(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), columns)

    def recording(model, spectrogram):
        frames = np.arange(0, spectrogram.shape[1], 2)
        return Embedded(experiment.chroma_of_bands(spectrogram)[:, frames].T, frames.astype(float))

    monkeypatch.setattr(follower, "embed_strip", strip)
    monkeypatch.setattr(follower, "embed_recording", recording)


def data_of(page):
    soup = BeautifulSoup(page.read_text(), "html.parser")
    return json.loads(soup.find(id="data").string), [p.text for p in soup.select(".remark")], soup.h1.text


# -- the command -------------------------------------------------------------------------------------------------------


def test_every_notehead_gets_its_time(engine, score, sheet, weights, seeing, tmp_path, capsys):
    audio, seconds = played(sheet, 3)
    silent = np.pad(audio, (3 * RATE, 2 * RATE))
    recording = tmp_path / "a & b.wav"
    soundfile.write(recording, np.column_stack([np.repeat(silent, 2), np.zeros(2 * len(silent))]), 2 * RATE)
    assert cli.main(["follow", str(recording), str(score), "--weights", str(weights), "--quiet"]) == 0
    page = tmp_path / "a & b.html"
    data, remarks, title = data_of(page)
    assert title == "Étude (a & b.wav)"
    assert remarks[0].startswith("Confidence 0.") and "3.0 s at the beginning" in remarks[1] and len(remarks) == 2
    assert all(remark in capsys.readouterr().out for remark in remarks[:1])
    assert len(sheet.images) == 2 and len(sheet.systems) > 8

    moments = np.array([data["seconds"], data["lines"], data["columns"]]).T
    assert (np.diff(moments[:, 0]) >= 0).all() and (np.diff(moments[:, 1]) >= 0).all()
    errors = []
    for head, second in zip(sheet.noteheads, seconds, strict=True):
        pixels = 835 * moments[:, 2] - 0.5
        on = [k for k, (p, top, bottom) in enumerate(data["systems"])
              if p == head.page and top < (sheet.systems[k].top + 5) / len(sheet.images[p]) < bottom]  # fmt: skip
        own = [k for k, s in enumerate(sheet.systems) if s.page == head.page][head.system]
        assert own in on
        near = (moments[:, 1] == own) & (np.abs(pixels - head.column) < 0.2)
        if math.isnan(second):
            continue
        assert near.sum() == 1
        errors.append(abs(moments[near, 0][0] - second - 3))
    assert len(errors) > 200
    assert np.mean(np.less(errors, 0.2)) > 0.93 and np.median(errors) < 0.08
    ends = [835 * moments[moments[:, 1] == k, 2][-1] for k in range(len(sheet.systems))]
    assert ends == pytest.approx([s.right for s in sheet.systems], abs=1)


def test_another_piece_is_refused_unless_asked_for(score, weights, seeing, tmp_path, capsys):
    other = tmp_path / "other.musicxml"
    other.write_text(musicxml(tune(2)))
    recording, page = tmp_path / "other.wav", tmp_path / "page.html"
    soundfile.write(recording, played(engraved(other), 4, quick=True)[0], RATE)
    command = ["follow", str(recording), str(score), "--weights", str(weights), "--quiet", "-o", str(page)]
    assert cli.main(command) == 2 and not page.exists()
    told = capsys.readouterr().err
    assert "does not seem to be a recording of étude.musicxml" in told and "below 0.080" in told and "--anyway" in told
    assert told.count("\n") == 1
    assert cli.main([*command, "--anyway"]) == 0
    _, remarks, _ = data_of(page)
    assert "does not seem to be of this score: confidence" in remarks[0]
    assert remarks[0] in capsys.readouterr().out


def test_a_page_that_is_there_stays(score, weights, tmp_path, capsys):
    (tmp_path / "a.html").write_text("mine")
    assert cli.main(["follow", str(tmp_path / "a.wav"), str(score), "--weights", str(weights)]) == 2
    assert "is there already" in capsys.readouterr().err and (tmp_path / "a.html").read_text() == "mine"


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_the_cursor_stands_on_the_notehead_that_sounds(score, sheet, weights, seeing, tmp_path):
    audio, seconds = played(sheet, 6, quick=True)
    recording, page = tmp_path / "a.wav", tmp_path / "a.html"
    soundfile.write(recording, audio, RATE)
    follower.write_page(follower.follow(recording, score, follower.Model.load(weights)), page)
    k = next(k for k, h in enumerate(sheet.noteheads) if h[:3] == (1, 0, 1) and h.column > 400)
    head = sheet.noteheads[k]
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio", "--virtual-time-budget=10000"]
    command = [CHROMIUM, *options, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, f"{page.as_uri()}#t={seconds[k]:.3f}"], capture_output=True, text=True, timeout=500
    )
    soup = BeautifulSoup(done.stdout, "html.parser")
    (cursor,) = soup.select("#cursor")
    style = dict(part.split(":") for part in cursor["style"].rstrip("; ").split(";"))
    left, top, height = (float(style[f"{' ' * n}{k}"].strip().rstrip("%")) / 100
                         for k, n in (("left", 0), ("top", 1), ("height", 1)))  # fmt: skip
    assert soup.select(".page").index(cursor.parent) == 1
    assert 835 * left == pytest.approx(head.column + 0.5, abs=20)  # a quarter takes about 35
    rows = len(sheet.images[1])
    assert rows * top < head.row < rows * (top + height)
    below = next(h for h in sheet.noteheads if h[:3] == (1, 1, 1))
    assert not rows * top < below.row < rows * (top + height)


# -- the strip ---------------------------------------------------------------------------------------------------------


def head(page, system, column, tied=False):
    return Notehead(page, system, 0, 0, column - 4.5, 8, column + 5.5, 0.0, 1.0, 60, tied, False)


def test_places_by_hand():
    systems = (System(0, 100, 20, 180, 800, 2), System(0, 400, 60, 480, 800, 2), System(1, 100, 60, 180, 400, 2))
    heads = (head(0, 0, 90), head(0, 0, 90), head(0, 0, 50), head(0, 0, 70, tied=True), head(0, 0, 810),
             head(1, 0, 100))  # fmt: skip
    pages = tuple(np.full((1181, 835), grey, np.uint8) for grey in (255, 254))
    strip = follower.unrolled(Sheet(pages, systems, heads, (0.0,), ()))
    assert strip.image.shape == (200, 780 + 740 + 340) and set(strip.image[0, 1520:]) == {254}
    expected = [(0, 0, 50), (0, 0, 90), (0, 0, 799),  # one that sticks out is held within its system
                (0, 1, 60), (0, 1, 799),  # nothing sounds
                (1, 0, 100), (1, 0, 399)]  # fmt: skip
    assert strip.places[["page", "system", "column"]].tolist() == expected and strip.places.dtype == MOMENTS
    assert strip.columns.tolist() == [30, 70, 779, 780, 1519, 1560, 1859]


def test_seconds_are_where_snippets_put_them():
    """A note that begins anywhere within the 50 ms before a frame has the frame's number."""
    found = Alignment(np.array([0.0, 20, 40]), np.array([0.0, 100, 200]))
    assert follower.seconds_at(found, np.array([0, 50, 100, 200])) == pytest.approx([0, 0.475, 0.975, 1.975])


# -- what is told ------------------------------------------------------------------------------------------------------

REPEAT = "<barline location='right'><repeat direction='backward'/></barline>"
DA_CAPO = "<direction><direction-type><words>D.C. al Fine</words></direction-type></direction>"


@pytest.mark.parametrize(("more", "told"), [("", False), (REPEAT, True), (DA_CAPO, True)])
def test_repeats_are_told(more, told, tmp_path):
    bars = tune(3, 6)
    bars[2] = (*bars[2][:2], more)
    (tmp_path / "a.xml").write_text(musicxml(bars))
    assert any("played once" in remark for remark in own_files.read_score(tmp_path / "a.xml").remarks) == told


@pytest.mark.parametrize(("expansion", "end", "told"), [
    ("*>[A,B]", "=", False), ("*>[A,B]", "=:|!", True), ("*>[A,B,A]", "=", True),
])  # fmt: skip
def test_repeats_of_kern_are_told(expansion, end, told, tmp_path):
    notes = "\n".join(f"4{name}" for name in "cdefgab")
    text = f"**kern\n{expansion}\n*clefG2\n*>A\n=1\n{notes}\n{end}\n*>B\n{notes}\n==\n*-\n"
    (tmp_path / "a.krn").write_text(text)
    assert any("played once" in remark for remark in own_files.read_score(tmp_path / "a.krn").remarks) == told


@pytest.mark.parametrize(("source", "told"), [
    ("{ \\repeat volta 2 { c'1 } }", True), ("{ \\repeat unfold 2 { c'1 } }", False),
    ("{ c'1 \\bar \":|.\" }", True), ("{ c'1 } % \\repeat volta 2", False), ("{ c'1^\"D. C. al fine\" }", True),
    ("\\include \"notes.ily\"", True),
])  # fmt: skip
def test_repeats_of_lilypond_are_told(source, told, sheet, tmp_path, monkeypatch):
    monkeypatch.setattr(lilypond, "engrave", lambda path: sheet)
    (tmp_path / "notes.ily").write_text("{ \\repeat volta 2 { c'1 } }")
    (tmp_path / "a.ly").write_text(source)
    read = own_files.read_score(tmp_path / "a.ly")
    assert any("played once" in remark for remark in read.remarks) == told and read.title == "a"


def test_many_staves_are_told(tmp_path, monkeypatch):
    parts = "".join(f"<score-part id='P{n}'><part-name>V</part-name></score-part>" for n in range(4))
    bar = "<measure number='1'><attributes><divisions>2</divisions></attributes>{}</measure>"
    voices = "".join(
        f"<part id='P{n}'>{bar.format(''.join(note(60 + n + k, 2, 1) for k in range(4)))}</part>" for n in range(4)
    )
    text = f"<score-partwise version='3.1'><part-list>{parts}</part-list>{voices}</score-partwise>"
    (tmp_path / "a.musicxml").write_text(text)
    read = own_files.read_score(tmp_path / "a.musicxml")
    assert any("4 staves are reduced to two" in remark for remark in read.remarks)
    assert {s.staves for s in read.sheet.systems} == {2}
    wide = Sheet(read.sheet.images, tuple(s._replace(staves=3) for s in read.sheet.systems), *(
        getattr(read.sheet, name) for name in ("noteheads", "bars", "tempi")))  # fmt: skip
    monkeypatch.setattr(lilypond, "engrave", lambda path: wide)
    (tmp_path / "a.ly").write_text("")
    assert any("systems of 3 staves" in remark for remark in own_files.read_score(tmp_path / "a.ly").remarks)


def test_an_engraving_that_cannot_be_trusted_is_told(tmp_path):
    (tmp_path / "a.xml").write_text(musicxml(tune(3, 1)))
    (remark,) = own_files.read_score(tmp_path / "a.xml").remarks
    assert "unfit" in remark and "noteheads" in remark


def test_midi_and_abc_are_engraved(tmp_path):
    midi, piano = pretty_midi.PrettyMIDI(), pretty_midi.Instrument(0)
    piano.notes = [pretty_midi.Note(80, 60 + k % 12, k / 2, k / 2 + 0.5) for k in range(16)]
    midi.instruments.append(piano)
    midi.write(str(tmp_path / "a.mid"))
    read = own_files.read_score(tmp_path / "a.mid")
    assert [h.pitch for h in read.sheet.noteheads] == [60 + k % 12 for k in range(16)] and not read.remarks
    (tmp_path / "a.abc").write_text("X:1\nT:Tune\nM:4/4\nL:1/4\nK:G\n|:G A [Bd] c|(3d/e/f/ g a b:|\nd c B A|G4|\n")
    read = own_files.read_score(tmp_path / "a.abc")
    assert len(read.sheet.noteheads) == 16 and {s.staves for s in read.sheet.systems} == {1}  # nothing is added to it
    assert any("played once" in remark for remark in read.remarks)


# -- bad input ---------------------------------------------------------------------------------------------------------


def no_notes(path):
    path.write_text(musicxml([("<note><rest/><duration>8</duration><voice>1</voice></note>", "", "")]))


BAD_SCORES = {
    "missing.musicxml": (lambda path: None, "no such score"),
    "folder.mei": (lambda path: path.mkdir(), "no such score"),
    "sound.wav": (lambda path: path.write_bytes(b"RIFF"), "is no score that can be read here"),
    "empty.mxl": (lambda path: path.write_bytes(b""), "not well-formed"),
    "cut.musicxml": (lambda path: path.write_text(musicxml(tune(1))[:3000]), "not well-formed"),
    "other.xml": (lambda path: path.write_text("<html/>"), "cut.*|not readable|holds no notes"),
    "rests.musicxml": (no_notes, "holds no notes"),
    "cut.krn": (lambda path: path.write_text("**kern\n4c\n4d\n"), "breaks off"),
    "empty.mid": (lambda path: pretty_midi.PrettyMIDI().write(str(path)), "holds no notes"),
    "damaged.mid": (lambda path: path.write_bytes(b"MThd123"), "not readable as midi"),
    "damaged.abc": (lambda path: path.write_text("hello"), "not readable as abc"),
    "tunes.abc": (lambda path: path.write_text("X:1\nT:a\nL:1/4\nK:G\nG A|\n\nX:2\nT:b\nL:1/4\nK:G\nG A|\n"),
                  "several tunes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_SCORES)
def test_scores_that_cannot_be_followed(name, tmp_path):
    make, told = BAD_SCORES[name]
    make(tmp_path / name)
    with pytest.raises(DuetError, match=told) as caught:
        own_files.read_score(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_an_engravers_complaint_names_the_file(tmp_path, monkeypatch):
    def complain(*_):
        raise DuetError("LilyPond is not installed", remedy="install it")

    monkeypatch.setattr(lilypond, "engrave", complain)
    (tmp_path / "a.ly").write_text("{ c'1 }")
    with pytest.raises(DuetError, match=r"a\.ly: LilyPond is not installed \(install it\)"):
        own_files.read_score(tmp_path / "a.ly")


@pytest.mark.skipif(not lilypond.available(), reason="LilyPond is not installed")
def test_lilypond_that_is_none(workspace):
    (workspace / "a.ly").write_text("{ \\foo { ")
    with pytest.raises(DuetError, match="draws no note of it: a.ly:1:3") as caught:
        own_files.read_score(workspace / "a.ly")
    assert "\n" not in str(caught.value)


def sound(seconds, **changed):
    audio = 0.5 * np.sin(np.arange(round(RATE * seconds)) / 10)
    audio[: changed.get("silent", 0)] = 0
    if changed.get("nan"):
        audio[500] = np.nan
    return audio


BAD_SOUNDS = {
    "missing": (lambda path: None, "no such audio file"),
    "folder": (lambda path: path.mkdir(), "no such audio file"),
    "empty": (lambda path: path.write_bytes(b""), "not readable audio"),
    "text": (lambda path: path.write_text("<score-partwise/>"), "not readable audio"),
    "no sample": (lambda path: soundfile.write(path, sound(0), RATE), "too short"),
    "silent": (lambda path: soundfile.write(path, 0 * sound(3), RATE), "is silent"),
    "nan": (lambda path: soundfile.write(path, sound(3, nan=True), RATE, subtype="FLOAT"), "no numbers|not finite"),
    "short": (lambda path: soundfile.write(path, sound(2), RATE), "has 2.0. s of music, too short"),
    "nearly silent": (lambda path: soundfile.write(path, sound(5, silent=4 * RATE), RATE), "has 1.0. s of music"),
}


@pytest.mark.parametrize("name", BAD_SOUNDS)
def test_recordings_that_cannot_be_followed(name, tmp_path):
    make, told = BAD_SOUNDS[name]
    make(tmp_path / "a.wav")
    with pytest.raises(DuetError, match=told) as caught:
        own_files.music_in(tmp_path / "a.wav", 2.1)
    assert str(tmp_path / "a.wav") in str(caught.value) and "\n" not in str(caught.value)


def test_silence_around_the_music_is_found(tmp_path):
    noise = 1e-4 * np.random.default_rng(0).standard_normal(RATE)  # of a room
    soundfile.write(tmp_path / "a.wav", np.concatenate([noise, sound(3), noise, noise]), RATE)
    heard = own_files.music_in(tmp_path / "a.wav", 2.1)
    assert heard.start == pytest.approx(1, abs=0.1) and heard.end == pytest.approx(4, abs=0.1)
    assert heard.seconds == 6 and heard.sounding.sum() == pytest.approx(150, abs=2)


# -- weights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("changed", "told"), [
    ({"study": "transfer_learning"}, "no weights of an aligner"), ({"network": "vast"}, "no weights of an aligner"),
    ({"threshold": ""}, "no threshold"), ({"threshold": "nan"}, "no threshold"), ({"network": "dense"}, "does not fit"),
])  # fmt: skip
def test_weights_of_something_else_are_refused(changed, told, tmp_path):
    save_weights(TwoTowers(aligner.NETWORKS["small"].maps), tmp_path / "w.safetensors", ABOUT | changed)
    with pytest.raises(DuetError, match=told):
        follower.Model.load(tmp_path / "w.safetensors")


def test_weights_are_those_that_were_saved(weights, tmp_path):
    model = follower.Model.load(weights)
    assert model.threshold == 0.08 and model.network == aligner.NETWORKS["small"] and not model.towers.training
    towers = TwoTowers(aligner.NETWORKS["small"].maps)
    assert not torch.equal(towers.sheet[0].weight, model.towers.sheet[0].weight.cpu())
    (tmp_path / "w.safetensors").write_bytes(weights.read_bytes()[:1000])
    for path, told in ((tmp_path / "w.safetensors", "not a readable"), (tmp_path / "none", "no such weights")):
        with pytest.raises(DuetError, match=told):
            follower.Model.load(path)


def test_thresholds_by_hand():
    assert follower.threshold_between([0.5, 0.6, 0.7], [0.1, 0.1, 0.1]) == pytest.approx((0.51 + 0.1) / 2)
    # no gap: between .2 and .3 two decisions are wrong, above .35 too, elsewhere more
    own, wrong = [0.15, 0.3, 0.4, 0.5], [0.0, 0.1, 0.2, 0.2, 0.35]
    assert follower.threshold_between(own, wrong) == pytest.approx(0.25)
    with pytest.raises(DuetError, match="two validation pieces"):
        follower.threshold_between([0.5], [])


@pytest.fixture
def validated(monkeypatch):
    """Validation pieces whose pictures and sounds are already embedded: a's and c's recordings fit, b's has rubato."""
    rng = np.random.default_rng(0)
    vectors = {name: np.cumsum(rng.standard_normal((60, 8)), 0) for name in "abcx"}
    of = {k: Embedded(v / np.linalg.norm(v, axis=1, keepdims=True), np.arange(60.0)) for k, v in vectors.items()}
    monkeypatch.setattr(follower, "embed_strip", lambda towers, network, image: of[image])
    monkeypatch.setattr(follower, "embed_recording", lambda towers, spectrogram: of[spectrogram])
    asked = []
    pieces = SimpleNamespace(
        get=lambda name: SimpleNamespace(image=name),
        spectrogram=lambda p, take: asked.append((p, take)) or p,
        fixed=lambda name: (name, "strict"),
        expressive=lambda name: (name, "rubato") if name == "b" else None,
    )
    data = SimpleNamespace(
        splits={"all": {"train": ["x"], "valid": ["a", "b", "c"], "test": ["x"]}},
        pieces=pieces,
    )
    return data, asked, of


def test_validation_alone_chooses_the_threshold(validated):
    data, asked, of = validated
    own = [aligner.confidence(of[k], of[k]) for k in "abc"]
    wrong = [aligner.confidence(of["bca"[k]], of["abc"[k]]) for k in range(3)]
    threshold = follower.calibrate(follower.Model(None, None, math.nan), data)
    assert asked == [("a", "strict"), ("b", "strict"), ("b", "rubato"), ("c", "strict")]
    assert max(wrong) < threshold < min(own)


def fake_grid(tmp_path, made, data, weights):
    study = SimpleNamespace(PRESETS={"toy": SimpleNamespace(seeds=(4,))})
    for name in made:
        if name not in weights:
            continue
        torch.manual_seed(len(name))
        about = {"study": "alignment", "network": "small", "run": name}
        save_weights(TwoTowers(aligner.NETWORKS["small"].maps), tmp_path / f"{name}.safetensors", about)
    return SimpleNamespace(
        study=study, preset="toy", folder=tmp_path / "results", data=lambda: data,
        runs={n: Run(n, None) for n in ("all-pieces-strong-s4", "all-pieces-s4", "all-s4")},
        find=lambda name: {"name": name} if name in made else None, id=lambda name: f"id of {name}",
        weights=lambda name: tmp_path / f"{name}.safetensors",
    )  # fmt: skip


@pytest.mark.parametrize(("made", "weights", "shipped"), [
    (["all-pieces-strong-s4", "all-s4"], ["all-pieces-strong-s4", "all-s4"], "all-pieces-strong-s4"),
    (["all-pieces-s4", "all-s4"], ["all-pieces-s4", "all-s4"], "all-pieces-s4"),
    (["all-s4"], ["all-s4"], "all-s4"),
    (["all-pieces-strong-s4", "all-s4"], ["all-s4"], None),  # what is published is better than what is here
    ([], [], None),
])  # fmt: skip
def test_the_best_run_is_shipped_with_its_threshold(made, weights, shipped, validated, tmp_path):
    data, asked, _ = validated
    target = follower.ship(fake_grid(tmp_path, made, data, weights))
    if shipped is None:
        assert target is None and not (tmp_path / "results").exists()
        return
    assert target == tmp_path / "results" / "weights" / "follower.safetensors"
    assert read_about(target)["run"] == shipped
    model = follower.Model.load(target)
    torch.manual_seed(len(shipped))
    assert torch.equal(model.towers.sheet[0].weight.cpu(), TwoTowers(model.network.maps).sheet[0].weight)
    assert math.isclose(model.threshold, follower.calibrate(model, data), rel_tol=1e-4)
    asked.clear()
    assert follower.ship(fake_grid(tmp_path, made, data, weights)) == target and not asked  # it is there already
    better = fake_grid(tmp_path, [*made, "all-pieces-strong-s4"], data, ["all-pieces-strong-s4"])
    assert read_about(follower.ship(better))["run"] == "all-pieces-strong-s4"


def test_published_weights_lie_beside_the_tables():
    assert follower.published_weights().parts[-5:] == (
        "results", "overnight", "alignment", "weights", "follower.safetensors"
    )  # fmt: skip
