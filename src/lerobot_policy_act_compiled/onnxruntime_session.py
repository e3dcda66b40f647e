"""The action chunk by ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

from .session import Arrays, Run, Session, never_end_in_forks


def onnxruntime() -> Any:
    """The module, imported so that it reports nothing."""
    # From 1.32 on its Linux wheels keep an identifier of the device in the user's cache directory and send
    # what they count to Microsoft, from the import on. A robot does not, unless its owner says so.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return import_module("onnxruntime")


class OnnxRuntime(Session):
    """A session of ONNX Runtime; it computes in fp32."""

    NAME = "ONNX Runtime"
    TAKES_BF16 = False
    KEEPS_NAN = True

    @staticmethod
    def runtime() -> Any:
        return onnxruntime()

    @staticmethod
    def opened(
        runtime: Any,
        model: bytes,
        weights: Arrays,
        threads: int,
        *,
        bf16: bool,  # noqa: ARG004
    ) -> tuple[list[str], Run]:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        # Its threads wait at work for the next operator, and by default for so long after the last one that
        # what torch does next takes twice as long. This is as fast for the step; older releases ignore it.
        options.add_session_config_entry("session.intra_op.spin_duration_us", "200")
        options.log_severity_level = 3  # errors: it warns of each node that it folds no constant into
        values = [runtime.OrtValue.ortvalue_from_numpy(each) for each in weights.values()]
        options.add_external_initializers(list(weights), values)
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        never_end_in_forks(session)

        def run(feed: Arrays, meanwhile: Callable[[], None], _held: Any = values) -> list[Any]:
            # Held, as it reads weights where they lie: without them the process dies.
            meanwhile()
            found: list[Any] = session.run(None, feed)
            return found

        return [each.name for each in session.get_inputs()], run
