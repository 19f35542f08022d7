"""What the commands in launch/ and tools/ share: arguments that repeat, logging, and how a user's mistake is told."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidance.importing import import_module

if TYPE_CHECKING:  # a command that only prints its help need not wait for torch
    import torch


def asks_for_help() -> bool:
    """Whether the command was called to print its help, for which it need not import what takes seconds (torch)."""
    return not {"-h", "--help"}.isdisjoint(sys.argv[1:])


def build_parser(text: str | None, *, abbreviations: bool = True) -> argparse.ArgumentParser:
    """A parser that shows `text`, the docstring of the command, as it is. `abbreviations`: of options are understood."""
    return argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=abbreviations
    )


class _Import(argparse.Action):
    """Imports a module where it is named, before any config is read."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        try:
            import_module(values)
        except ImportError as error:
            parser.error(f"--import {values}: {error}; it is a module, as in `import {values}`, found from this folder")
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or ()), values])


def add_imports(parser: argparse.ArgumentParser) -> None:
    """`--import MODULE`, any number of times: what adds rows to the tables, such as a loss or a data set of one's own."""
    parser.add_argument(
        "--import",
        action=_Import,
        dest="imports",
        metavar="MODULE",
        help="a module that adds rows of your own",
    )


def add_overrides(parser: argparse.ArgumentParser, *, purpose: str = "") -> None:
    """`--set A.B=VALUE ...`, any number of times, and `--import`; `purpose` ends the help of the former."""
    add_imports(parser)
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="A.B=VALUE", help=f"change config values{purpose}"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--device`, for `distributed.process_group`."""
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")


def available_device() -> torch.device:
    """The GPU if there is one, for a command that runs as one process."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def is_main_process() -> bool:
    """Whether this process speaks for all that torchrun has started; known before they have joined."""
    return os.environ.get("RANK", "0") == "0"


def set_up_logging() -> None:
    """Messages as they are; of the other processes only errors."""
    logging.basicConfig(level=logging.INFO if is_main_process() else logging.ERROR, format="%(message)s")


def run(command: Callable[[], int | None], *, interrupted: str = "") -> int:
    """The exit code of a command: its own, 0 where it returns none, 2 after a ValueError or an OSError, which is told.

    `interrupted`: of a command that can go on, what ctrl-C says, by the main process; the code is 130.
    """
    try:
        return command() or 0
    except (ValueError, OSError) as error:
        return report_error(error)
    except KeyboardInterrupt:
        if not interrupted:
            raise
        if is_main_process():
            print(f"interrupted; {interrupted}", file=sys.stderr)
        return 130


def report_error(error: Exception) -> int:
    """Tell a user's mistake without a traceback, which GUIDANCE_TRACEBACK=1 shows; returns the exit code."""
    from guidance.distributed import ToldError

    if os.environ.get("GUIDANCE_TRACEBACK"):
        raise error
    if not isinstance(error, ToldError):
        print(f"error: {error}", file=sys.stderr, flush=True)
        file = os.environ.get("TORCHELASTIC_ERROR_FILE")
        if file:  # torchrun ends with a page about its processes; this puts the reason on its last lines
            shown = {"py_callstack": f"error: {error}", "timestamp": str(int(time.time()))}
            content = {"message": {"message": str(error), "errorCode": 2, "extraInfo": shown}}
            with contextlib.suppress(OSError):
                Path(file).write_text(json.dumps(content))
    return 2
