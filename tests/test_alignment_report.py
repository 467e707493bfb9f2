"""The third study's report: scores by hand from records by hand, tables, claims, and what its figures are drawn from.

The collection has no files: strips are white, spectrograms noise; a note sounds every half a second and stands forty
columns further on than the one before.
"""

import json
import types
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest

from duet import DuetError, files, plots, published, runs, synthesis, tables, verdicts
from duet.engraving import PAGE_WIDTH
from duet.models.encoders import PAPER_PARAMETERS, TwoTowers
from duet.snippets import Piece, Pieces, published_column
from duet.studies import alignment as study
from duet.studies.alignment import report
from duet.studies.alignment.aligner import NETWORKS
from duet.studies.alignment.experiment import Data, Pair
from duet.training import save_weights
from duet.verdicts import Resampling

matplotlib.use("Agg")

TEST = {"B__long__1": 12, "B__short__1": 4, "Traditional__tune__1": 6, "C__middle__1": 8}  # piece -> its onsets
TRAIN = {"A__x__1": 10, "A__y__1": 5, "B__long__2": 5}


def toy_piece(name, count):
    takes = {f"{name}_tempo-1000_one": 1.0, f"{name}_tempo-1000_one-rubato": 1.0}
    if name == "C__middle__1":  # one test piece has no tempo curve
        takes = {f"{name}_tempo-1000_ElectricPiano": 1.0}
    if name in TRAIN:
        takes |= {f"{name}_tempo-1100_one": 1.1, f"{name}_tempo-1000_two": 1.0}
    columns, seconds = 60.0 + 40 * np.arange(count), 0.5 * np.arange(count)
    image = np.full((200, 40 * count + 100), 255, np.uint8)
    onsets = np.array([ratio * seconds for ratio in takes.values()])
    pitches = 60 + np.arange(count)
    return Piece(name, image, np.array([0, image.shape[1]]), columns, pitches, np.zeros(count, int), onsets, (*takes,))


class Shelf(Pieces):
    """Pieces that are in memory."""

    def __init__(self):
        self.known = {name: toy_piece(name, count) for name, count in (TEST | TRAIN).items()}
        self.get = self.known.__getitem__

    def spectrogram(self, piece, performance):
        return np.random.default_rng(1).random((92, 10 * len(self.get(piece).columns) + 30), np.float32)


class Corpus:
    """What Data asks of Msmd: notes of a fifth of a second."""

    name, fingerprint, root, description = "toy", "toy", Path("toy"), {}

    def __init__(self, pieces):
        self.pieces = pieces

    def notes(self, piece, performance):
        own = self.pieces.get(piece)
        return np.array([(s, p, 0.2, 64, 0) for s, p in zip(own.seconds(performance), own.pitches, strict=True)])


class Grid(runs.Grid):
    """Its records are in memory."""

    def __init__(self, *of):
        super().__init__(*of)
        self.placed = {}

    def find(self, name):
        return self.placed.get(name)


TOY = replace(study.PRESETS["overnight"], corpus=None, composer="A", held_out=())


@pytest.fixture
def grid(workspace, monkeypatch):
    """A grid of every arm without any record."""
    monkeypatch.setitem(study.PRESETS, "toy", TOY)
    shelf = Shelf()
    every = {"train": [*TRAIN][:1] + [*TRAIN][2:], "valid": ["A__y__1"], "test": [*TEST]}
    one = {"train": ["A__x__1"], "valid": ["A__y__1"], "test": [*TEST]}
    made = Grid(study.KEY, "toy")
    made._data = Data(Corpus(shelf), shelf, {"composer": one, "all": every}, TOY, {})
    return made


PAIRS = sum(TEST.values())
SIDES = ("audio to sheet", "sheet to audio")


def place(grid, name, ranks=5, plain=9, votes=1, pixels=835, seconds=1.0, back=None, whole=True):
    """A record by hand; a number stands for as many of it as are wanted, ``votes`` is one a test piece."""
    run = grid.runs[name]
    full = lambda value, count: list(value) if isinstance(value, (list, np.ndarray)) else [value] * count  # noqa: E731
    refined = dict(zip(SIDES, (full(ranks, PAIRS), full(ranks if back is None else back, PAIRS)), strict=True))
    result = {"test": {"candidates": PAIRS}}
    if run.config.method in ("train", "untrained"):
        result["test"]["refined"] = refined | {f"{side}, content": [1] * PAIRS for side in SIDES}
        result["test"]["plain"] = {side: full(plain, PAIRS) for side in SIDES}
    if run.config.method == "train":
        result |= {"loss": [2.0, 1.0], "validation": [0.9, 0.8], "best_epoch": 1}
    if run.config.whole and whole:
        result["whole"] = {}
        for manner, pieces in (("strict", [*TEST]), ("tempo curve", [*TEST][:3])):
            rows = {"pieces": pieces, "pixels": [[pixels] * TEST[p] for p in pieces],
                    "milliseconds": [[1000 * seconds] * TEST[p] for p in pieces]}  # fmt: skip
            if run.config.method in ("train", "untrained"):
                own = full(votes, 4)[: len(pieces)]
                sure = [[0.3, None]] + [[0.3, 0.1]] * (len(pieces) - 1)
                rows |= {"raw": own, "normalised": own[::-1], "alignment": [1] * len(own), "confidence": sure}
            result["whole"][manner] = rows
    config = json.loads(json.dumps(asdict(run.config)))
    grid.placed[name] = {"name": name, "config": config, "result": result, "provenance": {"cpu_seconds": 1.0}}


