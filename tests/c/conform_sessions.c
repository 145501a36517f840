/* SPDX-License-Identifier: MIT */
/*
 * conform_sessions DEVICE: which sessions can be made, with which keys; what CIOCGSESSINFO tells of
 * them; and to whom they belong.
 */
#include "check.h"

#include "algorithms.h"

#define LAST_ID 112 /* a few beyond CRYPTO_ALGORITHM_ALL */

/* ---- algorithms and keys ------------------------------------------------------------------- */

/* One line for an identifier: keys of 0 to 64 bytes, and longer ones. */
static void cipher_scan(void)
{
    static const __u32 longer[] = {65, 128, 512, 0x7fffffff, 0xffffffff};

    for (__u32 id = 1; id <= LAST_ID; id++) {
        const struct cipher *c = cipher_of(id);
        __u32 keylen = 0;
        int result = 0, wanted = 0;

        for (size_t i = 0; i <= 64 + COUNT(longer); i++) {
            keylen = i <= 64 ? i : longer[i - 65];
            wanted = c != NULL && may_have_key(c, keylen) ? 0 : EINVAL;
            result = TRY_SESSION(.cipher = id, .keylen = keylen, .key = key);
            if (result != (wanted ? -1 : 0) || (result == -1 && errno != wanted))
                break;
        }
        check(label("cipher %u, keylens up to %u", id, keylen), result, wanted);
    }
}

static void mac_scan(void)
{
    for (__u32 id = 1; id <= LAST_ID; id++) {
        int wanted = mac_of(id) != NULL ? 0 : EINVAL;

        check(label("mac %u", id), TRY_SESSION(.mac = id, .mackeylen = 16, .mackey = key), wanted);
        check(label("mac %u without a key", id), TRY_SESSION(.mac = id), wanted);
        check(label("mac %u with AES-CBC", id),
              TRY_SESSION(.cipher = CRYPTO_AES_CBC, .keylen = 16, .key = key, .mac = id,
                          .mackeylen = 16, .mackey = key),
              wanted);
        check(label("mac %u, keylen and key ignored", id),
              TRY_SESSION(.mac = id, .keylen = 999, .key = NULL), wanted);
        check(label("mac %u, keylen ignored, key bad", id),
              TRY_SESSION(.mac = id, .keylen = 16, .key = (void *)1), wanted);
    }
}

static void mac_keys(void)
{
    static const __u32 good[] = {0, 1, 4, 13, 14, 63, 64, 65, 127, 128, 129, 511, 512};
    static const __u32 bad[] = {513, 1024, 0x7fffffff, 0xffffffff};

    for (size_t i = 0; i < COUNT(macs); i++) {
        const struct mac *m = &macs[i];

        for (size_t j = 0; j < COUNT(good); j++)
            check(label("%s, mackeylen %u", m->name, good[j]),
                  TRY_SESSION(.mac = m->id, .mackeylen = good[j], .mackey = key), 0);
        for (size_t j = 0; j < COUNT(bad); j++) {
            check(label("%s, mackeylen %u", m->name, bad[j]),
                  TRY_SESSION(.mac = m->id, .mackeylen = bad[j], .mackey = key), EINVAL);
            check(label("%s, mackeylen %u, mackey 1", m->name, bad[j]),
                  TRY_SESSION(.mac = m->id, .mackeylen = bad[j], .mackey = (void *)1), EINVAL);
        }
        check(label("%s, mackeylen 0, mackey 1", m->name),
              TRY_SESSION(.mac = m->id, .mackeylen = 0, .mackey = (void *)1), 0);
        for (size_t j = 1; j < COUNT(bad_pointers); j++)
            check(label("%s, mackey at %s", m->name, bad_pointers[j].name),
                  TRY_SESSION(.mac = m->id, .mackeylen = 20, .mackey = bad_pointers[j].pointer),
                  EFAULT);
        /* The driver takes what lies on its stack for the key; a plain hash has none. */
        check(label("%s, mackey NULL", m->name), TRY_SESSION(.mac = m->id, .mackeylen = 20),
              m->hash != 0 ? EFAULT : 0);
        check(label("%s, mackey half mapped", m->name),
              TRY_SESSION(.mac = m->id, .mackeylen = 20, .mackey = edge_end - 10), EFAULT);
        check(label("%s, mackey just before the edge", m->name),
              TRY_SESSION(.mac = m->id, .mackeylen = 20, .mackey = edge_end - 20), 0);
    }
}

#define CBC_SHA1(...)                                                                              \
    TRY_SESSION(.cipher = CRYPTO_AES_CBC, .mac = CRYPTO_SHA1_HMAC, .keylen = 16, .key = key,       \
                __VA_ARGS__)

