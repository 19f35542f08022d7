"""Batches: what each process gets, exact resumption, joining of samples, and annotated subsets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from guidance.data import (
    EvaluationBatches,
    GuidanceDataset,
    Loader,
    RegionOptions,
    Sample,
    TrainBatches,
    collate,
    eval_transform,
    train_transform,
)
from guidance.data.splits import annotated_subset, set_apart
from guidance.types import Batch
from tests.support.data.pictures import make_source, write_broken

Keys = list[tuple[int, int]]


def sample(classes: list[int], *, index: int = 0, segments: bool = False, skipped: int = 0, dropped: int = 0) -> Sample:
    masks = torch.stack([torch.eye(2, 3) > 0 if k else torch.ones(2, 3) > 0 for k in classes] or [torch.ones(2, 3) > 0])
    masks = masks[: len(classes)]
    targets = torch.zeros(4)
    targets[classes] = 1
    image = torch.full((3, 2, 3), float(index))
    found = ~masks if segments else None
    return Sample(image, targets, torch.tensor(classes, dtype=torch.long), masks, found, -1, index, skipped, dropped)


def flat(value: object) -> list[object]:
    """The leaves of a batch, tensors as nested lists."""
    if isinstance(value, Tensor):
        return [value.tolist()]
    return [leaf for part in value for leaf in flat(part)] if isinstance(value, tuple) else [value]


def test_collate_joins_regions_in_order() -> None:
    batch = collate([sample([1, 3], index=7, dropped=1), sample([], index=8, skipped=2), sample([0], index=5)])
    assert batch.images[:, 0, 0, 0].tolist() == [7, 8, 5]
    assert batch.targets.tolist() == [[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert batch.regions.image.tolist() == [0, 0, 2]
    assert batch.regions.target.tolist() == [1, 3, 0]
    assert batch.regions.mask.sum((1, 2)).tolist() == [2, 2, 6]
    assert batch.regions.segment is None
    assert (batch.regions.rounds, batch.skipped, batch.dropped) == (2, 2, 1)
    assert (batch.groups.tolist(), batch.index.tolist()) == ([-1, -1, -1], [7, 8, 5])
    assert (batch.images.dtype, batch.regions.mask.dtype) == (torch.float32, torch.bool)
    assert {t.dtype for t in (batch.groups, batch.index, batch.regions.image, batch.regions.target)} == {torch.int64}


def test_collate_without_any_region() -> None:
    batch = collate([sample([], segments=True), sample([], segments=True)])
    assert batch.regions.mask.shape == (0, 2, 3)
    assert batch.regions.segment is not None
    assert batch.regions.segment.shape == (0, 2, 3)
    assert batch.regions.rounds == 0


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 4), st.sampled_from([1, 2, 3]), st.sampled_from([1, 2]), st.integers(0, 3))
def test_processes_share_each_global_batch(size: int, local: int, world: int, chunks: int, start: int) -> None:
    batch_size = local * world * chunks
    if batch_size > size:
        return
    whole = TrainBatches(size, batch_size, seed=5)
    ranks = [TrainBatches(size, batch_size, seed=5, rank=r, world_size=world, chunks=chunks) for r in range(world)]
    for batches in (whole, *ranks):
        batches.seek(epoch=2, start=start)
    expected = list(whole)
    assert len(expected) == len(whole) == max(size // batch_size - start, 0)
    for batch, *parts in zip(expected, *ranks, strict=True):
        for chunk in range(chunks):  # chunk c of all processes, in order of rank, is chunk c of the global batch
            joined = [key for part in parts for key in part[chunk * local : (chunk + 1) * local]]
            assert joined == batch[chunk * local * world : (chunk + 1) * local * world]


def test_an_epoch_holds_each_sample_at_most_once_in_a_new_order() -> None:
    batches = TrainBatches(20, 6, seed=1)
    orders = []
    for epoch in range(3):
        batches.seek(epoch=epoch)
        keys = [key for batch in batches for key in batch]
        assert {e for e, _ in keys} == {epoch}
        indices = [index for _, index in keys]
        assert len(indices) == len(set(indices)) == 18
        assert set(indices) <= set(range(20))
        orders.append(indices)
    assert orders[0] != orders[1] != orders[2]
    assert [i for batch in TrainBatches(20, 6, seed=1) for _, i in batch] == orders[0]
    assert [i for batch in TrainBatches(20, 6, seed=2) for _, i in batch] != orders[0]


def test_start_resumes_within_an_epoch() -> None:
    batches = TrainBatches(20, 4)
    whole = list(batches)
    batches.seek(epoch=0, start=3)
    assert list(batches) == whole[3:]
    assert (len(batches), batches.batches_per_epoch) == (2, 5)
    batches.seek(epoch=0, start=5)
    assert list(batches) == []


@pytest.mark.parametrize(
    ("size", "batch_size", "world", "message"),
    [(10, 11, 1, "11, but the training split has 10"), (10, 4, 3, "got 4 for 3 processes"), (10, 0, 1, "got 0")],
)
def test_impossible_batch_sizes_are_errors(size: int, batch_size: int, world: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainBatches(size, batch_size, world_size=world)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 12), st.sampled_from([1, 2, 3]))
def test_evaluation_batches_are_the_same_for_any_number_of_processes(size: int, batch_size: int, world: int) -> None:
    whole = list(EvaluationBatches(size, batch_size))
    assert [key for batch in whole for key in batch] == [(0, i) for i in range(size)]
    assert all(len(batch) == batch_size for batch in whole[:-1])
    dealt: dict[int, Keys] = {}
    for rank in range(world):
        batches = EvaluationBatches(size, batch_size, rank=rank, world_size=world)
        assert len(batches) == len(list(batches))
        dealt |= {rank + world * turn: batch for turn, batch in enumerate(batches)}
    assert [dealt[j] for j in range(len(whole))] == whole


def test_evaluation_batch_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1; got 0"):
        EvaluationBatches(10, 0)


def load(folder: Path, num_workers: int, epochs: int = 2) -> list[Batch]:
    pairs = [[(k % 4, (0.0, 0.0, 10.0, 20.0)), ((k + 1) % 4, (5.0, 0.0, 30.0, 20.0))] for k in range(10)]
    source = make_source(folder, pairs)
    write_broken(source.records[4].path)
    data = GuidanceDataset(
        source,
        train_transform(12, "crop_flip"),
        training=True,
        regions=RegionOptions(classes_per_image="one", load_segments=True),
        on_error="skip",
    )
    loader = Loader(data, TrainBatches(len(data), 4, seed=3), num_workers=num_workers)
    loaded = []
    for epoch in range(epochs):
        loader.seek(epoch=epoch)
        loaded += list(loader)
    return loaded


def test_workers_change_nothing(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    alone, shared = load(tmp_path, 0), load(tmp_path, 2)
    assert torch.equal(before, torch.get_rng_state())
    assert len(alone) == len(shared) == 4
    for one, other in zip(alone, shared, strict=True):
        assert flat(one.to("cpu")) == flat(other.to("cpu"))
        assert one.images.shape == (4, 3, 12, 12)
    assert sum(batch.skipped for batch in alone) >= 1


@pytest.mark.long  # with a cache as well: tests/unit/data/cache/test_cached_segments.py
def test_workers_may_be_spawned(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, (0.0, 0.0, 10.0, 20.0))]] * 2)
    data = GuidanceDataset(source, eval_transform(8), training=False, regions=RegionOptions(load_segments=True))
    loader = Loader(data, EvaluationBatches(2, 2), num_workers=1)
    loader.data_loader.multiprocessing_context = "spawn"
    (batch,) = list(loader)
    assert flat(batch.to("cpu")) == flat(collate([data[0, 0], data[0, 1]]))


def test_an_error_in_a_worker_names_the_image(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, (0.0, 0.0, 10.0, 20.0))]])
    write_broken(source.records[0].path)
    loader = Loader(GuidanceDataset(source, eval_transform(8), training=False), EvaluationBatches(1, 1), num_workers=1)
    with pytest.raises(ValueError, match=r"^[^\n]*0\.png cannot be read"):  # without the traceback of the worker
        list(loader)


def test_annotated_subsets_are_nested_and_of_the_published_size() -> None:
    sizes = {0.0: 0, 0.0001: 1, 0.01: 9, 0.1: 96, 0.29: 278, 0.5: 480, 1.0: 960}
    chosen = {fraction: annotated_subset(960, fraction, seed=0) for fraction in sizes}
    assert {fraction: len(indices) for fraction, indices in chosen.items()} == sizes
    assert len(annotated_subset(100, 0.29, seed=0)) == 29  # 0.29 * 100 is a little below 29 in floating point
    for smaller, larger in zip(list(chosen.values()), list(chosen.values())[1:], strict=False):
        assert set(smaller) <= set(larger)
    for indices in chosen.values():
        assert indices == sorted(set(indices))
    assert chosen[1.0] == list(range(960))
    assert chosen[0.1] == annotated_subset(960, 0.1, seed=0)
    assert chosen[0.1] != annotated_subset(960, 0.1, seed=1)


def test_annotated_subsets_of_candidates() -> None:
    candidates = [3, 8, 10, 40, 41, 77]
    half = annotated_subset(candidates, 0.5, seed=0)
    assert len(half) == 3
    assert set(half) <= set(candidates)
    assert annotated_subset(candidates, 1.0, seed=0) == candidates
    assert annotated_subset([], 0.5, seed=0) == []


def test_annotated_subsets_as_a_share_of_more_than_the_candidates() -> None:
    """9 % of VOC's 2,501 training images are 225, of which 209 have a segmentation; 1 % are the paper's 25."""
    candidates = list(range(0, 2501, 12))[:209]
    assert annotated_subset(candidates, 0.09, seed=0, of=2501) == candidates
    assert len(annotated_subset(candidates, 0.08, seed=0, of=2501)) == 200
    assert len(annotated_subset(candidates, 0.09, seed=0)) == 18
    assert len(annotated_subset(2501, 0.01, seed=0)) == 25
    nested = [set(annotated_subset(candidates, f, seed=3, of=2501)) for f in (0.01, 0.05, 0.08)]
    assert nested[0] < nested[1] < nested[2]
    assert annotated_subset([], 0.5, seed=0, of=10) == []


def test_names_that_are_set_apart() -> None:
    names = [f"class{i % 3}/{i}.jpg" for i in range(40)]
    found = set_apart(names, 0.2, "a purpose")
    assert len(found) == 8
    turned = set_apart(names[::-1], 0.2, "a purpose")
    assert {names[::-1][i] for i in turned} == {names[i] for i in found}  # by name, not by place
    assert found < set_apart(names, 0.5, "a purpose")
    assert found != set_apart(names, 0.2, "another")
    assert set_apart(names, 0.0, "a purpose") == frozenset()
    assert (
        len(set_apart(names[:3], 0.01, "a")),
        len(set_apart(names[:3], 0.99, "a")),
        len(set_apart("a", 0.5, "a")),
    ) == (1, 2, 0)
    for fraction in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="at least 0 and below 1"):
            set_apart(names, fraction, "a purpose")


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_impossible_fractions_are_errors(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        annotated_subset(10, fraction, seed=0)
