/* SPDX-License-Identifier: MIT */
/*
 * conform_poll DEVICE: poll, select and epoll over CIOCASYNCCRYPT: a program that works by them,
 * and threads that wait and are woken.
 */
#include "check.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include "submitting.h"

/* A program's main loop: as many as there is room for, and each answer as it comes. */
static void poll_loop(void)
{
    enum { JOBS = 10 * CAPACITY };
    static uint8_t dsts[JOBS][256], ivs[JOBS][16];
    uint8_t wanted[256];
    __u32 ses = ctr_session();
    int submitted = 0, fetched = 0, in_order = 0, right = 0, full = 0;

    while (fetched < JOBS) {
        struct pollfd one = {device, POLLIN | (submitted < JOBS ? POLLOUT : 0), 0};

        if (poll(&one, 1, PATIENCE) != 1)
            break;
        if (one.revents & POLLOUT) {
            struct crypt_op op = operation(ses, COP_ENCRYPT, 0, plain + submitted,
                                           dsts[submitted], 256, ivs[submitted]);
            ivs[submitted][0] = submitted;
            ivs[submitted][1] = submitted >> 8;
            if (submit(device, &op) != 0)
                break;
            submitted++;
            full += submitted - fetched == CAPACITY;
        }
        /* Only when it is full, or when all are in: so that there are 64 at once. */
        if ((one.revents & POLLIN) && (submitted - fetched == CAPACITY || submitted == JOBS)) {
            struct crypt_op op;

            if (fetch(device, &op) != 0)
                break;
            in_order += op.dst == dsts[fetched] && op.iv == ivs[fetched];
            fetched++;
        }
    }
    for (int i = 0; i < fetched; i++) {
        operate(ses, COP_ENCRYPT, 0, plain + i, wanted, 256, ivs[i]);
        right += memcmp(wanted, dsts[i], 256) == 0;
    }
    check_number("poll loop: submitted", submitted, JOBS);
    check_number("poll loop: fetched", fetched, JOBS);
    check_number("poll loop: in order", in_order, JOBS);
    check_number("poll loop: right", right, JOBS);
    check_number("poll loop: 64 were in flight", full > 0, 1);
    drain(device);
    finish(ses);
}

/* ---- waiting ------------------------------------------------------------------------------- */

static void *wait_by_poll(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)(poll_for(device, POLLIN, PATIENCE) == POLLIN);
}

static void *wait_by_select(void *unused)
{
    struct timeval patience = {PATIENCE / 1000, 0};
    fd_set readable;

    (void)unused;
    FD_ZERO(&readable);
    FD_SET(device, &readable);
    return (void *)(intptr_t)(select(device + 1, &readable, NULL, NULL, &patience) == 1);
}

static void *wait_by_epoll(void *mode)
{
    struct epoll_event event = {.events = EPOLLIN | (uint32_t)(uintptr_t)mode};
    int epoll = epoll_create1(0), result;

    epoll_ctl(epoll, EPOLL_CTL_ADD, device, &event);
    result = epoll_wait(epoll, &event, 1, PATIENCE) == 1 && (event.events & EPOLLIN);
    close(epoll);
    return (void *)(intptr_t)result;
}

/* A thread that waits is woken by what another submits. */
static void woken(void)
{
    const struct {
        const char *name;
        void *(*wait)(void *);
        uintptr_t argument;
    } rows[] = {{"poll", wait_by_poll, 0},
                {"select", wait_by_select, 0},
                {"epoll", wait_by_epoll, 0},
                {"epoll, edge-triggered", wait_by_epoll, EPOLLET}};
    __u32 ses = ctr_session();

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct crypt_op op = operation(ses, COP_ENCRYPT, 0, plain, out, 64, zeros);
        pthread_t thread;
        void *result = NULL;

        pthread_create(&thread, NULL, rows[i].wait, (void *)rows[i].argument);
        usleep(50000); /* so that it waits already */
        check(label("%s: submit", rows[i].name), submit(device, &op), 0);
        pthread_join(thread, &result);
        check_number(label("%s: woken", rows[i].name), (intptr_t)result, 1);
        check(label("%s: fetch", rows[i].name), fetch(device, &op), 0);
    }
    finish(ses);
}

static void *wait_for_room(void *fd)
{
    return (void *)(intptr_t)(poll_for((intptr_t)fd, POLLOUT, PATIENCE) == POLLOUT);
}

/* A thread that waits for room is woken by what another fetches. */
static void woken_by_fetch(void)
{
    __u32 ses;
    int fd = open_another(&ses);
    struct crypt_op op = operation(ses, COP_ENCRYPT, 0, plain, out, 64, zeros);
    pthread_t thread;
    void *result = NULL;

    for (int i = 0; i < CAPACITY; i++)
        submit(fd, &op);
    check_number("full", poll_for(fd, POLLOUT, 0), 0);
    pthread_create(&thread, NULL, wait_for_room, (void *)(intptr_t)fd);
    usleep(50000);
    check("fetch", fetch_when_done(fd, &op), 0);
    pthread_join(thread, &result);
    check_number("room: woken", (intptr_t)result, 1);
    close(fd);
}

/* An epoll that is kept over many jobs, as a server's. */
static void kept_epoll(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    __u32 ses = ctr_session();
    int epoll = epoll_create1(0), told = 0, quiet = 0, fetched = 0;

    epoll_ctl(epoll, EPOLL_CTL_ADD, device, &event);
    for (int i = 0; i < 50; i++) {
        struct crypt_op op = operation(ses, COP_ENCRYPT, 0, plain, out, 64, zeros);

        quiet += epoll_wait(epoll, &event, 1, 0) == 0;
        if (submit(device, &op) != 0)
            break;
        told += epoll_wait(epoll, &event, 1, PATIENCE) == 1;
        fetched += fetch(device, &op) == 0;
    }
    check_number("epoll: told of 50 jobs", told, 50);
    check_number("epoll: 50 times nothing", quiet, 50);
    check_number("epoll: fetched", fetched, 50);
    close(epoll);
    finish(ses);
}

static void all(void)
{
    poll_loop();
    woken();
    woken_by_fetch();
    kept_epoll();
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    with_all_numbers(all);
    return end();
}
