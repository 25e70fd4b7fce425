"""What goes wrong in generated images (§G), measured against what the mini world knows: a true photo of the same person, pose and view.

The paper looked at about 100 samples and named two kinds of failure: a backpack that the reference does not show, and poor references.
Here every kind is a number with a threshold, and each threshold is checked on photos that are known to be right or staged to be wrong.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest, fisher_exact
from skimage.color import deltaE_ciede2000, rgb2lab

from posedive_lib import datasets
from posedive_lib.augment.candidates import load_bodies
from posedive_lib.bench import figures
from posedive_lib.body.conditions import ConditionRenderer
from posedive_lib.body.table import BodyTable
from posedive_lib.datasets.images import read as read_images
from posedive_lib.errors import StudyError
from posedive_lib.seeds import rng_for
from posedive_lib.study import candidate_files, mini_world, quality

MEASURED = ("wrong key points", "wrong colours", "bag vanished", "bag appeared")
REFERENCE = ("blurred reference", "occluded reference")
LEAST_PCK = 0.75  # below: more than a quarter of the visible body points are off by more than a tenth of the person's height
STRANGERS = 0.25  # colours are wrong where this share of strangers, in the same pose and view, is closer to the person
BAG_PIXELS = 40  # a bag that shows fewer pixels is not judged
BAG_MARGIN = 0.7  # a bag "appeared" where the best bag explains the picture this much better than the person's own clothes


@dataclass(frozen=True)
class Samples:
    """Inspected images, aligned by row. All pictures uint8 (N, H, W, 3); mask (N, H, W) bool: the person in `truth`.

    table: manifest rows with dataset, person, bag, low_quality, occluded; bodies: targets; estimated (N, 17, 2) key points of `generated`.
    truth, again: two true photos (other background and noise); stranger, other: two other persons in the same pose, view and camera.
    """

    table: pd.DataFrame
    bodies: BodyTable
    estimated: np.ndarray
    references: np.ndarray
    generated: np.ndarray
    truth: np.ndarray
    again: np.ndarray
    stranger: np.ndarray
    other: np.ndarray
    normals: np.ndarray
    mask: np.ndarray

    def __len__(self) -> int:
        return len(self.table)


def draw(P, count: int) -> pd.DataFrame:
    """`count` candidates, spread evenly over the data sets, kept and rejected alike, with the truth about their references."""
    share, parts = int(np.ceil(count / len(P.study.datasets))), []
    for name in P.study.datasets:
        manifest, train = (
            candidate_files.load_manifest(name),
            datasets.load(name, P.paths.datasets).train,
        )
        mini_world.require_people(name, train, "failures are measured")
        rows = manifest.iloc[
            np.sort(rng_for("failures", P.seed, name).permutation(len(manifest))[:share])
        ]
        known = train.rename(columns={"rel": "reference", "path": "reference_path"})
        parts.append(
            rows.merge(
                known[["reference", "reference_path", "person", "low_quality", "occluded"]],
                on="reference",
            ).assign(dataset=name)
        )
    table = pd.concat(parts, ignore_index=True).iloc[:count].reset_index(drop=True)
    kept = table["kept"].astype(str) == "True"
    return table.assign(kept=kept, bag=mini_world.people(P, table["person"])["bag"].to_numpy())


class Studio:
    """Takes true photos of a sample's person, or of someone else, in the sample's pose, view and camera."""

    def __init__(self, P, table: pd.DataFrame, bodies: BodyTable):
        self.table, self.bodies, self._taken = table, bodies, {}
        self.photographer = mini_world.photographer(P)
        self.cameras = {name: mini_world.cameras(P, name) for name in table["dataset"].unique()}
        self.people = mini_world.people(P, table["person"]).to_dict("records")
        c = P.conditions
        self.conditions = ConditionRenderer(
            P.paths.body,
            P.image.height,
            P.image.width,
            near=c.depth_near,
            far=c.depth_far,
            focal=c.focal,
        )

    def shoot(self, row: int, person: dict, take: str) -> dict:
        """Photo of `person` as row `row`'s target; the same `take` has the same background and noise."""
        key = row, person["person"], take
        if key not in self._taken:
            self._taken[key] = self._shoot(row, person, take)
        return self._taken[key]

    def _shoot(self, row: int, person: dict, take: str) -> dict:
        where, body = self.table.iloc[row], self.bodies
        rng = rng_for("failure-photo", where["dataset"], where["pid"], where["index"], take)
        camera = self.cameras[where["dataset"]][where["camid"]]
        return self.photographer.shoot(
            person, body.body_pose[row], body.global_orient[row], body.cam_t[row], camera, rng
        )

    def stranger(self, row: int, which: int = 0) -> dict:
        """Another person of the sample; `which` numbers the draws."""
        others = [
            i
            for i, person in enumerate(self.people)
            if person["person"] != self.people[row]["person"]
        ]
        if not others:
            raise StudyError("All inspected images show one person: raise study.failure_samples.")
        return self.people[others[int(rng_for("stranger", row, which).integers(len(others)))]]

    def normals(self, row: int) -> np.ndarray:
        body = self.bodies
        return self.conditions.render(
            body.global_orient[row], body.body_pose[row], body.betas[row], body.cam_t[row]
        ).normals


