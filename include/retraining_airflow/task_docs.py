"""What the pages of a DAG and its tasks say: what they conclude, what colours mean, what to do.

Shown under "Docs" in Airflow; written for the person who is called when something is red.
"""

from retraining.spec import PipelineSpec

_COLOURS = """
| colour | meaning |
| --- | --- |
| green | concluded; a refusal is a conclusion, and the gate judges it |
| skipped | nothing to do: left out by hand, or an earlier step refused |
| red gate | HOLD or REJECT: you decide; its log says why in the first line |
| any other red | it broke, after its retries; nobody decided anything, and nothing was promoted |
"""

_BROKEN = "When red, it broke: read the first line of the log, mend that, and clear the task."

PIN = f"""Fixes everything that the run depends on, by digest: pipeline file, policy, code, keys,
reference set, holdout, and the newest registry entry. Later tasks read nothing else.

Skipped when the week, or a later one, was promoted already. {_BROKEN}"""

INGEST = f"""Brings in what one source delivered, as bytes, and stores them under their digest.
Limits on bytes are enforced while streaming; nothing is parsed.

Green also when the batch was refused (missing, too large): the log says so, and the gate judges it.
Skipped when the source was left out by hand. {_BROKEN}"""

PROVENANCE = f"""Checks who delivered the batch and that what arrived is what they signed:
signature, files both ways, digests, and a sequence number that grows.

Green also when the batch was refused. Skipped with its ingest. {_BROKEN}"""

SCREEN = f"""Parses the verified batches for the first time, in a child process; checks columns and
values; and looks for poison. Suspicious rows are kept in quarantine, each with its reasons.

Green also when a source, or the whole week, was refused. {_BROKEN}"""

SCREEN_SHARD = f"""Judges the rows of one shard of the week, side by side with the others; `screen`
takes up what they found, and judges itself what they did not. {_BROKEN}"""

TRAIN = """Trains the challenger with differential privacy, in an environment and a process of its
own. The privacy it spends is charged to the ledger before it starts.

Skipped when screening refused the week. When red, it broke twice: read the trainer's lines in the
log. Clearing it starts it again, and that is charged again."""

VALIDATE = f"""Measures challenger and champion on the same holdout rows, and what the challenger
learned that it should not have. It never passes or fails anybody: that is for the gate. It runs
where the promoter's key is, so that nobody else can sign a measurement.

Skipped when training refused or was skipped. {_BROKEN}"""

PURGE = f"""Asks which rows taught the challenger what a check of its behaviour refuses, and takes
them out: those that carry the pattern that was found, and all new rows of a source that most of
them come from. The log says which.

Skipped when no such check refuses the challenger, as in most weeks. {_BROKEN}"""

TRAIN_AGAIN = """Trains a second challenger on what the purge left. It is charged to the privacy
ledger like any training; where the budget is spent, it is refused, and the gate says so.

Skipped when nothing was purged. When red, it broke twice: read the trainer's lines in the log."""

GATE = """Turns the reports of all steps into the week's one signed decision.

It judges the last challenger that was trained: the second one, where rows were purged. That passing
is HOLD, unless the pipeline file says `gate.purge: promote`.

**Green** is PROMOTE. **Red at once** is HOLD (not enough is known) or REJECT (it would do harm):
the log links the page of the decision, where it can be shown, and its error names the checks that
failed, with what was observed and what is allowed, and the next step. Usually: start the week again
without the source that it names (form field *Sources to leave out*), or have its owner deliver it
again.

Marking this task green promotes nothing: promotion reads the signed decision, not the colour."""

APPROVE = """Asks people about a week that the gate held, if the pipeline file says so, and waits.

**Skipped** when there is nothing to approve: the gate passed, refused for good, or trained no
challenger; or when somebody chose to leave it. **Green** when enough people have signed. **Red**
when nobody answered in time, or the answer came before the signatures: sign, then clear this task.

The answer here counts for nothing by itself: reviewers sign with `retraining approve` on their own
machines (with `approval.in_ui` the answer is recorded under your login, the weaker form). Marking
this task green promotes nothing. While it waits, no other run of this model starts: choose *Leave
it* to go on."""

PROMOTE = """Verifies the decision and everything behind it again, then appends the new champion to
the signed registry and updates the asset.

Skipped in a dry run. When red, no signed decision says PROMOTE for the current champion, and no
approval counts (somebody marked or cleared a task, or another run was faster), or something in the
store was changed: the first line of the log says which. Nothing was promoted."""


def dag_doc(spec: PipelineSpec) -> str:
    """The page of one model's DAG."""
    sources = "\n".join(f"- `{s.name}`: {s.trust}, {_signature(s.key_id)}" for s in spec.sources)
    return f"""{spec.description}

Owner: {spec.owner}. Trains a challenger on the week's signed batches, and makes it the champion
only if a signed decision says so.

`pin → ingest → provenance → screen → train → validate → purge, train again, validate again, where a
check of behaviour refuses → gate → (approve) → promote`
{_COLOURS}
Sources:
{sources}

To start a week by hand, use *Trigger* and say why. Without a week, the last full ISO week (UTC) is
taken, and with it every week since the last promoted one."""


def _signature(key_id: str | None) -> str:
    return f"signed with `{key_id}`" if key_id else "cannot sign"
