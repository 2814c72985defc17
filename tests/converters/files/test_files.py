"""Files are written whole or not at all, and nothing but regular files is replaced."""

import ast
import multiprocessing
import os
import pty
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.child_programs import begun
from tfq_converters.errors import TfqError
from tfq_converters.files import writing as files
from tfq_converters.files.writing import write_file

ROOT = Path(__file__).parents[3]


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_pieces_are_written_in_order(tmp_path):
    write_file(tmp_path / "a", iter([b"one ", memoryview(b"two "), bytearray(b"three")]))
    assert (tmp_path / "a").read_bytes() == b"one two three"
    assert _names(tmp_path) == {"a"}


def test_a_new_file_has_the_mode_of_a_plain_open(tmp_path):
    before = os.umask(0o027)
    try:
        (tmp_path / "plain").write_bytes(b"")
        write_file(tmp_path / "a", [b"x"])
    finally:
        os.umask(before)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a")}
    assert modes == {0o640}


def test_an_existing_file_keeps_its_mode(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o604)
    write_file(path, [b"new"])
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o604)


def test_a_name_of_255_bytes(tmp_path):
    for name in ("n" * 255, "\u00e9" * 127):
        write_file(tmp_path / name, [b"x"])
        assert (tmp_path / name).read_bytes() == b"x"


# ------------------------------------------------------------------------------- links, devices, pipes


def test_symbolic_links_are_followed(tmp_path):
    (tmp_path / "inner").mkdir()
    target = tmp_path / "inner" / "target"
    target.write_bytes(b"old")
    (tmp_path / "link").symlink_to("inner/target")
    (tmp_path / "second").symlink_to(tmp_path / "link")
    (tmp_path / "dangling").symlink_to("inner/other")
    write_file(tmp_path / "second", [b"new"])
    write_file(tmp_path / "dangling", [b"made"])
    assert target.read_bytes() == b"new"
    assert (tmp_path / "inner" / "other").read_bytes() == b"made"
    assert all((tmp_path / name).is_symlink() for name in ("link", "second", "dangling"))
    assert _names(tmp_path / "inner") == {"target", "other"}


def test_a_planted_link_is_not_followed(tmp_path):
    """Whoever guesses names of unfinished files gains nothing: names are random, and opened exclusively."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    for name in (".a.part", f".a.{os.getpid()}.part", f".a.{'0' * 16}.part"):
        (tmp_path / name).symlink_to(precious)
    write_file(tmp_path / "a", [b"new"])
    assert precious.read_bytes() == b"precious"
    assert (tmp_path / "a").read_bytes() == b"new" and not (tmp_path / "a").is_symlink()


def test_a_name_that_is_taken_is_not_opened(tmp_path, monkeypatch):
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0" * 16)
    (tmp_path / f".a.{'0' * 16}.part").symlink_to(precious)
    with pytest.raises(TfqError, match="cannot be written: File exists"):
        write_file(tmp_path / "a", [b"new"])
    assert precious.read_bytes() == b"precious"


def test_a_fifo_is_written_into(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write_file(path, [b"x" * 200_000, b"end"])  # more than a pipe holds
    reader.join()
    assert read == [b"x" * 200_000 + b"end"]
    assert stat.S_ISFIFO(path.stat().st_mode) and _names(tmp_path) == {"fifo"}


def test_a_device_is_written_into_through_a_link(tmp_path):
    leader, follower = pty.openpty()
    name = os.ttyname(follower)
    before = os.stat(name)
    (tmp_path / "link").symlink_to(name)
    write_file(tmp_path / "link", [b"content"])
    assert os.read(leader, 100) == b"content"
    assert os.path.samestat(before, os.stat(name)) and os.stat(name).st_rdev == before.st_rdev
    os.close(leader)
    os.close(follower)


def test_an_open_descriptor_is_written_into(tmp_path):
    """`/dev/stdout` of a shell's `> file` is that file, which must not be replaced below the shell."""
    with (tmp_path / "a").open("w+b") as file:
        before = os.fstat(file.fileno()).st_ino
        write_file(f"/dev/fd/{file.fileno()}", [b"by path"])
        assert (tmp_path / "a").read_bytes() == b"by path"
        write_file(file.fileno(), [b"by number"])
        assert (tmp_path / "a").read_bytes() == b"by number"
    assert (tmp_path / "a").stat().st_ino == before and _names(tmp_path) == {"a"}


def test_a_pipe_whose_reader_went_away():
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        write_file(writing, [b"x"])
    os.close(writing)


@pytest.mark.parametrize(
    ("name", "why"), [("folder", "Is a directory"), ("no/a", "No such file"), ("loop", "Too many")]
)
def test_what_cannot_be_written(tmp_path, name, why):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(TfqError, match=f"{name} cannot be written: {why}"):
        write_file(tmp_path / name, [b"x"])
    assert _names(tmp_path) == {"folder", "loop"}


# --------------------------------------------------------------------------------- failed and killed saves


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_save_leaves_nothing(tmp_path, error):
    (tmp_path / "a").write_bytes(b"old")

    def content() -> Iterator[bytes]:
        yield b"new"
        assert len(_names(tmp_path)) == 2
        raise error

    with pytest.raises(error):
        write_file(tmp_path / "a", content())
    assert (tmp_path / "a").read_bytes() == b"old"
    assert _names(tmp_path) == {"a"}


