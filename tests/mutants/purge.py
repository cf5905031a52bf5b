"""The checks on what is taken out after a refusal, and on the challenger that comes of it."""

from tests.mutants.mutant import Mutant

PLAN = "tests/retraining/test_purge.py"
ROUNDS = "tests/retraining/test_purge_rounds.py"
PAGE = "tests/retraining/gate_report/test_page.py"
_PURGE = "purge.py"
_GATE = "gate/__init__.py"
_CHALLENGERS = "verify/challengers.py"

PURGE = (
    # --- what is taken out ------------------------------------------------------------------
    Mutant(
        "a source needs most of what was traced",
        _PURGE,
        "counts[source] >= _MOST * n_found",
        "True",
        PLAN,
        "no_more_than_its_part",
    ),
    Mutant(
        "and more than its size explains",
        _PURGE,
        " and by_chance <= _CHANCE:",
        ":",
        PLAN,
        "no_more_than_its_part",
    ),
    Mutant(
        "the history of a source stays",
        _PURGE,
        "        if batch in new and batch.source in sources:\n",
        "        if batch.source in sources:\n",
        PLAN,
        "its_history_stays",
    ),
    Mutant(
        "ids count where they were traced to",
        _PURGE,
        "        if batch in batches and names:\n",
        "        if names:\n",
        PLAN,
        "nowhere_else",
    ),
    Mutant(
        "trusted rows explain carriers",
        _PURGE,
        "max(1 - rate * n_rows / n_found, 0.0)",
        "1.0",
        PLAN,
        "precision_falls",
    ),
    # --- when, and at which price -----------------------------------------------------------
    Mutant(
        "who purges",
        "evidence/statements.py",
        '("validation", "purge", "gate", "promotion")',
        '("validation", "gate", "promotion")',
        ROUNDS,
        "pipelines_key",
    ),
    Mutant(
        "a purge needs a refusal",
        _GATE,
        "        or not traced <= {result.name for result in refused}\n",
        "",
        ROUNDS,
        "nobody_refused",
    ),
    Mutant(
        "an offer is no promotion",
        "gate/purge_checks.py",
        '    if policy.purge == "promote":\n',
        "    if True:\n",
        ROUNDS,
        "is_offered",
    ),
    Mutant(
        "too few rows are left",
        "steps/purge.py",
        "    if left >= least:\n",
        "    if True:\n",
        ROUNDS,
        "stays_refused",
    ),
    Mutant(
        "purged rows never become history",
        "promotion.py",
        "accepted=left.rows if left else screened.accepted,",
        "accepted=screened.accepted,",
        ROUNDS,
        "promoted_at_once",
    ),
    Mutant(
        "the purge is part of what training is asked",
        "step_requests.py",
        '            **({"purge": purge} if purge else {}),\n',
        "",
        ROUNDS,
        "purge_is_part",
    ),
    Mutant(
        "a second challenger may not obey what the first did",
        "steps/validating.py",
        "(*reviewed.patterns, *_purged_patterns(left))",
        "reviewed.patterns",
        ROUNDS,
        "what_the_first_obeyed",
    ),
    # --- what an auditor sees ---------------------------------------------------------------
    Mutant(
        "a purge takes out and adds nothing",
        _CHALLENGERS,
        "        check_left(chain.store, learned, left, chain.pinned.spec.row_id,"
        ' who="The purge")\n',
        "        pass\n",
        ROUNDS,
        "adds_or_exchanges",
    ),
    Mutant(
        "whether another challenger was trained",
        "gate_report/building.py",
        "        again = number < len(decision.earlier)\n",
        "        again = False\n",
        ROUNDS,
        "page_of_the_gate",
    ),
)
