"""What corpora of recordings with notes share, and MAPS layout: published trees imitated by hand, damage, splits."""

import os
import re
import shutil

import numpy as np
import pretty_midi
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from duet import DuetError
from duet.corpora import recordings
from duet.corpora.maps import DISKLAVIER, SOFTWARE, Maps, write_recording
from duet.corpora.recordings import find_files, read_midi, read_table, tidy, write_audio, write_midi, write_table

NOTES = np.array([[0.5, 1.25, 60, 64], [0.5, 2.0, 64, 30], [1.25, 1.75, 60, 100]])
STEM = "MAPS_MUS-chpn_op33_2_AkPnBcht"


def refused(what, *arguments, match):
    with pytest.raises(DuetError, match=match) as caught:
        what(*arguments)
    assert "\n" not in str(caught.value) and caught.value.remedy
    return caught.value


def sine(seconds, rate, channels=1):
    """A tone of 440 Hz in the first channel alone."""
    samples = np.zeros((round(seconds * rate), channels))
    samples[:, 0] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(samples)) / rate)
    return samples


def write_midi_file(path, notes, pedal=()):
    """Notes as played, (time, value) of control change 64."""
    midi = pretty_midi.PrettyMIDI(resolution=1000)
    track = pretty_midi.Instrument(0)
    track.notes = [pretty_midi.Note(int(v), int(p), a, b) for a, b, p, v in notes]
    track.control_changes = [pretty_midi.ControlChange(64, value, time) for time, value in pedal]
    midi.instruments.append(track)
    midi.write(str(path))


# -- notes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "notes, kept, messages",
    [
        (  # ordered by onset, then pitch
            [[1, 2, 64, 90], [0, 1, 70, 90], [1, 2, 60, 90]],
            [[0, 1, 70, 90], [1, 2, 60, 90], [1, 2, 64, 90]],
            [],
        ),
        (  # without length
            [[1, 1, 60, 90], [0.5, 0.25, 61, 90], [2, 3, 60, 90]],
            [[2, 3, 60, 90]],
            ["2 notes without length dropped, the first at 0.500 s"],
        ),
        (  # around the end of the audio, at 4 s
            [[3, 4.1, 60, 90], [3, 4.2, 61, 90], [4, 5, 62, 90], [6, 7, 63, 90]],
            [[3, 4.1, 60, 90], [3, 4, 61, 90]],
            [
                "2 notes after the end of the audio dropped, the first at 4.000 s",
                "1 note cut at the end of the audio, the first at 3.000 s",
            ],
        ),
        (  # struck again while it sounds; what was cut does not sound again
            [[0, 3, 60, 90], [1, 1.5, 60, 80], [2, 3, 60, 70], [0, 3, 61, 60]],
            [[0, 1, 60, 90], [0, 3, 61, 60], [1, 1.5, 60, 80], [2, 3, 60, 70]],
            ["1 note cut by the next of the same pitch, the first at 0.000 s"],
        ),
        (  # one note in two voices
            [[0, 1, 60, 50], [0.01, 2, 60, 40], [0.5, 1, 72, 90], [0.511, 1, 72, 90]],
            [[0, 2, 60, 50], [0.5, 0.511, 72, 90], [0.511, 1, 72, 90]],
            [
                "1 note merged with one of the same pitch and onset, the first at 0.010 s",
                "1 note cut by the next of the same pitch, the first at 0.500 s",
            ],
        ),
        (  # short notes of which neither sounds into the other are left as they are
            [[0, 0.005, 60, 90], [0.008, 1, 60, 90], [1, 2, 60, 90]],
            [[0, 0.005, 60, 90], [0.008, 1, 60, 90], [1, 2, 60, 90]],
            [],
        ),
        ([], [], []),
    ],
)
def test_tidied_by_hand(notes, kept, messages):
    found, told = tidy(np.array(notes), 4.0)
    assert found == pytest.approx(np.array(kept, float).reshape(-1, 4)) and found.shape == (len(kept), 4)
    assert told == messages


