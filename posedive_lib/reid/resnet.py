"""The second baseline: a ResNet with BNNeck, softmax with label smoothing and batch-hard triplet loss (Luo et al., 2019).

The paper claims a gain for any Re-ID model; this one shares no architecture, no pre-training and no text with CLIP-ReID.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ResNetBackbone, ResNetConfig

from posedive_lib.reid import losses
from posedive_lib.reid.clip_reid import IdentityHead
from posedive_lib.reid.image_set import ImageSet
from posedive_lib.reid.learning_rate import epoch_of, stage2_rate, steps_of
from posedive_lib.reid.loop import Stage
from posedive_lib.reid.sampler import PKSampler
from posedive_lib.reid.torch_model import TorchBaseline, plain, run_key
from posedive_lib.reid.weights import load_resnet
from posedive_lib.seeds import seed_for


class ResNetReID(nn.Module):
    """Backbone with stride 1 in its last stage, global average, BNNeck."""

    def __init__(self, backbone: ResNetBackbone, identities: int, generator: torch.Generator):
        super().__init__()
        for layer in backbone.encoder.stages[-1].modules():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (
                    1,
                    1,
                )  # twice the resolution of the last feature map, as is usual in Re-ID
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.head = IdentityHead(backbone.num_features[-1], identities, generator)

    def pooled(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) normalised pixels to (N, D)."""
        maps = self.backbone(pixels.contiguous(memory_format=torch.channels_last)).feature_maps[-1]
        return maps.float().mean(dim=(2, 3))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The features before batch norm (N, D), for the triplet loss, and the logits (N, identities)."""
        features = self.pooled(pixels)
        return features, self.head(features)

    def features(self, pixels: Tensor, cameras: Tensor | None = None) -> Tensor:
        """(N, D) after batch norm: the test feature."""
        return self.head.norm(self.pooled(pixels))


class ResNetBaseline(TorchBaseline):
    """`pretrained`: a ResNet of the `transformers` layout (microsoft/resnet-50), or None to train `reid.resnet.architecture` from scratch."""

    name = weights = "resnet"
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, for published weights

    def fit(
        self, train: ImageSet, *, seed: int, progress=None, checkpoints: str | Path | None = None
    ) -> dict:
        """Train; returns the learning rate, the loss and each term of it, per step. Resumes from `checkpoints` as CLIP-ReID does."""
        p, options = self.params, self.params.resnet
        pids, labels = np.unique(train.pids, return_inverse=True)
        images, labels = (
            self.sized(train.images, "bicubic"),
            torch.from_numpy(labels).to(self.machine.device),
        )
        steps, weights = steps_of(options, len(images), p.batch_size), self.image_weights(train)
        sampler = PKSampler(
            train.pids,
            p.batch_size,
            p.instances,
            steps,
            seed_for(seed, "pk"),
            generated=train.generated,
            max_share=p.generated.max_share,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(seed, "backbone"))
            backbone = (
                ResNetBackbone(scratch_config(options.architecture))
                if self.pretrained is None
                else load_resnet(self.pretrained)
            )
            self.model = ResNetReID(
                backbone, len(pids), torch.Generator().manual_seed(seed_for(seed, "heads"))
            ).to(self.machine.device)

        def terms(network, step: int, rows: np.ndarray) -> dict[str, Tensor]:
            rows = self.machine.share(rows, sampler.instances)
            features, logits = network(self.augmented(images, rows, seed, step))
            rows = torch.from_numpy(rows).to(labels.device)
            weight = None if weights is None else weights[rows]
            return {
                "id": losses.identity(logits, labels[rows], p.label_smoothing, weight),
                "triplet": losses.hard_triplet(features, labels[rows], p.margin, weight),
            }

        learned = [value for value in self.model.parameters() if value.requires_grad]
        stage = Stage(
            "resnet",
            self.model.train(),
            [(learned, 1.0)],
            lambda step: stage2_rate(epoch_of(step, steps, options.epochs), options),
            steps,
            options.weight_decay,
            self.machine,
            checkpoint=Path(checkpoints) / "resnet.safetensors" if checkpoints else None,
            every=p.checkpoint_every,
            key=self._key(train, seed) if checkpoints else "",
        )
        history = stage.run(sampler, terms, progress)
        self.model.eval()
        return {"resnet": history}

    def _key(self, train: ImageSet, seed: int) -> str:
        settings = {
            name: value
            for name, value in plain(self.params).items()
            if name not in ("seeds", "checkpoint_every", "stage1", "stage2")
        }
        return run_key(
            settings,
            train,
            seed,
            str(self.pretrained),
            self.height,
            self.width,
            self.machine.processes,
        )

    def about(self) -> dict[str, Any]:
        return {
            "backbone": self.model.backbone.config.to_dict(),
            "identities": self.model.head.classifier.out_features,
        }

    def rebuild(self, about: dict[str, Any]) -> ResNetReID:
        backbone = ResNetBackbone(ResNetConfig.from_dict(about["backbone"]))
        return ResNetReID(backbone, about["identities"], torch.Generator().manual_seed(0))


def scratch_config(architecture) -> ResNetConfig:
    """A ResNet of `reid.resnet.architecture`: kind of layer, width of the stem, widths and depths of the stages."""
    return ResNetConfig(
        layer_type=architecture.layer,
        embedding_size=architecture.stem,
        hidden_sizes=list(architecture.widths),
        depths=list(architecture.depths),
    )
