"""What the stack's containers may do and may not, asked of the engine and of the containers."""

import socket

from progress import say
from stack import Stack, check

WORKERS = ("worker-default", "worker-training", "worker-promotion")
_OUR_USERS = {"postgres": "999:999", "redis": "999:999", "s3": "ceph"}


def containers_are_confined(stack: Stack) -> None:
    """Ports, users, rights and limits of every container."""
    published = {}
    for service in stack.services():
        found = stack.inspect(service)
        config, host = found["Config"], found["HostConfig"]
        user = _OUR_USERS.get(service, "50000:0")
        check(config["User"] == user, f"{service} runs as {config['User']!r}, expected {user}")
        check(host["ReadonlyRootfs"], f"{service} can write to its image")
        check(host["CapDrop"] == ["ALL"] and not host["CapAdd"], f"{service} has capabilities")
        check("no-new-privileges:true" in host["SecurityOpt"], f"{service} may gain rights")
        check(host["Memory"] > 0 and host["NanoCpus"] > 0, f"{service} has no limits")
        check(not host["Privileged"], f"{service} is privileged")
        for ports in (found["NetworkSettings"]["Ports"] or {}).values():
            for port in ports or ():
                published[service] = f"{port['HostIp']}:{port['HostPort']}"
        leaked = [entry.partition("=")[0] for entry in config["Env"] if _is_secret(stack, entry)]
        check(not leaked, f"{service} has secrets in its environment: {leaked}")
    check(published == {"api-server": f"127.0.0.1:{stack.port}"}, f"published: {published}")
    say(
        f"{len(stack.services())} containers: not root, read-only, no capability, limits, no secret"
        f" in an environment; published: {published}"
    )


def _is_secret(stack: Stack, entry: str) -> bool:
    value = entry.partition("=")[2]
    files = (path for path in stack.secrets.iterdir() if path.is_file())
    return any(len(value) > 7 and path.read_text().strip() in value for path in files)


def only_promotion_has_the_promoters_key(stack: Stack) -> None:
    """Look for the key's very bytes in every container that has our image."""
    key = (stack.secrets / "keys" / "promoter.pem").read_text().splitlines()[1]
    holders = {
        service
        for service in stack.services()
        if stack.inside(
            service, "grep", "-rqsF", key, "/run", "/var/lib", "/opt/retraining"
        ).returncode
        == 0
    }
    check(holders == {"worker-promotion"}, f"the promoter's key is in {sorted(holders)}")
    pems = stack.inside("worker-training", "find", "/run", "-name", "*.pem").stdout.split()
    check(pems == ["/run/worker/keys/pipeline.pem"], f"worker-training has {pems}")
    trainers = {
        s for s in stack.services() if not stack.inside(s, "test", "-e", "/opt/trainer").returncode
    }
    check(trainers == {"worker-training"}, f"the trainer's environment is in {sorted(trainers)}")
    say("the promoter's key is in worker-promotion alone, the trainer in worker-training alone")


_CONNECT = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor

def reached(target):
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 4).close()
    except OSError:
        return None
    return target

with ThreadPoolExecutor() as pool:
    print(*filter(None, pool.map(reached, sys.argv[1:])))
"""
_ASK_THE_GATE = """
import socket, sys
for target in sys.argv[1:]:
    gate = socket.create_connection(("egress-gate", 3128), 5)
    gate.sendall(f"CONNECT {target} HTTP/1.1\\r\\n\\r\\n".encode())
    print(target, gate.recv(99).split()[1].decode())
"""


def training_has_no_way_out(stack: Stack, outside: str) -> None:
    """Neither outside nor to the database nor to other workers; each target has a control."""
    host, _, port = outside.rpartition(":")
    targets = {
        "outside by name": outside,
        "outside by address": f"{socket.gethostbyname(host)}:{port}",
        "the database": "postgres:5432",
        "the database by address": f"{stack.address('postgres', 'database')}:5432",
        **{worker: f"{worker}:8793" for worker in WORKERS},
        "promotion by address": f"{stack.address('worker-promotion', 'promotion')}:8793",
        "s3": "s3:7480",
    }

    def reached(service: str) -> set[str]:
        done = stack.inside(service, "python", "-c", _CONNECT, *targets.values())
        check(done.returncode == 0, f"{service}: {done.stderr[-500:]}")
        found = done.stdout.split()
        return {name for name, target in targets.items() if target in found}

    found = {service: reached(service) for service in ("api-server", *WORKERS)}
    for name in targets:  # so that "not reached" means something
        check(any(name in of_service for of_service in found.values()), f"nobody reaches {name}")
    outer = {"outside by name", "outside by address"}
    expected = {
        "worker-default": {"worker-default", "s3", *outer},
        "worker-training": {"worker-training", "s3"},
        "worker-promotion": {"worker-promotion", "promotion by address", "s3"},
    }
    for worker in WORKERS:
        check(found[worker] == expected[worker], f"{worker} reaches {sorted(found[worker])}")
    asked = ("s3:7480", outside, "postgres:5432")
    done = stack.inside("worker-training", "python", "-c", _ASK_THE_GATE, *asked)
    answers = dict(line.split() for line in done.stdout.splitlines())
    check(list(answers.values()) == ["200", "403", "403"], f"the gate: {answers} {done.stderr}")
    say(f"worker-training reaches {sorted(found['worker-training'])} of {sorted(targets)}")
    say(f"and through the gate: {answers}")
