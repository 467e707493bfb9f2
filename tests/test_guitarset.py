"""Corpora in GuitarSet layout: the published tree imitated by hand, damaged files, splits, and writing."""

import json
import re

import jams
import numpy as np
import pytest
import soundfile

from duet import DuetError
from duet.corpora.guitarset import MICROPHONES, GuitarSet, parse, write_excerpt

STEM = "00_BN1-129-Eb_comp"
STRINGS = [
    np.array([[0.5, 1.0, 40.2], [1.2, 1.6, 43.4]]),
    np.array([[0.5, 1.5, 47.6]]),  # the same pitch on two strings: 48 on this and on the next
    np.array([[1.0, 2.0, 48.3]]),
    np.empty((0, 3)),
    np.array([[0.25, 2.0, 58.9], [0.25, 0.75, 62.0]]),
    np.array([[0.5, 2.0, 64.0]]),
]
NOTES = [  # rounded, merged
    [0.25, 2.0, 59, 90],
    [0.25, 0.75, 62, 90],
    [0.5, 1.0, 40, 90],
    [0.5, 1.0, 48, 90],  # cut by the unison
    [0.5, 2.0, 64, 90],
    [1.0, 2.0, 48, 90],
    [1.2, 1.6, 43, 90],
]


def refused(what, *arguments, match):
    with pytest.raises(DuetError, match=match) as caught:
        what(*arguments)
    assert "\n" not in str(caught.value) and caught.value.remedy
    return caught.value


def annotation(namespace, source, data):
    return {
        "namespace": namespace,
        "annotation_metadata": {"data_source": source, "curator": {"name": "", "email": ""}, "annotator": {}},
        "sandbox": {},
        "time": 0,
        "duration": 2.5,
        "data": data,
    }


def published(namespace="note_midi", strings=STRINGS):
    """The annotations that a published file has, in its order, but for beats, tempo and the second chords."""
    annotations = []
    for number, string in enumerate(strings):
        contour = {
            "time": [0.5, 0.5058],
            "duration": [0.0, 0.0],
            "value": [{"frequency": 82.4, "index": 0, "voiced": True}] * 2,
            "confidence": [None, None],
        }
        annotations.append(annotation("pitch_contour", str(number), contour))
        notes = [{"time": a, "duration": b - a, "value": p, "confidence": None} for a, b, p in string.tolist()]
        annotations.append(annotation(namespace, str(number), notes))
    chord = [{"time": 0.0, "duration": 2.5, "value": "D#:maj", "confidence": None}]
    annotations.append(annotation("chord", "", chord))
    return {"file_metadata": {"duration": 2.5, "title": STEM}, "annotations": annotations, "sandbox": {}}


def write_labels(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def write_audio(path, seconds=2.5, rate=16_000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.zeros((round(seconds * rate), channels))
    samples[:, 0] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(samples)) / rate)
    soundfile.write(path, samples, rate)


@pytest.fixture
def tree(tmp_path):
    """One excerpt with the six channels of the pickup and with the microphone."""
    write_labels(tmp_path / "annotation" / f"{STEM}.jams", published())
    write_audio(tmp_path / "audio_hex-pickup_original" / f"{STEM}_hex.wav", rate=44_100, channels=6)
    write_audio(tmp_path / "audio_mono-mic" / f"{STEM}_mic.wav", rate=44_100)
    return tmp_path


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", ["note_midi", "pitch_midi"])
def test_the_published_tree(tree, namespace):
    write_labels(tree / "annotation" / f"{STEM}.jams", published(namespace))
    corpus = GuitarSet(tree)
    found = corpus.recordings[STEM]
    assert (found.piece, found.group) == ("BN1-129-Eb_comp", "00")
    assert found.audio.name == f"{STEM}_mic.wav" and found.labels.name == f"{STEM}.jams"
    strings = corpus.strings(STEM)
    assert len(strings) == 6 and all(s.shape == t.shape for s, t in zip(strings, STRINGS, strict=True))
    assert np.concatenate(strings) == pytest.approx(np.concatenate(STRINGS))
    assert corpus.notes(STEM) == pytest.approx(np.array(NOTES))
    assert (corpus.name, corpus.problems()) == ("GuitarSet", {})  # a unison on two strings is no fault


