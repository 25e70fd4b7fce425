"""Batches of row indices, a fixed number of them, from a private generator.

PK sampling, and shuffled rounds. Generated images can be capped: `generated` (N,) marks them and
`max_share` is the largest share of a batch that they may take. Copies of one image do not meet in
a batch where that can be helped: `copies` (N,) numbers the images, copies of one alike.
"""

from collections.abc import Iterator

import numpy as np

from posedive_lib.errors import StudyError


class Deck:
    """Rows dealt in reshuffled rounds: every row comes once before any comes again.

    copies: number of the image of each row of the whole set. A draw takes another copy of an image,
    or a row a second time, only where it asks for more rows than there are images.
    """

    def __init__(self, rows: np.ndarray, copies: np.ndarray | None = None) -> None:
        self.rows, self.waiting = np.asarray(rows), np.zeros(0, int)
        self.copies = copies
        self.different = len(self.rows if copies is None else np.unique(copies[self.rows]))

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """The next (count,) rows."""
        if count > self.different:
            return self._next(count, rng)
        while True:
            shown = self.waiting if self.copies is None else self.copies[self.waiting]
            first = np.sort(np.unique(shown, return_index=True)[1])[:count]
            if len(first) == count:
                break
            self.waiting = np.concatenate([self.waiting, rng.permutation(self.rows)])
        drawn = self.waiting[first]
        self.waiting = np.delete(self.waiting, first)
        return drawn

    def _next(self, count: int, rng: np.random.Generator) -> np.ndarray:
        while len(self.waiting) < count:
            self.waiting = np.concatenate([self.waiting, rng.permutation(self.rows)])
        drawn, self.waiting = self.waiting[:count], self.waiting[count:]
        return drawn


class CappedDeck:
    """Rows of which at most a given number are generated; where real ones are short they repeat."""

    def __init__(
        self, rows: np.ndarray, generated: np.ndarray, copies: np.ndarray | None = None
    ) -> None:
        self.both = Deck(rows, copies)
        self.real = Deck(rows[~generated[rows]], copies)
        self.generated = Deck(rows[generated[rows]], copies)

    def draw(self, count: int, limit: int, rng: np.random.Generator) -> np.ndarray:
        """(count,) rows, real and generated in proportion, at most `limit` of them generated."""
        if limit >= count or not len(self.generated.rows):
            return self.both.draw(count, rng)
        if not len(self.real.rows):
            raise StudyError(
                "An identity has generated images only, so their share of a batch cannot be "
                "limited: set reid.generated.max_share to 1.0."
            )
        share = len(self.generated.rows) / len(self.both.rows)
        chosen = min(int(rng.binomial(count, share)), limit)
        real = self.real.draw(count - chosen, rng)
        return np.concatenate([real, self.generated.draw(chosen, rng)])


class PKSampler:
    """`steps` batches of row indices (P * K,), the K rows of an identity next to each other.

    Identities come in shuffled rounds, so each is seen about equally often. Its images likewise
    come in rounds, and an identity with fewer than K images repeats some. With fewer than P
    identities a batch holds all of them, with more images each, up to the batch size. Batches
    always have one size.
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
        copies: np.ndarray | None = None,
    ) -> None:
        self.copies = copies
        self.generated = _marks(generated, len(labels))
        order = np.argsort(labels, kind="stable")
        names, starts = np.unique(np.asarray(labels)[order], return_index=True)
        self.rows = dict(zip(names.tolist(), np.split(order, starts[1:]), strict=False))
        if len(self.rows) < 2:
            raise StudyError(
                f"The training set has {len(self.rows)} identity: "
                "Re-ID training needs at least two."
            )
        if instances < 2 or batch_size < 2 * instances:
            raise StudyError(
                f"reid.batch_size {batch_size} with reid.instances {instances}: "
                "a batch needs two identities with two images each at least."
            )
        self.people = min(batch_size // instances, len(self.rows))  # P
        self.instances = max(instances, batch_size // self.people)  # K
        self.steps, self.seed, self.max_share = steps, seed, max_share

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(self.seed)
        decks = {
            name: CappedDeck(rows, self.generated, self.copies) for name, rows in self.rows.items()
        }
        # whole numbers per identity that never sum to more than the share of the batch
        shares = self.max_share * self.instances * np.arange(self.people + 1)
        limits = np.diff(np.floor(shares + 1e-9)).astype(int).tolist()
        waiting: list = []  # identities of this round that are still to come
        for _ in range(self.steps):
            chosen: list = []
            while len(chosen) < self.people:
                nearest = next((i for i, label in enumerate(waiting) if label not in chosen), None)
                if nearest is None:  # what is left of this round is in the batch already
                    waiting = waiting + rng.permutation(list(decks)).tolist()
                    continue
                chosen.append(waiting.pop(nearest))
            pairs = zip(chosen, limits, strict=True)
            yield np.concatenate(
                [decks[label].draw(self.instances, limit, rng) for label, limit in pairs]
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
    """Stage 1: `steps` batches of row indices from reshuffled rounds.

    A round's short rest is carried over, so every batch is full.
    """
    rng = np.random.default_rng(seed)
    deck = CappedDeck(np.arange(count), _marks(generated, count))
    for _ in range(steps):
        yield deck.draw(batch_size, int(max_share * batch_size + 1e-9), rng)


def _marks(generated: np.ndarray | None, count: int) -> np.ndarray:
    return np.zeros(count, bool) if generated is None else np.asarray(generated, bool)
