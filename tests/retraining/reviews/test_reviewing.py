"""A review: checked, signed by a reviewer and by nobody else, and appended for good."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from retraining.audit import audit_reviews
from retraining.chains import review_chain
from retraining.cli import app
from retraining.digests import Digest
from retraining.errors import (
    ChainBrokenError,
    ConfigError,
    EvidenceError,
    RegistryMovedError,
    RetrainingError,
    ReviewRefusedError,
    SpecError,
)
from retraining.evidence.keys import signer_from_file
from retraining.records import BatchId, ReviewEntry
from retraining.reviews import Reviews
from retraining.store import DirectoryStore
from tests.fixtures.workspace import MODEL, WEEKS, Workspace
from tests.retraining.reviews.cases import (
    TRIGGER,
    WHY,
    add_reviewer,
    review,
    screening_that_found,
)

pytestmark = pytest.mark.slow  # on a workspace with whole weeks

FIRST = WEEKS[0]
BATCH = BatchId(source="feed", week=FIRST)
HELD = {"a": "gap", "b": "gap; region", "copy": "duplicate_row_id", "both": "duplicate_row_id; gap"}


def reviews_of(workspace: Workspace) -> Reviews:
    reviews = workspace.steps().reviews(workspace.model)
    assert isinstance(reviews, Reviews)
    return reviews


def audited(workspace: Workspace) -> int:
    steps = workspace.steps()
    return audit_reviews(steps.store, steps.trust, models=[workspace.model])


def test_a_review_says_who_decided_what_and_why(workspace: Workspace) -> None:
    screening = screening_that_found(workspace, HELD)

    link = review(workspace, "release", screening=screening, row_ids=("a", "b"))

    entry = link.record
    assert (entry.verb, entry.reviewer, entry.why) == ("release", "anna", WHY)
    assert (link.key_id, entry.sequence, entry.previous) == ("anna", 1, None)
    assert (entry.about.screening, entry.about.row_ids) == (screening, ("a", "b"))
    second = review(workspace, "confirm", batch=BATCH)
    assert (second.record.sequence, second.record.previous) == (2, link.digest)
    reviewed = reviews_of(workspace).reviewed
    assert (reviewed.released, reviewed.batches) == (frozenset({"a", "b"}), frozenset({BATCH}))
    assert audited(workspace) == 2


def refuse(
    workspace: Workspace, verb: str, said: str, error: type[RetrainingError], **about: Any
) -> None:
    """It is refused in one clear line, and nothing is written."""
    before = reviews_of(workspace)
    with pytest.raises(error, match=said) as refused:
        review(workspace, verb, **about)
    assert not refused.value.retryable and "\n" not in str(refused.value)
    assert reviews_of(workspace) == before


@pytest.mark.parametrize("verb", ["release", "confirm"])
def test_rows_that_the_screening_did_not_name_are_refused(workspace: Workspace, verb: str) -> None:
    screening = screening_that_found(workspace, HELD)
    said = "2 of 3 rows do not stand in suspicious_samples.parquet"
    about = {"screening": screening, "row_ids": ("a", "y", "z")}
    refuse(workspace, verb, said, ReviewRefusedError, **about)


def test_a_copied_id_is_not_confirmed_for_it_would_strike_the_row_that_had_it_first(
    workspace: Workspace,
) -> None:
    screening = screening_that_found(workspace, HELD)
    said = "2 of 3 rows are quarantined for an id that another row had first"
    about = {"screening": screening, "row_ids": ("a", "both", "copy")}
    refuse(workspace, "confirm", said, ReviewRefusedError, **about)


def test_what_is_no_matter_of_scores_is_not_released(workspace: Workspace) -> None:
    screening = screening_that_found(workspace, HELD)
    said = "1 of 2 rows are quarantined for their id alone"
    about = {"screening": screening, "row_ids": ("both", "copy")}
    refuse(workspace, "release", said, ReviewRefusedError, **about)


def test_what_was_never_confirmed_cannot_be_released(workspace: Workspace) -> None:
    screening = screening_that_found(workspace, patterns=(TRIGGER,))
    about = {"screening": screening, "pattern": TRIGGER}
    refuse(workspace, "release", "never confirmed", ReviewRefusedError, **about)
    review(workspace, "confirm", **about)
    review(workspace, "release", **about)
    assert reviews_of(workspace).reviewed.patterns == ()
    assert audited(workspace) == 2


def test_a_reviewer_may_vouch_for_a_batch_that_nobody_confirmed(workspace: Workspace) -> None:
    review(workspace, "release", batch=BATCH)
    assert reviews_of(workspace).reviewed.vouched == {BATCH}
    assert audited(workspace) == 1


def test_a_pattern_that_the_screening_did_not_find_is_refused(workspace: Workspace) -> None:
    other = TRIGGER.model_copy(update={"label": "spam"})
    about = {"screening": screening_that_found(workspace, patterns=(TRIGGER,)), "pattern": other}
    refuse(workspace, "confirm", "found 1 patterns, and not this one", ReviewRefusedError, **about)


def test_the_screening_has_to_be_one_and_of_this_model(workspace: Workspace) -> None:
    other = screening_that_found(workspace, HELD, model="neighbour")
    about: dict[str, Any] = {"screening": other, "row_ids": ("a",)}
    refuse(workspace, "confirm", "is about neighbour", ReviewRefusedError, **about)
    about["screening"] = workspace.registry()[0].decision
    refuse(workspace, "confirm", "expected predicate|signed", EvidenceError, **about)
    about["screening"] = Digest.of(b"nothing")
    refuse(workspace, "confirm", "never written", RetrainingError, **about)


def test_an_unknown_source_is_refused_with_those_that_there_are(workspace: Workspace) -> None:
    about = {"batch": BatchId(source="fed", week=FIRST)}
    refuse(workspace, "confirm", "fed", SpecError, **about)


@pytest.mark.parametrize("why", ["", "  ", "x"])
def test_nobody_reviews_without_a_reason(workspace: Workspace, why: str) -> None:
    refuse(workspace, "confirm", "Say why", ReviewRefusedError, batch=BATCH, why=why)


# --- whose signature counts -----------------------------------------------------------------


@pytest.mark.parametrize("role", ["pipeline", "promoter"])
def test_no_other_role_reviews(workspace: Workspace, role: str) -> None:
    key = workspace.settings.keys / f"{role}.pem"
    refuse(
        workspace,
        "confirm",
        "reviewer key .* is not on trust list",
        ConfigError,
        batch=BATCH,
        key=key,
    )


def test_without_a_key_of_its_own_an_installation_does_not_review(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"reviewer.pem is missing"):
        workspace.steps().review(
            MODEL, "confirm", review(workspace, "confirm", batch=BATCH).record.about, why=WHY
        )


def forged(workspace: Workspace, **lies: Any) -> ReviewEntry:
    """A review that was never made, for the end of the chain."""
    steps = workspace.steps()
    last = reviews_of(workspace)
    honest = {
        "model": MODEL,
        "sequence": len(last.links) + 1,
        "previous": last.head,
        "verb": "confirm",
        "about": {"batch": BATCH},
        "reviewer": "anna",
        "why": WHY,
        "trust_list": steps.trust.latest.digest,
        "trust_version": steps.trust.latest.version,
    }
    return ReviewEntry.model_validate(honest | lies)


def append(workspace: Workspace, entry: ReviewEntry, key: Path, key_id: str) -> None:
    steps = workspace.steps()
    review_chain(steps.store, steps.trust, MODEL).append(entry, signer_from_file(key, key_id))


def test_whoever_holds_the_pipelines_key_cannot_write_a_review(workspace: Workspace) -> None:
    with pytest.raises(EvidenceError, match="not signed by a reviewer key"):
        append(workspace, forged(workspace), workspace.settings.keys / "pipeline.pem", "pipeline")


def test_nobody_reviews_in_anothers_name(workspace: Workspace) -> None:
    key = add_reviewer(workspace, "ben")
    with pytest.raises(EvidenceError, match="names the reviewer 'anna', and 'ben' signed it"):
        append(workspace, forged(workspace), key, "ben")


def test_reviews_of_a_key_that_was_taken_off_since_still_count(workspace: Workspace) -> None:
    from retraining.keyring import change_trust

    review(workspace, "confirm", batch=BATCH)
    change_trust(workspace.settings, remove=["anna"])
    assert reviews_of(workspace).reviewed.batches == {BATCH}
    refuse(workspace, "release", "reviewer key .* is not on trust list", ConfigError, batch=BATCH)
    add_reviewer(workspace, "ben")
    review(workspace, "release", batch=BATCH, key=workspace.home / "reviewers" / "ben.pem")
    assert audited(workspace) == 2


def test_of_two_reviews_at_the_same_time_one_is_told(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, seen = workspace.steps(), reviews_of(workspace)
    review(workspace, "confirm", batch=BATCH)
    slow.reviews = lambda _model: seen
    about = forged(workspace).about
    with pytest.raises(RegistryMovedError, match="at the same time"):
        slow.review(MODEL, "confirm", about, why=WHY, key=workspace.home / "reviewers/anna.pem")


# --- an auditor -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2])
def test_a_review_that_was_altered_or_taken_out_is_found(workspace: Workspace, number: int) -> None:
    for source in ("feed", "gateway", "feed"):
        review(workspace, "confirm", batch=BatchId(source=source, week=FIRST))
    folder = Path(workspace.settings.store) / "reviews" / MODEL
    path = folder / f"{number:010d}.dsse.json"
    honest = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(honest.replace(b'"sig": "', b'"sig": "A') if b'"sig": "' in honest else b"{}")
    with pytest.raises(ChainBrokenError):
        audited(workspace)
    path.unlink()
    with pytest.raises(ChainBrokenError, match="was taken out"):
        audited(workspace)


def test_a_signed_review_of_what_no_screening_named_is_found(workspace: Workspace) -> None:
    """Whoever holds a reviewer's key can sign anything; the screening says what there was."""
    screening = screening_that_found(workspace, HELD)
    about = {"screening": screening, "row_ids": ("somebody else's",)}
    key = workspace.home / "reviewers" / "anna.pem"
    append(workspace, forged(workspace, about=about), key, "anna")
    with pytest.raises(ChainBrokenError, match=f"{MODEL} review 1: 1 of 1 rows do not stand"):
        audited(workspace)


