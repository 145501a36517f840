/* SPDX-License-Identifier: MIT */
/*
 * The back end of the C pair: AES-CBC in libcrypto. A message is received, encrypted in place, and
 * sent back from where it lies.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "pair.h"

/* For each direction a context, which keeps its key schedule. */
struct session {
    EVP_CIPHER_CTX *context[2];
};

static struct session *sessions;
static uint32_t session_count;

static void close_session(uint32_t number)
{
    struct session *session = &sessions[number];

    EVP_CIPHER_CTX_free(session->context[0]);
    EVP_CIPHER_CTX_free(session->context[1]);
    *session = (struct session){0};
}

static int make_room(uint32_t number)
{
    uint32_t count = session_count ? session_count : 64;
    struct session *more;

    while (count <= number)
        count *= 2;
    if (count == session_count)
        return 0;
    more = realloc(sessions, count * sizeof(*more));
    if (more == NULL)
        return ENOMEM;
    memset(more + session_count, 0, (count - session_count) * sizeof(*more));
    sessions = more;
    session_count = count;
    return 0;
}

static int open_session(uint32_t number, const uint8_t *key, uint32_t size)
{
    const EVP_CIPHER *cipher = size == 16   ? EVP_aes_128_cbc()
                               : size == 24 ? EVP_aes_192_cbc()
                                            : EVP_aes_256_cbc();

    if (make_room(number) != 0)
        return ENOMEM;
    for (int op = 0; op < 2; op++) {
        EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();

        sessions[number].context[op] = context;
        if (context == NULL || !EVP_CipherInit_ex(context, cipher, NULL, key, NULL, op == 0)) {
            close_session(number);
            return ENOMEM;
        }
        EVP_CIPHER_CTX_set_padding(context, 0);
    }
    return 0;
}

/* The result stands where the source stood. */
static int crypt_in_place(const struct request *request, uint8_t *iv, uint8_t *source, int size)
{
    EVP_CIPHER_CTX *context = sessions[request->session].context[request->op];
    int written;

    if (iv != NULL && !EVP_CipherInit_ex(context, NULL, NULL, NULL, iv, -1))
        return EINVAL;
    if (!EVP_CipherUpdate(context, source, &written, source, size) || written != size)
        return EINVAL;
    return 0;
}

static int answer(int connection, struct request *request)
{
    uint8_t *payload = (uint8_t *)(request + 1), *source = payload;
    struct reply reply = {0};

    if (request->what == OPEN_SESSION) {
        reply.error = open_session(request->session, payload, request->size);
    } else if (request->what == CLOSE_SESSION) {
        close_session(request->session);
    } else {
        source = payload + (request->has_iv ? AES_BLOCK_SIZE : 0);
        reply.size = request->size - (source - payload);
        reply.error = crypt_in_place(request, request->has_iv ? payload : NULL, source, reply.size);
        reply.size = reply.error ? 0 : reply.size;
    }
    memcpy(source - sizeof(reply), &reply, sizeof(reply));
    return send_all(connection, source - sizeof(reply), sizeof(reply) + reply.size);
}

int serve_requests(int connection)
{
    size_t capacity = sizeof(struct request) + AES_BLOCK_SIZE + LENGTH_MAX;
    struct request *request = reserve(capacity);

    if (request == NULL)
        return 1;
    widen(connection);
    while (receive(connection, request, sizeof(*request), capacity) >= 0)
        if (answer(connection, request) == -1)
            break;
    return 0;
}
