"""Greedy CTC on paths drawn by hand, and on any valid alignment of any sequence."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duet.decoding import greedy_ctc

BLANK = 3


def logits(*paths):
    """(steps, B, 4) whose most probable symbols are the paths; what lies past a path's end is noise that decodes."""
    longest = max(map(len, paths))
    scores = torch.zeros(longest, len(paths), BLANK + 1)
    for b, path in enumerate(paths):
        for step in range(longest):
            scores[step, b, path[step] if step < len(path) else (b + step) % BLANK] = 1.0
    return scores, torch.tensor([len(path) for path in paths])


def decode(*paths):
    return greedy_ctc(*logits(*paths), BLANK)


@pytest.mark.parametrize(
    ("path", "sequence"),
    [
        ([0], [0]),
        ([0, 0, 0], [0]),
        ([0, BLANK, 0], [0, 0]),
        ([BLANK, BLANK], []),
        ([BLANK, 1, BLANK], [1]),
        ([0, 0, 1, 1, 0], [0, 1, 0]),
        ([2, BLANK, BLANK, 2, 2, 1, BLANK], [2, 2, 1]),
    ],
)
def test_repeats_merge_and_blanks_vanish(path, sequence):
    assert decode(path) == [sequence]


def test_only_an_items_own_steps_are_read():
    assert decode([0, 1], [2, BLANK, 2, 2, 1], [BLANK]) == [[0, 1], [2, 2, 1], []]
    scores, _ = logits([0, 1, 2])
    assert greedy_ctc(scores, torch.tensor([0]), BLANK) == [[]]
    assert greedy_ctc(scores, torch.tensor([2]), BLANK) == [[0, 1]]


def test_the_blank_is_the_symbol_it_is_said_to_be():
    scores, steps = logits([0, 1, 0])
    assert greedy_ctc(scores, steps, 1) == [[0, 0]]
    assert greedy_ctc(scores, steps, 0) == [[1]]


@st.composite
def alignments(draw):
    """A sequence, and a path that CTC collapses to it: each symbol held, a blank between equal neighbours."""
    sequence = draw(st.lists(st.integers(0, BLANK - 1), max_size=6))
    path = [BLANK] * draw(st.integers(0, 2))
    for k, symbol in enumerate(sequence):
        needed = k > 0 and sequence[k - 1] == symbol
        path += [BLANK] * draw(st.integers(int(needed), 2)) + [symbol] * draw(st.integers(1, 3))
    return sequence, path + [BLANK] * draw(st.integers(int(not path), 2))


@given(st.lists(alignments(), min_size=1, max_size=4))
@settings(deadline=None)
def test_every_alignment_of_a_sequence_decodes_to_it(items):
    assert decode(*(path for _, path in items)) == [sequence for sequence, _ in items]
