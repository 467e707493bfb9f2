"""Figures.  Each draws data that lies beside it as a file, and is saved as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.patches import ConnectionPatch

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


def learning_curves(
    curves: pd.DataFrame,
    unit: str,
    floor: float | None = None,
    seen: str = "thousand pictures seen",
    shared: bool = True,
) -> plt.Figure:
    """``curves`` has columns run, panel, samples, validation; a dashed line marks what needs no learning.

    Panels have one axis, from 0, where they are ``shared``, else each its own.
    """
    panels = list(dict.fromkeys(curves["panel"])) or ["not run"]
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3), sharey=shared, squeeze=False)
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
        axis.set(title=panel, xlabel=seen)
        if len(curves):
            axis.legend(fontsize="x-small")
    if shared:  # after all panels are drawn: a limit ends the search for one that shows everything
        axes[0, 0].set_ylim(bottom=0)
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


def forest(verdicts: pd.DataFrame, captions: Sequence[str], unit: str, linear: bool = False) -> plt.Figure:
    """One line a claim: estimate and interval, coloured by verdict.

    The axis is linear all along, or only between -1 and 1 and logarithmic beyond.
    """
    colors = {"reproduced": "C2", "contradicted": "C3", "undecided": "0.5", "not run": "0.8"}
    figure, axis = plt.subplots(figsize=(WIDTH, 0.3 * len(verdicts) + 1.0))
    for y, row in enumerate(verdicts.itertuples()):
        if not pd.isna(row.ours):
            axis.plot([row.low, row.high], [y, y], color=colors[row.verdict], linewidth=2)
            axis.plot(row.ours, y, "o", color=colors[row.verdict])
    axis.axvline(0, color="0.7", linewidth=1)
    axis.set_yticks(range(len(verdicts)), captions, fontsize="x-small")
    if not linear:
        ticks = [-100, -10, -1, 0, 1, 10, 100]
        axis.set_xscale("symlog", linthresh=1)
        axis.set_xticks(ticks, [str(t) for t in ticks], fontsize="x-small")
    axis.invert_yaxis()
    figure.supxlabel(unit, fontsize="small")
    handles = [plt.Line2D([], [], color=c, marker="o", label=v) for v, c in colors.items()]
    figure.legend(handles=handles, fontsize="x-small", loc="outside upper center", ncol=len(colors))
    return figure


PITCH_CLASSES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")


def feature_panels(panels: Mapping[str, np.ndarray], rate: float, start: float = 0.0) -> plt.Figure:
    """(rows, frames) features under one another on one time axis: caption -> values, row 0 below.

    Twelve or thirteen rows are pitch classes, and epsilon; ``rate`` is in frames a second, ``start`` in seconds.
    """
    heights = [1.0 if len(values) <= 13 else 1.4 for values in panels.values()]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(WIDTH, 1.5 * sum(heights)), sharex=True, squeeze=False, height_ratios=heights
    )
    for axis, (caption, values) in zip(axes[:, 0], panels.items(), strict=True):
        extent = (start, start + values.shape[1] / rate, -0.5, len(values) - 0.5)
        axis.imshow(values, origin="lower", aspect="auto", cmap="gray_r", extent=extent, vmin=0, interpolation="none")
        axis.set_title(caption, loc="left", fontsize="small")
        if len(values) <= 13:
            names = [*PITCH_CLASSES, "ε"][: len(values)]
            axis.set_yticks(range(len(values)), names, fontsize="xx-small")
        else:
            axis.set_ylabel({88: "piano key", 92: "band"}.get(len(values), "bin"), fontsize="small")
    axes[-1, 0].set_xlabel("seconds")
    return figure


def weakly_aligned(notes: np.ndarray, audio: np.ndarray, sample_rate: int) -> plt.Figure:
    """A theme, notes (n, 3) of start, duration in seconds and MIDI pitch, above the waveform of its occurrence.

    Only the ends are tied to each other, by dashed lines: that is all the annotation there is.
    """
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(WIDTH, 3.2))
    for start, duration, pitch in notes:
        top.plot([start, start + duration], [pitch, pitch], color="0.2", linewidth=3, solid_capstyle="butt")
    top.set(xlim=(0, (notes[:, 0] + notes[:, 1]).max()), ylabel="MIDI pitch", title="the theme, notated time")
    step = max(1, len(audio) // 4000)
    peaks = np.abs(audio[: len(audio) // step * step]).reshape(-1, step).max(1)
    seconds = np.arange(len(peaks)) * step / sample_rate
    bottom.fill_between(seconds, -peaks, peaks, color="0.4", linewidth=0)
    bottom.set(xlim=(0, seconds[-1]), xlabel="seconds", yticks=[], title="the recording")
    for x in (0, 1):
        figure.add_artist(
            ConnectionPatch(
                (x, 0),
                (x, 1),
                coordsA="axes fraction",
                coordsB="axes fraction",
                axesA=top,
                axesB=bottom,
                linestyle="--",
                color="C3",
            )
        )
    return figure


def estimates(
    table: pd.DataFrame,
    x: str,
    unit: str,
    hue: str | None = None,
    marked: float | None = None,
    doubling: bool = False,
) -> plt.Figure:
    """Estimates with intervals over ``x``, a line for each ``hue``; a vertical line at ``marked``.

    With ``doubling`` the axis is logarithmic to the base 2, and every value of ``x`` has its tick.
    """
    figure, axis = plt.subplots(figsize=(WIDTH * 0.7, 3))
    groups = table.groupby(hue, sort=False) if hue else [("", table)]
    for k, (name, rows) in enumerate(groups):
        made = rows.dropna(subset=["ours"])
        errors = [made["ours"] - made["low"], made["high"] - made["ours"]]
        axis.errorbar(made[x], made["ours"], yerr=errors, color=f"C{k}", marker="o", capsize=2, label=name)
    if marked is not None:
        axis.axvline(marked, color=PAPER, linestyle="--", linewidth=1)
    axis.set(xlabel=x, ylabel=unit)
    if doubling:
        axis.set_xscale("log", base=2)
        axis.set_xticks(sorted(table[x].unique()), sorted(table[x].unique()))
        axis.minorticks_off()
    if hue:
        axis.legend(fontsize="x-small")
    return figure


def gallery(rows: Sequence[Mapping[str, np.ndarray]]) -> plt.Figure:
    """Rows of captioned pictures: uint8 ones as they are, others as spectrograms, row 0 below and loud cells dark."""
    columns = max(len(row) for row in rows)
    figure, axes = plt.subplots(len(rows), columns, figsize=(WIDTH, (WIDTH / columns + 0.1) * len(rows)), squeeze=False)
    for row, own in zip(rows, axes, strict=True):
        for axis in own:
            axis.set_axis_off()
        for axis, (caption, picture) in zip(own, row.items(), strict=False):
            if picture.dtype == np.uint8:
                axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
            else:
                axis.imshow(picture, cmap="gray_r", origin="lower", aspect="auto", vmin=0, interpolation="none")
            axis.set_title(caption, loc="left", fontsize="xx-small", wrap=True)
    return figure


def warped(
    cosines: np.ndarray,
    across: np.ndarray,
    up: np.ndarray,
    paths: Mapping[str, tuple[np.ndarray, np.ndarray]],
    labels: tuple[str, str],
) -> plt.Figure:
    """Cosines (columns, frames) of a score and a recording, high ones light, and paths (across, up) through them.

    ``across`` (frames,) and ``up`` (columns,) are the axes' values, in the units of ``labels``.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 0.75 * WIDTH))
    extent = (across[0], across[-1], up[0], up[-1])
    image = axis.imshow(cosines, origin="lower", aspect="auto", cmap="gray", extent=extent, interpolation="none")
    for color, line, (caption, (x, y)) in zip(("C1", "C0", "C2"), ("-", "--", ":"), paths.items(), strict=False):
        axis.plot(x, y, color=color, linestyle=line, linewidth=1.6, label=caption)
    axis.set(xlabel=labels[0], ylabel=labels[1], xlim=extent[:2], ylim=extent[2:])
    figure.colorbar(image, ax=axis, label="cosine", shrink=0.8)
    figure.legend(fontsize="x-small", loc="outside upper center", ncol=len(paths))
    return figure


