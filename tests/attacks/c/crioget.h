/* SPDX-License-Identifier: MIT */
/* What the callers of CRIOGET in this folder share. */
#ifndef CRIOGET_H
#define CRIOGET_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <crypto/cryptodev.h>

static inline void require(int holds, const char *what)
{
    if (!holds) {
        perror(what);
        exit(99);
    }
}

static inline int device(const char *path)
{
    int fd = open(path, O_RDWR);

    require(fd >= 0, path);
    return fd;
}

static inline double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

/* The errno of one CRIOGET, 0 where its descriptor works; the descriptor is closed. */
static inline int get(int fd)
{
    __u32 copy = ~0u;

    if (ioctl(fd, CRIOGET, &copy))
        return errno;
    return close((int)copy) ? EBADF : 0;
}

/*
 * An ioctl made by an instruction that this program may change: PAGE is writable and executable,
 * and on it stand `syscall; ret` at CALL, and at STUB an execve of the path, by registers that
 * CRIOGET's tracer does not touch.
 */
#define CODE ((unsigned char *)0x50000000)
#define CALL 0x100
#define STUB 0x180

static inline void map_code(void)
{
    void *page = mmap(CODE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    require(page == CODE, "mmap");
    memcpy(CODE + CALL, "\x0f\x05\xc3", 3);
}

static inline long call_there(int fd, void *argument)
{
    long result = SYS_ioctl;

    __asm__ volatile("call *%[entry]"
                     : "+a"(result)
                     : [entry] "r"(CODE + CALL), "D"((long)fd), "S"((long)CRIOGET), "d"(argument)
                     : "rcx", "r11", "memory");
    return result;
}

#endif
