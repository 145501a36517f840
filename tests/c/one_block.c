/* one_block DEVICE: a session, one block of zeros under a key of zeros, CRIOGET. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include <crypto/cryptodev.h>

static int failed(const char *what)
{
    perror(what);
    return 1;
}

int main(int argc, char **argv)
{
    unsigned char key[16] = {0}, iv[16] = {0}, in[16] = {0}, out[16];
    struct session_op session = {.cipher = CRYPTO_AES_CBC, .keylen = sizeof key, .key = key};
    int copy, fd = open(argc > 1 ? argv[1] : "/dev/cryptodev0", O_RDWR);

    if (fd < 0)
        return failed("open");
    if (ioctl(fd, CIOCGSESSION, &session))
        return failed("CIOCGSESSION");
    struct crypt_op op = {
        .ses = session.ses, .op = COP_ENCRYPT, .len = sizeof in, .src = in, .dst = out, .iv = iv,
    };
    if (ioctl(fd, CIOCCRYPT, &op))
        return failed("CIOCCRYPT");
    if (ioctl(fd, CRIOGET, &copy))
        return failed("CRIOGET");
    for (unsigned place = 0; place < sizeof out; place++)
        printf("%02x", out[place]);
    puts("");
    return 0;
}
