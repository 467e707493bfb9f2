"""Corpora in PrIMuS layout: reading published trees, refusing damaged ones, building open ones."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import soundfile

from duet import DuetError, engraving, features, files, paths, semantic, synthesis
from duet.corpora import openscores, primus
from duet.corpora.primus import BuildSettings, Incipit, Primus

SETTINGS = BuildSettings(soundfont="timgm6mb", engine=synthesis.engine())
TUNES = [f"clef-G2 keySignature-DM timeSignature-3/4 note-{a}4_quarter note-{b}4_half barline note-{c}5_half. barline"
         for a, b, c in zip("CDEFGABCDEFG", "EGBDFACEGBDF", "AFDBGECAFDBG", strict=True)]  # fmt: skip


def incipit(identity, text):
    tokens = text.split()
    return Incipit(identity, semantic.mei_from_tokens(tokens), tuple(tokens))


INCIPITS = [incipit(f"{10 + i // 2}-1_{i % 2 + 1}_1", text) for i, text in enumerate(TUNES)]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A small corpus; tests copy it before they harm it."""
    root = tmp_path_factory.mktemp("built") / "corpus"
    primus.build(root, INCIPITS, SETTINGS, {"name": "small", "fingerprint": "f" * 64}, workers=1)
    return root


@pytest.fixture
def corpus(built, tmp_path):
    return Primus(shutil.copytree(built, tmp_path / "corpus"))


