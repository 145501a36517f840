/* SPDX-License-Identifier: MIT */
/* buffers DEVICE: the crypto-buffer API, checked; exit status 0 when all is right. */
#include <crypto/crypto_buffer.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static int failures;

static void check(const char *name, int is, int wanted)
{
    if (is != wanted) {
        printf("FAIL %s: got %d wanted %d\n", name, is, wanted);
        failures++;
    }
}

int main(int argc, char **argv)
{
    /* NIST SP 800-38A: the first block of a CBC with an IV of zeros is that of ECB (F.1). */
    static const unsigned char plain[16] = {0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96,
                                            0xe9, 0x3d, 0x7e, 0x11, 0x73, 0x93, 0x17, 0x2a};
    static const unsigned char secret[3][4] = {
        {0x3a, 0xd7, 0x7b, 0xb4}, {0xbd, 0x33, 0x4f, 0x1d}, {0xf3, 0xee, 0xd1, 0xbd}};
    static unsigned char keys[3][32] = {
        {0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f,
         0x3c},
        {0x8e, 0x73, 0xb0, 0xf7, 0xda, 0x0e, 0x64, 0x52, 0xc8, 0x10, 0xf3, 0x2b, 0x80, 0x90, 0x79,
         0xe5, 0x62, 0xf8, 0xea, 0xd2, 0x52, 0x2c, 0x6b, 0x7b},
        {0x60, 0x3d, 0xeb, 0x10, 0x15, 0xca, 0x71, 0xbe, 0x2b, 0x73, 0xae, 0xf0, 0x85, 0x7d, 0x77,
         0x81, 0x1f, 0x35, 0x2c, 0x07, 0x3b, 0x61, 0x08, 0xd7, 0x2d, 0x98, 0x10, 0xa3, 0x09, 0x14,
         0xdf, 0xf4}};
    const unsigned int large = 3 << 20;
    char *data = malloc(large), *out = malloc(large);
    struct crypto_buffer b = {data, out, 16, NULL, 0};
    int device = open(argc > 1 ? argv[1] : "/dev/cryptodev0", O_RDWR);

    if (device < 0 || data == NULL || out == NULL) {
        perror("open");
        return 2;
    }
    for (int i = 0; i < 3; i++) {
        memcpy(data, plain, 16);
        b.key = (char *)keys[i];
        b.key_len = 16 + 8 * i;
        b.len = 16;
        check("encrypt", ioctl(device, CRYPTO_BUFFER_ENCRYPT, &b), 0);
        check("ciphertext", memcmp(out, secret[i], 4), 0);
        b.input = out;
        check("decrypt in place", ioctl(device, CRYPTO_BUFFER_DECRYPT, &b), 0);
        check("plaintext", memcmp(out, plain, 16), 0);
        b.input = data;
    }
    for (unsigned int i = 0; i < large; i++)
        data[i] = i * 2654435761u >> 24;
    b.len = large;
    check("encrypt 3 MiB", ioctl(device, CRYPTO_BUFFER_ENCRYPT, &b), 0);
    b.input = out;
    check("decrypt 3 MiB", ioctl(device, CRYPTO_BUFFER_DECRYPT, &b), 0);
    check("3 MiB", memcmp(data, out, large), 0);
    b.len = 17;
    check("odd length", ioctl(device, CRYPTO_BUFFER_ENCRYPT, &b) ? errno : 0, EINVAL);
    b.len = 16;
    b.key_len = 17;
    check("odd key", ioctl(device, CRYPTO_BUFFER_ENCRYPT, &b) ? errno : 0, EINVAL);
    b.key_len = 16;
    b.key = (char *)1;
    check("bad key", ioctl(device, CRYPTO_BUFFER_ENCRYPT, &b) ? errno : 0, EFAULT);
    b.key = (char *)keys[0];
    b.input = NULL;
    check("bad input", ioctl(device, CRYPTO_BUFFER_ENCRYPT, &b) ? errno : 0, EFAULT);
    b.input = data;
    b.output = NULL;
    check("bad output", ioctl(device, CRYPTO_BUFFER_ENCRYPT, &b) ? errno : 0, EFAULT);
    check("unknown", ioctl(device, _IOW('b', 2, struct crypto_buffer), &b) ? errno : 0, EINVAL);
    printf("%d failed\n", failures);
    return failures > 0;
}
