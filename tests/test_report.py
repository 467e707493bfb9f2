"""Every claim, table and figure of a preset in one place, on a page that needs nothing else."""

import json
import re
import shutil
import subprocess

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from duet import DuetError, exhibits, files, launch, paths, report, studies, tables
from duet.verdicts import COLUMNS

KEY = "ctc_chroma"
PIVOT = pd.DataFrame(
    {"rate": [10, 10, 25], "method": ["a", "b", "a"], "measure": "MRR", "cell": ["0.7 | 0.8", "- | not run", "1 | 2"]}
).pivot(index=["rate", "method"], columns="measure", values="cell")


def finish(key=KEY, preset="smoke", prose="What it is read for.", table=None):
    """A study whose notebook has run: one table, one figure that was drawn and one that was not, two verdicts."""
    folder = paths.study_results(key, preset)
    claim = studies.get(key).CLAIMS[0]
    rows = [
        [key, claim.text, "Table 4", "0.8 and 0.7", 0.5, 0.1, 0.9, "reproduced", claim.rule, "It lies above."],
        [key, "a claim with <tags>", "control", None, None, None, None, "not run", "above 0", "A run is missing."],
    ]
    tables.write(pd.DataFrame(rows, columns=COLUMNS), folder / "tables" / "verdicts.csv")
    cells = [("", "", {"method": "a", "measure": "MRR"}), (0.7, 0.8, {"method": "b", "measure": "<MRR>"})]
    tidy = [
        {**at, "paper": p, "ours": o, "low": 0.6, "high": 0.9, "n": 9, "seeds": 1, "corpus": "music21 (open)"}
        for p, o, at in cells
    ]
    tables.write(pd.DataFrame(tidy).replace("", None), folder / "tables" / "table3.csv")
    tables.write(pd.DataFrame({"run": ["x"], "loss": [1]}), folder / "tables" / "curves.csv")
    (folder / "figures").mkdir(exist_ok=True)
    for name in ("figure1", "verdicts"):
        Image.fromarray(np.full((120, 300), 200, np.uint8)).save(folder / "figures" / f"{name}.png")
    shown = new_output("execute_result", {"text/html": table or PIVOT.to_html(), "text/plain": ""}, execution_count=2)
    said = new_output("stream", name="stdout", text="9 candidates < 10\n")
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# 5. A title\n\nA. Author: *A paper*. 2020.\n\n**The claim.** All is well.", id="c00"),
            new_markdown_cell(f"## Table 3: the baselines\n\n{prose}", id="c01"),
            new_code_cell('tables.write(t, folder / "tables" / "table3.csv")', id="c02", execution_count=2,
                          outputs=[said, shown]),
            new_markdown_cell("## Figures 1 and 3: passages\n\n**Figure 1.** One passage. As it is.", id="c03"),
            new_code_cell('save(f, folder / "figures" / "figure1.png")', id="c04", execution_count=3),
            new_code_cell('save(f, folder / "figures" / "figure3.png")', id="c05", execution_count=4),
            new_code_cell('tables.write(c, folder / "tables" / "curves.csv")', id="c06", execution_count=5),
            new_markdown_cell("## What differs from the paper, and why\n\n- **Size.** Smaller.", id="c07"),
        ]
    )  # fmt: skip
    nbformat.write(notebook, folder / "notebook.ipynb")
    (folder / "notebook.html").write_text("".join(f'<p id="cell-id={cell.id}">' for cell in notebook.cells))
    files.write_json(folder / "metrics.json", {"runs": {"core": 7, "made": 6, "cpu_seconds": 1234}})
    files.write_json(folder / "provenance.json", {"date": "2026-01-02T03:04:05+00:00"})
    return folder


@pytest.fixture
def page(workspace):
    finish()
    return report.write("smoke")


def parsed(path):
    return BeautifulSoup(path.read_text(), "html.parser")


# -- what is collected -------------------------------------------------------------------------------------------------


def test_a_study_counts_when_its_notebook_has_finished(workspace):
    folder = finish()
    (folder / "provenance.json").unlink()
    assert len(report.verdicts("smoke")) == 0 and tuple(report.verdicts("smoke")) == COLUMNS
    assert report.counts("smoke").loc["all"].sum() == 0
    text = report.write("smoke").read_text()
    assert "a claim" not in text and f"duet notebook {KEY} --preset smoke" in text
    assert not (folder.parent / "verdicts.png").exists()

    files.write_json(folder / "provenance.json", {})
    written = pd.read_csv(report.write("smoke").parent / "verdicts.csv")
    assert tuple(written) == COLUMNS and written["verdict"].tolist() == ["reproduced", "not run"]
    assert report.counts("smoke").loc[KEY].to_dict() == {
        "reproduced": 1, "contradicted": 0, "undecided": 0, "not run": 1
    }  # fmt: skip
    assert (folder.parent / "verdicts.png").exists()


