"""The semantic encoding: its grammar, what sounds, and the ways to notation and back."""

import re
import xml.etree.ElementTree as ElementTree
from fractions import Fraction

import music21
import pretty_midi
import pytest
import verovio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from duet import DuetError, engraving, paths, semantic
from duet.semantic import Note

FEW = settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
FEWER = settings(FEW, max_examples=10, phases=[Phase.explicit, Phase.generate])  # too slow to be shrunk


# -- random music ------------------------------------------------------------------------------------------------------

STEPS = [s + a for s in "CDEFGAB" for a in ("", "", "", "#", "b", "##", "bb")]
pitches = st.builds(lambda step, octave: f"{step}{octave}", st.sampled_from(STEPS), st.integers(2, 6))
figures = st.builds(
    lambda figure, dots: figure + dots,
    st.sampled_from(["whole", "half", "quarter", "quarter", "eighth", "eighth", "sixteenth", "thirty_second"]),
    st.sampled_from(["", "", "", ".", ".."]),
)
keys = st.sampled_from([f"keySignature-{k}" for k in semantic.KEYS if k != "CM"])
metres = st.sampled_from([f"timeSignature-{m}" for m in ("C", "C/", "2/4", "3/4", "4/4", "3/8", "6/8", "12/8", "5/4")])
clefs = st.sampled_from([f"clef-{c}" for c in ("G2", "G1", "C1", "C3", "C4", "F4", "F3")])


@st.composite
def sequences(draw, graces=True):
    """Well-formed: signs stand at the start of a bar in PrIMuS's order, a tie joins two notes of one pitch."""
    tokens = [draw(clefs), *draw(st.lists(keys, max_size=1)), *draw(st.lists(metres, max_size=1))]
    kinds = ["note"] * 6 + ["rest", "clef"] + ["gracenote"] * graces
    tied = ""  # the pitch that a tie waits for
    for bar in range(draw(st.integers(1, 4))):
        if bar:
            tokens += [*draw(st.lists(keys, max_size=1)), *draw(st.lists(metres, max_size=1))]
        if not tied and draw(st.integers(0, 5)) == 0:
            tokens += [f"multirest-{draw(st.integers(1, 40))}", "barline"]
            continue
        for _ in range(draw(st.integers(1, 7))):
            kind = "note" if tied else draw(st.sampled_from(kinds))
            if kind == "note":
                pitch, tied = tied or draw(pitches), ""
                tokens.append(f"note-{pitch}_{draw(figures)}{'_fermata' * (draw(st.integers(0, 7)) == 7)}")
                if draw(st.integers(0, 3)) == 3:
                    tied = pitch
                    tokens.append("tie")
            elif kind == "rest":
                tokens.append(f"rest-{draw(figures)}{'_fermata' * (draw(st.integers(0, 7)) == 7)}")
            elif kind == "gracenote":
                tokens.append(f"gracenote-{draw(pitches)}_{draw(st.sampled_from(['eighth', 'sixteenth', 'quarter']))}")
            elif not tokens[-1].startswith(("clef", "key", "time")):
                tokens.append(draw(clefs))
        tokens.append("barline")
    if tied or not any(t.startswith("note-") for t in tokens):
        tokens += [f"note-{tied or 'C4'}_quarter", "barline"]
    return tokens[: len(tokens) - draw(st.integers(0, 1))]  # with or without a last barline


@st.composite
def measured(draw):
    """Bars as long as their metre says, after an upbeat or none: what notation programs expect of a file."""
    metre = draw(st.sampled_from(["3/4", "4/4", "6/8", "C"]))
    bar, tied = semantic.bar_length(metre), ""
    tokens = [draw(clefs), *draw(st.lists(keys, max_size=1)), f"timeSignature-{metre}"]
    for room in [draw(st.sampled_from([bar, Fraction(1), Fraction(1, 2)])), *[bar] * draw(st.integers(1, 3))]:
        while room:
            names = ("half.", "half", "quarter.", "quarter", "eighth")
            lengths = {name: semantic.parse(f"rest-{name}").length for name in names}
            figure = draw(st.sampled_from([f for f, length in lengths.items() if length <= room]))
            room -= lengths[figure]
            if not tied and draw(st.integers(0, 4)) == 4:
                tokens.append(f"rest-{figure}")
                continue
            pitch, tied = tied or draw(pitches), ""
            tokens.append(f"note-{pitch}_{figure}")
            if draw(st.integers(0, 3)) == 3:
                tied = pitch
                tokens.append("tie")
        tokens.append("barline")
        if not tied and draw(st.integers(0, 3)) == 3:
            tokens += [f"multirest-{draw(st.integers(1, 5))}", "barline"]
    return [*tokens, f"note-{tied or 'C4'}_quarter"]


