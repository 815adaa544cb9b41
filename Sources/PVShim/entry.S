// Every way into and out of the PV shim. docs/design/pv-shim.md explains the whole; the rules in short:
//
//  - Ring 0 code is emulated, about 0.5 us an instruction: a ring-0 stub only points %rsp at a ready-made frame and
//    returns to ring 3, where everything else happens natively. (A page fault also fetches %cr2.)
//  - Ring 3 always runs with interrupts on, and some KVMs accept the next interrupt before an EOI: they nest at any
//    instruction. So the stub of an event gives each a stack region of its own, from a ring that the 16-bit addition
//    wraps, and hands its address on in %rsp; a region is used again only after 1,023 further events.
//  - An interrupt inside the shim is never delivered there: it sets `recheck`, and every path out of the shim looks at
//    `recheck` last. Between that look and the instruction that leaves, an interrupt rewinds to the look.

#include "layout.h"

#define C(field) cpu+CPU_##field(%rip)
#define SCRATCH(n) cpu+CPU_SCRATCH+8*n(%rip)

// The interrupted context as the processor pushed it (rip, cs, rflags, rsp, ss).
#define EXC_RIP rsp0_top-40
#define EXC_ERROR rsp0_top-48
#define EXC_RAX rsp0_top-56

// In an event's region, from %rsp: the interrupted context upwards, saved registers downwards.
#define EVENT_BYTES 64
#define TSS_EVENT_STACK tss+36

	.text
	.globl shim_header, text_start
text_start:
shim_header:
	.ascii "AURSHIM\0"
	.quad SHIM_VERSION
	.quad lstar, stub_breakpoint, exception_stubs, event_stubs
	.quad cpu, params, gdt, idt, tss
	.quad rsp0_top, event_ring+EVENT_BYTES, shim_hypercall, shim_iret, image_end
	.quad strict_exception_stubs, strict_event_stubs, strict_idt, gate_kernel, gate_user
	.balign 256
	.code64

// ---------------------------------------------------------------- ring 0

// int3: a monitor call of the shim, or a breakpoint of whoever runs.
	.balign 16
stub_breakpoint:			// every instruction here counts: what is asked for was looked at in ring 3
	jmp *C(CALL)
call_breakpoint:
	lea exception_frames+40*3(%rip), %rsp
	iretq

	// The lower half of struct cpu.call is written alone: all addresses of the shim have the same upper half.
	.macro disarm
	movl $(call_breakpoint - text_start), C(CALL)
	.endm

call_load_cr3:
	mov %rdi, %cr3
	iretq
call_invlpg:
	invlpg (%rdi)
	iretq
call_halt:			// interrupts are off here (interrupt gate): nothing slips between the test and hlt
	cmpb $0, (%rdi)
	jne 1f
	sti
	hlt
halt_end:
1:	iretq
call_exit:
	out %eax, $EXIT_PORT
	iretq
	.irp number, 0, 1, 2, 3, 6, 7
call_write_dr\number:
	mov %rdi, %dr\number
	iretq
	.endr

stub_debug:			// why there is a debug exception is in %dr6 only, and stays there unless it is cleared
	mov %rax, EXC_RAX(%rip)
	mov %dr6, %rax
	mov %rax, C(DEBUG_STATUS)
	mov $DR6_NOTHING, %eax
	mov %rax, %dr6
	lea exception_frames+40*1(%rip), %rsp
	iretq

	.balign 32
exception_stubs:		// 32 bytes each, without error code and with look the same
	vector = 0
	.rept 32
	.balign 32
	.if vector == 1
	jmp stub_debug
	.endif
	.if vector == 14
	push %rax
	mov %cr2, %rax
	.endif
	lea exception_frames+40*vector(%rip), %rsp
	iretq
	vector = vector + 1
	.endr

	.balign 32
event_stubs:			// 32 bytes each
	vector = 0
	.rept EVENT_VECTORS
	.balign 32
	mov %rsp, event_frames+40*vector+24(%rip)
	addw $EVENT_BYTES, TSS_EVENT_STACK(%rip)
	lea event_frames+40*vector(%rip), %rsp
	iretq
	vector = vector + 1
	.endr

// ---------------------------------------------------------------- ring 3: system calls

	.balign 64
lstar:
	cmpb $0, C(USER_MODE)
	je 1f
	mov %rsp, SCRATCH(0)
	mov C(KERNEL_RSP), %rsp
	pushq $USER_DS
	pushq SCRATCH(0)
lstar_user:
	push %r11
	pushq $USER_CS
	push %rcx
	push %r11
	push %rcx
	disarm
	rdgsbase %rcx
	mov %rcx, C(USER_GS)
	mov C(KERNEL_GS), %rcx
	wrgsbase %rcx
	mov C(VCPU_INFO), %rcx
	movb $1, VCPU_MASK(%rcx)
	movb $0, C(USER_MODE)
	jmp *C(SYSCALL_ENTRY)
1:	push %rcx		// a hypercall by `syscall`: %rcx holds the return address
	// fall through

// ---------------------------------------------------------------- ring 3: hypercalls
// The kernel's hypercall function jumps here: return address on the stack, number in %eax, arguments in
// %rdi %rsi %rdx %r10 %r8, result in %rax, everything else preserved.
	.globl shim_hypercall
shim_hypercall:
	push %rcx
	push %rdx
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	mov %r10, %rcx
	mov %eax, %r9d
	cld
	call hypercall
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rdx
	pop %rcx
hypercall_check:
	cmpb $0, C(RECHECK)
	jne hypercall_recheck
	ret
hypercall_check_end:

hypercall_recheck:
	movb $0, C(RECHECK)
	mov %rcx, SCRATCH(0)
	mov C(VCPU_INFO), %rcx
	cmpb $0, VCPU_PENDING(%rcx)
	je 1f
	cmpb $0, VCPU_MASK(%rcx)
	jne 1f
	mov %rax, SCRATCH(1)
	mov (%rsp), %rax
	mov %rax, SCRATCH(2)
	lea 8(%rsp), %rax
	mov %rax, SCRATCH(3)
	mov %rax, %rsp
	and $~15, %rsp
	pushq $KERNEL_SS
	pushq SCRATCH(3)
	pushq $0x202
	pushq $KERNEL_CS
	pushq SCRATCH(2)
	push %r11
	pushq SCRATCH(0)
	movb $1, VCPU_MASK(%rcx)
	mov SCRATCH(1), %rax
	jmp *C(EVENT_ENTRY)
1:	mov SCRATCH(0), %rcx
	jmp hypercall_check

// ---------------------------------------------------------------- ring 3: iret
// The kernel's xen_iret jumps here: an iret frame on the stack, all other registers as the context wants them.
	.balign 64
	.globl shim_iret
shim_iret:
	testb $3, 8(%rsp)
	jz iret_kernel
	push %rax
	mov C(VCPU_INFO), %rax
	movb $0, VCPU_MASK(%rax)
	orl $0x202, 24(%rsp)
	andl $~0x3000, 24(%rsp)
	movb $1, C(USER_MODE)
	cmpb $0, VCPU_PENDING(%rax)
	jne iret_user_pending
	mov C(USER_GS), %rax
	wrgsbase %rax
	pop %rax
iret_user_ready:
	cmpb $0, C(STRICT)
	jne strict_iret
iret_user_check:
	cmpb $0, C(RECHECK)
	jne iret_user_recheck
	.globl iret_user_leave
iret_user_leave:		// faults where a signal frame holds selectors that cannot be: see `judge_user_exception`
	iretq
iret_user_check_end:

iret_user_recheck:
	push %rax
	mov C(VCPU_INFO), %rax
	cmpb $0, VCPU_PENDING(%rax)
	jne 1f
	movb $0, C(RECHECK)
	cmpb $0, VCPU_PENDING(%rax)	// an event between the two lines would be lost without a second look
	jne 1f
	pop %rax
	jmp iret_user_ready
1:	mov C(KERNEL_GS), %rax
	wrgsbase %rax
	mov C(VCPU_INFO), %rax
iret_user_pending:		// frame on the stack, %rax pushed below it, kernel GS
	movb $0, C(RECHECK)
	movb $1, VCPU_MASK(%rax)
	movb $0, C(USER_MODE)
	pop %rax
	push %r11
	push %rcx
	jmp *C(EVENT_ENTRY)

iret_kernel:
	push %rax
	push %rcx
	mov C(VCPU_INFO), %rcx
	mov 32(%rsp), %eax	// rflags: IF becomes the event mask
	not %eax
	shr $9, %eax
	and $1, %eax
	movb %al, VCPU_MASK(%rcx)
	movq $USER_CS, 24(%rsp)
	movq $USER_DS, 48(%rsp)
	orl $0x202, 32(%rsp)
	andl $~0x3000, 32(%rsp)
	test %eax, %eax
	jnz 1f
	cmpb $0, VCPU_PENDING(%rcx)
	jne iret_kernel_pending
1:	pop %rcx
	pop %rax
iret_kernel_check:
	cmpb $0, C(RECHECK)
	jne iret_kernel_recheck
	iretq
iret_kernel_check_end:

iret_kernel_recheck:
	push %rax
	push %rcx
	movb $0, C(RECHECK)
	mov C(VCPU_INFO), %rcx
	cmpb $0, VCPU_MASK(%rcx)
	jne 1b
	cmpb $0, VCPU_PENDING(%rcx)
	je 1b
iret_kernel_pending:		// as iret_user_pending; the frame is the kernel's own
	movb $0, C(RECHECK)
	movb $1, VCPU_MASK(%rcx)
	movq $KERNEL_CS, 24(%rsp)
	movq $KERNEL_SS, 48(%rsp)
	pop %rcx
	pop %rax
	push %r11
	push %rcx
	jmp *C(EVENT_ENTRY)

#include "events.inc"
#include "exceptions.inc"
#include "isolation.inc"

// long monitor_call(number, argument). User code that jumps here, to whatever instruction, gets no call: it is looked at
// after the call was armed, and every way from user code into the kernel disarms what may be left.
	.globl monitor_call
monitor_call:
	lea monitor_calls(%rip), %rcx
	mov (%rcx,%rdi,8), %ecx
	mov %rsi, %rdi
	mov %ecx, C(CALL)
	cmpb $0, C(USER_MODE)
	jne 1f
	int3
1:	disarm
	ret

// u64 load_gs_selector(selector): nothing in the shim uses %gs, so that what happens between is nobody's.
	.globl load_gs_selector
load_gs_selector:
	xor %eax, %eax
load_gs:			// faults for a selector of nothing: goes on at load_gs_failed
	mov %edi, %gs
	rdgsbase %rax
1:	mov C(KERNEL_GS), %rcx
	wrgsbase %rcx
	ret
load_gs_failed:
	xor %edi, %edi
	mov %edi, %gs
	jmp 1b

// long user_byte(address): goes on at user_byte_failed where there is no such byte.
	.globl user_byte
user_byte:
	movzbl (%rdi), %eax
	ret
user_byte_failed:
	mov $-1, %rax
	ret

#include "tables.inc"
