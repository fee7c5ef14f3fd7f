/* What a process of a unit or of a watcher finds, written to the file that its first word names (its pid is added to a name
 * that ends with a dot), one fact a line; then it does what its other words say: ready (READY=1), stay (until a signal ends
 * it), exit=N, accept (one connection of descriptor 3 is answered), cat (what descriptor 0 says goes to descriptor 1).
 * Without a word it ends with 0. Wherever they stand: tell (the numbers of the signals that it gets go to the report's name
 * with .told behind it, and all but HUP end it), deaf (the same, but none ends it), child (a child is forked, whose signals
 * go to .child; the parent does not end before it). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The lines of a /proc file that begin so; all, with "". */
static void lines(FILE *out, const char *path, const char *const *starts) {
    char line[4096];
    FILE *in = fopen(path, "r");
    if (!in) return;
    while (fgets(line, sizeof line, in))
        for (const char *const *start = starts; *start; start++)
            if (!strncmp(line, *start, strlen(*start))) { fputs(line, out); break; }
    fclose(in);
}

static void option(FILE *out, int fd, const char *name, int level, int number) {
    int value = 0;
    socklen_t length = sizeof value;
    if (!getsockopt(fd, level, number, &value, &length)) fprintf(out, " %s=%d", name, value);
}

static void text(FILE *out, int fd, const char *name, int level, int number) {
    char value[64] = "";
    socklen_t length = sizeof value - 1;
    if (!getsockopt(fd, level, number, value, &length)) fprintf(out, " %s=%s", name, value);
}

#define O(level, name) option(out, fd, #name, level, name)
static void socket_facts(FILE *out, int fd) {
    O(SOL_SOCKET, SO_DOMAIN); O(SOL_SOCKET, SO_TYPE); O(SOL_SOCKET, SO_PROTOCOL); O(SOL_SOCKET, SO_ACCEPTCONN);
    O(SOL_SOCKET, SO_REUSEADDR); O(SOL_SOCKET, SO_REUSEPORT); O(SOL_SOCKET, SO_KEEPALIVE); O(SOL_SOCKET, SO_BROADCAST);
    O(SOL_SOCKET, SO_PASSCRED); O(SOL_SOCKET, SO_PASSSEC); O(SOL_SOCKET, SO_TIMESTAMP); O(SOL_SOCKET, SO_TIMESTAMPNS);
    O(SOL_SOCKET, SO_PRIORITY); O(SOL_SOCKET, SO_MARK); O(SOL_SOCKET, SO_RCVBUF); O(SOL_SOCKET, SO_SNDBUF);
    text(out, fd, "SO_BINDTODEVICE", SOL_SOCKET, SO_BINDTODEVICE);
    O(IPPROTO_IP, IP_TOS); O(IPPROTO_IP, IP_TTL); O(IPPROTO_IP, IP_PKTINFO); O(IPPROTO_IP, IP_FREEBIND);
    O(IPPROTO_IP, IP_TRANSPARENT); O(IPPROTO_IPV6, IPV6_V6ONLY); O(IPPROTO_IPV6, IPV6_RECVPKTINFO);
    O(IPPROTO_IPV6, IPV6_UNICAST_HOPS); O(IPPROTO_TCP, TCP_NODELAY); O(IPPROTO_TCP, TCP_KEEPIDLE);
    O(IPPROTO_TCP, TCP_KEEPINTVL); O(IPPROTO_TCP, TCP_KEEPCNT); O(IPPROTO_TCP, TCP_DEFER_ACCEPT);
    text(out, fd, "TCP_CONGESTION", IPPROTO_TCP, TCP_CONGESTION);
    struct tcp_info info;
    socklen_t size = sizeof info;
    /* For a listening socket the kernel puts its backlog here. */
    if (!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size)) fprintf(out, " backlog=%u", info.tcpi_sacked);
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    memset(&address, 0, sizeof address);
    if (!getsockname(fd, (struct sockaddr *)&address, &length)) {
        fprintf(out, " at ");
        for (socklen_t n = 0; n < length; n++) fprintf(out, "%02x", ((unsigned char *)&address)[n]);
    }
}

static void descriptors(FILE *out) {
    for (int fd = 0; fd < 64; fd++) {
        char path[64], target[512];
        struct stat node;
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0 || fd == fileno(out)) continue;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = 0;
        if (fstat(fd, &node)) continue;
        int is_socket = S_ISSOCK(node.st_mode);
        fprintf(out, "fd %d %s access=%d append=%d nonblock=%d cloexec=%d", fd, is_socket ? "socket" : target, flags & O_ACCMODE,
                !!(flags & O_APPEND), !!(flags & O_NONBLOCK), fcntl(fd, F_GETFD));
        if (is_socket) socket_facts(out, fd);
        if (S_ISFIFO(node.st_mode) && fd > 2) fprintf(out, " pipe=%d", fcntl(fd, F_GETPIPE_SZ));
        struct mq_attr attributes;
        if (!syscall(SYS_mq_getsetattr, fd, NULL, &attributes))
            fprintf(out, " mq=%ld,%ld", attributes.mq_maxmsg, attributes.mq_msgsize);
        fputc('\n', out);
    }
}

