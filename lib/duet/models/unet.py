"""U-net and bidirectional LSTM from a constant-Q spectrogram to the keys of a piano.

Source: Les & Wozniak, 2023, Figure 1: the transcriber of Cheuk et al., ICPR 2021 (fact sheet, Section 5).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..transcription import BINS, KEYS

PAPER = 1_350_145  # trainable parameters of the published network


class Transcriber(nn.Module):
    """(B, T, 176) in [0, 1] to (B, T, heads, 88) logits.

    ``maps``: channels of the first encoder stage, which double from stage to stage; 16 is the published width.
    ``hidden``: units of the LSTM each way.  With ``onsets`` a second head learns where keys are struck, and three
    things change with it.  Both bins of a semitone become channels, so that a column is a key, at half the cost.  The
    U-net draws a map for each head, since one of what sounds does not tell a repeated note from a held one.  And its
    maps are added to the heads' logits: it learns at once, not through the LSTM, which a published one starts with.
    """

    def __init__(self, maps: int = 16, hidden: int = BINS, onsets: bool = False):
        super().__init__()
        self.onsets = onsets
        widths = [maps, 2 * maps, 4 * maps, 8 * maps]
        heads = fold = 2 if onsets else 1
        self.encoder = nn.ModuleList(Down(i, o) for i, o in zip([fold, *widths], widths, strict=False))
        self.skips = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1) for w in widths[:3])
        self.decoder = nn.ModuleList(
            [
                Up(widths[3], widths[3] + widths[2], widths[2]),
                Up(widths[2], widths[2] + widths[1], widths[1]),
                Up(widths[1], widths[1] + widths[0], widths[0]),
            ]
        )
        self.last = Last(widths[0], heads)
        self.lstm = nn.LSTM(heads * BINS // fold, hidden, batch_first=True, bidirectional=True)
        self.heads = nn.ModuleList(nn.Linear(2 * hidden, KEYS) for _ in range(heads))
        if onsets:
            nn.init.constant_(self.last.convolutions[-1].bias, -4.0)  # keys are silent, mostly

    def forward(self, values: Tensor) -> Tensor:
        x = values.unflatten(2, (-1, len(self.heads))).permute(0, 3, 1, 2)
        x = x.contiguous(memory_format=torch.channels_last)  # convolutions are twice as fast in it
        sizes, halved = [], []
        for stage in self.encoder:
            sizes.append(x.shape[2:])
            x = stage(x)
            halved.append(x)
        for stage, skip, low in zip(self.decoder, reversed(self.skips), (2, 1, 0), strict=True):
            x = stage(x, skip(halved[low]), halved[low].shape[2:])
        drawn = self.last(x, sizes[0]).transpose(1, 2)  # (B, T, heads, 176 or 88)
        x, _ = self.lstm(torch.sigmoid(drawn).flatten(2))
        logits = torch.stack([head(x) for head in self.heads], 2)
        return logits + drawn if self.onsets else logits


def _normed(convolution: nn.Module) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.LeakyReLU(0.01)]


class Down(nn.Module):
    """Two convolutions beside a linear shortcut, then one that halves both axes."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            *_normed(nn.Conv2d(inputs, outputs, 3, padding=1)), *_normed(nn.Conv2d(outputs, outputs, 3, padding=1))
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1)
        self.halve = nn.Conv2d(outputs, outputs, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolutions(x) + self.shortcut(x)
        # odd lengths lose their last row, as in the source; the decoder brings it back
        return self.halve(x)


class Up(nn.Module):
    """Both axes doubled, to the size that the encoder had; the skip beside them; two convolutions."""

    def __init__(self, inputs: int, joined: int, outputs: int):
        super().__init__()
        self.upsample = nn.ConvTranspose2d(inputs, inputs, 2, stride=2)
        self.convolutions = nn.Sequential(
            *_normed(nn.ConvTranspose2d(joined, joined // 2, 3, padding=1)),
            *_normed(nn.ConvTranspose2d(joined // 2, outputs, 3, padding=1)),
        )

    def forward(self, x: Tensor, skip: Tensor, size: torch.Size) -> Tensor:
        return self.convolutions(torch.cat([self.upsample(x, output_size=size), skip], 1))


class Last(nn.Module):
    """Back to full size, without a skip."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.upsample = nn.ConvTranspose2d(inputs, inputs, 2, stride=2)
        self.convolutions = nn.Sequential(
            *_normed(nn.ConvTranspose2d(inputs, inputs // 2, 3, padding=1)),
            nn.ConvTranspose2d(inputs // 2, outputs, 3, padding=1),
        )

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        return self.convolutions(self.upsample(x, output_size=size))
