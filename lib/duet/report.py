"""What the studies of a preset found: every claim, table and figure in one place, what was not run, and one page."""

from __future__ import annotations

import html
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from bs4 import BeautifulSoup
from nbconvert.filters import markdown2html
from PIL import Image

from . import exhibits, files, launch, paths, plots, readme, studies, tables
from .errors import DuetError
from .examples import describe
from .exhibits import Cell
from .verdicts import COLUMNS, in_half_widths, readable

VERDICTS = ("reproduced", "contradicted", "undecided", "not run")


def _finished(preset: str, corpus: str) -> list[str]:
    return [key for key in studies.KEYS if exhibits.finished(key, preset, corpus)]


def verdicts(preset: str, corpus: str = "") -> pd.DataFrame:
    """Every claim of the studies that are finished: the columns of ``verdicts.csv``."""
    folders = [paths.study_results(key, preset, corpus) for key in _finished(preset, corpus)]
    judged = [pd.read_csv(folder / "tables" / "verdicts.csv") for folder in folders]
    found = pd.concat(judged, ignore_index=True) if judged else pd.DataFrame()
    return found.reindex(columns=COLUMNS)


def counts(preset: str, corpus: str = "") -> pd.DataFrame:
    """How many claims have which verdict: a row a study, and the sum; a study that is not finished has none."""
    judged = verdicts(preset, corpus)
    wide = pd.crosstab(judged["study"], judged["verdict"]).reindex(index=studies.KEYS, columns=VERDICTS, fill_value=0)
    wide.loc["all"] = wide.sum()
    return wide.rename_axis(index="study", columns=None)


def forest(judged: pd.DataFrame) -> plt.Figure:
    """Every claim on one scale: how far it lies from the bound of its rule, in half widths of its interval."""
    parts = [
        in_half_widths(judged[judged["study"] == key], studies.get(key).CLAIMS) for key in judged["study"].unique()
    ]
    scaled = pd.concat(parts) if parts else judged
    captions = [f"{studies.get(row.study).NOTEBOOK[0]}  {row.claim}" for row in scaled.itertuples()]
    unit = "half widths of the 95 % interval beyond the bound; the claimed side is on the right"
    return plots.forest(scaled, captions, unit)


def exhibit_map(preset: str, corpus: str = "") -> pd.DataFrame:
    """Where each table and figure of the papers is: its file, and the cell of the notebook that writes it.

    ``cell`` is its id, ``heading`` what stands above it, with its number in the executed notebook; ``state`` is "not
    run" where the file is not there.
    """
    rows = []
    for key in studies.KEYS:
        folder, module = paths.study_results(key, preset, corpus), studies.get(key)
        cells, done = exhibits.writing(exhibits.notebook(key, preset, corpus)), exhibits.finished(key, preset, corpus)
        for label in exhibits.EXHIBITS[key]:
            for cell in exhibits.showing(cells, label):
                number = f", In [{cell.number}]" if cell.number else ""
                for file in cell.files:
                    state = "" if done and (folder / file).exists() else tables.NOT_RUN
                    place = (f"{module.NOTEBOOK}.ipynb", cell.id, f"{cell.heading}{number}")
                    rows.append((key, label, file, *place, state))
    return pd.DataFrame(rows, columns=["study", "exhibit", "file", "notebook", "cell", "heading", "state"])


def corpora(preset: str, corpus: str = "") -> pd.DataFrame:
    """What each corpus is that a number of the preset was measured on."""
    rows = []
    for key in _finished(preset, corpus):
        names: dict[str, None] = {}
        for path in sorted((paths.study_results(key, preset, corpus) / "tables").glob("*.csv")):
            table = pd.read_csv(path)
            names |= dict.fromkeys(table["corpus"].dropna()) if "corpus" in table else {}
        rows += [(key, name, describe(name)) for name in names]
    return pd.DataFrame(rows, columns=["study", "corpus", "what it is"])


