"""Every figure that the README quotes is in a metrics.json."""

import re

import pytest

from duet import files, paths, published


def test_the_readme_quotes_the_results():
    text = (paths.ROOT / "README.md").read_text()
    metrics = files.read_json(paths.ROOT / "results" / "overnight" / "transfer_learning" / "metrics.json")
    quoted = {float(number) for number in re.findall(r"(\d+\.\d+) %", text)}
    assert quoted, "the README quotes no figure"
    assert quoted <= set(metrics["ser"].values())


def test_what_it_says_of_the_chroma_study_is_in_its_results():
    text = (paths.ROOT / "README.md").read_text()
    paragraph = next(p for p in text.split("\n\n") if p.startswith("What study 5 found"))
    found = files.read_json(paths.ROOT / "results" / "overnight" / "ctc_chroma" / "metrics.json")
    ours, paper = paragraph.split("The paper's own numbers")
    quoted = [float(number) for number in re.findall(r"\.\d{3}", ours)]
    arms = ("ctc", "cce", "source-filter", "salience", "chroma")
    assert quoted == [pytest.approx(found["mrr"][arm], abs=6e-4) for arm in arms]
    counts = [int(n) for n in re.findall(r"(\d+) (?:claims|were reproduced|contradicted|are undecided)", paper)]
    judged = [found["verdicts"].get(kind, 0) for kind in ("reproduced", "contradicted", "undecided")]
    assert counts == [sum(judged), *judged]
    printed = (published.CTC_TABLE_5["ctc"], published.CTC_TABLE_5["cce"],
               published.CTC_TABLE_3[25, "source-filter"], published.CTC_TABLE_3[25, "salience"])  # fmt: skip
    assert [float(n) for n in re.findall(r"\.\d{3}", paper)] == [row[-1] for row in printed]


def test_the_readmes_links_lead_somewhere():
    for name in ("README.md", "CONTRIBUTING.md"):
        targets = re.findall(r"\]\(([^)#:]+)\)", (paths.ROOT / name).read_text())
        assert [t for t in targets if not (paths.ROOT / t).exists()] == []
