internal import CLinux
public import Linux

extension Machine {
    /// See `RestingMachine.save()`.
    func save() throws(MachineError) -> MachineState {
        guard isPaused else { throw .configuration("only a machine at rest can be saved") }
        try memory.checkWhole()
        let cpu = try runner.cpu.save()
        let interrupts = mode == .pv ? InterruptState(chips: []) : try virtualMachine.saveInterrupts()
        return MachineState(
            mode: mode, memory: memory.regions.map { MemoryExtent(start: $0.start, count: $0.count) },
            features: CPUFeatures.visible(in: mode, table: runner.cpu.cpuid), vcpu: cpu,
            interrupts: interrupts, platform: try platform.save(virtualMachine), devices: devices.save())
    }

    /// Makes a machine that goes on where another was saved; it rests until `start()`.
    ///
    /// The configuration names the host's side (disks, network, sockets, console); its kernel, memory size and mode are not
    /// looked at. Disks must hold what they held when the state was taken.
    ///
    /// - Parameters:
    ///   - state: what `save()` answered, on this or another host.
    ///   - memory: the contents of each of `state.memory`, in order; private mappings, which the guest will write.
    /// - Throws: `MachineError.state` saying what does not fit this host, this program, or this configuration.
    public convenience init(
        _ configuration: MachineConfiguration, restoring state: MachineState, memory: [Mapping]
    ) throws(MachineError) {
        try state.check(memory: memory)
        let system = try KVMSystem()
        let parts = try MachineParts(configuration, system: system, state: state, memory: memory)
        try parts.load(state)
        try self.init(parts)
    }
}

extension MachineParts {
    /// The parts of a machine that a saved state will be loaded into.
    init(
        _ configuration: MachineConfiguration, system: KVMSystem, state: MachineState, memory: [Mapping], lazy: LazyMemory? = nil
    ) throws(MachineError) {
        var configuration = configuration
        configuration.memoryBytes = state.memoryBytes
        try self.init(configuration, mode: state.mode, system: system, memory: memory, lazy: lazy)
    }

    /// Loads everything but memory.
    ///
    /// vCPU and devices are at rest.
    func load(_ state: MachineState) throws(MachineError) {
        let target = StateTarget(
            mode: mode, virtualMachine: virtualMachine, cpu: cpu, platform: platform, memory: memory, devices: devices)
        try target.check(state)
        try target.load(state)
    }
}

extension MachineState {
    /// More regions than any guest mode uses.
    private static let regionsMax = 8

    /// Bytes of ordinary memory: in pv mode the shim's slot is apart.
    var memoryBytes: Int { memory.filter { mode == .hvm || $0.start.rawValue == 0 }.reduce(0) { $0 &+ $1.count } }

    /// Refuses a layout of memory that no machine has.
    ///
    /// - Throws: `MachineError.state`.
    func checkMemory() throws(MachineError) {
        try checkLayout()
        guard memoryBytes >= MachineConfiguration.memoryBytesMin, memoryBytes % MachineConfiguration.memoryAlignment == 0 else {
            throw .state("its memory has \(memoryBytes) bytes")
        }
    }

    private func checkLayout() throws(MachineError) {
        guard version == MachineState.currentVersion else {
            throw .state("version \(version) is unknown, this program writes version \(MachineState.currentVersion)")
        }
        guard memory.count <= MachineState.regionsMax, memory.allSatisfy({ $0.count > 0 && $0.count % pageBytes == 0 }) else {
            throw .state("its memory layout is malformed")
        }
    }

    func check(memory mappings: [Mapping]) throws(MachineError) {
        try checkLayout()
        guard memory.count == mappings.count else { throw .state("it has \(memory.count) memory regions, \(mappings.count) were given") }
        for (extent, mapping) in zip(memory, mappings) where mapping.count != extent.count {
            throw .state("memory at \(extent.start) has \(mapping.count) bytes instead of \(extent.count)")
        }
        try checkMemory()
    }
}

extension DeviceBoard {
    /// The state of every device, in the order of their windows.
    ///
    /// The board is at rest.
    func save() -> [VirtioDeviceState] { slots.map { $0.window.save() } }

    /// Gives every device its saved state and makes up for what was under way.
    ///
    /// The board is at rest.
    ///
    /// - Throws: `MachineError.state` naming the device.
    func load(_ states: [VirtioDeviceState]) throws(MachineError) {
        guard states.count == slots.count else {
            throw .state(
                "it has \(states.count) devices, the configuration has \(slots.count); give as many disks, and a network if it had one")
        }
        for (index, (slot, state)) in zip(slots, states).enumerated() {
            do throws(DeviceStateError) {
                try slot.window.load(state)
            } catch {
                throw .state("device \(index): \(error)")
            }
        }
        for slot in slots { slot.window.kick() }
    }
}
