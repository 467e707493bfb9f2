"""The graph: every run of the grid and its parents, nothing twice, and no marker that hides a missing record."""

import re
import subprocess
import sys

import pytest

from duet import files, paths, studies

KEY = "transfer_learning"


@pytest.fixture
def snakemake(workspace):
    def snakemake(*arguments):
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "snakemake",
                "--snakefile",
                str(paths.ROOT / "Snakefile"),
                "--directory",
                str(workspace),
                *arguments,
            ],
            capture_output=True,
            text=True,
        )

    return snakemake


@pytest.fixture
def planned(snakemake):
    """Job counts by rule, and the commands, of a dry run with profiles/local."""

    def planned(**config):
        done = snakemake(
            "--workflow-profile",
            str(paths.ROOT / "profiles" / "local"),
            "--dry-run",
            "--printshellcmds",
            "--quiet",
            "host",
            "--config",
            *(f"{name}={value}" for name, value in config.items()),
        )
        assert done.returncode == 0, done.stderr + done.stdout
        report = done.stdout + done.stderr
        jobs = re.findall(r"^(corpus|run|notebook|report)\s+(\d+)$", report, re.MULTILINE)
        return {rule: int(count) for rule, count in jobs}, set(re.findall(r"-m duet\.cli (.*?) 2>&1", report))

    return planned


def test_lint_is_clean(snakemake):
    done = snakemake("--lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_study_is_planned_from_its_own_grid(planned):
    counts, commands = planned(preset="smoke")
    grid = {key: studies.get(key).runs("smoke") for key in studies.KEYS}
    assert counts == {"corpus": len(grid), "run": sum(map(len, grid.values())), "notebook": len(grid), "report": 1}
    for key, runs in grid.items():
        assert f"prepare {key} --preset smoke --corpus ''" in commands
        assert f"notebook {key} --preset smoke --corpus ''" in commands
        assert {f"run {key} {run.name} --preset smoke --corpus ''" for run in runs} <= commands


def test_overnight_is_the_core_and_extended_is_all(planned):
    module = studies.get(KEY)
    core, all_runs = module.runs("overnight", core_only=True), module.runs("overnight")
    assert planned(preset="overnight", study=KEY)[0]["run"] == len(core)
    assert planned(preset="overnight", study=KEY, extended=1)[0]["run"] == len(all_runs)


def test_a_marker_does_not_hide_that_its_record_was_deleted(planned, workspace):
    module = studies.get(KEY)
    marks, results = workspace / "cache" / "snakemake" / "smoke" / KEY, workspace / "results" / "smoke" / KEY
    runs = module.runs("smoke")
    files.write_text(marks / "corpus.done", "\n")
    for run in runs:
        files.write_json(results / "runs" / f"{run.name}.json", {})
        files.write_text(marks / "runs" / f"{run.name}.done", "\n")
    files.write_json(results / "provenance.json", {})
    files.write_text(marks / "notebook.done", "\n")
    files.write_text(marks.parent / "report.done", "\n")
    assert planned(preset="smoke", study=KEY) == ({}, set())

    last = runs[-1].name
    (results / "runs" / f"{last}.json").unlink()
    counts, commands = planned(preset="smoke", study=KEY)
    assert counts["notebook"] == counts["report"] == 1 and "corpus" not in counts
    assert f"run {KEY} {last} --preset smoke --corpus ''" in commands


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (["study=no_such_study"], KEY),
        (["preset=smokey"], "smoke, laptop, overnight, paper"),
        (["corpus=somewhere"], "name it"),
    ],
)
def test_a_wrong_word_stops_before_anything_runs(snakemake, config, said):
    done = snakemake("--dry-run", "--config", *config)
    assert done.returncode != 0 and said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_cluster_profile_plans_a_paper_run_with_one_gpu_and_a_folder_that_has_a_space(snakemake, workspace):
    done = snakemake(
        "--workflow-profile",
        str(paths.ROOT / "profiles" / "slurm"),
        "--dry-run",
        "--printshellcmds",
        "--config",
        "preset=paper",
        f"study={KEY}",
        f"corpus={workspace}/Camera PrIMuS",
    )
    report = done.stdout + done.stderr
    assert done.returncode == 0, report
    assert f"--preset paper --corpus '{workspace}/Camera PrIMuS'" in report
    asked = re.findall(r"^rule (\w+):$.*?^    resources: .*?gpu=(\d+).*?$", report, re.MULTILINE | re.DOTALL)
    gpus = {rule: {number for other, number in asked if other == rule} for rule, _ in asked}
    assert gpus == {"corpus": {"0"}, "run": {"1"}, "notebook": {"0"}, "report": {"0"}}
    assert len(asked) == len(studies.get(KEY).runs("paper")) + 3
