"""What a caller says: the structures, ioctl numbers and algorithms of the cryptodev API.

Source: the header ``crypto/cryptodev.h`` beside this package, which a test compares with these
tables by asking a C compiler. No I/O here.
"""