def played_by_verovio(mei):
    """{xml:id: (onset in quarter notes, MIDI pitch)} of each attack in Verovio's own performance of the MEI."""
    toolkit = verovio.toolkit()
    toolkit.setOptions({"inputFrom": "mei"})
    assert toolkit.loadData(mei)
    heads = {e.get("{http://www.w3.org/XML/1998/namespace}id"): e for e in ElementTree.fromstring(mei).iter()}
    attacks = {}
    for event in toolkit.renderToTimemap():
        for identity in event.get("on", ()):
            if heads[identity].get("tie") not in ("t", "m"):
                pitch = toolkit.getMIDIValuesForElement(identity)["pitch"]
                attacks[identity] = Fraction(event["qstamp"]).limit_denominator(3072), pitch
    return attacks


def sounding(tokens):
    return [(n.onset, n.pitch) for n in semantic.notes_from_tokens(tokens) if not n.grace]


def notated(tokens):
    """(onset, pitch) at the place where each note is written: not delayed by grace notes."""
    return sounding([t for t in tokens if not t.startswith("gracenote")])


# -- the grammar -------------------------------------------------------------------------------------------------------


def test_tokens_as_the_corpus_writes_them():
    note = semantic.parse("note-Bb4_eighth._fermata")
    assert (note.kind, note.pitch, note.figure, note.dots, note.fermata) == ("note", 70, "eighth", 1, True)
    assert note.length == Fraction(3, 4)
    assert semantic.parse("note-C4_quarter").pitch == 60
    assert semantic.parse("note-B#3_half").pitch == 60
    assert semantic.parse("note-Cb5_half").pitch == 71
    assert semantic.parse("gracenote-F##5_sixteenth").length == 0
    assert semantic.parse("note-G4_quadruple_whole..").length == 28
    assert semantic.parse("rest-thirty_second").length == Fraction(1, 8)
    assert semantic.parse("multirest-12").value == "12"
    assert semantic.parse("timeSignature-C/").value == "C/"
    assert [semantic.bar_length(m) for m in ("C", "C/", "3/4", "6/8")] == [4, 4, 3, 3]


@pytest.mark.parametrize("text", [
    "", "note", "note-H4_quarter", "note-C4", "note-C4_crotchet", "note-C4_quarter_fermata.", "note-C10_quarter",
    "note-C4_quarter....", "note-Cb#4_quarter", "rest-C4_quarter", "multirest-0", "multirest-", "clef-G6", "clef-T2",
    "keySignature-Cm", "keySignature-G#M", "timeSignature-0/4", "timeSignature-3", "barline ", "BARLINE", "tie.",
])  # fmt: skip
def test_unknown_tokens_are_refused(text):
    with pytest.raises(DuetError):
        semantic.parse(text)


def test_published_vocabulary_parses():
    path = paths.lists() / "primus" / "vocabulary_semantic.txt"
    if not path.exists():
        pytest.skip("the published lists are not here")
    words = path.read_text().split()
    assert len(words) == 1781
    kinds = [semantic.parse(word).kind for word in words]
    counts = {"note": 1384, "gracenote": 210, "multirest": 98, "timeSignature": 39, "rest": 24, "clef": 10, "tie": 1}
    assert {kind: kinds.count(kind) for kind in counts} == counts
    assert kinds.count("keySignature") == 14


# -- what sounds -------------------------------------------------------------------------------------------------------


def test_a_tie_goes_before_the_barline_and_joins_two_notes():
    tokens = "clef-G2 timeSignature-3/4 note-G4_half tie barline note-G4_quarter note-G4_quarter barline".split()
    first, second = semantic.notes_from_tokens(tokens)
    assert (first, second) == (Note(Fraction(0), Fraction(3), 67), Note(Fraction(3), Fraction(1), 67))


