"""A pytest plugin, ``-p benchmarks.releases.patched``: LeRobot's own tests with the patch on."""

from __future__ import annotations


def pytest_configure() -> None:
    """Not on import: a test imports every module of the ruler."""
    from lerobot_policy_act_compiled import patch_lerobot

    patch_lerobot()