def placed(grid, missing=(), **of_arms):
    """Results of a grid whose every run but ``missing`` was made; ``of_arms``: what an arm's records say."""
    for name in grid.runs:
        if name not in missing:
            arm = name if name in ("linear", "chroma") else name.rpartition("-s")[0]
            place(grid, name, **of_arms.get(arm.replace("-", "_"), {}))
    return study.Results(grid)


# -- the bootstrapped median -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [1, 2, 7, 40])
def test_every_draw_of_a_median_is_numpys(items):
    rng = np.random.default_rng(items)
    groups, values = rng.integers(0, 5, items), rng.integers(0, 9, items)
    sample = Resampling(groups, resamples=60)
    draws = sample.median([values])
    assert draws[0] == np.median(values) and len(draws) == 61
    for counts, drawn in zip(sample.counts, draws[1:], strict=True):
        assert drawn == np.median(np.repeat(values, counts[sample.group_of]))


def test_a_median_of_some_items_and_of_several_trainings():
    groups, counted = [0, 0, 1, 2], np.array([True, True, False, True])
    sample = Resampling(groups, resamples=200)
    draws = sample.median([[1, 3, 90, 8]], counted)
    assert draws[0] == 3
    lacking = (sample.counts[:, [0, 2]] == 0).all(1)
    assert lacking.any() and (np.isnan(draws[1:]) == lacking).all()
    two = sample.median([[1, 3, 90, 8], [5, 7, 90, 9]])
    assert two[0] == (5.5 + 8) / 2 and two[1:].std() > sample.median([[1, 3, 90, 8]])[1:].std()
    same = sample.median([[1, 3, 90, 8]] * 3)
    assert (same == sample.median([[1, 3, 90, 8]])).all()  # trainings that agree add nothing


# -- scores ------------------------------------------------------------------------------------------------------------

UNEVEN = [1] * 12 + [2] * 4 + [20] * 6 + [30] * 8  # by piece: long, short, tune, middle


def test_scores_of_pairs_by_hand(grid):
    found = placed(grid, none={"ranks": UNEVEN, "back": 7, "plain": 11})
    score = lambda *of, **subset: found.estimate("none", "pairs", *of, **subset).value  # noqa: E731
    assert score("MR") == 2 and score("MR", SIDES[1]) == 7 and score("MR", SIDES[0], "plain") == 11
    assert score("MR", f"{SIDES[0]}, content") == 1
    assert score("R@1") == pytest.approx(40) and score("R@10") == pytest.approx(100 * 16 / 30)
    assert score("R@25") == pytest.approx(100 * 22 / 30)
    assert score("MRR") == pytest.approx((12 + 2 + 6 / 20 + 8 / 30) / 30)
    assert score("MR", subset="Traditional") == 20 and score("R@1", subset="without Traditional") == 50
    estimate = found.estimate("none", "pairs", "MR", subset="without Traditional")
    assert estimate.n == 3 and estimate.seeds == 3
    assert found.estimate("none", "pairs", "MR").n == 4
    assert found.estimate("linear", "pairs", "MR") is None


def test_what_is_not_trained_has_no_seeds(grid):
    """A straight line would be the same after another training, so a difference from it has those of the other arm."""
    found = placed(grid)
    assert found.difference("all", "linear", "aligned", "page widths").seeds == 3
    assert found.difference("all", "strong", "pairs", "MR").seeds == 1
    assert found.difference("linear", "chroma", "aligned", "page widths").seeds == 1


def test_the_median_rank_of_several_seeds_is_their_mean(grid):
    found = placed(grid)
    for seed, rank in enumerate((2, 4, 12)):
        place(grid, f"all-s{seed}", ranks=rank)
    found = study.Results(grid)
    estimate = found.estimate("all", "pairs", "MR")
    assert estimate.value == 6 and estimate.low < 2 and estimate.high > 12  # t of two degrees of freedom
    place(grid, "vertical-s0", ranks=4)
    assert found.estimate("vertical", "pairs", "MR").low == 5


