"""Speed of study 4's training and rendering: ``make benchmark``.

Training: an update of the published network as its code trains it (waveforms in memory, the constant-Q transform
computed by time-domain filters in every step, fp32) against the same network on cached float16 features, in fp32 and
in bf16, and against the narrower one of the grid.  Rendering: notes to a recording with room, colour and noise.
CPU-seconds of one thread, ratios from one run.  Nothing is asserted; figures go to
``results/benchmarks/transcription.json``.
"""

import time

import numpy as np
import pytest
import soxr
import torch
from torch import nn

from duet import files, paths, performance, runs, synthesis, transcription
from duet.models.unet import Transcriber
from duet.studies.synthetic_pretraining.experiment import NETWORKS, loss_of

CHUNK, BATCH, ROUNDS = 327_680, 2, 3  # samples and chunks of an update; the published batch of 32 takes a minute here
SECONDS = BATCH * CHUNK / transcription.SAMPLE_RATE
CPU = pytest.mark.benchmark(timer=time.process_time, warmup=False)


class PublishedTransform(nn.Module):
    """(B, samples) to (B, frames, 176): every bin's filter slid over the waveform, as nnAudio's CQT1992v2 does."""

    def __init__(self):
        super().__init__()
        longest, rate = 1 << 15, transcription.SAMPLE_RATE
        kernels = np.zeros((2 * transcription.BINS, 1, longest), np.float32)
        quality = 1 / (2 ** (1 / transcription.PER_OCTAVE) - 1)
        lengths = np.zeros(transcription.BINS)
        for number in range(transcription.BINS):
            frequency = 27.5 * 2 ** (number / transcription.PER_OCTAVE)
            lengths[number] = length = int(np.ceil(quality * rate / frequency))
            window = np.hanning(length + 1)[:-1]
            angle = 2 * np.pi * frequency * (np.arange(length) - length // 2) / rate
            place = slice((longest - length) // 2, (longest - length) // 2 + length)
            kernels[number, 0, place] = window / window.sum() * np.cos(angle)
            kernels[transcription.BINS + number, 0, place] = window / window.sum() * np.sin(angle)
        self.register_buffer("kernels", torch.from_numpy(kernels))
        self.register_buffer("scale", torch.from_numpy(np.sqrt(lengths).astype(np.float32))[:, None])

    def forward(self, audio):
        padded = nn.functional.pad(audio[:, None, :-1], (1 << 14, 1 << 14), mode="reflect")
        both = nn.functional.conv1d(padded, self.kernels, stride=transcription.HOP)
        real, imaginary = both.chunk(2, 1)
        values = torch.log(torch.sqrt(real**2 + imaginary**2) * self.scale + transcription.FLOOR)
        low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
        return ((values - low) / (high - low)).transpose(1, 2)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    notes = [
        synthesis.Played(t, 0.4, int(rng.integers(30, 100)), int(rng.integers(30, 120)))
        for t in np.arange(0, SECONDS, 0.1)
    ]
    audio = synthesis.synthesise(notes, synthesis.available_soundfont())
    audio = soxr.resample(audio, synthesis.SAMPLE_RATE, transcription.SAMPLE_RATE)[: BATCH * CHUNK].reshape(
        BATCH, CHUNK
    )
    cached = np.stack([transcription.spectrogram(one) for one in audio]).astype(np.float16)
    targets = torch.from_numpy((rng.uniform(size=(BATCH, cached.shape[1], 2, 88)) < 0.04).astype(np.float32))
    return {"audio": audio, "cached": cached, "targets": targets, "notes": notes}


@pytest.fixture(scope="module")
def figures():
    found = {
        "unit": "seconds of audio per CPU-second of one thread",
        "processor": runs.provenance()["processor"],
        "training": {},
        "rendering": {},
    }
    yield found
    base = found["training"].get("published network, transform in the loop, fp32")
    if base:
        found["ratios"] = {k: round(v / base, 2) for k, v in found["training"].items() if v != base}
    for part in ("training", "rendering"):
        found[part] = {name: float(f"{value:.3g}") for name, value in found[part].items()}
    files.write_json(paths.results() / "benchmarks" / "transcription.json", found)
    print("\n" + "\n".join(f"{name}: {value}" for name, value in found.items()))


@CPU
@pytest.mark.parametrize(("name", "network", "cached", "half"), [
    ("published network, transform in the loop, fp32", "published", False, False),
    ("published network, cached features, fp32", "published", True, False),
    ("published network, cached features, bf16", "published", True, True),
    ("narrow network, cached features, bf16", "narrow", True, True),
])  # fmt: skip
def test_training(benchmark, data, figures, name, network, cached, half):
    torch.manual_seed(0)
    model = Transcriber() if network == "published" else NETWORKS[network]()
    transform = PublishedTransform()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)

    def update():
        if cached:
            values = torch.from_numpy(transcription.fixed_range(data["cached"].astype(np.float32)))
        else:
            with torch.no_grad():
                values = transform(torch.from_numpy(data["audio"]))
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = loss_of(model, (values, data["targets"]))
        loss.backward()
        optimiser.step()

    benchmark.pedantic(update, rounds=ROUNDS, warmup_rounds=1)
    figures["training"][name] = SECONDS / benchmark.stats.stats.min


@CPU
@pytest.mark.parametrize(("font", "program"), [("fluidr3", 0), ("fluidr3", 25), ("musescore", 0), ("timgm6mb", 0)])
def test_rendering(benchmark, data, figures, font, program):
    """Sixty seconds of eight notes a second in a room: what a clip of the synthetic set costs beside its notes."""
    rng = np.random.default_rng(1)
    notes = [synthesis.Played(t, 0.4, int(rng.integers(40, 84)), 80) for t in np.arange(0, 60, 0.125)]
    acoustics = performance.Acoustics.draw(rng)

    def render():
        audio = synthesis.synthesise(notes, font, program)
        audio = soxr.resample(audio, synthesis.SAMPLE_RATE, transcription.SAMPLE_RATE)
        return performance.heard(audio, transcription.SAMPLE_RATE, acoustics, np.random.default_rng(2))

    benchmark.pedantic(render, rounds=ROUNDS, warmup_rounds=1)
    figures["rendering"][f"{font}, program {program}"] = 60 / benchmark.stats.stats.min
