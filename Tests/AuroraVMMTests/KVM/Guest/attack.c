// Programs that do what none should, as nobody: each attempt is a child with registers, stack pointer, segment bases and flags of a
// seeded generator. The first program looks on and says how many attempts there were, and ends the machine.
//
// Words of the kernel's command line: "kind=NAME" (states: nothing but what a processor must bear; kernel: addresses of kernel and shim
// too; shim: the shim's own code is jumped to; ring0: its monitor call as it once was, with code of the program's), "seed=N", "attempts=N".

#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/ucontext.h>
#include <sys/wait.h>

#include "boot.h"

#define SHIM 0xffff830000000000
#define SHIM_TEXT_BYTES 0x4000
#define SHIM_HEADER_WORDS 16
#define MONITOR_CALL 0x41555221

static uint64_t seed;
static uint64_t next(void) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed;
}
static uint64_t below(uint64_t bound) { return next() % bound; }

static char *page; // two pages of code, then nothing

static bool uses_kernel_addresses;

// Borders where a stack or a base may lie; those of the kernel and the shim come first.
static uint64_t border(void) {
    const uint64_t places[] = {SHIM, SHIM + 0xc000, SHIM + 0x30000, SHIM + 0x200000, SHIM + 0x400000, 0xffff838000000000,
        0xffff840000000000, 0xffff888000000000, 0xffffffff81000000, 0, 8, 0x1000, 0x7ffffffff000, 0x7fffffffffff, 0x800000000000,
        0xffff7fffffffffff, 0xffff800000000000, 0xffffffffffffffff, (uint64_t)page, (uint64_t)page + 8192, (uint64_t)&places};
    uint64_t first = uses_kernel_addresses ? 0 : 9;
    return places[first + below(sizeof places / sizeof *places - first)] + below(3) * 8 - 8;
}

static uint64_t any(void) {
    switch (below(4)) {
    case 0: return border();
    case 1: return MONITOR_CALL;
    case 2: return below(600);
    default: return next();
    }
}

// All registers, then a jump. The frame is read through %rsp last.
struct registers {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, flags, rip, rsp;
};
static void __attribute__((noreturn)) jump(struct registers *r) {
    __asm__ volatile(
        "mov %0, %%rsp\n pop %%rax\n pop %%rbx\n pop %%rcx\n pop %%rdx\n pop %%rsi\n pop %%rdi\n pop %%rbp\n pop %%r8\n pop %%r9\n"
        "pop %%r10\n pop %%r11\n pop %%r12\n pop %%r13\n pop %%r14\n pop %%r15\n popfq\n"
        "push %%rax\n mov 8(%%rsp), %%rax\n mov %%rax, attack_rip(%%rip)\n pop %%rax\n mov 8(%%rsp), %%rsp\n jmp *attack_rip(%%rip)\n"
        ".pushsection .data\nattack_rip: .quad 0\n.popsection" ::"r"(r) : "memory");
    __builtin_unreachable();
}

static struct registers *random_registers(void) {
    static uint64_t room[64]; // what is pushed before the jump lies before the frame
    struct registers *r = (struct registers *)(room + 32);
    for (uint64_t *word = &r->rax; word <= &r->r15; word++) *word = any();
    r->flags = 0x202 | (below(3) ? 0 : 0x100) | (below(4) ? 0 : 0x4000) | (below(4) ? 0 : 0x40000) | (below(4) ? 0 : 0x400);
    r->rsp = below(3) ? border() : (uint64_t)(room + 16);
    return r;
}

// Bytes that leave user mode, one after the other, at the end of what is mapped now and then.
static uint64_t random_code(void) {
    static const char *const pieces[] = {"\x0f\x05", "\xcc", "\x0f\x0b", "\xf1", "\xcd\x80", "\xcd\x03", "\xcd\xff", "\xf4", "\x48\xcf",
        "\x0f\x34", "\xf0\xcd\x80", "\x66\x66\xcd\x80", "\x8e\xc0", "\x8e\xe0", "\x8e\xe8", "\x8e\xd0", "\xf3\x48\x0f\xae\xd8",
        "\xf3\x48\x0f\xae\xd0", "\x0f\x01\xf8", "\x0f\x01\xc8", "\xe6\x80", "\xec", "\x50", "\x58", "\xc3", "\x9d", "\x0f\x20\xd8",
        "\x0f\x22\xd8", "\x0f\x23\xf8", "\x0f\x30", "\x0f\x32", "\x0f\xa2", "\xf7\xf0", "\xa1\x00", "\xcd", "\x66", "\xf3\xf3\xf3\xf3\xf3",
        "\x48\xcb", "\x0f\x07", "\x0f\x35", "\x0f\x01\x10", "\x0f\x00\xd0", "\x0f\xc7\x08", "\xdb\xe3\x9b"};
    for (char *at = page; at < page + 8192;) {
        const char *piece = pieces[below(sizeof pieces / sizeof *pieces)];
        size_t count = strlen(piece) ? strlen(piece) : 1;
        if (at + count > page + 8192) count = (size_t)(page + 8192 - at);
        memcpy(at, piece, count);
        at += count;
    }
    return (uint64_t)page + 8192 - 1 - below(below(4) ? 16 : 8000);
}

