"""LilyPond's pages: noteheads where the ink is, onsets as the source says, and sources that misbehave."""

import os
import stat
import time
from pathlib import Path

import numpy as np
import pretty_midi
import pytest

from duet import DuetError, engraving, lilypond

needs_lilypond = pytest.mark.skipif(not lilypond.available(), reason="LilyPond is not installed")

PIECE = r"""
\version "2.24.0"
\include "left.ily"
right = \relative c'' { \tempo 4 = 90 \time 2/4 \partial 8 g8 | c4~ c8 \grace d16 e8 | \tuplet 3/2 { f8 e d } <c e g>4 |
  \transpose c d { c''8 c'' } \ottava 1 c''4 \ottava 0 \bar "|." }
\score { \new PianoStaff << \new Staff \right \new Staff \left >> \layout { } \midi { } }
"""
LEFT = r"""left = { \clef bass \partial 8 r8 | \repeat unfold 2 { c4 g, | } c2 }"""


played = []  # (seconds, pitch) of LilyPond's own MIDI


@pytest.fixture(scope="module")
def sheet(tmp_path_factory):
    """One run of LilyPond serves all tests that look at its pages."""
    folder = tmp_path_factory.mktemp("piece")
    (folder / "piece.ly").write_text(PIECE)
    (folder / "left.ily").write_text(LEFT)
    read = lilypond._midi_tempo

    def listening(place):
        midi = pretty_midi.PrettyMIDI(str(next(place.glob("page*.mid*"))))
        played.extend((n.start, n.pitch) for part in midi.instruments for n in part.notes)
        return read(place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lilypond, "_midi_tempo", listening)
        return lilypond.engrave(folder)


@needs_lilypond
def test_lilyponds_own_midi_agrees(sheet):
    """It is made another way, by LilyPond's performers; ties and grace notes included."""
    notes, _ = engraving.sounding(sheet.noteheads)
    ours = sorted((n.onset * 60 / 90, n.pitch) for n in notes)
    theirs = sorted(played)
    assert [p for _, p in ours] == [p for _, p in theirs]
    assert [s for s, _ in ours] == pytest.approx([s for s, _ in theirs], abs=0.005)


def heads_of(sheet, staff):
    return sorted((h for h in sheet.noteheads if h.staff == staff), key=lambda h: (h.onset, h.pitch))


@needs_lilypond
def test_onsets_and_pitches_are_those_of_the_source(sheet):
    upper = [(h.onset, h.pitch) for h in heads_of(sheet, 0) if not h.grace]
    start = 0.5  # behind the pick-up
    expected = [(0.0, 67), (start, 72), (start + 1, 72), (start + 1.5, 76)]
    third = 1 / 3
    expected += [(start + 2, 77), (start + 2 + third, 76), (start + 2 + 2 * third, 74)]
    expected += [(start + 3, p) for p in (72, 76, 79)]
    expected += [(start + 4, 74), (start + 4.5, 74), (start + 5, 96)]
    assert [p for _, p in upper] == [p for _, p in expected]
    assert [o for o, _ in upper] == pytest.approx([o for o, _ in expected])
    assert [h.pitch for h in heads_of(sheet, 1)] == [48, 43, 48, 43, 48]
    assert sheet.tempi == ((0.0, 90.0),)
    assert sheet.bars == pytest.approx((0.5, 2.5, 4.5))


@needs_lilypond
def test_ties_and_grace_notes_are_told(sheet):
    assert [(h.onset, h.pitch) for h in sheet.noteheads if h.tied] == [(1.5, 72)]
    grace = [h for h in sheet.noteheads if h.grace]
    assert [h.pitch for h in grace] == [74]
    assert 1.5 < grace[0].onset < 2.0  # it takes its time from the note before
    notes, owners = engraving.sounding(sheet.noteheads)
    assert len(notes) == len(sheet.noteheads) - 1
    tied = next(i for i, h in enumerate(sheet.noteheads) if h.tied)
    assert notes[owners[tied]].onset == 0.5 and notes[owners[tied]].duration == pytest.approx(1.5)


@needs_lilypond
def test_noteheads_are_ink_and_systems_are_staves(sheet):
    assert len(sheet.images) == 1
    image = sheet.images[0]
    assert image.shape == (1181, 835) and image.dtype == np.uint8
    for head in sheet.noteheads:
        box = image[round(head.top) : round(head.bottom), round(head.left) : round(head.right)]
        assert box.mean() < 150, head
        assert 5 < head.bottom - head.top < 10 or head.grace
    (system,) = sheet.systems
    assert system.staves == 2
    rows = [round(system.top), round(system.bottom)]
    for row in rows:  # a staff line runs along both edges
        line = image[row - 1 : row + 2, round(system.left) + 3 : round(system.right) - 3].min(0)
        assert (line < 200).mean() > 0.95
    assert np.all([system.left <= h.column <= system.right for h in sheet.noteheads])


@needs_lilypond
def test_columns_rise_with_onsets(sheet):
    heads = sorted((h for h in sheet.noteheads if not h.grace), key=lambda h: h.onset)
    for before, after in zip(heads, heads[1:], strict=False):
        if after.onset > before.onset + 1e-6:
            assert after.column > before.column


