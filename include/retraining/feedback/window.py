"""Which weeks and days a batch of feedback looks at. No clock: the week is an argument."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Self

from retraining.errors import ConfigError
from retraining.registry import previous_week


@dataclass(frozen=True)
class Window:
    """A week of feedback, and the weeks before it that lines may wait in.

    Attributes:
        weeks: Oldest first, the week that is closed last.
    """

    weeks: tuple[str, ...]

    @classmethod
    def of(cls, week: str, *, wait_weeks: int) -> Self:
        """The window of `week`; raises ConfigError when there is no such week."""
        monday_of(week)
        weeks = [week]
        for _ in range(wait_weeks):
            weeks.insert(0, previous_week(weeks[0]))
        return cls(tuple(weeks))

    @property
    def start(self) -> datetime:
        """The first moment of its first week."""
        return start_of(self.weeks[0])

    @property
    def end(self) -> datetime:
        """The first moment after its last week."""
        return end_of(self.weeks[-1])

    @property
    def days(self) -> tuple[str, ...]:
        """Its days, oldest first, such as 2026-02-14."""
        first = monday_of(self.weeks[0])
        return tuple(
            (first + timedelta(days=number)).isoformat() for number in range(7 * len(self.weeks))
        )


def monday_of(week: str) -> date:
    """The first day of an ISO week such as 2026-W07; raises ConfigError."""
    try:
        if len(week) != len("2026-W07") or week[4:6] != "-W":
            raise ValueError(week)
        return date.fromisocalendar(int(week[:4]), int(week[6:]), 1)
    except ValueError:
        raise ConfigError(f"Found the week {week!r}, expected one such as 2026-W07.") from None


def start_of(week: str) -> datetime:
    """The first moment of an ISO week, UTC."""
    monday = monday_of(week)
    return datetime(monday.year, monday.month, monday.day, tzinfo=UTC)


def end_of(week: str) -> datetime:
    """The first moment after an ISO week, UTC."""
    return start_of(week) + timedelta(weeks=1)


def weeks_between(earlier: str, later: str) -> int:
    """How many weeks `later` comes after `earlier`; negative when it comes before."""
    return (monday_of(later) - monday_of(earlier)).days // 7
