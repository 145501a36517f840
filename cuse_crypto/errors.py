"""The one exception that ends a command: a line for the user that names the remedy."""


class Failure(Exception):
    """What this machine, the command line or a peer does not allow: one line, with its remedy."""
