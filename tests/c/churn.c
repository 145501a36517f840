/* SPDX-License-Identifier: MIT */
/*
 * churn DEVICE OPENS SESSIONS: open and close the device OPENS times, each time with one ioctl in
 * between; then make, use and end SESSIONS sessions on one open file. Exit status 0: all went well.
 */
#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <crypto/cryptodev.h>

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int open_device(const char *path)
{
    int fd = open(path, O_RDWR);

    if (fd == -1)
        die(path);
    return fd;
}

static void churn_session(int fd)
{
    uint8_t key[16] = {1}, iv[16] = {2}, data[64] = {3}, back[64];
    struct session_op session = {.cipher = CRYPTO_AES_CBC, .keylen = sizeof(key), .key = key};
    struct crypt_op op = {.len = sizeof(data), .src = data, .dst = back, .iv = iv};

    if (ioctl(fd, CIOCGSESSION, &session) != 0)
        die("CIOCGSESSION");
    op.ses = session.ses;
    if (ioctl(fd, CIOCCRYPT, &op) != 0)
        die("CIOCCRYPT");
    op.op = COP_DECRYPT;
    op.src = back;
    if (ioctl(fd, CIOCCRYPT, &op) != 0)
        die("CIOCCRYPT");
    if (memcmp(data, back, sizeof(data)) != 0) {
        fprintf(stderr, "what was encrypted did not come back\n");
        exit(1);
    }
    if (ioctl(fd, CIOCFSESSION, &session.ses) != 0)
        die("CIOCFSESSION");
}

int main(int argc, char **argv)
{
    long opens = argc == 4 ? atol(argv[2]) : 0, sessions = argc == 4 ? atol(argv[3]) : 0;
    __u32 unknown = 0;
    int fd;

    if (opens < 1 || sessions < 1) {
        fprintf(stderr, "usage: %s DEVICE OPENS SESSIONS\n", argv[0]);
        return 2;
    }
    for (long i = 0; i < opens; i++) {
        fd = open_device(argv[1]);
        ioctl(fd, CIOCFSESSION, &unknown);
        if (close(fd) == -1)
            die("close");
    }
    fd = open_device(argv[1]);
    for (long i = 0; i < sessions; i++)
        churn_session(fd);
    return close(fd) == -1;
}
