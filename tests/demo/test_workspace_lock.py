"""A folder that no demo made is never wiped, and two demos never share one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from demo.workspace_lock import Notebook, own_workspace
from retraining.errors import ConfigError


@pytest.mark.parametrize("fresh", [True, False])
def test_a_strangers_folder_is_left_alone(tmp_path: Path, fresh: bool) -> None:
    (tmp_path / "thesis.tex").write_text("ten years")
    with pytest.raises(ConfigError, match="no demo made it"), own_workspace(tmp_path, fresh=fresh):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_fresh_wipes_what_the_demo_made_and_follows_no_link(tmp_path: Path) -> None:
    home, outside = tmp_path / "workspace", tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    with own_workspace(home, fresh=False):
        (home / "store").mkdir()
        (home / "store" / "blob").write_text("")
        (home / "link").symlink_to(outside)
    with own_workspace(home, fresh=True):
        assert not (home / "store").exists()
        assert not (home / "link").exists()
    assert (outside / "kept").exists()


def test_fresh_spares_a_workspace_in_which_somebody_has_a_model_of_their_own(
    tmp_path: Path,
) -> None:
    with own_workspace(tmp_path, fresh=False):
        (tmp_path / "data" / "fraud").mkdir(parents=True)
        (tmp_path / "data" / "spam_filter").mkdir()
    with pytest.raises(ConfigError, match="fraud"), own_workspace(tmp_path, fresh=True):
        pass
    assert (tmp_path / "data" / "spam_filter").exists()
    with own_workspace(tmp_path, fresh=False):
        pass


def test_a_second_demo_in_the_same_workspace_is_refused(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from demo.workspace_lock import own_workspace\n"
        "with own_workspace(Path(sys.argv[1]), fresh=True): pass"
    )
    with own_workspace(tmp_path / "workspace", fresh=False):
        (tmp_path / "workspace" / "kept").write_text("")
        second = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "workspace")],
            capture_output=True,
            text=True,
        )
        assert "Another demo runs in" in second.stderr
        assert (tmp_path / "workspace" / "kept").exists()


def test_notes_survive_and_a_broken_notebook_stops_nothing(tmp_path: Path) -> None:
    Notebook(tmp_path).note("2026-W40", run_id="r1", seconds=41.5)
    Notebook(tmp_path).note("2026-W41", run_id="r2")  # interrupted
    assert Notebook(tmp_path).run_id("2026-W41") == "r2"
    assert Notebook(tmp_path).seconds() == {"2026-W40": 41.5}
    assert Notebook(tmp_path).run_id("2026-W40") == "r1"
    (tmp_path / "demo.json").write_text("{" + json.dumps("half"))
    assert Notebook(tmp_path).seconds() == {}
