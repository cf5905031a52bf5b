"""One check switched off."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One check switched off.

    Attributes:
        check: What is missing then.
        file: Below include/retraining.
        old: Stands there exactly once.
        new: What stands there instead.
        test: File of the tests that have to go red.
        only: pytest's -k, to run few of them.
        too: Further checks (file, old, new) that see the same: two lines of defence go together.
    """

    check: str
    file: str
    old: str
    new: str
    test: str
    only: str
    too: tuple[tuple[str, str, str], ...] = ()

    @property
    def edits(self) -> tuple[tuple[str, str, str], ...]:
        """File, old and new text of each change."""
        return ((self.file, self.old, self.new), *self.too)
