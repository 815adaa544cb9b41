// What a processor and its memory do without the kernel's help, and the cheapest ways into the kernel.
#define _GNU_SOURCE
#include "guestbench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static bool null_system_call(const struct options *options, struct samples *samples) {
    const int batch = 1000;
    for (int round = 0; round < rounds(options, 500); round++) {
        double start = now();
        for (int i = 0; i < batch; i++) syscall(SYS_getppid);
        add(samples, (now() - start) * 1e6 / batch);
    }
    return true;
}

static bool read_clock(const struct options *options, struct samples *samples) {
    const int batch = 2000;
    struct timespec time;
    for (int round = 0; round < rounds(options, 500); round++) {
        double start = now();
        for (int i = 0; i < batch; i++) clock_gettime(CLOCK_MONOTONIC, &time);
        add(samples, (now() - start) * 1e9 / batch);
    }
    return true;
}

// Integer arithmetic with a dependency chain, 10 million steps; the result is used so that it is not optimized away.
static bool integer_loop(const struct options *options, struct samples *samples) {
    volatile uint64_t sink = 0;
    for (int round = 0; round < rounds(options, 40); round++) {
        uint64_t state = 88172645463325252ull + (uint64_t)round;
        double start = now();
        for (int i = 0; i < 10000000; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        add(samples, (now() - start) * 1e3);
        sink += state;
    }
    return true;
}

static bool float_loop(const struct options *options, struct samples *samples) {
    volatile double sink = 0;
    for (int round = 0; round < rounds(options, 40); round++) {
        double value = 1.0 + round;
        double start = now();
        for (int i = 0; i < 5000000; i++) value = value * 1.0000001 + 1e-9;
        add(samples, (now() - start) * 1e3);
        sink += value;
    }
    return true;
}

static const size_t buffer_bytes = 64u << 20;

static bool memset_bandwidth(const struct options *options, struct samples *samples) {
    char *buffer = mmap(NULL, buffer_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED) return cannot("map 64 MiB");
    memset(buffer, 1, buffer_bytes);
    for (int round = 0; round < rounds(options, 30); round++) {
        double start = now();
        memset(buffer, round, buffer_bytes);
        __asm__ volatile("" : : "r"(buffer) : "memory");
        add(samples, (double)buffer_bytes / (1u << 30) / (now() - start));
    }
    munmap(buffer, buffer_bytes);
    return true;
}

// A pointer chase through 32 MiB in random order: cache and translation misses.
static bool memory_latency(const struct options *options, struct samples *samples) {
    const uint32_t count = 8u << 20, steps = 100000;
    uint32_t *next = mmap(NULL, count * sizeof(uint32_t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (next == MAP_FAILED) return cannot("map 32 MiB");
    // The same page size on both sides, whatever the kernel's policy for huge pages.
    madvise(next, count * sizeof(uint32_t), MADV_NOHUGEPAGE);
    for (uint32_t i = 0; i < count; i++) next[i] = i;
    uint64_t random = 88172645463325252ull;
    // Sattolo's shuffle: a single cycle through all entries.
    for (uint32_t i = count - 1; i > 0; i--) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint32_t j = (uint32_t)(random % i), kept = next[i];
        next[i] = next[j];
        next[j] = kept;
    }
    volatile uint32_t sink = 0;
    uint32_t at = 0;
    for (int round = 0; round < rounds(options, 50); round++) {
        double start = now();
        for (uint32_t i = 0; i < steps; i++) at = next[at];
        add(samples, (now() - start) * 1e9 / steps);
        sink += at;
    }
    munmap(next, count * sizeof(uint32_t));
    return true;
}

// Touches 64 MiB page by page, 64 pages a sample.
static bool touch_pages(struct samples *samples, size_t bytes) {
    const size_t page = 4096, batch = 64;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return cannot("map memory");
    // A fault is a fault of one 4 KiB page on both sides.
    madvise(memory, bytes, MADV_NOHUGEPAGE);
    for (size_t offset = 0; offset + batch * page <= bytes; offset += batch * page) {
        double start = now();
        for (size_t i = 0; i < batch; i++) memory[offset + i * page] = 1;
        add(samples, (now() - start) * 1e6 / (double)batch);
    }
    munmap(memory, bytes);
    return true;
}

// In a guest the first touch also makes the host find a page; run before anything else has used much memory.
static bool page_fault_first(const struct options *options, struct samples *samples) {
    return touch_pages(samples, options->quick ? 8u << 20 : 48u << 20);
}

static bool page_fault_again(const struct options *options, struct samples *samples) {
    static struct samples ignored;
    size_t bytes = options->quick ? 4u << 20 : 16u << 20;
    ignored.count = 0;
    if (!touch_pages(&ignored, bytes)) return false;
    for (int round = 0; round < rounds(options, 20); round++) {
        if (!touch_pages(samples, bytes)) return false;
    }
    return true;
}

const struct measurement cpu_measurements[] = {
    {"page_fault_first_touch", "us", false, page_fault_first, "anonymous 4 KiB page, memory not used before"},
    {"page_fault_again", "us", false, page_fault_again, "anonymous 4 KiB page, memory the kernel has used before"},
    {"null_system_call", "us", false, null_system_call, "getppid through syscall(2)"},
    {"clock_gettime", "ns", false, read_clock, "CLOCK_MONOTONIC through the vDSO"},
    {"cpu_integer", "ms", false, integer_loop, "10 million dependent shifts and xors"},
    {"cpu_float", "ms", false, float_loop, "5 million dependent multiply-adds"},
    {"memset", "GiB/s", true, memset_bandwidth, "64 MiB"},
    {"memory_latency", "ns", false, memory_latency, "random pointer chase through 32 MiB, 4 KiB pages"},
};
const size_t cpu_measurement_count = sizeof cpu_measurements / sizeof *cpu_measurements;
