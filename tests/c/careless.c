/* SPDX-License-Identifier: MIT */
/*
 * careless DEVICE: what a device answers to callers that make mistakes, and to unusual ones that do
 * not. The answers are those of the real driver, or better where it crashes or corrupts data.
 */
#include "check.h"

#if UINTPTR_MAX > UINT32_MAX
#define OTHER_WIDTH_SIZE 28 /* session_op and crypt_op of a 32-bit program */
#else
#define OTHER_WIDTH_SIZE 48
#endif

/* ---- ordinary operations ------------------------------------------------------------------- */

static __u32 make(__u32 cipher)
{
    __u32 ses;

    if (make_on(device, cipher, cipher == CRYPTO_3DES_CBC ? 24 : 16, key, &ses) != 0)
        unusable("CIOCGSESSION of an ordinary session");
    return ses;
}

static int encrypt(__u32 ses, const void *src, void *dst, __u32 len, void *iv)
{
    return operate(ses, COP_ENCRYPT, 0, src, dst, len, iv);
}

static int encrypt_on(int fd, __u32 ses)
{
    struct crypt_op crypt = operation(ses, COP_ENCRYPT, 0, plain, out, 32, zeros);
    return ioctl(fd, CIOCCRYPT, &crypt);
}

/* The ordinary way to the same bytes: a session of its own, apart buffers, an IV. */
static void reference(__u32 cipher, int op, const void *src, void *dst, __u32 len, const void *iv)
{
    uint8_t own_iv[16];
    __u32 ses = make(cipher);

    memcpy(own_iv, iv, sizeof(own_iv));
    if (operate(ses, op, 0, src, dst, len, own_iv) != 0)
        unusable("CIOCCRYPT of an ordinary operation");
    finish(ses);
}

/* Does the session go on with this IV? */
static void check_goes_on(const char *name, __u32 ses, __u32 cipher, const void *iv)
{
    uint8_t got[32], wanted[32];

    reference(cipher, COP_ENCRYPT, plain, wanted, sizeof(wanted), iv);
    if (encrypt(ses, plain, got, sizeof(got), NULL) != 0)
        unusable("CIOCCRYPT without an IV");
    check_same(name, got, wanted, sizeof(got));
}

/* ---- known answers ------------------------------------------------------------------------- */

#define SP800_38A_TEXT                                                                            \
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"                            \
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
#define SP800_38A_KEY "2b7e151628aed2a6abf7158809cf4f3c"

static const struct vector {
    const char *name;
    __u32 cipher;
    const char *key, *iv, *plain, *secret;
} vectors[] = {
    {"AES-128-ECB", CRYPTO_AES_ECB, SP800_38A_KEY, "", SP800_38A_TEXT,
     "3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf"
     "43b1cd7f598ece23881b00e3ed0306887b0c785e27e8ad3f8223207104725dd4"},
    {"AES-128-CBC", CRYPTO_AES_CBC, SP800_38A_KEY, "000102030405060708090a0b0c0d0e0f",
     SP800_38A_TEXT,
     "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"
     "73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7"},
    {"AES-192-CBC", CRYPTO_AES_CBC, "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
     "000102030405060708090a0b0c0d0e0f", SP800_38A_TEXT,
     "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a"
     "571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd"},
    {"AES-256-CBC", CRYPTO_AES_CBC,
     "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
     "000102030405060708090a0b0c0d0e0f", SP800_38A_TEXT,
     "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d"
     "39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b"},
    {"AES-128-CTR", CRYPTO_AES_CTR, SP800_38A_KEY, "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
     SP800_38A_TEXT,
     "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
     "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"},
    {"3DES-CBC", CRYPTO_3DES_CBC, "01080f161d242b323940474e555c636a71787f868d949ba2",
     "0000000000000000", "0000000000000000000000000000000000000000000000000000000000000000",
     "8245e2c6158dde573f6bc3d7267e487886dfff0a7271653b4cd2500dcd16c44a"},
};

static void known_answers(void)
{
    for (size_t i = 0; i < COUNT(vectors); i++) {
        const struct vector *v = &vectors[i];
        uint8_t a_key[32], iv[16], text[64], secret[64], got[64];
        size_t keylen = from_hex(a_key, v->key), size = from_hex(text, v->plain);
        __u32 ses;

        from_hex(iv, v->iv);
        from_hex(secret, v->secret);
        check(label("%s session", v->name), make_on(device, v->cipher, keylen, a_key, &ses), 0);
        memset(a_key, 0, sizeof(a_key)); /* the key was copied */
        check(label("%s encrypt", v->name), encrypt(ses, text, got, size, iv), 0);
        check_same(label("%s ciphertext", v->name), got, secret, size);
        check(label("%s decrypt", v->name),
              operate(ses, COP_DECRYPT, 0, secret, got, size, iv), 0);
        check_same(label("%s plaintext", v->name), got, text, size);
        check(label("%s finish", v->name), finish(ses), 0);
    }
}

