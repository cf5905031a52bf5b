"""Reviewers, owners, and a week that is held for want of holdout rows and nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retraining.approvals import approval_chain
from retraining.digests import Digest
from retraining.evidence import Role, create_key
from retraining.evidence.keys import signer_from_file
from retraining.keyring import NewKey, change_trust
from retraining.records import ApprovalEntry
from retraining.signed_chain import Link
from tests.fixtures.workspace import Workspace

WHY = "the holdout is small, and I looked at the rows"
# The holdout of the small workspace has 400 rows.
TOO_FEW_ROWS = {"gate": {"min_holdout_rows": 401}}
NAMES: dict[str, Role] = {"anna": "reviewer", "ben": "reviewer", "olga": "owner"}


def add_people(workspace: Workspace, names: Mapping[str, Role] = NAMES) -> None:
    """Two reviewers and an owner, or others, with keys of their own on the trust list."""
    folder = workspace.home / "people"
    if folder.exists():  # a server's workspace, which has several models
        return
    for name in names:
        create_key(folder / f"{name}.pem")
    new = [NewKey(name, role, folder / f"{name}.pub.json") for name, role in names.items()]
    change_trust(workspace.settings, add=new)


def key_of(workspace: Workspace, name: str) -> Path:
    """A person's private key."""
    return workspace.home / "people" / f"{name}.pem"


def decision_of(workspace: Workspace) -> Digest:
    """The decision of the newest registry entry."""
    return Digest(workspace.registry()[-1].decision)


def approve(
    workspace: Workspace, name: str = "anna", decision: Digest | None = None, **options: Any
) -> Link[ApprovalEntry]:
    """Approve the newest decision, or another one, as that person."""
    digest = decision or decision_of(workspace)
    link = workspace.steps().approve(digest, why=WHY, key=key_of(workspace, name), **options)
    assert isinstance(link, Link)
    return link


def forge(workspace: Workspace, key: Path, key_id: str, **said: Any) -> Link[ApprovalEntry]:
    """Append an approval of the newest decision, signed with any key, past every check of a step.

    Args:
        key_id: Under which the trust list knows that key.
        said: What it says otherwise than the newest decision's approval would.
    """
    steps = workspace.steps()
    registry = steps.registry(workspace.model)
    known, trust = steps.approvals(workspace.model), steps.trust.latest
    entry = ApprovalEntry.model_validate(
        {
            "model": workspace.model,
            "sequence": len(known.links) + 1,
            "previous": known.head,
            "decision": registry.links[-1].record.decision,
            "registry_head": registry.head,
            "why": WHY,
            "approver": key_id,
            "expires_on": "2099-01-01T00:00:00Z",
            "trust_list": trust.digest,
            "trust_version": trust.version,
        }
        | said
    )
    chain = approval_chain(steps.store, steps.trust, workspace.model)
    return chain.append(entry, signer_from_file(key, key_id))
