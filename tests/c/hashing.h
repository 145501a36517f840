/* SPDX-License-Identifier: MIT */
/* Digests by way of the device that is questioned, for comparison with others of the same. */
#ifndef HASHING_H
#define HASHING_H

#include "algorithms.h"
#include "check.h"

#define DIGEST_MAX 64
#define BLOCK_MAX 128

/* A step of a hash under way; mac may be NULL where no digest is due. */
static inline int hash(__u32 ses, int flags, const void *data, __u32 len, uint8_t *mac)
{
    return CRYPT(.ses = ses, .flags = flags, .src = BYTES(data), .len = len, .mac = mac);
}

/* The digest of data, in one operation of a session of its own; the key is for an HMAC. */
static inline void digest(__u32 mac, const uint8_t *mackey, __u32 mackeylen, const void *data,
                          __u32 len, uint8_t *result)
{
    __u32 ses = MAKE(.mac = mac, .mackeylen = mackeylen, .mackey = BYTES(mackey));

    if (hash(ses, 0, data, len, result) != 0)
        unusable("a plain digest");
    finish(ses);
}

/* HMAC (RFC 2104) by hand from its hash, with a key for each of its two passes. */
static inline void hmac(const struct mac *m, const uint8_t *inner_key, __u32 inner_size,
                        const uint8_t *outer_key, __u32 outer_size, const void *data, __u32 len,
                        uint8_t *result)
{
    uint8_t *text = allocate(BLOCK_MAX + len), outer[BLOCK_MAX + DIGEST_MAX] = {0};

    memset(text, 0, BLOCK_MAX);
    if (inner_size > m->block)
        digest(m->hash, NULL, 0, inner_key, inner_size, text);
    else
        memcpy(text, inner_key, inner_size);
    if (outer_size > m->block)
        digest(m->hash, NULL, 0, outer_key, outer_size, outer);
    else
        memcpy(outer, outer_key, outer_size);
    for (__u32 i = 0; i < m->block; i++) {
        text[i] ^= 0x36;
        outer[i] ^= 0x5c;
    }
    if (len > 0)
        memcpy(text + m->block, data, len);
    digest(m->hash, NULL, 0, text, m->block + len, outer + m->block);
    digest(m->hash, NULL, 0, outer, m->block + m->digest, result);
    free(text);
}

#endif
