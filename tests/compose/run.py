"""`make compose-test`: the whole stack, three weeks on its workers through S3, one worker killed.

Brings up docker-compose.yaml with an S3 server beside it, runs the demo's weeks as a person would,
kills the training worker in the middle of one of them, looks at what the containers may do and may
not, and takes everything down. Prints what it saw; exit status 1 at the first thing that is wrong.
"""

import argparse
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

import httpx
from confinement import (
    containers_are_confined,
    only_promotion_has_the_promoters_key,
    training_has_no_way_out,
)
from progress import say, timed
from stack import BUCKET, REPOSITORY, Failure, Stack, check, eventually, run

from demo.cut_data import WEEKS
from demo.layout import lay_out
from retraining.chains import charges_of, ledger_chain, registry_chain
from retraining.evidence import public_key_of
from retraining.recording import open_result
from retraining.records import TrainingReport
from retraining.spec import find_specs, load_spec
from retraining.store import Store, open_store
from retraining.trust_history import TrustHistory

MODEL = "spam_filter"
DAG_ID = f"secure_retraining__{MODEL}"
CLEAN, KILLED, POISONED = WEEKS
BASE_IMAGE = "apache/airflow:3.3.2-python3.11"
MAX_OWN_CERTIFICATES = 20  # more: another distribution's bundle, and too long for an argument


# --- before the first start -----------------------------------------------------------------------


def without_secrets_it_says_how(folder: Path) -> None:
    """A first `docker compose up` without anything ends with one sentence."""
    (folder / "empty").touch()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RETRAINING_")}
    done = run(
        *("docker", "compose", "--env-file", folder / "empty", "up", "--detach"),
        cwd=REPOSITORY,
        env=environment,
    )
    check(done.returncode != 0, "docker compose up without secrets did not fail")
    check("make compose-secrets" in done.stderr, f"it does not say how: {done.stderr}")
    say(f"up without secrets: {done.stderr.strip().splitlines()[-1]}")


def trust_what_this_machine_trusts() -> None:
    """Hand certificates that only this machine has to the build: a proxy may look into TLS here."""
    if "RETRAINING_EXTRA_CA_CERTS" in os.environ:
        return
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    base = run("docker", "run", "--rm", "--entrypoint", "cat", BASE_IMAGE, bundle).stdout
    pem = r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----"
    own = [c for c in re.findall(pem, Path(bundle).read_text(), re.DOTALL) if c not in base]
    if base and 0 < len(own) <= MAX_OWN_CERTIFICATES:
        os.environ["RETRAINING_EXTRA_CA_CERTS"] = "\n".join(own)
        say(f"{len(own)} certificates of this machine go into the images")


def write_pipelines(stack: Stack) -> None:
    """The shipped pipeline files, with every relative address moved into the bucket."""
    (stack.folder / "pipelines").mkdir()
    for path in find_specs(REPOSITORY / "include" / "pipelines"):
        text = re.sub(r'(uri: "?)(?!\w+://|[/"])', rf"\1s3://{BUCKET}/", path.read_text())
        (stack.folder / "pipelines" / path.name).write_text(text)


def make_keys(stack: Stack) -> None:
    """Keys and trust list, made in the image; the providers' too, because this is a trial."""
    specs = [load_spec(path) for path in find_specs(stack.folder / "pipelines")]
    providers = sorted(
        {source.key_id for spec in specs for source in spec.sources if source.key_id}
    )
    options = [part for name in providers for part in ("--provider", name)]
    for line in stack.compose("run", "--rm", "--quiet-pull", "keys", *options).splitlines():
        say(f"keys: {line}")


def deliver(stack: Stack) -> None:
    """What providers do: sign their batches with their keys, and put them into the bucket."""
    home = stack.folder / "providers"
    shutil.copytree(stack.secrets / "keys", home / "keys")
    lay_out(home, models=[MODEL])
    n_files = sum(stack.upload(home / name, name) for name in ("inbox", "data"))
    say(f"{n_files} files of {len(WEEKS)} weeks in s3://{BUCKET}; {POISONED} has a poisoned feed")


# --- the weeks ------------------------------------------------------------------------------------


def every_dag_file_is_right(stack: Stack) -> None:
    """All DAGs of all models are there, and no file has an error."""
    stack.unpause(DAG_ID)
    errors = [error["stack_trace"] for error in stack.get("importErrors")["import_errors"]]
    check(not errors, f"import errors: {errors}")
    say("DAGs: " + ", ".join(sorted(dag["dag_id"] for dag in stack.get("dags", limit=100)["dags"])))


def clean_week(stack: Stack) -> None:
    """A week from delivered objects to the champion."""
    run_id = stack.trigger(DAG_ID, week=CLEAN)
    state = stack.wait_for_run(DAG_ID, run_id)
    check(state == "success", f"{CLEAN}: {state}; {_broken(stack, run_id)}")
    tasks = stack.tasks(DAG_ID, run_id)
    ran_on = {task["task_id"]: task["hostname"] for task in tasks if task["state"] != "skipped"}
    expected = {
        "train": "worker-training",
        **dict.fromkeys(("validate", "gate", "promote"), "worker-promotion"),
        **dict.fromkeys(("pin", "ingest", "provenance", "screen"), "worker-default"),
    }
    check(ran_on == expected, f"tasks ran on {ran_on}")
    say(f"{CLEAN} promoted; train on worker-training; validate, gate, promote on worker-promotion")