def contents(root):
    """{relative path: bytes}, without the temporary files that a killed process left."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()
            and ".tmp-" not in p.name}  # fmt: skip


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parents", [("",), ("Corpus",), ("package_aa",), ("package_aa", "package_ab")])
def test_the_published_roots(built, tmp_path, parents):
    """Flat, Camera-PrIMuS, half and both archives of PrIMuS: no corpus.json, no audio, a trailing tab."""
    for number, one in enumerate(INCIPITS):
        target = tmp_path / "root" / parents[number % len(parents)] / one.id
        shutil.copytree(built / one.id, target, ignore=shutil.ignore_patterns("*.flac"))
    (tmp_path / "root" / "README.txt").write_text("unpacked")
    (tmp_path / "root" / ".hidden").mkdir()
    corpus = Primus(tmp_path / "root")
    assert corpus.ids == sorted(i.id for i in INCIPITS)
    for one in INCIPITS:
        assert corpus.tokens(one.id) == list(one.tokens)
        assert features.read_image(corpus.image_path(one.id)).shape[0] >= 128
        assert features.read_image(corpus.image_path(one.id, distorted=False)).shape[0] >= 128
    assert corpus.description == {"name": "Camera-PrIMuS", "stand_in": False}
    assert corpus.source("000051652-1_2_1") == "000051652"


def test_audio_beside_the_image_or_rendered(corpus, workspace):
    identity = corpus.ids[0]
    assert corpus.audio_path(identity).name == f"{identity}.flac"
    corpus.audio_path(identity).unlink()
    assert not corpus.audio_path(identity).exists()
    primus.render_audio(corpus, [identity], workers=1)
    assert corpus.audio_path(identity).is_relative_to(paths.cache())
    built_audio = features.read_audio(corpus.audio_path(corpus.ids[1]))
    assert len(features.read_audio(corpus.audio_path(identity))) == len(built_audio)  # all tunes last as long
    soundfile.write(corpus.root / identity / f"{identity}.wav", built_audio, 22050)
    assert corpus.audio_path(identity).suffix == ".wav"


def test_the_fingerprint_of_a_published_tree_follows_its_tokens(corpus):
    (corpus.root / "corpus.json").unlink()
    first = Primus(corpus.root).fingerprint
    assert Primus(corpus.root).fingerprint == first != "f" * 64
    (corpus.root / corpus.ids[3] / f"{corpus.ids[3]}.semantic").write_text("clef-G2\tnote-C4_whole\t")
    assert Primus(corpus.root).fingerprint != first


def refused(what, *arguments, match=None):
    with pytest.raises(DuetError, match=match) as caught:
        what(*arguments)
    assert caught.value.path is not None and caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value


def test_roots_of_another_layout(tmp_path, corpus):
    refused(Primus, tmp_path / "nowhere", match="nowhere.*no such corpus folder")
    (tmp_path / "empty").mkdir()
    refused(Primus, tmp_path / "empty", match="not laid out like PrIMuS")
    (tmp_path / "maps" / "AkPnBcht").mkdir(parents=True)
    (tmp_path / "maps" / "AkPnBcht" / "a.wav").write_bytes(b"x")
    refused(Primus, tmp_path / "maps", match="not laid out like PrIMuS")
    refused(Primus, corpus.root / "corpus.json", match="no such corpus folder")
    refused(Primus, corpus.root / corpus.ids[0], match="not laid out like PrIMuS")


def test_ids_that_are_not_there(corpus):
    refused(corpus.tokens, "999-1_1_1", match="no incipit '999-1_1_1'")
    refused(corpus.image_path, "../../etc", match="no incipit")
    for suffix, read in ((".semantic", corpus.tokens),
                         ("_distorted.jpg", lambda i: features.read_image(corpus.image_path(i))),
                         (".png", lambda i: features.read_image(corpus.image_path(i, False))),
                         (".flac", lambda i: features.read_audio(corpus.audio_path(i)))):  # fmt: skip
        (corpus.root / corpus.ids[0] / f"{corpus.ids[0]}{suffix}").unlink()
        refused(read, corpus.ids[0], match=corpus.ids[0])


@pytest.mark.parametrize("content", [b"", b"\t\n ", b"note-C4_quarter note-X4_quarter", b"\x89PNG\r\n\x1a\n\x00\xff",
                                     b"clef-G2\tnote-C4_qua", b"\x00\x01\x02", "clef-G2 ♪".encode()])  # fmt: skip
def test_damaged_token_files(corpus, content):
    path = corpus.root / corpus.ids[2] / f"{corpus.ids[2]}.semantic"
    path.write_bytes(content)
    assert refused(corpus.tokens, corpus.ids[2]).path == path
    path.unlink()
    path.mkdir()
    assert refused(corpus.tokens, corpus.ids[2]).path == path


@pytest.mark.parametrize("suffix", [".png", "_distorted.jpg"])
@pytest.mark.parametrize("damage", ["empty", "head", "half", "text"])
def test_damaged_images(corpus, suffix, damage):
    path = corpus.root / corpus.ids[1] / f"{corpus.ids[1]}{suffix}"
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "head": whole[:20], "half": whole[: len(whole) // 2], "text": b"note"}[damage])
    read = lambda: features.read_image(corpus.image_path(corpus.ids[1], suffix != ".png"))  # noqa: E731
    assert refused(read).path == path


def test_an_image_without_columns(corpus):
    path = corpus.image_path(corpus.ids[1], distorted=False)
    content = bytearray(path.read_bytes())
    content[16:20] = bytes(4)
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    path.write_bytes(content)
    assert refused(features.read_image, path).path == path


@pytest.mark.parametrize("suffix", [".flac", ".wav"])
@pytest.mark.parametrize("damage", ["empty", "head", "half", "silent", "short", "nan"])
def test_damaged_audio(corpus, suffix, damage):
    identity = corpus.ids[4]
    audio = features.read_audio(corpus.audio_path(identity))
    corpus.audio_path(identity).unlink()
    path = corpus.root / identity / f"{identity}{suffix}"
    if damage == "nan" and suffix == ".flac":
        pytest.skip("FLAC holds integers")
    audio = {"silent": 0 * audio, "short": audio[:1000], "nan": np.append(audio, np.nan)}.get(damage, audio)
    soundfile.write(path, audio, 22050, subtype="FLOAT" if damage == "nan" else "PCM_16")
    whole = path.read_bytes()
    keep = {"empty": 0, "head": 30, "half": len(whole) // 2}.get(damage, len(whole))
    path.write_bytes(whole[:keep])
    assert refused(lambda: features.read_audio(corpus.audio_path(identity))).path == path


def test_a_damaged_description(corpus):
    (corpus.root / "corpus.json").write_text('{"name": ')
    with pytest.raises(DuetError, match="corpus.json"):
        _ = Primus(corpus.root).fingerprint


def test_id_lists(tmp_path):
    path = tmp_path / "train_gt_fold0.dat"
    path.write_text("b-1_1_1\na-1_1_1\n")
    assert primus.read_ids(path) == ["b-1_1_1", "a-1_1_1"]
    path.write_text("\n")
    refused(primus.read_ids, path, match="empty")
    path.write_bytes(b"\xff\xfe\x00")
    refused(primus.read_ids, path, match="not text")
    refused(primus.read_ids, tmp_path / "nothing.dat", match="nothing.dat")
    refused(primus.read_ids, tmp_path, match="no such id list")


def test_published_folds(tmp_path):
    for name, content in (("train", "a\nb"), ("val", "c"), ("test", "d")):
        (tmp_path / f"{name}_gt_fold3.dat").write_text(content)
    assert primus.published_fold(tmp_path, 3) == {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
    refused(primus.published_fold, tmp_path, 0, match="train_gt_fold0.dat")


def test_the_published_folds_are_as_the_paper_says():
    folder = paths.lists() / "primus" / "folds"
    if not folder.is_dir():
        pytest.skip("the published lists are not here")
    parts = primus.published_fold(folder, 0)
    assert {name: len(ids) for name, ids in parts.items()} == {"train": 13371, "validation": 4457, "test": 4457}
    assert len(set().union(*parts.values())) == 22285


# -- splits and duplicates ---------------------------------------------------------------------------------------------


def test_splits_never_divide_a_record(corpus):
    for seed in range(10):
        parts = primus.split_by_source(corpus, corpus.ids, 3, 3, seed)
        assert sorted(i for part in parts.values() for i in part) == corpus.ids
        sources = [{corpus.source(i) for i in part} for part in parts.values()]
        assert not sources[0] & sources[1] and not sources[0] & sources[2] and not sources[1] & sources[2]
        assert len(parts["validation"]) >= 3 and len(parts["test"]) >= 3
        assert parts == primus.split_by_source(corpus, corpus.ids[::-1], 3, 3, seed)
    first, second = (primus.split_by_source(corpus, corpus.ids, 3, 3, seed) for seed in (0, 1))
    assert first != second
    assert first["train"] != sorted(first["train"])  # its first N are a random subset
    refused(primus.split_by_source, corpus, corpus.ids, 6, 6, match="nothing for training")
    refused(primus.split_by_source, corpus, [], 1, 1, match="nothing for training")


def duplicates(*texts):
    return [i.id for i in primus.without_near_duplicates([incipit(f"{k}-1", t) for k, t in enumerate(texts)])]


def test_near_duplicates_are_equal_openings_up_to_transposition():
    tune = "clef-G2 timeSignature-C note-C4_quarter note-E4_eighth note-D4_eighth note-G4_half barline"
    assert duplicates(tune, tune) == ["0-1"]
    higher = "clef-F4 keySignature-DM timeSignature-4/4 note-D3_quarter note-F#3_eighth note-E3_eighth note-A3_half"
    assert duplicates(tune, higher) == ["0-1"]
    graced = tune.replace("note-E4", "gracenote-F4_eighth note-E4")
    assert duplicates(graced, tune.replace("E4", "Eb4"), tune) == ["0-1", "1-1", "2-1"]  # its onset is delayed
    rested = tune.replace("note-E4", "rest-quarter note-E4")
    assert duplicates(rested, rested.replace("rest", "gracenote-F4_eighth rest")) == ["0-1"]  # it delays nothing
    assert duplicates(tune, tune.replace("E4", "Eb4")) == ["0-1", "1-1"]
    assert duplicates(tune, tune.replace("E4_eighth note-D4_eighth", "E4_eighth. note-D4_sixteenth")) == ["0-1", "1-1"]
    assert duplicates(tune, tune + " note-C4_whole") == ["0-1", "1-1"]
    long = tune + " barline ".join([" note-C4_whole"] * 12)
    assert duplicates(long, long + " barline note-D5_whole") == ["0-1"]  # the first twelve notes decide


# -- building ----------------------------------------------------------------------------------------------------------


def test_a_built_corpus_is_what_it_was_built_from(built):
    corpus = Primus(built)
    assert corpus.ids == sorted(i.id for i in INCIPITS)
    assert corpus.description["items"] == 12 and corpus.description["stand_in"]
    assert corpus.fingerprint == "f" * 64
    for one in INCIPITS[:4]:
        assert corpus.tokens(one.id) == list(one.tokens)
        assert (built / one.id / f"{one.id}.mei").read_text() == one.mei
        clean = features.read_image(corpus.image_path(one.id, distorted=False))
        distorted = features.read_image(corpus.image_path(one.id))
        assert clean.shape == distorted.shape and not np.array_equal(clean, distorted)
        audio = features.read_audio(corpus.audio_path(one.id))
        assert len(audio) == 22050 * (6 / 2 + 0.5)  # six quarters at 120 to the minute, and the tail


def test_audio_and_image_show_the_tokens(built):
    """The first note is the strongest row of the picture of the sound, and the font is one of ours."""
    corpus = Primus(built)
    for one in INCIPITS[:6]:
        picture = features.constant_q(features.read_audio(corpus.audio_path(one.id)))
        pitch = semantic.notes_from_tokens(one.tokens)[0].pitch
        rows = {shift: picture[119 - 2 * (pitch + shift - 24), 4:16].mean() for shift in (-2, -1, 0, 1, 2)}
        assert max(rows, key=rows.get) == 0
        clean = features.read_image(corpus.image_path(one.id, distorted=False))
        assert any(np.array_equal(clean, engraving.staff_image(one.mei, font)) for font in engraving.FONTS)


def test_two_builds_are_equal_on_any_number_of_workers(built, tmp_path):
    primus.build(tmp_path / "again", INCIPITS, SETTINGS, {"name": "small", "fingerprint": "f" * 64}, workers=2)
    assert contents(tmp_path / "again") == contents(built)


BUILD = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
import test_primus
from duet.corpora import primus
primus.build(sys.argv[2], test_primus.INCIPITS, test_primus.SETTINGS, {"name": "small", "fingerprint": "f" * 64},
             workers=2)
"""


