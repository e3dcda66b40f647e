"""What an ONNX graph computes of weights alone, as a graph of its own: it runs once for each session.

ONNX Runtime lays weights out once, but computes with them at every step. In ACT's graph that is the first
decoder layer's self-attention, whose input is zeros, and the queries of the attention after it.
"""

from __future__ import annotations

from typing import Any

# ONNX Runtime itself does these ahead where the input is a weight, and keeps the result anyway.
LAYOUT = {"Constant", "Identity", "Reshape", "Split", "Squeeze", "Transpose", "Unsqueeze"}
# Random numbers: drawn at every step, though they depend on no observation.
DRAWN = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


def split_off(graph: Any, weights: list[Any]) -> tuple[Any | None, list[Any]]:
    """The part of ``graph`` that computes with ``weights`` and constants alone.

    Args:
        graph: an ``onnx_ir.Graph``, which is left as it is.
        weights: those of its values that are weights.

    Returns:
        a graph of the weights that it needs, None where there is nothing to compute; the values of ``graph``
        that it puts out, in their order.
    """
    from onnx_ir.convenience import extract

    known = {*weights, *graph.initializers.values()}
    computed: set[Any] = set()
    wanted: dict[Any, None] = {}
    for node in graph:
        inputs = [value for value in node.inputs if value is not None]
        nested = any(
            attribute.is_ref() or "GRAPH" in attribute.type.name for attribute in node.attributes.values()
        )
        drawn = node.op_type in DRAWN
        if nested or drawn or not known.issuperset(inputs):
            wanted.update((value, None) for value in inputs if value in computed)
            continue
        known.update(node.outputs)
        if node.op_type not in LAYOUT or not computed.isdisjoint(inputs):
            computed.update(node.outputs)
    if not wanted:
        return None, []
    ahead = extract(graph, weights, list(wanted))
    used = [value for value in ahead.inputs if value.uses()]
    ahead.inputs.clear()
    ahead.inputs.extend(used)
    return ahead, list(wanted)
