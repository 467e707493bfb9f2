"""The transcriber: the published counts, its shapes, and that it learns a repeated note."""

import pytest
import torch
from torch import nn

from duet import published
from duet.models.unet import PAPER, Transcriber


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_are_the_published_ones():
    model = Transcriber()
    assert count(model) == PAPER == published.TRANSCRIBER_PARAMETERS
    assert [count(stage) for stage in model.encoder] == [3616, 18_688, 74_240, 295_936]
    assert count(model.skips) == 48_496
    assert [count(stage) for stage in model.decoder] == [287_328, 71_984, 18_072]
    assert (count(model.last), count(model.lstm), count(model.heads)) == (2289, 498_432, 31_064)


@pytest.mark.parametrize("frames", [16, 33, 101, 640])
@pytest.mark.parametrize("onsets", [False, True])
def test_any_length_comes_back(frames, onsets):
    model = Transcriber(2, 8, onsets).eval()
    assert model(torch.rand(1, frames, 176)).shape == (1, frames, 1 + onsets, 88)


def test_the_narrow_one_is_the_same_network_at_half_the_columns():
    seen = []
    model = Transcriber(2, 8, onsets=True).eval()
    model.encoder[0].register_forward_hook(lambda module, given, made: seen.append(given[0]))
    values = torch.rand(1, 32, 176)
    model(values)
    assert seen[0].shape == (1, 2, 32, 88)
    # a column is a key: its two bins are the channels
    assert (seen[0][0, 0, :, 10] == values[0, :, 20]).all() and (seen[0][0, 1, :, 10] == values[0, :, 21]).all()


def test_it_learns_to_tell_a_repeated_note_from_a_held_one():
    torch.manual_seed(0)
    values = torch.zeros(4, 32, 176)
    target = torch.zeros(4, 32, 2, 88)
    for example in range(4):
        key = 20 + 9 * example
        values[example, 4:28, 2 * key] = 0.6
        target[example, 4:28, 0, key] = 1
        for onset in (4, 14) if example % 2 else (4,):
            values[example, onset : onset + 2, 2 * key] = 1.0
            target[example, onset, 1, key] = 1
    model = Transcriber(4, 16, onsets=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(values), target).backward()
        optimiser.step()
    found = torch.sigmoid(model(values)) > 0.5
    assert (found == target.bool()).float().mean() > 0.999
    assert found[1, 14, 1, 29] and not found[0, 14, 1, 20]