def not_run(preset: str, corpus: str = "") -> pd.DataFrame:
    """What is missing, and why: whole studies, runs, claims, tables, and what the preset leaves out of the papers."""
    rows, places, judged = [], exhibit_map(preset, corpus), verdicts(preset, corpus)
    for key in studies.KEYS:
        module, folder = studies.get(key), paths.study_results(key, preset, corpus)
        known = module.PRESETS.get(preset)
        if known is None:
            rows.append((key, "the study", f"it has no preset {preset}"))
            continue
        grid = module.runs(preset)
        missing = [run for run in grid if not (folder / "runs" / f"{run.name}.json").exists()]
        for core, what in ((True, "runs of the core"), (False, "extended runs")):
            some, all_ = [r for r in missing if r.core is core], sum(r.core is core for r in grid)
            if some:
                names = "; ".join(f"{run.name}: {run.note}" if run.note else run.name for run in some)
                rows.append((key, what, f"{len(some)} of {all_}: {names}"))
        if not exhibits.finished(key, preset, corpus):
            rows.append((key, "its notebook", f"`duet notebook {key} --preset {preset}` makes its exhibits"))
        else:
            lost = places[(places["study"] == key) & (places["state"] != "")]
            rows += [(key, row.exhibit, f"{row.file} was not written") for row in lost.itertuples()]
            waiting = judged[(judged["study"] == key) & (judged["verdict"] == tables.NOT_RUN)]
            rows += [(key, "a claim", row.claim) for row in waiting.itertuples()]
        if known.cut:
            rows.append((key, "cut to fit the preset", known.cut))
    return pd.DataFrame(rows, columns=["study", "what", "which"])


# -- the page ----------------------------------------------------------------------------------------------------------


def write(preset: str, corpus: str = "") -> Path:
    """``verdicts.csv``, ``verdicts.png`` and ``index.html`` of a preset, from the studies whose notebooks are finished.

    The page loads nothing but the figures that lie beside it.  Of the repository's own ``overnight`` results README.md
    is brought up to date too.  Raises DuetError where a notebook or a table is damaged, where a notebook's own text
    would load something from elsewhere, and where README.md has lost the marks between which it is written.
    """
    root = paths.study_results("", preset, corpus)
    judged = tables.write(verdicts(preset, corpus), root / "verdicts.csv")
    if len(judged):
        plots.style()
        plots.save(forest(judged), root / "verdicts.png")
        plt.close()
    else:
        (root / "verdicts.png").unlink(missing_ok=True)
    title = "Duet: what the studies found"
    links = [("verdicts", "Verdicts"), *((key, f"{_number(key)} {_short(key)}") for key in studies.KEYS)]
    links += [("corpora", "Corpora"), ("map", "Map"), ("not-run", "Not run")]
    body = "".join(
        (
            _overview(preset, corpus, judged, root),
            *(_study(key, preset, corpus, judged[judged["study"] == key]) for key in studies.KEYS),
            _section("corpora", "What each corpus is", _corpora(preset, corpus)),
            _section("map", "From paper to file to cell", _map(preset, corpus)),
            _section("not-run", "What was not run", _not_run(preset, corpus)),
        )
    )
    page = _PAGE.format(
        title=html.escape(title),
        preset=html.escape(root.name),
        nav="".join(f'<a href="#{anchor}">{html.escape(text)}</a>' for anchor, text in links),
        body=body,
        style=_STYLE,
        script=_SCRIPT,
    )
    loads = launch.outside_references(BeautifulSoup(page, "html.parser"))
    if loads:
        raise DuetError(f"the page would load {loads[0]}", path=root / "index.html", remedy="embed it in the notebook")
    files.write_text(root / "index.html", page)
    if readme.is_published(preset, corpus):
        readme.update(paths.ROOT / "README.md", root)
    return root / "index.html"


def _number(key: str) -> str:
    return studies.get(key).NOTEBOOK.split("_")[0]


def _short(key: str) -> str:
    words = key.replace("_", " ").replace("ctc", "CTC")
    return words[0].upper() + words[1:]


def _section(anchor: str, heading: str, body: str) -> str:
    return f'<section id="{anchor}"><h2>{html.escape(heading)}</h2>\n{body}</section>\n'


def _details(summary: str, body: str) -> str:
    return f"<details><summary>{html.escape(summary)}</summary>\n{body}</details>\n"


def _markdown(text: str) -> str:
    return str(markdown2html(text))