times = st.integers(0, 400).map(lambda k: k * 0.004)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(times, times, st.integers(60, 62), st.integers(1, 127)), max_size=25))
def test_tidied_notes_do_not_overlap(rows):
    notes = np.array(rows, float).reshape(-1, 4)
    before = notes.copy()
    found, _ = tidy(notes, 1.2)
    assert (notes == before).all()
    assert (found[:, 1] > found[:, 0]).all() and (found[:, 0] < 1.2).all() and (found[:, 1] <= 1.3).all()
    for pitch in (60, 61, 62):
        same = found[found[:, 2] == pitch]
        assert (same[1:, 0] >= same[:-1, 1]).all()
    again, messages = tidy(found, 1.2)
    assert (again == found).all() and not messages


def test_the_pedal_holds_what_is_released_while_it_is_down(tmp_path):
    """Down at 2 s, up at 4 s, down at 6 s to the end; values below 64 are up."""
    notes = [
        (1.0, 1.5, 60, 90),  # over before
        (1.0, 2.5, 62, 90),  # released while it is down: 4
        (3.0, 3.5, 64, 90),  # struck again: 3.75, which lasts until 4
        (3.75, 3.8, 64, 90),
        (3.0, 4.5, 65, 90),  # the key is down for longer: 4.5
        (5.0, 5.5, 67, 90),  # the pedal is nearly up
        (6.5, 7.0, 69, 90),  # to the end of the file
        (7.5, 8.0, 71, 90),
    ]
    pedal = [(0.5, 0), (2.0, 64), (3.2, 127), (4.0, 63), (4.8, 50), (6.0, 100)]
    path = tmp_path / "played.mid"
    write_midi_file(path, notes, pedal)
    assert read_midi(path)[:, 1] == pytest.approx([1.5, 4, 3.75, 4.5, 4, 5.5, 8, 8], abs=1e-3)
    write_midi_file(path, notes)
    assert read_midi(path) == pytest.approx(np.array(sorted(notes)), abs=1e-3)


def test_the_pedal_is_changed_in_an_instant(tmp_path):
    """Up and down again at 2 s: what was held before ends, what is released at this time is held."""
    path = tmp_path / "played.mid"
    write_midi_file(path, [(0, 1, 60, 90), (1, 2, 62, 90), (0, 4, 64, 90)], [(0.5, 127), (2, 0), (2, 127), (3, 0)])
    assert read_midi(path)[:, 1] == pytest.approx([2, 4, 3], abs=1e-3)


def test_midi_again(tmp_path):
    path = tmp_path / "a.mid"
    write_midi(path, NOTES)
    assert read_midi(path) == pytest.approx(NOTES, abs=6e-4)
    short = np.array([[1.0001, 1.0002, 60, 90], [2, 3, 60, 90]])  # less than a tick
    write_midi(path, short, program=25)
    assert read_midi(path) == pytest.approx(short, abs=1e-3) and (np.diff(read_midi(path)[:, :2]) > 0).all()
    assert pretty_midi.PrettyMIDI(str(path)).instruments[0].program == 25
    drums = pretty_midi.PrettyMIDI()
    drums.instruments.append(pretty_midi.Instrument(0, is_drum=True))
    drums.instruments[0].notes.append(pretty_midi.Note(90, 38, 0, 1))
    drums.write(str(path))
    refused(read_midi, path, match="a.mid: holds no notes")
    path.write_bytes(path.read_bytes()[:30])
    refused(read_midi, path, match="a.mid: is not readable MIDI")
    refused(read_midi, tmp_path / "none.mid", match="is not readable MIDI")


