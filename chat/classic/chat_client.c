/* SPDX-License-Identifier: MIT */
/*
 * chat_client HOST [PORT] [DEVICE]: talk over TCP, encrypted by DEVICE.
 *
 * Every message is 256 bytes, zero padded, AES-128-CBC with the same key and IV for each of them,
 * both zero. That is a wire for learning, not for secrets: equal messages look equal, and nothing
 * notices a changed one. chat_server.c repeats what both need, so that either is one file to read
 * and to compile:
 *
 *     gcc -Wall -I "$(cuse-crypto include-dir)" -o chat_client chat_client.c
 */
#define _POSIX_C_SOURCE 200809L

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <crypto/cryptodev.h>

#define MESSAGE_SIZE 256
#define LINE_SIZE (MESSAGE_SIZE - 2) /* leaves room for '\n' and a final zero */
#define KEY_SIZE 16

struct input {
    char text[LINE_SIZE + 1]; /* typed and not sent yet */
    size_t length;
    int open;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void insist_ioctl(int device, unsigned long request, void *argument, const char *name)
{
    while (ioctl(device, request, argument) == -1)
        if (errno != EINTR)
            die(name);
}

static __u32 start_session(int device)
{
    unsigned char key[KEY_SIZE] = {0};
    struct session_op session = {.cipher = CRYPTO_AES_CBC, .keylen = sizeof(key), .key = key};

    insist_ioctl(device, CIOCGSESSION, &session, "ioctl(CIOCGSESSION)");
    return session.ses;
}

static void crypt_message(int device, __u32 session, int operation, unsigned char *message)
{
    unsigned char iv[EALG_MAX_BLOCK_LEN] = {0};
    struct crypt_op crypt = {.ses = session, .op = operation, .len = MESSAGE_SIZE,
                             .src = message, .dst = message, .iv = iv};

    insist_ioctl(device, CIOCCRYPT, &crypt, "ioctl(CIOCCRYPT)");
}

/* read() may give less than a message. 1: all of it is here, 0: the end, -1: cut off. */
static int insist_read(int fd, unsigned char *buffer, size_t count)
{
    size_t done = 0;

    while (done < count) {
        ssize_t n = read(fd, buffer + done, count - done);
        if (n == -1 && errno == EINTR)
            continue;
        if (n <= 0)
            return done > 0 ? -1 : (int)n;
        done += n;
    }
    return 1;
}

static int insist_write(int fd, const unsigned char *buffer, size_t count)
{
    while (count > 0) {
        ssize_t n = write(fd, buffer, count);
        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1)
            return -1;
        buffer += n;
        count -= n;
    }
    return 1;
}

static void read_input(struct input *input)
{
    size_t room = sizeof(input->text) - input->length;
    ssize_t n = read(STDIN_FILENO, input->text + input->length, room);

    if (n > 0)
        input->length += n;
    else if (n == 0 || errno != EINTR)
        input->open = 0;
}

/* A whole line, a line too long for one message, or what is left at the end of input. */
static int line_is_ready(const struct input *input)
{
    return memchr(input->text, '\n', input->length) != NULL || input->length == sizeof(input->text)
           || (!input->open && input->length > 0);
}

static int send_line(int peer, int device, __u32 session, struct input *input)
{
    unsigned char message[MESSAGE_SIZE] = {0};
    const char *newline = memchr(input->text, '\n', input->length);
    size_t line = newline != NULL ? (size_t)(newline - input->text) : input->length;

    if (line > LINE_SIZE)
        line = LINE_SIZE;
    memcpy(message, input->text, line);
    message[line] = '\n';
    input->length -= line + (newline != NULL);
    memmove(input->text, input->text + line + (newline != NULL), input->length);
    crypt_message(device, session, COP_ENCRYPT, message);
    return insist_write(peer, message, MESSAGE_SIZE);
}

static int receive_message(int peer, int device, __u32 session)
{
    unsigned char message[MESSAGE_SIZE];
    int i, length = MESSAGE_SIZE, result = insist_read(peer, message, MESSAGE_SIZE);

    if (result != 1)
        return result;
    crypt_message(device, session, COP_DECRYPT, message);
    while (length > 0 && message[length - 1] == '\0')
        length--;
    if (length > 0 && message[length - 1] == '\n')
        length--;
    printf("peer: ");
    for (i = 0; i < length; i++) /* print nothing that could drive the terminal */
        putchar(iscntrl(message[i]) ? '?' : message[i]);
    putchar('\n');
    return 1;
}

/* Until the peer leaves. Sends only when there is room, so that two senders never block. */
static int talk(int peer, int device, __u32 session)
{
    struct input input = {.open = 1};
    int result = 1, sending = 1;

    while (result == 1) {
        fd_set readable, writable;

        FD_ZERO(&readable);
        FD_ZERO(&writable);
        FD_SET(peer, &readable);
        if (line_is_ready(&input))
            FD_SET(peer, &writable);
        else if (input.open)
            FD_SET(STDIN_FILENO, &readable);
        else if (sending) {
            shutdown(peer, SHUT_WR); /* all is said; the peer may still have something to say */
            sending = 0;
        }
        if (select(peer + 1, &readable, &writable, NULL, NULL) == -1) {
            if (errno == EINTR)
                continue;
            die("select");
        }
        if (FD_ISSET(STDIN_FILENO, &readable))
            read_input(&input);
        if (FD_ISSET(peer, &readable))
            result = receive_message(peer, device, session);
        if (result == 1 && FD_ISSET(peer, &writable))
            result = send_line(peer, device, session, &input);
    }
    return result;
}

static int connect_to(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *addresses, *address;
    int peer = -1, error = getaddrinfo(host, port, &hints, &addresses);

    if (error != 0) {
        fprintf(stderr, "%s port %s: %s\n", host, port, gai_strerror(error));
        exit(1);
    }
    for (address = addresses; address != NULL && peer == -1; address = address->ai_next) {
        peer = socket(address->ai_family, address->ai_socktype, address->ai_protocol);
        if (peer != -1 && connect(peer, address->ai_addr, address->ai_addrlen) == -1) {
            close(peer);
            peer = -1;
        }
    }
    freeaddrinfo(addresses);
    return peer;
}

int main(int argc, char **argv)
{
    const char *port = argc > 2 ? argv[2] : "35001";
    const char *path = argc > 3 ? argv[3] : "/dev/cryptodev0";
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    int device, peer, result;
    __u32 session;

    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: %s HOST [PORT] [DEVICE]\n", argv[0]);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    sigaction(SIGPIPE, &ignore, NULL);
    device = open(path, O_RDWR);
    if (device == -1)
        die(path);
    peer = connect_to(argv[1], port);
    if (peer == -1)
        die(argv[1]);
    printf("connected to %s port %s\n", argv[1], port);
    session = start_session(device);
    result = talk(peer, device, session);
    insist_ioctl(device, CIOCFSESSION, &session, "ioctl(CIOCFSESSION)");
    printf(result == -1 ? "connection lost\n" : "peer left\n");
    return result == -1 ? 1 : 0;
}