def test_a_tie_to_another_pitch_or_over_a_rest_joins_nothing():
    for tokens in ("note-G4_half tie note-A4_half", "note-G4_half tie rest-half note-G4_half",
                   "note-G4_half rest-half tie note-G4_half"):  # fmt: skip
        notes = semantic.notes_from_tokens(tokens.split())
        assert len(notes) == 2 and {n.duration for n in notes} == {2}


def test_multirests_count_bars_of_the_metre_in_force():
    tokens = "timeSignature-6/8 multirest-2 barline timeSignature-C multirest-3 barline note-C4_whole barline".split()
    assert sounding(tokens) == [(Fraction(2 * 3 + 3 * 4), 60)]
    assert semantic.length(tokens) == 22


def test_grace_notes_delay_the_note_they_ornament_and_nothing_after_it():
    tokens = "note-C4_quarter gracenote-D4_eighth gracenote-E4_eighth note-F4_eighth note-G4_quarter".split()
    eighth = Fraction(1, 8)
    assert semantic.notes_from_tokens(tokens) == [
        Note(Fraction(0), Fraction(1), 60),
        Note(Fraction(1), eighth, 62, grace=True),
        Note(1 + eighth, eighth, 64, grace=True),
        Note(1 + 2 * eighth, 2 * eighth, 65),
        Note(Fraction(3, 2), Fraction(1), 67),
    ]


def test_many_grace_notes_share_half_of_a_short_note():
    notes = semantic.notes_from_tokens([*["gracenote-D4_eighth"] * 4, "note-C4_eighth"])
    assert [n.duration for n in notes] == [Fraction(1, 16)] * 4 + [Fraction(1, 4)]
    assert notes[-1].onset == Fraction(1, 4)
    before_rest = semantic.notes_from_tokens("gracenote-D4_eighth rest-quarter note-C4_quarter".split())
    assert [(n.onset, n.grace) for n in before_rest] == [(0, True), (1, False)]


@FEW
@given(sequences())
def test_what_sounds_is_ordered_and_fits_in_what_is_written(tokens):
    notes = semantic.notes_from_tokens(tokens)
    assert all(n.duration > 0 for n in notes)
    principal = [n for n in notes if not n.grace]
    ends = [n.onset + n.duration for n in principal]
    assert all(end <= following.onset for end, following in zip(ends, principal[1:], strict=False))
    assert ends[-1] <= semantic.length(tokens)


# -- notation and back -------------------------------------------------------------------------------------------------


@FEW
@given(sequences())
def test_mei_keeps_every_token(tokens):
    assert semantic.tokens_from_mei(semantic.mei_from_tokens(tokens)) == tokens


@pytest.mark.parametrize(("tokens", "kept"), [
    # a tie that reaches no note of its pitch joins nothing, and is no tie in MEI
    ("clef-G2 note-C4_half tie note-D4_half", "clef-G2 note-C4_half note-D4_half"),
    # C major has no signature to be read
    ("clef-G2 keySignature-CM note-C4_whole", "clef-G2 note-C4_whole"),
    # signs have one order on a staff
    ("timeSignature-C clef-G2 keySignature-DM note-C4_whole", "clef-G2 keySignature-DM timeSignature-C note-C4_whole"),
    # of several signs of one kind the last is in force
    ("clef-G2 clef-F4 note-C4_whole", "clef-F4 note-C4_whole"),
    # a grace note takes no time that a fermata could hold
    ("clef-G2 gracenote-D4_eighth_fermata note-C4_whole", "clef-G2 gracenote-D4_eighth note-C4_whole"),
])  # fmt: skip
def test_what_mei_does_not_keep(tokens, kept):
    assert semantic.tokens_from_mei(semantic.mei_from_tokens(tokens.split())) == kept.split()


@FEW
@given(sequences(graces=False))
def test_verovio_plays_every_pitch_and_onset(tokens):
    attacks = played_by_verovio(semantic.mei_from_tokens(tokens))
    assert sorted(attacks.values()) == sounding(tokens)


