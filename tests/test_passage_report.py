"""The second study's report: scores by hand from records by hand, tables, claims, and what its figures are drawn from.

The collection has no files: each test piece has as many systems as :data:`TEST` says, a note every half a second, four
to a system, white strips and spectrograms of noise.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pandas as pd
import pytest

from duet import files, paths, plots, published, runs, studies, synthesis, tables, verdicts
from duet.models.passage import PAPER_PARAMETERS
from duet.snippets import Piece, Pieces
from duet.studies import passage_retrieval as study
from duet.studies.passage_retrieval import report
from duet.studies.passage_retrieval.experiment import DIRECTIONS, Data
from duet.verdicts import Estimate

matplotlib.use("Agg")

TEST = {"B__long__1": 6, "B__short__1": 2, "Traditional__tune__1": 4}  # piece -> its systems
OTHERS = {"A__x__1": 5, "A__y__1": 3}  # training and validation
COUNT = sum(TEST.values())
AUDIO, SHEET = DIRECTIONS


def toy_piece(name, systems):
    """The tempo curve makes each piece a third longer; training pieces have a second, slower rendering."""
    count = 4 * systems
    takes = {"tempo-1000_one": 1.0, "tempo-1000_one-rubato": 4 / 3, "tempo-500_one": 0.5, "tempo-1500_one": 1.5}
    seconds = 0.5 * np.arange(count)
    onsets = np.array([ratio * seconds for ratio in takes.values()])
    edges = np.arange(systems + 1) * 200
    image = np.full((200, edges[-1]), 255, np.uint8)
    owners = np.arange(count) // 4
    columns = edges[owners] + 30.0 + 40 * (np.arange(count) % 4)
    return Piece(
        name, image, edges, columns, 60 + np.arange(count), owners, onsets, tuple(f"{name}_{t}" for t in takes)
    )


class Shelf(Pieces):
    """Pieces that are in memory; a second of silence ends each."""

    def __init__(self, corpus):
        self.corpus = corpus
        self.known = {name: toy_piece(name, count) for name, count in (TEST | OTHERS).items()}
        self.get = self.known.__getitem__

    def spectrogram(self, piece, performance):
        last = np.nanmax(self.get(piece).seconds(performance))
        return np.random.default_rng(1).random((92, int(np.ceil(last * 20)) + 20), np.float32)


class Corpus:
    """What Data asks of Msmd: notes of a fifth of a second."""

    name, fingerprint, root, description = "toy", "toy", Path("toy"), {}

    def has_other_edition(self, piece):
        return False

    def notes(self, piece, performance):
        own = toy_piece(piece, (TEST | OTHERS)[piece])
        return np.array([(s, p, 0.2, 64, 0) for s, p in zip(own.seconds(performance), own.pitches, strict=True)])


class Grid(runs.Grid):
    """Its records are in memory."""

    def __init__(self, *of):
        super().__init__(*of)
        self.placed = {}

    def find(self, name):
        return self.placed.get(name)


@pytest.fixture
def grid(workspace, monkeypatch):
    """A grid of every arm without any record."""
    toy = replace(study.PRESETS["overnight"], corpus=None)
    monkeypatch.setitem(study.PRESETS, "toy", toy)
    corpus = Corpus()
    made = Grid(study.KEY, "toy")
    split = {"train": ["A__x__1"], "valid": ["A__y__1"], "test": [*TEST]}
    made._data = Data(corpus, Shelf(corpus), split, toy, {})
    made._data.scans = made._data.pieces
    return made


def both(there, back=None):
    """Ranks in both directions; a number stands for every passage."""
    full = lambda ranks: list(ranks) if isinstance(ranks, (list, np.ndarray)) else [ranks] * COUNT  # noqa: E731
    return {AUDIO: full(there), SHEET: full(there if back is None else back)}


def place(grid, name, ranks=3, back=None, distances=None, **where):
    """A record by hand; ``where``: ranks of one of II, III, slow (half the tempo), other (projections),
    one (a single voter)."""
    config = grid.runs[name].config
    of = lambda key: both(where[key]) if key in where else both(ranks, back)  # noqa: E731
    test = {condition: of(condition) for condition in study.CONDITIONS}
    if config.method == "snippet":
        other = "plain" if config.cca_in_training else "refined"
        test |= {other: {"I": of("other")}, "voters": {str(k): of("one" if k == 1 else "I") for k in (1, 5, 25, 100)}}
    if config.method == "snippet" or (config.start == "" and config.summariser == "gru" and config.dimensions == 64):
        test["tempi"] = {f"{t:g}": of("slow" if t == 0.5 else "I") for t in study.TEMPI}
    result = {"test": test}
    if config.method != "snippet":
        result["distances"] = [0.5] * COUNT if distances is None else list(distances)
    if config.training:
        result |= {"loss": [2.0, 1.0], "validation": [0.9, 0.8], "best_epoch": 1}
    config = json.loads(json.dumps(asdict(config)))
    grid.placed[name] = {"name": name, "config": config, "result": result, "provenance": {"cpu_seconds": 1.0}}


def placed(grid, missing=(), **of_arms):
    """Results of a grid whose every run but ``missing`` was made; ``of_arms``: what an arm's records say."""
    for name in grid.runs:
        if name not in missing:
            place(grid, name, **of_arms.get(name.rpartition("-s")[0].replace("-", "_"), {}))
    return study.Results(grid)


