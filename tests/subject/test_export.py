"""``export_policy``: plain ONNX Runtime acts as LeRobot does, from a camera frame to an action."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors

from lerobot_policy_act_compiled import (
    ACTCompiledConfig,
    command,
    compiled_policy,
    export,
    export_policy,
    load_artifact,
    loaded_artifact,
    onnx_graph,
    onnxruntime_session,
    openvino_session,
    patch_lerobot,
    patch_policy,
)

pytestmark = [
    pytest.mark.compat,
    pytest.mark.skipif(onnx_graph.missing() is not None, reason="needs the extra cpu: onnxruntime and onnx"),
]

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def checkpoint(tiny_policy: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tiny_policy(), tmp_path_factory.mktemp("checkpoint"))


def saved(policy: Any, directory: Path) -> Path:
    """A policy with its processors, as lerobot-train saves them."""
    generator = torch.Generator().manual_seed(3)
    statistics = {}
    for name, feature in {**policy.config.input_features, **policy.config.output_features}.items():
        shape = (feature.shape[0], 1, 1) if len(feature.shape) == 3 else feature.shape
        values = torch.rand(2, *shape, generator=generator)
        statistics[name] = {"mean": values[0], "std": values[1] + 0.5}
    policy.save_pretrained(directory)
    for processor in make_pre_post_processors(policy.config, dataset_stats=statistics):
        processor.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "deep" / "act.onnx"
    command.main(["export", "--policy-path", str(checkpoint), "--output", str(file)])
    return file


@pytest.fixture
def exported_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is exported, the program is ``camera_free_policy``'s: 3 s less, where the rest is tested."""
    program = request.getfixturevalue("camera_free_program")
    monkeypatch.setattr(export, "_program", lambda *_: program)


@pytest.fixture(scope="module")
def camera_free_program(camera_free_policy: Any) -> Any:
    policy = copy.deepcopy(camera_free_policy)
    seen = onnx_graph.random_observations(policy, 2)
    return export._program(export._FromFrames(patch_policy(policy).eval(), None, None), seen)


def frame(config: Any) -> dict[str, Any]:
    """What a robot has: numpy arrays, images of uint8 (H, W, C)."""
    random = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for name, feature in config.input_features.items():
        if name in config.image_features:
            channels, height, width = feature.shape
            found[name] = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
        else:
            found[name] = random.normal(size=feature.shape).astype(np.float32)
    return found


def lerobots_actions(checkpoint: Path, seen: dict[str, Any]) -> torch.Tensor:
    """The chunk as LeRobot's own functions make it of the frame."""
    from lerobot.policies.utils import prepare_observation_for_inference

    policy = ACTPolicy.from_pretrained(checkpoint).eval()
    before, after = make_pre_post_processors(policy.config, pretrained_path=str(checkpoint))
    prepared = before(prepare_observation_for_inference(dict(seen), torch.device("cpu")))
    actions: torch.Tensor = after(policy.predict_action_chunk(prepared))
    return actions


# Neither LeRobot nor torch.
ROBOT = """
import json, sys
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
frames = np.load(sys.argv[2])
actions = session.run(None, {name: frames[name][None] for name in frames.files})[0]
assert not {"torch", "lerobot"} & set(sys.modules)
np.save(sys.argv[3], actions)
print(session.get_modelmeta().custom_metadata_map["act"])
"""


def test_a_robot_without_torch_acts_as_lerobot_does(checkpoint: Path, exported: Path, tmp_path: Path) -> None:
    config = ACTPolicy.from_pretrained(checkpoint).config
    seen = frame(config)
    np.savez(tmp_path / "frame.npz", **seen)
    files = [str(exported), str(tmp_path / "frame.npz"), str(tmp_path / "actions.npy")]
    done = subprocess.run([sys.executable, "-c", ROBOT, *files], capture_output=True, text=True, check=True)
    actions = torch.from_numpy(np.load(tmp_path / "actions.npy"))
    expected = lerobots_actions(checkpoint, seen)
    assert actions.shape == expected.shape == (1, config.chunk_size, 3)
    assert (actions - expected).abs().max() < 1e-5
    about = json.loads(done.stdout)
    assert about["inputs"]["observation.images.camera0"]["dtype"] == "uint8"
    assert about["outputs"]["action"]["shape"] == ["B", config.chunk_size, 3]
    assert about["n_action_steps"] == config.n_action_steps
    assert set(about["releases"]) == {"lerobot", "torch", "lerobot_policy_act_compiled"}


