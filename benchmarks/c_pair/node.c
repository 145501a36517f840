/* SPDX-License-Identifier: MIT */
/* The mounted file, and its connection to the kernel: mount(2) and /dev/fuse, without libfuse. */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/fuse.h>

#include "pair.h"

static const char *path;
static int fuse = -1;

/* Reading the channel then ends with ENODEV. */
static void unmount(int number)
{
    int saved = errno;

    (void)number;
    umount2(path, MNT_FORCE | MNT_DETACH);
    errno = saved;
}

static int mount_node(void)
{
    char options[128];

    fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fuse == -1)
        return -1;
    snprintf(options, sizeof(options), "fd=%d,rootmode=%o,user_id=%d,group_id=%d,allow_other", fuse,
             (unsigned)S_IFREG, geteuid(), getegid());
    return mount("c_pair", path, "fuse.c-pair", MS_NOSUID | MS_NODEV | MS_NOEXEC, options);
}

int make_node(const char *where)
{
    struct sigaction ending = {.sa_handler = unmount, .sa_flags = SA_RESTART};
    int placeholder = open(where, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);

    if (placeholder == -1)
        return -1;
    close(placeholder);
    path = where;
    if (mount_node() == -1) {
        int error = errno;

        unlink(path);
        errno = error;
        return -1;
    }
    sigaction(SIGTERM, &ending, NULL);
    sigaction(SIGINT, &ending, NULL);
    return 0;
}

void remove_node(void)
{
    unmount(0);
    unlink(path);
}

/* EINTR and ENOENT: a signal of ours, or a caller who was killed before its request was read. */
ssize_t read_request(void *buffer)
{
    ssize_t size;

    do {
        size = read(fuse, buffer, READ_BUFFER);
    } while (size == -1 && (errno == EINTR || errno == ENOENT));
    return size;
}

void reply(uint64_t unique, int error, const void *body, size_t size)
{
    struct fuse_out_header header = {sizeof(header) + (error ? 0 : size), -error, unique};
    struct iovec parts[2] = {{&header, sizeof(header)}, {(void *)body, error ? 0 : size}};

    /* It fails when the caller was killed or the file unmounted: nobody waits for it then. */
    if (writev(fuse, parts, 2) == -1)
        return;
}
