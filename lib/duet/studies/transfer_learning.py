"""Study 1: transfer learning between image and audio transcription (Alfaro-Contreras et al., SMC 2022).

One CRNN reads staff images or constant-Q transforms and writes PrIMuS tokens.  It is trained on one modality and
trained on with the other, with a growing block of layers frozen (Table 2) and with little target data (Table 3).
Notebook: ``notebooks/1_transfer_learning.ipynb``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import engraving, features, files, metrics, paths, published, semantic, tables
from ..corpora import primus
from ..decoding import greedy_ctc
from ..errors import DuetError
from ..models.crnn import CRNN, FREEZING, SHAPES, layer_table
from ..runs import Grid, Run
from ..training import Training, device, epoch_rng, load_into, read_about, save_weights, train
from ..verdicts import Claim, Estimate, Resampling

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
        "12,000 pictures a run.",
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
            f"{source}-to-{target}-{_level(level)}-s{seed}",
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
            add(f"{target}-128-s{first}", "128 rows", target=target, height=128, seed=first)
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


def _level(freezing: str) -> str:
    return freezing.replace("/", "").replace(":", "")


# -- data --------------------------------------------------------------------------------------------------------------


@dataclass
class Data:
    """Corpus, splits and vocabulary; pictures come from the cache."""

    corpus: primus.Primus
    splits: dict[str, list[str]]
    split_name: str
    fingerprint: str
    name: str
    progress: bool = False
    _sets: dict[features.Picture, features.PictureSet] = field(default_factory=dict)

    @cached_property
    def tokens(self) -> dict[str, list[str]]:
        return {i: self.corpus.tokens(i) for part in self.splits.values() for i in part}

    @cached_property
    def vocabulary(self) -> list[str]:
        """Sorted tokens of the training part, the same for every run; the blank comes after them."""
        return sorted({t for i in self.splits["train"] for t in self.tokens[i]})

    @cached_property
    def index(self) -> dict[str, int]:
        return {t: k for k, t in enumerate(self.vocabulary)}

    @cached_property
    def distorted(self) -> bool:
        """Whether the camera's pictures are there; PrIMuS, unlike Camera-PrIMuS, has only the engravings."""
        return self.corpus.image_path(self.splits["train"][0]).exists()

    def kind(self, config: Config, modality: str) -> features.Picture:
        """What a run reads in a modality."""
        if modality == "image":
            return features.Picture("image", config.height, self.distorted)
        return features.Picture("audio", config.height, bins=config.bins)

    def pictures(self, kind: features.Picture) -> features.PictureSet:
        if kind not in self._sets:
            ids = [i for part in ("train", "validation", "test") for i in self.splits[part]]
            self._sets[kind] = features.pictures(self.corpus, kind, ids, progress=self.progress)
        return self._sets[kind]


def prepare(preset: str, corpus: str = "", progress: bool = False) -> Data:
    """The corpus, built or checked, its splits, and the pictures that the core's runs read.

    ``corpus`` is the root of PrIMuS or Camera-PrIMuS; the published fold 0 is used where its lists are found and
    all its incipits are in the corpus.
    """
    p = PRESETS[preset]
    if not corpus and p.corpus is None:
        raise DuetError(
            f"the preset {preset} reads the paper's own data", remedy="give corpus=<folder of Camera-PrIMuS>"
        )
    source = primus.Primus(corpus) if corpus else p.corpus.build(progress=progress)
    data = Data(source, *_split(source, p), name=source.description["name"], progress=progress)
    settings = primus.BuildSettings()
    everything = [i for part in data.splits.values() for i in part]
    if not source.description.get("stand_in"):
        primus.render_audio(source, everything, settings, progress=progress)
    for config in {(r.config.height, r.config.bins): r.config for r in runs(preset, core_only=True)}.values():
        for modality in MODALITIES:
            data.pictures(data.kind(config, modality))
    return data


def _split(corpus: primus.Primus, p: Preset) -> tuple[dict[str, list[str]], str, str]:
    """Splits, what they are called, and the fingerprint of both corpus and splits."""
    folder = paths.lists() / "primus" / "folds"
    if not corpus.description.get("stand_in") and folder.is_dir():
        fold = primus.published_fold(folder)
        known = set(corpus.ids)
        if all(i in known for part in fold.values() for i in part):
            return fold, "the published fold 0", files.digest(corpus.fingerprint, "fold 0")
    kept = []
    for identity in corpus.ids:
        tokens = corpus.tokens(identity)
        if p.tokens[0] <= len(tokens) <= p.tokens[1] and semantic.length(tokens) <= p.quarters:
            kept.append(identity)
    splits = primus.split_by_source(corpus, kept, p.validation, p.test)
    splits["validation"] = splits["validation"][: p.validation]
    return (
        splits,
        "by source record",
        files.digest(corpus.fingerprint, str((p.tokens, p.quarters, p.validation, p.test))),
    )


# -- training and evaluation -------------------------------------------------------------------------------------------

