/* SPDX-License-Identifier: MIT */
/*
 * conform_async DEVICE: CIOCASYNCCRYPT and CIOCASYNCFETCH: what is refused at once, what is told at
 * the fetch, the order of the answers, and how many may be under way.
 */
#include "check.h"

#include "hashing.h"
#include "submitting.h"

#define UNTOUCHED 0x77

/* ---- one job ------------------------------------------------------------------------------- */

static void nothing_done(void)
{
    struct crypt_op op;

    memset(&op, UNTOUCHED, sizeof(op));
    check_number("idle", poll_now(device), IDLE);
    check("fetch, idle", fetch(device, &op), EBUSY);
    check_all("fetch, idle: nothing written", &op, UNTOUCHED, sizeof(op));
    check("fetch at NULL, idle", fetch(device, NULL), EBUSY);
}

static void one_job(void)
{
    uint8_t dst[64], mac[32], iv[16] = {0}, wanted[64], next[16] = {0}, wanted_mac[20];
    __u32 ses = MAKE(.cipher = CRYPTO_AES_CBC, .keylen = 16, .key = key, .mac = CRYPTO_SHA1_HMAC,
                     .mackeylen = 20, .mackey = key);
    __u32 alone = MAKE(.cipher = CRYPTO_AES_CBC, .keylen = 16, .key = key);
    struct crypt_op op = {.ses = ses, .flags = COP_FLAG_WRITE_IV, .len = 64, .src = plain,
                          .dst = dst, .mac = mac, .iv = iv};
    struct crypt_op fetched;

    if (operate(alone, COP_ENCRYPT, COP_FLAG_WRITE_IV, plain, wanted, 64, next) != 0)
        unusable("the cipher alone");
    digest(CRYPTO_SHA1_HMAC, key, 20, plain, 64, wanted_mac);
    memset(mac, UNTOUCHED, sizeof(mac));
    memset(&fetched, UNTOUCHED, sizeof(fetched));
    check("submit", submit(device, &op), 0);
    check_number("it is done", poll_for(device, POLLIN, PATIENCE), POLLIN);
    check_number("it is done: all bits", poll_now(device), IDLE | DONE);
    check_same("before the fetch: dst is there", dst, wanted, 64);
    check_all("before the fetch: no mac", mac, UNTOUCHED, sizeof(mac));
    check_all("before the fetch: no iv", iv, 0, 16);
    check("fetch", fetch(device, &fetched), 0);
    check_same("fetch: the struct", &fetched, &op, sizeof(op));
    check_same("fetch: mac", mac, wanted_mac, 20);
    check_all("fetch: no more of mac", mac + 20, UNTOUCHED, 12);
    check_same("fetch: iv", iv, next, 16);
    check_number("idle again", poll_now(device), IDLE);
    check("fetch again", fetch(device, &fetched), EBUSY);
    finish(ses);
    finish(alone);
}

static void refused_at_once(void)
{
    __u32 ses = ctr_session();
    struct crypt_op op = operation(ses, COP_ENCRYPT, COP_FLAG_NO_ZC, plain, out, 64, zeros);

    check("submit with NO_ZC", submit(device, &op), EINVAL);
    op.flags = 0;
    op.ses = ~ses;
    check("submit with an unknown session", submit(device, &op), EINVAL);
    op.ses = ses;
    for (size_t i = 0; i < COUNT(bad_pointers); i++) {
        check(label("submit at %s", bad_pointers[i].name),
              submit(device, bad_pointers[i].pointer), EFAULT);
        op.iv = bad_pointers[i].pointer;
        if (op.iv != NULL)
            check(label("submit with iv at %s", bad_pointers[i].name), submit(device, &op), EFAULT);
    }
    check_number("nothing came of it", poll_for(device, POLLIN, 50), 0);
    check("nothing to fetch", fetch(device, &op), EBUSY);
    finish(ses);
}

