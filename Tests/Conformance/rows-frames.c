// What the kernel does with an altered signal frame: the code's first ud2 gives SIGILL, whose handler alters what is returned to.

#define _GNU_SOURCE
#include "probe.h"

static greg_t *registers(ucontext_t *context) {
    greg_t *all = context->uc_mcontext.gregs;
    all[REG_RIP] += 2;
    return all;
}
static void selector(ucontext_t *context, unsigned shift, u64 value) {
    u64 all = (u64)registers(context)[REG_CSGSFS];
    context->uc_mcontext.gregs[REG_CSGSFS] = (greg_t)((all & ~(0xfffful << shift)) | value << shift);
}

#define CS(value) static void cs_##value(ucontext_t *context) { selector(context, 0, value); }
#define SS(value) static void ss_##value(ucontext_t *context) { selector(context, 48, value); }
#define FLAGS(value) static void flags_##value(ucontext_t *context) { registers(context)[REG_EFL] ^= value; }
CS(0) CS(0x7) CS(0x10) CS(0x23) CS(0x2b) CS(0x3b) CS(0x47) CS(0xffff)
SS(0) SS(0x3) SS(0x7) SS(0x18) SS(0x2b) SS(0x33) SS(0x47) SS(0x63)
FLAGS(0x100) FLAGS(0x200) FLAGS(0x400) FLAGS(0x3000) FLAGS(0x4000) FLAGS(0x20000) FLAGS(0x40000) FLAGS(0x200000)

CS(0x33)
FRAME("frame as it was", "ud2\nmov $1, %eax", cs_0x33)
FRAME("frame with cs 0", "ud2\nnop", cs_0)
FRAME("frame with cs 0x7", "ud2\nnop", cs_0x7)
FRAME("frame with cs 0x10", "ud2\nnop", cs_0x10)
FRAME("frame with cs 0x2b", "ud2\nnop", cs_0x2b)
FRAME("frame with cs 0x3b", "ud2\nnop", cs_0x3b)
FRAME("frame with cs 0x47", "ud2\nnop", cs_0x47)
FRAME("frame with cs 0xffff", "ud2\nnop", cs_0xffff)
FRAME("frame with cs 0x23", "ud2\n.code32\nljmp $0x33, $1f\n.code64\n1: mov $1, %eax", cs_0x23)
FRAME("frame with ss 0", "ud2\nmov %ss, %eax", ss_0)
FRAME("frame with ss 0x3", "ud2\nmov %ss, %eax", ss_0x3)
FRAME("frame with ss 0x7", "ud2\nmov %ss, %eax", ss_0x7)
FRAME("frame with ss 0x18", "ud2\nmov %ss, %eax", ss_0x18)
FRAME("frame with ss 0x33", "ud2\nmov %ss, %eax", ss_0x33)
FRAME("frame with ss 0x47", "ud2\nmov %ss, %eax", ss_0x47)
FRAME("frame with ss 0x63", "ud2\nmov %ss, %eax", ss_0x63)
FRAME("frame with ss 0x2b", "ud2\nmov %ss, %eax", ss_0x2b)
FRAME("frame with IF changed", "ud2\npushfq\npop %rax\ncld\nand $~0x8d5, %eax", flags_0x200)
FRAME("frame with DF changed", "ud2\npushfq\npop %rax\ncld\nand $~0x8d5, %eax", flags_0x400)
FRAME("frame with IOPL changed", "ud2\npushfq\npop %rax\ncld\nand $~0x8d5, %eax", flags_0x3000)
FRAME("frame with NT changed", "ud2\npushfq\npop %rax\ncld\nand $~0x8d5, %eax", flags_0x4000)
FRAME("frame with VM changed", "ud2\npushfq\npop %rax\ncld\nand $~0x8d5, %eax", flags_0x20000)
FRAME("frame with AC changed", "ud2\npushfq\npop %rax\ncld\nand $~0x8d5, %eax", flags_0x40000)
FRAME("frame with ID changed", "ud2\npushfq\npop %rax\ncld\nand $~0x8d5, %eax", flags_0x200000)
FRAME("frame with TF", "ud2\nnop\nnop", flags_0x100)

#define AT(field, name, value) static void name(ucontext_t *context) { registers(context)[field] = (greg_t)(value); }
AT(REG_RIP, rip_hole, 0x8000000000000000) AT(REG_RIP, rip_kernel, 0xffff800000000000) AT(REG_RIP, rip_zero, 0) AT(REG_RIP, rip_last,
        0x7ffffffff000)
AT(REG_RSP, rsp_hole, 0x8000000000000000) AT(REG_RSP, rsp_kernel, 0xffffffff81000000) AT(REG_RSP, rsp_zero, 0)
FRAME("frame with rip not canonical", "ud2\nnop", rip_hole)
FRAME("frame with rip in the kernel", "ud2\nnop", rip_kernel)
FRAME("frame with rip 0", "ud2\nnop", rip_zero)
FRAME("frame with rip behind the last page", "ud2\nnop", rip_last)
FRAME("frame with rsp not canonical", "mov %rsp, %rdx\nud2\nmov %rsp, %rax\nmov %rdx, %rsp", rsp_hole)
FRAME("frame with rsp not canonical, used", "ud2\npush %rax", rsp_hole)
FRAME("frame with rsp in the kernel", "mov %rsp, %rdx\nud2\nmov %rsp, %rax\nmov %rdx, %rsp", rsp_kernel)
FRAME("frame with rsp 0, signal", "ud2\nud2", rsp_zero)
static void registers_kept(ucontext_t *context) {
    registers(context)[REG_R15] = 0x77;
    context->uc_mcontext.gregs[REG_RCX] = 0x700;
    context->uc_mcontext.gregs[REG_R11] = 0x7000;
}
FRAME("frame with registers changed", "ud2\nmov %r15, %rax\nor %rcx, %rax\nor %r11, %rax", registers_kept)
// A sigreturn(2) from nothing: the frame is whatever lies on the stack.
INSTRUCTION("sigreturn without a frame", "mov $15, %eax\nmov $0x40000000, %esp\nsyscall")
