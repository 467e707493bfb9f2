"""The paper's network, layer by layer, and what freezing, padding and the loss do to it."""

import copy
import math
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from duet import DuetError, published
from duet.models.crnn import CRNN, FAST, FREEZING, PAPER, ConvBlock, CRNNShape, layer_table
from duet.studies.transfer_learning import collate, ctc_loss, transcribe

torch.set_num_threads(1)  # as every run has; several would only wait for each other on a busy machine
LAYERS = {1: 160 + 16, 2: 2_560 + 16, 3: 1_574_912, 4: 1_574_912, 5: 598_671}
TINY = CRNNShape(filters=(4, 4), hidden=24, dropout=0.0, normalise=True)


@pytest.fixture(scope="module")
def paper():
    torch.manual_seed(0)
    return CRNN(256, 1167, PAPER)


# -- Table 1 -----------------------------------------------------------------------------------------------------------


def test_the_parameters_are_the_papers_layer_by_layer(paper):
    rows = layer_table(256, published.TRANSFER_OUTPUTS)
    assert {row["layer"]: row["parameters"] for row in rows} == LAYERS
    assert paper.trainable() == sum(LAYERS.values()) == published.TRANSFER_PARAMETERS == 3_751_247
    assert paper.layer1.conv.weight.numel() == 160 and paper.layer2.conv.weight.numel() == 2_560
    statistics = [b for name, b in paper.named_buffers() if "running" in name]
    assert sum(b.numel() for b in statistics) == 32


def test_table_1_says_what_the_network_is():
    operations = [row["operation"] for row in layer_table(256, 1167)]
    assert operations == [
        "Conv(8, 2x10), BatchNorm, LeakyReLU(0.20), MaxPool(2x2)",  # columns x rows, as the paper writes kernels
        "Conv(8, 5x8), BatchNorm, LeakyReLU(0.20), MaxPool(1x2)",
        "BLSTM(256), Dropout(0.50)",
        "BLSTM(256), Dropout(0.50)",
        "Dense(1167), Softmax",
    ]


@pytest.mark.parametrize(
    ("shape", "rows", "columns", "steps", "features"),
    [
        (PAPER, 256, 40, 20, 512),
        (PAPER, 64, 41, 20, 128),
        (FAST, 64, 40, 10, 512),
        (FAST, 64, 43, 10, 512),
    ],
)
def test_columns_become_steps_and_rows_times_filters_features(shape, rows, columns, steps, features):
    network = CRNN(rows, 30, shape)
    seen = []
    network.layer3.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
    assert network(torch.rand(3, rows, columns)).shape == (steps, 3, 30)
    assert seen == [(steps, 3, features)]
    assert network.steps(columns) == steps
    assert network.steps(torch.tensor([columns, 8])).tolist() == [steps, network.steps(8)]


def test_too_few_rows_are_refused():
    with pytest.raises(DuetError, match="3 rows are too few"):
        CRNN(3, 10, PAPER)


def test_features_of_a_step_come_from_its_own_columns():
    torch.manual_seed(0)
    network, seen = CRNN(16, 5, PAPER).eval(), []
    network.layer3.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    picture = torch.rand(1, 16, 40)
    changed = picture.clone()
    changed[:, :, 20:22] += 1  # step 10; kernels reach one step and a half further on either side
    network(picture), network(changed)
    moved = (seen[0] != seen[1]).any(-1).any(-1).nonzero().flatten().tolist()
    assert 10 in moved and set(moved) <= set(range(7, 14))


