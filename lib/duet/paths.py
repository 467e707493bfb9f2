"""Where things lie.  Nothing here depends on the working directory or on a host's name."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import DuetError

ROOT = Path(os.environ.get("DUET_HOME") or Path(__file__).resolve().parents[2])
NOTEBOOKS = ROOT / "notebooks"


def results() -> Path:
    """Tables, figures and run records; ``DUET_RESULTS`` moves it."""
    return Path(os.environ.get("DUET_RESULTS") or ROOT / "results")


def study_results(study: str, preset: str, corpus: str = "") -> Path:
    """Where a study's results lie.  A corpus of the user's own, in a preset that has an open one, goes beside it."""
    label = f"{preset}-{Path(corpus).name}" if corpus and preset != "paper" else preset
    return results() / label / study


def cache() -> Path:
    """Everything that can be made again: rendered corpora, features, checkpoints; ``DUET_CACHE`` moves it."""
    return Path(os.environ.get("DUET_CACHE") or ROOT / ".cache")


def scores() -> Path:
    """Open scores: ``DUET_SCORES`` where somebody has a copy, else where ``make corpora`` puts them."""
    return Path(os.environ.get("DUET_SCORES") or ROOT / "corpora" / "scores")


def lists() -> Path:
    """Published id lists, folds and splits; ``DUET_LISTS`` where somebody has a copy, else beside the scores.

    A copy of the scores with ``lists`` as a sibling folder is found through ``DUET_SCORES`` alone.
    """
    return Path(os.environ.get("DUET_LISTS") or scores().parent / "lists")


def samples() -> Path:
    """Real instruments' samples: ``DUET_SAMPLES`` where somebody has a copy, else where ``make corpora`` puts them."""
    return Path(os.environ.get("DUET_SAMPLES") or ROOT / "corpora" / "samples")


def real(name: str, folder: str = "") -> Path | None:
    """The user's copy of a data set that is not open: in ``folder``, else where ``DUET_<NAME>`` says; None without.

    Raises DuetError where the variable names no folder.
    """
    variable = f"DUET_{name.upper()}"
    if folder:
        return Path(folder) / name if (Path(folder) / name).is_dir() else None
    if not os.environ.get(variable):
        return None
    if not Path(os.environ[variable]).is_dir():
        raise DuetError(f"{variable} names no folder", path=os.environ[variable], remedy=f"unset it, or name {name}")
    return Path(os.environ[variable])


def released() -> Path:
    """Weights that others have published, put there by hand; ``DUET_RELEASED`` where they lie elsewhere."""
    return Path(os.environ.get("DUET_RELEASED") or ROOT / "corpora" / "released")
