"""Presets, configs and the grid of runs of study 3."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...corpora.sheets import OpenSheets
from ...models.cca import RIDGE
from ...runs import LATER, Run
from ...training import Training

KEY = "alignment"
TITLE = "Audio-sheet correspondences, score identification and alignment"
NOTEBOOK = "3_alignment"
VERSION = 1  # raise it when the same config gives another result

SYNTHS = 3  # instruments of "3 synths"


@dataclass(frozen=True)
class Augmentation:
    """What is varied between the appearances of a training pair.  Section 2.3 of the paper, Figure 3.

    ``scale`` of the picture, uniform in 1 +- this; ``vertical`` and ``horizontal`` shifts of the window, whole pixels;
    ``synths``: instruments of the renderings (0: every one there is); ``tempi``: renderings at 0.9 to 1.1 of the
    notated seconds, not only at 1.  ``jitter``: the excerpt up to a frame off and up to a band up or down, which the
    code has and the paper does not.
    """

    scale: float = 0.0
    vertical: int = 0
    horizontal: int = 0
    synths: int = 1
    tempi: bool = False
    jitter: bool = False


_SHEET = Augmentation(scale=0.05, vertical=5, horizontal=5)
_ALL = replace(_SHEET, synths=SYNTHS, tempi=True)

#: rows of Table 2, by what they are called here and in the paper
SETTINGS: dict[str, tuple[str, Augmentation]] = {
    "none": ("no augmentation", Augmentation()),
    "tempi": ("1 synth, 100-130 bpm", Augmentation(tempi=True)),
    "synths": ("3 synths, 120 bpm", Augmentation(synths=SYNTHS)),
    "synths-tempi": ("3 synths, 100-130 bpm", Augmentation(synths=SYNTHS, tempi=True)),
    "scale": ("image scaling", Augmentation(scale=0.05)),
    "vertical": ("vertical system shift", Augmentation(vertical=5)),
    "horizontal": ("horizontal note shift", Augmentation(horizontal=5)),
    "sheet": ("all sheet", _SHEET),
    "all": ("all", _ALL),
}


@dataclass(frozen=True)
class Preset:
    """Everything that differs between a first look and the paper's protocol.

    ``split``: the corpus's list that says which pieces are trained on and tested.  ``composer``: the one of those
    pieces that the paper's models know; ``held_out``: beginnings of the names of this composer's training pieces that
    validate instead.  ``tested``: at most so many test pieces, the shortest; 0: all.
    """

    corpus: OpenSheets | None  # None: only MSMD itself
    training: Training
    composer: str
    held_out: tuple[str, ...] = ()
    split: str = "all_split"
    settings: tuple[str, ...] = tuple(SETTINGS)
    network: str = "small"  # aligner.NETWORKS
    ridge: float = 0.1  # of the CCA layer
    loss: str = "ranking"
    seeds: tuple[int, ...] = (0,)
    validation: int = 1000  # pairs, as published
    refinement: int = 25_000
    tested: int = 0
    candidates: int = 0  # test pairs, evenly spaced over all; 0: all
    controls: bool = True
    stronger: Training | None = None
    cut: str = ""  # what the preset leaves out of the paper's grid, printed above the tables


def _training(updates: int, epochs: int, batch: int = 100) -> Training:
    # validation pieces of the laptop corpus, 30,000 pairs: an MRR of .211 at this rate, of .132 at the published 2e-3
    return Training(
        updates, epochs, batch, learning_rate=1e-2, schedule="one_cycle", precision="bf16", weight_decay=2e-5
    )


_CORE = _training(1000, 20)
_PAPER = Training(
    100_000, 1000, 100, learning_rate=2e-3, schedule="plateau", patience=30, later_patience=10, halvings=10,
    weight_decay=2e-5,
)  # fmt: skip

PRESETS = {
    "smoke": Preset(
        OpenSheets("registry", 9, 1, "BachJS"),
        _training(4, 2, batch=40),
        "BachJS",
        settings=("none", "all"),
        validation=60,
        refinement=80,
        tested=3,
        candidates=120,
        controls=False,
    ),
    "laptop": Preset(
        OpenSheets("registry", 60, 1, "BachJS"),
        _training(60, 3),
        "BachJS",
        settings=("none", "tempi", "synths-tempi", "vertical", "all"),
        network="dense",
        loss="infonce",
        validation=300,
        refinement=1000,
        tested=8,
        candidates=1000,
        controls=False,
        cut="five rows of Table 2 at 6,000 training pairs each, which the paper's network does not learn from: dense "
        "layers instead of means, InfoNCE instead of CCA and ranking.",
    ),
    "overnight": Preset(
        OpenSheets("mutopia", None, 6, "MozartWA"),
        _CORE,
        "MozartWA",
        held_out=("MozartWA__KV545__",),
        seeds=(0, 1, 2),
        stronger=_CORE,
        cut="100,000 training pairs for each model instead of several millions, at a one-cycle rate; pictures of half "
        "the paper's rows and columns, the paper's being left to two extended runs; three seeds for no and for full "
        "augmentation, one for every other row.",
    ),
    "paper": Preset(
        None,
        _PAPER,
        "MozartWA",
        held_out=("MozartWA__KV545__",),
        network="paper",
        ridge=RIDGE,
        seeds=(0, 1, 2),
        stronger=replace(_PAPER, precision="bf16"),
    ),
}


@dataclass(frozen=True)
class Config:
    """One run: what was trained, on which pieces, with which augmentation.

    ``method``: "train", "untrained" (random weights), "linear" (a straight line; no network), "chroma" (the score's own
    notes against the sound; no network).  ``pieces``: "composer" or "all".  ``whole``: whether whole pieces are
    identified and aligned, beside the single pairs.
    """

    method: str
    training: Training | None = None
    augmentation: Augmentation = Augmentation()
    pieces: str = "composer"
    network: str = "paper"
    ridge: float = RIDGE
    margin: float = 0.7
    whole: bool = False
    seed: int = 0
    symmetric: bool = False  # both sides are anchors
    loss: str = field(default="ranking", metadata=LATER)  # or "infonce"
    by_maximum: bool = False  # spectrograms divided by their largest value, as in 2017
    published_cut: bool = False  # windows by the released cutter, see snippets


def runs(preset: str, core_only: bool = False) -> list[Run]:
    """Every run of a preset, in the order in which they should be made."""
    p = PRESETS[preset]
    first = p.seeds[0]
    grid = [
        Run("linear", Config("linear", whole=True), note="no learning: a straight line from end to end"),
        Run("chroma", Config("chroma", whole=True), note="upper bound: the notes of the score against the sound"),
    ]
    base = Config("train", p.training, network=p.network, ridge=p.ridge, loss=p.loss)
    add = lambda name, note, core=True, **settings: grid.append(  # noqa: E731
        Run(name, replace(base, **settings), core=core, note=note)
    )
    add(f"untrained-s{first}", "no learning: random weights", method="untrained", training=None, whole=True)
    for seed in p.seeds:
        for key in p.settings:
            title, augmentation = SETTINGS[key]
            ends = key in ("none", "all")
            if seed == first or ends:
                add(f"{key}-s{seed}", title, augmentation=augmentation, whole=ends, seed=seed)
    strong = {"training": p.stronger, "network": "dense", "loss": "infonce", "whole": True}
    if p.stronger:
        add(f"strong-s{first}", "a dense layer, InfoNCE", augmentation=_ALL, **strong)
    if p.controls:
        every = replace(_ALL, synths=0)
        add(f"all-pieces-none-s{first}", "every composer, no augmentation", pieces="all", whole=True)
        add(f"all-pieces-s{first}", "every composer, full augmentation", pieces="all", augmentation=every, whole=True)
        if p.stronger:
            add(f"all-pieces-strong-s{first}", "every composer, a dense layer, InfoNCE", pieces="all",
                augmentation=every, **strong)  # fmt: skip
        if p.network != "paper":
            for key in ("none", "all"):
                title, augmentation = SETTINGS[key]
                add(f"full-{key}-s{first}", f"{title}, pictures of the paper's size", augmentation=augmentation,
                    core=False, network="paper", whole=True)  # fmt: skip
        jitter = replace(_ALL, jitter=True)
        add(f"jitter-s{first}", "all, and excerpts a frame or a band off", augmentation=jitter)
        extended = {"core": False, "augmentation": _ALL}
        add(f"dense-s{first}", "a dense layer, no CCA layer", network="dense", **extended)
        add(f"infonce-s{first}", "InfoNCE", loss="infonce", **extended)
        add(f"margin-s{first}", "margin .5", margin=0.5, **extended)
        add(f"symmetric-s{first}", "both sides are anchors", symmetric=True, **extended)
        add(f"by-maximum-s{first}", "spectrograms divided by their maximum", by_maximum=True, **extended)
        add(f"published-cut-s{first}", "the released cutter's windows", published_cut=True, **extended)
    return [run for run in grid if run.core or not core_only]
