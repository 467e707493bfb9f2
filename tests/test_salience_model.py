"""Deep salience: published counts, the function in Keras's arithmetic, learning, blocks, and sums to chroma."""

import h5py
import numpy as np
import pytest
import torch

from duet import DuetError, training
from duet.losses import frame_binary_cross_entropy
from duet.models import salience as module
from duet.models.salience import (
    PAPER,
    SHAPES,
    SMALL,
    DeepSalience,
    convert_keras_weights,
    layer_table,
    salience_of,
    to_chroma,
)

torch.set_num_threads(1)  # as every run has; several would only wait for each other on a busy machine


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return DeepSalience(SMALL).eval()


# -- layers ------------------------------------------------------------------------------------------------------------


def test_the_published_networks_parameters_and_statistics():
    network = DeepSalience(PAPER)
    assert sum(p.numel() for p in network.parameters()) == 406_253
    assert sum(b.numel() for name, b in network.named_buffers() if "running" in name) == 668
    rows = layer_table()
    assert sum(row["parameters"] for row in rows) == 406_253 and sum(row["statistics"] for row in rows) == 668
    assert [row["kernel"] for row in rows] == ["5 x 5", "5 x 5", "3 x 3", "3 x 3", "70 x 3", "1 x 1"]
    assert [row["output"] for row in rows] == [f"N x 360 x {maps}" for maps in (128, 64, 64, 64, 8, 1)]
    assert [row["activation"] for row in rows] == ["ReLU"] * 5 + ["sigmoid"]


def test_the_small_network_has_about_fifty_thousand_parameters(small):
    assert sum(p.numel() for p in small.parameters()) == sum(row["parameters"] for row in layer_table(SMALL)) == 49_137
    assert "stride 3" in layer_table(SMALL)[0]["layer"] and layer_table(SMALL)[4]["kernel"] == "14 x 3"


@pytest.mark.parametrize("name", SHAPES)
def test_an_output_sees_its_context_and_no_more(name):
    torch.manual_seed(0)
    shape = SHAPES[name]
    network = DeepSalience(shape).eval()
    hcqt = torch.rand(1, 2 * shape.context + 5, 6, shape.bins)
    changed = hcqt.clone()
    changed[0, shape.context + 2] += 1
    with torch.no_grad():
        moved = (network(hcqt) - network(changed)).abs().amax((0, 2)).nonzero().flatten()
    assert moved.tolist() == list(range(2, 2 * shape.context + 3))


def test_small_bins_are_semitones_centred_on_every_third(small):
    moved = []
    for k in (29, 30, 31):
        hcqt = torch.zeros(1, 1, 6, 216)
        hcqt[0, 0, 1, k] = 1
        with torch.no_grad():
            first = small._layer(1, hcqt.permute(0, 2, 3, 1))
            moved.append((first - small._layer(1, torch.zeros(1, 6, 216, 1))).abs().sum((0, 1, 3)).nonzero().flatten())
    assert [m.tolist() for m in moved] == [[9, 10], [10], [10, 11]]  # five bins wide, one bin of overlap each side


def test_the_small_network_learns_single_notes():
    torch.manual_seed(0)
    network, notes = DeepSalience(SMALL), torch.arange(30, 46).repeat_interleave(3)
    hcqt, targets = torch.zeros(1, 48, 6, 216), torch.zeros(1, 48, 72)
    for frame, note in enumerate(notes.tolist()):
        targets[0, frame, note] = 1
        for channel, offset in enumerate([-36, 0, 36, 57, 72, 84]):
            hcqt[0, frame, channel, 3 * note - offset] = 1
    lengths, optimiser = torch.tensor([48]), torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(25):
        loss = frame_binary_cross_entropy(network(hcqt), targets, lengths)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    salience = network(hcqt).sigmoid()[0].detach()
    assert salience.argmax(1).eq(notes).float().mean() > 0.9
    assert to_chroma(salience.numpy(), 1).argmax(0).tolist() == (notes % 12).tolist()


@pytest.mark.parametrize("frames", [1, 30])
def test_salience_of_a_recording_does_not_depend_on_the_blocks(small, frames):
    hcqt = np.random.default_rng(1).integers(0, 256, (frames, 6, 216), np.uint8)
    with torch.no_grad():
        whole = small(torch.from_numpy(hcqt)[None].float() / 255)[0].sigmoid().numpy()
    assert whole.shape == (frames, 72) and 0 <= whole.min() and whole.max() <= 1
    for block in (1, 7, 1024):
        np.testing.assert_allclose(salience_of(small, hcqt, block=block), whole, atol=2e-6)


def test_arrays_of_another_resolution_are_refused(small):
    with pytest.raises(DuetError, match=r"\(frames, 6, 216\)"):
        salience_of(small, np.zeros((4, 6, 360), np.uint8))
    with pytest.raises(DuetError, match=r"\(frames, 6, 360\)"):
        salience_of(DeepSalience(PAPER), np.zeros((4, 6, 216), np.uint8))


# -- chroma ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bins_per_semitone", "lowest", "bin_", "chroma"),
    [
        (1, 24, 0, 0), (1, 24, 13, 1), (5, 24, 2, 0), (5, 24, 3, 1), (5, 24, 357, 11), (5, 24, 358, 0),
        (10, 33, 0, 9), (10, 33, 4, 9), (10, 33, 5, 10), (10, 33, 26, 0),
    ],
)  # fmt: skip
def test_a_bin_counts_for_the_nearest_semitone(bins_per_semitone, lowest, bin_, chroma):
    salience = np.zeros((1, 601))
    salience[0, bin_] = 0.2
    assert to_chroma(salience, bins_per_semitone, lowest)[:, 0].tolist() == pytest.approx(np.eye(12)[chroma].tolist())


