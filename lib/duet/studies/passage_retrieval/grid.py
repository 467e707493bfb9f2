"""Presets, configs and the grid of runs of study 2."""

from __future__ import annotations

from dataclasses import dataclass

from ...corpora.sheets import OpenSheets
from ...models.cca import RIDGE
from ...runs import Run
from ...training import Training

KEY = "passage_retrieval"
TITLE = "Passage summarisation for audio-sheet music retrieval"
NOTEBOOK = "2_passage_retrieval"
VERSION = 1  # raise it when the same config gives another result

CONDITIONS = ("I", "II", "III")  # clean and synthetic; scans and synthetic; scans and real-like
TEMPI = (0.5, 0.66, 1.0, 1.33, 2.0)  # Table 3: times as fast
VOTERS = (1, 5, 25, 100)  # hits that vote for each query snippet; the paper does not say how many
DIMENSIONS = (16, 32, 64, 128, 256, 512, 1024)  # Figure 3


@dataclass(frozen=True)
class Preset:
    """Everything that differs between a first look and the paper's protocol."""

    corpus: OpenSheets | None  # None: only MSMD itself
    snippets: Training  # of the snippet model
    passages: Training
    split: str = "lcasr_msmd_split"
    widths: str = "half"  # experiment.WIDTHS
    loss: str = "infonce"
    ridge: float = 0.1  # of the snippet model's CCA layer
    cca_in_training: bool = False
    seeds: tuple[int, ...] = (0,)
    dimensions: tuple[int, ...] = (16, 256)  # of Figure 3, beside 64
    validation: int = 2048  # snippet pairs or passages, as published
    refinement: int = 25_000
    tested: int = 0  # at most so many test pieces, the shortest; 0: all
    full: bool = False  # also the paper's widths, once
    controls: bool = True
    cut: str = ""  # what the preset leaves out of the paper's grid, printed above the tables


def _snippets(updates: int, epochs: int, batch: int = 128, rate: float = 2e-3) -> Training:
    return Training(
        updates, epochs, batch, learning_rate=rate, schedule="one_cycle", precision="bf16", optimiser="adamw",
        weight_decay=1e-3,
    )  # fmt: skip


def _passages(updates: int, epochs: int, batch: int = 64, rate: float = 3e-3) -> Training:
    return Training(
        updates, epochs, batch, learning_rate=rate, schedule="one_cycle", clip=0.5, precision="bf16",
        optimiser="adamw", weight_decay=1e-5,
    )  # fmt: skip


