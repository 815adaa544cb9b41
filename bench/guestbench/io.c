// Disk (the folder given by --dir) and loopback network.
#define _GNU_SOURCE
#include "guestbench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const size_t block_bytes = 4096, chunk_bytes = 1u << 20, file_bytes = 64u << 20;

// A file in the folder that nobody else sees and that is gone when it is closed.
static int scratch_file(const struct options *options, int flags) {
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/guestbench.XXXXXX", options->directory);
    if (length < 0 || (size_t)length >= sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int file = mkostemp(path, flags | O_CLOEXEC);
    if (file >= 0) unlink(path);
    return file;
}

static char *aligned_buffer(void) {
    void *buffer = NULL;
    if (posix_memalign(&buffer, block_bytes, chunk_bytes) != 0) return NULL;
    memset(buffer, 0x5a, chunk_bytes);
    return buffer;
}

static bool fill(int file, const char *buffer) {
    for (size_t offset = 0; offset < file_bytes; offset += chunk_bytes) {
        if (pwrite(file, buffer, chunk_bytes, (off_t)offset) != (ssize_t)chunk_bytes) return false;
    }
    return fdatasync(file) == 0;
}

static bool write_and_sync(const struct options *options, struct samples *samples) {
    char *buffer = aligned_buffer();
    int file = scratch_file(options, 0);
    bool ok = buffer != NULL && file >= 0 && fill(file, buffer);
    for (int round = 0; ok && round < rounds(options, 200); round++) {
        off_t offset = (off_t)((size_t)round * block_bytes % file_bytes);
        buffer[0] = (char)round;
        double start = now();
        ok = pwrite(file, buffer, block_bytes, offset) == (ssize_t)block_bytes && fdatasync(file) == 0;
        add(samples, (now() - start) * 1e6);
    }
    int kept = errno;
    if (file >= 0) close(file);
    free(buffer);
    errno = kept;
    return ok ? true : cannot("write and sync a file");
}

static bool read_blocks(const struct options *options, struct samples *samples) {
    char *buffer = aligned_buffer();
    int file = scratch_file(options, O_DIRECT);
    bool ok = buffer != NULL && file >= 0 && fill(file, buffer);
    uint32_t random = 1;
    for (int round = 0; ok && round < rounds(options, 1000); round++) {
        random = random * 1664525u + 1013904223u;
        off_t offset = (off_t)((random >> 8) % (file_bytes / block_bytes) * block_bytes);
        double start = now();
        ok = pread(file, buffer, block_bytes, offset) == (ssize_t)block_bytes;
        add(samples, (now() - start) * 1e6);
    }
    int kept = errno;
    if (file >= 0) close(file);
    free(buffer);
    errno = kept;
    return ok ? true : cannot("read a file with O_DIRECT");
}

// Writes or reads the whole file in 1 MiB requests past the page cache; a sample is one pass.
static bool sequential(const struct options *options, struct samples *samples, bool write) {
    char *buffer = aligned_buffer();
    int file = scratch_file(options, O_DIRECT);
    bool ok = buffer != NULL && file >= 0 && fill(file, buffer);
    for (int round = 0; ok && round < rounds(options, 10); round++) {
        double start = now();
        if (write) {
            ok = fill(file, buffer);
        } else {
            for (size_t offset = 0; ok && offset < file_bytes; offset += chunk_bytes) {
                ok = pread(file, buffer, chunk_bytes, (off_t)offset) == (ssize_t)chunk_bytes;
            }
        }
        add(samples, (double)file_bytes / (1u << 20) / (now() - start));
    }
    int kept = errno;
    if (file >= 0) close(file);
    free(buffer);
    errno = kept;
    return ok ? true : cannot("use a file with O_DIRECT");
}

static bool sequential_write(const struct options *options, struct samples *samples) { return sequential(options, samples, true); }
static bool sequential_read(const struct options *options, struct samples *samples) { return sequential(options, samples, false); }

// A connected pair over 127.0.0.1: ends[0] is the client's, ends[1] the server's.
static bool loopback_pair(int ends[2]) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    ends[0] = ends[1] = -1;
    bool ok = listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof address) == 0 &&
              listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&address, &length) == 0 &&
              (ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0 &&
              connect(ends[0], (struct sockaddr *)&address, sizeof address) == 0 &&
              (ends[1] = accept(listener, NULL, NULL)) >= 0;
    for (int i = 0; ok && i < 2; i++) ok = setsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0;
    int kept = errno;
    if (listener >= 0) close(listener);
    errno = kept;
    return ok;
}

