"""The convolutional recurrent network that reads a picture from left to right and writes tokens (CTC).

The published network is :data:`PAPER`: Alfaro-Contreras et al., SMC 2022, Table 1, with the reading of its code
where the two differ (fact sheet, Sections 4 and 8): 3,751,247 trainable parameters at 256 rows and 1,167 outputs.
Layers 1 to 5 are the paper's: two convolutional blocks, two bidirectional LSTMs, one dense layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import DuetError


@dataclass(frozen=True)
class CRNNShape:
    """What distinguishes one arm's network from another's; rows and outputs come from the data."""

    filters: tuple[int, int] = (8, 8)
    kernels: tuple[tuple[int, int], tuple[int, int]] = ((10, 2), (8, 5))  # rows x columns
    pools: tuple[tuple[int, int], tuple[int, int]] = ((2, 2), (2, 1))  # rows x columns
    hidden: int = 256  # units of each LSTM direction
    dropout: float = 0.5  # on the input of each LSTM
    normalise: bool = False  # layer normalisation of each column before the first LSTM


PAPER = CRNNShape()
#: Learns in fewer updates, at 64 rows above all: one pooling less keeps a pitch in one row, LayerNorm breaks CTC's
#: plateau earlier, and half as many steps halve the recurrent work.
FAST = CRNNShape(
    filters=(16, 16), kernels=((5, 3), (3, 3)), pools=((2, 2), (1, 2)), hidden=192, dropout=0.2, normalise=True
)
#: The same with a step for every second column: at four columns a step quick notes of a recording share one.
FAST_AUDIO = replace(FAST, pools=((2, 2), (1, 1)))
SHAPES = {"paper": PAPER, "fast": FAST, "fast-audio": FAST_AUDIO}

#: Table 2's columns: the layers that keep the source's weights, written first:last
FREEZING = {"N/A": (), "5:5": (5,), "4:5": (4, 5), "3:5": (3, 4, 5), "2:5": (2, 3, 4, 5)}


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm, LeakyReLU 0.2, max pooling.  (B, C, H, W) -> (B, filters, H/p, W/q)."""

    def __init__(self, inputs: int, filters: int, kernel: tuple[int, int], pool: tuple[int, int]):
        super().__init__()
        rows, columns = kernel
        # "same" padding of even kernels puts the extra row below and the extra column right, as Keras does
        self.pad = ((columns - 1) // 2, columns // 2, (rows - 1) // 2, rows // 2)
        self.conv = nn.Conv2d(inputs, filters, kernel, bias=False)
        self.norm = nn.BatchNorm2d(filters, eps=1e-3, momentum=0.01)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        # pooling before the activation is the same function (both are monotone) on a quarter of the values
        return F.leaky_relu(F.max_pool2d(self.norm(self.conv(F.pad(x, self.pad))), self.pool), 0.2)


class CRNN(nn.Module):
    """(B, rows, columns) pictures in [0, 1] -> (steps, B, outputs) logits; the last output is CTC's blank.

    Raises DuetError where the rows do not survive the pooling.
    """

    def __init__(self, rows: int, outputs: int, shape: CRNNShape = PAPER):
        super().__init__()
        self.rows, self.outputs, self.shape = rows, outputs, shape
        pooled = rows
        for pool in shape.pools:
            pooled //= pool[0]
        if pooled < 1:
            raise DuetError(f"{rows} rows are too few for this network", remedy="use pictures of at least 4 rows")
        features = pooled * shape.filters[1]
        self.layer1 = ConvBlock(1, shape.filters[0], shape.kernels[0], shape.pools[0])
        self.layer2 = ConvBlock(shape.filters[0], shape.filters[1], shape.kernels[1], shape.pools[1])
        self.normalise = nn.LayerNorm(features) if shape.normalise else nn.Identity()
        self.layer3 = nn.LSTM(features, shape.hidden, bidirectional=True)
        self.layer4 = nn.LSTM(2 * shape.hidden, shape.hidden, bidirectional=True)
        self.layer5 = nn.Linear(2 * shape.hidden, outputs)
        self._initialise()

    def _initialise(self) -> None:
        """Glorot kernels, orthogonal recurrence, forget bias 1, one bias vector a direction, as in Keras.

        One difference: Keras makes the four gates' recurrence orthogonal as one matrix, here each gate is, which
        starts it twice as large.
        """
        for name, parameter in self.named_parameters():
            if "norm" in name:
                continue
            if "weight_hh" in name:
                for gate in parameter.data.chunk(4):
                    nn.init.orthogonal_(gate)
            elif "weight" in name:
                nn.init.xavier_uniform_(parameter)
            elif "bias_hh" in name:  # torch has two bias vectors, the paper's framework one: the other stays zero
                nn.init.zeros_(parameter)
                parameter.requires_grad_(False)
            elif "bias" in name:
                nn.init.zeros_(parameter)
                if "bias_ih" in name:
                    hidden = self.shape.hidden
                    parameter.data[hidden : 2 * hidden] = 1.0

    def steps(self, columns: Tensor | int) -> Tensor | int:
        """Output steps of a picture of so many columns: 2 columns a step in the paper's network."""
        for pool in self.shape.pools:
            columns = columns // pool[1]
        return columns

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.layer2(self.layer1(pictures.unsqueeze(1)))  # (B, C, H', T)
        x = x.permute(3, 0, 2, 1).flatten(2)  # (T, B, H' * C): time is the columns, a step sees all rows and filters
        x = self.normalise(x)
        x, _ = self.layer3(F.dropout(x, self.shape.dropout, self.training))
        x, _ = self.layer4(F.dropout(x, self.shape.dropout, self.training))
        return self.layer5(x)

    def freeze(self, layers: tuple[int, ...]) -> None:
        """Keep these layers (1 to 5) as they are.  A frozen batch norm also stops re-estimating its statistics."""
        for number in layers:
            layer = getattr(self, f"layer{number}")
            layer.requires_grad_(False)
            layer.frozen = True

    def train(self, mode: bool = True) -> CRNN:
        super().train(mode)
        for layer in self.children():
            if getattr(layer, "frozen", False):
                for module in layer.modules():  # not the LSTMs: cuDNN sends no gradient through one that evaluates
                    if isinstance(module, nn.BatchNorm2d):
                        module.eval()
        return self

    def trainable(self) -> int:
        """Number of parameters that training changes."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def layer_table(rows: int, outputs: int, shape: CRNNShape = PAPER) -> list[dict]:
    """One row a layer of the paper's Table 1, with its trainable parameters counted on the network itself."""
    network = CRNN(rows, outputs, shape)
    (f1, f2), (k1, k2), (p1, p2) = shape.filters, shape.kernels, shape.pools
    layers = {
        1: f"Conv({f1}, {k1[1]}x{k1[0]}), BatchNorm, LeakyReLU(0.20), MaxPool({p1[1]}x{p1[0]})",
        2: f"Conv({f2}, {k2[1]}x{k2[0]}), BatchNorm, LeakyReLU(0.20), MaxPool({p2[1]}x{p2[0]})",
        3: f"BLSTM({shape.hidden}), Dropout({shape.dropout:.2f})",
        4: f"BLSTM({shape.hidden}), Dropout({shape.dropout:.2f})",
        5: f"Dense({outputs}), Softmax",
    }
    return [
        {
            "layer": n,
            "operation": text,
            "parameters": sum(p.numel() for p in getattr(network, f"layer{n}").parameters() if p.requires_grad),
        }
        for n, text in layers.items()
    ]
