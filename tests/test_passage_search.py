"""Recordings found in folders of scores, and scores in folders of recordings: real engravings, real files.

In place of a trained network stands what it should learn: chroma of the noteheads in a system's picture and chroma of
the sound.  What the index keeps, what it reads again, and what is told of damaged files is counted and compared.
"""

import json
import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from bs4 import BeautifulSoup
from PIL import Image

from duet import DuetError, cli, lilypond, own_files
from duet.corpora import msmd
from duet.corpora.msmd import unroll
from duet.filterbank import log_filterbank
from duet.index import Index
from duet.models.passage import HALF, PassageModel
from duet.own_files import Music
from duet.runs import Run
from duet.studies.passage_retrieval import passages, search
from duet.studies.passage_retrieval.search import RECORDINGS, SCORES
from duet.training import load_weights, read_about, save_weights

torch.set_num_threads(1)
RATE = 22_050
NAMES = "c c# d d# e f f# g g# a a# b".split()
QUARTER = 0.4  # seconds
SYSTEM = 24 * QUARTER  # of six bars, which is what a line of these tunes holds


def pitches(seed):
    """96 quarters of four lines, each with three pitch classes of its own."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.choice(rng.choice(12, 3, replace=False), 24) for _ in range(4)])


def kern(seed):
    bars = [f"={n}\n" + "\n".join(f"4{NAMES[p]}" for p in bar) for n, bar in enumerate(pitches(seed).reshape(-1, 4), 1)]
    return "\n".join(["**kern", "*clefG2", "*M4/4", *bars, "==", "*-", ""])


def sound(seed, rate=RATE):
    time = np.arange(round(rate * QUARTER)) / rate
    notes = [0.3 * np.sin(2 * np.pi * 440 * 2 ** ((p - 9) / 12) * time) * (1 - time) for p in pitches(seed)]
    return np.concatenate(notes).astype(np.float32)


TONES = np.stack([
    log_filterbank(0.3 * np.sin(2 * np.pi * 440 * 2 ** ((p - 9) / 12) * np.arange(RATE // 2) / RATE)).mean(1)
    for p in range(12)
])  # fmt: skip


class ByHand:
    """What a network sees and hears: ``known`` has the chroma of each system by its picture."""

    dimensions = 12

    def __init__(self, known, name="by hand"):
        self.known, self.name = known, name

    def sheets(self, pictures):
        return np.stack([self.known[picture.tobytes()] for picture in pictures])

    def sounds(self, snippets):
        energy = np.stack([np.maximum(0, own.mean((0, 2)) @ np.linalg.pinv(TONES)) for own in snippets])
        return (energy / np.linalg.norm(energy, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """(pictures' chroma, engraved scores by content) of four tunes."""
    chroma, engraved = {}, {}
    for seed in range(4):
        path = tmp_path_factory.mktemp("known") / "a.krn"
        path.write_text(kern(seed))
        score = engraved[path.read_bytes()] = own_files.read_score(path)
        assert len(score.sheet.systems) == 4
        for number, s in enumerate(score.sheet.systems):
            counts = np.bincount(pitches(seed)[24 * number :][:24], minlength=12).astype(np.float32)
            picture = unroll(score.sheet.images, [(s.page, s.top, s.left, s.bottom, s.right)])[0]
            chroma[picture.tobytes()] = counts / np.linalg.norm(counts)
    return chroma, engraved


@pytest.fixture
def model(known):
    return ByHand(known[0])


@pytest.fixture
def reads(known, workspace, monkeypatch):
    """Names of the files that are read; what has been engraved once is not engraved again."""
    names, read, read_score = [], search.read, own_files.read_score

    def counted(path, model):
        names.append(path.name)
        return read(path, model)

    monkeypatch.setattr(search, "read", counted)
    monkeypatch.setattr(own_files, "read_score", lambda p: (known[1].get(p.read_bytes()) if p.is_file() else None)
                        or read_score(p))  # fmt: skip
    return names


@pytest.fixture
def scores(reads, workspace):
    """Two of the same name, one in a folder of its own."""
    folder = workspace / "scores"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("a.krn", "b.krn", "sub/a.krn")):
        (folder / name).write_text(kern(seed))
    return folder


