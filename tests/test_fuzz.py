"""A few damaged files of each format; what the campaign has found stays mended; its page agrees with its log."""

import os
import signal
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import soundfile
import yaml

from duet import DuetError, engraving, files, own_files, paths, scores, semantic, training
from duet.apart import apart
from duet.corpora import msmd, openscores
from duet.corpora.mtd import Mtd, readable_seconds

CASES = 50
#: Engraved alone, in `make fuzz`: each case takes a second or more.
SLOW = {"ABC", "LilyPond"}


def test_damaged_files_are_refused_or_read(tmp_path):
    """In processes of their own with limits on memory and time: 50 of each format, without engraving."""
    log = tmp_path / "log.json"
    command = [sys.executable, "-m", "tests.fuzz", "--cheap", "--cases", str(CASES), "--log", str(log), "--files-only"]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, timeout=1500)
    assert not done.returncode, done.stdout + done.stderr
    formats = files.read_json(log)["formats"]
    assert {name: own["tried"] for name, own in formats.items()} == dict.fromkeys(formats, CASES)
    assert all(own["read"] + own["refused"] == CASES and own["refused"] for own in formats.values())
    whole = files.read_json(paths.ROOT / "results" / "reliability.json")["formats"]
    assert set(whole) - set(formats) <= SLOW


def test_the_page_agrees_with_the_log():
    sys.path.insert(0, str(paths.ROOT))
    try:
        from tests.fuzz import page
    finally:
        sys.path.remove(str(paths.ROOT))
    log = files.read_json(paths.ROOT / "results" / "reliability.json")
    assert page.PAGE.read_text() == page.text(log)


# -- what the campaign has found ---------------------------------------------------------------------------------------


def refused(match, function, *arguments):
    with pytest.raises(DuetError, match=match) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def crash():
    os.kill(os.getpid(), signal.SIGTERM)  # a worse signal would be told at length by pytest


def for_ever():
    while True:
        pass


def too_large():
    return bytearray(40 << 30)


def kilobytes():
    return b"x" * 5_000_000


def test_what_happens_apart_stays_apart():
    assert apart(kilobytes, seconds=5, remedy="") == kilobytes()
    refused("crash.*do this", lambda: apart(crash, seconds=5, remedy="do this"))
    refused("more than 1 s", lambda: apart(for_ever, seconds=1, remedy=""))
    refused("more memory", lambda: apart(too_large, seconds=5, remedy=""))
    refused("no token", lambda: apart(semantic.parse, "x", seconds=5, remedy=""))
    with pytest.raises(RuntimeError, match="TypeError"):
        apart(len, 5, seconds=5, remedy="")


def test_a_score_that_crashes_verovio_is_one_line(tmp_path):
    path = tmp_path / "a.krn"
    path.write_text("**kern\n=99999999999\n4c\n*-\n")
    refused("a.krn.*crash", scores.read, path)
    (tmp_path / "b.krn").write_text("**kern\n*clefG2\n=1\n4c\n==\n*-\n")
    assert len(scores.read(tmp_path / "b.krn").notes) == 1


def test_a_page_that_cannot_be_read_is_one_line(monkeypatch):
    monkeypatch.setattr(engraving, "_numbers", lambda text: [1.0])
    mei = semantic.mei_from_tokens("clef-G2 timeSignature-C note-C4_whole barline".split())
    refused("page of it is not readable", engraving.engrave_pages, mei)


