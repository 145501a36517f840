/* SPDX-License-Identifier: MIT */
/*
 * crioget_work DEVICE SECONDS: what an ordinary user does: a session, ciphers, CRIOGET.
 * Writes how many rounds there were, how many failed, and the longest time of a round in ms.
 */
#include "crioget.h"

static int work(int fd)
{
    unsigned char key[16] = {0}, block[16] = {0}, iv[16] = {0};
    struct session_op session = {.cipher = CRYPTO_AES_CBC, .keylen = 16, .key = key};
    struct crypt_op op = {.op = COP_ENCRYPT, .len = 16, .src = block, .dst = block, .iv = iv};

    if (ioctl(fd, CIOCGSESSION, &session))
        return errno;
    op.ses = session.ses;
    if (ioctl(fd, CIOCCRYPT, &op) || ioctl(fd, CIOCFSESSION, &session.ses))
        return errno;
    return get(fd);
}

int main(int argc, char **argv)
{
    int fd = device(argv[1]), rounds = 0, failed = 0, error, first = 0;
    double end = seconds() + atof(argv[2]), longest = 0;

    require(argc == 3, "arguments");
    do {
        double began = seconds();

        if ((error = work(fd))) {
            failed++;
            first = first ? first : error;
        }
        if (seconds() - began > longest)
            longest = seconds() - began;
        rounds++;
    } while (seconds() < end);
    printf("rounds %d failed %d longest %d %s\n", rounds, failed, (int)(longest * 1000),
           first ? strerror(first) : "");
    return 0;
}
