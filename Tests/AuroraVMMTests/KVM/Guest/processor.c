// What programs see of the processor: each case runs in a child, and prints "ok NAME" or "WRONG NAME: why".
//
// Built statically by the tests, it runs as the first program of a guest (then it ends the machine) or as any program. Arguments, or
// the word "case=,NAME,NAME," of the kernel's command line, choose cases; there "rounds=N" repeats them, so that a checkpoint falls
// between.

#define _GNU_SOURCE
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot.h"
#include "faults.h"
#include "debugger.h"

enum { CASE_SECONDS = 20 };

static unsigned tainted(void) {
    char text[32] = "";
    int file = open("/proc/sys/kernel/tainted", O_RDONLY);
    if (file >= 0 && read(file, text, sizeof text - 1) > 0) close(file);
    return (unsigned)atoi(text);
}

// ---------------------------------------------------------------- descriptors

static void descriptors_of_nothing(void) {
    EXECUTE(0xb8, 7, 0, 0, 0, 0x8e, 0xc0); // mov $7, %eax; mov %eax, %es
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 4, 5);
    EXECUTE(0xb8, 0x0f, 0, 0, 0, 0x8e, 0xd8); // ds
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 0xc, 5);
    EXECUTE(0xb8, 0x07, 0, 0, 0, 0x8e, 0xe8); // gs
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 4, 5);
    EXECUTE(0xb8, 0x6b, 0, 0, 0, 0x8e, 0xe0); // fs, a TLS slot that holds nothing
    expect(fault.signal, SIGSEGV);
    EXECUTE(0xb8, 0xff, 0xff, 0, 0, 0x8e, 0xc0); // es, far outside of a table
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 0xfffc, 5);
    expect(tainted() & 128, 0); // no oops
}

static void local_descriptors(void) {
    struct user_desc entry = {.entry_number = 2, .base_addr = 0, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1};
    long answer = syscall(SYS_modify_ldt, 1, &entry, sizeof entry);
    if (answer == 0) { // works, then wholly
        EXECUTE(0xb8, 0x17, 0, 0, 0, 0x8e, 0xc0);
        expect(fault.signal, 0);
    } else {
        expect(errno, ENOSYS);
        EXECUTE(0xb8, 0x17, 0, 0, 0, 0x8e, 0xc0);
        EXPECT_FAULT(SIGSEGV, TRAP_GP, 0x14, 5);
    }
}

// ---------------------------------------------------------------- interrupts by instruction, 32-bit code

static void system_call_by_interrupt(void) {
    long answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "0"(20L) : "r8", "r9", "r10", "r11", "memory"); // getpid
    expect(answer, getpid());
    __asm__ volatile(".byte 0x48, 0xcd, 0x80" : "=a"(answer) : "0"(20L) : "r8", "r9", "r10", "r11", "memory");
    expect(answer, getpid());
    __asm__ volatile("int $0x80" : "=a"(answer) : "0"(64L) : "r8", "r9", "r10", "r11", "memory"); // getppid
    expect(answer, getppid());
}

static void interrupts_of_nobody(void) {
    EXECUTE(0xcd, 0x81);
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 0x81 * 8 + 2, 0);
    EXECUTE(0x90, 0xcd, 0x00);
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 2, 1);
    EXECUTE(0x66, 0xcd, 0xff);
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 0xff * 8 + 2, 0);
    EXECUTE(0xcd, 0x40); // the vector of the shim's timer
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 0x40 * 8 + 2, 0);
    EXECUTE(0xcd, 0x0e);
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 14 * 8 + 2, 0);
    EXECUTE(0xf0, 0xcd, 0x80); // a locked one is no instruction
    EXPECT_FAULT(SIGILL, TRAP_UD, 0, 0);
    EXECUTE(0x0f, 0x0b);
    EXPECT_FAULT(SIGILL, TRAP_UD, 0, 0);
    EXECUTE(0xcc);
    EXPECT_FAULT(SIGTRAP, 3, 0, 1);
    EXECUTE(0xf4); // hlt
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 0, 0);
    EXECUTE(0x0f, 0x01, 0xc8); // monitor
    EXPECT_FAULT(SIGILL, TRAP_UD, 0, 0);
    EXECUTE(0x0f, 0x01, 0xc9); // mwait
    EXPECT_FAULT(SIGILL, TRAP_UD, 0, 0);
    // An instruction at the end of what is mapped: the byte after it is nobody's.
    code_page[4095] = 0x06;
    mprotect(code_page + 4096, 4096, PROT_NONE);
    resume_at = 0;
}

