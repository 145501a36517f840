/* SPDX-License-Identifier: MIT */
/*
 * conform_ciphers DEVICE: every cipher with every size of key and any length of data, published and
 * computed by hand from its block cipher; and what it leaves as the IV.
 */
#include "check.h"

#include "algorithms.h"
#include "cipher_vectors.h"

static void published(void)
{
    for (size_t i = 0; i < COUNT(cipher_vectors); i++) {
        const struct cipher_vector *v = &cipher_vectors[i];
        uint8_t a_key[64], iv[16], text[64], secret[64], got[64];
        size_t keylen = from_hex(a_key, v->key), size = from_hex(text, v->plain);
        __u32 ses;

        from_hex(iv, v->iv);
        from_hex(secret, v->secret);
        check(label("%s: session", v->name), make_on(device, v->cipher, keylen, a_key, &ses), 0);
        check(label("%s: encrypt", v->name), operate(ses, COP_ENCRYPT, 0, text, got, size, iv), 0);
        check_same(label("%s: ciphertext", v->name), got, secret, size);
        check(label("%s: decrypt", v->name), operate(ses, COP_DECRYPT, 0, secret, got, size, iv),
              0);
        check_same(label("%s: plaintext", v->name), got, text, size);
        finish(ses);
    }
}

/* ---- by hand ------------------------------------------------------------------------------- */

static void xor(uint8_t *to, const uint8_t *a, const uint8_t *b, size_t size)
{
    for (size_t i = 0; i < size; i++)
        to[i] = a[i] ^ b[i];
}

static void increment(uint8_t counter[16])
{
    for (int i = 15; i >= 0 && ++counter[i] == 0; i--)
        ;
}

/* Multiply by x in GF(2^128), as IEEE 1619 has it. */
static void next_tweak(uint8_t tweak[16])
{
    int carry = 0;

    for (int i = 0; i < 16; i++) {
        int byte = tweak[i] << 1 | carry;
        carry = byte >> 8;
        tweak[i] = byte;
    }
    if (carry)
        tweak[0] ^= 0x87;
}

static int is_aes(const struct cipher *c)
{
    return strstr(c->kernel_name, "(aes)") != NULL;
}

/* The bare block cipher on each block of data, in place. */
static void blocks(const struct cipher *c, const uint8_t *a_key, __u32 keylen, uint8_t *data,
                   size_t size)
{
    __u32 ses, piece = is_aes(c) ? size : c->block;
    int result = make_on(device, is_aes(c) ? CRYPTO_AES_ECB : c->id, keylen, a_key, &ses);

    for (size_t i = 0; i < size && result == 0; i += piece)
        result = operate(ses, COP_ENCRYPT, 0, data + i, data + i, piece, zeros);
    if (result != 0)
        unusable("the bare block cipher");
    finish(ses);
}

/*
 * The one ciphertext that belongs to text and iv. secret, what the device gave or took, serves
 * where a mode feeds the ciphertext back; so all blocks are computed at once.
 */
