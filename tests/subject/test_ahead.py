"""What ONNX Runtime computes of weights alone: once for each session, and of that session's weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lerobot_policy_act_compiled import ahead, onnx_graph, patch_policy
from lerobot_policy_act_compiled.onnx_graph import Graph, graph_of, random_observations
from lerobot_policy_act_compiled.onnxruntime_session import OnnxRuntime

pytestmark = pytest.mark.skipif(
    onnx_graph.missing() is not None, reason="needs the extra cpu: onnxruntime and onnx"
)


@pytest.fixture(scope="module")
def policy(tiny_policy: Callable[..., Any]) -> Any:
    return patch_policy(tiny_policy()).eval()


@pytest.fixture(scope="module")
def graph(policy: Any) -> Graph:
    return graph_of(policy, random_observations(policy, 2))


def of_weights_alone(graph: Graph) -> list[str]:
    """The types of the nodes that would give the same at every step."""
    import onnx

    content = onnx.load_model_from_string(graph.model).graph
    known = {each.name for each in content.initializer}
    found = []
    for node in content.node:
        if known.issuperset(filter(None, node.input)):
            known.update(node.output)
            found.append(node.op_type)
    return found


def test_a_step_computes_nothing_of_weights_alone(graph: Graph) -> None:
    found = of_weights_alone(graph)
    assert found  # they are told apart at all: weights are laid out in the graph
    assert set(found) <= ahead.LAYOUT
    assert graph.computed
    assert len(graph.ahead) > 0


def test_a_session_computes_them_of_its_own_weights(policy: Any, graph: Graph) -> None:
    observations = random_observations(policy, 2)
    other = copy.deepcopy(policy)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in other.model.decoder.layers[0].self_attn.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator))
        before, after = (each.predict_action_chunk(dict(observations)) for each in (policy, other))
    assert (before - after).abs().max() > 1e-2
    for each, expected in ((policy, before), (other, after)):
        assert (OnnxRuntime(graph, each, threads=1)(observations) - expected).abs().max() < 1e-5


def test_a_graph_without_its_part_ahead_is_not_taken(policy: Any, graph: Graph) -> None:
    with pytest.raises(ValueError, match="does not take the graph"):
        OnnxRuntime(Graph(graph.model, graph.weights), policy, threads=1)


def test_where_nothing_is_computed_of_weights_alone_there_is_no_such_part() -> None:
    import onnx_ir

    weight, seen = (onnx_ir.Value(name=name) for name in ("weight", "seen"))
    node = onnx_ir.Node("", "Mul", inputs=[seen, weight])
    graph = onnx_ir.Graph([seen, weight], node.outputs, nodes=[node], opset_imports={"": 18})
    assert ahead.split_off(graph, [weight]) == (None, [])


def test_what_is_drawn_anew_at_each_step_is_not_computed_ahead() -> None:
    import onnx_ir
    from onnx import helper

    def tensor(name: str) -> Any:
        return helper.make_tensor_value_info(name, 1, [2])

    nodes = [
        helper.make_node("RandomNormalLike", ["w"], ["noise"]),
        helper.make_node("Mul", ["w", "w"], ["square"]),
        helper.make_node("Sum", ["x", "noise", "square"], ["y"]),
    ]
    made = helper.make_graph(nodes, "g", [tensor("x"), tensor("w")], [tensor("y")])
    whole = onnx_ir.serde.deserialize_model(helper.make_model(made)).graph
    ahead_of, wanted = ahead.split_off(whole, [value for value in whole.inputs if value.name == "w"])
    assert ahead_of is not None
    assert [value.name for value in wanted] == ["square"]
    assert [node.op_type for node in ahead_of] == ["Mul"]
