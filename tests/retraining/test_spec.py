import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from retraining.digests import Digest
from retraining.errors import SpecError
from retraining.settings import REPOSITORY
from retraining.spec import PipelineSpec, find_specs, load_spec, parse_spec

SHIPPED = REPOSITORY / "include" / "pipelines"
ZERO = "sha256:" + "0" * 64
GOOD: dict[str, Any] = {
    "model": "fraud",
    "description": "Finds fraud.",
    "owner": "fraud@example.org",
    "label": {"column": "label", "classes": ["no", "yes"], "positive": "yes"},
    "row_id": "id",
    "features": [
        {"name": "amount", "kind": "number", "min": 0, "max": 10},
        {"name": "country", "kind": "category", "categories": ["de", "fr"]},
    ],
    "sources": [{"name": "bank", "uri": "in/{week}", "trust": "trusted", "key_id": "bank"}],
    "reference": {"uri": "r", "digest": ZERO},
    "holdout": {"uri": "h", "digest": ZERO},
    "training": {
        "architecture": {"kind": "linear"},
        "epsilon_per_run": 1,
        "epsilon_per_block": 2,
        "delta": 1e-5,
        "expected_batch_rows": 10,
        "epochs": 1,
        "learning_rate": 0.1,
    },
    "gate": {"limits": {"accuracy": {"min": 0.5}}},
}

TRAFFIC = {"predictions": {"uri": "asked/{day}"}, "labels": {"uri": "known/{day}"}}
USERS = {"name": "users", "uri": "us/{week}", "trust": "untrusted", "key_id": "users"}


