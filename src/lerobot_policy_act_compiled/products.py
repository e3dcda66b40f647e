"""Matrix products of a compiled training step on a CPU by oneDNN, where torch's own are slower.

torch multiplies fp32 matrices by MKL, which uses AVX-512 on Intel's processors alone. On two cores of an AMD
EPYC with AVX-512 it reaches 220 GFLOP/s, and oneDNN, which torch has for convolutions, 350 to 500 in the same
products, forward and backward: pusht's training step took 416 ms and not 644 (batch 8, torch 2.10). Both
compute in fp32 and round in another order.

Inductor calls a pass of ours on each graph, which puts operators in place of ``aten.mm`` and ``aten.addmm``.
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
        for node in graph.nodes:
            if node.target not in other or node.kwargs:
                continue
            operands = [each.meta.get("val") for each in node.all_input_nodes]
            if len(operands) == len(node.args) and _is_worth_it(operands):
                node.target = other[node.target]

    def uuid(self) -> Any:
        """What Inductor keeps the graphs under that it compiled with this pass: this file's contents."""
        return get_hash_for_files((__file__,))


def _is_worth_it(operands: Sequence[Any]) -> bool:
    """Of a product's operands, the bias first where there is one; not where another pass left one unknown."""
    *bias, a, b = operands
    if not all(isinstance(each, Tensor) and each.dtype == torch.float32 for each in operands):
        return False
    if any(each.device.type != "cpu" for each in operands):
        return False
    if any(each.dim() != 1 for each in bias):
        return False
    sizes = *a.shape, b.shape[1]
    # A batch of any size has no number yet.
    return not all(isinstance(size, int) for size in sizes) or sizes[0] * sizes[1] * sizes[2] >= LEAST


def options() -> Mapping[str, Any]:
    """What to give ``torch.compile`` for a step on a CPU; nothing where torch's own products are as fast."""
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
