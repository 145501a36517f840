/* SPDX-License-Identifier: MIT */
/* conform_aead DEVICE: CIOCAUTHCRYPT with AES-GCM and AES-CCM, and CIOCCRYPT on such sessions. */
#include "check.h"

#include "aead_vectors.h"
#include "authenticating.h"

#define UNTOUCHED 0x77
#define TAG 16
#define GCM_SESSION MAKE(.cipher = CRYPTO_AES_GCM, .keylen = 16, .key = key)
#define CCM_SESSION MAKE(.cipher = CRYPTO_AES_CCM, .keylen = 16, .key = key)

static uint8_t iv[16] = {3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}; /* for CCM: 11 bytes of nonce */
static uint8_t auth[PAGE + 1];
static uint8_t message[64 + TAG]; /* plain, sealed with GCM, iv and 20 bytes of auth */

/* ---- right answers ------------------------------------------------------------------------- */

static void published(void)
{
    for (size_t i = 0; i < COUNT(aead_vectors); i++) {
        const struct aead_vector *v = &aead_vectors[i];
        uint8_t a_key[32], an_iv[16], associated[64], text[64], secret[96], got[128];
        size_t keylen = from_hex(a_key, v->key), auth_len = from_hex(associated, v->auth);
        size_t len = from_hex(text, v->plain), size = from_hex(secret, v->secret);
        struct crypt_auth_op op = {.auth_src = associated, .auth_len = auth_len, .src = text,
                                   .dst = got, .len = len, .iv = an_iv, .tag_len = v->tag_len};

        from_hex(an_iv, v->iv);
        op.ses = MAKE(.cipher = v->cipher, .keylen = keylen, .key = a_key);
        memset(got, UNTOUCHED, sizeof(got));
        check_auth(label("%s, seal", v->name), op, 0, size, got + len, v->tag_len);
        check_same(label("%s, seal: output", v->name), got, secret, size);
        check_all(label("%s, seal: no more", v->name), got + size, UNTOUCHED, sizeof(got) - size);
        op.op = COP_DECRYPT;
        op.src = secret;
        op.len = size;
        memset(got, UNTOUCHED, sizeof(got));
        check_auth(label("%s, open", v->name), op, 0, len, got + len, v->tag_len);
        check_same(label("%s, open: output", v->name), got, text, len);
        check_all(label("%s, open: no more", v->name), got + len, UNTOUCHED, sizeof(got) - len);
        finish(op.ses);
    }
}

static void one_message(__u32 cipher, __u32 keylen, __u32 tag_len, const uint8_t *text, __u32 len,
                        __u32 auth_len, int in_place)
{
    const char *name = label("%s-%u, %u bytes, auth %u, tag %u%s",
                             cipher == CRYPTO_AES_GCM ? "GCM" : "CCM", 8 * keylen, len, auth_len,
                             tag_len, in_place ? ", in place" : "");
    uint8_t *got = allocate(len + 64), *secret = allocate(len + 64), own_iv[16], next[16];
    struct crypt_auth_op op = {.ses = MAKE(.cipher = cipher, .keylen = keylen, .key = key),
                               .flags = COP_FLAG_WRITE_IV, .auth_src = auth, .auth_len = auth_len,
                               .src = BYTES(text), .dst = got, .len = len, .iv = own_iv,
                               .tag_len = tag_len};
    __u32 blocks = 1 + (len + 15) / 16;

    memcpy(own_iv, iv, 16);
    memcpy(next, iv, 16);
    if (cipher == CRYPTO_AES_GCM) {
        gcm(key, keylen, iv, auth, auth_len, text, len, secret);
    } else {
        ccm(key, keylen, iv, auth, auth_len, text, len, tag_len, secret);
        for (int i = 0; i < 4; i++) /* the counter that would come next */
            next[15 - i] = blocks >> 8 * i;
    }
    memset(got, UNTOUCHED, len + 64);
    if (in_place)
        op.src = memcpy(got, text, len);
    check_auth(label("%s, seal", name), op, 0, len + tag_len, got + len, tag_len);
    check_same(label("%s, seal: output", name), got, secret, len + tag_len);
    check_all(label("%s, seal: no more", name), got + len + tag_len, UNTOUCHED, 64 - tag_len);
    check_same(label("%s, seal: iv", name), own_iv, next, 16);

    op.op = COP_DECRYPT;
    op.len = len + tag_len;
    op.src = secret;
    memcpy(own_iv, iv, 16);
    memset(got, UNTOUCHED, len + 64);
    if (in_place)
        op.src = memcpy(got, secret, len + tag_len);
    check_auth(label("%s, open", name), op, 0, len, got + len, tag_len);
    check_same(label("%s, open: output", name), got, text, len);
    check_all(label("%s, open: no more", name), got + len + (in_place ? tag_len : 0), UNTOUCHED,
              64 - tag_len);
    check_same(label("%s, open: iv", name), own_iv, iv, 16);
    finish(op.ses);
    free(got);
    free(secret);
}

