/* SPDX-License-Identifier: MIT */
/*
 * conform_files DEVICE: opening, and what is not an ioctl of the API; CRIOGET; numbers that mean
 * nothing. Some of it the kernel answers without asking anybody: for a mounted node, which is a
 * regular file, other rows than for a cuse node (docs/node.md); those are left out.
 */
#include "check.h"

#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/uio.h>

static int is_mounted;

enum where { EVERYWHERE, CUSE, MOUNTED };

static int asked_here(enum where where)
{
    return where == EVERYWHERE || (where == MOUNTED) == is_mounted;
}

/* ---- opening ------------------------------------------------------------------------------- */

static int works(int fd)
{
    __u32 ses;
    struct crypt_op op;
    int result = make_on(fd, CRYPTO_AES_CBC, 16, key, &ses);

    if (result != 0)
        return result;
    op = operation(ses, COP_ENCRYPT, 0, plain, out, 32, zeros);
    result = ioctl(fd, CIOCCRYPT, &op);
    return result != 0 ? result : finish_on(fd, ses);
}

static void opening(void)
{
    static const struct {
        const char *name;
        int flags, error;
    } rows[] = {
        {"O_RDONLY", O_RDONLY, 0},
        {"O_WRONLY", O_WRONLY, 0},
        {"O_RDWR", O_RDWR, 0},
        {"O_RDWR|O_NONBLOCK", O_RDWR | O_NONBLOCK, 0},
        {"O_RDWR|O_EXCL", O_RDWR | O_EXCL, 0},
        {"O_RDWR|O_TRUNC", O_RDWR | O_TRUNC, 0},
        {"O_RDWR|O_APPEND", O_RDWR | O_APPEND, 0},
        {"O_RDWR|O_CLOEXEC", O_RDWR | O_CLOEXEC, 0},
        {"O_RDWR|O_DIRECT", O_RDWR | O_DIRECT, EINVAL},
        {"O_DIRECTORY", O_RDONLY | O_DIRECTORY, ENOTDIR},
    };
    int fd;

    for (size_t i = 0; i < COUNT(rows); i++) {
        fd = open(path, rows[i].flags);
        check(label("open %s", rows[i].name), fd == -1 ? -1 : 0, rows[i].error);
        if (fd == -1)
            continue;
        check(label("open %s: works", rows[i].name), works(fd), 0);
        check(label("open %s: close", rows[i].name), close(fd), 0);
    }
    fd = open(path, O_PATH);
    check("open O_PATH", fd == -1 ? -1 : 0, 0);
    check("open O_PATH: ioctl", works(fd), EBADF);
    close(fd);
}

static int child_of_another_user(__u32 *opens)
{
    int fd = device;

    if (setgid(65534) != 0 || setuid(65534) != 0)
        return -1;
    if (*opens)
        fd = open(path, O_RDWR);
    return works(fd);
}

static void another_user(void)
{
    struct stat status;
    __u32 opens = 0;

    check("another user works with what it was given", in_child(child_of_another_user, &opens), 0);
    opens = 1;
    if (fstat(device, &status) == -1 || chmod(path, 0666) == -1)
        unusable("chmod");
    check("another user opens it", in_child(child_of_another_user, &opens), 0);
    chmod(path, status.st_mode & 07777);
}

static void many_opens(void)
{
    enum { OPENS = 900 };
    static int fds[OPENS];
    static __u32 ses[OPENS];
    struct rlimit limit = {OPENS + 64, OPENS + 64};
    int opened = 0, made = 0, worked = 0, closed = 0;

    if (setrlimit(RLIMIT_NOFILE, &limit) == -1)
        unusable("setrlimit");
    for (int i = 0; i < OPENS; i++)
        opened += (fds[i] = open(path, O_RDWR)) != -1;
    for (int i = 0; i < OPENS; i++)
        made += make_on(fds[i], CRYPTO_AES_CBC, 16, key, &ses[i]) == 0;
    for (int i = 0; i < OPENS; i++) {
        struct crypt_op op = operation(ses[i], COP_ENCRYPT, 0, plain, out, 16, zeros);
        worked += ioctl(fds[i], CIOCCRYPT, &op) == 0;
    }
    for (int i = 0; i < OPENS; i++) /* their sessions are still there */
        closed += close(fds[i]) == 0;
    check_number("900 open files", opened, OPENS);
    check_number("900 open files, a session on each", made, OPENS);
    check_number("900 open files, all of them work", worked, OPENS);
    check_number("900 open files, closed", closed, OPENS);
}

