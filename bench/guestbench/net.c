// A TCP service and its client, for measuring a network between two machines: `guestbench --serve PORT` on one,
// `guestbench --peer ADDRESS:PORT` on the other. The client's first byte says what the connection is for.
#define _GNU_SOURCE
#include "guestbench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ECHO = 'e', SINK = 's', SOURCE = 'r' };

static const size_t pass_bytes = 16u << 20;
static char buffer[128 << 10];

static void serve_connection(int connection) {
    char kind, byte;
    if (read(connection, &kind, 1) != 1) return;
    size_t received = 0;
    switch (kind) {
    case ECHO:
        while (read(connection, &byte, 1) == 1 && write(connection, &byte, 1) == 1) continue;
        break;
    case SINK:
        for (ssize_t count; (count = read(connection, buffer, sizeof buffer)) > 0;) {
            received += (size_t)count;
            for (; received >= pass_bytes; received -= pass_bytes) {
                if (write(connection, "", 1) != 1) return;
            }
        }
        break;
    case SOURCE:
        while (write(connection, buffer, sizeof buffer) > 0) continue;
        break;
    default:
        break;
    }
}

int serve(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_ANY)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 16) != 0) {
        fprintf(stderr, "guestbench: cannot listen on port %d: %s\n", port, strerror(errno));
        return 1;
    }
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0) continue;
        setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (fork() == 0) {
            serve_connection(connection);
            _exit(0);
        }
        close(connection);
    }
}

// Connects to options->peer, "ADDRESS:PORT", and says what for.
static int connect_peer(const struct options *options, char kind) {
    char host[64];
    const char *colon = strrchr(options->peer, ':');
    if (colon == NULL || (size_t)(colon - options->peer) >= sizeof host) {
        errno = EINVAL;
        return -1;
    }
    memcpy(host, options->peer, (size_t)(colon - options->peer));
    host[colon - options->peer] = '\0';
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        errno = EINVAL;
        return -1;
    }
    int one = 1, connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0) return -1;
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(connection, (struct sockaddr *)&address, sizeof address) == 0 && write(connection, &kind, 1) == 1) return connection;
    int kept = errno;
    close(connection);
    errno = kept;
    return -1;
}

static bool peer_round_trip(const struct options *options, struct samples *samples) {
    int connection = connect_peer(options, ECHO);
    if (connection < 0) return cannot("connect to the peer");
    char byte = 0;
    bool ok = true;
    const int warmup = 100;
    for (int round = -warmup; ok && round < rounds(options, 3000); round++) {
        double start = now();
        ok = write(connection, &byte, 1) == 1 && read(connection, &byte, 1) == 1;
        if (round >= 0) add(samples, (now() - start) * 1e6);
    }
    close(connection);
    return ok ? true : cannot("pass a byte to the peer and back");
}

static bool peer_send(const struct options *options, struct samples *samples) {
    int connection = connect_peer(options, SINK);
    if (connection < 0) return cannot("connect to the peer");
    bool ok = true;
    for (int round = 0; ok && round < rounds(options, 20); round++) {
        char done;
        double start = now();
        for (size_t sent = 0; ok && sent < pass_bytes;) {
            size_t left = pass_bytes - sent;
            ssize_t count = write(connection, buffer, left < sizeof buffer ? left : sizeof buffer);
            ok = count > 0;
            if (ok) sent += (size_t)count;
        }
        ok = ok && read(connection, &done, 1) == 1;
        add(samples, (double)pass_bytes / (1u << 20) / (now() - start));
    }
    close(connection);
    return ok ? true : cannot("send to the peer");
}

static bool peer_receive(const struct options *options, struct samples *samples) {
    int connection = connect_peer(options, SOURCE);
    if (connection < 0) return cannot("connect to the peer");
    bool ok = true;
    for (int round = 0; ok && round < rounds(options, 20); round++) {
        double start = now();
        for (size_t received = 0; ok && received < pass_bytes;) {
            ssize_t count = read(connection, buffer, sizeof buffer);
            ok = count > 0;
            if (ok) received += (size_t)count;
        }
        add(samples, (double)pass_bytes / (1u << 20) / (now() - start));
    }
    close(connection);
    return ok ? true : cannot("receive from the peer");
}

static bool peer_connect(const struct options *options, struct samples *samples) {
    for (int round = 0; round < rounds(options, 300); round++) {
        char byte = 0;
        double start = now();
        int connection = connect_peer(options, ECHO);
        bool ok = connection >= 0 && write(connection, &byte, 1) == 1 && read(connection, &byte, 1) == 1;
        if (connection >= 0) close(connection);
        if (!ok) return cannot("connect to the peer");
        add(samples, (now() - start) * 1e6);
    }
    return true;
}

const struct measurement peer_measurements[] = {
    {"peer_round_trip", "us", false, peer_round_trip, "one byte over TCP to the peer and back"},
    {"peer_connect", "us", false, peer_connect, "TCP connection to the peer with one exchange"},
    {"peer_send", "MiB/s", true, peer_send, "TCP to the peer, 16 MiB passes"},
    {"peer_receive", "MiB/s", true, peer_receive, "TCP from the peer, 16 MiB passes"},
};
const size_t peer_measurement_count = sizeof peer_measurements / sizeof *peer_measurements;
