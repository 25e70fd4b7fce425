"""Reference attention (§B, "Injecting identity"): self-attention also sees the reference's tokens.

The paper concatenates f1 (denoiser) and f2 (reference) along tokens, attends, and keeps the first
half. Rows of attention are independent of each other, so asking only f1's queries gives the same
numbers for about half the cost.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor

# name of a self-attention -> its f2 (R, n, c), or f2's keys and values
Features = dict[str, Tensor | tuple[Tensor, Tensor]]


@dataclass
class ReferenceCall:
    """What one U-Net forward carries to its attention processors.

    Nothing is kept on the modules between calls.

    mode: "write" stores f2, the tokens of every self-attention; "read" attends to them as well.
    features: f2 by name, or its keys and values as made by `keys_and_values`.
    keep: (R,) bool, False drops a sample's reference; None keeps all.
    shared: that many samples in a row share one row of the features.
    The features' rows belong to the last R samples of the batch. Earlier samples attend only to
    themselves (the unconditional branch of classifier-free guidance).
    """

    mode: str
    features: Features = field(default_factory=dict)
    keep: Tensor | None = None
    shared: int = 1


class ReferenceAttention:
    """Attention processor of one self-attention layer (`attn1`), known by its name in the U-Net."""

    def __init__(self, name: str):
        self.name = name

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        reference: ReferenceCall | None = None,
    ) -> Tensor:
        """hidden_states f1: (B, n, c), already normalised -> (B, n, c)."""
        if reference is not None and reference.mode == "write":
            # Assigned, not appended: gradient checkpointing runs this line a second time.
            reference.features[self.name] = hidden_states
        q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        if reference is None or reference.mode == "write":
            return _finish(attn, _attend(attn, q, k, v))
        f2 = reference.features[self.name]
        if isinstance(f2, tuple):
            k2, v2 = f2
        else:
            k2, v2 = attn.to_k(f2.to(k.dtype)), attn.to_v(f2.to(v.dtype))
        if reference.shared > 1:
            k2, v2 = (part.repeat_interleave(reference.shared, dim=0) for part in (k2, v2))
        alone = len(q) - len(k2)  # samples without a reference come first
        keys = torch.cat([k[alone:], k2.to(k.dtype)], dim=1)  # (R, n + m, c)
        values = torch.cat([v[alone:], v2.to(v.dtype)], dim=1)
        bias = None
        if reference.keep is not None:
            bias = _drop_bias(reference.keep, k.shape[1], k2.shape[1], k.dtype)
        attended = _attend(attn, q[alone:], keys, values, bias)
        if alone:
            attended = torch.cat([_attend(attn, q[:alone], k[:alone], v[:alone]), attended])
        return _finish(attn, attended)


class TextFreeCrossAttention:
    """Attention processor of one cross-attention layer (`attn2`): it ignores the reference."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        reference: ReferenceCall | None = None,
    ) -> Tensor:
        if encoder_hidden_states.shape[1] == 1 and not torch.is_grad_enabled():
            # The softmax over one token is 1, so every query gets that token's value. (Training
            # asks for the queries' gradient, zero as it is.)
            value = _finish(attn, attn.to_v(encoder_hidden_states))
            return value.expand(-1, hidden_states.shape[1], -1)
        k, v = attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states)
        return _finish(attn, _attend(attn, attn.to_q(hidden_states), k, v))


def install(unet: UNet2DConditionModel) -> None:
    """Give every attention of a U-Net its processor from here."""
    processors: dict[str, ReferenceAttention | TextFreeCrossAttention] = {}
    for name in unet.attn_processors:
        own = name.endswith("attn1.processor")
        processors[name] = ReferenceAttention(name) if own else TextFreeCrossAttention()
    unet.set_attn_processor(processors)


def names_without_gradient(unet: UNet2DConditionModel) -> list[str]:
    """Parameters of a reference U-Net that its features never depend on.

    Everything after the last self-attention's input: it gets no gradient and is frozen. Found by
    tracing a copy without storage ("meta"), so it holds for any architecture.
    """
    with torch.device("meta"):
        probe = UNet2DConditionModel.from_config(unet.config)
    install(probe)
    side = 2 ** (len(probe.config.block_out_channels) - 1)
    call = ReferenceCall("write")
    latents = torch.empty(1, probe.config.in_channels, side, side, device="meta")
    tokens = torch.empty(1, 1, probe.config.cross_attention_dim, device="meta")
    time = torch.zeros(1, device="meta")
    probe(latents, time, tokens, cross_attention_kwargs={"reference": call})
    total = sum(f2.sum() for f2 in call.features.values() if isinstance(f2, Tensor))
    names, parameters = zip(*probe.named_parameters(), strict=True)
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return [name for name, gradient in zip(names, gradients, strict=True) if gradient is None]


def keys_and_values(
    unet: UNet2DConditionModel, features: dict[str, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """f2 of every self-attention -> its keys and values in the denoising U-Net.

    They are the same for every step, pose and guidance branch.
    """
    layers = {name: unet.get_submodule(name.removesuffix(".processor")) for name in features}
    return {name: (layers[name].to_k(f2), layers[name].to_v(f2)) for name, f2 in features.items()}


def _attend(attn: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of queries (B, n, c) over keys and values (B, m, c), before the projection."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        # The backward pass of the CPU's bfloat16 kernel takes three times as long.
        with torch.autocast("cpu", enabled=False):
            wide = None if bias is None else bias.float()
            return _attend(attn, q.float(), k.float(), v.float(), wide).to(q.dtype)
    # (B, n, c) -> (B, heads, n, c / heads)
    q, k, v = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (q, k, v))
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=attn.scale)
    return attended.transpose(1, 2).flatten(2)


def _finish(attn: Any, attended: Tensor) -> Tensor:
    """The layer's output projection and dropout; the U-Net's blocks add the residual themselves."""
    return attn.to_out[1](attn.to_out[0](attended))


def _drop_bias(keep: Tensor, own: int, reference: int, dtype: torch.dtype) -> Tensor:
    """(B, 1, 1, own + reference) added to the scores.

    -inf on the reference tokens of samples that are not to be kept (B,), else 0.
    """
    bias = torch.zeros(len(keep), own + reference, dtype=dtype, device=keep.device)
    bias[:, own:].masked_fill_(~keep[:, None], float("-inf"))
    return bias[:, None, None, :]
