import AgentProtocol
import AuroraVMM
import CLinux
import Functions
import Linux
import Snapshot
import Synchronization

/// A machine made ahead for a runtime, and the function that is restored into it.
final class Instance: Sendable {
    private let runtime: InstanceRuntime
    private let memory: LaunchMemory
    private let disk: LaunchDisk
    private let output = OutputWatch()
    /// The machine.
    let machine: Machine

    /// When the guest's console printed first; zero: not yet.
    var firstOutput: Int64 { output.first }

    /// Makes the machine; nothing of a function is known yet.
    init(_ runtime: InstanceRuntime) throws {
        self.runtime = runtime
        memory = try LaunchMemory(runtime.image, state: runtime.state)
        let directory = runtime.launchPath
        disk = try LaunchDisk(runtime.image) { () throws(SystemError) in try ScratchFile(in: directory) }
        let output = output
        machine = try Machine(runtime.configuration(disk, console: { _ in output.note() }), aheadOf: runtime.state, memory: memory.mappings)
    }

    /// Restores a function and lets it run.
    ///
    /// - Throws: what failed; the machine is of no use then.
    func restore(_ digest: String, channel: consuming OwnedDescriptor?, received: Int64) throws -> LaunchTimes {
        var times = LaunchTimes()
        times.received = received
        var clock = received
        func lap() -> Int64 {
            let now = clinux_clock_ns(CLOCK_MONOTONIC)
            defer { clock = now }
            return now - clock
        }
        let state: MachineState
        if digest == runtime.image.manifest.digest {
            state = runtime.state
            times.open = lap()
        } else {
            let launch = try runtime.launch(digest)
            state = launch.state
            times.open = lap()
            try memory.bind(launch.image)
            try disk.bind(launch.image)
            times.map = lap()
        }
        times.populate = lap()
        try machine.begin(state)
        times.state = lap()
        if let channel { try machine.lead(channel, toVsock: InstanceProcess.functionPort) }
        output.begin()
        machine.resume()
        times.resume = lap()
        return times
    }
}

/// Notes when a guest printed first.
final class OutputWatch: Sendable {
    private let time = Atomic<Int64>(-1)

    /// From now on output counts.
    func begin() { time.store(0, ordering: .releasing) }

    /// Something was printed.
    func note() {
        if time.load(ordering: .relaxed) == 0 { time.store(clinux_clock_ns(CLOCK_MONOTONIC), ordering: .releasing) }
    }

    /// When it printed first; zero: not yet.
    var first: Int64 { max(0, time.load(ordering: .acquiring)) }
}
