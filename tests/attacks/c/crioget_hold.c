/* SPDX-License-Identifier: MIT */
/*
 * crioget_hold DEVICE HOW CALLERS: processes that keep calling CRIOGET, and whatever is made to
 * call dup there does not return from it.
 *   loop      the instruction becomes an endless loop
 *   illegal   it becomes an illegal one
 *   stop      SIGSTOP and SIGCONT come all the time
 *   trace     another process of the same user traces the caller
 *   hunt      another process of the same user tries to trace, stops and kills what it finds of
 *             its user's; half of the callers are in user namespaces that it may look into
 */
#include "crioget.h"

#include <dirent.h>
#include <sched.h>
#include <sys/ptrace.h>

static volatile int asleep;
static const char *how;

static void *change(void *unused)
{
    (void)unused;
    for (;;) {
        while (!asleep)
            usleep(10);
        usleep(30);
        *(volatile uint16_t *)(CODE + CALL) = *how == 'l' ? 0xfeeb : 0x0b0f;
        asleep = 0;
    }
    return NULL;
}

static void keep_calling(const char *path)
{
    int fd = device(path);
    pthread_t other;
    __u32 copy;

    if (*how == 'h' && getpid() % 2)
        unshare(CLONE_NEWUSER);
    map_code();
    if (*how == 'l' || *how == 'i')
        pthread_create(&other, NULL, change, NULL);
    for (;;) {
        memcpy(CODE + CALL, "\x0f\x05", 2);
        asleep = 1;
        if (call_there(fd, &copy) == 0)
            close((int)copy);
    }
}

static void disturb(pid_t child)
{
    for (;;) {
        if (!strcmp(how, "stop")) {
            kill(child, SIGSTOP);
            usleep(50);
            kill(child, SIGCONT);
            usleep(200);
        } else if (!strcmp(how, "trace")) {
            int status;

            if (ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESYSGOOD) == 0) {
                ptrace(PTRACE_INTERRUPT, child, 0, 0);
                usleep(500);
                if (waitpid(child, &status, WNOHANG | __WALL) > 0)
                    ptrace(PTRACE_DETACH, child, 0, 0);
            }
        } else {
            pause();
        }
    }
}

static void report(pid_t pid)
{
    char path[64], name[64] = "";
    FILE *comm;

    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    if ((comm = fopen(path, "r")) && fgets(name, sizeof name, comm))
        printf("seized %d, of group %d: %s", pid, getpgid(pid), name);
}

/* What is neither one of our group nor of another user's: helpers that have become this user. */
static void hunt(void)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;

    for (unsigned round = 0;; round++) {
        rewinddir(proc);
        while ((entry = readdir(proc))) {
            pid_t pid = atoi(entry->d_name);

            if (pid <= 1 || getpgid(pid) == getpgrp())
                continue;
            if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0)
                report(pid);
            kill(pid, round % 2 ? SIGKILL : SIGSTOP);
        }
    }
}

int main(int argc, char **argv)
{
    require(argc == 4, "arguments");
    how = argv[2];
    setbuf(stdout, NULL);
    /* It is the device that is attacked, not the processor. */
    nice(19);
    for (int i = atoi(argv[3]); i > 0; i--) {
        pid_t child = fork();

        if (!child)
            keep_calling(argv[1]);
        if (!fork())
            disturb(child);
    }
    if (!strcmp(how, "hunt"))
        hunt();
    pause();
}