def boxes(
    table: pd.DataFrame, panel: str, x: str, hue: str, unit: str, marked: Mapping[str, float] | None = None
) -> plt.Figure:
    """Boxes from percentiles ``p5 p25 p50 p75 p95`` on a logarithmic axis: a panel, a group for each ``x``, a box for
    each ``hue``; in the first panel lines at the values of ``marked``.
    """
    panels, hues = list(dict.fromkeys(table[panel])), list(dict.fromkeys(table[hue]))
    figure, axes = plt.subplots(1, max(1, len(panels)), figsize=(WIDTH, 3.6), sharey=True, squeeze=False)
    for axis, name in zip(axes[0], panels, strict=False):
        part = table[table[panel] == name]
        groups = list(dict.fromkeys(part[x]))
        for color, own in zip(sns.color_palette(n_colors=len(hues)), hues, strict=True):
            rows = part[part[hue] == own]
            keys = {"whislo": "p5", "q1": "p25", "med": "p50", "q3": "p75", "whishi": "p95"}
            # 0 has no place on a logarithmic axis
            stats = [{key: max(getattr(row, p), 1e-3) for key, p in keys.items()} for row in rows.itertuples()]
            place = (hues.index(own) - (len(hues) - 1) / 2) * 0.8 / len(hues)
            axis.bxp(
                stats,
                positions=[groups.index(group) + place for group in rows[x]],
                widths=0.7 / len(hues),
                showfliers=False,
                patch_artist=True,
                boxprops={"facecolor": color, "alpha": 0.6, "linewidth": 0.8},
                medianprops={"color": "black"},
                manage_ticks=False,
            )
        axis.set(title=name, yscale="log", xticks=range(len(groups)), xticklabels=groups)
    axes[0, 0].set_ylabel(unit)
    handles = [
        plt.Rectangle((0, 0), 1, 1, color=color, alpha=0.6, label=own)
        for color, own in zip(sns.color_palette(n_colors=len(hues)), hues, strict=True)
    ]
    for line, (caption, value) in zip(("--", ":"), (marked or {}).items(), strict=False):
        handles.append(axes[0, 0].axhline(value, color="0.3", linestyle=line, linewidth=1.2, label=caption))
    if handles:
        figure.legend(handles=handles, fontsize="x-small", loc="outside upper center", ncol=4)
    return figure


