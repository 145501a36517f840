/* SPDX-License-Identifier: MIT */
/*
 * conform_tls DEVICE: CIOCAUTHCRYPT of the TLS type: data, the mac of auth and data, padding, all
 * of it encrypted in place. The expected bytes come from sessions of a mac and of a cipher alone.
 */
#include "check.h"

#include "algorithms.h"
#include "authenticating.h"
#include "hashing.h"

#define TLS COP_FLAG_AEAD_TLS_TYPE
#define UNTOUCHED 0x77
#define ROOM 512

static const struct suite {
    __u32 cipher, mac;
} suites[] = {
    {CRYPTO_AES_CBC, CRYPTO_SHA1_HMAC},     {CRYPTO_AES_CBC, CRYPTO_SHA2_256_HMAC},
    {CRYPTO_AES_CBC, CRYPTO_SHA1},          {CRYPTO_AES_CBC, 0},
    {CRYPTO_AES_CTR, CRYPTO_SHA1_HMAC},     {CRYPTO_3DES_CBC, CRYPTO_MD5_HMAC},
    {CRYPTO_CAMELLIA_CBC, CRYPTO_SHA2_512_HMAC}, {CRYPTO_AES_ECB, CRYPTO_SHA2_384_HMAC},
    {CRYPTO_DES_CBC, CRYPTO_SHA1_HMAC},     {CRYPTO_NULL, CRYPTO_SHA2_224_HMAC},
    {CRYPTO_AES_OFB, CRYPTO_RIPEMD160_HMAC}, {CRYPTO_AES_CFB, CRYPTO_SHA1_HMAC},
};
static const struct suite *const cbc_sha1 = &suites[0];

static const uint8_t start_iv[16] = {1, 3, 5, 7, 9, 11, 13, 15, 2, 4, 6, 8, 10, 12, 14, 16};
static uint8_t iv[16];
static uint8_t auth[PAGE + 1];

static const char *name_of_suite(const struct suite *s)
{
    return label("%s + %s", cipher_of(s->cipher)->name, s->mac ? mac_of(s->mac)->name : "none");
}

static __u32 make_suite(const struct suite *s)
{
    return MAKE(.cipher = s->cipher, .keylen = cipher_of(s->cipher)->key_last, .key = key,
                .mac = s->mac, .mackeylen = 20, .mackey = key + 100);
}

/* By hand: pad bytes of padding, 0 for the fewest there can be. The length, and the IV after it. */
static __u32 record(const struct suite *s, const void *text, __u32 len, __u32 auth_len,
                    __u32 tag_len, __u32 pad, uint8_t *secret, uint8_t *next)
{
    const struct cipher *c = cipher_of(s->cipher);
    __u32 ses = MAKE(.cipher = s->cipher, .keylen = c->key_last, .key = key), size = len;
    uint8_t *all = allocate(auth_len + len + 1), mac[DIGEST_MAX];

    memcpy(all, auth, auth_len);
    memcpy(all + auth_len, text, len);
    memcpy(secret, text, len);
    if (s->mac) {
        digest(s->mac, key + 100, 20, all, auth_len + len, mac);
        memcpy(secret + len, mac, tag_len);
        size += tag_len;
    }
    if (c->block > 1) {
        if (pad == 0)
            pad = c->block - size % c->block;
        memset(secret + size, pad - 1, pad);
        size += pad;
    }
    memcpy(next, start_iv, 16);
    if (operate(ses, COP_ENCRYPT, COP_FLAG_WRITE_IV, secret, secret, size, next) != 0)
        unusable("the cipher alone");
    finish(ses);
    free(all);
    return size;
}

/* ---- right answers ------------------------------------------------------------------------- */

