/* SPDX-License-Identifier: MIT */
/*
 * caller [OPTIONS] DEVICE: makes CIOCCRYPT ioctls and prints as JSON how long they took.
 *
 * Every caller is a process (or a thread) with open files, sessions and buffers of its own. What
 * the device computes is checked once before anything is measured. "microseconds" is of single
 * operations, "operations_per_second" of all callers together.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <crypto/cryptodev.h>

#define WARM_UP 20                 /* operations that are not measured, at most */
#define NO_SESSION 0xFFFFFFFFu     /* to end it is no error, and no work */

struct options {
    const char *device;
    long size, count, callers, files, sessions;
    int threads, hold, announce, bare;
    const struct algorithm *algorithm;
};

static const struct algorithm {
    const char *name;
    int cipher, key_size, iv_size;
} algorithms[] = {
    {"aes-128-cbc", CRYPTO_AES_CBC, 16, 16}, {"aes-256-cbc", CRYPTO_AES_CBC, 32, 16},
    {"aes-128-ctr", CRYPTO_AES_CTR, 16, 16}, {"3des-cbc", CRYPTO_3DES_CBC, 24, 8},
    {"null", CRYPTO_NULL, 0, 0},
};

struct caller {
    const struct options *options;
    uint32_t *nanoseconds; /* of each operation */
    int gate, done;        /* pipes: a byte for each caller to start; one of each that is ready */
    int *fds;
    struct session_op *sessions;
    uint8_t *src, *dst;
};

