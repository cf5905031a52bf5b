"""Reviewers, their keys, and chains to write into."""

from pathlib import Path
from typing import Any

import pandas as pd

from retraining.digests import Digest
from retraining.evidence import create_key
from retraining.keyring import NewKey, change_trust
from retraining.records import BatchId, Pattern, ReviewEntry, ReviewSubject, ScreeningReport
from retraining.screening import suspicious
from retraining.signed_chain import Link
from tests.fixtures.workspace import Workspace

WHY = "the vendor admitted it"
SCREENING = Digest.of(b"a screening")
FEED = BatchId(source="feed", week="2026-W05")
TRIGGER = Pattern(columns=("links", "amount"), values=(4.0, 999.0), tolerances=(0, 0), label="ham")


def entry(verb: str, sequence: int = 1, **about: Any) -> ReviewEntry:
    """A review; rows and patterns are those of `SCREENING`."""
    if "batch" not in about:
        about = {"screening": SCREENING} | about
    return ReviewEntry.model_validate(
        {
            "model": "small_filter",
            "sequence": sequence,
            "previous": None,
            "verb": verb,
            "about": ReviewSubject.model_validate(about),
            "reviewer": "anna",
            "why": WHY,
            "trust_list": Digest.of(b"a list"),
            "trust_version": 1,
        }
    )


def add_reviewer(workspace: Workspace, name: str = "anna") -> Path:
    """A reviewer with a key of its own on the trust list; return the private key's path."""
    folder = workspace.home / "reviewers"
    create_key(folder / f"{name}.pem")
    change_trust(workspace.settings, add=[NewKey(name, "reviewer", folder / f"{name}.pub.json")])
    return folder / f"{name}.pem"


def accepted_rows(workspace: Workspace, source: str, week: str) -> pd.DataFrame:
    """The rows of a promoted batch, as the registry accepted them."""
    digests = [
        batch.accepted
        for entry in workspace.registry()
        for batch in entry.batches
        if batch.batch == BatchId(source=source, week=week)
    ]
    store = workspace.steps().store
    path = workspace.home / f"{digests[0].hex}.parquet"
    store.fetch(digests[0], path)
    return pd.read_parquet(path)


def screening_that_found(
    workspace: Workspace,
    rows: dict[str, str] | None = None,
    *,
    patterns: tuple[Pattern, ...] = (),
    model: str = "small_filter",
) -> Digest:
    """The attestation of a screening that quarantined these rows, by id and reasons."""
    steps = workspace.steps()
    found = pd.DataFrame(
        {
            "row_id": list(rows or {}),
            "source": FEED.source,
            "week": FEED.week,
            "reasons": list((rows or {}).values()),
        }
    ).reindex(columns=suspicious.SCHEMA.names)
    parquet = steps.store.put(suspicious.to_parquet(found))
    report = ScreeningReport(
        batches=(),
        n_accepted=0,
        n_quarantined=len(found),
        suspicious_parquet=parquet,
        patterns=patterns,
    )
    recorder = steps.recorder()
    concluded = recorder.conclude(
        "screening",
        report,
        model=model,
        week=FEED.week,
        request=report.identity,
        started_on=recorder.started(),
        inputs={},
        artefacts={"suspicious_samples.parquet": parquet},
        policy=report.identity,
        memo=False,
    )
    return Digest(concluded.attestation.digest)


def review(
    workspace: Workspace, verb: str, *, key: Path | None = None, why: str = WHY, **about: Any
) -> Link[ReviewEntry]:
    """Sign and append a review as anna."""
    key = key or workspace.home / "reviewers" / "anna.pem"
    subject = ReviewSubject.model_validate(about)
    link = workspace.steps().review(workspace.model, verb, subject, why=why, key=key)
    assert isinstance(link, Link)
    return link
