"""Every symbol error rate that the README quotes is in metrics.json."""

import re

from duet import files, paths


def test_the_readme_quotes_the_results():
    text = (paths.ROOT / "README.md").read_text()
    metrics = files.read_json(paths.ROOT / "results" / "overnight" / "transfer_learning" / "metrics.json")
    quoted = {float(number) for number in re.findall(r"(\d+\.\d+) %", text)}
    assert quoted, "the README quotes no figure"
    assert quoted <= set(metrics["ser"].values())


def test_the_readmes_links_lead_somewhere():
    for name in ("README.md", "CONTRIBUTING.md"):
        targets = re.findall(r"\]\(([^)#:]+)\)", (paths.ROOT / name).read_text())
        assert [t for t in targets if not (paths.ROOT / t).exists()] == []
