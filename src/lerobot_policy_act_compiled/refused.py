"""What of a policy no graph can hold, told in one line where Dynamo would write a page.

And what only a graph with torch's guards can hold: one without them would not see that it has changed.
"""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from .weights import can_be_watched

FSDP = (
    "compile_model=True needs a policy that FSDP shards as a whole, and here FSDP wraps {name}, whose hooks "
    "no graph can hold: set compile_model=False, use DistributedDataParallel, or wrap no layers"
)
LORA = (
    "compile_model=True cannot compile peft's LoRA of {name}, which rewrites the attention's weights at "
    "every call: set compile_model=False, or target Linear layers (linear1, linear2, action_head)"
)


def refuse(policy: nn.Module) -> None:
    """Raise ValueError where a module of ``policy`` cannot be part of a graph.

    Its own hooks, as of FSDP2 on the policy itself, run outside of the graph.
    """
    sharded = _classes("torch.distributed.fsdp", "FSDPModule", "FullyShardedDataParallel")
    rewritten = _classes("peft.tuners.lora.layer", "MultiheadAttention")
    for name, module in policy.named_modules():
        if isinstance(module, sharded) and module is not policy:
            raise ValueError(FSDP.format(name=name))
        if isinstance(module, rewritten):
            raise ValueError(LORA.format(name=name))


def needs_guards(policy: nn.Module) -> str | None:
    """Why a graph without torch's guards cannot stand for ``policy``; None: it can.

    It would see changes of weights (``weights``), and no other: peft puts another adapter in force, or none,
    by attributes of its modules.
    """
    if not can_be_watched(policy):
        return "the weights are no plain tensors, or were made in inference mode"
    adapters = _classes("peft.tuners.tuners_utils", "BaseTunerLayer")
    for module in policy.modules():
        if module._forward_hooks or module._forward_pre_hooks:
            return "a module has hooks, which no graph would call"
        if isinstance(module, adapters):
            return "peft can switch its adapters at any time; merge_and_unload() makes them plain weights"
    return None


def _classes(module: str, *names: str) -> tuple[Any, ...]:
    """Those that there are in ``module``; none where nobody has imported it, so no policy has any."""
    found = sys.modules.get(module)
    return tuple(getattr(found, name) for name in names if hasattr(found, name))
