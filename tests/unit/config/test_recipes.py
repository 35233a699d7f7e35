"""Every recipe that the packages bring can be read, and shared out."""

from __future__ import annotations

from finetune.config import FinetuneConfig
from mae_et import data
from mae_et.config.parser import config_parser, parse, recipe_names
from mae_et.config.pretrain import PretrainConfig


def test_every_recipe_fits_many_processes() -> None:
    for package, parse_type in (("mae_et", PretrainConfig), ("finetune", FinetuneConfig)):
        for name in set(recipe_names(package)) - {"demo"}:
            parser = config_parser(parse_type, "test", "")
            arguments = ["--config", name, "--data.path", "disk:x"]
            if package == "finetune":
                arguments += ["--checkpoint", "none"]
            config, _ = parse(parser, parse_type, arguments, package)
            for world in (1, 2, 8, 32):
                optim = config.optim
                size = data.split_batch(optim.batch_size, optim.micro_batch_size, world, 2)
                assert optim.batch_size // world % size == 0
                assert size <= (optim.micro_batch_size or size)
                assert size >= min(optim.batch_size // world, 16)
