/* SPDX-License-Identifier: MIT */
/*
 * A device that encrypts and decrypts buffers, the key being in the same call:
 *
 *     cuse-crypto up --api crypto-buffer
 *
 * AES-CBC with an IV of zeros. key_len chooses AES-128 (16), AES-192 (24) or AES-256 (32); len is a
 * multiple of 16. EINVAL for other lengths, EFAULT for memory that is not there.
 */
#ifndef CRYPTO_CRYPTO_BUFFER_H
#define CRYPTO_CRYPTO_BUFFER_H

#include <linux/ioctl.h>

struct crypto_buffer {
    char *input;
    char *output;
    unsigned int len;
    char *key;
    unsigned int key_len;
};

#define CRYPTO_BUFFER_ENCRYPT _IOW('b', 0, struct crypto_buffer)
#define CRYPTO_BUFFER_DECRYPT _IOW('b', 1, struct crypto_buffer)

#endif