/* ---- ioctl numbers and structs ------------------------------------------------------------- */

static void unknown_numbers(void)
{
    static uint8_t argument[1 << _IOC_SIZEBITS]; /* as large as a number can ask for */
    static const int both = _IOC_READ | _IOC_WRITE;
    const struct {
        const char *name;
        unsigned long number;
    } rows[] = {
        {"number 100", _IOWR('c', 100, __u32)},
        {"number 108", _IOWR('c', 108, struct session_op)},
        {"number 113", _IOWR('c', 113, struct session_op)},
        {"type d", _IOWR('d', 102, struct session_op)},
        {"direction read", _IOR('c', 102, struct session_op)},
        {"direction write", _IOW('c', 102, struct session_op)},
        {"direction none", _IO('c', 102)},
        {"CIOCFSESSION both ways", _IOWR('c', 103, __u32)},
        {"size 0", _IOC(both, 'c', 104, 0)},
        {"size 4 too small", _IOC(both, 'c', 102, sizeof(struct session_op) - 4)},
        {"size 4 too large", _IOC(both, 'c', 104, sizeof(struct crypt_op) + 4)},
        {"CIOCGSESSION of the other width", _IOC(both, 'c', 102, OTHER_WIDTH_SIZE)},
        {"CIOCCRYPT of the other width", _IOC(both, 'c', 104, OTHER_WIDTH_SIZE)},
        {"CIOCKEY", CIOCKEY},
        {"command 0", 0},
        {"command 0xffffffff", 0xffffffff},
    };

    for (size_t i = 0; i < COUNT(rows); i++)
        check(rows[i].name, ioctl(device, rows[i].number, argument), EINVAL);
}

static void struct_pointers(void)
{
    struct session_op session = {.cipher = CRYPTO_AES_CBC, .keylen = 16, .key = key};
    __u32 cbc = make(CRYPTO_AES_CBC);
    struct crypt_op op = operation(cbc, COP_ENCRYPT, 0, plain, out, 32, zeros);

    for (size_t i = 0; i < COUNT(bad_pointers); i++) {
        const struct bad_pointer *bad = &bad_pointers[i];

        check(label("CIOCGSESSION at %s", bad->name),
              ioctl(device, CIOCGSESSION, bad->pointer), EFAULT);
        check(label("CIOCFSESSION at %s", bad->name),
              ioctl(device, CIOCFSESSION, bad->pointer), EFAULT);
        check(label("CIOCCRYPT at %s", bad->name), ioctl(device, CIOCCRYPT, bad->pointer), EFAULT);
    }
#if UINTPTR_MAX > UINT32_MAX /* in 32 bits an identifier may happen to be an address */
    check("CIOCFSESSION by value", ioctl(device, CIOCFSESSION, (uintptr_t)cbc), EFAULT);
#endif
    check("CIOCGSESSION half mapped", ioctl(device, CIOCGSESSION, edge_end - 8), EFAULT);
    check("CIOCCRYPT half mapped", ioctl(device, CIOCCRYPT, edge_end - 8), EFAULT);
    check("CIOCFSESSION half mapped", ioctl(device, CIOCFSESSION, edge_end - 2), EFAULT);
    check("CIOCGSESSION in read-only memory",
          ioctl(device, CIOCGSESSION, frozen(&session, sizeof(session))), EFAULT);
    check("CIOCCRYPT in read-only memory", ioctl(device, CIOCCRYPT, frozen(&op, sizeof(op))),
          EFAULT);
    memcpy(edge_end - sizeof(op), &op, sizeof(op));
    check("CIOCCRYPT just before the edge", ioctl(device, CIOCCRYPT, edge_end - sizeof(op)), 0);
    check("CIOCFSESSION in read-only memory",
          ioctl(device, CIOCFSESSION, frozen(&cbc, sizeof(cbc))), 0);
    check("it was finished", encrypt_on(device, cbc), EINVAL);
}

/* ---- making sessions ----------------------------------------------------------------------- */