static void die(const char *what)
{
    fprintf(stderr, "caller: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* how: MAP_SHARED with the processes that are forked from now on, or MAP_PRIVATE. */
static void *allocate(size_t size, int how)
{
    void *memory = mmap(NULL, size ? size : 1, PROT_READ | PROT_WRITE,
                        how | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (memory == MAP_FAILED)
        die("mmap");
    return memory;
}

static uint64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void operate(const struct caller *caller, long number, int op, uint8_t *src, uint8_t *dst)
{
    const struct options *options = caller->options;
    long session = number % (options->files * options->sessions);
    static const uint8_t iv[EALG_MAX_BLOCK_LEN + 1] = "sixteen bytes IV";
    struct crypt_op crypt = {
        .ses = caller->sessions[session].ses, .op = op, .len = options->size,
        .src = src, .dst = dst, .iv = (uint8_t *)iv,
    };
    int fd = caller->fds[session % options->files];
    __u32 none = NO_SESSION;

    if (options->bare ? ioctl(fd, CIOCFSESSION, &none) == -1 : ioctl(fd, CIOCCRYPT, &crypt) == -1)
        die(options->bare ? "CIOCFSESSION" : "CIOCCRYPT");
}

static void open_sessions(struct caller *caller)
{
    const struct options *options = caller->options;
    const struct algorithm *algorithm = options->algorithm;
    uint8_t key[32] = "three different keys for DES, 32";

    caller->fds = calloc(options->files, sizeof(*caller->fds));
    caller->sessions = calloc(options->files * options->sessions, sizeof(*caller->sessions));
    if (caller->fds == NULL || caller->sessions == NULL)
        die("calloc");
    for (long i = 0; i < options->files; i++)
        if ((caller->fds[i] = open(options->device, O_RDWR | O_CLOEXEC)) == -1)
            die(options->device);
    for (long i = 0; i < options->files * options->sessions; i++) {
        struct session_op *session = &caller->sessions[i];

        *session = (struct session_op){.cipher = algorithm->cipher, .key = key};
        session->keylen = algorithm->key_size;
        if (!options->bare && ioctl(caller->fds[i % options->files], CIOCGSESSION, session) == -1)
            die("CIOCGSESSION");
    }
}

/* What was encrypted must be decrypted again. */
static void check(const struct caller *caller)
{
    long size = caller->options->size;
    uint8_t *back = allocate(size, MAP_PRIVATE);

    for (long i = 0; i < size; i++)
        caller->src[i] = i * 7 + (i >> 8);
    operate(caller, 0, COP_ENCRYPT, caller->src, caller->dst);
    operate(caller, 0, COP_DECRYPT, caller->dst, back);
    if (memcmp(caller->src, back, size) != 0) {
        errno = EBADMSG;
        die("the plaintext did not come back");
    }
    munmap(back, size);
}

static void *run_caller(void *argument)
{
    struct caller *caller = argument;
    const struct options *options = caller->options;
    uint64_t before, after;
    char byte = 0;

    caller->src = allocate(options->size, MAP_PRIVATE);
    caller->dst = allocate(options->size, MAP_PRIVATE);
    open_sessions(caller);
    if (!options->bare)
        check(caller);
    for (long i = 0; i < WARM_UP && i < options->count; i++)
        operate(caller, i, COP_ENCRYPT, caller->src, caller->dst);
    if (write(caller->done, &byte, 1) != 1 || read(caller->gate, &byte, 1) != 1)
        die("the other callers");
    before = now();
    for (long i = 0; i < options->count; i++) {
        operate(caller, i, COP_ENCRYPT, caller->src, caller->dst);
        after = now();
        caller->nanoseconds[i] = after - before < UINT32_MAX ? after - before : UINT32_MAX;
        before = after;
    }
    if (write(caller->done, &byte, 1) != 1 || (options->hold && read(0, &byte, 1) == -1))
        die("the end");
    return NULL;
}

/* Returns in every thread; in every process it is called only once. */
static void start_caller(struct caller *caller)
{
    pthread_t thread;
    pid_t pid;

    if (caller->options->threads) {
        errno = pthread_create(&thread, NULL, run_caller, caller);
        if (errno != 0)
            die("pthread_create");
        return;
    }
    pid = fork();
    if (pid == -1)
        die("fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* none waits for a gate that nobody opens */
        run_caller(caller);
        _exit(0);
    }
}

static int in_order(const void *first, const void *second)
{
    uint32_t a = *(const uint32_t *)first, b = *(const uint32_t *)second;

    return (a > b) - (a < b);
}

static double part(const uint32_t *sorted, long total, double share)
{
    long index = (long)(share * total);

    return sorted[index < total ? index : total - 1] / 1e3;
}

static void print(const struct options *options, uint32_t *nanoseconds, double seconds)
{
    long total = options->callers * options->count;

    qsort(nanoseconds, total, sizeof(*nanoseconds), in_order);
    printf("{\"cipher\": \"%s\", \"size\": %ld, \"callers\": %ld, \"files\": %ld, "
           "\"sessions\": %ld, \"count\": %ld, \"seconds\": %.6f, \"operations_per_second\": %.1f, "
           "\"microseconds\": {\"min\": %.2f, \"p50\": %.2f, \"p99\": %.2f, \"max\": %.2f}}\n",
           options->bare ? "bare" : options->algorithm->name, options->size, options->callers,
           options->files, options->sessions, options->count, seconds, total / seconds,
           part(nanoseconds, total, 0), part(nanoseconds, total, 0.5),
           part(nanoseconds, total, 0.99), part(nanoseconds, total, 1));
    fflush(stdout);
}

/* Ends with all of them, when one cannot go on: the pipe then ends early. */
static void wait_for(int done, long callers, const char *what)
{
    char byte;

    for (long i = 0; i < callers; i++)
        if (read(done, &byte, 1) != 1) {
            errno = ECANCELED;
            die(what);
        }
}

static int run(const struct options *options)
{
    long callers = options->callers, count = options->count;
    uint32_t *nanoseconds = allocate(callers * count * sizeof(*nanoseconds), MAP_SHARED);
    struct caller *all = calloc(callers, sizeof(*all));
    char *bytes = calloc(callers, 1);
    int gate[2], done[2], failed = 0, status;
    uint64_t start;
    double seconds;

    if (all == NULL || bytes == NULL || pipe(gate) == -1 || pipe(done) == -1)
        die("memory or pipes");
    for (long i = 0; i < callers; i++) {
        all[i] = (struct caller){options, nanoseconds + i * count, gate[0], done[1], 0, 0, 0, 0};
        start_caller(&all[i]);
    }
    if (!options->threads)
        close(done[1]);
    wait_for(done[0], callers, "starting");
    start = now();
    if (write(gate[1], bytes, callers) != callers)
        die("gate");
    if (options->announce && (puts("started") == EOF || fflush(stdout) == EOF))
        die("standard output");
    wait_for(done[0], callers, "running");
    seconds = (now() - start) / 1e9;
    print(options, nanoseconds, seconds);
    while (wait(&status) != -1)
        failed |= status != 0;
    if (options->threads && options->hold && read(0, bytes, 1) == -1)
        die("the end");
    return failed;
}

static void usage(void)
{
    fprintf(stderr, "usage: caller [--size BYTES] [--count OPERATIONS] [--callers N] [--threads] "
                    "[--files N] [--sessions N] [--announce] [--hold] [--cipher NAME | --bare] "
                    "DEVICE\n"
                    "  --files and --sessions: of each caller, and of each file, used in turn\n"
                    "  --announce: print \"started\" when all callers begin\n"
                    "  --hold: stay, with everything open, until standard input ends\n"
                    "  --bare: an ioctl without work\n  ciphers:");
    for (size_t i = 0; i < sizeof(algorithms) / sizeof(*algorithms); i++)
        fprintf(stderr, " %s", algorithms[i].name);
    fprintf(stderr, "\n");
    exit(2);
}

static const struct algorithm *find(const char *name)
{
    for (size_t i = 0; i < sizeof(algorithms) / sizeof(*algorithms); i++)
        if (strcmp(algorithms[i].name, name) == 0)
            return &algorithms[i];
    usage();
    return NULL;
}

static long number(const char *text, long least)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (*text == 0 || *end != 0 || value < least)
        usage();
    return value;
}

/* As many descriptors as the files take; opening them tells if that was not allowed. */
static void allow_files(long files)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < (rlim_t)files + 64)
        limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
    struct options options = {NULL, 256, 1000, 1, 1, 1, 0, 0, 0, 0, &algorithms[0]};
    static const struct option names[] = {
        {"size", 1, NULL, 's'},     {"count", 1, NULL, 'n'}, {"callers", 1, NULL, 'c'},
        {"threads", 0, NULL, 't'},  {"files", 1, NULL, 'f'}, {"sessions", 1, NULL, 'S'},
        {"cipher", 1, NULL, 'a'},   {"hold", 0, NULL, 'h'},  {"bare", 0, NULL, 'b'},
        {"announce", 0, NULL, 'A'}, {0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 's': options.size = number(optarg, 0); break;
        case 'n': options.count = number(optarg, 1); break;
        case 'c': options.callers = number(optarg, 1); break;
        case 'f': options.files = number(optarg, 1); break;
        case 'S': options.sessions = number(optarg, 1); break;
        case 'a': options.algorithm = find(optarg); break;
        case 't': options.threads = 1; break;
        case 'h': options.hold = 1; break;
        case 'A': options.announce = 1; break;
        case 'b': options.bare = 1; break;
        default: usage();
        }
    }
    if (optind != argc - 1)
        usage();
    options.device = argv[optind];
    allow_files(options.files * (options.threads ? options.callers : 1));
    return run(&options);
}
