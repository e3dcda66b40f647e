"""Pre- and post-processing of ``act_compiled``, which is ACT's; LeRobot finds it by its name."""

from __future__ import annotations

from typing import Any

from lerobot.policies.act.processor_act import make_act_pre_post_processors
from torch import Tensor

from .configuration_act_compiled import ACTCompiledConfig


def make_act_compiled_pre_post_processors(
    config: ACTCompiledConfig, dataset_stats: dict[str, dict[str, Tensor]] | None = None
) -> tuple[Any, Any]:
    """Normalise what goes into the policy, un-normalise what comes out; see the installed ACT's factory."""
    return make_act_pre_post_processors(config, dataset_stats)
