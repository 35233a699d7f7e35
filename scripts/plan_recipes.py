"""How far the planned speedup of each recipe is from the one its paper publishes.

    python scripts/plan_recipes.py [RECIPE …]

Counts FLOPs only: a few seconds a recipe, no images, no device.
"""

from __future__ import annotations

import argparse

from support.markdown import markdown
from support.recipes import plan_recipe, plan_supervised

from mae_et.config.parser import recipe_names

PUBLISHED = {
    "et_vit_b_16": ("speedup", 1.54),
    "et_vit_l_16": ("speedup", 1.53),
    "etpp_vit_b_16_hog": ("mae_speedup", 3.98),
    "fastmim_vit_b_16": ("mae_speedup", 5),  # about; its encoder sees masked patches too
    "efficient_vit_b_16": ("mae_speedup", 82),
}
"""Recipe -> what its paper compares with, and how many times less computation it publishes."""

SUPERVISED = {
    "resnet50": 1.49,
    "convnext": 1.49,
    "deit_tiny": 1.56,
    "deit_small": 1.52,
    "pvt_v1": 1.51,
    "swin": 1.51,
    "cswin": 1.52,
    "caformer": 1.52,
}
"""How the names of EfficientTrain++'s supervised recipes go on -> the same, for a whole family."""

AGAINST = {
    "speedup": "constant size",
    "mae_speedup": "MAE, 1600 epochs",
    "usual_speedup": "300 epochs at 224",
}


def main() -> None:
    """Plan every recipe whose cost is known, or those that are named, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", help="those to plan; else all")
    wanted = parser.parse_args().recipes
    supervised = [name for name in recipe_names("finetune") if name.startswith("etpp_")]
    rows = []
    for name in [*recipe_names("mae_et"), *supervised]:
        if name == "demo" or (wanted and name not in wanted):
            continue
        field, published = PUBLISHED.get(name, ("mae_speedup", None))
        if name in supervised:
            family = name.removeprefix("etpp_")
            field = "usual_speedup"
            published = next(value for key, value in SUPERVISED.items() if family.startswith(key))
            plan = plan_supervised(name)
        else:
            plan = plan_recipe(name)[0]
        planned = getattr(plan, field)
        compared = ["", f"{planned:.3f}", ""]
        if published is not None:
            compared = [str(published), f"{planned:.3f}", f"{planned / published - 1:+.1%}"]
        rows.append([name, AGAINST[field], *compared])
    print(markdown(("recipe", "against", "published", "planned", "difference"), rows))


if __name__ == "__main__":
    main()
