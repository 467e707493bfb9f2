"""Scores, each per item first: intervals and paired tests need what a mean has thrown away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import mir_eval
import numpy as np
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


def ranks(distances: np.ndarray, relevant: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(Q,) ranks of each query's relevant document, 1 the best, and (Q,) how many others tie with it.

    ``distances`` is (Q, D), infinite where nothing matches; ``relevant`` (Q,) are columns.  A tie counts as worse:
    the rank is the number of documents at most as far, so that equal distances for all give the last rank.
    Raises ValueError for a distance that is no number.
    """
    distances = np.asarray(distances)
    if np.isnan(distances).any():
        raise ValueError("a distance is no number")
    own = distances[np.arange(len(distances)), relevant][:, None]
    return (distances <= own).sum(1), (distances == own).sum(1) - 1


def top(ranks: Sequence[int], k: int) -> np.ndarray:
    """(Q,) 1 where the rank is at most ``k``, else 0: their mean is the top-K rate, or the recall at K."""
    return (np.asarray(ranks) <= k).astype(float)


def reciprocal(ranks: Sequence[int]) -> np.ndarray:
    """(Q,) 1 / rank: their mean is the mean reciprocal rank."""
    return 1 / np.asarray(ranks, float)


# -- transcription -----------------------------------------------------------------------------------------------------


def matched_notes(reference: np.ndarray, estimate: np.ndarray, offsets: bool = False) -> int:
    """How many notes of two (n, >=3) arrays (onset s, offset s, MIDI pitch) match one to one, by mir_eval's rule.

    Onsets within 50 ms of the same whole pitch; with ``offsets`` also offsets within 20 % of the reference's duration
    or 50 ms.  Pitch by pitch: the same matching as that of all notes at once, since a match never crosses pitches.
    """
    matched = 0
    for pitch in np.intersect1d(reference[:, 2], estimate[:, 2]):
        both = [notes[notes[:, 2] == pitch][:, :2] for notes in (reference, estimate)]
        hertz = [np.full(len(notes), 440 * 2 ** ((pitch - 69) / 12)) for notes in both]
        ratio = 0.2 if offsets else None
        matched += len(mir_eval.transcription.match_notes(both[0], hertz[0], both[1], hertz[1], offset_ratio=ratio))
    return matched


def precision_recall_f1(matched: float, references: float, estimates: float) -> tuple[float, float, float]:
    """Each in [0, 1]; 0 where there is nothing to divide by."""
    precision = matched / estimates if estimates else 0.0
    recall = matched / references if references else 0.0
    return precision, recall, 2 * matched / (references + estimates) if references + estimates else 0.0


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under precision over recall of scores in [0, 1], in steps of one thousandth: no threshold is chosen.

    ``labels`` binary, any shape; 0 where nothing is labelled.
    """
    steps = np.round(np.clip(scores, 0, 1) * 1000).astype(int).ravel()
    labelled = np.bincount(steps, labels.ravel(), 1001)[::-1].cumsum()
    answered = np.bincount(steps, minlength=1001)[::-1].cumsum()
    if not labelled[-1]:
        return 0.0
    precision = labelled / np.maximum(answered, 1)
    return float((np.diff(labelled, prepend=0) * precision).sum() / labelled[-1])