def test_chance(grid):
    found = study.Results(grid)
    assert found.chance("MR") == 15.5 and found.chance("R@1") == pytest.approx(100 / 30) and found.chance("R@10") > 33


def test_pieces_without_a_candidate_have_no_score(grid):
    """Four candidates of thirty: none is of the second piece."""
    grid._data = replace(grid.data(), preset=replace(TOY, candidates=4))
    grid.placed["untrained-s0"] = {"result": {"test": {"refined": {SIDES[0]: [1, 2, 3, 4]}}}}
    found = study.Results(grid)
    assert sorted(set(found.owners["pairs"])) == [0, 2, 3] and "short" in found.subsets
    found.subsets["second"] = np.array([False, True, False, False])
    assert found.estimate("untrained", "pairs", "MR").value == 2.5
    for measure in ("MR", "R@1", "MRR"):
        assert found.estimate("untrained", "pairs", measure, subset="second") is None


def test_votes_by_hand(grid):
    found = placed(grid, none={"votes": [1, 3, 2, 9]})
    share = lambda rank, *of, **subset: found.estimate("none", "identified", rank, *of, **subset).value  # noqa: E731
    assert [share(r) for r in ("1", "2", "3", ">3")] == [0.25] * 4
    assert share(">3", subset="without Traditional") == pytest.approx(1 / 3) and share("2", subset="Traditional") == 1
    assert share(">3", "raw", "tempo curve") == 0 and share("1", "raw", "tempo curve") == pytest.approx(1 / 3)
    table = study.table_3(found)
    own = table[(table["augmentation"] == "no augmentation") & (table["pieces"] == "without Traditional")]
    counts = own[(own["ranked by"] == "raw") & (own["rendering"] == "strict")]
    assert counts["ours"].tolist() == [1, 0, 1, 1] and counts["of"].tolist() == [3] * 4
    bent = own[(own["ranked by"] == "raw") & (own["rendering"] == "tempo curve")]
    assert bent["ours"].tolist() == [1, 0, 1, 0] and bent["of"].tolist() == [2] * 4


def test_alignment_errors_by_hand(grid):
    placed(grid)
    rows = grid.placed["linear"]["result"]["whole"]["strict"]
    rows["pixels"] = [[835] * 12, [0] * 4, [167] * 6, [1670] * 8]
    rows["milliseconds"] = [[500] * 12, [600] * 4, [100] * 6, [3000] * 8]
    found = study.Results(grid)
    score = lambda *of, **subset: found.estimate("linear", "aligned", *of, **subset).value  # noqa: E731
    assert score("page widths") == 1 and score("mm") == 210 and score("pixels") == 835
    assert score("page widths", "macro") == pytest.approx(0.6)  # of 0, .2, 1 and 2
    assert score("seconds") == 0.5 and score("seconds", "macro") == 0.55
    assert score("within") == 18 / 30 and score("within", "macro") == 0.5
    assert score("page widths", subset="short") == 0 or score("page widths", subset="long") == 1
    assert score("page widths", "micro", "tempo curve") == 1


def test_pieces_apart(grid):
    chosen = {key: np.array([*TEST])[own].tolist() for key, own in study.Results(grid).subsets.items()}
    assert chosen["Traditional"] == ["Traditional__tune__1"] and len(chosen["without Traditional"]) == 3
    assert chosen["unseen works"] == ["B__short__1", "Traditional__tune__1", "C__middle__1"]
    assert chosen["short"] == ["B__short__1", "Traditional__tune__1"]
    assert chosen["middle"] == ["C__middle__1"] and chosen["long"] == ["B__long__1"]


def test_places_that_are_given(grid):
    """A line that is told both ends is right where the notes are evenly spaced; chance is somewhere."""
    found = study.Results(grid)
    assert found.estimate("ends", "aligned", "page widths").value == pytest.approx(0, abs=1e-9)
    assert found.estimate("ends", "aligned", "within").value == 1
    guessed = found.errors("chance", "strict")
    assert [len(row) for row in guessed[0]["pixels"]] == [*TEST.values()]
    assert found.errors("chance", "strict")[0]["pixels"][0].tolist() == guessed[0]["pixels"][0].tolist()
    for row, piece in zip(guessed[0]["pixels"], TEST, strict=True):
        assert row.max() < found.data.pieces.get(piece).image.shape[1] and row.mean() > 20
    assert found.estimate("chance", "aligned", "page widths").seeds == 0


