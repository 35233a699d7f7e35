"""Which fields of the section `model` a method of masked pretraining has no use for."""

OF_OTHERS = {
    "mae": ("mask_unit",),
    "hiera": ("mask_unit",),
    "simmim": (
        "num_class_tokens",
        "decoder_dim",
        "decoder_depth",
        "decoder_num_heads",
        "decoder",
        "decode_ratio",
        "mask_block",
        "positions",
    ),
}
"""Method -> these fields: a configuration keeps them at their defaults, and the model gets none."""