static void key_lengths(void)
{
    static const struct {
        const char *name;
        __u32 cipher, good[4]; /* the good ones end with a 0 */
    } ciphers[] = {{"AES-CBC", CRYPTO_AES_CBC, {16, 24, 32, 0}},
                   {"AES-ECB", CRYPTO_AES_ECB, {16, 24, 32, 0}},
                   {"AES-CTR", CRYPTO_AES_CTR, {16, 24, 32, 0}},
                   {"3DES-CBC", CRYPTO_3DES_CBC, {24, 0, 0, 0}}};
    static const __u32 lengths[] = {0,  1,  7,  8,  15, 16, 17,  23,  24,         25,        31,
                                    32, 33, 48, 56, 63, 64, 65, 128, 512, 0x7fffffff, 0xffffffff};

    for (size_t i = 0; i < COUNT(ciphers); i++) {
        for (size_t j = 0; j < COUNT(lengths); j++) {
            const __u32 *good = ciphers[i].good;
            __u32 ses;

            while (*good != 0 && *good != lengths[j])
                good++;
            check(label("%s keylen %u", ciphers[i].name, lengths[j]),
                  make_on(device, ciphers[i].cipher, lengths[j], key, &ses),
                  *good != 0 ? 0 : EINVAL);
            if (*good != 0)
                finish(ses);
        }
    }
}

/* Numbers that are no cipher: unused ones, macs, and those beyond the end. */
static void cipher_ids(void)
{
    static const __u32 ids[] = {4,  5,  6,  7,  8,  9,  10, 12,  13,  14,  15,  17,   18,  19,  20,
                                26, 49, 52, 99, 100, 102, 104, 107, 108, 109, 110, 9999, 0x7fffffff,
                                0xffffffff};
    __u32 ses;

    for (size_t i = 0; i < COUNT(ids); i++)
        check(label("cipher %u", ids[i]), make_on(device, ids[i], 16, key, &ses), EINVAL);
}

static void session_arguments(void)
{
    const struct {
        const char *name;
        __u32 cipher, mac, keylen;
        const void *key;
        int wanted;
    } rows[] = {
        {"cipher 0, mac 0", 0, 0, 0, NULL, EINVAL},
        {"cipher 0, mac 0, a key", 0, 0, 16, key, EINVAL},
        {"a cipher's id as mac", 0, CRYPTO_AES_CBC, 16, key, EINVAL},
        {"mac 9999", 0, 9999, 16, key, EINVAL},
        {"AES-CBC and mac 9999", CRYPTO_AES_CBC, 9999, 16, key, EINVAL},
        /* which mistake is told first */
        {"key NULL, keylen 17", CRYPTO_AES_CBC, 0, 17, NULL, EFAULT},
        {"key NULL, keylen 64", CRYPTO_AES_CBC, 0, 64, NULL, EFAULT},
        {"key NULL, keylen 65", CRYPTO_AES_CBC, 0, 65, NULL, EINVAL},
        {"key NULL, keylen 0", CRYPTO_AES_CBC, 0, 0, NULL, EINVAL},
        {"key NULL, unknown cipher", 9999, 0, 16, NULL, EINVAL},
        {"key NULL, unknown mac", CRYPTO_AES_CBC, 9999, 16, NULL, EINVAL},
        {"key half mapped", CRYPTO_AES_CBC, 0, 16, edge_end - 8, EFAULT},
        {"key just before the edge", CRYPTO_AES_CBC, 0, 16, edge_end - 16, 0},
        {"key in read-only memory", CRYPTO_AES_CBC, 0, 16, frozen(key, 16), 0},
        {"3DES-CBC with three equal keys", CRYPTO_3DES_CBC, 0, 24, edge, 0},
    };
    struct session_op session, before;
    __u32 ses;

    for (size_t i = 0; i < COUNT(rows); i++) {
        memset(&session, 0, sizeof(session));
        session.cipher = rows[i].cipher;
        session.mac = rows[i].mac;
        session.keylen = rows[i].keylen;
        session.key = (void *)rows[i].key;
        session.ses = 0xdeadbeef;
        before = session;
        check(rows[i].name, ioctl(device, CIOCGSESSION, &session), rows[i].wanted);
        if (rows[i].wanted == 0)
            finish(session.ses);
        else
            check_same(label("%s: nothing written", rows[i].name), &session, &before,
                       sizeof(session));
    }
    for (size_t i = 0; i < COUNT(bad_pointers); i++)
        check(label("key at %s", bad_pointers[i].name),
              make_on(device, CRYPTO_AES_CBC, 16, bad_pointers[i].pointer, &ses), EFAULT);

    memset(&session, 0xa5, sizeof(session));
    session.cipher = CRYPTO_AES_CBC;
    session.mac = 0;
    session.keylen = 16;
    session.key = key;
    session.mackeylen = 9999;
    session.mackey = (void *)1;
    before = session;
    check("mackeylen and mackey without a mac", ioctl(device, CIOCGSESSION, &session), 0);
    finish(session.ses);
    session.ses = before.ses;
    check_same("only ses was written", &session, &before, sizeof(session));
}

