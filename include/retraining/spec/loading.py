"""Reads pipeline files, and says of each mistake the field, what was found and what is allowed."""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from retraining.errors import SpecError
from retraining.spec.pipeline import PipelineSpec


def load_spec(path: Path) -> PipelineSpec:
    """Read and check one pipeline file.

    Raises:
        SpecError: With the file, and for each mistake the field, what was found and what is
            allowed. A file's name must be its model's name.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read ({error}).") from error
    try:
        raw = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - derives from SafeLoader
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    spec = parse_spec(raw, origin=str(path))
    if spec.model != path.stem:
        raise SpecError(
            f"{path}: model: found {spec.model!r}, allowed is the file's own name,"
            f" {path.stem!r}. Rename one of the two."
        )
    return spec


def parse_spec(raw: Any, *, origin: str) -> PipelineSpec:
    """Check an already parsed file; `origin` names it in messages. Raises SpecError."""
    try:
        return PipelineSpec.model_validate(raw)
    except ValidationError as error:
        lines = [_describe(item) for item in error.errors()[:20]]
        raise SpecError(f"{origin}: " + f"\n{origin}: ".join(lines)) from error


def find_specs(folder: Path) -> list[Path]:
    """Pipeline files in `folder`, sorted by name."""
    return sorted(p for p in folder.glob("*.yaml") if p.is_file())


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, which YAML itself would silently drop."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _describe(item: Any) -> str:
    field = ".".join(str(part) for part in item["loc"]) or "(whole file)"
    kind, found = item["type"], item.get("input")
    if kind == "missing":
        return f"{field}: found nothing, this field is required"
    if kind == "extra_forbidden":
        return f"{field}: no such field here; look for a misspelling or a wrong indentation"
    message = re.sub(r"^(Value error|Input) ?,? ?", "", item["msg"])
    shown = "" if isinstance(found, dict | list | BaseModel) else f"found {found!r}, "
    return f"{field}: {shown}allowed: {message}" if shown else f"{field}: {message}"
