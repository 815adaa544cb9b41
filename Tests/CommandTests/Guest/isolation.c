// What a program of nobody (uid 65534) can reach of its guest's kernel and of the PV shim: each attempt in a child of its own, with
// handlers for all signals of faults; a line for each: what, where, the signal or "went through".
//
// With the word "breakpoint" the last of them alone; with "ways" it tries instead whether every way into the kernel and back
// works as it should.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { NOBODY = 65534, PAGE = 4096, FORKS = 50, THREADS = 4, TICKS = 20 };
#define SHIM 0xffff830000000000ul
#define GATE (SHIM + 0x400000)

static const uintptr_t kernel[] = {
    0xffffffff81000000, // text
    0xffffffff82000000, // data
    0xffffffff82800000, 0xffff888000001000, // all of memory, as the kernel maps it
    0xffff888000100000, 0xffff888001000000, 0xffff888002000000, 0xffffea0000000000, // struct page of each page
    0xffffc90000000000, // vmalloc
    0xffffffffff5fb000, // fixed mappings
};
static const uintptr_t shim[] = {
    SHIM, SHIM + 0x100, SHIM + 0x6000, SHIM + 0x8000, SHIM + 0xa000, SHIM + 0x30000, // text, struct cpu, tables, shared info
    SHIM + 0x200000, // local APIC
    GATE + 0x1000, // the IDT of strict isolation
    0xffff838000001000, 0xffff840000000000, // all of memory, machine to physical
};
enum { COUNT = 10 };
// Stack pointers of nobody: the first and last ones there are, one that no address is, the kernel's, the shim's.
static const uintptr_t stacks[] = {0, 8, 0x7ffffffff008, 0x0000900000000000, 0xffff888000001000, SHIM + 0xf000, GATE + 8, ~0ul};

static void on_fault(int number) { _exit(number); }

static void catch_faults(void) {
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
    static char stack[65536];
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &(struct sigaction){.sa_handler = on_fault, .sa_flags = SA_ONSTACK}, NULL);
}

static void attempt(const char *what, uintptr_t where, void (*try)(uintptr_t)) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        catch_faults();
        try(where);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    int number = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    const char *name = number == SIGSEGV ? "SIGSEGV"
        : number == SIGTRAP              ? "SIGTRAP"
        : number == SIGBUS               ? "SIGBUS"
        : number                         ? "another signal"
                                         : "went through";
    printf("%s 0x%lx: %s%s\n", what, where, name, WIFSIGNALED(status) ? " (uncaught)" : "");
}

static void read_byte(uintptr_t where) { (void)*(volatile char *)where; }
static void write_byte(uintptr_t where) {
    // Whoever gets so far changes nothing.
    __asm__ volatile("lock orb $0, (%0)" ::"r"(where) : "memory");
}
static void jump(uintptr_t where) {
    // As `syscall` would leave the registers of getpid(), if what is there should be a way in.
    long result = SYS_getpid;
    __asm__ volatile("lea 1f(%%rip), %%rcx\n pushf\n pop %%r11\n jmp *%1\n1:" : "+a"(result) : "r"(where) : "rcx", "r11", "memory");
    if (result != getpid()) _exit(SIGILL);
}
// The shim's monitor call as it was: a signature, and the address of code for ring 0. What is there only returns.
static void monitor_call(uintptr_t where) {
    __asm__ volatile("lea 2f(%%rip), %%rbx\n mov $0x41555221, %%ecx\n xor %%edi, %%edi\n jmp *%0\n2: iretq"
                     ::"r"(where) : "rbx", "rcx", "rdi");
}
static void breakpoint(uintptr_t where) {
    (void)where;
    __asm__ volatile("lea 2f(%%rip), %%rbx\n mov $0x41555221, %%ecx\n int3\n jmp 3f\n2: iretq\n3:" ::: "rbx", "rcx");
}
static void push_there(uintptr_t where) { __asm__ volatile("mov %0, %%rsp\n push %%rax" ::"r"(where) : "memory"); }
static void map_over(uintptr_t where) {
    void *got = mmap((void *)(where & -PAGE), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (got == MAP_FAILED) _exit(SIGSEGV);
}

static int attempts(void) {
    for (int i = 0; i < COUNT; i++) {
        attempt("kernel read", kernel[i], read_byte);
        attempt("kernel write", kernel[i], write_byte);
    }
    for (int i = 0; i < COUNT; i++) {
        attempt("shim read", shim[i], read_byte);
        attempt("shim write", shim[i], write_byte);
    }
    attempt("gate write", GATE, write_byte);
    attempt("gate jump", GATE, jump);
    attempt("gate jump", GATE + 1, jump);
    for (uintptr_t place = SHIM + 0x100; place < SHIM + 0x2000; place += 0x200) attempt("shim jump", place, monitor_call);
    attempt("kernel jump", kernel[0], jump);
    attempt("breakpoint", 0, breakpoint);
    for (unsigned i = 0; i < sizeof stacks / sizeof *stacks; i++) attempt("stack", stacks[i], push_there);
    attempt("map", SHIM, map_over);
    attempt("map", GATE, map_over);
    attempt("map", kernel[3], map_over);
    return 0;
}

// ---------------------------------------------------------------- every way in and back

static int failures;
static void expect(int holds, const char *what) {
    if (holds) return;
    failures++;
    printf("WRONG %s (%s)\n", what, strerror(errno));
}

static volatile sig_atomic_t ticks;
static void on_tick(int number) { (void)number, ticks++; }

// Registers through interrupts and signals, at no moment of the program's choosing.
static void interruptions(void) {
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_tick}, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 5000}, {0, 5000}}, NULL);
    while (ticks < TICKS) {
        uint64_t a = 0x1111111111111111, c = 0x2222222222222222, d = 0x3333333333333333, left = 100000;
        __asm__ volatile("1: dec %3\n jnz 1b" : "+a"(a), "+c"(c), "+d"(d), "+r"(left));
        if (a != 0x1111111111111111 || c != 0x2222222222222222 || d != 0x3333333333333333) expect(0, "registers over interrupts");
        expect(syscall(SYS_getppid) == getppid(), "system calls between signals");
    }
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
}