def write(path, seed, silence=0.0, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.pad(sound(seed, rate), (round(silence * rate), rate)), rate)
    return path


def sources(collection):
    return list(dict.fromkeys(label["source"] for label in collection.index.labels))


def same(one, other):
    return one.index.labels == other.index.labels and np.array_equal(one.index.vectors, other.index.vectors)


# -- both directions ---------------------------------------------------------------------------------------------------


def test_a_recording_is_found_in_a_folder_of_scores(scores, model, workspace):
    write(scores / "sub" / "take.wav", 2, silence=3.0, rate=2 * RATE)  # inside the folder: it is no score
    query = search.read(scores / "sub" / "take.wav", model)
    collection = search.index_folder(scores, SCORES, model)
    found = search.find(query, collection, top=2)
    assert query.kind == RECORDINGS and [len(own) for own in found.hits] == [2] * len(query.labels)
    assert query.labels[0]["start"] == 3.0 and query.labels[-1]["end"] == pytest.approx(3 + 4 * SYSTEM, abs=0.1)
    sure = 0
    for label, (best, second) in zip(query.labels, found.hits, strict=True):
        middle = ((label["start"] + label["end"]) / 2 - 3) / SYSTEM
        assert best.similarity >= second.similarity
        if 0.3 < middle % 1 < 0.7:  # most of it is in one line
            sure += 1
            assert (best.label["source"], best.label["page"], best.label["system"]) == ("sub/a.krn", 1, int(middle) + 1)
            assert best.similarity > 0.9
    assert sure >= 3
    assert found.ranking[0].source == "sub/a.krn" and sum(r.nearest for r in found.ranking) == len(query.labels)
    text = search.table(found)
    assert "0:03 to 0:13" in text and "sub/a.krn, page 1, system 1" in text
    votes = found.ranking[0].nearest
    assert text.splitlines()[-len(found.ranking)].split()[:2] == ["sub/a.krn", str(votes)]

    search.write_page(found, workspace / "page.html")
    rows = BeautifulSoup((workspace / "page.html").read_text(), "html.parser").select("tbody tr")
    assert len(rows) == 2 * len(query.labels)
    assert rows[0].strong.text == "sub/a.krn" and "take.wav 0:" in rows[0].select("td span")[1].text
    similarities = [float(row.select("td")[1].text) for row in rows]
    assert similarities == sorted(similarities, reverse=True)


def test_a_score_is_found_in_a_folder_of_recordings(scores, reads, model, workspace):
    takes = workspace / "takes"
    write(takes / "one.wav", 0, silence=2.0), write(takes / "two.flac", 1), write(takes / "sub" / "one.wav", 3)
    collection = search.index_folder(takes, RECORDINGS, model)
    assert sources(collection) == ["one.wav", "sub/one.wav", "two.flac"]
    query = search.read(scores / "a.krn", model)
    found = search.find(query, collection, top=1)
    assert query.kind == SCORES and len(found.hits) == 4
    for number, (best,) in enumerate(found.hits):
        start = 2 + number * SYSTEM
        shared = min(best.label["end"], start + SYSTEM) - max(best.label["start"], start)
        assert best.label["source"] == "one.wav" and shared > SYSTEM / 2
    assert found.ranking == [search.Ranked("one.wav", 4, max(own[0].similarity for own in found.hits))]
    search.write_page(found, workspace / "page.html")
    soup = BeautifulSoup((workspace / "page.html").read_text(), "html.parser")
    assert "one.wav: nearest to 4 of 4 systems." in soup.select_one(".remark").text
    first = soup.select_one("tbody tr")
    assert "page 1, system" in first.select_one("td span").text and "one.wav 0:" in first.select("td span")[1].text
    reads.clear()
    assert same(search.index_folder(takes, RECORDINGS, model), collection) and not reads
    assert search.index_folder(workspace, SCORES, model).kind == SCORES  # an index of its own