/* Which of two mistakes is told. */
static void order_of_checks(void)
{
    check("AES-CBC + HMAC-SHA1", CBC_SHA1(.mackeylen = 20, .mackey = key), 0);
    check("AES-CBC + SHA1",
          TRY_SESSION(.cipher = CRYPTO_AES_CBC, .mac = CRYPTO_SHA1, .keylen = 16, .key = key), 0);
    check("AES-CBC + HMAC-SHA1, mackeylen 513", CBC_SHA1(.mackeylen = 513, .mackey = key), EINVAL);
    check("AES-CBC + HMAC-SHA1, mackey 1", CBC_SHA1(.mackeylen = 20, .mackey = (void *)1), EFAULT);
    check("keylen 17, mackey 1: the key first",
          TRY_SESSION(.cipher = CRYPTO_AES_CBC, .mac = CRYPTO_SHA1_HMAC, .keylen = 17, .key = key,
                      .mackeylen = 20, .mackey = (void *)1),
          EINVAL);
    check("key 1, mackeylen 513: the key first",
          TRY_SESSION(.cipher = CRYPTO_AES_CBC, .mac = CRYPTO_SHA1_HMAC, .keylen = 16,
                      .key = (void *)1, .mackeylen = 513, .mackey = key),
          EFAULT);
    check("keylen 65, mackey 1",
          TRY_SESSION(.cipher = CRYPTO_AES_CBC, .mac = CRYPTO_SHA1_HMAC, .keylen = 65, .key = key,
                      .mackeylen = 20, .mackey = (void *)1),
          EINVAL);
    check("mac 9999, mackey 1", TRY_SESSION(.mac = 9999, .mackeylen = 20, .mackey = (void *)1),
          EINVAL);
    check("mac 9999, key 1",
          TRY_SESSION(.cipher = CRYPTO_AES_CBC, .mac = 9999, .keylen = 16, .key = (void *)1),
          EINVAL);
    check("cipher 9999 with a mac", TRY_SESSION(.cipher = 9999, .mac = CRYPTO_SHA1), EINVAL);
}

static void weak_keys(void)
{
    static uint8_t ones[64], weak[8] = {1, 1, 1, 1, 1, 1, 1, 1};

    check("a weak key of DES",
          TRY_SESSION(.cipher = CRYPTO_DES_CBC, .keylen = 8, .key = weak), 0);
    check("3DES with K1 = K2 = K3",
          TRY_SESSION(.cipher = CRYPTO_3DES_CBC, .keylen = 24, .key = ones), 0);
    for (__u32 keylen = 32; keylen <= 64; keylen += 16)
        check(label("XTS, keylen %u, with equal keys", keylen),
              TRY_SESSION(.cipher = CRYPTO_AES_XTS, .keylen = keylen, .key = ones), 0);
}

/* Only ses is written, and nothing when it fails. */
static void what_is_written(void)
{
    static const struct {
        const char *name;
        __u32 cipher, mac, keylen, mackeylen;
        int wanted;
    } rows[] = {
        {"AES-CBC + HMAC-SHA1", CRYPTO_AES_CBC, CRYPTO_SHA1_HMAC, 16, 20, 0},
        {"SHA1", 0, CRYPTO_SHA1, 999, 16, 0},
        {"GCM + HMAC-SHA1", CRYPTO_AES_GCM, CRYPTO_SHA1_HMAC, 16, 0, 0},
        {"mackeylen 513", CRYPTO_AES_CBC, CRYPTO_SHA1_HMAC, 16, 513, EINVAL},
        {"GCM mackeylen 20", CRYPTO_AES_GCM, 0, 16, 20, EINVAL},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct session_op session, before;

        memset(&session, 0xa5, sizeof(session));
        session.cipher = rows[i].cipher;
        session.mac = rows[i].mac;
        session.keylen = rows[i].keylen;
        session.mackeylen = rows[i].mackeylen;
        session.key = session.mackey = key;
        before = session;
        check(rows[i].name, ioctl(device, CIOCGSESSION, &session), rows[i].wanted);
        if (rows[i].wanted == 0) {
            finish(session.ses);
            session.ses = before.ses;
        }
        check_same(label("%s: the rest of the struct", rows[i].name), &session, &before,
                   sizeof(session));
    }
}

/* ---- AEAD keys ----------------------------------------------------------------------------- */

