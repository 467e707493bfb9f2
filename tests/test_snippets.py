"""Windows, excerpts and the pairs of both, on strips whose pixels say where they are."""

import numpy as np
import pytest

from duet import DuetError
from duet.corpora import msmd
from duet.corpora.msmd import Msmd
from duet.engraving import Notehead, Sheet, System
from duet.snippets import Pieces, excerpt, frame_of, published_column, window

IMAGE = (np.arange(200)[:, None] + np.arange(900)[None] * 7).astype(np.uint8)  # no two neighbours are alike


def test_a_window_is_a_cut_around_the_column():
    assert np.array_equal(window(IMAGE, 300), IMAGE[10:190, 200:400])
    assert np.array_equal(window(IMAGE, 300.4, 160, 180), IMAGE[20:180, 210:390])
    assert np.array_equal(window(IMAGE, 300, down=5), IMAGE[15:195, 200:400])


def test_beyond_the_ends_is_paper_and_beyond_the_edges_the_edge():
    left = window(IMAGE, 30)
    assert (left[:, :70] == 255).all() and np.array_equal(left[:, 70:], IMAGE[10:190, :130])
    right = window(IMAGE, 890)
    assert (right[:, 110:] == 255).all() and np.array_equal(right[:, :110], IMAGE[10:190, 790:])
    assert right.dtype == np.uint8
    low = window(IMAGE, 300, down=30)
    assert np.array_equal(low[:160], IMAGE[40:, 200:400]) and (low[160:] == IMAGE[199, 200:400]).all()


def test_scaling_keeps_the_centre():
    large = window(IMAGE, 300, scale=2.0)
    assert np.array_equal(large[::2, ::2], IMAGE[55:145, 250:350])
    assert np.array_equal(large[1::2, 1::2], large[::2, ::2])
    small = window(IMAGE, 300, 80, 80, scale=0.5)
    assert np.array_equal(small, IMAGE[21:181:2, 221:381:2])


def test_the_released_cutter_gives_ends_one_window():
    assert published_column(450, 2000) == 450
    assert published_column(10, 2000) == published_column(390, 2000) == 400
    assert published_column(1990, 2000) == 1600
    assert published_column(10, 500) == published_column(490, 500) == 250


def test_an_excerpt_is_centred_and_silent_beyond_the_ends():
    spectrogram = np.arange(92 * 100, dtype=np.float32).reshape(92, 100) + 1
    assert np.array_equal(excerpt(spectrogram, 50), spectrogram[:, 29:71])
    early = excerpt(spectrogram, 3)
    assert early.shape == (92, 42) and not early[:, :18].any() and np.array_equal(early[:, 18:], spectrogram[:, :24])
    late = excerpt(spectrogram, 95)
    assert not late[:, 26:].any() and np.array_equal(late[:, :26], spectrogram[:, 74:])
    assert not excerpt(spectrogram, 500).any() and excerpt(spectrogram, -500).shape == (92, 42)
    up = excerpt(spectrogram, 50, bands=2)
    assert np.array_equal(up[2:], spectrogram[:-2, 29:71]) and np.array_equal(up[1], spectrogram[0, 29:71])
    assert np.array_equal(excerpt(spectrogram, 50, bands=-1)[:-1], spectrogram[1:, 29:71])


def test_frames_are_rounded_up():
    assert frame_of([0.0, 0.05, 0.051, 1.51]).tolist() == [0, 1, 2, 31]
    assert frame_of([0.1 + 0.2]).tolist() == [6]  # 0.30000000000000004


@pytest.fixture
def corpus(tmp_path):
    """A piece of two systems: a chord, a tied note, two onsets within a frame, and a head that no system owns."""
    heads = [
        Notehead(0, 0, 0, 60, 100, 67, 109, 0.0, 1.0, 72, False, False),
        Notehead(0, 0, 1, 120, 104, 127, 113, 0.0, 2.0, 48, False, False),
        Notehead(0, 0, 0, 60, 300, 67, 309, 1.0, 1.0, 72, True, False),
        Notehead(0, 1, 0, 400, 200, 407, 209, 2.0, 1.0, 74, False, False),
        Notehead(0, 1, 0, 400, 250, 407, 259, 2.1, 1.0, 76, False, False),
    ]
    systems = [System(0, 50, 40, 130, 800, 2), System(0, 380, 20, 460, 800, 2)]
    image = np.full((1181, 835), 255, np.uint8)
    image[60:67, 100:109] = 0
    seconds = {"A__b__c_tempo-1000_x-0": np.array([0.0, 0.0, np.nan, 1.0, 1.02]),
               "A__b__c_tempo-1100_x-0": np.array([0.0, 0.0, np.nan, 1.1, 1.16])}  # fmt: skip
    notes = np.array([(0.0, 48, 1.0, 64, 0), (0.0, 72, 0.9, 64, 0), (1.0, 74, 0.5, 64, 0), (1.02, 76, 0.5, 64, 0)])
    for take in seconds:
        msmd.write_performance(tmp_path, "A__b__c", take, notes, np.full(50_000, 0.1, np.float32))
    msmd.write_sheet(tmp_path, "A__b__c", Sheet((image,), tuple(systems), tuple(heads), (0.0,), ()), seconds)
    return Msmd(tmp_path)


def test_pairs_of_a_piece(corpus, workspace):
    pieces = Pieces(corpus)
    assert pieces.prepare(["A__b__c"]) == {}
    piece = pieces.get("A__b__c")
    assert piece.edges.tolist() == [0, 760, 1540] and piece.image.shape == (200, 1540)
    first, second = piece.performances
    strip = [104 - 40, 108 - 40, 204 + 760 - 20, 254 + 760 - 20]
    frames, columns = piece.pairs(first)
    assert frames.tolist() == [0, 20, 21] and columns == pytest.approx([strip[0], strip[2], strip[3]])
    assert piece.pairs(second).frames.tolist() == [0, 22, 24]
    ink = np.argwhere(window(piece.image, strip[0]) == 0)
    assert ink.mean(0).tolist() == [63, 100]  # the notehead is in the middle, 27 rows above the system's
    assert piece.pitches[piece.sounding(first)].tolist() == [72, 48, 74, 76]
    with pytest.raises(DuetError, match="no performance"):
        piece.seconds("another")


def test_a_piece_that_cannot_be_used_is_told(corpus, workspace):
    import shutil

    shutil.rmtree(corpus.root / "A__b__c" / "performances")
    assert "no performance" in Pieces(corpus).prepare(["A__b__c"])["A__b__c"]
