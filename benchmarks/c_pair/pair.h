/* SPDX-License-Identifier: MIT */
/*
 * What the daemon and the back end of the C pair say to each other: a header and its payload, one
 * request and one reply at a time.
 */
#ifndef PAIR_H
#define PAIR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define AES_BLOCK_SIZE 16
#define LENGTH_MAX (64u << 20) /* bytes of one operation */

enum { OPEN_SESSION, CLOSE_SESSION, CRYPT };

/* size bytes follow: the key of OPEN_SESSION; the IV, if there is one, and the source of CRYPT. */
struct request {
    uint32_t size;
    uint16_t what;
    uint8_t op;     /* COP_ENCRYPT or COP_DECRYPT */
    uint8_t has_iv; /* without one the session goes on where it ended */
    uint32_t session;
    uint32_t unused; /* the payload is aligned to blocks */
};

/* size bytes of result follow, none after an error. */
struct reply {
    uint32_t size;
    int32_t error; /* 0 or an errno */
};

/* message.c */

/* Memory that takes no room before it is used; NULL if there is none. */
void *reserve(size_t size);
/* Lets the socket hold a mebibyte, so that few messages make their sender wait. */
void widen(int connection);
/* Sends all of it; 0, or -1 when the peer is gone. */
int send_all(int connection, const void *data, size_t size);
/*
 * Receives a header of header_size bytes, whose first member is the size of its payload, and the
 * payload. The size of both, or -1 when the peer is gone or sends more than fits into capacity.
 */
ptrdiff_t receive(int connection, void *buffer, size_t header_size, size_t capacity);

/* backend.c */

/* Answers requests until the daemon is gone. */
int serve_requests(int connection);

/* node.c */

#define READ_BUFFER (128 * 1024 + 80) /* the kernel refuses to fill a smaller one */

/* Mounts a file where nothing is; SIGTERM and SIGINT unmount it. -1 with errno if it cannot be. */
int make_node(const char *where);
void remove_node(void);
/* One request of the kernel, in READ_BUFFER bytes; 0 or less at the end. */
ssize_t read_request(void *buffer);
/* Answers one request: an errno, or 0 and a body. */
void reply(uint64_t unique, int error, const void *body, size_t size);

#endif
