"""SMPL bodies: loading, posing, cameras, pose sources and the conditions rendered from them (§B, §H)."""

from posedive_lib.body.smpl import load_smpl

__all__ = ["load_smpl"]
