"""Runs in processes of their own: one, or two that accelerate or a scheduler starts."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from tests.support.forked import run_forked
from tests.support.paths import ROOT


def free_port() -> str:
    """Return a port for processes to meet at.

    It is below those that the system gives to connections, which could take it before they meet;
    and not 29500, accelerate's own choice, which tests that run side by side would share.
    """
    for port in random.SystemRandom().sample(range(20_000, 29_500), 100):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return str(port)
    raise OSError("no port is free")


def launch_two(
    arguments: Sequence[str], distribution: Sequence[str] = ("--multi_gpu",)
) -> subprocess.CompletedProcess[str]:
    """Run a module in two CPU processes through accelerate's launcher.

    `--cpu` would start one process only; `--multi_gpu` is the distributed launcher, and the
    environment keeps its processes on the CPU.
    """
    launch = ("-m", "accelerate.commands.launch", *distribution, "--num_processes", "2")
    meeting = ("--main_process_port", free_port())
    one_machine = ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m")
    return subprocess_run([*launch, *meeting, *one_machine, *arguments], ACCELERATE_USE_CPU="true")


def launch_machines(arguments: Sequence[str]) -> list[subprocess.CompletedProcess[str]]:
    """Run a module as two machines of one process each, which meet on loopback."""
    launch = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2")
    meeting = ("--main_process_ip", "127.0.0.1", "--main_process_port", free_port())
    rest = ("--num_machines", "2", "--mixed_precision", "no", "--dynamo_backend", "no")

    def machine(rank: int) -> subprocess.CompletedProcess[str]:
        command = (*launch, *meeting, *rest, "--machine_rank", str(rank), "-m", *arguments)
        return subprocess_run(command, ACCELERATE_USE_CPU="true")

    with ThreadPoolExecutor() as machines:
        return list(machines.map(machine, range(2)))


def run_tasks(
    arguments: Sequence[str], **environment: str
) -> list[subprocess.CompletedProcess[str]]:
    """Run a module as two tasks without a launcher, told of each other as in slurm.sbatch."""
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    places = [{"RANK": rank, "LOCAL_RANK": rank, "ACCELERATE_USE_CPU": "true"} for rank in "01"]
    return run_forked(arguments, [{**world, **place, **environment} for place in places])


def run_two(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a module as `run_tasks` does, for less than `launch_two`, and join what they say."""
    tasks = run_tasks(arguments)
    code = next((task.returncode for task in tasks if task.returncode), 0)
    said = ("".join(texts) for texts in zip(*((t.stdout, t.stderr) for t in tasks), strict=True))
    return subprocess.CompletedProcess(list(arguments), code, *said)


def run_one(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a module in a process of its own, for less than `subprocess_run`."""
    (only,) = run_forked(arguments, [{}])
    return only


def subprocess_run(command: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments in the root of the repository."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