static void by_hand(const struct cipher *c, const uint8_t *a_key, __u32 keylen, uint8_t *iv,
                    const uint8_t *text, const uint8_t *secret, uint8_t *wanted, size_t len)
{
    __u32 block = c->block > 1 ? c->block : 16;
    size_t size = (len + block - 1) / block * block; /* the last one may be cut off */
    uint8_t *in = allocate(size + block), *tweaks = allocate(size + block);
    const char *mode = c->kernel_name;

    memset(in, 0, size + block);
    memset(tweaks, 0, size + block);
#define MODE(name) (strncmp(mode, name, 3) == 0)
    if (MODE("cbc")) {
        memcpy(in, iv, block);
        memcpy(in + block, secret, size - block);
        xor(in, in, text, size);
    } else if (MODE("ecb")) {
        memcpy(in, text, size);
    } else if (MODE("cfb") || MODE("ofb")) {
        memcpy(in, iv, block);
        memcpy(in + block, secret, len - 1);
        if (MODE("ofb"))
            xor(in + block, secret, text, len - 1);
        memset(in + size, 0, block);
    } else if (MODE("ctr")) {
        for (size_t i = 0; i < size; i += block, increment(iv))
            memcpy(in + i, iv, block);
    } else {
        memcpy(tweaks, iv, block);
        blocks(c, a_key + keylen / 2, keylen / 2, tweaks, block);
        for (size_t i = block; i < size; i += block) {
            memcpy(tweaks + i, tweaks + i - block, block);
            next_tweak(tweaks + i);
        }
        xor(in, text, tweaks, size);
        keylen /= 2;
    }
    if (strcmp(mode, "ecb(cipher_null)") != 0)
        blocks(c, a_key, keylen, in, size);
    if (MODE("cfb") || MODE("ofb") || MODE("ctr"))
        xor(wanted, in, text, len);
    else
        xor(wanted, in, tweaks, len);

    /* What the chain goes on with, in iv; a cut off block of CFB does not count. */
    if (MODE("cbc") || (MODE("cfb") && len >= block))
        memcpy(iv, wanted + len / block * block - block, block);
    if (MODE("ofb"))
        memcpy(iv, in + size - block, block);
#undef MODE
    free(in);
    free(tweaks);
}

/* ---- lengths, ways and IVs ----------------------------------------------------------------- */

static const uint8_t start_iv[16] = {0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10,
                                     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe};

/* One operation, and one without an IV after it. */
static void one_length(const struct cipher *c, __u32 keylen, int op, int flags, int in_place,
                       const uint8_t *data, __u32 len)
{
    const char *name = label("%s-%u %s%s%s, %u bytes", c->name, 8 * keylen,
                             op == COP_ENCRYPT ? "encrypt" : "decrypt",
                             flags & COP_FLAG_NO_ZC ? " copied" : "", in_place ? " in place" : "",
                             len);
    uint8_t *got = allocate(len + 64), *wanted = allocate(len + 64), after[64];
    const uint8_t *src = in_place ? got : data;
    uint8_t iv[16], next[16];
    __u32 ses, more = 48;

    if (make_on(device, c->id, keylen, key, &ses) != 0) {
        check(name, -1, 0);
        free(got);
        free(wanted);
        return;
    }
    memcpy(iv, start_iv, 16);
    memcpy(next, start_iv, 16);
    memcpy(got, data, len);
    check(name, operate(ses, op, flags | COP_FLAG_WRITE_IV, src, got, len, iv), 0);
    if (op == COP_ENCRYPT) {
        by_hand(c, key, keylen, next, data, got, wanted, len);
        check_same(label("%s: output", name), got, wanted, len);
    } else {
        by_hand(c, key, keylen, next, got, data, wanted, len);
        check_same(label("%s: output", name), data, wanted, len);
    }
    memcpy(next + c->iv, start_iv + c->iv, 16 - c->iv); /* only as many are written */
    check_same(label("%s: iv", name), iv, next, 16);

    check(label("%s, then no iv", name), operate(ses, COP_ENCRYPT, flags, plain, after, more, NULL),
          0);
    by_hand(c, key, keylen, next, plain, after, wanted, more);
    check_same(label("%s, then no iv: output", name), after, wanted, more);
    finish(ses);
    free(got);
    free(wanted);
}