@needs_lilypond
def test_another_edition_is_the_same_music(tmp_path, sheet):
    (tmp_path / "piece.ly").write_text(PIECE)
    (tmp_path / "left.ily").write_text(LEFT)
    other = lilypond.engrave(tmp_path, other_edition=True)
    music = [sorted((h.onset, h.pitch, h.tied, h.grace) for h in s.noteheads) for s in (sheet, other)]
    assert music[0] == music[1]
    assert not np.array_equal(other.images[0], sheet.images[0])


@needs_lilypond
def test_an_engraving_is_made_once(tmp_path, monkeypatch, sheet):
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / "piece.ly").write_text(PIECE)
    (folder / "left.ily").write_text(LEFT)
    monkeypatch.setattr(lilypond, "_run", lambda *_: pytest.fail("engraved again"))
    again = lilypond.engrave(folder / "piece.ly")
    assert again.noteheads == sheet.noteheads and again.systems == sheet.systems and again.tempi == sheet.tempi
    assert np.array_equal(again.images[0], sheet.images[0])


@needs_lilypond
def test_a_source_without_notes(tmp_path, workspace):
    path = tmp_path / "empty.ly"
    path.write_text('\\version "2.24.0"\n\\markup "words"\n')
    with pytest.raises(DuetError, match="no note"):
        lilypond.engrave(path)


def fake(tmp_path, monkeypatch, script):
    """A program of that name comes first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "lilypond"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(lilypond, "version", lambda: "2.24.1")
    source = tmp_path / "x.ly"
    source.write_text("{ c }")
    return source


def test_one_that_never_ends_is_ended_with_its_children(tmp_path, monkeypatch, workspace):
    monkeypatch.setattr(lilypond, "_PATIENCE", 1)
    pid = tmp_path / "pid"
    source = fake(tmp_path, monkeypatch, f"sleep 60 & echo $! > {pid}; wait")
    begin = time.monotonic()
    with pytest.raises(DuetError, match="took more than 1 s"):
        lilypond.engrave(source, timeout=1)
    assert time.monotonic() - begin < 40
    child = int(pid.read_text())
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().split()[2] in "ZX"


def test_one_that_calculates_for_ever_is_ended(tmp_path, monkeypatch, workspace):
    """Not by the clock: on a busy machine a long piece needs its time."""
    monkeypatch.setattr(lilypond.os, "killpg", lambda *_: pytest.fail("ended by the clock"))
    source = fake(tmp_path, monkeypatch, "i=0; while [ $i -lt 9000000 ]; do i=$((i+1)); done")
    with pytest.raises(DuetError, match="took more than 1 s"):
        lilypond.engrave(source, timeout=1)


def test_what_lilypond_complains_of_is_told(tmp_path, monkeypatch, workspace):
    source = fake(tmp_path, monkeypatch, "echo 'x.ly:1:3: error: unknown note' >&2; exit 1")
    with pytest.raises(DuetError, match="unknown note") as caught:
        lilypond.engrave(source)
    assert "\n" not in str(caught.value) and "x.ly" in str(caught.value)


def test_without_lilypond(tmp_path, monkeypatch, workspace):
    lilypond.version.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    source = tmp_path / "x.ly"
    source.write_text("{ c }")
    with pytest.raises(DuetError, match="not installed"):
        lilypond.engrave(source)
    assert not lilypond.available()


# -- which file is the score -------------------------------------------------------------------------------------------


def write(folder, **texts):
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.ly").write_text(text)
    return folder


def test_the_main_file_includes_the_others(tmp_path):
    folder = write(tmp_path / "a", defs="x = 1", main='\\include "defs.ly"\n{ c }', off='% \\include "main.ly"')
    (folder / "off.ly").unlink()
    assert lilypond.main_file(folder).stem == "main"
    assert lilypond.main_file(folder / "defs.ly").stem == "defs"
    assert [p.stem for p in lilypond.included(folder / "main.ly")] == ["defs"]


def test_the_namesake_is_the_main_file(tmp_path):
    folder = write(tmp_path / "waltz", waltz="{ c }", other="{ d }")
    assert lilypond.main_file(folder).stem == "waltz"
    folder = write(tmp_path / "song", tune="{ c }", **{"tune-midi": "{ c }"})
    assert lilypond.main_file(folder).stem == "tune"


def test_no_telling_which(tmp_path):
    with pytest.raises(DuetError, match="several"):
        lilypond.main_file(write(tmp_path / "a", b="{ c }", c="{ d }"))
    with pytest.raises(DuetError, match="no such"):
        lilypond.main_file(tmp_path / "none")


def test_the_digest_depends_on_what_is_included(tmp_path):
    folder = write(tmp_path / "a", defs="x = 1", main='\\include "defs.ly"\n{ c }')
    first = lilypond.content_digest(folder)
    (folder / "defs.ly").write_text("x = 2")
    assert lilypond.content_digest(folder) != first