static void lengths(void)
{
    static const __u32 lens[] = {0, 1, 15, 16, 17, 63, 64, 4080, 4096, 4097, 16384};
    static const __u32 auth_lens[] = {0, 1, 14, 16, 20, 4096};

    for (__u32 cipher = CRYPTO_AES_GCM; cipher <= CRYPTO_AES_CCM; cipher++) {
        for (size_t i = 0; i < COUNT(lens); i++) {
            one_message(cipher, 16, TAG, plain, lens[i], 20, 0);
            one_message(cipher, 32, TAG, plain, lens[i], 0, 1);
        }
        for (size_t i = 0; i < COUNT(auth_lens); i++)
            one_message(cipher, 24, TAG, plain, 40, auth_lens[i], 0);
        for (__u32 tag_len = 4; tag_len <= TAG; tag_len += 2)
            if (cipher == CRYPTO_AES_CCM || tag_len == 4 || tag_len == 8 || tag_len >= 12)
                one_message(cipher, 16, tag_len, plain, 40, 20, 0);
#ifndef SMALL_ONLY
        uint8_t *data = noise(8 * MIB);

        one_message(cipher, 16, TAG, data, MIB, 20, 0);
        one_message(cipher, 32, TAG, data, MIB + 7, 20, 1);
        one_message(cipher, 16, 12, data, 8 * MIB, 20, 0);
        free(data);
#endif
    }
    one_message(CRYPTO_AES_GCM, 16, 13, plain, 40, 20, 0);
    one_message(CRYPTO_AES_GCM, 16, 15, plain, 40, 20, 1);
}

/* ---- what is not authentic ----------------------------------------------------------------- */

/* Nothing is written, wherever the mistake is: in the data, in the tag, in auth, in the IV. */
static void forgeries(void)
{
    static const struct {
        const char *name;
        int at, len, in_auth, in_iv;
    } rows[] = {{"first byte", 0, 80, 0, 0},     {"last byte", 63, 80, 0, 0},
                {"first of the tag", 64, 80, 0, 0}, {"last of the tag", 79, 80, 0, 0},
                {"auth", -1, 80, 1, 0},          {"iv", -1, 80, 0, 1},
                {"one byte less", -1, 79, 0, 0}, {"a tag and nothing else", -1, 16, 0, 0}};

    for (size_t i = 0; i < COUNT(rows); i++) {
        for (int in_place = 0; in_place <= 1; in_place++) {
            const char *name = label("forged %s%s", rows[i].name, in_place ? " in place" : "");
            uint8_t forged[80], before[80], got[80], own_auth[20], own_iv[16];
            struct crypt_auth_op op = {.ses = GCM_SESSION, .op = COP_DECRYPT,
                                       .flags = COP_FLAG_WRITE_IV, .auth_src = own_auth,
                                       .auth_len = 20, .src = forged,
                                       .dst = in_place ? forged : got, .len = rows[i].len,
                                       .iv = own_iv};

            memcpy(forged, message, 80);
            memcpy(own_auth, auth, 20);
            memcpy(own_iv, iv, 16);
            if (rows[i].at >= 0)
                forged[rows[i].at] ^= 1;
            own_auth[7] ^= rows[i].in_auth;
            own_iv[7] ^= rows[i].in_iv;
            memcpy(before, forged, 80);
            memset(got, UNTOUCHED, sizeof(got));
            check_auth(name, op, EBADMSG, 0, NULL, 0);
            check_same(label("%s: src", name), forged, before, 80);
            check_all(label("%s: dst", name), got, UNTOUCHED, sizeof(got));
            finish(op.ses);
        }
    }
}

