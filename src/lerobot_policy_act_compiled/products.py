"""Matrix products of training steps and of ``frozen`` graphs on a CPU: by oneDNN where torch's are slower.

torch multiplies fp32 matrices by MKL, which uses AVX-512 on Intel's processors alone. On two cores of an AMD
EPYC with AVX-512 it reaches 220 GFLOP/s, and oneDNN, which torch has for convolutions, 350 to 500 in the same
products, forward and backward: pusht's training step took 416 ms and not 644 (batch 8, torch 2.10), and its
action chunk by ``frozen`` 11.3 ms and not 17.3 (aloha's 85 and not 118; batch 1, torch 2.11). Both compute in
fp32 and round in another order.

Inductor calls a pass of ours on each graph, which puts operators in place of ``aten.mm`` and ``aten.addmm``.
In a frozen graph torch has laid the weights out for MKL by then; the pass lays them out for oneDNN.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._inductor import config
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.utils._python_dispatch import _disable_current_modes as no_modes

from .releases import TAKES_A_PASS

LEAST = 1_000_000  # multiplications, below which a call from Python costs more than it saves

_OPERATORS = torch.library.Library("act_compiled", "FRAGMENT")
_OPERATORS.define("product(Tensor a, Tensor b) -> Tensor")
_OPERATORS.define("product_and_bias(Tensor bias, Tensor a, Tensor b) -> Tensor")


def _product(a: Tensor, b: Tensor) -> Tensor:
    return _product_and_bias(None, a, b)


def _product_and_bias(bias: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise.default(a, b.t(), bias, "none", [], "")
    return found


_OPERATORS.impl("product", _product, "CPU")
_OPERATORS.impl("product_and_bias", _product_and_bias, "CPU")
_OPERATORS.impl("product", lambda a, b: a.new_empty(a.shape[0], b.shape[1]), "Meta")
_OPERATORS.impl("product_and_bias", lambda _, a, b: a.new_empty(a.shape[0], b.shape[1]), "Meta")


class ByOneDNN(CustomGraphPass):
    """Give a graph's products in fp32 to oneDNN."""

    def __call__(self, graph: torch.fx.Graph) -> None:
        aten, ours = torch.ops.aten, torch.ops.act_compiled
        other: Mapping[Any, Any] = {
            aten.mm.default: ours.product.default,
            aten.addmm.default: ours.product_and_bias.default,
        }
        for node in list(graph.nodes):
            operands = [each.meta.get("val") for each in node.all_input_nodes]
            if node.target in other and not node.kwargs:
                if len(operands) == len(node.args) and _is_worth_it(*operands[-2:], bias=operands[:-2]):
                    node.target = other[node.target]
            elif node.target in _by_mkl():
                _with_its_weight_laid_out(node)

    def uuid(self) -> Any:
        """What Inductor keeps the graphs under that it compiled with this pass: this file's contents."""
        return get_hash_for_files((__file__,))


def _by_mkl() -> Sequence[Any]:
    """torch's product with a constant weight that is laid out for MKL."""
    found = getattr(torch.ops.mkl, "_mkl_linear", None)
    return () if found is None else (found, found.default)


def _with_its_weight_laid_out(node: torch.fx.Node) -> None:
    """Make a product with a constant weight oneDNN's, whose layout saves 3 to 13% of an action chunk more.

    Inductor never keeps such a graph for another policy: no layout but torch's own can be written to a file.
    """
    x, for_mkl, weight, bias, rows = node.args
    graph = node.graph
    assert isinstance(x, torch.fx.Node)
    assert isinstance(for_mkl, torch.fx.Node)
    assert isinstance(weight, torch.fx.Node)
    if not _is_worth_it(x.meta.get("val"), weight.meta.get("val"), transposed=True):
        return
    holder = graph.owning_module
    assert isinstance(holder, torch.nn.Module)
    with no_modes():  # Inductor's passes see tensors without data
        laid_out = torch.ops.mkldnn._reorder_linear_weight(getattr(holder, weight.target), rows)
    name = f"{weight.target}_of_{node.name}"
    holder.register_buffer(name, laid_out)
    with graph.inserting_before(node):
        constant = graph.get_attr(name)
    constant.meta.update(weight.meta)
    node.target = torch.ops.mkldnn._linear_pointwise.default
    node.args = (x, constant, bias, "none", [], "")
    if not for_mkl.users:
        graph.erase_node(for_mkl)


def _is_worth_it(a: Any, b: Any, *, bias: Sequence[Any] = (), transposed: bool = False) -> bool:
    """Whether to take a product from torch; not where another pass left an operand unknown."""
    operands = (a, b, *bias)
    if not all(isinstance(each, Tensor) and each.dtype == torch.float32 for each in operands):
        return False
    if any(each.device.type != "cpu" for each in operands):
        return False
    if any(each.dim() != 1 for each in bias):
        return False
    sizes = *a.shape, b.shape[0 if transposed else 1]
    # A batch of any size has no number yet.
    return not all(isinstance(size, int) for size in sizes) or sizes[0] * sizes[1] * sizes[2] >= LEAST


def options() -> Mapping[str, Any]:
    """Settings of Inductor for a graph on a CPU; none where torch's own products are as fast."""
    taken = config.post_grad_custom_post_pass is not None  # by somebody's own
    if taken or not TAKES_A_PASS or not mkl_is_slow():
        return {}
    return {"post_grad_custom_post_pass": ByOneDNN()}


@cache
def mkl_is_slow() -> bool:
    """Whether torch multiplies by MKL on an AMD processor with AVX-512, and has oneDNN."""
    return (
        torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        and _is_amds()
        and torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _is_amds() -> bool:
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        described = platform.processor()
    return "AuthenticAMD" in described
