"""Same actions, losses, gradients and updates as stock LeRobot: patched, and compiled.

Strict fp32 for actions and losses (1e-5). Gradients and updates are compared in float64 (1e-6
relative): in fp32 rounding alone moves the gradient of the first convolution by about 1%.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch

from benchmarks.suite.precision import strict_fp32
from lerobot_policy_act_compiled import patch_policy

from .compiled_policies import as_compiled, each_mode, runs_by

pytestmark = [pytest.mark.consistency, pytest.mark.usefixtures("fresh_dynamo")]

Make = Callable[..., Any]
Batch = dict[str, Any]


@pytest.fixture(autouse=True, scope="module")
def _strict_fp32() -> Iterator[None]:
    with strict_fp32():
        yield


def loss_of(policy: Any, batch: Batch, seed: int = 0) -> Any:
    policy.train()
    torch.manual_seed(seed)  # of the latent and of dropout
    return policy.forward(batch)[0]


def assert_same_actions_and_loss(policy: Any, stock: Any, batch: Batch) -> None:
    assert (policy.predict_action_chunk(batch) - stock.predict_action_chunk(batch)).abs().max() < 1e-5
    assert (loss_of(policy, batch) - loss_of(stock, batch)).abs() < 1e-5


def in_float64(policy: Any) -> Any:
    """``policy`` in float64, the latent too: without a VAE stock makes it in float32, of zeros."""

    def cast(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0].to(module.weight.dtype),)

    policy.double().model.encoder_latent_input_proj.register_forward_pre_hook(cast)
    return policy


def without_dropout(policy: Any) -> Any:
    for module in policy.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0
    policy.config.dropout = 0.0
    return policy


def aot_eager(graph: Any, inputs: Any, **_: Any) -> Any:
    """torch's backend of that name, which takes no mode; constants go stale as Inductor's do."""
    return torch._dynamo.lookup_backend("aot_eager")(copy.deepcopy(graph), inputs)


def assert_same_training(policy: Any, stock: Any, batch: Batch) -> None:
    """Every gradient, and every parameter after two steps of LeRobot's own optimizer."""
    optimizers = [p.config.get_optimizer_preset().build(p.get_optim_params()) for p in (policy, stock)]
    for seed in range(2):
        for each, optimizer in zip((policy, stock), optimizers, strict=True):
            optimizer.zero_grad()
            loss_of(each, batch, seed).backward()
        expected = dict(stock.named_parameters())
        assert [name for name, _ in policy.named_parameters()] == list(expected)
        for name, parameter in policy.named_parameters():
            assert (parameter.grad is None) == (expected[name].grad is None), name
            if parameter.grad is not None:
                difference = (parameter.grad - expected[name].grad).norm()
                assert difference <= 1e-6 * expected[name].grad.norm() + 1e-15, name
        for optimizer in optimizers:
            optimizer.step()
        for name, parameter in policy.named_parameters():
            difference = (parameter - expected[name]).norm()
            assert difference <= 1e-9 * expected[name].norm() + 1e-12, name


@pytest.mark.parametrize("use_vae", [True, False])
def test_patched_has_stocks_actions_and_loss(use_vae: bool, tiny_policy: Make, tiny_batch: Make) -> None:
    stock = tiny_policy(use_vae=use_vae, dropout=0.0)
    patched = patch_policy(copy.deepcopy(stock))
    assert_same_actions_and_loss(patched, stock, tiny_batch())


@pytest.mark.parametrize("use_vae", [True, False])
def test_patched_trains_as_stock(use_vae: bool, tiny_policy: Make, tiny_batch: Make) -> None:
    stock = in_float64(tiny_policy(use_vae=use_vae, dropout=0.0))
    patched = patch_policy(copy.deepcopy(stock))
    assert_same_training(patched, stock, tiny_batch(dtype=torch.float64))


@pytest.mark.parametrize(("use_vae", "dropout"), [(True, 0.0), (False, 0.0), (False, 0.1)])
def test_compiled_trains_as_stock(use_vae: bool, dropout: float, tiny_policy: Make, tiny_batch: Make) -> None:
    # aot_eager: the graph that Inductor would get, forward and backward, run by torch's own kernels,
    # which draw stock's random numbers where a graph asks for as many: of the VAE encoder's last layer
    # it asks for one row's. Without dropout attention is another kernel than with it.
    stock = in_float64(tiny_policy(use_vae=use_vae, dropout=dropout))
    compiled = patch_policy(copy.deepcopy(stock))
    compiled.forward = torch.compile(compiled.forward, fullgraph=True, backend="aot_eager")
    assert_same_training(compiled, stock, tiny_batch(dtype=torch.float64))