SAVES_FOREVER = """
    import sys, time
    from tfq_converters.files import write_file
    def content():
        yield b"half"
        print("writing", flush=True)
        time.sleep(600)
    write_file(sys.argv[1], content())
"""


def test_a_killed_save_is_cleared_by_the_next_and_a_living_one_is_not(tmp_path):
    living, killed = (begun(SAVES_FOREVER, tmp_path / "a") for _ in range(2))
    with living, killed:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert len(_names(tmp_path)) == 2
        (tmp_path / ".a.notes.part").write_bytes(b"not an unfinished file")
        write_file(tmp_path / "a", [b"new"])
        assert len(_names(tmp_path)) == 3  # the file, the notes, and what the living one writes
        living.send_signal(signal.SIGKILL)
    write_file(tmp_path / "a", [b"new"])
    assert _names(tmp_path) == {"a", ".a.notes.part"}


def test_a_writer_that_is_taken_for_dead_begins_again(tmp_path, monkeypatch):
    """Another writer may look at a file between the moments when it is made and locked."""
    lock, names = files.lock, []

    def late(descriptor: int) -> None:
        if not names:
            names.extend(_names(tmp_path))
            (tmp_path / names[0]).unlink()
        lock(descriptor)

    monkeypatch.setattr(files, "lock", late)
    write_file(tmp_path / "a", [b"new"])
    assert names and (tmp_path / "a").read_bytes() == b"new" and _names(tmp_path) == {"a"}


# --------------------------------------------------------------------------------------------- concurrency

WRITES, READS, SIZE = 60, 400, 300_000


def _write_many(path: Path, letter: bytes) -> None:
    for _ in range(WRITES):
        write_file(path, [letter * (SIZE // 3)] * 3)


def _damaged(path: Path, written: threading.Event) -> int:
    """How many of many reads, while others write and after, saw something else than one whole content."""
    damaged = reads = 0
    while reads < READS or not written.is_set():
        content = path.read_bytes()
        damaged += content != content[:1] * SIZE
        reads += 1
    return damaged


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_readers_never_see_a_mix(tmp_path, kind):
    path = tmp_path / "a"
    write_file(path, [b"0" * SIZE])
    start = threading.Thread if kind == "threads" else multiprocessing.get_context("spawn").Process
    writers = [start(target=_write_many, args=(path, letter)) for letter in (b"1", b"2")]
    found: list[int] = []
    written = threading.Event()
    readers = [threading.Thread(target=lambda: found.append(_damaged(path, written))) for _ in range(4)]
    for each in (*writers, *readers):
        each.start()
    for each in writers:
        each.join()
    written.set()
    for each in readers:
        each.join()
    assert found == [0] * 4
    assert _names(tmp_path) == {"a"}
    if kind == "processes":
        assert [writer.exitcode for writer in writers] == [0, 0]


# ------------------------------------------------------------------------------------- nobody writes otherwise

# These write in a temporary folder of their own, which nobody else sees.
IN_TEMPORARY_FOLDERS = {"array_file", "child_process", "run_child", "run", "child", "saved_model"}
MAKES_FILES = {"os.replace", "os.rename", "shutil.move", "np.save", "np.savez", "np.savez_compressed", "os.link"}
METHODS = {"write_bytes", "write_text", "tofile"}
MAKES_FOLDERS = {f"tempfile.{name}" for name in ("mkdtemp", "mkstemp", "TemporaryDirectory", "NamedTemporaryFile")}


def _sources() -> list[Path]:
    return [*(ROOT / "tfq_fine").rglob("*.py"), *(ROOT / "converters").rglob("*.py")]


def _calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def _makes_a_file(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    modes = [str(argument.value) for argument in call.args if isinstance(argument, ast.Constant)]
    opens = name == "open" or name.endswith((".open", ".fdopen"))
    return name in MAKES_FILES or name.split(".")[-1] in METHODS or (opens and any(m[:1] in {*"wax"} for m in modes))


def test_every_file_is_written_here():
    writers = {path.stem for path in _sources() if any(map(_makes_a_file, _calls(path)))}
    fill_buffers = {"statistics", "codes_on_disk"}
    write_to_copies_of_descriptors = {"progress", "terminal", "native_output", "silence", "apart_child"}
    assert writers - IN_TEMPORARY_FOLDERS == {"writing"} | fill_buffers | write_to_copies_of_descriptors


def test_every_temporary_folder_is_made_in_one_place():
    makers = {path.stem for path in _sources() if any(ast.unparse(c.func) in MAKES_FOLDERS for c in _calls(path))}
    assert makers == {"temporary"}


def test_every_child_starts_without_the_current_folder_on_its_path():
    """`python -m` and `-c` put it first, so that a `numpy.py` there would be run."""
    wrong = []
    for path in [*_sources(), *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.List) and node.elts and ast.unparse(node.elts[0]) in {"sys.executable", "python"}:
                options = [ast.unparse(element) for element in node.elts[1:]]
                if options[:1] not in (["'-P'"], ["'-I'"]):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {options[:2]}")
    assert wrong == []
