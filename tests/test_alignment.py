"""The third study: what it is made of by itself, then a run on the toy collection of conftest.py."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from duet import DuetError, runs, training
from duet.models.encoders import PAPER_PARAMETERS, TwoTowers
from duet.runs import Run
from duet.snippets import Take
from duet.studies import alignment as study
from duet.studies.alignment import aligner, experiment
from duet.studies.alignment.aligner import Alignment, Embedded, align, confidence
from duet.studies.alignment.experiment import Cutter, retrieval_ranks
from duet.studies.alignment.grid import Augmentation, Config
from duet.training import Training

torch.set_num_threads(1)  # as every run has; several would only wait for each other on a busy machine


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


# -- the grid ----------------------------------------------------------------------------------------------------------


def test_the_core_has_every_row_of_table_2_and_three_seeds_where_claims_compare():
    names = {run.name for run in study.runs("overnight", core_only=True)}
    assert {f"{key}-s0" for key in study.SETTINGS} <= names
    assert {f"{key}-s{seed}" for key in ("none", "all") for seed in range(3)} <= names
    assert {"linear", "chroma", "untrained-s0", "strong-s0"} <= names and "margin-s0" not in names
    every = [run.name for run in study.runs("overnight")]
    assert "margin-s0" in every and len(every) == len(set(every))


@pytest.mark.parametrize("preset", study.PRESETS)
def test_compared_arms_have_the_same_budget(preset):
    trained = [run.config for run in study.runs(preset) if run.config.method == "train"]
    assert len({(c.training.updates, c.training.batch) for c in trained}) == 1


# -- data --------------------------------------------------------------------------------------------------------------


def test_one_composer_is_known_and_the_others_are_tested():
    split = {"train": ["A__x__1", "A__y__1", "B__x__1"], "valid": ["A__z__1", "B__z__1"],
             "test": ["A__q__1", "B__q__1"]}  # fmt: skip
    found = experiment.one_composer(split, "A", ("A__y",))
    assert found == {"train": ["A__x__1"], "valid": ["A__z__1", "A__y__1"], "test": ["B__q__1"]}


SMALL = study.Preset(None, Training(60, 4, 40, learning_rate=3e-3, schedule="one_cycle"), "A", network="small",
                     validation=60, refinement=300, controls=False)  # fmt: skip


@pytest.fixture
def data(toy_sheets, workspace, monkeypatch):
    monkeypatch.setitem(study.PRESETS, "toy", SMALL)
    return study.prepare("toy", str(toy_sheets))


def test_performances_of_an_augmentation(data):
    name = data.splits["composer"]["train"][0]
    of = lambda **settings: [t.performance[len(name) + 1 :] for t in data.takes([name], Augmentation(**settings))]  # noqa: E731
    assert of() == ["tempo-1000_one"]
    assert of(tempi=True) == ["tempo-1000_one", "tempo-1100_one"]
    assert of(synths=2) == ["tempo-1000_one", "tempo-1000_two"]
    assert of(synths=0, tempi=True) == ["tempo-1000_one", "tempo-1000_two", "tempo-1100_one", "tempo-900_two"]
    assert data.pieces.expressive(name) == Take(name, f"{name}_tempo-1000_one-rubato")


def test_pool_is_every_onset_of_the_test_pieces(data):
    assert len(data.pool) == 4 * 40 and {pair.take.piece for pair in data.pool} == set(data.test)
    assert all("tempo-1000_one" in pair.take.performance for pair in data.pool)
    some = replace(data, preset=replace(SMALL, candidates=30))
    assert len(some.pool) == 30 and some.pool[0] == data.pool[0] and some.pool[-1] == data.pool[-1]
    assert data.fingerprint != replace(data, splits={**data.splits, "all": data.splits["composer"]}).fingerprint or (
        data.splits["all"] == data.splits["composer"]
    )


def test_a_corpus_without_the_composer_is_refused(toy_sheets, workspace, monkeypatch):
    monkeypatch.setitem(study.PRESETS, "toy", replace(SMALL, composer="C"))
    with pytest.raises(DuetError, match="for C"):
        study.prepare("toy", str(toy_sheets))
    with pytest.raises(DuetError, match="MSMD"):
        study.prepare("paper")


# -- pairs -------------------------------------------------------------------------------------------------------------


def test_only_training_is_altered(data):
    augmentation = Augmentation(scale=0.05, vertical=5, horizontal=5, jitter=True)
    cutter = Cutter(data, Config("train", SMALL.training, augmentation, network="small"))
    pairs = data.pool[5:9]
    plain = cutter.sheets(pairs), cutter.excerpts(pairs)
    assert plain[0].shape == (4, 1, 90, 100) and plain[1].shape == (4, 1, 92, 42)
    altered = [cutter.sheets(pairs, np.random.default_rng(s)) for s in (1, 1, 2)]
    assert torch.equal(altered[0], altered[1]) and not torch.equal(altered[0], altered[2])
    assert not torch.equal(plain[0], altered[0])
    assert any(not torch.equal(plain[1], cutter.excerpts(pairs, np.random.default_rng(s))) for s in range(3))
    none = Cutter(data, Config("train", SMALL.training, network="small"))
    assert torch.equal(none.sheets(pairs, np.random.default_rng(1)), plain[0])
    largest = Cutter(data, Config("train", SMALL.training, network="small", by_maximum=True)).excerpts(data.pool)
    assert float(largest.max()) == pytest.approx(1)


def test_shifts_move_the_window(data):
    pair = data.pool[45]
    low = Cutter(data, Config("train", SMALL.training, Augmentation(vertical=5)))
    image = data.pieces.get(pair.take.piece).image
    plain = torch.from_numpy(image[5:195, round(pair.column) - 100 : round(pair.column) + 100] / 255.0).float()
    shifts = set()
    for seed in range(60):
        cut = low.sheets([pair], np.random.default_rng(seed))[0, 0]
        shifts |= {d for d in range(-5, 6) if torch.equal(cut, plain[5 + d : 185 + d])}
    assert shifts == set(range(-5, 6))


def test_batches_walk_through_all_pairs_before_any_comes_again(data):
    config = Config("train", SMALL.training, network="small")
    pairs = data.pairs(data.takes(data.splits["composer"]["train"], Augmentation()))
    assert len(pairs) == 9 * 40
    cutter = Cutter(data, config)
    cutter.sheets = cutter.excerpts = lambda own, rng: own
    seen = [b[0] for epoch in range(3) for b in experiment.batches(pairs, cutter, epoch, 6)]
    first = list(itertools.chain(*seen[:9]))
    assert len(first) == len(set(first)) == 360 and set(itertools.chain(*seen[9:])) == set(first)
    assert seen[:9] != seen[9:]
    again = [b[0] for b in experiment.batches(pairs, cutter, 1, 6)]
    assert again == seen[6:12]  # an epoch starts where the one before ended, whoever made that one
    with pytest.raises(DuetError, match="fill a batch"):
        next(experiment.batches(pairs[:10], cutter, 0, 1))


def test_the_same_music_is_the_same_content(data):
    pool = data.pool
    groups = experiment.contents(data, pool)
    assert len(set(groups)) == len(pool)  # random melodies
    twice = [*pool[10:20], *pool[10:20]]
    assert len(set(experiment.contents(data, twice))) == 10


def test_ranks_by_onset_and_by_content():
    rng = np.random.default_rng(0)
    queries, candidates = unit(rng.standard_normal((700, 8))), unit(rng.standard_normal((700, 8)))
    similarity = queries @ candidates.T
    own = np.diagonal(similarity)
    expected = (similarity >= own[:, None]).sum(1)
    assert np.array_equal(retrieval_ranks(queries, candidates), expected)
    groups = rng.integers(0, 50, 700)
    for k in (0, 333, 699):
        alike = groups == groups[k]
        best = similarity[k][alike].max()
        assert retrieval_ranks(queries, candidates, groups)[k] == 1 + (similarity[k][~alike] >= best).sum()
    assert np.array_equal(retrieval_ranks(queries, candidates, np.arange(700)), expected)


# -- pieces ------------------------------------------------------------------------------------------------------------


def test_votes_by_hand():
    candidates = np.eye(4)[[0, 0, 1, 2]]
    owners = np.array([0, 0, 1, 2])
    counts = experiment.votes(np.eye(4)[[0, 1]], candidates, owners, 4, nearest=2)
    assert counts[0] >= 2 and counts[1] == 1 and counts[3] == 0 and counts.sum() == 4
    assert experiment.rank_by_votes(np.array([5, 7, 5, 0]), 1) == 1
    assert experiment.rank_by_votes(np.array([5, 7, 5, 0]), 0) == 3  # a tie counts as worse
    assert experiment.rank_by_votes(np.array([5, 7, 5, 0]), 3) == 4
    assert experiment.rank_by_votes(np.array([5, 0, 0, 0]), 1) == 4  # without a vote last, not second


def test_a_long_piece_is_favoured_by_votes_alone():
    candidates = np.eye(3)[[0] * 9 + [1]]
    owners = np.array([0] * 9 + [1])
    queries = unit(np.array([[0.5, 0.6, 0]] * 4))
    ranks = experiment.identify(queries, candidates, owners, 1, 2)
    assert ranks["raw"] == 2 and ranks["normalised"] <= ranks["raw"]


# -- places ------------------------------------------------------------------------------------------------------------


def test_an_alignment_reads_both_ways():
    found = Alignment(np.array([0.0, 2, 4, 4, 6]), np.array([0.0, 10, 10, 20, 30]))
    assert found.columns_at([0, 1, 4, 5, 6]).tolist() == [0, 5, 10, 20, 30]  # of frame 4 the first column
    assert found.frames_at([0, 10, 20, 25]).tolist() == [0, 2, 4, 5]


def warped(rng, length=120):
    vectors = unit(np.cumsum(rng.standard_normal((length, 16)), 0))
    places = np.sort(rng.integers(0, length, 2 * length))
    places[[0, -1]] = 0, length - 1
    return Embedded(vectors, 10.0 * np.arange(length)), Embedded(vectors[places], 2.0 * np.arange(2 * length)), places


def test_a_known_warp_is_found_and_trusted():
    rng = np.random.default_rng(3)
    sheet, recording, places = warped(rng)
    found = align(sheet, recording)
    assert found.cost == pytest.approx(0, abs=0.02)
    assert np.abs(found.columns_at(recording.places) - 10 * places).mean() < 10
    other, _, _ = warped(rng)
    assert confidence(sheet, recording) > 2 * abs(confidence(other, recording))


def test_windows_reach_from_end_to_end():
    model = TwoTowers(aligner.NETWORKS["small"].maps).eval()
    sheet = aligner.embed_strip(model, aligner.NETWORKS["small"], np.full((200, 1234), 255, np.uint8))
    assert sheet.places[0] == 0 and sheet.places[-1] == 1233 and len(sheet.places) == 123
    recording = aligner.embed_recording(model, np.random.default_rng(0).random((92, 301), np.float32))
    assert recording.places[0] == 0 and recording.places[-1] == 300 and len(recording.places) == 150
    assert np.linalg.norm(recording.vectors, axis=1) == pytest.approx(np.ones(150), abs=1e-5)


def test_errors_by_hand(data):
    name = data.test[0]
    take = data.pieces.fixed(name)
    frames, columns = data.pieces.get(name).pairs(take.performance)
    right = Alignment(frames.astype(float), columns)
    assert set(experiment.errors(data, take, right)["pixels"]) == {0}
    late = experiment.errors(data, take, Alignment(frames + 4.0, columns))
    assert late["milliseconds"] == [200] * 40
    shifted = experiment.errors(data, take, Alignment(frames.astype(float), columns + 7))
    assert shifted["pixels"] == [7] * 40


def test_chroma_of_a_tone_and_of_notes():
    from duet.filterbank import log_filterbank

    tone = np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050).astype(np.float32)
    assert set(experiment.chroma_of_bands(log_filterbank(tone))[:, :18].argmax(0)) == {9}
    chroma = experiment.chroma_of_notes(np.array([[0.0, 60, 1.0, 64, 0], [0.5, 67, 0.5, 64, 0]]), 30)
    assert chroma[:, 2].argmax() == 0 and chroma[7, 12] == pytest.approx(chroma[0, 12]) and np.ptp(chroma[:, 25]) == 0
    assert np.linalg.norm(chroma, axis=0) == pytest.approx(np.ones(30))


def test_the_upper_bound_follows_a_tempo_curve(data):
    take = data.pieces.expressive(data.test[0])
    found = experiment.errors(data, take, experiment.upper_bound(data, take))
    assert np.median(found["milliseconds"]) <= 100 and np.median(found["pixels"]) < 20


# -- a run -------------------------------------------------------------------------------------------------------------


def test_a_run_learns_and_repeats(data, tmp_path):
    config = Config("train", SMALL.training, replace(study.SETTINGS["all"][1], synths=2), network="small", whole=True)
    made = [
        study.execute(Run("all-s0", config), data, {}, tmp_path / f"{k}.safetensors", tmp_path / f"{k}.pt")
        for k in range(2)
    ]
    assert json.dumps(made[0]) == json.dumps(made[1])
    result = made[0]
    assert result["trainable"] == 2 * PAPER_PARAMETERS and result["performances"] == 9 * 4
    ranks = result["test"]["refined"]["audio to sheet"]
    assert len(ranks) == result["test"]["candidates"] == 160 and np.median(ranks) < 40  # chance is 80
    whole = result["whole"]["tempo curve"]
    assert whole["pieces"] == data.test and all(1 <= r <= 4 for r in whole["raw"])
    assert sorted(whole["alignment"])[:3] == [1, 1, 1]  # of four pieces of one length
    line = study.execute(Run("linear", Config("linear", whole=True)), data, {}, tmp_path / "l", tmp_path / "l.pt")
    straight = line["whole"]["tempo curve"]
    assert np.median(sum(whole["milliseconds"], [])) < np.median(sum(straight["milliseconds"], []))


def test_without_a_cca_layer_nothing_is_refined(data, tmp_path):
    short = replace(SMALL.training, updates=2, epochs=1)
    run = Run("strong-s0", Config("train", short, network="dense", loss="infonce"))
    result = study.execute(run, data, {}, tmp_path / "a.safetensors", tmp_path / "a.pt")
    assert "plain" not in result["test"] and len(result["test"]["refined"]["sheet to audio"]) == 160
    assert result["trainable"] == 2 * PAPER_PARAMETERS + 32 * 32 * (5 * 6 + 5 * 2) + 2 * 32
    assert result["loss"][0] > 2  # a cross-entropy, which a ranking loss of cosines cannot be


def test_a_killed_run_ends_like_an_undisturbed_one(data, tmp_path, monkeypatch):
    short = replace(SMALL.training, updates=8, epochs=4)
    run = Run("none-s0", Config("train", short, network="small"))
    whole = study.execute(run, data, {}, tmp_path / "a.safetensors", tmp_path / "a.pt")
    train = training.train
    monkeypatch.setattr(training, "train", lambda *a, **k: train(*a, **k, stop_after=2))
    study.execute(run, data, {}, tmp_path / "b.safetensors", tmp_path / "b.pt")
    monkeypatch.setattr(training, "train", train)
    assert study.execute(run, data, {}, tmp_path / "b.safetensors", tmp_path / "b.pt") == whole


def test_a_record_of_the_toy(toy_sheets, workspace, monkeypatch):
    monkeypatch.setitem(study.PRESETS, "toy", SMALL)
    monkeypatch.setattr(study, "runs", lambda preset, core_only=False: [Run("chroma", Config("chroma", whole=True))])
    record = runs.make("alignment", "toy", "chroma", str(toy_sheets))
    assert record["corpus"] == "MSMD" and set(record["result"]["whole"]) == {"strict", "tempo curve"}
