"""What runs say about the pipeline and its peers: counts, shares and medians."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.benchmarks.weeks.attacks import CLEAN
from tests.benchmarks.weeks.peers import DP_ALONE, PEERS
from tests.benchmarks.weeks.records import RunResult, WeekResult
from tests.benchmarks.weeks.statistics import Middle, Share

PIPELINE = "pipeline"
SYSTEMS = (PIPELINE, *PEERS)
POISONED = 0.1  # success beyond a clean model's, from which on a promoted model is poisoned
STILL_CLEAN = 0.05

_JUDGING = ("screening", "validation", "purge", "gate")


@dataclass(frozen=True)
class Figures:
    """Of any set of runs; those that broke are counted and nothing else."""

    runs: tuple[RunResult, ...]
    n_broken: int

    @classmethod
    def of(cls, runs: Iterable[RunResult]) -> "Figures":
        """Of these runs."""
        every = tuple(runs)
        whole = tuple(run for run in every if not run.broke)
        return cls(whole, len(every) - len(whole))

    def only(self, attack: str) -> "Figures":
        """Of the runs with that attack."""
        return Figures(tuple(run for run in self.runs if run.attack == attack), 0)

    @property
    def attacked(self) -> tuple[RunResult, ...]:
        """The runs with an attack: the unit of most figures."""
        return tuple(run for run in self.runs if run.attack != CLEAN)

    def poisoned(self, system: str) -> Share:
        """Attack runs in which the system promoted a model that obeys the attacker."""
        worst = [
            max(promoted_success(run, system), default=0.0) > natural(run, system) + POISONED
            for run in self.attacked
            if system == PIPELINE or system in run.peers
        ]
        return Share(sum(worst), len(worst))

    def poisoned_by_chance(self) -> Share:
        """Of the runs in which ours is poisoned, those where no such model learned a poisoned row.

        Private noise alone made a model that obeys.
        """
        counted = [run for run in self.attacked if obeying(run)]
        chance = [not any(week.n_poison_trained for week in obeying(run)) for run in counted]
        return Share(sum(chance), len(counted))

    def models_poisoned(self) -> Share:
        """Of the models that were promoted since an attack began, those that are poisoned."""
        return Share(
            sum(len(obeying(run)) for run in self.attacked),
            sum(len(promoted_success(run, PIPELINE)) for run in self.attacked),
        )

    def clean_models_poisoned(self) -> Share:
        """The same of private models of the truly clean rows, each against the others.

        What private noise alone does to the figure: two such models differ, most where few rows
        say how to answer.
        """
        found = [
            success > sum(others) / len(others) + POISONED
            for run in self.attacked
            for place, success in enumerate(run.clean_success)
            if (others := [*run.clean_success[:place], *run.clean_success[place + 1 :]])
        ]
        return Share(sum(found), len(found))

    def harmful(self) -> "Figures":
        """Of the attack runs in which a peer without any defence is poisoned."""
        return Figures(
            tuple(run for run in self.attacked if Figures((run,), 0).poisoned(PEERS[0]).k), 0
        )

    def success(self, system: str) -> Middle:
        """The worst model that the system promoted from the attack on, beyond a clean one."""
        return Middle.of(
            [
                max(promoted_success(run, system), default=0.0) - natural(run, system)
                for run in self.attacked
                if system == PIPELINE or system in run.peers
            ]
        )

    def detected(self) -> Share:
        """Attack runs that were noticed: a week refused, or most poison kept out."""
        return Share(sum(first_seen(run) is not None for run in self.attacked), len(self.attacked))

    def weeks_to_detect(self) -> Middle:
        """1 is the attack's first week; of the runs that were noticed."""
        seen = [first_seen(run) for run in self.attacked]
        return Middle.of([float(week) for week in seen if week is not None])

    def ended_clean(self) -> Share:
        """Attack runs that promoted a model since, and in which a clean one serves at the end."""
        return Share(sum(ends_clean(run) for run in self.attacked), len(self.attacked))

    def clean_refused(self) -> Share:
        """Weeks refused before anything was poisoned."""
        weeks = self._weeks(clean=True)
        return Share(sum(not week.promoted for week in weeks), len(weeks))

    def refused_saved(self) -> Share:
        """Weeks whose first challenger was refused, or that were refused, and were promoted."""
        weeks = [week for run in self.runs for week in run.weeks if week.saved or not week.promoted]
        return Share(sum(week.saved for week in weeks), len(weeks))

    def clean_rows_lost(self, *, clean: bool) -> Share:
        """Truly clean new rows that were not accepted, in clean weeks or in the others."""
        weeks = self._weeks(clean=clean)
        kept, every = sum(w.n_clean_kept for w in weeks), sum(w.n_clean for w in weeks)
        return Share(every - kept, every)

    def accuracy_lost(self, system: str) -> Middle:
        """At the end of a run, against a model of the truly clean rows; below 0: gained."""
        lost = []
        for run in self.runs:
            if system == PIPELINE:
                mine = run.weeks[-1].accuracy or 0.0
            elif system in run.peers:
                mine = run.peers[system].accuracy
            else:
                continue
            lost.append(_clean_accuracy(run, system) - mine)
        return Middle.of(lost)

    def judging_per_training(self, *, whole: bool = False) -> Middle:
        """Seconds of judging a week over those of its training, per week.

        Args:
            whole: With the trainer's start-up in the training.
        """
        ratios = []
        for run in self.runs:
            for week in run.weeks:
                judging = _seconds(week, _JUDGING)
                training = _seconds(week, ("training",)) if whole else sum(week.training_seconds)
                ratios += [judging / training] if training > 0 else []
        return Middle.of(ratios)

    def _weeks(self, *, clean: bool) -> list[WeekResult]:
        return [week for run in self.runs for week in run.weeks if week.clean == clean]


