"""Presets, configs and the grid of runs of study 5."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...corpora import themes
from ...runs import Run
from ...training import Training

KEY = "ctc_chroma"
TITLE = "Deep chroma from weakly aligned scores and recordings (CTC)"
NOTEBOOK = "5_ctc_chroma"
VERSION = 1  # raise it when the same config gives another result

FOLDS = 5
RATES = (25, 10)  # Hz: Tables 3b and 3a
STRETCHES = (0.4, 0.5, 0.63, 0.8, 1.0, 1.25, 1.6, 2.0, 2.5)  # of the query's annotated duration: the tempo curve
LOSSES = ("ctc", "cce", "strong")  # what the chroma network is trained with
SHIFTS = (-3, -2, -1, 0, 1, 2, 3)  # semitones, drawn for training excerpts


@dataclass(frozen=True)
class Preset:
    """Everything that differs between a first look and the paper's protocol."""

    corpus: themes.OpenCorpus | None  # None: only the paper's own data, given by path
    training: Training
    network: str = "strided"  # strided, full or paper: experiment.NETWORKS
    folds: tuple[int, ...] = (1, 2, 3, 4, 5)  # test folds that are trained for
    seeds: tuple[int, ...] = (0,)
    full: Training | None = None  # the 72,970-parameter network on the first fold
    salience: Training | None = None  # our own training of the deep-salience architecture
    published_salience: bool = False  # or its published weights
    source_filter: str = "cheap"  # settings of the source-filter model: paper or cheap
    controls: bool = True
    cut: str = ""  # what the preset leaves out of the paper's grid, printed above the tables


PRESETS = {
    "smoke": Preset(
        themes.OpenCorpus("registry", recordings=7, themes=22, longest=28.0),
        Training(30, epochs=2, batch=8, learning_rate=3e-3, schedule="one_cycle", clip=5.0),
        folds=(1,),
        controls=False,
    ),
    "laptop": Preset(
        themes.OpenCorpus("registry", recordings=50, themes=180, longest=40.0),
        Training(640, epochs=8, batch=8, learning_rate=3e-3, schedule="one_cycle", clip=5.0, precision="bf16"),
        folds=(1,),
        controls=False,
    ),
    "overnight": Preset(
        themes.OpenCorpus("open", recordings=420, themes=1260),
        Training(1600, epochs=10, batch=8, learning_rate=3e-3, schedule="one_cycle", clip=5.0, precision="bf16"),
        seeds=(0, 1),
        full=Training(1600, epochs=10, batch=8, learning_rate=3e-3, schedule="one_cycle", clip=5.0, precision="bf16"),
        salience=Training(1200, epochs=6, batch=8, learning_rate=2e-3, schedule="one_cycle", precision="bf16"),
        cut="the strided network on all five folds and the paper's full one on the first; 12,800 excerpts seen; "
        "one-cycle rates instead of ten phases; the salience baselines in the cheaper forms that their rows name.",
    ),
    "paper": Preset(
        None,
        # 163 batches an epoch are three folds of MTD without Beethoven's; ten phases end it, or 200 epochs
        Training(163 * 200, epochs=200, batch=8, learning_rate=1e-3, schedule="plateau", patience=4, halvings=9),
        network="paper",
        published_salience=True,
        source_filter="paper",
    ),
}


@dataclass(frozen=True)
class Config:
    """One run: a way to make chroma, the fold whose queries test it, and how it was trained."""

    method: str  # chroma, source-filter, source-filter-raw, salience, untrained, exact, or one of LOSSES
    fold: int = 0  # 0: nothing was trained on this corpus, so every query is a test query
    training: Training | None = None
    network: str = "strided"
    centred: bool = False  # pool the three bins around a semitone's centre, not from it upwards
    seed: int = 0
    extras: bool = False  # also the tempo curve and the search over transpositions
    fused_with: str = ""  # settings of the source-filter model whose distances are mixed in


def fold_parts(fold: int) -> tuple[tuple[int, int, int], int]:
    """Training folds and the validation fold of a test fold: cyclic, as the released models are named."""
    wrap = lambda k: (k - 1) % FOLDS + 1  # noqa: E731
    return (wrap(fold + 1), wrap(fold + 2), wrap(fold + 3)), wrap(fold + 4)


def runs(preset: str, core_only: bool = False) -> list[Run]:
    """Every run of a preset, in the order in which they should be made: what others start from comes first."""
    p = PRESETS[preset]
    grid = [
        Run("chroma", Config("chroma"), note="no learning: chroma of the constant-Q transform"),
        Run(
            "source-filter",
            Config("source-filter", network=p.source_filter),
            note="C_BG1: source-filter salience on contours",
        ),
        Run("source-filter-raw", Config("source-filter-raw", network=p.source_filter), note="the same, every bin kept"),
    ]

    def add(name: str, note: str, *, parents: tuple[str, ...] = (), core: bool = True, **settings) -> None:
        config = Config(**{"training": p.training, "network": p.network, **settings})
        grid.append(Run(name, config, parents, core, note))

    if p.salience or p.published_salience:
        network = "paper" if p.published_salience else "small"
        add("salience", "C_Bit: deep salience", method="salience", training=p.salience, network=network)
    first = p.folds[0]
    add(f"untrained-f{first}-s0", "no learning: random weights", method="untrained", fold=first, training=None)
    for seed in p.seeds:
        for fold in p.folds:
            extras = p.controls and seed == p.seeds[0]
            fused = {"fused_with": p.source_filter, "extras": extras}
            add(f"ctc-f{fold}-s{seed}", "Tables 3, 4 and 6", method="ctc", fold=fold, seed=seed, **fused)
            add(f"cce-f{fold}-s{seed}", "Table 5", method="cce", fold=fold, seed=seed)
        if seed == p.seeds[0] and p.full:
            for loss in ("ctc", "cce"):
                name = f"{loss}-full-f{first}-s{seed}"
                add(name, "the paper's network", method=loss, fold=first, training=p.full, network="full", seed=seed)
    if p.controls:
        for fold in p.folds:
            add(f"strong-f{fold}-s{p.seeds[0]}", "frames aligned note by note", method="strong", fold=fold)
        trained = f"ctc-f{first}-s{p.seeds[0]}"
        add(f"exact-f{first}-s0", "its chroma of exact HCQTs", parents=(trained,), method="exact", fold=first)
        longer = replace(p.training, updates=4 * p.training.updates, epochs=2 * p.training.epochs)
        add(f"ctc-long-f{first}-s0", "four times the updates", core=False, method="ctc", fold=first, training=longer)
        add(f"ctc-centred-f{first}-s0", "centred pooling", core=False, method="ctc", fold=first, centred=True)
    return [run for run in grid if run.core or not core_only]
