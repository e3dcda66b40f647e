"""The ways in which a user's code writes to a policy's weights, each as a function of the policy.

Each does the same to every policy that it is given; what is drawn is seeded.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import torch

Batch = dict[str, Any]
Write = Callable[[Any, Batch], Any]  # returns the policy to go on with where that is another one


def noise(like: torch.Tensor, scale: float = 0.1) -> torch.Tensor:
    return scale * torch.randn(like.shape, generator=torch.Generator().manual_seed(1)).to(like)


def train(policy: Any, batch: Batch, optimizer: torch.optim.Optimizer) -> None:
    """One step of the optimizer, in eager mode, where the same seed draws the same dropout."""
    torch.manual_seed(0)
    policy.train()
    policy.model(batch)[0].square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    policy.eval()


def optimizer_step(kind: str, how: str | None) -> Write:
    """A step of ``kind``, plain, ``foreach`` or ``fused``; AdamW is what LeRobot's preset of ACT builds."""
    options: dict[str, Any] = {} if how is None else {how: True}

    def write(policy: Any, batch: Batch) -> None:
        train(policy, batch, getattr(torch.optim, kind)(policy.parameters(), lr=1e-2, **options))

    return write


def preset_step(policy: Any, batch: Batch) -> None:
    """As lerobot-train builds its optimizer; in mode auto that is torch's fused one."""
    train(policy, batch, policy.config.get_optimizer_preset().build(policy.get_optim_params()))


def compiled_training_step(policy: Any, batch: Batch) -> None:
    """As lerobot-train: the loss is the policy's own, compiled in its mode."""
    policy.train()
    policy.forward(batch)[0].backward()
    optimizer = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    optimizer.step()
    optimizer.zero_grad()
    policy.eval()


def load_state_dict(*, assign: bool, times: int = 1) -> Write:
    def write(policy: Any, _: Batch) -> None:
        for _time in range(times):
            state = {name: value + noise(value) for name, value in policy.state_dict().items()}
            policy.load_state_dict(state, assign=assign)

    return write


def foreach_lerp(policy: Any, _: Batch) -> None:
    """An average of the weights, kept in place: diffusion-style EMA."""
    parameters = [p.detach() for p in policy.parameters()]
    torch._foreach_lerp_(parameters, [p + noise(p) for p in parameters], 0.5)


def averaged_model(policy: Any, batch: Batch) -> Any:
    """torch's own EMA: a deep copy, brought up to date twice, is what acts."""
    averaged = torch.optim.swa_utils.AveragedModel(
        policy, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
    )
    averaged.update_parameters(policy)
    averaged.module.predict_action_chunk(batch)  # compiled with the weights of the first update
    under_no_grad(policy, batch)
    averaged.update_parameters(policy)
    return averaged.module


def swapped_for_a_while(policy: Any, batch: Batch) -> None:
    """Averaged weights put in for an evaluation, and the policy's own back, through ``.data``."""
    own = [p.data.clone() for p in policy.parameters()]
    for p in policy.parameters():
        p.data.copy_(p.data + noise(p))
    policy.predict_action_chunk(batch)
    for p, value in zip(policy.parameters(), own, strict=True):
        p.data.copy_(value)


def memory_replaced(policy: Any, _: Batch) -> None:
    for p in policy.parameters():
        p.data = p.data + noise(p)


def there_and_back(dtype: torch.dtype) -> Write:
    def write(policy: Any, _: Batch) -> None:
        policy.to(dtype).to(torch.float32)

    return write


def under_no_grad(policy: Any, _: Batch) -> None:
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(noise(p))


def in_inference_mode(policy: Any, _: Batch) -> None:
    with torch.inference_mode():
        for p in policy.parameters():
            p.add_(noise(p))


def through_data(policy: Any, _: Batch) -> None:
    for p in policy.parameters():
        p.data.add_(noise(p))


def one_element_of_a_bias_through_data(policy: Any, _: Batch) -> None:
    policy.model.action_head.bias.data[1] += 0.25


def through_numpy(policy: Any, _: Batch) -> None:
    policy.model.action_head.weight.detach().numpy()[:] *= 1.25


def another_parameter(policy: Any, _: Batch) -> None:
    policy.model.action_head.bias = torch.nn.Parameter(policy.model.action_head.bias.detach() + 2.0)


def another_module(policy: Any, _: Batch) -> None:
    head = copy.deepcopy(policy.model.action_head)
    with torch.no_grad():
        head.weight.mul_(1.5)
    policy.model.action_head = head


def deep_copied(policy: Any, batch: Batch) -> Any:
    made = copy.deepcopy(policy)
    through_data(policy, batch)  # the original's, and no longer the copy's
    return made


def pickled(policy: Any, _: Batch) -> Any:
    return pickle.loads(pickle.dumps(policy))


OPTIMIZERS = {  # torch's; LeRobot's presets use Adam, AdamW and SGD
    f"{kind}-{how or 'plain'}": optimizer_step(kind, how)
    for kind in ("SGD", "Adam", "AdamW")
    for how in (None, "foreach", "fused")
}
WRITES: dict[str, Write] = {
    **OPTIMIZERS,
    "the preset's optimizer": preset_step,
    "load_state_dict": load_state_dict(assign=False),
    "load_state_dict, assigned twice": load_state_dict(assign=True, times=2),
    "foreach lerp": foreach_lerp,
    "AveragedModel": averaged_model,
    "swapped for a while": swapped_for_a_while,
    "memory replaced": memory_replaced,
    "half and back": there_and_back(torch.float16),
    "double and back": there_and_back(torch.float64),
    "under no_grad": under_no_grad,
    "in inference mode": in_inference_mode,
    "through .data": through_data,
    "one element of a bias through .data": one_element_of_a_bias_through_data,
    "through NumPy": through_numpy,
    "another parameter": another_parameter,
    "another module": another_module,
    "deep copy": deep_copied,
    "pickle": pickled,
}