def test_verdicts_of_an_older_notebook_have_no_reason(workspace):
    folder = finish()
    old = pd.read_csv(folder / "tables" / "verdicts.csv").drop(columns="why")
    tables.write(old, folder / "tables" / "verdicts.csv")
    assert report.verdicts("smoke")["why"].isna().all()
    assert len(parsed(report.write("smoke")).select(".claims tbody tr")) == 2


def test_what_was_not_run(workspace):
    finish()
    module = studies.get(KEY)
    first, *rest = [run for run in module.runs("overnight") if run.core]
    shutil.copytree(paths.study_results(KEY, "smoke"), paths.study_results(KEY, "overnight"))
    for run in rest:
        files.write_json(paths.study_results(KEY, "overnight") / "runs" / f"{run.name}.json", {})
    found = report.not_run("overnight")
    own = found[found["study"] == KEY].groupby("what")["which"].agg(list)
    assert own["runs of the core"] == [f"1 of {len(rest) + 1}: {first.name}: {first.note}"]
    extended = [run for run in module.runs("overnight") if not run.core]
    assert own["extended runs"][0].startswith(f"{len(extended)} of {len(extended)}: {extended[0].name}")
    assert own["Figure 3"] == ["figures/figure3.png was not written"]
    assert own["a claim"] == ["a claim with <tags>"]
    assert own["cut to fit the preset"] == [module.PRESETS["overnight"].cut]
    assert "its notebook" not in own
    others = found[found["what"] == "its notebook"]["study"].tolist()
    assert others == [key for key in studies.KEYS if key != KEY]


def test_the_map_leads_from_the_paper_to_the_cell(workspace):
    finish()
    rows = report.exhibit_map("smoke")
    own = rows[rows["study"] == KEY].set_index("exhibit")
    where = ["tables/table3.csv", "5_ctc_chroma.ipynb", "c02", "Table 3: the baselines, In [2]", ""]
    assert own.loc["Table 3"].tolist()[1:] == where
    assert own.loc["Figure 1", "heading"] == "Figures 1 and 3: passages, In [3]"
    assert own.loc["Figure 3", "state"] == "not run"
    other = rows[rows["study"] == "transfer_learning"]  # not executed: from the notebook as it is written
    assert set(other["state"]) == {"not run"} and "In [" not in "".join(other["heading"])
    assert other["file"].tolist() == ["tables/table1.csv", "tables/table2.csv", "tables/table3.csv",
                                      "figures/table3.png"]  # fmt: skip


def test_corpora_are_those_that_the_tables_name(workspace):
    finish()
    found = report.corpora("smoke")
    assert found["corpus"].tolist() == ["music21 (open)"] and "stand-in for MTD" in found.loc[0, "what it is"]


def test_a_notebook_that_is_none(workspace):
    folder = finish()
    (folder / "notebook.ipynb").write_text('{"cells": [')
    with pytest.raises(DuetError, match="notebook.ipynb: is not a notebook"):
        report.write("smoke")
    (folder / "notebook.ipynb").unlink()
    with pytest.raises(DuetError, match="no such notebook"):
        report.write("smoke")


# -- the papers' tables and figures ------------------------------------------------------------------------------------


def test_every_exhibit_is_listed():
    assert set(exhibits.EXHIBITS) == set(studies.KEYS)
    listed = {key: " ".join(label.replace("able ", "").replace("igure ", "") for label in labels)
              for key, labels in exhibits.EXHIBITS.items()}  # fmt: skip
    assert listed == {
        "transfer_learning": "T1 T2 T3",
        "passage_retrieval": "T1 T2 T3 F1 F3 F4",
        "alignment": "T1 T2 T3 F2 F3 F6 F7",
        "synthetic_pretraining": "T1 T2 T3 F3",
        "ctc_chroma": "T1 T2 T3 T4 T5 T6 F1 F3 F4",
    }


def numbers(heading, kind):
    """Of "Tables 1 to 3: all" 1, 2 and 3."""
    found = set()
    for first, joint, last in re.findall(rf"{kind}s? (\d+)(?: (to|and) (\d+))?", heading):
        found |= set(range(int(first), int(last) + 1)) if joint == "to" else {int(n) for n in (first, last) if n}
    return found


@pytest.mark.parametrize("key", exhibits.EXHIBITS)
def test_every_exhibit_is_written_by_a_cell_under_its_heading(key):
    source = nbformat.read(paths.NOTEBOOKS / f"{studies.get(key).NOTEBOOK}.ipynb", as_version=4)
    cells = exhibits.writing(source)
    published = paths.ROOT / "results" / "overnight" / key
    for label in exhibits.EXHIBITS[key]:
        shown = exhibits.showing(cells, label)
        assert shown, f"no cell writes {label}"
        kind, number = label.split()
        assert int(number) in numbers(shown[0].heading, kind), shown[0].heading
        if (published / "provenance.json").exists():
            assert all((published / file).exists() for cell in shown for file in cell.files)
    assert len({file for cell in cells for file in cell.files}) == sum(len(cell.files) for cell in cells)


