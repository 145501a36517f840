"""The bundled chat: a server that relays, and members whose ciphers are those of a crypto device.

It is a guest of the device: of cuse-crypto it knows the public binding alone. Two wires:
``frames`` and ``records`` (chat/WIRE.md), and ``classic``, the course's. The command line is in
``cuse_crypto.cli.chat``.
"""
