// Runs each row in a child of its own, as nobody where it need not be root, with handlers for all signals, and prints a line:
//   name: SIGSEGV code 128 trap 13 error 0x10 at +3 flags 0x202 cs 33 ss 2b address 0
// `probe` runs all rows, `probe WORD...` those whose names have one of the words, `probe --rounds N` all of them N times, with a
// line "# round I of N" after each.

#define _GNU_SOURCE
#include "probe.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_EACH 5 // a row that takes longer was stopped from outside
#define EVENTS 24
#define NOBODY 65534
#define ARITHMETIC_AND_RESUME 0x108d5u // flags that many instructions leave undefined, and RF

struct event {
    u64 signal, code, trap, error, rip, flags, cr2, cs, ss, rsp, address;
};

// Shared with the child.
static struct outcome {
    struct event events[EVENTS];
    u64 count, result;
    bool returned;
    char text[1024];
} *shared;

static const struct row *current;
static bool altered;
__attribute__((used)) static u64 saved_stack, target;

// The row's code may have ruined everything but this process's memory: no library call, no thread-local data here.
static void stop_here(void) {
    for (;;) __asm__ volatile("syscall" ::"a"(SYS_exit_group), "D"(0L) : "rcx", "r11", "memory");
}

static void on_signal(int number, siginfo_t *info, void *frame) {
    __asm__ volatile("pushfq; andl $~0x40000, (%%rsp); popfq" ::: "memory", "cc");
    ucontext_t *context = frame;
    greg_t *registers = context->uc_mcontext.gregs;
    u64 selectors = (u64)registers[REG_CSGSFS];
    if (current->alter && !altered) {
        altered = true;
        current->alter(context);
        return;
    }
    bool inside = (u64)registers[REG_RIP] >= (u64)current->code && (u64)registers[REG_RIP] < (u64)current->end;
    bool goes_on = current->mode == STEPS && number == SIGTRAP && shared->count < EVENTS;
    if (goes_on && !inside) {
        registers[REG_EFL] &= ~0x100l;
        return;
    }
    if (shared->count < EVENTS)
        shared->events[shared->count++] = (struct event){
            (u64)number, (u64)info->si_code, (u64)registers[REG_TRAPNO], (u64)registers[REG_ERR], (u64)registers[REG_RIP],
            (u64)registers[REG_EFL], (u64)registers[REG_CR2], selectors & 0xffff, selectors >> 48, (u64)registers[REG_RSP],
            (u64)info->si_addr,
        };
    if (!goes_on) stop_here();
}

__attribute__((naked)) static u64 call_target(void) {
    __asm__("push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
            "mov %rsp, saved_stack(%rip)\n"
            "mov $0x30010000, %esp\n"
            "xor %ebx, %ebx\nxor %ecx, %ecx\nxor %edx, %edx\nxor %esi, %esi\nxor %ebp, %ebp\n"
            "xor %r8d, %r8d\nxor %r9d, %r9d\nxor %r10d, %r10d\nxor %r11d, %r11d\n"
            "xor %r12d, %r12d\nxor %r13d, %r13d\nxor %r14d, %r14d\nxor %r15d, %r15d\n"
            "mov $0x20000000, %edi\npush $0x202\npopfq\nmov $0, %eax\n"
            "call *target(%rip)\n"
            "mov saved_stack(%rip), %rsp\npush $0x202\npopfq\n"
            "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret");
}

u64 run(const struct row *row) {
    target = (u64)row->code;
    return call_target();
}