def test_a_cell_takes_the_nearest_heading():
    texts = [
        ("markdown", "# 9. A study\n\nIts claim."),
        ("markdown", "## The network (Table 1)\n\nLayers."),
        ("code", 'write("table1.csv")'),
        ("markdown", "**Table 2: all of it.** By *size*.\n\n**In bold.** More."),
        ("code", 'write("table2.csv"); write("table2_more.csv"); write("table20.csv")'),
        ("markdown", "## Figures 6 and 7: aligning\n\n**Figure 6.** A path."),
        ("code", 'read("x.csv2")\nsave("figure6.png")'),
        ("markdown", "Only text."),
        ("code", "nothing('figure7.png')"),
    ]
    made = [(new_markdown_cell if kind == "markdown" else new_code_cell)(text) for kind, text in texts]
    cells = exhibits.writing(new_notebook(cells=made))
    assert [(c.heading, c.prose, c.files) for c in cells] == [
        ("The network (Table 1)", "Layers.", ("tables/table1.csv",)),
        ("In bold", "By *size*.\n\nMore.", ("tables/table2.csv", "tables/table2_more.csv", "tables/table20.csv")),
        ("Figures 6 and 7: aligning", "A path.", ("figures/figure6.png",)),
    ]
    assert [c.files for c in exhibits.showing(cells, "Table 2")] == [("tables/table2.csv", "tables/table2_more.csv")]
    assert exhibits.showing(cells, "Figure 7") == []
    assert exhibits.introduction(new_notebook(cells=made)) == "Its claim."


# -- the page ----------------------------------------------------------------------------------------------------------


def test_a_claim_has_both_numbers_the_interval_the_verdict_and_why(page):
    rows = parsed(page).select(f"#{KEY} .claims tbody tr")
    claim = studies.get(KEY).CLAIMS[0]
    assert [" ".join(cell.get_text(" ").split()) for cell in rows[0].find_all(["th", "td"])] == [
        f"{claim.text} Table 4", "0.8 and 0.7", "0.5 [0.1, 0.9]", "reproduced", f"It lies above. {claim.rule}"
    ]  # fmt: skip
    assert [cell.get_text(" ") for cell in rows[1].find_all(["th", "td"])] == [
        "a claim with <tags> control", "–", "not run", "not run", "A run is missing. above 0"
    ]  # fmt: skip


def test_an_exhibit_has_its_text_its_table_its_figure_and_its_files(page):
    soup = parsed(page)
    head = soup.find(id=f"{KEY}-table-3")
    assert head.get_text() == "Table 3 the baselines"
    part = [element for element in head.find_next_siblings() if element.find_previous("h3") is head]
    assert part[0].get_text().strip() == "What it is read for."
    assert part[1].get_text() == "9 candidates < 10"
    table = part[2].table
    assert [th.get_text() for th in table.select("thead th")] == ["rate", "method", "MRR"]
    assert [[c.get_text() for c in row.find_all(["th", "td"])] for row in table.select("tbody tr")] == [
        ["10", "a", "0.7 | 0.8"], ["b", "- | not run"], ["25", "a", "1 | 2"]
    ]  # fmt: skip
    every = part[3].table
    assert every.caption.get_text() == "Ours are from music21 (open)."
    assert [[c.get_text() for c in row.select("td")] for row in every.select("tbody tr")] == [
        ["a", "MRR", "", "not run", "9", "1"], ["b", "<MRR>", "0.7", "0.8 [0.6, 0.9]", "9", "1"]
    ]  # fmt: skip
    assert [a["href"] for a in part[4].select("a")] == [f"{KEY}/tables/table3.csv", f"{KEY}/notebook.html#cell-id=c02"]
    (figure,) = soup.find(id=f"{KEY}-figure-1").find_next_siblings("figure", limit=1)
    assert figure.img["alt"] == "Figure 1, study 5. Figures 1 and 3: passages. One passage."
    assert (figure.img["width"], figure.img["height"]) == ("300", "120")
    assert soup.find(id=f"{KEY}-figure-3").find_next("p", class_="state").get_text() == "figure3.png: not run"
    others = next(d for d in soup.select(f"#{KEY} details") if "Controls" in d.summary.get_text())
    assert [a["href"] for a in others.select("a")] == [f"{KEY}/tables/curves.csv", f"{KEY}/notebook.html#cell-id=c06"]


def targets(page, links):
    """The links of a page that lead nowhere."""
    lost = []
    for link in links:
        file, _, fragment = link.partition("#")
        path = page.parent / file if file else page
        if not path.exists() or (fragment and not parsed(path).find(id=fragment)):
            lost.append(link)
    return lost


