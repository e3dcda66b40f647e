"""ACT's forward pass, written so that torch.compile gets one small graph of it.

Everything here runs on the modules, the configuration and the loss of the LeRobot that is
installed; only the order in which tensors are put together is ours. What is different, and
what each difference is worth, stands in ``docs/architecture.md``.

Shapes: ``B`` batch, ``S`` chunk size, ``D`` model width, ``L`` latent size, ``N`` cameras,
``T`` tokens; the transformer works on ``(T, B, D)``, as LeRobot's does.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import (
    ACT,
    ACTPolicy,
    ACTSinusoidalPositionEmbedding2d,
)
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_IMAGES, OBS_STATE
from torch import Tensor, nn

from . import compiled_policy
from .configuration_act_compiled import ACTCompiledConfig
from .eval_mode import policy_eval
from .index_strides import of_moving_terms
from .instruction_sets import try_once
from .kernel_files import few_files
from .layers import LAYERS, decoder_input, first_token
from .loss import Batch, Posterior
from .pooling import features_of
from .position_table import constant_position_table, fixed_position_table
from .tracing import in_frozen_graph

STOCK_ACT_FORWARD = ACT.forward


# --- the model ----------------------------------------------------------------------------


def _posterior(model: ACT, batch: Batch, batch_size: int) -> tuple[Tensor, Tensor]:
    """Mean and log(sigma^2) of the VAE encoder's latent, ``(B, L)`` each."""
    prefix = [model.vae_encoder_cls_embed.weight.expand(batch_size, 1, -1)]
    if model.config.robot_state_feature:
        prefix.append(model.vae_encoder_robot_state_input_proj(batch[OBS_STATE]).unsqueeze(1))
    actions = model.vae_encoder_action_input_proj(batch[ACTION])  # (B, S, D)
    tokens = torch.cat([*prefix, actions], dim=1).transpose(0, 1)

    is_pad = batch["action_is_pad"]
    never_pad = is_pad.new_zeros((batch_size, len(prefix)), dtype=torch.bool)
    encoded = first_token(
        model.vae_encoder,
        tokens,
        model.vae_encoder_pos_enc.transpose(0, 1),
        torch.cat([never_pad, is_pad], dim=1),
    )
    mean, log_sigma_x2 = model.vae_encoder_latent_output_proj(encoded).split(model.config.latent_dim, dim=1)
    return mean, log_sigma_x2


def _position_table(model: ACT, features: Tensor) -> Tensor:
    """The cameras' position embedding ``(1, D, h, w)``, which depends on shape, dtype and device alone.

    In eager mode it is made once per such key and shared by all models (about 25 kernels a
    camera and call otherwise); the table belongs to no module, so nothing can make it stale.
    A graph with constant weights has it as a constant too. Inside of any other it is computed: a
    look-up there would add guards, and Inductor fuses it.
    """
    embed = model.encoder_cam_feat_pos_embed
    # Not in torch.export, which would put a fake tensor into the table that is kept.
    constant = in_frozen_graph() and torch.compiler.is_dynamo_compiling()
    in_graph = torch.compiler.is_compiling() and not constant
    if in_graph or type(embed) is not ACTSinusoidalPositionEmbedding2d:
        return embed(features)
    height, width = features.shape[-2:]
    table = constant_position_table if constant else fixed_position_table
    return table(embed.dimension, height, width, features.dtype, features.device)


