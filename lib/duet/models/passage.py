"""Passages of a page and of a recording in one space: snippets are encoded, and their sequence is summarised.

Source: Carvalho & Widmer, ISMIR 2023, Table 1 and Section 2, with the reading of the published code where the two
differ (fact sheet, Sections 6 and 8).  A batch of passages is one tensor of all their snippets, one passage behind the
other, and a list of how many each has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from .cca import RIDGE, CcaLayer
from .encoders import Towers

SNIPPETS = {"sheet": (80, 90), "audio": (92, 20)}  # rows and columns; pages are halved first, 20 frames are a second
CODE = 32  # values of an encoded snippet
HIDDEN = 128  # of the GRU
PAPER = (24, 48, 96, 96)  # maps of the four blocks
HALF = (12, 24, 48, 48)
SUMMARISERS = ("gru", "fixed gru", "mean", "transformer")

#: Parameters with the paper's widths: of the encoders, of one GRU, and of the whole model of 64 dimensions.
PAPER_PARAMETERS = {"sheet": 357_192, "audio": 336_712, "gru": 62_208, "passage": 834_832}


class BandNorm(nn.BatchNorm1d):
    """Each band of (B, 1, bands, frames) by its mean and deviation over batch and time, without weights of its own."""

    def __init__(self, bands: int):
        super().__init__(bands, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.squeeze(1)).unsqueeze(1)


class SnippetEncoder(nn.Sequential):
    """(B, 1, 80, 90) of a page or (B, 1, 92, 20) of a spectrogram to (B, 32): four blocks, 1x1 convolution, one layer.

    The published code normalises audio by band and then each snippet as a whole, and has no ELU after the last two.
    """

    def __init__(self, modality: str, widths: tuple[int, ...] = PAPER):
        rows, columns = SNIPPETS[modality]
        norm = nn.BatchNorm2d if modality == "sheet" else partial(nn.GroupNorm, 1)
        layers: list[nn.Module] = [] if modality == "sheet" else [BandNorm(rows)]
        for inputs, outputs in zip([1, *widths], widths, strict=False):
            for maps in (inputs, outputs):
                layers += [nn.Conv2d(maps, outputs, 3, padding=1), norm(outputs), nn.ELU(inplace=True)]
            layers.insert(-1, nn.MaxPool2d(2))  # before the ELU, which is monotone: the same, of fewer values
            rows, columns = rows // 2, columns // 2
        layers += [nn.Conv2d(widths[-1], CODE, 1), norm(CODE)]
        super().__init__(*layers, nn.Flatten(), nn.Linear(CODE * rows * columns, CODE))

    def forward(self, snippets: Tensor) -> Tensor:
        # convolutions are faster in this order; the code is small, and what follows wants precision
        return super().forward(snippets.contiguous(memory_format=torch.channels_last)).float()


def snippet_model(widths: tuple[int, ...] = PAPER, ridge: float = RIDGE, cca_in_training: bool = True) -> Towers:
    """Both encoders under a CCA layer: the baseline, and what passage models start from."""
    model = Towers(SnippetEncoder("sheet", widths), SnippetEncoder("audio", widths), CODE, ridge, cca_in_training)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="linear")
    return model


class Gru(nn.Module):
    """(B, longest, 32), padded, and lengths (B,) to the last hidden state of each (B, 128)."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(CODE, HIDDEN, batch_first=True)

    def forward(self, sequences: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(sequences, lengths, batch_first=True, enforce_sorted=False)
        return self.gru(packed)[1][-1]


class Mean(nn.Module):
    """(B, longest, values), padded with zeros, and lengths (B,) to the mean of each (B, values)."""

    def forward(self, sequences: Tensor, lengths: Tensor) -> Tensor:
        return sequences.sum(1) / lengths.to(sequences.device)[:, None]


class Transformer(nn.Module):
    """(B, longest, 32), padded, and lengths (B,) to the mean (B, 64) of what one layer of attention makes of them.

    52,096 parameters beside the GRU's 62,208.  Positions are sines and cosines, so that any length will do
    (Vaswani et al., NIPS 2017, Section 3.5).
    """

    WIDTH = 64

    def __init__(self):
        super().__init__()
        self.widen = nn.Linear(CODE, self.WIDTH)
        self.layer = nn.TransformerEncoderLayer(
            self.WIDTH, nhead=4, dim_feedforward=4 * self.WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.mean = Mean()

    def forward(self, sequences: Tensor, lengths: Tensor) -> Tensor:
        steps = torch.arange(sequences.shape[1], device=sequences.device)
        rates = torch.exp(torch.arange(0, self.WIDTH, 2, device=sequences.device) * (-math.log(10_000) / self.WIDTH))
        angles = steps[:, None] * rates
        padding = steps >= lengths.to(sequences.device)[:, None]
        values = self.widen(sequences) + torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
        values = self.layer(values, src_key_padding_mask=padding)
        return self.mean(values.masked_fill(padding[..., None], 0), lengths)


class Summary(nn.Module):
    """Snippet vectors (n, 32) of passages, with how many each has, to unit vectors (passages, dimensions)."""

    def __init__(self, summariser: str, dimensions: int):
        super().__init__()
        make, values = {"mean": (Mean, CODE), "transformer": (Transformer, Transformer.WIDTH)}.get(
            summariser, (Gru, HIDDEN)
        )
        self.sequence, self.output = make(), nn.Linear(values, dimensions)
        if summariser == "fixed gru":
            self.sequence.requires_grad_(False)

    def forward(self, vectors: Tensor, lengths: Sequence[int]) -> Tensor:
        if min(lengths) < 1 or sum(lengths) != len(vectors):
            raise ValueError(f"{len(vectors)} snippets are no passages of {list(lengths)}")
        padded = nn.utils.rnn.pad_sequence(vectors.split(list(lengths)), batch_first=True)
        return nn.functional.normalize(self.output(self.sequence(padded, torch.tensor(lengths))).float())


class PassageModel(nn.Module):
    """Passages of both modalities to unit vectors (passages, dimensions).

    Snippets are (n, 1, rows, columns) as in :data:`SNIPPETS`; with ``widths=None`` there are no encoders, and snippets
    are (n, 32) vectors that a snippet model's ``latent`` has made.  ``summariser`` is one of :data:`SUMMARISERS`; a
    "fixed gru" keeps its random weights, as every published model did.

    ``sheet.``, ``audio.`` and ``cca.`` are named as in the snippet model, to be loaded from its weights.  The
    projection comes between encoder and summary, is never trained, and at first changes nothing.
    """

    def __init__(self, summariser: str = "gru", dimensions: int = 64, widths: tuple[int, ...] | None = PAPER):
        if summariser not in SUMMARISERS:
            raise ValueError(f"unknown summariser {summariser!r}, not one of {', '.join(SUMMARISERS)}")
        super().__init__()
        self.sheet, self.audio = (SnippetEncoder(m, widths) if widths else nn.Identity() for m in SNIPPETS)
        self.cca = CcaLayer(CODE)
        self.sheet_summary, self.audio_summary = Summary(summariser, dimensions), Summary(summariser, dimensions)
        for part in (self.sheet, self.audio, self.sheet_summary.output, self.audio_summary.output):
            for module in part.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    nn.init.orthogonal_(module.weight)
                    nn.init.zeros_(module.bias)

    def embed_sheet(self, snippets: Tensor, lengths: Sequence[int]) -> Tensor:
        """Raises ValueError where ``lengths`` do not add up to the snippets, or a passage has none."""
        return self.sheet_summary(self.cca.project_first(self.sheet(snippets)), lengths)

    def embed_audio(self, snippets: Tensor, lengths: Sequence[int]) -> Tensor:
        """Raises ValueError where ``lengths`` do not add up to the snippets, or a passage has none."""
        return self.audio_summary(self.cca.project_second(self.audio(snippets)), lengths)

    def freeze_encoders(self) -> None:
        """Keep the encoders' weights.  As published, statistics of their norms still follow the training batches:
        train on cached vectors where these are to stay too.
        """
        self.sheet.requires_grad_(False)
        self.audio.requires_grad_(False)
