"""Tidy tables on disk and the paper's arrangement on the page."""

import errno
import os

import pandas as pd
import pytest

from duet import DuetError, published, tables
from duet.verdicts import Estimate

OURS = Estimate(10.25601, 9.44399, 11.111, 300, 3)


def small():
    return tables.tidy(
        [
            tables.row({"test": "image", "model": "a"}, 9.6, OURS, "toy"),
            tables.row({"test": "image", "model": "b"}, None, OURS, "toy"),
            tables.row({"test": "audio", "model": "a"}, 98.9, None, "toy"),
        ]
    )


def test_a_table_is_tidy_coordinates_first_then_the_measures():
    table = small()
    assert list(table.columns) == ["test", "model", "paper", "ours", "low", "high", "n", "seeds", "corpus"]
    assert table.iloc[0].tolist() == ["image", "a", 9.6, 10.256, 9.444, 11.111, 300, 3, "toy"]
    assert table.loc[2, ["ours", "low", "high"]].isna().all() and table.loc[2, ["n", "seeds"]].tolist() == [0, 0]


def test_a_written_table_reads_back(tmp_path):
    path = tmp_path / "tables" / "table2.csv"
    table = small()
    assert tables.write(table, path) is table
    assert path.read_text().splitlines() == [
        "test,model,paper,ours,low,high,n,seeds,corpus",
        "image,a,9.6,10.256,9.444,11.111,300,3,toy",
        "image,b,,10.256,9.444,11.111,300,3,toy",
        "audio,a,98.9,,,,0,0,toy",
    ]
    pd.testing.assert_frame_equal(pd.read_csv(path), table, check_dtype=False)
    tables.write(table, path)
    assert b"\r" not in path.read_bytes()


def test_a_full_disk_leaves_the_table_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "table2.csv"
    tables.write(small(), path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DuetError, match=r"table2\.csv: could not be written: No space left on device"):
        tables.write(small().iloc[:1], path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_people_read_paper_beside_ours_and_not_run():
    shown = tables.readable(small())
    assert shown["paper"].tolist() == ["9.6", "", "98.9"]
    assert shown["ours [95 %]"].tolist() == ["10.3 [9.4, 11.1]", "10.3 [9.4, 11.1]", "not run"]
    assert list(shown.columns) == ["test", "model", "paper", "ours [95 %]", "seeds", "corpus of ours"]
    assert tables.readable(small()[1:]).index[0] == 0
    assert tables.readable(small(), digits=2)["ours [95 %]"][0] == "10.26 [9.44, 11.11]"


def test_a_table_without_any_run_is_readable():
    table = tables.tidy([tables.row({"model": m}, 5.0, None, "toy") for m in "ab"])
    assert tables.readable(table)["ours [95 %]"].tolist() == ["not run", "not run"]


def test_a_pivot_keeps_the_papers_order_of_models():
    rows = [
        tables.row({"test": t, "model": m}, p[t], OURS, "toy")
        for t in ("image", "audio")
        for m, p in published.TRANSFER_TABLE_2.items()
    ]
    wide = tables.pivot(tables.tidy(rows), "model", "test")
    assert list(wide.index) == list(published.TRANSFER_TABLE_2) and list(wide.columns) == ["image", "audio"]
    assert wide.loc["audio-to-image N/A", "image"] == "5.3 | 10.3"
    assert wide.loc["audio", "image"] == "331.2 | 10.3"


def test_a_pivot_keeps_the_papers_order_of_sizes_and_rows():
    rows = [
        tables.row({"test": t, "training": how, "size": size}, value, OURS if size < 500 else None, "toy")
        for (t, how), cells in published.TRANSFER_TABLE_3.items()
        for size, value in cells.items()
    ]
    wide = tables.pivot(tables.tidy(rows), ["test", "training"], "size")
    assert list(wide.index) == list(published.TRANSFER_TABLE_3)
    assert list(wide.columns) == [50, 75, 100, 250, 500, 1000]  # as numbers, not as texts
    assert wide.loc[("image", "scratch"), 1000] == "23.7 | not run"
    assert wide.loc[("audio", "transfer"), 50] == "64.0 | 10.3"


def test_a_pivot_shows_a_cell_that_the_paper_lacks():
    wide = tables.pivot(small().iloc[:2], "test", "model")
    assert wide.loc["image"].tolist() == ["9.6 | 10.3", "- | 10.3"]


def test_two_numbers_for_one_cell_are_an_error():
    doubled = pd.concat([small(), small()])
    with pytest.raises(ValueError, match="duplicate"):
        tables.pivot(doubled, "model", "test")


def measured():
    rows = [("a", "R@1", 50.0, 51.26), ("a", "R@10", None, 88.88), ("a", "MRR", 0.6, 0.6124), ("b", "R@1", None, None)]
    return tables.tidy([
        tables.row({"model": model, "measure": name}, paper, value and Estimate(value, 0.0, 99.0, 9, 1), "toy")
        for model, name, paper, value in rows
    ])  # fmt: skip


def test_measures_stand_side_by_side_with_digits_of_their_own():
    shown = tables.by_measure(measured(), "model", {r"R@\d+": 1, "MRR": 3})
    assert list(shown.columns) == ["R@1", "R@10", "MRR"]
    assert shown.loc["a"].tolist() == ["50.0 | 51.3", "- | 88.9", "0.600 | 0.612"]
    assert shown.loc["b", "R@1"] == "- | not run"


def test_ours_alone_with_and_without_intervals():
    shown = tables.ours(measured(), "model", "measure", 2)
    assert shown.loc["a"].tolist() == ["51.26 [0.00, 99.00]", "88.88 [0.00, 99.00]", "0.61 [0.00, 99.00]"]
    assert shown.loc["b"].tolist() == ["not run", "", ""]
    plain = tables.ours(measured(), "model", "measure", 0, intervals=False)
    assert plain.loc["a", "R@1"] == "51" and plain.loc["b", "R@1"] == "not run"
