internal import CLinux
import Linux

/// What a saved state is loaded into: the parts of a new machine, or of a paused one.
struct StateTarget {
    let mode: GuestMode
    let virtualMachine: VirtualMachine
    let cpu: VirtualCPU
    let platform: any Platform & Sendable
    let memory: GuestMemory
    let devices: DeviceBoard

    /// Refuses a state that was taken on a processor with more abilities than this host's.
    ///
    /// - Throws: `MachineError.state` naming what is missing.
    func check(_ state: MachineState) throws(MachineError) {
        let offered = CPUFeatures.visible(in: state.mode, table: try hostTable(state.mode))
        let missing = state.features.missing(from: offered)
        guard missing.isEmpty else {
            throw .state(
                "this host's processor lacks \(missing.joined(separator: ", ")), which the guest may be using; use a host like its own"
            )
        }
        guard state.mode == mode else { throw .state("it is the state of a guest in \(state.mode) mode, this machine's is \(mode)") }
        let extents = memory.regions.map { MemoryExtent(start: $0.start, count: $0.count) }
        guard extents == state.memory else { throw .state("its memory is laid out in a way that this machine's is not") }
    }

    /// Loads everything but memory.
    ///
    /// vCPU and devices are at rest.
    ///
    /// - Throws: `MachineError.state`; the parts are then not fit to run.
    func load(_ state: MachineState) throws(MachineError) {
        try virtualMachine.load(state.interrupts, mayLack: state.mode == .pv)
        try cpu.load(state.vcpu, keepsTimeStampCounter: state.mode == .hvm)
        try platform.load(state.platform, machine: virtualMachine, memory: memory, cpu: cpu)
        try devices.load(state.devices)
    }

    private func hostTable(_ mode: GuestMode) throws(MachineError) -> CPUIDTable {
        mode == .pv ? CPUIDTable(capacity: 0) : ProcessorFeatures.table(from: try virtualMachine.system.supportedCPUID())
    }
}
