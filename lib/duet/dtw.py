"""Subsequence dynamic time warping: many queries against many documents, all matches, a few live rows of memory.

A query of N frames is aligned with any stretch of a document of M frames (free start, free end), as in section 3.4,
retrieval, of Zalkow & Mueller, "Using weakly aligned score-audio pairs to train deep chroma models for cross-modal
music retrieval", ISMIR 2020.  Features are (F, frames) arrays, F = 12 for chroma, whose columns have unit length; the
cost of two columns is C[n, m] = 1 - <x_n, y_m>, at least 0.  With D[0, m] = C[0, m] and, over the steps (i, j),

    D[n, m] = min D[n - i, m - j] + weight(i, j) * C[n, m],

the last row D[N - 1] says for each document frame what the best match ending there costs.  Everything here divides it
by N and calls that the *matching function*.  With the paper's weights each step weighs as many query frames as it
advances, so that a complete path weighs exactly N, and the matching function is a mean cost per query frame.

Three decisions make it fast and small.  With the paper's steps no cell depends on another one of its row, so that a
row is computed by vector instructions, and three live rows suffice: neither C nor D ever exists as a whole.  A binary
chroma query has at most 13 different columns (12 pitch classes and the rest), so that a document needs 13 rows of
costs, looked up and not multiplied, whatever the number of queries.  Lists are searched in float32, and distances
too close to be ranked safely are computed again in float64, which equals ``librosa.sequence.dtw(subseq=True)``.

    found = search(queries, documents, threads=2)
    best = found.distances[0].argmin()
    for match in matches(queries[0], documents[best], count=5):
        path = warping_path(queries[0], documents[best], end=match.end)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from .errors import DuetError

BLOCK = 32  # rows of costs held at once for a dense query: they stay in the processor's cache
DISTINCT = 32  # a query with more distinct columns than this is dense
POOL = 64  # distinct columns, over all queries, whose costs are held for a document
TILE = 2048  # document frames worked on at once
SLOPED = ((2, 1), (1, 2), (1, 1))
UNBOUNDED = ((1, 0), (0, 1), (1, 1))
AHEAD = 2  # the furthest that a step advances in the document: columns of infinity left of the live rows


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

    def ordered_weights(self, dtype: type) -> np.ndarray:
        """Weights in the order that the kernels expect, the one of SLOPED and of UNBOUNDED."""
        weight_of = dict(zip(self.advances, self.weights, strict=True))
        return np.array([weight_of[step] for step in (SLOPED if self.sloped else UNBOUNDED)], dtype)


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


# Kernels.  ``table`` (K, M) holds rows of costs, ``index`` which of them belongs to each of the next query rows, whose
# number starts with ``row``; row n of D lives in live[n % 3], behind AHEAD columns of infinity.
# Of fastmath no more than fused products: the rest may assume that there is no infinity.


@numba.njit(inline="always")
def _smaller(a, b):
    return a if a < b else b  # one vector instruction, which min() of numbers that may be NaN is not


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # fused w * c + d: the same where w is a power of two
def _advance_sloped(table, index, row, weights, live):
    """TILE document frames at a time, so that the live rows stay in the fastest cache; ``left`` and ``right`` hold the
    last AHEAD columns of all rows of the tile before and of this one.
    """
    frames, count = table.shape[1], len(index)
    w21, w12, w11 = weights[0], weights[1], weights[2]
    work = np.empty((3, AHEAD + TILE), live.dtype)
    left, right = np.full((2 + count, AHEAD), np.inf, live.dtype), np.empty((2 + count, AHEAD), live.dtype)
    for begin in range(0, frames, TILE):
        width = min(TILE, frames - begin)
        for i in range(-2, count):
            n = row + i
            new, one, two = work[(i + 3) % 3], work[(i + 2) % 3], work[(i + 4) % 3]
            new[:AHEAD] = left[i + 2]
            if i < 0:
                new[AHEAD : AHEAD + width] = live[(n + 3) % 3, AHEAD + begin : AHEAD + begin + width]
            elif n == 0:
                new[AHEAD : AHEAD + width] = table[index[i], begin : begin + width]
            else:
                costs = table[index[i], begin : begin + width]
                if w12 == w11:  # as PAPER: an addition less, and not a bit of difference
                    for m in range(width):  # no dependence within the row: vector instructions
                        best = _smaller(one[m], one[m + 1]) + w11 * costs[m]
                        new[m + 2] = _smaller(two[m + 1] + w21 * costs[m], best)
                else:
                    for m in range(width):
                        best = _smaller(one[m] + w12 * costs[m], one[m + 1] + w11 * costs[m])
                        new[m + 2] = _smaller(two[m + 1] + w21 * costs[m], best)
            right[i + 2] = new[width : width + AHEAD]
        for i in range(count - 3, count):
            live[(row + i + 3) % 3, AHEAD + begin : AHEAD + begin + width] = work[(i + 3) % 3, AHEAD : AHEAD + width]
        left, right = right, left


@numba.njit(nogil=True, cache=True)
def _advance_unbounded(table, index, row, weights, live):
    frames = table.shape[1]
    w10, w01, w11 = weights[0], weights[1], weights[2]
    for i in range(len(index)):
        n = row + i
        costs, new, one = table[index[i]], live[n % 3], live[(n + 2) % 3]
        if n == 0:
            new[AHEAD:] = costs
            continue
        before = new[1]  # infinity
        for m in range(frames):
            cost = costs[m]
            best = one[m + 2] + w10 * cost
            other = one[m + 1] + w11 * cost
            best = other if other < best else best
            other = before + w01 * cost
            before = other if other < best else best
            new[m + 2] = before


@numba.njit(nogil=True, cache=True)
def _advance_traced(table, index, row, weights, live, advances, starts, chosen):
    """Any steps, slower: keeps the frame where the best path to each cell starts, and the step taken to the cell.

    The frames live in ``starts`` (3, AHEAD + M) as the costs do in ``live``; ``chosen`` (N, M), the number of the step
    (-1: the path starts here, or there is none), may have no rows.  Of equally cheap steps the first is taken.
    """
    frames = table.shape[1]
    for i in range(len(index)):
        n = row + i
        costs = table[index[i]]
        for m in range(frames):
            best, start, step = np.inf, -1, -1
            if n == 0:
                best, start = costs[m], m
            else:
                for s in range(len(weights)):
                    at, column = (n - advances[s, 0] + 3) % 3, m + AHEAD - advances[s, 1]
                    cost = live[at, column] + weights[s] * costs[m]
                    if cost < best:
                        best, start, step = cost, starts[at, column], s
            live[n % 3, m + AHEAD], starts[n % 3, m + AHEAD] = best, start
            if len(chosen) > 0:
                chosen[n, m] = step


@numba.njit(nogil=True, cache=True)
def _costs(columns, document):
    """1 - <x, y> (K, M), at least 0, of ``columns`` (F, K) and ``document`` (F, M), both of one type.

    Not a call of BLAS: a binary column has few features to multiply, no second pool of threads disturbs ours, and
    equal columns cost exactly the same wherever they stand, so that ties stay ties.
    """
    frames = document.shape[1]
    costs = np.ones((columns.shape[1], frames), document.dtype)
    for k in range(columns.shape[1]):
        row = costs[k]
        for f in range(columns.shape[0]):
            x, y = columns[f, k], document[f]
            if x != 0:
                for m in range(frames):
                    row[m] -= x * y[m]
        for m in range(frames):  # rounding can make equal columns cost a little less than nothing
            row[m] = row[m] if row[m] > 0 else 0
    return costs


def _distinct(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct columns (F, K) and, for each column, which one it is."""
    kept, index = np.unique(columns, axis=1, return_inverse=True)
    return kept, index.ravel()


