"""Signed records: in-toto Statements in DSSE envelopes. The only package that touches keys.

`envelope` signs and opens, `trust` says whose key may sign what, `keys` finds our own private
keys, `statements` knows the predicates and reads an attestation of a step back.
"""

from securesystemslib.signer import Key, Signer

from retraining.evidence.envelope import OpenedRecord, Statement, payload_digest, sign
from retraining.evidence.keys import (
    SigningKeys,
    create_key,
    public_key_of,
    signer_from_file,
    trusted_signer,
)
from retraining.evidence.statements import (
    APPROVAL_ENTRY,
    DATASET_BATCH,
    EVALUATION,
    FEEDBACK_ENTRY,
    INCIDENT_ENTRY,
    LEDGER_ENTRY,
    MONITORING_ENTRY,
    REGISTRY_ENTRY,
    REVIEW_ENTRY,
    SLSA_PROVENANCE,
    TRUST_LIST,
    VERIFICATION_SUMMARY,
    Attestation,
    Moment,
    attest,
    read_attestation,
    role_of,
)
from retraining.evidence.trust import Role, TrustedKey, TrustList, sign_trust_list

__all__ = [
    "APPROVAL_ENTRY",
    "DATASET_BATCH",
    "EVALUATION",
    "FEEDBACK_ENTRY",
    "INCIDENT_ENTRY",
    "LEDGER_ENTRY",
    "MONITORING_ENTRY",
    "REGISTRY_ENTRY",
    "REVIEW_ENTRY",
    "SLSA_PROVENANCE",
    "TRUST_LIST",
    "VERIFICATION_SUMMARY",
    "Attestation",
    "Key",
    "Moment",
    "OpenedRecord",
    "Role",
    "Signer",
    "SigningKeys",
    "Statement",
    "TrustList",
    "TrustedKey",
    "attest",
    "create_key",
    "payload_digest",
    "public_key_of",
    "read_attestation",
    "role_of",
    "sign",
    "sign_trust_list",
    "signer_from_file",
    "trusted_signer",
]
