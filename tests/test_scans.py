"""Scans made of clean pages: what moves and how far, what stays dark, and a corpus that has them for pages."""

import shutil

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from duet import DuetError, scans
from duet.corpora.msmd import Msmd, write_performance, write_sheet
from duet.engraving import Notehead, Sheet, System
from duet.scans import DISPLACEMENT, Scans, scanned
from duet.snippets import Pieces

PITCH = 60  # pixels between the dots: more than twice the displacement and a dot
PIECE = "A__b__c"


def rng(seed=0):
    return np.random.default_rng(seed)


def dotted(rows=1181, columns=835, radius=4):
    """A page with filled dots, and their centres (n, 2)."""
    page = np.full((rows, columns), 255, np.uint8)
    ys, xs = np.meshgrid(np.arange(40, rows - 40, PITCH), np.arange(40, columns - 40, PITCH), indexing="ij")
    centres = np.stack([ys.ravel(), xs.ravel()], 1)
    disc = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) <= radius
    for y, x in centres:
        page[y - radius : y + radius + 1, x - radius : x + radius + 1][disc] = 0
    return page, centres


def found(scan, centres, radius=4):
    """(n, 2) where the dots are: the darkest disc around each of them, to a fraction of a pixel."""
    disc = (np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) <= radius).astype(float)
    match = ndimage.correlate(255.0 - scan, disc / disc.sum(), mode="nearest")
    reach, places = PITCH // 2 - 1, []
    for y, x in centres:
        part = match[y - reach : y + reach + 1, x - reach : x + reach + 1]
        top = np.array(np.unravel_index(part.argmax(), part.shape))
        near = part[max(0, top[0] - 2) : top[0] + 3, max(0, top[1] - 2) : top[1] + 3]
        weight = near - near.min()
        inner = np.array(ndimage.center_of_mass(weight)) - np.minimum(top, 2)
        places.append(np.array([y, x]) - reach + top + inner)
    return np.array(places)


# -- what moves --------------------------------------------------------------------------------------------------------


def test_dots_move_by_a_bounded_distance():
    page, centres = dotted()
    blank = np.full_like(page, 255)
    assert np.abs(found(page, centres) - centres).max() < 0.05  # the measure itself
    farthest = []
    for seed in range(4):
        moved = found(scanned(page, rng(seed), blank), centres) - centres
        assert np.abs(moved).max() < DISPLACEMENT + 1
        farthest.append(np.abs(moved).max())
        # smooth: neighbours move together, so that symbols keep their shapes
        grid = moved.reshape(-1, len(np.unique(centres[:, 1])), 2)
        assert np.abs(np.diff(grid, axis=0)).max() < 5 and np.abs(np.diff(grid, axis=1)).max() < 5
    assert np.median(farthest) > 1.5 and np.ptp(farthest) > 1


class Extreme(np.random.Generator):
    """Draws what would turn and bend a page most."""

    def normal(self, mean=0.0, spread=1.0, size=None):
        return 40.0 * spread

    def uniform(self, low=0.0, high=1.0, size=None):
        return high


def test_the_bound_holds_for_the_worst_draw():
    page, centres = dotted()
    bent = scans._bent(page, True, Extreme(np.random.PCG64(1)))
    moved = found(bent, centres) - centres
    assert 10 < np.abs(moved).max() < DISPLACEMENT + 0.5


def test_nothing_moves_where_the_mesh_is_flat(monkeypatch):
    monkeypatch.setattr(scans, "DISPLACEMENT", 0.0)
    page, _ = dotted()
    same = scans._bent(page, False, rng()).astype(int)
    assert np.abs(same - page).max() <= 1  # rounding


# -- what it looks like ------------------------------------------------------------------------------------------------


def staves():
    """Lines of one pixel, thick bars and white space between them."""
    page = np.full((680, 835), 255, np.uint8)
    for top in range(100, 600, 200):
        for line in range(5):
            page[top + 7 * line, 30:805] = 0
        page[top + 60 : top + 110, 30:805] = 0
    return page


def test_ink_is_darker_than_paper_everywhere():
    page = staves()
    for seed in range(4):
        scan = scanned(page, rng(seed)).astype(float)
        assert scan.shape == page.shape
        for top in range(100, 600, 200):
            for left in range(30, 805, 155):
                # 13 rows off every edge, farther than anything moves
                bar = scan[top + 73 : top + 97, left : left + 155]
                paper = scan[top + 123 : top + 150, left : left + 155]
                assert np.median(bar) < 0.7 * np.median(paper)
                # staff lines may be broken, but the staff is darker than the paper beside it
                lines = scan[top + 7 : top + 22, left : left + 155]
                assert lines.mean() < np.median(paper)


def test_white_paper_has_no_dark_areas():
    for seed in range(4):
        scan = scanned(np.full((620, 835), 255, np.uint8), rng(seed))
        assert scan.min() < 200  # specks or the gutter
        assert np.median(scan) > 180 and np.ptp(scan) > 20
        # away from the binding nothing as large as a notehead is dark
        assert ndimage.uniform_filter(scan[:, 80:-80].astype(float), 9).min() > 110


