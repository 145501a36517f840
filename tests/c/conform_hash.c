/* SPDX-License-Identifier: MIT */
/*
 * conform_hash DEVICE: hashes and HMACs at once and in steps, of any length and with any key, and
 * CIOCCPHASH.
 */
#include "check.h"

#include "algorithms.h"
#include "hash_vectors.h"
#include "hashing.h"

#define UPDATE COP_FLAG_UPDATE
#define FINAL COP_FLAG_FINAL
#define RESET COP_FLAG_RESET
#define NO_ZC COP_FLAG_NO_ZC
#define WRITE_IV COP_FLAG_WRITE_IV
#define UNTOUCHED 0x77
#define KEY_SIZE 20 /* of the HMACs here, but for those about keys */

static void published(void)
{
    for (size_t i = 0; i < COUNT(hash_vectors); i++) {
        const struct hash_vector *v = &hash_vectors[i];
        size_t size = strlen(v->text), digest_size = strlen(v->digest) / 2;
        uint8_t a_key[160], wanted[DIGEST_MAX], got[DIGEST_MAX];
        uint8_t *text = allocate(size * v->times + 1);
        __u32 ses = MAKE(.mac = v->mac, .mackeylen = from_hex(a_key, v->key), .mackey = a_key);
        int result = 0;

        for (__u32 j = 0; j < v->times; j++)
            memcpy(text + j * size, v->text, size);
        size *= v->times;
        from_hex(wanted, v->digest);
        check(v->name, hash(ses, 0, text, size, got), 0);
        check_same(label("%s: digest", v->name), got, wanted, digest_size);
        for (size_t done = 0; done < size && result == 0; done += 4093)
            result = hash(ses, UPDATE, text + done, size - done < 4093 ? size - done : 4093, NULL);
        check(label("%s, in pieces", v->name), result, 0);
        check(label("%s, final", v->name), hash(ses, FINAL, NULL, 0, got), 0);
        check_same(label("%s, in pieces: digest", v->name), got, wanted, digest_size);
        finish(ses);
        free(text);
    }
}

/* ---- steps --------------------------------------------------------------------------------- */

static const struct script {
    const char *name;
    struct {
        int flags;
        const char *data, *digest_of; /* NULL: no digest comes of it, and mac is not touched */
    } steps[8];
} scripts[] = {
    {"at once, again and again", {{0, "abc", "abc"}, {0, "abc", "abc"}, {0, "de", "de"}}},
    {"nothing", {{0, "", ""}, {0, "", ""}}},
    {"UPDATE and FINAL", {{UPDATE, "ab", NULL}, {UPDATE, "c", NULL}, {FINAL, "", "abc"}}},
    {"FINAL alone", {{FINAL, "", ""}}},
    {"FINAL with data", {{UPDATE, "a", NULL}, {FINAL, "bc", "abc"}}},
    {"UPDATE|FINAL with data", {{UPDATE, "a", NULL}, {UPDATE | FINAL, "bc", "abc"}}},
    {"UPDATE with nothing is FINAL", {{UPDATE, "ab", NULL}, {UPDATE, "", "ab"}}},
    {"UPDATE with nothing, at first", {{UPDATE, "", ""}}},
    {"no flags start", {{UPDATE, "xyz", NULL}, {0, "abc", "abc"}}},
    {"no flags start, nothing", {{UPDATE, "xyz", NULL}, {0, "", ""}}},
    {"UPDATE|RESET starts",
     {{UPDATE, "xyz", NULL}, {UPDATE | RESET, "a", NULL}, {UPDATE, "bc", NULL},
      {FINAL, "", "abc"}}},
    {"UPDATE|RESET with nothing", {{UPDATE, "xyz", NULL}, {UPDATE | RESET, "", ""}}},
    {"RESET starts", {{UPDATE, "xyz", NULL}, {RESET, "abc", "abc"}}},
    {"RESET|FINAL starts", {{UPDATE, "xyz", NULL}, {RESET | FINAL, "abc", "abc"}}},
    {"RESET|FINAL with nothing", {{UPDATE, "xyz", NULL}, {RESET | FINAL, "", ""}}},
    {"all three", {{UPDATE, "xyz", NULL}, {UPDATE | RESET | FINAL, "abc", "abc"}}},
    {"NO_ZC starts", {{NO_ZC, "abc", "abc"}, {NO_ZC, "de", "de"}, {NO_ZC, "", ""}}},
    {"WRITE_IV starts", {{WRITE_IV, "abc", "abc"}, {WRITE_IV, "de", "de"}, {WRITE_IV, "", ""}}},
    {"NO_ZC|WRITE_IV starts", {{UPDATE, "xyz", NULL}, {NO_ZC | WRITE_IV, "abc", "abc"}}},
    {"other bits start", {{UPDATE, "xyz", NULL}, {0x80, "abc", "abc"}, {0x8000, "de", "de"}}},
    {"NO_ZC beside",
     {{UPDATE | NO_ZC, "a", NULL}, {UPDATE, "b", NULL}, {FINAL | NO_ZC, "c", "abc"}}},
    {"UPDATE after FINAL",
     {{UPDATE, "a", NULL}, {FINAL, "", "a"}, {UPDATE, "b", NULL}, {FINAL, "", "b"}}},
    {"FINAL after FINAL",
     {{UPDATE, "a", NULL}, {FINAL, "", "a"}, {FINAL, "", ""}, {FINAL, "b", "b"}}},
    {"UPDATE|FINAL after FINAL", {{FINAL, "a", "a"}, {UPDATE | FINAL, "b", "b"}}},
    {"UPDATE after one without flags", {{0, "a", "a"}, {UPDATE, "b", NULL}, {FINAL, "c", "bc"}}},
    {"RESET after FINAL", {{FINAL, "a", "a"}, {UPDATE | RESET, "b", NULL}, {FINAL, "", "b"}}},
};