# -- scores ------------------------------------------------------------------------------------------------------------

UNEVEN = [1] * 6 + [2, 4] + [30] * 4  # by piece: long, short, tune


def test_scores_by_hand(grid):
    found = placed(grid, rnn={"ranks": UNEVEN, "back": 7, "III": 10})

    def score(measure, direction=AUDIO, where="I"):
        return found.estimate("rnn", measure, report.one(direction, where)).value

    assert score("R@1") == 50 and score("R@5") == pytest.approx(100 * 8 / 12) and score("R@25") == score("R@5")
    assert score("MRR") == pytest.approx((6 + 0.5 + 0.25 + 4 / 30) / 12) and score("MR") == 1.5
    assert score("MRR", SHEET) == pytest.approx(1 / 7) and score("MR", where="III") == 10
    estimate = found.estimate("rnn", "MRR", report.one(AUDIO, "I"))
    assert estimate.n == 3 and estimate.seeds == 3
    assert estimate.low == pytest.approx(1 / 30, abs=1e-6) and estimate.high == pytest.approx(1, abs=1e-6)  # one piece
    cells = report.mean_of([(AUDIO, "I"), (SHEET, "I")])
    assert found.estimate("rnn", "MRR", cells).value == pytest.approx((score("MRR") + 1 / 7) / 2)
    lost = ((1.0, AUDIO, "III"), (-1.0, AUDIO, "I"))
    assert found.estimate("rnn", "MRR", lost).value == pytest.approx(0.1 - score("MRR"))  # below 0
    assert found.estimate("rnn", "MRR", report.one(AUDIO, "voters/1")) is None


def test_seeds_vary_in_a_mean_over_cells_as_a_whole(grid):
    """All cells of a training rise and fall together: their mean is no surer than one of them."""
    placed(grid)
    for seed, ranks in enumerate((2, 4, 8)):
        place(grid, f"rnn-s{seed}", ranks=ranks, back=ranks + 0.1, II=ranks + 0.2, III=ranks + 0.3)
    found = study.Results(grid)
    one, every = (
        found.estimate("rnn", "MRR", cells) for cells in (report.one(AUDIO, "I"), report.mean_of(report.CELLS))
    )
    assert one.value == pytest.approx(7 / 24) and every.value == pytest.approx(one.value, abs=0.02)
    assert every.high - every.low == pytest.approx(one.high - one.low, rel=0.3) and one.high > 0.5


def test_arms_that_differ_have_draws_that_differ(grid):
    """Two arms of one mean, whose trainings vary as much: their difference varies more than either."""
    placed(grid)
    for seed, (ranks, others) in enumerate(((2, 4), (4, 2), (8, 8.5))):
        place(grid, f"rnn-s{seed}", ranks=ranks)
        place(grid, f"fixed-gru-s{seed}", ranks=others)
    found = study.Results(grid)
    cells = report.one(AUDIO, "I")
    own, difference = found.estimate("rnn", "MRR", cells), found.difference("rnn", "fixed-gru", "MRR", cells)
    assert difference.high - difference.low > 1.1 * (own.high - own.low)


