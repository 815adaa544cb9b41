import AgentClient
import AgentProtocol
import ArgumentParser
import CLinux
import FoundationEssentials
import Functions
import Groups
import Linux
import Snapshot

/// Many clones of one checkpoint alive at once: what they cost, and whether any two of them share what must differ.
struct LaunchClonesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "clones", abstract: "Keep many instances alive at once, and tell what they cost; JSON on standard output.")

    @Option(help: "The stream of the runtime's checkpoint.") var runtime: String
    @Option(help: "The stream of the function's checkpoint; absent: the runtime itself.") var function: String?
    @Option(help: "How many instances.") var count = 16
    @Flag(help: "Compares random numbers, identities, TCP sequence numbers and clocks, which the agent tells.") var check = false

    private struct Figures: Encodable {
        var clones = 0
        var startSeconds = 0.0
        var endSeconds = 0.0
        var memoryKiBEach = 0.0
        var privateKiBMedian = 0
        var privateKiBMax = 0
        var threadsEach = 0.0
        var descriptorsEach = 0.0
        var processesLeft = 0
        var uniqueness: CloneIdentities.Figures?
    }

    func run() throws {
        let data = CommandContext.data
        let source = try LaunchSource(try StoreAccess.open(data.storePath), data)
        let images = try source.images(runtime: runtime, function: function)
        _ = clinux_descriptor_limit_raise()
        let host = try InstanceHostLink(launchPath: data.launchPath, base: images.runtime.manifest.digest)
        try InstanceWaiting.expect(host.socket, .ready)
        try host.socket.send(InstanceHostRequest(preparing: images.function.manifest.digest))
        var figures = Figures()
        let before = HostFigures.availableKiB()
        let began = clinux_clock_ns(CLOCK_MONOTONIC)
        var machines: [MachineLink] = []
        for number in 0..<count {
            let machine = try host.makeMachine("m\(number)")
            _ = try InstanceWaiting.next(machine.control, .ready)
            try machine.control.send(InstanceRequest(.restore, launch: images.function.manifest.digest, port: agentPort))
            _ = try InstanceWaiting.next(machine.control, .running)
            machines.append(machine)
            InstanceWaiting.discard(host.socket)
            if check { continue }
            // A moment in which the clone shows signs of life; then it stands still, as between requests.
            usleep(20_000)
            try machine.control.send(InstanceRequest(.pause))
            _ = try InstanceWaiting.next(machine.control, .paused)
        }
        figures.clones = machines.count
        figures.startSeconds = Double(clinux_clock_ns(CLOCK_MONOTONIC) - began) / 1e9
        if check { figures.uniqueness = try CloneIdentities.compare(machines.map(\.channel)) }
        let processes = HostFigures.children(of: host.process)
        figures.memoryKiBEach = Double(before - HostFigures.availableKiB()) / Double(max(1, count))
        let memory = processes.compactMap { PrivateMemory.bytes("\($0)") }.sorted()
        figures.privateKiBMedian = (memory.isEmpty ? 0 : memory[memory.count / 2]) / 1024
        figures.privateKiBMax = (memory.last ?? 0) / 1024
        figures.threadsEach = Double(processes.reduce(0) { $0 + HostFigures.entries("/proc/\($1)/task") }) / Double(max(1, processes.count))
        figures.descriptorsEach =
            Double(processes.reduce(0) { $0 + HostFigures.entries("/proc/\($1)/fd") }) / Double(max(1, processes.count))
        let ending = clinux_clock_ns(CLOCK_MONOTONIC)
        machines = []
        let deadline = ending + 60_000_000_000
        while !HostFigures.children(of: host.process).isEmpty, clinux_clock_ns(CLOCK_MONOTONIC) < deadline {
            InstanceWaiting.discard(host.socket)
            usleep(10_000)
        }
        figures.endSeconds = Double(clinux_clock_ns(CLOCK_MONOTONIC) - ending) / 1e9
        figures.processesLeft = HostFigures.children(of: host.process).count
        print(try CommandContext.json(figures))
        if let uniqueness = figures.uniqueness, !uniqueness.allDiffer { throw ExitCode(ExitCodes.failure) }
    }

    private var agentPort: UInt32 { 1024 }
}

/// What the kernel tells of processes and memory.
enum HostFigures {
    /// `MemAvailable` of /proc/meminfo.
    static func availableKiB() -> Int {
        guard let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8) else { return 0 }
        let line = text.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        return line.flatMap { Int($0.split(separator: " ")[1]) } ?? 0
    }

    /// Names in a directory.
    static func entries(_ path: String) -> Int { (try? FileManager.default.contentsOfDirectory(atPath: path).count) ?? 0 }

    /// The processes that a process with one thread has started and not yet reaped.
    static func children(of process: Int32) -> [Int32] {
        let text = (try? String(contentsOfFile: "/proc/\(process)/task/\(process)/children", encoding: .utf8)) ?? ""
        return text.split(separator: " ").compactMap { Int32($0) }
    }
}
