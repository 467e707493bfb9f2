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


# -- pages of whole scores ---------------------------------------------------------------------------------------------


def part(number, clef, line, notes, extra=""):
    """A staff of one bar, and its definition."""
    layer = f'<staff n="{number}"><layer n="1">{notes}</layer></staff>'
    return f'<staffDef n="{number}" lines="5" clef.shape="{clef}" clef.line="{line}" {extra}/>', layer


def quarters(*names, **attributes):
    extra = "".join(f' {k}="{v}"' for k, v in attributes.items())
    return "".join(f'<note pname="{n[0]}" oct="{n[1]}" dur="4"{extra}/>' for n in names)


def score(*parts, bars=1):
    definitions = "".join(p[0] for p in parts)
    measures = "".join(f'<measure n="{n + 1}">{"".join(p[1] for p in parts)}</measure>' for n in range(bars))
    return (
        '<mei xmlns="http://www.music-encoding.org/ns/mei"><music><body><mdiv><score>'
        f'<scoreDef meter.count="4" meter.unit="4"><staffGrp>{definitions}</staffGrp></scoreDef>'
        f"<section>{measures}</section></score></mdiv></body></music></mei>"
    )


GRAND = score(part(1, "G", 2, quarters("e4", "g4", "b4", "d5")), part(2, "F", 4, quarters("g2", "b2", "d3", "f3")),
              bars=60)  # fmt: skip


def test_noteheads_of_a_score_are_where_its_pitches_belong():
    """On the last system of a page as on the first: the scale is exact."""
    sheet = engraving.engrave_pages(GRAND)
    assert len(sheet.images) >= 2 and {i.shape for i in sheet.images} == {(1181, 835)}
    assert len(sheet.noteheads) == 480 and sheet.bars == tuple(4.0 * n for n in range(60))
    for head in sheet.noteheads:
        system = [s for s in sheet.systems if s.page == head.page][head.system]
        line = {64: 0, 67: 1, 71: 2, 74: 3, 43: 0, 47: 1, 50: 2, 53: 3}[head.pitch]
        lowest = system.bottom if head.staff else system.top + 28  # four spaces of 7 pixels
        assert (head.top + head.bottom) / 2 == pytest.approx(lowest - line * 7, abs=0.05)
        ink = sheet.images[head.page][round(head.top) : round(head.bottom), round(head.left) : round(head.right)]
        assert ink.mean() < 120


def test_onsets_and_pitches_of_a_score():
    sheet = engraving.engrave_pages(GRAND)
    upper = [(h.onset, h.pitch) for h in sorted(sheet.noteheads, key=lambda h: h.onset) if h.staff == 0]
    assert upper == [(float(n), (64, 67, 71, 74)[n % 4]) for n in range(240)]
    assert all(h.duration == 1 for h in sheet.noteheads)
    for before, after in zip(sheet.noteheads, sheet.noteheads[1:], strict=False):
        if (before.page, before.system) == (after.page, after.system):
            assert after.onset >= before.onset  # in reading order time does not run backwards


def test_systems_lie_on_their_staff_lines():
    sheet = engraving.engrave_pages(GRAND)
    for system in sheet.systems:
        assert system.staves == 2
        for edge in (system.top, system.bottom):
            strip = sheet.images[system.page][round(edge) - 1 : round(edge) + 2]
            assert (strip[:, round(system.left) + 2 : round(system.right) - 2].min(0) < 200).mean() > 0.98
            assert strip[:, : round(system.left) - 12].min() == 255 == strip[:, round(system.right) + 3 :].min()


def test_a_tie_belongs_to_the_note_before():
    notes = '<note pname="c" oct="5" dur="2" tie="i"/><note pname="c" oct="5" dur="4" tie="t"/>' + quarters("e5")
    sheet = engraving.engrave_pages(score(part(1, "G", 2, notes), part(2, "F", 4, quarters(*["c3"] * 4))))
    assert [(h.onset, h.tied) for h in sheet.noteheads if h.pitch == 72] == [(0.0, False), (2.0, True)]
    sounding, owners = engraving.sounding(sheet.noteheads)
    tied = [sounding[o] for h, o in zip(sheet.noteheads, owners, strict=True) if h.pitch == 72]
    assert [(n.onset, n.duration) for n in tied] == [(0.0, 3.0)] * 2
    assert len(sounding) == len(sheet.noteheads) - 1


def test_elements_of_a_type_are_drawn_like_others():
    """Kern's notes have one, and Verovio adds it to the class in the drawing."""
    typed = quarters(*["e5"] * 4).replace("<note", '<note type="placed"')
    sheet = engraving.engrave_pages(score(part(1, "G", 2, typed), part(2, "F", 4, quarters(*["c3"] * 4))))
    assert [h.pitch for h in sheet.noteheads if h.staff == 0] == [76] * 4


