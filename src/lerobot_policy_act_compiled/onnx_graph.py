"""ACT's action chunk as an ONNX graph without weights; a session of a runtime brings a policy's own.

A graph depends on architecture, shapes and the releases that made it. Its weights are left out and carry
their names in the state dict, so one graph serves every policy of an architecture: another checkpoint, or the
same policy after a training step, needs a session and no export.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from torch import Tensor, nn

from .ahead import split_off
from .garbage_collector import collector_held_back
from .inductor import no_other_compiles
from .loss import with_image_list
from .onnx_operators import sources_left_unread

ENGINES = ("openvino", "onnxruntime")  # each is a compile mode; see compiling for which auto takes
EXPORTS = ("onnxscript", "onnx_ir", "onnx", "platformdirs")
EXTRA = {"onnxruntime": "cpu", "openvino": "openvino"}
AHEAD = "ahead/"  # no name of a state dict has a slash


def missing(engine: str = "onnxruntime") -> str | None:
    """The first package that is not installed; None where the engine can run."""
    return next((name for name in (engine, *EXPORTS) if find_spec(name) is None), None)


def to_install(engine: str = "onnxruntime") -> str:
    """What a user types to have it."""
    return f"pip install 'lerobot_policy_act_compiled[{EXTRA[engine]}]'"


class Chunk(nn.Module):
    """A policy's action chunk as a module of its observations by name, which is what torch.export takes."""

    def __init__(self, policy: ACTPolicy, names: list[str]) -> None:
        super().__init__()
        self.model, self.config, self.names = policy.model, policy.config, names

    def forward(self, *values: Tensor) -> Tensor:
        observations = dict(zip(self.names, values, strict=True))
        return self.model(with_image_list(self.config, observations))[0]  # type: ignore[no-any-return,unused-ignore]


def random_observations(policy: ACTPolicy, batch_size: int, *, raw: bool = False) -> dict[str, Tensor]:
    """Observations of the configuration's shapes, the same at every call; ``raw``: frames as a camera's."""
    generator = torch.Generator().manual_seed(batch_size)
    found = {}
    for name, feature in policy.config.input_features.items():
        if raw and name in policy.config.image_features:
            channels, height, width = feature.shape
            shape = batch_size, height, width, channels
            found[name] = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        else:
            found[name] = torch.randn(batch_size, *feature.shape, generator=generator)
    return found


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@dataclass(frozen=True)
class Graph:
    """An ONNX graph of observations by name to the action chunk.

    Args:
        model: the ONNX file's bytes; its weights are external, and there is no such file.
        weights: their names in ``policy.model.state_dict()``; AHEAD stands before what ``ahead`` computes.
        ahead: another ONNX file's bytes, with weights as inputs; empty if nothing depends on weights alone.
    """

    model: bytes
    weights: tuple[str, ...]
    ahead: bytes = b""

    @property
    def computed(self) -> tuple[str, ...]:
        """The names among ``weights`` that ``ahead`` computes, in its order."""
        return tuple(name for name in self.weights if name.startswith(AHEAD))


def exported(module: nn.Module, observations: dict[str, Tensor], **options: Any) -> Any:
    """``torch.onnx.export`` of ``module(*observations)``, unoptimised: its initializers are the weights.

    torch puts placeholders in the place of weights meanwhile, so nobody else may call ``module``.
    """
    with torch.no_grad(), quiet(), sources_left_unread():
        return torch.onnx.export(
            module,
            tuple(observations.values()),
            dynamo=True,
            optimize=False,
            verbose=False,
            input_names=list(observations),
            output_names=["action"],
            **options,
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' warnings and progress, of which nothing concerns a robot.

    Both are the whole process's: one thread at a time, or one would keep what the other has set.
    """
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    with no_other_compiles(), warnings.catch_warnings():
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@collector_held_back()
def graph_of(policy: ACTPolicy, observations: dict[str, Tensor]) -> Graph:
    """The graph of ``policy``'s action chunk for observations of these shapes."""
    import onnx_ir
    from onnx_ir.passes.common import ShapeInferencePass
    from onnxscript import optimizer

    with torch.autocast("cpu", enabled=False):  # the graph is fp32's, whatever it is to be computed in
        program = exported(copy.deepcopy(Chunk(policy, list(observations))).eval(), observations)
    model, graph = program.model, program.model.graph
    values = {name: graph.initializers.pop(f"model.{name}", None) for name in policy.model.state_dict()}
    brought = {name: value for name, value in values.items() if value is not None}
    # They are inputs meanwhile, so that nothing is computed from their values.
    graph.inputs.extend(brought.values())
    for name, value in brought.items():
        value.name, value.const_value = name, None
    with quiet():
        # Not ``program.optimize()``: of a graph without weights its rewriting gains next to nothing.
        ShapeInferencePass()(model)
        optimizer.fold_constants(model)
        optimizer.remove_unused_nodes(model)
        ahead, computed = split_off(graph, list(brought.values()))
        for value in computed:
            name = AHEAD + value.name
            brought[name] = onnx_ir.Value(name=name, type=value.type, shape=value.shape)
            value.replace_all_uses_with(brought[name])
        optimizer.remove_unused_nodes(model)
    graph.inputs[:] = [value for value in graph.inputs if value.name not in brought]
    weights = [name for name, value in brought.items() if value.uses()]
    for name in weights:
        value = brought[name]
        # In a file, which does not exist: each session brings the weights of its policy.
        value.const_value = onnx_ir.ExternalTensor(
            "weights", 0, None, value.dtype, shape=value.shape, name=name
        )
        graph.initializers[name] = value
    once = b""
    if ahead is not None:
        once = onnx_ir.to_proto(onnx_ir.Model(ahead, ir_version=model.ir_version)).SerializeToString()
    return Graph(onnx_ir.to_proto(model).SerializeToString(), tuple(weights), once)
