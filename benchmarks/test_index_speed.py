"""Speed and memory of the exact index beside FAISS and PyTorch: ``make benchmark``.

The 25 nearest of 10,000, 100,000 and 1,000,000 unit vectors of 64 dimensions, for one query and for 256 at a time.
Speeds are queries per CPU-second of one thread, the best of several rounds, so that what else the machine does counts
little; ratios are of two figures of one run.  FAISS searches its flat index as installed and, ``with BLAS``, told to
use matrix products for any number of queries; PyTorch takes products of blocks and ``topk`` of each.  FAISS is left
out where it is not installed: ``pip install --no-deps faiss-cpu==1.15.1``.

Nothing is asserted about time; figures go to ``results/benchmarks/index.json``.
"""

import subprocess
import sys
import time

import numpy as np
import pytest
import threadpoolctl
import torch

from duet import files, paths, runs
from duet.index import BLOCK, Index

SIZES, QUERIES, DIMENSIONS, NEAREST = (10_000, 100_000, 1_000_000), (1, 256), 64, 25
SECONDS = 1  # of rounds, about
CPU = pytest.mark.benchmark(timer=time.process_time, warmup=False)
EVERY = [pytest.mark.parametrize("count", QUERIES), pytest.mark.parametrize("size", SIZES)]


def every_size(test):
    for mark in EVERY:
        test = mark(test)
    return CPU(test)


def unit(rng, *shape):
    values = rng.standard_normal(shape, np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def vectors():
    return unit(np.random.default_rng(0), max(SIZES), DIMENSIONS)


@pytest.fixture(scope="module")
def queries(vectors):
    """Near one of the first vectors each, as a query's true match is."""
    rng = np.random.default_rng(1)
    near = vectors[rng.integers(0, min(SIZES), max(QUERIES))] + unit(rng, max(QUERIES), DIMENSIONS)
    return near / np.linalg.norm(near, axis=1, keepdims=True)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpoolctl.threadpool_limits(1):
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def figures():
    """Collects what was measured, with the ratios to what was measured before it; writes it at the end."""
    found = {
        "processor": runs.provenance()["processor"],
        "size": f"the {NEAREST} nearest in {DIMENSIONS} dimensions",
        "queries per CPU-second": {},
        "ratios": {},
        "megabytes above the index": {},
    }
    yield found
    files.write_json(paths.results() / "benchmarks" / "index.json", found)
    rows = (
        f"{key}, {name}: {v}" for key, block in found.items() if isinstance(block, dict) for name, v in block.items()
    )
    print("\n" + "\n".join(rows))


def measure(benchmark, figures, name, function, size, count, compare=()):
    """Queries per second of the best round, and the ratio to each of ``compare``."""
    started = time.perf_counter()
    function()
    once = time.perf_counter() - started
    benchmark.pedantic(function, rounds=int(np.clip(SECONDS / once, 3, 200)), warmup_rounds=0)
    speeds, where = figures["queries per CPU-second"], f"{size:,} vectors, {count} at a time"
    speeds[f"{where}, {name}"] = float(f"{count / benchmark.stats.stats.min:.3g}")
    for other in compare:
        if f"{where}, {other}" in speeds:
            ratio = round(speeds[f"{where}, {name}"] / speeds[f"{where}, {other}"], 2)
            figures["ratios"][f"{where}, {name} over {other}"] = benchmark.extra_info[f"over {other}"] = ratio


@pytest.mark.parametrize("with_blas", [False, True], ids=["", "with_blas"])
@every_size
def test_faiss(benchmark, figures, vectors, queries, size, count, with_blas):
    faiss = pytest.importorskip("faiss")
    flat, default = faiss.IndexFlatIP(DIMENSIONS), faiss.cvar.distance_compute_blas_threshold
    flat.add(vectors[:size])
    faiss.omp_set_num_threads(1)
    if with_blas:
        faiss.cvar.distance_compute_blas_threshold = 1
    try:
        name = "FAISS" + " with BLAS" * with_blas
        measure(benchmark, figures, name, lambda: flat.search(queries[:count], NEAREST), size, count)
    finally:
        faiss.cvar.distance_compute_blas_threshold = default


@every_size
def test_torch(benchmark, figures, vectors, queries, size, count):
    blocks, asked = torch.from_numpy(vectors[:size]).split(BLOCK), torch.from_numpy(queries[:count])

    def run():
        found = [(asked @ block.T).topk(min(NEAREST, len(block)), dim=1) for block in blocks]
        scores = torch.cat([f.values for f in found], 1)
        places = torch.cat([f.indices + number * BLOCK for number, f in enumerate(found)], 1)
        best = scores.topk(NEAREST, dim=1)
        return best.values, places.gather(1, best.indices)

    measure(benchmark, figures, "PyTorch", run, size, count)


@every_size
def test_index(benchmark, figures, vectors, queries, size, count):
    made = Index("benchmark", DIMENSIONS)
    made.add(vectors[:size], range(size))
    others = ("FAISS", "FAISS with BLAS", "PyTorch")
    measure(benchmark, figures, "index", lambda: made.search(queries[:count], NEAREST), size, count, others)


# Not getrusage's peak: a child begins with that of the process that started it.
MEMORY = """
import pathlib
import re
import numpy as np
from duet.index import Index

def megabytes(key):
    return int(re.search(key + r":\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024

rng = np.random.default_rng(0)
def unit(*shape):
    values = rng.standard_normal(shape, np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values

index = Index("benchmark", {dimensions})
index.add(unit({size}, {dimensions}), range({size}))
queries = unit({count}, {dimensions})
index.search(queries[:1], 1)
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
before = megabytes("VmRSS")
index.search(queries, {nearest})
print(megabytes("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("size", SIZES)
def test_memory(benchmark, figures, size):
    """Peak of resident memory above the index, in a process of its own."""
    script = MEMORY.format(size=size, count=max(QUERIES), dimensions=DIMENSIONS, nearest=NEAREST)
    printed = benchmark.pedantic(
        lambda: subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    )
    megabytes = round(float(printed.stdout), 1)
    figures["megabytes above the index"][f"{size:,} vectors, {max(QUERIES)} at a time"] = megabytes
    benchmark.extra_info["megabytes above the index"] = megabytes