@pytest.mark.parametrize("key", semantic.KEYS)
def test_every_key_signature(key):
    """All natural and altered steps, in the key and against it, sound as the tokens say."""
    notes = [f"note-{step}{sign}4_quarter" for step in "CDEFGAB" for sign in ("", "#", "b", "##", "bb", "")]
    tokens = ["clef-G2", f"keySignature-{key}", "timeSignature-C"]
    for i in range(0, len(notes), 4):
        tokens += [*notes[i : i + 4], "barline"]
    tokens += [token for note in notes for token in (note, "barline")]  # each in a bar of its own
    assert sorted(played_by_verovio(semantic.mei_from_tokens(tokens)).values()) == sounding(tokens)


@FEW
@given(sequences())
def test_verovio_plays_ornamented_music_at_the_right_places(tokens):
    """Verovio gives grace notes a length of its own: the note they delay is compared where it is written."""
    attacks = played_by_verovio(semantic.mei_from_tokens(tokens))
    notes = [i for i, t in enumerate(tokens) if t.startswith("note") and f"t{i}" in attacks]
    for index, (onset, pitch) in zip(notes, notated(tokens), strict=True):
        assert attacks[f"t{index}"][1] == pitch
        delayed = _before(tokens, index).startswith("gracenote")
        assert attacks[f"t{index}"][0] == onset or delayed and attacks[f"t{index}"][0] > onset
    graces = [i for i, t in enumerate(tokens) if t.startswith("gracenote") and f"t{i}" in attacks]
    assert all(attacks[f"t{i}"][1] == semantic.parse(tokens[i]).pitch for i in graces)


def _before(tokens, index):
    """The event before token ``index``, signs and barlines apart."""
    signs = ("barline", "clef", "key", "time")
    return next((t for t in reversed(tokens[:index]) if not t.startswith(signs)), "")


ACCIDENTALS = "keySignature-DM note-F#4_quarter note-F4_quarter note-F4_quarter note-F5_quarter barline note-F#4_whole"


def test_accidentals_hold_for_their_octave_and_until_the_barline():
    """In D major: F sharp is not written, F natural once in its octave, and nothing is left after the barline."""
    root = ElementTree.fromstring(semantic.mei_from_tokens(f"clef-G2 {ACCIDENTALS} barline".split()))
    notes = [e for e in root.iter() if e.tag.endswith("}note")]
    assert [(e.get("accid"), e.get("accid.ges")) for e in notes] == [
        (None, "s"), ("n", None), (None, None), ("n", None), (None, "s")
    ]  # fmt: skip


@pytest.mark.parametrize(("code", "expected"), [
    # a sharp holds in its bar, not in another octave and not in the next bar
    (dict(clef="G-2", keysig="", timesig="3/4", data="'4xFF''F/'FxFnF"),
     "clef-G2 timeSignature-3/4 note-F#4_quarter note-F#4_quarter note-F5_quarter barline"
     " note-F4_quarter note-F#4_quarter note-F4_quarter"),
    # the key signature holds everywhere; a tie carries its accidental over the barline
    (dict(clef="F-4", keysig="bBE", timesig="c", data=",2BxF+/F4F''E"),
     "clef-F4 keySignature-BbM timeSignature-C note-Bb3_half note-F#3_half tie barline"
     " note-F#3_half note-F3_quarter note-Eb5_quarter"),
    # rests, dots, a multirest, a fermata
    (dict(clef="C-1", keysig="xF", timesig="6/8", data="=4/'4.G8-{ABG}/(4.G)//"),
     "clef-C1 keySignature-GM timeSignature-6/8 multirest-4 barline note-G4_quarter. rest-eighth note-A4_eighth"
     " note-B4_eighth note-G4_eighth barline note-G4_quarter._fermata barline"),
])  # fmt: skip
def test_plaine_and_easie_by_hand(code, expected):
    mei = engraving.mei_from_pae(**code)
    tokens = semantic.tokens_from_mei(mei)
    assert tokens == expected.split()
    pitches = [semantic.parse(t).pitch for t in tokens if t.startswith("note")]
    toolkit = verovio.toolkit()
    toolkit.setOptions({"inputFrom": "mei"})
    toolkit.loadData(mei)
    toolkit.renderToTimemap()
    identities = re.findall(r'<note [^>]*xml:id="([^"]+)"', mei)
    assert [toolkit.getMIDIValuesForElement(i)["pitch"] for i in identities] == pitches


