"""The second Re-ID model: a ResNet with BNNeck (Luo et al., 2019).

It learns by softmax with label smoothing and a batch-hard triplet loss. The paper claims a gain for
any Re-ID model; this one shares no architecture, no pre-training and no text with CLIP-ReID.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from transformers import ResNetBackbone, ResNetConfig

from posedive_lib.reid import losses
from posedive_lib.reid.clip_reid import IdentityHead
from posedive_lib.reid.image_set import ImageSet
from posedive_lib.reid.learning_rate import stage2_rate
from posedive_lib.reid.loop import History, Progress
from posedive_lib.reid.torch_model import TorchReIDModel
from posedive_lib.seeds import seed_for
from posedive_lib.weights import load_resnet

if TYPE_CHECKING:
    from posedive_lib.params.experiments import ResNetArchitecture


class ResNetReID(nn.Module):
    """Backbone with stride 1 in its last stage, global average, BNNeck."""

    def __init__(self, backbone: ResNetBackbone, identities: int, generator: Generator) -> None:
        super().__init__()
        # twice the resolution of the last feature map, as is usual in Re-ID
        for layer in backbone.encoder.stages[-1].modules():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.head = IdentityHead(backbone.num_features[-1], identities, generator)

    def pooled(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) normalised pixels to (N, D)."""
        maps = self.backbone(pixels.contiguous(memory_format=torch.channels_last)).feature_maps[-1]
        return maps.float().mean(dim=(2, 3))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Features before batch norm (N, D), for the triplet loss, and logits (N, identities)."""
        features = self.pooled(pixels)
        return features, self.head(features)

    def features(self, pixels: Tensor, cameras: Tensor | None = None) -> Tensor:
        """(N, D) after batch norm: the test feature."""
        return self.head.norm(self.pooled(pixels))


class ResNetModel(TorchReIDModel):
    """`pretrained`: a ResNet of the `transformers` layout (microsoft/resnet-50), or None.

    With None `reid.resnet.architecture` is trained from random weights.
    """

    name = weights = "resnet"
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, for published weights

    def fit(
        self,
        train: ImageSet,
        *,
        seed: int,
        progress: Progress | None = None,
        checkpoints: str | Path | None = None,
    ) -> dict[str, History]:
        """Train in the one stage "resnet"; see `TorchReIDModel.fit`."""
        p = self.params
        run = self.training_run(train, seed, progress, checkpoints)
        self.model = self._network(len(run.pids), seed).to(self.machine.device)
        learned = [value for value in self.model.parameters() if value.requires_grad]
        stage = self.stage(
            "resnet",
            run,
            self.model.train(),
            [(learned, 1.0)],
            p.resnet,
            stage2_rate,
            self.run_key(run),
        )
        sampler = self.pk_sampler(run, stage.steps)

        def terms(network: nn.Module, step: int, rows: np.ndarray) -> dict[str, Tensor]:
            rows = self.machine.share(rows, sampler.instances)
            features, logits = network(self.augmented(run, rows, step))
            labels, weights = run.targets(rows)
            return {
                "id": losses.identity(logits, labels, p.label_smoothing, weights),
                "triplet": losses.hard_triplet(features, labels, p.margin, weights),
            }

        history = stage.run(sampler, terms, progress)
        self.model.eval()
        return {"resnet": history}

    def _network(self, identities: int, seed: int) -> ResNetReID:
        with torch.random.fork_rng(devices=[]):  # layers draw from the global generator
            torch.manual_seed(seed_for(seed, "backbone"))
            if self.pretrained is None:
                backbone = ResNetBackbone(scratch_config(self.params.resnet.architecture))
            else:
                backbone = load_resnet(self.pretrained)
            heads = Generator().manual_seed(seed_for(seed, "heads"))
            return ResNetReID(backbone, identities, heads)

    def about(self) -> dict[str, Any]:
        """See `TorchReIDModel.about`."""
        return {
            "backbone": self.model.backbone.config.to_dict(),
            "identities": self.model.head.classifier.out_features,
        }

    def rebuild(self, about: dict[str, Any]) -> ResNetReID:
        """See `TorchReIDModel.rebuild`."""
        backbone = ResNetBackbone(ResNetConfig.from_dict(about["backbone"]))
        return ResNetReID(backbone, about["identities"], Generator().manual_seed(0))


def scratch_config(architecture: ResNetArchitecture) -> ResNetConfig:
    """A ResNet of `reid.resnet.architecture`: layer, width of the stem, widths and depths."""
    return ResNetConfig(
        layer_type=architecture.layer,
        embedding_size=architecture.stem,
        hidden_sizes=list(architecture.widths),
        depths=list(architecture.depths),
    )