def test_scans_differ_and_can_be_repeated():
    page = staves()
    first = scanned(page, rng(1))
    assert first.dtype == np.uint8 and first.flags.writeable
    assert np.array_equal(first, scanned(page, rng(1)))
    assert np.abs(first.astype(float) - scanned(page, rng(2))).mean() > 5
    assert page.min() == 0 and np.array_equal(page, staves())  # the clean page is left as it is


def test_lines_are_of_another_weight_in_every_scan():
    page = staves()
    weights = []
    for seed in range(8):
        scan = scanned(page, rng(seed), np.full_like(page, 255)).astype(float)
        part = scan[285:345, 400:430]
        weights.append((np.median(part) - part).clip(0).sum() / (np.median(part) - part.min()))
    assert max(weights) > 1.4 * min(weights)


def test_the_back_shines_through_mirrored():
    page, back = np.full((600, 835), 255, np.uint8), np.full((900, 835), 255, np.uint8)
    back[200:300, 100:300] = 0
    differences = [scanned(page, rng(seed), back).astype(float) - scanned(page, rng(seed), page) for seed in range(4)]
    mean = np.mean(differences, 0)
    assert mean[220:280, 835 - 280 : 835 - 120].mean() < -4  # on the other side
    assert abs(mean[220:280, 120:280].mean()) < 1 and abs(mean[400:, 100:300].mean()) < 1


@pytest.mark.parametrize("shape", [(10, 835), (1, 1), (1181, 30), (2000, 100)])
def test_pages_of_every_size(shape):
    for value in (0, 255):
        scan = scanned(np.full(shape, value, np.uint8), rng(3))
        assert scan.shape == shape and scan.dtype == np.uint8
    assert np.median(scanned(np.zeros((300, 835), np.uint8), rng(3))) < 100


def test_what_is_no_page():
    for wrong in (np.zeros((10, 10)), np.zeros((10, 10, 3), np.uint8), np.zeros((0, 835), np.uint8)):
        with pytest.raises(DuetError, match="uint8"):
            scanned(wrong, rng())


# -- a corpus ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A piece of two equal pages, one system each, with four noteheads on a system."""
    folder = tmp_path_factory.mktemp("corpus")
    image = np.full((400, 835), 255, np.uint8)
    for line in range(5):
        image[150 + 7 * line, 40:800] = 0
    columns = (150, 330, 510, 690)
    for column in columns:
        image[160:169, column - 5 : column + 6] = 0
    heads = [
        Notehead(page, 0, 0, 160, c - 5, 169, c + 6, 4.0 * page + n, 1.0, 60 + n, False, False)
        for page in (0, 1)
        for n, c in enumerate(columns)
    ]
    systems = tuple(System(page, 150, 40, 179, 800, 1) for page in (0, 1))
    sheet = Sheet((image, image.copy()), systems, tuple(heads), (0.0, 4.0), ())
    seconds = np.array([h.onset / 2 for h in heads])
    notes = np.array([(s, h.pitch, 0.5, 64, 0) for s, h in zip(seconds, heads, strict=True)])
    write_performance(folder, PIECE, "take", notes, np.zeros(5 * 22_050, np.float32))
    write_sheet(folder, PIECE, sheet, {"take": seconds})
    return folder


def test_a_scanned_corpus_keeps_its_annotations(root):
    clean, scan = Msmd(root).strip(PIECE), Scans(root, seed=4).strip(PIECE)
    assert np.array_equal(scan.positions, clean.positions) and np.array_equal(scan.columns, clean.columns)
    assert scan.image.shape == clean.image.shape and not np.array_equal(scan.image, clean.image)
    blurred = ndimage.uniform_filter(scan.image.astype(float), (9, 11))
    for column in clean.positions.astype(int):
        near = blurred[60:140, column - 60 : column + 61]
        assert abs(np.unravel_index(near.argmin(), near.shape)[1] - 60) <= DISPLACEMENT + 1


def test_every_page_piece_and_seed_has_its_own_scan(root):
    first, second = Scans(root).pages(PIECE)
    assert not np.array_equal(first, second)
    assert np.array_equal(Scans(root).pages(PIECE)[1], second)
    assert not np.array_equal(Scans(root, seed=1).pages(PIECE)[0], first)
    clean = Msmd(root)
    marks = {clean.fingerprint, Scans(root).fingerprint, Scans(root, seed=1).fingerprint}
    assert len(marks) == 3 and Scans(root).fingerprint == Scans(root).fingerprint
    assert Scans(root).name == "MSMD, scans (stand-in)"


def test_pieces_of_scans_are_stored_apart(root, tmp_path, monkeypatch):
    monkeypatch.setenv("DUET_CACHE", str(tmp_path))
    kinds = [Pieces(Msmd(root)), Pieces(Scans(root))]
    for pieces in kinds:
        assert not pieces.prepare([PIECE])
    clean, scan = (pieces.get(PIECE) for pieces in kinds)
    assert np.array_equal(scan.image, Scans(root).strip(PIECE).image)
    assert not np.array_equal(scan.image, clean.image)
    assert np.array_equal(scan.pairs("take").columns, clean.pairs("take").columns)


def test_a_damaged_page_is_named(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    page = next((tmp_path / "copy").rglob("02.png"))
    Image.fromarray(np.full((40, 800), 255, np.uint8)).save(page)
    with pytest.raises(DuetError, match="02.png"):
        Scans(tmp_path / "copy").pages(PIECE)
