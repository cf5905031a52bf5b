"""Every error that we raise on purpose.

Messages say what was found, what was expected and what to do next. They carry counts, column
names and digests, never row values: logs are outside the privacy budget.
"""

from typing import ClassVar


class RetrainingError(Exception):
    """Base of all our errors. `retryable` says whether trying the same again can help."""

    retryable: ClassVar[bool] = False


class ConfigError(RetrainingError):
    """The installation is set up wrongly: a path, a key, a server or a setting."""


class SpecError(ConfigError):
    """A pipeline file says something that it may not say."""


class StoreUnreachableError(RetrainingError):
    """The store did not answer, or answered that it is busy."""

    retryable = True


class ArtifactMissingError(RetrainingError):
    """The store has nothing under this digest or name."""


class ArtifactTamperedError(RetrainingError):
    """Bytes in the store no longer have the digest under which they are kept."""


class NameTakenError(RetrainingError):
    """A record of this name exists: somebody else was first."""


class EvidenceError(RetrainingError):
    """A record is not signed as it has to be, or does not say what it has to say."""


class SignatureError(EvidenceError):
    """No valid signature by a key that may sign this."""


class ChainBrokenError(EvidenceError):
    """Records that should lead from the data to the decision do not fit together."""


class RegistryMovedError(RetrainingError):
    """The registry gained an entry while this run was under way, so its decision is stale."""


class RollbackRefusedError(RetrainingError):
    """The version that was asked for may not serve again, or serves already."""


class ReviewRefusedError(RetrainingError):
    """A review is about something that its screening did not name, or would strike other rows."""


class ApprovalRefusedError(RetrainingError):
    """This may not be approved, or not enough people have approved it."""


class TrainerError(RetrainingError):
    """The trainer did not finish, or its files are not what was asked for."""


class ChildError(RetrainingError):
    """A child process died or hit one of its limits: the machine's fault, not the data's."""

    retryable = True


class BatchRefusedError(RetrainingError):
    """A batch cannot be used as a whole. A step turns it into a refusal on record.

    Attributes:
        code: Short, stable name of the reason, such as `too_large`.
        sentence: What was found, what was expected, what to do next.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class NothingToDo(Exception):
    """There is nothing to do for this step, and that is fine: its task is skipped."""
