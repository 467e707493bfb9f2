"""Presets, configs and the grid of runs of study 1."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...corpora import primus
from ...models.crnn import FREEZING
from ...runs import Run
from ...training import Training

KEY = "transfer_learning"
TITLE = "Transfer learning between image and audio transcription"
NOTEBOOK = "1_transfer_learning"
VERSION = 1  # raise it when the same config gives another result

MODALITIES = ("image", "audio")
SIZES = (50, 75, 100, 250, 500, 1000)  # Table 3


# -- presets -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preset:
    """Everything that differs between a first look and the paper's protocol."""

    corpus: primus.OpenCorpus | None  # None: only the paper's own data, given by path
    base: Training  # full data, every arm of Table 2
    small_samples: int  # Table 3: 100 epochs as in the paper, but at most so many pictures seen
    sizes: tuple[int, ...] = SIZES
    seeds: tuple[int, ...] = (0,)
    height: int = 64
    network: str = "paper"
    freezing: tuple[str, ...] = tuple(FREEZING)  # Table 2's columns beside the best of each direction
    tokens: tuple[int, int] = (5, 40)  # curation: shortest and longest incipit
    quarters: float = 32.0  # and its longest duration, 16 s at 120 a minute
    validation: int = 400
    test: int = 1000
    small_epochs: int = 5  # Table 3: validations of a run
    controls: bool = True
    fast: Training | None = None  # budget of the faster arm
    cut: str = ""  # what the preset leaves out of the paper's grid, printed above the tables


PRESETS = {
    "smoke": Preset(
        primus.OpenCorpus("ryansMammoth", tunes=70),
        Training(40, epochs=2, learning_rate=3e-3, schedule="one_cycle", clip=5.0),
        small_samples=320,
        sizes=(),
        network="fast",
        freezing=(),
        validation=20,
        test=24,
        controls=False,
    ),
    "laptop": Preset(
        primus.OpenCorpus("ryansMammoth", tunes=420),
        Training(456, epochs=6, learning_rate=3e-3, schedule="one_cycle", clip=5.0),
        small_samples=3200,
        sizes=(),
        network="fast",
        freezing=(),
        validation=80,
        test=160,
        controls=False,
    ),
    "overnight": Preset(
        primus.OpenCorpus("rism"),
        Training(2400, epochs=8, learning_rate=4e-3, schedule="one_cycle", clip=5.0, precision="bf16"),
        small_samples=12_000,
        seeds=(0, 1, 2),
        fast=Training(4000, epochs=10, learning_rate=4e-3, schedule="one_cycle", clip=5.0, precision="bf16"),
        cut="64 rows instead of 256, 4,184 training incipits instead of 13,371, 38,400 pictures seen instead of 1.3 "
        "million; three seeds for the bases and the best transfers, one for every other cell; Table 3 sees at most "
        "12,000 pictures a run; 128 rows are among the extended runs.",
    ),
    "paper": Preset(
        None,
        Training(334_200, epochs=100, batch=4),
        small_samples=100_000,
        small_epochs=100,
        fast=Training(80_000, epochs=80, learning_rate=2e-3, schedule="one_cycle", clip=5.0, precision="bf16"),
        height=256,
        seeds=(0,),
        tokens=(1, 10**6),
        quarters=1e6,
        validation=4457,
        test=4457,
    ),
}


@dataclass(frozen=True)
class Config:
    """One training: what is read, what it starts from, what stays frozen, on how much data, for how long."""

    training: Training
    target: str = "image"  # image, audio, or both (one network that alternates)
    network: str = "paper"  # a key of models.crnn.SHAPES
    source: str = ""  # the run whose weights are loaded
    loaded: tuple[int, ...] = ()  # layers to load; empty: all
    freezing: str = "N/A"
    train_size: int = 0  # 0: all training incipits
    half: int = 0  # 1 or 2: only that half of the training incipits, so that source and target share none
    adapt_norm: bool = False  # re-estimate the batch norms' statistics on the target before training
    height: int = 64
    bins: int = 120
    seed: int = 0


#: target, source, best column of Table 2: the two directions of transfer
DIRECTIONS = (("image", "audio", "N/A"), ("audio", "image", "5:5"))