# What stands around docs/export.md's ten lines on a robot; it stops after a whole chunk of actions.
AROUND = """
import sys
import numpy as np

class Camera:
    def read(self):
        return np.load("frame.npy")

class Robot:
    def position(self):
        return np.load("position.npy")

    def send(self, action, sent=[]):
        sent.append(action)
        if len(sent) == 8:
            assert not {"torch", "lerobot"} & set(sys.modules)
            sys.exit(np.save("sent.npy", np.stack(sent)))

camera, robot = Camera(), Robot()
"""


def test_the_guides_ten_lines_drive_a_robot(tiny_policy: Make, tmp_path: Path) -> None:
    """As they stand there, in a directory with the file that the command has made."""
    features = {
        "observation.images.top": PolicyFeature(FeatureType.VISUAL, (3, 48, 64)),
        "observation.state": PolicyFeature(FeatureType.STATE, (4,)),
    }
    checkpoint = saved(tiny_policy(input_features=features), tmp_path / "checkpoint")
    file = tmp_path / "act.onnx"
    command.main(["export", "--policy-path", str(checkpoint), "--output", str(file)])
    seen = frame(ACTPolicy.from_pretrained(checkpoint).config)
    np.save(tmp_path / "frame.npy", seen["observation.images.top"])
    np.save(tmp_path / "position.npy", seen["observation.state"].astype(np.float64))
    guide = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"^```py\n(.*?)^```", guide, re.DOTALL | re.MULTILINE)
    subprocess.run([sys.executable, "-c", AROUND + lines], cwd=tmp_path, check=True)
    sent = torch.from_numpy(np.load(tmp_path / "sent.npy"))
    assert (sent - lerobots_actions(checkpoint, seen)[0]).abs().max() < 1e-5


def test_openvino_takes_the_file_for_one_batch_size(checkpoint: Path, exported: Path) -> None:
    """As docs/export.md says: from a camera's frame to actions in the robot's units."""
    if onnx_graph.missing("openvino") is not None:
        pytest.skip("openvino is not installed; nox -s openvino installs it")
    openvino = openvino_session.openvino()
    seen = frame(ACTPolicy.from_pretrained(checkpoint).config)
    model = openvino.Core().read_model(str(exported))
    model.reshape({each.any_name: [1, *list(each.partial_shape)[1:]] for each in model.inputs})
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    actions = torch.from_numpy(compiled({name: value[None] for name, value in seen.items()})[0])
    assert (actions - lerobots_actions(checkpoint, seen)).abs().max() < 1e-5


def test_it_has_no_operators_but_onnxs_own(exported: Path) -> None:
    model = import_module("onnx").load(exported)
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions


def test_without_processors_it_is_the_policy_for_any_batch_size(
    tiny_policy: Make, tiny_batch: Make, tmp_path: Path
) -> None:
    policy = tiny_policy().train()
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    file = export_policy(policy, tmp_path / "act.onnx")
    assert policy.training
    assert type(policy) is ACTPolicy
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
    session = onnxruntime_session.onnxruntime().InferenceSession(str(file))
    for size in (1, 3, 8):
        batch = tiny_batch(size, seed=size)
        feed = {name: batch[name].numpy() for name in policy.config.input_features}
        actions = torch.from_numpy(session.run(None, feed)[0])
        assert (actions - policy.predict_action_chunk(batch)).abs().max() < 1e-5
    assert [each.name for each in tmp_path.iterdir()] == ["act.onnx"]


