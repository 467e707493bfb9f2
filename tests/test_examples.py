"""One of each corpus, as pictures and sound: what is drawn is where the annotation says."""

import numpy as np
import pytest

from duet import DuetError, examples, studies, synthesis, transcription
from duet.corpora import guitarset
from duet.corpora.guitarset import GuitarSet
from duet.corpora.msmd import Msmd
from duet.examples import BLUE, RED, STRIPE


def test_unknown_layouts_presets_and_folders(tmp_path):
    with pytest.raises(DuetError, match="unknown layout 'MP3'.*PrIMuS, MSMD, MAPS, GuitarSet, MTD"):
        examples.corpus("MP3", "smoke")
    for layout in examples.LAYOUTS:
        with pytest.raises(DuetError, match="unknown preset 'huge'"):
            examples.corpus(layout, "huge")
        with pytest.raises(DuetError, match=f"no open corpus in {layout} layout"):
            examples.corpus(layout, "paper")
        with pytest.raises(DuetError, match="nowhere"):
            examples.corpus(layout, "smoke", str(tmp_path / "nowhere"))


def names():
    """Every corpus that a preset of a study takes, by the name that its tables give it."""
    for key in studies.KEYS:
        module = studies.get(key)
        for preset, settings in module.PRESETS.items():
            if key == "synthetic_pretraining" and settings.sizes:
                kinds = ("synthetic", "piano", "guitar")
                parts = [module.experiment.open_set(preset, kind).name for kind in kinds]
                yield from ((part, 1) for part in parts)
                yield "; ".join(parts[1:]), 2
            elif key != "synthetic_pretraining" and settings.corpus:
                yield settings.corpus.name, 1
    yield from ((name, 1) for name in ("Camera-PrIMuS", "MSMD", "MAPS", "GuitarSet", "MTD"))
    yield "music21 scores (open), scans (stand-in)", 1
    yield "MAPS; GuitarSet stand-in (generated; timgm6mb)", 2


@pytest.mark.parametrize(("name", "count"), sorted(set(names())))
def test_every_corpus_of_a_preset_is_described(name, count):
    told = examples.describe(name)
    assert sum(told.count(text) for text in examples.CORPORA.values()) == count, told


def test_a_corpus_of_ones_own():
    assert examples.describe("My MAPS") == "A data set of your own."


def test_boxes_and_crosses_are_on_systems_and_noteheads(toy_sheets):
    corpus = Msmd(toy_sheets)
    piece = corpus.pieces[0]
    page, marked = corpus.pages(piece)[0], examples.marked_page(corpus, piece)
    assert marked.shape == (*page.shape, 3)
    heads, (first, _) = corpus.noteheads(piece), corpus.systems(piece)[0]
    for head in heads[:5]:
        assert tuple(marked[round(float(head["row"])), round(float(head["column"]))]) == RED
    top, left, bottom, right = map(int, first)
    corners = [(top, left), (top, right), (bottom, left), (bottom, right)]
    assert all(tuple(marked[corner]) == BLUE for corner in corners)
    untouched = (marked != BLUE).any(2) & (marked != RED).any(2)
    assert (marked[untouched] == page[untouched][:, None]).all() and untouched.mean() > 0.98


def test_the_first_seconds_of_a_performance(toy_sheets):
    corpus = Msmd(toy_sheets)
    piece = corpus.pieces[0]
    sound = examples.performed(corpus, piece, corpus.performances(piece)[0], 2.0)
    assert 2.0 <= len(sound) / synthesis.SAMPLE_RATE < 3.0 and np.abs(sound[:22_050]).max() > 0.01


def test_strings_are_stripes(tmp_path):
    strings = [np.array([[0.32 * n, 0.32 * n + 0.16, 40.0 + n]]) for n in range(6)]
    audio = 0.1 * np.sin(np.arange(3 * 16_000) / 10)
    guitarset.write_excerpt(tmp_path, "00_BN1-129-Eb_comp", strings, {"mic": audio}, 16_000)
    picture = examples.strings_panel(GuitarSet(tmp_path), "00_BN1-129-Eb_comp", 90)
    assert picture.shape == (6 * STRIPE, 90) and picture.sum() == 6 * 5 * (STRIPE - 1)
    for n in range(6):
        on = round(0.32 * n / transcription.FRAME)
        assert picture[n * STRIPE : (n + 1) * STRIPE - 1, on : on + 5].all()


def test_panels_have_one_time_axis():
    audio = 0.1 * np.sin(2 * np.pi * 440 * np.arange(2 * 16_000) / 16_000).astype(np.float32)
    panels = examples.note_panels(audio, np.array([[0.5, 1.5, 69.0, 90.0], [5.0, 6.0, 60.0, 90.0]]))
    seen, sounding = panels.values()
    assert seen.shape == (176, 63) and sounding.shape == (88, 63)
    assert np.flatnonzero(sounding.any(1)).tolist() == [69 - 21]  # what comes later is not in the picture
    assert abs(int(seen[:, 30].argmax()) - 2 * (69 - 21)) <= 1  # two bins a semitone, from A0
