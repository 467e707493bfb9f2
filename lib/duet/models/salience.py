"""Deep salience: a harmonic CQT goes in, how salient a melody is comes out for every frame and bin.

:data:`PAPER` is the network of Bittner et al., "Deep salience representations for F0 estimation in polyphonic music",
ISMIR 2017, as its package publishes it for melodies (fact sheet, Section 6): 406,253 trainable parameters and 668
statistics.  With those weights it is the baseline C_Bit of Zalkow & Mueller, ISMIR 2020.  :data:`SMALL` is the same
idea on our own HCQT, for machines without a GPU, trained by us on rendered music.

As in the chroma network frequency is the rows of the picture, time the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import training
from ..features import DYNAMIC_RANGE, SAMPLE_RATE
from ..harmonic import FMIN, HARMONICS, HOP, RATE, normalise_columns
from .chroma import in_blocks, keras_layers, load_keras


@dataclass(frozen=True)
class SalienceShape:
    """What distinguishes one salience network from another; kernels are frequency x time."""

    bins: int
    stride: int  # of the first layer, in bins
    maps: tuple[int, ...]
    kernels: tuple[tuple[int, int], ...]

    @property
    def context(self) -> int:
        """Frames that an output sees to either side."""
        return sum(time // 2 for _, time in self.kernels)


#: 60 bins an octave, six octaves, 86.13 frames a second: the long kernel spans 14 semitones
PAPER = SalienceShape(360, 1, (128, 64, 64, 64, 8), ((5, 5), (5, 5), (3, 3), (3, 3), (70, 3)))
#: 36 bins an octave, 25 frames a second; behind the first layer one bin a semitone, the long kernel spans the same 14
SMALL = SalienceShape(216, 3, (32, 36, 36, 36, 8), ((5, 3), (3, 3), (3, 3), (3, 3), (14, 3)))
SHAPES = {"paper": PAPER, "small": SMALL}


class DeepSalience(nn.Module):
    """(B, frames, 6, bins) in [0, 1] -> (B, frames, bins / stride) logits; their sigmoid is the salience.

    Channels are the harmonics 0.5, 1, 2, 3, 4, 5, values dB above the floor, columns not normalised.  Batch norm, then
    convolution, ReLU, layer by layer; one bin's eight maps become its salience.
    """

    def __init__(self, shape: SalienceShape = PAPER):
        super().__init__()
        self.shape = shape
        inputs, stride = len(HARMONICS), shape.stride
        for number, (maps, kernel) in enumerate(zip((*shape.maps, 1), (*shape.kernels, (1, 1)), strict=True), 1):
            convolution = nn.Conv2d(inputs, maps, kernel, stride=(stride, 1))
            nn.init.xavier_uniform_(convolution.weight)
            nn.init.zeros_(convolution.bias)
            setattr(self, f"norm{number}", nn.BatchNorm2d(inputs, eps=1e-3, momentum=0.01))
            setattr(self, f"conv{number}", convolution)
            inputs, stride = maps, 1
        self.to(memory_format=torch.channels_last)

    def forward(self, hcqt: Tensor) -> Tensor:
        x = hcqt.permute(0, 2, 3, 1).contiguous(memory_format=torch.channels_last)  # (B, harmonics, bins, frames)
        for number in range(1, len(self.shape.maps) + 1):
            x = F.relu(self._layer(number, x), inplace=True)
        return self._layer(len(self.shape.maps) + 1, x).squeeze(1).transpose(1, 2)

    def _layer(self, number: int, x: Tensor) -> Tensor:
        norm, convolution = getattr(self, f"norm{number}"), getattr(self, f"conv{number}")
        rows, columns = convolution.kernel_size
        # "same" padding of an even kernel puts the extra row above in frequency, as TensorFlow does; with a stride of
        # three bins an odd kernel is centred on every third of them
        pad = ((columns - 1) // 2, columns // 2, (rows - 1) // 2, rows // 2)
        return convolution(F.pad(norm(x), pad))


def layer_table(shape: SalienceShape = PAPER) -> list[dict]:
    """One row a layer (kernels as frequency x time), with its parameters and statistics counted on the network."""
    network, last = DeepSalience(shape), len(shape.maps) + 1
    rows = []
    for number in range(1, last + 1):
        norm, convolution = getattr(network, f"norm{number}"), getattr(network, f"conv{number}")
        frequency, time = convolution.kernel_size
        stride = f", frequency stride {shape.stride}" if convolution.stride[0] > 1 else ""
        rows.append(
            {
                "layer": f"BatchNorm, Conv2D {number}{stride}",
                "output": f"N x {shape.bins // shape.stride} x {convolution.out_channels}",
                "kernel": f"{frequency} x {time}",
                "activation": "sigmoid" if number == last else "ReLU",
                "parameters": sum(p.numel() for layer in (norm, convolution) for p in layer.parameters()),
                "statistics": 2 * norm.num_features,
            }
        )
    return rows


def salience_of(model: DeepSalience, hcqt: np.ndarray, block: int = 1024) -> np.ndarray:
    """(frames, 6, bins) uint8 of a whole recording -> (frames, bins / stride) float32 salience in [0, 1].

    ``block`` frames at a time, overlapping by the frames that the network sees, so that their size does not change
    the result.  Raises DuetError for an array of another shape or without frames.
    """
    outputs = in_blocks(model, hcqt, lambda values: values.float() / 255, model.shape.bins, model.shape.context, block)
    return torch.cat([logits.sigmoid() for logits in outputs]).numpy()


def to_chroma(salience: np.ndarray, bins_per_semitone: int, lowest: int = 24) -> np.ndarray:
    """(frames, bins) salience -> (12, frames) float32 chroma of unit length; row 0 is C.

    Bin 0 is the centre of MIDI pitch ``lowest``, C1 by default; each bin counts for the nearest semitone.  A frame
    without salience is uniform.
    """
    pitch = lowest + (np.arange(salience.shape[1]) + bins_per_semitone // 2) // bins_per_semitone
    pooling = np.eye(12, dtype=np.float32)[pitch % 12]
    return normalise_columns(salience.astype(np.float32) @ pooling).T


def published_chroma(model: DeepSalience, audio: np.ndarray) -> np.ndarray:
    """(12, frames) float32 chroma of unit length at 25 Hz by the published network, from ``audio`` at 22,050 Hz.

    Its input has 60 bins an octave and 86.13 frames a second, dB below the recording's maximum, no column norm; it is
    computed for the whole recording at once, some 190 kilobytes a second of audio.  Salience is summed to chroma and
    the median taken of the frames in each 25th of a second.  A silent frame is uniform.
    """
    settings = dict(sr=SAMPLE_RATE, hop_length=HOP, n_bins=PAPER.bins, bins_per_octave=PAPER.bins // 6, tuning=0.0)
    magnitude = [np.abs(librosa.cqt(audio, fmin=FMIN * h, **settings)).astype(np.float32) for h in HARMONICS]
    decibel = librosa.amplitude_to_db(np.stack(magnitude), ref=np.max, top_db=DYNAMIC_RANGE)
    hcqt = np.rint(255 * (decibel / DYNAMIC_RANGE + 1)).astype(np.uint8).transpose(2, 0, 1)
    semitone = (np.arange(PAPER.bins) + 2) // 5
    fine = salience_of(model, hcqt) @ np.eye(12, dtype=np.float32)[semitone % 12]
    group = np.arange(len(fine)) * HOP * RATE // SAMPLE_RATE  # the frame of the result that each belongs to
    edges = np.searchsorted(group, np.arange(group[-1] + 2))
    return normalise_columns(np.stack([np.median(fine[a:b], 0) for a, b in zip(edges, edges[1:], strict=False)])).T


def convert_keras_weights(h5_path: str | Path, safetensors_path: str | Path) -> None:
    """The published weights (rabitt/ismir2017-deepsalience, ``melody2.h5``) as safetensors for ``DeepSalience()``.

    The file is of Keras's first years: of each batch norm gamma, beta, mean and variance, of each convolution a kernel
    (frequency, time, in, out) and a bias, layer by layer.  ``training.load_into(DeepSalience(), safetensors_path)``
    then loads the result.  Raises DuetError for a damaged file and for weights of another network; nothing is written
    then.
    """
    model = DeepSalience()
    norm, convolution = ("weight", "bias", "running_mean", "running_var"), ("weight", "bias")
    names = [
        f"{layer}{number}.{kind}"
        for number in range(1, len(PAPER.maps) + 2)
        for layer, kinds in (("norm", norm), ("conv", convolution))
        for kind in kinds
    ]
    load_keras(model, names, keras_layers(h5_path), (3, 2, 0, 1), h5_path)
    training.save_weights(model, safetensors_path, {"network": "DeepSalience", "converted_from": Path(h5_path).name})