static void play(const struct mac *m, const struct script *script, __u32 ses)
{
    for (size_t i = 0; i < COUNT(script->steps) && script->steps[i].data != NULL; i++) {
        const char *name = label("%s, %s, step %zu", m->name, script->name, i + 1);
        const char *data = script->steps[i].data, *digest_of = script->steps[i].digest_of;
        uint8_t got[DIGEST_MAX + 16], wanted[DIGEST_MAX];

        memset(got, UNTOUCHED, sizeof(got));
        check(name, hash(ses, script->steps[i].flags, data[0] ? data : NULL, strlen(data), got), 0);
        if (digest_of != NULL) {
            digest(m->id, key, KEY_SIZE, digest_of, strlen(digest_of), wanted);
            check_same(label("%s: digest", name), got, wanted, m->digest);
        }
        check_all(label("%s: no more", name), got + (digest_of ? m->digest : 0), UNTOUCHED,
                  sizeof(got) - (digest_of ? m->digest : 0));
    }
}

static void steps(void)
{
    for (size_t i = 0; i < COUNT(macs); i++) {
        for (size_t j = 0; j < COUNT(scripts); j++) {
            __u32 ses = MAKE(.mac = macs[i].id, .mackeylen = KEY_SIZE, .mackey = key);

            play(&macs[i], &scripts[j], ses);
            finish(ses);
        }
    }
}

/* ---- src, dst and mac ---------------------------------------------------------------------- */

static void which_buffer(void)
{
    static const struct {
        const char *name;
        int op, flags;
        const char *digest_of;
    } rows[] = {
        {"ENCRYPT hashes src", COP_ENCRYPT, 0, "abc"},
        {"ENCRYPT hashes src, copied", COP_ENCRYPT, NO_ZC, "abc"},
        {"DECRYPT hashes dst", COP_DECRYPT, 0, "xyz"},
        /* src is copied to a buffer that stands for both */
        {"DECRYPT hashes src, copied", COP_DECRYPT, NO_ZC, "abc"},
    };

    for (size_t i = 0; i < COUNT(macs); i++) {
        __u32 ses = MAKE(.mac = macs[i].id, .mackeylen = KEY_SIZE, .mackey = key);

        for (size_t k = 0; k < 2 * COUNT(rows); k++) {
            size_t j = k % COUNT(rows);
            int fresh = k >= COUNT(rows);
            const char *name = label("%s, %s%s", macs[i].name, rows[j].name,
                                     fresh ? ", on a fresh session" : "");
            uint8_t src[4] = "abc", dst[4] = "xyz", got[DIGEST_MAX], wanted[DIGEST_MAX];

            if (fresh) {
                finish(ses);
                ses = MAKE(.mac = macs[i].id, .mackeylen = KEY_SIZE, .mackey = key);
            }
            digest(macs[i].id, key, KEY_SIZE, rows[j].digest_of, 3, wanted);
            check(name, CRYPT(.ses = ses, .op = rows[j].op, .flags = rows[j].flags, .src = src,
                              .dst = dst, .len = 3, .mac = got), 0);
            check_same(label("%s: digest", name), got, wanted, macs[i].digest);
            check_same(label("%s: dst", name), dst, "xyz", 4);
        }
        finish(ses);
    }
}

