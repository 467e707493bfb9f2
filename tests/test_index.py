"""The index against a full sort, and what happens to its file."""

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from duet import DuetError, index
from duet.index import Index


def unit(rng, count, dimensions=8):
    values = rng.standard_normal((count, dimensions)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def filled(vectors, labels=None):
    made = Index("m1", vectors.shape[1])
    made.add(vectors, range(len(vectors)) if labels is None else labels)
    return made


def sorted_whole(vectors, queries, k):
    """Cosines, each summed on its own, and places, by a stable sort of all of them."""
    cosines = (vectors[None].astype(float) * queries[:, None]).sum(2)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosines, order, 1), order


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(index, "BLOCK", 16)
    monkeypatch.setattr(index, "SCORES", 48)
    monkeypatch.setattr(index, "EXACT", 10)


# -- search ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5, 40, 101])
def test_the_nearest_are_those_of_a_full_sort(small_blocks, k):
    rng = np.random.default_rng(k)
    vectors, queries = unit(rng, 101), unit(rng, 7)
    scores, places = filled(vectors).search(queries, k)
    expected = sorted_whole(vectors, queries, k)
    assert (places == expected[1]).all() and scores == pytest.approx(expected[0], abs=1e-12)


def test_the_nearest_of_many_are_those_of_a_full_sort():
    rng = np.random.default_rng(0)
    vectors = unit(rng, 20_000, 64)
    queries = vectors[:300] + 0.05 * unit(rng, 300, 64)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    scores, places = filled(vectors).search(queries, 25)
    cosines = queries.astype(float) @ vectors.T.astype(float)
    assert (places == np.argsort(-cosines, axis=1)[:, :25]).all()
    assert scores == pytest.approx(np.take_along_axis(cosines, places, 1), abs=1e-12)


def test_equal_vectors_come_in_the_order_of_their_insertion(small_blocks):
    rng = np.random.default_rng(1)
    few = unit(rng, 3)
    vectors = few[rng.integers(0, 3, 200)]
    for k in (1, 30, 200):
        assert (filled(vectors).search(few, k)[1] == sorted_whole(vectors, few, k)[1]).all()
    same = filled(np.repeat(few[:1], 100, axis=0))
    assert (same.search(few, 20)[1] == np.arange(20)).all()


def test_what_float32_cannot_tell_apart_is_ranked_exactly(small_blocks):
    query = np.zeros((1, 64), np.float32)
    query[0, :2] = 0.6, 0.8
    rng = np.random.default_rng(2)
    vectors = np.repeat(query, 300, axis=0)
    vectors[:, 2:] = 1e-3 * rng.standard_normal((300, 62))  # these do not count
    vectors[:, 0] += rng.integers(-4, 5, 300) * np.float32(2**-24)
    assert len(np.unique(query @ vectors.T)) < 10  # out of order in float32
    assert (filled(vectors).search(query, 50)[1] == sorted_whole(vectors, query, 50)[1]).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 30), max_size=6), st.integers(1, 40))
def test_adding_piece_by_piece_is_adding_at_once(seed, sizes, k):
    rng = np.random.default_rng(seed)
    vectors = unit(rng, 12)[rng.integers(0, 12, sum(sizes))]
    grown = Index("m1", 8)
    for part in np.split(np.arange(len(vectors)), np.cumsum(sizes)[:-1]) if sizes else []:
        grown.add(vectors[part], part.tolist())
    whole, queries = filled(vectors), unit(rng, 3)
    assert grown.labels == whole.labels and (grown.vectors == whole.vectors).all() and len(grown) == sum(sizes)
    for one, two in zip(grown.search(queries, k), whole.search(queries, k), strict=True):
        assert one.shape == (3, min(k, sum(sizes))) and (one == two).all()
    assert (whole.search(queries, k)[1] == sorted_whole(vectors, queries, k)[1]).all()


def test_neither_blocks_nor_other_queries_change_a_result(monkeypatch):
    rng = np.random.default_rng(3)
    made, queries = filled(unit(rng, 5000, 64)), unit(rng, 40, 64)
    scores, places = made.search(queries, 10)
    for block in (64, 777):
        monkeypatch.setattr(index, "BLOCK", block)
        monkeypatch.setattr(index, "SCORES", 3 * block)
        assert all((one == two).all() for one, two in zip(made.search(queries, 10), (scores, places), strict=True))
    alone = made.search(queries[5:6], 10)
    assert (alone[0] == scores[5:6]).all() and (alone[1] == places[5:6]).all()


def test_an_empty_index_finds_nothing():
    scores, places = Index("m1", 8).search(unit(np.random.default_rng(0), 2), 3)
    assert scores.shape == places.shape == (2, 0)
    assert filled(unit(np.random.default_rng(0), 2)).search(np.empty((0, 8), np.float32), 1)[0].shape == (0, 1)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "said"), [(np.nan, "nan"), (np.inf, "inf"), (2.0, "2"), (0.999, "0.999")])