static void forged_ccm(void)
{
    uint8_t secret[80], got[80];
    struct crypt_auth_op op = {.ses = CCM_SESSION, .op = COP_DECRYPT, .src = secret, .dst = got,
                               .len = 80, .iv = iv};

    ccm(key, 16, iv, NULL, 0, plain, 64, TAG, secret);
    memset(got, UNTOUCHED, sizeof(got));
    for (int at = 0; at < 80; at += 79) {
        secret[at] ^= 0x80;
        check_auth(label("CCM, forged byte %d", at), op, EBADMSG, 0, NULL, 0);
        secret[at] ^= 0x80;
    }
    check_all("CCM, forged: dst", got, UNTOUCHED, sizeof(got));
    check_auth("CCM, authentic", op, 0, 64, got + 64, TAG);
    finish(op.ses);
}

/* ---- the size of the tag ------------------------------------------------------------------- */

static void tag_sizes(void)
{
    struct crypt_auth_op op = {.src = plain, .dst = out, .len = 64, .iv = iv, .auth_src = auth,
                               .auth_len = 20};

    for (__u32 cipher = CRYPTO_AES_GCM; cipher <= CRYPTO_AES_CCM; cipher++) {
        for (__u32 tag_len = 1; tag_len <= 17; tag_len++) {
            int is_gcm = cipher == CRYPTO_AES_GCM;
            int good = is_gcm ? tag_len == 4 || tag_len == 8 || (tag_len >= 12 && tag_len <= 16)
                              : tag_len >= 4 && tag_len <= 16 && tag_len % 2 == 0;

            op.ses = MAKE(.cipher = cipher, .keylen = 16, .key = key);
            op.tag_len = tag_len;
            check_auth(label("%s, tag_len %u", is_gcm ? "GCM" : "CCM", tag_len), op,
                       good ? 0 : EINVAL, 64 + tag_len, out + 64, tag_len);
            finish(op.ses);
        }
    }

    /* It can only shrink, and stays. */
    op.ses = GCM_SESSION;
    op.tag_len = 0xffffffff;
    check_auth("tag_len 0xffffffff", op, EINVAL, 0, NULL, 0);
    op.tag_len = 12;
    check_auth("tag_len 12", op, 0, 76, out + 64, 12);
    check_same("tag_len 12: output", out, message, 76);
    op.tag_len = 0;
    check_auth("tag_len 0 after 12", op, 0, 76, out + 64, 12);
    op.tag_len = 16;
    check_auth("tag_len 16 after 12", op, EINVAL, 0, NULL, 0);
    op.tag_len = 4;
    check_auth("tag_len 4 after 12", op, 0, 68, out + 64, 4);
    op.tag_len = 8;
    check_auth("tag_len 8 after 4", op, EINVAL, 0, NULL, 0);
    op.tag_len = 0;
    op.op = COP_DECRYPT;
    op.src = message;
    op.len = 68;
    check_auth("open with tag_len 0 after 4", op, 0, 64, out + 64, 4);
    finish(op.ses);

    op.ses = GCM_SESSION;
    op.len = 80;
    op.tag_len = 12;
    check_auth("a tag of 16, opened with tag_len 12", op, EBADMSG, 0, NULL, 0);
    op.len = 76;
    op.tag_len = 0;
    check_auth("tag_len 0 after that", op, 0, 64, out + 64, 12);
    finish(op.ses);
}

/* ---- arguments ----------------------------------------------------------------------------- */

