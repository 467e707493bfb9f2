"""What is damaged, and who reads it: of each format small files that are whole, in the trees that belong to them."""

from __future__ import annotations

import shutil
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mido
import numpy as np
import pretty_midi
import soundfile
import torch
from PIL import Image

from duet import engraving, features, files, index, lilypond, own_files, scores, semantic, training
from duet.corpora import guitarset, maps, openscores, primus, recordings, samples
from duet.corpora.guitarset import GuitarSet
from duet.corpora.maps import Maps
from duet.corpora.msmd import Msmd, read_split, write_split
from duet.corpora.mtd import Mtd, readable_seconds
from duet.corpora.primus import Primus
from duet.errors import DuetError
from duet.scores import Score

from ..conftest import _toy_piece
from ..test_follower import musicxml, tune
from ..test_mtd import published
from ..test_scores import KERN, MEI, SCORE

RATE = 22_050
TOKENS = "clef-G2 keySignature-BbM timeSignature-3/4 note-Bb4_quarter. tie barline note-Bb4_eighth rest-half barline"
ABC = "X:1\nT:Tune\nM:4/4\nL:1/4\nK:G\n|:G A [Bd] c|(3d/e/f/ g a b:|\nd c B A|G4|\n"
LILYPOND = r"""\version "2.24.0"
\score { \new Staff \relative c'' { \tempo 4 = 90 \time 2/4 c4~ c8 d | e2 } \layout { } }
"""
STEM, CODE = "00_BN1-129-Eb_comp", "AkPnBcht"


class Format(NamedTuple):
    """``plant`` writes whole files into a folder and returns those that are damaged in turn; each of ``readers`` gets
    the folder and the damaged file.  ``deep`` ones take long: `make fuzz` calls them for every fifth case, or for all
    where there are no others, `make test` does not.
    """

    kind: str
    plant: Callable[[Path], list[Path]]
    readers: tuple[Callable[[Path, Path], object], ...]
    deep: tuple[Callable[[Path, Path], object], ...] = ()
    cases: int = 2000


def sane(values) -> None:
    """What has been read is numbers."""
    assert np.isfinite(np.asarray(values, float)).all(), "holds what is no number, and nobody said so"


# -- scores ------------------------------------------------------------------------------------------------------------


def _read_score(_: Path, path: Path) -> None:
    score: Score = scores.read(path)
    sane([(n.onset, n.duration, n.pitch) for n in score.notes])
    sane([*score.bars, score.end, *score.sections])
    assert score.notes and all(n.duration > 0 for n in score.notes)
    scores.voices(score)


def _engrave(_: Path, path: Path) -> None:
    sheet = own_files.read_score(path).sheet
    sane([(h.row, h.column, h.onset, h.duration) for h in sheet.noteheads])
    assert sheet.images and sheet.noteheads


def _musicxml(folder: Path) -> list[Path]:
    (folder / "three staves.musicxml").write_text(SCORE)
    (folder / "piano.xml").write_text(musicxml(tune(1, 4)))
    part = semantic.part_from_tokens(TOKENS.split())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part.write("musicxml", folder / "tokens.musicxml")
    return sorted(folder.iterdir())


def _mxl(folder: Path) -> list[Path]:
    container = '<container><rootfiles><rootfile full-path="a/score.xml"/></rootfiles></container>'
    for name, text in (("one.mxl", SCORE), ("two.mxl", musicxml(tune(2, 2)))):
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as packed:
            for member, inside in (("META-INF/container.xml", container), ("a/score.xml", text), ("more.txt", "x")):
                packed.writestr(zipfile.ZipInfo(member), inside, zipfile.ZIP_DEFLATED)
    return sorted(folder.iterdir())


def _mei(folder: Path) -> list[Path]:
    (folder / "octave.mei").write_text(MEI)
    (folder / "tokens.mei").write_text(semantic.mei_from_tokens(TOKENS.split()))
    return sorted(folder.iterdir())


def _kern(folder: Path) -> list[Path]:
    (folder / "voices.krn").write_text(KERN)
    split = "**kern\n*clefG2\n*M4/4\n=1\n*^\n4c\t4e\n[4d\t8f 8a\n.\t8g\n*v\t*v\n2d]T;\n=2:|!\n"
    split += "(8qqe 4f#)\n12g\n12a\n12b\n2r\n==\n*-\n"
    (folder / "split.krn").write_text(split)
    return sorted(folder.iterdir())


