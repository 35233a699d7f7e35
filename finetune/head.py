"""Start the head of a classifier as the linear probe of its frozen encoder.

A new head with random weights sends large gradients into the encoder before it has learned
anything, which distorts what pretraining has learned; a head that fits the features does not.
Training normalises each batch by itself where there are batch norms, so the probe sees statistics
of the images to learn from, and not those of pretraining, which SimMIM takes of masked images.
Source: linear probing, then fine-tuning, https://arxiv.org/abs/2202.10054.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from mae_et.config import Resume
from mae_et.data import channel_statistics, normalize
from mae_et.evaluation import Features, linear_classifier
from mae_et.runs import Run
from mae_et.training import main_process_first
from mae_et.weights import linear_head

from .batch_norms import batch_norms, share_statistics, statistics_of_pass
from .build import build_probe_images
from .config import FinetuneConfig
from .data import LabelledSplits

log = logging.getLogger(__name__)


def start_from_probe(
    config: FinetuneConfig,
    accelerator: Accelerator,
    splits: LabelledSplits,
    resume: Resume,
    network: nn.Module,
) -> None:
    """Give a network the head of a linear probe of what it computes before the head.

    The probe learns from the training images, without augmentation. The network then is on the
    accelerator's device, and its head is the same in every process.

    Args:
        config: The run.
        accelerator: The accelerator of this process.
        splits: The labelled images.
        resume: Whether the run's folder may hold a run, one without a checkpoint.
        network: The network, with the weights of its encoder.

    Raises:
        ValueError: The head is no linear layer, and `optim.new_head` is not auto; or the folder
            holds a run.
        RunStoppedError: Too many images are unreadable.
    """
    head = linear_head(network)
    if head is None:
        wanted = f"optim.new_head must be random for {config.model.encoder}"
        if config.optim.new_head == "probe":
            raise ValueError(f"{wanted}, whose head is not a linear layer, got 'probe'")
        if accelerator.is_main_process:
            log.warning("the head of %s is no linear layer; it is random", config.model.encoder)
        return
    if not resume:  # else this would be found out after the probe
        main_process_first(accelerator, Run(Path(config.run.output_dir)).check_new)
    train = _head_inputs(config, accelerator, splits, network, head)
    layer: list[tuple[Tensor, Tensor] | None] = [None]
    if train is not None:
        layer = [
            linear_classifier(
                train,
                config.probe,
                num_classes=len(splits.class_names),
                seed=config.run.seed,
                device=accelerator.device,
            )
        ]
        what = f"the linear probe of {len(train)} images"
        print(f"the head begins as {what}; step 0 has its accuracy", file=sys.stderr)
    broadcast_object_list(layer)
    assert layer[0] is not None
    weight, bias = layer[0]
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)


def _head_inputs(
    config: FinetuneConfig,
    accelerator: Accelerator,
    splits: LabelledSplits,
    network: nn.Module,
    head: nn.Linear,
) -> Features | None:
    """Return what the head gets for each training image, in the main process."""
    network.to(accelerator.device).eval()
    mean = channel_statistics(config.data.mean, accelerator.device)
    std = channel_statistics(config.data.std, accelerator.device)
    inputs: list[Tensor] = []

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        with accelerator.autocast():
            network(normalize(images, mean, std))
        if inputs[0].shape != (len(images), head.in_features):
            raise ValueError(
                f"optim.new_head must be random for {config.model.encoder}, whose head does not "
                f"get {head.in_features} numbers an image, got {config.optim.new_head!r}"
            )
        return inputs.pop()

    hook = head.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    images = build_probe_images(config, splits)
    try:
        if norms := batch_norms(network):
            with statistics_of_pass(norms):
                images.features_of(images.train, accelerator, features)
            share_statistics(norms, accelerator)
        return images.features_of(images.train, accelerator, features)
    finally:
        hook.remove()


def advice_if_start_is_best(run: Run) -> str | None:
    """Return a line that says so if no evaluation was as good as the one before the first step."""
    scores = [(line["step"], line["top1"]) for line in run.read_metrics() if "top1" in line]
    start = next((top1 for step, top1 in scores if step == 0), 0.0)
    reached = max((top1 for step, top1 in scores if step > 0), default=0.0)
    if reached >= start:
        return None
    return (
        f"training reached {reached:.2%} at most, less than the {start:.2%} it began with: best is "
        "the classifier before training. Try a lower optim.base_lr, or more labels"
    )
