/* SPDX-License-Identifier: MIT */
/*
 * What the programs here that question a device have in common: how they report, memory that
 * misbehaves, and the ioctls in short.
 *
 * One line per check, "ok NAME" or "FAIL NAME: got ... wanted ...", and at the end "N failed". Exit
 * status: the number of failures, at most 100; 101 when the device cannot be used at all.
 */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <crypto/cryptodev.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PAGE 4096u
#define MIB (1024u * 1024u)
#define UNUSABLE 101

/* 32-bit programs are measured against the same rows; only the kernel begins elsewhere. */
#if UINTPTR_MAX > UINT32_MAX
#define IN_THE_KERNEL ((void *)(uintptr_t)0xffff888000000000)
#else
#define IN_THE_KERNEL ((void *)(uintptr_t)0xfffff000)
#endif

/* A text as the ioctls want their bytes. */
#define BYTES(text) ((__u8 *)(uintptr_t)(text))

/* The ioctls with the fields of their structs: CRYPT(.ses = ses, .src = plain, .len = 16). */
#define CRYPT(...) ioctl(device, CIOCCRYPT, &(struct crypt_op){__VA_ARGS__})
#define AUTHCRYPT(...) ioctl(device, CIOCAUTHCRYPT, &(struct crypt_auth_op){__VA_ARGS__})
#define MAKE(...) make_session((struct session_op){__VA_ARGS__})
#define TRY_SESSION(...) try_session((struct session_op){__VA_ARGS__})

static const char *path;
static int device;
static int failures;

static uint8_t key[1024];       /* longer than any key length that is tried */
static uint8_t plain[4 * PAGE]; /* no two blocks are equal */
static uint8_t out[4 * PAGE], expected[4 * PAGE];
static uint8_t zeros[16];

static uint8_t *read_only; /* a page */
static uint8_t *edge;      /* two pages that can be used, and then two that cannot */
static uint8_t *edge_end;

static struct bad_pointer {
    const char *name;
    void *pointer;
} bad_pointers[] = {
    {"NULL", NULL}, {"1", (void *)1}, {"unmapped", NULL}, {"kernel", IN_THE_KERNEL}};

/* ---- reports ------------------------------------------------------------------------------- */

static inline void unusable(const char *what)
{
    perror(what);
    exit(UNUSABLE);
}

static inline const char *name_of(int error)
{
    const char *name = error == 0 ? "0" : strerrorname_np(error);
    return name != NULL ? name : "?";
}

/* wanted: 0 or an errno. */
static inline void check(const char *name, int result, int wanted)
{
    int error = result == -1 ? errno : 0, wanted_result = wanted == 0 ? 0 : -1;

    if (result == wanted_result && error == wanted) {
        printf("ok %s\n", name);
        return;
    }
    printf("FAIL %s: got %d/%s wanted %d/%s\n", name, result, name_of(error), wanted_result,
           name_of(wanted));
    failures++;
}

static inline void check_number(const char *name, long long got, long long wanted)
{
    if (got == wanted) {
        printf("ok %s\n", name);
        return;
    }
    printf("FAIL %s: got %lld wanted %lld\n", name, got, wanted);
    failures++;
}

static inline void check_same(const char *name, const void *got, const void *wanted, size_t size)
{
    const uint8_t *a = got, *b = wanted;
    size_t i = 0;

    while (i < size && a[i] == b[i])
        i++;
    if (i == size) {
        printf("ok %s\n", name);
        return;
    }
    printf("FAIL %s: got byte 0x%02x wanted 0x%02x at %zu of %zu\n", name, a[i], b[i], i, size);
    failures++;
}

static inline void check_all(const char *name, const void *got, int byte, size_t size)
{
    const uint8_t *bytes = got;
    size_t i = 0;

    while (i < size && bytes[i] == byte)
        i++;
    if (i == size) {
        printf("ok %s\n", name);
        return;
    }
    printf("FAIL %s: got byte 0x%02x wanted 0x%02x at %zu of %zu\n", name, bytes[i], byte, i, size);
    failures++;
}

/* A name made of several words; good until thirty more were made. */
__attribute__((format(printf, 1, 2))) static inline const char *label(const char *format, ...)
{
    static char texts[32][200];
    static unsigned next;
    char *text = texts[next++ % COUNT(texts)];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(texts[0]), format, arguments);
    va_end(arguments);
    return text;
}

/* ---- the ioctls ---------------------------------------------------------------------------- */

static inline int make_on(int fd, __u32 cipher, __u32 keylen, const void *key_pointer, __u32 *ses)
{
    struct session_op session = {.cipher = cipher, .keylen = keylen, .key = (void *)key_pointer};
    int result = ioctl(fd, CIOCGSESSION, &session);

    *ses = session.ses;
    return result;
}

