"""Re-ID models by name, and one run of the study with any of them (§D, §F).

A further model is one file with a subclass of `TorchReIDModel`, its line in `MODELS`, and its name
in `params.ReIDModel`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posedive_lib.errors import StudyError
from posedive_lib.intake.tensors import load_tensors
from posedive_lib.reid.breakdown import cells, match_table
from posedive_lib.reid.clip_reid_training import ClipReIDModel
from posedive_lib.reid.image_set import ImageSet
from posedive_lib.reid.loop import Progress
from posedive_lib.reid.resnet import ResNetModel
from posedive_lib.reid.retrieval import evaluate
from posedive_lib.reid.torch_model import MODEL_FILE, TorchReIDModel

if TYPE_CHECKING:
    from posedive_lib.params import ReID

MODELS: dict[str, type[TorchReIDModel]] = {
    model.name: model for model in (ClipReIDModel, ResNetModel)
}
Groups = tuple[np.ndarray, np.ndarray]  # a label per query (Q,) and per gallery image (G,)
Subsets = Mapping[str, Groups]  # name -> masks of queries (Q,) and of gallery images (G,)


def model_class(name: str) -> type[TorchReIDModel]:
    """The model of a name; StudyError if there is none."""
    if name not in MODELS:
        raise StudyError(f"There is no Re-ID model {name!r}: choose one of {', '.join(MODELS)}.")
    return MODELS[name]


def create_model(
    name: str,
    params: ReID,
    pretrained: str | Path | None,
    height: int,
    width: int,
    device: str | None = None,
) -> TorchReIDModel:
    """An untrained model. pretrained: a folder or hub id of its published weights."""
    return model_class(name)(params, pretrained, height, width, device)


def load_trained(
    folder: str | Path, device: str | None = None, precision: str | None = None
) -> TorchReIDModel:
    """A trained model from the folder that its `save` wrote; nothing else is needed.

    precision: as in `reid.precision`, by default the training's.
    """
    file = Path(folder) / MODEL_FILE
    if not file.is_file():
        raise StudyError(f"No {MODEL_FILE} in {folder}: give the folder of a saved Re-ID model.")
    about = load_tensors(file)[1]
    name = about.get("model", "no Re-ID model")
    if not isinstance(name, str) or name not in MODELS:
        raise StudyError(f"{file} holds {name}, which is none of {', '.join(MODELS)}.")
    # its size is in the file
    model = MODELS[name](None, None, 0, 0, device, precision or about.get("precision"))
    return model.load(folder)


def evaluate_model(
    model: TorchReIDModel,
    query: ImageSet,
    gallery: ImageSet,
    *,
    max_rank: int = 50,
    average_precision: str = "rectangular",
    groups: Groups | None = None,
    subsets: Subsets | None = None,
) -> dict[str, Any]:
    """mAP, ranks and mINP in percent, their protocol, and the AP of each valid query (fraction).

    groups: such as azimuth sectors. `group_cells` then holds [query group, gallery group, mAP,
    queries] of every pair that occurs (see `posedive_lib.reid.breakdown`). subsets: parts of the
    test; `subsets` then holds [mAP, rank-1, valid queries] of each by its name.
    """
    labelled = (
        model.extract(query.images, query.camids),
        query.pids,
        query.camids,
        model.extract(gallery.images, gallery.camids),
        gallery.pids,
        gallery.camids,
    )
    result = evaluate(*labelled, max_rank=max_rank, average_precision=average_precision)
    ranks = {f"rank{k}": 100 * float(result.cmc[k - 1]) for k in (1, 5, 10) if k <= max_rank}
    found = {
        "mAP": 100 * result.mAP,
        **ranks,
        "mINP": 100 * result.mINP,
        "n_query": result.n_queries,
        "n_valid": result.n_valid,
        "n_gallery": len(gallery),
        "average_precision": average_precision,
        "distance": "cosine",
        "reranking": "none",
        "query_ap": result.average_precision.tolist(),
        "query_first_rank": result.first_rank.tolist(),
        "query_valid": result.valid.tolist(),
    }
    if groups is not None:
        table = cells(match_table(*labelled), *groups, resamples=0)
        columns = ["query_group", "gallery_group", "mAP", "n_query"]
        found["group_cells"] = table.loc[table["n_query"] > 0, columns].to_numpy().tolist()
    if subsets:
        found["subsets"] = {name: _of_subset(labelled, *part) for name, part in subsets.items()}
    return found


def _of_subset(labelled: tuple, query: np.ndarray, gallery: np.ndarray) -> list[float]:
    """[mAP, rank-1 (percent), valid queries] of some queries against some of the gallery."""
    masks = (*[query] * 3, *[gallery] * 3)
    part = evaluate(*(values[mask] for values, mask in zip(labelled, masks, strict=True)))
    return [100 * part.mAP, 100 * float(part.cmc[0]), part.n_valid]


def protocol(model: TorchReIDModel) -> dict[str, Any]:
    """What must be told with a number: the model, and how it was trained and tested.

    None where something does not apply.
    """
    p, clip = model.params, model.name == "clip-reid"
    return {
        "model": model.name,
        "height": model.height,
        "width": model.width,
        "precision": model.precision,
        "generated_weight": p.generated.weight,
        "generated_max_share": p.generated.max_share,
        "camera_weight": p.camera_weight if clip else None,
        "generated_camera": p.generated.camera if clip and p.camera_weight else None,
        "patch_stride": p.patch_stride if clip else None,
    }


def _check_cameras(
    model: str, params: ReID, train: ImageSet, tested: tuple[ImageSet, ImageSet]
) -> None:
    """StudyError where a camera embedding would be asked for a camera that no training has."""
    if model != "clip-reid" or not params.camera_weight:
        return
    new = np.setdiff1d(np.concatenate([images.camids for images in tested]), train.camids)
    if len(new):
        raise StudyError(
            f"Camera {new[0]} is among the test images only, so it would have no embedding: "
            "set reid.camera_weight to 0."
        )


def train_and_evaluate(
    train: ImageSet,
    query: ImageSet,
    gallery: ImageSet,
    params: ReID,
    *,
    pretrained: str | Path | None,
    seed: int,
    model: str = "clip-reid",
    save_to: str | Path | None = None,
    checkpoints: str | Path | None = None,
    progress: Progress | None = None,
    device: str | None = None,
    groups: Groups | None = None,
    subsets: Subsets | None = None,
) -> dict[str, Any]:
    """§D, §F: one Re-ID run: train on `train`, test `query` against `gallery`.

    params: the section `reid` of params.yaml. Returns the numbers of `evaluate_model` with
    `n_train`, `n_generated`, `n_identities`, the fields of `protocol`, `losses` (the history of
    each stage) and `seconds`. Everything but the time is determined by the arguments. Nothing
    random comes from, or changes, a global generator.
    """
    started = time.perf_counter()
    size = params.image
    _check_cameras(model, params, train, (query, gallery))
    trained = create_model(model, params, pretrained, size.height, size.width, device)
    history = trained.fit(train, seed=seed, progress=progress, checkpoints=checkpoints)
    metrics = evaluate_model(trained, query, gallery, groups=groups, subsets=subsets)
    if save_to is not None:
        trained.save(save_to)
    return {
        **metrics,
        **protocol(trained),
        "n_train": len(train),
        "n_generated": int(train.generated.sum()),
        "n_identities": int(len(np.unique(train.pids))),
        "seed": seed,
        "losses": history,
        "seconds": round(time.perf_counter() - started, 2),
    }
