"""The generator's network (§B, Fig. 1): two U-Nets, pose guiders and the null embedding."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from posedive_lib.generator import reference
from posedive_lib.generator.guiders import PoseGuiders
from posedive_lib.generator.reference import Features, ReferenceCall
from posedive_lib.intake.files import read_json
from posedive_lib.weights import load_part, local_folder, part_folder, plain

if TYPE_CHECKING:
    from posedive_lib.params import GeneratorParams


class PosedConvIn(nn.Conv2d):
    """`conv_in` of the denoising U-Net: projects the noise and adds the guiders' features (§B).

    The features arrive as extra channels behind the noisy latents. So a call carries all it needs,
    nothing is kept on the module, and the parameters keep their names.
    Input (B, in_channels [+ out_channels], h, w) -> (B, out_channels, h, w).
    """

    @classmethod
    def adopt(cls, conv: nn.Conv2d) -> PosedConvIn:
        """The same layer with the same parameters."""
        sizes = conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding
        adopted = cls(*sizes)
        adopted.weight, adopted.bias = conv.weight, conv.bias
        return adopted

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == self.in_channels:
            return super().forward(x)
        latents, guide = x.split([self.in_channels, x.shape[1] - self.in_channels], dim=1)
        return super().forward(latents) + guide


class PoseDiveModel(nn.Module):
    """Everything that is trained (§B).

    With fresh guiders and without reference features it equals its base U-Net.
    Shapes: latents (B, C, h, w); t (B,); clip_tokens (B, T, D); depth (B, 1, H, W), normals and
    skeleton (B, 3, H, W) float in [0, 1]; guide: the guiders' output (B, width, h, w);
    features: name -> (R, n, c), one entry per self-attention.
    """

    def __init__(
        self,
        denoising_unet: UNet2DConditionModel,
        reference_unet: UNet2DConditionModel | None,
        guiders: PoseGuiders,
    ):
        super().__init__()
        self.denoising_unet, self.reference_unet = denoising_unet, reference_unet
        self.guiders = guiders
        # One embedding stands for "no person" in training and in sampling alike; public relatives
        # use two different ones.
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
    def from_stable_diffusion(cls, folder: str | Path, params: GeneratorParams) -> PoseDiveModel:
        """Both U-Nets start from `folder/unet` (§B). StudyError when a part does not fit.

        params: the section `generator`. Two of them are ablations: with `pretrained: false` both
        U-Nets start from the same random weights; with `reference_attention: false` there is no
        reference U-Net.
        """
        folder = local_folder(folder)
        unet = load_part(UNet2DConditionModel, folder, "unet")
        if not params.pretrained:
            unet = UNet2DConditionModel.from_config(unet.config).eval()
        reference_unet = copy.deepcopy(unet) if params.reference_attention else None
        return cls(unet, reference_unet, build_guiders(params, unet, vae_factor(folder, params)))

    def tokens_kept(self, clip_tokens: Tensor, keep: Tensor) -> Tensor:
        """CLIP tokens (B, T, D); the null embedding for samples where `keep` (B,) is False."""
        return torch.where(keep[:, None, None], clip_tokens, self.null_tokens.to(clip_tokens.dtype))

    def reference_features(self, latents: Tensor, clip_tokens: Tensor) -> Features | None:
        """f2 of every self-attention; None without a reference U-Net.

        One pass of the reference U-Net over un-noised latents at t = 0 (lineage).
        """
        if self.reference_unet is None:
            return None
        call = ReferenceCall("write")
        t = torch.zeros(len(latents), device=latents.device, dtype=torch.long)
        self.reference_unet(latents, t, clip_tokens, cross_attention_kwargs={"reference": call})
        return call.features

    def forward(
        self,
        noisy_latents: Tensor,
        t: Tensor,
        clip_tokens: Tensor,
        features: Features | None,
        depth: Tensor,
        normals: Tensor,
        skeleton: Tensor,
        keep: Tensor | None = None,
        shared: int = 1,
    ) -> Tensor:
        """Predicted epsilon or v, (B, C, h, w). keep: (B,) bool, False drops the identity.

        shared: that many samples in a row have one reference, and the features one row for them.

        A dropped sample (condition dropout) gets the null embedding and attends only to itself. Its
        pose guide stays: guidance then strengthens identity within the pose, and the unconditional
        branch needs no second "null pose".
        """
        guide = self.guiders(depth, normals, skeleton)
        if keep is not None:
            clip_tokens = self.tokens_kept(clip_tokens, keep)
        call = None if features is None else ReferenceCall("read", features, keep, shared)
        return self._denoise(noisy_latents, t, clip_tokens, call, guide)

    def guided(
        self,
        noisy_latents: Tensor,
        t: Tensor,
        clip_tokens: Tensor,
        features: Features | None,
        guide: Tensor,
        guidance: float,
    ) -> Tensor:
        """Classifier-free guidance: null + guidance * (identity - null), in one batch.

        It takes the guiders' output, so that sampling computes it once for all steps.
        """
        call = None if features is None else ReferenceCall("read", features)
        if guidance == 1.0:
            return self._denoise(noisy_latents, t, clip_tokens, call, guide)
        null = self.null_tokens.to(clip_tokens.dtype).expand_as(clip_tokens)
        latents, times, guides = (torch.cat([x, x]) for x in (noisy_latents, t, guide))
        tokens = torch.cat([null, clip_tokens])
        # The features have rows for the second half only, so the first half attends to itself.
        without, with_identity = self._denoise(latents, times, tokens, call, guides).chunk(2)
        return without + guidance * (with_identity - without)

    def _denoise(
        self,
        noisy_latents: Tensor,
        t: Tensor,
        clip_tokens: Tensor,
        call: ReferenceCall | None,
        guide: Tensor,
    ) -> Tensor:
        # (B, C + width, h, w): `PosedConvIn` takes the two apart again.
        sample = torch.cat([noisy_latents, guide.to(noisy_latents.dtype)], dim=1)
        kwargs = {"reference": call}
        return self.denoising_unet(sample, t, clip_tokens, cross_attention_kwargs=kwargs).sample

    def trainable(self) -> dict[str, nn.Parameter]:
        """Named parameters that get a gradient: all but the reference U-Net's tail."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    def enable_gradient_checkpointing(self) -> None:
        """Trade time for memory in both U-Nets."""
        for unet in (self.denoising_unet, self.reference_unet):
            if unet is not None:
                unet.enable_gradient_checkpointing()


def build_guiders(params: GeneratorParams, unet: UNet2DConditionModel, factor: int) -> PoseGuiders:
    """Fresh guiders for this U-Net and VAE, by the section `generator`."""
    widths, width = dict(plain(params)["guider_widths"]), unet.config.block_out_channels[0]
    return PoseGuiders(widths, list(params.guider_channels), width, factor, params.conditions)


def vae_factor(stable_diffusion: Path, params: GeneratorParams) -> int:
    """How many times the VAE in use makes images smaller: 8 for four levels."""
    path = part_folder(stable_diffusion, "vae", params.vae) / "config.json"
    return 2 ** (len(read_json(path, "block_out_channels")["block_out_channels"]) - 1)
