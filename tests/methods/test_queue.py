"""The key queue holds the last K keys in order, and shuffle-BN groups images without mixing up their keys."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from methods.queue import KeyQueue, queue_length
from methods.shuffle_bn import in_groups, shuffled


def in_order(queue: KeyQueue) -> Tensor:
    """[K, D], the oldest key first."""
    return queue.keys.roll(-int(queue.pointer), dims=1).T


@given(length=st.integers(1, 12), batches=st.lists(st.integers(1, 30), max_size=8))
@settings(deadline=None)
def test_contents_are_the_last_k_keys_in_order(length: int, batches: list[int]) -> None:
    """Any K, any batches: short last ones, K no multiple of them, longer than K."""
    queue = KeyQueue(1, length)
    expected = deque(queue.keys.T.tolist(), maxlen=length)
    count = 0
    for batch in batches:
        keys = torch.arange(count, count + batch, dtype=torch.float32)[:, None]
        count += batch
        queue.enqueue(keys)
        expected.extend(keys.tolist())
        assert in_order(queue).tolist() == list(expected)


def test_starts_as_noise_of_unit_length() -> None:
    torch.manual_seed(0)
    queue = KeyQueue(16, 50)
    assert queue.keys.shape == (16, 50)
    assert torch.allclose(queue.keys.norm(dim=0), torch.ones(50))
    assert (queue.keys.T @ queue.keys - torch.eye(50)).abs().max() < 0.95


@pytest.mark.parametrize(("requested", "images", "expected"), [(64, 1000, 64), (65536, 5994, 2997), (64, 33, 16)])
def test_length_is_at_most_half_of_the_training_set(requested: int, images: int, expected: int) -> None:
    assert queue_length(requested, images) == expected


def test_too_few_images_for_a_queue_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 2 training images"):
        queue_length(64, 1)


def test_no_gradient_and_old_negatives_stay_valid_for_the_backward_pass() -> None:
    queue = KeyQueue(4, 6)
    query = torch.randn(3, 4, requires_grad=True)
    before = queue.keys.clone()
    product = (query @ queue.negatives()).pow(2).sum()
    queue.enqueue(query)
    assert not queue.keys.requires_grad
    product.backward()  # type: ignore[no-untyped-call]
    assert query.grad is not None
    assert torch.allclose(query.grad, 2 * query @ before @ before.T, atol=1e-5)


def test_state_holds_keys_and_pointer() -> None:
    queue, other = KeyQueue(2, 5), KeyQueue(2, 5)
    queue.enqueue(torch.randn(3, 2))
    other.load_state_dict(queue.state_dict())
    more = torch.randn(4, 2)
    for one in (queue, other):
        one.enqueue(more)
    assert torch.equal(queue.keys, other.keys)
    assert int(queue.pointer) == int(other.pointer) == 2


def test_groups_keep_the_order_of_the_keys() -> None:
    """With a normalisation that is the identity, shuffling and splitting must not show at all."""
    batch = torch.randn(13, 4)
    encode = nn.BatchNorm1d(4, eps=0.0).eval()
    for splits in (1, 2, 5):
        assert torch.equal(in_groups(encode, splits, batch), batch)
        assert torch.equal(shuffled(encode, splits, batch), batch)


def test_each_group_has_statistics_of_its_own() -> None:
    batch = torch.randn(12, 4, dtype=torch.float64)
    encode = nn.BatchNorm1d(4, affine=False).double()
    torch.manual_seed(5)
    got = shuffled(encode, 3, batch)
    torch.manual_seed(5)
    order = torch.randperm(12)
    assert order.tolist() != list(range(12))
    expected = torch.empty_like(batch)
    for group in (order[:4], order[4:8], order[8:]):
        rows = batch[group]
        expected[group] = (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt()
    assert torch.allclose(got, expected, atol=1e-12)
    assert not torch.allclose(got, in_groups(encode, 1, batch), atol=1e-2)
    plain = in_groups(encode, 3, batch)
    assert torch.allclose(plain[:4].mean(0), torch.zeros(4, dtype=torch.float64), atol=1e-12)


def test_several_tensors_are_shuffled_together() -> None:
    rows = torch.arange(10.0)[:, None]
    torch.manual_seed(0)
    assert torch.equal(shuffled(lambda a, b: a - 2 * b, 3, rows, rows), -rows)


def test_batch_too_small_for_the_groups_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        in_groups(nn.Identity(), 4, torch.randn(7, 2))
