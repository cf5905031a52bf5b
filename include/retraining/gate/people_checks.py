"""Checks on what people said: who answers for a changed pipeline file, and who has to approve."""

from collections.abc import Iterator

from retraining.approvals import People, sign_spec_command
from retraining.records import Check, TrainingReport
from retraining.spec import ApprovalPolicy, PipelineSpec

_MOST_NAMED = 4  # changed settings in one sentence


def check_people(
    people: People, spec: PipelineSpec, training: TrainingReport | None
) -> Iterator[Check]:
    """Whether an owner answers for the pipeline file, and whether somebody has to approve."""
    policy = people.policy(spec)
    if (found := check_spec(people, spec)) is not None:
        yield found
    if "always" in policy.ask and training is not None and training.model is not None:
        yield _approval(policy)


def check_spec(people: People, spec: PipelineSpec) -> Check | None:
    """Whether an owner answers for what changed since the champion; None before the first.

    After a withdrawal an owner always has to: without a champion a challenger is compared with
    nothing, and whoever can withdraw a model could pass the next one that way.
    """
    if (champion := people.champion_spec) is None:
        return None
    allowed = f"the pipeline file of version {people.version}, or one that an owner signed"
    if people.withdrawn and not people.signed_by:
        return Check(
            name="spec",
            verdict="HOLD",
            observed=f"not signed since version {people.version} was withdrawn",
            allowed="a pipeline file that an owner signed since, as there is no champion",
            next_step=_sign_it(people, spec.model),
        )
    changed = changed_settings(champion, spec)
    asked = "on_changed_spec" in champion.approval.ask
    if changed and asked and not people.signed_by:
        return Check(
            name="spec",
            verdict="HOLD",
            observed=f"changed and not signed: {_listed(changed)}",
            allowed=allowed,
            next_step=_sign_it(people, spec.model),
        )
    observed = "the same"
    if changed:
        by = ", ".join(people.signed_by)
        observed = f"changed ({_listed(changed)}), " + (f"signed by {by}" if by else "nobody asked")
    return Check(name="spec", verdict="PROMOTE", observed=observed, allowed=allowed)


def _sign_it(people: People, model: str) -> str:
    if not people.owners:
        return (
            "no key may sign it: `retraining keys provider NAME`, `retraining keys trust --add"
            " NAME=NAME.pub.json --role owner`, then sign it and start the week again"
        )
    owners = ", ".join(people.owners)
    return f"have its owner ({owners}) sign it: `{sign_spec_command(model)}`"


def _approval(policy: ApprovalPolicy) -> Check:
    n = policy.reviewers
    return Check(
        name="approval",
        verdict="HOLD",
        observed="nobody can have approved it yet",
        allowed=f"no promotion without approval by {n} reviewer{'s' * (n > 1)}",
        next_step="look at the report, then approve it or leave it",
    )


def changed_settings(old: PipelineSpec, new: PipelineSpec) -> list[str]:
    """Names of the settings that differ, such as `gate.margin`, in order."""
    return sorted(_changed(old.model_dump(mode="json"), new.model_dump(mode="json"), ""))


def _changed(old: object, new: object, name: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() | new.keys():
            yield from _changed(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
    elif old != new:
        yield name


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