static void all_lengths(const struct cipher *c, __u32 keylen)
{
    static const __u32 lengths[] = {1, 5, 8, 15, 16, 17, 24, 32, 37, 4095, 4104, 4112, 4113, 16384};

    for (int op = COP_ENCRYPT; op <= COP_DECRYPT; op++) {
        for (size_t i = 0; i < COUNT(lengths); i++) {
            __u32 len = lengths[i];
            int small = len == 37 || len == 32, large = len == 16384;

            /* The others go block by block, by hand: few long ones. */
            if (!is_aes(c) && len > 64 && len % c->block == 0 &&
                (len != 4104 + 8 * (c->block == 16) || op == COP_DECRYPT || keylen > 24))
                continue;
            if (len % c->block != 0) {
                __u32 ses;
                uint8_t iv[16] = {0};

                make_on(device, c->id, keylen, key, &ses);
                check(label("%s-%u, %u bytes", c->name, 8 * keylen, len),
                      operate(ses, op, COP_FLAG_WRITE_IV, plain, out, len, iv), EINVAL);
                check_all(label("%s-%u, %u bytes: iv", c->name, 8 * keylen, len), iv, 0, 16);
                finish(ses);
                continue;
            }
            one_length(c, keylen, op, 0, 0, plain, len);
            if (small || large) {
                one_length(c, keylen, op, COP_FLAG_NO_ZC, 0, plain, len);
                one_length(c, keylen, op, 0, 1, plain, len);
                one_length(c, keylen, op, COP_FLAG_NO_ZC, 1, plain, len);
            }
        }
    }
}

static void lengths_and_ivs(void)
{
    for (size_t i = 0; i < COUNT(ciphers); i++) {
        const struct cipher *c = &ciphers[i];

        if (is_aead(c))
            continue;
        for (__u32 keylen = c->key_first; keylen <= c->key_last; keylen += c->key_step)
            if (c->id != CRYPTO_BLF_CBC || keylen == 4 || keylen == 23 || keylen == 56)
                all_lengths(c, keylen);
    }
}

/* Longer than any part in which a device may work: still one data unit, one chain. */
static void large(void)
{
#ifndef SMALL_ONLY
    static const __u32 modes[] = {CRYPTO_AES_CBC, CRYPTO_AES_CTR, CRYPTO_AES_XTS,
                                  CRYPTO_AES_ECB, CRYPTO_AES_CFB, CRYPTO_AES_OFB};
    const __u32 size = MIB + 4112;
    uint8_t *data = noise(size);

    for (size_t i = 0; i < COUNT(modes); i++) {
        const struct cipher *c = cipher_of(modes[i]);

        one_length(c, 32, COP_ENCRYPT, 0, 0, data, size);
        one_length(c, 32, COP_DECRYPT, COP_FLAG_NO_ZC, 1, data, size);
        if (c->block == 1)
            one_length(c, 32, COP_ENCRYPT, 0, 1, data, size - 11);
    }
    one_length(cipher_of(CRYPTO_NULL), 0, COP_ENCRYPT, 0, 0, data, size - 3);
    free(data);
#endif
}

/* ---- the rest of the rows ------------------------------------------------------------------ */

static void fresh_sessions(void)
{
    for (size_t i = 0; i < COUNT(ciphers); i++) {
        const struct cipher *c = &ciphers[i];
        uint8_t got[48], wanted[48], iv[16] = {0};
        __u32 ses;

        if (is_aead(c))
            continue;
        if (make_on(device, c->id, c->key_last, key, &ses) != 0) {
            check(label("%s, fresh session", c->name), -1, 0);
            continue;
        }
        check(label("%s, fresh session, no iv", c->name),
              operate(ses, COP_ENCRYPT, 0, plain, got, 48, NULL), 0);
        by_hand(c, key, c->key_last, iv, plain, got, wanted, 48);
        check_same(label("%s, fresh session, no iv: output", c->name), got, wanted, 48);
        check(label("%s, len 0, no pointers", c->name),
              operate(ses, COP_ENCRYPT, 0, NULL, NULL, 0, NULL), 0);

        /* Loads the IV, and writes the same one back. */
        memcpy(iv, start_iv, 16);
        check(label("%s, len 0 with an iv", c->name),
              operate(ses, COP_ENCRYPT, COP_FLAG_WRITE_IV, NULL, NULL, 0, iv), 0);
        check_same(label("%s, len 0 with an iv: iv", c->name), iv, start_iv, 16);
        check(label("%s, no iv after that", c->name),
              operate(ses, COP_ENCRYPT, 0, plain, got, 48, NULL), 0);
        by_hand(c, key, c->key_last, iv, plain, got, wanted, 48);
        check_same(label("%s, no iv after that: output", c->name), got, wanted, 48);

        check(label("%s, iv up to the edge", c->name),
              operate(ses, COP_ENCRYPT, COP_FLAG_WRITE_IV, plain, got, 48, edge_end - c->iv), 0);
        check(label("%s, iv one byte beyond", c->name),
              operate(ses, COP_ENCRYPT, 0, plain, got, 48, edge_end - c->iv + 1),
              c->iv ? EFAULT : 0);
        finish(ses);
    }
}

