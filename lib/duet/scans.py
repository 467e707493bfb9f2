"""Clean pages made to look like scans of old prints: a stand-in where real scans may not be passed on.

Printing, paper and scanner in the manner of Baird's document image defect models (IAPR workshop on syntactic and
structural pattern recognition, 1990): ink that spreads or fails, skew, blur, threshold and speckle; and besides, what
paper and binding do.  Stands in for the scanned test sets of Carvalho & Widmer, ISMIR 2023, Table 2, which are not
distributed.
"""

from __future__ import annotations

import io
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from . import files
from .corpora.msmd import OTHER_EDITION, Msmd
from .errors import DuetError

#: Pixels by which a scan moves any point of a page, up or down and left or right, at most: less than two staff spaces.
DISPLACEMENT = 12.0
_STEEPEST = 1.0  # degree of rotation
_CELL = 48  # pixels of a page between the nodes of its warp
_VERSION = 1  # raise it when the same page and seed give another scan


class Scans(Msmd):
    """A corpus in MSMD layout whose pages are scanned; boxes, noteheads and performances are those of the clean ones.

    Pages are of the other edition where a piece has one.  Each has its own seed, from ``seed``, its piece and its
    number, and its neighbour shines through.  Annotations are off by :data:`DISPLACEMENT` at most.  Raises DuetError as
    :class:`duet.corpora.msmd.Msmd` does.
    """

    def __init__(self, root: str | Path, seed: int = 0):
        super().__init__(root, other_edition=True)
        self.seed = seed

    @property
    def name(self) -> str:
        return f"{super().name}, scans (stand-in)"

    @cached_property
    def fingerprint(self) -> str:
        return files.digest(super().fingerprint, "scans", str(self.seed), str(_VERSION), str(OTHER_EDITION))

    def pages(self, piece: str) -> list[np.ndarray]:
        clean = super().pages(piece)
        scans = []
        for number, page in enumerate(clean):
            key = files.digest("scan", str(self.seed), piece, str(number))
            back = clean[number ^ 1 if number ^ 1 < len(clean) else number - 1]
            scans.append(scanned(page, np.random.default_rng(int(key[:16], 16)), back))
        return scans


def scanned(page: np.ndarray, rng: np.random.Generator, back: np.ndarray | None = None) -> np.ndarray:
    """The (rows, columns) uint8 page as a scanner sees an old print of it, in the same shape.

    It is turned by at most 1 degree and warped, every point by at most :data:`DISPLACEMENT` pixels up or down and as
    many left or right; lines are thicker, thinner or broken, as another engraver's plates print them.  ``back``, by
    default the page itself, is printed on the back of the leaf and shines through.
    Raises DuetError for what is not a picture of bytes.
    """
    if page.ndim != 2 or page.dtype != np.uint8 or not page.size:
        raise DuetError(f"a page is (rows, columns) uint8, not {page.shape} {page.dtype}")
    left_bound = rng.uniform() < 0.5  # on which side the leaf is bound
    ink = _printed(_bent(page, left_bound, rng), rng)
    light = _paper(page.shape, left_bound, rng)
    light *= 1 - rng.uniform(0.02, 0.13) * _shining(page if back is None else back, page.shape, rng)
    light *= 1 - rng.uniform(0.7, 0.93) * ink
    _soil(light, rng)
    return _digitised(light, rng)


def _smooth(shape: tuple[int, int], rng: np.random.Generator, cell: float) -> np.ndarray:
    """(rows, columns) float32 that varies slowly, around 0 with standard deviation of about 1."""
    nodes = [max(2, round(size / cell) + 1) for size in shape]
    coarse = Image.fromarray(rng.standard_normal(nodes, np.float32))
    return np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC))


