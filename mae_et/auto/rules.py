"""The rules of automatic settings, in the order in which they are applied: facts in, settings out.

Each rule names its source. Those that say "ours" were chosen by experience on small data sets and
checked as the documentation says; all of them give way to what the user gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..curriculum import Size, as_pair
from ..data import split_batch
from . import simmim
from .choices import Choices
from .encoders import ENCODERS, Encoder, given_encoder
from .facts import ImageFacts, MachineFacts

LARGEST_SIZE, LARGEST_PATCH = 224, 16
"""The image and patch size of MAE, pixels."""

SMALLEST_SIZE = 8
"""The least image size, pixels: four patches of two pixels a side."""

LEAST_PATCHES = 7
"""Patches along a side below which the first stage (96 of 224) would mask nearly all there is."""


MAE_IMAGES, MAE_EPOCHS, MOST_EPOCHS = 1_281_167, 400, 1600
"""ImageNet-1K and the budget of EfficientTrain++ on it; MAE's own 1600 epochs are the most."""

MAE_BATCH = 4096

RATES = {"mae": ("MAE", 2.4e-3, MAE_BATCH, 768), "simmim": ("SimMIM", 8e-4, 2048, 1024)}
"""Method -> its name, its peak learning rate (SimMIM's of 100 epochs), its batch, and the width of
its ViT-B, or of the last map of its Swin-B."""

HIGHEST_RATE = 3e-3
"""The highest peak learning rate; small networks diverge little above it."""

REPLAY = ((0.55, 4, 1920), (0.8, 2, 256))
"""EfficientTrain++'s replay of images at 96 and 160 of 224 pixels, by the share of the full side up
to which it is used: 1/ratio of a step's images are new, the others come from so many batches
(https://arxiv.org/abs/2405.08768, Section 5.2)."""

REPLAY_MEMORY = 0.1
"""The share of the machine's free memory that the images for replay may take."""

LEAST_BATCH, STEPS = 64, 8_000
"""The least batch (an eighth of fewer images), and the steps of a run before its batch grows."""


def choose_images(choices: Choices, facts: ImageFacts) -> None:
    """Choose channels, normalisation, sizes and crops from the images.

    Raises:
        ValueError: The images are too small for any patch.
    """
    seen = f"{facts.sampled:,} images looked at"
    if facts.unreadable:
        seen += f" (and {facts.unreadable:,} unreadable ones)"
    grey = f"{facts.grey:,} of the {seen} are grey"
    if facts.channels == 1 and facts.grey == facts.sampled:
        reason = f"all of the {seen} are grey"
    elif facts.channels == 3 and facts.grey:
        reason = f"{grey}, the others coloured"
    else:
        reason = f"the {seen} are read as {facts.channels} channels"
    choices.choose("model.in_chans", facts.channels, reason)
    choices.choose("data.mean", facts.mean, f"of the {seen}")
    choices.choose("data.std", facts.std, f"of the {seen}")
    if simmim.chooses_simmim(choices):
        simmim.choose_sizes(choices, facts)
        return
    _choose_sizes(choices, facts)
    # Ours: norm_pixel (MAE, Table 1d) scales the crop's ringing on flat ground to unit variance.
    flat = f"{facts.flat:.0%} of the patches are flat"
    if facts.flat > 0.2:
        choices.choose("model.target", "pixel", f"{flat}, whose noise norm_pixel would scale up")
    else:
        choices.choose("model.target", "norm_pixel", f"as in MAE; {flat}")
    if choices["model.image_size"] < 64:
        choices.choose("data.crop_scale", (0.5, 1.0), "a fifth of so small an image shows little")
    else:
        choices.choose("data.crop_scale", (0.2, 1.0), "as in MAE")