def _code(text: str) -> str:
    """Escaped, with what stands between back-ticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _frame(table: pd.DataFrame, caption: str = "", plain: bool = True) -> str:
    """A table of ours; ``plain``: its cells are text and no HTML."""
    return _wrapped(table.to_html(index=False, na_rep="", border=0, escape=plain), caption)


def _wrapped(table: str, caption: str = "") -> str:
    """A table as it is read here: only text and spans of rows and columns are left of what pandas wrote."""
    soup = BeautifulSoup(table, "html.parser").table
    for element in soup.find_all(["script", "style"]):
        element.decompose()
    for element in (soup, *soup.find_all(["table", "thead", "tbody", "tr", "th", "td"])):
        element.attrs = {name: element[name] for name in ("rowspan", "colspan", "class") if name in element.attrs}
        if "dataframe" in element.get("class", []):
            del element["class"]
    _one_heading(soup)
    for cell in soup.select("td"):
        text = cell.get_text()
        if pair := re.fullmatch(r"(\S+) \| (.+)", text):
            cell.clear()
            cell.append(BeautifulSoup(f"<i>{html.escape(pair[1])}</i> | {html.escape(pair[2])}", "html.parser"))
        if re.fullmatch(r"NaN|None", text):
            cell.string = "–"
        if re.fullmatch(r"[-–]?[\d,.]*\d%?( .*)?|[-–] \|.*|–", text):
            cell["class"] = [*cell.get("class", []), "n"]
    for head in soup.select("thead th"):
        head["scope"] = "col"
    if caption:
        soup.insert(0, BeautifulSoup(f"<caption>{html.escape(caption)}</caption>", "html.parser"))
    return f'<div class="wide" tabindex="0">{soup}</div>\n'


def _one_heading(table: BeautifulSoup) -> None:
    """Pandas has names of columns and of the index in two rows, and numbers rows that have no name."""
    rows = table.select("thead tr")
    if len(rows) == 2 and len(rows[0].select("th")) == len(rows[1].select("th")):
        for above, below in zip(rows[0].select("th"), rows[1].select("th"), strict=True):
            if below.get_text(strip=True):
                above.string = below.get_text()
        rows[1].decompose()
    numbers = [row.th for row in table.select("tbody tr")]
    if len(rows) == 1 and not rows[0].th.get_text(strip=True) and all(n and n.get_text().isdigit() for n in numbers):
        for head in (rows[0].th, *numbers):
            head.decompose()


def _figure(root: Path, file: str, alt: str, caption: str = "") -> str:
    """A picture that lies under the page's folder, a link to itself where scripts do not run."""
    with Image.open(root / file) as picture:
        width, height = picture.size
    source, shown = html.escape(file), f"<figcaption>{_code(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><a class="enlarge" href="{source}"><img src="{source}" alt="{html.escape(alt)}" width="{width}" '
        f'height="{height}" loading="lazy"></a>{shown}</figure>\n'
    )


def _overview(preset: str, corpus: str, judged: pd.DataFrame, root: Path) -> str:
    text = (
        "<p>Five papers on sheet music and sound, made again. Each claim is a number that the claim says lies above, "
        "or below, a bound. <b>Reproduced</b> means that the whole 95 % interval lies on the claimed side, "
        "<b>contradicted</b> on the other, <b>undecided</b> neither; the rules were fixed before the runs. "
        "The papers' numbers are from their own data and ours from the "
        '<a href="#corpora">corpora</a> named beside them: the same protocol, not the same experiment.</p>\n'
    )
    wide = counts(preset, corpus)
    lines = []
    for key, row in wide.iterrows():
        if key == "all":
            name, state = "all", ""
        else:
            name = f'<a href="#{key}">{_number(key)} {_short(key)}</a>'
            state = "" if exhibits.finished(key, preset, corpus) else tables.NOT_RUN
        cells = "".join(f'<td class="n">{n or ""}</td>' for n in row) if not state else f'<td colspan="4">{state}</td>'
        lines.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col"><span class="v {_class(v)}">{v}</span></th>' for v in VERDICTS)
    text += (
        '<div class="wide" tabindex="0"><table class="counts"><caption>Claims by verdict</caption><thead><tr>'
        f'<th scope="col">study</th>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>\n'
    )
    if len(judged):
        number = wide.loc["all"]
        alt = (
            f"{len(judged)} claims with estimates and intervals, as distances from their bounds: "
            + ", ".join(f"{number[v]} {v}" for v in VERDICTS if number[v])
            + "."
        )
        caption = (
            "Every claim, beginning with the number of its study, on one scale: 0 is the bound of its rule, to the "
            "right is the claimed side, and an interval is two units wide."
        )
        text += _details("All claims in one figure", _figure(root, "verdicts.png", alt, caption))
        text += '<p class="files"><a href="verdicts.csv">verdicts.csv</a></p>\n'
    return _section("verdicts", "Verdicts", text)