def _midi(folder: Path) -> list[Path]:
    tree = published(folder / "MTD")
    shutil.rmtree(tree / "03_MTD-medium" / "data_EDM-corr_CSV")
    recordings.write_midi(folder / "piano.mid", np.array([[0, 1, 60, 90], [0.5, 1, 64, 80], [1, 2, 67, 70]], float))
    several = pretty_midi.PrettyMIDI(initial_tempo=90)
    for program, drum in ((0, False), (40, False), (0, True)):
        track = pretty_midi.Instrument(program, drum)
        track.notes = [pretty_midi.Note(80, 60 + k, k / 4, k / 4 + 0.3) for k in range(6)]
        track.control_changes = [pretty_midi.ControlChange(64, 127 * (k % 2), k / 3) for k in range(6)]
        several.instruments.append(track)
    several.write(str(folder / "several.mid"))
    single, track = mido.MidiFile(type=0), mido.MidiTrack()
    for pitch in (60, 62, 64, 65):
        track += [
            mido.Message("note_on", note=pitch, velocity=64),
            mido.Message("note_on", note=pitch, velocity=0, time=480),
        ]
    single.tracks.append(track)
    single.save(folder / "single.mid")
    return [*sorted(folder.glob("*.mid")), next((tree / "03_MTD-medium" / "data_EDM-corr_MID").glob("MTD0116*"))]


def _notes_of_midi(_: Path, path: Path) -> None:
    sane(recordings.read_midi(path))


def _notes_of_mtd(folder: Path, _: Path) -> None:
    sane(Mtd(folder / "MTD").notes("0116"))


def _abc(folder: Path) -> list[Path]:
    (folder / "tune.abc").write_text(ABC)
    return [folder / "tune.abc"]


def _lilypond(folder: Path) -> list[Path]:
    (folder / "piece.ly").write_text(LILYPOND)
    return [folder / "piece.ly"]


# -- audio -------------------------------------------------------------------------------------------------------------


