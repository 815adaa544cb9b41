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
	.balign 256
	.code64

// ---------------------------------------------------------------- ring 0

// int3: a monitor call of the shim, or a breakpoint of whoever runs.
	.balign 16
stub_breakpoint:			// a monitor call brings its ring-0 code's address: every instruction here counts
	cmpl $MONITOR_CALL, %ecx
	jne 1f
	jmp *%rbx
1:	lea exception_frames+40*3(%rip), %rsp
	iretq

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

	.balign 32
exception_stubs:		// 32 bytes each, without error code and with look the same
	vector = 0
	.rept 32
	.balign 32
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
	push %r11
	pushq $USER_CS
	push %rcx
	push %r11
	push %rcx
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
	movq $USER_DS, 40(%rsp)
	orl $0x202, 24(%rsp)
	andl $~0x3000, 24(%rsp)
	movb $1, C(USER_MODE)
	cmpb $0, VCPU_PENDING(%rax)
	jne iret_user_pending
	mov C(USER_GS), %rax
	wrgsbase %rax
	pop %rax
iret_user_check:
	cmpb $0, C(RECHECK)
	jne iret_user_recheck
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
	jmp iret_user_check
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

// ---------------------------------------------------------------- ring 3: interrupts

	.balign 16
	vector = 0
	.rept EVENT_VECTORS
	.balign 16
	mov %rax, -8(%rsp)
	mov $vector, %eax
	jmp event
	vector = vector + 1
	.endr
	.balign 16
	// The 16-byte trampolines above are found by their distance from here.
event_trampolines_end:

event:				// %rsp: the interrupted context; %eax: the vector
	mov %rcx, -16(%rsp)
	mov %rdx, -24(%rsp)
	// Mark the vector's event channel pending, and the vCPU too unless the channel is masked.
	lea cpu+CPU_PORTS(%rip), %rcx
	movzwl (%rcx,%rax,2), %eax
	test %eax, %eax
	jz 1f
	lea text_start+SHARED_INFO_OFFSET(%rip), %rcx
	bts %rax, SHARED_PENDING(%rcx)
	bt %rax, SHARED_MASK(%rcx)
	jc 1f
	mov C(VCPU_INFO), %rcx
	shr $6, %eax
	bts %rax, VCPU_PENDING_SEL(%rcx)
	movb $1, VCPU_PENDING(%rcx)
1:	cmpb $0, C(EOI_PROBES)
	jne event_probe
event_context:
	mov (%rsp), %rax
	lea text_start(%rip), %rcx
	sub %rcx, %rax
	cmp $SHARED_INFO_OFFSET, %rax
	jb event_in_shim
	mov C(VCPU_INFO), %rcx
	cmpb $0, VCPU_PENDING(%rcx)
	je event_return
	mov %rsp, %rdx
	cmpb $0, C(USER_MODE)
	jne event_from_user
	cmpb $0, VCPU_MASK(%rcx)
	jne event_return
	cmpq $0, C(EVENT_ENTRY)
	je event_return

	// The kernel runs with events enabled: call it on its own stack.
	movb $1, VCPU_MASK(%rcx)
	mov 24(%rdx), %rsp
	and $~15, %rsp
	pushq $KERNEL_SS
	pushq 24(%rdx)
	pushq 16(%rdx)
	pushq $KERNEL_CS
	pushq (%rdx)
	push %r11
	pushq -16(%rdx)
	jmp event_deliver

event_from_user:
	movb $1, VCPU_MASK(%rcx)
	movb $0, C(USER_MODE)
	mov C(KERNEL_RSP), %rsp
	pushq $USER_DS
	pushq 24(%rdx)
	pushq 16(%rdx)
	pushq 8(%rdx)
	pushq (%rdx)
	push %r11
	pushq -16(%rdx)
	rdgsbase %rcx
	mov %rcx, C(USER_GS)
	mov C(KERNEL_GS), %rcx
	wrgsbase %rcx
event_deliver:
	mov -8(%rdx), %rax
	mov -24(%rdx), %rdx
	.macro end_of_interrupt
	cmpb $0, C(EOI_NEEDED)
	je 1f
	btrl $0, C(PV_EOI)
	jc 1f
	movl $0, text_start+LAPIC_OFFSET+LAPIC_EOI(%rip)
1:
	.endm
	end_of_interrupt
	jmp *C(EVENT_ENTRY)

	// Whether this KVM keeps an interrupt in service until its EOI: asked of the first few interrupts only, since a look
	// at the APIC costs as much as the EOI that some KVMs do not need.
event_probe:
	decb C(EOI_PROBES)
	cmpl $0, text_start+LAPIC_OFFSET+LAPIC_IN_SERVICE(%rip)
	je event_context
	movb $1, C(EOI_NEEDED)
	jmp event_context

