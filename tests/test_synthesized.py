"""Synthesised sets in the layout of the paper's code: reading, splits, damage and writing."""

import numpy as np
import pytest
import soundfile

from duet import DuetError
from duet.corpora.recordings import write_table
from duet.corpora.synthesized import Synthesized, write

NOTES = np.array([[0.5, 1.25, 60, 64], [0.5, 2.0, 64, 30], [1.25, 1.75, 60, 100]])
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(40_000) / 16_000)
NAMES = {  # folder -> names of the paper's two sources
    "train": ["MAPS_MUS-chpn_op33_2_AkPnBcht", "00_BN1-129-Eb_comp"],
    "val": ["MAPS_MUS-chpn-p4_ENSTDkAm"],
    "test": ["MAPS_MUS-chpn-p4_ENSTDkCl", "something_else"],
}
PROGRAMS = ("acoustic_grand_piano", "acoustic_guitar_steel")


def refused(what, *arguments, match):
    with pytest.raises(DuetError, match=match) as caught:
        what(*arguments)
    assert "\n" not in str(caught.value) and caught.value.remedy


@pytest.fixture
def tree(tmp_path):
    for program in PROGRAMS:
        for part, names in NAMES.items():
            for name in names:
                folder = tmp_path / f"synthesized_{program}" / part
                for kind in ("audio", "labels"):
                    (folder / kind).mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / "audio" / f"{name}.wav", np.column_stack([TONE, TONE]), 44_100)
                write_table(folder / "labels" / f"{name}.tsv", NOTES / [2, 2, 1, 1])
    return tmp_path


def test_the_tree_of_the_papers_code(tree):
    corpus = Synthesized(tree)
    assert len(corpus.recordings) == 10
    found = corpus.recordings["acoustic_guitar_steel.00_BN1-129-Eb_comp"]
    assert (found.piece, found.group) == ("BN1-129-Eb_comp", "acoustic_guitar_steel")
    assert corpus.recordings["acoustic_grand_piano.MAPS_MUS-chpn_op33_2_AkPnBcht"].piece == "chpn_op33_2"
    assert corpus.recordings["acoustic_grand_piano.something_else"].piece == "something_else"
    assert corpus.notes(found.stem) == pytest.approx(NOTES / [2, 2, 1, 1])
    assert len(corpus.audio(found.stem)) == pytest.approx(40_000 * 16_000 / 44_100, abs=1)
    assert (corpus.name, corpus.problems()) == ("Synthesized Instruments", {})
    for elsewhere in ("extra/audio", "train", "train/labels", "train/audio/old"):
        (tree / f"synthesized_{PROGRAMS[0]}" / elsewhere).mkdir(parents=True, exist_ok=True)
        (tree / f"synthesized_{PROGRAMS[0]}" / elsewhere / "take.wav").write_bytes(b"")
    assert list(Synthesized(tree).recordings) == list(corpus.recordings) and not Synthesized(tree).unmatched


def test_the_folders_are_the_split(tree):
    split = Synthesized(tree).split()
    assert [part for part in split] == [
        sorted(f"{program}.{name}" for program in PROGRAMS for name in NAMES[part]) for part in ("train", "val", "test")
    ]
    for part in ("val", "test"):
        for path in tree.glob(f"*/{part}/labels/*"):
            path.unlink()
    assert len(Synthesized(tree).unmatched) == 6
    alone = Synthesized(tree).split()  # nobody is tested on synthesised sound
    assert alone.training == split.training and not alone.validation and not alone.test


def test_trees_of_another_layout(tree):
    refused(Synthesized, tree / "nowhere", match="no such corpus folder")
    refused(Synthesized, tree / "synthesized_acoustic_grand_piano", match="holds no synthesised set .expected synth")


def test_pairs_go_by_name(tree):
    folder = tree / "synthesized_acoustic_grand_piano" / "train"
    (folder / "labels" / "00_BN1-129-Eb_comp.tsv").rename(folder / "labels" / "00_BN1-129-Eb_solo.tsv")
    problems = Synthesized(tree).problems()
    assert list(problems) == [f"acoustic_grand_piano.00_BN1-129-Eb_{mode}" for mode in ("comp", "solo")]
    assert "without labels" in list(problems.values())[0] and "without audio" in list(problems.values())[1]


@pytest.mark.parametrize("kind, suffix", [("audio", ".wav"), ("labels", ".tsv")])
def test_a_name_in_two_folders(tree, kind, suffix):
    """The same recording in training and in the test would flatter the result."""
    folder = tree / "synthesized_acoustic_grand_piano"
    name = f"{kind}/00_BN1-129-Eb_comp{suffix}"
    (folder / "test" / name).write_bytes((folder / "train" / name).read_bytes())
    refused(Synthesized, tree, match=r"00_BN1-129-Eb_comp.* is also in t\w+ .delete it in one")


def test_damage(tree):
    stem = "acoustic_grand_piano.something_else"
    folder = tree / "synthesized_acoustic_grand_piano" / "test"
    (folder / "labels" / "something_else.tsv").write_text("# onset\toffset\tnote\tvelocity\n1\t2\n")
    refused(Synthesized(tree).notes, stem, match="something_else.tsv: line 2 is not onset, offset, pitch")
    audio = folder / "audio" / "something_else.wav"
    audio.write_bytes(audio.read_bytes()[:5000])
    refused(Synthesized(tree).audio, stem, match="something_else.wav: is cut short")
    assert list(Synthesized(tree).problems()) == [stem]


def test_a_recording_is_written_as_it_is_read(tmp_path):
    for part in ("train", "test"):
        path = write(tmp_path, "electric_guitar_jazz", part, f"{part}ed", TONE, 16_000, NOTES)
    assert path == tmp_path / "synthesized_electric_guitar_jazz" / "test" / "audio" / "tested.flac"
    corpus = Synthesized(tmp_path)
    assert corpus.split() == (["electric_guitar_jazz.trained"], [], ["electric_guitar_jazz.tested"])
    assert corpus.notes("electric_guitar_jazz.tested") == pytest.approx(NOTES, abs=1e-6)
    assert np.abs(corpus.audio("electric_guitar_jazz.tested") - TONE).max() < 1e-4
    assert corpus.problems() == {}
    for program, part, name in (("a.b", "train", "c"), ("a", "training", "c"), ("a", "train", "b/c")):
        with pytest.raises(ValueError, match="are no place in a synthesised set"):
            write(tmp_path, program, part, name, TONE, 16_000, NOTES)


def test_audio_is_written_last(tmp_path):
    with pytest.raises(ValueError, match="within -1 and 1"):
        write(tmp_path, "piano", "train", "a", 3 * TONE, 16_000, NOTES)
    assert [p.name for p in tmp_path.rglob("*.*")] == ["a.tsv"]
