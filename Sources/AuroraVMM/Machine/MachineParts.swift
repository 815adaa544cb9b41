internal import CLinux
import Linux

/// The parts of a machine before anything is loaded into them, at rest; booting and restoring begin with the same ones.
struct MachineParts {
    let mode: GuestMode
    let console: ConsoleLog
    let platform: any Platform & Sendable
    let virtualMachine: VirtualMachine
    let memory: GuestMemory
    let devices: DeviceBoard
    let cpu: VirtualCPU
    let tracker: DirtyTracker
    let shadowPages: ShadowPages
    /// See `MachineConfiguration`.
    let restSecondsMax: Int

    /// Makes the parts.
    ///
    /// - Parameters:
    ///   - contents: mappings to use as the guest's memory, in the order of the platform's regions; nil: new memory.
    ///   - lazy: fetches the pages of `contents` that are not there yet; nil: all are.
    /// - Throws: `MachineError` saying what is missing or wrong.
    init(_ configuration: MachineConfiguration, mode: GuestMode, system: KVMSystem, memory contents: [Mapping]?, lazy: LazyMemory? = nil)
        throws(MachineError)
    {
        self.mode = mode
        restSecondsMax = configuration.restSecondsMax
        console = ConsoleLog(sink: configuration.consoleLog)
        platform = try MachineParts.makePlatform(mode, configuration, console: console)
        virtualMachine = try system.createVirtualMachine()
        let regions: [GuestMemory.Region]
        if let contents {
            let starts = platform.memoryStarts
            guard contents.count == starts.count else { throw .state("a machine of \(mode) mode has \(starts.count) memory regions") }
            regions = zip(starts, contents).map { GuestMemory.Region(start: $0, mapping: $1) }
            try platform.adopt(regions)
        } else {
            regions = try platform.memoryRegions
        }
        memory = GuestMemory(regions: regions, lazy: lazy)
        if contents != nil { memory.markBacked(pages: 0..<memory.pageCount) }
        // With the ring chosen first, KVM makes no bitmaps for the slots.
        tracker = try DirtyTracker(
            virtualMachine, memory: memory, isTracking: configuration.tracksWrites, ringEntries: configuration.dirtyRingEntries)
        // Memory slots come before the interrupt controller: each one afterwards waits 7.5 ms for a grace period.
        for (index, region) in memory.regions.enumerated() {
            try virtualMachine.setMemory(
                slot: UInt32(index), at: region.start, host: region.mapping.base, count: region.count,
                flags: configuration.tracksWrites ? DirtyTracker.slotFlags : 0)
        }
        devices = try DeviceBoard(configuration, memory: memory, platform: platform, console: console)
        try devices.placeRegisters(in: virtualMachine, slot: UInt32(memory.regions.count))
        shadowPages = try ShadowPages(
            virtualMachine, slot: UInt32(memory.regions.count) + 1,
            at: GuestAddress(platform.deviceAddress.rawValue + UInt64(platform.devicesMax * pageBytes)))
        try virtualMachine.createInterruptController()
        try platform.prepareProcessors(of: virtualMachine)
        cpu = try virtualMachine.createVirtualCPU(0)
        try tracker.attach(cpu)
        try platform.routeInterrupts(of: virtualMachine, devices: devices.addresses.count)
        try devices.connect(to: virtualMachine)
    }

    private static func makePlatform(
        _ mode: GuestMode, _ configuration: MachineConfiguration, console: ConsoleLog
    ) throws(MachineError) -> any Platform & Sendable {
        switch mode {
        case .pv: try PVPlatform(memoryBytes: configuration.memoryBytes, console: console, isStrict: configuration.isStrict)
        case .hvm: HVMPlatform(memoryBytes: configuration.memoryBytes, console: console)
        }
    }
}
