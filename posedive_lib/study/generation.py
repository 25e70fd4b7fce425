"""The study's calls of the generator: its training set, its training, and the candidates of every data set (§B, §E).

Long work lives in `runs/`, keyed by everything that determines it; what the pipeline passes on is copied to `build/`.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from posedive_lib import datasets
from posedive_lib.augment import filtering
from posedive_lib.augment.candidates import diffusion, generate, usable_references
from posedive_lib.augment.confidence import PoseEstimator, keypoint_subset
from posedive_lib.augment.distribution import Training
from posedive_lib.augment.diversify import plan, policies_of
from posedive_lib.bench.runs import RunStore
from posedive_lib.body.camera import viewpoint
from posedive_lib.body.poses import PoseSource, load_poses
from posedive_lib.body.rendering import Rendering, render_many
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.images import read as read_images
from posedive_lib.digests import code_digest, file_digest, folder_digest
from posedive_lib.generator import TrainingArrays, encode, load, train
from posedive_lib.generator.folders import resolve
from posedive_lib.study import candidate_files
from posedive_lib.study.candidate_files import candidates_folder

GENERATOR = Path("build/generator")
PHASE2_SETS = (
    "market1501",
    "msmt17",
    "cuhk03-labeled",
)  # CUHK03's detected boxes show the same photos


def rendering(P) -> Rendering:
    """Size, camera and depth range of the conditions, from the parameters."""
    c = P.conditions
    return Rendering(
        P.paths.body,
        P.image.height,
        P.image.width,
        c.depth_near,
        c.depth_far,
        c.focal,
        P.world.workers,
    )


def bodies_of(dataset, table: pd.DataFrame) -> BodyTable:
    """SMPL bodies of a table's images, in its order."""
    return BodyTable.load(dataset.folder / "smpl.npz").select(table["rel"].tolist())


def training_of(dataset) -> Training:
    """Bodies and viewpoints of a data set's training images."""
    bodies = bodies_of(dataset, dataset.train)
    return Training(bodies, *viewpoint(bodies.global_orient, bodies.cam_t))


def phase2_images(P) -> pd.DataFrame:
    """Training images of the generator: path, rel, pid, camid, dataset, folder, and whether each may be a pair's reference (reference_ok,
    Eq. 3) and its target (target_ok, Eq. 4: here the target is a photo itself); identities of different sets never coincide.

    Of MSMT17 only what both MSMT17-S training sets hold, so that phase 2 uses no photo of MSMT17 in a viewpoint or pose that they test.
    """
    seen = [
        set(datasets.load(name, P.paths.datasets).train["rel"])
        for name in ("msmt17-s-cam", "msmt17-s-pose")
    ]
    parts = []
    for number, name in enumerate(PHASE2_SETS):
        dataset = datasets.load(name, P.paths.datasets)
        rows = dataset.train
        if name == "msmt17":
            rows = rows[rows["rel"].isin(seen[0] & seen[1])]
        rows = rows[rows.groupby("pid")["pid"].transform("size") > 1]
        parts.append(
            rows.assign(
                dataset=name, folder=str(dataset.folder), pid=rows["pid"] + 100_000 * number
            )
        )
    images = pd.concat(parts, ignore_index=True)
    sigma = confidence(P, images["path"])[:, keypoint_subset(P.augment.keypoints)]
    return images.assign(
        reference_ok=filtering.keep_reference(sigma, P.augment.tau_ref),
        target_ok=filtering.keep_target(sigma, P.augment.tau_tar),
    )


def confidence(P, paths) -> np.ndarray:
    """Eq. 2: confidence σ_k (N, 17) of photos."""
    return PoseEstimator(P.paths.pose_estimator).estimate(
        read_images(paths, P.image.height, P.image.width)
    )[1]


def conditions_of(P, bodies: BodyTable, progress: str | None = None):
    """Conditions of the bodies of real images, in the images' own cameras."""
    return render_many(bodies, rendering(P), progress=progress)


