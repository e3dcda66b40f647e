"""Every optimisation of the subject, and the edit that takes it back, for ``effects``."""

from __future__ import annotations

from dataclasses import dataclass

from ..edits import (
    ATTENTION_WEIGHTS_ASKED_FOR,
    CAMERAS_ONE_BY_ONE,
    LAYERS,
    PRODUCTS_BY_MKL,
    TOKENS_UNROLLED,
    Edit,
)
from ..suite.workloads import Case


@dataclass(frozen=True)
class Optimisation:
    """One thing the subject does otherwise than LeRobot.

    Attributes:
        name: what it does, as the table says it.
        taken_back: the edit that takes it back and leaves everything else.
        cases: where it shows, as ``str(Case)`` gives it.
    """

    name: str
    taken_back: Edit
    cases: tuple[str, ...]

    def measured(self) -> list[Case]:
        return [Case(*case.split("-")) for case in self.cases]


COMPILED, EAGER = "aloha-inference-compiled-fp32-cpu", "aloha-inference-eager-fp32-cpu"
FASTEST, FASTEST_BF16 = "aloha-inference-frozen-fp32-cpu", "aloha-inference-frozen-bf16-cpu"
TRAINING, FASTEST_TRAINING = "pusht-training-compiled-fp32-cpu", "pusht-training-auto-fp32-cpu"
ON_LARGE_IMAGES = "aloha-training-auto-fp32-cpu"

OPTIMISATIONS = (
    Optimisation("tokens are tensors, not a list of one token a pixel", TOKENS_UNROLLED, (COMPILED, EAGER)),
    Optimisation(
        "cameras are one batch inside a graph",
        CAMERAS_ONE_BY_ONE,
        ("aloha_3cam-inference-compiled-fp32-cpu",),
    ),
    Optimisation("attention weights are not asked for", ATTENTION_WEIGHTS_ASKED_FOR, (COMPILED, EAGER)),
    Optimisation(
        "frozen batch norm is one operation",
        Edit("if not one_operation or (", "if True or (", LAYERS),
        (COMPILED, EAGER),
    ),
    Optimisation(
        "the position table is made once in eager mode",
        Edit("in_graph = torch.compiler.is_compiling() and not constant", "in_graph = True"),
        (EAGER,),
    ),
    Optimisation(
        "eval mode is set by a loop inside a graph",
        Edit("if torch.compiler.is_compiling() and not GRAPHS_HOLD_DICTS:", "if True:", "eval_mode.py"),
        (COMPILED,),
    ),
    Optimisation(
        "the weights are constants of the graph",
        Edit(
            'constants = acts and mode in ("frozen", *ENGINES)',
            "constants = False",
            "compiled_policy.py",
        ),
        (FASTEST, FASTEST_BF16),
    ),
    Optimisation(
        "the position table is a constant of that graph",
        Edit("constant = in_frozen_graph() and torch.compiler.is_dynamo_compiling()", "constant = False"),
        (FASTEST,),
    ),
    Optimisation(
        "bf16 stays bf16 from one convolution to the next in it",
        Edit(
            "x.dtype != self.weight.dtype and not in_frozen_graph()", "x.dtype != self.weight.dtype", LAYERS
        ),
        (FASTEST_BF16,),
    ),
    Optimisation(
        "of the VAE encoder's last layer a graph computes one row",
        Edit("if not (torch.compiler.is_compiling() and plain and", "if not (False and plain and", LAYERS),
        (TRAINING,),
    ),
    Optimisation(
        "the decoder's first self-attention is one for all samples",
        Edit("        batch_size = 1\n", "        pass\n", LAYERS),
        (TRAINING,),
    ),
    Optimisation(
        "dropout's masks come from torch's generator",
        Edit(
            "return torch.compiler.is_compiling() and training and",
            "return False and training and",
            "dropout.py",
        ),
        (TRAINING,),
    ),
    Optimisation(
        "a mask takes 16 random bits an element",
        Edit("if with_16_bit_masks() and 0 < dropped", "if False and 0 < dropped", "dropout.py"),
        (FASTEST_TRAINING,),
    ),
    Optimisation(
        "relu and dropout are one mask",
        Edit("if layer.activation is F.relu:", "if False:", LAYERS),
        (FASTEST_TRAINING,),
    ),
    Optimisation(
        "max pooling is torch's own, with its backward pass",
        Edit("if not _better_here(backbone, images):", "if True:", "pooling.py"),
        (ON_LARGE_IMAGES,),
    ),
    Optimisation(
        "products are oneDNN's where MKL has no AVX-512",
        PRODUCTS_BY_MKL,
        (FASTEST_TRAINING, ON_LARGE_IMAGES),
    ),
    Optimisation(
        "AdamW is torch's fused one",
        Edit('fused = _device(self) in ("cpu", "cuda")', "fused = False", "compiled_policy.py"),
        (FASTEST_TRAINING,),
    ),
)