static bool tcp_round_trip(const struct options *options, struct samples *samples) {
    int ends[2];
    char byte = 0;
    if (!loopback_pair(ends)) return cannot("connect over 127.0.0.1");
    pid_t child = fork();
    if (child < 0) return cannot("fork a child");
    if (child == 0) {
        close(ends[0]);
        while (read(ends[1], &byte, 1) == 1 && write(ends[1], &byte, 1) == 1) continue;
        _exit(0);
    }
    close(ends[1]);
    const int warmup = 200, count = rounds(options, 3000);
    bool ok = true;
    for (int round = -warmup; ok && round < count; round++) {
        double start = now();
        ok = write(ends[0], &byte, 1) == 1 && read(ends[0], &byte, 1) == 1;
        if (round >= 0) add(samples, (now() - start) * 1e6);
    }
    close(ends[0]);
    waitpid(child, NULL, 0);
    return ok ? true : cannot("pass a byte over 127.0.0.1");
}

// 32 MiB from one process to another, a sample each.
static bool tcp_throughput(const struct options *options, struct samples *samples) {
    static char buffer[128 << 10];
    const size_t pass_bytes = 32u << 20;
    int ends[2];
    if (!loopback_pair(ends)) return cannot("connect over 127.0.0.1");
    pid_t child = fork();
    if (child < 0) return cannot("fork a child");
    if (child == 0) {
        close(ends[0]);
        size_t received = 0;
        for (ssize_t count; (count = read(ends[1], buffer, sizeof buffer)) > 0;) {
            received += (size_t)count;
            if (received < pass_bytes) continue;
            received -= pass_bytes;
            if (write(ends[1], "", 1) != 1) break;
        }
        _exit(0);
    }
    close(ends[1]);
    bool ok = true;
    for (int round = 0; ok && round < rounds(options, 20); round++) {
        char done;
        double start = now();
        for (size_t sent = 0; ok && sent < pass_bytes;) {
            size_t left = pass_bytes - sent;
            ssize_t count = write(ends[0], buffer, left < sizeof buffer ? left : sizeof buffer);
            ok = count > 0;
            if (ok) sent += (size_t)count;
        }
        ok = ok && read(ends[0], &done, 1) == 1;
        add(samples, (double)pass_bytes / (1u << 20) / (now() - start));
    }
    close(ends[0]);
    waitpid(child, NULL, 0);
    return ok ? true : cannot("send over 127.0.0.1");
}

const struct measurement io_measurements[] = {
    {"disk_write_sync", "us", false, write_and_sync, "4 KiB write and fdatasync"},
    {"disk_read_random", "us", false, read_blocks, "4 KiB, O_DIRECT, random"},
    {"disk_write_sequential", "MiB/s", true, sequential_write, "64 MiB in 1 MiB requests, O_DIRECT, fdatasync at the end"},
    {"disk_read_sequential", "MiB/s", true, sequential_read, "64 MiB in 1 MiB requests, O_DIRECT"},
    {"tcp_round_trip", "us", false, tcp_round_trip, "one byte over 127.0.0.1 to another process and back"},
    {"tcp_throughput", "MiB/s", true, tcp_throughput, "over 127.0.0.1 to another process, 32 MiB passes"},
};
const size_t io_measurement_count = sizeof io_measurements / sizeof *io_measurements;
