"""The command line ``cuse-crypto``: arguments and wiring, a file a command."""
