"""A `python` for what starts commands itself: it forks what it is asked to run from a process that has imported torch."""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.processes import run_forked

# It hands on where it is, its environment and its words, and then what was printed and how that ended, if by a signal by the
# same one; signals that it gets itself are not handed on. Modules, and code that is given as a word, are run by Python itself.
CLIENT = """#!{python} -S
import json, os, socket, sys
if sys.argv[1].startswith("-"):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    with server.makefile("rw") as stream:
        print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]), file=stream, flush=True)
        out, err, code = json.loads(stream.readline())
sys.stdout.write(out)
sys.stderr.write(err)
if code < 0:
    sys.stdout.flush(), sys.stderr.flush(), os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextmanager
def forking_python() -> Iterator[Path]:
    """A folder with such a `python`, to be put in front of PATH; it works to the end of this context."""
    numbers = count()
    with TemporaryDirectory() as folder:

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                words, cwd, environment = json.loads(self.rfile.readline())
                output = Path(folder) / f"printed {next(numbers)}"
                done = run_forked(words, cwd=Path(cwd), output=output, environment=environment)
                self.wfile.write(json.dumps([done.stdout, done.stderr, done.returncode]).encode() + b"\n")

        address, program = f"{folder}/socket", Path(folder) / "bin" / "python"
        program.parent.mkdir()
        program.write_text(CLIENT.format(python=sys.executable, address=address))
        program.chmod(0o755)
        with socketserver.ThreadingUnixStreamServer(address, Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            try:
                yield program.parent
            finally:
                server.shutdown()
