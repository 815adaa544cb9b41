// A kernel of a few functions, built by the tests, that the VMM boots through its real loader and PV shim: it asks for
// what no well-behaved kernel asks for, and says on the console what came of it.
//
// The word "test=" of the command line chooses what it does.

#include <stdint.h>

typedef uint64_t u64;
typedef uint32_t u32;

// Xen's notes: where the boot starts, the virtual address of physical zero, and where the first P2M table goes.
__asm__(
    ".section .note.Xen, \"a\", @note\n"
    ".macro note kind, value\n .long 4, 8, \\kind\n .asciz \"Xen\"\n .quad \\value\n .endm\n"
    "note 1, start\n note 3, 0xffffffff80000000\n note 15, 0x8000000000\n"
    // The loader finds these two by their instructions and puts jumps into the shim in their place; the trampolines of
    // those jumps replace what the ELF file names as its entry.
    ".section .text.first, \"ax\"\n"
    ".globl elf_entry\n elf_entry: .skip 64, 0x90\n"
    ".balign 16\n hypercall: push %rcx; push %r11; syscall; pop %r11; pop %rcx; ret\n"
    ".balign 16\n xen_iret: push $0; push %rcx; push %r11; push %rax; mov $23, %eax; syscall\n"
    ".balign 16\n start: mov %rsi, %rdi; call run; ud2\n"
    // Xen's upcall: %rcx and %r11 lie above the interrupted frame.
    ".balign 16\n upcall: pop %rcx; pop %r11; push %rax; push %rcx; push %rdx; push %rsi; push %rdi; push %r8; push %r9; push %r10;\n"
    "push %r11; cld; call on_event; pop %r11; pop %r10; pop %r9; pop %r8; pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rax;\n"
    "jmp xen_iret\n"
    ".text\n");
extern char upcall[];

static long call(u32 number, u64 a, u64 b, u64 c) {
    long result;
    register u64 unused1 __asm__("r10") = 0, unused2 __asm__("r8") = 0;
    __asm__ volatile("call hypercall"
                     : "=a"(result)
                     : "a"((u64)number), "D"(a), "S"(b), "d"(c), "r"(unused1), "r"(unused2)
                     : "memory", "cc");
    return result;
}

enum { CONSOLE_IO = 18, VCPU_OP = 24, SCHED_OP = 29, CALLBACK_OP = 30, EVENT_CHANNEL_OP = 32 };

static void print(const char *text) {
    u64 count = 0;
    while (text[count]) count++;
    call(CONSOLE_IO, 0, count, (u64)text);
}

static void print_number(const char *name, long value) {
    static char line[64];
    int at = 0;
    while (*name) line[at++] = *name++;
    u64 rest = value < 0 ? -(u64)value : (u64)value;
    char digits[24];
    int count = 0;
    do digits[count++] = (char)('0' + rest % 10); while (rest /= 10);
    if (value < 0) line[at++] = '-';
    while (count) line[at++] = digits[--count];
    line[at++] = '\n';
    line[at] = 0;
    print(line);
}

static void power_off(void) {
    static u32 reason = 0;
    call(SCHED_OP, 2, (u64)&reason, 0);
}

// ---------------------------------------------------------------- hypercalls that there are not

static void unknown_hypercalls(void) {
    static const u32 numbers[] = {4, 42, 63, 64, 1000, 0x7fffffff, 0x80000000, 0xffffffff};
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
        for (int round = 0; round < 3; round++) print_number("answer ", call(numbers[i], ~0ull, 1ull << 63, (u64)i));
    // Known ones, with commands that there are not.
    print_number("answer ", call(VCPU_OP, 9999, 0, 0));
    print_number("answer ", call(SCHED_OP, 9999, 0, 0));
    print_number("answer ", call(EVENT_CHANNEL_OP, 9999, 0, 0));
    print("done\n");
    power_off();
}

// ---------------------------------------------------------------- exits that there are not