def _choose_sizes(choices: Choices, facts: ImageFacts) -> None:
    """Choose the size of images and patches; ours, so that few images have to be enlarged."""
    usual = facts.short_side(0.1)
    patch = choices.given.get("model.patch_size")
    wanted = choices.given.get("model.image_size", min(LARGEST_SIZE, usual))
    if patch is None:
        side = min(wanted) if isinstance(wanted, list | tuple) else wanted
        patch = max(2, min(LARGEST_PATCH, 2 ** int(math.log2(max(side, 1) / LEAST_PATCHES + 1e-9))))
        side_of_patches = f"at least {LEAST_PATCHES} patches a side, at most {LARGEST_PATCH} pixels"
        choices.choose("model.patch_size", patch, side_of_patches)
    else:
        choices.choose("model.patch_size", patch, "")
    multiple = max(patch) if isinstance(patch, list | tuple) else patch
    multiple *= choices.given.get("model.mask_block", 1)
    if usual < max(SMALLEST_SIZE, 2 * multiple) and "model.image_size" not in choices.given:
        raise ValueError(
            f"data.path must hold images of at least {max(SMALLEST_SIZE, 2 * multiple)} pixels, "
            f"got a tenth of them with a short side of {usual} or less; --model.image_size and "
            "--model.patch_size choose"
        )
    size = min(LARGEST_SIZE, usual) // multiple * multiple
    reason = f"nine tenths of the images have a short side of {usual} or more"
    if facts.short_sides[0] < size:
        smaller = sum(side < size for side in facts.short_sides) / facts.sampled
        reason += f"; {smaller:.0%} are smaller and are enlarged"
    choices.choose("model.image_size", size, reason)


def encoders_for(choices: Choices, facts: ImageFacts, machine: MachineFacts) -> list[Encoder]:
    """Return the encoders that the images are enough for, largest first; or only the one given.

    Ours: the steps of ten between ViT-Ti, -S and -B are those of the published MAE results (ViT-B
    and larger on 1.3 million images, ViT-Ti to -S on 0.1 million and fewer). On a CPU anything
    above ViT-Ti takes days.
    """
    if simmim.chooses_simmim(choices):
        return [simmim.given_network(choices)]
    if not {"model.encoder", "model.encoder_args"}.isdisjoint(choices.given):
        return [given_encoder(choices)]
    most = ENCODERS[:2] if machine.device == "cpu" else ENCODERS
    return [encoder for encoder in most[::-1] if encoder.images <= facts.number]


def choose_encoder(choices: Choices, encoder: Encoder, reason: str) -> None:
    """Choose an encoder and its decoder.

    Args:
        choices: The settings.
        encoder: The encoder.
        reason: Why this one.
    """
    choices.choose("model.encoder", encoder.timm_name, f"{encoder.name}: {reason}")
    if encoder.arguments:
        choices.choose("model.encoder_args", encoder.arguments, encoder.name)
    elif "model.encoder_args" not in choices.given:
        choices.drop("model.encoder_args")
    for name, value in zip(("dim", "depth", "num_heads"), encoder.decoder or (), strict=False):
        choices.choose(f"model.decoder_{name}", value, "goes with the encoder")


def choose_machine(choices: Choices, machine: MachineFacts) -> None:
    """Choose precision and loader workers from the machine."""
    if machine.has_bf16:
        choices.choose("run.mixed_precision", "bf16", "this device computes in bfloat16")
    elif machine.device == "cuda":
        choices.choose("run.mixed_precision", "fp16", "this GPU has no bfloat16")
    else:
        choices.choose(
            "run.mixed_precision", "no", f"faster on most devices of kind {machine.device}"
        )
    # On a CPU, training itself needs the cores.
    workers = machine.cores // 2 if machine.device == "cpu" else machine.cores - 1
    workers = max(1, min(16, workers))
    reason = f"{machine.cores} CPU core{'s' * (machine.cores > 1)} a process"
    choices.choose("data.num_workers", workers, reason)


def choose_curriculum(choices: Choices) -> None:
    """Choose the curriculum.

    EfficientTrain++ of equal cost: the same accuracy as MAE for a quarter of the computation
    (https://arxiv.org/abs/2405.08768, Table 14), and the only one whose length is a cost, so that
    hours can be met.
    """
    name = choices.choose("curriculum.name", "efficienttrain_plus", "most accuracy for the time")
    if name == "efficienttrain_plus":
        choices.choose("curriculum.cost", "flops", "stages of equal cost")


