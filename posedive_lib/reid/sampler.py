"""Batches of P identities with K images each (PK sampling), a fixed number of them, from a private generator."""

from collections.abc import Iterator

import numpy as np

from posedive_lib.errors import StudyError


class PKSampler:
    """Yields exactly `steps` batches of row indices (P * K,), the K rows of an identity next to each other.

    Identities come in shuffled rounds, so each is seen about equally often; its images likewise come in rounds, and an identity with
    fewer than K images repeats some. With fewer than P identities a batch holds all of them, with more images each, up to the batch
    size. Every identity fills exactly its share, so batches always have one size.
    """

    def __init__(self, labels: np.ndarray, batch_size: int, instances: int, steps: int, seed: int):
        labels = np.asarray(labels)
        self.rows = {label: np.flatnonzero(labels == label) for label in np.unique(labels).tolist()}
        if len(self.rows) < 2:
            raise StudyError(f"The training set has {len(self.rows)} identity: Re-ID training needs at least two.")
        if instances < 2 or batch_size < 2 * instances:
            raise StudyError(f"reid.batch_size {batch_size} with reid.instances {instances}: a batch needs two identities with two images each at least.")
        self.people = min(batch_size // instances, len(self.rows))
        self.instances = max(instances, batch_size // self.people)
        self.steps, self.seed = steps, seed

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(self.seed)
        labels = list(self.rows)
        waiting: list = []
        decks: dict = {label: [] for label in labels}
        for _ in range(self.steps):
            chosen: list = []
            while len(chosen) < self.people:
                if not waiting:
                    waiting = rng.permutation(labels).tolist()
                nearest = next((i for i, label in enumerate(waiting) if label not in chosen), None)
                if nearest is None:   # the rest of this round is in the batch already
                    waiting = waiting + rng.permutation(labels).tolist()
                    continue
                chosen.append(waiting.pop(nearest))
            yield np.concatenate([self._draw(decks, label, rng) for label in chosen])

    def _draw(self, decks: dict, label, rng: np.random.Generator) -> np.ndarray:
        while len(decks[label]) < self.instances:
            decks[label] = decks[label] + rng.permutation(self.rows[label]).tolist()
        drawn, decks[label] = decks[label][: self.instances], decks[label][self.instances :]
        return np.array(drawn)


def shuffled_batches(count: int, batch_size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Stage 1: `steps` batches of row indices from reshuffled rounds; a round's short rest is carried over, so no batch is empty."""
    rng = np.random.default_rng(seed)
    deck: list[int] = []
    for _ in range(steps):
        while len(deck) < batch_size:
            deck += rng.permutation(count).tolist()
        yield np.array(deck[:batch_size])
        deck = deck[batch_size:]
