"""``act-compiled export``: a checkpoint as an ONNX file."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.factory import make_pre_post_processors

from .export import export_policy
from .modeling_act_compiled import ACTCompiledPolicy
from .onnx_graph import one_line


def main(arguments: Sequence[str]) -> None:
    """Export what the command line names; a mistake in it is one line and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="act-compiled export",
        description="Write an ACT policy as one ONNX file: camera frames and state in, actions out.",
    )
    parser.add_argument("--policy-path", "--policy.path", dest="policy", required=True, metavar="CHECKPOINT")
    parser.add_argument("--output", required=True, metavar="FILE", help="for example act.onnx")
    parser.add_argument(
        "--without-processors",
        action="store_true",
        help="leave out normalisation: the file takes and returns what the policy does",
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger(__package__).setLevel(logging.INFO)
    try:
        print(exported(options.policy, options.output, with_processors=not options.without_processors))
    except ValueError as error:
        parser.error(str(error))


def exported(checkpoint: str, output: str, *, with_processors: bool) -> Path:
    """Load the policy of ``checkpoint`` and write it to ``output``.

    Raises:
        ValueError: there is no such policy, it has no processors, or ``export_policy`` raises it.
    """
    try:
        config = PreTrainedConfig.from_pretrained(checkpoint)
        config.device = "cpu"
        policy = (
            ACTCompiledPolicy.from_pretrained(checkpoint, config=config)
            if isinstance(config, ACTConfig)
            else None
        )
    except Exception as error:  # LeRobot raises what its parser and its hub client raise
        raise ValueError(f"{checkpoint} holds no policy that LeRobot can load ({one_line(error)})") from error
    if policy is None:
        raise ValueError(f"{checkpoint} is a policy of type {config.type}; only ACT can be exported")
    if not with_processors:
        return export_policy(policy, output)
    try:
        before, after = make_pre_post_processors(
            policy.config,
            pretrained_path=checkpoint,
            preprocessor_overrides={"device_processor": {"device": "cpu"}},
        )
    except Exception as error:  # whatever LeRobot and its hub client raise
        raise ValueError(
            f"{checkpoint} has no processors that LeRobot can load ({one_line(error)}); "
            "--without-processors exports the policy without normalisation"
        ) from error
    return export_policy(policy, output, preprocessor=before, postprocessor=after)