def beams(tokens):
    """The number of notes under each beam, bar by bar, 0 for a note alone."""
    root = ElementTree.fromstring(semantic.mei_from_tokens(tokens.split()))
    layers = [e for e in root.iter() if e.tag.endswith("}layer")]
    return [[len(e) if e.tag.endswith("}beam") else 0 for e in layer] for layer in layers]


def test_beams_follow_the_beat():
    eighths = " note-C5_eighth" * 8
    assert beams(f"clef-G2 timeSignature-4/4{eighths} barline") == [[2, 2, 2, 2]]
    assert beams(f"clef-G2 timeSignature-6/8{eighths[: 6 * 15]} barline") == [[3, 3]]
    # a dotted quarter leaves an eighth alone; sixteenths fill a beat; a rest and a quarter break the beam
    mixed = "note-C5_quarter. note-D5_eighth" + " note-C5_sixteenth" * 4 + " note-C5_eighth rest-eighth"
    assert beams(f"clef-G2 timeSignature-4/4 {mixed} barline") == [[0, 0, 4, 0, 0]]
    # a pick-up is the end of a bar: its last two eighths share a beat
    assert beams("clef-G2 timeSignature-3/4 note-C5_eighth note-C5_eighth note-C5_eighth barline") == [[0, 2]]


@pytest.mark.parametrize("tokens", [
    "", "clef-G2", "clef-G2 barline", "clef-G2 tie barline", "clef-G2 gracenote-C4_eighth",
    "clef-G2 note-C4_half keySignature-DM note-C4_half", "clef-G2 note-C4_half timeSignature-C note-C4_half",
    "clef-G2 note-X4_half",
])  # fmt: skip
def test_sequences_that_no_staff_can_hold_are_refused(tokens):
    with pytest.raises(DuetError):
        semantic.mei_from_tokens(tokens.split())


@pytest.mark.parametrize("mei", [
    "", "<mei", "<mei/>", "<score/>", "<score><section/></score>",
    '<score><section><measure><staff><layer><chord dur="4"/></layer></staff></measure></section></score>',
    '<score><section><measure><staff><layer/></staff><staff><layer/></staff></measure></section></score>',
    '<score><section><measure><staff><layer><note pname="c" oct="4"/></layer></staff></measure></section></score>',
    '<score><section><measure><staff><layer><note pname="c" oct="4" dur="4" accid="su"/></layer></staff></measure>'
    "</section></score>",
    '<score><scoreDef><staffGrp><staffDef clef.shape="G" clef.line="2" clef.dis="8"/></staffGrp></scoreDef><section>'
    '<measure><staff><layer><note pname="c" oct="4" dur="4"/></layer></staff></measure></section></score>',
])  # fmt: skip
def test_mei_that_the_encoding_cannot_say_is_refused(mei, tmp_path):
    with pytest.raises(DuetError, match="file.mei") as caught:
        semantic.tokens_from_mei(mei, tmp_path / "file.mei")
    assert "\n" not in str(caught.value)


PREDICTIONS = st.lists(
    st.one_of(
        st.sampled_from(["barline", "tie", "barline", "tie", "multirest-1", "multirest-7"]),
        keys, metres, clefs,
        st.builds(lambda k, p, f: f"{k}-{p}_{f}", st.sampled_from(["note", "gracenote"]), pitches, figures),
        st.builds(lambda f: f"rest-{f}", figures),
    ),
    max_size=25,
)  # fmt: skip


@FEW
@given(PREDICTIONS)
def test_any_prediction_can_be_engraved_played_and_written(tokens):
    tokens = semantic.playable(tokens)
    attacks = played_by_verovio(semantic.mei_from_tokens(tokens))
    part = semantic.part_from_tokens(tokens)
    if not any(t.startswith("gracenote") for t in tokens):
        assert attacks_of_part(part) == sounding(tokens)
        if not any(t.startswith("multirest") for t in tokens):  # Verovio wants them alone in their bar
            assert sorted(attacks.values()) == sounding(tokens)
    assert semantic.playable(tokens) == tokens  # nothing more to take away


def test_playable_takes_away_no_more_than_it_must():
    good = "clef-G2 keySignature-DM timeSignature-C note-D4_whole barline keySignature-CM timeSignature-3/4 rest-half."
    assert semantic.playable(good.split()) == good.split()
    bad = "clef-G2 note-D4_half timeSignature-C keySignature-DM note-D4_half"
    assert semantic.playable(bad.split()) == "clef-G2 note-D4_half note-D4_half".split()
    assert semantic.playable([]) == ["rest-whole"]


