"""``python -m tests.fuzz.worker TARGET ENGINE INPUTS SEED FOLDER [HEX]``: a process for a target.

Says how many inputs it has fed, a line each, and at the end what came of them, in JSON.
"""

import json
import os
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

PERIOD = 0.5
"""Seconds between two lines."""


def main() -> None:
    """Arguments, and what atheris has to be told before anything is imported."""
    target, engine, inputs, number, folder, *given = sys.argv[1:]
    instrumented = nullcontext()
    if engine == "atheris":
        import atheris

        instrumented = atheris.instrument_imports(include=["cuse_crypto", "cuse_crypto_backend"])
    with instrumented:
        from tests.fuzz import engines
        from tests.fuzz.tally import Tally
        from tests.fuzz.targets import TARGETS

    # Whatever ends this process, who has started it removes the folder.
    tempfile.tempdir = folder
    with TARGETS[target]() as run:
        tally = Tally(run, int(inputs))

        def done() -> None:
            print(json.dumps(tally.report()), flush=True)
            # libFuzzer has an end of its own, which knows nothing of ours.
            os._exit(0)

        if given:
            tally.wanted = 1
            tally.feed(bytes.fromhex(given[0]))
            done()
        said = time.monotonic()

        def progress(count: int) -> None:
            nonlocal said
            if time.monotonic() - said > PERIOD:
                said = time.monotonic()
                print(count, flush=True)

        for data in engines.kept(target):
            tally.feed(data)
        if engine == "atheris":
            engines.by_atheris(tally, int(number), target, Path(folder) / "inputs", progress, done)
        else:
            engines.by_hypothesis(tally, int(number), progress)
        done()


if __name__ == "__main__":
    main()
