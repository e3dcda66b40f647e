"""The layers by themselves: batch norm in one operation, and dropout whose mask a graph asks for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from benchmarks.suite.compile_counters import count_compilation, trace
from benchmarks.suite.step_counters import dispatched
from lerobot_policy_act_compiled import patch_policy
from lerobot_policy_act_compiled.dropout import dropout, dropout_of_relu
from lerobot_policy_act_compiled.inductor import copy_of
from lerobot_policy_act_compiled.layers import (
    CompileFriendlyDecoderLayer,
    CompileFriendlyEncoderLayer,
    CompileFriendlyFrozenBatchNorm2d,
)
from lerobot_policy_act_compiled.tracing import traced

pytestmark = pytest.mark.usefixtures("fresh_dynamo")


@pytest.fixture
def norms() -> tuple[nn.Module, nn.Module]:
    """Stock's batch norm and ours, with the same seeded statistics."""
    generator = torch.Generator().manual_seed(0)
    stock, ours = FrozenBatchNorm2d(6, eps=0.1), CompileFriendlyFrozenBatchNorm2d(6, eps=0.1)
    for name, value in stock.state_dict().items():
        value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        ours.state_dict()[name].copy_(value)
    return stock, ours


def test_batch_norm_is_stocks_in_one_operation(norms: tuple[nn.Module, nn.Module]) -> None:
    stock, ours = norms
    x = torch.randn(2, 6, 4, 4)
    with torch.no_grad():
        assert torch.allclose(ours(x), stock(x), atol=1e-6)
        assert dispatched(lambda: ours(x)).ops < dispatched(lambda: stock(x)).ops / 2
    assert trace(ours.forward, x).ops == 1 < trace(stock.forward, x).ops


def test_batch_norm_keeps_nothing_that_stock_does_not(norms: tuple[nn.Module, nn.Module]) -> None:
    kept: list[list[tuple[int, ...]]] = []
    for norm in norms:
        shapes: list[tuple[int, ...]] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, shapes=shapes: (shapes.append(tuple(t.shape)), t)[1], lambda t: t
        ):
            norm(torch.randn(2, 6, 4, 4, requires_grad=True)).sum().backward()
        kept.append(shapes)
    assert kept[0] == kept[1]


@pytest.mark.parametrize("grad", [False, True])
def test_batch_norm_keeps_stocks_dtype(norms: tuple[nn.Module, nn.Module], grad: bool) -> None:
    stock, ours = norms
    x = torch.randn(2, 6, 4, 4, dtype=torch.bfloat16)
    with torch.set_grad_enabled(grad):
        assert ours(x).dtype == stock(x).dtype == torch.float32
        assert torch.equal(ours(x), stock(x))


def test_a_graph_computes_what_is_read(
    tiny_policy: Callable[..., Any], tiny_batch: Callable[..., Any]
) -> None:
    """The VAE encoder's last layer for one token, the decoder's first self-attention for one sample."""
    policy, batch = patch_policy(tiny_policy(dropout=0.1, use_vae=True)).train(), tiny_batch(4)
    model = {name: batch[name] for name in policy.config.image_features}
    inputs = {**batch, "observation.images": list(model.values())}
    whole = flops_in_graph(policy.model, inputs)
    layer = policy.model.vae_encoder.layers[-1]
    policy.model.vae_encoder.layers[-1] = of_class(SomebodysEncoderLayer, layer)
    without_the_first = flops_in_graph(policy.model, inputs)
    decoder_layer = policy.model.decoder.layers[0]
    policy.model.decoder.layers[0] = of_class(SomebodysDecoderLayer, decoder_layer)
    assert whole < without_the_first < flops_in_graph(policy.model, inputs)


class SomebodysEncoderLayer(CompileFriendlyEncoderLayer):
    """A class of somebody's own, whose forward may need all that it is given."""


class SomebodysDecoderLayer(CompileFriendlyDecoderLayer):
    """A class of somebody's own."""


def of_class(cls: type[nn.Module], layer: nn.Module) -> nn.Module:
    layer = copy.deepcopy(layer)
    layer.__class__ = cls
    return layer


def flops_in_graph(model: nn.Module, inputs: dict[str, Any]) -> int:
    """Of the forward pass that a compiler would get."""
    torch.compiler.reset()
    counted: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            counted.append(dispatched(lambda: graph(*arguments)).flops)
            return graph(*arguments)

        return run

    torch.compile(model, fullgraph=True, backend=backend)(inputs)
    (found,) = counted
    return found


