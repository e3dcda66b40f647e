"""Documents with a place for every table, and no records: what is measured there is kept and drawn there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import benchmarks.pages.__main__ as pages
from benchmarks.markdown import markers
from benchmarks.pages import asking, limits, ratios, records

from ..gate.conftest import repository as repository  # a fixture, for effects

ENVIRONMENT = {
    "threads": 2,
    "cpu": "AVX512",
    "torch": "2.11.0",
    "lerobot": "0.6.1",
    "python": "3.12.1",
    "flags": "fp32",
}
PLACES = {
    "README.md": ["ratios"],
    "TORCH_COMPILE_ACT.md": [
        "effects",
        *(f"{table} {machine}" for table in ("limits", "breakdown") for machine in ("cpu AVX512", "cuda")),
        "peers cpu AVX512",
    ],
    "docs/compatibility.md": ["compat"],
}


def with_places(root: Path) -> None:
    """Documents that have markers and no figures."""
    for name, places in PLACES.items():
        (root / name).parent.mkdir(exist_ok=True)
        text = "".join("\n".join([*markers(place), ""]) for place in places)
        (root / name).write_text(f"before\n{text}after\n")


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory with the documents, which the pages take for the repository."""
    with_places(tmp_path)
    monkeypatch.setattr(records, "RECORDED", tmp_path / "recorded")
    monkeypatch.setattr(records, "subject", lambda _: "abc")
    monkeypatch.setattr(ratios, "subject", lambda _: "abc")
    for module in (pages, asking, ratios, limits):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Answer requests by a function of ``request`` and ``inductor_cache`` instead of by processes."""
    return lambda answers: monkeypatch.setattr(asking, "launch", answers)