def with_bag(person: dict, kind: str, colour: str) -> dict:
    """The same person with another bag ("none" for without); a name of its own, as clothes are cached by name."""
    return {
        **person,
        "bag": kind,
        "bag_colour": colour,
        "person": f"{person['person']} with {kind} {colour}",
    }


def inspect(P, count: int) -> tuple[Samples, Studio]:
    """Draw images and photograph the truth for each."""
    table = draw(P, count)
    loaded = [
        load_bodies(rows, candidate_files.CANDIDATES / name)
        for name, rows in table.groupby("dataset", sort=False)
    ]
    bodies = BodyTable.joined([table for table, _ in loaded])
    studio = Studio(P, table, bodies)
    rows = range(len(table))
    truth = [studio.shoot(i, studio.people[i], "truth") for i in rows]
    again = [studio.shoot(i, studio.people[i], "again")["image"] for i in rows]
    stranger, other = (
        [studio.shoot(i, studio.stranger(i, which), "truth")["image"] for i in rows]
        for which in (0, 1)
    )
    generated = [
        candidate_files.candidate_images(name, rows, P.image)
        for name, rows in table.groupby("dataset", sort=False)
    ]
    return Samples(
        table,
        bodies,
        np.concatenate([e for _, e in loaded]),
        read_images(table["reference_path"], P.image.height, P.image.width),
        np.concatenate(generated),
        np.stack([t["image"] for t in truth]),
        np.stack(again),
        np.stack(stranger),
        np.stack(other),
        np.stack([studio.normals(i) for i in rows]),
        np.stack([t["mask"] for t in truth]),
    ), studio


