"""What a folder is said to hold: each data set made by hand, whole, damaged in many ways, and at the wrong level."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image

from duet import DuetError, check, cli, files, studies
from duet.check import LAYOUTS, find, text
from duet.corpora import guitarset, maps
from duet.corpora.msmd import Msmd
from duet.corpora.mtd import COLUMNS, readable_seconds
from duet.corpora.primus import Primus

RATE = 16_000
TOKENS = "clef-G2\tkeySignature-CM\ttimeSignature-4/4\tnote-C4_quarter\trest-half\tnote-D4_quarter\tbarline\t"


def tone(seconds=2.0):
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def cut(path, keep=0.5):
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])


def checked(root):
    """The one report of a folder, and that its text names it, is brief and asks for studies that there are."""
    (report,) = check.check(root, workers=1)
    told = text(report, root)
    assert str(report.root) in told and len(told.splitlines()) < 40
    assert all(use.study in studies.KEYS and f"STUDY={use.study}" in use.command for use in report.uses)
    return report


@pytest.fixture(autouse=True)
def own_lists(tmp_path, monkeypatch):
    """The published lists are those of the test alone."""
    monkeypatch.setenv("DUET_LISTS", str(tmp_path / "lists"))


# -- Camera-PrIMuS -----------------------------------------------------------------------------------------------------


@pytest.fixture
def incipits(tmp_path):
    """A function that writes incipits, each of its own record, below a folder."""

    def write(folder, count=60, camera=True):
        pixels = np.random.default_rng(0).integers(0, 256, (30, 40)).astype(np.uint8)
        for number in range(count):
            own = folder / f"{100 + number:09}-1_1_1" / f"{100 + number:09}-1_1_1"
            own.parent.mkdir(parents=True)
            own.with_suffix(".semantic").write_text(TOKENS)
            Image.fromarray(pixels).save(own.with_suffix(".png"))
            if camera:
                Image.fromarray(pixels).save(own.with_name(own.name + "_distorted.jpg"))
        return tmp_path / "CameraPrIMuS"

    return write


def test_camera_primus(incipits, tmp_path):
    root = incipits(tmp_path / "CameraPrIMuS" / "Corpus")
    report = checked(root)
    assert (report.data_set, report.root, report.status) == ("Camera-PrIMuS", root, 1)
    assert report.missing == ["87,618 of the 87,678 incipits of the published set"]
    assert report.holds == {"incipits": 60, "pictures of a camera": 60} and not report.faults
    (use,) = report.uses  # too few for the paper's 4,457 of validation: the next preset that can
    assert use.command == f"make reproduce PRESET=smoke STUDY=transfer_learning CORPUS={root}"
    assert use.parts == {"train": {"incipits": 16}, "validation": {"incipits": 20}, "test": {"incipits": 24}}
    # its own description says that it is not meant to be the published one
    files.write_json(root / "corpus.json", {"name": "our incipits", "stand_in": False})
    report = checked(root)
    assert report.status == 0 and report.name == "our incipits" and not report.missing


def test_the_published_fold_where_all_of_it_is_here(incipits, tmp_path):
    root = incipits(tmp_path / "CameraPrIMuS" / "Corpus", 20)
    ids = Primus(root).ids
    for name, own in (("train", ids[:12]), ("val", ids[12:15]), ("test", ids[15:19])):
        files.write_text(tmp_path / "lists/primus/folds" / f"{name}_gt_fold0.dat", "\n".join(own))
    (use,) = checked(root).uses
    assert use.parts == {"train": {"incipits": 12}, "validation": {"incipits": 3}, "test": {"incipits": 4}}
    assert use.preset == "paper" and use.note == "split: the published fold 0"


def test_damaged_incipits(incipits, tmp_path):
    root = incipits(tmp_path / "CameraPrIMuS" / "Corpus")
    folders = sorted((root / "Corpus").iterdir())
    of = lambda number, kind: folders[number] / f"{folders[number].name}{kind}"  # noqa: E731
    of(0, ".semantic").unlink()
    of(1, ".semantic").write_text("clef-G2 nonsense-4")
    of(2, ".semantic").write_bytes(b"\xff\xfe\x80")
    of(3, "_distorted.jpg").unlink()
    cut(of(4, "_distorted.jpg"))
    of(5, "_distorted.jpg").write_bytes(b"")
    of(6, "_distorted.jpg").write_bytes(b"<html>404</html>")
    of(7, ".png").unlink()  # which the study does not read
    with open(of(8, "_distorted.jpg"), "ab") as handle:
        handle.write(bytes(500))  # something behind it: decoded, and found to be well
    (root / "Corpus" / "__MACOSX").mkdir()
    report = checked(root)
    assert sorted(report.faults) == [*(f.name for f in folders[:7]), "__MACOSX"] and report.status == 1
    for number, words in enumerate(("no such token", "nonsense-4", "not text", "no such image", "not a readable image",
                                    "not a readable image", "not a readable image")):  # fmt: skip
        line = report.faults[folders[number].name]
        assert words in line and str(folders[number]) in line and "\n" not in line
    assert sum(part["incipits"] for part in report.uses[0].parts.values()) == 53
    assert "it stops at them" in report.uses[0].note
    told = text(report, root, most=3)
    assert "damaged: 8\n" in told and "and 5 more" in told and told.count("no such token file") == 1


def test_clean_primus_and_its_two_packages(incipits, tmp_path):
    incipits(tmp_path / "PrIMuS" / "package_aa", 30, camera=False)
    root = tmp_path / "PrIMuS"
    shutil.copytree(root / "package_aa", root / "package_ab")
    for folder in list((root / "package_ab").iterdir()):
        name = f"1{folder.name[1:]}"
        folder = folder.rename(folder.with_name(name))
        for path in list(folder.iterdir()):
            path.rename(path.with_name(name + path.suffix))
    report = checked(root)
    assert report.holds == {"incipits": 60, "engraved pictures": 60} and not report.faults
    for given in (root / "package_ab", root / "package_aa" / "000000100-1_1_1"):
        assert find(given) == [("Camera-PrIMuS", root)]


# -- MSMD --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sheets(toy_sheets, tmp_path):
    """Its own copy of the toy, which the smoke preset of study 2 can use."""
    return Path(shutil.copytree(toy_sheets, tmp_path / "MSMD"))


def test_msmd(sheets):
    report = checked(sheets)
    assert (report.data_set, report.root, report.status) == ("MSMD", sheets, 0)
    assert report.holds["pieces"] == 14 and report.holds["performances"] == 9 * 5 + 5 * 2
    alignment, passages = report.uses
    assert "no train piece" in alignment.problem and not alignment.parts  # nothing here is by Mozart or Bach
    assert {part: own["pieces"] for part, own in passages.parts.items()} == {"train": 9, "valid": 1, "test": 4}
    corpus = Msmd(sheets)
    frames = sum(corpus.spectrogram(p, t).shape[1] for p in corpus.split()["test"] for t in corpus.performances(p))
    assert passages.parts["test"]["minutes"] == pytest.approx(frames / 1200)
    assert f"CORPUS={sheets}" in passages.command and "cannot use it" in text(report)


def test_pieces_by_one_composer(sheets):
    for piece in sorted(p.name for p in sheets.iterdir() if p.name.startswith("A__")):
        (sheets / piece).rename(sheets / piece.replace("A__", "MozartWA__"))
    for path in sorted(sheets.glob("MozartWA__*/scores/*_ly")):
        path.rename(path.with_name(f"{path.parents[1].name}_ly"))
    names = {"train": [f"MozartWA__w{n}__m" for n in range(9)], "valid": ["MozartWA__w9__m"],
             "test": [f"B__w{n}__m" for n in range(10, 14)]}  # fmt: skip
    (sheets / "all_split.yaml").write_text(yaml.safe_dump(names))
    use = checked(sheets).uses[0]
    assert use.preset == "paper" and use.note == "split: all_split, trained on MozartWA alone"
    assert {part: own["pieces"] for part, own in use.parts.items()} == {"train": 9, "valid": 1, "test": 4}


def test_damaged_pieces(sheets):
    score = lambda piece: sheets / piece / "scores" / f"{piece}_ly"  # noqa: E731
    cut(score("A__w0__m") / "img" / "01.png")
    cut(score("A__w1__m") / "mung" / "01.xml")
    cut(next((sheets / "A__w2__m").rglob("*_spec.npy")))
    shutil.rmtree(sheets / "A__w3__m" / "performances")
    shutil.rmtree(sheets / "A__w4__m")
    report = checked(sheets)
    assert sorted(report.faults) == [f"A__w{n}__m" for n in range(4)]
    assert "is not a readable image" in report.faults["A__w0__m"] and "01.xml" in report.faults["A__w1__m"]
    assert "spec.npy" in report.faults["A__w2__m"] and "no performance" in report.faults["A__w3__m"]
    assert report.missing == ["1 of the 14 pieces of all_split.yaml, the first is A__w4__m"]
    assert report.status == 2 and "has not, the first is A__w4__m" in report.uses[0].problem
    split = yaml.safe_load((sheets / "all_split.yaml").read_text())
    split["train"].remove("A__w4__m")
    (sheets / "all_split.yaml").write_text(yaml.safe_dump(split))
    report = checked(sheets)
    assert report.status == 1 and report.uses[1].parts["train"]["pieces"] == 4


def test_pieces_that_no_split_names_may_be_broken(sheets):
    """MSMD has folders of pieces whose alignment failed."""
    split = yaml.safe_load((sheets / "all_split.yaml").read_text())
    split["train"].remove("A__w0__m")
    (sheets / "all_split.yaml").write_text(yaml.safe_dump(split))
    shutil.rmtree(sheets / "A__w0__m" / "performances")
    assert checked(sheets).status == 0


# -- MAPS and GuitarSet ------------------------------------------------------------------------------------------------

PIANO = [("AkPnBcht", 7), ("SptkBGAm", 7), ("ENSTDkAm", 2)]


@pytest.fixture
def piano(tmp_path):
    """Sixteen recordings; what the Disklavier plays, p10 and p11, a software piano plays too."""
    root, number = tmp_path / "MAPS", 0
    notes = np.array([[0.1, 0.9, 60, 80], [1.0, 1.8, 64, 70]])
    for code, count in PIANO:
        for _ in range(count):
            piece = f"p{number if code != 'ENSTDkAm' else number - 4}"
            maps.write_recording(root, code, piece, tone(), RATE, notes)
            number += 1
    return root


def test_maps(piano):
    report = checked(piano)
    assert (report.data_set, report.root, report.status) == ("MAPS", piano, 1) and not report.faults
    assert report.holds == {"recordings": 16, "minutes": pytest.approx(32 / 60)}
    assert report.missing[0].startswith("254 of the 270 recordings of the published set: AkPnBcht 23, AkPnBsdf 30")
    own, published = report.uses
    assert own.command == f"DUET_MAPS={piano} make reproduce PRESET=overnight STUDY=synthetic_pretraining"
    assert published.command.startswith(f"DUET_MAPS={piano} DUET_GUITARSET=<GuitarSet> make reproduce PRESET=paper")
    count = lambda use: {part: found["recordings"] for part, found in use.parts.items()}  # noqa: E731
    assert count(own) == {"training": 10, "validation": 2, "test": 2}  # without p10 and p11
    assert count(published) == {"training": 12, "validation": 2, "test": 2}
    assert own.parts["test"]["minutes"] == pytest.approx(4 / 60)


def test_damaged_recordings(piano):
    stem = "MAPS_MUS-p{}_AkPnBcht"
    folder = piano / "AkPnBcht" / "MUS"
    cut(folder / f"{stem.format(0)}.flac")
    (folder / f"{stem.format(1)}.txt").write_text("OnsetTime OffsetTime MidiPitch\n0.1 0.9 sixty\n")
    (folder / f"{stem.format(2)}.flac").unlink()
    audio, labels = (folder / f"{stem.format(3)}.{kind}" for kind in ("flac", "mid"))
    soundfile.write(audio.with_suffix(".wav"), tone(), RATE)
    audio.unlink()
    cut(audio.with_suffix(".wav"))
    disklavier = piano / "ENSTDkAm" / "MUS" / "MAPS_MUS-p10_ENSTDkAm.flac"
    disklavier.write_bytes(b"")
    report = checked(piano)
    faults = report.faults
    assert set(faults) == {*(stem.format(n) for n in range(4)), disklavier.stem} and report.status == 1
    assert "cut short" in faults[stem.format(0)] or "not readable audio" in faults[stem.format(0)]
    assert "line 2" in faults[stem.format(1)] and "without audio" in faults[stem.format(2)]
    assert faults[stem.format(3)].startswith("usable: ") and "is cut short: " in faults[stem.format(3)]
    assert "not readable audio" in faults[disklavier.stem]
    count = {part: found["recordings"] for part, found in report.uses[0].parts.items()}
    assert count["test"] == 1 and count["training"] + count["validation"] == 9
    labels.write_bytes(b"MThd")
    assert "not readable MIDI" in checked(piano).faults[stem.format(3)]


def test_without_the_disklavier(piano):
    shutil.rmtree(piano / "ENSTDkAm")
    report = checked(piano)
    assert report.status == 2 and "Disklavier" in report.uses[0].problem
    assert "of no use as it is" in text(report)


@pytest.fixture
def guitar(tmp_path):
    root = tmp_path / "GuitarSet"
    strings = [np.empty((0, 3))] * 5 + [np.array([[0.2, 1.5, 64.1]])]
    for player in range(6):
        guitarset.write_excerpt(root, f"{player:02}_BN1-129-Eb_comp", strings, {"mic": tone(), "mix": tone()}, RATE)
    return root


def test_guitarset(guitar):
    report = checked(guitar)
    assert (report.data_set, report.root, report.status) == ("GuitarSet", guitar, 1)
    assert report.missing == ["354 of the 360 excerpts of the published set"]
    own, mixed = report.uses
    assert {part: found["recordings"] for part, found in own.parts.items()} == {
        "training": 4, "validation": 1, "test": 1}  # fmt: skip
    assert mixed.command.startswith(f"DUET_GUITARSET={guitar} DUET_MAPS=<MAPS> make reproduce PRESET=paper")
    (guitar / "annotation" / "03_BN1-129-Eb_comp.jams").write_text('{"annotations": [')
    (guitar / "audio_mono-mic" / "02_BN1-129-Eb_comp_mic.wav").unlink()
    report = checked(guitar)
    assert {stem[:2]: "JAMS" in line or "without audio" in line for stem, line in report.faults.items()} == {
        "02": True, "03": True}  # fmt: skip
    shutil.rmtree(guitar / "audio_mono-mic")
    report = checked(guitar)
    assert report.status == 2 and "choose microphone 'mix'" in text(report)
    shutil.rmtree(guitar / "audio_mono-pickup_mix")
    assert "audio_mono-mic/<stem>_mic.wav" in text(checked(guitar))


# -- MTD ---------------------------------------------------------------------------------------------------------------

COMPOSERS = ("Bach", "Haydn", "Mozart", "Beethoven", "Schubert", "Brahms")


def write_index(root, rows):
    with open(root / "03_MTD-medium.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS, restval="", delimiter=";")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def themes(tmp_path):
    """Twelve themes by six composers, each with its excerpt of three seconds."""
    root, rows = tmp_path / "MTD", []
    for number in range(12):
        identity, composer = f"{number:04}", COMPOSERS[number % 6]
        rows.append({"MTDID": identity, "ComposerID": composer, "WorkID": "w", "WCMID": f"{number // 2:04}",
                     "StartTime": "00:01", "EndTime": "00:04", "MidiTransposition": "0"})  # fmt: skip
        stem = f"MTD{identity}_{composer}_w"
        base = root / "03_MTD-medium"
        files.write_text(base / "data_EDM-corr_CSV" / f"{stem}.csv", '"Start";"Duration";"Pitch"\n0.0;0.5;60\n')
        files.write_text(base / "data_META" / f"{stem}.json", json.dumps(rows[-1]))
        files.write_bytes(base / "data_AUDIO" / f"{stem}.wav", b"")
        soundfile.write(base / "data_AUDIO" / f"{stem}.wav", tone(3.0), RATE)
    write_index(root, rows)
    return root


def test_mtd(themes):
    report = checked(themes)
    assert (report.data_set, report.root) == ("MTD", themes) and not report.faults
    assert report.missing == ["2,055 of the 2,067 themes of the published set"]
    assert report.holds["excerpts to search"] == 12 and report.holds["minutes of them"] == pytest.approx(0.6)
    (use,) = report.uses
    assert list(use.parts) == [f"fold {k}" for k in range(1, 6)] and "excerpts are searched" in use.note
    assert sum(part["themes"] for part in use.parts.values()) == 12
    assert sum(part["minutes"] for part in use.parts.values()) == pytest.approx(0.6)
    assert use.command == f"make reproduce PRESET=paper STUDY=ctc_chroma CORPUS={themes}"


def test_damaged_themes(themes):
    base = themes / "03_MTD-medium"
    (base / "data_AUDIO" / "MTD0000_Bach_w.wav").unlink()
    cut(base / "data_AUDIO" / "MTD0001_Haydn_w.wav", 0.2)
    (base / "data_EDM-corr_CSV" / "MTD0002_Mozart_w.csv").write_text("Start;Duration\n")
    report = checked(themes)
    assert sorted(report.faults) == ["0000", "0001", "0002"] and report.status == 1
    assert "no excerpt" in report.faults["0000"] and "ends at" in report.faults["0001"]
    assert "lacks the columns Pitch" in report.faults["0002"]
    assert sum(part["themes"] for part in report.uses[0].parts.values()) == 9
    write_index(themes, [])
    report = checked(themes)
    assert report.status == 2 and "lists no theme" in text(report)


def test_whole_recordings_are_searched_where_there_are_any(themes):
    (themes / "data_RECORDING").mkdir()
    for number in range(5):
        soundfile.write(themes / "data_RECORDING" / f"{number:04}.flac", tone(5.0), RATE)
    report = checked(themes)
    assert report.holds["recordings to search"] == 5 and sorted(report.faults) == ["0005"]
    assert "put yours there" in report.faults["0005"]
    assert sum(part["themes"] for part in report.uses[0].parts.values()) == 10


def test_the_end_of_audio_is_read(tmp_path):
    path = tmp_path / "a.flac"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * RATE)
    soundfile.write(path, noise, RATE)
    assert readable_seconds(path) == 5
    cut(path, 0.9)
    with pytest.raises(DuetError, match="a.flac"):
        readable_seconds(path)


# -- which folder ------------------------------------------------------------------------------------------------------


def test_a_folder_too_high_or_too_low(piano, guitar, themes, sheets, tmp_path):
    """Each is recognised, and its own folder named; a folder of several tells of each."""
    found = [("GuitarSet", guitar), ("MAPS", piano), ("MSMD", sheets), ("MTD", themes)]
    assert find(tmp_path) == found
    outer = tmp_path / "unzipped"
    outer.mkdir()
    for name, root in found:
        moved = root.rename(outer / root.name)
        assert find(outer) == [(name, moved)] == find(moved)
        moved.rename(root)
    inner = {
        "MAPS": [piano / "ENSTDkAm", piano / "ENSTDkAm" / "MUS"],
        "GuitarSet": [guitar / "annotation", guitar / "audio_mono-mic"],
        "MTD": [themes / "03_MTD-medium", themes / "03_MTD-medium" / "data_AUDIO"],
        "MSMD": [sheets / "B__w10__m", *sorted((sheets / "B__w10__m").rglob("img")),
                 next((sheets / "B__w10__m" / "performances").iterdir())],
    }  # fmt: skip
    for name, folders in inner.items():
        for folder in folders:
            ((seen, root),) = find(folder)
            assert seen == name and root == dict(found)[name], folder
    inner = piano / "ENSTDkAm"
    assert f"{inner} lies within it: the folder of the data set is {piano}" in text(checked(inner), inner)
    (report,) = [r for r in check.check(tmp_path, workers=1) if r.data_set == "MAPS"]
    assert f"{tmp_path} is the folder around it" in text(report, tmp_path)


def test_folders_that_are_nothing_known(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.png").write_bytes(b"a logo")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "notes" / "MAPS.wav").write_bytes(b"")
    with pytest.raises(DuetError, match="no data set that is recognised") as caught:
        find(tmp_path)
    message = str(caught.value)
    assert "\n" not in message and all(f"{name}: {tree}" in message for name, tree in LAYOUTS.items())
    for path in (tmp_path / "none", tmp_path / "notes" / "MAPS.wav"):
        with pytest.raises(DuetError, match="no such folder"):
            find(path)


def test_a_crowd_of_folders_is_not_searched_to_its_end(tmp_path, monkeypatch):
    """Names alone, and some thousands of them: it must answer at once in a home folder."""
    for number in range(80):
        (tmp_path / f"{number:02}" / "a" / "b" / "c" / "d" / "e").mkdir(parents=True)
    looked, scan = [], check._entries
    monkeypatch.setattr(check, "_entries", lambda folder: looked.append(folder) or scan(folder))
    monkeypatch.setattr(check, "_MANY", 50)
    with pytest.raises(DuetError):
        find(tmp_path)
    assert len(looked) <= 200
    looked.clear()
    with pytest.raises(DuetError):
        find(tmp_path / "00")
    assert [folder.name for folder in looked] == ["00", "a", "b", "c", "d"]


# -- what Duet has built -----------------------------------------------------------------------------------------------


def test_stand_ins_are_compared_with_what_they_were_built_with(incipits, guitar, tmp_path):
    incipits(tmp_path / "primus-rism-0123456789ab")
    root = tmp_path / "primus-rism-0123456789ab"
    built = {"fingerprint": "f", "layout": "Camera-PrIMuS", "stand_in": True}
    files.write_json(root / "corpus.json", {**built, "name": "music21 ryansMammoth (open)", "items": 62})
    report = checked(root)
    assert report.missing == ["2 of the 62 incipits that it was built with"] and report.status == 1
    assert report.uses[0].command == "make reproduce PRESET=smoke STUDY=transfer_learning"
    settings = {"kind": "guitar", "collection": "registry", "clips": 6, "longest": 10.0}
    files.write_json(guitar / "corpus.json", {**built, "layout": "GuitarSet", "name": "own", "settings": settings})
    files.write_json(guitar / "clips.json", [{}] * 6)
    report = checked(guitar)
    assert report.status == 0 and not report.missing
    assert [use.command for use in report.uses] == ["make reproduce PRESET=smoke STUDY=synthetic_pretraining"]
    files.write_json(guitar / "corpus.json", {"layout": "Synthesized Instruments"})
    with pytest.raises(DuetError, match="no data set that is recognised"):
        find(guitar)


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_a_description_that_is_damaged(guitar, content):
    (guitar / "corpus.json").write_text(content)
    report = checked(guitar)
    assert report.data_set == "GuitarSet" and report.status == 2 and str(guitar / "corpus.json") in report.missing[0]


def test_a_description_of_other_types(guitar):
    files.write_json(guitar / "corpus.json", {"settings": 3, "stand_in": "no", "counts": None, "name": "mine"})
    assert checked(guitar).status == 0


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command(guitar, tmp_path, capsys, monkeypatch):
    for name in cli.launch.ENVIRONMENT:
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(check, "in_parallel", lambda work, jobs, *_: map(work, jobs))
    assert cli.main(["check-data", str(guitar)]) == 1
    assert capsys.readouterr().out.startswith(f"GuitarSet: {guitar}\n  here: 6 excerpts")
    files.write_json(guitar / "corpus.json", {"name": "our guitar"})
    assert cli.main(["check-data", str(guitar)]) == 0
    assert capsys.readouterr().out.endswith("\n  whole\n")
    shutil.rmtree(guitar / "audio_mono-mic")
    assert cli.main(["check-data", str(guitar)]) == 2
    assert cli.main(["check-data", str(tmp_path / "lists")]) == 2
    assert capsys.readouterr().err.startswith("duet: ")
