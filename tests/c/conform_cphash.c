/* SPDX-License-Identifier: MIT */
/* conform_cphash DEVICE: CIOCCPHASH, which gives one session the hash under way in another. */
#include "check.h"

#include "algorithms.h"
#include "hashing.h"

#define UPDATE COP_FLAG_UPDATE
#define FINAL COP_FLAG_FINAL
#define RESET COP_FLAG_RESET

static int copy_hash(__u32 from, __u32 to)
{
    struct cphash_op op = {.src_ses = from, .dst_ses = to};
    return ioctl(device, CIOCCPHASH, &op);
}

static __u32 make_mac(const struct mac *m, const uint8_t *mackey)
{
    return MAKE(.mac = m->id, .mackeylen = 20, .mackey = BYTES(mackey));
}

/* Ends with these last letters; the digest must be that of text. */
static void check_ends(const char *name, __u32 ses, const char *last, const struct mac *m,
                       const char *text)
{
    uint8_t got[DIGEST_MAX], wanted[DIGEST_MAX];

    digest(m->id, key, 20, text, strlen(text), wanted);
    check(name, hash(ses, FINAL, last, strlen(last), got), 0);
    check_same(label("%s: digest", name), got, wanted, m->digest);
}

/* Of the same algorithm and key: both go on apart. */
static void same(const struct mac *m)
{
    __u32 first = make_mac(m, key), second = make_mac(m, key);

    check(label("%s, UPDATE", m->name), hash(first, UPDATE, "ab", 2, NULL), 0);
    check(label("%s, UPDATE, the other", m->name), hash(second, UPDATE, "xyz", 3, NULL), 0);
    check(label("%s, copy", m->name), copy_hash(first, second), 0);
    check(label("%s, the first goes on", m->name), hash(first, UPDATE, "c", 1, NULL), 0);
    check_ends(label("%s, the second ends", m->name), second, "d", m, "abd");
    check_ends(label("%s, the first ends", m->name), first, "", m, "abc");

    /* Nothing is under way: the copy begins anew, in ours as every hash after its end. */
    check(label("%s, UPDATE", m->name), hash(second, UPDATE, "xyz", 3, NULL), 0);
    check(label("%s, copy of an ended hash", m->name), copy_hash(first, second), 0);
    check_ends(label("%s, it begins anew", m->name), second, "e", m, "e");
    finish(second);

    second = make_mac(m, key);
    check(label("%s, UPDATE", m->name), hash(first, UPDATE, "xyz", 3, NULL), 0);
    check(label("%s, copy of a fresh session", m->name), copy_hash(second, first), 0);
    check_ends(label("%s, it begins anew too", m->name), first, "f", m, "f");

    /* The source may be finished at once. */
    check(label("%s, UPDATE", m->name), hash(first, UPDATE, "gh", 2, NULL), 0);
    check(label("%s, copy", m->name), copy_hash(first, second), 0);
    finish(first);
    check_ends(label("%s, the source is gone", m->name), second, "i", m, "ghi");
    finish(second);
}

/* The copy has what the first key began, and ends with its own. */
static void other_key(const struct mac *m)
{
    const uint8_t *a = key, *b = key + 200;
    __u32 first = make_mac(m, a), second = make_mac(m, b);
    uint8_t got[DIGEST_MAX], wanted[DIGEST_MAX];

    check(label("%s with key A, UPDATE", m->name), hash(first, UPDATE, "abcd", 4, NULL), 0);
    check(label("%s, copy from key A to key B", m->name), copy_hash(first, second), 0);
    check(label("%s, key B ends", m->name), hash(second, FINAL, "ef", 2, got), 0);
    hmac(m, a, 20, b, 20, "abcdef", 6, wanted);
    check_same(label("%s, inner pass with A, outer with B", m->name), got, wanted, m->digest);
    check(label("%s, key A ends", m->name), hash(first, FINAL, "ef", 2, got), 0);
    hmac(m, a, 20, a, 20, "abcdef", 6, wanted);
    check_same(label("%s, key A ends: digest", m->name), got, wanted, m->digest);
    check(label("%s, key B, at once", m->name), hash(second, 0, "abc", 3, got), 0);
    hmac(m, b, 20, b, 20, "abc", 3, wanted);
    check_same(label("%s, key B, at once: digest", m->name), got, wanted, m->digest);
    finish(first);
    finish(second);
}

/* Of different algorithms: allowed, whatever comes of it; and a RESET puts it right. */
static void different(void)
{
    static const struct {
        __u32 from, to;
    } rows[] = {{CRYPTO_SHA1, CRYPTO_SHA1_HMAC},     {CRYPTO_SHA1_HMAC, CRYPTO_SHA1},
                {CRYPTO_SHA1, CRYPTO_SHA2_256},      {CRYPTO_SHA2_256, CRYPTO_SHA1},
                {CRYPTO_MD5, CRYPTO_SHA2_512_HMAC},  {CRYPTO_SHA2_512_HMAC, CRYPTO_MD5}};

    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct mac *from = mac_of(rows[i].from), *to = mac_of(rows[i].to);
        const char *name = label("%s to %s", from->name, to->name);
        __u32 first = make_mac(from, key), second = make_mac(to, key);
        uint8_t got[DIGEST_MAX + 16], wanted[DIGEST_MAX];

        memset(got, 0x77, sizeof(got));
        check(label("%s, UPDATE", name), hash(first, UPDATE, "ab", 2, NULL), 0);
        check(name, copy_hash(first, second), 0);
        check(label("%s, FINAL", name), hash(second, FINAL, "c", 1, got), 0);
        check_all(label("%s, FINAL: no more", name), got + to->digest, 0x77, 16);
        check(label("%s, RESET", name), hash(second, RESET, "abc", 3, got), 0);
        digest(to->id, key, 20, "abc", 3, wanted);
        check_same(label("%s, RESET: digest", name), got, wanted, to->digest);
        check_ends(label("%s, the source goes on", name), first, "c", from, "abc");
        finish(first);
        finish(second);
    }
}

