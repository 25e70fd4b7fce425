"""What a researcher has: licensed files in their true layouts, small, made from the mini world.

No truth lies beside the photos. Nothing here reads the library's own tables of what it expects.
"""

import json
import pickle
import shutil
import sys
import types
from pathlib import Path

import h5py  # noqa: F401  (before torch, which brings another HDF5 on some systems)
import numpy as np
import torch
import trees
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from published import OLD_VAE_NAMES, SD15_UNET, SD_VAE
from safetensors.torch import load_file, save_file
from scipy import sparse
from transformers import CLIPConfig, CLIPModel, ResNetConfig, ResNetForImageClassification

from posedive_lib import datasets
from posedive_lib.body.table import BodyTable
from posedive_lib.own_data.hmr2 import export_hmr2

WIDTH = 32  # of the narrow networks
PNDM = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}


def data_sets(world: Path, sets: Path) -> None:
    """Market-1501, MSMT17 version 2 and `cuhk-03.mat`, of the mini world's photos alone.

    Market-1501's crops have one size, as the real ones have; those of the others differ.
    """
    market = Path("Market-1501-v15.09.15")
    for part in ("bounding_box_train", "bounding_box_test", "query"):
        shutil.copytree(world / market / part, sets / market / part)
    rng = np.random.default_rng(0)
    for old, new in (("train", "mask_train_v2"), ("test", "mask_test_v2")):
        for photo in sorted((world / "MSMT17_V1" / old).rglob("*.jpg")):
            target = sets / "MSMT17_V2" / new / photo.relative_to(world / "MSMT17_V1" / old)
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(crop(photo, rng)).save(target, quality=92)
    for file in (world / "MSMT17_V1").glob("list_*.txt"):
        shutil.copy(file, sets / "MSMT17_V2")
    (sets / "cuhk03/cuhk03_release").mkdir(parents=True)
    photos = {}
    for boxes in ("labeled", "detected"):
        data = datasets.load(f"cuhk03-{boxes}", world)
        names, rows = [], data.images().sort_values(["pid", "camid", "rel"], ignore_index=True)
        slot = rows.groupby(["pid", "camid"]).cumcount() + 1 + 5 * rows["camid"]
        person = rows["pid"].rank(method="dense").astype(int)
        for who, view, number in zip(person, rows["camid"] + 1, slot, strict=True):
            names.append(f"1_{who:03d}_{view}_{number:02d}.png")
        pixels = [crop(path, rng) for path in rows["path"]]
        photos[boxes] = dict(zip(names, pixels, strict=True))
        masks = {split: rows["split"] == split for split in datasets.table.SPLITS}
        trees.cuhk03_protocol(sets / "cuhk03", boxes, names, rows["pid"], masks)
    trees.mat73(sets / "cuhk03/cuhk03_release/cuhk-03.mat", photos)


def crop(photo: str | Path, rng: np.random.Generator) -> np.ndarray:
    """A photo cut to between 1.6 and 2.9 times as high as wide, and resized."""
    image = Image.open(photo)
    width, height = image.size
    aspect = rng.uniform(1.6, 2.9)
    wide, high = min(width, round(height / aspect)), min(height, round(width * aspect))
    left, top = (width - wide) // 2, (height - high) // 2
    box = (left, top, left + wide, top + high)
    tall = int(rng.integers(90, 200))
    return np.asarray(image.crop(box).resize((max(16, round(tall * wide / high)), tall)))


def hmr2(world: Path, folder: Path) -> None:
    """HMR2's results for Market-1501, without a body for every seventh photo."""
    market = world / "Market-1501-v15.09.15"
    known = BodyTable.load(market / "smpl.npz")
    kept = [rel for number, rel in enumerate(known.path.tolist()) if number % 7]
    size = Image.open(market / kept[0]).size
    folder.mkdir()
    np.savez(folder / "market1501.npz", **export_hmr2(known.select(kept), np.array(size, float)))


