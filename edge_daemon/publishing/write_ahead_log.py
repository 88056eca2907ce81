"""SQLite's write-ahead log as a file (https://www.sqlite.org/walformat.html): is all of it read?

A log is a head and frames, each a page with a head of its own. SQLite reads it up to the first
frame with a wrong checksum, and does not say that there were more.
"""

import sys
from pathlib import Path
from typing import Final

HEAD: Final = 32
FRAME_HEAD: Final = 24

COMMIT: Final = slice(4, 8)
"""In the head of a frame: not zero in the last of a transaction."""

SALT: Final = slice(8, 16)
"""In the head of a frame: what the head of its log has in SALT_OF_LOG."""

SALT_OF_LOG: Final = slice(16, 24)

FRAMES_READ: Final = slice(16, 20)
"""In the index beside the log."""


def ignored_commits(database: Path, page_size: int) -> int:
    """How many finished transactions are in the log that SQLite does not read.

    What a killed process left unfinished does not count.

    Args:
        database: the file; it must be open, must have been read, and not yet been written to.
        page_size: of the database, in bytes.

    Raises:
        OSError: the log cannot be read.
    """
    index = database.with_name(f"{database.name}-shm").read_bytes()
    read = int.from_bytes(index[FRAMES_READ], sys.byteorder)
    ignored = 0
    with database.with_name(f"{database.name}-wal").open("rb") as log:
        salt = log.read(HEAD)[SALT_OF_LOG]
        log.seek(HEAD + read * (FRAME_HEAD + page_size))
        while len(frame := log.read(FRAME_HEAD + page_size)) == FRAME_HEAD + page_size:
            # If nothing was read, the log's own head may be what is broken.
            ours = frame[SALT] == salt or read == 0
            ignored += ours and any(frame[COMMIT])
    return ignored
