"""Shares and medians with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95

_RESAMPLES = 2000


@dataclass(frozen=True)
class Share:
    """k of n, with the interval of Clopper and Pearson: never too narrow, also at 0 of n."""

    k: int
    n: int

    @property
    def value(self) -> float:
        """k / n; NaN of nothing."""
        return self.k / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends of the 95% interval; 0 to 1 of nothing."""
        from scipy.stats import beta

        tail = (1 - CONFIDENCE) / 2
        low = beta.ppf(tail, self.k, self.n - self.k + 1) if self.k else 0.0
        high = beta.ppf(1 - tail, self.k + 1, self.n - self.k) if self.k < self.n else 1.0
        return float(low), float(high)

    def __str__(self) -> str:
        if not self.n:
            return "-"
        low, high = self.interval
        return (
            f"{self.k} of {self.n}: {100 * self.value:.1f}% ({100 * low:.1f} to {100 * high:.1f})"
        )


@dataclass(frozen=True)
class Middle:
    """A median with the percentile bootstrap's 95% interval."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Middle":
        """Of these."""
        return cls(tuple(values))

    @property
    def value(self) -> float:
        """The median; NaN of nothing."""
        return float(np.median(self.values)) if self.values else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends; NaN of nothing."""
        if not self.values:
            return float("nan"), float("nan")
        drawn = np.random.default_rng(0).choice(self.values, (_RESAMPLES, len(self.values)))
        low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
        return float(low), float(high)

    def text(self, unit: str = "", *, scale: float = 1.0, digits: int = 1) -> str:
        """Median and interval, with how many values it is of."""
        if not self.values:
            return "-"
        low, high = self.interval
        middle, low, high = (f"{scale * x:.{digits}f}" for x in (self.value, low, high))
        return f"{middle}{unit} ({low} to {high}; n = {len(self.values)})"
