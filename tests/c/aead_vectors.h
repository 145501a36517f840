/* SPDX-License-Identifier: MIT */
/*
 * Published answers of AES-GCM and AES-CCM, source first. An IV of CCM is as the ioctl takes it:
 * the size of the counter field less one, the nonce, and the counter field.
 */
#ifndef AEAD_VECTORS_H
#define AEAD_VECTORS_H

#include <crypto/cryptodev.h>

#define GCM_ZEROS "00000000000000000000000000000000"
#define GCM_ZERO_IV "000000000000000000000000"
#define GCM_KEY "feffe9928665731c6d6a8f9467308308"
#define GCM_IV "cafebabefacedbaddecaf888"
#define GCM_AUTH "feedfacedeadbeeffeedfacedeadbeefabaddad2"
#define GCM_60                                                                                     \
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"                             \
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
#define GCM_64 GCM_60 "1aafd255"
#define RFC_KEY "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf"
#define RFC_AUTH "0001020304050607"
#define SP_KEY "404142434445464748494a4b4c4d4e4f"

static const struct aead_vector {
    const char *name;
    __u32 cipher;
    const char *key, *iv, *auth, *plain, *secret; /* the secret ends in the tag */
    __u32 tag_len;
} aead_vectors[] = {
    {"GCM specification, test case 1", CRYPTO_AES_GCM, GCM_ZEROS, GCM_ZERO_IV, "", "",
     "58e2fccefa7e3061367f1d57a4e7455a", 16},
    {"GCM specification, test case 2", CRYPTO_AES_GCM, GCM_ZEROS, GCM_ZERO_IV, "", GCM_ZEROS,
     "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf", 16},
    {"GCM specification, test case 3", CRYPTO_AES_GCM, GCM_KEY, GCM_IV, "", GCM_64,
     "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
     "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985"
     "4d5c2af327cd64a62cf35abd2ba6fab4", 16},
    {"GCM specification, test case 4", CRYPTO_AES_GCM, GCM_KEY, GCM_IV, GCM_AUTH, GCM_60,
     "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
     "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
     "5bc94fbc3221a5db94fae95ae7121a47", 16},
    {"GCM specification, test case 7", CRYPTO_AES_GCM, GCM_ZEROS "0000000000000000", GCM_ZERO_IV,
     "", "", "cd33b28ac773f74ba00ed1f312572435", 16},
    {"GCM specification, test case 10", CRYPTO_AES_GCM, GCM_KEY "feffe9928665731c", GCM_IV,
     GCM_AUTH, GCM_60,
     "3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c"
     "7d773d00c144c525ac619d18c84a3f4718e2448b2fe324d9ccda2710"
     "2519498e80f1478f37ba55bd6d27618c", 16},
    {"GCM specification, test case 13", CRYPTO_AES_GCM, GCM_ZEROS GCM_ZEROS, GCM_ZERO_IV, "", "",
     "530f8afbc74536b9a963b4f1c4cb738b", 16},
    {"GCM specification, test case 14", CRYPTO_AES_GCM, GCM_ZEROS GCM_ZEROS, GCM_ZERO_IV, "",
     GCM_ZEROS, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919", 16},
    {"GCM specification, test case 15", CRYPTO_AES_GCM, GCM_KEY GCM_KEY, GCM_IV, "", GCM_64,
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
     "b094dac5d93471bdec1a502270e3cc6c", 16},
    {"GCM specification, test case 16", CRYPTO_AES_GCM, GCM_KEY GCM_KEY, GCM_IV, GCM_AUTH, GCM_60,
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
     "76fc6ece0f4e1768cddf8853bb2d551b", 16},
    {"RFC 3610 packet vector 1", CRYPTO_AES_CCM, RFC_KEY, "0100000003020100a0a1a2a3a4a50000",
     RFC_AUTH, "08090a0b0c0d0e0f101112131415161718191a1b1c1d1e",
     "588c979a61c663d2f066d0c2c0f989806d5f6b61dac38417e8d12cfdf926e0", 8},
    {"RFC 3610 packet vector 2", CRYPTO_AES_CCM, RFC_KEY, "0100000004030201a0a1a2a3a4a50000",
     RFC_AUTH, "08090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
     "72c91a36e135f8cf291ca894085c87e3cc15c439c9e43a3ba091d56e10400916", 8},
    {"RFC 3610 packet vector 7", CRYPTO_AES_CCM, RFC_KEY, "0100000009080706a0a1a2a3a4a50000",
     RFC_AUTH, "08090a0b0c0d0e0f101112131415161718191a1b1c1d1e",
     "0135d1b2c95f41d5d1d4fec185d166b8094e999dfed96c048c56602c97acbb7490", 10},
    {"SP 800-38C example 1", CRYPTO_AES_CCM, SP_KEY, "07101112131415160000000000000000",
     "0001020304050607", "20212223", "7162015b4dac255d", 4},
    {"SP 800-38C example 2", CRYPTO_AES_CCM, SP_KEY, "06101112131415161700000000000000",
     "000102030405060708090a0b0c0d0e0f", "202122232425262728292a2b2c2d2e2f",
     "d2a1f0e051ea5f62081a7792073d593d1fc64fbfaccd", 6},
    {"SP 800-38C example 3", CRYPTO_AES_CCM, SP_KEY, "02101112131415161718191a1b000000",
     "000102030405060708090a0b0c0d0e0f10111213", "202122232425262728292a2b2c2d2e2f3031323334353637",
     "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5484392fbc1b09951", 8},
};

#endif