def test_chance(grid):
    found = study.Results(grid)
    assert found.chance("MR") == 6.5 and found.chance("R@1") == pytest.approx(100 / 12) and found.chance("R@25") == 100
    assert found.chance("MRR") == pytest.approx(sum(1 / k for k in range(1, 13)) / 12)


def test_every_condition_and_tempo_counts_its_own_passages(grid):
    """All have the same systems; III lasts a third longer."""
    data = grid.data()
    assert [len(data.test(c)) for c in study.CONDITIONS] == [12, 12, 12]
    assert data.test("III")[0].seconds == pytest.approx(4 / 3 * 2, abs=0.06) and data.test("I")[0].seconds == 2
    assert (
        report.rendered(data, 2.0) == "2" and report.rendered(data, 0.5) == "0.67" and report.rendered(data, 1) == "1"
    )


@pytest.mark.parametrize(
    ("arms", "missing", "expected"),
    [
        ({"rnn": {"ranks": 1}, "untrained": {"ranks": 6}}, (), True),
        ({"rnn": {"ranks": 1, "back": 6}, "untrained": {"ranks": 6}}, (), False),  # one way only
        ({"rnn": {"ranks": 1}, "untrained": {"ranks": 1}}, (), False),
        ({"rnn": {"ranks": 4}, "untrained": {"ranks": 12}}, (), False),  # better than random weights, not than chance
        ({"rnn": {"ranks": UNEVEN}, "untrained": {"ranks": 6}}, (), False),  # better, but not surely
        ({"rnn": {"ranks": 1}, "untrained": {"ranks": 6}}, ("untrained-s0",), False),
        ({"rnn": {"ranks": 1}, "untrained": {"ranks": 6}}, ("rnn-s0", "rnn-s1", "rnn-s2"), False),
    ],
)
def test_a_model_has_learned_that_beats_random_weights_and_chance(grid, arms, missing, expected):
    assert placed(grid, missing, **arms).learned() is expected


# -- tables ------------------------------------------------------------------------------------------------------------

TABLES = (
    study.table_2,
    study.table_3,
    study.table_voters,
    study.table_differences,
    study.table_controls,
    study.figure_3,
)


def test_every_table_stands_without_any_run(grid, tmp_path):
    found = study.Results(grid)
    for make in TABLES:
        table = make(found)
        assert list(table)[-7:] == list(tables.MEASURES) and (table["corpus"] == "toy").all()
        given = table["model"] == report.ARMS["chance"] if "model" in table else np.zeros(len(table), bool)
        assert table.loc[~given, "ours"].isna().all() and table.loc[given, "ours"].notna().all()
        tables.write(table, tmp_path / "table.csv")
    assert "not run" in tables.ours(study.table_2(found), "model", ["direction", "measure"], 3).to_string()
    assert study.figure_4(found).empty and study.figure_4_read(study.figure_4(found))["passages"].sum() == 0
    assert plots.scattered(study.figure_4(found), "seconds", "distance", "rank", ("", "")).axes
    assert study.called_out(study.table_chance(found)) == "No model has been made."
    assert (found.run_table("1 - MRR")["1 - MRR"] == "not run").all() and study.curves(found).empty
    plots.plt.close("all")


