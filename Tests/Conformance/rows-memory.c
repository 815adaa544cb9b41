// Page faults, protection, addresses that are not canonical, and the kernel's own.

#define _GNU_SOURCE
#include "probe.h"
#include <sys/mman.h>
#include <unistd.h>

INSTRUCTION("read 0", "mov 0, %eax")
INSTRUCTION("write 0", "movl $1, 0")
INSTRUCTION("jump to 0", "xor %eax, %eax\njmp *%rax")
INSTRUCTION("read unmapped", "mov 0x40000123, %eax")
INSTRUCTION("write unmapped", "movl $1, 0x40000123")
INSTRUCTION("read-modify-write unmapped", "lock incl 0x40000120")
INSTRUCTION("jump to unmapped", "mov $0x40000123, %eax\njmp *%rax")
INSTRUCTION("run data", "movb $0xc3, (%rdi)\njmp *%rdi")
INSTRUCTION("run the stack", "movb $0xc3, -64(%rsp)\nlea -64(%rsp), %rax\njmp *%rax")
INSTRUCTION("write code", "movb $0x90, 1f(%rip)\n1: nop")
INSTRUCTION("access that crosses into unmapped", "mov 0x20001ffc, %rax")
INSTRUCTION("string move into unmapped", "mov $0x20000000, %esi\nmov $0x20001ff8, %edi\nmov $64, %ecx\nrep movsb")
INSTRUCTION("push into unmapped", "mov $0x40000000, %esp\npush %rax")
INSTRUCTION("stack above its top", "mov 0x10(%rsp), %rax")

static u64 protect(const struct row *row, int protection) {
    mprotect((void *)SCRATCH, 0x1000, protection);
    return run(row);
}
static u64 read_only(const struct row *row) { return protect(row, PROT_READ); }
static u64 no_access(const struct row *row) { return protect(row, PROT_NONE); }
static u64 executable(const struct row *row) {
    *(unsigned char *)SCRATCH = 0xc3;
    return protect(row, PROT_READ | PROT_EXEC);
}
static u64 writable_again(const struct row *row) {
    mprotect((void *)SCRATCH, 0x1000, PROT_READ);
    return protect(row, PROT_READ | PROT_WRITE);
}
FUNCTION("write read-only", "movl $1, (%rdi)", read_only)
FUNCTION("read read-only", "mov (%rdi), %eax", read_only)
FUNCTION("read without access", "mov 8(%rdi), %eax", no_access)
FUNCTION("write without access", "movl $1, 8(%rdi)", no_access)
FUNCTION("run executable memory", "mov $7, %eax\ncall *%rdi", executable)
FUNCTION("write memory that became writable", "movl $7, (%rdi)\nmov (%rdi), %eax", writable_again)
static u64 behind_the_end(const struct row *row) {
    int file = memfd_create("probe", 0);
    mmap((void *)SCRATCH, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
    return run(row);
}
FUNCTION("read behind a file's end", "mov 8(%rdi), %eax", behind_the_end)
FUNCTION("write behind a file's end", "mov %eax, 8(%rdi)", behind_the_end)

#define FAR "movabs $0x8000000000000000, %rdx\n"
INSTRUCTION("read, not canonical", FAR "mov (%rdx), %eax")
INSTRUCTION("write, not canonical", FAR "mov %eax, (%rdx)")
INSTRUCTION("read the hole's first byte", "movabs $0x0100000000000000, %rdx\nmov (%rdx), %eax")
INSTRUCTION("push, not canonical", "movabs $0x8000000000000000, %rsp\npush %rax")
INSTRUCTION("read by %rbp, not canonical", "movabs $0x8000000000000000, %rbp\nmov (%rbp), %eax")
INSTRUCTION("call with a stack that is not canonical", "movabs $0x8000000000000000, %rsp\ncall 1f\n1: nop")
INSTRUCTION("signal with a stack that is not there", "mov $0x40000000, %esp\nud2")

// Kernel addresses of any Linux, and those where the PV shim keeps things. Read, written with what is there, jumped to where
// nothing can be executed.
#define KERNEL(title, address)                                             \
    ROW(__LINE__, "read " title, "movabs $" address ", %rdx\nmov (%rdx), %al\nmov $1, %eax", .mode = ONCE)
#define KERNEL_WRITE(title, address)                                       \
    ROW(__LINE__, "write " title, "movabs $" address ", %rdx\nlock orb $0, (%rdx)\nmov $1, %eax", .mode = ONCE)
KERNEL("the lowest kernel address", "0xffff800000000000")
KERNEL("the shim's text", "0xffff830000000000")
KERNEL_WRITE("the shim's text", "0xffff830000000000")
KERNEL("the shim's shared page", "0xffff830000030000")
KERNEL_WRITE("the shim's shared page", "0xffff830000030000")
KERNEL("the local APIC", "0xffff830000200000")
KERNEL("all of memory, by the shim", "0xffff838008000000")
KERNEL_WRITE("all of memory, by the shim", "0xffff838008000000")
KERNEL("the machine-to-physical table", "0xffff840000000000")
KERNEL("all of memory, by the kernel", "0xffff888008000000")
KERNEL_WRITE("all of memory, by the kernel", "0xffff888008000000")
KERNEL("the kernel's text", "0xffffffff81000000")
KERNEL_WRITE("the kernel's text", "0xffffffff81000000")
KERNEL("the area of the entry code", "0xfffffe0000000000")
KERNEL("the last page but one", "0xffffffffffffe000")
INSTRUCTION("read vsyscall", "mov 0xffffffffff600000, %eax")
INSTRUCTION("run all of memory, by the shim", "movabs $0xffff838008000000, %rdx\njmp *%rdx")
INSTRUCTION("run the lowest kernel address", "movabs $0xffff800000000000, %rdx\njmp *%rdx")

// The kernel must refuse its own addresses as arguments.
INSTRUCTION("write(2) from the kernel", "mov $1, %eax\nmov $1, %edi\nmovabs $0xffffffff81000000, %rsi\nmov $1, %edx\nsyscall")
INSTRUCTION("getcwd(2) into the kernel", "mov $79, %eax\nmovabs $0xffff888008000000, %rdi\nmov $64, %esi\nsyscall")
INSTRUCTION("getcwd(2) into the shim", "mov $79, %eax\nmovabs $0xffff830000000000, %rdi\nmov $64, %esi\nsyscall")
INSTRUCTION("getcwd(2), not canonical", "mov $79, %eax\nmovabs $0x8000000000000000, %rdi\nmov $64, %esi\nsyscall")
INSTRUCTION("mmap(2) of the kernel", "mov $9, %eax\nmovabs $0xffff888008000000, %rdi\nmov $4096, %esi\nmov $3, %edx\n"
    "mov $0x32, %r10d\nmov $-1, %r8\nsyscall")
