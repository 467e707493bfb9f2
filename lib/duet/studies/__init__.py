"""The studies there are: one module each, with its presets, its grid of runs, its training and its claims."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ..errors import DuetError

KEYS: tuple[str, ...] = (
    "transfer_learning",
    "passage_retrieval",
    "alignment",
    "synthetic_pretraining",
    "ctc_chroma",
)


def get(key: str) -> ModuleType:
    """Raises DuetError for an unknown key."""
    if key not in KEYS:
        raise DuetError(f"unknown study {key!r}", remedy=f"one of {', '.join(KEYS)}")
    return import_module(f"{__name__}.{key}")
