"""A season: months of weekly batches cut from one data set, and rows kept to measure with."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from retraining.features import Preprocessing, fit_preprocessing
from retraining.spec import PipelineSpec, parse_spec
from tests.benchmarks.weeks.tables import LABEL, DataSet

ROW_ID, USER = "row_id", "user"
GATEWAY, PARTNER, VENDOR, FEEDBACK = SOURCES = ("gateway", "partner", "vendor", "feedback")

_SHARES = {GATEWAY: 0.35, PARTNER: 0.30, VENDOR: 0.20, FEEDBACK: 0.15}
_USERS = 12
_OF_EACH_CLASS = 6  # in the reference set, at least
_MODEL = "bench"

Week = dict[str, pd.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Rows of each part of a season; fewer where the data set has fewer.

    Attributes:
        stock: Rows that nobody delivers: what an attacker has of his own.
    """

    week: int = 500
    reference: int = 300
    holdout: int = 600
    probes: int = 500
    stock: int = 250


@dataclass(frozen=True)
class Season:
    """What is delivered week by week, and what nobody trains on.

    Attributes:
        weeks: By source, with `row_id`, and `user` in the feedback.
        probes: Rows that attack success and accuracy are measured on; the pipeline never sees
            them, unlike the holdout.
    """

    data: DataSet
    weeks: tuple[Week, ...]
    reference: pd.DataFrame
    holdout: pd.DataFrame
    probes: pd.DataFrame
    stock: pd.DataFrame

    def names(self) -> list[str]:
        """The ISO weeks, oldest first."""
        return [week_name(number) for number in range(len(self.weeks))]

    def delivered(self, until: int) -> pd.DataFrame:
        """All rows of the first `until` weeks."""
        frames = [rows for week in self.weeks[:until] for rows in week.values()]
        return pd.concat(frames, ignore_index=True)

    def with_weeks(self, weeks: list[Week]) -> "Season":
        """The same with other deliveries."""
        return replace(self, weeks=tuple(weeks))

    @cached_property
    def spec(self) -> PipelineSpec:
        """The pipeline file, with digests of nothing: to encode rows and to train peers."""
        nothing = {"uri": "none", "digest": "sha256:" + "0" * 64}
        return parse_spec(
            pipeline(self) | {"reference": nothing, "holdout": nothing}, origin=self.data.name
        )

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """As the system fits it: on the reference set."""
        return fit_preprocessing(self.spec, self.reference)


def week_name(number: int) -> str:
    """The ISO week of a season's week, from 0."""
    return f"2026-W{number + 5:02d}"


def cut(data: DataSet, n_weeks: int, random: np.random.Generator, sizes: Sizes) -> Season:
    """Divide a data set at random: no row stands in two places.

    Raises:
        ValueError: It has too few rows for so many weeks.
    """
    kept = sizes.reference + sizes.holdout + sizes.probes + sizes.stock
    # A small set gives up at most half of its rows to what is no week.
    shrink = min(1.0, 0.5 * len(data.rows) / kept)
    parts = [int(shrink * n) for n in (sizes.reference, sizes.holdout, sizes.probes, sizes.stock)]
    a_week = min(sizes.week, (len(data.rows) - sum(parts)) // n_weeks)
    if a_week < 60 or parts[0] < 60:
        raise ValueError(
            f"{data.name} has {len(data.rows)} rows: too few for {n_weeks} weeks of at least 60."
        )
    rows = data.rows.iloc[random.permutation(len(data.rows))].reset_index(drop=True)
    # The reference set comes first, and whoever vets one sees to it that no class is missing.
    vetted = rows.groupby(LABEL).head(_OF_EACH_CLASS).index
    rows = pd.concat([rows.loc[vetted], rows.drop(index=vetted)], ignore_index=True)
    edges = np.cumsum([*parts, *[a_week] * n_weeks])
    reference, holdout, probes, stock, *weeks = (
        rows.iloc[end - size : end].reset_index(drop=True)
        for end, size in zip(edges, [*parts, *[a_week] * n_weeks], strict=True)
    )
    return Season(
        data,
        tuple(_by_source(week, number, random) for number, week in enumerate(weeks)),
        _named(reference, "reference"),
        _named(holdout, "holdout"),
        _named(probes, "probe"),
        _named(stock, "stock"),
    )


def _by_source(rows: pd.DataFrame, number: int, random: np.random.Generator) -> Week:
    counts = [round(_SHARES[source] * len(rows)) for source in SOURCES[:-1]]
    parts = np.split(np.arange(len(rows)), np.cumsum(counts))
    week = {
        source: _named(rows.iloc[part].reset_index(drop=True), f"{source}-{number:02d}")
        for source, part in zip(SOURCES, parts, strict=True)
    }
    users = random.integers(_USERS, size=len(week[FEEDBACK]))
    week[FEEDBACK][USER] = [f"user-{user:02d}" for user in users]
    return week


def _named(rows: pd.DataFrame, prefix: str) -> pd.DataFrame:
    names = [f"{prefix}-{number:04d}" for number in range(len(rows))]
    return rows.assign(**{ROW_ID: names})


def pipeline(season: Season) -> dict[str, object]:
    """The pipeline file without its reference set and holdout."""
    data, small = season.data, len(season.delivered(1)) < 300
    largest = season.holdout[LABEL].value_counts(normalize=True).iloc[0]
    architecture: dict[str, object] = {"kind": "mlp", "hidden_units": [32], "activation": "tanh"}
    if data.is_image or len(data.classes) > 2:
        architecture = {"kind": "linear"}  # private noise would drown more weights
    label: dict[str, object] = {"column": LABEL, "classes": list(data.classes)}
    if len(data.classes) == 2:
        label["positive"] = data.classes[1]
    return {
        "model": _MODEL,
        "description": f"Months of {data.name}, simulated.",
        "owner": "bench@example.org",
        "label": label,
        "row_id": ROW_ID,
        "user": USER,
        "features": list(data.features),
        "sources": [_source(source) for source in SOURCES],
        "screening": {"min_rows": 50},
        "training": {
            "architecture": architecture,
            "epsilon_per_run": 8,
            "epsilon_per_block": 500,  # refused weeks train again; the budget is not measured here
            "delta": 1e-4,
            "window_weeks": 12,
            "expected_batch_rows": 50 if small else 128,
            "epochs": 15,
            "learning_rate": 0.05 if architecture["kind"] == "linear" else 0.02,
        },
        "gate": {
            # Hundreds of holdout rows make intervals of several points.
            "harm": 0.08,
            "min_holdout_rows": min(200, len(season.holdout)),
            "limits": {"accuracy": {"min": round(0.9 * float(largest), 3)}},
            "purge": "promote",  # whoever is on call takes what the gate offers
        },
    }


def _source(name: str) -> dict[str, object]:
    trust = {GATEWAY: "trusted", PARTNER: "known"}.get(name, "untrusted")
    return {
        "name": name,
        "uri": f"inbox/{name}/{{week}}",
        "trust": trust,
        "key_id": name,
        "on_refusal": "stop" if name == GATEWAY else "leave_out",
    }
