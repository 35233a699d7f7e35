"""Interrupt a short run again and again, and compare its weights with those of one left alone.

    python scripts/chaos.py --kills 50 --terms 10 --seed 0

SIGKILLs hit at a random step, at a random moment while a checkpoint is written, or at a random
moment of starting up; SIGTERMs, sent to the process and its loader's workers, must end in exit code
75. Each attempt has a random number of loader workers, and resumes by `--resume auto`. The final
weights, and the losses on the way, must be those of the uninterrupted run, bit for bit. Any CPU
will do.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# Imported once: attempts are forked from here, or they would spend most of their time on imports.
import mae_et.pretraining  # noqa: E402, F401
from mae_et.__main__ import main as mae_et_main  # noqa: E402
from mae_et.runs import Run  # noqa: E402

IMAGES = 10_000
"""Images of the embedded training split."""

BATCH_SIZE = 16

TINY = f"""
--model.encoder=vit_tiny_patch16_224
--model.encoder_args={{embed_dim: 32, depth: 2, num_heads: 2}}
--model.image_size=16 --model.patch_size=4 --model.in_chans=1
--model.decoder_dim=16 --model.decoder_depth=1 --model.decoder_num_heads=2
--curriculum.name=stages
--curriculum.stages=[{{size: 8, share: 2}}, {{size: 12}}, {{size: 16}}]
--data.path=parquet:{ROOT}/scripts/data/fashion_mnist --data.mean=[0.3] --data.std=[0.35]
--data.eval_images=20
--optim.batch_size={BATCH_SIZE} --optim.micro_batch_size=8 --optim.base_lr=0.01
--run.log_every=1 --run.eval_every=50 --run.checkpoint_every=4
--run.tracker=none --run.progress=false
"""
ARGUMENTS = [f"--{part.strip()}" for part in TINY.replace("\n", " ").split("--") if part.strip()]


def attempt(run: Path, epochs: float, workers: int) -> None:
    """In a process of its own: start or resume the run."""
    os.setsid()  # so that a signal can be sent to the workers too
    log = os.open(run.with_suffix(".log"), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    options = [f"--run.output_dir={run}", f"--optim.epochs={epochs}", "--resume=auto"]
    options += [f"--optim.warmup_epochs={epochs / 10}", f"--data.num_workers={workers}"]
    sys.exit(mae_et_main(["pretrain", *ARGUMENTS, *options]))


def start(run: Path, epochs: float, workers: int) -> multiprocessing.process.BaseProcess:
    """Start or resume the run in a process of its own."""
    process = multiprocessing.get_context("fork").Process(
        target=attempt, args=(run, epochs, workers)
    )
    process.start()
    return process


def num_lines(run: Path) -> int:
    """Lines of the run's metrics so far."""
    file = Run(run).metrics_file
    return file.read_bytes().count(b"\n") if file.exists() else 0


def is_saving(run: Path) -> bool:
    """Whether there is an unfinished checkpoint."""
    return any(Run(run).checkpoint_folder.glob("*.tmp"))


def wait_for(moment: str, run: Path, alive: multiprocessing.process.BaseProcess) -> None:
    """Wait for the moment to interrupt, or for the end of the run.

    Args:
        moment: step, save or start-up.
        run: Folder of the run.
        alive: Its process.
    """
    if moment == "start-up":
        alive.join(random.uniform(0.0, 2.0))
        return
    seen, ahead = num_lines(run), random.randint(1, 6)
    while alive.is_alive() and num_lines(run) < seen + ahead:
        time.sleep(0.002)
    if moment == "save":
        while alive.is_alive() and not is_saving(run):
            time.sleep(0.0005)
        time.sleep(random.uniform(0.0, 0.02))
    else:
        time.sleep(random.uniform(0.0, 0.02))


def interrupt(run: Path, epochs: float, action: str, moment: str) -> str:
    """Make one attempt; return its outcome.

    Args:
        run: Folder of the run.
        epochs: Length of the run.
        action: kill or term.
        moment: step, save or start-up.
    """
    process = start(run, epochs, workers=random.choice([0, 0, 1, 2]))
    wait_for(moment, run, process)
    if not process.is_alive():
        return "finished"
    assert process.pid is not None
    if action == "kill":
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        return "killed inside a checkpoint's writing" if is_saving(run) else f"killed at {moment}"
    os.killpg(process.pid, signal.SIGTERM)
    process.join()
    assert process.exitcode == 75, f"exit code {process.exitcode} after SIGTERM"
    return "stopped by SIGTERM, exit code 75"


def finish(run: Path, epochs: float) -> None:
    """Run to the end without an interruption."""
    process = start(run, epochs, workers=0)
    process.join()
    assert process.exitcode == 0, f"see {run}.log"


def interrupt_all(run: Path, epochs: float, actions: list[str]) -> Counter[str]:
    """Interrupt a run by each action in turn, until it has finished; return the outcomes."""
    outcomes: Counter[str] = Counter()
    for number, action in enumerate(actions):
        # Before training, SIGTERM ends the process: there is nothing to save.
        moments = ["step", "save", "save", "start-up"] if action == "kill" else ["step", "save"]
        outcome = interrupt(run, epochs, action, random.choice(moments))
        outcomes[outcome] += 1
        print(f"{number + 1:3d}  after {num_lines(run):4d} lines: {outcome}", flush=True)
        if outcome == "finished":
            break
    return outcomes


def losses(run: Path) -> list[tuple[int, float]]:
    """The losses and evaluations of a run, by step."""
    return [
        (line["step"], line["loss"] if "loss" in line else line["eval_loss"])
        for line in Run(run).read_metrics()
    ]


def weights(run: Path) -> bytes:
    """The weights of a run's last checkpoint."""
    checkpoint = Run(run).latest_checkpoint()
    assert checkpoint is not None, f"{run} has no checkpoint"
    return checkpoint.weights.read_bytes()


def encoder(run: Path) -> bytes:
    """The weights of the encoder that a run has exported."""
    return (Run(run).encoder / "model.safetensors").read_bytes()


def compare(first: Path, second: Path) -> dict[str, bool]:
    """Whether two runs have the same losses, weights and encoder."""
    return {
        "losses": losses(first) == losses(second),
        "weights": weights(first) == weights(second),
        "encoder": encoder(first) == encoder(second),
    }


def main() -> int:
    """Run once without and once with interruptions; return 0 if they end the same."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--terms", type=int, default=10)
    parser.add_argument("--steps", type=int, default=600, help="of the run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "chaos")
    options = parser.parse_args()
    random.seed(options.seed)
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    epochs = options.steps * BATCH_SIZE / IMAGES
    whole, broken = options.out / "whole", options.out / "broken"

    began = time.perf_counter()
    finish(whole, epochs)
    print(f"uninterrupted: {time.perf_counter() - began:.0f} s", flush=True)
    actions = ["kill"] * options.kills + ["term"] * options.terms
    random.shuffle(actions)
    outcomes = interrupt_all(broken, epochs, actions)
    finish(broken, epochs)

    for outcome, count in sorted(outcomes.items()):
        print(f"{count:3d} {outcome}")
    print(f"{time.perf_counter() - began:.0f} s in all")
    same = compare(whole, broken)
    print("identical to the uninterrupted run: ", same)
    return 0 if all(same.values()) and outcomes.total() == len(actions) else 1


if __name__ == "__main__":
    sys.exit(main())
