"""The only package that touches storage: blobs by digest, records by name, batches from outside.

Importing it never loads boto3: `opening` finds the S3 modules by name when an `s3://` address is
opened. So the verifier, and everyone who keeps the store in a directory, needs no boto3.
"""

from retraining.store.base import MAX_BYTES_IN_MEMORY, MAX_RECORD_BYTES, Store
from retraining.store.directory import DirectoryStore
from retraining.store.inbox import MANIFEST_NAME, MANIFEST_SUFFIX, Inbox, InboxFile
from retraining.store.opening import S3ClientFactory, open_inbox, open_outbox, open_store
from retraining.store.outbox import Outbox, file_name

__all__ = [
    "MANIFEST_NAME",
    "MANIFEST_SUFFIX",
    "MAX_BYTES_IN_MEMORY",
    "MAX_RECORD_BYTES",
    "DirectoryStore",
    "Inbox",
    "InboxFile",
    "Outbox",
    "S3ClientFactory",
    "Store",
    "file_name",
    "open_inbox",
    "open_outbox",
    "open_store",
]
