"""Two encoders into one space: windows of a page and excerpts of a spectrogram, side by side.

Sources: Dorfer, Arzt & Widmer, ISMIR 2017, Table 1; a dense layer in place of the mean as in Balke et al., ISMIR 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .cca import RIDGE, CcaLayer

DIMENSIONS = 32
PAPER = (12, 24, 48, 48)  # maps of the four blocks: 83,884 trainable parameters with the last layer
PAPER_PARAMETERS = 83_884


class Encoder(nn.Sequential):
    """(B, 1, rows, columns) to (B, 32): four blocks of two convolutions, then a mean over what is left of the picture.

    With ``picture``, its rows and columns, there is a dense layer instead of the mean, which knows where things are.

    Convolutions have no bias, since batch normalisation, which comes before the ELU, brings its own.  A block is pooled
    before its last ELU, not after it: the ELU is monotone, so that the values are the same, and a quarter as many.
    """

    def __init__(
        self, maps: tuple[int, ...] = PAPER, dimensions: int = DIMENSIONS, picture: tuple[int, int] | None = None
    ):
        layers: list[nn.Module] = []
        for inputs, outputs in zip([1, *maps], maps, strict=False):
            convolution, norm, elu = _block(outputs, outputs)
            layers += [*_block(inputs, outputs), convolution, norm, nn.MaxPool2d(2), elu]
        layers += [nn.Conv2d(maps[-1], dimensions, 1, bias=False), nn.BatchNorm2d(dimensions)]
        if picture is None:
            layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        else:
            left = math.prod(side // 2 ** len(maps) for side in picture)
            layers += [nn.Flatten(), nn.Linear(dimensions * left, dimensions)]
        super().__init__(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ELU()]


class Towers(nn.Module):
    """An encoder of sheet windows (B, 1, rows, columns) and one of audio excerpts (B, 1, 92, frames), which both give
    (B, dimensions), under one CCA layer: unit vectors.
    """

    def __init__(
        self, sheet: nn.Module, audio: nn.Module, dimensions: int, ridge: float = RIDGE, cca_in_training: bool = True
    ):
        super().__init__()
        self.sheet, self.audio = sheet, audio
        self.cca = CcaLayer(dimensions, ridge, cca_in_training)

    def forward(self, sheet: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Both at once: in training the projections come from this very batch."""
        one, two = self.cca(self._encode(self.sheet, sheet), self._encode(self.audio, audio))
        return nn.functional.normalize(one), nn.functional.normalize(two)

    def embed_sheet(self, sheet: Tensor) -> Tensor:
        """(B, dimensions) unit vectors, with the stored projections."""
        return nn.functional.normalize(self.cca.project_first(self._encode(self.sheet, sheet)))

    def embed_audio(self, audio: Tensor) -> Tensor:
        """(B, dimensions) unit vectors, with the stored projections."""
        return nn.functional.normalize(self.cca.project_second(self._encode(self.audio, audio)))

    def latent(self, sheet: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Both before the projection: what a refinement of it looks at."""
        return self._encode(self.sheet, sheet), self._encode(self.audio, audio)

    @torch.no_grad()
    def refine(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Store the projections of many pairs, batches of windows and excerpts, in place of the last batch's."""
        where = next(self.parameters()).device
        parts = [self.latent(sheet.to(where), audio.to(where)) for sheet, audio in batches]
        self.cca.refine(*(torch.cat(side) for side in zip(*parts, strict=True)))

    @staticmethod
    def _encode(encoder: nn.Module, pictures: Tensor) -> Tensor:
        # convolutions are faster in this order; the embedding is small, and its algebra wants precision
        return encoder(pictures.contiguous(memory_format=torch.channels_last)).float()


class TwoTowers(Towers):
    """The paper's: windows and excerpts to unit vectors (B, 32).

    ``pictures``: rows and columns of both sides, where dense layers take the place of means, and nothing is projected
    in training.
    """

    def __init__(
        self,
        maps: tuple[int, ...] = PAPER,
        dimensions: int = DIMENSIONS,
        ridge: float = RIDGE,
        pictures: tuple[tuple[int, int], tuple[int, int]] | None = None,
    ):
        encoders = (Encoder(maps, dimensions, picture) for picture in pictures or (None, None))
        super().__init__(*encoders, dimensions, ridge, cca_in_training=pictures is None)


def in_batches(
    model: nn.Module,
    embed: Callable[[Tensor], Tensor],
    items: Sequence | Tensor,
    cut: Callable[[Sequence], Tensor] | None = None,
) -> np.ndarray:
    """(n, values): items, or what ``cut`` makes of them, through one of the model's methods, 64 at a time."""
    where, parts = next(model.parameters()).device, []
    with torch.no_grad():
        for start in range(0, len(items), 64):
            own = items[start : start + 64]
            parts.append(embed((cut(own) if cut else own).to(where)).cpu().numpy())
    return np.concatenate(parts)
