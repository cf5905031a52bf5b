"""Values that rows share: what every finder of patterns finds, in the unit of matrices."""

from dataclasses import dataclass

import numpy as np

from retraining.records import Pattern
from retraining.screening.rows import Integers, Mask, Matrix, Reals, RowReader
from retraining.spec import PipelineSpec

SAME_VALUE = 0.05  # standard deviations of trusted rows
_ROUNDING = 1e-6  # of matrices: a value is its own neighbour at a tolerance of nothing


@dataclass(frozen=True, kw_only=True)
class SharedValues:
    """Some columns, the value of each, and the class of the rows that carry them.

    Attributes:
        columns: Their numbers [c].
        values, tolerances: Of these columns [c].
        label: By its number.
    """

    columns: Integers
    values: Reals
    tolerances: Reals
    label: int

    def carried_by(self, features: Matrix) -> Mask:
        """Rows that have these values [n], whatever their label."""
        apart = np.abs(features[:, self.columns] - self.values)
        return np.asarray((apart <= self.tolerances + _ROUNDING).all(axis=1))

    def delivered(self, reader: RowReader, spec: PipelineSpec) -> Pattern:
        """The same as sources deliver it."""
        units, zeros = reader.units[self.columns], reader.zeros[self.columns]
        return Pattern(
            columns=tuple(reader.columns.names[column] for column in self.columns),
            values=tuple(round(float(v), 9) for v in zeros + units * self.values),
            tolerances=tuple(round(float(t), 9) for t in units * self.tolerances),
            label=spec.label.classes[self.label],
        )
