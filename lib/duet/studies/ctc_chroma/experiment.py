"""One run of study 5: its data, its training, its search, and what is measured of its chroma."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ... import dtw, features, files, harmonic, losses, metrics, paths, source_filter
from ...corpora import mtd
from ...decoding import greedy_ctc
from ...errors import DuetError
from ...models import chroma, salience
from ...progress import Progress
from ...runs import Run
from ...training import buckets, device, epoch_rng, load_into, save_weights, train_run
from .grid import KEY, PRESETS, RATES, SHIFTS, STRETCHES, Config, fold_parts

RATE = harmonic.RATE  # Hz, of everything that is trained on

# -- data --------------------------------------------------------------------------------------------------------------


@dataclass
class Data:
    """The collection: themes as queries and as training excerpts, recordings as documents, five folds by composer."""

    corpus: mtd.Mtd
    kind: str  # "recordings" or "excerpts": what a document is
    documents: list[str]
    themes: list[str]  # in order; results are per theme
    fold_of: dict[str, int]  # theme -> fold
    name: str
    skipped: list[str] = field(default_factory=list)  # why documents and themes were left out
    progress: bool = False

    @cached_property
    def fingerprint(self) -> str:
        """What a run's id depends on: the corpus, and which documents and themes of it could be used."""
        return files.digest(self.corpus.fingerprint, self.kind, *self.documents, *self.themes, str(FEATURES_VERSION))

    @cached_property
    def column(self) -> dict[str, int]:
        """Document -> its place in the list."""
        return {document: k for k, document in enumerate(self.documents)}

    @cached_property
    def relevant(self) -> dict[str, int]:
        """Theme -> the column of the one document that holds it."""
        return {theme: self.column[self.corpus.relevant(theme, self.kind)] for theme in self.themes}

    def of_folds(self, *folds: int) -> list[str]:
        return [theme for theme in self.themes if self.fold_of[theme] in folds]

    def hcqt(self, document: str) -> np.ndarray:
        """(frames, 6, 216) uint8 of a document, memory-mapped."""
        return np.load(self._folder("hcqt") / f"{document}.npy", mmap_mode="r")

    @cached_property
    def spans(self) -> dict[str, tuple[float, float]]:
        """Theme -> start and end of its occurrence in its document, in seconds."""
        return {theme: self.corpus.span(theme, self.kind) for theme in self.themes}

    def frames(self, theme: str) -> tuple[int, int]:
        """First frame, and the one after the last, of a theme's occurrence in its document, at 25 Hz."""
        start, end = self.spans[theme]
        return round(start * RATE), max(round(end * RATE), round(start * RATE) + 1)

    def length(self, theme: str) -> int:
        first, end = self.frames(theme)
        return end - first

    def excerpt(self, theme: str) -> np.ndarray:
        """(frames, 6, 216) uint8 of a theme's occurrence."""
        first, end = self.frames(theme)
        return self.hcqt(self.documents[self.relevant[theme]])[first:end]

    def labels(self, theme: str) -> list[int]:
        """Pitch classes of a theme's notes as they sound in the recording, in order, without rhythm or rests."""
        shift = self.corpus.theme(theme).transposition
        return [int(pitch + shift) % 12 for _, _, pitch in self.corpus.notes(theme)]

    def query(self, theme: str, rate: float = RATE, stretch: float = 1.0) -> np.ndarray:
        """(12, frames) of a theme in the recording's key, stretched to ``stretch`` times its annotated duration."""
        transposition = self.corpus.theme(theme).transposition
        return query_chroma(self.corpus.notes(theme), self.length(theme) / RATE * stretch, rate, transposition)

    def frame_pitches(self, theme: str, strong: bool) -> np.ndarray:
        """(frames,) int64 of a theme's occurrence: the MIDI pitch that the theme has in each frame, REST where none.

        The notated times run linearly from the start to the end of the occurrence, as in Section 4.5 of the paper, or
        where ``strong`` through the corpus's alignment note by note.
        """
        notes = self.corpus.notes(theme).copy()
        if strong:
            points = self.corpus.alignment(theme)
            inside = np.interp(np.stack([notes[:, 0], notes[:, 0] + notes[:, 1]]), points[:, 0], points[:, 1])
            notes[:, 0], notes[:, 1] = inside[0], inside[1] - inside[0]
            duration = points[-1, 1]
        else:
            duration = notated_end(notes)
        return frame_pitches(notes, duration, self.length(theme), self.corpus.theme(theme).transposition)

    def store(
        self, what: str, make: Callable[[np.ndarray], np.ndarray], settings: str = "", rate: int = features.SAMPLE_RATE
    ) -> Callable[[str], np.ndarray]:
        """Reader of an array for each document, made of its audio at ``rate`` Hz; what has been made is on disk.

        Documents that cannot be read are taken out, with their themes, and listed.
        """
        folder = self._folder(what, settings)
        job = partial(_of_document, make, self.corpus, self.kind, rate)
        damaged = features.store(folder, self.documents, job, f"{what} features", self.progress)
        if damaged:
            self.skipped += damaged.values()
            self.documents = [d for d in self.documents if d not in damaged]
            self.themes = [t for t in self.themes if self.corpus.relevant(t, self.kind) not in damaged]
        return lambda document: np.load(folder / f"{document}.npy", mmap_mode="r")

    def _folder(self, what: str, settings: str = "") -> Path:
        key = files.digest(self.corpus.fingerprint, self.kind, what, settings, str(FEATURES_VERSION))[:16]
        return paths.cache() / "chroma" / f"{what}-{key}"


