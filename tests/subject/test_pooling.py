"""The backbone's max pooling in a compiled training step: torch's own operators where it is as known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import profile
from torchvision.models._utils import IntermediateLayerGetter

from lerobot_policy_act_compiled.inductor import copy_of
from lerobot_policy_act_compiled.pooling import features_of

pytestmark = pytest.mark.usefixtures("fresh_dynamo")

OURS, BACKWARD = "act_compiled::max_pool", "act_compiled::max_pool_backward"


class SomebodysPool(nn.MaxPool2d):
    """A class of somebody's own."""


class Residual(nn.Module):
    """As a ResNet's blocks: what the pooling gets back is a sum of two gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.conv(x)).relu()


def backbone_with(pool: nn.Module, named: dict[str, str] | None = None) -> IntermediateLayerGetter:
    """A small one, made as LeRobot makes its own."""
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(3, 8, 3, padding=1))
    model.add_module("relu", nn.ReLU())
    model.add_module("maxpool", pool)
    model.add_module("layer4", Residual())
    return IntermediateLayerGetter(model, named or {"layer4": "feature_map"}).double()


def resnets_pool(**other: Any) -> nn.MaxPool2d:
    return nn.MaxPool2d(**{"kernel_size": 3, "stride": 2, "padding": 1, **other})


def images_with_ties() -> Tensor:
    """Of an odd size, and half of one colour: there each window has several greatest pixels."""
    torch.manual_seed(1)
    images = torch.rand(2, 3, 37, 41, dtype=torch.float64)
    images[..., 20:] = 0.5
    return images


def trained(function: Callable[..., Tensor], backbone: nn.Module) -> tuple[list[Tensor], set[str]]:
    """The features and the gradients of all weights, and the names of the operators that ran."""
    backbone.zero_grad()
    with profile() as profiled:
        features = function(backbone, images_with_ties())
        features.square().sum().backward()
    gradients = [weight.grad.clone() for weight in backbone.parameters()]
    return [features, *gradients], {event.key for event in profiled.key_averages()}


def compiled(backend: str) -> Callable[..., Tensor]:
    return torch.compile(copy_of(features_of), fullgraph=True, backend=backend)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize(
    "pool",
    [
        resnets_pool(),
        nn.MaxPool2d(2),
        resnets_pool(ceil_mode=True),
        resnets_pool(dilation=(2, 1), stride=(1, 2)),
    ],
    ids=["resnet's", "without overlap", "ceil mode", "dilated"],
)
def test_features_and_gradients_are_eagers(pool: nn.MaxPool2d, backend: str) -> None:
    backbone = backbone_with(pool)
    expected, _ = trained(features_of, backbone)
    found, ran = trained(compiled(backend), backbone)
    assert {OURS, BACKWARD} <= ran
    torch.testing.assert_close(found, expected)


def test_nothing_is_copied_into_another_layout() -> None:
    """Inductor's convolutions have their channels last; were the gradients not so, 160 ms of aloha's step."""
    backbone = backbone_with(resnets_pool()).float()
    images = torch.rand(2, 3, 64, 64)
    function = compiled("inductor")
    function(backbone, images).sum().backward()
    with profile() as profiled:
        function(backbone, images).sum().backward()
    ours = [event for event in profiled.events() if event.name in (OURS, BACKWARD)]
    assert len(ours) == 2
    below = [*names_below(ours)]
    assert not [name for name in below if name.endswith(("copy_", "contiguous", "clone"))], below


def test_no_indices_are_held_for_the_backward_pass() -> None:
    """Of 8 bytes each: the gate found tiny's training step at 2% more memory."""
    held: list[torch.dtype] = []

    def hold(tensor: Tensor) -> Tensor:
        held.append(tensor.dtype)
        return tensor

    backbone = backbone_with(resnets_pool())
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        compiled("inductor")(backbone, images_with_ties()).sum().backward()
    assert torch.float64 in held
    assert not {torch.int8, torch.int32, torch.int64} & {*held}


def names_below(events: Iterable[Any]) -> Iterator[str]:
    for event in events:
        for child in event.cpu_children:
            yield child.name
            yield from names_below([child])


def twice(_module: nn.Module, _args: Any, output: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"feature_map": 2 * output["feature_map"]}


def with_a_hook() -> nn.Module:
    backbone = backbone_with(resnets_pool())
    backbone.register_forward_hook(twice)
    return backbone


def with_a_hook_of_its_pooling() -> nn.Module:
    backbone = backbone_with(resnets_pool())
    backbone["maxpool"].register_forward_hook(lambda _module, _args, output: 2 * output)
    return backbone


@pytest.mark.parametrize(
    "backbone",
    [
        backbone_with(SomebodysPool(3, 2)),
        backbone_with(nn.AvgPool2d(2)),
        backbone_with(resnets_pool(), {"relu": "early", "layer4": "feature_map"}),
        with_a_hook(),
        with_a_hook_of_its_pooling(),
        backbone_with(resnets_pool()).eval(),
    ],
    ids=["another class", "another pooling", "two features", "a hook", "the pooling's hook", "eval mode"],
)
def test_what_is_not_known_is_called(backbone: nn.Module) -> None:
    expected, _ = trained(features_of, backbone)
    found, ran = trained(compiled("aot_eager"), backbone)
    assert not {OURS, BACKWARD} & ran
    torch.testing.assert_close(found, expected)


def test_eager_mode_calls_the_backbone() -> None:
    _, ran = trained(features_of, backbone_with(resnets_pool()))
    assert OURS not in ran


def test_under_autocast_it_keeps_bf16() -> None:
    backbone = backbone_with(resnets_pool()).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = compiled("aot_eager")(backbone, torch.rand(1, 3, 32, 32))
    assert found.dtype == torch.bfloat16
    found.float().sum().backward()
    assert all(weight.grad.isfinite().all() for weight in backbone.parameters())
