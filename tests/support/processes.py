"""Processes that the tests start: forked from a server that has imported torch and this package once.

They are processes like any other, with their own signals, files and exit codes, but start in a moment instead of the five
or more seconds that the imports take. What is forked has only been imported: no net has run there.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing import start_processes

from guidance import distributed

IMPORTED = [
    "pytest", "guidance.inference", "guidance.evaluation.significance", "torch.utils.tensorboard", "tests.support.scenarios"
]  # fmt: skip


# How a process ended can be read once, and each start asks all of them: two threads must not at the same time.
ASKING = threading.Lock()


def fork_server() -> Any:
    """What starts processes that have imported torch and this package."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def _start_children_as_ever() -> None:
    """What is forked inherits how, and would start workers of its own, such as those of loaders, from another such server."""
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)


def _joined(rank: int, world_size: int, port: int) -> dict[str, str]:
    """What torchrun puts into the environment of a process."""
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "localhost", "MASTER_PORT": str(port),
    }  # fmt: skip


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return int(s.getsockname()[1])


def _worker(
    rank: int, world_size: int, port: int, folder: str, function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    _start_children_as_ever()
    os.environ |= _joined(rank, world_size, port)
    torch.set_num_threads(1)
    with distributed.process_group("cpu"):
        torch.save(function(*args), Path(folder) / f"{rank}.pt")


def run_processes(world_size: int, folder: Path, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What `function(*args)` (a module-level function) returned on each of `world_size` processes, in order of rank."""
    folder.mkdir(parents=True, exist_ok=True)
    fork_server()
    given = (world_size, _free_port(), str(folder), function, args)
    start_processes(_worker, given, nprocs=world_size, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


def start_forked(
    words: Sequence[str], *, cwd: Path, output: Path, environment: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """`python WORDS`, in a session of its own; what it prints is added to `output`.out and `output`.err."""
    given = dict(os.environ if environment is None else environment)
    process: ForkServerProcess = fork_server().Process(target=_script, args=(list(words), str(cwd), str(output), given))
    with ASKING:
        process.start()
    return process


def _script(words: list[str], cwd: str, output: str, environment: dict[str, str]) -> None:
    _start_children_as_ever()
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ |= environment
    for number, suffix in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{output}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv, sys.path[:0] = words, [str(Path(words[0]).parent)]
    runpy.run_path(words[0], run_name="__main__")


@contextmanager
def locked_elsewhere(file: Path) -> Iterator[Callable[[], None]]:
    """Another process holds the record lock of `file` (`guidance.runs.locks`), until what is yielded is called, or the end."""
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-S", "-c", hold, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            yield holder.stdin.close
        finally:
            holder.stdin.close()


def run_forked(
    words: Sequence[str], *, cwd: Path, output: Path, processes: int = 1, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`python WORDS` to its end, or as many processes of it as torchrun starts; the exit code is the first that is not 0."""
    given, port = dict(os.environ if environment is None else environment), _free_port()
    started = [
        start_forked(
            words, cwd=cwd, output=Path(f"{output}{rank}"),
            environment=given | (_joined(rank, processes, port) if processes > 1 else {}),
        )
        for rank in range(processes)
    ]  # fmt: skip
    try:
        for process in started:
            wait([process.sentinel], 900)
        with ASKING:
            codes = [process.exitcode for process in started]
        assert None not in codes, f"{words} did not end in a quarter of an hour"
    finally:
        with ASKING:
            for process in started:
                process.kill()
    printed = [
        "".join(Path(f"{output}{rank}.{name}").read_text() for rank in range(processes)) for name in ("out", "err")
    ]
    return subprocess.CompletedProcess(words, next((code for code in codes if code), 0) or 0, *printed)
