"""Presets, configs and the grid of runs of study 4."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...runs import Run
from ...training import Training

KEY = "synthetic_pretraining"
TITLE = "Synthetic pre-training for transcription across instruments"
NOTEBOOK = "4_synthetic_pretraining"
VERSION = 1  # raise it when the same config gives another result

TARGETS = ("maps", "guitar")  # the two domains that models are tested on
DOMAINS = {"si": "SI", "maps": "MAPS", "guitar": "GuitarSet"}  # key -> what the paper's tables call it
SHIFTS = (-3, -2, -1, 0, 1, 2, 3)  # semitones, drawn for training chunks


@dataclass(frozen=True)
class Sizes:
    """Clips of the open corpora, and their longest in seconds."""

    collection: str  # "registry" or "open"
    si: tuple[int, float]
    piano: tuple[int, float]
    guitar: tuple[int, float]


@dataclass(frozen=True)
class Preset:
    """Everything that differs between a first look and the paper's protocol."""

    sizes: Sizes | None  # of the open corpora; None: only the paper's own data
    real: bool  # whether the user's MAPS and GuitarSet take the stand-ins' places
    source: Training  # from random weights, on any domain
    target: Training  # on a target, from the weights of another domain
    network: str = "narrow"  # experiment.NETWORKS
    chunk: int = 320  # frames of a training chunk, 32 ms each
    seeds: tuple[int, ...] = (0,)
    published: Training | None = None  # for the published network, normalisation and head
    minutes: float = 0.0  # of a recording that are tested; 0: all of it
    controls: bool = True
    overlap: bool = False  # keep training pieces that the test plays too: the paper's own split
    cut: str = ""  # what the preset leaves out of the paper's grid, printed above the tables


def _one_cycle(updates: int, epochs: int, rate: float = 2e-3, batch: int = 8) -> Training:
    return Training(updates, epochs, batch, learning_rate=rate, schedule="one_cycle", clip=3.0, precision="bf16")


_LAPTOP = _one_cycle(500, 5, 5e-3)
_OVERNIGHT = _one_cycle(1200, 12, 3e-3)
_PAPER = Training(12_000, 200, 32, learning_rate=1e-2, clip=1.0)

PRESETS = {
    "smoke": Preset(
        Sizes("registry", si=(8, 10.0), piano=(8, 10.0), guitar=(6, 10.0)),
        real=False,
        source=_one_cycle(6, 2, batch=2),
        target=_one_cycle(4, 2, batch=2),
        network="tiny",
        chunk=160,
        controls=False,
    ),
    "laptop": Preset(
        Sizes("registry", si=(60, 20.0), piano=(24, 20.0), guitar=(24, 20.0)),
        real=False,
        source=replace(_LAPTOP, updates=640),
        target=replace(_LAPTOP, updates=220),
        network="tiny",
        chunk=160,
        controls=False,
    ),
    "overnight": Preset(
        Sizes("open", si=(600, 45.0), piano=(48, 60.0), guitar=(120, 30.0)),
        real=True,
        source=_OVERNIGHT,
        target=_OVERNIGHT,
        seeds=(0, 1, 2),
        published=_one_cycle(1200, 12),
        cut="a narrower network for the grid, the published one for SI and SI -> MAPS; 1,200 updates of 8 chunks of "
        "10.24 s for each training; the Disklavier recordings and the guitar stand-in named in the tables.",
    ),
    "paper": Preset(
        None,
        real=True,
        source=_PAPER,
        target=_PAPER,
        network="published",
        chunk=640,
        seeds=(0, 1, 2),
        overlap=True,
    ),
}


@dataclass(frozen=True)
class Config:
    """One run: what the network was trained on, from whose weights, and how."""

    method: str  # "train", "threshold", "untrained", "adapted"
    domain: str = ""  # si, si-paper, maps or guitar
    training: Training | None = None
    network: str = "narrow"
    chunk: int = 320
    normalisation: str = "fixed"  # or "chunk", as published
    augmented: bool = True
    seed: int = 0
    minutes: float = 0.0  # of training audio; 0: all there is
    replay: float = 0.0  # share of the chunks that come from the synthetic set


def runs(preset: str, core_only: bool = False) -> list[Run]:
    """Every run of a preset, in the order in which they should be made: what others start from comes first."""
    p = PRESETS[preset]
    grid = [Run("threshold", Config("threshold"), note="no learning: a thresholded constant-Q transform")]
    published = {"network": "published", "normalisation": "chunk", "augmented": False}
    grid_wide = published if p.network == "published" else {"network": p.network}

    def add(name: str, note: str, *, parent: str = "", core: bool = True, **settings) -> None:
        training = p.target if parent else p.source
        config = Config(**{"method": "train", "training": training, "chunk": p.chunk, **grid_wide, **settings})
        grid.append(Run(name, config, (parent,) if parent else (), core, note))

    first = p.seeds[0]
    add(f"untrained-s{first}", "no learning: random weights", method="untrained", training=None, domain="si")
    for seed in p.seeds:
        for domain, name in DOMAINS.items():
            what = "zero-shot on both" if domain == "si" else f"{name} from random weights"
            add(f"{domain}-s{seed}", what, domain=domain, seed=seed)
        for source, target in (("si", "maps"), ("si", "guitar"), ("guitar", "maps"), ("maps", "guitar")):
            what = f"{DOMAINS[source]} -> {DOMAINS[target]}"
            add(f"{source}-to-{target}-s{seed}", what, parent=f"{source}-s{seed}", domain=target, seed=seed)
        if not p.controls:
            continue
        for target in TARGETS:  # as many updates as pre-training and fine-tuning have together
            longer = replace(p.source, updates=p.source.updates + p.target.updates)
            core = seed == first or target == "maps"
            add(f"{target}-twice-s{seed}", "equal updates", domain=target, seed=seed, training=longer, core=core)
    if p.controls:
        wide = {**published, "training": p.published} if p.published else {}
        if wide:
            add(f"published-si-s{first}", "the published network and input", domain="si", **wide)
            parent = f"published-si-s{first}"
            add(f"published-si-to-maps-s{first}", "the same", parent=parent, domain="maps", **wide)
        add(f"si-paper-s{first}", "SI as published: two programs, velocity 127", domain="si-paper")
        add(
            f"si-adapted-s{first}",
            "batch-norm statistics of MAPS",
            parent=f"si-s{first}",
            method="adapted",
            domain="maps",
            training=None,
            core=False,
        )
        for minutes in (5.0, 25.0):
            for target in TARGETS:
                short = {"domain": target, "minutes": minutes, "core": False}
                add(f"{target}-{minutes:g}min-s{first}", "few minutes of audio", **short)
                add(f"si-to-{target}-{minutes:g}min-s{first}", "the same, SI first", parent=f"si-s{first}", **short)
        for target in TARGETS:
            add(
                f"si-to-{target}-replay-s{first}",
                "a quarter of the chunks from SI",
                parent=f"si-s{first}",
                domain=target,
                replay=0.25,
                core=False,
            )
    return [run for run in grid if run.core or not core_only]
