/* SPDX-License-Identifier: MIT */
/* CIOCAUTHCRYPT with all that comes back, and AES-GCM and AES-CCM by hand from AES. */
#ifndef AUTHENTICATING_H
#define AUTHENTICATING_H

#include "check.h"

/*
 * Do op. If it succeeds the struct comes back as it was but for these three members; if it fails it
 * is not written at all.
 */
static inline void check_auth(const char *name, struct crypt_auth_op op, int wanted, __u32 len,
                              void *tag, __u32 tag_len)
{
    struct crypt_auth_op after = op;

    if (wanted == 0) {
        after.len = len;
        after.tag = tag;
        after.tag_len = tag_len;
    }
    check(name, ioctl(device, CIOCAUTHCRYPT, &op), wanted);
    check_number(label("%s: len", name), op.len, after.len);
    check_number(label("%s: tag_len", name), op.tag_len, after.tag_len);
    check_same(label("%s: struct", name), &op, &after, sizeof(op));
}

static inline void aes(__u32 cipher, const uint8_t *a_key, __u32 keylen, const void *src, void *dst,
                       __u32 len, const uint8_t *iv)
{
    uint8_t own_iv[16] = {0};
    __u32 ses = MAKE(.cipher = cipher, .keylen = keylen, .key = BYTES(a_key));

    if (iv != NULL)
        memcpy(own_iv, iv, 16);
    if (operate(ses, COP_ENCRYPT, 0, src, dst, len, own_iv) != 0)
        unusable("plain AES");
    finish(ses);
}

/* x *= h in GF(2^128) (SP 800-38D 6.3), with the words most significant first. */
static inline void gf_multiply(uint64_t x[2], const uint64_t h[2])
{
    uint64_t z0 = 0, z1 = 0, v0 = h[0], v1 = h[1];

    for (int i = 0; i < 128; i++) {
        uint64_t bit = -(x[i / 64] >> (63 - i % 64) & 1), odd = -(v1 & 1);

        z0 ^= v0 & bit;
        z1 ^= v1 & bit;
        v1 = v1 >> 1 | v0 << 63;
        v0 = v0 >> 1 ^ (odd & 0xe100000000000000u);
    }
    x[0] = z0;
    x[1] = z1;
}

static inline uint64_t word(const uint8_t *bytes, size_t size)
{
    uint64_t value = 0;

    for (size_t i = 0; i < 8; i++)
        value = value << 8 | (i < size ? bytes[i] : 0);
    return value;
}

static inline void ghash(uint64_t x[2], const uint64_t h[2], const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i += 16) {
        x[0] ^= word(data + i, size - i);
        x[1] ^= word(data + i + 8, size - i > 8 ? size - i - 8 : 0);
        gf_multiply(x, h);
    }
}

/* SP 800-38D with an IV of 12 bytes: the ciphertext, and 16 bytes of tag after it. */
static inline void gcm(const uint8_t *a_key, __u32 keylen, const uint8_t *iv, const void *auth,
                       size_t auth_len, const void *text, size_t len, uint8_t *secret)
{
    uint8_t counter[16] = {0}, mask[16], zero[16] = {0};
    uint64_t h[2], x[2] = {0, 0};

    memcpy(counter, iv, 12);
    counter[15] = 1;
    aes(CRYPTO_AES_ECB, a_key, keylen, counter, mask, 16, NULL);
    aes(CRYPTO_AES_ECB, a_key, keylen, zero, zero, 16, NULL);
    h[0] = word(zero, 8);
    h[1] = word(zero + 8, 8);
    counter[15] = 2;
    aes(CRYPTO_AES_CTR, a_key, keylen, text, secret, len, counter);
    ghash(x, h, auth, auth_len);
    ghash(x, h, secret, len);
    x[0] ^= (uint64_t)auth_len * 8;
    x[1] ^= (uint64_t)len * 8;
    gf_multiply(x, h);
    for (int i = 0; i < 16; i++)
        secret[len + i] = (x[i / 8] >> (56 - i % 8 * 8)) ^ mask[i];
}

/* RFC 3610; iv as in the ioctl. The ciphertext, and tag_len bytes of tag after it. */
static inline void ccm(const uint8_t *a_key, __u32 keylen, const uint8_t *iv, const void *auth,
                       size_t auth_len, const void *text, size_t len, __u32 tag_len,
                       uint8_t *secret)
{
    size_t auth_size = auth_len ? (auth_len + 2 + 15) / 16 * 16 : 0;
    size_t size = 16 + auth_size + (len + 15) / 16 * 16;
    uint8_t *blocks = allocate(size), counter[16] = {0}, mask[16];
    int field = iv[0] + 1; /* bytes of the length, and of the counter */

    memset(blocks, 0, size);
    memcpy(blocks, iv, 16 - field);
    blocks[0] |= (auth_len ? 64 : 0) | (tag_len - 2) / 2 << 3;
    for (int i = 0; i < field && i < 4; i++)
        blocks[15 - i] = len >> 8 * i;
    if (auth_len) {
        blocks[16] = auth_len >> 8;
        blocks[17] = auth_len;
        memcpy(blocks + 18, auth, auth_len);
    }
    if (len)
        memcpy(blocks + 16 + auth_size, text, len);
    aes(CRYPTO_AES_CBC, a_key, keylen, blocks, blocks, size, NULL);

    memcpy(counter, iv, 16 - field);
    aes(CRYPTO_AES_ECB, a_key, keylen, counter, mask, 16, NULL);
    counter[15] = 1;
    aes(CRYPTO_AES_CTR, a_key, keylen, text, secret, len, counter);
    for (__u32 i = 0; i < tag_len; i++)
        secret[len + i] = blocks[size - 16 + i] ^ mask[i];
    free(blocks);
}

#endif
