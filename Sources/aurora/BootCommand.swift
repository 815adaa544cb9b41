public import ArgumentParser
public import AuroraVMM
import Foundation

/// Boots a kernel without a group, its console on the terminal: for those who work on the machine itself.
struct BootCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "boot", abstract: "Boot a kernel with its console on standard output.", shouldDisplay: false)

    @Option(help: "The kernel, an ELF vmlinux.") var kernel: String
    @Option(help: "A directory with kernel modules.") var modules: String?
    @Option(help: "MiB of memory.") var memory = 256
    @Option(help: "A disk image; writes go to it.") var disk: [String] = []
    @Option(help: "pv or hvm.") var mode: GuestMode?
    @Option(help: "Samples the guest's instruction pointer every millisecond into this file.") var profile: String?
    @Argument(help: "Words for the kernel's command line.") var words: [String] = []

    func run() throws {
        var configuration = MachineConfiguration(memoryBytes: memory << 20, kernelPath: kernel)
        configuration.modulesDirectory = modules
        configuration.commandLine = words
        configuration.mode = mode
        configuration.blockDevices = disk.map { BlockDeviceConfiguration(path: $0) }
        configuration.consoleLog = { FileHandle.standardOutput.write(Data($0)) }
        let start = Date()
        let machine = try Machine(configuration)
        print("made in \(Date().timeIntervalSince(start) * 1000) ms")
        machine.resume()
        if let profile { Thread.detachNewThread { sample(machine, profile) } }
        while machine.end == nil { usleep(10_000) }
        print("ended: \(machine.end.map { "\($0)" } ?? "?") after \(Date().timeIntervalSince(start)) s")
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