static void told_at_fetch(void)
{
    __u32 cbc = MAKE(.cipher = CRYPTO_AES_CBC, .keylen = 16, .key = key);
    __u32 gcm = MAKE(.cipher = CRYPTO_AES_GCM, .keylen = 16, .key = key);
    __u32 sha1 = MAKE(.mac = CRYPTO_SHA1);
    void *frozen_page = frozen(plain, PAGE);
    const struct {
        const char *name;
        struct crypt_op op;
        int wanted;
    } rows[] = {
        {"op 2", operation(cbc, 2, 0, plain, out, 32, zeros), EINVAL},
        {"len 17", operation(cbc, 0, 0, plain, out, 17, zeros), EINVAL},
        {"src unmapped", operation(cbc, 0, 0, edge_end, out, 32, zeros), EFAULT},
        {"src NULL", operation(cbc, 0, 0, NULL, out, 32, zeros), EFAULT},
        {"dst unmapped", operation(cbc, 0, 0, plain, edge_end, 32, zeros), EFAULT},
        {"dst read-only", operation(cbc, 0, 0, plain, frozen_page, 32, zeros), EFAULT},
        {"mac NULL", operation(sha1, 0, 0, plain, NULL, 32, NULL), EFAULT},
        {"mac 1", {.ses = sha1, .len = 32, .src = plain, .mac = (void *)1}, EFAULT},
        {"mac unmapped", {.ses = sha1, .len = 32, .src = plain, .mac = edge_end}, EFAULT},
        {"iv read-only",
         operation(cbc, 0, COP_FLAG_WRITE_IV, plain, out, 32, frozen_page), EFAULT},
        {"GCM", operation(gcm, 0, 0, plain, out, 32, zeros), EINVAL},
        {"no data", operation(cbc, 0, 0, NULL, NULL, 0, zeros), 0},
        {"an ordinary one", operation(cbc, 0, 0, plain, out, 32, zeros), 0},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct crypt_op fetched;

        memset(&fetched, UNTOUCHED, sizeof(fetched));
        check(label("submit, %s", rows[i].name), submit(device, &rows[i].op), 0);
        check(label("fetch, %s", rows[i].name), fetch_when_done(device, &fetched), rows[i].wanted);
        if (rows[i].wanted == 0)
            check_same(label("fetch, %s: struct", rows[i].name), &fetched, &rows[i].op,
                       sizeof(fetched));
        else
            check_all(label("fetch, %s: struct", rows[i].name), &fetched, UNTOUCHED,
                      sizeof(fetched));
        check(label("fetch, %s, again", rows[i].name), fetch(device, &fetched), EBUSY);
    }
    finish(cbc);
    finish(gcm);
    finish(sha1);
}

/* A job whose struct cannot be delivered is lost. */
static void lost(void)
{
    __u32 ses = ctr_session();
    struct crypt_op op = operation(ses, COP_ENCRYPT, 0, plain, out, 64, zeros), fetched;
    void *nowhere[] = {NULL, edge_end, frozen(plain, PAGE)};

    for (size_t i = 0; i < COUNT(nowhere); i++) {
        check("submit", submit(device, &op), 0);
        poll_for(device, POLLIN, PATIENCE);
        check(label("fetch to nowhere, %zu", i), fetch(device, nowhere[i]), EFAULT);
        check(label("it is lost, %zu", i), fetch(device, &fetched), EBUSY);
        check_number(label("it is lost, %zu: idle", i), poll_now(device), IDLE);
    }
    finish(ses);
}

/* ---- many jobs ----------------------------------------------------------------------------- */

