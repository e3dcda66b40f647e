"""What of a policy no graph can hold, told in one line where Dynamo would write a page."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

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


def _classes(module: str, *names: str) -> tuple[Any, ...]:
    """Those that there are in ``module``; none where nobody has imported it, so no policy has any."""
    found = sys.modules.get(module)
    return tuple(getattr(found, name) for name in names if hasattr(found, name))
