"""Sequences of ioctls against a node and against a model of the API: the same to the byte.

``python -m tests.differential --help``. Nothing here imports the front end; see model.py.
"""