def test_a_page_shows_the_most_similar_hits_and_says_so(scores, model, workspace, monkeypatch):
    monkeypatch.setattr(search, "SHOWN", 2)
    found = search.find(search.read(write(workspace / "a.wav", 0), model), search.index_folder(scores, SCORES, model))
    search.write_page(found, workspace / "page.html")
    soup = BeautifulSoup((workspace / "page.html").read_text(), "html.parser")
    assert len(soup.select("tbody tr")) == 2
    assert soup.select(".remark")[-1].text == f"The 2 most similar of {3 * len(found.hits)} hits."


def test_votes_then_similarity_rank_the_files():
    labels = [{"source": s, "start": 0.0, "end": 1.0} for s in "aabc"]
    index = Index("m", 2)
    index.add(np.array([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8]], np.float32), labels)
    collection = search.Collection("x", RECORDINGS, "x", index, ())
    query = search.Passages("q", SCORES, "q", [], np.array([[1, 0], [0.96, 0.28], [0, 1]], np.float32), [])
    found = search.find(query, collection, top=2)
    assert [(r.source, r.nearest) for r in found.ranking] == [("a", 2), ("b", 1), ("c", 0)]
    assert [r.similarity for r in found.ranking] == pytest.approx([1, 1, 0.8])


@pytest.mark.parametrize(("title", "source", "shown"), [
    ("Bach: Aria", "sub/a.krn", "Bach: Aria (sub/a.krn)"), ("a", "sub/a.krn", "sub/a.krn"),
    ("J.S. Bach: bwv1.mxl", "bwv1.mxl", "bwv1.mxl"), ("Own__w__1", "corpus/Own__w__1", "corpus/Own__w__1"),
])  # fmt: skip
def test_a_score_is_called_by_its_title_and_its_file(title, source, shown):
    assert search._titled({"title": title, "source": source}) == shown


# -- passages ----------------------------------------------------------------------------------------------------------


def music(start, end, silent=()):
    sounding = np.zeros(round(50 * (end + 2)), bool)
    sounding[round(50 * start) : round(50 * end)] = True
    for a, b in silent:
        sounding[round(50 * a) : round(50 * b)] = False
    return Music(end + 2, start, end, sounding)


def test_windows_by_hand():
    assert search._windows(music(0, 30)) == [(0, 200), (100, 300), (200, 400), (300, 500), (400, 600)]
    assert search._windows(music(0.32, 12)) == [(7, 207), (40, 240)]  # the last one ends with the music
    assert search._windows(music(1, 8)) == [(20, 160)] and search._windows(music(1, 11)) == [(20, 220)]
    assert search._windows(music(0, 40, [(10, 22)])) == [(0, 200), (100, 300), (300, 500), (400, 600), (500, 700),
                                                         (600, 800)]  # fmt: skip


