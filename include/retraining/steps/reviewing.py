"""A reviewer's decision about quarantined rows: checked, signed, appended.

It changes nothing by itself: the next run pins the newest review and takes all of them along.
"""

from pathlib import Path

from retraining.chains import review_chain
from retraining.errors import NameTakenError, RegistryMovedError, ReviewRefusedError
from retraining.evidence import trusted_signer
from retraining.records import ReviewEntry, ReviewSubject, ReviewVerb
from retraining.reviews import refuse_unfounded
from retraining.signed_chain import Link
from retraining.spec import load_spec
from retraining.steps.tracing import require_seen
from retraining.steps.workbench import Workbench

_SHORTEST_REASON = 3  # characters, as in the record


def review(
    bench: Workbench,
    model: str,
    verb: ReviewVerb,
    about: ReviewSubject,
    *,
    why: str,
    key: Path | None = None,
) -> Link[ReviewEntry]:
    """Sign a decision with a reviewer's key and append it to the model's reviews.

    Args:
        key: The reviewer's private key; the installation's own when not given.

    Raises:
        ReviewRefusedError: No reason is given, the screening did not name what the review is
            about, no concluded run read a row of the user that is confirmed, or it would strike
            other rows.
        ConfigError: The key is not that of a reviewer.
        RegistryMovedError: Somebody else reviewed at the same time.
    """
    if len(why.strip()) < _SHORTEST_REASON:
        raise ReviewRefusedError("Say why: the reason goes on record.")
    trust = bench.trust.latest
    signer = trusted_signer(key, "reviewer", trust) if key else bench.keys.signer("reviewer", trust)
    reviews = bench.reviews(model)
    require_known(bench, model, about)
    refuse_unfounded(
        bench.store,
        bench.trust,
        model=model,
        verb=verb,
        about=about,
        before=reviews.reviewed,
        trust_version=trust.version,
    )
    if verb == "confirm" and about.user is not None:
        require_seen(bench, model, about.user)
    entry = ReviewEntry(
        model=model,
        sequence=len(reviews.links) + 1,
        previous=reviews.head,
        verb=verb,
        about=about,
        reviewer=signer.public_key.keyid,
        why=why.strip(),
        trust_list=trust.digest,
        trust_version=trust.version,
    )
    try:
        link = review_chain(bench.store, bench.trust, model).append(entry, signer)
    except NameTakenError as error:
        raise RegistryMovedError(
            f"Somebody else reviewed rows of {model} at the same time. Look at what was decided"
            f" (`retraining review list {model}`), then start again."
        ) from error
    bench.log(f"review {model}: {verb} by {entry.reviewer} [{link.digest}]")
    return link


def require_known(bench: Workbench, model: str, about: ReviewSubject) -> None:
    """Raise when a batch or a user can be nobody's, so that a slip of the pen confirms nothing.

    Raises:
        SpecError: Neither the pipeline file nor a concluded run knows the source.
        ReviewRefusedError: The pipeline file does not say who stands behind a row.
    """
    of = about.batch or about.user
    if of is None:
        return
    known = bool(bench.registry(model).history_of(of.source))
    if known and about.user is None:
        return
    spec = load_spec(bench.settings.pipelines / f"{model}.yaml")
    if not known:
        spec.source(of.source)
    if about.user is not None and spec.user is None:
        raise ReviewRefusedError(
            f"The pipeline file of {model} names no column `user`, so nobody knows whose a row is."
            " Give the rows, a pattern or the batch."
        )
