"""Gradients that stay over a second backward pass, where a CUDA graph writes every step's to one memory."""

from __future__ import annotations

import torch

from lerobot_policy_act_compiled.gradients import keep_gradients


def replayed(module: torch.nn.Linear, memory: torch.Tensor, gradient: float) -> None:
    """What a CUDA graph's backward pass does: its gradient lies in the graph's own memory."""
    memory.fill_(gradient)
    if module.weight.grad is None:
        module.weight.grad = memory
    else:
        module.weight.grad += memory


def test_gradients_add_up_over_replays() -> None:
    module, memory = torch.nn.Linear(2, 2, bias=False), torch.zeros(2, 2)
    for _ in range(2):  # of the optimizer
        for gradient in (1.0, 2.0, 3.0):
            keep_gradients(module)
            replayed(module, memory, gradient)
        assert module.weight.grad is not None
        assert torch.equal(module.weight.grad, torch.full((2, 2), 6.0))
        module.weight.grad = None


def test_they_are_copied_once_and_not_at_every_pass() -> None:
    module = torch.nn.Linear(2, 2)
    module.weight.grad = graphs = torch.ones(2, 2)
    keep_gradients(module)
    kept = module.weight.grad
    assert kept is not graphs
    keep_gradients(module)
    assert module.weight.grad is kept
    assert module.bias.grad is None


def test_views_stay_what_they_are() -> None:
    """DistributedDataParallel's gradients are views of its buckets, and it raises when they are not."""
    module, bucket = torch.nn.Linear(2, 2), torch.ones(8)
    module.weight.grad = view = bucket[:4].view(2, 2)
    keep_gradients(module)
    assert module.weight.grad is view
