/* SPDX-License-Identifier: MIT */
/*
 * leaver DEVICE COUNT: open the device COUNT times, make a session on each, print "ready", and
 * never give anything back: the test kills this program and looks at what remains.
 */
#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <crypto/cryptodev.h>

#define SPARE_FILES 16

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void allow_files(rlim_t count)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
        die("getrlimit");
    if (limit.rlim_cur >= count)
        return;
    limit.rlim_cur = count;
    if (limit.rlim_max < count)
        limit.rlim_max = count;
    if (setrlimit(RLIMIT_NOFILE, &limit) == -1)
        die("setrlimit");
}

int main(int argc, char **argv)
{
    unsigned char key[16] = {0};
    long count = argc == 3 ? atol(argv[2]) : 0;

    if (count < 1) {
        fprintf(stderr, "usage: %s DEVICE COUNT\n", argv[0]);
        return 2;
    }
    allow_files(count + SPARE_FILES);
    for (long i = 0; i < count; i++) {
        struct session_op session = {.cipher = CRYPTO_AES_CBC, .keylen = sizeof(key), .key = key};
        int fd = open(argv[1], O_RDWR);

        if (fd == -1)
            die(argv[1]);
        if (ioctl(fd, CIOCGSESSION, &session) != 0)
            die("CIOCGSESSION");
    }
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}
