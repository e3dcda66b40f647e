"""What the extras ``cpu`` and ``openvino`` add to an installation."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lerobot_policy_act_compiled.onnx_graph import missing

PACKAGE = "lerobot_policy_act_compiled"
LARGEST = 150e6  # bytes, without what Python compiles when it is installed; TORCH_COMPILE_ACT.md says so
OF_OPENVINO = 190e6  # bytes of it beside that


def needed_by(name: str, extra: str = "") -> set[str]:
    """What ``name`` itself asks for; of an extra only what it adds."""
    needed = [Requirement(text) for text in requires(name) or ()]
    without = {each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})}
    with_it = {each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": extra})}
    return {canonicalize_name(each) for each in (with_it - without if extra else without)}


def closed(names: set[str]) -> set[str]:
    """``names`` and all that they need, as far as it is installed."""
    found: set[str] = set()
    while names:
        name = names.pop()
        with suppress(PackageNotFoundError):
            names |= needed_by(name) - found
            found.add(name)
    return found


def size(name: str) -> int:
    files = distribution(name).files or ()
    places = (Path(file.locate()) for file in files if file.suffix != ".pyc")
    return sum(place.stat().st_size for place in places if place.is_file())


@pytest.mark.skipif(missing() is not None, reason="needs the extra cpu: onnxruntime and onnx")
def test_the_extra_cpu_is_small() -> None:
    added = closed(needed_by(PACKAGE, "cpu")) - closed({"torch", "lerobot"})
    sizes = {name: size(name) for name in sorted(added)}
    print({name: f"{found / 1e6:.1f} MB" for name, found in sizes.items()})
    assert {"onnx", "onnxruntime"} <= set(sizes)
    assert 20e6 < sum(sizes.values()) < LARGEST


@pytest.mark.skipif(
    missing("openvino") is not None, reason="needs the extra openvino; nox -s openvino has it"
)
def test_the_extra_openvino_adds_what_the_guide_says() -> None:
    added = closed(needed_by(PACKAGE, "openvino")) - closed(needed_by(PACKAGE, "cpu") | {"torch", "lerobot"})
    sizes = {name: size(name) for name in sorted(added) if name != canonicalize_name(PACKAGE)}
    print({name: f"{found / 1e6:.1f} MB" for name, found in sizes.items()})
    assert set(sizes) >= {"openvino"}
    assert 100e6 < sum(sizes.values()) < OF_OPENVINO