/* ---- reading, writing and the like --------------------------------------------------------- */

static int map(int flags)
{
    void *memory = mmap(NULL, PAGE, PROT_READ, flags, device, 0);

    if (memory == MAP_FAILED)
        return -1;
    munmap(memory, PAGE);
    return 0;
}

static int get(unsigned long number)
{
    uint8_t answer[256];
    return ioctl(device, number, answer);
}

static int set(unsigned long number, int value)
{
    return ioctl(device, number, &value);
}

static int lock(short type)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_len = 1};
    return fcntl(device, F_SETLK, &range);
}

static int ok(long result)
{
    return result == -1 ? -1 : 0;
}

static void other_operations(void)
{
    int reader = open(path, O_RDONLY), writer = open(path, O_WRONLY);
    struct iovec vector = {out, 16};
    int flags = fcntl(device, F_GETFL);

#define ROW(where, call, wanted)                                                                   \
    do {                                                                                           \
        if (asked_here(where))                                                                     \
            check(#call, ok(call), wanted);                                                        \
    } while (0)

    ROW(EVERYWHERE, read(device, out, 1), EINVAL);
    ROW(EVERYWHERE, read(device, out, 4096), EINVAL);
    ROW(EVERYWHERE, readv(device, &vector, 1), EINVAL);
    ROW(CUSE, pread(device, out, 16, 0), EINVAL);
    ROW(EVERYWHERE, read(writer, out, 16), EBADF);
    ROW(EVERYWHERE, readv(writer, &vector, 1), EBADF);
    ROW(EVERYWHERE, write(device, plain, 1), EINVAL);
    ROW(EVERYWHERE, write(device, plain, 4096), EINVAL);
    ROW(EVERYWHERE, writev(device, &vector, 1), EINVAL);
    ROW(CUSE, pwrite(device, plain, 16, 0), EINVAL);
    ROW(EVERYWHERE, write(reader, plain, 16), EBADF);
    ROW(EVERYWHERE, writev(reader, &vector, 1), EBADF);
    ROW(MOUNTED, lseek(device, 0, SEEK_SET), ESPIPE);
    ROW(MOUNTED, lseek(device, 0, SEEK_CUR), ESPIPE);
    ROW(MOUNTED, lseek(device, 0, SEEK_END), ESPIPE);
    ROW(EVERYWHERE, map(MAP_SHARED), ENODEV);
    ROW(CUSE, map(MAP_PRIVATE), ENODEV);
    ROW(EVERYWHERE, fsync(device), EINVAL);
    ROW(EVERYWHERE, fdatasync(device), EINVAL);
    ROW(CUSE, ftruncate(device, 0), EINVAL);
    ROW(CUSE, fallocate(device, 0, 0, 16), ENODEV);
    ROW(EVERYWHERE, lock(F_RDLCK), 0);
    ROW(EVERYWHERE, lock(F_WRLCK), 0);
    ROW(EVERYWHERE, lock(F_UNLCK), 0);
    ROW(EVERYWHERE, fcntl(device, F_SETFL, flags | O_NONBLOCK), 0);
    ROW(EVERYWHERE, fcntl(device, F_SETFL, flags | O_ASYNC), 0);
    ROW(CUSE, fcntl(device, F_SETFL, flags | O_DIRECT), EINVAL);
    ROW(EVERYWHERE, fcntl(device, F_SETFL, flags), 0);
    ROW(EVERYWHERE, get(0x5401 /* TCGETS */), EINVAL);
    ROW(CUSE, get(FIONREAD), EINVAL);
    ROW(EVERYWHERE, get(BLKGETSIZE64), EINVAL);
    ROW(EVERYWHERE, set(FIONBIO, 1), 0);
    ROW(EVERYWHERE, set(FIONBIO, 0), 0);
    ROW(MOUNTED, set(FIOASYNC, 1), ENOTTY);
    ROW(EVERYWHERE, ioctl(reader, FIOCLEX), 0);
#undef ROW
    check_number("posix_fadvise", posix_fadvise(device, 0, 0, POSIX_FADV_RANDOM), 0);
    check("it works all the same", works(device), 0);
    close(reader);
    close(writer);
}

static void idle_polls(void)
{
    short all = POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND;
    struct pollfd poll_all = {device, all, 0}, poll_in = {device, POLLIN, 0};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT};
    struct timeval soon = {0, 20000};
    fd_set readable, writable;
    int epoll = epoll_create1(0);

    check_number("poll, idle", poll(&poll_all, 1, 1000), 1);
    check_number("poll, idle: POLLOUT|POLLWRNORM", poll_all.revents, 0x104);
    check_number("poll, idle, for POLLIN alone", poll(&poll_in, 1, 20), 0);
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_SET(device, &readable);
    FD_SET(device, &writable);
    check_number("select, idle", select(device + 1, &readable, &writable, NULL, &soon), 1);
    check_number("select, idle: readable", FD_ISSET(device, &readable), 0);
    check_number("select, idle: writable", !!FD_ISSET(device, &writable), 1);
    check("epoll_ctl", epoll_ctl(epoll, EPOLL_CTL_ADD, device, &event), 0);
    check_number("epoll, idle", epoll_wait(epoll, &event, 1, 1000), 1);
    check_number("epoll, idle: EPOLLOUT", event.events, EPOLLOUT);
    close(epoll);
}

