"""Seeds from stable keys, so that batch size, worker count and a resume never change a sample."""

import hashlib

import numpy as np


def seed_for(*key: object) -> int:
    """63-bit seed from a key such as ``("msmt17", pid, index)``."""
    text = "/".join(str(part) for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rng_for(*key: object) -> np.random.Generator:
    """NumPy generator seeded by `seed_for`."""
    return np.random.default_rng(seed_for(*key))