def test_microphones(tree):
    """The mean of the pickup's six channels; one of which has a tone."""
    hexaphonic, microphone = GuitarSet(tree, "hex"), GuitarSet(tree, "mic")
    ratio = np.abs(hexaphonic.audio(STEM)).max() / np.abs(microphone.audio(STEM)).max()
    assert ratio == pytest.approx(1 / 6, rel=0.01)
    assert hexaphonic.fingerprint != microphone.fingerprint
    refused(GuitarSet, tree, "mix", match="audio of 'mix' .choose microphone 'hex' or 'mic', whose audio is here")
    refused(GuitarSet, tree, "phone", match="unknown microphone 'phone' .one of hex, hex_cln, mic, mix")
    (tree / "corpus.json").write_text('{"name": "Guitars (open)", "fingerprint": "abc", "stand_in": true}')
    assert GuitarSet(tree).name == "Guitars (open)"
    assert GuitarSet(tree, "hex").fingerprint != GuitarSet(tree, "mic").fingerprint


@pytest.mark.parametrize("folders", [("audio_hex", "audio_hex", "annotation"), ("", "", ""), ("a/b", "c", "a/b")])
def test_archives_unpacked_elsewhere(tmp_path, folders):
    for folder, suffix in zip(folders, ("_hex.wav", "_hex_cln.wav"), strict=False):
        write_audio(tmp_path / folder / f"{STEM}{suffix}")
    write_labels(tmp_path / folders[2] / f"{STEM}.jams", published())
    for microphone in ("hex", "hex_cln"):
        corpus = GuitarSet(tmp_path, microphone)
        assert corpus.recordings[STEM].audio.name == f"{STEM}_{microphone}.wav"
        assert corpus.problems() == {}


@pytest.mark.parametrize(
    "stem, expected",
    [
        ("05_Jazz3-137-Eb_solo", ("Jazz3-137-Eb_solo", "05")),
        ("00_SS1-68-E_comp", ("SS1-68-E_comp", "00")),
        ("01_Funk2-108-F#_comp", ("Funk2-108-F#_comp", "01")),
        ("00_BN1-129-Eb_comp_hex", None),
        ("00_BN1-129-Eb", None),
        ("BN1-129-Eb_comp", None),
    ],
)
def test_stems(stem, expected):
    assert parse(stem) == expected


@pytest.mark.parametrize("rate, channels", [(8_000, 1), (96_000, 6)])
def test_rates_and_channels(tree, rate, channels):
    write_audio(tree / "audio_mono-mic" / f"{STEM}_mic.wav", rate=rate, channels=channels)
    corpus = GuitarSet(tree)
    assert corpus.audio(STEM).shape == (40_000,) and corpus.problems() == {}


# -- damage ------------------------------------------------------------------------------------------------------------


def test_trees_of_another_layout(tmp_path):
    refused(GuitarSet, tmp_path / "nowhere", match="no such corpus folder")
    write_labels(tmp_path / "annotation" / f"{STEM}.jams", published())
    refused(GuitarSet, tmp_path, match="holds no excerpt.*expected annotation/<stem>.jams and audio_mono-mic/")
    write_audio(tmp_path / "audio_mono-mic" / "00_other_mic.wav")
    refused(GuitarSet, tmp_path, match="holds no excerpt")


def test_pairs_go_by_name(tree):
    write_labels(tree / "annotation" / "00_BN1-129-Eb_solo.jams", published())
    write_audio(tree / "audio_mono-mic" / "00_BN2-131-B_comp_mic.wav")
    corpus = GuitarSet(tree)
    assert list(corpus.recordings) == [STEM]
    problems = corpus.problems()
    assert re.search("00_BN1-129-Eb_solo.jams. without audio", problems["00_BN1-129-Eb_solo"])
    assert re.search("00_BN2-131-B_comp_mic.wav. without labels", problems["00_BN2-131-B_comp"])
    refused(corpus.strings, "00_BN2-131-B_comp", match="without labels")
    refused(corpus.notes, "00_nothing", match="has no recording")