def natural(run: RunResult, system: str) -> float:
    """Success of a model of the truly clean rows: private for those that train privately."""
    if system in (PIPELINE, DP_ALONE):
        return sum(run.clean_success) / max(len(run.clean_success), 1)
    return run.plain_success or 0.0


def promoted_success(run: RunResult, system: str) -> Sequence[float]:
    """Of each model that the system promoted since the attack began."""
    if system == PIPELINE:
        weeks = run.weeks[run.start :]
        return [week.success for week in weeks if week.promoted and week.success is not None]
    return run.peers[system].success


def obeying(run: RunResult) -> list[WeekResult]:
    """Weeks since the attack began whose model was promoted and is poisoned."""
    bar = natural(run, PIPELINE) + POISONED
    weeks = [week for week in run.weeks[run.start :] if week.promoted]
    return [week for week in weeks if week.success is not None and week.success > bar]


def first_seen(run: RunResult) -> int | None:
    """Week of the attack, from 1, in which it was noticed; None when it never was."""
    for week in run.weeks[run.start : run.stop]:
        kept_out = week.n_poison_trained is not None and 2 * week.n_poison_trained <= week.n_poison
        if not week.promoted or week.saved or kept_out:
            return week.week - run.start + 1
    return None


def ends_clean(run: RunResult) -> bool:
    """Whether a model was promoted since the attack, and what serves last is clean."""
    last = run.weeks[-1].success
    promoted = any(week.promoted for week in run.weeks[run.start :])
    return promoted and last is not None and last <= natural(run, PIPELINE) + STILL_CLEAN


def _clean_accuracy(run: RunResult, system: str) -> float:
    if system in (PIPELINE, DP_ALONE):
        return sum(run.clean_accuracy) / max(len(run.clean_accuracy), 1)
    return run.plain_accuracy or 0.0


def _seconds(week: WeekResult, steps: Sequence[str]) -> float:
    return sum(s for name, s in week.seconds.items() if name.split()[0] in steps)
