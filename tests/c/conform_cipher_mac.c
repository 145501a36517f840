/* SPDX-License-Identifier: MIT */
/*
 * conform_cipher_mac DEVICE: sessions with a cipher and a mac. The mac is over the plaintext in
 * both directions; the expected bytes come from two sessions that have one of them each.
 */
#include "check.h"

#include "algorithms.h"
#include "hashing.h"

#define UPDATE COP_FLAG_UPDATE
#define FINAL COP_FLAG_FINAL
#define RESET COP_FLAG_RESET
#define NO_ZC COP_FLAG_NO_ZC
#define UNTOUCHED 0x77
#define MACKEY_SIZE 20

static const struct pair {
    __u32 cipher, mac;
} pairs[] = {
    {CRYPTO_AES_CBC, CRYPTO_SHA1_HMAC},        {CRYPTO_AES_CBC, CRYPTO_SHA1},
    {CRYPTO_AES_CTR, CRYPTO_SHA2_256_HMAC},    {CRYPTO_AES_ECB, CRYPTO_MD5},
    {CRYPTO_AES_XTS, CRYPTO_SHA2_512_HMAC},    {CRYPTO_AES_CFB, CRYPTO_SHA2_384},
    {CRYPTO_AES_OFB, CRYPTO_SHA2_224_HMAC},    {CRYPTO_DES_CBC, CRYPTO_MD5_HMAC},
    {CRYPTO_3DES_CBC, CRYPTO_SHA2_384_HMAC},   {CRYPTO_BLF_CBC, CRYPTO_RIPEMD160_HMAC},
    {CRYPTO_CAMELLIA_CBC, CRYPTO_SHA2_256},    {CRYPTO_NULL, CRYPTO_RIPEMD160},
    {CRYPTO_NULL, CRYPTO_SHA1_HMAC},
};

static const uint8_t start_iv[16] = {9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 0xff};

static __u32 make_pair(const struct pair *pair)
{
    return MAKE(.cipher = pair->cipher, .keylen = cipher_of(pair->cipher)->key_last, .key = key,
                .mac = pair->mac, .mackeylen = MACKEY_SIZE, .mackey = key + 100);
}

static __u32 make_cipher(const struct pair *pair)
{
    return MAKE(.cipher = pair->cipher, .keylen = cipher_of(pair->cipher)->key_last, .key = key);
}

static void mac_of_text(const struct pair *pair, const void *text, __u32 len, uint8_t *mac)
{
    digest(pair->mac, key + 100, MACKEY_SIZE, text, len, mac);
}

static void one_way(const struct pair *pair, int op, int flags, int in_place, __u32 len)
{
    const char *name = label("%s + %s, %s%s%s, %u bytes", cipher_of(pair->cipher)->name,
                             mac_of(pair->mac)->name, op == COP_ENCRYPT ? "encrypt" : "decrypt",
                             flags & NO_ZC ? " copied" : "", in_place ? " in place" : "", len);
    uint8_t iv[16], next[16], mac[DIGEST_MAX + 16], wanted[DIGEST_MAX];
    __u32 ses = make_pair(pair), alone = make_cipher(pair), size = mac_of(pair->mac)->digest;
    const uint8_t *src = plain;

    memcpy(next, start_iv, 16);
    memcpy(iv, start_iv, 16);
    if (operate(alone, op, flags | COP_FLAG_WRITE_IV, plain, expected, len, next) != 0)
        unusable("the cipher alone");
    mac_of_text(pair, op == COP_ENCRYPT ? plain : expected, len, wanted);

    memset(out, UNTOUCHED, sizeof(out));
    memset(mac, UNTOUCHED, sizeof(mac));
    if (in_place)
        src = memcpy(out, plain, len);
    check(name, CRYPT(.ses = ses, .op = op, .flags = flags | COP_FLAG_WRITE_IV, .len = len,
                      .src = BYTES(src), .dst = out, .mac = mac, .iv = iv), 0);
    check_same(label("%s: output", name), out, expected, len);
    check_all(label("%s: no more output", name), out + len, UNTOUCHED, 32);
    check_same(label("%s: mac", name), mac, wanted, size);
    check_all(label("%s: no more mac", name), mac + size, UNTOUCHED, sizeof(mac) - size);
    check_same(label("%s: iv", name), iv, next, 16);

    /* The IV goes on, the mac does not. */
    if (operate(alone, op, 0, plain + 64, expected, 48, NULL) != 0)
        unusable("the cipher alone");
    mac_of_text(pair, op == COP_ENCRYPT ? plain + 64 : expected, 48, wanted);
    check(label("%s, then no iv", name),
          CRYPT(.ses = ses, .op = op, .len = 48, .src = plain + 64, .dst = out, .mac = mac), 0);
    check_same(label("%s, then no iv: output", name), out, expected, 48);
    check_same(label("%s, then no iv: mac", name), mac, wanted, size);
    finish(ses);
    finish(alone);
}

