"""LeRobot from end to end: recorded, trained, evaluated and run in gym-aloha, stock against ours.

``nox -s lerobot_e2e``. Weights are random, and so is what the arms do; what is asked is whether ours does
the same as LeRobot's. On a CPU, in strict fp32: the flags that LeRobot's commands set for CUDA mean nothing
there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.suite.precision import strict_fp32

from .commands import EPISODE, EVALUATED, compiled_line, evaluate, train

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(1800)]

STEPS = 6
# Without what is drawn at random: a compiled step draws other numbers from the same seed.
WITHOUT_CHANCE = ("--policy.use_vae=false", "--policy.dropout=0")
LOSS = 3e-5  # of the loss; 4e-6 seen: six steps of AdamW, which divides rounding errors by small gradients
ACTION = 3e-5  # rad, along an episode, as the simulator's state follows the actions; 1e-5 seen
FIRST_ACTION = 1e-6  # rad, of the same observation; 3e-8 seen


@pytest.fixture(autouse=True)
def _strict_fp32() -> Iterator[None]:
    with strict_fp32("cpu"):
        yield


@pytest.fixture(scope="session")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("trained")
    return {
        variant: train(variant, dataset, directory, STEPS, *WITHOUT_CHANCE)
        for variant in ("stock", "patched", "act_compiled", "in_front")
    }


@pytest.mark.parametrize("variant", ["patched", "act_compiled", "in_front"])
def test_lerobot_train_has_stocks_losses(trained: dict[str, Any], variant: str) -> None:
    expected, _, _ = trained["stock"]
    losses, graphs, _ = trained[variant]
    assert len(losses) == len(expected) == STEPS
    assert graphs == (0 if variant == "patched" else 1)
    furthest = max(abs(ours / theirs - 1) for ours, theirs in zip(losses, expected, strict=True))
    print(f"largest difference of a loss: {furthest:.1e} of it")
    assert furthest < LOSS
    assert expected[-1] < expected[0], "it learns"


def test_lerobot_train_with_vae_and_dropout(dataset: Path, tmp_path: Path) -> None:
    stock, _, _ = train("stock", dataset, tmp_path, STEPS)
    patched, _, _ = train("patched", dataset, tmp_path, STEPS)
    compiled, graphs, _ = train("act_compiled", dataset, tmp_path, STEPS)
    assert patched == pytest.approx(stock, rel=LOSS), "in eager mode it draws what stock draws"
    assert graphs == 1
    assert compiled[-1] < compiled[0]


def test_lerobot_eval_says_the_same_of_both(trained: dict[str, Any], tmp_path: Path) -> None:
    """Ours acts as it was trained: in mode auto."""
    ours, log = evaluate(trained["act_compiled"][2], tmp_path)
    stock, _ = evaluate(trained["stock"][2], tmp_path)
    assert "mode auto (onnxruntime), cpu" in compiled_line(log)
    assert ours["n_episodes"] == stock["n_episodes"] == 1
    for figure in ("avg_sum_reward", "avg_max_reward", "pc_success"):
        assert ours[figure] == pytest.approx(stock[figure])


def closed_loop(policy: Any, processors: Any, simulator: Any, steps: int) -> torch.Tensor:
    """Actions ``(steps, 14)``: each follows from what the last ones have done."""
    before, after = processors
    policy.reset()
    observation, _ = simulator.reset(seed=7)
    actions = []
    for _ in range(steps):
        image = torch.from_numpy(observation["pixels"]["top"].copy()).permute(2, 0, 1)[None] / 255
        state = torch.from_numpy(observation["agent_pos"]).float()[None]
        batch = before({"observation.images.top": image, "observation.state": state})
        action = after(policy.select_action(batch))
        actions.append(action[0])
        observation, *_ = simulator.step(action[0].numpy())
    return torch.stack(actions)


def test_a_whole_episode_of_the_same_checkpoint_agrees(trained: dict[str, Any], simulator: Any) -> None:
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    from lerobot_policy_act_compiled import ACTCompiledPolicy

    checkpoint = trained["stock"][2]
    stock, ours = ACTPolicy.from_pretrained(checkpoint), ACTCompiledPolicy.from_pretrained(checkpoint)
    ours.config.compile_model, ours.config.compile_mode = True, "auto"
    processors = make_pre_post_processors(stock.config, pretrained_path=str(checkpoint))
    expected = closed_loop(stock, processors, simulator, EPISODE)
    again = closed_loop(stock, processors, simulator, EVALUATED)
    assert torch.equal(again, expected[: len(again)]), "the simulator itself is the same each time"
    actions = closed_loop(ours, processors, simulator, EPISODE)
    assert ours.compiled_by() == {"predict_action_chunk": "onnxruntime"}
    assert not torch.equal(actions[0], actions[-1]), "the loop moves"
    difference = (actions - expected).abs().max(dim=1).values
    print(f"largest difference of an action: {difference.max():.1e} rad, of the first {difference[0]:.1e}")
    assert difference[0] < FIRST_ACTION
    assert difference.max() < ACTION
