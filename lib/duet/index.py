"""Nearest neighbours by cosine among unit vectors: exact, with memory that does not grow with the index.

A product in float32, block by block, finds every vector that can be among the nearest; these few are then ranked by
inner products in float64, each summed in the same order.  Equal vectors therefore have equal scores wherever they lie,
and neither the size of a block, nor what else is asked for, nor the number of threads changes a result.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from . import files
from .errors import DuetError

BLOCK = 8192  # vectors at a time
SCORES = 256 * BLOCK  # held at a time, 8 MB
EXACT = 1 << 14  # pairs at a time in float64: 16 MB at 64 dimensions
UNIT = 1e-4  # how far from 1 a length may be

_AGAIN = "delete it and make the index again"


class OtherModel(DuetError):
    """A whole index, but of another model."""


class Index:
    """Unit vectors (n, d) in the order in which they were added, each with a label.

    ``model`` names what made the vectors, down to its weights: an index serves that model alone.
    """

    def __init__(self, model: str, dimensions: int):
        self.model, self.dimensions = model, dimensions
        #: One a vector, as JSON gives them back: a tuple has become a list.
        self.labels: list[Any] = []
        self._room = np.empty((0, dimensions), np.float32)  # for more than there are, so that adding stays cheap

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def vectors(self) -> np.ndarray:
        """(n, d) float32."""
        return self._room[: len(self)]

    def add(self, vectors: np.ndarray, labels: Sequence[Any]) -> None:
        """Append vectors (m, d) with whatever identifies each one, a label twice if need be.

        Raises DuetError for vectors of other dimensions or that are not of unit length, NaN included, and for labels
        that are too few, too many or nothing that JSON can hold.  The index is then as it was.
        """
        vectors = self._checked(vectors)
        try:
            labels = json.loads(json.dumps(list(labels), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise DuetError(f"a label cannot be kept: {error}", remedy="use text, numbers, or lists of them") from None
        if len(labels) != len(vectors):
            raise DuetError(f"{len(vectors)} vectors came with {len(labels)} labels", remedy="give each one its own")
        count, needed = len(self), len(self) + len(vectors)
        if needed > len(self._room):
            room = np.empty((max(needed, len(self._room) * 3 // 2), self.dimensions), np.float32)
            room[:count] = self.vectors
            self._room = room
        self._room[count:needed] = vectors
        self.labels += labels

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` vectors nearest to each query (q, d), best first; all of them where there are fewer.

        Two arrays (q, min(k, n)): cosines, float64, and places in the index, int64 (``labels[place]`` is the label).
        Of equally near vectors the one added first comes first.  Raises DuetError for queries that :meth:`add` would
        refuse, and for ``k`` below 1.
        """
        if k < 1:
            raise DuetError(f"the {k} nearest were asked for", remedy="ask for 1 or more")
        queries = self._checked(queries)
        k = min(k, len(self))
        scores, places = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
        if k:
            rows = max(BLOCK, k)
            at_once = max(1, SCORES // rows)
            for first in range(0, len(queries), at_once):
                part = slice(first, first + at_once)
                scores[part], places[part] = self._nearest(queries[part], k, rows)
        return scores, places

    def _nearest(self, queries: np.ndarray, k: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        # a float32 sum of d products, in any order, is off by less than d * 2**-24 for unit vectors
        margin = self.dimensions * 2.0**-23
        own = np.arange(len(queries))[:, None]
        # written over block by block: a new array of this size costs a quarter of the product
        room = np.empty((len(queries), min(rows, len(self))), np.float32)
        best = places = None
        for first in range(0, len(self), rows):
            block = self.vectors[first : first + rows]
            rough = np.matmul(queries, block.T, out=room[:, : len(block)])
            if best is None:
                # of the best of each of many groups the k-th is no better than the k-th of all, and sooner found
                groups = 8 * k if len(block) >= 16 * k else len(block)
                deep = len(block) // groups
                heads = rough[:, : groups * deep].reshape(len(queries), deep, groups).max(1)
                floor = np.partition(heads, -k, axis=1)[:, -k] - 2 * margin
            else:
                floor = best[:, -1] - margin
            hits = np.flatnonzero(rough >= floor.astype(np.float32)[:, None])
            if not len(hits):
                continue
            asked, found = np.divmod(hits, rough.shape[1])
            found += first
            exact = self._exact(queries, asked, found)
            if best is not None:
                better = exact > best[asked, -1]  # a later one loses a tie
                asked = np.concatenate([own.repeat(k), asked[better]])
                exact = np.concatenate([best.ravel(), exact[better]])
                found = np.concatenate([places.ravel(), found[better]])
            order = np.lexsort((found, -exact, asked))
            starts = np.searchsorted(asked[order], own)
            chosen = order[starts + np.arange(k)]
            best, places = exact[chosen], found[chosen]
        return best, places

    def _exact(self, queries: np.ndarray, asked: np.ndarray, found: np.ndarray) -> np.ndarray:
        """(pairs,) float64.  Not a matrix product: its order of summation depends on where in it a vector lies."""
        scores = np.empty(len(asked))
        for first in range(0, len(asked), EXACT):
            part = slice(first, first + EXACT)
            products = self.vectors[found[part]].astype(np.float64)
            products *= queries[asked[part]]
            scores[part] = products.sum(1)
        return scores

    def _checked(self, vectors: np.ndarray) -> np.ndarray:
        vectors = np.ascontiguousarray(vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimensions:
            raise DuetError(
                f"vectors of shape {vectors.shape}, where the index has {self.dimensions} dimensions",
                remedy="use the model that the index was made with",
            )
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
        wrong = np.flatnonzero(~(np.abs(lengths - 1) <= UNIT))  # written so that NaN is wrong too
        if len(wrong):
            raise DuetError(
                f"{len(wrong)} of {len(vectors)} vectors are not of unit length, number {wrong[0]} has "
                f"{lengths[wrong[0]]:.4g}",
                remedy="check the recording or page they come from, and divide each by its length",
            )
        return vectors

    def save(self, path: str | Path) -> None:
        """One safetensors file: ``vectors``, and ``labels`` as the bytes of their JSON, since a header has room for
        about a million.  The header's ``index`` says model, dimensions, count, and a digest of it all.

        A process killed meanwhile leaves the file that was there before.  Raises DuetError where it cannot be written.
        """
        labels = json.dumps(self.labels).encode()
        about = {"model": self.model, "dimensions": self.dimensions, "count": len(self)}
        header = json.dumps({**about, "digest": _digest(about, labels, self.vectors)}, sort_keys=True)
        tensors = {"vectors": self.vectors, "labels": np.frombuffer(labels, np.uint8)}
        files.write_bytes(path, save(tensors, {"index": header}))

    @classmethod
    def load(cls, path: str | Path, model: str) -> Index:
        """Raises DuetError for a missing or damaged file, and OtherModel for the index of another model."""
        try:
            with safe_open(path, framework="np") as handle:
                about = json.loads(handle.metadata()["index"])
                vectors, labels = handle.get_tensor("vectors"), handle.get_tensor("labels").tobytes()
                digest = about.pop("digest")
        except FileNotFoundError:
            raise DuetError("no such index", path=path, remedy="make it first") from None
        except (SafetensorError, OSError, TypeError, KeyError, AttributeError, ValueError) as error:
            raise DuetError(f"is not a readable index: {error}", path=path, remedy=_AGAIN) from None
        if about.get("model") != model:
            raise OtherModel(f"is the index of model {about.get('model')}, not of {model}", path=path, remedy=_AGAIN)
        whole = vectors.dtype == np.float32 and vectors.shape == (about.get("count"), about.get("dimensions"))
        if not whole or digest != _digest(about, labels, vectors):
            raise DuetError("is damaged: its content is not what was saved", path=path, remedy=_AGAIN)
        index = cls(model, vectors.shape[1])
        index.labels, index._room = json.loads(labels), vectors
        return index


def _digest(about: dict, labels: bytes, vectors: np.ndarray) -> str:
    return files.digest(json.dumps(about, sort_keys=True), labels, vectors.tobytes())
