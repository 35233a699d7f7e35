"""The data path, one module a step: source -> images -> sample stream -> loader -> device.

- sources: a data set by name, and its splits; opening: those of a run
- encoded, arrays, images: its images, decoded only as needed
- transforms: an image -> a sample
- clock: which samples a step takes; replay: a step's images, some of them used again
- mixture: several data sets as one
- stream: sample number -> sample, and which numbers a step has
- counting, sharded, shards, lanes: the same for a data set that is itself a stream
- loader: samples -> batches on the device
"""

from .arrays import ArrayImage
from .clock import ReplaySpan, SampleClock
from .encoded import MODES, Box, EncodedImage, UnreadableImageError
from .images import AnyImage, ImageTable, open_image
from .lanes import StreamedSamples
from .loader import collate, join, load_steps, make_loader, worker_options
from .opening import open_images
from .sharded import ShardedImages
from .sources import eval_split_name, load_splits, take_split, train_and_eval_splits
from .stream import (
    Images,
    SampleStream,
    StepBatches,
    Transform,
    seed_generators,
    shard,
    split_batch,
)
from .transforms import (
    EvalTransform,
    LabelledCrop,
    PretrainTransform,
    centre_crop,
    channel_statistics,
    normalize,
    random_box,
)

__all__ = [
    "MODES",
    "AnyImage",
    "ArrayImage",
    "Box",
    "EncodedImage",
    "EvalTransform",
    "ImageTable",
    "Images",
    "LabelledCrop",
    "PretrainTransform",
    "ReplaySpan",
    "SampleClock",
    "SampleStream",
    "ShardedImages",
    "StepBatches",
    "StreamedSamples",
    "Transform",
    "UnreadableImageError",
    "centre_crop",
    "channel_statistics",
    "collate",
    "eval_split_name",
    "join",
    "load_splits",
    "load_steps",
    "make_loader",
    "normalize",
    "open_image",
    "open_images",
    "random_box",
    "seed_generators",
    "shard",
    "split_batch",
    "take_split",
    "train_and_eval_splits",
    "worker_options",
]