def test_tables_of_either_form(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("OnsetTime\tOffsetTime\tMidiPitch\r\n0.5\t1.25\t60\r\n0.500000\t2\t64\r\n\r\n")
    assert read_table(path).tolist() == [[0.5, 1.25, 60, 90], [0.5, 2, 64, 90]]
    path.write_text("# onset\toffset\tnote\tvelocity\n5.0e-01\t1.25\t60.0\t64.0\n")
    assert read_table(path).tolist() == [[0.5, 1.25, 60, 64]]
    write_table(path, NOTES)
    assert read_table(path) == pytest.approx(NOTES, abs=1e-6)
    assert path.read_text().splitlines()[1] == "0.500000\t1.250000\t60.000000\t64.000000"


@pytest.mark.parametrize(
    "text, match",
    [
        ("", "holds no notes"),
        ("OnsetTime\tOffsetTime\tMidiPitch\n", "holds no notes"),
        ("OnsetTime\tOffsetTime\tMidiPitch\n1\t2\t60\n1\t2", "line 3 is not onset, offset, pitch"),
        ("1\t2\tC4\n", "line 1 is not onset, offset, pitch.*C4'"),
        ("1 2 60 90 5\n", "line 1 is not"),
        ("1\tnan\t60\n", "values that are no numbers"),
        ("inf\tinf\t60\n", "values that are no numbers"),
        ("1\t2\t60.5\n", "a note that cannot be .*: 1, 2, 60.5, 90"),
        ("1\t2\t60\n3\t4\t128\n", "3, 4, 128, 90"),
        ("-1\t2\t60\n", "cannot be"),
        ("1\t2\t60\t0\n", "cannot be"),
        ("1\t2\t60\t128\n", "cannot be"),
    ],
)
def test_damaged_tables(tmp_path, text, match):
    path = tmp_path / "a.txt"
    path.write_text(text)
    assert refused(read_table, path, match=match).path == path


def test_tables_that_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00\x81")
    refused(read_table, tmp_path / "a.txt", match="not a readable table")
    refused(read_table, tmp_path / "b.txt", match="not a readable table")


# -- trees -------------------------------------------------------------------------------------------------------------


def write_pair(folder, stem, midi=True, text=True, rate=44_100, suffix=".wav", seconds=2.5):
    """A pair as it is published, its MIDI file up to 8 ms beside the text and without the pedal that the text has."""
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{stem}{suffix}", sine(seconds, rate, 2), rate)
    if text:
        rows = "".join(f"{a:.6f}\t{b:.6f}\t{p:.0f}\n" for a, b, p, _ in NOTES)
        (folder / f"{stem}.txt").write_text("OnsetTime\tOffsetTime\tMidiPitch\n" + rows)
    if midi:
        played = NOTES + [[0.008, -0.3, 0, 0]]
        write_midi_file(folder / f"{stem}.mid", played if text else NOTES, ())


@pytest.fixture
def tree(tmp_path):
    """The published tree: other sets beside the pieces, and an index that no reader needs."""
    root = tmp_path / "MAPS"
    write_pair(root / "AkPnBcht" / "MUS", STEM)
    write_pair(root / "AkPnBcht" / "ISOL" / "NO", "MAPS_ISOL_NO_F_S0_M23_AkPnBcht")
    write_pair(root / "AkPnBcht" / "UCHO", "MAPS_MUS-not_a_piece_AkPnBcht")
    write_pair(root / "more" / "ENSTDkCl_2" / "ENSTDkCl" / "MUS", "MAPS_MUS-chpn-p4_ENSTDkCl", text=False)
    (root / "AkPnBcht" / "MUS" / "index.txt").write_text("23 pieces\n")
    return root


def test_the_published_tree(tree):
    corpus = Maps(tree)
    assert list(corpus.recordings) == ["MAPS_MUS-chpn-p4_ENSTDkCl", STEM]
    found = corpus.recordings[STEM]
    assert (found.stem, found.piece, found.group) == (STEM, "chpn_op33_2", "AkPnBcht")
    assert found.audio.name == f"{STEM}.wav" and found.labels.name == f"{STEM}.txt"
    assert corpus.recordings["MAPS_MUS-chpn-p4_ENSTDkCl"].piece == "chpn-p4"
    assert corpus.notes(STEM) == pytest.approx(NOTES)  # times of the text, velocities of the MIDI
    assert corpus.notes("MAPS_MUS-chpn-p4_ENSTDkCl") == pytest.approx(NOTES, abs=1e-3)
    audio = corpus.audio(STEM)
    assert audio.dtype == np.float32 and audio.shape == (40_000,)
    assert (
        np.abs(audio[1000:-1000] - 0.5 * sine(2.5, 16_000)[1000:-1000, 0]).max() < 1e-3
    )  # the other channel is silent
    assert corpus.audio(STEM, 8_000).shape == (20_000,)
    assert (corpus.name, corpus.unmatched, corpus.problems()) == ("MAPS", {}, {})


def test_velocities_without_a_match(tree):
    """A note that the MIDI file does not have, or has 12 ms away, gets 90."""
    path = tree / "AkPnBcht" / "MUS" / f"{STEM}.mid"
    write_midi_file(path, NOTES[1:] + [[0.012, 0, 0, 0], [0, 0, 0, 0]])
    assert Maps(tree).notes(STEM)[:, 3].tolist() == [90, 90, 100]
    path.unlink()
    assert Maps(tree).notes(STEM)[:, 3].tolist() == [90, 90, 90]
    path.write_bytes(b"MThd")
    assert refused(Maps(tree).notes, STEM, match="not readable MIDI").path == path


def test_the_tree_of_the_papers_code(tmp_path):
    for stem, seconds in ((STEM, 2.5), ("MAPS_MUS-chpn-p4_ENSTDkAm", 3)):
        write_pair(tmp_path / "flac", stem, midi=False, text=False, suffix=".flac", seconds=seconds)
        (tmp_path / "tsv" / "matched").mkdir(parents=True, exist_ok=True)
        write_table(tmp_path / "tsv" / "matched" / f"{stem}.tsv", NOTES)
    (tmp_path / "tsv" / "all").mkdir()
    write_table(tmp_path / "tsv" / "all" / f"{STEM}.tsv", NOTES[:1])
    corpus = Maps(tmp_path)
    assert [r.group for r in corpus.recordings.values()] == ["ENSTDkAm", "AkPnBcht"]
    assert corpus.notes(STEM) == pytest.approx(NOTES)
    assert corpus.problems() == {}


def test_pairs_go_by_name(tree):
    """What has no partner is listed, and nothing moves up."""
    folder = tree / "AkPnBcht" / "MUS"
    write_pair(folder, "MAPS_MUS-alb_se3_AkPnBcht")
    write_pair(folder, "MAPS_MUS-bach_846_AkPnBcht")
    (folder / "MAPS_MUS-alb_se3_AkPnBcht.wav").unlink()
    (folder / "MAPS_MUS-bach_846_AkPnBcht.txt").unlink()
    (folder / "MAPS_MUS-bach_846_AkPnBcht.mid").unlink()
    (folder / f"{STEM}.wav").rename(tree / f"{STEM}.wav")  # elsewhere, but of the same name
    corpus = Maps(tree)
    assert list(corpus.recordings) == ["MAPS_MUS-chpn-p4_ENSTDkCl", STEM]
    problems = corpus.problems()
    assert list(problems) == ["MAPS_MUS-alb_se3_AkPnBcht", "MAPS_MUS-bach_846_AkPnBcht"]
    assert "has labels (MAPS_MUS-alb_se3_AkPnBcht.txt) without audio" in problems["MAPS_MUS-alb_se3_AkPnBcht"]
    assert "has audio (MAPS_MUS-bach_846_AkPnBcht.wav) without labels" in problems["MAPS_MUS-bach_846_AkPnBcht"]
    refused(corpus.notes, "MAPS_MUS-alb_se3_AkPnBcht", match="without audio")
    refused(corpus.audio, "nothing", match="has no recording 'nothing'")


def test_links_into_the_tree_and_back(tree):
    """Folders that are links are followed, once; links to what was never fetched are no files."""
    elsewhere = tree.parent / "disk"
    shutil.move(tree / "more", elsewhere)
    os.symlink(elsewhere, tree / "more")
    os.symlink(tree, elsewhere / "back")
    os.symlink("nowhere.wav", tree / "MAPS_MUS-alb_se3_AkPnBcht.wav")
    assert len(Maps(tree).recordings) == 2 and not Maps(tree).unmatched
    assert [path.stem for path in find_files(tree, (".wav",), skip=("ISOL", "UCHO"))] == [
        STEM,
        "MAPS_MUS-chpn-p4_ENSTDkCl",
    ]


def test_trees_of_another_layout(tmp_path):
    refused(Maps, tmp_path / "nowhere", match="nowhere: no such corpus folder")
    write_pair(tmp_path / "AkPnBcht" / "ISOL", "MAPS_ISOL_NO_F_S0_M23_AkPnBcht")
    refused(Maps, tmp_path, match="holds no piece of MAPS.*expected <CODE>/MUS/MAPS_MUS-")
    (tmp_path / "MAPS_MUS-alone_AkPnBcht.txt").write_text("")
    refused(Maps, tmp_path, match="holds no piece of MAPS")


def test_the_fingerprint_follows_names_and_sizes(tree):
    first = Maps(tree).fingerprint
    assert Maps(tree).fingerprint == first
    path = tree / "AkPnBcht" / "MUS" / f"{STEM}.txt"
    path.write_text(path.read_text() + "2.1\t2.2\t50\n")
    second = Maps(tree).fingerprint
    (tree / "AkPnBcht" / "MUS" / f"{STEM}.mid").unlink()  # velocities
    third = Maps(tree).fingerprint
    shutil.rmtree(tree / "more")
    assert len({first, second, third, Maps(tree).fingerprint}) == 4
    (tree / "corpus.json").write_text('{"name": "Pianos (open)", "fingerprint": "abc", "stand_in": true}')
    assert (Maps(tree).name, Maps(tree).fingerprint) == ("Pianos (open)", "abc")


# -- damage ------------------------------------------------------------------------------------------------------------


def damaged(tree, match, usable=False):
    """Told by the check; and by an error that names the file, but where it is mended."""
    corpus = Maps(tree)
    problems = corpus.problems()
    assert list(problems) == [STEM] and "\n" not in problems[STEM]
    assert problems[STEM].startswith("usable: ") == usable and re.search(match, problems[STEM])
    if usable:
        assert len(corpus.notes(STEM)) and len(corpus.audio(STEM))
    else:
        refused(lambda: (corpus.audio(STEM), corpus.notes(STEM)), match=match)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_damaged_audio(tree, suffix):
    path = tree / "AkPnBcht" / "MUS" / f"{STEM}{suffix}"
    path.with_suffix(".wav").unlink()
    soundfile.write(path, np.random.default_rng(0).uniform(-0.3, 0.3, 40_000), 16_000)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:30], b""):
        path.write_bytes(content)
        damaged(tree, f"{STEM}{suffix}: is (cut short|not readable audio)")
    if suffix == ".wav":
        soundfile.write(path, np.zeros(0), 16_000)
        damaged(tree, f"{STEM}.wav: holds no audio")
    soundfile.write(path, np.zeros(40_000), 16_000)
    damaged(tree, f"{STEM}{suffix}: is silent")