def killed_week(stack: Stack) -> None:
    """The training worker is killed while it trains, and the run finishes all the same."""
    run_id = stack.trigger(DAG_ID, week=KILLED)
    container = stack.services()["worker-training"]
    eventually(
        lambda: "dp_trainer" in run("docker", "top", container).stdout,
        seconds=300,
        what="a trainer starts",
        pause=0.2,
    )
    # The demo's training takes a second; at a third of a processor there is time to hit it.
    run("docker", "update", "--cpus", "0.3", container)
    log = f"/var/lib/retraining/logs/dag_id={DAG_ID}/run_id={run_id}/task_id=train/attempt=1.log"

    def steps() -> list[str]:
        # From outside: a program in the container would wait for its share of the processor.
        copied = run("docker", "cp", f"{container}:{log}", "-", errors="replace").stdout
        return re.findall(r"trainer: epoch \d+: \d+ of \d+ steps", copied)

    seen = eventually(steps, seconds=120, what="the trainer makes a step", pause=0.05)
    trains = "dp_trainer" in run("docker", "top", container).stdout
    run("docker", "kill", container)
    check(trains, f"the trainer was too fast: {seen[-1]}")
    say(f"{KILLED}: worker-training killed while it trained, after {seen[-1]!r}")
    killed = time.monotonic()
    run("docker", "update", "--cpus", "2", container)
    stack.compose("up", "--detach", "--wait", "--no-deps", "worker-training")
    left = stack.inside("worker-training", "find", "/tmp", "-name", "retraining-*").stdout
    check(not left, f"rows of the killed training are left: {left}")

    def tried_again() -> bool:
        train = stack.task(DAG_ID, run_id, "train")
        return bool(train["try_number"] == 2 and train["state"] == "running")

    eventually(tried_again, seconds=300, what="the task is tried again")
    say(f"{KILLED}: training tried again {time.monotonic() - killed:.0f} s after the kill")
    state = stack.wait_for_run(DAG_ID, run_id)
    check(state == "success", f"{KILLED}: {state}; {_broken(stack, run_id)}")
    train = stack.task(DAG_ID, run_id, "train")
    check(train["try_number"] == 2, f"train took {train['try_number']} tries")
    said = [line["event"] for line in stack.log(DAG_ID, run_id, "train", attempt=2)]
    check(
        any("Attempt 2 of this training" in line for line in said), "the second charge is not said"
    )


def poisoned_week(stack: Stack) -> None:
    """The gate says no, in its first log line."""
    run_id = stack.trigger(DAG_ID, week=POISONED)
    state = stack.wait_for_run(DAG_ID, run_id)
    gate = stack.task(DAG_ID, run_id, "gate")
    check((state, gate["state"]) == ("failed", "failed"), f"{POISONED}: {state}, {gate['state']}")
    errors = [line for line in stack.log(DAG_ID, run_id, "gate") if line.get("error_detail")]
    headline = " ".join(errors[0]["error_detail"][0]["exc_value"].split())
    check(headline.startswith("HOLD"), f"the gate's headline: {headline}")
    say(f"{POISONED} refused: {headline[:160]}…")
    (address,) = re.findall(r"full report: (\S+)", headline)
    page = stack.api.get(address)
    check(page.status_code == 200 and "HOLD" in page.text, f"{address}: {page.status_code}")
    check(httpx.get(address, trust_env=False).status_code == 401, f"{address} is shown to anybody")
    say(f"its page opens in Airflow, for who is logged in: {address}")


def _broken(stack: Stack, run_id: str) -> str:
    for task in stack.tasks(DAG_ID, run_id):
        if task["state"] == "failed":
            lines = stack.log(DAG_ID, run_id, task["task_id"], task["try_number"])
            return f"{task['task_id']}: " + " | ".join(str(x.get("event")) for x in lines[-15:])
    return "no task failed"


