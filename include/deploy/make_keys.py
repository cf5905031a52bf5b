"""Makes the keys of a new installation and its first trust list, and hands each worker its own.

Runs in the image, as `docker compose run --rm keys`, where /secrets is the folder that
`make compose-secrets` made. Only the promotion worker gets the promoter's key; the root's private
key stays in keys/ and belongs offline.
"""

import argparse
import shutil
from pathlib import Path

from retraining.errors import RetrainingError
from retraining.evidence import public_key_of
from retraining.keyring import (
    NewKey,
    change_trust,
    create_provider_key,
    create_team_keys,
    provider_key,
)
from retraining.settings import Settings
from retraining.spec import find_specs, load_spec
from retraining.store import open_store
from retraining.trust_history import TrustHistory

# Which roles sign where; everybody gets the root's public key, to verify with.
HOLDERS = {
    "init": (),
    "console": (),
    "default": ("pipeline",),
    "training": ("pipeline",),
    "promotion": ("promoter",),
}


def main() -> None:
    """Make keys and trust list if there are none, then hand them out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--secrets", type=Path, default=Path("/secrets"))
    parser.add_argument(
        "--provider", action="append", default=[], help="also make this provider's key (a trial)"
    )
    given = parser.parse_args()
    folder: Path = given.secrets
    settings = Settings.load().model_copy(
        update={"keys": folder / "keys", "root_key": folder / "keys" / "root.pub.json"}
    )
    try:
        feedback = feedback_keys(settings)
        make_keys(settings, providers=[*given.provider, *feedback], feedback=feedback)
    except RetrainingError as error:
        raise SystemExit(f"keys: {error}") from None
    for worker, roles in HOLDERS.items():
        own = folder / "workers" / worker / "keys"
        for name in ("root.pub.json", *(f"{role}.pem" for role in roles)):
            hand_over(settings.keys / name, own / name)
    for name in feedback:
        of_default = provider_key(folder / "workers" / "default" / "keys", name)
        hand_over(provider_key(settings.keys, name), of_default)
    print(
        f"Handed out to {', '.join(HOLDERS)}. Now move root.pem, reviewer.pem and owner.pem from"
        " secrets/keys offline: they sign the list of keys, what people decide, pipeline files;"
        " no container needs them."
    )


def feedback_keys(settings: Settings) -> list[str]:
    """Keys that sign closed batches of users' feedback: here, as there is no provider to do it."""
    specs = [load_spec(path) for path in find_specs(settings.pipelines)]
    sources = [spec.source(spec.feedback.source) for spec in specs if spec.feedback]
    return sorted({source.key_id for source in sources if source.key_id})


def make_keys(settings: Settings, *, providers: list[str], feedback: list[str]) -> None:
    """Make the first trust list; in an installation that has one, add what feedback lacks."""
    store = open_store(settings.store)
    store.self_test()  # here, where it is a sentence, and not in the first run
    if not store.names("trust/") or not settings.root_key.exists():
        trust = create_team_keys(settings, providers=providers)
        print(f"Trust list version {trust.version} in {settings.store}: {sorted(trust.keys)}.")
        return
    known = TrustHistory.load(store, public_key_of(settings.root_key, "root")).latest.keys
    print(f"{settings.store} has a trust list already; its keys are handed out again.")
    if lacking := [name for name in feedback if name not in known]:
        keys = provider_key(settings.keys, "").parent
        new = [NewKey(name, "provider", create_provider_key(keys, name)) for name in lacking]
        trust = change_trust(settings, add=new)
        print(f"Trust list version {trust.version} has {lacking} as well.")


def hand_over(source: Path, target: Path) -> None:
    """Copy a key; the folder above keeps others out, so the container's user may read it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o444)


if __name__ == "__main__":
    main()
