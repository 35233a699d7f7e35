"""Runs in processes of their own: one, or two that accelerate or a scheduler starts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.support.paths import ROOT


def launch_two(
    arguments: Sequence[str], distribution: Sequence[str] = ("--multi_gpu",)
) -> subprocess.CompletedProcess[str]:
    """Run a module in two CPU processes through accelerate's launcher.

    `--cpu` would start one process only; `--multi_gpu` is the distributed launcher, and the
    environment keeps its processes on the CPU.
    """
    launch = ("-m", "accelerate.commands.launch", *distribution, "--num_processes", "2")
    one_machine = ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m")
    return subprocess_run([*launch, *one_machine, *arguments], ACCELERATE_USE_CPU="true")


def launch_machines(arguments: Sequence[str]) -> list[subprocess.CompletedProcess[str]]:
    """Run a module as two machines of one process each, which meet on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2")
    meeting = ("--main_process_ip", "127.0.0.1", "--main_process_port", port)
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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}

    def task(rank: int) -> subprocess.CompletedProcess[str]:
        places = {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
        return subprocess_run(["-m", *arguments], **world, **places, **environment)

    with ThreadPoolExecutor() as tasks:
        return list(tasks.map(task, range(2)))


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
