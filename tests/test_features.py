"""What the networks read, against librosa and against arrays made by hand; the cache; damaged files."""

import dataclasses
import os
import signal
import subprocess
import sys
import zlib

import librosa
import numpy as np
import pytest
import soundfile
from PIL import Image

from duet import DuetError, features, files, paths, semantic
from duet.corpora.primus import Primus
from duet.features import SAMPLE_RATE, Picture

RNG = np.random.default_rng(0)


def tone(frequency, seconds=1.5, rate=SAMPLE_RATE):
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


# -- the constant-Q transform ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [120, 168])
def test_constant_q_is_librosas(bins):
    """The published recipe in librosa's own words: dB below the maximum, floored at -80, highest bin first."""
    audio = tone(440) + 0.3 * tone(660) + 0.01 * RNG.standard_normal(33075).astype(np.float32)
    plain = librosa.cqt(audio, sr=22050, hop_length=512, fmin=librosa.note_to_hz("C1"), n_bins=bins, bins_per_octave=24)
    power = np.abs(plain) ** 2
    expected = np.maximum(10 * np.log10(power / power.max()), -80) / 80 + 1
    ours = features.constant_q(audio, bins)
    assert ours.dtype == np.float32 and ours.shape == (bins, 1 + len(audio) // 512)
    assert ours == pytest.approx(np.flipud(expected), abs=1e-4)
    assert ours.min() >= 0 and ours.max() == 1


@pytest.mark.parametrize("pitch", [36, 48, 60, 69, 81])
@pytest.mark.parametrize("bins", [120, 168])
def test_a_sine_lights_the_row_of_its_pitch(pitch, bins):
    """C1 (MIDI 24) is the last row, two rows a semitone."""
    rows = features.constant_q(tone(librosa.midi_to_hz(pitch)), bins).mean(1)
    assert rows.argmax() == bins - 1 - 2 * (pitch - 24)


def test_the_published_bins_end_below_c6():
    frequencies = librosa.cqt_frequencies(120, fmin=librosa.note_to_hz("C1"), bins_per_octave=24)
    assert frequencies[-1] == pytest.approx(1017, abs=0.5)
    assert librosa.cqt_frequencies(169, fmin=librosa.note_to_hz("C1"), bins_per_octave=24)[-1] == pytest.approx(4186, 1)


def test_80_decibels_span_the_picture():
    """A quiet second half is drawn as far below the first as it is: 40 dB are half the range."""
    audio = np.concatenate([tone(440, 1), 0.01 * tone(440, 1)])
    row = features.constant_q(audio)[119 - 2 * (69 - 24)]
    assert row[15] - row[70] == pytest.approx(0.5, abs=0.01)


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def transform(monkeypatch):
    """A made-up transform in place of the constant-Q: 120 rows whose values tell their place."""
    array = (np.arange(120)[:, None] * 10 + np.arange(10)[None] % 7).astype(np.float32) / 1300
    monkeypatch.setattr(features, "constant_q", lambda audio, bins: array[:bins])
    return array


def test_64_rows_average_pairs_of_bins_and_of_frames(transform):
    picture = features.audio_picture(None, 64)
    assert picture.shape == (64, 8) and picture.dtype == np.uint8
    assert not picture[:2].any() and not picture[62:].any()  # 60 semitones, blank above and below
    assert not picture[:, 5:].any()  # five pairs of frames, filled up to eight columns
    for row, column in ((0, 0), (17, 3), (59, 4)):
        block = transform[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert picture[2 + row, column] == round(255 * float(block.mean()))


def test_128_rows_keep_every_bin_and_frame(transform):
    picture = features.audio_picture(None, 128)
    assert picture.shape == (128, 10)
    assert not picture[:4].any() and not picture[124:].any()
    assert np.array_equal(picture[4:124], np.round(255 * transform).astype(np.uint8))


def test_256_rows_are_the_published_resizing(transform):
    picture = features.audio_picture(None, 256)
    assert picture.shape == (256, int(256 * 10 / 120))
    # area interpolation by 256/120 in both directions, by hand: each output pixel is the mean under it
    rows, columns = ((np.arange(n + 1) * size / n) for n, size in ((256, 120), (21, 10)))
    for r, c in ((0, 0), (100, 7), (255, 20)):
        centre = transform[int((rows[r] + rows[r + 1]) / 2), int((columns[c] + columns[c + 1]) / 2)]
        assert abs(int(picture[r, c]) - 255 * float(centre)) < 3


def test_frames_that_do_not_fill_a_group_are_left_out(monkeypatch):
    monkeypatch.setattr(features, "constant_q", lambda audio, bins: np.full((bins, 21), 0.5, np.float32))
    assert features.audio_picture(None, 64).shape == (64, 10)
    assert features.audio_picture(None, 64, 168).shape == (64, 8)  # three bins a row, seven groups, filled up
    assert features.audio_picture(None, 128, 168).shape == (128, 10)


def test_images_are_averaged_by_area_and_inverted():
    image = RNG.integers(0, 256, (128, 200)).astype(np.uint8)
    picture = features.image_picture(image, 64)
    assert picture.shape == (64, 100) and picture.dtype == np.uint8
    means = image.reshape(64, 2, 100, 2).mean((1, 3))
    assert np.abs(255 - means - picture).max() <= 1
    assert np.array_equal(features.image_picture(image, 128), 255 - image)
    assert features.image_picture(np.full((155, 1041), 255, np.uint8), 256).shape == (256, 1719)  # the fact sheet's
    assert not features.image_picture(np.full((155, 1041), 255, np.uint8), 64).any()  # paper is 0


# -- the cache ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def corpus(workspace):
    """Twenty incipits with pictures of different widths; the audio is noise."""
    root = workspace / "corpus"
    for i in range(20):
        folder = root / f"{i:03}-1_1_1"
        folder.mkdir(parents=True)
        image = RNG.integers(0, 256, (128, 60 + 7 * i)).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{folder.name}.png")
        Image.fromarray(255 - image).save(folder / f"{folder.name}_distorted.jpg")
        audio = 0.1 * RNG.standard_normal(34_000 + 500 * i)
        soundfile.write(folder / f"{folder.name}.wav", audio, SAMPLE_RATE)
        (folder / f"{folder.name}.semantic").write_text(semantic.write_tokens(["clef-G2", "note-C4_whole"]))
    return Primus(root)


@pytest.mark.parametrize("kind", [Picture("image"), Picture("image", 128, distorted=False), Picture("audio")])
def test_what_is_cached_is_what_was_made(corpus, kind):
    made = features.pictures(corpus, kind, corpus.ids, workers=2)
    again = features.pictures(corpus, kind, corpus.ids)
    for identity in corpus.ids:
        expected = features.picture(corpus, kind, identity)
        assert np.array_equal(made[identity], expected) and np.array_equal(again[identity], expected)
        assert made.width(identity) == expected.shape[1]
        assert identity in made
    assert "other" not in made


def test_the_cache_is_read_and_not_made_again(corpus, monkeypatch):
    features.pictures(corpus, Picture("image"), corpus.ids, workers=1)
    monkeypatch.setattr(features, "picture", None)
    features.pictures(corpus, Picture("image"), corpus.ids, workers=1)


def folders():
    return {p.name for p in (paths.cache() / "pictures").iterdir()}


def test_every_setting_has_a_cache_of_its_own(corpus, monkeypatch):
    base, ids = Picture("image"), corpus.ids[:3]
    requests = [(base, ids), (base, ids[::-1]), (base, ids[:2]), (dataclasses.replace(base, height=32), ids),
                (dataclasses.replace(base, distorted=False), ids), (Picture("audio"), ids),
                (Picture("audio", bins=168), ids), (dataclasses.replace(base, bins=168), ids)]  # fmt: skip
    for number, (kind, wanted) in enumerate(requests, 1):
        features.pictures(corpus, kind, wanted, workers=1)
        assert len(folders()) == number
    monkeypatch.setattr(features, "_VERSION", features._VERSION + 1)
    features.pictures(corpus, base, ids, workers=1)
    assert len(folders()) == len(requests) + 1
    (corpus.root / ids[0] / f"{ids[0]}.semantic").write_text("clef-F4 note-C3_whole")
    features.pictures(Primus(corpus.root), base, ids, workers=1)  # another corpus
    assert len(folders()) == len(requests) + 2


KILLED = """
import os, signal, sys
from duet import features, files
from duet.corpora.primus import Primus
corpus = Primus(sys.argv[1])
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "index":
    files.write_json = die
else:
    features.np.save = lambda path, array: (open(path, "wb").write(b"half"), die())
features.pictures(corpus, features.Picture("image"), corpus.ids, workers=1)
"""


@pytest.mark.parametrize("moment", ["columns", "index"])
def test_a_kill_leaves_no_index(corpus, moment):
    done = subprocess.run([sys.executable, "-c", KILLED, str(corpus.root), moment], env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    assert not list((paths.cache() / "pictures").glob("*/index.json"))
    made = features.pictures(corpus, Picture("image"), corpus.ids)
    assert np.array_equal(made[corpus.ids[7]], features.picture(corpus, Picture("image"), corpus.ids[7]))


def test_a_damaged_index_is_one_line(corpus):
    features.pictures(corpus, Picture("image"), corpus.ids, workers=1)
    (index,) = (paths.cache() / "pictures").glob("*/index.json")
    index.write_text('{"ids": [')
    with pytest.raises(DuetError, match="index.json"):
        features.pictures(corpus, Picture("image"), corpus.ids)


@pytest.mark.parametrize("damage", ["columns", "gone"])
def test_damaged_cached_pictures_are_one_line(corpus, damage):
    features.pictures(corpus, Picture("image"), corpus.ids, workers=1)
    (columns,) = (paths.cache() / "pictures").glob("*/columns.npy")
    columns.write_bytes(columns.read_bytes()[:500]) if damage == "columns" else columns.unlink()
    with pytest.raises(DuetError, match="columns.npy"):
        features.pictures(corpus, Picture("image"), corpus.ids)


def test_no_ids(corpus):
    with pytest.raises(DuetError, match="no ids"):
        features.pictures(corpus, Picture("image"), [])


@pytest.mark.parametrize("workers", [1, 2])
def test_one_bad_file_is_named_and_leaves_no_cache(corpus, workers):
    bad = corpus.image_path(corpus.ids[11])
    bad.write_bytes(bad.read_bytes()[:300])
    with pytest.raises(DuetError, match=bad.name) as caught:
        features.pictures(corpus, Picture("image"), corpus.ids, workers=workers)
    assert caught.value.path == bad and caught.value.remedy
    assert not list((paths.cache() / "pictures").glob("*/index.json"))


# -- reading files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_audio_of_any_rate_is_mono_at_22050(tmp_path, rate, channels, suffix):
    audio = tone(440, 0.5, rate)
    stereo = np.stack([audio * (1 + k) / channels for k in range(channels)], axis=1)
    soundfile.write(tmp_path / f"a{suffix}", stereo, rate)
    read = features.read_audio(tmp_path / f"a{suffix}")
    assert read.dtype == np.float32 and read.ndim == 1
    assert len(read) == pytest.approx(SAMPLE_RATE / 2, abs=2)
    spectrum = np.abs(np.fft.rfft(read * np.hanning(len(read))))
    assert spectrum.argmax() * SAMPLE_RATE / len(read) == pytest.approx(440, abs=3)
    assert np.abs(read[2000:-2000]).max() == pytest.approx(0.5 * (1 if channels == 1 else 0.75), abs=0.01)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("keep", [0.0, 0.0001, 0.001, 0.01, 0.5, 0.99])
def test_truncated_audio_is_one_line(tmp_path, suffix, keep):
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, 0.1 * RNG.standard_normal(SAMPLE_RATE), SAMPLE_RATE)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    refused(features.read_audio, path)


@pytest.mark.parametrize("audio", [np.zeros(SAMPLE_RATE), np.full(SAMPLE_RATE, np.nan), np.full(SAMPLE_RATE, np.inf),
                                   np.append(tone(440), np.nan), tone(440, 0.05), np.zeros(0)])  # fmt: skip
def test_clips_without_music_are_one_line(tmp_path, audio):
    path = tmp_path / "a.wav"
    soundfile.write(path, audio, SAMPLE_RATE, subtype="FLOAT")
    refused(features.read_audio, path)


def test_what_is_no_audio(tmp_path):
    (tmp_path / "a.wav").write_text("clef-G2")
    refused(features.read_audio, tmp_path / "a.wav")
    refused(features.read_audio, tmp_path / "missing.wav")
    refused(features.read_audio, tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.01, 0.3, 0.9])
def test_truncated_images_are_one_line(tmp_path, suffix, keep):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(RNG.integers(0, 256, (128, 300)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    refused(features.read_image, path)


def test_what_is_no_image(tmp_path):
    (tmp_path / "a.png").write_bytes(b"clef-G2" * 100)
    refused(features.read_image, tmp_path / "a.png")
    refused(features.read_image, tmp_path / "missing.png")
    refused(features.read_image, tmp_path)
    Image.fromarray(np.zeros((1, 300), np.uint8)).save(tmp_path / "line.png")
    refused(features.read_image, tmp_path / "line.png")
    for width, header in ((0, "zero"), (200_000, "huge")):  # sizes that no encoder writes
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / f"{header}.png")
        content = bytearray((tmp_path / f"{header}.png").read_bytes())
        content[16:24] = width.to_bytes(4, "big") * 2
        chunk = bytes(content[12:29])
        content[29:33] = zlib.crc32(chunk).to_bytes(4, "big")
        (tmp_path / f"{header}.png").write_bytes(content)
        refused(features.read_image, tmp_path / f"{header}.png")


def test_colour_images_are_read_as_grey(tmp_path):
    Image.new("RGB", (40, 30), (255, 255, 255)).save(tmp_path / "a.png")
    assert features.read_image(tmp_path / "a.png").shape == (30, 40)
    assert features.read_image(tmp_path / "a.png").min() == 255


def refused(read, path):
    with pytest.raises(DuetError) as caught:
        read(path)
    assert caught.value.path == path and caught.value.remedy
    assert "\n" not in str(caught.value)


def test_the_key_is_a_hash_of_all_parts(corpus):
    kind = Picture("image")
    key = files.digest(corpus.fingerprint, *corpus.ids, str(sorted(dataclasses.asdict(kind).items())), "1")[:16]
    features.pictures(corpus, kind, corpus.ids, workers=1)
    assert folders() == {f"image-64-{key}"}
