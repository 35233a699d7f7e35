"""The data path, one module per step: source -> images -> samples -> loader -> device.

- sources: opens data sets by name; splits: which rows are trained on and which held out
- folders/: what a folder of images holds, and its images as data sets
- tables/: Parquet and tar files of this machine; problems: what an error in opening data means
- images/: the images of a data set, decoded only as needed
- every_image: each image once, in order, the unreadable ones as blanks
- labels: their classes; stats: their channels' means and deviations
- mixture: several data sets as one; digest: whether images have changed since a run began
- transforms: image -> sample
- clock: which samples a step takes; replay: steps that use some images again
- scratch: temporary files
- samples: sample number -> sample, and the sample numbers of each step
- streaming/: samples of a data set that is read as a stream
- loader: samples -> batches on the device

Of the rest of `mae_et`, this package imports `config`, `errors`, `curriculum`, `waiting` and
`workers`.
"""

from .clock import ReplaySpan, SampleClock, augment_progress, sample_clock, stage_size
from .digest import digest_images
from .every_image import EveryImage
from .images import (
    MODES,
    AnyImage,
    ArrayImage,
    Box,
    EncodedImage,
    ImageTable,
    UnreadableImageError,
    allow_pixels,
    file_states,
    image_column,
    open_image,
)
from .labels import (
    LabelledImages,
    check_every_class,
    choose_labels,
    find_label_column,
    has_labels,
    label_names,
)
from .loader import check_shared_memory, collate, join, load_steps, make_loader, worker_options
from .replay import check_replay, processes_here, replay_bytes, replay_spans
from .samples import (
    Images,
    Samples,
    StepBatches,
    Transform,
    process_batches,
    seed_generators,
    split_batch,
)
from .sources import is_image_folder, load_splits, open_images
from .splits import eval_split_name, take_split, train_and_eval_splits
from .stats import LEAST_RANGE, channel_values, warn_of_range
from .streaming import StreamedImages, StreamedSamples
from .transforms import (
    CutEnds,
    EvalTransform,
    LabelledCrop,
    PretrainTransform,
    centre_crop,
    channel_statistics,
    eval_transform,
    normalize,
    random_box,
)

__all__ = [
    "LEAST_RANGE",
    "MODES",
    "AnyImage",
    "ArrayImage",
    "Box",
    "CutEnds",
    "EncodedImage",
    "EvalTransform",
    "EveryImage",
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
    "allow_pixels",
    "augment_progress",
    "centre_crop",
    "channel_statistics",
    "channel_values",
    "check_every_class",
    "check_replay",
    "check_shared_memory",
    "choose_labels",
    "collate",
    "digest_images",
    "eval_split_name",
    "eval_transform",
    "file_states",
    "find_label_column",
    "has_labels",
    "image_column",
    "is_image_folder",
    "join",
    "label_names",
    "load_splits",
    "load_steps",
    "make_loader",
    "normalize",
    "open_image",
    "open_images",
    "process_batches",
    "processes_here",
    "random_box",
    "replay_bytes",
    "replay_spans",
    "sample_clock",
    "seed_generators",
    "split_batch",
    "stage_size",
    "take_split",
    "train_and_eval_splits",
    "warn_of_range",
    "worker_options",
]
