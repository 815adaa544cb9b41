import Foundation
import Testing

/// A few rounds of the campaigns of `scripts/campaign`: groups that are killed, resumed and held against what they must say.
///
/// The long runs, and what each program checks, are in `docs/campaigns.md`.
@Suite(.serialized, .enabled(if: Campaign.obstacle == nil, "see the reason above"))
struct CampaignTests {
    @Test(arguments: ["counter", "processes", "unlinked", "timers", "terminal"])
    func resumesAfterKills(_ name: String) throws {
        let result = try Campaign.run(name, rounds: 2)
        #expect(result.code == 0, "\(result.output)")
        #expect(result.output.contains("\(name): passed:"))
        #expect(result.output.contains("rounds 2"))
    }

    @Test func restoresOneCheckpointTwice() throws {
        let result = try Campaign.run("diverge", rounds: 1)
        #expect(result.code == 0, "\(result.output)")
        #expect(result.output.contains("clones 2"))
    }

    /// A gateway that is killed keeps its functions and every event it has acknowledged, and leaves no machines.
    @Test func gatewayKeepsItsPromises() throws {
        let result = try Campaign.run("gateway", rounds: 3)
        #expect(result.code == 0, "\(result.output)")
        #expect(result.output.contains("rounds 3"))
    }

    @Test func refusesAnUnknownCampaign() throws {
        let result = try Campaign.run("nonesuch", rounds: 1)
        #expect(result.code != 0)
        #expect(result.output.contains("there is no campaign nonesuch"))
    }
}

/// Runs `scripts/campaign` with directories of its own, in which kernel and images are those of the machine.
enum Campaign {
    private static let environment = ProcessInfo.processInfo.environment
    private static let script = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../scripts/campaign").path
    private static let command =
        environment["AURORA_COMMAND"] ?? URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: "aurora").path
    private static let prepared = environment["AURORA_HOME"] ?? "/var/lib/aurora"

    /// Why campaigns cannot run here; nil when they can.
    static let obstacle: String? = {
        let files = FileManager.default
        let reason: String? =
            !files.isExecutableFile(atPath: command)
            ? "there is no command at \(command)"
            : !files.isWritableFile(atPath: "/dev/kvm")
                ? "/dev/kvm is missing or not permitted"
                : !files.fileExists(atPath: "\(prepared)/kernel/current/vmlinux")
                    ? "no kernel is prepared in \(prepared)"
                    : !files.fileExists(atPath: "\(prepared)/images/campaign/root.ext4")
                        ? "the image of the campaigns is not in \(prepared); run: scripts/campaign --prepare" : nil
        if let reason { print("SKIPPED: campaigns: \(reason)") }
        return reason
    }()

    static func run(_ name: String, rounds: Int) throws -> (code: Int32, output: String) {
        let base = FileManager.default.temporaryDirectory.appending(path: "aurora-campaign-\(UUID().uuidString.prefix(8))")
        defer { try? FileManager.default.removeItem(at: base) }
        let home = base.appending(path: "home")
        try FileManager.default.createDirectory(at: home, withIntermediateDirectories: true)
        for part in ["kernel", "images"] {
            let destination = URL(filePath: "\(prepared)/\(part)").resolvingSymlinksInPath()
            try FileManager.default.createSymbolicLink(at: home.appending(path: part), withDestinationURL: destination)
        }
        let process = Process()
        process.executableURL = URL(filePath: script)
        process.arguments = [name, "--rounds", "\(rounds)"]
        process.environment = environment.merging(
            ["AURORA_COMMAND": command, "AURORA_HOME": home.path, "AURORA_RUNTIME": base.appending(path: "run").path]
        ) { $1 }
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: output, as: UTF8.self))
    }
}