def test_audio_that_ends_before_its_header_says(tree, monkeypatch):
    """Some decoders hand out what is there without a word."""
    whole = recordings.read_audio
    monkeypatch.setattr(recordings, "read_audio", lambda path, rate: whole(path, rate)[: rate * 2])
    refused(Maps(tree).audio, STEM, match=f"{STEM}.wav: is cut short: 2.00 s of 2.50 s")


def test_audio_that_is_no_numbers(tree):
    samples = sine(2.5, 16_000)[:, 0]
    samples[777] = np.nan
    soundfile.write(tree / "AkPnBcht" / "MUS" / f"{STEM}.wav", samples, 16_000, subtype="FLOAT")
    damaged(tree, f"{STEM}.wav: .*(no numbers|not finite)")


def test_clipping_is_told(tree):
    path = tree / "AkPnBcht" / "MUS" / f"{STEM}.wav"
    for gain, clips in ((10, True), (2, False)):  # the second touches full scale at its peaks
        samples = np.clip(gain * sine(2.5, 16_000)[:, 0], -1, 1)
        soundfile.write(path, samples, 16_000)
        assert bool(Maps(tree).problems()) == clips
        if clips:
            damaged(tree, r"usable: .*\d\d\.\d% of its samples are at full scale", usable=True)