def without_notes():
    content = published()
    content["annotations"] = [a for a in content["annotations"] if a["namespace"] != "note_midi"]
    return content


def of_string(source):
    content = published()
    content["annotations"][1]["annotation_metadata"]["data_source"] = source
    return content


def with_note(**values):
    content = published()
    content["annotations"][1]["data"][0].update(values)
    return content


@pytest.mark.parametrize(
    "content, match",
    [
        ("", "is not readable JAMS: JSONDecodeError"),
        (json.dumps(published())[:2000], "is not readable JAMS: JSONDecodeError"),
        ("[]", "is not readable JAMS"),
        ({"file_metadata": {}}, "is not readable JAMS"),
        (without_notes(), "has no note annotation"),
        (published(strings=[np.empty((0, 3))] * 6), "holds no notes"),
        (of_string("7"), "notes of a string '7', not 0 to 5"),
        (of_string(""), "notes of a string '', not 0 to 5"),
        (with_note(value=None), "not readable JAMS|no numbers"),
        (with_note(value="E2"), "not readable JAMS"),
        (with_note(value=float("nan")), "no numbers"),
        (with_note(value=140.0), "a note that cannot be"),
        (with_note(time=-1.0), "a note that cannot be"),
    ],
)
def test_damaged_labels(tree, content, match):
    path = tree / "annotation" / f"{STEM}.jams"
    write_labels(path, content)
    corpus = GuitarSet(tree)
    assert refused(corpus.strings, STEM, match=match).path == path
    refused(corpus.notes, STEM, match=match)
    assert re.search(match, corpus.problems()[STEM])


@pytest.mark.parametrize(
    "strings, match",
    [
        ({0: [[1, 1, 40], [1, 2, 45]]}, "string 0: 1 note without length dropped, the first at 1.000 s"),
        ({5: [[1, 4, 64.0], [3, 4, 64]]}, "string 5: 1 note after the end of .*; string 5: 1 note cut at the end"),
        ({2: [[1, 2, 50], [1.5, 2, 50.2]]}, "string 2: 1 note cut by the next of the same pitch"),
    ],
)
def test_what_is_mended_is_told(tree, strings, match):
    """Faults are those of one string."""
    changed = [np.array(strings.get(i, s), float).reshape(-1, 3) for i, s in enumerate(STRINGS)]
    write_labels(tree / "annotation" / f"{STEM}.jams", published(strings=changed))
    corpus = GuitarSet(tree)
    assert re.match(f"usable: {STEM}: {match}", corpus.problems()[STEM])
    assert (np.diff(corpus.notes(STEM)[:, :2]) > 0).all() and corpus.notes(STEM)[:, 1].max() <= 2.5


