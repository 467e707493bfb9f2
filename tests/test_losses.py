"""Losses over padded sequences: CTC against every path written out, cross-entropies against their formulas."""

import math
from itertools import groupby, product

import pytest
import torch

from duet.losses import ctc_loss, frame_binary_cross_entropy, frame_cross_entropy, info_nce, steps_needed

torch.set_num_threads(1)  # as every run has; several would only wait for each other on a busy machine
BLANK = 2


def random_logits(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def path_sum(logits, target, blank):
    """-log of the probability of all labellings that collapse to ``target``, each path written out."""
    probability = logits.double().softmax(-1)
    total = 0.0
    for path in product(range(logits.shape[-1]), repeat=len(logits)):
        if [label for label, _ in groupby(path) if label != blank] == list(target):
            total += math.prod(probability[t, label].item() for t, label in enumerate(path))
    return -math.log(total)


@pytest.mark.parametrize("target", [[0], [1, 0], [0, 0], [0, 1, 0], []])
def test_ctc_is_the_sum_over_all_paths(target):
    logits = random_logits(1, 4, 3)
    targets, lengths = torch.tensor([target or [0]]), torch.tensor([len(target)])
    loss = ctc_loss(logits, targets, torch.tensor([4]), lengths, blank=BLANK)
    assert loss.item() == pytest.approx(path_sum(logits[0], target, BLANK), rel=1e-5)


def test_uniform_outputs_give_the_count_of_paths():
    # three frames of three equally likely labels: A alone is AAA, AA-, -AA, A--, -A-, --A, 6 of 27
    loss = ctc_loss(torch.zeros(1, 3, 3), torch.tensor([[0]]), torch.tensor([3]), torch.tensor([1]), blank=BLANK)
    assert loss.item() == pytest.approx(-math.log(6 / 27), rel=1e-6)


def test_ctc_is_a_plain_mean_over_items_of_their_own_lengths():
    logits = random_logits(3, 5, 4, seed=1)
    targets, frames = [[0], [1, 1, 2], [2, 0]], [2, 5, 4]
    expected = [path_sum(logits[i, :n], t, 3) for i, (t, n) in enumerate(zip(targets, frames, strict=True))]
    lengths = torch.tensor([len(t) for t in targets])
    padded = torch.tensor([t + [3] * (3 - len(t)) for t in targets])
    loss = ctc_loss(logits, padded, torch.tensor(frames), lengths, blank=3)
    assert loss.item() == pytest.approx(sum(expected) / 3, rel=1e-5)
    flat = torch.tensor([label for t in targets for label in t])
    assert ctc_loss(logits, flat, torch.tensor(frames), lengths, blank=3).item() == pytest.approx(loss.item())


def test_an_item_that_cannot_be_aligned_contributes_nothing():
    logits = random_logits(2, 4, 3).requires_grad_()
    targets, frames = torch.tensor([[0, 0, 0], [1, 0, 0]]), torch.tensor([4, 4])
    loss = ctc_loss(logits, targets, frames, torch.tensor([3, 2]), blank=BLANK)  # 0 0 0 needs five frames
    assert loss.item() == pytest.approx(path_sum(logits[1].detach(), [1, 0], BLANK) / 2, rel=1e-5)
    loss.backward()
    assert not logits.grad[0].any() and logits.grad[1].any() and torch.isfinite(logits.grad).all()


def test_ctc_takes_half_precision_and_its_gradient_ends_with_the_item():
    logits = random_logits(2, 6, 3).bfloat16().requires_grad_()
    loss = ctc_loss(logits, torch.tensor([[0], [1]]), torch.tensor([6, 3]), torch.tensor([1, 1]), blank=BLANK)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(logits.grad).all()
    assert logits.grad[1, :3].any() and not logits.grad[1, 3:].any()


@pytest.mark.parametrize(
    ("labels", "frames"),
    [
        ([], 0),
        ([7], 1),
        ([7, 7], 3),
        ([7, 7, 7, 3, 5, 5, 5, 2], 12),
        ([1, 2, 1], 3),
    ],
)
def test_ctc_needs_a_frame_a_label_and_one_between_equal_neighbours(labels, frames):
    assert steps_needed(labels) == frames
    if labels:
        targets, length, logits = torch.tensor([labels]), torch.tensor([len(labels)]), torch.zeros(1, frames, 13)
        assert ctc_loss(logits, targets, torch.tensor([frames]), length, blank=12) > 0
        assert ctc_loss(logits, targets, torch.tensor([frames - 1]), length, blank=12) == 0  # infinite, left out


def test_frames_count_alike_and_padding_not_at_all():
    logits, lengths = random_logits(2, 4, 13).requires_grad_(), torch.tensor([4, 1])
    labels = torch.tensor([[0, 12, 5, 5], [3, -100, 99, 7]])  # padding holds anything
    loss = frame_cross_entropy(logits, labels, lengths)
    scores = logits.detach().double().log_softmax(-1)
    frames = [(0, 0, 0), (0, 1, 12), (0, 2, 5), (0, 3, 5), (1, 0, 3)]
    assert loss.item() == pytest.approx(-sum(scores[f].item() for f in frames) / 5, rel=1e-5)
    loss.backward()
    assert not logits.grad[1, 1:].any() and torch.isfinite(logits.grad).all()


def test_binary_cross_entropy_is_the_mean_over_valid_bins():
    logits, lengths = random_logits(2, 3, 2).requires_grad_(), torch.tensor([1, 3])
    targets = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(5))
    targets[0, 1:] = math.nan  # padding
    loss = frame_binary_cross_entropy(logits, targets, lengths)
    cells = [(0, 0), (1, 0), (1, 1), (1, 2)]
    p, y = torch.stack([logits[c] for c in cells]).detach().double().sigmoid(), torch.stack([targets[c] for c in cells])
    expected = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert not logits.grad[0, 1:].any() and torch.isfinite(logits.grad).all()


def test_info_nce_by_hand():
    anchors, others = torch.eye(3), torch.eye(3)
    assert info_nce(anchors, others, 1.0).item() == pytest.approx(math.log(1 + 2 / math.e))
    wrong = info_nce(anchors, others[[1, 2, 0]], 1.0).item()
    assert wrong == pytest.approx(math.log(2 + math.e))  # each partner has cosine 0, one of the others 1