@pytest.mark.parametrize(
    ("arms", "missing", "expected"),
    [
        ({"all": {"ranks": 3}, "untrained": {"ranks": 15}}, (), True),
        ({"all": {"ranks": 15}, "untrained": {"ranks": 15}}, (), False),
        ({"all": {"ranks": 16}, "untrained": {"ranks": 20}}, (), False),  # better than random weights, not than chance
        ({"all": {"ranks": UNEVEN}, "untrained": {"ranks": 15}}, (), False),  # better, but not surely
        ({"all": {"ranks": 3}, "untrained": {"ranks": 15}}, ("untrained-s0",), False),
        ({"all": {"ranks": 3}, "untrained": {"ranks": 15}}, ("all-s0", "all-s1", "all-s2"), False),
    ],
)
def test_a_network_has_learned_that_beats_random_weights_and_chance(grid, arms, missing, expected):
    assert placed(grid, missing, **arms).learned() is expected


# -- tables ------------------------------------------------------------------------------------------------------------

TABLES = (study.table_2, study.table_3, study.figure_7, study.table_controls)


def test_every_table_stands_without_any_run(grid, tmp_path):
    found = study.Results(grid)
    for make in TABLES:
        table = make(found)
        assert list(table)[-7:] == list(tables.MEASURES) and (table["corpus"] == "toy").all()
        labels = table.drop(columns=list(tables.MEASURES)).astype(str).agg(" ".join, axis=1)
        given = labels.str.contains("a random guess|which it is told")
        assert table.loc[~given, "ours"].isna().all() and table.loc[given, "ours"].notna().all()
        tables.write(table, tmp_path / "table.csv")
    assert (
        "not run"
        in tables.ours(study.figure_7(found), ["rendering", "method"], ["pieces", "average", "unit"], 3).to_string()
    )
    assert set(study.figure_7_boxes(found)["method"]) == {"chance"}
    confidence = study.table_confidence(found)
    assert confidence["AUC"].isna().all() and len(confidence) == 2 * len(report.WHOLE)
    assert len(study.table_zero_errors(found)) == 4
    assert (found.run_table("1 - MRR")["1 - MRR"] == "not run").all() and study.curves(found).empty


def test_every_table_stands_with_all_runs(grid, tmp_path):
    found = placed(grid)
    for make in TABLES:
        table = make(found)
        assert table.drop_duplicates(list(table)[:-7]).shape == table.shape  # a row is a cell
        assert table["ours"].notna().all() and (table["low"] <= table["ours"] + 1e-4).all()
        tables.write(table, tmp_path / "table.csv")
    two = study.table_2(found).set_index(["augmentation", "direction", "match", "projections", "measure"])
    assert two.loc[("vertical system shift", SIDES[0], "onset", "refined", "MR"), "paper"] == 449
    assert two.loc[("vertical system shift", SIDES[0], "onset", "plain", "R@1"), ["paper", "ours"]].tolist() == [
        0.91,
        0,
    ]
    assert np.isnan(two.loc[("all augmentations", SIDES[1], "onset", "refined", "MR"), "paper"])
    assert np.isnan(two.loc[("all augmentations", SIDES[0], "content", "refined", "MR"), "paper"])
    three = study.table_3(found)
    assert three["paper"].dropna().tolist() == [4, 7, 1, 14, 24, 2, 0, 0]
    seven = study.figure_7(found)
    printed = seven.dropna(subset=["paper"])
    assert printed[["unit", "paper"]].to_numpy().tolist() == [
        ["page widths", 0.213], ["mm", 45], ["page widths", 0.041], ["mm", 9]]  # fmt: skip
    assert (printed["average"] == "micro").all() and (printed["rendering"] == "strict").all()
    curves = study.curves(found)
    assert set(curves["panel"]) == {"none and audio", "sheet and all", "controls"} and "all-s1" not in set(
        curves["run"]
    )
    main = study.table_2(found).query("direction == 'audio to sheet' and match == 'onset' and projections == 'refined'")
    shown = tables.by_measure(main, ["group", "augmentation"], study.DIGITS)
    assert list(shown) == ["R@1", "R@10", "R@25", "MR"]
    assert shown.loc[("none or all", "all augmentations")].tolist() == [
        "1.70 | 0.00",
        "11.67 | 100.00",
        "21.17 | 100.00",
        "168 | 5",
    ]


