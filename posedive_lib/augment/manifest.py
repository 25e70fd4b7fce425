"""Columns of a manifest: σ_k (Eq. 2) of 17 key points, as generated and as target."""

SIGMA_GEN = [f"sigma_gen_{k:02d}" for k in range(17)]
SIGMA_TAR = [f"sigma_tar_{k:02d}" for k in range(17)]
