/* SPDX-License-Identifier: MIT */
/*
 * conform_srtp DEVICE: CIOCAUTHCRYPT of the SRTP type: the payload of a packet encrypted in place,
 * and the mac of the whole packet after that, in a place of its own. The expected bytes come from
 * sessions of a mac and of a cipher alone.
 */
#include "check.h"

#include "algorithms.h"
#include "authenticating.h"
#include "hashing.h"

#define SRTP COP_FLAG_AEAD_SRTP_TYPE
#define UNTOUCHED 0x77
#define HEADER 12
#define SHA1_SIZE 20

static const uint8_t start_iv[16] = {1, 3, 5, 7, 9, 11, 13, 15, 2, 4, 6, 8, 0, 0, 0, 0xff};

static __u32 make_suite(__u32 cipher, __u32 mac)
{
    const struct cipher *c = cipher_of(cipher);

    return MAKE(.cipher = cipher, .keylen = c->key_first, .key = key, .mac = mac,
                .mackeylen = is_aead(c) ? 0 : 20, .mackey = key + 100);
}

/* By hand: a packet of a header, len bytes of payload and more that is only authenticated. */
static void protect_packet(__u32 cipher, __u32 mac, const uint8_t *packet, __u32 header, __u32 len,
                           __u32 auth_len, uint8_t *wanted, uint8_t *tag, uint8_t *next)
{
    __u32 ses = make_suite(cipher, 0);

    memcpy(wanted, packet, auth_len);
    memcpy(next, start_iv, 16);
    if (operate(ses, COP_ENCRYPT, COP_FLAG_WRITE_IV, wanted + header, wanted + header, len, next) !=
        0)
        unusable("the cipher alone");
    finish(ses);
    if (mac)
        digest(mac, key + 100, 20, wanted, auth_len, tag);
}

/* ---- right answers ------------------------------------------------------------------------- */

static void one_packet(__u32 cipher, __u32 mac, __u32 header, __u32 len, __u32 after, __u32 tag_len,
                       int more_flags)
{
    const char *name = label("%s + %s, %u + %u + %u bytes, tag_len %u, flags %x",
                             cipher_of(cipher)->name, mac ? mac_of(mac)->name : "none", header, len,
                             after, tag_len, more_flags);
    __u32 auth_len = header + len + after, size = mac ? tag_len : 0;
    uint8_t *packet = allocate(auth_len + 64), *wanted = allocate(auth_len + 64);
    uint8_t tag[DIGEST_MAX + 16], wanted_tag[DIGEST_MAX], iv[16], next[16];
    struct crypt_auth_op op = {.ses = make_suite(cipher, mac),
                               .flags = SRTP | COP_FLAG_WRITE_IV | more_flags, .auth_src = packet,
                               .auth_len = auth_len, .src = packet + header, .dst = packet + header,
                               .len = len, .tag = tag, .tag_len = tag_len, .iv = iv};

    if (mac && tag_len == 0)
        size = mac_of(mac)->digest;
    protect_packet(cipher, mac, plain, header, len, auth_len, wanted, wanted_tag, next);
    memset(packet, UNTOUCHED, auth_len + 64);
    memcpy(packet, plain, auth_len);
    memset(tag, UNTOUCHED, sizeof(tag));
    memcpy(iv, start_iv, 16);
    check_auth(label("%s, seal", name), op, 0, len, tag, size);
    check_same(label("%s, seal: packet", name), packet, wanted, auth_len);
    check_all(label("%s, seal: no more", name), packet + auth_len, UNTOUCHED, 64);
    check_same(label("%s, seal: tag", name), tag, wanted_tag, size);
    check_all(label("%s, seal: no more tag", name), tag + size, UNTOUCHED, sizeof(tag) - size);
    check_same(label("%s, seal: iv", name), iv, next, 16);

    if (len >= size && len > 0) { /* a tag longer than the data cannot be checked */
        op.op = COP_DECRYPT;
        memcpy(iv, start_iv, 16);
        check_auth(label("%s, open", name), op, 0, len, tag, size);
        check_same(label("%s, open: packet", name), packet, plain, auth_len);
        check_same(label("%s, open: iv", name), iv, next, 16);
    }
    finish(op.ses);
    free(packet);
    free(wanted);
}