def test_a_collection_without_tunes_or_tempo_curves(grid):
    """MSMD itself has neither; nothing is drawn or counted of them."""
    data = grid.data()
    shelf = data.pieces
    for name, own in shelf.known.items():
        keep = [k for k, take in enumerate(own.performances) if not take.endswith("-rubato")]
        takes = tuple(own.performances[k].replace("_one", "_grand-piano-YDP-20160804") for k in keep)
        shelf.known[name] = replace(own, performances=takes, onsets=own.onsets[keep])
    test = [name for name in TEST if "Traditional" not in name]
    data.splits["composer"]["test"] = data.splits["all"]["test"] = test
    found = study.Results(grid)
    assert set(study.table_3(found)["pieces"]) == {"all", "without Traditional"}
    assert set(study.table_3(found)["rendering"]) == set(study.figure_7(found)["rendering"]) == {"strict"}
    assert study.data_table(data)["pairs"].tolist()[2] == 24
    judged = verdicts.table(study.KEY, study.CLAIMS, found)
    assert set(judged["verdict"]) == {"not run"}
    assert "tempo curve" not in study.write_metrics(found, judged, grid.folder / "metrics.json")["alignment"]


def test_boxes_are_percentiles_over_the_onsets(grid):
    placed(grid)
    for seed, pixels in enumerate((0, 835, 1670)):
        place(grid, f"all-s{seed}", pixels=pixels)
    table = study.figure_7_boxes(study.Results(grid)).set_index(["rendering", "pieces", "method"])
    row = table.loc[("strict", "long", "warped, all")]
    assert row[["p25", "p50", "p75", "onsets"]].tolist() == [0, 1, 2, 12]
    assert ("tempo curve", "middle", "chance") not in table.index  # the piece of that length has none


def test_table_1_counts_the_papers_parameters():
    for preset in ("smoke", "paper"):
        table = study.table_1(preset).set_index("layer")
        assert table.loc["each pathway", "parameters"] == table["parameters"].iloc[:-1].sum() == PAPER_PARAMETERS
        assert table.loc[published.ALIGNMENT_TABLE_1[-2], "sheet"] == "32 x 11 x 12"
        assert table.loc[published.ALIGNMENT_TABLE_1[-2], "audio"] == "32 x 5 x 2"
        assert table.loc["input", "sheet, ours"] == ("1 x 90 x 100" if preset == "smoke" else "1 x 180 x 200")


def test_the_tables_that_need_no_runs(grid):
    data = grid.data()
    table = study.data_table(data).set_index(["split", "part"])
    assert table.loc[("A alone", "train"), ["pieces", "pairs", "pairs, paper"]].tolist() == [1, 10, 18_432]
    assert table.loc[("A alone", "train"), "pairs of all renderings"] == 30
    assert table.loc[("every composer", "train"), "pairs"] == 15 and pd.isna(
        table.loc[("every composer", "train"), "pairs, paper"]
    )
    assert table.loc[("test of both", "test"), ["pieces", "pairs", "pairs, paper"]].tolist() == [4, 30, 11_821]
    settings = study.settings_table(data, "toy").set_index("setting")
    assert (
        settings.loc["candidates", "ours"] == "30"
        and settings.loc["instrument of the test", "ours"] == "ElectricPiano, one"
    )
    assert settings.loc["tested on", "ours"] == "B (2), Traditional (1), C (1)"


def test_windows_that_the_released_cutter_gets_wrong(grid):
    """A strip of 500 columns has one window only, at its middle: right for the note that stands there."""
    data = grid.data()
    table = study.table_cutter(data).set_index("part")
    assert table.loc["train", ["onsets", "of one window only"]].tolist() == [10, 1]
    columns = data.pieces.get("A__x__1").columns
    wrong = [c for c in columns if abs(published_column(c, 500) - c) > 1]
    assert table.loc["train", "wrong windows"] == len(wrong) >= 9 and table.loc["train", "share"] == len(wrong) / 10


def test_errors_that_the_released_code_leaves_at_zero(grid):
    """Of the long piece: columns 60 and, of 580, 500; frames 0, 10, 20 and, of 150, none."""
    found = placed(grid, missing=("all-s0", "all-s1", "all-s2"), linear={"pixels": 835})
    table = study.table_zero_errors(found).set_index(["rendering", "method"])
    row = table.loc[("strict", report.ARMS["linear"])]
    assert row["onsets"] == 30 and row["outside, frames"] == sum(
        f < 21 or f > 10 * n + 30 - 21 for n in TEST.values() for f in range(0, 10 * n, 10)
    )
    assert row["outside, columns"] == 4 * 2  # the first, at 60, and the last, 80 before the end
    assert row["median (widths)"] == 1 and row["with those at 0"] in (0, 1)
    assert np.isnan(table.loc[("strict", report.ARMS["all"]), "median (widths)"])


