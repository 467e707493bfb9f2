"""The records of study 1 as the paper's tables, the controls' tables and the claims with their verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ... import features, files, metrics, published, results, tables
from ...models.crnn import SHAPES, layer_table
from ...runs import Grid
from ...training import Training
from ...verdicts import Claim, Estimate, Resampling
from .experiment import Data
from .grid import DIRECTIONS, MODALITIES, PRESETS, SIZES, Config, level_name

# -- results -----------------------------------------------------------------------------------------------------------


class Results(results.Results):
    """The records as the paper's arms: an arm is one column of Table 2 or one cell of Table 3.

    Every difference is taken on the same bootstrap draws over the test part's RISM records.
    """

    def __init__(self, grid: Grid):
        grid.make("baselines")  # seconds, and nothing can be judged without them
        super().__init__(grid)
        self.baselines = self.records["baselines"]["result"]
        self.resampling = Resampling([i.split("-", 1)[0] for i in self.baselines["items"]])

    def planned(self, arm: str) -> list[str]:
        """The runs of an arm such as ``image``, ``audio-to-image N/A``, ``image-n50``; several where it has seeds."""
        stem, _, level = arm.partition(" ")
        return super().planned(f"{stem}-{level_name(level)}" if level else stem)

    def _draws(self, arm: str, modality: str, audible: bool = False) -> np.ndarray | None:
        """Symbol error rates of an arm on a test part, in percent."""
        tests = [self.records[n]["result"]["test"][modality] for n in self.names(arm)]
        prefix = "audible_" if audible else ""
        if not tests:
            return None
        return self.resampling.rate([t[prefix + "edits"] for t in tests], tests[0][prefix + "lengths"])

    def baseline(self, name: str, audible: bool = False) -> Estimate:
        test, prefix = self.baselines["test"][name], "audible_" if audible else ""
        return self.resampling.estimate(self.resampling.rate([test[prefix + "edits"]], test[prefix + "lengths"]))

    def learned(self) -> bool:
        """Whether both base models beat the best constant sequence, interval against interval."""
        constant, bases = self.baseline("constant"), [self.estimate(m, m) for m in MODALITIES]
        return all(b is not None and b.high < constant.low for b in bases)


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
                    {"test": modality, "model": arm}, printed[modality], results.estimate(arm, modality), results.corpus
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
                    results.estimate(f"{stem}-n{size}", target),
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
                    results.estimate(arm, modality, audible),
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
            rows.append(tables.row(coordinates, None, results.estimate(arm, target), results.corpus))
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
            rows.append(tables.row(coordinates, None, results.estimate(arm, target), results.corpus))
    wide = {"test": "audio", "model": "audio-wide", "what": "transform up to C8, 96 rows"}
    rows.append(tables.row(wide, None, results.estimate("audio-wide", "audio"), results.corpus))
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
                        results.estimate(_equal_name(results, stem, size), target),
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
    arms = [results.settled(arm, m) for m in MODALITIES for arm in BEST_ARMS[m]]
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
    kinds = {"engraved": False, "photographed": True} if data.distorted else {"engraved": False}
    files_ = {kind: data.corpus.image_path(identity, distorted) for kind, distorted in kinds.items()}
    return {
        **{kind: 255 - features.read_image(path) for kind, path in files_.items()},
        f"read of the page: {page.shape[0]} x {page.shape[1]}": page,
        f"read of the sound: {sound.shape[0]} x {sound.shape[1]}, low notes below": sound,
    }


def curves(results: Results) -> pd.DataFrame:
    """Validation error by pictures seen, of the arms that the paper's text compares (first seed)."""
    seed, panels = results.preset.seeds[0], {}
    for target in MODALITIES:
        names = [f"{target}-s{seed}", *results.records]
        transfers = (n for n in names if n.startswith(f"{_other(target)}-to-{target}-") and n.endswith(f"-s{seed}"))
        panels |= dict.fromkeys([names[0], *transfers], f"{target} validation")
    return results.curves(panels)


def write_metrics(results: Results, judged: pd.DataFrame, path: Path) -> dict:
    """The main figures, for other programs to read, as ``metrics.json``."""

    def number(arm: str, modality: str) -> float | None:
        estimate = results.estimate(arm, modality)
        return None if estimate is None else round(estimate.value, 2)

    metrics_ = {
        "corpus": results.corpus,
        "preset": results.grid.preset,
        "ser": {f"{arm} on {m}": number(arm, m) for m in MODALITIES for arm in (*BEST_ARMS[m], f"{m}-fast")},
        "constant": round(results.baseline("constant").value, 2),
        "verdicts": dict(judged["verdict"].value_counts().sort_index().items()),
        "runs": results.made(),
    }
    files.write_json(path, metrics_)
    return metrics_
