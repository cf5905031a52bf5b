"""From several scores to one: how much more common are such rows here than among trusted ones?

The batch is taken for a mixture of honest rows, which score as trusted rows do, and others (the
two-groups model: Efron, "Large-Scale Inference", 2010, chapter 2). A classifier that tells batch
rows from trusted rows by their scores estimates the ratio of both densities: where scores occur
more often in the batch, it is large; a head with nothing to say does not move it. It may only grow
with a score, so a batch cannot make odd rows look ordinary.

A ratio needs many rows; a few dozen among thousands show in the tails of single heads. So the
evidence of a row adds to the log-ratio, which counts the less the fewer trusted rows there are, how
far out its scores lie among those of trusted rows.

Which rows to hold: the procedure of Benjamini and Hochberg (1995) on p-values from the trusted
rows keeps the expected share of honest rows among those that it names below a stated rate; with
p-values from a trusted set it is valid (Bates et al., "Testing for outliers with conformal
p-values", Annals of Statistics 2023). Beyond the oddest trusted row the tail is continued as an
exponential (Pickands 1975, shape 0), or few trusted rows could convict nobody.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import chi2

from retraining.screening.rows import SEED, Mask, Reals
from retraining.screening.surrogate import boosted_trees

_FOLDS = 5
_TAIL_SHARE, _MIN_TAIL = 0.1, 10
_SMALLEST_P = 1e-6
_SUM_WEIGHT = 0.2
_LABEL_WEIGHT, _LABEL_RANGE = 0.3, (-5.0, 12.0)
_FAR_OUT = 1e-3  # share of trusted rows that lie as far out, where there are enough of them
_TRUSTED_FOR_HALF = 600  # trusted rows at which the ratio counts half


class Evidence:
    """The scores of all heads as one number, calibrated on trusted rows.

    Args:
        names: Of the heads [h].
        sample: Scores of sampled batch rows [n, h].
        trusted: Scores of trusted rows [t, h], each by models that did not see it.
    """

    def __init__(self, names: Sequence[str], sample: Reals, trusted: Reals) -> None:
        self._names = list(names)
        self._tails = [Tail(trusted[:, number]) for number in range(len(names))]
        n_trusted = len(trusted)
        self._ratio_weight = n_trusted / (n_trusted + _TRUSTED_FOR_HALF)
        self._far_out = max(_FAR_OUT, 2 / (1 + n_trusted))
        scores = np.concatenate([sample, trusted])
        is_batch = np.arange(len(scores)) < len(sample)
        folds = np.random.RandomState(SEED).randint(_FOLDS, size=len(scores))
        self._ratios = [
            _fit_ratio(scores[folds != fold], is_batch[folds != fold], seed=fold)
            for fold in range(_FOLDS)
        ]
        log_ratio = np.zeros(len(scores))
        for fold, ratio in enumerate(self._ratios):
            held_out = folds == fold
            if held_out.any():
                log_ratio[held_out] = _log_ratio(ratio, scores[held_out])
        evidence = self._joined(scores, log_ratio)
        self.of_sample: Reals = evidence[is_batch]
        self.of_trusted: Reals = evidence[~is_batch]
        self._tail = Tail(np.where(self.is_odd(trusted), self.of_trusted, evidence.min()))

    def score(self, scores: Reals) -> Reals:
        """Evidence of other batch rows [m], from their scores [m, h]."""
        if len(scores) == 0:
            return np.zeros(0)
        log_ratio = np.mean([_log_ratio(ratio, scores) for ratio in self._ratios], axis=0)
        return self._joined(scores, log_ratio)

    def p_values(self, evidence: Reals, scores: Reals) -> Reals:
        """Share of trusted rows with as much evidence [m], in (0, 1]; 1 where a row is not odd."""
        return np.where(self.is_odd(scores), self._tail.p_values(evidence), 1.0)

    def p_values_by_head(self, scores: Reals) -> dict[str, Reals]:
        """Per head the share of trusted rows at least as odd [m]."""
        return {
            name: tail.p_values(scores[:, number])
            for number, (name, tail) in enumerate(zip(self._names, self._tails, strict=True))
        }

    def _joined(self, scores: Reals, log_ratio: Reals) -> Reals:
        p_values = np.stack(list(self.p_values_by_head(scores).values()))
        surprise = -np.log10(p_values)
        evidence = (
            self._ratio_weight * log_ratio
            + surprise.max(axis=0)
            + _SUM_WEIGHT * surprise.sum(axis=0)
            + self.doubt(scores)
        )
        result: Reals = np.round(evidence, 6)
        return result

    def doubt(self, scores: Reals) -> Reals:
        """The part of the evidence that costs nothing: is the label believed [m]?"""
        margin = scores[:, self._names.index("consensus")]
        result: Reals = _LABEL_WEIGHT * margin.clip(*_LABEL_RANGE)
        return result

    def is_odd(self, scores: Reals) -> Mask:
        """Rows that anybody contradicts, or that lie far out [m]; no others are ever held.

        Without it, rows of a kind that is merely more common this week would be.
        """
        contradiction, consensus, isolation = (
            self._names.index(name) for name in ("contradiction", "consensus", "isolation")
        )
        far_out = self._tails[isolation].p_values(scores[:, isolation]) < self._far_out
        odd = (scores[:, contradiction] > 0) | (scores[:, consensus] > 0) | far_out
        return np.asarray(odd)


class Tail:
    """Scores of trusted rows, against which others are ranked; larger is odder."""

    def __init__(self, scores: Reals) -> None:
        self._scores = np.sort(scores)
        n = len(scores)
        n_tail = min(max(_MIN_TAIL, int(_TAIL_SHARE * n)), n - 1)
        self._start = float(self._scores[n - n_tail - 1])
        self._share = n_tail / n
        mean_excess = float(np.mean(self._scores[n - n_tail :] - self._start)) + 1e-9
        # Few rows say little about the tail: the largest mean that they allow, at 95% confidence.
        self._mean_excess = mean_excess * 2 * n_tail / float(chi2.ppf(0.05, 2 * n_tail))

    def p_values(self, scores: Reals) -> Reals:
        """Share of trusted rows at least as odd as each [m], in (0, 1]."""
        n = len(self._scores)
        ranked = (1 + n - np.searchsorted(self._scores, scores, side="left")) / (1 + n)
        beyond = self._share * np.exp(-np.maximum(scores - self._start, 0) / self._mean_excess)
        result: Reals = np.where(
            scores > self._scores[-1], np.minimum(ranked, np.maximum(beyond, _SMALLEST_P)), ranked
        )
        return result


def stand_out(p_values: Reals, false_discovery_rate: float, *, n_tests: int) -> Mask:
    """Rows that stand out from what trusted rows would show by chance [m].

    Benjamini and Hochberg's step-up: find the largest k such that the k-th smallest p-value is at
    most `false_discovery_rate` k / n_tests, and take all rows up to it.

    Args:
        n_tests: Rows that were looked at, those without a p-value here included: theirs is 1.
    """
    if len(p_values) == 0:
        return np.zeros(0, dtype=bool)
    ordered = np.sort(p_values)
    line = false_discovery_rate * np.arange(1, len(ordered) + 1) / n_tests
    below = np.flatnonzero(ordered <= line)
    if len(below) == 0:
        return np.zeros(len(p_values), dtype=bool)
    return np.asarray(p_values <= ordered[below[-1]])


def _fit_ratio(scores: Reals, is_batch: Mask, *, seed: int) -> object:
    n_batch, n_trusted = int(is_batch.sum()), int((~is_batch).sum())
    model = boosted_trees(
        seed=seed,
        n_estimators=80,
        num_leaves=6,
        learning_rate=0.08,
        min_child_samples=20,
        reg_lambda=5.0,
        monotone_constraints=[1] * scores.shape[1],
    )
    weights = np.where(is_batch, 1.0, n_batch / max(n_trusted, 1))
    return model.fit(scores, is_batch.astype(np.int64), sample_weight=weights)


def _log_ratio(model: object, scores: Reals) -> Reals:
    result: Reals = np.asarray(model.predict(scores, raw_score=True))  # type: ignore[attr-defined]
    return result
