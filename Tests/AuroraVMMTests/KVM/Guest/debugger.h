// Cases of `processor.c`: programs that step over themselves, and a debugger.

#ifndef GUEST_DEBUGGER_H
#define GUEST_DEBUGGER_H

#include <errno.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "faults.h"

// ---------------------------------------------------------------- single steps

static unsigned long steps[64];
static int step_count;
static void note_step(int number, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (number != SIGTRAP) wrong("signal %d at %#llx while stepping", number, r[REG_RIP]);
    if (info->si_code != TRAP_TRACE) wrong("code %d of a step", info->si_code);
    if (step_count < 64) steps[step_count++] = (unsigned long)r[REG_RIP];
}

extern char step_first[], step_last[], step_call[], step_called[];
static void trap_flag(void) {
    catch_signals(note_step);
    step_count = 0;
    __asm__ volatile(
        "pushf\n orq $0x100, (%%rsp)\n popf\n"
        ".globl step_first, step_last\n"
        "step_first: nop\n nop\n nop\n pushf\n andq $~0x100, (%%rsp)\n popf\nstep_last: nop" ::: "memory", "cc");
    // After each instruction from the second nop on; `popf` that clears the flag is the last to be stepped over.
    expect(steps[0], (unsigned long)step_first + 1);
    expect(steps[1], (unsigned long)step_first + 2);
    expect(steps[step_count - 1], (unsigned long)step_last);
    expect(step_count, 6);
}

static void trap_flag_over_a_system_call(void) {
    catch_signals(note_step);
    step_count = 0;
    long answer;
    __asm__ volatile(
        "pushf\n orq $0x100, (%%rsp)\n popf\n"
        ".globl step_call, step_called\nstep_call: syscall\nstep_called: nop\n pushf\n andq $~0x100, (%%rsp)\n popf\n"
        : "=a"(answer) : "0"(SYS_getppid) : "rcx", "r11", "memory", "cc");
    expect(answer, getppid());
    // Linux steps over a system call as over one instruction; some processors report the one after it first.
    if (steps[0] != (unsigned long)step_called && steps[0] != (unsigned long)step_called + 1)
        wrong("the first step is at %#lx, the call at %#lx", steps[0], (unsigned long)step_call);
    if (step_count < 4 || step_count > 5) wrong("%d steps", step_count);
}

static void icebp(void) {
    EXECUTE(0x90, 0xf1, 0x90);
    EXPECT_FAULT(SIGTRAP, TRAP_DEBUG, 0, 2);
    expect(fault.count, 1);
    EXECUTE(0xf1, 0xf1, 0x90);
    EXPECT_FAULT(SIGTRAP, TRAP_DEBUG, 0, 1);
}

// ---------------------------------------------------------------- a debugger

static volatile int watched, unwatched;
static void __attribute__((noinline, noclone)) marked(int value) {
    unwatched = value;
    watched = value;
    __asm__ volatile("" ::: "memory");
}

static pid_t debuggee(void) {
    pid_t child = fork();
    if (child) {
        int status;
        waitpid(child, &status, 0);
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP) wrong("the child did not stop: status %#x", status);
        return child;
    }
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    for (int i = 1; i <= 3; i++) marked(i);
    _exit(7);
}

static unsigned long place(pid_t child) { return (unsigned long)ptrace(PTRACE_PEEKUSER, child, offsetof(struct user, regs.rip), 0); }

static int go_on(pid_t child, int request) {
    int status;
    if (ptrace(request, child, 0, 0)) wrong("ptrace request %d: %s", request, strerror(errno));
    if (waitpid(child, &status, 0) != child) wrong("no child to wait for");
    return status;
}

static void expect_end(pid_t child, int status) {
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) {
        kill(child, SIGKILL);
        wrong("the child ended with status %#x at %#lx", status, place(child));
    }
}

