"""CRIOGET: a new descriptor in the caller's process for the open file that it holds.

No system call duplicates a descriptor into another process. But the caller sleeps in its ioctl, and
a tracer can have it make one more system call before it goes on: dup(2). It makes that call by an
instruction of its own, which its other threads may change meanwhile: a tracer with privileges would
hand them over. So the tracer is a process that has no more rights than the caller.

    worker    gives the request to the broker, and goes on
    broker    a thread of the front end: queues, limits, answers
    nursery   a small process that forks helpers; it alone may become other users
    helper    serves one call: looks at the caller, becomes its user, traces it, ends

The modules nursery, helper, caller and tracer run in the nursery and its children: they import
little, for what a process has in memory its fork(2) has to copy.
"""
