"""What each pre-trained model does on people that it has never seen, in numbers and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from scipy.ndimage import binary_dilation
from sklearn.metrics import roc_auc_score
from transformers import ResNetForImageClassification

from miniworld.pretrain.common import People, batches, to_float
from miniworld.pretrain.resnet import labels, normalised
from posedive_lib.augment.confidence import PoseEstimator
from posedive_lib.generator.likeness import detail, psnr
from posedive_lib.generator.sampling import load
from posedive_lib.seeds import rng_for
from posedive_lib.weights import load_clip

if TYPE_CHECKING:
    from posedive_lib.generator.sampling import Generator


def to_bytes(images: torch.Tensor) -> np.ndarray:
    """float (N,3,H,W) in [-1,1] to uint8 (N,H,W,3)."""
    return ((images + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def show(rows: list[np.ndarray], path: Path) -> None:
    """Write rows of uint8 images (N,H,W,3) as one picture.

    As JPEG, because sensor noise makes PNG large.
    """
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.vstack([np.hstack(list(row)) for row in rows])).save(path, quality=88)


def bodies(data: People, rows: np.ndarray) -> np.ndarray:
    """The naked body's pixels of these rows, (N,H,W) bool."""
    return np.asarray(data.normals[rows]).max(axis=-1) > 0