@pytest.mark.parametrize("rate, channels", [(8_000, 1), (16_000, 2), (96_000, 6)])
def test_rates_and_channels(tree, rate, channels):
    soundfile.write(tree / "AkPnBcht" / "MUS" / f"{STEM}.wav", sine(2.5, rate, channels), rate)
    corpus = Maps(tree)
    assert corpus.problems() == {}
    audio = corpus.audio(STEM)
    expected = sine(2.5, 16_000)[:, 0] / channels
    assert audio.shape == (40_000,) and np.abs(audio - expected)[1000:-1000].max() < 1e-3


@pytest.mark.parametrize(
    "rows, match, usable",
    [
        ("", "holds no notes", False),
        ("1\t2\n", "line 2 is not onset, offset, pitch", False),
        ("1\tnan\t60\n", "no numbers", False),
        ("1\t1\t60\n", "has no note that can be used: 1 note without length dropped", False),
        ("9\t10\t60\n", "has no note that can be used: 1 note after the end of the audio", False),
        ("1\t1\t60\n1\t2\t61\n", "1 note without length dropped, the first at 1.000 s", True),
        ("1\t9\t60\n", "1 note cut at the end of the audio", True),
        ("1\t2\t60\n1.5\t2\t60\n1\t1\t61\n", "1 note without.*; 1 note cut by the next of the same pitch", True),
    ],
)
def test_damaged_labels(tree, rows, match, usable):
    (tree / "AkPnBcht" / "MUS" / f"{STEM}.txt").write_text("OnsetTime\tOffsetTime\tMidiPitch\n" + rows)
    damaged(tree, match, usable)