static void both_ways(void)
{
    for (size_t i = 0; i < COUNT(pairs); i++) {
        for (int way = 0; way < 8; way++)
            one_way(&pairs[i], way & 1, way & 2 ? NO_ZC : 0, !!(way & 4), 80);
        one_way(&pairs[i], COP_ENCRYPT, 0, 0, 12288);
        one_way(&pairs[i], COP_DECRYPT, NO_ZC, 0, 12288);
    }
}

/* The mac is over the bytes that were given, and nothing that the cipher needs besides. */
static void odd_lengths(void)
{
    static const __u32 lens[] = {1, 5, 15, 17, 33, 4097};

    for (size_t i = 0; i < COUNT(pairs); i++) {
        if (cipher_of(pairs[i].cipher)->block > 1)
            continue;
        for (size_t j = 0; j < COUNT(lens); j++)
            for (int way = 0; way < 8; way++)
                one_way(&pairs[i], way & 1, way & 2 ? NO_ZC : 0, !!(way & 4), lens[j]);
    }
}

/* ---- after CIOCAUTHCRYPT ------------------------------------------------------------------- */

/* What has come as far as being dispatched has loaded its IV, and started its hash afresh. */
static void after_authcrypt(void)
{
    uint8_t *data = out, *tag = out + 8192;
    const struct {
        const char *name;
        __u32 cipher;
        struct crypt_auth_op op;
        int wanted, dispatched;
    } rows[] = {
        {"no AEAD", CRYPTO_AES_CBC, {.src = data, .dst = data, .len = 32}, EINVAL, 1},
        {"SRTP of a block cipher", CRYPTO_AES_CBC,
         {.flags = COP_FLAG_AEAD_SRTP_TYPE, .src = data, .dst = data, .len = 32,
          .auth_src = data, .auth_len = 32, .tag = tag}, EINVAL, 1},
        {"TLS, auth_len 4097", CRYPTO_AES_CBC,
         {.flags = COP_FLAG_AEAD_TLS_TYPE, .src = data, .dst = data, .len = 32,
          .auth_src = data, .auth_len = 4097}, EINVAL, 1},
        {"TLS, auth_src unmapped", CRYPTO_AES_CBC,
         {.flags = COP_FLAG_AEAD_TLS_TYPE, .src = data, .dst = data, .len = 32,
          .auth_src = edge_end, .auth_len = 13}, EFAULT, 1},
        {"TLS, src unmapped", CRYPTO_AES_CBC,
         {.flags = COP_FLAG_AEAD_TLS_TYPE, .src = edge_end, .dst = edge_end, .len = 32}, EINVAL, 1},
        {"TLS, src read-only", CRYPTO_AES_CBC,
         {.flags = COP_FLAG_AEAD_TLS_TYPE, .src = read_only, .dst = read_only, .len = 32},
         EINVAL, 1},
        {"SRTP, a wrong tag", CRYPTO_AES_CTR,
         {.op = COP_DECRYPT, .flags = COP_FLAG_AEAD_SRTP_TYPE, .src = data, .dst = data, .len = 32,
          .auth_src = data, .auth_len = 32, .tag = tag}, EBADMSG, 1},
        {"SRTP, nothing to authenticate", CRYPTO_AES_CTR,
         {.flags = COP_FLAG_AEAD_SRTP_TYPE, .src = data, .dst = data, .len = 32, .auth_src = data,
          .tag = tag}, EINVAL, 1},
        {"op 2", CRYPTO_AES_CBC, {.op = 2, .src = data, .dst = data, .len = 32}, EINVAL, 0},
        {"TLS, dst is not src", CRYPTO_AES_CBC,
         {.flags = COP_FLAG_AEAD_TLS_TYPE, .src = data, .dst = data + 64, .len = 32}, EINVAL, 0},
        {"iv unmapped", CRYPTO_AES_CBC, {.src = data, .dst = data, .len = 32, .iv = edge_end},
         EFAULT, 0},
    };
    static uint8_t given[16] = {0xee, 1, 0xdd, 2, 0xcc, 3};

    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct pair pair = {rows[i].cipher, CRYPTO_SHA1};
        __u32 ses = make_pair(&pair), alone = make_cipher(&pair);
        uint8_t mac[DIGEST_MAX], wanted[DIGEST_MAX], first[16];
        struct crypt_auth_op op = rows[i].op;
        __u32 from;

        op.ses = ses;
        if (op.iv == NULL)
            op.iv = given;
        memcpy(first, start_iv, 16);
        check(label("%s: first", rows[i].name),
              CRYPT(.ses = ses, .flags = UPDATE, .len = 32, .src = plain, .dst = out, .iv = first),
              0);
        check(label("%s: authcrypt", rows[i].name), ioctl(device, CIOCAUTHCRYPT, &op),
              rows[i].wanted);
        check(label("%s: then", rows[i].name),
              CRYPT(.ses = ses, .flags = UPDATE | FINAL, .len = 48, .src = plain + 32, .dst = out,
                    .mac = mac), 0);
        if (operate(alone, COP_ENCRYPT, 0, plain, expected, 32, first) != 0 ||
            operate(alone, COP_ENCRYPT, 0, plain + 32, expected, 48,
                    rows[i].dispatched ? given : NULL) != 0)
            unusable("the cipher alone");
        check_same(label("%s: then, the IV", rows[i].name), out, expected, 48);
        from = rows[i].dispatched ? 32 : 0;
        mac_of_text(&pair, plain + from, 80 - from, wanted);
        check_same(label("%s: then, the mac", rows[i].name), mac, wanted, 20);
        finish(ses);
        finish(alone);
    }
}