/* ---- the life of a session ----------------------------------------------------------------- */

static void finishing(void)
{
    __u32 first = make(CRYPTO_AES_CBC), second = make(CRYPTO_AES_CBC), many[100];
    struct session_op session = {.cipher = CRYPTO_AES_CBC, .ses = second};
    int equal = 0, empty = open(path, O_RDWR);

    check("two sessions have two ids", first == second ? -1 : 0, 0);
    check("finish", finish(first), 0);
    check("crypt on a finished session", encrypt_on(device, first), EINVAL);
    check("finish it again", finish(first), 0);
    check("finish an unknown id", finish(~second), 0);
    check("finish id 0", finish(0), 0);
    check("finish on a file without sessions", finish_on(empty, second), 0);
    check("finish with a session_op", ioctl(device, CIOCFSESSION, &session), 0);
    check("the other session is as it was", encrypt_on(device, second), 0);
    check("crypt on an unknown session", encrypt_on(device, ~second), EINVAL);
    check("close a file without sessions", close(empty), 0);
    finish(second);

    for (size_t i = 0; i < COUNT(many); i++) {
        many[i] = make(CRYPTO_AES_CBC);
        for (size_t j = 0; j < i; j++)
            equal += many[i] == many[j];
    }
    check("100 sessions have 100 ids", equal, 0);
    for (size_t i = 0; i < COUNT(many); i++)
        finish(many[i]);
}

static void sharing_between_files(void)
{
    __u32 ours = make(CRYPTO_AES_CBC), theirs;
    int other = open(path, O_RDWR), copy, again;
    char link[64];

    check("a session of another open file", encrypt_on(other, ours), EINVAL);
    check("finish a session of another open file", finish_on(other, ours), 0);
    check("that changed nothing", encrypt_on(device, ours), 0);

    snprintf(link, sizeof(link), "/proc/self/fd/%d", device);
    again = open(link, O_RDWR);
    check("opened again through /proc: another open file", encrypt_on(again, ours), EINVAL);
    close(again);

    check("a session on the other file", make_on(other, CRYPTO_AES_CBC, 16, key, &theirs), 0);
    copy = dup(other);
    check("a dup has the session", encrypt_on(copy, theirs), 0);
    close(other);
    check("closing the first leaves it to the dup", encrypt_on(copy, theirs), 0);
    close(copy);
    check("a closed file leaves the others alone", encrypt_on(device, ours), 0);
    check("finish", finish(ours), 0);
}

static int child_crypts(__u32 *ses)
{
    return encrypt_on(device, *ses);
}

static int child_makes(__u32 *ses)
{
    return make_on(device, CRYPTO_AES_CBC, 16, key, ses);
}

static int child_finishes(__u32 *ses)
{
    return finish(*ses);
}

static int child_closes(__u32 *ses)
{
    (void)ses;
    return close(device);
}

static void sharing_with_a_child(void)
{
    int memory = MAP_SHARED | MAP_ANONYMOUS;
    __u32 *ses = (__u32 *)pages(1, PROT_READ | PROT_WRITE, memory, -1);

    *ses = make(CRYPTO_AES_CBC);
    check("a child uses its parent's session", in_child(child_crypts, ses), 0);
    check("a child closes its copy", in_child(child_closes, ses), 0);
    check("the parent still has it", encrypt_on(device, *ses), 0);
    check("a child finishes its parent's session", in_child(child_finishes, ses), 0);
    check("the parent has it no more", encrypt_on(device, *ses), EINVAL);
    check("a child makes a session", in_child(child_makes, ses), 0);
    check("the parent uses it", encrypt_on(device, *ses), 0);
    check("finish", finish(*ses), 0);
    munmap(ses, PAGE);
}

/* ---- CIOCCRYPT ----------------------------------------------------------------------------- */

