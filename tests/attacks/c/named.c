/* A process whose name is no text: opens a device, makes a session, and waits for signals. */
#include <crypto/cryptodev.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

static void ignore(int number) { (void)number; }

int main(int count, char **words)
{
	struct sigaction heed = {.sa_handler = ignore, .sa_flags = SA_RESTART};
	unsigned char key[16] = {0}, data[64] = {0}, iv[16] = {0};
	struct session_op session = {.cipher = CRYPTO_AES_CBC, .keylen = 16, .key = key};
	struct crypt_op op = {.len = sizeof data, .src = data, .dst = data, .iv = iv};
	int fd = open(words[1], O_RDWR);

	if (count < 3 || fd < 0)
		return 1;
	prctl(PR_SET_NAME, words[2]);
	sigaction(SIGUSR1, &heed, NULL);
	if (ioctl(fd, CIOCGSESSION, &session))
		return 2;
	op.ses = session.ses;
	puts("ready");
	fflush(stdout);
	while (!ioctl(fd, CIOCCRYPT, &op))
		usleep(1000);
	return 3;
}
