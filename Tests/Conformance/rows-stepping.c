// Single stepping, debug registers, the time stamp counter denied, ports.

#define _GNU_SOURCE
#include "probe.h"
#include <errno.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/io.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define TF SET_FLAGS(0x100)
#define NO_TF "push $0x2\npopfq\n"
STEPPED("steps over nop", TF "nop\nnop\n" NO_TF)
STEPPED("steps over pushf", TF "pushfq\npop %rax\n" NO_TF "and $0x300, %eax")
STEPPED("steps over syscall", TF "mov $102, %eax\nsyscall\nnop\n" NO_TF)
STEPPED("steps over int 0x80", TF "mov $199, %eax\nint $0x80\nnop\n" NO_TF)
STEPPED("steps over cpuid", TF "cpuid\nnop\n" NO_TF "xor %eax, %eax")
STEPPED("steps over rdtsc", TF "rdtsc\nnop\n" NO_TF "xor %eax, %eax")
STEPPED("steps over rep stosb", "mov $3, %ecx\n" TF "rep stosb\nnop\n" NO_TF)
STEPPED("steps over mov to %ss", "mov %ss, %ecx\n" TF "mov %ecx, %ss\nnop\nnop\n" NO_TF)
STEPPED("steps over mov to %ds", "xor %ecx, %ecx\n" TF "mov %ecx, %ds\nnop\n" NO_TF)
STEPPED("steps over call and ret", TF "call 1f\nnop\njmp 2f\n1: ret\n2:" NO_TF)
STEPPED("steps over a page fault that is mended", "mov $0x20001000, %edx\n" TF "mov %al, (%rdx)\nnop\n" NO_TF)
STEPPED("steps to ud2", TF "nop\nud2")
STEPPED("steps to an unmapped address", TF "nop\nmov 0x40000123, %eax")
STEPPED("steps over int3", TF "nop\nint3\nnop\n" NO_TF)
STEPPED("steps over iretq", "mov %rsp, %rdx\n" TF "push $0x2b\npush %rdx\npush $0x302\npush $0x33\npush $1f\niretq\n1: nop\n" NO_TF)
STEPPED("iretq sets TF", "mov %rsp, %rdx\npush $0x2b\npush %rdx\npush $0x302\npush $0x33\npush $1f\niretq\n1: nop\n" NO_TF)
STEPPED("steps of a jump into the kernel", TF "movabs $0xffff800000000000, %rdx\njmp *%rdx")

// A traced child that runs the row's code; its first int3 has happened. In the child everything goes to the tracer.
static pid_t traced(const struct row *row) {
    pid_t pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        run(row);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    return WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP ? pid : -1;
}
static void end(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
// Goes on by `request`; says where and why it stopped. False: it ended.
static bool next_stop(const struct row *row, pid_t pid, int request) {
    int status;
    if (ptrace(request, pid, NULL, NULL)) {
        say("[%s]", strerrorname_np(errno));
        return false;
    }
    waitpid(pid, &status, 0);
    if (!WIFSTOPPED(status)) {
        say("[ended]");
        return false;
    }
    struct user_regs_struct registers;
    siginfo_t information;
    ptrace(PTRACE_GETREGS, pid, NULL, &registers);
    ptrace(PTRACE_GETSIGINFO, pid, NULL, &information);
    say("%s:SIG%s/%d ", place(row, registers.rip), sigabbrev_np(WSTOPSIG(status) & 0x7f), information.si_code);
    return true;
}

static u64 single_step(const struct row *row) {
    pid_t pid = traced(row);
    for (int i = 0; i < 8 && next_stop(row, pid, PTRACE_SINGLESTEP); i++) {}
    end(pid);
    return 0;
}
FUNCTION("PTRACE_SINGLESTEP", "int3\nnop\nmov $102, %eax\nsyscall\nnop\nxor %eax, %eax\njmp 1f\n1: nop\nud2", single_step)
FUNCTION("PTRACE_SINGLESTEP over popf", "int3\npush $0x202\npopfq\nnop\npushfq\npopfq\nnop\nud2", single_step)
FUNCTION("PTRACE_SINGLESTEP over nanosleep", "int3\npush $1000\npush $0\nmov %rsp, %rdi\nxor %esi, %esi\nmov $35, %eax\nsyscall\nnop\n"
    "ud2", single_step)

static u64 system_call_stops(const struct row *row) {
    pid_t pid = traced(row);
    for (int i = 0; i < 2; i++) {
        next_stop(row, pid, PTRACE_SYSCALL);
        say("rax %ld orig %ld ", ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rax), NULL),
            ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.orig_rax), NULL));
    }
    end(pid);
    return 0;
}
FUNCTION("PTRACE_SYSCALL", "int3\nmov $102, %eax\nsyscall\nnop", system_call_stops)
FUNCTION("PTRACE_SYSCALL of int 0x80", "int3\nmov $199, %eax\nint $0x80\nnop", system_call_stops)