// Runs two instructions in ring 0 by the shim's own monitor call, which a kernel can make: `out`, `iretq`. The header names the
// place of struct cpu, whose field `call` is at 104.
#define RING0_OUT(port)                                                                                                          \
    do {                                                                                                                         \
        volatile u64 *call = ((u64 **)0xffff830000000000)[6] + 13;                                                               \
        u64 before = *call;                                                                                                      \
        __asm__ volatile("lea 1f(%%rip), %%rbx; mov %%rbx, (%0); int3; jmp 2f\n 1: out %%eax, $" #port "; iretq\n 2:"             \
                         :: "r"(call) : "rbx", "memory");                                                                        \
        *call = before;                                                                                                          \
    } while (0)
static void ring0_out_to_exit_port(void) { RING0_OUT(0xe8); }
static void ring0_out_to_other_port(void) { RING0_OUT(0x99); }

static void unknown_exit(void) {
    // The shim's header names the place of its parameters; the reason and its arguments are at 120.
    volatile u64 *parameters = ((u64 **)0xffff830000000000)[7];
    parameters[15] = 99;
    parameters[16] = parameters[17] = parameters[18] = ~0ull;
    ring0_out_to_exit_port();
    print("went on\n");
}

// ---------------------------------------------------------------- events

static volatile u64 events;
static volatile unsigned char *vcpu_info; // pending, mask, then the selector at 8
static volatile u64 *pending_ports;

void on_event(void) {
    do {
        vcpu_info[0] = 0;
        *(volatile u64 *)(vcpu_info + 8) = 0;
        u64 mine = __atomic_exchange_n(&pending_ports[0], 0, __ATOMIC_SEQ_CST);
        if (mine & 1ull << 2) events++;
    } while (vcpu_info[0]);
}

static u64 ticks(void) { return __builtin_ia32_rdtsc(); }

// A timer is due about when an interrupt of a masked channel is, over and over: each has to arrive although nothing but
// itself brings the processor back into the shim.
static void timers_beside_masked_events(volatile unsigned char *shared) {
    vcpu_info = shared;
    pending_ports = (volatile u64 *)(shared + 2048);
    struct { unsigned short type, flags; u32 pad; u64 address; } callback = {0, 0, 0, (u64)upcall};
    call(CALLBACK_OP, 0, (u64)&callback, 0);
    u32 bind[3] = {0, 0, 0}; // VIRQ_TIMER of this processor
    call(EVENT_CHANNEL_OP, 1, (u64)bind, 0);
    u32 unmask = bind[2];
    call(EVENT_CHANNEL_OP, 9, (u64)&unmask, 0);
    volatile u32 *apic = (volatile u32 *)0xffff830000200000;
    print_number("timer's port ", bind[2]);
    vcpu_info[1] = 0;
    for (u64 round = 0; round < 20000; round++) {
        u64 before = events, start = ticks();
        apic[0x380 / 4] = (u32)(1000 + round * 37 % 30000); // the timer, in nanoseconds
        while (ticks() - start < 60000 && events == before) apic[0x300 / 4] = 0x40041; // to itself: vector 0x41, a masked device
        while (events == before)
            if (ticks() - start > 20000000000ull) {
                print_number("lost in round ", (long)round);
                power_off();
            }
    }
    print("all arrived\n");
    power_off();
}

void run(const unsigned char *start_info) {
    const char *line = (const char *)start_info + 128;
    char what = 0;
    for (; *line; line++)
        if (line[0] == 't' && line[1] == 'e' && line[2] == 's' && line[3] == 't' && line[4] == '=') what = line[5];
    print("started\n");
    switch (what) {
    case 'h': unknown_hypercalls(); break;
    case 'e': unknown_exit(); break;
    case 'p': ring0_out_to_other_port(); break;
    case 't': timers_beside_masked_events((volatile unsigned char *)0xffff830000030000); break;
    }
    print("no end\n");
    for (;;) __asm__ volatile("pause");
}