static void arguments(void)
{
    uint8_t *dst = out, *bad = edge_end, *frozen_page = frozen(plain, PAGE);
    uint8_t *in_place = memcpy(out + 8192, plain, 64);
    void *one = (void *)1;
    const struct {
        const char *name;
        int op, flags;
        void *auth;
        __u32 auth_len;
        void *src, *dst;
        __u32 len;
        void *iv;
        int wanted;
    } rows[] = {
        {"auth_len 0", 0, 0, auth, 0, plain, dst, 64, iv, 0},
        {"auth_len 0, auth_src NULL", 0, 0, NULL, 0, plain, dst, 64, iv, 0},
        {"auth_len 0, auth_src 1", 0, 0, one, 0, plain, dst, 64, iv, 0},
        {"auth_len 4096", 0, 0, auth, 4096, plain, dst, 64, iv, 0},
        {"auth_len 4097", 0, 0, auth, 4097, plain, dst, 64, iv, EINVAL},
        {"auth_len 4097, auth_src 1", 0, 0, one, 4097, plain, dst, 64, iv, EINVAL},
        {"auth_len 0xffffffff", 0, 0, auth, 0xffffffff, plain, dst, 64, iv, EINVAL},
        {"auth_src NULL", 0, 0, NULL, 20, plain, dst, 64, iv, EFAULT},
        {"auth_src 1", 0, 0, one, 20, plain, dst, 64, iv, EFAULT},
        {"auth_src unmapped", 0, 0, bad, 20, plain, dst, 64, iv, EFAULT},
        {"auth_src half mapped", 0, 0, bad - 10, 20, plain, dst, 64, iv, EFAULT},
        {"src 1", 0, 0, auth, 20, one, dst, 64, iv, EINVAL},
        {"src unmapped", 0, 0, auth, 20, bad, dst, 64, iv, EINVAL},
        {"src half mapped", 0, 0, auth, 20, bad - 32, dst, 64, iv, EINVAL},
        {"src in the kernel", 0, 0, auth, 20, IN_THE_KERNEL, dst, 64, iv, EINVAL},
        {"src read-only", 0, 0, auth, 20, frozen_page, dst, 64, iv, 0},
        {"src NULL", 0, 0, auth, 20, NULL, dst, 64, iv, EFAULT},
        {"dst NULL", 0, 0, auth, 20, plain, NULL, 64, iv, EFAULT},
        {"src and dst NULL", 0, 0, auth, 20, NULL, NULL, 64, iv, EFAULT},
        {"src = dst = 1", 0, 0, auth, 20, one, one, 64, iv, EINVAL},
        {"src = dst unmapped", 0, 0, auth, 20, bad, bad, 64, iv, EINVAL},
        {"src = dst read-only", 0, 0, auth, 20, frozen_page, frozen_page, 64, iv, EINVAL},
        {"src = dst without room for the tag", 0, 0, auth, 20, bad - 64, bad - 64, 64, iv, EINVAL},
        {"dst unmapped", 0, 0, auth, 20, plain, bad, 64, iv, EFAULT},
        {"dst 1", 0, 0, auth, 20, plain, one, 64, iv, EFAULT},
        {"dst read-only", 0, 0, auth, 20, plain, frozen_page, 64, iv, EFAULT},
        {"dst without room for the tag", 0, 0, auth, 20, plain, bad - 64, 64, iv, EFAULT},
        {"dst with just the room", 0, 0, auth, 20, plain, bad - 80, 64, iv, 0},
        {"iv 1", 0, 0, auth, 20, plain, dst, 64, one, EFAULT},
        {"iv unmapped", 0, 0, auth, 20, plain, dst, 64, bad, EFAULT},
        {"iv half mapped", 0, 0, auth, 20, plain, dst, 64, bad - 11, EFAULT},
        {"iv just before the edge", 0, 0, auth, 20, plain, dst, 64, bad - 12, 0},
        {"WRITE_IV, iv read-only", 0, COP_FLAG_WRITE_IV, auth, 20, plain, dst, 64, frozen_page,
         EFAULT},
        {"op 2", 2, 0, auth, 20, plain, dst, 64, iv, EINVAL},
        {"op 0xffff", 0xffff, 0, auth, 20, plain, dst, 64, iv, EINVAL},
        {"op 2, iv 1", 2, 0, auth, 20, plain, dst, 64, one, EFAULT},
        {"flags that do not matter", 0, 0xff8b, auth, 20, plain, dst, 64, iv, 0},
        {"TLS flag", 0, COP_FLAG_AEAD_TLS_TYPE, auth, 20, plain, dst, 64, iv, EINVAL},
        {"TLS flag, iv 1", 0, COP_FLAG_AEAD_TLS_TYPE, auth, 20, plain, dst, 64, one, EINVAL},
        {"TLS flag, in place", 0, COP_FLAG_AEAD_TLS_TYPE, auth, 20, in_place, in_place, 64, iv, 0},
        {"SRTP flag", 0, COP_FLAG_AEAD_SRTP_TYPE, auth, 20, plain, dst, 64, iv, EINVAL},
        {"SRTP flag, in place", 0, COP_FLAG_AEAD_SRTP_TYPE, in_place, 64, in_place, in_place, 64,
         iv, EINVAL},
        {"len 0x7fffffff", 0, 0, auth, 20, plain, dst, 0x7fffffff, iv, ENOMEM},
        {"len 0xfffffff0", 0, 0, auth, 20, plain, dst, 0xfffffff0, iv, ENOMEM},
        {"len 0x7fffffff, open", 1, 0, auth, 20, plain, dst, 0x7fffffff, iv, ENOMEM},
        {"len 0xfffffff0, in place", 0, 0, auth, 20, in_place, in_place, 0xfffffff0, iv, ENOMEM},
        {"len 0", 0, 0, auth, 20, plain, dst, 0, iv, 0},
        {"len 0, src NULL", 0, 0, NULL, 0, NULL, dst, 0, iv, 0},
        {"open, len 0", 1, 0, auth, 20, message, dst, 0, iv, EINVAL},
        {"open, len 15", 1, 0, auth, 20, message, dst, 15, iv, EINVAL},
        {"open, src unmapped", 1, 0, auth, 20, bad, dst, 80, iv, EINVAL},
        {"open, src = dst read-only", 1, 0, auth, 20, frozen_page, frozen_page, 80, iv, EINVAL},
        {"open, dst unmapped", 1, 0, auth, 20, message, bad, 80, iv, EFAULT},
        {"open, dst NULL", 1, 0, auth, 20, message, NULL, 80, iv, EFAULT},
        {"open, auth_src unmapped", 1, 0, bad, 20, message, dst, 80, iv, EFAULT},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct crypt_auth_op op = {.ses = GCM_SESSION, .op = rows[i].op, .flags = rows[i].flags,
                                   .auth_src = rows[i].auth, .auth_len = rows[i].auth_len,
                                   .src = rows[i].src, .dst = rows[i].dst, .len = rows[i].len,
                                   .iv = rows[i].iv, .iv_len = 9999, .tag = one};

        memset(out, UNTOUCHED, 128);
        check_auth(rows[i].name, op, rows[i].wanted, rows[i].len + TAG,
                   (uint8_t *)rows[i].dst + rows[i].len, TAG);
        if (rows[i].wanted != 0 && rows[i].flags != COP_FLAG_WRITE_IV)
            check_all(label("%s: nothing written", rows[i].name), out, UNTOUCHED, 128);
        if (rows[i].wanted == EFAULT || rows[i].wanted == EINVAL) {
            op.ses = ~op.ses;
            check_auth(label("unknown session, %s", rows[i].name), op, EINVAL, 0, NULL, 0);
            op.ses = ~op.ses;
        }
        finish(op.ses);
    }
}

