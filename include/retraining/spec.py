"""What a pipeline file may say: `pipelines/<model>.yaml`, the only thing that most users write.

Frozen pydantic models with units in the names. Everything that a step reads stands here and
nothing else does; a misspelt field is refused, with the file, the field, what was found and
what is allowed.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from retraining.digests import Digest, canonical_json
from retraining.errors import SpecError

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Column = Annotated[str, Field(min_length=1, max_length=200)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


# --- rows -----------------------------------------------------------------------------------


class LabelSpec(_Frozen):
    """The column that holds the truth, and the classes it may name."""

    column: Column
    classes: tuple[str, ...] = Field(min_length=2, max_length=1000)
    positive: str | None = Field(
        default=None, description="Class that precision, recall, F1 and AUC are about (2 classes)."
    )

    @field_validator("classes", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        # YAML reads 0 and 1 as numbers; class names are text everywhere else.
        return [str(item) for item in value] if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must differ from one another")
        if self.positive is not None and self.positive not in self.classes:
            raise ValueError(f"positive must be one of {list(self.classes)}")
        if self.positive is not None and len(self.classes) != 2:
            raise ValueError("positive is for two classes; leave it out for more")
        return self


class NumberFeature(_Frozen):
    """A number between declared bounds, both inclusive, in the unit of the data."""

    kind: Literal["number"]
    name: Column
    min: float
    max: float
    scale: Literal["linear", "log"] = Field(
        default="linear", description="log: log(1 + x - min), for counts and amounts."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.min < self.max:
            raise ValueError(f"min must be below max, found {self.min:g} and {self.max:g}")
        return self


class CategoryFeature(_Frozen):
    """One of a declared list of values."""

    kind: Literal["category"]
    name: Column
    categories: tuple[str, ...] = Field(min_length=2, max_length=1000)

    @field_validator("categories", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return [str(item) for item in value] if isinstance(value, list | tuple) else value


class ImageFeature(_Frozen):
    """A binary column of height x width x channels bytes, row by row, channel last."""

    kind: Literal["image"]
    name: Column
    height: int = Field(ge=1, le=512)
    width: int = Field(ge=1, le=512)
    channels: int = Field(default=1, ge=1, le=4)
    max_value: int = Field(default=255, ge=1, le=255)

    @property
    def n_bytes(self) -> int:
        """Length of one value, in bytes."""
        return self.height * self.width * self.channels


Feature = Annotated[NumberFeature | CategoryFeature | ImageFeature, Field(discriminator="kind")]


# --- where rows come from -------------------------------------------------------------------


class CsvDialect(_Frozen):
    """How a source writes CSV; nothing is guessed."""

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    quote: str = Field(default='"', min_length=1, max_length=1)
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    decimal: Literal[".", ","] = "."

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, mark in (("delimiter", self.delimiter), ("quote", self.quote)):
            if not (mark == "\t" or (mark.isascii() and mark.isprintable() and mark != " ")):
                raise ValueError(f"{name} must be a tab or a printable ASCII character")
        if self.delimiter == self.quote:
            raise ValueError("delimiter and quote must differ")
        return self


class CsvFormat(_Frozen):
    """`format: {csv: {…}}`."""

    csv: CsvDialect


Format = Literal["parquet"] | CsvFormat


def _csv_shorthand(value: Any) -> Any:
    return {"csv": {}} if value == "csv" else value


FileFormat = Annotated[
    Format,
    BeforeValidator(_csv_shorthand, json_schema_input_type=Literal["parquet", "csv"] | CsvFormat),
]


class SourceSpec(_Frozen):
    """A place that rows come from, with an owner's key, a trust tier and limits."""

    name: Name
    uri: str = Field(description="Folder or file per week: path or s3://, with {week} in it.")
    format: FileFormat = "parquet"
    trust: Literal["trusted", "known", "untrusted"]
    key_id: str | None = Field(default=None, description="The provider's key in the trust list.")
    signature: Literal["required", "none"] = "required"
    on_refusal: Literal["stop", "leave_out"] = "leave_out"
    max_bytes: int = Field(default=1_000_000_000, ge=1)
    max_rows: int = Field(default=1_000_000, ge=1)
    min_rows: int = Field(default=1, ge=1)
    max_share_of_batch: Fraction = 1.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "{week}" not in self.uri:
            raise ValueError("uri must contain {week}, so that each week has files of its own")
        if self.signature == "required" and self.key_id is None:
            raise ValueError(
                "key_id is missing; a source that cannot sign is declared so: signature: none"
            )
        if self.signature == "none" and self.key_id is not None:
            raise ValueError("signature: none and a key_id contradict each other; keep one")
        if self.min_rows > self.max_rows:
            raise ValueError("min_rows must not exceed max_rows")
        return self