def records_agree(stack: Stack) -> None:
    """One model per promoted week, two charges for the killed training, all of it verified."""
    os.environ.update(stack.aws_environment())
    store = open_store(f"s3://{BUCKET}/store")
    trust = TrustHistory.load(
        store, public_key_of(stack.secrets / "keys" / "root.pub.json", "root")
    )
    entries = [link.record for link in registry_chain(store, trust, MODEL).load()]
    found = [(entry.week, entry.verdict, entry.version) for entry in entries]
    check(
        found == [(CLEAN, "PROMOTE", 1), (KILLED, "PROMOTE", 2), (POISONED, "HOLD", 2)],
        f"the registry has {found}",
    )
    charges = charges_of(ledger_chain(store, trust, MODEL).load())
    of_training = [(charge.request, charge.attempt) for charge in charges[:3]]
    check(
        [attempt for _, attempt in of_training] == [1, 1, 2]
        and of_training[1][0] == of_training[2][0],
        f"the ledger has {of_training}",
    )
    report = _training_of(store, trust, entries[1].decision)
    check(len(report.charges) == 2, f"the training report names {len(report.charges)} charges")
    check(report.model == entries[1].champion, "another model was promoted")
    isolation = getattr(report, "isolation", "not on record")
    weeks = " · ".join(f"{week} {verdict} v{version}" for week, verdict, version in found)
    say(
        f"registry: {weeks};"
        f" {KILLED}: {len(report.charges)} charges, one model; trainer's isolation: {isolation}"
    )
    done = stack.retraining(Path(sys.executable).with_name("retraining"), "verify")
    check(done.returncode == 0, f"retraining verify: {done.stdout}{done.stderr}")
    say(f"retraining verify, from outside: {done.stdout.strip().splitlines()[-1]}")


def _training_of(store: Store, trust: TrustHistory, decision: str) -> TrainingReport:
    gate = open_result(store, trust.latest, "gate", decision)
    training = open_result(store, trust.latest, "training", gate.attestation.inputs["training"])
    return training.expect(TrainingReport).report


def mlflow_shows_it(stack: Stack) -> None:
    """The mirror on the same Postgres has both versions and the alias."""
    code = (
        "import json, urllib.request as u;"
        f"base='http://mlflow:5000/api/2.0/mlflow/registered-models/get?name={MODEL}';"
        "print(json.dumps(json.load(u.urlopen(base))['registered_model'].get('aliases')))"
    )
    done = stack.python("worker-default", code)
    check(done.returncode == 0, f"MLflow: {done.stderr[-300:]}")
    aliases = {item["alias"]: item["version"] for item in json.loads(done.stdout)}
    check("champion" in aliases, f"MLflow's aliases: {aliases}")
    say(f"MLflow's aliases: {aliases}")


def resources(stack: Stack) -> None:
    """What it takes, when idle."""
    done = run("docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.CPUPerc}}",
               *stack.services().values())  # fmt: skip
    lines = [line.split() for line in done.stdout.splitlines()]
    names = {
        name.removeprefix(f"{stack.project}-").removesuffix("-1"): used for name, used, *_ in lines
    }
    say("memory: " + ", ".join(f"{name} {used}" for name, used in sorted(names.items())))
    done = run("docker", "images", "--format", "{{.Repository}} {{.Size}}")
    ours = [line for line in done.stdout.splitlines() if line.startswith("secure-retraining/")]
    say("images: " + ", ".join(ours))


def nothing_is_left(stack: Stack) -> None:
    """After `down --volumes`, the engine knows nothing of the project any more."""
    label = f"label=com.docker.compose.project={stack.project}"
    for kind in (("ps", "-aq"), ("volume", "ls", "-q"), ("network", "ls", "-q")):
        left = run("docker", *kind, "--filter", label).stdout.split()
        check(not left, f"docker {kind[0]}: {left} are left")
    say("taken down: no container, volume or network is left")


# --- all of it ------------------------------------------------------------------------------------


def everything(stack: Stack, *, outside: str) -> None:
    """In a person's order."""
    without_secrets_it_says_how(stack.folder)
    stack.prepare()
    write_pipelines(stack)
    trust_what_this_machine_trusts()
    with timed("images built"):
        stack.compose("build")
    with timed("S3 server up"):
        stack.compose("up", "--detach", "--wait", "s3")
    stack.s3.create_bucket(Bucket=BUCKET)
    make_keys(stack)
    deliver(stack)
    with timed("stack up and healthy"):
        stack.compose("up", "--detach", "--wait")
    containers_are_confined(stack)
    only_promotion_has_the_promoters_key(stack)
    training_has_no_way_out(stack, outside)
    every_dag_file_is_right(stack)
    with timed(CLEAN):
        clean_week(stack)
    with timed(KILLED):
        killed_week(stack)
    with timed(POISONED):
        poisoned_week(stack)
    records_agree(stack)
    mlflow_shows_it(stack)
    resources(stack)


def main() -> int:
    """Run it; always take the stack down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--outside", default="deb.debian.org:80", help="host:port that is reachable"
    )
    parser.add_argument("--keep", action="store_true", help="leave the stack running at a failure")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="compose-test-"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        stack = Stack(folder, f"compose-test-{os.getpid()}", listener.getsockname()[1], say)
    failed = True
    try:
        everything(stack, outside=given.outside)
        failed = False
    except Failure as failure:
        say(f"FAILED: {failure}")
        for service in stack.services():
            tail = stack.compose("logs", "--no-color", "--tail", "25", service)
            print(tail, file=sys.stderr)
    finally:
        if not (failed and given.keep):
            with timed("taken down"):
                stack.down()
            nothing_is_left(stack)
            shutil.rmtree(folder)
    say("FAILED" if failed else "passed")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
