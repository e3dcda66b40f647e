"""The action chunk by OpenVINO."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

from .session import Arrays, Run, Session, never_end_in_forks


def openvino() -> Any:
    """The module, imported so that it reports nothing."""
    # Its import makes an identifier of the user in their home directory and tells Intel of itself. Without
    # this package it does neither (2026.4).
    reports = sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return import_module("openvino")
    finally:
        if reports is None:
            sys.modules.pop("openvino_telemetry", None)


class OpenVino(Session):
    """A compiled model of OpenVINO; in bf16, where that is asked for and the processor has it."""

    NAME = "OpenVINO"
    TAKES_BF16 = True
    KEEPS_NAN = False  # oneDNN's fused ReLU makes zeros of it

    @staticmethod
    def runtime() -> Any:
        return openvino()

    @staticmethod
    def opened(
        runtime: Any, model: bytes, weights: Arrays, threads: int, *, bf16: bool
    ) -> tuple[list[str], Run]:
        core = runtime.Core()
        graph = core.read_model(_with_inputs(model, weights))
        for parameter in graph.get_parameters():
            value = weights.get(parameter.get_friendly_name())
            if value is not None:
                constant = runtime.op.Constant(runtime.Tensor(value, shared_memory=value.ndim > 0))
                for target in parameter.output(0).get_target_inputs():
                    target.replace_source_output(constant.output(0))
                graph.remove_parameter(parameter)
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # As torch's, its threads are bound to no core. Beside one busy process, two threads bound to two
            # cores took 36 ms for pusht's step in bf16, 99% within 150; unbound 14 and 17. Alone, bound ones
            # took 9.7 and unbound ones 12.1: probably both often wake on one core.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = core.compile_model(graph, "CPU", options)
        request = compiled.create_infer_request()
        for each in (compiled, request):
            never_end_in_forks(each)
        one_at_a_time = threading.Lock()  # a request is of one call, and all would share the same threads

        def run(feed: Arrays, meanwhile: Callable[[], None], _held: Any = weights) -> list[Any]:
            # Held, as it may read weights where they lie.
            with one_at_a_time:
                request.start_async(feed, share_inputs=True)
                try:
                    meanwhile()
                finally:
                    request.wait()
                return [each.data.copy() for each in request.output_tensors]

        return [each.any_name for each in compiled.inputs], run


def _with_inputs(model: bytes, weights: Arrays) -> bytes:
    """The ONNX model with its weights as inputs: its own are in a file that does not exist."""
    import onnx

    proto = onnx.load_from_string(model)
    graph = proto.graph
    kept = [each for each in graph.initializer if each.name not in weights]
    for each in graph.initializer:
        if each.name in weights:
            graph.input.append(onnx.helper.make_tensor_value_info(each.name, each.data_type, each.dims))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return bytes(proto.SerializeToString())