static inline int finish_on(int fd, __u32 ses)
{
    return ioctl(fd, CIOCFSESSION, &ses);
}

static inline int finish(__u32 ses)
{
    return finish_on(device, ses);
}

/* A session that is only a means. */
static inline __u32 make_session(struct session_op session)
{
    if (ioctl(device, CIOCGSESSION, &session) != 0)
        unusable(label("CIOCGSESSION with cipher %u, mac %u", session.cipher, session.mac));
    return session.ses;
}

/* Can it be made? It is finished again. */
static inline int try_session(struct session_op session)
{
    int result = ioctl(device, CIOCGSESSION, &session), error = errno;

    if (result == 0)
        finish(session.ses);
    errno = error;
    return result;
}

static inline struct crypt_op operation(__u32 ses, int op, int flags, const void *src, void *dst,
                                        __u32 len, void *iv)
{
    struct crypt_op crypt = {.ses = ses, .op = op, .flags = flags, .len = len,
                             .src = (void *)src, .dst = dst, .iv = iv};
    return crypt;
}

static inline int operate(__u32 ses, int op, int flags, const void *src, void *dst, __u32 len,
                          void *iv)
{
    struct crypt_op crypt = operation(ses, op, flags, src, dst, len, iv);
    return ioctl(device, CIOCCRYPT, &crypt);
}

/* ---- memory -------------------------------------------------------------------------------- */

static inline uint8_t *pages(unsigned count, int protection, int flags, int fd)
{
    uint8_t *memory = mmap(NULL, count * PAGE, protection, flags, fd, 0);

    if (memory == MAP_FAILED)
        unusable("mmap");
    return memory;
}

static inline void protect(void *memory, size_t size, int protection)
{
    if (mprotect(memory, size, protection) == -1)
        unusable("mprotect");
}

/* A copy that can be read and not written; one at a time. */
static inline void *frozen(const void *data, size_t size)
{
    protect(read_only, PAGE, PROT_READ | PROT_WRITE);
    memcpy(read_only, data, size);
    protect(read_only, PAGE, PROT_READ);
    return read_only;
}

static inline uint8_t *allocate(size_t size)
{
    uint8_t *memory = malloc(size);

    if (memory == NULL)
        unusable("malloc");
    return memory;
}

/* Bytes in which nothing repeats. */
static inline uint8_t *noise(size_t size)
{
    uint8_t *memory = allocate(size);

    for (size_t i = 0; i < size; i++)
        memory[i] = ((uint32_t)i * 2654435761u) >> 24;
    return memory;
}

static inline size_t from_hex(uint8_t *bytes, const char *hex)
{
    size_t size = strlen(hex) / 2;
    unsigned byte;

    for (size_t i = 0; i < size; i++) {
        sscanf(hex + 2 * i, "%2x", &byte);
        bytes[i] = byte;
    }
    return size;
}

/* ---- other processes ----------------------------------------------------------------------- */

/* As if it were called here: the result is 0, or -1 and errno. */
static inline int in_child(int (*action)(__u32 *), __u32 *shared)
{
    int status;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0)
        _exit(action(shared) == 0 ? 0 : errno);
    if (pid == -1 || waitpid(pid, &status, 0) == -1)
        unusable("fork");
    errno = WEXITSTATUS(status);
    return status == 0 ? 0 : -1;
}

/* ---- the frame ----------------------------------------------------------------------------- */

static inline void begin(int argc, char **argv)
{
    int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;

    if (argc != 2) {
        fprintf(stderr, "usage: %s DEVICE\n", argv[0]);
        exit(UNUSABLE);
    }
    path = argv[1];
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < sizeof(key); i++)
        key[i] = 7 * i + 1;
    for (size_t i = 0; i < sizeof(plain); i++)
        plain[i] = i % 16 == 0 ? i >> 8 : (i % 16 == 1 ? i >> 4 : i * 5);
    memset(out, 0, sizeof(out));
    memset(expected, 0, sizeof(expected));
    memset(zeros, 0, sizeof(zeros));
    read_only = pages(1, PROT_READ, anonymous, -1);
    edge = pages(4, PROT_READ | PROT_WRITE, anonymous, -1);
    edge_end = edge + 2 * PAGE;
    protect(edge_end, 2 * PAGE, PROT_NONE);
    bad_pointers[2].pointer = edge_end;
    device = open(path, O_RDWR);
    if (device == -1)
        unusable(path);
}

static inline int end(void)
{
    printf("%d failed\n", failures);
    return failures < 100 ? failures : 100;
}

#endif
