// The first program of a guest under test, built statically by the tests: it keeps as much state as it can where a
// checkpoint could lose it, checks all of it all the time, and prints a line of counters every few milliseconds.
//
// Words of the kernel's command line that begin with "test." choose what it does: test.busy, test.idle, test.end=HOW,
// test.alarm=MILLISECONDS, test.clock (wall clock and random numbers), test.touch (wild accesses to device windows).

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "boot.h"

enum { TICK_MS = 10, TIMER_MS = 2, BLOCK = 4096, BLOCKS = 64, PORT = 1024 };

// Shared by all workers. A worker counts rounds; what it finds wrong it says itself, and counts as an error.
struct shared {
    volatile uint64_t registers, timers, forks, disk, errors, alarm;
};
static struct shared *shared;

static void fail(const char *what, uint64_t a, uint64_t b) {
    __atomic_fetch_add(&shared->errors, 1, __ATOMIC_RELAXED);
    dprintf(1, "WRONG %s: %llx %llx\n", what, (unsigned long long)a, (unsigned long long)b);
}

static uint64_t now(int clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

// ---------------------------------------------------------------- registers

// Runs a loop that keeps its counters in vector and x87 registers only, and checks them at the end.
static void avx_round(uint64_t rounds) {
    uint64_t start[16][4], end[16][4];
    for (int r = 0; r < 16; r++)
        for (int i = 0; i < 4; i++) start[r][i] = (uint64_t)r << 32 | (uint64_t)i << 56;
    uint64_t ones[4] = {1, 1, 1, 1}, left = rounds;
    uint16_t control = 0x0f7f, control_after = 0; // round toward zero: not the default
    uint32_t mxcsr = 0x7f80, mxcsr_after = 0;
    double x87_start[6] = {1, 2, 3, 4, 5, 6}, x87[6];
    __asm__ volatile(
        "fninit\n fldcw %[control]\n ldmxcsr %[mxcsr]\n"
        "fldl 0(%[xs])\n fldl 8(%[xs])\n fldl 16(%[xs])\n fldl 24(%[xs])\n fldl 32(%[xs])\n fldl 40(%[xs])\n"
        ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14\n vmovdqu 32*\\r(%[start]), %%ymm\\r\n .endr\n"
        "vmovdqu (%[ones]), %%ymm15\n"
        "1:\n"
        ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14\n vpaddq %%ymm15, %%ymm\\r, %%ymm\\r\n .endr\n"
        "dec %[left]\n jnz 1b\n"
        ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14\n vmovdqu %%ymm\\r, 32*\\r(%[end])\n .endr\n"
        "fstpl 40(%[xe])\n fstpl 32(%[xe])\n fstpl 24(%[xe])\n fstpl 16(%[xe])\n fstpl 8(%[xe])\n fstpl 0(%[xe])\n"
        "fnstcw %[control_after]\n stmxcsr %[mxcsr_after]\n"
        : [left] "+r"(left), [control_after] "=m"(control_after), [mxcsr_after] "=m"(mxcsr_after)
        : [start] "r"(start), [end] "r"(end), [ones] "r"(ones), [control] "m"(control), [mxcsr] "m"(mxcsr), [xs] "r"(x87_start),
          [xe] "r"(x87)
        : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
          "xmm13", "xmm14", "xmm15");
    uint32_t plain = 0x1f80;
    __asm__ volatile("fninit\n ldmxcsr %0\n vzeroupper" ::"m"(plain));
    for (int r = 0; r < 15; r++)
        for (int i = 0; i < 4; i++)
            if (end[r][i] != start[r][i] + rounds) fail("ymm", end[r][i], start[r][i] + rounds);
    for (int i = 0; i < 6; i++)
        if (x87[i] != x87_start[i]) fail("x87", (uint64_t)i, (uint64_t)x87[i]);
    if (control_after != control) fail("x87 control", control_after, control);
    if (mxcsr_after != mxcsr) fail("mxcsr", mxcsr_after, mxcsr);
}

// The upper halves, the upper sixteen, and a mask register.
__attribute__((target("avx512f,avx512bw"))) static void avx512_round(uint64_t rounds) {
    uint64_t start[32][8], end[32][8], ones[8], mask = 0x123456789abcdef0, mask_after = 0, left = rounds;
    for (int r = 0; r < 32; r++)
        for (int i = 0; i < 8; i++) start[r][i] = (uint64_t)r << 40 | (uint64_t)i << 56;
    for (int i = 0; i < 8; i++) ones[i] = 3;
    __asm__ volatile(
        "kmovq %[mask], %%k5\n"
        ".irp r,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,0,1\n vmovdqu64 64*\\r(%[start]), %%zmm\\r\n .endr\n"
        "vmovdqu64 (%[ones]), %%zmm31\n"
        "1:\n"
        ".irp r,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,0,1\n vpaddq %%zmm31, %%zmm\\r, %%zmm\\r\n .endr\n"
        "dec %[left]\n jnz 1b\n"
        ".irp r,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,0,1\n vmovdqu64 %%zmm\\r, 64*\\r(%[end])\n .endr\n"
        "kmovq %%k5, %[mask_after]\n vzeroupper\n"
        : [left] "+r"(left), [mask_after] "=r"(mask_after)
        : [start] "r"(start), [end] "r"(end), [ones] "r"(ones), [mask] "r"(mask)
        : "memory", "cc", "k5", "xmm0", "xmm1", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",
          "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
    for (int r = 0; r < 31; r++)
        for (int i = 0; i < 8 && (r < 2 || r > 15); i++)
            if (end[r][i] != start[r][i] + 3 * rounds) fail("zmm", end[r][i], start[r][i] + 3 * rounds);
    if (mask_after != mask) fail("opmask", mask_after, mask);
}

static void registers_worker(void) {
    int wide = __builtin_cpu_supports("avx512bw");
    for (;;) {
        avx_round(1000000);
        if (wide) avx512_round(1000000);
        shared->registers++;
    }
}

// ---------------------------------------------------------------- timers

static void timers_worker(void) {
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec each = {{0, TIMER_MS * 1000000}, {0, TIMER_MS * 1000000}};
    timerfd_settime(timer, 0, &each, NULL);
    uint64_t last = now(CLOCK_MONOTONIC), raw = now(CLOCK_MONOTONIC_RAW), boot = now(CLOCK_BOOTTIME);
    for (;;) {
        uint64_t count;
        if (read(timer, &count, sizeof count) != sizeof count) fail("timerfd", (uint64_t)errno, 0);
        shared->timers += count;
        for (int i = 0; i < 20; i++) {
            uint64_t time = now(CLOCK_MONOTONIC), raw_time = now(CLOCK_MONOTONIC_RAW), boot_time = now(CLOCK_BOOTTIME);
            if (time < last) fail("monotonic clock went back", last, time);
            if (raw_time < raw) fail("raw clock went back", raw, raw_time);
            if (boot_time < boot) fail("boot clock went back", boot, boot_time);
            last = time, raw = raw_time, boot = boot_time;
        }
    }
}

// One timer, armed long before it is due: it has to fire on time whatever happens in between.
static void alarm_worker(uint64_t milliseconds) {
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    uint64_t due = now(CLOCK_MONOTONIC) + milliseconds * 1000000, count;
    struct itimerspec once = {{0, 0}, {(time_t)(due / 1000000000), (long)(due % 1000000000)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &once, NULL);
    if (read(timer, &count, sizeof count) != sizeof count) fail("alarm", (uint64_t)errno, 0);
    uint64_t time = now(CLOCK_MONOTONIC);
    if (time < due) fail("the alarm came early", due, time);
    shared->alarm = time - due + 1;
    dprintf(1, "alarm late_ns=%llu\n", (unsigned long long)(time - due));
}

// Sets the wall clock an hour back, then looks at it and at random numbers all the time. When the wall clock jumps, the guest was
// restored: says which was the last old sample, the first new one, and the random numbers around it, each with the time-stamp
// counter before.
static void clock_worker(void) {
    struct timespec behind;
    clock_gettime(CLOCK_REALTIME, &behind);
    behind.tv_sec -= 3600;
    if (clock_settime(CLOCK_REALTIME, &behind)) fail("settime", (uint64_t)errno, 0);
    dprintf(1, "clock set back\n");
    uint64_t old = __builtin_ia32_rdtsc(), last = now(CLOCK_REALTIME), stamps[4] = {0}, values[4] = {0};
    for (uint64_t round = 0;; round++) {
        uint64_t before = __builtin_ia32_rdtsc(), time = now(CLOCK_REALTIME), after = __builtin_ia32_rdtsc();
        int jumped = time > last + 1000000000;
        stamps[round % 4] = __builtin_ia32_rdtsc();
        if (syscall(SYS_getrandom, &values[round % 4], 8, 0) != 8) fail("getrandom", (uint64_t)errno, 0);
        if (jumped) {
            char line[256];
            int length = snprintf(line, sizeof line, "jump %llu %llu %llu", (unsigned long long)old, (unsigned long long)after,
                (unsigned long long)time);
            for (int i = 0; i < 4; i++)
                length += snprintf(line + length, sizeof line - (size_t)length, " %llu:%llx", (unsigned long long)stamps[i],
                    (unsigned long long)values[i]);
            dprintf(1, "%s\n", line);
        }
        old = before, last = time;
    }
}

// Shows all clocks many times a second, and how often a timer was cancelled because the wall clock was set.
static void absence_worker(void) {
    int timer = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    struct itimerspec far = {{0, 0}, {(time_t)(now(CLOCK_REALTIME) / 1000000000) + 100000000, 0}};
    uint64_t cancelled = 0, count;
    for (;;) {
        // A clock that was set since the last read is told here.
        int error = timerfd_settime(timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL);
        if (error && errno == ECANCELED) cancelled++;
        struct timespec pause = {0, TICK_MS * 1000000};
        syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &pause, NULL);
        if (read(timer, &count, sizeof count) < 0 && errno == ECANCELED) cancelled++;
        dprintf(1, "clocks %llu %llu %llu %llu %llu %llu\n", (unsigned long long)now(CLOCK_MONOTONIC),
            (unsigned long long)now(CLOCK_BOOTTIME), (unsigned long long)now(CLOCK_REALTIME), (unsigned long long)now(CLOCK_TAI),
            (unsigned long long)now(CLOCK_MONOTONIC_RAW), (unsigned long long)cancelled);
    }
}

// What the kernel has to say about its clock sources, and which there are.
static void show_clock_sources(void) {
    char text[128] = "";
    int file = open("/sys/devices/system/clocksource/clocksource0/available_clocksource", O_RDONLY | O_CLOEXEC);
    if (file >= 0 && read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
    dprintf(1, "clock sources %s\n", text);
}

// ---------------------------------------------------------------- processes and disk

static void forks_worker(void) {
    for (;;) {
        int ends[2];
        if (pipe(ends)) fail("pipe", (uint64_t)errno, 0);
        pid_t child = fork();
        if (child == 0) {
            uint64_t value = (uint64_t)getpid() * 3;
            _exit(write(ends[1], &value, sizeof value) == sizeof value ? 42 : 1);
        }
        uint64_t value = 0;
        int status = 0;
        if (read(ends[0], &value, sizeof value) != sizeof value || value != (uint64_t)child * 3)
            fail("pipe of a child", value, (uint64_t)child);
        if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 42)
            fail("child", (uint64_t)status, (uint64_t)child);
        close(ends[0]), close(ends[1]);
        shared->forks++;
    }
}

static void disk_worker(void) {
    int disk = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
    if (disk < 0) return;
    uint64_t *block = NULL, versions[BLOCKS] = {0};
    if (posix_memalign((void **)&block, BLOCK, BLOCK)) _exit(1);
    for (uint64_t round = 1;; round++) {
        int place = (int)(round * 7 % BLOCKS), other = (int)(round * 13 % BLOCKS);
        for (int i = 0; i < BLOCK / 8; i++) block[i] = round << 20 | (uint64_t)(place * 512 + i);
        if (pwrite(disk, block, BLOCK, (off_t)place * BLOCK) != BLOCK) fail("write", (uint64_t)errno, round);
        versions[place] = round;
        if (pread(disk, block, BLOCK, (off_t)other * BLOCK) != BLOCK) fail("read", (uint64_t)errno, round);
        for (int i = 0; i < BLOCK / 8 && versions[other]; i++)
            if (block[i] != (versions[other] << 20 | (uint64_t)(other * 512 + i))) {
                fail("block", block[i], versions[other]);
                break;
            }
        shared->disk++;
    }
}

// ---------------------------------------------------------------- vsock: one line in, one line out, one client at a time

static void answer(int client) {
    char line[128];
    ssize_t count = read(client, line, sizeof line - 1);
    if (count <= 0) return;
    line[count] = 0;
    unsigned long long value;
    if (sscanf(line, "settime %llu", &value) == 1) {
        struct timespec time = {(time_t)(value / 1000000000), (long)(value % 1000000000)};
        if (clock_settime(CLOCK_REALTIME, &time)) fail("settime", (uint64_t)errno, value);
    }
    dprintf(client, "%llu %llu\n", (unsigned long long)now(CLOCK_MONOTONIC), (unsigned long long)now(CLOCK_REALTIME));
}

static void vsock_worker(void) {
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_port = PORT, .svm_cid = VMADDR_CID_ANY};
    int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8)) {
        dprintf(1, "vsock: %s\n", strerror(errno));
        return;
    }
    dprintf(1, "vsock listens\n");
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0) continue;
        answer(client);
        close(client);
    }
}

