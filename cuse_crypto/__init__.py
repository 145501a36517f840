"""A user-space ``/dev/crypto``: the node, its protocol languages, and the command line."""

__version__ = "0.1.0"
