"""The table of SMPL bodies beside a data set: what the mini world knows, or a fit estimates."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import numpy as np

from posedive_lib.errors import StudyError, require_readable, shown
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
        """Read `smpl.npz`; StudyError if it is missing, incomplete, misshapen or not finite.

        StudyError also for values that no photo has: a focal length or a depth that is not above 0,
        another `visible` than 0, 1 or 2, and angles in degrees.
        """
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
        for name in ("global_orient", "body_pose", "betas", "cam_t", "focal", "keypoints"):
            if not np.isfinite(getattr(self, name)).all():
                raise StudyError(
                    f"{self.file} holds non-finite values in {name}: drop or refit those images."
                )

        self._check_values()

    def _check_values(self) -> None:
        """StudyError where finite numbers make no sense; it names the first such image."""
        angles = np.concatenate([self.global_orient, self.body_pose], axis=1).astype(float)
        widest = np.abs(angles).reshape(len(self), 24, 3).max(axis=(1, 2))  # at most the angle
        for good, fault, mend in (
            (self.focal > 0, "a focal length that is not above 0", "give pixels"),
            (
                self.cam_t[:, 2] > 0,
                "a body that is not before the camera (cam_t)",
                "give metres from the camera, whose axis z points to the body",
            ),
            (
                np.isin(self.visible, (0, 1, 2)).all(axis=1),
                "visible other than 0, 1 and 2",
                "give 2 for visible, 1 for hidden by the body itself, 0 for hidden otherwise",
            ),
        ):
            if not good.all():
                raise StudyError(
                    f"{self.file} has {fault} for {shown(self.path[int(np.argmin(good))])} "
                    f"({int((~good).sum()):,} of {len(self):,} images): {mend}, or drop those "
                    "images."
                )
        if len(self) and np.median(widest) > 3 * np.pi:  # as `poses` reads motions
            raise StudyError(
                f"{self.file}: joints turn by {np.median(widest):.0f} radians, as if given in "
                "degrees: convert global_orient and body_pose to radians."
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
