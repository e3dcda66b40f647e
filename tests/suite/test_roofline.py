"""The rate that a limit is taken at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.suite import roofline

OF_A_CONVOLUTION = 2 * (256 * 256 * 3 * 3) * (30 * 40)  # FLOPs


@pytest.mark.parametrize(("convolution", "expected"), [(5e12, 5e12), (1e12, 2e12)])
def test_a_limit_is_at_the_faster_of_a_product_and_a_convolution(
    convolution: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def takes(work: Callable[[], Any], _device: str) -> float:
        result = work()
        return OF_A_CONVOLUTION / convolution if result.dim() == 4 else 2 * len(result) ** 3 / 2e12

    monkeypatch.setattr(roofline, "SIZE", 300)
    monkeypatch.setattr(roofline, "_best_seconds", takes)
    assert roofline.product_rate("cpu") == pytest.approx(expected)


def test_a_product_that_no_instruction_computes_is_not_multiplied_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []

    def takes(work: Callable[[], Any], _device: str) -> float:
        sizes.append(len(work()))
        return 1.0

    monkeypatch.setattr(roofline, "_best_seconds", takes)
    assert roofline.product_rate("cpu") == 2 * roofline.SMALL**3
    assert sizes == [roofline.SMALL]
