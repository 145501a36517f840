/* SPDX-License-Identifier: MIT */
/* What both ends of the C pair share: sending, receiving, and memory for it. */
#define _GNU_SOURCE

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "pair.h"

void *reserve(size_t size)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

void widen(int connection)
{
    int size = 1 << 20;

    /* The first is for root, beyond the administrator's limit. */
    if (setsockopt(connection, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) == -1)
        setsockopt(connection, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

int send_all(int connection, const void *data, size_t size)
{
    const uint8_t *at = data;

    while (size > 0) {
        ssize_t sent = send(connection, at, size, MSG_NOSIGNAL);

        if (sent == -1 && errno != EINTR)
            return -1;
        if (sent > 0) {
            at += sent;
            size -= sent;
        }
    }
    return 0;
}

ptrdiff_t receive(int connection, void *buffer, size_t header_size, size_t capacity)
{
    size_t received = 0, wanted = header_size;
    uint32_t payload;

    do {
        /* At first whatever is there, which is all of a short message. */
        size_t room = received == 0 ? capacity : wanted - received;
        int flags = received == 0 ? 0 : MSG_WAITALL;
        ssize_t count = recv(connection, (uint8_t *)buffer + received, room, flags);

        if (count == 0 || (count == -1 && errno != EINTR))
            return -1;
        received += count > 0 ? count : 0;
        if (received >= header_size) {
            memcpy(&payload, buffer, sizeof(payload));
            if (payload > capacity - header_size)
                return -1;
            wanted = header_size + payload;
        }
    } while (received < wanted);
    return received == wanted ? (ptrdiff_t)wanted : -1;
}