static void null_cipher(void)
{
    __u32 ses = MAKE(.cipher = CRYPTO_NULL);

    memset(out, 0x77, 128);
    check("NULL, 100 bytes", operate(ses, COP_ENCRYPT, 0, plain, out, 100, (void *)1), 0);
    check_same("NULL, 100 bytes: copied", out, plain, 100);
    check_all("NULL, 100 bytes: no more", out + 100, 0x77, 28);
    check("NULL, dst is src + 7", operate(ses, COP_DECRYPT, 0, out, out + 7, 93, NULL), 0);
    check_same("NULL, dst is src + 7: copied", out + 7, plain, 93);
    for (size_t i = 0; i < COUNT(bad_pointers); i++) {
        const struct bad_pointer *bad = &bad_pointers[i];

        check(label("NULL, src at %s", bad->name),
              operate(ses, COP_ENCRYPT, 0, bad->pointer, out, 16, NULL), EFAULT);
        check(label("NULL, dst at %s", bad->name),
              operate(ses, COP_ENCRYPT, 0, plain, bad->pointer, 16, NULL), EFAULT);
    }
    finish(ses);
}

static void equal_halves(void)
{
    static const __u32 sizes[] = {32, 48, 64};

    for (size_t i = 0; i < COUNT(sizes); i++) {
        uint8_t twice[64], got[48], wanted[48], iv[16] = {0};
        __u32 ses;

        memcpy(twice, key, sizes[i] / 2);
        memcpy(twice + sizes[i] / 2, key, sizes[i] / 2);
        check(label("XTS, %u bytes of key, both halves equal", sizes[i]),
              make_on(device, CRYPTO_AES_XTS, sizes[i], twice, &ses), 0);
        check(label("XTS, %u bytes of key, both halves equal: encrypt", sizes[i]),
              operate(ses, COP_ENCRYPT, 0, plain, got, 48, iv), 0);
        by_hand(cipher_of(CRYPTO_AES_XTS), twice, sizes[i], iv, plain, got, wanted, 48);
        check_same(label("XTS, %u bytes of key, both halves equal: output", sizes[i]), got, wanted,
                   48);
        finish(ses);
    }
}

/* A counter that wraps to zero in the middle. */
static void counter_wraps(void)
{
    uint8_t got[48], wanted[48], iv[16], next[16];
    __u32 ses = MAKE(.cipher = CRYPTO_AES_CTR, .keylen = 16, .key = key);

    memset(iv, 0xff, 16);
    memset(next, 0xff, 16);
    check("CTR over ff..ff", operate(ses, COP_ENCRYPT, COP_FLAG_WRITE_IV, plain, got, 32, iv), 0);
    by_hand(cipher_of(CRYPTO_AES_CTR), key, 16, next, plain, got, wanted, 32);
    check_same("CTR over ff..ff: output", got, wanted, 32);
    check_same("CTR over ff..ff: iv", iv, next, 16);
    check_all("CTR over ff..ff: to 00..01", iv, 0, 15);
    check_number("CTR over ff..ff: to 00..01", iv[15], 1);
    finish(ses);
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    published();
    lengths_and_ivs();
    large();
    fresh_sessions();
    null_cipher();
    equal_halves();
    counter_wraps();
    return end();
}
