"""Find the weights that a name stands for, in timm's list or in a repository of the Hub.

    timm:MODEL.TAG                weights that timm lists, such as timm:vit_base_patch16_224.mae
    hub:OWNER/NAME[@REVISION]     a ViTMAE of transformers, or a folder of timm such as our exports

They are fetched into the cache of huggingface_hub, and later read from there without a network. Of
several processes one fetches a file, since the cache locks it, while the others wait. Weights are
fetched as safetensors alone, and nothing that a repository holds is executed. A file or folder that
is called like a name is what is meant; to get the name, run in another folder.
"""

from __future__ import annotations

import difflib
import logging
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NoReturn

import timm
from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from timm.data import ImageNetInfo, infer_imagenet_subset
from timm.models import PretrainedCfg, get_pretrained_cfg, is_model_pretrained

from ..errors import first_line
from .files import check_model_type, folder_config

log = logging.getLogger(__name__)

WEIGHTS, CARD = "model.safetensors", "README.md"

FURTHER = (CARD, "preprocessor_config.json")
"""Files that say more about weights, and that a repository may lack: licence, means, deviations."""

REPOSITORY = r"[\w-][\w.-]*/[\w-][\w.-]*"
"""OWNER/NAME."""


@dataclass(frozen=True)
class Named:
    """Weights that were given by name.

    Args:
        name: The name as it was given.
    """

    name: str

    @classmethod
    def of(cls, path: str | Path) -> Named | None:
        """Return what a name stands for; None for a path.

        Raises:
            ValueError: It begins like a name, but is none.
        """
        name = str(path)
        if not name.startswith(("timm:", "hub:")) or _exists(name):
            return None
        found = cls(name)
        _ = found.repository, found.revision  # raises what is wrong with the name
        return found

    @cached_property
    def _listed(self) -> PretrainedCfg | None:
        """What timm lists; None for a repository."""
        kind, _, tag = self.name.partition(":")
        if kind != "timm":
            return None
        cfg: PretrainedCfg | None = None
        if "." in tag and is_model_pretrained(tag):
            cfg = get_pretrained_cfg(tag)
        if cfg is None:
            raise ValueError(f"checkpoint {self.name} must be {_tags_near(tag)}")
        return cfg

    @cached_property
    def tag(self) -> dict[str, Any] | None:
        """What timm says of the weights, as in the config.json of a folder; None for a repository.

        Raises:
            ValueError: timm does not list them.
        """
        cfg = self._listed
        if cfg is None:
            return None
        described = cfg.to_dict(remove_source=True)
        config = {"architecture": described.pop("architecture"), "num_classes": cfg.num_classes}
        subset = infer_imagenet_subset(described)  # by the number of classes alone
        if subset and re.search(r"(^|_)in\d+k(_\d+)?$", str(cfg.tag)):
            config["label_names"] = _imagenet_names(subset)
        return {**config, "pretrained_cfg": described}

    @cached_property
    def repository(self) -> str:
        """OWNER/NAME on the Hub."""
        return self._place[0]

    @cached_property
    def revision(self) -> str | None:
        """A branch, tag, commit or refs/pr/NUMBER of the repository; None for its main branch."""
        return self._place[1]

    @cached_property
    def _place(self) -> tuple[str, str | None]:
        place = self.name.removeprefix("hub:")
        if self._listed is not None:
            place = self._listed.hf_hub_id or ""
            if not place:
                raise ValueError(
                    f"checkpoint {self.name} must have safetensors on the Hub, and timm knows none"
                )
        found = re.fullmatch(rf"({REPOSITORY})(?:@([^@\s]+))?", place)
        if found is None:
            raise ValueError(
                f"checkpoint must be hub:OWNER/NAME or hub:OWNER/NAME@REVISION, got {self.name}"
            )
        return found[1], found[2]

    def fetch(self) -> Path:
        """Return the local folder with the weights, once they are in the cache.

        Raises:
            ValueError: There are no such weights, or they can't be had; the message says why, and
                what to type.
        """
        revision = self.revision
        if self._listed is None:
            folder = self._file("config.json", revision).parent
            config = folder_config(folder)
            check_model_type(config, self.name)
            if not {"model_type", "architecture"} & config.keys():
                raise ValueError(
                    f"checkpoint {self.name} must be a ViTMAE of transformers or a folder of timm, "
                    "got a config.json of neither"
                )
            revision = folder.name  # the commit: all files are of one
        folder = self._file(WEIGHTS, revision).parent
        for further in FURTHER[: 1 if self._listed else None]:
            self._fetch_if_there(further, folder.name)
        return folder

    def cached(self, file: str) -> Path | None:
        """Return a file of the repository if it is in the cache; nothing is fetched."""
        found = try_to_load_from_cache(self.repository, file, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def _fetch_if_there(self, file: str, commit: str) -> None:
        """Fetch a file that the weights can do without; there is one try, without waiting."""
        repository = self.repository
        if try_to_load_from_cache(repository, file, revision=commit) is not None:
            return  # it is there, or known to be missing
        try:
            get_hf_file_metadata(hf_hub_url(repository, file, revision=commit))
            hf_hub_download(repository, file, revision=commit)
        except Exception as error:  # the repository has none, or there is no network
            log.debug("%s: no %s (%s)", self.name, file, error)

    def _file(self, file: str, revision: str | None) -> Path:
        try:
            return Path(hf_hub_download(self.repository, file, revision=revision))
        except Exception as error:  # the Hub client's errors, the network library's, the system's
            self._explain(error, file)

    def _explain(self, error: Exception, file: str) -> NoReturn:
        """Raise the one line about a file that can't be had."""
        repository, revision = self.repository, self.revision
        address = f"https://huggingface.co/{repository}"
        is_missing = isinstance(error, EntryNotFoundError)
        is_not_cached = isinstance(error, LocalEntryNotFoundError)
        match error:
            case GatedRepoError():
                why = f"is gated: ask for access at {address}, then type hf auth login"
            case RevisionNotFoundError():
                why = f"has no revision {revision}; {address} lists them"
            case RepositoryNotFoundError():
                why = "does not exist on the Hub, or is private (then type hf auth login first)"
            case HFValidationError():
                why = f"is no name of a repository on the Hub ({first_line(error)})"
            case _ if is_missing and file == WEIGHTS and (not is_not_cached or self._has_other()):
                why = self._without_safetensors()
            case _ if is_missing and not is_not_cached:
                why = f"has no {file}: it is neither a ViTMAE of transformers nor a folder of timm"
            case _ if is_not_cached:
                files = (CARD, WEIGHTS) if self._listed else ("config.json", WEIGHTS, *FURTHER)
                at = f" --revision {revision}" if revision else ""
                is_offline = constants.HF_HUB_OFFLINE
                reason = "HF_HUB_OFFLINE is set" if is_offline else "the Hub can't be reached"
                why = (
                    f"is not in the cache {constants.HF_HUB_CACHE}, which lacks its {file}, and "
                    f"{reason}; where there is a network, type hf download {repository} "
                    f"{' '.join(sorted(files))}{at}"
                )
            case _:
                why = f"can't be fetched: {type(error).__name__} {first_line(error)}"
        raise ValueError(f"checkpoint {self.name} {why}") from error

    def _has_other(self) -> bool:
        """Return whether the cache has weights of the repository in another format."""
        return self.cached("config.json") is not None and self.cached(OTHER) is not None

    def _without_safetensors(self) -> str:
        return (
            f"has no {WEIGHTS}, and no other file of weights is fetched; if a pull request of the "
            f"repository adds it, give hub:{self.repository}@refs/pr/NUMBER, or type hf download "
            f"{self.repository} config.json {OTHER} --local-dir DIR and give DIR, whose tensors "
            "are read without executing anything"
        )


OTHER = "pytorch_model.bin"
"""The file of weights in repositories that have no safetensors."""


def check_not_a_name(path: str | Path) -> None:
    """Check that a path at which there is nothing is not a name that lacks its kind.

    Args:
        path: The path.

    Raises:
        ValueError: It looks like a repository of the Hub or like weights of timm.
    """
    text = str(path)
    if _exists(text):
        return
    address = re.fullmatch(rf"(?:https?:/+huggingface\.co/|hf-hub:|hf_hub:)({REPOSITORY})/?", text)
    path = Path(path)
    is_file = path.suffix in (".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".tar")
    if address:
        hint = f"; on the Hub, it is hub:{address[1]}"
    elif is_model_pretrained(text):
        hint = f"; timm's weights have names such as timm:{_some_tag(text)}"
    elif re.fullmatch(REPOSITORY, text) and not is_file and not path.parent.is_dir():
        hint = f"; if it is a repository on the Hub, give hub:{text}"
    else:
        return
    raise ValueError(f"checkpoint must exist, got {text}{hint}")


@cache
def _imagenet_names(subset: str) -> list[str]:
    """Return the WordNet numbers of ImageNet's classes, which its folders are called by."""
    return list(ImageNetInfo(subset).label_names())


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long for a path, or with a null character
        return False


def _some_tag(model: str) -> str:
    """Return a model with one of its tags, or unchanged if it has one or none."""
    return model if "." in model else next(iter(timm.list_pretrained(f"{model}.*")), model)


def _tags_near(tag: str) -> str:
    """Return what a name of timm's must be that is none, in words."""
    model, dot, _ = tag.partition(".")
    tags = timm.list_pretrained(f"{model}.*") if timm.is_model(model) else []
    near = difflib.get_close_matches(tag, tags or timm.list_pretrained(), n=3)
    if tags and not dot:
        shown = ", ".join(f"timm:{name}" for name in tags[:8])
        more = f" and {len(tags) - 8} more" if len(tags) > 8 else ""
        return f"given with the tag of its weights: one of {shown}{more}"
    hint = f"; nearest: {', '.join(f'timm:{name}' for name in near)}" if near else ""
    if timm.is_model(model) and not tags:
        return f"a model that timm has weights of, and {model} has none{hint}"
    return f"timm:MODEL.TAG as timm.list_pretrained() lists them{hint}"
