/* The worker that tells what it was given. It serves every descriptor from 3 on that can be served: it answers
 * HTTP on listening stream sockets, one message per message on the others, and says on stderr what a FIFO brings.
 * GET / is everything a worker can know of itself, as JSON; the rest are orders (see answer_path below).
 * It never looks at LISTEN_*: what it reports is what the kernel says.
 *
 * Words on its command line, any others being left alone: exit=N, ready-exit=N, never-ready, ignore-term, fork,
 * close, bind=PORT, watchdog, pid-file=PATH (its pid is appended). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static int argument_count;
static char **argument;
static char *descriptors; /* JSON, as they were at the start */
static volatile int hung; /* /hang: no watchdog word any more */

static void quote(FILE *out, const char *text) {
    fputc('"', out);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') fprintf(out, "\\%c", c);
        else if (c < 32 || c > 126) fprintf(out, "\\u%04x", c);
        else fputc(c, out);
    }
    fputc('"', out);
}

/* --- sd_notify ------------------------------------------------------------------------------------------------- */

static int notify(const char *text, int fd) {
    const char *where = getenv("NOTIFY_SOCKET");
    if (!where || !*where) return -1;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(where);
    if (length >= sizeof address.sun_path) return -1;
    memcpy(address.sun_path, where, length);
    if (*where == '@') address.sun_path[0] = 0;
    int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct iovec iov = {.iov_base = (void *)text, .iov_len = strlen(text)};
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr message = {.msg_name = &address,
                             .msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length),
                             .msg_iov = &iov,
                             .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    ssize_t sent = sendmsg(s, &message, MSG_NOSIGNAL);
    int saved = errno;
    close(s);
    errno = saved;
    return sent < 0 ? -1 : 0;
}

/* BARRIER=1 with the writing end of a pipe: prebind closes it when all before it was read. */
static const char *barrier(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return "no pipe";
    int sent = notify("BARRIER=1", ends[1]);
    close(ends[1]);
    if (sent) {
        close(ends[0]);
        return "not sent";
    }
    struct pollfd p = {.fd = ends[0], .events = 0};
    int n = poll(&p, 1, 20000);
    close(ends[0]);
    return n == 1 && (p.revents & POLLHUP) ? "released" : "timeout";
}

/* Says something with a new file beside it, whose inode is returned; 0: that failed. */
static unsigned long notify_with_file(const char *text) {
    struct stat file;
    int fd = memfd_create("left", MFD_CLOEXEC);
    int failed = fd < 0 || fstat(fd, &file) || notify(text, fd);
    close(fd);
    return failed ? 0 : (unsigned long)file.st_ino;
}

/* --- what it was given ----------------------------------------------------------------------------------------- */

struct option {
    const char *name;
    int level, number;
};
static const struct option options[] = {
    {"type", SOL_SOCKET, SO_TYPE},
    {"domain", SOL_SOCKET, SO_DOMAIN},
    {"listening", SOL_SOCKET, SO_ACCEPTCONN},
    {"reuseaddr", SOL_SOCKET, SO_REUSEADDR},
    {"reuseport", SOL_SOCKET, SO_REUSEPORT},
    {"keepalive", SOL_SOCKET, SO_KEEPALIVE},
    {"broadcast", SOL_SOCKET, SO_BROADCAST},
    {"rcvbuf", SOL_SOCKET, SO_RCVBUF},
    {"sndbuf", SOL_SOCKET, SO_SNDBUF},
    {"mark", SOL_SOCKET, SO_MARK},
    {"priority", SOL_SOCKET, SO_PRIORITY},
    {"passcred", SOL_SOCKET, SO_PASSCRED},
    {"passsec", SOL_SOCKET, SO_PASSSEC},
    {"timestamp", SOL_SOCKET, SO_TIMESTAMP},
    {"timestampns", SOL_SOCKET, SO_TIMESTAMPNS},
    {"v6only", IPPROTO_IPV6, IPV6_V6ONLY},
    {"hops", IPPROTO_IPV6, IPV6_UNICAST_HOPS},
    {"pktinfo6", IPPROTO_IPV6, IPV6_RECVPKTINFO},
    {"freebind", IPPROTO_IP, IP_FREEBIND},
    {"transparent", IPPROTO_IP, IP_TRANSPARENT},
    {"tos", IPPROTO_IP, IP_TOS},
    {"ttl", IPPROTO_IP, IP_TTL},
    {"pktinfo", IPPROTO_IP, IP_PKTINFO},
    {"nodelay", IPPROTO_TCP, TCP_NODELAY},
    {"defer", IPPROTO_TCP, TCP_DEFER_ACCEPT},
    {"keepidle", IPPROTO_TCP, TCP_KEEPIDLE},
    {"keepintvl", IPPROTO_TCP, TCP_KEEPINTVL},
    {"keepcnt", IPPROTO_TCP, TCP_KEEPCNT},
};