def _class(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _study(key: str, preset: str, corpus: str, judged: pd.DataFrame) -> str:
    module, folder = studies.get(key), paths.study_results(key, preset, corpus)
    notebook = exhibits.notebook(key, preset, corpus)
    heading = f"{_number(key)} {module.TITLE}"
    done = exhibits.finished(key, preset, corpus)
    about = _markdown(exhibits.introduction(notebook))
    if not done:
        remedy = (
            f"<p class='state'>{tables.NOT_RUN}: <code>duet notebook {key} --preset {html.escape(preset)}</code></p>"
        )
        return _section(key, heading, remedy + _details("The question and the claim", about))
    made = files.read_json(folder / "metrics.json").get("runs", {}) if (folder / "metrics.json").exists() else {}
    when = files.read_json(folder / "provenance.json")
    state = f"Notebook executed {html.escape(str(when.get('date', ''))[:10])}"
    if made:
        state += f"; {made['made']} of {made['core']} runs of the core are made, {made['cpu_seconds']:,} CPU-seconds"
    body = f'<p class="state"><a href="{key}/notebook.html">The whole notebook</a>. {state}.</p>\n{about}'
    body += "<h3>Claims</h3>\n" + _claims(judged)
    for path in sorted(folder.glob("figures/verdicts*.png")):
        alt = f"Estimates with 95 % intervals of the claims of study {_number(key)}, in their own units."
        body += _details(
            f"Figure of the claims ({path.name})", _figure(folder.parent, f"{key}/figures/{path.name}", alt)
        )
    cells = exhibits.writing(notebook)
    before = ""
    for label in exhibits.EXHIBITS[key]:
        shown = exhibits.showing(cells, label)
        title = shown[0].heading if shown else tables.NOT_RUN
        body += f'<h3 id="{_anchor(key, label)}">{label}{_subtitle(label, title)}</h3>\n'
        for cell in shown:
            body += _exhibit(key, folder, label, cell, cell.prose != before)
            before = cell.prose
    body += _others(key, folder, cells)
    if settings := _csv(folder / "tables" / "settings.csv"):
        body += _details("The configuration beside the paper's", settings)
    if why := exhibits.differences(notebook):
        body += _details("What differs from the paper, and why", _markdown(why))
    return _section(key, heading, body)


def _anchor(key: str, label: str) -> str:
    return f"{key}-{label.lower().replace(' ', '-')}"


def _subtitle(label: str, heading: str) -> str:
    """What a heading says beyond the label: of "Table 3: the baselines" the second half."""
    rest = re.sub(rf"^{label}: |^(?:Tables|Figures) [\d, and]+: | \({label}\)$", "", heading)
    return f" <small>{html.escape(rest)}</small>" if rest else ""


def _claims(judged: pd.DataFrame) -> str:
    rows = []
    for _, row in readable(judged).map(lambda text: html.escape(str(text))).iterrows():
        ours = row["ours [95 %]"].replace("[", "<span>[").replace("]", "]</span>")
        rows.append(
            f'<tr><th scope="row">{row.claim}<small>{row.source}</small></th>'
            f'<td data-label="paper">{row.paper}</td><td data-label="ours [95 %]">{ours}</td>'
            f'<td data-label="verdict"><span class="v {_class(row.verdict)}">{row.verdict}</span></td>'
            f'<td data-label="why">{row.why}<small>{row.rule}</small></td></tr>'
        )
    heads = "".join(
        f'<th scope="col">{h}</th>' for h in ("claim", "paper", "ours [95 %]", "verdict", "why, and the rule")
    )
    return f'<table class="claims"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>\n'


def _exhibit(key: str, folder: Path, label: str, cell: Cell, prose: bool) -> str:
    """The text above a cell, what it has put out, its figures and files, and every number behind a table."""
    body = _markdown(cell.prose) if prose and cell.prose else ""
    if cell.printed:
        body += f'<p class="printed">{html.escape(cell.printed).replace(chr(10), "<br>")}</p>\n'
    body += "".join(_wrapped(table) for table in cell.tables)
    links = []
    for file in cell.files:
        path = folder / file
        if not path.exists():
            body += f"<p class='state'>{html.escape(path.name)}: {tables.NOT_RUN}</p>\n"
            continue
        links.append(f'<a href="{key}/{file}">{html.escape(file)}</a>')
        if path.suffix == ".png":
            first = BeautifulSoup(_markdown(cell.prose), "html.parser").get_text().split(". ")[0].strip().rstrip(".")
            body += _figure(folder.parent, f"{key}/{file}", f"{label}, study {_number(key)}. {cell.heading}. {first}.")
        elif len(table := pd.read_csv(path)) and "low" in table:
            body += _details(f"Every number with its interval: {path.name}, {len(table)} rows", _intervals(table))
    place = f'<a href="{key}/notebook.html#cell-id={html.escape(cell.id)}">cell [{cell.number}]</a>'
    return body + f'<p class="files">{" · ".join([*links, place])}</p>\n'


def _intervals(table: pd.DataFrame) -> str:
    """A tidy table with estimate and interval in one column; a corpus that all rows share is in the caption."""
    shown = table[[c for c in table if c not in tables.MEASURES]].copy()
    if table["paper"].notna().any():
        shown["paper"] = ["" if pd.isna(p) else f"{p:g}" for p in table["paper"]]
    shown["ours [95 %]"] = [
        tables.NOT_RUN if pd.isna(r.ours) else f"{r.ours:g} [{r.low:g}, {r.high:g}]" for r in table.itertuples()
    ]
    shown[["n", "seeds"]] = table[["n", "seeds"]]
    one = table["corpus"].nunique() == 1
    if not one:
        shown["corpus"] = table["corpus"]
    return _frame(shown, f"Ours are from {table['corpus'].iloc[0]}." if one else "")


def _csv(path: Path) -> str:
    return _frame(pd.read_csv(path, keep_default_na=False, dtype=str)) if path.exists() else ""


def _others(key: str, folder: Path, cells: list[Cell]) -> str:
    """Controls and curves that no exhibit of the paper has: where they are, and where they are made."""
    shown = {f for label in exhibits.EXHIBITS[key] for cell in exhibits.showing(cells, label) for f in cell.files}
    rows = [
        f'<li><a href="{key}/{file}">{html.escape(file)}</a> '
        f'<a href="{key}/notebook.html#cell-id={html.escape(cell.id)}">{html.escape(cell.heading)}</a></li>'
        for cell in cells
        for file in cell.files
        if file not in shown and (folder / file).exists()
    ]
    return _details("Controls and everything else the notebook writes", f"<ul>{''.join(rows)}</ul>") if rows else ""


def _corpora(preset: str, corpus: str) -> str:
    found = corpora(preset, corpus)
    if found.empty:
        return f"<p class='state'>{tables.NOT_RUN}</p>"
    found["study"] = [_short(key) for key in found["study"]]
    return _frame(found) + (
        "<p>What a preset takes of each is in the studies' configurations; <code>notebooks/0_corpora.ipynb</code> "
        "shows and plays one example of each layout.</p>\n"
    )


def _map(preset: str, corpus: str) -> str:
    done, rows = _finished(preset, corpus), exhibit_map(preset, corpus)

    def link(row, target: str, text: str) -> str:
        text = html.escape(text)
        return f'<a href="{html.escape(target)}">{text}</a>' if row.study in done and not row.state else text

    lines = [
        (
            f"{_number(row.study)} {_short(row.study)}",
            link(row, f"#{_anchor(row.study, row.exhibit)}", row.exhibit),
            link(row, f"{row.study}/{row.file}", row.file) + (f" ({row.state})" if row.state else ""),
            row.notebook,
            link(row, f"{row.study}/notebook.html#cell-id={row.cell}", row.heading),
        )
        for row in rows.itertuples()
    ]
    return _frame(pd.DataFrame(lines, columns=["study", "paper", "file", "notebook", "cell"]), plain=False)


def _not_run(preset: str, corpus: str) -> str:
    rows = not_run(preset, corpus)
    if rows.empty:
        return "<p>Nothing: every run of every study was made.</p>"
    rows["study"] = [_short(key) for key in rows["study"]]
    rows["what"], rows["which"] = rows["what"].map(html.escape), rows["which"].map(_code)
    return _frame(rows, plain=False)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src 'self' file:; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title} ({preset})</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p>Preset <b>{preset}</b></p></header>
