// The hypercalls a 64-bit Xen-PV kernel makes (xen/include/public), as far as one guest that trusts its own shim needs
// them: no grant tables, no page-type validation. What is not here answers -ENOSYS and is reported once per number.

#include "shim.h"

#define EPERM 1
#define ENOENT 2
#define EINVAL 22
#define ENOSYS 38

#define XEN_VERSION (4 << 16 | 17)

enum {
    SET_TRAP_TABLE = 0, MMU_UPDATE = 1, SET_GDT = 2, STACK_SWITCH = 3, FPU_TASKSWITCH = 5, SET_DEBUGREG = 8,
    GET_DEBUGREG = 9, UPDATE_DESCRIPTOR = 10, MEMORY_OP = 12, MULTICALL = 13, UPDATE_VA_MAPPING = 14,
    SET_TIMER_OP = 15, XEN_VERSION_OP = 17, CONSOLE_IO = 18, VM_ASSIST = 21, IRET = 23, VCPU_OP = 24,
    SET_SEGMENT_BASE = 25, MMUEXT_OP = 26, SCHED_OP = 29, CALLBACK_OP = 30, EVENT_CHANNEL_OP = 32, PHYSDEV_OP = 33,
    HYPERCALL_COUNT = 64,
};

struct multicall_entry {
    u64 number;
    long result;
    u64 arguments[6];
};

static u64 reported_unknown;

void copy_bytes(void *to, const void *from, u64 count) { __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory"); }

void exit_to_vmm(u64 reason, u64 a, u64 b, u64 c) {
    params.exit_reason = reason;
    params.exit_arguments[0] = a;
    params.exit_arguments[1] = b;
    params.exit_arguments[2] = c;
    monitor_call(CALL_EXIT, 0);
}

_Noreturn void panic(u64 reason, u64 a, u64 b) {
    for (;;) exit_to_vmm(EXIT_SHIM_PANIC, reason, a, b);
}

static long set_trap_table(const struct trap *table) {
    if (!table) return 0;
    for (; table->address; table++) traps[table->vector] = *table;
    return 0;
}

// Kernel and TLS descriptors live in the kernel's own table; only the TLS slots (12-14) matter to the processor.
static long update_descriptor(u64 machine_address, u64 descriptor) {
    const u64 dpl3 = 3ull << 45;
    u64 index = (machine_address & 0xfff) / 8;
    *(u64 *)physical(machine_address) = descriptor;
    if (index >= 12 && index <= 14) gdt[index] = descriptor ? descriptor | dpl3 : 0;
    return 0;
}

static long xen_version_op(u64 command, u8 *argument) {
    switch (command) {
    case 0: // XENVER_version: the kernel calls it only to have its pending events delivered
        cpu.recheck = 1;
        return XEN_VERSION;
    case 1: // XENVER_extraversion
        copy_bytes(argument, ".0-aurora", 10);
        return 0;
    case 6: { // XENVER_get_features: pae_pgdir_above_4gb, mmu_pt_update_preserve_ad, gnttab_map_avail_bits, highmem_assist
        struct { u32 index, map; } *features = (void *)argument;
        if (features->index) return -EINVAL;
        features->map = 1u << 4 | 1u << 5 | 1u << 7 | 1u << 9;
        return 0;
    }
    case 7: return 4096; // XENVER_pagesize
    default: return -ENOSYS;
    }
}

static long set_segment_base(u64 which, u64 base) {
    switch (which) {
    case 0: write_fs_base(base); return 0;
    case 1: cpu.user_gs = base; return 0;
    case 2: cpu.kernel_gs = base; write_gs_base(base); return 0;
    case 3: cpu.user_gs = load_gs_selector(base & 0xffff); return 0;
    default: return -EINVAL;
    }
}

static void block(void) {
    vcpu_info()[VCPU_MASK] = 0;
    monitor_call(CALL_HALT, cpu.vcpu_info + VCPU_PENDING);
    cpu.recheck = 1;
}

static long sched_op(u64 command, const u32 *argument) {
    switch (command) {
    case 0: return 0; // yield
    case 1: block(); return 0;
    case 2: exit_to_vmm(EXIT_SHUTDOWN, argument[0], 0, 0); return 0;
    case 3: // poll: one vCPU polls only for events, and any event ends the poll
        monitor_call(CALL_HALT, cpu.vcpu_info + VCPU_PENDING);
        return 0;
    default: return -ENOSYS;
    }
}

static long callback_op(u64 command, const void *argument) {
    const struct { u16 type, flags; u32 pad; u64 address; } *callback = argument;
    if (command != 0) return -ENOSYS;
    switch (callback->type) {
    case 0: cpu.event_entry = callback->address; return 0;
    case 2: cpu.syscall_entry = callback->address; return 0;
    // `sysenter`, and `syscall` of 32-bit code, lead nowhere on this KVM: refused, so that the vDSO takes `int $0x80`.
    case 3: case 5: case 7: return -EINVAL;
    default: return 0; // failsafe and NMI are never used
    }
}

// DR0 to DR3 and DR7 as the kernel wrote them; the processor's own follow.
static u64 debug_registers[8];

u64 read_debug_register(u64 number) { return number == 6 ? cpu.debug_status : debug_registers[number & 7]; }

void write_debug_register(u64 number, u64 value) {
    const u64 enabled = 0xffff03ff, always = 0x400; // of DR7: what is defined, without general detection
    number &= 7;
    if (number == 6) cpu.debug_status = value;
    if (number >= 4 && number <= 6) return;
    if (number == 7) value &= enabled;
    if (debug_registers[number] == value) return;
    debug_registers[number] = value;
    monitor_call(CALL_WRITE_DR + number, number == 7 ? value | always : value);
}

static long physdev_op(u64 command, const void *argument) {
    const struct { u64 bitmap; u32 ports; } *io = argument;
    switch (command) {
    case 6: return 0; // set_iopl: kernels permit ports by the bitmap
    case 7: set_io_bitmap((const u8 *)io->bitmap, io->ports > 65536 ? 65536 : io->ports); return 0;
    default: return -ENOSYS;
    }
}

static long console_io(u64 command, u64 count, u64 buffer) {
    if (command != 0) return 0; // nothing to read
    while (count) {
        u64 piece = 4096 - (buffer & 4095);
        if (piece > count) piece = count;
        exit_to_vmm(EXIT_CONSOLE_WRITE, guest_physical(buffer), piece, 0);
        buffer += piece;
        count -= piece;
    }
    return 0;
}

static long unknown(u64 number, u64 a, u64 b) {
    if (number >= HYPERCALL_COUNT || !(reported_unknown & 1ull << number)) {
        if (number < HYPERCALL_COUNT) reported_unknown |= 1ull << number;
        exit_to_vmm(EXIT_UNKNOWN_HYPERCALL, number, a, b);
    }
    return -ENOSYS;
}

long hypercall(u64 a, u64 b, u64 c, u64 d, u64 e, u32 number);

static long multicall(struct multicall_entry *calls, u64 count) {
    for (u64 i = 0; i < count; i++) {
        u64 *arguments = calls[i].arguments;
        calls[i].result = hypercall(arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], (u32)calls[i].number);
    }
    return 0;
}