/* After a record a hash in steps starts afresh, whether it was under way or not. */
static void steps_after_a_record(void)
{
    static const __u32 stream_ciphers[] = {CRYPTO_AES_OFB, CRYPTO_AES_CTR, CRYPTO_AES_CFB};

    for (size_t i = 0; i < COUNT(stream_ciphers); i++) {
        for (int under_way = 0; under_way < 2; under_way++) {
            const struct pair pair = {stream_ciphers[i], CRYPTO_SHA1};
            const char *name = label("%s + SHA1, %s, a record of 37 bytes",
                                     cipher_of(pair.cipher)->name,
                                     under_way ? "UPDATE" : "nothing");
            uint8_t mac[DIGEST_MAX], wanted[DIGEST_MAX], *data = out + 4096;
            __u32 ses = make_pair(&pair);

            if (under_way)
                check(name, CRYPT(.ses = ses, .flags = UPDATE, .len = 7, .src = plain, .dst = out),
                      0);
            memcpy(data, plain, 37);
            check(label("%s, seal", name),
                  AUTHCRYPT(.ses = ses, .flags = COP_FLAG_AEAD_TLS_TYPE, .len = 37, .src = data,
                            .dst = data, .iv = BYTES(start_iv)), 0);
            check(label("%s, UPDATE", name),
                  CRYPT(.ses = ses, .flags = UPDATE, .len = 5, .src = plain, .dst = out), 0);
            check(label("%s, FINAL", name),
                  CRYPT(.ses = ses, .flags = FINAL, .len = 6, .src = plain + 5, .dst = out,
                        .mac = mac), 0);
            mac_of_text(&pair, plain, 11, wanted);
            check_same(label("%s, FINAL: mac", name), mac, wanted, 20);
            finish(ses);
        }
    }
}

/* ---- steps --------------------------------------------------------------------------------- */