def colour_error(images: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(N,) mean CIEDE2000 difference inside the person, after a blur of 2 px that forgives small shifts. 2 is just visible, 20 another colour."""
    soft = lambda stack: rgb2lab(gaussian_filter(stack / 255.0, (0, 2, 2, 0)))
    difference = deltaE_ciede2000(soft(images), soft(truth))
    return (difference * mask).sum((1, 2)) / np.maximum(mask.sum((1, 2)), 1)


def _gap(a: np.ndarray, b: np.ndarray, region: np.ndarray) -> float:
    return float(np.abs(a - b)[region].mean())


def _soft(image: np.ndarray) -> np.ndarray:
    return gaussian_filter(image.astype(float), (1, 1, 0))


def vanished(studio: Studio, row: int, image: np.ndarray) -> float:
    """How much closer the bag's region is to a photo without the bag (levels of 255; above 0: it vanished). NaN: too little to judge."""
    person = studio.people[row]
    on, off = (
        _soft(studio.shoot(row, who, "truth")["image"])
        for who in (person, with_bag(person, "none", person["bag_colour"]))
    )
    region = np.abs(on - off).max(-1) > 24
    return (
        _gap(_soft(image), on, region) - _gap(_soft(image), off, region)
        if region.sum() >= BAG_PIXELS
        else np.nan
    )


def appeared(studio: Studio, row: int, image: np.ndarray) -> float:
    """How much better the best bag (any kind, any colour) explains the body where it would hang (above 0: it appeared). NaN: hidden from here.

    Only pixels of the body count: behind it there is background, which nobody prescribed. Black and white bags are photographed,
    other colours lie between them.
    """
    person, image = studio.people[row], _soft(image)
    plain = studio.shoot(row, person, "truth")
    clothes, scores = _soft(plain["image"]), []
    colours = mini_world.cloth_colours()
    low, high = np.array(colours["black"]), np.array(colours["white"])
    for kind in ("backpack", "shoulder bag"):
        black, white = (
            _soft(studio.shoot(row, with_bag(person, kind, colour), "truth")["image"])
            for colour in ("black", "white")
        )
        region = (np.abs(white - black).max(-1) > 24) & plain["mask"]
        if region.sum() >= BAG_PIXELS:
            bags = [
                black + (white - black) * (np.array(colour) - low) / (high - low)
                for colour in colours.values()
            ]
            scores.append(
                BAG_MARGIN * _gap(image, clothes, region)
                - min(_gap(image, bag, region) for bag in bags)
            )
    return max(scores, default=np.nan)


def bag_scores(studio: Studio, images: np.ndarray) -> pd.DataFrame:
    """Columns "bag vanished" (people with a bag) and "bag appeared" (people without), NaN where a row cannot show it."""
    rows = []
    for row, image in enumerate(images):
        has = studio.people[row]["bag"] != "none"
        rows.append(
            (
                vanished(studio, row, image) if has else np.nan,
                np.nan if has else appeared(studio, row, image),
            )
        )
    return pd.DataFrame(rows, columns=list(MEASURED[2:]))


def staged_bags(studio: Studio) -> np.ndarray:
    """True photos with the wrong bag: owners without theirs, the others with a backpack."""
    wrong = [
        with_bag(p, "backpack" if p["bag"] == "none" else "none", p["bag_colour"])
        for p in studio.people
    ]
    return np.stack(
        [studio.shoot(row, person, "again")["image"] for row, person in enumerate(wrong)]
    )


def scores(
    samples: Samples, studio: Studio, images: np.ndarray, estimated: np.ndarray
) -> pd.DataFrame:
    """A column per kind of MEASURED, the larger the worse: 1 − PCK@0.1, CIEDE2000, and levels of 255 for bags."""
    pck = quality.pck(estimated, samples.bodies.keypoints, samples.bodies.visible, samples.mask)
    first = pd.DataFrame(
        {
            "wrong key points": 1 - pck,
            "wrong colours": colour_error(images, samples.truth, samples.mask),
        }
    )
    return pd.concat([first, bag_scores(studio, images)], axis=1)


def colour_limit(samples: Samples) -> float:
    """CIEDE2000 to the person that the share STRANGERS of other persons stays below; `Samples.stranger` are left to check it with."""
    return float(np.quantile(colour_error(samples.other, samples.truth, samples.mask), STRANGERS))


def other_clothes(studio: Studio, flagged: pd.DataFrame) -> pd.Series:
    """Flags of "bag appeared" on photos of strangers who carry none (`flagged`: of `Samples.stranger`): wrong clothes taken for a bag."""
    bagless = [studio.stranger(row)["bag"] == "none" for row in range(len(flagged))]
    return flagged["bag appeared"].where(bagless)


def flags(values: pd.DataFrame, limit: float) -> pd.DataFrame:
    """1.0 where a score says failure, 0.0 where not, NaN where it cannot be judged; `limit` is that of the colours."""
    limits = {
        "wrong key points": 1 - LEAST_PCK,
        "wrong colours": limit,
        "bag vanished": 0.0,
        "bag appeared": 0.0,
    }
    return pd.DataFrame(
        {
            kind: (values[kind] > limits[kind]).where(values[kind].notna()).astype(float)
            for kind in MEASURED
        }
    )


def rate(flagged: pd.Series) -> dict:
    """count, of, rate and its 95 % Wilson interval of flags; NaN rows do not count."""
    known = flagged.dropna()
    if not len(known):
        return {"count": 0, "of": 0, "rate": np.nan, "low": np.nan, "high": np.nan}
    interval = binomtest(int(known.sum()), len(known)).proportion_ci(method="wilson")
    return {
        "count": int(known.sum()),
        "of": len(known),
        "rate": known.mean(),
        "low": interval.low,
        "high": interval.high,
    }


def failure_table(
    samples: Samples,
    flagged: pd.DataFrame,
    right: pd.DataFrame,
    staged: pd.DataFrame,
    clothes: pd.Series,
) -> pd.DataFrame:
    """One row per kind: rate among generated images (all, kept, rejected), and as a check among true photos, staged failures and, for
    "bag appeared", strangers without a bag (`clothes`, flags of `other_clothes`)."""
    table, rows = samples.table, []
    for kind in MEASURED:
        rows.append(
            {
                "kind": kind,
                **rate(flagged[kind]),
                "kept": flagged[kind][table["kept"]].mean(),
                "rejected": flagged[kind][~table["kept"]].mean(),
                "true photos": right[kind].mean(),
                "staged failures": staged[kind].mean(),
                "bagless strangers": clothes.mean() if kind == "bag appeared" else np.nan,
            }
        )
    some = flagged.max(axis=1)
    rows.append(
        {
            "kind": "any of these",
            **rate(some),
            "kept": some[table["kept"]].mean(),
            "rejected": some[~table["kept"]].mean(),
            "true photos": right.max(axis=1).mean(),
            "staged failures": np.nan,
        }
    )
    for kind, column in zip(REFERENCE, ("low_quality", "occluded")):
        poor = table[column].astype(float)
        rows.append(
            {
                "kind": kind,
                **rate(poor),
                "kept": poor[table["kept"]].mean(),
                "rejected": poor[~table["kept"]].mean(),
                "true photos": np.nan,
                "staged failures": np.nan,
            }
        )
    return pd.DataFrame(rows)


def caught(samples: Samples, flagged: pd.DataFrame) -> pd.DataFrame:
    """Does the filter see each kind? Failures among kept and among rejected images with 95 % Wilson intervals, and Fisher's exact p of the two."""
    kept, rows = samples.table["kept"].astype(bool), []
    for kind in MEASURED:
        inside, outside = rate(flagged[kind][kept]), rate(flagged[kind][~kept])
        counts = [[part["count"], part["of"] - part["count"]] for part in (inside, outside)]
        rows.append(
            {
                "kind": kind,
                **{
                    f"{name} {key}": part[key]
                    for name, part in (("kept", inside), ("rejected", outside))
                    for key in ("count", "of", "low", "high")
                },
                "p": fisher_exact(counts).pvalue if inside["of"] and outside["of"] else np.nan,
            }
        )
    return pd.DataFrame(rows)


def reference_table(samples: Samples, flagged: pd.DataFrame) -> pd.DataFrame:
    """Rates of wrong key points and wrong colours by the state of the reference photo."""
    table = samples.table
    poor = table["low_quality"] | table["occluded"]
    states = {"clear": ~poor, "blurred": table["low_quality"], "occluded": table["occluded"]}
    return pd.DataFrame(
        [
            {"reference": state, "kind": kind, **rate(flagged[kind][rows])}
            for state, rows in states.items()
            for kind in MEASURED[:2]
        ]
    )


def score_figure(values: pd.DataFrame, right: pd.DataFrame, staged: pd.DataFrame, limit: float):
    """Dots of every score for generated images, true photos and staged failures, with the threshold; figure and data."""
    import matplotlib.pyplot as plt

    limits = (1 - LEAST_PCK, limit, 0.0, 0.0)
    units = ("share of body points off", "CIEDE2000", "levels of 255", "levels of 255")
    fig, axes = plt.subplots(1, 4, figsize=(11, 3.6))
    groups = {
        "true\nphotos": (right, figures.COLOURS[0]),
        "generated": (values, figures.COLOURS[1]),
        "staged\nfailures": (staged, figures.COLOURS[7]),
    }
    rng = np.random.default_rng(0)
    for ax, kind, threshold, unit in zip(axes, MEASURED, limits, units):
        for x, (frame, colour) in enumerate(groups.values()):
            known = frame[kind].dropna().to_numpy()
            ax.plot(
                x + rng.uniform(-0.28, 0.28, len(known)),
                known,
                linestyle="",
                marker="o",
                markersize=3.2,
                alpha=0.55,
                color=colour,
            )
        ax.axhline(threshold, color="black", linewidth=1, linestyle="--", marker="")
        ax.set_xticks(range(3), groups, fontsize=8)
        ax.set(title=kind, ylabel=unit, xlim=(-0.5, 2.5))
    parts = [
        frame.assign(photos=name.replace("\n", " "))
        .melt("photos", var_name="kind", value_name="score")
        .dropna()
        for name, (frame, _) in groups.items()
    ]
    return fig, pd.concat(parts)


def worst(samples: Samples, score: pd.Series, count: int, unit: str):
    """Figure of the `count` images with the largest score: reference, target normals, generated, truth; None where nothing can be judged."""
    order = score.dropna().sort_values(ascending=False, kind="stable").index[:count].tolist()
    if not order:
        return None
    rows = [
        [stack[i] for i in order]
        for stack in (samples.references, samples.normals, samples.generated, samples.truth)
    ]
    labels = [
        f"{unit} {score[i]:.2g}\n{'kept' if samples.table['kept'][i] else 'rejected'}"
        for i in order
    ]
    return figures.image_grid(
        rows,
        row_labels=["reference", "target", "generated", "truth"],
        column_labels=labels,
        scale=0.9,
    )