def test_every_table_stands_with_all_runs(grid, tmp_path):
    found = placed(grid, snippet={"one": 2, "other": 5})
    for make in TABLES:
        table = make(found)
        assert table.drop_duplicates(list(table)[:-7]).shape == table.shape  # a row is a cell
        assert table["ours"].notna().all() and (table["low"] <= table["ours"] + 1e-4).all()
        tables.write(table, tmp_path / "table.csv")
    two = study.table_2(found).set_index(["condition", "model", "direction", "measure"])
    assert two.loc[("I", "RNN-FT-CCA", SHEET, "MRR"), ["paper", "candidates"]].tolist() == [0.734, 12]
    assert two.loc[("III", "BL", AUDIO, "MR"), ["paper", "ours"]].tolist() == [29, 3]
    assert two["paper"].notna().sum() == 3 * 6 * 2 * 5
    assert np.isnan(two.loc[("I", "BL", AUDIO, "R@5"), "paper"])
    assert np.isnan(two.loc[("II", report.ARMS["untrained"], AUDIO, "MRR"), "paper"])
    three = study.table_3(found).set_index(["model", "direction", "times as fast"])
    assert three.loc[("BL", SHEET, 0.5), ["paper", "rendered"]].tolist() == [0.54, "0.67"]
    votes = study.table_voters(found).set_index(["voters", "direction", "measure"])["ours"]
    assert votes.loc[(1, AUDIO, "MRR")] == 0.5 and votes.loc[(100, AUDIO, "MRR")] == pytest.approx(1 / 3, abs=1e-4)
    sizes = study.figure_3(found)
    assert sorted(set(sizes["dimensions"])) == [16, 64, 256] and sizes["paper"].dropna().tolist() == [0.627, 0.67]
    last = study.table_controls(found).set_index(["model", "direction", "measure"])["ours"]
    assert last.loc[("BL, projections of many pairs", AUDIO, "MR")] == 5
    differences = study.table_differences(found).set_index(["MRR of", "minus", "condition", "direction"])["paper"]
    assert differences.loc[("RNN", "BL", "II", SHEET)] == 0.048
    assert set(study.curves(found)["panel"]) == {"snippets (BL)", "models", "controls"}
    shown = tables.by_measure(
        study.table_2(found).query("direction == 'audio to sheet'"), ["condition", "model"], study.DIGITS
    )
    assert list(shown) == ["R@1", "R@5", "R@10", "R@25", "MRR", "MR"]
    assert shown.loc[("I", "BL")].tolist() == [
        "47.6 | 0.0", "- | 100.0", "81.7 | 100.0", "90.8 | 100.0", "0.592 | 0.333", "1 | 3"]  # fmt: skip


def test_one_run_is_missing(grid):
    found = placed(grid, missing=("rnn-ft-s0",))
    two = study.table_2(found)
    assert set(two.loc[two["ours"].isna(), "model"]) == {"RNN-FT"}
    waiting = verdicts.table(study.KEY, study.CLAIMS, found).query("verdict == 'not run'")["claim"]
    assert set(waiting) == {
        "pre-training that is fine-tuned helps",
        "refined projections help the fine-tuned model",
        "fine-tuned with refined projections is best in every condition and direction",
        "sheet to audio is better than audio to sheet",
        "and so it is for every model in every condition",
    }
    assert study.trainings(found)["pre-training that is fine-tuned helps"] is None


def test_who_is_not_ten_times_above_chance_is_called_out(grid):
    found = placed(grid)
    said = study.called_out(study.table_chance(found))
    assert said.startswith("NOT an order of magnitude above chance (times chance): BL (1.3 and 1.3), RNN (1.3 and 1.3)")
    assert "2.586 among 12 candidates" in said
    table = study.table_chance(found)
    fine = table.assign(**{"10 times": "yes"})
    assert study.called_out(fine) == "Every model that was made is an order of magnitude above chance."
    part = table.assign(**{"10 times": ["no", *["yes"] * (len(table) - 1)]})
    assert "chance (times chance): BL (1.3). 10 times" in study.called_out(part)


def test_table_1_counts_the_papers_parameters():
    for preset in ("smoke", "paper"):
        table = study.table_1(preset).set_index("layer")
        assert table.loc["the model, both sides", "sheet, parameters"] == PAPER_PARAMETERS["passage"] == 834_832
        for side in ("sheet", "audio"):
            counts = table[f"{side}, parameters"]
            assert counts["the encoder"] == PAPER_PARAMETERS[side] == counts.iloc[1:6].sum()
            assert counts["GRU(128)"] == PAPER_PARAMETERS["gru"]
        assert table.loc["input", ["sheet", "audio"]].tolist() == ["1 x 80 x 90", "1 x 92 x 20"]
        assert table.iloc[4][["sheet", "audio"]].tolist() == ["96 x 5 x 5", "96 x 5 x 1"]
        assert (table["sheet, ours"].dropna() == table["sheet, parameters"].dropna()).all() == (preset == "paper")


