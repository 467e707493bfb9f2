"""The deep chroma network: a harmonic CQT goes in, twelve chroma labels and epsilon come out for every frame.

:class:`ChromaNet` with stride 1 is the published network: Zalkow & Mueller, ISMIR 2020, Section 3 and Table 2, with the
reading of its released checkpoints where the paper is silent (fact sheet, Section 3): 72,970 trainable parameters and a
fixed matrix of 2,592.  It sees five frames to either side.  With stride 3 its first layer leaves one bin a semitone,
which is the same network for a fifth of the work.

Inside, frequency is the rows of the picture and time the columns: with time as rows the long kernel of the fifth layer
takes nine times as long on a CPU in single precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import training
from ..errors import DuetError
from ..harmonic import BINS, HARMONICS, normalise_columns

EPSILON = 12  # the last of the 13 labels
CONTEXT = 5  # frames that an output sees to either side
SLOPE = 0.3  # of the leaky ReLU


class ChromaNet(nn.Module):
    """(B, frames, 6, 216) columns of unit length -> (B, frames, 13) logits: C, C#, ..., B and epsilon.

    A chroma logit is the sum of 18 sigmoids, in [0, 18].  Bin k counts for chroma floor(k / 3) mod 12 as in the
    released weights, though bin 3 s is the centre of semitone s; ``centred`` takes bins 3 s - 1 to 3 s + 1.  With
    ``stride`` 3 the bins left are semitones, centred either way, and count three times.

    ``quick`` starts where training takes hundreds of updates and not thousands.  Values of a unit column are about a
    fifteenth, so that the layers pass on next to nothing of it at first: it is multiplied by 216^0.5.  And epsilon,
    which must come to lead nearly everywhere before labels can become spikes, starts 2 above the chroma logits' 9.
    """

    def __init__(self, stride: int = 1, centred: bool = False, quick: bool = False):
        super().__init__()
        self.gain = BINS**0.5 if quick else 1.0
        if stride not in (1, 3):
            raise DuetError(f"the chroma network has no stride of {stride} bins", remedy="choose 1 or 3")
        bins, long = BINS // stride, 42 // stride
        self.conv1 = nn.Conv2d(len(HARMONICS), 64, (3, 3), stride=(stride, 1), padding=1)
        self.conv2 = nn.Conv2d(64, 32, (3, 3), padding=1)
        self.conv3 = nn.Conv2d(32, 32, (3, 3), padding=1)
        self.conv4 = nn.Conv2d(32, 32, (3, 3), padding=1)
        self.conv5 = nn.Conv2d(32, 8, (long, 3))
        self.conv6 = nn.Conv2d(8, 1, (1, 1))
        # "same" padding of an even kernel puts the extra row above in frequency, as TensorFlow does
        self.pad = (1, 1, (long - 1) // 2, long // 2)
        semitone = (torch.arange(bins) * stride + centred) // 3
        self.register_buffer("pooling", stride * F.one_hot(semitone % 12, 12).float())
        self.epsilon = nn.Linear(bins, 1)
        for module in self.children():
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        if quick:
            nn.init.constant_(self.epsilon.bias, 11.0)
        self.to(memory_format=torch.channels_last)

    def forward(self, columns: Tensor) -> Tensor:
        x = columns.permute(0, 2, 3, 1).contiguous(memory_format=torch.channels_last)  # (B, harmonics, bins, frames)
        x = x * self.gain
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.leaky_relu(layer(x), SLOPE, inplace=True)
        x = F.leaky_relu(self.conv5(F.pad(x, self.pad)), SLOPE, inplace=True)
        x = torch.sigmoid(self.conv6(x)).squeeze(1).transpose(1, 2)  # (B, frames, bins): a kind of pitch salience
        return torch.cat([x @ self.pooling.to(x.dtype), self.epsilon(x)], -1)


def layer_table(stride: int = 1) -> list[dict]:
    """One row a layer of the paper's Table 2 (kernels as time x frequency), its parameters counted on the network."""
    network, bins = ChromaNet(stride), BINS // stride
    rows = []
    for name, layer in network.named_children():
        if layer is network.epsilon:
            break
        time, frequency = layer.kernel_size[::-1]
        rows.append(
            {
                "layer": f"Conv2D {name[-1]}" + (f", frequency stride {stride}" if max(layer.stride) > 1 else ""),
                "output": f"N x {bins} x {layer.out_channels}",
                "kernel": f"{time} x {frequency}",
                "activation": "sigmoid" if layer is network.conv6 else f"leaky ReLU ({SLOPE})",
                "parameters": sum(p.numel() for p in layer.parameters()),
            }
        )
    rest = {
        "Squeeze": (f"N x {bins}", "", 0),
        "Chroma pooling (fixed)": ("N x 12", "linear", 0),
        "Dense (epsilon)": ("N x 1", "linear", sum(p.numel() for p in network.epsilon.parameters())),
        "Concatenate": ("N x 13", "softmax", 0),
    }
    return rows + [
        {"layer": layer, "output": output, "kernel": "", "activation": activation, "parameters": parameters}
        for layer, (output, activation, parameters) in rest.items()
    ]


def probabilities(logits: Tensor) -> Tensor:
    """(..., 13) logits -> (..., 13) float32 that sum to one."""
    return logits.float().softmax(-1)


