"""Temporary folders of killed runs are cleared by the next run; those of living ones, and what others own, are not."""

import os
import signal
import tempfile
from pathlib import Path

import pytest

from support.child_programs import begun
from tfq_converters.files import temporary
from tfq_converters.files.temporary import PREFIX, temporary_folder

WAITS = """
    import sys, tempfile, time
    tempfile.tempdir = sys.argv[1]
    from tfq_converters.files import temporary_folder
    with temporary_folder() as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("x")
        print(folder, flush=True)
        time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are made for the time of a test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_is_private_and_removed(folder):
    with temporary_folder() as first, temporary_folder() as second:
        assert first != second and _names(folder) == {first.name, second.name}
        assert first.stat().st_mode & 0o777 == 0o700
        (first / "file").write_bytes(b"x")
    assert _names(folder) == set()


def test_a_failure_leaves_nothing(folder):
    def fail() -> None:
        with temporary_folder() as made:
            (made / "file").write_bytes(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert _names(folder) == set()


def test_the_next_run_clears_what_a_killed_one_left(folder):
    living, killed = (begun(WAITS, folder) for _ in range(2))
    with living, killed:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert len(_names(folder)) == 2
        with temporary_folder() as own:
            assert len(_names(folder)) == 2 and own.name in _names(folder)  # with that of the living one
        living.send_signal(signal.SIGKILL)
    with temporary_folder() as own:
        assert _names(folder) == {own.name}


def test_what_others_own_stays(folder):
    """Names that are none of ours, links, and files."""
    (folder / "precious").mkdir()
    (folder / "precious" / "file").write_bytes(b"x")
    for name in ("tfq_fine_abcdefgh", f"{PREFIX}notes", f"{PREFIX}abcdefgh.d"):
        (folder / name).mkdir()
    (folder / f"{PREFIX}abcdefgh").symlink_to("precious")
    (folder / f"{PREFIX}ijklmnop").write_bytes(b"x")
    before = _names(folder)
    with temporary_folder():
        pass
    assert _names(folder) == before and (folder / "precious" / "file").exists()


def test_a_folder_that_is_taken_for_abandoned_is_made_again(folder, monkeypatch):
    """Another run may look at a folder between the moments when it is made and locked."""
    lock, gone = temporary.lock, []

    def late(descriptor: int) -> None:
        if not gone:
            gone.extend(_names(folder))
            os.rmdir(folder / gone[0])
        lock(descriptor)

    monkeypatch.setattr(temporary, "lock", late)
    with temporary_folder() as made:
        assert gone and made.is_dir() and made.name not in gone
