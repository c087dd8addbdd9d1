"""A task made on the spot: product reviews from a small grammar, to be rated with 0 to 4 stars.

A review praises or blames several aspects of a product, each with an adjective of a known grade and mostly a
modifier:

    the battery is very good , the price is not bad and the screen is hardly sharp .

    sum = Σ_aspects grade(adjective) · factor(modifier),   stars = number of `thresholds` that the sum reaches

The rating is exact (no label noise), so a network can learn it completely, but it rests on a sum of graded
contributions near thresholds: small errors of the weights cost accuracy. That is what the demo is for.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from analog_glue.errors import require_argument
from analog_glue.tasks.task import RawData, Split, Task, check_fields

ASPECTS = (
    "battery", "camera", "case", "display", "keyboard", "lens",
    "manual", "price", "screen", "service", "sound", "strap",
)  # fmt: skip
ADJECTIVES = {
    "terrible": -3, "awful": -3, "poor": -2, "bad": -2, "dull": -1, "plain": -1,
    "fine": 1, "decent": 1, "good": 2, "solid": 2, "superb": 3, "perfect": 3,
}  # fmt: skip
MODIFIERS = {"": 2, "very": 3, "really": 3, "rather": 1, "slightly": 1, "not": -2, "hardly": -1}
# By number of aspects; each stands where the five ratings are about equally frequent.
THRESHOLDS = {2: (-4, -1, 2, 5), 3: (-5, -1, 2, 6), 4: (-7, -1, 2, 8)}
CORPUS_SEED = 2021  # fixed: the demo's text is part of the program, `seed` varies training only


@dataclass(frozen=True)
class DemoTask(Task):
    """Star ratings of made reviews. No validation review repeats a training one in another order."""

    train_size: int  # [reviews]
    validation_size: int  # [reviews]
    aspects: int = 3  # aspects a review speaks of; more are harder
    name: str = "demo"
    labels: tuple[str, ...] = ("0 stars", "1 star", "2 stars", "3 stars", "4 stars")
    metrics: tuple[str, ...] = ("accuracy",)
    headline: str = "accuracy"
    max_length: int = 32  # [tokens]

    def __post_init__(self) -> None:
        for name in ("labels", "metrics"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # yaml gives lists
        check_fields(self)
        require_argument(self.aspects in THRESHOLDS, "aspects", f"be one of {list(THRESHOLDS)}", self.aspects)
        for name in ("train_size", "validation_size"):
            size = getattr(self, name)
            require_argument(1 <= size <= 200_000, name, "lie in 1 … 200000 reviews", size)
        require_argument(len(self.labels) == 5, "labels", "name the five ratings", list(self.labels))

    def check(self, data_root: str | None) -> None:
        """Nothing to find: the reviews are made here."""

    def load(self, data_root: str | None) -> RawData:
        """Makes the reviews, the same ones at every call. `data_root` is not used."""
        train: dict[str, int] = {}
        validation: dict[str, int] = {}
        reviews = _reviews(self.train_size + self.validation_size, self.aspects)
        for i, (text, stars) in enumerate(reviews.items()):
            (train if i < self.train_size else validation)[text] = stars
        return RawData(
            train=Split([(text,) for text in train], list(train.values())),
            validation={"validation": Split([(text,) for text in validation], list(validation.values()))},
            source=f"grammar of analog_glue.tasks.demo, {self.aspects} aspects",
        )


def _reviews(count: int, aspects: int) -> dict[str, int]:
    """`count` reviews {text: stars}, no two of which say the same in another order."""
    import torch

    from analog_glue.seeding import generator

    random = generator(CORPUS_SEED, "demo reviews", aspects)
    adjectives, modifiers = list(ADJECTIVES), list(MODIFIERS)
    reviews: dict[str, int] = {}
    said: set[tuple[tuple[int, int, int], ...]] = set()
    while len(reviews) < count:
        # Blocks of a size that does not depend on `count`, so a larger corpus begins like a smaller one.
        nouns = torch.rand(4096, len(ASPECTS), generator=random).argsort(dim=1)[:, :aspects].tolist()
        grades = torch.randint(len(adjectives), (4096, aspects), generator=random).tolist()
        factors = torch.randint(len(modifiers), (4096, aspects), generator=random).tolist()
        for review in zip(nouns, grades, factors, strict=True):
            clauses = list(zip(*review, strict=True))
            content = tuple(sorted(clauses))
            if content in said or len(reviews) == count:
                continue
            said.add(content)
            total = sum(ADJECTIVES[adjectives[a]] * MODIFIERS[modifiers[m]] for _, a, m in clauses)
            phrases = [" ".join(f"the {ASPECTS[n]} is {modifiers[m]} {adjectives[a]}".split()) for n, a, m in clauses]
            text = " , ".join(phrases[:-1]) + f" and {phrases[-1]} ."
            reviews[text] = bisect_right(THRESHOLDS[aspects], total)
    return reviews