@torch.no_grad()
def vae_metrics(folder: Path, data: People, pictures: Path) -> dict[str, float]:
    """What decode(mean of encode) keeps of 400 unseen photos: PSNR in dB and detail."""
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
    rows = data.rows[:: max(1, len(data.rows) // 400)]
    drawn = np.concatenate(
        [
            to_bytes(vae.decode(vae.encode(to_float(data.images[part])).latent_dist.mean).sample)
            for part in batches(rows, 50)
        ]
    )
    truth, body = data.images[rows], bodies(data, rows)
    show([truth[:16], drawn[:16]], pictures / "vae.jpg")
    return {
        "vae_psnr_db": psnr(drawn, truth, np.ones_like(body)).mean(),
        "vae_psnr_person_db": psnr(drawn, truth, body).mean(),
        "vae_detail_person": detail(drawn, truth, body).mean(),
        "vae_detail_background": detail(drawn, truth, ~body).mean(),
    }


@torch.no_grad()
def embed_images(folder: Path, images: np.ndarray) -> torch.Tensor:
    """Normalised image embeddings (N,D) of a CLIP (a whole one or a Stable Diffusion folder's)."""
    model = load_clip(folder)[0].eval()
    parts = [
        model(to_float(images[part]), interpolate_pos_encoding=True).image_embeds
        for part in batches(np.arange(len(images)), 64)
    ]
    return F.normalize(torch.cat(parts), dim=-1)


@torch.no_grad()
def embed_captions(folder: Path, captions: list[str]) -> torch.Tensor:
    """Normalised caption embeddings (N,D)."""
    _, model, tokenizer = load_clip(folder)
    ids = tokenizer(captions, padding=True, return_tensors="pt")["input_ids"]
    return F.normalize(model.eval()(input_ids=ids).text_embeds, dim=-1)


def matches(image: torch.Tensor, text: torch.Tensor, captions: list[str]) -> tuple[float, float]:
    """Share of images whose best caption is theirs, and of captions whose best image is.

    Captions that read the same count as one.
    """
    words, scores = np.array(captions), (image @ text.T).numpy()
    by_image, by_caption = words[scores.argmax(1)] == words, words[scores.argmax(0)] == words
    return float(by_image.mean()), float(by_caption.mean())


def clip_metrics(name: str, folder: Path, data: People, captions: list[str]) -> dict[str, float]:
    """Unseen people: caption <-> image top-1, mean of 8 draws of one frame for each person.

    No retrieval: a person's frames have one background, which alone would find them.
    """
    features = embed_images(folder, data.images[data.rows])
    texts = embed_captions(folder, [captions[i] for i in data.rows])
    person = np.asarray(data.person[data.rows])
    draws = []
    for k in range(8):
        rng = rng_for("clip-evaluation", k)
        one = np.array([rng.choice(np.flatnonzero(person == p)) for p in np.unique(person)])
        draws.append(matches(features[one], texts[one], [captions[data.rows[i]] for i in one]))
    to_caption, to_image = np.mean(draws, 0)
    return {
        f"{name}_image_to_caption_top1": to_caption,
        f"{name}_caption_to_image_top1": to_image,
    }


@torch.no_grad()
def resnet_metrics(folder: Path, data: People) -> dict[str, float]:
    """Unseen people: how well a score tells whether its label holds, AUROC, mean over labels."""
    model = ResNetForImageClassification.from_pretrained(folder, dtype=torch.float32).eval()
    parts = [
        model(normalised(to_float(data.images[part]))).logits for part in batches(data.rows, 64)
    ]
    names = [model.config.id2label[column] for column in range(model.config.num_labels)]
    shown = [labels(data.captions[row]) for row in data.rows]
    holds = np.array([[name in found for name in names] for found in shown])  # (N, L)
    known = holds.any(axis=0) & ~holds.all(axis=0)
    scores = torch.cat(parts).numpy()
    return {"resnet_label_auroc": roc_auc_score(holds[:, known], scores[:, known])}


def pose_metrics(folder: Path, data: People) -> dict[str, float]:
    """PCK@0.1 of the person's height, and how well confidence tells visible joints from hidden."""
    keypoints, sigma = PoseEstimator(folder).estimate(data.images[data.rows])
    truth, visible = np.asarray(data.keypoints[data.rows]), np.asarray(data.visible[data.rows])
    tall = np.ptp(truth[..., 1], axis=1)
    right = np.linalg.norm(keypoints - truth, axis=-1) <= 0.1 * tall[:, None]
    shown, other = visible == 2, visible == 0
    result = {
        "vitpose_pck10_visible": right[shown].mean(),
        "vitpose_pck10_all_in_view": right[visible > 0].mean(),
        "vitpose_auroc_visible_vs_hidden": roc_auc_score(shown.ravel(), sigma.ravel()),
        "vitpose_auroc_visible_vs_occluded": roc_auc_score(
            shown[shown | other], sigma[shown | other]
        ),
        "vitpose_sigma_visible": sigma[shown].mean(),
        "vitpose_sigma_own_body": sigma[visible == 1].mean(),
        "vitpose_sigma_occluded": sigma[other].mean(),
    }
    grey, neutral_sigma = PoseEstimator(folder).estimate(data.neutral[data.rows])
    near = np.linalg.norm(grey - truth, axis=-1) <= 0.1 * tall[:, None]
    return result | {
        "vitpose_pck10_grey_renderings": near[visible > 0].mean(),
        "vitpose_sigma_grey_renderings": neutral_sigma[visible == 2].mean(),
    }


def text_to_image_metrics(
    folder: Path, data: People, pictures: Path, count: int = 48
) -> dict[str, float]:
    """Samples by Stable Diffusion's own pipeline: how often CLIP picks the caption they are of."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    rows = data.rows[:: len(data.rows) // count][:count]
    captions = [data.captions[i] for i in rows]
    height, width = data.images.shape[1:3]
    drawn = pipeline(
        captions,
        height=height,
        width=width,
        num_inference_steps=20,
        guidance_scale=3.0,
        guidance_rescale=0.7,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images
    drawn = (drawn * 255).round().astype(np.uint8)
    show(
        [drawn[:16], data.images[rows[:16]], drawn[16:32], data.images[rows[16:32]]],
        pictures / "text_to_image.jpg",
    )
    text = embed_captions(folder, captions)
    samples, photos = embed_images(folder, drawn), embed_images(folder, data.images[rows])
    return {
        f"unet_sample_to_caption_top1_of_{count}": matches(samples, text, captions)[0],
        f"photo_to_caption_top1_of_{count}": matches(photos, text, captions)[0],
    }


def phase1_pairs(data: People, low: float, high: float, count: int) -> tuple[np.ndarray, ...]:
    """Rows of references and targets, of `count` people's clips, whose views are so far apart.

    low, high: degrees between their azimuths. Several pairs of a person, if there are fewer people.
    """
    rng, person = rng_for("phase1-evaluation", low, high), np.asarray(data.person[data.rows])
    azimuth = np.asarray(data.azimuth)
    pairs: list[tuple[int, int]] = []
    for own in rng.permutation(np.unique(person)):
        rows = data.rows[person == own]
        apart = np.abs((azimuth[rows, None] - azimuth[rows] + 180) % 360 - 180)
        fitting = np.argwhere((apart >= low) & (apart <= high) & ~np.eye(len(rows), dtype=bool))
        pairs += [tuple(rows[pair]) for pair in rng.permutation(fitting)[:2]]
    reference, target = np.array(pairs[:count], dtype=int).reshape(-1, 2).T
    return reference, target


def draw_pairs(
    generator: Generator, data: People, reference: np.ndarray, target: np.ndarray, **sampling: Any
) -> np.ndarray:
    """The targets as drawn from their references, uint8 (N,H,W,3)."""
    return generator.generate(
        data.images[reference],
        np.arange(len(reference)),
        data.skeleton[target],
        data.depth[target],
        data.normals[target],
        seeds=np.arange(len(target)),
        **sampling,
    )


def copying_metrics(generator: Generator, data: People, count: int) -> dict[str, float]:
    """PSNR on the person (dB) where the reference is the target, shows its side, or the other."""
    result = {}
    for name, low, high in (("near", 0, 45), ("far", 120, 180)):
        reference, target = phase1_pairs(data, low, high, count)
        drawn = draw_pairs(generator, data, reference, target)
        likeness = psnr(drawn, data.images[target], bodies(data, target))
        result[f"phase1_{name}_psnr_person_db"] = likeness.mean()
    own = phase1_pairs(data, 0, 180, count)[1]
    copied = draw_pairs(generator, data, own, own, guidance=1.0)
    likeness = psnr(copied, data.images[own], bodies(data, own))
    return result | {"phase1_self_copy_psnr_person_db": likeness.mean()}


def cut_out(images: np.ndarray, body: np.ndarray) -> np.ndarray:
    """The people (N,H,W,3) on grey: a clip's background would tell who it is.

    body (N,H,W): the naked body; clothes and hair reach a little beyond it.
    """
    person = binary_dilation(body, np.ones((1, 7, 7)))
    return np.where(person[..., None], images, np.uint8(128))


def phase1_metrics(folder: Path, data: People, pictures: Path) -> dict[str, float]:
    """The generator on unseen people, before the reference's camera: pose, identity, likeness."""
    generator = load(folder / "phase1")
    people_count = len(np.unique(data.person[data.rows]))
    reference, target = phase1_pairs(data, 0, 180, 2 * people_count)
    reference, target = reference[::2], target[::2]  # one pair of each person
    drawn, truth = draw_pairs(generator, data, reference, target), data.images[target]
    show(
        [data.images[reference[:16]], data.normals[target[:16]], drawn[:16], truth[:16]],
        pictures / "phase1.jpg",
    )
    keypoints, sigma = PoseEstimator(folder / "vitpose").estimate(drawn)
    joints = np.asarray(data.keypoints[target])
    tall = np.ptp(joints[..., 1], axis=1)
    near = np.linalg.norm(keypoints - joints, axis=-1) <= 0.1 * tall[:, None]
    seen, body = np.asarray(data.visible[target]) == 2, bodies(data, target)
    people_drawn, people_true = (
        embed_images(folder / "stable-diffusion", cut_out(images, body))
        for images in (drawn, truth)
    )
    score = people_drawn @ people_true.T
    right = score.argmax(1) == torch.arange(len(score))
    return {
        "phase1_pck10": near[seen].mean(),
        "phase1_sigma": sigma[seen].mean(),
        "phase1_psnr_db": psnr(drawn, truth, np.ones_like(body)).mean(),
        "phase1_psnr_person_db": psnr(drawn, truth, body).mean(),
        "phase1_detail_person": detail(drawn, truth, body).mean(),
        "phase1_detail_background": detail(drawn, truth, ~body).mean(),
        "phase1_identity_top1": float(right.float().mean()),
    } | copying_metrics(generator, data, 2 * people_count)
