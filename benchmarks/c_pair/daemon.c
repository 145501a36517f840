/* SPDX-License-Identifier: MIT */
/*
 * c_pair PATH: a crypto device as one would write it in C, to measure cuse-crypto against.
 *
 * Mounts a file at PATH, as cuse-crypto's mounted node does, and answers CIOCGSESSION, CIOCFSESSION
 * and CIOCCRYPT for AES-CBC; a second process computes (backend.c). One thread, one request at a
 * time, every buffer made beforehand. SIGTERM or SIGINT ends both and removes PATH.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <crypto/cryptodev.h>
#include <linux/fuse.h>

#include "pair.h"

/* fh 0 is an unused number. */
struct session {
    uint64_t fh;
};

static int connection;
static struct session *sessions;
static uint32_t session_count;
static uint64_t last_fh;
static uint8_t *request_buffer, *reply_buffer;

static void die(const char *what)
{
    fprintf(stderr, "c_pair: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int read_caller(pid_t pid, void *to, const struct iovec *remote, int count)
{
    struct iovec local = {to, 0};
    ssize_t copied;

    for (int i = 0; i < count; i++)
        local.iov_len += remote[i].iov_len;
    copied = process_vm_readv(pid, &local, 1, remote, count, 0);
    return copied == (ssize_t)local.iov_len ? 0 : EFAULT;
}

/* Sends the request with size bytes behind it; the back end's errno, its result in reply_buffer. */
static int ask(const struct request *header, uint32_t size)
{
    struct request *request = (struct request *)request_buffer;
    const struct reply *reply = (const struct reply *)reply_buffer;

    *request = *header;
    request->size = size;
    if (send_all(connection, request, sizeof(*request) + size) == -1
        || receive(connection, reply_buffer, sizeof(*reply), sizeof(*reply) + LENGTH_MAX) == -1)
        return EIO;
    return reply->error;
}

static struct session *find_session(uint64_t fh, uint32_t ses)
{
    return ses < session_count && sessions[ses].fh == fh ? &sessions[ses] : NULL;
}

/* Number 0 is never given out. */
static uint32_t free_session(void)
{
    static uint32_t last;
    struct session *more;

    for (uint32_t tried = 0; tried < session_count; tried++) {
        last = last + 1 < session_count ? last + 1 : 1;
        if (last < session_count && sessions[last].fh == 0)
            return last;
    }
    more = realloc(sessions, (session_count * 2 + 64) * sizeof(*more));
    if (more == NULL)
        return 0;
    memset(more + session_count, 0, (session_count + 64) * sizeof(*more));
    last = session_count ? session_count : 1;
    session_count = session_count * 2 + 64;
    sessions = more;
    return last;
}

static int open_session(pid_t pid, uint64_t fh, struct session_op *op)
{
    struct request request = {.what = OPEN_SESSION};
    struct iovec key = {op->key, op->keylen};
    int error;

    if (op->cipher != CRYPTO_AES_CBC || op->mac != 0)
        return EINVAL;
    if (op->keylen != 16 && op->keylen != 24 && op->keylen != 32)
        return EINVAL;
    if (read_caller(pid, request_buffer + sizeof(request), &key, 1) != 0)
        return EFAULT;
    request.session = free_session();
    if (request.session == 0)
        return ENOMEM;
    error = ask(&request, op->keylen);
    if (error == 0) {
        sessions[request.session].fh = fh;
        op->ses = request.session;
    }
    return error;
}

static int close_session(uint64_t fh, uint32_t ses)
{
    struct request request = {.what = CLOSE_SESSION, .session = ses};
    struct session *session = find_session(fh, ses);

    if (session == NULL)
        return 0;
    session->fh = 0;
    return ask(&request, 0);
}

static int crypt_for(pid_t pid, uint64_t fh, const struct crypt_op *op)
{
    struct request request = {.what = CRYPT, .op = op->op, .has_iv = op->iv != NULL};
    struct iovec readable[2] = {{op->iv, op->iv ? AES_BLOCK_SIZE : 0}, {op->src, op->len}};
    struct iovec result = {reply_buffer + sizeof(struct reply), op->len};
    struct iovec writable = {op->dst, op->len};
    int error;

    if (find_session(fh, op->ses) == NULL)
        return EINVAL;
    if ((op->op != COP_ENCRYPT && op->op != COP_DECRYPT) || op->len % AES_BLOCK_SIZE != 0)
        return EINVAL;
    if (op->len > LENGTH_MAX)
        return ENOMEM;
    if (read_caller(pid, request_buffer + sizeof(request), readable, 2) != 0)
        return EFAULT;
    if (op->len == 0)
        return 0;
    request.session = op->ses;
    error = ask(&request, readable[0].iov_len + op->len);
    if (error != 0)
        return error;
    return process_vm_writev(pid, &result, 1, &writable, 1, 0) == (ssize_t)op->len ? 0 : EFAULT;
}

/* The kernel has copied the structure, and copies back what follows the header of the reply. */
static void answer_ioctl(const struct fuse_in_header *in)
{
    const struct fuse_ioctl_in *ioctl = (const struct fuse_ioctl_in *)(in + 1);
    struct {
        struct fuse_ioctl_out header;
        struct session_op op;
    } out = {0};
    const void *argument = ioctl + 1;
    size_t size = sizeof(out.header);
    int error = EINVAL;

    if (ioctl->flags & FUSE_IOCTL_COMPAT) {
        error = ENOTTY;
    } else if (ioctl->cmd == CIOCCRYPT) {
        error = crypt_for(in->pid, ioctl->fh, argument);
    } else if (ioctl->cmd == CIOCGSESSION) {
        memcpy(&out.op, argument, sizeof(out.op));
        error = open_session(in->pid, ioctl->fh, &out.op);
        size = sizeof(out);
    } else if (ioctl->cmd == CIOCFSESSION) {
        error = close_session(ioctl->fh, *(const uint32_t *)argument);
    }
    reply(in->unique, error, &out, size);
}

static void answer_open(uint64_t unique)
{
    struct fuse_open_out out = {.fh = ++last_fh};

    out.open_flags = FOPEN_DIRECT_IO | FOPEN_NONSEEKABLE | FOPEN_STREAM | FOPEN_NOFLUSH;
    reply(unique, 0, &out, sizeof(out));
}

static void answer_release(const struct fuse_in_header *in)
{
    const struct fuse_release_in *release = (const struct fuse_release_in *)(in + 1);

    reply(in->unique, 0, NULL, 0);
    for (uint32_t ses = 1; ses < session_count; ses++)
        close_session(release->fh, ses);
}

static void answer_getattr(uint64_t unique)
{
    struct fuse_attr_out out = {.attr_valid = 1 << 20};

    out.attr = (struct fuse_attr){.ino = FUSE_ROOT_ID, .mode = S_IFREG | 0600, .nlink = 1};
    reply(unique, 0, &out, sizeof(out));
}

static void answer_init(const struct fuse_in_header *in)
{
    const struct fuse_init_in *init = (const struct fuse_init_in *)(in + 1);
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .max_write = 4096};

    out.minor = init->minor < FUSE_KERNEL_MINOR_VERSION ? init->minor : FUSE_KERNEL_MINOR_VERSION;
    reply(in->unique, 0, &out, sizeof(out));
}

static void answer(const struct fuse_in_header *in)
{
    switch (in->opcode) {
    case FUSE_IOCTL:
        answer_ioctl(in);
        break;
    case FUSE_OPEN:
        answer_open(in->unique);
        break;
    case FUSE_RELEASE:
        answer_release(in);
        break;
    case FUSE_GETATTR:
        answer_getattr(in->unique);
        break;
    case FUSE_INIT:
        answer_init(in);
        break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        break;
    default:
        reply(in->unique, ENOSYS, NULL, 0);
    }
}

static pid_t start_backend(void)
{
    int ends[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == -1)
        die("socketpair");
    pid = fork();
    if (pid == -1)
        die("fork");
    if (pid == 0) {
        signal(SIGINT, SIG_IGN); /* it ends with the daemon */
        close(ends[0]);
        prctl(PR_SET_NAME, "c_pair backend");
        _exit(serve_requests(ends[1]));
    }
    close(ends[1]);
    connection = ends[0];
    widen(connection);
    return pid;
}

int main(int argc, char **argv)
{
    uint8_t *buffer = reserve(READ_BUFFER);
    pid_t backend;

    if (argc != 2) {
        fprintf(stderr, "usage: %s PATH\n", argv[0]);
        return 2;
    }
    request_buffer = reserve(sizeof(struct request) + AES_BLOCK_SIZE + LENGTH_MAX);
    reply_buffer = reserve(sizeof(struct reply) + LENGTH_MAX);
    if (buffer == NULL || request_buffer == NULL || reply_buffer == NULL)
        die("mmap");
    backend = start_backend();
    if (make_node(argv[1]) == -1)
        die(argv[1]);
    printf("ready: %s\n", argv[1]);
    fflush(stdout);
    while (read_request(buffer) > 0)
        answer((const struct fuse_in_header *)buffer);
    remove_node();
    close(connection);
    waitpid(backend, NULL, 0);
    return 0;
}
