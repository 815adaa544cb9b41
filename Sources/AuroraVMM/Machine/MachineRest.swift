import Linux
import Synchronization

/// Keeps a machine from running, and is the one place where it is stopped and let go.
///
/// A machine rests while somebody has paused it, or holds it (`RestingMachine`), whichever threads ask in whichever order.
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

/// A machine that does not run as long as this value lives, whoever pauses and resumes it meanwhile.
public struct RestingMachine: ~Copyable, Sendable {
    private let machine: Machine

    init(_ machine: Machine) throws(MachineError) {
        try machine.rest.hold()
        self.machine = machine
    }

    deinit { machine.rest.release() }

    /// Takes the state: see `Machine.save()`.
    ///
    /// - Throws: `MachineError`.
    public borrowing func save() throws(MachineError) -> MachineState { try machine.save() }

    /// Lets the machine go on, if nobody else keeps it at rest.
    public consuming func resume() {}
}