FEATURES_VERSION = 1  # raise it when a document's features come out otherwise


def _of_document(make: Callable, corpus: mtd.Mtd, kind: str, rate: int, document: str) -> np.ndarray:
    return make(features.read_audio(corpus.audio_path(document, kind), rate))


def prepare(preset: str, corpus: str = "", progress: bool = False) -> Data:
    """The collection, built or read, with the HCQT and the source-filter chroma of every document.

    ``corpus`` is the root of an MTD tree; its documents are whole recordings where it has any, else the excerpts.
    A document that cannot be read, and a theme whose notes or times are wrong, is left out and listed.
    """
    p = PRESETS[preset]
    if not corpus and p.corpus is None:
        raise DuetError(f"the preset {preset} reads the paper's own data", remedy="give corpus=<folder of MTD>")
    source = mtd.Mtd(corpus) if corpus else p.corpus.build(progress=progress)
    for kind in mtd.KINDS:
        problems = source.check(kind)
        documents = [d for d in source.documents(kind) if d not in problems.documents]
        known = set(documents)
        themes = [t for t in source.ids if t not in problems.themes and source.relevant(t, kind) in known]
        skipped = [*problems.documents.values(), *problems.themes.values()]
        if themes:
            break
    else:
        raise DuetError(f"has no theme that can be used; first: {skipped[0]}", path=source.root, remedy="restore it")
    folds = source.folds()
    data = Data(
        source,
        kind,
        documents,
        themes,
        {theme: folds[source.theme(theme).composer] for theme in themes},
        source.description["name"],
        skipped,
        progress,
    )
    data.store("hcqt", harmonic.hcqt)
    source_filter_store(data, p.source_filter)
    if not data.themes:
        raise DuetError(f"has no recording that can be read; first: {data.skipped[0]}", path=source.root)
    if p.salience:
        prepare(SALIENCE_CORPUS, progress=progress)
    return data


# -- queries and labels ------------------------------------------------------------------------------------------------


def notated_end(notes: np.ndarray) -> float:
    """Seconds at which the last of the notes (n, 3: start, duration, pitch) ends; MIDI files end notes a tick early."""
    return float((notes[:, 0] + notes[:, 1]).max())


REST = -1  # among the pitches of frames


