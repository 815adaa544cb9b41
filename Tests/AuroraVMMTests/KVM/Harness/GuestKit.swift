import Foundation
import Linux

@testable import AuroraVMM

/// What a test with a real guest needs of the host: /dev/kvm, a prepared kernel, a compiler for the guest's program.
///
/// Where something is missing the tests that need it are skipped, and `whatIsMissing` says what.
struct GuestKit: Sendable {
    let kernel: String
    let modules: String
    let program: [UInt8]

    /// Why there is no kit; nil when there is one.
    static let whatIsMissing: String? = {
        switch made {
        case .success: return nil
        case .failure(let missing):
            FileHandle.standardError.write(Data("SKIPPED: tests with a real guest: \(missing.reason)\n".utf8))
            return missing.reason
        }
    }()

    static var isThere: Bool { whatIsMissing == nil }
    static func get() throws -> GuestKit { try made.get() }

    private struct Missing: Error { let reason: String }
    private static let made: Result<GuestKit, Missing> = Result { () throws(Missing) in try make() }

    private static func make() throws(Missing) -> GuestKit {
        do throws(MachineError) { _ = try KVMSystem() } catch { throw Missing(reason: "\(error)") }
        let environment = ProcessInfo.processInfo.environment
        let homes = [environment["AURORA_HOME"], "/var/lib/aurora", environment["HOME"].map { "\($0)/.local/share/aurora" }]
        let kernels = homes.compactMap { $0.map { "\($0)/kernel/current" } }
        guard let directory = kernels.first(where: { FileManager.default.fileExists(atPath: "\($0)/vmlinux") }) else {
            throw Missing(reason: "no kernel in \(kernels.joined(separator: ", ")); run: aurora image prepare")
        }
        return GuestKit(kernel: "\(directory)/vmlinux", modules: "\(directory)/modules", program: try compile("init"))
    }

    /// Another program of the tests, `Guest/NAME.c`.
    func with(program name: String) throws -> GuestKit {
        GuestKit(kernel: kernel, modules: modules, program: try GuestKit.compile(name))
    }

    private static func compile(_ name: String) throws(Missing) -> [UInt8] {
        let source = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../Guest/\(name).c").path
        let output = FileManager.default.temporaryDirectory.appending(path: "aurora-test-\(name)-\(getpid())").path
        defer { try? FileManager.default.removeItem(atPath: output) }
        let compiler = Process()
        compiler.executableURL = URL(filePath: "/usr/bin/env")
        compiler.arguments = ["cc", "-std=gnu11", "-Wall", "-O2", "-mavx2", "-static", source, "-o", output]
        do { try compiler.run() } catch { throw Missing(reason: "no C compiler: \(error)") }
        compiler.waitUntilExit()
        guard compiler.terminationStatus == 0, let bytes = FileManager.default.contents(atPath: output) else {
            throw Missing(reason: "the guest's program could not be compiled (cc: exit \(compiler.terminationStatus))")
        }
        return Array(bytes)
    }

    /// The configuration of a guest that runs the test program with these words.
    func configuration(_ words: [String], console: GuestConsole) -> MachineConfiguration {
        var configuration = MachineConfiguration(memoryBytes: 128 << 20, kernelPath: kernel)
        configuration.modulesDirectory = modules
        configuration.initialProgram = program
        configuration.commandLine = words
        configuration.mode = .pv
        configuration.consoleLog = { console.append($0) }
        return configuration
    }
}

/// A directory that goes away with its owner.
final class ScratchDirectory: Sendable {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.appending(path: "aurora-vmm-test-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { "\(path)/\(name)" }

    func disk(_ name: String, bytes: Int) throws -> String {
        guard FileManager.default.createFile(atPath: file(name), contents: Data(count: bytes)) else { throw CocoaError(.fileWriteUnknown) }
        return file(name)
    }
}
