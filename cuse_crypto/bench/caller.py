"""``python -m cuse_crypto.bench.caller``: a process that makes operations as it is told.

A line of JSON comes for each run; the answer ``ready`` means that all is prepared, and the next
line starts it. What comes then is a line with what it took. It ends with its standard input.
"""

import contextlib
import gc
import json
import sys
import time
from typing import TextIO

from cuse_crypto.bench.subjects import KINDS, Operation, Work
from cuse_crypto.errors import Failure

WARM_UP = 5
"""Operations that are not measured."""
LEAST = 3
"""Operations in a run, however long they take."""


def measure(operate: Operation, seconds: float) -> list[int]:
    """Nanoseconds of each operation, one after another for so long."""
    taken: list[int] = []
    clock, note = time.perf_counter_ns, taken.append
    before = clock()
    end = before + int(seconds * 1e9)
    while before < end or len(taken) < LEAST:
        operate()
        after = clock()
        note(after - before)
        before = after
    return taken


def answer(line: str, lines: TextIO) -> dict[str, object]:
    """Do one run."""
    told = json.loads(line)
    work = Work(told["cipher"], told["size"])
    with KINDS[told["kind"]](work, told["path"]) as operate:
        for _ in range(WARM_UP):
            operate()
        print(json.dumps({"ready": True}), flush=True)
        lines.readline()
        return {"nanoseconds": measure(operate, told["seconds"])}


def main() -> None:
    """Until there is nothing more to do."""
    gc.disable()
    # Not iteration over stdin, which reads ahead.
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        while line := sys.stdin.readline():
            try:
                result = answer(line, sys.stdin)
            except (OSError, Failure) as error:
                result = {"error": getattr(error, "strerror", None) or str(error)}
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
