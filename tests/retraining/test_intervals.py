from retraining.intervals import wilson


def test_wilsons_interval_is_that_of_the_literature() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I,
    # method 3.
    found = [wilson(81 / 263, 263), wilson(0.0, 20)]

    assert [(round(i.low, 4), round(i.high, 4)) for i in found] == [(0.2553, 0.3662), (0, 0.1611)]


def test_of_no_rows_everything_is_possible() -> None:
    found = wilson(0.0, 0)

    assert (found.low, found.high) == (0, 1)
