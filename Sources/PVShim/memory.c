// Page tables. The kernel writes most of its tables through hypercalls; the shim adds the user bit that ring 3 needs and
// writes them as they are: machine frames are guest frames, and nothing is validated because the machine is the boundary.

#include "shim.h"

#define PRESENT 1ull
#define USER 4ull
#define LARGE 0x80ull
#define ACCESSED_DIRTY 0x60ull
#define ADDRESS_MASK 0x000ffffffffff000ull
#define TABLE (PRESENT | 2 | USER | 0x60)

// The hypervisor's L4 slots: never walked, never the kernel's.
#define FIRST_SHIM_SLOT 256
#define LAST_SHIM_SLOT 271

#define SHIM_SLOT 262
#define DIRECT_SLOT 263
#define M2P_SLOT 264

struct mmu_extended {
    u32 command, reserved;
    u64 argument1, argument2;
};

static u64 with_user_bit(u64 entry) { return entry & PRESENT ? entry | USER : entry; }

// Adds the user bit to a table and, where the kernel built it alone, to all tables below.
static void add_user_bits(u64 table_address, int level) {
    if (table_address >= params.ram_bytes) return;
    u64 *table = physical(table_address);
    for (int i = 0; i < 512; i++) {
        u64 entry = table[i];
        if (!(entry & PRESENT)) continue;
        if (level == 4 && i >= FIRST_SHIM_SLOT && i <= LAST_SHIM_SLOT) continue;
        if (!(entry & USER)) table[i] = entry | USER;
        if (level > 1 && !(entry & LARGE)) add_user_bits(entry & ADDRESS_MASK, level - 1);
    }
}

// A new address space: its kernel half was copied from one that has the bits, so only the top level needs a look.
static void pin_top_level(u64 address) {
    if (!(params.flags & PARAMS_BOOTED)) {
        add_user_bits(address, 4);
        return;
    }
    u64 *table = physical(address);
    for (int i = 0; i < 512; i++) {
        if (i >= FIRST_SHIM_SLOT && i <= LAST_SHIM_SLOT) continue;
        if ((table[i] & (PRESENT | USER)) == PRESENT) table[i] |= USER;
    }
}

static void install_shim_slots(u64 address) {
    u64 *table = physical(address);
    if (table[SHIM_SLOT] != (params.l3_shim | TABLE)) table[SHIM_SLOT] = params.l3_shim | TABLE;
    if (table[DIRECT_SLOT] != (params.l3_direct | TABLE)) table[DIRECT_SLOT] = params.l3_direct | TABLE;
    if (table[M2P_SLOT] != (params.l3_m2p | TABLE)) table[M2P_SLOT] = params.l3_m2p | TABLE;
}

static u64 *leaf_entry(u64 address) {
    u64 *table = physical(cpu.kernel_cr3 & ADDRESS_MASK);
    for (int level = 4; level > 1; level--) {
        u64 entry = table[(address >> (12 + 9 * (level - 1))) & 511];
        if (!(entry & PRESENT) || (entry & LARGE)) return 0;
        table = physical(entry & ADDRESS_MASK);
    }
    return &table[(address >> 12) & 511];
}

u64 guest_physical(u64 address) {
    u64 *entry = leaf_entry(address);
    return entry && (*entry & PRESENT) ? (*entry & ADDRESS_MASK) | (address & 0xfff) : ~0ull;
}

static void flush_all(void) { monitor_call(CALL_LOAD_CR3, cpu.kernel_cr3); }

long mmu_update(u64 *requests, u64 count, u32 *done) {
    for (u64 i = 0; i < count; i++) {
        u64 kind = requests[2 * i] & 3, value = requests[2 * i + 1];
        if (kind == 1) continue; // MMU_MACHPHYS_UPDATE: the table is the identity
        u64 *entry = physical(requests[2 * i] & ~3ull);
        if (kind == 2) value |= *entry & ACCESSED_DIRTY; // MMU_PT_UPDATE_PRESERVE_AD
        *entry = with_user_bit(value);
    }
    if (done) *done = (u32)count;
    return 0;
}

long update_va_mapping(u64 address, u64 value, u64 flags) {
    u64 *entry = leaf_entry(address);
    if (!entry) return -22;
    value = with_user_bit(value);
    // The kernel maps its page tables read-only in the direct map; here it may write them, so that its own atomic
    // exchanges on entries work without a trap.
    if (address >= 0xffff888000000000 && address < 0xffffc88000000000 && (value & PRESENT)) value |= 2;
    // Pinning a table only changes the write bit of its mapping, which was just put back: nothing to write or to flush.
    if (((*entry ^ value) & ~ACCESSED_DIRTY) == 0) return 0;
    *entry = value;
    if ((flags & 3) == 2) monitor_call(CALL_INVLPG, address);
    else if ((flags & 3) == 1) flush_all();
    return 0;
}

static void load_kernel_table(u64 address) {
    install_shim_slots(address);
    cpu.kernel_cr3 = address;
    flush_all();
}

long mmu_extended_op(void *operations, u64 count, u32 *done) {
    struct mmu_extended *operation = operations;
    for (u64 i = 0; i < count; i++, operation++) {
        switch (operation->command) {
        case 0: case 1: case 2: // pin L1-L3: entries written since boot came through here, or are a user's and have the bit
            if (!(params.flags & PARAMS_BOOTED)) add_user_bits(operation->argument1 << 12, (int)operation->command + 1);
            break;
        case 3: pin_top_level(operation->argument1 << 12); break;
        case 4: break; // unpin
        case 5: load_kernel_table(operation->argument1 << 12); break;
        case 15: // the user's table, which counts in strict isolation only
            params.flags |= PARAMS_BOOTED;
            load_user_table(operation->argument1 << 12);
            break;
        case 6: case 8: case 10: flush_all(); break;
        case 7: case 9: case 11: monitor_call(CALL_INVLPG, operation->argument1); break;
        case 12: case 13: break; // cache flush, LDT
        case 16: { // clear page
            u64 *page = physical(operation->argument1 << 12);
            for (int word = 0; word < 512; word++) page[word] = 0;
            break;
        }
        case 17: copy_bytes(physical(operation->argument1 << 12), physical(operation->argument2 << 12), 4096); break;
        default: return -38;
        }
    }
    if (done) *done = (u32)count;
    return 0;
}

long memory_op(u64 command, u64 *argument) {
    u64 pages = params.ram_bytes >> 12;
    switch (command) {
    case 1: return 0; // decrease_reservation
    case 3: case 4: return (long)pages; // current and maximum reservation
    case 9: { // memory_map: one range of RAM
        struct { u32 count, reserved; u64 buffer; } *map = (void *)argument;
        struct __attribute__((packed)) { u64 address, size; u32 type; } *entry = (void *)map->buffer;
        entry->address = 0;
        entry->size = params.ram_bytes;
        entry->type = 1;
        map->count = 1;
        return 0;
    }
    case 12: // machphys_mapping
        argument[0] = M2P_BASE;
        argument[1] = M2P_BASE + pages * 8;
        argument[2] = pages - 1;
        return 0;
    default: return -38;
    }
}
