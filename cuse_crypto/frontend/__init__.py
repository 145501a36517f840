"""The front end: takes the kernel's requests and forwards them to a back end over queues."""