static void packets(void)
{
    static const __u32 headers[] = {0, 1, 12, 255, 256}, lens[] = {0, 1, 16, 20, 100, 1400, 4096};

    for (size_t i = 0; i < COUNT(headers); i++)
        one_packet(CRYPTO_AES_CTR, CRYPTO_SHA1_HMAC, headers[i], 100, 0, 0, 0);
    for (size_t i = 0; i < COUNT(lens); i++) {
        /* An empty payload needs bytes behind it. */
        one_packet(CRYPTO_AES_CTR, CRYPTO_SHA1_HMAC, HEADER, lens[i], lens[i] == 0, 0, 0);
        one_packet(CRYPTO_AES_CTR, CRYPTO_SHA2_256_HMAC, HEADER, lens[i], 4, 10, 0);
        one_packet(CRYPTO_NULL, CRYPTO_SHA1_HMAC, HEADER, lens[i], lens[i] == 0, 10, 0);
    }
    one_packet(CRYPTO_AES_CTR, CRYPTO_SHA1_HMAC, HEADER, 100, 4, 10, 0);
    one_packet(CRYPTO_AES_CTR, CRYPTO_SHA1, HEADER, 100, 0, 0, 0);
    one_packet(CRYPTO_AES_CTR, CRYPTO_SHA2_512_HMAC, HEADER, 100, 0, 0, 0);
    one_packet(CRYPTO_AES_CTR, 0, HEADER, 100, 0, 0, 0);
    one_packet(CRYPTO_AES_CTR, CRYPTO_SHA1_HMAC, HEADER, 5000 - HEADER, 0, 0, 0);
    one_packet(CRYPTO_AES_CTR, CRYPTO_SHA1_HMAC, HEADER, 10000, 0, 10, 0);
    /* With both flags it is SRTP. */
    one_packet(CRYPTO_AES_CTR, CRYPTO_SHA1_HMAC, HEADER, 100, 0, 0, COP_FLAG_AEAD_TLS_TYPE);
}

static void allowed_ciphers(void)
{
    for (size_t i = 0; i < COUNT(ciphers); i++) {
        const struct cipher *c = &ciphers[i];
        int is_stream = c->id == CRYPTO_AES_CTR || c->id == CRYPTO_NULL;
        uint8_t packet[64 + HEADER], tag[20];
        struct crypt_auth_op op = {.ses = make_suite(c->id, CRYPTO_SHA1_HMAC), .flags = SRTP,
                                   .auth_src = packet, .auth_len = sizeof(packet),
                                   .src = packet + HEADER, .dst = packet + HEADER, .len = 64,
                                   .tag = tag, .iv = BYTES(start_iv)};

        memcpy(packet, plain, sizeof(packet));
        check_auth(label("%s + HMAC-SHA1", c->name), op, is_stream ? 0 : EINVAL, 64, tag, 20);
        if (!is_stream)
            check_same(label("%s + HMAC-SHA1: packet", c->name), packet, plain, sizeof(packet));
        finish(op.ses);
    }
}

static void chained(void)
{
    uint8_t packet[128], tag[20], next[16], wanted[128];
    struct crypt_auth_op op = {.ses = make_suite(CRYPTO_AES_CTR, CRYPTO_SHA1_HMAC), .flags = SRTP,
                               .auth_src = packet, .auth_len = 64, .src = packet, .dst = packet,
                               .len = 64, .tag = tag, .iv = BYTES(start_iv)};

    memcpy(packet, plain, 128);
    protect_packet(CRYPTO_AES_CTR, 0, plain, 0, 128, 128, wanted, NULL, next);
    check_auth("first packet", op, 0, 64, tag, 20);
    op.auth_src = op.src = op.dst = packet + 64;
    op.iv = NULL;
    check_auth("second packet, no iv", op, 0, 64, tag, 20);
    check_same("both packets: one key stream", packet, wanted, 128);
    finish(op.ses);
}

/* ---- wrong answers ------------------------------------------------------------------------- */

