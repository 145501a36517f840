/* SPDX-License-Identifier: MIT */
/*
 * hung_pages DEVICE UID WHERE THREADS: a caller of that user whose memory does not come. It has a
 * file system of its own, as fusermount3(1) would mount it for the user, whose server does not
 * answer READ. Each thread has one page of a file there, and gives it to the device as WHERE:
 * source, destination, iv, key, mac, aad or lock. With "lock" the first thread hangs with a session,
 * and all others wait for that session. With "slow" they do, too, and its memory comes: of each
 * mebibyte one page, after SLOW.
 *
 * Started by root, for the mount. Prints "hanging N PID ADDRESS" once N threads are in their ioctl:
 * one more page, at that address, does not come. A line on standard input has the server answer;
 * then a line "N done" follows. Killed, it leaves the server.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <crypto/cryptodev.h>

#define PAGE 4096u
#define MOST 1024
#define SLOW 50000 /* us */
#define PARTS 128

static int channel, file;
static volatile sig_atomic_t gives;
static uint64_t waiting[MOST];
static unsigned waiters;
static const char *device, *where;
static volatile unsigned begun, done;
static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void be_user(unsigned uid)
{
    if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
        fail("becoming the user");
}

/* ---- the server ---------------------------------------------------------------------------- */

static void give(int number)
{
    (void)number;
    gives = 1;
}

static void reply(uint64_t unique, int error, const void *body, size_t size)
{
    static char buffer[PAGE + 256];
    struct fuse_out_header *header = (void *)buffer;

    *header = (struct fuse_out_header){sizeof(*header) + size, -error, unique};
    memcpy(buffer + sizeof(*header), body, size);
    if (write(channel, buffer, header->len) < 0 && errno != ENOENT)
        _exit(1);
}

static void answer(struct fuse_in_header *in)
{
    static const char page[PAGE];
    struct fuse_attr attributes = {.ino = in->nodeid, .nlink = 1, .size = MOST * PAGE};
    struct fuse_init_out init = {.major = 7, .minor = 31, .max_write = PAGE};
    struct fuse_entry_out entry = {.nodeid = 2, .attr_valid = 1000, .entry_valid = 1000};
    struct fuse_attr_out attr = {.attr_valid = 1000};
    struct fuse_open_out opened = {.fh = 1};

    attributes.mode = in->nodeid == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0666;
    switch (in->opcode) {
    case FUSE_INIT:
        init.max_background = init.congestion_threshold = MOST;
        reply(in->unique, 0, &init, sizeof(init));
        break;
    case FUSE_LOOKUP:
        attributes.ino = 2;
        attributes.mode = S_IFREG | 0666;
        entry.attr = attributes;
        reply(in->unique, 0, &entry, sizeof(entry));
        break;
    case FUSE_GETATTR:
        attr.attr = attributes;
        reply(in->unique, 0, &attr, sizeof(attr));
        break;
    case FUSE_OPEN:
        reply(in->unique, 0, &opened, sizeof(opened));
        break;
    case FUSE_READ:
        if (strcmp(where, "slow") == 0)
            usleep(SLOW);
        if (gives || strcmp(where, "slow") == 0)
            reply(in->unique, 0, page, PAGE);
        else if (waiters < MOST)
            waiting[waiters++] = in->unique;
        break;
    case FUSE_FORGET:
    case FUSE_INTERRUPT:
        break;
    default:
        reply(in->unique, ENOSYS, NULL, 0);
    }
}

static void serve(void)
{
    static char buffer[1 << 17];
    static const char page[PAGE];
    struct sigaction action = {.sa_handler = give};

    sigaction(SIGUSR1, &action, NULL);
    for (;;) {
        ssize_t size = read(channel, buffer, sizeof(buffer));

        while (gives && waiters)
            reply(waiting[--waiters], 0, page, PAGE);
        if (size >= 0)
            answer((void *)buffer);
        else if (errno != EINTR && errno != EAGAIN && errno != ENOENT)
            _exit(0);
    }
}

static pid_t mount_file_system(unsigned uid)
{
    char folder[] = "/mnt/XXXXXX", options[128], path[64];
    pid_t server;

    if (!mkdtemp(folder))
        fail("mkdtemp");
    chmod(folder, 0755);
    channel = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%u,group_id=%u", channel, uid,
             uid);
    if (mount("hung", folder, "fuse.hung", MS_NOSUID | MS_NODEV, options))
        fail("mount fuse");
    be_user(uid);
    server = fork();
    if (server == 0)
        serve();
    close(channel);
    snprintf(path, sizeof(path), "%s/file", folder);
    file = open(path, O_RDWR);
    if (file < 0)
        fail(path);
    return server;
}