PRESETS = {
    "smoke": Preset(
        OpenSheets("registry", 9, 1, "BachJS"),
        _snippets(4, 2, 40),
        _passages(4, 2, 8),
        split="all_split",
        dimensions=(),
        validation=40,
        refinement=80,
        tested=3,
        controls=False,
    ),
    "laptop": Preset(
        OpenSheets("registry", 60, 2),
        _snippets(80, 4),
        _passages(50, 5, 32),
        split="all_split",
        dimensions=(),
        validation=300,
        refinement=2000,
        controls=False,
    ),
    "overnight": Preset(
        OpenSheets("mutopia", None, 6, "MozartWA"),
        _snippets(1000, 10),
        _passages(800, 10),
        seeds=(0, 1, 2),
        full=True,
        cut="half the paper's widths, with the full ones once; 51,200 passages seen by each model instead of 2.9 "
        "million, 128,000 snippet pairs instead of 37 million, at one-cycle rates; embedding sizes 16, 64 and 256.",
    ),
    "paper": Preset(
        None,
        Training(
            512 * 280, 280, 256, learning_rate=1e-4, schedule="halving", patience=20, optimiser="adamw",
            weight_decay=1e-3,
        ),
        Training(
            256 * 180, 180, 64, learning_rate=3e-3, schedule="halving", patience=15, lowest_rate=2e-6, clip=0.5,
            optimiser="adamw", weight_decay=1e-5,
        ),
        widths="paper",
        loss="ranking",
        ridge=RIDGE,
        cca_in_training=True,
        seeds=(0, 1, 2),
        dimensions=tuple(d for d in DIMENSIONS if d != 64),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """One run.

    ``method``: "snippet" (the model of single snippets, which also votes: the paper's BL), "passage", or "untrained".
    ``start``: what of the parent's is loaded: "" nothing, "plain" encoders and projection, "refined" the same with the
    projection of many pairs.  ``frozen``: on its snippet vectors, encoders never change.
    """

    method: str
    training: Training | None = None
    widths: str = "half"
    summariser: str = "gru"
    dimensions: int = 64
    start: str = ""
    frozen: bool = False
    grouped: bool = True  # two renderings of one system never meet in a batch
    loss: str = "ranking"  # one-sided as published, "symmetric", or "infonce"
    margin: float = 0.3
    ridge: float = RIDGE  # of a snippet model
    cca_in_training: bool = True  # a snippet model learns through its CCA layer, or gets it when it is refined
    seed: int = 0


def runs(preset: str, core_only: bool = False) -> list[Run]:
    """Every run of a preset, in the order in which they should be made: what others start from comes first."""
    p = PRESETS[preset]
    first, grid = p.seeds[0], []

    def add(name: str, note: str, parent: str = "", core: bool = True, **settings) -> None:
        own = {"method": "passage", "training": p.passages, "widths": p.widths, "loss": p.loss}
        config = Config(**{**own, **settings})
        grid.append(Run(name, config, (parent,) if parent else (), core, note))

    snippets = {"method": "snippet", "training": p.snippets, "margin": 0.6, "ridge": p.ridge}
    add(f"untrained-s{first}", "no learning: random weights", method="untrained", training=None)
    for seed in p.seeds:
        parent = f"snippet-s{seed}"
        add(parent, "BL: snippets vote", cca_in_training=p.cca_in_training, seed=seed, **snippets)
        add(f"rnn-s{seed}", "RNN", seed=seed)
        add(f"rnn-ft-cca-s{seed}", "RNN-FT-CCA", parent, start="refined", seed=seed)
        add(f"fixed-gru-s{seed}", "RNN with a GRU that is not trained", summariser="fixed gru", seed=seed)
        add(f"rnn-fz-s{seed}", "RNN-FZ", parent, start="plain", frozen=True, seed=seed)
        add(f"rnn-fz-cca-s{seed}", "RNN-FZ-CCA", parent, start="refined", frozen=True, seed=seed)
        if seed == first:
            add(f"rnn-ft-s{seed}", "RNN-FT", parent, start="plain", seed=seed)
    for dimensions in p.dimensions:
        add(f"rnn-d{dimensions}-s{first}", f"Figure 3: {dimensions} dimensions", dimensions=dimensions)
    if p.full:
        add(f"rnn-full-s{first}", "RNN, the paper's widths", widths="paper")
    if p.controls:
        parent = f"snippet-s{first}"
        fixed = {"start": "refined", "summariser": "fixed gru", "frozen": True}
        add(f"fixed-gru-fz-cca-s{first}", "RNN-FZ-CCA as released: its GRU is not trained", parent, **fixed)
        if p.loss == "ranking":
            add(f"infonce-s{first}", "softmax over the batch instead of margins", core=False, loss="infonce")
        else:
            add(f"snippet-ranking-s{first}", "BL, margins through a CCA layer as published", loss="ranking", **snippets)
            add(f"ranking-s{first}", "RNN, margins as published", loss="ranking")
        add(f"mean-s{first}", "mean of the snippets", core=False, summariser="mean")
        add(f"transformer-s{first}", "a transformer instead of the GRU", core=False, summariser="transformer")
        add(f"ungrouped-s{first}", "renderings of one system may be negatives", core=False, grouped=False)
        add(f"symmetric-s{first}", "both sides are anchors", core=False, loss="symmetric")
    return [run for run in grid if run.core or not core_only]
