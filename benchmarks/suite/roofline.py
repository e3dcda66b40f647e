"""What the machine can do at best, and what a step asks of it at least: the limit beside a speed-up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from .steps import prepare
from .workloads import Case

SIZE = 2048  # of the square matrices that are multiplied
IMAGE, KERNEL = (1, 256, 30, 40), (256, 256, 3, 3)  # of the third stage of aloha's ResNet
OF = "The faster of torch.mm and a convolution"  # whose rate it is
COPY = 1 << 28  # bytes, far beyond any cache
SMALL = 256  # of those that are tried first
SLOW = 3e9  # FLOP/s; with instructions for it every processor is faster
ROUNDS = 12
# Passes over all weights. Inference reads them once. A training step reads them forward and backward and
# writes gradients; AdamW reads weight, gradient and two moments and writes three of them.
PASSES = {"inference": 1, "rollout_ensemble": 1, "tick": 1, "tick_ensemble": 1, "training": 10}


def rates(cases: Sequence[Case]) -> dict[str, Any]:
    """Best of ROUNDS: FLOP/s of products in either precision, and bytes that a copy moves a second."""
    import torch

    device = cases[0].device
    found: dict[str, Any] = {precision: product_rate(device, precision) for precision in ("fp32", "bf16")}
    source = torch.zeros(COPY, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    found["bytes"] = 2 * COPY / _best_seconds(partial(target.copy_, source), device)
    return {"rates": {**found, "of": OF}}


def product_rate(device: str, precision: str = "fp32") -> float:
    """Best of ROUNDS: FLOP/s of ``torch.mm`` or of a convolution, whichever is faster.

    On an AMD EPYC with AVX-512, MKL's product reaches 220 GFLOP/s and oneDNN's convolution 520 (2 cores).
    """
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]

    def reached(size: int) -> float:
        a = torch.randn(size, size, device=device).to(dtype)
        return 2 * size**3 / _best_seconds(partial(torch.mm, a, a), device)

    at_first = reached(SMALL)
    # Without instructions for it (bf16 with AVX2) the large product takes a minute, and is no faster.
    return at_first if at_first < SLOW else max(reached(SIZE), _of_a_convolution(device, dtype))


def _of_a_convolution(device: str, dtype: Any) -> float:
    import torch

    image, kernel = (torch.randn(shape, device=device).to(dtype) for shape in (IMAGE, KERNEL))
    convolve = partial(torch.nn.functional.conv2d, image, kernel, padding=1)
    return 2 * kernel.numel() * IMAGE[2] * IMAGE[3] / _best_seconds(convolve, device)


def _best_seconds(work: Callable[[], Any], device: str) -> float:
    import torch

    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def work(cases: Sequence[Case]) -> dict[str, Any]:
    """FLOPs of the first case's eager step, and the bytes that it moves of weights at least."""
    from .step_counters import dispatched

    step = prepare(cases[0])
    step()
    weights = sum(parameter.numel() * parameter.element_size() for parameter in step.policy.parameters())
    return {"work": {"flops": dispatched(step).flops, "bytes": PASSES[cases[0].phase] * weights}}