static void in_order(void)
{
    static const __u32 lens[] = {1024 * 1024, 16, 65536, 1, 300000, 0, 16};
    uint8_t *data = noise(MIB), *dsts[COUNT(lens)], *wanted = allocate(MIB);
    __u32 ses = ctr_session();

    for (size_t i = 0; i < COUNT(lens); i++) {
        struct crypt_op op;

        dsts[i] = allocate(MIB);
        op = operation(ses, COP_ENCRYPT, 0, data, dsts[i], lens[i], zeros);
        check(label("submit %u bytes", lens[i]), submit(device, &op), 0);
    }
    if (operate(ses, COP_ENCRYPT, 0, data, wanted, MIB, zeros) != 0)
        check("CIOCCRYPT while jobs are under way", -1, 0);
    for (size_t i = 0; i < COUNT(lens); i++) {
        struct crypt_op op = {0};

        check(label("fetch %u bytes", lens[i]), fetch_when_done(device, &op), 0);
        check_number(label("fetch %u bytes: first in, first out", lens[i]), op.dst == dsts[i], 1);
        check_same(label("fetch %u bytes: output", lens[i]), dsts[i], wanted, lens[i]);
        free(dsts[i]);
    }
    finish(ses);
    free(data);
    free(wanted);
}

/* Jobs of one session go on where the one before ended. */
static void chained(void)
{
    __u32 cbc = MAKE(.cipher = CRYPTO_AES_CBC, .keylen = 16, .key = key);
    __u32 sha1 = MAKE(.mac = CRYPTO_SHA1);
    uint8_t mac[20], wanted[20];
    struct crypt_op op;

    if (operate(cbc, COP_ENCRYPT, 0, plain, expected, 4096, zeros) != 0)
        unusable("CIOCCRYPT");
    for (__u32 i = 0; i < 4096; i += 256) {
        op = operation(cbc, COP_ENCRYPT, 0, plain + i, out + i, 256, i == 0 ? zeros : NULL);
        check(label("submit at %u", i), submit(device, &op), 0);
    }
    for (__u32 i = 0; i < 4096; i += 256)
        check(label("fetch at %u", i), fetch_when_done(device, &op), 0);
    check_same("jobs without an iv: one chain", out, expected, 4096);

    for (__u32 i = 0; i < 5; i++) {
        struct crypt_op step = {.ses = sha1, .flags = COP_FLAG_UPDATE, .len = 100,
                                .src = plain + 100 * i};

        if (i == 4) {
            step.flags = COP_FLAG_FINAL;
            step.mac = mac;
        }
        check(label("submit step %u of a hash", i), submit(device, &step), 0);
    }
    for (__u32 i = 0; i < 5; i++)
        check(label("fetch step %u of a hash", i), fetch_when_done(device, &op), 0);
    digest(CRYPTO_SHA1, NULL, 0, plain, 500, wanted);
    check_same("steps of a hash: digest", mac, wanted, 20);
    finish(cbc);
    finish(sha1);
}

static void capacity(int flags, const char *name)
{
    static uint8_t dsts[CAPACITY + 1][16];
    __u32 ses, other_ses;
    int fd = open_another(&ses), other = open_another(&other_ses), submitted = 0, right = 0;
    struct crypt_op op = operation(ses, COP_ENCRYPT, 0, plain, dsts[0], 16, zeros);

    fcntl(fd, F_SETFL, O_RDWR | flags);
    for (; submitted < CAPACITY; submitted++) {
        op.dst = dsts[submitted];
        if (submit(fd, &op) != 0)
            break;
    }
    check_number(label("%s, 64 jobs", name), submitted, CAPACITY);
    op.dst = dsts[CAPACITY];
    check(label("%s, the 65th", name), submit(fd, &op), EBUSY);
    check_number(label("%s, full", name), poll_for(fd, POLLIN | POLLOUT | IDLE | DONE, PATIENCE),
                 DONE);
    check(label("%s, the 65th, when some are done", name), submit(fd, &op), EBUSY);
    op.ses = other_ses;
    check(label("%s, another open file", name), submit(other, &op), 0);
    check(label("%s, another open file, fetch", name), fetch_when_done(other, &op), 0);
    check(label("%s, fetch one", name), fetch_when_done(fd, &op), 0);
    check_number(label("%s, fetch one: the first", name), op.dst == dsts[0], 1);
    check_number(label("%s, room for one", name), poll_for(fd, POLLOUT, 1000), POLLOUT);
    op.dst = dsts[CAPACITY];
    check(label("%s, the 65th, after that", name), submit(fd, &op), 0);
    check(label("%s, the 66th", name), submit(fd, &op), EBUSY);
    for (int i = 1; i <= CAPACITY; i++)
        right += fetch_when_done(fd, &op) == 0 && op.dst == dsts[i];
    check_number(label("%s, fetched in order", name), right, CAPACITY);
    check_number(label("%s, idle", name), poll_now(fd), IDLE);
    close(fd);
    close(other);
}