def frame_pitches(notes: np.ndarray, duration: float, frames: int, transposition: int = 0) -> np.ndarray:
    """(frames,) int64 MIDI pitch of the note that sounds in each frame, REST where none does.

    ``duration`` seconds of ``notes`` (n, 3: start, duration, pitch) fill the frames; both ends of a note are rounded,
    so that a gap of a MIDI tick closes.  Of notes that overlap the later counts; each note has a frame at least.
    """
    pitches, scale = np.full(frames, REST), frames / duration
    for start, length, pitch in notes:
        first = min(round(start * scale), frames - 1)
        pitches[first : max(round((start + length) * scale), first + 1)] = int(pitch) + transposition
    return pitches


def pitch_classes(pitches: np.ndarray, rest: int = chroma.EPSILON) -> np.ndarray:
    """0 to 11 of MIDI pitches, ``rest`` where there is none."""
    return np.where(pitches == REST, rest, pitches % 12)


def query_chroma(notes: np.ndarray, duration: float, rate: float, transposition: int = 0) -> np.ndarray:
    """(12, frames) float32 binary chroma of a theme lasting ``duration`` seconds, of unit length; a rest is uniform.

    ``notes`` is (n, 3): start and duration in notated seconds, MIDI pitch.  Leading rests stay.  Raises DuetError for
    a theme without notes: its query would be all rests and match everything.
    """
    if not len(notes):
        raise DuetError("the query has no notes", remedy="give a theme with at least one note")
    frames = max(1, round(duration * rate))
    classes = pitch_classes(frame_pitches(notes, notated_end(notes), frames, transposition))
    table = np.concatenate([np.eye(12, dtype=np.float32), np.full((12, 1), 12**-0.5, np.float32)], 1)
    return np.ascontiguousarray(table[:, classes])


# -- training ----------------------------------------------------------------------------------------------------------

#: inputs (B, frames, 6, 216) float32, frames (B,), targets, and for CTC their lengths
Batch = tuple[Tensor, Tensor, Tensor, Tensor | None]


