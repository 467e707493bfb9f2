"""Passage models: the published counts, recurrences and means by hand, and what training leaves alone."""

import numpy as np
import pytest
import torch
from torch import nn

from duet import losses, training
from duet.models.passage import (
    CODE,
    HALF,
    PAPER_PARAMETERS,
    SNIPPETS,
    SUMMARISERS,
    BandNorm,
    PassageModel,
    SnippetEncoder,
    snippet_model,
)
from duet.training import Training, _optimiser

torch.set_num_threads(1)
DECAYING = Training(1, 1, optimiser="adamw", weight_decay=0.1)
LENGTHS = [2, 1, 4]
TINY = (2, 3, 4, 4)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def count(module):
    return sum(p.numel() for p in module.parameters())


def snippets(modality, lengths=LENGTHS):
    return torch.rand(sum(lengths), 1, *SNIPPETS[modality])


def biased(model):
    """With biases in the last layer, without which the length of a summary would not show."""
    for side in SNIPPETS:
        nn.init.normal_(getattr(model, f"{side}_summary").output.bias)
    return model


def cached(summariser="gru", dimensions=8):
    return biased(PassageModel(summariser, dimensions, widths=None))


# -- shapes and counts -------------------------------------------------------------------------------------------------


def test_parameters_are_the_published_ones():
    model = PassageModel()
    assert count(model) == PAPER_PARAMETERS["passage"]
    for side in SNIPPETS:
        assert count(getattr(model, side)) == PAPER_PARAMETERS[side]
        summary = getattr(model, f"{side}_summary")
        assert count(summary.sequence) == PAPER_PARAMETERS["gru"] and count(summary.output) == 128 * 64 + 64
    assert count(snippet_model()) == PAPER_PARAMETERS["sheet"] + PAPER_PARAMETERS["audio"]
    assert count(cached("transformer").sheet_summary.sequence) == 52_096
    assert 3.2 < PAPER_PARAMETERS["sheet"] / count(SnippetEncoder("sheet", HALF)) < 4
    assert count(PassageModel(dimensions=16)) == PAPER_PARAMETERS["passage"] - 2 * 48 * 129


@pytest.mark.parametrize(("modality", "left"), [("sheet", (5, 5)), ("audio", (5, 1))])
def test_snippets_shrink_as_published(modality, left):
    encoder = SnippetEncoder(modality, TINY).eval()
    x = snippets(modality)
    for layer in list(encoder)[:-2]:
        x = layer(x)
    assert x.shape == (7, CODE, *left)
    assert encoder(snippets(modality)).shape == (7, CODE)
    assert sum(isinstance(m, nn.ELU) for m in encoder) == 8 and isinstance(encoder[-1], nn.Linear)


def test_norms_are_those_of_the_published_code():
    sheet, audio = SnippetEncoder("sheet", TINY), SnippetEncoder("audio", TINY)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in sheet) == 9
    assert [m.num_groups for m in audio if isinstance(m, nn.GroupNorm)] == [1] * 9
    assert isinstance(audio[0], BandNorm) and count(audio[0]) == 0


def test_bands_are_normalised_over_batch_and_time():
    x = torch.rand(5, 1, 92, 20) * torch.arange(1, 93)[:, None]
    mean, variance = x.mean((0, 1, 3)), x.var((0, 1, 3), correction=0)
    expected = (x - mean[:, None]) / (variance[:, None] + 1e-5).sqrt()
    assert torch.allclose(BandNorm(92)(x), expected, atol=1e-4)


@pytest.mark.parametrize("summariser", SUMMARISERS)
def test_passages_become_unit_vectors(summariser):
    model = PassageModel(summariser, 8, TINY)
    for found in (model.embed_sheet(snippets("sheet"), LENGTHS), model.embed_audio(snippets("audio"), LENGTHS)):
        assert found.shape == (3, 8) and torch.allclose(found.norm(dim=1), torch.ones(3))
    vectors = torch.randn(7, CODE)
    assert torch.allclose(cached(summariser).embed_audio(vectors, LENGTHS).norm(dim=1), torch.ones(3))


