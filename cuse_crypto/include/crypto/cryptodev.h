/* SPDX-License-Identifier: MIT */
/*
 * The cryptodev API: what a program says to /dev/crypto with ioctl().
 *
 * Sizes and offsets are the contract; a pointer makes a struct, and with it the ioctl number,
 * differ between 32-bit and 64-bit programs. Names and numbers are those that existing programs
 * are written for, and so is the form of each name: programs ask for the macros with #ifdef.
 */
#ifndef CRYPTO_CRYPTODEV_H
#define CRYPTO_CRYPTODEV_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* ---- Algorithms: session_op.cipher and session_op.mac -------------------------------------- */

/* "unused" are numbers that the API reserves and no implementation on Linux offers. */
enum cryptodev_crypto_op_t {
    CRYPTO_DES_CBC = 1,
    CRYPTO_3DES_CBC = 2,
    CRYPTO_BLF_CBC = 3,
    CRYPTO_CAST_CBC = 4,     /* unused */
    CRYPTO_SKIPJACK_CBC = 5, /* unused */
    CRYPTO_MD5_HMAC = 6,
    CRYPTO_SHA1_HMAC = 7,
    CRYPTO_RIPEMD160_HMAC = 8,
    CRYPTO_MD5_KPDK = 9,   /* unused */
    CRYPTO_SHA1_KPDK = 10, /* unused */
    CRYPTO_RIJNDAEL128_CBC = 11,
    CRYPTO_AES_CBC = CRYPTO_RIJNDAEL128_CBC,
    CRYPTO_ARC4 = 12, /* unused */
    CRYPTO_MD5 = 13,
    CRYPTO_SHA1 = 14,
    CRYPTO_DEFLATE_COMP = 15, /* unused */
    CRYPTO_NULL = 16,
    CRYPTO_LZS_COMP = 17, /* unused */
    CRYPTO_SHA2_256_HMAC = 18,
    CRYPTO_SHA2_384_HMAC = 19,
    CRYPTO_SHA2_512_HMAC = 20,
    CRYPTO_AES_CTR = 21,
    CRYPTO_AES_XTS = 22,
    CRYPTO_AES_ECB = 23,
    CRYPTO_AES_CFB = 24,
    CRYPTO_AES_OFB = 25,
    CRYPTO_AES_GCM = 50,
    CRYPTO_AES_CCM = 51,
    CRYPTO_CAMELLIA_CBC = 101,
    CRYPTO_RIPEMD160 = 102,
    CRYPTO_SHA2_224 = 103,
    CRYPTO_SHA2_256 = 104,
    CRYPTO_SHA2_384 = 105,
    CRYPTO_SHA2_512 = 106,
    CRYPTO_SHA2_224_HMAC = 107,
    CRYPTO_TLS11_AES_CBC_HMAC_SHA1 = 108,
    CRYPTO_TLS12_AES_CBC_HMAC_SHA256 = 109,
    CRYPTO_ALGORITHM_ALL = 110 /* one more than the last */
};

/*
 * Not a plain number: OpenSSL compares CRYPTO_ALGORITHM_MAX in an #if to tell BSD's header
 * (numbers) from this kind (an enum, 0 to the preprocessor); taken for BSD's, this one would seem
 * to have no AES-CTR and no SHA-2.
 */
#define CRYPTO_ALGORITHM_MAX (CRYPTO_ALGORITHM_ALL - 1)

/* Lengths in bytes. */
#define CRYPTO_CIPHER_MAX_KEY_LEN 64
#define CRYPTO_HMAC_MAX_KEY_LEN 512

#define DES_BLOCK_LEN 8
#define DES3_BLOCK_LEN 8
#define BLOWFISH_BLOCK_LEN 8
#define SKIPJACK_BLOCK_LEN 8
#define CAST128_BLOCK_LEN 8
#define RIJNDAEL128_BLOCK_LEN 16
#define AES_BLOCK_LEN RIJNDAEL128_BLOCK_LEN
#define CAMELLIA_BLOCK_LEN 16
#define EALG_MAX_BLOCK_LEN 16 /* the longest block, and the longest IV */

#define HASH_MAX_LEN 64
#define AALG_MAX_RESULT_LEN HASH_MAX_LEN

/* ---- Sessions: CIOCGSESSION, CIOCFSESSION, CIOCGSESSINFO ----------------------------------- */

/* A cipher, a mac, or both; 0 is none. A session belongs to the open file it was made on. */
struct session_op {
    __u32 cipher; /* in */
    __u32 mac;    /* in */
    __u32 keylen;
    __u8 *key; /* in: copied, free to change after the call */
    __u32 mackeylen;
    __u8 *mackey; /* in: for the HMACs */
    __u32 ses;    /* out: the session's identifier */
};

#define CRYPTODEV_MAX_ALG_NAME 64

struct alg_info {
    char cra_name[CRYPTODEV_MAX_ALG_NAME];        /* such as cbc(aes) */
    char cra_driver_name[CRYPTODEV_MAX_ALG_NAME]; /* who computes it */
};

struct session_info_op {
    __u32 ses;                   /* in */
    struct alg_info cipher_info; /* out, if the session has a cipher */
    struct alg_info hash_info;   /* out, if the session has a mac */
    __u16 alignmask;             /* out: buffers at multiples of alignmask + 1 are fastest */
    __u32 flags;                 /* out: SIOP_FLAG_... */
};