def histogram(
    bins: pd.DataFrame, low: str, high: str, count: str, label: str, marked: Mapping[str, float] | None = None
) -> plt.Figure:
    """Bars from the columns ``low`` to ``high`` of a table, ``count`` high; lines at the values of ``marked``."""
    figure, axis = plt.subplots(figsize=(WIDTH, 2.6))
    axis.bar(bins[low], bins[count], bins[high] - bins[low], align="edge", color=OURS, linewidth=0)
    for caption, value in (marked or {}).items():
        axis.axvline(value, color="0.3", linestyle="--", linewidth=1, label=caption)
    axis.set(xlabel=label, ylabel=count, xlim=(bins[low].min(), bins[high].max()))
    if marked:
        axis.legend(fontsize="x-small")
    return figure


def scattered(points: pd.DataFrame, x: str, y: str, rank: str, labels: tuple[str, str]) -> plt.Figure:
    """A dot for each row, its area in proportion to 1 / ``rank``; the upright axis from 0 to 1 at least."""
    figure, axis = plt.subplots(figsize=(WIDTH, 3.6))
    axis.scatter(points[x], points[y], 60 / points[rank], color=OURS, alpha=0.5, linewidth=0)
    axis.set(xlabel=labels[0], ylabel=labels[1], xlim=(0, None), ylim=(0, max(1.0, 1.1 * points[y].max())))
    handles = [axis.scatter([], [], 60 / r, color=OURS, alpha=0.5, linewidth=0, label=f"rank {r}") for r in (1, 3, 10)]
    figure.legend(handles=handles, fontsize="x-small", loc="outside upper center", ncol=len(handles))
    return figure
