/* SPDX-License-Identifier: MIT */
/* CIOCASYNCCRYPT, CIOCASYNCFETCH and poll, for the programs about them. */
#ifndef SUBMITTING_H
#define SUBMITTING_H

#include <poll.h>

#include "check.h"

#define CAPACITY 64
#define IDLE (POLLOUT | POLLWRNORM)
#define DONE (POLLIN | POLLRDNORM)
#define PATIENCE 20000 /* ms */

/* In 32 bits the driver has other numbers than the header; both are to work. */
static const struct numbers {
    const char *name;
    unsigned long submit, fetch;
} numbers[] = {
    {"header's numbers", CIOCASYNCCRYPT, CIOCASYNCFETCH},
#if UINTPTR_MAX == UINT32_MAX
    {"driver's numbers", 0x401c636b, 0x801c636c},
#endif
};
static const struct numbers *number = &numbers[0];

static inline int submit(int fd, const struct crypt_op *op)
{
    return ioctl(fd, number->submit, op);
}

static inline int fetch(int fd, struct crypt_op *op)
{
    return ioctl(fd, number->fetch, op);
}

/* What poll says now, or within so many milliseconds of these events. */
static inline int poll_for(int fd, int events, int milliseconds)
{
    struct pollfd one = {fd, events, 0};

    return poll(&one, 1, milliseconds) == -1 ? -1 : one.revents;
}

static inline int poll_now(int fd)
{
    return poll_for(fd, POLLIN | POLLPRI | POLLRDNORM | POLLRDBAND | IDLE, 0);
}

static inline int fetch_when_done(int fd, struct crypt_op *op)
{
    if (!(poll_for(fd, POLLIN, PATIENCE) & POLLIN)) {
        errno = ETIMEDOUT;
        return -1;
    }
    return fetch(fd, op);
}

static inline void drain(int fd)
{
    struct crypt_op op;

    while (fetch(fd, &op) == 0 || errno != EBUSY)
        ;
}

static inline __u32 ctr_session(void)
{
    return MAKE(.cipher = CRYPTO_AES_CTR, .keylen = 16, .key = key);
}

static inline int open_another(__u32 *ses)
{
    int fd = open(path, O_RDWR);

    if (fd == -1 || make_on(fd, CRYPTO_AES_CTR, 16, key, ses) != 0)
        unusable("another open file");
    return fd;
}

/* All of it, once with each pair of numbers. */
static inline void with_all_numbers(void (*all)(void))
{
    for (number = numbers; number < numbers + COUNT(numbers); number++) {
        printf("ok with the %s\n", number->name);
        all();
    }
    number = numbers;
}

#endif