#define SIOP_FLAG_KERNEL_DRIVER_ONLY 1 /* hardware that only the kernel can reach */

/* ---- Operations: CIOCCRYPT, CIOCAUTHCRYPT -------------------------------------------------- */

#define COP_ENCRYPT 0
#define COP_DECRYPT 1

#define COP_FLAG_NONE (0 << 0)
#define COP_FLAG_UPDATE (1 << 0)         /* hash: add data, more will come */
#define COP_FLAG_FINAL (1 << 1)          /* hash: give the digest of all that was added */
#define COP_FLAG_WRITE_IV (1 << 2)       /* cipher: leave the next IV in iv */
#define COP_FLAG_NO_ZC (1 << 3)          /* copy the buffers instead of mapping them */
#define COP_FLAG_AEAD_TLS_TYPE (1 << 4)  /* CIOCAUTHCRYPT: a TLS record, in place */
#define COP_FLAG_AEAD_SRTP_TYPE (1 << 5) /* CIOCAUTHCRYPT: an SRTP packet, in place */
#define COP_FLAG_RESET (1 << 6)          /* hash: forget what was added before */

struct crypt_op {
    __u32 ses;
    __u16 op;    /* COP_ENCRYPT or COP_DECRYPT */
    __u16 flags; /* COP_FLAG_... */
    __u32 len;   /* bytes at src, and at dst */
    __u8 *src;   /* in */
    __u8 *dst;   /* out; may equal src */
    __u8 *mac;   /* out: the digest, for a session with a mac */
    __u8 *iv;    /* in; NULL goes on where the session's last operation ended */
};

/* Authenticated encryption. The tag follows the ciphertext in dst, but for SRTP, which uses tag. */
struct crypt_auth_op {
    __u32 ses;
    __u16 op;
    __u16 flags;
    __u32 len;      /* bytes at src, a tag to be checked included; out: bytes at dst */
    __u32 auth_len; /* bytes at auth_src */
    __u8 *auth_src; /* in: authenticated, not encrypted */
    __u8 *src;
    __u8 *dst; /* with room for the tag, and for TLS the padding */
    __u8 *tag;
    __u32 tag_len; /* 0: the longest */
    __u8 *iv;
    __u32 iv_len;
};

/* Copy the state of a running hash into another session (CIOCCPHASH). */
struct cphash_op {
    __u32 dst_ses;
    __u32 src_ses;
};

/* ---- Public keys: CIOCKEY, CIOCASYMFEAT (declared; nothing on Linux offers them) ----------- */

#define CRYPTO_ALG_FLAG_SUPPORTED 1
#define CRYPTO_ALG_FLAG_RNG_ENABLE 2
#define CRYPTO_ALG_FLAG_DSA_SHA 4

#define CRK_MAXPARAM 8

struct crparam {
    __u8 *crp_p;
    __u32 crp_nbits;
};

struct crypt_kop {
    __u32 crk_op;
    __u32 crk_status;
    __u16 crk_iparams;
    __u16 crk_oparams;
    __u32 crk_pad1;
    struct crparam crk_param[CRK_MAXPARAM];
};

enum cryptodev_crk_op_t {
    CRK_MOD_EXP = 0,
    CRK_MOD_EXP_CRT = 1,
    CRK_DSA_SIGN = 2,
    CRK_DSA_VERIFY = 3,
    CRK_DH_COMPUTE_KEY = 4,
    CRK_ALGORITHM_ALL = 5
};

#define CRK_ALGORITHM_MAX (CRK_ALGORITHM_ALL - 1)

/* The bits that CIOCASYMFEAT returns. */
#define CRF_MOD_EXP (1 << CRK_MOD_EXP)
#define CRF_MOD_EXP_CRT (1 << CRK_MOD_EXP_CRT)
#define CRF_DSA_SIGN (1 << CRK_DSA_SIGN)
#define CRF_DSA_VERIFY (1 << CRK_DSA_VERIFY)
#define CRF_DH_COMPUTE_KEY (1 << CRK_DH_COMPUTE_KEY)

/* ---- The ioctls ---------------------------------------------------------------------------- */

#define CRIOGET _IOWR('c', 101, __u32) /* another descriptor of the same open file */
#define CRIOGET_NOT_NEEDED 1           /* a program may use what open() gave it */

#define CIOCGSESSION _IOWR('c', 102, struct session_op)
#define CIOCFSESSION _IOW('c', 103, __u32)
#define CIOCCRYPT _IOWR('c', 104, struct crypt_op)
#define CIOCKEY _IOWR('c', 105, struct crypt_kop)
#define CIOCASYMFEAT _IOR('c', 106, __u32)
#define CIOCGSESSINFO _IOWR('c', 107, struct session_info_op)
#define CIOCAUTHCRYPT _IOWR('c', 109, struct crypt_auth_op)
#define CIOCASYNCCRYPT _IOW('c', 110, struct crypt_op) /* queue an operation, return at once */
#define CIOCASYNCFETCH _IOR('c', 111, struct crypt_op) /* the oldest one done; poll() tells */
#define CIOCCPHASH _IOW('c', 112, struct cphash_op)

#endif
