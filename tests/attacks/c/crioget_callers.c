/* SPDX-License-Identifier: MIT */
/* crioget_callers DEVICE KIND: one kind of caller; see the table at the end. Writes an errno. */
#include "crioget.h"

#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <time.h>

static const char *path;
static int fd;

static int plain(void) { return get(fd); }

static int not_dumpable(void)
{
    prctl(PR_SET_DUMPABLE, 0);
    return get(fd);
}

/* A filter that kills who calls dup, or with `none` one that allows all. */
static int filtered_by(int number)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, filter};

    require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
    require(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "seccomp");
    return get(fd);
}

static int filtered(void) { return filtered_by(SYS_dup); }

/* The errno that `action` gives in a child; 200 and its signal where it is killed. */
static int in_child(int (*action)(void))
{
    int status;
    pid_t child = fork();

    if (!child)
        _exit(action());
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? 200 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int in_pid_namespace(void)
{
    require(unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0, "unshare");
    return in_child(plain);
}

/* Its first process has a filter, as that of a container has; the caller has the same. */
static int allowed_by_container(void)
{
    return filtered_by(SYS_acct);
}

static int in_container(void)
{
    require(unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0, "unshare");
    return in_child(allowed_by_container);
}

static int sandboxed(void)
{
    filtered_by(SYS_acct);
    return in_child(filtered);
}

static int sandboxed_in_container(void)
{
    require(unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0, "unshare");
    return in_child(sandboxed);
}

static int in_user_namespace(void)
{
    require(unshare(CLONE_NEWUSER) == 0, "unshare");
    return get(fd);
}

static int traced(void)
{
    pid_t child = fork();
    int status, error;

    if (!child) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        _exit(get(fd));
    }
    waitpid(child, &status, 0);
    do {
        ptrace(PTRACE_CONT, child, 0, 0);
        waitpid(child, &status, 0);
    } while (WIFSTOPPED(status));
    error = WIFEXITED(status) ? WEXITSTATUS(status) : 200 + WTERMSIG(status);
    return error;
}

static void *thread_gets(void *unused)
{
    (void)unused;
    for (int i = 0; i < 20; i++) {
        int error = get(fd);

        if (error)
            return (void *)(intptr_t)error;
    }
    return NULL;
}

static int threads(void)
{
    pthread_t others[4];
    void *error = NULL, *one;

    for (int i = 0; i < 4; i++)
        pthread_create(&others[i], NULL, thread_gets, NULL);
    for (int i = 0; i < 4; i++) {
        pthread_join(others[i], &one);
        error = error ? error : one;
    }
    return (int)(intptr_t)error;
}

static void *after_leader(void *unused)
{
    (void)unused;
    usleep(20000);
    _exit(get(fd));
}

static int without_leader(void)
{
    pthread_t other;

    pthread_create(&other, NULL, after_leader, NULL);
    syscall(SYS_exit, 0);
    return 0;
}

static int vforked(void)
{
    int status;
    pid_t child = vfork();

    if (!child)
        _exit(get(fd));
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static int unmapped(void) { return ioctl(fd, CRIOGET, (void *)8) ? errno : 0; }

/* Nothing is left open. */
static int read_only(void)
{
    void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int before = dup(fd), error, after;

    close(before);
    error = ioctl(fd, CRIOGET, page) ? errno : 0;
    after = dup(fd);
    return after == before ? error : 250;
}

static int no_descriptors(void)
{
    int first = dup(fd);
    struct rlimit limit = {(rlim_t)first, (rlim_t)first};

    close(first);
    setrlimit(RLIMIT_NOFILE, &limit);
    return get(fd);
}

static int no_processes(void)
{
    struct rlimit limit = {1, 1};

    setrlimit(RLIMIT_NPROC, &limit);
    return get(fd);
}

static int missing_page(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    int faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register range = {{(uintptr_t)page, 4096}, UFFDIO_REGISTER_MODE_MISSING, 0};

    if (faults < 0 || ioctl(faults, UFFDIO_API, &api))
        return 251;
    require(ioctl(faults, UFFDIO_REGISTER, &range) == 0, "register");
    return ioctl(fd, CRIOGET, page) ? errno : 0;
}

static volatile int handled;

static void handle(int number)
{
    (void)number;
    handled++;
}

/* Signals that queue are each handled once, whatever is being done meanwhile. */
static int storm(void)
{
    struct sigaction action = {.sa_handler = handle};
    pid_t caller = getpid(), child;
    int sent = 2000, status;

    sigaction(SIGRTMIN, &action, NULL);
    child = fork();
    if (!child) {
        union sigval value = {0};

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int i = 0; i < sent; i++) {
            while (sigqueue(caller, SIGRTMIN, value))
                usleep(100);
            usleep(50);
        }
        _exit(0);
    }
    do {
        int error = get(fd);

        if (error)
            return error;
    } while (waitpid(child, &status, WNOHANG) == 0);
    return handled == sent ? 0 : 252;
}

static int blocked_signals_stay(void)
{
    sigset_t mask, after;

    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    for (int i = 0; i < 50; i++)
        if (get(fd))
            return 253;
    sigprocmask(SIG_SETMASK, NULL, &after);
    return memcmp(&mask, &after, 8) ? 254 : 0;
}

/* It is killed in the middle of it, at any time; others find the device as it was. */
static int killed(void)
{
    for (int i = 0; i < 100; i++) {
        int status;
        pid_t child = fork();

        while (!child)
            get(fd);
        usleep((useconds_t)(i * 53 % 4000));
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
    }
    return get(fd);
}

static const struct {
    const char *name;
    int (*action)(void);
} kinds[] = {
    {"plain", plain},
    {"not-dumpable", not_dumpable},
    {"filtered", filtered},
    {"in-pid-namespace", in_pid_namespace},
    {"in-container", in_container},
    {"sandboxed-in-container", sandboxed_in_container},
    {"in-user-namespace", in_user_namespace},
    {"traced", traced},
    {"threads", threads},
    {"without-leader", without_leader},
    {"vforked", vforked},
    {"unmapped", unmapped},
    {"read-only", read_only},
    {"no-descriptors", no_descriptors},
    {"no-processes", no_processes},
    {"missing-page", missing_page},
    {"storm", storm},
    {"mask", blocked_signals_stay},
    {"killed", killed},
};

int main(int argc, char **argv)
{
    require(argc == 3, "arguments");
    path = argv[1];
    fd = device(path);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!strcmp(argv[2], kinds[i].name)) {
            double began = seconds();
            /* In a child: what kills it is seen. */
            int error = in_child(kinds[i].action);

            printf("%d %.0f\n", error, (seconds() - began) * 1000);
            return 0;
        }
    }
    return 98;
}
