internal import CLinux
import Linux
import Synchronization

/// Keeps a machine from running, and is the one place where it is stopped and let go.
///
/// A machine rests until it is started, and while somebody holds it (`RestingMachine`), whichever threads ask in whichever order.
final class MachineRest: Sendable {
    private struct Owners {
        /// A machine is made paused.
        var isPaused = true
        var holders = 0
        /// Nobody lets it run any more.
        var isOver = false
        var wantsRest: Bool { isPaused || holders > 0 }
    }

    private let owners = Mutex(Owners())
    private let resting = Atomic(true)
    /// Whether memory was replaced in part only, so that nothing of the guest may run.
    let hasMixedMemory = Atomic(false)
    private let runner: VCPURunner
    private let devices: DeviceBoard
    private let secondsMax: Int

    /// Takes over a parked vCPU and devices at rest.
    ///
    /// - Parameter secondsMax: how long vCPU and devices may take to come to rest, each.
    init(_ runner: VCPURunner, _ devices: DeviceBoard, secondsMax: Int) {
        self.runner = runner
        self.devices = devices
        self.secondsMax = secondsMax
    }

    /// Whether nothing changes the guest.
    var isResting: Bool { resting.load(ordering: .acquiring) && runner.isParked }

    /// Pauses; idempotent.
    ///
    /// - Throws: `MachineError.guest` when the machine does not come to rest, for the first caller.
    func pause() throws(MachineError) {
        try owners.withLock { (owners: inout Owners) throws(MachineError) in try change(&owners) { $0.isPaused = true } }
    }

    /// Takes `pause` back; idempotent.
    func resume() { letGo { $0.isPaused = false } }

    /// Keeps the machine at rest until `release()`.
    ///
    /// - Throws: `MachineError.guest` when it does not come to rest, `MachineError.configuration` when it has ended.
    func hold() throws(MachineError) {
        try owners.withLock { (owners: inout Owners) throws(MachineError) in
            if owners.isOver { throw .configuration("the machine has ended") }
            try change(&owners) { $0.holders += 1 }
        }
    }

    func release() { letGo { $0.holders -= 1 } }

    private func letGo(_ body: (inout Owners) -> Void) {
        // Only coming to rest can fail.
        owners.withLock { owners in try? change(&owners, body) }
    }

    private func change(_ owners: inout Owners, _ body: (inout Owners) -> Void) throws(MachineError) {
        let rested = owners.wantsRest
        body(&owners)
        guard !owners.isOver, owners.wantsRest != rested else { return }
        if rested {
            if hasMixedMemory.load(ordering: .acquiring) {
                // Devices stay closed, and the vCPU ends instead of going on.
                runner.condemn("The rollback failed: memory is of two moments")
                return runner.resume()
            }
            resting.store(false, ordering: .releasing)
            devices.resume()
            runner.resume()
        } else {
            do throws(MachineError) { try bringToRest() } catch {
                // What does not come to rest now will not be waited for again.
                owners.isOver = true
                throw error
            }
        }
    }

    /// Devices first: the guest runs on while their handlers finish, and what they have not begun stays in the rings.
    private func bringToRest() throws(MachineError) {
        try devices.quiesce(seconds: secondsMax)
        guard runner.pause(seconds: secondsMax) else {
            devices.resume()
            throw .guest("its vCPU has not left the guest for \(secondsMax) s")
        }
        resting.store(true, ordering: .releasing)
    }

    /// Ends vCPU and devices, once they do not change hands any more.
    ///
    /// - Throws: `MachineError.guest` naming what does not end in time; it lives on until the process ends.
    func end(seconds limit: Int) throws(MachineError) {
        try owners.withLock { (owners: inout Owners) throws(MachineError) in
            // Who was waited for in vain is not waited for again.
            let seconds = owners.isOver ? 0 : min(limit, secondsMax)
            owners.isOver = true
            // A handler that holds a device may keep the vCPU waiting.
            var stuck = devices.stop(seconds: seconds)
            if !runner.stop(seconds: stuck.isEmpty ? seconds : 0) { stuck.append("vcpu 0") }
            guard stuck.isEmpty else {
                throw .guest("it does not end: thread \(stuck.joined(separator: ", ")) has not come back for \(seconds) s")
            }
        }
    }
}

/// A machine that does not run as long as this value lives, whoever else keeps it at rest and lets it go meanwhile.
///
/// What may be done to a machine at rest only is done by this value.
public struct RestingMachine: ~Copyable, Sendable {
    private let machine: Machine

    init(_ machine: Machine) throws(MachineError) {
        try machine.keeper.hold()
        self.machine = machine
    }

    deinit { machine.keeper.release() }

    /// Takes the state: a few hundred microseconds of plain reads.
    ///
    /// - Throws: `MachineError.configuration` when the machine is being stopped, `MachineError.system` for what KVM refuses.
    public borrowing func save() throws(MachineError) -> MachineState { try machine.save() }

    /// Puts the machine back to where it was saved, at a cost by the pages that differ.
    ///
    /// Processor, interrupts, timers and devices are as after a restore: the guest's clock goes on from the saved time, and
    /// connections of the host to the guest (vsock, and so the agent, attached terminals and published ports) are reset.
    /// Disks must hold what they held then. Replaced pages count as written, whoever tracks writes.
    ///
    /// - Parameters:
    ///   - state: what `save()` of this machine, or of one it was restored from, answered.
    ///   - pages: every page whose contents may differ from the saved ones, numbered as `PageSource` does, best in rising order.
    ///   - source: the saved contents.
    /// - Throws: see `Machine.load`.
    public borrowing func load(
        _ state: MachineState, replacing pages: some Sequence<Int>, from source: any PageSource
    ) throws(MachineError) { try machine.load(state, replacing: pages, from: source) }

    /// Loads a state into a machine that was made ahead and has never run; it goes on from there at `start()`.
    ///
    /// Nothing of the guest's memory is known to KVM yet, so that whatever was mapped meanwhile is what the guest sees.
    ///
    /// - Throws: `MachineError.state` saying what does not fit; the machine can only be stopped then.
    public borrowing func begin(_ state: MachineState) throws(MachineError) { try machine.begin(state) }

    /// Has KVM know the pages that a start uses before the guest runs; the guest notices nothing of it.
    ///
    /// - Parameters:
    ///   - state: what `begin` will load; the guest's memory is that of this state already.
    ///   - roots: guest-physical addresses of the guest's top page tables.
    ///   - uses: of each page of memory: 0 when it is not used, 1 when it is read, 2 when it is written.
    /// - Returns: how many addresses were touched.
    /// - Throws: `MachineError` saying why not all of them were touched; the machine can begin all the same.
    public borrowing func touchAhead(_ state: MachineState, roots: [UInt64], uses: [UInt8]) throws(MachineError) -> Int {
        try machine.touchAhead(state, roots: roots, uses: uses)
    }

    /// Where the vCPU is: for a sampling profiler of the guest.
    ///
    /// - Throws: `MachineError`.
    public borrowing func instructionPointer() throws(MachineError) -> UInt64 {
        try machine.runner.cpu.get(CKVM_GET_REGS, kvm_regs(), "registers").rip
    }

    /// Saves the machine into an existing directory: for tests, debugging and benchmarks.
    ///
    /// - Throws: `MachineError` for a directory that cannot be written.
    public borrowing func save(into directory: String) throws(MachineError) -> SavedMachine { try SavedMachine(machine, in: directory) }

    /// Lets the machine go on, if nobody else keeps it at rest.
    public consuming func resume() {}
}
