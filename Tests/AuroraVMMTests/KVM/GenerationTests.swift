import CLinux
import Foundation
import Linux
import Testing

@testable import AuroraVMM

enum GenerationKit {
    /// Whether the prepared kernel's module is one that is told of restores.
    static let isThere: Bool = {
        guard let kit = try? GuestKit.get(), let module = FileManager.default.contents(atPath: "\(kit.modules)/aurora.ko"),
            module.range(of: Data("aurora-restore".utf8)) == nil
        else { return true }
        FileHandle.standardError.write(Data("SKIPPED: tests of the clock after a restore: run aurora image prepare\n".utf8))
        return false
    }()
}

/// What a guest sees of clock and random numbers after a restore, at its first look.
@Suite(
    .serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"),
    .enabled(if: GenerationKit.isThere, "the prepared kernel is too old; see the output"))
struct GenerationTests {
    /// "jump OLD NEW TIME STAMP:VALUE…": stamps are readings of the time-stamp counter, which a pv guest shares with its host.
    private struct Jump {
        let lastOld: UInt64
        let firstNew: UInt64
        let time: Int64
        let random: [(stamp: UInt64, value: Substring)]

        init?(_ line: String) {
            let words = line.split(separator: " ")
            guard words.count == 8, words[0] == "jump", let old = UInt64(words[1]), let new = UInt64(words[2]), let time = Int64(words[3])
            else { return nil }
            (lastOld, firstNew, self.time) = (old, new, time)
            random = words[4...].compactMap { word in
                let parts = word.split(separator: ":")
                return parts.count == 2 ? UInt64(parts[0]).map { ($0, parts[1]) } : nil
            }
        }
    }

    /// A guest whose clock is an hour late, as if its checkpoint were an hour old, is restored many times from one state: no
    /// program ever sees the old time, and no two restores give the same random numbers.
    @Test(.timeLimit(.minutes(10)))
    func programsSeeTheRightTimeAndTheirOwnRandomNumbers() throws {
        let console = GuestConsole()
        let configuration = try GuestKit.get().configuration(["test.clock"], console: console)
        let machine = try Machine(configuration)
        machine.resume()
        try console.wait("the late clock") { $0.lines.contains { $0.contains("clock set back") } ? true : nil }
        var seen: [Substring: Int] = [:]
        var checked = 0
        for state in 0..<4 {
            usleep(30_000)
            machine.pause()
            let saved = try machine.save()
            let pages = RecordedPages(machine.memory.regions.map(\.mapping))
            for restore in 0..<4 {
                let values = try firstLook(configuration, saved, pages, console, "restore \(restore) of state \(state)")
                for value in values {
                    #expect(seen[value] == nil, "restore \(restore) of state \(state) has the random number of another")
                    seen[value] = restore
                }
                checked += values.count
            }
            machine.resume()
        }
        machine.stop()
        #expect(checked >= 16)
        #expect(console.complaints == [])
    }

    /// Restores a state and answers the random numbers that its programs asked for afterwards.
    private func firstLook(
        _ configuration: MachineConfiguration, _ state: MachineState, _ pages: RecordedPages, _ console: GuestConsole, _ what: String
    ) throws -> [Substring] {
        let lines = console.lines.count
        let machine = try Machine(configuration, restoring: state, pages: pages)
        defer { machine.stop() }
        let kilohertz = try machine.runner.cpu.tscKilohertz()
        let start = clinux_rdtsc()
        let time = clinux_clock_ns(CLOCK_REALTIME)
        machine.resume()
        let jump = try console.wait(what) { $0.lines[lines...].lazy.compactMap { Jump($0) }.first }
        #expect(jump.lastOld < start, "\(what): a program saw the old time")
        let elapsed = Int64(Double(jump.firstNew &- start) / Double(kilohertz) * 1e6)
        let wrong = jump.time - (time + elapsed)
        #expect(abs(wrong) < 1_000_000, "\(what): the clock is wrong by \(wrong) ns")
        return jump.random.filter { $0.stamp > start }.map(\.value)
    }
}