static void forgeries(void)
{
    static const struct {
        const char *name;
        int at, in_tag;
        __u32 tag_len;
    } rows[] = {{"header", 3, -1, 0},       {"payload", 60, -1, 0}, {"end of payload", 111, -1, 0},
                {"first of the tag", -1, 0, 0}, {"last of the tag", -1, 19, 0},
                {"last of a short tag", -1, 9, 10}};

    for (size_t i = 0; i < COUNT(rows); i++) {
        uint8_t packet[112], before[112], tag[20], next[16];
        struct crypt_auth_op op = {.ses = make_suite(CRYPTO_AES_CTR, CRYPTO_SHA1_HMAC),
                                   .op = COP_DECRYPT, .flags = SRTP, .auth_src = packet,
                                   .auth_len = 112, .src = packet + HEADER, .dst = packet + HEADER,
                                   .len = 100, .tag = tag, .tag_len = rows[i].tag_len,
                                   .iv = BYTES(start_iv)};

        protect_packet(CRYPTO_AES_CTR, CRYPTO_SHA1_HMAC, plain, HEADER, 100, 112, packet, tag,
                       next);
        if (rows[i].at >= 0)
            packet[rows[i].at] ^= 1;
        if (rows[i].in_tag >= 0)
            tag[rows[i].in_tag] ^= 1;
        memcpy(before, packet, sizeof(packet));
        check_auth(label("forged %s", rows[i].name), op, EBADMSG, 0, NULL, 0);
        check_same(label("forged %s: packet", rows[i].name), packet, before, sizeof(packet));
        finish(op.ses);
    }
}

