/* SPDX-License-Identifier: MIT */
/*
 * steady NODE AMOUNT KIND SEED
 *
 * Operations of one KIND (cipher, hmac, aead, hash) on random data, one after the other, each
 * compared with libcrypto's result, whatever happens to the device meanwhile. AMOUNT: so many
 * operations (1000), so many seconds (10s), or until SIGTERM (0). Prints "ready" when SIGTERM is
 * heeded and the device is open, and in the end one line of JSON. An error
 * is counted by its errno, and the work goes on: with the same open file, or with a new one when
 * the old one is of no more use. A hash in several steps may be lost (EIO); then it starts anew.
 * Exit status 0: no result was wrong.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <crypto/cryptodev.h>

#define LARGE (300 * 1024)
#define LONGEST (5 << 18) /* more than is done in one part */
#define TAG 16
#define ERRNOS 256
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *path;
static int device = -1;
static int chained; /* the session goes on after the last operation */
static int lost;    /* the last stream did not come to its end */
static volatile sig_atomic_t ending;
static uint64_t state;
static uint8_t key[32], plain[LONGEST + TAG], got[LONGEST + TAG], wanted[LONGEST + TAG];

static struct {
    long operations, wrong, lost, reopened, errors[ERRNOS];
    double longest;
} figures;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* xorshift64* */
static uint32_t random_number(uint32_t below)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)(state * 2685821657736338717u >> 32) % below;
}

static void random_bytes(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = random_number(256);
}

/* Mostly small, as of most programs; the content changes a little each time. */
static uint32_t random_data(uint32_t unit)
{
    static const uint32_t most[] = {64, 64, 1024, 4096, 4096, 65536, LARGE};
    uint32_t large = random_number(32) ? most[random_number(COUNT(most))] : LONGEST;
    uint32_t units = large / unit;
    uint32_t size = unit * (1 + random_number(units));

    random_bytes(plain + random_number(size - size % 16 + 1) / 2, size < 16 ? size : 16);
    random_bytes(plain, size < 16 ? size : 16);
    return size;
}

static void check(int right, const char *what, uint32_t size)
{
    if (right)
        return;
    figures.wrong++;
    fprintf(stderr, "operation %ld, %u bytes: wrong %s\n", figures.operations, size, what);
}

static void reopen(void)
{
    struct timespec pause = {.tv_nsec = 5000000};

    if (device != -1)
        close(device);
    while ((device = open(path, O_RDWR)) == -1 && !ending)
        nanosleep(&pause, NULL);
}

/* 0, or -1: the caller of this starts over, with a session of its own if the file is new. */
static int failed(int error)
{
    struct timespec pause = {.tv_nsec = 1000000};

    if (ending && error == EINTR)
        return -1;
    figures.errors[error < ERRNOS ? error : 0]++;
    if (error == ENOTCONN || error == ECONNABORTED || error == ENODEV || error == EBADF) {
        figures.reopened++;
        reopen();
        return -2;
    }
    nanosleep(&pause, NULL);
    return -1;
}

static int call(unsigned long request, void *op)
{
    double began = now(), took;
    int result = ioctl(device, request, op), error = errno;

    took = now() - began;
    if (took > figures.longest)
        figures.longest = took;
    figures.operations++;
    return result == 0 ? 0 : failed(error);
}

static int make(struct session_op *session)
{
    int result;

    chained = lost = 0;
    do
        result = call(CIOCGSESSION, session);
    while (result != 0 && !ending);
    return result;
}

/* ---- what libcrypto says ------------------------------------------------------------------- */

static void must(int done)
{
    if (done)
        return;
    fprintf(stderr, "libcrypto failed\n");
    exit(2);
}

static void cipher_wanted(const EVP_CIPHER *cipher, const uint8_t *iv, uint32_t size)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int length;

    must(EVP_EncryptInit_ex(context, cipher, NULL, key, iv));
    EVP_CIPHER_CTX_set_padding(context, 0);
    must(EVP_EncryptUpdate(context, wanted, &length, plain, size));
    EVP_CIPHER_CTX_free(context);
}

static void aead_wanted(const uint8_t *iv, const uint8_t *auth, uint32_t auth_len, uint32_t size)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int length;

    must(EVP_EncryptInit_ex(context, EVP_aes_128_gcm(), NULL, key, iv));
    if (auth_len)
        must(EVP_EncryptUpdate(context, NULL, &length, auth, auth_len));
    must(EVP_EncryptUpdate(context, wanted, &length, plain, size));
    must(EVP_EncryptFinal_ex(context, wanted + size, &length));
    must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG, wanted + size));
    EVP_CIPHER_CTX_free(context);
}