static void one_record(const struct suite *s, __u32 len, __u32 auth_len, __u32 tag_len)
{
    const char *name = label("%s, %u bytes, auth %u, tag_len %u", name_of_suite(s), len, auth_len,
                             tag_len);
    __u32 mac_len = s->mac == 0 ? 0 : tag_len ? tag_len : mac_of(s->mac)->digest, size;
    uint8_t *data = allocate(len + ROOM), *wanted = allocate(len + ROOM), next[16];
    struct crypt_auth_op op = {.ses = make_suite(s), .flags = TLS | COP_FLAG_WRITE_IV, .src = data,
                               .dst = data, .len = len, .auth_src = auth, .auth_len = auth_len,
                               .iv = iv, .tag_len = tag_len, .tag = (void *)1};

    size = record(s, plain, len, auth_len, mac_len, 0, wanted, next);
    memset(data, UNTOUCHED, len + ROOM);
    memcpy(data, plain, len);
    memcpy(iv, start_iv, 16);
    check_auth(label("%s, seal", name), op, 0, size, op.tag, mac_len);
    check_same(label("%s, seal: output", name), data, wanted, size);
    check_all(label("%s, seal: no more", name), data + size, UNTOUCHED, 64);
    check_same(label("%s, seal: iv", name), iv, next, 16);

    op.op = COP_DECRYPT;
    op.len = size;
    memcpy(iv, start_iv, 16);
    check_auth(label("%s, open", name), op, 0, len, op.tag, mac_len);
    check_same(label("%s, open: output", name), data, plain, len);
    check_all(label("%s, open: no more", name), data + size, UNTOUCHED, 64);
    check_same(label("%s, open: iv", name), iv, next, 16);
    finish(op.ses);
    free(data);
    free(wanted);
}

/* The rows of the table, and what the lengths come to. */
static void padding(void)
{
    static const struct {
        __u32 len, out;
    } rows[] = {{0, 32}, {1, 32}, {11, 32}, {12, 48}, {27, 48}, {28, 64}, {64, 96}, {100, 128},
                {1000, 1024}};
    struct crypt_auth_op op = {.ses = make_suite(cbc_sha1), .flags = TLS, .src = out, .dst = out,
                               .auth_src = auth, .auth_len = 13, .iv = zeros};

    for (size_t i = 0; i < COUNT(rows); i++) {
        op.len = rows[i].len;
        check_auth(label("AES-CBC + HMAC-SHA1, %u bytes", op.len), op, 0, rows[i].out, NULL, 20);
    }
    finish(op.ses);
}

static void records(void)
{
    static const __u32 lens[] = {0, 1, 11, 12, 27, 28, 64, 100, 1000, 4096, 16384 - 20};

    padding();
    for (size_t i = 0; i < COUNT(suites); i++)
        for (size_t j = 0; j < COUNT(lens); j++)
            if (lens[j] > 0 || suites[i].mac != 0)
                one_record(&suites[i], lens[j], 13, 0);
    one_record(cbc_sha1, 100, 0, 0);
    one_record(cbc_sha1, 100, 4096, 0);
    one_record(cbc_sha1, 100, 13, 10);
    one_record(cbc_sha1, 100, 13, 1);
    one_record(&suites[1], 100, 13, 31);
}

/* More padding than the least is as good, up to 256 bytes. */
static void long_padding(void)
{
    static const __u32 pads[] = {8, 24, 40, 248};
    uint8_t data[ROOM], next[16];
    __u32 ses = make_suite(cbc_sha1);

    for (size_t i = 0; i < COUNT(pads); i++) {
        __u32 size = record(cbc_sha1, plain, 100, 13, 20, pads[i], data, next);
        struct crypt_auth_op op = {.ses = ses, .op = COP_DECRYPT, .flags = TLS, .src = data,
                                   .dst = data, .len = size, .auth_src = auth, .auth_len = 13,
                                   .iv = BYTES(start_iv)};

        check_auth(label("%u bytes of padding", pads[i]), op, 0, 100, NULL, 20);
        check_same(label("%u bytes of padding: output", pads[i]), data, plain, 100);
    }
    finish(ses);
}