# -- splits ------------------------------------------------------------------------------------------------------------


def touch(root, *names):
    for name in names:
        for suffix in (".flac", ".txt"):
            path = root / name.rsplit("_", 1)[1] / "MUS" / f"MAPS_MUS-{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


def pieces(corpus, stems):
    return {corpus.recordings[stem].piece for stem in stems}


@pytest.fixture
def many(tmp_path):
    """Seven pianos of six pieces, some of them on several; two more recordings on each side of the Disklavier."""
    names = [f"own{i}-{code}_{code}" for code in SOFTWARE for i in range(3)]
    names += [f"shared_{i}_{code}" for code in SOFTWARE[:4] for i in range(3)]
    names += [f"tested_{i}_{code}" for code in ("AkPnBcht", "ENSTDkAm", "ENSTDkCl") for i in range(2)]
    return touch(tmp_path, *names)


@pytest.mark.parametrize("overlap, validation", [(False, 6), (True, 6), (False, 0), (False, 25)])
def test_splits_keep_a_piece_on_one_side(many, overlap, validation):
    corpus = Maps(many)
    split = corpus.split(overlap, validation)
    assert corpus.removed == ["MAPS_MUS-tested_0_AkPnBcht", "MAPS_MUS-tested_1_AkPnBcht"]
    left_out = [] if overlap else corpus.removed
    assert sorted(sum(split, []) + left_out) == list(corpus.recordings)
    assert {corpus.recordings[s].group for s in split.test} == set(DISKLAVIER)
    assert not pieces(corpus, split.training) & pieces(corpus, split.validation)
    assert bool(pieces(corpus, split.training + split.validation) & pieces(corpus, split.test)) == overlap
    assert all(list(part) == sorted(part) for part in split)
    assert Maps(many).split(overlap, validation) == split
    if validation == 6:
        assert len({corpus.recordings[s].group for s in split.validation}) == len(split.validation) == 6
        assert not any("shared" in s for s in split.validation)
    else:
        assert validation <= len(split.validation) < validation + 4  # a piece is on four pianos at most


def test_splits_of_trees_that_lack_a_side(tmp_path):
    touch(tmp_path, "a_AkPnBcht", "b_AkPnBcht")
    refused(Maps(tmp_path).split, match="has no recording of the Disklavier.*unpack ENSTDkAm or ENSTDkCl")
    touch(tmp_path, "a_ENSTDkCl")
    assert Maps(tmp_path).split(validation=0) == (["MAPS_MUS-b_AkPnBcht"], [], ["MAPS_MUS-a_ENSTDkCl"])
    refused(Maps(tmp_path).split, match="training has no recording")


