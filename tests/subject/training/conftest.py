"""A small policy that trains as exactly as stock does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lerobot.policies.act.modeling_act import ACTPolicy

from ..compiled_policies import as_compiled

Make = Callable[..., Any]
Batch = dict[str, Any]


@pytest.fixture(scope="session")
def quiet_policy(camera_free_policy: Any) -> Any:
    """``camera_free_policy`` without dropout, in float64."""
    config = copy.deepcopy(camera_free_policy.config)
    config.dropout = 0.0
    policy = ACTPolicy(config).eval()
    policy.load_state_dict(camera_free_policy.state_dict())
    return policy.double()


def with_latent_in(policy: Any) -> Any:
    """Stock makes the latent of eval mode in float32, whatever the weights are."""

    def cast(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0].to(module.weight.dtype),)

    policy.model.encoder_latent_input_proj.register_forward_pre_hook(cast)
    return policy


def both(stock: Any, mode: str) -> tuple[Any, Any]:
    """A copy of ``stock``, and the same as the policy type act_compiled."""
    return with_latent_in(copy.deepcopy(stock)), with_latent_in(as_compiled(stock, mode))


def make_batches(tiny_batch: Make, *sizes: int, dtype: torch.dtype = torch.float64) -> list[Batch]:
    batches = [tiny_batch(size, seed=seed, dtype=dtype) for seed, size in enumerate(sizes)]
    for batch in batches:
        batch["observation.environment_state"] = batch["observation.state"].flip(0)
    return batches


def assert_same_weights(ours: Any, stock: Any) -> None:
    theirs = dict(stock.named_parameters())
    assert [name for name, _ in ours.named_parameters()] == list(theirs)
    for name, parameter in ours.named_parameters():
        assert parameter.requires_grad == theirs[name].requires_grad, name
        assert (parameter - theirs[name]).norm() <= 1e-9 * theirs[name].norm() + 1e-12, name


def optimizer_of(policy: Any) -> Any:
    return policy.config.get_optimizer_preset().build(policy.get_optim_params())


def step(policy: Any, optimizer: Any, *batches: Batch, seed: int = 0) -> tuple[Any, Any]:
    """One update, its gradient accumulated over ``batches``; loss and parts of the last one."""
    policy.train()
    for number, batch in enumerate(batches):
        torch.manual_seed(100 * seed + number)
        loss, parts = policy.forward(batch)
        (loss / len(batches)).backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss, parts
