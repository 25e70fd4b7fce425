"""Training-time augmentation of a batch (CLIP-ReID's recipe).

Flip, pad and crop, normalise, random erasing, on tensors. Every random number comes from the
generator given, so a run is a function of its seed.
"""

import math

import torch
from torch import Generator, Tensor

PAD_FRACTION = 10 / 256  # CLIP-ReID pads 10 pixels at 256 rows
ERASE_AREA = (0.02, 1 / 3)
ERASE_ASPECT = (0.3, 1 / 0.3)
HALVES = (0.5, 0.5, 0.5)  # CLIP-ReID's mean and standard deviation: pixels in [-1, 1]


def normalise(
    images: Tensor, mean: tuple[float, ...] = HALVES, std: tuple[float, ...] = HALVES
) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float."""
    means, stds = (
        torch.tensor(x, device=images.device).view(1, 3, 1, 1) * 255 for x in (mean, std)
    )
    pixels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.sub_(means).div_(stds)


def flip(images: Tensor, generator: Generator, probability: float = 0.5) -> Tensor:
    """Mirror each of (N, H, W, 3) left to right with the given probability."""
    chosen = torch.rand(len(images), generator=generator) < probability
    return torch.where(chosen[:, None, None, None].to(images.device), images.flip(2), images)


def pad_crop(images: Tensor, generator: Generator) -> Tensor:
    """Shift each of (N, H, W, 3) by up to the padding in both directions, over black."""
    count, height, width, _ = images.shape
    pad = max(1, round(height * PAD_FRACTION))
    padded = torch.nn.functional.pad(images, (0, 0, pad, pad, pad, pad))
    offset = torch.randint(0, 2 * pad + 1, (2, count), generator=generator).T.tolist()
    pairs = zip(padded, offset, strict=True)
    return torch.stack([image[y : y + height, x : x + width] for image, (y, x) in pairs])


def _rectangles(
    count: int, height: int, width: int, generator: Generator, tries: int = 10
) -> Tensor:
    """(count, 4) top, left, height, width: the first of ten draws that fits into the image.

    Where none fits, height and width are zero.
    """
    draw = torch.rand(count, tries, 4, generator=generator)
    area = height * width * (ERASE_AREA[0] + draw[..., 0] * (ERASE_AREA[1] - ERASE_AREA[0]))
    low, high = (math.log(value) for value in ERASE_ASPECT)
    aspect = torch.exp(low + draw[..., 1] * (high - low))
    rows, columns = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (rows < height) & (columns < width)
    first = fits.int().argmax(dim=1, keepdim=True)
    tried = (rows, columns, draw[..., 2], draw[..., 3], fits)  # each (count, tries)
    rows, columns, y, x, fits = (value.gather(1, first).squeeze(1) for value in tried)
    top, left = (y * (height - rows + 1)).floor(), (x * (width - columns + 1)).floor()
    return torch.stack([top, left, rows * fits, columns * fits], dim=1)


def erase(images: Tensor, generator: Generator, probability: float) -> Tensor:
    """Random erasing: with the given probability, fill a rectangle of an image with normal noise.

    images: (N, 3, H, W), normalised.
    """
    if not probability:
        return images
    count, channels, height, width = images.shape
    chosen = torch.rand(count, generator=generator) < probability
    box = _rectangles(count, height, width, generator) * chosen[:, None]
    y, x = torch.arange(height), torch.arange(width)
    rows = (y >= box[:, :1]) & (y < box[:, :1] + box[:, 2:3])
    columns = (x >= box[:, 1:2]) & (x < box[:, 1:2] + box[:, 3:])
    mask = rows[:, :, None] & columns[:, None, :]  # (N, H, W)
    # for the erased pixels only: drawing is the slow part
    noise = torch.randn(int(mask.sum()), channels, generator=generator)
    erased = images.permute(0, 2, 3, 1).clone()
    erased[mask.to(images.device)] = noise.to(images.device)
    return erased.permute(0, 3, 1, 2).contiguous()


def augment(
    images: Tensor,
    generator: Generator,
    random_erasing: float,
    mean: tuple[float, ...] = HALVES,
    std: tuple[float, ...] = HALVES,
) -> Tensor:
    """(N, H, W, 3) uint8 to an augmented (N, 3, H, W) float batch."""
    images = pad_crop(flip(images, generator), generator)
    return erase(normalise(images, mean, std), generator, random_erasing)
