"""Staff images: the staff where it belongs, ink where notes are, and a camera that does not move things far."""

import numpy as np
import pytest

from duet import DuetError, engraving, semantic
from duet.engraving import FONTS, IMAGE_HEIGHT, staff_image

SPACE = IMAGE_HEIGHT / engraving.STAFF_SPACES  # pixels between two staff lines
SCALE = "clef-G2 keySignature-BbM timeSignature-C" + "".join(f" note-{s}4_quarter" for s in "EFGA") + " barline"
HIGH = SCALE + " note-E7_whole barline"
LOW = SCALE + " note-C2_whole barline"


def mei(tokens):
    return semantic.mei_from_tokens(tokens.split())


def staff_lines(image):
    """Rows (fractional) of the staff lines: where most columns have ink."""
    ink = np.median(255 - image.astype(float), axis=1)
    rows = np.flatnonzero(ink > 25)
    groups = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    return [float(np.average(group, weights=ink[group])) for group in groups]


@pytest.mark.parametrize("font", FONTS)
@pytest.mark.parametrize(("tokens", "tall"), [(SCALE, False), (HIGH, True), (LOW, True)])
def test_the_staff_is_centred_in_every_font(font, tokens, tall):
    image = staff_image(mei(tokens), font)
    assert image.dtype == np.uint8 and image.ndim == 2
    assert (image.shape[0] > IMAGE_HEIGHT) if tall else (image.shape[0] == IMAGE_HEIGHT)
    middle = image.shape[0] / 2 - 0.5
    expected = [middle + k * SPACE for k in (-2, -1, 0, 1, 2)]
    assert staff_lines(image) == pytest.approx(expected, abs=1.1)
    assert image[0].min() == image[-1].min() == 255  # nothing is cut off


def test_the_fonts_draw_differently():
    images = [staff_image(mei(SCALE), font) for font in FONTS]
    assert len({image.tobytes() for image in images}) == len(FONTS)


def test_the_same_notation_is_the_same_image():
    first = staff_image(mei(SCALE), "Bravura")
    staff_image(mei(HIGH), "Leland")  # the toolkit keeps no memory of it
    assert np.array_equal(staff_image(mei(SCALE), "Bravura"), first)


def test_noteheads_are_ink_at_the_height_of_their_pitch():
    middle = (IMAGE_HEIGHT - 1) / 2
    for pitch, spaces in (("E4", 2), ("F4", 1.5), ("B4", 0), ("F5", -2), ("A5", -3), ("C4", 3)):
        image = 255 - staff_image(mei(f"clef-G2 note-{pitch}_whole")).astype(float)
        ink = (image - np.median(image, axis=1, keepdims=True))[:, 5 * round(SPACE) : -2]  # no staff, no clef
        rows = ink.clip(0).sum(1)
        centre = (rows * np.arange(len(rows))).sum() / rows.sum()
        assert centre == pytest.approx(middle + spaces * SPACE, abs=1.2), pitch


def test_resvg_draws_what_the_svg_says():
    rectangle = '<rect x="10" y="5" width="4" height="2"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20">{rectangle}</svg>'
    image = engraving.rasterise(svg, zoom=2)
    assert image.shape == (40, 80)
    rows, columns = np.nonzero(image < 128)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 13, 20, 27)


# -- the camera --------------------------------------------------------------------------------------------------------


def test_a_photograph_keeps_shape_and_depends_on_its_seed_alone():
    image = staff_image(mei(SCALE))
    first, again, other = (engraving.photograph(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == image.shape and first.dtype == np.uint8
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert not np.array_equal(first, image)


@pytest.mark.parametrize("seed", range(12))
def test_a_photograph_moves_things_by_a_few_pixels(seed):
    """Squares drawn all over the picture are found again close by, and dark on light."""
    image = np.full((128, 600), 255, np.uint8)
    places = [(r, c) for r in (30, 64, 98) for c in range(40, 600, 87)]
    for r, c in places:
        image[r - 3 : r + 4, c - 3 : c + 4] = 0
    photo = engraving.photograph(image, np.random.default_rng(seed)).astype(float)
    for r, c in places:
        window = photo[r - 15 : r + 16, c - 15 : c + 16]
        dark = (np.median(window) - window - 40).clip(0)
        assert dark.sum() > 0
        rows, columns = np.mgrid[-15:16, -15:16]
        moved = np.hypot((dark * rows).sum() / dark.sum(), (dark * columns).sum() / dark.sum())
        assert moved < 9


def test_photographs_of_any_shape():
    for shape in ((128, 8), (8, 300), (260, 900)):
        photo = engraving.photograph(np.full(shape, 255, np.uint8), np.random.default_rng(0))
        assert photo.shape == shape and np.median(photo) > 150


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "no xml", "<mei", "<mei/>", '<mei xmlns="http://www.music-encoding.org/ns/mei"/>',
                                  '{"json": 1}', "clef-G2 note-C4_whole"])  # fmt: skip
def test_mei_that_verovio_cannot_read(text):
    with pytest.raises(DuetError) as caught:
        staff_image(text)
    assert "\n" not in str(caught.value)
    assert staff_image(mei(SCALE)).shape[0] == IMAGE_HEIGHT  # and the toolkit still works


@pytest.mark.parametrize("code", [
    dict(clef="G-2", keysig="", timesig="3/4", data="'4CZZ?"),
    dict(clef="", keysig="", timesig="", data=""),
    dict(clef="Q-9", keysig="yy", timesig="c", data="'4C"),
    dict(clef="G-2", keysig="", timesig="3/4", data="'{8CDE"),
])  # fmt: skip
def test_plaine_and_easie_that_is_faulty(code):
    with pytest.raises(DuetError) as caught:
        engraving.mei_from_pae(**code)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("svg", ["", "<svg", "no drawing"])
def test_drawings_that_cannot_be_drawn(svg):
    with pytest.raises(DuetError):
        engraving.rasterise(svg, 1)
