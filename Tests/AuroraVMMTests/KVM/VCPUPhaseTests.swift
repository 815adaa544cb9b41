import CLinux
import Foundation
import Linux
import Synchronization
import Testing

@testable import AuroraVMM

/// The table of `VCPUPhase`, edge by edge, with a vCPU that leaves its guest all the time.
@Suite(.serialized, .enabled(if: KVMForTests.isThere, "/dev/kvm cannot be used here"), .timeLimit(.minutes(2)))
struct VCPUPhaseTests {
    @Test(arguments: VCPUPhase.edges)
    func everyEdgeIsTaken(edge: VCPUPhase.Edge) throws {
        let cpu = try LoopingCPU()
        let runner = cpu.runner
        defer { runner.stop() }
        #expect(runner.phase.current == .parked)
        if edge.from != .parked || edge.to == .running {
            runner.resume()
            try cpu.wait { $0.exits.load(ordering: .acquiring) > 3 }
        }
        switch (edge.from, edge.to) {
        case (.running, .pausing), (.pausing, .parked):
            #expect(runner.pause())
            #expect(runner.isParked && runner.phase.current == .parked)
        case (_, .ended), (.ended, _):
            cpu.board.plan.store(edge.from == .pausing ? LoopingCPU.Plan.endsInPause : LoopingCPU.Plan.ends, ordering: .releasing)
            if edge.from == .pausing {
                // Not before its thread is out of the guest, or it parks without another exit.
                try cpu.wait { $0.plan.load(ordering: .acquiring) == LoopingCPU.Plan.stays }
                #expect(runner.pause())
            }
            try cpu.wait { $0.end.withLock { $0 } == .powerOff }
            #expect(runner.isParked && runner.phase.current == .ended)
        case (.pausing, _):
            cpu.board.plan.store(LoopingCPU.Plan.staysUntilStopped, ordering: .releasing)
            try cpu.wait { $0.plan.load(ordering: .acquiring) == LoopingCPU.Plan.stays }
            #expect(!runner.pause(seconds: 0))
            #expect(runner.phase.current == .pausing)
        default: break
        }
        if edge.to == .stopping || edge.to == .left {
            #expect(runner.stop())
            #expect(runner.phase.current == .left && !runner.isParked)
            #expect(runner.phase.hasTaken(VCPUPhase.Edge(from: .stopping, to: .left)))
        }
        #expect(runner.phase.hasTaken(edge), "\(edge)")
    }

    /// Whoever comes too late changes nothing.
    @Test func whoComesTooLateChangesNothing() throws {
        let cpu = try LoopingCPU()
        #expect(cpu.runner.pause())
        #expect(cpu.runner.phase.current == .parked)
        cpu.runner.resume()
        cpu.runner.resume()
        #expect(cpu.runner.phase.current == .running)
        #expect(cpu.runner.phase.move(.parked, to: .running) == .running)
        #expect(cpu.runner.stop() && cpu.runner.stop())
        cpu.runner.resume()
        #expect(cpu.runner.pause())
        #expect(cpu.runner.phase.current == .left)
    }

    /// From everywhere the table leads to the end, and nowhere else out of the end.
    @Test func theTableLeadsToTheEnd() {
        for phase in VCPUPhase.allCases {
            var reached: Set<VCPUPhase> = [phase]
            for _ in VCPUPhase.allCases { for edge in VCPUPhase.edges where reached.contains(edge.from) { reached.insert(edge.to) } }
            #expect(reached.contains(.left), "\(phase)")
            #expect(phase == .parked || VCPUPhase.edges.contains { $0.to == phase }, "\(phase)")
        }
        #expect(!VCPUPhase.edges.contains { $0.from == .left || $0.from == .ended && $0.to != .stopping })
    }
}

/// A vCPU whose guest does nothing but write to a port, and what its thread does then.
private final class LoopingCPU: Sendable {
    enum Plan {
        static let goesOn = 0
        static let ends = 1
        static let endsInPause = 2
        static let staysUntilStopped = 3
        static let stays = 4
    }

    /// What the vCPU's thread and the test share.
    final class Board: Sendable {
        let exits = Atomic(0)
        let plan = Atomic(Plan.goesOn)
        let end = Mutex<MachineEnd?>(nil)
        let phase = Mutex<VCPUPhaseWord?>(nil)

        func serve() -> ExitAction {
            exits.add(1, ordering: .acquiringAndReleasing)
            let phase = phase.withLock { $0 }
            switch plan.load(ordering: .acquiring) {
            case Plan.ends: return .end(.powerOff)
            case Plan.endsInPause:
                plan.store(Plan.stays, ordering: .releasing)
                while phase?.current == .running { sched_yield() }
                return .end(.powerOff)
            case Plan.staysUntilStopped:
                plan.store(Plan.stays, ordering: .releasing)
                while phase?.current != .stopping { usleep(100) }
                return .resume
            default: return .resume
            }
        }
    }

    let board: Board
    let runner: VCPURunner
    private let machine: VirtualMachine
    private let memory: Mapping

    init() throws {
        machine = try KVMSystem().createVirtualMachine()
        memory = try Mapping.anonymous(count: pageBytes, what: "a guest's only page")
        // 1: out %al, $0x80; jmp 1b: where a processor begins.
        for (index, byte) in ([0xe6, 0x80, 0xeb, 0xfc] as [UInt8]).enumerated() {
            memory.base.storeBytes(of: byte, toByteOffset: 0xff0 + index, as: UInt8.self)
        }
        try machine.setMemory(slot: 0, at: GuestAddress(0xffff_f000), host: memory.base, count: memory.count, flags: 0)
        try machine.createInterruptController()
        let board = Board()
        self.board = board
        runner = try VCPURunner(
            cpu: try machine.createVirtualCPU(0), name: "looping vcpu", handle: { _ in board.serve() },
            ended: { how in board.end.withLock { $0 = how } })
        let phase = runner.phase
        board.phase.withLock { $0 = phase }
    }

    func wait(_ condition: (Board) -> Bool) throws {
        for _ in 0..<20_000 {
            if condition(board) { return }
            usleep(500)
        }
        throw GuestConsole.TimedOut(what: "phase of a vCPU, which is \(runner.phase.current)", lines: [])
    }
}