# -- writing -----------------------------------------------------------------------------------------------------------


def test_a_recording_is_written_as_it_is_read(tmp_path):
    audio = sine(2.5, 44_100)[:, 0]
    for code in ("AkPnBcht", "ENSTDkAm"):
        path = write_recording(tmp_path, code, f"scherzo-2_a-{code}", audio, 44_100, NOTES, program=1)
    assert path == tmp_path / "ENSTDkAm" / "MUS" / "MAPS_MUS-scherzo-2_a-ENSTDkAm_ENSTDkAm.flac"
    assert soundfile.info(str(path)).subtype == "PCM_16" and soundfile.info(str(path)).samplerate == 44_100
    corpus = Maps(tmp_path)
    assert corpus.notes(path.stem) == pytest.approx(NOTES, abs=1e-6)
    assert corpus.recordings[path.stem].labels.suffix == ".txt"
    assert np.abs(corpus.audio(path.stem, 44_100) - audio).max() < 1e-4
    assert corpus.problems() == {}
    assert corpus.split(validation=0).test == [path.stem]
    assert read_midi(path.with_suffix(".mid")) == pytest.approx(NOTES, abs=6e-4)
    path.with_suffix(".txt").unlink()
    assert Maps(tmp_path).notes(path.stem) == pytest.approx(NOTES, abs=6e-4)


def test_audio_is_written_last(tmp_path, monkeypatch):
    """So that a recording of which there is audio is complete."""
    for samples in (np.array([0, 1.01]), np.array([0, np.nan])):
        with pytest.raises(ValueError, match="samples must lie within -1 and 1"):
            write_recording(tmp_path, "AkPnBcht", "a", samples, 16_000, NOTES)
    assert sorted(p.suffix for p in tmp_path.rglob("*.*")) == [".mid", ".txt"]
    for code, piece in (("Ak_Pn", "a"), ("AkPnBcht", ""), ("AkPnBcht", "a/b")):
        with pytest.raises(ValueError, match="is no name of MAPS"):
            write_recording(tmp_path, code, piece, sine(1, 16_000)[:, 0], 16_000, NOTES)


def test_six_channels_are_written(tmp_path):
    write_audio(tmp_path / "a.wav", sine(1, 16_000, 6), 16_000)
    assert soundfile.info(str(tmp_path / "a.wav")).channels == 6


# -- the real tree -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif("DUET_MAPS" not in os.environ, reason="DUET_MAPS names no MAPS tree")
def test_real_recordings():
    corpus = Maps(os.environ["DUET_MAPS"])
    assert not corpus.unmatched
    split = corpus.split()
    assert {corpus.recordings[s].group for s in split.training} <= set(SOFTWARE)
    assert len(split.validation) == 6 and len({corpus.recordings[s].group for s in split.validation}) >= 5
    sides = [pieces(corpus, part) for part in split]
    assert not sides[0] & sides[1] and not (sides[0] | sides[1]) & sides[2]
    assert sum(map(len, split)) + len(corpus.removed) == len(corpus.recordings)
    for stem in (split.training[0], split.validation[0], split.test[0]):
        recording = corpus.recordings[stem]
        notes = corpus.notes(stem)
        assert len(notes) == len(read_table(recording.labels))  # nothing to mend
        assert 21 <= notes[:, 2].min() and notes[:, 2].max() <= 108
        assert len(set(notes[:, 3])) > 10  # played with velocities
        played = read_midi(recording.labels.with_suffix(".mid"))
        assert len(played) == len(notes)
        audio = corpus.audio(stem)
        assert notes[-1, 0] < len(audio) / 16_000 < notes[-1, 1] + 60
        # it sounds where there are notes: energy rises over the 50 ms around the first onset
        first = round(16_000 * notes[0, 0])
        assert np.square(audio[first : first + 3200]).mean() > 3 * np.square(audio[: max(1, first - 800)]).mean()