void say(const char *format, ...) {
    size_t used = strlen(shared->text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(shared->text + used, sizeof shared->text - used, format, arguments);
    va_end(arguments);
}

const char *place(const struct row *row, u64 address) {
    static char text[4][32];
    static unsigned next;
    char *chosen = text[next++ % 4];
    if (address >= (u64)row->code && address < (u64)row->end) {
        snprintf(chosen, sizeof text[0], "+%lu", address - (u64)row->code);
    } else {
        snprintf(chosen, sizeof text[0], "%#lx", address);
    }
    return chosen;
}

const char *outcome(long result) { return result < 0 ? strerrorname_np(errno) : "0"; }

static void map(u64 address, size_t bytes) {
    if (mmap((void *)address, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED) {
        perror("probe: mmap");
        exit(1);
    }
}

static void handle_all_signals(void) {
    stack_t stack = {.ss_sp = (void *)0x31000000, .ss_size = 0x20000};
    map(0x31000000, stack.ss_size);
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    for (int number = 1; number < 32; number++)
        if (number != SIGKILL && number != SIGSTOP && number != SIGCHLD) sigaction(number, &action, NULL);
}

static void child(const struct row *row) {
    const struct rlimit no_core = {0};
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    map(SCRATCH, 0x2000);
    map(STACK_TOP - 0x10000, 0x10000);
    memset((void *)SCRATCH, 0x11, 64);
    if (!row->as_root && getuid() == 0 && (setgid(NOBODY) || setuid(NOBODY))) perror("probe: setuid");
    handle_all_signals();
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {.tv_sec = 3}}, NULL);
    current = row;
    shared->result = row->function ? row->function(row) : run(row);
    shared->returned = true;
    stop_here();
}

// Waits for the child, and kills one that takes too long.
static bool finished(pid_t pid, int *status) {
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    struct timespec now, until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += SECONDS_EACH;
    for (;;) {
        if (waitpid(pid, status, WNOHANG) == pid) return true;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec >= until.tv_sec) break;
        sigtimedwait(&ended, NULL, &(struct timespec){.tv_sec = 1});
    }
    kill(pid, SIGKILL);
    waitpid(pid, status, 0);
    return false;
}

static char *add_event(char *line, const struct row *row, const struct event *event) {
    char name[16];
    snprintf(name, sizeof name, "SIG%s", sigabbrev_np((int)event->signal));
    line += sprintf(line, " %s code %ld trap %lu error %#lx at %s flags %#lx cs %lx ss %lx", name, (long)(int)event->code, event->trap,
        event->error, place(row, event->rip), event->flags & ~(u64)ARITHMETIC_AND_RESUME, event->cs, event->ss);
    if (event->trap == 14) line += sprintf(line, " cr2 %s", place(row, event->cr2));
    if (event->signal != SIGALRM) line += sprintf(line, " address %s", place(row, event->address));
    if (event->rsp > STACK_TOP || event->rsp < STACK_TOP - 0x10000) line += sprintf(line, " stack %#lx", event->rsp);
    return line;
}

// The row's line, from what the child left and how it ended.
static void describe(const struct row *row, char *line, bool in_time, int status) {
    line += sprintf(line, "%s:", row->name);
    if (shared->text[0]) line += sprintf(line, " %.1000s", shared->text);
    if (row->mode == STEPS && shared->count) {
        line += sprintf(line, " steps at");
        u64 i = 0;
        for (; i < shared->count && shared->events[i].signal == SIGTRAP; i++)
            line += sprintf(line, " %s/%lu", place(row, shared->events[i].rip), shared->events[i].code);
        for (; i < shared->count; i++) line = add_event(line, row, &shared->events[i]);
    } else {
        for (u64 i = 0; i < shared->count; i++) line = add_event(line, row, &shared->events[i]);
    }
    if (shared->returned) line += sprintf(line, " returned %#lx", shared->result);
    if (!in_time) line += sprintf(line, " never ended");
    else if (WIFSIGNALED(status)) line += sprintf(line, " killed by SIG%s", sigabbrev_np(WTERMSIG(status)));
}

static void try_row(const struct row *row, char *line) {
    memset(shared, 0, sizeof *shared);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) child(row);
    int status = 0;
    bool in_time = pid > 0 && finished(pid, &status);
    describe(row, line, in_time, status);
}

static bool chosen(const struct row *row, char **words) {
    if (!*words) return true;
    for (; *words; words++)
        if (strstr(row->name, *words)) return true;
    return false;
}

int main(int count, char **words) {
    extern const struct row *const __start_rows[], *const __stop_rows[];
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ended, NULL);
    int rounds = 1;
    words++;
    if (count > 2 && !strcmp(words[0], "--rounds")) rounds = atoi(words[1]), words += 2;
    char line[2048];
    for (int round = 1; round <= rounds; round++) {
        for (const struct row *const *row = __start_rows; row < __stop_rows; row++) {
            if (!chosen(*row, words)) continue;
            try_row(*row, line);
            puts(line);
        }
        if (rounds > 1) printf("# round %d of %d\n", round, rounds);
        fflush(stdout);
    }
    return 0;
}
