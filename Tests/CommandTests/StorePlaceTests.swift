import Foundation
import Testing

/// A block device made of a file, taken apart again at the end.
private final class LoopDevice {
    let path: String

    /// Why there is none; nil when they can be made here.
    static let obstacle: String? = {
        let works = (try? LoopDevice(megabytes: 1)) != nil
        if !works { print("SKIPPED: stores on block devices: no loop device can be made (needs root, losetup and /dev/loop-control)") }
        return works ? nil : "no loop device can be made"
    }()

    init(megabytes: UInt64) throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "aurora-loop-\(UUID().uuidString.prefix(8))").path
        try #require(FileManager.default.createFile(atPath: file, contents: nil))
        // The device keeps the file for as long as it is needed.
        defer { try? FileManager.default.removeItem(atPath: file) }
        let handle = try #require(FileHandle(forWritingAtPath: file))
        try handle.truncate(atOffset: megabytes << 20)
        try handle.close()
        path = try LoopDevice.losetup("--find", "--show", file).trimmingCharacters(in: .newlines)
    }

    deinit { _ = try? LoopDevice.losetup("--detach", path) }

    private static func losetup(_ arguments: String...) throws -> String {
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(filePath: "/sbin/losetup")
        process.arguments = arguments
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        struct Failed: Error {}
        guard process.terminationStatus == 0 else { throw Failed() }
        return text
    }
}

/// Groups whose checkpoints are not in the data directory.
@Suite(
    .enabled(if: Command.obstacle == nil, "guests cannot be run here"),
    .enabled(if: LoopDevice.obstacle == nil, "no loop device can be made here"), .serialized, .timeLimit(.minutes(10)))
struct StorePlaceTests {
    let aurora: Command

    init() throws { aurora = try Command() }

    /// A group remembers where its history is: the variable is needed for its start only.
    @Test func aBlockDeviceHoldsAHistory() throws {
        let device = try LoopDevice(megabytes: 1024)
        let environment = ["/usr/bin/env", "AURORA_STORE=\(device.path)"]
        let early = try aurora.run(["persist", "-d", "--name", "d", "--", "true"], launcher: environment)
        #expect(early.code != 0 && early.error.contains("no store begins here; aurora store init makes one"), "\(early.error)")
        #expect(try aurora.run("store", "init", "--store", device.path).output == "\(device.path)\n")
        let again = try aurora.run("store", "init", "--store", device.path)
        #expect(again.code != 0 && again.error.contains("--force"), "\(again.error)")

        let started = try aurora.run(["persist", "-d", "--name", "d", "--"] + PersistTests.counter, launcher: environment)
        #expect(started.code == 0, "\(started.error)")
        func count() throws -> Int { try aurora.run("logs", "d").output.split(separator: "\n").count }
        try aurora.waitFor("numbers") { try count() > 3 }
        #expect(try aurora.run("checkpoint", "d").code == 0)
        try aurora.killVMM("d")
        let before = try count()
        #expect(try aurora.run("ps", "-a").output.contains("resumable"))
        #expect(try aurora.history("d").count > 0)
        let restored = try aurora.run("restore", "d")
        #expect(restored.code == 0, "\(restored.error)")
        try aurora.waitFor("more numbers") { try count() > before }
        #expect(!FileManager.default.fileExists(atPath: aurora.storePath), "nothing went into the data directory's own store")
        #expect(try aurora.run("rm", "--force", "d").code == 0)
        #expect(try !aurora.run("store", "stat", "--store", device.path).output.contains("group/d"))
        let scrubbed = try aurora.run("store", "scrub", "--store", device.path)
        #expect(scrubbed.code == 0 && scrubbed.output.contains(" 0 findings"), "\(scrubbed.output)\(scrubbed.error)")
    }
}