static void describe_socket(FILE *out, int fd) {
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        int value = 0;
        socklen_t length = sizeof value;
        if (getsockopt(fd, options[i].level, options[i].number, &value, &length) == 0)
            fprintf(out, ",\"%s\":%d", options[i].name, value);
    }
    char text[64] = {0};
    socklen_t length = sizeof text - 1;
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, text, &length) == 0) {
        fputs(",\"congestion\":", out);
        quote(out, text);
    }
    memset(text, 0, sizeof text);
    length = sizeof text - 1;
    if (getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, text, &length) == 0) {
        fputs(",\"device\":", out);
        quote(out, text);
    }
    struct tcp_info info;
    length = sizeof info;
    /* For a listening socket the kernel puts the length of its queue and its backlog here. */
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0) fprintf(out, ",\"backlog\":%u", info.tcpi_sacked);
}

static void describe_descriptors(void) {
    size_t size;
    FILE *out = open_memstream(&descriptors, &size);
    DIR *dir = opendir("/proc/self/fd");
    const char *comma = "";
    fputc('[', out);
    for (struct dirent *entry; (entry = readdir(dir));) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == dirfd(dir)) continue;
        char link[64], target[512] = {0};
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if (readlink(link, target, sizeof target - 1) < 0) target[0] = 0;
        fprintf(out, "%s{\"fd\":%d,\"cloexec\":%d,\"nonblock\":%d,\"target\":", comma, fd,
                (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
        quote(out, target);
        struct stat st;
        if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode)) describe_socket(out, fd);
        if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode)) fprintf(out, ",\"pipesize\":%d", fcntl(fd, F_GETPIPE_SZ));
        fputc('}', out);
        comma = ",";
    }
    fputc(']', out);
    closedir(dir);
    fclose(out);
}

static void describe_limits(FILE *out) {
    static const struct {
        const char *name;
        int number;
    } limits[] = {{"as", RLIMIT_AS},         {"core", RLIMIT_CORE},         {"cpu", RLIMIT_CPU},
                  {"data", RLIMIT_DATA},     {"fsize", RLIMIT_FSIZE},       {"locks", RLIMIT_LOCKS},
                  {"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE},
                  {"nofile", RLIMIT_NOFILE}, {"nproc", RLIMIT_NPROC},       {"rtprio", RLIMIT_RTPRIO},
                  {"sigpending", RLIMIT_SIGPENDING}, {"stack", RLIMIT_STACK}};
    const char *comma = "";
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit limit;
        getrlimit(limits[i].number, &limit);
        fprintf(out, "%s\"%s\":[%lld,%lld]", comma, limits[i].name, (long long)limit.rlim_cur,
                (long long)limit.rlim_max);
        comma = ",";
    }
}

/* The lines of /proc/self/status that say something of signals and rights. */
static void describe_status(FILE *out) {
    FILE *in = fopen("/proc/self/status", "re");
    char line[4096];
    const char *comma = "";
    while (fgets(line, sizeof line, in)) {
        char *value = strchr(line, ':');
        if (!value) continue;
        *value++ = 0;
        value += strspn(value, " \t");
        value[strcspn(value, "\n")] = 0;
        fputs(comma, out);
        quote(out, line);
        fputc(':', out);
        quote(out, value);
        comma = ",";
    }
    fclose(in);
}

