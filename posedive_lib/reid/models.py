"""Re-ID models by name, and one run of the study with any of them (§D, §F).

A further model is one file with a subclass of `TorchBaseline`, its line in `MODELS`, and its name in `params.ReIDModel`.
"""

import time
from pathlib import Path

import numpy as np

from posedive_lib.errors import StudyError
from posedive_lib.reid.breakdown import cells, match_table
from posedive_lib.reid.clip_reid_training import ClipReIDBaseline
from posedive_lib.reid.image_set import ImageSet
from posedive_lib.reid.loop import load_tensors
from posedive_lib.reid.resnet import ResNetBaseline
from posedive_lib.reid.retrieval import evaluate
from posedive_lib.reid.torch_model import MODEL_FILE, Baseline, TorchBaseline

MODELS: dict[str, type[TorchBaseline]] = {
    model.name: model for model in (ClipReIDBaseline, ResNetBaseline)
}


def model_class(name: str) -> type[TorchBaseline]:
    """The model of a name; StudyError if there is none."""
    if name not in MODELS:
        raise StudyError(f"There is no Re-ID model {name!r}: choose one of {', '.join(MODELS)}.")
    return MODELS[name]


def create(
    name: str,
    params,
    pretrained: str | Path | None,
    height: int,
    width: int,
    device: str | None = None,
) -> TorchBaseline:
    """An untrained model. params: the section `reid` of params.yaml; pretrained: a folder or hub id of its published weights."""
    return model_class(name)(params, pretrained, height, width, device)


def load(
    folder: str | Path, device: str | None = None, precision: str | None = None
) -> TorchBaseline:
    """A trained model from the folder that its `save` wrote; nothing else is needed. precision: as in `reid.precision`, by default the training's."""
    file = Path(folder) / MODEL_FILE
    if not file.is_file():
        raise StudyError(f"No {MODEL_FILE} in {folder}: give the folder of a saved Re-ID model.")
    about = load_tensors(file)[1]
    if about.get("model") not in MODELS:
        raise StudyError(
            f"{file} holds {about.get('model', 'no Re-ID model')}, which is none of {', '.join(MODELS)}."
        )
    return MODELS[about["model"]](
        None,
        None,
        about.get("height"),
        about.get("width"),
        device,
        precision or about.get("precision"),
    ).load(folder)


def measure(
    baseline: Baseline,
    query: ImageSet,
    gallery: ImageSet,
    *,
    max_rank: int = 50,
    average_precision: str = "rectangular",
    groups: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict:
    """mAP, ranks and mINP in percent, with the protocol they were measured under and the AP of each valid query (fractions).

    groups: a label per query (Q,) and gallery image (G,), such as azimuth sectors; `group_cells` then holds [query group, gallery group,
    mAP, queries] of every pair that occurs (see `posedive_lib.reid.breakdown`).
    """
    labelled = (
        baseline.extract(query.images, query.camids),
        query.pids,
        query.camids,
        baseline.extract(gallery.images, gallery.camids),
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
        found["group_cells"] = (
            table.loc[table["n_query"] > 0, ["query_group", "gallery_group", "mAP", "n_query"]]
            .to_numpy()
            .tolist()
        )
    return found


def protocol(baseline: TorchBaseline) -> dict:
    """What must be told with a number beside the data set: the model and how it was trained and tested; None where it does not apply."""
    p, clip = baseline.params, baseline.name == "clip-reid"
    return {
        "model": baseline.name,
        "height": baseline.height,
        "width": baseline.width,
        "precision": baseline.precision,
        "generated_weight": p.generated.weight,
        "generated_max_share": p.generated.max_share,
        "camera_weight": p.camera_weight if clip else None,
        "generated_camera": p.generated.camera if clip and p.camera_weight else None,
        "patch_stride": p.patch_stride if clip else None,
    }


def run(
    train: ImageSet,
    query: ImageSet,
    gallery: ImageSet,
    params,
    *,
    pretrained: str | Path | None,
    seed: int,
    model: str = "clip-reid",
    save_to: str | Path | None = None,
    checkpoints: str | Path | None = None,
    progress=None,
    device: str | None = None,
    groups: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict:
    """§D, §F: one Re-ID run: train `model` on `train`, measure it on `query` against `gallery`, at the size of `reid.image`.

    `params` is the section `reid` of params.yaml. Returns the numbers of `measure` with `n_train`, `n_generated`, `n_identities`, the
    fields of `protocol`, `losses` (per stage: learning rate, loss and its terms per step) and `seconds`; everything but the time is
    determined by the arguments. Nothing random comes from, or changes, a global generator.
    """
    started = time.perf_counter()
    baseline = create(model, params, pretrained, params.image.height, params.image.width, device)
    history = baseline.fit(train, seed=seed, progress=progress, checkpoints=checkpoints)
    metrics = measure(baseline, query, gallery, groups=groups)
    if save_to is not None:
        baseline.save(save_to)
    return {
        **metrics,
        **protocol(baseline),
        "n_train": len(train),
        "n_generated": int(train.generated.sum()),
        "n_identities": int(len(np.unique(train.pids))),
        "seed": seed,
        "losses": history,
        "seconds": round(time.perf_counter() - started, 2),
    }