def put(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(spec: Any) -> None:
        for step in path[:-1]:
            spec = spec[step]
        spec[path[-1]] = value

    return change


def drop(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(spec: Any) -> None:
        for step in path[:-1]:
            spec = spec[step]
        del spec[path[-1]]

    return change


def also(*changes: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def change(spec: dict[str, Any]) -> None:
        for one in changes:
            one(spec)

    return change


MISTAKES: list[tuple[Callable[[dict[str, Any]], None], str, str]] = [
    (drop("owner"), "owner", "required"),
    (put("ovner", value="x"), "ovner", "misspelling"),
    (put("model", value="Fraud!"), "model", "pattern"),
    (put("label", "classes", value=["no"]), "label.classes", "at least 2"),
    (put("label", "classes", value=["no", "no"]), "label", "differ"),
    (put("label", "positive", value="maybe"), "label", "one of"),
    (put("features", value=[]), "features", "at least 1"),
    (put("features", 0, "kind", value="colour"), "features.0", "number"),
    (put("features", 0, "max", value=-1), "features.0", "below max"),
    (put("features", 0, "max", value=float("inf")), "features.0", "finite"),
    (put("features", 0, "name", value="label"), "whole file", "one role"),
    (put("features", 1, "categories", value=["de"]), "features.1", "at least 2"),
    (put("sources", 0, "uri", value="in"), "sources.0", "{week}"),
    (drop("sources", 0, "key_id"), "sources.0", "signature: none"),
    (put("sources", 0, "signature", value="none"), "sources.0", "contradict"),
    (put("sources", 0, "trust", value="friend"), "sources.0.trust", "untrusted"),
    (put("sources", 0, "format", value="xlsx"), "sources.0.format", "parquet"),
    (put("sources", 0, "format", value={"csv": {"delimiter": "\n"}}), "format", "ASCII"),
    (
        put("sources", 0, "format", value={"csv": {"delimiter": "'", "quote": "'"}}),
        "format",
        "differ",
    ),
    (put("sources", 0, "max_rows", value=0), "sources.0.max_rows", "greater than or equal to 1"),
    (put("sources", 0, "max_share_of_batch", value=2), "max_share_of_batch", "less than"),
    (put("reference", "digest", value="abc"), "reference.digest", "sha256:"),
    (put("training", "delta", value=0), "training.delta", "greater than 0"),
    (put("training", "epsilon_per_block", value=0.5), "training", "no run can ever start"),
    (put("training", "num_microbatches", value=1), "training.num_microbatches", "no such field"),
    (put("training", "architecture", value={"kind": "cnn"}), "training.architecture", "linear"),
    (put("gate", "limits", value={}), "gate.limits", "at least 1"),
    (put("gate", "limits", value={"luck": {"min": 1}}), "gate.limits", "accuracy"),
    (put("gate", "limits", value={"f1": {}}), "gate.limits.f1", "min, max or both"),
    (put("gate", "slices", value=[{"name": "a", "column": "amount"}]), "gate.slices", "one_of"),
    (
        put("gate", "slices", value=[{"name": "a", "column": "nope", "min": 1}]),
        "whole file",
        "no column",
    ),
    (
        put("gate", "slices", value=[{"name": "a", "column": "country", "min": 1}]),
        "whole file",
        "number column",
    ),
    (
        put("gate", "slices", value=[{"name": "all", "column": "amount", "min": 1}]),
        "whole file",
        "taken",
    ),
    (put("schedule", value="weekly"), "whole file", "five cron fields"),
    (put("monitoring", value={}), "whole file", "traffic"),
    (put("traffic", value=TRAFFIC | {"predicted_column": "amount"}), "whole file", "must differ"),
    (put("traffic", value={**TRAFFIC, "labels": {"uri": "l"}}), "traffic.labels.uri", "day"),
    (
        also(
            put("traffic", value=TRAFFIC), put("feedback", value={"uri": "{week}", "source": "x"})
        ),
        "whole file",
        "one of the sources",
    ),
    (
        also(
            put("traffic", value=TRAFFIC),
            put("feedback", value={"uri": "{week}", "source": "bank"}),
        ),
        "whole file",
        "untrusted",
    ),
    (
        also(
            put("traffic", value=TRAFFIC),
            put("sources", value=[*GOOD["sources"], USERS | {"on_refusal": "stop"}]),
            put("feedback", value={"uri": "{week}", "source": "users"}),
        ),
        "whole file",
        "on_refusal: leave_out",
    ),
    (
        also(
            put("traffic", value=TRAFFIC),
            put("monitoring", value={"metrics": ["f1"]}),
            drop("label", "positive"),
        ),
        "whole file",
        "label.positive",
    ),
    (
        also(put("traffic", value=TRAFFIC), put("monitoring", value={"schedule": "daily"})),
        "monitoring.schedule",
        "pattern",
    ),
]


@pytest.mark.parametrize(("mistake", "field", "allowed"), MISTAKES)
def test_a_mistake_names_the_file_the_field_and_what_is_allowed(
    tmp_path: Path, mistake: Callable[[dict[str, Any]], None], field: str, allowed: str
) -> None:
    spec = copy.deepcopy(GOOD)
    mistake(spec)
    path = tmp_path / "fraud.yaml"
    path.write_text(yaml.safe_dump(spec))
    with pytest.raises(SpecError) as seen:
        load_spec(path)
    assert str(seen.value).startswith(f"{path}: ")
    assert field in str(seen.value) and allowed in str(seen.value)


def test_the_good_file_is_good(tmp_path: Path) -> None:
    path = tmp_path / "fraud.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    assert load_spec(path).columns == ("id", "amount", "country", "label")


def test_every_mistake_is_said_at_once(tmp_path: Path) -> None:
    spec = copy.deepcopy(GOOD)
    del spec["owner"]
    spec["training"]["epochs"] = -1
    with pytest.raises(SpecError, match=r"(?s)owner.*\n.*epochs"):
        parse_spec(spec, origin="fraud.yaml")


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fraud.yaml"
    path.write_text(yaml.safe_dump(GOOD) + "\nowner: somebody else\n")
    with pytest.raises(SpecError, match="'owner' stands twice"):
        load_spec(path)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "", "!!python/object/apply:os.getcwd []"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fraud.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"fraud\.yaml"):
        load_spec(path)


def test_a_file_is_named_after_its_model(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    with pytest.raises(SpecError, match="file's own name"):
        load_spec(path)


def test_precision_needs_a_positive_class() -> None:
    spec = copy.deepcopy(GOOD)
    del spec["label"]["positive"]
    spec["gate"]["compared"] = ["recall"]
    with pytest.raises(SpecError, match=r"recall.*need label\.positive"):
        parse_spec(spec, origin="x")


def test_numbers_as_class_names_are_text() -> None:
    spec = copy.deepcopy(GOOD)
    spec["label"] = {"column": "label", "classes": [0, 1]}
    assert parse_spec(spec, origin="x").label.classes == ("0", "1")


def test_a_pinned_spec_reads_back_as_it_was() -> None:
    spec = parse_spec(copy.deepcopy(GOOD), origin="x")
    again = parse_spec(json.loads(spec.to_json()), origin="store")
    assert again == spec and Digest.of(again.to_json()) == Digest.of(spec.to_json())


def test_a_spec_cannot_be_changed_by_accident() -> None:
    spec = parse_spec(copy.deepcopy(GOOD), origin="x")
    with pytest.raises(ValueError, match="frozen"):
        spec.owner = "me"  # type: ignore[misc]


@pytest.mark.parametrize("path", find_specs(SHIPPED), ids=lambda path: path.stem)
def test_the_shipped_pipelines_are_right(path: Path) -> None:
    assert isinstance(load_spec(path), PipelineSpec)