def _blocks(query: np.ndarray, document: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """(table, index, first row) of the kernels: one block when distinct columns are few, else BLOCK rows at a time."""
    columns, index = _distinct(query)
    if columns.shape[1] <= DISTINCT:
        yield _costs(np.ascontiguousarray(columns), document), index, 0
    else:
        yield from _dense_blocks(query, document)


def _dense_blocks(query: np.ndarray, document: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    for row in range(0, query.shape[1], BLOCK):
        table = _costs(np.ascontiguousarray(query[:, row : row + BLOCK]), document)
        yield table, np.arange(len(table)), row


def _last_row(blocks: Iterable, length: int, frames: int, steps: Steps, dtype: type) -> np.ndarray:
    """D[N - 1] (M,), not divided by N."""
    live, weights = np.full((3, AHEAD + frames), np.inf, dtype), steps.ordered_weights(dtype)
    advance = _advance_sloped if steps.sloped else _advance_unbounded
    for table, index, row in blocks:
        advance(table, index, row, weights, live)
    return live[(length - 1) % 3, AHEAD:]


def _traced(query: np.ndarray, document: np.ndarray, steps: Steps, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """D[N - 1] (M,) in float64 and where each of its paths starts (M,)."""
    length, frames = query.shape[1], document.shape[1]
    live, starts = np.full((3, AHEAD + frames), np.inf), np.full((3, AHEAD + frames), -1)
    advances, weights = np.array(steps.advances), np.array(steps.weights, np.float64)
    for table, index, row in _blocks(query, document):
        _advance_traced(table, index, row, weights, live, advances, starts, chosen)
    last = (length - 1) % 3
    return live[last, AHEAD:], starts[last, AHEAD:]


def _features(values, what: str) -> np.ndarray:
    """``values`` as an (F, frames) array, after a look for all that would give a wrong distance without a word."""
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise DuetError(f"{what} is not a matrix of numbers, features by frames, but {values.dtype} {values.shape}")
    if not values.size:
        raise DuetError(f"{what} is empty: its shape is {values.shape}")
    lengths = np.einsum("fm,fm->m", values, values, dtype=np.float64)
    if not np.isfinite(lengths).all():
        raise DuetError(f"{what} holds NaN or infinite features in {np.sum(~np.isfinite(lengths))} frames")
    if not lengths.any():
        raise DuetError(f"{what} is silent: all its features are zero")
    if lengths.max() > 1.01:
        raise DuetError(f"{what} has columns longer than 1", remedy="divide each by its Euclidean norm")
    return values


def _pair(query, document, steps: Steps, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Checked features of a pair that has a path."""
    query, document = _features(query, "the query"), _features(document, "the document")
    if len(query) != len(document):
        raise DuetError(f"the query has {len(query)} features a frame, the document {len(document)}")
    if not _has_path(query.shape[1], document.shape[1], steps):
        raise DuetError(
            f"the query, {query.shape[1]} frames, is too long for the document, {document.shape[1]} frames: "
            "the steps allow at most twice the tempo",
            remedy="shorten the query, or use the classic steps",
        )
    return np.ascontiguousarray(query, dtype), np.ascontiguousarray(document, dtype)


def _has_path(length: int, frames: int, steps: Steps) -> bool:
    return not steps.sloped or frames > length // 2


def matching_function(query, document, steps: Steps = PAPER, dtype: type = np.float64) -> np.ndarray:
    """Cost per query frame (M,) of the best match that ends at each frame of the document.

    ``query`` (F, N) and ``document`` (F, M) have columns of unit length.  It is D[N - 1] / N, float64, computed in
    ``dtype``; infinite at about the first N / 2 frames with the paper's steps, where no match can end.
    """
    query, document = _pair(query, document, steps, dtype)
    blocks = _blocks(query, document)
    length = query.shape[1]
    return _last_row(blocks, length, document.shape[1], steps, dtype).astype(np.float64) / length


def matches(query, document, steps: Steps = PAPER, count: int | None = None, threshold: float = np.inf) -> list[Match]:
    """Matches that share no frame of the document, best first; of equally good ones the earlier first.

    Each is the best one that does not overlap those before it, until there are ``count``, or the next would cost more
    than ``threshold`` per query frame, or none is left.
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
    """
    query, document = _pair(query, document, steps)
    if end is not None and not 0 <= end < document.shape[1]:
        raise DuetError(f"no frame {end} in a document of {document.shape[1]} frames")
    if end is not None:
        document = np.ascontiguousarray(document[:, : end + 1])
    row, starts = _traced(query, document, steps, np.empty((0, 0), np.int8))
    end = int(row.argmin()) if end is None else end
    start = int(starts[end])
    if start < 0:
        raise DuetError(f"no match can end at frame {end}, too early for a query of {query.shape[1]} frames")
    segment = np.ascontiguousarray(document[:, start : end + 1])
    chosen = np.empty((query.shape[1], segment.shape[1]), np.int8)
    _traced(query, segment, steps, chosen)
    n, m = query.shape[1] - 1, end - start
    path = [(n, end)]
    while n > 0:
        i, j = steps.advances[chosen[n, m]]
        n, m = n - i, m - j
        path.append((n, start + m))
    return np.array(path[::-1])


def search(
    queries: Sequence,
    documents: Sequence,
    steps: Steps = PAPER,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
    near: float = 1e-4,
) -> Found:
    """The smallest cost per query frame of each query (F, N) in each document (F, M).

    Where two documents are so close for a query that float32 could swap them (relative difference at most ``near``),
    both are computed again in float64.  A damaged document never ends a search: its distances are infinite, and
    ``skipped`` says why.  A damaged query does, since nothing could be ranked.  ``progress(1)`` is called after each
    document, by the calling thread.  Above the inputs, a thread holds at most POOL + 3 rows of a document.
    """
    queries = [_features(query, f"query {number}") for number, query in enumerate(queries)]
    if not queries:
        raise DuetError("there is no query")
    for number, query in enumerate(queries):
        if len(query) != len(queries[0]):
            raise DuetError(f"query {number} has {len(query)} features a frame, query 0 has {len(queries[0])}")
    columns, lookups = _pool(queries)
    lengths = np.array([query.shape[1] for query in queries])

    def distances(number: int, asked: Iterable[int], dtype: type) -> np.ndarray:
        document = np.ascontiguousarray(documents[number], dtype)
        frames, smallest, table = document.shape[1], np.full(len(queries), np.inf), None
        for q in asked:
            if not _has_path(lengths[q], frames, steps):
                continue
            if lookups[q] is None:
                blocks = _dense_blocks(queries[q].astype(dtype), document)
            else:
                table = _costs(np.ascontiguousarray(columns, dtype), document) if table is None else table
                blocks = [(table, lookups[q], 0)]
            smallest[q] = _last_row(blocks, lengths[q], frames, steps, dtype).min() / float(lengths[q])
        return smallest

    def first(number: int) -> np.ndarray | DuetError:
        try:
            document = _features(documents[number], "the document")
            if len(document) != len(queries[0]):
                raise DuetError(f"{len(document)} features a frame, the queries have {len(queries[0])}")
            return distances(number, range(len(queries)), np.float32)
        except DuetError as error:
            return error

    result, skipped = np.full((len(queries), len(documents)), np.inf), []
    with ThreadPoolExecutor(threads) as pool:
        for number, column in enumerate(pool.map(first, range(len(documents)))):
            if isinstance(column, DuetError):
                skipped.append((number, str(column)))
            else:
                result[:, number] = column
            if progress is not None:
                progress(1)
        close = _near_ties(result, near)
        again = np.flatnonzero(close.any(axis=0))
        for number, column in zip(
            again, pool.map(lambda n: distances(n, np.flatnonzero(close[:, n]), np.float64), again), strict=True
        ):
            result[close[:, number], number] = column[close[:, number]]
    return Found(result, skipped)


def _pool(queries: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """Distinct columns (F, K <= POOL) of all queries that have few, and for each query which of them its frames are;
    None for a dense query.
    """
    number_of: dict[bytes, int] = {}
    kept, lookups = [], []
    for query in queries:
        columns, index = _distinct(query.astype(np.float64))
        keys = [column.tobytes() for column in columns.T]
        new = [key not in number_of for key in keys]
        if len(keys) > DISTINCT or len(kept) + sum(new) > POOL:
            lookups.append(None)
            continue
        for key, column, is_new in zip(keys, columns.T, new, strict=True):
            if is_new:
                number_of[key] = len(kept)
                kept.append(column)
        lookups.append(np.array([number_of[key] for key in keys])[index])
    return np.array(kept).reshape(-1, len(queries[0])).T, lookups


def _near_ties(distances: np.ndarray, near: float) -> np.ndarray:
    """Which distances (Q, D) lie within ``near``, relatively, of the next smaller or larger one of their query."""
    order = np.argsort(distances, axis=1, kind="stable")
    ranked = np.take_along_axis(distances, order, axis=1)
    with np.errstate(invalid="ignore"):  # infinity minus infinity is no tie
        # a perfect match costs 0 up to rounding, where a relative difference says nothing
        close = np.diff(ranked, axis=1) <= near * np.maximum(ranked[:, 1:], 1e-2)
    close &= np.isfinite(ranked[:, 1:])
    tied = np.zeros(distances.shape, bool)
    tied[:, 1:] |= close
    tied[:, :-1] |= close
    result = np.zeros_like(tied)
    np.put_along_axis(result, order, tied, axis=1)
    return result