def _sine(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return np.repeat(0.4 * np.sin(2 * np.pi * 440 * time)[:, None], channels, 1)


_CONTAINERS = {".oga": "OGG"}  # soundfile does not know the name


def _sounds(*kinds: tuple) -> Callable[[Path], list[Path]]:
    def plant(folder: Path) -> list[Path]:
        for name, seconds, rate, channels, subtype in kinds:
            soundfile.write(
                folder / name, _sine(seconds, rate, channels), rate, subtype, format=_CONTAINERS.get(name[-4:])
            )
        return sorted(folder.iterdir())

    return plant


_wav = _sounds(("a.wav", 0.4, RATE, 1, "PCM_16"), ("b.wav", 0.3, 44_100, 2, "PCM_24"),
               ("c.wav", 0.3, 8_000, 1, "PCM_U8"), ("d.wav", 0.2, 16_000, 6, "FLOAT"),
               ("e.wav", 0.4, RATE, 1, "IMA_ADPCM"))  # fmt: skip
_flac = _sounds(
    ("a.flac", 0.4, RATE, 1, "PCM_16"), ("b.flac", 0.3, 44_100, 2, "PCM_24"), ("c.flac", 0.3, 8_000, 1, "PCM_16")
)
_audio = _sounds(("a.oga", 0.5, RATE, 1, "VORBIS"), ("b.mp3", 0.5, 44_100, 2, "MPEG_LAYER_III"),
                 ("c.ogg", 0.5, 48_000, 1, "OPUS"), ("d.aiff", 0.3, RATE, 1, "PCM_16"),
                 ("e.au", 0.3, RATE, 1, "PCM_16"), ("f.caf", 0.3, RATE, 1, "PCM_16"))  # fmt: skip


def _heard(_: Path, path: Path) -> None:
    sane(features.read_audio(path))


def _searched(_: Path, path: Path) -> None:
    music = own_files.music_in(path, 0.05)
    sane([music.seconds, music.start, music.end])


def _cut(_: Path, path: Path) -> None:
    for part in own_files.stretches(path, [(0, 0.1), (0.05, 5)]):
        assert part.ndim == 1


def _seen(_: Path, path: Path) -> None:
    for part in own_files.spectrograms(path):
        assert part.shape[0] == 92


def _measured(_: Path, path: Path) -> None:
    sane([readable_seconds(path), recordings.duration(path), recordings.clipped(path)])


_SOUND = (_heard, _searched, _cut, _seen, _measured)

# -- labels and lists --------------------------------------------------------------------------------------------------


def _jams(folder: Path) -> list[Path]:
    strings = [np.array([[0.1 * k, 0.1 * k + 0.2, 40 + 5 * k + 0.1]]) for k in range(6)]
    return [guitarset.write_excerpt(folder, STEM, strings, {"mic": _sine(1, 16_000)[:, 0]}, 16_000)]


def _strings(folder: Path, _: Path) -> None:
    corpus = GuitarSet(folder)
    for string in corpus.strings(STEM):
        sane(string)
    sane(corpus.notes(STEM))


def _csv(folder: Path) -> list[Path]:
    tree = published(folder / "MTD")
    (tree / "folds.csv").write_text("composer,fold\nBach,1\nBeethoven,2\n")
    notes = np.array([[0.1, 0.5, 60, 90], [0.4, 0.9, 64, 90]])
    maps.write_recording(folder / "MAPS", CODE, "x", _sine(1, 16_000)[:, 0], 16_000, notes)
    recordings.write_table(folder / "table.tsv", notes)
    own = tree / "03_MTD-medium"
    return [tree / "03_MTD-medium.csv", tree / "folds.csv", next(own.glob("data_EDM-corr_CSV/MTD0116*")),
            next(own.glob("data_ALIGNMENT/MTD0116*")), *(folder / "MAPS").rglob("*.txt"),
            folder / "table.tsv"]  # fmt: skip


def _tables_of_mtd(folder: Path, _: Path) -> None:
    corpus = Mtd(folder / "MTD")
    assert corpus.fingerprint and corpus.documents() == sorted(corpus.documents())
    corpus.check()
    for identity in corpus.ids:
        theme = corpus.theme(identity)
        sane([theme.start, theme.end, theme.transposition])
    assert set(corpus.folds().values()) <= set(range(1, 6))
    sane(corpus.notes("0116"))
    sane(corpus.alignment("0116"))


def _tables_of_maps(folder: Path, _: Path) -> None:
    corpus = Maps(folder / "MAPS")
    sane(corpus.notes(next(iter(corpus.recordings))))
    sane(recordings.read_table(folder / "table.tsv"))


def _yaml(folder: Path) -> list[Path]:
    write_split(folder, {"train": ["A__b__c", "A__d__e"], "valid": ["B__f__g"], "test": ["C__h__i", "C__j__k"]})
    (folder / "old.yaml").write_text("# a comment\ntest:\n- a\n- 'b'\ntrain: [c, d]\nvalid: &x [e]\nmore: *x\n")
    return sorted(folder.iterdir())


def _split(_: Path, path: Path) -> None:
    assert all(isinstance(piece, str) for part in read_split(path).values() for piece in part)


def _json(folder: Path) -> list[Path]:
    tree = published(folder / "MTD", index=False)
    tokens = tuple(TOKENS.split())
    home = folder / "corpus" / "1-1_1_1"
    files.write_text(home / "1-1_1_1.semantic", semantic.write_tokens(tokens))
    about = {"name": "toy", "fingerprint": "f", "stand_in": True, "items": 1, "settings": {"tempo": 120}}
    files.write_json(folder / "corpus" / "corpus.json", about)
    heads = (engraving.Notehead(0, 0, 0, 1.0, 2.0, 3.0, 4.0, 0.0, 1.0, 60, False, False),)
    systems = (engraving.System(0, 1.0, 2.0, 30.0, 40.0, 2),)
    page = np.full((60, 80), 255, np.uint8)
    engraving.save_sheet(folder / "sheet", engraving.Sheet((page,), systems, heads, (0.0,), ((0.0, 90.0),)))
    meta = next((tree / "03_MTD-medium" / "data_META").glob("MTD0116*"))
    return [meta, folder / "corpus" / "corpus.json", folder / "sheet" / "sheet.json"]


def _meta(folder: Path, _: Path) -> None:
    corpus = Mtd(folder / "MTD")
    corpus.check()
    corpus.theme("0116")
    assert corpus.fingerprint and corpus.meta("0116") is not None


def _description(folder: Path, _: Path) -> None:
    corpus = Primus(folder / "corpus")
    assert isinstance(corpus.fingerprint, str) and isinstance(corpus.description.get("name", ""), str)


def _sheet(folder: Path, _: Path) -> None:
    engraving.load_sheet(folder / "sheet")


def _semantic(folder: Path) -> list[Path]:
    (folder / "a.semantic").write_text(TOKENS)
    (folder / "b.semantic").write_text(semantic.write_tokens(["clef-C3", "timeSignature-C/", "multirest-3", "barline",
        "gracenote-F#5_eighth", "note-F##5_sixteenth.._fermata", "tie", "barline", "note-F##5_whole"]))  # fmt: skip
    (folder / "ids.dat").write_text("1-1_1_1\n2-1_1_1\n")
    return sorted(folder.iterdir())


def _tokens(_: Path, path: Path) -> None:
    tokens = semantic.read_tokens(path)
    sane([(n.onset, n.duration, n.pitch) for n in semantic.notes_from_tokens(tokens)])


def _ids(folder: Path, _: Path) -> None:
    assert primus.read_ids(folder / "ids.dat")


def _xml(folder: Path) -> list[Path]:
    records = folder / "rism"
    records.mkdir()
    field = lambda code, text: f'<subfield code="{code}">{text}</subfield>'  # noqa: E731
    inside = "".join(field(*each) for each in (("a", "1"), ("b", "1"), ("c", "1"), ("g", "G-2"), ("n", "bB"),
                                               ("o", "3/4"),
                                               ("p", "'4ABC/")))  # fmt: skip
    record = f'<record><controlfield tag="001">123</controlfield><datafield tag="031">{inside}</datafield></record>'
    (records / "record.xml").write_text(f"<collection>{record * 2}</collection>")
    _toy_piece(folder / "msmd", "A__b__c", 1, {"tempo-1000_one": 0.25 * np.arange(40)})
    return [records / "record.xml", next((folder / "msmd").rglob("mung/*.xml"))]


def _records(folder: Path, _: Path) -> None:
    for _, code in primus.rism_records(folder / "rism"):
        try:
            semantic.tokens_from_mei(engraving.mei_from_pae(**code))
        except DuetError:
            pass  # as rism_incipits does


def _graph(folder: Path, _: Path) -> None:
    corpus = Msmd(folder / "msmd")
    heads = corpus.noteheads("A__b__c")
    sane([heads["row"], heads["column"]])
    corpus.unrolled("A__b__c", corpus.performances("A__b__c")[0])
    corpus.problems(workers=1)


# -- pictures, arrays, weights, archives -------------------------------------------------------------------------------


def _picture(mode: str) -> Image.Image:
    grey = np.random.default_rng(0).integers(0, 256, (40, 90), np.uint8)
    return Image.fromarray(grey).convert("RGB").convert(mode)


def _png(folder: Path) -> list[Path]:
    for mode in ("L", "RGB", "P", "1", "RGBA", "I;16"):
        picture = (
            Image.fromarray(np.arange(3600, dtype=np.uint16).reshape(40, 90)) if mode == "I;16" else _picture(mode)
        )
        picture.save(folder / f"{mode.replace(';', '')}.png")
    return sorted(folder.iterdir())


def _jpeg(folder: Path) -> list[Path]:
    for mode in ("L", "RGB", "CMYK"):
        _picture(mode).save(folder / f"{mode}.jpg", quality=60, progressive=mode == "RGB")
    return sorted(folder.iterdir())


def _image(_: Path, path: Path) -> None:
    picture = features.read_image(path)
    assert picture.dtype == np.uint8 and picture.ndim == 2
    assert len(features.image_picture(picture, 64)) == 64


def _safetensors(folder: Path) -> list[Path]:
    training.save_weights(_network(), folder / "weights.safetensors", {"study": "toy", "network": "small"})
    made = index.Index("model", 4)
    made.add(np.eye(4, dtype=np.float32), [["a", k] for k in range(4)])
    made.save(folder / "index.safetensors")
    return sorted(folder.iterdir())


def _network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))


