"""Retrieval metrics against the usual implementation, which sorts the gallery for every query."""

import numpy as np

from benchmarks.measure import SECONDS, alone, features, in_turn, peak_memory, report, table, timed
from posedive_lib.reid.retrieval import evaluate, evaluate_distances

MARKET = dict(n_query=3368, n_gallery=15913, people=750, cameras=6, distractors=2798, dim=64)
MSMT17 = dict(n_query=11659, n_gallery=82161, people=3060, cameras=15, dim=64)
SORTED_QUERIES = 600  # of MSMT17's are measured with sorting, and the time scaled
GALLERIES = (62_500, 125_000, 250_000, 500_000, 1_000_000)
STRENGTHS = {
    "trained-like": 1.0,
    "untrained-like": 3.0,
}  # noise around each person, against a spread of 1 between people


def by_sorting(distances, query_pids, query_camids, gallery_pids, gallery_camids, max_rank=50):
    """mAP, CMC (max_rank,), mINP as usually written: argsort all, then one query at a time."""
    order = np.argsort(distances, axis=1)
    curves, precisions, penalties = [], [], []
    for pid, camid, ranked in zip(query_pids, query_camids, order, strict=True):
        keep = (gallery_pids[ranked] != pid) | (gallery_camids[ranked] != camid)
        right = (gallery_pids[ranked] == pid)[keep]
        if not right.any():
            continue
        found = right.cumsum()
        curves.append(np.minimum(found[:max_rank], 1))
        precisions.append((found / np.arange(1, len(found) + 1) * right).sum() / found[-1])
        penalties.append(found[-1] / (np.flatnonzero(right)[-1] + 1))
    return np.mean(precisions), np.mean(curves, axis=0), np.mean(penalties)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def market(strength: str) -> list:
    qf, qp, qc, gf, gp, gc = features(**MARKET, noise=STRENGTHS[strength])
    distances = 1 - unit(qf) @ unit(gf).T
    done = in_turn(
        {
            "count": lambda: evaluate_distances(distances, qp, qc, gp, gc),
            "sort": lambda: by_sorting(distances, qp, qc, gp, gc),
        },
        5,
    )
    (wall, cpu, ours), (sort_wall, sort_cpu, theirs) = done["count"], done["sort"]
    apart = max(
        abs(ours.mAP - theirs[0]), np.abs(ours.cmc - theirs[1]).max(), abs(ours.mINP - theirs[2])
    )
    return [
        strength,
        f"{ours.mAP:.3f}",
        f"{wall:.2f} s ({cpu:.2f})",
        f"{sort_wall:.2f} s ({sort_cpu:.2f})",
        f"{sort_wall / wall:.1f} ({sort_cpu / cpu:.1f})",
        f"{apart:.0e}",
    ]


def msmt17(strength: str) -> list:
    data = features(**MSMT17, noise=STRENGTHS[strength])
    before = peak_memory()
    wall, cpu, ours = timed(lambda: evaluate(*data))
    peak = peak_memory()
    qf, qp, qc, gf, gp, gc = data
    few = slice(0, SORTED_QUERIES)
    scale = len(qp) / SORTED_QUERIES
    sort_wall, sort_cpu, _ = timed(
        lambda: by_sorting(1 - unit(qf[few]) @ unit(gf).T, qp[few], qc[few], gp, gc)
    )
    sort_wall, sort_cpu = sort_wall * scale, sort_cpu * scale
    return [
        strength,
        f"{ours.mAP:.3f}",
        f"{wall:.1f} s ({cpu:.1f})",
        f"{peak:.2f} GB ({before:.2f})",
        f"{sort_wall:.0f} s ({sort_cpu:.0f})",
        f"{sort_wall / wall:.1f} ({sort_cpu / cpu:.1f})",
    ]


def large(n_gallery: int) -> tuple:
    data = features(1000, n_gallery, n_gallery // 25, 15, dim=64, noise=1.0)
    wall, cpu, _ = timed(lambda: evaluate(*data))
    return n_gallery, wall, cpu, peak_memory()


def main() -> None:
    first = table(
        ["features", "mAP", "by counting", "by sorting", "ratio", "largest difference"],
        [alone(market, strength) for strength in STRENGTHS],
    )
    second = table(
        ["features", "mAP", "by counting", "peak memory", "by sorting, scaled", "ratio"],
        [alone(msmt17, strength) for strength in STRENGTHS],
    )
    growth = [alone(large, n) for n in GALLERIES]
    third = table(
        ["gallery", "time", "per million images", "peak memory", "full matrix, float64"],
        [
            [
                f"{n:,}",
                f"{wall:.1f} s ({cpu:.1f})",
                f"{wall / n * 1e6:.1f} s ({cpu / n * 1e6:.1f})",
                f"{peak:.2f} GB",
                f"{8e3 * n / 1e9:.1f} GB",
            ]
            for n, wall, cpu, peak in growth
        ],
    )
    market_size = f"{MARKET['n_query']:,} x {MARKET['n_gallery']:,}"
    msmt17_size = f"{MSMT17['n_query']:,} x {MSMT17['n_gallery']:,}"
    parts = [
        f"{SECONDS}Peak memory is that of the whole process, libraries and features included. "
        "Features are synthetic: people as points in 64 dimensions, images around them.",
        f"**Market-1501 size** ({market_size}), given float32 distances; medians of 5 runs in "
        f"turn.\n\n{first}",
        f"**MSMT17 size** ({msmt17_size}), from 64-d features, one run; sorting measured on "
        f"{SORTED_QUERIES} queries and scaled. In brackets, the memory before.\n\n{second}",
        f"**Growth**: 1,000 queries, from 64-d features, one run each.\n\n{third}",
    ]
    report("retrieval", "\n\n".join(parts))


if __name__ == "__main__":
    main()
