"""Make LeRobot's own ACT compile-friendly: one policy object, or every one in this process."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, TypeVar

from lerobot.policies.act.modeling_act import ACTPolicy
from torch import nn

from .modeling_act_compiled import COMPILE_FRIENDLY, make_compile_friendly

log = logging.getLogger(__name__)

Policy = TypeVar("Policy", bound=ACTPolicy)

_ABSENT = object()
_saved: dict[tuple[type[nn.Module], str], Any] = {}  # what the patched names held; empty: not patched


def patch_policy(policy: Policy) -> Policy:
    """Make this policy compile-friendly and return it: the same object, weights untouched.

    Subclasses of ACTPolicy and ACT keep their own methods; what these inherit, or reach by
    ``super()``, becomes ours.

    Raises:
        ValueError: ``policy`` is not a LeRobot ACTPolicy, or is wrapped by torch.compile.
    """
    if not isinstance(policy, ACTPolicy):
        kind = type(policy).__name__
        if isinstance(getattr(policy, "_orig_mod", None), ACTPolicy):
            raise ValueError(f"patch_policy got an {kind}: patch the policy first, then torch.compile it")
        raise ValueError(f"patch_policy needs a LeRobot ACTPolicy (policy type 'act'), not {kind}")
    make_compile_friendly(policy)
    policy.model = policy.model  # a model compiled before now gets the clean state_dict too
    return policy


class Patch:
    """What ``patch_lerobot()`` returns: as a context manager it takes back what that call changed."""

    def __init__(self, *, made_here: bool) -> None:
        self._made_here = made_here

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._made_here:
            unpatch_lerobot()


def patch_lerobot() -> Patch:
    """Make every ACTPolicy and ACT of this process compile-friendly, whether made before or after.

    Calling it again changes nothing. ``with patch_lerobot(): ...`` ends the patch with the
    block, unless it was in force before.
    """
    if _saved:
        return Patch(made_here=False)
    for stock, friendly in COMPILE_FRIENDLY.items():
        for name in ("forward", "eval", "__setattr__"):
            if name in vars(friendly):
                _saved[stock, name] = vars(stock).get(name, _ABSENT)
                setattr(stock, name, vars(friendly)[name])
    return Patch(made_here=True)


def unpatch_lerobot() -> None:
    """Put LeRobot back exactly as it was before ``patch_lerobot()``; without a patch, do nothing.

    Policies made by ``patch_policy`` or as ``act_compiled`` stay compile-friendly.
    """
    for (stock, name), original in _saved.items():
        if vars(stock).get(name) is not vars(COMPILE_FRIENDLY[stock])[name]:
            log.warning("%s.%s was changed by somebody else while patched; it is reset", stock.__name__, name)
        if original is _ABSENT:
            delattr(stock, name)
        else:
            setattr(stock, name, original)
    _saved.clear()