def packed(path, size, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("score.xml", bytes(size))
    return path


def test_archives_that_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_UNPACKED", 10_000)
    unpack = lambda path: list(files.read_archive(path))  # noqa: E731
    assert unpack(packed(tmp_path / "a.zip", 10_000)) == [("score.xml", bytes(10_000))]
    refused("unpacks to more", unpack, packed(tmp_path / "b.zip", 10_001))
    refused("unpacks to more", scores.read, packed(tmp_path / "b.mxl", 10_001))
    bomb = bytearray(packed(tmp_path / "c.zip", 10_001).read_bytes())
    where = bomb.rindex(b"PK\1\2") + 24  # the announced size
    bomb[where : where + 4] = (5).to_bytes(4, "little")
    (tmp_path / "c.zip").write_bytes(bomb)
    refused("unpacks to more|not a readable archive", unpack, tmp_path / "c.zip")
    for name, mode in (("a.tar", "w"), ("a.tgz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as archive:
            member = tarfile.TarInfo("x" * 20_000)  # a name can be a bomb, too
            archive.addfile(member)
        refused("unpacks to more", unpack, tmp_path / name)


def test_rarely_used_kinds_of_zip(tmp_path):
    """LZMA may ask for a dictionary of 4 GiB."""
    path = packed(tmp_path / "a.zip", 100, zipfile.ZIP_LZMA)
    refused("packed in a rare way", lambda: list(files.read_archive(path)))
    assert list(openscores._members(path, {100})) == [("score.xml", b"")]


def test_a_line_does_not_quote_a_whole_file(tmp_path):
    (tmp_path / "a.semantic").write_text("clef-G2" * 100_000)
    refused(r"clef-G2 \.\.\.|\.\.\.", semantic.read_tokens, tmp_path / "a.semantic")


def test_json_of_another_kind(tmp_path):
    path = tmp_path / "corpus.json"
    path.write_text("[1, 2]")
    refused("no names and values", files.read_object, path)
    for text in ('{"name": 5}', '{"fingerprint": null}'):
        path.write_text(text)
        refused("is no text", files.read_object, path)
    path.write_text("[" * 20_000)
    refused("not valid JSON", files.read_json, path)
    refused("cannot be read", files.read_json, tmp_path)
    refused("cannot be read", files.file_digest, tmp_path)


def test_folders_in_place_of_tables(tmp_path):
    (tmp_path / "data_META").mkdir()
    (tmp_path / "data_EDM-corr_CSV" / "MTD0116_a.csv").mkdir(parents=True)
    row = {c: "0" for c in ("MTDID", "ComposerID", "WorkID", "WCMID", "StartTime", "EndTime", "MidiTransposition")}
    files.write_json(tmp_path / "data_META" / "MTD0116_a.json", {**row, "MTDID": "0116"})
    corpus = Mtd(tmp_path)
    assert corpus.fingerprint
    refused("has no notes of theme 0116", corpus.notes, "0116")


def test_a_row_of_an_index_with_too_many_cells(tmp_path):
    (tmp_path / "data_META").mkdir()
    columns = ("MTDID", "ComposerID", "WorkID", "WCMID", "StartTime", "EndTime", "MidiTransposition")
    text = ";".join(columns) + "\n" + ";".join(["0116"] * 9) + "\n"
    (tmp_path / "03_MTD-medium.csv").write_text(text)
    refused("more cells than columns in row 2", lambda: Mtd(tmp_path).fingerprint)


@pytest.mark.parametrize("content", ["[" * 5_000, "train: 2020-99-99", "train: !!timestamp x"])
def test_splits_that_yaml_stumbles_over(tmp_path, content):
    (tmp_path / "a.yaml").write_text(content)
    refused("not a readable split|does not list", msmd.read_split, tmp_path / "a.yaml")
    with pytest.raises((RecursionError, ValueError, AttributeError)):
        yaml.safe_load(content)


@pytest.mark.parametrize("header", ["(" * 500, "{'descr': '<U9', 'fortran_order': False, 'shape': (92, 0), }"])
def test_arrays_that_are_none(tmp_path, header):
    content = header.encode().ljust(1013) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content)
    refused("not a readable array|not an array of numbers", msmd._loaded, tmp_path / "a.npy")


def test_sound_that_is_no_numbers(tmp_path):
    sound = np.full(30_000, 0.1, np.float32)
    sound[20_000] = np.nan
    soundfile.write(tmp_path / "a.wav", sound, 22_050, "FLOAT")
    for read in (lambda p: list(own_files.spectrograms(p)), lambda p: own_files.stretches(p, [(0, 1)])):
        refused("a.wav.*no numbers", read, tmp_path / "a.wav")


def test_an_audio_file_that_cannot_be_sought(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), 22_050)

    def fail(*_):
        raise ValueError("no")

    monkeypatch.setattr(soundfile.SoundFile, "seek", fail)
    refused("a.wav.*not readable audio", readable_seconds, tmp_path / "a.wav")


def test_a_disk_that_is_full_in_the_middle_of_a_checkpoint(tmp_path, monkeypatch):
    def full(state, path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1 vs 2\nmore")

    monkeypatch.setattr(training.torch, "save", full)
    refused("a.pt: could not be written", training._save_checkpoint, {}, tmp_path / "a.pt")

    def full_too(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training.Path, "write_bytes", full_too)
    refused(
        "a.safetensors: could not be written: No space left on device",
        training.save_weights,
        training.nn.Linear(1, 1),
        tmp_path / "a.safetensors",
    )
    assert not list(tmp_path.iterdir())
