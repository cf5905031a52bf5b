"""Writes the drafted pipeline file: what is known as it is, each guess marked `# review:`."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from retraining.digests import Digest
from retraining.init_spec.columns import Columns
from retraining.init_spec.deliveries import FoundSource
from retraining.spec import CsvFormat, Format

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./{}-]*")
_NOT_TEXT = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"}  # to YAML
_WINDOW_WEEKS = 8
_ROOM = 10  # limits allow ten times what was seen
_COMMENT_COLUMN = 40


@dataclass(frozen=True)
class PinnedFile:
    """A reference set or holdout that was put in place."""

    uri: str
    digest: Digest
    n_rows: int


def render(
    name: str,
    columns: Columns,
    sources: Sequence[FoundSource],
    *,
    pinned_format: Format,
    reference: PinnedFile,
    holdout: PinnedFile,
) -> str:
    """Return the text of the pipeline file."""
    rows_per_week = sum(source.max_rows for source in sources)
    parts = [
        _head(name, columns),
        "features:",
        *(_commented(f"  - {flow(guess.fields)}", guess.review) for guess in columns.features),
        "",
        "sources:",
        *(line for source in sources for line in _source(source)),
        "",
        *_pinned(
            "reference", reference, pinned_format, "scales the features, calibrates screening"
        ),
        *_pinned("holdout", holdout, pinned_format, "judges every model; never trained on"),
        "",
        *_policies(columns, rows_per_week, holdout.n_rows),
    ]
    return "\n".join(parts) + "\n"


def _head(name: str, columns: Columns) -> str:
    label = {"column": columns.label, "classes": list(columns.classes)}
    review = ""
    if columns.positive is not None:
        label["positive"] = columns.positive
        review = "positive: the class that precision and recall are about"
    lines = [
        "# Drafted by `retraining init`. Look at every line marked review, then remove the mark.",
        f"model: {name}",
        _commented(f"description: {scalar(f'What {name} predicts, in one sentence.')}", "write it"),
        _commented("owner: you@example.org", "who answers for this file"),
        _commented("schedule: null", 'cron, such as "0 6 * * 1"; null: by hand only'),
        "schema_version: 1",
        "",
        _commented(f"label: {flow(label)}", review),
        _commented(f"row_id: {scalar(columns.row_id)}", "differs in every row, and is no secret"),
    ]
    if columns.event_time:
        lines.append(_commented(f"event_time: {scalar(columns.event_time)}", "when it happened"))
    lines += [
        "",
        "# review: bounds are what the reference set shows, with a margin. Values outside",
    ]
    lines.append("# quarantine their row, so set them to what is possible, not to what is usual.")
    return "\n".join(lines)


def _source(source: FoundSource) -> list[str]:
    lines = [f"  - name: {source.name}", f"    uri: {scalar(source.uri)}"]
    if isinstance(source.format, CsvFormat):
        dialect = source.format.csv.model_dump(mode="json")
        lines.append(
            _commented(f"    format: {flow({'csv': dialect})}", "as its newest file shows")
        )
    else:
        lines.append("    format: parquet")
    return [
        *lines,
        _commented("    trust: known", "trusted, known or untrusted"),
        _commented(f"    key_id: {source.name}", "or `signature: none`, if it cannot sign"),
        _commented("    on_refusal: leave_out", "or stop: a refused batch stops the week"),
        _commented(f"    max_bytes: {_ROOM * source.max_bytes}", "ten times its largest week"),
        f"    max_rows: {_ROOM * source.max_rows}",
        f"    min_rows: {max(1, source.min_rows // _ROOM)}",
        _commented("    max_share_of_batch: 1.0", "lower it for what you trust less"),
    ]


def _pinned(role: str, file: PinnedFile, file_format: Format, use: str) -> list[str]:
    written = "parquet"
    if isinstance(file_format, CsvFormat):
        written = flow({"csv": file_format.csv.model_dump(mode="json")})
    return [
        f"{f'{role}:':<{_COMMENT_COLUMN}}# {file.n_rows} rows: {use}",
        f"  uri: {scalar(file.uri)}",
        f"  format: {written}",
        f"  digest: {scalar(file.digest)}",
    ]


def _policies(columns: Columns, rows_per_week: int, n_holdout: int) -> list[str]:
    window_rows = max(10, rows_per_week * _WINDOW_WEEKS)
    digits = math.ceil(math.log10(window_rows)) + 1
    batch = min(256, max(8, rows_per_week // 8))
    chance = 1 / len(columns.classes)
    floor = round(chance + 0.1 * (1 - chance), 3)
    # Two models that are right equally often differ by up to about this on so few rows.
    harm = min(0.5, max(0.05, round(2.5 * math.sqrt(0.2 / n_holdout), 2)))
    return [
        "screening:",
        f"  min_rows: {max(1, min(100, rows_per_week // 4))}",
        _commented("  max_quarantined_share: 0.10", "above it the whole week is refused"),
        _commented("  max_quarantined_share_per_source: 0.10", "above it a source is refused"),
        "",
        "training:",
        _commented("  architecture: {kind: linear}", "or mlp, once rows are many"),
        _commented("  epsilon_per_run: 4.0", "privacy loss of one run, for one row"),
        _commented("  epsilon_per_block: 32.0", "of all runs that a week's rows are in"),
        f"{f'  delta: 1.0e-{digits}':<{_COMMENT_COLUMN}}# below 1 / rows of the window",
        f"  window_weeks: {_WINDOW_WEEKS}",
        f"  expected_batch_rows: {batch}",
        "  epochs: 20",
        "  learning_rate: 0.02",
        "",
        "gate:",
        "  compared: [balanced_accuracy]",
        "  margin: 0.02",
        _commented(f"  harm: {harm:g}", f"{n_holdout} holdout rows cannot exclude less"),
        "  limits:",
        _commented(
            f"    balanced_accuracy: {{min: {floor:g}}}",
            f"the least you accept of a first champion; {chance:.2g} is chance",
        ),
        f"  min_holdout_rows: {min(200, n_holdout)}",
    ]


def scalar(value: Any) -> str:
    """A YAML scalar; anything that is not plainly a word is quoted as JSON, which YAML reads."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def flow(value: Any) -> str:
    """A YAML flow mapping or list on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    # A brace inside a flow mapping would open another one.
    return json.dumps(value, ensure_ascii=False) if "{" in str(value) else scalar(value)


def _commented(line: str, review: str) -> str:
    return f"{line:<{_COMMENT_COLUMN - 2}}  # review: {review}" if review else line