def test_separation_by_hand():
    apart = report.separation(np.array([0.5, 0.7, 0.9]), np.array([0.1, 0.3]))
    assert apart["threshold"] == pytest.approx((0.7 + 0.2) / 2) and apart["right decisions"] == apart["AUC"] == 1
    mixed = report.separation(np.array([1.0, 3.0]), np.array([1.0, 2.0, 0.0]))
    assert mixed["threshold"] == 1.5 and mixed["right decisions"] == round((1 / 2 + 2 / 3) / 2, 3)
    assert mixed["AUC"] == round((1.5 + 3) / 6, 3)  # a tie counts half
    assert np.isnan(report.separation(np.array([1.0]), np.array([]))["AUC"])


def test_confidence_leaves_out_what_has_no_wrong_score(grid):
    table = study.table_confidence(placed(grid)).set_index(["model", "rendering"])
    row = table.loc[("all augmentations", "strict")]
    assert row[["right ones", "wrong ones", "right decisions", "AUC"]].tolist() == [12, 9, 1, 1]


# -- claims ------------------------------------------------------------------------------------------------------------


def judged(found, learned=True):
    return verdicts.table(study.KEY, study.CLAIMS, found, learned).set_index("claim")[["ours", "verdict"]]


def test_every_claim_has_its_runs(grid, tmp_path):
    assert len({claim.text for claim in study.CLAIMS}) == len(study.CLAIMS)
    assert (judged(study.Results(grid))["verdict"] == "not run").all()
    found = placed(grid)
    assert (judged(found)["verdict"] != "not run").all()
    assert set(judged(found, learned=False)["verdict"]) == {"undecided"}
    written = study.write_metrics(found, verdicts.table(study.KEY, study.CLAIMS, found), tmp_path / "metrics.json")
    assert files.read_json(tmp_path / "metrics.json") == written
    assert written["retrieval"][SIDES[0]]["MR"]["all"] == 5 and written["median rank, plain"]["none"] == 9
    assert written["candidates"] == 30 and written["identified"]["raw"]["without Traditional"]["all"] == 1
    assert (
        written["alignment"]["strict"]["pixels"]["all"] == 835
        and written["alignment"]["strict"]["seconds"]["linear"] == 1
    )
    assert written["runs"]["made"] == written["runs"]["core"] == len(study.runs("toy", core_only=True))
    assert written["runs"]["cpu_seconds"] == written["runs"]["made"]


@pytest.mark.parametrize(
    ("missing", "waiting"),
    [
        ("scale-s0", {"scaling the picture helps", "of the sheet augmentations the vertical shift helps most",
                      "all augmentations together are best"}),
        ("linear", {"warping on the embedding aligns better than a straight line", "and where the tempo is bent"}),
        ("chroma", {"on bent tempi the embedding comes close to an alignment that reads the notes"}),
        ("strong-s0", {"a dense layer and InfoNCE are better than a mean, CCA and ranking"}),
        ("untrained-s0", set()),
        ("margin-s0", set()),
    ],
)  # fmt: skip
def test_a_claim_whose_run_is_missing_is_not_run(grid, missing, waiting):
    table = judged(placed(grid, missing=(missing,)))
    assert set(table.index[table["verdict"] == "not run"]) == waiting


def test_one_seed_of_three_decides_nothing(grid):
    table = judged(placed(grid, missing=("none-s2",)))
    assert table.loc["full augmentation helps", "verdict"] == table.loc["varied tempi help", "verdict"] == "not run"
    assert table.loc["refining the projections helps", "verdict"] == "reproduced"


@pytest.mark.parametrize(
    ("text", "arms", "ours", "verdict"),
    [
        ("varied tempi help", {"tempi": 3}, -2, "reproduced"),
        ("varied tempi help", {"tempi": 8}, 3, "contradicted"),
        ("varied tempi help", {}, 0, "undecided"),
        ("full augmentation helps", {"all": 2}, -3, "reproduced"),
        ("of the sheet augmentations the vertical shift helps most", {"vertical": 3, "scale": 4}, -1, "reproduced"),
        ("of the sheet augmentations the vertical shift helps most", {"vertical": 4, "horizontal": 3}, 1,
         "contradicted"),
        ("varied tempi and synthesisers together are better than either", {"synths_tempi": 3, "synths": 4}, -1,
         "reproduced"),
        ("varied tempi and synthesisers together are better than either", {"synths_tempi": 3, "tempi": 2}, 1,
         "contradicted"),
        ("all augmentations together are best", {"all": 2, "sheet": 3}, -1, "reproduced"),
        ("all augmentations together are best", {"all": 2, "scale": 1}, 1, "contradicted"),
        ("all sheet augmentations together are worse than the vertical shift alone", {"vertical": 4}, 1, "reproduced"),
        ("trained on every composer, full augmentation is still better than none", {"all_pieces": 4}, -1, "reproduced"),
        ("training on every composer is better than on one", {"all_pieces": 4}, -1, "reproduced"),
        ("a dense layer and InfoNCE are better than a mean, CCA and ranking", {"strong": 4}, -1, "reproduced"),
        ("jitter of excerpts, which the code has and the paper does not name, helps", {"jitter": 9}, 4, "contradicted"),
    ],
)  # fmt: skip
def test_claims_about_ranks(grid, text, arms, ours, verdict):
    row = judged(placed(grid, **{arm: {"ranks": rank} for arm, rank in arms.items()})).loc[text]
    assert row["ours"] == ours and row["verdict"] == verdict


