"""Encoders, CCA and the ranking loss: the published counts, NumPy's algebra, cases by hand."""

import numpy as np
import pytest
import scipy.linalg
import torch

from duet import filterbank, losses
from duet.errors import DuetError
from duet.models.cca import CcaLayer, canonical_projections
from duet.models.encoders import PAPER_PARAMETERS, Encoder, TwoTowers

torch.set_num_threads(1)


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_are_the_published_ones():
    assert count(Encoder()) == PAPER_PARAMETERS
    assert count(TwoTowers()) == 2 * PAPER_PARAMETERS  # the projections are not trained
    dense = Encoder(picture=(92, 42))  # what is left of it is 5 x 2
    assert count(dense) - count(Encoder()) == 32 * 5 * 2 * 32 + 32
    assert dense(torch.rand(2, 1, 92, 42)).shape == (2, 32)


def test_pictures_shrink_as_published():
    encoder = Encoder().eval()
    for size, left in (((180, 200), (11, 12)), ((92, 42), (5, 2))):
        x = torch.rand(1, 1, *size)
        for layer in list(encoder)[:-2]:
            x = layer(x)
        assert x.shape == (1, 32, *left)
        assert encoder(torch.rand(3, 1, *size)).shape == (3, 32)


def views(items=400, dimensions=6, seed=0):
    """Two noisy linear pictures of what they have in common."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((items, 3))
    x = common @ rng.standard_normal((3, dimensions)) + 0.5 * rng.standard_normal((items, dimensions)) + 7
    y = common @ rng.standard_normal((3, dimensions)) + 0.5 * rng.standard_normal((items, dimensions)) - 3
    return x, y


@pytest.mark.parametrize("ridge", [1e-3, 0.5])
def test_projections_are_those_of_numpy(ridge):
    x, y = views()
    found = canonical_projections(torch.from_numpy(x), torch.from_numpy(y), ridge)
    one, two = x - x.mean(0), y - y.mean(0)
    cov_x, cov_y = np.cov(x.T) + ridge * np.eye(6), np.cov(y.T) + ridge * np.eye(6)
    cross = one.T @ two / (len(x) - 1)
    # canonical correlations as generalised eigenvalues, another way to them
    block = np.block([[np.zeros((6, 6)), cross], [cross.T, np.zeros((6, 6))]])
    expected = scipy.linalg.eigh(block, scipy.linalg.block_diag(cov_x, cov_y), eigvals_only=True)[6:]
    achieved = np.diag(found.matrix_1.numpy().T @ cross @ found.matrix_2.numpy())
    assert achieved == pytest.approx(expected, abs=1e-8) and (np.diff(achieved) > 0).all()
    assert found.matrix_1.numpy().T @ cov_x @ found.matrix_1.numpy() == pytest.approx(np.eye(6), abs=1e-8)
    assert found.matrix_2.numpy().T @ cov_y @ found.matrix_2.numpy() == pytest.approx(np.eye(6), abs=1e-8)
    assert found.mean_1.numpy() == pytest.approx(x.mean(0))


def test_gradients_pass_through_the_projection():
    x, y = (torch.from_numpy(v).requires_grad_() for v in views(60, 4))

    def similarity(a, b):
        found = canonical_projections(a, b)
        one, two = (a - found.mean_1) @ found.matrix_1, (b - found.mean_2) @ found.matrix_2
        return (torch.nn.functional.normalize(one) * torch.nn.functional.normalize(two)).sum()

    assert torch.autograd.gradcheck(similarity, (x, y), atol=1e-4)


def test_a_ridge_keeps_faint_directions_faint():
    """Four strong directions are shared, the faint others are each view's own: what 100 items make of new ones."""
    torch.manual_seed(1)

    def draw(items):
        common = torch.randn(items, 4)
        return (torch.cat([common + 0.3 * torch.randn(items, 4), 0.1 * torch.randn(items, 28)], 1) for _ in range(2))

    found = {}
    for ridge in (1e-3, 0.1):
        layer = CcaLayer(32, ridge)
        layer(*draw(100))
        one, two = map(torch.nn.functional.normalize, layer.eval()(*draw(1000)))
        found[ridge] = float(((one @ two.T).argmax(1) == torch.arange(1000)).float().mean())
    assert found[0.1] > 1.5 * found[1e-3]


def test_pooling_before_the_elu_is_pooling_after_it():
    torch.manual_seed(2)
    encoder = Encoder((3, 4), 5).train()
    layers, x = list(encoder), torch.randn(4, 1, 16, 12)
    for k, layer in enumerate(list(encoder)):
        if isinstance(layer, torch.nn.MaxPool2d):
            layers[k], layers[k + 1] = layers[k + 1], layers[k]
    assert torch.allclose(torch.nn.Sequential(*layers)(x), encoder(x), atol=1e-6)
    assert sum(isinstance(layer, torch.nn.MaxPool2d) for layer in layers) == 2


def test_too_few_items_are_refused():
    with pytest.raises(ValueError, match="6 items cannot tell the covariance of 6"):
        canonical_projections(*(torch.from_numpy(v[:6]) for v in views()))


