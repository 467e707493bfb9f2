"""One run of study 4: its domains, its training, and how its notes compare with the annotated ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import librosa
import numpy as np
import torch
from torch import Tensor, nn

from ... import features, files, metrics, paths, transcription
from ...corpora.guitarset import GuitarSet
from ...corpora.instruments import OpenSet, paper_way
from ...corpora.maps import Maps
from ...corpora.recordings import Corpus, Split
from ...errors import DuetError
from ...models.unet import Transcriber
from ...progress import Progress
from ...runs import Run
from ...training import device, epoch_rng, load_into, save_weights, train_run
from ...transcription import BINS, FRAME, KEYS, NORMALISATIONS, Thresholds
from .grid import KEY, PRESETS, SHIFTS, TARGETS, Config

# -- data --------------------------------------------------------------------------------------------------------------


@dataclass
class Domain:
    """Recordings of one kind with their notes, features and split."""

    key: str  # si, si-paper, maps or guitar
    corpus: Corpus
    split: Split
    skipped: list[str] = field(default_factory=list)  # why recordings were left out

    def __post_init__(self):
        self.values = lru_cache(maxsize=None)(self._values)
        self.notes = lru_cache(maxsize=None)(self.corpus.notes)
        self.targets = lru_cache(maxsize=None)(self._targets)

    @property
    def folder(self) -> Path:
        key = files.digest(self.corpus.fingerprint, str(FEATURES_VERSION))[:16]
        return paths.cache() / "transcription" / f"{self.key}-{key}"

    def prepare(self, progress: bool) -> None:
        """Features of every recording of the split; those that cannot be read are taken out and listed."""
        stems = [stem for part in self.split for stem in part]
        damaged = features.store(self.folder, stems, partial(_features, self.corpus), f"{self.key} features", progress)
        self.skipped += damaged.values()
        self.split = Split(*([s for s in part if s not in damaged] for part in self.split))
        features.store(self.folder / "lags", self.split.test, partial(_lag, self.corpus), f"{self.key} lags", progress)

    def _values(self, stem: str) -> np.ndarray:
        """(frames, 176) float16, memory-mapped: :func:`transcription.spectrogram` at one level."""
        return np.load(self.folder / f"{stem}.npy", mmap_mode="r")

    def _targets(self, stem: str) -> np.ndarray:
        """(2, frames, 88) uint8: where keys sound, and how near their onset is, in 255ths."""
        both = np.stack(transcription.targets(self.notes(stem), len(self.values(stem))))
        return np.round(both * 255).astype(np.uint8)

    def seconds(self, part: Sequence[str]) -> float:
        return sum(len(self.values(stem)) for stem in part) * FRAME

    @cached_property
    def lags(self) -> dict[str, float]:
        """Test recording -> seconds by which its sound is later than its labels, see :func:`label_lag`."""
        return {stem: float(np.load(self.folder / "lags" / f"{stem}.npy")) for stem in self.split.test}


FEATURES_VERSION = 1  # raise it when a recording's features come out otherwise


def _features(corpus: Corpus, stem: str) -> np.ndarray:
    """(frames, 176) float16; also opens the labels, so that what is stored can be trained on."""
    corpus.notes(stem)
    return transcription.spectrogram(transcription.level(corpus.audio(stem))).astype(np.float16)


def _lag(corpus: Corpus, stem: str) -> np.ndarray:
    return np.array(label_lag(corpus.audio(stem), corpus.notes(stem)))


def label_lag(audio: np.ndarray, notes: np.ndarray) -> float:
    """Seconds by which the sound's onsets come after the labelled ones, from -0.05 to 0.1, in steps of 5 ms.

    Where the mean rise of the spectrum's magnitude around the labelled onsets is greatest: of those alone before which
    100 ms are free of onsets, and never of a model's output.  ``audio`` (samples,) at 16 kHz; 0 without such an onset.
    """
    hop = 80
    # not its logarithm, which rises most when a window's edge first touches the sound, 10 ms early
    magnitude = np.abs(librosa.stft(audio, n_fft=512, win_length=320, hop_length=hop))
    flux = np.maximum(np.diff(magnitude, axis=1, prepend=magnitude[:, :1]), 0).sum(0)
    onsets = np.unique(notes[:, 0])
    onsets = onsets[np.diff(onsets, prepend=-1.0) > 0.1]
    steps = np.arange(-10, 21)
    frames = np.round(onsets * transcription.SAMPLE_RATE / hop).astype(int)[:, None] + steps
    frames = frames[(frames >= 0).all(1) & (frames < len(flux)).all(1)]
    if not len(frames):
        return 0.0
    # the difference of two frames lies between them
    return float((steps[flux[frames].mean(0).argmax()] - 0.5) * hop / transcription.SAMPLE_RATE)


@dataclass
class Data:
    """The domains of a preset."""

    domains: dict[str, Domain]

    @property
    def name(self) -> str:
        return "; ".join(self.domains[key].corpus.name for key in TARGETS)

    @cached_property
    def fingerprint(self) -> str:
        """What a run's id depends on: every domain, and which of its recordings could be used."""
        parts = [(d.key, d.corpus.fingerprint, *(f"{p}" for p in d.split)) for d in self.domains.values()]
        return files.digest(*(text for part in parts for text in part), str(FEATURES_VERSION))

    @property
    def skipped(self) -> list[str]:
        return [f"{d.corpus.name}: {line}" for d in self.domains.values() for line in d.skipped]


