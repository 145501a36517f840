/* SPDX-License-Identifier: MIT */
/*
 * hammer DEVICE CALLERS OPERATIONS SIZE [null]
 *
 * CALLERS processes at once, each with its own open file, session and key, make OPERATIONS ioctls
 * each (CIOCCRYPT, encrypting and decrypting in turn) on SIZE bytes. Every pair must give back its
 * plaintext; with "null", for an engine that only copies, the ciphertext must equal it as well, and
 * without it must not. Exit status 0: everything was right.
 */
#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <crypto/cryptodev.h>

#define KEY_SIZE 16
#define BLOCK_SIZE 16

struct job {
    const char *device;
    long callers, operations, size;
    int null;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void fill(uint8_t *buffer, size_t size, uint32_t seed)
{
    uint32_t state = seed * 2654435761u + 1;

    for (size_t i = 0; i < size; i++) {
        state = state * 1664525u + 1013904223u;
        buffer[i] = state >> 24;
    }
}

static void operate(int fd, __u32 ses, int op, uint8_t *iv, uint8_t *src, uint8_t *dst, __u32 len)
{
    struct crypt_op crypt = {.ses = ses, .op = op, .len = len, .src = src, .dst = dst, .iv = iv};

    if (ioctl(fd, CIOCCRYPT, &crypt) != 0)
        die("CIOCCRYPT");
}

static void must(int right, const char *what, long caller, long pair)
{
    if (right)
        return;
    fprintf(stderr, "caller %ld, pair %ld: %s\n", caller, pair, what);
    exit(1);
}

static void run_caller(const struct job *job, long caller)
{
    uint8_t *plain = malloc(job->size), *secret = malloc(job->size), *back = malloc(job->size);
    uint8_t key[KEY_SIZE], iv[BLOCK_SIZE];
    struct session_op session = {.cipher = CRYPTO_AES_CBC, .keylen = sizeof(key), .key = key};
    int fd = open(job->device, O_RDWR);

    if (plain == NULL || secret == NULL || back == NULL)
        die("malloc");
    if (fd == -1)
        die(job->device);
    fill(key, sizeof(key), caller);
    if (ioctl(fd, CIOCGSESSION, &session) != 0)
        die("CIOCGSESSION");
    for (long pair = 0; pair < (job->operations + 1) / 2; pair++) {
        uint32_t seed = (uint32_t)(caller * job->operations + pair);

        fill(iv, sizeof(iv), ~seed);
        fill(plain, job->size, seed);
        memset(back, 0, job->size);
        operate(fd, session.ses, COP_ENCRYPT, iv, plain, secret, job->size);
        must((memcmp(secret, plain, job->size) == 0) == job->null,
             job->null ? "the output is not the input" : "nothing was encrypted", caller, pair);
        operate(fd, session.ses, COP_DECRYPT, iv, secret, back, job->size);
        must(memcmp(back, plain, job->size) == 0, "the plaintext did not come back", caller, pair);
    }
    if (ioctl(fd, CIOCFSESSION, &session.ses) != 0)
        die("CIOCFSESSION");
    if (close(fd) == -1)
        die("close");
    free(plain);
    free(secret);
    free(back);
}

/* The callers wait for the end of a pipe, so that all start together. */
static void start_callers(const struct job *job, const int gate[2])
{
    char byte;

    for (long caller = 0; caller < job->callers; caller++) {
        pid_t pid = fork();
        if (pid == -1)
            die("fork");
        if (pid != 0)
            continue;
        close(gate[1]);
        if (read(gate[0], &byte, 1) != 0)
            die("gate");
        run_caller(job, caller);
        exit(0);
    }
}

int main(int argc, char **argv)
{
    struct job job = {0};
    struct timespec start, end;
    double seconds, operations;
    int gate[2], status, failed = 0;

    if (argc >= 5) {
        job.device = argv[1];
        job.callers = atol(argv[2]);
        job.operations = atol(argv[3]);
        job.size = atol(argv[4]);
        job.null = argc == 6 && strcmp(argv[5], "null") == 0;
    }
    if (argc < 5 || argc > 6 || (argc == 6 && !job.null) || job.callers < 1 || job.operations < 1
        || job.size < BLOCK_SIZE || job.size % BLOCK_SIZE != 0) {
        fprintf(stderr, "usage: %s DEVICE CALLERS OPERATIONS SIZE [null]; SIZE: a multiple of %d\n",
                argv[0], BLOCK_SIZE);
        return 2;
    }
    if (pipe(gate) == -1)
        die("pipe");
    start_callers(&job, gate);
    clock_gettime(CLOCK_MONOTONIC, &start);
    close(gate[1]);
    while (wait(&status) != -1)
        failed += status != 0;
    clock_gettime(CLOCK_MONOTONIC, &end);

    seconds = (end.tv_sec - start.tv_sec) + (end.tv_nsec - start.tv_nsec) / 1e9;
    operations = (double)job.callers * ((job.operations + 1) / 2 * 2);
    printf("callers %ld operations %.0f size %ld seconds %.3f ops/s %.0f failed %d\n", job.callers,
           operations, job.size, seconds, operations / seconds, failed);
    return failed != 0;
}