static void crypt_arguments(void)
{
    __u32 cbc = make(CRYPTO_AES_CBC), ecb = make(CRYPTO_AES_ECB), ctr = make(CRYPTO_AES_CTR);
    __u32 des = make(CRYPTO_3DES_CBC);
    const struct {
        const char *name;
        __u32 ses;
        int op;
        const void *src;
        __u32 len;
        const void *iv;
        int wanted;
    } rows[] = {
        {"op 2", cbc, 2, plain, 32, zeros, EINVAL},
        {"op 0xffff", cbc, 0xffff, plain, 32, zeros, EINVAL},
        {"CBC len 1", cbc, 0, plain, 1, zeros, EINVAL},
        {"CBC len 15", cbc, 0, plain, 15, zeros, EINVAL},
        {"CBC len 17", cbc, 0, plain, 17, zeros, EINVAL},
        {"CBC len 17, decrypt", cbc, 1, plain, 17, zeros, EINVAL},
        {"CBC len 0xffffffff", cbc, 0, plain, 0xffffffff, zeros, EINVAL},
        {"ECB len 17", ecb, 0, plain, 17, NULL, EINVAL},
        {"3DES len 7", des, 0, plain, 7, zeros, EINVAL},
        {"3DES len 9", des, 0, plain, 9, zeros, EINVAL},
        {"3DES len 8", des, 0, plain, 8, zeros, 0},
        {"CTR len 1", ctr, 0, plain, 1, zeros, 0},
        {"CTR len 17", ctr, 0, plain, 17, zeros, 0},
        {"CTR len 4095", ctr, 0, plain, 4095, zeros, 0},
        /* which mistake is told first */
        {"unknown session, bad iv", ~cbc, 0, plain, 32, edge_end, EINVAL},
        {"op 2, bad iv", cbc, 2, plain, 32, edge_end, EFAULT},
        {"len 17, bad iv", cbc, 0, plain, 17, edge_end, EFAULT},
        {"len 17, bad src", cbc, 0, edge_end, 17, zeros, EINVAL},
        {"op 2, bad src", cbc, 2, edge_end, 32, zeros, EINVAL},
        {"len 0, bad iv", cbc, 0, plain, 0, edge_end, EFAULT},
        {"len 0, bad src", cbc, 0, edge_end, 0, zeros, 0},
        {"iv at 1", cbc, 0, plain, 32, (void *)1, EFAULT},
        {"iv in the kernel", cbc, 0, plain, 32, IN_THE_KERNEL, EFAULT},
        {"iv half mapped", cbc, 0, plain, 32, edge_end - 8, EFAULT},
        {"iv just before the edge", cbc, 0, plain, 32, edge_end - 16, 0},
        {"3DES iv just before the edge", des, 0, plain, 32, edge_end - 8, 0},
        {"ECB reads no iv", ecb, 0, plain, 32, edge_end, 0},
        {"iv in read-only memory", cbc, 0, plain, 32, frozen(zeros, 16), 0},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct crypt_op op = operation(rows[i].ses, rows[i].op, 0, rows[i].src, out, rows[i].len,
                                       (void *)rows[i].iv);
        struct crypt_op before = op;

        memset(out, 0x77, sizeof(out));
        memset(expected, 0x77, sizeof(expected));
        check(rows[i].name, ioctl(device, CIOCCRYPT, &op), rows[i].wanted);
        check_same(label("%s: struct unchanged", rows[i].name), &op, &before, sizeof(op));
        if (rows[i].wanted != 0)
            check_same(label("%s: nothing written", rows[i].name), out, expected, sizeof(out));
    }
    check("len 0, all pointers NULL", encrypt(cbc, NULL, NULL, 0, NULL), 0);
    finish(cbc);
    finish(ecb);
    finish(ctr);
    finish(des);
}

/* Flags that mean nothing to a cipher, and those that no one has defined, are ignored. */
static void crypt_flags(void)
{
    static const int flags[] = {COP_FLAG_UPDATE, COP_FLAG_FINAL, COP_FLAG_UPDATE | COP_FLAG_FINAL,
                                COP_FLAG_NO_ZC,  COP_FLAG_RESET, COP_FLAG_AEAD_TLS_TYPE,
                                COP_FLAG_AEAD_SRTP_TYPE, 0x80, 0x8000, 0xffff};
    __u32 cbc = make(CRYPTO_AES_CBC);

    reference(CRYPTO_AES_CBC, COP_ENCRYPT, plain, expected, sizeof(plain), zeros);
    for (size_t i = 0; i < COUNT(flags); i++) {
        uint8_t iv[16] = {0};
        struct crypt_op op = operation(cbc, COP_ENCRYPT, flags[i], plain, out, sizeof(plain), iv);
        struct crypt_op before;

        op.mac = (void *)1; /* the session has no mac */
        before = op;
        check(label("flags 0x%x", flags[i]), ioctl(device, CIOCCRYPT, &op), 0);
        check_same(label("flags 0x%x: output", flags[i]), out, expected, sizeof(plain));
        check_same(label("flags 0x%x: struct unchanged", flags[i]), &op, &before, sizeof(op));
    }
    finish(cbc);
}