static void system_call_keeps_registers(void) {
    uint64_t b = 0x4444444444444444, d = 0x5555555555555555, s = 0x6666666666666666, result = SYS_getpid;
    __asm__ volatile("syscall" : "+a"(result), "+b"(b), "+d"(d), "+S"(s)::"rcx", "r11", "memory");
    expect(b == 0x4444444444444444 && d == 0x5555555555555555 && s == 0x6666666666666666, "registers over a system call");
    expect((pid_t)result == getpid(), "getpid");
}

// The way in looks at no stack of the program's.
static void any_stack(void) {
    for (unsigned i = 0; i < sizeof stacks / sizeof *stacks; i++) {
        uint64_t result = SYS_getpid, kept = stacks[i];
        __asm__ volatile("mov %%rsp, %%r12\n mov %1, %%rsp\n syscall\n mov %%rsp, %1\n mov %%r12, %%rsp"
                         : "+a"(result), "+r"(kept)::"rcx", "r11", "r12", "memory");
        expect((pid_t)result == getpid() && kept == stacks[i], "a system call without a stack");
    }
}

// The trap flag over a system call, and over an instruction that faults.
static void traced_by_itself(void) {
    sigaction(SIGTRAP, &(struct sigaction){.sa_handler = on_tick}, NULL);
    uint64_t result = SYS_getpid;
    __asm__ volatile("pushf\n orl $0x100, (%%rsp)\n popf\n syscall\n nop\n pushf\n andl $~0x100, (%%rsp)\n popf"
                     : "+a"(result)::"rcx", "r11", "memory");
    expect((pid_t)result == getpid(), "a system call in single steps");
    signal(SIGTRAP, SIG_DFL);
}

static void bases(void) {
    uint64_t value = 0, wanted = 0x123456789000;
    expect(!syscall(SYS_arch_prctl, 0x1001, wanted), "arch_prctl");
    for (int i = 0; i < FORKS; i++) {
        sched_yield();
        expect(!syscall(SYS_arch_prctl, 0x1004, &value) && value == wanted, "the base of GS");
    }
}

static void forks(void) {
    volatile int mine = 1;
    for (int i = 0; i < FORKS; i++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            mine = 2;
            if (i % 2) execl("/bin/true", "true", (char *)NULL);
            _exit(mine == 2 ? 0 : 1);
        }
        waitpid(child, &status, 0);
        expect(WIFEXITED(status) && WEXITSTATUS(status) == 0 && mine == 1, "a child of its own memory");
    }
}

static void *run_thread(void *argument) {
    static __thread int own;
    for (int i = 0; i < 1000; i++) {
        own++;
        sched_yield();
    }
    return (void *)(intptr_t)(own == 1000 ? (intptr_t)argument : -1);
}