# -- music21 -----------------------------------------------------------------------------------------------------------


def attacks_of_part(part):
    """(onset, pitch) of what a music21 part strikes anew, grace notes apart."""
    notes = [n for n in part.recurse().notes if not n.duration.isGrace]
    struck = [n for n in notes if n.tie is None or n.tie.type == "start"]
    return [(Fraction(n.getOffsetInHierarchy(part)), n.pitch.midi) for n in struck]


@FEW
@given(sequences())
def test_music21_plays_every_pitch_and_onset(tokens):
    part = semantic.part_from_tokens(tokens)
    assert attacks_of_part(part) == notated(tokens)
    graces = [n.pitch.midi for n in part.recurse().notes if n.duration.isGrace]
    assert graces == [semantic.parse(t).pitch for t in tokens if t.startswith("gracenote")]


@FEWER
@given(tokens=sequences(graces=False))
def test_midi_files_keep_every_pitch_and_onset(tmp_path_factory, tokens):
    path = tmp_path_factory.mktemp("written") / "a.mid"
    semantic.part_from_tokens(tokens).write("midi", path)
    notes = sorted((n for i in pretty_midi.PrettyMIDI(str(path)).instruments for n in i.notes), key=lambda n: n.start)
    seconds = 0.5  # a quarter note at MIDI's default tempo
    assert [n.pitch for n in notes] == [pitch for _, pitch in sounding(tokens)]
    assert [n.start for n in notes] == pytest.approx([float(o) * seconds for o, _ in sounding(tokens)], abs=1e-3)


@FEWER
@given(tokens=measured())
def test_musicxml_files_keep_every_pitch_and_onset(tmp_path_factory, tokens):
    path = tmp_path_factory.mktemp("written") / "a.musicxml"
    semantic.part_from_tokens(tokens).write("musicxml", path)
    assert attacks_of_part(music21.converter.parse(path).parts[0]) == sounding(tokens)


def test_written_files_keep_grace_notes(tmp_path):
    tokens = "clef-G2 timeSignature-2/4 note-C4_quarter gracenote-D4_eighth note-F#4_quarter barline".split()
    semantic.part_from_tokens(tokens).write("musicxml", tmp_path / "a.musicxml")
    again = music21.converter.parse(tmp_path / "a.musicxml").parts[0]
    assert [(n.pitch.midi, n.duration.isGrace) for n in again.recurse().notes] == [(60, False), (62, True), (66, False)]


@FEW
@given(sequences(graces=False))
def test_music21_keeps_the_tokens_it_has_words_for(tokens):
    """A multirest comes back as its bars of rest, C major as no signature, a grace note's figure may be another."""
    tokens = [t for t in tokens if not t.startswith(("multirest", "barline"))]
    tokens = semantic.playable(tokens) + ["barline"]
    expected = semantic.tokens_from_mei(semantic.mei_from_tokens(tokens))
    assert semantic.tokens_from_part(semantic.part_from_tokens(tokens)) == expected


def test_music21_notation_outside_the_encoding_is_refused():
    for line in ("4/4 trip{c8 d e} c2.", "4/4 c4 d e"):
        part = music21.converter.parse(f"tinynotation: {line}")
        if "trip" in line:
            with pytest.raises(DuetError):
                semantic.tokens_from_part(part)
        else:
            assert "note-C4_quarter" in semantic.tokens_from_part(part)
    chord = music21.stream.Part([music21.stream.Measure([music21.chord.Chord(["C4", "E4"])])])
    with pytest.raises(DuetError, match="chord"):
        semantic.tokens_from_part(chord)
    with pytest.raises(DuetError, match="no bars"):
        semantic.tokens_from_part(music21.stream.Part())


# -- files -------------------------------------------------------------------------------------------------------------


def test_token_files_are_one_line_with_a_trailing_tab(tmp_path):
    path, tokens = tmp_path / "a.semantic", ACCIDENTALS.split()
    path.write_text(semantic.write_tokens(tokens))
    assert path.read_text() == "\t".join(tokens) + "\t"
    assert semantic.read_tokens(path) == tokens
    path.write_text(" ".join(tokens) + "\n")
    assert semantic.read_tokens(path) == tokens
