"""README.md says what the results say: its table of studies, and the numbers in its sentences."""

import re
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from duet import DuetError, files, paths, readme, report, studies, tables
from duet.verdicts import COLUMNS, Estimate

OVERNIGHT = paths.ROOT / "results" / "overnight"
MARKED = "before\n<!-- studies -->\nold\n<!-- /studies -->\nbetween\n<!-- findings --><!-- /findings -->\nafter\n"


@pytest.fixture
def results(tmp_path):
    """What README.md quotes of the published results, to be changed."""
    folder = tmp_path / "overnight"
    kept = ("verdicts.csv", "metrics.json", *(path.name for path in OVERNIGHT.glob("*/tables/*.csv")))
    for path in OVERNIGHT.rglob("*"):
        if path.name in kept:
            (folder / path.relative_to(OVERNIGHT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / path.relative_to(OVERNIGHT))
    return folder


def row(block, number):
    return next(line for line in block.splitlines() if line.startswith(f"| {number} |"))


def test_it_says_what_the_results_say(tmp_path):
    copy = tmp_path / "README.md"
    shutil.copyfile(paths.ROOT / "README.md", copy)
    readme.update(copy, OVERNIGHT)
    assert copy.read_text() == (paths.ROOT / "README.md").read_text(), "`duet report --preset overnight` writes it anew"


def test_another_result_makes_another_text(results):
    before = readme.blocks(results)
    table = results / "transfer_learning" / "tables" / "table2.csv"
    text = table.read_text()
    assert "image,audio-to-image N/A,5.3,9.1569," in text and " 9.16;" in before["findings"]
    table.write_text(text.replace("image,audio-to-image N/A,5.3,9.1569,", "image,audio-to-image N/A,5.3,4.25,"))
    after = readme.blocks(results)
    assert after["findings"] == before["findings"].replace(" 9.16;", " 4.25;") != before["findings"]
    judged = pd.read_csv(results / "verdicts.csv", dtype=str, keep_default_na=False)
    assert "5 reproduced, 8 contradicted, 3 undecided |" in row(before["studies"], 1)
    judged.loc[0, "verdict"] = "not run"
    tables.write(judged, results / "verdicts.csv")
    assert "5 reproduced, 8 contradicted, 2 undecided, 1 not run |" in row(readme.blocks(results)["studies"], 1)
    assert "improves the model of images is not run," in " ".join(readme.blocks(results)["findings"].split())


def test_a_study_without_results_is_not_yet_made(results):
    assert "**Study 5**, on 420" in readme.blocks(results)["findings"]
    (results / "ctc_chroma" / "metrics.json").unlink()
    found = readme.blocks(results)
    assert row(found["studies"], 5).endswith("| not yet made |  |") and "Study 5" not in found["findings"]
    assert "[tables, figures, runs](results/overnight/transfer_learning)" in row(found["studies"], 1)


@pytest.mark.parametrize("text", [
    "nothing\n",
    MARKED.replace("<!-- /studies -->", ""),
    MARKED.replace("<!-- findings -->", ""),
    MARKED.replace("<!-- findings --><!-- /findings -->", "<!-- /findings --><!-- findings -->"),
    MARKED + "<!-- studies -->\n",
])  # fmt: skip
def test_a_file_that_lost_its_marks_stays_as_it_is(text, results, tmp_path):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(DuetError, match=r"README\.md: needs <!-- (studies|findings) --> and, below it, ") as told:
        readme.update(path, results)
    assert path.read_text() == text and "\n" not in str(told.value)


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "ctc_chroma" / "tables" / "table5.csv").unlink(),
    lambda folder: (folder / "ctc_chroma" / "tables" / "table5.csv").write_text("method,measure,paper,ours\n"),
    lambda folder: (folder / "ctc_chroma" / "tables" / "table5.csv").write_text("method,paper,ours\nctc,1,2\n"),
    lambda folder: (folder / "ctc_chroma" / "metrics.json").write_text("{"),
    lambda folder: (folder / "verdicts.csv").unlink(),
])  # fmt: skip
def test_results_that_cannot_be_quoted_leave_it_as_it_is(damage, results, tmp_path):
    path = tmp_path / "README.md"
    path.write_text(MARKED)
    damage(results)
    with pytest.raises(DuetError, match="table5|metrics|verdicts|ctc_chroma"):
        readme.update(path, results)
    assert path.read_text() == MARKED


def test_only_a_report_of_the_repositorys_own_results_writes_it(workspace, monkeypatch):
    home = workspace / "home"
    (home / "README.md").parent.mkdir()
    (home / "README.md").write_text(MARKED)
    monkeypatch.setattr(paths, "ROOT", home)
    assert not readme.is_published("overnight", "")  # DUET_RESULTS is elsewhere
    monkeypatch.delenv("DUET_RESULTS")
    assert not readme.is_published("smoke", "") and not readme.is_published("overnight", "/data/own")
    report.write("overnight")
    text = (home / "README.md").read_text()
    assert text.startswith("before\n<!-- studies -->\n\n| |") and "old" not in text and text.count("not yet made") == 5
    assert "\n<!-- /studies -->\nbetween\n<!-- findings -->\n" in text and text.endswith("<!-- /findings -->\nafter\n")
    assert [path.name for path in home.iterdir() if path.is_file()] == ["README.md"]


