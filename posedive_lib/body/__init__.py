"""SMPL bodies: files, posing, cameras, pose sources and rendered conditions (§B, §H)."""

from posedive_lib.body.smpl import load_smpl

__all__ = ["load_smpl"]
