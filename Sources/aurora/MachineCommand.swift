import ArgumentParser
import AuroraVMM
import CLinux
import Dispatch
import FoundationEssentials
import Linux

/// Machines without groups, for tests and benchmarks of the machine itself.
struct MachineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "machine", abstract: "Save, resume and measure a machine without a group.", shouldDisplay: false,
        subcommands: [
            MachineSaveCommand.self, MachineResumeCommand.self, MeasurePauseCommand.self, MeasureEpochsCommand.self,
            MeasureRestoreCommand.self, MeasureLaunchCommand.self, LaunchClonesCommand.self, LaunchImagesCommand.self,
        ])
}

/// What all of them need to make a machine.
struct MachineOptions: ParsableArguments {
    @Option(help: "The kernel, an ELF vmlinux.") var kernel = ""
    @Option(help: "A directory with kernel modules.") var modules: String?
    @Option(help: "MiB of memory.") var memory = 128
    @Option(help: "A disk image; writes go to it.") var disk: [String] = []
    @Option(help: "A static program that takes the agent's place.") var program: String?
    @Option(help: "A Unix socket that leads to the guest's vsock ports.") var vsock: String?
    @Flag(help: "Keeps programs apart from their kernel in pv mode.") var strict = false
    @Flag(help: "Does not show the guest's console.") var quiet = false

    func configuration(words: [String]) throws -> MachineConfiguration {
        var configuration = MachineConfiguration(memoryBytes: memory << 20, kernelPath: kernel)
        configuration.modulesDirectory = modules
        configuration.commandLine = words
        configuration.isStrict = strict
        configuration.blockDevices = disk.map { BlockDeviceConfiguration(path: $0) }
        configuration.vsockSocketPath = vsock
        if let program { configuration.initialProgram = Array(try Data(contentsOf: URL(filePath: program))) }
        if !quiet { configuration.consoleLog = { _ = clinux_write(STDOUT_FILENO, $0.baseAddress, $0.count) } }
        return configuration
    }
}

/// Boots, lets the guest run, saves it, ends.
struct MachineSaveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "save", abstract: "Boot a guest, and save it after a while.")

    @OptionGroup var options: MachineOptions
    @Option(help: "Milliseconds the guest runs.") var after = 1000
    @Option(help: "Counts them from when the guest's console shows this text.") var once: String?
    @Option(help: "An existing directory to save into.") var directory: String
    @Argument(help: "Words for the kernel's command line.") var words: [String] = []

    func run() throws {
        let machine = try Machine(options.configuration(words: words))
        machine.start()
        if let once { try wait(for: once, machine) }
        usleep(UInt32(after) * 1000)
        let resting = try machine.rest()
        let start = DispatchTime.now()
        let saved = try resting.save(into: directory)
        say("saved \(saved.state.devices.count) devices in \(milliseconds(since: start)) ms")
        machine.stop()
    }

    /// A guest boots as fast as the host has time for it.
    private func wait(for text: String, _ machine: Machine) throws {
        let deadline = DispatchTime.now() + .seconds(Self.bootSecondsMax)
        while !machine.console.tail.contains(text) {
            if let end = machine.end { throw ValidationError("The guest ended before its console showed \"\(text)\": \(end)") }
            guard DispatchTime.now() < deadline else {
                throw ValidationError("The guest's console did not show \"\(text)\" within \(Self.bootSecondsMax) s.")
            }
            usleep(10_000)
        }
    }
    private static let bootSecondsMax = 120
}

/// Goes on where `save` left off.
struct MachineResumeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "resume", abstract: "Resume a saved guest.")

    @OptionGroup var options: MachineOptions
    @Option(help: "Milliseconds the guest runs.") var during = 1000
    @Option(help: "The directory it was saved into.") var directory: String

    func run() throws {
        let start = DispatchTime.now()
        let machine = try SavedMachine(directory: directory).machine(options.configuration(words: []))
        machine.start()
        say("resumed after \(milliseconds(since: start)) ms")
        let deadline = DispatchTime.now() + .milliseconds(during)
        while machine.end == nil, DispatchTime.now() < deadline { usleep(10_000) }
        if let end = machine.end { say("ended: \(end)") }
        machine.stop()
    }
}

/// Writes a line at once, between the guest's own.
func say(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    _ = clinux_write(STDOUT_FILENO, bytes, bytes.count)
}

func milliseconds(since start: DispatchTime) -> Double {
    Double(DispatchTime.now().uptimeNanoseconds - start.uptimeNanoseconds) / 1e6
}