#define DEBUG_REGISTER(n) offsetof(struct user, u_debugreg[n])
static long set_debug_register(pid_t pid, int number, u64 value) { return ptrace(PTRACE_POKEUSER, pid, DEBUG_REGISTER(number), value); }

static u64 watch(const struct row *row, u64 address, u64 control) {
    pid_t pid = traced(row);
    say("set %s ", outcome(set_debug_register(pid, 0, address)));
    say("%s ", outcome(set_debug_register(pid, 7, control)));
    for (int i = 0; i < 3 && next_stop(row, pid, PTRACE_CONT); i++)
        say("dr6 %#lx ", ptrace(PTRACE_PEEKUSER, pid, DEBUG_REGISTER(6), NULL) & 0xf00fl);
    end(pid);
    return 0;
}
static u64 break_here(const struct row *row) { return watch(row, (u64)row->code + 2, 1); }
static u64 watch_write(const struct row *row) { return watch(row, SCRATCH, 1 | 0xd << 16); }
static u64 watch_any(const struct row *row) { return watch(row, SCRATCH, 1 | 0xf << 16); }
static u64 watch_eight(const struct row *row) { return watch(row, SCRATCH, 1 | 0x9 << 16); }
FUNCTION("hardware breakpoint", "int3\nnop\nmov $1, %eax\nud2", break_here)
FUNCTION("hardware breakpoint hit twice", "int3\nnop\nnop\ninc %ebx\ncmp $2, %ebx\njb .-6\nud2", break_here)
FUNCTION("watchpoint, write", "int3\nmov (%rdi), %eax\nmov %eax, (%rdi)\nnop\nmov %eax, 4(%rdi)\nud2", watch_write)
FUNCTION("watchpoint, read and write", "int3\nmov (%rdi), %eax\nmov %eax, (%rdi)\nnop\nmov %eax, 4(%rdi)\nud2", watch_any)
FUNCTION("watchpoint of 8 bytes", "int3\nmov %al, 7(%rdi)\nnop\nmov %al, 8(%rdi)\nud2", watch_eight)
FUNCTION("watchpoint while another process runs", "int3\npush $1000\npush $0\nmov %rdi, %rdx\nmov %rsp, %rdi\nxor %esi, %esi\n"
    "mov $35, %eax\nsyscall\n"
    "mov %eax, 0x20000000\nnop\nud2", watch_write)