static void process(FILE *out) {
    static const char *const status[] = {"Uid:", "Gid:", "Groups:", "Umask:", "SigBlk:", "SigIgn:", "SigCgt:", "CapInh:", "CapPrm:",
        "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Cpus_allowed_list:", NULL};
    static const char *const all[] = {"", NULL};
    char directory[4096];
    lines(out, "/proc/self/status", status);
    lines(out, "/proc/self/limits", all);
    fprintf(out, "cwd %s\n", getcwd(directory, sizeof directory));
    fprintf(out, "oom_score_adj "); lines(out, "/proc/self/oom_score_adj", all);
    fprintf(out, "coredump_filter "); lines(out, "/proc/self/coredump_filter", all);
    struct sched_param parameter = {0};
    int policy = sched_getscheduler(0);
    sched_getparam(0, &parameter);
    fprintf(out, "nice %d policy %d priority %d\n", getpriority(PRIO_PROCESS, 0), policy, parameter.sched_priority);
    fprintf(out, "ioprio %ld timerslack %d personality %d securebits %d\n", syscall(SYS_ioprio_get, 1, 0), prctl(PR_GET_TIMERSLACK),
            personality(0xffffffff), prctl(PR_GET_SECUREBITS));
    fprintf(out, "leads group %d session %d\n", getpid() == getpgrp(), getpid() == getsid(0));
}

static void notify(const char *words) {
    const char *where = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!where || strlen(where) >= sizeof address.sun_path) return;
    memcpy(address.sun_path, where, strlen(where));
    if (*where == '@') address.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sendto(fd, words, strlen(words), 0, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + strlen(where));
    close(fd);
}

static char report[4000], draft[4096], told_path[4096], child_path[4096];
static pid_t parent, child;
static int deaf;

static void told(int number) {
    int fd = open(getpid() == parent ? told_path : child_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    char line[3] = {(char)('0' + number / 10), (char)('0' + number % 10), '\n'};
    if (fd < 0 || write(fd, line, sizeof line) < 0) _exit(69);
    close(fd);
    if (number == SIGHUP || (deaf && getpid() == parent)) return;
    if (getpid() == parent && child) waitpid(child, NULL, 0);
    _exit(0);
}

static void listen_to_signals(void) {
    const int all[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGWINCH, SIGRTMIN + 1};
    for (size_t n = 0; n < sizeof all / sizeof *all; n++) signal(all[n], told);
}

static void make_child(void) {
    child = fork();
    if (child) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) pause();
}

static void prepare(int count, char **words) {
    size_t length = strlen(words[1]);
    parent = getpid();
    if (length && words[1][length - 1] == '.') snprintf(report, sizeof report, "%s%d", words[1], parent);
    else snprintf(report, sizeof report, "%s", words[1]);
    snprintf(draft, sizeof draft, "%s.draft", report);
    snprintf(told_path, sizeof told_path, "%s.told", report);
    snprintf(child_path, sizeof child_path, "%s.child", report);
    for (int n = 2; n < count; n++) {
        deaf = deaf || !strcmp(words[n], "deaf");
        if (deaf || !strcmp(words[n], "tell")) listen_to_signals();
    }
    for (int n = 2; n < count; n++)
        if (!strcmp(words[n], "child")) make_child();
}

int main(int count, char **words) {
    if (count < 2) return 64;
    prepare(count, words);
    FILE *out = fopen(draft, "we");
    if (!out) return 65;
    for (int n = 0; n < count; n++) fprintf(out, "argv %d %s\n", n, words[n]);
    int variables = 0;
    while (environ[variables]) variables++;
    qsort(environ, variables, sizeof *environ, compare);
    char own[16];
    snprintf(own, sizeof own, "=%d", getpid());
    for (int n = 0; n < variables; n++) {
        char *equals = strchr(environ[n], '=');
        if (equals && !strcmp(equals, own)) fprintf(out, "env %.*s=OWN\n", (int)(equals - environ[n]), environ[n]);
        else fprintf(out, "env %s\n", environ[n]);
    }
    descriptors(out);
    process(out);
    fclose(out);
    if (rename(draft, report)) return 66;
    for (int n = 2; n < count; n++) {
        if (!strcmp(words[n], "ready")) notify("READY=1");
        else if (!strcmp(words[n], "stay")) for (;;) pause();
        else if (!strncmp(words[n], "exit=", 5)) return atoi(words[n] + 5);
        else if (!strcmp(words[n], "accept")) {
            int fd = accept(3, NULL, NULL);
            if (fd >= 0) { if (write(fd, "served\n", 7) < 0) return 67; close(fd); }
        } else if (!strcmp(words[n], "cat")) {
            char bytes[4096];
            ssize_t length = read(0, bytes, sizeof bytes);
            if (length > 0 && write(1, bytes, length) < 0) return 68;
        }
    }
    return 0;
}