def test_vectors_that_are_not_of_unit_length_are_refused(value, said):
    vectors = unit(np.random.default_rng(0), 4)
    made = filled(vectors)
    vectors[2] = np.eye(8, dtype=np.float32)[0] * value if np.isfinite(value) else value
    for act in (lambda: made.add(vectors, range(4)), lambda: made.search(vectors, 1)):
        with pytest.raises(DuetError, match=f"1 of 4 vectors are not of unit length, number 2 has {said} "):
            act()
    assert len(made) == 4


@pytest.mark.parametrize("shape", [(3, 7), (8,), (1, 3, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(DuetError, match=r"where the index has 8 dimensions \(use the model"):
        Index("m1", 8).add(np.ones(shape), range(shape[0]))


def test_labels_that_cannot_be_kept_are_refused():
    made, vectors = Index("m1", 8), unit(np.random.default_rng(0), 2)
    for labels, said in (([1], "2 vectors came with 1 labels"), ([1, {2}], "set is not JSON"), ([1, np.nan], "JSON")):
        with pytest.raises(DuetError, match=said):
            made.add(vectors, labels)
    assert len(made) == 0 and made.vectors.shape == (0, 8)
    with pytest.raises(DuetError, match="the 0 nearest"):
        made.search(vectors, 0)


# -- the file ----------------------------------------------------------------------------------------------------------

LABELS = [("Bach__BWV_772", 0), ("Händel", 1), "Mozart", 7]


def test_what_is_saved_is_what_is_loaded(tmp_path):
    made, path = filled(unit(np.random.default_rng(0), 4), LABELS), tmp_path / "sheets.safetensors"
    made.save(path)
    found = Index.load(path, "m1")
    assert found.labels == [["Bach__BWV_772", 0], ["Händel", 1], "Mozart", 7] == made.labels
    assert (found.vectors == made.vectors).all() and (found.model, found.dimensions) == ("m1", 8)
    first = path.read_bytes()
    found.save(path)
    assert path.read_bytes() == first
    more = unit(np.random.default_rng(1), 3)
    found.add(more, "abc")
    assert len(found) == 7 and (found.search(more, 1)[1][:, 0] == [4, 5, 6]).all()
    Index("m2", 16).save(path)
    assert Index.load(path, "m2").vectors.shape == (0, 16)


def test_the_index_of_another_model_is_refused(tmp_path):
    path = tmp_path / "sheets.safetensors"
    filled(unit(np.random.default_rng(0), 4)).save(path)
    with pytest.raises(DuetError, match=r"sheets.safetensors: is the index of model m1, not of m2 \(delete it"):
        Index.load(path, "m2")


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "sheets.safetensors"
    filled(unit(np.random.default_rng(0), 4), LABELS).save(path)
    whole = path.read_bytes()
    damaged = [whole[:size] for size in (0, 4, 100, len(whole) - 1)] + [whole + b"x", b"\0" * len(whole), b"[]" * 50]
    changes = [(b"F32", b"I32"), (b"[4,8]", b"[8,4]"), (b'"count\\', b'"cou_t\\'), (b"Mozart", b"Mozarx")]
    changes += [(b'"index"', b'"indix"'), (b'"labels"', b'"lapels"'), (b"digest", b"dijest")]
    damaged += [whole.replace(*change) for change in changes]
    assert len({*damaged, whole}) == len(damaged) + 1
    for content in [*damaged, *(whole[:k] + bytes([whole[k] ^ 1]) + whole[k + 1 :] for k in range(0, len(whole), 7))]:
        path.write_bytes(content)
        with pytest.raises(DuetError, match=r"sheets.safetensors: .*(damaged|not a readable index|of model)") as error:
            Index.load(path, "m1")
        assert "\n" not in str(error.value) and "delete it" in str(error.value)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(DuetError, match="no such index|not a readable index"):
            Index.load(missing, "m1")


@pytest.mark.parametrize("about", ["[]", "null", '{"digest": 1}', '{"model": "m1", "digest": ""}'])
def test_other_safetensors_files_are_refused(tmp_path, about):
    path = tmp_path / "weights.safetensors"
    tensors = {"vectors": np.ones((1, 1), np.float32), "labels": np.zeros(1, np.uint8)}
    for metadata in (None, {"index": about}):
        save_file(tensors, path, metadata)
        with pytest.raises(DuetError, match="weights.safetensors: "):
            Index.load(path, "m1")


@pytest.mark.parametrize("step", ["write_bytes", "fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch, step):
    rng, path = np.random.default_rng(0), tmp_path / "sheets.safetensors"
    filled(unit(rng, 4), LABELS).save(path)

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(path) if step == "write_bytes" else os, step, killed)
        with pytest.raises(KeyboardInterrupt):
            filled(unit(rng, 9)).save(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name] and len(Index.load(path, "m1")) == 4


def test_the_file_is_what_its_docstring_says(tmp_path):
    path = tmp_path / "sheets.safetensors"
    filled(unit(np.random.default_rng(0), 4), LABELS).save(path)
    tensors = load_file(path)
    assert tensors["vectors"].shape == (4, 8) and json.loads(tensors["labels"].tobytes())[2] == "Mozart"
