"""`embed` that kills itself, run by test_embed: killed_embed.py PART|join [arguments].

It dies when half of the file of part number PART is written, or of the joined file.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pyarrow.parquet as pq

from mae_et.__main__ import main
from mae_et.embedding import output
from mae_et.embedding.parts import Part, Parts


def die(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    write, write_parquet = Parts.write, output._write_parquet

    def killed_write(self: Parts, part: int, content: Part) -> None:
        if str(part) == point:
            unfinished = self.file(part).with_suffix(".tmp")
            pq.write_table(content.table(), unfinished)
            die(unfinished)
        write(self, part, content)

    def killed_join(parts: Parts, files: list[Path], dim: int) -> None:
        write_parquet(parts, files, dim)
        if point == "join":
            die(files[0])

    Parts.write = killed_write
    output._write_parquet = killed_join


if __name__ == "__main__":
    arm(sys.argv[1])
    sys.exit(main(["embed", *sys.argv[2:]]))