@pytest.mark.parametrize(
    ("text", "arms", "ours", "verdict"),
    [
        ("refining the projections helps", {"all": {"ranks": 5, "plain": 4}}, 1, "contradicted"),
        ("sheet to audio behaves like audio to sheet", {"all": {"ranks": 4, "back": 5}}, 0, "undecided"),
        ("sheet to audio behaves like audio to sheet", {"all": {"ranks": 2, "back": 2}}, -0.1, "reproduced"),
        ("sheet to audio behaves like audio to sheet", {"all": {"ranks": 4, "back": 2}}, 0.2, "contradicted"),
        ("full augmentation identifies nearly all pieces", {}, 1, "reproduced"),
        ("full augmentation identifies nearly all pieces", {"all": {"votes": 2}}, 0, "contradicted"),
        ("no augmentation identifies only few", {"none": {"votes": [2, 2, 2, 4]}}, 0, "reproduced"),
        ("no augmentation identifies only few", {}, 1, "contradicted"),
        ("warping on the embedding aligns better than a straight line", {"all": {"pixels": 167}}, -0.8, "reproduced"),
        ("and where the tempo is bent", {"linear": {"pixels": 167}}, 0.8, "contradicted"),
        ("on bent tempi the embedding comes close to an alignment that reads the notes", {}, 0, "reproduced"),
        ("on bent tempi the embedding comes close to an alignment that reads the notes", {"chroma": {"seconds": 0.5}},
         -1, "contradicted"),
    ],
)  # fmt: skip
def test_other_claims(grid, text, arms, ours, verdict):
    row = judged(placed(grid, **arms)).loc[text]
    assert row["ours"] == pytest.approx(ours, abs=1e-3) and row["verdict"] == verdict


def test_verdicts_as_distances_from_their_bounds(grid):
    table = verdicts.table(study.KEY, study.CLAIMS, placed(grid))
    moved = study.from_bounds(table).set_index("claim")
    assert moved.loc["full augmentation identifies nearly all pieces", "ours"] == pytest.approx(0.2)
    assert moved.loc["full augmentation helps", "ours"] == 0


def test_half_a_grid_is_no_error(grid):
    """As it looks while the runs are being made, one by one."""
    for name in grid.runs:
        place(grid, name)
        if name in ("linear", "all-s0"):
            found = study.Results(grid)
            judged(found)
            for make in TABLES:
                make(found)


# -- what is shown -----------------------------------------------------------------------------------------------------


@pytest.fixture
def mutopia(grid, monkeypatch, tmp_path):
    """Sources of three of the four test pieces, one of which is in the public domain."""
    said = {"B__short__1": 'copyright = "Public Domain"', "B__long__1": 'license = "Creative Commons Attribution 4.0"',
            "C__middle__1": "nothing"}  # fmt: skip
    for name, text in said.items():
        files.write_text(tmp_path / name / "main.ly", f"\\header {{ {text} }}")

    def sources(pieces):
        if pieces[0] not in said:
            raise DuetError("has no source")
        return [types.SimpleNamespace(path=tmp_path / pieces[0])]

    monkeypatch.setattr(report.sheets, "mutopia_sources", sources)
    return grid.data()


def test_only_what_is_free_is_shown(mutopia):
    assert study.freely_shown(mutopia)[0] == "B__short__1" and len(study.freely_shown(mutopia)) == 4  # own scores
    for description in ({"name": "MSMD"}, {"settings": {"collection": "mutopia"}}):
        mutopia.corpus.description = description
        assert study.freely_shown(mutopia) == ["B__short__1"]
    assert study.examples(mutopia, []) == []


