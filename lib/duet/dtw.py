"""Dynamic time warping: many queries against many documents, all matches, two live rows of memory; and end to end.

A query of N frames is aligned with any stretch of a document of M frames (free start, free end), as in section 3.4,
retrieval, of Zalkow & Mueller, "Using weakly aligned score-audio pairs to train deep chroma models for cross-modal
music retrieval", ISMIR 2020.  Features are (F, frames) arrays, F = 12 for chroma, whose columns have unit length; the
cost of two columns is C[n, m] = 1 - <x_n, y_m>, at least 0.  With D[0, m] = C[0, m] and, over the steps (i, j),

    D[n, m] = min D[n - i, m - j] + weight(i, j) * C[n, m],

the last row D[N - 1] says for each document frame what the best match ending there costs.  Everything here divides it
by N and calls that the *matching function*.  With the paper's weights each step weighs as many query frames as it
advances, so that a complete path weighs exactly N, and the matching function is a mean cost per query frame.

Four decisions make it fast and small.  With the paper's steps no cell depends on another one of its row, so that
vector instructions take many cells at once, and neither C nor D ever exists as a whole.  A document is cut into as
many stretches as a vector has lanes, one stretch a lane, so that four rows of D advance together in registers.  A
binary chroma query has at most 13 different columns (12 pitch classes and the rest), so that a document needs 13 rows
of costs, looked up and not multiplied, whatever the number of queries.  Lists are searched in float32, and distances
too close to be ranked safely are computed again in float64, which equals ``librosa.sequence.dtw(subseq=True)``.

    found = search(queries, documents, threads=2)
    best = found.distances[0].argmin()
    for match in matches(queries[0], documents[best], count=5):
        path = warping_path(queries[0], documents[best], end=match.end)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic, models, register_model

from .errors import DuetError

POOL = 64  # distinct columns, over all queries, whose costs are held for a document
DISTINCT = 32  # a query with more distinct columns than this is dense
BLOCK = 16  # rows of costs held at once for a dense query
ROWS = 4  # query rows that advance together
HALO = 2 * ROWS  # frames before a stretch that are worked on with it: the furthest that ROWS steps reach back
TILE = 256  # cells of a row whose costs are computed together: all their features stay in the fastest cache
VECTOR = 64  # bytes: 16 cells of float32, 8 of float64
SLOPED = ((2, 1), (1, 2), (1, 1))
UNBOUNDED = ((1, 0), (0, 1), (1, 1))


@dataclass(frozen=True)
class Steps:
    """Allowed steps, as (query advance, document advance), and the weight of each, in the same order.

    Two sets of steps are known: {(2, 1), (1, 2), (1, 1)}, which holds the tempo between half and double, and the
    classic {(1, 0), (0, 1), (1, 1)}, which does not.  Weights are positive.
    """

    advances: tuple[tuple[int, int], ...]
    weights: tuple[float, ...]

    def __post_init__(self):
        if sorted(self.advances) not in (sorted(SLOPED), sorted(UNBOUNDED)):
            raise DuetError(f"unknown steps {self.advances}", remedy=f"choose {SLOPED} or {UNBOUNDED}")
        if len(self.weights) != len(self.advances) or not all(0 < weight < np.inf for weight in self.weights):
            raise DuetError(f"weights {self.weights} of steps must be three positive numbers")

    @property
    def sloped(self) -> bool:
        """Whether a query may be at most about twice as long as its match."""
        return (2, 1) in self.advances


PAPER = Steps(SLOPED, (2.0, 1.0, 1.0))  # Zalkow & Mueller 2020: a step weighs the query frames it advances
CLASSIC = Steps(UNBOUNDED, (1.0, 1.0, 1.0))


class Match(NamedTuple):
    """A match from frame ``start`` to frame ``end`` of the document, both included, and its cost per query frame."""

    end: int
    start: int
    cost: float


class Found(NamedTuple):
    """``distances`` (queries, documents), infinite where nothing matches; ``skipped``: (document number, reason)."""

    distances: np.ndarray
    skipped: list[tuple[int, str]]


def matching_function(query, document, steps: Steps = PAPER, dtype: type = np.float64) -> np.ndarray:
    """Cost per query frame (M,) of the best match that ends at each frame of the document.

    ``query`` (F, N) and ``document`` (F, M) have columns of unit length.  It is D[N - 1] / N, float64, computed in
    ``dtype``, float64 or float32; infinite at about the first N / 2 frames with the paper's steps, where no match can
    end.  Raises DuetError for features that are empty, silent, not finite or longer than 1, and where no path fits.
    """
    query, document = _pair(query, document, steps)
    weights, frames = _ordered_weights(steps, dtype), document.shape[1]
    arranged = _arranged(document.astype(dtype, copy=False), 0, frames, weights, steps.sloped)
    return _last_row(*_pool([query]), arranged, frames, weights, steps.sloped) / query.shape[1]


def matches(query, document, steps: Steps = PAPER, count: int | None = None, threshold: float = np.inf) -> list[Match]:
    """Matches that share no frame of the document, best first; of equally good ones the earlier first.

    Each is the best one that does not overlap those before it, until there are ``count``, or the next would cost more
    than ``threshold`` per query frame, or none is left.  Raises DuetError as :func:`matching_function` does.
    """
    query, document = _pair(query, document, steps)
    row, starts = _traced(query, document, steps, np.empty((0, 0), np.int8))
    costs, ends, found = row / query.shape[1], np.arange(len(row)), []
    while count is None or len(found) < count:
        end = int(costs.argmin())
        if not costs[end] <= threshold or np.isinf(costs[end]):
            break
        found.append(Match(end, int(starts[end]), float(costs[end])))
        costs[(ends >= found[-1].start) & (starts <= end)] = np.inf
    return found


def warping_path(query, document, steps: Steps = PAPER, end: int | None = None) -> np.ndarray:
    """The best path to frame ``end`` of the document (default: the best end), (L, 2) pairs (query frame, document
    frame) from first to last.

    Nothing is kept from earlier calls: the rows are computed again, first to find where the path starts, and then
    between its start and its end, where a byte a cell remembers the steps: at most 2 N x N bytes with the paper's.
    Raises DuetError as :func:`matching_function` does, and for an ``end`` where no match can end.
    """
    query, document = _pair(query, document, steps)
    if end is not None and not 0 <= end < document.shape[1]:
        raise DuetError(f"no frame {end} in a document of {document.shape[1]} frames")
    end = int(matching_function(query, document, steps).argmin()) if end is None else end
    begin = int(_earliest_start(end, query.shape[1], steps))
    _, starts = _traced(query, document[:, begin : end + 1], steps, np.empty((0, 0), np.int8))
    if starts[-1] < 0:
        raise DuetError(f"no match can end at frame {end}, too early for a query of {query.shape[1]} frames")
    begin += int(starts[-1])
    chosen = np.empty((query.shape[1], end + 1 - begin), np.int8)
    _traced(query, document[:, begin : end + 1], steps, chosen)
    n, m = query.shape[1] - 1, end - begin
    path = [(n, end)]
    while n > 0:
        i, j = steps.advances[chosen[n, m]]
        n, m = n - i, m - j
        path.append((n, begin + m))
    return np.array(path[::-1])


def global_path(first, second) -> np.ndarray:
    """(K, 2) int cells of the cheapest path from (0, 0) to (N - 1, M - 1): both sequences from end to end.

    ``first`` (F, N) and ``second`` (F, M) have columns of unit length; steps (1, 1), (1, 0) and (0, 1) weigh the same,
    and of equally cheap ones the diagonal is taken, then (1, 0) (fact sheet of alignment, Section 5).  Costs are
    computed a few rows at a time, in float64; of all cells only a byte is kept.  Raises DuetError as the others do.
    """
    first, second = _features(first, "first sequence"), _features(second, "second sequence")
    if len(first) != len(second):
        raise DuetError(f"{len(first)} features cannot be compared with {len(second)}", remedy="compute both alike")
    first, second = first.astype(np.float64), second.astype(np.float64)
    rows, columns = first.shape[1], second.shape[1]
    chosen, live = np.empty((rows, columns), np.uint8), np.full(columns, np.inf)
    for start in range(0, rows, TILE):
        costs = np.maximum(1 - first[:, start : start + TILE].T @ second, 0)
        _sweep_global(costs, live, chosen[start : start + TILE], start == 0)
    return _path_back(chosen)


def search(
    queries: Sequence,
    documents: Sequence,
    steps: Steps = PAPER,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
    near: float | None = None,
) -> Found:
    """The smallest cost per query frame of each query (F, N) in each document (F, M).

    All is computed in float32 first.  Distances of a query that differ by at most ``near`` (a cost per query frame)
    from the next smaller or larger one are then computed again in float64.  By default ``near`` is the bound on what
    float32 can err in the two together, so that a query ranks its documents just as float64 does; with 0 only equal
    distances are computed again, and those that float32 took for different may be ranked wrongly.

    A damaged document never ends a search: its distances are infinite, and ``skipped`` says why.  Infinite is also
    the distance of a document too short for a query, which no list mentions.  Raises DuetError for a damaged query,
    since nothing could be ranked.  ``progress(1)`` is called after each document, by the calling thread.  Memory above
    the inputs and the distances: the queries' distinct columns, and for each thread the document's features and at
    most POOL + BLOCK + 2 rows of its length.
    """
    queries = [_features(query, f"query {number}") for number, query in enumerate(queries)]
    if not queries:
        raise DuetError("there is no query")
    for number, query in enumerate(queries):
        if len(query) != len(queries[0]):
            raise DuetError(f"query {number} has {len(query)} features a frame, query 0 has {len(queries[0])}")
    pool, lengths = _pool(queries), np.array([query.shape[1] for query in queries])
    shape = len(queries), len(documents)
    distances, margins, ends = np.full(shape, np.inf), np.zeros(shape), np.zeros((*shape, 2), np.int32)

    def in_float32(number: int) -> str | None:
        try:
            document = _features(documents[number], "the document")
            if len(document) != len(queries[0]):
                raise DuetError(f"{len(document)} features a frame, the queries have {len(queries[0])}")
        except DuetError as error:
            return str(error)
        document, weights = document.astype(np.float32, copy=False), _ordered_weights(steps, np.float32)
        relative, absolute = _rounding(lengths, document.shape, steps)
        frames = document.shape[1]
        arranged = _arranged(document, 0, frames, weights, steps.sloped)
        found = _smallest(*pool, arranged, frames, weights, steps.sloped, relative, absolute)
        distances[:, number], ends[:, number] = found
        margins[:, number] = relative * found[0] + absolute
        return None

    def in_float64(number: int) -> None:
        asked = np.flatnonzero(close[:, number])
        begins = _earliest_start(ends[asked, number, 0], lengths[asked], steps)
        document, weights = np.ascontiguousarray(documents[number], np.float64), _ordered_weights(steps, np.float64)
        stretches = np.column_stack([begins, ends[asked, number, 1] + 1])
        distances[asked, number] = _smallest_again(*pool, document, weights, steps.sloped, asked, stretches)

    skipped = []
    with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as workers:
        in_order = workers.map if threads > 1 else map
        for number, reason in enumerate(in_order(in_float32, range(len(documents)))):
            if reason is not None:
                skipped.append((number, reason))
            if progress is not None:
                progress(1)
        close = _near_ties(distances, 2 * margins if near is None else np.full(shape, near))
        for _ in in_order(in_float64, np.flatnonzero(close.any(axis=0))):
            pass
    return Found(distances, skipped)


# -- input -------------------------------------------------------------------------------------------------------------


def _plain(values: np.ndarray) -> np.ndarray:
    """In rows, of float32 or float64: what the kernels are compiled for."""
    return np.ascontiguousarray(values, np.float32 if values.dtype == np.float32 else np.float64)


def _features(values, what: str) -> np.ndarray:
    """``values`` as an (F, frames) array, after a look for all that would give a wrong distance without a word."""
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise DuetError(f"{what} is not a matrix of numbers, features by frames, but {values.dtype} {values.shape}")
    if not values.size:
        raise DuetError(f"{what} is empty: its shape is {values.shape}")
    values = _plain(values)
    silent, short = _lengths(values)
    if silent:
        raise DuetError(f"{what} is silent: all its features are zero")
    if not short:
        damaged = np.sum(~np.isfinite(values).all(axis=0))
        if damaged:
            raise DuetError(f"{what} holds NaN or infinite features in {damaged} frames")
        raise DuetError(f"{what} has columns longer than 1", remedy="divide each by its Euclidean norm")
    return values


def _pair(query, document, steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    """Checked features of a pair that has a path."""
    query, document = _features(query, "the query"), _features(document, "the document")
    if len(query) != len(document):
        raise DuetError(f"the query has {len(query)} features a frame, the document {len(document)}")
    if not _has_path(query.shape[1], document.shape[1], steps.sloped):
        raise DuetError(
            f"the query, {query.shape[1]} frames, is too long for the document, {document.shape[1]} frames: "
            "the steps allow at most twice the tempo",
            remedy="shorten the query, or use the classic steps",
        )
    return query, document


class _Pool(NamedTuple):
    """Queries as rows of a table: ``columns`` (K, F) holds distinct columns of all of them, and ``index`` which one
    each frame of each query is; query q goes from ``offsets[q]`` to ``offsets[q + 1]``.

    The first ``shared`` columns are few enough for their costs to be held together.  A query that uses others is dense
    and uses no shared one.
    """

    columns: np.ndarray
    shared: int
    index: np.ndarray
    offsets: np.ndarray


def _pool(queries: Sequence[np.ndarray]) -> _Pool:
    number_of: dict[bytes, int] = {}
    shared, dense, parts = [], [], []
    for query in queries:
        columns = np.ascontiguousarray(query.T, np.float64)
        index, firsts = _distinct(columns, DISTINCT)
        keys = [columns[n].tobytes() for n in firsts]
        new = {key: columns[n] for key, n in zip(keys, firsts, strict=True) if key not in number_of}
        if len(firsts) <= DISTINCT and len(shared) + len(new) <= POOL:
            for key, column in new.items():
                number_of[key] = len(shared)
                shared.append(column)
            parts.append(np.array([number_of[key] for key in keys])[index])
        else:  # numbered from -1 down, until it is known how many are shared
            parts.append(-1 - np.arange(len(columns)) - sum(map(len, dense)))
            dense.append(columns)
    index = np.concatenate(parts)
    index = np.where(index < 0, len(shared) - 1 - index, index)
    columns = np.concatenate([np.array(shared).reshape(-1, len(queries[0])), *dense])
    return _Pool(columns, len(shared), index, np.cumsum([0] + [query.shape[1] for query in queries]))


# -- what float32 can err ----------------------------------------------------------------------------------------------


def _rounding(lengths: np.ndarray, shape: tuple[int, int], steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    """(relative, absolute) bounds, one a query, on the error of a float32 distance to a document of a ``shape``.

    A path adds a cost a step, and each sum, rounded, is no larger than the distance.  A cost is F products taken from
    1, each time rounded where at most 2 is left, of features rounded themselves.  (The model of Higham, Accuracy and
    Stability of Numerical Algorithms, 2002, section 2.2.)
    """
    features, frames = shape
    unit = 2.0**-24 * 1.01  # a little more, for what is of second order
    if steps.sloped:
        weight = max(weight / i for (i, _), weight in zip(steps.advances, steps.weights, strict=True))
        return (lengths + 1) * unit, np.full(len(lengths), (2 * features + 2) * unit * weight)
    additions = lengths + frames
    return (additions + 1) * unit, (2 * features + 2) * unit * max(steps.weights) * additions / lengths


def _near_ties(distances: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Which distances (Q, D) differ by at most ``near``, that of the larger, from the next of their query."""
    if distances.shape[1] < 2:
        return np.zeros(distances.shape, bool)
    order = np.argsort(distances, axis=1, kind="stable")
    ranked = np.take_along_axis(distances, order, axis=1)
    with np.errstate(invalid="ignore"):  # infinity minus infinity is no tie
        close = np.diff(ranked, axis=1) <= np.take_along_axis(near, order, axis=1)[:, 1:]
    close &= np.isfinite(ranked[:, 1:])
    tied = np.zeros(distances.shape, bool)
    tied[:, 1:] |= close
    tied[:, :-1] |= close
    result = np.zeros_like(tied)
    np.put_along_axis(result, order, tied, axis=1)
    return result