def test_snippets_of_a_stream_are_those_of_the_whole(tmp_path, monkeypatch):
    """As in training a window's last snippet reads on into the next one, and into silence at the end."""
    monkeypatch.setattr(own_files, "_FRAMES", 40)
    monkeypatch.setattr(own_files, "_BLOCK", 2 * RATE)
    monkeypatch.setattr(own_files, "_READ", 7000)
    audio = np.random.default_rng(0).standard_normal(round(9.03 * RATE)).astype(np.float32) / 10
    soundfile.write(tmp_path / "a.wav", audio, RATE, subtype="FLOAT")
    whole = log_filterbank(audio)
    assert np.array_equal(np.concatenate(list(own_files.spectrograms(tmp_path / "a.wav")), 1), whole)
    windows = [(0, 30), (15, 45), (110, 140), (151, 181)]
    for window, found in zip(windows, search._snippets(tmp_path / "a.wav", windows), strict=True):
        assert np.array_equal(found, passages.audio_snippets(whole, window))
    cuts = [(0.0, 3.5), (1.9, 2.1), (8.5, 9.0)]
    for (start, end), cut in zip(cuts, own_files.stretches(tmp_path / "a.wav", cuts), strict=True):
        assert np.array_equal(cut, audio[round(start * RATE) : round(end * RATE)])


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_only_new_and_changed_files_are_read_again(scores, reads, model, workspace, monkeypatch):
    first = search.index_folder(scores, SCORES, model)
    assert reads == ["a.krn", "b.krn", "a.krn"] and sources(first) == ["a.krn", "b.krn", "sub/a.krn"]
    assert first.remarks == (f"{scores}: 3 scores, 12 systems; 3 encoded now, 0 dropped, 0 skipped",)
    reads.clear()
    assert same(search.index_folder(scores, SCORES, model), first) and not reads
    (scores / "b.krn").write_text(kern(3))
    shutil.copy(scores / "a.krn", scores / "new.krn")
    (scores / "sub" / "a.krn").unlink()
    second = search.index_folder(scores, SCORES, model)
    assert reads == ["b.krn", "new.krn"] and sources(second) == ["a.krn", "b.krn", "new.krn"]
    assert second.remarks[-1].endswith("3 scores, 12 systems; 2 encoded now, 1 dropped, 0 skipped")
    assert len(list(second.place.iterdir())) == 6  # vectors and pictures of three
    monkeypatch.setenv("DUET_CACHE", str(workspace / "fresh"))
    assert same(search.index_folder(scores, SCORES, model), second)
    label = second.index.labels[-1]
    assert label["source"] == "new.krn" and second.picture(label).tobytes() in model.known


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", ["read", "write", "rename"])
@pytest.mark.parametrize("survived", range(5))
def test_a_kill_loses_the_file_in_work_alone(step, survived, scores, reads, model, workspace, monkeypatch):
    calls = []

    def until(function):
        def limited(*arguments, **named):
            if len(calls) == survived:
                raise Killed
            calls.append(1)
            return function(*arguments, **named)

        return limited

    where, name = {"read": (search, "read"), "write": (os, "fsync"), "rename": (os, "replace")}[step]
    with monkeypatch.context() as patch:
        patch.setattr(where, name, until(getattr(where, name)))
        try:
            search.index_folder(scores, SCORES, model)
            assert step == "read" and survived >= 3
        except Killed:
            pass
    done = min(3, survived if step == "read" else survived // 2)  # pictures and vectors of each
    reads.clear()
    whole = search.index_folder(scores, SCORES, model)
    assert len(reads) == 3 - done and sources(whole) == ["a.krn", "b.krn", "sub/a.krn"] and len(whole.index) == 12
    assert all(whole.picture(label).tobytes() in model.known for label in whole.index.labels)


def test_a_kill_while_a_changed_file_is_written_leaves_nothing_of_the_old_one(scores, reads, model, monkeypatch):
    search.index_folder(scores, SCORES, model)
    before = (scores / "b.krn").stat()
    (scores / "b.krn").write_text(kern(3))
    with monkeypatch.context() as patch:
        patch.setattr(Index, "save", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            search.index_folder(scores, SCORES, model)
    (scores / "b.krn").write_text(kern(1))  # as it was, to the nanosecond: its vectors, but with the new pictures?
    os.utime(scores / "b.krn", ns=(before.st_atime_ns, before.st_mtime_ns))
    collection = search.index_folder(scores, SCORES, model)
    own = [label for label in collection.index.labels if label["source"] == "b.krn"]
    vectors = collection.index.vectors[[collection.index.labels.index(label) for label in own]]
    assert np.array_equal(model.sheets([collection.picture(label) for label in own]), vectors)


def test_damage_is_told_and_made_good(scores, reads, model):
    first = search.index_folder(scores, SCORES, model)
    kept = {label["source"]: search._kept_index(first.place, label["source"]) for label in first.index.labels}
    kept["a.krn"].write_bytes(kept["a.krn"].read_bytes()[:-1])
    kept["b.krn"].write_bytes(b"")
    search._kept_pictures(first.place, "sub/a.krn").unlink()
    reads.clear()
    second = search.index_folder(scores, SCORES, model)
    assert len(reads) == 3 and same(first, second)
    assert [r for r in second.remarks if "damaged" in r] == [
        f"{name}: what was kept of it is damaged, it is encoded again" for name in ("a.krn", "b.krn")
    ]
    pictures = search._kept_pictures(first.place, "b.krn")
    pictures.write_bytes(pictures.read_bytes()[:500])
    with pytest.raises(DuetError, match=r"\.pictures: is damaged.*delete it and search again"):
        second.picture(second.index.labels[5])
    pictures.unlink()
    assert search.index_folder(scores, SCORES, model).picture(second.index.labels[5]).tobytes() in model.known


def test_the_index_of_other_weights_is_made_again(scores, reads, model):
    search.index_folder(scores, SCORES, model)
    reads.clear()
    other = ByHand(model.known, "by another hand")
    collection = search.index_folder(scores, SCORES, other)
    assert len(reads) == 3 and collection.index.model == "by another hand"
    assert collection.remarks[0] == "3 of 3 scores were indexed with other weights: encoded again"
    assert len(search.index_folder(scores, SCORES, other).remarks) == 1 and len(reads) == 3


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_scores_that_cannot_be_read_are_skipped_one_line_each(scores, reads, model):
    (scores / "cut.krn").write_text("**kern\n4c\n")
    (scores / "empty.mxl").write_bytes(b"")
    (scores / "sub" / "a.mei").write_text("<mei/>")
    (scores / ".hidden.krn").write_text("")
    (scores / "folder.krn").mkdir()
    (scores / "gone.krn").symlink_to("nowhere")
    os.mkfifo(scores / "pipe.krn")  # to open it would be to wait for ever
    collection = search.index_folder(scores, SCORES, model)
    skipped = [remark for remark in collection.remarks if remark.startswith("skipped: ")]
    assert [r.split(":")[1].strip() for r in skipped] == [
        str(scores / n) for n in ("cut.krn", "empty.mxl", "sub/a.mei")
    ]
    assert "breaks off" in skipped[0] and not any("\n" in remark for remark in collection.remarks)
    assert len(collection.index) == 12 and "3 encoded now, 0 dropped, 3 skipped" in collection.remarks[0]
    (scores / "cut.krn").write_text(kern(3))
    (scores / "a.krn").write_text("**kern\n4c\n")  # it was whole: what was kept of it is of another file
    reads.clear()
    collection = search.index_folder(scores, SCORES, model)
    assert sources(collection) == ["b.krn", "cut.krn", "sub/a.krn"] and "b.krn" not in reads


@pytest.mark.parametrize(("samples", "told"), [
    (np.zeros(0), "too short"), (sound(0)[: RATE // 2], "0.50 s of music, too short"), (np.zeros(RATE), "is silent"),
    (np.r_[sound(0)[:RATE], np.nan, sound(0)[:RATE]], "no numbers"), (None, "not readable audio"),
])  # fmt: skip
def test_recordings_that_cannot_be_read_are_skipped(samples, told, model, reads, workspace):
    takes = workspace / "takes"
    write(takes / "b.wav", 0)
    if samples is None:
        (takes / "a.wav").write_text("text")
    else:
        soundfile.write(takes / "a.wav", samples, RATE, subtype="FLOAT")
    collection = search.index_folder(takes, RECORDINGS, model)
    assert sources(collection) == ["b.wav"]
    assert collection.remarks[-1].startswith(f"skipped: {takes / 'a.wav'}: ") and told in collection.remarks[-1]
    with pytest.raises(DuetError, match=told):
        search.read(takes / "a.wav", model)


def test_a_recording_that_is_cut_short_is_refused(model, workspace):
    path = write(workspace / "a.wav", 0)
    path.write_bytes(path.read_bytes()[:-50_000])
    with pytest.raises(DuetError, match=r"a\.wav: is cut short"):
        search.read(path, model)


def test_folders_without_anything_of_use(scores, reads, model, workspace):
    with pytest.raises(DuetError, match="no such folder"):
        search.index_folder(workspace / "none", SCORES, model)
    with pytest.raises(DuetError, match=r"scores: holds no recordings \(give a folder with files of .wav"):
        search.index_folder(scores, RECORDINGS, model)
    search.index_folder(scores, SCORES, model)
    away = scores.rename(workspace / "away")
    scores.mkdir()
    with pytest.raises(DuetError, match="holds no scores"):  # a disk that is not mounted: what is kept stays
        search.index_folder(scores, SCORES, model)
    scores.rmdir()
    away.rename(scores)
    reads.clear()
    search.index_folder(scores, SCORES, model)
    assert not reads
    (workspace / "bad").mkdir()
    (workspace / "bad" / "a.krn").write_text("")
    collection = search.index_folder(workspace / "bad", SCORES, model)
    assert len(collection.remarks) == 2 and collection.remarks[1].startswith("skipped: ")
    with pytest.raises(DuetError, match="bad: none of its scores can be read"):
        search.find(search.read(write(workspace / "a.wav", 0), model), collection)


def test_names_that_are_no_text(scores, model, workspace):
    os.rename(scores / "a.krn", os.path.join(os.fsencode(scores), b"caf\xe9.krn"))
    (scores / os.fsdecode(b"bad\xe9.krn")).write_text("")
    collection = search.index_folder(scores, SCORES, model)
    found = search.find(search.read(write(workspace / "a.wav", 0), model), collection, top=1)
    assert found.ranking[0].source == os.fsdecode(b"caf\xe9.krn")
    "\n".join([search.table(found), *collection.remarks]).encode()
    search.write_page(found, workspace / "page.html")
    assert "caf?.krn" in (workspace / "page.html").read_text()


# -- corpora in MSMD layout, LilyPond ----------------------------------------------------------------------------------


@pytest.fixture
def corpus(known, workspace):
    root = workspace / "corpus"
    for seed, score in enumerate(known[1].values()):
        msmd.write_sheet(root, f"Own__w__{seed}", score.sheet, {})
    return root


def images(root, seed):
    return root / f"Own__w__{seed}" / "scores" / f"Own__w__{seed}_ly" / "img" / "01.png"


def test_pieces_in_msmd_layout_are_scores(corpus, known, reads, workspace):
    seen = []
    model = SimpleNamespace(
        name="m", dimensions=2, sheets=lambda own: seen.append(own) or np.eye(len(own), 2)[[0] * len(own)]
    )
    collection = search.index_folder(workspace, SCORES, model)  # the corpus lies in a folder of it
    assert sources(collection) == [f"corpus/Own__w__{seed}" for seed in range(4)]
    assert [(x["page"], x["system"]) for x in collection.index.labels[:4]] == [(1, n) for n in (1, 2, 3, 4)]
    assert all(p.shape[0] == 200 and 780 < p.shape[1] < 835 for own in seen for p in own) and len(seen[0]) == 4
    reads.clear()
    assert same(search.index_folder(workspace, SCORES, model), collection) and not reads
    assert sources(search.index_folder(corpus, SCORES, model)) == [f"Own__w__{seed}" for seed in range(4)]
    reads.clear()
    os.utime(images(corpus, 2), (1, 1))
    search.index_folder(corpus, SCORES, model)
    assert reads == ["Own__w__2"]


def test_pages_that_are_of_no_use(corpus, reads, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600_000)  # of a page there are 986,135, of two too many
    for seed, shape in ((0, (1181, 400)), (1, (2400, 835)), (2, (1, 1))):
        Image.fromarray(np.full(shape, 255, np.uint8)).save(images(corpus, seed))
    graph = images(corpus, 3).parents[1] / "mung" / "01.xml"
    text = graph.read_text()
    graph.write_text(text.replace("<ClassName>staff<", "<ClassName>title<"))
    (corpus / "Own__w__4").symlink_to("nowhere")
    model = SimpleNamespace(name="m", dimensions=2, sheets=lambda own: np.eye(2, dtype=np.float32)[[0] * len(own)])
    remarks = search.index_folder(corpus, SCORES, model).remarks
    told = ["400 pixels wide, not 835", "exceeds limit", "1 by 1 pixels", "has no system on its pages"]
    assert len(remarks) == 5 and all(part in remark for part, remark in zip(told, remarks[1:], strict=True))
    assert all(remark.startswith(f"skipped: {corpus}/Own__w__{k}") for k, remark in enumerate(remarks[1:]))
    # one system beside its page, and one below it: the others are there
    lefts, tops = text.split("<ClassName>staff<"), "<Left>5000<"
    changed = lefts[1].replace(lefts[1].split("<Left>")[1].split("<")[0].join(["<Left>", "<"]), tops)
    graph.write_text("<ClassName>staff<".join([lefts[0], changed, *lefts[2:]]))
    collection = search.index_folder(corpus, SCORES, model)
    assert [x["system"] for x in collection.index.labels] == [2, 3, 4]


def test_what_a_lilypond_file_includes_is_part_of_it(known, reads, workspace, monkeypatch):
    (score, *_) = known[1].values()
    monkeypatch.setattr(lilypond, "engrave", lambda path: score.sheet)
    folder = workspace / "ly"
    folder.mkdir()
    (folder / "a.ly").write_text('\\include "notes.ly"\n{ \\notes }')
    (folder / "notes.ly").write_text("notes = { c'1 }")
    model = ByHand(known[0])
    assert sources(search.index_folder(folder, SCORES, model)) == ["a.ly"]
    (folder / "notes.ly").write_text("notes = { c'1 d'1 }")
    reads.clear()
    search.index_folder(folder, SCORES, model)
    assert reads == ["a.ly"]


# -- the model ---------------------------------------------------------------------------------------------------------

ABOUT = {"study": "passage_retrieval", "run": "rnn-ft-cca-s4", "widths": "half"}


def saved(path, summariser="gru", dimensions=64, seed=0, about=ABOUT):
    torch.manual_seed(seed)
    network = PassageModel(summariser, dimensions, HALF).eval()
    save_weights(network, path, about)
    return network


@pytest.mark.parametrize(
    ("summariser", "dimensions"), [("gru", 64), ("fixed gru", 16), ("mean", 8), ("transformer", 24)]
)
def test_a_model_is_what_was_saved(summariser, dimensions, tmp_path):
    network = saved(tmp_path / "w.safetensors", summariser, dimensions)
    model = search.Model.load(tmp_path / "w.safetensors")
    assert model.dimensions == dimensions and not model.network.training
    rng = np.random.default_rng(0)
    pictures = [
        rng.integers(0, 256, (200, width), np.uint8) for width in [10, 400, *rng.integers(10, 140, 16)]
    ]  # two batches
    cut = [passages.sheet_snippets(p, (0, p.shape[1])) for p in pictures]
    with torch.no_grad():
        together = torch.from_numpy(np.concatenate(cut)).float()[:, None] / 255
        expected = network.embed_sheet(together, [len(c) for c in cut]).numpy()
    assert np.allclose(model.sheets(pictures), expected, atol=1e-5)
    heard = [rng.random((n, 92, 20), np.float32) for n in (1, 7)]
    with torch.no_grad():
        expected = network.embed_audio(torch.from_numpy(np.concatenate(heard))[:, None], [1, 7]).numpy()
    assert np.allclose(model.sounds(iter(heard)), expected, atol=1e-5)


def test_a_models_name_is_its_weights(tmp_path):
    names = set()
    for seed, name in ((0, "a"), (1, "b"), (0, "c")):
        saved(tmp_path / name, seed=seed, summariser="mean")
        names.add(search.Model.load(tmp_path / name).name)
    assert len(names) == 2


@pytest.mark.parametrize("changed", [{"study": "alignment"}, {"widths": ""}, {"widths": "vast"}])
def test_weights_of_something_else_are_refused(changed, tmp_path):
    saved(tmp_path / "w.safetensors", "mean", about=ABOUT | changed)
    with pytest.raises(DuetError, match="holds no weights of a passage model"):
        search.Model.load(tmp_path / "w.safetensors")


def test_weights_that_do_not_fit_or_are_damaged_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    saved(path, "mean", about=ABOUT | {"widths": "paper"})
    with pytest.raises(DuetError, match="does not fit"):
        search.Model.load(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DuetError, match="not a readable"):
        search.Model.load(path)


def test_the_first_seeds_model_is_shipped(tmp_path):
    made = []
    grid = SimpleNamespace(
        study=SimpleNamespace(PRESETS={"toy": SimpleNamespace(seeds=(4, 5))}), preset="toy", folder=tmp_path / "out",
        runs={"rnn-ft-cca-s4": Run("rnn-ft-cca-s4", None)}, find=lambda name: name in made or None,
        id=lambda name: f"id of {name}", weights=lambda name: tmp_path / f"{name}.safetensors",
    )  # fmt: skip
    assert search.ship(grid) is None
    made.append("rnn-ft-cca-s4")
    assert search.ship(grid) is None and not grid.folder.exists()
    network = saved(grid.weights("rnn-ft-cca-s4"))
    target = search.ship(grid)
    assert target == grid.folder / "weights" / "passages.safetensors"
    assert read_about(target) == ABOUT | {"id": "id of rnn-ft-cca-s4"}
    shipped = load_weights(target)
    assert all(torch.equal(shipped[name], value) for name, value in network.state_dict().items())
    before = target.stat().st_mtime_ns
    assert search.ship(grid) == target and target.stat().st_mtime_ns == before
    assert search.published_weights().parts[-5:] == (
        "results", "overnight", "passage_retrieval", "weights", "passages.safetensors"
    )  # fmt: skip


# -- the command -------------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def test_the_command(scores, workspace, capsys):
    saved(workspace / "w.safetensors")
    recording = write(workspace / "take.wav", 1)
    (scores / "cut.krn").write_text("**kern\n")
    command = ["find", str(recording), "--in", str(scores), "--weights", str(workspace / "w.safetensors"), "--quiet"]
    assert cli.main([*command, "--top", "2"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"{scores}: 3 scores, 12 systems; 3 encoded now, 0 dropped, 1 skipped"
    assert told[1].startswith(f"skipped: {scores / 'cut.krn'}: ") and told[2].startswith("passage ")
    assert told[3].startswith("0:00 to 0:10  ") and told[-1] == str(workspace / "take.html")
    assert "nearest to, of 7 passages" in "\n".join(told)
    assert cli.main(command) == 2 and "is there already" in capsys.readouterr().err
    assert cli.main([*command, "-o", str(workspace / "b.html")]) == 0
    assert "0 encoded now" in capsys.readouterr().out and (workspace / "b.html").exists()
    page = workspace / "score.html"
    command = ["find", str(scores / "a.krn"), "--in", str(workspace), "-o", str(page), *command[4:]]
    assert cli.main(command) == 0
    told = capsys.readouterr().out
    assert f"{workspace}: 1 recording, 7 passages; 1 encoded now" in told
    assert re.search(r"^system +most similar passages +similarity\npage 1, system 1  take.wav, 0:", told, re.M)
    if not CHROMIUM:
        return
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio", "--virtual-time-budget=10000"]
    script = """<script>addEventListener("load", async () => {
      const sounds = [...document.querySelectorAll("audio")];
      const heard = a => a.readyState || new Promise(done => a.addEventListener("loadedmetadata", done));
      await Promise.all(sounds.map(heard));
      const drawn = [...document.images].map(i => i.complete && i.naturalWidth > 700 && i.naturalHeight === 200);
      document.body.innerHTML = `<pre>${JSON.stringify([sounds.map(a => a.duration), drawn])}</pre>`;
    })</script></body>"""
    page.write_text(page.read_text().replace("</body>", script))
    done = subprocess.run([CHROMIUM, *options, f"--user-data-dir={workspace / 'profile'}", "--dump-dom", page.as_uri()],
                          capture_output=True, text=True, timeout=500)  # fmt: skip
    durations, drawn = json.loads(BeautifulSoup(done.stdout, "html.parser").pre.text)
    assert durations == pytest.approx([10.0] * 12, abs=0.01) and drawn == [True] * 12


@pytest.mark.parametrize(("words", "told"), [
    (["a.wav"], r"passages.safetensors: no such weights \(`duet notebook passage_retrieval --preset overnight` makes"),
    (["a.wav", "--weights", "w"], "a.wav: no such audio file"), (["a.krn", "--weights", "w"], "a.krn: no such score"),
    (["text.wav", "--weights", "w"], "text.wav: is not readable audio"),
])  # fmt: skip
def test_a_query_that_cannot_be_read_is_told_before_anything_is_indexed(words, told, workspace, monkeypatch, capsys):
    monkeypatch.chdir(workspace)
    monkeypatch.setattr(search.paths, "ROOT", workspace)
    monkeypatch.setattr(search, "index_folder", None)
    saved(workspace / "w", "mean")
    (workspace / "text.wav").write_text("text")
    assert cli.main(["find", *words, "--in", ".", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert re.search(told, error) and error.count("\n") == 1