class PinnedData(_Frozen):
    """A vetted file, pinned by the digest of all its bytes."""

    uri: str
    format: FileFormat = "parquet"
    digest: Digest


# --- what the steps do ----------------------------------------------------------------------


class ScreeningPolicy(_Frozen):
    """How rows are judged, and how much suspicion a batch may carry."""

    trusted_flag_rate: float = Field(
        default=0.005,
        gt=0,
        le=0.1,
        description="Share of trusted rows that each score may flag: sets its threshold.",
    )
    max_quarantined_share_per_source: Fraction = Field(
        default=0.10, description="Above it a source is refused for the week."
    )
    max_quarantined_share: Fraction = Field(
        default=0.10, description="Above it the whole week is refused."
    )
    min_rows: int = Field(default=100, ge=1, description="Accepted new rows that a run needs.")


class LinearArchitecture(_Frozen):
    """Softmax regression."""

    kind: Literal["linear"]


class MlpArchitecture(_Frozen):
    """Dense layers with one activation, then softmax."""

    kind: Literal["mlp"]
    hidden_units: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        min_length=1, max_length=4
    )
    activation: Literal["tanh", "relu"] = "tanh"


Architecture = Annotated[LinearArchitecture | MlpArchitecture, Field(discriminator="kind")]


class TrainingPolicy(_Frozen):
    """Differentially private training of the challenger: what it may spend, and how it learns.

    The claim: (epsilon, delta)-DP of the trained weights for adding or removing one accepted
    row, with Poisson sampling. Screening and the gate look at the rows too; they stand outside.
    """

    architecture: Architecture
    epsilon_per_run: float = Field(gt=0, le=100)
    epsilon_per_block: float = Field(
        gt=0, le=1000, description="All runs together, on the rows of any one weekly batch."
    )
    delta: float = Field(gt=0, lt=0.01, description="Keep it below 1 / rows.")
    window_weeks: int = Field(default=8, ge=1, le=520)
    l2_clip_norm: float = Field(default=1.0, gt=0, le=10_000)
    expected_batch_rows: int = Field(ge=1)
    epochs: float = Field(gt=0, le=10_000)
    learning_rate: float = Field(gt=0, le=100)
    optimizer: Literal["sgd", "adam"] = "adam"
    limit_seconds: int = Field(default=3600, ge=10)
    limit_memory_mib: int = Field(
        default=8192, ge=2048, description="Address space; TensorFlow alone takes 1,700."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.epsilon_per_block < self.epsilon_per_run:
            raise ValueError(
                f"epsilon_per_block ({self.epsilon_per_block:g}) must be at least"
                f" epsilon_per_run ({self.epsilon_per_run:g}), or no run can ever start"
            )
        return self


Metric = Literal[
    "accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc", "calibration_error"
]


class Slice(_Frozen):
    """A named part of the holdout, chosen by one column: a range or a list of values."""

    name: Name
    column: Column
    min: float | None = None
    max: float | None = None
    one_of: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        ranged = self.min is not None or self.max is not None
        if ranged == (self.one_of is not None):
            raise ValueError("a slice has either one_of, or min and/or max")
        return self


class Limit(_Frozen):
    """An absolute limit on a metric of the challenger."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a limit has min, max or both")
        return self


class GatePolicy(_Frozen):
    """What the gate allows. Its digest is on record before training starts."""

    compared: tuple[Metric, ...] = Field(default=("accuracy",), min_length=1)
    margin: Fraction = Field(
        default=0.02, description="REJECT: surely worse than the champion, by more than this."
    )
    harm: Fraction = Field(
        default=0.05, description="HOLD: a loss larger than this cannot be excluded."
    )
    limits: Mapping[Metric, Limit] = Field(min_length=1)
    min_holdout_rows: int = Field(default=200, ge=1)
    min_slice_rows: int = Field(default=50, ge=1)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    bootstrap_resamples: int = Field(default=2000, ge=200, le=100_000)
    slices: tuple[Slice, ...] = ()


class NotifierSpec(_Frozen):
    """An Airflow notifier: its import path and its arguments."""

    notifier: str = Field(pattern=r"^[A-Za-z_][\w.]*\.[A-Za-z_]\w*$")
    arguments: Mapping[str, Any] = Field(default_factory=dict)


class NotificationPolicy(_Frozen):
    """Who hears of a red gate, and of a task that broke."""

    on_refused_gate: tuple[NotifierSpec, ...] = ()
    on_failed_task: tuple[NotifierSpec, ...] = ()


# --- the whole file -------------------------------------------------------------------------


class PipelineSpec(_Frozen):
    """One model's pipeline, as its owner wrote it."""

    model: Name
    description: str = Field(min_length=1)
    owner: str = Field(min_length=1)
    schedule: str | None = Field(default=None, description="Cron; null: started by hand only.")
    schema_version: int = Field(default=1, ge=1)
    label: LabelSpec
    row_id: Column
    event_time: Column | None = None
    features: tuple[Feature, ...] = Field(min_length=1)
    sources: tuple[SourceSpec, ...] = Field(min_length=1)
    reference: PinnedData
    holdout: PinnedData
    screening: ScreeningPolicy = ScreeningPolicy()
    training: TrainingPolicy
    gate: GatePolicy
    notifications: NotificationPolicy = NotificationPolicy()

    @model_validator(mode="after")
    def _check(self) -> Self:
        columns = [f.name for f in self.features] + [self.label.column, self.row_id]
        columns += [self.event_time] if self.event_time else []
        if repeated := sorted({c for c in columns if columns.count(c) > 1}):
            raise ValueError(f"a column may have one role only, found more for {repeated}")
        names = [source.name for source in self.sources]
        if repeated := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"source names must differ, found twice: {repeated}")
        if self.label.positive is None:
            needy = {"precision", "recall", "f1", "auc"} & {*self.gate.compared, *self.gate.limits}
            if needy:
                raise ValueError(
                    f"gate: {sorted(needy)} need label.positive; with more than two classes use"
                    " accuracy or balanced_accuracy"
                )
        if any(f.kind == "image" for f in self.features) and any(
            source.format != "parquet" for source in self.sources
        ):
            raise ValueError("image features need format: parquet for every source")
        self._check_slices(set(columns))
        if self.schedule is not None and len(self.schedule.split()) != 5:
            raise ValueError(f"schedule: expected five cron fields, found {self.schedule!r}")
        return self

    def _check_slices(self, known: set[str]) -> None:
        numbers = {feature.name for feature in self.features if feature.kind == "number"}
        names = ["all", *(part.name for part in self.gate.slices)]
        for part in self.gate.slices:
            if part.column not in known:
                raise ValueError(f"gate.slices: {part.name} names no column of this pipeline")
            if part.one_of is None and part.column not in numbers:
                raise ValueError(f"gate.slices: {part.name}: min and max need a number column")
            if names.count(part.name) > 1:
                raise ValueError(f"gate.slices: {part.name} is taken; names must differ")

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that a batch has to have, in a fixed order."""
        times = (self.event_time,) if self.event_time else ()
        return (self.row_id, *times, *(f.name for f in self.features), self.label.column)

    def source(self, name: str) -> SourceSpec:
        """The source of that name; raises SpecError when there is none."""
        for source in self.sources:
            if source.name == name:
                return source
        raise SpecError(
            f"{self.model} has no source {name!r}; it has {[s.name for s in self.sources]}."
        )

    def policy(self) -> dict[str, Any]:
        """Everything that decides a verdict; its digest is on record before training starts."""
        return self.model_dump(mode="json", include={"screening", "training", "gate"})

    def to_json(self) -> bytes:
        """The resolved spec, as canonical JSON: what a run pins and every later task reads."""
        return canonical_json(self.model_dump(mode="json"))


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
