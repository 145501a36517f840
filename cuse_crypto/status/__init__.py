"""Looking inside: the status file system of a node, in a process of its own.

It reads the board that the front end writes, and never asks the front end anything. See
docs/status.md.
"""
