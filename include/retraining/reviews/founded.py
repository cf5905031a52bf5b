"""Refuses a review of something that no screening named: before it is signed, and in an audit."""

import io
from collections.abc import Mapping

import pyarrow.parquet as pq

from retraining.digests import Digest
from retraining.errors import EvidenceError, ReviewRefusedError
from retraining.recording import open_result
from retraining.records import ReviewSubject, ReviewVerb, ScreeningReport
from retraining.reviews.reviewed import Reviewed
from retraining.store import Store
from retraining.trust_history import TrustHistory

# Reasons that screening gives to ids that are not a row's own to use.
DUPLICATE = "duplicate_row_id"
NEVER_RELEASED = frozenset({DUPLICATE, "in_holdout"})


def refuse_unfounded(
    store: Store,
    trust: TrustHistory,
    *,
    model: str,
    verb: ReviewVerb,
    about: ReviewSubject,
    before: Reviewed,
    trust_version: int,
) -> None:
    """Refuse a review of something that its screening did not name, or that would strike others.

    Args:
        before: What the reviews before it come to.
        trust_version: Newest trust list under which the screening may have been signed.

    Raises:
        ReviewRefusedError: The message says why, and what to do instead.
        EvidenceError, ArtifactMissingError: The named record is no screening, or is gone.
    """
    if verb == "release" and about.pattern is not None and about.pattern not in before.patterns:
        raise ReviewRefusedError(
            "This pattern was never confirmed, so there is nothing to release. Release the rows"
            " that carry it, by their ids."
        )
    if verb == "release" and about.user is not None and about.user not in before.users:
        raise ReviewRefusedError(
            "This user was never confirmed, so there is nothing to release. Release the"
            " quarantined rows, by their ids."
        )
    if about.screening is None:
        return
    report = named_screening(store, trust, model, about.screening, trust_version=trust_version)
    if about.pattern is not None and about.pattern not in report.patterns:
        raise ReviewRefusedError(
            f"The screening {about.screening} found {len(report.patterns)} patterns, and not this"
            " one. Give the number of one of its own."
        )
    if about.row_ids:
        _refuse_other_rows(verb, about, suspicious_rows(store, report))


def named_screening(
    store: Store, trust: TrustHistory, model: str, digest: Digest, *, trust_version: int
) -> ScreeningReport:
    """A screening by its attestation, under whichever trust list it was made.

    Raises:
        ReviewRefusedError: It is about another model.
        EvidenceError: It is no screening.
    """
    known = sorted(trust.lists.values(), key=lambda one: -one.version)
    problem: EvidenceError | None = None
    for candidate in (one for one in known if one.version <= trust_version):
        try:
            found = open_result(store, candidate, "screening", digest).expect(ScreeningReport)
        except EvidenceError as error:
            problem = problem or error
            continue
        if found.attestation.model != model:
            raise ReviewRefusedError(
                f"The screening {digest} is about {found.attestation.model}, not about {model}."
            )
        return found.report
    raise problem or EvidenceError(f"{digest} is older than every trust list.")


def suspicious_rows(store: Store, report: ScreeningReport) -> dict[str, set[str]]:
    """Reasons of each row of a screening's `suspicious_samples.parquet`, by its id."""
    if report.suspicious_parquet is None:
        return {}
    raw = io.BytesIO(store.get(report.suspicious_parquet))
    table = pq.read_table(raw, columns=["row_id", "reasons"])
    found: dict[str, set[str]] = {}
    for name, reasons in zip(
        table["row_id"].to_pylist(), table["reasons"].to_pylist(), strict=True
    ):
        if name is not None:
            found.setdefault(name, set()).update(reasons.split("; "))
    return found


def _refuse_other_rows(
    verb: ReviewVerb, about: ReviewSubject, suspicious: Mapping[str, set[str]]
) -> None:
    of = f"of {len(about.row_ids)} rows"
    if absent := sum(name not in suspicious for name in about.row_ids):
        raise ReviewRefusedError(
            f"{absent} {of} do not stand in suspicious_samples.parquet of the screening"
            f" {about.screening}. Give ids of its quarantined rows."
        )
    reasons = [suspicious[name] for name in about.row_ids]
    copies = sum(DUPLICATE in found for found in reasons)
    if verb == "confirm" and copies:
        raise ReviewRefusedError(
            f"{copies} {of} are quarantined for an id that another row had first: to confirm that"
            " id would strike the other row as well. Confirm the batch or a pattern."
        )
    fixed = sum(found <= NEVER_RELEASED for found in reasons)
    if verb == "release" and fixed:
        raise ReviewRefusedError(
            f"{fixed} {of} are quarantined for their id alone"
            f" ({', '.join(sorted(NEVER_RELEASED))}), which no review can change. Leave them out of"
            " the list."
        )