def smpl(plain: Path, target: Path) -> None:
    """A pickle as the official one: of Python 2, with chumpy's arrays and a sparse regressor."""
    module = types.ModuleType("chumpy.ch")
    kind = type("Ch", (), {"__module__": "chumpy.ch"})
    module.Ch = kind
    sys.modules |= {"chumpy": types.ModuleType("chumpy"), "chumpy.ch": module}
    with np.load(plain) as file:
        arrays = {name: file[name] for name in file.files}
    for name in ("v_template", "weights", "posedirs", "shapedirs"):
        wrapped = kind()
        wrapped.__dict__ = {"x": arrays[name], "_dirty_vars": set(), "_itr": None}
        arrays[name] = wrapped
    arrays["J_regressor"] = sparse.csc_matrix(arrays["J_regressor"])
    target.write_bytes(pickle.dumps(arrays, protocol=2))
    del sys.modules["chumpy"], sys.modules["chumpy.ch"]


def amass(motions: Path, folder: Path) -> None:
    """Motions, with the files that AMASS and file managers leave beside them."""
    shutil.copytree(motions, folder)
    for part in ("in-domain", "out-of-domain"):
        for name in ("shape.npz", "neutral_stagei.npz"):
            np.savez(folder / part / name, gender="neutral", betas=np.zeros(16))
        (folder / part / "._walk.npz").write_bytes(bytes.fromhex("0005160700020000") + bytes(400))


def hub(pretrained: Path, cache: Path, paths: dict, generator: dict) -> None:
    """Every model that the parameters name, in the hub's local cache: published layout, narrow.

    A model with a pinned commit is there at that commit alone, without the name of a branch.
    """
    torch.manual_seed(0)

    def place(name: str, commit: str | None = None) -> Path:
        name, _, pinned = name.partition("@")
        folder = cache / f"models--{name.replace('/', '--')}"
        if not (pinned or commit):
            (folder / "refs").mkdir(parents=True)
            (folder / "refs/main").write_text("0" * 40)
        snapshot = folder / "snapshots" / (pinned or commit or "0" * 40)
        snapshot.parent.mkdir(parents=True)
        return snapshot

    narrow = {"block_out_channels": (WIDTH,) * 4}  # one channel for each of the 32 groups
    # On maps of one pixel, as small images have them, a group needs two channels.
    levels = {"block_out_channels": (WIDTH, 2 * WIDTH, 2 * WIDTH, 2 * WIDTH)}
    diffusion = place(paths["stable_diffusion"], generator["revision"])
    unet = UNet2DConditionModel(**SD15_UNET | levels | {"cross_attention_dim": WIDTH})
    unet.save_pretrained(diffusion / "unet")
    old_vae(diffusion / "vae", narrow)
    (diffusion / "scheduler").mkdir()
    (diffusion / "scheduler/scheduler_config.json").write_text(json.dumps(PNDM))
    old_vae(place(generator["vae"]), narrow)
    tower = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2}
    tower |= {"num_attention_heads": 2, "projection_dim": WIDTH}
    vision, text = tower | {"image_size": 28, "patch_size": 14}, tower | {"vocab_size": 64}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)
    encoder = place(generator["image_encoder"])
    CLIPModel(config).save_pretrained(encoder)
    sizes = {"size": {"shortest_edge": 28}, "crop_size": 28}
    (encoder / "preprocessor_config.json").write_text(json.dumps(sizes))
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
    ResNetForImageClassification(resnet).save_pretrained(place(paths["resnet"]))
    shutil.copytree(pretrained / "clip", place(paths["clip"]))
    shutil.copytree(pretrained / "vitpose", place(paths["pose_estimator"]))


def old_vae(folder: Path, narrow: dict) -> None:
    """A VAE whose attention has the names of the published files."""
    AutoencoderKL(**SD_VAE | narrow).save_pretrained(folder)
    file = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    new_names = ("to_q", "to_k", "to_v", "to_out.0", "group_norm")
    for new, old in zip(new_names, OLD_VAE_NAMES, strict=True):
        places = f"attentions.0.{new}.", f"attentions.0.{old}."
        tensors = {name.replace(*places): tensor for name, tensor in tensors.items()}
    save_file(tensors, file, metadata={"format": "pt"})