def _small(preset: Preset, size: int, equal: bool = False) -> Training:
    """Table 3's budget: the paper's 100 epochs, capped; with ``equal`` the cap for every size."""
    samples = preset.small_samples if equal else min(100 * size, preset.small_samples)
    return replace(preset.base, updates=samples // preset.base.batch, epochs=preset.small_epochs)


def runs(preset: str, core_only: bool = False) -> list[Run]:
    """Every run of a preset, in the order in which they should be made: what others start from comes first."""
    p = PRESETS[preset]
    grid = [Run("baselines", Config(p.base, network="none", height=p.height), note="no learning")]

    def add(name: str, note: str, *, source: str = "", core: bool = True, **settings) -> None:
        config = Config(**{"training": p.base, "network": p.network, "height": p.height, **settings, "source": source})
        grid.append(Run(name, config, (source,) if source else (), core, note))

    def table_2(seed: int, target: str, source: str, level: str) -> None:
        add(
            f"{source}-to-{target}-{level_name(level)}-s{seed}",
            "Table 2, transfer",
            source=f"{source}-s{seed}",
            target=target,
            freezing=level,
            seed=seed,
        )

    first = p.seeds[0]
    for seed in p.seeds:
        for target in MODALITIES:
            add(f"{target}-s{seed}", "Table 2, base", target=target, seed=seed)
        for target, source, best in DIRECTIONS:
            table_2(seed, target, source, best)
        if seed == first and p.controls:
            for target, network in (("image", "fast"), ("audio", "fast-audio")):
                add(f"{target}-fast-s{seed}", "faster arm", target=target, network=network, training=p.fast, seed=seed)
    for target, source, best in DIRECTIONS:
        for level in p.freezing:
            if level != best:
                table_2(first, target, source, level)
    if p.controls:
        _add_budgets(add, p)
    for target, source, best in DIRECTIONS:
        for size in p.sizes:
            for suffix, training in _budgets(p, size).items():
                small = dict(target=target, train_size=size, training=training, seed=first)
                note = "Table 3, equal updates" if suffix else "Table 3"
                add(f"{target}-n{size}{suffix}", note, **small)
                add(f"{source}-to-{target}-n{size}{suffix}", note, source=f"{source}-s{first}", freezing=best, **small)
    if p.controls:
        for target in MODALITIES:
            # not core: it would take that beyond 25,000 processor seconds
            add(f"{target}-128-s{first}", "128 rows", target=target, height=128, seed=first, core=False)
        _add_extended(add, p)
    return [run for run in grid if run.core or not core_only]


def _budgets(p: Preset, size: int) -> dict[str, Training]:
    """Table 3's own budget, and under ``-equal`` the common one where that is another."""
    own, equal = _small(p, size), _small(p, size, equal=True)
    return {"": own} if own == equal or not p.controls else {"": own, "-equal": equal}


def _add_budgets(add, p: Preset) -> None:
    """Controls: what the two budgets of a transfer do without any transfer, and one network for both modalities."""
    seed = p.seeds[0]
    double = replace(p.base, updates=2 * p.base.updates, epochs=2 * p.base.epochs)
    for target in MODALITIES:
        add(f"{target}-twice-s{seed}", "scratch, twice the updates", target=target, training=double, seed=seed)
        add(
            f"{target}-restart-s{seed}",
            "same modality, fresh optimiser",
            source=f"{target}-s{seed}",
            target=target,
            seed=seed,
        )
    add(f"both-s{seed}", "one network for both", target="both", training=double, seed=seed)


def _add_extended(add, p: Preset) -> None:
    """Past the core: disjoint incipits, single blocks, gentler fine-tuning, a wider transform."""
    seed = p.seeds[0]
    gentle = replace(p.base, learning_rate=p.base.learning_rate / 5)
    for target, source, best in DIRECTIONS:
        stem, parent = f"{source}-to-{target}", f"{source}-s{seed}"
        common = dict(core=False, target=target, seed=seed)
        add(f"{source}-half1-s{seed}", "source of half the incipits", core=False, target=source, half=1, seed=seed)
        for half, how in ((1, "shared with"), (2, "disjoint from")):
            note = f"target incipits {how} the source's"
            add(
                f"{stem}-half{half}-s{seed}", note, source=f"{source}-half1-s{seed}", freezing=best, half=half, **common
            )
        for layers in ((1, 2), (3, 4), (5,)):
            name = "".join(map(str, layers))
            add(f"{stem}-only{name}-s{seed}", f"layers {name} alone", source=parent, loaded=layers, **common)
        add(f"{stem}-gentle-s{seed}", "a fifth of the rate", source=parent, training=gentle, freezing=best, **common)
        add(f"{stem}-norm-s{seed}", "norms re-estimated", source=parent, adapt_norm=True, freezing=best, **common)
    add(f"audio-wide-s{seed}", "audio up to C8", core=False, target="audio", bins=168, height=96, seed=seed)


def level_name(freezing: str) -> str:
    return freezing.replace("/", "").replace(":", "")
