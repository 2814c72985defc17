"""Child processes for the tests in a tenth of the time: forks of a process that has loaded what they need.

Every file that is written runs in a child process, and most of the child's time is the import of numpy and of the
runtime, thousands of times in a run of all tests. `Forks` has the imports done once; each child is a fork of that
process, with the streams, the session and the exit code that a process of its own has, and runs the same `main`.

Children that are asked for in another way (another program or environment, or a `subprocess.Popen` that a test has
replaced) are started anew, and so are all in tests that take the fixture `children_from_scratch`.
"""

import importlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from typing import IO, Any, NoReturn

MODULES = ("tfq_converters.runtime.run_child", "tfq_converters.runtime.apart_child")
POPEN = subprocess.Popen
STATUS = struct.Struct("i")
MESSAGE = 2**16  # bytes of a request, at most


class ForkedChild:
    """A fork, with the part of `subprocess.Popen` that the packages use."""

    def __init__(self, pid: int, status: int, stdin: IO[bytes], stdout: IO[bytes] | None):
        self.pid, self.stdin, self.stdout = pid, stdin, stdout
        self.returncode: int | None = None
        self._status = status  # a pipe, which the exit code comes through

    def poll(self) -> int | None:
        """The exit code; None while the child runs."""
        return self._ended(0)

    def wait(self) -> int:
        """The exit code, once the child has ended."""
        code = self._ended(None)
        assert code is not None
        return code

    def kill(self) -> None:
        """End the child, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._status, selectors.EVENT_READ)
                if selector.select(timeout):
                    (self.returncode,) = STATUS.unpack(os.read(self._status, STATUS.size))
                    os.close(self._status)
        return self.returncode


class Forks:
    """Stands for the module `subprocess` in `tfq_converters.runtime.child_process`."""

    PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL

    def __init__(self, environment: dict[str, str]):
        self._environment = _lasting(environment)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", "-S", __file__, str(theirs.fileno())]
        self._server = POPEN(command, env=environment, pass_fds=[theirs.fileno()], start_new_session=True)
        self._lock = threading.Lock()
        theirs.close()

    def Popen(self, command: list[str], *, env: dict[str, str], **options: Any) -> Any:  # noqa: N802 (as in subprocess)
        """Start `command`: as a fork where it is one of MODULES in the environment of the session."""
        *_, module, folder = command
        if module not in MODULES or _lasting(env) != self._environment or subprocess.Popen is not POPEN:
            return subprocess.Popen(command, env=env, **options)
        return self._fork(module, folder, options["stdout"], options["stderr"].fileno())

    def _fork(self, module: str, folder: str, stdout: int, stderr: int) -> ForkedChild:
        child_reads, we_write = os.pipe()
        we_see, server_says = os.pipe()
        we_read, child_writes = os.pipe() if stdout == self.PIPE else (None, os.open(os.devnull, os.O_WRONLY))
        given = [child_reads, child_writes, stderr, server_says]
        with self._lock:
            socket.send_fds(self._socket, [json.dumps([module, folder, os.getcwd()]).encode()], given)
            pid = int(self._socket.recv(MESSAGE))
        for descriptor in (child_reads, child_writes, server_says):
            os.close(descriptor)
        stdin = os.fdopen(we_write, "wb")
        return ForkedChild(pid, we_see, stdin, None if we_read is None else os.fdopen(we_read, "rb"))

    def end(self) -> None:
        """End the process that forks."""
        self._socket.close()
        self._server.wait()


def _lasting(environment: dict[str, str]) -> dict[str, str]:
    """The variables that do not change from test to test."""
    return {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}


def _serve(requests: socket.socket) -> None:
    """Fork for each request, and tell the exit codes."""
    woken, wakes = os.pipe()
    for end in (woken, wakes):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    running: dict[int, int] = {}  # child -> the pipe for its exit code
    selector = selectors.DefaultSelector()
    for source in (requests.fileno(), woken):
        selector.register(source, selectors.EVENT_READ)
    while True:
        ready = {key.fd for key, _ in selector.select()}
        if woken in ready:
            os.read(woken, MESSAGE)
            _tell_ends(running)
        if requests.fileno() in ready:
            message, given, *_ = socket.recv_fds(requests, MESSAGE, 4)
            if not message:
                return
            module, folder, here = json.loads(message)
            *streams, says = given
            pid = os.fork()
            if pid == 0:
                _become(module, folder, here, streams, [*given, woken, wakes, requests.fileno()])
            running[pid] = says
            for stream in streams:
                os.close(stream)
            requests.send(str(pid).encode())


def _tell_ends(running: dict[int, int]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        says = running.pop(pid)
        os.write(says, STATUS.pack(os.waitstatus_to_exitcode(status)))
        os.close(says)


def _become(module: str, folder: str, here: str, streams: list[int], open_ones: list[int]) -> NoReturn:
    """Be the child in this fork, to its end."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.chdir(here)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for descriptor in open_ones:
            os.close(descriptor)
        sys.argv = [module, folder]
        code = importlib.import_module(module).main(folder)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for name in MODULES:
        importlib.import_module(name)
    _serve(socket.socket(fileno=int(sys.argv[1])))
