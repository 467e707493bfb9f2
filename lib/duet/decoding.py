"""From a network's scores to tokens."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def greedy_ctc(logits: Tensor, steps: Tensor, blank: int) -> list[list[int]]:
    """Most probable symbol of each step, repeats merged, blanks dropped.

    ``logits`` is (steps, B, outputs), ``steps`` (B,) how many of them belong to each item.
    Source: Alfaro-Contreras et al., SMC 2022, Section 2.1 (greedy policy).
    """
    best = logits.argmax(-1).T.cpu().numpy()  # (B, steps)
    sequences = []
    for row, length in zip(best, steps.tolist(), strict=True):
        row = row[:length]
        changes = np.concatenate([[True], row[1:] != row[:-1]]) if length else np.zeros(0, bool)
        sequences.append(row[changes & (row != blank)].tolist())
    return sequences
