"""What the pages of the incident DAG and its task say."""

from retraining.spec import PipelineSpec

TRACE = """Traces what the form names through all weeks: the log says which versions learned from
it, and which would serve instead. Signs nothing.

Red when the form names nothing, or something that nobody knows; the first line of the log says
what."""

INCIDENT = """Confirms it (never trained on again), asks for the rollback to the last version that
did not learn from it, and ties this together in one signed record. Where none is left it asks that
none serves, if the form says *withdraw*. Skipped in a dry run.

Confirming needs a **reviewer's** key, which a worker rarely holds. Then the task is red, nothing
was signed, and the first line of the log says the command for the reviewer's machine."""

RESTORE = """Verifies the request and everything behind the old version again, and lets it serve.
Skipped when the version that serves did not learn from it. When red, nothing was rolled back."""


def dag_doc(spec: PipelineSpec) -> str:
    """The page of one model's incident DAG."""
    return f"""Poison that `{spec.model}` learned was found late: who learned from it, and back.

Owner: {spec.owner}. `trace → incident → restore`

*Trigger* asks for the reason and for what is poison: a source, a source and a week, a source and
one of its users, or a pattern that a screening found. It starts as a dry run; untick that box to
act. Started again, it does nothing twice.

| colour | meaning |
| --- | --- |
| green | a version serves that did not learn from it, or none does, as the form said |
| skipped after `trace` | a dry run: the log of `trace` says who learned |
| red | a key is missing, or no clean version is left; the first line of the log says what to do |
"""
