"""Becomes a program of this repository under strace, which writes down every file that it opens.

`python -m bench.traced FILE peer serve …` is `python -m peer serve …` with one line in FILE for each call.
"""

import os
import sys


def opened(lines: str) -> list[str]:
    """Returns the absolute paths of what was opened, from what strace wrote: `…(…) = 7</path>`."""
    return [line.rpartition(" = ")[2].partition("<")[2].rstrip().removesuffix(">") for line in lines.splitlines()]


if __name__ == "__main__":
    # The filter lets all other calls pass without a stop.
    calls = ["-f", "--seccomp-bpf", "-y", "-qq", "-e", "trace=open,openat,openat2,creat", "-e", "status=successful"]
    os.execvp("strace", ["strace", *calls, "-o", sys.argv[1], sys.executable, "-m", *sys.argv[2:]])
