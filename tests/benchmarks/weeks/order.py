"""In which order runs are done, so that the first of them already speak of everything."""

from collections.abc import Iterable, Sequence

import numpy as np

from tests.benchmarks.weeks.records import RunKey

_SEED = 6


def in_balanced_order(
    datasets: Sequence[str], attacks: Sequence[str], seeds: Iterable[int]
) -> list[RunKey]:
    """All runs, seed by seed; any stretch of them has each attack and each data set about as often.

    The order is random and always the same.
    """
    random = np.random.default_rng(_SEED)
    keys = []
    for seed in seeds:
        sets, kinds = (random.permutation(sorted(names)) for names in (datasets, attacks))
        for offset in range(len(sets)):
            for number, attack in enumerate(kinds):
                name = sets[(number + offset) % len(sets)]
                keys.append(RunKey(str(name), str(attack), seed))
    return keys
