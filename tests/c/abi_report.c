/* SPDX-License-Identifier: MIT */
/*
 * What a C compiler makes of crypto/cryptodev.h, one fact per line:
 *
 *     struct NAME SIZE ALIGN
 *     field STRUCT NAME OFFSET SIZE
 *     ioctl NAME 0xNUMBER
 *     constant NAME VALUE
 */
#include <stddef.h>
#include <stdio.h>

#include <crypto/cryptodev.h>

#define STRUCT(type)                                                                     \
    printf("struct %s %u %u\n", #type, (unsigned)sizeof(struct type),                    \
           (unsigned)offsetof(struct { char before; struct type it; }, it))
#define FIELD(type, name)                                                                \
    printf("field %s %s %u %u\n", #type, #name, (unsigned)offsetof(struct type, name),   \
           (unsigned)sizeof(((struct type *)0)->name))
#define IOCTL(name) printf("ioctl %s 0x%08x\n", #name, (unsigned)(name))
#define CONSTANT(name) printf("constant %s %d\n", #name, (int)(name))

static void structs(void)
{
    STRUCT(session_op);
    FIELD(session_op, cipher);
    FIELD(session_op, mac);
    FIELD(session_op, keylen);
    FIELD(session_op, key);
    FIELD(session_op, mackeylen);
    FIELD(session_op, mackey);
    FIELD(session_op, ses);

    STRUCT(crypt_op);
    FIELD(crypt_op, ses);
    FIELD(crypt_op, op);
    FIELD(crypt_op, flags);
    FIELD(crypt_op, len);
    FIELD(crypt_op, src);
    FIELD(crypt_op, dst);
    FIELD(crypt_op, mac);
    FIELD(crypt_op, iv);

    STRUCT(crypt_auth_op);
    FIELD(crypt_auth_op, ses);
    FIELD(crypt_auth_op, op);
    FIELD(crypt_auth_op, flags);
    FIELD(crypt_auth_op, len);
    FIELD(crypt_auth_op, auth_len);
    FIELD(crypt_auth_op, auth_src);
    FIELD(crypt_auth_op, src);
    FIELD(crypt_auth_op, dst);
    FIELD(crypt_auth_op, tag);
    FIELD(crypt_auth_op, tag_len);
    FIELD(crypt_auth_op, iv);
    FIELD(crypt_auth_op, iv_len);

    STRUCT(session_info_op);
    FIELD(session_info_op, ses);
    FIELD(session_info_op, cipher_info);
    FIELD(session_info_op, hash_info);
    FIELD(session_info_op, alignmask);
    FIELD(session_info_op, flags);

    STRUCT(alg_info);
    FIELD(alg_info, cra_name);
    FIELD(alg_info, cra_driver_name);

    STRUCT(crparam);
    FIELD(crparam, crp_p);
    FIELD(crparam, crp_nbits);

    STRUCT(crypt_kop);
    FIELD(crypt_kop, crk_op);
    FIELD(crypt_kop, crk_status);
    FIELD(crypt_kop, crk_iparams);
    FIELD(crypt_kop, crk_oparams);
    FIELD(crypt_kop, crk_pad1);
    FIELD(crypt_kop, crk_param);

    STRUCT(cphash_op);
    FIELD(cphash_op, dst_ses);
    FIELD(cphash_op, src_ses);
}

static void ioctls(void)
{
    IOCTL(CRIOGET);
    IOCTL(CIOCGSESSION);
    IOCTL(CIOCFSESSION);
    IOCTL(CIOCCRYPT);
    IOCTL(CIOCKEY);
    IOCTL(CIOCASYMFEAT);
    IOCTL(CIOCGSESSINFO);
    IOCTL(CIOCAUTHCRYPT);
    IOCTL(CIOCASYNCCRYPT);
    IOCTL(CIOCASYNCFETCH);
    IOCTL(CIOCCPHASH);
}

