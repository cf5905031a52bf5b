"""The checks of the weekly chain: bad input, forgers, tamperers."""

from tests.mutants.mutant import Mutant

BAD_INPUT = "tests/retraining/test_bad_input.py"
FORGER = "tests/attacks/test_forger_and_replayer.py"
TAMPERER = "tests/attacks/test_tamperer_of_the_store.py"
REGISTRY = "tests/retraining/test_registry.py"
EVIDENCE = "tests/retraining/test_evidence.py"
RECORDING = "tests/retraining/test_recording.py"


def _bad_input(
    check: str, file: str, old: str, new: str, case: str, *too: tuple[str, str, str]
) -> Mutant:
    return Mutant(check, file, old, new, BAD_INPUT, case, too)


_PROVENANCE = "provenance.py"
_PARQUET = "parsing/parquet_reader.py"
_CSV = "parsing/csv_reader.py"
_VALUES = "parsing/values.py"

WEEKLY = (
    # --- bad input: delivery ----------------------------------------------------------------
    _bad_input(
        "files without bytes",
        "ingest.py",
        "if file.size == 0]",
        "if file.size < 0]",
        "file_without_bytes or (a and file and without)",
    ),
    _bad_input(
        "file suffix",
        "ingest.py",
        "if not file.name.lower().endswith(suffix)]",
        "if False]",
        "another and format",
    ),
    _bad_input(
        "max_bytes",
        "ingest.py",
        "> source.max_bytes:",
        "> 10**18:",
        "too and many and bytes",
        ("ingest.py", "max_bytes=left)", "max_bytes=10**18)"),
    ),
    _bad_input(
        "links in a delivery",
        "store/inbox.py",
        "status = entry.stat(follow_symlinks=False)",
        "status = entry.stat(follow_symlinks=True)",
        "link and to and file",
        ("store/inbox.py", "os.O_RDONLY | os.O_NOFOLLOW | ", "os.O_RDONLY | "),
    ),
    _bad_input(
        "printable names",
        "store/inbox.py",
        "if name.isprintable() and ",
        "if ",
        "name and line and break",
    ),
    _bad_input(
        "manifest is there",
        _PROVENANCE,
        "            if signs:\n",
        "            if signs and manifest is not None:\n",
        "no and manifest",
    ),
    _bad_input(
        "manifest's key",
        _PROVENANCE,
        'roles=["provider"], key_id=key_id\n',
        'roles=["provider"]\n',
        "wrong and key",
    ),
    _bad_input(
        "a key twice in JSON",
        "digests.py",
        "    if len(found) != len(pairs):\n",
        "    if False:\n",
        "manifest and twice",
    ),
    _bad_input(
        "sequence is a number",
        _PROVENANCE,
        "    if type(sequence) is not int or not 0 < sequence < 2**63:",
        "    if False:",
        "sequence and no and number",
    ),
    _bad_input(
        "batch's week", _PROVENANCE, "manifest.week != batch.week", "False", "another and week"
    ),
    _bad_input(
        "batch's source",
        _PROVENANCE,
        "manifest.dataset != batch.source",
        "False",
        "another and source",
    ),
    _bad_input(
        "extra files",
        _PROVENANCE,
        "sorted(arrived.keys() - signed.keys())",
        "[]",
        "extra and file",
    ),
    _bad_input(
        "missing files",
        _PROVENANCE,
        "sorted(signed.keys() - arrived.keys())",
        "[]",
        "missing and file",
    ),
    _bad_input(
        "changed files",
        _PROVENANCE,
        "if arrived[n] != signed[n]\n",
        "if False\n",
        "changed and after and signing",
    ),
    _bad_input(
        "growing sequence", _PROVENANCE, "if again or behind:", "if False:", "replayed and sequence"
    ),
    _bad_input(
        "rows sold twice",
        _PROVENANCE,
        "if used and known.batch.week != batch.week:",
        "if False:",
        "files and again",
    ),
    # --- bad input: structure ---------------------------------------------------------------
    _bad_input(
        "batch without rows",
        "parsing/child.py",
        "    if n_rows == 0:\n",
        "    if False:\n",
        "no and rows and not CSV",
    ),
    _bad_input(
        "declared columns",
        "parsing/refusals.py",
        "    if not missing and not extra:\n",
        "    if not missing or not extra:\n",
        "missing and column",
    ),
    _bad_input(
        "columns once",
        "parsing/refusals.py",
        "if counts[name] > 1]",
        "if False]",
        "column and twice and not CSV",
    ),
    _bad_input("column types", _PARQUET, "    if wrong:\n", "    if False:\n", "booleans"),
    _bad_input("nested types", _PARQUET, "if pa.types.is_nested(kind)]", "if False]", "nested"),
    _bad_input(
        "text is UTF-8",
        "parsing/refusals.py",
        "            column.validate(full=True)\n",
        "            pass\n",
        "text and UTF",
    ),
    _bad_input(
        "unpacked size",
        _PARQUET,
        "if stated > (allowed := n_rows * row_bytes + overhead):",
        "if (allowed := n_rows * row_bytes + overhead) < 0:",
        "zip and bomb",
    ),
    _bad_input(
        "rows in the footer",
        _PARQUET,
        "    if max(n_rows, metadata.num_rows) > rows_left:\n        refuse_rows(file)\n",
        "    rows_left = max(n_rows, metadata.num_rows)\n",
        "too and many and rows and not CSV",
        ("parsing/child.py", "if n_rows > rows_left:  # whatever", "if False:  # whatever"),
    ),
    _bad_input(
        "rows of CSV",
        _CSV,
        "    if n_lines > rows_left:\n        refuse_rows(file)\n",
        "    rows_left = n_lines\n",
        "too and many and rows and CSV",
        ("parsing/child.py", "if n_rows > rows_left:  # whatever", "if False:  # whatever"),
    ),
    _bad_input("NUL bytes", _CSV, 'if b"\\0" in line:', "if False:", "NUL"),
    _bad_input(
        "encoding of CSV",
        _CSV,
        'refuse_line("encoding", file, number, f"is not {encoding}")',
        "pass",
        "another and encoding",
    ),
    _bad_input("line ends", _CSV, 'if b"\\r" in content:', "if False:", "carriage"),
    _bad_input(
        "length of a line",
        _CSV,
        "if len(line) > _MAX_LINE_BYTES:",
        "if False:",
        "line and without and end",
    ),
    _bad_input("quotes left open", _CSV, "    if n_rows != n_lines:\n", "    if False:\n", "quote"),
    _bad_input(
        "ragged lines",
        "parsing/refusals.py",
        'f"has {got} fields, expected {expected}")',
        'f"has {got} fields, expected {expected}") if False else None',
        "one and field and too",
    ),
    # --- bad input: values ------------------------------------------------------------------
    _bad_input(
        "missing numbers",
        _VALUES,
        '        (f"missing:{name}", missing),\n        (f"bad_number',
        '        (f"bad_number',
        "empty and field",
    ),
    _bad_input("NaN", _VALUES, '        (f"nan:{name}", nan),\n', "", "NaN and CSV"),
    _bad_input(
        "infinity", _VALUES, '        (f"infinity:{name}", infinite),\n', "", "infinity and not CSV"
    ),
    _bad_input(
        "bounds",
        _VALUES,
        '        (f"out_of_bounds:{name}", _mask(outside) & ~infinite),\n',
        "",
        "out and bounds",
    ),
    _bad_input(
        "text as number",
        _VALUES,
        '        (f"bad_number:{name}", bad),\n',
        "",
        "no and number and not sequence",
    ),
    _bad_input(
        "declared classes",
        _VALUES,
        '("unknown_class", ~known & ~missing)',
        '("unknown_class", known & ~known)',
        "unknown and class",
    ),
    _bad_input("row ids", _VALUES, '("missing_row_id", missing), ', "", "no and row and id"),
    _bad_input(
        "a row id once",
        "parsing/child.py",
        "            repeated[i] = True\n",
        "            pass\n",
        "row and id and twice",
    ),
    # --- attacks: forger and replayer -------------------------------------------------------
    Mutant(
        "a refusal of a needed source stops the week",
        "gate/data_checks.py",
        '.on_refusal == "stop" and batch.week == pinned.week\n',
        '.on_refusal == "never"\n',
        FORGER,
        "holds_the_week",
    ),
    Mutant(
        "roles of keys",
        "evidence/trust.py",
        "if set(roles) & set(trusted.roles) and key_id in (None, name)",
        "if key_id in (None, name)",
        EVIDENCE,
        "name_only or cannot_sign_a_gate",
    ),
    Mutant(
        "names of keys",
        "evidence/trust.py",
        "and key_id in (None, name)",
        "and (key_id is None or True)",
        EVIDENCE,
        "name_only",
    ),
    Mutant(
        "signatures",
        "evidence/envelope.py",
        "VerificationError, ValueError):\n            continue\n",
        "VerificationError, ValueError):\n            return True\n",
        EVIDENCE,
        "altered_envelopes",
    ),
    Mutant(
        "type of a record",
        "evidence/envelope.py",
        '        if body["predicateType"] != predicate_type:\n',
        "        if False:\n",
        EVIDENCE,
        "another_type",
    ),
    Mutant(
        "step of an attestation",
        "evidence/statements.py",
        '            if definition["buildType"] != f"{NAMESPACE}/{step}/v1":\n',
        "            if False:\n",
        EVIDENCE,
        "not_taken_for_another",
    ),
    Mutant(
        "one key, one name",
        "evidence/trust.py",
        "        if other := seen.get(material):\n",
        "        if (other := seen.get(material)) and False:\n",
        EVIDENCE,
        "under_two_names",
    ),
    # --- attacks: registry ------------------------------------------------------------------
    Mutant(
        "gaps in a chain",
        "signed_chain.py",
        "            if name != self._name(number):\n",
        "            if False:\n",
        REGISTRY,
        "deleted_middle",
    ),
    Mutant(
        "links of a chain",
        "signed_chain.py",
        "            if (body.sequence, body.previous) != (number, before):\n",
        "            if False:\n",
        REGISTRY,
        "exchanged_entries",
    ),
    Mutant(
        "model of an entry",
        "signed_chain.py",
        '        if body.model != self._prefix.rpartition("/")[2]:\n',
        "        if False:\n",
        REGISTRY,
        "another_model",
    ),
    Mutant(
        "versions of the trust list grow",
        "signed_chain.py",
        "            if body.trust_version < trust_version:\n",
        "            if False:\n",
        REGISTRY,
        "revoked_key",
    ),
    Mutant(
        "role that writes the registry",
        "signed_chain.py",
        '        role="promoter",\n',
        '        role="pipeline",\n',
        REGISTRY,
        "pipeline_key_cannot",
    ),
    Mutant(
        "memory of the head",
        "registry.py",
        "        if len(links) < number or links[number - 1].digest != ",
        "        if False and links[number - 1].digest != ",
        REGISTRY,
        "shortened_registry or rewritten_last",
    ),
    Mutant(
        "one winner",
        "store/directory.py",
        "os.link(file.name, target)",
        "os.replace(file.name, target)",
        REGISTRY,
        "one_wins",
    ),
    # --- attacks: tamperer of the store -----------------------------------------------------
    Mutant(
        "digest of what is read into memory",
        "store/base.py",
        "    _demand(digest, Digest.from_hex(sha256.hexdigest()))\n",
        "",
        RECORDING,
        "report_that_was_edited",
    ),
    Mutant(
        "digest of what is read into a file",
        "store/base.py",
        "        _demand(digest, found)\n",
        "",
        TAMPERER,
        "changed_after_screening",
    ),
    Mutant(
        "identity of an attestation",
        "recording.py",
        "    if payload_digest(raw) != digest:\n",
        "    if False:\n",
        RECORDING,
        "exchanged",
    ),
    Mutant(
        "a result is reused for its own request only",
        "recording.py",
        "            if result.attestation.request == request and present:\n",
        "            if present:\n",
        RECORDING,
        "points_elsewhere",
    ),
    Mutant(
        "artefacts are hashed again before promotion",
        "verify.py",
        "    (rehash or ArtefactCheck(store))(",
        "    (lambda _digests: None)(",
        TAMPERER,
        "swapped_after_the_gate",
    ),
    Mutant(
        "a decision that says no",
        "steps/concluding.py",
        "    if must_promote and not verified.decision.promotes:\n",
        "    if False:\n",
        TAMPERER,
        "dry_run",
    ),
    Mutant(
        "a decision for this head",
        "verify.py",
        "pinned.run.champion) == (before.head, before.champion),\n",
        "pinned.run.champion) != (),\n",
        TAMPERER,
        "two_promotions",
    ),
    Mutant(
        "a run that is stale is not decided",
        "steps/concluding.py",
        "    if registry.head != pinned.run.registry_head:\n",
        "    if False:\n",
        TAMPERER,
        "before_another_concluded",
    ),
    Mutant(
        "training in the ledger",
        "verify.py",
        "        bool(report.charges) and all(d in position for d in report.charges),\n",
        "        True,\n",
        TAMPERER,
        "delete_the_ledger",
        (
            ("verify.py", "len(own) == len(report.charges)", "True"),
            ("verify.py", "set(report.epsilon_by_block) == set(batches_of(blocks))", "True"),
        ),
    ),
    Mutant(
        "promoted exactly once",
        "steps/concluding.py",
        "    if newest and newest.record.decision == decision and ",
        "    if False and ",
        TAMPERER,
        "used_once",
    ),
)
