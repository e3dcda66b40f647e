"""A subject that is slower by a known share: real extra work, calibrated, put into its source.

The work is an operator of its own that multiplies small matrices on all threads; Inductor cannot look
into it or remove it, and its time is spent computing, so frequency, caches and cores feel it as they
would feel any change. It stands in the model's forward pass, eager and compiled alike, and in no export: in
batches, as the call of a single product costs 8 µs in eager and 16 in compiled code.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from ...repository import PACKAGE
from ...suite.workloads import Case
from ..cases import StepTime
from ..sides import Side, edited

MODULE, UNITS = "_ballast.py", "_ballast.json"
TARGET = "modeling_act_compiled.py"
# Runs when the subject is imported: every model of ours does its step, then the extra work.
HOOK = """

from ._ballast import install as _install_ballast

_install_ballast(globals())
"""
SOURCE = '''"""Extra work, for the campaign that measures what the gate catches."""

import json
from functools import partial
import time
from pathlib import Path

import torch

UNITS = json.loads((Path(__file__).parent / "_ballast.json").read_text())
_MATRICES = torch.full((64, 48, 48), 1.0 / 48)
_OUT = torch.empty_like(_MATRICES)


def work(units):
    """As much computing as was calibrated: one unit is 64 products of small matrices, about 0.1 ms."""
    for _ in range(units):
        torch.bmm(_MATRICES, _MATRICES, out=_OUT)


def seconds_per_unit(units=500):
    """Time of one unit on this machine."""
    work(units)
    start = time.perf_counter()
    work(units)
    return (time.perf_counter() - start) / units


@torch.library.custom_op("act_ballast::carry", mutates_args=())
def carry(tensor: torch.Tensor, key: str) -> torch.Tensor:
    work(UNITS.get(key, 0))
    return tensor.clone()


@carry.register_fake
def _(tensor, key):
    return torch.empty_like(tensor)


def key_of(images, training):
    mode = "compiled" if torch.compiler.is_compiling() else "eager"
    return f"{images[0].shape[-2]}-{'training' if training else 'inference'}-{mode}"


def exporting():
    """Whether torch.export traces the model, and not torch.compile, which also says that it exports."""
    says_so = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # from 2.7 on
    return says_so() and not torch.compiler.is_dynamo_compiling()


def install(names):
    """Wrap ``act_forward``: the state goes through the operator, and keeps its value."""
    forward = names["act_forward"]

    def with_ballast(self, batch):
        if exporting():  # no engine has the operator
            return forward(self, batch)
        images = batch["observation.images"]
        state = carry(batch["observation.state"], key_of(images, self.training))
        return forward(self, {**batch, "observation.state": state})

    names["act_forward"] = with_ballast
    for value in list(names.values()):
        if isinstance(value, type) and value.__dict__.get("forward") is forward:
            value.forward = with_ballast
'''


def can_be_slowed(timed: StepTime) -> bool:
    """Whether extra work reaches it: not compiling, and not ``auto``, whose engine has no such operator."""
    return timed.variant not in ("compile", "auto")


def key(case: Case) -> str:
    """What tells this case's steps from others inside the model."""
    from ...suite.workloads import WORKLOADS

    phase = "training" if case.phase == "training" else "inference"
    return f"{WORKLOADS[case.workload].height}-{phase}-{case.variant}"


def inject(root: Path, units: dict[str, int]) -> None:
    """Put ``units`` of extra work per step, by ``key``, into the package in the checkout ``root``."""
    package = root / PACKAGE
    (package / MODULE).write_text(SOURCE, encoding="utf-8")
    (package / UNITS).write_text(json.dumps(units), encoding="utf-8")
    with (package / TARGET).open("a", encoding="utf-8") as file:
        file.write(HOOK)


def slowed(side: Side, into: Path, units: dict[str, int]) -> Side:
    """A copy of ``side`` that does the extra work, as head."""
    return edited(side, into, partial(inject, units=units))
