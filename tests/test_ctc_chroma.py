"""The fifth study: grid, claims and search by themselves, then its machinery on a toy collection in MTD layout.

The toy is six composers, seven recordings of eight seconds and twelve themes: random melodies of harmonic tones above
a soft chord, played with a rubato that is known, some of them not in the key of their MIDI.
"""

import copy
import csv
import json
import re
import shutil
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pretty_midi
import pytest
import soundfile
import torch
from torch import nn
from torch.nn import functional as F

from duet import DuetError, files, harmonic, metrics, published, runs, tables, training, verdicts
from duet.corpora import mtd
from duet.models import salience
from duet.models.chroma import ChromaNet
from duet.studies import ctc_chroma as study
from duet.studies.ctc_chroma import experiment, report
from duet.training import Training

torch.set_num_threads(1)  # as every run has; several would only wait for each other on a busy machine
RATE = 22_050
RANDOM = 363 / 140 / 7  # mean reciprocal rank of a random order of seven: (1 + 1/2 + ... + 1/7) / 7


# -- a toy collection --------------------------------------------------------------------------------------------------

#: recording -> composer and how many themes; folds are 1: Abel; 2: Bach, Finck; 3: Cima; 4: Dufay; 5: Elgar
RECORDINGS = {"R1": ("Abel", 2), "R2": ("Abel", 1), "R3": ("Bach", 2), "R4": ("Cima", 2), "R5": ("Dufay", 2),
              "R6": ("Elgar", 2), "R7": ("Finck", 1)}  # fmt: skip
TRANSPOSITIONS = (0, 2, -5)
TICK = 0.0021  # seconds by which MIDI notes end early
FOLDS = {"Abel": 1, "Bach": 2, "Cima": 3, "Dufay": 4, "Elgar": 5, "Finck": 2}


def tone(pitch, seconds):
    time = np.arange(round(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * h * 440 * 2 ** ((pitch - 69) / 12) * time) / h for h in range(1, 7))
    return wave * np.minimum(1, time / 0.01) * np.minimum(1, (seconds - time) / 0.02) * np.exp(-time)


def add(audio, start, wave):
    first = round(start * RATE)
    audio[first : first + len(wave)] += wave[: len(audio) - first]


def write_table(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, delimiter=";").writerows([header, *rows])


def write_toy(root):
    """Writes the tree; theme -> (start, end, pitch) of each of its notes in the excerpt, as they really sound."""
    rng, rows, truth = np.random.default_rng(3), [], {}
    for number, (recording, (composer, count)) in enumerate(RECORDINGS.items()):
        audio = np.zeros(8 * RATE)
        for pitch in 40 + rng.choice(12, 2, replace=False):
            for begin in (0, 2, 4, 6):
                add(audio, begin, 0.15 * tone(pitch, 2))
        excerpts = []
        for k in range(count):
            identity, transposition = f"{len(rows) + 1:04}", TRANSPOSITIONS[number % 3]
            durations = rng.choice([0.25, 0.5], 8)
            onsets = np.cumsum([0.5 * (k == 0), *durations[:-1]])  # the first theme of each begins with a rest
            pitches, end = 64 + rng.choice(13, 8), onsets[-1] + durations[-1]
            length, bend = (3.0, 3.2, 3.4)[len(rows) % 3], 0.015 * len(rows)
            played = lambda s, end=end, length=length, bend=bend: (  # noqa: E731
                length * (s / end + bend * np.sin(np.pi * s / end))
            )
            starts, ends = played(onsets), played(onsets + durations)
            start = 0.4 + 3.8 * k
            for s, e, pitch in zip(starts, ends, pitches, strict=True):
                add(audio, start + s, 0.5 * tone(pitch + transposition, e - s))
            truth[identity] = np.column_stack([starts, ends, pitches + transposition])
            known = {"MTDID": identity, "ComposerID": composer, "WorkID": f"Op{number}", "WCMID": recording,
                     "StartTime": f"00:{start:04.1f}", "EndTime": f"00:{start + length:04.1f}",
                     "MidiTransposition": str(transposition)}  # fmt: skip
            rows.append(dict.fromkeys(mtd.COLUMNS, "") | known)
            name = f"MTD{identity}_{composer}_Op{number}"
            write_table(root / "data_EDM-corr_CSV" / f"{name}.csv", ("Start", "Duration", "Pitch"),
                        zip(onsets, durations - TICK, pitches, strict=True))  # fmt: skip
            write_table(root / "data_ALIGNMENT" / f"{name}.csv", ("MID", "WAV"),
                        [*zip(onsets, starts, strict=True), (end, length)])  # fmt: skip
            excerpts.append((root / "data_AUDIO" / f"{name}.wav", start, start + length))
        audio *= 0.9 / np.abs(audio).max()
        (root / "data_RECORDING").mkdir(exist_ok=True)
        soundfile.write(root / "data_RECORDING" / f"{recording}.wav", audio, RATE)
        for path, start, end in excerpts:
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, audio[round(start * RATE) : round(end * RATE)], RATE)
    write_table(root / "03_MTD-medium.csv", mtd.COLUMNS, [row.values() for row in rows])
    return truth


BRIEF = Training(4, epochs=2, batch=3, learning_rate=3e-3, schedule="one_cycle", clip=5.0)
TINY = study.Preset(None, BRIEF, folds=(1,), salience=Training(1, epochs=1, batch=3))
WHOLE = study.Preset(None, BRIEF, seeds=(0, 1), full=BRIEF, salience=BRIEF)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The tree, how it really sounds, and caches of this module; presets for it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("chroma")
        for name in ("RESULTS", "CACHE"):
            patch.setenv(f"DUET_{name}", str(folder / name))
        patch.setenv("DUET_DEVICE", "cpu")
        patch.setitem(study.PRESETS, "tiny", TINY)
        patch.setitem(study.PRESETS, "bare", replace(TINY, salience=None))
        patch.setitem(study.PRESETS, "whole", WHOLE)
        patch.setitem(experiment.SOURCE_FILTER, "cheap", replace(experiment.SOURCE_FILTER["cheap"], iterations=2))
        root = folder / "toy"
        built = SimpleNamespace(build=lambda progress: mtd.Mtd(root))
        patch.setitem(study.PRESETS, "built", replace(TINY, corpus=built, salience=None))
        patch.setattr(experiment, "SALIENCE_CORPUS", "built")  # what the salience network learns from is the toy too
        yield SimpleNamespace(root=root, truth=write_toy(root))


@pytest.fixture(scope="module")
def data(toy):
    return study.prepare("tiny", str(toy.root))


def stub(notes, alignment=None, span=(0.0, 6.0), transposition=0):
    """One theme, "t", in one document, with everything given by hand."""

    def aligned(_):
        if alignment is None:
            raise DuetError("has no alignment of theme t")
        return np.array(alignment, float)

    corpus = SimpleNamespace(
        notes=lambda _: np.array(notes, float),
        alignment=aligned,
        theme=lambda _: SimpleNamespace(transposition=transposition),
        span=lambda *_: span,
        relevant=lambda *_: "d",
    )
    return study.Data(corpus, "recordings", ["d"], ["t"], {"t": 1}, "", "stub")


# -- the grid ----------------------------------------------------------------------------------------------------------


def by_name(preset, core_only=False):
    return {run.name: run for run in study.runs(preset, core_only)}


