"""Whatever bytes come: an answer, or one of the errors that are allowed. ``python -m tests.fuzz``.

A target makes of any bytes an input of its own kind, mostly a sound one with something wrong in it.
Two engines think up the bytes: hypothesis, and atheris, which looks for new paths through the code.
"""
