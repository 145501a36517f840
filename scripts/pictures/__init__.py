"""The pictures of docs/, each from the real thing: ``python -m scripts.pictures [NAME...]``."""
