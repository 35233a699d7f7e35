"""The features of all images of a data set as a table: ``mae_et embed``.

`run` is the command from top to bottom: `encoder` opens the checkpoint and `images` the data set,
`parts` keeps what is computed, and `output` joins it to one file. Imports `training`, `weights`,
`data`, `runs` and what is below.
"""

from .run import Embedded, embed

__all__ = ["Embedded", "embed"]