static void describe(FILE *out) {
    uid_t uid[3];
    gid_t gid[3], group[64];
    getresuid(&uid[0], &uid[1], &uid[2]);
    getresgid(&gid[0], &gid[1], &gid[2]);
    int groups = getgroups(64, group);
    char cwd[4096] = {0};
    if (!getcwd(cwd, sizeof cwd)) cwd[0] = 0;
    mode_t mask = umask(0);
    umask(mask);
    fprintf(out, "{\"pid\":%d,\"ppid\":%d,\"pgid\":%d,\"sid\":%d,\"uid\":[%u,%u,%u],\"gid\":[%u,%u,%u],\"umask\":%u,",
            getpid(), getppid(), getpgrp(), getsid(0), uid[0], uid[1], uid[2], gid[0], gid[1], gid[2], mask);
    fprintf(out, "\"nice\":%d,\"groups\":[", getpriority(PRIO_PROCESS, 0));
    for (int i = 0; i < groups; i++) fprintf(out, "%s%u", i ? "," : "", group[i]);
    fputs("],\"cwd\":", out);
    quote(out, cwd);
    fputs(",\"argv\":[", out);
    for (int i = 0; i < argument_count; i++) {
        if (i) fputc(',', out);
        quote(out, argument[i]);
    }
    fputs("],\"environ\":[", out);
    for (char **e = environ; *e; e++) {
        if (e != environ) fputc(',', out);
        quote(out, *e);
    }
    fputs("],\"limits\":{", out);
    describe_limits(out);
    fputs("},\"status\":{", out);
    describe_status(out);
    fprintf(out, "},\"fds\":%s}", descriptors);
}

/* --- orders ---------------------------------------------------------------------------------------------------- */

static void decode(char *text) {
    char *to = text;
    for (; *text; text++) {
        unsigned value;
        if (*text == '%' && sscanf(text + 1, "%2x", &value) == 1) {
            *to++ = (char)value;
            text += 2;
        } else {
            *to++ = *text;
        }
    }
    *to = 0;
}

/* A child in our process group that lives until it is killed, holding all descriptors. */
static pid_t fork_child(void) {
    pid_t child = fork();
    if (child == 0)
        for (;;) pause();
    return child;
}

static void answer_path(FILE *out, char *path) {
    char *value = strchr(path, '=');
    if (value) {
        *value++ = 0;
        decode(value);
    }
    if (!strcmp(path, "/")) describe(out);
    else if (!strcmp(path, "/pid")) fprintf(out, "%d", getpid());
    else if (!strcmp(path, "/exit?code")) _exit(value ? atoi(value) : 0);
    else if (!strcmp(path, "/die?signal")) kill(getpid(), value ? atoi(value) : SIGKILL), pause();
    else if (!strcmp(path, "/hang-on-term")) signal(SIGTERM, SIG_IGN), fprintf(out, "%d", getpid());
    else if (!strcmp(path, "/hang")) hung = 1, fprintf(out, "%d", getpid());
    else if (!strcmp(path, "/fork")) fprintf(out, "%d", fork_child());
    else if (!strcmp(path, "/notify?text")) fprintf(out, "%d", notify(value ? value : "", -1));
    else if (!strcmp(path, "/notify-with-file?text")) fprintf(out, "%lu", notify_with_file(value ? value : ""));
    else if (!strcmp(path, "/child-notify?text")) { /* said by a child of ours, which is gone before we answer */
        pid_t child = fork();
        if (child == 0) {
            notify(value ? value : "", -1);
            fputs(barrier(), stderr); /* stay until it was read: who we are is looked up by pid */
            _exit(0);
        }
        waitpid(child, NULL, 0);
        fputs("0", out);
    } else if (!strcmp(path, "/barrier")) fputs(barrier(), out);
    else if (!strcmp(path, "/unlink?path")) fprintf(out, "%d", value ? unlink(value) : -1);
    else fprintf(out, "no such order: %s", path);
}

static void answer(int connection) {
    char request[4096] = {0};
    size_t got = 0;
    while (got < sizeof request - 1 && !strstr(request, "\r\n\r\n")) {
        ssize_t n = read(connection, request + got, sizeof request - 1 - got);
        if (n <= 0) return;
        got += (size_t)n;
    }
    char *path = strchr(request, ' ');
    if (!path) return;
    path[1 + strcspn(path + 1, " \r\n")] = 0;
    char *body;
    size_t size;
    FILE *out = open_memstream(&body, &size);
    answer_path(out, path + 1);
    fclose(out);
    dprintf(connection, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", size);
    for (size_t sent = 0; sent < size;) {
        ssize_t n = write(connection, body + sent, size - sent);
        if (n <= 0) break;
        sent += (size_t)n;
    }
    free(body);
}

/* --- one thread per descriptor: a blocking accept is shared with the other copies --------------------------------- */

static void *serve_listener(void *argument_fd) {
    int fd = (int)(long)argument_fd;
    for (;;) {
        int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0) {
            struct pollfd p = {.fd = fd, .events = POLLIN};
            if (errno == EAGAIN) poll(&p, 1, -1);
            else if (errno == EBADF || errno == EINVAL) return NULL;
            continue;
        }
        answer(connection);
        shutdown(connection, SHUT_WR);
        close(connection);
    }
}