def test_compiled_trains_as_stock_with_the_vae_under_dropout(tiny_policy: Make, tiny_batch: Make) -> None:
    """Dropout everywhere but in the VAE encoder's last layer, where a graph needs one row's numbers only."""
    stock = in_float64(tiny_policy(dropout=0.1, n_vae_encoder_layers=2))
    last = stock.model.vae_encoder.layers[-1]
    last.self_attn.dropout = 0.0
    for module in last.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    compiled = patch_policy(copy.deepcopy(stock))
    compiled.forward = torch.compile(compiled.forward, fullgraph=True, backend="aot_eager")
    assert_same_training(compiled, stock, tiny_batch(dtype=torch.float64))


@each_mode
def test_every_mode_acts_and_trains_as_stock(
    mode: str, without_cameras: tuple[Any, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the policy's own methods, with LeRobot's own optimizer, evaluated before and after."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=aot_eager))
    stock, batch = without_cameras
    stock = in_float64(without_dropout(stock))
    policy = in_float64(as_compiled(stock, mode))
    batch = {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}
    for trained in (False, True):
        if trained:
            assert_same_training(policy, stock, batch)
        expected = stock.predict_action_chunk(batch)
        assert (policy.predict_action_chunk(batch) - expected).abs().max() < 1e-9


@each_mode
@pytest.mark.usefixtures("with_constants")
def test_every_mode_itself_acts_between_steps(mode: str, without_cameras: tuple[Any, Batch]) -> None:
    """In fp32 and without hooks: what an engine or a CUDA graph does not take would be torch's to do."""
    stock, batch = without_cameras
    stock = without_dropout(stock)
    policies = policy, _ = as_compiled(stock, mode), stock
    optimizers = [torch.optim.SGD(each.parameters(), lr=1e-2) for each in policies]
    kept = []
    for seed, size in enumerate((4, 4, 3)):
        part = {name: value[:size] for name, value in batch.items()}
        losses = []
        for each, optimizer in zip(policies, optimizers, strict=True):
            losses.append(loss_of(each, part, seed))
            losses[-1].backward()
            optimizer.step()
            optimizer.zero_grad()
        assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
        for observed in (batch, batch, part):  # with other weights an engine's first actions are eager mode's
            actions, expected = (each.predict_action_chunk(observed) for each in policies)
            assert (actions - expected).abs().max() < 1e-5
            kept.append((actions, actions.clone()))
        assert policy.compiled_by() == {"predict_action_chunk": runs_by(mode), "forward": "torch"}
    assert all(torch.equal(actions, as_they_were) for actions, as_they_were in kept)
    assert (kept[0][0] - kept[3][0]).abs().max() > 1e-4, "a step is seen in actions"


@each_mode
@pytest.mark.usefixtures("with_constants")
@pytest.mark.parametrize("ensemble", [False, True], ids=["queue", "ensemble"])
def test_an_episode_in_every_mode(ensemble: bool, mode: str, without_cameras: tuple[Any, Batch]) -> None:
    stock, batch = without_cameras
    stock.config.n_action_steps = 1 if ensemble else 3
    if ensemble:
        stock.config.temporal_ensemble_coeff = 0.01
    made = type(stock)(stock.config).eval()
    made.load_state_dict(stock.state_dict())
    policy = as_compiled(made, mode)
    with torch.inference_mode():  # as LeRobot's loops act
        for tick in range(7):
            if tick == 5:  # in the middle of a queue
                made.reset()
                policy.reset()
            seen = {name: value[tick % 4 :][:1].clone() for name, value in batch.items()}
            assert (policy.select_action(seen) - made.select_action(seen)).abs().max() < 1e-5


def test_dropout_draws_stocks_numbers(tiny_policy: Make, tiny_batch: Make) -> None:
    stock, batch = tiny_policy(dropout=0.1), tiny_batch()
    policy = patch_policy(copy.deepcopy(stock))
    losses = [loss_of(policy, batch, seed).item() for seed in range(3)]
    assert losses == pytest.approx([loss_of(stock, batch, seed).item() for seed in range(3)], abs=1e-5)
    assert len(set(losses)) == 3


def test_inductor_has_stocks_actions_and_stocks_mean_loss_under_dropout(
    without_cameras: tuple[Any, Batch],
) -> None:
    """Inductor draws other random numbers than eager, so its loss under dropout is another sample.

    Without cameras: the random numbers are drawn in the transformers. Inductor's kernels of the
    backbone, most of its compile time, are compared in tests/policies/test_act_torch_compile.py.

    The check: means of 100 losses differ by less than 5 standard errors of their difference, a
    false alarm in less than one of a million runs were the seeds not fixed; and the spreads agree
    within a factor of 1.6. Dropout of twice the strength is rejected by it, as the last line shows.
    """
    stock, batch = without_cameras
    policy = as_compiled(stock, "auto")
    assert (policy.predict_action_chunk(batch) - stock.predict_action_chunk(batch)).abs().max() < 1e-5

    def sample(of: Any) -> torch.Tensor:
        with torch.no_grad():
            return torch.stack([loss_of(of, batch, seed) for seed in range(100)]).double()

    def agrees(a: torch.Tensor, b: torch.Tensor) -> bool:
        error = ((a.var() + b.var()) / 100).sqrt()
        ratio = a.std() / b.std()
        return bool((a.mean() - b.mean()).abs() < 5 * error and 1 / 1.6 < ratio < 1.6)

    expected = sample(stock)
    assert agrees(sample(policy), expected)
    for module in stock.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    assert not agrees(sample(stock), expected)


@pytest.mark.parametrize("ensemble", [False, True], ids=["queue", "ensemble"])
def test_an_episode_has_stocks_actions(ensemble: bool, tiny_policy: Make, tiny_batch: Make) -> None:
    act = {} if ensemble else {"n_action_steps": 3}
    stock = tiny_policy(phase="rollout_ensemble" if ensemble else "rollout", **act)
    patched = patch_policy(copy.deepcopy(stock))
    for tick in range(14):
        if tick == 8:  # in the middle of a queue
            stock.reset()
            patched.reset()
        batch = tiny_batch(1, seed=tick)
        assert (patched.select_action(batch) - stock.select_action(batch)).abs().max() < 1e-5


def test_bf16_autocast_is_as_near_as_stocks(tiny_policy: Make, tiny_batch: Make) -> None:
    stock, batch = tiny_policy(dropout=0.0), tiny_batch()
    patched = patch_policy(copy.deepcopy(stock))
    exact = stock.predict_action_chunk(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, actual = (policy.predict_action_chunk(batch).float() for policy in (stock, patched))
        losses = [loss_of(policy, batch).item() for policy in (stock, patched)]
    rounding = (expected - exact).abs().max()
    assert 0 < rounding < 0.1
    assert (actual - exact).abs().max() < 2 * rounding + 1e-3
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_training_follows_inference_mode(tiny_policy: Make, tiny_batch: Make) -> None:
    # What is made once and kept must not be an inference tensor, which autograd refuses.
    stock = tiny_policy(dropout=0.0)
    patched, batch = patch_policy(copy.deepcopy(stock)), tiny_batch()
    for key in patched.config.image_features:
        batch[key] = torch.nn.functional.interpolate(batch[key], (160, 96))  # no other test's resolution
    with torch.inference_mode():
        patched.predict_action_chunk(batch)
    loss_of(patched, batch).backward()
    assert_same_actions_and_loss(patched, stock, batch)


def _other_weights(policy: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    noise = {
        name: value + 0.1 * torch.randn(value.shape, generator=generator).to(value)
        for name, value in policy.state_dict().items()
        if "running_var" not in name
    }
    policy.load_state_dict(noise, strict=False)


def _resized(batch: Batch, size: tuple[int, int]) -> Batch:
    return {
        key: torch.nn.functional.interpolate(value, size) if "images" in key else value
        for key, value in batch.items()
    }


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_nothing_goes_stale(compiled: bool, tiny_policy: Make, tiny_batch: Make) -> None:
    stock = tiny_policy(dropout=0.0)
    policy = patch_policy(copy.deepcopy(stock))
    if compiled:
        policy.model = torch.compile(policy.model, backend="eager")

    def check(batch: Batch) -> None:
        expected = stock.predict_action_chunk(batch)
        assert (policy.predict_action_chunk(batch) - expected).abs().max() < 1e-5
        assert policy.predict_action_chunk(batch).dtype == expected.dtype

    check(tiny_batch(2))
    check(tiny_batch(3))
    if not compiled:  # where Dynamo guards shapes and dtypes itself, and each costs a compile
        check(_resized(tiny_batch(2), (96, 64)))
        check(_resized(tiny_batch(2), (64, 96)))  # as many tokens, at other positions
    for each in (stock, policy):
        _other_weights(each)
    check(tiny_batch(3))
    if compiled:
        return
    for each in (stock, policy):
        in_float64(each)
    check(tiny_batch(3, dtype=torch.float64))
    for each in (stock, policy):
        each.float()
    check(tiny_batch(3))
