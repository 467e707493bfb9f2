"""Speed and memory of the subsequence-DTW engine beside librosa and libfmp: ``make benchmark``.

Two sizes: one pair of 216 x 9,652 frames, the mean of the Musical Theme Dataset at 25 Hz (Zalkow & Mueller, ISMIR
2020), and 100 queries of 150 to 300 frames in 400 documents of 1,500 to 3,000.  Queries are binary chroma, a rest being
uniform; documents are held chords in noise.  Speeds are cells (query frames x document frames) per CPU-second of one
thread, the best of several rounds, after compilation.  librosa and libfmp are given their cost matrix ready made, or
make it (``with costs``); of the list they get a sample of pairs, scaled by cells.  Ours makes its own costs, but for
``recursion``, which is given its 13 rows of them as the others are given the matrix.  libfmp's kernel has the same
steps but no weights; it is left out where it is not installed: ``pip install --no-deps libfmp==1.3.0``.

Nothing is asserted about time; figures go to ``results/benchmarks/dtw.json``.
"""

import subprocess
import sys
import time

import librosa
import numpy as np
import pytest

from duet import dtw, files, paths, runs

PAIR = (216, 9652)
LISTS = (100, 400)
SAMPLE = 6  # pairs of the lists that the others get
CPU = pytest.mark.benchmark(timer=time.process_time, warmup=False)
WALL = pytest.mark.benchmark(timer=time.perf_counter, warmup=False)
STEPS = dict(step_sizes_sigma=np.array(dtw.PAPER.advances), weights_mul=np.array(dtw.PAPER.weights))


def binary(rng, frames):
    """Notes of 4 to 16 frames, one in thirteen a rest."""
    lengths = rng.integers(4, 17, frames)
    notes = rng.integers(0, 13, frames).repeat(lengths)[:frames]
    return np.column_stack([np.eye(12), np.full(12, 12**-0.5)]).astype(np.float32)[:, notes]


def chords(rng, frames):
    """One to three pitch classes held for 5 to 25 frames, in noise."""
    held = (rng.random((12, frames)).argsort(axis=0) < rng.integers(1, 4, frames)).repeat(
        rng.integers(5, 26, frames), axis=1
    )
    values = held[:, :frames] + 0.3 * rng.random((12, frames))
    return (values / np.linalg.norm(values, axis=0)).astype(np.float32)


def matrix(query, document):
    return np.maximum(1 - query.T @ document, 0).astype(np.float64)


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    return binary(rng, PAIR[0]), chords(rng, PAIR[1])


@pytest.fixture(scope="module")
def lists():
    rng = np.random.default_rng(1)
    return (
        [binary(rng, int(frames)) for frames in rng.integers(150, 301, LISTS[0])],
        [chords(rng, int(frames)) for frames in rng.integers(1500, 3001, LISTS[1])],
    )


@pytest.fixture(scope="module")
def figures():
    """Collects what was measured, with the ratios to what was measured before it; writes it at the end."""
    found = {
        "processor": runs.provenance()["processor"],
        "size": f"pair: {PAIR[0]} x {PAIR[1]} frames; lists: {LISTS[0]} queries x {LISTS[1]} documents",
        "sample": f"of the lists, librosa and libfmp get {SAMPLE} pairs",
        "Mcell per CPU-second": {},
        "ratios": {},
    }
    yield found
    files.write_json(paths.results() / "benchmarks" / "dtw.json", found)
    lines = (f"{key}: {value}" for key, value in found.items() if not isinstance(value, dict))
    rows = (
        f"{key}, {name}: {v}" for key, value in found.items() if isinstance(value, dict) for name, v in value.items()
    )
    print("\n" + "\n".join([*lines, *rows]))


def measure(benchmark, figures, size, name, function, cells, rounds, compare=()):
    """Cells per second of the best round, and its ratio to each of ``compare``."""
    benchmark.pedantic(function, rounds=rounds, warmup_rounds=1)
    speeds = figures["Mcell per CPU-second"]
    speeds[f"{size}, {name}"] = float(f"{cells / benchmark.stats.stats.min / 1e6:.4g}")
    for other in compare:
        if f"{size}, {other}" in speeds:
            ratio = round(speeds[f"{size}, {name}"] / speeds[f"{size}, {other}"], 1)
            figures["ratios"][f"{size}, {name} over {other}"] = benchmark.extra_info[f"over {other}"] = ratio


def cells_of(queries, documents):
    return sum(query.shape[1] for query in queries) * sum(document.shape[1] for document in documents)


OTHERS = ("librosa", "libfmp", "librosa with costs", "libfmp with costs")


def sample_of(size, pair, lists):
    return [pair] if size == "pair" else list(zip(*lists, strict=False))[:SAMPLE]


