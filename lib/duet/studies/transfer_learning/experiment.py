"""One run of study 1: its data, its training, its test, and what its network makes of people's own files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ... import engraving, features, files, losses, metrics, paths, semantic
from ...corpora import primus
from ...decoding import greedy_ctc
from ...errors import DuetError
from ...models.crnn import CRNN, FREEZING, SHAPES
from ...runs import Grid, Run
from ...training import buckets, device, epoch_rng, load_into, read_about, save_weights, train_run
from .grid import KEY, MODALITIES, PRESETS, Config, Preset, runs

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
    source = primus.Primus(corpus, primus.BuildSettings.installed()) if corpus else p.corpus.build(progress=progress)
    data = Data(source, *divided(source, p), name=source.description["name"], progress=progress)
    everything = [i for part in data.splits.values() for i in part]
    if not source.description.get("stand_in"):
        primus.render_audio(source, everything, progress=progress)
    for config in {(r.config.height, r.config.bins): r.config for r in runs(preset, core_only=True)}.values():
        for modality in MODALITIES:
            data.pictures(data.kind(config, modality))
    return data


def divided(corpus: primus.Primus, p: Preset) -> tuple[dict[str, list[str]], str, str]:
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

#: pictures (B, rows, columns) uint8, columns (B,), targets (all tokens in a row,), target lengths (B,)
Batch = tuple[Tensor, Tensor, Tensor, Tensor]
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
    """``count`` batches of an epoch, of pictures of a like width.

    With several sets (modalities) each batch is of one set, in turn.
    """
    rng = epoch_rng(seed, epoch)
    queues: list[list[list[str]]] = [[] for _ in sets]
    for number in range(count):
        which = number % len(sets)
        pictures, ids = sets[which]
        if not queues[which]:
            queues[which] = buckets(ids, pictures.width, size, rng)
        chosen = queues[which].pop()
        yield collate([pictures[i] for i in chosen], [[data.index[t] for t in data.tokens[i]] for i in chosen])


def ctc_loss(model: CRNN, batch: Batch) -> Tensor:
    """Mean over the batch of the negative log likelihood of the target sequence.

    An incipit with more tokens than the picture has steps cannot be aligned; it contributes nothing.
    """
    pictures, widths, targets, lengths = batch
    logits = model(pictures.to(model.layer5.weight.device, torch.float32) / 255)
    return losses.ctc_loss(logits.transpose(0, 1), targets, model.steps(widths), lengths, model.outputs - 1)


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
    count = config.training.per_epoch

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

    curves = train_run(
        run,
        model,
        lambda epoch: batches(sets, data, config.training.batch, config.seed, epoch, count),
        ctc_loss,
        validate,
        checkpoint,
        progress,
    )
    save_weights(
        model,
        weights,
        {
            "study": KEY,
            "run": run.name,
            "network": config.network,
            "height": str(config.height),
            "bins": str(config.bins),
            "target": config.target,
            "vocabulary": "\t".join(data.vocabulary),
        },
    )
    return {
        "trainable": model.trainable(),
        "outputs": model.outputs,
        **curves,
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


# -- people's own files ------------------------------------------------------------------------------------------------


@dataclass
class Transcriber:
    """A trained network with its vocabulary: pictures or people's own files in, tokens out."""

    model: CRNN
    vocabulary: list[str]
    modality: str
    bins: int = 120

    @classmethod
    def load(cls, path: Path) -> Transcriber:
        """From a safetensors file of this study.  Raises DuetError for a file that carries no such description."""
        about = read_about(path)
        try:
            vocabulary, shape = about["vocabulary"].split("\t"), SHAPES[about["network"]]
            model = CRNN(int(about["height"]), len(vocabulary) + 1, shape)
            described = (vocabulary, about["target"], int(about.get("bins", 120)))
        except (KeyError, ValueError):
            raise DuetError(
                "is not a transcription network of this study", path=path, remedy="use weights that a run of it saved"
            ) from None
        load_into(model, path)
        return cls(model.eval(), *described)

    def picture(self, picture: np.ndarray) -> list[str]:
        """Tokens of one (rows, columns) uint8 picture."""
        return transcribe(self.model, [picture], self.vocabulary)[0]

    def file(self, path: str | Path) -> list[str]:
        """Tokens of an image of one staff, or of a recording of one voice."""
        if self.modality == "image":
            return self.picture(features.image_picture(features.read_image(path), self.model.rows))
        return self.picture(features.audio_picture(features.read_audio(path), self.model.rows, self.bins))


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
