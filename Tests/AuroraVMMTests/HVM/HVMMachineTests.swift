import Foundation
import Linux
import Testing

@testable import AuroraVMM

/// Kernels of a few instructions on the real KVM: also one that emulates ring 0 runs those.
@Suite(
    .enabled(if: FileManager.default.isWritableFile(atPath: KVMSystem.path), "/dev/kvm is missing or not permitted"),
    .timeLimit(.minutes(5)))
struct HVMMachineTests {
    /// Boots a program to its end.
    private func run(_ program: [UInt8], memoryBytes: Int = 64 << 20, words: [String] = []) async throws -> (
        end: MachineEnd, console: String
    ) {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("aurora-test-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: path) }
        try Data(TinyKernel.file(program)).write(to: path)
        var configuration = MachineConfiguration(memoryBytes: memoryBytes, kernelPath: path.path)
        configuration.mode = .hvm
        configuration.commandLine = words
        let machine = try Machine(configuration)
        machine.resume()
        let end = await machine.waitUntilEnded()
        machine.stop()
        return (end, machine.console.tail)
    }

    /// Sleep type 5 with the enable bit, at the sleep control register of the ACPI tables.
    private let powerOff = TinyKernel.write(0x34, to: HVMLayout.sleepControlPort)

    @Test func aKernelFindsItsCommandLineAndPowersOff() async throws {
        let result = try await run(TinyKernel.printBytes + powerOff, words: ["the.last=word"])
        #expect(result.end == .powerOff)
        #expect(result.console.contains("earlycon=uart8250,io,0x3f8"))
        #expect(result.console.hasSuffix(" the.last=word"))
    }

    @Test func stringInstructionsAndProbedPortsAreServed() async throws {
        let result = try await run(TinyKernel.printString + TinyKernel.probePorts + powerOff, words: ["the.last=word"])
        #expect(result.end == .powerOff)
        #expect(result.console.hasSuffix(" the.last=word"))
    }

    @Test(arguments: [(HVMLayout.resetPort, HVMLayout.resetValue), (0x64, 0xfe)])
    func bothWaysToResetEndTheMachine(port: UInt16, value: UInt8) async throws {
        #expect(try await run(TinyKernel.write(value, to: port)).end == .reboot)
    }

    /// The words come from the kernel's console, as after a panic.
    @Test func aResetAfterAPanicIsAPanic() async throws {
        let result = try await run(
            TinyKernel.printBytes + TinyKernel.write(HVMLayout.resetValue, to: HVMLayout.resetPort),
            words: ["Kernel panic - not syncing: words of a test"])
        guard case .panic(let lines) = result.end else {
            Issue.record("the machine ended with \(result.end)")
            return
        }
        #expect(lines.last?.hasSuffix("words of a test") == true)
    }

    @Test func aFaultWithoutAHandlerIsATripleFault() async throws {
        guard case .tripleFault = try await run(TinyKernel.undefinedInstruction).end else {
            Issue.record("the machine did not end with a triple fault")
            return
        }
    }

    /// Memory on both sides of the hole: two slots, made without touching their pages.
    @Test func memoryBeyondTheHoleStarts() async throws {
        #expect(try await run(powerOff, memoryBytes: 4 << 30).end == .powerOff)
    }

    @Test func aCommandLineBeyondTheKernelsLimitIsRefused() async throws {
        await #expect(throws: MachineError.self) { try await run(powerOff, words: [String(repeating: "x", count: 2048)]) }
    }
}
