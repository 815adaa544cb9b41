// Exceptions of user code that this KVM reports in another way than a processor would, and what a processor would do
// without an exception. Most reach the kernel as they came.

#include "shim.h"

#define DEBUG 1
#define INVALID_OPCODE 6
#define GENERAL_PROTECTION 13
#define SYSTEM_CALL_32 0x80

#define DR6_CAUSES 0xf00f // B0 to B3, BD, BS, BT
#define DR6_STEP 0x4000
#define INSTRUCTION_BYTES_MAX 15
#define CARRIED_OUT -1

// The kernel's bitmap of the process that runs: what `ioperm` and `iopl` permit. A clear bit permits a port.
static const u8 *io_bitmap;
static u32 io_ports;

void set_io_bitmap(const u8 *bitmap, u32 ports) {
    io_bitmap = bitmap;
    io_ports = ports;
}

static long with_error(u64 vector, u64 error) {
    cpu.judged_has_error = 1;
    cpu.judged_error = error;
    return (long)vector;
}

static long without_error(u64 vector) {
    cpu.judged_has_error = 0;
    return (long)vector;
}

// What an instruction begins with: all of it was fetched already, up to the byte that the exception is about.
struct opcode {
    u64 place; // of the opcode's first byte
    long first;
    bool is_16_bit;
};

static struct opcode opcode_of(const struct registers *r) {
    bool is_64_bit = r->cs == USER_CS;
    struct opcode opcode = {.place = r->rip};
    for (int count = 0; count < INSTRUCTION_BYTES_MAX; count++, opcode.place++) {
        opcode.first = user_byte(opcode.place);
        switch (opcode.first) {
        case 0x66: opcode.is_16_bit = true; continue;
        case 0x67: case 0xf2: case 0xf3: case 0x2e: case 0x36: case 0x3e: case 0x26: case 0x64: case 0x65: continue;
        default: break;
        }
        if (!is_64_bit || (opcode.first & 0xf0) != 0x40) break;
    }
    return opcode;
}

// `int n`: this KVM makes it an invalid opcode, a processor a protection fault whose error names the gate.
static long software_interrupt(struct registers *r, struct opcode opcode) {
    u64 number = (u64)user_byte(opcode.place + 1);
    if (number != SYSTEM_CALL_32 || !traps[SYSTEM_CALL_32].address) return with_error(GENERAL_PROTECTION, number * 8 + 2);
    r->rip = opcode.place + 2;
    return without_error(SYSTEM_CALL_32);
}

static bool may_use_ports(u64 first, u64 count) {
    if (first + count > io_ports) return false;
    for (u64 port = first; port < first + count; port++)
        if (io_bitmap[port / 8] >> (port % 8) & 1) return false;
    return true;
}

// `in` and `out` of a port that the process may use: there is nothing at any port, so that reads are all ones.
static bool port_access(struct registers *r, struct opcode opcode) {
    bool is_immediate = opcode.first >= 0xe4 && opcode.first <= 0xe7;
    if (!is_immediate && !(opcode.first >= 0xec && opcode.first <= 0xef)) return false;
    u64 port = is_immediate ? (u64)user_byte(opcode.place + 1) : r->rdx & 0xffff;
    u64 bytes = opcode.first & 1 ? opcode.is_16_bit ? 2 : 4 : 1;
    if (!may_use_ports(port, bytes)) return false;
    r->rip = opcode.place + (is_immediate ? 2 : 1);
    if (opcode.first & 2) return true;
    if (bytes == 4) r->rax = 0xffffffff;
    else r->rax |= bytes == 2 ? 0xffff : 0xff;
    return true;
}

static long carried_out(struct registers *r) {
    if (!(r->rflags & RFLAGS_TF)) return CARRIED_OUT;
    cpu.debug_status = DR6_NOTHING | DR6_STEP;
    return without_error(DEBUG);
}

static long refused_instruction(struct registers *r, u64 vector, u64 error) {
    struct opcode opcode = opcode_of(r);
    if (opcode.first == 0xcd) return software_interrupt(r, opcode);
    if (vector == INVALID_OPCODE || error) return -2;
    if (io_ports && port_access(r, opcode)) return carried_out(r);
    // `monitor` and `mwait` are no instructions outside of ring 0.
    bool is_monitor = opcode.first == 0x0f && user_byte(opcode.place + 1) == 0x01 && (user_byte(opcode.place + 2) & ~1L) == 0xc8;
    return is_monitor ? without_error(INVALID_OPCODE) : -2;
}

// `iretq` to a context that cannot be, which only a signal frame can hold: the fault is the user code's, at the frame's own place.
static bool is_refused_return(struct registers *r) {
    if (r->rip != (u64)iret_user_leave || r->rsp != cpu.kernel_rsp - 5 * sizeof(u64)) return false;
    const u64 *frame = (const u64 *)r->rsp;
    r->rip = frame[0];
    r->cs = frame[1];
    r->rflags = frame[2];
    r->rsp = frame[3];
    r->ss = frame[4];
    return true;
}

// `icebp`, a debug exception without a cause: some KVMs report it with its own address, others, as a processor does, with the
// next one's. Where only one of the two bytes is an `icebp`, it says which kind this KVM is.
static void settle_icebp(struct registers *r) {
    static bool is_reported_before;
    bool is_here = user_byte(r->rip) == 0xf1, is_behind = user_byte(r->rip - 1) == 0xf1;
    if (is_here != is_behind) is_reported_before = is_here;
    if (is_here && is_reported_before) r->rip++;
}

// Answers the vector that the kernel is to see, or CARRIED_OUT; changes the context where it is another one.
long judge_user_exception(struct registers *r, u64 vector, u64 error) {
    if (is_refused_return(r)) return vector == INVALID_OPCODE ? with_error(GENERAL_PROTECTION, 0) : with_error(vector, error);
    if (vector == DEBUG) {
        if (!(cpu.debug_status & DR6_CAUSES)) settle_icebp(r);
        return without_error(vector);
    }
    if (vector == INVALID_OPCODE || vector == GENERAL_PROTECTION) {
        long judged = refused_instruction(r, vector, error);
        if (judged >= CARRIED_OUT) return judged;
    }
    return vector == INVALID_OPCODE ? without_error(vector) : with_error(vector, error);
}
