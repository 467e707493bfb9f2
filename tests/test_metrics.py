"""Scores against what a hand counts and against the textbook's algorithm."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duet import metrics

TOKENS = ["clef-G2", "note-C4_quarter", "note-C4_eighth", "note-D4_quarter", "rest-quarter", "barline", "tie"]
sequences = st.lists(st.sampled_from(TOKENS), max_size=8)


def textbook(a, b):
    """The recursion of Wagner and Fischer, cell by cell."""
    table = [[i + j if 0 in (i, j) else None for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
    return table[-1][-1]


@pytest.mark.parametrize(
    ("reference", "estimate", "distance"),
    [
        ("", "", 0),
        ("abc", "abc", 0),
        ("abc", "", 3),
        ("", "ab", 2),
        ("kitten", "sitting", 3),
        ("ab", "ba", 2),  # no transpositions
        ("abcd", "acd", 1),
        ("aaa", "aaaa", 1),
    ],
)
def test_edits_of_a_few_words(reference, estimate, distance):
    assert metrics.edits(list(reference), list(estimate)) == distance


def test_tokens_are_compared_whole():
    assert metrics.edits(["note-C4_quarter"], ["note-C4_quarter."]) == 1
    assert metrics.edits(["note-C4_quarter", "barline"], ["note-C#4_quarter", "barline"]) == 1


@given(sequences, sequences)
@settings(deadline=None)
def test_edits_are_the_textbooks(reference, estimate):
    assert metrics.edits(reference, estimate) == textbook(reference, estimate)


def test_the_error_rate_is_a_micro_average_and_can_exceed_100():
    assert metrics.symbol_error_rate([1, 0], [4, 16]) == 5.0  # the mean of both rates would be 12.5
    assert metrics.symbol_error_rate([30], [10]) == 300.0
    assert metrics.symbol_error_rate([7, 3], [7, 3]) == 100.0  # the empty estimate


def test_what_cannot_be_heard_is_left_out():
    tokens = [
        "clef-C1",
        "keySignature-BbM",
        "timeSignature-C/",
        "gracenote-D5_eighth",
        "note-Bb4_half.",
        "tie",
        "barline",
        "note-Bb4_eighth",
        "rest-eighth",
        "multirest-3",
        "barline",
    ]
    assert metrics.audible(tokens) == [
        "gracenote-D5_eighth",
        "note-Bb4_half.",
        "note-Bb4_eighth",
        "rest-eighth",
        "multirest-3",
    ]
    assert metrics.audible([]) == []


@pytest.mark.parametrize(
    ("reference", "estimate", "families"),
    [
        ("note-C4_quarter", "note-D4_quarter", {"pitch": 1}),
        ("note-C4_quarter", "note-C4_eighth", {"duration": 1}),
        ("note-C4_quarter", "note-C4_quarter_fermata", {"duration": 1}),
        ("note-C4_thirty_second", "note-C4_sixty_fourth", {"duration": 1}),
        ("note-C4_quarter", "note-D4_eighth", {"pitch and duration": 1}),
        ("note-C4_quarter", "rest-quarter", {"note replaced": 1}),
        ("note-C4_quarter", "gracenote-C4_quarter", {"note replaced": 1}),
        ("rest-quarter", "note-C4_quarter", {"rest": 1}),
        ("clef-G2", "clef-C1", {"clef": 1}),
        ("note-C4_quarter", "", {"note deleted": 1}),
        ("", "note-C4_quarter", {"note inserted": 1}),
        ("barline", "", {"barline": 1}),
        ("", "tie", {"tie": 1}),
        (
            "timeSignature-C note-C4_half note-D4_half note-E4_half barline",
            "note-C4_half note-D4_half note-E4_half rest-half barline",
            {"timeSignature": 1, "rest": 1},
        ),
        ("clef-G2 barline", "clef-G2 barline", {}),
    ],
)
def test_an_edit_belongs_to_the_family_of_its_token(reference, estimate, families):
    assert metrics.edits_by_family(reference.split(), estimate.split()) == Counter(families)


@given(sequences, sequences)
@settings(deadline=None)
def test_families_add_up_to_the_edits(reference, estimate):
    assert sum(metrics.edits_by_family(reference, estimate).values()) == metrics.edits(reference, estimate)


def test_ranks_count_ties_as_worse():
    distances = np.array(
        [
            [0.1, 0.2, 0.3],
            [0.2, 0.2, 0.3],  # a tie for the first place is the second
            [0.5, 0.5, 0.5],  # a constant says nothing
            [np.inf, 0.1, np.inf],  # without a match: last, with the others that have none
        ]
    )
    found, ties = metrics.ranks(distances, [0, 1, 2, 0])
    assert found.tolist() == [1, 2, 3, 3] and ties.tolist() == [0, 1, 2, 1]
    assert metrics.top(found, 2).tolist() == [1, 1, 0, 0]
    assert metrics.reciprocal(found).mean() == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 3) / 4)


def test_ranks_of_random_distances_are_uniform_and_nan_is_refused():
    rng = np.random.default_rng(0)
    found, _ = metrics.ranks(rng.random((4000, 20)), np.arange(4000) % 20)
    assert np.bincount(found, minlength=21)[1:] == pytest.approx(np.full(20, 200), abs=60)
    with pytest.raises(ValueError):
        metrics.ranks([[0.1, np.nan]], [0])
