"""What people had said when a run started, and by which rules they are asked.

A rule that whoever changes the pipeline file could switch off with the same change would be none.
So the champion's pipeline file says when people are asked, until an owner signs another one.
"""

from dataclasses import dataclass

from retraining.approvals.chain import Approvals
from retraining.approvals.counting import since_last_champion
from retraining.digests import Digest, parse_json
from retraining.evidence import TrustList
from retraining.records import PinnedRun
from retraining.registry import Registry
from retraining.spec import ApprovalPolicy, PipelineSpec, parse_spec
from retraining.store import Store
from retraining.trust_history import TrustHistory


@dataclass(frozen=True, kw_only=True)
class People:
    """What people had said when a run started.

    Attributes:
        champion_spec: Pipeline file that promoted the serving model, or the one that was withdrawn
            and that none replaced; None before the first.
        version: Of that model; 0 before the first.
        withdrawn: Whether it serves no longer.
        signed_by: Owners who signed this run's pipeline file since the champion last changed.
        owners: Keys of role owner that could.
    """

    champion_spec: PipelineSpec | None
    version: int
    withdrawn: bool = False
    signed_by: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()

    def policy(self, spec: PipelineSpec) -> ApprovalPolicy:
        """The rules in force: the champion's, or the run's own when an owner signed them."""
        if self.champion_spec is None or self.signed_by:
            return spec.approval
        return self.champion_spec.approval


def people_of(store: Store, trust: TrustHistory, run: PinnedRun, before: Registry) -> People:
    """Read what people had said when `run` was pinned.

    Args:
        before: The registry as the run pinned it.

    Raises:
        ChainBrokenError: Approvals that the run took into account are gone.
        ArtifactMissingError, ArtifactTamperedError: So is the champion's pipeline file.
    """
    said = Approvals.load(store, trust, run.model).up_to(run.approvals_head)
    return people_when(
        store, trust, before, said, spec=run.spec, trust_list=trust.named(run.trust_list)
    )


def people_when(
    store: Store,
    trust: TrustHistory,
    before: Registry,
    said: Approvals,
    *,
    spec: Digest,
    trust_list: TrustList,
) -> People:
    """What people had said about the pipeline file `spec`; see `people_of`."""
    owners = trust_list.keys_for(["owner"])
    since = since_last_champion(before)
    signed = {
        entry.approver
        for entry in (link.record for link in said.links)
        if entry.spec == spec
        and entry.registry_head in since
        # A key that was taken off the list, or exchanged under its name, counts no more.
        and owners.get(entry.approver)
        == trust.named(entry.trust_list).keys_for(["owner"], entry.approver).get(entry.approver)
    }
    champion = before.serving or before.withdrawn
    champion_spec = None
    if champion is not None:
        named = champion.record.spec
        # With today's code: a setting that a release added is no change of anybody's.
        champion_spec = parse_spec(parse_json(store.get(named)), origin=str(named))
    return People(
        champion_spec=champion_spec,
        version=champion.record.version if champion else 0,
        withdrawn=before.withdrawn is not None,
        signed_by=tuple(sorted(signed)),
        owners=tuple(sorted(owners)),
    )