static void initialization_vectors(void)
{
    static const __u32 sizes[] = {0, 12, 16, 9999};
    struct crypt_auth_op op = {.ses = GCM_SESSION, .src = plain, .dst = out, .len = 64, .iv = iv,
                               .auth_src = auth, .auth_len = 20};
    uint8_t wanted[80], ccm_iv[16];

    for (size_t i = 0; i < COUNT(sizes); i++) {
        op.iv_len = sizes[i];
        check_auth(label("iv_len %u", sizes[i]), op, 0, 80, out + 64, TAG);
        check_same(label("iv_len %u: output", sizes[i]), out, message, 80);
    }
    op.iv = NULL;
    check_auth("no iv: the last one again", op, 0, 80, out + 64, TAG);
    check_same("no iv: output", out, message, 80);
    op.flags = COP_FLAG_WRITE_IV;
    check_auth("no iv, WRITE_IV", op, 0, 80, out + 64, TAG);
    op.flags = 0;
    finish(op.ses);

    op.ses = GCM_SESSION;
    gcm(key, 16, zeros, auth, 20, plain, 64, wanted);
    check_auth("no iv in a fresh session", op, 0, 80, out + 64, TAG);
    check_same("no iv in a fresh session: zeros", out, wanted, 80);
    finish(op.ses);

    op.ses = CCM_SESSION;
    check_auth("CCM, no iv in a fresh session", op, EINVAL, 0, NULL, 0);
    op.iv = iv;
    check_auth("CCM", op, 0, 80, out + 64, TAG);
    memcpy(wanted, out, 80);
    op.iv = NULL;
    check_auth("CCM, no iv: the last one again", op, 0, 80, out + 64, TAG);
    check_same("CCM, no iv: output", out, wanted, 80);
    op.iv = ccm_iv;
    for (int first = 0; first <= 8; first++) {
        memcpy(ccm_iv, iv, 16);
        ccm_iv[0] = first;
        check_auth(label("CCM, iv[0] = %d", first), op, first >= 1 && first <= 7 ? 0 : EINVAL, 80,
                   out + 64, TAG);
    }
    ccm_iv[0] = 0xff;
    check_auth("CCM, iv[0] = 255", op, EINVAL, 0, NULL, 0);
    memcpy(ccm_iv, iv, 12);
    memset(ccm_iv + 12, 0xee, 4);
    check_auth("CCM, whatever is in the counter field", op, 0, 80, out + 64, TAG);
    check_same("CCM, whatever is in the counter field: output", out, wanted, 80);
    op.iv = edge_end - 15;
    check_auth("CCM, iv half mapped", op, EFAULT, 0, NULL, 0);
    finish(op.ses);
}