def prepare(preset: str, corpus: str = "", progress: bool = False) -> Data:
    """The synthetic set, the two targets and the synthetic set as published, each with its features.

    ``corpus`` is a folder that holds ``MAPS``, ``GuitarSet`` or both.  The presets that use real recordings also find
    them through ``DUET_MAPS`` and ``DUET_GUITARSET``; an open stand-in takes the place of what is not there.
    """
    p = PRESETS[preset]
    roots = {key: paths.real(name, corpus) if p.real or corpus else None for key, name in REAL.items()}
    missing = [REAL[key] for key in TARGETS if roots[key] is None]
    if missing and p.sizes is None:
        raise DuetError(
            f"the preset {preset} reads the paper's own data, and {' and '.join(missing)} cannot be found",
            remedy="give corpus=<folder with MAPS and GuitarSet>, or set DUET_MAPS and DUET_GUITARSET",
        )
    domains = {}
    if roots["maps"]:
        maps = Maps(roots["maps"])
    else:
        maps = open_set(preset, "piano").build(progress=progress)
    domains["maps"] = Domain("maps", maps, maps.split(overlap=p.overlap))
    guitar = GuitarSet(roots["guitar"]) if roots["guitar"] else open_set(preset, "guitar").build(progress=progress)
    domains["guitar"] = Domain("guitar", guitar, guitar.split_random() if p.overlap else guitar.split())
    for domain in domains.values():
        domain.prepare(progress)
    if p.controls or p.sizes is None:
        labels = {
            part: {stem: domains[key].notes(stem) for key in TARGETS for stem in getattr(domains[key].split, of)}
            for part, of in (("train", "training"), ("val", "validation"))
        }
        published = paper_way(labels, progress=progress)
        domains["si-paper"] = Domain("si-paper", published, published.split())
    if p.sizes is not None:
        synthetic = open_set(preset, "synthetic").build(progress=progress)
        tested = [domains["maps"].notes(stem) for stem in domains["maps"].split.test]
        domains["si"] = Domain("si", synthetic, *without_pieces(synthetic, synthetic.split(), tested))
    else:
        domains["si"] = Domain("si", published, published.split())
    for key in ("si", "si-paper"):
        if key in domains:
            domains[key].prepare(progress)
    return Data(domains)


REAL = {"maps": "MAPS", "guitar": "GuitarSet"}


def open_set(preset: str, kind: str) -> OpenSet:
    """The open corpus that a preset takes for "synthetic", "piano" or "guitar"."""
    sizes = PRESETS[preset].sizes
    clips, longest = {"synthetic": sizes.si, "piano": sizes.piano, "guitar": sizes.guitar}[kind]
    return OpenSet(kind, sizes.collection, clips, longest)


GRAM = 8  # notes: so many in a row of the uppermost line, as intervals, tell a piece


def without_pieces(corpus: Corpus, split: Split, tested: Sequence[np.ndarray]) -> tuple[Split, list[str]]:
    """The split without recordings that play what the test plays, and a line for each that was taken out.

    A recording goes where a tenth of the stretches of its uppermost line, eight intervals each in any key, occur in
    one test recording: transposed or not, the same piece.
    """
    known = [_grams(notes) for notes in tested]
    lines, kept = [], []
    for part in split:
        kept.append([])
        for stem in part:
            own = _grams(corpus.notes(stem))
            share = max((len(own & other) for other in known), default=0) / max(len(own), 1)
            if share > 0.1:
                lines.append(f"{stem} plays what a test recording plays ({share:.0%} of its melody)")
            else:
                kept[-1].append(stem)
    return Split(*kept), lines