/* ---- the callers --------------------------------------------------------------------------- */

static int is(const char *name)
{
    return strcmp(where, name) == 0;
}

static uint32_t new_session(int fd, void *page)
{
    static uint8_t key[32];
    struct session_op op = {.keylen = 16, .key = key};

    op.cipher = is("aad") ? CRYPTO_AES_GCM : CRYPTO_AES_CBC;
    if (is("mac") || is("slow"))
        op.cipher = 0;
    if (op.cipher == 0)
        op.mac = CRYPTO_SHA1;
    if (is("key"))
        op.key = page;
    return ioctl(fd, CIOCGSESSION, &op) ? 0 : op.ses;
}

static int operate(int fd, uint32_t ses, void *page)
{
    uint8_t src[64] = {0}, dst[64 + 16], iv[16] = {0};
    struct crypt_op op = {.ses = ses, .len = 64, .src = src, .dst = dst, .iv = iv};
    struct crypt_auth_op auth = {.ses = ses, .len = 64, .src = src, .dst = dst, .iv = iv};

    auth.auth_src = page;
    auth.auth_len = 16;
    auth.iv_len = 12;
    if (is("aad"))
        return ioctl(fd, CIOCAUTHCRYPT, &auth);
    if (is("source") || is("lock"))
        op.src = page ? page : src;
    if (is("destination"))
        op.dst = page;
    if (is("iv"))
        op.iv = page;
    if (is("mac")) {
        op.mac = page;
        op.iv = NULL;
    }
    return ioctl(fd, CIOCCRYPT, &op);
}

/* A hash, in parts of a mebibyte, each with a page that is slow. */
static int operate_slowly(int fd, uint32_t ses, size_t index)
{
    const int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    uint8_t *src = mmap(NULL, PARTS << 20, PROT_READ | PROT_WRITE, kind, -1, 0), digest[20];
    struct crypt_op op = {.ses = ses, .len = PARTS << 20, .src = src, .mac = digest};

    for (size_t part = 0; part < PARTS; part++) {
        off_t at = (index * PARTS + part) % MOST * PAGE;
        void *page = src + (part << 20);

        if (mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, at) != page)
            fail("mmap");
        madvise(page, PAGE, MADV_RANDOM);
    }
    return ioctl(fd, CIOCCRYPT, &op);
}

static int shared_fd;
static uint32_t shared_session;

static void count(volatile unsigned *what)
{
    pthread_mutex_lock(&counting);
    ++*what;
    pthread_mutex_unlock(&counting);
}

static void *call(void *number)
{
    size_t index = (size_t)number;
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, index * PAGE);
    int fd = shared_fd;
    uint32_t ses = shared_session;

    if (page == MAP_FAILED)
        fail("mmap");
    madvise(page, PAGE, MADV_RANDOM);
    if (is("slow")) {
        count(&begun);
        operate_slowly(fd, ses, index);
    } else if (is("lock")) {
        count(&begun);
        operate(fd, ses, index ? NULL : page);
    } else {
        fd = open(device, O_RDWR | O_CLOEXEC);
        if (is("key"))
            count(&begun);
        ses = new_session(fd, page);
        if (!is("key")) {
            count(&begun);
            operate(fd, ses, page);
        }
        close(fd);
    }
    count(&done);
    return NULL;
}

int main(int count, char **words)
{
    unsigned threads;
    pid_t server;
    char line[16];
    void *spare;

    if (count != 5)
        return 2;
    device = words[1];
    where = words[3];
    threads = atoi(words[4]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        fail("mount namespace");
    if (mount("hung", "/mnt", "tmpfs", 0, "mode=755"))
        fail("mount /mnt");
    server = mount_file_system(atoi(words[2]));
    if (is("lock") || is("slow")) {
        shared_fd = open(device, O_RDWR | O_CLOEXEC);
        shared_session = new_session(shared_fd, NULL);
    }
    for (size_t index = 0; index < threads; index++) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, call, (void *)index))
            fail("pthread_create");
        if (index == 0)
            usleep(100000);
    }
    /* Those beyond what one user may have open or under way wait before they begin. */
    for (int tenths = 0; begun < threads && tenths < 10; tenths++)
        usleep(100000);
    usleep(100000);
    spare = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, (MOST - 1) * PAGE);
    madvise(spare, PAGE, MADV_RANDOM);
    printf("hanging %u %d %zu\n", begun - done, getpid(), (size_t)spare);
    if (!fgets(line, sizeof(line), stdin))
        pause();
    kill(server, SIGUSR1);
    for (int tenths = 0; done < threads && tenths < 300; tenths++)
        usleep(100000);
    printf("%u done\n", done);
    kill(server, SIGKILL);
    return done < threads;
}