def test_weights_start_as_published():
    model = PassageModel(widths=TINY)
    matrix = model.sheet_summary.output.weight
    assert torch.allclose(matrix @ matrix.T, torch.eye(64), atol=1e-5)
    kernel = model.audio[1].weight.flatten(1)  # two maps of nine values
    assert torch.allclose(kernel @ kernel.T, torch.eye(2), atol=1e-5)
    assert all((m.bias == 0).all() for m in model.modules() if isinstance(m, nn.Conv2d))
    gru = model.sheet_summary.sequence.gru
    assert all(0 < p.abs().max() <= 128**-0.5 for p in gru.parameters())
    wide = snippet_model().sheet[-1].weight  # linear gain: uniform within sqrt(3 / 800)
    assert wide.abs().max().item() == pytest.approx((3 / 800) ** 0.5, rel=0.01)


# -- the sequence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("summariser", SUMMARISERS)
def test_a_passage_alone_is_as_in_a_batch(summariser):
    model = biased(PassageModel(summariser, 8, TINY)).eval()
    for modality, embed in (("sheet", model.embed_sheet), ("audio", model.embed_audio)):
        x = snippets(modality)
        with torch.no_grad():
            together = embed(x, LENGTHS)
            alone = torch.cat([embed(part, [len(part)]) for part in x.split(LENGTHS)])
            turned = embed(torch.cat(x.split(LENGTHS)[::-1]), LENGTHS[::-1])
        assert torch.allclose(together, alone, atol=1e-5) and torch.allclose(together, turned.flip(0), atol=1e-5)


@pytest.mark.parametrize("summariser", SUMMARISERS)
def test_only_the_mean_forgets_the_order(summariser):
    model, x = cached(summariser).eval(), torch.randn(5, CODE)
    with torch.no_grad():
        same = torch.allclose(model.embed_sheet(x, [5]), model.embed_sheet(x.flip(0), [5]), atol=1e-5)
    assert same == (summariser == "mean")


def test_the_gru_by_its_steps():
    model, x = cached(), torch.randn(7, CODE)
    gru = model.audio_summary.sequence.gru
    cell = nn.GRUCell(CODE, 128)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in gru.state_dict().items()})
    for passage, found in zip(x.split(LENGTHS), model.embed_audio(x, LENGTHS), strict=True):
        state = torch.zeros(1, 128)
        for step in passage:
            state = cell(step[None], state)
        expected = nn.functional.normalize(model.audio_summary.output(state))[0]
        assert torch.allclose(found, expected, atol=1e-6)


def test_the_mean_by_hand():
    model, x = cached("mean"), torch.randn(7, CODE)
    layer = model.sheet_summary.output
    for passage, found in zip(x.split(LENGTHS), model.embed_sheet(x, LENGTHS), strict=True):
        expected = layer.weight @ passage.mean(0) + layer.bias
        assert torch.allclose(found, expected / expected.norm(), atol=1e-6)


@pytest.mark.parametrize("lengths", [[3, 0, 4], [3, 3], [3, 5], [8, -1]])
def test_lengths_that_are_none_are_refused(lengths):
    with pytest.raises(ValueError, match="7 snippets are no passages of"):
        cached("mean").embed_sheet(torch.randn(7, CODE), lengths)


def test_an_unknown_summariser_is_refused():
    with pytest.raises(ValueError, match="unknown summariser 'lstm'"):
        PassageModel("lstm")


# -- what a snippet model leaves behind --------------------------------------------------------------------------------


def trained_snippets():
    """A snippet model with projections and statistics of its own."""
    model = snippet_model(TINY)
    for _ in range(2):
        model(torch.rand(40, 1, *SNIPPETS["sheet"]), torch.rand(40, 1, *SNIPPETS["audio"]))
    return model.eval()


