internal import CLinux
import Linux

extension HVMPlatform {
    /// Memory is adopted by the machine; the platform keeps none.
    func adopt(_ regions: [GuestMemory.Region]) throws(MachineError) {}

    func save(_ machine: VirtualMachine) throws(MachineError) -> PlatformState {
        var clock = kvm_clock_data()
        try machine.control("read the clock of", CKVM_GET_CLOCK, &clock)
        return .hvm(HVMState(clock: clock.clock, savedAt: clinux_clock_ns(CLOCK_REALTIME), serialLineControl: serial.lineControl))
    }

    /// kvmclock goes on from the saved time, whatever the host's clocks say.
    func load(_ state: PlatformState, machine: VirtualMachine, memory: GuestMemory, cpu: VirtualCPU) throws(MachineError) {
        guard case .hvm(let state) = state else { throw .state("it is not the state of an hvm guest") }
        var clock = kvm_clock_data()
        clock.clock = state.clock
        do throws(MachineError) {
            try machine.control("write the clock of", CKVM_SET_CLOCK, &clock)
        } catch { throw .state("\(error)") }
        serial.lineControl = state.serialLineControl
        try RestoreAnnouncement.write(to: HVMLayout.generation, in: memory, savedAt: state.savedAt)
        try machine.pulse(interrupt: HVMLayout.restoreInterrupt)
    }
}
