"""What the pages of the rollback DAG and its tasks say."""

from retraining.spec import PipelineSpec

REQUEST = """Signs who asks for which version, why, and for which state of the registry. Nothing
serves differently yet.

Red at once when that version may not serve: it does not exist, serves already, or was convicted of
poison. The first line of the log says which versions may."""

RESTORE = """Verifies the request and everything behind the old version again, lets it predict the
rows of the reference set, then appends it to the signed registry and updates the asset.

When red, nothing was rolled back. The first line of the log says why: no signed request (somebody
marked a task or wrote its XCom), the registry gained an entry since it was asked for (trigger the
DAG again, if it is still wanted), or something behind the old version was changed."""


def dag_doc(spec: PipelineSpec) -> str:
    """The page of one model's rollback DAG."""
    return f"""Lets an older version of `{spec.model}` serve again.

Owner: {spec.owner}. `request → restore`

*Trigger* asks for the version (`retraining champions {spec.model}` lists them), for the reason, and
whether the versions above it learned from **poison**. If so, they are convicted: none of them ever
serves again, and the rows that they added are trained on no longer. That cannot be taken back, so
when in doubt, roll back first and convict later: trigger again with the version that serves then,
and the box ticked.

| colour | meaning |
| --- | --- |
| green | the version that you named serves; after a 0, none |
| red | nothing was rolled back; the first line of the log says why |

The next weekly run trains as ever, and is compared with the version that serves. After a 0 there is
none, and weeks are HOLD until an owner has signed the pipeline file. The asset's event then says
version 0 and no model; a serving DAG has to expect that."""
