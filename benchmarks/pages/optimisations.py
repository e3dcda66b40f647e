"""Every optimisation of the subject, and the edit that takes it back, for ``effects``."""

from __future__ import annotations

from dataclasses import dataclass

from ..gate.proof.mutants import LAYERS, MODEL, Edit
from ..suite.workloads import Case


@dataclass(frozen=True)
class Optimisation:
    """One thing the subject does otherwise than LeRobot.

    Attributes:
        name: what it does, as the table says it.
        old, new, file: the edit of ``file`` that takes it back and leaves everything else; see ``Edit``.
        cases: where it shows, as ``str(Case)`` gives it.
    """

    name: str
    old: str
    new: str
    cases: tuple[str, ...]
    file: str = MODEL

    @property
    def taken_back(self) -> Edit:
        return Edit(self.name, self.old, self.new, "", self.file)

    def measured(self) -> list[Case]:
        return [Case(*case.split("-")) for case in self.cases]


COMPILED, EAGER = "aloha-inference-compiled-fp32-cpu", "aloha-inference-eager-fp32-cpu"
FASTEST, FASTEST_BF16 = "aloha-inference-auto-fp32-cpu", "aloha-inference-auto-bf16-cpu"
TRAINING, FASTEST_TRAINING = "pusht-training-compiled-fp32-cpu", "pusht-training-auto-fp32-cpu"

OPTIMISATIONS = (
    Optimisation(
        "tokens are tensors, not a list of one token a pixel",
        "return torch.cat([torch.stack(vectors), *tokens]), torch.cat(positions)",
        "rows = [row for part in (torch.stack(vectors), *tokens) for row in part]\n"
        "    return torch.stack(rows), torch.cat(positions)",
        (COMPILED, EAGER),
    ),
    Optimisation(
        "cameras are one batch inside a graph",
        "if torch.compiler.is_compiling() and all(",
        "if False and all(",
        ("aloha_3cam-inference-compiled-fp32-cpu",),
    ),
    Optimisation(
        "attention weights are not asked for",
        "need_weights=False",
        "need_weights=True",
        (COMPILED, EAGER),
        LAYERS,
    ),
    Optimisation(
        "frozen batch norm is one operation",
        "if not one_operation or (",
        "if True or (",
        (COMPILED, EAGER),
        LAYERS,
    ),
    Optimisation(
        "the position table is made once in eager mode",
        "in_graph = torch.compiler.is_compiling() and not constant",
        "in_graph = True",
        (EAGER,),
    ),
    Optimisation(
        "eval mode is set by a loop inside a graph",
        "if not (torch.compiler.is_compiling() and GRAPHS_HOLD_DICTS):",
        "if True:",
        (COMPILED,),
        "eval_mode.py",
    ),
    Optimisation(
        "the weights are constants of the graph",
        '{"cpu": "frozen", ',
        '{"cpu": "default", ',
        (FASTEST, FASTEST_BF16),
        "compiling.py",
    ),
    Optimisation(
        "the position table is a constant of that graph",
        "constant = in_frozen_graph() and torch.compiler.is_dynamo_compiling()",
        "constant = False",
        (FASTEST,),
    ),
    Optimisation(
        "bf16 stays bf16 from one convolution to the next in it",
        "x.dtype != self.weight.dtype and not in_frozen_graph()",
        "x.dtype != self.weight.dtype",
        (FASTEST_BF16,),
        LAYERS,
    ),
    Optimisation(
        "of the VAE encoder's last layer a graph computes one row",
        "if not (torch.compiler.is_compiling() and plain and",
        "if not (False and plain and",
        (TRAINING,),
        LAYERS,
    ),
    Optimisation(
        "the decoder's first self-attention is one for all samples",
        "        batch_size = 1\n",
        "        pass\n",
        (TRAINING,),
        LAYERS,
    ),
    Optimisation(
        "dropout's masks come from torch's generator",
        "return torch.compiler.is_compiling() and training and",
        "return False and training and",
        (TRAINING,),
        "dropout.py",
    ),
    Optimisation(
        "a mask takes 16 random bits an element",
        "if with_short_numbers() and 0 < dropped",
        "if False and 0 < dropped",
        (FASTEST_TRAINING,),
        "dropout.py",
    ),
    Optimisation(
        "AdamW is torch's fused one",
        'fused = _device(self) in ("cpu", "cuda")',
        "fused = False",
        (FASTEST_TRAINING,),
        "compiled_policy.py",
    ),
)
