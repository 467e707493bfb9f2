"""Speed of the subsequence-DTW engine against librosa, in cells per second of one thread: ``make benchmark``.

The size is the mean of the Musical Theme Dataset at 25 Hz (Zalkow & Mueller, ISMIR 2020): a query of 216 frames, a
document of 9,652.  librosa gets its cost matrix ready made; ours makes its own.  ``dense``: all columns of a
query differ.  ``rows`` is the
recursion alone, costs given, as librosa has them.  Times are CPU-seconds of one thread, the best of several, after
compilation.  Nothing is asserted about time; figures go to ``results/benchmarks/dtw.json``.

libfmp's numba kernel is not installed here: the ratio to it is still to be measured.
"""

import time

import librosa
import numpy as np

from duet import dtw, files, paths

LENGTH, FRAMES, QUERIES, DOCUMENTS = 216, 9652, 10, 4


def best_time(function, repeats):
    """Least CPU-seconds of the calling thread, compilation left out."""
    function()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return min(times)


def test_speed():
    rng = np.random.default_rng(0)

    def features(frames):
        values = rng.random((12, frames), np.float32)
        return values / np.linalg.norm(values, axis=0)

    def binary():
        return np.eye(12, dtype=np.float32)[:, rng.integers(0, 12, LENGTH // 8).repeat(8)]

    documents = [features(FRAMES) for _ in range(DOCUMENTS)]
    binaries, denses = [binary() for _ in range(QUERIES)], [features(LENGTH) for _ in range(QUERIES)]
    costs = np.maximum(1 - binaries[0].T @ documents[0], 0).astype(np.float64)
    blocks = list(dtw._blocks(binaries[0], documents[0]))
    sigma, weights = np.array(dtw.PAPER.advances), np.array(dtw.PAPER.weights)
    pair, many = LENGTH * FRAMES / 1e6, LENGTH * FRAMES * QUERIES * DOCUMENTS / 1e6
    speeds = {
        "librosa": pair
        / best_time(
            lambda: librosa.sequence.dtw(
                C=costs, subseq=True, step_sizes_sigma=sigma, weights_mul=weights, backtrack=False
            ),
            5,
        ),
        "rows": pair / best_time(lambda: dtw._last_row(blocks, LENGTH, FRAMES, dtw.PAPER, np.float32), 50),
        "one pair, lookup": pair
        / best_time(lambda: dtw.matching_function(binaries[0], documents[0], dtype=np.float32), 20),
        "one pair, dense": pair
        / best_time(lambda: dtw.matching_function(denses[0], documents[0], dtype=np.float32), 20),
        "search, lookup": many / best_time(lambda: dtw.search(binaries, documents), 3),
        "search, dense": many / best_time(lambda: dtw.search(denses, documents), 3),
    }
    found = {
        "size": f"{LENGTH} x {FRAMES}; search: {QUERIES} queries x {DOCUMENTS} documents",
        "Mcell per CPU-second": {name: float(f"{speed:.4g}") for name, speed in speeds.items()},
        "ratio to librosa": {name: float(f"{speed / speeds['librosa']:.4g}") for name, speed in speeds.items()},
    }
    files.write_json(paths.results() / "benchmarks" / "dtw.json", found)
    print("\n" + "\n".join(f"{name}: {value}" for name, value in found.items()))