// ---------------------------------------------------------------- ends, and nonsense

static void write_file(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, text, strlen(text)) < 0) dprintf(1, "%s: %s\n", path, strerror(errno));
    close(file);
}

static void end(const char *how) {
    dprintf(1, "ending: %.*s\n", (int)strcspn(how, " \n"), how);
    write_file("/proc/sys/kernel/sysrq", "1");
    if (!strncmp(how, "panic", 5)) write_file("/proc/sysrq-trigger", "c");
    if (!strncmp(how, "reboot", 6)) reboot(RB_AUTOBOOT);
    if (!strncmp(how, "poweroff", 8)) reboot(RB_POWER_OFF);
    if (!strncmp(how, "exit", 4)) _exit(3);
}

// Reads and writes all over the device windows and beyond them, as a driver gone mad would.
static void touch(void) {
    int memory = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
    if (memory < 0) mknod("/dev/mem", S_IFCHR | 0600, makedev(1, 1)), memory = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
    uint64_t base = 1ull << 39 | 1ull << 37, seed = 88172645463325252ull;
    volatile uint8_t *window = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, (off_t)base);
    if (window == MAP_FAILED) {
        dprintf(1, "touched nothing: %s\n", strerror(errno));
        return;
    }
    for (int i = 0; i < 20000; i++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        volatile uint8_t *at = window + (seed >> 8) % (15 * 4096 - 8);
        if (seed & 4) at = window + ((seed >> 8) % 15) * 4096 + (seed >> 20) % 0x100;
        switch (seed % 8) {
        case 0: *at = (uint8_t)(seed >> 32); break;
        case 1: *(volatile uint16_t *)at = (uint16_t)(seed >> 32); break;
        case 2: case 3: *(volatile uint32_t *)((uintptr_t)at & ~3ul) = (uint32_t)(seed >> 32); break;
        case 4: *(volatile uint64_t *)at = seed; break;
        default: (void)*(volatile uint32_t *)at;
        }
    }
    dprintf(1, "touched\n");
}

