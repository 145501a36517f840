"""Kernel interfaces other than FUSE, a module each."""