def _grams(notes: np.ndarray) -> set[bytes]:
    """Stretches of intervals of the highest notes at every onset (within 50 ms)."""
    groups = np.flatnonzero(np.diff(notes[:, 0], prepend=-np.inf) > 0.05)
    tops = np.maximum.reduceat(notes[:, 2], groups) if len(groups) else np.zeros(0)
    steps = np.diff(tops).astype(np.int8)
    return {steps[k : k + GRAM].tobytes() for k in range(len(steps) - GRAM + 1) if len(set(steps[k : k + GRAM])) > 3}


# -- training ----------------------------------------------------------------------------------------------------------

#: networks of models.unet: the published one, and narrower ones with an onset head for a machine without a GPU
NETWORKS: dict[str, Callable[[], Transcriber]] = {
    "published": Transcriber,
    "wide": partial(Transcriber, 16, 128, onsets=True),
    "narrow": partial(Transcriber, 12, 128, onsets=True),
    "tiny": partial(Transcriber, 4, 64, onsets=True),
}
Batch = tuple[Tensor, Tensor]  # (B, T, 176) and (B, T, 2, 88)


def chunk(domain: Domain, stem: str, start: int, config: Config, rng: np.random.Generator | None) -> Batch:
    """(T, 176) in [0, 1] and its targets (T, 2, 88), from frame ``start`` on; altered where ``rng`` is given.

    A recording that is shorter is followed by silence.
    """
    values = np.asarray(domain.values(stem)[start : start + config.chunk], np.float32)
    target = np.asarray(domain.targets(stem)[:, start : start + config.chunk], np.float32) / 255
    if rng is not None:
        values, target = altered(values, target, rng)
    missing = config.chunk - len(values)
    values = np.pad(values, ((0, missing), (0, 0)), constant_values=np.log(transcription.FLOOR))
    target = np.pad(target, ((0, 0), (0, missing), (0, 0)))
    scaled = NORMALISATIONS[config.normalisation](values)
    return torch.from_numpy(scaled), torch.from_numpy(target).transpose(0, 1)