# -- layers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "top", "bottom", "left", "right"),
    [
        ((10, 2), 4, 5, 0, 1),
        ((8, 5), 3, 4, 2, 2),
        ((5, 3), 2, 2, 1, 1),
    ],
)
def test_padding_of_even_kernels_adds_below_and_to_the_right(kernel, top, bottom, left, right):
    torch.manual_seed(1)
    block = ConvBlock(1, 1, kernel, (1, 1))
    block.conv.weight.data = torch.randn(1, 1, *kernel)
    picture, weight = torch.rand(12, 9), block.conv.weight.detach()[0, 0].numpy()
    padded = np.pad(picture.numpy(), ((top, bottom), (left, right)))
    direct = np.array(
        [[(padded[i : i + kernel[0], j : j + kernel[1]] * weight).sum() for j in range(9)] for i in range(12)]
    )
    seen = []
    block.conv.register_forward_hook(lambda _, __, output: seen.append(output.detach()[0, 0].numpy()))
    block(picture[None, None])
    np.testing.assert_allclose(seen[0], direct, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_pooling_before_the_activation_is_the_same_function(training):
    torch.manual_seed(2)
    block = ConvBlock(1, 8, (10, 2), (2, 2)).train(training)
    block.norm.weight.data = torch.randn(8)  # a negative scale turns the picture over, before both
    block.norm.running_mean.normal_()
    x = torch.randn(3, 1, 16, 20)
    left, right, top, bottom = 0, 1, 4, 5
    published_order = F.max_pool2d(
        F.leaky_relu(
            F.batch_norm(
                F.conv2d(F.pad(x, (left, right, top, bottom)), block.conv.weight),
                block.norm.running_mean.clone(),
                block.norm.running_var.clone(),
                block.norm.weight,
                block.norm.bias,
                training,
                0.01,
                1e-3,
            ),
            0.2,
        ),
        (2, 2),
    )
    assert (published_order < 0).any() and (published_order > 0).any()
    torch.testing.assert_close(block(x), published_order)


def test_norms_estimate_like_the_papers_framework(paper):
    """Keras's momentum 0.99 is torch's 0.01."""
    for norm in (paper.layer1.norm, paper.layer2.norm):
        assert (norm.eps, norm.momentum) == (1e-3, 0.01)


def test_lstms_start_with_one_bias_and_an_open_forget_gate(paper):
    for lstm in (paper.layer3, paper.layer4):
        for direction in ("", "_reverse"):
            bias, second = (getattr(lstm, f"bias_{end}_l0{direction}") for end in ("ih", "hh"))
            gates = bias.detach().view(4, 256)  # input, forget, cell, output
            assert gates[1].eq(1).all() and gates[[0, 2, 3]].eq(0).all()
            assert second.eq(0).all() and not second.requires_grad and bias.requires_grad
            for gate in getattr(lstm, f"weight_hh_l0{direction}").detach().view(4, 256, 256):
                torch.testing.assert_close(gate @ gate.T, torch.eye(256), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("layer1.conv.weight", 1 * 20, 8 * 20),
        ("layer2.conv.weight", 8 * 40, 8 * 40),
        ("layer3.weight_ih_l0", 512, 4 * 256),
        ("layer4.weight_ih_l0_reverse", 512, 4 * 256),
        ("layer5.weight", 512, 1167),
    ],
)
def test_kernels_start_uniform_in_glorots_range(paper, name, inputs, outputs):
    weights, limit = dict(paper.named_parameters())[name].detach(), math.sqrt(6 / (inputs + outputs))
    assert 0.95 * limit < weights.abs().max() <= limit
    assert weights.std() == pytest.approx(limit / math.sqrt(3), rel=0.15 if weights.numel() < 1000 else 0.02)
    assert paper.layer5.bias.eq(0).all()


# -- freezing ----------------------------------------------------------------------------------------------------------


def test_each_level_trains_what_table_2_says(paper):
    trained = {"N/A": (1, 2, 3, 4, 5), "5:5": (1, 2, 3, 4), "4:5": (1, 2, 3), "3:5": (1, 2), "2:5": (1,)}
    assert list(FREEZING) == list(trained)
    for level, layers in trained.items():
        network = copy.deepcopy(paper)
        network.freeze(FREEZING[level])
        assert network.trainable() == sum(LAYERS[n] for n in layers)
        moving = {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad}
        assert moving == {f"layer{n}" for n in layers}
    assert network.trainable() == 176


@pytest.mark.parametrize("level", FREEZING)
def test_frozen_layers_and_their_statistics_stay_and_all_others_move(level):
    torch.manual_seed(3)
    network = CRNN(16, 6, CRNNShape(filters=(4, 4), hidden=8))
    network.freeze(FREEZING[level])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    batch = collate([np.random.default_rng(k).integers(0, 255, (16, 24), np.uint8) for k in range(4)], [[0, 1]] * 4)
    for _ in range(2):
        network.train()
        optimiser.zero_grad()
        ctc_loss(network, batch).backward()
        optimiser.step()
        network.eval()
    frozen = tuple(f"layer{n}." for n in FREEZING[level])
    for name, value in network.state_dict().items():
        stays = bool(frozen) and name.startswith(frozen) or "bias_hh" in name
        assert torch.equal(value, before[name]) == stays, name


