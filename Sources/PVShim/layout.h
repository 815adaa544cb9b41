// The shim's place in a guest and the layout of what it shares with the VMM, for C and assembly.
// `Sources/AuroraVMM/PV/ShimLayout.swift` states the same numbers for the VMM; the header at the start of the blob
// carries the version and the addresses that only the linker knows.
#ifndef PVSHIM_LAYOUT_H
#define PVSHIM_LAYOUT_H

#define SHIM_VERSION 1

// Virtual addresses. Linux leaves L4 slots 256-271 to the hypervisor; this KVM refuses slot 256.
#define SHIM_BASE 0xffff830000000000 // slot 262: text, data, shared info, local APIC
#define DIRECT_BASE 0xffff838000000000 // slot 263: all of RAM
#define M2P_BASE 0xffff840000000000 // slot 264: machine-to-physical table
#define SHIM_BASE_HIGH 0xffff8300 // upper half of every address of the shim

// Offsets from SHIM_BASE: a page in the shim's own large page, and the large page after it.
#define SHARED_INFO_OFFSET 0x30000
#define LAPIC_OFFSET 0x200000
// Strict isolation: the page where `syscall` lands, and the IDT; the kernel's tables and the users' map other pages here.
#define GATE_OFFSET 0x400000

// Ring-3 selectors as Linux knows them, and the flat ones that Xen reports for kernel frames (RPL 0 = kernel).
#define USER_CS 0x33
#define USER_DS 0x2b
#define USER32_CS 0x23
#define KERNEL_CS 0xe030
#define KERNEL_SS 0xe02b
#define USER_FLAGS 0x254dd5 // what a program may set: CF PF AF ZF SF TF DF OF NT RF AC ID

#define DR6_NOTHING 0xffff0ff0
#define RFLAGS_TF 0x100
#define RFLAGS_RF 0x10000

#define EVENT_VECTOR_BASE 0x40
#define EVENT_VECTORS 16

#define LAPIC_EOI 0xb0
#define LAPIC_IN_SERVICE 0x120 // vectors 0x40-0x5f
#define EOI_PROBES 16
#define LAPIC_TMICT 0x380

// struct vcpu_info (xen/interface/xen.h)
#define VCPU_PENDING 0
#define VCPU_MASK 1
#define VCPU_PENDING_SEL 8
#define VCPU_CR2 16

// struct shared_info
#define SHARED_PENDING 2048
#define SHARED_MASK 2560

// struct trap (see shim.h)
#define TRAP_BYTES 16
#define TRAP_FLAGS 1
#define TRAP_ADDRESS 8
#define TRAP_MASKS_EVENTS 4

// Offsets into struct cpu (see shim.h).
#define CPU_USER_MODE 0
#define CPU_RECHECK 1
#define CPU_EOI_PROBES 2
#define CPU_EOI_NEEDED 3
#define CPU_STRICT 4
#define CPU_VCPU_INFO 8
#define CPU_KERNEL_RSP 16
#define CPU_KERNEL_GS 24
#define CPU_USER_GS 32
#define CPU_EVENT_ENTRY 40
#define CPU_SYSCALL_ENTRY 48
#define CPU_KERNEL_CR3 56
#define CPU_PV_EOI 64
#define CPU_DEBUG_STATUS 72
#define CPU_JUDGED_ERROR 80
#define CPU_JUDGED_HAS_ERROR 88
#define CPU_USER_CR3 96
#define CPU_CALL 104
#define CPU_SCRATCH 128 // eight words
#define CPU_PORTS 192 // sixteen u16: event channel of each vector
#define CPU_REGISTERS 256

// Monitor calls: an `int3` after its ring-0 code was entered in struct cpu.call, which only the shim's own code leaves there.
#define CALL_LOAD_CR3 0
#define CALL_INVLPG 1
#define CALL_HALT 2
#define CALL_EXIT 3
#define CALL_WRITE_DR 4 // and the seven after it: DR0 to DR7

// Reasons of CALL_EXIT, in struct params.exit_reason.
#define EXIT_CONSOLE_WRITE 1
#define EXIT_CONSOLE_RING 2
#define EXIT_SHUTDOWN 3
#define EXIT_UNKNOWN_HYPERCALL 4
#define EXIT_SHIM_PANIC 5
#define EXIT_PORT 0xe8

#endif
