"""The subsequence-DTW engine against a case worked by hand and against librosa."""

import subprocess
import sys

import librosa
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duet import DuetError, dtw
from duet.dtw import CLASSIC, PAPER, Steps

few = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
STEPS = [PAPER, CLASSIC, Steps(((1, 1), (2, 1), (1, 2)), (1.5, 2.5, 0.5)), Steps(((1, 1), (0, 1), (1, 0)), (2, 1, 1.5))]


def unit(values):
    lengths = np.linalg.norm(values, axis=0)
    return values / np.where(lengths > 0, lengths, 1)


def binary(rng, frames, hold=3):
    """A binary chroma query: each pitch class held, and now and then a rest, which is uniform."""
    notes = rng.integers(0, 13, -(-frames // hold)).repeat(hold)[:frames]
    return unit(np.column_stack([np.eye(12), np.ones(12)])[:, notes])


def features(rng, frames, kind="random"):
    values = rng.random((12, frames))
    if kind == "constant":
        values[:] = 1
    elif kind == "degenerate":  # equal frames, silent frames, and one feature alone
        values = np.round(values[:, rng.integers(0, min(2, frames), frames)])
        values[:, 0], values[3, -1] = 0, 1
        values[5, 0] = frames == 1
    return unit(values)


def reference(query, document, steps, **more):
    costs = np.maximum(1 - query.T @ document, 0)
    return librosa.sequence.dtw(
        C=costs,
        subseq=True,
        step_sizes_sigma=np.array(steps.advances),
        weights_mul=np.array(steps.weights, float),
        weights_add=np.zeros(3),
        backtrack=False,
        **more,
    )


def test_worked_by_hand():
    a, b, c = np.eye(12)[:3]
    query, document = np.array([a, b, c]).T, np.array([b, a, b, c, a]).T
    # costs are 0 where letters agree, else 1.  C: row a 1 0 1 1 0, row b 0 1 0 1 1, row c 1 1 1 0 1.
    # D, row 2: min(row 1 one or two back + 1, row 0) as PAPER says: inf 2 0 1 2, then inf 3 3 0 1 (see below)
    # D[1] = [inf, 1+1, 0+0, min(1, 0)+1, min(1, 1)+1] = [inf, 2, 0, 1, 2]
    # D[2]: m=1: C[0][0] + 2 * 1 = 3; m=2: min(0 + 2, 2 + 1) = 2; m=3: min(1 + 0, 0 + 0, 2 + 0) = 0; m=4: 0 + 1 = 1
    np.testing.assert_array_equal(dtw.matching_function(query, document) * 3, [np.inf, 3, 2, 0, 1])
    assert dtw.matches(query, document, count=1) == [(3, 1, 0.0)]
    assert dtw.warping_path(query, document).tolist() == [[0, 1], [1, 2], [2, 3]]


@few
@given(
    st.integers(0, 9999), st.integers(1, 60), st.integers(1, 300), st.sampled_from(["random", "constant", "degenerate"])
)
@pytest.mark.parametrize("steps", STEPS)
def test_equals_librosa(steps, seed, length, frames, kind):
    rng = np.random.default_rng(seed)
    length = min(length, 2 * frames - 1)
    query = binary(rng, length) if seed % 2 else features(rng, length, kind)
    document = features(rng, frames, kind)
    expected = reference(query, document, steps)[-1] / length
    row = dtw.matching_function(query, document, steps)
    np.testing.assert_allclose(row, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(dtw.matching_function(query, document, steps, np.float32), expected, rtol=0, atol=1e-4)

    path = dtw.warping_path(query, document, steps)
    n, m = path.T
    weight_of = dict(zip(steps.advances, steps.weights, strict=True))
    weights = [1.0] + [weight_of[tuple(step)] for step in np.diff(path, axis=0).tolist()]  # a KeyError: illegal step
    costs = np.maximum(1 - query.T @ document, 0)[n, m]
    assert n[0] == 0 and n[-1] == length - 1
    assert row[m[-1]] == pytest.approx(row.min(), abs=1e-12)
    assert weights @ costs / length == pytest.approx(row.min(), abs=1e-9)


@pytest.mark.parametrize("steps", [PAPER, CLASSIC])
def test_matches_share_no_frame_and_come_best_first(steps):
    rng = np.random.default_rng(1)
    query, document = binary(rng, 20), features(rng, 300)
    document[:, 50:70] = document[:, 200:220] = query
    found = dtw.matches(query, document, steps)
    assert len(found) > 4
    # the first two are the query itself, a tie: the earlier first
    assert found[1][:2] == (found[0].end + 150, found[0].start + 150) and found[1].cost == found[0].cost < 1e-9
    assert [match.cost for match in found] == sorted(match.cost for match in found)
    taken = np.zeros(300, int)
    row = dtw.matching_function(query, document, steps)
    for match in found:
        taken[match.start : match.end + 1] += 1
        assert match.cost == row[match.end]
        path = dtw.warping_path(query, document, steps, match.end)
        assert (path[0, 1], path[-1, 1]) == (match.start, match.end)
    assert taken.max() == 1
    assert dtw.matches(query, document, steps, count=3) == found[:3]
    assert dtw.matches(query, document, steps, threshold=found[3].cost) == found[:4]


@pytest.mark.parametrize("steps", [PAPER, CLASSIC])
def test_search_equals_single_pairs_whatever_the_threads(steps):
    rng = np.random.default_rng(2)
    queries = [binary(rng, 30), features(rng, 50), binary(rng, 90), features(rng, 9)]  # looked up and dense
    documents = [features(rng, frames) for frames in (40, 120, 200, 64)]
    documents += [documents[1].copy(), documents[2].astype(np.float32)]
    done = []
    found = dtw.search(queries, documents, steps, progress=done.append)
    assert found.skipped == [] and sum(done) == 6
    for q, query in enumerate(queries):
        for d, document in enumerate(documents):
            if steps is PAPER and (q, d) == (2, 0):
                assert found.distances[q, d] == np.inf
            else:
                assert found.distances[q, d] == pytest.approx(dtw.matching_function(query, document, steps).min(), 1e-5)
    again = dtw.search(queries, documents, steps, threads=3)
    np.testing.assert_array_equal(again.distances, found.distances)


def test_near_ties_are_computed_again_exactly():
    rng = np.random.default_rng(3)
    query, document = binary(rng, 60), features(rng, 100)
    nearly = unit(document + 1e-9 * rng.random(document.shape))  # the same in float32
    pairs = [document, features(rng, 100), nearly, document.copy()]
    distances = dtw.search([query], pairs).distances[0]
    exact = [dtw.matching_function(query, other).min() for other in pairs]
    assert distances[0] == distances[3] == exact[0]
    assert distances[2] == exact[2] != exact[0]
    assert distances[1] != exact[1]  # far from all others: float32 is enough
    np.testing.assert_array_equal(dtw.search([query], pairs, near=1).distances[0], exact)
    perfect = dtw.search([query], [query, np.hstack([document, query])]).distances[0]
    np.testing.assert_array_equal(perfect, [0, 0] if perfect[0] == 0 else perfect[[0, 0]])


@pytest.mark.parametrize("steps", [PAPER, CLASSIC])
def test_documents_that_float32_ranks_wrongly_are_ranked_rightly(steps):
    rng = np.random.default_rng(11)
    queries, document = [binary(rng, 120), features(rng, 120)], features(rng, 400)
    documents = [unit(document + 1e-6 * rng.random(document.shape)) for _ in range(20)]
    exact = np.array([[dtw.matching_function(q, d, steps).min() for d in documents] for q in queries])
    wrong = dtw.search(queries, documents, steps, near=0).distances
    assert (wrong.argsort(axis=1) != exact.argsort(axis=1)).any(axis=1).all()
    np.testing.assert_array_equal(dtw.search(queries, documents, steps).distances, exact)


@few
@given(st.integers(0, 9999), st.integers(1, 300), st.sampled_from(["random", "constant", "degenerate"]))
@pytest.mark.parametrize("steps", STEPS)
def test_float32_errs_by_less_than_its_bound(steps, seed, length, kind):
    rng = np.random.default_rng(seed)
    query, document = binary(rng, length) if seed % 2 else features(rng, length, kind), features(rng, 200, kind)
    exact = dtw.matching_function(query, document, steps)
    error = np.abs(
        dtw.matching_function(query, document, steps, np.float32)[np.isfinite(exact)] - exact[np.isfinite(exact)]
    )
    relative, absolute = dtw._rounding(np.array([length]), document.shape, steps)
    assert (error <= relative * exact[np.isfinite(exact)] + absolute).all()


@pytest.mark.parametrize("steps", [PAPER, CLASSIC])
def test_lookup_equals_dense(steps, monkeypatch):
    rng = np.random.default_rng(4)
    query, document = binary(rng, 100), features(rng, 150)
    looked_up = dtw.matching_function(query, document, steps)
    single = dtw.search([query], [document], steps).distances
    monkeypatch.setattr(dtw, "DISTINCT", 0)
    np.testing.assert_array_equal(dtw.matching_function(query, document, steps), looked_up)
    np.testing.assert_array_equal(dtw.search([query], [document], steps).distances, single)


def test_many_distinct_columns_do_not_pool():
    rng = np.random.default_rng(5)
    queries = [features(rng, 20) for _ in range(5)]  # the pool is full after three
    documents = [features(rng, 50)]
    pool = dtw._pool(queries)
    assert [pool.index[first] < pool.shared for first in pool.offsets[:-1]] == [True, True, True, False, False]
    distances = dtw.search(queries, documents).distances[:, 0]
    np.testing.assert_allclose(distances, [dtw.matching_function(q, documents[0]).min() for q in queries], rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_remainder_of_rows_lanes_and_blocks(dtype):
    """Query lengths around multiples of ROWS and BLOCK, documents around multiples of what vectors take."""
    rng = np.random.default_rng(9)
    for length in (1, 2, 3, 4, 5, 6, dtw.BLOCK, dtw.BLOCK + 1, 3 * dtw.BLOCK - 1):
        for frames in (50, 63, 64, 65, 127, 128, 129, 143, 1025, 2304):
            for query in (binary(rng, length), features(rng, length)):
                document = features(rng, frames)
                expected = reference(query, document, PAPER)[-1] / length
                row = dtw.matching_function(query, document, dtype=dtype)
                np.testing.assert_allclose(row, expected, rtol=0, atol=1e-9 if dtype is np.float64 else 1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_memory_stays_small_whatever_the_queries():
    """Resident memory, in a process of its own: what compiled code takes, tracemalloc does not see.

    Not getrusage's peak: a child begins with that of the process that started it.
    """
    script = """
import pathlib, re
import numpy as np
from duet import dtw

def megabytes(key):
    return int(re.search(key + r":\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024

rng = np.random.default_rng(6)
queries = [np.eye(12)[:, rng.integers(0, 12, 20).repeat(10)] for _ in range(100)]
queries += [queries[0][:, rng.integers(0, 200, 3000)], rng.random((12, 3000)) / 12]
documents = [rng.random((12, 10_000)) / 12 for _ in range(3)]
dtw.search([queries[0][:, :20], queries[-1][:, :40]], [documents[0][:, :90]] * 2)  # compiled, both passes
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
before = megabytes("VmRSS")
dtw.search(queries, documents)
print(megabytes("VmHWM") - before)
"""
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert 0 < float(printed) < 20  # N x M of a long query in float32 is 120 MB


def test_a_bad_document_ends_no_search():
    rng = np.random.default_rng(7)
    good, nan = features(rng, 50), features(rng, 50)
    nan[2, 7] = np.nan
    documents = [good, nan, np.zeros((12, 50)), np.empty((12, 0)), good[:6], None, good]
    found = dtw.search([binary(rng, 20)], documents)
    assert [number for number, _ in found.skipped] == [1, 2, 3, 4, 5]
    assert all(reason and "\n" not in reason for _, reason in found.skipped)
    assert np.isinf(found.distances[0, 1:6]).all() and np.isfinite(found.distances[0, [0, 6]]).all()


def test_bad_input_is_told_in_one_line():
    rng = np.random.default_rng(8)
    query, document = binary(rng, 20), features(rng, 50)
    nan = query.copy()
    nan[0, 0] = np.nan
    cases = {
        "empty": (query[:, :0], document),
        "silent": (query * 0, document),
        "NaN": (nan, document),
        "features a frame": (query[:6], document),
        "longer than 1": (query * 3, document),
        "too long": (query, document[:, :10]),
        "matrix": (query[0], document),
    }
    for words, pair in cases.items():
        for function in (dtw.matching_function, dtw.matches, dtw.warping_path):
            with pytest.raises(DuetError, match=words) as error:
                function(*pair)
            assert "\n" not in str(error.value)
    assert np.isfinite(dtw.matching_function(query, document[:, :11])).any()  # the shortest that has a path
    assert np.isfinite(dtw.matching_function(query, document[:, :1], CLASSIC)).all()
    for queries in ([], [query, nan], [query, query[:6]]):
        with pytest.raises(DuetError):
            dtw.search(queries, [document])
    for end in (0, 50, -1):
        with pytest.raises(DuetError, match="frame"):
            dtw.warping_path(query, document, end=end)
    for advances, weights in [
        (((3, 1), (1, 1), (1, 2)), (1, 1, 1)),
        (PAPER.advances, (0, 1, 1)),
        (PAPER.advances, (1,)),
    ]:
        with pytest.raises(DuetError):
            Steps(advances, weights)


# -- end to end --------------------------------------------------------------------------------------------------------


def test_global_path_worked_by_hand():
    a, b, c = np.eye(3)
    # a second b in the other sequence costs nothing: it stays on the row of b
    path = dtw.global_path(np.array([a, b, c]).T, np.array([a, b, b, c]).T)
    assert path.tolist() == [[0, 0], [1, 1], [1, 2], [2, 3]]
    assert dtw.global_path(np.array([a]).T, np.array([b, c]).T).tolist() == [[0, 0], [0, 1]]
    # equal costs everywhere: the diagonal first, then a step of the first sequence
    same = np.ones((1, 3))
    assert dtw.global_path(same, same).tolist() == [[0, 0], [1, 1], [2, 2]]
    assert dtw.global_path(np.ones((1, 4)), same).tolist() == [[0, 0], [1, 0], [2, 1], [3, 2]]


@few
@given(st.integers(0, 9999), st.integers(1, 300), st.integers(1, 300))
def test_global_path_equals_librosa(seed, rows, columns):
    rng = np.random.default_rng(seed)
    first, second = unit(rng.standard_normal((8, rows))), unit(rng.standard_normal((8, columns)))
    costs = np.maximum(1 - first.T @ second, 0)
    steps = np.array([[1, 1], [1, 0], [0, 1]])
    total, path = librosa.sequence.dtw(C=costs, step_sizes_sigma=steps)
    ours = dtw.global_path(first, second)
    assert costs[tuple(ours.T)].sum() == pytest.approx(total[-1, -1])
    np.testing.assert_array_equal(ours, path[::-1])


def test_global_path_refuses_what_cannot_be_compared():
    with pytest.raises(DuetError, match="features"):
        dtw.global_path(np.ones((3, 4)) / 3**0.5, np.ones((4, 4)) / 2)
    with pytest.raises(DuetError, match="empty"):
        dtw.global_path(np.ones((1, 0)), np.ones((1, 4)))
