"""What a user could run ACT by instead: ONNX Runtime or OpenVINO, over an export by ``torch.onnx.export``.

Inference on a CPU, with as many threads as torch has; in bf16 by OpenVINO alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PEERS = ("onnxruntime", "openvino")


def installed() -> tuple[str, ...]:
    """Those of PEERS that are here, with what exports to them."""
    if any(find_spec(name) is None for name in ("onnx", "onnxscript")):
        return ()
    return tuple(name for name in PEERS if find_spec(name) is not None)


def acting(name: str, policy: Any, batch: dict[str, Any], precision: str = "fp32") -> Callable[[], Any]:
    """What predicts ``policy``'s action chunk ``(B, S, action_dim)`` of ``batch`` by the runtime ``name``.

    Args:
        precision: what OpenVINO may compute in, where it sees fit.
    """
    import torch

    from lerobot_policy_act_compiled import patch_policy

    observations = {name: batch[name] for name in policy.config.input_features}
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "act.onnx")
        _export(patch_policy(policy).eval(), observations, file)  # of stock it takes minutes
        open_ = by_onnxruntime if name == "onnxruntime" else partial(_openvino, precision=precision)
        run = open_(file, torch.get_num_threads())
    return lambda: torch.from_numpy(run({name: value.numpy() for name, value in observations.items()}))


def _export(policy: Any, observations: dict[str, Any], file: Path) -> None:
    """For these shapes alone, optimised: what makes the fastest file."""
    import torch
    from lerobot.utils.constants import OBS_IMAGES

    class Chunk(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = policy.model

        def forward(self, *values: Any) -> Any:
            seen = dict(zip(observations, values, strict=True))
            return self.model({**seen, OBS_IMAGES: [seen[name] for name in policy.config.image_features]})[0]

    with torch.no_grad():
        torch.onnx.export(
            Chunk(),
            tuple(observations.values()),
            str(file),
            dynamo=True,
            verbose=False,
            input_names=list(observations),
            output_names=["action"],
        )


def by_onnxruntime(file: Path, threads: int) -> Callable[[dict[str, Any]], Any]:
    """The first output of an ONNX file, of NumPy arrays by the names of its inputs."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, feed)[0]


def openvino() -> Any:
    """The module, which reports nothing to Intel."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return import_module("openvino")


def _openvino(file: Path, threads: int, precision: str) -> Callable[[dict[str, Any]], Any]:
    hints = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino().Core().compile_model(str(file), "CPU", hints).create_infer_request()
    return lambda feed: request.infer(feed)[0].copy()