def choose_replay(
    choices: Choices, machine: MachineFacts, waiting: Mapping[Size, float], most: float
) -> bool:
    """Choose to use images again at the small sizes that wait for theirs.

    Args:
        choices: The settings.
        machine: What is known of the machine.
        waiting: The share of a step spent waiting, at each size.
        most: The share up to which that is accepted.

    Returns:
        Whether there is such a size.
    """
    batch, micro_batch = choices["optim.batch_size"], choices["optim.micro_batch_size"]
    chunk = split_batch(batch, micro_batch, machine.processes)
    height, width = as_pair(choices["model.image_size"])
    batch_bytes = batch * choices["model.in_chans"] * height * width
    room = int(REPLAY_MEMORY * machine.host_memory / batch_bytes)
    parts = []
    for size in (size for size, share in waiting.items() if share > most):
        side = as_pair(size)[0] / height
        ratio, batches = next(((r, b) for below, r, b in REPLAY if side <= below), (1, 0))
        ratio = math.gcd(ratio, chunk)
        if ratio > 1 and room > ratio:
            parts.append({"size": size, "ratio": ratio, "batches": min(batches, room)})
    if parts:
        choices.choose("data.replay", parts, "the loader does not keep up at these sizes")
    return bool(parts)


def default_epochs(number: int) -> float:
    """Return the full-size epochs of a run without hours.

    Ours, between two published points: 400 on ImageNet-1K (EfficientTrain++) and at most 1600
    (MAE). Fewer images get more epochs, by the square root of their number.

    Args:
        number: Training images.
    """
    return min(MOST_EPOCHS, round(MAE_EPOCHS * math.sqrt(MAE_IMAGES / number)))


def choose_batch(
    choices: Choices, facts: ImageFacts, processes: int, epochs: float, width: int
) -> None:
    """Choose the batch and the learning rate for a number of epochs.

    Ours: the batch is the largest power of two with which the run still has `STEPS` steps; the rate
    is the published one, by the square root of the batch (Adam's noise) and of the width.

    Args:
        choices: The settings.
        facts: What is known of the images.
        processes: Processes that train, which divide the batch.
        epochs: Full-size epochs.
        width: Width of the encoder.
    """
    least = min(LEAST_BATCH, max(8, facts.number // 8))
    wanted = min(max(epochs * facts.number / STEPS, least), MAE_BATCH)
    share = 2 ** int(math.log2(max(wanted / processes, min(least, 8))))
    batch = choices.choose(
        "optim.batch_size",
        share * processes,
        f"as large as leaves {STEPS:,} steps, but {least} or so at least",
    )
    method = RATES["simmim" if simmim.chooses_simmim(choices) else "mae"]
    method_name, rate, its_batch, its_width = method
    peak = rate * math.sqrt(batch / its_batch) * math.sqrt(its_width / width)
    peak = min(peak, HIGHEST_RATE)
    choices.choose(
        "optim.base_lr",
        float(f"{peak * 256 / batch:.2g}"),
        f"a peak of {peak:.2g}, from {method_name}'s by batch and width",
    )


def choose_warmup(choices: Choices, epochs: float) -> None:
    """Choose MAE's warm-up: a tenth of 400 epochs, and 40 of more."""
    choices.choose("optim.warmup_epochs", float(f"{min(40, 0.1 * epochs):.3g}"), "as in MAE")


def cpu_micro_batch(choices: Choices, machine: MachineFacts, encoder: Encoder) -> int:
    """Return the most images at a time on a CPU, from its memory and its caches.

    Ours: activations of a ViT's block take about 20 numbers of 4 bytes for each token and channel.
    Above 64 images nothing is gained on a CPU.

    Args:
        choices: The settings.
        machine: What is known of the machine.
        encoder: The encoder, which sees a quarter of the tokens.
    """
    image_bytes = encoder.memory or _vit_memory(choices, encoder)
    return max(1, min(64, int(machine.memory / 4 / image_bytes)))


def _vit_memory(choices: Choices, encoder: Encoder) -> float:
    """Return the bytes of the activations of an image in a ViT and its decoder."""
    size, patch = (choices[f"model.{name}"] for name in ("image_size", "patch_size"))
    side = max(size) if isinstance(size, list | tuple) else size
    tokens = (side / (min(patch) if isinstance(patch, list | tuple) else patch)) ** 2
    channels = encoder.depth * encoder.width * 0.25
    channels += choices["model.decoder_dim"] * choices["model.decoder_depth"]
    return float(80 * tokens * channels)