/* ---- the kinds: one round each; not 0 when the session is of no more use ------------------- */

static void next_iv(__u32 cipher, uint8_t *iv, uint32_t size)
{
    uint32_t blocks = (size + 15) / 16;

    if (cipher == CRYPTO_AES_CBC) {
        memcpy(iv, wanted + size - 16, 16);
        return;
    }
    for (int i = 15; i >= 0 && blocks; i--, blocks >>= 8) {
        blocks += iv[i];
        iv[i] = blocks;
    }
}

static int cipher_round(struct session_op *session)
{
    static uint8_t iv[16];
    int cbc = session->cipher == CRYPTO_AES_CBC, result;
    uint32_t size = random_data(cbc ? 16 : 1);
    uint8_t own_iv[16];
    uint8_t *source = random_number(2) ? got : plain; /* in place, or not */
    struct crypt_op op = {.ses = session->ses, .len = size, .src = source, .dst = got,
                          .iv = own_iv};

    if (chained && random_number(2)) {
        op.iv = NULL;
    } else {
        random_bytes(iv, 16);
        op.flags = random_number(2) ? COP_FLAG_WRITE_IV : 0;
    }
    memcpy(own_iv, iv, 16);
    cipher_wanted(cbc ? EVP_aes_128_cbc() : EVP_aes_128_ctr(), iv, size);
    if (source == got)
        memcpy(got, plain, size);
    chained = 0;
    if ((result = call(CIOCCRYPT, &op)) != 0)
        return result == -2;
    check(memcmp(got, wanted, size) == 0, op.iv ? "ciphertext" : "chained ciphertext", size);
    chained = 1;
    if (random_number(2)) {
        op = (struct crypt_op){.ses = session->ses, .op = COP_DECRYPT, .len = size, .src = got,
                               .dst = got, .iv = iv};
        chained = 0;
        if ((result = call(CIOCCRYPT, &op)) != 0)
            return result == -2;
        check(memcmp(got, plain, size) == 0, "plaintext", size);
        return 0;
    }
    next_iv(session->cipher, iv, size);
    check(!(op.flags & COP_FLAG_WRITE_IV) || memcmp(own_iv, iv, 16) == 0, "next IV", size);
    return 0;
}

static int hmac_round(struct session_op *session)
{
    uint32_t size = random_data(1);
    uint8_t digest[EVP_MAX_MD_SIZE], mac[EVP_MAX_MD_SIZE];
    struct crypt_op op = {.ses = session->ses, .len = size, .src = plain, .mac = mac};
    int result = call(CIOCCRYPT, &op);

    if (result != 0)
        return result == -2;
    must(HMAC(EVP_sha256(), key, sizeof(key), plain, size, digest, NULL) != NULL);
    check(memcmp(mac, digest, 32) == 0, "HMAC", size);
    return 0;
}

static int aead_round(struct session_op *session)
{
    uint32_t size = random_data(1), auth_len = random_number(64);
    uint8_t auth[64], iv[12];
    struct crypt_auth_op op = {.ses = session->ses, .len = size, .auth_src = auth,
                               .auth_len = auth_len, .src = plain, .dst = got, .iv = iv,
                               .iv_len = sizeof(iv), .tag_len = TAG};
    int result, spoil = random_number(4) == 0;

    random_bytes(auth, sizeof(auth));
    random_bytes(iv, sizeof(iv));
    aead_wanted(iv, auth, auth_len, size);
    if ((result = call(CIOCAUTHCRYPT, &op)) != 0)
        return result == -2;
    check(memcmp(got, wanted, size + TAG) == 0, "ciphertext or tag", size);
    op = (struct crypt_auth_op){.ses = session->ses, .op = COP_DECRYPT, .len = size + TAG,
                                .auth_src = auth, .auth_len = auth_len, .src = wanted,
                                .dst = got, .iv = iv, .iv_len = sizeof(iv), .tag_len = TAG};
    memset(got, 0, size);
    wanted[size + TAG - 1] ^= spoil;
    errno = 0;
    if ((result = call(CIOCAUTHCRYPT, &op)) == 0) {
        check(!spoil && memcmp(got, plain, size) == 0, "plaintext", size);
    } else if (spoil && figures.errors[EBADMSG]) {
        figures.errors[EBADMSG]--; /* as it should be */
    }
    return result == -2;
}