static void seal(__u32 ses, uint8_t result[48])
{
    uint8_t iv[16] = {3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

    memset(result, 0, 48);
    if (AUTHCRYPT(.ses = ses, .len = 32, .src = plain, .dst = result, .iv = iv) != 0)
        check("CIOCAUTHCRYPT", -1, 0);
}

/* With a key for a mac, the key of the cipher is a blob of both: that of the kernel's authenc. */
static void composite_key(__u32 cipher, __u32 mac, __u32 keylen, __u32 mackeylen)
{
    uint8_t blob[64] = {8, 0, 1, 0, 0, 0, 0, keylen}; /* struct rtattr; keylen, big endian */
    const uint8_t *mackey = key + 100;
    struct session_op composite = {.cipher = cipher, .mac = mac, .keylen = keylen, .key = key,
                                   .mackeylen = mackeylen, .mackey = BYTES(mackey)};
    const char *name = label("%s, mac %u, keylen %u, mackeylen %u", cipher_of(cipher)->name, mac,
                             keylen, mackeylen);
    uint8_t got[48], wanted[48];
    __u32 size = 8 + keylen + mackeylen, reference;
    int possible = size == 16 || size == 24 || size == 32;

    check(name, ioctl(device, CIOCGSESSION, &composite), possible ? 0 : EINVAL);
    if (!possible)
        return;
    memcpy(blob + 8, mackey, mackeylen);
    memcpy(blob + 8 + mackeylen, key, keylen);
    reference = MAKE(.cipher = cipher, .keylen = size, .key = blob);
    seal(composite.ses, got);
    seal(reference, wanted);
    check_same(label("%s: output", name), got, wanted, 48);
    finish(composite.ses);
    finish(reference);
}

static void aead_keys(void)
{
    static const struct {
        __u32 keylen, mackeylen;
    } sizes[] = {{16, 8}, {0, 8}, {8, 8},  {8, 0},  {1, 7}, {0, 24},
                 {0, 16}, {8, 16}, {16, 20}, {16, 1}, {24, 8}, {16, 16}};

    for (__u32 cipher = CRYPTO_AES_GCM; cipher <= CRYPTO_AES_CCM; cipher++) {
        const char *name = cipher_of(cipher)->name;

        for (size_t i = 0; i < COUNT(sizes); i++) {
            if (sizes[i].mackeylen == 0)
                continue;
            composite_key(cipher, 0, sizes[i].keylen, sizes[i].mackeylen);
            composite_key(cipher, CRYPTO_SHA1_HMAC, sizes[i].keylen, sizes[i].mackeylen);
        }
        check(label("%s + HMAC-SHA1 without a mackey", name),
              TRY_SESSION(.cipher = cipher, .mac = CRYPTO_SHA1_HMAC, .keylen = 16, .key = key), 0);
        check(label("%s + mac 9999", name),
              TRY_SESSION(.cipher = cipher, .mac = 9999, .keylen = 16, .key = key), EINVAL);
        check(label("%s, mackeylen 8, mackey NULL", name),
              TRY_SESSION(.cipher = cipher, .keylen = 16, .key = key, .mackeylen = 8), EFAULT);
        check(label("%s, mackeylen 8, mackey 1", name),
              TRY_SESSION(.cipher = cipher, .keylen = 16, .key = key, .mackeylen = 8,
                          .mackey = (void *)1),
              EFAULT);
        check(label("%s, mackeylen 20, mackey NULL", name),
              TRY_SESSION(.cipher = cipher, .keylen = 16, .key = key, .mackeylen = 20), EFAULT);
        check(label("%s, mackeylen 513", name),
              TRY_SESSION(.cipher = cipher, .keylen = 16, .key = key, .mackeylen = 513,
                          .mackey = key),
              EINVAL);
        check(label("%s, mackeylen 513, key NULL", name),
              TRY_SESSION(.cipher = cipher, .keylen = 16, .mackeylen = 513, .mackey = key), EINVAL);
        check(label("%s, key NULL", name), TRY_SESSION(.cipher = cipher, .keylen = 16), EFAULT);
    }
}

/* ---- CIOCGSESSINFO ------------------------------------------------------------------------- */

#define BEFORE 0x5a

/* The name with its NUL, and after it what the caller had there; NULL: nothing but that. */
static void check_name(const char *name, const char *got, const char *wanted)
{
    char field[CRYPTODEV_MAX_ALG_NAME];

    memset(field, BEFORE, sizeof(field));
    if (wanted != NULL)
        strcpy(field, wanted);
    check_same(name, got, field, sizeof(field));
}

static void check_driver_name(const char *name, const char *got, int is_there)
{
    const char *end = memchr(got, 0, CRYPTODEV_MAX_ALG_NAME);
    size_t after = end != NULL ? (size_t)(end - got) + 1 : 0;

    if (is_there)
        check_number(label("%s: a text", name), end != NULL && end != got, 1);
    check_all(label("%s: after it", name), got + after, BEFORE, CRYPTODEV_MAX_ALG_NAME - after);
}

static void check_info(const char *name, struct session_op session, const char *cipher_name,
                       const char *hash_name)
{
    struct session_info_op info;

    if (ioctl(device, CIOCGSESSION, &session) != 0) {
        check(name, -1, 0);
        return;
    }
    memset(&info, BEFORE, sizeof(info));
    info.ses = session.ses;
    check(name, ioctl(device, CIOCGSESSINFO, &info), 0);
    check_number(label("%s: ses", name), info.ses, session.ses);
    check_name(label("%s: cipher", name), info.cipher_info.cra_name, cipher_name);
    check_driver_name(label("%s: cipher driver", name), info.cipher_info.cra_driver_name,
                      cipher_name != NULL);
    check_name(label("%s: hash", name), info.hash_info.cra_name, hash_name);
    check_driver_name(label("%s: hash driver", name), info.hash_info.cra_driver_name,
                      hash_name != NULL);
    check_number(label("%s: alignmask", name), info.alignmask, 0);
    check_number(label("%s: flags", name), info.flags, 0);
    finish(session.ses);
}

static void infos(void)
{
    struct session_info_op info, before;
    struct session_op cbc = {.cipher = CRYPTO_AES_CBC, .keylen = 16, .key = key};
    struct session_op gcm = {.cipher = CRYPTO_AES_GCM, .keylen = 16, .key = key};

    for (size_t i = 0; i < COUNT(ciphers); i++)
        check_info(label("info of %s", ciphers[i].name),
                   (struct session_op){.cipher = ciphers[i].id, .keylen = ciphers[i].key_last,
                                       .key = key},
                   ciphers[i].kernel_name, NULL);
    for (size_t i = 0; i < COUNT(macs); i++) {
        check_info(label("info of %s", macs[i].name), (struct session_op){.mac = macs[i].id}, NULL,
                   macs[i].kernel_name);
        cbc.mac = macs[i].id;
        check_info(label("info of AES-CBC + %s", macs[i].name), cbc, "cbc(aes)",
                   macs[i].kernel_name);
    }
    gcm.mac = CRYPTO_SHA1_HMAC;
    check_info("info of AES-GCM + HMAC-SHA1", gcm, "gcm(aes)", NULL);

    memset(&info, BEFORE, sizeof(info));
    info.ses = ~make_session(gcm);
    before = info;
    check("info of an unknown session", ioctl(device, CIOCGSESSINFO, &info), EINVAL);
    check_same("info of an unknown session: nothing written", &info, &before, sizeof(info));
    info.ses = make_session(gcm);
    check("info in read-only memory", ioctl(device, CIOCGSESSINFO, frozen(&info, sizeof(info))),
          EFAULT);
    finish(info.ses);
    check("info of a finished session", ioctl(device, CIOCGSESSINFO, &info), EINVAL);
}

/* ---- to whom they belong ------------------------------------------------------------------- */

static void another_file(void)
{
    struct session_info_op info = {.ses = MAKE(.mac = CRYPTO_SHA1)};
    struct cphash_op copy = {.src_ses = info.ses, .dst_ses = MAKE(.mac = CRYPTO_SHA1)};
    struct crypt_auth_op auth = {.ses = info.ses, .src = plain, .dst = out, .len = 16};
    struct crypt_op op = {.ses = info.ses, .src = plain, .len = 16, .mac = out};
    int other = open(path, O_RDWR);

    check("on another open file, CIOCGSESSINFO", ioctl(other, CIOCGSESSINFO, &info), EINVAL);
    check("on another open file, CIOCCRYPT", ioctl(other, CIOCCRYPT, &op), EINVAL);
    check("on another open file, CIOCAUTHCRYPT", ioctl(other, CIOCAUTHCRYPT, &auth), EINVAL);
    check("on another open file, CIOCCPHASH", ioctl(other, CIOCCPHASH, &copy), ENOENT);
    check("on another open file, CIOCFSESSION", finish_on(other, info.ses), 0);
    check("that changed nothing", ioctl(device, CIOCCRYPT, &op), 0);
    close(other);
    finish(copy.src_ses);
    finish(copy.dst_ses);
}

static void many_sessions(void)
{
    enum { SESSIONS = 2000 };
    int file = open(path, O_RDWR), made = 0, worked = 0;
    static __u32 ses[SESSIONS];

    for (int i = 0; i < SESSIONS; i++)
        made += make_on(file, CRYPTO_AES_CTR, 16, key, &ses[i]) == 0;
    for (int i = 0; i < SESSIONS; i++) {
        struct crypt_op op = operation(ses[i], COP_ENCRYPT, 0, plain, out, 16, zeros);
        worked += ioctl(file, CIOCCRYPT, &op) == 0;
    }
    check_number("2000 sessions on an open file", made, SESSIONS);
    check_number("2000 sessions on an open file, all of them work", worked, SESSIONS);
    check("2000 sessions, closed with the file", close(file), 0);
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    cipher_scan();
    mac_scan();
    mac_keys();
    order_of_checks();
    weak_keys();
    what_is_written();
    aead_keys();
    infos();
    another_file();
    many_sessions();
    return end();
}
