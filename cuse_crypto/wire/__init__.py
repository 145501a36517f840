"""What front end and back end say to each other: messages, the connection, and addresses.

PROTOCOL.md beside this file is the specification; a test holds the table against it.
"""
