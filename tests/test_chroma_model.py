"""The chroma network: Table 2 counted, its fixed pooling, its features in blocks, and the released weights' layout."""

import h5py
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from duet import DuetError, training
from duet.harmonic import normalise_columns
from duet.models.chroma import (
    ChromaNet,
    chroma_features,
    convert_keras_weights,
    features_of,
    layer_table,
    probabilities,
)

torch.set_num_threads(1)  # as every run has; several would only wait for each other on a busy machine


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ChromaNet().eval()


@pytest.fixture(scope="module")
def strided():
    torch.manual_seed(0)
    return ChromaNet(stride=3).eval()


def recording(frames, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (frames, 6, 216), np.uint8)
    values[:, :, values[0, 0] < 100] = 0
    return values


# -- Table 2 -----------------------------------------------------------------------------------------------------------


def test_the_parameters_are_the_papers_layer_by_layer(network):
    rows = layer_table()
    assert [row["parameters"] for row in rows] == [3520, 18464, 9248, 9248, 32264, 9, 0, 0, 217, 0]
    assert sum(row["parameters"] for row in rows) == sum(p.numel() for p in network.parameters()) == 72_970
    assert [b.numel() for b in network.buffers()] == [2_592]
    assert [row["kernel"] for row in rows[:6]] == ["3 x 3"] * 4 + ["3 x 42", "1 x 1"]
    assert [row["output"] for row in rows[4:9]] == ["N x 216 x 8", "N x 216 x 1", "N x 216", "N x 12", "N x 1"]
    assert [row["activation"] for row in rows[4:6]] == ["leaky ReLU (0.3)", "sigmoid"]


def test_the_strided_networks_table_counts_its_own_parameters(strided):
    rows = layer_table(stride=3)
    assert sum(row["parameters"] for row in rows) == sum(p.numel() for p in strided.parameters()) == 51_322
    assert rows[4]["kernel"] == "3 x 14" and rows[0]["output"] == "N x 72 x 64"


def test_an_unknown_stride_is_refused():
    with pytest.raises(DuetError, match="no stride of 2 bins"):
        ChromaNet(stride=2)


def test_kernels_start_as_glorot_uniform_and_biases_as_zero(network):
    for layer in (network.conv1, network.conv5, network.epsilon):
        fan = layer.weight[0].numel() + layer.weight[:, 0].numel()
        bound = (6 / fan) ** 0.5
        assert 0.8 * bound < layer.weight.abs().max() <= bound and not layer.bias.any()


# -- the function ------------------------------------------------------------------------------------------------------


