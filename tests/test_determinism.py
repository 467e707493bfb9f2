"""The same run twice is the same record, the same weights and the same tables, on one worker process or on two.

Two processes that share nothing but this file make one small run of each study, from its corpus on.  Presets and toys
are those of the studies' own tests.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from duet import files, launch, studies

RUNS = {
    "transfer_learning": "audio-s0",
    "passage_retrieval": "rnn-s0",
    "alignment": "none-s0",
    "synthetic_pretraining": "si-s0",
    "ctc_chroma": "cce-f1-s0",
}


def make(sheets, workers):
    """What each of the two processes does; results and caches are where its environment says."""
    sys.path.insert(0, str(Path(__file__).parent))
    import test_alignment
    import test_ctc_chroma
    import test_passage_retrieval
    import test_synthetic_pretraining
    import test_transfer_learning

    from duet import paths, progress, runs, tables
    from duet.models.crnn import SHAPES
    from duet.studies.synthetic_pretraining import experiment

    pools, pool = [], progress.ProcessPoolExecutor
    progress.ProcessPoolExecutor = lambda *settings, **more: pools.append(settings) or pool(*settings, **more)
    progress._cores = lambda: workers
    SHAPES["paper"] = replace(SHAPES["paper"], hidden=16)
    experiment.NETWORKS["toy"] = experiment.NETWORKS["tiny"]
    themes = paths.cache() / "toy"
    test_ctc_chroma.write_toy(themes)
    small, brief = test_passage_retrieval.SMALL, {"updates": 2, "epochs": 1}
    few = {"tested": 2, "validation": 20, "refinement": 40}
    presets = {
        "transfer_learning": (test_transfer_learning.TINY, ""),
        "passage_retrieval": (replace(small, passages=replace(small.passages, **brief), **few), sheets),
        "alignment": (
            replace(test_alignment.SMALL, training=replace(test_alignment.SMALL.training, **brief), **few),
            sheets,
        ),
        "synthetic_pretraining": (test_synthetic_pretraining.PRESET, ""),
        "ctc_chroma": (replace(test_ctc_chroma.TINY, salience=None), str(themes)),
    }
    for key, (preset, corpus) in presets.items():
        study = studies.get(key)
        study.PRESETS["tiny"] = preset
        grid = runs.Grid(key, "tiny", corpus)
        grid.make(RUNS[key])
        if key == "transfer_learning":
            tables.write(study.table_2(study.Results(grid)), paths.results() / "table2.csv")
    print(len(pools))


@pytest.fixture(scope="module")
def twice(tmp_path_factory, toy_sheets):
    """Of the first process, then of the second, which takes two workers and another order of sets: folder, pools."""
    made = []
    for workers in (1, 2):
        folder = tmp_path_factory.mktemp(f"workers-{workers}")
        own = {"DUET_RESULTS": f"{folder}/results", "DUET_CACHE": f"{folder}/cache", "DUET_LISTS": f"{folder}/none",
               "DUET_DEVICE": "cpu", **launch.ENVIRONMENT, "PYTHONHASHSEED": str(workers)}  # fmt: skip
        arguments = [sys.executable, __file__, str(toy_sheets), str(workers)]
        done = subprocess.run(arguments, env=os.environ | own, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        made.append((folder, int(done.stdout.split()[-1])))
    return made


@pytest.mark.parametrize("key", RUNS)
def test_a_run_made_anew_is_the_same_record_and_the_same_weights(key, twice):
    records = [files.read_json(next(folder.glob(f"results/*/{key}/runs/{RUNS[key]}.json"))) for folder, _ in twice]
    for record in records:
        assert record.pop("provenance") and record["result"]["loss"]  # it was trained
    assert records[0] == records[1]
    weights = [next(folder.glob(f"cache/weights/{key}/{RUNS[key]}-*.safetensors")).read_bytes() for folder, _ in twice]
    assert weights[0] == weights[1]


def test_one_worker_or_two_write_the_same_table(twice):
    (one, alone), (two, pools) = twice
    assert alone == 0 and pools > 0
    table = (one / "results" / "table2.csv").read_text()
    assert table == (two / "results" / "table2.csv").read_text() and "audio" in table


if __name__ == "__main__":
    make(sys.argv[1], int(sys.argv[2]))