static void arguments(void)
{
    uint8_t *p = out, *bad = edge_end, *frozen_page = frozen(plain, PAGE), *tag = out + 8192;
    uint8_t iv[16];
    void *one = (void *)1;
    const struct {
        const char *name;
        int op;
        void *auth;
        __u32 auth_len;
        void *src, *dst;
        __u32 len;
        void *tag;
        __u32 tag_len;
        void *iv;
        int wanted;
    } rows[] = {
        {"257 before src", 0, p, 357, p + 257, p + 257, 100, tag, 0, iv, EINVAL},
        {"auth_src after src", 0, p + 16, 100, p, p, 100, tag, 0, iv, EINVAL},
        {"auth_len 0", 0, p, 0, p, p, 100, tag, 0, iv, EINVAL},
        {"auth_src NULL", 0, NULL, 112, p, p, 100, tag, 0, iv, EINVAL},
        {"src = dst = NULL", 0, p, 112, NULL, NULL, 100, tag, 0, iv, EINVAL},
        {"all NULL", 0, NULL, 112, NULL, NULL, 100, tag, 0, iv, EINVAL},
        {"all 1", 0, one, 112, one, one, 100, tag, 0, iv, EINVAL},
        {"all unmapped", 0, bad, 112, bad + 12, bad + 12, 100, tag, 0, iv, EINVAL},
        {"half mapped", 0, bad - 50, 112, bad - 38, bad - 38, 100, tag, 0, iv, EINVAL},
        {"auth beyond the edge", 0, bad - 112, 113, bad - 100, bad - 100, 100, tag, 0, iv, EINVAL},
        {"read-only", 0, frozen_page, 112, frozen_page + 12, frozen_page + 12, 100, tag, 0, iv,
         EINVAL},
        {"open, read-only", 1, frozen_page, 112, frozen_page + 12, frozen_page + 12, 100, tag, 0,
         iv, EINVAL},
        {"just before the edge", 0, bad - 112, 112, bad - 100, bad - 100, 100, tag, 0, iv, 0},
        {"auth ends within the payload", 0, p, 111, p + 12, p + 12, 100, tag, 0, iv, EINVAL},
        {"auth ends before the payload", 0, p, 12, p + 12, p + 12, 100, tag, 0, iv, EINVAL},
        {"len 0, nothing behind the header", 0, p, 12, p + 12, p + 12, 0, tag, 0, iv, EINVAL},
        {"len 0, no header", 0, p, 0, p, p, 0, tag, 0, iv, EINVAL},
        {"len 0, a byte behind the header", 0, p, 13, p + 12, p + 12, 0, tag, 0, iv, 0},
        {"auth_len 0xffffffff", 0, p, 0xffffffff, p + 12, p + 12, 100, tag, 0, iv, -1},
        {"dst is not src", 0, p, 112, p + 12, p + 13, 100, tag, 0, iv, EINVAL},
        {"dst is not src, iv 1", 0, p, 112, p + 12, p + 13, 100, tag, 0, one, EINVAL},
        {"tag NULL", 0, p, 112, p + 12, p + 12, 100, NULL, 0, iv, EFAULT},
        {"tag 1", 0, p, 112, p + 12, p + 12, 100, one, 0, iv, EFAULT},
        {"tag unmapped", 0, p, 112, p + 12, p + 12, 100, bad, 0, iv, EFAULT},
        {"tag half mapped", 0, p, 112, p + 12, p + 12, 100, bad - 10, 0, iv, EFAULT},
        {"short tag just before the edge", 0, p, 112, p + 12, p + 12, 100, bad - 10, 10, iv, 0},
        {"tag read-only", 0, p, 112, p + 12, p + 12, 100, frozen_page, 0, iv, EFAULT},
        {"open, tag NULL", 1, p, 112, p + 12, p + 12, 100, NULL, 0, iv, EFAULT},
        {"open, tag unmapped", 1, p, 112, p + 12, p + 12, 100, bad, 0, iv, EFAULT},
        {"open, tag read-only", 1, p, 112, p + 12, p + 12, 100, frozen_page, 0, iv, EBADMSG},
        {"tag_len 20, len 16", 0, p, 28, p + 12, p + 12, 16, tag, 20, iv, 0},
        {"open, tag_len 20, len 16", 1, p, 28, p + 12, p + 12, 16, tag, 20, iv, EINVAL},
        {"tag_len 21", 0, p, 112, p + 12, p + 12, 100, tag, 21, iv, EINVAL},
        {"tag_len 64", 0, p, 112, p + 12, p + 12, 100, tag, 64, iv, EINVAL},
        {"tag_len 128", 0, p, 112, p + 12, p + 12, 100, tag, 128, iv, EINVAL},
        {"open, tag_len 65", 1, p, 112, p + 12, p + 12, 100, tag, 65, iv, EINVAL},
        {"open, len 0", 1, p, 112, p + 12, p + 12, 0, tag, 0, iv, EINVAL},
        {"iv 1", 0, p, 112, p + 12, p + 12, 100, tag, 0, one, EFAULT},
        {"iv half mapped", 0, p, 112, p + 12, p + 12, 100, tag, 0, bad - 8, EFAULT},
        {"op 2", 2, p, 112, p + 12, p + 12, 100, tag, 0, iv, EINVAL},
        {"op 2, iv 1", 2, p, 112, p + 12, p + 12, 100, tag, 0, one, EFAULT},
    };

    memcpy(iv, start_iv, 16);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct crypt_auth_op op = {.ses = make_suite(CRYPTO_AES_CTR, CRYPTO_SHA1_HMAC),
                                   .op = rows[i].op, .flags = SRTP, .auth_src = rows[i].auth,
                                   .auth_len = rows[i].auth_len, .src = rows[i].src,
                                   .dst = rows[i].dst, .len = rows[i].len, .tag = rows[i].tag,
                                   .tag_len = rows[i].tag_len, .iv = rows[i].iv};

        memcpy(out, plain, 400);
        memset(tag, UNTOUCHED, 256);
        if (rows[i].wanted == -1) {
            check(label("%s is refused", rows[i].name),
                  ioctl(device, CIOCAUTHCRYPT, &op) == -1 ? 0 : -1, 0);
        } else {
            check_auth(rows[i].name, op, rows[i].wanted, rows[i].len, rows[i].tag,
                       rows[i].tag_len ? rows[i].tag_len : SHA1_SIZE);
        }
        /* Sealing with a tag that cannot be written may have been done before that is seen. */
        if (rows[i].wanted != 0 && (rows[i].wanted != EFAULT || rows[i].op != COP_ENCRYPT)) {
            check_same(label("%s: packet", rows[i].name), out, plain, 400);
            check_all(label("%s: tag", rows[i].name), tag, UNTOUCHED, 256);
        }
        finish(op.ses);
    }
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    packets();
    allowed_ciphers();
    chained();
    forgeries();
    arguments();
    return end();
}