// A static 32-bit program: getpid and write by `int $0x80`, then by the vDSO's entry, then exit with 42.
static const unsigned char program32[] = {
    0xb8, 20, 0, 0, 0, 0xcd, 0x80, // getpid
    0x89, 0xc3, // mov %eax, %ebx
    0xb8, 20, 0, 0, 0, // getpid
    0x8b, 0x0d, 0, 0x90, 4, 8, // mov entry, %ecx (0x08049000)
    0x85, 0xc9, 0x74, 2, // without a vDSO: no call
    0xff, 0xd1, // call *%ecx
    0x39, 0xc3, // cmp %eax, %ebx
    0xbb, 42, 0, 0, 0, 0x74, 5, 0xbb, 1, 0, 0, 0, // 42 or 1
    0xb8, 1, 0, 0, 0, 0xcd, 0x80, // exit
};
// Before it: finds AT_SYSINFO (32) in the auxiliary vector, behind arguments and environment.
static const unsigned char start32[] = {
    0x89, 0xe6, // mov %esp, %esi
    0xad, // lods: argc
    0x8d, 0x74, 0x86, 0x04, // lea 4(%esi,%eax,4), %esi
    0xad, 0x85, 0xc0, 0x75, 0xfb, // 1: lods; test; jnz 1b
    0xad, 0x85, 0xc0, 0x74, 0x0e, // 2: lods; test; jz 3f
    0x89, 0xc1, 0xad, // mov %eax, %ecx; lods
    0x83, 0xf9, 0x20, 0x75, 0xf3, // cmp $32, %ecx; jne 2b
    0xa3, 0, 0x90, 4, 8, // mov %eax, 0x08049000
    0x90, // 3:
};

static void program_of_32_bits(void) {
    struct {
        Elf32_Ehdr header;
        Elf32_Phdr segments[2];
        unsigned char code[sizeof start32 + sizeof program32];
    } image = {
        .header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT}, .e_type = ET_EXEC, .e_machine = EM_386,
            .e_version = EV_CURRENT, .e_entry = 0x08048000 + offsetof(__typeof__(image), code), .e_phoff = sizeof(Elf32_Ehdr),
            .e_ehsize = sizeof(Elf32_Ehdr), .e_phentsize = sizeof(Elf32_Phdr), .e_phnum = 2},
        .segments = {{.p_type = PT_LOAD, .p_vaddr = 0x08048000, .p_filesz = sizeof image, .p_memsz = sizeof image, .p_flags = PF_R | PF_X,
                         .p_align = 4096},
            {.p_type = PT_LOAD, .p_vaddr = 0x08049000, .p_memsz = 4096, .p_flags = PF_R | PF_W, .p_align = 4096}},
    };
    memcpy(image.code, start32, sizeof start32);
    memcpy(image.code + sizeof start32, program32, sizeof program32);
    int file = memfd_create("program32", 0);
    if (file < 0 || write(file, &image, sizeof image) != sizeof image) wrong("no file: %s", strerror(errno));
    pid_t child = fork();
    if (!child) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
        execl(path, "program32", NULL);
        _exit(99);
    }
    int status;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 42) wrong("status %#x", status);
}

// ---------------------------------------------------------------- segment bases

static unsigned long read_base(int gs) {
    unsigned long base;
    if (gs) __asm__ volatile("rdgsbase %0" : "=r"(base));
    else __asm__ volatile("rdfsbase %0" : "=r"(base));
    return base;
}

