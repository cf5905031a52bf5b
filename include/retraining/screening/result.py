"""What screening is given and what it hands back."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from retraining.digests import Digest
from retraining.parsing import row_schema
from retraining.records import BatchId, Refusal, ScreenedBatch, ScreeningReport
from retraining.screening import suspicious
from retraining.spec import PipelineSpec
from retraining.store import Store


@dataclass(frozen=True, kw_only=True)
class BatchRows:
    """One batch after the first parse.

    Attributes:
        batch_digest: Identity of the delivered bytes; None when there are none.
        risk_score: Of the source, from provenance: 0 (no known risk) to 1.
        rows: Rows without fault, with the columns of the spec; None when refused on arrival.
        faults: Rows with a value fault: row_id, file, line, reasons; None when refused.
        refusal: Why the batch cannot be used as a whole, if an earlier step said so.
    """

    batch: BatchId
    batch_digest: Digest | None
    risk_score: float
    rows: pd.DataFrame | None
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
    accepted: dict[BatchId, pd.DataFrame]
    suspicious: pd.DataFrame
    purged: dict[BatchId, frozenset[str]]
    spec: PipelineSpec

    def store(self, store: Store, workdir: Path) -> tuple[ScreeningReport, dict[str, Digest]]:
        """Keep all files; return the report that names them, and name to digest of each."""
        artefacts: dict[str, Digest] = {}
        batches: list[ScreenedBatch] = []
        for screened in self.report.batches:
            frame = self.accepted.get(screened.batch)
            if frame is not None:
                source, week = screened.batch.source, screened.batch.week
                path = workdir / f"accepted-{source}-{week}.parquet"
                table = pa.Table.from_pandas(
                    frame, schema=row_schema(self.spec.table), preserve_index=False
                )
                pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")
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