def links_of(soup):
    return {a["href"] for a in soup.select("a[href]")} | {img["src"] for img in soup.select("img[src]")}


def test_every_link_resolves_and_nothing_is_loaded_from_elsewhere(page):
    soup = parsed(page)
    links = {link for link in links_of(soup) if not link.startswith("https://doi.org/")}
    assert len(links) > 20 and targets(page, links) == []
    assert launch.outside_references(soup) == [] and not soup.find_all(["link", "iframe", "object", "base"])
    assert all(img["alt"].strip() for img in soup.select("main img"))
    (policy,) = soup.find_all("meta", {"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; img-src 'self' file:; style-src")
    assert len({element["id"] for element in soup.select("[id]")}) == len(soup.select("[id]"))
    assert {a["href"] for a in soup.select("nav a")} == {f"#{section['id']}" for section in soup.select("section")}


def test_of_a_notebooks_output_only_the_table_comes_onto_the_page(workspace):
    finish(table='<script>1</script><table onclick="x()"><tr><td style="x">1<script>2</script></td></tr></table>')
    soup = parsed(report.write("smoke"))
    assert not soup.select("[onclick], td[style]") and len(soup.select("script")) == 1


def test_a_notebook_that_would_load_something(workspace):
    finish(prose="![a picture](https://example.org/x.png)")
    with pytest.raises(DuetError, match="would load https://example.org/x.png"):
        report.write("smoke")
    assert not (paths.study_results("", "smoke") / "index.html").exists()


@pytest.mark.parametrize(("frame", "head", "first"), [
    (pd.DataFrame({"a": [1.5, None]}), ["a"], ["1.5"]),
    (pd.DataFrame({"a": ["x", "y"]}, index=[3, 9]), ["a"], ["x"]),  # rows of a selection
    (pd.DataFrame({"a": ["x"]}, index=pd.Index(["r"], name="i")), ["i", "a"], ["r", "x"]),
    (pd.DataFrame({"a": ["-1 | 2"]}, index=["r"]), ["", "a"], ["r", "-1 | 2"]),
])  # fmt: skip
def test_tables_lose_what_only_pandas_needs(frame, head, first):
    soup = BeautifulSoup(report._wrapped(frame.to_html()), "html.parser")
    assert [th.get_text() for th in soup.select("thead th")] == head
    assert [cell.get_text() for cell in soup.select("tbody tr")[0].find_all(["th", "td"])] == first
    assert "NaN" not in soup.get_text() and not soup.select("[style], [border]")


# -- in a browser ------------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

LOOK = """
const images = [...document.images].filter((image) => image.hasAttribute("src"));
for (const part of document.querySelectorAll("details")) part.open = true;
for (const image of images) image.loading = "eager";
// decoding would not stop the browser's virtual clock, loading does
const loaded = (image) => image.complete || new Promise((done) => { image.onload = image.onerror = done; });
await Promise.all(images.map(loaded));
const dialog = document.querySelector("dialog"), link = document.querySelector("a.enlarge");
const found = { images: images.map((image) => image.naturalWidth), before: dialog.open,
  width: document.documentElement.scrollWidth, window: innerWidth };
link.click();
const large = dialog.querySelector("img");
await loaded(large);
Object.assign(found, { open: dialog.open, alt: large.alt === link.firstElementChild.alt, large: large.width,
  small: link.firstElementChild.width, hash: location.href.endsWith("index.html") });
dialog.querySelector("button").click();
found.after = dialog.open;
return found;
"""


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
@pytest.mark.parametrize("width", [1400, 500])
def test_it_opens_from_disk_and_enlarges_figures(page, width, tmp_path):
    wrapped = (
        "<script>(async () => { let r; try { r = await (async () => {" + LOOK + "})() } catch (e) { r = String(e) }"
        " document.body.innerHTML = '<pre></pre>'; document.querySelector('pre').textContent = JSON.stringify(r)"
        "})()</script></body>"
    )
    page.write_text(page.read_text().replace("</body>", wrapped))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},900",
               f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--enable-logging=stderr",
               "--dump-dom"]  # fmt: skip
    done = subprocess.run([CHROMIUM, *options, page.as_uri()], capture_output=True, text=True, timeout=500)
    assert [line for line in done.stderr.splitlines() if ":CONSOLE" in line] == []
    found = json.loads(BeautifulSoup(done.stdout, "html.parser").pre.text)
    assert isinstance(found, dict), found
    assert len(found["images"]) == 3 and all(found["images"])
    assert found["width"] <= found["window"]  # nothing sticks out
    assert (found["before"], found["open"], found["after"]) == (False, True, False)
    assert found["alt"] and found["hash"] and found["large"] > found["small"]