static void arguments(void)
{
    uint8_t *src = plain, *mac = out + 16;
    void *bad = edge_end, *one = (void *)1, *frozen_page = frozen(plain, PAGE);
    const struct {
        const char *name;
        int op, flags;
        void *src, *dst;
        __u32 len;
        void *mac, *iv;
        int wanted;
    } rows[] = {
        {"mac NULL", 0, 0, src, NULL, 32, NULL, NULL, EFAULT},
        {"mac 1", 0, 0, src, NULL, 32, one, NULL, EFAULT},
        {"mac in the kernel", 0, 0, src, NULL, 32, IN_THE_KERNEL, NULL, EFAULT},
        {"mac unmapped", 0, 0, src, NULL, 32, bad, NULL, EFAULT},
        {"mac half mapped", 0, 0, src, NULL, 32, edge_end - 10, NULL, EFAULT},
        {"mac just before the edge", 0, 0, src, NULL, 32, edge_end - 20, NULL, 0},
        {"mac read-only", 0, 0, src, NULL, 32, frozen_page, NULL, EFAULT},
        {"mac NULL, len 0", 0, 0, NULL, NULL, 0, NULL, NULL, EFAULT},
        {"UPDATE, mac NULL", 0, UPDATE, src, NULL, 32, NULL, NULL, 0},
        {"UPDATE, mac 1", 0, UPDATE, src, NULL, 32, one, NULL, 0},
        {"UPDATE, len 0, mac NULL", 0, UPDATE, src, NULL, 0, NULL, NULL, EFAULT},
        {"FINAL, mac NULL", 0, FINAL, src, NULL, 0, NULL, NULL, EFAULT},
        {"src NULL", 0, 0, NULL, NULL, 32, mac, NULL, EFAULT},
        {"src NULL, dst given", 0, 0, NULL, out + 4096, 32, mac, NULL, EFAULT},
        {"src NULL, copied", 0, NO_ZC, NULL, NULL, 32, mac, NULL, EFAULT},
        {"src 1", 0, 0, one, NULL, 32, mac, NULL, EFAULT},
        {"src unmapped", 0, 0, bad, NULL, 32, mac, NULL, EFAULT},
        {"src unmapped, copied", 0, NO_ZC, bad, NULL, 32, mac, NULL, EFAULT},
        {"src in the kernel", 0, 0, IN_THE_KERNEL, NULL, 32, mac, NULL, EFAULT},
        {"src half mapped", 0, 0, edge_end - 16, NULL, 32, mac, NULL, EFAULT},
        {"src = dst unmapped", 0, 0, bad, bad, 32, mac, NULL, EFAULT},
        {"src read-only", 0, 0, frozen_page, NULL, PAGE, mac, NULL, 0},
        {"UPDATE, src unmapped", 0, UPDATE, bad, NULL, 32, NULL, NULL, EFAULT},
        {"dst 1", 0, 0, src, one, 32, mac, NULL, EFAULT},
        {"dst unmapped", 0, 0, src, bad, 32, mac, NULL, EFAULT},
        /* dst must be there, though nothing is written to it: ours needs no more than that. */
        {"dst read-only", 0, 0, src, frozen_page, 32, mac, NULL, 0},
        {"dst 1, copied", 0, NO_ZC, src, one, 32, mac, NULL, 0},
        {"dst unmapped, copied", 0, NO_ZC, src, bad, 32, mac, NULL, 0},
        {"dst read-only, copied", 0, NO_ZC, src, frozen_page, 32, mac, NULL, 0},
        {"DECRYPT, dst NULL", 1, 0, src, NULL, 32, mac, NULL, EFAULT},
        {"DECRYPT, dst unmapped", 1, 0, src, bad, 32, mac, NULL, EFAULT},
        {"DECRYPT, dst NULL, copied", 1, NO_ZC, src, NULL, 32, mac, NULL, 0},
        {"DECRYPT, dst unmapped, copied", 1, NO_ZC, src, bad, 32, mac, NULL, 0},
        {"DECRYPT, src NULL", 1, 0, NULL, src, 32, mac, NULL, EFAULT},
        {"len 0, src 1", 0, 0, one, NULL, 0, mac, NULL, 0},
        {"len 0, dst 1", 0, 0, NULL, one, 0, mac, NULL, 0},
        {"len 0, DECRYPT", 1, 0, NULL, NULL, 0, mac, NULL, 0},
        {"op 2", 2, 0, src, NULL, 32, mac, NULL, EINVAL},
        {"op 0xffff", 0xffff, 0, src, NULL, 32, mac, NULL, EINVAL},
        {"op 2, src unmapped", 2, 0, bad, NULL, 32, mac, NULL, EINVAL},
        {"iv 1", 0, 0, src, NULL, 32, mac, one, 0},
        {"iv 1, WRITE_IV", 0, WRITE_IV, src, NULL, 32, mac, one, 0},
#ifndef SMALL_ONLY
        {"2 GiB", 0, 0, edge, NULL, 0x80000000, mac, NULL, EFAULT},
        {"4 GiB", 0, NO_ZC, edge, NULL, 0xfffffff0, mac, NULL, EFAULT},
#endif
    };
    uint8_t wanted[20], empty[20];
    __u32 ses = MAKE(.mac = CRYPTO_SHA1);

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct crypt_op op = operation(ses, rows[i].op, rows[i].flags, rows[i].src, rows[i].dst,
                                       rows[i].len, rows[i].iv);
        struct crypt_op before;

        memset(out, UNTOUCHED, 64);
        op.mac = rows[i].mac;
        before = op;
        check(label("SHA1, %s", rows[i].name), ioctl(device, CIOCCRYPT, &op), rows[i].wanted);
        check_same(label("SHA1, %s: struct", rows[i].name), &op, &before, sizeof(op));
        check_all(label("SHA1, %s: nothing beside", rows[i].name), out, UNTOUCHED, 16);
        if (rows[i].wanted == 0 && rows[i].mac == mac) {
            digest(CRYPTO_SHA1, NULL, 0, rows[i].src, rows[i].len, wanted);
            check_same(label("SHA1, %s: digest", rows[i].name), mac, wanted, 20);
        } else {
            check_all(label("SHA1, %s: no digest", rows[i].name), mac, UNTOUCHED, 20);
        }
    }

    /* A mistake in the middle: what came before stays. */
    digest(CRYPTO_SHA1, NULL, 0, "abc", 3, wanted);
    digest(CRYPTO_SHA1, NULL, 0, "", 0, empty);
    check("UPDATE", hash(ses, UPDATE | RESET, "abc", 3, NULL), 0);
    check("UPDATE with a bad src", hash(ses, UPDATE, bad, 3, NULL), EFAULT);
    check("UPDATE with a bad op", CRYPT(.ses = ses, .op = 2, .flags = UPDATE, .src = src, .len = 3),
          EINVAL);
    check("FINAL", hash(ses, FINAL, NULL, 0, mac), 0);
    check_same("FINAL: of what came before", mac, wanted, 20);
    check("UPDATE", hash(ses, UPDATE, "abc", 3, NULL), 0);
    check("no flags with a bad src", hash(ses, 0, bad, 3, mac), EFAULT);
    check("FINAL", hash(ses, FINAL, NULL, 0, mac), 0);
    check_same("FINAL: it had begun anew", mac, empty, 20);
    /* A digest that could not be delivered: it can be had again, or the hash has begun anew. */
    check("UPDATE", hash(ses, UPDATE, "abc", 3, NULL), 0);
    check("FINAL without mac", hash(ses, FINAL, NULL, 0, NULL), EFAULT);
    check("FINAL again", hash(ses, FINAL, NULL, 0, mac), 0);
    check_same("FINAL again: of all, or of nothing", mac,
               memcmp(mac, wanted, 20) == 0 ? wanted : empty, 20);
    check("RESET", hash(ses, RESET, "abc", 3, mac), 0);
    check_same("RESET: as new", mac, wanted, 20);
    finish(ses);
    check("on a finished session", hash(ses, 0, "abc", 3, mac), EINVAL);
}

