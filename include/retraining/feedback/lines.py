"""What becomes of each line: exactly one thing, so that none is lost and none counts twice."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from retraining.spec import CategoryFeature, NumberFeature, PipelineSpec, Table

Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]

ITEM, USER, TIME, LABEL = "item", "user", "time", "label"
AGE, VERIFIED = "account_age_days", "verified"
WEEK, FILE, LINE = "week", "file", "number"  # added by whoever reads the files

_MAX_AGE_DAYS = 100_000.0  # 270 years


def feedback_table(spec: PipelineSpec) -> Table:
    """What a line has to be; its label is held against the classes of the pipeline."""
    return Table(
        event_time=TIME,
        texts=(ITEM, USER),
        features=(
            NumberFeature(kind="number", name=AGE, min=0, max=_MAX_AGE_DAYS),
            CategoryFeature(kind="category", name=VERIFIED, categories=("true", "false")),
        ),
        label=spec.label.model_copy(update={"column": LABEL}),
        optional=(AGE, VERIFIED),
    )


@dataclass
class Fates:
    """The fate of every line, written once: what a line met first is what it counts as."""

    n_lines: int
    names: list[str] = field(default_factory=lambda: [""])

    def __post_init__(self) -> None:
        self._codes = np.zeros(self.n_lines, dtype=np.int16)

    @property
    def open(self) -> Mask:
        """Lines whose fate is not decided yet."""
        undecided: Mask = self._codes == 0
        return undecided

    def settle(self, lines: Mask, name: str) -> None:
        """Give those of `lines` that are still open this fate."""
        if name not in self.names:
            self.names.append(name)
        self._codes[lines & (self._codes == 0)] = self.names.index(name)

    def among(self, names: Collection[str]) -> Mask:
        """Which lines have one of these fates."""
        chosen: Mask = np.isin(
            self._codes, [n for n, name in enumerate(self.names) if name in names]
        )
        return chosen

    def counts(self) -> Counter[str]:
        """Lines per fate; open ones under the empty name."""
        numbers = np.bincount(self._codes, minlength=len(self.names))
        return Counter({n: int(c) for n, c in zip(self.names, numbers, strict=True) if c})

    def named(self, lines: Mask) -> list[str]:
        """The fate of each of `lines`."""
        return [self.names[code] for code in self._codes[lines]]


@dataclass(frozen=True)
class Columns:
    """The lines of a window as whole numbers, which a million of are sorted in a second.

    Attributes:
        item, user, label: Positions in `items`, `users` and the classes.
        time: Microseconds of UTC.
        age: Of the account, in days, when it voted; NaN where nobody said.
        unverified: Accounts that are known not to be verified.
    """

    item: Codes
    user: Codes
    label: Codes
    time: Codes
    age: npt.NDArray[np.float64]
    unverified: Mask
    items: "pd.Index[Any]"
    users: "pd.Index[Any]"

    @classmethod
    def of(cls, lines: pd.DataFrame, classes: tuple[str, ...]) -> "Columns":
        """Take the columns of `lines`, whose names are categories or text."""
        item, user = (lines[name].astype("category") for name in (ITEM, USER))
        label = lines[LABEL].astype("category")
        # By name: to pandas, categories in another order are the same type.
        position = pd.Index(classes).get_indexer(label.cat.categories)
        time = lines[TIME].to_numpy(dtype="datetime64[us]").astype(np.int64)
        return cls(
            item=_codes(item),
            user=_codes(user),
            label=position.astype(np.int64)[_codes(label)],
            time=time,
            age=lines[AGE].to_numpy(np.float64),
            unverified=(lines[VERIFIED] == "false").to_numpy(dtype=bool, na_value=False),
            items=item.cat.categories,
            users=user.cat.categories,
        )

    @property
    def pair(self) -> Codes:
        """One number per item and user."""
        pairs: Codes = self.item * max(len(self.users), 1) + self.user
        return pairs


def _codes(column: "pd.Series[Any]") -> Codes:
    codes: Codes = column.cat.codes.to_numpy().astype(np.int64)
    return codes
