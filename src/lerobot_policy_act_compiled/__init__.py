"""ACT for torch.compile, over whatever LeRobot is installed: same weights, API and outputs."""

from .releases import check_lerobot

check_lerobot()

from .artifact import load_artifact, save_artifact  # noqa: E402 - after the check, whose line is clearer
from .configuration_act_compiled import ACTCompiledConfig  # noqa: E402
from .modeling_act_compiled import ACTCompiledPolicy  # noqa: E402
from .patch import patch_lerobot, patch_policy, unpatch_lerobot  # noqa: E402

__all__ = [
    "ACTCompiledConfig",
    "ACTCompiledPolicy",
    "load_artifact",
    "patch_lerobot",
    "patch_policy",
    "save_artifact",
    "unpatch_lerobot",
]
