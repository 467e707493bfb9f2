# The whole study as one graph: corpora -> runs -> notebooks.  `make reproduce` runs it with profiles/local.
#
#   --config preset=laptop    which preset            study=all     which study, or all of them
#            corpus=FOLDER    a data set of your own  extended=1    overnight: all runs, not only the core
#
# A run's record and a notebook's results belong to duet, which keeps them whole, resumes them and knows when
# they still hold.  Snakemake deletes a rule's outputs before it starts the rule, so its outputs are markers
# that say "duet has seen to this"; repeating a rule whose record is there costs seconds.
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from duet import DuetError, launch, paths, studies

PRESET = str(config.get("preset", "laptop"))
STUDY = str(config.get("study", "all"))
CORPUS = str(config.get("corpus") or "")
PAPER = PRESET == "paper"  # the papers' own data and widths ask for more of a machine: docs/cluster.md
CORE_ONLY = PRESET == "overnight" and str(config.get("extended", 0)) != "1"
LIBRARY = Path(launch.__file__).parent
MARKS = paths.cache() / "snakemake" / paths.study_results("", PRESET, CORPUS).name
CORPUS_DONE = f"{MARKS}/{{study}}/corpus.done"
RUN_DONE = f"{MARKS}/{{study}}/runs/{{run}}.done"
NOTEBOOK_DONE = f"{MARKS}/{{study}}/notebook.done"
REPORT_DONE = f"{MARKS}/report.done"
DUET = f"{shlex.quote(sys.executable)} -m duet.cli"
os.environ.update(launch.ENVIRONMENT)  # the jobs inherit it

if CORPUS and STUDY == "all":
    raise WorkflowError("a corpus belongs to one study: name it, study=KEY (make: STUDY=KEY)")
try:
    MODULES = {key: launch.study_module(key, PRESET) for key in (studies.KEYS if STUDY == "all" else [STUDY])}
    GRID = {key: {run.name: run for run in module.runs(PRESET, core_only=CORE_ONLY)} for key, module in MODULES.items()}
except DuetError as error:
    raise WorkflowError(str(error)) from None

# What an edit should trigger: the study's own module and all that is not another study's.
COMMON = [str(source) for source in sorted(LIBRARY.rglob("*.py")) if LIBRARY / "studies" not in source.parents]
SOURCES = {key: [*COMMON, *map(str, sorted((LIBRARY / "studies" / key).glob("*.py")))] for key in MODULES}

# A marker must not hide that somebody deleted what it stands for.  The notebook's goes with any other: with the
# last result in place Snakemake does not miss what lies before it.  Cluster jobs parse this file as well, and may
# see a record later than its marker, so only the first process looks.
if workflow.is_main_process:
    for key, runs in GRID.items():
        results = paths.study_results(key, PRESET, CORPUS)
        lost = [RUN_DONE.format(study=key, run=name) for name in runs if not (results / f"runs/{name}.json").is_file()]
        if lost or not (results / "provenance.json").is_file():
            lost += [NOTEBOOK_DONE.format(study=key), REPORT_DONE]
        for marker in lost:
            Path(marker).unlink(missing_ok=True)


wildcard_constraints:
    study="[a-z0-9_]+",
    run="[^/]+",


rule all:
    input:
        REPORT_DONE,


rule report:
    input:
        expand(NOTEBOOK_DONE, study=GRID),
    output:
        touch(REPORT_DONE),
    log:
        f"{MARKS}/report.log",
    params:
        duet=DUET,
        preset=PRESET,
        corpus=shlex.quote(CORPUS),
    conda:
        "environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    shell:
        "{params.duet} report --preset {params.preset} --corpus {params.corpus} 2>&1 | tee {log:q}"


rule corpus:
    input:
        sources=lambda wildcards: SOURCES[wildcards.study],
    output:
        touch(CORPUS_DONE),
    log:
        f"{MARKS}/{{study}}/log/corpus.log",
    params:
        duet=DUET,
        preset=PRESET,
        corpus=shlex.quote(CORPUS),
    conda:
        "environment.yml"
    threads: 8 if PAPER else 1
    resources:
        gpu=0,
        mem_mb=32000 if PAPER else 4000,
        runtime=720 if PAPER else 120,
    shell:
        "{params.duet} prepare {wildcards.study} --preset {params.preset} --corpus {params.corpus} 2>&1 | tee {log:q}"


rule run:
    input:
        corpus=CORPUS_DONE,
        parents=lambda wildcards: expand(RUN_DONE, run=GRID[wildcards.study][wildcards.run].parents, allow_missing=True),
        sources=lambda wildcards: SOURCES[wildcards.study],
    output:
        touch(RUN_DONE),
    log:
        f"{MARKS}/{{study}}/log/{{run}}.log",
    params:
        duet=DUET,
        preset=PRESET,
        corpus=shlex.quote(CORPUS),
    conda:
        "environment.yml"
    threads: 1
    resources:
        gpu=int(PAPER),
        mem_mb=16000 if PAPER else 4000,
        runtime=720,
    shell:
        "{params.duet} run {wildcards.study} {wildcards.run:q} --preset {params.preset} --corpus {params.corpus}"
        " 2>&1 | tee {log:q}"


rule notebook:
    input:
        notebook=lambda wildcards: paths.NOTEBOOKS / f"{MODULES[wildcards.study].NOTEBOOK}.ipynb",
        runs=lambda wildcards: expand(RUN_DONE, run=GRID[wildcards.study], allow_missing=True),
        sources=lambda wildcards: SOURCES[wildcards.study],
    output:
        touch(NOTEBOOK_DONE),
    log:
        f"{MARKS}/{{study}}/log/notebook.log",
    params:
        duet=DUET,
        preset=PRESET,
        corpus=shlex.quote(CORPUS),
    conda:
        "environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=16000 if PAPER else 4000,
        runtime=120,
    shell:
        "{params.duet} notebook {wildcards.study} --preset {params.preset} --corpus {params.corpus} 2>&1 | tee {log:q}"
