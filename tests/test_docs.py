"""What the documents say is run, and where they point something lies."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from retraining.settings import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
DOCUMENTS = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "include" / "docs").rglob("*.md")),
]
COMMAND = ".venv/bin/retraining "


def commands() -> list[str]:
    """Every line of the README's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def transactions(n_rows: int, seed: int) -> pd.DataFrame:
    """A newcomer's own rows: amounts, countries, and fraud that a model can learn."""
    random = np.random.default_rng(seed)
    amount = random.lognormal(3, 1, n_rows).round(2)
    country = random.choice(["DE", "FR", "US"], n_rows)
    night = random.random(n_rows).round(4)
    fraud = (np.log(amount) + 3 * night + (country == "US")) > 5.2
    return pd.DataFrame(
        {
            "transaction_id": [f"{seed}-{number}" for number in range(n_rows)],
            "amount": amount,
            "country": country,
            "night": night,
            "is_fraud": np.where(fraud, "yes", "no"),
        }
    )


@pytest.mark.trainer
def test_the_ten_minutes_of_the_readme_work_on_a_newcomers_files(tmp_path: Path) -> None:
    if not (REPOSITORY / ".venv-trainer").exists():
        pytest.skip("no trainer here: make setup")
    for seed, source in enumerate(("shop", "partner")):
        (tmp_path / "inbox" / source).mkdir(parents=True)
        rows = transactions(600, seed)
        rows.to_parquet(tmp_path / "inbox" / source / "2026-W07.parquet", index=False)
    transactions(1500, 9).to_parquet(tmp_path / "reference.parquet", index=False)
    # Not into the tree that is tested.
    environment = {**os.environ, "RETRAINING_PIPELINES": str(tmp_path / "pipelines")}
    ran = [line for line in commands() if line.startswith(COMMAND)]
    assert len(ran) == 5
    for line in ran:
        command = shlex.split(line.replace(COMMAND, f"{REPOSITORY}/{COMMAND}", 1))
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert "Verified: 1 concluded week" in done.stdout


def test_every_make_target_that_the_readme_names_exists() -> None:
    targets = {line.split()[1] for line in commands() if line.startswith("make ")}
    targets |= set(re.findall(r"`make ([a-z-]+)", README))
    assert {"demo", "test", "check"} <= targets
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name} points to {target}"