def test_an_unfrozen_network_never_trains_the_second_bias():
    network = CRNN(16, 6, TINY)
    network.train()
    network(torch.rand(2, 16, 24)).sum().backward()
    assert {name for name, p in network.named_parameters() if p.grad is None} == {
        f"layer{n}.bias_hh_l0{direction}" for n in (3, 4) for direction in ("", "_reverse")
    }


def test_a_frozen_lstm_still_passes_gradients_on():
    """As a training one: cuDNN refuses to go back through an LSTM that evaluates."""
    network = CRNN(16, 6, TINY)
    network.freeze(FREEZING["3:5"])
    network.train()
    assert network.layer3.training and network.layer4.training
    network.freeze(FREEZING["2:5"])
    network.train()
    assert not network.layer2.norm.training and network.layer1.norm.training
    network.eval()
    assert not any(module.training for module in network.modules())


def test_dropout_is_on_the_input_of_each_lstm_and_nowhere_else(monkeypatch):
    seen = []
    monkeypatch.setattr(F, "dropout", lambda x, p, training: (seen.append((x.shape[-1], p, training)), x)[1])
    network = CRNN(16, 6, PAPER)
    network.train()(torch.rand(2, 16, 24))
    network.eval()(torch.rand(2, 16, 24))
    assert seen == [(32, 0.5, True), (512, 0.5, True), (32, 0.5, False), (512, 0.5, False)]


# -- loss --------------------------------------------------------------------------------------------------------------


def brute_force(probabilities, target, blank):
    """-log of the summed probability of every path that collapses to the target."""
    total = 0.0
    for path in product(range(probabilities.shape[1]), repeat=len(probabilities)):
        merged = [s for k, s in enumerate(path) if k == 0 or s != path[k - 1]]
        if [s for s in merged if s != blank] == list(target):
            total += math.prod(float(p[s]) for p, s in zip(probabilities, path, strict=True))
    return -math.log(total) if total else 0.0  # what cannot be aligned contributes nothing


def test_the_loss_is_the_mean_over_all_alignments():
    torch.manual_seed(4)
    logits, targets, steps = torch.randn(3, 4, 3), [[0], [0, 1], [1, 1], [1, 1]], [2, 2, 3, 2]
    assert targets[3] == targets[2] and steps[3] == 2  # two equal tokens need three steps: no alignment

    class Given(nn.Module):
        outputs, layer5 = 3, SimpleNamespace(weight=torch.zeros(1))

        def forward(self, pictures):
            assert pictures.max() <= 1
            return logits

        def steps(self, widths):
            return widths // 2

    batch = collate([np.full((4, 2 * s), 255, np.uint8) for s in steps], targets)
    expected = [
        brute_force(logits[:s, b].softmax(-1), target, blank=2)
        for b, (s, target) in enumerate(zip(steps, targets, strict=True))
    ]
    assert expected[3] == 0.0
    assert ctc_loss(Given(), batch).item() == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_a_tiny_network_learns_four_sequences_by_heart():
    torch.manual_seed(5)
    rng, vocabulary = np.random.default_rng(5), list("abcde")
    pictures = [rng.integers(0, 255, (16, 8 * n), np.uint8) for n in (3, 4, 5, 4)]
    targets = [[0, 1, 2], [3, 3, 0], [4, 2, 1, 0], [1]]
    network, batch = CRNN(16, 6, TINY), collate(pictures, targets)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(120):
        network.train()
        optimiser.zero_grad()
        loss = ctc_loss(network, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
    for norm in (network.layer1.norm, network.layer2.norm):  # the running averages are too slow for 120 updates
        norm.momentum = None
        norm.reset_running_stats()
    network.train()(batch[0].float() / 255)
    assert loss.item() < 0.1
    assert transcribe(network, pictures, vocabulary) == [[vocabulary[k] for k in t] for t in targets]