/* ---- ioctls without a session -------------------------------------------------------------- */

static void public_keys(void)
{
    static struct crypt_kop kop;
    __u32 features = 0xdeadbeef;

    check("CIOCASYMFEAT", ioctl(device, CIOCASYMFEAT, &features), 0);
    check_number("CIOCASYMFEAT: none", features, 0);
    for (size_t i = 0; i < COUNT(bad_pointers); i++)
        check(label("CIOCASYMFEAT at %s", bad_pointers[i].name),
              ioctl(device, CIOCASYMFEAT, bad_pointers[i].pointer), EFAULT);
    check("CIOCASYMFEAT in read-only memory",
          ioctl(device, CIOCASYMFEAT, frozen(&features, sizeof(features))), EFAULT);
    check("CIOCKEY", ioctl(device, CIOCKEY, &kop), EINVAL);
    if (!is_mounted) { /* there the kernel copies before anybody is asked */
        check("CIOCKEY at NULL", ioctl(device, CIOCKEY, NULL), EINVAL);
        check("an unknown number at NULL", ioctl(device, _IOWR('c', 100, __u32), NULL), EINVAL);
    }
}

static void bad_structs(void)
{
    static const struct {
        const char *name;
        unsigned long number;
        size_t size;
    } rows[] = {{"CIOCGSESSINFO", CIOCGSESSINFO, sizeof(struct session_info_op)},
                {"CIOCAUTHCRYPT", CIOCAUTHCRYPT, sizeof(struct crypt_auth_op)},
                {"CIOCASYNCCRYPT", CIOCASYNCCRYPT, sizeof(struct crypt_op)},
                {"CIOCCPHASH", CIOCCPHASH, sizeof(struct cphash_op)},
                {"CRIOGET", CRIOGET, sizeof(__u32)}};

    memset(edge, 0, 2 * PAGE);
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (size_t j = 0; j < COUNT(bad_pointers); j++)
            check(label("%s at %s", rows[i].name, bad_pointers[j].name),
                  ioctl(device, rows[i].number, bad_pointers[j].pointer), EFAULT);
        check(label("%s half mapped", rows[i].name),
              ioctl(device, rows[i].number, edge_end - rows[i].size / 2), EFAULT);
    }
}

/* ---- CRIOGET ------------------------------------------------------------------------------- */

static int lowest_free(void)
{
    int fd = dup(device);

    close(fd);
    return fd;
}

static int another(int fd)
{
    __u32 copy;
    return ioctl(fd, CRIOGET, &copy) == 0 ? (int)copy : -1;
}

