"""Attacks by callers, peers and local users without privileges, each of which has to fail.

`c/` has the programs that a caller would write; they run as real user ids.
"""