static void in_steps(const struct pair *pair)
{
    const char *name = label("%s + %s", cipher_of(pair->cipher)->name, mac_of(pair->mac)->name);
    uint8_t mac[DIGEST_MAX], wanted[DIGEST_MAX], iv[16] = {0};
    __u32 ses = make_pair(pair), alone = make_cipher(pair), size = mac_of(pair->mac)->digest;

#define STEP(what, flag, from, length, mac_pointer, wanted_error)                                  \
    check(label("%s, %s", name, what),                                                             \
          CRYPT(.ses = ses, .flags = flag, .len = length, .src = plain + (from),                   \
                .dst = out + (from), .mac = mac_pointer, .iv = (from) == 0 ? iv : NULL),           \
          wanted_error)
#define MAC_IS(what, from, length)                                                                 \
    do {                                                                                           \
        mac_of_text(pair, plain + (from), length, wanted);                                         \
        check_same(label("%s, %s: mac", name, what), mac, wanted, size);                           \
    } while (0)

    if (operate(alone, COP_ENCRYPT, 0, plain, expected, 32, iv) != 0 ||
        operate(alone, COP_ENCRYPT, 0, plain + 32, expected + 32, 48, NULL) != 0)
        unusable("the cipher alone");
    memset(mac, UNTOUCHED, sizeof(mac));
    STEP("UPDATE", UPDATE, 0, 32, mac, 0);
    check_all(label("%s, UPDATE: no mac", name), mac, UNTOUCHED, sizeof(mac));
    STEP("UPDATE without mac", UPDATE, 32, 48, NULL, 0);
    check_same(label("%s, UPDATE: output", name), out, expected, 80);
    STEP("FINAL", FINAL, 80, 0, mac, 0);
    MAC_IS("FINAL", 0, 80);

    STEP("UPDATE", UPDATE, 0, 32, NULL, 0);
    STEP("FINAL with data", FINAL, 32, 48, mac, 0);
    check_same(label("%s, FINAL with data: output", name), out, expected, 80);
    MAC_IS("FINAL with data", 0, 80);

    STEP("UPDATE", UPDATE, 0, 32, NULL, 0);
    STEP("UPDATE with nothing", UPDATE, 32, 0, mac, 0);
    MAC_IS("UPDATE with nothing", 0, 32);

    STEP("UPDATE", UPDATE, 0, 32, NULL, 0);
    STEP("no flags", 0, 32, 48, mac, 0);
    MAC_IS("no flags", 32, 48);

    STEP("UPDATE", UPDATE, 0, 32, NULL, 0);
    STEP("RESET", RESET, 32, 48, mac, 0);
    MAC_IS("RESET", 32, 48);

    STEP("no data", 0, 0, 0, mac, 0);
    MAC_IS("no data", 0, 0);

    if (cipher_of(pair->cipher)->block > 1) {
        STEP("UPDATE", UPDATE, 0, 32, NULL, 0);
        memset(mac, UNTOUCHED, sizeof(mac));
        STEP("UPDATE, 17 bytes", UPDATE, 32, 17, mac, EINVAL);
        STEP("FINAL, 17 bytes", FINAL, 32, 17, mac, EINVAL);
        check_all(label("%s, 17 bytes: no mac", name), mac, UNTOUCHED, sizeof(mac));
        STEP("FINAL", FINAL, 80, 0, mac, 0);
        MAC_IS("FINAL after 17 bytes", 0, 32);
        /* The length is looked at after the hash was reset. */
        STEP("UPDATE", UPDATE, 0, 32, NULL, 0);
        STEP("no flags, 17 bytes", 0, 32, 17, mac, EINVAL);
        STEP("FINAL", FINAL, 80, 0, mac, 0);
        MAC_IS("FINAL after 17 bytes without flags", 0, 0);
    }
    finish(ses);
    finish(alone);
#undef STEP
#undef MAC_IS
}

static void bad_pointers_of_all(void)
{
    uint8_t mac[DIGEST_MAX], iv[16] = {0};
    __u32 ses = make_pair(&pairs[0]);

    memset(mac, UNTOUCHED, sizeof(mac));
    for (size_t i = 0; i < COUNT(bad_pointers); i++) {
        const struct bad_pointer *bad = &bad_pointers[i];

        for (int flags = 0; flags <= NO_ZC; flags += NO_ZC) {
            check(label("mac at %s, flags %d", bad->name, flags),
                  CRYPT(.ses = ses, .flags = flags, .len = 32, .src = plain, .dst = out,
                        .mac = bad->pointer, .iv = iv), EFAULT);
            check(label("src at %s, flags %d", bad->name, flags),
                  CRYPT(.ses = ses, .flags = flags, .len = 32, .src = bad->pointer, .dst = out,
                        .mac = mac, .iv = iv), EFAULT);
            check(label("dst at %s, flags %d", bad->name, flags),
                  CRYPT(.ses = ses, .flags = flags, .len = 32, .src = plain, .dst = bad->pointer,
                        .mac = mac, .iv = iv), EFAULT);
        }
        check(label("mac at %s, no data", bad->name),
              CRYPT(.ses = ses, .mac = bad->pointer, .iv = iv), EFAULT);
        if (bad->pointer != NULL)
            check(label("iv at %s", bad->name),
                  CRYPT(.ses = ses, .len = 32, .src = plain, .dst = out, .mac = mac,
                        .iv = bad->pointer), EFAULT);
    }
    check("mac read-only", CRYPT(.ses = ses, .len = 32, .src = plain, .dst = out,
                                 .mac = frozen(mac, 20), .iv = iv), EFAULT);
    check("op 2", CRYPT(.ses = ses, .op = 2, .len = 32, .src = plain, .dst = out, .mac = mac,
                        .iv = iv), EINVAL);
    check_all("no mac was written", mac, UNTOUCHED, sizeof(mac));
    check("and it goes on", CRYPT(.ses = ses, .len = 32, .src = plain, .dst = out, .mac = mac,
                                  .iv = iv), 0);
    mac_of_text(&pairs[0], plain, 32, expected);
    check_same("and it goes on: mac", mac, expected, 20);
    finish(ses);
}

