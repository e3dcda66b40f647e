"""Products of training steps and frozen graphs by oneDNN: where, which, and that the results are the same."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._inductor import config
from torch.profiler import profile

from benchmarks.suite.compile_counters import count_compilation
from lerobot_policy_act_compiled import compiling, products
from lerobot_policy_act_compiled.compiled_policy import action_chunk
from lerobot_policy_act_compiled.loss import policy_loss
from lerobot_policy_act_compiled.releases import TAKES_A_PASS

from .compiled_policies import as_compiled

pytestmark = [
    pytest.mark.usefixtures("fresh_dynamo"),
    pytest.mark.skipif(not TAKES_A_PASS, reason="torch 2.6 forgets the option without a word"),
]

PRODUCT, WITH_BIAS = "act_compiled::product", "act_compiled::product_and_bias"
ROWS, WIDTH = 100, 128


@pytest.fixture(autouse=True)
def slow_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any processor counts as one on which MKL is slow; oneDNN is in torch for each that CI has."""
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)


def layers(dtype: torch.dtype = torch.float32, bias: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH, bias), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH, bias)).to(
        dtype
    )


def trained(
    run: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor
) -> tuple[list[Tensor], dict[str, int]]:
    """The result and all gradients, and how often an operator of ours was called."""
    x = x.clone().requires_grad_()
    run(x).square().sum().backward()  # compiling calls operators without data
    x.grad = None
    module.zero_grad()
    with profile() as profiled:
        result = run(x)
        result.square().sum().backward()
    gradients = [x.grad, *(parameter.grad for parameter in module.parameters())]
    calls = {event.key: event.count for event in profiled.key_averages() if event.key in (PRODUCT, WITH_BIAS)}
    assert all(each is not None for each in gradients)
    return [result, *(each for each in gradients if each is not None)], calls


def compiled(module: nn.Module, **how: Any) -> Callable[[Tensor], Tensor]:
    run: Callable[[Tensor], Tensor] = torch.compile(module, fullgraph=True, options=products.options(), **how)
    return run


def test_products_are_onednn_s_forward_and_backward_and_the_same() -> None:
    module, eager = layers(), layers()
    x = torch.randn(ROWS, WIDTH)
    expected, none = trained(eager, eager, x)
    found, calls = trained(compiled(module), module, x)
    assert none == {}
    assert calls == {WITH_BIAS: 2, PRODUCT: 4}
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
        assert ours.stride() == theirs.stride(), "the optimizer is slower where they differ"


def test_a_batch_of_any_size_is_one_graph() -> None:
    module, eager = layers(bias=False), layers(bias=False)
    run = compiled(module, dynamic=True)
    for rows in (ROWS, ROWS + 7):
        with count_compilation() as compilation:
            found, calls = trained(run, module, torch.ones(rows, WIDTH))
        assert calls == {PRODUCT: 6}
        torch.testing.assert_close(found[0], eager(torch.ones(rows, WIDTH)), rtol=1e-5, atol=1e-5)
    assert compilation.graphs == 0, "the second was compiled by the first"


@pytest.mark.parametrize(
    ("dtype", "rows", "autocast"),
    [(torch.float64, ROWS, False), (torch.float32, 2, False), (torch.float32, ROWS, True)],
    ids=["float64", "small", "bf16"],
)
def test_other_products_stay_torch_s(dtype: torch.dtype, rows: int, autocast: bool) -> None:
    module = layers(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        _, calls = trained(compiled(module), module, torch.randn(rows, WIDTH, dtype=dtype))
    assert calls == {}


def test_what_was_compiled_is_kept() -> None:
    module = layers()
    trained(compiled(module), module, torch.randn(ROWS, WIDTH))
    torch.compiler.reset()
    with count_compilation() as compilation:
        _, calls = trained(compiled(module), module, torch.randn(ROWS, WIDTH))
    assert compilation.cache_hits > 0
    assert calls == {WITH_BIAS: 2, PRODUCT: 4}


def frozen_chunk(policy: Any, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, int]]:
    """The actions that a robot gets in the mode ``frozen``, and who multiplied for them."""
    policy = as_compiled(policy, "frozen").eval()
    policy.predict_action_chunk(batch)
    with profile() as profiled:
        actions = policy.predict_action_chunk(batch)
    multiplied = ("mkl::_mkl_linear", "mkldnn::_linear_pointwise")
    return actions, {each.key: each.count for each in profiled.key_averages() if each.key in multiplied}


def test_a_frozen_graph_s_products_are_onednn_s_and_no_other_policy_s(
    without_cameras: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, batch = without_cameras
    policy, other = policy.eval(), deepcopy(policy).eval()
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.1)
    monkeypatch.setattr(products, "mkl_is_slow", lambda: False)
    _, by_torch = frozen_chunk(policy, batch)
    assert set(by_torch) == {"mkl::_mkl_linear"}
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)
    monkeypatch.setattr(products, "LEAST", 1)
    for each in (policy, other):  # of the same shapes: Inductor's caches tell them apart
        torch.compiler.reset()
        actions, multiplied = frozen_chunk(each, batch)
        assert multiplied == {"mkldnn::_linear_pointwise": by_torch["mkl::_mkl_linear"]}
        torch.testing.assert_close(actions, each.predict_action_chunk(batch), rtol=1e-4, atol=1e-5)


def test_small_products_of_a_frozen_graph_stay_torch_s(without_cameras: tuple[Any, Any]) -> None:
    _, multiplied = frozen_chunk(*without_cameras)
    assert set(multiplied) == {"mkl::_mkl_linear"}


def test_a_product_of_which_nothing_is_known_stays_torch_s() -> None:
    graph = torch.fx.Graph()
    a, b = graph.placeholder("a"), graph.placeholder("b")
    known = graph.call_function(torch.ops.aten.mm.default, (a, b))
    unknown = graph.call_function(torch.ops.aten.mm.default, (known, b))
    a.meta["val"], b.meta["val"] = torch.ones(ROWS, WIDTH), torch.ones(WIDTH, WIDTH)
    products.ByOneDNN()(graph)
    assert known.target is torch.ops.act_compiled.product.default
    assert unknown.target is torch.ops.aten.mm.default


def test_somebody_else_s_pass_is_left_alone() -> None:
    with config.patch(post_grad_custom_post_pass=products.ByOneDNN()):
        assert products.options() == {}
    assert set(products.options()) == {"post_grad_custom_post_pass"}


@pytest.mark.parametrize(
    ("mode", "function", "asks"),
    [("auto", policy_loss, True), ("default", policy_loss, False), ("auto", action_chunk, False)],
)
def test_training_in_auto_asks_for_it(
    mode: str,
    function: Callable[..., Any],
    asks: bool,
    without_cameras: tuple[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []

    def compile_(run: Callable[..., Any], **how: Any) -> Callable[..., Any]:
        asked.append(how)
        return run

    monkeypatch.setattr(torch, "compile", compile_)
    policy, batch = as_compiled(without_cameras[0], mode), without_cameras[1]
    acts = function is action_chunk
    made = compiling.Compiled(function, mode, "frozen" if acts else "default", constants=acts)
    made(policy.train(not acts), batch)
    assert [bool(how["options"]) for how in asked] == [asks]


@pytest.mark.parametrize(
    ("capability", "amds", "slow"),
    [("AVX512", True, True), ("AVX512", False, False), ("AVX2", True, False), ("DEFAULT", True, False)],
)
def test_mkl_is_slow_on_amd_with_avx_512(
    capability: str, amds: bool, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the fixture
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(products, "_is_amds", lambda: amds)
    assert products.mkl_is_slow.__wrapped__() is slow
