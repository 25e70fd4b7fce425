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
    features: name -> f2 (R, n, c), or its keys and values as made by `keys_and_values`.
    keep: (R,) bool, False drops a sample's reference; None keeps all.
    The features' rows belong to the last R samples of the batch; earlier samples attend only to themselves
    (the unconditional branch of classifier-free guidance).
    """

    mode: str
    features: dict[str, Tensor | tuple[Tensor, Tensor]] = field(default_factory=dict)
    keep: Tensor | None = None


class ReferenceAttention:
    """Attention processor of one self-attention layer (`attn1`), known by its name in the U-Net."""

    def __init__(self, name: str):
        self.name = name

    def __call__(
        self,
        attn,
        hidden_states: Tensor,
        encoder_hidden_states=None,
        attention_mask=None,
        temb=None,
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
        k2, v2 = (
            f2 if isinstance(f2, tuple) else (attn.to_k(f2.to(k.dtype)), attn.to_v(f2.to(v.dtype)))
        )
        alone = len(q) - len(k2)
        bias = (
            None
            if reference.keep is None
            else _drop_bias(reference.keep, k.shape[1], k2.shape[1], k.dtype)
        )
        keys, values = (
            torch.cat([k[alone:], k2.to(k.dtype)], dim=1),
            torch.cat([v[alone:], v2.to(v.dtype)], dim=1),
        )
        attended = _attend(attn, q[alone:], keys, values, bias)
        if alone:
            attended = torch.cat([_attend(attn, q[:alone], k[:alone], v[:alone]), attended])
        return _finish(attn, attended)


class TextFreeCrossAttention:
    """Attention processor of one cross-attention layer (`attn2`): plain attention that ignores the reference."""

    def __call__(
        self,
        attn,
        hidden_states: Tensor,
        encoder_hidden_states=None,
        attention_mask=None,
        temb=None,
        reference=None,
    ) -> Tensor:
        if encoder_hidden_states.shape[1] == 1 and not torch.is_grad_enabled():
            # The softmax over one token is 1: every query gets that token's value. (Training asks for the queries' gradient, zero as it is.)
            return _finish(attn, attn.to_v(encoder_hidden_states)).expand(
                -1, hidden_states.shape[1], -1
            )
        k, v = attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states)
        return _finish(attn, _attend(attn, attn.to_q(hidden_states), k, v))


def install(unet: UNet2DConditionModel) -> None:
    """Give every self-attention a reference processor and every cross-attention one that accepts the same keywords."""
    unet.set_attn_processor(
        {
            name: ReferenceAttention(name)
            if name.endswith("attn1.processor")
            else TextFreeCrossAttention()
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
    probe(
        latents, torch.zeros(1, device="meta"), tokens, cross_attention_kwargs={"reference": call}
    )
    total = sum(f2.sum() for f2 in call.features.values())
    names, parameters = zip(*probe.named_parameters())
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return [name for name, gradient in zip(names, gradients) if gradient is None]


def keys_and_values(
    unet: UNet2DConditionModel, features: dict[str, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """f2 of every self-attention -> its keys and values in the denoising U-Net: they change with no step, pose or guidance branch."""
    layers = {name: unet.get_submodule(name.removesuffix(".processor")) for name in features}
    return {name: (layers[name].to_k(f2), layers[name].to_v(f2)) for name, f2 in features.items()}


def _attend(attn, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multi-head attention of queries (B, n, c) over keys and values (B, m, c), before the output projection."""
    if (
        q.device.type == "cpu" and q.dtype == torch.bfloat16
    ):  # backward of the CPU's bfloat16 kernel takes three times as long
        with torch.autocast("cpu", enabled=False):
            return _attend(
                attn, q.float(), k.float(), v.float(), None if bias is None else bias.float()
            ).to(q.dtype)
    q, k, v = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (q, k, v))
    return (
        F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=attn.scale)
        .transpose(1, 2)
        .flatten(2)
    )


def _finish(attn, attended: Tensor) -> Tensor:
    """The layer's output projection and dropout; transformer blocks of a U-Net add the residual themselves."""
    return attn.to_out[1](attn.to_out[0](attended))


def _drop_bias(keep: Tensor, own: int, reference: int, dtype: torch.dtype) -> Tensor:
    """(B, 1, 1, own + reference) added to the scores: -inf on the reference tokens of samples whose reference is dropped."""
    dropped = torch.zeros(len(keep), dtype=dtype, device=keep.device).masked_fill(
        ~keep, float("-inf")
    )
    bias = torch.cat(
        [
            torch.zeros(len(keep), own, dtype=dtype, device=keep.device),
            dropped[:, None].expand(-1, reference),
        ],
        dim=1,
    )
    return bias[:, None, None, :]
