// Privileged instructions that the kernel executes outside its paravirtual operations, and cpuid with Xen's prefix.

#include "shim.h"

#define MSR_EFER 0xc0000080
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_APIC_BASE 0x1b

struct cpuid_mask {
    u32 leaf, subleaf; // subleaf ~0: any
    u32 clear[4], set[4]; // eax, ebx, ecx, edx
};

#define BIT(n) (1u << (n))
#define FSGSBASE BIT(0)
#define XCR0 0xe7u // x87, SSE, AVX, AVX-512; what the VMM sets

// What a kernel in ring 3 must not see: features whose instructions or MSRs it cannot use here, and those that would
// make it take slow paths.
static const struct cpuid_mask masks[] = {
    {1, ~0u, {0, 0, BIT(3) | BIT(17) | BIT(21) | BIT(24), BIT(3) | BIT(7) | BIT(9) | BIT(12) | BIT(13) | BIT(14) | BIT(16) | BIT(22)},
        {0, 0, BIT(27) | BIT(31), 0}},
    {7, 0, {0, FSGSBASE | BIT(1) | BIT(7) | BIT(10) | BIT(20), BIT(2) | BIT(3) | BIT(4) | BIT(7) | BIT(16) | BIT(22),
        BIT(4) | BIT(20) | BIT(26) | BIT(27) | BIT(28) | BIT(29) | BIT(30) | BIT(31)}, {0}},
    {0xd, 0, {~XCR0, 0, 0, ~0u}, {0}},
    {0xd, 1, {~5u, ~0u, ~0u, ~0u}, {0}}, // XSAVEOPT and XGETBV1: the standard format, whose size leaf 0xd tells
    {0x80000001, ~0u, {0, 0, BIT(2) | BIT(3) | BIT(10) | BIT(12) | BIT(22) | BIT(23) | BIT(24) | BIT(27) | BIT(28),
        BIT(3) | BIT(12) | BIT(16) | BIT(17) | BIT(26) | BIT(27)}, {0}},
    {0x80000008, ~0u, {0, BIT(12) | BIT(14) | BIT(15) | BIT(17) | BIT(24) | BIT(25) | BIT(26) | BIT(27), 0, 0}, {0}},
    {5, ~0u, {~0u, ~0u, ~0u, ~0u}, {0}},
    {6, ~0u, {~0u, ~0u, ~0u, ~0u}, {0}},
    {0xa, ~0u, {~0u, ~0u, ~0u, ~0u}, {0}},
    {0x80000021, ~0u, {~BIT(6), ~0u, ~0u, ~0u}, {0}}, // kept: a null selector clears the base
};

static bool hidden_state_component(u32 leaf, u32 subleaf) {
    if (leaf == 7) return subleaf > 0;
    return leaf == 0xd && subleaf > 1 && (subleaf > 31 || !(XCR0 >> subleaf & 1));
}

static void native_cpuid(u32 leaf, u32 subleaf, u32 value[4]) {
    __asm__ volatile("cpuid" : "=a"(value[0]), "=b"(value[1]), "=c"(value[2]), "=d"(value[3]) : "0"(leaf), "2"(subleaf));
}

// Bytes of an XSAVE area for XCR0: the processor tells those for the host's register, which may have more.
static u32 xsave_bytes(void) {
    u32 bytes = 576, value[4];
    for (u32 component = 2; component < 32; component++) {
        if (!(XCR0 >> component & 1)) continue;
        native_cpuid(0xd, component, value);
        if (value[0] + value[1] > bytes) bytes = value[0] + value[1];
    }
    return bytes;
}

static bool xen_leaf(u32 leaf, u32 result[4]) {
    static const u32 leaves[3][4] = {
        {0x40000002, 0x566e6558, 0x65584d4d, 0x4d4d566e}, // "XenVMMXenVMM"
        {4 << 16 | 17, 0, 0, 0},
        {1, 0x40000000, 0, 0},
    };
    if ((leaf & 0xffffff00) != 0x40000000) return false;
    for (int i = 0; i < 4; i++) result[i] = leaf - 0x40000000 < 3 ? leaves[leaf - 0x40000000][i] : 0;
    return true;
}

static void cpuid(struct registers *registers) {
    u32 leaf = (u32)registers->rax, subleaf = (u32)registers->rcx, value[4];
    if (!xen_leaf(leaf, value)) {
        native_cpuid(leaf, subleaf, value);
        for (unsigned m = 0; m < sizeof masks / sizeof *masks; m++) {
            if (masks[m].leaf != leaf || (masks[m].subleaf != ~0u && masks[m].subleaf != subleaf)) continue;
            for (int i = 0; i < 4; i++) value[i] = (value[i] & ~masks[m].clear[i]) | masks[m].set[i];
        }
        // Programs use it whatever the kernel knows, and lose their bases at a switch of tasks if it does not; where the kernel can read
        // the inactive base without a trap only, or switches would cost twice as much.
        if (leaf == 7 && subleaf == 0 && params.flags & PARAMS_INACTIVE_BASE) value[1] |= FSGSBASE;
        if (leaf == 0xd && subleaf == 0) value[1] = value[2] = xsave_bytes();
        if (hidden_state_component(leaf, subleaf)) value[0] = value[1] = value[2] = value[3] = 0;
    }
    registers->rax = value[0];
    registers->rbx = value[1];
    registers->rcx = value[2];
    registers->rdx = value[3];
}