def test_the_tables_that_need_no_runs(grid):
    data = grid.data()
    table = study.data_table(data).set_index("part")
    assert table.loc["test", ["pieces", "systems", "passages", "passages, paper"]].tolist() == [3, 12, 12, 534]
    assert table.loc["train", ["passages", "passages of all renderings"]].tolist() == [5, 15]  # none with a tempo curve
    assert table.loc["train", "seconds, median"] == 2 and table.loc["train", "above 10 s"] == 0
    conditions = study.conditions_table(data).set_index("condition")
    assert conditions["candidates"].tolist() == [12, 12, 12]
    assert [word in conditions.loc["III", "what it is"] for word in ("stand-in", "bent tempo")] == [True, True]
    assert "stand-in" in conditions.loc["II", "what it is"] and "3 pieces" in conditions.loc["III", "played on"]
    said = study.candidates_note(data)
    assert said.startswith("12 test passages of 3 pieces, 4.0 a piece; in the paper 534 of 94, 5.7 a piece.")
    data.skipped["B__lost__1"] = "damaged"
    data.pieces.known["B__short__1"] = replace(
        data.pieces.get("B__short__1"), onsets=data.pieces.get("B__short__1").onsets * [1, 1, 1, 1, *[np.nan] * 4]
    )
    data.__post_init__()
    said = study.candidates_note(data)
    assert "1 pieces of the split could not be used" in said and "In 1 systems no note begins" in said
    settings = study.settings_table(data, "toy").set_index("setting")["ours"]
    assert settings["candidates"] == "I: 11, II: 11, III: 11" and settings["embedding sizes"] == "16, 64, 256"


# -- claims ------------------------------------------------------------------------------------------------------------

CLAIM = {claim.text: claim for claim in study.CLAIMS}


def judged(found, text):
    table = verdicts.table(study.KEY, [CLAIM[text]], found)
    return table["verdict"].item()


GOOD, BAD, WORST = {"ranks": 1}, {"ranks": 4}, {"ranks": 12}


@pytest.mark.parametrize(
    ("text", "true", "false"),
    [
        ("the recurrent model beats voting in every condition and direction",
         {"rnn": GOOD, "snippet": BAD}, {"rnn": GOOD | {"III": 9}, "snippet": BAD}),
        ("the recurrent model is better than voting",
         {"rnn": GOOD | {"III": 9}, "snippet": BAD}, {"rnn": BAD, "snippet": GOOD | {"III": 9}}),
        ("pre-trained and fine-tuned, with refined projections, it beats voting from audio to sheet",
         {"rnn_ft_cca": GOOD, "snippet": {"ranks": 2, "back": 1}}, {"rnn_ft_cca": {"ranks": 2, "back": 1},
                                                                  "snippet": {"ranks": 1, "back": 9}}),
        ("pre-training that is fine-tuned helps", {"rnn_ft": GOOD}, {"rnn_ft": WORST}),
        ("refined projections help the fine-tuned model", {"rnn_ft_cca": GOOD}, {"rnn_ft_cca": WORST}),
        ("fine-tuned with refined projections is best in every condition and direction",
         {"rnn_ft_cca": GOOD}, {"rnn_ft_cca": GOOD | {"II": 5}}),
        ("frozen encoders are no noticeable improvement", {"rnn_fz": BAD}, {"rnn_fz": GOOD}),
        ("nor are they with refined projections", {"rnn_fz_cca": BAD}, {"rnn_fz_cca": GOOD}),
        ("sheet to audio is better than audio to sheet",
         {"rnn": {"ranks": 3, "back": 1}}, {"rnn": {"ranks": 1, "back": 3}}),
        ("and so it is for every model in every condition",
         dict.fromkeys(("snippet", "rnn", "rnn_ft", "rnn_ft_cca", "rnn_fz", "rnn_fz_cca"), {"ranks": 4, "back": 2}),
         dict.fromkeys(("rnn", "rnn_ft"), {"ranks": 1, "back": 2})),
        ("quality grows until 64 dimensions", {"rnn_d16": BAD}, {"rnn_d16": GOOD}),
        ("and no further", {"rnn_d256": BAD}, {"rnn_d256": GOOD}),
        ("the recurrent model loses less at half the tempo",
         {"snippet": {"ranks": 1, "slow": 9}, "rnn": {"ranks": 2, "slow": 3}},
         {"snippet": {"ranks": 2, "slow": 3}, "rnn": {"ranks": 1, "slow": 9}}),
        ("from synthetic to real the best model loses less than voting, audio to sheet",
         {"snippet": {"ranks": 1, "III": 9}, "rnn_ft_cca": {"ranks": 2, "III": 3}},
         {"snippet": {"ranks": 2, "III": 3}, "rnn_ft_cca": {"ranks": 1, "III": 9}}),
        ("from synthetic to real the best model loses less than voting, sheet to audio",
         {"snippet": {"ranks": 4, "back": 1, "III": 9}, "rnn_ft_cca": {"ranks": 1, "back": 2, "III": 3}},
         {"snippet": {"ranks": 1, "back": 2, "III": 3}, "rnn_ft_cca": {"ranks": 4, "back": 1, "III": 9}}),
        ("training the GRU matters", {"fixed_gru": BAD}, {"fixed_gru": GOOD}),
        ("and so it does on frozen encoders", {"fixed_gru_fz_cca": BAD}, {"fixed_gru_fz_cca": GOOD}),
        ("the paper's widths are better than half of them", {"rnn_full": GOOD}, {"rnn_full": BAD}),
        ("a softmax over the batch learns more than the published margins", {"ranking": BAD}, {"ranking": GOOD}),
        ("and so do snippets that vote", {"snippet_ranking": BAD}, {"snippet_ranking": GOOD}),
        ("a GRU is better than a mean of the snippets", {"mean": BAD}, {"mean": GOOD}),
        ("keeping renderings of one system apart helps", {"ungrouped": BAD}, {"ungrouped": GOOD}),
    ],
)  # fmt: skip
def test_a_claims_rule_goes_both_ways(grid, text, true, false):
    assert judged(placed(grid, **true), text) == "reproduced"
    assert judged(placed(grid, **false), text) == "contradicted"


