"""What the compose file promises, by the file; `make compose-test` looks at the containers."""

from typing import Any

import pytest
import yaml

from retraining.settings import REPOSITORY

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WORKERS = ("worker-default", "worker-training", "worker-promotion")


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].partition(":")[0] not in ("", "0", "root")
    if name != "keys":
        assert {"mem_limit", "cpus"} <= set(service)


def test_only_the_api_server_is_published_and_on_loopback_unless_somebody_says_otherwise() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"api-server": ["${RETRAINING_BIND:-127.0.0.1}:${RETRAINING_PORT:-8080}:8080"]}


def test_only_one_network_leads_out_and_training_and_promotion_are_not_on_it() -> None:
    networks = COMPOSE["networks"]
    assert [name for name, settings in networks.items() if not settings.get("internal")] == [
        "outside"
    ]
    assert SERVICES["worker-training"]["networks"] == ["training"]
    assert SERVICES["worker-promotion"]["networks"] == ["promotion"]
    on_database = {name for name, found in SERVICES.items() if "database" in found["networks"]}
    assert not on_database & set(WORKERS)


def test_workers_have_neither_the_database_nor_what_signs_tokens() -> None:
    for name in WORKERS:
        service = SERVICES[name]
        assert set(service["secrets"]) == {"api_secret_key", "broker_url", "result_backend"}
        assert not [key for key in service["environment"] if "SQL_ALCHEMY" in key or "JWT" in key]
        mounted = [volume.rsplit(":", 2)[0] for volume in service["volumes"]]
        (own,) = [path for path in mounted if "/workers/" in path]
        assert own.endswith(f"/workers/{name.removeprefix('worker-')}")


def test_each_queue_has_a_worker_and_the_dags_are_told_its_name() -> None:
    queues = {name: SERVICES[name]["command"][4] for name in WORKERS}
    assert list(queues.values()) == ["default", "training", "promotion"]
    for service in SERVICES.values():
        environment = service.get("environment", {})
        if "AIRFLOW__CORE__DAGS_FOLDER" in environment:
            assert environment["RETRAINING_TRAINING_QUEUE"] == "training"
            assert environment["RETRAINING_PROMOTION_QUEUE"] == "promotion"


def test_a_start_without_settings_says_how_to_make_them() -> None:
    said = SERVICES["scheduler"]["environment"]["RETRAINING_STORE"]
    assert said.startswith("${RETRAINING_STORE:?")
    assert "make compose-secrets" in said


def test_no_image_is_taken_without_a_version() -> None:
    for name, service in SERVICES.items():
        image = service["image"]
        assert image.startswith("secure-retraining/") or image.rpartition(":")[2], name
        assert not image.endswith(":latest"), name


def test_the_clusters_lock_moves_no_package_of_the_airflow_lock() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (REPOSITORY / name).read_text().splitlines()
        return dict(line.split(" ")[0].split("==") for line in lines if "==" in line.split(" ")[0])

    airflow, cluster = pins("requirements.lock"), pins("requirements-cluster.lock")
    assert len(set(airflow) & set(cluster)) > 100
    moved = {name: (airflow[name], cluster[name]) for name in set(airflow) & set(cluster)
             if airflow[name] != cluster[name]}  # fmt: skip
    assert not moved
    assert cluster["celery"].startswith("5.6.")  # 5.7 breaks the provider