def test_damaged_audio(tree):
    path = tree / "audio_mono-mic" / f"{STEM}_mic.wav"
    whole = path.read_bytes()
    for content, match in ((whole[: len(whole) // 2], "cut short"), (b"", "is not readable audio")):
        path.write_bytes(content)
        refused(GuitarSet(tree).audio, STEM, match=f"{STEM}_mic.wav: .*{match}")
        assert match in GuitarSet(tree).problems()[STEM]


# -- splits ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path):
    """Empty files with the names of all 360 excerpts' players, styles and modes."""
    for player in range(6):
        for piece in range(30):
            for mode in ("comp", "solo"):
                stem = f"{player:02}_Rock{piece % 3 + 1}-{90 + piece}-C_{mode}"
                (tmp_path / f"{stem}.jams").touch()
                (tmp_path / f"{stem}_mic.wav").touch()
    return tmp_path


def test_the_player_is_new_in_the_test(many):
    corpus = GuitarSet(many)
    split = corpus.split()
    assert [len(part) for part in split] == [240, 60, 60]
    assert [{corpus.recordings[s].group for s in part} for part in split] == [{"00", "01", "02", "03"}, {"04"}, {"05"}]
    assert {s[:2] for s in corpus.split("00", "03").test} == {"00"}
    for players in (("06", "04"), ("05", "06"), ("05", "05")):
        refused(corpus.split, *players, match="cannot test on player .*choose two of 00, 01, 02, 03, 04, 05")


def test_the_papers_split_mixes_players(many):
    corpus = GuitarSet(many)
    split = corpus.split_random()
    assert [len(part) for part in split] == [288, 36, 36]
    assert sorted(sum(split, [])) == list(corpus.recordings)
    assert all(list(part) == sorted(part) for part in split)
    assert len({s[:2] for s in split.test}) > 3
    assert corpus.split_random() == split != corpus.split_random(seed=34)


def test_the_folders_of_the_papers_tree_are_its_split(tmp_path):
    for number, part in enumerate(("train", "train", "val", "test")):
        stem = f"0{number}_BN1-129-Eb_comp"
        write_audio(tmp_path / part / "audio" / f"{stem}_hex.wav", channels=6)
        write_labels(tmp_path / part / "labels" / f"{stem}.jams", published())
    corpus = GuitarSet(tmp_path, "hex")
    names = [f"0{number}_BN1-129-Eb_comp" for number in range(4)]
    assert corpus.split_random() == (names[:2], names[2:3], names[3:])
    assert corpus.split(player="00", validation="03").test == names[:1]
    assert corpus.problems() == {}


def test_splits_of_small_trees(tree):
    refused(GuitarSet(tree).split, match="choose two of 00")
    refused(GuitarSet(tree).split_random, match="the test has no recording")


# -- writing -----------------------------------------------------------------------------------------------------------


def test_an_excerpt_is_written_as_it_is_read(tmp_path):
    rng = np.random.default_rng(0)
    six = rng.uniform(-0.5, 0.5, (40_000, 6))
    path = write_excerpt(tmp_path, STEM, STRINGS, {"hex": six, "mic": six[:, 0]}, 16_000)
    assert path == tmp_path / "annotation" / f"{STEM}.jams"
    for microphone, expected in (("hex", six.mean(1)), ("mic", six[:, 0])):
        corpus = GuitarSet(tmp_path, microphone)
        assert corpus.recordings[STEM].audio.parent.name == MICROPHONES[microphone]
        assert corpus.notes(STEM) == pytest.approx(np.array(NOTES))
        assert np.concatenate(corpus.strings(STEM)) == pytest.approx(np.concatenate(STRINGS))
        assert np.abs(corpus.audio(STEM) - expected).max() < 1e-4
        assert corpus.problems() == {}
    first = path.read_bytes()
    write_excerpt(tmp_path, STEM, STRINGS, {"mic": six[:, 0]}, 16_000)
    assert path.read_bytes() == first


def test_what_is_written_is_jams(tmp_path):
    """By the package's own schema; the strings are where those of GuitarSet are."""
    path = write_excerpt(tmp_path, STEM, STRINGS, {"mic": np.full(40_000, 0.1)}, 16_000)
    read = jams.load(str(path), validate=True, strict=True)
    notes = read.search(namespace="note_midi")
    assert [a.annotation_metadata.data_source for a in notes] == list("012345")
    assert [len(a.data) for a in notes] == [len(s) for s in STRINGS]
    assert (read.file_metadata.duration, read.file_metadata.title) == (2.5, STEM)
    assert notes[0].duration == 2.5


def test_audio_is_written_last(tmp_path):
    with pytest.raises(ValueError, match="within -1 and 1"):
        write_excerpt(tmp_path, STEM, STRINGS, {"mic": np.array([0, 2.0])}, 16_000)
    assert [p.name for p in tmp_path.rglob("*.*")] == [f"{STEM}.jams"]
    for stem, strings, audio in (
        ("BN1", STRINGS, {"mic": np.zeros(9)}),
        (STEM, STRINGS[:5], {"mic": np.zeros(9)}),
        (STEM, STRINGS, {"phone": np.zeros(9)}),
        (STEM, STRINGS, {}),
    ):
        with pytest.raises(ValueError, match="are no excerpt of GuitarSet"):
            write_excerpt(tmp_path, stem, strings, audio, 16_000)
