"""The installed release's loss as one graph: its read-backs to Python floats happen after it.

``ACTPolicy.forward`` differs between LeRobot releases (the L1 loss became a masked mean in
0.6.0) and calls ``.item()``, which breaks a graph in two places. Nothing of it is rewritten
here: the installed method itself is traced, with ``.item()`` kept as a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.utils.constants import OBS_IMAGES
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .releases import GRAPHS_HOLD_DICTS

Batch = dict[str, Any]
Posterior = tuple[Tensor, Tensor] | tuple[None, None]

STOCK_POLICY_FORWARD = ACTPolicy.forward


def are_finite(observations: Iterable[Any]) -> bool:
    """Whether no float in these tensors is NaN or infinite. None is no float."""
    return all(
        bool(value.sum().isfinite())  # a sum too large for its type says no, and eager mode does the work
        for value in observations
        if isinstance(value, Tensor) and value.is_floating_point()
    )


def are_of_kind(observations: Iterable[Any], weight: Tensor) -> bool:
    """Whether they are tensors of this weight's type and device: compiled code would read others as such."""
    kind = weight.dtype, weight.device
    return all(isinstance(value, Tensor) and (value.dtype, value.device) == kind for value in observations)


class _ItemsStayTensors(TorchFunctionMode):
    """Makes ``tensor.item()`` return the detached tensor, so that a graph can hold the call."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.item:
            return args[0].detach()
        return func(*args, **(kwargs or {}))


class LossParts(dict[str, Any]):
    """The loss's parts as a compiled ``forward`` returns them: 0-d tensors that read as floats.

    A graph cannot hold Python floats, and reading one back waits for the device; here the
    reading happens when somebody asks for a value, and not at all if nobody does.
    """

    def __getitem__(self, name: str) -> Any:
        part = super().__getitem__(name)
        return part if torch.compiler.is_compiling() else float(part)

    def __iter__(self) -> Iterator[str]:  # also sends dict(parts) and {**parts} through __getitem__
        return iter(tuple(self.keys()))  # torch 2.7 and 2.8 trace no dict's iterator

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.copy(),)

    def __repr__(self) -> str:
        return repr(self.copy())

    def __eq__(self, other: object) -> bool:  # and no __hash__, as in any dict
        return self.copy() == other

    def copy(self) -> dict[str, float]:
        return {name: self[name] for name in self}

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401 - it is dict.get that would recur

    def pop(self, name: str, *default: Any) -> Any:
        value = super().pop(name, *default)
        return float(value) if isinstance(value, Tensor) else value

    def items(self) -> Any:
        return self.copy().items()

    def values(self) -> Any:
        return self.copy().values()


class _WithOutputs:
    """A policy whose model has run already: what it returns is ``outputs``."""

    def __init__(self, policy: ACTPolicy, outputs: tuple[Tensor, Posterior]) -> None:
        self._policy = policy
        self._outputs = outputs

    def model(self, _batch: Batch) -> tuple[Tensor, Posterior]:
        return self._outputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)


def with_image_list(config: ACTConfig, batch: Batch) -> Batch:
    """``batch`` with the cameras as a list under LeRobot's own key, which is what the model reads."""
    if not config.image_features:
        return batch
    return {**batch, OBS_IMAGES: [batch[key] for key in config.image_features]}


def policy_loss(self: ACTPolicy, batch: Batch, *args: Any, **kwargs: Any) -> tuple[Tensor, dict[str, Any]]:
    """Loss and its parts, all 0-d tensors, the parts detached, as the installed release defines them."""
    # The model runs first and outside of the mode, through which not every operation can be traced.
    outputs = self.model(with_image_list(self.config, batch))
    with _ItemsStayTensors():
        return STOCK_POLICY_FORWARD(_WithOutputs(self, outputs), batch, *args, **kwargs)


def policy_forward(self: ACTPolicy, batch: Batch, *args: Any, **kwargs: Any) -> tuple[Tensor, dict[str, Any]]:
    """``ACTPolicy.forward`` of the installed LeRobot, which also compiles with ``fullgraph=True``."""
    if not torch.compiler.is_compiling():
        return STOCK_POLICY_FORWARD(self, batch, *args, **kwargs)
    loss, parts = policy_loss(self, batch, *args, **kwargs)
    return loss, LossParts(parts) if GRAPHS_HOLD_DICTS else parts