def test_a_file_that_acts_otherwise_is_not_written(
    camera_free_policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = export._program

    def of_another(module: Any, observations: Any) -> Any:
        module.chunk.model.action_head.bias.data.add_(1e-3)
        return program(module, observations)

    monkeypatch.setattr(export, "_program", of_another)
    (tmp_path / "act.onnx").write_text("earlier")
    with pytest.raises(ValueError, match=r"differ by 1.0e-03 .* \(batch size 1\), .* nothing is written"):
        export_policy(camera_free_policy, tmp_path / "act.onnx")
    assert (tmp_path / "act.onnx").read_text() == "earlier"
    assert [each.name for each in tmp_path.iterdir()] == ["act.onnx"]


@pytest.mark.parametrize("forgotten", [None, 0, 1, 2])
def test_each_dimension_counts_however_small_its_actions_are(
    forgotten: int | None, camera_free_policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Large; small beside that and far from 0; constant, as of a joint that never moved.
    statistics = {"mean": torch.tensor([0.0, 300.0, 0.0]), "std": torch.tensor([1e6, 1.0, 0.0])}
    before, after = make_pre_post_processors(camera_free_policy.config, dataset_stats={"action": statistics})
    program = export._program

    def forgetful(module: Any, observations: Any) -> Any:
        module.chunk.model.action_head.bias.data += 2e-6  # as rounding: it is within 1e-5
        if forgotten is not None:
            module.chunk.model.action_head.weight.data[forgotten] = 0
            module.chunk.model.action_head.bias.data[forgotten] = 0
        return program(module, observations)

    monkeypatch.setattr(export, "_program", forgetful)
    seen = forgotten in (0, 1)  # a constant remains what it is
    with pytest.raises(ValueError, match="nothing is written") if seen else nullcontext():
        export_policy(camera_free_policy, tmp_path / "act.onnx", preprocessor=before, postprocessor=after)


class Clamping(ACTPolicy):
    def predict_action_chunk(self, batch: Any, **kwargs: Any) -> torch.Tensor:
        return super().predict_action_chunk(batch, **kwargs).clamp(-0.1, 0.1)


@pytest.mark.usefixtures("exported_once")
@pytest.mark.parametrize("whose", ["class", "instance", "shorter"])
def test_a_policy_that_acts_otherwise_than_its_model_is_not_written(
    whose: str, camera_free_policy: Any, tmp_path: Path
) -> None:
    policy = copy.deepcopy(camera_free_policy)
    if whose == "class":
        policy.__class__ = Clamping
    elif whose == "instance":
        policy.predict_action_chunk = lambda batch: camera_free_policy.predict_action_chunk(batch) * 2
    else:
        policy.predict_action_chunk = lambda batch: camera_free_policy.predict_action_chunk(batch)[:, :2]
    with pytest.raises(ValueError, match=r"nothing is written .* no predict_action_chunk of its own"):
        export_policy(policy, tmp_path / "act.onnx")
    assert not list(tmp_path.iterdir())


def test_what_compiles_a_policy_is_left_out(
    camera_free_policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the proof would compile for each batch size, and an artifact takes one only."""

    def compiles(*_: Any) -> Any:
        pytest.fail("it compiles")

    policies = [patch_policy(copy.deepcopy(camera_free_policy)) for _ in range(2)]
    policies[0].predict_action_chunk = torch.compile(policies[0].predict_action_chunk, backend=compiles)
    policies[1].model = torch.compile(policies[1].model, backend=compiles)
    policies[1].config = ACTCompiledConfig.from_act(policies[1].config)
    policies[1].config.compile_model = True
    monkeypatch.setattr(loaded_artifact, "opened", lambda *_: (compiles, {}))
    load_artifact(policies[1], tmp_path / "artifact")
    monkeypatch.setattr(compiled_policy, "_run", compiles)
    with patch_lerobot("auto"):
        for policy in (*policies, camera_free_policy):
            before = dict(vars(policy))
            export_policy(policy, tmp_path / "act.onnx")
            assert vars(policy) == before


class Relative:
    """Actions relative to the state, as of LeRobot's steps: one processor keeps what the other reads."""

    def __init__(self) -> None:
        self.state = torch.ones(1, 4)

    def before(self, observations: Any) -> Any:
        self.state = observations["observation.state"]
        return observations

    def after(self, actions: torch.Tensor) -> torch.Tensor:
        return actions + self.state[:, None, :3]


def test_processors_keep_nothing_of_an_export(camera_free_policy: Any, tmp_path: Path) -> None:
    steps = Relative()
    before, after = steps.before, steps.after
    file = export_policy(camera_free_policy, tmp_path / "act.onnx", preprocessor=before, postprocessor=after)
    assert torch.equal(steps.after(torch.zeros(1, 1, 3)), torch.ones(1, 1, 3))
    seen = onnx_graph.random_observations(camera_free_policy, 3)
    session = onnxruntime_session.onnxruntime().InferenceSession(str(file))
    actions = session.run(None, {name: value.numpy() for name, value in seen.items()})[0]
    expected = after(camera_free_policy.predict_action_chunk(before(seen)))
    assert (torch.from_numpy(actions) - expected).abs().max() < 1e-5
    vars(steps)["lock"] = threading.Lock()
    with pytest.raises(ValueError, match=r"^a processor cannot be copied and exported \(cannot pickle"):
        export_policy(camera_free_policy, tmp_path / "b", preprocessor=before, postprocessor=after)


def test_mistakes_are_one_line(
    camera_free_policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="takes both processors of the policy, or none"):
        export_policy(camera_free_policy, tmp_path / "act.onnx", preprocessor=lambda x: x)
    with pytest.raises(ValueError, match="needs a LeRobot ACTPolicy"):
        export_policy(torch.nn.Linear(1, 1), tmp_path / "act.onnx")
    with pytest.raises(ValueError, match="is a directory; name the file to write, for example"):
        export_policy(camera_free_policy, tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(export, "_program", lambda *_: pytest.fail("found too late"))
    with pytest.raises(ValueError, match=r"act.onnx cannot be written \("):
        export_policy(camera_free_policy, tmp_path / "file" / "act.onnx")
    monkeypatch.setattr(export, "missing", lambda: "onnxscript")
    with pytest.raises(ValueError, match=r"needs onnxscript, which is not installed: pip install "):
        export_policy(camera_free_policy, tmp_path / "act.onnx")


def test_a_policy_that_cannot_be_exported_is_one_line(camera_free_policy: Any, tmp_path: Path) -> None:
    def before(_: Any) -> Any:
        raise KeyError("a camera")

    def branches(actions: torch.Tensor) -> torch.Tensor:
        return actions if actions.sum() > 0 else -actions

    with pytest.raises(
        ValueError, match=r"^the policy or a processor does not take the policy's observations \('a camera'"
    ):
        export_policy(camera_free_policy, tmp_path / "a", preprocessor=before, postprocessor=branches)
    with pytest.raises(ValueError, match=r"^the policy or a processor of it cannot be exported to ONNX \("):
        export_policy(camera_free_policy, tmp_path / "a", preprocessor=lambda x: x, postprocessor=branches)


def test_autocast_around_it_changes_nothing(camera_free_policy: Any, tmp_path: Path) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        file = export_policy(camera_free_policy, tmp_path / "act.onnx")
    assert (
        onnxruntime_session.onnxruntime().InferenceSession(str(file)).get_outputs()[0].type == "tensor(float)"
    )


@pytest.mark.usefixtures("exported_once")
@pytest.mark.parametrize("fails", ["import", "session", "run"])
def test_a_runtime_that_does_not_run_is_one_line(
    fails: str, camera_free_policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("it\nis broken")

    session = SimpleNamespace(run=broken)
    made = broken if fails == "session" else lambda *_, **__: session
    imported = broken if fails == "import" else lambda: SimpleNamespace(InferenceSession=made)
    monkeypatch.setattr(export, "onnxruntime", imported)
    with pytest.raises(ValueError, match=r"^ONNX Runtime does not run .* \(it is broken\): nothing is"):
        export_policy(camera_free_policy, tmp_path / "act.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("no checkpoint", "holds no policy that LeRobot can load"),
        ("another policy", "is a policy of type diffusion; only ACT can be exported"),
        ("no processors", "--without-processors exports the policy without normalisation"),
        ("no postprocessor", "has no processors that LeRobot can load"),
    ],
)
def test_a_mistake_of_the_command_line_is_exit_code_2(
    what: str, says: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in checkpoint.iterdir() if what != "no checkpoint" else ():
        left_out = {"no processors": "policy_", "no postprocessor": "policy_post"}.get(what, "nothing")
        if not file.name.startswith(left_out):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    if what == "another policy":
        from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig

        DiffusionConfig(device="cpu", push_to_hub=False)._save_pretrained(tmp_path)
    with pytest.raises(SystemExit) as caught:
        command.main(["export", "--policy-path", str(tmp_path), "--output", str(tmp_path / "act.onnx")])
    assert caught.value.code == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "act.onnx").exists()