def by_hand(network, columns):
    """The network as the paper orders its axes: time as rows, with explicit padding."""
    x = columns.permute(0, 2, 1, 3)
    for layer in (network.conv1, network.conv2, network.conv3, network.conv4):
        x = F.leaky_relu(F.conv2d(F.pad(x, (1, 1, 1, 1)), layer.weight.mT, layer.bias, layer.stride[::-1]), 0.3)
    before = 20 if network.conv1.stride[0] == 1 else 6
    x = F.conv2d(F.pad(x, (before, before + 1, 1, 1)), network.conv5.weight.mT, network.conv5.bias)
    x = F.leaky_relu(x, 0.3)
    x = torch.sigmoid(F.conv2d(x, network.conv6.weight, network.conv6.bias))[:, 0]
    repeat = network.conv1.stride[0]
    fine = x.repeat_interleave(repeat, -1)  # three times the semitone, or the bins as they are
    chromas = torch.stack([sum(fine[..., k] for k in range(216) if k // 3 % 12 == c) for c in range(12)], -1)
    return torch.cat([chromas, F.linear(x, network.epsilon.weight, network.epsilon.bias)], -1)


@pytest.mark.parametrize("name", ["network", "strided"])
def test_the_network_is_the_papers_function(name, request):
    network = request.getfixturevalue(name)
    columns = torch.rand(2, 4, 6, 216, generator=torch.Generator().manual_seed(1))
    logits = network(columns)
    assert logits.shape == (2, 4, 13)
    torch.testing.assert_close(logits, by_hand(network, columns), rtol=1e-4, atol=1e-4)
    assert 0 < logits[..., :12].min() and logits[..., :12].max() < 18


def test_pooling_is_centred_only_on_request(network):
    def chromas_of(model):
        return model.pooling.argmax(1).tolist()

    assert chromas_of(network) == [k // 3 % 12 for k in range(216)]
    assert chromas_of(ChromaNet(centred=True))[:5] == [0, 0, 1, 1, 1] and chromas_of(ChromaNet(centred=True))[-1] == 0
    assert chromas_of(ChromaNet(stride=3)) == chromas_of(ChromaNet(stride=3, centred=True)) == [*range(12)] * 6
    for model in (network, ChromaNet(centred=True), ChromaNet(stride=3)):
        assert model.pooling.sum(0).tolist() == [18] * 12 and (model.pooling > 0).sum(1).eq(1).all()


def test_a_frame_sees_five_frames_to_either_side(network):
    columns = torch.rand(1, 30, 6, 216, generator=torch.Generator().manual_seed(2))
    changed = columns.clone()
    changed[0, 15] += 1
    moved = (network(columns) - network(changed)).abs().amax((0, 2)).nonzero().flatten()
    assert moved.tolist() == list(range(10, 21))


def test_training_makes_it_tell_notes_apart():
    torch.manual_seed(0)
    network = ChromaNet(stride=3)
    columns = torch.zeros(1, 48, 6, 216)
    labels = torch.arange(12).repeat_interleave(4)[None]
    for frame, note in enumerate(labels[0].tolist()):
        for channel, offset in enumerate([-36, 0, 36, 57, 72, 84]):  # harmonics of a note three octaves above C1
            columns[0, frame, channel, 108 + 3 * note - offset] = 1
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(40):
        loss = F.cross_entropy(network(columns).transpose(1, 2), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert chroma_features(network(columns)).argmax(1).eq(labels).all()


# -- features ----------------------------------------------------------------------------------------------------------


def test_features_drop_epsilon_and_have_unit_length():
    logits = torch.tensor([[0.0, 1.0, *[-50.0] * 10, 5.0], [0.0] * 12 + [200.0]], dtype=torch.float32)
    features = chroma_features(logits)
    assert features.shape == (12, 2)
    dropped = torch.exp(logits[0, :12].double())
    torch.testing.assert_close(features[:, 0].double(), dropped / dropped.norm(), rtol=1e-5, atol=1e-7)
    # where the probabilities themselves underflow, nothing is known: all twelve alike
    assert probabilities(logits)[1, :12].max() == 0
    torch.testing.assert_close(features[:, 1], torch.full((12,), 12**-0.5))
    torch.testing.assert_close(probabilities(logits).sum(-1), torch.ones(2))


@pytest.mark.parametrize("frames", [1, 7, 50])
def test_features_of_a_recording_do_not_depend_on_the_blocks(strided, frames):
    hcqt = recording(frames)
    hcqt[: frames // 3] = 0
    with torch.no_grad():
        whole = chroma_features(strided(normalise_columns(torch.from_numpy(hcqt))[None]))[0].numpy()
    assert features_of(strided, hcqt).shape == (12, frames)
    for block in (1, 3, 16, 50):
        np.testing.assert_allclose(features_of(strided, hcqt, block=block), whole, atol=2e-6)


def test_features_do_not_depend_on_the_level(network):
    hcqt = recording(12) // 2
    np.testing.assert_allclose(features_of(network, hcqt), features_of(network, hcqt * 2), atol=2e-6)


@pytest.mark.parametrize("shape", [(5, 216, 6), (0, 6, 216), (6, 216)])
def test_arrays_of_another_shape_are_refused(strided, shape):
    with pytest.raises(DuetError, match="has the shape"):
        features_of(strided, np.zeros(shape, np.uint8))


# -- released weights --------------------------------------------------------------------------------------------------


def keras_weights(seed=3):
    """Layers as Keras names and orders them, kernels (time, frequency, in, out)."""
    rng = np.random.default_rng(seed)
    shapes = [(3, 3, 6, 64), (3, 3, 64, 32), (3, 3, 32, 32), (3, 3, 32, 32), (3, 42, 32, 8), (1, 1, 8, 1)]
    layers = {"input_1": {}}
    for number, shape in enumerate(shapes):
        name = f"conv2d_{number}" if number else "conv2d"
        layers[name] = {f"{name}/kernel:0": rng.normal(0, 0.1, shape), f"{name}/bias:0": rng.normal(0, 0.1, shape[-1])}
    layers["dense"] = {"dense/kernel:0": rng.normal(0, 0.1, (216, 1)), "dense/bias:0": rng.normal(0, 0.1, 1)}
    layers["chroma"] = {"chroma/kernel:0": np.eye(12)[np.arange(216) // 3 % 12]}
    return layers


def write_keras(path, layers, root=""):
    with h5py.File(path, "w") as file:
        group = file.create_group(root) if root else file
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for name, weights in layers.items():
            layer = group.create_group(name)
            layer.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, values in weights.items():
                layer.create_dataset(weight, data=np.asarray(values, np.float32))


def test_released_weights_compute_what_they_did_in_keras(tmp_path):
    layers = keras_weights()
    write_keras(tmp_path / "weights.h5", layers)
    convert_keras_weights(tmp_path / "weights.h5", tmp_path / "weights.safetensors")
    model = ChromaNet().eval()
    training.load_into(model, tmp_path / "weights.safetensors")
    assert training.read_about(tmp_path / "weights.safetensors")["converted_from"] == "weights.h5"

    # Keras's own arithmetic, straight from its arrays: (time, frequency, channel), correlation, "same" padding
    x = np.random.default_rng(4).random((4, 216, 6))
    convolutions = [layers[name] for name in layers if name.startswith("conv2d")]
    for number, layer in enumerate(convolutions):
        kernel, bias = layer.values()
        rows, columns = kernel.shape[:2]
        padded = np.pad(x, ((rows // 2,) * 2, ((columns - 1) // 2, columns // 2), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), (0, 1))
        y = np.einsum("tfcij,ijco->tfo", windows, kernel, optimize=True) + bias
        x = 1 / (1 + np.exp(-y)) if number == 5 else np.where(y > 0, y, 0.3 * y)
        if number == 0:
            columns_in = np.random.default_rng(4).random((4, 216, 6)).transpose(0, 2, 1)
    chromas = x[..., 0] @ layers["chroma"]["chroma/kernel:0"]
    epsilon = x[..., 0] @ layers["dense"]["dense/kernel:0"] + layers["dense"]["dense/bias:0"]
    with torch.no_grad():
        logits = model(torch.from_numpy(columns_in).float()[None])[0].numpy()
    np.testing.assert_allclose(logits, np.concatenate([chromas, epsilon], 1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("layout", ["whole model", "pooling first"])
def test_both_layouts_of_keras_files_are_read(tmp_path, layout):
    layers = keras_weights()
    write_keras(tmp_path / "plain.h5", layers)
    if layout == "pooling first":
        layers = {name: layers[name] for name in [*list(layers)[:-2], "chroma", "dense"]}
        write_keras(tmp_path / "other.h5", layers)
    else:
        write_keras(tmp_path / "other.h5", layers, root="model_weights")
        with h5py.File(tmp_path / "other.h5", "a") as file:
            file.create_group("optimizer_weights")
    for name in ("plain", "other"):
        convert_keras_weights(tmp_path / f"{name}.h5", tmp_path / f"{name}.safetensors")
    plain, other = (training.load_weights(tmp_path / f"{name}.safetensors") for name in ("plain", "other"))
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def wrong(layers, problem):
    if problem == "42":
        layers["conv2d_4"]["conv2d_4/kernel:0"] = np.zeros((3, 43, 32, 8))
    elif problem == "13 arrays, needed 15":
        del layers["conv2d_3"]
    elif problem == "19 arrays, needed 15":
        layers["norm"] = {f"norm/{kind}:0": np.zeros(8) for kind in ("gamma", "beta", "mean", "variance")}
    elif problem == "no numbers":
        layers["dense"]["dense/bias:0"] = np.array([np.nan])
    return layers


@pytest.mark.parametrize("problem", ["42", "13 arrays, needed 15", "19 arrays, needed 15", "no numbers"])
def test_weights_of_another_network_are_refused(tmp_path, problem):
    write_keras(tmp_path / "weights.h5", wrong(keras_weights(), problem))
    with pytest.raises(DuetError, match=problem) as error:
        convert_keras_weights(tmp_path / "weights.h5", tmp_path / "out.safetensors")
    assert "weights.h5" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "not HDF5", "no names", "lost array", "text array"])
def test_damaged_weights_end_in_one_line(tmp_path, damage):
    path = tmp_path / "weights.h5"
    if damage != "missing":
        write_keras(path, keras_weights())
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:20_000])
    elif damage == "not HDF5":
        path.write_bytes(b"PK\x03\x04" + bytes(5000))
    elif damage in ("no names", "lost array", "text array"):
        with h5py.File(path, "a") as file:
            if damage == "no names":
                del file.attrs["layer_names"]
            else:
                del file["conv2d/conv2d/bias:0"]
            if damage == "text array":
                file["conv2d/conv2d/bias:0"] = "no numbers"
    with pytest.raises(DuetError, match="weights") as error:
        convert_keras_weights(path, tmp_path / "out.safetensors")
    assert "weights.h5" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_quick_start_is_the_same_network_with_epsilon_ahead():
    slow, quick = ChromaNet(3), ChromaNet(3, quick=True)
    assert sum(p.numel() for p in quick.parameters()) == sum(p.numel() for p in slow.parameters())
    assert (slow.gain, quick.gain) == (1.0, 216**0.5) and slow.epsilon.bias.item() == 0
    columns = normalise_columns(torch.rand(2, 30, 6, 216))
    with torch.inference_mode():
        assert slow(columns).argmax(-1).eq(12).float().mean() == 0  # labels lead, and nothing is ever silent
        assert quick(columns).argmax(-1).eq(12).float().mean() > 0.5
        quick.load_state_dict(slow.state_dict())
        assert torch.allclose(quick(columns), slow(columns * 216**0.5), atol=1e-4)
