"""One training loop for every study: schedules, clipping, mixed precision, checkpoints, exact resume.

Every epoch starts from a seed derived from the run's seed and the epoch's number, and takes its batches from a
generator seeded the same way.  A run that was killed and resumed therefore repeats exactly what an undisturbed
run does, bit for bit on the same kind of machine with the same number of threads.
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from . import files
from .errors import DuetError
from .progress import Progress
from .runs import LATER, Run

SCHEDULES = ("constant", "one_cycle", "plateau", "halving")
OPTIMISERS = ("adam", "adamw")


@dataclass(frozen=True)
class Training:
    """How long and how a network is trained; part of a run's config.

    An epoch is ``updates / epochs`` updates and ends with a validation and a checkpoint.  On a plateau, that is after
    ``patience + 1`` epochs without a better validation, the schedule "halving" goes on at half the rate, and "plateau"
    does so from the best epoch's weights and moments; after ``halvings`` of them the next plateau ends the training,
    and ``epochs`` is only the most there can be.  "adamw" decays matrices and kernels apart from their gradient, and
    neither biases nor weights of norms.
    """

    updates: int
    epochs: int = 12
    batch: int = 16
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warm_up: int = 0  # updates of linear rise to the learning rate (constant and plateau)
    patience: int = 3  # plateau and halving: epochs without a better validation that are borne
    clip: float = 0.0  # largest gradient norm; 0 clips nothing
    precision: str = "fp32"  # or "bf16": autocast of the forward pass
    halvings: int = field(default=0, metadata=LATER)  # plateau: how many there are; 0: as many as the epochs allow
    later_patience: int = field(default=0, metadata=LATER)  # plateau: after the first halving; 0: the same
    weight_decay: float = field(default=0.0, metadata=LATER)  # this times the weights joins their gradient
    optimiser: str = field(default="adam", metadata=LATER)
    lowest_rate: float = field(default=0.0, metadata=LATER)  # halving goes no further

    @property
    def per_epoch(self) -> int:
        """Updates in an epoch."""
        return self.updates // self.epochs


@dataclass
class Outcome:
    """Curves of a finished training, one entry an epoch; the model holds the best epoch's weights."""

    loss: list[float]
    validation: list[float]
    best_epoch: int


def device() -> torch.device:
    """The GPU where there is one, unless DUET_DEVICE names another."""
    return torch.device(os.environ.get("DUET_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu"))


def epoch_rng(seed: int, epoch: int) -> np.random.Generator:
    """The generator that orders an epoch's batches."""
    return np.random.default_rng([seed, epoch])


def buckets(items: Sequence, length: Callable, size: int, rng: np.random.Generator) -> list[list]:
    """Batches of ``size`` items of a like length, in random order: padding costs as much as content.

    Items are shuffled, taken eight batches at a time, and each such pool is cut up by length; a last batch that would
    not be full is left out of its pool.  Raises DuetError for fewer items than a batch.
    """
    if len(items) < size:
        raise DuetError(f"fewer training items than the batch of {size}", remedy="take a larger corpus")
    order = [items[k] for k in rng.permutation(len(items))]
    batches = []
    for start in range(0, len(order), 8 * size):
        block = sorted(order[start : start + 8 * size], key=length)
        batches += [block[k : k + size] for k in range(0, len(block) - size + 1, size)]
    rng.shuffle(batches)
    return batches