def test_a_snippet_models_encoders_and_projections_are_loaded_and_inserted(tmp_path):
    source, model = trained_snippets(), PassageModel("mean", 8, TINY)
    training.save_weights(source, tmp_path / "snippets.safetensors")
    training.load_into(model, tmp_path / "snippets.safetensors", only=("sheet.", "audio.", "cca."))
    model.eval()
    inputs = {side: snippets(side) for side in SNIPPETS}
    with torch.no_grad():
        latent = dict(zip(SNIPPETS, source.latent(**inputs), strict=True))
        for view, side in enumerate(SNIPPETS, 1):
            found = getattr(model, f"embed_{side}")(inputs[side], LENGTHS)
            mean, matrix = (getattr(source.cca, f"{name}_{view}").numpy() for name in ("mean", "matrix"))
            assert np.abs(matrix - np.eye(CODE)).max() > 0.1
            layer = getattr(model, f"{side}_summary").output
            for passage, row in zip(latent[side].split(LENGTHS), found, strict=True):
                summary = layer(torch.from_numpy((passage.numpy() - mean) @ matrix).float().mean(0))
                assert row.numpy() == pytest.approx((summary / summary.norm()).numpy(), abs=1e-4)


def test_cached_vectors_stand_for_frozen_encoders(tmp_path):
    source, x = trained_snippets(), snippets("audio")
    whole, small = PassageModel("gru", 8, TINY).eval(), cached().eval()
    training.save_weights(source, tmp_path / "snippets.safetensors")
    training.load_into(small, tmp_path / "snippets.safetensors", only=("cca.",))
    training.load_into(whole, tmp_path / "snippets.safetensors", only=("sheet.", "audio."))
    training.save_weights(small, tmp_path / "summaries.safetensors")
    training.load_into(whole, tmp_path / "summaries.safetensors", only=("sheet_summary.", "audio_summary.", "cca."))
    with torch.no_grad():
        vectors = source.latent(snippets("sheet"), x)[1]
        assert torch.allclose(whole.embed_audio(x, LENGTHS), small.embed_audio(vectors, LENGTHS), atol=1e-5)


def step(model, *inputs):
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    sheet, audio = (x if x is not None else snippets(m) for x, m in zip(inputs, SNIPPETS, strict=True))
    loss = losses.pairwise_ranking_loss(model.embed_sheet(sheet, LENGTHS), model.embed_audio(audio, LENGTHS), 2.0)
    loss.backward()
    optimiser.step()


def changed(before, model, kind):
    names = dict(getattr(model, f"named_{kind}")())
    return {name for name in names if not torch.equal(before[name], names[name])}


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_encoders_keep_their_weights_and_not_their_statistics(frozen):
    model = PassageModel("gru", 8, TINY)
    if frozen:
        model.freeze_encoders()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step(model, None, None)
    weights = changed(before, model, "parameters")
    assert any(name.startswith(("sheet.", "audio.")) for name in weights) == (not frozen)
    assert {"sheet_summary.output.weight", "audio_summary.sequence.gru.weight_hh_l0"} <= weights
    statistics = changed(before, model, "buffers")
    assert {"sheet.1.running_mean", "audio.0.running_var"} <= statistics
    assert not any(name.startswith("cca.") for name in statistics)


def test_a_fixed_gru_is_not_trained():
    model = cached("fixed gru")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step(model, torch.randn(7, CODE), torch.randn(7, CODE))
    sides = [f"{side}_summary.output.{name}" for side in SNIPPETS for name in ("weight", "bias")]
    assert changed(before, model, "parameters") == set(sides)
    assert all(p.grad is None for p in model.sheet_summary.sequence.parameters())


def test_gradients_reach_the_encoders_through_a_projection():
    model = PassageModel("mean", 8, TINY)
    model.cca.matrix_1.mul_(2)
    step(model, None, None)
    assert model.sheet[0].weight.grad.abs().max() > 0 and model.audio[1].weight.grad.abs().max() > 0


def test_norms_and_biases_do_not_decay():
    model = PassageModel("transformer", 8, TINY)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, kept = ([names[id(p)] for p in group["params"]] for group in _optimiser(model, DECAYING).param_groups)
    assert len(decayed) + len(kept) == len(names)
    norms = {
        f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm)
    }
    assert norms | {n for n in names.values() if "bias" in n} == set(kept)
    assert [g["weight_decay"] for g in _optimiser(model, DECAYING).param_groups] == [0.1, 0.0]
    model.freeze_encoders()
    trained = {id(p) for group in _optimiser(model, DECAYING).param_groups for p in group["params"]}
    assert not trained & {id(p) for p in model.sheet.parameters()}
