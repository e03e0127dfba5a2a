from __future__ import annotations

import pytest

from atlaseg.atlases.propagation.failed_registrations import FEWEST, leave_out
from atlaseg.atlases.propagation.quality import Quality


def figures(agreements: list[float], local: float = 0.7) -> list[Quality]:
    return [Quality(a, local, 0.8, 1.1, 1.0) for a in agreements]


def test_alike_atlases_all_stay():
    assert leave_out(figures([0.78, 0.8, 0.81, 0.79, 0.76, 0.74, 0.8])) == []


def test_modest_atlases_stay():
    # far outside the spread of the others, yet useful: leaving such atlases out cost accuracy
    assert leave_out(figures([0.8, 0.8, 0.8, 0.8, 0.8, 0.6])) == []


def test_failures_go_worst_first_with_a_reason():
    found = leave_out(figures([0.8, 0.2, 0.79, 0.1, 0.81, 0.8, 0.78]))
    assert [index for index, _ in found] == [3, 1]
    assert "0.10" in found[0][1]


@pytest.mark.parametrize("number", range(1, 9))
def test_half_and_at_least_three_stay(number):
    wrecks = [Quality(0.0, 0.0, 0.0, 1.0, 0.0)] * number
    assert len(leave_out(wrecks)) == max(0, number - max(FEWEST, (number + 1) // 2))


def test_images_that_do_not_correspond():
    found = figures([0.8] * 4)
    found[2] = Quality(0.8, 0.02, 0.8, 1.1, 1.0)
    ((index, reason),) = leave_out(found)
    assert index == 2
    assert "local correlation" in reason


def test_a_scan_of_another_contrast_leaves_no_atlas_out():
    assert leave_out([Quality(0.8, local, -0.4, 1.1, 1.0) for local in (-0.5, -0.4, 0.01, 0.1, -0.3)]) == []


def test_widely_differing_atlases_stay():
    # small structures: low agreement is usual there, and half of the median lies within the spread
    assert leave_out(figures([0.5, 0.2, 0.7, 0.3, 0.6, 0.4])) == []


def test_the_order_of_the_atlases_does_not_matter():
    given = figures([0.8, 0.2, 0.79, 0.1, 0.81, 0.8, 0.78])
    order = [4, 6, 1, 0, 3, 2, 5]
    found = leave_out([given[n] for n in order])
    assert [order[index] for index, _ in found] == [index for index, _ in leave_out(given)]
