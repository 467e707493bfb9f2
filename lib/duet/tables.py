"""Tidy tables as CSV files, and the same tables as people read them."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd

from . import files
from .verdicts import NOT_RUN, Estimate

MEASURES = ("paper", "ours", "low", "high", "n", "seeds", "corpus")


def show_whole() -> None:
    """Let a notebook print every row and the whole text of a cell; call it once."""
    pd.set_option("display.max_rows", 200, "display.max_colwidth", None, "display.max_columns", 50)


def row(coordinates: dict, paper: float | None, ours: Estimate | None, corpus: str) -> dict:
    """One cell of a paper's table: its coordinates, the printed number, ours with its interval."""
    if ours is None:
        measured = dict(zip(MEASURES[1:6], (None, None, None, 0, 0), strict=True))
    else:
        measured = {
            "ours": round(ours.value, 4),
            "low": round(ours.low, 4),
            "high": round(ours.high, 4),
            "n": ours.n,
            "seeds": ours.seeds,
        }
    return {**coordinates, "paper": paper, **measured, "corpus": corpus}


def tidy(rows: list[dict]) -> pd.DataFrame:
    coordinates = [c for c in rows[0] if c not in MEASURES]
    return pd.DataFrame(rows, columns=[*coordinates, *MEASURES])


def write(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Write the CSV atomically; an empty cell is one that has no number (a run not made, a cell the paper lacks)."""
    buffer = io.StringIO()
    table.to_csv(buffer, index=False, lineterminator="\n")
    files.write_text(path, buffer.getvalue())
    return table


def readable(table: pd.DataFrame, digits: int = 1) -> pd.DataFrame:
    """Paper beside ours as text: ``9.6`` and ``10.2 [9.4, 11.1]``; a missing run says so."""
    shown = table[[c for c in table if c not in MEASURES]].copy()
    shown["paper"] = ["" if pd.isna(p) else f"{p:.{digits}f}" for p in table["paper"]]
    shown["ours [95 %]"] = [
        NOT_RUN if pd.isna(r.ours) else f"{r.ours:.{digits}f} [{r.low:.{digits}f}, {r.high:.{digits}f}]"
        for r in table.itertuples()
    ]
    shown["seeds"], shown["corpus of ours"] = table["seeds"], table["corpus"]
    return shown.reset_index(drop=True)  # of a part of a table the rows' old numbers say nothing


def pivot(table: pd.DataFrame, index: str | list[str], columns: str, digits: int = 1) -> pd.DataFrame:
    """The paper's own arrangement, each cell ``paper | ours``."""
    shown = readable(table, digits)
    text = [f"{p or '-'} | {o.split(' [')[0]}" for p, o in zip(shown["paper"], shown["ours [95 %]"], strict=True)]
    wide = table.assign(cell=text)
    order = list(dict.fromkeys(wide[columns]))
    rows = wide[index].drop_duplicates() if isinstance(index, list) else None
    result = wide.pivot(index=index, columns=columns, values="cell")[order]
    return (
        result.reindex(pd.MultiIndex.from_frame(rows))
        if rows is not None
        else result.reindex(dict.fromkeys(wide[index]))
    )


def by_measure(table: pd.DataFrame, index: str | list[str], digits: dict[str, int]) -> pd.DataFrame:
    """:func:`pivot` with a column a measure; ``digits`` of the measures whose names match a regular expression."""
    parts = [(table[table["measure"].str.fullmatch(names)], count) for names, count in digits.items()]
    return pd.concat([pivot(own, index, "measure", count) for own, count in parts], axis=1)


def ours(
    table: pd.DataFrame, index: str | list[str], columns: str | list[str], digits: int = 1, intervals: bool = True
) -> pd.DataFrame:
    """Ours alone, arranged: ``0.59 [0.55, 0.63]``, or without ``intervals`` 0.59; a missing run says so."""
    text = readable(table, digits)["ours [95 %]"]
    cells = (text if intervals else text.str.partition(" [")[0]).to_numpy()
    return table.assign(cell=cells).pivot_table("cell", index, columns, aggfunc="first", sort=False).fillna("")