def compiled(module: nn.Module, backend: str = "inductor") -> Callable[..., Tensor]:
    def both(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return dropout(module, x), dropout(module, y)

    # A copy: no graph guards what kind of numbers it draws.
    return torch.compile(copy_of(both), fullgraph=True, backend=backend)


@pytest.mark.parametrize("short", [False, True])
def test_every_mask_is_drawn_anew_and_kept_for_the_backward_pass(short: bool) -> None:
    # Equal calls of an operator are merged to one: two masks of one shape must stay two.
    module = nn.Dropout(0.25)
    x, y = (torch.ones(64, 64, requires_grad=True) for _ in range(2))
    function = compiled(module)
    with count_compilation() as compilation, traced(masks_of_16_bits=short):
        outputs = function(x, y)
        again = function(x, y)
    assert compilation.graphs == 1
    sum(output.sum() for output in outputs).backward()
    masks = [output != 0 for output in (*outputs, *again)]
    for i, mask in enumerate(masks):
        assert mask.float().mean() == pytest.approx(0.75, abs=0.03)  # 4 standard deviations
        assert not any(torch.equal(mask, other) for other in masks[:i])
    for tensor, output in zip((x, y), outputs, strict=True):
        assert output[output != 0].unique().item() == pytest.approx(1 / 0.75)
        assert torch.equal(tensor.grad, output), "the gradient went through another mask"


def test_a_graphs_dropout_is_eagers_under_one_seed() -> None:
    module, x = nn.Dropout(0.25), torch.randn(32, 32)
    torch.manual_seed(3)
    expected = module(x), module(x + 1)
    torch.manual_seed(3)
    found = compiled(module, "aot_eager")(x, x + 1)
    assert torch.allclose(torch.stack(found), torch.stack(expected))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_masks_of_16_bits_drop_as_many_and_keep_the_mean(p: float) -> None:
    """A million elements, odd in number and transposed: 5 standard deviations, by rows, columns and lag."""
    x = torch.ones(1001, 999).t()
    torch.manual_seed(0)
    with traced(masks_of_16_bits=True):
        first, second = compiled(nn.Dropout(p), "aot_eager")(x, x)
    deviation = (p * (1 - p)) ** 0.5
    for kept in ((first != 0).double(), (second != 0).double()):
        assert abs(kept.mean() - (1 - p)) < 5 * deviation / x.numel() ** 0.5
        for dim in (0, 1):
            assert (kept.mean(dim) - (1 - p)).abs().max() < 5 * deviation / x.shape[dim] ** 0.5
        centred = (kept - (1 - p)).t().flatten()  # in the order in which they were drawn
        for lag in (1, 2, 3, 4, 8):
            assert abs((centred[lag:] * centred[:-lag]).mean()) < 5 * deviation**2 / x.numel() ** 0.5
    assert first.mean() == pytest.approx(1, abs=5 * (p / (1 - p)) ** 0.5 / x.numel() ** 0.5 + 1e-4)
    assert not torch.equal(first, second)


def test_a_probability_that_16_bits_cannot_tell_from_none_is_drawn_as_ever() -> None:
    x = torch.ones(64, 64)
    torch.manual_seed(0)
    with traced(masks_of_16_bits=True):
        assert torch.equal(compiled(nn.Dropout(1e-6), "aot_eager")(x, x)[0] != 0, x != 0)


def test_dropout_that_is_off_is_no_operation() -> None:
    for module in (nn.Dropout(0.5).eval(), nn.Dropout(0.0)):
        x = torch.randn(8, 8)
        assert torch.equal(compiled(module, "aot_eager")(x, x)[1], x)


def test_another_module_in_dropouts_place_is_called() -> None:
    x = torch.randn(8, 8)
    assert torch.equal(compiled(nn.Tanh(), "aot_eager")(x, x)[0], x.tanh())
    function = torch.compile(partial(dropout_of_relu, nn.Tanh()), fullgraph=True, backend="aot_eager")
    assert torch.equal(function(x), x.relu().tanh())


@pytest.mark.parametrize("short", [False, True])
def test_relu_and_dropout_are_one_mask(short: bool) -> None:
    """Eager mode's numbers and gradients from one seed; for the backward pass one bool an element is held."""
    module, seen = nn.Dropout(0.25), torch.randn(64, 63)
    seen[0, :3] = torch.tensor([0.0, -0.0, -float("inf")])
    x, y = (seen.clone().requires_grad_() for _ in range(2))
    torch.manual_seed(3)
    module(x.relu()).sum().backward()
    expected = module(x.relu())
    function = torch.compile(copy_of(dropout_of_relu), fullgraph=True)
    held: list[Tensor] = []

    def hold(tensor: Tensor) -> Tensor:
        held.append(tensor)
        return tensor

    torch.manual_seed(3)
    with traced(masks_of_16_bits=short):
        with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            function(module, y).sum().backward()
        found = function(module, y)
    assert [each.dtype for each in held].count(torch.bool) == 1
    if not short:
        assert torch.allclose(found, expected)
        assert torch.allclose(y.grad, x.grad)
    assert torch.equal(y.grad > 0, (y.grad > 0) & (seen > 0))
    assert found[seen <= 0].eq(0).all()
    kept = (found[seen > 0] != 0).double()
    assert kept.mean() == pytest.approx(0.75, abs=0.05)
    assert torch.allclose(found[found != 0], seen[found != 0] / 0.75)


def test_nan_goes_through_relu_and_dropout() -> None:
    function = torch.compile(partial(dropout_of_relu, nn.Dropout(0.25)), fullgraph=True, backend="aot_eager")
    assert function(torch.full((64,), float("nan"))).isnan().sum() > 32