Batch = tuple[
    Tensor, Tensor, Tensor, Tensor
]  # pictures (B, rows, columns) uint8, columns (B,), targets, target lengths


WIDTH_STEP = 16  # columns; few distinct shapes let the library reuse its compiled kernels


def collate(pictures: Sequence[np.ndarray], targets: Sequence[Sequence[int]]) -> Batch:
    """Pad on the right with blank paper or silence to the widest picture, rounded up to 16 columns."""
    widths = torch.tensor([p.shape[1] for p in pictures])
    batch = np.zeros((len(pictures), pictures[0].shape[0], -(-int(widths.max()) // WIDTH_STEP) * WIDTH_STEP), np.uint8)
    for row, one in zip(batch, pictures, strict=True):
        row[:, : one.shape[1]] = one
    lengths = torch.tensor([len(t) for t in targets])
    return torch.from_numpy(batch), widths, torch.tensor([k for t in targets for k in t], dtype=torch.long), lengths


def batches(
    sets: Sequence[tuple[features.PictureSet, Sequence[str]]], data: Data, size: int, seed: int, epoch: int, count: int
) -> Iterator[Batch]:
    """``count`` batches of an epoch.  Pictures of a like width go together: padding costs as much as content.

    With several sets (modalities) each batch is of one set, in turn.
    """
    rng = epoch_rng(seed, epoch)
    queues: list[list[list[str]]] = [[] for _ in sets]
    for number in range(count):
        which = number % len(sets)
        pictures, ids = sets[which]
        if not queues[which]:
            order = [ids[k] for k in rng.permutation(len(ids))]
            pool = 8 * size
            for start in range(0, len(order), pool):
                block = sorted(order[start : start + pool], key=pictures.width)
                queues[which] += [block[k : k + size] for k in range(0, len(block) - size + 1, size)]
            rng.shuffle(queues[which])
        chosen = queues[which].pop()
        yield collate([pictures[i] for i in chosen], [[data.index[t] for t in data.tokens[i]] for i in chosen])


def ctc_loss(model: CRNN, batch: Batch) -> Tensor:
    """Mean over the batch of the negative log likelihood of the target sequence.

    An incipit with more tokens than the picture has steps cannot be aligned; it contributes nothing.
    """
    pictures, widths, targets, lengths = batch
    logits = model(pictures.to(model.layer5.weight.device, torch.float32) / 255)
    scores = logits.float().log_softmax(-1)
    losses = torch.nn.functional.ctc_loss(
        scores,
        targets.to(scores.device),
        model.steps(widths),
        lengths,
        blank=model.outputs - 1,
        reduction="none",
        zero_infinity=True,
    )
    return losses.mean()


@torch.inference_mode()
def transcribe(
    model: CRNN, pictures: Sequence[np.ndarray], vocabulary: Sequence[str], batch: int = 32
) -> list[list[str]]:
    """Tokens of each (rows, columns) uint8 picture, in order.

    Pictures are padded to the next multiple of 16 columns and batched with others of that width only: what is
    read in one never depends on its neighbours.
    """
    model.eval()
    by_width: dict[int, list[int]] = {}
    for k, one in enumerate(pictures):
        by_width.setdefault(-(-one.shape[1] // WIDTH_STEP), []).append(k)
    estimates: list[list[str]] = [[] for _ in pictures]
    for members in by_width.values():
        for start in range(0, len(members), batch):
            chosen = members[start : start + batch]
            padded, widths, _, _ = collate([pictures[k] for k in chosen], [[] for _ in chosen])
            logits = model(padded.to(model.layer5.weight.device, torch.float32) / 255)
            for k, sequence in zip(chosen, greedy_ctc(logits, model.steps(widths), model.outputs - 1), strict=True):
                estimates[k] = [vocabulary[s] for s in sequence]
    return estimates


def score(references: Sequence[Sequence[str]], estimates: Sequence[Sequence[str]]) -> dict:
    """Per item: edits and reference lengths, of all tokens and of those that can be heard; edits by family in sum."""
    families = sum(
        (metrics.edits_by_family(r, e) for r, e in zip(references, estimates, strict=True)), start=metrics.Counter()
    )
    heard = [(metrics.audible(r), metrics.audible(e)) for r, e in zip(references, estimates, strict=True)]
    result = {
        "edits": [metrics.edits(r, e) for r, e in zip(references, estimates, strict=True)],
        "lengths": [len(r) for r in references],
        "audible_edits": [metrics.edits(r, e) for r, e in heard],
        "audible_lengths": [len(r) for r, _ in heard],
        "families": dict(sorted(families.items())),
    }
    return {
        **result,
        "ser": round(metrics.symbol_error_rate(result["edits"], result["lengths"]), 4),
        "audible_ser": round(metrics.symbol_error_rate(result["audible_edits"], result["audible_lengths"]), 4),
        "sequence_error_rate": round(100 * float(np.mean(np.array(result["edits"]) > 0)), 4),
    }


def execute(
    run: Run, data: Data, parents: dict[str, Path], weights: Path, checkpoint: Path, progress: bool = False
) -> dict:
    """Train, select on validation, test once on both modalities; the run's ``result`` block."""
    config = run.config
    if config.network == "none":
        return baselines(data)
    torch.manual_seed(config.seed)
    model = CRNN(config.height, len(data.vocabulary) + 1, SHAPES[config.network])
    for path in parents.values():
        load_into(model, path, tuple(f"layer{n}." for n in config.loaded) or None)
    model.freeze(FREEZING[config.freezing])
    model.to(device())
    targets = MODALITIES if config.target == "both" else (config.target,)
    ids = data.splits["train"][: config.train_size or None]
    if config.half:
        ids = ids[config.half - 1 :: 2]
    sets = [(data.pictures(data.kind(config, m)), ids) for m in targets]
    count = config.training.updates // config.training.epochs

    if config.adapt_norm and not checkpoint.exists():
        adapt_norms(model, batches(sets, data, config.training.batch, config.seed, config.training.epochs, 50))

    def validate(network: CRNN) -> float:
        part = data.splits["validation"]
        edits = lengths = 0
        for pictures, _ in sets:
            estimates = transcribe(network, [pictures[i] for i in part], data.vocabulary)
            edits += sum(metrics.edits(data.tokens[i], e) for i, e in zip(part, estimates, strict=True))
            lengths += sum(len(data.tokens[i]) for i in part)
        return round(100 * edits / lengths, 4)

    outcome = train(
        model,
        lambda epoch: batches(sets, data, config.training.batch, config.seed, epoch, count),
        ctc_loss,
        validate,
        config.training,
        seed=config.seed,
        checkpoint=checkpoint,
        label=run.name,
        progress=progress,
    )
    save_weights(
        model,
        weights,
        {
            "study": KEY,
            "run": run.name,
            "network": config.network,
            "height": str(config.height),
            "target": config.target,
            "vocabulary": "\t".join(data.vocabulary),
        },
    )
    return {
        "trainable": model.trainable(),
        "outputs": model.outputs,
        "loss": outcome.loss,
        "validation": outcome.validation,
        "best_epoch": outcome.best_epoch,
        "items": files.digest(*data.splits["test"])[:16],
        "test": {m: evaluate(model, data, data.kind(config, m)) for m in MODALITIES},
    }


@torch.inference_mode()
def adapt_norms(model: CRNN, some: Iterator[Batch]) -> None:
    """Replace the batch norms' running statistics by those of some target batches; no weight changes."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, momentum = None, norm.momentum  # None: plain average over the batches
    model.train()
    for pictures, *_ in some:
        model(pictures.to(model.layer5.weight.device, torch.float32) / 255)
    for norm in norms:
        norm.momentum = momentum


def evaluate(model: CRNN, data: Data, kind: features.Picture) -> dict:
    """The test part's :func:`score`."""
    pictures, part = data.pictures(kind), data.splits["test"]
    return score([data.tokens[i] for i in part], transcribe(model, [pictures[i] for i in part], data.vocabulary))


# -- no learning -------------------------------------------------------------------------------------------------------


def baselines(data: Data, seed: int = 0) -> dict:
    """What a model must beat: the empty sequence, the best constant sequence and unigram sampling.

    The constant is grown greedily on training incipits: the token and place that lower the error most, until none
    does.  Unigram sequences draw their length and tokens from the training part.
    """
    rng = np.random.default_rng(seed)
    train_tokens = [data.tokens[i] for i in data.splits["train"]]
    references = [data.tokens[i] for i in data.splits["test"]]
    constant = best_constant([train_tokens[k] for k in rng.permutation(len(train_tokens))[:300]])
    pool = [t for tokens in train_tokens for t in tokens]
    lengths = [len(t) for t in train_tokens]
    unigram = [[pool[k] for k in rng.integers(len(pool), size=lengths[rng.integers(len(lengths))])] for _ in references]
    return {
        "constant": constant,
        "items": list(data.splits["test"]),
        "outputs": len(data.vocabulary) + 1,
        "sizes": {part: len(ids) for part, ids in data.splits.items()},
        "test": {
            "empty": score(references, [[] for _ in references]),
            "constant": score(references, [constant for _ in references]),
            "unigram": score(references, unigram),
        },
    }


def best_constant(references: Sequence[Sequence[str]], candidates: int = 12) -> list[str]:
    """A sequence with a low symbol error rate against all references, grown one token at a time."""
    counts = metrics.Counter(t for r in references for t in r)
    common = [t for t, _ in counts.most_common(candidates)]
    constant: list[str] = []
    best = sum(len(r) for r in references)
    while True:
        trials = [constant[:k] + [t] + constant[k:] for k in range(len(constant) + 1) for t in common]
        errors = [sum(metrics.edits(r, trial) for r in references) for trial in trials]
        if min(errors) >= best:
            return constant
        best, constant = min(errors), trials[int(np.argmin(errors))]


# -- results -----------------------------------------------------------------------------------------------------------


class Results:
    """The records of a grid, read as the paper's arms: an arm is one column of Table 2 or one cell of Table 3.

    Every difference is taken on the same bootstrap draws over the test part's RISM records.
    """

    def __init__(self, grid: Grid):
        self.grid = grid
        self.preset: Preset = PRESETS[grid.preset]
        self.records = {name: record for name in grid.runs if (record := grid.find(name)) is not None}
        self.corpus = grid.data().name
        self.baselines = self.records["baselines"]["result"]
        self.resampling = Resampling([i.split("-", 1)[0] for i in self.baselines["items"]])
        self._cache: dict = {}

    def names(self, arm: str) -> list[str]:
        """The runs of an arm that have been made: ``image``, ``audio-to-image N/A``, ``image-n50``, ``image-twice``."""
        stem, _, level = arm.partition(" ")
        stem = f"{stem}-{_level(level)}" if level else stem
        known = [name for name in self.grid.runs if name == stem or name.rpartition("-s")[0] == stem]
        if not known:
            return []
        return [name for name in known if name in self.records]

    def draws(self, arm: str, modality: str, audible: bool = False) -> np.ndarray | None:
        """(1 + draws,) symbol error rates of an arm on a test part, or None where no run of it has been made."""
        key = (arm, modality, audible)
        if key not in self._cache:
            tests = [self.records[n]["result"]["test"][modality] for n in self.names(arm)]
            prefix = "audible_" if audible else ""
            self._cache[key] = (
                self.resampling.rate([t[prefix + "edits"] for t in tests], tests[0][prefix + "lengths"])
                if tests
                else None
            )
        return self._cache[key]

    def rate(self, arm: str, modality: str, audible: bool = False) -> Estimate | None:
        draws = self.draws(arm, modality, audible)
        return None if draws is None else self.resampling.estimate(draws, len(self.names(arm)))

    def baseline(self, name: str, audible: bool = False) -> Estimate:
        test, prefix = self.baselines["test"][name], "audible_" if audible else ""
        return self.resampling.estimate(self.resampling.rate([test[prefix + "edits"]], test[prefix + "lengths"]))

    def learned(self) -> bool:
        """Whether both base models beat the best constant sequence, interval against interval."""
        constant, bases = self.baseline("constant"), [self.rate(m, m) for m in MODALITIES]
        return all(b is not None and b.high < constant.low for b in bases)

    def difference(self, arm: str, other: str, modality: str) -> Estimate | None:
        """Symbol error rate of ``arm`` minus that of ``other``, in points."""
        a, b = self.draws(arm, modality), self.draws(other, modality)
        if a is None or b is None:
            return None
        return self.resampling.estimate(a - b, min(len(self.names(arm)), len(self.names(other))))

    def mean_difference(self, pairs: Sequence[tuple[str, str]], modality: str) -> Estimate | None:
        """Mean over pairs of arms of the difference first minus second; None unless every arm has been made."""
        draws = [(self.draws(a, modality), self.draws(b, modality)) for a, b in pairs]
        if not draws or any(a is None or b is None for a, b in draws):
            return None
        return self.resampling.estimate(np.mean([a - b for a, b in draws], 0))


def table_1(data: Data, preset: str) -> pd.DataFrame:
    """Table 1: the layers, with parameters counted at the paper's size and at ours."""
    p = PRESETS[preset]
    paper, ours = (
        layer_table(256, published.TRANSFER_OUTPUTS),
        layer_table(p.height, len(data.vocabulary) + 1, SHAPES[p.network]),
    )
    rows = [
        {
            "layer": a["layer"],
            "operation": a["operation"],
            "parameters": a["parameters"],
            "operation, ours": b["operation"],
            "parameters, ours": b["parameters"],
        }
        for a, b in zip(paper, ours, strict=True)
    ]
    total = {
        "layer": "all",
        "operation": f"paper: {published.TRANSFER_PARAMETERS:,}",
        "parameters": sum(r["parameters"] for r in rows),
        "operation, ours": f"{p.height} rows, {len(data.vocabulary) + 1} outputs",
        "parameters, ours": sum(r["parameters, ours"] for r in rows),
    }
    return pd.DataFrame([*rows, total])


def table_2(results: Results) -> pd.DataFrame:
    """Table 2: symbol error rate of every arm on both test parts."""
    rows = []
    for modality in MODALITIES:
        for arm, printed in published.TRANSFER_TABLE_2.items():
            rows.append(
                tables.row(
                    {"test": modality, "model": arm}, printed[modality], results.rate(arm, modality), results.corpus
                )
            )
    return tables.tidy(rows)


def table_3(results: Results) -> pd.DataFrame:
    """Table 3: symbol error rate on the target's test part by size of the target's training part."""
    rows = []
    for (target, how), printed in published.TRANSFER_TABLE_3.items():
        for size, value in printed.items():
            stem = target if how == "scratch" else f"{_other(target)}-to-{target}"
            rows.append(
                tables.row(
                    {"test": target, "training": how, "size": size},
                    value,
                    results.rate(f"{stem}-n{size}", target),
                    results.corpus,
                )
            )
    return tables.tidy(rows)


def table_baselines(results: Results) -> pd.DataFrame:
    """Beside every table: what needs no learning, and the base models without the tokens that cannot be heard."""
    rows = []
    for audible in (False, True):
        tokens = "audible" if audible else "all"
        for name in ("empty", "constant", "unigram"):
            rows.append(
                tables.row(
                    {"tokens": tokens, "test": "both", "model": name},
                    None,
                    results.baseline(name, audible),
                    results.corpus,
                )
            )
        for modality, arm in ((m, a) for m in MODALITIES for a in BEST_ARMS[m]):
            rows.append(
                tables.row(
                    {"tokens": tokens, "test": modality, "model": arm},
                    None,
                    results.rate(arm, modality, audible),
                    results.corpus,
                )
            )
    return tables.tidy(rows)


#: the arms that the paper's text compares, by target
BEST_ARMS = {"image": ("image", "audio-to-image N/A"), "audio": ("audio", "image-to-audio 5:5")}


def table_controls(results: Results) -> pd.DataFrame:
    """What the paper lacks: equal total budgets, one network for both, more rows, a faster arm."""
    rows = []
    for target in MODALITIES:
        transfer = BEST_ARMS[target][1]
        arms = {
            target: "scratch, one budget",
            transfer: "transfer, two budgets in all",
            f"{target}-twice": "scratch, two budgets",
            f"{target}-restart": "same modality, two budgets in all",
            "both": "one network for both modalities, two budgets in all",
            f"{target}-128": "scratch, one budget, 128 rows",
            f"{target}-fast": "faster arm, its own budget",
        }
        for arm, what in arms.items():
            coordinates = {"test": target, "model": arm, "what": what}
            rows.append(tables.row(coordinates, None, results.rate(arm, target), results.corpus))
    return tables.tidy(rows)


def table_extended(results: Results) -> pd.DataFrame:
    """Past the core: what transfers, from which incipits, and how gently."""
    rows = []
    for target, source, best in DIRECTIONS:
        stem = f"{source}-to-{target}"
        arms = {
            target: "scratch",
            f"{stem} {best}": "the best column of Table 2",
            f"{stem}-half1": "half the incipits, the source's own",
            f"{stem}-half2": "half the incipits, none of the source's",
            f"{stem}-only12": "convolutions alone",
            f"{stem}-only34": "LSTMs alone",
            f"{stem}-only5": "dense layer alone",
            f"{stem}-gentle": "a fifth of the learning rate",
            f"{stem}-norm": "batch norms re-estimated first",
        }
        for arm, what in arms.items():
            coordinates = {"test": target, "model": arm, "what": what}
            rows.append(tables.row(coordinates, None, results.rate(arm, target), results.corpus))
    wide = {"test": "audio", "model": "audio-wide", "what": "transform up to C8, 96 rows"}
    rows.append(tables.row(wide, None, results.rate("audio-wide", "audio"), results.corpus))
    return tables.tidy(rows)


def table_equal_updates(results: Results) -> pd.DataFrame:
    """Table 3 with the same number of updates in every cell."""
    rows = []
    for target in MODALITIES:
        for how, stem in (("scratch", target), ("transfer", f"{_other(target)}-to-{target}")):
            for size in SIZES:
                rows.append(
                    tables.row(
                        {"test": target, "training": how, "size": size},
                        None,
                        results.rate(_equal_name(results, stem, size), target),
                        results.corpus,
                    )
                )
    return tables.tidy(rows)


def table_families(results: Results) -> pd.DataFrame:
    """Edits per 100 reference tokens by family of token, summed over the seeds of an arm."""
    rows = []
    for modality in MODALITIES:
        for arm in BEST_ARMS[modality]:
            tests = [results.records[n]["result"]["test"][modality] for n in results.names(arm)]
            total = sum(sum(t["lengths"]) for t in tests)
            counts = sum((metrics.Counter(t["families"]) for t in tests), metrics.Counter())
            rows += [
                {"test": modality, "model": arm, "family": f, "edits per 100 tokens": round(100 * c / total, 2)}
                for f, c in counts.most_common()
            ]
    return pd.DataFrame(rows, columns=["test", "model", "family", "edits per 100 tokens"])


def _other(target: str) -> str:
    return MODALITIES[1 - MODALITIES.index(target)]


def _equal_name(results: Results, stem: str, size: int) -> str:
    """The cell of Table 3 with the full small budget: its own run where the paper's budget is smaller."""
    name = f"{stem}-n{size}-equal"
    return name if name in results.grid.runs else f"{stem}-n{size}"


# -- claims ------------------------------------------------------------------------------------------------------------

MARGIN = 1.0  # points of symbol error rate: what "may stay frozen" and "marginal" may cost


def _cells(target: str, sizes: Sequence[int], suffix: str = "") -> list[tuple[str, str]]:
    return [(f"{_other(target)}-to-{target}-n{size}{suffix}", f"{target}-n{size}{suffix}") for size in sizes]


def _forgetting(results: Results, arms: Sequence[tuple[str, str, str]]) -> Estimate | None:
    """The smallest rise of the source's error over the adapted models."""
    rises = [results.difference(adapted, source, modality) for adapted, source, modality in arms]
    return None if any(r is None for r in rises) else min(rises, key=lambda r: r.low)


def _relative_gap(results: Results) -> Estimate | None:
    """Relative gain of audio->image minus that of image->audio, in percent."""
    arms = [results.draws(arm, m) for m in MODALITIES for arm in BEST_ARMS[m]]
    if any(a is None for a in arms):
        return None
    image, to_image, audio, to_audio = arms
    return results.resampling.estimate(100 * ((1 - to_image / image) - (1 - to_audio / audio)))


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "audio->image transfer improves the image model with full data",
        "Section 4.1, Table 2",
        "9.58 -> 5.31",
        "SER(audio-to-image N/A) - SER(image) on images below 0",
        lambda r: r.difference("audio-to-image N/A", "image", "image"),
    ),
    Claim(
        "image->audio transfer improves the audio model slightly with full data",
        "Section 4.1, Table 2",
        "29.24 -> 28.32",
        "SER(image-to-audio 5:5) - SER(audio) on audio below 0",
        lambda r: r.difference("image-to-audio 5:5", "audio", "audio"),
    ),
    Claim(
        "the classifier may stay frozen for image->audio",
        "Section 4.1, Table 2",
        "28.6 (N/A), 28.3 (5:5)",
        f"SER(image-to-audio 5:5) - SER(image-to-audio N/A) on audio below {MARGIN}",
        lambda r: r.difference("image-to-audio 5:5", "image-to-audio N/A", "audio"),
        bound=MARGIN,
    ),
    Claim(
        "but not for audio->image",
        "Section 4.1, Table 2",
        "5.3 (N/A), 17.6 (5:5)",
        f"SER(audio-to-image 5:5) - SER(audio-to-image N/A) on images above {MARGIN}",
        lambda r: r.difference("audio-to-image 5:5", "audio-to-image N/A", "image"),
        bound=MARGIN,
        below=False,
    ),
    Claim(
        "audio->image transfers better than the reverse",
        "Section 4.1",
        "44 % and 3 % relative gain",
        "relative gain of audio-to-image N/A minus that of image-to-audio 5:5, in percent, above 0",
        _relative_gap,
        below=False,
    ),
    Claim(
        "every adapted model forgets its source",
        "Section 4.1, Table 2",
        "9.6 -> 198.2 (image), 29.2 -> 98.4 (audio)",
        "the smallest rise of the source's SER over both best transfers above 20 points",
        lambda r: _forgetting(r, (("image-to-audio 5:5", "image", "image"), ("audio-to-image N/A", "audio", "audio"))),
        bound=20.0,
        below=False,
    ),
    Claim(
        "with up to 100 samples transfer helps images",
        "Section 4.2, Table 3",
        "95.3/95.2/94.9 -> 92.1/89.7/90.8",
        "mean over 50, 75, 100 samples of SER(transfer) - SER(scratch) below 0",
        lambda r: r.mean_difference(_cells("image", (50, 75, 100)), "image"),
    ),
    Claim(
        "with 250 to 1000 samples transfer harms images",
        "Section 4.2, Table 3",
        "63.6/37.0/23.7 -> 79.5/77.6/49.9",
        "mean over 250, 500, 1000 samples of SER(transfer) - SER(scratch) above 0",
        lambda r: r.mean_difference(_cells("image", (250, 500, 1000)), "image"),
        below=False,
    ),
    Claim(
        "with 50 samples transfer helps audio",
        "Section 4.2, Table 3",
        "93.5 -> 64.0",
        "SER(transfer) - SER(scratch) at 50 samples below 0",
        lambda r: r.mean_difference(_cells("audio", (50,)), "audio"),
    ),
    Claim(
        "with more than 50 samples transfer does not help audio",
        "Section 4.2, Table 3",
        "56.7/57.0/45.9/40.4/37.5 -> 57.7/53.6/47.3/41.9/38.4",
        f"mean over 75 to 1000 samples of SER(transfer) - SER(scratch) above -{MARGIN}",
        lambda r: r.mean_difference(_cells("audio", SIZES[1:]), "audio"),
        bound=-MARGIN,
        below=False,
    ),
    Claim(
        "equal budgets: audio->image still beats an image model trained as long",
        "control",
        "",
        "SER(audio-to-image N/A) - SER(image-twice) on images below 0",
        lambda r: r.difference("audio-to-image N/A", "image-twice", "image"),
    ),
    Claim(
        "equal budgets: audio->image still beats restarting the image model",
        "control",
        "",
        "SER(audio-to-image N/A) - SER(image-restart) on images below 0",
        lambda r: r.difference("audio-to-image N/A", "image-restart", "image"),
    ),
    Claim(
        "equal budgets: image->audio still beats an audio model trained as long",
        "control",
        "",
        "SER(image-to-audio 5:5) - SER(audio-twice) on audio below 0",
        lambda r: r.difference("image-to-audio 5:5", "audio-twice", "audio"),
    ),
    Claim(
        "equal updates: transfer helps images with up to 100 samples",
        "control",
        "",
        "mean over 50, 75, 100 samples of SER(transfer) - SER(scratch), updates equal, below 0",
        lambda r: r.mean_difference(_cells("image", (50, 75, 100), "-equal"), "image"),
    ),
    Claim(
        "equal updates: transfer helps audio with up to 100 samples",
        "control",
        "",
        "mean over 50, 75, 100 samples of SER(transfer) - SER(scratch), updates equal, below 0",
        lambda r: r.mean_difference(_cells("audio", (50, 75, 100), "-equal"), "audio"),
    ),
    Claim(
        "one multi-task network keeps both modalities",
        "Sections 4.1 and 5, named as future work",
        "",
        "SER(both) - SER(base of the same total budget) below 3 points in both modalities",
        lambda r: _worst(r, [("both", f"{m}-twice", m) for m in MODALITIES]),
        bound=3.0,
    ),
)


def _worst(results: Results, arms: Sequence[tuple[str, str, str]]) -> Estimate | None:
    gaps = [results.difference(*arm) for arm in arms]
    return None if any(g is None for g in gaps) else max(gaps, key=lambda g: g.high)


# -- what the notebook shows -------------------------------------------------------------------------------------------


def settings_table(data: Data, preset: str) -> pd.DataFrame:
    """The resolved configuration beside the paper's."""
    p, paper = PRESETS[preset], PRESETS["paper"]

    def schedule(t: Training) -> str:
        return f"{t.schedule}, {t.learning_rate:g}" + (f", clip {t.clip:g}" if t.clip else "")

    rows = [
        ("corpus", "Camera-PrIMuS", data.name),
        (
            "training / validation / test incipits",
            "13,371 / 4,457 / 4,457",
            " / ".join(f"{len(data.splits[part]):,}" for part in ("train", "validation", "test")),
        ),
        ("split", "fold 0 of five", data.split_name),
        ("tokens of the vocabulary", "1,166", f"{len(data.vocabulary):,}"),
        (
            "curation",
            "long multirests removed, rule not given",
            f"{p.tokens[0]} to {p.tokens[1]} tokens, at most {p.quarters:g} quarter notes"
            if p.corpus
            else "the published fold",
        ),
        ("rows of a picture", "256", str(p.height)),
        ("network", "paper", p.network),
        ("batch", str(paper.base.batch), str(p.base.batch)),
        ("updates", f"{paper.base.updates:,}", f"{p.base.updates:,}"),
        ("epochs of training data", "100", f"{p.base.updates * p.base.batch / len(data.splits['train']):.1f}"),
        ("validations", "100, on 4,457", f"{p.base.epochs}, on {len(data.splits['validation'])}"),
        ("learning rate", schedule(paper.base), schedule(p.base)),
        ("arithmetic", "fp32", p.base.precision),
        ("seeds of a compared arm", "1, not set", str(len(p.seeds))),
        ("pictures seen at most, Table 3", "100 epochs", f"{p.small_samples:,}" if p.sizes else "no runs"),
    ]
    return pd.DataFrame(rows, columns=["setting", "paper", "ours"])


def views(data: Data, identity: str, config: Config) -> dict[str, np.ndarray]:
    """Caption -> (rows, columns) uint8, ink 255: an incipit's engraving, photograph, and the network's two inputs."""
    page, sound = (data.pictures(data.kind(config, m))[identity] for m in MODALITIES)
    return {
        "engraved": 255 - features.read_image(data.corpus.image_path(identity, distorted=False)),
        "photographed": 255 - features.read_image(data.corpus.image_path(identity)),
        f"read of the page: {page.shape[0]} x {page.shape[1]}": page,
        f"read of the sound: {sound.shape[0]} x {sound.shape[1]}, low notes below": sound,
    }


def run_table(results: Results) -> pd.DataFrame:
    """Every run of the core: made or not, its cost and its validation."""
    rows = []
    for run in runs(results.grid.preset, core_only=True):
        record = results.records.get(run.name)
        made = record is not None
        validation = min(record["result"].get("validation", [float("nan")])) if made else float("nan")
        rows.append(
            {
                "run": run.name,
                "what for": run.note,
                "pictures seen": run.config.training.updates * run.config.training.batch,
                "validation SER": f"{validation:.1f}" if made else tables.NOT_RUN,
                "CPU seconds": f"{record['provenance']['cpu_seconds']:.0f}" if made else "",
            }
        )
    return pd.DataFrame(rows[1:])


def curves(results: Results) -> pd.DataFrame:
    """Validation error by pictures seen, of the arms that the paper's text compares (first seed)."""
    seed, rows = results.preset.seeds[0], []
    for target in MODALITIES:
        for name in (
            f"{target}-s{seed}",
            *(r for r in results.records if r.startswith(f"{_other(target)}-to-{target}-") and r.endswith(f"-s{seed}")),
        ):
            if name in results.records:
                record = results.records[name]
                t = record["config"]["training"]
                each = t["updates"] // t["epochs"] * t["batch"]
                rows += [
                    {"run": name, "panel": f"{target} validation", "samples": (k + 1) * each, "validation": v}
                    for k, v in enumerate(record["result"]["validation"])
                ]
    return pd.DataFrame(rows, columns=["run", "panel", "samples", "validation"])


@dataclass
class Transcriber:
    """A trained network with its vocabulary: pictures or people's own files in, tokens out."""

    model: CRNN
    vocabulary: list[str]
    modality: str

    @classmethod
    def load(cls, path: Path) -> Transcriber:
        """From a safetensors file of this study.  Raises DuetError for a file that carries no such description."""
        about = read_about(path)
        try:
            vocabulary, shape = about["vocabulary"].split("\t"), SHAPES[about["network"]]
            model = CRNN(int(about["height"]), len(vocabulary) + 1, shape)
        except (KeyError, ValueError):
            raise DuetError(
                "is not a transcription network of this study", path=path, remedy="use weights that a run of it saved"
            ) from None
        load_into(model, path)
        return cls(model.eval(), vocabulary, about["target"])

    def picture(self, picture: np.ndarray) -> list[str]:
        """Tokens of one (rows, columns) uint8 picture."""
        return transcribe(self.model, [picture], self.vocabulary)[0]

    def file(self, path: str | Path) -> list[str]:
        """Tokens of an image of one staff, or of a recording of one voice."""
        if self.modality == "image":
            return self.picture(features.image_picture(features.read_image(path), self.model.rows))
        return self.picture(features.audio_picture(features.read_audio(path), self.model.rows))


def weights_for(grid: Grid, modality: str) -> Path:
    """The faster arm's published weights where there are, else this preset's base model's."""
    shipped = grid.folder / "weights" / f"{modality}.safetensors"
    return shipped if shipped.exists() else grid.weights(f"{modality}-s{PRESETS[grid.preset].seeds[0]}")


def ship(grid: Grid) -> list[Path]:
    """Publish the faster arm's weights in half precision, under 5 MB each, beside the tables.

    Nothing is published of a run whose weights are not on this machine.
    """
    shipped = []
    for modality in MODALITIES:
        name = f"{modality}-fast-s{PRESETS[grid.preset].seeds[0]}"
        if name in grid.runs and grid.weights(name).exists():
            target = grid.folder / "weights" / f"{modality}.safetensors"
            save_weights(Transcriber.load(grid.weights(name)).model.half(), target, read_about(grid.weights(name)))
            shipped.append(target)
    return shipped


def engraved(tokens: Sequence[str]) -> np.ndarray:
    """(rows, columns) uint8, ink 255: predicted tokens as a staff."""
    return 255 - engraving.staff_image(semantic.mei_from_tokens(semantic.playable(tokens)))


def export(tokens: Sequence[str], stem: Path) -> tuple[Path, Path]:
    """Write ``stem.musicxml`` and ``stem.mid``."""
    part = semantic.part_from_tokens(tokens)
    written = []
    for suffix, form in ((".musicxml", "musicxml"), (".mid", "midi")):
        with files.atomic(stem.with_name(stem.name + suffix)) as path:
            part.write(form, path)
        written.append(stem.with_name(stem.name + suffix))
    return tuple(written)


def write_metrics(results: Results, judged: pd.DataFrame, path: Path) -> dict:
    """The figures that a README quotes, as ``metrics.json``."""

    def number(arm: str, modality: str) -> float | None:
        estimate = results.rate(arm, modality)
        return None if estimate is None else round(estimate.value, 2)

    made = [r for r in runs(results.grid.preset, core_only=True) if r.name in results.records]
    metrics_ = {
        "corpus": results.corpus,
        "preset": results.grid.preset,
        "ser": {f"{arm} on {m}": number(arm, m) for m in MODALITIES for arm in (*BEST_ARMS[m], f"{m}-fast")},
        "constant": round(results.baseline("constant").value, 2),
        "verdicts": dict(judged["verdict"].value_counts().sort_index().items()),
        "runs": {
            "core": len(runs(results.grid.preset, core_only=True)),
            "made": len(made),
            "cpu_seconds": round(sum(results.records[r.name]["provenance"]["cpu_seconds"] for r in made)),
        },
    }
    files.write_json(path, metrics_)
    return metrics_
