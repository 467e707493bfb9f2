"""Notation in: onsets, pitches and lines by hand and against music21; damaged files."""

import os
import zipfile
from pathlib import Path

import pytest

from duet import DuetError, scores
from duet.scores import Note, Staff

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<score-partwise version="3.1"><work><work-title>A Study</work-title></work>
<identification><creator type="composer">Nobody Special</creator></identification>
<part-list><score-part id="P1"><part-name>Clarinet in B flat</part-name></score-part>
<score-part id="P2"><part-name>Piano</part-name></score-part></part-list>"""
ATTRIBUTES = "<divisions>2</divisions><time><beats>2</beats><beat-type>4</beat-type></time>"


def note(step, octave, duration, *inside, alter=None, voice=1, staff=1):
    kind = {1: "eighth", 2: "quarter", 4: "half"}[duration]
    changed = f"<alter>{alter}</alter>" if alter else ""
    chord = "<chord/>" if "chord" in inside else ""
    ties = "".join(f'<tie type="{t}"/>' for t in ("stop", "start") if t in inside)
    drawn = "".join(f'<tied type="{t}"/>' for t in ("stop", "start") if t in inside)
    notations = f"<notations>{drawn}</notations>" if drawn else ""
    return (f"<note>{chord}<pitch><step>{step}</step>{changed}<octave>{octave}</octave></pitch>"
            f"<duration>{duration}</duration>{ties}<voice>{voice}</voice><type>{kind}</type><staff>{staff}</staff>"
            f"{notations}</note>")  # fmt: skip


GRACE = ("<note><grace/><pitch><step>A</step><octave>4</octave></pitch><voice>1</voice><type>eighth</type>"
         "<staff>1</staff></note>")  # fmt: skip
TEMPO = ('<direction><direction-type><metronome><beat-unit>quarter</beat-unit><per-minute>60</per-minute></metronome>'
         '</direction-type><sound tempo="60"/></direction>')  # fmt: skip
REPEAT = '<barline location="right"><bar-style>light-heavy</bar-style><repeat direction="backward"/></barline>'
DOUBLE = '<barline location="right"><bar-style>light-light</bar-style></barline>'
BACK = "<backup><duration>4</duration></backup>"

#: Clarinet (written a tone above its sound): a tie over the bar line, a repeat and a double bar; piano on two staves.
SCORE = f"""{HEAD}
<part id="P1">
<measure number="1"><attributes>{ATTRIBUTES}<transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose>
</attributes>{TEMPO}{note("D", 5, 2)}{note("E", 5, 2, "start")}</measure>
<measure number="2">{note("E", 5, 2, "stop")}{GRACE}{note("F", 5, 2, alter=1)}{REPEAT}</measure>
<measure number="3">{note("G", 5, 4)}{DOUBLE}</measure>
<measure number="4">{note("A", 5, 4)}</measure></part>
<part id="P2">
<measure number="1"><attributes>{ATTRIBUTES}<staves>2</staves></attributes>{note("C", 5, 4)}{note("E", 4, 4, "chord")}
{BACK}{note("C", 3, 4, staff=2, voice=5)}</measure>
<measure number="2">{note("B", 4, 4)}{BACK}{note("D", 4, 2, voice=2)}{note("E", 4, 2, voice=2)}
{BACK}{note("G", 2, 4, staff=2, voice=5)}</measure>
<measure number="3">{note("C", 5, 4)}{BACK}{note("C", 3, 4, staff=2, voice=5)}{
    note("G", 3, 4, "chord", staff=2, voice=5)
}</measure>
<measure number="4">{note("C", 5, 4)}{BACK}{note("C", 3, 4, staff=2, voice=5)}</measure></part>
</score-partwise>"""

KERN = """!!!COM: Special, Nobody
!!!OTL: Two voices
**kern\t**kern
*clefF4\t*clefG2
*M2/4\t*M2/4
*MM90\t*MM90
=1\t=1
4C\t8cc#
.\t8dd
[4D\t4ee-
=2\t=2
2D]\t2r
==\t==
*-\t*-
"""

MEI = """<?xml version="1.0" encoding="UTF-8"?>
<mei xmlns="http://www.music-encoding.org/ns/mei" meiversion="5.1"><meiHead><fileDesc><titleStmt><title>Octave</title>
</titleStmt><pubStmt/></fileDesc></meiHead><music><body><mdiv><score><scoreDef meter.count="4" meter.unit="4"><staffGrp>
<staffDef n="1" lines="5" clef.shape="G" clef.line="2"/></staffGrp></scoreDef><section><measure n="1"><staff n="1">
<layer n="1"><note xml:id="a" dur="2" oct="5" oct.ges="6" pname="c"/><note xml:id="b" dur="2" oct="5" pname="d"
accid.ges="f"/></layer></staff></measure></section></score></mdiv></body></music></mei>"""


def read(tmp_path, text, name="score.musicxml", encoding="utf-8"):
    (tmp_path / name).write_text(text, encoding=encoding)
    return scores.read(tmp_path / name)


def simple(notes):
    return [(n.onset, n.duration, n.pitch) for n in notes]


def test_musicxml_by_hand(tmp_path):
    score = read(tmp_path, SCORE)
    assert (score.title, score.composer) == ("A Study", "Nobody Special")
    assert score.staves == (Staff("Clarinet in B flat", 0), Staff("Piano", 1), Staff("Piano", 1))
    assert score.bars == (0, 2, 4, 6) and score.end == 8  # the repeat is played once
    assert score.sections == (0, 6)  # after the double bar line
    assert score.tempi == ((0, 60),)
    # a tone below what is written, the tie one note; the appoggiatura takes half of its note
    clarinet = [n for n in score.notes if n.staff == 0]
    assert simple(clarinet) == [(0, 1, 72), (1, 2, 74), (3, 0.5, 67), (3.5, 0.5, 76), (4, 2, 77), (6, 2, 79)]
    assert [n.grace for n in clarinet] == [False, False, True, False, False, False]
    upper = [n for n in score.notes if n.staff == 1]
    assert simple(upper) == [(0, 2, 64), (0, 2, 72), (2, 1, 62), (2, 2, 71), (3, 1, 64), (4, 2, 72), (6, 2, 72)]
    assert [n.layer for n in upper] == [1, 1, 2, 1, 2, 1, 1]
    assert list(score.notes) == sorted(score.notes, key=lambda n: n.onset)


def test_lines_by_hand(tmp_path):
    """Every staff's outer line, the lowest staff's from below, and the second layer of the piano."""
    lines = scores.voices(read(tmp_path, SCORE))
    assert [(line.kind, line.staff) for line in lines] == [("melody", 0), ("inner", 1), ("inner", 1), ("bass", 2)]
    assert [n.pitch for n in lines[0].notes] == [72, 74, 76, 77, 79]
    assert simple(lines[1].notes) == [(0, 2, 72), (2, 2, 71), (4, 2, 72), (6, 2, 72)]
    assert simple(lines[2].notes) == [(2, 1, 62), (3, 1, 64)]
    assert [n.pitch for n in lines[3].notes] == [48, 43, 48, 48]


def test_outline_cuts_and_passes_over():
    def n(onset, duration, pitch):
        return Note(onset, duration, pitch, 0, 1)

    held = [n(0, 4, 72), n(1, 1, 60), n(2, 1, 76)]
    assert simple(scores.outline(held)) == [(0, 2, 72), (2, 1, 76)]  # 60 is below, 76 takes over
    assert simple(scores.outline(held, bottom=True)) == [(0, 1, 72), (1, 1, 60), (2, 1, 76)]
    assert scores.outline([]) == ()


def test_kern_by_hand(tmp_path):
    score = read(tmp_path, KERN, "two.krn")
    assert score.title == "Two voices" and score.composer == "Special, Nobody"
    assert score.tempi == ((0, 90),) and score.bars == (0, 2)
    assert [simple(n for n in score.notes if n.staff == s) for s in (0, 1)] == [
        [(0, 0.5, 73), (0.5, 0.5, 74), (1, 1, 75)],
        [(0, 1, 48), (1, 3, 50)],
    ]
    assert [line.kind for line in scores.voices(score)] == ["melody", "bass"]


def test_mei_sounds_as_it_says(tmp_path):
    score = read(tmp_path, MEI, "octave.mei")
    assert simple(score.notes) == [(0, 2, 84), (2, 2, 73)]  # an octave line; a flat that is in no accidental drawn
    assert score.tempi == () and score.title == "Octave"


def test_compressed_and_utf16(tmp_path):
    plain = read(tmp_path, SCORE)
    for container in ('<container><rootfiles><rootfile full-path="in/s.xml"/></rootfiles></container>', None):
        with zipfile.ZipFile(tmp_path / "score.mxl", "w") as archive:
            if container:
                archive.writestr("META-INF/container.xml", container)
            archive.writestr("in/s.xml", SCORE)
        assert scores.read(tmp_path / "score.mxl") == plain
    assert read(tmp_path, SCORE.replace("UTF-8", "UTF-16"), "wide.xml", "utf-16") == plain


def test_a_chorale_is_music21s():
    """Onset, duration and pitch of every note of Bach's BWV 269, tied notes joined."""
    import music21

    path = next(p for p in music21.corpus.getPaths() if p.name == "bwv269.mxl")
    theirs = music21.corpus.parse(path).stripTies().flatten().notes
    expected = sorted((float(n.offset), float(n.quarterLength), n.pitch.midi) for n in theirs)
    assert sorted(simple(scores.read(path).notes)) == expected