static void large(void)
{
#ifndef SMALL_ONLY
    const __u32 len = 2 * MIB + 5;
    uint8_t *data = noise(len), *secret = allocate(len + ROOM), *wanted = allocate(len + ROOM);
    uint8_t next[16];
    __u32 size = record(cbc_sha1, data, len, 13, 20, 0, wanted, next);
    struct crypt_auth_op op = {.ses = make_suite(cbc_sha1), .flags = TLS, .src = secret,
                               .dst = secret, .len = len, .auth_src = auth, .auth_len = 13,
                               .iv = BYTES(start_iv)};

    memcpy(secret, data, len);
    check_auth("2 MiB, seal", op, 0, size, NULL, 20);
    check_same("2 MiB, seal: output", secret, wanted, size);
    op.op = COP_DECRYPT;
    op.len = size;
    check_auth("2 MiB, open", op, 0, len, NULL, 20);
    check_same("2 MiB, open: output", secret, data, len);
    finish(op.ses);
    free(data);
    free(secret);
    free(wanted);
#endif
}

/* The chain of records: without an IV the last block of one is the IV of the next. */
static void chained(void)
{
    uint8_t data[64] = {0}, both[64] = {0};
    __u32 ses = make_suite(&suites[3]), alone = MAKE(.cipher = CRYPTO_AES_CBC, .keylen = 32,
                                                     .key = key);
    struct crypt_auth_op op = {.ses = ses, .flags = TLS, .src = data, .dst = data, .len = 16,
                               .iv = BYTES(start_iv)};

    check_auth("first record", op, 0, 32, NULL, 0);
    op.src = op.dst = data + 32;
    op.iv = NULL;
    check_auth("second record, no iv", op, 0, 32, NULL, 0);
    memset(both + 16, 15, 16);
    memset(both + 48, 15, 16);
    if (operate(alone, COP_ENCRYPT, 0, both, both, 64, (void *)start_iv) != 0)
        unusable("the cipher alone");
    check_same("both records: one chain", data, both, 64);
    finish(ses);
    finish(alone);
}

/* ---- wrong answers ------------------------------------------------------------------------- */

static void forgeries(void)
{
    static const struct {
        const char *name;
        int at, in_auth, in_iv; /* the record has 100 bytes, 20 of mac and 8 of padding */
    } rows[] = {{"data", 20, 0, 0},  {"end of data", 99, 0, 0}, {"mac", 105, 0, 0},
                {"padding", 121, 0, 0}, {"length of padding", 127, 0, 0}, {"auth", -1, 1, 0},
                {"iv", -1, 0, 1}};

    for (size_t i = 0; i < COUNT(rows); i++) {
        uint8_t data[ROOM], before[ROOM], next[16], own_auth[13], own_iv[16];
        struct crypt_auth_op op = {.ses = make_suite(cbc_sha1), .op = COP_DECRYPT,
                                   .flags = TLS | COP_FLAG_WRITE_IV, .src = data, .dst = data,
                                   .auth_src = own_auth, .auth_len = 13, .iv = own_iv};

        memset(data, UNTOUCHED, sizeof(data));
        op.len = record(cbc_sha1, plain, 100, 13, 20, 0, data, next);
        memcpy(own_auth, auth, 13);
        memcpy(own_iv, start_iv, 16);
        if (rows[i].at >= 0)
            data[rows[i].at] ^= 0x40;
        own_auth[12] ^= rows[i].in_auth;
        own_iv[3] ^= rows[i].in_iv;
        memcpy(before, data, sizeof(data));
        check_auth(label("forged %s", rows[i].name), op, EBADMSG, 0, NULL, 0);
        check_same(label("forged %s: data", rows[i].name), data, before, sizeof(data));
        finish(op.ses);
    }
}

/*
 * The padding comes first: what is right may leave no room for the mac (EINVAL); what is wrong
 * counts as none. Without a mac the driver says 0 to wrong padding, and leaves the length.
 */
