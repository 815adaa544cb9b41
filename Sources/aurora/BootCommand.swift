public import ArgumentParser
public import AuroraVMM
import Foundation
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
    @Option(help: "A Unix socket that leads to the guest's vsock ports.") var vsock: String?
    @Option(help: "Samples the guest's instruction pointer every millisecond into this file.") var profile: String?
    @Argument(help: "Words for the kernel's command line.") var words: [String] = []

    func run() throws {
        var configuration = MachineConfiguration(memoryBytes: memory << 20, kernelPath: kernel)
        configuration.modulesDirectory = modules
        configuration.commandLine = words
        configuration.mode = mode
        configuration.blockDevices = disk.map { BlockDeviceConfiguration(path: $0) }
        configuration.vsockSocketPath = vsock
        configuration.consoleLog = { FileHandle.standardOutput.write(Data($0)) }
        let start = Date()
        let machine = try Machine(configuration)
        note("made in \(Date().timeIntervalSince(start) * 1000) ms")
        machine.resume()
        if let profile { Foundation.Thread.detachNewThread { sample(machine, profile) } }
        Task { await reportAgent(machine, start) }
        while machine.end == nil { usleep(10_000) }
        note("ended: \(machine.end.map { "\($0)" } ?? "?") after \(Date().timeIntervalSince(start)) s")
    }
}

extension GuestMode: ExpressibleByArgument {}

/// Writes one instruction pointer a line until the machine ends.
@Sendable private func sample(_ machine: Machine, _ path: String) {
    var lines = ""
    while machine.end == nil, let address = try? machine.instructionPointer() {
        lines += String(address, radix: 16) + "\n"
        usleep(1000)
        try? lines.write(toFile: path, atomically: false, encoding: .utf8)
    }
}

/// Writes a line at once, between the guest's own.
private func note(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }

/// Says when the agent takes its first connection.
@Sendable private func reportAgent(_ machine: Machine, _ start: Date) async {
    while machine.end == nil {
        if let agent = try? await machine.connectVsock(port: 1024) {
            note("agent accepts after \(Date().timeIntervalSince(start) * 1000) ms, descriptor \(agent.rawValue)")
            return
        }
        usleep(2000)
    }
}