# -- sentences on what a study's own report writes ---------------------------------------------------------------------


def stand(**more):
    """In the place of a study's results: every estimate is .25, of three trainings."""
    return SimpleNamespace(corpus="a corpus", estimate=lambda *_, **__: Estimate(0.25, 0.2, 0.3, 9, 3), made=dict,
                           grid=SimpleNamespace(preset="overnight"), present=list, planned=lambda arm: [arm],
                           chance=lambda *_: 60.5, **more)  # fmt: skip


def passages(study, monkeypatch):
    monkeypatch.setattr(study.report, "CLAIMS", ())
    monkeypatch.setattr(study.report, "table_chance", lambda _: pd.DataFrame(columns=["model", "10 times"]))
    found = stand(owners=lambda where: np.zeros(700, int), resampling=SimpleNamespace(n=9), candidates={"I": 1700},
                  data=SimpleNamespace(split={"test": "ab"}), preset=SimpleNamespace(dimensions=()))  # fmt: skip
    return found, {"table2": study.table_2(found)}


def alignment(study, monkeypatch):
    manners = study.report.MANNERS
    subsets = dict.fromkeys(("all", "without Traditional"), np.ones(4, bool))
    found = stand(subsets=subsets, owners={("pieces", m): np.arange(4) for m in manners},
                  takes=dict.fromkeys(manners, "abcd"),
                  data=SimpleNamespace(test="abcd", pool=range(1200)))  # fmt: skip
    made = {"table2": study.table_2(found), "table3": study.table_3(found), "figure7": study.figure_7(found)}
    made["controls"] = study.table_controls(found)
    return found, made


def transcription(study, monkeypatch):
    domains = {key: SimpleNamespace(corpus=SimpleNamespace(name=f"corpus {key}")) for key in ("si", *study.TARGETS)}
    found = stand(data=SimpleNamespace(domains=domains))
    return found, {"table2": study.table(found, "note"), "standard": study.table_standard(found)}


@pytest.mark.parametrize(("key", "stub", "quoted"), [
    ("passage_retrieval", passages, [
        "on a corpus", "among 1,700 passages, three trainings each", "recurrent model .250,", "random order 60.500;",
        "the three have .250, .250, .250.", "among 534 and", ".592, .627, .692 and .226, .278, .362."]),
    ("alignment", alignment, [
        "on a corpus", "(three trainings each)", "among 1,200 is 0 without", "60 in a random order",
        "1 and 1 of 4 pieces",
        "among 11,821 and of 26 pieces, are 1,042 and 168, 4 and 24, .213 and .041.",
        "a median rank of 0 and 0, puts 25 and 25 % of", "and knows 1 and 1 of 9 pieces that"]),
    ("synthetic_pretraining", transcription, [
        "with corpus si as", "on 9 recordings of corpus maps synthetic sound alone reaches .250",
        "on 9 of corpus guitar .250, .250, .250",
        "the three have .250, .250, .250 on corpus maps, a thresholded constant-Q transform .250;",
        ".423, .642, .669 and .537, .754, .740."]),
])  # fmt: skip
def test_sentences_are_of_what_the_studys_report_writes(key, stub, quoted, tmp_path, monkeypatch):
    study = studies.get(key)
    claims = [claim.text for claim in study.CLAIMS]
    found, written = stub(study, monkeypatch)
    for name, table in written.items():
        tables.write(table, tmp_path / key / "tables" / f"{name}.csv")
    judged = pd.DataFrame({"study": key, "claim": claims, "verdict": "contradicted"}).reindex(columns=COLUMNS)
    tables.write(judged, tmp_path / "verdicts.csv")
    study.write_metrics(found, judged, tmp_path / key / "metrics.json")
    blocks = readme.blocks(tmp_path)
    text = " ".join(blocks["findings"].split())
    assert [part for part in quoted if part not in text] == []
    assert text.count("is contradicted") in (3, 4) and text.count("**Study") == 1
    assert f"| {len(claims)} contradicted |" in blocks["studies"]


def test_its_links_lead_somewhere():
    for name in ("README.md", "CONTRIBUTING.md"):
        targets = re.findall(r"\]\(([^)#:]+)\)", (paths.ROOT / name).read_text())
        assert [t for t in targets if not (paths.ROOT / t).exists()] == []


def test_weights_that_it_speaks_of_are_there():
    assert "weights/*.safetensors" in (paths.ROOT / "README.md").read_text()
    assert list((OVERNIGHT / "transfer_learning" / "weights").glob("*.safetensors"))
    assert files.read_json(OVERNIGHT / "transfer_learning" / "metrics.json")["preset"] == "overnight"
