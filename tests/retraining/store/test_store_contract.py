"""The contract of a store, on a directory and on moto; tests/radosgw has it on Ceph."""

import pytest

from tests.fixtures.s3 import S3Server
from tests.retraining.store.backends import directory_backend, s3_backend
from tests.retraining.store.contract import Backend, StoreContract


class TestDirectory(StoreContract):
    @pytest.fixture
    def backend(self, tmp_path_factory: pytest.TempPathFactory) -> Backend:
        return directory_backend(tmp_path_factory.mktemp("stores") / "store")


@pytest.mark.s3
class TestMoto(StoreContract):
    @pytest.fixture
    def backend(self, s3_server: S3Server) -> Backend:
        return s3_backend(s3_server, s3_server.new_bucket())