// ----------------------------------------------------------------

static void start(void (*worker)(void)) {
    if (fork() == 0) {
        worker();
        _exit(0);
    }
}

static void set_up(void) {
    mount_systems();
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

int main(void) {
    set_up();
    load_modules();
    open_console();
    start(vsock_worker);
    start(timers_worker);
    char *alarm = word("test.alarm=");
    if (alarm && fork() == 0) {
        alarm_worker(strtoull(alarm, NULL, 10));
        _exit(0);
    }
    if (word("test.busy")) {
        start(registers_worker);
        start(forks_worker);
        start(disk_worker);
    }
    if (word("test.touch")) start(touch);
    if (word("test.clock")) start(clock_worker);
    if (word("test.absence")) {
        show_clock_sources();
        start(absence_worker);
    }
    dprintf(1, "ready\n");
    for (uint64_t tick = 1;; tick++) {
        struct timespec pause = {0, TICK_MS * 1000000};
        nanosleep(&pause, NULL);
        dprintf(1, "tick %llu mono=%llu registers=%llu timers=%llu forks=%llu disk=%llu alarm=%llu errors=%llu\n", (unsigned long long)tick,
            (unsigned long long)now(CLOCK_MONOTONIC), (unsigned long long)shared->registers, (unsigned long long)shared->timers,
            (unsigned long long)shared->forks, (unsigned long long)shared->disk, (unsigned long long)shared->alarm,
            (unsigned long long)shared->errors);
        char *how = word("test.end=");
        if (how && tick == 20) end(how);
    }
}