/* Everything here with the buffers mapped, and with the buffers copied. */
static void buffers(int flags)
{
    const char *way = flags == COP_FLAG_NO_ZC ? "copied" : "mapped";
    __u32 cbc = make(CRYPTO_AES_CBC);
    uint8_t *fresh = pages(4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    int file = memfd_create("careless", 0);
    uint8_t *shared;

    if (file == -1 || ftruncate(file, 4 * PAGE) == -1)
        unusable("memfd_create");
    shared = pages(4, PROT_READ | PROT_WRITE, MAP_SHARED, file);

#define TRY(name, src, dst, len, wanted)                                                          \
    check(label("%s, %s", name, way),                                                             \
          operate(cbc, COP_ENCRYPT, flags, src, dst, len, zeros), wanted)

    for (size_t i = 0; i < COUNT(bad_pointers); i++) {
        const struct bad_pointer *bad = &bad_pointers[i];

        TRY(label("src at %s", bad->name), bad->pointer, out, 32, EFAULT);
        TRY(label("dst at %s", bad->name), plain, bad->pointer, 32, EFAULT);
        TRY(label("src and dst at %s", bad->name), bad->pointer, bad->pointer, 32, EFAULT);
    }
    TRY("dst in read-only memory", plain, frozen(plain, PAGE), 32, EFAULT);
    TRY("in place in read-only memory", read_only, read_only, 32, EFAULT);
    TRY("src partially unmapped", edge, out, 4 * PAGE, EFAULT);
    TRY("dst partially unmapped", plain, edge, 4 * PAGE, EFAULT);
#ifndef SMALL_ONLY /* where the kernel copies for the server it takes 128 KiB at most */
    TRY("src of 2 GiB", edge, edge, 0x80000000, EFAULT);
    TRY("src of 4 GiB", edge, edge, 0xfffffff0, EFAULT);
#endif
    TRY("src in read-only memory", read_only, out, PAGE, 0);

    reference(CRYPTO_AES_CBC, COP_ENCRYPT, plain, expected, sizeof(plain), zeros);
    TRY("dst in pages never touched", plain, fresh, 4 * PAGE, 0);
    check_same(label("dst in pages never touched, %s: output", way), fresh, expected, 4 * PAGE);
    TRY("dst in a shared file", plain, shared, 4 * PAGE, 0);
    check_same(label("dst in a shared file, %s: output", way), shared, expected, 4 * PAGE);
    memcpy(edge, plain, 2 * PAGE);
    TRY("in place up to the edge", edge, edge, 2 * PAGE, 0);
    check_same(label("in place up to the edge, %s: output", way), edge, expected, 2 * PAGE);
    memcpy(fresh + 3, plain, 2 * PAGE);
    TRY("unaligned", fresh + 3, shared + 5, 2 * PAGE, 0);
    check_same(label("unaligned, %s: output", way), shared + 5, expected, 2 * PAGE);
#undef TRY
    munmap(fresh, 4 * PAGE);
    munmap(shared, 4 * PAGE);
    close(file);
    finish(cbc);
}

/* Overlapping buffers give what apart ones give; the driver does so for dst < src only. */
static void overlaps(void)
{
    static const int shifts[] = {-4096, -16, -5, -1, 0, 1, 5, 16, 4096};
    static const __u32 ciphers[] = {CRYPTO_AES_CBC, CRYPTO_AES_CTR};
    static uint8_t area[4 * PAGE];
    uint8_t *src = area + PAGE;

    for (size_t i = 0; i < COUNT(ciphers); i++) {
        for (int op = COP_ENCRYPT; op <= COP_DECRYPT; op++) {
            reference(ciphers[i], op, plain, expected, 2 * PAGE, zeros);
            for (size_t j = 0; j < COUNT(shifts); j++) {
                __u32 ses = make(ciphers[i]);
                const char *name = label("cipher %u, %s, dst = src %+d", ciphers[i],
                                         op == COP_ENCRYPT ? "encrypt" : "decrypt", shifts[j]);

                memcpy(src, plain, 2 * PAGE);
                check(name, operate(ses, op, 0, src, src + shifts[j], 2 * PAGE, zeros), 0);
                check_same(label("%s: output", name), src + shifts[j], expected, 2 * PAGE);
                finish(ses);
            }
        }
    }
}

#ifndef SMALL_ONLY
static void large(void)
{
    const __u32 size = 8 * MIB, piece = 64 * 1024;
    uint8_t *data = malloc(size), *one = malloc(size), *many = malloc(size);
    __u32 ses = make(CRYPTO_AES_CBC);
    int result = 0;

    if (data == NULL || one == NULL || many == NULL)
        unusable("malloc");
    for (__u32 i = 0; i < size; i++)
        data[i] = (i * 2654435761u) >> 24;
    check("8 MiB at once", encrypt(ses, data, one, size, zeros), 0);
    for (__u32 i = 0; i < size && result == 0; i += piece)
        result = encrypt(ses, data + i, many + i, piece, i == 0 ? zeros : NULL);
    check("8 MiB in pieces", result, 0);
    check_same("8 MiB, both are equal", one, many, size);
    check("8 MiB decrypted in place", operate(ses, COP_DECRYPT, 0, one, one, size, zeros), 0);
    check_same("8 MiB, back again", one, data, size);
    finish(ses);
    free(data);
    free(one);
    free(many);
}
#endif

/* ---- initialization vectors ---------------------------------------------------------------- */

/* iv NULL goes on where the session's last operation ended. */
static void chaining(__u32 cipher, const char *name)
{
    for (int op = COP_ENCRYPT; op <= COP_DECRYPT; op++) {
        const char *way = label("%s %s", name, op == COP_ENCRYPT ? "encrypt" : "decrypt");
        __u32 ses = make(cipher);

        reference(cipher, op, plain, expected, 96, zeros);
        check(label("%s, fresh session, no iv", way), operate(ses, op, 0, plain, out, 32, NULL), 0);
        check(label("%s, no iv", way), operate(ses, op, 0, plain + 32, out + 32, 64, NULL), 0);
        check_same(label("%s, begins with zeros and goes on", way), out, expected, 96);
        finish(ses);
    }
}

/* What an operation that failed, or did nothing, leaves as the session's IV. */
static void iv_after(void)
{
    uint8_t first[16], second[16];
    __u32 ses = make(CRYPTO_AES_CBC);

    memset(first, 0x11, sizeof(first));
    memset(second, 0x22, sizeof(second));
    check("len 0 with an iv", encrypt(ses, NULL, NULL, 0, first), 0);
    check_goes_on("len 0 loads the iv", ses, CRYPTO_AES_CBC, first);

    check("len 0 with an iv, again", encrypt(ses, NULL, NULL, 0, first), 0);
    check("len 17 with an iv", encrypt(ses, plain, out, 17, second), EINVAL);
    check_goes_on("len 17 loads no iv", ses, CRYPTO_AES_CBC, first);

    check("len 0 with an iv, again", encrypt(ses, NULL, NULL, 0, first), 0);
    check("op 2 with an iv", operate(ses, 2, 0, plain, out, 32, second), EINVAL);
    check_goes_on("op 2 loads no iv", ses, CRYPTO_AES_CBC, first);

    reference(CRYPTO_AES_CBC, COP_ENCRYPT, plain, expected, 32, first);
    check("a dst that cannot be written, with an iv",
          operate(ses, COP_ENCRYPT, COP_FLAG_NO_ZC, plain, frozen(plain, 16), 32, first), EFAULT);
    check_goes_on("the chain went on all the same", ses, CRYPTO_AES_CBC, expected + 16);
    finish(ses);
}

static void written_ivs(void)
{
    static const uint8_t start[16] = {1, 2,  3,  4,  5,  6,  7,  8,
                                      9, 10, 11, 12, 13, 14, 15, 0xff};
    static const uint8_t ones[16] = {255, 255, 255, 255, 255, 255, 255, 255,
                                     255, 255, 255, 255, 255, 255, 255, 255};
    /* The next IV is start + counted as a 128-bit number, or these bytes of the ciphertext. */
    const struct {
        const char *name;
        __u32 cipher;
        int op;
        __u32 len;
        const uint8_t *start;
        int counted;
    } rows[] = {
        {"CBC encrypt", CRYPTO_AES_CBC, COP_ENCRYPT, 48, start, -1},
        {"CBC decrypt", CRYPTO_AES_CBC, COP_DECRYPT, 48, start, -1},
        {"3DES encrypt", CRYPTO_3DES_CBC, COP_ENCRYPT, 48, start, -1},
        {"3DES decrypt", CRYPTO_3DES_CBC, COP_DECRYPT, 48, start, -1},
        {"CBC len 0", CRYPTO_AES_CBC, COP_ENCRYPT, 0, start, 0},
        {"CTR len 0", CRYPTO_AES_CTR, COP_ENCRYPT, 0, start, 0},
        {"CTR len 5", CRYPTO_AES_CTR, COP_ENCRYPT, 5, start, 1},
        {"CTR len 16", CRYPTO_AES_CTR, COP_ENCRYPT, 16, start, 1},
        {"CTR len 48, decrypt", CRYPTO_AES_CTR, COP_DECRYPT, 48, start, 3},
        {"CTR len 32, wrapping", CRYPTO_AES_CTR, COP_ENCRYPT, 32, ones, 2},
        {"ECB", CRYPTO_AES_ECB, COP_ENCRYPT, 48, start, 0},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        size_t block = rows[i].cipher == CRYPTO_3DES_CBC ? 8 : 16;

        for (int in_place = 0; in_place <= 1; in_place++) {
            const char *name = label("WRITE_IV %s%s", rows[i].name, in_place ? " in place" : "");
            __u32 ses = make(rows[i].cipher);
            uint8_t iv[16], next[16];
            const uint8_t *ciphertext = rows[i].op == COP_ENCRYPT ? expected : plain;
            int carry = rows[i].counted;

            reference(rows[i].cipher, rows[i].op, plain, expected, rows[i].len, rows[i].start);
            memcpy(next, rows[i].start, sizeof(next));
            if (rows[i].counted == -1)
                memcpy(next, ciphertext + rows[i].len - block, block);
            else
                for (int byte = 15; byte >= 0; byte--) {
                    carry += next[byte];
                    next[byte] = carry;
                    carry >>= 8;
                }
            memcpy(iv, rows[i].start, sizeof(iv));
            memcpy(out, plain, rows[i].len);
            check(name, operate(ses, rows[i].op, COP_FLAG_WRITE_IV, in_place ? out : plain, out,
                              rows[i].len, iv), 0);
            check_same(label("%s: output", name), out, expected, rows[i].len);
            check_same(label("%s: iv", name), iv, next, sizeof(iv));
            check_goes_on(label("%s: goes on from there", name), ses, rows[i].cipher, next);
            finish(ses);
        }
    }
}

static void ivs(void)
{
    uint8_t iv[16];
    __u32 cbc = make(CRYPTO_AES_CBC), ecb = make(CRYPTO_AES_ECB), ctr = make(CRYPTO_AES_CTR);

    chaining(CRYPTO_AES_CBC, "CBC");
    chaining(CRYPTO_AES_CTR, "CTR");
    chaining(CRYPTO_3DES_CBC, "3DES");
    chaining(CRYPTO_AES_ECB, "ECB");
    iv_after();
    written_ivs();

    memset(iv, 0x33, sizeof(iv));
    memcpy(expected, iv, sizeof(iv));
    check("an iv without WRITE_IV", encrypt(cbc, plain, out, 32, iv), 0);
    check_same("an iv without WRITE_IV is left alone", iv, expected, sizeof(iv));
    check("WRITE_IV without an iv",
          operate(cbc, COP_ENCRYPT, COP_FLAG_WRITE_IV, plain, out, 32, NULL), 0);
    check("WRITE_IV into read-only memory",
          operate(cbc, COP_ENCRYPT, COP_FLAG_WRITE_IV, plain, out, 32, frozen(iv, 16)), EFAULT);
    check("ECB WRITE_IV writes none",
          operate(ecb, COP_ENCRYPT, COP_FLAG_WRITE_IV, plain, out, 32, edge_end), 0);

    /* A partial block uses up its whole counter: the rest of the key stream is dropped. */
    reference(CRYPTO_AES_CTR, COP_ENCRYPT, plain, expected, 32, zeros);
    check("CTR 5 bytes", encrypt(ctr, plain, out, 5, zeros), 0);
    check_same("CTR 5 bytes: output", out, expected, 5);
    check("CTR goes on", encrypt(ctr, plain + 16, out, 16, NULL), 0);
    check_same("CTR goes on with the next counter", out, expected + 16, 16);

    /* After ff..ff comes 00..00. */
    memset(iv, 0xff, sizeof(iv));
    reference(CRYPTO_AES_CTR, COP_ENCRYPT, plain + 16, expected, 16, zeros);
    check("CTR over the end", encrypt(ctr, plain, out, 32, iv), 0);
    check_same("CTR over the end: output", out + 16, expected, 16);
    finish(cbc);
    finish(ecb);
    finish(ctr);
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    known_answers();
    unknown_numbers();
    struct_pointers();
    key_lengths();
    cipher_ids();
    session_arguments();
    finishing();
    sharing_between_files();
    sharing_with_a_child();
    crypt_arguments();
    crypt_flags();
    buffers(0);
    buffers(COP_FLAG_NO_ZC);
    overlaps();
#ifndef SMALL_ONLY
    large();
#endif
    ivs();
    return end();
}
