"""The kernel's side: the FUSE protocol, its channel, and the two kinds of device node.

Knows nothing of cryptodev, and is usable alone: a node is opened, and its ``channel`` gives
requests and takes replies.
"""