static void segment_bases(void) {
    pid_t other = fork();
    if (!other) {
        for (unsigned long i = 1;; i++) {
            __asm__ volatile("wrgsbase %0" ::"r"(i));
            sched_yield();
        }
    }
    unsigned long fs = read_base(0);
    for (unsigned long i = 0; i < 2000; i++) {
        unsigned long base = 0x123456789000 + i;
        __asm__ volatile("wrgsbase %0" ::"r"(base));
        if (i % 100 == 0) usleep(1000);
        else sched_yield();
        if (read_base(1) != base || read_base(0) != fs) {
            kill(other, SIGKILL);
            wrong("GS base %#lx, not %#lx; FS base %#lx, not %#lx", read_base(1), base, read_base(0), fs);
        }
        unsigned long told = 0;
        if (i % 50 == 0 && (syscall(SYS_arch_prctl, ARCH_GET_GS, &told) || told != base)) {
            kill(other, SIGKILL);
            wrong("ARCH_GET_GS says %#lx, not %#lx", told, base);
        }
    }
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
}

// ---------------------------------------------------------------- signal frames of nowhere

static int frame_cs, frame_ss;
static long frame_rip;
static void spoil_frame(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    ucontext_t *user = context;
    unsigned short *selectors = (unsigned short *)&user->uc_mcontext.gregs[REG_CSGSFS]; // cs, gs, fs, ss
    if (frame_cs >= 0) selectors[0] = (unsigned short)frame_cs;
    if (frame_ss >= 0) selectors[3] = (unsigned short)frame_ss;
    if (frame_rip) user->uc_mcontext.gregs[REG_RIP] = frame_rip;
}

// The handler of the fault mends both selectors, or the next return would fault too.
static void note_and_mend(int number, siginfo_t *info, void *context) {
    note_fault(number, info, context);
    unsigned short *selectors = (unsigned short *)&((ucontext_t *)context)->uc_mcontext.gregs[REG_CSGSFS];
    selectors[0] = 0x33;
    selectors[3] = 0x2b;
}

static void spoiled_return(int cs, int ss, long rip, unsigned long error) {
    frame_cs = cs;
    frame_ss = ss;
    frame_rip = rip;
    memset((void *)&fault, 0, sizeof fault);
    catch_signals(note_and_mend);
    struct sigaction action = {.sa_sigaction = spoil_frame, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    long pid = getpid();
    // The faults's handler mends the frame by going on at 1, with good selectors: it is a frame of its own.
    __asm__ volatile(
        "lea 1f(%%rip), %%rax\n mov %%rax, %[resume]\n mov $62, %%eax\n syscall\n1:"
        : [resume] "=m"(resume_at) : "D"(pid), "S"((long)SIGUSR1) : "rax", "rcx", "r11", "memory");
    resume_at = 0;
    if (fault.signal != SIGSEGV || fault.trap != TRAP_GP || fault.error != error)
        wrong("cs %#x ss %#x: signal %d trap %lu error %#lx, not a protection fault of error %#lx", cs, ss, fault.signal, fault.trap,
            fault.error, error);
    if (fault.rip >> 63) wrong("cs %#x ss %#x: the process sees rip %#lx", cs, ss, fault.rip);
}

// ---------------------------------------------------------------- ports, the counter

static void ports(void) {
    EXECUTE(0xb0, 0x55, 0xe6, 0x80); // mov $0x55, %al; out %al, $0x80
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 0, 2);
    if (ioperm(0x80, 1, 1)) {
        if (errno != ENOSYS && errno != EPERM) wrong("ioperm: %s", strerror(errno));
        return;
    }
    EXECUTE(0xb0, 0x55, 0xe6, 0x80);
    expect(fault.signal, 0);
    expect(inb(0x80), 0xff);
    EXECUTE(0xe5, 0x80); // in $0x80, %eax: four ports, of which one is permitted
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 0, 0);
    EXECUTE(0xe4, 0x81);
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 0, 0);
    ioperm(0x80, 1, 0);
    EXECUTE(0xe4, 0x80);
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 0, 0);
    expect(iopl(3), 0);
    outb(1, 0x80);
    outw(1, 0x180);
    outl(1, 0xfffc);
    expect(inw(0x180), 0xffff);
    expect(inl(0xcf8), 0xffffffff);
    pid_t child = fork(); // inherits it, as on any machine
    if (!child) {
        outb(2, 0x80);
        _exit(3);
    }
    int status;
    waitpid(child, &status, 0);
    expect(status, 3 << 8);
    expect(iopl(0), 0);
    EXECUTE(0xe4, 0x80);
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 0, 0);
}