static u64 read_msr(u32 number) {
    switch (number) {
    case MSR_EFER: return 0xd01; // SCE, LME, LMA, NXE
    case MSR_FS_BASE: return read_fs_base();
    case MSR_GS_BASE: return cpu.kernel_gs;
    case MSR_KERNEL_GS_BASE: return cpu.user_gs;
    case MSR_APIC_BASE: return 0xfee00900;
    default: return 0;
    }
}

static void write_msr(u32 number, u64 value) {
    switch (number) {
    case MSR_FS_BASE: write_fs_base(value); break;
    case MSR_GS_BASE: cpu.kernel_gs = value; write_gs_base(value); break;
    case MSR_KERNEL_GS_BASE: cpu.user_gs = value; break;
    default: break;
    }
}

static u64 read_control_register(int number) {
    switch (number) {
    case 0: return 0x80050033;
    case 3: return cpu.kernel_cr3;
    case 4: return 0x40620; // OSXSAVE, OSXMMEXCPT, OSFXSR, PAE
    default: return 0;
    }
}

static u64 *general_register(struct registers *r, int number) {
    u64 *all[16] = {&r->rax, &r->rcx, &r->rdx, &r->rbx, &r->rsp, &r->rbp, &r->rsi, &r->rdi,
                    &r->r8, &r->r9, &r->r10, &r->r11, &r->r12, &r->r13, &r->r14, &r->r15};
    return all[number & 15];
}

static int two_byte_instruction(struct registers *r, const u8 *code, int rex) {
    int target = (code[2] & 7) | (rex & 1) << 3;
    switch (code[1]) {
    case 0x30: write_msr((u32)r->rcx, (r->rax & 0xffffffff) | r->rdx << 32); return 2;
    case 0x32: {
        u64 value = read_msr((u32)r->rcx);
        r->rax = value & 0xffffffff;
        r->rdx = value >> 32;
        return 2;
    }
    case 0x20: *general_register(r, target) = read_control_register((code[2] >> 3) & 7); return 3;
    case 0x21: *general_register(r, target) = read_debug_register((code[2] >> 3) & 7); return 3;
    case 0x23: write_debug_register((code[2] >> 3) & 7, *general_register(r, target)); return 3;
    case 0x22: return 3; // writes to control registers change nothing here
    case 0x06: case 0x08: case 0x09: return 2; // clts, invd, wbinvd
    case 0x01: return code[2] == 0xd1 ? 3 : 0; // xsetbv: XCR0 is set by the VMM
    default: return 0;
    }
}

static int one_byte_instruction(struct registers *r, const u8 *code) {
    switch (code[0]) {
    // Nothing answers a port. The timer chip reads as zero, not as all ones: the kernel calibrates its TSC by that chip
    // and gives up at the first reading that does not fit, instead of after 50,000.
    case 0xe4: case 0xe5: r->rax = code[1] == 0x42 ? r->rax & ~0xffull : r->rax | 0xff; return 2;
    case 0xec: case 0xed: r->rax |= code[0] == 0xec ? 0xff : 0xffffffff; return 1;
    case 0xe6: case 0xe7: return 2;
    case 0xee: case 0xef: return 1;
    case 0xfa: case 0xfb: return 1; // cli, sti: ignored as by Xen, because the `popf` that follows cannot be seen
    case 0xf4: return 1;
    default: return 0;
    }
}

bool emulate_instruction(struct registers *registers, u64 vector) {
    static const u8 xen_cpuid[7] = {0x0f, 0x0b, 'x', 'e', 'n', 0x0f, 0xa2};
    const u8 *code = (const u8 *)registers->rip;
    if (vector == 6) {
        for (int i = 0; i < 7; i++)
            if (code[i] != xen_cpuid[i]) return false;
        cpuid(registers);
        registers->rip += 7;
        return true;
    }
    int rex = 0;
    const u8 *start = code;
    while ((*code & 0xf0) == 0x40 || *code == 0x66 || *code == 0xf2 || *code == 0xf3) {
        if ((*code & 0xf0) == 0x40) rex = *code;
        code++;
    }
    int length = code[0] == 0x0f ? two_byte_instruction(registers, code, rex) : one_byte_instruction(registers, code);
    if (!length) return false;
    registers->rip += (u64)(code - start) + (u64)length;
    return true;
}