static void large(void)
{
#ifndef SMALL_ONLY
    const __u32 size = 3 * MIB + 16;
    const struct pair *pair = &pairs[0];
    uint8_t *text = noise(size), *secret = allocate(size), mac[DIGEST_MAX], wanted[DIGEST_MAX];
    __u32 ses = make_pair(pair);

    mac_of_text(pair, text, size, wanted);
    check("3 MiB, encrypt", CRYPT(.ses = ses, .len = size, .src = text, .dst = secret, .mac = mac,
                                  .iv = zeros), 0);
    check_same("3 MiB, encrypt: mac", mac, wanted, 20);
    memset(mac, 0, sizeof(mac));
    check("3 MiB, decrypt in place", CRYPT(.ses = ses, .op = COP_DECRYPT, .len = size,
                                           .src = secret, .dst = secret, .mac = mac, .iv = zeros),
          0);
    check_same("3 MiB, decrypt in place: mac", mac, wanted, 20);
    check_same("3 MiB, decrypt in place: output", secret, text, size);
    finish(ses);
    free(text);
    free(secret);
#endif
}

/* Done in parts, of which the last one is odd. */
static void large_and_odd(void)
{
#ifndef SMALL_ONLY
    const __u32 size = MIB + 128 * 1024 + 5;
    uint8_t *text = noise(size), *secret = allocate(size), *wanted = allocate(size), mac[DIGEST_MAX];
    uint8_t wanted_mac[DIGEST_MAX];

    for (size_t i = 0; i < COUNT(pairs); i++) {
        const char *name = label("%s + %s, %u bytes", cipher_of(pairs[i].cipher)->name,
                                 mac_of(pairs[i].mac)->name, size);
        __u32 ses, alone;

        if (cipher_of(pairs[i].cipher)->block > 1)
            continue;
        ses = make_pair(&pairs[i]);
        alone = make_cipher(&pairs[i]);
        mac_of_text(&pairs[i], text, size, wanted_mac);
        if (operate(alone, COP_ENCRYPT, 0, text, wanted, size, (void *)start_iv) != 0)
            unusable("the cipher alone");
        check(name, CRYPT(.ses = ses, .len = size, .src = text, .dst = secret, .mac = mac,
                          .iv = BYTES(start_iv)), 0);
        check_same(label("%s: output", name), secret, wanted, size);
        check_same(label("%s: mac", name), mac, wanted_mac, mac_of(pairs[i].mac)->digest);
        check(label("%s, decrypt", name),
              CRYPT(.ses = ses, .op = COP_DECRYPT, .len = size, .src = secret, .dst = secret,
                    .mac = mac, .iv = BYTES(start_iv)), 0);
        check_same(label("%s, decrypt: output", name), secret, text, size);
        check_same(label("%s, decrypt: mac", name), mac, wanted_mac, mac_of(pairs[i].mac)->digest);
        finish(ses);
        finish(alone);
    }
    free(text);
    free(secret);
    free(wanted);
#endif
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    both_ways();
    odd_lengths();
    after_authcrypt();
    steps_after_a_record();
    for (size_t i = 0; i < COUNT(pairs); i++)
        in_steps(&pairs[i]);
    bad_pointers_of_all();
    large();
    large_and_odd();
    return end();
}
