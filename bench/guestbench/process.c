// Processes and threads: making them, and waking one from another.
#define _GNU_SOURCE
#include "guestbench.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static bool succeeded(pid_t child) {
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool fork_exit(const struct options *options, struct samples *samples) {
    for (int round = 0; round < rounds(options, 300); round++) {
        double start = now();
        pid_t child = fork();
        if (child == 0) _exit(0);
        if (child < 0 || !succeeded(child)) return cannot("fork a child");
        add(samples, (now() - start) * 1e6);
    }
    return true;
}

static bool fork_exec(const struct options *options, struct samples *samples) {
    for (int round = 0; round < rounds(options, 300); round++) {
        double start = now();
        pid_t child = fork();
        if (child == 0) {
            execl(options->self, options->self, "--exit", (char *)NULL);
            _exit(127);
        }
        if (child < 0 || !succeeded(child)) return cannot("fork and execute this program");
        add(samples, (now() - start) * 1e6);
    }
    return true;
}

static bool spawn(const struct options *options, struct samples *samples) {
    char *arguments[] = {(char *)options->self, "--exit", NULL};
    for (int round = 0; round < rounds(options, 300); round++) {
        pid_t child;
        double start = now();
        errno = posix_spawn(&child, options->self, NULL, NULL, arguments, environ);
        if (errno != 0 || !succeeded(child)) return cannot("spawn this program");
        add(samples, (now() - start) * 1e6);
    }
    return true;
}

static bool pipe_round_trip(const struct options *options, struct samples *samples) {
    int there[2], back[2];
    char byte = 0;
    if (pipe(there) != 0 || pipe(back) != 0) return cannot("make pipes");
    pid_t child = fork();
    if (child < 0) return cannot("fork a child");
    if (child == 0) {
        close(there[1]);
        close(back[0]);
        while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) continue;
        _exit(0);
    }
    close(there[0]);
    close(back[1]);
    const int warmup = 200, count = rounds(options, 5000);
    bool ok = true;
    for (int round = -warmup; ok && round < count; round++) {
        double start = now();
        ok = write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1;
        if (round >= 0) add(samples, (now() - start) * 1e6);
    }
    close(there[1]);
    close(back[0]);
    return succeeded(child) && ok ? true : cannot("pass a byte through a pipe");
}

static bool pipe_round_trip_one_cpu(const struct options *options, struct samples *samples) {
    if (!pin_to_cpu(0)) return cannot("tie this process to CPU 0");
    bool ok = pipe_round_trip(options, samples);
    unpin();
    return ok;
}

struct handoff {
    _Atomic uint32_t turn;
    int rounds;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }

static void pass_turn(struct handoff *handoff, uint32_t mine) {
    while (atomic_load(&handoff->turn) != mine) futex_wait(&handoff->turn, 1 - mine);
    atomic_store(&handoff->turn, 1 - mine);
    futex_wake(&handoff->turn);
}

static void *answer(void *argument) {
    struct handoff *handoff = argument;
    for (int round = 0; round < handoff->rounds; round++) pass_turn(handoff, 1);
    return NULL;
}

static bool futex_round_trip(const struct options *options, struct samples *samples) {
    const int warmup = 200;
    struct handoff handoff = {.rounds = warmup + rounds(options, 5000)};
    pthread_t thread;
    errno = pthread_create(&thread, NULL, answer, &handoff);
    if (errno != 0) return cannot("start a thread");
    for (int round = 0; round < handoff.rounds; round++) {
        double start = now();
        pass_turn(&handoff, 0);
        while (atomic_load(&handoff.turn) != 0) futex_wait(&handoff.turn, 1);
        if (round >= warmup) add(samples, (now() - start) * 1e6);
    }
    pthread_join(thread, NULL);
    return true;
}

static bool futex_round_trip_one_cpu(const struct options *options, struct samples *samples) {
    if (!pin_to_cpu(0)) return cannot("tie this process to CPU 0");
    bool ok = futex_round_trip(options, samples);
    unpin();
    return ok;
}

static bool thread_start(const struct options *options, struct samples *samples) {
    for (int round = 0; round < rounds(options, 500); round++) {
        struct handoff nothing = {.rounds = 0};
        pthread_t thread;
        double start = now();
        errno = pthread_create(&thread, NULL, answer, &nothing);
        if (errno != 0) return cannot("start a thread");
        pthread_join(thread, NULL);
        add(samples, (now() - start) * 1e6);
    }
    return true;
}

static bool short_sleep(const struct options *options, struct samples *samples) {
    const struct timespec pause = {.tv_nsec = 100000};
    for (int round = 0; round < rounds(options, 500); round++) {
        double start = now();
        nanosleep(&pause, NULL);
        add(samples, (now() - start) * 1e6);
    }
    return true;
}

const struct measurement process_measurements[] = {
    {"fork_exit", "us", false, fork_exit, "fork, child exits, wait"},
    {"fork_exec", "us", false, fork_exec, "fork, exec of this program, exit, wait"},
    {"spawn_exec", "us", false, spawn, "posix_spawn of this program, exit, wait"},
    {"thread_start", "us", false, thread_start, "pthread_create and join"},
    {"pipe_round_trip", "us", false, pipe_round_trip, "one byte to another process and back"},
    {"pipe_round_trip_1cpu", "us", false, pipe_round_trip_one_cpu, "the same, both processes on one CPU"},
    {"futex_round_trip", "us", false, futex_round_trip, "wake another thread and be woken"},
    {"futex_round_trip_1cpu", "us", false, futex_round_trip_one_cpu, "the same, both threads on one CPU"},
    {"sleep_100us", "us", false, short_sleep, "nanosleep of 100 us, as it turns out"},
};
const size_t process_measurement_count = sizeof process_measurements / sizeof *process_measurements;