def _camera_tokens(model: ACT, images: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens ``(N, h*w, B, D)`` of ``images`` (N, B, C, H, W), and their positions ``(h*w, 1, D)``."""
    n_cameras, batch_size = images.shape[:2]
    features = features_of(model.backbone, images.flatten(0, 1))
    positions = _position_table(model, features).to(dtype=features.dtype)
    tokens = model.encoder_img_feat_input_proj(features).flatten(2)  # (N*B, D, h*w)
    tokens = tokens.unflatten(0, (n_cameras, batch_size)).permute(0, 3, 1, 2)
    return tokens, positions.flatten(2).permute(2, 0, 1)


def _image_tokens(model: ACT, images: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    # One batch for all cameras makes the graph of three cameras as small as that of one: ops
    # captured 653 -> 272, cold compile 30 s -> 17 s. In eager mode it is about 7% slower on a
    # CPU and holds the activations of all cameras at once, so there they go one by one.
    if torch.compiler.is_compiling() and all(image.shape == images[0].shape for image in images):
        tokens, positions = _camera_tokens(model, torch.stack(images))
        yield tokens.flatten(0, 1), positions.repeat(len(images), 1, 1)
        return
    for image in images:
        tokens, positions = _camera_tokens(model, image.unsqueeze(0))
        yield tokens.squeeze(0), positions


def _vector_positions(model: ACT) -> list[Tensor]:
    """Positions of latent and state(s), ``(1, 1, D)`` each or together.

    A concatenation gives its inputs views of one gradient. Autograd would keep this parameter's, and with
    it that of all tokens; a split puts its parts together in memory of their own.
    """
    positions = model.encoder_1d_feature_pos_embed.weight.unsqueeze(1)
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return [positions]
    return list(positions.split(1))


def _encoder_inputs(model: ACT, batch: Batch, latent: Tensor) -> tuple[Tensor, Tensor]:
    """The encoder's tokens ``(T, B, D)`` and positions ``(T, 1, D)``: latent, state(s), then the cameras."""
    config = model.config
    vectors = [model.encoder_latent_input_proj(latent)]  # (B, D) each
    if config.robot_state_feature:
        vectors.append(model.encoder_robot_state_input_proj(batch[OBS_STATE]))
    if config.env_state_feature:
        vectors.append(model.encoder_env_state_input_proj(batch[OBS_ENV_STATE]))
    tokens = []
    positions = _vector_positions(model)
    if config.image_features:
        for image_tokens, image_positions in _image_tokens(model, batch[OBS_IMAGES]):
            tokens.append(image_tokens)
            positions.append(image_positions)
    # Stacked last: a copy made before the backbone would be held at the peak of its memory.
    return torch.cat([torch.stack(vectors), *tokens]), torch.cat(positions)


def act_forward(self: ACT, batch: Batch) -> tuple[Tensor, Posterior]:
    """ACT's forward pass: actions ``(B, S, action_dim)`` and the latent's (mean, log(sigma^2)).

    Same inputs, outputs and errors as ``ACT.forward`` of the installed LeRobot.
    """
    config = self.config
    use_posterior = config.use_vae and self.training
    if use_posterior and ACTION not in batch:
        return STOCK_ACT_FORWARD(self, batch)  # which says what is missing in LeRobot's own words
    batch_size = (batch[OBS_IMAGES][0] if OBS_IMAGES in batch else batch[OBS_ENV_STATE]).shape[0]

    posterior: Posterior = (None, None)
    if use_posterior:
        mean, log_sigma_x2 = posterior = _posterior(self, batch, batch_size)
        latent = mean + log_sigma_x2.div(2).exp() * torch.randn_like(mean)
    else:
        latent = self.encoder_latent_input_proj.weight.new_zeros((batch_size, config.latent_dim))

    tokens, positions = _encoder_inputs(self, batch, latent)
    decoded = self.decoder(
        decoder_input(self.decoder, positions, config.chunk_size, batch_size),
        self.encoder(tokens, pos_embed=positions),
        encoder_pos_embed=positions,
        decoder_pos_embed=self.decoder_pos_embed.weight.unsqueeze(1),
    )
    return self.action_head(decoded.transpose(0, 1)), posterior


# --- the classes ---------------------------------------------------------------------------


class CompileFriendlyACT(ACT):
    forward = act_forward


class CompileFriendlyACTPolicy(ACTPolicy):
    forward = compiled_policy.forward
    predict_action_chunk = compiled_policy.predict_action_chunk
    get_optim_params = compiled_policy.get_optim_params
    warm_up = compiled_policy.warm_up
    compiled_by = compiled_policy.compiled_by
    eval = policy_eval
    __setattr__ = compiled_policy.set_attribute
    __getstate__ = compiled_policy.state_without_compiled


COMPILE_FRIENDLY: dict[type[nn.Module], type[nn.Module]] = {
    **LAYERS,
    ACT: CompileFriendlyACT,
    ACTPolicy: CompileFriendlyACTPolicy,
}
for _stock, _friendly in COMPILE_FRIENDLY.items():
    # FSDP's wrapping in accelerate looks layers up by LeRobot's names. Pickles go by ``__qualname__``.
    _friendly.__name__ = _stock.__name__


@cache
def _compile_friendly_class(cls: Any) -> Any:
    for stock, friendly in COMPILE_FRIENDLY.items():
        if cls is stock:
            return friendly
        if issubclass(cls, stock) and not issubclass(cls, friendly):
            # Somebody's own subclass: its methods come first, their super() calls reach ours.
            # Pickles name that class and not this one, which exists in this process only.
            return type(
                cls.__name__, (cls, friendly), {"__module__": cls.__module__, "__reduce_ex__": _reduce}
            )
    return cls


def _reduce(self: nn.Module, _protocol: Any) -> tuple[Any, ...]:
    return _remake, (type(self).__mro__[1],), self.__getstate__()


def _remake(cls: Any) -> nn.Module:
    friendly = _compile_friendly_class(cls)
    return friendly.__new__(friendly)


def make_compile_friendly(module: nn.Module) -> None:
    """Give every ACT module in ``module`` its compile-friendly class, in place; weights stay as they are."""
    few_files()
    of_moving_terms()
    try_once()
    for part in module.modules():
        cls: Any = type(part)
        part.__class__ = _compile_friendly_class(cls)


class ACTCompiledPolicy(CompileFriendlyACTPolicy):
    """ACT with ``compile_model`` and ``compile_mode`` in its config; otherwise LeRobot's ACTPolicy.

    With ``compile_model=True`` the first call of ``forward`` (training) and of
    ``predict_action_chunk`` compiles; each is one graph, and a graph break is an error
    (``fullgraph=True``). Checkpoints are those of ``ACTPolicy``, in both directions.

    Args:
        config: an ACTCompiledConfig, or a plain ACTConfig (as stored in an ACT checkpoint).
    """

    config_class = ACTCompiledConfig
    name = "act_compiled"

    def __init__(self, config: ACTConfig, **kwargs: Any) -> None:
        super().__init__(ACTCompiledConfig.from_act(config), **kwargs)
        make_compile_friendly(self.model)
