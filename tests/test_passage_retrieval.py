"""The second study: what it is made of by itself, then runs on the toy collection of conftest.py."""

import copy
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from duet import DuetError, training
from duet.models.encoders import in_batches
from duet.models.passage import HALF, snippet_model
from duet.runs import Run
from duet.snippets import evenly, require, shortest
from duet.studies import passage_retrieval as study
from duet.studies.passage_retrieval import experiment
from duet.studies.passage_retrieval.grid import Config
from duet.training import Outcome, Training, load_into, load_weights

torch.set_num_threads(1)  # as every run has; several would only wait for each other on a busy machine

SMALL = study.Preset(
    None,
    Training(6, 2, 40, learning_rate=2e-3, schedule="one_cycle", optimiser="adamw"),
    Training(10, 2, 12, learning_rate=3e-3, schedule="one_cycle", clip=0.5, optimiser="adamw"),
    split="all_split",
    validation=60,
    refinement=100,
    controls=False,
)


@pytest.fixture(scope="module")
def prepared(toy_sheets, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUET_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setitem(study.PRESETS, "toy", SMALL)
        yield study.prepare("toy", str(toy_sheets))


@pytest.fixture
def data(prepared):
    own = copy.copy(prepared)
    own.split = {part: [*pieces] for part, pieces in prepared.split.items()}
    own.__post_init__()
    return own


# -- the grid ----------------------------------------------------------------------------------------------------------


def test_the_core_has_the_papers_models_and_the_seeds_that_claims_compare():
    runs = {run.name: run for run in study.runs("overnight", core_only=True)}
    arms = ("snippet", "rnn", "rnn-ft-cca", "fixed-gru", "rnn-fz", "rnn-fz-cca")
    assert {f"{arm}-s{seed}" for arm in arms for seed in range(3)} <= set(runs)
    assert {"rnn-ft-s0", "rnn-d16-s0", "rnn-d256-s0", "rnn-full-s0", "untrained-s0"} <= set(runs)
    assert "mean-s0" not in runs and "mean-s0" in {run.name for run in study.runs("overnight")}
    assert runs["rnn-ft-cca-s1"].parents == ("snippet-s1",) and runs["rnn-s1"].parents == ()


@pytest.mark.parametrize("preset", study.PRESETS)
def test_passage_models_have_one_budget(preset):
    trained = [run.config.training for run in study.runs(preset) if run.config.method == "passage"]
    assert len(set(trained)) == 1


# -- data --------------------------------------------------------------------------------------------------------------


def test_without_another_edition_every_condition_has_the_same_systems(data):
    own = [[(p.piece, p.system) for p in data.test(condition)] for condition in study.CONDITIONS]
    assert own[0] == own[1] == own[2] and len(own[0]) == 4 * 2
    clean, scan = (np.asarray(data.image(data.split["test"][0], c)) for c in ("I", "II"))
    assert clean.shape == scan.shape and not np.array_equal(clean, scan)
    first = data.test("III")[0]
    assert data.sound(first, "III").shape[0] == 92
    assert first.performance.endswith("-rubato") and not data.test("I")[0].performance.endswith("-rubato")


def test_scans_have_the_lines_of_the_other_edition(data):
    """Of which the first piece has one, with all its notes on one line."""
    piece = data.split["test"][0]
    scan, get = data.scans.get(piece), data.scans.get
    data.scans = copy.copy(data.scans)
    one_line = replace(scan, edges=scan.edges[[0, -1]], owners=np.zeros_like(scan.owners))
    data.scans.get = lambda name: one_line if name == piece else get(name)
    lines = {c: [p for p in data.test(c) if p.piece == piece] for c in study.CONDITIONS}
    assert [len(lines[c]) for c in study.CONDITIONS] == [2, 1, 1]
    first, last = lines["I"]
    assert lines["II"][0].frames == (first.frames[0], last.frames[1])
    assert lines["II"][0].columns == (first.columns[0], last.columns[1])
    assert lines["III"][0].performance.endswith("-rubato") and lines["III"][0].system == 0


def test_tempi_are_the_nearest_renderings(data):
    piece = data.split["train"][0]
    data.split["test"] = [piece]
    of = lambda tempo: {p.performance[len(piece) + 1 :] for p in data.at_tempo(tempo)}  # noqa: E731
    assert of(1.0) == {"tempo-1000_one"} and of(0.5) == {"tempo-1100_one"} and of(2.0) == {"tempo-1000_one"}


def test_renderings_of_a_system_never_meet(data):
    config = Config("passage", SMALL.passages)
    seen = set()
    for batch in experiment.passage_batches(data, config, 0, 30):
        systems = [(p.piece, p.system) for p in batch]
        assert len(set(systems)) == len(systems) == 12
        seen |= {p.performance for p in batch}
    assert len(seen) == 9 * 4  # every rendering of every training piece comes up, none with a tempo curve
    together = [
        len({(p.piece, p.system) for p in batch}) < 12
        for batch in experiment.passage_batches(data, replace(config, grouped=False), 0, 30)
    ]
    assert any(together)
    with pytest.raises(DuetError, match="fill a batch"):
        next(experiment.passage_batches(data, replace(config, training=replace(SMALL.passages, batch=19)), 0, 1))


def test_ranks_both_ways():
    scores = np.array([[0.9, 0.1, 0.95], [0.2, 0.8, 0.1], [0.3, 0.4, 0.5]])  # sounds by sheets
    found = experiment.both_ways(scores)
    assert found == {"audio to sheet": [2, 1, 1], "sheet to audio": [1, 1, 2]}


def test_pages_and_sounds_are_read_once(data):
    """II and III have one page, each condition its own sound; a page is the same at every tempo."""
    made = []

    def make(own, condition):
        made.append([(p.performance.rpartition("_")[2], condition) for p in own])
        return [np.array([len(made), k]) for k in range(len(own))]

    vectors = experiment.Once(make, make)
    own, lively = data.test("I"), data.test("III")
    pages = vectors.pages(own)
    assert len(made) == 1 and [v.tolist() for v in pages] == [[1, k] for k in range(8)]
    assert [v.tolist() for v in vectors.pages(lively)] == [v.tolist() for v in pages] and len(made) == 1
    scans = vectors.pages(own, "II")
    assert len(made) == 2 and [*map(id, vectors.pages(lively, "III"))] == [*map(id, scans)]
    sounds = vectors.sounds(own)
    assert len(made) == 3 and [*map(id, vectors.sounds(own))] == [*map(id, sounds)]
    assert vectors.sounds(own, "II")[0][0] == 4  # system k of another edition is other music
    assert vectors.sounds(lively, "III")[0][0] == 5 and made[4][0] == ("one-rubato", "III")
    three = experiment.Once(lambda own, _: [p.system for p in own], make).pages([own[1], own[0], own[1]])
    assert three == [1, 0, 1]


def test_what_is_read_once_is_what_is_cut(data, snippet):
    """Snippet vectors are those of the model, and a frozen encoder's are joined in the passages' order."""
    _, weights = snippet
    model = snippet_model(HALF)
    load_into(model, weights)
    model.eval()
    own = data.test("I")[:3]
    pictures, counts = experiment.sheets(data, own, "II")
    expected = in_batches(model, model.sheet, pictures)
    vectors, lengths = experiment.Reader(data, model).sheets(own, "II")
    assert lengths == counts and np.allclose(vectors, expected, atol=1e-5)
    parts = experiment.snippet_vectors(model, data, model.embed_sheet, model.embed_audio).sounds(own)
    excerpts, counts = experiment.sounds(data, own)
    assert [len(p) for p in parts] == counts
    assert np.allclose(np.concatenate(parts), in_batches(model, model.embed_audio, excerpts), atol=1e-5)


def test_evenly_spaced_items():
    assert evenly(range(10), 4) == [0, 3, 6, 9] and evenly(range(3), 4) == evenly(range(3), 0) == [0, 1, 2]


def test_only_the_shortest_pieces_are_tested(data, toy_sheets, monkeypatch):
    every = data.split["test"]
    widths = {name: 100 - k for k, name in enumerate(every)}
    with monkeypatch.context() as patched:
        patched.setattr(data.pieces, "get", lambda name: SimpleNamespace(image=np.zeros((1, widths[name]))))
        assert shortest(data.pieces, every, 2) == every[-2:] and shortest(data.pieces, every, 0) == every
    monkeypatch.setitem(study.PRESETS, "toy", replace(SMALL, tested=2))
    assert len(study.prepare("toy", str(toy_sheets)).test("I")) == 4


def test_a_split_without_a_part_is_refused(data):
    with pytest.raises(DuetError, match="has no valid piece by A that can be used"):
        require(data.corpus, {**data.split, "valid": []}, " by A")


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def snippet(prepared, tmp_path_factory):
    data, tmp_path = prepared, tmp_path_factory.mktemp("snippet")
    config = Config("snippet", SMALL.snippets, margin=0.6)
    weights = tmp_path / "snippet.safetensors"
    return study.execute(Run("snippet-s0", config), data, {}, weights, tmp_path / "snippet.pt"), weights


def test_snippets_vote(data, snippet):
    result, weights = snippet
    assert set(result["test"]) == {"plain", "I", "II", "III", "voters", "tempi"}
    assert set(result["test"]["voters"]) == {"1", "5", "25", "100"}
    assert result["test"]["voters"]["25"] == result["test"]["I"]
    assert result["items"]["candidates"] == [8, 8, 8] and len(result["test"]["I"]["audio to sheet"]) == 8
    assert weights.exists() and experiment.refined(weights).exists()


def test_snippets_that_were_not_trained_through_projections_vote_without(data, tmp_path):
    config = Config("snippet", SMALL.snippets, loss="infonce", cca_in_training=False)
    weights = tmp_path / "snippet.safetensors"
    result = study.execute(Run("snippet-s0", config), data, {}, weights, tmp_path / "snippet.pt")
    assert set(result["test"]) == {"refined", "I", "II", "III", "voters", "tempi"}
    plain, many = load_weights(weights), load_weights(experiment.refined(weights))
    assert torch.equal(plain["cca.matrix_1"], torch.eye(32).double()) and not plain["cca.mean_2"].any()
    assert all(torch.equal(plain[k], many[k]) for k in plain if not k.startswith("cca."))
    assert not torch.allclose(many["cca.matrix_1"], plain["cca.matrix_1"])
    # one of the two tables of ranks is of the one projection, and one of the other
    model = experiment.snippet_model(experiment.WIDTHS["half"], cca_in_training=False)
    load_into(model, weights)
    model.eval()
    assert {k: experiment.voted(model, data, True)[k] for k in ("I", "III")} == {
        k: result["test"][k] for k in ("I", "III")
    }
    load_into(model, experiment.refined(weights))
    assert experiment.voted(model, data, False) == result["test"]["refined"]


def test_a_passage_model_learns_and_repeats(data, tmp_path):
    run = Run("rnn-s0", Config("passage", SMALL.passages))
    made = [study.execute(run, data, {}, tmp_path / f"{k}.safetensors", tmp_path / f"{k}.pt") for k in range(2)]
    assert json.dumps(made[0]) == json.dumps(made[1])
    assert made[0]["loss"][-1] < made[0]["loss"][0] and len(made[0]["distances"]) == 8
    assert made[0]["passages"] == {"train": 18, "valid": 2}
    assert set(made[0]["test"]["tempi"]) == {"0.5", "0.66", "1", "1.33", "2"}


@pytest.mark.parametrize("start", ["plain", "refined"])
def test_frozen_encoders_are_read_from_the_parent(data, snippet, tmp_path, start):
    _, weights = snippet
    config = Config("passage", replace(SMALL.passages, updates=4), start=start, frozen=True)
    result = study.execute(
        Run("rnn-fz-s0", config, ("snippet-s0",)), data, {"snippet-s0": weights}, tmp_path / "fz", tmp_path / "fz.pt"
    )
    # no encoder is trained: two GRUs and two layers
    assert result["trainable"] == 2 * (62_208 + 8_256) and "tempi" not in result["test"]


def test_fine_tuning_starts_from_the_parent(data, snippet, tmp_path, monkeypatch):
    _, weights = snippet
    started = {}

    def train(model, *_, **__):
        started.update({k: v.clone() for k, v in model.state_dict().items()})
        return Outcome([1.0], [1.0], 0)

    monkeypatch.setattr(training, "train", train)
    config = Config("passage", SMALL.passages, start="refined")
    study.execute(
        Run("ft", config, ("snippet-s0",)), data, {"snippet-s0": weights}, tmp_path / "ft", tmp_path / "ft.pt"
    )
    parent = load_weights(experiment.refined(weights))
    assert all(torch.equal(started[k], v.to(started[k].dtype)) for k, v in parent.items())
    assert not torch.equal(load_weights(weights)["cca.matrix_1"], parent["cca.matrix_1"])
