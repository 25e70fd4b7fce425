"""Batches of row indices, a fixed number of them, from a private generator: PK sampling, and shuffled rounds.

Generated images can be capped: `generated` (N,) marks them and `max_share` is the largest share of a batch that they may take.
"""

from collections.abc import Iterator

import numpy as np

from posedive_lib.errors import StudyError


class Deck:
    """Rows dealt in reshuffled rounds: every row comes once before any comes again, and none is left over."""

    def __init__(self, rows: np.ndarray):
        self.rows, self.waiting = np.asarray(rows), np.zeros(0, int)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        while len(self.waiting) < count:
            self.waiting = np.concatenate([self.waiting, rng.permutation(self.rows)])
        drawn, self.waiting = self.waiting[:count], self.waiting[count:]
        return drawn


class CappedDeck:
    """Rows of which at most a given number are generated; where real ones are short they repeat."""

    def __init__(self, rows: np.ndarray, generated: np.ndarray):
        self.both, self.real, self.generated = (
            Deck(rows),
            Deck(rows[~generated[rows]]),
            Deck(rows[generated[rows]]),
        )

    def draw(self, count: int, limit: int, rng: np.random.Generator) -> np.ndarray:
        """(count,) rows; without a binding limit in the proportion in which they are there."""
        if limit >= count or not len(self.generated.rows):
            return self.both.draw(count, rng)
        if not len(self.real.rows):
            raise StudyError(
                "An identity has generated images only, so their share of a batch cannot be limited: set reid.generated.max_share to 1.0."
            )
        share = len(self.generated.rows) / len(self.both.rows)
        chosen = min(int(rng.binomial(count, share)), limit)
        return np.concatenate(
            [self.real.draw(count - chosen, rng), self.generated.draw(chosen, rng)]
        )


class PKSampler:
    """Yields exactly `steps` batches of row indices (P * K,), the K rows of an identity next to each other.

    Identities come in shuffled rounds, so each is seen about equally often; its images likewise come in rounds, and an identity with
    fewer than K images repeats some. With fewer than P identities a batch holds all of them, with more images each, up to the batch
    size. Every identity fills exactly its share, so batches always have one size.
    """

    def __init__(
        self,
        labels: np.ndarray,
        batch_size: int,
        instances: int,
        steps: int,
        seed: int,
        *,
        generated: np.ndarray | None = None,
        max_share: float = 1.0,
    ):
        labels = np.asarray(labels)
        generated = (
            np.zeros(len(labels), bool) if generated is None else np.asarray(generated, bool)
        )
        order = np.argsort(labels, kind="stable")
        names, starts = np.unique(labels[order], return_index=True)
        self.decks = {
            name: (rows, generated)
            for name, rows in zip(names.tolist(), np.split(order, starts[1:]), strict=True)
        }
        if len(self.decks) < 2:
            raise StudyError(
                f"The training set has {len(self.decks)} identity: Re-ID training needs at least two."
            )
        if instances < 2 or batch_size < 2 * instances:
            raise StudyError(
                f"reid.batch_size {batch_size} with reid.instances {instances}: a batch needs two identities with two images each at least."
            )
        self.people = min(batch_size // instances, len(self.decks))
        self.instances = max(instances, batch_size // self.people)
        self.steps, self.seed, self.max_share = steps, seed, max_share

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(self.seed)
        decks = {name: CappedDeck(*rows) for name, rows in self.decks.items()}
        waiting: list = []
        for _ in range(self.steps):
            chosen: list = []
            while len(chosen) < self.people:
                nearest = next((i for i, label in enumerate(waiting) if label not in chosen), None)
                if nearest is None:  # what is left of this round is in the batch already
                    waiting = waiting + rng.permutation(list(decks)).tolist()
                    continue
                chosen.append(waiting.pop(nearest))
            # whole numbers per identity that never sum to more than the share of the batch
            limits = np.diff(
                np.floor(self.max_share * self.instances * np.arange(self.people + 1) + 1e-9)
            ).astype(int)
            yield np.concatenate(
                [
                    decks[label].draw(self.instances, int(limit), rng)
                    for label, limit in zip(chosen, limits, strict=True)
                ]
            )


def shuffled_batches(
    count: int,
    batch_size: int,
    steps: int,
    seed: int,
    *,
    generated: np.ndarray | None = None,
    max_share: float = 1.0,
) -> Iterator[np.ndarray]:
    """Stage 1: `steps` batches of row indices from reshuffled rounds; a round's short rest is carried over, so no batch is empty."""
    rng = np.random.default_rng(seed)
    deck = CappedDeck(
        np.arange(count),
        np.zeros(count, bool) if generated is None else np.asarray(generated, bool),
    )
    for _ in range(steps):
        yield deck.draw(batch_size, int(max_share * batch_size + 1e-9), rng)
