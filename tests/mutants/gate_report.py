"""What the gate report promises: it runs nothing, shows no row, and is the same everywhere."""

from tests.mutants.mutant import Mutant

PAGE = "tests/retraining/gate_report/test_page.py"
SOURCES = "tests/retraining/gate_report/test_sources.py"
SIGNED = "tests/retraining/gate_report/test_signed_page.py"

GATE_REPORT = (
    Mutant(
        "names on the page are escaped",
        "gate_report/rendering.py",
        "        autoescape=True,\n",
        "        autoescape=False,\n",
        PAGE,
        "neither_runs_nor_breaks_out",
    ),
    Mutant(
        "names in charts are no formulas",
        "gate_report/charts/drawing.py",
        '    "text.parse_math": False,',
        '    "text.parse_math": True,',
        PAGE,
        "text_as_it_was_written",
    ),
    Mutant(
        "the page forbids what it does not need",
        "gate_report/templates/gate_report.html.j2",
        "default-src 'none'",
        "default-src *",
        PAGE,
        "loads_nothing",
    ),
    Mutant(
        "a reader's settings do not change a chart",
        "gate_report/charts/drawing.py",
        'context("default", after_reset=True), ',
        "",
        PAGE,
        "other_habits",
    ),
    Mutant(
        "charts of one page share no id",
        "gate_report/charts/drawing.py",
        '    re.compile(r\'(?<=<g) id="[^"]*"\'),',
        '    re.compile(r"(?!)"),',
        PAGE,
        "no_two_things_have_one_id",
    ),
    Mutant(
        "the page is made from its JSON alone",
        "gate_report/building.py",
        "    return Page.from_json(page.to_json())\n",
        "    return page\n",
        PAGE,
        "json_says_the_same",
    ),
    Mutant(
        "what failed stands first",
        "gate_report/building.py",
        "        checks=(*failed, *passed),\n",
        "        checks=(*passed, *failed),\n",
        PAGE,
        "failed_stand_before",
    ),
    Mutant(
        "what all rows of a source show is on the page",
        "gate_report/building.py",
        "        evidence=seen.source_evidence,\n",
        "",
        SOURCES,
        "stands_beside_it",
    ),
    Mutant(
        "why a source is condemned is said once",
        "gate_report/templates/sources.html.j2",
        " if not one.refusal or sentence not in one.refusal.sentence %}",
        " %}",
        SOURCES,
        "stands_beside_it",
    ),
    Mutant(
        "a harm counts where it is more than allowed",
        "gate_report/charts/sources.py",
        " and loss.value > seen.max_log_loss",
        "",
        SOURCES,
        "colour_of_trouble",
    ),
    Mutant(
        "less is better of some metrics",
        "gate_report/charts/differences.py",
        "    if compared.less_is_better:\n",
        "    if False:\n",
        PAGE,
        "is_turned_in_the_chart",
    ),
    Mutant(
        "a page is of a decision alone",
        "inspection.py",
        '    if found.kind == "attestation of gate":\n',
        '    if found.kind.startswith("attestation of "):\n',
        SIGNED,
        "no_decision_has_no_page",
    ),
    Mutant(
        "a page asks nobody about what nobody can approve",
        "approvals/counting.py",
        "    refuse_unapprovable(decision, policy)\n    return _counted",
        "    return _counted",
        SIGNED,
        "asks_nobody",
    ),
    Mutant(
        "the command says when its page is not the signed one",
        "cli/gate_report.py",
        "    if signed == Digest.of(data):\n",
        "    if signed is not None:\n",
        SIGNED,
        "another_release_drew",
    ),
)
