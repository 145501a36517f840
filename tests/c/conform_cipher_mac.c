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

int main(int argc, char **argv)
{
    begin(argc, argv);
    both_ways();
    for (size_t i = 0; i < COUNT(pairs); i++)
        in_steps(&pairs[i]);
    bad_pointers_of_all();
    large();
    return end();
}
