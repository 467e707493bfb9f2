"""The fourth study: its data, chunks, evaluators and claims by themselves, then its machinery on a toy of beeps."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pretty_midi
import pytest
import soundfile
import torch

from duet import DuetError, cli, paths, published, runs, transcription, verdicts
from duet.corpora import guitarset, maps, synthesized
from duet.corpora.recordings import Split
from duet.models.unet import Transcriber
from duet.studies import synthetic_pretraining as study
from duet.studies.synthetic_pretraining import experiment, grid, report, transcriber
from duet.training import Training, load_into, save_weights
from duet.transcription import FRAME, Thresholds

torch.set_num_threads(1)  # as every run has; several would only wait for each other on a busy machine
RATE = 16_000


# -- a toy of beeps ----------------------------------------------------------------------------------------------------


def beeps(seed, seconds=6.0, late=0.0):
    """(samples,), and the notes of a random melody of decaying tones; the sound is ``late`` by so many seconds."""
    rng = np.random.default_rng(seed)
    onsets = np.arange(0.3, seconds - 0.6, 0.25) + rng.uniform(-0.03, 0.03, len(np.arange(0.3, seconds - 0.6, 0.25)))
    pitches = rng.integers(55, 75, len(onsets))
    audio = 1e-4 * rng.standard_normal(round(seconds * RATE))
    for onset, pitch in zip(onsets, pitches, strict=True):
        time = np.arange(round(0.3 * RATE)) / RATE
        frequency = 440 * 2 ** ((pitch - 69) / 12)
        tone = sum(np.sin(2 * np.pi * h * frequency * time) / h for h in (1, 2, 3)) * np.exp(-8 * time)
        first = round((onset + late) * RATE)
        audio[first : first + len(tone)] += 0.2 * tone[: len(audio) - first]
    notes = np.column_stack([onsets, onsets + 0.2, pitches, np.full(len(onsets), 80.0)])
    return audio.astype(np.float32), notes


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Trees of the three layouts: a folder that holds MAPS and GuitarSet, and a synthetic set."""
    root = tmp_path_factory.mktemp("toy")
    for number, code in enumerate(("AkPnBcht", "AkPnBsdf", "SptkBGAm", "ENSTDkAm", "ENSTDkAm")):
        audio, notes = beeps(number, late=0.03 if code == "ENSTDkAm" else 0.0)
        maps.write_recording(root / "MAPS", code, f"piece{number}", audio, RATE, notes)
    for number, player in enumerate(("00", "01", "04", "05", "05")):
        audio, notes = beeps(10 + number)
        strings = [notes[notes[:, 2] % 6 == string][:, :3] for string in range(6)]
        stem = f"{player}_BN{1 + number % 3}-120-C_comp"
        guitarset.write_excerpt(root / "GuitarSet", stem, strings, {"mic": audio, "mix": audio}, RATE)
    for number, part in enumerate(("train", "train", "val", "test")):
        audio, notes = beeps(20 + number)
        synthesized.write(root / "SI", "piano", part, f"clip{number}", audio, RATE, notes)
    return root


TRAINING = Training(4, 2, 2, learning_rate=3e-3, schedule="one_cycle", clip=3.0)
PRESET = replace(
    grid.PRESETS["smoke"], sizes=grid.Sizes("registry", (4, 6.0), (4, 6.0), (6, 6.0)), source=TRAINING, target=TRAINING,
    network="toy", chunk=100,
)  # fmt: skip


@pytest.fixture
def small(toy, tmp_path, monkeypatch):
    """The study on the toy, everything it writes in a folder of the test."""
    monkeypatch.setenv("DUET_CACHE", str(toy.parent / "cache"))  # features are made once
    monkeypatch.setenv("DUET_RESULTS", str(tmp_path / "results"))
    monkeypatch.setitem(experiment.NETWORKS, "toy", partial(Transcriber, 2, 8, onsets=True))
    monkeypatch.setitem(grid.PRESETS, "smoke", PRESET)
    monkeypatch.setattr(
        experiment,
        "open_set",
        lambda preset, kind: SimpleNamespace(build=lambda progress: synthesized.Synthesized(toy / "SI")),
    )
    return runs.Grid(study.KEY, "smoke", str(toy))