<nav aria-label="Contents">{nav}</nav>
<main>
{body}</main>
<dialog aria-label="Enlarged figure"><form method="dialog"><button>Close</button></form><img alt=""></dialog>
<script>{script}</script>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light; color: #1a1a1a; background: #fff; font: 16px/1.5 system-ui, sans-serif;
  --line: #ddd; --soft: #666; --link: #0b57a4 }
@media (prefers-reduced-motion: no-preference) { :root { scroll-behavior: smooth } }
* { box-sizing: border-box }
body { max-width: 1080px; margin: 0 auto; padding: 0 20px 4rem }
header { padding: 1.5rem 0 .6rem }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 }
header p { margin: .2rem 0; color: var(--soft) }
h2 { font-size: 1.35rem; line-height: 1.25; margin: 0 0 .8rem }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem }
h3 small { font-weight: normal; font-size: 1em; color: var(--soft) }
section { padding-top: 1.6rem; margin-top: 2.2rem; border-top: 2px solid #1a1a1a }
section:first-child { border: 0; margin-top: 0; padding-top: .8rem }
section, h3 { scroll-margin-top: 3.2rem }
p, ul { max-width: 46rem; margin: .5rem 0 }
a { color: var(--link) }
nav { position: sticky; top: 0; z-index: 2; display: flex; gap: .2rem 1.1rem; padding: .55rem 0; background: #fff;
  border-bottom: 1px solid var(--line); overflow-x: auto; white-space: nowrap; font-size: .9rem }
nav a { text-decoration: none }
nav a:hover { text-decoration: underline }
code { font-size: .9em; background: #f3f3f3; padding: 0 .25em; border-radius: 3px }
.wide { overflow-x: auto; margin: .6rem 0 }
table { border-collapse: collapse; font-size: .85rem; line-height: 1.4 }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem }
th, td { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
thead th { color: var(--soft); font-weight: 600; border-bottom-color: #999; vertical-align: bottom }
tbody th { font-weight: 500 }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap }
td i { font-style: normal; color: var(--soft) }
.counts { min-width: 34rem }
.claims { width: 100%; table-layout: fixed }
.claims th:nth-child(1) { width: 28% }
.claims th:nth-child(2) { width: 15% }
.claims th:nth-child(3) { width: 17% }
.claims th:nth-child(4) { width: 7.2rem }
.claims th, .claims td { overflow-wrap: anywhere }
.claims small { display: block; color: var(--soft); font-weight: normal; margin-top: .15rem }
.claims span { white-space: nowrap }
.v { display: inline-block; padding: 0 .5em; border-radius: 3px; font-size: .8rem; font-weight: 600;
  white-space: nowrap }
.reproduced { background: #d7f0e2; color: #0a5a33 }
.contradicted { background: #fbdcd6; color: #8c2410 }
.undecided { background: #ececec; color: #444 }
.not-run { background: #fff; color: #555; box-shadow: inset 0 0 0 1px #bbb }
.state, .files, .printed { font-size: .85rem; color: var(--soft) }
.printed { border-left: 3px solid var(--line); padding-left: .7rem }
figure { margin: .8rem 0; max-width: 46rem }
figcaption { font-size: .85rem; color: var(--soft); margin-top: .3rem }
img { display: block; max-width: 100%; height: auto }
.enlarge { cursor: zoom-in; display: block }
details { margin: .6rem 0 }
summary { cursor: pointer; color: var(--link); font-size: .9rem }
dialog { width: 96vw; max-width: none; height: 94vh; max-height: none; padding: 0; border: 1px solid #999;
  overflow: auto }
dialog::backdrop { background: rgb(0 0 0 / .6) }
dialog form { position: sticky; top: 0; left: 0; width: max-content; padding: .5rem }
dialog button { font: inherit; padding: .2rem .8rem }
dialog img { width: max(100%, 900px); max-width: none }
@media (max-width: 700px) {
  body { padding-inline: 12px }
  h1 { font-size: 1.4rem }
  .claims, .claims tbody { display: block }
  .claims thead { display: none }
  .claims tr { display: block; padding: .6rem 0; border-bottom: 1px solid var(--line) }
  .claims th:nth-child(n), .claims td { display: block; width: auto; padding: .1rem 0; border: 0 }
  .claims td::before { content: attr(data-label) " "; color: var(--soft) }
  .claims td[data-label=why]::before { content: "" }
  .counts { min-width: 0; font-size: .8rem }
  .counts th, .counts td { padding-right: .25rem }
  .counts .v { font-size: .65rem; padding: 0 .2em }
}
@media print { nav, dialog { display: none } }
"""

_SCRIPT = """
"use strict";
const dialog = document.querySelector("dialog"), large = dialog.querySelector("img");
addEventListener("click", (event) => {
  const link = event.target.closest("a.enlarge");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const small = link.querySelector("img");
  large.src = small.src;
  large.alt = small.alt;
  dialog.showModal();
});
large.addEventListener("click", () => dialog.close());
// what an address or a link points to inside a closed part has to be open to be seen
const open = () => document.getElementById(location.hash.slice(1))?.closest("details")?.setAttribute("open", "");
addEventListener("hashchange", open);
open();
"""