def altered(values: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A chunk of logarithmic magnitudes transposed, louder or softer, coloured and with a noise floor.

    Up to three semitones, 9 dB, a curve of six points with a deviation of 4 dB, and noise that may drown quiet notes.
    """
    shift = int(rng.choice(SHIFTS))
    values = np.roll(values, 2 * shift, 1)
    target = np.roll(target, shift, 2)
    if shift > 0:
        values[:, : 2 * shift], target[..., :shift] = np.log(transcription.FLOOR), 0
    elif shift < 0:
        values[:, 2 * shift :], target[..., shift:] = np.log(transcription.FLOOR), 0
    neper = np.log(10) / 20  # of a decibel
    colour = np.interp(np.arange(BINS), np.linspace(0, BINS - 1, 6), rng.normal(0, 4 * neper, 6))
    values = values + colour.astype(np.float32) + np.float32(rng.uniform(-9, 9) * neper)
    floor = rng.uniform(np.log(transcription.FLOOR), -4.0) + np.linspace(rng.uniform(0, 2), 0, BINS)
    noise = floor + 0.5 * rng.standard_normal(values.shape, np.float32)
    return np.logaddexp(values, noise.astype(np.float32)), target


def batches(
    domains: Sequence[tuple[Domain, float]], parts: Sequence[Sequence[str]], config: Config, epoch: int, count: int
) -> Iterator[Batch]:
    """``count`` batches of random chunks; every frame of a domain is as likely as any other.

    ``domains`` come with the share that each has of the chunks.
    """
    rng = epoch_rng(config.seed, epoch)
    lengths = [np.array([len(d.values(s)) for s in stems]) for (d, _), stems in zip(domains, parts, strict=True)]
    for _ in range(count):
        examples = []
        for _ in range(config.training.batch):
            which = int(rng.choice(len(domains), p=[share for _, share in domains]))
            domain, stems, frames = domains[which][0], parts[which], lengths[which]
            index = int(rng.choice(len(stems), p=frames / frames.sum()))
            start = int(rng.integers(max(1, frames[index] - config.chunk + 1)))
            examples.append(chunk(domain, stems[index], start, config, rng if config.augmented else None))
        inputs, targets = zip(*examples, strict=True)
        yield torch.stack(inputs), torch.stack(targets)


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    """Mean binary cross-entropy of every head: where keys sound, and where they are struck."""
    inputs, targets = batch
    logits = model(inputs.to(next(model.parameters()).device)).float()
    targets = targets[:, :, : logits.shape[2]].to(logits.device)
    return nn.functional.binary_cross_entropy_with_logits(logits, targets) * logits.shape[2]


def some_minutes(domain: Domain, stems: Sequence[str], minutes: float, seed: int) -> list[str]:
    """As many of the recordings, in random order, as make ``minutes``; all for 0."""
    if not minutes:
        return list(stems)
    order = [stems[k] for k in np.random.default_rng([seed, 1]).permutation(len(stems))]
    lengths = np.cumsum([len(domain.values(stem)) * FRAME for stem in order])
    return order[: 1 + int(np.searchsorted(lengths, 60 * minutes))]


LISTENED, MOST = 1875, 12  # validation hears the first minute of at most twelve recordings
ONSET_THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
SOUNDING_THRESHOLDS = (0.2, 0.3, 0.4, 0.5)
SINGLE_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)  # of a model without onset head


def validate(model: nn.Module, domain: Domain, config: Config) -> tuple[float, Thresholds]:
    """Mean note F1 of the validation recordings (standard) at the best onset threshold, and the thresholds.

    That of what sounds is the best for notes with offsets; a model without an onset head has one for both.
    """
    stems = domain.split.validation
    stems = [stems[k] for k in np.unique(np.linspace(0, len(stems) - 1, min(MOST, len(stems))).round().astype(int))]
    heads, heard = len(model.heads), []
    for stem in stems:
        both = transcription.probabilities(model, domain.values(stem)[:LISTENED], config.normalisation)
        notes = domain.notes(stem)
        heard.append((both, notes[notes[:, 0] < len(both[0]) * FRAME]))

    def score(thresholds: Thresholds, offsets: bool = False) -> float:
        found = [(notes, decode(both, thresholds, heads)) for both, notes in heard]
        counts = [(metrics.matched_notes(r, e, offsets), len(r), len(e)) for r, e in found]
        return float(np.mean([metrics.precision_recall_f1(*c)[2] for c in counts]))

    if heads == 1:
        values = {Thresholds(t, t): score(Thresholds(t, t)) for t in SINGLE_THRESHOLDS}
        best = max(values, key=values.get)
        return values[best], best
    values = {t: score(Thresholds(0.5, t)) for t in ONSET_THRESHOLDS}
    onset = max(values, key=values.get)
    ends = {t: score(Thresholds(t, onset), offsets=True) for t in SOUNDING_THRESHOLDS}
    return values[onset], Thresholds(max(ends, key=ends.get), onset)


def decode(both: tuple[np.ndarray, np.ndarray], thresholds: Thresholds, heads: int = 2) -> np.ndarray:
    """Notes of sounding and onset probabilities; of a model without an onset head, where its frames rise."""
    if heads == 1:
        return transcription.frames_to_notes(both[0] >= thresholds.sounding)
    return transcription.onsets_to_notes(*both, thresholds)


class ThresholdedTransform(nn.Module):
    """No learning: a key sounds as loud as the bin at its pitch.  A transcriber with one head."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([nn.Identity()])
        self.unused = nn.Parameter(torch.zeros(1), requires_grad=False)  # says where the model is

    def forward(self, values: Tensor) -> Tensor:
        return torch.logit(values[..., : 2 * KEYS : 2], 1e-6)[:, :, None]


def adapt(model: nn.Module, domain: Domain, config: Config) -> None:
    """Batch-norm statistics of a domain's training recordings in place of the source's: no label is used."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a mean over all batches, each as heavy as any other
    model.train()
    rng = epoch_rng(config.seed, 0)
    with torch.no_grad():
        for stem in domain.split.training:
            start = int(rng.integers(max(1, len(domain.values(stem)) - config.chunk + 1)))
            model(chunk(domain, stem, start, config, None)[0][None].to(next(model.parameters()).device))
    model.eval()


# -- evaluation --------------------------------------------------------------------------------------------------------


class Counts(NamedTuple):
    """Per recording: matched, in the reference, in the estimate."""

    note: list[int]
    offset: list[int]
    frame: list[int]


def compare(reference: np.ndarray, estimate: np.ndarray, sounding: np.ndarray, heard: np.ndarray) -> Counts:
    """Note lists by mir_eval's rules, and binary (frames, 88) rolls frame by frame."""
    sizes = [len(reference), len(estimate)]
    return Counts(
        [metrics.matched_notes(reference, estimate), *sizes],
        [metrics.matched_notes(reference, estimate, offsets=True), *sizes],
        [int((sounding & heard).sum()), int(sounding.sum()), int(heard.sum())],
    )


def evaluate(
    both: tuple[np.ndarray, np.ndarray], domain: Domain, stem: str, thresholds: Thresholds, heads: int
) -> dict:
    """One recording by every evaluator.

    ``parity``: as published, the reference read from the label roll, threshold 0.5, notes where frames rise.
    ``standard``: the reference is the annotation, notes by the model's own decoding.  ``corrected``: the same, with
    the annotation moved by the recording's label lag.  ``ap``: average precision of the frames.
    """
    frames = len(both[0])
    notes = domain.notes(stem)
    labels = transcription.roll(notes, frames)
    sounding = labels > 1
    rising = transcription.frames_to_notes(both[0] >= 0.5)
    published = transcription.frames_to_notes(sounding, labels == 3)
    result = {"parity": compare(published, rising, sounding, both[0] >= 0.5)._asdict()}
    found, heard = decode(both, thresholds, heads), both[0] >= thresholds.sounding
    result["standard"] = compare(notes, found, sounding, heard)._asdict()
    late = notes + np.array([domain.lags[stem], domain.lags[stem], 0, 0])
    result["corrected"] = compare(late, found, transcription.roll(late, frames) > 1, heard)._asdict()
    result["ap"] = round(metrics.average_precision(sounding, both[0]), 6)
    return result


def execute(
    run: Run, data: Data, parents: dict[str, Path], weights: Path, checkpoint: Path, progress: bool = False
) -> dict:
    """Train where the run trains, choose thresholds on validation, transcribe both test sets: the ``result`` block."""
    config = run.config
    torch.manual_seed(config.seed)
    model = ThresholdedTransform() if config.method == "threshold" else NETWORKS[config.network]()
    model.to(device())
    for parent in parents.values():
        load_into(model, parent)
    result: dict = {"trainable": sum(p.numel() for p in model.parameters() if p.requires_grad)}
    if config.method == "train":
        result |= fit(run, model, data, checkpoint, progress)
    elif config.method == "adapted":
        adapt(model, data.domains[config.domain], config)
    model.eval()
    if config.method != "threshold":
        save_weights(model, weights, {"study": KEY, "run": run.name, "network": config.network})
    half = config.training is not None and config.training.precision == "bf16"
    with torch.autocast(device().type, torch.bfloat16, enabled=half):
        # thresholds are the source's for zero-shot, the target's after training on it; without learning each its own
        chosen = {}
        for key in TARGETS:
            held_out = data.domains[config.domain if config.method in ("train", "untrained") else key]
            chosen[key] = validate(model, held_out, config)[1]
        result["thresholds"] = {key: list(value) for key, value in chosen.items()}
        result["test"] = {}
        for key in TARGETS:
            domain = data.domains[key]
            with Progress(f"{run.name}: {domain.corpus.name}", len(domain.split.test), progress) as report:
                rows = []
                for stem in domain.split.test:
                    values = domain.values(stem)
                    both = transcription.probabilities(model, values, config.normalisation)
                    rows.append(evaluate(both, domain, stem, chosen[key], len(model.heads)))
                    report(1)
            result["test"][key] = {"items": files.digest(*domain.split.test)[:16], **_columns(rows)}
    return result


def _columns(rows: Sequence[dict]) -> dict:
    """Recordings' results as one list a number: {evaluator: {metric: {matched, reference, estimate}}}, and ap."""
    columns: dict = {"ap": [row["ap"] for row in rows]}
    for evaluator in EVALUATORS:
        columns[evaluator] = {
            metric: {
                what: [row[evaluator][metric][place] for row in rows]
                for place, what in enumerate(("matched", "reference", "estimate"))
            }
            for metric in METRICS
        }
    return columns


EVALUATORS = ("parity", "standard", "corrected")
METRICS = Counts._fields


def fit(run: Run, model: nn.Module, data: Data, checkpoint: Path, progress: bool) -> dict:
    """Train on the domain, choose the epoch on its validation recordings; what a record says of it."""
    config = run.config
    domain = data.domains[config.domain]
    shares = [(domain, 1 - config.replay)]
    parts = [some_minutes(domain, domain.split.training, config.minutes, config.seed)]
    if config.replay:
        shares.append((data.domains["si"], config.replay))
        parts.append(data.domains["si"].split.training)
    if not (all(parts) and domain.split.validation):
        raise DuetError(
            "has no training or no validation recordings", path=domain.corpus.root, remedy="take more of it"
        )
    count = config.training.per_epoch
    model.eval()
    miss = lambda m: round(1 - validate(m, domain, config)[0], 6)  # noqa: E731
    start = miss(model)
    curves = train_run(
        run,
        model,
        lambda epoch: batches(shares, parts, config, epoch, count),
        loss_of,
        miss,
        checkpoint,
        progress,
    )
    return {
        "start": start,
        **curves,
        "minutes": {
            key: round(domain.seconds(part) / 60, 1)
            for key, part in zip(("training", "validation", "test"), (parts[0], *domain.split[1:]), strict=True)
        },
    }