/* ---- lengths and keys ---------------------------------------------------------------------- */

static void large(void)
{
#ifndef SMALL_ONLY
    const __u32 size = 2 * MIB + 13, piece = 65521;
    uint8_t *data = noise(size), at_once[DIGEST_MAX], wanted[DIGEST_MAX];

    for (size_t i = 0; i < COUNT(macs); i++) {
        const struct mac *m = &macs[i];
        __u32 ses = MAKE(.mac = m->id, .mackeylen = KEY_SIZE, .mackey = key);
        int result = 0;

        for (__u32 done = 0; done < size && result == 0; done += piece)
            result = hash(ses, UPDATE, data + done, size - done < piece ? size - done : piece,
                          NULL);
        check(label("%s, 2 MiB in pieces", m->name), result, 0);
        check(label("%s, 2 MiB in pieces, final", m->name), hash(ses, FINAL, NULL, 0, wanted), 0);
        for (int flags = 0; flags <= NO_ZC; flags += NO_ZC) {
            check(label("%s, 2 MiB at once, flags %d", m->name, flags),
                  hash(ses, flags, data, size, at_once), 0);
            check_same(label("%s, 2 MiB, flags %d: both are equal", m->name, flags), at_once,
                       wanted, m->digest);
        }
        check(label("%s, 2 MiB, the second half by FINAL", m->name),
              hash(ses, UPDATE, data, MIB, NULL), 0);
        check(label("%s, 2 MiB, the second half by FINAL", m->name),
              hash(ses, FINAL, data + MIB, size - MIB, at_once), 0);
        check_same(label("%s, 2 MiB, the second half by FINAL: digest", m->name), at_once, wanted,
                   m->digest);
        finish(ses);
    }
    free(data);
#endif
}

