"""Every figure draws on small data, without a warning (they are errors here), into a PNG of a sensible size."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from duet import DuetError, plots, published, tables
from duet.verdicts import Estimate

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    plots.style()
    yield
    plots.plt.close("all")
    matplotlib.rcdefaults()


def drawn(figure, tmp_path):
    """The saved picture as (rows, columns), with something on it."""
    path = tmp_path / "figures" / "figure.png"
    assert plots.save(figure, path) is figure
    assert [p.name for p in path.parent.iterdir()] == ["figure.png"] and path.read_bytes()[:4] == b"\x89PNG"
    with Image.open(path) as image:
        picture = np.asarray(image.convert("L"))
    assert picture.shape[1] == pytest.approx(150 * plots.WIDTH, abs=2) and 60 < picture.shape[0] < 3000
    assert (picture < 128).mean() > 0.001
    assert path.stat().st_size > 3000
    return picture


def table_3(made=lambda size: True):
    return tables.tidy(
        [
            tables.row(
                {"test": t, "training": how, "size": size},
                value,
                Estimate(value + 5, value + 2, value + 9, 10) if made(size) else None,
                "toy",
            )
            for (t, how), cells in published.TRANSFER_TABLE_3.items()
            for size, value in cells.items()
        ]
    )


def curves():
    return pd.DataFrame(
        [
            {"run": f"{panel}-{run}", "panel": f"{panel} validation", "samples": 1600 * k, "validation": 90 / k}
            for panel in ("image", "audio")
            for run in ("s0", "twice")
            for k in range(1, 6)
        ]
    )


def test_pictures_are_drawn_with_dark_ink(tmp_path):
    staff = np.zeros((64, 300), np.uint8)
    staff[20:44:6] = 255
    figure = plots.pictures({"engraved": staff, "photographed": staff[:, :200]})
    picture = drawn(figure, tmp_path)
    assert (picture > 200).mean() > 0.5
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["engraved", "photographed"]
    assert (drawn(plots.pictures({"negative": staff}, invert=False), tmp_path) < 100).mean() > 0.3


def test_learning_curves_have_a_panel_each_and_a_floor(tmp_path):
    figure = plots.learning_curves(curves(), "symbol error rate (%)", floor=85.0)
    drawn(figure, tmp_path)
    assert [axis.get_title() for axis in figure.axes] == ["image validation", "audio validation"]
    first = figure.axes[0]
    assert [line.get_label() for line in first.lines[:2]] == ["image-s0", "image-twice"]
    assert first.lines[0].get_xdata().tolist() == pytest.approx([1.6, 3.2, 4.8, 6.4, 8.0])
    assert first.lines[0].get_ydata().tolist() == pytest.approx([90, 45, 30, 22.5, 18])
    assert first.lines[2].get_ydata() == [85.0, 85.0] and first.get_ylabel() == "symbol error rate (%)"
    drawn(plots.learning_curves(curves(), "symbol error rate (%)"), tmp_path)


def test_a_shared_axis_shows_the_curves_of_every_panel():
    higher = curves().assign(validation=lambda c: c["validation"].where(c["panel"] == "image validation", 300))
    axes = plots.learning_curves(higher, "symbol error rate (%)").axes
    assert all(axis.get_ylim()[0] == 0 and axis.get_ylim()[1] > 300 for axis in axes)


def test_learning_curves_without_any_run_say_so(tmp_path):
    figure = plots.learning_curves(curves().iloc[:0], "symbol error rate (%)", floor=85.0)
    drawn(figure, tmp_path)
    assert [axis.get_title() for axis in figure.axes] == ["not run"]


@pytest.mark.parametrize("made", [lambda size: True, lambda size: size < 250, lambda size: False])
def test_paper_beside_ours_draws_what_there_is(made, tmp_path):
    figure = plots.paper_beside_ours(table_3(made), "size", "test", "training", "SER (%)", log_x=True, floor=85.0)
    drawn(figure, tmp_path)
    image, audio = figure.axes
    assert (image.get_title(), audio.get_title(), image.get_xscale()) == ("image", "audio", "log")
    assert [tick.get_text() for tick in image.get_xticklabels()] == ["50", "75", "100", "250", "500", "1000"]
    by_label = {line.get_label(): line for line in image.lines}
    assert by_label["scratch, paper (PrIMuS)"].get_ydata().tolist() == [95.3, 95.2, 94.9, 63.6, 37.0, 23.7]
    drawn_by_us = [container.lines[0].get_ydata().tolist() for container in image.containers]
    assert drawn_by_us[0] == pytest.approx(
        [v + 5 for s, v in published.TRANSFER_TABLE_3["image", "scratch"].items() if made(s)]
    )
    texts = [text.get_text() for text in audio.get_legend().get_texts()]
    assert {"scratch, ours", "transfer, ours", "best constant, ours", "transfer, paper (PrIMuS)"} == set(texts) - {
        "scratch, paper (PrIMuS)"
    }


def test_the_forest_has_a_line_a_claim(tmp_path):
    judged = pd.DataFrame(
        {
            "ours": [-4.3, 0.5, np.nan, 30.0],
            "low": [-5.0, -0.5, np.nan, 22.0],
            "high": [-3.0, 1.5, np.nan, 41.0],
            "verdict": ["reproduced", "undecided", "not run", "contradicted"],
        }
    )
    figure = plots.forest(judged, ["falls", "hardly", "missing", "rises"], "points")
    drawn(figure, tmp_path)
    axis = figure.axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["falls", "hardly", "missing", "rises"]
    intervals = [line.get_xdata() for line in axis.lines if line.get_marker() == "None" and len(line.get_xdata()) == 2]
    assert [-5.0, -3.0] in [list(x) for x in intervals] and [22.0, 41.0] in [list(x) for x in intervals]
    assert len(intervals) == 4  # three claims and the line at zero: what was not run has none
    assert axis.get_ylim()[0] > axis.get_ylim()[1] and figure.findobj(lambda a: getattr(a, "_text", "") == "points")


def test_equal_data_give_equal_files(tmp_path):
    pair = [
        plots.save(plots.learning_curves(curves(), "SER"), tmp_path / name) and (tmp_path / name).read_bytes()
        for name in ("a.png", "b.png")
    ]
    assert pair[0] == pair[1]


def test_a_failed_save_leaves_the_figure_that_was_there(tmp_path, monkeypatch):
    figure, path = plots.learning_curves(curves(), "SER"), tmp_path / "a.png"
    plots.save(figure, path)
    before = path.read_bytes()

    def full(self, temporary, **_):
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plots.plt.Figure, "savefig", full)
    with pytest.raises(DuetError, match=r"a\.png: could not be written"):
        plots.save(figure, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_features_are_drawn_low_rows_below(tmp_path):
    panels = {"chroma": np.eye(13)[:, :13], "slice": np.random.default_rng(0).random((72, 13))}
    figure = plots.feature_panels(panels, rate=25, start=2.0)
    top, below = figure.axes
    assert [t.get_text() for t in top.get_yticklabels()][::12] == ["C", "ε"]
    assert top.images[0].origin == "lower" and top.images[0].get_extent() == [2.0, 2.0 + 13 / 25, -0.5, 12.5]
    assert not below.get_title("left") == top.get_title("left")
    drawn(figure, tmp_path)


def test_a_weakly_aligned_pair_is_tied_at_its_ends_only(tmp_path):
    notes = np.array([[0.5, 0.25, 67], [0.75, 0.25, 67], [1.0, 2.0, 63]])
    figure = plots.weakly_aligned(notes, np.sin(np.arange(22050 * 2) / 20), 22050)
    assert len(figure.axes[0].lines) == 3 and figure.axes[0].get_xlim() == (0, 3.0)
    assert [(p.xy1, p.xy2) for p in figure.artists] == [((0, 0), (0, 1)), ((1, 0), (1, 1))]
    drawn(figure, tmp_path)


def test_estimates_leave_out_what_has_not_been_made():
    rows = [
        tables.row({"stretch": s, "method": m}, None, Estimate(s, s - 0.1, s + 0.2, 9) if s < 2 else None, "toy")
        for m in ("ctc", "cce")
        for s in (0.5, 1.0, 2.0)
    ]
    figure = plots.estimates(tables.tidy(rows), "stretch", "MRR", hue="method", marked=1.0)
    lines = [container.lines[0] for container in figure.axes[0].containers]
    assert [list(line.get_xdata()) for line in lines] == [[0.5, 1.0]] * 2
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["ctc", "cce"]