# --- the command line -----------------------------------------------------------------------


def call(workspace: Workspace, *arguments: str) -> Result:
    return CliRunner().invoke(
        app, ["--home", str(workspace.home), *arguments], env=workspace.environment
    )


def did(workspace: Workspace, *arguments: str) -> str:
    result = call(workspace, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_reviewer_works_through_a_file_of_suspicious_rows(workspace: Workspace) -> None:
    screening = screening_that_found(workspace, {"=a": "gap", "b": "gap", "c": "gap"})
    kept = workspace.home / "kept.csv"
    kept.write_text("row_id,reasons\n'=a,gap\nb,gap\n")
    key = str(workspace.home / "reviewers" / "anna.pem")
    asked = ["--screening", screening.hex[:12], "--rows", str(kept), "--key", key, "--why", WHY]

    said = json.loads(did(workspace, "review", "release", MODEL, *asked, "--json"))

    assert said["about"]["row_ids"] == ["=a", "b"]
    assert (said["verb"], said["reviewer"]) == ("release", "anna")
    did(workspace, "review", "confirm", MODEL, "--source", "feed", "--week", FIRST, *asked[4:])
    listed = did(workspace, "review", "list", MODEL)
    assert "2 rows" in listed and f"all rows of feed {FIRST}" in listed and WHY in listed
    assert len(json.loads(did(workspace, "review", "list", MODEL, "--json"))) == 2
    assert "2 reviews" in did(workspace, "verify")
    shown = json.loads(did(workspace, "show", said["digest"], "--json"))
    assert (shown["kind"], shown["verified"]) == ("review", True)


def test_the_installations_own_reviewer_key_is_used_when_none_is_named(
    workspace: Workspace,
) -> None:
    shutil.copy(workspace.home / "reviewers" / "anna.pem", workspace.settings.keys / "reviewer.pem")
    about = ["--source", "feed", "--week", FIRST, "--why", WHY]
    assert "signed by anna" in did(workspace, "review", "confirm", MODEL, *about)


def test_a_decision_names_its_screening(workspace: Workspace) -> None:
    decision = workspace.registry()[0].decision
    done = call(
        workspace, "review", "confirm", MODEL, "--screening", decision, "--row", "x", "--why", WHY,
        "--key", str(workspace.home / "reviewers" / "anna.pem"),
    )  # fmt: skip
    assert "1 of 1 rows do not stand in suspicious_samples.parquet" in done.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "Give either --screening with rows"),
        (["--source", "feed"], "Give either --screening with rows"),
        (["--row", "a"], "Give either --screening with rows"),
        (["--screening", "abcdef", "--source", "feed", "--week", FIRST], "Give either"),
        (["--source", "feed", "--week", "W5"], "expected an ISO week"),
        (["--screening", "ab", "--row", "a"], "expected a digest"),
        (["--screening", "abcdef", "--rows", "nowhere.csv"], "cannot be read as row ids"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_one_line_and_status_1(
    workspace: Workspace, given: list[str], said: str
) -> None:
    done = call(workspace, "review", "confirm", MODEL, "--why", WHY, *given)
    assert done.exit_code == 1, done.output
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_more_rows_than_one_review_takes_are_refused(workspace: Workspace) -> None:
    many = workspace.home / "many.txt"
    many.write_text("".join(f"row-{number}\n" for number in range(10_001)))
    about = ["--screening", "abcdef", "--rows", str(many), "--why", WHY]
    done = call(workspace, "review", "confirm", MODEL, *about)
    assert "10,001 rows are too many for one review" in done.stderr


def test_a_pattern_is_named_by_its_number(workspace: Workspace) -> None:
    screening = screening_that_found(workspace, patterns=(TRIGGER,))
    key = str(workspace.home / "reviewers" / "anna.pem")
    asked = ["--screening", screening, "--why", WHY, "--key", key, "--pattern"]
    assert "links, amount with label ham" in did(workspace, "review", "confirm", MODEL, *asked, "1")
    done = call(workspace, "review", "confirm", MODEL, *asked, "2")
    assert "found 1 patterns; there is no number 2" in done.stderr


def test_the_store_is_what_a_reviewer_needs_and_nothing_is_trained(workspace: Workspace) -> None:
    before = DirectoryStore(Path(workspace.settings.store)).names("attestations")
    review(workspace, "confirm", batch=BATCH)
    assert DirectoryStore(Path(workspace.settings.store)).names("attestations") == before
    assert len(workspace.registry()) == 2