def encoded(P, images: pd.DataFrame) -> tuple[Path, dict]:
    """File of latents, CLIP tokens and conditions of the generator's training images, computed once; and all that determines a training on it
    but the recipe."""
    inputs = {
        "images": _images_digest(images),
        "stable_diffusion": folder_digest(stable_diffusion_folder(P)),
        "body": file_digest(P.paths.body),
    }
    spec = {
        **P.pick(
            "image",
            "conditions",
            "generator.clip_tokens",
            "generator.vae",
            "generator.image_encoder",
        ),
        **inputs,
        "code": code_digest(
            "posedive_lib.body", "posedive_lib.datasets.images", "posedive_lib.generator.arrays"
        ),
    }
    path = RunStore("runs/generator").folder({"what": "arrays", **spec}) / "arrays.npz"
    if not path.is_file():
        bodies = [
            BodyTable.load(Path(folder) / "smpl.npz").select(rows["rel"].tolist())
            for folder, rows in images.groupby("folder", sort=False)
        ]
        table = BodyTable.joined(bodies)
        drawn = conditions_of(P, table, progress="conditions")
        photos = read_images(images["path"], P.image.height, P.image.width)
        arrays = encode(
            photos,
            drawn.depth,
            drawn.normals,
            drawn.skeleton,
            images["pid"],
            images["camid"],
            stable_diffusion_folder(P),
            clip_tokens=P.generator.clip_tokens,
            vae=P.generator.vae,
            image_encoder=P.generator.image_encoder,
        )
        replace(
            arrays,
            reference_ok=images["reference_ok"].to_numpy(),
            target_ok=images["target_ok"].to_numpy(),
        ).save(path)
    return path, spec | {
        "phase1": folder_digest(P.paths.phase1) if P.paths.phase1 else None,
        "code": code_digest(
            "posedive_lib.generator", "posedive_lib.precision", "posedive_lib.body"
        ),
    }


def recipe_of(P) -> dict:
    """The parameters of the generator that change its weights."""
    return {
        k: v
        for k, v in P.generator.model_dump().items()
        if k not in ("sampling", "log_every", "checkpoint_every", "sample_every")
    }


def train_generator(P, images: pd.DataFrame) -> Path:
    """Phase 2 on the Re-ID training images; returns `build/generator` (weights, parameters and losses.csv)."""
    arrays, spec = encoded(P, images)
    out = RunStore("runs/generator").folder(
        {"what": "training", "seed": P.seed, "recipe": recipe_of(P), **spec}
    )
    saved = train(
        stable_diffusion_folder(P),
        TrainingArrays.load(arrays),
        P.generator,
        out,
        P.seed,
        init_from=P.paths.phase1,
    )
    shutil.rmtree(GENERATOR, ignore_errors=True)
    shutil.copytree(saved, GENERATOR)
    shutil.copy(out / "losses.csv", GENERATOR / "losses.csv")
    return GENERATOR


def stable_diffusion_folder(P) -> Path:
    """Local folder of Stable Diffusion, at the pinned revision if the parameters name a hub id."""
    return resolve(P.paths.stable_diffusion, P.generator.revision)


def _images_digest(images: pd.DataFrame) -> list:
    return [
        [
            row.dataset,
            row.rel,
            row.pid,
            bool(row.reference_ok),
            bool(row.target_ok),
            file_digest(row.path),
        ]
        for row in images.itertuples()
    ]


def candidates_per_pid(P, name: str) -> int:
    """Candidates of a data set: the parameter, or enough for the largest count of §D where that is studied and larger."""
    per_kept = P.augment.candidates_per_pid / P.augment.images_per_pid
    wanted = (
        max(P.augment.images_per_pid, *P.study.counts)
        if name == P.study.count_dataset
        else P.augment.images_per_pid
    )
    return int(np.ceil(wanted * per_kept))


def usable(P, dataset) -> pd.DataFrame:
    """Eq. 3: the training images of a data set that may serve as references."""
    return usable_references(
        dataset.train,
        confidence(P, dataset.train["path"]),
        tau_ref=P.augment.tau_ref,
        keypoints=P.augment.keypoints,
    )


