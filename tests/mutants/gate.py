"""The checks of what the gate believes: who measured, with which rows, and how it is judged."""

from tests.mutants.mutant import Mutant

WORKER = "tests/attacks/test_compromised_worker.py"
JUDGED = "tests/retraining/test_gate_behaviour.py"
CASE = "tests/retraining/test_validating.py"
HALVES = "tests/retraining/test_halves.py"
_STATEMENTS = "evidence/statements.py"
_VALIDATING = "steps/validating.py"
_CHECKS = "gate/behaviour_checks.py"

GATE = (
    # --- who measures -----------------------------------------------------------------------
    Mutant(
        "role that signs a validation",
        _STATEMENTS,
        '_WITH_THE_PROMOTER: tuple[Step, ...] = ("validation", "purge", "gate", "promotion")',
        '_WITH_THE_PROMOTER: tuple[Step, ...] = ("purge", "gate", "promotion")',
        WORKER,
        "key_alone_measures_nothing",
    ),
    Mutant(
        "an earlier role signs records of the past only",
        _STATEMENTS,
        "    if of_another_release and step in _EARLIER_SIGNERS:\n",
        "    if step in _EARLIER_SIGNERS:\n",
        WORKER,
        "gate_believes_no_measurement",
    ),
    Mutant(
        "a replayed decision has no earlier signer",
        "verify/chain.py",
        "of_another_release=not self.replay\n",
        "of_another_release=True\n",
        WORKER,
        "made_from_such_a_measurement",
    ),
    Mutant(
        "what cannot be replayed is not promoted",
        "steps/concluding.py",
        "    if not verified.replayed:\n",
        "    if False:\n",
        WORKER,
        "name_of_an_older_release",
    ),
    Mutant(
        "a forged memo of a validation",
        "recording.py",
        "                result = open_result(self._store, self._trust, step, digest)"
        ".expect(report_type)\n",
        "                result = open_result(self._store, self._trust, step, digest,"
        " of_another_release=True).expect(report_type)\n",
        WORKER,
        "memo_of_its_measurement",
    ),
    Mutant(
        "monitoring believes old signers of old records only",
        "steps/serving.py",
        "        of_another_release=pin.report.code_version != code_version(),\n",
        "        of_another_release=True,\n",
        WORKER,
        "monitoring_finds",
    ),
    # --- with which rows --------------------------------------------------------------------
    Mutant(
        "measured with the rows that were trained on",
        _VALIDATING,
        "    if trained.report.blocks != blocks:\n",
        "    if False:\n",
        WORKER,
        "training_on_other_rows",
    ),
    Mutant(
        "reviews up to the pinned one",
        _VALIDATING,
        ".up_to(pinned.run.reviews_head).reviewed",
        ".reviewed",
        CASE,
        "review_after_the_pin",
    ),
    Mutant(
        "reviews are part of what is asked",
        "step_requests.py",
        "            holdout=self.run.holdout,\n"
        "            reviews=self.run.reviews_head,\n"
        "        )\n\n    def purge",
        "            holdout=self.run.holdout,\n        )\n\n    def purge",
        CASE,
        "review_after_the_pin",
    ),
    Mutant(
        "the half that tunes does not judge",
        "validation/halves.py",
        "judging=holdout[judges]",
        "judging=holdout",
        HALVES,
        "each_row",
    ),
    # --- how it is judged -------------------------------------------------------------------
    Mutant(
        "a small p-value refuses",
        _CHECKS,
        "    refused = p_value <= share\n",
        "    refused = False\n",
        JUDGED,
        "half_of_the_rate",
    ),
    Mutant(
        "the checks share one rate",
        _CHECKS,
        "        share = rate / (len(measured) - refused)\n",
        "        share = rate\n",
        JUDGED,
        "no_more_than_the_rate",
    ),
    Mutant(
        "Holm's step",
        _CHECKS,
        "        if rank == refused and p_value <= share:\n",
        "        if False:\n",
        JUDGED,
        "rest_share_the_whole_rate",
    ),
    Mutant(
        "Holm stops at the first that passes",
        _CHECKS,
        "        if rank == refused and p_value <= share:\n",
        "        if True:\n",
        JUDGED,
        "refuse_what_adjusted_p_values_refuse",
    ),
    Mutant(
        "a required check holds the week",
        _CHECKS,
        "    required = name in policy.require_behaviour and ",
        "    required = False and ",
        JUDGED,
        "only_where_it_has_to_be",
    ),
    Mutant(
        "a challenger that nobody examined",
        _CHECKS,
        "    if report is None:\n        yield Check(\n            name=PREFIX,\n"
        '            verdict="HOLD",\n',
        "    if report is None:\n        yield Check(\n            name=PREFIX,\n"
        '            verdict="PROMOTE",\n',
        JUDGED,
        "nobody_examined",
    ),
    Mutant(
        "judged at the rate of the pipeline file",
        "gate/__init__.py",
        "measured is None or measured.false_alarm_rate == spec.gate.false_alarm_rate,\n",
        "True,\n",
        JUDGED,
        "another_rate",
    ),
)
