"""What the studies of a preset found, in one table and one page."""

from __future__ import annotations

import html
from pathlib import Path

import pandas as pd

from . import files, paths, studies, tables
from .verdicts import COLUMNS

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Duet: {preset}</title>
<style>body{{font:15px/1.5 sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}}table{{border-collapse:collapse;
font-size:13px}}td,th{{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}}</style>
<h1>Duet, preset {preset}</h1>
{studies}
<h2>Every claim</h2>
{verdicts}
</html>
"""


def write(preset: str, corpus: str = "") -> Path:
    """``verdicts.csv`` and ``index.html`` of a preset, from the studies whose notebooks have finished."""
    root = paths.study_results("", preset, corpus)
    finished = [key for key in studies.KEYS if (root / key / "provenance.json").exists()]
    judged = [pd.read_csv(root / key / "tables" / "verdicts.csv") for key in finished]
    verdicts = pd.concat(judged) if judged else pd.DataFrame(columns=COLUMNS)
    tables.write(verdicts, root / "verdicts.csv")
    items = "".join(
        f'<li><a href="{key}/notebook.html">{html.escape(studies.get(key).TITLE)}</a></li>'
        if key in finished
        else f"<li>{html.escape(studies.get(key).TITLE)}: not run</li>"
        for key in studies.KEYS
    )
    body = verdicts.to_html(index=False, na_rep="", border=0)
    page = root / "index.html"
    files.write_text(page, _PAGE.format(preset=html.escape(preset), studies=f"<ul>{items}</ul>", verdicts=body))
    return page
