/* The measured worker: serves the socket at descriptor 3, one connection at a time.
 * Says READY=1 to $NOTIFY_SOCKET when that is set, and writes one byte to the FIFO $BENCH_MARK
 * when it is up, after $BENCH_READY_MS, so that "200 workers up" is counted the same way under both launchers. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void say_ready(const char *path)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    size_t length = strlen(path);
    int fd;

    if (length == 0 || length >= sizeof to.sun_path)
        return;
    memcpy(to.sun_path, path, length);
    if (path[0] == '@')
        to.sun_path[0] = 0;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&to,
           offsetof(struct sockaddr_un, sun_path) + length + (path[0] != '@'));
    close(fd);
}

static void mark(const char *fifo)
{
    int fd = open(fifo, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, "u", 1) != 1)
        _exit(3);
    close(fd);
}

int main(void)
{
    const char *notify = getenv("NOTIFY_SOCKET"), *fifo = getenv("BENCH_MARK");
    const char *delay = getenv("BENCH_READY_MS");
    char request[4096], answer[256], pid[32];
    int pid_length = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    int length = snprintf(answer, sizeof answer,
                          "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", pid_length, pid);

    if (delay)
        usleep(1000 * atoi(delay));
    if (notify)
        say_ready(notify);
    if (fifo)
        mark(fifo);
    for (;;) {
        int peer = accept4(3, NULL, NULL, SOCK_CLOEXEC);

        if (peer < 0) {
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            perror("accept");
            return 1;
        }
        if (read(peer, request, sizeof request) > 0 && write(peer, answer, length) == length)
            shutdown(peer, SHUT_WR);
        close(peer);
    }
}