@CPU
@pytest.mark.parametrize("with_costs", [False, True], ids=["", "with_costs"])
@pytest.mark.parametrize("size", ["pair", "lists"])
def test_librosa(benchmark, figures, pair, lists, size, with_costs):
    pairs = sample_of(size, pair, lists)
    given = [matrix(*each) for each in pairs]

    def run():
        for each, costs in zip(pairs, given, strict=True):
            costs = matrix(*each) if with_costs else costs
            librosa.sequence.dtw(C=costs, subseq=True, backtrack=False, **STEPS)

    cells = sum(costs.size for costs in given)
    measure(benchmark, figures, size, "librosa" + " with costs" * with_costs, run, cells, 7)


@CPU
@pytest.mark.parametrize("with_costs", [False, True], ids=["", "with_costs"])
@pytest.mark.parametrize("size", ["pair", "lists"])
def test_libfmp(benchmark, figures, pair, lists, size, with_costs):
    kernel = pytest.importorskip("libfmp.c7").compute_accumulated_cost_matrix_subsequence_dtw_21
    pairs = sample_of(size, pair, lists)
    given = [matrix(*each) for each in pairs]

    def run():
        for each, costs in zip(pairs, given, strict=True):
            kernel(matrix(*each) if with_costs else costs)

    cells = sum(costs.size for costs in given)
    measure(benchmark, figures, size, "libfmp" + " with costs" * with_costs, run, cells, 25)


@CPU
def test_recursion(benchmark, figures, pair):
    query, document = pair
    weights, pool = dtw._ordered_weights(dtw.PAPER, np.float32), dtw._pool([query])
    arranged = dtw._arranged(document, 0, document.shape[1], weights, True)
    live, table, block = dtw._work(pool.columns, pool.shared, arranged, weights)

    def run():
        dtw._advance(*pool[:3], arranged, weights, True, live, table, block)

    measure(benchmark, figures, "pair", "recursion", run, cells_of([query], [document]), 400, OTHERS[:2])


@CPU
def test_search_pair(benchmark, figures, pair):
    query, document = pair
    cells = cells_of([query], [document])
    measure(benchmark, figures, "pair", "search", lambda: dtw.search([query], [document]), cells, 400, OTHERS)


@CPU
@pytest.mark.parametrize("near", [None, 0], ids=["exact", "float32"])
def test_search_lists(benchmark, figures, lists, near):
    """With the second pass in float64 and, to see what it costs, all but without."""
    name = "search" if near is None else "search in float32 alone"
    measure(benchmark, figures, "lists", name, lambda: dtw.search(*lists, near=near), cells_of(*lists), 3, OTHERS)


@CPU
def test_search_dense(benchmark, figures, pair):
    """A query all of whose columns differ."""
    query, document = chords(np.random.default_rng(2), PAIR[0]), pair[1]
    cells = cells_of([query], [document])
    measure(benchmark, figures, "pair", "search, dense", lambda: dtw.search([query], [document]), cells, 50, OTHERS)


@WALL
@pytest.mark.parametrize("threads", [1, 2])
def test_threads(benchmark, figures, lists, threads):
    """Seconds by the clock, with whatever else the cores are doing."""
    seconds = figures.setdefault("lists, seconds by the clock", {})
    benchmark.pedantic(lambda: dtw.search(*lists, threads=threads), rounds=2, warmup_rounds=1)
    seconds[f"{threads} threads"] = round(benchmark.stats.stats.min, 2)
    if threads == 2 and "1 threads" in seconds:
        scaling = round(seconds["1 threads"] / seconds["2 threads"], 2)
        figures["ratios"]["lists, 2 threads over 1, by the clock"] = benchmark.extra_info["over 1 thread"] = scaling


# Not getrusage's peak: a child begins with that of the process that started it.
MEMORY = """
import pathlib
import re
import numpy as np
from duet import dtw

def megabytes(key):
    return int(re.search(key + r":\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024

rng = np.random.default_rng(0)
queries = [np.eye(12, dtype=np.float32)[:, rng.integers(0, 12, 27).repeat(8)] for _ in range({queries})]
documents = [rng.random((12, {frames}), np.float32) for _ in range({documents})]
for document in documents:
    document /= np.linalg.norm(document, axis=0)
dtw.search(queries[:2], [documents[0][:, :600]] * 2)
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
before = megabytes("VmRSS")
dtw.search(queries, documents)
print(megabytes("VmHWM") - before)
"""


@WALL
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_memory(benchmark, figures):
    """Peak of resident memory above the inputs, in a process of its own: 2,000 queries in 50 documents of 10,000."""
    size = dict(queries=2000, documents=50, frames=10_000)
    printed = benchmark.pedantic(
        lambda: subprocess.run(
            [sys.executable, "-c", MEMORY.format(**size)], capture_output=True, text=True, check=True
        )
    )
    megabytes = round(float(printed.stdout), 1)
    figures["megabytes above the inputs, 2,000 queries x 50 documents of 10,000"] = megabytes
    benchmark.extra_info["megabytes above the inputs"] = megabytes
