"""The table of SMPL bodies beside a data set: what the mini world knows, or a fit estimates."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import numpy as np

from posedive_lib.errors import StudyError, require_readable
from posedive_lib.intake.arrays import read_npz, write_npz

SHAPES: dict[str, tuple[int, ...]] = {
    "path": (),
    "global_orient": (3,),
    "body_pose": (69,),
    "betas": (10,),
    "cam_t": (3,),
    "focal": (),
    "keypoints": (17, 2),
    "visible": (17,),
}


@dataclass(frozen=True)
class BodyTable:
    """One posed SMPL body per image, in its camera's frame (see `posedive_lib.body.camera`).

    path: (N,) image path relative to the data set's folder.
    global_orient, body_pose, betas: (N, 3), (N, 69), (N, 10); axis-angle in radians.
    cam_t: (N, 3) translation, metres. focal: (N,) pixels.
    keypoints: (N, 17, 2) COCO key points, pixels. Pixels are those of the photo's own file, turned
    as viewers show it, before it is resized to the study's size.
    visible: (N, 17) 2 visible, 1 hidden by the person's own body, 0 hidden by something else or
    outside the image.
    """

    path: np.ndarray
    global_orient: np.ndarray
    body_pose: np.ndarray
    betas: np.ndarray
    cam_t: np.ndarray
    focal: np.ndarray
    keypoints: np.ndarray
    visible: np.ndarray

    # For messages: `load` puts the file in its place.
    file: ClassVar[str | Path] = "The table of bodies"

    def __len__(self) -> int:
        return len(self.path)

    def save(self, path: str | Path) -> None:
        """Write a compressed `.npz`, whole or not at all; StudyError where it cannot be written."""
        write_npz(path, {f.name: getattr(self, f.name) for f in fields(self)}, compressed=True)

    @classmethod
    def load(cls, path: str | Path) -> "BodyTable":
        """Read `smpl.npz`; StudyError if it is missing, incomplete, misshapen or not finite."""
        path = Path(path)
        require_readable(path)
        if not path.is_file():
            raise StudyError(
                f"{path} is missing: fit or import SMPL parameters for this data set first."
            )
        return cls.of(read_npz(path, what="a table of bodies"), path)

    @classmethod
    def of(cls, columns: dict[str, np.ndarray], path: str | Path) -> "BodyTable":
        """The table of these columns, which `path` held; others are left out. Errors as `load`."""
        missing = [f.name for f in fields(cls) if f.name not in columns]
        if missing:
            raise StudyError(
                f"{path} lacks {', '.join(missing)}: write it again with all columns of BodyTable."
            )
        table = cls(**{f.name: columns[f.name] for f in fields(cls)})
        object.__setattr__(table, "file", path)
        table._check()
        return table

    def _check(self) -> None:
        rows = self.path.size  # works for a path that is no column, too
        for name, shape in SHAPES.items():
            column = getattr(self, name)
            wanted, kinds = ("text", "U") if name == "path" else ("numbers", "biuf")
            if column.dtype.kind not in kinds:
                raise StudyError(
                    f"{self.file}: {name} is of type {column.dtype}, expected {wanted}: "
                    "write the table again."
                )
            if column.shape != (rows, *shape):
                raise StudyError(
                    f"{self.file}: {name} is {column.shape}, expected {(rows, *shape)}: "
                    "write the table again."
                )
        if len(set(self.path.tolist())) < rows:
            raise StudyError(f"{self.file} holds two bodies of one image: keep one of them.")
        for name in ("global_orient", "body_pose", "betas", "cam_t", "focal"):
            if not np.isfinite(getattr(self, name)).all():
                raise StudyError(
                    f"{self.file} holds non-finite values in {name}: drop or refit those images."
                )

    @classmethod
    def joined(cls, tables: list["BodyTable"]) -> "BodyTable":
        """The rows of at least one table, one after the other."""
        return cls(*(np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(cls)))

    def select(self, paths: Iterable[str]) -> "BodyTable":
        """Rows for the given relative paths, in that order. StudyError names an unknown path."""
        paths = list(paths)
        index = {p: i for i, p in enumerate(self.path.tolist())}
        unknown = [p for p in paths if p not in index]
        if unknown:
            raise StudyError(
                f"{self.file} has no body for {unknown[0]} ({len(unknown):,} of {len(paths):,} "
                "images lack one): fit or import SMPL parameters for every image anew, "
                "or leave those images out."
            )
        rows = [index[p] for p in paths]
        return BodyTable(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})
