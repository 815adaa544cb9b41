// Instructions that fault, and what their process is told of them: for `processor.c`.

#ifndef GUEST_FAULTS_H
#define GUEST_FAULTS_H

#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { TRAP_DEBUG = 1, TRAP_UD = 6, TRAP_GP = 13 };

// A failed case says why, once, and ends its process.
static const char *current;
static void __attribute__((noreturn, format(printf, 1, 2))) wrong(const char *format, ...) {
    char text[400];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    dprintf(1, "WRONG %s: %s\n", current, text);
    _exit(1);
}
#define expect(value, wanted) \
    do { \
        long long value_ = (long long)(value), wanted_ = (long long)(wanted); \
        if (value_ != wanted_) wrong("line %d: %s is %#llx, not %#llx", __LINE__, #value, value_, wanted_); \
    } while (0)

// ---------------------------------------------------------------- signals of instructions

struct fault {
    int signal, code;
    unsigned long trap, error, address, rip, rsp, cs, flags;
    int count;
};
static volatile struct fault fault;
static unsigned long resume_at; // where to go on after a fault; 0: at the same place

static void note_fault(int number, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    fault.signal = number;
    fault.code = info->si_code;
    fault.trap = (unsigned long)r[REG_TRAPNO];
    fault.error = (unsigned long)r[REG_ERR];
    fault.address = (unsigned long)info->si_addr;
    fault.rip = (unsigned long)r[REG_RIP];
    fault.rsp = (unsigned long)r[REG_RSP];
    fault.cs = (unsigned long)r[REG_CSGSFS];
    fault.flags = (unsigned long)r[REG_EFL];
    fault.count++;
    if (resume_at) r[REG_RIP] = (greg_t)resume_at;
}

static void catch_signals(void (*handler)(int, siginfo_t *, void *)) {
    static const int signals[] = {SIGSEGV, SIGILL, SIGTRAP, SIGBUS, SIGFPE};
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    static char stack[65536] __attribute__((aligned(16)));
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternative, NULL);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
}

// Executes some bytes of code and notes what they raise; they may fall off their end, where there is `ret`.
static unsigned char *code_page;
static void execute(const void *code, size_t count) {
    if (!code_page) code_page = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    memset(code_page, 0xcc, 4096);
    memcpy(code_page, code, count);
    code_page[count] = 0xc3;
    memset((void *)&fault, 0, sizeof fault);
    catch_signals(note_fault);
    unsigned char *target = code_page;
    __asm__ volatile(
        "lea 1f(%%rip), %%rax\n mov %%rax, %[resume]\n push %%rbp\n mov %%rsp, %%rbp\n and $-16, %%rsp\n call *%%rbx\n"
        "1: mov %%rbp, %%rsp\n pop %%rbp\n"
        : [resume] "=m"(resume_at), "+b"(target) : : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory");
    resume_at = 0;
}
#define EXECUTE(...) ({ static const unsigned char code_[] = {__VA_ARGS__}; execute(code_, sizeof code_); })

static void expect_fault(int line, int signal, unsigned long trap, unsigned long error, long offset) {
    unsigned long place = (unsigned long)code_page + (unsigned long)offset;
    if (fault.signal != signal || fault.trap != trap || fault.error != error || fault.rip != place)
        wrong("line %d: signal %d trap %lu error %#lx at %+ld, not signal %d trap %lu error %#lx at %+ld", line, fault.signal, fault.trap,
            fault.error, (long)(fault.rip - (unsigned long)code_page), signal, trap, error, offset);
}
#define EXPECT_FAULT(signal, trap, error, offset) expect_fault(__LINE__, signal, trap, error, offset)

#endif
