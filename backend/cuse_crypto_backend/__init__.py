"""The back end: executes what front ends ask for, in its own process, with its own privileges."""
