"""How far the planned speedup of each recipe is from the one its paper publishes.

    python scripts/plan_recipes.py

Counts FLOPs only: seconds, no images, no device.
"""

from __future__ import annotations

import argparse

from support.markdown import markdown
from support.recipes import plan_recipe

from mae_et.config.parser import recipe_names

PUBLISHED = {
    "et_vit_b_16": ("speedup", 1.54),
    "et_vit_l_16": ("speedup", 1.53),
    "etpp_vit_b_16_hog": ("mae_speedup", 3.98),
    "fastmim_vit_b_16": ("mae_speedup", 5),  # about; its encoder sees masked patches too
    "efficient_vit_b_16": ("mae_speedup", 82),
}
"""Recipe -> what its paper compares with, and how many times less computation it publishes."""

AGAINST = {"speedup": "constant size", "mae_speedup": "MAE, 1600 epochs"}


def main() -> None:
    """Plan every recipe but the demo, and print the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    rows = []
    for name in recipe_names("mae_et"):
        if name == "demo":
            continue
        field, published = PUBLISHED.get(name, ("mae_speedup", None))
        planned = getattr(plan_recipe(name)[0], field)
        compared = ["", f"{planned:.3f}", ""]
        if published is not None:
            compared = [str(published), f"{planned:.3f}", f"{planned / published - 1:+.1%}"]
        rows.append([name, AGAINST[field], *compared])
    print(markdown(("recipe", "against", "published", "planned", "difference"), rows))


if __name__ == "__main__":
    main()