def test_octaves_add_up_and_frames_have_unit_length():
    salience = np.zeros((2, 72))
    salience[0, [0, 12]], salience[0, 4] = 0.15, 0.4
    chroma = to_chroma(salience, 1)
    assert chroma.shape == (12, 2) and chroma.dtype == np.float32
    assert chroma[:, 0].tolist() == pytest.approx([0.6, 0, 0, 0, 0.8, *[0] * 7], abs=1e-6)
    assert chroma[:, 1].tolist() == pytest.approx([12**-0.5] * 12)


# -- published weights -------------------------------------------------------------------------------------------------


def keras_weights(seed=0):
    """Layers as in Keras's first years, kernels (frequency, time, in, out)."""
    rng, layers, inputs = np.random.default_rng(seed), {"input_1": {}}, 6
    for number, (maps, kernel) in enumerate(zip((*PAPER.maps, 1), (*PAPER.kernels, (1, 1)), strict=True), 1):
        norm = [
            rng.normal(1, 0.1, inputs),
            rng.normal(0, 0.1, inputs),
            rng.normal(0, 0.1, inputs),
            rng.uniform(0.5, 2, inputs),
        ]
        layers[f"batch_normalization_{number}"] = dict(
            zip(("gamma", "beta", "moving_mean", "moving_variance"), norm, strict=True)
        )
        scale = (kernel[0] * kernel[1] * inputs) ** -0.5
        layers[f"conv2d_{number}"] = {
            "kernel": rng.normal(0, scale, (*kernel, inputs, maps)),
            "bias": rng.normal(0, 0.1, maps),
        }
        inputs = maps
    return layers


def write_keras(path, layers, nested):
    """Weight names with the layer's name inside, as Keras 2 wrote them, or without groups, as Keras 1."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, weights in layers.items():
            group = file.create_group(name)
            names = {kind: f"{name}/{kind}:0" if nested else f"{name}_{kind}" for kind in weights}
            group.attrs["weight_names"] = [weight.encode() for weight in names.values()]
            for kind, values in weights.items():
                group.create_dataset(names[kind], data=np.asarray(values, np.float32))


def in_keras(layers, x):
    """(frequency, time, harmonics) -> (frequency, time), by the definition of each layer."""
    for number in range(1, 7):
        gamma, beta, mean, variance = layers[f"batch_normalization_{number}"].values()
        x = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta
        kernel, bias = layers[f"conv2d_{number}"].values()
        rows, columns = kernel.shape[:2]
        padded = np.pad(x, (((rows - 1) // 2, rows // 2), (columns // 2,) * 2, (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), (0, 1))
        x = np.einsum("ftcij,ijco->fto", windows, kernel, optimize=True) + bias
        x = 1 / (1 + np.exp(-x)) if number == 6 else np.maximum(x, 0)
    return x[..., 0]


@pytest.mark.parametrize("nested", [True, False])
def test_published_weights_compute_what_they_did_in_keras(tmp_path, nested):
    layers = keras_weights()
    write_keras(tmp_path / "melody2.h5", layers, nested)
    convert_keras_weights(tmp_path / "melody2.h5", tmp_path / "melody2.safetensors")
    model = DeepSalience()
    training.load_into(model, tmp_path / "melody2.safetensors")
    hcqt = np.random.default_rng(5).integers(0, 256, (2, 6, 360), np.uint8)
    expected = in_keras(layers, hcqt.transpose(2, 0, 1) / 255)
    np.testing.assert_allclose(salience_of(model, hcqt), expected.T, atol=1e-4)


def test_weights_of_another_network_are_refused(tmp_path):
    layers = keras_weights()
    layers["conv2d_5"]["kernel"] = layers["conv2d_5"]["kernel"].swapaxes(0, 1)
    write_keras(tmp_path / "melody2.h5", layers, nested=True)
    with pytest.raises(DuetError, match=r"melody2.h5: is of another network: conv5.weight"):
        convert_keras_weights(tmp_path / "melody2.h5", tmp_path / "out.safetensors")
    del layers["batch_normalization_6"]
    write_keras(tmp_path / "melody2.h5", layers, nested=True)
    with pytest.raises(DuetError, match="32 arrays, needed 36"):
        convert_keras_weights(tmp_path / "melody2.h5", tmp_path / "out.safetensors")
    (tmp_path / "melody2.h5").write_bytes((tmp_path / "melody2.h5").read_bytes()[:50_000])
    with pytest.raises(DuetError, match="melody2.h5: is not a readable Keras weights file"):
        convert_keras_weights(tmp_path / "melody2.h5", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_the_published_networks_chroma_of_a_tone_lies_at_its_pitch_at_25_frames_a_second(monkeypatch):
    """With a network that answers with its input's first harmonic, an A is an A."""
    monkeypatch.setattr(module, "salience_of", lambda model, hcqt: hcqt[:, 1].astype(np.float32) / 255)
    tone = np.sin(2 * np.pi * 440 * np.arange(12 * 22050) / 22050).astype(np.float32)
    chroma = module.published_chroma(None, tone)
    assert chroma.shape == (12, 300) and np.linalg.norm(chroma, axis=0) == pytest.approx(np.ones(300), abs=1e-5)
    assert (chroma[:, 5:-5].argmax(0) == 9).all()
