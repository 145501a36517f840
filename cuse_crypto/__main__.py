"""``python -m cuse_crypto`` is ``cuse-crypto``."""

from cuse_crypto.cli.main import main

main()