/* ---- whose jobs they are ------------------------------------------------------------------- */

static int child_fetches(__u32 *unused)
{
    struct crypt_op op;

    (void)unused;
    return fetch_when_done(device, &op);
}

static void other_descriptors(void)
{
    __u32 ses = ctr_session(), copy, unused;
    struct crypt_op op = operation(ses, COP_ENCRYPT, 0, plain, out, 64, zeros), fetched;
    int other = open_another(&unused), duplicate = dup(device);

    check("submit", submit(device, &op), 0);
    check_number("it is done", poll_for(device, POLLIN, PATIENCE), POLLIN);
    check_number("another open file: idle", poll_now(other), IDLE);
    check("another open file: nothing to fetch", fetch(other, &fetched), EBUSY);
    check_number("a duplicate: done", poll_now(duplicate), IDLE | DONE);
    check("a duplicate fetches", fetch(duplicate, &fetched), 0);
    check("a duplicate submits", submit(duplicate, &op), 0);
    check("the first fetches", fetch_when_done(device, &fetched), 0);
    if (ioctl(device, CRIOGET, &copy) == 0) {
        check("submit", submit(device, &op), 0);
        check("what CRIOGET gave fetches", fetch_when_done(copy, &fetched), 0);
        close(copy);
    }
    check("submit", submit(device, &op), 0);
    check("a child fetches", in_child(child_fetches, &unused), 0);
    check("that was all", fetch(device, &fetched), EBUSY);
    close(other);
    close(duplicate);
    finish(ses);
}

static void ends(void)
{
    uint8_t *data = noise(MIB), *dst = allocate(8 * MIB);
    __u32 ses;
    int fd = open_another(&ses), answered = 0;
    struct crypt_op op;

    for (int i = 0; i < 8; i++) {
        op = operation(ses, COP_ENCRYPT, 0, data, dst + i * MIB, MIB, zeros);
        check(label("submit 1 MiB, %d", i), submit(fd, &op), 0);
    }
    check("finish the session of queued jobs", finish_on(fd, ses), 0);
    for (int i = 0; i < 8; i++)
        answered += fetch_when_done(fd, &op) == 0 || errno == EINVAL;
    check_number("all are answered, done or without a session", answered, 8);
    close(fd);

    fd = open_another(&ses);
    for (int i = 0; i < 8; i++) {
        op = operation(ses, COP_ENCRYPT, 0, data, dst + i * MIB, MIB, zeros);
        check(label("submit 1 MiB, %d", i), submit(fd, &op), 0);
    }
    check("close with queued jobs", close(fd), 0);
    free(data);
    free(dst);
}

static void numbers_of_the_other_width(void)
{
    static uint8_t argument[64];
    static const unsigned long others[] = {
#if UINTPTR_MAX == UINT32_MAX
        0x4030636e, 0x8030636f,
#else
        0x401c636b, 0x801c636c, 0x401c636e, 0x801c636f,
#endif
    };

    for (size_t i = 0; i < COUNT(others); i++)
        check(label("number 0x%lx", others[i]), ioctl(device, others[i], argument), EINVAL);
}

static void all(void)
{
    nothing_done();
    one_job();
    refused_at_once();
    told_at_fetch();
    lost();
    in_order();
    chained();
    capacity(0, "blocking");
    capacity(O_NONBLOCK, "not blocking");
    other_descriptors();
    ends();
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    with_all_numbers(all);
    numbers_of_the_other_width();
    return end();
}
