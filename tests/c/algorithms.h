/* SPDX-License-Identifier: MIT */
/* The algorithms of the API, and published answers for each of them. */
#ifndef ALGORITHMS_H
#define ALGORITHMS_H

#include <crypto/cryptodev.h>

static const struct cipher {
    const char *name, *kernel_name;
    __u32 id, key_first, key_last, key_step; /* the sizes that a key may have */
    __u32 iv, block;
} ciphers[] = {
    {"DES-CBC", "cbc(des)", CRYPTO_DES_CBC, 8, 8, 1, 8, 8},
    {"3DES-CBC", "cbc(des3_ede)", CRYPTO_3DES_CBC, 24, 24, 1, 8, 8},
    {"Blowfish-CBC", "cbc(blowfish)", CRYPTO_BLF_CBC, 4, 56, 1, 8, 8},
    {"AES-CBC", "cbc(aes)", CRYPTO_AES_CBC, 16, 32, 8, 16, 16},
    {"NULL", "ecb(cipher_null)", CRYPTO_NULL, 0, 0, 1, 0, 1},
    {"AES-CTR", "ctr(aes)", CRYPTO_AES_CTR, 16, 32, 8, 16, 1},
    {"AES-XTS", "xts(aes)", CRYPTO_AES_XTS, 32, 64, 16, 16, 16},
    {"AES-ECB", "ecb(aes)", CRYPTO_AES_ECB, 16, 32, 8, 0, 16},
    {"AES-CFB", "cfb(aes)", CRYPTO_AES_CFB, 16, 32, 8, 16, 1},
    {"AES-OFB", "ofb(aes)", CRYPTO_AES_OFB, 16, 32, 8, 16, 1},
    {"AES-GCM", "gcm(aes)", CRYPTO_AES_GCM, 16, 32, 8, 12, 1},
    {"AES-CCM", "ccm(aes)", CRYPTO_AES_CCM, 16, 32, 8, 16, 1},
    {"Camellia-CBC", "cbc(camellia)", CRYPTO_CAMELLIA_CBC, 16, 32, 8, 16, 16},
};

static const struct mac {
    const char *name, *kernel_name;
    __u32 id, digest, block;
    __u32 hash; /* of an HMAC: the hash that it is made of */
} macs[] = {
    {"HMAC-MD5", "hmac(md5)", CRYPTO_MD5_HMAC, 16, 64, CRYPTO_MD5},
    {"HMAC-SHA1", "hmac(sha1)", CRYPTO_SHA1_HMAC, 20, 64, CRYPTO_SHA1},
    {"HMAC-RIPEMD160", "hmac(rmd160)", CRYPTO_RIPEMD160_HMAC, 20, 64, CRYPTO_RIPEMD160},
    {"MD5", "md5", CRYPTO_MD5, 16, 64, 0},
    {"SHA1", "sha1", CRYPTO_SHA1, 20, 64, 0},
    {"HMAC-SHA256", "hmac(sha256)", CRYPTO_SHA2_256_HMAC, 32, 64, CRYPTO_SHA2_256},
    {"HMAC-SHA384", "hmac(sha384)", CRYPTO_SHA2_384_HMAC, 48, 128, CRYPTO_SHA2_384},
    {"HMAC-SHA512", "hmac(sha512)", CRYPTO_SHA2_512_HMAC, 64, 128, CRYPTO_SHA2_512},
    {"RIPEMD160", "rmd160", CRYPTO_RIPEMD160, 20, 64, 0},
    {"SHA224", "sha224", CRYPTO_SHA2_224, 28, 64, 0},
    {"SHA256", "sha256", CRYPTO_SHA2_256, 32, 64, 0},
    {"SHA384", "sha384", CRYPTO_SHA2_384, 48, 128, 0},
    {"SHA512", "sha512", CRYPTO_SHA2_512, 64, 128, 0},
    {"HMAC-SHA224", "hmac(sha224)", CRYPTO_SHA2_224_HMAC, 28, 64, CRYPTO_SHA2_224},
};

static inline int may_have_key(const struct cipher *cipher, __u32 keylen)
{
    return keylen >= cipher->key_first && keylen <= cipher->key_last &&
           (keylen - cipher->key_first) % cipher->key_step == 0;
}

static inline int is_aead(const struct cipher *cipher)
{
    return cipher->id == CRYPTO_AES_GCM || cipher->id == CRYPTO_AES_CCM;
}

static inline const struct cipher *cipher_of(__u32 id)
{
    for (size_t i = 0; i < sizeof(ciphers) / sizeof(ciphers[0]); i++)
        if (ciphers[i].id == id)
            return &ciphers[i];
    return NULL;
}

static inline const struct mac *mac_of(__u32 id)
{
    for (size_t i = 0; i < sizeof(macs) / sizeof(macs[0]); i++)
        if (macs[i].id == id)
            return &macs[i];
    return NULL;
}

#endif