def train(
    model: nn.Module,
    batches: Callable[[int], Iterable],
    loss_of: Callable[[nn.Module, object], Tensor],
    validate: Callable[[nn.Module], float],
    settings: Training,
    *,
    seed: int,
    checkpoint: Path | None = None,
    label: str = "training",
    progress: bool = False,
    stop_after: int | None = None,
) -> Outcome:
    """Train, and leave the weights of the best validated epoch in ``model``.

    ``batches(epoch)`` yields at least ``updates / epochs`` batches; ``loss_of(model, batch)`` is a scalar tensor;
    ``validate(model)`` is a number to be made small.  ``checkpoint`` is the file that a killed run resumes from;
    it is removed by whoever stores the result.  Raises DuetError for a loss that is no number, and for a
    checkpoint of another network.  ``stop_after`` ends early, after so many epochs (for tests of resuming).
    """
    if settings.schedule not in SCHEDULES:
        raise DuetError(f"unknown schedule {settings.schedule!r}", remedy=f"one of {', '.join(SCHEDULES)}")
    if settings.optimiser not in OPTIMISERS:
        raise DuetError(f"unknown optimiser {settings.optimiser!r}", remedy=f"one of {', '.join(OPTIMISERS)}")
    per_epoch = settings.per_epoch
    if per_epoch < 1:
        raise DuetError(f"{settings.updates} updates do not fill {settings.epochs} epochs", remedy="take fewer epochs")
    where = next(model.parameters()).device
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = _optimiser(model, settings)
    schedule = _schedule(optimiser, settings, per_epoch)
    curves: dict[str, list[float]] = {"loss": [], "validation": []}
    best_epoch, waited, halved = 0, 0, 0
    best = {k: v.detach().clone() for k, v in model.state_dict().items()}
    best_moments: dict = {}

    if checkpoint is not None and checkpoint.exists():
        state = _load_checkpoint(checkpoint)
        try:
            model.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
            schedule.load_state_dict(state["schedule"])
            curves, best_epoch, waited, best = state["curves"], state["best_epoch"], state["waited"], state["best"]
            halved, best_moments = state["halved"], state["best_moments"]
        except (RuntimeError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DuetError(
                f"is a checkpoint of another network: {str(error).splitlines()[0]}",
                path=checkpoint,
                remedy="delete it to start this run again",
            ) from None

    first = len(curves["loss"])
    with Progress(label, settings.epochs - first, progress, every=0) as report:
        for epoch in range(first, settings.epochs):
            if settings.halvings and halved > settings.halvings:
                break
            torch.manual_seed(int(epoch_rng(seed, epoch).integers(2**62)))
            model.train()
            losses, iterator = [], iter(batches(epoch))
            for update in range(epoch * per_epoch, (epoch + 1) * per_epoch):
                optimiser.zero_grad(set_to_none=True)
                with torch.autocast(where.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                    loss = loss_of(model, next(iterator))
                loss.backward()
                if settings.clip:
                    nn.utils.clip_grad_norm_(parameters, settings.clip)
                optimiser.step()
                if settings.schedule == "one_cycle" or update < settings.warm_up:
                    schedule.step()
                losses.append(loss.detach())
            mean_loss = float(torch.stack(losses).mean())
            if not math.isfinite(mean_loss):
                raise DuetError(
                    f"{label}: the loss is no number in epoch {epoch + 1}",
                    remedy="lower the learning rate, or clip the gradient",
                )
            model.eval()
            with torch.autocast(where.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                score = float(validate(model))
            curves["loss"].append(mean_loss)
            curves["validation"].append(score)
            if score < min(curves["validation"][:-1], default=math.inf):
                best_epoch, waited = epoch, 0
                best = {k: v.detach().clone() for k, v in model.state_dict().items()}
                if settings.schedule == "plateau":
                    best_moments = copy.deepcopy(optimiser.state_dict()["state"])
            else:
                waited += 1
                patience = settings.later_patience if halved and settings.later_patience else settings.patience
                if settings.schedule in ("plateau", "halving") and waited > patience:
                    waited, halved = 0, halved + 1
                    if settings.schedule == "plateau":
                        model.load_state_dict(best)
                        optimiser.load_state_dict({**optimiser.state_dict(), "state": copy.deepcopy(best_moments)})
                    for group in optimiser.param_groups:
                        group["lr"] = max(group["lr"] / 2, settings.lowest_rate)
            if checkpoint is not None:
                state = {
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "schedule": schedule.state_dict(),
                    "curves": curves,
                    "best": best,
                    "best_epoch": best_epoch,
                    "waited": waited,
                    "halved": halved,
                    "best_moments": best_moments,
                }
                _save_checkpoint(state, checkpoint)
            report(1, f"epoch {epoch + 1}, loss {mean_loss:.3f}, validation {score:.3f}", force=True)
            if stop_after is not None and epoch + 1 >= stop_after:
                break
    model.load_state_dict(best)
    model.eval()
    return Outcome(curves["loss"], curves["validation"], best_epoch)


def train_run(
    run: Run,
    model: nn.Module,
    batches: Callable[[int], Iterable],
    loss_of: Callable[[nn.Module, object], Tensor],
    validate: Callable[[nn.Module], float],
    checkpoint: Path,
    progress: bool,
) -> dict:
    """:func:`train` with what a run of any study says: its curves, for its record."""
    settings, seed = run.config.training, run.config.seed
    return asdict(
        train(
            model, batches, loss_of, validate, settings,
            seed=seed, checkpoint=checkpoint, label=run.name, progress=progress,
        )
    )  # fmt: skip


def _optimiser(model: nn.Module, settings: Training) -> torch.optim.Optimizer:
    trained = [p for p in model.parameters() if p.requires_grad]
    common = {"lr": settings.learning_rate, "eps": 1e-7}
    if settings.optimiser == "adam":
        return torch.optim.Adam(trained, weight_decay=settings.weight_decay, **common)
    matrices, others = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim == 1]
    decays = {"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}
    return torch.optim.AdamW([group for group in decays if group["params"]], **common)


def _schedule(optimiser: torch.optim.Optimizer, settings: Training, per_epoch: int):
    if settings.schedule == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimiser, settings.learning_rate, cycle_momentum=False, total_steps=per_epoch * settings.epochs + 1
        )
    rise = settings.warm_up
    return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (step + 1) / rise) if rise else 1.0)