/* ---- sessions that are not meant for it ---------------------------------------------------- */

static void other_sessions(void)
{
    static const struct {
        const char *name;
        __u32 cipher, mac;
        int flags;
    } rows[] = {
        {"SHA1", 0, CRYPTO_SHA1, 0},
        {"HMAC-SHA1", 0, CRYPTO_SHA1_HMAC, 0},
        {"HMAC-SHA1, TLS flag", 0, CRYPTO_SHA1_HMAC, COP_FLAG_AEAD_TLS_TYPE},
        {"HMAC-SHA1, SRTP flag", 0, CRYPTO_SHA1_HMAC, COP_FLAG_AEAD_SRTP_TYPE},
        {"AES-CBC", CRYPTO_AES_CBC, 0, 0},
        {"AES-CBC + HMAC-SHA1", CRYPTO_AES_CBC, CRYPTO_SHA1_HMAC, 0},
        {"AES-CTR", CRYPTO_AES_CTR, 0, 0},
        {"AES-CTR + HMAC-SHA1", CRYPTO_AES_CTR, CRYPTO_SHA1_HMAC, 0},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct crypt_auth_op op = {.flags = rows[i].flags, .src = out, .dst = out, .len = 64,
                                   .auth_src = out, .auth_len = 64, .tag = out + 256, .iv = iv};

        op.ses = MAKE(.cipher = rows[i].cipher, .keylen = 16, .key = key, .mac = rows[i].mac,
                      .mackeylen = 20, .mackey = key);
        memset(out, UNTOUCHED, 512);
        check_auth(rows[i].name, op, EINVAL, 0, NULL, 0);
        check_all(label("%s: nothing written", rows[i].name), out, UNTOUCHED, 512);
        finish(op.ses);
    }
}

static void plain_crypt(void)
{
    __u32 ses = GCM_SESSION;
    struct crypt_auth_op op = {.ses = ses, .src = plain, .dst = out, .len = 64, .iv = iv,
                               .auth_src = auth, .auth_len = 20};

    memset(out, UNTOUCHED, 128);
    for (int flags = 0; flags <= COP_FLAG_NO_ZC; flags += COP_FLAG_NO_ZC) {
        check(label("CIOCCRYPT on GCM, nothing, flags %d", flags),
              operate(ses, COP_ENCRYPT, flags, NULL, NULL, 0, iv), 0);
        check(label("CIOCCRYPT on GCM, encrypt, flags %d", flags),
              operate(ses, COP_ENCRYPT, flags, plain, out, 32, iv), EINVAL);
        check(label("CIOCCRYPT on GCM, decrypt, flags %d", flags),
              operate(ses, COP_DECRYPT, flags, plain, out, 32, iv), EBADMSG);
    }
    check_all("CIOCCRYPT on GCM: nothing written", out, UNTOUCHED, 128);
    check_auth("CIOCAUTHCRYPT on it", op, 0, 80, out + 64, TAG);
    check_same("CIOCAUTHCRYPT on it: output", out, message, 80);
    check("CIOCAUTHCRYPT in read-only memory",
          ioctl(device, CIOCAUTHCRYPT, frozen(&op, sizeof(op))), EFAULT);
    finish(ses);
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    for (size_t i = 0; i < sizeof(auth); i++)
        auth[i] = i * 3 + (i >> 8);
    gcm(key, 16, iv, auth, 20, plain, 64, message);
    published();
    lengths();
    forgeries();
    forged_ccm();
    tag_sizes();
    arguments();
    initialization_vectors();
    other_sessions();
    plain_crypt();
    return end();
}
