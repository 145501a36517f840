"""Measuring: devices started for it, callers, rounds and their statistics.

Knows the command line and the ABI, and nothing of how a device is made.
"""
