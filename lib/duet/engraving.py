"""Notation to images: Verovio engraves, resvg rasterises, and a simulated camera takes a picture.

Images are (rows, columns) uint8, 255 paper and 0 ink.
"""

from __future__ import annotations

import io
import re
from functools import cache

import numpy as np
import resvg_py
import verovio
from PIL import Image, ImageFilter

from .errors import DuetError

#: Verovio's engraving fonts; a corpus mixes them so that a model cannot learn one drawing of a clef.
FONTS = ("Leipzig", "Bravura", "Gootville", "Leland", "Petaluma")
STAFF_SPACES = 14  # a staff image shows the staff (4 spaces) and 5 above and below it
IMAGE_HEIGHT = 128  # rows of a staff image whose notes stay within those spaces
_UNITS_PER_SPACE = 180  # in Verovio's drawing units, at its default size
_PIXELS_PER_SPACE = IMAGE_HEIGHT / STAFF_SPACES


@cache
def _toolkit() -> verovio.toolkit:
    """One toolkit per process: making one takes as long as engraving a hundred incipits."""
    verovio.enableLog(verovio.LOG_OFF)
    return verovio.toolkit()


def mei_from_pae(clef: str, keysig: str, timesig: str, data: str) -> str:
    """Plaine & Easie, the code of RISM's incipits, as MEI.

    Raises DuetError where Verovio finds the code faulty.
    """
    toolkit = _toolkit()
    code = f"@clef:{clef}\n@keysig:{keysig}\n@timesig:{timesig}\n@data:{data}\n"
    toolkit.setOptions({"inputFrom": "pae", "xmlIdSeed": 1})
    if complaints := toolkit.validatePAE(code):
        raise DuetError(f"the Plaine & Easie code {data[:40]!r} is not valid: {str(complaints)[:120]}")
    if not toolkit.loadData(code):
        raise DuetError(f"Verovio cannot read the Plaine & Easie code {data[:40]!r}")
    return toolkit.getMEI()


def engrave_staff(mei: str, font: str = "Leipzig") -> str:
    """SVG of one unbroken staff.

    The horizontal spacing is tighter than Verovio's default, about two thirds of it: it keeps an incipit's
    image as long as its sound and halves the cost of every recurrent step.
    """
    toolkit = _toolkit()
    toolkit.setOptions(
        {
            "inputFrom": "mei",
            "font": font,
            "breaks": "none",
            "adjustPageWidth": True,
            "adjustPageHeight": True,
            "header": "none",
            "footer": "none",
            "svgViewBox": True,
            "scale": 100,
            "spacingLinear": 0.15,
            "spacingNonLinear": 0.55,
            "pageMarginTop": 50,
            "pageMarginBottom": 50,
            "pageMarginLeft": 30,
            "pageMarginRight": 30,
        }
    )
    if not toolkit.loadData(mei):
        raise DuetError("Verovio cannot read this MEI", remedy="check the file in an MEI validator")
    return toolkit.renderToSVG(1)


def rasterise(svg: str, zoom: float) -> np.ndarray:
    """(rows, columns) uint8 of an SVG, on white paper."""
    try:
        png = resvg_py.svg_to_bytes(svg_string=svg, zoom=zoom, background="#ffffff", skip_system_fonts=True)
    except ValueError as error:
        raise DuetError(f"the engraving cannot be drawn: {error}") from error
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("L"))


def staff_image(mei: str, font: str = "Leipzig") -> np.ndarray:
    """(128, columns) uint8: the staff centred vertically, 5 staff spaces above and below it.

    Notes on more ledger lines than that make the image taller, still centred on the staff.
    """
    svg = engrave_staff(mei, font)
    image = rasterise(svg, _PIXELS_PER_SPACE * 10 / _UNITS_PER_SPACE)
    margin = int(re.search(r'class="page-margin" transform="translate\(-?\d+, (-?\d+)\)', svg)[1])
    lines = [int(y) for y in re.findall(r'<path d="M-?\d+ (-?\d+) L-?\d+ \1"', svg)[:5]]
    centre = round((margin + lines[2]) / _UNITS_PER_SPACE * _PIXELS_PER_SPACE)
    dark_rows = np.flatnonzero(image.min(1) < 128)
    reach = max(IMAGE_HEIGHT // 2, centre - dark_rows[0] + 4, dark_rows[-1] - centre + 5)
    padded = np.pad(image, ((reach, reach), (0, 0)), constant_values=255)
    return np.ascontiguousarray(padded[centre : centre + 2 * reach])


def photograph(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image as a hand-held camera might see it: perspective, rotation, shading, blur, noise.

    A stand-in for Camera-PrIMuS's distortion (Calvo-Zaragoza & Rizo, ISMIR 2018, Section 3), whose exact
    parameters are not published.  Shape and dtype are kept.
    """
    rows, columns = image.shape
    # each corner moves on its own: together they rotate, shear, scale and tilt the page
    tilt = rng.uniform(-0.02, 0.02) * rows
    shift = rng.uniform(-0.02, 0.02, (4, 2)) * rows
    corners = np.array([[0, 0], [0, rows], [columns, rows], [columns, 0]], float) + shift
    corners[:, 1] += np.array([-tilt, -tilt, tilt, tilt])
    picture = Image.fromarray(image).transform(
        (columns, rows),
        Image.Transform.PERSPECTIVE,
        _perspective(columns, rows, corners),
        resample=Image.Resampling.BILINEAR,
        fillcolor=255,
    )
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.0)))
    light = np.asarray(picture, np.float32) / 255
    ink, paper = rng.uniform(0.0, 0.3), rng.uniform(0.75, 1.0)
    light = ink + (paper - ink) * light
    # a lamp from one side, and the slow unevenness of the paper
    shade = np.asarray(
        Image.fromarray(rng.uniform(0.85, 1.1, (3, 6)).astype(np.float32)).resize(
            (columns, rows), Image.Resampling.BICUBIC
        )
    )
    light = light * shade + rng.normal(0, rng.uniform(0.01, 0.05), light.shape).astype(np.float32)
    return (255 * light.clip(0, 1)).astype(np.uint8)


def _perspective(columns: int, rows: int, corners: np.ndarray) -> list[float]:
    """Pillow's eight coefficients: they map an output pixel to the input pixel it shows."""
    output = np.array([[0, 0], [0, rows], [columns, rows], [columns, 0]], float)
    equations, values = [], []
    for (x, y), (u, v) in zip(output, corners, strict=True):
        equations += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.linalg.solve(np.array(equations), np.array(values)).tolist()
