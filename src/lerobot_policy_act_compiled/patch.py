"""Make LeRobot's own ACT compile-friendly: one policy object, or every one in this process."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, TypeVar

from lerobot.policies.act.modeling_act import ACTPolicy
from torch import nn

from . import compiled_policy
from .compiling import Asked
from .configuration_act_compiled import check_mode
from .instruction_sets import try_once
from .kernel_files import few_files
from .modeling_act_compiled import COMPILE_FRIENDLY, make_compile_friendly

log = logging.getLogger(__name__)

METHODS = (
    "forward",
    "predict_action_chunk",
    "get_optim_params",
    "warm_up",
    "compiled_by",
    "eval",
    "__setattr__",
    "__getstate__",
)

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

    def __init__(self, *, made_here: bool, before: Asked | None) -> None:
        self._made_here, self._before = made_here, before

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._made_here:
            unpatch_lerobot()
        else:
            compiled_policy.of_plain_act = self._before


def patch_lerobot(
    compile_mode: str | None = None,
    *,
    compile_artifact: str | None = None,
    compile_fallback: bool = False,
) -> Patch:
    """Make every ACTPolicy and ACT of this process compile-friendly, whether made before or after.

    Calling it again changes nothing, but how policies compile where a ``compile_mode`` is given.
    ``with patch_lerobot(): ...`` takes back with the block what that call has changed.

    Args:
        compile_mode: compile every policy of LeRobot's own type ``act``, as ``act_compiled`` does with this
            mode, one of COMPILE_MODES; type, configuration and checkpoints stay as they are. None: nothing
            compiles by itself.
        compile_artifact: as in ACTCompiledConfig; of one policy, as a directory holds one artifact.
        compile_fallback: as in ACTCompiledConfig.

    Raises:
        ValueError: there is no such mode, or it is missing beside one of the others.
    """
    before = compiled_policy.of_plain_act
    if compile_mode is not None:
        check_mode(compile_mode)
        compiled_policy.of_plain_act = Asked(compile_mode, compile_fallback, compile_artifact)
    elif compile_artifact is not None or compile_fallback:
        raise ValueError("compile_artifact and compile_fallback need a compile_mode, for example 'auto'")
    if _saved:
        return Patch(made_here=False, before=before)
    few_files()
    try_once()
    for stock, friendly in COMPILE_FRIENDLY.items():
        for name in METHODS:
            if name in vars(friendly):
                _saved[stock, name] = vars(stock).get(name, _ABSENT)
                setattr(stock, name, vars(friendly)[name])
    return Patch(made_here=True, before=before)


def unpatch_lerobot() -> None:
    """Put LeRobot back exactly as it was before ``patch_lerobot()``; without a patch, do nothing.

    Policies made by ``patch_policy`` or as ``act_compiled`` stay compile-friendly.
    """
    compiled_policy.of_plain_act = None
    for (stock, name), original in _saved.items():
        if vars(stock).get(name) is not vars(COMPILE_FRIENDLY[stock])[name]:
            log.warning("%s.%s was changed by somebody else while patched; it is reset", stock.__name__, name)
        if original is _ABSENT:
            delattr(stock, name)
        else:
            setattr(stock, name, original)
    _saved.clear()
