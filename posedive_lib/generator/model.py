"""The generator's network (§B, Fig. 1): denoising U-Net, reference U-Net, pose guiders and the null embedding."""

import copy
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from posedive_lib.generator import folders, reference
from posedive_lib.generator.guiders import PoseGuiders
from posedive_lib.generator.reference import ReferenceCall
from posedive_lib.loading import read_json


class PosedConvIn(nn.Conv2d):
    """`conv_in` of the denoising U-Net: projects the noise and adds the guiders' features (§B).

    The features arrive as extra channels behind the noisy latents, so that a call carries all it needs: no hook, nothing kept on the
    module, and the parameters keep their names. Input (B, in_channels [+ out_channels], h, w) -> (B, out_channels, h, w).
    """

    @classmethod
    def adopt(cls, conv: nn.Conv2d) -> "PosedConvIn":
        """The same layer with the same parameters."""
        adopted = cls(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding
        )
        adopted.weight, adopted.bias = conv.weight, conv.bias
        return adopted

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == self.in_channels:
            return super().forward(x)
        latents, guide = x.split([self.in_channels, x.shape[1] - self.in_channels], dim=1)
        return super().forward(latents) + guide


class PoseDiveModel(nn.Module):
    """Everything that is trained (§B). With fresh guiders and without reference features it equals its base U-Net.

    Shapes: latents (B, C, h, w); clip_tokens (B, T, D); depth (B, 1, H, W), normals and skeleton (B, 3, H, W) float in [0, 1];
    features: name -> (R, n, c), one entry per self-attention.
    """

    def __init__(
        self,
        denoising_unet: UNet2DConditionModel,
        reference_unet: UNet2DConditionModel | None,
        guiders: PoseGuiders,
    ):
        super().__init__()
        self.denoising_unet, self.reference_unet, self.guiders = (
            denoising_unet,
            reference_unet,
            guiders,
        )
        # One embedding stands for "no person" in training and in sampling alike; public relatives use two different ones.
        self.null_tokens = nn.Parameter(torch.zeros(1, denoising_unet.config.cross_attention_dim))
        denoising_unet.conv_in = PosedConvIn.adopt(denoising_unet.conv_in)
        reference.install(denoising_unet)
        if reference_unet is None:  # an ablation: CLIP tokens alone tell the identity
            return
        reference.install(reference_unet)
        tail = set(reference.names_without_gradient(reference_unet))
        for name, parameter in reference_unet.named_parameters():
            parameter.requires_grad_(name not in tail)

    @classmethod
    def from_stable_diffusion(cls, folder: str | Path, params) -> "PoseDiveModel":
        """Both U-Nets start from `folder/unet` (§B); params: the `generator` section. StudyError when a part does not fit.

        With `pretrained: false` they start from random weights of the same architecture (both from the same ones), and with
        `reference_attention: false` there is no reference U-Net: ablations.
        """
        folder = folders.resolve(folder)
        unet = folders.load_part(UNet2DConditionModel, folder, "unet")
        if not params.pretrained:
            unet = UNet2DConditionModel.from_config(unet.config).eval()
        reference_unet = copy.deepcopy(unet) if params.reference_attention else None
        return cls(unet, reference_unet, build_guiders(params, unet, vae_factor(folder, params)))

    def tokens_kept(self, clip_tokens: Tensor, keep: Tensor) -> Tensor:
        """CLIP tokens (B, L, D), of samples that are not to be kept (B,) the null embedding instead."""
        return torch.where(keep[:, None, None], clip_tokens, self.null_tokens.to(clip_tokens.dtype))

    def reference_features(self, latents: Tensor, clip_tokens: Tensor) -> dict[str, Tensor] | None:
        """f2 of every self-attention: one pass of the reference U-Net over un-noised latents at t = 0 (lineage). None without one."""
        if self.reference_unet is None:
            return None
        call = ReferenceCall("write")
        t = torch.zeros(len(latents), device=latents.device, dtype=torch.long)
        self.reference_unet(latents, t, clip_tokens, cross_attention_kwargs={"reference": call})
        return call.features

    def forward(
        self,
        noisy_latents,
        t,
        clip_tokens,
        features,
        depth,
        normals,
        skeleton,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Predicted epsilon or v, (B, C, h, w). keep: (B,) bool, False drops a sample's identity (condition dropout)."""
        return self.denoise(
            noisy_latents, t, clip_tokens, features, self.guiders(depth, normals, skeleton), keep
        )

    def denoise(
        self,
        noisy_latents,
        t,
        clip_tokens,
        features,
        guide: Tensor | None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """`forward` with the guiders' output (B, width, h, w) at hand, so that sampling computes it once for all steps.

        A dropped sample gets the null embedding and attends only to itself. Its pose guide stays: guidance then strengthens identity
        within the pose, and the unconditional branch needs no second "null pose".
        """
        if keep is not None:
            clip_tokens = self.tokens_kept(clip_tokens, keep)
        call = None if features is None else ReferenceCall("read", features, keep)
        return self._denoise(noisy_latents, t, clip_tokens, call, guide)

    def guided(
        self, noisy_latents, t, clip_tokens, features, guide: Tensor, guidance: float
    ) -> Tensor:
        """Classifier-free guidance: null + guidance * (identity - null), both branches in one batch."""
        if guidance == 1.0:
            return self.denoise(noisy_latents, t, clip_tokens, features, guide)
        null = self.null_tokens.to(clip_tokens.dtype).expand_as(clip_tokens)
        twice = [torch.cat([x, x]) for x in (noisy_latents, t, guide)]
        # The features have rows for the second half only, so the first half attends to itself.
        call = None if features is None else ReferenceCall("read", features)
        without, with_identity = self._denoise(
            twice[0], twice[1], torch.cat([null, clip_tokens]), call, twice[2]
        ).chunk(2)
        return without + guidance * (with_identity - without)

    def _denoise(
        self, noisy_latents, t, clip_tokens, call: ReferenceCall | None, guide: Tensor | None
    ) -> Tensor:
        sample = (
            noisy_latents
            if guide is None
            else torch.cat([noisy_latents, guide.to(noisy_latents.dtype)], dim=1)
        )
        return self.denoising_unet(
            sample, t, clip_tokens, cross_attention_kwargs={"reference": call}
        ).sample

    def trainable(self) -> dict[str, nn.Parameter]:
        """Named parameters that get a gradient: all but the reference U-Net's tail."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        }

    def enable_gradient_checkpointing(self) -> None:
        """Trade time for memory in both U-Nets."""
        for unet in (self.denoising_unet, self.reference_unet):
            if unet is not None:
                unet.enable_gradient_checkpointing()


def build_guiders(params, unet: UNet2DConditionModel, factor: int) -> PoseGuiders:
    """Fresh guiders for this U-Net and VAE from `guider_widths`, `guider_channels` and `conditions` of the `generator` section."""
    widths, width = dict(plain(params)["guider_widths"]), unet.config.block_out_channels[0]
    return PoseGuiders(
        widths, list(params.guider_channels), width, factor, tuple(params.conditions)
    )


def vae_factor(stable_diffusion: Path, params) -> int:
    """Down-factor of the VAE in use: 8 for four levels."""
    config = read_json(
        folders.part_folder(stable_diffusion, "vae", params.vae) / "config.json",
        "block_out_channels",
    )
    return 2 ** (len(config["block_out_channels"]) - 1)


def plain(params) -> dict:
    """A parameter section (pydantic model, dict or namespace) as nested dicts and lists, for JSON."""
    if hasattr(params, "model_dump"):
        return params.model_dump()
    items = (
        params.items()
        if isinstance(params, dict)
        else vars(params).items()
        if hasattr(params, "__dict__")
        else None
    )
    return {key: plain(value) for key, value in items} if items is not None else params