def _save_checkpoint(state: dict, path: Path) -> None:
    try:
        with files.atomic(path) as temporary:
            torch.save(state, temporary)
    except RuntimeError as error:  # what it raises where a disk is full
        why = f"could not be written: {str(error).splitlines()[0]}"
        raise DuetError(why, path=path, remedy="free some space; the run goes on from the epoch before") from None


def _load_checkpoint(path: Path) -> dict:
    """Tensors and plain values only: ``weights_only`` refuses anything else a pickle could carry."""
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        raise DuetError(
            f"is not a readable checkpoint: {type(error).__name__}",
            path=path,
            remedy="delete it to start this run again",
        ) from None


def save_weights(model: nn.Module, path: Path, about: dict[str, str] | None = None) -> None:
    """Weights as safetensors; ``about`` (text to text) travels in the file's header."""
    raw = save({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, metadata=about)
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    if about:  # the library writes it in an order of its own, another one each time: equal weights are equal files
        header["__metadata__"] = dict(sorted(about.items()))
    ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(end - 8)
    files.write_bytes(path, raw[:8] + ordered + raw[end:])


def load_weights(path: Path) -> dict[str, Tensor]:
    """Raises DuetError for a missing or damaged file."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise DuetError("no such weights", path=path, remedy="make the run that trains them") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise DuetError(
            f"is not a readable safetensors file: {error}", path=path, remedy="delete it and train again"
        ) from None


def read_about(path: Path) -> dict[str, str]:
    """The description in a weights file's header.  Raises DuetError for a missing or damaged file."""
    try:
        with safe_open(path, framework="pt") as handle:
            return handle.metadata() or {}
    except FileNotFoundError:
        raise DuetError("no such weights", path=path, remedy="make the run that trains them") from None
    except (SafetensorError, OSError) as error:
        raise DuetError(
            f"is not a readable safetensors file: {error}", path=path, remedy="delete it and train again"
        ) from None


def load_into(model: nn.Module, path: Path, only: tuple[str, ...] | None = None) -> None:
    """Load weights whose names start with one of ``only`` (all by default) into ``model``.

    Raises DuetError where names or shapes do not fit: another architecture, or another vocabulary.
    """
    weights = load_weights(path)
    own = model.state_dict()
    wanted = {k for k in own if only is None or k.startswith(only)}
    wrong = [k for k in sorted(wanted) if k not in weights or weights[k].shape != own[k].shape]
    if wrong:
        have = tuple(weights[wrong[0]].shape) if wrong[0] in weights else "nothing"
        raise DuetError(
            f"does not fit: {wrong[0]} needs {tuple(own[wrong[0]].shape)} and the file has {have}",
            path=path,
            remedy="use weights of the same network, vocabulary and picture height",
        )
    model.load_state_dict({**own, **{k: weights[k].to(own[k].dtype) for k in wanted}})