def chroma_features(logits: Tensor) -> Tensor:
    """(..., frames, 13) logits -> (..., 12, frames) float32: epsilon dropped, frames of unit length (Section 3).

    The norm cancels epsilon's share, whatever it is; dividing it out before rather than after keeps a frame where it is
    all but certain.
    """
    return normalise_columns(logits[..., :EPSILON].float().softmax(-1)).transpose(-1, -2)


def features_of(model: ChromaNet, hcqt: np.ndarray, block: int = 1024) -> np.ndarray:
    """(frames, 6, 216) uint8 of a whole recording -> (12, frames) float32 chroma, ``block`` frames at a time.

    Blocks overlap by the frames that the network sees: their size does not change the result.  Raises DuetError for
    an array of another shape or without frames.
    """
    outputs = in_blocks(model, hcqt, normalise_columns, BINS, CONTEXT, block)
    return torch.cat([chroma_features(logits) for logits in outputs], 1).numpy()


@torch.inference_mode()
def in_blocks(
    model: nn.Module, hcqt: np.ndarray, prepare: Callable[[Tensor], Tensor], bins: int, context: int, block: int
) -> Iterator[Tensor]:
    """Outputs (``block`` frames or the rest, ...) of a network that sees ``context`` frames to either side, on the CPU.

    ``prepare`` makes the network's input of (frames, 6, bins) uint8 on its device.
    """
    if hcqt.ndim != 3 or hcqt.shape[1:] != (len(HARMONICS), bins) or not len(hcqt):
        raise DuetError(f"a harmonic CQT has the shape (frames, {len(HARMONICS)}, {bins}), not {hcqt.shape}")
    model.eval()
    where = next(model.parameters()).device
    for start in range(0, len(hcqt), block):
        first = max(0, start - context)
        # a copy: memory-mapped features are read-only
        columns = torch.from_numpy(hcqt[first : start + block + context].copy()).to(where)
        yield model(prepare(columns)[None])[0, start - first :][:block].float().cpu()


# -- released weights --------------------------------------------------------------------------------------------------


def keras_layers(path: str | Path) -> list[list[np.ndarray]]:
    """The weights of a Keras HDF5 file, float32, one list for each layer that has any, in the network's order.

    Reads ``model.save`` (weights under "model_weights") and ``save_weights`` of Keras 1 and 2: the root's attribute
    "layer_names" names the groups, each group's "weight_names" its arrays, directly or in nested groups.  Nothing in
    the file is executed.  Raises DuetError for a missing, damaged or different file.
    """
    import h5py  # here: only those who have such weights need it

    try:
        with h5py.File(path, "r") as file:
            root = file["model_weights"] if "model_weights" in file else file
            groups = [root[_text(name)] for name in root.attrs["layer_names"]]
            layers = [
                [np.asarray(group[_text(name)][()], np.float32) for name in group.attrs["weight_names"]]
                for group in groups
            ]
    except FileNotFoundError:
        raise DuetError("no such weights", path=path, remedy="download the released package's file") from None
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise DuetError(
            f"is not a readable Keras weights file: {error}", path=path, remedy="download it again, format HDF5 (.h5)"
        ) from None
    return [layer for layer in layers if layer]


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def load_keras(
    model: nn.Module,
    names: Sequence[str],
    layers: Sequence[Sequence[np.ndarray]],
    axes: Sequence[int],
    path: str | Path,
) -> None:
    """Load the arrays of :func:`keras_layers` as ``names``, one to one, into ``model``.

    ``axes`` orders a convolution's Keras axes as (out, in, frequency, time).  Raises DuetError unless all fit and are
    finite; the model is untouched then.
    """
    arrays, own, state = [array for layer in layers for array in layer], model.state_dict(), {}
    if len(arrays) != len(names):
        raise _another_network(path, f"{len(arrays)} arrays, needed {len(names)}")
    for name, array in zip(names, arrays, strict=True):
        if array.ndim == 4:
            array = array.transpose(axes)
        elif name.endswith("weight"):
            array = array.T
        if array.shape != tuple(own[name].shape):
            raise _another_network(path, f"{name} is {array.shape}, needed {tuple(own[name].shape)}")
        if not np.isfinite(array).all():
            raise DuetError("holds weights that are no numbers", path=path, remedy="download it again")
        state[name] = torch.from_numpy(array.copy())
    model.load_state_dict({**own, **state})


def _another_network(path: str | Path, what: str) -> DuetError:
    return DuetError(f"is of another network: {what}", path=path, remedy="take the weights of the published network")


def convert_keras_weights(h5_path: str | Path, safetensors_path: str | Path) -> None:
    """A checkpoint of the released package (fzalkow/ctc_chroma) as safetensors for ``ChromaNet()``; needed once.

    ``training.load_into(ChromaNet(), safetensors_path)`` then loads it.  Raises DuetError for a damaged file and for
    weights of another network; nothing is written then.
    """
    model, layers = ChromaNet(), keras_layers(h5_path)
    names = [f"conv{number}.{kind}" for number in range(1, 7) for kind in ("weight", "bias")]
    # the two layers at the end stand side by side in the network, and in either order in a file
    ordered = layers[:6] + sorted(layers[6:], key=lambda layer: layer[0].size, reverse=True)
    # Keras has (time, frequency, in, out)
    load_keras(model, [*names, "pooling", "epsilon.weight", "epsilon.bias"], ordered, (3, 2, 1, 0), h5_path)
    training.save_weights(model, safetensors_path, {"network": "ChromaNet", "converted_from": Path(h5_path).name})