event_in_shim:			// %rax: offset of the interrupted instruction
	movb $1, C(RECHECK)
	cmp $(halt_end - text_start), %rax
	jne 2f
	// Woken from hlt in ring 0: the context is the int3 that asked for it.
	.irp offset, 0, 8, 16, 24, 32
	mov EXC_RIP+\offset(%rip), %rax
	mov %rax, \offset(%rsp)
	.endr
	jmp event_return
	.macro rewind name
2:	cmp $(\name - text_start), %rax
	jb 2f
	cmp $(\name\()_end - text_start), %rax
	jae 2f
	lea \name(%rip), %rax
	mov %rax, (%rsp)
	jmp event_return
	.endm
	rewind hypercall_check
	rewind iret_user_check
	rewind iret_kernel_check
2:
event_return:
	mov -8(%rsp), %rax
	mov -16(%rsp), %rcx
	mov -24(%rsp), %rdx
	end_of_interrupt
	iretq

// ---------------------------------------------------------------- ring 3: exceptions

	.macro has_error vector
	.if (\vector == 8) || ((\vector >= 10) && (\vector <= 14)) || (\vector == 17) || (\vector == 21)
	jmp exception_with_error
	.else
	jmp exception
	.endif
	.endm

	.balign 64
	vector = 0
	.rept 32
	.balign 64
	.if vector == 14
	mov %rcx, SCRATCH(1)
	mov C(VCPU_INFO), %rcx
	mov %rax, VCPU_CR2(%rcx)
	mov EXC_RAX(%rip), %rax
	mov %rax, SCRATCH(0)
	mov $14*TRAP_BYTES, %eax
	.else
	mov %rax, SCRATCH(0)
	mov %rcx, SCRATCH(1)
	mov $vector*TRAP_BYTES, %eax
	.endif
	.if vector == 14
	jmp exception_with_error_kept
	.else
	has_error vector
	.endif
	vector = vector + 1
	.endr
	.balign 64
exception_trampolines_end:

exception_with_error_kept:
exception_with_error:		// %rax: vector * 16; scratch 0, 1: %rax, %rcx
	cmpb $0, C(USER_MODE)
	je exception_kernel_error
	mov C(KERNEL_RSP), %rsp
	pushq EXC_RIP+32(%rip)
	pushq EXC_RIP+24(%rip)
	pushq EXC_RIP+16(%rip)
	pushq EXC_RIP+8(%rip)
	pushq EXC_RIP(%rip)
	pushq EXC_ERROR(%rip)
	jmp exception_user
exception:
	cmpb $0, C(USER_MODE)
	je exception_kernel
	mov C(KERNEL_RSP), %rsp
	pushq EXC_RIP+32(%rip)
	pushq EXC_RIP+24(%rip)
	pushq EXC_RIP+16(%rip)
	pushq EXC_RIP+8(%rip)
	pushq EXC_RIP(%rip)
exception_user:
	push %r11
	pushq SCRATCH(1)
	rdgsbase %rcx
	mov %rcx, C(USER_GS)
	mov C(KERNEL_GS), %rcx
	wrgsbase %rcx
	movb $0, C(USER_MODE)
exception_call:
	lea traps(%rip), %rcx
	add %rax, %rcx
	mov TRAP_ADDRESS(%rcx), %rax
	mov %rax, SCRATCH(2)
	testb $TRAP_MASKS_EVENTS, TRAP_FLAGS(%rcx)
	jz 1f
	mov C(VCPU_INFO), %rcx
	movb $1, VCPU_MASK(%rcx)
1:	mov SCRATCH(0), %rax
	cmpq $0, SCRATCH(2)
	je exception_fatal
	jmp *SCRATCH(2)

	// From the kernel: on its own stack, with the RPL 0 selectors Xen reports.
	.macro kernel_frame
	mov EXC_RIP+24(%rip), %rsp
	and $~15, %rsp
	pushq $KERNEL_SS
	pushq EXC_RIP+24(%rip)
	mov C(VCPU_INFO), %rcx
	movzbl VCPU_MASK(%rcx), %ecx
	xor $1, %ecx
	shl $9, %ecx
	push %rcx
	mov EXC_RIP+16(%rip), %rcx
	and $~0x200, %ecx
	or %rcx, (%rsp)
	pushq $KERNEL_CS
	pushq EXC_RIP(%rip)
	.endm
exception_kernel_error:
	cmp $13*TRAP_BYTES, %eax
	je exception_slow
	mov EXC_RIP(%rip), %rcx
	sub text_start_address(%rip), %rcx
	cmp $SHARED_INFO_OFFSET, %rcx
	jb exception_fatal
