"""Scores, each per item first: intervals and paired tests need what a mean has thrown away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from .semantic import INAUDIBLE


def edits(reference: Sequence[str], estimate: Sequence[str]) -> int:
    """Levenshtein distance of two token sequences at unit costs."""
    return Levenshtein.distance(reference, estimate)


def symbol_error_rate(distances: Sequence[int], lengths: Sequence[int]) -> float:
    """Percent: all edits over all reference tokens (micro average; insertions can take it above 100).

    Source: Alfaro-Contreras et al., SMC 2022, Equation 1.
    """
    return 100 * sum(distances) / sum(lengths)


def audible(tokens: Sequence[str]) -> list[str]:
    """The tokens that change what sounds: without clefs, signatures, barlines and ties."""
    return [t for t in tokens if t.split("-", 1)[0] not in INAUDIBLE]


def edits_by_family(reference: Sequence[str], estimate: Sequence[str]) -> Counter:
    """Edits counted by the family of the token concerned: the reference's, or for an insertion the estimate's.

    A substitution between notes counts as ``pitch``, ``duration`` or ``pitch and duration``.
    """
    count: Counter = Counter()
    for kind, i, j in Levenshtein.editops(reference, estimate):
        family = (estimate[j] if kind == "insert" else reference[i]).split("-", 1)[0]
        if kind == "replace" and family == "note" and estimate[j].startswith("note-"):
            (pitch, figure), (other_pitch, other_figure) = reference[i].split("_", 1), estimate[j].split("_", 1)
            wrong = [
                name
                for name, differs in (("pitch", pitch != other_pitch), ("duration", figure != other_figure))
                if differs
            ]
            family = " and ".join(wrong)
        elif family == "note":
            family = f"note {kind}d" if kind == "replace" else f"note {kind}ed".replace("deleteed", "deleted")
        count[family] += 1
    return count
