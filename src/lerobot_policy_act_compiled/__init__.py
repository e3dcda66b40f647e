"""ACT for torch.compile, over whatever LeRobot is installed: same weights, API and outputs."""

from .garbage_collector import collector_held_back
from .releases import check_installed, moved

check_installed()

try:  # after the check, whose line is clearer than what would fail here
    with collector_held_back(generation=2):  # torch and LeRobot are imported in 3.3 s, and not in 4.0
        from .artifact import save_artifact
        from .configuration_act_compiled import ACTCompiledConfig
        from .export import export_policy
        from .loaded_artifact import load_artifact
        from .modeling_act_compiled import ACTCompiledPolicy
        from .patch import patch_lerobot, patch_policy, unpatch_lerobot
except ImportError as error:
    raise moved(error) from error

__all__ = [
    "ACTCompiledConfig",
    "ACTCompiledPolicy",
    "export_policy",
    "load_artifact",
    "patch_lerobot",
    "patch_policy",
    "save_artifact",
    "unpatch_lerobot",
]
