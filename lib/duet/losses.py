"""Losses over sequences of frames, padded to the longest of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def ctc_loss(logits: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int) -> Tensor:
    """Negative log likelihood of each target sequence, averaged over the batch (Graves et al., ICML 2006).

    ``logits`` (B, frames, labels) of any float type; ``targets`` (B, longest) padded, or all in one row; lengths (B,)
    in frames and labels.  Not divided by the target's length, as Keras has it: ``reduction="mean"`` in torch would
    weigh a long target less.  An item whose frames are fewer than :func:`steps_needed` contributes nothing.
    """
    scores = logits.float().log_softmax(-1).transpose(0, 1)
    losses = F.ctc_loss(
        scores,
        targets.to(scores.device),
        input_lengths,
        target_lengths,
        blank=blank,
        reduction="none",
        zero_infinity=True,
    )
    return losses.mean()


def steps_needed(labels: Sequence[int]) -> int:
    """Frames that CTC needs for these labels: one each, and a blank between equal neighbours."""
    return len(labels) + sum(a == b for a, b in zip(labels, labels[1:], strict=False))


def frame_cross_entropy(logits: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
    """Cross-entropy averaged over all valid frames of the batch.

    ``logits`` (B, frames, labels); ``labels`` (B, frames) int64, anything behind each item's ``lengths`` (B,).
    """
    valid = _valid(labels, lengths)
    return F.cross_entropy(logits[valid].float(), labels[valid])


def frame_binary_cross_entropy(logits: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """Binary cross-entropy averaged over all bins of all valid frames (deep salience: Bittner et al., ISMIR 2017).

    ``logits`` and ``targets`` (B, frames, bins), targets in [0, 1]; ``lengths`` (B,) in frames.
    """
    valid = _valid(targets, lengths)
    return F.binary_cross_entropy_with_logits(logits[valid].float(), targets[valid].float())


def _valid(values: Tensor, lengths: Tensor) -> Tensor:
    """(B, frames) bool: the frames of ``values`` (B, frames, ...) that are no padding."""
    return torch.arange(values.shape[1], device=values.device) < lengths.to(values.device)[:, None]


def pairwise_ranking_loss(anchors: Tensor, others: Tensor, margin: float) -> Tensor:
    """Mean over all wrong pairs of ``max(0, margin - right + wrong)``, of cosines of unit vectors (B, d).

    Row ``i`` of ``anchors`` belongs to row ``i`` of ``others``; every other row is a negative.  One-sided, as published
    with sheets as anchors.  Source: fact sheet of alignment, Section 4.
    """
    similarity = anchors @ others.T
    hinge = (margin - similarity.diagonal()[:, None] + similarity).clamp(min=0)
    wrong = 1 - torch.eye(len(anchors), device=anchors.device)
    return (hinge * wrong).sum() / wrong.sum()


def info_nce(anchors: Tensor, others: Tensor, temperature: float = 0.1) -> Tensor:
    """Cross-entropy of finding each row's partner among all of the batch, both ways, of unit vectors (B, d).

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, Equation 4.
    """
    scores = anchors @ others.T / temperature
    own = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


def matching_loss(anchors: Tensor, others: Tensor, kind: str, margin: float) -> Tensor:
    """One of "ranking", "symmetric", the same with both sides as anchors, and "infonce", which has no margin."""
    if kind == "infonce":
        return info_nce(anchors, others)
    loss = pairwise_ranking_loss(anchors, others, margin)
    return (loss + pairwise_ranking_loss(others, anchors, margin)) / 2 if kind == "symmetric" else loss
