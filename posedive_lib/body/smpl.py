"""SMPL bodies as `smplx` layers, and how they are posed."""

import contextlib
import io
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import sparse
from smplx import SMPL
from smplx.lbs import batch_rigid_transform, batch_rodrigues, blend_shapes, vertices2joints
from smplx.utils import Struct

from posedive_lib.body.smpl_file import read_smpl
from posedive_lib.errors import StudyError, require_readable

# COCO-17 in smplx's joint output: 24 SMPL joints, then nose, right eye, left eye, right ear, ...
COCO_FROM_SMPL = [24, 26, 25, 28, 27, 16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8]


def load_smpl(path: str | Path) -> SMPL:
    """`smplx` SMPL layer (float32, batch size 1, 10 betas) from an `.npz` or an official `.pkl`.

    Nothing in the file is executed. StudyError: file missing, of another kind, lacking a key, or
    of an unexpected shape.
    """
    path = Path(path)
    require_readable(path)
    if path.is_dir():
        raise StudyError(f"{path} is a folder: name the file of the neutral body in it.")
    if not path.is_file():
        raise StudyError(
            f"{path} is missing: run `dvc pull` for the bundled body, "
            "or point paths.body at your SMPL file."
        )
    data = read_smpl(path)
    data["shapedirs"] = data["shapedirs"][:, :, :10]
    # smplx prints a warning for every file with fewer than 300 shape directions
    with contextlib.redirect_stdout(io.StringIO()):
        model = SMPL(
            model_path=str(path),
            data_struct=Struct(**data),
            num_betas=data["shapedirs"].shape[2],
            batch_size=1,
        )
    vertices = len(model.v_template)
    if vertices <= model.vertex_joint_selector.extra_joints_idxs.max():
        raise StudyError(
            f"{path} has {vertices} vertices, but the key points of face and feet are SMPL's "
            "vertices: give a body with all 6,890."
        )
    correctives = model.posedirs.numpy().T  # (3 V, 207)
    # The mini world's correctives act near their joints alone: most entries are 0.
    if np.count_nonzero(correctives) < 0.2 * correctives.size:
        correctives = sparse.csr_matrix(correctives)
    model.correctives = correctives
    return model


@lru_cache(maxsize=4)
def cached_smpl(path: str) -> SMPL:
    """`load_smpl`, once per process and path."""
    return load_smpl(path)


@torch.no_grad()
def pose(
    model: SMPL,
    global_orient: ArrayLike,
    body_pose: ArrayLike,
    betas: ArrayLike,
    offsets: ArrayLike | None = None,
    extra: tuple[ArrayLike, ArrayLike] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Linear blend skinning of one body by smplx's functions, with clothes and rigid accessories.

    global_orient (3,), body_pose (69,), betas (10,). offsets: (V, 3) added to the shaped template
    (clothes), metres. extra: accessories as (points (E, 3) in the template's frame, joint weights
    (E, 24)).

    Returns vertices (V + E, 3), joints (45, 3) in smplx's order, both before translation.
    """
    betas = torch.as_tensor(betas, dtype=torch.float32).reshape(1, -1)
    angles = np.concatenate([np.ravel(global_orient), np.ravel(body_pose)])
    full = torch.as_tensor(angles, dtype=torch.float32)
    shaped = model.v_template + blend_shapes(betas, model.shapedirs)  # (1, V, 3)
    rest = vertices2joints(model.J_regressor, shaped)  # (1, 24, 3)
    rotations = batch_rodrigues(full.view(-1, 3)).view(1, 24, 3, 3)
    feature = (rotations[0, 1:] - torch.eye(3)).reshape(-1).numpy()  # (207,)
    shaped = shaped + torch.from_numpy(model.correctives @ feature).view(1, -1, 3)
    joints, transforms = batch_rigid_transform(rotations, rest, model.parents)
    transforms = transforms[0].view(24, 16)

    def skinned(points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        blended = (weights @ transforms).view(-1, 4, 4)
        return (blended[:, :3, :3] @ points[:, :, None])[..., 0] + blended[:, :3, 3]

    naked, marks = shaped[0], model.vertex_joint_selector.extra_joints_idxs
    dressed = naked if offsets is None else naked + torch.as_tensor(offsets, dtype=torch.float32)
    vertices = skinned(dressed, model.lbs_weights)
    landmarks = skinned(naked[marks], model.lbs_weights[marks])
    if extra is not None and len(extra[0]):  # type: ignore[arg-type]
        points, weights = (torch.as_tensor(array, dtype=torch.float32) for array in extra)
        # The accessory is where the template's joints are; this person's are elsewhere.
        moved = points + weights @ (rest[0] - model.J_regressor @ model.v_template)
        vertices = torch.cat([vertices, skinned(moved, weights)])
    return vertices.numpy(), torch.cat([joints[0], landmarks]).numpy()


@torch.no_grad()
def pose_joints(model: SMPL, body_pose: np.ndarray) -> np.ndarray:
    """Joints (N, 24, 3) of the mean body relative to the pelvis, metres, for body_pose (N, 69).

    The body has no global rotation: the joints depend on the pose alone, whatever the person or
    the camera. Only the kinematic chain is posed, not the surface.
    """
    count = len(body_pose)
    root = torch.zeros(count, 3)
    angles = torch.cat([root, torch.as_tensor(body_pose, dtype=torch.float32)], dim=1)
    rest = vertices2joints(model.J_regressor, model.v_template[None]).expand(count, -1, -1)
    rotations = batch_rodrigues(angles.reshape(-1, 3)).reshape(count, -1, 3, 3)
    joints, _ = batch_rigid_transform(rotations, rest, model.parents)
    return (joints - joints[:, :1]).numpy()
