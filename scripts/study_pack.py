"""Whether packing costs accuracy: encoders pretrained on big photos, and on the same ones packed.

    python scripts/study_pack.py --photos DIR --labelled DIR --out runs/pack

Each seed pretrains a small ViT of 64 pixels twice, with the same settings and samples, on the
photos of a folder and on what `pack` makes of them with its defaults. A linear classifier of the
frozen features is then trained and tested on labelled images (with splits train and test). The
difference is paired by seed.

Stop it at any time: the same command continues. It ends with the difference, and OUT/results.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from support.runs import facts, run, write_json
from support.seeds import paired_difference, spread

from mae_et.packing import pack
from mae_et.runs import Run, probe_file

NETWORK: dict[str, object] = {
    "model__encoder": "vit_tiny_patch16_224",
    "model__encoder_args": json.dumps({"embed_dim": 96, "depth": 4, "num_heads": 4}),
    "model__image_size": 64,
    "model__patch_size": 8,
    "model__in_chans": 3,
    "data__mean": [0.485, 0.456, 0.406],
    "data__std": [0.229, 0.224, 0.225],
    "data__num_workers": 1,
}


def encoder(out: Path, data: str, name: str, seed: int, epochs: float) -> Path:
    """The pretraining of a seed on the photos as they are, or packed."""
    folder = out / f"{name}_{seed}"
    if not Run(folder).encoder.is_dir():
        run(
            "mae_et",
            folder,
            "pretrain",
            "--config=demo",
            **NETWORK,
            model__target="norm_pixel",
            data__path=data,
            data__crop_scale=[0.2, 1.0],
            optim__epochs=epochs,
            optim__warmup_epochs=0.1 * epochs,
            optim__batch_size=32,
            optim__micro_batch_size=32,
            optim__base_lr=8e-3,
            run__checkpoint_every=50,
            run__eval_every="null",
            run__seed=seed,
        )
    return folder


def linear_accuracy(out: Path, labelled: Path, pretraining: Path) -> float:
    """Top-1 accuracy of a linear classifier of the frozen features on the test images."""
    folder = out / f"linear_{pretraining.name}"
    scores = probe_file(folder, "linear")
    if not scores.exists():
        given = {"checkpoint": pretraining, "mode": "linear", "data__path": labelled}
        fields = NETWORK | given | {"run__mixed_precision": "no"}
        run("finetune", folder, "--config=small_data", **fields)
    accuracy: float = json.loads(scores.read_text())["top1"]
    return accuracy


def main() -> None:
    """Train what is missing, and print the difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder of big photos")
    parser.add_argument("--labelled", type=Path, required=True, help="images to probe on")
    parser.add_argument("--out", type=Path, default=Path("runs/pack"))
    parser.add_argument("--epochs", type=float, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    out, photos = options.out.resolve(), options.photos.resolve()
    packed = pack(str(photos), out / "packed", measure=False).path
    scores: dict[str, dict[int, float]] = {}
    for seed in options.seeds:
        for name, data in {"photos": str(photos), "packed": packed}.items():
            pretraining = encoder(out, data, name, seed, options.epochs)
            accuracy = linear_accuracy(out, options.labelled.resolve(), pretraining)
            scores.setdefault(name, {})[seed] = accuracy
            print(f"{name}, seed {seed}: {accuracy:.2%}", flush=True)
    write_json(out / "results.json", {"top1": scores, "epochs": options.epochs, **facts()})
    for name, values in scores.items():
        print(f"{name}: {spread([*values.values()])} %")
    difference = paired_difference(scores["packed"], scores["photos"])
    if difference is not None:
        interval = f"[{difference.low:+.2f}, {difference.high:+.2f}]"
        print(f"packed less photos: {difference.mean:+.2f} {interval} points: {difference.verdict}")


if __name__ == "__main__":
    main()