def test_unisons_are_one_note_as_long_as_the_longer():
    head = engraving.Notehead(0, 0, 0, 10, 10, 17, 19, 2.0, 1.0, 60, False, False)
    long = head._replace(duration=3.0, left=20, right=29)
    notes, owners = engraving.sounding([long, head, head._replace(onset=6.0)])
    assert [(n.onset, n.duration) for n in notes] == [(2.0, 3.0), (6.0, 1.0)] and owners == [0, 0, 1]


def test_whole_notes_are_wider():
    whole = engraving.engrave_pages(score(part(1, "G", 2, '<note pname="c" oct="5" dur="1"/>')))
    half = engraving.engrave_pages(score(part(1, "G", 2, '<note pname="c" oct="5" dur="2"/>' * 2)))
    assert whole.noteheads[0].right - whole.noteheads[0].left == pytest.approx(7 * 1.62, abs=0.05)
    for sheet in (whole, half):
        head = sheet.noteheads[0]
        rows = sheet.images[0][round(head.top) : round(head.bottom)]
        dark = np.flatnonzero(rows[:, round(head.left) - 4 : round(head.right) + 5].min(0) < 60)  # no staff line is
        assert dark[0] == pytest.approx(4, abs=1.1) and len(dark) == pytest.approx(head.right - head.left, abs=1.5)


QUARTET = score(
    part(1, "G", 2, quarters("e5", "g5", "b5", "c6", **{"stem.dir": "down"})),
    part(2, "G", 2, quarters("c5", "e5", "g5", "a5")),
    part(3, "C", 3, '<clef shape="G" line="2"/>' + quarters("g4", "c4", "d4", "f4")),
    part(4, "F", 4, '<rest dur="2"/>' + quarters("g2", "f2")),
)


def test_four_parts_on_two_staves():
    reduced = engraving.engrave_pages(engraving.keyboard_reduction(QUARTET))
    assert {s.staves for s in reduced.systems} == {2}
    full = engraving.engrave_pages(QUARTET)
    assert sorted((h.onset, h.pitch) for h in reduced.noteheads) == sorted((h.onset, h.pitch) for h in full.noteheads)
    assert {h.pitch for h in reduced.noteheads if h.staff == 0} == {76, 79, 83, 84, 72, 81}
    assert {h.pitch for h in reduced.noteheads if h.staff == 1} == {67, 60, 62, 65, 43, 41}
    low = next(h for h in reduced.noteheads if h.pitch == 60)  # middle C: a ledger line above the bass staff
    assert (low.top + low.bottom) / 2 == pytest.approx(reduced.systems[0].bottom - 28 - 7, abs=0.05)


def test_scores_on_two_staves_stay_as_they_are():
    assert engraving.keyboard_reduction(GRAND) == GRAND


def test_parts_of_equal_clefs_are_halved_and_too_many_refused():
    equal = score(*(part(n, "G", 2, quarters(f"{'cdef'[n - 1]}5")) for n in (1, 2, 3, 4)))
    sheet = engraving.engrave_pages(engraving.keyboard_reduction(equal))
    assert sorted((h.pitch, h.staff) for h in sheet.noteheads) == [(72, 0), (74, 0), (76, 1), (77, 1)]
    with pytest.raises(DuetError, match="too many"):
        engraving.keyboard_reduction(score(*(part(n, "G", 2, quarters("c5")) for n in range(1, 12))))


@pytest.mark.parametrize("mei", ["", "<mei", '<mei xmlns="http://www.music-encoding.org/ns/mei"/>'])
def test_scores_that_cannot_be_engraved(mei):
    for call in (engraving.engrave_pages, engraving.keyboard_reduction, lambda text: engraving.mei_of(text, "mei")):
        with pytest.raises(DuetError) as caught:
            call(mei)
        assert "\n" not in str(caught.value)
    with pytest.raises(DuetError, match="no note"):
        engraving.engrave_pages(score(part(1, "G", 2, '<rest dur="1"/>')))


def test_a_sheet_is_kept_whole_or_not_at_all(tmp_path):
    sheet = engraving.engrave_pages(QUARTET)
    engraving.save_sheet(tmp_path, sheet)
    again = engraving.load_sheet(tmp_path)
    assert (again.noteheads, again.systems, again.bars, again.tempi) == (
        sheet.noteheads, sheet.systems, sheet.bars, sheet.tempi
    )  # fmt: skip
    assert np.array_equal(again.images[0], sheet.images[0])
    (tmp_path / "01.png").unlink()
    with pytest.raises(DuetError, match="not a whole engraving"):
        engraving.load_sheet(tmp_path)