exception_error_bounce:
	kernel_frame
	mov EXC_ERROR(%rip), %rcx
	cmp $14*TRAP_BYTES, %eax
	jne 1f
	and $~4, %ecx		// the processor saw ring 3; the kernel expects a supervisor access
1:	push %rcx
	push %r11
	pushq SCRATCH(1)
	jmp exception_call
exception_kernel:
	cmp $6*TRAP_BYTES, %eax
	je exception_slow
	mov EXC_RIP(%rip), %rcx
	sub text_start_address(%rip), %rcx
	cmp $SHARED_INFO_OFFSET, %rcx
	jb exception_fatal
exception_bounce:
	kernel_frame
	push %r11
	pushq SCRATCH(1)
	jmp exception_call

// #GP and #UD in the kernel: a privileged instruction, or cpuid with Xen's prefix; C decides.
exception_slow:
	mov %rax, SCRATCH(3)
	mov EXC_RIP(%rip), %rcx
	sub text_start_address(%rip), %rcx
	cmp $SHARED_INFO_OFFSET, %rcx
	jb exception_fatal
	mov EXC_RIP+24(%rip), %rsp	// the kernel's stack has room: it takes exceptions anywhere
	and $~15, %rsp
	mov SCRATCH(0), %rax
	mov SCRATCH(1), %rcx
	.macro each_register op
	i = 0
	.irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
	\op \register
	i = i + 8
	.endr
	.endm
	.macro save register
	mov %\register, cpu+CPU_REGISTERS+i(%rip)
	.endm
	.macro load register
	mov cpu+CPU_REGISTERS+i(%rip), %\register
	.endm
	each_register save
	.irp offset, 0, 8, 16, 24, 32
	mov EXC_RIP+\offset(%rip), %rax
	mov %rax, cpu+CPU_REGISTERS+120+\offset(%rip)
	.endr
	lea cpu+CPU_REGISTERS(%rip), %rdi
	mov SCRATCH(3), %rsi
	shr $4, %rsi
	cld
	call emulate_instruction
	test %al, %al
	jz 1f
	// Leave by the ordinary way out: an iret frame of the kernel on its stack.
	pushq $KERNEL_SS
	pushq cpu+CPU_REGISTERS+144(%rip)
	mov C(VCPU_INFO), %rcx
	movzbl VCPU_MASK(%rcx), %ecx
	xor $1, %ecx
	shl $9, %ecx
	mov cpu+CPU_REGISTERS+136(%rip), %rax
	and $~0x200, %eax
	or %rax, %rcx
	push %rcx
	pushq $KERNEL_CS
	pushq cpu+CPU_REGISTERS+120(%rip)
	each_register load
	jmp shim_iret
1:	each_register load
	mov SCRATCH(3), %rax
	cmp $13*TRAP_BYTES, %eax
	je exception_error_bounce
	jmp exception_bounce

exception_fatal:		// a fault of the shim itself, or one the kernel has no handler for
	mov EXC_RIP(%rip), %rdi
	mov %rax, %rsi
	mov EXC_ERROR(%rip), %rdx
	lea shim_stack_top(%rip), %rsp
	call panic
	ud2

// long monitor_call(number, argument)
	.globl monitor_call
monitor_call:
	push %rbx
	lea monitor_calls(%rip), %rbx
	mov (%rbx,%rdi,8), %rbx
	mov %rsi, %rdi
	mov $MONITOR_CALL, %ecx
	int3
	pop %rbx
	ret

	.section .rodata, "a"
	.balign 16
monitor_calls:
	.quad call_load_cr3, call_invlpg, call_halt, call_exit
text_start_address:
	.quad text_start
	// What a ring-0 stub returns through: its trampoline, ring-3 selectors, interrupts on, no stack yet.
	.balign 16
exception_frames:
	vector = 0
	.rept 32
	.quad exception_trampolines_end - 64*(32 - vector), USER_CS, 0x202, shim_stack_top, USER_DS
	vector = vector + 1
	.endr
	.section .pages, "aw", @progbits
	.balign 4096
	.globl cpu, params, gdt, idt, tss, rsp0_top, traps
cpu:	.skip 1024
params:	.skip 3072
gdt:	.skip 4096
idt:	.skip 4096
tss:	.skip 4096
traps:	.skip 4096
	.balign 16
event_frames:
	vector = 0
	.rept EVENT_VECTORS
	.quad event_trampolines_end - 16*(EVENT_VECTORS - vector), USER_CS, 0x202, 0, USER_DS
	vector = vector + 1
	.endr
	.balign 4096
	.skip 4096
rsp0_top:
	.skip 8192
shim_stack_top:
	.skip 64

	// Regions of events. The address wraps in its low 16 bits: aligned to 64 KiB, with room for one region before.
	.section .ring, "aw", @nobits
	.skip 65536
event_ring:
	.skip 65536
