"""Tables on this machine, Parquet files and WebDataset tar files: `parquet:` and `webdataset:`.

- files: the files of a path, their splits, and what tells a changed file
- parquet: Parquet files as a table; tars: WebDataset tar files as a table; tar_members: their
  members
- opening: splits of random access, copied once into the cache of `datasets`, or streams

Of the rest of `mae_et`, this package imports `errors`, `data.images` and `data.folders`.
"""

from .files import ALL_ENDINGS, ENDINGS, NoFilesError, expand_braces
from .opening import is_table, open_table, stream_table
from .parquet import count_rows, small_batches
from .tars import count_samples

__all__ = [
    "ALL_ENDINGS",
    "ENDINGS",
    "NoFilesError",
    "count_rows",
    "count_samples",
    "expand_braces",
    "is_table",
    "open_table",
    "small_batches",
    "stream_table",
]