/* The inner hash of an HMAC is a plain one: the state fits, and is used as it is [source]. */
static void hash_to_hmac(void)
{
    const struct mac *plain_one = mac_of(CRYPTO_SHA1), *keyed = mac_of(CRYPTO_SHA1_HMAC);
    __u32 first = make_mac(plain_one, key), second = make_mac(keyed, key);
    uint8_t outer[84] = {0}, got[20], wanted[20];

    memcpy(outer, key, 20);
    for (int i = 0; i < 64; i++)
        outer[i] ^= 0x5c;
    digest(CRYPTO_SHA1, NULL, 0, "abc", 3, outer + 64);
    digest(CRYPTO_SHA1, NULL, 0, outer, sizeof(outer), wanted);
    check("SHA1 under way", hash(first, UPDATE, "ab", 2, NULL), 0);
    check("SHA1 to HMAC-SHA1", copy_hash(first, second), 0);
    check("HMAC-SHA1 ends", hash(second, FINAL, "c", 1, got), 0);
    check_same("the outer pass over a plain SHA1", got, wanted, 20);
    finish(first);
    finish(second);
}

static void with_ciphers(void)
{
    struct session_op both = {.cipher = CRYPTO_AES_CBC, .keylen = 16, .key = key,
                              .mac = CRYPTO_SHA1_HMAC, .mackeylen = 20, .mackey = key};
    __u32 first = make_session(both), second = make_session(both), hmac_only;
    const struct mac *m = mac_of(CRYPTO_SHA1_HMAC);

    hmac_only = make_mac(m, key);
    check("AES-CBC + HMAC-SHA1, UPDATE",
          CRYPT(.ses = first, .flags = UPDATE, .len = 32, .src = plain, .dst = out), 0);
    check("to another of that kind", copy_hash(first, second), 0);
    check("to one without a cipher", copy_hash(second, hmac_only), 0);
    digest(m->id, key, 20, plain, 32, expected);
    for (int i = 0; i < 3; i++) {
        __u32 ses = i == 0 ? first : i == 1 ? second : hmac_only;

        check(label("copy %d ends", i), hash(ses, FINAL, NULL, 0, out), 0);
        check_same(label("copy %d ends: digest", i), out, expected, 20);
    }
    finish(first);
    finish(second);
    finish(hmac_only);
}

static void errors(void)
{
    __u32 one = MAKE(.mac = CRYPTO_SHA1), two = MAKE(.mac = CRYPTO_SHA1);
    __u32 cipher = MAKE(.cipher = CRYPTO_AES_CBC, .keylen = 16, .key = key), unknown = one;
    __u32 gcm = MAKE(.cipher = CRYPTO_AES_GCM, .keylen = 16, .key = key, .mac = CRYPTO_SHA1_HMAC);
    struct cphash_op op = {.src_ses = one, .dst_ses = two};
    int other = open(path, O_RDWR);

    while (unknown == one || unknown == two || unknown == cipher || unknown == gcm)
        unknown = unknown * 69069 + 1;
    check("to itself", copy_hash(one, one), EDEADLK);
    check("an unknown one to itself", copy_hash(unknown, unknown), EDEADLK);
    check("a cipher to itself", copy_hash(cipher, cipher), EDEADLK);
    check("from an unknown one", copy_hash(unknown, one), ENOENT);
    check("to an unknown one", copy_hash(one, unknown), ENOENT);
    check("from an unknown one to a cipher", copy_hash(unknown, cipher), ENOENT);
    check("from a cipher", copy_hash(cipher, one), EINVAL);
    check("to a cipher", copy_hash(one, cipher), EINVAL);
    check("to GCM, whose mac does not count", copy_hash(one, gcm), EINVAL);
    check("from GCM, whose mac does not count", copy_hash(gcm, one), EINVAL);
    check("on another open file", ioctl(other, CIOCCPHASH, &op), ENOENT);
    check("from read-only memory", ioctl(device, CIOCCPHASH, frozen(&op, sizeof(op))), 0);
    finish(two);
    check("to a finished one", copy_hash(one, two), ENOENT);
    close(other);
    finish(one);
    finish(cipher);
    finish(gcm);
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    for (size_t i = 0; i < COUNT(macs); i++) {
        same(&macs[i]);
        if (macs[i].hash != 0)
            other_key(&macs[i]);
    }
    different();
    hash_to_hmac();
    with_ciphers();
    errors();
    return end();
}
