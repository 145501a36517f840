/* SPDX-License-Identifier: MIT */
/*
 * crioget_swap DEVICE PROGRAM TRIES: while a thread sleeps in CRIOGET, another one replaces the
 * instruction that made the ioctl by a jump to an execve of PROGRAM, so that a tracer who has it
 * make one more system call has it make that one. Writes who ran
 * PROGRAM with our registers, and how often the execve was not made: "root N user M dropped K".
 */
#include "crioget.h"

#include <poll.h>
#include <sched.h>

static const char *program;
static char *empty[] = {"program", NULL};
static volatile int asleep;

static void *swap(void *wait)
{
    while (!asleep)
        sched_yield();
    for (volatile int i = 0; i < (int)(intptr_t)wait; i++)
        ;
    /* jmp STUB */
    *(volatile uint16_t *)(CODE + CALL) = 0xeb | (STUB - CALL - 2) << 8;
    return NULL;
}

static void write_stub(void)
{
    unsigned char *at = CODE + STUB;
    const void *values[] = {program, empty};

    memcpy(at, "\x48\xbf", 2);          /* mov $program, %rdi */
    memcpy(at + 2, &values[0], 8);
    memcpy(at + 10, "\x48\xbe", 2);     /* mov $empty, %rsi */
    memcpy(at + 12, &values[1], 8);
    memcpy(at + 20, "\x31\xd2\xb8\x3b\0\0\0\x0f\x05\xc3", 10); /* execve(, , NULL) */
}

static void one(const char *path, int wait, int report)
{
    int fd = device(path);
    pthread_t other;
    __u32 copy;

    dup2(report, 9);
    map_code();
    write_stub();
    pthread_create(&other, NULL, swap, (void *)(intptr_t)wait);
    asleep = 1;
    _exit(call_there(fd, &copy) == -EIO);
}

int main(int argc, char **argv)
{
    int reports[2], root = 0, user = 0, dropped = 0, tries = atoi(argv[3]);
    char said;

    require(argc == 4 && pipe(reports) == 0, "pipe");
    fcntl(reports[0], F_SETFL, O_NONBLOCK);
    program = argv[2];
    for (int i = 0; i < tries; i++) {
        pid_t child = fork();
        int status;

        if (!child)
            one(argv[1], i * 97 % 20000, reports[1]);
        for (int left = 5000; waitpid(child, &status, WNOHANG) == 0; left--) {
            if (!left) {
                kill(child, SIGKILL);
                printf("a caller hung\n");
            }
            usleep(1000);
        }
        dropped += WIFEXITED(status) && WEXITSTATUS(status) == 1;
        while (read(reports[0], &said, 1) == 1)
            *(said == 'R' ? &root : &user) += 1;
    }
    printf("root %d user %d dropped %d\n", root, user, dropped);
    return 0;
}
