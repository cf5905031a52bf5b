"""Health checks of docker-compose.yaml, cheap enough to be asked twice a minute on two cores.

Airflow's own (`airflow jobs check`) imports Airflow at every call, seconds of processor time each.

    healthy.py page URL            the page answers with 200
    healthy.py part NAME           Airflow's API server has a fresh heartbeat of this part
    healthy.py worker              this machine's Celery worker answers
    healthy.py port NUMBER         something listens on this port of this machine
"""

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

_SECONDS = 8
_HEALTH = "http://api-server:8080/api/v2/monitor/health"
_direct = build_opener(ProxyHandler({}))


def page(url: str) -> bool:
    """Whether the page answers; urllib raises for anything but success."""
    with _direct.open(url, timeout=_SECONDS) as answer:
        return bool(answer.status == 200)


def part(name: str) -> bool:
    """Whether the API server says that a part is healthy: its heartbeat is in the database."""
    with _direct.open(_HEALTH, timeout=_SECONDS) as answer:
        found = json.load(answer)
    return bool(found[name]["status"] == "healthy")


def worker() -> bool:
    """Whether our worker takes messages: asked through the broker, as they come."""
    from celery import Celery  # type: ignore[import-not-found]

    broker = Path("/run/secrets/broker_url").read_text().strip()
    app = Celery(broker=broker, broker_connection_timeout=_SECONDS)
    name = f"celery@{socket.gethostname()}"
    return bool(app.control.ping(destination=[name], timeout=_SECONDS))


def port(number: str) -> bool:
    """Whether somebody listens; socket raises when nobody does."""
    socket.create_connection(("127.0.0.1", int(number)), _SECONDS).close()
    return True


def main(argv: list[str]) -> int:
    """Exit status 0 when healthy."""
    checks: dict[str, Callable[..., bool]] = {
        "page": page,
        "part": part,
        "worker": worker,
        "port": port,
    }
    try:
        return 0 if checks[argv[0]](*argv[1:]) else 1
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
