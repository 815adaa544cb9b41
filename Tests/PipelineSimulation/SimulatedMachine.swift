import Linux

@testable import AuroraVMM
@testable import Snapshot

/// A machine without a processor: pages that a guest writes, a record of what it wrote, and a rest.
///
/// A page's contents are a stamp, at three places of it; zero stands for a page of zeros.
///
/// `@unchecked Sendable`: a simulation has one thread.
final class SimulatedMachine: CheckpointableMachine, @unchecked Sendable {
    static let pages = 640
    private static let recordMax = 200

    let memory: GuestMemory
    private let base: UnsafeMutableRawPointer
    /// What each page holds.
    private(set) var stamps = [UInt64](repeating: 0, count: SimulatedMachine.pages)
    private(set) var tracksWrites = false
    private(set) var end: MachineEnd?
    private(set) var holders = 0
    private(set) var runningSince: Int64 = 0
    /// Counts what the guest does, and is its state.
    private(set) var ticks: UInt64 = 0
    /// Pages that the guest has written and nobody has harvested.
    private var record: [Int] = []
    /// How often saving fails from now on: at the next but so many; nil: never.
    var failsToSaveAfter: Int?

    /// Lets something else happen, at a place where a real machine takes its time.
    var meanwhile: () -> Void = {}
    var clock: () -> Int64 = { 0 }

    init() throws {
        let mapping = try Mapping.anonymous(count: SimulatedMachine.pages * pageBytes, what: "a simulated guest's memory")
        base = mapping.base
        memory = GuestMemory(regions: [GuestMemory.Region(start: GuestAddress(0), mapping: mapping)])
    }

    var isPaused: Bool { holders > 0 }
    var isRunning: Bool { !isPaused && end == nil }

    // MARK: - The guest

    func write(page: Int, stamp: UInt64, byDevice: Bool) {
        precondition(isRunning, "a guest writes while it stands still")
        ticks += 1
        stamps[page] = stamp
        for offset in SimulatedMachine.offsets { (base + page * pageBytes).storeBytes(of: stamp, toByteOffset: offset, as: UInt64.self) }
        if byDevice { memory.markDirty(page: page) } else if tracksWrites { record.append(page) }
    }

    static let offsets = [0, pageBytes / 2, pageBytes - 8]

    /// The stamp of a page's bytes; nil when it holds parts of several.
    static func stamp(_ bytes: UnsafeRawBufferPointer) -> UInt64? {
        let first = bytes.load(fromByteOffset: 0, as: UInt64.self)
        return offsets.allSatisfy { bytes.load(fromByteOffset: $0, as: UInt64.self) == first } ? first : nil
    }

    func end(_ how: MachineEnd) { if end == nil { end = how } }

    // MARK: - What a pipeline asks for

    func setTracksWrites(_ isOn: Bool) { tracksWrites = isOn }

    func harvestDirtyPages() throws(MachineError) -> Int {
        let count = record.count
        for page in record { memory.markDirty(page: page) }
        record = []
        meanwhile()
        return count
    }

    func relieveDirtyRing() throws(MachineError) { if record.count > SimulatedMachine.recordMax { _ = try harvestDirtyPages() } }

    func restForStop() throws(MachineError) -> any CheckpointRest & ~Copyable {
        meanwhile()
        if end == .stopped { throw .configuration("the machine has ended") }
        holders += 1
        meanwhile()
        return SimulatedRest(self)
    }

    fileprivate func letGo() {
        holders -= 1
        if isRunning { runningSince = clock() }
    }

    fileprivate func save() throws(MachineError) -> MachineState {
        if let left = failsToSaveAfter {
            if left <= 0 { throw .guest("its state cannot be taken") }
            failsToSaveAfter = left - 1
        }
        return MachineState(
            mode: .hvm, memory: [MemoryExtent(start: GuestAddress(0), count: memory.regions[0].count)],
            features: CPUFeatures { _, _ in nil },
            vcpu: VCPUState(
                cpuid: SimulatedMachine.nothing, registers: withUnsafeBytes(of: ticks) { KernelBytes(Array($0)) },
                systemRegisters: SimulatedMachine.nothing, extendedControl: SimulatedMachine.nothing,
                extendedRegisters: SimulatedMachine.nothing, debugRegisters: SimulatedMachine.nothing,
                localAPIC: SimulatedMachine.nothing, events: SimulatedMachine.nothing, multiprocessingState: 0,
                modelSpecificRegisters: SimulatedMachine.nothing),
            interrupts: InterruptState(chips: []), platform: .hvm(HVMState(clock: 0, serialLineControl: 0)), devices: [])
    }

    private static let nothing = KernelBytes([])

    /// How far the guest was when a state was taken.
    static func ticks(of state: MachineState) -> UInt64? { state.vcpu.registers.load(0, as: UInt64.self) }

    func start() {}
}

/// The simulated machine at rest.
struct SimulatedRest: CheckpointRest, ~Copyable {
    private let machine: SimulatedMachine

    init(_ machine: SimulatedMachine) { self.machine = machine }
    deinit { machine.letGo() }

    borrowing func save() throws(MachineError) -> MachineState { try machine.save() }
}