static void short_records(void)
{
    static const struct {
        const char *name;
        struct suite suite;
        __u32 tag_len, len, pad; /* 0: it is wrong */
        int wanted;
    } rows[] = {
        {"just a mac, wrong padding", {CRYPTO_AES_CBC, CRYPTO_MD5_HMAC}, 0, 16, 0, EBADMSG},
        {"just a mac, 1 of padding", {CRYPTO_AES_CBC, CRYPTO_MD5_HMAC}, 0, 16, 1, EINVAL},
        {"just padding", {CRYPTO_AES_CBC, CRYPTO_MD5_HMAC}, 0, 16, 16, EINVAL},
        {"two blocks, wrong padding", {CRYPTO_AES_CBC, CRYPTO_SHA1_HMAC}, 0, 32, 0, EBADMSG},
        {"two blocks, 12 of padding", {CRYPTO_AES_CBC, CRYPTO_SHA1_HMAC}, 0, 32, 12, EBADMSG},
        {"two blocks, 13 of padding", {CRYPTO_AES_CBC, CRYPTO_SHA1_HMAC}, 0, 32, 13, EINVAL},
        {"shorter than the mac, wrong padding", {CRYPTO_AES_CBC, CRYPTO_SHA1}, 0, 16, 0, EINVAL},
        {"shorter than the mac, 1 of padding", {CRYPTO_AES_CBC, CRYPTO_SHA1}, 0, 16, 1, EINVAL},
        {"tag_len 10, wrong padding", {CRYPTO_AES_CBC, CRYPTO_SHA1_HMAC}, 10, 16, 0, EBADMSG},
        {"tag_len 10, 6 of padding", {CRYPTO_AES_CBC, CRYPTO_SHA1_HMAC}, 10, 16, 6, EBADMSG},
        {"tag_len 10, 7 of padding", {CRYPTO_AES_CBC, CRYPTO_SHA1_HMAC}, 10, 16, 7, EINVAL},
        {"no mac, wrong padding (ours)", {CRYPTO_AES_CBC, 0}, 0, 32, 0, EBADMSG},
        {"no mac, just padding", {CRYPTO_AES_CBC, 0}, 0, 16, 16, 0},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct suite *s = &rows[i].suite;
        __u32 len = rows[i].len, pad = rows[i].pad;
        __u32 alone = MAKE(.cipher = s->cipher, .keylen = 32, .key = key);
        uint8_t data[ROOM], before[ROOM], own_iv[16];
        struct crypt_auth_op op = {.ses = make_suite(s), .op = COP_DECRYPT, .flags = TLS,
                                   .src = data, .dst = data, .len = len, .iv = own_iv,
                                   .tag_len = rows[i].tag_len};

        memset(data, UNTOUCHED, sizeof(data));
        memset(data + len - pad, pad - 1, pad);
        memcpy(own_iv, start_iv, 16);
        if (operate(alone, COP_ENCRYPT, 0, data, data, len, own_iv) != 0)
            unusable("the cipher alone");
        memcpy(before, data, sizeof(data));
        check_auth(label("short record: %s", rows[i].name), op, rows[i].wanted, len - pad, NULL, 0);
        if (rows[i].wanted != 0)
            check_same(label("short record: %s: data", rows[i].name), data, before, sizeof(data));
        finish(op.ses);
        finish(alone);
    }
}

