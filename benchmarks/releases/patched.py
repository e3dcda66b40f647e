"""A pytest plugin, ``-p benchmarks.releases.patched``: LeRobot's own tests with the patch on."""

from __future__ import annotations


def pytest_configure() -> None:
    """Not on import: asv imports every module of this package."""
    from lerobot_policy_act_compiled import patch_lerobot

    patch_lerobot()