static void *serve_datagrams(void *argument_fd) {
    int fd = (int)(long)argument_fd;
    for (;;) {
        char text[256] = {0}, reply[300];
        struct sockaddr_storage from;
        socklen_t length = sizeof from;
        ssize_t n = recvfrom(fd, text, sizeof text - 1, 0, (struct sockaddr *)&from, &length);
        if (n < 0) {
            struct pollfd p = {.fd = fd, .events = POLLIN};
            if (errno == EAGAIN) poll(&p, 1, -1);
            else if (errno == EBADF) return NULL;
            continue;
        }
        int m = snprintf(reply, sizeof reply, "%d got %s", getpid(), text);
        sendto(fd, reply, (size_t)m, 0, (struct sockaddr *)&from, length);
    }
}

static void *serve_fifo(void *argument_fd) {
    int fd = (int)(long)argument_fd;
    for (;;) {
        char text[256] = {0};
        ssize_t n = read(fd, text, sizeof text - 1);
        if (n > 0) {
            text[strcspn(text, "\n")] = 0;
            dprintf(2, "probe: %d read %s\n", getpid(), text);
        } else if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLIN};
            poll(&p, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            return NULL;
        }
    }
}

static void *say_watchdog(void *unused) {
    (void)unused;
    const char *limit = getenv("WATCHDOG_USEC");
    useconds_t half = limit ? (useconds_t)(atol(limit) / 3) : 100000;
    for (;;) {
        if (!hung) notify("WATCHDOG=1", -1);
        usleep(half);
    }
    return NULL;
}

static void thread(void *(*run)(void *), int fd) {
    pthread_t id;
    if (pthread_create(&id, NULL, run, (void *)(long)fd)) perror("probe: thread"), _exit(70);
}

static void serve_given(void) {
    for (int fd = 3; fd < 256; fd++) {
        struct stat st;
        if (fstat(fd, &st)) continue;
        int type = 0, listening = 0;
        socklen_t length = sizeof type;
        if (S_ISFIFO(st.st_mode)) thread(serve_fifo, fd);
        if (!S_ISSOCK(st.st_mode)) continue;
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length);
        length = sizeof listening;
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length);
        if (listening) thread(serve_listener, fd);
        else if (type == SOCK_DGRAM) thread(serve_datagrams, fd);
    }
}

static void bind_own(int port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 16)) perror("probe: bind"), _exit(71);
}

static const char *word(const char *name) {
    size_t length = strlen(name);
    for (int i = 1; i < argument_count; i++) {
        if (strncmp(argument[i], name, length)) continue;
        if (argument[i][length] == '=') return argument[i] + length + 1;
        if (!argument[i][length]) return "";
    }
    return NULL;
}

int main(int argc, char **argv) {
    argument_count = argc;
    argument = argv;
    describe_descriptors();
    const char *value;
    if ((value = word("pid-file"))) {
        int fd = open(value, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
        dprintf(fd, "%d\n", getpid());
        close(fd);
    }
    if ((value = word("exit"))) return atoi(value);
    if (word("ignore-term")) signal(SIGTERM, SIG_IGN);
    if (word("fork")) fork_child();
    if (word("close"))
        for (int fd = 3; fd < 256; fd++) close(fd);
    if ((value = word("bind"))) bind_own(atoi(value));
    serve_given();
    if (!word("never-ready")) notify("READY=1", -1);
    if ((value = word("ready-exit"))) {
        barrier(); /* so that READY=1 was read before the exit is seen */
        return atoi(value);
    }
    if (word("watchdog")) thread(say_watchdog, -1);
    for (;;) pause();
}