def test_the_least_of_several_differences():
    one, two = Estimate(0.2, 0.1, 0.15, 5, 3), Estimate(0.05, -0.1, 0.3, 5, 1)
    assert report._least([one, two]) == Estimate(0.05, -0.1, 0.15, 5, 1)
    assert report._least([one, None]) is None and report._least([]) is None


def test_an_arm_that_is_as_good_is_not_contradicted(grid):
    """Differences of nothing but chance: the draws of their minimum would all lie below 0."""
    arms = ("snippet", "rnn", "rnn_ft", "rnn_ft_cca", "rnn_fz", "rnn_fz_cca")
    rng = np.random.default_rng(3)
    found = placed(grid, **{arm: {"ranks": rng.integers(1, 9, COUNT).tolist()} for arm in arms})
    for text in ("fine-tuned with refined projections is best in every condition and direction",
                 "the recurrent model beats voting in every condition and direction"):  # fmt: skip
        assert judged(found, text) == "undecided"


def test_the_trend_of_distances(grid):
    """Passages of two seconds, the last of each piece of two and a half, by its release: a slope by hand."""
    seconds = np.array([p.seconds for p in grid.data().test("I")])
    assert sorted(set(seconds)) == [2, 2.5]
    text = "longer passages lie farther from their counterparts"
    for slope, expected in ((0.3, "reproduced"), (-0.3, "contradicted")):
        found = placed(grid, rnn={"distances": 0.4 + slope * (seconds - 2)})
        estimate = CLAIM[text].quantity(found)
        assert estimate.value == pytest.approx(slope) and estimate.seeds == 3
        assert judged(found, text) == expected
    assert judged(placed(grid, rnn={"distances": np.full(COUNT, 0.4)}), text) == "undecided"
    grid.placed.pop("rnn-s1")
    assert judged(study.Results(grid), text) == "not run"


def test_every_claim_is_tested_above():
    (mark,) = test_a_claims_rule_goes_both_ways.pytestmark
    tested = {text for text, *_ in mark.args[1]} | {"longer passages lie farther from their counterparts"}
    assert tested == set(CLAIM) and len(CLAIM) == len(study.CLAIMS)


def mrr(condition, arm, direction):
    row = published.PASSAGE_TABLE_2[condition][arm][DIRECTIONS.index(direction)]
    return row[published.PASSAGE_MEASURES.index("MRR")]