static void arguments(void)
{
    uint8_t *data = out, *bad = edge_end, *frozen_page = frozen(plain, PAGE);
    void *one = (void *)1;
    const struct {
        const char *name;
        int op;
        void *auth;
        __u32 auth_len;
        void *src, *dst;
        __u32 len, tag_len;
        void *iv;
        int wanted;
    } rows[] = {
        {"dst is not src", 0, auth, 13, data, data + 4096, 64, 0, iv, EINVAL},
        {"dst is not src, iv 1", 0, auth, 13, data, data + 4096, 64, 0, one, EINVAL},
        {"src = dst = NULL", 0, auth, 13, NULL, NULL, 64, 0, iv, EINVAL},
        {"src = dst = 1", 0, auth, 13, one, one, 64, 0, iv, EINVAL},
        {"src = dst unmapped", 0, auth, 13, bad, bad, 64, 0, iv, EINVAL},
        {"src = dst in the kernel", 0, auth, 13, IN_THE_KERNEL, IN_THE_KERNEL, 64, 0, iv, EINVAL},
        {"src = dst read-only", 0, auth, 13, frozen_page, frozen_page, 64, 0, iv, EINVAL},
        {"open, src = dst read-only", 1, auth, 13, frozen_page, frozen_page, 64, 0, iv, EINVAL},
        {"no room for mac and padding", 0, auth, 13, bad - 80, bad - 80, 64, 0, iv, EINVAL},
        {"just the room", 0, auth, 13, bad - 96, bad - 96, 64, 0, iv, 0},
        {"auth_len 0, auth_src NULL", 0, NULL, 0, data, data, 64, 0, iv, 0},
        {"auth_len 0, auth_src 1", 0, one, 0, data, data, 64, 0, iv, 0},
        {"auth_len 4096", 0, auth, 4096, data, data, 64, 0, iv, 0},
        {"auth_len 4097", 0, auth, 4097, data, data, 64, 0, iv, EINVAL},
        {"auth_src NULL", 0, NULL, 13, data, data, 64, 0, iv, EFAULT},
        {"auth_src 1", 0, one, 13, data, data, 64, 0, iv, EFAULT},
        {"auth_src unmapped", 0, bad, 13, data, data, 64, 0, iv, EFAULT},
        {"auth_src half mapped", 0, bad - 6, 13, data, data, 64, 0, iv, EFAULT},
        {"tag_len 21", 0, auth, 13, data, data, 64, 21, iv, EINVAL},
        {"tag_len 64", 0, auth, 13, data, data, 64, 64, iv, EINVAL},
        {"tag_len 65", 0, auth, 13, data, data, 64, 65, iv, EINVAL},
        {"tag_len 0xffffffff", 0, auth, 13, data, data, 64, 0xffffffff, iv, EINVAL},
        {"open, tag_len 21", 1, auth, 13, data, data, 64, 21, iv, EINVAL},
        {"open, tag_len 65", 1, auth, 13, data, data, 128, 65, iv, EINVAL},
        {"open, len 0", 1, auth, 13, data, data, 0, 0, iv, EINVAL},
        {"open, len 15", 1, auth, 13, data, data, 15, 0, iv, EINVAL},
        {"open, len 16", 1, auth, 13, data, data, 16, 0, iv, EINVAL},
        {"open, len 33", 1, auth, 13, data, data, 33, 0, iv, EINVAL},
        {"iv 1", 0, auth, 13, data, data, 64, 0, one, EFAULT},
        {"iv half mapped", 0, auth, 13, data, data, 64, 0, bad - 8, EFAULT},
        {"op 2", 2, auth, 13, data, data, 64, 0, iv, EINVAL},
        {"op 2, iv 1", 2, auth, 13, data, data, 64, 0, one, EFAULT},
    };
    uint8_t next[16], kept[256];

    record(cbc_sha1, plain, 100, 13, 20, 0, kept, next);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct crypt_auth_op op = {.ses = make_suite(cbc_sha1), .op = rows[i].op, .flags = TLS,
                                   .auth_src = rows[i].auth, .auth_len = rows[i].auth_len,
                                   .src = rows[i].src, .dst = rows[i].dst, .len = rows[i].len,
                                   .tag_len = rows[i].tag_len, .iv = rows[i].iv};

        memcpy(out, kept, 128);
        check_auth(rows[i].name, op, rows[i].wanted, 96, NULL, 20);
        if (rows[i].wanted != 0)
            check_same(label("%s: data", rows[i].name), out, kept, 128);
        finish(op.ses);
    }
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    for (size_t i = 0; i < sizeof(auth); i++)
        auth[i] = i * 7 + 3;
    records();
    long_padding();
    large();
    chained();
    forgeries();
    short_records();
    arguments();
    return end();
}
