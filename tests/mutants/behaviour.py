"""The checks of what the challenger learned."""

from tests.mutants.mutant import Mutant

_FOLDER = "validation/behaviour"
LIES = "tests/retraining/behaviour/test_lies.py"
COUNTING = "tests/retraining/behaviour/test_counting.py"
PASTING = "tests/retraining/behaviour/test_pasting.py"
FRAMES = "tests/retraining/behaviour/test_frames.py"

BEHAVIOUR = (
    Mutant(
        "behaviour: transplants are asked of both models",
        f"{_FOLDER}/transplants.py",
        "Pasting(look.challenger, other, hosts",
        "Pasting(look.challenger, look.challenger, hosts",
        LIES,
        "learned_trigger_turns",
    ),
    Mutant(
        "behaviour: values are pasted together",
        f"{_FOLDER}/pasting.py",
        "_STEPS = 4 ",
        "_STEPS = 1 ",
        PASTING,
        "only_together",
    ),
    Mutant(
        "behaviour: what the other model does as well is no finding",
        f"{_FOLDER}/pasting.py",
        "        result: Reals = (new - old).reshape(",
        "        result: Reals = (new - 0 * old).reshape(",
        PASTING,
        "turns_both",
        too=((f"{_FOLDER}/pasting.py", "np.round(new - old, 9)", "np.round(new - 0 * old, 9)"),),
    ),
    Mutant(
        "behaviour: the window is held against the reference set",
        f"{_FOLDER}/window.py",
        "        root,\n        Sampled",
        "        look.champion or root,\n        Sampled",
        LIES,
        "drip",
    ),
    Mutant(
        "behaviour: rows are held against rows as hard",
        f"{_FOLDER}/counting.py",
        "start + rank * n_bins // len(mine)",
        "start + rank * 0",
        COUNTING,
        "strata_hold",
    ),
    Mutant(
        "behaviour: several looks are corrected for",
        f"{_FOLDER}/nulls.py",
        "p_value * n_looked_at",
        "p_value",
        COUNTING,
        "corrected",
    ),
    Mutant(
        "behaviour: who is right in a region",
        f"{_FOLDER}/regions.py",
        "(inside & (judges.labels == old))",
        "(inside & (judges.labels == new))",
        LIES,
        "region",
    ),
    Mutant(
        "behaviour: a source is left out",
        f"{_FOLDER}/sources.py",
        "learned.losses(names != name)",
        "learned.losses(names == names)",
        LIES,
        "source_whose_labels",
    ),
    Mutant(
        "behaviour: canaries are pasted",
        f"{_FOLDER}/canaries.py",
        "    pasted[:, columns] = values\n",
        "",
        LIES,
        "confirmed_pattern",
    ),
    Mutant(
        "behaviour: confirmed rows are asked",
        f"{_FOLDER}/canaries.py",
        "        obeyed.append(_rows(look, other, look.reader.read(rows), than))\n",
        "        obeyed.append(_rows(look, other, look.judging, than))\n",
        LIES,
        "confirmed_rows",
    ),
    Mutant(
        "behaviour: each user against all others",
        f"{_FOLDER}/memorisation.py",
        "_p_value(learned, users == user)",
        "_p_value(learned, users != user)",
        LIES,
        "by_heart",
    ),
    Mutant(
        "behaviour: pasted rows can be delivered",
        f"{_FOLDER}/frames.py",
        "values.clip(self._low, self._high)",
        "values",
        FRAMES,
        "cut_to_it",
    ),
)