/* All lengths of keys for one of them, those about a block for all. One line for an HMAC. */
static void key_lengths(void)
{
    for (size_t i = 0; i < COUNT(macs); i++) {
        const struct mac *m = &macs[i];
        uint8_t got[DIGEST_MAX], wanted[DIGEST_MAX];
        int all = m->id == CRYPTO_SHA1_HMAC;
        __u32 size = 0;

        if (m->hash == 0)
            continue;
        for (; size <= CRYPTO_HMAC_MAX_KEY_LEN; size++) {
            if (!all && size % m->block > 1 && size % m->block < m->block - 1 && size % 37 != 0)
                continue;
            digest(m->id, key, size, plain, 100, got);
            hmac(m, key, size, key, size, plain, 100, wanted);
            if (memcmp(got, wanted, m->digest) != 0)
                break;
        }
        check_same(label("%s with keys of up to %u bytes", m->name, size), got, wanted, m->digest);
    }
}

/* ---- sharing ------------------------------------------------------------------------------- */

static int child_updates(__u32 *ses)
{
    return hash(*ses, UPDATE, "b", 1, NULL);
}

static void in_two_processes(void)
{
    uint8_t got[20], wanted[20];
    __u32 ses = MAKE(.mac = CRYPTO_SHA1);

    check("the parent begins", hash(ses, UPDATE, "a", 1, NULL), 0);
    check("a child goes on", in_child(child_updates, &ses), 0);
    check("the parent ends", hash(ses, FINAL, "c", 1, got), 0);
    digest(CRYPTO_SHA1, NULL, 0, "abc", 3, wanted);
    check_same("the digest is of all three", got, wanted, 20);
    finish(ses);
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    published();
    steps();
    which_buffer();
    arguments();
    large();
    key_lengths();
    in_two_processes();
    return end();
}
