"""A batch that we hand over ourselves is whole, or not there."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from retraining.errors import ConfigError, StoreUnreachableError
from retraining.store import MANIFEST_NAME, file_name, open_inbox, open_outbox, outbox
from tests.fixtures.s3 import MeddlingProxy, S3Server

MANIFEST = b'{"payload": "signed"}'


@dataclass(frozen=True)
class Files:
    """Content on disk, as a step has it."""

    folder: Path

    def __call__(self, **contents: bytes) -> dict[str, Path]:
        files = {}
        for number, (name, content) in enumerate(sorted(contents.items())):
            files[f"{name}.parquet"] = self.folder / f"content-{number}-{len(content)}"
            files[f"{name}.parquet"].write_bytes(content)
        return files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def read(uri: str) -> tuple[dict[str, bytes], bytes | None]:
    inbox = open_inbox(uri)
    return {f.name: b"".join(inbox.stream(f.name)) for f in inbox.files()}, inbox.manifest()


def names(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


class OutboxContract:
    """Subclasses provide the fixture `place`, which need not exist."""

    def test_a_batch_arrives_as_a_provider_would_deliver_it(self, place: str, files: Files) -> None:
        open_outbox(f"{place}/2026-W07").deliver(files(a=b"one", b=b"two"), MANIFEST)
        assert read(f"{place}/2026-W07") == ({"a.parquet": b"one", "b.parquet": b"two"}, MANIFEST)

    def test_the_same_again_changes_nothing(self, place: str, files: Files) -> None:
        for _ in range(2):
            open_outbox(f"{place}/2026-W07").deliver(files(a=b"one"), MANIFEST)
        assert read(f"{place}/2026-W07") == ({"a.parquet": b"one"}, MANIFEST)

    def test_a_place_may_be_a_single_file(self, place: str, files: Files) -> None:
        uri = f"{place}/2026-W07.parquet"
        assert file_name(uri, "other.parquet") == "2026-W07.parquet"
        (content,) = files(x=b"one").values()
        open_outbox(uri).deliver({"2026-W07.parquet": content}, MANIFEST)
        assert read(uri) == ({"2026-W07.parquet": b"one"}, MANIFEST)

    def test_large_files_arrive_whole(self, place: str, files: Files) -> None:
        content = os.urandom(1 << 20) * 20
        open_outbox(f"{place}/w").deliver(files(a=content), MANIFEST)
        assert read(f"{place}/w") == ({"a.parquet": content}, MANIFEST)


class TestDirectory(OutboxContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        return str(tmp_path / "inbox" / "source")

    def test_nothing_but_the_batch_is_left(self, place: str, files: Files) -> None:
        open_outbox(f"{place}/w").deliver(files(a=b"one"), MANIFEST)
        open_outbox(f"{place}/w").deliver(files(a=b"one"), MANIFEST)
        assert names(place) == ["w"]

    @pytest.mark.parametrize("n_flushes", range(2))
    def test_whoever_looks_sees_all_or_nothing(
        self, place: str, files: Files, monkeypatch: pytest.MonkeyPatch, n_flushes: int
    ) -> None:
        """Stopped anywhere before the rename, and after it."""
        monkeypatch.setattr(outbox, "_flush", _stops_after(n_flushes))
        with pytest.raises(StoreUnreachableError):
            open_outbox(f"{place}/w").deliver(files(a=b"one", b=b"two"), MANIFEST)

        if n_flushes == 0:
            assert not Path(place, "w").exists()
        else:
            assert names(f"{place}/w") == ["a.parquet", "b.parquet", MANIFEST_NAME]

    def test_in_a_folder_that_is_there_the_manifest_comes_last(
        self, place: str, files: Files, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = Path(place, "w")
        folder.mkdir(parents=True)
        (folder / "b.parquet").write_bytes(b"an older half")
        seen = []
        real = Path.replace
        monkeypatch.setattr(
            Path, "replace", lambda s, t: (seen.append(names(folder)), real(s, t))[1]
        )

        open_outbox(folder).deliver(files(a=b"one", b=b"two"), MANIFEST)

        # No name of a file in the making is ever among those of the batch.
        assert seen == [["b.parquet"], ["a.parquet", "b.parquet"], ["a.parquet", "b.parquet"]]
        assert read(str(folder)) == ({"a.parquet": b"one", "b.parquet": b"two"}, MANIFEST)

    def test_a_link_in_the_place_of_the_week_is_not_followed(
        self, place: str, files: Files, tmp_path: Path
    ) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "precious").write_bytes(b"1")
        Path(place).mkdir(parents=True)
        Path(place, "w").symlink_to(elsewhere)

        with pytest.raises(ConfigError, match="cannot be written"):
            open_outbox(f"{place}/w").deliver(files(a=b"one"), MANIFEST)
        assert names(elsewhere) == ["precious"]

    def test_a_file_in_the_place_of_the_folder_is_a_mistake_in_the_setup(
        self, place: str, files: Files
    ) -> None:
        Path(place).mkdir(parents=True)
        Path(place, "w").write_bytes(b"")
        with pytest.raises(ConfigError, match="cannot be written"):
            open_outbox(f"{place}/w").deliver(files(a=b"one"), MANIFEST)

    def test_one_file_cannot_hold_a_batch_of_two(self, place: str, files: Files) -> None:
        with pytest.raises((ConfigError, ValueError)):
            open_outbox(f"{place}/w.parquet").deliver(files(a=b"one", b=b"two"), MANIFEST)


@pytest.mark.s3
class TestS3(OutboxContract):
    @pytest.fixture
    def place(self, s3_server: S3Server) -> str:
        return f"s3://{s3_server.new_bucket()}/inbox/source"

    def test_the_manifest_comes_last(
        self, place: str, files: Files, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        box: Any = open_outbox(f"{place}/w")
        put, written = box._client.put_object, []
        monkeypatch.setattr(
            box._client,
            "put_object",
            lambda **request: (written.append(request["Key"]), put(**request))[1],
        )

        box.deliver(files(a=b"one", b=b"two"), MANIFEST)

        names = [key.rpartition("/")[2] for key in written]
        assert names == ["a.parquet", "b.parquet", MANIFEST_NAME]

    def test_a_missing_bucket_is_named(self, s3_server: S3Server, files: Files) -> None:
        with pytest.raises(ConfigError, match="NoSuchBucket"):
            open_outbox("s3://no-such-bucket/w").deliver(files(a=b"one"), MANIFEST)

    def test_a_server_that_is_down_is_worth_another_try(
        self, place: str, files: Files, meddling_proxy: MeddlingProxy
    ) -> None:
        meddling_proxy.always_answers = 503
        with pytest.raises(StoreUnreachableError):
            open_outbox(f"{place}/w").deliver(files(a=b"one"), MANIFEST)


def _stops_after(n_calls: int) -> Callable[[Path], None]:
    left = n_calls

    def flush(_folder: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(5, "Input/output error")

    return flush
