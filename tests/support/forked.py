"""Runs of modules in processes that are forked from one that has imported PyTorch, to save that.

As a program, it is that process: a line of its input is a list of tasks, and a line of its output
the list of their exit codes. What importing does, such as the first line of a command, is tested in
processes of `launch.subprocess_run`.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from mae_et.workers import STOP_SIGNALS
from tests.support.paths import ROOT


def run_forked(
    arguments: Sequence[str], environments: Sequence[Mapping[str, str]]
) -> list[subprocess.CompletedProcess[str]]:
    """Run a module, as `python -m`, in one process for each environment, at the same time.

    Args:
        arguments: The module, and its arguments.
        environments: What is added to this process's environment.
    """
    with tempfile.TemporaryDirectory() as folder:
        tasks = [
            {
                "arguments": list(arguments),
                "environment": {**os.environ, **extra},
                "files": [f"{folder}/{number}.{name}" for name in ("out", "err")],
            }
            for number, extra in enumerate(environments)
        ]
        return [
            subprocess.CompletedProcess(
                list(arguments), code, *(Path(file).read_text() for file in task["files"])
            )
            for code, task in zip(_ask(tasks), tasks, strict=True)
        ]


@cache
def _server() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", __name__]
    server = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(server.communicate)
    return server


def _ask(tasks: Sequence[Mapping[str, object]]) -> list[int]:
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    print(json.dumps(tasks), file=server.stdin, flush=True)
    codes: list[int] = json.loads(server.stdout.readline())
    return codes


def _serve() -> list[str]:
    """Answer until the input ends; return in the processes of tasks only, with their arguments.

    Signals that a test sends to all processes below it are not for the server.
    """
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}
    for line in sys.stdin:
        children = []
        for task in json.loads(line):
            child = os.fork()
            if not child:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                _become(task["environment"], task["files"])
                arguments: list[str] = task["arguments"]
                return arguments
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)
    sys.exit()


def _become(environment: Mapping[str, str], files: Sequence[str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    created = os.O_WRONLY | os.O_CREAT
    places = [os.open(os.devnull, os.O_RDONLY), *(os.open(file, created) for file in files)]
    for number, place in enumerate(places):
        os.dup2(place, number)
    # Input that was read ahead is the server's.
    sys.stdin = os.fdopen(0)


if __name__ == "__main__":
    import finetune.train  # noqa: F401
    import mae_et.pretraining  # noqa: F401

    module, *sys.argv[1:] = _serve()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