def test_what_claims_say_of_the_paper_is_in_its_table():
    over = lambda arm, other: [mrr(c, arm, d) - mrr(c, other, d) for d, c in report.CELLS]  # noqa: E731
    number = lambda text: float(CLAIM[text].paper.split(" ")[0])  # noqa: E731
    means = {
        "the recurrent model is better than voting": over("rnn", "snippet"),
        "pre-training that is fine-tuned helps": over("rnn-ft", "rnn"),
        "refined projections help the fine-tuned model": over("rnn-ft-cca", "rnn-ft"),
        "frozen encoders are no noticeable improvement": over("rnn-fz", "rnn"),
        "nor are they with refined projections": over("rnn-fz-cca", "rnn"),
        "sheet to audio is better than audio to sheet": [
            mrr(c, arm, SHEET) - mrr(c, arm, AUDIO) for arm in study.MODELS for c in study.CONDITIONS
        ],
    }
    for text, differences in means.items():
        assert number(text) == pytest.approx(np.mean(differences), abs=6e-4), text
    ranges = {
        "the recurrent model beats voting in every condition and direction": over("rnn", "snippet"),
        "fine-tuned with refined projections is best in every condition and direction": [
            mrr(c, "rnn-ft-cca", d) - max(mrr(c, arm, d) for arm in study.MODELS if arm != "rnn-ft-cca")
            for d, c in report.CELLS
        ],
        "and so it is for every model in every condition": means["sheet to audio is better than audio to sheet"],
    }
    for text, differences in ranges.items():
        low, _, high = CLAIM[text].paper.split(" ")[:3]
        assert [float(low), float(high)] == pytest.approx([min(differences), max(differences)], abs=6e-4), text
    for direction in DIRECTIONS:
        gap = [mrr("I", arm, direction) - mrr("III", arm, direction) for arm in ("snippet", "rnn-ft-cca")]
        text = f"from synthetic to real the best model loses less than voting, {direction}"
        assert number(text) == pytest.approx(gap[0] - gap[1], abs=4e-3)


def test_one_training_says_so(grid):
    counts = study.trainings(placed(grid))
    assert counts["the recurrent model is better than voting"] == 3
    assert counts["pre-training that is fine-tuned helps"] == 1  # RNN-FT has one
    judged_ = verdicts.table(study.KEY, study.CLAIMS, study.Results(grid)).set_index("claim")
    assert "seeds = 1" in judged_.loc["pre-training that is fine-tuned helps", "why"]


def test_metrics_are_written(grid, tmp_path):
    found = placed(grid, rnn={"ranks": 1, "slow": 2}, snippet={"one": 4})
    table = verdicts.table(study.KEY, study.CLAIMS, found)
    written = study.write_metrics(found, table, tmp_path / "metrics.json")
    assert files.read_json(tmp_path / "metrics.json") == written
    assert written["retrieval"]["I"][AUDIO]["MRR"]["rnn"] == 1 and written["candidates"]["III"] == 12
    assert written["mrr by tempo"][SHEET]["0.5"] == {"snippet": pytest.approx(1 / 3, abs=1e-4), "rnn": 0.5}
    assert written["mrr by voters"][AUDIO]["1"] == 0.25 and written["mrr by dimensions"][AUDIO]["64"] == 1
    assert "RNN" in written["below ten times chance"] and written["runs"]["made"] == written["runs"]["core"]
    assert "pre-training that is fine-tuned helps" in written["claims from one training"]


def test_distances_from_the_bounds(grid):
    table = study.from_bounds(verdicts.table(study.KEY, study.CLAIMS, placed(grid))).set_index("claim")
    assert table.loc["nor are they with refined projections", "ours"] == pytest.approx(-0.02)


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_figure_1_counts_every_rendering(grid):
    """Five systems at three tempi: four of 2 s and one of 2.5 at the notated one."""
    table = study.figure_1(grid.data())
    assert len(table) == 100 and table["passages"].sum() == 15 and table["to (s)"].iloc[-1] == 30
    assert table.loc[table["from (s)"] == 3.0, "passages"].item() == 5  # all that last 2 s, at 1.5
    slow = grid.data().pieces.get("A__x__1")
    grid.data().pieces.known["A__x__1"] = replace(slow, onsets=60 * slow.onsets)
    grid.data().__post_init__()
    assert study.figure_1(grid.data())["passages"].iloc[-1] == 15  # longer ones are in the last