def test_the_layer_stores_the_last_batch_until_it_is_refined():
    x, y = (torch.from_numpy(v).float() for v in views())
    layer = CcaLayer(6)
    trained = layer(x, y)
    stored = layer.eval()(x, y)
    assert torch.allclose(trained[0], stored[0], atol=1e-4) and torch.allclose(trained[1], stored[1], atol=1e-4)
    layer.train()
    layer(x[:50], y[:50])
    layer.eval()
    off = (layer(x, y)[0] - stored[0]).abs().max()
    layer.refine(x, y)
    assert off > 0.1 and torch.allclose(layer(x, y)[0], stored[0], atol=1e-4)
    assert (layer.project_first(x) == layer(x, y)[0]).all() and (layer.project_second(y) == layer(x, y)[1]).all()


def test_towers_learn_what_belongs_together():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    places = rng.integers(0, 12, 64)
    sheet, audio = torch.zeros(64, 1, 32, 48), torch.zeros(64, 1, 48, 16)
    for k, place in enumerate(places):
        sheet[k, 0, 4 : 4 + 2 * place + 1] = 1
        audio[k, 0, :, : 1 + place] = 1
    sheet += 0.05 * torch.randn_like(sheet)
    audio += 0.05 * torch.randn_like(audio)
    model = TwoTowers((2, 4, 8, 8), 8)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    first = None
    for _ in range(25):
        optimiser.zero_grad()
        loss = losses.pairwise_ranking_loss(*model(sheet, audio), margin=0.7)
        loss.backward()
        optimiser.step()
        first = first or loss.item()
    assert loss.item() < 0.6 * first
    model.eval()
    with torch.no_grad():
        assert torch.linalg.norm(model.embed_sheet(sheet[:3]), dim=1).numpy() == pytest.approx(np.ones(3), abs=1e-5)
        assert torch.allclose(model.embed_audio(audio[:3]), model(sheet[:3], audio[:3])[1], atol=1e-5)


def test_ranking_loss_by_hand():
    anchors = torch.tensor([[1.0, 0], [0, 1]])
    others = torch.tensor([[0.8, 0.6], [0.6, 0.8]])
    # right .8, wrong .6: each wrong pair costs .7 - .8 + .6
    assert float(losses.pairwise_ranking_loss(anchors, others, 0.7)) == pytest.approx(0.5)
    assert float(losses.pairwise_ranking_loss(anchors, anchors, 0.7)) == 0
    others = torch.tensor(
        [[0.8, 0.6], [0.0, 1]]
    )  # .7 - .8 + 0 and .7 - 1 + .6 one way, .7 - .8 + .6 and .7 - 1 + 0 back
    one, back = (losses.pairwise_ranking_loss(*pair, 0.7) for pair in ((anchors, others), (others, anchors)))
    assert (float(one), float(back)) == pytest.approx((0.15, 0.25))
    assert losses.matching_loss(anchors, others, "ranking", 0.7) == one != back
    assert losses.matching_loss(anchors, others, "symmetric", 0.7) == (one + back) / 2
    assert losses.matching_loss(anchors, others, "infonce", 0.7) == losses.info_nce(anchors, others)


# -- the spectrogram ---------------------------------------------------------------------------------------------------


def test_filters_by_hand():
    bank = filterbank.filters()
    assert bank.shape == (1024, 92) and bank.sum(0) == pytest.approx(np.ones(92))
    # the first three centres: 30.9, 43.1 and 53.8 Hz are the bins next to 440 * 2**(k/16) that are not the same bin
    assert np.flatnonzero(bank[:, 0]).tolist() == [4] and np.flatnonzero(bank[:, 1]).tolist() == [5]
    frequency = 440 * 2 ** (20 / 16)
    bins = np.arange(1024) * 22_050 / 2048
    centres = bins[bank.argmax(0)]
    band = int(np.abs(centres - frequency).argmin())
    assert abs(centres[band] - frequency) <= 22_050 / 2048 / 2
    left, right = (int(round(440 * 2 ** (k / 16) * 2048 / 22_050)) for k in (19, 21))
    middle = int(round(frequency * 2048 / 22_050))
    triangle = np.interp(np.arange(1024), [left, middle, right], [0, 1, 0])
    assert bank[:, band] == pytest.approx(triangle / triangle.sum(), abs=1e-6)


def test_frames_begin_at_their_time_stamp():
    audio = np.zeros(22_050, np.float32)
    audio[int(1102.5 * 9) : int(1102.5 * 9) + 300] = np.sin(np.arange(300))
    found = filterbank.log_filterbank(audio)
    assert found.shape == (92, 20) and found.dtype == np.float32
    heard = np.flatnonzero(found.max(0) > 1e-3)
    assert heard.tolist() == [8, 9]  # the frame before reaches 2,048 samples from its own start


def test_spectrogram_of_one_frame_by_hand():
    rng = np.random.default_rng(0)
    audio = rng.standard_normal(5000).astype(np.float32) * 0.1
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2047)
    expected = np.log10(1 + np.abs(np.fft.rfft(audio[1102 : 1102 + 2048] * window))[:1024] @ filterbank.filters())
    assert filterbank.log_filterbank(audio)[:, 1] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("audio", [np.zeros(0, np.float32), np.array([0.1, np.nan], np.float32)])
def test_audio_that_is_none_is_refused(audio):
    with pytest.raises(DuetError, match="empty or holds samples that are no numbers"):
        filterbank.log_filterbank(audio)
