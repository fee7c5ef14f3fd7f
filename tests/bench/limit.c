/* The limit: the least a launcher can do. Binds 127.0.0.1:PORT, starts N workers with posix_spawn,
 * each with the socket at descriptor 3, and starts the next at once when one ends. TERM ends them all.
 * usage: limit PORT N WORKER [ARG]... */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static pid_t *workers;
static int count;

static void stop(int signal)
{
    for (int i = 0; i < count; i++)
        if (workers[i] > 0)
            kill(workers[i], SIGKILL);
    _exit(signal == SIGTERM ? 0 : 1);
}

static int bind_at(int port)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) || bind(fd, (void *)&at, sizeof at)
        || listen(fd, SOMAXCONN)) {
        perror("bind");
        exit(1);
    }
    if (fd != 3) {
        dup2(fd, 3);
        close(fd);
    }
    return 3;
}

static pid_t start(char **argv)
{
    pid_t pid;
    int error = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);

    if (error) {
        errno = error;
        perror(argv[0]);
        stop(0);
    }
    return pid;
}

int main(int argc, char **argv)
{
    struct sigaction act = { .sa_handler = stop };
    sigset_t term;

    if (argc < 4)
        return 2;
    count = atoi(argv[2]);
    workers = calloc(count, sizeof *workers);
    bind_at(atoi(argv[1]));
    setenv("LISTEN_FDS", "1", 1);
    /* A TERM between a spawn and its entry in the table would leave a worker behind. */
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigaction(SIGTERM, &act, NULL);
    sigprocmask(SIG_BLOCK, &term, NULL);
    for (int i = 0; i < count; i++)
        workers[i] = start(argv + 3);
    sigprocmask(SIG_UNBLOCK, &term, NULL);
    for (;;) {
        pid_t ended = waitpid(-1, NULL, 0);

        for (int i = 0; i < count; i++)
            if (workers[i] == ended && ended > 0)
                workers[i] = start(argv + 3);
    }
}
