internal import CLinux
public import Linux

extension Machine {
    /// Makes a machine ahead: everything but the state, which `begin` loads.
    ///
    /// - Parameters:
    ///   - layout: a state of the same mode and memory as the one that will be loaded; its CPUID table is set ahead.
    ///   - memory: the contents of each of `layout.memory`, in order; private mappings, whose pages may be replaced until `begin`.
    /// - Throws: `MachineError` saying what does not fit.
    public convenience init(
        _ configuration: MachineConfiguration, aheadOf layout: MachineState, memory: [Mapping]
    ) throws(MachineError) {
        try layout.check(memory: memory)
        let parts = try MachineParts(configuration, system: try KVMSystem(), state: layout, memory: memory)
        try parts.check(layout)
        if let table = CPUIDTable(layout.vcpu.cpuid.bytes), table.bytes != parts.cpu.cpuid.bytes { try parts.cpu.setCPUID(table) }
        try self.init(parts)
    }

    /// See `RestingMachine.begin(_:)`.
    func begin(_ state: MachineState) throws(MachineError) {
        guard isPaused, end == nil, runningSince == 0 else { throw .configuration("only a machine that has never run can begin") }
        try state.checkMemory()
        let target = StateTarget(
            mode: mode, virtualMachine: virtualMachine, cpu: runner.cpu, platform: platform, memory: memory, devices: devices)
        do throws(MachineError) {
            try target.check(state)
            try target.load(state)
        } catch {
            runner.condemn("The restore failed: \(error)")
            throw error
        }
    }

    /// Has one observer called when the guest has ended or `stop()` was called, on the thread that knows it first.
    public func whenEnded(_ observer: @escaping @Sendable (MachineEnd) -> Void) { ending.observe(observer) }

    /// Leads a stream socket to a vsock port of the guest, at once or as soon as the guest can be asked.
    ///
    /// - Parameter socket: one end of a pair; it is closed when nobody listens in the guest, or the connection ends.
    /// - Throws: `VsockError` when the guest has no driver, or too many connections.
    public func lead(_ socket: consuming OwnedDescriptor, toVsock port: UInt32) throws(VsockError) {
        guard let vsock = devices.vsock else { throw .notReady }
        try vsock.lead(socket.release(), to: port)
    }
}

extension MachineParts {
    /// Refuses a state that these parts cannot be given.
    func check(_ state: MachineState) throws(MachineError) {
        try StateTarget(
            mode: mode, virtualMachine: virtualMachine, cpu: cpu, platform: platform, memory: memory, devices: devices
        ).check(state)
    }
}
