"""Plan the recipes for ImageNet-1K: FLOPs only, without images or a device."""

from __future__ import annotations

from finetune.config import FinetuneConfig
from finetune.plan import make_parser, plan_from_flops
from mae_et.build import build_curriculum, build_model_on_meta
from mae_et.config import PretrainConfig
from mae_et.config.parser import config_parser, parse
from mae_et.model import MaskedModel
from mae_et.planning.forecast import Plan, make_plan
from mae_et.planning.plan import IMAGENET_IMAGES


def plan_recipe(name: str) -> tuple[Plan, MaskedModel]:
    """Return the plan of a pretraining recipe, and its model on the meta device."""
    parser = config_parser(PretrainConfig, "plan_recipe", "")
    config, _ = parse(parser, PretrainConfig, ["--config", name], "mae_et")
    model = build_model_on_meta(config)
    curriculum = build_curriculum(config, model, IMAGENET_IMAGES)
    return make_plan(config, model, curriculum, IMAGENET_IMAGES, mae_size=224), model


def plan_supervised(name: str, processes: int = 1, *arguments: str) -> Plan:
    """Return the plan of a recipe of supervised training.

    Args:
        name: The recipe.
        processes: Number of processes that train.
        arguments: Further options of it.
    """
    config, _ = parse(make_parser(), FinetuneConfig, ["--config", name, *arguments], "finetune")
    return plan_from_flops(config, processes=processes)
