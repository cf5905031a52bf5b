"""A small workspace whose serving model is asked things, and whose users talk back."""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from retraining.keyring import NewKey, change_trust, create_provider_key
from retraining.sign_batch import manifest_path
from tests.fixtures.traffic import TRAFFIC, make_day, write_labels, write_predictions
from tests.fixtures.workspace import WEEKS, Workspace, make_workspace

FIRST, WEEK, NEXT, LAST = WEEKS  # the first week makes the champion
SOURCE = "user_feedback"
USERS = ("ann", "bob", "cid", "dan")
N_AUDITED = 10

Line = dict[str, Any]


def make_feedback_workspace(home: Path, **policy: Any) -> Workspace:
    """A workspace with a champion, and with a pipeline file that asks for feedback."""
    workspace = make_workspace(home)
    ask_for_feedback(workspace, **policy)
    workspace.deliver(FIRST)
    outcome = workspace.run_week(FIRST, left_out=[SOURCE])
    assert outcome.entry is not None, outcome.gate.report
    return workspace


def ask_for_feedback(workspace: Workspace, **policy: Any) -> None:
    """Add source, key, traffic and feedback to a workspace."""
    sources = yaml.safe_load(workspace.spec_file.read_text())["sources"]
    own = {
        "name": SOURCE,
        "uri": f"inbox/{workspace.model}/{SOURCE}/{{week}}",
        "trust": "untrusted",
        "key_id": SOURCE,
    }
    workspace.edit_spec(
        {
            "sources": [*sources, own],
            "traffic": TRAFFIC,
            "feedback": {"uri": "said/{week}", "source": SOURCE, "min_items": 5} | policy,
        }
    )
    public = create_provider_key(workspace.settings.keys / "providers", SOURCE)
    change_trust(workspace.settings, add=[NewKey(SOURCE, "provider", public)])


def days_of(week: str) -> list[str]:
    monday = date.fromisocalendar(int(week[:4]), int(week[6:]), 1)
    return [(monday + timedelta(days=number)).isoformat() for number in range(7)]


def ask_model(workspace: Workspace, week: str, *, n_rows: int = 60) -> pd.DataFrame:
    """A day of traffic in the middle of `week`; the first rows are audited the day after."""
    days = days_of(week)
    rows = make_day(days[2], n_rows)
    write_predictions(workspace, days[2], rows)
    write_labels(workspace, days[3], rows.head(N_AUDITED))
    return rows


def votes(
    rows: pd.DataFrame,
    week: str,
    *,
    users: Sequence[str] = USERS,
    says: Callable[[str], str] = str,
    hour: int = 12,
) -> list[Line]:
    """One line per user and row, on the day after; `says` turns the truth into what is said."""
    at = f"{days_of(week)[3]}T{hour:02d}:00:00Z"
    return [
        {
            "item": item,
            "user": user,
            "label": says(label),
            "time": at,
            "account_age_days": 300,
            "verified": True,
        }
        for user in users
        for item, label in zip(rows["row_id"], rows["label"], strict=True)
    ]


def write_lines(
    workspace: Workspace,
    week: str,
    lines: Iterable[Line | str],
    name: str = "part.jsonl",
    *,
    folder: str = "said",
) -> Path:
    """Lay down a file of feedback; a text is a line as it is."""
    path = workspace.home / folder / week / name
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n")
    return path


def say_a_week(workspace: Workspace, week: str, **options: Any) -> pd.DataFrame:
    """Traffic of a week, and four honest users who vote on all of it."""
    rows = ask_model(workspace, week)
    write_lines(workspace, week, votes(rows, week, **options))
    return rows


def delivered(workspace: Workspace, week: str) -> pd.DataFrame:
    """What lies in the source's inbox, which has to be one signed file."""
    folder = workspace.folder(SOURCE, week)
    assert manifest_path(folder).is_file()
    (path,) = (p for p in folder.iterdir() if p != manifest_path(folder))
    return pd.read_parquet(path)