/* A stream of some parts. What is lost is begun again, with RESET or just so. */
static int hash_round(struct session_op *session)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    uint8_t digest[EVP_MAX_MD_SIZE], mac[EVP_MAX_MD_SIZE];
    struct crypt_op op = {.ses = session->ses, .mac = mac};
    int result = 0, done = 0, parts = 1 + random_number(6);

    must(EVP_DigestInit_ex(context, EVP_sha256(), NULL));
    for (int part = 0; part <= parts && result == 0; part++) {
        op.flags = part < parts ? COP_FLAG_UPDATE : COP_FLAG_FINAL;
        if (part == 0 && lost && random_number(2))
            op.flags |= COP_FLAG_RESET;
        op.len = part < parts ? random_data(1) : 0;
        op.src = plain;
        if (op.len)
            must(EVP_DigestUpdate(context, plain, op.len));
        result = call(CIOCCRYPT, &op);
        done += result == 0;
    }
    must(EVP_DigestFinal_ex(context, digest, NULL));
    EVP_MD_CTX_free(context);
    lost = result != 0;
    if (result == 0)
        check(memcmp(mac, digest, 32) == 0, "digest", op.len);
    else
        figures.lost += done > 0;
    return result == -2;
}

static const struct kind {
    const char *name;
    int (*round)(struct session_op *session);
    struct session_op session[2];
} kinds[] = {
    {"cipher", cipher_round,
     {{.cipher = CRYPTO_AES_CBC, .keylen = 16, .key = key},
      {.cipher = CRYPTO_AES_CTR, .keylen = 16, .key = key}}},
    {"hmac", hmac_round, {{.mac = CRYPTO_SHA2_256_HMAC, .mackeylen = 32, .mackey = key}}},
    {"aead", aead_round, {{.cipher = CRYPTO_AES_GCM, .keylen = 16, .key = key}}},
    {"hash", hash_round, {{.mac = CRYPTO_SHA2_256}}},
};

static int enough(long count, double end)
{
    return ending || (count && figures.operations >= count) || (end != 0 && now() >= end);
}

static void run(const struct kind *kind, long count, double end)
{
    int rounds_of_one = 64;

    while (!enough(count, end)) {
        struct session_op session = kind->session[0];
        int useless = 0;

        if (kind->session[1].cipher && random_number(2))
            session = kind->session[1];
        random_bytes(key, sizeof(key));
        if (make(&session) != 0)
            continue;
        for (int i = 0; i < rounds_of_one && !useless && !enough(count, end); i++)
            useless = kind->round(&session);
        if (!useless)
            call(CIOCFSESSION, &session.ses);
    }
}

static void report(const char *name, double seconds)
{
    const char *between = "";

    printf("{\"kind\": \"%s\", \"operations\": %ld, \"wrong\": %ld, \"lost\": %ld, "
           "\"reopened\": %ld, \"longest_ms\": %.3f, \"seconds\": %.3f, \"errors\": {",
           name, figures.operations, figures.wrong, figures.lost, figures.reopened,
           figures.longest * 1e3, seconds);
    for (int error = 0; error < ERRNOS; error++) {
        const char *text = error ? strerrorname_np(error) : "other";

        if (figures.errors[error] == 0)
            continue;
        printf("%s\"%s\": %ld", between, text ? text : "?", figures.errors[error]);
        between = ", ";
    }
    printf("}}\n");
}

static void end_it(int number)
{
    (void)number;
    ending = 1;
}

int main(int argc, char **argv)
{
    const struct kind *kind = NULL;
    struct sigaction action = {.sa_handler = end_it};
    char *unit = "";
    double began = now(), amount = 0;

    for (size_t i = 0; argc == 5 && i < COUNT(kinds); i++)
        if (strcmp(argv[3], kinds[i].name) == 0)
            kind = &kinds[i];
    if (kind != NULL)
        amount = strtod(argv[2], &unit);
    if (kind == NULL || amount < 0 || unit == argv[2] || (*unit != '\0' && strcmp(unit, "s"))) {
        fprintf(stderr, "usage: %s NODE COUNT|SECONDSs|0 cipher|hmac|aead|hash SEED\n", argv[0]);
        return 2;
    }
    path = argv[1];
    state = strtoull(argv[4], NULL, 0) * 2654435761u + 88172645463325252u;
    random_bytes(plain, sizeof(plain));
    sigaction(SIGTERM, &action, NULL);
    device = open(path, O_RDWR);
    if (device == -1)
        die(path);
    puts("ready");
    fflush(stdout);
    run(kind, *unit ? 0 : amount, *unit ? began + amount : 0);
    report(kind->name, now() - began);
    return figures.wrong != 0;
}
