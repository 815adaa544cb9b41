// Exceptions of x87 and SSE, and the registers around signals and waiting.

#define _GNU_SOURCE
#include "probe.h"

#define X87_UNMASK(control) "movw $" #control ", (%rdi)\nfninit\nfldcw (%rdi)\n"
INSTRUCTION("x87 divide by zero", X87_UNMASK(0x037b) "fld1\nfldz\nfdivrp\nfwait")
INSTRUCTION("x87 invalid", X87_UNMASK(0x037e) "fldz\nfldz\nfdivrp\nfwait")
INSTRUCTION("x87 inexact", X87_UNMASK(0x035f) "fld1\nfldpi\nfdivrp\nfwait")
INSTRUCTION("x87 stack underflow", X87_UNMASK(0x037e) "fstps (%rdi)\nfwait")
INSTRUCTION("x87 masked", "fninit\nfld1\nfldz\nfdivrp\nfwait\nfnstsw %ax\nand $0x3f, %eax")
#define SSE_UNMASK(control) "movl $" #control ", (%rdi)\nldmxcsr (%rdi)\nmov $1, %ecx\ncvtsi2sd %ecx, %xmm0\nxorps %xmm1, %xmm1\n"
INSTRUCTION("SSE divide by zero", SSE_UNMASK(0x1d80) "divsd %xmm1, %xmm0")
INSTRUCTION("SSE invalid", SSE_UNMASK(0x1f00) "divsd %xmm1, %xmm1")
INSTRUCTION("SSE inexact", SSE_UNMASK(0x0f80) "mov $3, %ecx\ncvtsi2sd %ecx, %xmm1\ndivsd %xmm1, %xmm0")
INSTRUCTION("SSE overflow", SSE_UNMASK(0x1b80) "movabs $0x7fe0000000000000, %rax\nmovq %rax, %xmm0\nmulsd %xmm0, %xmm0")
INSTRUCTION("SSE underflow", SSE_UNMASK(0x1780) "movabs $0x0010000000000001, %rax\nmovq %rax, %xmm0\nmulsd %xmm0, %xmm0")
INSTRUCTION("SSE denormal", SSE_UNMASK(0x1e80) "mov $1, %eax\nmovq %rax, %xmm0\naddsd %xmm0, %xmm0")
INSTRUCTION("SSE masked", "movl $0x1f80, (%rdi)\nldmxcsr (%rdi)\nxorps %xmm0, %xmm0\ndivsd %xmm0, %xmm0\nstmxcsr (%rdi)\n"
    "mov (%rdi), %eax")
INSTRUCTION("movaps, misaligned", "movaps 1(%rdi), %xmm0")
INSTRUCTION("ldmxcsr, reserved bits", "movl $0xffffffff, (%rdi)\nldmxcsr (%rdi)")
INSTRUCTION("fxrstor, reserved bits", "fxsave64 (%rdi)\nmovl $0xffffffff, 24(%rdi)\nfxrstor64 (%rdi)")
INSTRUCTION("xrstor, reserved header", "mov $3, %eax\nxsave64 512(%rdi)\nmovq $1, 512+512+16(%rdi)\nmov $3, %eax\nxrstor64 512(%rdi)")
INSTRUCTION("AVX registers kept while others run", "pcmpeqb %xmm0, %xmm0\n.byte 0xc4, 0xe3, 0x7d, 0x18, 0xc0, 0x01\n" // vinsertf128 $1
    "push $1000\npush $0\nmov %rsp, %rdi\nxor %esi, %esi\nmov $35, %eax\nsyscall\npop %rcx\npop %rcx\n"
    ".byte 0xc4, 0xe3, 0x7d, 0x19, 0xc1, 0x01\nmovq %xmm1, %rax") // vextractf128 $1
static void all_registers(ucontext_t *context) { context->uc_mcontext.gregs[REG_RIP] += 2; }
FRAME("x87, SSE and MXCSR kept over a signal", "mov $0x1fc0, %eax\nmov %eax, (%rdi)\nldmxcsr (%rdi)\npcmpeqb %xmm7, %xmm7\nfninit\n"
    "fldpi\nud2\n"
    "movq %xmm7, %rax\nstmxcsr (%rdi)\nsub $-1, %rax\njnz 1f\nfistpl 8(%rdi)\nmov 8(%rdi), %eax\nshl $16, %eax\nor (%rdi), %eax\n"
    "1:", all_registers)
