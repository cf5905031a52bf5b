"""What every step needs: the store, the keys, the registry, and how records are opened."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from retraining.approvals import Approvals
from retraining.chains import registry_chain
from retraining.digests import Digest, parse_json
from retraining.errors import ChainBrokenError, RegistryMovedError
from retraining.evidence import SigningKeys
from retraining.mirror import Mirror
from retraining.parsing import read_pinned
from retraining.recording import Recorder, StepResult, open_result
from retraining.records import Block, GateDecision, PinnedRun, Record, Step
from retraining.registry import HeadMemory, Registry
from retraining.reviews import Reviews
from retraining.settings import Settings
from retraining.spec import PinnedData, PipelineSpec, parse_spec
from retraining.step_requests import PinnedContext, code_version
from retraining.store import Inbox, Outbox, S3ClientFactory, Store, open_inbox, open_outbox
from retraining.trust_history import TrustHistory

if TYPE_CHECKING:
    import pandas as pd

Log = Callable[[str], None]
R = TypeVar("R", bound=Record)


class Workbench:
    """One run's access to the installation. Steps are functions of it and of digests."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        trust: TrustHistory,
        *,
        run_id: str,
        requested_by: str,
        log: Log,
        mirror: Mirror,
        client_factory: S3ClientFactory | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.trust = trust
        self.keys = SigningKeys(settings.keys, settings.key_uris)
        self.log = log
        self.mirror = mirror
        self._client_factory = client_factory
        self._run_id = run_id
        self._requested_by = requested_by
        self.memory = HeadMemory(settings.memory)
        self._vetted: dict[tuple[Digest, str], pd.DataFrame] = {}

    def registry(self, model: str) -> Registry:
        """The verified registry, held against what this machine remembers of it."""
        links = registry_chain(self.store, self.trust, model).load()
        registry = Registry(model, tuple(links))
        self.memory.check(registry)
        return registry

    def reviews(self, model: str) -> Reviews:
        """The verified reviews of a model."""
        return Reviews.load(self.store, self.trust, model)

    def approvals(self, model: str) -> Approvals:
        """The verified approvals of a model."""
        return Approvals.load(self.store, self.trust, model)

    def registry_of(self, pinned: PinnedContext) -> Registry:
        """The registry as the run pinned it."""
        return self.registry(pinned.run.model).before(pinned.run.registry_head)

    def pinned(self, run: Digest) -> PinnedContext:
        """Open a pinned run by its attestation; raises RegistryMovedError when the code changed."""
        report = self.open_any("pin", run, PinnedRun).report
        if report.code_version != code_version():
            raise RegistryMovedError(
                "The code changed since this run was pinned. Start the week again."
            )
        raw = self.store.get(report.spec)
        return PinnedContext(run, report, parse_spec(parse_json(raw), origin=str(report.spec)))

    def open(
        self, pinned: PinnedContext, step: Step, digest: Digest, report_type: type[R]
    ) -> StepResult[R]:
        """Open a record of this run's model, verified under the run's trust list."""
        trust = self.trust.named(pinned.run.trust_list)
        result = open_result(self.store, trust, step, digest).expect(report_type)
        if result.attestation.model != pinned.run.model:
            raise ChainBrokenError(
                f"{digest} is a record of {result.attestation.model}, expected one of"
                f" {pinned.run.model}. Start the week again."
            )
        return result

    def open_any(self, step: Step, digest: Digest, report_type: type[R]) -> StepResult[R]:
        """Open a record of any model, verified under the newest trust list."""
        return open_result(self.store, self.trust.latest, step, digest).expect(report_type)

    def decision(self, digest: Digest) -> StepResult[GateDecision]:
        """A gate's decision by its attestation."""
        return self.open_any("gate", digest, GateDecision)

    def window_blocks(self, pinned: PinnedContext) -> tuple[Block, ...]:
        """Accepted rows of promoted weeks that the window reaches, one Parquet per batch."""
        return self.registry_of(pinned).accepted_blocks(
            pinned.run.week, window_weeks=pinned.spec.training.window_weeks
        )

    def frames(self, blocks: Sequence[Block], workdir: Path) -> "pd.DataFrame | None":
        """The rows of several blocks, in their order; None when there is no block."""
        import pandas as pd

        frames = []
        for block in blocks:
            path = workdir / f"block-{block.rows.hex}.parquet"
            if not path.exists():
                self.store.fetch(block.rows, path)
            frames.append(pd.read_parquet(path))
        return pd.concat(frames, ignore_index=True) if frames else None

    def pinned_frame(self, pinned: PinnedContext, role: str, workdir: Path) -> "pd.DataFrame":
        """The rows of `reference` or `holdout`, by the digest that the run's spec pins."""
        return self.vetted_frame(pinned.spec, role, workdir)

    def vetted_frame(self, spec: PipelineSpec, role: str, workdir: Path) -> "pd.DataFrame":
        """The rows of `reference` or `holdout`, by the digest that `spec` pins."""
        data: PinnedData = getattr(spec, role)
        # Several steps of one process ask for the same rows, and each parse starts a process.
        known = Digest.of(spec.to_json()), role
        if known not in self._vetted:
            folder = workdir / role
            folder.mkdir()
            self.store.fetch(data.digest, folder / "raw")
            self._vetted[known] = read_pinned(
                folder / "raw", name=role, file_format=data.format, spec=spec, workdir=folder
            )
        return self._vetted[known].copy(deep=False)

    def inbox(self, uri: str, week: str = "", *, part: str = "{week}") -> Inbox:
        """Where a provider delivers; `part` of `uri` is what the provider names: a week, a day.

        Links are followed down to the folder before it, which is ours, and refused from there on:
        else a provider could make the week a link to our keys.
        """
        ours = uri.partition(part)[0].rpartition("/")[0]
        return open_inbox(
            uri.replace(part, week),
            client_factory=self._client_factory,
            trusted_parent=Path(ours) if week and "://" not in uri else None,
        )

    def outbox(self, uri: str, week: str) -> Outbox:
        """Where we hand over a batch of our own; `{week}` in `uri` is its week."""
        return open_outbox(uri.replace("{week}", week), client_factory=self._client_factory)

    def recorder(self, pinned: PinnedContext | None = None) -> Recorder:
        """Records steps under the trust list of the run, or the newest before it is pinned."""
        trust = self.trust.named(pinned.run.trust_list) if pinned else self.trust.latest
        return Recorder(
            self.store,
            trust,
            self.keys,
            code_version=code_version(),
            run_id=self._run_id,
            requested_by=self._requested_by,
        )

    def recorded(self, pinned: PinnedContext, result: StepResult[R]) -> StepResult[R]:
        """Log one line about a concluded step."""
        step, digest = result.attestation.step, result.attestation.digest
        again = " (done before, reused)" if result.reused else ""
        refusal = getattr(result.report, "refusal", None)
        said = f": refused: {refusal.sentence}" if refusal else ""
        self.log(f"{step} {pinned.run.model} {result.attestation.week}{again}{said} [{digest}]")
        return result

    @contextmanager
    def workdir(self, step: str) -> Iterator[Path]:
        """A private folder that is gone when the step ends, however it ends."""
        with tempfile.TemporaryDirectory(prefix=f"retraining-{step}-") as folder:
            yield Path(folder)
