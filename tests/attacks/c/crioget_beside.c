/* SPDX-License-Identifier: MIT */
/*
 * crioget_beside DEVICE TIMES: a thread calls CRIOGET, and another one execve meanwhile. Which
 * thread is the first one of the process changes from time to time. Writes how many hung.
 */
#include "crioget.h"

static int fd;

static void *call(void *unused)
{
    (void)unused;
    for (;;)
        get(fd);
    return NULL;
}

static void *replace(void *wait)
{
    usleep((useconds_t)(intptr_t)wait);
    execl("/bin/true", "true", NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    int times = atoi(argv[2]), hung = 0;

    require(argc == 3, "arguments");
    for (int i = 0; i < times; i++) {
        pid_t child = fork();
        int status, left = 3000;

        if (!child) {
            void *wait = (void *)(intptr_t)(200 + i * 37 % 3000);
            pthread_t other;

            fd = device(argv[1]);
            if (i % 2) {
                pthread_create(&other, NULL, replace, wait);
                call(NULL);
            }
            pthread_create(&other, NULL, call, NULL);
            replace(wait);
        }
        while (waitpid(child, &status, WNOHANG) == 0 && --left)
            usleep(1000);
        if (!left) {
            hung++;
            kill(child, SIGKILL);
        }
    }
    printf("hung %d\n", hung);
    return 0;
}
