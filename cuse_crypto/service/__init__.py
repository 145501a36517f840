"""The service of systemd: which files it consists of, and how they come and go. Knows nothing of
what the programs do.
"""