def _weights(_: Path, path: Path) -> None:
    training.load_weights(path)


def _loaded(folder: Path, _: Path) -> None:
    training.load_into(_network(), folder / "weights.safetensors")
    assert isinstance(training.read_about(folder / "weights.safetensors"), dict)


def _index(folder: Path, _: Path) -> None:
    found = index.Index.load(folder / "index.safetensors", "model")
    found.search(np.eye(4, dtype=np.float32)[:1], 2)


def _npy(folder: Path) -> list[Path]:
    _toy_piece(folder / "msmd", "A__b__c", 1, {"tempo-1000_one": 0.25 * np.arange(40)})
    pictures = folder / "pictures"
    files.write_json(pictures / "index.json", {"ids": ["a", "b"], "offsets": [0, 10, 30]})
    with files.atomic(pictures / "columns.npy") as path:
        np.save(path, np.zeros((30, 64), np.uint8))
    return [*(folder / "msmd").rglob("*_spec.npy"), *(folder / "msmd").rglob("*_notes.npy"), pictures / "columns.npy"]


def _arrays(folder: Path, _: Path) -> None:
    corpus = Msmd(folder / "msmd")
    take = corpus.performances("A__b__c")[0]
    assert corpus.spectrogram("A__b__c", take).sum() is not None and corpus.notes("A__b__c", take).shape[1] == 5
    corpus.problems(workers=1)


