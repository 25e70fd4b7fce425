"""Reference attention (§B, "Injecting identity"): self-attention of every block also sees the reference's tokens.

The paper concatenates f1 (denoiser) and f2 (reference) along tokens, attends, and keeps the first half. Rows of attention are
independent of each other, so asking only f1's queries gives the same numbers for about half the cost.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor


@dataclass
class ReferenceCall:
    """What one U-Net forward carries to its attention processors; nothing is kept on the modules between calls.

    mode: "write" stores the tokens f2 of every self-attention by name; "read" attends to them as well.
    features: name -> f2 (R, n, c). keep: (R,) bool, False drops a sample's reference; None keeps all.
    The features' rows belong to the last R samples of the batch; earlier samples attend only to themselves
    (the unconditional branch of classifier-free guidance).
    """

    mode: str
    features: dict[str, Tensor] = field(default_factory=dict)
    keep: Tensor | None = None


class ReferenceAttention:
    """Attention processor of one self-attention layer (`attn1`), known by its name in the U-Net."""

    def __init__(self, name: str):
        self.name = name

    def __call__(
        self, attn, hidden_states: Tensor, encoder_hidden_states=None, attention_mask=None, temb=None, reference: ReferenceCall | None = None
    ) -> Tensor:
        """hidden_states f1: (B, n, c), already normalised -> (B, n, c)."""
        if reference is None:
            return _finish(attn, _attend(attn, hidden_states, hidden_states))
        if reference.mode == "write":
            # Assigned, not appended: gradient checkpointing runs this line a second time.
            reference.features[self.name] = hidden_states
            return _finish(attn, _attend(attn, hidden_states, hidden_states))
        f2 = reference.features[self.name].to(hidden_states.dtype)
        alone, with_reference = hidden_states.split([len(hidden_states) - len(f2), len(f2)])
        bias = None
        if reference.keep is not None:
            bias = _drop_bias(reference.keep, with_reference.shape[1], f2.shape[1], hidden_states.dtype)
        parts = [_attend(attn, with_reference, torch.cat([with_reference, f2], dim=1), bias)]
        if len(alone):
            parts.insert(0, _attend(attn, alone, alone))
        return _finish(attn, torch.cat(parts) if len(parts) > 1 else parts[0])


class TextFreeCrossAttention:
    """Attention processor of one cross-attention layer (`attn2`): plain attention that ignores the reference."""

    def __call__(self, attn, hidden_states: Tensor, encoder_hidden_states=None, attention_mask=None, temb=None, reference=None) -> Tensor:
        return _finish(attn, _attend(attn, hidden_states, encoder_hidden_states))


def install(unet: UNet2DConditionModel) -> None:
    """Give every self-attention a reference processor and every cross-attention one that accepts the same keywords."""
    unet.set_attn_processor(
        {
            name: ReferenceAttention(name) if name.endswith("attn1.processor") else TextFreeCrossAttention()
            for name in unet.attn_processors
        }
    )


def names_without_gradient(unet: UNet2DConditionModel) -> list[str]:
    """Parameters of a reference U-Net that its features never depend on: everything after the last self-attention's input.

    They get no gradient, and are frozen. Found by tracing a copy without storage ("meta"), so it holds for any architecture.
    """
    with torch.device("meta"):
        probe = UNet2DConditionModel.from_config(unet.config)
    install(probe)
    side = 2 ** (len(probe.config.block_out_channels) - 1)
    call = ReferenceCall("write")
    latents = torch.empty(1, probe.config.in_channels, side, side, device="meta")
    tokens = torch.empty(1, 1, probe.config.cross_attention_dim, device="meta")
    probe(latents, torch.zeros(1, device="meta"), tokens, cross_attention_kwargs={"reference": call})
    total = sum(f2.sum() for f2 in call.features.values())
    names, parameters = zip(*probe.named_parameters())
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return [name for name, gradient in zip(names, gradients) if gradient is None]


def _attend(attn, queries: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multi-head attention of (B, n, c) over (B, m, d) before the output projection."""
    heads = attn.heads
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (attn.to_q(queries), attn.to_k(context), attn.to_v(context)))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=attn.scale).transpose(1, 2).flatten(2)


def _finish(attn, attended: Tensor) -> Tensor:
    """The layer's output projection and dropout; transformer blocks of a U-Net add the residual themselves."""
    return attn.to_out[1](attn.to_out[0](attended))


def _drop_bias(keep: Tensor, own: int, reference: int, dtype: torch.dtype) -> Tensor:
    """(B, 1, 1, own + reference) added to the scores: -inf on the reference tokens of samples whose reference is dropped."""
    dropped = torch.zeros(len(keep), dtype=dtype, device=keep.device).masked_fill(~keep, float("-inf"))
    bias = torch.cat([torch.zeros(len(keep), own, dtype=dtype, device=keep.device), dropped[:, None].expand(-1, reference)], dim=1)
    return bias[:, None, None, :]
