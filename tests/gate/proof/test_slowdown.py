"""The campaign's extra work is in what torch compiles, and in nothing that is exported for an engine."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gate.proof.slowdown import MODULE, SOURCE, UNITS
from benchmarks.suite.compile_counters import CapturingBackend


def test_extra_work_is_compiled_and_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / MODULE).write_text(SOURCE)
    (tmp_path / UNITS).write_text(json.dumps({}))
    names: dict[str, Any] = {"act_forward": lambda _, batch: 2 * batch["observation.state"]}
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module(Path(MODULE).stem).install(names)
    image, state = torch.zeros(1, 3, 8, 8), torch.ones(1, 4)

    class Model(torch.nn.Module):
        def forward(self, image: torch.Tensor, state: torch.Tensor) -> Any:
            batch = {"observation.images": [image], "observation.state": state}
            return names["act_forward"](self, batch)

    backend = CapturingBackend()
    assert torch.compile(Model().eval(), backend=backend, fullgraph=True)(image, state).sum() == 8
    assert any("act_ballast" in name for name in backend.names)
    exported = torch.export.export(Model().eval(), (image, state), strict=False)
    assert "act_ballast" not in str(exported.graph)
    assert "mul" in str(exported.graph)