static void forbidden_counter(void) {
    if (prctl(PR_SET_TSC, PR_TSC_SIGSEGV)) {
        if (errno != EINVAL) wrong("%s", strerror(errno));
        int mode = 0;
        expect(prctl(PR_GET_TSC, &mode), 0);
        expect(mode, PR_TSC_ENABLE);
        EXECUTE(0x0f, 0x31);
        expect(fault.signal, 0);
        return;
    }
    EXECUTE(0x0f, 0x31);
    EXPECT_FAULT(SIGSEGV, TRAP_GP, 0, 0);
}

// ---------------------------------------------------------------- work of interrupts

// A hash without preallocation takes its elements from a small reserve, which an interrupt to itself refills.
static void interrupt_work(void) {
    union bpf_attr attribute = {
        .map_type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 256, .max_entries = 20000, .map_flags = BPF_F_NO_PREALLOC};
    int map = (int)syscall(SYS_bpf, BPF_MAP_CREATE, &attribute, sizeof attribute);
    if (map < 0) {
        dprintf(1, "note %s: no map: %s\n", current, strerror(errno));
        return;
    }
    static char value[256];
    for (uint32_t key = 0; key < 20000; key++) {
        union bpf_attr element = {.map_fd = (uint32_t)map, .key = (uint64_t)&key, .value = (uint64_t)value, .flags = BPF_ANY};
        if (syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &element, sizeof element)) wrong("element %u: %s", key, strerror(errno));
    }
}

static void frames_of_nowhere(void) {
    spoiled_return(0x13, -1, 0, 0x10);
    spoiled_return(7, -1, 0, 4);
    spoiled_return(-1, 0x47, 0, 0x44);
    spoiled_return(-1, 7, 0, 4);
    spoiled_return(0xe033, -1, 0, 0xe030);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"descriptors", descriptors_of_nothing},
    {"ldt", local_descriptors},
    {"trap_flag", trap_flag},
    {"trap_flag_syscall", trap_flag_over_a_system_call},
    {"icebp", icebp},
    {"single_steps", single_steps},
    {"breakpoints", breakpoints},
    {"hardware_breakpoint", hardware_breakpoint_on_code},
    {"watch_writes", watchpoint_on_writes},
    {"watch_accesses", watchpoint_on_accesses},
    {"perf_breakpoint", perf_breakpoint},
    {"int80", system_call_by_interrupt},
    {"interrupts", interrupts_of_nobody},
    {"program32", program_of_32_bits},
    {"segment_bases", segment_bases},
    {"frames", frames_of_nowhere},
    {"ports", ports},
    {"counter", forbidden_counter},
    {"irq_work", interrupt_work},
};

static int run_case(const char *name, void (*run)(void)) {
    current = name;
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        alarm(CASE_SECONDS);
        run();
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    if (status == 0) dprintf(1, "ok %s\n", name);
    else if (WIFSIGNALED(status)) dprintf(1, "WRONG %s: signal %d ended it\n", name, WTERMSIG(status));
    return status != 0;
}

static bool is_chosen(const char *name, int count, char **arguments) {
    if (getpid() == 1) {
        char wanted[64], *list = word("case=");
        snprintf(wanted, sizeof wanted, ",%s,", name);
        return !list || strstr(list, wanted);
    }
    for (int a = 1; a < count; a++)
        if (!strcmp(arguments[a], name)) return true;
    return count < 2;
}

int main(int count, char **arguments) {
    if (getpid() == 1) {
        mount_systems();
        load_modules();
        open_console();
    }

    int failed = 0;
    char *rounds = getpid() == 1 ? word("rounds=") : NULL;
    for (int round = rounds ? atoi(rounds) : 1; round > 0; round--)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            if (is_chosen(cases[i].name, count, arguments)) failed += run_case(cases[i].name, cases[i].run);
    dprintf(1, "%d failed\n", failed);
    if (getpid() == 1) reboot(RB_POWER_OFF);
    return failed != 0;
}
