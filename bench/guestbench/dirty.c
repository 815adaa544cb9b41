// guestbench --dirty MIB --rate PAGES [--fill MIB]: a program that writes so many pages a second, at random places of so much memory.
#define _GNU_SOURCE
#include "guestbench.h"

#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE_BYTES 4096
#define TICK_NANOSECONDS 1000000

static uint64_t state = 0x9E3779B97F4A7C15;

// xorshift64*: what is written must not compress, nor be the same in two pages.
static uint64_t noise(void) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545F4914F6CDD1D;
}

static uint64_t *filled(size_t bytes) {
    uint64_t *words = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (words == MAP_FAILED) return NULL;
    for (size_t i = 0; i < bytes / sizeof *words; i++) words[i] = noise();
    return words;
}

int dirty(long dirty_mib, long rate, long fill_mib) {
    if (dirty_mib <= 0 || rate < 0 || fill_mib < 0) return 64;
    const size_t pages = (size_t)dirty_mib * 256;
    struct timespec seed;
    clock_gettime(CLOCK_REALTIME, &seed);
    state ^= (uint64_t)seed.tv_nsec << 32 ^ (uint64_t)seed.tv_sec;
    if (fill_mib > 0 && filled((size_t)fill_mib << 20) == NULL) return perror("guestbench: memory to fill"), 1;
    uint64_t *words = filled(pages * PAGE_BYTES);
    if (words == NULL) return perror("guestbench: memory to write"), 1;
    printf("ready\n");
    fflush(stdout);
    const double begin = now();
    double done = 0;
    while (true) {
        const double due = (now() - begin) * (double)rate;
        for (; done < due; done++) {
            const uint64_t random = noise();
            words[random % pages * (PAGE_BYTES / sizeof *words) + (random >> 40) % (PAGE_BYTES / sizeof *words)] = random;
        }
        const struct timespec tick = {.tv_nsec = TICK_NANOSECONDS};
        nanosleep(&tick, NULL);
    }
}
