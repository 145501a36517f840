/* SPDX-License-Identifier: MIT */
/*
 * bystander DEVICE MILLISECONDS: an ordinary caller. Opens the device, makes a session, encrypts 256
 * bytes again and again for that time, and compares each result with the first.
 *
 * Prints "first F median M p99 P longest L count N", in microseconds: F from before the open to the
 * first result, the rest of the operations after it.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <crypto/cryptodev.h>

#define MOST 2000000
static uint32_t took[MOST];

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

int main(int count, char **words)
{
    static uint8_t key[16], iv[16], src[256], dst[256], wanted[256];
    double begin = now(), end, first;
    int fd = count == 3 ? open(words[1], O_RDWR) : -1;
    struct session_op session = {.cipher = CRYPTO_AES_CBC, .keylen = 16, .key = key};
    struct crypt_op op = {.len = sizeof(src), .src = src, .dst = wanted, .iv = iv};
    size_t operations = 0;

    if (fd < 0 || ioctl(fd, CIOCGSESSION, &session)) {
        perror("bystander");
        return 1;
    }
    op.ses = session.ses;
    if (ioctl(fd, CIOCCRYPT, &op)) {
        perror("bystander");
        return 1;
    }
    first = now() - begin;
    op.dst = dst;
    for (end = now() + atof(words[2]) * 1e3; now() < end && operations < MOST; operations++) {
        double before = now();

        memset(dst, 0, sizeof(dst));
        if (ioctl(fd, CIOCCRYPT, &op) || memcmp(dst, wanted, sizeof(dst)) != 0) {
            perror("bystander: wrong");
            return 1;
        }
        took[operations] = now() - before;
    }
    qsort(took, operations, sizeof(took[0]), ascending);
    printf("first %.0f median %u p99 %u longest %u count %zu\n", first, took[operations / 2],
           took[operations * 99 / 100], took[operations - 1], operations);
    return 0;
}