static u64 four_breakpoints(const struct row *row) {
    pid_t pid = traced(row);
    for (int i = 0; i < 4; i++) say("%s ", outcome(set_debug_register(pid, i, (u64)row->code + 2 + (u64)i)));
    say("%s ", outcome(set_debug_register(pid, 7, 0x55)));
    for (int i = 0; i < 5 && next_stop(row, pid, PTRACE_CONT); i++) {}
    end(pid);
    return 0;
}
FUNCTION("four hardware breakpoints", "int3\nnop\nnop\nnop\nnop\nnop\nud2", four_breakpoints)
static u64 debug_register_refused(const struct row *row) {
    pid_t pid = traced(row);
    say("kernel address %s, ", outcome(set_debug_register(pid, 0, 0xffffffff81000000)));
    set_debug_register(pid, 0, SCRATCH);
    say("length of an execution %s, ", outcome(set_debug_register(pid, 7, 1 | 0x4 << 16)));
    say("ports %s, ", outcome(set_debug_register(pid, 7, 1 | 0x2 << 16)));
    say("dr4 %s, ", outcome(set_debug_register(pid, 4, 0)));
    say("dr7 reads %#lx", ptrace(PTRACE_PEEKUSER, pid, DEBUG_REGISTER(7), NULL));
    end(pid);
    return 0;
}
FUNCTION("debug registers refused", "int3\nnop\nud2", debug_register_refused)
static u64 debug_registers_read(const struct row *row) {
    pid_t pid = traced(row);
    set_debug_register(pid, 0, SCRATCH);
    long control = set_debug_register(pid, 7, 1 | 0xd << 16);
    long address = ptrace(PTRACE_PEEKUSER, pid, DEBUG_REGISTER(0), NULL), bits = ptrace(PTRACE_PEEKUSER, pid, DEBUG_REGISTER(7), NULL);
    if (control) say("refused");
    else say("dr0 %#lx dr7 %#lx", address, bits);
    end(pid);
    return 0;
}
FUNCTION("debug registers read back", "int3\nnop\nud2", debug_registers_read)
static u64 registers_refused(const struct row *row) {
    pid_t pid = traced(row);
    say("cs 0x10 %s, ", outcome(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.cs), 0x10)));
    say("cs 0 %s, ", outcome(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.cs), 0)));
    say("ss 0x10 %s, ", outcome(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.ss), 0x10)));
    say("fs_base %s, ", outcome(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.fs_base), 1ul << 63)));
    say("rip %s ", outcome(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.rip), 1ul << 63)));
    next_stop(row, pid, PTRACE_CONT);
    end(pid);
    return 0;
}
FUNCTION("PTRACE_POKEUSER of bad registers", "int3\nnop\nud2", registers_refused)
static u64 selector_poked(const struct row *row) {
    pid_t pid = traced(row);
    say("cs 7 %s ", outcome(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.cs), 7)));
    next_stop(row, pid, PTRACE_CONT);
    end(pid);
    return 0;
}
FUNCTION("PTRACE_POKEUSER of cs 7", "int3\nnop\nud2", selector_poked)

static u64 no_time_stamps(const struct row *row) {
    say("prctl %s", outcome(prctl(PR_SET_TSC, PR_TSC_SIGSEGV)));
    return run(row);
}
FUNCTION("rdtsc after PR_TSC_SIGSEGV", "rdtsc\nxor %eax, %eax", no_time_stamps)
FUNCTION("rdtscp after PR_TSC_SIGSEGV", "rdtscp\nxor %eax, %eax", no_time_stamps)
FUNCTION("rdtsc after PR_TSC_SIGSEGV and a sleep", "push $1000\npush $0\nmov %rsp, %rdi\nxor %esi, %esi\nmov $35, %eax\nsyscall\n"
    "pop %rcx\npop %rcx\nrdtsc\n"
    "xor %eax, %eax", no_time_stamps)
static u64 time_stamps_again(const struct row *row) {
    prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
    prctl(PR_SET_TSC, PR_TSC_ENABLE);
    return run(row);
}
FUNCTION("rdtsc after PR_TSC_ENABLE", "rdtsc\nxor %eax, %eax", time_stamps_again)
static u64 other_has_time_stamps(const struct row *row) {
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
        for (;;) pause();
    }
    usleep(20000);
    u64 result = run(row);
    end(pid);
    return result;
}
FUNCTION("rdtsc while another is denied it", "rdtsc\nxor %eax, %eax", other_has_time_stamps)

static u64 permitted_port(const struct row *row) {
    say("ioperm %s", outcome(ioperm(0x80, 1, 1)));
    return run(row);
}
static u64 permitted_ports(const struct row *row) {
    say("iopl %s", outcome(iopl(3)));
    return run(row);
}
ROW(__LINE__, "ioperm, its port", "out %al, $0x80", .function = permitted_port, .as_root = true)
ROW(__LINE__, "ioperm, another port", "out %al, $0x81", .function = permitted_port, .as_root = true)
ROW(__LINE__, "ioperm of nobody", "nop", .function = permitted_port)
ROW(__LINE__, "iopl, a port", "out %al, $0x80", .function = permitted_ports, .as_root = true)
ROW(__LINE__, "iopl, cli", "cli", .function = permitted_ports, .as_root = true)

static u64 refused_by_seccomp(const struct row *row) {
    say("%s", outcome(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)));
    return run(row);
}
FUNCTION("seccomp strict, getuid", "mov $102, %eax\nsyscall", refused_by_seccomp)