static void descriptors(void)
{
    int first = open(path, O_RDWR), free_one = lowest_free(), copy = another(first), second;
    __u32 ses, theirs;
    struct crypt_op op;

    check("CRIOGET", ok(copy), 0);
    check_number("CRIOGET: the lowest free descriptor", copy, free_one);
    check_number("CRIOGET: without FD_CLOEXEC", fcntl(copy, F_GETFD), 0);
    fcntl(copy, F_SETFL, O_RDWR | O_NONBLOCK);
    check_number("CRIOGET: the same open file", !!(fcntl(first, F_GETFL) & O_NONBLOCK), 1);
    check("a session of the first", make_on(first, CRYPTO_AES_CBC, 16, key, &ses), 0);
    check("a session of the second", make_on(copy, CRYPTO_AES_CBC, 16, key, &theirs), 0);
    op = operation(ses, COP_ENCRYPT, 0, plain, out, 32, zeros);
    check("the second uses the session of the first", ioctl(copy, CIOCCRYPT, &op), 0);
    op.ses = theirs;
    check("the first uses the session of the second", ioctl(first, CIOCCRYPT, &op), 0);
    second = another(copy);
    check("CRIOGET on the second", ok(second), 0);
    check("close the first", close(first), 0);
    check("the second goes on", ioctl(copy, CIOCCRYPT, &op), 0);
    check("close the second", close(copy), 0);
    check("the third goes on", ioctl(second, CIOCCRYPT, &op), 0);
    check("the second finishes the session", finish_on(second, theirs), 0);
    check("the third has it no more", ioctl(second, CIOCCRYPT, &op), EINVAL);
    close(second);

    free_one = lowest_free();
    check("CRIOGET into read-only memory", ioctl(device, CRIOGET, frozen(&ses, sizeof(ses))),
          EFAULT);
    check_number("CRIOGET into read-only memory: nothing is left open", lowest_free(), free_one);
}

static void full_table(void)
{
    struct rlimit limit, small;
    __u32 copy = 0xdeadbeef;

    if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
        unusable("getrlimit");
    small = limit;
    small.rlim_cur = lowest_free();
    setrlimit(RLIMIT_NOFILE, &small);
    check("CRIOGET with all descriptors in use", ioctl(device, CRIOGET, &copy), EMFILE);
    check_number("CRIOGET with all descriptors in use: nothing written", copy, 0xdeadbeef);
    setrlimit(RLIMIT_NOFILE, &limit);
    check("CRIOGET with one again", ioctl(device, CRIOGET, &copy), 0);
    close(copy);
}

static int child_gets(__u32 *shared)
{
    for (int i = 0; i < 10; i++)
        if (ioctl(device, CRIOGET, shared) != 0 || works(*shared) != 0 || close(*shared) != 0)
            return -1;
    return 0;
}

static void *thread_gets(void *unused)
{
    (void)unused;
    for (int i = 0; i < 25; i++) {
        int copy = another(device);

        if (copy == -1 || works(copy) != 0 || close(copy) != 0)
            return (void *)(intptr_t)errno;
    }
    return NULL;
}

static void ignore(int number)
{
    (void)number;
}

static void getting_at_once(void)
{
    struct sigaction action = {.sa_handler = ignore, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 3000}, {0, 3000}}, never = {{0, 0}, {0, 0}};
    pthread_t threads[8];
    __u32 copy;
    void *error;
    int right = 0, before = lowest_free();

    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_create(&threads[i], NULL, thread_gets, NULL);
    for (size_t i = 0; i < COUNT(threads); i++) {
        pthread_join(threads[i], &error);
        check_number(label("CRIOGET in thread %zu", i), (intptr_t)error, 0);
    }
    for (int i = 0; i < 4; i++)
        check(label("CRIOGET in child %d", i), in_child(child_gets, &copy), 0);

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 100; i++)
        right += ioctl(device, CRIOGET, &copy) == 0 && close(copy) == 0;
    setitimer(ITIMER_REAL, &never, NULL);
    check_number("CRIOGET while signals come", right, 100);
    check_number("no descriptor was left over", lowest_free(), before);
}

int main(int argc, char **argv)
{
    struct stat status;

    begin(argc, argv);
    is_mounted = fstat(device, &status) == 0 && S_ISREG(status.st_mode);
    printf("ok this is a %s node\n", is_mounted ? "mounted" : "cuse");
    opening();
    another_user();
    other_operations();
    idle_polls();
    public_keys();
    bad_structs();
    descriptors();
    full_table();
    getting_at_once();
    many_opens();
    return end();
}