def _pictures(folder: Path, _: Path) -> None:
    found = features.PictureSet(folder / "pictures")
    assert found["a"].shape == (64, 10) and found["b"].sum() is not None


def _zip(folder: Path) -> list[Path]:
    for name, how in (
        ("stored.zip", zipfile.ZIP_STORED),
        ("deflated.zip", zipfile.ZIP_DEFLATED),
        ("lzma.zip", zipfile.ZIP_LZMA),
    ):
        with zipfile.ZipFile(folder / name, "w", how) as packed:
            for member in ("top/a.xml", "top/deep/b.xml", "top/c.txt"):
                packed.writestr(zipfile.ZipInfo(member), MEI, how)
    return sorted(folder.iterdir())


def _tgz(folder: Path) -> list[Path]:
    (folder / "Ds4.mp3").write_bytes(b"\xff\xfb" + bytes(range(256)) * 4)
    for name, mode in (("a.tgz", "w:gz"), ("b.tar", "w"), ("c.tar.xz", "w:xz"), ("d.tar.bz2", "w:bz2")):
        with tarfile.open(folder / name, mode) as packed:
            for member in ("package/Ds4.mp3", "package/LICENSE"):
                packed.add(folder / "Ds4.mp3", member)
    (folder / "Ds4.mp3").unlink()
    return sorted(folder.iterdir())


def _unpacked(_: Path, path: Path) -> None:
    for name, content in files.read_archive(path):
        assert name and isinstance(content, bytes)


def _members(_: Path, path: Path) -> None:
    try:
        list(openscores._members(path, {len(MEI)}))
    except openscores._Damaged as error:  # which fetch tells as an error of the download
        raise DuetError(str(error), path=path, remedy=openscores.AGAIN) from None


def _samples(folder: Path, path: Path) -> None:
    one = samples.Package("toy", "1", "", 1, 0.1, 90)
    try:
        samples._unpack(path, one, folder / "unpacked")
    finally:
        shutil.rmtree(folder / "unpacked", ignore_errors=True)


# -- all ---------------------------------------------------------------------------------------------------------------

#: The cheapest first.  ABC and LilyPond have fewer cases: each takes seconds of music21 or LilyPond.
FORMATS: dict[str, Format] = {
    "YAML": Format("yaml", _yaml, (_split,)),
    "tokens": Format("text", _semantic, (_tokens, _ids)),
    "JSON": Format("json", _json, (_meta, _description, _sheet)),
    "zip": Format("zip", _zip, (_unpacked, _members)),
    "tgz": Format("tgz", _tgz, (_unpacked, _samples)),
    "PNG": Format("png", _png, (_image,)),
    "JPEG": Format("binary", _jpeg, (_image,)),
    "safetensors": Format("binary", _safetensors, (_weights, _loaded, _index)),
    "CSV": Format("csv", _csv, (_tables_of_mtd, _tables_of_maps)),
    "WAV": Format("binary", _wav, _SOUND),
    "FLAC": Format("binary", _flac, _SOUND),
    "other audio": Format("binary", _audio, _SOUND),
    "MIDI": Format("binary", _midi, (_notes_of_midi, _notes_of_mtd), (_engrave,)),
    "kern": Format("text", _kern, (_read_score,), (_engrave,)),
    "MEI": Format("xml", _mei, (_read_score,), (_engrave,)),
    "MusicXML": Format("xml", _musicxml, (_read_score,), (_engrave,)),
    "MXL": Format("zip", _mxl, (_read_score,), (_engrave,)),
    "JAMS": Format("json", _jams, (_strings,)),
    "other XML": Format("xml", _xml, (_records, _graph)),
    "npy": Format("npy", _npy, (_arrays, _pictures)),
    "ABC": Format("text", _abc, (), (_engrave,), 400),
    "LilyPond": Format("text", _lilypond, (), (_engrave,) if lilypond.available() else (), 200),
}
