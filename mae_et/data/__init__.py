"""The data path, one module per step: source -> images -> samples -> loader -> device.

- paths: their kinds; sources: opens data sets by path
- splits: which rows are trained on and which held out
- folders/: what a folder of images holds, and its images as data sets
- tables/: Parquet and tar files of this machine; problems: what an error in opening data means
- images/: the images of a data set, decoded only as needed
- every_image: each image once, in order, the unreadable ones as blanks
- labels: their classes; label_columns: the values that name them
- stats: their channels' means and deviations
- mixture: several data sets as one; digest: whether images have changed since a run began
- transforms: image -> sample
- clock: which samples a step takes; replay: steps that use some images again
- found: what is said of a data set; scratch: temporary files
- samples: sample number -> sample, and the sample numbers of each step
- streaming/: samples of a data set that is read as a stream
- loader: samples -> batches on the device

Of the rest of `mae_et`, this package imports `config`, `errors`, `curriculum`, `waiting` and
`workers`.
"""

from .clock import ReplaySpan, SampleClock, augment_progress, sample_clock, stage_size
from .digest import digest_images
from .every_image import EveryImage
from .found import without_bars
from .images import (
    MODES,
    ORIGIN,
    AnyImage,
    ArrayImage,
    Box,
    EncodedImage,
    ImageTable,
    Shrunk,
    UnreadableImageError,
    allow_pixels,
    file_states,
    image_column,
    open_image,
    read_cell,
    shrink,
    undecoded,
)
from .label_columns import find_label_column, has_labels, label_names
from .labels import LabelledImages, check_every_class, choose_labels
from .loader import (
    Loader,
    check_shared_memory,
    collate,
    join,
    load_steps,
    make_loader,
    worker_options,
)
from .paths import is_image_folder, local_folder, local_path
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
from .sources import load_splits, open_images, open_streams
from .splits import eval_split_name, take_split, train_and_eval_splits
from .stats import LEAST_RANGE, channel_values, warn_of_range, warn_of_size
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
    "ORIGIN",
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
    "Loader",
    "PretrainTransform",
    "ReplaySpan",
    "SampleClock",
    "Samples",
    "Shrunk",
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
    "local_folder",
    "local_path",
    "make_loader",
    "normalize",
    "open_image",
    "open_images",
    "open_streams",
    "process_batches",
    "processes_here",
    "random_box",
    "read_cell",
    "replay_bytes",
    "replay_spans",
    "sample_clock",
    "seed_generators",
    "shrink",
    "split_batch",
    "stage_size",
    "take_split",
    "train_and_eval_splits",
    "undecoded",
    "warn_of_range",
    "warn_of_size",
    "without_bars",
    "worker_options",
]
