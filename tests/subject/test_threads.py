"""Compiled in one thread, called in another; two policies in two threads; a thread's own kind of graph."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch

from lerobot_policy_act_compiled import inductor, patch_policy
from lerobot_policy_act_compiled.compiling import mode_for
from lerobot_policy_act_compiled.inductor import copy_of, cuda_graphs_work_here, freezing
from lerobot_policy_act_compiled.onnx_graph import graph_of, missing
from lerobot_policy_act_compiled.tracing import in_frozen_graph, traced, with_16_bit_masks

from .compiled_policies import as_compiled, count_made, each_mode

pytestmark = pytest.mark.usefixtures("fresh_dynamo")

Make = Callable[..., Any]
Batch = dict[str, Any]


def in_another_thread(call: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


@each_mode
@pytest.mark.usefixtures("without_inductor")
def test_compiled_in_one_thread_it_is_called_in_another(
    mode: str, without_cameras: tuple[Any, Batch]
) -> None:
    stock, batch = without_cameras
    policy = as_compiled(stock, mode)
    expected = stock.predict_action_chunk(batch)
    with count_made() as compilation:
        for call_in in (in_another_thread, lambda call: call(), in_another_thread):
            actions = call_in(lambda: policy.predict_action_chunk(batch))
            assert (actions - expected).abs().max() < 1e-5
    assert compilation.graphs == 1


@each_mode
@pytest.mark.usefixtures("without_inductor")
def test_threads_that_come_at_once_compile_once(mode: str, without_cameras: tuple[Any, Batch]) -> None:
    stock, batch = without_cameras
    policy, expected = as_compiled(stock, mode), stock.predict_action_chunk(batch)
    with count_made() as compilation, ThreadPoolExecutor(4) as pool:
        chunks = list(pool.map(lambda _: policy.predict_action_chunk(batch), range(12)))
    assert compilation.graphs == 1
    assert all((chunk - expected).abs().max() < 1e-5 for chunk in chunks)


@pytest.mark.usefixtures("with_constants")
def test_two_policies_compile_in_two_threads(without_cameras: tuple[Any, Batch]) -> None:
    """One holds its weights as constants and watches them; the other does not, and they may change."""
    stock, batch = without_cameras
    frozen, default = as_compiled(stock, "frozen"), as_compiled(stock, "default")
    expected = stock.predict_action_chunk(batch)
    together = threading.Barrier(2)

    def acts(policy: Any) -> torch.Tensor:
        together.wait()
        first: torch.Tensor = policy.predict_action_chunk(batch)
        with torch.no_grad():
            policy.model.action_head.bias.data.add_(1.0)
        second: torch.Tensor = policy.predict_action_chunk(batch)
        return torch.stack([first, second - 1.0])

    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(acts, (frozen, default)):
            assert (found - expected).abs().max() < 1e-5


def test_a_thread_that_exports_first_may_end(
    monkeypatch: pytest.MonkeyPatch, without_cameras: tuple[Any, Batch]
) -> None:
    """LeRobot's server acts in a pool's threads: ``auto`` exports in one, and the next compile died."""
    kept: list[str] = []
    monkeypatch.setattr(inductor, "keep_device_guard", lambda: kept.append("kept"))
    stock, batch = without_cameras
    if missing() is None:
        graph_of(
            patch_policy(copy.deepcopy(stock)).eval(), {k: batch[k] for k in stock.config.input_features}
        )
        assert kept
    kept.clear()
    with freezing():
        assert kept


def test_a_threads_flags_are_its_own() -> None:
    seen: list[bool] = []

    def backend(graph: Any, _: Any) -> Any:
        return graph.forward

    def function(x: torch.Tensor) -> torch.Tensor:
        seen.extend((in_frozen_graph(), with_16_bit_masks()))
        return x + 1 if in_frozen_graph() else x - 1

    def compiled() -> float:
        return torch.compile(copy_of(function), backend=backend)(torch.zeros(1)).item()

    with traced(frozen=True):
        assert compiled() == 1
        assert in_another_thread(compiled) == -1
    assert compiled() == -1


def test_nobody_else_compiles_while_weights_become_constants() -> None:
    """Inductor's setting is the whole process's: another model, compiled meanwhile, would be frozen too."""
    settings: list[bool] = []

    def backend(graph: Any, _: Any) -> Any:
        settings.append(torch._inductor.config.freezing)
        return graph.forward

    def function(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    def other() -> None:
        with torch.no_grad():
            torch.compile(copy_of(function), backend=backend)(torch.ones(1))

    other()
    settings.clear()
    with freezing():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(1)  # without the lock it takes 0.1 s
        assert thread.is_alive(), "it waits"
        assert settings == []
    thread.join(60)
    assert settings == [False]


def test_cuda_graphs_are_the_main_threads() -> None:
    """In any other, and in one that another thread's import has forestalled, torch asserts."""
    assert cuda_graphs_work_here() or threading.current_thread() is not threading.main_thread()
    assert not in_another_thread(cuda_graphs_work_here)
    modes = {"auto": "captured", "reduce-overhead": "default", "max-autotune": "max-autotune-no-cudagraphs"}
    for mode, without in modes.items():
        assert in_another_thread(partial(mode_for, mode, "cuda")) == without
    assert in_another_thread(partial(mode_for, "auto", "cuda", acts=False)) == "default"