def _earliest_start(end, length, steps: Steps):
    """The first frame where a path to ``end`` can start."""
    return np.maximum(0, end - 2 * (length - 1)) if steps.sloped else 0 * end


def _ordered_weights(steps: Steps, dtype: type) -> np.ndarray:
    """In the order of SLOPED or of UNBOUNDED, as the kernels expect; their type is what the kernels compute in."""
    weight_of = dict(zip(steps.advances, steps.weights, strict=True))
    return np.array([weight_of[step] for step in (SLOPED if steps.sloped else UNBOUNDED)], dtype)


def _traced(query: np.ndarray, document: np.ndarray, steps: Steps, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """D[N - 1] (M,) in float64 and where each of its paths starts (M,); fills ``chosen``."""
    columns, document = np.ascontiguousarray(query.T, np.float64), np.ascontiguousarray(document, np.float64)
    return _trace(columns, document, np.array(steps.weights, np.float64), np.array(steps.advances), chosen)


# -- compiled: queries and documents -----------------------------------------------------------------------------------
# ``weights`` (3,) gives the type that is computed in.  Of fastmath no more than fused products, the same as two
# operations where a weight is a power of two: the rest may assume that there is no infinity.


@numba.njit(nogil=True, cache=True)
def _lengths(values):
    """Whether all columns are zero, and whether none is longer than 1, up to rounding; NaN is neither."""
    squares = np.zeros(values.shape[1], values.dtype)
    for f in range(values.shape[0]):
        row = values[f]
        for m in range(len(row)):
            squares[m] += row[m] * row[m]
    silent, short = True, True
    for m in range(len(squares)):
        silent &= squares[m] == 0
        short &= squares[m] <= 1.02
    return silent, short


@numba.njit(nogil=True, cache=True)
def _distinct(columns, limit):
    """Which distinct one each of the ``columns`` (N, F) is, and where each first stands; ends at ``limit`` + 1."""
    index, firsts, count = np.zeros(len(columns), np.int64), np.zeros(limit + 1, np.int64), 0
    for n in range(len(columns)):
        index[n] = count
        for k in range(count):
            f = 0
            while f < columns.shape[1] and columns[n, f] == columns[firsts[k], f]:
                f += 1
            if f == columns.shape[1]:
                index[n] = k
                break
        if index[n] == count:
            firsts[count] = n
            count += 1
            if count > limit:
                break
    return index, firsts[:count]


@numba.njit(forceinline=True)
def _has_path(length, frames, sloped):
    return not sloped or frames > length // 2


@numba.njit(nogil=True, cache=True)
def _last_row(columns, shared, index, _, arranged, frames, weights, sloped):
    """D[N - 1] (M,), in float64, of the only query."""
    live, table, block = _work(columns, shared, arranged, weights)
    _advance(columns, shared, index, arranged, weights, sloped, live, table, block)
    row, (lanes, stretch, halo) = np.empty(frames), _layout(frames, weights, sloped)
    for m in range(len(row)):
        row[m] = live[1, (m % stretch + halo) * lanes + m // stretch]
    return row


@numba.njit(nogil=True, cache=True)
def _smallest(columns, shared, index, offsets, arranged, frames, weights, sloped, relative, absolute):
    """The smallest cost per frame of each query (Q,), and the first and last frames (Q, 2) where it may really be, had
    the distances erred by ``relative`` and ``absolute``.
    """
    queries = len(offsets) - 1
    live, table, block = _work(columns, shared, arranged, weights)
    distances, ends = np.full(queries, np.inf), np.zeros((queries, 2), np.int32)
    for q in range(queries):
        length = offsets[q + 1] - offsets[q]
        if _has_path(length, frames, sloped):
            rows = index[offsets[q] : offsets[q + 1]]
            _advance(columns, shared, rows, arranged, weights, sloped, live, table, block)
            smallest = _least(live)
            distances[q] = smallest / length
            bound = smallest * (1 + 2 * relative[q]) + 2 * absolute[q] * length
            ends[q] = _candidates(live, bound, frames, weights, sloped)
    return distances, ends


@numba.njit(nogil=True, cache=True)
def _smallest_again(columns, shared, index, offsets, document, weights, sloped, asked, stretches):
    """The smallest cost per frame of the queries ``asked`` (A,), each in one of the ``stretches`` (A, 2) of the
    document, from the first frame to before the second.
    """
    distances = np.empty(len(asked))
    for a in range(len(asked)):
        q = asked[a]
        arranged = _arranged(document, stretches[a, 0], stretches[a, 1], weights, sloped)
        live, table, block = _work(columns, shared, arranged, weights)
        rows = index[offsets[q] : offsets[q + 1]]
        _advance(columns, shared, rows, arranged, weights, sloped, live, table, block)
        distances[a] = _least(live) / (offsets[q + 1] - offsets[q])
    return distances


@numba.njit(forceinline=True)
def _least(live):
    least = _load(live, 1, 0)
    for p in range(0, live.shape[1], VECTOR // live.itemsize):
        least = _smaller(least, _load(live, 1, p))
    return _fold(least)


@numba.njit(forceinline=True)
def _candidates(live, bound, frames, weights, sloped):
    """The first and the last frame whose cost is at most ``bound``."""
    lanes, stretch, halo = _layout(frames, weights, sloped)
    first, last = frames, -1
    for p in range(0, live.shape[1], VECTOR // live.itemsize):
        if _fold(_load(live, 1, p)) <= bound:
            for q in range(p, p + VECTOR // live.itemsize):
                if live[1, q] <= bound:
                    frame = q % lanes * stretch + q // lanes - halo
                    first, last = min(first, frame), max(last, frame)
    return first, last


# -- compiled: the recursion -------------------------------------------------------------------------------------------
# With sloped steps the features, the costs and the rows of D of a document are arranged for vectors: its frames are
# cut into as many stretches as a vector has lanes, and position k holds frame k of every stretch.  So a step to the
# next frame is a step to the next vector, whatever the lane.  Before each stretch stands a halo, the last frames of
# the one before: ROWS rows, begun with nothing to their left, may go wrong there before they come to the stretch.


@numba.njit(forceinline=True)
def _layout(frames, weights, sloped):
    """(lanes, frames of a stretch, frames of a halo); a row is a multiple of four vectors."""
    vector = VECTOR // weights.itemsize
    if sloped:
        return vector, max(-(-frames // (4 * vector)) * 4, HALO), HALO
    return 1, -(-frames // (4 * vector)) * 4 * vector, 0


@numba.njit(nogil=True, cache=True)
def _arranged(document, begin, end, weights, sloped):
    """Frames ``begin`` to ``end`` of a document (F, M), arranged (F + 1, width); below its features stands 1, and
    infinity where there is no frame: what a cost is before the features are multiplied.
    """
    features, frames = len(document), end - begin
    lanes, stretch, halo = _layout(frames, weights, sloped)
    arranged = np.empty((features + 1, (halo + stretch) * lanes), weights.dtype)
    arranged[:features], arranged[features] = 0, np.inf
    # positions with a frame in every lane, taken by squares of lanes x lanes; the rest one by one
    low, high = halo, min(halo + stretch, frames - (lanes - 1) * stretch + halo)
    high = low + max(0, high - low) // lanes * lanes if sloped else low
    scratch = np.empty((2, lanes * lanes), weights.dtype)
    for f in range(features):
        for k in range(low, high, lanes):
            _transpose(document, f, begin + k - halo, stretch, lanes, scratch, arranged, k * lanes)
    arranged[features, low * lanes : high * lanes] = 1
    for lane in range(lanes):
        first = lane * stretch - halo  # the frame at position 0
        for start, stop in ((0, low), (high, halo + stretch)):
            for k in range(max(start, -first), min(stop, frames - first)):
                arranged[features, k * lanes + lane] = 1
                for f in range(features):
                    arranged[f, k * lanes + lane] = document[f, begin + first + k]
    return arranged


@numba.njit(forceinline=True)
def _transpose(document, f, first, stretch, lanes, scratch, arranged, to):
    """``lanes`` frames of each stretch, from frame ``first`` of the first on, to a row of ``arranged``.

    To interleave the upper and the lower half of a square's rows, log2 of their number times, is to transpose it.
    """
    for lane in range(lanes):
        _store(scratch, 0, lane * lanes, _load(document, f, first + lane * stretch))
    source, half, rounds = 0, lanes * lanes // 2, lanes
    while rounds > 1:
        for at in range(0, half, lanes):
            upper, lower = _load(scratch, source, at), _load(scratch, source, at + half)
            _store(scratch, 1 - source, 2 * at, _low(upper, lower))
            _store(scratch, 1 - source, 2 * at + lanes, _high(upper, lower))
        source, rounds = 1 - source, rounds // 2
    for at in range(0, lanes * lanes, lanes):
        _store(arranged, f, to + at, _load(scratch, source, at))


@numba.njit(nogil=True, cache=True)
def _costs(columns, arranged, weights, costs):
    """1 - <x, y>, at least 0, of ``columns`` (K, F) and an arranged document, to the first K rows of ``costs``.

    Not a call of BLAS: a binary column has few features to multiply, no second pool of threads disturbs ours, and
    equal columns cost exactly the same wherever they stand, so that ties stay ties.
    """
    (count, features), width, vector = columns.shape, arranged.shape[1], VECTOR // weights.itemsize
    factors, rows, zero = (
        np.empty(features, weights.dtype),
        np.empty(features, np.int64),
        _spread(weights.dtype.type(0)),
    )
    for begin in range(0, width, TILE):
        for k in range(count):
            used = 0
            for f in range(features):
                if columns[k, f] != 0:
                    factors[used], rows[used] = -columns[k, f], f
                    used += 1
            for p in range(begin, min(begin + TILE, width), 4 * vector):
                p1, p2, p3 = p + vector, p + 2 * vector, p + 3 * vector
                c0, c1 = _load(arranged, features, p), _load(arranged, features, p1)
                c2, c3 = _load(arranged, features, p2), _load(arranged, features, p3)
                for u in range(used):
                    factor, f = _spread(factors[u]), rows[u]
                    c0 = _plus(c0, _times(factor, _load(arranged, f, p)))
                    c1 = _plus(c1, _times(factor, _load(arranged, f, p1)))
                    c2 = _plus(c2, _times(factor, _load(arranged, f, p2)))
                    c3 = _plus(c3, _times(factor, _load(arranged, f, p3)))
                _store(costs, k, p, _larger(c0, zero))  # rounding can make equal columns cost less than nothing
                _store(costs, k, p1, _larger(c1, zero))
                _store(costs, k, p2, _larger(c2, zero))
                _store(costs, k, p3, _larger(c3, zero))


@numba.njit(nogil=True, cache=True)
def _work(columns, shared, arranged, weights):
    """(two live rows, the costs of the shared columns, room for those of BLOCK rows of a dense query)."""
    width, dense = arranged.shape[1], shared < len(columns)
    live, table = np.empty((2, width), weights.dtype), np.empty((shared, width), weights.dtype)
    _costs(columns[:shared], arranged, weights, table)
    return live, table, np.empty((BLOCK if dense else 0, width), weights.dtype)


@numba.njit(nogil=True, cache=True)
def _advance(columns, shared, index, arranged, weights, sloped, live, table, block):
    """All rows of a query whose frames are the ``columns`` of ``index`` (N,): leaves D[N - 2] and D[N - 1] in ``live``
    (2, width); without slope only the latter.
    """
    dense = index[0] >= shared
    for row in range(0, len(index), BLOCK if dense else len(index)):
        costs, rows = table, index
        if dense:
            rows = np.arange(min(BLOCK, len(index) - row))
            costs = block
            _costs(columns[index[row : row + BLOCK]], arranged, weights, block)
        if sloped:
            _advance_sloped(costs, rows, row == 0, weights, live)
        else:
            _advance_unbounded(costs, rows, row == 0, weights, live)


@numba.njit(nogil=True, cache=True)
def _advance_sloped(table, index, begins, weights, live):
    """Rows of costs ``table[index]``; the query begins with the first of them, or they go on from ``live``."""
    two, one = live
    n = 0
    if begins:
        two[:], one[:], n = np.inf, table[index[0]], 1
    while (len(index) - n) % ROWS:
        _sweep(table, index[n], live, weights)
        n += 1
    while n < len(index):
        _sweep_rows(table, index[n : n + ROWS], live, weights)
        n += ROWS


@numba.njit(forceinline=True)
def _cell(two, before, one, cost, w21, w12, w11, unit):
    """D[n, m] of D[n - 2, m - 1], D[n - 1, m - 2], D[n - 1, m - 1] and C[n, m]; ``unit``: two of the weights are 1."""
    best = (
        _plus(_smaller(before, one), cost)
        if unit
        else _smaller(_plus(before, _times(w12, cost)), _plus(one, _times(w11, cost)))
    )
    return _smaller(_plus(two, _times(w21, cost)), best)


@numba.njit(forceinline=True)
def _sweep(table, c, live, weights):
    """One row more, with the costs ``table[c]``."""
    lanes = VECTOR // weights.itemsize
    w21, w12, w11 = _spread(weights[0]), _spread(weights[1]), _spread(weights[2])
    unit = weights[1] == 1 and weights[2] == 1
    t1 = o2 = o1 = _spread(weights.dtype.type(np.inf))
    for p in range(0, live.shape[1], lanes):
        new = _cell(t1, o2, o1, _load(table, c, p), w21, w12, w11, unit)
        t1, o2, o1 = _load(live, 0, p), o1, _load(live, 1, p)
        _store(live, 0, p, o1)
        _store(live, 1, p, new)
    _hand_on(live, lanes)


@numba.njit(forceinline=True)
def _sweep_rows(table, index, live, weights):
    """ROWS rows more, a, b, c and d, of which only the last two are stored; a1 is what a was one position before."""
    lanes = VECTOR // weights.itemsize
    w21, w12, w11 = _spread(weights[0]), _spread(weights[1]), _spread(weights[2])
    unit = weights[1] == 1 and weights[2] == 1
    t1 = o2 = o1 = a2 = a1 = b2 = b1 = c2 = c1 = _spread(weights.dtype.type(np.inf))
    i0, i1, i2, i3 = index[0], index[1], index[2], index[3]
    for p in range(0, live.shape[1], lanes):
        a = _cell(t1, o2, o1, _load(table, i0, p), w21, w12, w11, unit)
        b = _cell(o1, a2, a1, _load(table, i1, p), w21, w12, w11, unit)
        c = _cell(a1, b2, b1, _load(table, i2, p), w21, w12, w11, unit)
        d = _cell(b1, c2, c1, _load(table, i3, p), w21, w12, w11, unit)
        t1, o2, o1 = _load(live, 0, p), o1, _load(live, 1, p)
        _store(live, 0, p, c)
        _store(live, 1, p, d)
        a2, a1, b2, b1, c2, c1 = a1, a, b1, b, c1, c
    _hand_on(live, lanes)


@numba.njit(forceinline=True)
def _hand_on(live, lanes):
    """Each halo becomes the end of the stretch before: what is a lane to the left, and before the first, infinity."""
    ends = live.shape[1] - HALO * lanes
    for row in range(2):
        for p in range(0, HALO * lanes, lanes):
            _store(live, row, p, _first(_load(live, row, ends + p - 1), np.inf))


@numba.njit(nogil=True, cache=True)
def _advance_unbounded(table, index, begins, weights, live):
    w10, w01, w11 = weights
    row = live[1]
    for n in range(len(index)):
        costs = table[index[n]]
        if begins and n == 0:
            row[:] = costs
            continue
        diagonal = left = weights.dtype.type(np.inf)  # D[n - 1, m - 1], D[n, m - 1]
        for m in range(len(row)):
            cost = costs[m]
            best, other = row[m] + w10 * cost, diagonal + w11 * cost
            best = other if other < best else best
            other, diagonal = left + w01 * cost, row[m]
            left = other if other < best else best
            row[m] = left


@numba.njit(nogil=True, cache=True)
def _sweep_global(costs, live, chosen, begins):
    """Advance ``live`` (M,), a row of D, over rows of costs; ``chosen`` gets 0, 1, 2: diagonal, (1, 0), (0, 1)."""
    for n in range(len(costs)):
        diagonal = left = np.inf  # D[n - 1, m - 1], D[n, m - 1]
        for m in range(len(live)):
            best, step = diagonal, 0
            if live[m] < best:
                best, step = live[m], 1
            if left < best:
                best, step = left, 2
            if begins and n == 0 and m == 0:
                best = 0.0
            diagonal = live[m]
            left = live[m] = best + costs[n, m]
            chosen[n, m] = step


@numba.njit(nogil=True, cache=True)
def _path_back(chosen):
    n, m = chosen.shape[0] - 1, chosen.shape[1] - 1
    cells = np.empty((n + m + 1, 2), np.int64)
    place = len(cells) - 1
    cells[place] = n, m
    while n or m:
        step = chosen[n, m]
        n -= step != 2
        m -= step != 1
        place -= 1
        cells[place] = n, m
    return cells[place:]


@numba.njit(nogil=True, cache=True)
def _trace(columns, document, weights, advances, chosen):
    """Any steps, slower: D[N - 1] (M,) and the frame where the best path to each of its cells starts.

    ``chosen`` (N, M) gets the number of the step taken to each cell (-1: the path starts here, or there is none); it
    may have no rows.  Of equally cheap steps the first is taken.  Rows live behind two columns of infinity.
    """
    frames = document.shape[1]
    arranged = _arranged(document, 0, frames, weights, False)
    live, starts = np.full((3, 2 + frames), np.inf), np.full((3, 2 + frames), -1)
    block = np.empty((BLOCK, arranged.shape[1]))
    for row in range(0, len(columns), BLOCK):
        _costs(columns[row : row + BLOCK], arranged, weights, block)
        for n in range(row, min(row + BLOCK, len(columns))):
            costs = block[n - row]
            for m in range(frames):
                best, start, step = np.inf, -1, -1
                if n == 0:
                    best, start = costs[m], m
                else:
                    for s in range(len(weights)):
                        at, column = (n - advances[s, 0] + 3) % 3, m + 2 - advances[s, 1]
                        cost = live[at, column] + weights[s] * costs[m]
                        if cost < best:
                            best, start, step = cost, starts[at, column], s
                live[n % 3, m + 2], starts[n % 3, m + 2] = best, start
                if len(chosen) > 0:
                    chosen[n, m] = step
    last = (len(columns) - 1) % 3
    return live[last, 2:], starts[last, 2:]


# -- vectors -----------------------------------------------------------------------------------------------------------
# VECTOR bytes of numbers of one type as one value, that LLVM keeps in as many registers as the processor needs for it.


class _Vector(numba.types.Type):
    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Vector({dtype})")


def _llvm_vector(value_type: ir.Type, dtype) -> ir.VectorType:
    return ir.VectorType(value_type, 8 * VECTOR // dtype.bitwidth)


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, _llvm_vector(manager.lookup(vector.dtype).get_value_type(), vector.dtype))


def _address(context, builder, array_type, array, row, column):
    """Of a vector in a contiguous matrix."""
    struct = context.make_array(array_type)(context, builder, array)
    start = builder.add(builder.mul(row, builder.extract_value(struct.shape, 1)), column)
    vector = _llvm_vector(context.get_value_type(array_type.dtype), array_type.dtype)
    return builder.bitcast(builder.gep(struct.data, [start]), vector.as_pointer())


@intrinsic
def _load(typing, array, row, column):
    def generate(context, builder, signature, arguments):
        return builder.load(_address(context, builder, signature.args[0], *arguments), align=array.dtype.bitwidth // 8)

    return _Vector(array.dtype)(array, numba.intp, numba.intp), generate


@intrinsic
def _store(typing, array, row, column, vector):
    def generate(context, builder, signature, arguments):
        address = _address(context, builder, signature.args[0], *arguments[:3])
        builder.store(arguments[3], address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return numba.void(array, numba.intp, numba.intp, vector), generate


@intrinsic
def _spread(typing, number):
    """A vector of equal numbers."""

    def generate(context, builder, signature, arguments):
        vector, index = _llvm_vector(arguments[0].type, number), ir.IntType(32)
        nothing = ir.Constant(vector, ir.Undefined)
        single = builder.insert_element(nothing, arguments[0], index(0))
        return builder.shuffle_vector(single, nothing, ir.Constant(ir.VectorType(index, vector.count), None))

    return _Vector(number)(number), generate


@intrinsic
def _first(typing, vector, number):
    """The vector with its first number replaced."""

    def generate(context, builder, signature, arguments):
        return builder.insert_element(*arguments, ir.IntType(32)(0))

    return vector(vector, vector.dtype), generate


@intrinsic
def _fold(typing, vector):
    """The smallest number of the vector."""

    def generate(context, builder, signature, arguments):
        half, numbers = arguments[0], arguments[0].type.count
        while numbers > 1:
            numbers //= 2
            low, high = (
                ir.Constant(ir.VectorType(ir.IntType(32), numbers), list(range(start, start + numbers)))
                for start in (0, numbers)
            )
            low, high = builder.shuffle_vector(half, half, low), builder.shuffle_vector(half, half, high)
            half = builder.select(builder.fcmp_ordered("<", low, high), low, high)
        return builder.extract_element(half, ir.IntType(32)(0))

    return vector.dtype(vector), generate


def _interleave(half):
    def generate(context, builder, signature, arguments):
        count = arguments[0].type.count
        order = [k for low in range(half * count // 2, (half + 1) * count // 2) for k in (low, low + count)]
        return builder.shuffle_vector(*arguments, ir.Constant(ir.VectorType(ir.IntType(32), count), order))

    return generate


@intrinsic
def _low(typing, a, b):
    """a0 b0 a1 b1 ... of the lower halves."""
    return a(a, a), _interleave(0)


@intrinsic
def _high(typing, a, b):
    """The same of the upper halves."""
    return a(a, a), _interleave(1)


@intrinsic
def _plus(typing, a, b):
    return a(a, a), lambda context, builder, signature, ab: builder.fadd(*ab, flags=["contract"])


@intrinsic
def _times(typing, a, b):
    return a(a, a), lambda context, builder, signature, ab: builder.fmul(*ab, flags=["contract"])


@intrinsic
def _smaller(typing, a, b):
    return a(a, a), lambda context, builder, signature, ab: builder.select(builder.fcmp_ordered("<", *ab), *ab)


@intrinsic
def _larger(typing, a, b):
    return a(a, a), lambda context, builder, signature, ab: builder.select(builder.fcmp_ordered(">", *ab), *ab)
