/* SPDX-License-Identifier: MIT */
/* Published answers of the hashes and the HMACs, source first. */
#ifndef HASH_VECTORS_H
#define HASH_VECTORS_H

#include <crypto/cryptodev.h>

#define LETTERS_448 "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
#define LETTERS_896                                                                                \
    "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"                                     \
    "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"
#define LARGE_KEY_TEXT "Test Using Larger Than Block-Size Key - Hash Key First"
#define JEFE_TEXT "what do ya want for nothing?"
#define TENS_AA "aaaaaaaaaaaaaaaaaaaa"
#define KEY_80 TENS_AA TENS_AA TENS_AA TENS_AA TENS_AA TENS_AA TENS_AA TENS_AA
#define KEY_131 KEY_80 TENS_AA TENS_AA TENS_AA TENS_AA TENS_AA "aa"

static const struct hash_vector {
    const char *name;
    __u32 mac;
    const char *key, *text, *digest; /* key and digest in hexadecimal */
    __u32 times;                     /* the text is repeated */
} hash_vectors[] = {
    {"RFC 1321 A.5, MD5 of nothing", CRYPTO_MD5, "", "", "d41d8cd98f00b204e9800998ecf8427e", 1},
    {"RFC 1321 A.5, MD5 of abc", CRYPTO_MD5, "", "abc", "900150983cd24fb0d6963f7d28e17f72", 1},
    {"RFC 1321 A.5, MD5 of digits", CRYPTO_MD5, "", "1234567890",
     "57edf4a22be3c955ac49da2e2107b67a", 8},
    {"RIPEMD-160 page, nothing", CRYPTO_RIPEMD160, "", "",
     "9c1185a5c5e9fc54612808977ee8f548b2258d31", 1},
    {"RIPEMD-160 page, abc", CRYPTO_RIPEMD160, "", "abc",
     "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc", 1},
    {"RIPEMD-160 page, letters", CRYPTO_RIPEMD160, "", LETTERS_448,
     "12a053384a9c0c88e405a06c27dcf49ada62eb2b", 1},
    {"RIPEMD-160 page, a million a", CRYPTO_RIPEMD160, "", "a",
     "52783243c1697bdbe16d37f97f68f08325dc1528", 1000000},
    {"FIPS 180-2 A.1, SHA1 of abc", CRYPTO_SHA1, "", "abc",
     "a9993e364706816aba3e25717850c26c9cd0d89d", 1},
    {"FIPS 180-2 A.2, SHA1 of letters", CRYPTO_SHA1, "", LETTERS_448,
     "84983e441c3bd26ebaae4aa1f95129e5e54670f1", 1},
    {"FIPS 180-2 A.3, SHA1 of a million a", CRYPTO_SHA1, "", "a",
     "34aa973cd4c4daa4f61eeb2bdbad27316534016f", 1000000},
    {"FIPS 180-2 change notice, SHA224 of abc", CRYPTO_SHA2_224, "", "abc",
     "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7", 1},
    {"FIPS 180-2 change notice, SHA224 of letters", CRYPTO_SHA2_224, "", LETTERS_448,
     "75388b16512776cc5dba5da1fd890150b0c6455cb4f58b1952522525", 1},
    {"FIPS 180-2 change notice, SHA224 of a million a", CRYPTO_SHA2_224, "", "a",
     "20794655980c91d8bbb4c1ea97618a4bf03f42581948b2ee4ee7ad67", 1000000},
    {"FIPS 180-2 B.1, SHA256 of abc", CRYPTO_SHA2_256, "", "abc",
     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 1},
    {"FIPS 180-2 B.2, SHA256 of letters", CRYPTO_SHA2_256, "", LETTERS_448,
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", 1},
    {"FIPS 180-2 B.3, SHA256 of a million a", CRYPTO_SHA2_256, "", "a",
     "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", 1000000},
    {"FIPS 180-2 D.1, SHA384 of abc", CRYPTO_SHA2_384, "", "abc",
     "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded163"
     "1a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7", 1},
    {"FIPS 180-2 D.2, SHA384 of letters", CRYPTO_SHA2_384, "", LETTERS_896,
     "09330c33f71147e83d192fc782cd1b4753111b173b3b05d2"
     "2fa08086e3b0f712fcc7c71a557e2db966c3e9fa91746039", 1},
    {"FIPS 180-2 D.3, SHA384 of a million a", CRYPTO_SHA2_384, "", "a",
     "9d0e1809716474cb086e834e310a4a1ced149e9c00f24852"
     "7972cec5704c2a5b07b8b3dc38ecc4ebae97ddd87f3d8985", 1000000},
    {"FIPS 180-2 C.1, SHA512 of abc", CRYPTO_SHA2_512, "", "abc",
     "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
     "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f", 1},
    {"FIPS 180-2 C.2, SHA512 of letters", CRYPTO_SHA2_512, "", LETTERS_896,
     "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018"
     "501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909", 1},
    {"FIPS 180-2 C.3, SHA512 of a million a", CRYPTO_SHA2_512, "", "a",
     "e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973eb"
     "de0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b", 1000000},

    {"RFC 2202 2.2, HMAC-MD5", CRYPTO_MD5_HMAC, "4a656665", JEFE_TEXT,
     "750c783e6ab0b503eaa86e310a5db738", 1},
    {"RFC 2202 2.6, HMAC-MD5", CRYPTO_MD5_HMAC, KEY_80, LARGE_KEY_TEXT,
     "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd", 1},
    {"RFC 2202 3.2, HMAC-SHA1", CRYPTO_SHA1_HMAC, "4a656665", JEFE_TEXT,
     "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79", 1},
    {"RFC 2202 3.6, HMAC-SHA1", CRYPTO_SHA1_HMAC, KEY_80, LARGE_KEY_TEXT,
     "aa4ae5e15272d00e95705637ce8a3b55ed402112", 1},
    {"RFC 2286 2.2, HMAC-RIPEMD160", CRYPTO_RIPEMD160_HMAC, "4a656665", JEFE_TEXT,
     "dda6c0213a485a9e24f4742064a7f033b43c4069", 1},
    {"RFC 2286 2.6, HMAC-RIPEMD160", CRYPTO_RIPEMD160_HMAC, KEY_80, LARGE_KEY_TEXT,
     "6466ca07ac5eac29e1bd523e5ada7605b791fd8b", 1},
    {"RFC 4231 4.3, HMAC-SHA224", CRYPTO_SHA2_224_HMAC, "4a656665", JEFE_TEXT,
     "a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44", 1},
    {"RFC 4231 4.7, HMAC-SHA224", CRYPTO_SHA2_224_HMAC, KEY_131, LARGE_KEY_TEXT,
     "95e9a0db962095adaebe9b2d6f0dbce2d499f112f2d2b7273fa6870e", 1},
    {"RFC 4231 4.3, HMAC-SHA256", CRYPTO_SHA2_256_HMAC, "4a656665", JEFE_TEXT,
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", 1},
    {"RFC 4231 4.7, HMAC-SHA256", CRYPTO_SHA2_256_HMAC, KEY_131, LARGE_KEY_TEXT,
     "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54", 1},
    {"RFC 4231 4.3, HMAC-SHA384", CRYPTO_SHA2_384_HMAC, "4a656665", JEFE_TEXT,
     "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47"
     "e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649", 1},
    {"RFC 4231 4.7, HMAC-SHA384", CRYPTO_SHA2_384_HMAC, KEY_131, LARGE_KEY_TEXT,
     "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f"
     "3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952", 1},
    {"RFC 4231 4.3, HMAC-SHA512", CRYPTO_SHA2_512_HMAC, "4a656665", JEFE_TEXT,
     "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
     "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737", 1},
    {"RFC 4231 4.7, HMAC-SHA512", CRYPTO_SHA2_512_HMAC, KEY_131, LARGE_KEY_TEXT,
     "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"
     "6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598", 1},
};

#endif
