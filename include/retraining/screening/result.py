"""What screening is given and what it hands back."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from retraining.digests import Digest
from retraining.records import BatchId, Refusal, ScreenedBatch, ScreeningReport
from retraining.screening import suspicious
from retraining.screening.stored import RowFile
from retraining.store import Store


@dataclass(frozen=True, kw_only=True)
class BatchRows:
    """One batch after the first parse.

    Attributes:
        batch_digest: Identity of the delivered bytes; None when there are none.
        risk_score: Of the source, from provenance: 0 (no known risk) to 1.
        rows: Without fault, with the columns of the spec; None when refused on arrival.
        faults: Rows with a value fault: row_id, file, line, reasons; None when refused.
        refusal: Why the batch cannot be used as a whole, if an earlier step said so.
    """

    batch: BatchId
    batch_digest: Digest | None
    risk_score: float
    rows: RowFile | None
    faults: pd.DataFrame | None
    refusal: Refusal | None


@dataclass(frozen=True, kw_only=True)
class ScreeningResult:
    """The conclusion, and the rows that it is about.

    Attributes:
        report: Complete but for the digests of the files below.
        accepted: Rows to train on, per batch in use.
        suspicious: Quarantined rows, with the columns of `suspicious.SCHEMA`.
        purged: Ids of rows of the accepted history that carry a found pattern, by their batch.
    """

    report: ScreeningReport
    accepted: dict[BatchId, RowFile]
    suspicious: pd.DataFrame
    purged: dict[BatchId, frozenset[str]]

    def store(self, store: Store, workdir: Path) -> tuple[ScreeningReport, dict[str, Digest]]:
        """Keep all files; return the report that names them, and name to digest of each."""
        artefacts: dict[str, Digest] = {}
        batches: list[ScreenedBatch] = []
        for screened in self.report.batches:
            rows = self.accepted.get(screened.batch)
            if rows is not None:
                source, week = screened.batch.source, screened.batch.week
                path = workdir / f"accepted-{source}-{week}.parquet"
                rows.write(path)
                artefacts[f"accepted/{source}/{week}"] = digest = store.put_file(path)
                screened = screened.model_copy(update={"accepted": digest})
            batches.append(screened)
        parquet = store.put(suspicious.to_parquet(self.suspicious))
        csv = store.put(suspicious.to_csv(self.suspicious))
        artefacts["suspicious_samples.parquet"] = parquet
        artefacts["suspicious_samples.csv"] = csv
        summed = store.put(suspicious.to_csv(suspicious.summary(self.suspicious)))
        artefacts["suspicious_summary.csv"] = summed
        report = self.report.model_copy(
            update={
                "batches": tuple(batches),
                "suspicious_parquet": parquet,
                "suspicious_csv": csv,
                "suspicious_summary": summed,
            }
        )
        return report, artefacts
