"""Passages and their snippets, on strips and spectrograms whose values say where they are; votes by hand."""

import numpy as np
import pytest

from duet.snippets import Piece
from duet.studies.passage_retrieval.passages import audio_snippets, passages, sheet_snippets, vote

TAKE = "P_tempo-1000_x"


def piece(seconds, owners, edges=(0, 700, 1400, 2000)):
    count = len(seconds)
    return Piece("P", np.zeros((200, edges[-1]), np.uint8), np.array(edges), np.arange(count) * 100.0,
                 np.full(count, 60), np.array(owners), np.array([seconds]), (TAKE,))  # fmt: skip


def test_a_passage_goes_to_the_next_ones_first_onset():
    found = passages(piece([0.5, 1.0, 4.02, 3.0, 6.0], [0, 0, 1, 1, 2]), TAKE, 200)
    assert [p.system for p in found] == [0, 1, 2]
    assert [p.frames for p in found] == [(10, 60), (60, 120), (120, 200)]  # the last one to the end, release included
    assert [p.columns for p in found] == [(0, 700), (700, 1400), (1400, 2000)]
    assert found[0].seconds == 2.5


def test_systems_in_which_nothing_begins_are_left_out():
    found = passages(piece([0.5, np.nan, 2.0], [0, 1, 2]), TAKE, 100)
    assert [(p.system, p.frames) for p in found] == [(0, (10, 40)), (2, (40, 100))]
    assert passages(piece([1.0, 1.0], [0, 1]), TAKE, 100)[0].system == 1  # the first would have no frame


def test_a_system_is_halved_and_cut_with_a_tenth_of_overlap():
    image = np.zeros((200, 900), np.uint8)
    image[:, 100:842] = (np.arange(742) // 2 % 200).astype(np.uint8)[None]
    found = sheet_snippets(image, (100, 842))
    assert found.shape == (5, 80, 90)  # 371 columns and 20 white ones: 0, 81, 162, 243, 324
    assert (found[0][:, :20] == 255).all() and found[0][3, 20:].tolist() == list(range(70))
    assert np.array_equal(found[1][:, :9], found[0][:, 81:])
    assert found[4][0, :67].tolist() == [(324 - 20 + k) % 200 for k in range(67)] and (found[4][:, 67:] == 255).all()
    rows = np.repeat(np.arange(200, dtype=np.uint8)[:, None], 50, 1)
    middle = sheet_snippets(rows, (0, 50))
    assert len(middle) == 1 and middle[0][:, 30].tolist() == list(range(21, 181, 2))  # rows 20 to 179, halved


def test_the_last_excerpt_reads_on():
    spectrogram = np.tile(np.arange(100, dtype=np.float32), (92, 1))
    found = audio_snippets(spectrogram, (10, 50))
    assert [s[0, 0] for s in found] == [10, 28, 46] and found[2][0].tolist() == list(range(46, 66))
    at_the_end = audio_snippets(spectrogram, (80, 100))
    assert len(at_the_end) == 2 and at_the_end[1][0].tolist() == [98, 99] + [0] * 18
    assert found.dtype == np.float32 and audio_snippets(spectrogram, (99, 100)).shape == (1, 92, 20)


def test_votes_by_hand():
    similarity = np.array([[0.9, 0.8, 0.1, 0.0], [0.2, 0.7, 0.6, 0.5]])
    owners = [0, 1, 1, 2]
    scores = vote(similarity, owners, 4, 2)  # hits: 0 and 1 of the first query, 1 and 2 of the second
    assert scores[0] == pytest.approx(1 + 0.9 / 3) and scores[1] == pytest.approx(3 + 2.1 / 9)
    assert scores[2] == pytest.approx(0.5 / 3 - 1) and scores[3] == pytest.approx(-1 / 3 - 1)
    assert np.argsort(-scores).tolist() == [1, 0, 2, 3]


def test_ties_are_broken_by_similarity_and_no_vote_is_last():
    similarity = np.array([[0.9, -0.9, -0.95]])
    assert np.argsort(-vote(similarity, [0, 1, 2], 3, 2)).tolist() == [0, 1, 2]
    assert vote(similarity, [0, 1, 2], 3, 2)[1] > vote(np.array([[1.0, 1.0, 1.0]]), [0, 0, 1], 2, 2)[1]
