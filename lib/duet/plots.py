"""Figures.  Each draws data that lies beside it as a file, and is saved as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from . import files

WIDTH = 7.0  # inches, a text column
PAPER, OURS = "0.55", "C0"  # the paper's numbers are always grey


def style() -> None:
    """One look for all notebooks; call it once."""
    sns.set_theme(
        context="notebook",
        style="ticks",
        palette="colorblind",
        font_scale=0.85,
        rc={
            "figure.dpi": 100,
            "savefig.dpi": 150,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.constrained_layout.use": True,
            "legend.frameon": False,
        },
    )


def save(figure: plt.Figure, path: Path) -> plt.Figure:
    with files.atomic(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})
    return figure


def pictures(pairs: Mapping[str, np.ndarray], invert: bool = True) -> plt.Figure:
    """(rows, columns) uint8 pictures under one another, each with its caption, ink dark."""
    widest = max(4.0, *(picture.shape[1] / picture.shape[0] for picture in pairs.values()))
    figure, axes = plt.subplots(len(pairs), 1, figsize=(WIDTH, (WIDTH / widest + 0.3) * len(pairs)), squeeze=False)
    for axis, (caption, picture) in zip(axes[:, 0], pairs.items(), strict=True):
        axis.imshow(255 - picture if invert else picture, cmap="gray", vmin=0, vmax=255)
        axis.set_anchor("W")
        axis.set_title(caption, loc="left", fontsize="small")
        axis.set_axis_off()
    return figure


def learning_curves(curves: pd.DataFrame, unit: str, floor: float | None = None) -> plt.Figure:
    """``curves`` has columns run, panel, samples, validation; a dashed line marks what needs no learning."""
    panels = list(dict.fromkeys(curves["panel"])) or ["not run"]
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3), sharey=True, squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        for name, run in curves[curves["panel"] == panel].groupby("run", sort=False):
            axis.plot(run["samples"] / 1000, run["validation"], label=name, marker=".", linewidth=1.2)
        if floor is not None:
            axis.axhline(floor, color=PAPER, linestyle="--", linewidth=1)
            axis.annotate(
                "best constant",
                (0.98, floor),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize="x-small",
                color=PAPER,
            )
        axis.set(title=panel, xlabel="thousand pictures seen", ylim=(0, None))
        if len(curves):
            axis.legend(fontsize="x-small")
    axes[0, 0].set_ylabel(unit)
    return figure


def paper_beside_ours(
    table: pd.DataFrame, x: str, panel: str, hue: str, unit: str, log_x: bool = False, floor: float | None = None
) -> plt.Figure:
    """Two rows of panels share the axes of one quantity: the paper's printed cells, and ours with intervals."""
    panels = list(dict.fromkeys(table[panel]))
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.2), sharey=True, squeeze=False)
    for axis, name in zip(axes[0], panels, strict=True):
        part = table[table[panel] == name]
        for color, (series, rows) in zip(sns.color_palette(), part.groupby(hue, sort=False), strict=False):
            axis.plot(
                rows[x],
                rows["paper"],
                color=color,
                linestyle=":",
                marker="o",
                markerfacecolor="white",
                linewidth=1,
                label=f"{series}, paper (PrIMuS)",
            )
            made = rows.dropna(subset=["ours"])
            errors = [made["ours"] - made["low"], made["high"] - made["ours"]]
            axis.errorbar(
                made[x],
                made["ours"],
                yerr=errors,
                color=color,
                marker="o",
                capsize=2,
                linewidth=1.4,
                label=f"{series}, ours",
            )
        if floor is not None:
            axis.axhline(floor, color=PAPER, linestyle="--", linewidth=1, label="best constant, ours")
        if log_x:
            ticks = sorted(part[x].unique())
            axis.set_xscale("log")
            axis.set_xticks(ticks, [str(t) for t in ticks], fontsize="x-small")
            axis.minorticks_off()
        axis.set(title=name, xlabel=x)
    axes[0, 0].set_ylabel(unit)
    axes[0, -1].legend(fontsize="x-small")
    return figure


def forest(verdicts: pd.DataFrame, captions: Sequence[str], unit: str) -> plt.Figure:
    """One line a claim: estimate and interval, coloured by verdict, on an axis that is linear between -1 and 1."""
    colors = {"reproduced": "C2", "contradicted": "C3", "undecided": "0.5", "not run": "0.8"}
    figure, axis = plt.subplots(figsize=(WIDTH, 0.3 * len(verdicts) + 1.0))
    for y, row in enumerate(verdicts.itertuples()):
        if not pd.isna(row.ours):
            axis.plot([row.low, row.high], [y, y], color=colors[row.verdict], linewidth=2)
            axis.plot(row.ours, y, "o", color=colors[row.verdict])
    axis.axvline(0, color="0.7", linewidth=1)
    axis.set_yticks(range(len(verdicts)), captions, fontsize="x-small")
    axis.set_xscale("symlog", linthresh=1)
    axis.set_xticks([-100, -10, -1, 0, 1, 10, 100], ["-100", "-10", "-1", "0", "1", "10", "100"], fontsize="x-small")
    axis.invert_yaxis()
    figure.supxlabel(unit, fontsize="small")
    handles = [plt.Line2D([], [], color=c, marker="o", label=v) for v, c in colors.items()]
    figure.legend(handles=handles, fontsize="x-small", loc="outside upper center", ncol=len(colors))
    return figure
