// Event channels, the vCPU's areas and its timer.

#include "shim.h"

#define ENOENT 2
#define ENOSYS 38
#define EINVAL 22
#define VIRQ_COUNT 24
#define VIRQ_TIMER 0
#define TIMER_SLOT 0 // vector EVENT_VECTOR_BASE + 0
#define TIMER_NS_MIN 1000ull
#define TIMER_NS_MAX 4000000000ull // the APIC's counter has 32 bits and counts nanoseconds; a longer wait ends early, harmlessly

static u32 next_port = 2; // port 1 is the console's; devices have theirs from params.device_ports
static u64 self_ports; // ports below 64 that the kernel notifies to itself (IPIs)

void set_port_pending(u32 port) {
    volatile u64 *shared = shared_info();
    u64 bit = 1ull << (port % 64);
    __asm__ volatile("orq %1, %0" : "+m"(shared[SHARED_PENDING / 8 + port / 64]) : "r"(bit) : "memory");
    if (shared[SHARED_MASK / 8 + port / 64] & bit) return;
    // One instruction each, like the line above: an interrupt between a load and a store would be undone by the store.
    __asm__ volatile("orq %1, %0" : "+m"(*(volatile u64 *)(vcpu_info() + VCPU_PENDING_SEL)) : "r"(1ull << (port / 64)) : "memory");
    vcpu_info()[VCPU_PENDING] = 1;
    cpu.recheck = 1;
}

static u32 allocate_port(void) { return next_port < params.device_ports ? next_port++ : 0; }

long event_channel_op(u64 command, u32 *argument) {
    switch (command) {
    case 1: { // bind_virq
        u32 port = allocate_port();
        if (!port) return -28;
        if (argument[0] == VIRQ_TIMER) cpu.ports[TIMER_SLOT] = (u16)port;
        argument[2] = port;
        return 0;
    }
    case 7: { // bind_ipi
        u32 port = allocate_port();
        if (!port) return -28;
        self_ports |= 1ull << port;
        argument[1] = port;
        return 0;
    }
    case 6: // alloc_unbound
        argument[1] = allocate_port();
        return argument[1] ? 0 : -28;
    case 3: return 0; // close
    case 4: // send
        if (argument[0] < 64 && (self_ports & 1ull << argument[0])) set_port_pending(argument[0]);
        else if (argument[0] == params.console_port) exit_to_vmm(EXIT_CONSOLE_RING, 0, 0, 0);
        return 0;
    case 5: // status: an interdomain channel, bound
        argument[2] = 2;
        return 0;
    case 8: return 0; // bind_vcpu
    case 9: { // unmask
        u32 port = argument[0];
        if (port >= 4096) return -EINVAL;
        volatile u64 *shared = shared_info();
        __asm__ volatile("andq %1, %0" : "+m"(shared[SHARED_MASK / 8 + port / 64]) : "r"(~(1ull << (port % 64))) : "memory");
        if (shared[SHARED_PENDING / 8 + port / 64] & 1ull << (port % 64)) set_port_pending(port);
        return 0;
    }
    default: return -ENOSYS; // FIFO set-up among them: the two-level ABI is used
    }
}

static u64 now_ns(void) {
    volatile struct time_info *time = &params.time;
    u64 delta = rdtsc() - time->tsc_timestamp;
    if (time->shift >= 0) delta <<= time->shift;
    else delta >>= -time->shift;
    return time->system_time + (u64)(((__uint128_t)delta * time->mul) >> 32);
}

static void write_timer(u32 count) { *(volatile u32 *)(SHIM_BASE + LAPIC_OFFSET + LAPIC_TMICT) = count; }

void set_timer(u64 deadline_ns) {
    if (!deadline_ns) {
        write_timer(0);
        return;
    }
    u64 now = now_ns();
    u64 wait = deadline_ns > now ? deadline_ns - now : 0;
    if (wait < TIMER_NS_MIN) wait = TIMER_NS_MIN;
    if (wait > TIMER_NS_MAX) wait = TIMER_NS_MAX;
    write_timer((u32)wait);
}

static void copy_time(u64 target) {
    struct time_info *time = (void *)target;
    *time = *(struct time_info *)&params.time;
}

static long register_vcpu_info(const u64 *argument) {
    u64 address = (argument[0] << 12) + (u32)argument[1];
    u8 *area = physical(address);
    copy_bytes(area, (void *)vcpu_info(), 64);
    params.vcpu_info_gpa = address;
    cpu.vcpu_info = (u64)area;
    area[VCPU_PENDING] = 1; // as Xen does: whatever was pending is looked at again
    *(u64 *)(area + VCPU_PENDING_SEL) = ~0ull;
    return 0;
}

static long register_time_area(u64 address) {
    if (!address) {
        params.time_area_gpa = 0;
        return 0;
    }
    u64 physical_address = guest_physical(address);
    if (physical_address == ~0ull) return -EINVAL;
    params.time_area_gpa = physical_address;
    copy_time(address);
    return 0;
}

long vcpu_op(u64 command, u64 id, u64 *argument) {
    switch (command) {
    case 3: return id == 0 ? 1 : -ENOENT; // is_up
    case 5: return 0; // register_runstate_memory_area: never stolen from here
    case 7: return 0; // stop_periodic_timer
    case 8: set_timer(argument[0]); return 0; // set_singleshot_timer
    case 9: set_timer(0); return 0;
    case 10: return id == 0 ? register_vcpu_info(argument) : -ENOENT;
    case 13: return register_time_area(argument[0]);
    default: return -ENOSYS;
    }
}
