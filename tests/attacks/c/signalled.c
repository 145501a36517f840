/* SPDX-License-Identifier: MIT */
/*
 * signalled DEVICE SIGNAL THREADS MILLISECONDS [LENGTH]: threads that hash LENGTH bytes (4096) again
 * and again, while SIGNAL comes every millisecond: a handler of their own returns from it, without
 * SA_RESTART. Prints "operations N interrupted M failed F": ioctls that were done, that gave EINTR,
 * and that gave any other error or a digest unlike the first.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <crypto/cryptodev.h>

static const char *device;
static size_t length = 4096;
static double end;
static unsigned done, interrupted, failed;
static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static void handle(int number)
{
    (void)number;
}

static void count(unsigned *what)
{
    pthread_mutex_lock(&counting);
    ++*what;
    pthread_mutex_unlock(&counting);
}

static void *work(void *unused)
{
    uint8_t mac[20], wanted[20], *src = calloc(1, length);
    struct session_op session = {.mac = CRYPTO_SHA1};
    struct crypt_op op = {.len = length, .src = src, .mac = mac};
    int fd, first = 1;

    (void)unused;
    while ((fd = open(device, O_RDWR)) < 0 && errno == EINTR)
        count(&interrupted);
    while (ioctl(fd, CIOCGSESSION, &session) && errno == EINTR)
        count(&interrupted);
    op.ses = session.ses;
    while (now() < end) {
        if (ioctl(fd, CIOCCRYPT, &op)) {
            count(errno == EINTR ? &interrupted : &failed);
            continue;
        }
        if (first)
            memcpy(wanted, mac, sizeof(mac));
        first = 0;
        count(memcmp(wanted, mac, sizeof(mac)) ? &failed : &done);
    }
    return NULL;
}

int main(int words, char **word)
{
    struct sigaction action = {.sa_handler = handle};
    int number = words > 4 ? atoi(word[2]) : 0, threads = words > 4 ? atoi(word[3]) : 0;
    pthread_t thread[64];

    if (threads < 1 || threads > 64)
        return 2;
    device = word[1];
    end = now() + atof(word[4]);
    length = words > 5 ? strtoul(word[5], NULL, 10) : length;
    sigaction(number, &action, NULL);
    for (int i = 0; i < threads; i++)
        pthread_create(&thread[i], NULL, work, NULL);
    while (now() < end + 1) {
        for (int i = 0; i < threads; i++)
            if (now() < end)
                pthread_kill(thread[i], number);
        usleep(1000);
    }
    for (int i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    printf("operations %u interrupted %u failed %u\n", done, interrupted, failed);
    return 0;
}