def test_figure_4_is_the_first_seed_of_rnn(grid):
    found = placed(grid, rnn={"ranks": 9, "back": [2] * 6 + [4] * 6, "distances": [0.25] * 6 + [0.75] * 6})
    points = study.figure_4(found)
    assert len(points) == COUNT and points["rank"].tolist() == [2] * 6 + [4] * 6 and points["distance"][0] == 0.25
    read = study.figure_4_read(points).set_index("seconds")
    assert read.loc["0 to 5"].tolist() == [12, 0.5, 0.375] and read.loc["25 and more", "passages"] == 0


def test_an_example_is_seen_and_heard_in_every_condition(grid, monkeypatch):
    data = grid.data()
    data.sound = lambda passage, condition="I": data.pieces.spectrogram(passage.piece, passage.performance)
    chosen = study.example(data, "B__long__1")
    assert [(p.piece, p.system) for p in chosen.values()] == [("B__long__1", 3)] * 3
    assert chosen["III"].performance.endswith("-rubato")
    assert [strip.shape for strip in study.strips(data, chosen).values()] == [(200, 200)] * 2
    assert "stand-in" in list(study.strips(data, chosen))[1] and "stand-in" in list(study.spectrograms(data, chosen))[1]
    assert [cut.shape[1] for cut in study.spectrograms(data, chosen).values()] == [40, 54]
    pages, sound = study.snippets(data, chosen)
    assert [v.shape for v in pages.values()] == [(80, 90)] * 2 and [v.shape for v in sound.values()] == [(92, 20)] * 3
    monkeypatch.setattr(report, "real_like_sound", lambda *_: np.ones(synthesis.SAMPLE_RATE * 60, np.float32))
    audio = study.sounds(data, chosen)
    third = round(sum(f * s for f, s in zip(chosen["III"].frames, (-1, 1), strict=True)) / 20 * synthesis.SAMPLE_RATE)
    assert (audio[-third:] == 1).all() and audio[-third - 1] == 0
    energy = (audio[: 2 * synthesis.SAMPLE_RATE] ** 2).reshape(4, -1).sum(1)  # a note every half a second
    assert (energy > 0.05 * energy.max()).all()


def test_figures_are_drawn(grid, tmp_path):
    plots.style()
    found = placed(grid)
    durations = study.figure_1(grid.data())
    figure = plots.histogram(durations, "from (s)", "to (s)", "passages", "seconds", {"10 s": 10.0})
    assert len(figure.axes[0].patches) == 100 and figure.axes[0].get_xlim() == (0, 30)
    plots.save(figure, tmp_path / "one.png")
    figure = plots.estimates(study.figure_3(found), "dimensions", "MRR", "direction", doubling=True)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["16", "64", "256"]
    assert figure.axes[0].get_xscale() == "log"
    figure = plots.scattered(pd.DataFrame({"s": [1.0, 2], "d": [0.2, 0.4], "r": [1, 4]}), "s", "d", "r", ("x", "y"))
    assert figure.axes[0].collections[0].get_sizes().tolist() == [60, 15]
    plots.plt.close("all")


# -- the notebook ------------------------------------------------------------------------------------------------------


def test_the_study_is_registered_and_its_notebook_has_the_same_parameters_as_the_others():
    assert study.KEY in studies.KEYS and studies.get(study.KEY) is study
    notebook = nbformat.read(paths.NOTEBOOKS / f"{study.NOTEBOOK}.ipynb", as_version=4)
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    values: dict = {}
    exec(cell.source, values)
    assert [values[name] for name in ("preset", "corpus", "train", "progress")] == ["smoke", "", True, True]
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    for exhibit in ("table1", "table2", "table3", "figure1", "figure3", "figure4", "verdicts"):
        assert f'"{exhibit}.' in code
    kept = [c for c in notebook.cells if c.get("outputs")]  # what nbval compares, and nothing else
    assert [c.metadata.get("tags") for c in kept] == [["nbval-check-output"]]
