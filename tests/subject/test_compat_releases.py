"""A checkpoint of one LeRobot release loads in another with the policy as it does without.

``tests/subject/checkpoints`` holds what each release's ``save_pretrained`` writes for one small policy, less
the weights (45 MB of backbone): these are drawn here, by the names and shapes that the release gave them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from packaging.version import Version
from safetensors.torch import save_file

from lerobot_policy_act_compiled import ACTCompiledPolicy, patch_lerobot

pytestmark = pytest.mark.compat

Make = Callable[..., Any]
CHECKPOINTS = Path(__file__).parent / "checkpoints"
RELEASES = sorted((path.name for path in CHECKPOINTS.iterdir() if path.is_dir()), key=Version)
INSTALLED = version("lerobot")
LAYOUT = "layout.json"
STATISTICS = {"mean": 0.25, "std": 2.0, "min": -1.0, "max": 1.0}


def write(policy: Any, place: Path) -> None:
    """What the installed release saves of ``policy`` and its processors, the weights as names and shapes."""
    policy.save_pretrained(place)
    (place / "model.safetensors").unlink()
    (place / "README.md").unlink(missing_ok=True)
    features = {**policy.config.input_features, **policy.config.output_features}
    statistics = {
        name: {kind: torch.full(feature.shape[:1], value) for kind, value in STATISTICS.items()}
        for name, feature in features.items()
        if len(feature.shape) == 1
    }
    for processor in make_pre_post_processors(policy.config, dataset_stats=statistics):
        processor.save_pretrained(place)
    layout = {name: list(value.shape) for name, value in policy.state_dict().items()}
    (place / LAYOUT).write_text(json.dumps(layout, indent=0) + "\n", encoding="utf-8")


@pytest.fixture
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A release's checkpoint, whole."""
    place = tmp_path / "checkpoint"
    shutil.copytree(CHECKPOINTS / request.param, place)
    layout = json.loads((place / LAYOUT).read_text(encoding="utf-8"))
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in layout.items():
        drawn = torch.randn(shape, generator=generator) * max(1, shape[-1] if shape else 1) ** -0.5
        weights[name] = 0.5 + drawn.abs() if name.endswith("running_var") else drawn  # a variance
    save_file(weights, place / "model.safetensors")
    return place


@pytest.fixture
def policy_to_save(tiny_policy: Make) -> Any:
    return tiny_policy(n_action_steps=5, temporal_ensemble_coeff=None)


def test_the_installed_release_writes_what_is_kept_of_it(
    policy_to_save: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kept = CHECKPOINTS / INSTALLED
    if request.config.getoption("--write-checkpoint"):
        write(policy_to_save, kept)
    if not kept.exists():
        pytest.skip(f"no checkpoint of LeRobot {INSTALLED} is kept; `pytest --write-checkpoint` writes it")
    write(policy_to_save, tmp_path)
    written, there = ({path.name: path for path in place.iterdir()} for place in (tmp_path, kept))
    assert set(written) == set(there)
    for name, path in written.items():
        if path.suffix == ".json":
            assert json.loads(path.read_text()) == json.loads(there[name].read_text()), name
        else:
            assert path.read_bytes() == there[name].read_bytes(), name


def loaded(cls: Any, place: Path) -> Any:
    """The policy, or the class of the error that loading it ends with."""
    try:
        return cls.from_pretrained(place, strict=True).eval()
    except Exception as error:  # whatever LeRobot raises is the answer
        return type(error)


def results(policy: Any, batch: dict[str, Any]) -> tuple[Any, Any, dict[str, float]]:
    actions = policy.predict_action_chunk(batch)
    policy.train()
    torch.manual_seed(0)
    loss, parts = policy.forward(batch)
    return actions, loss.item(), dict(parts)


def assert_as_stock(ours: Any, stock: Any, batch: dict[str, Any]) -> None:
    if isinstance(stock, type):
        assert ours is stock, "LeRobot refuses it, and so do we"
        return
    actions, loss, parts = results(stock, batch)
    our_actions, our_loss, our_parts = results(ours, batch)
    assert (our_actions - actions).abs().max() < 1e-5
    assert our_loss == pytest.approx(loss, rel=1e-5)
    assert our_parts == pytest.approx(parts, rel=1e-5)


@pytest.mark.parametrize("checkpoint", RELEASES, indirect=True)
def test_it_loads_as_lerobot_itself_loads_it(
    checkpoint: Path, tiny_batch: Make, request: pytest.FixtureRequest
) -> None:
    release, batch = request.node.callspec.params["checkpoint"], tiny_batch()
    stock = loaded(ACTPolicy, checkpoint)
    if Version(release) <= Version(INSTALLED):
        assert not isinstance(stock, type), "LeRobot loads its older checkpoints"
        assert stock.config.n_action_steps == 5
    assert_as_stock(loaded(ACTCompiledPolicy, checkpoint), stock, batch)
    with patch_lerobot():
        patched = loaded(ACTPolicy, checkpoint)
        ours = None if isinstance(patched, type) else results(patched, batch)
    if ours is None:
        assert patched is stock
    else:
        actions, loss, _ = results(stock.eval(), batch)
        assert (ours[0] - actions).abs().max() < 1e-5
        assert ours[1] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("checkpoint", RELEASES, indirect=True)
def test_its_processors_are_those_of_act(checkpoint: Path, tiny_batch: Make) -> None:
    stock, ours = loaded(ACTPolicy, checkpoint), loaded(ACTCompiledPolicy, checkpoint)
    if isinstance(stock, type):
        pytest.skip(f"LeRobot {INSTALLED} does not load this checkpoint")
    batch = tiny_batch()
    answers = []
    for policy in (stock, ours):
        before, after = make_pre_post_processors(policy.config, pretrained_path=str(checkpoint))
        answers.append((before(dict(batch))["observation.state"], after(torch.ones(1, 3))))
    for stocks, our in zip(*answers, strict=True):
        assert torch.equal(our, stocks)
    state = (batch["observation.state"] - STATISTICS["mean"]) / STATISTICS["std"]
    assert (answers[0][0] - state).abs().max() < 1e-5, "the checkpoint's statistics are what is used"