static void threads(void) {
    pthread_t all[THREADS];
    for (intptr_t i = 0; i < THREADS; i++) expect(!pthread_create(&all[i], NULL, run_thread, (void *)i), "pthread_create");
    for (intptr_t i = 0; i < THREADS; i++) {
        void *result = NULL;
        pthread_join(all[i], &result);
        expect(result == (void *)i, "memory of a thread of its own");
    }
}

static void clocks(void) {
    struct timespec fast, slow;
    clock_gettime(CLOCK_MONOTONIC, &fast); // vDSO and vvar
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &slow);
    expect(slow.tv_sec - fast.tv_sec < 5 && slow.tv_sec >= fast.tv_sec, "the clock of the vDSO");
}

// The last page a program can have, code and stack of it, and system calls from its very end.
static void borders(void) {
    enum { FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE };
    uint8_t *last = mmap((void *)0x7fffffffe000, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, FLAGS, -1, 0);
    if (last != MAP_FAILED) {
        static const uint8_t code[] = {0x0f, 0x05, 0xc3}; // syscall; ret
        memcpy(last + PAGE - sizeof code, code, sizeof code);
        expect(((long (*)(void))(last + PAGE - sizeof code))() != 0, "code at the last address");
    }
    void *low = mmap((void *)0x10000, PAGE, PROT_READ | PROT_WRITE, FLAGS, -1, 0);
    if (low != MAP_FAILED) memset(low, 1, PAGE);
    // A border of top-level entries, and more of them than there are in a new process.
    for (uintptr_t slot = 1; slot < 250; slot += 31) {
        char *place = (char *)(slot << 39) - PAGE;
        char *got = mmap(place, 2 * PAGE, PROT_READ | PROT_WRITE, FLAGS, -1, 0);
        if (got == MAP_FAILED) continue;
        memset(got, 7, 2 * PAGE);
        expect(got[PAGE - 1] == 7 && got[PAGE] == 7, "memory over a border");
        expect(!munmap(got, 2 * PAGE), "munmap");
    }
}

static void traced(void) {
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        for (;;) syscall(SYS_getppid);
    }
    int status = 0;
    waitpid(child, &status, 0);
    struct user_regs_struct registers;
    for (int i = 0; i < 2 * FORKS; i++) {
        expect(!ptrace(PTRACE_SYSCALL, child, NULL, NULL) && waitpid(child, &status, 0) == child, "a system call of a traced process");
        if (!WIFSTOPPED(status)) return;
        expect(!ptrace(PTRACE_GETREGS, child, NULL, &registers) && registers.cs == 0x33, "registers of a traced process");
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
}

static int changes;
static uintptr_t seen_address;
static void on_usr1(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    ucontext_t *user = context;
    if (changes == 1) user->uc_mcontext.gregs[REG_RIP] = (greg_t)0x0000900000000000; // not canonical
    if (changes == 2) user->uc_mcontext.gregs[REG_RIP] = (greg_t)SHIM;
    if (changes == 3) user->uc_mcontext.gregs[REG_CSGSFS] = (user->uc_mcontext.gregs[REG_CSGSFS] & ~0xffffl) | 0x10; // no code segment
}
static void on_segv(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    seen_address = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    _exit(changes == 1 && seen_address != 0x0000900000000000 ? 2 : changes == 2 && seen_address != SHIM ? 3 : 42);
}

// Frames that cannot be returned to are the program's own fault.
static void frames(void) {
    static const char *const names[] = {"", "a return to no address", "a return to the shim", "a return to no segment"};
    for (changes = 1; changes <= 3; changes++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            static char stack[65536];
            sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
            sigaction(SIGUSR1, &(struct sigaction){.sa_sigaction = on_usr1, .sa_flags = SA_SIGINFO}, NULL);
            sigaction(SIGSEGV, &(struct sigaction){.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_ONSTACK}, NULL);
            raise(SIGUSR1);
            _exit(1);
        }
        waitpid(child, &status, 0);
        errno = 0;
        expect(WIFEXITED(status) && WEXITSTATUS(status) == 42, names[changes]);
    }
}

static int ways(void) {
    system_call_keeps_registers();
    interruptions();
    any_stack();
    traced_by_itself();
    bases();
    forks();
    threads();
    clocks();
    borders();
    traced();
    frames();
    printf(failures ? "%d failures\n" : "all ways work\n", failures);
    return failures != 0;
}

int main(int count, char **words) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (setgid(NOBODY) || setuid(NOBODY)) return perror("setuid"), 2;
    if (count > 1 && !strcmp(words[1], "breakpoint")) return attempt("breakpoint", 0, breakpoint), 0;
    return count > 1 && !strcmp(words[1], "ways") ? ways() : attempts();
}
