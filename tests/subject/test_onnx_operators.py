"""An export reads no operator's source for what is known without it, and the exporter sees no difference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from lerobot_policy_act_compiled import onnx_graph
from lerobot_policy_act_compiled.onnx_operators import sources_left_unread

pytestmark = pytest.mark.skipif(
    onnx_graph.missing() is not None, reason="needs the extra cpu: onnxruntime and onnx"
)


@pytest.fixture
def operators() -> list[Any]:
    """Those whose source says what they are."""
    from onnxscript.function_libs.torch_lib import ops
    from onnxscript.function_libs.torch_lib.registration import default_registry
    from onnxscript.values import TracedOnnxFunction

    assert ops  # its import registers them
    each = [
        one for overloads in default_registry.values() for one in (*overloads.overloads, *overloads.complex)
    ]
    return [one for one in each if isinstance(one, TracedOnnxFunction)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the operators whose source is read."""
    from onnxscript.values import TracedOnnxFunction

    found: list[str] = []
    whole = TracedOnnxFunction.function_ir

    def noted(operator: Any) -> Any:
        found.append(operator.name)
        return whole.fget(operator)

    monkeypatch.setattr(TracedOnnxFunction, "function_ir", property(noted))
    yield found
    assert vars(TracedOnnxFunction)["function_ir"].fget is noted, "it is as it was"


def test_an_export_reads_none(read: list[str]) -> None:
    program = onnx_graph.exported(torch.nn.Linear(2, 2), {"x": torch.zeros(1, 2)})
    assert program.model.graph.outputs
    assert read == []


def test_every_operator_says_what_it_said(operators: list[Any]) -> None:
    domains = [one.function_ir.domain for one in operators]
    signature = operators[0].function_ir.attrs
    with sources_left_unread():
        assert [one.function_ir.domain for one in operators] == domains
        assert [str(each) for each in operators[0].function_ir.attrs] == [str(each) for each in signature]
        with pytest.raises(AttributeError, match="nonesuch"):
            _ = operators[0].function_ir.nonesuch
    assert len(domains) > 100


def test_what_fails_leaves_it_as_it_was(read: list[str], operators: list[Any]) -> None:
    with pytest.raises(ZeroDivisionError), sources_left_unread():
        raise ZeroDivisionError
    assert operators[0].function_ir.domain
    assert read == [operators[0].name]


def test_an_onnxscript_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxscript.values import TracedOnnxFunction

    monkeypatch.delattr(TracedOnnxFunction, "function_ir")
    with sources_left_unread():
        assert "function_ir" not in vars(TracedOnnxFunction)
