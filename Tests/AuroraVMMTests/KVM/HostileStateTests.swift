import Foundation
import Linux
import Testing

@testable import AuroraVMM

/// States that nobody saved: each is refused with a typed error, or makes a guest that ends or goes astray by itself.
@Suite(.serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"))
struct HostileStateTests {
    private static func seed() -> UInt64 {
        let seed = UInt64(ProcessInfo.processInfo.environment["AURORA_TEST_SEED"] ?? "") ?? UInt64.random(in: 0...UInt64.max)
        print("seed \(seed): set AURORA_TEST_SEED to repeat")
        return seed
    }

    private func saved(in scratch: ScratchDirectory) throws -> SavedMachine {
        let console = GuestConsole()
        let machine = try Machine(try GuestKit.get().configuration([], console: console))
        defer { machine.stop() }
        machine.resume()
        try console.wait(tick: 3)
        machine.pause()
        return try SavedMachine(machine, in: scratch.path)
    }

    private func tryToRun(_ state: MachineState, _ directory: String) throws -> Bool {
        let memory = try state.memory.enumerated().map { try MemoryFile.map("\(directory)/memory.\($0)", count: $1.count) }
        let configuration = try GuestKit.get().configuration([], console: GuestConsole())
        let machine: Machine
        do throws(MachineError) {
            machine = try Machine(configuration, restoring: state, memory: memory)
        } catch {
            #expect(!"\(error)".isEmpty)
            return false
        }
        machine.resume()
        usleep(3000)
        machine.pause()
        machine.stop()
        return true
    }

    /// Random bits of every part that KVM reads.
    @Test(.timeLimit(.minutes(10)))
    func mutatedRegisters() throws {
        let scratch = try ScratchDirectory()
        var good = try saved(in: scratch).state
        // Checkpoints of pv guests once held the interrupt controllers, too.
        let other = try KVMSystem().createVirtualMachine()
        try other.createInterruptController()
        good.interrupts = try other.saveInterrupts()
        #expect(try tryToRun(good, scratch.path))
        var generator = SeededGenerator(seed: Self.seed())
        let parts: [WritableKeyPath<MachineState, KernelBytes>] = [
            \.vcpu.cpuid, \.vcpu.registers, \.vcpu.systemRegisters, \.vcpu.extendedControl, \.vcpu.extendedRegisters,
            \.vcpu.debugRegisters, \.vcpu.localAPIC, \.vcpu.events, \.vcpu.modelSpecificRegisters, \.interrupts.chips[0],
            \.interrupts.chips[1], \.interrupts.chips[2],
        ]
        var refused = 0
        for part in parts {
            for _ in 0..<12 {
                var state = good
                let count = state[keyPath: part].bytes.count
                for _ in 0...generator.below(4) { state[keyPath: part].bytes[generator.below(count)] ^= UInt8(1 << generator.below(8)) }
                if try !tryToRun(state, scratch.path) { refused += 1 }
            }
            for count in [0, 1, 7, generator.below(100), 70_000] {
                var state = good
                let bytes = state[keyPath: part].bytes
                guard count != bytes.count else { continue }
                state[keyPath: part].bytes = Array(bytes.prefix(count)) + [UInt8](repeating: 0xff, count: max(0, count - bytes.count))
                #expect(try !tryToRun(state, scratch.path), "\(part) of \(count) bytes was accepted")
            }
        }
        print("\(refused) of \(parts.count * 12) mutations were refused")
    }

    /// Wrong values of every plain field.
    @Test(.timeLimit(.minutes(10)))
    func wrongFields() throws {
        let scratch = try ScratchDirectory()
        let good = try saved(in: scratch).state
        let changes: [(String, (inout MachineState) -> Void)] = [
            ("version 9", { $0.version = 9 }),
            ("vCPU version 9", { $0.vcpu.version = 9 }),
            ("state 77", { $0.vcpu.multiprocessingState = 77 }),
            ("0 devices", { $0.devices = [] }),
            ("another kind of device", { $0.devices.reverse() }),
            ("interrupt controllers", { $0.interrupts.chips.append(KernelBytes([])) }),
            ("not the state of a pv guest", { $0.platform = .hvm(HVMState(clock: 0, serialLineControl: 0)) }),
            ("shim has version", { $0.change { $0.shimVersion = 99 } }),
            ("lies outside", { $0.change { $0.shimCPU = -8 } }),
            ("lies outside", { $0.change { $0.shimParameters = Int.max } }),
            ("amx_tile", { $0.features.words[CPUFeatures.Word.extendedD.rawValue] |= 1 << 24 | 1 << 30 }),
            ("memory regions", { $0.memory.removeLast() }),
            ("memory layout", { $0.memory[0].count = -4096 }),
            ("instead of", { $0.memory[0].count += 4096 }),
            ("laid out", { $0.memory[1].start = GuestAddress(1 << 40) }),
        ]
        for (words, change) in changes {
            var state = good
            change(&state)
            let memory = try good.memory.enumerated().map { try MemoryFile.map("\(scratch.path)/memory.\($0)", count: $1.count) }
            let error = #expect(throws: MachineError.self) {
                _ = try Machine(try GuestKit.get().configuration([], console: GuestConsole()), restoring: state, memory: memory)
            }
            #expect("\(error.map { "\($0)" } ?? "")".contains(words))
        }
        var state = good
        state.change { $0.consoleRing = GuestAddress(.max) }
        #expect(try tryToRun(state, scratch.path))
        // Where only some of the ring's fields have addresses; what the guest prints makes the VMM look for all of them.
        for bytes in [UInt64(1), 1032, 2048, 3073, 3079, 3080, 3083, 3087] {
            state.change { $0.consoleRing = GuestAddress(UInt64.max - bytes) }
            #expect(try tryToRun(state, scratch.path))
        }
        state.change { $0.savedAt = .min }
        #expect(try tryToRun(state, scratch.path))
        state.change { $0.guestTime = .max }
        #expect(try tryToRun(state, scratch.path))
    }

    /// Bytes of the encoding changed, cut off, or repeated.
    @Test(.timeLimit(.minutes(10)))
    func mutatedEncoding() throws {
        let scratch = try ScratchDirectory()
        let good = try saved(in: scratch).state
        let bytes = try good.encoded()
        #expect(try MachineState(encoded: bytes) == good)
        var generator = SeededGenerator(seed: Self.seed())
        for _ in 0..<3000 {
            var broken = bytes
            switch generator.below(3) {
            case 0: broken.removeLast(1 + generator.below(broken.count))
            case 1: for _ in 0...generator.below(8) { broken[generator.below(broken.count)] = UInt8(truncatingIfNeeded: generator.next()) }
            default: broken.insert(contentsOf: generator.bytes(1 + generator.below(64)), at: generator.below(broken.count))
            }
            do throws(MachineError) {
                _ = try MachineState(encoded: broken)
            } catch {
                guard case .state = error else {
                    Issue.record("refused as \(error)")
                    continue
                }
            }
        }
    }
}

extension MachineState {
    mutating func change(_ body: (inout PVState) -> Void) {
        guard case .pv(var state) = platform else { return }
        body(&state)
        platform = .pv(state)
    }
}
