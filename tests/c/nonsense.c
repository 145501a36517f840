/* SPDX-License-Identifier: MIT */
/*
 * nonsense DEVICE SEED COUNT: ioctls whose members are NULL, unmapped, read-only, in the kernel,
 * huge or at the ends of what an integer holds, in any combination. Whatever the answer is, there
 * has to be one, and an errno that the driver has. Exit status 0 when that was so.
 */
#define _GNU_SOURCE
#include <crypto/cryptodev.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (1 << 16)

static uint8_t *plain, *constant, *unmapped;
static uint32_t sessions[8];

static uint32_t any(uint32_t bound)
{
    return (uint32_t)(lrand48() % bound);
}

static uint8_t *pointer(void)
{
    switch (any(9)) {
    case 0: return NULL;
    case 1: return (uint8_t *)1;
    case 2: return unmapped;
    case 3: return constant;
    case 4: return (uint8_t *)(uintptr_t)-1;
    case 5: return (uint8_t *)(UINTPTR_MAX / 2 + 1);
    case 6: return unmapped - 1 - any(64);
    default: return plain + any(SIZE / 2);
    }
}

static uint32_t length(void)
{
    static const uint32_t odd[] = {0,  1,   8,    15,         16,         17,        32,
                                   64, 65,  512,  513,        4096,       4097,      SIZE,
                                   5,  128, 1024, 0x7fffffff, 0x80000000, 0xffffffff};

    return odd[any(sizeof(odd) / sizeof(*odd))];
}

static uint32_t session(void)
{
    return any(10) ? sessions[any(8)] : (uint32_t)mrand48();
}

static int once(int device)
{
    union {
        struct session_op session;
        struct crypt_op crypt;
        struct crypt_auth_op auth;
        struct session_info_op info;
        struct cphash_op hash;
        __u32 number;
    } op;
    int result;

    memset(&op, 0, sizeof(op));
    switch (any(10)) {
    case 0:
    case 1:
        op.session = (struct session_op){.cipher = any(3) ? any(112) : 11, .keylen = length(),
                                         .key = pointer(), .mac = any(2) ? any(112) : 0,
                                         .mackeylen = length(), .mackey = pointer()};
        result = ioctl(device, CIOCGSESSION, &op.session);
        if (result == 0)
            sessions[any(8)] = op.session.ses;
        return result;
    case 2:
        op.number = any(4) ? (__u32)mrand48() : session();
        return ioctl(device, CIOCFSESSION, &op.number);
    case 3:
        op.hash = (struct cphash_op){.dst_ses = session(), .src_ses = session()};
        return ioctl(device, CIOCCPHASH, &op.hash);
    case 4:
        op.info.ses = session();
        return ioctl(device, CIOCGSESSINFO, &op.info);
    case 5:
    case 6:
        op.auth = (struct crypt_auth_op){
            .ses = session(), .op = any(3), .flags = mrand48(), .len = length(),
            .auth_len = length(), .auth_src = pointer(), .src = pointer(), .dst = pointer(),
            .tag = pointer(), .tag_len = length(), .iv = pointer(), .iv_len = length()};
        if (any(2))
            op.auth.dst = op.auth.src;
        return ioctl(device, CIOCAUTHCRYPT, &op.auth);
    case 7: {
        struct crypt_op fetched;

        op.crypt = (struct crypt_op){.ses = session(), .op = any(3), .len = length(),
                                     .src = pointer(), .dst = pointer(), .iv = pointer()};
        ioctl(device, CIOCASYNCCRYPT, &op.crypt);
        return ioctl(device, CIOCASYNCFETCH, any(4) ? (void *)&fetched : pointer());
    }
    default:
        op.crypt = (struct crypt_op){.ses = session(), .op = any(3), .flags = mrand48(),
                                     .len = length(), .src = pointer(), .dst = pointer(),
                                     .mac = pointer(), .iv = pointer()};
        return ioctl(device, CIOCCRYPT, &op.crypt);
    }
}

static int is_known(int error)
{
    static const int known[] = {EINVAL, EFAULT, EBADMSG, ENOMEM, ENOENT, EDEADLK, EBUSY};

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (known[i] == error)
            return 1;
    return 0;
}

int main(int argc, char **argv)
{
    int device = argc == 4 ? open(argv[1], O_RDWR) : -1;
    long answered = 0;

    plain = mmap(NULL, SIZE + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    constant = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (device < 0 || plain == MAP_FAILED || constant == MAP_FAILED) {
        perror("nonsense");
        return 2;
    }
    unmapped = plain + SIZE;
    munmap(unmapped, 4096);
    srand48(atol(argv[2]));
    for (long i = 0; i < atol(argv[3]); i++) {
        if (once(device) < 0 && !is_known(errno)) {
            printf("number %ld: %s\n", i, strerror(errno));
            return 1;
        }
        answered++;
    }
    printf("%ld answers\n", answered);
    return 0;
}
