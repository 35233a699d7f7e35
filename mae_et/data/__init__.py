"""The data path, one module per step: source -> images -> samples -> loader -> device.

- sources: opens data sets by name; splits: which rows are trained on and which held out
- tables/: Parquet and tar files of this machine; problems: what an error in opening data means
- images/: the images of a data set, decoded only as needed
- labels: their classes; stats: their channels' means and deviations
- mixture: several data sets as one
- transforms: image -> sample
- clock: which samples a step takes; replay: steps that use some images again
- samples: sample number -> sample, and the sample numbers of each step
- streaming/: samples of a data set that is read as a stream
- loader: samples -> batches on the device

Of the rest of `mae_et`, this package imports `config`, `errors`, `curriculum` and `workers`.
"""

from .clock import ReplaySpan, SampleClock, augment_progress, sample_clock, stage_size
from .images import (
    MODES,
    AnyImage,
    ArrayImage,
    Box,
    EncodedImage,
    ImageTable,
    UnreadableImageError,
    file_states,
    image_column,
    open_image,
)
from .labels import LabelledImages, check_every_class, choose_labels
from .loader import collate, join, load_steps, make_loader, worker_options
from .replay import check_replay, replay_bytes, replay_spans
from .samples import (
    Images,
    Samples,
    StepBatches,
    Transform,
    process_batches,
    seed_generators,
    split_batch,
)
from .sources import load_splits, open_images
from .splits import eval_split_name, take_split, train_and_eval_splits
from .stats import channel_mean_and_std
from .streaming import StreamedImages, StreamedSamples
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
    "LabelledImages",
    "PretrainTransform",
    "ReplaySpan",
    "SampleClock",
    "Samples",
    "StepBatches",
    "StreamedImages",
    "StreamedSamples",
    "Transform",
    "UnreadableImageError",
    "augment_progress",
    "centre_crop",
    "channel_mean_and_std",
    "channel_statistics",
    "check_every_class",
    "check_replay",
    "choose_labels",
    "collate",
    "eval_split_name",
    "file_states",
    "image_column",
    "join",
    "load_splits",
    "load_steps",
    "make_loader",
    "normalize",
    "open_image",
    "open_images",
    "process_batches",
    "random_box",
    "replay_bytes",
    "replay_spans",
    "sample_clock",
    "seed_generators",
    "split_batch",
    "stage_size",
    "take_split",
    "train_and_eval_splits",
    "worker_options",
]
