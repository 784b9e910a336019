import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evomerge.draft import open_draft

HOLD = (
    "import sys, time; from pathlib import Path; from evomerge.draft import open_draft\n"
    "with open_draft(Path(sys.argv[1])) as draft:\n"
    "    (draft / 'half').write_text('x'); print(draft.name, flush=True); time.sleep(100)\n"
)


def hold(target: Path) -> tuple[subprocess.Popen[str], str]:
    """A process that writes a draft; and the draft's name."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(target)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_draft_is_kept_by_renaming_it(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    with open_draft(target) as draft:
        (draft / "file").write_text("x")
        draft.rename(target)
    assert [path.name for path in target.parent.iterdir()] == ["b"]
    assert (target / "file").read_text() == "x"


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_else_it_is_gone(tmp_path: Path, error: type[BaseException] | None) -> None:
    try:
        with open_draft(tmp_path / "out") as draft:
            (draft / "file").write_text("x")
            if error:
                raise error
    except KeyboardInterrupt:
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_is_removed_by_the_next_draft_of_that_name(tmp_path: Path) -> None:
    process, left = hold(tmp_path / "out")
    kill(process)
    assert (tmp_path / left / "half").exists()
    with open_draft(tmp_path / "other"):
        assert (tmp_path / left / "half").exists()
    with open_draft(tmp_path / "out"):
        assert not (tmp_path / left).exists()


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    process, theirs = hold(tmp_path / "out")
    try:
        with open_draft(tmp_path / "out"):
            assert (tmp_path / theirs / "half").exists()
        assert (tmp_path / theirs / "half").exists()
    finally:
        kill(process)


def test_what_only_looks_like_a_draft_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    for name in (".out.part", ".out.0123.part", ".out.01234567.part.old", ".outer.01234567.part"):
        (tmp_path / name).mkdir()
    (tmp_path / ".out.89abcdef.part").symlink_to(tmp_path / "precious")
    (tmp_path / ".out.01234567.part").write_text("a file")
    before = sorted(os.listdir(tmp_path))
    with open_draft(tmp_path / "out"):
        pass
    assert sorted(os.listdir(tmp_path)) == before


def test_many_at_once_each_have_their_own(tmp_path: Path) -> None:
    processes = [hold(tmp_path / "out") for _ in range(3)]
    try:
        time.sleep(0.1)
        assert len({name for _, name in processes}) == 3
        assert all((tmp_path / name / "half").exists() for _, name in processes)
    finally:
        for process, _ in processes:
            kill(process)