def example(data: Data, objective: str, theme: str, shift: int = 0) -> tuple[Tensor, Tensor]:
    """A theme's input (frames, 6, 216) and target, both ``shift`` semitones higher than they are.

    Targets are labels of notes for ``ctc``, of frames for ``cce`` and ``strong``, and for ``salience`` (frames, 72)
    with a 1 at the theme's pitch.
    """
    excerpt = harmonic.transpose(data.excerpt(theme), shift)
    if objective == "ctc":
        target = torch.tensor([(label + shift) % 12 for label in data.labels(theme)])
        return torch.from_numpy(harmonic.normalise_columns(excerpt)), target
    pitches = data.frame_pitches(theme, strong=objective != "cce")
    pitches = np.where(pitches == REST, REST, pitches + shift)
    if objective == "salience":
        target = torch.from_numpy(pitches[:, None] - LOWEST == np.arange(harmonic.BINS // 3)).float()
        return torch.from_numpy(excerpt.astype(np.float32) / 255), target
    return torch.from_numpy(harmonic.normalise_columns(excerpt)), torch.from_numpy(pitch_classes(pitches))


LOWEST = 24  # MIDI pitch of the HCQT's first bin


def collate(examples: Sequence[tuple[Tensor, Tensor]], objective: str) -> Batch:
    """Inputs padded with zeros to the longest; labels of notes in one row, targets of frames padded too."""
    inputs, targets = zip(*examples, strict=True)
    frames = torch.tensor([len(one) for one in inputs])
    padded = nn.utils.rnn.pad_sequence(inputs, batch_first=True)
    if objective == "ctc":
        return padded, frames, torch.cat(targets), torch.tensor([len(one) for one in targets])
    return padded, frames, nn.utils.rnn.pad_sequence(targets, batch_first=True), None


def batches(
    data: Data, objective: str, themes: Sequence[str], size: int, seed: int, epoch: int, count: int
) -> Iterator[Batch]:
    """``count`` batches of an epoch: every theme once, transposed by a semitone shift drawn anew, then again."""
    rng = epoch_rng(seed, epoch)
    queue: list[list[str]] = []
    for _ in range(count):
        queue = queue or buckets(themes, data.length, size, rng)
        yield collate([example(data, objective, t, int(rng.choice(SHIFTS))) for t in queue.pop()], objective)


def loss_of(model: nn.Module, batch: Batch, objective: str) -> Tensor:
    """CTC loss of label sequences, cross-entropy of labelled frames, or binary cross-entropy of salience."""
    inputs, frames, targets, lengths = batch
    logits = model(inputs.to(next(model.parameters()).device))
    if objective == "ctc":
        return losses.ctc_loss(logits, targets, frames, lengths, chroma.EPSILON)
    framewise = losses.frame_binary_cross_entropy if objective == "salience" else losses.frame_cross_entropy
    return framewise(logits, targets.to(logits.device), frames)


@torch.inference_mode()
def mean_loss(model: nn.Module, data: Data, objective: str, themes: Sequence[str], size: int = 16) -> float:
    """Validation: the loss over untransposed excerpts, a mean over themes for CTC and over frames for the others."""
    total = weight = 0.0
    ordered = sorted(themes, key=data.length)
    for start in range(0, len(ordered), size):
        batch = collate([example(data, objective, theme) for theme in ordered[start : start + size]], objective)
        items = len(batch[1]) if objective == "ctc" else int(batch[1].sum())
        total, weight = total + float(loss_of(model, batch, objective)) * items, weight + items
    return total / weight


def fit(
    run: Run,
    model: nn.Module,
    data: Data,
    parts: tuple[Sequence[str], Sequence[str]],
    checkpoint: Path,
    progress: bool,
) -> dict:
    """Train on the first part's themes, choose the epoch on the second's; what a record says of it."""
    config = run.config
    if config.method == "ctc":  # without what CTC cannot align
        parts = tuple([t for t in part if data.length(t) >= losses.steps_needed(data.labels(t))] for part in parts)
    if not all(parts):
        raise DuetError(
            "a fold has no themes", path=data.corpus.root, remedy="take a corpus of more composers, at least five"
        )
    count = config.training.per_epoch
    curves = train_run(
        run,
        model,
        lambda epoch: batches(data, config.method, parts[0], config.training.batch, config.seed, epoch, count),
        lambda m, batch: loss_of(m, batch, config.method),
        lambda m: round(mean_loss(m, data, config.method, parts[1]), 6),
        checkpoint,
        progress,
    )
    return {
        **curves,
        "themes": {"training": len(parts[0]), "validation": len(parts[1])},
    }


@torch.inference_mode()
def label_errors(model: chroma.ChromaNet, data: Data, themes: Sequence[str]) -> dict:
    """Edits between decoded and true label sequences of the themes' excerpts, and the true lengths, per theme."""
    edits, lengths = [], []
    for theme in themes:
        inputs, labels = example(data, "ctc", theme)
        logits = model(inputs[None].to(model.pooling.device))
        decoded = greedy_ctc(logits.transpose(0, 1), torch.tensor([len(inputs)]), chroma.EPSILON)[0]
        edits.append(metrics.edits(labels.tolist(), decoded))
        lengths.append(len(labels))
    return {"edits": edits, "lengths": lengths}


# -- chroma of every document ------------------------------------------------------------------------------------------

Chroma = dict[str, np.ndarray]  # document -> (12, frames) float32 at 25 Hz
#: networks of models.chroma: the published one, the same with a quicker start, and a smaller one with it
NETWORKS = {
    "paper": partial(chroma.ChromaNet, 1),
    "full": partial(chroma.ChromaNet, 1, quick=True),
    "strided": partial(chroma.ChromaNet, 3, quick=True),
}
SALIENCE_CORPUS = "laptop"  # our deep salience learns from another collection: of this one it has heard nothing


def document_chroma(
    run: Run, data: Data, parents: dict[str, Path], weights: Path, checkpoint: Path, progress: bool
) -> tuple[Chroma, dict]:
    """Every document's chroma by a run's method, and what a record says of its training."""
    config = run.config
    if config.method == "chroma":
        return {d: harmonic.plain_chroma(data.hcqt(d)) for d in data.documents}, {}
    if config.method.startswith("source-filter"):
        return source_filter_chroma(data, config.network, raw=config.method.endswith("raw")), {}
    if config.method == "salience" and config.network == "paper":
        stored = data.store("salience", partial(salience.published_chroma, published_salience()))
        return {d: np.asarray(stored(d)) for d in data.documents}, {}
    torch.manual_seed(config.seed)
    hcqt, about = data.hcqt, {}
    if config.method == "salience":
        model = salience.DeepSalience(salience.SHAPES[config.network]).to(device())
        other = prepare(SALIENCE_CORPUS, progress=progress)
        about = fit(run, model, other, (other.of_folds(1, 2, 3, 4), other.of_folds(5)), checkpoint, progress)
        read = lambda values: salience.to_chroma(salience.salience_of(model, values), 1, LOWEST)  # noqa: E731
    else:
        model = NETWORKS[config.network](centred=config.centred).to(device())
        read = partial(chroma.features_of, model)
        if config.method == "exact":
            load_into(model, *parents.values())
            hcqt = data.store("hcqt-exact", partial(harmonic.hcqt, exact=True))
        elif config.method != "untrained":
            training_folds, validation = fold_parts(config.fold)
            parts = data.of_folds(*training_folds), data.of_folds(validation)
            about = fit(run, model, data, parts, checkpoint, progress)
    save_weights(model, weights, {"study": KEY, "run": run.name, "network": config.network, "method": config.method})
    about["trainable"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    made = {}
    # in the arithmetic that the network was trained in
    half = config.training is not None and config.training.precision == "bf16"
    with torch.autocast(device().type, torch.bfloat16, enabled=half):
        with Progress(f"{run.name}: chroma", len(data.documents), progress) as report:
            for document in data.documents:
                made[document] = read(hcqt(document))
                report(1)
        if config.method == "ctc":
            parts = {"validation": data.of_folds(fold_parts(config.fold)[1]), "test": data.of_folds(config.fold)}
            about["decoded"] = {part: label_errors(model, data, themes) for part, themes in parts.items()}
    return made, about


def published_salience() -> salience.DeepSalience:
    """The released deep salience network, converted from ``melody2.h5`` the first time."""
    path = paths.released() / "melody2.h5"
    converted = (
        paths.cache() / "released" / f"melody2-{files.file_digest(path)[:16]}.safetensors" if path.exists() else path
    )
    if not converted.exists():
        salience.convert_keras_weights(path, converted)
    model = salience.DeepSalience()
    load_into(model, converted)
    return model.eval()


SOURCE_FILTER = {"paper": source_filter.PAPER, "cheap": source_filter.CHEAP}


def source_filter_chroma(data: Data, settings: str, raw: bool = False) -> Chroma:
    """C_BG1: the source-filter model's salience on its contours, or all of it where ``raw``."""
    stored = source_filter_store(data, settings)
    return {d: np.asarray(stored(d)[int(raw)], np.float32) for d in data.documents}


def source_filter_store(data: Data, settings: str) -> Callable[[str], np.ndarray]:
    """Reader of (2, 12, frames) float16 for each document, see :func:`_both_chromas`."""
    chosen = SOURCE_FILTER[settings]
    return data.store("source-filter", partial(_both_chromas, chosen), str(chosen), chosen.sample_rate)


def _both_chromas(settings: source_filter.Settings, audio: np.ndarray) -> np.ndarray:
    """(2, 12, frames) float16: of the salience on contours, and of all of it."""
    found = source_filter.melody_salience(audio, settings)
    kept = source_filter.on_contours(found, settings)
    return np.stack([source_filter.salience_chroma(s, settings) for s in (kept, found)]).astype(np.float16)


# -- retrieval ---------------------------------------------------------------------------------------------------------


def distances(data: Data, made: Chroma, themes: Sequence[str], rate: int = RATE, stretch: float = 1.0) -> np.ndarray:
    """(themes, documents) matching costs of every theme in every document."""
    return _search([data.query(t, rate, stretch) for t in themes], data, made, rate)


def _search(queries: Sequence[np.ndarray], data: Data, made: Chroma, rate: int) -> np.ndarray:
    documents = [made[d] if rate == RATE else harmonic.resample_features(made[d], RATE, rate) for d in data.documents]
    found = dtw.search(queries, documents)
    if found.skipped:
        number, reason = found.skipped[0]
        raise DuetError(f"the chroma of document {data.documents[number]} cannot be searched: {reason}")
    return found.distances


def transposed_distances(data: Data, made: Chroma, themes: Sequence[str]) -> np.ndarray:
    """(themes, documents) costs in the best of twelve transpositions: no key is given."""
    best = np.full((len(themes), len(data.documents)), np.inf)
    queries = [data.query(theme) for theme in themes]
    for shift in range(12):
        best = np.minimum(best, _search([np.roll(query, shift, 0) for query in queries], data, made, RATE))
    return best


def ranking(data: Data, themes: Sequence[str], costs: np.ndarray) -> dict:
    """Ranks of the themes' own documents, and how many queries tie there."""
    ranks, ties = metrics.ranks(costs, [data.relevant[t] for t in themes])
    return {"ranks": ranks.tolist(), "tied": int((ties > 0).sum())}


def off_theme(data: Data, made: Chroma, theme: str) -> float | None:
    """Share of the chroma's energy that is not the theme's, over the frames where it sounds by the strong alignment.

    None where the corpus has no alignment of the theme.
    """
    try:
        classes = pitch_classes(data.frame_pitches(theme, strong=True))
    except DuetError:
        return None
    first, end = data.frames(theme)
    energy = made[data.documents[data.relevant[theme]]][:, first:end] ** 2
    classes = classes[: energy.shape[1]]
    sounding = np.flatnonzero(classes < 12)
    return float(1 - energy[classes[sounding], sounding].mean())


NO_MATCH = 2.0  # in a mixture of distances, of which none is above 1: 0 times infinity would be no number
FUSION_WEIGHTS = tuple(round(0.1 * k, 1) for k in range(11))  # of the source-filter model's distance


def fused(data: Data, config: Config, made: Chroma, other: Chroma, test: Sequence[str], costs: np.ndarray) -> dict:
    """Both distances mixed, in the proportion that ranks the validation fold's queries best."""
    _, held_out = fold_parts(config.fold)
    validation = data.of_folds(held_out)
    costs, own, others, theirs = (
        np.minimum(c, NO_MATCH)
        for c in (
            costs,
            distances(data, made, validation),
            distances(data, other, validation),
            distances(data, other, test),
        )
    )
    relevant = [data.relevant[t] for t in validation]
    curve = [
        float(metrics.reciprocal(metrics.ranks((1 - w) * own + w * others, relevant)[0]).mean()) for w in FUSION_WEIGHTS
    ]
    weight = FUSION_WEIGHTS[int(np.argmax(curve))]
    mixed = (1 - weight) * costs + weight * theirs
    return {"weight": weight, "validation": [round(v, 5) for v in curve], **ranking(data, test, mixed)}


def execute(
    run: Run, data: Data, parents: dict[str, Path], weights: Path, checkpoint: Path, progress: bool = False
) -> dict:
    """Train where the method learns, search the test queries in every document; the run's ``result`` block."""
    config = run.config
    test = data.of_folds(config.fold) if config.fold else data.themes
    if not test:
        raise DuetError(f"fold {config.fold} has no themes", path=data.corpus.root, remedy="take a larger corpus")
    made, about = document_chroma(run, data, parents, weights, checkpoint, progress)
    costs = {rate: distances(data, made, test, rate) for rate in RATES}
    result = {
        **about,
        "items": files.digest(*test)[:16],
        "test": {str(rate): ranking(data, test, c) for rate, c in costs.items()},
        "off_theme": [off_theme(data, made, theme) for theme in test],
    }
    if config.extras:
        result["stretched"] = {
            f"{s:g}": ranking(data, test, distances(data, made, test, stretch=s))["ranks"] for s in STRETCHES
        }
        result["transposed"] = ranking(data, test, transposed_distances(data, made, test))
    if config.fused_with:
        other = source_filter_chroma(data, config.fused_with)
        result["fused"] = fused(data, config, made, other, test, costs[RATE])
    return result