def _bent(page: np.ndarray, left_bound: bool, rng: np.random.Generator) -> np.ndarray:
    """The page askew and not flat: a mesh of quadrangles, so that the bound of its nodes holds between them."""
    rows, columns = page.shape
    ys, xs = (np.unique(np.linspace(0, size, max(1, size // _CELL) + 1).round().astype(int)) for size in page.shape)
    angle = np.deg2rad(np.clip(rng.normal(0, 0.35), -_STEEPEST, _STEEPEST))
    down, across = np.meshgrid(ys - rows / 2, xs - columns / 2, indexing="ij")
    bound = across + columns / 2 if left_bound else columns / 2 - across
    moved = np.stack([angle * across, -angle * down])
    moved += rng.uniform(0.3, 1.5) * np.stack([_smooth(down.shape, rng, 5) for _ in range(2)])
    moved[0] += rng.normal(0, 3) * np.exp(-bound / 60)  # leaves rise towards the binding
    moved = np.stack([down + rows / 2, across + columns / 2]) + moved.clip(-DISPLACEMENT, DISPLACEMENT)
    mesh = []
    for i in range(len(ys) - 1):
        for j in range(len(xs) - 1):
            corners = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]
            quadrangle = [moved[axis][corner] for corner in corners for axis in (1, 0)]
            mesh.append(((int(xs[j]), int(ys[i]), int(xs[j + 1]), int(ys[i + 1])), quadrangle))
    picture = Image.fromarray(page)
    picture = picture.transform((columns, rows), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR, fillcolor=255)
    return np.asarray(picture)


def _printed(page: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(rows, columns) float32 from 0 to 1, ink.

    Printed is where the blurred drawing is above a threshold.  A low one spreads the ink, a high one thins and breaks
    the lines; it differs from place to place as pressure does, and from grain to grain of the paper.
    """
    spread = rng.uniform(0.5, 0.85)
    ink = ndimage.gaussian_filter(1 - page.astype(np.float32) / 255, spread, truncate=3)
    line = 1 / (spread * np.sqrt(2 * np.pi))  # what the blur leaves of a line of one pixel
    threshold = line * np.clip(rng.normal(0.42, 0.12) + 0.08 * _smooth(page.shape, rng, 130), 0.16, 0.8)
    ink *= 1 + rng.uniform(0.05, 0.3) * _smooth(page.shape, rng, 2)
    ink /= threshold
    return np.clip(0.5 + rng.uniform(0.5, 1.0) * (ink - 1), 0, 1)  # steepest where lines end, and none on blank paper


def _paper(shape: tuple[int, int], left_bound: bool, rng: np.random.Generator) -> np.ndarray:
    """(rows, columns) float32 of light from 0 to 1: yellowed, stained, darker towards the binding and the edges."""
    rows, columns = shape
    light = rng.uniform(0.78, 0.97) + rng.uniform(0.005, 0.03) * _smooth(shape, rng, 300)
    light += rng.uniform(0.002, 0.012) * _smooth(shape, rng, 5)  # fibres
    near = np.arange(columns, dtype=np.float32) if left_bound else np.arange(columns, dtype=np.float32)[::-1]
    gutter = rng.uniform(0.1, 0.6) * np.exp(-near / rng.uniform(12, 45))
    outer = rng.uniform(0, 0.12) * np.exp(-(columns - 1 - near) / rng.uniform(10, 60))
    light *= (1 - gutter) * (1 - outer)
    for _ in range(rng.poisson(3)):  # stains
        row, column, radius = rng.uniform(0, rows), rng.uniform(0, columns), rng.uniform(5, 70)
        top, left = max(0, int(row - 2 * radius)), max(0, int(column - 2 * radius))
        part = light[top : int(row + 2 * radius) + 1, left : int(column + 2 * radius) + 1]
        y, x = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
        distance = np.sqrt((y - row) ** 2 + (x - column) ** 2) / radius
        part *= 1 - rng.uniform(0.02, 0.1) / (1 + np.exp(np.minimum(9 * (distance - 1), 50))).astype(np.float32)
    return light


def _shining(back: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(rows, columns) float32 from 0 to 1: ink of the back side, mirrored, blurred by the paper, somewhat displaced."""
    picture = Image.fromarray(back).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(1.0, 2.5)))
    behind = Image.new("L", shape[::-1], 255)
    behind.paste(picture, tuple(int(v) for v in rng.integers(-12, 13, 2)))
    return 1 - np.asarray(behind, np.float32) / 255


def _soil(light: np.ndarray, rng: np.random.Generator) -> None:
    """Specks of dirt and, fewer, of missing ink: a pixel or some, in place."""
    rows, columns = light.shape
    count = rng.poisson(rng.uniform(5, 120) * light.size / 1e6)
    for row, column in zip(rng.integers(rows, size=count), rng.integers(columns, size=count), strict=True):
        high, wide = rng.integers(1, 4, 2)
        spot = light[row : row + high, column : column + wide]
        spot += rng.uniform(0.3, 0.8) * (rng.choice([0.1, 0.9], p=[0.75, 0.25]) - spot)


def _digitised(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 of the light: the lens blurs, the sensor adds noise, the program stretches contrast and compresses."""
    light = ndimage.gaussian_filter(light, rng.uniform(0.3, 0.65), truncate=3)
    light += rng.uniform(0.004, 0.025) * rng.standard_normal(light.shape, np.float32)
    black, white = rng.uniform(0.0, 0.12), rng.uniform(0.8, 1.02)
    picture = Image.fromarray((255 * ((light - black) / (white - black)).clip(0, 1)).astype(np.uint8))
    compressed = io.BytesIO()
    picture.save(compressed, "JPEG", quality=int(rng.integers(40, 85)))
    return np.array(Image.open(compressed))