# -- the data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [0.0, 0.03, 0.06, -0.02])
def test_label_lag_is_what_the_sound_is_late_by(late):
    audio, notes = beeps(5, 20.0, late)
    assert experiment.label_lag(audio, notes) == pytest.approx(late, abs=0.006)


def test_label_lag_of_nothing_to_measure_is_none():
    assert experiment.label_lag(np.zeros(RATE, np.float32) + 1e-3, np.array([[5.0, 6, 60, 90]])) == 0


def test_real_roots_come_from_the_folder_or_the_environment(toy, monkeypatch, tmp_path):
    monkeypatch.delenv("DUET_MAPS", raising=False)
    assert paths.real("MAPS") is None
    assert paths.real("MAPS", str(toy)) == toy / "MAPS" and paths.real("MAPS", str(tmp_path)) is None
    monkeypatch.setenv("DUET_MAPS", str(toy / "MAPS"))
    assert paths.real("MAPS") == toy / "MAPS"
    monkeypatch.setenv("DUET_MAPS", str(tmp_path / "gone"))
    with pytest.raises(DuetError, match="DUET_MAPS names no folder"):
        paths.real("MAPS")


def test_paper_preset_without_the_data_says_what_is_missing(monkeypatch):
    for name in ("DUET_MAPS", "DUET_GUITARSET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DuetError, match=r"MAPS and GuitarSet cannot be found.*DUET_MAPS"):
        study.prepare("paper")


def scale(start, steps, tempo=0.4):
    onsets = tempo * np.arange(len(steps) + 1)
    pitches = start + np.concatenate([[0], np.cumsum(steps)])
    return np.column_stack([onsets, onsets + tempo, pitches, np.full(len(onsets), 90.0)])


def test_clips_that_play_a_test_piece_in_another_key_and_tempo_are_taken_out():
    rng = np.random.default_rng(0)
    tested, other = rng.integers(-5, 6, 60), rng.integers(-5, 6, 60)
    pieces = {
        "same": scale(50, tested, 0.3),
        "other": scale(60, other),
        "half": scale(60, np.r_[other[:40], tested[:20]]),
    }
    bass = scale(30, np.zeros(60, int), 0.3)
    pieces["same"] = np.concatenate([pieces["same"], bass])  # what lies below does not matter
    pieces["same"] = pieces["same"][np.argsort(pieces["same"][:, 0], kind="stable")]
    corpus = SimpleNamespace(notes=pieces.get)
    split, lines = experiment.without_pieces(corpus, Split(["same", "other"], ["half"], []), [scale(60, tested)])
    assert split == Split(["other"], [], [])
    assert len(lines) == 2 and lines[0].startswith("same plays what a test recording plays")


# -- chunks ------------------------------------------------------------------------------------------------------------


def test_altered_chunks_move_sound_and_labels_alike():
    values = np.full((50, 176), np.log(transcription.FLOOR), np.float32)
    target = np.zeros((2, 50, 88), np.float32)
    for key in (30, 50, 80):
        values[:, 2 * key], target[:, :, key] = 2.0, 1
    shifts = set()
    for seed in range(12):
        moved, labels = experiment.altered(values, target, np.random.default_rng(seed))
        keys = np.flatnonzero(labels[0, 0])
        assert sorted(np.argsort(moved.mean(0))[-3:] // 2) == keys.tolist()
        assert moved.dtype == np.float32 and (labels[0] == labels[1]).all()
        shifts.add(int(keys[0]) - 30)
    assert shifts <= set(grid.SHIFTS) and len(shifts) > 3


def test_what_is_shifted_over_an_edge_is_silent_and_unlabelled():
    values, target = np.full((5, 176), 1.0, np.float32), np.ones((2, 5, 88), np.float32)
    for seed in range(30):
        moved, labels = experiment.altered(values, target, np.random.default_rng(seed))
        lost = 88 - int(labels[0, 0].sum())
        assert lost <= 3
        edges = np.flatnonzero(labels[0, 0] == 0)
        assert (moved[:, 2 * edges] < 0.5).all() if lost else True


def test_a_chunk_longer_than_its_recording_ends_in_silence(small):
    domain = small.data().domains["si"]
    stem = domain.split.training[0]
    frames = len(domain.values(stem))
    config = grid.Config("train", "si", TRAINING, chunk=frames + 40)
    values, target = experiment.chunk(domain, stem, 0, config, None)
    assert values.shape == (frames + 40, 176) and target.shape == (frames + 40, 2, 88)
    assert not values[frames:].any() and not target[frames:].any() and values.min() >= 0 and values.max() <= 1
    expected = transcription.targets(domain.notes(stem), frames)
    assert np.allclose(target[:frames].transpose(0, 1).numpy(), expected, atol=1 / 500)


def test_batches_repeat_and_take_domains_by_their_share(small):
    data = small.data()
    shares = [(data.domains["maps"], 0.75), (data.domains["si"], 0.25)]
    parts = [domain.split.training for domain, _ in shares]
    config = grid.Config("train", "maps", replace(TRAINING, batch=4), chunk=50, augmented=False)
    first, again = (list(experiment.batches(shares, parts, config, 3, 30)) for _ in range(2))
    assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(first, again, strict=True))
    names = []
    for domain, _ in shares:
        domain.values = lambda stem, key=domain.key, read=domain.values: names.append(key) or read(stem)
    list(experiment.batches(shares, parts, config, 0, 100))
    drawn = names[sum(len(p) for p in parts) :]
    assert 0.15 < drawn.count("si") / len(drawn) < 0.35


def test_minutes_are_as_many_recordings_as_make_them(small):
    domain = small.data().domains["maps"]
    assert experiment.some_minutes(domain, domain.split.training, 0, 0) == domain.split.training
    assert len(experiment.some_minutes(domain, domain.split.training, 0.05, 0)) == 1


# -- evaluation --------------------------------------------------------------------------------------------------------


def test_evaluators_by_hand():
    """One note held, one struck twice; the answer has the held one and a single long one."""
    notes = np.array([[0.0, 0.64, 60, 90], [0.32, 0.64, 72, 90], [0.64, 0.96, 72, 90]])
    domain = SimpleNamespace(notes=lambda stem: notes, lags={"x": 0.06})
    sounding = np.zeros((40, 88), np.float32)
    sounding[:20, 60 - 21] = sounding[10:30, 72 - 21] = 0.9
    onsets = np.zeros_like(sounding)
    onsets[0, 60 - 21] = onsets[10, 72 - 21] = 0.9
    row = experiment.evaluate((sounding, onsets), domain, "x", Thresholds(0.5, 0.5), 2)
    assert row["standard"]["note"] == [2, 3, 2] and row["standard"]["offset"] == [1, 3, 2]
    assert row["parity"]["note"] == [2, 3, 2]
    assert row["standard"]["frame"] == [40, 40, 40] and row["ap"] == 1
    assert row["corrected"]["note"] == [0, 3, 2]  # the sound is said to be 60 ms late, and the answer is not


def test_the_thresholded_transform_says_how_loud_a_key_is():
    values = torch.full((1, 4, 176), 0.2)
    values[0, 2, 2 * 40] = 0.8
    model = experiment.ThresholdedTransform()
    found = torch.sigmoid(model(values))
    assert found.shape == (1, 4, 1, 88) and found[0, 2, 0, 40] == pytest.approx(0.8)
    assert (found > 0.5).sum() == 1


# -- the machinery -----------------------------------------------------------------------------------------------------


def test_the_grid_is_the_papers_seven_models_and_their_controls():
    names = [run.name for run in study.runs("overnight", core_only=True)]
    for arm in published.TRANSCRIPTION_TABLES["note"]:
        assert {f"{arm}-s{seed}" for seed in (0, 1, 2)} <= set(names)
    made = set()
    for run in study.runs("overnight"):
        assert set(run.parents) <= made  # what others start from comes first
        made.add(run.name)
    updates = {run.config.training.updates for run in study.runs("overnight") if run.name in
               {f"{arm}-s0" for arm in published.TRANSCRIPTION_TABLES["note"]}}  # fmt: skip
    assert len(updates) == 1  # equal budgets
    twice = next(run for run in study.runs("overnight") if run.name == "maps-twice-s0")
    assert twice.config.training.updates == 2 * updates.pop()


def test_a_run_and_its_child_are_made_and_read(small):
    for run in study.runs("smoke"):
        if run.name in ("threshold", "untrained-s0", "si-s0", "si-to-maps-s0"):
            small.make(run.name)
    record = small.find("si-to-maps-s0")["result"]
    assert len(record["validation"]) == 2 and 0 <= record["start"] <= 1
    assert len(record["test"]["maps"]["ap"]) == 2 and len(record["test"]["guitar"]["ap"]) == 2
    network = experiment.NETWORKS["toy"]()
    load_into(network, small.weights("si-s0"))
    config = small.run("si-to-maps-s0").config
    before = experiment.validate(network.eval(), small.data().domains["maps"], config)[0]
    assert record["start"] == pytest.approx(1 - before, abs=0.02)  # the parent's weights, before the first update
    found = study.Results(small)
    assert found.estimate("si-to-maps", "maps").n == 2
    assert found.estimate("maps", "maps") is None and found.difference("si-to-maps", "maps", "maps") is None
    frame = study.table(found, "note")
    row = frame[(frame["trained on"] == "SI -> MAPS") & (frame["tested on"] == "MAPS") & (frame["measure"] == "F1")]
    assert row["paper"].item() == 0.669 and row["seeds"].item() == 1 and 0 <= row["ours"].item() <= 1
    assert frame[frame["trained on"] == "MAPS"]["ours"].isna().all()
    judged = verdicts.table(study.KEY, study.CLAIMS, found)
    assert len(judged) == len(study.CLAIMS) and (judged["verdict"] == "not run").any()
    numbers = study.write_metrics(found, judged, small.folder / "metrics.json")
    assert numbers["runs"]["made"] == 4
    assert not study.ship(small) or study.ship(small).exists()


def test_the_same_run_gives_the_same_result(small, tmp_path, monkeypatch):
    first = small.make("si-s0")["result"]
    monkeypatch.setenv("DUET_RESULTS", str(tmp_path / "again"))
    again = runs.Grid(study.KEY, "smoke", small.data().domains["maps"].corpus.root.parent.as_posix())
    assert again.make("si-s0")["result"] == first


def test_damaged_recordings_are_left_out_and_listed(small, toy, tmp_path):
    import shutil

    root = tmp_path / "damaged"
    shutil.copytree(toy, root)
    victim = next((root / "MAPS").rglob("*piece4*.flac"))
    victim.write_bytes(victim.read_bytes()[:2000])
    data = study.prepare("smoke", str(root))
    assert victim.stem not in data.domains["maps"].split.test and len(data.domains["maps"].split.test) == 1
    assert len(data.skipped) == 1 and victim.name in data.skipped[0]


def test_settings_and_data_tables_name_the_corpora(small):
    data = small.data()
    shown = study.settings_table(data, "smoke").set_index("setting")["ours"]
    assert shown["piano"] == data.domains["maps"].corpus.name
    counted = study.data_table(data)
    assert counted[(counted["domain"] == "maps") & (counted["part"] == "test")]["recordings"].item() == 2


# -- claims ------------------------------------------------------------------------------------------------------------


def curve(*values):
    return {"config": {"training": {"updates": 40, "epochs": 4, "batch": 2}},
            "result": {"start": 1 - values[0], "validation": [1 - v for v in values[1:]]}}  # fmt: skip


def results_of(**records):
    found = object.__new__(report.Results)
    found.records = {
        f"{name.replace('_', '-')}-s{seed}": r for name, rs in records.items() for seed, r in enumerate(rs)
    }
    found.grid = SimpleNamespace(runs=found.records)
    return found


def test_time_to_reach_is_read_between_epochs():
    slow, quick = curve(0.0, 0.2, 0.4, 0.6, 0.8), curve(0.36, 0.72, 0.8, 0.8, 0.8)
    found = results_of(maps=[slow, slow], si_to_maps=[quick, quick])
    ratio = found.reach("si-to-maps", "maps")  # the level is .72: after 10 updates instead of 36
    assert ratio.value == pytest.approx(np.log(10 / 36)) and ratio.n == 2
    assert ratio.low == ratio.high == pytest.approx(ratio.value)
    assert verdicts.verdict(found.reach("maps", "si-to-maps")) == "contradicted"


def test_one_seed_decides_nothing_about_times_and_missing_ones_wait():
    found = results_of(maps=[curve(0, 0.4, 0.8, 0.8, 0.8)], si_to_maps=[curve(0.8, 0.8, 0.8, 0.8, 0.8)])
    assert verdicts.verdict(found.reach("si-to-maps", "maps")) == "undecided"
    found.grid.runs = {**found.records, "maps-s1": None}
    assert found.reach("si-to-maps", "maps") is None


@pytest.mark.parametrize(("changed", "expected"), [
    ({}, True), ({("maps", "threshold"): 0.0}, False), ({("guitar", "untrained"): -0.1}, False),
    ({("guitar", "threshold"): None}, False),
])  # fmt: skip
def test_it_has_learned_where_its_gains_lie_above_zero(changed, expected):
    """Over a thresholded transform and random weights, on both test sets; a run that is missing decides nothing."""
    lows = {(test, floor): 0.05 for test in ("maps", "guitar") for floor in ("threshold", "untrained")} | changed
    found = results_of()
    found.difference = lambda arm, floor, test: (
        None if lows[test, floor] is None else verdicts.Estimate(0.1, lows[test, floor], 0.2, 8)
    )
    assert found.learned() is expected


def test_every_published_cell_has_three_measures():
    for metric in published.TRANSCRIPTION_TABLES.values():
        assert list(metric) == list(report.MODELS)
        for tests in metric.values():
            assert list(tests) == ["maps", "guitar"] and all(len(cells) == 3 for cells in tests.values())


# -- people's own recordings -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    network = Transcriber(4, 64, onsets=True)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    about = {"study": study.KEY, "network": "tiny", "thresholds": "0.3 0.2", "normalisation": "fixed"}
    save_weights(network.half(), path, about)
    return path


@pytest.mark.parametrize(("rate", "channels", "suffix"), [
    (8_000, 1, ".wav"), (44_100, 2, ".flac"), (96_000, 6, ".wav"), (16_000, 1, ".ogg"),
])  # fmt: skip
def test_any_rate_and_number_of_channels_is_heard(model, tmp_path, rate, channels, suffix):
    audio, _ = beeps(1, 3.0)
    path = tmp_path / f"a{suffix}"
    resampled = np.interp(np.arange(0, 3, 1 / rate), np.arange(len(audio)) / RATE, audio)
    soundfile.write(path, np.repeat(resampled[:, None], channels, 1), rate)
    heard = study.transcribe(path, study.Model.load(model))
    assert heard.seconds == pytest.approx(3.0, abs=0.01)


def test_streamed_blocks_hear_what_the_whole_recording_tells(model, tmp_path, monkeypatch):
    audio, _ = beeps(2, 40.0)
    soundfile.write(tmp_path / "a.wav", audio, RATE, subtype="FLOAT")
    loaded = study.Model.load(model)
    # an LSTM remembers: what a network with a second of context hears must not depend on the blocks
    loaded.network = Context().eval()
    monkeypatch.setattr(transcription, "BLOCK", 250)
    parts = []
    original = transcription.probabilities
    monkeypatch.setattr(transcription, "probabilities", lambda *a: parts.append(original(*a)) or parts[-1])
    kept = [keep for _, keep in transcriber._blocks(tmp_path / "a.wav", len(audio))]
    study.transcribe(tmp_path / "a.wav", loaded)
    streamed = np.concatenate([both[0][keep] for both, keep in zip(parts, kept, strict=True)])
    monkeypatch.setattr(transcription, "BLOCK", 10_000)
    whole = original(loaded.network, transcription.spectrogram(transcription.level(audio)))[0]
    assert len(kept) == 5 and streamed.shape == whole.shape
    assert np.abs(streamed - whole).max() < 0.02


class Context(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = [None, None]
        self.blur = torch.nn.AvgPool1d(31, 1, 15, count_include_pad=False)
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, values):
        keys = self.blur(values[..., ::2].transpose(1, 2)).transpose(1, 2)
        return torch.stack([8 * keys - 4] * 2, 2)


def test_midi_opens_with_the_notes(tmp_path):
    notes = np.array([[0.5, 1.0, 60, 70], [1.0, 1.001, 64, 90]])
    study.write_midi(notes, tmp_path / "a.mid")
    read = pretty_midi.PrettyMIDI(str(tmp_path / "a.mid")).instruments[0].notes
    assert [(n.pitch, n.velocity) for n in read] == [(60, 70), (64, 90)]
    assert [n.start for n in read] == pytest.approx([0.5, 1.0], abs=1e-3)
    assert read[1].end - read[1].start >= 0.9 * FRAME


def damage(path, kind):
    audio = np.full(RATE, 0.1, np.float32) * np.sin(np.arange(RATE))
    if kind == "missing":
        return "no such audio file"
    if kind == "empty":
        path.write_bytes(b"")
        return "not readable audio"
    if kind == "NaN":
        audio[500] = np.nan
    if kind == "silent":
        audio[:] = 0
    if kind == "short":
        audio = audio[:500]
    soundfile.write(path, audio, RATE, subtype="FLOAT")
    return {"NaN": "samples that are no numbers", "silent": "is silent", "short": "too short"}[kind]


@pytest.mark.parametrize("kind", ["missing", "empty", "NaN", "silent", "short"])
def test_damaged_recordings_end_in_one_line(model, tmp_path, kind, capsys):
    path = tmp_path / "song.wav"
    said = damage(path, kind)
    assert cli.main(["transcribe", str(path), "--weights", str(model), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error and "song.wav" in error
    assert not (tmp_path / "song.mid").exists()


def test_a_midi_file_that_is_there_is_not_replaced_unasked(model, tmp_path, capsys):
    audio, _ = beeps(1, 2.0)
    soundfile.write(tmp_path / "song.wav", audio, RATE)
    (tmp_path / "song.mid").write_bytes(b"mine")
    assert cli.main(["transcribe", str(tmp_path / "song.wav"), "--weights", str(model), "--quiet"]) == 2
    assert "is there already" in capsys.readouterr().err and (tmp_path / "song.mid").read_bytes() == b"mine"


def test_weights_of_something_else_are_refused(tmp_path):
    save_weights(torch.nn.Linear(2, 2), tmp_path / "w.safetensors", {"study": "ctc_chroma"})
    with pytest.raises(DuetError, match="no weights of a transcriber"):
        study.Model.load(tmp_path / "w.safetensors")
