"""Spectrogram, labels and notes of the transcriber, against direct sums, mir_eval and cases worked by hand."""

import mir_eval
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from duet import metrics, transcription
from duet.errors import DuetError
from duet.transcription import FRAME, Thresholds


def notes(*rows):
    """(onset, offset, pitch) each."""
    return np.array([(*row, 90) for row in rows], float).reshape(-1, 4)


def rows(found):
    """In frames, which are easier to read."""
    return [(round(float(a / FRAME), 3), round(float(b / FRAME), 3), int(p)) for a, b, p, _ in found]


# -- the spectrogram ---------------------------------------------------------------------------------------------------


def direct(audio, key_bin, frame):
    """The published transform by its definition: a Hann window that sums to one, times the root of its length."""
    frequency = 27.5 * 2 ** (key_bin / 24)
    length = int(np.ceil(16_000 / frequency / (2 ** (1 / 24) - 1)))
    window = np.hanning(length + 1)[:-1]
    time = (np.arange(length) - length // 2) / 16_000
    kernel = window / window.sum() * np.exp(2j * np.pi * frequency * time)
    centre = frame * 512 - length // 2
    return abs((audio[centre : centre + length] * kernel.conj()).sum()) * np.sqrt(length)


@pytest.mark.parametrize("key_bin", [30, 72, 120, 160])
def test_spectrogram_is_the_published_transform(key_bin):
    rng = np.random.default_rng(key_bin)
    time = np.arange(48_000) / 16_000
    frequency = 27.5 * 2 ** (key_bin / 24)
    audio = np.sin(2 * np.pi * frequency * time) + 0.01 * rng.standard_normal(len(time))
    ours = np.exp(transcription.spectrogram(audio.astype(np.float32)))[47, key_bin] - transcription.FLOOR
    assert ours == pytest.approx(direct(audio, key_bin, 47), rel=1e-2)


def test_a_training_chunk_has_640_frames_and_a_tone_its_bin():
    time = np.arange(327_680) / 16_000
    found = transcription.spectrogram(np.sin(2 * np.pi * 440 * time).astype(np.float32))
    assert found.shape == (640, 176)
    assert found[320].argmax() == 2 * (69 - transcription.LOWEST)


@pytest.mark.parametrize("samples", [1600, 512, 513, 5000])
def test_short_audio_has_a_frame_per_hop(samples):
    found = transcription.spectrogram(np.random.default_rng(0).standard_normal(samples).astype(np.float32))
    assert found.shape == (-(-samples // 512), 176) and np.isfinite(found).all()


def test_level_is_one_root_mean_square_and_silence_stays():
    audio = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    assert np.sqrt(np.square(transcription.level(3 * audio)).mean()) == pytest.approx(transcription.LEVEL, rel=1e-4)
    assert not transcription.level(np.zeros(100, np.float32)).any()


def test_normalisations_keep_to_the_unit_interval():
    values = np.array([[-20.0, -5.0], [0.0, 9.0]], np.float32)
    assert transcription.fixed_range(values).min() == 0 and transcription.fixed_range(values).max() == 1
    assert transcription.chunk_range(values)[0, 0] == 0 and transcription.chunk_range(values)[1, 1] == 1
    assert not transcription.chunk_range(np.full((3, 2), -4.0)).any()
    # a louder chunk is another picture by the fixed range, and the same by its own
    assert (transcription.fixed_range(values - 1) != transcription.fixed_range(values)).any()
    assert np.allclose(transcription.chunk_range(values - 1), transcription.chunk_range(values))


# -- labels ------------------------------------------------------------------------------------------------------------


def test_roll_marks_onset_sounding_and_offset():
    labels = transcription.roll(notes((2 * FRAME, 5 * FRAME, 60)), 8)
    assert labels[:, 60 - 21].tolist() == [0, 0, 3, 2, 2, 1, 0, 0]
    assert labels.sum() == 8


def test_roll_of_a_restruck_and_of_a_vanishing_note():
    labels = transcription.roll(notes((0, 3 * FRAME, 40), (3 * FRAME, 5 * FRAME, 40)), 6)
    assert labels[:, 19].tolist() == [3, 2, 2, 3, 2, 1]
    # onset and offset of the second round to one frame: its offset erases its onset, as in the source
    assert transcription.roll(notes((0.001, 0.005, 40)), 3)[:, 19].tolist() == [1, 0, 0]


def test_labels_beyond_keyboard_and_end_are_left_out():
    outside = notes((0, 1, 20), (0, 1, 109), (9, 10, 60))
    assert not transcription.roll(outside, 10).any()
    assert not any(part.any() for part in transcription.targets(outside, 10))


def test_targets_keep_every_note_and_say_where_its_onset_lies():
    sounding, onsets = transcription.targets(notes((2.25 * FRAME, 2.26 * FRAME, 60), (0, 2 * FRAME, 61)), 6)
    assert sounding[:, 39].tolist() == [0, 0, 1, 0, 0, 0] and sounding[:, 40].tolist() == [1, 1, 0, 0, 0, 0]
    assert onsets[:, 39] == pytest.approx([0, 1 - 1.25 / 1.5, 1 - 0.25 / 1.5, 0.5, 0, 0])
    assert onsets[:, 40] == pytest.approx([1, 1 / 3, 0, 0, 0, 0])


# -- notes -------------------------------------------------------------------------------------------------------------


def test_frames_to_notes_swallow_a_restrike_that_onsets_tell():
    sounding = np.zeros((8, 88), bool)
    sounding[1:6, 39] = True
    assert rows(transcription.frames_to_notes(sounding)) == [(1, 6, 60)]
    onsets = np.zeros((8, 88), bool)
    onsets[[1, 4], 39] = True
    assert rows(transcription.frames_to_notes(sounding, onsets)) == [(1, 4, 60), (4, 6, 60)]


def test_a_note_that_sounds_to_the_end_ends_there():
    sounding = np.zeros((4, 88), bool)
    sounding[2:, 0] = True
    assert rows(transcription.frames_to_notes(sounding)) == [(2, 4, 21)]


note_lists = st.lists(
    st.tuples(st.floats(0.02, 8), st.floats(0.13, 1.5), st.integers(21, 108)), min_size=1, max_size=30
).map(lambda found: notes(*[(a, a + d, p) for a, d, p in found]))


def apart(found):
    """Without notes of a pitch that begin within 130 ms of another's onset, earlier ones cut by later."""
    kept = []
    for row in found[np.lexsort((found[:, 2], found[:, 0]))]:
        before = [r for r in kept if r[2] == row[2]]
        if before and row[0] - before[-1][0] < 0.13:
            continue
        if before:
            before[-1][1] = min(before[-1][1], row[0])
        kept.append(row.copy())
    return np.array(kept)


@settings(deadline=None, max_examples=60)
@given(note_lists)
def test_perfect_targets_give_the_notes_back(found):
    found = apart(found)
    back = transcription.onsets_to_notes(*transcription.targets(found, 400), Thresholds(0.5, 0.5))
    assert len(back) == len(found)
    order = np.lexsort((found[:, 2], found[:, 0]))
    matched = metrics.matched_notes(found[order], back)
    assert matched == len(found)
    for row in found:
        nearest = np.abs(back[back[:, 2] == row[2], 0] - row[0]).min()
        assert nearest < 0.003  # a tenth of a frame; in the first one, which has one neighbour, it can be half of it


def test_an_onset_needs_a_peak_above_its_threshold_and_ends_the_note_before():
    sounding, onsets = np.zeros((2, 10, 88))
    sounding[1:9, 0] = 0.9
    onsets[1, 0], onsets[5, 0], onsets[7, 0] = 0.8, 0.6, 0.3
    found = transcription.onsets_to_notes(sounding, onsets, Thresholds(0.5, 0.5))
    assert rows(found) == [(1, 5, 21), (5, 9, 21)]


# -- metrics -----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(note_lists, note_lists, st.booleans(), st.randoms(use_true_random=False))
def test_matched_notes_are_those_of_mir_eval(reference, other, offsets, random):
    shaken = [[a + random.uniform(-0.07, 0.07) + 0.1, 0, p, v] for a, _, p, v in reference]
    for row, (a, b, _, _) in zip(shaken, reference, strict=True):
        row[1] = row[0] + max((b - a) * random.uniform(0.7, 1.3), 0.01)
    estimate = np.concatenate([np.array(shaken), other])
    hertz = [440 * 2 ** ((n[:, 2] - 69) / 12) for n in (reference, estimate)]
    expected = mir_eval.transcription.match_notes(
        reference[:, :2], hertz[0], estimate[:, :2], hertz[1], offset_ratio=0.2 if offsets else None
    )
    assert metrics.matched_notes(reference, estimate, offsets) == len(expected)


def test_precision_recall_f1_by_hand():
    assert metrics.precision_recall_f1(2, 4, 3) == pytest.approx((2 / 3, 0.5, 4 / 7))
    assert metrics.precision_recall_f1(0, 0, 0) == (0, 0, 0)
    assert metrics.precision_recall_f1(0, 5, 0) == (0, 0, 0)


def test_average_precision_against_scikit_learn():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    labels = rng.uniform(size=(300, 88)) < 0.1
    scores = np.clip(0.3 * labels + rng.uniform(size=labels.shape) * 0.7, 0, 1)
    expected = average_precision_score(labels.ravel(), np.round(scores.ravel(), 3))
    assert metrics.average_precision(labels, scores) == pytest.approx(expected, abs=1e-9)
    assert metrics.average_precision(np.zeros((2, 2)), scores[:2, :2]) == 0


# -- a network over a recording ----------------------------------------------------------------------------------------


def test_blocks_cover_every_frame_once():
    for frames in (1, transcription.BLOCK, transcription.BLOCK + 1, 5000):
        kept = np.concatenate([np.arange(frames)[read][keep] for read, keep in transcription.blocks(frames)])
        assert (kept == np.arange(frames)).all()


class Local(nn.Module):
    """A model whose answer needs a second of context."""

    def __init__(self):
        super().__init__()
        self.blur = nn.Conv1d(1, 1, 63, padding=31, bias=False)

    def forward(self, values):
        x = self.blur(values.mean(2)[:, None])[:, 0, :, None, None]
        return x.expand(*x.shape[:2], 1, 88)


def test_blocks_make_no_difference_to_a_model_whose_context_they_hold():
    values = np.random.default_rng(1).uniform(-9, 2, (4000, 176)).astype(np.float32)
    model = Local().eval()
    both = transcription.probabilities(model, values)
    with torch.inference_mode():
        whole = torch.sigmoid(model(torch.from_numpy(transcription.fixed_range(values))[None]))[0, :, 0].numpy()
    assert np.allclose(both[0], whole, atol=1e-6) and (both[0] == both[1]).all()


def test_a_spectrogram_of_another_kind_is_refused():
    with pytest.raises(DuetError, match="176 bins"):
        transcription.probabilities(Local(), np.zeros((10, 88), np.float32))
