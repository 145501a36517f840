"""What a process of ours gives up once it has what it needs: privileges, system calls, copies of
its memory. Knows the kernel, and nothing of what the process does.
"""
