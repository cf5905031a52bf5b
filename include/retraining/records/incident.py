"""What somebody did about poison that was found late: one record that ties it all together."""

from typing import Self

from pydantic import Field, model_validator

from retraining.digests import Digest
from retraining.records.base import Record
from retraining.records.reviews import ReviewSubject


class IncidentEntry(Record):
    """One signed incident, in the append-only chain of a model's incidents.

    Attributes:
        about: What turned out to be poison.
        why: Why it is held to be; it stands in the reviews and in the request, too.
        registry_head: Newest registry entry when this was found; None in an empty registry.
        serving: The version that served then; 0 when none did. It is taken back when it learned.
        learned: Versions that were trained on any of it and were not convicted yet.
        reviews: The reviews that confirm it, one for each of `about`, in that order.
        restore_to: The newest version below `serving` that did not learn from it, if `serving`
            did; 0 when there is none, and a rollback to it withdraws the model.
        convict: Versions that the rollback convicts; empty when it convicts none.
        rollback: The request for it; None when it needs none, or when nobody could sign one.
        reviewer: Key id of whoever signed.
    """

    model: str
    sequence: int = Field(ge=1)
    previous: Digest | None
    about: tuple[ReviewSubject, ...] = Field(min_length=1)
    why: str = Field(min_length=3)
    registry_head: Digest | None
    serving: int = Field(ge=0)
    learned: tuple[int, ...]
    reviews: tuple[Digest, ...]
    restore_to: int = Field(ge=0)
    convict: tuple[int, ...]
    rollback: Digest | None
    reviewer: str
    trust_list: Digest
    trust_version: int

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.reviews) != len(self.about):
            raise ValueError("every part of an incident is confirmed by one review")
        if self.rollback is not None and self.serving not in self.learned:
            raise ValueError("only a serving version that learned from it is taken back")
        if not set(self.convict) <= set(self.learned):
            raise ValueError("only versions that learned from it are convicted")
        return self
