"""How each scheme of an address listens and connects: a module each."""
