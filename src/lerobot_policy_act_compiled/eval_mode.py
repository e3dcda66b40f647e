"""``policy.eval()``, which LeRobot's ``predict_action_chunk`` calls each time."""

from __future__ import annotations

import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from torch import nn

from .releases import GRAPHS_HOLD_DICTS


@torch.compiler.assume_constant_result
def _has_its_own_train(cls: type[nn.Module]) -> bool:
    # What torch.jit makes keeps the flag in C++, where ``train`` sets it.
    return cls.train is not nn.Module.train or issubclass(cls, torch.jit.ScriptModule)


def _set_eval(module: nn.Module) -> None:
    if _has_its_own_train(type(module)):
        module.train(False)
        return
    module.__dict__["training"] = False
    for child in module._modules.values():
        if child is not None:
            _set_eval(child)


def policy_eval(self: ACTPolicy) -> ACTPolicy:
    """What ``nn.Module.eval`` does, with less to trace and to do at each call.

    LeRobot's ``predict_action_chunk`` calls it, and ACT has 182 modules: to trace their generators and
    ``__setattr__`` took Dynamo 2 of the 5.5 s that aloha's graph took (torch 2.11), and in front of a short
    prediction the time that torch's own takes shows. The flags are set and not read, so that a call in train
    mode needs no graph of its own.
    """
    if torch.compiler.is_compiling() and not GRAPHS_HOLD_DICTS:
        super(ACTPolicy, self).eval()
    else:
        _set_eval(self)
    return self