def test_pairs_are_seen_and_heard(grid):
    data = grid.data()
    pairs = study.examples(data, ["B__long__1"], 4)
    assert len({pair.frame for pair in pairs}) == 4
    windows, excerpts = study.gallery_of(data, pairs)
    assert all(one.shape == (180, 200) for one in windows.values())
    assert all(two.shape == (92, 42) for two in excerpts.values()) and list(excerpts)[0].startswith("1: at ")
    first = Pair(data.pieces.fixed("B__long__1"), 0, 60.0)
    audio = report.sound(data, first)
    assert len(audio) == 2.1 * synthesis.SAMPLE_RATE
    energy = (audio**2).reshape(21, -1).sum(1)  # tenths of a second; the note begins in the middle
    assert energy[:10].sum() < 1e-3 * energy.sum() and energy[10:13].sum() > 0.2 * energy.sum()
    assert len(study.sounds(data, pairs[:2])) == 2 * (len(audio) + synthesis.SAMPLE_RATE // 2)


def test_figure_3_shows_each_augmentation(grid):
    data = grid.data()
    own = data.pieces.get("B__long__1")
    own.image[96:104, 296:304] = 0  # a notehead at column 300, in the middle
    views = study.augmented(data, Pair(data.pieces.fixed("B__long__1"), 60, 300.0))
    assert list(views) == ["as it is", "scaled by 0.95", "scaled by 1.05", "5 rows down", "5 columns on"]
    centres = {name: np.argwhere(view == 0).mean(0) + 0.5 for name, view in views.items()}
    assert centres["as it is"].tolist() == [90, 100] and centres["5 rows down"].tolist() == [85, 100]
    assert centres["5 columns on"].tolist() == [90, 95]
    inks = {name: (view == 0).sum() for name, view in views.items()}
    assert inks["scaled by 0.95"] <= inks["as it is"] <= inks["scaled by 1.05"]


def test_a_warping_is_of_weights_on_this_machine(grid, monkeypatch):
    monkeypatch.setitem(study.PRESETS, "toy", replace(TOY, network="small"))
    small = runs.Grid(study.KEY, "toy")
    small._data = grid.data()
    assert study.warping(small, "all-s0", "B__short__1") is None
    save_weights(TwoTowers(NETWORKS["small"].maps), small.weights("all-s0"), {})
    view = study.warping(small, "all-s0", "B__short__1")
    assert view.cosines.shape == (len(view.columns), len(view.frames)) == (26, 35)
    assert (np.abs(view.cosines) <= 1 + 1e-5).all()
    assert view.path.frames[[0, -1]].tolist() == [0, 69] and view.path.columns[[0, -1]].tolist() == [0, 259]
    assert view.true.columns.tolist() == [60, 100, 140, 180]


# -- figures -----------------------------------------------------------------------------------------------------------


def ink(figure, tmp_path):
    """The share of dark pixels of the saved picture, and its width."""
    from PIL import Image

    plots.save(figure, tmp_path / "figure.png")
    plots.plt.close("all")
    with Image.open(tmp_path / "figure.png") as image:
        picture = np.asarray(image.convert("L"))
    return (picture < 128).mean(), picture.shape[1]


def test_figures_are_drawn(grid, tmp_path):
    plots.style()
    black, white = np.zeros((180, 200), np.uint8), np.full((180, 200), 255, np.uint8)
    loud = np.linspace(0, 3, 92 * 42).reshape(92, 42)
    dark, width = ink(plots.gallery([{"one": black, "two": white}, {"three": loud}]), tmp_path)
    assert 0.1 < dark < 0.6 and width == pytest.approx(150 * plots.WIDTH, abs=2)
    lines = {"path": (np.arange(10.0), np.arange(10.0)), "true": (np.arange(10.0), 2 * np.arange(10.0))}
    figure = plots.warped(np.eye(20, 30), np.arange(30) / 10, np.arange(20) * 10.0, lines, ("seconds", "column"))
    assert figure.axes[0].get_xlim() == (0, 2.9) and figure.axes[0].get_ylim() == (0, 190)
    assert ink(figure, tmp_path)[0] > 0.3
    boxes = study.figure_7_boxes(placed(grid))
    figure = plots.boxes(boxes, "rendering", "pieces", "method", "page widths", {"paper": 0.213})
    assert [axis.get_title() for axis in figure.axes] == ["strict", "tempo curve"]
    assert [text.get_text() for text in figure.legends[0].texts] == [*study.BOXES.values(), "paper"]
    assert ink(figure, tmp_path)[0] > 0.005
    assert figure.axes[0].get_yscale() == "log"
    empty = plots.boxes(boxes[:0], "rendering", "pieces", "method", "page widths")
    assert len(empty.axes) == 1 and ink(empty, tmp_path)


def test_a_page_width_is_the_papers():
    """Its 45 mm are .213 of a page of 210 mm, and 9 mm are .041."""
    assert PAGE_WIDTH == 835
    for widths, millimetres in published.ALIGNMENT_FIGURE_7.values():
        assert widths * report.MILLIMETRES == pytest.approx(millimetres, abs=0.5)