long hypercall(u64 a, u64 b, u64 c, u64 d, u64 e, u32 number) {
    (void)d, (void)e;
    switch (number) {
    case SET_TRAP_TABLE: return set_trap_table((void *)a);
    case MMU_UPDATE: return mmu_update((void *)a, b, (void *)c);
    case SET_GDT: return 0;
    case STACK_SWITCH: cpu.kernel_rsp = b; return 0;
    case FPU_TASKSWITCH: case VM_ASSIST: return 0;
    case SET_DEBUGREG: write_debug_register(a, b); return 0;
    case GET_DEBUGREG: return (long)read_debug_register(a);
    case UPDATE_DESCRIPTOR: return update_descriptor(a, b);
    case MEMORY_OP: return memory_op(a & 0x3f, (void *)b);
    case MULTICALL: return multicall((void *)a, b);
    case UPDATE_VA_MAPPING: return update_va_mapping(a, b, c);
    case SET_TIMER_OP: set_timer(a); return 0;
    case XEN_VERSION_OP: return xen_version_op(a, (void *)b);
    case CONSOLE_IO: return console_io(a, b, c);
    case VCPU_OP: return vcpu_op(a, b, (void *)c);
    case SET_SEGMENT_BASE: return set_segment_base(a, b);
    case MMUEXT_OP: return mmu_extended_op((void *)a, b, (void *)c);
    case SCHED_OP: return sched_op(a, (void *)b);
    case CALLBACK_OP: return callback_op(a, (void *)b);
    case EVENT_CHANNEL_OP: return event_channel_op(a, (void *)b);
    case PHYSDEV_OP: return physdev_op(a, (void *)b);
    // Probed by Linux: platform, grant table, ACM, HVM, sysctl and the like.
    case 7: case 20: case 27: case 34: case 35: case 38: case 39: case 40: return -ENOSYS;
    default: return unknown(number, a, b);
    }
}
