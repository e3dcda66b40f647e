"""Which LeRobot releases this package works over, checked before anything of LeRobot is imported."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

OLDEST = "0.4.4"


def check_lerobot() -> None:
    """Raise ImportError, in one line with the remedy, where LeRobot is missing or too old."""
    remedy = f"pip install 'lerobot>={OLDEST}'"
    try:
        installed = version("lerobot")
    except PackageNotFoundError:
        raise ImportError(f"lerobot_policy_act_compiled needs LeRobot: {remedy}") from None
    if Version(installed) < Version(OLDEST):
        raise ImportError(
            f"lerobot_policy_act_compiled supports LeRobot {OLDEST} and newer, not {installed}: {remedy}"
        )