def test_a_killed_build_goes_on(built, tmp_path):
    root, wanted = tmp_path / "corpus", contents(built)
    for files_there in (3, 25):
        process = subprocess.Popen([sys.executable, "-c", BUILD, __file__, str(root)], start_new_session=True)
        while process.poll() is None and sum(len(f) for *_, f in os.walk(root)) < files_there:
            time.sleep(0.002)
        assert process.poll() is None, "too fast to be killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (root / "corpus.json").exists()
        there = contents(root)
        assert there and [name for name, content in there.items() if wanted[name] != content] == []  # nothing half
    primus.build(root, INCIPITS, SETTINGS, {"name": "small", "fingerprint": "f" * 64}, workers=1)
    assert contents(root) == wanted


def test_workers_end_with_a_killed_build(tmp_path):
    code = """
import os, sys, time
from duet.progress import in_parallel
def work(job):
    open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
    time.sleep(0.05)
for _ in in_parallel(work, range(4000), "sleep", workers=2): pass
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    while len(os.listdir(tmp_path)) < 2:
        time.sleep(0.01)
    process.kill()
    process.wait()
    workers, deadline = [int(name) for name in os.listdir(tmp_path)], time.monotonic() + 10
    while any(_alive(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as handle:
            return handle.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_corpus_that_is_there_is_not_built_again(corpus, monkeypatch):
    monkeypatch.setattr(primus, "_build_one", None)
    assert primus.build(corpus.root, INCIPITS, SETTINGS, {}).ids == corpus.ids


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".flac", ".mei", ".semantic", ".json"])
def test_a_full_disk_loses_nothing(built, tmp_path, monkeypatch, suffix):
    """Whatever is being written when the disk is full: what was there stays, and the build goes on later."""
    root, replace = tmp_path / "corpus", os.replace
    primus.build(root, INCIPITS[:3], SETTINGS, {}, workers=1)
    (root / "corpus.json").unlink()
    before = contents(root)

    def full(source, target):
        if str(target).endswith(suffix):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    error = refused(lambda: primus.build(root, INCIPITS, SETTINGS, {}, workers=1), match="No space left")
    assert error.path.suffix == suffix
    assert contents(root).items() >= before.items()
    assert not (root / "corpus.json").exists()
    monkeypatch.setattr(os, "replace", replace)
    primus.build(root, INCIPITS, SETTINGS, {"name": "small", "fingerprint": "f" * 64}, workers=1)
    assert contents(root) == contents(built)


def test_nothing_to_build_from(tmp_path):
    refused(lambda: primus.build(tmp_path / "corpus", [], SETTINGS, {}), match="no incipits")


def test_the_fingerprint_depends_on_sources_and_settings():
    base = primus.fingerprint("a", "b", SETTINGS)
    assert base == primus.fingerprint("a", "b", SETTINGS)
    others = [primus.fingerprint("x", "b", SETTINGS), primus.fingerprint("a", "x", SETTINGS),
              *(primus.fingerprint("a", "b", BuildSettings(**change)) for change in
                ({"tempo": 100}, {"velocity": 80}, {"program": 1}, {"reverb": True}, {"soundfont": "timgm6mb",
                 "engine": "x"}))]  # fmt: skip
    assert len({base, *others}) == 8


def test_tunes_of_music21():
    incipits = primus.music21_tunes("ryansMammoth", tunes=6)
    assert len(incipits) > 10
    for one in incipits[:8]:
        assert one.id.endswith("_1_1") and one.tokens[-1] == "barline"
        assert one.tokens[0].startswith("clef-") and one.tokens.count("barline") == 2
        assert semantic.tokens_from_mei(one.mei) == [t for t in one.tokens]
    assert len({i.id for i in incipits}) == len(incipits)
    assert primus.music21_tunes("ryansMammoth", tunes=6) == incipits


# -- RISM --------------------------------------------------------------------------------------------------------------


RECORD = """<collection><record><controlfield tag="001">{id}</controlfield>
<datafield tag="031"><subfield code="a">1</subfield><subfield code="b">2</subfield><subfield code="c">1</subfield>
<subfield code="g">G-2</subfield><subfield code="n">xF</subfield><subfield code="o">3/4</subfield>
<subfield code="p">{data}</subfield></datafield>
<datafield tag="031"><subfield code="g">G-2</subfield></datafield></record></collection>"""


def test_marcxml_records(tmp_path):
    (tmp_path / "a.xml").write_text(RECORD.format(id="77", data="'4GAB/''C"))
    code = {"clef": "G-2", "keysig": "xF", "timesig": "3/4", "data": "'4GAB/''C"}
    assert list(primus.rism_records(tmp_path)) == [("77-1_2_1", code)]
    (one,) = primus.rism_incipits(tmp_path)
    assert one.id == "77-1_2_1"
    assert " ".join(one.tokens) == ("clef-G2 keySignature-GM timeSignature-3/4 note-G4_quarter note-A4_quarter"
                                    " note-B4_quarter barline note-C5_quarter")  # fmt: skip
    (tmp_path / "b.xml").write_text(RECORD.format(id="78", data="'4G^B"))  # a chord
    (tmp_path / "c.xml").write_text(RECORD.format(id="79", data="'4AB''C/D"))  # the first, transposed and no equal
    (tmp_path / "d.xml").write_text(RECORD.format(id="80", data="'4DEF/G"))  # D, E, F sharp, G: the first again
    assert [i.id for i in primus.rism_incipits(tmp_path)] == ["77-1_2_1", "79-1_2_1"]
    (tmp_path / "a.xml").write_text(RECORD.format(id="77", data="'4GAB")[:300])
    refused(lambda: list(primus.rism_records(tmp_path)), match="a.xml.*not well-formed")
    (tmp_path / "none").mkdir()
    refused(lambda: list(primus.rism_records(tmp_path / "none")), match="no MARCXML")


@pytest.fixture(scope="module")
def rism():
    """(records by code, rows of the extraction that came with the scores)"""
    rows = paths.scores() / "rism_incipits" / "incipits.jsonl"
    if not rows.exists() or not openscores.SOURCES["rism"] or not (paths.scores() / "rism_marcxml").is_dir():
        pytest.skip("the RISM records and their extraction are not here (DUET_SCORES)")
    records = {}
    for identity, code in primus.rism_records(paths.scores() / "rism_marcxml"):
        records.setdefault(tuple(code[k] for k in ("clef", "keysig", "timesig", "data")), []).append(identity)
    return records, [json.loads(line) for line in rows.read_text().splitlines()]


def test_rism_records_are_those_of_another_extraction(rism):
    records, rows = rism
    assert len(rows) == 11104
    theirs = {tuple(row[k].strip() for k in ("clef", "keysig", "timesig", "data")): row for row in rows if row["clef"]}
    assert set(theirs) == set(records)  # we take no incipit without a clef, and no blanks around a code
    # where a code stands in several records, the extraction names the first of them
    assert all(f"{row['id']}-" in " ".join(records[code]) for code, row in theirs.items())


def test_rism_codes_are_valid_where_the_other_extraction_says_so(rism):
    for row in rism[1][::23]:
        try:
            engraving.mei_from_pae(*(row[k] for k in ("clef", "keysig", "timesig", "data")))
            valid = True
        except DuetError:
            valid = False
        assert valid == row["clean"], row


def test_rism_incipits_keep_pitch_and_onset(rism):
    """A sample's tokens, engraved anew, give the tokens again."""
    taken = 0
    for row in rism[1][::41]:
        if not row["usable"]:
            continue
        try:
            tokens = semantic.tokens_from_mei(
                engraving.mei_from_pae(*(row[k] for k in ("clef", "keysig", "timesig", "data")))
            )
        except DuetError:
            continue  # chords and tuplets
        taken += 1
        again = semantic.tokens_from_mei(semantic.mei_from_tokens(tokens))
        assert semantic.notes_from_tokens(again) == semantic.notes_from_tokens(tokens)
    assert taken > 150


def test_open_corpora_say_what_they_are(workspace, monkeypatch):
    monkeypatch.setattr(primus, "music21_tunes", lambda *_: INCIPITS[:2])
    corpus = primus.OpenCorpus("ryansMammoth", tunes=1).build(workers=1)
    assert corpus.description["name"] == "music21 ryansMammoth (open)"
    assert corpus.description["fingerprint"] == corpus.fingerprint
    assert files.read_json(corpus.root / "corpus.json")["settings"]["engine"] == synthesis.engine()
    monkeypatch.setattr(primus, "music21_tunes", None)
    assert primus.OpenCorpus("ryansMammoth", tunes=1).build().root == corpus.root