static void constants(void)
{
    CONSTANT(CRYPTO_DES_CBC);
    CONSTANT(CRYPTO_3DES_CBC);
    CONSTANT(CRYPTO_BLF_CBC);
    CONSTANT(CRYPTO_CAST_CBC);
    CONSTANT(CRYPTO_SKIPJACK_CBC);
    CONSTANT(CRYPTO_MD5_HMAC);
    CONSTANT(CRYPTO_SHA1_HMAC);
    CONSTANT(CRYPTO_RIPEMD160_HMAC);
    CONSTANT(CRYPTO_MD5_KPDK);
    CONSTANT(CRYPTO_SHA1_KPDK);
    CONSTANT(CRYPTO_RIJNDAEL128_CBC);
    CONSTANT(CRYPTO_AES_CBC);
    CONSTANT(CRYPTO_ARC4);
    CONSTANT(CRYPTO_MD5);
    CONSTANT(CRYPTO_SHA1);
    CONSTANT(CRYPTO_DEFLATE_COMP);
    CONSTANT(CRYPTO_NULL);
    CONSTANT(CRYPTO_LZS_COMP);
    CONSTANT(CRYPTO_SHA2_256_HMAC);
    CONSTANT(CRYPTO_SHA2_384_HMAC);
    CONSTANT(CRYPTO_SHA2_512_HMAC);
    CONSTANT(CRYPTO_AES_CTR);
    CONSTANT(CRYPTO_AES_XTS);
    CONSTANT(CRYPTO_AES_ECB);
    CONSTANT(CRYPTO_AES_CFB);
    CONSTANT(CRYPTO_AES_OFB);
    CONSTANT(CRYPTO_AES_GCM);
    CONSTANT(CRYPTO_AES_CCM);
    CONSTANT(CRYPTO_CAMELLIA_CBC);
    CONSTANT(CRYPTO_RIPEMD160);
    CONSTANT(CRYPTO_SHA2_224);
    CONSTANT(CRYPTO_SHA2_256);
    CONSTANT(CRYPTO_SHA2_384);
    CONSTANT(CRYPTO_SHA2_512);
    CONSTANT(CRYPTO_SHA2_224_HMAC);
    CONSTANT(CRYPTO_TLS11_AES_CBC_HMAC_SHA1);
    CONSTANT(CRYPTO_TLS12_AES_CBC_HMAC_SHA256);
    CONSTANT(CRYPTO_ALGORITHM_ALL);
    CONSTANT(CRYPTO_ALGORITHM_MAX);

    CONSTANT(CRYPTO_CIPHER_MAX_KEY_LEN);
    CONSTANT(CRYPTO_HMAC_MAX_KEY_LEN);
    CONSTANT(DES_BLOCK_LEN);
    CONSTANT(DES3_BLOCK_LEN);
    CONSTANT(BLOWFISH_BLOCK_LEN);
    CONSTANT(SKIPJACK_BLOCK_LEN);
    CONSTANT(CAST128_BLOCK_LEN);
    CONSTANT(RIJNDAEL128_BLOCK_LEN);
    CONSTANT(AES_BLOCK_LEN);
    CONSTANT(CAMELLIA_BLOCK_LEN);
    CONSTANT(EALG_MAX_BLOCK_LEN);
    CONSTANT(HASH_MAX_LEN);
    CONSTANT(AALG_MAX_RESULT_LEN);
    CONSTANT(CRYPTODEV_MAX_ALG_NAME);

    CONSTANT(COP_ENCRYPT);
    CONSTANT(COP_DECRYPT);
    CONSTANT(COP_FLAG_NONE);
    CONSTANT(COP_FLAG_UPDATE);
    CONSTANT(COP_FLAG_FINAL);
    CONSTANT(COP_FLAG_WRITE_IV);
    CONSTANT(COP_FLAG_NO_ZC);
    CONSTANT(COP_FLAG_AEAD_TLS_TYPE);
    CONSTANT(COP_FLAG_AEAD_SRTP_TYPE);
    CONSTANT(COP_FLAG_RESET);
    CONSTANT(SIOP_FLAG_KERNEL_DRIVER_ONLY);

    CONSTANT(CRYPTO_ALG_FLAG_SUPPORTED);
    CONSTANT(CRYPTO_ALG_FLAG_RNG_ENABLE);
    CONSTANT(CRYPTO_ALG_FLAG_DSA_SHA);
    CONSTANT(CRK_MAXPARAM);
    CONSTANT(CRK_MOD_EXP);
    CONSTANT(CRK_MOD_EXP_CRT);
    CONSTANT(CRK_DSA_SIGN);
    CONSTANT(CRK_DSA_VERIFY);
    CONSTANT(CRK_DH_COMPUTE_KEY);
    CONSTANT(CRK_ALGORITHM_ALL);
    CONSTANT(CRK_ALGORITHM_MAX);
    CONSTANT(CRF_MOD_EXP);
    CONSTANT(CRF_MOD_EXP_CRT);
    CONSTANT(CRF_DSA_SIGN);
    CONSTANT(CRF_DSA_VERIFY);
    CONSTANT(CRF_DH_COMPUTE_KEY);
    CONSTANT(CRIOGET_NOT_NEEDED);
}

int main(void)
{
    structs();
    ioctls();
    constants();
    return 0;
}