static void single_steps(void) {
    pid_t child = debuggee();
    long count = 0, same = 0;
    unsigned long before = place(child);
    for (;;) {
        int status = go_on(child, PTRACE_SINGLESTEP);
        if (!WIFSTOPPED(status)) {
            expect_end(child, status);
            break;
        }
        if (WSTOPSIG(status) != SIGTRAP) wrong("signal %d at step %ld", WSTOPSIG(status), count);
        unsigned long now = place(child);
        same += now == before;
        before = now;
        count++;
    }
    if (count < 30 || same > count / 2) wrong("%ld steps, %ld of them nowhere", count, same);
}

// What gdb does at a breakpoint: the trap, the old byte back, one step, the trap again, on.
static void breakpoints(void) {
    pid_t child = debuggee();
    unsigned long at = (unsigned long)marked;
    long old = ptrace(PTRACE_PEEKTEXT, child, at, 0), trap = (old & ~0xffL) | 0xcc;
    ptrace(PTRACE_POKETEXT, child, at, trap);
    int hits = 0, status;
    while (status = go_on(child, PTRACE_CONT), WIFSTOPPED(status)) {
        expect(WSTOPSIG(status), SIGTRAP);
        expect(place(child), at + 1);
        hits++;
        ptrace(PTRACE_POKETEXT, child, at, old);
        ptrace(PTRACE_POKEUSER, child, offsetof(struct user, regs.rip), at);
        status = go_on(child, PTRACE_SINGLESTEP);
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP || place(child) == at) wrong("no step from the breakpoint: %#x", status);
        ptrace(PTRACE_POKETEXT, child, at, trap);
    }
    expect_end(child, status);
    expect(hits, 3);
}

static long set_debug(pid_t child, int number, unsigned long value) {
    return ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg) + 8 * (size_t)number, value);
}

// A call that says it has set a breakpoint has set one; one that cannot says so.
static void hardware_breakpoint(unsigned long address, unsigned long kind, int wanted) {
    pid_t child = debuggee();
    errno = 0;
    if (set_debug(child, 0, address) || set_debug(child, 7, kind << 16 | 1)) {
        int refused = errno;
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        if (refused != EOPNOTSUPP && refused != ENOSPC && refused != EINVAL) wrong("refused with %s", strerror(refused));
        dprintf(1, "note %s: refused: %s\n", current, strerror(refused));
        return;
    }
    int hits = 0, status;
    while (status = go_on(child, PTRACE_CONT), WIFSTOPPED(status)) {
        expect(WSTOPSIG(status), SIGTRAP);
        long reason = ptrace(PTRACE_PEEKUSER, child, offsetof(struct user, u_debugreg) + 8 * 6, 0);
        expect(reason & 0xf, 1);
        set_debug(child, 6, 0);
        hits++;
        if (hits > 10) break;
    }
    if (hits <= 10) expect_end(child, status);
    else kill(child, SIGKILL);
    expect(hits, wanted);
}
static void hardware_breakpoint_on_code(void) { hardware_breakpoint((unsigned long)marked, 0, 3); }
static void watchpoint_on_writes(void) { hardware_breakpoint((unsigned long)&watched, 0xd, 3); }
static void watchpoint_on_accesses(void) { hardware_breakpoint((unsigned long)&watched, 0xf, 3); }

static void perf_breakpoint(void) {
    struct perf_event_attr attribute = {.type = PERF_TYPE_BREAKPOINT, .size = sizeof attribute, .bp_type = HW_BREAKPOINT_W,
        .bp_addr = (unsigned long)&watched, .bp_len = HW_BREAKPOINT_LEN_4, .sample_period = 1, .exclude_kernel = 1, .exclude_hv = 1};
    int event = (int)syscall(SYS_perf_event_open, &attribute, 0, -1, -1, 0);
    if (event < 0) {
        dprintf(1, "note %s: refused: %s\n", current, strerror(errno));
        if (errno != EOPNOTSUPP && errno != ENOSPC && errno != ENOSYS) wrong("%s", strerror(errno));
        return;
    }
    for (int i = 0; i < 5; i++) marked(i);
    uint64_t count = 0;
    if (read(event, &count, sizeof count) != sizeof count) wrong("no count");
    expect(count, 5);
}

#endif
