"""The order of shards and rows that lanes take: every row once an epoch."""

from __future__ import annotations

import pytest

from mae_et.data.streaming.order import ShardPlan


@pytest.mark.parametrize("lanes", [1, 3, 8])
def test_a_counted_plan_is_exact(lanes: int) -> None:
    """Lanes of any number, rows that they do not divide, shards without rows."""
    lengths = [5, 0, 17, 3, 1]
    plan = ShardPlan([*lengths], [0, 2, 0, 1, 0], lanes, seed=3)
    expected = {
        (s, plan.left_out[s] + row) for s, rows in enumerate(lengths) for row in range(rows)
    }
    taken: dict[int, tuple[int, int]] = {}  # sample -> (shard, row)
    for lane in range(lanes):
        read = (
            (span.shard, row)
            for epoch in range(9)
            for span in plan.spans(lane, epoch, 0)
            for row in range(span.first, span.first + (span.number or 0))
        )
        taken |= {n * lanes + lane: row for n, row in enumerate(read)}
    for epoch in range(8):
        assert {taken[n] for n in range(26 * epoch, 26 * (epoch + 1))} == expected
    for lane in range(lanes):
        for number in range(0, 200 // lanes, 7):
            epoch, offset = plan.locate(lane, number)
            span = next(iter(plan.spans(lane, epoch, offset)))
            assert taken[number * lanes + lane] == (span.shard, span.first)
