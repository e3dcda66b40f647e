"""``act-compiled``: one word in front of any LeRobot command, whose ACT policies then compile.

    act-compiled lerobot-rollout --policy.path=my_act ...
    act-compiled python -m lerobot.async_inference.policy_server --port=8080
    act-compiled export --policy-path my_act --output act.onnx

No file and no configuration changes: policies of type ``act`` get what ``patch_lerobot`` gives them, and the
command runs in this process. A command that moves a robot warms its policy up first: after it is loaded,
before the robot is connected, where a minute of compiling would trip the robot's watchdog. After that
``lerobot-rollout`` and ``lerobot-record`` prepare the camera frames that the policy reads, and no others.
"""

from __future__ import annotations

import argparse
import logging
import runpy
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from lerobot.policies.act.modeling_act import ACTPolicy

from . import export_command
from .configuration_act_compiled import COMPILE_MODES
from .frames import prepare_less
from .patch import patch_lerobot

# LeRobot's commands that act with one observation at a time, by their modules. Training compiles its own
# step, and an evaluation acts with as many observations as it has environments.
ACTING = ("lerobot_rollout", "lerobot_record", "policy_server")
# By ``select_action``, and under autocast where ``use_amp`` asks for it; a server predicts chunks without it.
TICKING = ("lerobot_rollout", "lerobot_record")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line's command with ACT compiled; what it exits with is the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["export"]:
        export_command.main(arguments[1:])
        return
    options = _parser().parse_args(arguments)
    if not options.command:
        _parser().error(
            "name the command to run, for example: act-compiled lerobot-rollout --policy.path=..."
        )
    run, name = _command(options.command)
    _log_to_stderr()
    patch_lerobot(
        options.compile_mode,
        compile_artifact=options.compile_artifact,
        compile_fallback=options.compile_fallback,
    )
    _let_the_server_take("act_compiled")
    module = name.rpartition(".")[2]
    if module in TICKING:
        prepare_less()
    if options.warm_up and module in ACTING:
        _warm_up_when_placed(autocasts=module in TICKING)
    run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="act-compiled",
        description="Run a LeRobot command with its ACT policies compiled.",
        epilog="act-compiled export --help: write a policy as an ONNX file",
    )
    parser.add_argument("--compile_mode", choices=COMPILE_MODES, default="auto", help="default: auto")
    parser.add_argument(
        "--compile_artifact",
        metavar="DIRECTORY",
        help="keep what is compiled for the next start; its code is run, so use a directory of your own",
    )
    parser.add_argument("--compile_fallback", action="store_true", help="run eager if there is no compiler")
    parser.add_argument(
        "--no-warm-up",
        dest="warm_up",
        action="store_false",
        help="do not compile before the robot's first step",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the LeRobot command and its arguments")
    return parser


def _command(command: Sequence[str]) -> tuple[Callable[[], Any], str]:
    """What runs ``command`` in this process, and the name of its module.

    ``command`` is an installed one, or ``python`` and ``-m MODULE`` or a file, each with its arguments.
    """
    program, *rest = command
    if Path(program).name.startswith("python"):
        return _python(rest)
    found = [each for each in entry_points(group="console_scripts") if each.name == Path(program).name]
    if not found:
        _parser().error(
            f"there is no command {program}; name one of Python's console scripts, or python -m ..."
        )

    def run() -> Any:
        sys.argv = [program, *rest]
        return found[0].load()()

    return run, found[0].module


def _python(arguments: Sequence[str]) -> tuple[Callable[[], Any], str]:
    if arguments[:1] == ["-m"] and len(arguments) > 1:
        module = arguments[1]

        def run_module() -> Any:
            sys.argv = list(arguments[1:])  # runpy puts the file's name in the first place
            return runpy.run_module(module, run_name="__main__", alter_sys=True)

        return run_module, module
    if not arguments or arguments[0].startswith("-"):
        _parser().error("after python comes -m MODULE or a file")

    def run_file() -> Any:
        sys.argv = list(arguments)
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
        return runpy.run_path(arguments[0], run_name="__main__")

    return run_file, Path(arguments[0]).stem


def _log_to_stderr() -> None:
    """Show what this package says; LeRobot's server configures no logger but its own."""
    log = logging.getLogger(__package__)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("act-compiled: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # commands that do configure logging would show it twice


def _let_the_server_take(policy_type: str) -> None:
    """LeRobot's asynchronous server and its client have a list of policy types; a plugin is not in it."""
    try:
        from lerobot.async_inference import constants
    except ImportError:  # LeRobot is installed without it
        return
    known = getattr(constants, "SUPPORTED_POLICIES", None)
    if isinstance(known, list) and policy_type not in known:
        known.append(policy_type)


def _warm_up_when_placed(*, autocasts: bool) -> None:
    """Warm a loaded policy up when LeRobot puts it onto its device, which it does before all else.

    By ``_apply``, which ``to`` runs for every module: where a checkpoint has adapters, peft's model is around
    the policy, and it is that one whose ``to`` LeRobot calls.

    Args:
        autocasts: whether the command heeds ``use_amp`` when it acts.
    """
    load, place = ACTPolicy.from_pretrained, ACTPolicy._apply

    @wraps(load)
    def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
        policy = load.__func__(cls, *args, **kwargs)
        vars(policy)["_warm_up_due"] = True
        return policy

    @wraps(place)
    def _apply(self: Any, *args: Any, **kwargs: Any) -> Any:
        place(self, *args, **kwargs)
        if vars(self).pop("_warm_up_due", False):
            use_amp = self.config.use_amp
            self.config.use_amp = use_amp and autocasts
            try:
                self.warm_up()
            finally:
                self.config.use_amp = use_amp
        return self

    ACTPolicy.from_pretrained, ACTPolicy._apply = classmethod(from_pretrained), _apply


if __name__ == "__main__":
    main()