def test_open_scores_are_read():
    folder = Path(os.environ.get("DUET_SCORES", "/nonexistent")) / "openscore_lieder" / "scores" / "Wolf,_Hugo"
    paths = sorted(folder.rglob("*.mxl"))[:2]
    if not paths:
        pytest.skip("no open scores")
    for path in paths:
        score = scores.read(path)
        assert score.composer == "Hugo Wolf" and len({s.part for s in score.staves}) == 2
        assert {line.kind for line in scores.voices(score)} == {"melody", "inner", "bass"}
        assert score.notes[-1].onset < score.end and all(n.duration > 0 and 20 < n.pitch < 110 for n in score.notes)


# -- bad input ---------------------------------------------------------------------------------------------------------


def zipped(members):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return write


RESTS = SCORE[: SCORE.index("<measure")] + "<measure number='1'/></part></score-partwise>"


@pytest.mark.parametrize(
    "name, content, match",
    [
        ("cut.musicxml", SCORE[: len(SCORE) // 2], "cut.musicxml: is not well-formed XML"),
        ("empty.xml", "", "is not well-formed XML"),
        ("other.xml", "<html/>", "is not readable as xml|holds no notes"),
        ("words.mei", "not music at all", "is not well-formed XML"),
        ("rests.xml", RESTS, "holds no notes"),
        ("binary.krn", b"\xff\xff\xfa\x00\x81", "not readable as text"),
        ("cut.krn", KERN[:90], "breaks off"),
        ("empty.krn", "", "breaks off"),
        ("score.pdf", "%PDF", "no score that can be read here"),
        ("tune.abc", "X:1\nK:C\nCDE", "no score that can be read here"),
        ("none.mxl", zipped({"readme.txt": "x"}), "holds no MusicXML"),
        ("outside.mxl", zipped({"../s.xml": SCORE}), "points outside the folder"),
        ("cut.mxl", b"PK\x03\x04" + b"\x00" * 40, "is not a readable archive"),
    ],
)
def test_damaged_scores(tmp_path, name, content, match):
    path = tmp_path / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DuetError, match=match) as caught:
        scores.read(path)
    assert caught.value.path == path and "\n" not in str(caught.value)


def test_a_missing_score(tmp_path):
    with pytest.raises(DuetError, match="no such score"):
        scores.read(tmp_path / "nowhere.mxl")


def test_a_damaged_score_leaves_the_reader_sound(tmp_path):
    with pytest.raises(DuetError):
        read(tmp_path, "rubbish", "bad.mei")
    assert read(tmp_path, SCORE).title == "A Study"
