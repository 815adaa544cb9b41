// Data structures of the PV shim. Field offsets that assembly uses are in layout.h and asserted here.
#ifndef PVSHIM_H
#define PVSHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

// Registers of a context that C code inspects and changes (privileged instructions the kernel executed).
struct registers {
    u64 rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
    u64 rip, cs, rflags, rsp, ss;
};

// Per-vCPU state of the shim. There is one vCPU.
struct cpu {
    u8 user_mode; // 1 while user code runs (never inferred from an address: vsyscalls live in kernel space)
    u8 recheck; // an event arrived that the exit path must look at again
    u8 eoi_probes; // interrupts still to be asked whether this KVM waits for an EOI
    u8 eoi_needed; // it does
    u8 strict; // programs have page tables of their own, which show them nothing of the kernel
    u8 reserved0[3];
    u64 vcpu_info;
    u64 kernel_rsp, kernel_gs, user_gs;
    u64 event_entry, syscall_entry;
    u64 kernel_cr3;
    u64 pv_eoi; // MSR_KVM_PV_EOI_EN points here
    u64 debug_status; // DR6 at the last debug exception
    u64 judged_error; // what `judge_user_exception` decided: the error code,
    u8 judged_has_error; // and whether there is one
    u8 reserved1[7];
    u64 user_cr3; // strict: the table of the process that runs
    u64 call; // what the next `int3` does in ring 0: call_breakpoint but within a monitor call
    u64 reserved2[2];
    u64 scratch[8];
    u16 ports[EVENT_VECTORS];
    u8 reserved3[32];
    struct registers registers;
};
_Static_assert(offsetof(struct cpu, vcpu_info) == CPU_VCPU_INFO, "");
_Static_assert(offsetof(struct cpu, kernel_rsp) == CPU_KERNEL_RSP, "");
_Static_assert(offsetof(struct cpu, syscall_entry) == CPU_SYSCALL_ENTRY, "");
_Static_assert(offsetof(struct cpu, kernel_cr3) == CPU_KERNEL_CR3, "");
_Static_assert(offsetof(struct cpu, strict) == CPU_STRICT, "");
_Static_assert(offsetof(struct cpu, pv_eoi) == CPU_PV_EOI, "");
_Static_assert(offsetof(struct cpu, debug_status) == CPU_DEBUG_STATUS, "");
_Static_assert(offsetof(struct cpu, judged_error) == CPU_JUDGED_ERROR, "");
_Static_assert(offsetof(struct cpu, judged_has_error) == CPU_JUDGED_HAS_ERROR, "");
_Static_assert(offsetof(struct cpu, user_cr3) == CPU_USER_CR3, "");
_Static_assert(offsetof(struct cpu, call) == CPU_CALL, "");
_Static_assert(offsetof(struct cpu, scratch) == CPU_SCRATCH, "");
_Static_assert(offsetof(struct cpu, ports) == CPU_PORTS, "");
_Static_assert(offsetof(struct cpu, registers) == CPU_REGISTERS, "");

// struct trap_info of xen/interface/xen.h.
struct trap {
    u8 vector, flags;
    u16 cs;
    u32 reserved;
    u64 address;
};
_Static_assert(sizeof(struct trap) == TRAP_BYTES, "");
_Static_assert(offsetof(struct trap, address) == TRAP_ADDRESS, "");

// struct pvclock_vcpu_time_info.
struct time_info {
    u32 version, reserved;
    u64 tsc_timestamp, system_time;
    u32 mul;
    signed char shift;
    u8 flags;
    u8 reserved1[2];
};

// What the VMM tells the shim (first part) and the shim tells the VMM (second part).
struct params {
    u64 ram_bytes; // offset 0
    u64 l3_shim, l3_direct, l3_m2p; // L4 entries of slots 262-264
    u64 initial_vcpu_info; // inside the shared info page
    u64 console_port;
    u64 tsc_khz;
    struct time_info time; // offset 56, 32 bytes; copied to wherever the kernel asks for it
    u64 device_ports; // first static event channel of devices
    u64 l3_user; // strict isolation: L4 entry of slot 262 in the users' tables
    u64 reserved[2];
    u64 exit_reason, exit_arguments[4]; // offset 120
    u64 vcpu_info_gpa, time_area_gpa; // offset 160: where the VMM must write time after a restore
    u64 flags; // offset 176
};
#define PARAMS_BOOTED 1ull // the kernel has its own page tables
#define PARAMS_INACTIVE_BASE 2ull // the VMM: the kernel reads the inactive GS base without a trap
_Static_assert(offsetof(struct params, time) == 56, "");
_Static_assert(offsetof(struct params, exit_reason) == 120, "");
_Static_assert(offsetof(struct params, vcpu_info_gpa) == 160, "");

extern struct cpu cpu;
extern struct trap traps[256];
extern volatile struct params params;
extern u64 gdt[512];
extern __attribute__((visibility("hidden"))) char iret_user_leave[];

long monitor_call(u64 number, u64 argument);
void exit_to_vmm(u64 reason, u64 a, u64 b, u64 c);
_Noreturn void panic(u64 reason, u64 a, u64 b);

static inline u64 rdtsc(void) {
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (u64)high << 32 | low;
}
static inline void write_gs_base(u64 base) { __asm__ volatile("wrgsbase %0" ::"r"(base)); }
static inline void write_fs_base(u64 base) { __asm__ volatile("wrfsbase %0" ::"r"(base)); }
static inline u64 read_fs_base(void) {
    u64 base;
    __asm__ volatile("rdfsbase %0" : "=r"(base));
    return base;
}

// Guest-physical memory through the shim's map of all RAM.
static inline void *physical(u64 address) { return (void *)(DIRECT_BASE + address); }
static inline volatile u8 *vcpu_info(void) { return (volatile u8 *)cpu.vcpu_info; }
static inline volatile u64 *shared_info(void) { return (volatile u64 *)(SHIM_BASE + SHARED_INFO_OFFSET); }

void set_port_pending(u32 port);
long event_channel_op(u64 command, u32 *argument);
long memory_op(u64 command, u64 *argument);
long vcpu_op(u64 command, u64 id, u64 *argument);
void set_timer(u64 deadline_ns);

long mmu_update(u64 *requests, u64 count, u32 *done);
long update_va_mapping(u64 address, u64 value, u64 flags);
long mmu_extended_op(void *operations, u64 count, u32 *done);
u64 guest_physical(u64 address);
void load_user_table(u64 address);

bool emulate_instruction(struct registers *registers, u64 vector);

u64 read_debug_register(u64 number);
void write_debug_register(u64 number, u64 value);

// Loads a selector into %gs; the kernel's GS base stays. Returns the base that the selector stands for: 0 for one that cannot be loaded.
u64 load_gs_selector(u64 selector);
// A byte of user code; -1 where there is none.
long user_byte(u64 address);
void set_io_bitmap(const u8 *bitmap, u32 ports);

void copy_bytes(void *to, const void *from, u64 count);

#endif
