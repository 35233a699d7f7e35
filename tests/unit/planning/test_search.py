"""The two algorithms that search a schedule, on scores given by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mae_et.curriculum import Curriculum, as_pair
from mae_et.planning.schedules import Trial
from mae_et.planning.search import greedy, sequential


class ScoredTrials:
    """In place of `Trials`: scores by the sizes of the stages, three of them and then full size."""

    num_stages = 4

    def __init__(self, score: Callable[[tuple[int, ...]], float]) -> None:
        self.score = score
        self.asked: list[tuple[int, ...]] = []
        self.stops: list[int | None] = []

    def schedule(self, first: Sequence[int]) -> Curriculum:
        sizes = [*first, *[28] * (self.num_stages - len(first))]
        return Curriculum.from_stages(
            [(size, 1.0) for size in sizes], num_steps=40, cost=lambda size: as_pair(size)[0]
        )

    def run(self, first: Sequence[int], purpose: str, stop: int | None = None) -> Trial:
        sizes = (*first, *[28] * (self.num_stages - len(first)))
        self.asked.append(sizes)
        self.stops.append(stop)
        return Trial(
            purpose=purpose,
            sizes=sizes,
            steps=1,
            is_whole=True,
            cost=1.0,
            scores=(self.score(sizes) - 0.01, self.score(sizes) + 0.01),
        )


def test_greedy_takes_the_smallest_size_that_keeps_the_score() -> None:
    """Each 12 costs two points, each 20 half a point: the first costs one too many."""
    trials = ScoredTrials(lambda sizes: 0.8 - 0.02 * sizes.count(12) - 0.005 * sizes.count(20))
    assert greedy(trials, [12, 20, 28], tolerance=1.0) == [20, 20]  # type: ignore[arg-type]
    assert trials.asked == [
        (28, 28, 28, 28),
        (12, 28, 28, 28),
        (20, 28, 28, 28),
        (20, 20, 28, 28),  # sizes never fall, so not 12
        (20, 20, 20, 28),  # 1.5 points
    ]


def test_greedy_stays_at_full_size_where_every_size_costs_too_much() -> None:
    trials = ScoredTrials(lambda sizes: 0.8 - 0.1 * (sizes[0] < 28))
    assert greedy(trials, [12, 20, 28], tolerance=0.5) == []  # type: ignore[arg-type]
    assert trials.asked == [(28, 28, 28, 28), (12, 28, 28, 28), (20, 28, 28, 28)]


def test_sequential_takes_the_best_size_of_each_stage() -> None:
    best = {(12, 28, 28, 28): 0.5, (12, 20, 28, 28): 0.6, (12, 20, 28, 28, 28): 0.7}
    trials = ScoredTrials(lambda sizes: best.get(sizes, 0.4 + 0.01 * (sizes[2] == 28)))
    assert sequential(trials, [12, 20, 28], phase=0.2) == [12, 20]  # type: ignore[arg-type]
    assert trials.asked == [
        *[(12, 28, 28, 28), (20, 28, 28, 28), (28, 28, 28, 28)],
        *[(12, 12, 28, 28), (12, 20, 28, 28), (12, 28, 28, 28)],
        *[(12, 20, 20, 28), (12, 20, 28, 28)],
        *[(12, 20, 28, 28), (28, 28, 28, 28)],  # whole runs
    ]
    # A stage has 10 steps at 28, 14 at 20 and 23.3 at 12; the phase after it 2.
    assert trials.stops == [25, 16, 12, 49, 39, 35, 53, 49, None, None]
