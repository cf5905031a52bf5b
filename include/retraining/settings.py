"""Where this installation keeps things: environment variables with the prefix RETRAINING_.

Read once, at the start of a command or a task, and passed down as an argument.
"""

from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from retraining.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]


class Settings(BaseSettings):
    """Paths and addresses of one installation.

    Attributes:
        home: The workspace; relative source paths start here.
        store: Directory, or `s3://bucket/prefix`.
        store_connection: Airflow connection with the S3 credentials; empty: the AWS chain.
        pipelines: Folder of pipeline files.
        keys: Folder with this machine's private keys, `<role>.pem`.
        key_uris: Role to `key_id=uri` for keys in a KMS or HSM, as JSON.
        root_key: The root's public key; everything is verified against it.
        memory: Where the highest registry head that this machine has seen is remembered,
            outside the store, so that a shortened registry is noticed.
        trainer_python: Interpreter of the trainer's environment.
        mlflow_tracking_uri: Server of the mirror; empty: no mirror.
    """

    model_config = SettingsConfigDict(env_prefix="RETRAINING_", frozen=True, extra="ignore")

    home: Path = Path("workspace")
    store: str = ""
    store_connection: str = ""
    pipelines: Path = Path()
    keys: Path = Path()
    key_uris: dict[str, str] = Field(default_factory=dict)
    root_key: Path = Path()
    memory: Path = Path()
    trainer_python: Path = REPOSITORY / ".venv-trainer" / "bin" / "python"
    mlflow_tracking_uri: str = Field(default="", validation_alias="MLFLOW_TRACKING_URI")

    @classmethod
    def load(cls, home: Path | None = None) -> Self:
        """Read the environment; `home` wins over RETRAINING_HOME. Raises ConfigError."""
        try:
            found = cls() if home is None else cls(home=home)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(
                f"RETRAINING_{str(first['loc'][0]).upper()}: {first['msg']}."
            ) from error
        base = found.home.expanduser().resolve()
        own = base / "pipelines"
        shipped = REPOSITORY / "include" / "pipelines"
        defaults = {
            "home": base,
            "store": found.store or str(base / "store"),
            "pipelines": _or(found.pipelines, own if own.is_dir() else shipped),
            "keys": _or(found.keys, base / "keys"),
            "root_key": _or(found.root_key, base / "keys" / "root.pub.json"),
            # Not resolved: the python of an environment is a link, and says by its place which.
            "trainer_python": found.trainer_python.expanduser().absolute(),
            "memory": _or(found.memory, base / "memory"),
        }
        return found.model_copy(update=defaults)

    def resolve(self, uri: str) -> str:
        """A uri of a pipeline file: relative paths start at the workspace."""
        return uri if "://" in uri else str(self.home / uri)


def _or(path: Path, default: Path) -> Path:
    return default if path == Path() else path.expanduser().resolve()