def plan_of(
    P, name: str, dataset, training: Training, source: PoseSource, arm: str, count: int
) -> pd.DataFrame:
    """`count` candidates per identity of an arm, as a plan; the arms share references and noise, row by row."""
    a = P.augment
    return plan(
        name,
        usable(P, dataset),
        training,
        source,
        n_per_pid=count,
        azimuth=a.azimuth,
        elevation=a.elevation,
        seed=P.seed,
        **policies_of(arm, a.policy),
    )


def make_candidates(P, name: str, arm: str = "pose-dive") -> pd.DataFrame:
    """Candidates of a data set and arm, painted and scored; returns the manifest, also written to `candidates_folder`.

    `pose-dive` paints its whole plan, so that every threshold and count can be selected later; a control arm stops at an identity once
    augment.images_per_pid of its images are kept.
    """
    dataset = datasets.load(name, P.paths.datasets)
    training, source, a = training_of(dataset), load_poses(P.paths.motions), P.augment
    control = arm != "pose-dive"
    rows = plan_of(
        P,
        name,
        dataset,
        training,
        source,
        arm,
        a.candidates_per_pid if control else candidates_per_pid(P, name),
    )
    sampling = P.generator.sampling
    painter = diffusion(
        load(GENERATOR, stable_diffusion_folder(P)),
        steps=sampling.steps,
        guidance=sampling.guidance,
        batch_size=sampling.batch_size,
    )
    key = "/".join(
        [
            folder_digest(GENERATOR, ".safetensors"),
            folder_digest(stable_diffusion_folder(P)),
            folder_digest(P.paths.pose_estimator),
            str(sampling.steps),
            str(sampling.guidance),
            sampling.scheduler,
            folder_digest(P.paths.motions),
            *(file_digest(p) for p in dataset.train["path"]),
            code_digest(
                "posedive_lib.generator",
                "posedive_lib.precision",
                "posedive_lib.body",
                "posedive_lib.augment",
                "posedive_lib.datasets.images",
            ),
        ]
    )
    store = Path("runs/candidates") / name / arm
    manifest = generate(
        rows,
        dataset.train,
        training,
        source,
        estimator=PoseEstimator(P.paths.pose_estimator),
        painter=painter,
        rendering=rendering(P),
        limits=a,
        out=store,
        key=key,
        images_per_pid=a.images_per_pid if control else None,
    ).assign(arm=arm)
    out = candidates_folder(name, arm)
    shutil.rmtree(out / "shards", ignore_errors=True)
    (out / "shards").mkdir(parents=True)
    for shard in sorted({str(Path(path).parent) for path in manifest["path"]}):
        shutil.copytree(store / shard, out / shard)
    manifest.to_csv(out / "manifest.csv", index=False, lineterminator="\n")
    return manifest


def list_candidates(manifests: list[pd.DataFrame]) -> None:
    """Write `build/candidates/manifests.csv`: dataset, arm, candidates, and the digest of each manifest.

    A manifest names every image by a digest of all that decides its pixels, so a stage that depends on this file need not look at each image.
    """
    rows = [(*table[["dataset", "arm"]].iloc[0], len(table)) for table in manifests if len(table)]
    table = pd.DataFrame(rows, columns=["dataset", "arm", "candidates"])
    table["manifest"] = [
        file_digest(candidates_folder(row.dataset, row.arm) / "manifest.csv")
        for row in table.itertuples()
    ]
    table.to_csv(candidate_files.CANDIDATES / "manifests.csv", index=False, lineterminator="\n")


def training_rows(P, name: str, counts: pd.Series) -> pd.DataFrame:
    """The first `counts` (by pid) rows of each identity of the same-distribution plan: poses and views of the training set itself."""
    dataset = datasets.load(name, P.paths.datasets)
    rows = plan_of(
        P,
        name,
        dataset,
        training_of(dataset),
        load_poses(P.paths.motions),
        "same-distribution",
        int(counts.max()) if len(counts) else 0,
    )
    return rows[rows["index"] < rows["pid"].map(counts).fillna(0)].sort_values(
        ["pid", "index"], ignore_index=True
    )