static volatile int signals;
static void on_signal(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (++signals > 40) _exit(0);
    // Goes on somewhere, with a spoilt frame now and then.
    r[REG_RIP] = (greg_t)((uint64_t)page + 8192 - 1 - below(64));
    if (!below(6)) r[REG_CSGSFS] = (greg_t)next();
    if (!below(6)) r[REG_RIP] = (greg_t)border();
    if (!below(6)) r[REG_RSP] = (greg_t)border();
    if (!below(6)) r[REG_EFL] = (greg_t)next();
    if (!below(8)) ((ucontext_t *)context)->uc_mcontext.fpregs = (void *)border();
}

static void attempt(const char *kind) {
    static char stack[65536];
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigaltstack(&alternative, NULL);
    if (below(3))
        for (int number = 1; number < 32; number++) sigaction(number, &action, NULL);
    uint64_t base = below(2) || !uses_kernel_addresses ? (uint64_t)page : 0xffff888000000000 + below(1 << 24);
    if (below(2)) __asm__ volatile("wrgsbase %0" ::"r"(base));
    struct registers *r = random_registers();
    r->rip = random_code();
    // Ends of the machine that are asked for properly would say nothing.
    if ((!strcmp(kind, "states") || !strcmp(kind, "kernel")) && (uint32_t)r->rcx == MONITOR_CALL) r->rcx = 0;
    if (!strcmp(kind, "shim")) {
        r->rip = SHIM + below(SHIM_TEXT_BYTES);
        if (below(2)) r->rip = ((const uint64_t *)SHIM)[2 + below(SHIM_HEADER_WORDS - 2)] + below(8) * 32;
    }
    if (!strcmp(kind, "ring0")) {
        r->rcx = MONITOR_CALL;
        r->rbx = below(2) ? (uint64_t)page + below(8000) : SHIM + below(SHIM_TEXT_BYTES);
        page[8191] = (char)0xcc;
        r->rip = (uint64_t)page + 8191;
    }
    jump(r);
}

// What "states" must not do: hurt the kernel, or another program.
static bool is_unharmed(void) {
    char text[32] = "";
    int file = open("/proc/sys/kernel/tainted", O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, text, sizeof text - 1) <= 0) return false;
    close(file);
    return !(atoi(text) & 128);
}

int main(void) {
    mount_systems();
    load_modules();
    open_console();
    char kind[16] = "states";
    if (word("kind=")) snprintf(kind, sizeof kind, "%.*s", (int)strcspn(word("kind="), " \n"), word("kind="));
    uses_kernel_addresses = strcmp(kind, "states") != 0;
    seed = word("seed=") ? strtoull(word("seed="), NULL, 10) | 1 : 1;
    int attempts = word("attempts=") ? atoi(word("attempts=")) : 100, made = 0;
    page = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(page + 8192, 4096, PROT_NONE);
    for (; made < attempts; made++) {
        for (int i = 0; i < 8; i++) next();
        pid_t child = fork();
        if (!child) {
            // No files, and no children that would go on when it has ended.
            struct rlimit one = {.rlim_cur = 1, .rlim_max = 1};
            for (int file = 0; file < 8; file++) close(file);
            if (setrlimit(RLIMIT_NPROC, &one) || setgid(65534) || setuid(65534)) _exit(1);
            struct itimerval limit = {.it_value = {.tv_usec = 200000}};
            setitimer(ITIMER_REAL, &limit, NULL);
            signal(SIGALRM, SIG_DFL);
            attempt(kind);
        }
        // A child that catches the alarm too is ended.
        for (int wait = 0; waitpid(child, NULL, WNOHANG) == 0; wait++) {
            if (wait == 100) kill(child, SIGKILL);
            usleep(wait < 20 ? 200 : 5000);
        }
        if (!is_unharmed()) break;
    }
    dprintf(1, "attempts %d, %s\n", made, is_unharmed() ? "unharmed" : "harmed");
    reboot(RB_POWER_OFF);
}
