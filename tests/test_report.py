"""The page and the table that collect a preset's studies."""

import pandas as pd

from duet import files, paths, report, studies, tables
from duet.verdicts import COLUMNS


def test_the_report_has_every_finished_study_and_names_the_others(workspace):
    key = studies.KEYS[0]
    folder = paths.study_results(key, "smoke")
    row = [key, "a claim with <tags>", "Table 1", "1 -> 2", 1.5, 1.0, 2.0, "reproduced", "above 0"]
    tables.write(pd.DataFrame([row], columns=COLUMNS), folder / "tables" / "verdicts.csv")

    page = report.write("smoke").read_text()  # not finished: no provenance yet
    assert f"{studies.get(key).TITLE}: not run" in page and "a claim" not in page

    files.write_json(folder / "provenance.json", {})
    page = report.write("smoke")
    assert f'href="{key}/notebook.html"' in page.read_text()
    assert "a claim with &lt;tags&gt;" in page.read_text()
    collected = pd.read_csv(page.parent / "verdicts.csv")
    assert tuple(collected) == COLUMNS and collected["verdict"].tolist() == ["reproduced"]
    assert not any(word in page.read_text() for word in ("http://", "https://"))
