"""What goes wrong under callers that check every result. ``python -m tests.faults --help``."""