PRESETS = tuple(study.PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_names_and_runs_are_unique_and_the_core_is_what_it_says(preset):
    grid = study.runs(preset)
    assert len({run.name for run in grid}) == len({run.config for run in grid}) == len(grid)
    assert study.runs(preset, core_only=True) == [run for run in grid if run.core]
    assert {run.name for run in grid if not run.core} == (
        {"ctc-centred-f1-s0", "ctc-long-f1-s0"} if study.PRESETS[preset].controls else set()
    )


@pytest.mark.parametrize("preset", ["smoke", "laptop"])
def test_a_first_look_has_the_baselines_and_one_fold(preset):
    assert list(by_name(preset)) == ["chroma", "source-filter", "source-filter-raw", "untrained-f1-s0", "ctc-f1-s0",
                                     "cce-f1-s0"]  # fmt: skip


@pytest.mark.parametrize("preset", ["overnight", "paper"])
def test_the_core_holds_the_papers_tables_and_the_controls(preset):
    core = by_name(preset, core_only=True)
    expected = {"chroma", "source-filter", "source-filter-raw", "salience", "untrained-f1-s0"}
    expected |= {f"{loss}-f{fold}-s{seed}" for loss in ("ctc", "cce") for fold in range(1, 6)
                 for seed in study.PRESETS[preset].seeds}  # fmt: skip
    expected |= {f"strong-f{fold}-s0" for fold in range(1, 6)} | {"exact-f1-s0"}
    expected |= {"ctc-full-f1-s0", "cce-full-f1-s0"} if preset == "overnight" else set()
    assert core.keys() == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_arms_that_claims_compare_are_trained_alike(preset):
    grid, p = {name: run.config for name, run in by_name(preset).items()}, study.PRESETS[preset]
    for name, config in grid.items():
        if config.method in ("ctc", "cce", "strong", "untrained"):
            method, fold, seed = re.fullmatch(r"([a-z-]+)-f(\d)-s(\d)", name).groups()
            assert (config.method, config.fold, config.seed) == (method.split("-")[0], int(fold), int(seed))
            assert config.network == ("full" if "full" in method else p.network)
            assert config.centred == ("centred" in method)
            if "long" in method:
                assert config.training.updates == 4 * p.training.updates
            elif config.method != "untrained":
                assert config.training == (p.full if "full" in method else p.training)
    for loss in ("ctc", "cce"):
        assert sum(re.match(rf"{loss}-f\d", name) is not None for name in grid) == len(p.folds) * len(p.seeds)


@pytest.mark.parametrize("preset", PRESETS)
def test_extras_are_for_the_first_seed_of_ctc_where_controls_are_wanted(preset):
    p = study.PRESETS[preset]
    for name, run in by_name(preset).items():
        plain = run.config.method == "ctc" and name == f"ctc-f{run.config.fold}-s{run.config.seed}"
        assert run.config.extras == (plain and p.controls and run.config.seed == p.seeds[0])
        assert run.config.fused_with == (p.source_filter if plain else "")


def test_folds_go_round():
    """Training, validation and test fold of each model, as the released ones are named."""
    assert [study.fold_parts(k) for k in range(1, 6)] == [
        ((2, 3, 4), 5), ((3, 4, 5), 1), ((4, 5, 1), 2), ((5, 1, 2), 3), ((1, 2, 3), 4)]  # fmt: skip


def test_the_paper_preset_is_the_papers_protocol():
    paper = study.PRESETS["paper"]
    t = paper.training
    assert (t.batch, t.learning_rate, t.schedule, t.patience + 1, t.halvings + 1) == (8, 1e-3, "plateau", 5, 10)
    assert (t.updates // t.epochs, t.precision, t.clip) == (163, "fp32", 0.0)
    assert (paper.network, paper.folds, paper.source_filter) == ("paper", (1, 2, 3, 4, 5), "paper")
    assert paper.published_salience
    with pytest.raises(DuetError, match=r"the preset paper reads the paper's own data \(give corpus="):
        study.prepare("paper")


# -- queries and labels ------------------------------------------------------------------------------------------------

REST = np.full(12, 12**-0.5)


def columns(*classes):
    """(12, frames): a 1 at each pitch class, None is a rest."""
    return np.stack([REST if c is None else np.eye(12)[c] for c in classes], 1)


def test_a_query_by_hand():
    """A leading rest stays; notes that end a MIDI tick early touch the next; a note repeated goes on."""
    notes = np.array([(0.5, 0.4979, 60), (1.0, 0.4979, 60), (1.5, 0.5, 64), (2.5, 0.5, 69)])
    query = experiment.query_chroma(notes, 1.2, 10)  # 3 notated seconds in 12 frames: a rest from 2.0 to 2.5
    assert query.shape == (12, 12) and query.dtype == np.float32
    np.testing.assert_allclose(query, columns(None, None, 0, 0, 0, 0, 4, 4, None, None, 9, 9), atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(query, axis=0), 1, atol=1e-6)
    for shift, expected in ((2, (2, 6, 11)), (-1, (11, 3, 8)), (-13, (11, 3, 8))):
        moved = experiment.query_chroma(notes, 1.2, 10, shift)
        np.testing.assert_allclose(moved[:, [2, 6, 10]], columns(*expected), atol=1e-7)
        np.testing.assert_allclose(moved[:, 0], REST, atol=1e-7)
    twice = experiment.query_chroma(notes, 2.4, 10)
    np.testing.assert_allclose(twice, np.repeat(query, 2, axis=1), atol=1e-7)
    assert experiment.query_chroma(notes, 1.2, 25).shape == (12, 30)
    assert experiment.query_chroma(notes, 0.01, 10).shape == (12, 1)
    with pytest.raises(DuetError, match="no notes"):
        experiment.query_chroma(notes[:0], 1.2, 10)


def test_short_and_overlapping_notes_have_their_frames():
    short = np.array([(0.0, 1.0, 60), (1.0, 0.01, 62), (1.01, 0.99, 64), (2.0, 0.001, 65)])
    assert experiment.frame_pitches(short, 2.001, 20).tolist() == [60] * 10 + [64] * 9 + [65]
    assert experiment.frame_pitches(short, 2.001, 2000)[[999, 1000, 1010]].tolist() == [60, 62, 64]
    overlapping = np.array([(0.0, 1.2, 60), (1.0, 1.0, 62)])  # the later counts
    assert experiment.frame_pitches(overlapping, 2, 4).tolist() == [60, 60, 62, 62]


def test_the_linear_alignment_against_the_strong_one():
    """Three notes in six seconds at 25 Hz: notated time stretched evenly, or note by note where they really sound."""
    notes = [(0.5, 0.4979, 60), (1.0, 0.4979, 62), (2.0, 1.0, 64)]
    toy = stub(notes, alignment=[(0.5, 0.4), (1.0, 2.0), (2.0, 5.0), (3.0, 6.0)], span=(1.0, 7.0), transposition=3)
    assert toy.frames("t") == (25, 175)
    linear = [-1] * 25 + [63] * 25 + [65] * 25 + [-1] * 25 + [67] * 50
    assert toy.frame_pitches("t", strong=False).tolist() == linear
    # 0.4 s is frame 10; the second note ends at 1.4979, which is 2 + 0.4979 * 3 = 3.494 s, frame 87
    strong = [-1] * 10 + [63] * 40 + [65] * 37 + [-1] * 38 + [67] * 25
    assert toy.frame_pitches("t", strong=True).tolist() == strong
    assert toy.corpus.notes("t")[0, 0] == 0.5  # what was read is not written into
    classes = experiment.pitch_classes(np.array(strong))
    assert classes[[0, 10, 50, 87, 125]].tolist() == [12, 3, 5, 12, 7]
    assert toy.labels("t") == [3, 5, 7]


def test_labels_and_frames_are_what_sounds(toy, data):
    """In the middle of each note of the recordings; the linear alignment is somewhere else in the bent ones."""
    wrong = {}
    for theme in data.themes:
        notes = toy.truth[theme]
        middles = (notes[:, :2].mean(1) * 25).astype(int)
        assert data.frame_pitches(theme, strong=True)[middles].tolist() == notes[:, 2].tolist()
        wrong[theme] = (data.frame_pitches(theme, strong=False)[middles] != notes[:, 2]).mean()
        assert data.labels(theme) == (notes[:, 2] % 12).tolist()
        strength = data.excerpt(theme)[middles, harmonic.HARMONICS.index(1)].astype(int)
        places = 3 * (notes[:, 2].astype(int) - experiment.LOWEST)
        heard = [s[p] > max(s[p - 3], s[p + 3]) for s, p in zip(strength, places, strict=True)]
        assert np.mean(heard) > 0.8, theme
    assert wrong["0001"] == 0 and max(wrong.values()) >= 0.5  # the first is played straight


def test_a_stretched_query_is_longer_and_the_same(data):
    for theme in data.themes:
        length = data.length(theme)
        assert data.query(theme).shape == (12, length) and length in (75, 80, 85)
        assert data.query(theme, 10, 1.6).shape == (12, round(length / 25 * 1.6 * 10))
        differ = (data.query(theme, stretch=2.0)[:, ::2] != data.query(theme)).any(0)
        assert differ.sum() <= 9  # a frame where a note begins or the last one ends
    first = data.query("0001")  # half a second of rest, in the key of the recording
    np.testing.assert_allclose(first[:, 0], REST, atol=1e-7)
    assert first.argmax(0)[-1] == data.labels("0001")[-1]


# -- training examples -------------------------------------------------------------------------------------------------


def moved_bins(excerpt, shift):
    """Three bins a semitone, silence at the edge."""
    moved = np.zeros_like(excerpt)
    for k in range(216):
        if 0 <= k - 3 * shift < 216:
            moved[..., k] = excerpt[..., k - 3 * shift]
    return moved


@pytest.mark.parametrize("shift", [-3, 0, 2])
def test_an_example_is_transposed_with_its_labels(data, shift):
    for theme in ("0001", "0004"):
        raw = data.excerpt(theme)
        expected = moved_bins(raw, shift) / 255
        length = np.linalg.norm(expected, axis=-1, keepdims=True)
        expected = np.where(length > 0, expected / np.maximum(length, 1e-9), 216**-0.5)
        inputs, labels = experiment.example(data, "ctc", theme, shift)
        assert inputs.dtype == torch.float32 and inputs.shape == (data.length(theme), 6, 216)
        np.testing.assert_allclose(inputs.numpy(), expected, atol=1e-5)
        assert labels.tolist() == [(label + shift) % 12 for label in data.labels(theme)]
        for objective, strong in (("cce", False), ("strong", True)):
            inputs, classes = experiment.example(data, objective, theme, shift)
            np.testing.assert_allclose(inputs.numpy(), expected, atol=1e-5)
            pitches = data.frame_pitches(theme, strong)
            assert classes.tolist() == [12 if p < 0 else (p + shift) % 12 for p in pitches]
        inputs, target = experiment.example(data, "salience", theme, shift)
        np.testing.assert_allclose(inputs.numpy(), moved_bins(raw, shift) / 255, atol=1e-6)  # columns as they are
        pitches = data.frame_pitches(theme, strong=True)
        assert target.shape == (data.length(theme), 72) and target.dtype == torch.float32
        assert target.sum(1).tolist() == (pitches >= 0).tolist()
        sounding = pitches >= 0
        assert (target.argmax(1).numpy()[sounding] == pitches[sounding] + shift - 24).all()
    assert (data.frame_pitches("0001", strong=True) < 0).any()


def test_batches_are_padded_and_ctc_targets_are_one_row(data):
    themes = ("0001", "0002", "0003")
    frames, longest = [data.length(t) for t in themes], max(data.length(t) for t in themes)
    assert len(set(frames)) == 3
    inputs, lengths, targets, counts = experiment.collate([experiment.example(data, "ctc", t) for t in themes], "ctc")
    assert inputs.shape == (3, longest, 6, 216) and lengths.tolist() == frames
    assert targets.tolist() == sum((data.labels(t) for t in themes), []) and counts.tolist() == [8, 8, 8]
    for item, theme, length in zip(inputs, themes, frames, strict=True):
        assert torch.equal(item[:length], experiment.example(data, "ctc", theme)[0]) and not item[length:].any()
    for objective, shape in (("cce", ()), ("strong", ()), ("salience", (72,))):
        _, lengths, targets, counts = experiment.collate(
            [experiment.example(data, objective, t) for t in themes], objective
        )
        assert targets.shape == (3, longest, *shape) and lengths.tolist() == frames and counts is None
        assert torch.equal(targets[2, : frames[2]], experiment.example(data, objective, "0003")[1])


def test_an_epoch_takes_each_theme_once_in_another_key(data, monkeypatch):
    """Two passes in six batches of four: of twelve themes none comes twice in a pass, and shifts are drawn anew."""

    def order(seed, epoch, count=6):
        drawn = []
        monkeypatch.setattr(experiment, "example", lambda _, o, theme, shift: drawn.append((theme, shift)) or (
            torch.zeros(data.length(theme), 1), torch.zeros(8)))  # fmt: skip
        sizes = [len(b[1]) for b in experiment.batches(data, "ctc", data.themes, 4, seed, epoch, count)]
        assert sizes == [4] * count
        return drawn

    np.random.seed(1)
    first = order(0, 0)
    assert first == order(0, 0) and first[:12] == order(0, 0, 3)
    assert first != order(0, 1) and first != order(1, 0)
    for half in (first[:12], first[12:]):
        assert sorted(theme for theme, _ in half) == data.themes
    assert first[:12] != first[12:]
    shifts = [shift for epoch in range(12) for _, shift in order(0, epoch)]
    assert set(shifts) == set(range(-3, 4)) and all(type(s) is int for s in shifts)
    assert min(shifts.count(s) for s in range(-3, 4)) > 20  # of 288, about 41 each


class Framewise(nn.Module):
    """A network that sees one frame at a time, so that padding changes nothing."""

    def __init__(self, labels):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(6 * 216, labels)

    def forward(self, x):
        return 5 * self.linear(x.flatten(2))


def test_the_validation_loss_by_hand(data):
    """A mean over themes for CTC, whatever their number of notes; over frames for the others."""
    model, themes = Framewise(13), data.themes[:5]
    alone = {objective: [] for objective in ("ctc", "cce")}
    with torch.no_grad():
        for theme in themes:
            inputs, labels = experiment.example(data, "ctc", theme)
            scores = model(inputs[None]).log_softmax(-1).transpose(0, 1)
            lengths = torch.tensor([len(inputs)]), torch.tensor([len(labels)])
            alone["ctc"].append(float(F.ctc_loss(scores, labels[None], *lengths, blank=12, reduction="sum")))
            classes = experiment.example(data, "cce", theme)[1]
            alone["cce"].append(float(F.cross_entropy(scores[:, 0], classes, reduction="sum")))
    frames = [data.length(t) for t in themes]
    by_frames = sum(alone["cce"]) / sum(frames)
    by_themes = np.mean([a / n for a, n in zip(alone["cce"], frames, strict=True)])
    assert abs(by_frames - by_themes) > 1e-4
    for size in (2, 16):
        assert experiment.mean_loss(model, data, "ctc", themes, size) == pytest.approx(np.mean(alone["ctc"]), rel=1e-5)
        assert experiment.mean_loss(model, data, "cce", themes, size) == pytest.approx(by_frames, rel=1e-5)


def test_the_salience_loss_is_over_the_frames_that_are_there(data):
    model, themes = Framewise(72), data.themes[:3]
    with torch.no_grad():
        parts = [experiment.example(data, "salience", t) for t in themes]
        entropies = [F.binary_cross_entropy_with_logits(model(x[None])[0], y, reduction="none") for x, y in parts]
    expected = float(torch.cat(entropies).mean())
    assert experiment.mean_loss(model, data, "salience", themes, 2) == pytest.approx(expected, rel=1e-5)


def test_what_cannot_be_trained_says_so(data, tmp_path):
    run = runs.Run("ctc-f1-s0", study.Config("ctc", fold=1, training=BRIEF))
    for parts in ([], data.themes), (data.themes, []):
        with pytest.raises(DuetError, match="a fold has no themes.*at least five"):
            experiment.fit(run, ChromaNet(3), data, parts, tmp_path / "x.pt", False)


def test_themes_that_ctc_cannot_align_are_left_out_of_its_training(data, tmp_path, monkeypatch):
    """Seven equal notes and an eighth need fifteen frames with a blank between them, and fourteen are too few."""
    seen = {}
    monkeypatch.setattr(training, "train", lambda *a, **k: training.Outcome([0.0], [0.0], 0))
    tight = copy.copy(data)
    monkeypatch.setattr(tight, "labels", lambda t: [0] * 8, raising=False)
    monkeypatch.setattr(tight, "length", lambda t: {"0001": 14, "0002": 15}.get(t, 75), raising=False)
    for method in ("ctc", "cce"):
        run = runs.Run("x", study.Config(method, fold=1, training=BRIEF))
        about = experiment.fit(run, ChromaNet(3), tight, (data.themes[:4], data.themes[:2]), tmp_path / "x.pt", False)
        seen[method] = about["themes"]
    assert seen == {"ctc": {"training": 3, "validation": 1}, "cce": {"training": 4, "validation": 2}}


# -- runs --------------------------------------------------------------------------------------------------------------

RUNS = ("chroma", "untrained-f1-s0", "ctc-f1-s0", "cce-f1-s0", "strong-f1-s0", "exact-f1-s0", "salience")


@pytest.fixture(scope="module")
def grid(toy, data):
    made = runs.Grid(study.KEY, "tiny", str(toy.root))
    made._data = data
    return made


@pytest.fixture(scope="module")
def records(grid):
    """One run of each kind."""
    return {name: grid.make(name) for name in RUNS}


def test_the_collection(toy, data):
    assert data.documents == list(RECORDINGS) and data.themes == sorted(toy.truth) and data.skipped == []
    assert data.kind == "recordings" and data.name == "MTD"
    assert {t: FOLDS[data.corpus.composer(t)] for t in data.themes} == data.fold_of
    assert data.of_folds(1) == ["0001", "0002", "0003"] and len(data.of_folds(2, 3, 4)) == 7
    assert data.spans["0002"] == (4.2, pytest.approx(7.4)) and data.frames("0002") == (105, 185)
    assert data.hcqt("R1").shape[1:] == (6, 216) and len(data.hcqt("R1")) in (200, 201)
    assert [data.relevant[t] for t in data.themes] == [0, 0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    again = study.prepare("tiny", str(toy.root))
    assert again.fingerprint == data.fingerprint


@pytest.mark.parametrize("name", RUNS)
def test_a_record_holds_the_ranks_of_its_test_fold(grid, data, records, name):
    config, result = grid.runs[name].config, records[name]["result"]
    test = data.of_folds(1) if config.fold else data.themes
    assert result["items"] == files.digest(*test)[:16]
    for rate in ("25", "10"):
        ranks = result["test"][rate]["ranks"]
        assert len(ranks) == len(test) and all(type(r) is int and 1 <= r <= 7 for r in ranks)
        assert 0 <= result["test"][rate]["tied"] <= len(test)
    assert len(result["off_theme"]) == len(test) and all(0 < share < 1 for share in result["off_theme"])
    learns = config.method in ("ctc", "cce", "strong", "salience")
    assert {"loss", "validation", "best_epoch", "themes"} <= result.keys() if learns else "loss" not in result
    if learns:
        assert len(result["loss"]) == len(result["validation"]) == config.training.epochs
        expected = (7, 2) if config.fold else (10, 2)
        assert (result["themes"]["training"], result["themes"]["validation"]) == expected
    assert ("trainable" in result) == (config.method != "chroma") == grid.weights(name).exists()
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_ctc_has_its_decoding_its_extras_and_its_fusion(data, records):
    result = records["ctc-f1-s0"]["result"]
    for part, fold in (("validation", 5), ("test", 1)):
        decoded = result["decoded"][part]
        assert decoded["lengths"] == [8] * len(data.of_folds(fold)) == [8] * len(decoded["edits"])
        assert all(type(e) is int and e >= 0 for e in decoded["edits"])
    assert set(result["stretched"]) == {f"{s:g}" for s in study.grid.STRETCHES}
    assert result["stretched"]["1"] == result["test"]["25"]["ranks"]
    assert len(result["transposed"]["ranks"]) == len(result["fused"]["ranks"]) == 3
    assert result["fused"]["weight"] in [k / 10 for k in range(11)] and len(result["fused"]["validation"]) == 11
    for name in set(RUNS) - {"ctc-f1-s0"}:
        assert not {"decoded", "stretched", "transposed", "fused"} & records[name]["result"].keys()


@pytest.mark.parametrize("name", ["chroma", "ctc-f1-s0"])
def test_repeating_a_run_repeats_it_bit_for_bit(grid, data, records, tmp_path, name):
    torch.manual_seed(123)  # whatever came before
    weights = tmp_path / "again.safetensors"
    again = study.execute(grid.run(name), data, {}, weights, tmp_path / "again.pt")
    assert again == records[name]["result"]
    if weights.exists():
        first, second = training.load_weights(weights), training.load_weights(grid.weights(name))
        assert all(torch.equal(first[k], second[k]) for k in first)


def test_chroma_without_learning_finds_most_themes(records):
    for rate in ("25", "10"):
        ranks = records["chroma"]["result"]["test"][rate]["ranks"]
        assert np.mean(metrics.reciprocal(ranks)) > 2 * RANDOM and np.mean(np.array(ranks) == 1) > 0.6


def test_each_loss_trains_its_own_network_from_the_same_start(grid, data, records):
    weights = {m: training.load_weights(grid.weights(f"{m}-f1-s0")) for m in ("untrained", "ctc", "cce", "strong")}
    values = {m: w["conv1.weight"].numpy().tobytes() for m, w in weights.items()}
    assert len(set(values.values())) == 4
    for method in ("ctc", "cce", "strong"):
        change = (weights[method]["conv1.weight"] - weights["untrained"]["conv1.weight"]).abs().max()
        assert 0 < change < 0.05
    about = training.read_about(grid.weights("ctc-f1-s0"))
    assert about == {"study": study.KEY, "run": "ctc-f1-s0", "network": "strided", "method": "ctc"}


def test_exact_features_go_through_the_trained_network(grid, data, records):
    first, second = (training.load_weights(grid.weights(n)) for n in ("ctc-f1-s0", "exact-f1-s0"))
    assert all(torch.equal(first[k], second[k]) for k in first)
    trained, exact = (records[n]["result"]["off_theme"] for n in ("ctc-f1-s0", "exact-f1-s0"))
    assert trained != exact and trained == pytest.approx(exact, abs=0.05)


def test_test_folds_are_seen_by_no_training(grid, data, monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr(
        experiment, "fit", lambda run, model, data, parts, *_: seen.update({run.config.fold: parts}) or {}
    )
    monkeypatch.setattr(experiment.chroma, "features_of", lambda model, hcqt: np.zeros((12, len(hcqt))))
    for fold in range(1, 6):
        run = runs.Run("x", study.Config("cce", fold=fold, training=BRIEF))
        experiment.document_chroma(run, data, {}, tmp_path / "x.safetensors", tmp_path / "x.pt", False)
        train, validation = (set(part) for part in seen[fold])
        test = set(data.of_folds(fold))
        assert not train & validation and not train & test and not validation & test
        assert train | validation | test == set(data.themes)
        composers = [{data.corpus.composer(t) for t in part} for part in (train, validation, test)]
        assert sum(map(len, composers)) == 6
        assert validation == set(data.of_folds(5 if fold == 1 else fold - 1))


# -- retrieval ---------------------------------------------------------------------------------------------------------


def perfect(data, shift=0):
    """Chroma that holds each theme as its query is, ``shift`` semitones higher, and elsewhere nothing in particular."""
    made = {d: np.tile(REST[:, None].astype(np.float32), (1, len(data.hcqt(d)))) for d in data.documents}
    for theme in data.themes:
        first, end = data.frames(theme)
        made[data.documents[data.relevant[theme]]][:, first:end] = np.roll(data.query(theme), shift, 0)
    return made


def noise(data, seed=0):
    rng = np.random.default_rng(seed)
    made = {d: rng.random((12, len(data.hcqt(d))), np.float32) for d in data.documents}
    return {d: values / np.linalg.norm(values, axis=0) for d, values in made.items()}


def own(data, costs, themes=None):
    return np.array([costs[k, data.relevant[t]] for k, t in enumerate(themes or data.themes)])


def test_perfect_chroma_ranks_every_theme_first(data):
    costs = experiment.distances(data, perfect(data), data.themes)
    assert costs.shape == (12, 7) and own(data, costs) == pytest.approx(0, abs=1e-6)
    assert experiment.ranking(data, data.themes, costs) == {"ranks": [1] * 12, "tied": 0}
    slow = experiment.distances(data, perfect(data), data.themes, rate=10)
    assert experiment.ranking(data, data.themes, slow)["ranks"] == [1] * 12 and (own(data, slow) < 0.15).all()
    assert experiment.ranking(data, data.themes, np.zeros((12, 7))) == {"ranks": [7] * 12, "tied": 12}


def test_a_query_may_be_up_to_twice_as_fast_or_slow(data):
    made = perfect(data)
    cost = {s: own(data, experiment.distances(data, made, data.themes, stretch=s)).mean() for s in study.grid.STRETCHES}
    assert cost[1.0] < 1e-6 and max(cost[s] for s in (0.63, 0.8, 1.25, 1.6)) < 0.03
    assert cost[2.5] > 0.05


def test_a_theme_in_another_key_is_found_where_no_key_is_given(data):
    for shift in (5, -1):
        made = perfect(data, shift)
        assert own(data, experiment.distances(data, made, data.themes)).mean() > 0.3
        costs = experiment.transposed_distances(data, made, data.themes)
        assert own(data, costs) == pytest.approx(0, abs=1e-6)
        assert experiment.ranking(data, data.themes, costs)["ranks"] == [1] * 12
    costs = experiment.transposed_distances(data, noise(data), data.themes)
    assert (costs <= experiment.distances(data, noise(data), data.themes) + 1e-9).all()


CTC_1 = study.Config("ctc", fold=1)


def test_a_better_chroma_is_mixed_in(data):
    test, bad = data.of_folds(1), noise(data)
    costs = experiment.distances(data, bad, test)
    assert max(experiment.ranking(data, test, costs)["ranks"]) > 1
    mixed = experiment.fused(data, CTC_1, bad, perfect(data), test, costs)
    assert mixed["weight"] > 0 and mixed["ranks"] == [1, 1, 1] and max(mixed["validation"]) == 1
    assert mixed["validation"].index(1.0) == round(10 * mixed["weight"])  # the smallest that does
    good = experiment.fused(data, CTC_1, perfect(data), bad, test, experiment.distances(data, perfect(data), test))
    assert good["weight"] == 0 and good["ranks"] == [1, 1, 1]


def with_relevant(data, themes):
    """The same collection, but the given themes belong to the next document."""
    other = copy.copy(data)
    other.relevant = {t: (column + (t in themes)) % 7 for t, column in data.relevant.items()}
    return other


def test_the_proportion_is_chosen_on_the_validation_fold_alone(data):
    test, bad, good = data.of_folds(1), noise(data), perfect(data)
    costs = experiment.distances(data, bad, test)
    mixed = experiment.fused(data, CTC_1, bad, good, test, costs)
    moved = experiment.fused(with_relevant(data, test), CTC_1, bad, good, test, costs)
    assert (moved["weight"], moved["validation"]) == (mixed["weight"], mixed["validation"])
    assert moved["ranks"] != mixed["ranks"]
    training_ = experiment.fused(with_relevant(data, data.of_folds(2, 3, 4)), CTC_1, bad, good, test, costs)
    assert training_ == mixed
    validation = experiment.fused(with_relevant(data, data.of_folds(5)), CTC_1, bad, good, test, costs)
    assert validation["validation"] != mixed["validation"]


def test_a_document_too_short_for_a_query_is_last_and_ends_nothing(data):
    """Documents may be excerpts: the shortest are less than half as long as the longest query."""
    made = perfect(data)
    made["R7"] = made["R7"][:, :30]
    costs = experiment.distances(data, made, data.themes)
    assert np.isinf(costs[:, 6]).all() and np.isfinite(costs[:, :6]).all()
    assert experiment.ranking(data, data.themes, costs)["ranks"] == [1] * 11 + [7]
    test = data.of_folds(1)
    assert experiment.fused(data, CTC_1, made, made, test, costs[:3])["ranks"] == [1, 1, 1]


def test_chroma_that_is_no_number_is_refused(data):
    made = perfect(data)
    made["R3"][0, 5] = np.nan
    with pytest.raises(DuetError, match="chroma of document R3 cannot be searched.*NaN"):
        experiment.distances(data, made, data.themes)


def test_off_theme_energy():
    notes, alignment = [(0.5, 0.4979, 60), (1.0, 1.0, 62)], [(0.5, 0.4), (1.0, 2.0), (2.0, 6.0)]
    toy = stub(notes, alignment)
    classes = experiment.pitch_classes(toy.frame_pitches("t", strong=True))
    exact = np.concatenate([np.eye(12), np.full((12, 1), 12**-0.5)], 1)[:, classes].astype(np.float32)
    assert experiment.off_theme(toy, {"d": exact}, "t") == pytest.approx(0, abs=1e-6)
    assert experiment.off_theme(toy, {"d": np.full((12, 150), 12**-0.5)}, "t") == pytest.approx(11 / 12)
    assert experiment.off_theme(toy, {"d": np.roll(exact, 1, 0)}, "t") == pytest.approx(1)
    half = exact.copy()
    half[:, :100] = np.roll(exact, 1, 0)[:, :100]  # of frames 10 to 150 the first ninety are wrong
    assert experiment.off_theme(toy, {"d": half}, "t") == pytest.approx(90 / 140)
    assert experiment.off_theme(stub(notes), {"d": exact}, "t") is None
    assert experiment.off_theme(toy, {"d": exact[:, :149]}, "t") == pytest.approx(0, abs=1e-6)  # a frame short


# -- results -----------------------------------------------------------------------------------------------------------

FOLD_OF = [1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 2]  # of the twelve themes


@pytest.fixture
def whole(toy, data, workspace):
    """A grid of every arm without any record."""
    made = runs.Grid(study.KEY, "whole", str(toy.root))
    made._data = data
    return made


def place(grid, name, ranks, slow=None, off_theme=0.5, edits=2):
    """A record by hand: ``ranks`` of the twelve themes, of which a fold's run keeps its own."""
    run = grid.runs[name]
    tested = [k for k, fold in enumerate(FOLD_OF) if run.config.fold in (0, fold)]
    kept = [ranks[k] for k in tested]
    ranking = {"ranks": kept, "tied": 0}
    result = {
        "items": "",
        "test": {"25": ranking, "10": {"ranks": [r if slow is None else slow for r in kept], "tied": 0}},
        "off_theme": [off_theme] * len(kept),
    }
    if run.config.training:
        result |= {"loss": [2.0, 1.0], "validation": [2.0, 1.5], "best_epoch": 1, "trainable": 1}
    if run.config.method == "ctc":
        decoded = {"edits": [edits] * len(kept), "lengths": [8] * len(kept)}
        result["decoded"] = {"validation": decoded, "test": decoded}
    if run.config.extras:
        result["stretched"] = {f"{s:g}": [1 if s == 1 else 2] * len(kept) for s in study.grid.STRETCHES}
        result["transposed"] = {"ranks": [4] * len(kept), "tied": 0}
    if run.config.fused_with:
        result["fused"] = {"weight": 0.5, "validation": [1.0] * 11, "ranks": [1] * len(kept), "tied": 0}
    record = {"id": grid.id(name), "name": name, "config": json.loads(json.dumps(asdict(run.config))),
              "result": result, "provenance": {"cpu_seconds": 1.0}}  # fmt: skip
    files.write_json(grid.path(name), record)


def placed(grid, missing=(), **ranks):
    """Results of a grid whose every run but ``missing`` was made; an arm's ranks are 2 unless given."""
    for name in grid.runs:
        if name not in missing:
            arm = re.sub(r"(-f\d)?(-s\d)?$", "", name)
            given = ranks.get(arm.replace("-", "_"), 2)
            place(grid, name, given if isinstance(given, list) else [given] * 12)
    return study.Results(grid)


UNEVEN = [1, 2, 4] + [1] * 9  # mean reciprocal rank 1.75 / 3 in fold 1, 10.75 / 12 in all


def test_scores_by_fold_and_over_all_queries(whole):
    placed(whole, chroma=UNEVEN)
    for fold in range(1, 6):
        place(whole, f"ctc-f{fold}-s0", UNEVEN, slow=2)
        place(whole, f"ctc-f{fold}-s1", [1] * 12, slow=4)
    found = study.Results(whole)
    assert found.estimate("ctc", "MRR").value == pytest.approx((10.75 / 12 + 1) / 2)
    assert found.estimate("ctc", "MRR", "25", 1).value == pytest.approx((1.75 / 3 + 1) / 2)
    assert found.estimate("ctc", "MRR", "25", 3).value == 1
    assert found.estimate("ctc", "MRR", "10").value == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert found.estimate("ctc", "top 1").value == pytest.approx((10 / 12 + 1) / 2)
    assert found.estimate("ctc", "top 1", "25", 1).value == pytest.approx((1 / 3 + 1) / 2)
    assert found.estimate("ctc", "top 5").value == 1
    assert found.estimate("chroma", "MRR", "25", 1).value == pytest.approx(1.75 / 3)
    assert found.estimate("ctc", "MRR", "transposed").value == 0.25
    assert found.estimate("ctc", "MRR", "fused").value == 1
    assert found.estimate("ctc", "MRR", "x1.6").value == 0.5 and found.estimate("ctc", "MRR", "x1").value == 1
    assert found.estimate("ctc", "MRR").seeds == 2 and found.estimate("strong", "MRR").seeds == 1
    assert found.estimate("ctc", "MRR").n == 7  # recordings are drawn, not themes
    assert found.estimate("ctc full", "MRR").n == 2 and not found.whole("ctc full")  # fold 1 alone
    table = study.table_4(found)
    row = table[(table["fold"] == 1) & (table["measure"] == "MRR")].iloc[0]
    assert (row["paper"], row["ours"]) == (0.918, round((1.75 / 3 + 1) / 2, 4))
    ours = found.ranks("ctc")
    assert ours.tolist() == [UNEVEN, [1] * 12]
    assert np.isnan(found.ranks("ctc", fold=1)).sum() == 18


def test_an_arm_is_its_own_runs_only(whole):
    found = study.Results(whole)
    folds = [f"-f{fold}-s{seed}" for seed in (0, 1) for fold in range(1, 6)]
    assert found.planned("ctc") == [f"ctc{f}" for f in folds] and found.planned("cce") == [f"cce{f}" for f in folds]
    assert found.planned("ctc full") == ["ctc-full-f1-s0"] and found.planned("ctc centred") == ["ctc-centred-f1-s0"]
    assert found.planned("source-filter") == ["source-filter"]
    assert found.planned("source-filter-raw") == ["source-filter-raw"]
    assert set(sum((found.planned(arm) for arm in report.METHODS), [])) == set(whole.runs)


def test_a_seed_counts_only_when_all_its_folds_have_been_made(whole):
    found = placed(whole, missing=("ctc-f3-s1",), ctc=2)
    for fold in (1, 2, 4, 5):
        place(whole, f"ctc-f{fold}-s1", [1] * 12)
    found = study.Results(whole)
    assert found.seeds("ctc") == 1 and found.estimate("ctc", "MRR").value == 0.5
    assert found.settled("ctc", "MRR") is None and found.settled("cce", "MRR") is not None
    assert found.difference("ctc", "cce", "MRR") is None and found.difference("ctc", "chroma", "MRR") is None
    assert found.difference("cce", "chroma", "MRR").value == 0
    assert found.settled("oracle", "MRR") is None
    # of fold 1 alone both seeds are there
    assert found.estimate("ctc", "MRR", "25", 1).value == 0.75


def test_an_estimate_says_how_many_trainings_are_behind_it(whole):
    """Also where only some folds of a seed have been made, and for the oracle, which is no run of its own."""
    found = placed(whole, missing=("ctc-f3-s0", "ctc-f3-s1"))
    assert found.estimate("ctc", "MRR") is None
    assert found.estimate("ctc", "MRR", "25", 1).seeds == 2
    assert placed(whole).estimate("oracle", "MRR").seeds == 2


def test_the_oracle_takes_the_better_rank_of_each_query(whole):
    found = placed(whole, ctc=UNEVEN, source_filter=[3, 1, 3] + [2] * 9)
    assert found.estimate("oracle", "MRR").value == pytest.approx((1 + 1 + 1 / 3 + 9) / 12)
    assert found.estimate("oracle", "MRR", "25", 1).value == pytest.approx((1 + 1 + 1 / 3) / 3)
    assert found.estimate("oracle", "top 1").value == pytest.approx(11 / 12)
    gain = found.difference("oracle", "ctc", "MRR")
    assert gain.value == pytest.approx((2 + 1 / 3 - 1.75) / 12) and gain.low >= -1e-12


def by_quarter(bends, *ranks):
    """A rank for each theme, by its quarter."""
    return [ranks[place // 3] for place in np.argsort(np.argsort(bends))]


def test_queries_by_rubato(data, whole):
    """Theme by theme the toy is bent further from a straight line."""
    bends = report.rubato(data)
    assert bends[0] == pytest.approx(0, abs=1e-9) and bends[-1] > 0.3
    points = data.corpus.alignment("0008")
    line = points[0, 1] + (points[:, 0] - points[0, 0]) / np.ptp(points[:, 0]) * np.ptp(points[:, 1])
    assert bends[7] == pytest.approx(np.abs(points[:, 1] - line).max())
    found = placed(whole, ctc=by_quarter(bends, 1, 2, 4, 5))
    assert sum(s.astype(int) for s in found.subsets.values()).tolist() == [1] * 12
    for quarter, expected in zip(report.QUARTERS, (1, 0.5, 0.25, 0.2), strict=True):
        assert found.estimate("ctc", "MRR", "25", 0, quarter).value == pytest.approx(expected)
        assert found.estimate("ctc", "off-theme", "25", 0).value == 0.5
    curve = study.rubato_curve(found)
    assert len(curve) == 12 and (curve["from (s)"] <= curve["to (s)"]).all()
    assert curve["from (s)"].iloc[0] == 0 and curve["to (s)"].iloc[-1] == round(bends.max(), 3)


def test_rubato_of_three_points():
    """Straight from (0, 1) to (4, 9): at 1 the line is at 3 and the performance at 4.5."""
    toy = stub([(0, 1, 60)], [(0, 1.0), (1, 4.5), (3, 6.9), (4, 9.0)])
    assert report.rubato(toy).tolist() == pytest.approx([1.5])
    assert np.isnan(report.rubato(stub([(0, 1, 60)]))).all()


class Unaligned(mtd.Mtd):
    """A tree that lacks the alignments of some themes."""

    lacking: tuple[str, ...] = ()

    def alignment(self, identity):
        if identity in self.lacking:
            raise DuetError(f"has no alignment of theme {identity}")
        return super().alignment(identity)


@pytest.mark.parametrize("lacking", [1, 12])
def test_themes_without_an_alignment_are_in_no_quarter(toy, data, whole, lacking):
    corpus = Unaligned(toy.root)
    corpus.lacking = tuple(data.themes[:lacking])
    whole._data = replace(data, corpus=corpus)
    found = placed(whole)
    inside = sum(subset.astype(int) for subset in found.subsets.values())
    assert inside.tolist() == [0] * lacking + [1] * (12 - lacking)
    curve = study.rubato_curve(found)
    assert len(curve) == 12 and curve["ours"].notna().all() == (lacking == 1)
    if lacking == 1:
        assert curve["to (s)"].notna().all()


def test_label_errors_are_edits_per_hundred_notes(whole, data):
    placed(whole)
    for seed, edits in ((0, 2), (1, 4)):
        for fold in range(1, 6):
            place(whole, f"ctc-f{fold}-s{seed}", [1] * 12, edits=edits + 4 * (fold == 1))
    found = study.Results(whole)
    table = study.table_label_errors(found).set_index(["method", "fold"])["ours"]
    assert table["ctc", 1] == (75 + 100) / 2 and table["ctc", 3] == (25 + 50) / 2
    assert table["ctc", "all"] == pytest.approx(100 * (3 * 6 + 9 * 2 + 3 * 8 + 9 * 4) / 2 / 96, abs=1e-4)
    assert ("ctc full", "all") not in table and table["ctc full", 1] == 25  # it is trained for the first fold alone
    first = np.array([data.fold_of[t] == 1 for t in data.themes])
    found = study.Results(whole)
    found.subsets |= {"melody": first, "bass": ~first}  # whose lines they are
    parts = study.table_label_errors(found).set_index(["method", "fold", "part"])["ours"]
    assert parts["ctc", "all", "melody"] == (75 + 100) / 2 and parts["ctc", "all", "bass"] == (25 + 50) / 2
    assert ("ctc", "all", "inner") not in parts  # nobody's line


def test_off_theme_energy_is_a_mean_over_themes(whole):
    placed(whole)
    place(whole, "chroma", [1] * 12, off_theme=0.75)
    place(whole, "source-filter", [1] * 12, off_theme=None)
    found = study.Results(whole)
    table = study.table_damping(found).set_index("method")["ours"]
    assert table["chroma"] == 0.75 and table["ctc"] == 0.5 and np.isnan(table["source-filter"])
    assert found.difference("ctc", "chroma", "off-theme").value == -0.25
    assert found.difference("ctc", "source-filter", "off-theme") is None


def test_arms_are_compared_over_the_same_queries(toy, data, workspace):
    """Where one fold is trained for, a method that learns has its queries and the others have all."""
    grid = runs.Grid(study.KEY, "tiny", str(toy.root))
    grid._data = data
    found = placed(grid, ctc=[2] * 12, chroma=[2] * 3 + [1] * 9, source_filter=[2] * 3 + [1] * 9)
    for other in ("chroma", "source-filter"):
        assert found.difference("ctc", other, "MRR").value == pytest.approx(0)


def test_a_random_order(whole):
    assert study.Results(whole).random() == pytest.approx(RANDOM)


@pytest.mark.parametrize(
    ("ranks", "missing", "expected"),
    [
        ({"ctc": 1, "chroma": 6, "untrained": 7}, (), True),
        ({"ctc": 6, "chroma": 6, "untrained": 7}, (), False),
        ({"ctc": 1, "chroma": 6, "untrained": 1}, (), False),
        ({"ctc": 7, "chroma": 1, "untrained": 1}, (), False),
        ({"ctc": UNEVEN, "chroma": [1, 2, 5] + [1] * 9, "untrained": 7}, (), False),  # better, but not surely
        ({"ctc": 1, "chroma": 6, "untrained": 7}, ("untrained-f1-s0",), False),
        ({"ctc": 1, "chroma": 6, "untrained": 7}, ("ctc-f1-s0", "ctc-f1-s1"), False),
    ],
)
def test_a_network_has_learned_that_beats_what_needs_no_learning(whole, ranks, missing, expected):
    assert placed(whole, missing, **ranks).learned() is expected


TABLES = (
    study.table_3,
    study.table_4,
    study.table_5,
    study.table_6,
    study.table_controls,
    lambda found: study.table_controls(found, 1),
    study.table_past,
    study.table_label_errors,
    study.table_damping,
    study.tempo_curve,
    study.rubato_curve,
)


def test_every_table_stands_without_any_run(whole, tmp_path):
    found = study.Results(whole)
    for make in TABLES:
        table = make(found)
        assert list(table)[-7:] == list(tables.MEASURES) and len(table) and table["ours"].isna().all()
        assert (table["corpus"] == "MTD").all() and (table["seeds"] == 0).all()
        assert (tables.readable(table)["ours [95 %]"] == "not run").all()
        tables.write(table, tmp_path / "table.csv")
    for table, index, shown in (
        (study.table_3(found), ["rate (Hz)", "method"], "measure"),
        (study.table_4(found), "fold", "measure"),
        (study.table_6(found), "method", "measure"),
    ):
        assert "0.8" in tables.pivot(table, index, shown, digits=3).to_string()
    assert (found.run_table("validation loss")["validation loss"] == "not run").all()
    assert study.curves(found).empty and found.learned() is False


def test_every_table_stands_with_all_runs(whole, data, tmp_path):
    found = placed(whole, ctc=UNEVEN)
    for make in TABLES:
        table = make(found)
        assert table.drop_duplicates(list(table)[:-7]).shape == table.shape  # a row is a cell
        filled = table["ours"].notna()
        assert filled.all()
        assert (table["low"][filled] <= table["ours"][filled] + 1e-4).all()
        assert (table["high"][filled] >= table["ours"][filled] - 1e-4).all()
        tables.write(table, tmp_path / "table.csv")
    assert study.table_3(found)["paper"].tolist() == sum(map(list, published.CTC_TABLE_3.values()), [])
    assert study.table_4(found)["paper"].tolist() == sum(map(list, published.CTC_TABLE_4.values()), [])
    assert len(study.table_5(found)) == 12 and len(study.table_6(found)) == 18
    assert study.tempo_curve(found)["stretch"].tolist() == list(study.grid.STRETCHES)
    curves = study.curves(found)
    assert {"ctc, validation loss", "cce, validation loss", "strong, validation loss"} == set(curves["panel"])
    assert set(curves["run"]) == {
        n for n, r in whole.runs.items() if n[:3] in ("ctc", "cce", "str") and not r.config.seed
    }
    assert curves["samples"].tolist()[:2] == [6, 12] and curves["validation"].tolist()[:2] == [2.0, 1.5]


def test_the_tables_that_need_no_runs(toy, data):
    table = study.table_1(data).set_index(["what", "quantity"])
    assert table.loc[("themes", "number"), ["paper", "ours"]].tolist() == [2048, 12]
    lengths = [(3.0, 3.2, 3.4)[k % 3] for k in range(12)]
    assert table.loc[("themes", "total duration (s)"), "ours"] == pytest.approx(sum(lengths), abs=0.06)
    assert table.loc[("recordings", "mean duration (s)"), "ours"] == pytest.approx(8, abs=0.06)
    for preset in ("tiny", "paper"):
        layers = study.table_2(preset).set_index("layer")
        assert layers.loc["all", "parameters"] == published.CTC_PARAMETERS
        assert (layers.loc["all", "parameters, ours"] == published.CTC_PARAMETERS) == (preset == "paper")
    settings = study.settings_table(data, "tiny").set_index("setting")
    assert settings.loc["themes of the folds", "ours"] == "3, 3, 2, 2, 2"
    assert settings.loc["themes / documents", "ours"] == "12 / 7"
    folds = study.fold_table(data)
    assert dict(zip(folds["composer"], folds["fold"], strict=True)) == FOLDS and folds["themes"].sum() == 12
    assert folds["fold"].is_monotonic_increasing


# -- claims ------------------------------------------------------------------------------------------------------------


def judged(found, learned=True):
    table = verdicts.table(study.KEY, study.CLAIMS, found, learned)
    return table.set_index("claim")[["ours", "verdict"]]


def test_every_claim_has_its_runs(whole, tmp_path):
    assert len({claim.text for claim in study.CLAIMS}) == len(study.CLAIMS)
    assert (judged(study.Results(whole))["verdict"] == "not run").all()
    found = placed(whole)
    table = judged(found)
    assert (table["verdict"] != "not run").all()
    assert set(judged(found, learned=False)["verdict"]) == {"undecided"}
    written = study.write_metrics(found, verdicts.table(study.KEY, study.CLAIMS, found), tmp_path / "metrics.json")
    assert files.read_json(tmp_path / "metrics.json") == written
    assert written["mrr"]["ctc"] == written["mrr"]["oracle"] == 0.5 and written["mrr fused"] == 1.0
    assert written["label error"] == 25.0
    assert written["label error of the first fold"] == {"ctc": 25.0, "ctc full": 25.0, "ctc long": 25.0}
    assert "ctc full" in written["mrr of the first fold"] and "ctc full" not in written["mrr"]
    assert written["label error by part"] == {"melody": None, "inner": None, "bass": None}  # the toy does not say
    assert written["random"] == round(RANDOM, 4)
    assert written["runs"]["made"] == written["runs"]["core"] == len(study.runs("whole", core_only=True))


@pytest.mark.parametrize(
    ("missing", "waiting"),
    [
        ("salience", {"CTC chroma retrieves better than deep salience", "25 Hz is better than 10 Hz for deep salience",
                      "the source-filter salience retrieves better than deep salience",
                      "test folds differ less than methods"}),
        ("cce-f2-s1", {"CTC is better than cross-entropy on a linear alignment",
                       "what CTC gains over the linear alignment grows with rubato"}),
        ("strong-f5-s0", {"the weak alignment comes close to a strong one"}),
        ("chroma", {"CTC chroma damps the accompaniment", "CTC chroma retrieves better than chroma without learning"}),
        ("cce-full-f1-s0", {"CTC is better than cross-entropy with the paper's network too"}),
        ("untrained-f1-s0", set()),
    ],
)  # fmt: skip
def test_a_claim_whose_run_is_missing_is_not_run(whole, missing, waiting):
    table = judged(placed(whole, missing=(missing,)))
    assert set(table.index[table["verdict"] == "not run"]) == waiting
    found = study.Results(whole)
    for make in TABLES:
        assert len(make(found))
    study.write_metrics(found, verdicts.table(study.KEY, study.CLAIMS, found), whole.folder / "metrics.json")


def test_half_a_grid_is_no_error(whole):
    """As it looks while the runs are being made, one by one."""
    for name in whole.runs:
        found = study.Results(whole)
        judged(found)
        place(whole, name, [2] * 12)
        if name in ("ctc-f1-s0", "cce-f4-s1"):
            for make in TABLES:
                make(study.Results(whole))


MOST = "what CTC gains over the linear alignment grows with rubato"


@pytest.mark.parametrize(
    ("text", "ranks", "ours", "verdict"),
    [
        ("CTC chroma retrieves better than the source-filter salience", {"ctc": 1, "source_filter": 2}, 0.5,
         "reproduced"),
        ("CTC chroma retrieves better than the source-filter salience", {"ctc": 4, "source_filter": 2}, -0.25,
         "contradicted"),
        ("CTC chroma retrieves better than the source-filter salience", {}, 0, "undecided"),
        ("CTC chroma retrieves better than deep salience", {"ctc": 1}, 0.5, "reproduced"),
        ("the source-filter salience retrieves better than deep salience", {"salience": 4}, 0.25, "reproduced"),
        ("CTC is better than cross-entropy on a linear alignment", {"ctc": 1}, 0.5, "reproduced"),
        ("CTC chroma retrieves better than chroma without learning", {"ctc": 1, "chroma": 4}, 0.75, "reproduced"),
        ("the weak alignment comes close to a strong one", {"strong": 2}, 0, "reproduced"),
        ("the weak alignment comes close to a strong one", {"strong": 1}, -0.5, "contradicted"),
        ("CTC is better than cross-entropy with the paper's network too", {"ctc_full": 1}, 0.5, "reproduced"),
        ("an oracle of source-filter and CTC leaves head-room", {"source_filter": 4}, 0, "contradicted"),
        ("an oracle of source-filter and CTC leaves head-room", {"source_filter": 1}, 0.5, "reproduced"),
        ("mixing both distances takes some of that head-room", {"ctc": 2}, 0.5, "reproduced"),
        ("mixing both distances takes some of that head-room", {"ctc": 1}, 0, "undecided"),
    ],
)  # fmt: skip
def test_claims_judge_planted_ranks(whole, text, ranks, ours, verdict):
    row = judged(placed(whole, **ranks)).loc[text]
    assert row["ours"] == pytest.approx(ours, abs=1e-3) and row["verdict"] == verdict


def test_claims_about_rates_damping_folds_and_rubato(data, whole):
    bent = by_quarter(report.rubato(data), 2, 1, 1, 4)
    found = placed(whole, cce=bent, ctc=1, source_filter=[1, 2, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1], salience=4)
    place(whole, "source-filter", [1] * 12, slow=2, off_theme=0.9)
    place(whole, "salience", [1] * 12, slow=1)
    place(whole, "chroma", [1] * 12, off_theme=0.2)
    table = judged(study.Results(whole))
    assert table.loc["25 Hz is better than 10 Hz for the source-filter salience"].tolist() == [0.5, "reproduced"]
    assert table.loc["25 Hz is better than 10 Hz for deep salience"].tolist() == [0, "undecided"]
    assert table.loc["CTC chroma damps the accompaniment"].tolist() == [0.3, "contradicted"]
    assert table.loc["and damps it more than the source-filter salience"].tolist() == [-0.4, "reproduced"]
    assert table.loc[MOST, "ours"] == 0.25  # of most rubato 3/4, of least 1/2
    # methods range over 0, folds over 0
    assert table.loc["test folds differ less than methods", "ours"] == 0
    assert judged(found).loc["test folds differ less than methods", "ours"] == 0.75


# -- one's own themes --------------------------------------------------------------------------------------------------


def test_themes_typed_as_names():
    notes = study.theme_from_names("R:0.5 G4:0.5 G:0.5 Eb4:2 R F#5 bb3:0.25")
    assert notes == pytest.approx(np.array([
        (0.25, 0.25, 67), (0.5, 0.25, 67), (0.75, 1.0, 63), (2.25, 0.5, 78), (2.75, 0.125, 58)]))  # fmt: skip
    assert study.theme_from_names("  c4\n\tC5  ")[:, 2].tolist() == [60, 72]
    for text in ("H4", "C4:x", "C4:0", "C4:-1", "C4:nan", "C4:inf", ":1", "4", "C4;2", "C4:1:2"):
        with pytest.raises(DuetError, match="is no note.*write notes such as"):
            study.theme_from_names(f"C4 {text}")
    for text in ("", "   ", "R", "R:2 r:1"):
        with pytest.raises(DuetError, match="no notes"):
            study.theme_from_names(text)


def midi_file(path, notes, drums=()):
    midi = pretty_midi.PrettyMIDI(resolution=960)
    midi.instruments = [pretty_midi.Instrument(0), pretty_midi.Instrument(0, is_drum=True)]
    for instrument, played in zip(midi.instruments, (notes, drums), strict=True):
        instrument.notes = [pretty_midi.Note(80, p, s, s + d) for s, d, p in played]
    midi.write(str(path))
    return path


def test_themes_in_midi_files(tmp_path):
    tune = [(0.5, 0.5, 67), (1.0, 0.5, 64), (1.5, 1.0, 72)]
    path = midi_file(tmp_path / "tune.mid", tune, drums=[(0.0, 0.1, 100)])
    assert study.theme_from_file(path) == pytest.approx(np.array(tune), abs=2e-3)
    chords = [(0.5, 0.5, 48), *tune, (1.5, 1.0, 60), (1.5, 1.0, 64)]
    assert study.theme_from_file(midi_file(tmp_path / "chords.MIDI", chords)) == pytest.approx(np.array(tune), abs=2e-3)
    held = [(0.0, 3.0, 72), (1.0, 1.0, 74)]  # a note ends where the next begins
    assert study.theme_from_file(midi_file(tmp_path / "held.mid", held)) == pytest.approx(
        np.array([(0, 1, 72), (1, 1, 74)]), abs=2e-3)  # fmt: skip
    assert study.read_theme(str(path)) == pytest.approx(np.array(tune), abs=2e-3)
    assert study.read_theme("C4 D4").shape == (2, 3)
    damaged = tmp_path / "damaged.mid"
    damaged.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DuetError, match=r"damaged\.mid: is not readable MIDI"):
        study.read_theme(str(damaged))
    with pytest.raises(DuetError, match=r"nothing\.mid: no such MIDI file"):
        study.read_theme(str(tmp_path / "nothing.mid"))
    with pytest.raises(DuetError, match="no notes"):
        study.theme_from_file(midi_file(tmp_path / "empty.mid", [], drums=[(0.0, 0.1, 40)]))


def music_xml(tempo=""):
    def note(step, duration, chord=""):
        pitch = f"<pitch><step>{step[0]}</step><octave>{step[1]}</octave></pitch>" if step else "<rest/>"
        figure = {1: "quarter", 2: "half"}[duration]
        return f"<note>{chord}{pitch}<duration>{duration}</duration><voice>1</voice><type>{figure}</type></note>"

    chord = "<chord/>"
    bar = note("", 1) + note("C4", 1) + note("E5", 1, chord=chord) + note("D5", 2)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><score-partwise version="3.1"><part-list><score-part id="P1">'
        '<part-name>Flute</part-name></score-part></part-list><part id="P1"><measure number="1"><attributes>'
        "<divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time><clef><sign>G</sign><line>2</line>"
        f"</clef></attributes>{tempo}{bar}</measure></part></score-partwise>"
    )


def test_themes_in_scores(tmp_path):
    path = tmp_path / "tune.musicxml"
    path.write_text(music_xml())
    assert study.theme_from_file(path) == pytest.approx(np.array([(0.5, 0.5, 76), (1.0, 1.0, 74)]))
    path.write_text(music_xml('<direction><direction-type><metronome><beat-unit>quarter</beat-unit><per-minute>60'
                              '</per-minute></metronome></direction-type><sound tempo="60"/></direction>'))  # fmt: skip
    assert study.read_theme(str(path)) == pytest.approx(np.array([(1.0, 1.0, 76), (2.0, 2.0, 74)]))
    path.write_text(music_xml()[:-40])
    with pytest.raises(DuetError, match=r"tune\.musicxml: "):
        study.read_theme(str(path))


THEME = np.array([(0.4, 0.4, 60), (0.8, 0.4, 64), (1.2, 0.8, 67), (2.0, 0.4, 62), (2.4, 0.8, 69)])  # 3.2 s, 80 frames


def hay(seed, frames=400):
    """Chroma of something else."""
    values = np.random.default_rng(seed).random((12, frames)).astype(np.float32)
    return values / np.linalg.norm(values, axis=0)


def hidden(seed, *starts, tempo=1.0, shift=0, frames=400):
    values = hay(seed, frames)
    needle = experiment.query_chroma(THEME, 3.2 * tempo, 25, shift)
    for start in starts:
        values[:, start : start + needle.shape[1]] = needle
    return values


def at(document, start, end, shift=0):
    """A perfect hit; a theme of long notes matches about as well without its first and last frames."""
    return study.Hit(document, pytest.approx(start, abs=0.6), pytest.approx(end, abs=0.6),
                     pytest.approx(0, abs=1e-6), shift)  # fmt: skip


def test_a_theme_is_found_where_it_sounds():
    documents = {"a": hay(1), "b": hidden(2, 100), "c": hay(3)}
    hits, skipped = study.find(THEME, documents)
    assert hits[0] == at("b", 4.0, 7.2) and skipped == []
    assert hits[1].cost > 0.1 and [h.cost for h in hits] == sorted(h.cost for h in hits) and len(hits) == 5
    table = study.hit_table(hits[:1])
    assert table.iloc[0].tolist() == ["b", round(hits[0].start, 1), round(hits[0].end, 1), 0.0, 0]
    assert list(study.hit_table([])) == list(table)
    for tempo in (0.4, 2.5):  # faster and slower than the steps allow for any one tempo
        hits, _ = study.find(THEME, {"a": hay(1), "b": hidden(2, 100, tempo=tempo)})
        assert hits[0].document == "b" and hits[0].cost < 0.02
        assert hits[0].start == pytest.approx(4.0, abs=0.6 * tempo)
        assert hits[0].end == pytest.approx(4 + 3.2 * tempo, abs=0.6 * tempo)


def test_hits_of_a_document_share_no_frame():
    hits, _ = study.find(THEME, {"a": hidden(2, 20, 250), "b": hay(1)}, count=2)
    assert sorted(hits, key=lambda hit: hit.start) == [at("a", 0.8, 4.0), at("a", 10.0, 13.2)]
    assert len(study.find(THEME, {"a": hidden(2, 20, 250), "b": hay(1)}, count=1)[0]) == 1


def test_in_any_key_a_hit_says_how_far_away_it_sounds():
    for shift, told in ((3, 3), (7, -5), (6, 6), (0, 0)):
        documents = {"a": hay(1), "b": hidden(2, 100, shift=shift)}
        hits, _ = study.find(THEME, documents, any_key=True)
        assert hits[0] == at("b", 4.0, 7.2, told)
        given, _ = study.find(THEME, documents)
        assert (given[0].cost < 1e-6) == (shift == 0) and {h.shift for h in given} == {0}


def test_a_document_that_cannot_be_searched_is_listed():
    broken = hay(4)
    broken[3, 7] = np.nan
    documents = {"nan": broken, "b": hidden(2, 100), "silent": np.zeros((12, 400), np.float32), "short": hay(5, 20)}
    hits, skipped = study.find(THEME, documents)
    assert hits[0] == at("b", 4.0, 7.2) and {h.document for h in hits} == {"b"}
    assert [line.partition(":")[0] for line in skipped] == ["nan", "silent"] and "NaN" in skipped[0]


def test_people_search_their_own_folder(toy, data, grid, records, tmp_path):
    finder = study.Finder.load(grid.weights("ctc-f1-s0"))
    folder = tmp_path / "my discs"
    (folder / "old").mkdir(parents=True)
    shutil.copy(toy.root / "data_RECORDING" / "R1.wav", folder / "one.wav")
    whole = shutil.copy(toy.root / "data_RECORDING" / "R2.wav", folder / "old" / "two.WAV")
    (folder / "broken.flac").write_bytes(b"fLaC" + bytes(50))
    (folder / "cut.wav").write_bytes(whole.read_bytes()[:9000])
    (folder / "notes.txt").write_text("no sound")
    made, skipped = finder.folder(folder)
    assert list(made) == [str(folder / "old" / "two.WAV"), str(folder / "one.wav")]
    assert [any(name in line for line in skipped) for name in ("broken.flac", "cut.wav")] == [True, True]
    assert len(skipped) == 2
    values = made[str(folder / "one.wav")]
    np.testing.assert_allclose(values, finder.chroma(data.hcqt("R1")), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(values, axis=0), 1, atol=1e-5)
    hits, _ = study.find(data.corpus.notes("0001"), made, count=1)
    sound = study.audio_of(hits[0].document, hits[0])
    assert len(sound) == pytest.approx((hits[0].end - hits[0].start) * RATE, abs=2)
    for empty in (tmp_path / "none", folder / "old" / "nowhere"):
        empty.mkdir()
        with pytest.raises(DuetError, match=r"holds no recording that can be read.*\.wav"):
            finder.folder(empty)
    shutil.copy(folder / "cut.wav", tmp_path / "none")
    with pytest.raises(DuetError, match=r"holds no recording that can be read: .*cut\.wav"):
        finder.folder(tmp_path / "none")


def test_the_finder_reads_what_the_run_read(grid, data, records):
    """Both networks, by the name that travels with the weights."""
    finder = study.Finder.load(grid.weights("untrained-f1-s0"))
    run = grid.run("untrained-f1-s0")
    made, _ = experiment.document_chroma(run, data, {}, grid.folder / "x.safetensors", grid.folder / "x.pt", False)
    np.testing.assert_array_equal(finder.chroma(data.hcqt("R4")), made["R4"])
    full = ChromaNet(1)
    for about in ({"network": "full"}, {"network": "ChromaNet", "converted_from": "x.h5"}):
        training.save_weights(full, grid.folder / "full.safetensors", about)
        assert study.Finder.load(grid.folder / "full.safetensors").model.pooling.shape == (216, 12)


def test_weights_of_another_network_are_refused(grid, tmp_path, records):
    path = tmp_path / "w.safetensors"
    with pytest.raises(DuetError, match="no such weights"):
        study.Finder.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DuetError, match=r"w\.safetensors: is not a readable safetensors file"):
        study.Finder.load(path)
    others = (
        (salience.DeepSalience(salience.SMALL), "small"),
        (ChromaNet(3), "full"),
        (ChromaNet(1), "strided"),
        (nn.Linear(2, 2), "strided"),
    )
    for model, network in others:
        training.save_weights(model, path, {"network": network})
        with pytest.raises(DuetError, match=r"w\.safetensors: does not fit"):
            study.Finder.load(path)
    with pytest.raises(DuetError, match="does not fit"):
        study.Finder.load(grid.weights("salience"))


def test_published_weights_are_small_and_read_like_the_others(grid, data, records, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "folder", tmp_path)
    original = grid.weights("ctc-f1-s0")
    assert study.weights_for(grid, 1) == original
    shipped = study.ship(grid)
    assert shipped == [tmp_path / "weights" / "ctc-f1.safetensors"] and study.weights_for(grid, 1) == shipped[0]
    assert 0.4 * original.stat().st_size < shipped[0].stat().st_size < 0.62 * original.stat().st_size
    assert training.read_about(shipped[0]) == training.read_about(original)
    small, whole = study.Finder.load(shipped[0]), study.Finder.load(original)
    assert next(small.model.parameters()).dtype == torch.float32
    np.testing.assert_allclose(small.chroma(data.hcqt("R1")), whole.chroma(data.hcqt("R1")), atol=0.02)


# -- damaged and incomplete trees --------------------------------------------------------------------------------------


@pytest.fixture
def tree(toy, workspace, monkeypatch):
    monkeypatch.setattr(experiment, "source_filter_store", lambda *_: None)  # it is slow, and reads what the HCQT reads
    return shutil.copytree(toy.root, workspace / "tree")


def cut(path, keep):
    """A copy that broke off: the header still promises the rest."""
    path.write_bytes(path.read_bytes()[: round(keep * path.stat().st_size)])


def test_missing_and_truncated_recordings_are_left_out_and_listed(tree):
    (tree / "data_RECORDING" / "R2.wav").unlink()
    cut(tree / "data_RECORDING" / "R4.wav", 0.4)
    data = study.prepare("bare", str(tree))
    assert data.documents == ["R1", "R3", "R5", "R6", "R7"] and data.kind == "recordings"
    assert data.themes == ["0001", "0002", "0004", "0005", "0008", "0009", "0010", "0011", "0012"]
    assert len(data.skipped) == 2 and "R2" in data.skipped[0] and "R4.wav" in data.skipped[1]
    assert {t: data.documents[c] for t, c in data.relevant.items()}["0012"] == "R7"
    assert experiment.distances(data, {d: harmonic.plain_chroma(data.hcqt(d)) for d in data.documents},
                                data.themes).shape == (9, 5)  # fmt: skip


def test_a_theme_that_cannot_be_read_is_left_out_and_its_recording_stays(tree):
    next((tree / "data_EDM-corr_CSV").glob("MTD0002*")).write_text("Start;Duration;Pitch\n0;1;C4\n")
    data = study.prepare("bare", str(tree))
    assert "0002" not in data.themes and len(data.themes) == 11 and len(data.documents) == 7
    assert len(data.skipped) == 1 and "MTD0002" in data.skipped[0]


@pytest.mark.parametrize("damage", ["cut behind its themes", "silent", "no numbers"])
def test_a_recording_whose_fault_shows_only_on_reading_is_left_out_too(tree, damage):
    path = tree / "data_RECORDING" / "R7.wav"
    if damage == "cut behind its themes":
        cut(path, 0.9)
    else:
        samples = np.full(8 * RATE, np.nan if damage == "no numbers" else 0.0)
        soundfile.write(path, samples, RATE, subtype="FLOAT")
    data = study.prepare("bare", str(tree))
    assert data.documents == ["R1", "R2", "R3", "R4", "R5", "R6"] and "0012" not in data.themes
    assert len(data.skipped) == 1 and "R7.wav" in data.skipped[0]


def test_without_recordings_the_excerpts_are_searched(tree):
    shutil.rmtree(tree / "data_RECORDING")
    data = study.prepare("bare", str(tree))
    assert data.kind == "excerpts" and data.documents == data.themes and len(data.themes) == 12
    assert [data.relevant[t] for t in data.themes] == list(range(12)) and data.skipped == []
    assert [data.length(t) for t in data.themes[:3]] == [75, 80, 85] and data.frames("0002") == (0, 80)
    costs = experiment.distances(data, {d: harmonic.plain_chroma(data.hcqt(d)) for d in data.documents}, data.themes)
    assert np.mean(metrics.reciprocal(experiment.ranking(data, data.themes, costs)["ranks"])) > 0.6


def test_fewer_than_five_composers_cannot_be_divided(tree):
    index = tree / "03_MTD-medium.csv"
    lines = index.read_text().splitlines()
    index.write_text("\n".join([lines[0], *(x for x in lines if ";Abel;" in x or ";Bach;" in x)]) + "\n")
    with pytest.raises(DuetError, match="2 composers cannot be divided into 5 folds"):
        study.prepare("bare", str(tree))


def test_trees_of_which_nothing_can_be_used(tree, tmp_path):
    with pytest.raises(DuetError, match="no such corpus folder"):
        study.prepare("bare", str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DuetError, match="not laid out like MTD"):
        study.prepare("bare", str(tmp_path / "empty"))
    shutil.rmtree(tree / "data_RECORDING"), shutil.rmtree(tree / "data_AUDIO")
    with pytest.raises(DuetError, match="has no theme that can be used; first: .*0001") as caught:
        study.prepare("bare", str(tree))
    assert "\n" not in str(caught.value) and caught.value.path == tree


# -- passages ----------------------------------------------------------------------------------------------------------


def test_the_passage_of_figure_3(toy):
    """G G G Eb, F F F D after a rest, in three octaves; energy off the theme is known where it was rendered."""
    passage = study.opus_67()
    assert (passage.theme[:, 2] % 12).tolist() == [7, 7, 7, 3, 5, 5, 5, 2] and passage.theme[0, 0] > 0
    chroma = harmonic.plain_chroma(harmonic.hcqt(passage.audio))
    assert 0 < passage.off_theme(chroma) < 0.6
    frames = round(experiment.notated_end(passage.theme) * 25)
    assert passage.off_theme(np.full((12, frames), 12**-0.5)) == pytest.approx(11 / 12)
    assert passage.off_theme(experiment.query_chroma(passage.theme, frames / 25, 25)) == pytest.approx(0, abs=1e-6)
    own_recording = study.opus_67(str(toy.root / "data_RECORDING" / "R1.wav"))
    assert own_recording.off_theme(chroma) is None and "R1.wav" in own_recording.name
    assert len(own_recording.audio) == 8 * RATE
