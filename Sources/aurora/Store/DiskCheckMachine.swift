import AgentClient
import AgentProtocol
import AuroraVMM
import CLinux
import Images
import Linux

/// Replays the journal of a disk and checks its file system in a machine of its own.
///
/// A guest wrote every byte of it, and programs that repair file systems have had their holes: what breaks out of one is in a guest
/// again, with the disk it brought.
struct DiskCheckMachine {
    /// e2fsck keeps some bits for each block: enough for the largest disk; the host gives only what is used.
    private static let memoryBytes = 512 << 20
    /// A guest that boots answers within this.
    private static let bootSeconds = 60
    private static let connectRetryMicroseconds: UInt32 = 5_000
    /// For a terabyte on a slow disk.
    private static let checkTimeout = Duration.seconds(1800)
    private static let device: Text = "/dev/vdb"
    /// What the base image needs for it.
    private static let package = "e2fsprogs"
    /// Exit status 1 of e2fsck: errors were corrected, as after every power cut.
    private static let corrected: UInt8 = 1

    /// Checks the file of a disk, and repairs what a power cut leaves.
    ///
    /// - Throws: `ImageError` when there is no image to boot, `DiskCheckError` when the file system cannot be repaired.
    static func check(_ path: String, progress: @escaping BuildProgress) throws {
        let kernel = try ImageCommand.kernels.current()
        var configuration = MachineConfiguration(memoryBytes: memoryBytes, kernelPath: kernel.vmlinuxPath)
        configuration.modulesDirectory = kernel.modulesPath
        configuration.commandLine = ["aurora.rootflags=ro"]
        configuration.blockDevices = [
            BlockDeviceConfiguration(path: try base(progress).rootPath, isReadOnly: true), BlockDeviceConfiguration(path: path),
        ]
        let machine = try Machine(configuration)
        defer { machine.stop() }
        machine.start()
        let session = try agent(machine).start(StartRequest(arguments: ["e2fsck", "-f", "-p", device]))
        let (status, output, error) = try ExecRelay.collect(session, outputBytesMax: 1 << 20, timeout: checkTimeout)
        guard status == ExitStatus(.code, 0) || status == ExitStatus(.code, corrected) else {
            throw DiskCheckError(said: plain(error.isEmpty ? output : error))
        }
        try agent(machine).sync()
    }

    /// The base image, with what the check needs: older ones are made again.
    private static func base(_ progress: @escaping BuildProgress) throws -> Image {
        if let image = try? ImageCommand.images.open(.base), image.manifest.packages.contains(where: { $0.name == package }) {
            return image
        }
        return try ImageCommand.images.ensureBase(progress: progress)
    }

    private static func agent(_ machine: Machine) throws -> AgentClient {
        let deadline = clinux_monotonic_milliseconds() + Int64(bootSeconds) * 1000
        while true {
            do { return try AgentClient(adopting: try connect(machine)) } catch {
                if let end = machine.end { throw DiskCheckError(said: "its machine ended: \(end)") }
                guard clinux_monotonic_milliseconds() < deadline else {
                    throw DiskCheckError(said: "the agent of its machine does not answer within \(bootSeconds) seconds")
                }
                usleep(connectRetryMicroseconds)
            }
        }
    }

    private static func connect(_ machine: Machine) throws -> OwnedDescriptor {
        let result = PromisedAnswer.of(withinSeconds: Double(bootSeconds)) { () async -> Result<SharedDescriptor, VsockError> in
            do throws(VsockError) {
                return .success(SharedDescriptor(try await machine.connectVsock(port: AgentLimits.vsockPort)))
            } catch { return .failure(error) }
        }
        guard let result else { throw DiskCheckError(said: "its machine does not answer a connection within \(bootSeconds) seconds") }
        return try OwnedDescriptor.duplicate(of: try result.get())
    }

    /// A guest's last words.
    private static func plain(_ bytes: [UInt8]) -> String { String(decoding: bytes.suffix(saidBytesMax), as: UTF8.self).visibleLine }
    private static let saidBytesMax = 500
}

/// A file system that cannot be repaired, or not be looked at.
struct DiskCheckError: Error, CustomStringConvertible {
    let said: String
    var description: String { "Cannot use the disk: its file system cannot be repaired without losing something: \(said)" }
}
