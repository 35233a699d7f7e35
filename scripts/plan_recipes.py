"""How far the planned speedup of each recipe is from the one its paper publishes.

    python scripts/plan_recipes.py

Counts FLOPs only: seconds, no images, no device.
"""

from __future__ import annotations

from mae_et.build import build_curriculum, build_on_meta, full_size_steps
from mae_et.config.parser import config_parser, parse, recipe_names
from mae_et.config.pretrain import PretrainConfig
from mae_et.planning.forecast import Plan, make_plan
from mae_et.planning.plan import IMAGENET_IMAGES

PUBLISHED = {
    "et_vit_b_16": ("speedup", 1.54),
    "et_vit_l_16": ("speedup", 1.53),
    "etpp_vit_b_16_hog": ("mae_speedup", 3.98),
    "fastmim_vit_b_16": ("mae_speedup", 5),  # about; its encoder sees masked patches too
    "efficient_vit_b_16": ("mae_speedup", 82),
}
"""Recipe -> what its paper compares with, and by how much it is faster in computation."""

AGAINST = {"speedup": "constant size", "mae_speedup": "MAE, 1600 epochs"}


def plan_recipe(name: str) -> Plan:
    """The plan of a recipe for ImageNet-1K."""
    parser = config_parser(PretrainConfig, "plan_recipes", "")
    config, _ = parse(parser, PretrainConfig, ["--config", name], "mae_et")
    steps = full_size_steps(config, IMAGENET_IMAGES)
    model = build_on_meta(config.model)
    curriculum = build_curriculum(config, model, steps)
    return make_plan(config, model, curriculum, IMAGENET_IMAGES, mae_size=224)


def main() -> None:
    print("| recipe | against | published | planned | difference |")
    print("|---|---|---|---|---|")
    for name in recipe_names("mae_et"):
        if name == "demo":
            continue
        field, published = PUBLISHED.get(name, ("mae_speedup", None))
        planned = getattr(plan_recipe(name), field)
        row = [name, AGAINST[field], "", f"{planned:.3f}", ""]
        if published is not None:
            row[2:] = [str(published), f"{planned:.3f}", f"{planned / published - 1:+.1%}"]
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
