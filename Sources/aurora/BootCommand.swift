public import ArgumentParser
public import AuroraVMM
import CLinux
import Linux

/// Boots a kernel without a group, its console on the terminal: for those who work on the machine itself.
struct BootCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "boot", abstract: "Boot a kernel with its console on standard output.", shouldDisplay: false)

    @Option(help: "The kernel, an ELF vmlinux.") var kernel: String
    @Option(help: "A directory with kernel modules.") var modules: String?
    @Option(help: "MiB of memory.") var memory = 256
    @Option(help: "A disk image; writes go to it.") var disk: [String] = []
    @Option(help: "pv or hvm.") var mode: GuestMode?
    @Flag(help: "Keeps programs apart from their kernel in pv mode.") var strict = false
    @Option(help: "A Unix socket that leads to the guest's vsock ports.") var vsock: String?
    @Option(help: "Samples the guest's instruction pointer every millisecond into this file.") var profile: String?
    @Argument(help: "Words for the kernel's command line.") var words: [String] = []

    func run() throws {
        var configuration = MachineConfiguration(memoryBytes: memory << 20, kernelPath: kernel)
        configuration.modulesDirectory = modules
        configuration.commandLine = words
        configuration.mode = mode
        configuration.isStrict = strict
        configuration.blockDevices = disk.map { BlockDeviceConfiguration(path: $0) }
        configuration.vsockSocketPath = vsock
        configuration.consoleLog = { _ = clinux_write(STDOUT_FILENO, $0.baseAddress, $0.count) }
        let start = clinux_clock_ns(CLOCK_MONOTONIC)
        let machine = try Machine(configuration)
        note("made in \(milliseconds(since: start)) ms")
        machine.start()
        let sampler = try profile.map { path in try Thread(name: "sampler") { @Sendable in sample(machine, path) } }
        Task { await reportAgent(machine, start) }
        while machine.end == nil { usleep(10_000) }
        sampler?.join()
        note("ended: \(machine.end.map { "\($0)" } ?? "?") after \(milliseconds(since: start)) ms")
    }
}

extension GuestMode: ExpressibleByArgument {}

/// Milliseconds since a time of the monotonic clock in nanoseconds.
private func milliseconds(since start: Int64) -> Double { Double(clinux_clock_ns(CLOCK_MONOTONIC) - start) / 1e6 }

/// Writes one instruction pointer a line until the machine ends.
@Sendable private func sample(_ machine: Machine, _ path: String) {
    guard let file = try? OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644) else { return }
    while machine.end == nil, let address = instructionPointer(machine) {
        write(String(address, radix: 16) + "\n", to: file.rawValue)
        usleep(1000)
    }
}

/// Where the guest is; it rests for some microseconds.
@Sendable private func instructionPointer(_ machine: Machine) -> UInt64? {
    guard let resting = try? machine.rest() else { return nil }
    return try? resting.instructionPointer()
}

/// Writes a line at once, between the guest's own.
private func note(_ line: String) { write(line + "\n", to: STDOUT_FILENO) }

private func write(_ text: String, to descriptor: Int32) {
    let bytes = Array(text.utf8)
    _ = clinux_write(descriptor, bytes, bytes.count)
}

/// Says when the agent takes its first connection.
@Sendable private func reportAgent(_ machine: Machine, _ start: Int64) async {
    while machine.end == nil {
        if let agent = try? await machine.connectVsock(port: 1024) {
            note("agent accepts after \(milliseconds(since: start)) ms, descriptor \(agent.rawValue)")
            return
        }
        usleep(2000)
    }
}
