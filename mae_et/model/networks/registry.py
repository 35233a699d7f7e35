"""Register a network with timm, so that its functions create, describe and list it by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, register_model

from .pyramid import PyramidTransformer


def describe(
    first_conv: str, *, image_size: int = 224, takes_img_size: bool = False
) -> dict[str, Any]:
    """Describe a network's images, first layer and head, as timm does.

    Args:
        first_conv: The name of the layer that takes the images.
        image_size: Pixels of the images that it was made for.
        takes_img_size: Whether the constructor has to know the size.
    """
    return {
        "num_classes": 1000,
        "input_size": (3, image_size, image_size),
        "pool_size": None,
        "crop_pct": 0.9 if image_size == 224 else 1.0,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": first_conv,
        "classifier": "head",
        "fixed_input_size": takes_img_size,
    }


def register(network: type[PyramidTransformer], name: str, sizes: Mapping[str, Any]) -> None:
    """Register a network of some sizes; `default_cfgs` of its module has its description.

    Args:
        network: The class.
        name: timm's name for it with these sizes.
        sizes: The arguments of the constructor that make it so; those of the caller go before them.
    """

    def create(pretrained: bool = False, **arguments: Any) -> Any:
        arguments = {**sizes, **arguments}
        stages = tuple(range(len(arguments["depths"])))
        return build_model_with_cfg(
            network,
            name,
            pretrained,
            pretrained_filter_fn=lambda weights, model: model.fit_weights(weights),
            feature_cfg={"out_indices": stages, "feature_cls": "getter"},
            **arguments,
        )

    create.__name__ = create.__qualname__ = name
    create.__module__ = network.__module__
    register_model(create)
